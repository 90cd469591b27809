"""The rubric of assignment 2: which period REPET should get."""

from tests.classroom.rubric_checks import RubricChecks


class TestRubric(RubricChecks):
    songs = (0, 1, 2, 3)

    def measure(self, names, song, columns, rows):
        sources, beat = names["band_song"](song)
        mixture = sources.sum(0)
        simple = {"mixture": mixture, "silence": 0 * mixture}
        estimates = (
            simple[name] if name in simple else names["repet_vocals"](mixture, float(name) * beat) for name in columns
        )
        return {rows[0]: [names["sdr"](estimate, sources[3]) for estimate in estimates]}

    def test_the_reading(self):
        measured = dict(zip(self.shown()[0], self.means()["vocals"]))
        assert list(measured) == ["mixture", "silence", "0.5", "1", "2", "4", "8", "16", "24", "32", "3.8"]
        assert max(measured, key=measured.get) in ("8", "16") and measured["0.5"] < measured["1"] < measured["8"]
        assert measured["24"] < measured["8"] - 1
        assert all(-0.6 < table["vocals"][self.shown()[0].index("32")] < 1 for table in self.by_song().values())
        assert measured["3.8"] < measured["0.5"] + 0.2 and measured["1"] - measured["3.8"] > 1
        assert measured["silence"] - measured["mixture"] > 4
