"""Data sets: the songs of any of them as tracks.

A chapter opens its songs with `open_tracks("band")`; the same chapter runs on MUSDB18-HQ, Slakh2100 or a reader's own
songs by changing that one line.
"""

import numbers
from collections.abc import Callable, Sequence
from pathlib import Path

from course_lib.data.audio_files import AUDIO_SUFFIXES
from course_lib.data.musdb18 import hq_tracks, sample_tracks, stem_file_tracks
from course_lib.data.slakh import slakh_tracks
from course_lib.data.song_folders import (
    audio_files_of,
    existing_root,
    read_own_song,
    read_song_folder,
    song_folders,
)
from course_lib.data.stem_readers import StemCache
from course_lib.data.tracks import Track
from course_lib.paths import shown

SPLITS = ("train", "valid", "test")


def open_tracks(source: str = "band", split: str = "test", *, root: str | Path | None = None, count: int | None = None,
                rate: int | None = None, mono: bool = False, cache_mb: float | None = None,
                **options) -> list[Track]:
    """The songs of a data set as tracks, in the set's own order (by name, the band's by seed).

    source:
    - "band": the course's own songs, rendered when first asked for (options: seconds=20.0, soundfont=None,
      world=None, progress=True, render_rate=44100; with split "further" any other songs by seeds=range(1000, ...)).
      world: "wide" for training on many timbres, "unheard" for sounds that no training saw.
    - "musdb18hq": MUSDB18-HQ, WAV. "musdb18": MUSDB18, .stem.mp4, read through the `musdb` package and ffmpeg.
      "musdb18-7s": its free excerpts of 7 s (option: download=False).
    - "slakh2100": Slakh2100, FLAC (option: cut_to_shortest=False).
    - "folder": your own: ROOT/SONG/{drums,bass,other,vocals,...,mixture}.wav (.flac, .ogg, .mp3) (options:
      other=None, missing="error", cut_to_shortest=False, channels=None; see `read_own_song`).
    split: "train", "valid" or "test", several joined by "+" ("train+valid"). For "folder" a sub-folder of that name,
    or all songs where there is none.
    root: where the data set lies; default: `downloads/SOURCE` in the course's data folder ("band": `band` there).
    count: only the first `count` songs. rate: resample to this rate in Hz (default: as recorded). mono: the mean of
    the channels (default: as recorded).
    cache_mb: keep up to so many megabytes of decoded stems in memory, in each process (default: none; 16-bit WAV is
    fast without).

    Raises ValueError for an unknown source or split or a broken file, FileNotFoundError for a missing folder or file.
    """
    if not isinstance(source, str) or source not in _SOURCES:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(_SOURCES)}")
    if count is not None and (not isinstance(count, numbers.Integral) or count < 1):
        raise ValueError(f"count is {count}; expected a positive number of songs (None: all)")
    tracks = [track for part in _split_names(split, source) for track in _SOURCES[source](part, root, count, **options)]
    if count is not None and len(tracks) < count:
        raise ValueError(f"count is {count}, but split {split!r} of {source} has only {len(tracks)} songs")
    tracks = tracks[:count]
    if mono:
        tracks = [track.mono() for track in tracks]
    if rate is not None:
        tracks = [track.resampled(rate) for track in tracks]
    if cache_mb is not None:
        cache = StemCache(cache_mb)
        tracks = [track.cached(cache) for track in tracks]
    return tracks


def _split_names(split: str, source: str) -> list[str]:
    if (source, split) == ("band", "further"):
        return [split]
    names = split.split("+") if isinstance(split, str) else [split]
    unknown = [name for name in names if name not in SPLITS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f'split is {split!r}; expected "train", "valid" or "test", or several joined by "+"')
    return names


def _band(split: str, root: str | Path | None, count: int | None, *, seconds: float = 20.0,
          render_rate: int = 44100, soundfont: str | Path | None = None, world: str | None = None,
          progress: bool = True, seeds: Sequence[int] | None = None) -> list[Track]:
    from course_lib.data.band import library  # on demand: other data sets do not need the generator
    if (split == "further") != (seeds is not None) or (seeds is not None and (
            len(seeds) == 0 or min(seeds) < library.FIRST_FREE_SEED)):
        raise ValueError(f"split is {split!r} and seeds is {seeds!r}; split \"further\" goes with seeds=, one or more "
                         f"numbers from {library.FIRST_FREE_SEED} on, the other splits have seeds of their own")
    if seeds is None:
        seeds = library.SPLITS[split]
    folders = library.render_songs(list(seeds)[:count], split, seconds, render_rate, soundfont, progress, root=root,
                                   world=world)
    return [read_song_folder(folder, other="whole") for folder in folders]


def _own_folder(split: str, root: str | Path | None, count: int | None, **options) -> list[Track]:
    if root is None:
        raise ValueError('source "folder" needs root=, the folder that holds one folder of stems for each song')
    root = existing_root(root, "folder")
    root = root / split if (root / split).is_dir() else root
    folders = [folder for folder in song_folders(root) if audio_files_of(folder)]
    if not folders:
        hint = f" (it holds audio files itself: pass its parent, {shown(root.parent)})" if audio_files_of(root) else ""
        raise FileNotFoundError(f"{shown(root)}: no songs in it{hint}; expected a folder for each song with its stems "
                                f"as {', '.join(AUDIO_SUFFIXES)} files")
    return [read_own_song(folder, **options) for folder in folders[:count]]


def _musdb18hq(split: str, root: str | Path | None, count: int | None) -> list[Track]:
    return hq_tracks(existing_root(root, "musdb18hq"), split, count)


def _musdb18(split: str, root: str | Path | None, count: int | None) -> list[Track]:
    return stem_file_tracks(existing_root(root, "musdb18"), split, count)


def _musdb18_7s(split: str, root: str | Path | None, count: int | None, *, download: bool = False) -> list[Track]:
    return sample_tracks(root, split, count, download)


def _slakh2100(split: str, root: str | Path | None, count: int | None, *, cut_to_shortest: bool = False) -> list[Track]:
    return slakh_tracks(existing_root(root, "slakh2100"), split, count, cut_to_shortest)


_SOURCES: dict[str, Callable[..., list[Track]]] = {
    "band": _band, "musdb18hq": _musdb18hq, "musdb18": _musdb18, "musdb18-7s": _musdb18_7s, "slakh2100": _slakh2100,
    "folder": _own_folder,
}
