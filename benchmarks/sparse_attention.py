"""Time and peak memory of sparse attention (chapter 8b) against length, beside dense attention.

    OMP_NUM_THREADS=1 uv run python benchmarks/sparse_attention.py

Eight heads of 64 features, tokens that change slowly, 90% of the pairs to be left out. The methods take turns, and
processor time (not the clock's) of one thread is counted; each is divided by that of fused attention in the same turn.
Peak memory is that of a process of its own, forked once everything is loaded and compiled: the high-water mark after a
forward and backward pass, less what the process held with its inputs made. tracemalloc doesn't see torch's memory, and
torch's profiler none of numba's. Needs Linux. Writes data/results/08b_sparse_attention/lengths.csv and its card.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from course_lib.results import Results
from course_lib.sparse_attention import block_lsh_attention, hash_directions, lsh_attention, lsh_mask

LENGTHS = (336, 672, 1344, 2688, 4208, 8416)  # 2688 and 4208: HT Demucs' 7.8 s and 12.2 s
HEADS, FEATURES, SPARSITY = 8, 64, 0.9
# The longest that each is measured at; the squares of the others would fill gigabytes.
LONGEST = {"written out": 4208, "fused": 8416, "mask": 2688, "chunks": 2688, "kernel": 8416, "blocks": 8416}


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


def resident(kind: str) -> float:
    """MB of 2^20 bytes that this process holds (kind VmRSS) or has held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{kind}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 2 ** 10


def peak_of(name: str, tokens: int, answer) -> None:
    """In a process of its own: what a pass takes beyond what was there before, sent to `answer`."""
    tensors = inputs(tokens)
    before = resident("VmRSS")
    train(method_named(name), *tensors)
    answer.send(resident("VmHWM") - before)


def peak_elsewhere(name: str, tokens: int) -> float:
    """`peak_of` in a forked process."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(False)
    process = context.Process(target=peak_of, args=(name, tokens, there))
    process.start()
    there.close()
    peak = here.recv()
    process.join()
    return peak


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
    peaks = {name: peak_elsewhere(name, tokens) for name in names}
    q, k, v = inputs(tokens)
    R = hash_directions(FEATURES, generator=torch.Generator().manual_seed(0))
    kept = float(lsh_mask(q[:, :1, :4208], k[:, :1, :4208], R, SPARSITY).float().mean())
    times = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            function = method_named(name)
            with torch.no_grad():
                forward = processor_seconds(lambda: function(q, k, v))
            times[name].append((forward, processor_seconds(lambda: train(function, q, k, v))))
    rows = []
    for name in names:
        row = {"method": name, "tokens": tokens, "turns": turns, "kept": f"{kept:.4f}"}
        for place, what in enumerate(("forward", "training")):
            each = [turn[place] for turn in times[name]]
            ratios = [turn[place] / fused[place] for turn, fused in zip(times[name], times["fused"])]
            row |= {f"{what}_s": f"{statistics.median(each):.5f}", f"{what}_ratio": f"{statistics.median(ratios):.3f}",
                    f"{what}_ratio_low": f"{min(ratios):.3f}", f"{what}_ratio_high": f"{max(ratios):.3f}"}
        rows.append(row | {"peak_mb": f"{peaks[name]:.1f}"})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure sparse attention against length.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="the longest length (default: all)")
    parser.add_argument("--shortest", type=int, default=0, help="shorter lengths keep their rows (default: none)")
    parser.add_argument("--folder", type=Path, help="where the table goes (default: data/results)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in LONGEST:  # loaded, compiled and warm
        train(method_named(name), *inputs(64))
    results = Results("08b_sparse_attention", arguments.folder)
    rows = [row for row in results.rows("lengths") if int(row["tokens"]) < arguments.shortest]
    for tokens in LENGTHS:
        if arguments.shortest <= tokens <= arguments.longest:
            rows += measure(tokens, arguments.turns)
            results.write("lengths", rows)
    results.write_card("lengths", {
        "tables": ["lengths"], "what": "processor time of one thread and peak memory of attention against length",
        "command": "OMP_NUM_THREADS=1 uv run python benchmarks/sparse_attention.py "
                   f"--turns {arguments.turns} --longest {arguments.longest}", "shortest_anew": arguments.shortest,
        "heads": HEADS, "features": FEATURES, "sparsity": SPARSITY})


if __name__ == "__main__":
    main()
