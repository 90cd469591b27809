"""The table in the rubric of assignment 02's open task is what the assignment's own experiment cell gives."""

import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F

SOURCE = (Path(__file__).parents[2] / "chapters" / "assignments" / "02_classic_separation.py").read_text(encoding="utf8")
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def experiment() -> dict:
    """The functions of the experiment cell."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = {"torch": torch, "F": F, "math": math}
    exec(compile(cell, "the experiment cell", "exec"), names)
    return names


def table_in_rubric() -> dict[str, float]:
    """By the period in beats, or the simple estimate, the SDR in dB that the rubric names."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", SOURCE, re.DOTALL)[0]
    names, values = [[cell.strip() for cell in line.strip("# |\n").split("|")][1:]
                     for line in re.findall(r"^# \| \w[^\n]*\|$", rubric, re.MULTILINE)]
    return dict(zip(names, map(float, values)))


def test_the_rubrics_table_and_reading_are_measured():
    names, shown = experiment(), table_in_rubric()
    songs = [names["band_song"](number) for number in range(SONGS)]

    def estimate(sources, beat, name):
        mixture = sources.sum(0)
        return {"mixture": mixture, "silence": 0 * mixture}[name] if name.isalpha() else names["repet_vocals"](mixture, float(name) * beat)

    scores = {name: [names["sdr"](estimate(*song, name), song[0][3]) for song in songs] for name in shown}
    measured = {name: sum(some) / SONGS for name, some in scores.items()}
    assert list(shown) == ["mixture", "silence", "0.5", "1", "2", "4", "8", "16", "24", "32", "3.8"]
    assert {name: value for name, value in measured.items() if abs(value - shown[name]) > ROUNDING} == {}
    # what the rubric says of it
    assert max(measured, key=measured.get) in ("8", "16") and measured["0.5"] < measured["1"] < measured["8"]
    assert measured["24"] < measured["8"] - 1 and all(-0.6 < score < 1 for score in scores["32"])
    assert measured["3.8"] < measured["0.5"] + 0.2 and measured["1"] - measured["3.8"] > 1
    assert measured["silence"] - measured["mixture"] > 4
