"""The rubric of assignment 16: concatenation out of few melodies, and of many."""

from functools import cache

from tests.classroom.rubric_checks import RubricChecks

DIRECTIONS = (("piano", "cello"), ("clarinet", "flute"))
MOST = 20  # melodies of a corpus


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.006
    what = "log-spectral distance in dB, agreement of chroma and of onsets, share of right pitches"
    source_of_songs = "of the test melodies, the mean of two directions"

    @staticmethod
    @cache
    def corpus(build, target):
        """The largest one: a smaller one is its beginning."""
        return build(target, MOST)

    def measure(self, names, song, columns, rows):
        table = {}
        for row in rows:
            marks = []
            for source, target in DIRECTIONS:
                x, truth = names["played"](song, source), names["played"](song, target)
                if row == "another melody":
                    x = names["played"]((song + 1) % len(self.songs), target)
                elif row != "copy":
                    features, grains = self.corpus(names["corpus"], target)
                    count = len(features) // MOST * int(row.split()[0])
                    x = names["concatenated"](x, features[:count], grains[:count])
                marks.append(names["marks"](x, truth))
            table[row] = [sum(values) / len(DIRECTIONS) for values in zip(*marks)]
        return table

    def gaps(self, larger: str, smaller: str, column: int) -> list[float]:
        """By how much one row is above another, melody by melody."""
        return [table[larger][column] - table[smaller][column] for table in self.by_song().values()]

    def test_a_corpus_is_the_beginning_of_a_larger_one(self):
        """So the measuring above may take both from one."""
        names = self.experiment()
        (few, few_grains), (more, more_grains) = (names["corpus"]("flute", n) for n in (1, 2))
        count = len(more) // 2
        assert len(few) == len(few_grains) == count
        assert bool((few == more[:count]).all()) and bool((few_grains == more_grains[:count]).all())

    def test_two_and_five_melodies_gain_in_every_song(self):
        for larger, smaller in (("2 melodies", "1 melody"), ("5 melodies", "2 melodies")):
            assert all(gap < 0 for gap in self.gaps(larger, smaller, 0))
            assert all(gap > 0 for gap in self.gaps(larger, smaller, 1))

    def test_then_there_is_hardly_a_gain(self):
        mean = lambda column: sum(self.gaps("20 melodies", "5 melodies", column)) / len(self.songs)
        assert [round(mean(column), 2) for column in range(4)] == [-0.0, 0.03, -0.03, 0.03]
        assert sum(gap < 0 for gap in self.gaps("20 melodies", "5 melodies", 0)) == 5

    def test_onsets_gain_nothing_and_the_copy_is_ahead_in_them(self):
        assert all(gap < 0 for gap in self.gaps("20 melodies", "copy", 2))
        means = self.means()
        assert max(means, key=lambda row: means[row][2]) == "copy"
        assert means["2 melodies"][2] > means["20 melodies"][2]

    def test_another_melody_is_worst_throughout(self):
        for table in (self.means(),):
            others = [row for name, row in table.items() if name != "another melody"]
            worst = table["another melody"]
            assert worst[0] > max(row[0] for row in others)
            assert all(worst[n] < min(row[n] for row in others) for n in (1, 2, 3)) and worst[2] > 0.4
