"""The table in the rubric of assignment 03's open task is what the assignment's own experiment cell gives."""

import math

import torch
from rubric_checks import experiment, table_in_rubric

ASSIGNMENT = "03_metrics"
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def test_the_rubrics_table_and_reading_are_measured():
    names, (columns, shown) = experiment(ASSIGNMENT, torch=torch), table_in_rubric(ASSIGNMENT)
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
