"""The graders of assignment 9 are graded: every right answer gets full marks, every wrong one less.

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
        chunks = [torch.randn(2, n, generator=torch.Generator().manual_seed(n)) for n in (6, 9)]
        exec(self.taken[1], names)
        taken = names["joined_chunks"](chunks, [0, 4], 15, 2.0)
        exec(self.cases[1]["right"]["padded"], names)
        assert torch.allclose(taken, names["joined_chunks"](chunks, [0, 4], 15, 2.0), atol=1e-6)

    def test_planned_chunks_make_the_song_again(self):
        """Tasks 1 and 2 fit together."""
        names = {"torch": torch, "F": F, "math": math}
        for task, name in ((1, "padded"), (2, "counted")):
            exec(self.cases[task]["right"][name], names)
        song = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
        for chunk, overlap in ((30, 7), (9, 0), (100, 3), (120, 60)):
            starts = names["plan"](100, chunk, overlap)
            found = names["joined_chunks"]([song[:, start:start + chunk] for start in starts], starts, 100)
            assert torch.allclose(found, song, atol=1e-6)

    def test_experiment_knows_the_best_shares(self):
        """What the experiment cell calls best can't be bettered by a little, and the SDR is in decibels by source."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        draw = torch.Generator().manual_seed(0)
        sources = torch.randn(4, 1, 500, generator=draw).double()
        found = sources + 0.3 * torch.randn(4, 1, 500, generator=draw).double()
        shares, residual = names["best_shares"](found, sources), (sources - found).sum(0)
        assert abs(float(shares.sum()) - 1) < 1e-9
        score = lambda shares: names["sdr"](found + shares[:, None, None] * residual, sources)[-1]
        for j in range(4):
            for by in (-0.05, 0.05):
                assert score(shares) > score(shares + by * torch.eye(4)[j])
        assert all(abs(value - 20) < 1e-9 for value in names["sdr"](0.9 * sources, sources))
