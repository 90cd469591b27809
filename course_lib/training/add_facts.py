"""`python -m course_lib.training.add_facts CARD.json rate=44100 stems=drums,bass n_fft=4096 ...`: facts for a card.

For cards that were written before they held `facts`. The weights, and so the card's SHA-256, stay as they are.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from course_lib.training.checkpoints import write_text
from course_lib.training.trained import Facts
from course_lib.training.weights import read_card


def add_facts(card: str | Path, **facts) -> dict:
    """Write facts into a card that lacks them, or has others, and return it. ValueError for unknown or wrong ones."""
    path = Path(card).with_suffix(".json")
    content = read_card(path)
    content["facts"] = Facts.of(facts, f"facts for {path.name}").as_dict()
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def main(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    if len(arguments) < 2 or not all("=" in pair for pair in arguments[1:]):
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    facts = {name: _value(name, text) for name, _, text in (pair.partition("=") for pair in arguments[1:])}
    print(json.dumps(add_facts(arguments[0], **facts)["facts"]))
    return 0


def _value(name: str, text: str) -> object:
    if name in ("stems", "labels"):
        return text.split(",")
    return float(text) if name == "segment" else int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
