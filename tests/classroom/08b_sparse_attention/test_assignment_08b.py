"""The graders of assignment 8b are graded: every right answer gets full marks, every wrong one less.

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
        q, k, v = (torch.randn(5, 3, generator=torch.Generator().manual_seed(n)) for n in range(3))
        pairs = torch.tensor([[0, 0, 2, 3], [1, 4, 4, 0]])
        taken = names["attend_pairs"](q, k, v, *pairs)
        exec(self.cases[3]["right"]["float64"], names)
        assert torch.allclose(taken, names["attend_pairs"](q, k, v, *pairs), atol=1e-5)

    def test_theory_and_hash_agree(self):
        """Task 5's probability is what the rule of task 1 does with random directions."""
        names = {"torch": torch, "F": F, "math": math}
        for task in (1, 5):
            exec(self.cases[task]["right"][next(iter(self.cases[task]["right"]))], names)
        draw = torch.Generator().manual_seed(0)
        x, angle, found = torch.tensor([[1.0, 0.0]]), torch.tensor(1.0), 0
        y = torch.tensor([[math.cos(1.0), math.sin(1.0)]])
        for _ in range(600):
            b_x, b_y = (names["bucket_numbers"](z, R) for R in [torch.randn(2, 7, 2, generator=draw)] for z in (x, y))
            found += int(names["kept_by_bands"](b_x, b_y, 3))
        assert abs(found / 600 - float(names["found_by_bands"](angle, 7, 3))) < 0.08

    def test_experiment_ranks_keys(self):
        """What the experiment cell ranks is what its docstrings say, and all keys give what all keys give."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        x = F.normalize(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double(), dim=-1)
        assert (names["ranks"](x, "best").argmax(1) == torch.arange(40)).all()
        assert names["ranks"](x, "near")[9].topk(3).indices.sort().values.tolist() == [8, 9, 10]
        assert names["ranks"](x, "hash", 8).floor().diagonal().tolist() == [8] * 40
        whole = names["answers"](x, 5.0)
        for way in ("hash", "chance"):
            assert torch.allclose(names["answers"](x, 5.0, names["ranks"](x, way), 1.0), whole)
        assert abs(names["sdr"](0.9 * whole, whole) - 20) < 1e-9
