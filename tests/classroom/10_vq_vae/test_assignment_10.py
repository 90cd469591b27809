"""The graders of assignment 10 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.vqvae import EMAVectorQuantizer, code_counts, perplexity
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
        songs = [torch.randint(0, 9, (n,), generator=draw) for n in (30, 1, 12)]
        exec(self.taken[1], names)
        mine = self.names(4, "counters")
        for name in ("bits_alone", "bits_given_the_last"):
            assert abs(names[name](songs) - mine[name](songs)) < 1e-6

    def test_averages_without_sums_are_the_chapters(self):
        """Task 3 gives what the chapter's module keeps sums for."""
        draw, names = torch.Generator().manual_seed(0), self.names(3, "sums inside")
        quantizer = EMAVectorQuantizer(6, 3, decay=0.9, restart_below=0.0, smoothing=0.0).train()
        quantizer.codebook.copy_(torch.randn(6, 3, generator=draw))
        quantizer.sums.copy_(quantizer.codebook)
        mine = quantizer.codebook.clone(), quantizer.counts.clone()
        for _ in range(4):
            z = torch.randn(2, 3, 30, generator=draw)
            codes = quantizer(z).codes
            mine = names["moved_codes"](*mine, z.movedim(1, 2).flatten(0, 1), codes.flatten(), 0.9)
            assert torch.allclose(mine[0], quantizer.codebook, rtol=1e-3, atol=1e-4)
            assert torch.allclose(mine[1], quantizer.counts, rtol=1e-4)

    def test_bits_alone_are_the_perplexity(self):
        letters = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(0)) ** 2
        found = self.names(4, "counters")["bits_alone"]([letters])
        assert abs(2**found - float(perplexity(code_counts(letters, 40)))) < 1e-4

    def test_experiment_measures_decibels(self):
        """The SNR of the experiment cell is right, and random order keeps every sample."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        x = torch.randn(64, generator=torch.Generator().manual_seed(0)).double().sign()
        assert abs(names["snr"](x, torch.tensor([[-0.9], [0.9]]).double()) - 20) < 1e-5
        assert names["vectors"](x[:63], 8).shape == (7, 8) and names["codes_for"](x, 2).shape == (4, 2)
        y = torch.arange(50.0)
        assert torch.equal(names["in_random_order"](y).sort().values, y)
        assert not torch.equal(names["in_random_order"](y), y)
