"""The table in the rubric of assignment 01's open task is what the assignment's own experiment cell gives."""

import torch
from rubric_checks import experiment, table_in_rubric

from course_lib.data import STEMS

ASSIGNMENT = "01_stft_and_masks"
SONGS = 4                    # as the rubric says
ROUNDING = 0.06              # dB: one decimal, and a little for another machine's arithmetic


def test_the_rubrics_table_is_measured():
    names, (lengths, shown) = experiment(ASSIGNMENT, torch=torch), table_in_rubric(ASSIGNMENT)
    songs = [names["band_sources"](number) for number in range(SONGS)]
    measured = torch.stack([torch.stack([names["oracle_sdr"](song, n_fft) for song in songs]).mean(0) for n_fft in map(int, lengths)], dim=1)
    assert list(shown) == list(STEMS) and len(lengths) == 8
    assert (measured - torch.tensor(list(shown.values()))).abs().max() < ROUNDING, f"measured: {measured.round(decimals=1).tolist()}"
