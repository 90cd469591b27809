"""`course slides`: what a slide shows, what the notes hold, and the page; on a made chapter and a real one."""

import re
from pathlib import Path

import nbformat
import pytest

from course_lib.authoring import slides
from course_lib.cli import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = "First thing, e.g. $a. b$. Second thing.\n\nThird thing."


def code(source, *outputs):
    made = {"picture": nbformat.v4.new_output("display_data", {"image/png": "aGk="}),
            "printed": nbformat.v4.new_output("stream", text="one line\n"),
            "broken": nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])}
    return nbformat.v4.new_code_cell(source, outputs=[made[name] for name in outputs])


def chapter(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(cell) if isinstance(cell, str) else cell
                                           for cell in cells])


def made_of(*cells, longest=slides.LONGEST):
    return [(cell.metadata.slideshow.slide_type, cell.cell_type, cell.source)
            for cell in slides.as_slides(chapter(*cells), longest).cells]


def test_a_section_is_a_column_and_a_picture_ends_a_slide():
    found = made_of("# Chapter", code("import x", "printed"), f"## 1.1 One\n\n{TEXT}", code("plot()", "picture"),
                    "And then.", code("print(1)", "printed"), "## 1.2 Two")
    assert [kind for kind, *_ in found] == ["slide", "-", "slide", "notes", "-", "subslide", "-", "slide"]
    assert found[2][2] == "## 1.1 One\n\nFirst thing, e.g. $a. b$." and found[3][2] == f"## 1.1 One\n\n{TEXT}"


def test_a_cell_that_ends_one_section_and_begins_the_next():
    found = made_of("## 1.1 One\n\nText.\n\n```python\n## no heading\n```\n\n## 1.2 Two\n\nMore.")
    assert [(kind, source.split("\n")[0]) for kind, _, source in found] == [("slide", "## 1.1 One"),
                                                                            ("slide", "## 1.2 Two")]


def test_set_up_and_sources_are_left_out():
    assert made_of("# Chapter", "## 1.0 Set up", code("setup()", "printed"), "## 1.9 Sources\n\n- A paper") == [
        ("slide", "markdown", "# Chapter")]


def test_code_is_shown_where_it_is_short_and_no_picture():
    long = "\n".join(["x = 1"] * (slides.LONGEST + 1))
    given = ("# Chapter", code("short()"), code(long), code(long, "printed"), code("plot()", "picture"),
             code("d.block(1)"), code("fails()", "broken"))
    cells = slides.as_slides(chapter(*given)).cells[1:]
    assert [(cell.source.splitlines()[0], slides.HIDDEN in cell.metadata.get("tags", [])) for cell in cells] == [
        ("short()", False), ("x = 1", True), ("plot()", True), ("fails()", False)]
    assert cells[-1].outputs == []
    html = slides.as_html(slides.as_slides(chapter(*given)))
    assert "short" in html and "plot" not in html
    assert len(made_of(*given, longest=10 ** 6)) == 7 and len(made_of(*given, longest=0)) == 3


def test_a_full_slide_goes_on_below():
    found = made_of("# Chapter", *[code("\n".join(["x = 1"] * 10)) for _ in range(5)])
    assert [kind for kind, *_ in found] == ["slide", "-", "-", "subslide", "-", "-"]


def test_the_given_notebook_stays_as_it_is():
    given = chapter("# Chapter", code("plot()", "picture"))
    before = nbformat.writes(given)
    slides.as_slides(given)
    assert nbformat.writes(given) == before


@pytest.mark.parametrize("block", ["$$ x\n= y $$", "- one\n- two", "**You will**\n- one", "1. one", "| a |\n|---|",
                                   "```python\na\n\nb\n```", "<details><summary>Q</summary>\n\nA\n\n</details>",
                                   "**Quick question.** Why? How?", "> said"])
def test_what_stays_whole(block):
    assert slides.condensed(block) == (block, "")
    assert slides.condensed(f"One. Two.\n\n{block}") == (f"One.\n\n{block}", f"One. Two.\n\n{block}")


@pytest.mark.parametrize("text, first", [
    ("One. Two.", "One."), ("One", "One"), ("Why? So.", "Why?"), ("In `a. b` it is. Yes.", "In `a. b` it is."),
    ("It is 3.5 dB. Yes.", "It is 3.5 dB."), ("**One.** Two.", "**One.**"), ("By X et al. here. Yes.",
                                                                           "By X et al. here."),
    ("One (a. b) two. Three.", "One (a. b) two."), ("", "")])
def test_first_sentences(text, first):
    assert slides.first_sentence(text) == first


def test_a_badge_is_dropped():
    assert slides.condensed("# Title\n\n[![Open](a)](b)\n\nText.") == ("# Title\n\nText.", "")


def test_no_heading():
    with pytest.raises(ValueError, match="no heading"):
        slides.as_slides(chapter("text", code("x")))


def test_the_command(tmp_path, capsys):
    assert main(["slides", "3", "-o", str(tmp_path)]) == 0
    page = (tmp_path / "03_metrics.slides.html").read_text(encoding="utf8")
    sections = re.findall(r"^## (3\.\d+ .*)$", "\n".join(
        cell.source for cell in nbformat.read(ROOT / "chapters/03_metrics.ipynb", 4).cells), re.MULTILINE)
    shown = [title for title in sections if not title.lower().endswith(("sources", "set up"))]
    assert len(shown) >= 8 and all(title.split(" ")[0] in page for title in shown)
    slides_said = int(re.search(r"(\d+) slides", capsys.readouterr().out)[1])
    assert page.count("<section>") + page.count("<section ") >= slides_said > len(shown)
    assert 'class="notes"' in page and "reveal" in page and str(ROOT) not in page


def test_modules_of_ones_own(tmp_path, capsys):
    assert main(["slides", "3", "-o", str(tmp_path), "--modules", str(tmp_path)]) == 2
    assert "npm install reveal.js@4" in capsys.readouterr().err
    for file in slides.SCRIPTS.values():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    html = slides.as_html(slides.as_slides(chapter("# Chapter", code("x", "printed"))), tmp_path)
    assert f"{tmp_path.as_uri()}/requirejs/require.js" in html and f"{tmp_path.as_uri()}/reveal.js" in html


def test_bad_names(tmp_path, capsys):
    assert main(["slides", "99", "-o", str(tmp_path)]) == 2
    assert "names 0 chapters" in capsys.readouterr().err
