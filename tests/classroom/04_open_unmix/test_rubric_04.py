"""The rubric of assignment 4: what the Wiener filter adds."""

from tests.classroom.rubric_checks import RubricChecks

SETTINGS = {"mixture's phase": (0, False), "shared out": (0, True), "1 round": (1, False), "3 rounds": (3, False)}


class TestRubric(RubricChecks):
    songs = (0, 1, 2)
    rounding = 0.08

    def measure(self, names, song, columns, rows):
        stereo = names["band_sources"](song)
        sources = {"stereo": stereo, "mono": stereo.mean(1, keepdim=True)}
        table = {}
        for row in rows:
            channels, setting = row.split(", ")
            table[row] = [
                names["sdr_of_stand_in"](sources[channels], float(column.removesuffix(" dB")), *SETTINGS[setting])
                for column in columns
            ]
        return table

    def test_the_reading(self):
        means = self.means()
        assert self.shown()[0] == ["0 dB", "6 dB", "12 dB"] and len(means) == 2 * len(SETTINGS)
        for channels in ("stereo", "mono"):
            phase, shared, once, thrice = (means[f"{channels}, {label}"] for label in SETTINGS)
            assert all(a > b for a, b in zip(shared, phase)) and all(a > b for a, b in zip(once, thrice))
        stereo, mono = ([a - b for a, b in zip(means[f"{channels}, 1 round"], means[f"{channels}, shared out"])]
                        for channels in ("stereo", "mono"))
        assert min(stereo) > 0 and mono[0] > 0 > mono[-1]                  # EM beside plain sharing, as errors grow
        assert max(a - b for a, b in zip(stereo, mono)) < 1
