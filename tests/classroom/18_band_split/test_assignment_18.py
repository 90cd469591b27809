"""The graders of assignment 18 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.band_split import (
    MaskEstimator,
    RotaryEmbedding,
    SDlayer,
    along_bands,
    along_time,
    edges_of,
    equal_widths,
    mel_bands,
    musical_widths,
    subbands,
)
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
        names, right = {"torch": torch}, self.names(3, "matrices")
        exec(self.taken[1], names)
        x, places, freqs = torch.randn(2, 5, 7), torch.tensor([3, -1, 10**8, 0, 2]), torch.tensor([1.0, 0.3])
        for name, more in (("turned", (places, freqs)), ("counted_anew", (2.5, freqs))):
            assert torch.allclose(names[name](x, *more), right[name](x, *more), atol=1e-5)

    def test_bands_are_the_chapters(self):
        """Task 1 with the chapter's borders, where all lie between two bins, gives the chapter's musical split."""
        bands_of = self.names(1, "cut by cut")["bands_of"]
        borders = list(range(100, 1000, 100)) + list(range(1000, 4000, 250)) + list(range(4000, 8000, 500))
        found = bands_of([*borders, *range(8000, 11_025, 1000)], 22_050, 1024, 1)
        theirs = edges_of(musical_widths(22_050, 1024))
        assert len(found) == len(theirs)  # the chapter rounds, the task cuts exactly: a bin apart at most
        assert max(abs(a - b) for mine, other in zip(found, theirs) for a, b in zip(mine, other)) == 1

    def test_rows_are_the_chapters(self):
        """Task 1's rows are those of the published SCNet, and what the chapter's layer leaves."""
        rows_left = self.names(1, "widths joined")["rows_left"]
        assert rows_left(2049, [175, 392, 433], [1, 4, 16], 3) == [2049, 616, 186, 57]
        shares, strides = (0.175, 0.392, 0.433), (1, 4, 16)
        down, bins = SDlayer(1, 1, shares, strides, (3, 4, 16)), 513
        bands, _ = down(torch.zeros(1, 1, bins, 1))
        left = rows_left(bins, [175, 392, 433], [1, 4, 16], 1)[1]
        assert sum(band.shape[2] for band in bands) == left and sum(subbands(bins, shares)) == bins

    def test_mean_is_the_chapters(self):
        """Task 2 with equal weights on the chapter's mel bands is (18.6)."""
        names, bands = self.names(2, "one matrix"), mel_bands(22_050, 256, 12)
        x = torch.complex(*torch.randn(2, 1, 129, 3))
        parts = [part * (n + 1) for n, part in enumerate(names["cut"](x, bands.float()))]
        places, total = bands.nonzero()[:, 1], torch.zeros(1, 129, 3, dtype=x.dtype)
        total = total.index_add(1, places, torch.cat(parts, 1)) / bands.sum(0)[:, None]
        assert torch.allclose(names["join"](parts, bands.float(), 0.0), total, atol=1e-4)

    def test_turn_is_the_chapters(self):
        """Task 3 at positions 0, 1, ... with the pairs brought together is the chapter's module."""
        rotary, x = RotaryEmbedding(8), torch.randn(2, 6, 8)
        found = self.names(3, "complex numbers")["turned"](x, torch.arange(6), rotary.freqs.detach())
        theirs = rotary(torch.stack([x[..., :4], x[..., 4:]], -1).flatten(-2))
        assert torch.allclose(found, torch.cat([theirs[..., ::2], theirs[..., 1::2]], -1), atol=1e-5)

    def test_ways_are_the_chapters(self):
        """Task 4 without padding goes the chapter's ways."""
        torch.manual_seed(0)
        gru, line = torch.nn.GRU(3, 3, batch_first=True), torch.nn.GRU(3, 3, batch_first=True)
        x = torch.randn(2, 5, 4, 3)
        add = lambda net: lambda rows, first: (rows + net(rows)[0], None)
        with torch.no_grad():
            theirs = along_bands(along_time(x, add(gru), None)[0], add(line), None)[0]
            found = self.names(4, "masks")["two_ways"](
                x, torch.tensor([5, 5]), lambda rows, real: gru(rows)[0], lambda rows: line(rows)[0]
            )
        assert torch.allclose(found, theirs, atol=1e-5)

    def test_masks_are_the_chapters(self):
        """Task 5's masks, from what the chapter's estimator has before its gates."""
        torch.manual_seed(0)
        widths = equal_widths(9, 4)
        estimator, z = MaskEstimator(6, tuple(2 * width for width in widths), 2), torch.randn(2, 5, 4, 6)
        with torch.no_grad():
            before = torch.cat([net[0](band) for net, band in zip(estimator.to_freqs, z.unbind(-2))], -1)
            theirs = torch.view_as_complex(estimator(z).unflatten(-1, (-1, 2)).contiguous())
        found = self.names(5, "GLU and softmax")["masks_of"](before[:, None], widths)
        assert torch.allclose(found[:, 0], theirs.mT, atol=1e-5)

    def test_stems_add_up(self):
        """Task 5's stems do what their title says."""
        M, X = torch.complex(*torch.randn(2, 2, 3, 5, 4)), torch.complex(*torch.randn(2, 2, 5, 4))
        assert torch.allclose(self.names(5, "band after band")["adding_up"](M, X).sum(1), X, atol=1e-5)

    def test_experiment_finds_the_best_gains(self):
        """The experiment cell's splits hold all bins, and no other gain is better than what it takes."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        for bands in (1, 4, 16, 128, 513):
            for split in ("equal", "mel"):
                widths = names[split](bands)
                assert sum(widths) == 513 and len(widths) == bands and min(widths) >= 1
        stems = torch.randn(2, 22_050, generator=torch.Generator().manual_seed(0))
        few, more = (names["scores"](stems, stems.sum(0), names["equal"](n)) for n in (2, 8))
        both = names["scores"](stems, stems.sum(0), names["equal"](8), complex_gains=True)
        assert all(a < b < c for a, b, c in zip(few, more, both))
        alone = names["scores"](stems[:1], stems[0], [513])
        assert alone[0] > 80
