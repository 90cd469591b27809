"""MUSDB18 and MUSDB18-HQ: what musdb reads, with ffmpeg and without."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from course_lib.data import STEMS, open_tracks
from course_lib.data.audio_files import read_audio
from course_lib.data.musdb18 import VALIDATION_SONGS
from course_lib.data.without_ffmpeg import ffmpeg_is_there, import_musdb, import_museval
from tests.song_folders import write_set, write_song


@pytest.fixture
def hq_root(tmp_path):
    """A small MUSDB18-HQ: three training songs, one of them a validation song, and two test songs, 2 s each."""
    names = ["Zed - Last", sorted(VALIDATION_SONGS)[0], "Abe - First"]
    write_set(tmp_path / "train", names, frames=16000)
    write_set(tmp_path / "test", ["B - 2", "A - 1"], frames=16000)
    return tmp_path


def test_the_validation_songs_are_those_of_musdb():
    configuration = Path(import_musdb().__file__).parent / "configs" / "mus.yaml"
    assert VALIDATION_SONGS == set(yaml.safe_load(configuration.read_text())["validation_tracks"])


@pytest.mark.parametrize("split, options", [
    ("train", {"subsets": "train", "split": "train"}), ("valid", {"subsets": "train", "split": "valid"}),
    ("test", {"subsets": "test"}),
])
def test_musdb18hq_equals_what_musdb_reads(hq_root, split, options):
    ours = open_tracks("musdb18hq", split, root=hq_root)
    theirs = import_musdb().DB(root=str(hq_root), is_wav=True, **options).tracks
    assert [track.name for track in ours] == [track.name for track in theirs] and ours
    for track, song in zip(ours, theirs):
        assert (track.rate, track.frames, track.seconds) == (song.rate, song.samples, song.duration)
        assert torch.equal(track.mixture, torch.from_numpy(song.audio.T).float())
        assert torch.equal(track.sources(), torch.from_numpy(song.stems[1:]).transpose(1, 2).float())
        song.chunk_start, song.chunk_duration = 0.5, 0.25
        assert torch.equal(track.excerpt(0.5, 0.25)["other"], torch.from_numpy(song.targets["other"].audio.T).float())


def test_a_broken_musdb18hq_is_named(hq_root):
    (hq_root / "test" / "A - 1" / "mixture.wav").unlink()
    with pytest.raises(FileNotFoundError, match="A - 1: no file for mixture; found bass, drums, other, vocals"):
        open_tracks("musdb18hq", "test", root=hq_root)
    with pytest.raises(FileNotFoundError, match="test: no such folder; expected MUSDB18's folders train and test"):
        open_tracks("musdb18hq", "test", root=hq_root / "train")
    with pytest.raises(FileNotFoundError, match="no such folder; expected the data set 'musdb18hq' there"):
        open_tracks("musdb18hq", "test", root=hq_root / "nowhere")
    (hq_root / "one" / "train" / "Zed").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no songs among the validation songs"):
        open_tracks("musdb18hq", "valid", root=hq_root / "one")


@pytest.mark.skipif(ffmpeg_is_there(), reason="ffmpeg is there: the real stempeg is used, not the stand-in")
def test_without_ffmpeg_stem_files_are_refused_and_wav_can_be_written(tmp_path):
    for source in ("musdb18", "musdb18-7s"):
        (tmp_path / "test").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match="ffmpeg and ffprobe are not installed"):
            open_tracks(source, root=tmp_path)
    import_musdb()
    import stempeg
    (tmp_path / "song.stem.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match="needs ffmpeg and ffprobe"):
        stempeg.Info(str(tmp_path / "song.stem.mp4"))
    stempeg.write_audio(path=str(tmp_path / "a.wav"), data=np.full((10, 2), 0.5), sample_rate=44100.0)
    assert torch.equal(read_audio(tmp_path / "a.wav"), torch.full((2, 10), 0.5))
    with pytest.raises(ValueError, match="resampling in musdb needs ffmpeg"):
        stempeg.read_stems(str(tmp_path / "a.wav"), sample_rate=16000)


@pytest.mark.skipif(not ffmpeg_is_there(), reason="ffmpeg and ffprobe, which read .stem.mp4, are not installed")
def test_musdb18_reads_any_part_of_a_stem_file_as_the_whole(tmp_path):
    import shutil

    import stempeg
    (tmp_path / "test").mkdir()
    shutil.copy(stempeg.example_stem_path(), tmp_path / "test")
    track, = open_tracks("musdb18", root=tmp_path)
    sources = track.sources()
    assert track.stems == STEMS and sources.shape == (4, 2, track.frames)
    for start, frames in [(0, 1000), (12345, 4567), (44100, 10000), (track.frames - 3000, 3000)]:
        assert torch.equal(track.read("vocals", start, frames), sources[3, :, start:start + frames])
    with pytest.raises(FileNotFoundError, match=r"expected a \.stem\.mp4 file for each song"):
        write_song(tmp_path / "wav" / "test" / "song")
        open_tracks("musdb18", root=tmp_path / "wav")


def test_museval_scores_two_tracks_and_its_sdr_is_the_energy_ratio(hq_root):
    museval, songs = import_museval(), import_musdb().DB(root=str(hq_root), is_wav=True, subsets="test").tracks
    rng = np.random.default_rng(0)
    assert len(songs) == 2
    for song in songs:
        estimates = {stem: song.targets[stem].audio + 0.01 * rng.standard_normal((16000, 2))
                     for stem in ("bass", "vocals")}
        scores = museval.eval_mus_track(song, estimates)
        for target in scores.scores["targets"]:
            reference = song.targets[target["name"]].audio.reshape(2, -1)             # (seconds, samples)
            error = estimates[target["name"]].reshape(2, -1) - reference
            expected = 10 * np.log10((reference ** 2).sum(1) / (error ** 2).sum(1))
            measured = [float(frame["metrics"]["SDR"]) for frame in target["frames"]]
            np.testing.assert_allclose(measured, expected, atol=1e-4)
