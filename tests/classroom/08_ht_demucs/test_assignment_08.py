"""The graders of assignment 8 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self) -> dict:
        """What a student's cells find, with the layer at random that tasks 4 and 5 are given."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.given_cell("def random_layer"), names)
        return names

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names = self.names()
        draw = torch.Generator().manual_seed(0)
        layers = [names["random_layer"](6, 10, draw) for _ in range(2)]
        x, xt = (torch.randn(2, n, 6, generator=draw) for n in (5, 3))
        exec(self.taken[1], names)
        taken = names["exchange"](x, xt, *layers, 2)
        exec(self.cases[4]["right"]["einsum"], names)
        for found, expected in zip(taken, names["exchange"](x, xt, *layers, 2)):
            assert torch.allclose(found, expected, atol=1e-4)

    def test_a_folded_layer_computes_the_same(self):
        """Task 5 asks for what task 4 can't tell from the layer before."""
        names = self.names()
        for task in (4, 5):
            exec(next(cell.source for cell in self.release().tasks if (cell.role, cell.task) == ("task", task)), names)
        draw = torch.Generator().manual_seed(1)
        layers = [names["random_layer"](6, 10, draw) for _ in range(2)]
        x, xt = (torch.randn(2, n, 6, generator=draw) for n in (5, 3))
        before = names["exchange"](x, xt, *layers, 3)
        after = names["exchange"](x, xt, *map(names["folded"], layers), 3)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after))

    def test_experiment_takes_parts_away(self):
        """What the experiment cell silences is silent, and the SDR is in decibels by source."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        whole, less = names["network"](), names["network"]("cross", "positions")
        scale = lambda model, index: model.crosstransformer.layers_t[index].gamma_1.scale
        assert not scale(less, 1).any() and torch.equal(scale(less, 0), scale(whole, 0)) and scale(whole, 1).any()
        assert less.crosstransformer.weight_pos_embed == 0 < whole.crosstransformer.weight_pos_embed
        sources = torch.randn(4, 1, 500, generator=torch.Generator().manual_seed(0))
        found = names["sdr"](lambda x: 0.9 * sources[None], sources)
        assert all(abs(value - 20) < 1e-3 for value in found)
