"""How far separation without learning gets: every method of chapter 2, and the ideal mask, on the band's test songs.

`course experiment classic` fills data/results/02_classic_separation/scores.csv, a scoreboard
(`course_lib.experiments.scoreboard`): whole songs of 20 s, methods by the names of `course_lib.classic.METHODS`;
"mixture" is a quarter of the mixture. Another data set:
`course experiment classic --folder DIR --set source=musdb18hq --set root=WHERE`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from course_lib.classic import METHODS
from course_lib.data import STEMS, Track, open_tracks
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, IdealRatioMask, Rules, score_rows, summary

SEPARATORS = {**{method: Rules(method) for method in METHODS}, HIGHEST: IdealRatioMask()}


@dataclass(frozen=True)
class Settings:
    """Which songs: the first `songs` (0: all) of the test split of a source, as in `open_tracks`."""

    source: str = "band"
    root: str = ""
    songs: int = 0


@dataclass(frozen=True)
class Scored:
    """One method on one song of a set."""

    set: str
    song: str
    method: str


def _tracks(settings: Settings, _cache) -> dict[str, Track]:
    tracks = open_tracks(settings.source, "test", count=settings.songs or None, root=settings.root or None)
    return {track.name: track for track in tracks}


def all_methods(work: Work) -> list[Scored]:
    """Every method on every song."""
    return [Scored(work.settings.source, song, method) for song in work.given for method in SEPARATORS]


def score(variation: Scored, work: Work) -> dict[str, list[dict]]:
    """A song's rows."""
    return {"scores": score_rows(SEPARATORS[variation.method], work.given[variation.song])}


def facts(work: Work) -> Mapping:
    """How many songs there are, how long, and what a number is."""
    return {
        "songs": len(work.given),
        "seconds": round(sum(track.seconds for track in work.given.values()) / len(work.given), 1),
        "unit": f"SDR in dB of {', '.join(STEMS)}",
    }


EXPERIMENT = Experiment(
    name="classic",
    what="chapter 2's methods and the ideal ratio mask on the band's test songs",
    topic="02_classic_separation",
    table="scores",
    stages=[all_methods],
    run=score,
    settings=Settings(),
    prepare=_tracks,
    names=tuple(SEPARATORS),
    facts=facts,
    keep_others=False,
    summary=lambda work: summary(work.rows()),
)
