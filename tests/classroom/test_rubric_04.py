"""The table in the rubric of assignment 04's open task is what the assignment's own experiment cell gives."""

import re
from pathlib import Path

import torch

SOURCE = (Path(__file__).parents[2] / "chapters" / "assignments" / "04_open_unmix.py").read_text(encoding="utf8")
SONGS = 3                    # as the rubric says
ROUNDING = 0.08              # dB: one decimal, and a little for another machine's arithmetic
SETTINGS = {"mixture's phase": (0, False), "shared out": (0, True), "1 round": (1, False), "3 rounds": (3, False)}


def experiment() -> dict:
    """The functions of the experiment cell."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = {"torch": torch}
    exec(compile(cell, "the experiment cell", "exec"), names)
    return names


def table_in_rubric() -> tuple[list[int], dict[str, list[float]]]:
    """How far the magnitudes are off in dB and, by row, the SDR in dB that the rubric names."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", SOURCE, re.DOTALL)[0]
    rows = [[cell.strip() for cell in line.strip("# |\n").split("|")] for line in re.findall(r"^# \|[^\n]*\|$", rubric, re.MULTILINE)]
    rows = [row for row in rows if not row[0].startswith("---")]
    return [int(cell.split()[0]) for cell in rows[0][1:]], {row[0]: [float(cell) for cell in row[1:]] for row in rows[1:]}


def test_the_rubrics_table_is_measured():
    names, (errors, shown) = experiment(), table_in_rubric()
    songs = {"stereo": [names["band_sources"](number) for number in range(SONGS)]}
    songs["mono"] = [song.mean(1, keepdim=True) for song in songs["stereo"]]
    measured = {f"{channels}, {label}": [sum(names["sdr_of_stand_in"](song, decibels, *setting) for song in songs[channels]) / SONGS
                                         for decibels in errors]
                for channels in songs for label, setting in SETTINGS.items()}
    assert list(shown) == list(measured) and errors == [0, 6, 12]
    difference = torch.tensor(list(measured.values())) - torch.tensor(list(shown.values()))
    assert difference.abs().max() < ROUNDING, f"measured: {measured}"


def test_the_rubrics_reading_follows_from_its_table():
    _errors, shown = table_in_rubric()
    for channels in ("stereo", "mono"):
        phase, shared, once, thrice = (shown[f"{channels}, {label}"] for label in SETTINGS)
        assert all(a > b for a, b in zip(shared, phase)) and all(a > b for a, b in zip(once, thrice))
    stereo, mono = ([a - b for a, b in zip(shown[f"{channels}, 1 round"], shown[f"{channels}, shared out"])]
                    for channels in ("stereo", "mono"))
    assert min(stereo) > 0 and mono[0] > 0 > mono[-1]                       # EM beside plain sharing, as errors grow
    assert max(a - b for a, b in zip(stereo, mono)) < 1
