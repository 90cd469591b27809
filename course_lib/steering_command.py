"""`course steer SONG --tag guitar -o DIR`: one instrument of a song by TagBox (chapter 14).

The song is taken mono at the codec's rate, in pieces that are steered together and joined by cross-fades. DIR/SONG gets
TAG.wav (what the mask leaves), TAG_rest.wav (the rest) and, asked for, TAG_codec.wav, what the decoder makes. With
--early N, what the mask leaves of the first piece is written while it runs, every N steps: TAG_step000.wav and so on.
"""

import argparse
from pathlib import Path

from course_lib.paths import shown

CODEC, TAGGERS = "jukebox_band", ("tagger_band",)
FADE = 0.25                                            # seconds that two pieces share


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course steer`."""
    parser.add_argument("song", type=Path, metavar="SONG", help="an audio file of any rate and number of channels")
    parser.add_argument("--tag", required=True, metavar="NAME",
                        help="an instrument (vocals, drums, guitar, ...) or any tag that the taggers know")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="files go to DIR/SONG")
    parser.add_argument("--taggers", nargs="+", default=list(TAGGERS), metavar="NAME",
                        help="of the course, or published: mtat_fcn, jamendo_musicnn, ... (default: tagger_band)")
    parser.add_argument("--codec", default=CODEC, metavar="NAME",
                        help=f"a trained codec, or 'jukebox' for the published one (default: {CODEC})")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--lr", type=float, default=5.0, metavar="X", help="step size on the embedding (default: 5)")
    parser.add_argument("--n-fft", type=int, nargs="+", default=[2048, 1024, 512], metavar="N",
                        help="sizes of the masks; the last makes the result (default: 2048 1024 512)")
    parser.add_argument("--residual", action="store_true", help="take the residual for the tag")
    parser.add_argument("--of", choices=("mixture", "reconstruction"), default="mixture",
                        help="what is masked: the song, or the codec's version of it, as published (default: mixture)")
    parser.add_argument("--codec-output", action="store_true", help="also write what the decoder makes, unmasked")
    parser.add_argument("--early", type=int, metavar="N", help="every N steps, write what the mask leaves of the first "
                        "piece then, to listen while it runs: TAG_stepNNN.wav")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds of the song left out before")
    parser.add_argument("--seconds", type=float, metavar="S", help="how much of it (default: all)")
    parser.add_argument("--piece", type=float, default=10.0, metavar="S", help="seconds steered as one (default: 10)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def main(arguments: argparse.Namespace) -> int:
    """Steer, and write the files."""
    import torch

    from course_lib.data.audio_files import read_audio, read_header
    from course_lib.data.resampling import resample
    from course_lib.separating import StemFiles

    for name, value in (("--piece", arguments.piece), ("--lr", arguments.lr), ("--steps", arguments.steps)):
        if not value > 0:
            raise ValueError(f"{name} is {value}; expected a number above 0")
    if arguments.piece < 1:
        raise ValueError(f"--piece is {arguments.piece:g}; expected at least 1 second")
    if arguments.start < 0 or (arguments.seconds is not None and not arguments.seconds > 0):
        raise ValueError(f"--start {arguments.start:g}, --seconds {arguments.seconds}; expected 0 or more, and above 0")
    if arguments.early is not None and arguments.early < 1:
        raise ValueError(f"--early is {arguments.early}; expected a number of steps, 1 or more")
    if arguments.early is not None and arguments.residual:
        raise ValueError("--early with --residual; expected one of them: early sounds are what the mask leaves")
    header = read_header(arguments.song)
    first = round(arguments.start * header.rate)
    if first >= header.frames:
        raise ValueError(f"--start is {arguments.start:g} s; {shown(arguments.song)} lasts "
                         f"{header.frames / header.rate:.1f} s")
    folder = arguments.output / arguments.song.stem
    names = [arguments.tag, f"{arguments.tag}_rest", *([f"{arguments.tag}_codec"] * arguments.codec_output)]
    paths = [folder / f"{name.replace('/', '-')}.wav" for name in names]
    early = {step: paths[0].with_stem(f"{paths[0].stem}_step{step:03d}")
             for step in range(0, arguments.steps, arguments.early or arguments.steps) if arguments.early}
    if (there := [path for path in (*paths, *early.values()) if path.exists()]) and not arguments.overwrite:
        raise ValueError(f"{shown(there[0])} is there already; pass --overwrite to replace it")
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    codec, rate = codec_named(arguments.codec)
    taggers = [tagger_named(name) for name in arguments.taggers]
    frames = header.frames - first
    if arguments.seconds is not None:
        frames = min(frames, round(arguments.seconds * header.rate))
    audio = read_audio(header, first, frames).mean(0, keepdim=True)

    def write_early(step: int, masked) -> None:
        with StemFiles([early[step]], rate, 1) as files:
            files.write(masked[:, None])

    given = steer_song(codec, taggers, resample(audio, header.rate, rate)[0], rate, arguments.tag, arguments.piece,
                       early=write_early if early else None, every=arguments.early or 1,
                       steps=arguments.steps, lr=arguments.lr, n_fft=arguments.n_fft, of=arguments.of)
    order = ("residual", "masked", "steered") if arguments.residual else ("masked", "residual", "steered")
    with StemFiles(paths, rate, 1) as files:                                 # nothing half written is left
        files.write(torch.stack([given[name] for name in order[:len(paths)]])[:, None])
    if files.clipped:
        print(f"{shown(arguments.song)}: {files.clipped} samples are beyond full scale and were clipped")
    paths += early.values()
    print(f"{len(paths)} files in {shown(folder)}: {', '.join(path.name for path in paths)}")
    return 0


def codec_named(name: str):
    """A codec and its rate: the published one, or one that the course trained."""
    from course_lib.jukebox import load_official
    from course_lib.training import load_trained

    if name == "jukebox":
        return load_official().requires_grad_(False), 44_100
    codec = load_trained(name).requires_grad_(False)
    if not hasattr(codec, "latents"):
        raise ValueError(f"--codec is {name}, a {type(codec).__name__}; expected a VQVAE, such as {CODEC}")
    return codec, codec.facts.rate


def tagger_named(name: str):
    """A tagger: published ("mtat_fcn"), or one that the course trained."""
    from course_lib.tagbox import tags_of
    from course_lib.taggers import load_tagger
    from course_lib.training import load_trained

    tagger = (load_tagger(name) if name.startswith(("mtat_", "jamendo_")) else load_trained(name)).requires_grad_(False)
    tags_of(tagger)
    return tagger


def pieces_of(samples: int, piece: int, fade: int) -> list[int]:
    """Where pieces of equal length begin that share `fade` samples or more, the last one ending with the song."""
    if samples <= piece:
        return [0]
    count = -(-(samples - fade) // (piece - fade))
    return [round(number * (samples - piece) / (count - 1)) for number in range(count)]


def steer_song(codec, taggers, song, rate: int, name: str, seconds: float = 10.0, early=None, every: int = 20,
               **options):
    """TagBox over a whole song, mono (time,): "masked", "residual" and "steered", (time,) each.

    Pieces of `seconds` overlap by FADE and are joined by cross-fades. early: called with a step's number and what is
    masked then, (1, time), of the first piece only, every `every` steps. options: of `course_lib.tagbox.steer`; a piece
    shorter than a tagger's is repeated unless `fill` says otherwise, for silence at its end can saturate a tagger.
    """
    import torch

    from course_lib.tagbox import steer, tags_of, target_of

    if song.ndim != 1:
        raise ValueError(f"song has shape {tuple(song.shape)}; expected mono audio (time,)")
    piece, fade = min(len(song), round(seconds * rate)), round(FADE * rate)
    starts = pieces_of(len(song), piece, fade)
    targets = [target_of(name, tags_of(tagger)) for tagger in taggers]
    options = {"fill": "repeat", **options}
    ramp = torch.arange(1, piece + 1).clamp(max=fade).float()
    weight = torch.minimum(ramp, ramp.flip(0))
    sums, weights = {one: torch.zeros_like(song) for one in ("masked", "residual", "steered")}, torch.zeros_like(song)
    for number, start in enumerate(starts, 1):
        given = steer(codec, taggers, song[None, start:start + piece], targets, rate=rate,
                      text=f"{name}, piece {number} of {len(starts)}", early=early if number == 1 else None,
                      every=every, **options)
        weights[start:start + piece] += weight
        for one, total in sums.items():
            total[start:start + piece] += getattr(given, one)[0] * weight
    return {one: total / weights for one, total in sums.items()}


__all__ = ["configure", "main", "pieces_of", "steer_song"]
