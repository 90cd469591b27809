"""What a training run leaves on disk: its settings, its logs, and checkpoints that are whole or not there.

    FOLDER/settings.json                       what the run was started with
    FOLDER/log.csv, validation.csv             a row a step, a row a validation
    FOLDER/best.safetensors                    the weights with the best validation score
    FOLDER/checkpoints/step_00000200/          state.pt, random_0.pt (one a process), sha256.json
    FOLDER/run.lock, running.json              held while a run lives, and who holds it

A process can be killed, and the power can fail, between any two lines below. So a checkpoint is written under another
name, flushed to the disk, and gets its own name last, in one step of the file system. Its checksums tell later whether
the disk has lost something of it; then the checkpoint before it counts. What of a folder can't be read is refused with
its name, and nothing in it is changed.
"""

import contextlib
import csv
import hashlib
import json
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

KEPT_CHECKPOINTS = 2                 # the newest and, should the disk have lost something of it, the one before
CHECKSUMS = "sha256.json"
LOCK_FILES = {"run.lock", "running.json"}


class RunFolder:
    """The files of one training run under `path`. Only the main process calls the methods that touch them.

    A command that does more with a folder than to train in it locks it, and hands this object to `fit`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints, self.best = self.path / "checkpoints", self.path / "best.safetensors"
        self.unfinished = self.checkpoints / "unfinished"
        self.columns: dict[str, list[str]] = {}             # of each log
        self._lock: FileLock | None = None

    # ------------------------------------------------------------------------------------------------ one run alone

    def lock(self) -> bool:
        """Hold the folder for one run; False where this object holds it already.

        The system lets go of it when the process ends, however it ends. Raises ValueError where another run holds it.
        """
        if self._lock is not None:
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / "run.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
            if not (self.path / "run.lock").exists():       # deleted with an old run, just before it was ours
                lock.release()
                lock.acquire()
        except Timeout:
            raise ValueError(f"{self.path} is in use: another training ({self._holder()}) is running there. Wait for "
                             "it, stop it, or train in another folder") from None
        self._lock = lock
        with contextlib.suppress(OSError):                  # it only tells others who is here
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            write_text(self.path / "running.json", json.dumps(
                {"process": os.getpid(), "machine": platform.node(), "since": since}) + "\n")
        return True

    def unlock(self) -> None:
        """Let go of the folder, for the next run."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                (self.path / "running.json").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    @contextlib.contextmanager
    def locked(self) -> Iterator["RunFolder"]:
        """Hold the folder while the block lasts."""
        held = self.lock()
        try:
            yield self
        finally:
            if held:
                self.unlock()

    def _holder(self) -> str:
        try:
            holder = json.loads((self.path / "running.json").read_text(encoding="utf8"))
            here = "" if holder["machine"] == platform.node() else f" on {holder['machine']}"
            return f"process {holder['process']}{here}, since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "it has just started"

    # ---------------------------------------------------------------------------------------------- checkpoints

    def begin_checkpoint(self) -> None:
        """An empty folder `unfinished` to write a checkpoint into."""
        with self._writing("a checkpoint"):
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.unfinished.mkdir(parents=True)

    def write_state(self, name: str, state: object) -> None:
        """Write a structure of tensors and numbers as a file of the checkpoint. OSError where the disk is full."""
        with self._writing("a checkpoint"):
            torch.save(state, self.unfinished / name)

    def end_checkpoint(self, step: int) -> None:
        """Give what lies in `unfinished` its name in one step, then drop the oldest checkpoints."""
        with self._writing("a checkpoint"):
            for log in self.path.glob("*.csv"):         # a checkpoint promises that the rows up to it are there
                flush_file(log)
            sums = {path.name: sha256(path) for path in sorted(self.unfinished.iterdir())}
            (self.unfinished / CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf8")
            for path in self.unfinished.iterdir():
                flush_file(path)
            _flush_folder(self.unfinished)
            finished = self.checkpoints / f"step_{step:08d}"
            os.replace(self.unfinished, finished)
            _flush_folder(self.checkpoints)
        for old in self._finished()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def write_best(self, tensors: Mapping[str, Tensor]) -> None:
        """Write best.safetensors in one step. OSError where the disk is full."""
        with self._writing("best.safetensors"):
            write_tensors(self.best, tensors)

    def check_best(self) -> None:
        """ValueError where the weights with the best score so far are gone."""
        if not self.best.is_file():
            raise ValueError(f"best.safetensors is missing in {self.path}, whose run has a best score; put it back "
                             "from a copy, or delete the folder to train afresh. Nothing in it was changed")

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Say of an error while writing what it means for the run, and make room."""
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:      # torch and safetensors have their own words
            shutil.rmtree(self.unfinished, ignore_errors=True)
            known = self._finished()
            state = f"the run is intact up to {known[-1].name}" if known else "there is no checkpoint yet"
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else _first_line(error)
            raise OSError(f"{what} in {self.path} could not be written: {reason} ({_free(self.path)} free there). "
                          f"{state}; make room and start it again, and it goes on") from error

    def newest(self) -> Path | None:
        """The newest whole checkpoint, None where there never was one; damaged ones are put aside with a warning.

        Raises ValueError where there are checkpoints and none is whole.
        """
        found = self._finished()
        for checkpoint in reversed(found):
            damage = _damage(checkpoint)
            if damage is None:
                return checkpoint
            aside = checkpoint.with_name(f"damaged_{checkpoint.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(checkpoint, aside)
            warnings.warn(f"checkpoint {checkpoint.name} of {self.path} is damaged ({damage}); it is left in "
                          f"{aside.name}, and the run goes on from the one before", stacklevel=2)
        if found or any(self.checkpoints.glob("damaged_step_*")):
            raise ValueError(f"no checkpoint in {self.checkpoints} is whole; delete {self.path} to train afresh")
        return None

    def _finished(self) -> list[Path]:
        """The checkpoints that got their name, oldest first."""
        return sorted(self.checkpoints.glob("step_*"))

    # -------------------------------------------------------------------------------------------------- settings

    def check_settings(self, settings: Mapping[str, object], steps: int, file: str = "settings.json",
                       may_be_new: tuple[str, ...] = ()) -> None:
        """ValueError where checkpoints here come from other settings, or from more steps. Nothing is written.

        A run in which nothing but `steps` grew goes on. Without checkpoints there is nothing to go on from, and
        anything may change. may_be_new: settings that a run may have been started without.
        """
        path, given = self.path / file, _as_read(settings, steps)
        if self._finished():
            kept = self._kept_settings(path)
            may_change = {"steps", "schedule_values"} if kept["steps"] < steps else set()
            may_change |= {name for name in may_be_new if name not in kept}
            changed = [name for name in {**kept, **given}
                       if name not in may_change and kept.get(name) != given.get(name)]
            if changed:
                was = "; ".join(f"{name} was {_short(kept.get(name))}, now {_short(given.get(name))}"
                                for name in changed)
                raise ValueError(f"{self.path} holds a run with other settings: {was}. Only a run whose steps grew can "
                                 "go on; train in another folder, or delete this one to train afresh")

    def write_settings(self, settings: Mapping[str, object], steps: int, file: str = "settings.json") -> None:
        """Keep what a run is started with, for `check_settings` when it goes on."""
        with self._writing(file):
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / file, json.dumps(_as_read(settings, steps), indent=1) + "\n")

    def has_checkpoints(self) -> bool:
        """Whether there is a run to go on from."""
        return bool(self._finished())

    def _kept_settings(self, path: Path) -> dict:
        """What a run with checkpoints was started with. ValueError where that can't be read any more."""
        try:
            kept = json.loads(path.read_text(encoding="utf8"))
            if isinstance(kept, dict) and isinstance(kept.get("steps"), int):
                return kept
            damage = "holds no settings"
        except FileNotFoundError:
            damage = "is missing"
        except (OSError, ValueError) as error:
            damage = f"can't be read ({_first_line(error)})"
        raise ValueError(f"{path.name} in {self.path} {damage}: nothing says what its checkpoints were trained with. "
                         "Put it back from a copy, or delete the folder to train afresh. Nothing in it was changed")

    def delete(self) -> None:
        """Delete what a run of `course train` left here, and nothing else; the folder goes when it is empty.

        Raises ValueError, and deletes nothing, where there are files but no run's config.json.
        """
        config = self.path / "config.json"
        if not self.path.exists():
            return
        if not self.path.is_dir() or (
                not config.is_file() and {path.name for path in self.path.iterdir()} - LOCK_FILES):
            raise ValueError(f"{self.path} holds no run of course train (it has no config.json); choose another "
                             "folder, or delete this one yourself")
        with self.locked():                                 # not from under a run that lives
            for pattern in ("step_*", "damaged_step_*", "unfinished"):
                for checkpoint in self.checkpoints.glob(pattern):
                    shutil.rmtree(checkpoint)
            for name in ("log.csv", "log.unfinished", "validation.csv", "validation.unfinished", "settings.json",
                         "settings.json.unfinished", "best.safetensors", "best.safetensors.unfinished",
                         "config.json.unfinished", "running.json.unfinished"):
                (self.path / name).unlink(missing_ok=True)
            config.unlink(missing_ok=True)                  # last: an interrupted deletion can be taken up again
            if os.name == "posix":                          # Windows deletes no file that is open
                (self.path / "run.lock").unlink()
        (self.path / "run.lock").unlink(missing_ok=True)
        for folder in (self.checkpoints, self.path):
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()

    # ------------------------------------------------------------------------------------------------------ logs

    def append(self, name: str, row: Mapping[str, float]) -> None:
        """Add a row to the log NAME.csv. ValueError where its columns are not those of the rows before."""
        path, columns = self.path / f"{name}.csv", self.check_columns(name, row)
        new = not path.exists()
        with self._writing(path.name), path.open("a", encoding="utf8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            if new:
                writer.writeheader()
            writer.writerow(row)

    def check_columns(self, name: str, row: Mapping[str, float]) -> list[str]:
        """The columns of the log NAME.csv; ValueError where the row has others."""
        columns = self.columns.setdefault(name, list(row))
        if columns != list(row):
            raise ValueError(f"{name}.csv has the columns {', '.join(columns)}, and now came {', '.join(row)}; step "
                             "(or validate) must give the same names each time, in the same order")
        return columns

    def kept_rows(self, name: str, step: int, count: int | None) -> list[dict]:
        """The rows of NAME.csv up to `step`, as numbers. A row that was half written after the checkpoint counts not.

        count: how many there must be (None: not known); of the log, one a step. Raises ValueError where the file is
        damaged or lacks some.
        """
        path = self.path / f"{name}.csv"
        if step == 0:
            return []                                       # nothing to go on from, whatever lies there
        rows, damage = [], "is missing"
        if path.exists():
            try:
                with path.open(encoding="utf8", newline="") as file:
                    reader = csv.DictReader(file)
                    whole = [row for row in reader if None not in row.values() and None not in row]
                    self.columns[name] = list(reader.fieldnames or [])
                rows = [{key: int(value) if key == "step" else float(value) for key, value in row.items()}
                        for row in whole if row.get("step", "").isdigit() and int(row["step"]) <= step]
                damage = (f"has {len(rows)} whole rows up to step {step}, not {count}" if len(rows) != count
                          else "has steps in the wrong order")
            except (OSError, ValueError, csv.Error) as error:
                damage, rows = f"can't be read ({_first_line(error)})", None
        if rows is None or (count is not None and len(rows) != count) or not _rising(rows, name == "log"):
            raise ValueError(f"{name}.csv in {self.path} {damage}: it no longer fits the checkpoint of step {step}. "
                             "Put it back from a copy, or delete the folder to train afresh. Nothing in it was changed")
        return rows

    def cut_back(self, name: str, rows: list[dict]) -> None:
        """Leave these rows in NAME.csv, and no others. Numbers are written as they were read."""
        path = self.path / f"{name}.csv"
        if not rows:
            path.unlink(missing_ok=True)
            self.columns.pop(name, None)
            return
        rewritten = path.with_suffix(".unfinished")
        with self._writing(path.name), rewritten.open("w", encoding="utf8", newline="") as file:
            writer = csv.DictWriter(file, self.columns[name])
            writer.writeheader()
            writer.writerows(rows)
        with self._writing(path.name):
            flush_file(rewritten)
            os.replace(rewritten, path)


def _as_read(settings: Mapping[str, object], steps: int) -> dict:
    """Settings as they will be read: tuples become lists."""
    return json.loads(json.dumps({"steps": steps, **settings}))


def _rising(rows: list[dict], every: bool) -> bool:
    """Whether the steps of a log rise, by one where it has every step."""
    steps = [row["step"] for row in rows]
    return steps == list(range(1, len(steps) + 1)) if every else steps == sorted(set(steps))


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in one step that can't be interrupted halfway."""
    unfinished = path.with_name(path.name + ".unfinished")
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, unfinished)
    flush_file(unfinished)
    os.replace(unfinished, path)


def write_text(path: Path, text: str) -> None:
    """Write a small file in one step that can't be interrupted halfway."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf8")
    flush_file(unfinished)
    os.replace(unfinished, path)


def flush_file(path: Path) -> None:
    """After this a power cut can't take back what was written to a file."""
    with path.open("r+b") as file:                      # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_folder(folder: Path) -> None:
    if os.name == "posix":                              # elsewhere folders can't be opened, and need not be
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where every file is as it was written."""
    try:
        sums = json.loads((checkpoint / CHECKSUMS).read_text(encoding="utf8"))
        wrong = [name for name, value in sums.items() if sha256(checkpoint / name) != value]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__} while reading it"
    return f"{', '.join(wrong)} changed" if wrong else None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB"
    except OSError:
        return "nobody knows how much"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
