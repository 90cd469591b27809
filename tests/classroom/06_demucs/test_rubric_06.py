"""The rubric of assignment 6: how much a network minds where a song begins."""

import pytest
import torch

from tests.classroom.rubric_checks import MEASURED_AGAIN, RubricChecks, Table

DELAYS = {"one estimate": [0], "delays 0 1 2 3": [0, 1, 2, 3], "delays 0 16 32 48": [0, 16, 32, 48],
          "delays 0 17 34 51": [0, 17, 34, 51], "delays 0 to 63": list(range(64))}
STEPS = {"before training": 0, "after training": 240}
# dB: where the last digit of a song differs on another machine, the training ends elsewhere
CHANGE_AGAIN, SDR_AGAIN = 3.0, 0.5


class TestRubric(RubricChecks):
    songs = (0, 1, 2)
    rounding = 0.006

    @pytest.fixture(autouse=True)
    @classmethod
    def one_thread(cls):
        """Convolutions this small only wait for a second thread, for minutes where the machine is busy."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def measure(self, names, song, columns, rows):
        sources, table = names["band_sources"](song), {row: [] for row in rows}
        for column in columns:
            model = names["small_demucs"](sources, STEPS[column])
            found = [names["estimates"](model, sources, delay) for delay in range(64)]
            for row in rows:
                kind, what = row.split(", ")
                if kind == "change":
                    change = found[int(what.split()[0])] - found[0]
                    table[row].append(float(10 * torch.log10(change.square().sum() / found[0].square().sum())))
                else:
                    mean = sum(found[delay] for delay in DELAYS[what]) / len(DELAYS[what])
                    table[row].append(names["sdr"](mean, sources))
        return table

    def test_the_first_song_measured_again_gives_the_same(self):
        """Before training to the digit; after it about the same numbers, and the same reading."""
        columns, shown = self.shown()
        again = self.measure(self.experiment(), self.songs[0], columns, list(shown))
        before = self.by_song()[str(self.songs[0])]
        assert list(again) == list(before)
        for row, (untrained, trained) in again.items():
            assert abs(untrained - before[row][0]) < MEASURED_AGAIN, row
            assert abs(trained - before[row][1]) < (SDR_AGAIN if row.startswith("SDR") else CHANGE_AGAIN), row
        self.check_reading(again)

    def test_the_reading(self):
        for table in (self.means(), *self.by_song().values()):
            self.check_reading(table)

    @staticmethod
    def check_reading(table: Table) -> None:
        """What the rubric says of the numbers."""
        before, after = (dict(zip(table, column)) for column in zip(*table.values()))
        assert before["change, 16 samples"] < before["change, 4 samples"] < before["change, 1 sample"] - 20
        assert all(after[f"change, {samples}"] > before[f"change, {samples}"] + 10
                   for samples in ("4 samples", "16 samples"))
        assert after["change, 16 samples"] > after["change, 1 sample"] - 5
        one, near, far, spread, all_of_them = (after[f"SDR, {delays}"] for delays in DELAYS)
        assert one < near < spread < all_of_them and far < spread
        assert spread - one > 0.7 * (all_of_them - one) > 0
        assert all_of_them - one < 0.3
