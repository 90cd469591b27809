"""The table in the rubric of assignment 05's open task is what the assignment's own experiment cell gives."""

import torch
from rubric_checks import experiment, table_in_rubric

from course_lib import losses

ASSIGNMENT = "05_losses"
PAIRS = ((0, 1), (1, 2), (2, 0))                         # of songs, as the rubric says
LEVELS = (1.0, 0.1)                                      # of the second song: as it is, 20 dB softer
ROUNDING = 0.08              # dB: one decimal, and a little for another machine's arithmetic


def test_the_rubrics_table_is_measured():
    names, (_columns, shown) = experiment(ASSIGNMENT, torch=torch), table_in_rubric(ASSIGNMENT)
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
    for name, (first, second, first_then, second_then) in table_in_rubric(ASSIGNMENT)[1].items():
        if name.startswith("log"):
            assert abs(first - first_then) < 0.1 and abs(second - second_then) < 0.1
        else:
            assert first_then > first and second - second_then > 2 * (first_then - first) > 0
