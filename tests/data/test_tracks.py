"""A track: what was written comes back, whole, in part and as sources."""

import json

import numpy as np
import pytest
import torch

from course_lib.data import SIX_STEMS, Track, audio_files
from course_lib.data.song_folders import read_song_folder
from course_lib.data.stem_readers import StemCache
from tests.song_folders import as_audio, write_song


@pytest.fixture
def song(tmp_path):
    """(what was written, the track that reads it), six stems in the band's layout."""
    written = write_song(tmp_path / "Artist - Song", six_stems=True)
    (tmp_path / "Artist - Song" / "song.json").write_text(json.dumps({"key": "A minor"}))
    return written, read_song_folder(tmp_path / "Artist - Song")


def test_a_track_reads_what_was_written(song):
    written, track = song
    assert (track.name, track.rate, track.channels) == ("Artist - Song", 8000, 2)
    assert (track.frames, track.seconds) == (8000, 1.0)
    assert track.stems == SIX_STEMS and track.info == {"key": "A minor"}
    for stem in SIX_STEMS:
        assert torch.equal(track[stem], as_audio(written[stem])) and track[stem].dtype == torch.float32
    assert torch.equal(track.mixture, as_audio(written["mixture"])) and torch.equal(track["mixture"], track.mixture)
    assert repr(track) == ("Track('Artist - Song', 1.00 s, 8000 Hz, 2 channels, "
                           "stems: drums, bass, other, vocals, guitar, piano)")


def test_sources_add_up_to_the_mixture_exactly_in_four_and_in_six_stems(song):
    written, track = song
    four, six = track.sources(), track.sources(SIX_STEMS)
    assert four.shape == (4, 2, 8000) and six.shape == (6, 2, 8000)
    assert torch.equal(four.sum(0), track.mixture) and torch.equal(six.sum(0), track.mixture)
    assert torch.equal(four[2], as_audio(written["other"]))
    assert torch.equal(six[2], as_audio(written["other"] - written["guitar"] - written["piano"]))
    without_piano = track.sources(("guitar", "other"), start=100, frames=50)
    assert torch.equal(without_piano[1], as_audio(written["other"] - written["guitar"])[:, 100:150])


def test_changing_what_was_read_does_not_change_the_track(song):
    _, read = song
    for track in (read, read.cached(StemCache(10)), Track.from_tensors("t", 8000, {"drums": torch.ones(2, 9)})):
        before = track["drums"].clone()
        track["drums"].zero_()
        track.mixture.zero_()
        assert torch.equal(track["drums"], before) and before.abs().max() > 0


def test_an_excerpt_reads_only_its_part(song, monkeypatch):
    _, track = song
    asked = []
    fromfile = np.fromfile
    monkeypatch.setattr(audio_files.np, "fromfile", lambda *a, **k: asked.append(k["count"]) or fromfile(*a, **k))
    excerpt = track.excerpt(0.25, 0.5).excerpt(0.1, 0.2)
    assert not asked
    vocals = excerpt["vocals"]
    assert asked == [2 * 1600]
    assert torch.equal(vocals, track["vocals"][:, 2800:4400]) and excerpt.first_frame == 2800
    assert torch.equal(excerpt.sources(SIX_STEMS), track.sources(SIX_STEMS, 2800, 1600))
    assert "0.20 s from 0.35 s" in repr(excerpt)
    assert track.excerpt(0.5).frames == 4000


@pytest.mark.parametrize("start, seconds", [(-0.1, 0.5), (0.6, 0.5), (1.0, None), (0.2, 0.0)])
def test_an_excerpt_outside_the_track_is_refused(song, start, seconds):
    with pytest.raises(ValueError, match=r"'Artist - Song' lasts 1\.000 s; an excerpt from"):
        song[1].excerpt(start, seconds)


def test_an_unknown_stem_is_refused_with_those_there_are(song):
    with pytest.raises(ValueError, match="no stem 'voice'; it has drums, bass, other, vocals, guitar, piano"):
        song[1]["voice"]
    with pytest.raises(ValueError, match="not among them"):
        song[1].read("drums", 7000, 2000)


def test_stems_in_memory_make_a_track():
    drums, guitar = torch.randn(2, 2, 100)
    assert torch.equal(Track.from_tensors("t", 8000, {"drums": drums, "guitar": guitar}).mixture, drums + guitar)
    track = Track.from_tensors("t", 8000, {"other": drums + guitar, "guitar": guitar})
    assert torch.equal(track.mixture, drums + guitar)
    assert torch.allclose(track.sources(("other", "guitar"))[0], drums, atol=1e-6)
    with pytest.raises(ValueError, match="all alike"):
        Track.from_tensors("t", 8000, {"drums": drums, "bass": guitar[:, :50]})


# ---- stems in memory that are no audio

@pytest.mark.parametrize("stem, said", [
    (torch.tensor([[32767, -32768]], dtype=torch.int16), r"stems\['drums'\] is torch\.int16; .*/ 32768"),
    (np.zeros((2, 100), np.float32), r"stems\['drums'\] is a numpy\.ndarray of float32 \(2, 100\)"),
    (torch.zeros(44100, 2), r"44100 channels of 2 samples; that looks like \(time, channels\)"),
    (torch.zeros(2, 0), "all alike"), (torch.zeros(100), "all alike"),
    (torch.tensor([[0.0, float("nan")]]), "stem 'drums' holds samples that are not finite"),
    (torch.tensor([[0.0, 1e300]], dtype=torch.float64), "stem 'drums' holds samples that are not finite"),
])
def test_stems_in_memory_that_are_no_audio_are_refused(stem, said):
    with pytest.raises(ValueError, match=said):
        Track.from_tensors("t", 8000, {"drums": stem})


@pytest.mark.parametrize("rate", [0, 44100.5, "44100", None])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises((ValueError, TypeError), match="rate"):
        Track.from_tensors("t", rate, {"drums": torch.zeros(1, 10)})


def test_stems_of_any_float_type_and_of_one_sample_are_read_as_float32():
    for dtype in (torch.float16, torch.float64):
        track = Track.from_tensors("t", 8000, {"drums": torch.full((2, 1), 0.5, dtype=dtype)})
        assert track["drums"].dtype == torch.float32 and torch.equal(track.mixture, torch.full((2, 1), 0.5))
    with_gradient = Track.from_tensors("t", 8000, {"drums": torch.ones(1, 4, requires_grad=True)})
    assert not with_gradient["drums"].requires_grad


@pytest.mark.parametrize("start, frames", [(-1, 5), (7000, 2000), (9000, None), (0, -1)])
def test_pieces_outside_a_track_are_refused(song, start, frames):
    for read in (lambda: song[1].read("drums", start, frames), lambda: song[1].sources(start=start, frames=frames)):
        with pytest.raises(ValueError, match="'Artist - Song' has 8000 samples; .* not among them"):
            read()
    with pytest.raises(ValueError, match="expected finite numbers"):
        song[1].excerpt(float("nan"))
