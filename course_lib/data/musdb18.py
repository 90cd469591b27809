"""MUSDB18 (.stem.mp4, through musdb and ffmpeg), its free 7 s excerpts, and MUSDB18-HQ (WAV, through neither).

150 songs, 100 for training and 50 for testing; of the first, 14 are the validation songs that the field agreed on.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from course_lib.data.song_folders import existing_root, read_song_folder, song_folders, song_name
from course_lib.data.stem_readers import StemReader
from course_lib.data.tracks import STEMS, Track
from course_lib.data.without_ffmpeg import ffmpeg_is_there, import_musdb
from course_lib.paths import data_dir, shown

# The list of musdb (`validation_tracks` of its configs/mus.yaml), so that HQ needs no musdb; a test compares the two.
VALIDATION_SONGS = frozenset({
    "ANiMAL - Rockshow", "Actions - One Minute Smile", "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims", "Fergessen - Nos Palpitants", "James May - On The Line",
    "Johnny Lokke - Promises & Lies", "Leaf - Summerghost", "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave", "Skelpolu - Human Mistakes", "Traffic Experiment - Sirens",
    "Triviul - Angelsaint", "Young Griffo - Pennies",
})
STEM_FILE_SUFFIX = ".stem.mp4"


def hq_tracks(root: Path, split: str, count: int | None = None) -> list[Track]:
    """MUSDB18-HQ: ROOT/train and ROOT/test with a folder of five WAV files for each song.

    split: "train" (without the validation songs), "valid" or "test". Raises FileNotFoundError for a missing folder or
    file, ValueError for a broken one.
    """
    subset = _subset_folder(root, split)
    folders = [folder for folder in song_folders(subset) if _belongs(folder.name, split)]
    _not_empty(folders, subset, split, "a folder for each song with mixture.wav, drums.wav, ...")
    return [read_song_folder(folder, required=("mixture", *STEMS)) for folder in folders[:count]]


def stem_file_tracks(root: Path, split: str, count: int | None = None) -> list[Track]:
    """MUSDB18: ROOT/train and ROOT/test with a .stem.mp4 file for each song; needs musdb and ffmpeg.

    Every piece that is read starts ffmpeg once for each stem: good for evaluation, slow for training, for which there
    is MUSDB18-HQ. Errors as for `hq_tracks`, and FileNotFoundError where ffmpeg is missing.
    """
    _require_ffmpeg()
    subset = _subset_folder(root, split)
    names = [path.name.removesuffix(STEM_FILE_SUFFIX) for path in subset.glob("*" + STEM_FILE_SUFFIX)
             if not path.name.startswith(".")]
    _not_empty([name for name in names if _belongs(name, split)], subset, split,
               f'a {STEM_FILE_SUFFIX} file for each song (WAV folders are source "musdb18hq")')
    database = import_musdb().DB(root=str(root), subsets=subset.name, split=None if split == "test" else split)
    # musdb looks into every folder below, and takes what macOS and file servers left there for songs.
    songs = {song.path: song for song in database.tracks if song.name in names}
    return [_stem_file_track(song) for song in list(songs.values())[:count]]


def sample_tracks(root: str | Path | None, split: str, count: int | None = None, download: bool = False) -> list[Track]:
    """The free excerpts of 7 s of MUSDB18's songs; download=True fetches them (about 140 MB) where they are missing."""
    _require_ffmpeg()
    if download:
        folder = Path(root).expanduser() if root is not None else data_dir() / "downloads" / "musdb18-7s"
        try:
            import_musdb().DB(root=str(folder), download=True, subsets=[])
        except (OSError, zipfile.BadZipFile) as error:
            raise FileNotFoundError(f"{shown(folder)}: the excerpts of MUSDB18 are not there and could not be "
                                    f"downloaded ({error}). Connect to the internet, or pass their folder as "
                                    "root=") from error
    return stem_file_tracks(existing_root(root, "musdb18-7s"), split, count)


@dataclass(frozen=True)
class _FromStemFile:
    """One stream of a .stem.mp4 file. song: musdb's MultiTrack; stream: 0 mixture, 1 to 4 the stems."""

    song: Any
    stream: int

    def read_into(self, start: int, out: Tensor) -> None:
        frames, rate = out.shape[1], self.song.rate
        audio = self.song.load_audio(self.song.path, self.stream, start / rate, frames / rate)     # (time, channels)
        if len(audio) < frames:
            raise ValueError(f"{shown(self.song.path)}: truncated or damaged: stream {self.stream} gives {len(audio)} "
                             f"samples from {start} on, {frames} expected. Fetch it again")
        out.copy_(torch.from_numpy(audio[:frames].T))


def _stem_file_track(song: Any) -> Track:
    readers: dict[str, StemReader] = {stem: _FromStemFile(song, song.sources[stem].stem_id) for stem in STEMS}
    info = {"artist": song.artist, "title": song.title, "subset": song.subset}
    mixture = _FromStemFile(song, song.stem_id)
    return Track(song_name(Path(song.name)), song.rate, song.samples, 2, readers, mixture, info)


def _subset_folder(root: Path, split: str) -> Path:
    folder = root / ("test" if split == "test" else "train")
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder; expected MUSDB18's folders train and test in "
                                f"{shown(root)}")
    return folder


def _belongs(name: str, split: str) -> bool:
    return split == "test" or (song_name(Path(name)) in VALIDATION_SONGS) == (split == "valid")


def _not_empty(songs: Iterable, folder: Path, split: str, expected: str) -> None:
    if not songs:
        which = {"train": "besides the validation songs", "valid": "among the validation songs"}.get(split, "at all")
        raise FileNotFoundError(f"{shown(folder)}: no songs {which}; expected {expected}. Fetch the data set again")


def _require_ffmpeg() -> None:
    if not ffmpeg_is_there():
        raise FileNotFoundError("ffmpeg and ffprobe are not installed, and MUSDB18's .stem.mp4 files cannot be read "
                                'without them. Install ffmpeg, or use MUSDB18-HQ (source "musdb18hq"), which is WAV')
