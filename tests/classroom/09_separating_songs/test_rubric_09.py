"""The rubric of assignment 9: which shares of the residual make the stems of the small Demucs better."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks

TENTH = 2205  # samples


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006

    @pytest.fixture(autouse=True)
    @classmethod
    def one_thread(cls):
        """Convolutions this small only wait for a second thread where the machine is busy."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    @staticmethod
    def weights(row: str, found: torch.Tensor) -> torch.Tensor:
        """What the residual is shared out by."""
        power = found.square()
        return {
            "equal parts": torch.ones(4, 1, 1),
            "loudness, a tenth of a second": torch.nn.functional.avg_pool1d(
                power.flatten(0, 1)[None], TENTH, 1, TENTH // 2, count_include_pad=False)[0].reshape(power.shape),
            "energy of the piece": power.sum((1, 2), keepdim=True),
            "all to other": torch.tensor([0.0, 0, 1, 0])[:, None, None],
        }[row]

    def measure(self, names, song, columns, rows):
        sources = names["piece"](song)
        found = names["estimates"](sources)
        residual, table = sources.sum(0) - found.sum(0), {}
        for row in rows:
            if row == "as they are":
                shares = torch.zeros(4, 1, 1)
            elif row == "best shares":
                shares = names["best_shares"](found, sources)[:, None, None]
            else:
                weights = self.weights(row, found)
                shares = weights / weights.sum(0)
            table[row] = names["sdr"](found + shares * residual, sources)
        return table

    def better(self, row: str) -> int:
        """In how many songs a way is ahead of no shares, on all stems together."""
        return sum(table[row][-1] > table["as they are"][-1] for table in self.by_song().values())

    def test_the_reading(self):
        gain = {row: values[-1] - self.means()["as they are"][-1] for row, values in self.means().items()}
        assert self.better("equal parts") == len(self.songs) and 0.05 < gain["equal parts"] < 0.2
        assert self.better("best shares") == len(self.songs) and gain["best shares"] > 2 * gain["equal parts"]
        assert self.better("all to other") == 0 and gain["all to other"] < -0.3
        assert self.better("loudness, a tenth of a second") <= 2
        assert gain["loudness, a tenth of a second"] < 0 < gain["energy of the piece"]

    def test_who_makes_the_mistakes(self):
        """The best share of other is below 0 in each of the first four songs."""
        names = self.experiment()
        for song in self.songs[:4]:
            sources = names["piece"](song)
            shares = names["best_shares"](names["estimates"](sources), sources)
            assert abs(float(shares.sum()) - 1) < 1e-4 and shares[2] < 0
