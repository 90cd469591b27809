"""The rubric of assignment 1: which frame for which stem."""

import torch

from course_lib.data import STEMS
from tests.classroom.rubric_checks import RubricChecks


class TestRubric(RubricChecks):
    songs = (0, 1, 2, 3)

    def measure(self, names, song, columns, rows):
        sources = names["band_sources"](song)
        scores = torch.stack([names["oracle_sdr"](sources, int(length)) for length in columns], dim=1)
        assert rows == list(STEMS)
        return dict(zip(rows, scores.tolist()))

    def test_the_reading(self):
        """Drums peak earliest and lose most at the longest frames; the others gain up to much longer ones."""
        lengths, means = self.shown()[0], self.means()
        best = {stem: values.index(max(values)) for stem, values in means.items()}
        assert len(lengths) == 8 and best["drums"] == min(best.values())
        loss = {stem: max(values) - values[-1] for stem, values in means.items()}
        assert loss["drums"] == max(loss.values())
