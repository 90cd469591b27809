"""The graders of assignment 3 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in assignment_checks.py.
"""

import math

import torch
from assignment_checks import AssignmentChecks
from cases_03 import CASES

TAKEN = """# TASK 1 (4 points): three sums are enough
from course_lib.metrics import sd_sdr, sdr, si_sdr

def scores_from_sums(ss, se, ee):
    length = ss.sqrt()                                           # two samples with these sums
    along = torch.where(ss > 0, se / length, 0)
    s = torch.stack([length, 0 * length], -1)
    s_hat = torch.stack([along, (ee - along ** 2).clamp_min(0).sqrt()], -1)
    return torch.stack([sdr(s_hat, s), si_sdr(s_hat, s), sd_sdr(s_hat, s)])
"""


class TestAssignment03(AssignmentChecks):
    source, cases, points = "03_metrics", CASES, 26
    rubric_words = "a lower gain trades the second for the first"
    taken = 1, TAKEN

    def test_metrics_of_task_2_are_right_where_the_task_says_so(self):
        """On ordinary noise all eight metrics agree with the SDR within a decibel; it takes a counterexample to tell them apart."""
        names = {"torch": torch, "LETTERS": "ABCDEFGH"}
        exec(self.given_cell("def by_norms"), names)
        generator = torch.Generator().manual_seed(0)
        s = 0.1 * torch.randn(2, 4000, generator=generator)
        e = s + 0.02 * torch.randn(2, 4000, generator=generator)
        right = 10 * math.log10(float((s ** 2).sum() / ((s - e) ** 2).sum()))
        assert len(names["METRICS"]) == 8
        for metric in names["METRICS"].values():
            assert abs(float(metric(e, s)) - right) < 1, metric.__name__
