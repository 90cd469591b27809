"""The graders of assignment 14b are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import itertools
import math

import torch
import torch.nn.functional as F

from course_lib.metrics import si_sdr
from course_lib.mixit import (
    best_assignment,
    best_partition,
    mixit_loss,
    mixture_consistency,
    negative_snr,
    output_sparsity,
)
from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self, task: int, answer: str) -> dict:
        """What a student's cell of this task defines."""
        names = {"torch": torch, "F": F, "math": math, "itertools": itertools}
        exec(self.cases[task]["right"][answer], names)
        return names

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names, draw = {"torch": torch, "math": math}, torch.Generator().manual_seed(0)
        stems = torch.randn(3, 200, generator=draw)
        outputs = stems[[2, 0, 1, 0]] * torch.rand(4, 200, generator=draw)
        exec(self.taken[1], names)
        owners, gains = names["name_outputs"](outputs, stems)
        right, scores = self.names(5, "matrices")["name_outputs"](outputs, stems)
        assert torch.equal(owners, right) and torch.allclose(gains, scores, atol=1e-3)

    def test_losses_are_those_of_the_chapter(self):
        """Tasks 1 and 2 give what the chapter's functions give at ordinary levels."""
        draw = torch.Generator().manual_seed(0)
        s, x = torch.randn(2, 5, 300, generator=draw), torch.randn(2, 2, 300, generator=draw)
        x[:, 0] += s[:, ::2].sum(1)
        x[1, 1] = 0
        loss, owners = self.names(2, "products of signals")["best_owners"](s, x, 25.0)
        expected, A = mixit_loss(s, x, 25.0)
        assert torch.allclose(loss, expected, atol=1e-3) and torch.equal(owners, A.argmax(1))
        assert torch.equal(A, best_assignment(s, x, 25.0))
        found = self.names(1, "double precision")["snr_loss"](s[:, 0], x[:, 1], x.sum(1), 25.0)
        wanted = negative_snr(s[:, 0], x[:, 1], 25.0, x.sum(1).square().sum(-1))
        assert torch.allclose(found, wanted, atol=1e-3)

    def test_pieces_are_those_of_the_chapter(self):
        """Task 3 gives what the chapter's functions give where weights add up to 1."""
        draw = torch.Generator().manual_seed(0)
        s, x = torch.randn(2, 4, 100, generator=draw), torch.randn(2, 100, generator=draw)
        weights = torch.rand(4, 1, generator=draw).softmax(0)
        names = self.names(3, "output by output")
        assert torch.allclose(names["adding_up"](s, x, weights), mixture_consistency(s, x, weights), atol=1e-5)
        assert torch.allclose(names["evenness"](s), output_sparsity(s), atol=1e-4)

    def test_oracle_is_that_of_the_chapter(self):
        """Task 5 finds the chapter's owners, and scores them as chapter 3 does."""
        draw = torch.Generator().manual_seed(1)
        outputs, stems = torch.randn(6, 100, generator=draw), torch.randn(3, 100, generator=draw)
        owners, gains = self.names(5, "sets of outputs")["name_outputs"](outputs, stems)
        A = best_partition(outputs, stems)
        assert torch.equal(owners, A.argmax(0))
        mixture = stems.sum(0).expand_as(stems)
        assert torch.allclose(gains, si_sdr(A @ outputs, stems) - si_sdr(mixture, stems), atol=1e-2)

    def test_experiment_makes_pieces_that_add_up(self):
        """Bands and pieces by chance sum to the mixture; bands have about equal energies."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        mixture = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
        for kind in ("bands", "by_chance"):
            pieces = names[kind](mixture, 5)
            assert pieces.shape == (5, 16_000)
            assert torch.allclose(pieces.sum(0), mixture, atol=1e-4)
        energies = names["bands"](mixture, 5).square().sum(1)
        assert energies.max() < 1.5 * energies.min()
        stems = torch.stack([mixture, mixture.flip(0)])
        whole = slice(None)
        assert names["praise"](stems, stems, whole, whole) > 60
