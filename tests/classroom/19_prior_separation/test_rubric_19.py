"""The rubric of assignment 19: one answer out of many draws from an exact posterior."""

import math

from tests.classroom.rubric_checks import RubricChecks

MOST = 64  # draws


class TestRubric(RubricChecks):
    songs = tuple(range(12))
    rounding = 0.006
    what = "SNR in dB of both sources, by the number of draws"
    source_of_songs = "of the experiment cell's worlds"

    def measure(self, names, song, columns, rows):
        x, m = names["world"](song)
        all_draws = names["exact_draws"](m, MOST, song)
        chosen = {
            "mean of the draws": lambda draws: draws.mean(0),
            "draw with the best sum": lambda draws: draws[(m - draws.sum(1)).square().sum(-1).argmin()],
            "likeliest draw": lambda draws: draws[names["likely"](draws).argmax()],
            "draw nearest to the truth": lambda draws: draws[(draws - x).square().sum((1, 2)).argmin()],
            "exact mean": lambda draws: names["exact_mean"](m),
        }
        return {row: [names["snr"](chosen[row](all_draws[:int(column.split()[0])]), x) for column in columns]
                for row in rows}

    def test_in_how_many_worlds_64_draws_are_ahead_of_one(self):
        ahead = {row: sum(table[row][3] > table[row][0] for table in self.by_song().values()) for row in self.means()}
        assert list(ahead.values()) == [12, 6, 5, 12, 0]

    def test_the_mean_is_behind_by_what_theory_says(self):
        """1 + 1/D times the error."""
        means = self.means()
        for draws, found in zip((1, 4, 16, MOST), means["mean of the draws"]):
            assert abs(means["exact mean"][0] - found - 10 * math.log10(1 + 1 / draws)) < 0.3

    def test_choosing_by_the_sum_or_the_prior_helps_nothing(self):
        means = self.means()
        for row in ("draw with the best sum", "likeliest draw"):
            assert max(means[row]) - means[row][0] < 0.1
        gain = means["draw nearest to the truth"][3] - means["draw nearest to the truth"][0]
        assert 0.8 < gain < 1.1
