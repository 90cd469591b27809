"""Songs as small experiments take them: mono, at a lower rate, the same first seconds of each, kept as one array."""

from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor

from course_lib.data.resampling import resample
from course_lib.data.tracks import STEMS, Track


def mono_tracks(opened: Callable[[], Sequence[Track]], rate: int, seconds: float, file: Path | None = None,
                stems: Sequence[str] = STEMS) -> list[Track]:
    """The songs that `opened` gives as mono tracks of the stems at `rate` Hz, their first `seconds`, equally long.

    file: a .npy that keeps them, from where they are mapped, not read, into memory, their names in a .txt beside it;
    where both are there already nothing is opened. None: nothing is kept. ValueError where there are no songs.
    """
    if file is None:
        names, audio = _names_and_audio(opened(), rate, seconds, stems)
    else:
        names_file = file.with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock")):  # the runs of an experiment may be several processes
            if not (file.is_file() and names_file.is_file()):
                names, audio = _names_and_audio(opened(), rate, seconds, stems)
                unfinished = file.with_suffix(".part.npy")
                np.save(unfinished, audio.numpy())
                names_file.write_text("\n".join(names) + "\n", encoding="utf8")
                unfinished.replace(file)
        names = names_file.read_text(encoding="utf8").splitlines()
        audio = torch.from_numpy(np.load(file, mmap_mode="c"))
    return [Track.from_tensors(name, rate, dict(zip(stems, song.unsqueeze(1)))) for name, song in zip(names, audio)]


def _names_and_audio(tracks: Sequence[Track], rate: int, seconds: float,
                     stems: Sequence[str]) -> tuple[list[str], Tensor]:
    tracks = list(tracks)
    if not tracks:
        raise ValueError("there are no songs to make mono copies of; expected at least one")
    return [track.name for track in tracks], _mono_audio(tracks, rate, seconds, stems)


def _mono_audio(tracks: Sequence[Track], rate: int, seconds: float, stems: Sequence[str]) -> Tensor:
    """(song, source, time) of songs, all as long as the shortest."""
    songs = []
    for track in tracks:
        audio = track.excerpt(0.0, min(seconds, track.seconds)).sources(stems).mean(1)         # (source, time)
        songs.append(resample(audio, track.rate, rate))
    shortest = min(song.shape[-1] for song in songs)
    return torch.stack([song[:, :shortest] for song in songs])


__all__ = ["mono_tracks"]
