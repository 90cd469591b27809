"""The rubric of assignment 3: whether one can win by turning a knob."""

import math

from tests.classroom.rubric_checks import RubricChecks


class TestRubric(RubricChecks):
    songs = (0, 1, 2, 3)

    def measure(self, names, song, columns, rows):
        sources, table = names["band_sources"](song), {}
        for leak in rows:
            estimate, vocals = names["leaking_vocals"](sources, float(leak)), sources[3]
            best = float((estimate @ vocals) / (estimate @ estimate))
            gains = [best if column == "best" else float(column) for column in columns[:-1]]
            table[leak] = [names["sdr"](gain * estimate, vocals) for gain in gains] + [
                names["si_sdr"](estimate, vocals)
            ]
            assert abs(names["si_sdr"](0.25 * estimate, vocals) - table[leak][-1]) < 0.01  # the knob doesn't matter
        return table

    def test_the_reading(self):
        columns, _shown = self.shown()
        assert columns == ["0.25", "0.5", "0.75", "1", "best", "SI-SDR"]
        for table in self.by_song().values():                              # what the rubric says of every song
            for *scores, best, si_sdr in table.values():
                assert abs(best - 10 * math.log10(1 + 10 ** (si_sdr / 10))) < 0.01 and best > max(0, *scores) - 0.002
        means = self.means()
        assert means["0.6"][1] > means["0.4"][3] + 0.3                     # worse, but turned down, beats better
