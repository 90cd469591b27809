"""The rubric of assignment 8b: for which attention a tenth of the pairs is enough, and chosen how."""

from tests.classroom.rubric_checks import RubricChecks, Table

SHARES = {"a tenth": 0.1, "a half": 0.5}


class TestRubric(RubricChecks):
    songs = tuple(range(8))
    rounding = 0.06

    def measure(self, names, song, columns, rows):
        x, table = names["frames_of"](song), {}
        for row in rows:
            way, share = row.split(", ")
            way, *rounds = way.split()
            ranks = names["ranks"](x, way, int(rounds[0]) if rounds else 32)
            sharpness = [float(column.split()[1]) for column in columns]
            table[row] = [names["sdr"](names["answers"](x, s, ranks, SHARES[share]), names["answers"](x, s))
                          for s in sharpness]
        return table

    def test_the_reading(self):
        self.check_reading(self.means())
        for table in self.by_song().values():
            self.check_reading(table)

    @staticmethod
    def check_reading(table: Table) -> None:
        """What the rubric says, of the mean and of each song."""
        rows = {row: dict(zip((2, 8, 32), values)) for row, values in table.items()}
        hashed, chance, best = (rows[f"{way}, a tenth"] for way in ("hash 32", "chance", "best"))
        assert chance[2] > hashed[2] + 3 and chance[2] > best[2] + 3
        assert hashed[8] > chance[8] + 3 and hashed[32] > chance[32] + 20
        assert best[8] > hashed[8] and best[32] > hashed[32]
        assert rows["hash 8, a tenth"][8] < hashed[8] and rows["hash 8, a tenth"][32] < hashed[32]
        assert rows["chance, a half"][2] > rows["hash 32, a half"][2]

    def test_the_control(self):
        """How much of the weight the best tenth of a query's keys holds."""
        names = self.experiment()
        x = names["frames_of"](self.songs[0])
        tenth = round(0.1 * len(x))
        held = [float((sharpness * x @ x.T).softmax(-1).topk(tenth, dim=1).values.sum(1).mean())
                for sharpness in (2, 8, 32)]
        assert 0.2 < held[0] < 0.35 and 0.7 < held[1] < 0.9 and held[2] > 0.99
