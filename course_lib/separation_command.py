"""`course separate SONG... -o DIR`: the stems of songs on disk, by a network of the course.

What it does with one song is `course_lib.separating.separate_file` (chapter 9). Here: which songs, which model, and
that a song which can't be separated costs only itself.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from course_lib.data.audio_files import AUDIO_SUFFIXES, read_header
from course_lib.paths import shown

FORMATS = ("wav", "flac", "mp3")
FOLDER_SUFFIXES = (*AUDIO_SUFFIXES, ".aif", ".aiff", ".aifc")        # what is taken of a folder


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course separate`."""
    parser.add_argument("songs", nargs="+", type=Path, metavar="SONG",
                        help="audio files of any rate and number of channels (WAV, FLAC, OGG, MP3, AIFF), or folders, "
                             "of which every audio file is taken")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="where the stems go: DIR/SONG/STEM.wav")
    parser.add_argument("--model", metavar="NAME", help="a trained model that comes with the course, a path to its "
                                                        ".safetensors, or an official release, which is downloaded, "
                                                        "such as htdemucs (default: open_unmix_band)")
    parser.add_argument("--two-stems", metavar="STEM", help="only this stem and all the rest, for karaoke: vocals")
    parser.add_argument("--rest", choices=("minus", "add"), default="minus",
                        help="with --two-stems: the rest is the song less the stem, or the sum of the other stems")
    parser.add_argument("--format", choices=FORMATS, default="wav", help="of the stems (default: wav)")
    parser.add_argument("--bits", type=int, choices=(16, 24, 32), default=16,
                        help="of a sample; 32 is floating point, which never clips (wav only; default: 16)")
    parser.add_argument("--shifts", type=int, default=0, metavar="N",
                        help="average N randomly shifted passes: N times as slow, a little better (default: 0)")
    parser.add_argument("--overlap", type=float, default=0.25, metavar="X",
                        help="share of a chunk that the next one covers (default: 0.25)")
    parser.add_argument("--segment", type=float, metavar="S", help="seconds of a chunk (default: the model's)")
    parser.add_argument("--sum-to-mix", action="store_true", help="share what no stem got out, so that stems add up")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the shifts (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps (default: cpu)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace stems that are there already")
    existing.add_argument("--skip", action="store_true", help="pass over songs whose stems are all there already")


def main(arguments: argparse.Namespace) -> int:
    """Separate every song; 1 where one of them could not be, 0 otherwise."""
    songs, failed = songs_of(arguments.songs)
    for name, reason in failed.items():
        report(name, reason)
    if not songs:
        return 1
    return each_song(songs, failed, separator_of(arguments), arguments)


def each_song(songs: Sequence[Path], failed: dict[str, str], separator, arguments: argparse.Namespace,
              command: str = "separate", what: str = "stems") -> int:
    """Separate songs one by one and say what came of it; 1 where one of them could not be, 0 otherwise.

    failed: what is wrong with those that never got here. command, what: for messages.
    """
    done = skipped = 0
    taken: dict[str, Path] = {}
    for number, song in enumerate(songs, 1):
        try:
            other = taken.setdefault(song.stem.casefold(), song)
            if other is not song:
                raise ValueError(f"its stems would go where those of {shown(other)} go; rename it, or separate it into "
                                 "another folder")
            if one_song(separator, song, arguments, f"{number} of {len(songs)}: {shown(song.name)}"):
                done += 1
            else:
                skipped += 1
        except (ValueError, OSError) as error:
            failed[shown(song)] = str(error)
            report(shown(song), str(error), command)
    print(f"{done} separated" + (f", {skipped} were there already" if skipped else "")
          + (f", {len(failed)} failed" if failed else "") + f"; {what} are in {shown(arguments.output)}")
    return 1 if failed else 0


def report(name: str, reason: str, command: str = "separate") -> None:
    """Say on the error stream what went wrong with a song; its name once."""
    print(f"course {command}: {reason}" if name in reason else f"course {command}: {name}: {reason}", file=sys.stderr)


def songs_of(given: Sequence[Path]) -> tuple[list[Path], dict[str, str]]:
    """The songs that files and folders mean, each once and in order; and what is wrong with the others, by name."""
    songs: dict[Path, Path] = {}
    failed = {}
    for path in given:
        try:
            if path.is_dir():
                found = sorted(one for one in path.iterdir()
                               if one.suffix.lower() in FOLDER_SUFFIXES and not one.name.startswith("."))
                if not found:
                    failed[shown(path)] = f"{shown(path)}: no audio file in this folder ({', '.join(FOLDER_SUFFIXES)})"
            else:
                found = [path]
            for one in found:
                songs.setdefault(one.resolve(), one)
        except OSError as error:
            failed[shown(path)] = f"{shown(path)}: can't be read ({error.strerror or error})"
    return list(songs.values()), failed


def separator_of(arguments: argparse.Namespace):
    """The separator that the options describe; ValueError or FileNotFoundError for what there isn't."""
    import torch

    from course_lib.separating import DEFAULT_MODEL, check_format, load_separator, stem_paths

    check_format(arguments.format, arguments.bits, 44100, 2)
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    separator = load_separator(arguments.model or DEFAULT_MODEL, shifts=arguments.shifts, overlap=arguments.overlap,
                               segment=arguments.segment, seed=arguments.seed)
    stem_paths(Path("song"), Path(), separator.stems, only=arguments.two_stems)
    try:
        separator.model.to(arguments.device)
    except (RuntimeError, AssertionError) as error:                  # torch's words where a device is not there
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {arguments.device}: {reason}; expected cpu, or a device that is here") from error
    return separator


def one_song(separator, song: Path, arguments: argparse.Namespace, text: str) -> bool:
    """Separate a song unless its stems are there and may be passed over; whether it was separated."""
    from course_lib.separating import separate_file, stem_paths

    read_header(song)                                                # is it a song at all
    paths = stem_paths(song, arguments.output, separator.stems, arguments.format, arguments.two_stems)
    there = [path for path in paths.values() if path.exists()]
    if arguments.skip and len(there) == len(paths):
        return False
    if there and not arguments.overwrite and not arguments.skip:
        raise ValueError(f"{shown(there[0])} is there already; pass --overwrite to replace stems, or --skip to leave "
                         "songs that are done")
    found = separate_file(separator, song, arguments.output, format=arguments.format, bits=arguments.bits,
                          only=arguments.two_stems, method=arguments.rest, sum_to_mix=arguments.sum_to_mix, text=text)
    if found.clipped:
        print(f"{shown(song)}: {found.clipped} samples of its stems are beyond full scale and were clipped; --bits 32 "
              "keeps them")
    return True


__all__ = ["configure", "each_song", "main", "report", "songs_of"]
