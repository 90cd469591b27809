"""The rubric of assignment 14: a perfect decoder at a wrong level, by two scores."""

from tests.classroom.rubric_checks import RubricChecks

GAINS = {"J the stem": 1.0, "J twice as loud": 2.0, "J half as loud": 0.5, "J four times as soft": 0.25}


class TestRubric(RubricChecks):
    songs = tuple(range(6))
    rounding = 0.006
    what = "SDRi and SI-SDRi in dB, mean over stems"

    def measure(self, names, song, columns, rows):
        stems = names["stems_of"](song)
        half = stems.sum(0).expand_as(stems) / 2
        return {
            row: names["gains"](names["masked"](stems, GAINS[row]) if row in GAINS else half, stems) for row in rows
        }

    def test_a_mixture_turned_down_gains_by_one_score_only(self):
        """In every song."""
        found = [table["the mixture at half its level"] for table in self.by_song().values()]
        assert all(4 < one[0] < 5 and abs(one[1]) < 0.01 for one in found)

    def test_levels_cost_what_the_rubric_says(self):
        means = self.means()
        cost = {row: [round(a - b, 1) for a, b in zip(means["J the stem"], means[row])] for row in GAINS}
        assert cost["J twice as loud"] == [2.7, 2.3]
        assert cost["J half as loud"] == [3.3, -0.2] and cost["J four times as soft"] == [5.8, -0.2]
