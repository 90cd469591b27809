"""The rubric of assignment 12: how far back it is worth looking, for melodies that are new and for those counted."""

from tests.classroom.rubric_checks import RubricChecks

NEW, KEYS, COUNTED = range(3)  # the columns
OTHERS = range(1000, 1080)
SEMITONES = range(-5, 6)


class TestRubric(RubricChecks):
    songs = (2000, 2001, 2002, 2003, 2005, 2006, 2007, 2010)
    rounding = 0.006
    what = "bits per code"
    source_of_songs = "that the band's composer writes for the numbers 2000 and on"
    kept: dict = {}  # what was counted, for all melodies

    def of_others(self, names: dict) -> dict:
        """The other melodies, and their counts by the row's name: as they are, and in eleven keys."""
        if not self.kept:
            others = [row for number in OTHERS if (row := names["melody"](number))]
            self.kept.update(others=others, keys=[names["moved"](row, n) for row in others for n in SEMITONES])
        return self.kept

    def measure(self, names, song, columns, rows):
        kept, codes, table = self.of_others(names), names["melody"](song), {}
        for row in rows:
            lags = lags_of(row)
            if row not in kept:
                kept[row] = [names["counted"](kept[which], lags) for which in ("others", "keys")]
            with_it = names["counted"]([*kept["others"], codes], lags)
            table[row] = [names["bits"](tables, lags, codes) for tables in (*kept[row], with_it)]
        return table

    def column(self, row: str, column: int) -> list[float]:
        """Bits of each melody."""
        return [table[row][column] for table in self.by_song().values()]

    def better(self, row: str, than: str, column: int) -> int:
        """For how many melodies a row is better than another."""
        return sum(a < b for a, b in zip(self.column(row, column), self.column(than, column)))

    def test_new_melodies_want_one_code(self):
        """Half a bit for the code before; everything beyond costs."""
        assert self.better("1 code", "0 codes", NEW) == 7 and self.better("2 codes", "1 code", NEW) == 0
        means = {row: values[NEW] for row, values in self.means().items()}
        assert min(means, key=means.get) == "1 code" and 0.4 < means["0 codes"] - means["1 code"] < 0.55
        assert 0.35 < means["4 codes"] - means["1 code"] < 0.45

    def test_counted_melodies_want_all(self):
        """Each code more is better for what was counted, and four are best."""
        assert self.better("4 codes", "3 codes", COUNTED) == self.better("3 codes", "2 codes", COUNTED) == 8
        means = {row: values[COUNTED] for row, values in self.means().items()}
        assert min(means, key=means.get) == "4 codes"

    def test_eleven_keys_help_long_contexts(self):
        means = self.means()
        gain = {row: values[NEW] - values[KEYS] for row, values in means.items()}
        assert 0.3 < gain["4 codes"] < 0.38 and abs(gain["0 codes"]) < 0.01 and 0.06 < gain["1 code"] < 0.12
        assert gain["2 codes, and a bar earlier"] > gain["1 code, and a bar earlier"] > 0.24
        assert min(means, key=lambda row: means[row][KEYS]) == "1 code, and a bar earlier"
        assert self.better("1 code, and a bar earlier", "1 code", KEYS) == 5
        assert 0.06 < means["1 code"][KEYS] - means["1 code, and a bar earlier"][KEYS] < 0.12
        assert 0.05 < means["1 code, and a bar earlier"][NEW] - means["1 code"][NEW] < 0.09
        assert gain["2 codes, and a bar earlier"] == max(gain.values()) and 0.36 < max(gain.values()) < 0.4

    def test_how_many_melodies_are_counted(self):
        assert len(self.of_others(self.experiment())["others"]) == 61


def lags_of(row: str) -> list[int]:
    """[1, 2, 16] of "2 codes, and a bar earlier"."""
    return [*range(1, 1 + int(row.split()[0])), *([16] if "bar" in row else [])]
