"""`course lab`: render the first songs, then open JupyterLab on a chapter. What `course` does without a sub-command."""

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from course_lib import catalogue
from course_lib.data.band import library
from course_lib.paths import repository_root

FIRST_CHAPTER = "01"
FIRST_SONGS = 6            # of the test split: what chapter 1 plays and scores


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course lab`."""
    parser.add_argument("--chapter", default=FIRST_CHAPTER, metavar="NN", help="the chapter to open (default: 01)")
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    parser.add_argument("--songs", type=int, default=FIRST_SONGS, metavar="N",
                        help=f"render the first N test songs before (default: {FIRST_SONGS}; 0 for none)")
    parser.add_argument("--port", type=int, metavar="P", help="JupyterLab's port (default: 8888 or the next free one)")
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="a checkout of the course (default: this command's)")


def main(arguments: argparse.Namespace) -> int:
    """Render, then run JupyterLab until it is stopped; returns its exit status."""
    root = find_checkout(arguments.dir)
    there = [path.stem for path in catalogue.written(root)]
    notebook = root / "chapters" / f"{catalogue.match(arguments.chapter, there)}.ipynb"
    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError("this Python has no JupyterLab; use `uv run course`, or run `pip install -r requirements.txt`")
    if arguments.songs < 0:
        raise ValueError(f"--songs is {arguments.songs}; expected 0 or more")
    if arguments.songs:
        render_first_songs(arguments.songs)
    command = jupyter_command(root, notebook, arguments.port, not arguments.no_browser)
    print(f"starting JupyterLab on {notebook.relative_to(root)}; Ctrl-C stops it", flush=True)
    return run(command)


def find_checkout(chosen: Path | None = None) -> Path:
    """The course's checkout: the chosen folder, else this package's; FileNotFoundError where it has no chapters."""
    root = chosen.expanduser().resolve() if chosen else repository_root()
    if root is None:
        raise FileNotFoundError("course_lib was installed without its notebooks; clone the course's repository and run "
                                "`uv run course` in it, or name a checkout with --dir")
    if not (root / "chapters").is_dir():
        raise FileNotFoundError(f"{root} has no folder chapters/; --dir must name a checkout of the course")
    return root


def render_first_songs(count: int) -> None:
    """Have the first test songs ready, so that chapter 1 starts at once."""
    count = min(count, len(library.SPLITS["test"]))
    songs = library.band_songs("test", count)
    print(f"{count} songs of the band are ready in {songs[0].parent}", flush=True)


def jupyter_command(root: Path, notebook: Path, port: int | None, browser: bool) -> list[str]:
    """The command that runs JupyterLab of this Python in the checkout, opened on the notebook."""
    address = "/lab/tree/" + quote(notebook.relative_to(root).as_posix())
    options = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url={address}", "--ServerApp.answer_yes=True"]
    if os.name == "posix" and os.geteuid() == 0:
        options.append("--allow-root")         # in a container, where JupyterLab would refuse to start
    options += [] if browser else ["--no-browser"]
    options += [] if port is None else [f"--port={port}"]
    return [sys.executable, "-m", "jupyterlab", *options]


def run(command: list[str]) -> int:
    """Run a command to its end in place of this process (on Windows: beside it); Ctrl-C reaches it."""
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:        # the console sends it to JupyterLab as well, which then stops
            continue
