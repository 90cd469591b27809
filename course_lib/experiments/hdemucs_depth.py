"""Deeper Hybrid Demucs networks at a high rate, for a few steps: do they diverge, and what holds them?

`course experiment hdemucs_depth` trains a shallow and a deep network of chapter 7 without and with GroupNorm in the
inner layers, and without and with the penalty on singular values, three seeds each. data/results/07_hybrid_demucs holds
a row a run (depth) and its losses (depth_logs).
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from course_lib.data import STEMS, Remix, Track
from course_lib.data.augmentation import Augmentation
from course_lib.demucs import WaveformStep
from course_lib.experiments.demucs import songs_of
from course_lib.experiments.hdemucs import TOPIC
from course_lib.experiments.runner import Experiment, Work
from course_lib.hdemucs import HDemucs, PenalisedStep, largest_singular_value, weight_matrices
from course_lib.paths import data_dir
from course_lib.results import machine
from course_lib.training import process_batches


@dataclass(frozen=True)
class Sizes:
    """What the runs of `hdemucs_depth` share: a narrow network, a high rate, no clipping, few steps."""

    channels: int = 4
    nfft: int = 256
    batch_size: int = 4
    seconds: float = 0.75
    steps: int = 40
    rate: float = 3e-2
    dconv_init: float = 0.1
    penalty: float = 1e-4
    penalty_megabytes: float = 0.02
    train_songs: int = 60
    song_seconds: float = 20.0
    seeds: int = 3


KINDS = ("plain", "penalty", "GroupNorm", "both")       # in the inner layers; on the large matrices; both


@dataclass(frozen=True)
class Run:
    """One training: layers, a kind of KINDS, the seed."""

    depth: int
    kind: str
    seed: int


def all_runs(work: Work) -> list[Run]:
    """A shallow network, and a deep one without and with either remedy, with all seeds."""
    kinds = [(4, "plain"), *((8, kind) for kind in KINDS)]
    return [Run(*kind, seed) for seed in range(work.settings.seeds) for kind in kinds]


def methods(work: Work) -> list[Run]:
    """No runs: how near the two ways of finding a singular value come, and what they cost, on one random matrix."""
    if work.results.rows("singular_values"):
        return []
    torch.manual_seed(0)
    A = torch.randn(768, 3072)
    exact, rows = float(largest_singular_value(A, "exact")), []
    for method, rank, rounds in (("power", 1, 4), ("power", 1, 16), ("power", 1, 64), ("power", 1, 256),
                                 ("lowrank", 10, 4), ("lowrank", 50, 2), ("lowrank", 50, 4), ("exact", "", "")):
        values, began = [], time.process_time()
        for _ in range(5):
            values.append(float(largest_singular_value(A, method, rank or 1, rounds or 1)) / exact)
        rows.append({"method": method, "rank": rank, "iterations": rounds, "share": f"{np.mean(values):.4f}",
                     "milliseconds": f"{200 * (time.process_time() - began):.2f}", "machine": machine()})
    work.results.write("singular_values", rows)
    card = {"tables": ["singular_values"], "what": methods.__doc__, "command": EXPERIMENT.command}
    work.results.write_card("singular_values", card)
    return []


def songs(sizes: Sizes, cache: Path) -> list[Track]:
    """The training songs."""
    return songs_of("train", sizes.train_songs, sizes.song_seconds, data_dir() / "training" / "demucs")


def deep_model(run: Run, sizes: Sizes) -> HDemucs:
    """The network of a run."""
    torch.manual_seed(run.seed)
    norm_starts = 3 if run.kind in ("GroupNorm", "both") else run.depth
    return HDemucs(STEMS, 1, sizes.channels, nfft=sizes.nfft, depth=run.depth, norm_starts=norm_starts,
                   dconv_attn=run.depth, dconv_lstm=run.depth, dconv_init=sizes.dconv_init)


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train for a few steps, by hand, so that a loss that isn't finite ends the run and is told."""
    sizes, model = work.settings, deep_model(run, work.settings)
    chunks = Remix(work.given, sizes.seconds, sizes.steps * sizes.batch_size, run.seed, augment=Augmentation())
    step, penalised = WaveformStep("l1"), run.kind in ("penalty", "both")
    if penalised:
        step = PenalisedStep(step, sizes.penalty, min_megabytes=sizes.penalty_megabytes)
    optimizer, losses, began = torch.optim.Adam(model.parameters(), sizes.rate), [], time.process_time()
    torch.manual_seed(run.seed)
    for sources in process_batches(chunks, sizes.batch_size)(0):
        optimizer.zero_grad()
        found = step(model, sources)
        loss, error = (found["loss"], found["error"]) if penalised else (found, found)
        losses.append(float(error.detach()))
        if not math.isfinite(losses[-1]):
            break
        loss.backward()
        optimizer.step()
    seconds = (time.process_time() - began) / len(losses)
    with torch.no_grad():
        largest = max(float(largest_singular_value(A, "exact"))
                      for _, A in weight_matrices(model, sizes.penalty_megabytes))
    peak = max(losses[5:], default=losses[-1])
    return {"depth_logs": [{"step": number + 1, "loss": f"{value:.6g}"} for number, value in enumerate(losses)],
            "depth": [{"steps": len(losses), "first_loss": f"{losses[0]:.6g}", "peak_loss": f"{peak:.6g}",
                       "last_loss": f"{np.mean(losses[-10:]):.6g}", "largest_singular_value": f"{largest:.4g}",
                       "seconds_a_step": f"{seconds:.4f}", "parameters": sum(p.numel() for p in model.parameters()),
                       "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


EXPERIMENT = Experiment(name="hdemucs_depth", what="deeper networks at a high rate, with and without norm and penalty",
                        topic=TOPIC, stages=[all_runs, methods], run=one_run, settings=Sizes(), table="depth",
                        prepare=songs)

__all__ = ["EXPERIMENT", "KINDS", "Run", "Sizes", "deep_model"]
