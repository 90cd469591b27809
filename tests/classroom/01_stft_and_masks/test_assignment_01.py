"""The graders of assignment 1 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def test_experiment_shows_that_strokes_and_tones_want_different_frames(self):
        """Task 7 can be answered with its cell:
        short strokes and close tones score best with different frame lengths.
        """
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        rate, oracle_sdr = 8000, names["oracle_sdr"]
        generator = torch.Generator().manual_seed(0)
        t = torch.arange(4 * rate) / rate
        strokes = torch.randn(len(t), generator=generator) * torch.exp(-((t % 0.125) / 0.004))
        other_strokes = torch.randn(len(t), generator=generator) * torch.exp(-(((t + 0.0625) % 0.125) / 0.004))
        tones = [sum(torch.sin(2 * math.pi * f * t) for f in range(first, 3000, 40)) for first in (200, 220)]
        clicks = {n: float(oracle_sdr(torch.stack([strokes, other_strokes])[:, None], n).mean()) for n in (256, 4096)}
        notes = {n: float(oracle_sdr(torch.stack(tones)[:, None], n).mean()) for n in (256, 4096)}
        assert clicks[256] > clicks[4096] + 3
        assert notes[4096] > notes[256] + 3
