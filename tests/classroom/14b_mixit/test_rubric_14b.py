"""The rubric of assignment 14b: an oracle's scores of bands, of chance, and of the trained network."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks

SAME, OTHER = range(2)  # the columns


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "SI-SDRi in dB, mean over stems"

    @pytest.fixture(autouse=True)
    @classmethod
    def one_thread(cls):
        """Products this small only wait for a second thread where the machine is busy."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def measure(self, names, song, columns, rows):
        stems, table = names["excerpt"](song), {}
        mixture, half = stems.sum(0), 3 * names["RATE"]
        first, second = slice(0, half), slice(half, None)
        for row in rows:
            words = row.split()
            if "network" in row:
                pieces = names["learned"](mixture)
            else:
                pieces = names["bands" if "bands" in row else "by_chance"](mixture, int(words[0]))
            table[row] = [names["praise"](pieces, stems, found_on, second) for found_on in (second, first)]
        return table

    def values(self, beginning: str, column: int) -> list[float]:
        """A row's numbers, of each song."""
        return [
            next(values for row, values in table.items() if row.startswith(beginning))[column]
            for table in self.by_song().values()
        ]

    def mean_gap(self, first: tuple[str, int], second: tuple[str, int]) -> float:
        """By how much one row and column is ahead of another, on average."""
        a, b = self.values(*first), self.values(*second)
        return (sum(a) - sum(b)) / len(a)

    def test_bands_are_ahead_of_the_network(self):
        """In seven of eight songs, with the oracle of the same seconds."""
        ahead = [a > b for a, b in zip(self.values("8 bands", SAME), self.values("the network", SAME))]
        assert sum(ahead) == 7
        assert 1.5 < self.mean_gap(("8 bands", SAME), ("the network", SAME)) < 1.7

    def test_owners_found_elsewhere_are_worth_less(self):
        """What the rubric says that 8 bands, 10 bands and the network lose."""
        lost = [self.mean_gap((row, SAME), (row, OTHER)) for row in ("8 bands", "10 bands", "the network")]
        assert [round(value, 1) for value in lost] == [2.2, 3.1, 3.4]
        assert self.means()["the network's 8 outputs"][OTHER] < 0

    def test_chance_is_below_the_mixture(self):
        assert max(self.values("8 pieces", SAME)) < -1.7

    def test_a_song_may_come_out_far_below_the_mixture(self):
        """With few bands the least squared error can be a bad SI-SDR."""
        assert min(self.values("4 bands", SAME)) < -7 and min(self.values("6 bands", SAME)) < -8
