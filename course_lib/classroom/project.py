"""`course project SUBMISSIONS -o GRADES`: what a machine can check of chapter 17's final project, and the rubric.

A submission is a folder: song, export (of the studio), scores.csv and report.md (`chapters/assignments/17_project.md`).
Every check gives all its points or none, and says why not. A session is words, not code: steps are looked up in the
studio's table, and only networks that come with the course are called. What people judge stands in project_rubric.csv.
"""

import argparse
import csv
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.paths import shown

SONG_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
SHORTEST, LONGEST = 10.0, 600.0                         # seconds of a song
MOST_STEPS, MOST_STEERING = 30, 500                    # of a session; steps of all its steerings together
NEAREST = -30.0                                        # dB: a replayed sound may differ by so much
FEWEST_SONGS, FEWEST_WORDS = 6, 300
HEADINGS = ("question", "method", "result", "listening", "failures", "sources")
COLUMNS = ["measure", "method", "song", "value"]
LEVELS = ("missing", "begun", "good", "excellent")     # worth 0, 1/3, 2/3 and all of a criterion's points


@dataclass(frozen=True)
class Check:
    """A check: its name, its points, what it asks for, and the function (submission) that raises where it fails."""

    name: str
    points: int
    asks: str
    of: Callable[["Submission"], None]


@dataclass(frozen=True)
class Outcome:
    """What a check gave: points got of `points`, and why not all, "" where all."""

    name: str
    points: int
    got: int
    why: str


@dataclass(frozen=True)
class Criterion:
    """A row of the rubric: what is judged, its points, and what each of LEVELS means."""

    criterion: str
    points: int
    levels: tuple[str, ...]


class Submission:
    """A folder that was handed in, and what the checks find in it."""

    def __init__(self, folder: Path, models=None):
        self.folder, self.models = Path(folder), models

    def song(self) -> Path:
        """The one file song.SUFFIX; ValueError for none or several."""
        found = [path for path in sorted(self.folder.glob("song.*")) if path.suffix.lower() in SONG_SUFFIXES]
        if len(found) != 1:
            raise ValueError(f"{len(found)} files are called song with {', '.join(SONG_SUFFIXES)}; expected one")
        return found[0]

    def session(self) -> dict:
        """The session of the export."""
        from course_lib.studio import read_session
        return read_session(self.folder / "export")


# -------------------------------------------------------------------------------------------------------- the checks


def check_layout(one: Submission) -> None:
    """All files are there."""
    one.song()
    missing = [name for name in ("export/session.json", "export/stems", "scores.csv", "report.md")
               if not (one.folder / name).exists()]
    if missing:
        raise ValueError(f"{missing[0]} is missing; expected song, export/, scores.csv and report.md")


def check_song_file(one: Submission) -> None:
    """The song is whole, of a sensible length, and not silent."""
    from course_lib.data.audio_files import read_blocks, read_header
    header = read_header(one.song())
    seconds = header.frames / header.rate
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"the song lasts {seconds:.1f} s; expected {SHORTEST:g} to {LONGEST:g} s")
    if not any(bool((block.abs() > 1e-3).any()) for block in read_blocks(header)):
        raise ValueError("the song is silent")


def check_session_file(one: Submission) -> None:
    """The session is one, of this song, and of work that a machine can do again."""
    from course_lib.studio import file_sha256
    from course_lib.training.trained import shipped_models
    session = one.session()
    if session["song"]["sha256"] != file_sha256(one.song()):
        raise ValueError(f"export/session.json speaks of another song than {one.song().name}")
    if len(session["steps"]) > MOST_STEPS:
        raise ValueError(f"the session has {len(session['steps'])} steps; expected at most {MOST_STEPS}")
    steering = sum(int(step["settings"].get("steps", 0)) for step in session["steps"] if step["name"] == "steer")
    if steering > MOST_STEERING:
        raise ValueError(f"its steerings have {steering} steps; expected at most {MOST_STEERING}")
    for step in session["steps"]:
        for kind in ("model", "tagger", "codec", "translator"):
            if (name := step["settings"].get(kind)) is not None and name not in shipped_models():
                raise ValueError(f"step {step['name']} calls {name!r}, which doesn't come with the course; hand in a "
                                 "session with networks that do, and show others in the report")


def check_files(one: Submission) -> None:
    """The export is what the session says, byte for byte, and nothing else."""
    from course_lib.data.audio_files import read_header
    from course_lib.studio import file_sha256
    session, folder = one.session(), one.folder / "export"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"session.json"}
    if there != set(session["files"]):
        odd = sorted(there ^ set(session["files"]))[0]
        raise ValueError(f"{odd} is {'not in the session' if odd in there else 'missing'}")
    for name, sha256 in session["files"].items():
        if file_sha256(folder / name) != sha256:
            raise ValueError(f"{name} isn't the file that the studio wrote: it was changed afterwards")
    stems = [name for name in there if name.startswith("stems/")]
    if len(stems) < 2 or not any(name.startswith("remix.") for name in there):
        raise ValueError(f"there are {len(stems)} stems; expected two or more, and a remix")
    about = session["song"]
    for name in stems:
        header = read_header(folder / name)
        if (header.rate, header.frames, header.channels) != (about["rate"], about["frames"], about["channels"]):
            raise ValueError(f"{name} has {header.frames} samples, {header.channels} channels, {header.rate} Hz; "
                             f"expected the song's {about['frames']}, {about['channels']}, {about['rate']}")


def check_replay(one: Submission) -> None:
    """The session, done again on the song, gives the sounds that were handed in."""
    from course_lib.studio import deviation, replay
    check_session_file(one)                            # nothing is replayed that isn't allowed
    far = deviation(replay(one.session(), one.song(), one.models), one.folder / "export")
    name = max(far, key=far.get)
    if far[name] > NEAREST:
        how = "is missing or has another shape" if far[name] == math.inf else f"differs by {far[name]:.0f} dB"
        raise ValueError(f"{name} {how} from what the session gives; expected below {NEAREST:g} dB")


def check_steps(one: Submission) -> None:
    """The chain has three links or more."""
    kinds = {step["name"] for step in one.session()["steps"]}
    if "separate" not in kinds or len(kinds) < 3:
        raise ValueError(f"the session has the steps {', '.join(sorted(kinds)) or 'none'}; expected separate and two "
                         "others among tag, steer, translate, remix")


def check_scores(one: Submission) -> None:
    """Two methods on the same six songs or more, for each measure, as finite numbers."""
    path = one.folder / "scores.csv"
    if not path.is_file():
        raise FileNotFoundError("scores.csv: no such file")
    with open(path, newline="", encoding="utf8") as file:
        table = csv.DictReader(file)
        if table.fieldnames != COLUMNS:
            raise ValueError(f"scores.csv has the columns {table.fieldnames}; expected {', '.join(COLUMNS)}")
        rows = list(table)
    found: dict[str, dict[str, set[str]]] = {}
    for number, row in enumerate(rows, 2):
        if not number_in(row["value"]):
            raise ValueError(f"scores.csv, line {number}: value is {row['value']!r}; expected a finite number")
        songs = found.setdefault(row["measure"], {}).setdefault(row["method"], set())
        if row["song"] in songs:
            raise ValueError(f"scores.csv, line {number}: {row['song']} by {row['method']} is there twice")
        songs.add(row["song"])
    if not found:
        raise ValueError("scores.csv has no rows")
    for measure, methods in found.items():
        songs = list(methods.values())
        if len(methods) < 2 or any(one != songs[0] for one in songs) or len(songs[0]) < FEWEST_SONGS:
            counts = ", ".join(f"{method}: {len(names)}" for method, names in methods.items())
            raise ValueError(f"{measure} has songs by method ({counts}); expected two methods on the same songs, at "
                             f"least {FEWEST_SONGS}")


def number_in(text: str | None) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(text))
    except (TypeError, ValueError):
        return False


def check_report(one: Submission) -> None:
    """The report has its headings, in whatever order, and enough words."""
    path = one.folder / "report.md"
    if not path.is_file():
        raise FileNotFoundError("report.md: no such file")
    text = path.read_text(encoding="utf8", errors="replace")
    headings = {line.lstrip("#").strip().lower() for line in text.splitlines() if line.startswith("#")}
    if missing := [name for name in HEADINGS if not any(name in heading for heading in headings)]:
        raise ValueError(f"report.md has no heading {missing[0].capitalize()!r}; expected {', '.join(HEADINGS)}")
    words = len(re.findall(r"\w+", text))
    if words < FEWEST_WORDS:
        raise ValueError(f"report.md has {words} words; expected at least {FEWEST_WORDS}")


CHECKS = (
    Check("layout", 2, "song, export, scores.csv, report.md", check_layout),
    Check("song", 2, f"one whole song of {SHORTEST:g} s to {LONGEST / 60:g} min, not silent", check_song_file),
    Check("session", 3, "a session of this song, by networks of the course", check_session_file),
    Check("files", 3, "the export as the studio wrote it, stems as long as the song", check_files),
    Check("replay", 6, f"the session gives these sounds again, within {NEAREST:g} dB", check_replay),
    Check("steps", 2, "separate, and two other kinds of steps", check_steps),
    Check("scores", 4, f"two methods on the same {FEWEST_SONGS} songs or more", check_scores),
    Check("report", 2, f"six headings, {FEWEST_WORDS} words or more", check_report),
)


def check_project(folder: str | Path, models=None) -> list[Outcome]:
    """Every check of CHECKS on a submission. models: see `course_lib.studio.Models`.

    A check that fails, whatever went wrong, gives no points and costs no other check. FileNotFoundError where the
    folder isn't there.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder")
    one, found = Submission(Path(folder), models), []
    for check in CHECKS:
        why = ""
        try:
            check.of(one)
        except Exception as error:                     # a stranger's files may break anything
            why = str(error).replace(str(folder), ".") or type(error).__name__
        found.append(Outcome(check.name, check.points, 0 if why else check.points, why))
    return found


# -------------------------------------------------------------------------------------------------------- the rubric


def read_rubric() -> list[Criterion]:
    """The criteria that people judge, with the meaning of each level."""
    path = Path(__file__).with_name("project_rubric.csv")
    with open(path, newline="", encoding="utf8") as file:
        return [Criterion(row["criterion"], int(row["points"]), tuple(row[level] for level in LEVELS))
                for row in csv.DictReader(file)]


def rubric_table() -> str:
    """The rubric as Markdown, with the points of each level, as the brief shows it."""
    lines = ["| criterion | " + " | ".join(LEVELS) + " |", "|---" * (1 + len(LEVELS)) + "|"]
    for row in read_rubric():
        cells = [f"{text} ({row.points * n // 3})" for n, text in enumerate(row.levels)]
        lines.append(f"| {row.criterion} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def checks_table() -> str:
    """The machine's checks as Markdown, as the brief shows them."""
    return "\n".join(["| check | points | asks for |", "|---|---|---|",
                      *(f"| {one.name} | {one.points} | {one.asks} |" for one in CHECKS)])


# ------------------------------------------------------------------------------------------------------- the command


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course project`."""
    parser.add_argument("submissions", type=Path, metavar="SUBMISSIONS", help="a folder with a folder a group")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="where scores.csv and feedback/GROUP.md go")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")


def main(arguments: argparse.Namespace) -> int:
    """Check every submission; 1 where one lost points, so that a script can tell."""
    import torch

    from course_lib.studio import Models
    if not arguments.submissions.is_dir():
        raise FileNotFoundError(f"{shown(arguments.submissions)}: no such folder")
    groups = sorted(path for path in arguments.submissions.iterdir()
                    if path.is_dir() and not path.name.startswith("."))
    if not groups:
        raise ValueError(f"{shown(arguments.submissions)} holds no folders; expected one a group")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    models, rows = Models(), []
    (arguments.output / "feedback").mkdir(parents=True, exist_ok=True)
    for group in groups:
        found = check_project(group, models)
        rows.append([group.name, *(one.got for one in found), sum(one.got for one in found)])
        (arguments.output / "feedback" / f"{group.name}.md").write_text(feedback(group.name, found), encoding="utf8")
        print(f"{shown(group.name)}: {rows[-1][-1]} of {sum(one.points for one in CHECKS)}", file=sys.stderr)
    with open(arguments.output / "scores.csv", "w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows([["group", *(one.name for one in CHECKS), "machine"], *rows])
    print(f"{len(groups)} submissions checked; {shown(arguments.output)} holds scores.csv and feedback/")
    return int(any(row[-1] < sum(one.points for one in CHECKS) for row in rows))


def feedback(name: str, found: Sequence[Outcome]) -> str:
    """What a group gets: the checks with reasons, and the rubric to be filled in by hand."""
    lines = [f"# {name}", "", f"Checked by the machine: {sum(one.got for one in found)} of "
             f"{sum(one.points for one in found)} points.", ""]
    lines += [f"- {one.name}: {one.got} of {one.points}" + (f". {one.why}" if one.why else "") for one in found]
    lines += ["", "Judged by people (mark one level in each row):", "", rubric_table()]
    return "\n".join(lines) + "\n"


__all__ = ["CHECKS", "Check", "Criterion", "Outcome", "check_project", "checks_table", "read_rubric", "rubric_table"]
