"""Slakh2100: 2100 songs rendered from MIDI by professional sample libraries, each instrument a FLAC file of its own.

ROOT/{train,validation,test}/TrackNNNNN/{mix.flac, metadata.yaml, stems/SNN.flac}. The instruments are summed into the
course's stems; nobody sings in Slakh2100, so `vocals` is silent.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import yaml

from course_lib.data.audio_files import AudioHeader, read_header
from course_lib.data.song_folders import common_format, song_folders, song_name
from course_lib.data.stem_readers import FromFile, Silent, StemReader, SumOf
from course_lib.data.tracks import PARTS_OF_OTHER, SIX_STEMS, Track
from course_lib.paths import shown

_SPLIT_FOLDERS = {"train": "train", "valid": "validation", "test": "test"}
_STEM_NAME = re.compile(r"[A-Za-z0-9_-]+")          # it becomes a file's name
# `inst_class` of metadata.yaml -> stem; every other class (strings, brass, organ, synth lead, ...) is `other`.
_STEM_OF_CLASS = {"Drums": "drums", "Bass": "bass", "Guitar": "guitar", "Piano": "piano"}


def slakh_tracks(root: Path, split: str, count: int | None = None, cut_to_shortest: bool = False) -> list[Track]:
    """The songs of one split as stereo tracks (the files are mono), six stems each.

    Raises FileNotFoundError for a missing folder, mix or metadata, ValueError for broken ones.
    """
    folder = root / _SPLIT_FOLDERS[split]
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder; expected Slakh2100's folders train, validation and "
                                f"test in {shown(root)}")
    songs = [song for song in song_folders(folder) if (song / "metadata.yaml").is_file()]
    if not songs:
        raise FileNotFoundError(f"{shown(folder)}: no songs in it; expected folders TrackNNNNN with mix.flac, "
                                "metadata.yaml and stems/")
    return [slakh_track(song, cut_to_shortest) for song in songs[:count]]


def slakh_track(folder: Path, cut_to_shortest: bool = False) -> Track:
    """One song of Slakh2100.

    info holds metadata.yaml and, found while reading it: `silent_stems` (no instrument plays there), `not_rendered`
    (instruments in the MIDI file that Slakh2100 has no audio of) and `missing_stems` (files that should be there and
    are not; they are named in a warning too, and the stem is without them).
    cut_to_shortest: take files of different lengths at the length of the shortest.
    """
    metadata = _metadata(folder / "metadata.yaml")
    instruments: Mapping[str, dict] = metadata["stems"]
    rendered = [key for key, instrument in instruments.items() if instrument.get("audio_rendered", True)]
    paths = {key: path for key in rendered if (path := _audio_file(folder / "stems", key)) is not None}
    missing = [key for key in rendered if key not in paths]
    if missing:
        warnings.warn(f"{shown(folder)}: no audio for {', '.join(missing)}, which metadata.yaml says was rendered; "
                      "their stems are without them", stacklevel=2)
    if (mix := _audio_file(folder, "mix")) is None:
        raise FileNotFoundError(f"{shown(folder)}: no mix.flac in it; fetch the song again")
    headers = {"mix": read_header(mix), **{key: read_header(path) for key, path in paths.items()}}
    rate, frames, channels = common_format(headers.values(), folder, cut_to_shortest, channels=2)
    stems = _stems({key: headers[key] for key in paths}, instruments)
    found = {"silent_stems": [stem for stem, reader in stems.items() if isinstance(reader, Silent)],
             "not_rendered": [key for key in instruments if key not in rendered], "missing_stems": missing}
    return Track(song_name(folder), rate, frames, channels, stems, FromFile(headers["mix"]), {**metadata, **found})


def _stems(headers: Mapping[str, AudioHeader], instruments: Mapping[str, dict]) -> dict[str, StemReader]:
    """The six stems as sums of the instruments' files; `other` includes guitar and piano, as everywhere."""
    groups: dict[str, list[StemReader]] = {stem: [] for stem in SIX_STEMS}
    for key, header in headers.items():
        stem = _stem_of(instruments[key])
        for group in {stem, "other"} if stem in PARTS_OF_OTHER else {stem}:
            groups[group].append(FromFile(header))
    return {stem: SumOf(readers) if readers else Silent() for stem, readers in groups.items()}


def _stem_of(instrument: Mapping) -> str:
    return "drums" if instrument.get("is_drum") else _STEM_OF_CLASS.get(instrument["inst_class"], "other")


def _audio_file(folder: Path, name: str) -> Path | None:
    """NAME.flac, or NAME.wav as in BabySlakh; None where there is neither."""
    return next((path for suffix in (".flac", ".wav") if (path := folder / (name + suffix)).is_file()), None)


def _metadata(path: Path) -> dict:
    """metadata.yaml, after a check of what is read from it here; ValueError naming the file where that is not right."""
    if not path.is_file():
        raise FileNotFoundError(f"{shown(path)}: no such file; expected the metadata of a Slakh2100 song")
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:           # ValueError: not UTF-8, or an odd date
        raise _no_metadata(path, f"{type(error).__name__}: {error}") from error
    instruments = metadata.get("stems") if isinstance(metadata, dict) else None
    if not isinstance(instruments, dict) or not all(isinstance(stem, dict) for stem in instruments.values()):
        raise _no_metadata(path, "no mapping `stems` of mappings")
    if odd := [key for key in instruments if not isinstance(key, str) or not _STEM_NAME.fullmatch(key)]:
        raise _no_metadata(path, f"stems named {_some(odd)}")
    for field, kind, default in (("inst_class", str, None), ("is_drum", bool, False), ("audio_rendered", bool, True)):
        odd = [key for key, stem in instruments.items() if not isinstance(stem.get(field, default), kind)]
        if odd:
            raise _no_metadata(path, f"no `{field}` for {_some(odd)} that is a {kind.__name__}")
    return metadata


def _no_metadata(path: Path, found: str) -> ValueError:
    return ValueError(f"{shown(path)}: not the metadata of a Slakh2100 song ({found}); expected a mapping `stems` of "
                      "S00, S01, ..., with an `inst_class` for each. Fetch the song again")


def _some(keys: list) -> str:
    """The first few of these keys in words."""
    return ", ".join(str(key) for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
