"""The `course` command: one sub-command a module, imported only when it is called."""

import argparse
import importlib
import sys

from course_lib import __version__

# name -> (module with configure(parser) and main(arguments), what it does)
COMMANDS = {
    "lab": ("course_lib.authoring.lab", "render the first songs and open JupyterLab on chapter 1 (the default)"),
    "band": ("course_lib.data.band.command", "render songs of the band, show where they are, or delete them"),
    "sync": (
        "course_lib.authoring.sync",
        "bring text and notebook of chapters into step and export the library, executing nothing",
    ),
    "run": ("course_lib.authoring.run", "execute chapters without a browser and store their outputs"),
    "test": (
        "course_lib.authoring.chapter_tests",
        "run the tests of one chapter: notebook, module, experiment, assignment",
    ),
    "train": ("course_lib.training.command", "train a model that a file describes; a run that was stopped goes on"),
    "experiment": (
        "course_lib.experiments.command",
        "run an experiment of a chapter in full; what is done is not repeated",
    ),
    "separate": ("course_lib.separation_command", "separate songs on disk into their stems"),
    "generate": ("course_lib.generation_command", "make new music with the course's priors: labels, lyrics, a prime"),
    "steer": ("course_lib.steering_command", "take one instrument out of a song by steering a codec with a tagger"),
    "ask": ("course_lib.ask_command", "take any one sound out of songs, asked by its name or by an example of it"),
    "translate": ("course_lib.translation_command", "play a melody on another instrument"),
    "studio": (
        "course_lib.studio_command",
        "separate, tag, steer, translate, remix and export a song, in an app or at once",
    ),
    "release": ("course_lib.classroom.release", "make the student version of an assignment"),
    "assignments": (
        "course_lib.classroom.overview",
        "write the table of assignments in their README from the notebooks",
    ),
    "grade": (
        "course_lib.classroom.grade",
        "grade the submissions of a class: scores, feedback, what looked tampered with",
    ),
    "slides": ("course_lib.authoring.slides", "write slides of a chapter, for teachers"),
    "project": (
        "course_lib.classroom.project",
        "check submissions of the final project: whole, unchanged, made again",
    ),
    "pins": (
        "course_lib.authoring.pins",
        "write the version of every package into pyproject.toml and requirements.txt",
    ),
    "publish": ("course_lib.authoring.publish", "write the repository's address into every badge and install cell"),
}


def build_parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """The parser of `course`; only the sub-command `wanted` gets its own options (the others stay unimported)."""
    parser = argparse.ArgumentParser(
        prog="course", description="Music source separation and translation, from nothing."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:
            importlib.import_module(module).configure(command)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `course` with these arguments (default: the command line's) and return its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv) or ["lab"]
    wanted = next((word for word in argv if word in COMMANDS), None)
    arguments = build_parser(wanted).parse_args(argv)
    try:
        return importlib.import_module(COMMANDS[arguments.command][0]).main(arguments) or 0
    except (ValueError, OSError) as error:          # what a user can put right: said in one line, without a traceback
        print(f"course {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ncourse: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
