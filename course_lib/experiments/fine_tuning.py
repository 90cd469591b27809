"""What it is worth to begin with a trained network: chapter 9's four stems to six, beside equal steps from scratch.

`course experiment fine_tuning` trains the network of `demucs_band` with six outputs on the band's train songs, whose
guitar and piano are stems of their own: from its weights, with outputs that begin as `course_lib.training.fine_tuning`
says, and from weights that are drawn, each with two seeds. data/results/09_separating_songs holds a row a run
(fine_runs) and its test songs (fine_songs), and the same for the networks before: `demucs_band` with its four stems,
and with six as they begin.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.data import SIX_STEMS, STEMS, Remix, Track, open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.mono import mono_tracks
from course_lib.data.tracks import PARTS_OF_OTHER
from course_lib.demucs import WaveformStep, separate
from course_lib.experiments.demucs import RATE, middle, songs_of
from course_lib.experiments.runner import Experiment, Work
from course_lib.paths import data_dir
from course_lib.results import machine, shipped_file
from course_lib.spectral import song_sdr
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.fine_tuning import begin, open_checkpoint
from course_lib.training.named import use
from course_lib.training.schedules import cosine

TOPIC = "09_separating_songs"
START = "demucs_band"
FOUR, BEGUN = "four stems", "as it begins"
FINE_TUNED, SCRATCH = "fine-tuned", "from scratch"
KINDS = (FINE_TUNED, SCRATCH)
SOFTEST = 1e-3                                              # root mean square of a stem that is scored
WHOLE = "whole_other"                                       # other, guitar and piano added, as the four stems have it
COLUMNS = (*SIX_STEMS, WHOLE)


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    steps: int = 400
    rate: float = 1e-3                # Adam's, that of `course train demucs_band`, by a cosine to a twentieth of it
    warmup: int = 20
    batch_size: int = 4
    seconds: float = 1.5              # of a chunk, before it is lengthened to a valid length
    clip: float = 5.0                 # largest norm of the gradient
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    seeds: int = 2
    train_songs: int = 60
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each test song


@dataclass(frozen=True)
class Run:
    """One network: how it came to its weights (KINDS, or FOUR and BEGUN before any step), the seed."""

    kind: str
    seed: int


@dataclass(frozen=True)
class Given:
    """The train songs and the middles of the test songs, with six stems."""

    train: Sequence[Track]
    test: Sequence[Track]


def six_stem_songs(split: str, count: int, seconds: float, cache: Path) -> list[Track]:
    """The first songs of a split of the band, mono at RATE, with guitar and piano beside `other`, which holds them."""
    four = songs_of(split, count, seconds, data_dir() / "training" / "demucs")
    parts = mono_tracks(lambda: open_tracks("band", split, count=count), RATE, seconds,
                        cache / f"{split}_{count}_guitar_piano_{seconds:g}s_{RATE}Hz.npy", PARTS_OF_OTHER)
    if [track.name for track in four] != [track.name for track in parts]:
        raise ValueError(f"the songs in {cache.name} are not those in demucs; expected the same, in the same order: "
                         "remove what is kept there")
    return [Track.from_tensors(one.name, RATE, {**{stem: one.stem(stem) for stem in STEMS},
                                                **{stem: other.stem(stem) for stem in PARTS_OF_OTHER}})
            for one, other in zip(four, parts)]


def prepare(sizes: Sizes, cache: Path) -> Given:
    """The songs; their guitars and pianos are kept for this experiment, the rest beside those of chapter 6's."""
    train, test = (six_stem_songs(split, count, sizes.song_seconds, cache)
                   for split, count in (("train", sizes.train_songs), ("test", sizes.test_songs)))
    return Given(train, [middle(track, sizes.score_seconds) for track in test])


def new_model(kind: str, seed: int) -> nn.Module:
    """The network of a kind before its first step: with six outputs, or for FOUR as it comes with the course."""
    if kind == FOUR:
        return load_trained(START)
    checkpoint = open_checkpoint({"trained": START})
    part = {**checkpoint.part, "sources": list(SIX_STEMS)}
    torch.manual_seed(seed)
    model = use(part)
    if kind != SCRATCH:
        begin(model, part, checkpoint)
    return model


def train(model: nn.Module, given: Given, sizes: Sizes, seed: int) -> nn.Module:
    """A network after its steps, in eval mode."""
    seconds = model.valid_length(round(sizes.seconds * RATE)) / RATE
    chunks = Remix(given.train, seconds, sizes.steps * sizes.batch_size, seed, SIX_STEMS, len(SIX_STEMS),
                   augment=Augmentation(), share=sizes.remix)
    fit(model.train(), WaveformStep("l1"), process_batches(chunks, sizes.batch_size),
        torch.optim.Adam(model.parameters(), sizes.rate), FitSettings(sizes.steps, clip=sizes.clip),
        schedule=cosine(sizes.steps, min(sizes.warmup, sizes.steps), 0.05), progress=False)
    return model.eval()


@torch.no_grad()
def score(model: nn.Module, track: Track) -> dict[str, float]:
    """SDR in dB of each of COLUMNS; NaN for a stem softer than SOFTEST, or that the network does not give."""
    estimates = separate(model, track.mixture)
    found = dict.fromkeys(COLUMNS, float("nan"))
    six = len(model.sources) > len(STEMS)
    whole = sum(estimates[model.sources.index(name)] for name in (("other", *PARTS_OF_OTHER) if six else ("other",)))
    found[WHOLE] = float(song_sdr(whole[None], track.stem("other")[None]))
    names = [name for name in model.sources if six or name != "other"]          # four stems: `other` is the whole
    picked = torch.stack([estimates[model.sources.index(name)] for name in names])
    truth: Tensor = track.sources(list(model.sources))
    truth = torch.stack([truth[model.sources.index(name)] for name in names])
    loud = truth.square().mean((1, 2)).sqrt() > SOFTEST        # what is left of `other` may be rounding only
    found.update((name, value) for name, value, heard in zip(names, song_sdr(picked, truth).tolist(), loud) if heard)
    return found


def all_runs(work: Work) -> list[Run]:
    """The networks before, then every kind with every seed."""
    return [Run(FOUR, 0), Run(BEGUN, 0), *(Run(kind, seed) for seed in range(work.settings.seeds) for kind in KINDS)]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, given, used = work.settings, work.given, time.process_time()
    model, learns = new_model(run.kind, run.seed).eval(), run.kind in KINDS
    model = train(model, given, sizes, run.seed) if learns else model
    seconds = time.process_time() - used
    songs = [{"song": track.name, **{name: f"{value:.3f}" for name, value in score(model, track).items()}}
             for track in given.test]
    means = {name: torch.tensor([float(row[name]) for row in songs]).nanmean() for name in COLUMNS}
    print(f"  {run.kind}:", *(f"{name} {value:.2f}" for name, value in means.items()), f"{seconds:.0f} s", flush=True)
    return {"fine_songs": songs, "fine_runs": [{
        "steps": sizes.steps if learns else 0, **{f"test_{name}": f"{value:.3f}" for name, value in means.items()},
        "cpu_seconds": f"{seconds:.0f}", "songs": len(songs),
        "weights": "" if run.kind == SCRATCH else file_sha256(shipped_file(f"checkpoints/{START}.safetensors")),
        "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"start": START, "rate_hz": RATE, "sources": list(SIX_STEMS),
            "trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on the middle "
                          f"{sizes.score_seconds:g} s of {sizes.test_songs} test songs",
            "score": "SDR in dB of these pieces, mean over songs in which the stem sounds, without shifts; "
                     "whole_other: other, guitar and piano added"}


EXPERIMENT = Experiment(name="fine_tuning", what="four stems to six, from a trained network and from scratch",
                        topic=TOPIC, stages=[all_runs], run=one_run, settings=Sizes(), table="fine_runs",
                        prepare=prepare, names=(FOUR, BEGUN, *KINDS), facts=facts)

__all__ = ["BEGUN", "COLUMNS", "EXPERIMENT", "FINE_TUNED", "FOUR", "Given", "KINDS", "Run", "SCRATCH",
           "Sizes", "new_model", "prepare", "score", "six_stem_songs", "train"]
