"""What README.md says: its tables are those in data/, its commands exist, its links lead somewhere."""

import json
import re
from pathlib import Path

from course_lib.authoring import readme
from course_lib.cli import COMMANDS
from course_lib.results import measured

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")


def band_table() -> str:
    """The realism table of the README from the measured one: ours / MUSDB18's per method and stem."""
    rows = measured("01_stft_and_masks/band_realism")
    stems = list(dict.fromkeys(row["stem"] for row in rows))
    lines = ["| SDR in dB, ours / MUSDB18 | " + " | ".join(stems) + " |", "|---" * (len(stems) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [
            f"{row['ours_db']} / {row['musdb18_db']}" if row["musdb18_db"] else row["ours_db"]
            for row in rows
            if row["method"] == method
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def test_band_table_is_the_measured_one():
    shown = re.search(r"<!-- band realism -->\n(.*?)\n<!-- /band realism -->", README, re.DOTALL)[1]
    assert shown == band_table(), (
        "README.md's table of the band is not data/results/01_stft_and_masks/band_realism.csv; it should be:\n"
        + band_table()
    )


def test_tables_are_what_course_sync_writes():
    assert README == readme.with_tables(README, ROOT), "README.md's tables are out of date: uv run course sync"


def test_every_command_is_described():
    assert {name for name in COMMANDS if f"`course {name}`" not in README} == set()


def test_links_lead_to_files():
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert len(targets) >= 3 and [target for target in targets if not (ROOT / target).exists()] == []


def test_the_map_has_every_chapter_and_no_arrow_too_many():
    shown = re.search(r"<!-- map -->\n(.*?)\n<!-- /map -->", README, re.DOTALL)[1]
    numbers = set(readme.needs(ROOT))
    assert set(re.findall(r"^    c(\w+)\[", shown, re.MULTILINE)) == numbers
    arrows = re.findall(r"c(\w+) --> c(\w+)", shown)
    assert len(arrows) == len(set(arrows)) >= len(numbers) - 1                      # all hang together
    reached: dict[str, set[str]] = {number: set() for number in numbers}
    for _ in numbers:
        for need, number in arrows:
            reached[number] |= {need, *reached[need]}
    assert all(set(needed) <= reached[number] for number, needed in readme.needs(ROOT).items())


def test_every_model_is_named_with_its_score():
    shown = re.search(r"<!-- models -->\n(.*?)\n<!-- /models -->", README, re.DOTALL)[1]
    cards = {path.stem: json.loads(path.read_text(encoding="utf8"))["score"]
             for path in (ROOT / "data" / "checkpoints").glob("*.json")}
    rows = re.findall(r"^\| `(\w+)`.*\| ([^|]+) \|$", shown, re.MULTILINE)
    assert {name for name, _ in rows} == set(cards)
    assert [name for name, score in rows if score == "–"] == [name for name, _ in rows if cards[name] is None]
    assert readme.score_in_words({"step": 3, "sdr": 1.26}) == "SDR 1.3 dB" and readme.score_in_words({}) == "–"
