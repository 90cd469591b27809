"""Time and peak memory of sparse attention (chapter 8b) against length, beside dense attention.

    OMP_NUM_THREADS=1 uv run python benchmarks/sparse_attention.py

Eight heads of 64 features, tokens that change slowly, 90% of the pairs to be left out. The methods take turns, and
processor time (not the clock's) of one thread is counted; each is divided by that of fused attention in the same turn.
Peak memory is that of a process of its own: the high-water mark after a forward and backward pass, less that after the
inputs were made and a call of 64 tokens had loaded and compiled everything. tracemalloc doesn't see torch's memory, and
its profiler none of numba's. Writes data/results/08b_sparse_attention/lengths.csv and its card.
"""

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from course_lib.results import Results
from course_lib.sparse_attention import block_lsh_attention, hash_directions, lsh_attention, lsh_mask

LENGTHS = (336, 672, 1344, 2688, 4208, 8416, 16832)  # 2688 and 4208: HT Demucs' 7.8 s and 12.2 s
HEADS, FEATURES, SPARSITY = 8, 64, 0.9
# The longest that each is measured at; the squares of the others would fill gigabytes.
LONGEST = {"written out": 4208, "fused": 16832, "mask": 4208, "chunks": 4208, "kernel": 16832, "blocks": 16832}


def inputs(tokens: int) -> list[torch.Tensor]:
    """Queries, keys and values (1, head, time, feature), each token near to the 15 beside it."""
    generator = torch.Generator().manual_seed(tokens)
    shape = (1, HEADS, tokens, FEATURES)
    slow = torch.randn(1, HEADS, tokens // 16 + 1, FEATURES, generator=generator).repeat_interleave(16, 2)
    token = slow[:, :, :tokens] + 0.7 * torch.randn(shape, generator=generator)
    return [token + 0.3 * torch.randn(shape, generator=generator) for _ in range(3)]


def written_out(q, k, v):
    return torch.softmax(q @ k.mT / FEATURES ** 0.5, -1) @ v


def method_named(name: str):
    """The function of (q, k, v) with this name; new directions of the hash for each."""
    R = hash_directions(FEATURES, generator=torch.Generator().manual_seed(0))
    hashed = {kind: lambda q, k, v, kind=kind: lsh_attention(q, k, v, SPARSITY, R=R, method=kind)
              for kind in ("mask", "chunks", "kernel")}
    return {"written out": written_out, "fused": F.scaled_dot_product_attention,
            "blocks": lambda q, k, v: block_lsh_attention(q, k, v, SPARSITY, R=R), **hashed}[name]


def train(function, q, k, v) -> None:
    """A forward and a backward pass."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    function(*leaves).backward(torch.ones_like(v))


def peak_megabytes() -> float:
    """The most memory this program has held (see band_speed.py)."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)[1]) / 2 ** 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** 20 if sys.platform == "darwin" else peak / 2 ** 10


def peak_of(name: str, tokens: int) -> float:
    """In this process: what a pass takes beyond what was there before, in MB of 2^20 bytes."""
    function, tensors = method_named(name), inputs(tokens)
    train(function, *inputs(64))
    before = peak_megabytes()
    train(function, *tensors)
    return peak_megabytes() - before


def peak_elsewhere(name: str, tokens: int) -> float:
    """`peak_of` in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--peak", name, str(tokens)], check=True, capture_output=True,
                          text=True)
    return json.loads(done.stdout.splitlines()[-1])


def processor_seconds(task, least: float = 0.03) -> float:
    """Processor time of a call, the mean of so many that they last a while."""
    calls, began = 0, time.process_time()
    while not calls or time.process_time() - began < least:
        task()
        calls += 1
    return (time.process_time() - began) / calls


def measure(tokens: int, turns: int) -> list[dict]:
    """A row for each method at this length."""
    names = [name for name, longest in LONGEST.items() if tokens <= longest]
    q, k, v = inputs(tokens)
    R = hash_directions(FEATURES, generator=torch.Generator().manual_seed(0))
    kept = float(lsh_mask(q[:, :1, :4208], k[:, :1, :4208], R, SPARSITY).float().mean())
    for name in names:  # compiled and warm
        train(method_named(name), *(x[:, :, :64] for x in (q, k, v)))
    times = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            function = method_named(name)
            with torch.no_grad():
                forward = processor_seconds(lambda: function(q, k, v))
            times[name].append((forward, processor_seconds(lambda: train(function, q, k, v))))
    rows = []
    for name in names:
        row = {"method": name, "tokens": tokens, "kept": f"{kept:.4f}"}
        for place, what in enumerate(("forward", "training")):
            each = [turn[place] for turn in times[name]]
            ratios = [turn[place] / fused[place] for turn, fused in zip(times[name], times["fused"])]
            row |= {f"{what}_s": f"{statistics.median(each):.5f}", f"{what}_ratio": f"{statistics.median(ratios):.3f}",
                    f"{what}_ratio_low": f"{min(ratios):.3f}", f"{what}_ratio_high": f"{max(ratios):.3f}"}
        rows.append(row | {"peak_mb": f"{peak_elsewhere(name, tokens):.1f}"})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sparse attention against length.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="the longest length (default: all)")
    parser.add_argument("--folder", type=Path, help="where the table goes (default: data/results)")
    parser.add_argument("--peak", nargs=2, metavar=("METHOD", "TOKENS"), help="print one peak, for this program itself")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(json.dumps(peak_of(arguments.peak[0], int(arguments.peak[1]))))
        return
    rows = [row for tokens in LENGTHS if tokens <= arguments.longest for row in measure(tokens, arguments.turns)]
    results = Results("08b_sparse_attention", arguments.folder)
    results.write("lengths", rows)
    results.write_card("lengths", {
        "tables": ["lengths"], "what": "processor time of one thread and peak memory of attention against length",
        "command": "OMP_NUM_THREADS=1 uv run python benchmarks/sparse_attention.py", "turns": arguments.turns,
        "heads": HEADS, "features": FEATURES, "sparsity": SPARSITY})


if __name__ == "__main__":
    main()
