"""The graders of assignment 19 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.prior_separation import (
    count_sums,
    gaussian_posterior,
    log_likelihood,
    pair_posterior,
    resampling,
    separate_with_diffusion,
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
        names = {"torch": torch, "math": math}
        exec(self.taken[1], names)
        g = torch.Generator().manual_seed(0)
        given = [lambda y, sigma: y / (1 + sigma**2), torch.randn(2, 5, generator=g), torch.rand(3, generator=g),
                 [2.0, 1.0, 0.0], torch.randn(2, 3, 5, generator=g)]
        right = self.names(5, "one formula")["shared_descent"](*given)
        assert torch.allclose(names["shared_descent"](*given), right, atol=1e-5)

    def test_two_sources_are_the_chapters(self):
        """Task 1 with two sources is (19.1)."""
        p = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
        p = p / p.sum(1, keepdim=True)
        level = torch.arange(4)
        exact = pair_posterior(p[0], p[1], (level[:, None] + level == 4).float())
        found, _ = self.names(1, "all but one, in logarithms")["given_the_sum"](p, 4)
        assert torch.allclose(found, torch.stack([exact.sum(1), exact.sum(0)]).double(), atol=1e-5)

    def test_pairs_that_were_seen_often_are_the_chapters(self):
        """Task 2 and (19.4) agree where much was counted, and differ for a pair that never met."""
        g = torch.Generator().manual_seed(0)
        triples = torch.randint(0, 3, (30_000, 3), generator=g)
        triples = triples[(triples[:, 0] != 2) | (triples[:, 1] != 2)]
        triples[:, 2] = torch.where(triples[:, 0] == 2, 1, triples[:, 2])
        table = count_sums(*triples.T, 3)
        ask = self.names(2, "rows in one list")["log_of_sum"]
        for a, b in ((0, 1), (1, 1), (2, 2)):
            asked = torch.tensor([[a, b, 1]])
            ours, theirs = float(ask(triples, asked, 3, 1.0, 1.0)), float(log_likelihood(table, 1)[a, b])
            assert (abs(ours - theirs) < 1e-3) == ((a, b) != (2, 2))

    def test_systematic_resampling_gives_the_chapters_numbers_on_average(self):
        """Task 3 keeps each draw as often as the chapter's does in the mean, and varies less."""
        g = torch.Generator().manual_seed(0)
        logs = torch.tensor([0.0, -1.0, -2.0, -3.0, -9.0])
        resample, counts = self.names(3, "walking along")["resample"], []
        for _ in range(400):
            u = float(torch.rand((), generator=g))
            pair = resample(logs, u, 0.5)[0], resampling(logs, g)[0]
            counts.append(torch.stack([torch.bincount(one, minlength=5) for one in pair]).double())
        ours, theirs = torch.stack(counts).unbind(1)
        expected = 5 * logs.softmax(0).double()
        assert (ours.mean(0) - expected).abs().max() < 0.1 and (theirs.mean(0) - expected).abs().max() < 0.3
        assert ours.var(0).sum() < 0.5 * theirs.var(0).sum()

    def test_nothing_heard_but_the_sum_is_the_chapters_posterior(self):
        """Task 4 at infinite noise is (19.2)."""
        g = torch.Generator().manual_seed(0)
        v, m = torch.rand(3, generator=g) + 0.1, torch.randn(2, 4, generator=g)
        mean, _ = gaussian_posterior(m, v.expand(2, 4, 3), 0.09)
        found = self.names(4, "as the formula")["denoised"](torch.zeros(2, 3, 4), math.inf, torch.zeros(3), v, m, 0.3)
        assert torch.allclose(found, mean.movedim(-1, 1), atol=1e-5)

    def test_all_to_one_is_the_chapters_dirac_guidance(self):
        """Task 5 with all shares in one source gives what the chapter's separator gives for the same noise."""
        sigmas, shape = [2.0, 1.0, 0.3, 0.0], (2, 3, 6)
        m = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        v = torch.tensor([1.0, 0.3, 2.0])[:, None]
        denoiser = lambda y, sigma: y * v / (v + sigma**2)
        theirs = separate_with_diffusion(denoiser, m, 3, torch.tensor(sigmas), source=1,
                                         generator=torch.Generator().manual_seed(0))
        descend = self.names(5, "source by source")["shared_descent"]
        assert torch.allclose(descend(denoiser, m, torch.tensor([0.0, 1, 0]), sigmas, noise), theirs, atol=1e-4)

    def test_experiment_draws_from_the_posterior(self):
        """The experiment cell's draws have its exact mean, and a spread that the truth has, too."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        x, m = names["world"](5)
        draws, mean = names["exact_draws"](m, 600, 0), names["exact_mean"](m)
        assert (draws.mean(0) - mean).square().mean().sqrt() < 0.05
        spread, error = (draws - mean).square().mean(), (x - mean).square().mean()
        assert abs(float(spread / error) - 1) < 0.3
        assert names["likely"](draws).shape == (600,)
