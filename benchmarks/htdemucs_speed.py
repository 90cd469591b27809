"""How fast the released HT Demucs is: the course's network beside demucs 4.1.0, same weights, sound and cores, one run.

    python benchmarks/htdemucs_speed.py [--threads 1 2] [--turns 5] [--store]

A segment of 7.8 s of stereo at 44.1 kHz in 32 bits, without gradients; random weights. For each number of threads a
fresh process runs each network once to warm up, then both in turn; the median counts. "seconds" is the clock,
"processor seconds" the time of all cores together, which suffers less from what else runs on the machine; "times
faster" is the ratio of either to demucs. Three rows of ours: as it is, all rows of a layer at once
(`course_lib.hdemucs.in_blocks` taken out), and with the plain attention that forms all weights (fused attention taken
out), so that one sees what either gives. --store writes data/results/08_ht_demucs/speed.csv.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from unittest import mock

SAMPLES = 343_980                     # 7.8 s
RELEASED = dict(bottom_channels=512, dconv_mode=3, t_dropout=0.02)


def timed(function) -> tuple[float, float, object]:
    """Seconds by the clock, processor seconds of this process, and what the function returned."""
    started, used = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - started, time.process_time() - used, result


def plain_attention(q, k, v, dropout_p=0.0):
    """Attention that forms the weight of every pair."""
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def compare(threads: int, turns: int) -> list[dict]:
    """One row for each implementation."""
    from fractions import Fraction

    import torch
    from demucs.htdemucs import HTDemucs as Official

    from course_lib.data import STEMS
    from course_lib.htdemucs import HTDemucs

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    options = dict(sources=list(STEMS), segment=Fraction(39, 5), **RELEASED)
    official, ours = Official(**options).eval(), HTDemucs(**options).eval()
    ours.load_state_dict(official.state_dict(), strict=True)
    mixture = 0.1 * torch.randn(1, 2, SAMPLES)

    def whole():
        with mock.patch("course_lib.hdemucs.in_blocks", lambda f, y: f(y)):
            return ours(mixture)

    def unfused():
        with mock.patch("torch.nn.functional.scaled_dot_product_attention", plain_attention):
            return ours(mixture)

    runs = {"demucs 4.1.0": lambda: official(mixture), "course_lib": lambda: ours(mixture),
            "course_lib, whole layers": whole, "course_lib, plain attention": unfused}
    times: dict[str, list] = {name: [] for name in runs}
    with torch.inference_mode():
        outputs = {name: run() for name, run in runs.items()}                  # warms up, too
        for _ in range(turns):
            for name, run in runs.items():
                times[name].append(timed(run)[:2])
    theirs, rows = outputs["demucs 4.1.0"], []
    reference = [statistics.median(turn[i] for turn in times["demucs 4.1.0"]) for i in range(2)]
    for name in runs:
        clock, used = (statistics.median(turn[i] for turn in times[name]) for i in range(2))
        difference = float((outputs[name] - theirs).abs().max() / theirs.abs().max())
        rows.append({"what": name, "threads": threads, "turns": turns, "audio_seconds": SAMPLES / 44100,
                     "seconds": round(clock, 3), "processor_seconds": round(used, 3),
                     "times_faster": round(reference[0] / clock, 2),
                     "times_faster_processor": round(reference[1] / used, 2),
                     "largest_difference": f"{difference:.0e}"})
    if max(float(row["largest_difference"]) for row in rows) > 1e-5:
        raise SystemExit(f"the outputs differ: {rows}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--store", action="store_true", help="write data/results/08_ht_demucs/speed.csv")
    parser.add_argument("--rows-only", action="store_true", help=argparse.SUPPRESS)       # what a child is asked for
    arguments = parser.parse_args()
    if arguments.rows_only:
        print(json.dumps(compare(arguments.threads[0], arguments.turns)))
        return
    rows = []
    for threads in arguments.threads:             # torch reads its number of threads when it is loaded: a fresh process
        command = [sys.executable, __file__, "--rows-only", "--threads", str(threads), "--turns", str(arguments.turns)]
        child = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=subprocess.PIPE,
                               text=True, check=True)
        rows += json.loads(child.stdout.splitlines()[-1])
        for row in rows[-4:]:
            print(f"{row['what']:28} {row['threads']} threads {row['seconds']:7.2f} s {row['processor_seconds']:7.2f} "
                  f"processor s {row['times_faster']:6.2f} times faster ({row['times_faster_processor']:.2f} by "
                  f"processor time), largest difference {row['largest_difference']}")
    if arguments.store:
        from course_lib.results import Results, machine

        stamp = {"command": f"python benchmarks/htdemucs_speed.py --threads {' '.join(map(str, arguments.threads))} "
                            f"--turns {arguments.turns}", "machine": machine(),
                 "date": datetime.date.today().isoformat()}
        Results("08_ht_demucs").write("speed", [{**row, **stamp} for row in rows])


if __name__ == "__main__":
    main()
