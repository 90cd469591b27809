"""What a training run leaves on disk: its settings, its logs, and checkpoints that are whole or not there.

    FOLDER/settings.json                       what the run was started with
    FOLDER/log.csv, validation.csv             a row a step, a row a validation
    FOLDER/best.safetensors                    the weights with the best validation score
    FOLDER/checkpoints/step_00000200/          state.pt, random_0.pt (one a process), sha256.json

A process can be killed, and the power can fail, between any two lines below. So a checkpoint is written under another
name, flushed to the disk, and gets its own name last, in one step of the file system. Its checksums tell later whether
the disk has lost something of it; then the checkpoint before it counts.
"""

import csv
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

KEPT_CHECKPOINTS = 2                 # the newest and, should the disk have lost something of it, the one before
CHECKSUMS = "sha256.json"


class RunFolder:
    """The files of one training run under `path`. Only the main process calls the methods that touch them."""

    def __init__(self, path: Path):
        self.path, self.checkpoints = path, path / "checkpoints"
        self.unfinished = self.checkpoints / "unfinished"
        self.columns: dict[str, list[str]] = {}             # of each log

    # ---------------------------------------------------------------------------------------------- checkpoints

    def begin_checkpoint(self) -> None:
        """An empty folder `unfinished` to write a checkpoint into."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)

    def end_checkpoint(self, step: int) -> None:
        """Give what lies in `unfinished` its name in one step, then drop the oldest checkpoints."""
        for log in self.path.glob("*.csv"):             # a checkpoint promises that the rows up to it are there
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

    def check_settings(self, settings: Mapping[str, object], steps: int, file: str = "settings.json") -> None:
        """Keep a run's settings; ValueError where checkpoints here come from other ones, or from more steps.

        A run in which nothing but `steps` grew goes on. Without checkpoints there is nothing to go on from, and
        anything may change.
        """
        path = self.path / file
        given = json.loads(json.dumps({"steps": steps, **settings}))      # as it will be read: tuples become lists
        if path.is_file() and self._finished():
            kept = json.loads(path.read_text(encoding="utf8"))
            may_change = {"steps", "schedule_values"} if kept["steps"] < steps else set()
            changed = [name for name in {**kept, **given}
                       if name not in may_change and kept.get(name) != given.get(name)]
            if changed:
                was = "; ".join(f"{name} was {_short(kept.get(name))}, now {_short(given.get(name))}"
                                for name in changed)
                raise ValueError(f"{self.path} holds a run with other settings: {was}. Only a run whose steps grew can "
                                 "go on; train in another folder, or delete this one to train afresh")
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(given, indent=1) + "\n")

    def delete(self) -> None:
        """Delete what a run of `course train` left here, and nothing else; the folder goes when it is empty.

        Raises ValueError, and deletes nothing, where there are files but no run's config.json.
        """
        config = self.path / "config.json"
        if not self.path.exists():
            return
        if not self.path.is_dir() or (any(self.path.iterdir()) and not config.is_file()):
            raise ValueError(f"{self.path} holds no run of course train (it has no config.json); choose another "
                             "folder, or delete this one yourself")
        for pattern in ("step_*", "damaged_step_*", "unfinished"):
            for checkpoint in self.checkpoints.glob(pattern):
                shutil.rmtree(checkpoint)
        for name in ("log.csv", "log.unfinished", "validation.csv", "validation.unfinished", "settings.json",
                     "settings.json.unfinished", "best.safetensors", "best.safetensors.unfinished",
                     "config.json.unfinished"):
            (self.path / name).unlink(missing_ok=True)
        config.unlink(missing_ok=True)                      # last: an interrupted deletion can be taken up again
        for folder in (self.checkpoints, self.path):
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()

    # ------------------------------------------------------------------------------------------------------ logs

    def append(self, name: str, row: Mapping[str, float]) -> None:
        """Add a row to the log NAME.csv. ValueError where its columns are not those of the rows before."""
        path, columns = self.path / f"{name}.csv", self.check_columns(name, row)
        new = not path.exists()
        with path.open("a", encoding="utf8", newline="") as file:
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

    def cut_back(self, name: str, step: int) -> list[dict]:
        """Drop the rows after `step` (and one that was half written) from NAME.csv; give those that stay as numbers."""
        path = self.path / f"{name}.csv"
        if not path.exists():
            return []
        with path.open(encoding="utf8", newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row.values() and None not in row]
            columns = list(reader.fieldnames or [])
        kept = [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= step]
        if not kept:
            path.unlink()
            return []
        self.columns[name] = columns
        rewritten = path.with_suffix(".unfinished")
        with rewritten.open("w", encoding="utf8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        flush_file(rewritten)
        os.replace(rewritten, path)
        return [{name: int(value) if name == "step" else float(value) for name, value in row.items()} for row in kept]


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


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
