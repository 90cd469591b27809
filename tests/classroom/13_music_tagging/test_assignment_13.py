"""The graders of assignment 13 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.taggers import Musicnn, average_precision, harmonic_centres, in_chunks, listening_map, roc_auc, tag
from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self, task: int, answer: str) -> dict:
        """What a student's cell of this task defines."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.cases[task]["right"][answer], names)
        return names

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names, draw = {"torch": torch, "F": F, "math": math}, torch.Generator().manual_seed(0)
        labels, scores = torch.randint(0, 2, (12, 3), generator=draw), torch.randn(12, 3, generator=draw).round()
        weights = torch.randint(0, 4, (12,), generator=draw).float()
        exec(self.taken[1], names)
        mine = self.names(3, "a sorted list")["weighted_areas"](labels, scores, weights)
        assert all(map(torch.allclose, names["weighted_areas"](labels, scores, weights), mine))

    def test_areas_of_equal_weights_are_the_chapters(self):
        draw = torch.Generator().manual_seed(0)
        labels, scores = torch.randint(0, 2, (40, 4), generator=draw), torch.randn(40, 4, generator=draw)
        roc, precision = self.names(3, "ranks")["weighted_areas"](labels, scores, torch.ones(40))
        assert torch.allclose(roc, roc_auc(labels, scores))
        assert torch.allclose(precision, average_precision(labels, scores))

    def test_wide_filters_are_nearly_the_chapters(self):
        """Over a triangle of many bins the mean over a bin is its middle; low harmonic filters are never empty."""
        bank = self.names(1, "case by case")["filter_bank"]
        found = bank(torch.tensor([[1000.0, 2000, 4000]]).double(), 1024, 16_000)[:, 0]
        f = torch.arange(513) * 16_000 / 1024
        read = torch.minimum((f - 1000) / 1000, (4000 - f) / 2000).clamp(0, 1).double()
        assert float((found - read).abs().max()) < 0.01
        centres = harmonic_centres()
        half = (0.1079 * centres + 24.7) / 2
        stack = bank(torch.stack([centres - half, centres, centres + half], -1), 512, 16_000)
        assert stack.shape == (257, 6, 128) and bool((stack.sum(0) > 0).all())

    def test_a_balanced_loss_is_torchs(self):
        """Where half of the clips have each tag, the loss is the plain binary cross entropy."""
        draw = torch.Generator().manual_seed(0)
        odds = torch.randn(6, 3, generator=draw)
        labels = (torch.arange(6)[:, None] % 2).expand(6, 3).float()
        found = self.names(2, "weights")["tagging_loss"](odds, labels)
        assert torch.allclose(found, F.binary_cross_entropy_with_logits(odds, labels))

    def test_a_song_of_whole_chunks_is_tagged_as_in_the_chapter(self):
        """Of whole chunks both take the mean; a short one is repeated as the chapter repeats."""
        torch.manual_seed(0)
        model, draw = Musicnn(n_class=5).eval(), torch.Generator().manual_seed(0)
        x = 0.1 * torch.randn(1, 2 * model.samples, generator=draw)
        tag_songs = self.names(4, "a queue")["tag_songs"]
        with torch.no_grad():
            found = tag_songs(model, [x[0]], model.samples, 5)
            assert torch.allclose(found, tag(model, x), atol=1e-5)
        heard = []
        tag_songs(lambda chunks: heard.append(chunks) or chunks[:, :1], [torch.arange(7.0)], 5, 1)
        assert torch.equal(heard[0], in_chunks(torch.arange(7.0)[None], 5, "repeat")[0])

    def test_a_map_of_a_straight_network_is_the_chapters_gradient(self):
        """Near the floor, in one short step, S is the gradient of the chapter times the way."""
        torch.manual_seed(0)
        model = Musicnn(n_class=2).eval().requires_grad_(False)
        levels, gradient = listening_map(model, 0.1 * torch.randn(1, 4000), 1)
        floor = levels - 1e-3
        odds = lambda way: model.tagged(floor + way)[:, 1].logit()
        found = self.names(5, "step by step")["adds_up"](odds, levels - floor, 0.0, 1)
        assert torch.allclose(found / 1e-3, gradient, rtol=0.05, atol=1e-4)

    def test_experiment_counts_pairs(self):
        """Pairs of the experiment cell are shares, and what it changes is what it says."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        labels = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]])
        assert names["in_order"](torch.tensor([[0.9, 0.1, 0.4, 0.4], [0.5] * 4]), labels) == pytest.approx(3.5 / 4)
        assert math.isnan(names["in_order"](torch.rand(2, 4), torch.ones(2, 4)))
        x = torch.arange(24.0).view(1, 4, 6)
        mixed, higher = names["in_random_order"](x), names["moved_up"](x, 2)
        assert torch.equal(mixed.sort(-1).values, x) and not torch.equal(mixed, x)
        assert torch.equal(mixed[:, 1] - mixed[:, 0], torch.full((1, 6), 6.0))
        assert torch.equal(higher[:, 2:], x[:, :2]) and torch.equal(higher[:, 1], x[:, 0])
