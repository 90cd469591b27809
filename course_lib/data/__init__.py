"""Songs, recordings and training chunks: everything a chapter reads.

`open_tracks` gives songs with their stems from any data set, `recording` a piece of real music or speech, and
`RandomChunks` and `Remix` the chunks that training needs. The names are resolved on first use, so that rendering songs
in a process pool does not import torch in every process.
"""

import importlib

_MODULES = {
    "STEMS": "tracks", "SIX_STEMS": "tracks", "Track": "tracks", "open_tracks": "datasets",
    "RECORDINGS": "recordings", "recording": "recordings", "attribution": "recordings",
    "RandomChunks": "loaders", "Remix": "loaders", "batches": "loaders",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
