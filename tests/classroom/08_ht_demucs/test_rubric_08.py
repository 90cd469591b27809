"""The rubric of assignment 8: which parts of its transformer the small HT Demucs uses."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks, Table


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

    def measure(self, names, song, columns, rows):
        sources = names["chunk"](song)
        return {row: names["sdr"](names["network"](*row.split()[1:]), sources) for row in rows}

    @staticmethod
    def mean_loss(table: Table, row: str) -> float:
        """How many decibels the stems lose, on the average."""
        return sum(whole - less for whole, less in zip(table["whole"], table[row])) / len(table[row])

    def losses(self, row: str) -> list[float]:
        """Of each song."""
        return [self.mean_loss(table, row) for table in self.by_song().values()]

    def test_the_reading(self):
        """What the rubric says of the parts, and in how many songs."""
        loss = {row: self.mean_loss(self.means(), row) for row in self.means()}
        assert 0.5 < loss["without cross self feed-forward"] < 0.75
        assert all(value > 0 for value in self.losses("without cross self feed-forward"))
        assert 0.25 < loss["without self"] < 0.42 and 0.2 < loss["without feed-forward"] < 0.32
        assert 0.05 < loss["without positions"] < 0.15 and 0.01 < loss["without cross"] < 0.03
        assert sum(value > 0 for value in self.losses("without cross")) == 5

    def test_the_control_changes_nothing(self):
        for table in self.by_song().values():
            for whole, control in zip(table["whole"], table["with reversed"]):
                assert abs(whole - control) < 0.005

    def test_layer_scales_are_still_small(self):
        """The rubric's explanation: a few hundredths at most, two in the layers of cross attention."""
        transformer = self.experiment()["network"]().crosstransformer
        scales = {name: float(p.detach().abs().mean()) for name, p in transformer.named_parameters() if "gamma" in name}
        assert len(scales) == 12 and max(scales.values()) < 0.07
        assert max(value for name, value in scales.items() if ".1.gamma" in name) < 0.021
