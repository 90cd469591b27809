"""`course generate -o FILE`: new music from chapter 12's priors, asked for by labels, lyrics, a beginning and a seed.

The codec is chapter 11's, the priors are chapter 12's; all come with the course, and `--codec` and `--priors` take
others that `course train` has made. The same options give the same file on one machine; between machines rounding may
change a draw, and with it all that follows.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from course_lib.data.band.labels import STYLE_NAMES
from course_lib.paths import shown

CODEC = "jukebox_band"
PRIORS = ("priors_band_top", "priors_band_up")         # from the top down
LONGEST = 59.0                                         # seconds: the labels know times below 60 s


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course generate`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .wav or .flac, mono")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S",
                        help="length in all, with what --prime gives (default: 10)")
    parser.add_argument("--style", default="pop", metavar="NAME", help=f"{', '.join(STYLE_NAMES)} (default: pop)")
    parser.add_argument("--tempo", type=float, metavar="BPM", help="beats per minute (default: none is asked for)")
    parser.add_argument("--instruments", default="", metavar="A,B", help="such as 'drums, piano, vocals'")
    parser.add_argument("--lyrics", default="", metavar="TEXT", help="syllables to be sung, such as 'sa mo tu shi'")
    parser.add_argument("--prime", type=Path, metavar="SONG", help="an audio file whose beginning is gone on from")
    parser.add_argument("--prime-seconds", type=float, default=4.0, metavar="S",
                        help="how much of it is taken (default: 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    parser.add_argument("--temperature", type=float, default=1.0, metavar="X",
                        help="below 1 what is likeliest, above 1 wilder (default: 1)")
    parser.add_argument("--top-p", type=float, default=0.0, metavar="P",
                        help="draw from the likeliest codes with this share; 0: from all (default: 0, for else the "
                             "course's priors soon fall silent)")
    parser.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest; 0: from all")
    parser.add_argument("--codec", default=CODEC, metavar="NAME", help=f"a trained codec (default: {CODEC})")
    parser.add_argument("--priors", nargs="+", default=list(PRIORS), metavar="NAME",
                        help=f"trained priors, of neighbouring levels (default: {' '.join(PRIORS)})")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it is there")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")


def main(arguments: argparse.Namespace) -> int:
    """Generate, and write the file."""
    import soundfile
    import torch

    from course_lib.training import load_trained

    if arguments.output.suffix.lower() not in (".wav", ".flac"):
        raise ValueError(f"{shown(arguments.output)}: expected a name that ends in .wav or .flac")
    if arguments.output.exists() and not arguments.overwrite:
        raise ValueError(f"{shown(arguments.output)} is there already; pass --overwrite to replace it")
    if not arguments.output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {shown(arguments.output.parent)} for {arguments.output.name}")
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    labels = asked_labels(arguments.style, arguments.tempo, arguments.instruments)
    codec = load_trained(arguments.codec)
    priors = {prior.level: prior for prior in map(load_trained, arguments.priors)}
    rate = codec.facts.rate
    prime = None if arguments.prime is None else read_prime(arguments.prime, rate, arguments.prime_seconds)
    audio = generate(codec, priors, arguments.seconds, rate, labels, arguments.lyrics, prime, arguments.seed,
                     temp=arguments.temperature, top_p=arguments.top_p, top_k=arguments.top_k, progress="drawing codes")
    soundfile.write(arguments.output, audio[0].clamp(-1, 1).numpy(), rate, "PCM_16")
    print(f"{arguments.output.name}: {audio.shape[-1] / rate:.1f} s, {rate} Hz, mono, seed {arguments.seed}")
    return 0


def asked_labels(style: str, tempo: float | None, instruments: str) -> list[int]:
    """Style, tempo and instruments (separated by commas) as `label_numbers`; ValueError for what isn't known."""
    from course_lib.data.band.labels import label_numbers, tempo_word

    words = [" ".join(word.split()) for word in instruments.split(",") if word.strip()]
    return label_numbers(style, ([] if tempo is None else [tempo_word(tempo)]) + sorted(set(words)))


def read_prime(path: Path, rate: int, seconds: float):
    """The first seconds of an audio file as (1, 1, time) at `rate`; errors name the file."""
    from course_lib.data.audio_files import read_audio, read_header
    from course_lib.data.resampling import resample

    if not seconds > 0:
        raise ValueError(f"--prime-seconds is {seconds}; expected a number above 0")
    header = read_header(path)
    audio = read_audio(header, frames=min(round(seconds * header.rate), header.frames))
    return resample(audio.mean(0, keepdim=True), header.rate, rate)[None]


def generate(codec, priors: Mapping, seconds: float, rate: int, labels: list[int], lyrics: str = "", prime=None,
             seed: int = 0, **options):
    """New audio, (1, time) at `rate`, time the first whole number of top codes from `seconds` on.

    codec: with encode and decode as chapter 11's VQVAE. priors: `SimplePrior`s by level, neighbours, that know the
    labels of `course_lib.data.band.labels`. prime: audio (1, 1, time) that it begins with, or None. lyrics: passing
    evenly over the song. options: of `course_lib.priors.sample`. ValueError for a length outside 0 to LONGEST, a prime
    that is no shorter, and levels that are no neighbours.
    """
    import torch

    from course_lib.data.band.labels import letter_numbers
    from course_lib.priors import sample_levels

    levels = sorted(priors)
    if not levels or levels != list(range(levels[0], levels[-1] + 1)) or priors[levels[-1]].x_cond:
        raise ValueError(f"priors are of levels {levels}; expected the top level, and those right beneath it")
    top = priors[levels[-1]]
    hop = top.raw_to_tokens
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"seconds is {seconds:g}; expected more than 0 and up to {LONGEST:g}")
    length = -(-round(seconds * rate) // hop) * hop
    given = [torch.zeros(1, 0, dtype=torch.long) for _ in range(top.levels)]
    if prime is not None:
        prime = prime[..., :prime.shape[-1] // hop * hop]
        if not 0 < prime.shape[-1] < length:
            raise ValueError(f"the beginning has {prime.shape[-1]} samples and the whole {length}; expected it "
                             f"shorter, and at least {hop} samples")
        with torch.no_grad():
            given = [codes.long() for codes in codec.encode(prime)]
    least = top.y_emb.total_length_emb.pos_min if top.y_cond else 0
    about = {"y": torch.tensor([[max(length, int(least)), 0, 0, *labels]]), "letters": [letter_numbers(lyrics)]}
    generator = torch.Generator().manual_seed(seed)
    zs = sample_levels(priors, given, length, about, generator=generator, **options)
    with torch.no_grad():
        return codec.decode(zs[levels[0]], level=levels[0])[0]


__all__ = ["asked_labels", "configure", "generate", "main", "read_prime"]
