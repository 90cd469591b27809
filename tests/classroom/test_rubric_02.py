"""The table in the rubric of assignment 02's open task is what the assignment's own experiment cell gives."""

import math

import torch
import torch.nn.functional as F
from rubric_checks import experiment, table_in_rubric

ASSIGNMENT = "02_classic_separation"
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def test_the_rubrics_table_and_reading_are_measured():
    names = experiment(ASSIGNMENT, torch=torch, F=F, math=math)
    estimates, table = table_in_rubric(ASSIGNMENT)
    shown = dict(zip(estimates, table["vocals"]))
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
