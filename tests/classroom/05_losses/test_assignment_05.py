"""The graders of assignment 5 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names = {"torch": torch, "math": math}
        exec(self.taken[1], names)
        gradient = names["log_loss_gradient"](torch.tensor([[[3.0, -1.0]], [[0.0, 0.0]]]), torch.zeros(2, 1, 2), 2)
        assert torch.allclose(gradient, torch.tensor([[[1.3029, -0.4343]], [[0.0, 0.0]]]), atol=1e-3)

    def test_experiment_shows_that_a_plain_loss_follows_the_loud_song(self):
        """Task 6 can be answered with its cell: two songs that want opposite equalisers."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        first = torch.randn(2, 1, 6, 40, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        first[0] *= 1.5                                                    # (source, channel, bin, frame)
        second, change = first.flip(0), {}
        for name, loss in (("plain", lambda e, s: (e - s).square().mean()),
                           ("log", lambda e, s: (e - s).square().mean((1, 2, 3, 4)).log10().mean())):
            loud, soft = (
                names["sdr_of_shared_equalisers"]([first, level * second], loss).mean(1) for level in (1.0, 0.1)
            )
            change[name] = (soft - loud)[1]                                # of the second song's score
        assert change["plain"] < -0.5
        assert change["log"].abs() < 0.1
