"""Assignments: set a student version, collect, grade (`course release`, `course grade`).

An assignment's source notebook uses four names from here, and no others:

- `Variation(seed)` in its `# VARIATION` cell, for the constants that differ from release to release;
- `truth` in its checks: comparisons that student code cannot get at, and the chapter's own functions as reference;
- `hidden_variation(name)` in its hidden tests, for data that no student has seen;
- `edges` there too: zeros inside, short, tiny, huge and of another type, so that every task meets them.

chapters/assignments/README.md tells a teacher how to use it and what is protected against.
"""

from course_lib.classroom import edges, truth
from course_lib.classroom.variation import Variation, hidden_variation

__all__ = ["Variation", "edges", "hidden_variation", "truth"]
