"""The graders of assignment 20 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.query import FiLM, QueryEncoder, draw_example, mixture_and_target, modulate, query_loss, tag_vector
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
        names, right = {"torch": torch}, self.names(2, "reshaped")
        exec(self.taken[1], names)
        x, gamma, beta = torch.randn(2, 3, 4), torch.randn(2, 5, 3), torch.randn(2, 5, 3)
        assert torch.equal(names["film"](x, gamma, beta), right["film"](x, gamma, beta))

    def test_questions_are_the_chapters(self):
        """Task 1 without `none` is (20.2) and (20.3)."""
        names, known = self.names(1, "sets"), ["piano", "keys", "voice"]
        sources, tags = torch.randn(3, 8), [{"piano", "keys"}, {"voice"}, {"keys"}]
        target, fit = names["answer_to"](["keys"], [], sources, tags)
        asked = torch.tensor([n in fit for n in range(3)])
        assert torch.allclose(target, mixture_and_target(sources, asked)[1], atol=1e-6)
        encoder = QueryEncoder(known, 4, 5)
        with torch.no_grad():
            found = names["condition_to"](["voice", "keys", "voice"], [], known, encoder.tag_table.weight)
            assert torch.allclose(found, encoder.of_tags(tag_vector(["keys", "voice"], known)), atol=1e-6)

    def test_film_is_the_chapters(self):
        """Task 2's FiLM is (20.5) for each question, and its folded layer does what the chapter's layers do."""
        x, gamma, beta = torch.randn(2, 6, 4), torch.randn(2, 3, 6), torch.randn(2, 3, 6)
        found = self.names(2, "question by question")["film"](x, gamma, beta)
        for q in range(3):
            assert torch.allclose(found[:, q], modulate(x.mT, gamma[:, q], beta[:, q]).mT, atol=1e-6)
        torch.manual_seed(0)
        linear, norm, film = torch.nn.Linear(4, 6, bias=False), torch.nn.BatchNorm1d(6).eval(), FiLM(5, 6)
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, film.to_film.weight.data):
            tensor.normal_()
        norm.running_var.uniform_(0.1, 2)
        c, h = torch.randn(1, 5), torch.randn(1, 7, 4)
        with torch.no_grad():
            theirs = film(norm(linear(h).mT).mT, c)
            change, offset = film.to_film(c[0]).chunk(2)
            state = dict(mean=norm.running_mean, var=norm.running_var, weight=norm.weight, bias=norm.bias, eps=norm.eps)
            W, b = self.names(2, "reshaped")["folded"](linear.weight, None, state, 1 + change, offset)
        assert torch.allclose(h @ W.T + b, theirs, atol=1e-5)

    def test_level_does_not_count(self):
        """Task 3 says of an example what it says of a softer one."""
        described, f = self.names(3, "loops")["described"], lambda pieces: pieces[:, :3].abs()
        x = torch.randn(50)
        assert torch.allclose(described(f, x, 8, 0.1), described(f, 1e-6 * x, 8, 0.1), atol=1e-4)

    def test_loss_is_the_chapters(self):
        """Task 4 with one question a mixture is (20.8)."""
        names = self.names(4, "at once")
        y, target, x = torch.randn(4, 1, 30), torch.randn(4, 1, 30), torch.randn(4, 30)
        losses = names["losses_of"](y, target, x, 0.03)
        found = names["mean_loss"](losses, torch.ones(4, 1, dtype=torch.bool))
        assert torch.allclose(found, query_loss(y[:, 0], target[:, 0], x, 0.03), atol=1e-4)

    def test_draws_are_among_the_chapters(self):
        """Task 5 draws what the chapter may draw, each song as often as another."""
        drawn, songs, tags = self.names(5, "fractions")["drawn"], ["a", "a", "b", "b", "b", "c"], ["x"] * 6
        examples = [(song, {tag}) for song, tag in zip(songs, tags)]
        generator = torch.Generator().manual_seed(0)
        theirs = {draw_example(tags, songs, "x", "a", generator) for _ in range(60)}
        mine = [drawn(examples, "x", {"a"}, k / 64) for k in range(64)]
        assert set(mine) == theirs and mine.count(5) == 32

    def test_experiment_finds_an_example_of_itself(self):
        """The experiment cell's description doesn't hear the level, and an example of itself is nearest."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        generator = torch.Generator().manual_seed(0)
        stems = torch.stack(
            [
                torch.randn(16 * 16_000, generator=generator).cumsum(0) / 99,
                torch.randn(16 * 16_000, generator=generator),
                torch.zeros(16 * 16_000),
            ]
        )
        names["KEPT"].update({0: stems, 1: stems.flip(0)})
        assert names["found"](0, 0, 1.0) == (2, 2)
        assert names["found"](0, 0, 1.0, gain=0.1) == (2, 2)
        assert names["found"](0, 1, 1.0) == (1, 1)  # only the second sounds in both
        soft, loud = (names["described"](gain * stems[1]) for gain in (0.01, 1.0))
        assert torch.allclose(soft, loud, atol=1e-2)
