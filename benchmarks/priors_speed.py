"""Processor time of sampling codes (chapter 12) with cached keys and values, and with everything computed anew.

    OMP_NUM_THREADS=1 uv run python benchmarks/priors_speed.py

512 codes are drawn by an untrained prior with row, column and previous-row attention; both ways draw the same codes, in
turn, and processor time (not the clock's) of one thread is counted. Writes data/results/12_priors_and_sampling/
speed.csv and its card.
"""

import argparse
import statistics
import time

import torch

from course_lib.priors import ConditionalAutoregressive2D, sample
from course_lib.results import Results, machine

CODES, BLOCKS = 512, 16
SIZES = ((128, 9), (256, 9))                     # width, layers


def seconds_of(model: ConditionalAutoregressive2D, cached: bool) -> tuple[float, torch.Tensor]:
    """Processor seconds for CODES codes, and the codes."""
    began = time.process_time()
    codes = sample(model, cached=cached, generator=torch.Generator().manual_seed(0))
    return time.process_time() - began, codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    rows = []
    for width, depth in SIZES:
        torch.manual_seed(0)
        model = ConditionalAutoregressive2D(CODES, 512, width, depth, 2, attn_order=2, blocks=BLOCKS).eval()
        sample(model, sample_tokens=16)                                                          # warms up
        times = {True: [], False: []}
        for _ in range(turns):
            drawn = {}
            for cached in (True, False):
                seconds, drawn[cached] = seconds_of(model, cached)
                times[cached].append(seconds)
            assert torch.equal(drawn[True], drawn[False])
        fast, slow = (statistics.median(times[cached]) for cached in (True, False))
        rows.append({"width": width, "depth": depth, "codes": CODES, "turns": turns, "cached_seconds": f"{fast:.2f}",
                     "uncached_seconds": f"{slow:.2f}", "times_faster": f"{slow / fast:.2f}", "machine": machine()})
        print(rows[-1])
    results = Results("12_priors_and_sampling")
    results.write("speed", rows)
    results.write_card("speed", {"tables": ["speed"], "what": "processor time of sampling 512 codes, with and without "
                                 "cached keys and values",
                                 "command": "OMP_NUM_THREADS=1 uv run python benchmarks/priors_speed.py "
                                            f"--turns {turns}"})


if __name__ == "__main__":
    main()
