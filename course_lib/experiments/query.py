"""Chapter 20's network that is asked: its songs, its questions, and what it answers.

A question is a tag or an example: the embedding, by chapter 13's `tagger_band`, of five seconds of an instrument from
another song. KNOWN tags are asked in training. Brass, winds and what has no tag at all (organ, mallets, banjo, ...) are
never asked, never an example, and never sound in a training mixture: songs in which one of them plays alone in its
source are set aside (`set_aside`), of all others that source is left out. What the separator makes of them is what it
makes of instruments it has never heard; the tagger has heard brass and winds, but not those without a tag.

`course train query_band` trains the network that comes with the course on `training_questions`. `course experiment
query` measures it, and trains small ones that differ in where the condition comes in, or in what they are asked by.
data/results/20_query holds a row a part, method and seed (runs); a row an excerpt with SDRi and SI-SDRi in dB above the
mixture (excerpts); the level against the mixture of answers to questions for what isn't there (absent); chapter 14's
excerpts, asked (tagbox); what is heard between two questions (between); examples in the plane (embeddings); and the
ablations' songs (ablations).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.data import Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import FIRST_FREE_SEED, SPLITS
from course_lib.data.band.soundfonts import file_sha256, find_fluid_soundfont
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.data.tracks import SIX_STEMS, STEMS
from course_lib.demucs import center_trim
from course_lib.experiments import tagbox as chapter_14
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import separate_song
from course_lib.experiments.taggers import (
    FRAME,
    LEAST,
    RATE,
    SONG_SECONDS,
    TaggedSongs,
    activity,
    tagged_songs,
    tags_of,
    tilted,
)
from course_lib.metrics import sdr, si_sdr
from course_lib.paths import data_dir
from course_lib.query import (
    QueryStep,
    QueryUnmix,
    ask,
    between,
    condition_of,
    draw_example,
    embed_example,
    mixture_and_target,
    rms,
    tag_vector,
)
from course_lib.results import machine, shipped_file
from course_lib.separating import load_separator
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, stft
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

TOPIC, OURS, TAGGER = "20_query", "query_band", "tagger_band"
KNOWN = ("drums", "bass", "vocals", "guitar", "piano", "strings", "synth")
UNSEEN = ("brass", "winds", "no tag")                       # what a set-aside song plays alone in its source "other"
REST = SIX_STEMS.index("other")
MORE = 100                                                  # songs after those of the taggers
HEARD = 0.01                                                # RMS of a source that counts as sounding
EXAMPLE_SECONDS = 5.0
# how often a tag is chosen among those that sound: what is rare in the band is asked more often where it is
WEIGHTS = {"drums": 1.0, "bass": 1.0, "vocals": 1.0, "guitar": 1.5, "piano": 2.0, "strings": 3.0, "synth": 3.0}


# ------------------------------------------------------------------------------------------------------------ the songs


@dataclass(frozen=True)
class Source:
    """One source of a song: the tags that play in it, or "no tag" for a part without any; `asked`, the one tag that
    it can be asked by, "" for none; `clean`: nothing unseen plays in it."""

    tags: frozenset[str]
    asked: str
    clean: bool


def sources_of(seed: int, seconds: float = SONG_SECONDS) -> list[Source]:
    """What plays in each of SIX_STEMS of the band's song of a seed."""
    parts = compose(seed, seconds).parts
    found = []
    for stem in SIX_STEMS:
        names = [tags_of(part) or ["no tag"] for part in parts if part.six_stem == stem]
        tags = frozenset(tag for tags in names for tag in tags)
        asked = stem if stem in KNOWN and names else next(iter(tags)) if len(tags) == 1 else ""
        found.append(Source(tags, asked if asked in KNOWN else "", not tags & set(UNSEEN)))
    return found


def unseen_in(sources: Sequence[Source]) -> str:
    """What a song is set aside for: the kind of UNSEEN that plays alone in its source "other", or ""."""
    tags = sources[REST].tags
    return next(iter(tags)) if len(tags) == 1 and tags <= set(UNSEEN) else ""


@dataclass(frozen=True)
class QuerySongs:
    """Songs with what plays in them: mono tracks of SIX_STEMS at RATE, their sources, and (song, source, tag, frame)
    of what plays when."""

    tracks: Sequence[Track]
    sources: Sequence[Sequence[Source]]
    playing: Tensor

    def chosen(self, wanted: Sequence[bool]) -> "QuerySongs":
        """Those of the songs that are wanted."""
        places = [n for n, yes in enumerate(wanted) if yes]
        return QuerySongs([self.tracks[n] for n in places], [self.sources[n] for n in places], self.playing[places])

    def set_aside(self) -> "QuerySongs":
        """The songs in which something unseen plays alone in its source."""
        return self.chosen([bool(unseen_in(sources)) for sources in self.sources])

    def learnt(self) -> "QuerySongs":
        """All other songs."""
        return self.chosen([not unseen_in(sources) for sources in self.sources])


def with_sources(songs: TaggedSongs, seeds: Sequence[int]) -> QuerySongs:
    return QuerySongs(songs.tracks, [sources_of(seed) for seed in seeds], songs.playing)


def split_songs(split: str, count: int | None = None, soundfont: Path | None = None) -> QuerySongs:
    """The first songs of a split of the band, of those kept for chapter 13's taggers."""
    songs = tagged_songs(split, count, soundfont, data_dir() / "training" / "taggers")
    first = SPLITS[split][0] if split in SPLITS else FIRST_FREE_SEED
    return with_sources(songs, range(first, first + len(songs.tracks)))


def more_songs(count: int = MORE, after: int = 100) -> QuerySongs:
    """Songs that belong to no split, after those of the taggers; kept in data/training/query."""
    seeds = range(FIRST_FREE_SEED + after, FIRST_FREE_SEED + after + count)
    file = data_dir() / "training" / "query" / f"further_{seeds[0]}_{seeds[-1] + 1}_{SONG_SECONDS:g}s_{RATE}Hz.npy"
    tracks = mono_tracks(lambda: open_tracks("band", "further", seeds=seeds), RATE, SONG_SECONDS, file, SIX_STEMS)
    playing = torch.stack([activity(compose(seed, SONG_SECONDS)) for seed in seeds])
    return with_sources(TaggedSongs(tracks, playing), seeds)


def mixture_of(track: Track, start: int, length: int) -> Tensor:
    """All six sources of a song together, (time,). (A track's own mixture has guitar and piano in "other".)"""
    return sum(track.read(stem, start, length)[0] for stem in SIX_STEMS)


def joined(*songs: QuerySongs) -> QuerySongs:
    return QuerySongs([track for one in songs for track in one.tracks],
                      [sources for one in songs for sources in one.sources], torch.cat([one.playing for one in songs]))


# --------------------------------------------------------------------------------------------------------- the examples


@dataclass(frozen=True)
class Bank:
    """Embeddings of examples, (example, feature), with the tag and the song's name of each."""

    embeddings: Tensor
    tags: Sequence[str]
    songs: Sequence[str]

    def draw(self, tag: str, song: str, generator: torch.Generator) -> Tensor:
        """An embedding of a tag from another song."""
        return self.embeddings[draw_example(self.tags, self.songs, tag, song, generator)]

    def of(self, tag: str) -> Tensor:
        """All embeddings of a tag."""
        return self.embeddings[[one == tag for one in self.tags]]


def examples_in(songs: QuerySongs, kinds: Sequence[str] = KNOWN) -> Bank:
    """Five-second pieces of single instruments in which they sound, embedded by TAGGER. kinds: KNOWN tags, by what a
    source can be asked by, or UNSEEN ones."""
    tagger = load_trained(TAGGER).requires_grad_(False)
    length, rows = round(EXAMPLE_SECONDS * RATE), []
    for track, sources in zip(songs.tracks, songs.sources):
        for stem, source in zip(SIX_STEMS, sources):
            kind = unseen_in(sources) if stem == "other" and not source.asked else source.asked
            for start in range(0, track.frames - length + 1, length) if kind in kinds else ():
                piece = track.read(stem, start, length)[0]
                if float(rms(piece)) >= HEARD:
                    rows.append((embed_example(tagger, piece), kind, track.name))
    return Bank(torch.stack([row[0] for row in rows]), [row[1] for row in rows], [row[2] for row in rows])


def kept_examples(songs: QuerySongs, name: str) -> Bank:
    """`examples_in`, kept in data/training/query under a name."""
    file = data_dir() / "training" / "query" / f"examples_{name}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        bank = examples_in(songs)
        unfinished = file.with_suffix(".part.npz")
        np.savez(unfinished, embeddings=bank.embeddings.numpy(), tags=bank.tags, songs=bank.songs)
        unfinished.replace(file)
    kept = np.load(file)
    return Bank(torch.from_numpy(kept["embeddings"]), kept["tags"].tolist(), kept["songs"].tolist())


# -------------------------------------------------------------------------------------------------------- the questions


class Questions(Dataset):
    """`length` mixtures with questions to each: item i is a pure function of (seed, i).

    An item: mixture (time,), targets (question, time), tags (question, tag), examples (question, 2, feature), their
    weights (question, 2), by_example (question,). seconds: of a mixture. questions: to each. remix: share of mixtures
    whose sources come each from another song. keep: chance of each source. absent, two: chance that one of a mixture's
    questions is for something that isn't there, or for two instruments at once. by_example: share of questions that are
    asked by example.
    """

    def __init__(self, songs: QuerySongs, bank: Bank, length: int, seed: int, seconds: float = 3.0, questions: int = 4,
                 remix: float = 0.5, keep: float = 0.6, absent: float = 0.15, two: float = 0.25,
                 by_example: float = 0.5):
        self.songs, self.bank, self.length, self.seed = songs, bank, length, seed
        self.seconds, self.questions, self.remix, self.keep = seconds, questions, remix, keep
        self.absent, self.two, self.by_example = absent, two, by_example
        self.rate = RATE
        self.usable = [[n for n, sources in enumerate(songs.sources) if sources[place].tags and sources[place].clean]
                       for place in range(len(SIX_STEMS))]
        self.of_tag: dict[str, list[int]] = {}
        for n, tag in enumerate(bank.tags):
            self.of_tag.setdefault(tag, []).append(n)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} asked; there are {self.length}, counted from 0")
        generator = chunk_generator(self.seed, index)
        draw = lambda: float(torch.rand((), generator=generator))                             # noqa: E731
        pick = lambda places: places[int(draw() * len(places))]                               # noqa: E731
        frames = round(self.seconds / FRAME)
        begin = lambda: int(draw() * (self.songs.playing.shape[-1] - frames + 1))             # noqa: E731
        together, song, start = draw() >= self.remix, pick(range(len(self.songs.tracks))), begin()
        pieces, asked, present = [], [], set()
        for place in range(len(SIX_STEMS)):
            at, first = (song, start) if together else (pick(self.usable[place]), begin())
            gain, slope = 10 ** ((draw() * 15 - 9) / 20), draw() * 1.2 - 0.5
            if draw() > self.keep or at not in self.usable[place]:
                continue
            source, track = self.songs.sources[at][place], self.songs.tracks[at]
            piece = track.read(SIX_STEMS[place], round(first * FRAME * RATE), round(self.seconds * RATE))[0]
            pieces.append(tilted(piece, slope) * gain)
            long_enough = bool(self.songs.playing[at, place, :, first:first + frames].any(0).sum() * FRAME >= LEAST)
            asked.append((source.asked if long_enough else "", track.name))
            present |= source.tags
        if not pieces:
            pieces, asked = [torch.zeros(round(self.seconds * RATE))], [("", "")]
        asks = self.drawn([tag for tag, _ in asked], present, generator)
        return self.answered(torch.stack(pieces), asked, asks, generator)

    def drawn(self, names: Sequence[str], present: set[str], generator: torch.Generator) -> list[tuple[list[int], str]]:
        """The questions to a mixture whose sources can be asked by `names` ("": can't): each the sources that answer
        it, and the tag of what isn't there, where none does. present: all tags that sound."""
        draw = lambda: float(torch.rand((), generator=generator))                             # noqa: E731
        there = [n for n, tag in enumerate(names) if tag and names.count(tag) == 1]
        missing = [tag for tag in KNOWN if tag not in present] or list(KNOWN[:1] if not there else [])
        order = []
        if there:
            weights = torch.tensor([WEIGHTS[names[n]] for n in there])
            order = [there[n] for n in torch.multinomial(weights, len(there), generator=generator).tolist()]
        asks: list[tuple[list[int], str]] = [([n], "") for n in order[:self.questions]]
        if draw() < self.two and len(order) > 1:
            asks[0] = (order[:2], "")
        absent = draw() < self.absent or not asks
        if absent and missing:
            asks = [*asks[:self.questions - 1], ([], missing[int(draw() * len(missing))])]
        while len(asks) < self.questions:
            asks.append(asks[int(draw() * len(asks))])
        return asks

    def answered(self, pieces: Tensor, asked: Sequence[tuple[str, str]], asks: Sequence[tuple[list[int], str]],
                 generator: torch.Generator) -> tuple[Tensor, ...]:
        """An item: the mixture of pieces (source, time), and the questions with answers and with examples from other
        songs. asked: the tag and the song of each piece."""
        targets, tags = [], []
        examples, weights = torch.zeros(len(asks), 2, self.bank.embeddings.shape[1]), torch.zeros(len(asks), 2)
        for row, (places, missing) in enumerate(asks):
            wanted = torch.zeros(len(pieces), dtype=torch.bool)
            wanted[places] = True
            mixture, target = mixture_and_target(pieces, wanted)
            names = [asked[n] for n in places] or [(missing, "")]
            for n, (tag, song) in enumerate(names):
                examples[row, n], weights[row, n] = self._example(tag, song, generator), 1.0
            targets.append(target)
            tags.append(tag_vector([tag for tag, _ in names], KNOWN))
        by_example = (torch.rand(len(asks), generator=generator) < self.by_example).float()
        return mixture, torch.stack(targets), torch.stack(tags), examples, weights, by_example

    def _example(self, tag: str, song: str, generator: torch.Generator) -> Tensor:
        """`Bank.draw`, faster: rows of the tag are known already."""
        rows = self.of_tag[tag]
        n = draw_example([tag] * len(rows), [self.bank.songs[row] for row in rows], tag, song, generator)
        return self.bank.embeddings[rows[n]]


def training_songs() -> QuerySongs:
    """The songs that the course's network learns from: train songs and 200 others, without those set aside."""
    return joined(split_songs("train"), split_songs("further", 100), more_songs()).learnt()


def training_questions(seed: int, length: int, **options) -> Questions:
    """The training data of `course train query_band`; options: of `Questions`."""
    songs = training_songs()
    return Questions(songs, kept_examples(songs, "train"), length, seed, **options)


@torch.no_grad()
def prepare(model: QueryUnmix, data: Questions, count: int = 64) -> None:
    """Scale what the network sees: mean and deviation of each bin and of each number of an embedding."""
    spectra = stft(torch.stack([data[n][0] for n in range(count)]), model.n_fft, model.hop_length)
    seen = model.seen(spectra)                                                            # (chunk, frame, bin)
    model.input_mean.copy_(seen.mean((0, 1)))
    model.input_scale.copy_(1 / seen.std((0, 1)).clamp_min(1e-3))
    model.query.mean.copy_(data.bank.embeddings.mean(0))
    model.query.deviation.copy_(data.bank.embeddings.std(0).clamp_min(1e-3))


# ----------------------------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True)
class Excerpt:
    """A piece of a song with a question's answer: mixture and target (time,), the tag, and the song's name."""

    song: str
    tag: str
    mixture: Tensor
    target: Tensor
    start: float


def excerpts_of(songs: QuerySongs, kinds: Sequence[str] = KNOWN, seconds: float = 5.0,
                each: int = 2) -> list[Excerpt]:
    """Of every song and kind the `each` pieces in which the target is loudest, of `seconds`, on a grid; pieces in which
    it is softer than HEARD are left out. The mixture is all of the song."""
    found = []
    for track, sources in zip(songs.tracks, songs.sources):
        length = round(seconds * RATE)
        for stem, source in zip(SIX_STEMS, sources):
            kind = unseen_in(sources) if stem == "other" and not source.asked else source.asked
            if kind not in kinds or sum(kind in one.tags for one in sources) != 1:
                continue
            starts = range(0, track.frames - length + 1, length)
            levels = {start: float(rms(track.read(stem, start, length)[0])) for start in starts}
            for start in sorted(sorted(levels, key=levels.get)[-each:]):
                if levels[start] >= HEARD:
                    found.append(Excerpt(track.name, kind, mixture_of(track, start, length),
                                         track.read(stem, start, length)[0], start / RATE))
    return found


@dataclass(frozen=True)
class Held:
    """Excerpts to score on, and examples to ask by."""

    excerpts: Sequence[Excerpt]
    bank: Bank


def valid_questions(seconds: float = 5.0) -> Held:
    """Pieces of the valid songs, and the examples of training: of the rare tags there is one valid song only."""
    return Held(excerpts_of(split_songs("valid"), seconds=seconds), kept_examples(training_songs(), "train"))


@torch.no_grad()
def query_scores(model: nn.Module, data: Held) -> dict[str, float]:
    """SDRi in dB, means over tags: `both` (first), asked by tags, asked by one example from another song; and of each
    tag, asked either way."""
    query, table = model.query, {"tags": {}, "examples": {}}
    generator = torch.Generator().manual_seed(0)
    for one in data.excerpts:
        example = data.bank.draw(one.tag, one.song, generator)
        c = torch.stack([query.of_tags(tag_vector(one.tag, model.tags)), query.of_example(example)])
        found = model(one.mixture[None, None], c[None])[0, :, 0]
        gain = sdr(found, one.target.expand(2, -1)) - sdr(one.mixture, one.target)
        for kind, value in zip(table, gain.tolist()):
            table[kind].setdefault(one.tag, []).append(value)
    means = {kind: {tag: float(np.mean(values)) for tag, values in tags.items()} for kind, tags in table.items()}
    scores = {kind: float(np.mean(list(tags.values()))) for kind, tags in means.items()}
    by_tag = {tag: (means["tags"][tag] + means["examples"][tag]) / 2 for tag in means["tags"]}
    return {"both": (scores["tags"] + scores["examples"]) / 2, **scores, **by_tag}


# -------------------------------------------------------------------------------------------------------------- methods

TAG, EXAMPLE, WRONG, WRONG_EXAMPLE = "tag", "example", "wrong tag", "example of another"
SILENCE, MIXTURE, IDEAL = "silence", "mixture", "ideal ratio mask"
STEM_MODELS = {"Open-Unmix": "open_unmix_band", "HT Demucs": "htdemucs_band"}
TEST, FONT, ASIDE = "test songs", "another soundfont", "unseen instruments"
ABSENT, CHAPTER_14, BETWEEN, ABLATION, EMBEDDING = "absent", "chapter 14", "between", "ablation", "embeddings"
PAIRS = (("drums", "bass"), ("vocals", "bass"), ("guitar", "drums"))       # of questions, to go from one to the other
CHANGES = {                                                 # of the ablations: what is other than in the first
    "FiLM behind the LSTM": {}, "FiLM at the bottleneck only": {"where": "bottleneck"},
    "FiLM at every place": {"where": "every"}, "FiLM in front of the LSTM": {"where": "first"},
    "concatenation": {"where": "concatenation"},
    "asked by tags only": {"kinds": "tags"}, "asked by examples only": {"kinds": "examples"},
    "floor of 30 dB": {"floor": 1e-3},
}
SEEDS = (0, 1)


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    test_songs: int = 20
    seconds: float = 5.0              # of an excerpt
    each: int = 4                     # excerpts of a song and instrument, at most
    examples: int = 1                 # that ask, of one song each
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    hidden_size: int = 96             # of the ablations' networks
    steps: int = 400
    batch_size: int = 8
    rate: float = 3e-3


@dataclass(frozen=True)
class Run:
    """What is measured, by which method, and the seed of a training."""

    part: str
    method: str
    seed: int = 0


class Given:
    """Songs and networks that the runs share, each made when it is first asked for."""

    def __init__(self, sizes: Sizes, cache: Path):
        self.sizes = sizes
        self.stems: dict[tuple, Tensor] = {}               # what fixed-stem models gave, by model, part and mixture

    @cached_property
    def model(self) -> QueryUnmix:
        return load_trained(OURS).requires_grad_(False)

    @cached_property
    def learnt(self) -> QuerySongs:
        return training_songs()

    @cached_property
    def bank(self) -> Bank:
        return kept_examples(self.learnt, "train")

    @cached_property
    def valid_bank(self) -> Bank:
        return kept_examples(split_songs("valid"), "valid")

    def songs(self, part: str) -> QuerySongs:
        """The songs of a part."""
        if part == ASIDE:
            every = [split_songs("train"), split_songs("further", 100), more_songs(), split_songs("valid")]
            return joined(*every, split_songs("test", self.sizes.test_songs)).set_aside()
        return split_songs("test", self.sizes.test_songs, find_fluid_soundfont() if part == FONT else None)

    @cached_property
    def held(self) -> dict[str, "Held"]:
        return {}

    def held_of(self, part: str) -> "Held":
        """Excerpts of a part, with the examples that ask for them: from its own songs, and from valid songs, for some
        tags are rare; of known tags, to ask wrongly for what was set aside, the training examples."""
        if part not in self.held:
            songs, kinds = self.songs(part), UNSEEN if part == ASIDE else KNOWN
            bank, more = examples_in(songs, kinds), self.bank if part == ASIDE else self.valid_bank
            bank = Bank(torch.cat([bank.embeddings, more.embeddings]), [*bank.tags, *more.tags],
                        [*bank.songs, *more.songs])
            self.held[part] = Held(excerpts_of(songs, kinds, self.sizes.seconds, self.sizes.each), bank)
        return self.held[part]


def question(method: str, one: Excerpt, given: Given, bank: Bank, generator: torch.Generator) -> Tensor:
    """The condition that a method asks an excerpt by."""
    others = [tag for tag in KNOWN if tag != one.tag]
    if method == TAG:
        return condition_of(given.model, one.tag)
    if method == WRONG:
        return condition_of(given.model, others[int(torch.randint(len(others), (), generator=generator))])
    tag = one.tag
    if method == WRONG_EXAMPLE:
        tag = others[int(torch.randint(len(others), (), generator=generator))]
    return condition_of(given.model, example=bank.draw(tag, one.song, generator))


def ideal(target: Tensor, mixture: Tensor, n_fft: int = 1024) -> Tensor:
    """The ideal ratio mask's estimate of a target (time,), with the STFT of the network."""
    S = stft(torch.stack([target, mixture - target])[:, None], n_fft, n_fft // 2)
    return istft(apply_mask(ideal_ratio_mask(S, 2.0), S.sum(0)), n_fft, n_fft // 2, length=len(target))[0, 0]


def stem_of(tag: str) -> int:
    """The stem of a four-stem model in which an instrument is."""
    return STEMS.index(tag if tag in STEMS else "other")


def estimate(method: str, one: Excerpt, given: Given, part: str, generator: torch.Generator) -> Tensor:
    """What a method makes of an excerpt, (time,)."""
    if method == SILENCE:
        return torch.zeros_like(one.mixture)
    if method == MIXTURE:
        return one.mixture
    if method == IDEAL:
        return ideal(one.target, one.mixture)
    if method in STEM_MODELS:
        key = (method, part, one.song, one.start)
        if key not in given.stems:
            separator = given.stems.setdefault((method,), load_separator(STEM_MODELS[method]))
            with torch.no_grad():
                given.stems[key] = separate_song(separator, one.mixture[None], RATE)[:, 0]
        return given.stems[key][stem_of(one.tag)]
    c = question(method, one, given, given.held_of(part).bank, generator)
    return ask(given.model, one.mixture[None], c)[0]


def gains(found: Tensor, target: Tensor, mixture: Tensor) -> dict[str, str]:
    """SDR and SDRi, SI-SDRi in dB; the last is empty for silence, which has none."""
    value, level = si_sdr(found, target) - si_sdr(mixture, target), sdr(found, target)
    return {"sdr": f"{float(level):.3f}", "sdri": f"{float(level - sdr(mixture, target)):.3f}",
            "si_sdri": f"{float(value):.3f}" if bool(value.isfinite()) else ""}


# ----------------------------------------------------------------------------------------------------------------- runs


def main_runs(work: Work) -> list[Run]:
    """Every method on the three sets of songs."""
    bounds = [SILENCE, MIXTURE, *STEM_MODELS, IDEAL]
    parts = [TEST, *([FONT] if fluid() else [])]
    return [Run(part, method) for part in parts for method in (TAG, EXAMPLE, WRONG, WRONG_EXAMPLE, *bounds)] + [
        Run(ASIDE, method) for method in (EXAMPLE, WRONG_EXAMPLE, *bounds)]


def other_runs(work: Work) -> list[Run]:
    """Questions for what isn't there, chapter 14's excerpts, and ways between two questions."""
    return [Run(part, method) for part in (ABSENT, CHAPTER_14) for method in (TAG, EXAMPLE)] + [
        Run(BETWEEN, f"{first} to {second}") for first, second in PAIRS] + [Run(EMBEDDING, TAGGER)]


def ablations(work: Work) -> list[Run]:
    """One thing changed at a time, with equal steps."""
    return [Run(ABLATION, change, seed) for seed in SEEDS for change in CHANGES]


def fluid() -> bool:
    """Whether the soundfont that nothing learned from is on this machine."""
    try:
        find_fluid_soundfont()
    except OSError:
        return False
    return True


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a run, by table."""
    began, kinds = time.process_time(), {ABSENT: absent_rows, CHAPTER_14: tagbox_rows, BETWEEN: between_rows,
                                         ABLATION: ablation_rows, EMBEDDING: embedding_rows}
    rows = kinds.get(run.part, excerpt_rows)(run, work.given)
    tables = {ABSENT: "absent", CHAPTER_14: "tagbox", BETWEEN: "between", ABLATION: "ablations",
              EMBEDDING: "embeddings"}
    table = tables.get(run.part, "excerpts")
    weights = "" if run.part == ABLATION else file_sha256(shipped_file(f"checkpoints/{OURS}.safetensors"))[:16]
    print(f"  {len(rows)} rows, {time.process_time() - began:.0f} s of one core", flush=True)
    return {table: rows, "runs": [{"rows": len(rows), "songs": len({row["song"] for row in rows}), "weights": weights,
                                   "cpu_seconds": f"{time.process_time() - began:.0f}", "machine": machine(),
                                   "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def excerpt_rows(run: Run, given: Given) -> list[dict]:
    """SDRi and SI-SDRi of a method on the excerpts of a set."""
    generator, rows = torch.Generator().manual_seed(run.seed), []
    for one in given.held_of(run.part).excerpts:
        found = estimate(run.method, one, given, run.part, generator)
        rows.append({"song": one.song, "start": f"{one.start:g}", "instrument": one.tag,
                     **gains(found, one.target, one.mixture)})
    return rows


def absent_rows(run: Run, given: Given) -> list[dict]:
    """Of test songs and the tags that no source of them has: the level of the answer against the mixture, in dB."""
    generator, songs, bank = torch.Generator().manual_seed(run.seed), given.songs(TEST), given.held_of(TEST).bank
    rows, length = [], round(given.sizes.seconds * RATE)
    for track, sources in zip(songs.tracks, songs.sources):
        mixture = mixture_of(track, (track.frames - length) // 2, length)[None]
        for tag in sorted(set(KNOWN) - set().union(*(source.tags for source in sources))):
            one = Excerpt(track.name, tag, mixture[0], torch.zeros(length), 0.0)
            found = ask(given.model, mixture, question(run.method, one, given, bank, generator))
            rows.append({"song": track.name, "instrument": tag,
                         "level": f"{20 * float(torch.log10(rms(found[0]).clamp_min(1e-8) / rms(mixture[0]))):.2f}"})
    return rows


def tagbox_rows(run: Run, given: Given) -> list[dict]:
    """Chapter 14's excerpts, as long and at the rate they have there; the network hears them at its own."""
    generator, rows = torch.Generator().manual_seed(run.seed), []
    tracks = chapter_14.prepare(chapter_14.Sizes(songs=given.sizes.test_songs), Path())
    for instrument in chapter_14.INSTRUMENTS:
        for track in tracks:
            pair = chapter_14.split_up(track, instrument, "six")
            if pair is None:
                continue
            x = sum(pair)
            one = Excerpt(track.name, instrument, x, pair[0], 0.0)
            c = question(run.method, one, given, given.held_of(TEST).bank, generator)
            found = ask(given.model, resample(x[None], chapter_14.RATE, RATE), c)
            found = center_trim(resample(found, RATE, chapter_14.RATE), len(x))[0]
            rows.append({"song": track.name, "instrument": instrument,
                         **{key: f"{value:.3f}" for key, value in chapter_14.scores(found, pair[0], x).items()}})
    return rows


def between_rows(run: Run, given: Given) -> list[dict]:
    """Of test songs with both instruments: how much of each is in the answers between the two questions. A gain is the
    least-squares coefficient of a source, when all sources of the song are fitted to the answer."""
    first, second = run.method.split(" to ")
    rows, length, songs = [], round(given.sizes.seconds * RATE), given.songs(TEST)
    ends = [condition_of(given.model, tag) for tag in (first, second)]
    for track, sources in zip(songs.tracks, songs.sources):
        names = [source.asked for source in sources]
        audio = torch.cat([track.read(stem, (track.frames - length) // 2, length) for stem in SIX_STEMS])
        kept = rms(audio) >= HEARD
        if not all(tag in names and kept[names.index(tag)] for tag in (first, second)):
            continue
        for share in given.sizes.shares:
            found = ask(given.model, audio.sum(0, keepdim=True), between(*ends, share))[0]
            fit_ = torch.linalg.lstsq(audio[kept].T, found[:, None]).solution[:, 0]
            gain = dict(zip([n for n in range(len(names)) if kept[n]], fit_.tolist()))
            rows.append({"song": track.name, "share": f"{share:g}", "first": f"{gain[names.index(first)]:.3f}",
                         "second": f"{gain[names.index(second)]:.3f}"})
    return rows


def embedding_rows(run: Run, given: Given) -> list[dict]:
    """Examples of test songs and of songs set aside: their place in the plane in which training examples spread most,
    and the tag of the training example that is nearest (by the angle, after standardising)."""
    learnt, aside = given.bank, given.held_of(ASIDE).bank
    mean, deviation = learnt.embeddings.mean(0), learnt.embeddings.std(0).clamp_min(1e-3)
    z = (learnt.embeddings - mean) / deviation
    axes = torch.linalg.svd(z, full_matrices=False).Vh[:2]
    axes = axes * axes.sum(1, keepdim=True).sign()                                      # not up to the machine's choice
    rows, directions = [], torch.nn.functional.normalize(z, dim=1)
    test = examples_in(given.songs(TEST))
    unseen = [n for n, kind in enumerate(aside.tags) if kind in UNSEEN]
    places = [*((test, n) for n in range(len(test.tags))), *((aside, n) for n in unseen)]
    for bank, n in places:
        one = (bank.embeddings[n] - mean) / deviation
        best = int((directions @ one).argmax())
        rows.append({"song": bank.songs[n], "instrument": bank.tags[n], "first": f"{float(axes[0] @ one):.3f}",
                     "second": f"{float(axes[1] @ one):.3f}", "nearest": learnt.tags[best]})
    return rows


def new_model(change: str, sizes: Sizes, seed: int) -> QueryUnmix:
    """The network of an ablation, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    return QueryUnmix(KNOWN, hidden_size=sizes.hidden_size, where=CHANGES[change].get("where", "behind"))


def train(change: str, given: Given, seed: int) -> tuple[QueryUnmix, float]:
    """Train a network of an ablation; return it in eval mode, and the mean of its last losses."""
    sizes, model = given.sizes, new_model(change, given.sizes, seed)
    data = Questions(given.learnt, given.bank, max(64, sizes.steps * sizes.batch_size), seed)
    prepare(model, data)
    step = QueryStep(**{name: value for name, value in CHANGES[change].items() if name in ("kinds", "floor")})
    optimizer = torch.optim.Adam(model.parameters(), sizes.rate)
    history = fit(model, step, process_batches(data, sizes.batch_size), optimizer, FitSettings(sizes.steps, clip=5.0),
                  schedule=cosine(sizes.steps, sizes.steps // 16, 0.02), progress=False)
    return model.eval(), float(np.mean([row["loss"] for row in history.steps[-50:]]))


def ablation_rows(run: Run, given: Given) -> list[dict]:
    """SDRi of every test song, the mean over its excerpts, asked by tags and by examples."""
    model, loss = train(run.method, given, run.seed)
    held, generator, songs = given.held_of(TEST), torch.Generator().manual_seed(0), {}
    for one in held.excerpts[::2]:
        example = held.bank.draw(one.tag, one.song, generator)
        for kind, c in ((TAG, condition_of(model, one.tag)), (EXAMPLE, condition_of(model, example=example))):
            found = ask(model, one.mixture[None], c)[0]
            songs.setdefault(one.song, {TAG: [], EXAMPLE: []})[kind].append(
                float(sdr(found, one.target) - sdr(one.mixture, one.target)))
    return [{"song": song, "loss": f"{loss:.3f}", **{kind: f"{np.mean(values):.3f}" for kind, values in found.items()}}
            for song, found in songs.items()]


def facts(work: Work) -> Mapping:
    return {"trained_on": "the band's train songs and 200 others, without those set aside; see the card of query_band",
            "rate_hz": RATE, "known": list(KNOWN), "unseen": list(UNSEEN), "changes": CHANGES,
            "score": "SDRi and SI-SDRi in dB above the mixture itself, of excerpts that are scored whole"}


EXPERIMENT = Experiment(
    name="query", what="a separator that is asked by a tag or by an example: what it answers, and what it rests on",
    topic=TOPIC, stages=[main_runs, other_runs, ablations], run=one_run, settings=Sizes(), prepare=Given,
    names=(TEST, FONT, ASIDE, ABSENT, CHAPTER_14, BETWEEN, ABLATION, EMBEDDING, TAG, EXAMPLE, WRONG,
           WRONG_EXAMPLE, SILENCE, MIXTURE, IDEAL, *STEM_MODELS, *CHANGES), facts=facts)

__all__ = ["ABLATION", "CHANGES", "EXPERIMENT", "KNOWN", "Questions", "Run", "SEEDS", "Sizes", "UNSEEN", "examples_in",
           "excerpts_of", "query_scores", "sources_of", "train", "training_questions", "valid_questions"]
