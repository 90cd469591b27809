"""The rubric of assignment 5: a loud song and a soft one."""

from course_lib import losses
from tests.classroom.rubric_checks import RubricChecks

LEVELS = (1.0, 0.1)                                      # of the second song: as it is, 20 dB softer


class TestRubric(RubricChecks):
    songs = ((0, 1), (1, 2), (2, 0))
    rounding = 0.08

    def measure(self, names, song, columns, rows):
        first, second = (names["band_spectra"](number) for number in song)
        table = {}
        for name in rows:
            loss = getattr(losses, name)
            table[name] = [float(score.mean()) for level in LEVELS
                           for score in names["sdr_of_shared_equalisers"]([first, level * second], loss)]
        return table

    def test_the_reading(self):
        means = self.means()
        assert list(means) == ["l1_freq", "l2_freq", "logl1_freq", "logl2_freq"]
        for name, (first, second, first_then, second_then) in means.items():
            if name.startswith("log"):
                assert abs(first - first_then) < 0.1 and abs(second - second_then) < 0.1
            else:
                assert first_then > first and second - second_then > 2 * (first_then - first) > 0
