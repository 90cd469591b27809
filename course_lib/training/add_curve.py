"""`python -m course_lib.training.add_curve CARD.json VALIDATION.csv`: the curve of a training, for its card.

`course train` writes it where it keeps weights. This is for cards that were written before it did: those of the course,
from data/results/TOPIC/NAME_validation.csv. The weights, and so the SHA-256 of the card, stay as they are.
"""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from course_lib.training.checkpoints import write_text
from course_lib.training.weights import read_card


def curve_of(validations: Sequence[Mapping[str, object]], score: str | None = None) -> dict[str, object]:
    """A learning curve, as a card holds it: the name of the `score` and `points`, (step, score with four decimals).

    validations: rows with a step and scores by name; score: which one (default: the first). Without rows no points.
    ValueError where a row lacks the score.
    """
    score = score or next((name for row in validations[:1] for name in row if name != "step"), None)
    if wrong := next((row for row in validations if score not in row), None):
        raise ValueError(f"validation at step {wrong.get('step')} has no {score!r}; expected one of "
                         f"{', '.join(name for name in wrong if name != 'step')}")
    return {"score": score, "points": [[int(row["step"]), round(float(row[score]), 4)] for row in validations]}


def add_curve(card: str | Path, validation: str | Path) -> dict:
    """Write the curve of a validation log into a card, and return it. Of two rows of a step the later one counts.

    ValueError where the log has no rows, or goes on beyond the card's steps: then it is another training's.
    """
    path = Path(card).with_suffix(".json")
    content = read_card(path)
    with Path(validation).open(encoding="utf8", newline="") as file:
        rows = list({int(row["step"]): row for row in csv.DictReader(file)}.values())
    if not rows or int(rows[-1]["step"]) > content["steps"]:
        last = f"goes to step {rows[-1]['step']}" if rows else "has no rows"
        raise ValueError(f"{Path(validation).name} {last}; expected the validations of {path.name}, up to step "
                         f"{content['steps']}")
    content["curve"] = curve_of(rows, content.get("config", {}).get("training", {}).get("monitor"))
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return content


def main(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    if len(arguments) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    curve = add_curve(*arguments)["curve"]
    print(f"{curve['score']}: {len(curve['points'])} points, {curve['points'][0]} to {curve['points'][-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
