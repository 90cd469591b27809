"""The rubric of assignment 11: one large codebook, or several small ones, at equal bits."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks

OWN, OTHER = range(2)  # the columns


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
        z, following, table = names["vectors"](song), names["vectors"](song + 1), {}
        for row in rows:
            books, codes = int(row.split()[0]), int(row.split()[3].strip(","))
            kind = names["side_by_side" if "side by side" in row else "one_after_the_other"]
            stages = (int(row.split()[-1]),) if "only" in row else ()
            table[row] = [names["snr"](z, kind(teacher, books, codes)(z, *stages)) for teacher in (z, following)]
        return table

    def ahead(self, first: str, second: str, column: int) -> list[float]:
        """By how much the first way is ahead of the second, of each song."""
        way = lambda table, beginning: next(values for row, values in table.items() if row.startswith(beginning))
        return [way(table, first)[column] - way(table, second)[column] for table in self.by_song().values()]

    def test_one_large_book_is_ahead_of_two(self):
        """In every song, with its own books and with the next one's."""
        by_column = [self.ahead("1 book", "2 books of 16, one", column) for column in (OWN, OTHER)]
        assert all(gain > 0 for gains in by_column for gain in gains)
        means = [sum(gains) / len(gains) for gains in by_column]
        assert 1.1 < means[OWN] < 1.3 and 0.6 < means[OTHER] < 0.8

    def test_one_after_the_other_is_ahead_of_side_by_side(self):
        gains = [self.ahead("2 books of 16, one", "2 books of 16, side", column) for column in (OWN, OTHER)]
        assert all(gain > 0 for gain in (*gains[OWN], *gains[OTHER])) and 1.8 < sum(gains[OWN]) / len(gains[OWN]) < 2.0

    def test_own_books_need_not_be_the_best(self):
        """Half of the songs do better with another one's eight books, none with another one's large book."""
        better = {
            row: sum(table[row][OTHER] > table[row][OWN] for table in self.by_song().values()) for row in self.means()
        }
        assert better["8 books of 2, one after the other"] == len(self.songs) // 2 and better["1 book of 256"] == 0

    def test_numbers_stored(self):
        """What the rubric says of the books' sizes."""
        names = self.experiment()
        z = torch.randn(600, names["DIM"], generator=torch.Generator().manual_seed(0)).double()
        found = names["one_after_the_other"](z, 2, 16)
        assert found(z).shape == z.shape and not torch.equal(found(z, 1), found(z))
        assert [
            books * codes * width for books, codes, width in ((1, 256, 8), (2, 16, 8), (2, 16, 4), (4, 4, 8), (8, 2, 8))
        ] == [2048, 256, 128, 128, 128]
