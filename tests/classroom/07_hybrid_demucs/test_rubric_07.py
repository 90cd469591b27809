"""The rubric of assignment 7: what becomes of a hybrid's estimates when its branches get out of step."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks, Table


class TestRubric(RubricChecks):
    songs = tuple(range(6))
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
    def moved(names: dict, row: str, spectral: torch.Tensor, timed: torch.Tensor) -> torch.Tensor:
        """The estimate of a row of the table."""
        what, how, *late = row.split()
        if late == ["late"]:
            late_spectral = names["later"](spectral, int(how))
            return late_spectral + (names["later"](timed, int(how)) if what == "both" else timed)
        return {"both in": spectral + timed, "spectrogram alone": spectral, "waveform alone": timed}[f"{what} {how}"]

    def measure(self, names, song, columns, rows):
        sources = names["six_seconds"](song)
        branches = names["branches"](sources)
        return {row: names["sdr"](self.moved(names, row, *branches), sources) for row in rows}

    def test_the_reading(self):
        self.check_reading(self.means())
        self.check_vocals(self.means())
        for table in self.by_song().values():
            self.check_vocals(table)

    @staticmethod
    def check_reading(means: Table) -> None:
        """What the rubric says of the stems: vocals mind most, then other, then drums; bass hardly."""
        drums, bass, other, vocals = (step - late for step, late in zip(means["both in step"],
                                                                        means["spectrogram 16 late"]))
        assert vocals > 2 * other > 0 and other > drums > bass >= 0
        assert bass < 0.3 and means["spectrogram 384 late"][3] < means["waveform alone"][3]
        for step, late in zip(means["spectrogram 16 late"], means["both 16 late"]):
            assert late < step, "the control loses more"
        for near, far in zip(means["spectrogram 16 late"], means["spectrogram 384 late"]):
            assert abs(near - far) < 0.5, "more delay costs about the same"

    @staticmethod
    def check_vocals(table: Table) -> None:
        """Late is worse than none, and a sample costs little."""
        vocals = {row: scores[3] for row, scores in table.items()}
        step, alone = vocals["both in step"], vocals["waveform alone"]
        assert vocals["spectrogram 16 late"] < alone
        assert 0 < step - vocals["spectrogram 1 late"] < 0.5 * (step - alone)
        assert step > max(alone, vocals["spectrogram alone"]) + 0.5

    def test_who_writes_what(self):
        """The shares of the energy and the low frequencies that the rubric explains the stems with, in one song."""
        names = self.experiment()
        spectral, timed = names["branches"](names["six_seconds"](self.songs[0]))
        mine, other = (branch.square().sum((1, 2)) for branch in (spectral, timed))
        drums, bass, rest, vocals = (mine / (mine + other)).tolist()
        assert 0.4 < vocals < 0.6 and 0.1 < rest < 0.3 and drums < 0.1 and bass < 0.03
        power = torch.fft.rfft(spectral[3, 0]).abs().square()
        hertz = torch.fft.rfftfreq(spectral.shape[-1], 1 / names["RATE"])
        assert power[hertz < 1000].sum() > 0.8 * power.sum() > power[hertz < 100].sum()
