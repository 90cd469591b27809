"""Tracks: songs with their stems, in one shape whatever data set they come from.

Stems are read from disk when they are asked for, and only the part that is asked for.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from course_lib.audio import check_audio
from course_lib.data.resampling import check_rate, resampled_frames, steps
from course_lib.data.stem_readers import Cached, FromTensor, Mono, Resampled, StemCache, StemReader, SumOf

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

        As everywhere, `other` includes a `guitar` or `piano` that is given beside it. ValueError for anything but
        finite floats, shapes that differ or look like (time, channels), and no samples.
        """
        audio = {**stems, **({} if mixture is None else {"mixture": mixture})}
        check_rate(rate)
        check_audio(**{f"stems[{stem!r}]": signal for stem, signal in audio.items()})
        channels, frames = _common_shape(name, audio)
        readers = {stem: FromTensor(_finite(signal, f"track {name!r}: stem {stem!r}"))
                   for stem, signal in audio.items()}
        return cls(name, int(rate), frames, channels, readers, readers.pop("mixture", None), info)

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
        audio = torch.empty(self.channels, self._length(start, frames))
        self.read_into(audio, stem, start)
        return audio

    def read_into(self, out: Tensor, stem: str, start: int = 0) -> None:
        """Write the samples of a stem from `start` on into out, float32 (channels, frames)."""
        channels, frames = out.shape
        self._length(start, frames)
        if channels != self.channels:
            raise ValueError(f"track {self.name!r} has {self.channels} channels; out has {channels}")
        self._reader(stem).read_into(self.first_frame + start, out)

    def _length(self, start: int, frames: int | None) -> int:
        """How many samples a piece has; ValueError unless it lies inside the track."""
        frames = self.frames - start if frames is None else frames
        if start < 0 or frames < 0 or start + frames > self.frames:
            raise ValueError(f"track {self.name!r} has {self.frames} samples; {start} to {start + frames} are not "
                             "among them")
        return frames

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
        sources = torch.empty(len(stems), self.channels, self._length(start, frames))
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
        if not math.isfinite(start) or not (seconds is None or math.isfinite(seconds)):
            raise ValueError(f"start is {start} and seconds {seconds}; expected finite numbers")
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
        check_rate(rate)
        rate = int(rate)
        steps(self.rate, rate)                       # a ValueError here rather than when a stem is read
        if self.first_frame:
            raise ValueError(f"track {self.name!r} is an excerpt; resample the whole track first, then take "
                             "the excerpt")
        return self._with_readers(lambda stem: Resampled(stem, self.frames, self.rate, rate), rate,
                                  resampled_frames(self.frames, self.rate, rate))

    def mono(self) -> "Track":
        """The same track with one channel, the mean of all."""
        if self.channels == 1:
            return self
        return self._with_readers(lambda stem: Mono(stem, self.channels), self.rate, self.frames, 1)

    def cached(self, cache: StemCache) -> "Track":
        """The same track, its stems kept in memory by `cache` once they have been read."""
        return self._with_readers(lambda stem: Cached(stem, self.first_frame + self.frames, cache, cache.new_key()),
                                  self.rate, self.frames)

    def _with_readers(self, wrap: Callable[[StemReader], StemReader], rate: int, frames: int,
                      channels: int | None = None) -> "Track":
        stems = {name: wrap(stem) for name, stem in self._readers.items()}
        return Track(self.name, rate, frames, channels or self.channels, stems, wrap(self._mixture), self.info, self.first_frame)

    def __repr__(self) -> str:
        begins = f" from {self.first_frame / self.rate:.2f} s" if self.first_frame else ""
        return (f"Track({self.name!r}, {self.seconds:.2f} s{begins}, {self.rate} Hz, {self.channels} channels, "
                f"stems: {', '.join(self.stems) or 'none'})")


def _common_shape(name: str, audio: Mapping[str, Tensor]) -> tuple[int, int]:
    """The (channels, time) of all signals of a track; ValueError where they differ or can't be that."""
    shapes = {stem: tuple(signal.shape) for stem, signal in audio.items()}
    alike = len(set(shapes.values())) == 1 and len(next(iter(shapes.values()))) == 2
    if not alike or 0 in next(iter(shapes.values())):
        raise ValueError(f"track {name!r}: stems of shapes {shapes}; expected one or more, all alike "
                         "(channels, time)")
    channels, frames = next(iter(shapes.values()))
    if channels > 2 and channels > frames:
        raise ValueError(f"track {name!r}: {channels} channels of {frames} samples; that looks like (time, channels), "
                         "and (channels, time) is expected: pass x.T")
    return channels, frames


def _finite(signal: Tensor, what: str) -> Tensor:
    """The signal in float32; ValueError where it holds NaN or infinity."""
    signal = signal.detach().to(torch.float32)
    if not torch.isfinite(signal).all():
        raise ValueError(f"{what} holds samples that are not finite numbers (NaN or infinity, in float32)")
    return signal
