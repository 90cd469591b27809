"""The graders of assignment 4 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import copy

import torch

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names = {"torch": torch, "copy": copy}
        exec(self.taken[1], names)
        norm = torch.nn.BatchNorm1d(3)
        V = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        W, b = names["folded"](torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0]), V, norm)
        assert torch.allclose(W, V * torch.tensor([0.5, 3.0, 0.5, 3.0]), rtol=1e-3, atol=1e-4)
        assert torch.allclose(b, V @ torch.tensor([0.5, 6.0, 0.5, 6.0]), rtol=1e-3, atol=1e-4)

    def test_experiment_shows_that_sharing_mends_what_wrong_magnitudes_break(self):
        """Task 6 can be answered with its cell: one note a source, and magnitudes that are off."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        sources = torch.randn(2, 2, 30000, generator=torch.Generator().manual_seed(0))
        sources[0, 1], sources[1, 0] = 0.1 * sources[0, 0], 0.1 * sources[1, 1]  # one on the left, one on the right
        scores = {
            setting: names["sdr_of_stand_in"](sources, 6.0, *setting) for setting in ((0, False), (0, True), (1, False))
        }
        assert scores[0, True] > scores[0, False] + 3
        assert scores[1, False] > scores[0, True] + 2
        sources[1] = 0                                                                     # silence has no score
        assert names["sdr_of_stand_in"](sources, 0.0, 0) > 60
