"""The table in the rubric of assignment 04's open task is what the assignment's own experiment cell gives."""

import torch
from rubric_checks import experiment, table_in_rubric

ASSIGNMENT = "04_open_unmix"
SONGS = 3                    # as the rubric says
ROUNDING = 0.08              # dB: one decimal, and a little for another machine's arithmetic
SETTINGS = {"mixture's phase": (0, False), "shared out": (0, True), "1 round": (1, False), "3 rounds": (3, False)}


def test_the_rubrics_table_is_measured():
    names, (columns, shown) = experiment(ASSIGNMENT, torch=torch), table_in_rubric(ASSIGNMENT)
    errors = [int(column.removesuffix(" dB")) for column in columns]
    songs = {"stereo": [names["band_sources"](number) for number in range(SONGS)]}
    songs["mono"] = [song.mean(1, keepdim=True) for song in songs["stereo"]]
    measured = {f"{channels}, {label}": [sum(names["sdr_of_stand_in"](song, decibels, *setting) for song in songs[channels]) / SONGS
                                         for decibels in errors]
                for channels in songs for label, setting in SETTINGS.items()}
    assert list(shown) == list(measured) and errors == [0, 6, 12]
    difference = torch.tensor(list(measured.values())) - torch.tensor(list(shown.values()))
    assert difference.abs().max() < ROUNDING, f"measured: {measured}"


def test_the_rubrics_reading_follows_from_its_table():
    _columns, shown = table_in_rubric(ASSIGNMENT)
    for channels in ("stereo", "mono"):
        phase, shared, once, thrice = (shown[f"{channels}, {label}"] for label in SETTINGS)
        assert all(a > b for a, b in zip(shared, phase)) and all(a > b for a, b in zip(once, thrice))
    stereo, mono = ([a - b for a, b in zip(shown[f"{channels}, 1 round"], shown[f"{channels}, shared out"])]
                    for channels in ("stereo", "mono"))
    assert min(stereo) > 0 and mono[0] > 0 > mono[-1]                       # EM beside plain sharing, as errors grow
    assert max(a - b for a, b in zip(stereo, mono)) < 1
