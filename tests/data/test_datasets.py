"""`open_tracks`: every data set through one door, and the band among them."""

import pytest
import torch

from course_lib.data import SIX_STEMS, STEMS, Track, open_tracks
from tests.song_folders import write_set, write_song


def test_songs_come_sorted_and_counted_by_split(tmp_path):
    write_set(tmp_path / "train", ["b", "a", "c"], frames=10)
    write_set(tmp_path / "test", ["d"], frames=10)
    assert [t.name for t in open_tracks("folder", "train", root=tmp_path)] == ["a", "b", "c"]
    assert [t.name for t in open_tracks("folder", "train", root=tmp_path, count=2)] == ["a", "b"]
    assert [t.name for t in open_tracks("folder", "train+test", root=tmp_path)] == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="count is 4, but split 'train' of folder has only 3 songs"):
        open_tracks("folder", "train", root=tmp_path, count=4)
    with pytest.raises(ValueError, match="count is 0"):
        open_tracks("folder", "train", root=tmp_path, count=0)


@pytest.mark.parametrize("split", ["tests", "train+", "train+train", ""])
def test_an_unknown_split_is_refused(tmp_path, split):
    with pytest.raises(ValueError, match='expected "train", "valid" or "test"'):
        open_tracks("folder", split, root=tmp_path)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="source is 'musdb19'; expected one of band, musdb18hq, musdb18, musdb18-7s"):
        open_tracks("musdb19")


def test_open_tracks_resamples_only_when_asked(tmp_path):
    write_song(tmp_path / "song")
    assert open_tracks("folder", root=tmp_path)[0].rate == 8000
    assert open_tracks("folder", root=tmp_path, rate=8000)[0].stems == STEMS
    track, = open_tracks("folder", root=tmp_path, rate=4000)
    assert (track.rate, track.frames, track.mixture.shape) == (4000, 4000, (2, 4000))
    torch.testing.assert_close(track.sources().sum(0), track.mixture, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="rate is -1"):
        open_tracks("folder", root=tmp_path, rate=-1)


def test_a_cached_set_equals_the_set(tmp_path):
    write_set(tmp_path, ["a", "b"], suffix=".flac")
    plain, cached = (open_tracks("folder", root=tmp_path, cache_mb=mb) for mb in (None, 1))
    for one, other in zip(plain, cached):
        assert torch.equal(one.sources(), other.sources()) and torch.equal(one.mixture, other.excerpt(0).mixture)
    assert not torch.equal(cached[0].mixture, cached[1].mixture)


def test_folders_without_songs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs root="):
        open_tracks("folder")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        open_tracks("folder", root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no songs in it; expected a folder for each song"):
        open_tracks("folder", root=tmp_path)
    write_song(tmp_path / "song")
    with pytest.raises(FileNotFoundError, match="holds audio files itself: pass its parent"):
        open_tracks("folder", root=tmp_path / "song")
    (tmp_path / "song" / "song.json").write_text("{")
    with pytest.raises(ValueError, match=r"song\.json: not valid JSON"):
        open_tracks("folder", root=tmp_path)
    (tmp_path / "song" / "bass.flac").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bass\.flac and bass\.wav are both the stem 'bass'"):
        open_tracks("folder", root=tmp_path)


def test_the_band_comes_as_tracks_with_what_was_played(tmp_path):
    options = {"root": tmp_path, "seconds": 2.0, "render_rate": 16000, "progress": False}
    track, = open_tracks("band", "valid", count=1, **options)
    assert (track.rate, track.seconds, track.channels, track.stems) == (16000, 2.0, 2, SIX_STEMS)
    for stems in (STEMS, SIX_STEMS):
        assert torch.equal(track.sources(stems).sum(0), track.mixture)
    assert all(track[stem].abs().max() > 1e-3 for stem in STEMS)
    assert {"key", "bpm", "beats", "chords", "parts"} <= set(track.info) and track.info["seconds"] == 2.0
    further, = open_tracks("band", "further", seeds=[1000], **options)
    assert further.info["seed"] == 1000 and not torch.equal(further.mixture, track.mixture)


def test_further_songs_of_the_band_are_named_by_seed(tmp_path):
    for split, seeds in (("further", None), ("further", [5]), ("further", []), ("train", [1000])):
        with pytest.raises(ValueError, match='split "further" goes with seeds='):
            open_tracks("band", split, root=tmp_path, seeds=seeds)
    with pytest.raises(ValueError, match="split is 'further'"):
        open_tracks("folder", "further", root=tmp_path)


def test_the_names_of_the_package_come_on_demand():
    import course_lib.data as data
    assert set(data.__all__) <= set(dir(data)) and data.Track is Track
    with pytest.raises(AttributeError, match="no attribute 'open_track'; it has STEMS"):
        getattr(data, "open_" + "track")


@pytest.mark.parametrize("arguments, said", [
    ({"count": 1.5}, "count is 1.5"), ({"count": "1"}, "count is 1"), ({"split": None}, "split is None"),
    ({"split": ["train"]}, "split is "), ({"source": ["band"]}, "source is "), ({"rate": "16000"}, "rate is '16000'"),
    ({"cache_mb": float("inf")}, "limit is inf MB"), ({"root": "~nobody-of-that-name/x"}, "root is ~nobody"),
])
def test_arguments_of_another_kind_are_named(tmp_path, arguments, said):
    write_song(tmp_path / "song", frames=100)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        open_tracks(**{"source": "folder", "root": tmp_path, **arguments})


def test_a_rate_given_as_a_float_is_a_whole_number(tmp_path):
    write_song(tmp_path / "song", frames=100)
    assert repr(open_tracks("folder", root=tmp_path, rate=16000.0)[0].rate) == "16000"
