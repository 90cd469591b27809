"""The graders of assignment 12 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.priors import (
    COLUMN,
    DENSE,
    PREVIOUS,
    ROW,
    Cache,
    ConditionalAutoregressive2D,
    FactoredAttention,
    SimplePrior,
    column_attention,
    filter_logits,
    previous_row_attention,
    row_attention,
    sample_level,
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
        names, draw = {"torch": torch, "F": F, "math": math}, torch.Generator().manual_seed(0)
        q, k, v = torch.randn(3, 2, 17, 4, generator=draw)
        exec(self.taken[1], names)
        mine = self.names(2, "query by query")["heard"]
        for kind in ("row", "column", "previous row"):
            for upbeat in (0, 3):
                found = names["heard"](q, k, v, kind, 5, upbeat)
                assert torch.allclose(found, mine(q, k, v, kind, 5, upbeat), atol=1e-5)

    def test_bits_are_those_of_the_chapters_model(self):
        """Task 1 gives what the chapter's prior gives as its loss."""
        torch.manual_seed(0)
        model = ConditionalAutoregressive2D(12, 9, width=16, depth=1, init_scale=9.0).eval()
        codes = torch.randint(9, (3, 12), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            _, together = self.names(1, "a mask")["bits_of_rows"](
                model.logits(codes), codes, torch.zeros(3).long(), torch.full((3,), 12)
            )
            assert abs(float(together) - float(model(codes))) < 1e-4

    def test_without_an_upbeat_attention_is_the_chapters(self):
        draw, heard = torch.Generator().manual_seed(0), self.names(2, "folded")["heard"]
        q, k, v = torch.randn(3, 2, 17, 4, generator=draw)
        chapter = {"row": row_attention, "column": column_attention, "previous row": previous_row_attention}
        for kind, function in chapter.items():
            assert torch.allclose(heard(q, k, v, kind, 5), function(q, k, v, 5, 1), atol=1e-5)

    def test_a_wide_window_is_the_chapters_cache(self):
        """Task 3 with a window as wide as the song hears what the chapter's layer hears."""
        torch.manual_seed(0)
        layer, cache, memory = FactoredAttention(8, 10, 8, 2, DENSE).eval(), Cache(), None
        x, go_on = torch.randn(2, 10, 8), self.names(3, "a mask")["go_on"]
        with torch.no_grad():
            for t in range(10):
                new = x[:, t : t + 1]
                heard, memory = go_on(*layer.c_attn(new).chunk(3, -1), memory, 10, 2)
                assert torch.allclose(layer.c_proj(heard), layer(new, cache=cache), atol=1e-5)
        assert {ROW, COLUMN, PREVIOUS}.isdisjoint({layer.attn_func})

    def test_chances_are_those_of_the_chapters_filter(self):
        """Without ties, and where no sum lies at the nucleus' edge, task 4 keeps what the chapter keeps."""
        draw = torch.Generator().manual_seed(0)
        logits, chances = torch.randn(50, 20, generator=draw), self.names(4, "row by row")["chances"]
        found = chances(logits, torch.full((50,), 0.7), torch.full((50,), 0.8))
        assert torch.allclose(found, filter_logits(logits / 0.7, top_p=0.8).softmax(-1), atol=1e-5)

    def test_windows_are_those_of_the_chapter(self):
        """With half of the context fresh, task 5 asks the chapter's prior for what the chapter asks it for."""
        sizes = dict(n_ctx=8, l_bins=16, downs_t=(1, 1), strides_t=(2, 2), labels=False)
        prior = SimplePrior(**sizes, level=0, prior_kwargs=dict(width=8, depth=1),
                            x_cond_kwargs=dict(width=8, depth=1)).eval()
        above, asked = torch.arange(12)[None], []
        forward = prior.get_cond
        prior.get_cond = lambda z_conds, y: asked.append(z_conds[0][0].tolist()) or forward(z_conds, y)
        empty = torch.zeros(1, 0, dtype=torch.long)
        sample_level(prior, [empty, above], 24, 4, generator=torch.Generator().manual_seed(0))
        seen = []

        def draw(known, over, number):
            seen.append(over[0].tolist())
            return torch.zeros(1, number, dtype=torch.long)

        self.names(5, "by trying")["written"](draw, empty, above, 24, 8, 4, 2)
        assert seen == asked

    def test_experiment_counts_bits(self):
        """Bits of the experiment cell are those of chances, lags are lags, and moving keeps rests and holds."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        row = [5, 1, 7, 1] * 40
        tables = names["counted"]([row], [1])
        assert tables[0][()] == {5: 40, 1: 80, 7: 40} and tables[1][(5,)] == {1: 40}
        assert tables[1][(None,)] == {5: 1}
        assert abs(names["bits"](tables[:1], [], row, mass=0.0) - 1.5) < 1e-9
        assert names["bits"](names["counted"]([row], [2]), [2], row) < 0.3
        assert names["moved"]([0, 1, 9], 3) == [0, 1, 12]
