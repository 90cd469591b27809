"""The table in the rubric of assignment 05's open task is what the assignment's own experiment cell gives."""

import re
from pathlib import Path

import torch

from course_lib import losses

SOURCE = (Path(__file__).parents[2] / "chapters" / "assignments" / "05_losses.py").read_text(encoding="utf8")
PAIRS = ((0, 1), (1, 2), (2, 0))                         # of songs, as the rubric says
LEVELS = (1.0, 0.1)                                      # of the second song: as it is, 20 dB softer
ROUNDING = 0.08              # dB: one decimal, and a little for another machine's arithmetic


def experiment() -> dict:
    """The functions of the experiment cell."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = {"torch": torch}
    exec(compile(cell, "the experiment cell", "exec"), names)
    return names


def table_in_rubric() -> dict[str, list[float]]:
    """By loss, the SDR in dB of the first and the second song at equal levels, then with the second one softer."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", SOURCE, re.DOTALL)[0]
    rows = [[cell.strip() for cell in line.removeprefix("# |").removesuffix("|").split("|")]
            for line in re.findall(r"^# \|[^\n]*\|$", rubric, re.MULTILINE)]
    return {row[0]: [float(cell) for cell in row[1:]] for row in rows[2:]}


def test_the_rubrics_table_is_measured():
    names, shown = experiment(), table_in_rubric()
    songs = [names["band_spectra"](number) for number in range(1 + max(max(pair) for pair in PAIRS))]
    measured = {}
    for name in shown:
        scores = [torch.stack([names["sdr_of_shared_equalisers"]([songs[first], level * songs[second]], getattr(losses, name))
                               for first, second in PAIRS]).mean((0, 2)) for level in LEVELS]           # (song,) each
        measured[name] = torch.cat(scores)
    assert list(shown) == ["l1_freq", "l2_freq", "logl1_freq", "logl2_freq"]
    difference = torch.stack(list(measured.values())) - torch.tensor(list(shown.values()))
    assert difference.abs().max() < ROUNDING, f"measured: { {name: row.tolist() for name, row in measured.items()} }"


def test_the_rubrics_reading_follows_from_its_table():
    for name, (first, second, first_then, second_then) in table_in_rubric().items():
        if name.startswith("log"):
            assert abs(first - first_then) < 0.1 and abs(second - second_then) < 0.1
        else:
            assert first_then > first and second - second_then > 2 * (first_then - first) > 0
