"""Chapter 9: what hearing the future, augmentation and averaged weights are worth to one small mask network.

What differs between two runs of `course experiment small_masks` is one thing (VARIANTS) and the seed; the network is a
small `JointOpenUnmix`, mono at 22,050 Hz, and learns from the songs of chapter 6's experiment
(`course_lib.experiments.demucs`) for equal steps. data/results/09_separating_songs holds a row a run (mask_runs), its
test songs (mask_songs), its loss (mask_logs), and of some runs the scores of averaged weights (averages).
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_lib.data import STEMS, Remix, Track
from course_lib.data.augmentation import Augmentation
from course_lib.experiments.demucs import RATE, Songs, rows_by_song, thinned
from course_lib.experiments.runner import Experiment, Work
from course_lib.open_unmix import JointOpenUnmix, SpectrogramStep, prepare_input, separate
from course_lib.paths import data_dir
from course_lib.results import machine
from course_lib.spectral import song_sdr
from course_lib.training import FitSettings, fit, process_batches, with_facts
from course_lib.training.schedules import cosine

TOPIC = "09_separating_songs"
DECAYS = (0.9, 0.97, 0.99, 0.997)


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    hidden: int = 128
    layers: int = 2
    batch_size: int = 8
    seconds: float = 3.0              # of a chunk
    steps: int = 400
    rate: float = 3e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0                 # largest norm of the gradient
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each valid and test song


@dataclass(frozen=True)
class Variant:
    """What differs from the base: frame, direction, remix, gain and sign, a constant rate with averaged weights."""

    n_fft: int = 2048
    one_direction: bool = False
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    augment: bool = True              # gain and sign: which of them, say the next two
    gain: bool = True
    sign: bool = True
    averages: bool = False            # no falling rate; score averages of the weights, too


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "one direction": Variant(one_direction=True),
    "short frames": Variant(n_fft=512),
    "one direction, short frames": Variant(n_fft=512, one_direction=True),
    "without augmentation": Variant(remix=0.0, augment=False),
    "without remix": Variant(remix=0.0),
    "without gain and sign": Variant(augment=False),
    "without gain": Variant(gain=False),
    "without sign": Variant(sign=False),
    "remix always": Variant(remix=1.0),
    "constant rate": Variant(averages=True),
}
SEEDS = (0, 1)


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


def shared_songs(sizes: Sizes, cache: Path) -> Songs:
    """The songs of the three splits, those of chapter 6's experiment, kept in its place."""
    return Songs(sizes, data_dir() / "training" / "demucs")


class AveragedOnTheWay:
    """A training step that also keeps moving averages of the model's weights, one a decay.

    Called like the step that it wraps; the weights it sees are those after the update before.
    """

    def __init__(self, step: SpectrogramStep, decays: Sequence[float]):
        self.step, self.decays, self.models = step, decays, []

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        if not self.models:
            self.models = [AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
                           for decay in self.decays]
        for average in self.models:
            average.update_parameters(model)
        return self.step(model, sources)


def new_model(variant: Variant, sizes: Sizes, seed: int) -> JointOpenUnmix:
    """The network of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    model = JointOpenUnmix(variant.n_fft // 2 + 1, 1, sizes.hidden, sizes.layers, variant.one_direction, dropout=0.0)
    return with_facts(model, rate=RATE, stems=STEMS, n_fft=variant.n_fft, hop_length=variant.n_fft // 4)


def changes(variant: Variant) -> Augmentation | None:
    """What is done to the stems of a chunk; swapped channels change nothing in mono songs."""
    if not variant.augment:
        return None
    usual = Augmentation()
    return Augmentation(usual.gain if variant.gain else (1.0, 1.0), usual.flip if variant.sign else 0.0)


def train(variant: Variant, songs: Songs, sizes: Sizes, seed: int) -> tuple[JointOpenUnmix, AveragedOnTheWay, list]:
    """Train a new network; return it in eval mode, its averages and its log."""
    model = new_model(variant, sizes, seed)
    prepare_input(model, songs.train)
    chunks = Remix(songs.train, sizes.seconds, sizes.steps * sizes.batch_size, seed,
                   augment=changes(variant), share=variant.remix)
    step = AveragedOnTheWay(SpectrogramStep(), DECAYS if variant.averages else ())
    falling = cosine(sizes.steps, sizes.warmup, 1.0 if variant.averages else 0.05)
    history = fit(model, step, process_batches(chunks, sizes.batch_size),
                  torch.optim.Adam(model.parameters(), sizes.rate), FitSettings(sizes.steps, clip=sizes.clip),
                  schedule=falling, progress=False)
    return model.eval(), step, history.steps


@torch.no_grad()
def sdr_table(model: JointOpenUnmix, tracks: Sequence[Track]) -> Tensor:
    """SDR of every song and source: (song, source)."""
    return torch.stack([song_sdr(separate(model, track.mixture), track.sources(STEMS)) for track in tracks])


def average_rows(averages: AveragedOnTheWay, like: JointOpenUnmix, tracks: Sequence[Track]) -> list[dict]:
    """The scores of the averaged weights: rows decay, song, stems."""
    rows, model = [], copy.deepcopy(like)
    for decay, average in zip(averages.decays, averages.models):
        model.load_state_dict(average.module.state_dict())
        rows += rows_by_song(sdr_table(model.eval(), tracks), tracks, decay=decay)
    return rows


# ------------------------------------------------------------------------------------------------------------ the runs


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds."""
    return [Run(variant, seed) for variant in VARIANTS for seed in SEEDS]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs, variant = work.settings, work.given, VARIANTS[run.variant]
    used = time.process_time()
    model, averages, log = train(variant, songs, sizes, run.seed)
    cpu_seconds = time.process_time() - used
    valid, test = (sdr_table(model, tracks) for tracks in (songs.valid, songs.test))
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    rows = {"mask_logs": thinned(log), "mask_songs": rows_by_song(test, songs.test)}
    if variant.averages:
        rows["averages"] = [{"decay": 0, **row} for row in rows["mask_songs"]]
        rows["averages"] += average_rows(averages, model, songs.test)
    rows["mask_runs"] = [{
        "steps": len(log), "valid_sdr": f"{valid.nanmean(0).mean():.3f}", "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
        "parameters": sum(p.numel() for p in model.parameters()), "cpu_seconds": f"{cpu_seconds:.1f}",
        "songs": len(test), "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]
    print(f"  valid {valid.nanmean(0).mean():.3f}, test {stems.mean():.3f} dB, {cpu_seconds:.0f} s", flush=True)
    return rows


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on the middle "
                          f"{sizes.score_seconds:g} s of {sizes.test_songs} test songs", "rate_hz": RATE,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "score": "SDR in dB of these pieces, mean over songs, then over stems"}


EXPERIMENT = Experiment(name="small_masks", what="a small mask network: looking ahead, augmentation, averaged weights",
                        topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(), table="mask_runs",
                        prepare=shared_songs, names=tuple(VARIANTS), facts=facts)

__all__ = ["AveragedOnTheWay", "DECAYS", "EXPERIMENT", "Run", "SEEDS", "Sizes", "TOPIC", "VARIANTS", "Variant",
           "average_rows", "new_model", "sdr_table", "train"]
