"""The graders of assignment 14 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.tagbox import masked_audio, spectral_mask
from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self, task: int, answer: str) -> dict:
        """What a student's cell of this task defines."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.cases[task]["right"][answer], names)
        return names

    def songs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A song and a steered signal, (batch, time)."""
        return torch.randn(2, 2, 400, generator=torch.Generator().manual_seed(0))

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names, (x, J) = {"torch": torch}, self.songs()
        exec(self.taken[1], names)
        inside = slice(64, -64)  # the chapter mirrors the ends
        found, right = names["masked_at"](x, J, [64, 32]), self.names(2, "folded")["masked_at"](x, J, [64, 32])
        assert torch.allclose(found[..., inside], right[..., inside], atol=1e-4)

    def test_mask_is_the_chapters(self):
        """Task 1 gives what the chapter's mask leaves."""
        J, X = torch.randn(2, 3, 5, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        for answer in self.cases[1]["right"]:
            stays, rest = self.names(1, answer)["stays_and_rest"](J, X)
            assert torch.allclose(stays, spectral_mask(J, X) * X, atol=1e-5)
            assert torch.allclose(stays + rest, X, atol=1e-5)

    def test_loss_is_the_binary_cross_entropy(self):
        """Task 3 at ordinary log-odds is torch's."""
        a = torch.randn(2, 3, 1, 5, generator=torch.Generator().manual_seed(0))
        y = torch.tensor([1.0, 0, 0, 1, 0])
        p = a[:, :, 0].sigmoid()
        expected = F.binary_cross_entropy(p, y.expand(p.shape), reduction="none").mean((0, 2))
        for answer in self.cases[3]["right"]:
            assert torch.allclose(self.names(3, answer)["tagging_loss"]([a], [y]), expected, atol=1e-5)

    def test_parts_steer_together(self):
        """Tasks 2 to 5 make a small TagBox: a decoder that is a matrix, a judge that likes soft high bands."""
        draw = torch.Generator().manual_seed(0)
        x, book = torch.randn(2, 64, generator=draw), torch.randn(12, 4, generator=draw)
        decoder, ear = torch.randn(8, 4, generator=draw), torch.randn(64, 3, generator=draw)
        masked, through = self.names(2, "folded")["masked_at"], self.names(4, "vector by vector")["through_codes"]
        tagging = self.names(3, "signs")["tagging_loss"]

        def judge(z):
            J = (decoder @ through(z, book)[0]).mT.flatten(1)  # (batch, time)
            heard = masked(x, J, [8, 16])
            return tagging([(heard @ ear)[:, :, None]], [torch.tensor([1.0, 0, 0])])

        z = torch.randn(2, 4, 8, generator=draw)
        best, losses = self.names(5, "PyTorch's Adam")["steer"](z, judge, 20, 0.3)
        assert (losses.amin(0) < losses[0]).all() and torch.allclose(judge(best), losses.amin(0), atol=1e-4)

    def test_experiment_measures_gains(self):
        """The experiment cell's estimates and scores are right."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        stems = torch.randn(3, 4096, generator=torch.Generator().manual_seed(0))
        found = names["gains"](stems.sum(0).expand_as(stems) / 2, stems)
        assert found[0] > 2 and abs(found[1]) < 1e-3
        masked = names["masked"](stems, 1.0)
        assert masked.shape == stems.shape
        expected = masked_audio(stems.sum(0, keepdim=True), stems[1:2], names["SIZE"])[0]
        assert torch.allclose(masked[1], expected, atol=1e-5)
