"""The final project: a right submission gets all the machine's points, each wrong one loses those it should, alone."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from course_lib import studio as s
from course_lib.classroom import project
from tests.test_studio import Fakes

RATE = 8000
ALL = {check.name: check.points for check in project.CHECKS}
BRIEF = Path(__file__).resolve().parents[2] / "chapters" / "assignments" / "17_project.md"
REPORT = "\n\n".join(f"## {name.capitalize()}\n\n" + "word " * 60 for name in project.HEADINGS)


def scores(songs=6, methods=("ours", "baseline")):
    return [["sdr", method, f"song {n}", f"{n + 0.5}"] for method in methods for n in range(songs)]


def write_scores(path, rows, columns=project.COLUMNS):
    with open(path, "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """A submission without a fault."""
    folder = tmp_path_factory.mktemp("right") / "group"
    folder.mkdir()
    x = 0.2 * torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(0))
    soundfile.write(folder / "song.wav", x.T.numpy(), RATE)
    one = s.Studio.open(folder / "song.wav", models=Fakes())
    one.do("separate")
    one.do("tag")
    one.do("remix", gains={"vocals": -6.0})
    s.export(one, folder / "export")
    write_scores(folder / "scores.csv", scores())
    (folder / "report.md").write_text(REPORT)
    return folder


@pytest.fixture
def group(right, tmp_path):
    """A copy of it to be spoilt."""
    return shutil.copytree(right, tmp_path / "group")


def lost(folder) -> dict[str, str]:
    """The checks that gave no points, with the reason."""
    found = project.check_project(folder, Fakes())
    assert {one.name: one.points for one in found} == ALL
    assert all(one.got in (0, one.points) and bool(one.why) == (one.got == 0) for one in found)
    return {one.name: one.why for one in found if not one.got}


def edit_session(folder, change):
    path = folder / "export" / "session.json"
    session = json.loads(path.read_text())
    change(session)
    path.write_text(json.dumps(session))


def test_a_right_submission(right):
    assert lost(right) == {} and sum(ALL.values()) == 24


@pytest.mark.parametrize("name,checks", [
    ("report.md", {"layout", "report"}), ("scores.csv", {"layout", "scores"}),
    ("song.wav", {"layout", "song", "session", "replay"}),
    ("export/session.json", {"layout", "session", "files", "replay", "steps"}),
    ("export/stems/bass.wav", {"files", "replay"}), ("export/remix.wav", {"files", "replay"}),
    ("export/tags.csv", {"files"}),
])
def test_a_file_that_is_missing(group, name, checks):
    (group / name).unlink()
    assert set(lost(group)) == checks


def test_a_sound_that_was_changed_by_hand(group):
    path = group / "export" / "stems" / "vocals.wav"
    y, rate = soundfile.read(path)
    soundfile.write(path, 0.5 * y, rate)
    found = lost(group)
    assert set(found) == {"files", "replay"} and "vocals.wav isn't the file" in found["files"]
    assert "stems/vocals differs by" in found["replay"]


def test_a_sound_whose_hash_was_changed_with_it(group):
    """Who knows the session's hashes can mend them; the replay still tells."""
    path = group / "export" / "remix.wav"
    y, rate = soundfile.read(path)
    soundfile.write(path, 0.9 * y, rate)
    edit_session(group, lambda session: session["files"].update({"remix.wav": s.file_sha256(path)}))
    assert set(lost(group)) == {"replay"}


def test_rounding_and_another_machine_are_forgiven(group):
    path = group / "export" / "remix.wav"
    y, rate = soundfile.read(path)
    soundfile.write(path, y + 1e-4, rate)
    edit_session(group, lambda session: session["files"].update({"remix.wav": s.file_sha256(path)}))
    assert lost(group) == {}


def test_another_song(group):
    soundfile.write(group / "song.wav", 0.1 * torch.randn(10 * RATE).numpy(), RATE)
    found = lost(group)
    assert set(found) == {"session", "replay"} and "another song" in found["session"]


@pytest.mark.parametrize("seconds,level,words", [(2.0, 0.1, "lasts 2.0 s"), (11.0, 0.0, "silent")])
def test_a_song_that_is_none(group, seconds, level, words):
    soundfile.write(group / "song.wav", level * torch.randn(round(seconds * RATE)).numpy(), RATE)
    assert words in lost(group)["song"]


def test_two_songs(group):
    shutil.copy(group / "song.wav", group / "song.flac")
    assert "2 files are called song" in lost(group)["layout"]


@pytest.mark.parametrize("change,check,words", [
    (lambda x: x["steps"][0]["settings"].update(model="/etc/model.safetensors"), "session", "doesn't come with"),
    (lambda x: x["steps"][0]["settings"].update(model="htdemucs_ft"), "session", "doesn't come with the course"),
    (lambda x: x["steps"][0].update(name="system"), "session", "expected one of separate"),
    (lambda x: x["steps"].extend(31 * x["steps"][1:2]), "session", "at most 30"),
    (lambda x: x["steps"].append({"name": "steer", "settings": {"name": "guitar", "steps": 10 ** 6}}), "session",
     "at most 500"),
    (lambda x: x["steps"][0]["settings"].update(shifts="many"), "replay", ""),
    (lambda x: x["steps"][2]["settings"].update(gains={"vocals": 6.0}), "replay", "remix differs"),
    (lambda x: x["steps"].pop(1), "steps", "two others"),
    (lambda x: x["files"].update({"../../song.wav": "0"}), "files", "is called"),
    (lambda x: x["song"].pop("sha256"), "session", "sha256"),
])
def test_a_session_that_isnt_right(group, change, check, words):
    edit_session(group, change)
    found = lost(group)
    assert check in found and words in found[check] and "scores" not in found and "report" not in found


def test_a_stem_of_another_length(group):
    path = group / "export" / "stems" / "bass.wav"
    y, rate = soundfile.read(path)
    soundfile.write(path, y[:-1], rate)
    edit_session(group, lambda session: session["files"].update({"stems/bass.wav": s.file_sha256(path)}))
    found = lost(group)
    assert "79999 samples" in found["files"] and "another shape" in found["replay"]


@pytest.mark.parametrize("rows,words", [
    (scores(5), "ours: 5"), (scores(methods=("ours",)), "two methods"), ([], "no rows"),
    (scores()[:-1], "baseline: 5"), ([*scores(), ["sdr", "ours", "song 0", "1"]], "there twice"),
    ([*scores()[:-1], ["sdr", "baseline", "song 5", "nan"]], "finite number"),
    ([*scores()[:-1], ["sdr", "baseline", "song 5", "good"]], "line 13"),
    ([*scores()[:-1], ["sdr", "baseline", "song 9", "1"]], "same songs"),
    ([*scores(), *[["auc", *row[1:]] for row in scores(6, ("ours",))]], "auc has songs"),
])
def test_scores_that_show_nothing(group, rows, words):
    write_scores(group / "scores.csv", rows)
    found = lost(group)
    assert set(found) == {"scores"} and words in found["scores"]


def test_scores_with_other_columns(group):
    write_scores(group / "scores.csv", scores(), ["song", "method", "measure", "value"])
    assert "expected measure, method, song, value" in lost(group)["scores"]


@pytest.mark.parametrize("text,words", [
    ("# Question\n\nWhy?", "no heading 'Method'"), (REPORT.replace("word ", ""), "words; expected at least 300"),
    ("", "no heading 'Question'"),
])
def test_reports_that_are_none(group, text, words):
    (group / "report.md").write_text(text)
    found = lost(group)
    assert set(found) == {"report"} and words in found["report"]


def test_reasons_hold_no_path_of_the_grader(group):
    (group / "export" / "session.json").write_text("{")
    assert all(str(group.parent) not in why for why in lost(group).values())


def test_the_command(right, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(s, "Models", Fakes)
    shutil.copytree(right, tmp_path / "class" / "ada")
    (tmp_path / "class" / "bob").mkdir()
    from course_lib.cli import main
    assert main(["project", str(tmp_path / "class"), "-o", str(tmp_path / "grades")]) == 1
    rows = list(csv.reader(open(tmp_path / "grades" / "scores.csv", encoding="utf8")))
    assert rows[0] == ["group", *ALL, "machine"] and [row[0] for row in rows[1:]] == ["ada", "bob"]
    assert [int(row[-1]) for row in rows[1:]] == [24, 0] and "2 submissions" in capsys.readouterr().out
    text = (tmp_path / "grades" / "feedback" / "bob.md").read_text(encoding="utf8")
    assert "0 of 24 points" in text and project.rubric_table() in text
    assert main(["project", str(tmp_path / "nowhere"), "-o", str(tmp_path / "g")]) == 2


def test_the_rubric_and_the_brief():
    rubric = project.read_rubric()
    assert sum(row.points for row in rubric) == 36 and all(row.points % 3 == 0 for row in rubric)
    assert all(len(set(row.levels)) == 4 and all(row.levels) for row in rubric)
    text = BRIEF.read_text(encoding="utf8")
    assert project.rubric_table() in text and project.checks_table() in text, (
        "the brief's tables should be:\n" + project.checks_table() + "\n\n" + project.rubric_table())
    assert all(f"`{name}`" in text for name in ("song.wav", "export/", "scores.csv", "report.md"))
