"""Songs as folders of audio files, one file a stem: the layout of MUSDB18-HQ, which the band and a reader's own songs
share. What other programs leave beside songs (hidden files, a server's thumbnails, a waste basket) is no song.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from course_lib.data.audio_files import AUDIO_SUFFIXES, AudioHeader, read_header
from course_lib.data.stem_readers import FromFile, Silent, StemReader, SumOf
from course_lib.data.tracks import PARTS_OF_OTHER, SIX_STEMS, STEMS, Track
from course_lib.paths import data_dir, shown

# Folders of file servers, archives and file systems, in lower case; hidden ones (.@__thumb, ...) are left out anyway.
NOT_SONGS = frozenset({"@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
                       "__macosx", "lost+found", "recycler", "system volume information"})


def read_own_song(folder: str | Path, *, other: str | None = None, missing: str = "error",
                  cut_to_shortest: bool = False, channels: int | None = None) -> Track:
    """A song of a reader's own: a folder with an audio file for each stem, named after it, and maybe `mixture`.

    other: "rest": `guitar` and `piano` are beside `other`, as a six-stem separation writes them, and the track's
    `other` is the sum of the three, as in all tracks; "whole": the file includes them, as the band writes it (None:
    "whole" where a song.json of the band lies beside it, else "rest").
    missing: without a mixture the sum of all stems is the mixture, for which drums, bass, other and vocals must all be
    there; with missing="silence" those that are not count as silent, as in a piece without vocals.
    Other arguments as for `read_song_folder`.
    """
    if other is None:
        other = "whole" if (Path(folder) / "song.json").is_file() else "rest"
    return read_song_folder(folder, other=other, missing=missing, cut_to_shortest=cut_to_shortest, channels=channels)


def read_song_folder(folder: str | Path, *, other: str = "whole", required: Sequence[str] = (), missing: str = "error",
                     cut_to_shortest: bool = False, channels: int | None = None) -> Track:
    """A folder in the layout of MUSDB18-HQ: `mixture.wav`, `drums.wav`, ..., and maybe `song.json`, which becomes info.

    other: "whole": the file includes guitar and piano (the band), "rest": it does not.
    required: files that must be there, beside what the mixture needs. missing: "error", or "silence" for stems that
    may be absent. cut_to_shortest: take files of different lengths at the length of the shortest.
    channels: 1 or 2 where mono files are to be spread over two channels (None: the most that a file has).
    """
    folder = Path(folder)
    if missing not in ("error", "silence") or other not in ("whole", "rest"):
        raise ValueError(f'missing is {missing!r} and other {other!r}; expected "error" or "silence", and "whole" '
                         'or "rest"')
    headers = {stem: read_header(path) for stem, path in audio_files_of(folder).items()}
    rate, frames, channels = common_format(headers.values(), folder, cut_to_shortest, channels)
    readers: dict[str, StemReader] = {stem: FromFile(header) for stem, header in headers.items()}
    absent = [stem for stem in STEMS if stem not in readers]
    if missing == "silence":
        readers.update({stem: Silent() for stem in absent})
    needed = [*required, *(() if "mixture" in readers else STEMS)]
    _require(folder, needed, readers)
    if "mixture" not in readers and (unknown := sorted(set(readers) - set(SIX_STEMS))):
        raise ValueError(f"{shown(folder)}: no mixture, and {', '.join(unknown)} beside {', '.join(STEMS)}: whether "
                         "the sum includes it cannot be known. Add mixture.wav, or move the file elsewhere")
    info = _song_info(folder)
    if absent:
        info["silent_stems" if missing == "silence" else "missing_stems"] = absent
    mixture = readers.pop("mixture", None)
    parts = [readers[part] for part in PARTS_OF_OTHER if part in readers]
    if other == "rest" and parts and "other" in readers:
        readers["other"] = SumOf([readers["other"], *parts])
    return Track(song_name(folder), rate, frames, channels, _in_stem_order(readers), mixture, info)


def _in_stem_order(readers: Mapping[str, StemReader]) -> dict[str, StemReader]:
    known = [stem for stem in SIX_STEMS if stem in readers]
    return {stem: readers[stem] for stem in [*known, *sorted(set(readers) - set(known))]}


def _require(folder: Path, needed: Sequence[str], present: Mapping[str, object]) -> None:
    absent = [name for name in dict.fromkeys(needed) if name not in present]
    if absent:
        found = shown(", ".join(sorted(present)))
        raise FileNotFoundError(f"{shown(folder)}: no file for {', '.join(absent)}; found {found}. Add "
                                f"{absent[0]}.wav" + ("" if "mixture" in present else ", or mixture.wav") +
                                ' (source "folder" also takes missing="silence")')


def _song_info(folder: Path) -> dict:
    path = folder / "song.json"
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)}: not valid JSON ({error}); render or fetch the song again") from error
    if not isinstance(info, dict):
        raise ValueError(f"{shown(path)}: holds a {type(info).__name__}; expected an object, {{...}}. Render or fetch "
                         "the song again")
    return info


def audio_files_of(folder: Path) -> dict[str, Path]:
    """The audio files of a folder by stem name (the file's name without suffix, in lower case), sorted.

    Raises ValueError where two files would be the same stem.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=_order):
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.name.startswith(".") or path.is_dir():
            continue
        if (stem := _normal(path.stem).lower()) in files:
            raise ValueError(f"{shown(folder)}: {shown(files[stem].name)} and {shown(path.name)} are both the stem "
                             f"{stem!r}; remove one")
        files[stem] = path
    return files


def song_folders(root: Path) -> list[Path]:
    """The folders in `root`, sorted by name, without hidden ones and those in NOT_SONGS.

    Raises FileNotFoundError for a link to a folder that isn't there: a song would else be lost without a word.
    """
    entries = [path for path in root.iterdir() if not path.name.startswith(".") and path.name.lower() not in NOT_SONGS]
    if broken := [path for path in entries if path.is_symlink() and not path.exists()]:
        raise FileNotFoundError(f"{shown(broken[0])}: a link to {shown(broken[0].readlink())}, which is not there; "
                                "mend or remove it")
    return sorted((path for path in entries if path.is_dir()), key=_order)


def song_name(folder: Path) -> str:
    """The name of the song in a folder: text in the composed normal form, whatever the file system keeps."""
    return shown(_normal(folder.name))


def _order(path: Path) -> str:
    """What files are sorted by: the same order on every system (Windows' own paths ignore case)."""
    return _normal(path.name)


def _normal(name: str) -> str:
    """A name with its accents composed: macOS stores e and an accent where others store one letter."""
    return unicodedata.normalize("NFC", name)


def existing_root(root: str | Path | None, source: str) -> Path:
    """The folder of a data set (default: `downloads/SOURCE` in the course's data folder); FileNotFoundError without."""
    try:
        folder = Path(root).expanduser() if root is not None else data_dir() / "downloads" / source
    except RuntimeError as error:                                     # ~somebody, who isn't known here
        raise FileNotFoundError(f"root is {shown(root)}: {error}; give the path in full") from error
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder; expected the data set {source!r} there. "
                                "Pass its place as root=, or put it there")
    return folder


def common_format(headers: Sequence[AudioHeader], folder: Path, cut_to_shortest: bool = False,
                  channels: int | None = None) -> tuple[int, int, int]:
    """(rate, frames, channels) of the files of one song; ValueError naming the file that differs from the first.

    Mono files may stand beside files of more channels (channels=None: as many as the widest file has).
    """
    headers = list(headers)
    if not headers:
        raise FileNotFoundError(f"{shown(folder)}: no audio files in it; expected {', '.join(AUDIO_SUFFIXES)}")
    first = headers[0]
    widest = channels or max(header.channels for header in headers)
    for header in headers:
        if header.rate != first.rate:
            raise ValueError(f"{shown(header.path)}: {header.rate} Hz, but {shown(first.path.name)} has {first.rate} "
                             "Hz; all files of a song must have one rate. Export them alike (nothing is resampled "
                             "unasked)")
        if header.frames != first.frames and not cut_to_shortest:
            raise ValueError(f"{shown(header.path)}: {header.frames} samples, but {shown(first.path.name)} has "
                             f"{first.frames}; all files of a song must be of one length. One may be truncated; if "
                             "they only differ at the end, pass cut_to_shortest=True")
        if header.channels not in (1, widest):
            raise ValueError(f"{shown(header.path)}: {header.channels} channels; expected 1 or {widest}")
    return first.rate, min(header.frames for header in headers), widest
