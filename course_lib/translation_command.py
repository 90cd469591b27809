"""`course translate FILE --to piano -o DIR`: a melody played by another instrument (chapter 16).

The sound is taken mono at the translator's rate (8 kHz) and drawn anew, sample by sample. DIR gets
FILE_INSTRUMENT.wav for every instrument that is asked for.
"""

import argparse
from pathlib import Path

from course_lib.paths import shown

TRANSLATORS = ("translation_band", "translation_band_guitar")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course translate`."""
    parser.add_argument("song", type=Path, metavar="FILE", help="an audio file of any rate and number of channels")
    parser.add_argument("--to", nargs="+", required=True, metavar="NAME",
                        help="instruments of the translators: piano, flute, cello, clarinet, guitar")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--translators", nargs="+", default=list(TRANSLATORS), metavar="NAME",
                        help=f"trained ones, of the course or yours (default: {' '.join(TRANSLATORS)})")
    parser.add_argument("--official", type=Path, metavar="DIR",
                        help="a folder of the published training (args.pth, lastmodel_0.pth, ...) instead; its "
                             "weights may not be used commercially")
    parser.add_argument("--temperature", type=float, default=0.3, metavar="X",
                        help="below 1 calmer, 1 as learned (default: 0.3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws (default: 0)")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds of the file left out before")
    parser.add_argument("--seconds", type=float, metavar="S", help="how much of it (default: all)")
    parser.add_argument("--level", type=float, default=0.7, metavar="X",
                        help="peak that the sound is brought to before it is translated; 0: as it is (default: 0.7)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def main(arguments: argparse.Namespace) -> int:
    """Translate, and write the files."""
    import soundfile
    import torch

    from course_lib.data.audio_files import read_audio, read_header
    from course_lib.data.resampling import resample

    if not arguments.temperature >= 0:
        raise ValueError(f"--temperature is {arguments.temperature}; expected 0 (the likeliest) or more")
    if not 0 <= arguments.level <= 1:
        raise ValueError(f"--level is {arguments.level}; expected a peak from 0 (as it is) to 1")
    if arguments.start < 0 or (arguments.seconds is not None and not arguments.seconds > 0):
        raise ValueError(f"--start {arguments.start:g}, --seconds {arguments.seconds}; expected 0 or more, and above 0")
    header = read_header(arguments.song)
    first = round(arguments.start * header.rate)
    if first >= header.frames:
        raise ValueError(f"--start is {arguments.start:g} s; {shown(arguments.song)} lasts "
                         f"{header.frames / header.rate:.1f} s")
    wanted = list(dict.fromkeys(arguments.to))
    paths = {name: arguments.output / f"{arguments.song.stem}_{name}.wav" for name in wanted}
    if (there := [path for path in paths.values() if path.exists()]) and not arguments.overwrite:
        raise ValueError(f"{shown(there[0])} is there already; pass --overwrite to replace it")
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    models = translators(wanted, arguments.translators, arguments.official)
    frames = header.frames - first
    if arguments.seconds is not None:
        frames = min(frames, round(arguments.seconds * header.rate))
    audio = read_audio(header, first, frames).mean(0, keepdim=True)
    for name, (model, rate) in models.items():
        x = resample(audio, header.rate, rate)
        if x.shape[-1] < model.hop_length:
            raise ValueError(f"{shown(arguments.song)}: {x.shape[-1]} samples at {rate} Hz; expected "
                             f"{model.hop_length} or more, a frame of the code")
        peak = float(x.abs().max())
        if arguments.level and peak > 0:
            x = x * (arguments.level / peak)
        y = model.translate(x, name, torch.Generator().manual_seed(arguments.seed), arguments.temperature)
        arguments.output.mkdir(parents=True, exist_ok=True)
        soundfile.write(paths[name], y[0].clamp(-1, 1).numpy(), rate, "PCM_16")
        print(f"{paths[name].name}: {y.shape[-1] / rate:.1f} s, {rate} Hz, mono, seed {arguments.seed}")
    return 0


def translators(wanted, names, official: Path | None = None) -> dict:
    """For each instrument a translator that can play it, and its rate. ValueError for one that none can."""
    from course_lib.training import load_trained
    from course_lib.translation import load_official

    if official is not None:
        models = [(load_official(official), 16_000)]
    else:
        models = [(model, model.facts.rate) for model in map(load_trained, names)]
    known = {domain: (model, rate) for model, rate in reversed(models) for domain in model.domains}
    if strange := [name for name in wanted if name not in known]:
        raise ValueError(f"--to names {', '.join(strange)}; expected {', '.join(known)}")
    return {name: known[name] for name in wanted}


__all__ = ["configure", "main", "translators"]
