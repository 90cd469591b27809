"""Processor time of a generated sample (chapter 15): the plain way, with queues in PyTorch, and compiled.

    OMP_NUM_THREADS=1 uv run python benchmarks/wavenet_speed.py

The decoder that comes with the course (or, with --untrained, one of its size) draws the same sounds in each way, in
turn; processor time (not the clock's) of one thread is counted. The plain way is timed once its window is full, over
some samples. Writes data/results/15_wavenet_autoencoder/speed.csv and its card. Real time at 16 kHz is 62.5
microseconds a sample.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.results import Results, machine
from course_lib.training import load_trained
from course_lib.wavenet import WaveNet, generate, generate_queued

TOPIC, RATE, HOP = "15_wavenet_autoencoder", 16_000, 512
LENGTHS = (4096, 8192, 16_384, 32_768, 65_536)
QUEUED_SAMPLES, PLAIN_SAMPLES = 512, 20


def seconds_of(task: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    task()
    return time.process_time() - began


@torch.no_grad()
def plain(model: WaveNet, z: Tensor) -> None:
    """What `generate_naive` computes for PLAIN_SAMPLES samples whose window is full."""
    codes = torch.full((1, model.receptive_field + 1), 127)
    window = z[..., :1].expand(-1, -1, codes.shape[1])
    for _ in range(PLAIN_SAMPLES):
        model(codes, window)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--untrained", action="store_true", help="a decoder of this size with random weights")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = load_trained("wavenet_band").decoder if not given.untrained else WaveNet(16, 2, 9, 2, 32, 64).eval()
    z = torch.randn(1, model.sizes["latent_d"], max(LENGTHS) // HOP)
    uniforms = torch.rand(1, max(LENGTHS), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generate(model, z, uniforms[:, :64], HOP)                                                    # compiles
    tasks: dict[tuple[str, int], Callable[[], object]] = {
        ("plain", PLAIN_SAMPLES): lambda: plain(model, z),
        ("queues in PyTorch", QUEUED_SAMPLES): lambda: generate_queued(model, z, uniforms[:, :QUEUED_SAMPLES], HOP),
        **{("compiled", length): lambda length=length: generate(model, z, uniforms[:, :length], HOP)
           for length in LENGTHS}}
    times = {key: [] for key in tasks}
    for _ in range(given.turns):
        for (method, samples), task in tasks.items():
            times[method, samples].append(seconds_of(task) / samples)
    slowest = statistics.median(times["plain", PLAIN_SAMPLES])
    rows = []
    for (method, samples), seconds in times.items():
        a_sample = statistics.median(seconds)
        rows.append({"method": method, "samples": samples, "turns": given.turns,
                     "microseconds": f"{a_sample * 1e6:.1f}", "real_time": f"{1 / RATE / a_sample:.3f}",
                     "times_faster": f"{slowest / a_sample:.1f}", "machine": machine()})
        print(rows[-1])
    results = Results(TOPIC)
    results.write("speed", rows)
    results.write_card("speed", {"tables": ["speed"], "what": "processor time a generated sample, one thread; the "
                                 "plain way with a full window; real_time: seconds of sound a second",
                                 "command": "OMP_NUM_THREADS=1 uv run python benchmarks/wavenet_speed.py "
                                            f"--turns {given.turns}" + " --untrained" * given.untrained})


if __name__ == "__main__":
    main()
