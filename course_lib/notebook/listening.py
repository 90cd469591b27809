"""A blind listening test in a notebook, and what its ratings say about a metric.

The test follows MUSHRA (Recommendation ITU-R BS.1534, multiple stimuli with hidden reference and anchor): the rater
hears an open reference and, in random order and under letters, the conditions to rate from 0 to 100, among them the
reference again and anchors that are bad on purpose. It is MUSHRA-*like*: nobody controls the room, the headphones or
the training.

`ListeningTest` asks and writes a CSV, `read_ratings` reads it, `screen_raters` leaves out who did not recognise the
hidden reference, `correlate` compares ratings with a metric. Nothing here makes ratings up: without a CSV there is
nothing to analyse, and the functions say so.

The sliders and players are plain ipywidgets of version 7.7 and 8. Where a notebook is executed to be stored
(COURSE_EXECUTING=1) widgets are dead, so the first page's players are shown, without sliders.
"""

import csv
import math
import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from course_lib.notebook import players
from course_lib.progress import executing

REFERENCE = "reference"
COLUMNS = ("rater", "item", "condition", "rating")
SCALE = "0-20 bad, 20-40 poor, 40-60 fair, 60-80 good, 80-100 excellent"
RUN_NOTE = "Run this cell to get a slider for each letter. The letters hide which is which, the reference among them."
LETTERS = "ABCDEFGHIJKLMNO"                           # BS.1534 asks for at most 12 conditions; more tire


class Rating(NamedTuple):
    """One judgement: who, of which item (song), of which condition (system), 0 to 100."""

    rater: str
    item: str
    condition: str
    rating: float


def presentation_order(items: Mapping[str, Iterable[str]], rater: str, seed: int = 0) -> list[tuple[str, list[str]]]:
    """The pages of one rater's test: items in random order, and in each its conditions in random order.

    items: item -> its conditions. The same rater and seed get the same order, others another one.
    """
    generator = random.Random(f"{seed}/{rater}")
    pages = [(item, sorted(conditions)) for item, conditions in sorted(items.items())]
    generator.shuffle(pages)
    for _, conditions in pages:
        generator.shuffle(conditions)
    return pages


def checked_items(items: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, np.ndarray]]:
    """The sounds as arrays (channels, time), after a check that every page can be asked."""
    if not items:
        raise ValueError("items is empty; expected item -> {'reference': sound, condition: sound, ...}")
    checked = {}
    for item, sounds in items.items():
        if REFERENCE not in sounds or not 2 <= len(sounds) <= len(LETTERS):
            raise ValueError(f"item {item!r} has the sounds {list(sounds)}; expected {REFERENCE!r} and 1 to "
                             f"{len(LETTERS) - 1} others")
        checked[item] = {name: players.as_channels(x, f"{item!r}, {name!r}") for name, x in sounds.items()}
        shapes = {name: x.shape for name, x in checked[item].items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"item {item!r}: sounds of shapes {shapes}; expected one and the same (channels, time)")
    return checked


class ListeningTest:
    """One rater's test. In a notebook the last line of a cell, or `display(test)`, shows it; `save` writes the ratings.

    items: item -> {"reference": sound, condition: sound, ...}, each (time,) or (channels, time), floats in [-1, 1]; the
    hidden reference is added by the test. rate: Hz. path: the CSV that ratings are added to (columns rater, item,
    condition, rating). rater: a name or number, not empty. seed: of the order. Sounds are played as FLAC, unchanged;
    where one of an item would clip, all of that item are turned down alike. ValueError for items without a reference,
    with unequal lengths, or a rater without a name.
    """

    def __init__(
        self,
        items: Mapping[str, Mapping[str, object]],
        rate: int,
        path: str | Path,
        *,
        rater: str,
        seed: int = 0,
        question: str = "How close to the reference is each sound?",
    ):
        if not str(rater).strip():
            raise ValueError("rater is empty; expected a name or number that tells this rater from others")
        self.sounds, self.rate = checked_items(items), players.checked_rate(rate)
        self.path, self.rater, self.question = Path(path), str(rater).strip(), question
        self.pages = presentation_order(self.sounds, self.rater, seed)
        self.ratings: dict[str, dict[str, int]] = {item: {} for item, _ in self.pages}
        self.page = 0
        self._box = None

    def rate_condition(self, item: str, condition: str, rating: float) -> None:
        """Note one rating, 0 to 100, as moving its slider does."""
        if item not in self.sounds or condition not in self.sounds[item]:
            raise ValueError(f"there is no condition {condition!r} of item {item!r}; items are {sorted(self.sounds)}")
        if not 0 <= rating <= 100:
            raise ValueError(f"rating is {rating}; expected 0 to 100")
        self.ratings[item][condition] = round(rating)

    def missing(self) -> dict[str, int]:
        """Item -> how many of its conditions have no rating yet; complete items are left out."""
        left = {item: len(conditions) - len(self.ratings[item]) for item, conditions in self.pages}
        return {item: count for item, count in left.items() if count}

    def save(self) -> Path:
        """Write the ratings, in place of earlier ones by this rater of these items; others stay. Returns the path.

        ValueError while ratings are missing: half a page can't be compared.
        """
        if left := self.missing():
            raise ValueError(f"ratings are missing: {left}; move every slider at least once, then save")
        kept = [row for row in (read_ratings(self.path) if self.path.exists() else [])
                if row.rater != self.rater or row.item not in self.ratings]
        own = [Rating(self.rater, item, condition, self.ratings[item][condition])
               for item, conditions in self.pages for condition in conditions]
        write_ratings(self.path, kept + own)
        return self.path

    def _repr_mimebundle_(self, **_ignored):
        """What a notebook shows: the widgets, or plain players where it is executed to be stored."""
        if executing():
            return {"text/html": self.players_html(), "text/plain": self.description()}
        from IPython.display import display

        if self._box is None:
            self._build()
        display(self._box)
        return {"text/plain": self.description()}

    def description(self) -> str:
        """The test in words: its pages and how many sounds each has."""
        conditions = {len(conditions) for _, conditions in self.pages}
        return (
            f"listening test: {len(self.pages)} items, {' or '.join(map(str, sorted(conditions)))} sounds each to rate"
        )

    def _playable(self, item: str) -> dict[str, np.ndarray]:
        scale = players.playback_scale(max(float(np.abs(x).max()) for x in self.sounds[item].values()), normalize=False)
        return {name: x * scale for name, x in self.sounds[item].items()}

    def players_html(self) -> str:
        """The first page as plain players under its letters, for readers without a kernel. MP3, as they can't rate."""
        item, conditions = self.pages[0]
        sounds = self._playable(item)
        rows = [players.player_html(sounds[REFERENCE], self.rate, "the reference")]
        rows += [players.player_html(sounds[condition], self.rate, letter)
                 for letter, condition in zip(LETTERS, conditions)]
        return f"<p>{RUN_NOTE}</p>" + "".join(rows)

    # The widget ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        import ipywidgets

        self._rows = ipywidgets.VBox()
        self._heading, self._message = ipywidgets.HTML(), ipywidgets.Label()
        self._back = ipywidgets.Button(description="Back")
        self._next = ipywidgets.Button(description="Next", button_style="primary")
        self._back.on_click(lambda _: self._turn(-1))
        self._next.on_click(lambda _: self._turn(+1))
        self._box = ipywidgets.VBox(
            [self._heading, self._rows, ipywidgets.HBox([self._back, self._next, self._message])]
        )
        self._show_page()

    def _audio(self, sound: np.ndarray):
        import ipywidgets

        data, _ = players.encode_audio(sound, self.rate, lossless=True)
        return ipywidgets.Audio(value=data, format="flac", autoplay=False, loop=False)

    def _show_page(self) -> None:
        import ipywidgets

        item, conditions = self.pages[self.page]
        sounds = self._playable(item)
        self._heading.value = f"<b>{self.page + 1} of {len(self.pages)}.</b> {self.question} ({SCALE})"
        rows = [ipywidgets.HBox([ipywidgets.Label("reference"), self._audio(sounds[REFERENCE])])]
        self.sliders = {}
        for letter, condition in zip(LETTERS, conditions):
            slider = ipywidgets.IntSlider(
                value=self.ratings[item].get(condition, 0),
                min=0,
                max=100,
                description=letter,
                layout=ipywidgets.Layout(width="30em"),
            )
            slider.observe(
                lambda change, condition=condition: self.rate_condition(item, condition, change["new"]), "value"
            )
            self.sliders[condition] = slider
            rows.append(ipywidgets.HBox([self._audio(sounds[condition]), slider]))
        self._rows.children = rows
        self._back.disabled = self.page == 0
        self._next.description = "Save" if self.page == len(self.pages) - 1 else "Next"
        self._message.value = ""

    def _turn(self, step: int) -> None:
        item = self.pages[self.page][0]
        if step > 0 and item in self.missing():
            self._message.value = f"{self.missing()[item]} sliders have not been moved yet."
        elif step > 0 and self.page == len(self.pages) - 1:
            try:
                self._message.value = f"Saved to {self.save().name}. Thank you."
            except (OSError, ValueError) as error:
                self._message.value = f"Not saved: {error}"
        else:
            self.page = min(max(self.page + step, 0), len(self.pages) - 1)
            self._show_page()


# Ratings as a file ----------------------------------------------------------------------------------------------------

def read_ratings(path: str | Path) -> list[Rating]:
    """The ratings of a CSV with the columns rater, item, condition, rating (0 to 100).

    FileNotFoundError where there is none. ValueError, with the line, for missing columns, a rating that is no number
    from 0 to 100, an empty name, or a second rating of the same condition by the same rater.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no ratings at {path}; run the listening test, or give the CSV of one that was run "
                                f"(columns {', '.join(COLUMNS)})")
    with path.open(encoding="utf8", newline="") as file:
        table = csv.DictReader(file)
        if absent := set(COLUMNS) - set(table.fieldnames or ()):
            raise ValueError(f"{path.name} has no columns {sorted(absent)}; expected {', '.join(COLUMNS)}")
        ratings, seen = [], {}
        for line, row in enumerate(table, 2):
            names = tuple((row[column] or "").strip() for column in COLUMNS[:3])
            try:
                value = float(row["rating"])
            except (TypeError, ValueError):
                value = math.nan
            if not all(names) or not 0 <= value <= 100:
                raise ValueError(
                    f"{path.name}, line {line}: {row}; expected a rater, an item, a condition and a rating "
                    "from 0 to 100"
                )
            if names in seen:
                raise ValueError(f"{path.name}, line {line}: {names} was rated in line {seen[names]} already; keep one")
            seen[names] = line
            ratings.append(Rating(*names, value))
    return ratings


def write_ratings(path: str | Path, ratings: Iterable[Rating]) -> None:
    """Write ratings as CSV, whole or not at all: a crash in the middle leaves the old file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows((*rating[:3], f"{rating.rating:g}") for rating in ratings)
    os.replace(part, path)


def available_ratings(path: str | Path) -> list[Rating]:
    """The ratings at `path`, or none: where there is no file, and where a notebook is executed to be stored or
    compared.

    The latter keeps a chapter's stored outputs the same on every machine, whoever has rated there.
    """
    return [] if executing() or not Path(path).is_file() else read_ratings(path)


# What ratings say -----------------------------------------------------------------------------------------------------

def screen_raters(ratings: Iterable[Rating], least: float = 90, share: float = 0.15) -> tuple[list[Rating], list[str]]:
    """Leave out raters who rate the hidden reference under `least` in more than `share` of their items.

    Returns the ratings kept and the names left out, sorted. A rater who never rated the reference is left out too.
    Source: post-screening of Recommendation ITU-R BS.1534-3.
    """
    ratings = list(ratings)
    hidden: dict[str, list[float]] = {rating.rater: [] for rating in ratings}
    for rating in ratings:
        if rating.condition == REFERENCE:
            hidden[rating.rater].append(rating.rating)
    out = {rater for rater, values in hidden.items()
           if not values or sum(value < least for value in values) > share * len(values)}
    return [rating for rating in ratings if rating.rater not in out], sorted(out)


def mean_ratings(ratings: Iterable[Rating]) -> dict[tuple[str, str], float]:
    """(item, condition) -> the mean rating over raters."""
    values: dict[tuple[str, str], list[float]] = {}
    for rating in ratings:
        values.setdefault((rating.item, rating.condition), []).append(rating.rating)
    return {key: sum(group) / len(group) for key, group in values.items()}


class Correlation(NamedTuple):
    """How a metric follows the ratings: (value, low, high) of Pearson's and Spearman's coefficient,
    and what they rest on.
    """

    pearson: tuple[float, float, float]
    spearman: tuple[float, float, float]
    pairs: int
    items: int
    raters: int


def pearson(x, y) -> float:
    """Pearson's correlation of two (n,) arrays; NaN where one of them is constant or n < 3."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def spearman(x, y) -> float:
    """Spearman's rank correlation of two (n,) arrays, ties with their mean rank; NaN as in `pearson`."""
    from scipy.stats import rankdata

    return pearson(rankdata(x), rankdata(y))


def correlate(ratings: Iterable[Rating], scores: Mapping[tuple[str, str], float], *, seed: int = 0, level: float = 0.95,
              resamples: int = 2000) -> Correlation:
    """Correlation of the mean ratings with a metric's scores, with bootstrap intervals over items.

    scores: (item, condition) -> value. Pairs without a finite score are left out, so the hidden reference (whose SDR is
    infinite) is too. Items are resampled whole, since the conditions of one song are not independent; with one item
    there is no interval. ValueError where fewer than three pairs are left.
    """
    ratings = list(ratings)
    means = mean_ratings(ratings)
    pairs = {key: (value, scores[key]) for key, value in means.items() if key in scores and math.isfinite(scores[key])}
    if len(pairs) < 3:
        raise ValueError(
            f"{len(pairs)} of {len(means)} rated sounds have a finite score; a correlation takes three or more: "
            "do the names of items and conditions agree?"
        )
    items = sorted({item for item, _ in pairs})
    groups = [np.array([pair for (item, _), pair in pairs.items() if item == name]) for name in items]
    generator = np.random.default_rng(seed)
    draws = [np.concatenate([groups[i] for i in generator.integers(len(groups), size=len(groups))])
             for _ in range(resamples)] if len(groups) > 1 else []

    def interval(statistic) -> tuple[float, float, float]:
        everything = np.concatenate(groups)
        values = [value for value in (statistic(*draw.T) for draw in draws) if not math.isnan(value)]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if values else (math.nan, math.nan)
        return statistic(*everything.T), float(low), float(high)

    return Correlation(
        interval(pearson), interval(spearman), len(pairs), len(items), len({rating.rater for rating in ratings})
    )
