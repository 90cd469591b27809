"""The rubric of assignment 18: the best gain a band, by two splits."""

import torch

from tests.classroom.rubric_checks import RubricChecks


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "SDR in dB, mean over four stems, by the best gain a band and frame"

    def measure(self, names, song, columns, rows):
        stems, mixture = names["excerpt"](song)
        mean = lambda widths, **options: sum(names["scores"](stems, mixture, widths, **options)) / len(stems)
        table = {}
        for row in rows:
            equal, mel = (names[split](int(row.split()[0])) for split in ("equal", "mel"))
            table[row] = [mean(equal), mean(mel), mean(mel, complex_gains=True)]
        return table

    def column(self, row: str, column: int) -> list[float]:
        """A row's numbers, of each song."""
        return [table[row][column] for table in self.by_song().values()]

    def test_mel_is_ahead_in_all_songs(self):
        for row in self.means():
            assert all(mel > equal for equal, mel in zip(self.column(row, 0), self.column(row, 1)))
        equal, mel, _ = self.means()["16 bands"]
        assert round(mel - equal, 1) == 2.5
        assert abs(self.means()["64 bands"][0] - mel) < 0.3 and self.means()["32 bands"][0] < mel - 1

    def test_four_bands_help_least(self):
        leads = [mel - equal for equal, mel, _ in self.means().values()]
        assert leads[0] < 0.4 < 1.4 < min(leads[1:])

    def test_numbers_of_the_reading(self):
        """What the rubric says of energy, bins, and bands of one bin each."""
        names, shares, every = self.experiment(), [], []
        for song in self.songs[:2]:
            stems, mixture = names["excerpt"](song)
            window = torch.hann_window(1024)
            X = torch.stft(mixture, 1024, 512, window=window, return_complex=True).abs().square().sum(1)
            shares.append(float(X[:32].sum() / X.sum()))
            every.append(sum(names["scores"](stems, mixture, [1] * 513)) / 4)
        assert min(names["scores"](stems, mixture, [1] * 513, complex_gains=True)) > 80
        assert 0.75 < min(shares) and max(shares) < 0.95 and all(8 < score < 13 for score in every)
        assert names["equal"](16)[0] == 32 and sum(names["mel"](16)[:4]) == 33 == names["mel"](4)[0]
        assert sum(width <= 2 for width in names["mel"](128)) == 57
