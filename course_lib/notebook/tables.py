"""Tables with one way of rounding, and intervals that say how sure a score over tracks is."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

MISSING = "–"


def bootstrap_interval(values, statistic, seed: int = 0, level: float = 0.95, resamples: int = 5000):
    """(centre, low, high): a statistic of `values` and its percentile bootstrap interval (scipy.stats.bootstrap).

    values: (n,), one a track; NaN (score undefined) is left out. statistic: function of (array, axis) such as np.mean.
    level: share of resampled sets whose statistic lies inside. The same seed gives the same interval.
    One value has no interval: low and high are NaN; nothing but NaN gives three NaN. ValueError for another shape, size
    0 or infinite values. Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    import scipy.stats

    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values has shape {values.shape}; expected (n,) with n >= 1, one value a track")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1 such as 0.95")
    known = values[~np.isnan(values)]
    if np.isinf(known).any():
        raise ValueError(f"values holds {known[np.isinf(known)][0]}; an infinite score has no mean. Leave it out, or "
                         "find out which estimate is perfect or endlessly wrong")
    if len(known) == 0:
        return math.nan, math.nan, math.nan
    centre = float(statistic(known, axis=0))
    if len(known) == 1:
        return centre, math.nan, math.nan
    # percentile, not BCa: BCa's correction needs the statistic's jackknife, which a median doesn't have
    found = scipy.stats.bootstrap((known,), statistic, confidence_level=level, n_resamples=resamples, vectorized=True,
                                  method="percentile", random_state=np.random.default_rng(seed)).confidence_interval
    return centre, float(found.low), float(found.high)


def mean_interval(values, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of values (n,), one a track, with the interval of `bootstrap_interval`."""
    return bootstrap_interval(values, np.mean, seed, level)


def median_interval(values, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """(median, low, high) of values (n,), one a track, with the interval of `bootstrap_interval`."""
    return bootstrap_interval(values, np.median, seed, level)


def paired_interval(first, second, seed: int = 0, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high) of how far the first of two methods is ahead on the same tracks, both (n,) in the same order.

    Differences track by track, so that easy and hard tracks don't blur them; a track that either has no score for is
    left out. Errors as in `bootstrap_interval`, and ValueError where the lengths differ.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"first has shape {first.shape}, second {second.shape}; expected one value for "
                         "each of the same tracks")
    return mean_interval(first - second, seed, level)


def format_number(value, digits: int = 2) -> str:
    """A value as a table shows it: whole numbers whole, floats with `digits` decimals, None and NaN as a dash.

    A tuple (centre, low, high) becomes '5.61 [5.20, 6.02]'. Rounded zeros have no sign. Text stays as it is.
    """
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) == 3:
        centre, low, high = (format_number(part, digits) for part in value)
        return centre if MISSING in (low, high) else f"{centre} [{low}, {high}]"
    if hasattr(value, "item"):                        # a tensor or NumPy number
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return MISSING
        text = f"{value:.{digits}f}"
        return text.removeprefix("-") if not text.strip("-0.") else text
    return str(value)


def is_numeric(value) -> bool:
    """Whether a table sets a value flush right: numbers, intervals, and what is missing."""
    return not isinstance(value, (str, bool))


def table_cells(rows, columns: Sequence[str], digits: int | Mapping[str, int]) -> list[list[str]]:
    """The cells of a table as text, row by row. Arguments and errors as in `show_table`."""
    cells = []
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            if unknown := set(row) - set(columns):
                raise ValueError(f"row {number} has {sorted(unknown)}, which are not among the columns {list(columns)}")
            row = [row.get(column) for column in columns]
        if len(row) != len(columns):
            raise ValueError(f"row {number} has {len(row)} values; expected {len(columns)}, "
                             f"one for each of {list(columns)}")
        places = [digits.get(column, 2) if isinstance(digits, Mapping) else digits for column in columns]
        cells.append([format_number(value, place) for value, place in zip(row, places)])
    return cells


def plain_table(cells: list[list[str]], columns: Sequence[str], right: Sequence[bool], caption: str | None) -> str:
    """A table in aligned plain text, the caption beneath."""
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    pad = [str.rjust if flush else str.ljust for flush in right]
    lines = ["  ".join(pad[i](text, widths[i]) for i, text in enumerate(line)).rstrip()
             for line in [list(columns), ["-" * width for width in widths], *cells]]
    return "\n".join(lines + ([caption] if caption else []))


def markdown_table(cells: list[list[str]], columns: Sequence[str], right: Sequence[bool], caption: str | None) -> str:
    """A table in Markdown, the caption beneath in italics."""
    def line(texts):
        return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in texts) + " |"

    rule = "|" + "|".join("---:" if flush else ":---" for flush in right) + "|"
    text = "\n".join([line(columns), rule, *map(line, cells)])
    return f"{text}\n\n*{caption}*" if caption else text


def show_table(rows, columns: Sequence[str], caption: str | None = None, *,
               digits: int | Mapping[str, int] = 2) -> None:
    """Show a table, rounded in one place: Markdown for the reader, aligned plain text as the alternative.

    rows: sequences with a value a column, or mappings by column name (what is absent becomes a dash). A value is
    text, a number, None, or (centre, low, high) from `mean_interval`. columns: the headings.
    digits: decimals of floats, for all columns or by column name. Say in the caption on how many tracks it rests.
    Raises ValueError for no rows, a row of another length or with a key that is no column.
    """
    from IPython.display import display

    rows, columns = list(rows), list(columns)
    if not rows:
        raise ValueError("rows is empty; expected at least one row")
    cells = table_cells(rows, columns, digits)
    values = [[row.get(column) for column in columns] if isinstance(row, Mapping) else list(row) for row in rows]
    right = [all(is_numeric(line[i]) for line in values) for i in range(len(columns))]
    display({"text/markdown": markdown_table(cells, columns, right, caption),
             "text/plain": plain_table(cells, columns, right, caption)}, raw=True)
