"""How long chapters run: measured by `course run`, kept in data/results, written into headers and README."""

import contextlib
import datetime
import math
import os
import platform
import re
from pathlib import Path

from course_lib.results import Results


def record_minutes(chapter: str, profile: str, seconds: float, cpu_seconds: float, path: Path) -> None:
    """Put a chapter's time into the table at `path`, in place of what it held for this chapter and profile."""
    results = Results("minutes", path.parent)
    rows = [row for row in results.rows(path.stem) if (row["chapter"], row["profile"]) != (chapter, profile)]
    rows.append(
        {
            "chapter": chapter,
            "profile": profile,
            "minutes": f"{seconds / 60:.1f}",
            "seconds": f"{seconds:.0f}",
            "cpu_seconds": f"{cpu_seconds:.0f}",
            "threads": thread_count(),
            "cpu": processor_name(),
            "date": datetime.date.today().isoformat(),
        }
    )
    results.write(path.stem, sorted(rows, key=lambda row: (row["chapter"], row["profile"])))


def minutes_text(chapter: str, table: Path) -> str:
    """How long a chapter runs in words, from the table of minutes: '1.5 minutes on 2 CPU cores, GPU not measured'.

    Rounded up to half minutes, so that it stays the same from one execution to the next.
    """
    rows = Results("minutes", table.parent).rows(table.stem)
    measured = {row["profile"]: row for row in rows if row["chapter"] == chapter}
    parts = []
    for profile, device in (("cpu", "CPU"), ("gpu", "GPU")):
        if row := measured.get(profile):
            minutes = max(0.5, math.ceil(float(row["seconds"]) / 30) / 2)
            where = f"on {row['threads']} CPU core{'s' * (row['threads'] != '1')}" if profile == "cpu" else "on a GPU"
            parts.append(f"{minutes:g} minute{'s' * (minutes != 1)} {where}")
        else:
            parts.append(f"{device} not measured")
    return ", ".join(parts)


def write_minutes(chapter: Path, table: Path) -> None:
    """Write a chapter's minutes between its marks, `<!-- minutes NN_topic -->...<!-- /minutes -->`.

    The marks stand in the chapter's header, in text and notebook alike, and in the README's list of chapters.
    """
    marked = re.compile(rf"(<!-- minutes {re.escape(chapter.stem)} -->).*?(<!-- /minutes -->)")
    words = minutes_text(chapter.stem, table)  # plain words, the same in a notebook's JSON
    readme = chapter.parent.parent / "README.md"
    for path in (chapter.with_suffix(".ipynb"), chapter.with_suffix(".py"), readme):  # the text stays the newer one
        if not path.exists():
            continue
        text = path.read_text(encoding="utf8")
        new = marked.sub(rf"\g<1>{words}\g<2>", text)
        if new != text:
            path.write_text(new, encoding="utf8", newline="\n")
    with contextlib.suppress(FileNotFoundError):
        os.utime(chapter.with_suffix(".py"))


def thread_count() -> int:
    """How many threads a chapter computes with: COURSE_THREADS or OMP_NUM_THREADS where set, else the usable cores."""
    for name in ("COURSE_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    usable = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(usable(0)) if usable else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name, such as 'AMD EPYC', as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
