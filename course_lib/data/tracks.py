"""Tracks: songs with their stems, from any data set, in one shape.

A chapter opens its songs with `open_tracks("band")`; the same chapter runs on MUSDB18-HQ, Slakh2100 or a reader's own
songs by changing that one line. Stems are read from disk when they are asked for, and only the part that is asked for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from course_lib.data.audio_files import AUDIO_SUFFIXES, AudioHeader, read_header
from course_lib.data.stem_readers import (
    Cached, FromFile, FromTensor, Resampled, Silent, StemCache, StemReader, SumOf, resampled_frames,
)
from course_lib.paths import data_dir

STEMS = ("drums", "bass", "other", "vocals")
SIX_STEMS = (*STEMS, "guitar", "piano")
PARTS_OF_OTHER = ("guitar", "piano")          # in the four-stem split they belong to `other`


class Track:
    """A song, or an excerpt of one: its mixture and its stems by name.

    name: of the song. rate: sampling rate in Hz. frames: length in samples; seconds: the same in seconds.
    channels: of the mixture and of every stem. stems: the names there are. info: what the data set says of the song
    (the band: tags, beats, chords, notes, ... of `song.json`; times count from the start of the whole song).
    first_frame: where an excerpt begins in the song (0: at its start).

    All audio is float32 (channels, time) in [-1, 1], fresh from the reader: changing it does not change the track.
    `other` holds guitar and piano; `sources` takes them out where they are asked for as stems of their own.
    """

    def __init__(self, name: str, rate: int, frames: int, channels: int, stems: Mapping[str, StemReader],
                 mixture: StemReader | None = None, info: dict | None = None, first_frame: int = 0):
        self.name, self.rate, self.frames, self.channels = name, rate, frames, channels
        self.info = info if info is not None else {}
        self.first_frame = first_frame
        self._readers = dict(stems)
        self._mixture = mixture or SumOf([reader for stem, reader in stems.items()
                                          if stem not in PARTS_OF_OTHER or "other" not in stems])

    @classmethod
    def from_tensors(cls, name: str, rate: int, stems: Mapping[str, Tensor], mixture: Tensor | None = None,
                     info: dict | None = None) -> "Track":
        """A track of stems in memory, each (channels, time); mixture: their sum unless given.

        As everywhere, `other` includes a `guitar` or `piano` that is given beside it.
        """
        audio = {**stems, **({} if mixture is None else {"mixture": mixture})}
        shapes = {stem: tuple(signal.shape) for stem, signal in audio.items()}
        if not stems or len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
            raise ValueError(f"track {name!r}: stems of shapes {shapes}; expected one or more, all alike "
                             "(channels, time)")
        channels, frames = next(iter(shapes.values()))
        readers = {stem: FromTensor(signal.to(torch.float32)) for stem, signal in audio.items()}
        return cls(name, rate, frames, channels, readers, readers.pop("mixture", None), info)

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(self._readers)

    @property
    def mixture(self) -> Tensor:
        """The mixture, (channels, time)."""
        return self.read("mixture")

    def stem(self, name: str) -> Tensor:
        """The stem `name` (or "mixture"), (channels, time). `track["vocals"]` is the same as `track.stem("vocals")`."""
        return self.read(name)

    __getitem__ = stem

    def read(self, stem: str, start: int = 0, frames: int | None = None) -> Tensor:
        """Samples `start` to `start + frames` (None: to the end) of a stem or of "mixture", (channels, frames)."""
        audio = torch.empty(self.channels, self.frames - start if frames is None else frames)
        self.read_into(audio, stem, start)
        return audio

    def read_into(self, out: Tensor, stem: str, start: int = 0) -> None:
        """Write the samples of a stem from `start` on into out, float32 (channels, frames)."""
        channels, frames = out.shape
        if channels != self.channels or start < 0 or start + frames > self.frames:
            raise ValueError(f"track {self.name!r} has {self.channels} channels and {self.frames} samples; samples "
                             f"{start} to {start + frames} on {channels} channels are not among them")
        self._reader(stem).read_into(self.first_frame + start, out)

    def _reader(self, stem: str) -> StemReader:
        if stem == "mixture":
            return self._mixture
        if stem not in self._readers:
            raise ValueError(f"track {self.name!r} has no stem {stem!r}; it has {', '.join(self.stems) or 'none'} "
                             "(and mixture)")
        return self._readers[stem]

    def sources(self, stems: Sequence[str] = STEMS, start: int = 0, frames: int | None = None) -> Tensor:
        """Several stems at once, (sources, channels, time), in the order of `stems`.

        Where `guitar` or `piano` are asked for beside `other`, `other` is what is left without them (exactly, for
        16-bit files), so that no sound is in two sources.
        """
        frames = self.frames - start if frames is None else frames
        sources = torch.empty(len(stems), self.channels, frames)
        for source, stem in zip(sources, stems):
            self.read_into(source, stem, start)
        if "other" in stems:
            for part in PARTS_OF_OTHER:
                if part in stems:
                    sources[stems.index("other")] -= sources[stems.index(part)]
        return sources

    def excerpt(self, start: float, seconds: float | None = None) -> "Track":
        """The part of the track that begins `start` seconds in and lasts `seconds` (None: to the end).

        Nothing is read yet; later only this part is read from disk. Raises ValueError when it lies outside the track.
        """
        first = round(start * self.rate)
        frames = self.frames - first if seconds is None else round(seconds * self.rate)
        if first < 0 or frames < 1 or first + frames > self.frames:
            asked = f"from {start} s to " + ("the end" if seconds is None else f"{start + seconds} s")
            raise ValueError(f"track {self.name!r} lasts {self.seconds:.3f} s; an excerpt {asked} is not inside it")
        return Track(self.name, self.rate, frames, self.channels, self._readers, self._mixture, self.info,
                     self.first_frame + first)

    def resampled(self, rate: int) -> "Track":
        """The same track at another sampling rate in Hz; stems are resampled as they are read."""
        if rate == self.rate:
            return self
        if rate < 1:
            raise ValueError(f"rate is {rate}; expected a sampling rate in Hz, for example 16000")
        if self.first_frame:
            raise ValueError(f"track {self.name!r} is an excerpt; resample the whole track first, then take "
                             "the excerpt")
        return self._with_readers(lambda stem: Resampled(stem, self.frames, self.rate, rate), rate,
                                  resampled_frames(self.frames, self.rate, rate))

    def cached(self, cache: StemCache) -> "Track":
        """The same track, its stems kept in memory by `cache` once they have been read."""
        return self._with_readers(lambda stem: Cached(stem, self.first_frame + self.frames, cache, cache.new_key()),
                                  self.rate, self.frames)

    def _with_readers(self, wrap: Callable[[StemReader], StemReader], rate: int, frames: int) -> "Track":
        stems = {name: wrap(stem) for name, stem in self._readers.items()}
        return Track(self.name, rate, frames, self.channels, stems, wrap(self._mixture), self.info, self.first_frame)

    def __repr__(self) -> str:
        begins = f" from {self.first_frame / self.rate:.2f} s" if self.first_frame else ""
        return (f"Track({self.name!r}, {self.seconds:.2f} s{begins}, {self.rate} Hz, {self.channels} channels, "
                f"stems: {', '.join(self.stems) or 'none'})")


def open_tracks(source: str = "band", split: str = "test", *, root: str | Path | None = None, count: int | None = None,
                rate: int | None = None, cache_mb: float | None = None, **options) -> list[Track]:
    """The songs of a data set as tracks, in the set's own order (by name, the band's by seed).

    source:
    - "band": the course's own songs, rendered when first asked for (options: seconds=20.0, soundfont=None,
      progress=True, render_rate=44100; with split "further" any other songs by seeds=range(1000, ...)).
    - "musdb18hq": MUSDB18-HQ, WAV. "musdb18": MUSDB18, .stem.mp4, read through the `musdb` package and ffmpeg.
      "musdb18-7s": its free excerpts of 7 s (option: download=False).
    - "slakh2100": Slakh2100, FLAC (option: cut_to_shortest=False).
    - "folder": your own: ROOT/SONG/{drums,bass,other,vocals,...,mixture}.wav (.flac, .ogg, .mp3) (options:
      other=None, missing="error", cut_to_shortest=False, channels=None; see `read_own_song`).
    split: "train", "valid" or "test", several joined by "+" ("train+valid"). For "folder" a sub-folder of that name,
    or all songs where there is none.
    root: where the data set lies; default: `downloads/SOURCE` in the course's data folder ("band": `band` there).
    count: only the first `count` songs. rate: resample to this rate in Hz (default: as recorded).
    cache_mb: keep up to so many megabytes of decoded stems in memory, in each process (default: none; 16-bit WAV is
    fast without).

    Raises ValueError for an unknown source or split or a broken file, FileNotFoundError for a missing folder or file.
    """
    if source not in _SOURCES:
        raise ValueError(f"source is {source!r}; expected one of {', '.join(_SOURCES)}")
    if count is not None and count < 1:
        raise ValueError(f"count is {count}; expected a positive number of songs (None: all)")
    tracks = [track for part in _split_names(split, source) for track in _SOURCES[source](part, root, count, **options)]
    if count is not None and len(tracks) < count:
        raise ValueError(f"count is {count}, but split {split!r} of {source} has only {len(tracks)} songs")
    tracks = tracks[:count]
    if rate is not None:
        tracks = [track.resampled(rate) for track in tracks]
    if cache_mb is not None:
        cache = StemCache(cache_mb)
        tracks = [track.cached(cache) for track in tracks]
    return tracks


SPLITS = ("train", "valid", "test")


def _split_names(split: str, source: str) -> list[str]:
    if (source, split) == ("band", "further"):
        return [split]
    names = split.split("+")
    unknown = [name for name in names if name not in SPLITS]
    if unknown or len(set(names)) < len(names):
        raise ValueError(f'split is {split!r}; expected "train", "valid" or "test", or several joined by "+"')
    return names


def _band(split: str, root: str | Path | None, count: int | None, *, seconds: float = 20.0,
          render_rate: int = 44100, soundfont: str | Path | None = None, progress: bool = True,
          seeds: Sequence[int] | None = None) -> list[Track]:
    from course_lib.data.band import library      # on demand: other data sets do not need the generator
    if (split == "further") != (seeds is not None) or (seeds is not None and (
            len(seeds) == 0 or min(seeds) < library.FIRST_FREE_SEED)):
        raise ValueError(f"split is {split!r} and seeds is {seeds!r}; split \"further\" goes with seeds=, one or more "
                         f"numbers from {library.FIRST_FREE_SEED} on, the other splits have seeds of their own")
    if seeds is None:
        seeds = library.SPLITS[split]
    folders = library.render_songs(list(seeds)[:count], split, seconds, render_rate, soundfont, progress, root=root)
    return [read_song_folder(folder, other="whole") for folder in folders]


def _own_folder(split: str, root: str | Path | None, count: int | None, **options) -> list[Track]:
    if root is None:
        raise ValueError('source "folder" needs root=, the folder that holds one folder of stems for each song')
    root = existing_root(root, "folder")
    root = root / split if (root / split).is_dir() else root
    folders = [folder for folder in song_folders(root) if audio_files_of(folder)]
    if not folders:
        hint = f" (it holds audio files itself: pass its parent, {root.parent})" if audio_files_of(root) else ""
        raise FileNotFoundError(f"{root}: no songs in it{hint}; expected a folder for each song with its stems as "
                                f"{', '.join(AUDIO_SUFFIXES)} files")
    return [read_own_song(folder, **options) for folder in folders[:count]]


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
        raise ValueError(f"{folder}: no mixture, and {', '.join(unknown)} beside {', '.join(STEMS)}: whether the sum "
                         "includes it cannot be known. Add mixture.wav, or move the file elsewhere")
    info = _song_info(folder)
    if absent:
        info["silent_stems" if missing == "silence" else "missing_stems"] = absent
    mixture = readers.pop("mixture", None)
    parts = [readers[part] for part in PARTS_OF_OTHER if part in readers]
    if other == "rest" and parts and "other" in readers:
        readers["other"] = SumOf([readers["other"], *parts])
    return Track(folder.name, rate, frames, channels, _in_stem_order(readers), mixture, info)


def _in_stem_order(readers: Mapping[str, StemReader]) -> dict[str, StemReader]:
    known = [stem for stem in SIX_STEMS if stem in readers]
    return {stem: readers[stem] for stem in [*known, *sorted(set(readers) - set(known))]}


def _require(folder: Path, needed: Sequence[str], present: Mapping[str, object]) -> None:
    absent = [name for name in dict.fromkeys(needed) if name not in present]
    if absent:
        raise FileNotFoundError(f"{folder}: no file for {', '.join(absent)}; found {', '.join(sorted(present))}. Add "
                                f"{absent[0]}.wav" + ("" if "mixture" in present else ", or mixture.wav") +
                                ' (source "folder" also takes missing="silence")')


def _song_info(folder: Path) -> dict:
    path = folder / "song.json"
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); render or fetch the song again") from error


def audio_files_of(folder: Path) -> dict[str, Path]:
    """The audio files of a folder by stem name (the file's name without suffix, in lower case), sorted.

    Raises ValueError where two files would be the same stem.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in AUDIO_SUFFIXES or path.name.startswith("."):
            continue
        if (stem := path.stem.lower()) in files:
            raise ValueError(f"{folder}: {files[stem].name} and {path.name} are both the stem {stem!r}; remove one")
        files[stem] = path
    return files


def song_folders(root: Path) -> list[Path]:
    """The folders in `root`, hidden ones left out, sorted by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def existing_root(root: str | Path | None, source: str) -> Path:
    """The folder of a data set (default: `downloads/SOURCE` in the course's data folder); FileNotFoundError without."""
    folder = Path(root).expanduser() if root is not None else data_dir() / "downloads" / source
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected the data set {source!r} there. "
                                "Pass its place as root=, or put it there")
    return folder


def common_format(headers: Sequence[AudioHeader], folder: Path, cut_to_shortest: bool = False,
                  channels: int | None = None) -> tuple[int, int, int]:
    """(rate, frames, channels) of the files of one song; ValueError naming the file that differs from the first.

    Mono files may stand beside files of more channels (channels=None: as many as the widest file has).
    """
    headers = list(headers)
    if not headers:
        raise FileNotFoundError(f"{folder}: no audio files in it; expected {', '.join(AUDIO_SUFFIXES)}")
    first = headers[0]
    widest = channels or max(header.channels for header in headers)
    for header in headers:
        if header.rate != first.rate:
            raise ValueError(f"{header.path}: {header.rate} Hz, but {first.path.name} has {first.rate} Hz; all files "
                             "of a song must have one rate. Export them alike (nothing is resampled unasked)")
        if header.frames != first.frames and not cut_to_shortest:
            raise ValueError(f"{header.path}: {header.frames} samples, but {first.path.name} has {first.frames}; all "
                             "files of a song must be of one length. One may be truncated; if they only differ at the "
                             "end, pass cut_to_shortest=True")
        if header.channels not in (1, widest):
            raise ValueError(f"{header.path}: {header.channels} channels; expected 1 or {widest}")
    return first.rate, min(header.frames for header in headers), widest


def _musdb18hq(split: str, root: str | Path | None, count: int | None) -> list[Track]:
    from course_lib.data.musdb18 import hq_tracks
    return hq_tracks(existing_root(root, "musdb18hq"), split, count)


def _musdb18(split: str, root: str | Path | None, count: int | None) -> list[Track]:
    from course_lib.data.musdb18 import stem_file_tracks
    return stem_file_tracks(existing_root(root, "musdb18"), split, count)


def _musdb18_7s(split: str, root: str | Path | None, count: int | None, *, download: bool = False) -> list[Track]:
    from course_lib.data.musdb18 import sample_tracks
    return sample_tracks(root, split, count, download)


def _slakh2100(split: str, root: str | Path | None, count: int | None, *, cut_to_shortest: bool = False) -> list[Track]:
    from course_lib.data.slakh import slakh_tracks
    return slakh_tracks(existing_root(root, "slakh2100"), split, count, cut_to_shortest)


_SOURCES: dict[str, Callable[..., list[Track]]] = {
    "band": _band, "musdb18hq": _musdb18hq, "musdb18": _musdb18, "musdb18-7s": _musdb18_7s, "slakh2100": _slakh2100,
    "folder": _own_folder,
}
