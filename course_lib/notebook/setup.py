"""The first code cell of a chapter in one call: profile, sizes, device, seeds, threads, style, and quiet warnings."""

import os
import random
import sys
import warnings
from collections.abc import Mapping
from types import SimpleNamespace

import course_lib

PROFILES = ("cpu", "gpu")

# Warnings that say nothing about the reader's code, each by its text: (message pattern, category).
KNOWN_WARNINGS = [
    (r".*enable_nested_tensor is True, but.*", UserWarning),              # torch: how it computes, not what
    (r".*`?torch\.nn\.utils\.weight_norm`? is deprecated.*", FutureWarning),    # official checkpoints name its tensors
    (r".*IProgress not found.*", Warning),                                # tqdm: the course's bars need no ipywidgets
    (r".*pkg_resources is deprecated.*", Warning),                        # pretty_midi on older installations
    (r".*implementation will be changed to use torchaudio.*torchcodec.*", UserWarning),
]


class ChapterSetup(SimpleNamespace):
    """What `setup` gives: `chapter`, `profile`, `device`, `seed`, `generator`, and the profile's sizes by name."""


def in_colab() -> bool:
    """Whether this is a Google Colab session."""
    return "google.colab" in sys.modules


def choose_profile() -> str:
    """COURSE_PROFILE where set, else "gpu" on Colab with a GPU, else "cpu". ValueError for another name."""
    import torch

    if chosen := os.environ.get("COURSE_PROFILE", "").strip():
        if chosen not in PROFILES:
            raise ValueError(f"COURSE_PROFILE is {chosen!r}; expected one of {', '.join(PROFILES)}")
        return chosen
    return "gpu" if in_colab() and torch.cuda.is_available() else "cpu"


def choose_sizes(profile: str, cpu: Mapping[str, object], gpu: Mapping[str, object] | None) -> dict[str, object]:
    """The sizes of a profile. Both tables must name the same sizes, and none may be called like what `setup` adds."""
    if gpu is not None and set(cpu) != set(gpu):
        raise ValueError("the profiles name different sizes: "
                         f"{sorted(set(cpu) ^ set(gpu))} is only in one of cpu and gpu")
    if taken := {"chapter", "profile", "device", "seed", "generator"} & set(cpu):
        raise ValueError(f"the sizes {sorted(taken)} have names that setup gives its own values; choose others")
    return dict(cpu if profile == "cpu" or gpu is None else gpu)


def seed_everything(seed: int) -> None:
    """Seed the global generators of random, NumPy and torch (dropout and initialisation have no other)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def set_threads(threads: int | None) -> None:
    """Let torch compute with `threads` threads; COURSE_THREADS, where set, wins. None leaves it as it is."""
    import torch

    if chosen := os.environ.get("COURSE_THREADS", "").strip():
        if not chosen.isdigit() or int(chosen) < 1:
            raise ValueError(f"COURSE_THREADS is {chosen!r}; expected the number of threads, 1 or more")
        threads = int(chosen)
    if threads is not None:
        torch.set_num_threads(threads)


def quiet_known_warnings() -> None:
    """Hide the warnings of KNOWN_WARNINGS, and no others."""
    for message, category in KNOWN_WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)


def use_house_style() -> None:
    """Apply the course's plot style to the session, and keep inline figures at their full, fixed size."""
    import matplotlib.pyplot as plt

    from course_lib.notebook.plots import HOUSE_STYLE
    from course_lib.progress import in_notebook

    plt.rcParams.update(HOUSE_STYLE)
    if in_notebook():
        from matplotlib_inline.config import InlineBackend

        InlineBackend.instance().print_figure_kwargs = {"bbox_inches": None}


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: '0.2.1rc1' -> (0, 2, 1)."""
    from packaging.version import Version

    return Version(version).release


def check_version(needed: str) -> None:
    """ImportError unless course_lib is of version `needed` or later; it says how to update."""
    if version_numbers(course_lib.__version__) < version_numbers(needed):
        remedy = ("run `%pip install -U` with the address in the cell above, then restart the session" if in_colab()
                  else "update the checkout and run `uv sync`")
        raise ImportError(f"this chapter needs course_lib {needed}, installed is {course_lib.__version__}: {remedy}")


def setup(chapter: str, *, cpu: Mapping[str, object], gpu: Mapping[str, object] | None = None, seed: int = 0,
          threads: int | None = None, needs: str = "0.1") -> ChapterSetup:
    """Prepare a chapter and return its settings. Prints one line, the same on every machine with that profile.

    chapter: the notebook's name, such as "01_stft_and_masks". cpu, gpu: the sizes and steps of each profile by name;
    they become attributes of the result (`cfg.songs`). Without gpu both profiles have the sizes of cpu.
    seed: for `generator` (a torch.Generator on the CPU) and the global generators. threads: torch's, unless
    COURSE_THREADS says otherwise. needs: the version of course_lib the chapter was written for.
    `device` is "cuda" in the profile gpu where there is one, else "cpu". Raises ValueError for an unknown profile, a
    bad COURSE_THREADS or tables that do not fit, ImportError for an older course_lib.
    """
    import torch

    check_version(needs)
    profile = choose_profile()
    sizes = choose_sizes(profile, cpu, gpu)
    device = torch.device("cuda" if profile == "gpu" and torch.cuda.is_available() else "cpu")
    set_threads(threads)
    seed_everything(seed)
    quiet_known_warnings()
    use_house_style()
    slow = " without a GPU: expect long runs" if profile == "gpu" and device.type == "cpu" else ""
    print(f"chapter {chapter}, profile {profile}{slow}")
    return ChapterSetup(chapter=chapter, profile=profile, device=device, seed=seed,
                        generator=torch.Generator().manual_seed(seed), **sizes)
