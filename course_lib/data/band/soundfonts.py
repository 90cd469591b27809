"""Where the soundfonts are: the default, and the held-out one of the second timbre world. Neither is ever copied."""

import functools
import hashlib
import importlib.util
import os
from pathlib import Path

FLUID_PLACES = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",                  # Debian, Ubuntu: fluid-soundfont-gm
    "/usr/share/soundfonts/FluidR3_GM.sf2",                  # Fedora: fluid-soundfont-gm; Arch: soundfont-fluid
    "/opt/homebrew/share/fluid-synth/sf2/FluidR3_GM.sf2",    # Homebrew on Apple silicon
    "/usr/local/share/fluid-synth/sf2/FluidR3_GM.sf2",       # Homebrew on Linux and Intel
)
FLUID_SHA256 = "74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0"


def default_soundfont() -> Path:
    """The path of TimGM6mb.sf2 (6 MB, General MIDI, GPL-2), which lies inside the installed pretty_midi package.

    pretty_midi itself is not imported. Raises FileNotFoundError where the package or the file is missing.
    """
    package = importlib.util.find_spec("pretty_midi")
    path = Path(package.origin).with_name("TimGM6mb.sf2") if package and package.origin else None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no TimGM6mb.sf2 in the package pretty_midi (looked for {path}); "
                                "run `pip install --force-reinstall pretty_midi` or pass the path of another soundfont")
    return path


def find_fluid_soundfont() -> Path:
    """FluidR3_GM.sf2, the soundfont of the held-out timbre world: the same notes on other recorded instruments.

    Looks at COURSE_SOUNDFONT, else where Debian, Fedora and Homebrew put it. The file must be that of Debian's package
    fluid-soundfont-gm 3.1 to the byte (SHA-256), so that everyone hears the same: ValueError where it is another one,
    FileNotFoundError where there is none.
    """
    chosen = os.environ.get("COURSE_SOUNDFONT")
    places = [Path(place).expanduser() for place in ([chosen] if chosen else FLUID_PLACES)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        looked = f"COURSE_SOUNDFONT is {chosen!r}" if chosen else f"looked for {', '.join(FLUID_PLACES)}"
        raise FileNotFoundError(f"FluidR3_GM.sf2 was not found ({looked}); install it (Debian, Ubuntu: `apt install "
                                "fluid-soundfont-gm`) or set COURSE_SOUNDFONT to the file")
    if (found := file_sha256(path)) != FLUID_SHA256:
        raise ValueError(f"{path} has SHA-256 {found}; expected FluidR3_GM.sf2 of Debian's fluid-soundfont-gm, "
                         f"{FLUID_SHA256}. Unset COURSE_SOUNDFONT or install that file; to play on any other soundfont "
                         "pass its path as `soundfont`")
    return path


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file in hex, computed once as long as the file stays the same."""
    status = os.stat(path)
    return _file_sha256(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _file_sha256(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
