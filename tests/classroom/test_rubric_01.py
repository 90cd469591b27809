"""The table in the rubric of assignment 01's open task is what the assignment's own experiment cell gives."""

import re
from pathlib import Path

import torch

from course_lib.data import STEMS

SOURCE = (Path(__file__).parents[2] / "chapters" / "assignments" / "01_stft_and_masks.py").read_text(encoding="utf8")
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def experiment() -> dict:
    """The functions of the experiment cell."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = {"torch": torch}
    exec(compile(cell, "the experiment cell", "exec"), names)
    return names


def table_in_rubric() -> tuple[list[int], dict[str, list[float]]]:
    """The frame lengths and, by stem, the SDR in dB that the rubric names."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", SOURCE, re.DOTALL)[0]
    rows = [[cell.strip() for cell in line.strip("# |\n").split("|")] for line in re.findall(r"^# \|[^-\n]*\|$", rubric, re.MULTILINE)]
    return [int(cell) for cell in rows[0][1:]], {row[0]: [float(cell) for cell in row[1:]] for row in rows[1:]}


def test_the_rubrics_table_is_measured():
    names, (lengths, shown) = experiment(), table_in_rubric()
    songs = [names["band_sources"](number) for number in range(SONGS)]
    measured = torch.stack([torch.stack([names["oracle_sdr"](song, n_fft) for song in songs]).mean(0) for n_fft in lengths], dim=1)
    assert list(shown) == list(STEMS) and len(lengths) == 8
    assert (measured - torch.tensor(list(shown.values()))).abs().max() < ROUNDING, f"measured: {measured.round(decimals=1).tolist()}"
