"""The band: a seeded generator of multitrack songs, so that the course has data wherever it runs.

    composer (with styles, figures, harmony) -> Song        the notes
    sampler, voice, effects, mixer           -> stems       the sound
    writer                                   -> folders     in MUSDB18-HQ's layout, with song.json
    library                                  -> data set    splits, rendered on demand and kept

The names below are resolved on first use.
"""

import importlib

_MODULES = {
    "compose": "composer", "Song": "song", "Part": "song", "Note": "song", "Chord": "song", "mix": "mixer", "sung_syllables": "mixer",
    "write_song": "writer", "read_song": "writer", "band_songs": "library", "band_song": "library",
    "songs_by_seed": "library",
    "translate": "timbre", "translation_pair": "timbre", "find_fluid_soundfont": "soundfonts",
}
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
