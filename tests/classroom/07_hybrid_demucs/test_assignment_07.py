"""The graders of assignment 7 are graded: every right answer gets full marks, every wrong one less.

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
        names = {"torch": torch, "F": F, "math": math}
        exec(self.taken[1], names)
        difference = torch.tensor([[[1.0, -1.0]]])
        assert abs(float(names["stretch"](difference, 6)) - 2) < 1e-5
        assert abs(float(names["stretch"](difference, 3)) - 3 ** 0.5) < 1e-5

    def test_experiment_moves_a_branch(self):
        """What the experiment cell gives is what its docstrings say: later by so many samples, decibels by source."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        sources = torch.randn(4, 1, 8000, generator=torch.Generator().manual_seed(0)).double()
        late = names["later"](sources, 16)
        assert late.shape == sources.shape and not late[..., :16].any()
        assert torch.equal(late[..., 16:], sources[..., :-16]) and torch.equal(names["later"](sources, 0), sources)
        scale = torch.tensor([1.1, 1.01, 0.9, 0.5], dtype=torch.float64)[:, None, None]
        found = names["sdr"](scale * sources, sources)
        assert all(abs(value - expected) < 1e-9 for value, expected in zip(found, (20, 40, 20, 20 * math.log10(2))))
