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

    `COURSE_DATA_DIR` where set, else `data/` of the checkout, else the user's cache folder.
    """
    root = repository_root()
    if chosen := os.environ.get("COURSE_DATA_DIR"):
        folder = Path(chosen).expanduser()
    elif root is not None:
        folder = root / "data"
    else:
        folder = Path(platformdirs.user_cache_dir("separation-course"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
