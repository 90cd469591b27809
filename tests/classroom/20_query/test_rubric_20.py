"""The rubric of assignment 20: examples from another song and from the same, at any level."""

from tests.classroom.rubric_checks import RubricChecks


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    what = "Percent of a song's stems that are found by an example of theirs"

    def measure(self, names, song, columns, rows):
        others, table = [other for other in self.songs if other != song], {}
        for row in rows:
            seconds = float(row.split()[0])

            def share(songs, seconds=seconds, **options):
                pairs = [names["found"](song, other, seconds, **options) for other in songs]
                return 100 * sum(right for right, _ in pairs) / sum(asked for _, asked in pairs)

            kept = dict(levelled=False)
            table[row] = [share(others), share([song]), share(others, **kept), share(others, gain=0.1, **kept)]
        return table

    def test_the_same_song_gives_it_away(self):
        """In as many songs as the rubric says, and by how much."""
        ahead = {
            row: [self.by_song()[str(n)][row][1] > self.by_song()[str(n)][row][0] for n in self.songs]
            for row in self.means()
        }
        assert all(ahead["0.25 s"]) and sum(ahead["4 s"]) == 7
        assert all(17 < same - another < 24 for another, same, *_ in self.means().values())

    def test_level_and_length(self):
        means = self.means()
        assert all(kept < another and softer < 30 for another, _, kept, softer in means.values())
        assert means["0.25 s"][0] < 65 and 70 < means["4 s"][0] < 72
        gaps = [row[0] - row[2] for row in means.values()]
        assert gaps[-1] == min(gaps) < 1 < 4 < min(gaps[:-1])
