"""Chapter 9's measurements on committed networks: shifts, chunks, bags, residual, two stems, looking ahead, labels.

`course experiment separating` fills data/results/09_separating_songs with a table a measurement (MEASURES), of the
networks of chapters 6 and 7 on the band's songs, mono at 22,050 Hz. Only `live` trains, two small networks for a few
steps, and measures how long each takes for a hop. A row of the table `measures` says that one has been done, and on
what.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from course_lib.data import STEMS, Track
from course_lib.data.band.soundfonts import file_sha256
from course_lib.experiments import small_masks
from course_lib.experiments.demucs import RATE, middle, rows_by_song, songs_of
from course_lib.experiments.runner import Experiment, Work
from course_lib.paths import data_dir
from course_lib.results import machine, shipped_file
from course_lib.separating import (
    FrameByFrame,
    label_levels,
    separate,
    separate_chunk,
    shared_residual,
    two_stems,
    window,
)
from course_lib.spectral import song_sdr
from course_lib.training import load_trained

TOPIC = "09_separating_songs"
NETWORKS = ("demucs_band", "hdemucs_band")
SHIFTS = (0, 1, 3)
SEGMENTS = (0.75, 1.5, 3.0, 6.0, 10.0)                     # seconds, with overlap 1/4
OVERLAPS = (0.0, 0.25, 0.5, 0.75)                     # with the network's own segment
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))      # of the first network in the bag
AHEAD = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)              # seconds
PAST, PIECE = 2.0, 0.5                                     # seconds that are heard before a piece, and of the piece
BLEED = (-20.0, -10.0, -5.0)                               # dB of the stranger against the stem
LIVE = {"one direction, short frames": 512, "one direction": 2048}   # variants of small_masks -> samples of a frame
LIVE_SIZES = small_masks.Sizes(steps=40)                   # how long a hop takes doesn't depend on the steps
HOPS, FIRST_HOPS = 400, 20                                 # that are timed, and before
SOFTEST = 1e-3                                             # root mean square of a stem that is measured


@dataclass(frozen=True)
class Sizes:
    """How many songs, and how much of each."""

    valid_songs: int = 12
    test_songs: int = 20
    ahead_songs: int = 6
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each song


@dataclass(frozen=True)
class Measure:
    """One measurement, by its name."""

    measure: str


class Given:
    """The songs' middles and the networks."""

    def __init__(self, sizes: Sizes, cache: Path):
        kept = data_dir() / "training" / "demucs"
        self.valid, self.test = (
            [middle(track, sizes.score_seconds) for track in songs_of(split, count, sizes.song_seconds, kept)]
            for split, count in (("valid", sizes.valid_songs), ("test", sizes.test_songs))
        )
        self.sizes = sizes

    @cached_property
    def models(self) -> dict[str, nn.Module]:
        return {name: load_trained(name) for name in NETWORKS}

    @cached_property
    def estimates(self) -> dict[tuple[str, str], list[Tensor]]:
        """(network, split) -> the estimates of its songs with the usual chunks."""
        return {(name, split): [separate(model, track.mixture) for track in getattr(self, split)]
                for name, model in self.models.items() for split in ("valid", "test")}


def scores(estimates: Sequence[Tensor], tracks: Sequence[Track]) -> Tensor:
    """SDR of every song and source: (song, source)."""
    return torch.stack([song_sdr(y, track.sources(STEMS)) for y, track in zip(estimates, tracks)])


def shift_rows(given: Given) -> dict[str, list[dict]]:
    """SDR by number of shifts."""
    rows = []
    for name, model in given.models.items():
        for shifts in SHIFTS:
            generator = torch.Generator().manual_seed(0)
            table = scores([separate(model, track.mixture, shifts=shifts, generator=generator) for track in given.test],
                           given.test)
            rows += rows_by_song(table, given.test, model=name, shifts=shifts)
    return {"shifts": rows}


def chunk_rows(given: Given) -> dict[str, list[dict]]:
    """SDR of the first network by length of chunks with a quarter of overlap, and by overlap with chunks of 1.5 s."""
    rows = []
    settings = [(segment, 0.25) for segment in SEGMENTS] + [(1.5, overlap) for overlap in OVERLAPS if overlap != 0.25]
    model = given.models[NETWORKS[0]]
    for segment, overlap in settings:
        table = scores([separate(model, track.mixture, segment=segment, overlap=overlap) for track in given.test],
                       given.test)
        rows += rows_by_song(table, given.test, segment=segment, overlap=overlap)
    return {"chunks": rows}


def bag_rows(given: Given) -> dict[str, list[dict]]:
    """SDR of weighted means of the two networks' estimates; weight: of the first."""
    rows = []
    for split in ("valid", "test"):
        tracks = getattr(given, split)
        first, second = (given.estimates[name, split] for name in NETWORKS)
        for weight in WEIGHTS:
            table = scores([weight * a + (1 - weight) * b for a, b in zip(first, second)], tracks)
            rows += rows_by_song(table, tracks, split=split, weight=f"{weight:g}")
    return {"bags": rows}


def residual_rows(given: Given) -> dict[str, list[dict]]:
    """SDR with the residual shared out, and of the accompaniment made in two ways."""
    tracks, estimates = given.test, given.estimates[NETWORKS[0], "test"]
    shared = [shared_residual(y, track.mixture) for y, track in zip(estimates, tracks)]
    rows = [row for kind, found in (("as they are", estimates), ("shared", shared))
            for row in rows_by_song(scores(found, tracks), tracks, kind=kind)]
    voice, pairs = STEMS.index("vocals"), []
    for y, track in zip(estimates, tracks):
        truth = (track.mixture - track.stem("vocals"))[None]
        for method in ("minus", "add", "song"):
            rest = track.mixture if method == "song" else two_stems(y, track.mixture, voice, method)[1]
            pairs.append({"method": method, "song": track.name,
                          "accompaniment": f"{song_sdr(rest[None], truth)[0]:.3f}"})
    return {"sum_to_mix": rows, "two_stems": pairs}


def heard_ahead(model: nn.Module, mixture: Tensor, ahead: float) -> Tensor:
    """Separate piece by piece, from PAST before each to `ahead` seconds after it; beyond that it hears zeros."""
    piece, past, after = (round(seconds * RATE) for seconds in (PIECE, PAST, ahead))
    starts = range(0, mixture.shape[-1], piece)
    total = past + piece + round(max(AHEAD) * RATE)
    heard = torch.stack([window(window(mixture, start - past, past + piece + after), 0, total) for start in starts])
    found = torch.cat([separate_chunk(model, part, 0, total) for part in heard.split(4)])
    pieces = found[..., past:past + piece].movedim(0, -2)                          # (source, channel, piece, time)
    return pieces.flatten(-2)[..., :mixture.shape[-1]]


def ahead_rows(given: Given) -> dict[str, list[dict]]:
    """SDR of the first network by how far ahead it hears."""
    tracks, rows = given.test[:given.sizes.ahead_songs], []
    for ahead in AHEAD:
        table = scores([heard_ahead(given.models[NETWORKS[0]], track.mixture, ahead) for track in tracks], tracks)
        rows += rows_by_song(table, tracks, ahead=f"{ahead:g}")
    return {"ahead": rows}


def label_rows(given: Given) -> dict[str, list[dict]]:
    """What the first network hears in every stem alone, and in stems that another one bleeds into.

    Rows split, song, stem (its label), stranger ("" for none), bleed_db, and a column a source: `label_levels` in dB.
    """
    rows, generator = [], torch.Generator().manual_seed(0)
    for split in ("valid", "test"):
        for track in getattr(given, split):
            sources = track.sources(STEMS)
            loud = [j for j in range(len(STEMS)) if sources[j].square().mean().sqrt() > SOFTEST]
            for j in loud:
                others = [k for k in loud if k != j]
                cases: list[tuple[str, float | None]] = [("", None)]
                if others:
                    stranger = others[int(torch.randint(len(others), (), generator=generator))]
                    cases += [(STEMS[stranger], level) for level in BLEED]
                for name, level in cases:
                    stem = sources[j] if level is None else bled(sources[j], sources[STEMS.index(name)], level)
                    found = label_levels(given.models[NETWORKS[0]], stem)
                    rows.append({"split": split, "song": track.name, "stem": STEMS[j], "stranger": name,
                                 "bleed_db": "" if level is None else f"{level:g}",
                                 **{other: f"{value:.2f}" for other, value in zip(STEMS, found.tolist())}})
    return {"labels": rows}


def live_rows(given: Given) -> dict[str, list[dict]]:
    """How long a trained network that looks back only takes for a hop, fed hop by hop, one thread.

    The networks are small_masks', the variants in LIVE. Rows variant, n_fft, delay_ms, hop_ms, and of the processor's
    time for a hop median_ms and slowest_ms (95% take less).
    """
    rows = []
    for name, n_fft in LIVE.items():
        songs = SimpleNamespace(train=given.valid)
        model, _, _ = small_masks.train(small_masks.VARIANTS[name], songs, LIVE_SIZES, seed=0)
        live, times = FrameByFrame(model), []
        sound = torch.cat([track.mixture for track in given.test], -1)
        for piece in sound.split(live.hop, -1)[:FIRST_HOPS + HOPS]:
            used = time.thread_time()
            live.push(piece)
            times.append(1000 * (time.thread_time() - used))
        kept = torch.tensor(times[FIRST_HOPS:])
        rows.append({"variant": name, "n_fft": n_fft, "delay_ms": f"{1000 * live.delay / RATE:.1f}",
                     "hop_ms": f"{1000 * live.hop / RATE:.2f}", "median_ms": f"{kept.median():.2f}",
                     "slowest_ms": f"{kept.quantile(0.95):.2f}", "hops": len(kept)})
    return {"live": rows}


def bled(stem: Tensor, stranger: Tensor, level: float) -> Tensor:
    """A stem with another one in it, `level` dB against it by energy."""
    power = lambda x: x.square().mean().sqrt()
    return stem + stranger * power(stem) / power(stranger) * 10 ** (level / 20)


MEASURES = {"bags": bag_rows, "residual": residual_rows, "labels": label_rows, "shifts": shift_rows,
            "chunks": chunk_rows, "ahead": ahead_rows, "live": live_rows}


def all_measures(work: Work) -> list[Measure]:
    """Every measurement."""
    return [Measure(name) for name in MEASURES]


def one_measure(one: Measure, work: Work) -> dict[str, list[dict]]:
    """The rows of a measurement, by table."""
    used = time.process_time()
    with torch.set_grad_enabled(one.measure == "live"):                 # which trains first
        rows = MEASURES[one.measure](work.given)
    rows["measures"] = [{"songs": work.settings.ahead_songs if one.measure == "ahead" else work.settings.test_songs,
                         "cpu_seconds": f"{time.process_time() - used:.0f}", "machine": machine(),
                         "date": time.strftime("%Y-%m-%d", time.gmtime())}]
    return rows


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"songs": f"the middle {sizes.score_seconds:g} s of {sizes.test_songs} test songs of the band, and of "
                     f"{sizes.valid_songs} valid songs, mono", "rate_hz": RATE,
            "weights": {name: file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) for name in NETWORKS},
            "score": "SDR in dB of these pieces"}


EXPERIMENT = Experiment(name="separating", what="how the committed networks are applied: shifts, chunks, bags, the "
                        "residual, looking ahead, labels of stems, live", topic=TOPIC, stages=[all_measures],
                        run=one_measure, settings=Sizes(), table="measures", prepare=Given, names=tuple(MEASURES),
                        facts=facts)

__all__ = ["AHEAD", "BLEED", "EXPERIMENT", "LIVE", "MEASURES", "Measure", "NETWORKS", "Sizes", "bled", "heard_ahead"]
