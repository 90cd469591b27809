"""How fast SCNet is beside HT Demucs: both at their published sizes, same sound and cores, by turns, in one run.

    python benchmarks/scnet_speed.py [--threads 1] [--turns 3] [--store]

A segment of 7.8 s of stereo at 44.1 kHz in 32 bits, without gradients; random weights, for speed does not depend on
them. HT Demucs is the released size (`htdemucs`), SCNet the official code's defaults and its large variant. Each runs
once to warm up, then all in turn; the median counts. "seconds" is the clock, "processor seconds" the time of the
process, which suffers less from what else runs on the machine; "share" is the ratio of the latter to HT Demucs.
--store writes data/results/18_band_split/speed.csv.
"""

import argparse
import datetime
import statistics
import time
from fractions import Fraction

SAMPLES = 343_980                     # 7.8 s
LARGE = dict(dims=(4, 64, 128, 256), band_SR=(0.225, 0.372, 0.403))


def timed(model, mixture) -> tuple[float, float]:
    """Seconds by the clock and processor seconds of one pass."""
    started, used = time.perf_counter(), time.process_time()
    model(mixture)
    return time.perf_counter() - started, time.process_time() - used


def compare(threads: int, turns: int, large: bool) -> list[dict]:
    """One row for each network."""
    import torch

    from course_lib.band_split import SCNet
    from course_lib.data import STEMS
    from course_lib.htdemucs import HTDemucs

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    models = {"HT Demucs": HTDemucs(list(STEMS), segment=Fraction(39, 5), bottom_channels=512, dconv_mode=3),
              "SCNet": SCNet(), **({"SCNet-large": SCNet(**LARGE)} if large else {})}
    mixture = 0.1 * torch.randn(1, 2, SAMPLES)
    times: dict[str, list] = {name: [] for name in models}
    with torch.inference_mode():
        for model in models.values():
            model.eval()(mixture)
        for _ in range(turns):
            for name, model in models.items():
                times[name].append(timed(model, mixture))
    medians = {name: [statistics.median(turn[i] for turn in found) for i in range(2)] for name, found in times.items()}
    return [{"what": name, "threads": threads, "turns": turns, "audio_seconds": SAMPLES / 44100,
             "parameters": sum(p.numel() for p in models[name].parameters()), "seconds": round(clock, 3),
             "processor_seconds": round(used, 3), "share": round(used / medians["HT Demucs"][1], 3)}
            for name, (clock, used) in medians.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="SCNet-large, too")
    parser.add_argument("--store", action="store_true")
    arguments = parser.parse_args()
    rows = compare(arguments.threads, arguments.turns, arguments.large)
    for row in rows:
        print(row)
    if arguments.store:
        from course_lib.results import Results, machine

        command = f"python benchmarks/scnet_speed.py --threads {arguments.threads} --turns {arguments.turns}"
        more = {"command": command, "machine": machine(), "date": datetime.date.today().isoformat()}
        Results("18_band_split").write("speed", [{**row, **more} for row in rows])


if __name__ == "__main__":
    main()
