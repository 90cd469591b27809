"""The graders of assignment 11 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.jukebox import VQVAE, bandwidth_of, random_downmix
from course_lib.vqvae import bits_per_second
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
        x = torch.randn(30, 3, generator=draw)
        books = [torch.randn(8, 3, generator=draw) / 2**n for n in range(3)]
        exec(self.taken[1], names)
        found = names["frugal_symbols"](x, books, 0.2)
        assert torch.equal(found, self.names(5, "stage by stage")["frugal_symbols"](x, books, 0.2))
        assert (found == -1).any() and (found[:, -1] >= 0).any()

    def test_levels_are_those_of_the_chapters_codec(self):
        """Task 1's hops, bits and views are what the class of chapter 11 has."""
        model = VQVAE(
            levels=2, downs_t=(2, 1), strides_t=(2, 4), emb_width=4, l_bins=16, width=4, depth=2, multipliers=None
        )
        found = self.names(1, "walking back")["levels_of"](22_050, (2, 1), (2, 4), 2, 3, 16)
        assert [hop for hop, _, _ in found] == model.hop_lengths
        for parameter in model.parameters():
            parameter.data.abs_().add_(0.01)  # no ReLU shuts
        for level, (hop, bits, seen) in enumerate(found):
            assert abs(bits - bits_per_second(22_050, hop, 16)) < 1e-6
            x = torch.rand(1, 1, 1024, requires_grad=True)
            model.latents(x, level)[0, :, 512 // hop].sum().backward()
            touched = x.grad[0, 0].nonzero().flatten()
            assert int(touched.max() - touched.min()) + 1 == seen

    def test_pieces_are_those_of_the_chapters_codec(self):
        """Task 2 gives the symbols of the whole song, with the reach that task 1 computes."""
        torch.manual_seed(0)
        model = (
            VQVAE(levels=1, downs_t=(2,), strides_t=(2,), emb_width=4, l_bins=32, width=4, depth=2, multipliers=None)
            .double()
            .eval()
        )
        _, _, seen = self.names(1, "walking back")["levels_of"](1, (2,), (2,), 2, 3, 32)[0]
        x = torch.randn(1, 1, 1201, generator=torch.Generator().manual_seed(0)).double()
        with torch.no_grad():
            model.bottleneck.level_blocks[0].k = model.latents(x[..., :1200], 0)[0, :, ::9].mT[:32].float()
            whole = model.encode(F.pad(x, (0, 3)))[0]
            encode = lambda part: model.encode(part)[0]
            found = self.names(2, "written over")["symbols_in_pieces"](encode, x, 4, seen // 2, 300)
        assert len(whole.unique()) > 4 and float((found != whole).double().mean()) < 0.01

    def test_expected_bandwidth_is_that_of_many_downmixes(self):
        """Task 4 computes what the chapter measures on drawn chunks."""
        draw = torch.Generator().manual_seed(0)
        stereo = torch.randn(2, 2, 400, generator=draw) * torch.tensor([1.0, 0.3])[:, None] + 0.2
        many = torch.cat([random_downmix(stereo, draw) for _ in range(4000)])
        many = many.reshape(-1, 1, 2000)  # chunks long enough for a frame
        found = self.names(4, "moments")["expected_variance"](stereo)
        assert abs(found / bandwidth_of(many)["l2"] - 1) < 0.03

    def test_experiment_measures_decibels(self):
        """The SNR of the experiment cell is right, and both kinds of books know single vectors by heart."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        z = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)).double()
        assert abs(names["snr"](z, 0.9 * z) - 20) < 1e-6
        assert names["snr"](z, names["one_after_the_other"](z, 1, 32)(z)) > 100
        assert names["snr"](z, names["side_by_side"](z, 2, 32)(z)) > 100
        assert names["snr"](z, names["one_after_the_other"](z, 2, 4)(z, 1)) < names["snr"](
            z, names["one_after_the_other"](z, 2, 4)(z)
        )
