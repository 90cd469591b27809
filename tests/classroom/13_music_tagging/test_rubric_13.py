"""The rubric of assignment 13: what the band's tagger goes by."""

import pytest
import torch

from tests.classroom.rubric_checks import RubricChecks

NINE, SIX, SOUNDING, OTHERS = range(4)  # the columns


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "shares of pairs in order, and probabilities"

    @pytest.fixture(autouse=True)
    @classmethod
    def one_thread(cls):
        """A network this small only waits for a second thread where the machine is busy."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def measure(self, names, song, columns, rows):
        (x, labels), following = names["song_in_chunks"](song), names["song_in_chunks"](song + 1)[0]
        tagger, half = names["bands_tagger"](), names["CHUNK"] // 2
        levels, silent = tagger.levels(x), torch.zeros_like(x)
        heard = {
            "as it is": levels,
            "20 dB softer": tagger.levels(x / 10),
            "frames in random order": names["in_random_order"](levels),
            "mean over time": levels.mean(-1, keepdim=True).expand_as(levels),
            "mean over bands": levels.mean(1, keepdim=True).expand_as(levels),
            "8 bands up": names["moved_up"](levels, 8),
            "first half, then zeros": tagger.levels(torch.cat([x[:, :half], silent[:, half:]], 1)),
            "first half twice": tagger.levels(torch.cat([x[:, :half]] * 2, 1)),
            "silence": tagger.levels(silent),
            "the next song": tagger.levels(following),
        }
        table = {}
        for row in rows:
            p = tagger.tagged(heard[row])
            table[row] = [
                names["in_order"](p, labels),
                names["in_order"](p[:, names["SIX"]], labels[:, names["SIX"]]),
                float(p[labels == 1].mean()),
                float(p[labels == 0].mean()),
            ]
        return table

    def worse(self, row: str, column: int) -> int:
        """In how many songs a row is below the song as it is."""
        return sum(table[row][column] < table["as it is"][column] for table in self.by_song().values())

    def test_most_of_nine_tags_is_habit(self):
        means = self.means()
        assert means["as it is"][NINE] - means["the next song"][NINE] < 0.05 and self.worse("the next song", NINE) == 4
        assert means["silence"][NINE] < 0.5

    def test_it_goes_by_movement_but_not_by_order(self):
        """Random order hardly hurts; the mean over time hurts nine tags in every song, six tags in few."""
        means = self.means()
        assert self.worse("frames in random order", NINE) == 4 and self.worse("mean over time", NINE) == 8
        assert self.worse("mean over time", SIX) == 2
        assert means["as it is"][NINE] - means["frames in random order"][NINE] < 0.02
        assert means["as it is"][NINE] - means["mean over time"][NINE] > 0.15

    def test_drums_and_voices_need_movement(self):
        """In the first song their probabilities fall where all frames are the mean."""
        names = self.experiment()
        tagger = names["bands_tagger"]()
        levels = tagger.levels(names["song_in_chunks"](0)[0])
        moving, still = (tagger.tagged(x).mean(0) for x in (levels, levels.mean(-1, keepdim=True).expand_as(levels)))
        assert float(moving[0]) > 0.9 and float(still[0]) < 0.5 and float(still[2]) < float(moving[2]) / 2

    def test_zeros_hurt_and_repetition_does_not(self):
        means = self.means()
        assert self.worse("first half, then zeros", NINE) == self.worse("first half, then zeros", SIX) == 7
        assert means["first half, then zeros"][SOUNDING] < 0.6 * means["as it is"][SOUNDING]
        assert means["first half, then zeros"][OTHERS] < 0.3 * means["as it is"][OTHERS]
        assert abs(means["first half twice"][NINE] - means["as it is"][NINE]) < 0.02
        assert self.worse("20 dB softer", NINE) == 7

    def test_six_tags_tell_little(self):
        """But for zeros and silence, eight songs can't tell the changes from the song as it is."""
        told = {row: self.worse(row, SIX) for row in self.means() if row != "as it is"}
        assert {row for row, number in told.items() if number > 4} == {"first half, then zeros", "silence"}
        assert min(told.values()) == 2
