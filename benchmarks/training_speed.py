"""What the course's training loop costs beside the plain loop of a training script, and what a checkpoint costs.

    python benchmarks/training_speed.py [--steps 30] [--hidden 64]

Three trainings of one three-layer bidirectional LSTM on magnitude spectrograms (batches of 8, 2 channels, 128 bins, 100
frames, of noise made beforehand), from equal weights, each with Adam and a clip of the gradient: forward, backward,
clip and step written out; `fit` with nothing else; `fit` as chapters use it, with moving average, log and a checkpoint
every ten steps. The three take turns, so that what else runs on the machine meets all alike; "ms a step" is the median
over the turns. At the end the three have equal weights (without the average), or the benchmark fails.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from course_lib.training import FitSettings, fit

BATCH, CHANNELS, BINS, FRAMES = 8, 2, 128, 100


class Model(nn.Module):
    """Spectrograms (batch, channel, bin, frame) to masked ones."""

    def __init__(self, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(CHANNELS * BINS, hidden, num_layers=3, bidirectional=True)
        self.mask = nn.Linear(2 * hidden, CHANNELS * BINS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.lstm(x.permute(3, 0, 1, 2).flatten(2))[0]              # (frame, batch, 2 hidden)
        mask = self.mask(features).relu().unflatten(2, (CHANNELS, BINS))       # (frame, batch, channel, bin)
        return mask.permute(1, 2, 3, 0) * x


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - 0.5 * x).square().mean()


def make(hidden: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Model(hidden)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def plain(hidden: int, batches: list[torch.Tensor]) -> nn.Module:
    model, optimizer = make(hidden)
    for batch in batches:
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    return model


def with_fit(hidden: int, batches: list[torch.Tensor], folder: Path | None = None, **settings) -> nn.Module:
    model, optimizer = make(hidden)
    fit(model, loss_of, lambda start: iter(batches[start:]), optimizer, FitSettings(len(batches), clip=5.0, **settings),
        folder=folder, progress=False)
    return model


def with_everything(hidden: int, batches: list[torch.Tensor]) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        return with_fit(hidden, batches, folder=Path(folder) / "run", ema_decay=0.99, checkpoint_every=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(BATCH, CHANNELS, BINS, FRAMES, generator=generator) for _ in range(arguments.steps)]
    kinds = {"plain loop": plain, "fit": with_fit, "fit: average, log, checkpoints": with_everything}
    wall, processor, models = {name: [] for name in kinds}, {name: [] for name in kinds}, {}
    plain(arguments.hidden, batches[:2])                               # the first steps of a process pay for imports
    for _ in range(arguments.turns):
        for name, train in kinds.items():
            started, used = time.perf_counter(), time.process_time()
            models[name] = train(arguments.hidden, batches)
            wall[name].append(1000 * (time.perf_counter() - started) / arguments.steps)
            processor[name].append(1000 * (time.process_time() - used) / arguments.steps)
    for one, other in zip(models["plain loop"].parameters(), models["fit"].parameters()):
        assert torch.equal(one, other), "fit and the plain loop must give equal weights"
    print(f"{'':34} {'ms a step':>10} {'processor ms':>13}")
    for name in kinds:
        print(f"{name:34} {statistics.median(wall[name]):10.1f} {statistics.median(processor[name]):13.1f}")
    share = statistics.median(a / b for a, b in zip(processor["fit"], processor["plain loop"]))
    full = statistics.median(
        a / b for a, b in zip(processor["fit: average, log, checkpoints"], processor["plain loop"]))
    print(f"processor time beside the plain loop: fit x {share:.2f}, with everything x {full:.2f}")


if __name__ == "__main__":
    main()
