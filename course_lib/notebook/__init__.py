"""What chapters are made of: players, the stem mixer, plots, tables, progress bars and the setup call.

`from course_lib.notebook import listen, mix_stems, plot_spectrogram, setup, show, show_table`. What needs torch or
matplotlib is imported from its module when it is first used, so that importing this package costs nothing.
"""

import importlib

# `setup` is called like its module. Imported here, the name means the function whatever is imported later:
# the import system binds a submodule to its package only once, when it is loaded first.
from course_lib.notebook.setup import setup
from course_lib.progress import progress

EXPORTS = {
    "players": ["listen", "player_html"],
    "mixer": ["StemMixer", "mix_stems"],
    "figures": ["show"],
    "diagrams": ["Diagram", "draw_frames"],
    "sliders": ["explore"],
    "plots": ["STEM_COLOURS", "house_style", "plot_level", "plot_losses", "plot_masks", "plot_scores",
              "plot_spectrogram", "plot_waveform"],
    "tables": ["mean_interval", "median_interval", "paired_interval", "show_table"],
    "claims": ["Claim", "reproduced", "same_trend", "show_claims"],
}
MODULE_OF = {name: module for module, names in EXPORTS.items() for name in names}

__all__ = sorted([*MODULE_OF, "progress", "setup"])


def __getattr__(name: str):
    if name not in MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
