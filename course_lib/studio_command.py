"""`course studio FILE`: the studio of chapter 17, as an app in JupyterLab, or without anybody watching.

Without `-o` it opens JupyterLab on a small notebook that holds the app. With `-o DIR` it does what the options ask for,
in the order separate, tag, steer, translate, remix, and writes DIR/SONG: remix, stems, tags.csv, session.json. With
`--session` it does what a session says instead.
"""

import argparse
import json
from pathlib import Path

from course_lib.paths import data_dir, shown

NOTEBOOK = "studio.ipynb"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course studio`."""
    parser.add_argument("song", type=Path, metavar="FILE", help="an audio file of any rate and number of channels")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="do it at once and write DIR/SONG; without it the app opens in JupyterLab")
    parser.add_argument("--session", type=Path, metavar="FILE",
                        help="with -o: the steps of a session.json (or of the folder that holds it), on its song")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds of the song left out before")
    parser.add_argument("--seconds", type=float, metavar="S", help="how much of it (default: all)")
    parser.add_argument("--model", metavar="NAME", help="what separates, as in `course separate`")
    parser.add_argument("--shifts", type=int, default=0, metavar="N", help="as in `course separate` (default: 0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the shifts (default: 0)")
    parser.add_argument("--no-tags", action="store_true", help="don't tag song and stems")
    parser.add_argument("--steer", action="append", default=[], metavar="TAG[:STEM]",
                        help="split a stem (default: other) into a tag and the rest, by TagBox; may be repeated")
    parser.add_argument("--steps", type=int, default=40, metavar="N", help="of each steering (default: 40)")
    parser.add_argument("--translate", action="append", default=[], metavar="STEM:TO",
                        help="have a stem played by another instrument (chapter 16); may be repeated")
    parser.add_argument("--gain", action="append", default=[], metavar="STEM=DB",
                        help="of a stem as it is called at the end (vocals, vocals as flute); may be repeated")
    parser.add_argument("--mute", action="append", default=[], metavar="STEM", help="may be repeated")
    parser.add_argument("--solo", action="append", default=[], metavar="STEM", help="may be repeated")
    parser.add_argument("--transpose", action="append", default=[], metavar="STEM=SEMITONES", help="may be repeated")
    parser.add_argument("--tempo", type=float, default=1.0, metavar="X", help="0.5 to 2 times as fast (default: 1)")
    parser.add_argument("--format", choices=("wav", "flac"), default="wav", help="of the files (default: wav)")
    parser.add_argument("--bits", type=int, choices=(16, 24, 32), default=16, help="of a sample (default: 16)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")
    parser.add_argument("--no-browser", action="store_true", help="with the app: print its address only")
    parser.add_argument("--port", type=int, metavar="P", help="of the app's JupyterLab (default: a free one)")


def main(arguments: argparse.Namespace) -> int:
    """Open the app, or do what was asked for and write it."""
    from course_lib.data.audio_files import read_header

    read_header(arguments.song)                                      # is it a song at all
    return headless(arguments) if arguments.output else open_app(arguments)


def headless(arguments: argparse.Namespace) -> int:
    """Do all steps and export."""
    import torch

    from course_lib.studio import (
        Studio,
        check_replaceable,
        export,
        history_in_words,
        read_session,
        replay,
        tags_in_words,
    )

    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    folder = arguments.output / arguments.song.stem
    check_replaceable(folder, arguments.overwrite)
    if arguments.session:
        studio = replay(read_session(arguments.session), arguments.song)
    else:
        steps = asked_steps(arguments)
        studio = Studio.open(arguments.song, arguments.start, arguments.seconds)
        for name, settings in steps:
            studio.do(name, **settings)
    done = export(studio, folder, arguments.format, arguments.bits, arguments.overwrite)
    print(history_in_words(studio))
    if studio.tags:
        print(tags_in_words(studio))
    if done.clipped:
        print(f"{done.clipped} samples are beyond full scale and were clipped; --bits 32 keeps them")
    print(f"{len(done.files) + 1} files in {shown(folder)}")
    return 0


def asked_steps(arguments: argparse.Namespace) -> list[tuple[str, dict]]:
    """The options as steps with their settings, in order; ValueError for what can't be read."""
    separating = {"shifts": arguments.shifts, "seed": arguments.seed}
    steps = [("separate", separating | ({"model": arguments.model} if arguments.model else {}))]
    for text in arguments.steer:
        name, _, stem = text.partition(":")
        steps.append(("steer", {"name": name, "of": stem or "other", "steps": arguments.steps}))
    steps += [("translate", dict(zip(("stem", "to"), pair(text, ":", "--translate")))) for text in arguments.translate]
    if not arguments.no_tags:
        steps.append(("tag", {}))
    mix = {"gains": numbers(arguments.gain, "--gain"), "mutes": arguments.mute, "solos": arguments.solo,
           "transpose": numbers(arguments.transpose, "--transpose"), "tempo": arguments.tempo}
    if any(mix[name] for name in ("gains", "mutes", "solos", "transpose")) or arguments.tempo != 1:
        steps.append(("remix", mix))
    return steps


def pair(text: str, sign: str, option: str) -> tuple[str, str]:
    """The two words of A:B or A=B; ValueError for others."""
    first, found, second = text.partition(sign)
    if not (found and first and second):
        raise ValueError(f"{option} is {text!r}; expected two words with {sign!r} between them, such as "
                         f"vocals{sign}{'6' if sign == '=' else 'piano'}")
    return first, second


def numbers(texts: list[str], option: str) -> dict[str, float]:
    """STEM=NUMBER texts as a mapping; ValueError for others."""
    found = {}
    for text in texts:
        name, value = pair(text, "=", option)
        try:
            found[name] = float(value)
        except ValueError as error:
            raise ValueError(f"{option} is {text!r}; expected a number behind =") from error
    return found


# ----------------------------------------------------------------------------------------------------------- the app


def write_notebook(song: Path, folder: Path) -> Path:
    """A notebook with the app on a song, in a folder."""
    code = ["from course_lib.studio import StudioApp\n", f"app = StudioApp({str(song.resolve())!r})\n", "app.show()"]
    text = "# The studio\n\nRun the cell below (Shift+Enter). Chapter 17 explains everything here."
    cells = [{"cell_type": "markdown", "id": "about", "metadata": {}, "source": text},
             {"cell_type": "code", "id": "app", "metadata": {}, "execution_count": None, "outputs": [], "source": code}]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NOTEBOOK
    path.write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4,
                                "nbformat_minor": 5}, indent=1), encoding="utf8")
    return path


def open_app(arguments: argparse.Namespace) -> int:
    """Run JupyterLab on a notebook with the app, until it is stopped."""
    import importlib.util

    from course_lib.authoring.lab import jupyter_command, run

    if importlib.util.find_spec("jupyterlab") is None:
        raise ValueError("this Python has no JupyterLab; use `uv run course studio`, or add -o DIR to work without it")
    folder = data_dir() / "studio"
    notebook = write_notebook(arguments.song, folder)
    print("starting JupyterLab on the studio; run its cell; Ctrl-C stops it", flush=True)
    return run(jupyter_command(folder, notebook, arguments.port, not arguments.no_browser))


__all__ = ["asked_steps", "configure", "main", "write_notebook"]
