"""Memory of separating songs: the course from disk to disk, beside the package demucs, in one run.

    python benchmarks/separating_memory.py [--minutes 1 10] [--keep]

Songs of noise bursts, stereo at 44.1 kHz, are separated by a small Demucs (version 3) with equal weights: by
`course_lib.separating.separate_file`, and as the package's command does it, the whole song read, `apply_model` with its
chunks of 8 s and an overlap of a quarter, the stems written. Each separation is a process of its own, with one thread;
its peak memory is what the system says of it (ru_maxrss), libraries included. The stems of both must be equal to 1e-5
of their level, or the benchmark fails. --keep writes data/results/09_separating_songs/memory.csv.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from course_lib.data import STEMS

RATE, SEGMENT = 44100, 8.0
SIZES = dict(channels=8, depth=4, resample=False, dconv_mode=0, lstm_layers=0, samplerate=RATE, segment=SEGMENT)


def write_song(path: Path, minutes: float) -> None:
    """Noise whose level changes, in blocks, so that writing it takes no memory either."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for _ in range(round(minutes * 60)):
            file.write(0.2 * rng.uniform(0, 1) * rng.standard_normal((RATE, 2)).clip(-4, 4))


def ours(song: Path, folder: Path, weights: Path) -> None:
    import torch

    from course_lib.demucs import Demucs
    from course_lib.separating import SongSeparator, separate_file

    torch.set_num_threads(1)
    model = Demucs(STEMS, **SIZES).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    separate_file(SongSeparator(model, standardise=False), song, folder, bits=32)


def theirs(song: Path, folder: Path, weights: Path) -> None:
    import torch
    from demucs.apply import apply_model
    from demucs.demucs import Demucs

    torch.set_num_threads(1)
    model = Demucs(STEMS, **SIZES).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    audio, rate = soundfile.read(song, dtype="float32", always_2d=True)
    sources = apply_model(model, torch.from_numpy(audio.T)[None], shifts=0)[0]
    (folder / song.stem).mkdir(parents=True)
    for stem, y in zip(STEMS, sources):
        soundfile.write(folder / song.stem / f"{stem}.wav", y.T.numpy(), rate, subtype="FLOAT")


KINDS = {"separate_file": ours, "apply_model": theirs}


def in_a_process(kind: str, song: Path, folder: Path, weights: Path) -> dict[str, float]:
    """Peak memory and processor time of one separation."""
    arguments = [sys.executable, __file__, "--one", kind, str(song), str(folder), str(weights)]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def one(kind: str, song: str, folder: str, weights: str) -> None:
    started = time.process_time()
    KINDS[kind](Path(song), Path(folder), Path(weights))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"peak": peak, "seconds": time.process_time() - started}))


def check_equal(first: Path, second: Path) -> None:
    """The stems of two folders agree, block by block."""
    for stem in STEMS:
        a, b = (soundfile.blocks(folder / f"{stem}.wav", RATE, dtype="float64") for folder in (first, second))
        error = level = 0.0
        for x, y in zip(a, b, strict=True):
            error, level = error + np.square(x - y).sum(), level + np.square(y).sum()
        assert error <= (1e-5) ** 2 * level, f"{stem} differs: {np.sqrt(error / level):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--one", nargs=4)
    arguments = parser.parse_args()
    if arguments.one:
        return one(*arguments.one)
    import torch

    from course_lib.demucs import Demucs
    from course_lib.results import Results

    rows = []
    with tempfile.TemporaryDirectory() as root:
        torch.manual_seed(0)
        weights = Path(root) / "weights.pt"
        torch.save(Demucs(STEMS, **SIZES).state_dict(), weights)
        for minutes in arguments.minutes:
            song = Path(root) / f"{minutes:g} minutes.wav"
            write_song(song, minutes)
            for kind in KINDS:
                found = in_a_process(kind, song, Path(root) / kind, weights)
                rows.append({"what": kind, "minutes": f"{minutes:g}", "peak_mb": f"{found['peak'] / 2 ** 20:.0f}",
                             "cpu_seconds": f"{found['seconds']:.1f}"})
                print("{what:14} {minutes:>5} min {peak_mb:>6} MB {cpu_seconds:>7} s".format(**rows[-1]), flush=True)
            check_equal(*(Path(root) / kind / song.stem for kind in KINDS))
    if arguments.keep:
        results = Results("09_separating_songs")
        results.write("memory", rows)
        results.write_card("memory", {
            "what": "Peak memory and processor time of separating songs with a small Demucs, stereo at 44.1 kHz: "
                    "separate_file of the course, apply_model of the package demucs 4.1.0",
            "command": "python benchmarks/separating_memory.py --keep", "model": SIZES, "tables": ["memory"]})


if __name__ == "__main__":
    main()
