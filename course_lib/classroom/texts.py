"""Texts from anywhere as texts that can be stored, and students' names as names of files.

A JSON string may hold half an emoji (a lone surrogate), a file name any bytes; neither can be written as UTF-8. Both
are made storable once, where they come in, so that nothing later can fail on them.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LONGEST_FILE_NAME = 120          # bytes of a name, what is added to it left room for: file systems allow 255
RESERVED_NAMES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)      # on Windows


def storable(text: str) -> str:
    """The text with halves of surrogate pairs joined where they belong together, else replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def all_storable(value: Any) -> Any:
    """Plain values (dictionaries, lists, texts, numbers) with every text in them made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {all_storable(name): all_storable(inner) for name, inner in value.items()}
    return [all_storable(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def name_of(path: Path | str) -> str:
    """A path as a text that can be shown and stored: bytes that are no UTF-8 come as \\xe9."""
    return storable(os.fsencode(path).decode("utf8", "backslashreplace"))


def file_names(students: Iterable[str]) -> dict[str, str]:
    """Student -> a name for files about them, no two alike on any file system, whatever they are called.

    A name that can stand as it is does; one that was changed, is too long, or is equal to another's but for capitals,
    carries a few digits of its hash.
    """
    students = list(students)
    plain = {student: _plain_name(student) for student in students}
    alike = Counter(unicodedata.normalize("NFKC", name).casefold() for name in plain.values())
    return {student: name if name == student and alike[unicodedata.normalize("NFKC", name).casefold()] == 1
            else f"{name}-{hashlib.sha256(student.encode()).hexdigest()[:8]}" for student, name in plain.items()}


def _plain_name(student: str) -> str:
    """The student's name with only signs that every file system takes, of a length that fits."""
    name = re.sub(r"[^\w.@+ -]+", "_", student).strip(". ")
    name = name.encode()[:LONGEST_FILE_NAME].decode(errors="ignore").strip(". ")
    return "_" if not name else f"_{name}" if RESERVED_NAMES.fullmatch(name) else name
