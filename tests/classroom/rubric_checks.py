"""The table in the rubric of an assignment's open task is what the assignment's own experiment cell gives.

Measured in full it takes minutes for all assignments, so what each song gave is kept as
data/results/NN_topic/rubric.csv: a test compares the rubric with the mean over the songs, and measures the first of
them again. Where there is no such file all songs are measured; after a change of the experiment or of the band write it
anew with `COURSE_STORE_RESULTS=1 pytest tests/classroom/NN_topic/test_rubric_NN.py`.
"""

import os
import re
import sys
from pathlib import Path

from course_lib.results import Results

STORE = bool(os.environ.get("COURSE_STORE_RESULTS"))
ASSIGNMENTS = Path(__file__).resolve().parents[2] / "chapters" / "assignments"
DIGITS = 3                   # of what is stored
MEASURED_AGAIN = 0.01        # dB: a little for another machine's arithmetic, beside what is stored
Table = dict[str, list[float]]


class RubricChecks:
    """The checks of one rubric: a subclass in the assignment's folder, named Test..., says how a song is measured.

    songs: the songs, or pairs of them, that the rubric's means are over. rounding: dB, how far the rubric's decimals
    may be from the mean. what: the numbers are, source_of_songs: where the songs are from, both for the table's card.
    """

    songs: tuple = ()
    rounding = 0.06
    what = "SDR in dB"
    source_of_songs = "of the band's test set"

    def measure(self, names: dict, song, columns: list[str], rows: list[str]) -> Table:
        """The rubric's table for one song, by the functions of the experiment cell."""
        raise NotImplementedError

    def given(self) -> dict:
        """The names that the experiment cell finds."""
        import math

        import torch
        return {"torch": torch, "math": math, "F": torch.nn.functional}

    def experiment(self) -> dict:
        """The names of the experiment cell, which is executed with those that it is given."""
        names = self.given()
        cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", self.source(), re.MULTILINE | re.DOTALL)[0]
        exec(compile(cell, "the experiment cell", "exec"), names)
        return names

    @classmethod
    def topic(cls) -> str:
        """The assignment's name, that of the folder."""
        return Path(sys.modules[cls.__module__].__file__).parent.name

    @classmethod
    def source(cls) -> str:
        """The assignment's text."""
        return (ASSIGNMENTS / f"{cls.topic()}.py").read_text(encoding="utf8")

    @classmethod
    def shown(cls) -> tuple[list[str], Table]:
        """The columns' names and, by the first cell of each row, the numbers of the table in the rubric."""
        rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", cls.source(), re.DOTALL)[0]
        lines = re.findall(r"^# \|(.*)\|$", rubric, re.MULTILINE)
        header, _rule, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
        return header[1:], {name: [float(cell) for cell in cells] for name, *cells in rows}

    @classmethod
    def by_song(cls) -> dict[str, Table]:
        """What is stored: song -> the table that it gave."""
        columns, rows = cls.shown()
        found: dict[str, Table] = {}
        for row in Results(cls.topic()).rows("rubric"):
            assert list(row) == ["song", "row", *columns], "rubric.csv has other columns than the rubric"
            found.setdefault(row["song"], {})[row["row"]] = [float(row[column]) for column in columns]
        assert all(list(table) == list(rows) for table in found.values()), "rubric.csv has other rows than the rubric"
        return found

    @classmethod
    def means(cls) -> Table:
        """The means over the songs of what is stored."""
        tables = list(cls.by_song().values())
        return {
            row: [sum(values) / len(tables) for values in zip(*(table[row] for table in tables))] for row in tables[0]
        }

    def test_the_rubrics_table_is_what_was_measured(self):
        columns, shown = self.shown()
        if STORE or not Results(self.topic()).path("rubric").is_file():  # then all songs are measured
            names = self.experiment()
            Results(self.topic()).write(
                "rubric",
                [
                    {
                        "song": _name(song),
                        "row": row,
                        **{column: round(value, DIGITS) for column, value in zip(columns, values)},
                    }
                    for song in self.songs
                    for row, values in self.measure(names, song, columns, list(shown)).items()
                ],
            )
            Results(self.topic()).write_card(
                "rubric",
                {
                    "tables": ["rubric"],
                    "what": f"{self.what}, the table in the rubric of the assignment's open task, for each song (or "
                    f"pair) {self.source_of_songs}",
                    "command": f"COURSE_STORE_RESULTS=1 pytest tests/classroom/{self.topic()}",
                },
            )
        assert list(self.by_song()) == [_name(song) for song in self.songs]
        means = self.means()
        differences = [(row, column, told, value) for row, values in means.items()
                       for column, value, told in zip(columns, values, shown[row]) if abs(value - told) > self.rounding]
        assert differences == [], differences

    def test_the_first_song_measured_again_gives_the_same(self):
        columns, shown = self.shown()
        again, before = (
            self.measure(self.experiment(), self.songs[0], columns, list(shown)),
            self.by_song()[_name(self.songs[0])],
        )
        differences = [(row, column, value, was) for row, values in again.items()
                       for column, value, was in zip(columns, values, before[row]) if abs(value - was) > MEASURED_AGAIN]
        assert list(again) == list(before) and differences == [], differences


def _name(song) -> str:
    return " and ".join(map(str, song)) if isinstance(song, tuple) else str(song)
