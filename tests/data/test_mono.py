"""Mono copies of songs: the mean of the channels at another rate, kept in a file that spares opening them again."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from course_lib.data import STEMS, Track
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample


def songs(lengths=(4000, 3600)):
    generator = torch.Generator().manual_seed(0)
    return [Track.from_tensors(f"song {n}", 8000, {stem: torch.randn(2, length, generator=generator) for stem in STEMS})
            for n, length in enumerate(lengths)]


def test_mono_copies_come_back_from_their_file(tmp_path):
    file = tmp_path / "more" / "songs.npy"
    made = mono_tracks(songs, 4000, 0.4, file)
    assert [(track.name, track.rate, track.channels, track.frames) for track in made] == [
        ("song 0", 4000, 1, 1600), ("song 1", 4000, 1, 1600)]
    expected = resample(songs()[0].sources(STEMS, 0, 3200).mean(1), 8000, 4000)
    assert torch.allclose(made[0].sources(STEMS)[:, 0], expected, atol=1e-6)

    def never():
        raise AssertionError("opened again")
    kept = mono_tracks(never, 4000, 0.4, file)
    assert [track.name for track in kept] == ["song 0", "song 1"]
    assert torch.equal(kept[1].sources(STEMS), made[1].sources(STEMS))


def test_several_at_once_make_one_file(tmp_path):
    """Two runs of an experiment that begin together: the second waits for the first's file."""
    opened = []

    def slowly():
        opened.append(time.monotonic())
        time.sleep(0.3)
        return songs()
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: mono_tracks(slowly, 4000, 0.4, tmp_path / "songs.npy"), range(3)))
    assert len(opened) == 1
    assert all(torch.equal(tracks[0].sources(STEMS), made[0][0].sources(STEMS)) for tracks in made)


def test_all_are_as_long_as_the_shortest():
    assert {track.frames for track in mono_tracks(songs, 8000, float("inf"))} == {3600}


def test_no_songs():
    with pytest.raises(ValueError, match="no songs"):
        mono_tracks(list, 8000, 1.0)
