"""Chapter 20's network that is asked: its songs, its questions, and what it answers.

A question is a tag or an example: the embedding, by chapter 13's `tagger_band`, of five seconds of an instrument from
another song. KNOWN tags are asked in training. Brass, winds and what has no tag at all (organ, mallets, banjo, ...) are
never asked, never an example, and never sound in a training mixture: songs in which one of them plays alone in its
source are set aside (`set_aside`), of all others that source is left out. What the separator makes of them is what it
makes of instruments it has never heard; the tagger has heard brass and winds, but not those without a tag.

`course train query_band` trains the network that comes with the course on `training_questions`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from course_lib.data import Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import FIRST_FREE_SEED
from course_lib.data.loaders import chunk_generator
from course_lib.data.mono import mono_tracks
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments.taggers import (
    FRAME,
    LEAST,
    RATE,
    SONG_SECONDS,
    TAGS,
    TaggedSongs,
    activity,
    tagged_songs,
    tags_of,
    tilted,
)
from course_lib.metrics import sdr
from course_lib.paths import data_dir
from course_lib.query import QueryUnmix, draw_example, embed_example, mixture_and_target, rms, tag_vector
from course_lib.spectral import stft
from course_lib.training import load_trained

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
    from course_lib.data.band.library import SPLITS

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
    """`length` mixtures with a question each: item i is a pure function of (seed, i).

    An item: mixture and target (time,), tags (tag,), examples (2, feature), their weights (2,), by_example (). seconds:
    of a mixture. remix: share whose sources come each from another song. keep: chance of each source. absent, two:
    share of questions for something that isn't there, and for two instruments at once. by_example: share that is asked
    by example.
    """

    def __init__(self, songs: QuerySongs, bank: Bank, length: int, seed: int, seconds: float = 3.0, remix: float = 0.5,
                 keep: float = 0.85, absent: float = 0.12, two: float = 0.12, by_example: float = 0.5):
        self.songs, self.bank, self.length, self.seed = songs, bank, length, seed
        self.seconds, self.remix, self.keep = seconds, remix, keep
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
            gain, slope = 10 ** ((draw() * 12 - 8) / 20), draw() * 1.2 - 0.5
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
        return self._question(torch.stack(pieces), asked, present, draw, generator)

    def _question(self, pieces: Tensor, asked: Sequence[tuple[str, str]], present: set[str], draw,
                  generator: torch.Generator) -> tuple[Tensor, ...]:
        """What is asked of these sources, and the answer."""
        names = [tag for tag, _ in asked]
        there = [n for n, tag in enumerate(names) if tag and names.count(tag) == 1]
        missing = [tag for tag in KNOWN if tag not in present]
        u, chosen = draw(), []
        if there and (u >= self.absent or not missing):
            count = 2 if u >= 1 - self.two and len(there) > 1 else 1
            weights = torch.tensor([WEIGHTS[names[n]] for n in there])
            chosen = [there[n] for n in torch.multinomial(weights, count, generator=generator).tolist()]
        tags = [names[n] for n in chosen] or [missing[int(draw() * len(missing))]]
        songs = [asked[n][1] for n in chosen] or [""]
        wanted = torch.zeros(len(pieces), dtype=torch.bool)
        wanted[chosen] = True
        mixture, target = mixture_and_target(pieces, wanted)
        examples, weights = torch.zeros(2, self.bank.embeddings.shape[1]), torch.zeros(2)
        for n, (tag, song) in enumerate(zip(tags, songs)):
            examples[n], weights[n] = self._example(tag, song, generator), 1.0
        return mixture, target, tag_vector(tags, KNOWN), examples, weights, torch.tensor(float(draw() < self.by_example))

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


# ------------------------------------------------------------------------------------------------------------ the scores


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
                    found.append(Excerpt(track.name, kind, track.read("mixture", start, length)[0],
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
        c = torch.stack([query.of_tags(tag_vector(one.tag, model.tags)[None])[0], query.of_example(example)])
        found = model(one.mixture.expand(2, 1, -1), c)[:, 0]
        gain = sdr(found, one.target.expand(2, -1)) - sdr(one.mixture, one.target)
        for kind, value in zip(table, gain.tolist()):
            table[kind].setdefault(one.tag, []).append(value)
    means = {kind: {tag: float(np.mean(values)) for tag, values in tags.items()} for kind, tags in table.items()}
    scores = {kind: float(np.mean(list(tags.values()))) for kind, tags in means.items()}
    by_tag = {tag: (means["tags"][tag] + means["examples"][tag]) / 2 for tag in means["tags"]}
    return {"both": (scores["tags"] + scores["examples"]) / 2, **scores, **by_tag}
