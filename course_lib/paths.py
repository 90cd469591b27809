"""Where the course keeps its files: the checkout it runs from, and the folder for what it generates or downloads."""

import os
from pathlib import Path

import platformdirs


def repository_root() -> Path | None:
    """The course's checkout that holds this package, or None where the package was installed without one (Colab)."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "chapters").is_dir() else None


def data_dir() -> Path:
    """The folder for shipped and generated data, made if it is missing.

    `COURSE_DATA_DIR` where set (see `folder_from_environment`), else `data/` of the checkout, else the user's cache
    folder. ValueError where that can't be made a folder.
    """
    root = repository_root()
    chosen = folder_from_environment("COURSE_DATA_DIR")
    folder = chosen or (Path(platformdirs.user_cache_dir("separation-course")) if root is None else root / "data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        whose = "COURSE_DATA_DIR" if chosen else "the course's data folder"
        raise ValueError(f"{whose} is {shown(folder)}, which can't be made a folder ({error.strerror or error}); set "
                         "COURSE_DATA_DIR to one that you may write in") from error
    return folder


def folder_from_environment(variable: str) -> Path | None:
    """The folder that an environment variable names, or None where it isn't set (or empty).

    A relative path counts from the checkout (without one, from the home folder), not from the working folder: the
    `course` command and a chapter's kernel have two of those, and would keep two folders.
    """
    chosen = os.environ.get(variable, "").strip()
    if not chosen:
        return None
    try:
        return (repository_root() or Path.home()) / Path(chosen).expanduser()
    except RuntimeError as error:                                     # ~somebody, who isn't known here
        raise ValueError(f"{variable} is {chosen!r}: {error}; give the path in full") from error


def shown(path: str | os.PathLike) -> str:
    """A path for messages and tables, in one line that can be printed and stored anywhere.

    Names may be any bytes: what isn't text, or isn't printable, comes as \\udce9, \\n, ...
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fspath(path))


def for_libsndfile(path: str | os.PathLike) -> str | bytes:
    """A path as soundfile takes it, whatever its name: as bytes, but for Windows, where names are text."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)
