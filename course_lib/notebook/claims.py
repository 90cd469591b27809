"""The table of paper claims that ends every chapter: one definition of each verdict, and one way to show them.

- *reproduced*: our number is the source's within the tolerance stated in the cell.
- *same trend*: the difference has the source's sign: its mean over at least six songs (or other units that the claim
  speaks of), paired where two methods are compared, has a 95% interval that excludes zero; where trainings were
  repeated, every repetition agrees.
- *not seen*: neither.
- *needs real data*: the test's data can't decide: fewer than six units, a made example, listeners we don't have, or
  levels on a band that was tuned towards the source's.

Why six: with n units that all fall one way by chance, a two-sided test by signs gives 2 / 2^n, which is below 5% from
n = 6 on; and a bootstrap of fewer values is hardly more than those values.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from course_lib.notebook.tables import mean_interval, show_table

REPRODUCED, SAME_TREND, NOT_SEEN, NEEDS_REAL_DATA = VERDICTS = (
    "reproduced",
    "same trend",
    "not seen",
    "needs real data",
)
FEWEST = 6  # units (songs) from which a trend can be told
COLUMNS = ("claim", "source", "section", "paper", "ours", "verdict")
DEFINITIONS = (
    "Reproduced: the source's number within the stated tolerance. Same trend: the source's sign, the mean over at "
    "least six songs "
    "(paired) with a 95% interval that excludes zero. Not seen: neither. Needs real data: our data can't decide."
)


@dataclass(frozen=True)
class Claim:
    """A line of the table.

    text: the claim. source: who says so and when. section: of the chapter's cell that tests it ("2.9"). paper: the
    source's number, or "order only", "theorem", ...; None where the claim is the chapter's own. ours: what was found,
    in words, with the number of songs where they are few. verdict: one of VERDICTS, computed.
    ValueError for another verdict or section, and for an empty text.
    """

    text: str
    source: str
    section: str
    paper: str | float | None
    ours: str | float
    verdict: str

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict of {self.text!r} is {self.verdict!r}; expected one of {', '.join(VERDICTS)}")
        if (
            not self.text
            or not self.source
            or not all(re.fullmatch(r"\d+[a-z]?(\.\d+)?", part.strip()) for part in self.section.split(","))
        ):
            raise ValueError(
                f"claim {self.text!r} of {self.source!r}, section {self.section!r}; expected a text, a source and "
                "the section that tests it, such as 2.9"
            )


def reproduced(ours, paper, within: float) -> str:
    """*reproduced* where every number of ours is the paper's within a tolerance, else *not seen*.

    ours: a number or an array of them (a theorem's error at every step). paper: the source's number, 0 for an error
    that must vanish. within: the tolerance, in the numbers' unit, >= 0. NaN is not seen. ValueError for within < 0.
    """
    if not within >= 0:
        raise ValueError(f"within is {within}; expected a tolerance >= 0 in the unit of the numbers")
    distance = np.abs(_numbers(ours) - _numbers(paper))
    return REPRODUCED if distance.size and bool((distance <= within).all()) else NOT_SEEN


def same_trend(differences) -> str:
    """*same trend*, *not seen* or *needs real data*, from differences that are positive if the source is right.

    differences: (n,), one a song (or another unit that the claim speaks of), paired where two methods are compared; or
    (seeds, n) where trainings were repeated: then every seed's mean must be positive, and the interval is that of the
    mean over seeds, over songs. NaN (no score) is left out. Fewer than six songs can't decide: *needs real data*.
    ValueError for another shape.
    """
    values = _numbers(differences)
    if values.ndim not in (1, 2):
        raise ValueError(f"differences has shape {values.shape}; expected (n,), one a song, or (seeds, n)")
    values = np.atleast_2d(values)
    known = values[:, ~np.isnan(values).any(0)]  # songs that every seed has a score for
    if known.size == 0 or known.shape[1] < FEWEST:
        return NEEDS_REAL_DATA
    _, low, _ = mean_interval(known.mean(0))
    return SAME_TREND if low > 0 and bool((known.mean(1) > 0).all()) else NOT_SEEN


def difference_in_words(differences, unit: str = "dB", digits: int = 2) -> str:
    """Differences as the table shows them: '+0.31 dB [0.12, 0.50], 20 songs', or without an interval for one song."""
    values = np.atleast_2d(_numbers(differences))
    known = values[:, ~np.isnan(values).any(0)].mean(0) if values.size else np.zeros(0)
    if not known.size:
        return "not run"
    mean, low, high = mean_interval(known)
    interval = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{mean:+.{digits}f} {unit}{interval}, {len(known)} song{'s' * (len(known) != 1)}"


def show_claims(claims: Sequence[Claim], caption: str = DEFINITIONS) -> None:
    """Show the claims as a table, the verdicts' definitions beneath. ValueError where there are none."""
    show_table(
        [[claim.text, claim.source, claim.section, claim.paper, claim.ours, claim.verdict] for claim in claims],
        COLUMNS,
        caption,
    )


def _numbers(values) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor, perhaps with a gradient
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)


__all__ = [
    "COLUMNS",
    "Claim",
    "FEWEST",
    "NEEDS_REAL_DATA",
    "NOT_SEEN",
    "REPRODUCED",
    "SAME_TREND",
    "VERDICTS",
    "difference_in_words",
    "reproduced",
    "same_trend",
    "show_claims",
]
