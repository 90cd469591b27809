"""The rubric of assignment 15: mu-laws of all kinds, at three levels."""

from tests.classroom.rubric_checks import RubricChecks

LEVELS = (1.0, 0.1, 0.01)  # the first columns


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "SNR in dB at three levels, and bits a sample"

    def measure(self, names, song, columns, rows):
        x, table = names["excerpt"](song), {}
        for row in rows:
            mu = int(row.split()[1])
            there_and_back = lambda x: names["back_by"](names["symbols_by"](x, mu), mu)
            table[row] = [names["snr"](level * x, there_and_back(level * x)) for level in LEVELS]
            table[row].append(names["bits"](names["symbols_by"](x, mu)))
        return table

    def column(self, row: str, column: int) -> list[float]:
        """A row's numbers, of each song."""
        return [table[row][column] for table in self.by_song().values()]

    def test_255_is_ahead_of_15_where_it_is_soft(self):
        """In no song as it is, in all that are softer, by what the rubric says."""
        gaps = [[a - b for a, b in zip(self.column("mu 255", n), self.column("mu 15", n))] for n in range(3)]
        assert all(gap < 0 for gap in gaps[0]) and all(gap > 0 for gap in (*gaps[1], *gaps[2]))
        assert [round(sum(gap) / len(gap), 1) for gap in gaps] == [-4.3, 4.1, 15.2]

    def test_a_larger_mu_depends_less_on_the_level(self):
        spreads = [max(row[:3]) - min(row[:3]) for row in self.means().values()]
        assert spreads == sorted(spreads, reverse=True)
        assert [round(spread, 1) for spread in spreads[1:]] == [27.4, 7.9, 0.7, 0.1]
        assert 40.5 < spreads[0] < 41.5

    def test_bits_are_highest_in_between(self):
        """In every song at 15, below 8 bits."""
        for table in self.by_song().values():
            assert max(table, key=lambda row: table[row][3]) == "mu 15" and table["mu 15"][3] < 8
