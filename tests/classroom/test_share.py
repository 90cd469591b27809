"""Which cases of an assignment are graded: all where anything has changed, else a share that leaves no task out."""

import importlib

import pytest

from course_lib.results import Results
from tests.classroom import assignment_checks

CHECKS = importlib.import_module("tests.classroom.02_classic_separation.test_assignment_02").TestAssignment
EVERY = assignment_checks.answers(CHECKS.release(), CHECKS.cases)


@pytest.fixture(autouse=True)
def not_asked_for_all(monkeypatch):
    monkeypatch.setattr(assignment_checks, "ALL_CASES", False)


def test_a_share_where_nothing_has_changed(monkeypatch):
    monkeypatch.setattr(Results, "card", lambda self, table: {"fingerprint": CHECKS.fingerprint()})
    chosen = CHECKS.chosen()
    wrong = [case for case in EVERY if case[1] == "wrong"]
    assert [case for case in chosen if case[1] != "wrong"] == [case for case in EVERY if case[1] != "wrong"]
    some = [case for case in chosen if case[1] == "wrong"]
    assert len(wrong) // assignment_checks.SHARE <= len(some) <= len(wrong) // assignment_checks.SHARE + 1
    assert {case[0] for case in some} == set(CHECKS.cases)                       # some of every task


@pytest.mark.parametrize("card", [None, {}, {"fingerprint": "of another day"}])
def test_all_where_something_has_changed(monkeypatch, card):
    monkeypatch.setattr(Results, "card", lambda self, table: card)
    assert CHECKS.chosen() == EVERY


def test_all_where_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(Results, "card", lambda self, table: {"fingerprint": CHECKS.fingerprint()})
    monkeypatch.setattr(assignment_checks, "ALL_CASES", True)
    assert CHECKS.chosen() == EVERY


def test_the_fingerprint_changes_with_a_case(monkeypatch):
    before = CHECKS.fingerprint()
    task = next(iter(CHECKS.cases))
    wrong = {**CHECKS.cases[task]["wrong"], "one more": "pass"}
    monkeypatch.setattr(CHECKS, "cases", {**CHECKS.cases, task: {**CHECKS.cases[task], "wrong": wrong}})
    assert CHECKS.fingerprint() != before


def test_every_assignment_has_its_fingerprint_and_every_case_a_row():
    for folder in sorted(assignment_checks.ROOT.glob("tests/classroom/[0-9]*")):
        number = folder.name.partition("_")[0]
        checks = importlib.import_module(f"tests.classroom.{folder.name}.test_assignment_{number}").TestAssignment
        card = Results(folder.name).card("classroom")
        assert card and len(card["fingerprint"]) == 64, f"{folder.name} was never graded in full"
        every = assignment_checks.answers(checks.release(), checks.cases)
        assert len(Results(folder.name).rows("classroom")) == len(every)
