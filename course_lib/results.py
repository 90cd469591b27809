"""The one reader and writer of the numbers that come with the course, as CSV and JSON under data/.

`data/paper/NAME.csv` holds published numbers with their source, `data/results/NN_topic/NAME.csv` what the course's own
commands measured, and `NAME.json` beside it the *card*: what, by which command, on which machine and when. It lies
below training and experiments, which both write here, and needs neither.
"""

import io
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import filelock

from course_lib.paths import data_dir, repository_root

LOCK = ".lock"  # in a folder of results: held while one of its files is written
SECONDS_TO_WAIT = 600  # for the lock: a write takes milliseconds, but a crowded machine may stop its holder for long
CARD_FIELDS = ("what", "command")  # what every card says, beside machine and date


# ------------------------------------------------------------------------------------------- what comes with the course


def shipped_file(relative: str) -> Path:
    """A file that ships under data/, from the checkout or, where the package was installed alone (Colab), from itself.

    relative: the path below data/, for example "paper/sisec2018_oracles.csv". FileNotFoundError where there is none.
    """
    root = repository_root()
    folder = root / "data" if root is not None else Path(__file__).parent / "shipped"
    path = folder / relative
    if not path.is_file():
        raise FileNotFoundError(
            f"data/{relative} does not come with this version of the course; expected it in {folder}"
        )
    return path


def published(name: str) -> list[dict[str, str]]:
    """The rows of data/paper/NAME.csv, each a dict from column to text; `source` says where they are from."""
    return _text_rows(shipped_file(f"paper/{name}.csv"))


def measured(name: str) -> list[dict[str, str]]:
    """The rows of data/results/NAME.csv (NAME such as "05_losses/runs"), each a dict from column to text."""
    return _text_rows(shipped_file(f"results/{name}.csv"))


def measured_table(name: str):
    """data/results/NAME.csv as a pandas DataFrame, numbers as numbers, what is empty or undefined as NaN."""
    return _read(shipped_file(f"results/{name}.csv"))


def measured_card(name: str) -> dict:
    """data/results/NAME.json: what the table NAME rests on. FileNotFoundError where there is none."""
    return _read_card(shipped_file(f"results/{name}.json"))


def _read(path: Path, **options):
    import pandas

    try:
        return pandas.read_csv(path, encoding="utf8", **options)
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path.name} in {path.parent.name} is no table: {str(error).strip()}; "
            "fetch it again, or delete it and measure again"
        ) from error


def _text_rows(path: Path) -> list[dict[str, str]]:
    return _read(path, dtype=str, keep_default_na=False).to_dict("records")


def _read_card(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{path.name} in {path.parent.name} is not JSON: {error}; fetch it again") from error


# ------------------------------------------------------------------------------------------------------ what is written


def machine() -> str:
    """What a measurement ran on, in words that name no host."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    version = torch.__version__.split("+")[0]
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {version}"


def key_of(row: Mapping, columns: Iterable[str]) -> tuple[str, ...]:
    """What a row is known by: its values in these columns as text, numbers alike however written (4e-3, 0.004)."""
    return tuple(_alike(row[column]) for column in columns)


def _alike(value) -> str:
    value = {"True": 1, "False": 0}.get(value, value) if isinstance(value, str) else value  # as a table has a bool
    try:
        return f"{float(value):.12g}"
    except (TypeError, ValueError):
        return "" if value is None else str(value)


class Results:
    """The tables and cards of one topic: data/results/TOPIC, or `folder` where one is given.

    Every file is replaced whole and under a lock, so that several processes may write to one table, and one that is
    stopped, or a disk that is full, leaves the table as it was.
    """

    def __init__(self, topic: str, folder: str | Path | None = None):
        root = repository_root()
        self.topic = topic
        self.folder = (
            Path(folder) if folder is not None else (root / "data" if root else data_dir()) / "results" / topic
        )

    def path(self, table: str) -> Path:
        """Where a table lies, whether it is there or not."""
        return self.folder / f"{table}.csv"

    def rows(self, table: str) -> list[dict[str, str]]:
        """The rows of a table as dicts of text; none where there is no table yet."""
        path = self.path(table)
        return _text_rows(path) if path.is_file() else []

    def append(self, table: str, rows: Sequence[Mapping], key: Sequence[str] = ()) -> None:
        """Add rows to a table, made where it isn't there. Rows that have the key of a new one are replaced by it.

        key: the columns that make the key; none: nothing is replaced. ValueError for rows with other columns than the
        table's, TimeoutError where other processes keep the folder's lock for ten minutes.
        """
        if not rows:
            return
        columns = list(rows[0])
        new = {key_of(row, key) for row in rows} if key else set()
        with self._lock():
            old = self.rows(table)
            wrong = next((row for row in [*old[:1], *rows] if list(row) != columns), None)
            if wrong is not None:
                raise ValueError(
                    f"{table}.csv of {self.topic}: a row has the columns {list(wrong)}, another {columns}; "
                    "they can't stand in one table. Move the old table away to measure anew"
                )
            kept = [row for row in old if not key or key_of(row, key) not in new]
            self._replace(self.path(table), as_csv([*kept, *rows]))

    def write(self, table: str, rows: Sequence[Mapping]) -> None:
        """Write a table anew. ValueError where there are no rows."""
        if not rows:
            raise ValueError(f"no rows for {table}.csv of {self.topic}; expected at least one")
        with self._lock():
            self._replace(self.path(table), as_csv(rows))

    def keep(self, table: str, wanted: Iterable[tuple[str, ...]], key: Sequence[str]) -> int:
        """Delete the rows whose key is not wanted (see `key_of`); return how many there were."""
        wanted = set(wanted)
        with self._lock():
            old = self.rows(table)
            kept = [row for row in old if key_of(row, key) in wanted]
            if kept and len(kept) < len(old):
                self._replace(self.path(table), as_csv(kept))
        return len(old) - len(kept)

    def write_text(self, name: str, text: str) -> None:
        """Write a file NAME that already is text, such as a log that another program made, in one step."""
        with self._lock():
            self._replace(self.folder / name, text)

    def card(self, table: str) -> dict | None:
        """The card of a table, None where there is none."""
        path = self.folder / f"{table}.json"
        return _read_card(path) if path.is_file() else None

    def write_card(self, table: str, card: Mapping) -> None:
        """Write TABLE.json: what a table rests on. card: at least what and command; machine and date are added."""
        if absent := [field for field in CARD_FIELDS if not card.get(field)]:
            raise ValueError(
                f"the card of {table}.csv of {self.topic} lacks {', '.join(absent)}; say what was measured and how"
            )
        full = {
            **card,
            "machine": card.get("machine") or machine(),
            "date": card.get("date") or time.strftime("%Y-%m-%d", time.gmtime()),
        }
        with self._lock():
            self._replace(self.folder / f"{table}.json", json.dumps(full, indent=1, ensure_ascii=False) + "\n")

    def _lock(self) -> filelock.BaseFileLock:
        import pandas  # noqa: F401 (the first import takes seconds: not under the lock)

        self.folder.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.folder / LOCK, timeout=SECONDS_TO_WAIT)

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        unfinished = path.with_name(path.name + ".unfinished")
        with unfinished.open("w", encoding="utf8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)


def as_csv(rows: Sequence[Mapping]) -> str:
    """Rows as the text of a CSV file, NaN as nan and None as nothing; columns from the first row."""
    import pandas

    text = io.StringIO()
    pandas.DataFrame(
        [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows],
        columns=list(rows[0]),
    ).to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


__all__ = [
    "Results",
    "as_csv",
    "key_of",
    "machine",
    "measured",
    "measured_card",
    "measured_table",
    "published",
    "shipped_file",
]
