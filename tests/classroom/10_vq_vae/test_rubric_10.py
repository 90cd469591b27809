"""The rubric of assignment 10: what longer letters buy at equal bits, and how much of it is owed to the neighbours."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks

OWN, OTHER, RANDOM, MISFIT = range(4)  # the columns


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "SNR in dB"

    @pytest.fixture(autouse=True)
    @classmethod
    def one_thread(cls):
        """Products this small only wait for a second thread where the machine is busy."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def measure(self, names, song, columns, rows):
        x, following = names["samples"](song), names["samples"](song + 1)
        mixed, snr, codes_for = names["in_random_order"](x), names["snr"], names["codes_for"]
        table = {}
        for row in rows:
            dim = int(row.split()[0])
            own = codes_for(x, dim)
            other, fitted = codes_for(following, dim), codes_for(mixed, dim)
            table[row] = [snr(x, own), snr(x, other), snr(mixed, fitted), snr(mixed, own)]
        return table

    def columns_by_song(self, column: int) -> list[list[float]]:
        """Of each song, the four numbers of a column."""
        return [[values[column] for values in table.values()] for table in self.by_song().values()]

    def test_longer_letters_are_better(self):
        """In every song, and nearly all of it is owed to the neighbours."""
        for kept, mixed in zip(self.columns_by_song(OWN), self.columns_by_song(RANDOM)):
            assert kept == sorted(kept) and mixed == sorted(mixed)
            assert kept[-1] - kept[0] > 7 and 1 < mixed[-1] - mixed[0] < 2
        means = list(self.means().values())
        gain = [means[-1][column] - means[0][column] for column in (OWN, RANDOM)]
        assert 11 < gain[0] < 13 and 1.2 < gain[1] < 1.4 and 0.87 < 1 - gain[1] / gain[0] < 0.93

    def test_single_samples_have_no_order(self):
        for own, _, mixed, misfit in (next(iter(table.values())) for table in self.by_song().values()):
            assert own == misfit and abs(own - mixed) < 0.02

    def test_codes_for_neighbours_are_worse_than_none(self):
        for column in self.columns_by_song(MISFIT):
            assert max(column[1:]) < column[0] - 1

    def test_how_many_vectors_the_longest_letters_have(self):
        names = self.experiment()
        assert len(names["vectors"](names["samples"](0), 8)) == 8268

    def test_the_next_songs_codes_cost_most_for_the_longest_letters(self):
        lost = [values[OWN] - values[OTHER] for values in self.means().values()]
        assert all(0.2 < one < 0.8 for one in lost[:3]) and 1.2 < lost[-1] < 1.8
