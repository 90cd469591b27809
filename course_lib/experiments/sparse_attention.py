"""Frames rebuilt from others of a recording, by dense and by sparse attention: what is lost, and what training mends.

`course experiment sparse_attention` trains chapter 8b's `FrameRetrieval` on each of librosa's recordings, with all
pairs or with one of the choices of a tenth of them, and then rebuilds the frames with every choice.
data/results/08b_sparse_attention/retrieval.csv holds a row for each training and each use.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from course_lib.data import recording
from course_lib.data.recordings import RECORDINGS
from course_lib.experiments.runner import Experiment, Work
from course_lib.results import machine
from course_lib.sparse_attention import (
    FrameRetrieval,
    attention_mask,
    block_lsh_mask,
    hash_directions,
    log_mel_frames,
    lsh_mask,
    train_retrieval,
)

TOPIC = "08b_sparse_attention"
RATE = 22050
CHOICES = ("all pairs", "hashed", "hashed blocks", "random", "window")  # for training, and afterwards for use


@dataclass(frozen=True)
class Sizes:
    """What the runs share."""

    seconds: float = 30.0
    steps: int = 120
    sparsity: float = 0.9
    block: int = 16
    draws: int = 3
    seeds: int = 2


@dataclass(frozen=True)
class Run:
    """One training: a recording, the pairs it sees, the seed."""

    recording: str
    trained: str
    seed: int


def chooser(kind: str, sizes: Sizes, seed: int) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The function of (queries, allowed) that keeps a tenth of the pairs in this way; None for all pairs.

    Each call of one that draws (hashed, random) draws anew, from a generator with this seed.
    """
    generator = torch.Generator().manual_seed(1000 + seed)

    def window(allowed: Tensor) -> Tensor:
        """The nearest allowed keys, as many as make a tenth of all pairs."""
        time_steps = len(allowed)
        for reach in range(1, time_steps):
            mask = attention_mask(time_steps, time_steps, "diag", sparse_attn_window=reach) & allowed
            if int(mask.sum()) >= (1 - sizes.sparsity) * int(allowed.sum()):
                return mask
        return allowed

    def choose(q: Tensor, allowed: Tensor) -> Tensor:
        if kind == "random":
            return (torch.rand(allowed.shape, generator=generator) > sizes.sparsity) & allowed
        if kind == "window":
            return window(allowed)
        R = hash_directions(q.shape[-1], generator=generator)
        if kind == "hashed blocks":
            return block_lsh_mask(q, q, R, sizes.sparsity, sizes.block) & allowed
        return lsh_mask(q, q, R, sizes.sparsity, allowed=allowed)

    return None if kind == "all pairs" else choose


def frames_of(name: str, sizes: Sizes) -> Tensor:
    """The first seconds of a recording (all of a shorter one) as frames, (time, mel)."""
    audio, rate = recording(name, RATE, mono=True)
    return log_mel_frames(audio[:, : round(sizes.seconds * rate)], rate)


@torch.no_grad()
def rebuilt_error(model: FrameRetrieval, frames: Tensor, kind: str, sizes: Sizes, seed: int) -> tuple[float, float]:
    """What is left of the frames' variance (0 to about 1), and the share of pairs kept, means over draws."""
    choose, errors, kept = chooser(kind, sizes, 500 + seed), [], []
    allowed = model.allowed(frames)
    for _ in range(sizes.draws if kind not in ("all pairs", "window") else 1):
        mask = allowed if choose is None else choose(model.queries(frames), allowed)
        found = model(frames, lambda q, pairs, mask=mask: mask)
        errors.append(float((found - frames).square().mean() / frames.square().mean()))
        kept.append(float(mask.sum() / allowed.sum()))
    return sum(errors) / len(errors), sum(kept) / len(kept)


def all_runs(work: Work) -> list[Run]:
    """Every recording, trained with all pairs, with hashed ones and with hashed blocks, with all seeds."""
    return [Run(name, kind, seed) for seed in range(work.settings.seeds) for name in RECORDINGS
            for kind in CHOICES[:3]]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train once, use in every way."""
    sizes = work.settings
    frames = frames_of(run.recording, sizes)
    model, losses = train_retrieval(frames, sizes.steps, chooser(run.trained, sizes, run.seed), run.seed)
    facts = {"frames": len(frames), "loss": f"{losses[-1]:.4f}", "machine": machine(),
             "date": time.strftime("%Y-%m-%d", time.gmtime())}
    rows = []
    for kind in CHOICES:
        error, kept = rebuilt_error(model, frames, kind, sizes, run.seed)
        rows.append({"used": kind, "error": f"{error:.4f}", "kept": f"{kept:.4f}", **facts})
    return {"retrieval": rows}


def nothing(sizes: Sizes, cache: Path) -> None:
    """The recordings are short: each run reads its own."""


EXPERIMENT = Experiment(name="sparse_attention", what="frames rebuilt by dense and by sparse attention", topic=TOPIC,
                        stages=[all_runs], run=one_run, settings=Sizes(), table="retrieval", prepare=nothing)

__all__ = ["CHOICES", "EXPERIMENT", "Run", "Sizes", "chooser", "frames_of", "rebuilt_error"]
