"""The graders of assignment 3 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def test_metrics_of_task_2_are_right_where_the_task_says_so(self):
        """On ordinary noise all eight metrics agree with the SDR within a decibel;
        it takes a counterexample to tell them apart.
        """
        names = {"torch": torch, "LETTERS": "ABCDEFGH"}
        exec(self.given_cell("def by_norms"), names)
        generator = torch.Generator().manual_seed(0)
        s = 0.1 * torch.randn(2, 4000, generator=generator)
        e = s + 0.02 * torch.randn(2, 4000, generator=generator)
        right = 10 * math.log10(float((s ** 2).sum() / ((s - e) ** 2).sum()))
        assert len(names["METRICS"]) == 8
        for metric in names["METRICS"].values():
            assert abs(float(metric(e, s)) - right) < 1, metric.__name__
