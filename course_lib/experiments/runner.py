"""Experiments are data: lists of variations. One runner runs what has no row yet.

A variation is a frozen dataclass. Its fields are columns of the results and, together, its key. A run that has a row is
not repeated; one that fails is named and costs itself only; several processes may share an experiment, for each run is
claimed by a lock. `course experiment NAME` calls this with a module's EXPERIMENT (course_lib.experiments.command).
"""

import dataclasses
import hashlib
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import filelock

from course_lib.paths import data_dir
from course_lib.results import Results, key_of

Rows = Mapping[str, Sequence[Mapping]]  # rows by the table's name


@dataclass(frozen=True)
class Experiment:
    """What is to be measured, as data.

    name, what: for the command, the card and messages. topic: the folder of data/results. stages: functions of the
    `Work` that list variations; a stage begins when the one before is through, so that it may depend on its rows (a
    best rate). run: (variation, work) to rows by table, among them `table`; the key's columns are put in front.
    settings: a frozen dataclass of what all runs share; it stands in the card, and results of other settings are
    refused. prepare: (settings, cache) to whatever the runs share (songs, statistics), made once, when `work.given` is
    first asked for. names: what --only may name, texts that stand in a field of a variation. facts: of the work, for
    the card. keep_others: whether rows that are no variation (any more) stay. summary: of the work, printed at the end.
    """

    name: str
    what: str
    topic: str
    stages: Sequence[Callable[["Work"], Iterable]]
    run: Callable[[object, "Work"], Rows]
    settings: object
    table: str = "runs"
    prepare: Callable[[object, Path], object] = lambda settings, cache: None
    names: Sequence[str] = ()
    facts: Callable[["Work"], Mapping] = lambda work: {}
    keep_others: bool = True
    summary: Callable[["Work"], str] | None = None

    @property
    def command(self) -> str:
        """What measures all of it."""
        return f"uv run course experiment {self.name}"


class Work:
    """An experiment with its settings, the tables it fills and a folder for what needs no keeping (weights, songs)."""

    def __init__(self, experiment: Experiment, settings: object, results: Results, cache: Path):
        self.experiment, self.settings, self.results, self.cache = experiment, settings, results, cache
        self.filled: set[str] = set()  # tables that runs of this work gave rows for
        self.only: tuple[str, ...] = ()  # names that the call is restricted to; () for all of them

    @cached_property
    def given(self):
        """What `prepare` made of the settings."""
        return self.experiment.prepare(self.settings, self.cache)

    def rows(self) -> list[dict[str, str]]:
        """The rows that the experiment has so far."""
        return self.results.rows(self.experiment.table)

    def done(self, variation) -> dict[str, str] | None:
        """The (first) row of a variation, None where it has not been run."""
        columns = columns_of(variation)
        key = key_of(asdict(variation), columns)
        return next((row for row in self.rows() if key_of(row, columns) == key), None)


@dataclass
class Outcome:
    """What a call came to: runs done now, those that had a row, and those that failed, with the reason."""

    done: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{len(self.done)} runs done, {len(self.known)} had a row already, {len(self.failed)} failed"
        return text + "".join(f"\n  {name}: {reason}" for name, reason in self.failed.items())


def columns_of(variation) -> list[str]:
    """The columns that make a variation's key: its fields. ValueError for what is no frozen dataclass."""
    parameters = getattr(type(variation), "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise ValueError(
            f"a variation is {type(variation).__name__}; expected a frozen dataclass, whose fields are its key"
        )
    return [one.name for one in dataclasses.fields(variation)]


def title(variation) -> str:
    """A variation in words, for messages: its values, separated by commas."""
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in asdict(variation).values())


def run_experiment(
    experiment: Experiment,
    only: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    settings: object | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
    afresh: bool = False,
) -> Outcome:
    """Run every variation that has no row, stage by stage, and write its rows as soon as it is through.

    only: names among the experiment's, of the variations to run. threads: of torch; None leaves them. settings: others
    than the experiment's own, for which `folder` must be given: data/results holds one set. folder: for the tables
    (default: the topic's). cache: for what runs share on this machine (default: data/training/NAME). afresh: repeat
    runs that have a row, and replace it. ValueError for an unknown name, and where the tables rest on other settings.
    """
    if unknown := set(only or ()) - set(experiment.names):
        raise ValueError(
            f"only is {sorted(unknown)}; experiment {experiment.name} knows {', '.join(experiment.names) or 'no names'}"
        )
    if settings is not None and settings != experiment.settings and folder is None:
        raise ValueError(
            f"settings of {experiment.name} differ from its own, which the results that come with the course rest on; "
            "choose another folder for what they give"
        )
    if threads:
        import torch

        torch.set_num_threads(threads)
    work = Work(
        experiment,
        settings or experiment.settings,
        Results(experiment.topic, folder),
        cache or data_dir() / "training" / experiment.name,
    )
    work.only = tuple(only or ())
    check_settings(work)
    outcome, keys = Outcome(), set()
    for stage in experiment.stages:
        try:
            listed = list(stage(work))
        except Exception as error:  # what it rests on failed, or isn't there with --only
            outcome.failed[f"stage {stage.__name__}"] = _reason(error)
            continue
        keys |= {key_of(asdict(variation), columns_of(variation)) for variation in listed}
        _run_stage(
            [one for one in listed if not only or set(only) & {str(value) for value in asdict(one).values()}],
            work,
            outcome,
            afresh,
        )
    if not only and not outcome.failed and not experiment.keep_others and listed:
        work.results.keep(experiment.table, keys, columns_of(listed[0]))
    if outcome.done:
        write_card(work)
    return outcome


def check_settings(work: Work) -> None:
    """ValueError where the tables that are there rest on other settings than the work's."""
    card = work.results.card(work.experiment.table)
    if card is None or "settings" not in card or not work.rows():
        return
    ours = json.loads(json.dumps(asdict(work.settings)))
    differing = [
        f"{name} {card['settings'].get(name)!r}, now {ours.get(name)!r}"
        for name in {**card["settings"], **ours}
        if card["settings"].get(name) != ours.get(name)
    ]
    if differing:
        raise ValueError(
            f"{work.experiment.table}.csv of {work.experiment.topic} rests on other settings ({'; '.join(differing)}): "
            "choose another folder, or move its tables away to measure all anew"
        )


def write_card(work: Work) -> None:
    """The card of the experiment's tables: what they rest on, command, machine, date."""
    experiment = work.experiment
    tables = {*(work.results.card(experiment.table) or {}).get("tables", ()), *work.filled}
    work.results.write_card(
        experiment.table,
        {
            "what": experiment.what,
            "command": experiment.command,
            "settings": asdict(work.settings),
            "tables": sorted(tables),
            **experiment.facts(work),
        },
    )


def _run_stage(variations: Sequence, work: Work, outcome: Outcome, afresh: bool) -> None:
    """Run what isn't done; what another process has claimed is left for the end, then waited for."""
    claimed = [one for one in variations if not _run_one(one, work, outcome, afresh, wait=False)]
    for one in claimed:
        _run_one(one, work, outcome, afresh, wait=True)


def _run_one(variation, work: Work, outcome: Outcome, afresh: bool, wait: bool) -> bool:
    """Run a variation unless it has a row; False where another process is at it and we don't wait."""
    name = title(variation)
    if name in outcome.done or name in outcome.failed:
        return True
    if not afresh and work.done(variation):
        outcome.known.append(name)
        return True
    with _claim(variation, work, wait) as ours:
        if not ours:
            return False
        if not afresh and work.done(variation):  # another process was faster
            outcome.known.append(name)
            return True
        try:
            _write(variation, work.experiment.run(variation, work), work)
        except Exception as error:
            outcome.failed[name] = _reason(error)
            traceback.print_exc()
            print(f"{work.experiment.name}: {name} failed, the others go on", file=sys.stderr, flush=True)
        else:
            outcome.done.append(name)
            if len(outcome.done) == 1:  # at once, so that no table is without its card
                write_card(work)
            print(f"{work.experiment.name}: {name}", flush=True)
    return True


def _write(variation, rows: Rows, work: Work) -> None:
    """Write a run's rows; the experiment's own table last, for a run is done when it has a row there."""
    main, columns = work.experiment.table, columns_of(variation)
    if not rows.get(main):
        raise ValueError(
            f"the run gave no row for {main}; expected at least one, among rows for {', '.join(rows) or 'nothing'}"
        )
    for table, found in rows.items():
        if taken := sorted({name for row in found for name in row if name in columns}):
            raise ValueError(f"rows for {table} have the column {taken[0]}, which a variation has, too; expected "
                             "another name, for the variation's value stands in front of every row")
    work.filled.update(rows)
    for table in [*(table for table in rows if table != main), main]:
        work.results.append(table, [{**asdict(variation), **row} for row in rows[table]], columns)


@contextmanager
def _claim(variation, work: Work, wait: bool) -> Iterator[bool]:
    """Hold the lock of a run; gives False where another process holds it and we don't wait."""
    key = "_".join(key_of(asdict(variation), columns_of(variation)))
    name = re.sub(r"[^\w.-]+", "-", key)[:60] + "_" + hashlib.sha256(key.encode()).hexdigest()[:8]
    folder = work.cache / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


__all__ = ["Experiment", "Outcome", "Work", "check_settings", "columns_of", "run_experiment", "title", "write_card"]
