"""Progress bars that leave nothing behind in a stored notebook."""

import html
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_UPDATES = 0.2


def executing() -> bool:
    """Whether a notebook is being executed to be stored or compared, with nobody watching (COURSE_EXECUTING=1)."""
    return os.environ.get("COURSE_EXECUTING", "") not in ("", "0")


def in_notebook() -> bool:
    """Whether this code runs in a Jupyter kernel, whose outputs are shown in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def remaining(done: int, total: int | None, seconds: float) -> str:
    """How far a loop is in words: '12 of 60, 0:24 left', or without a known total '12, 0:06 so far'."""
    if not total or not done:
        return f"{done}" if not total else f"{done} of {total}"
    left = int(round(seconds / done * max(0, total - done)))
    return f"{done} of {total}, {left // 60}:{left % 60:02d} left"


def notebook_bar(text: str, done: int, total: int | None, seconds: float) -> dict[str, str]:
    """The bar as an output: HTML with a `<progress>` tag, and the same in words."""
    words = f"{text}: {remaining(done, total, seconds)}"
    value = f' value="{done}" max="{total}"' if total else ""
    return {"text/html": f'<label class="course-progress">{html.escape(words)} <progress{value}></progress></label>',
            "text/plain": words}


def _in_notebook(items: Iterable[Item], text: str, total: int | None) -> Iterator[Item]:
    from IPython.display import display

    start = shown = time.monotonic()
    handle = display(notebook_bar(text, 0, total, 0), raw=True, display_id=True)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if (now := time.monotonic()) - shown >= SECONDS_BETWEEN_UPDATES:
                handle.update(notebook_bar(text, done, total, now - start), raw=True)
                shown = now
    finally:                                          # also after `break` and after an error in the loop's body
        handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _in_terminal(items: Iterable[Item], text: str, total: int | None) -> Iterator[Item]:
    from tqdm import tqdm

    yield from tqdm(items, desc=text, total=total, leave=False, disable=not sys.stderr.isatty())


def progress(items: Iterable[Item], text: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` and show how far it is: a bar that vanishes when the loop ends.

    text: what is being done ('training', 'scoring songs'). total: number of items, default len(items) where it has one.
    In a notebook the bar is an output that is emptied at the end; in a terminal it is tqdm's; where notebooks are
    executed for storing (COURSE_EXECUTING=1) and where output goes to a file there is none.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    if executing():
        return iter(items)
    return _in_notebook(items, text, total) if in_notebook() else _in_terminal(items, text, total)
