"""Numbers that come with the course: published ones (data/paper) and our own measurements (data/results), as CSV."""

import csv
from pathlib import Path

from course_lib.paths import repository_root


def shipped_file(relative: str) -> Path:
    """A file that ships under data/, from the checkout or, where the package was installed alone (Colab), from itself.

    relative: the path below data/, for example "paper/sisec2018_oracles.csv". FileNotFoundError where there is none.
    """
    root = repository_root()
    folder = root / "data" if root is not None else Path(__file__).parent / "shipped"
    path = folder / relative
    if not path.is_file():
        raise FileNotFoundError(f"data/{relative} does not come with this version of the course; expected it in {folder}")
    return path


def published(name: str) -> list[dict[str, str]]:
    """The rows of data/paper/NAME.csv, each a dict from column to text; the column `source` says where they are from."""
    with shipped_file(f"paper/{name}.csv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def measured(name: str) -> list[dict[str, str]]:
    """The rows of data/results/NAME.csv: what the course's own commands measured, with their provenance."""
    with shipped_file(f"results/{name}.csv").open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))
