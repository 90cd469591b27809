"""How fast BSSEval v4 is: the course's `bss_eval` beside museval, on the same signals and cores, in one run.

    python benchmarks/metrics_speed.py [--seconds 30] [--threads 1 2] [--store]

Four stereo stems of band songs at 44.1 kHz and their estimates by the ideal ratio mask; 512 taps, frames of one second.
For each number of threads a fresh process runs ours once to warm up, then museval once and ours three times, of which
the median counts. "seconds" is the clock, "processor seconds" the time of all cores together, which suffers less from
what else runs on the machine; "times faster" is the ratio of either. `bss_eval` keeps to one thread, whatever it may
use. --store writes data/results/03_metrics/speed.csv.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time

RATE = 44100


def signals(seconds: float):
    """References and estimates, (4, 2, time)."""
    import torch

    from course_lib.data import STEMS, open_tracks
    from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, stft

    pieces, frames = [], round(seconds * RATE)
    for track in open_tracks("band", "test", count=max(1, -int(-seconds // 20))):
        pieces.append(track.sources(STEMS))
    references = torch.cat(pieces, -1)[..., :frames].contiguous()
    S = stft(references)
    return references, istft(apply_mask(ideal_ratio_mask(S), S.sum(0)), length=references.shape[-1])


def timed(function) -> tuple[float, float, object]:
    """Seconds by the clock, processor seconds of this process, and what the function returned."""
    started, used = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - started, time.process_time() - used, result


def compare(seconds: float, threads: int) -> list[dict]:
    """One row for each of the two implementations."""
    import torch

    from course_lib.data.without_ffmpeg import import_museval
    from course_lib.metrics import bss_eval

    torch.set_num_threads(threads)
    museval = import_museval()
    references, estimates = signals(seconds)
    bss_eval(references, estimates, RATE)
    arrays = [z.double().movedim(1, 2).numpy() for z in (references, estimates)]          # (source, time, channel)
    theirs = timed(lambda: museval.metrics.bss_eval(*arrays, window=RATE, hop=RATE)[:4])
    runs = [timed(lambda: bss_eval(references, estimates, RATE)) for _ in range(3)]
    ours = [statistics.median(run[i] for run in runs) for i in range(2)]
    expected, scores = (torch.stack([torch.as_tensor(z) for z in result]) for result in (theirs[2], runs[0][2]))
    if not torch.equal(expected.isnan(), scores.isnan()):
        raise SystemExit("museval and bss_eval differ in where they are NaN")
    difference = (expected - scores)[~expected.isnan()].abs().max()
    common = {"audio_seconds": seconds, "threads": threads, "largest_difference_db": f"{difference:.0e}"}
    return [
        {
            "what": "museval 0.4.1",
            "seconds": round(theirs[0], 2),
            "processor_seconds": round(theirs[1], 2),
            "times_faster": 1,
            "times_faster_processor": 1,
            **common,
        },
        {
            "what": "bss_eval",
            "seconds": round(ours[0], 2),
            "processor_seconds": round(ours[1], 2),
            "times_faster": round(theirs[0] / ours[0], 1),
            "times_faster_processor": round(theirs[1] / ours[1], 1),
            **common,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--store", action="store_true", help="write data/results/03_metrics/speed.csv")
    parser.add_argument("--rows-only", action="store_true", help=argparse.SUPPRESS)  # what a child process is asked for
    arguments = parser.parse_args()
    if arguments.rows_only:
        print(json.dumps(compare(arguments.seconds, arguments.threads[0])))
        return
    rows = []
    for threads in arguments.threads:  # BLAS reads its number of threads when it is loaded: a fresh process
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [
            sys.executable,
            __file__,
            "--rows-only",
            "--seconds",
            str(arguments.seconds),
            "--threads",
            str(threads),
        ]
        child = subprocess.run(command, env={**os.environ, **limits}, stdout=subprocess.PIPE, text=True, check=True)
        rows += json.loads(child.stdout.splitlines()[-1])
        for row in rows[-2:]:
            print(
                f"{row['what']:14} {row['threads']} threads {row['seconds']:8.2f} s {row['processor_seconds']:8.2f} "
                f"processor s {row['times_faster']:6.1f} times faster ({row['times_faster_processor']:.1f} by "
                f"processor "
                f"time), largest difference {row['largest_difference_db']} dB"
            )
    if arguments.store:
        stamp = {"command": f"python benchmarks/metrics_speed.py --threads {' '.join(map(str, arguments.threads))}",
                 "date": datetime.date.today().isoformat()}
        from course_lib.results import Results

        Results("03_metrics").write("speed", [{**row, **stamp} for row in rows])


if __name__ == "__main__":
    main()
