"""The graders of assignment 2 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in assignment_checks.py.
"""

from assignment_checks import AssignmentChecks
from cases_02 import CASES

TAKEN = """# TASK 1 (4 points): a median that invents nothing
from course_lib.classic import median_filter

def running_median(v, size):
    filtered = median_filter(v, size)                            # right except at the ends
    for m in range(v.shape[-1]):
        some = v[..., max(0, m - size // 2):m + size // 2 + 1]
        if some.shape[-1] < size:
            filtered[..., m] = some.quantile(0.5, dim=-1)
    return filtered
"""


class TestAssignment02(AssignmentChecks):
    source, cases, points = "02_classic_separation", CASES, 26
    rubric_words = "strokes no longer meet themselves"
    taken = 1, TAKEN
