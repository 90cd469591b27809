"""Training chunks: short pieces of songs, drawn at random but repeatably, and batches of them.

Chunk i is a pure function of the seed and i. It does not matter how many worker processes prepare the chunks, in which
order, or where an interrupted training goes on.
"""

import itertools
import math
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from course_lib.data.augmentation import Augmentation, Repitch
from course_lib.data.tracks import PARTS_OF_OTHER, STEMS, Track

Augment = Callable[[Tensor, Generator], Tensor]


class Place(NamedTuple):
    """Where a source of a chunk comes from, and how it is moved."""

    track: int                    # index into the tracks
    start: int                    # its first sample there
    semitones: int = 0            # the change of pitch
    tempo: float = 1.0            # 1.1: a tenth faster, so that a tenth more of the track is read


def chunk_generator(seed: int, *numbers: int) -> Generator:
    """A generator whose draws depend on the seed and these numbers alone; neighbouring numbers share nothing."""
    state = np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(state))


class RandomChunks(Dataset):
    """`length` chunks of `seconds` seconds from random places of random tracks: chunk i is (sources, channels, time).

    Every chunk takes a track (all are equally likely) and a place in it (all equally likely); the mixture is
    `chunk.sum(0)`. A chunk may be silent, in one source or in all: songs have such places too, and losses must cope.

    tracks: of one sampling rate and channel count, none shorter than a chunk. seed: >= 0. stems: the order of the
    sources. augment: called with (sources, generator) on every chunk, for example `Augmentation()`; None: as recorded.
    repitch: another pitch and tempo for some of the pieces, before `augment`. As much more of the song is read as a
    faster tempo takes; where a song is too short for that, the tempo is what it allows. None: as recorded.
    Raises ValueError for tracks that do not fit together or lack a stem.
    """

    def __init__(self, tracks: Sequence[Track], seconds: float, length: int, seed: int,
                 stems: Sequence[str] = STEMS, augment: Augment | None = None, repitch: Repitch | None = None):
        _check_tracks(tracks, seconds, stems)
        if length < 1 or seed < 0:
            raise ValueError(f"length is {length} and seed {seed}; expected at least one chunk and a seed >= 0")
        self.tracks, self.stems, self.augment, self.repitch = list(tracks), tuple(stems), augment, repitch
        self.rate, self.channels = tracks[0].rate, tracks[0].channels
        self.frames = round(seconds * self.rate)
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        return self.batch([index])[0]

    def batch(self, indices: Sequence[int]) -> Tensor:
        """Several chunks (batch, sources, channels, time), read straight into their places."""
        batch = _empty(len(indices), len(self.stems), self.channels, self.frames)
        for chunk, index in zip(batch, indices):
            self._fill(chunk, index)
        return batch

    def places(self, index: int) -> list[Place]:
        """Where chunk `index` takes each of its sources from, in the order of `stems`."""
        generator = self._generator(index)
        return [self._draw_place(_integer(len(self.tracks), generator), generator)] * len(self.stems)

    def _generator(self, index: int, purpose: int = 0) -> Generator:
        return chunk_generator(self.seed, purpose, index)

    def _draw_place(self, track: int, generator: Generator) -> Place:
        semitones, tempo = (0, 1.0) if self.repitch is None else self.repitch.draw(generator)
        if (semitones, tempo) != (0, 1.0):
            tempo = min(tempo, self.tracks[track].frames / (self.frames + 2))
        place = Place(track, 0, semitones, tempo)
        return place._replace(start=_integer(self.tracks[track].frames - self._frames_read(place) + 1, generator))

    def _frames_read(self, place: Place) -> int:
        """How many samples of the track a source takes: those of a chunk, or what becomes at least as many."""
        if not _is_moved(place):
            return self.frames
        return min(math.ceil((self.frames + 2) * place.tempo), self.tracks[place.track].frames)

    def _fill(self, chunk: Tensor, index: int) -> Tensor:
        """Write chunk `index` into `chunk` (sources, channels, time)."""
        if not 0 <= index < self.length:
            raise IndexError(f"chunk {index} asked; there are {self.length}, counted from 0")
        places = self.places(index)
        for place in dict.fromkeys(places):
            rows = [row for row, other in enumerate(places) if other == place]
            if _is_moved(place):                       # together, so that the sources of one song stay in step
                pieces = torch.empty(len(rows), self.channels, self._frames_read(place))
                self._read(pieces, rows, place)
                chunk[rows] = self.repitch.move(pieces, place.semitones, place.tempo)[..., :self.frames]
            else:
                self._read([chunk[row] for row in rows], rows, place)
        if self.augment is not None:
            augmented = self.augment(chunk, self._generator(index, purpose=1))
            if augmented is not chunk:                 # `Augmentation` works in place
                chunk.copy_(augmented)
        return chunk

    def _read(self, pieces: Sequence[Tensor] | Tensor, rows: list[int], place: Place) -> None:
        """Write the stems of these rows, from the start of a place on, into pieces (channels, time).

        In the six-stem reading `other` is without the guitar and piano that sounded with it.
        """
        track = self.tracks[place.track]
        for piece, stem in zip(pieces, (self.stems[row] for row in rows)):
            track.read_into(piece, stem, place.start)
            if stem == "other":
                for part in PARTS_OF_OTHER:
                    if part in self.stems:
                        piece -= track.read(part, place.start, piece.shape[-1])


class Remix(RandomChunks):
    """Chunks in which every source comes from another song, augmented: songs that were never played together.

    As in Demucs' training, chunks come in groups: a group takes as many songs, and from each one place; every chunk of
    the group then takes each of its sources from another of them, so that each source is used once.

    group: chunks in a group, at least as many as there are stems and at most as many as there are tracks.
    share: of the groups that are remixed; the chunks of the others are songs as they were played.
    augment: by default gain 0.25 to 1.25, polarity and channels flipped in half of the cases; None: only the remix.
    Other arguments, shapes and errors: `RandomChunks`.
    """

    def __init__(self, tracks: Sequence[Track], seconds: float, length: int, seed: int,
                 stems: Sequence[str] = STEMS, group: int = 4, augment: Augment | None = Augmentation(),
                 share: float = 1.0, repitch: Repitch | None = None):
        super().__init__(tracks, seconds, length, seed, stems, augment, repitch)
        if not len(stems) <= group <= len(tracks):
            raise ValueError(f"group is {group}; for {len(stems)} stems, each from another song, and {len(tracks)} "
                             f"tracks it must lie in {len(stems)}..{len(tracks)}. Pass more tracks or fewer stems")
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; expected the share of groups that are remixed, between 0 and 1")
        self.group, self.share = group, share

    def places(self, index: int) -> list[Place]:
        if self.share < 1 and float(torch.rand((), generator=self._generator(index // self.group, 2))) >= self.share:
            return super().places(index)
        generator = self._generator(index // self.group)
        songs = torch.randperm(len(self.tracks), generator=generator)[:self.group].tolist()
        group = [self._draw_place(song, generator) for song in songs]
        shifts = torch.randperm(self.group, generator=generator)[:len(self.stems)].tolist()
        return [group[(index + shift) % self.group] for shift in shifts]


def batches(dataset: RandomChunks, batch_size: int, workers: int = 0, start: int = 0, context: str | None = None,
            pin_memory: bool = False) -> "DataLoader | BatchesFromThreads":
    """The chunks in order, as batches (batch, sources, channels, time); an incomplete last batch is left out.

    workers: how many prepare batches ahead (0: none, batches are made when they are asked for).
    start: the first batch, so that an interrupted training goes on where it stopped: batch k is the same whatever the
    workers and wherever it starts.
    context: what workers are. "fork", "spawn" or "forkserver" processes (None: the platform's way), as
    torch.utils.data.DataLoader starts them, or "thread": three times faster for chunks as recorded, since no batch has
    to cross between processes, and fit for notebooks on every system; for augmentation written in Python, processes.
    pin_memory: page-locked batches, for faster copies to a GPU.
    Draws nothing from torch's global generator. Raises ValueError when there is no batch left to give.
    """
    contexts = ["thread", *multiprocessing.get_all_start_methods()]
    if workers < 0 or context not in (None, *contexts):
        raise ValueError(f"workers is {workers} and context {context!r}; expected workers >= 0 and, on this platform, "
                         f"one of {', '.join(contexts)}")
    order = BatchesInOrder(len(dataset), batch_size, start)
    if context == "thread" and workers:
        return BatchesFromThreads(dataset, order, workers, pin_memory)
    return DataLoader(_InBatches(dataset), batch_sampler=order, num_workers=workers, collate_fn=_as_it_is,
                      pin_memory=pin_memory, multiprocessing_context=context if workers else None,
                      generator=Generator().manual_seed(0))     # it only seeds the workers, and chunks do not ask them


class BatchesFromThreads:
    """Batches of a data set, prepared ahead by threads of this process: reading and arithmetic run outside the GIL."""

    def __init__(self, dataset: RandomChunks, order: "BatchesInOrder", workers: int, pin_memory: bool = False):
        self.dataset, self.order, self.workers, self.pin_memory = dataset, order, workers, pin_memory

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Tensor]:
        indices = iter(self.order)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="batches") as pool:
            ahead = deque(pool.submit(self._make, i) for i in itertools.islice(indices, 2 * self.workers))
            try:
                while ahead:
                    batch = ahead.popleft().result()
                    ahead.extend(pool.submit(self._make, i) for i in itertools.islice(indices, 1))
                    yield batch
            finally:                              # also where the caller stops early: prepare no more
                for waiting in ahead:
                    waiting.cancel()

    def _make(self, indices: list[int]) -> Tensor:
        batch = self.dataset.batch(indices)
        return batch.pin_memory() if self.pin_memory else batch


class BatchesInOrder(Sampler):
    """Indices 0, 1, 2, ... of a data set in whole batches, from batch `start` on."""

    drop_last = True              # what accelerate asks a batch sampler before it shares batches among processes

    def __init__(self, length: int, batch_size: int, start: int = 0):
        count = length // batch_size if batch_size > 0 else 0
        if not 0 <= start < count:
            raise ValueError(f"batch_size is {batch_size} and start {start}: {length} chunks make {count} whole "
                             "batches; expected at least one batch from start on")
        self.batch_size, self.start, self.count = batch_size, start, count

    def __len__(self) -> int:
        return self.count - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start, self.count):
            yield list(range(batch * self.batch_size, (batch + 1) * self.batch_size))


def _empty(*shape: int) -> Tensor:
    """An uninitialised float32 tensor, in shared memory where a worker process has to hand it on.

    A batch holds tens of megabytes, and the first touch of its memory pages costs more than reading the audio. NumPy
    asks the system for huge pages, which torch does not: five times faster on Linux.
    """
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, dtype=np.float32))
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))      # as torch's own collate function does
    return torch.empty(0).set_(storage, 0, shape)


class _InBatches(Dataset):
    """Has a DataLoader ask for whole batches, which saves copying every chunk into its batch."""

    def __init__(self, dataset: RandomChunks):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> Tensor:
        return self.dataset.batch(indices)


def _as_it_is(batch: Tensor) -> Tensor:
    """The batch is already put together."""
    return batch


def _is_moved(place: Place) -> bool:
    return (place.semitones, place.tempo) != (0, 1.0)


def _integer(high: int, generator: Generator) -> int:
    """Uniform in 0..high-1."""
    return int(torch.randint(high, (), generator=generator))


def _check_tracks(tracks: Sequence[Track], seconds: float, stems: Sequence[str]) -> None:
    if not tracks or not stems:
        raise ValueError(f"{len(tracks)} tracks and {len(stems)} stems given; expected at least one of each")
    if not math.isfinite(seconds):
        raise ValueError(f"seconds is {seconds}; expected a positive length of chunks")
    first = tracks[0]
    frames = round(seconds * first.rate)
    if frames < 1:
        raise ValueError(f"seconds is {seconds}; expected a positive length of chunks")
    for track in tracks:
        if (track.rate, track.channels) != (first.rate, first.channels):
            raise ValueError(f"track {track.name!r} has {track.rate} Hz and {track.channels} channels, {first.name!r} "
                             f"{first.rate} Hz and {first.channels}; open all with the same rate= and channels")
        if track.frames < frames:
            raise ValueError(f"track {track.name!r} lasts {track.seconds:.2f} s, less than a chunk of {seconds} s; "
                             "leave it out or ask for shorter chunks")
        if absent := [stem for stem in stems if stem not in track.stems]:
            raise ValueError(f"track {track.name!r} has no {', '.join(absent)}; it has {', '.join(track.stems)}")
