"""Failed asserts of the shared checks say what they compared, as those of the test files do."""

import pytest

pytest.register_assert_rewrite("tests.classroom.assignment_checks", "tests.classroom.rubric_checks")
