"""The table in the rubric of assignment 03's open task is what the assignment's own experiment cell gives."""

import math
import re
from pathlib import Path

import torch

SOURCE = (Path(__file__).parents[2] / "chapters" / "assignments" / "03_metrics.py").read_text(encoding="utf8")
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def experiment() -> dict:
    """The functions of the experiment cell."""
    cell = re.search(r"^# EXPERIMENT:.*?(?=^# %%)", SOURCE, re.MULTILINE | re.DOTALL)[0]
    names = {"torch": torch}
    exec(compile(cell, "the experiment cell", "exec"), names)
    return names


def table_in_rubric() -> tuple[list[str], dict[str, list[float]]]:
    """The columns and, by the leak, the values in dB that the rubric names."""
    rubric = re.search(r"<!-- BEGIN RUBRIC -->.*?<!-- END RUBRIC -->", SOURCE, re.DOTALL)[0]
    rows = [[cell.strip() for cell in line.strip("# |\n").split("|")]
            for line in re.findall(r"^# \| \w[^\n]*\|$", rubric, re.MULTILINE)]
    return rows[0][1:], {row[0]: [float(cell) for cell in row[1:]] for row in rows[1:]}


def test_the_rubrics_table_and_reading_are_measured():
    names, (columns, shown) = experiment(), table_in_rubric()
    sdr, si_sdr = names["sdr"], names["si_sdr"]
    assert columns == ["0.25", "0.5", "0.75", "1", "best", "SI-SDR"] and list(shown) == ["0.2", "0.4", "0.6"]
    measured = {leak: [0.0] * len(columns) for leak in shown}
    for number in range(SONGS):
        sources = names["band_sources"](number)
        vocals, best_gains = sources[3], []
        for leak in shown:
            estimate = names["leaking_vocals"](sources, float(leak))
            best = float((estimate @ vocals) / (estimate @ estimate))
            best_gains.append(best)
            row = [sdr(gain * estimate, vocals) for gain in (0.25, 0.5, 0.75, 1.0, best)] + [si_sdr(estimate, vocals)]
            measured[leak] = [total + value / SONGS for total, value in zip(measured[leak], row)]
            # what the rubric says of every song
            assert abs(row[4] - 10 * math.log10(1 + 10 ** (row[5] / 10))) < 0.01 and row[4] > max(0, *row[:4]) - 0.001
            assert abs(si_sdr(0.25 * estimate, vocals) - row[5]) < 0.01
        assert best_gains == sorted(best_gains, reverse=True)
    differences = [(leak, column) for leak, row in measured.items() for column, value, told in zip(columns, row, shown[leak])
                   if abs(value - told) > ROUNDING]
    assert differences == [], measured
    assert measured["0.6"][1] > measured["0.4"][3] + 0.3                   # worse, but turned down, beats better
