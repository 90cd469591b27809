"""The one reader and writer of data/results: what it writes it reads, and tables survive accidents."""

import json
import multiprocessing
import os

import filelock
import numpy as np
import pytest

from course_lib import results as results_module
from course_lib.paths import repository_root
from course_lib.results import Results, as_csv, key_of, measured, measured_table, published, shipped_file

ROWS = [{"loss": "l1", "rate": 1e-3, "sdr": "3.100"}, {"loss": "l2", "rate": 4e-3, "sdr": "nan"}]
SHIPPED = sorted((repository_root() / "data" / "results").rglob("*.csv"))


def test_rows_come_back_as_text_and_as_numbers(tmp_path):
    table = Results("05_losses", tmp_path)
    assert table.rows("runs") == []
    table.append("runs", ROWS)
    table.append("runs", [{"loss": 'a, "b"\nc', "rate": None, "sdr": ""}])
    assert table.rows("runs") == [
        {"loss": "l1", "rate": "0.001", "sdr": "3.100"},
        {"loss": "l2", "rate": "0.004", "sdr": "nan"},
        {"loss": 'a, "b"\nc', "rate": "", "sdr": ""},
    ]
    assert (tmp_path / "runs.csv").read_bytes().startswith(b"loss,rate,sdr\nl1,0.001,3.100\n")  # LF on every system


def test_a_row_replaces_that_of_its_key_however_its_numbers_are_written(tmp_path):
    table = Results("05_losses", tmp_path)
    table.append("runs", ROWS, ("loss", "rate"))
    table.append("runs", [{"loss": "l1", "rate": "1e-03", "sdr": 4}], ("loss", "rate"))
    assert [(row["loss"], row["sdr"]) for row in table.rows("runs")] == [("l2", "nan"), ("l1", "4")]
    assert key_of({"a": "0.0010", "b": None, "c": True}, "abc") == key_of({"a": 1e-3, "b": "", "c": 1}, "abc")
    assert key_of({"a": "True", "b": "False"}, "ab") == key_of({"a": True, "b": False}, "ab") != ("", "")
    assert table.keep("runs", [("l1", "0.001")], ("loss", "rate")) == 1 and len(table.rows("runs")) == 1


def test_other_columns_are_refused_and_nothing_is_written(tmp_path):
    table = Results("05_losses", tmp_path)
    table.append("runs", ROWS)
    before = table.path("runs").read_bytes()
    with pytest.raises(ValueError, match=r"runs.csv of 05_losses: a row has the columns \['loss', 'rate', 'sdr'\]"):
        table.append("runs", [{"loss": "l1", "rate": 1}])
    with pytest.raises(ValueError, match="no rows for bounds.csv of 05_losses"):
        table.write("bounds", [])
    table.append("runs", [])
    assert table.path("runs").read_bytes() == before


def _append(folder, name, count):
    for number in range(count):
        Results("05_losses", folder).append("runs", [{"loss": name, "number": number}], ("loss", "number"))


def test_processes_share_a_table(tmp_path):
    processes = [
        multiprocessing.get_context("spawn").Process(target=_append, args=(tmp_path, name, 8)) for name in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    rows = Results("05_losses", tmp_path).rows("runs")
    assert sorted((row["loss"], int(row["number"])) for row in rows) == [(name, n) for name in "ab" for n in range(8)]


def test_a_full_disk_leaves_the_table_as_it_was(tmp_path, monkeypatch):
    table = Results("05_losses", tmp_path)
    table.append("runs", ROWS)
    before = table.path("runs").read_bytes()

    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        table.append("runs", ROWS)
    assert table.path("runs").read_bytes() == before


def test_a_lock_that_is_held_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "SECONDS_TO_WAIT", 0.1)
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(TimeoutError):
        Results("05_losses", tmp_path).append("runs", ROWS)


def test_a_card_says_where_a_table_comes_from(tmp_path):
    table = Results("05_losses", tmp_path)
    assert table.card("runs") is None
    with pytest.raises(ValueError, match="the card of runs.csv of 05_losses lacks command"):
        table.write_card("runs", {"what": "runs"})
    table.write_card("runs", {"what": "runs", "command": "course experiment losses", "steps": 3})
    card = table.card("runs")
    assert card["steps"] == 3 and "torch" in card["machine"] + "torch" and len(card["date"]) == 10
    (tmp_path / "runs.json").write_text("{", encoding="utf8")
    with pytest.raises(ValueError, match="runs.json in .* is not JSON"):
        table.card("runs")


def test_damaged_tables_are_named(tmp_path):
    for damage in (b"a,b\n1,2,3\n4,5,6,7\n", b"", b"a,b\n\xff\xfe,1\n"):
        (tmp_path / "runs.csv").write_bytes(damage)
        with pytest.raises(ValueError, match="runs.csv in .* is no table"):
            Results("05_losses", tmp_path).rows("runs")


def test_installed_without_a_checkout_tables_come_from_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(results_module, "repository_root", lambda: None)
    monkeypatch.setattr(results_module, "__file__", str(tmp_path / "results.py"))
    for folder, name in (("results/05_losses", "runs"), ("paper", "losses_sdr")):
        (tmp_path / "shipped" / folder).mkdir(parents=True)
        (tmp_path / "shipped" / folder / f"{name}.csv").write_text(as_csv(ROWS), encoding="utf8")
    assert measured("05_losses/runs")[0]["loss"] == "l1" and published("losses_sdr")[1]["sdr"] == "nan"
    with pytest.raises(FileNotFoundError, match="data/results/05_losses/none.csv does not come with"):
        shipped_file("results/05_losses/none.csv")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_table_says_where_it_comes_from(path):
    """Command, machine and date: in a card, or that of the weights whose training wrote it, or in its rows."""
    name = path.relative_to(repository_root() / "data" / "results").with_suffix("").as_posix()
    table, rows = measured_table(name), measured(name)
    assert len(table) == len(rows) > 0 and b"\r" not in path.read_bytes()
    if path.stem in ("classroom", "minutes"):  # held to the notebooks by tests of their own
        return
    if {"command", "date"} <= set(table.columns):
        assert table[["command", "date"]].notna().all(axis=None)
        return
    cards = [json.loads(one.read_text(encoding="utf8")) for one in path.parent.glob("*.json")]
    cards = [card for card in cards if path.stem in card.get("tables", ())]
    if path.stem.endswith(("_log", "_validation")):  # of a training, whose weights have a card
        cards.append(
            json.loads(shipped_file(f"checkpoints/{path.stem.rsplit('_', 1)[0]}.json").read_text(encoding="utf8"))
        )
    assert len(cards) == 1 and all(cards[0][word] for word in ("what", "command", "machine", "date"))


def test_numbers_are_numbers():
    table = measured_table("05_losses/runs")
    assert table["test_sdr"].dtype == np.float64 and table["seed"].dtype == np.int64
