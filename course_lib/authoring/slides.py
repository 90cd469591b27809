"""`course slides NN`: a chapter as slides for a teacher, one HTML file that reveal.js shows (press S for the notes).

The slides come from the executed notebook; nothing is executed, and nothing is written twice. A section begins a
column; below it follows a slide for every figure, table or sound, with what stands before it. Of the prose a slide
keeps headings, formulas, lists, tables, questions and each passage's first sentence; all of it is in the speaker's
notes. Code is shown where it is short and its point isn't a picture. Answers stay folded, sources are left out.
"""

import argparse
import copy
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_lib import catalogue
from course_lib.paths import shown

LONGEST = 12                                             # lines of code that are still shown
FULL, PICTURE = 22, 14                                   # lines after which a slide is full, and those of a figure
DRAWING = re.compile(r"\bDiagram\(|^\w+\.(block|arrow|plus|group)\(", re.MULTILINE)      # its point is a picture, too
HIDDEN = "no-input"                                      # tag of a cell whose code isn't shown
PACKAGES = "reveal.js@4 requirejs jquery mathjax@2"
SCRIPTS = {"reveal_url_prefix": "reveal.js", "require_js_url": "requirejs/require.js",
           "jquery_url": "jquery/dist/jquery.min.js", "mathjax_url": "mathjax/latest.js"}     # option -> file
CODE = {"short": LONGEST, "all": 10 ** 6, "none": 0}
MATHJAX = "?config=TeX-AMS_CHTML-full,Safe"
STYLE = """<style>
.reveal { font-size: 24px; } .reveal .slides section { text-align: left; overflow-y: auto; max-height: 700px; }
.reveal { --jp-code-font-size: 13px; } .reveal pre { width: 100%; } .reveal .jp-Cell { padding: 0; }
.reveal img { max-height: 480px; } .reveal table { font-size: 0.8em; }
.reveal h1 { font-size: 1.8em; } .reveal h2 { font-size: 1.5em; } .reveal h3 { font-size: 1.2em; }
</style>"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course slides`."""
    parser.add_argument("chapters", nargs="+", metavar="NN", help="a chapter's number, name or file; 'all' for all")
    parser.add_argument("-o", "--output", type=Path, default=Path("slides"), metavar="DIR",
                        help="where NN_topic.slides.html go (default: slides)")
    parser.add_argument("--code", choices=CODE, default="short",
                        help=f"how much of the code is shown (default: cells of at most {LONGEST} lines that show no "
                             "figure, table or sound)")
    parser.add_argument("--modules", type=Path, metavar="DIR",
                        help=f"for a room without a network: the node_modules that `npm install {PACKAGES}` makes "
                             "(default: public copies)")


def main(arguments: argparse.Namespace) -> int:
    """Write the slides of the chapters that were asked for."""
    root = catalogue.checkout()
    names = [path.stem for path in catalogue.written(root)]
    wanted = names if arguments.chapters == ["all"] else [catalogue.match(word, names) for word in arguments.chapters]
    for file in SCRIPTS.values() if arguments.modules else ():
        if not (arguments.modules / file).exists():
            raise FileNotFoundError(f"{shown(arguments.modules / file)} is missing; --modules is the node_modules that "
                                    f"`npm install {PACKAGES}` makes")
    for name in dict.fromkeys(wanted):
        notebook = nbformat.read(root / "chapters" / f"{name}.ipynb", as_version=4)
        if not any(cell.get("outputs") for cell in notebook.cells):
            raise ValueError(f"chapters/{name}.ipynb has no outputs; run `course run {name.partition('_')[0]}` first")
        slides = as_slides(notebook, CODE[arguments.code])
        path = arguments.output / f"{name}.slides.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_html(slides, arguments.modules), encoding="utf8")
        print(f"{shown(path)}: {count(slides)} slides")
    return 0


# ------------------------------------------------------------------------------------------------- from cells to slides


def as_slides(notebook: NotebookNode, longest: int = LONGEST) -> NotebookNode:
    """A notebook whose cells say which slide they are on; the given one stays as it is.

    longest: lines of a code cell that is still shown. ValueError for a notebook without a heading.
    """
    sections = list(_sections(notebook.cells))
    if not sections:
        raise ValueError("the notebook has no heading of the first or second level; nothing to make slides of")
    cells = [cell for section in sections for cell in _slides_of(section, longest)]
    for number, cell in enumerate(cells):
        cell.id = f"slide-{number}"
    return nbformat.v4.new_notebook(cells=cells, metadata=copy.deepcopy(notebook.metadata))


def count(slides: NotebookNode) -> int:
    """How many slides there are."""
    return sum(cell.metadata.slideshow.slide_type in ("slide", "subslide") for cell in slides.cells)


def _sections(cells: list[NotebookNode]) -> Iterator[list[NotebookNode]]:
    """The cells of each section, headings of levels 1 and 2 first in theirs; without set-up and sources."""
    section: list[NotebookNode] = []
    for cell in cells:
        for piece in _split_at_headings(cell) if cell.cell_type == "markdown" else [copy.deepcopy(cell)]:
            if piece.cell_type == "markdown" and re.match(r"##? ", piece.source):
                if section:
                    yield section
                section = []
            if section or piece.cell_type == "markdown" and re.match(r"##? ", piece.source):
                section.append(piece)
    if section:
        yield section


def _split_at_headings(cell: NotebookNode) -> list[NotebookNode]:
    """A text cell as one cell a section, for a cell may end one and begin the next."""
    places, fenced, at = [0], False, 0
    for line in cell.source.splitlines(keepends=True):
        fenced ^= line.lstrip().startswith("```")
        if at and not fenced and re.match(r"##? ", line):
            places.append(at)
        at += len(line)
    pieces = [cell.source[a:b].strip() for a, b in zip(places, [*places[1:], None])]
    return [nbformat.v4.new_markdown_cell(piece) for piece in pieces if piece]


def _slides_of(section: list[NotebookNode], longest: int) -> Iterator[NotebookNode]:
    """The cells of a section's slides, each with its slide type; none for the set-up and the sources."""
    heading = section[0].source.partition("\n")[0].lower()
    if heading.endswith(("sources", "set up")):
        return
    kind, lines = "slide", 0                             # of the slide that the next cell stands on
    for cell in section:
        if cell.cell_type == "markdown":
            visible, told = condensed(cell.source)
            if visible:
                if lines > FULL:
                    kind, lines = "subslide", 0
                yield _typed(nbformat.v4.new_markdown_cell(visible), "-" if lines else kind)
                lines += len(visible) // 100 + visible.count("\n") + 1
            if told and lines:
                yield _typed(nbformat.v4.new_markdown_cell(told), "notes")
        elif cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.output_type != "error"]
            written, pictured = len(cell.source.splitlines()), _is_shown(cell.outputs)
            if written > longest or longest == LONGEST and (pictured or DRAWING.search(cell.source)):
                if not cell.outputs:
                    continue
                cell.metadata.tags = [*cell.metadata.get("tags", []), HIDDEN]
                written = 0
            if lines + PICTURE * pictured > FULL:
                kind, lines = "subslide", 0
            yield _typed(cell, "-" if lines else kind)
            lines += written + sum(output.get("text", "").count("\n") for output in cell.outputs) + 1
            if pictured:                                 # a figure, table or sound ends its slide
                kind, lines = "subslide", 0


def _typed(cell: NotebookNode, kind: str) -> NotebookNode:
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def _is_shown(outputs: list[NotebookNode]) -> bool:
    return any(output.output_type in ("display_data", "execute_result") for output in outputs)


def condensed(text: str) -> tuple[str, str]:
    """What of a passage stands on the slide, and what the speaker's notes hold: all of its prose, if it was shortened.

    The slide has headings, formulas, lists, tables, quotations, code, folded answers and questions whole, and of the
    first paragraph of prose its first sentence.
    """
    visible, first, shortened = [], True, False
    for block in _blocks(text):
        if block.startswith("[!["):                      # a badge
            continue
        if _stays(block):
            visible.append(block)
            continue
        if first:
            sentence = first_sentence(block)
            visible.append(sentence)
            shortened |= sentence != block
        else:
            shortened = True
        first = False
    return "\n\n".join(visible), text if shortened else ""


def _stays(block: str) -> bool:
    return bool(re.match(r"#|\$\$|(\*\*.*\n)?([-*] |\d+\. )|\||>|```|<details|!\[|\*\*(Quick question|\d+\.)", block))


def _blocks(text: str) -> list[str]:
    """Paragraphs, but what is fenced, folded or a formula in one piece."""
    blocks: list[list[str]] = [[]]
    closing = ""
    for line in text.splitlines():
        if closing:
            blocks[-1].append(line)
            if closing in line:
                closing = ""
                blocks.append([])
            continue
        for opening, end in (("```", "```"), ("<details", "</details>"), ("$$", "$$")):
            if line.startswith(opening):
                blocks.append([line])
                closing = "" if end in line[len(opening):] else end
                if not closing:
                    blocks.append([])
                break
        else:
            if re.match(r"#{1,6} ", line):
                blocks += [[line], []]
            elif line.strip():
                blocks[-1].append(line)
            else:
                blocks.append([])
    return ["\n".join(block) for block in blocks if block]


def first_sentence(text: str) -> str:
    """Up to the first full stop, question or exclamation mark that ends a sentence outside formulas and code."""
    masked = re.sub(r"\$[^$]*\$|`[^`]*`|\([^()]*\)", lambda found: "x" * len(found[0]), text.replace("\n", " "))
    masked = re.sub(r"\b(e\.g|i\.e|etc|al|cf|vs)\.", lambda found: "x" * len(found[0]), masked)
    found = re.search(r"[.?!](?:\*{1,2}|\")?(?= |$)", masked)
    return text[:found.end()] if found else text


def as_html(slides: NotebookNode, modules: Path | None = None) -> str:
    """The page; modules: the folder of reveal.js and what it needs, else public copies are fetched when it is shown."""
    from nbconvert import SlidesExporter
    from traitlets.config import Config

    config = Config()
    config.TagRemovePreprocessor.enabled = True
    config.TagRemovePreprocessor.remove_input_tags = {HIDDEN}
    config.SlidesExporter.exclude_input_prompt = config.SlidesExporter.exclude_output_prompt = True
    config.SlidesExporter.reveal_scroll = True
    if modules:
        for option, file in SCRIPTS.items():
            address = (modules.resolve() / file).as_uri()
            config.SlidesExporter[option] = address + MATHJAX * (option == "mathjax_url")
    html, _ = SlidesExporter(config=config).from_notebook_node(slides)
    return html.replace("</head>", f"{STYLE}\n</head>", 1)


__all__ = ["as_html", "as_slides", "condensed", "configure", "count", "first_sentence", "main"]
