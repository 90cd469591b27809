"""The graders of assignment 6 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names, song = {"torch": torch, "F": F, "math": math}, torch.arange(10.0).reshape(1, 1, 10)
        exec(self.taken[1], names)
        places = torch.cat([torch.arange(n, n + 10.0) for n in (5, 0, 4)]).reshape(3, 10)
        found = names["mean_over_shifts"](lambda x: (x * torch.arange(x.shape[-1])).unsqueeze(1), song, [5, 0, 4])
        assert torch.allclose(found[0, 0, 0], (song[0, 0] * places).mean(0))

    def test_experiment_shows_that_a_strided_network_minds_where_a_song_begins(self):
        """Task 6 can be answered with its cell: at the product of the strides nothing changes, elsewhere much does."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        sources = torch.randn(4, 1, 20000, generator=torch.Generator().manual_seed(0)).double()
        model = names["small_demucs"](sources, steps=2)
        here, later, a_round_later = (names["estimates"](model, sources, delay) for delay in (0, 1, 64))
        assert (a_round_later - here).abs().max() < 1e-12
        assert (later - here).square().sum() > 0.01 * here.square().sum()
        target = sources[..., names["EDGE"]:names["EDGE"] + here.shape[-1]]
        assert abs(names["sdr"](1.1 * target, sources) - 20) < 1e-6
