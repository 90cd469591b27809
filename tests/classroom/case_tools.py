"""How the cases of the assignments are written: changed answers, and the cells that they become."""

from collections.abc import Mapping
from textwrap import dedent


def changed(source: str, *changes: tuple[str, str]) -> str:
    """The source with each (old, new) text replaced; ValueError where an old text isn't there exactly once."""
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"{old!r} stands {source.count(old)} times in the source; expected once")
        source = source.replace(old, new)
    return source


def as_cells(*tasks: tuple[Mapping[str, str], Mapping[str, str]]) -> dict[int, dict[str, dict[str, str]]]:
    """CASES from the right and the wrong answers, by name, of task 1, 2, …:
    each as it stands below its cell's first line.
    """
    return {number: {kind: {name: f"{dedent(source).strip()}\n" for name, source in answers.items()}
                     for kind, answers in zip(("right", "wrong"), task)}
            for number, task in enumerate(tasks, start=1)}


__all__ = ["as_cells", "changed"]
