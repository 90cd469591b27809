"""What README.md shows and others know: the map and the table of chapters from the catalogue and the chapters' own
words, the committed models from their cards, other people's weights from what the course knows of them.

A table stands between two marks, `<!-- NAME -->` and `<!-- /NAME -->`. `course sync` and `course run` write them; a
test compares.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from course_lib import catalogue
from course_lib.authoring.minutes import minutes_text
from course_lib.authoring.publish import current_address


def needs(root: Path) -> dict[str, list[str]]:
    """What each chapter that is there needs, by number; it must be there, too."""
    texts = {path.stem: path.with_suffix(".py") for path in catalogue.written(root)}
    return {catalogue.chapter_named(name).number: catalogue.needs_of(text.read_text(encoding="utf8"))
            for name, text in texts.items()}


def course_map(root: Path) -> str:
    """The chapters that are there as a diagram that GitHub and JupyterLab draw: an arrow from what is needed to what
    needs it, unless another arrow's chapter needs it already."""
    there = {path.stem for path in catalogue.written(root)}
    lines = ["```mermaid", "flowchart LR"]
    for place, (part, chapters) in enumerate(catalogue.PARTS.items()):
        if not (shown := [chapter for chapter in chapters if chapter.name in there]):
            continue
        lines.append(f'  subgraph part{place} ["{part}"]')
        lines += [f'    c{chapter.number}["{chapter.number} {chapter.title}"]' for chapter in shown]
        lines.append("  end")
    lines += [f"  c{need} --> c{number}" for number, direct in catalogue.direct_needs(needs(root)).items()
              for need in direct]
    return "\n".join([*lines, "```"])


def models_table(root: Path) -> str:
    """The networks that come with the course: what they are, how large, how long they learned, a score."""
    lines = ["| model | chapter | what it is | parameters | MB | minutes | on validation songs |", "|---" * 7 + "|"]
    by_module = {chapter.module: chapter for chapter in catalogue.CHAPTERS}
    rows = []
    for path in sorted((root / "data" / "checkpoints").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf8"))
        chapter = by_module[card["config"]["model"]["use"].partition(":")[0].removeprefix("course_lib.")]
        size = path.with_suffix(".safetensors").stat().st_size / 1e6
        rows.append((chapter.number, f"| `{path.stem}` | {chapter.number} | {card['what']} | {card['parameters']:,} | "
                     f"{size:.1f} | {card['minutes']:.0f} | {score_in_words(card['score'])} |"))
    return "\n".join([*lines, *(line for _, line in sorted(rows))])


SCORES = {"sdr": "SDR {:.1f} dB", "both": "SDRi {:.1f} dB", "snr": "SNR {:.1f} dB",
          "bits": "{:.2f} bits a symbol", "roc_auc": "ROC-AUC {:.2f}",
          "convergence_0": "spectral convergence {:.1f} dB at the finest level"}


def score_in_words(score: Mapping[str, float] | None) -> str:
    """The first score of a card that has words: 'SDR 6.1 dB'; '–' without."""
    return next((words.format(score[name]) for name, words in SCORES.items() if name in (score or {})), "–")


def chapters_table(root: Path) -> str:
    """The chapters that are there: what one needs and builds, minutes, badge."""
    table, address = root / "data" / "results" / "minutes.csv", current_address(root)
    lines = ["| chapter | needs | what you build | minutes on two CPU cores | Colab |", "|---" * 5 + "|"]
    needed = needs(root)
    for path in catalogue.written(root):
        chapter = catalogue.chapter_named(path.stem)
        file = f"chapters/{chapter.name}.ipynb"
        minutes = f"<!-- minutes {chapter.name} -->{minutes_text(chapter.name, table)}<!-- /minutes -->"
        lines.append(
            f"| [{chapter.number} {chapter.title}]({file}) | {', '.join(needed[chapter.number]) or '–'} | "
            f"{chapter.builds} | {minutes} | {address.badge(file)} |"
        )
    return "\n".join(lines)


def weights_table(root: Path) -> str:
    """Other people's weights that the course loads: what they may be used for, what they learned from, how good."""
    from course_lib.training.official_packages import weight_licences  # imports torch, which takes seconds

    lines = ["| weights | licence | trained on | SDR on MUSDB18, dB |", "|---|---|---|---|"]
    for row in weight_licences():
        lines.append(f"| {row['weights']} | {row['licence']} | {row['trained_on']} | {row['musdb_sdr_db'] or '–'} |")
    return "\n".join(lines)


TABLES = {"map": course_map, "chapters": chapters_table, "models": models_table, "weights": weights_table}


def with_tables(text: str, root: Path) -> str:
    """README.md's text with every table as it should be. ValueError where the marks of one are not there once."""
    for name, table in TABLES.items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
        if len(marked.findall(text)) != 1:
            raise ValueError(f"README.md needs one pair of marks <!-- {name} --> and <!-- /{name} -->, a line each")
        made = table(root)
        text = marked.sub(lambda match: f"{match[1]}{made}{match[2]}", text)      # noqa: B023
    return text


def write_readme(root: Path) -> None:
    """Bring the tables of the checkout's README.md up to date, where it has them."""
    path = root / "README.md"
    if not path.exists() or not all(f"<!-- {name} -->" in path.read_text(encoding="utf8") for name in TABLES):
        return
    old = path.read_text(encoding="utf8")
    if (new := with_tables(old, root)) != old:
        path.write_text(new, encoding="utf8", newline="\n")
