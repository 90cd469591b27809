"""The answers to the chapters' exercises run: each ```python block in a chapter's prose,
on top of the chapter's module.
"""

import importlib
import math
import re
from pathlib import Path

import pytest
import torch

CHAPTERS = sorted((Path(__file__).resolve().parents[2] / "chapters").glob("[0-9]*.py"))


def answers(text: str) -> list[str]:
    """The ```python blocks in the Markdown cells of a chapter's text."""
    prose = "\n".join(
        line[2:] if line.startswith("# ") else line[1:] for line in text.splitlines() if line.startswith("#")
    )
    return re.findall(r"^```python\n(.*?)^```", prose, re.MULTILINE | re.DOTALL)


def module_of(text: str) -> str:
    """The module a chapter exports to."""
    return re.search(r"^#\| default_exp (\w+)", text, re.MULTILINE)[1]


CASES = [
    (chapter, number, code)
    for chapter in CHAPTERS
    for number, code in enumerate(answers(chapter.read_text(encoding="utf8")), 1)
]


@pytest.mark.parametrize("chapter,number,code", CASES, ids=[f"{chapter.stem}-{number}" for chapter, number, _ in CASES])
def test_answer_runs(chapter, number, code):
    torch.manual_seed(0)
    module = importlib.import_module(f"course_lib.{module_of(chapter.read_text(encoding='utf8'))}")
    assert "assert" in code, "an answer shows that it is right"
    exec(compile(code, f"{chapter.name}, answer {number}", "exec"), {"torch": torch, "math": math, **vars(module)})


def test_every_chapter_has_answers():
    for chapter in CHAPTERS:
        assert len(answers(chapter.read_text(encoding="utf8"))) >= 3, f"{chapter.name} has fewer than 3 checked answers"
