"""The runner: what has a row is not repeated, a run that fails costs itself only, and processes share the work."""

import multiprocessing
import time
from dataclasses import dataclass, replace

import filelock
import pytest

from course_lib.cli import main
from course_lib.experiments import command, runner
from course_lib.experiments.runner import Experiment, columns_of, run_experiment, title
from course_lib.results import Results


@dataclass(frozen=True)
class Settings:
    steps: int = 3
    clip: float = 5.0
    source: str = "band"


@dataclass(frozen=True)
class Run:
    loss: str
    rate: float
    seed: int


RATES = (0.001, 0.004)


def first(work):
    return [Run(loss, rate, 0) for loss in ("l1", "l2", "bad") for rate in RATES if loss != "bad" or rate == 0.001]


def rest(work):
    """Rests on the rows of the stage before: the rate with the highest score."""
    best = {
        loss: max((row for row in work.rows() if row["loss"] == loss), key=lambda row: float(row["sdr"]))["rate"]
        for loss in ("l1", "l2")
    }
    return [Run(loss, float(rate), 1) for loss, rate in best.items()]


class Broken:
    """What makes runs of the loss "bad" fail, until it is mended; counts the runs."""

    def __init__(self):
        self.runs, self.mended = [], False

    def __call__(self, variation, work):
        self.runs.append(title(variation))
        if variation.loss == "bad" and not self.mended:
            raise RuntimeError("the loss is NaN")
        return {
            "logs": [{"step": step, "value": step * work.given} for step in (1, 2)],
            "runs": [{"sdr": variation.rate * 100 + variation.seed}],
        }


def small(run=None, **changes):
    return replace(
        Experiment(
            name="small",
            what="a small experiment",
            topic="05_losses",
            stages=[first, rest],
            run=run or Broken(),
            settings=Settings(),
            prepare=lambda settings, cache: settings.steps,
            names=("l1", "l2", "bad"),
            facts=lambda work: {"unit": "dB"},
        ),
        **changes,
    )


def test_a_failing_run_is_named_and_costs_itself_only(tmp_path, capsys):
    run = Broken()
    outcome = run_experiment(small(run), folder=tmp_path, cache=tmp_path / "cache")
    assert outcome.failed == {"bad, 0.001, 0": "RuntimeError: the loss is NaN"} and len(outcome.done) == 6
    assert "bad, 0.001, 0 failed, the others go on" in capsys.readouterr().err
    rows = Results("05_losses", tmp_path).rows("runs")
    assert [(row["loss"], row["rate"], row["seed"]) for row in rows] == [
        ("l1", "0.001", "0"),
        ("l1", "0.004", "0"),
        ("l2", "0.001", "0"),
        ("l2", "0.004", "0"),
        ("l1", "0.004", "1"),
        ("l2", "0.004", "1"),
    ]
    assert "1 failed\n  bad, 0.001, 0: RuntimeError" in str(outcome)
    run.mended = True  # the next call runs what is missing, and nothing else
    run.runs.clear()
    again = run_experiment(small(run), folder=tmp_path, cache=tmp_path / "cache")
    assert run.runs == ["bad, 0.001, 0"] and len(again.known) == 6 and not again.failed


def test_rows_of_all_tables_carry_the_key_and_the_card_the_settings(tmp_path):
    run_experiment(small(), ["l1"], folder=tmp_path, cache=tmp_path / "cache")
    results = Results("05_losses", tmp_path)
    assert results.rows("logs")[:2] == [
        {"loss": "l1", "rate": "0.001", "seed": "0", "step": str(step), "value": str(3 * step)} for step in (1, 2)
    ]
    card = results.card("runs")
    assert card["settings"] == {"steps": 3, "clip": 5.0, "source": "band"} and card["tables"] == ["logs", "runs"]
    assert (
        card["command"] == "uv run course experiment small"
        and card["unit"] == "dB"
        and card["machine"]
        and card["date"]
    )


def test_a_run_that_died_between_its_tables_leaves_nothing_twice(tmp_path, monkeypatch):
    results, append = Results("05_losses", tmp_path), Results.append
    monkeypatch.setattr(
        Results,
        "append",
        lambda self, table, *rest: (
            append(self, table, *rest) if table == "logs" else (_ for _ in ()).throw(KeyboardInterrupt)
        ),
    )
    with pytest.raises(KeyboardInterrupt):
        run_experiment(small(), ["l1"], folder=tmp_path, cache=tmp_path / "cache")
    assert len(results.rows("logs")) == 2 and results.rows("runs") == []
    monkeypatch.setattr(Results, "append", append)
    run_experiment(small(stages=[first]), ["l1"], folder=tmp_path, cache=tmp_path / "cache")
    assert len(results.rows("logs")) == 4 and len(results.rows("runs")) == 2


def test_a_stage_whose_grounds_are_missing_is_named(tmp_path):
    outcome = run_experiment(small(), ["bad"], folder=tmp_path, cache=tmp_path / "cache")
    assert list(outcome.failed) == ["bad, 0.001, 0", "stage rest"]


def test_results_of_other_settings_are_refused(tmp_path):
    run_experiment(small(stages=[first]), ["l1"], folder=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"runs.csv of 05_losses rests on other settings \(steps 3, now 4\)"):
        run_experiment(small(), folder=tmp_path, cache=tmp_path / "cache", settings=Settings(4))
    with pytest.raises(ValueError, match="settings of small differ from its own"):
        run_experiment(small(), settings=Settings(4))
    with pytest.raises(ValueError, match=r"only is \['l3'\]; experiment small knows l1, l2, bad"):
        run_experiment(small(), ["l3"], folder=tmp_path)


def test_afresh_replaces_rows_and_old_variations_go(tmp_path):
    experiment = small(stages=[lambda work: [Run("l1", 0.001, 0), Run("l1", 0.004, 0)]], keep_others=False)
    run_experiment(experiment, folder=tmp_path, cache=tmp_path / "cache")
    changed = replace(
        experiment, run=lambda variation, work: {"runs": [{"sdr": 7}]}, stages=[lambda work: [Run("l1", 0.004, 0)]]
    )
    assert run_experiment(changed, folder=tmp_path, cache=tmp_path / "cache").done == []
    assert [row["sdr"] for row in Results("05_losses", tmp_path).rows("runs")] == ["0.4"]
    run_experiment(changed, folder=tmp_path, cache=tmp_path / "cache", afresh=True)
    assert [row["sdr"] for row in Results("05_losses", tmp_path).rows("runs")] == ["7"]


def test_what_is_no_variation_or_gives_no_row_fails_by_name(tmp_path):
    @dataclass
    class Loose:
        loss: str

    with pytest.raises(ValueError, match="a variation is Loose; expected a frozen dataclass"):
        columns_of(Loose("l1"))
    nothing = small(run=lambda variation, work: {"logs": []}, stages=[first])
    assert (
        "gave no row for runs"
        in run_experiment(nothing, ["l1"], folder=tmp_path, cache=tmp_path / "cache").failed["l1, 0.001, 0"]
    )
    twice = small(run=lambda variation, work: {"runs": [{"sdr": 1, "loss": "l2"}]}, stages=[first])
    assert (
        "rows for runs have the column loss, which a variation has, too"
        in run_experiment(twice, ["l1"], folder=tmp_path, cache=tmp_path / "cache").failed["l1, 0.001, 0"]
    )


def _slow(variation, work):
    time.sleep(0.05)
    return {"runs": [{"sdr": 1}], "done_by": [{"process": multiprocessing.current_process().name}]}


def _grid(work):
    return [Run("l1", 0.001, seed) for seed in range(8)]


def _after(work):
    """Begins only when every run of the grid has a row, whichever process made it."""
    return [Run("l2", 0.001, len(work.rows()))]


def _share(folder):
    run_experiment(
        Experiment(
            name="shared",
            what="shared",
            topic="05_losses",
            stages=[_grid, _after],
            run=_slow,
            settings=Settings(),
            names=("l1",),
            facts=lambda work: {"machine": "a test, which needs no torch"},
        ),
        folder=folder,
        cache=folder / "cache",
    )


def test_processes_share_a_grid(tmp_path):
    processes = [
        multiprocessing.get_context("spawn").Process(target=_share, args=(tmp_path,), name=name) for name in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    rows = Results("05_losses", tmp_path).rows("done_by")
    assert sorted(int(row["seed"]) for row in rows if row["loss"] == "l1") == list(range(8)), "each once"
    assert [row["seed"] for row in rows if row["loss"] == "l2"] == ["8"]


def test_a_run_that_another_process_is_at_is_left_and_waited_for(tmp_path, monkeypatch):
    """Two runs, the first claimed elsewhere: the second is run first, then the first is waited for."""
    run, waited = Broken(), []
    acquire = filelock.FileLock.acquire

    def taken_once(self, *args, blocking=None, **options):
        if "l1_0.001" in self.lock_file and blocking is False and not waited:
            waited.append(self.lock_file)
            raise filelock.Timeout(self.lock_file)
        return acquire(self, *args, blocking=blocking, **options)

    monkeypatch.setattr(runner.filelock.FileLock, "acquire", taken_once)
    outcome = run_experiment(small(run, stages=[first]), ["l1"], folder=tmp_path, cache=tmp_path / "cache")
    assert waited and outcome.done == ["l1, 0.004, 0", "l1, 0.001, 0"]


def test_the_command_runs_what_the_registry_names(tmp_path, monkeypatch, capsys):
    import types

    monkeypatch.setattr(command, "EXPERIMENTS", {"small": ("a_module", "a small experiment")})
    monkeypatch.setattr(
        command.importlib,
        "import_module",
        lambda name: types.SimpleNamespace(
            EXPERIMENT=small(stages=[first], summary=lambda work: f"{len(work.rows())} rows")
        ),
    )
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    arguments = command.argparse.ArgumentParser()
    command.configure(arguments)

    def call(*words):
        return command.main(arguments.parse_args(["small", "--folder", str(tmp_path / "out"), *words]))

    assert call("--only", "l1", "--set", "steps=2", "--set", "clip=1") == 0
    assert "2 rows" in (said := capsys.readouterr().out) and "2 runs done, 0 had a row already, 0 failed" in said
    assert Results("05_losses", tmp_path / "out").card("runs")["settings"] == {
        "steps": 2,
        "clip": 1.0,
        "source": "band",
    }
    assert call("--set", "steps=2", "--set", "clip=1") == 1, "a run failed"
    for wrong, message in (
        ("steps", "expected NAME=VALUE"),
        ("width=3", "a name among steps, clip, source"),
        ("steps=few", "steps is str; expected int"),
    ):
        with pytest.raises(ValueError, match=message):
            call("--set", wrong)


def test_every_registered_experiment_is_one(capsys):
    import importlib

    for name, (module, _) in command.EXPERIMENTS.items():
        experiment = importlib.import_module(module).EXPERIMENT
        assert experiment.name == name and experiment.stages and experiment.command.endswith(name)
    assert main(["experiment", "losses", "--only", "nonsense"]) == 2
    assert "only is ['nonsense']" in capsys.readouterr().err
