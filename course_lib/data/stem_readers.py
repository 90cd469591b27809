"""Where the samples of a stem come from: a file, a sum of files, silence, memory, or any of these at another rate
or in mono.

Every reader has `read_into(start, out)`, which fills out, float32 (channels, frames), and touches no more of the disk
than it needs. Readers hold no open files, so tracks can be sent to the worker processes of a loader.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from course_lib.data.audio_files import FULL_SCALE_16_BIT, AudioHeader, read_audio
from course_lib.data.resampling import LOWPASS_FILTER_WIDTH, ROLLOFF, resample, steps


class StemReader(Protocol):
    """Anything that gives the samples of a stem."""

    def read_into(self, start: int, out: Tensor) -> None:
        """Write the samples from `start` on into out, float32 (channels, frames)."""


@dataclass(frozen=True)
class FromFile:
    """A stem in an audio file; a mono file goes to every channel that is asked for."""

    header: AudioHeader

    def read_into(self, start: int, out: Tensor) -> None:
        channels, frames = out.shape
        read_audio(self.header, start, frames, out=out[:self.header.channels])
        if self.header.channels < channels:
            out[1:] = out[0]


@dataclass(frozen=True)
class FromTensor:
    """A stem in memory: audio (channels, time)."""

    audio: Tensor

    def read_into(self, start: int, out: Tensor) -> None:
        out.copy_(self.audio[:, start:start + out.shape[1]])


@dataclass(frozen=True)
class Silent:
    """A stem in which nothing sounds."""

    def read_into(self, start: int, out: Tensor) -> None:
        out.zero_()


@dataclass(frozen=True)
class SumOf:
    """The sum of several stems, for example of all strings, winds and keyboards into `other`."""

    parts: Sequence[StemReader]

    def read_into(self, start: int, out: Tensor) -> None:
        self.parts[0].read_into(start, out)
        for part in self.parts[1:]:
            audio = torch.empty_like(out)
            part.read_into(start, audio)
            out += audio


@dataclass(frozen=True)
class Resampled:
    """A stem at another sampling rate, through `resample`.

    A piece equals the same piece of the whole stem resampled at once: it is computed from a few samples more on either
    side, starting where the two sampling grids meet.
    """

    stem: StemReader
    frames: int                   # of `stem`
    from_rate: int                # Hz
    to_rate: int                  # Hz

    def read_into(self, start: int, out: Tensor) -> None:
        channels, frames = out.shape
        step_in, step_out = steps(self.from_rate, self.to_rate)                  # the grids meet every step
        reach = math.ceil(LOWPASS_FILTER_WIDTH * step_in / (min(step_in, step_out) * ROLLOFF)) + 1
        first_step = max(0, start // step_out - math.ceil(reach / step_in))
        first_in = first_step * step_in
        last_in = min(self.frames, math.ceil((start + frames) * step_in / step_out) + reach)
        audio = torch.empty(channels, last_in - first_in)
        self.stem.read_into(first_in, audio)
        audio = resample(audio, step_in, step_out)
        skip = start - first_step * step_out
        out.copy_(audio[:, skip:skip + frames])


@dataclass(frozen=True)
class Mono:
    """The mean of a stem's channels."""

    stem: StemReader
    channels: int                 # of `stem`

    def read_into(self, start: int, out: Tensor) -> None:
        audio = torch.empty(self.channels, out.shape[1])
        self.stem.read_into(start, audio)
        torch.mean(audio, 0, keepdim=True, out=out)


class StemCache:
    """Whole stems kept in memory up to a limit, for stems that are slow to read (FLAC, MP3, sums, resampled ones).

    limit_mb: megabytes (1e6 bytes) in each process. Stems that consist of 16-bit values are kept as such, others as
    float32: what comes out is what went in. A full cache keeps what it has: training reads chunks in random order,
    where making room for each new song would decode a whole song for every chunk.
    """

    def __init__(self, limit_mb: float):
        if not 0 < limit_mb < math.inf:
            raise ValueError(f"the cache's limit is {limit_mb} MB; expected a positive number of megabytes")
        self.limit = int(limit_mb * 1e6)
        self._keys_given = 0
        self._empty()

    def _empty(self) -> None:
        self.bytes_held = 0
        self.full = False                     # from the first stem on that did not fit
        self._stems: dict[int, Tensor] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict:
        return {"limit": self.limit, "_keys_given": self._keys_given}          # a worker process fills its own

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._empty()

    def new_key(self) -> int:
        """A number under which one more stem may be kept."""
        self._keys_given += 1
        return self._keys_given

    def read_into(self, key: int, stem: StemReader, stem_frames: int, start: int, out: Tensor) -> None:
        """Samples of `stem` (stem_frames long) from `start` on, from memory where it is or will be kept under `key`."""
        kept = self._stems.get(key)
        if kept is None and not self.full:
            whole = torch.empty(len(out), stem_frames)
            stem.read_into(0, whole)
            kept = self._keep(key, whole)
        if kept is None:
            stem.read_into(start, out)
            return
        piece = kept[:, start:start + out.shape[1]]
        if piece.dtype == torch.int16:
            torch.mul(piece, 1 / FULL_SCALE_16_BIT, out=out)
        else:
            out.copy_(piece)

    def _keep(self, key: int, audio: Tensor) -> Tensor:
        scaled = audio * FULL_SCALE_16_BIT
        integers = scaled.clamp(-FULL_SCALE_16_BIT, FULL_SCALE_16_BIT - 1).to(torch.int16)
        audio = integers if torch.equal(integers.to(torch.float32), scaled) else audio
        size = audio.numel() * audio.element_size()
        with self._lock:
            if self.bytes_held + size > self.limit:
                self.full = True
            elif key not in self._stems:
                self._stems[key] = audio
                self.bytes_held += size
        return audio


@dataclass(frozen=True)
class Cached:
    """A stem that a cache may keep in memory."""

    stem: StemReader
    frames: int
    cache: StemCache
    key: int

    def read_into(self, start: int, out: Tensor) -> None:
        self.cache.read_into(self.key, self.stem, self.frames, start, out)
