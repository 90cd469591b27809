"""Chapter 13's data: what plays when, tags of parts, chunks that repeat, what is held out; on songs of constants."""

import pytest
import torch

from course_lib.data import Track
from course_lib.data.band import compose
from course_lib.data.band.song import Note, Part, Song
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments import taggers as experiment

SOURCES = len(SIX_STEMS)


def tone_songs(count: int = 3) -> experiment.TaggedSongs:
    """Songs of 20 s whose sources are constants, source k of song n at level (n + 1) / 10 + k / 100; all tags on."""
    frames = round(experiment.SONG_SECONDS * experiment.RATE)
    tracks = [Track.from_tensors(str(n), experiment.RATE, {
        stem: torch.full((1, frames), (n + 1) / 10 + k / 100) for k, stem in enumerate(SIX_STEMS)})
        for n in range(count)]
    playing = torch.zeros(count, SOURCES, len(experiment.TAGS), 200, dtype=torch.bool)
    for k in range(SOURCES):
        playing[:, k, k, :100] = True                                   # source k plays tag k in the first half
    return experiment.TaggedSongs(tracks, playing)


def test_parts_and_their_tags():
    part = lambda stem, name, program: Part(stem, name, program, [], "lead")                  # noqa: E731
    assert experiment.tags_of(part("drums", "electronic drums", 24)) == ["drums"]
    assert experiment.tags_of(part("bass", "strings", 42)) == ["bass", "strings"]
    assert experiment.tags_of(part("other", "distorted guitar", 30)) == ["guitar"]
    assert experiment.tags_of(part("other", "organ", 16)) == []


def test_what_plays_when():
    notes = [Note(0.05, 0.2, 60, 90), Note(1.0, 0.01, 60, 90)]
    song = Song(0, "rock", 120, "C major", 2.0, [Part("other", "piano", 0, notes, "comp")])
    playing = experiment.activity(song)
    assert playing.shape == (SOURCES, len(experiment.TAGS), 20)
    row = playing[SIX_STEMS.index("piano"), experiment.TAGS.index("piano")]
    assert row.nonzero().flatten().tolist() == [0, 1, 2, 10] and int(playing.sum()) == 4


def test_every_tag_is_played_in_the_training_songs():
    together = torch.stack([experiment.activity(compose(seed, 20.0)).any(0).any(-1) for seed in range(40)])
    assert together.any(0).all() and not together[:, experiment.TAGS.index("winds")].all()


def test_a_chunk_is_a_function_of_seed_and_number():
    songs = tone_songs()
    chunks, again = (experiment.TaggedChunks(songs, 20, 5) for _ in range(2))
    for index in (0, 7, 19):
        assert all(torch.equal(a, b) for a, b in zip(chunks[index], again[index]))
    assert not torch.equal(chunks[0][0], experiment.TaggedChunks(songs, 20, 6)[0][0])
    assert chunks[3][0].shape == (80_000,) and chunks[3][1].shape == (9,)
    with pytest.raises(IndexError, match="chunk 20 asked; there are 20"):
        chunks[20]


def test_labels_are_of_the_sources_that_are_heard():
    chunks = experiment.TaggedChunks(tone_songs(1), 60, 0, remix=0.0, augment=False)
    for x, labels in (chunks[index] for index in range(60)):
        on = [k for k in range(SOURCES) if labels[k]]
        heard = round(float(x.mean()) * 100)                            # each source adds 10 + k hundredths
        assert heard > 0 and labels[SOURCES:].sum() == 0
        if on:                                                          # the chunk lies in the first half
            assert heard == sum(10 + k for k in on)


def test_held_out_chunks_cover_songs_and_leave_sources_out():
    data = experiment.held_out(tone_songs(2))
    assert data.x.shape == (2 * 4 * 4, 80_000) and data.song.tolist() == [0] * 16 + [1] * 16
    assert data.labels[0, :SOURCES].all() and data.labels[12].sum() == 0            # the second half is without tags
    assert torch.equal(data.x, experiment.held_out(tone_songs(2)).x)
    assert 0 < data.labels[1:4, :SOURCES].mean() < 1


def test_the_tilt_keeps_the_level_and_silence():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for slope in (-0.5, 0.0, 0.7):
        assert torch.allclose(experiment.tilted(x, slope).norm(), x.norm(), rtol=1e-4)
    assert experiment.tilted(torch.zeros(10), 0.5).abs().max() == 0


def test_scores_of_a_tagger_that_knows():
    data = experiment.HeldOut(torch.zeros(8, 100), (torch.rand(8, 9, generator=torch.Generator().manual_seed(1)) < 0.5
                                                    ).float(), torch.arange(8) // 2)
    low, high = experiment.interval(data, data.labels, 20)
    assert low == high == 1.0
