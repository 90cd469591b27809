"""Tracks: the same audio as soundfile and musdb read, from every data set, and errors that say what to do."""

import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from course_lib.data import SIX_STEMS, STEMS, Track, open_tracks
from course_lib.data import audio_files
from course_lib.data.audio_files import read_audio, read_header
from course_lib.data.musdb18 import VALIDATION_SONGS
from course_lib.data.stem_readers import FromTensor, StemCache
from course_lib.data.tracks import read_song_folder
from course_lib.data.without_ffmpeg import ffmpeg_is_there, import_musdb, import_museval
from song_folders import noise, write_set, write_song


def as_audio(samples: np.ndarray) -> torch.Tensor:
    """int16 (frames, channels) as the library gives it."""
    return torch.from_numpy(samples.T.astype(np.float32) / 32768)


# ---- audio files

@pytest.mark.parametrize("name, options", [
    ("a.wav", {}), ("a.wav", {"subtype": "PCM_24"}), ("a.wav", {"subtype": "FLOAT"}), ("a.wav", {"subtype": "PCM_U8"}),
    ("a.wav", {"format": "WAVEX"}), ("a.wav", {"format": "RF64"}), ("a.flac", {}), ("a.ogg", {}), ("a.mp3", {}),
])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_part_of_a_file_is_what_soundfile_reads(tmp_path, name, options, channels):
    path = tmp_path / name
    soundfile.write(path, noise(np.random.default_rng(0), 20000, channels), 22050, **options)
    expected = torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T)
    assert torch.equal(read_audio(path), expected)
    assert torch.equal(read_audio(path, 5003, 777), expected[:, 5003:5780])
    assert torch.equal(read_audio(read_header(path), 19999), expected[:, 19999:])


def test_samples_are_found_behind_other_chunks(tmp_path):
    samples = noise(np.random.default_rng(1), 100, 1)
    chunks = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"                       # odd size, padded by one byte
    chunks += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    chunks += b"data" + struct.pack("<I", 200) + samples.tobytes() + b"tail" + struct.pack("<I", 2) + b"ab"
    path = tmp_path / "chunks.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    assert torch.equal(read_audio(path), as_audio(samples))


def test_a_file_written_to_a_pipe_has_no_length_to_check(tmp_path):
    path = tmp_path / "piped.wav"
    soundfile.write(path, noise(np.random.default_rng(1), 100), 8000)
    written = bytearray(path.read_bytes())
    written[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(written)
    assert read_header(path).frames == 100 and read_audio(path).shape == (2, 100)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_truncated_wav_is_noticed_when_it_is_opened(tmp_path):
    write_song(tmp_path / "song")
    cut_in_half(tmp_path / "song" / "bass.wav")
    with pytest.raises(ValueError, match=r"bass\.wav: truncated: its header says 32000 bytes .* are there"):
        open_tracks("folder", root=tmp_path)


def test_a_truncated_flac_is_noticed_at_the_latest_when_the_missing_part_is_read(tmp_path):
    write_song(tmp_path / "song", suffix=".flac", frames=40000)
    cut_in_half(tmp_path / "song" / "bass.flac")
    with pytest.raises(ValueError, match=r"bass\.flac: .*truncated or damaged"):
        open_tracks("folder", root=tmp_path)[0]["bass"]


def test_a_wav_that_shrinks_after_it_was_opened_is_noticed(tmp_path):
    write_song(tmp_path / "song")
    track, = open_tracks("folder", root=tmp_path)
    cut_in_half(tmp_path / "song" / "bass.wav")
    with pytest.raises(ValueError, match=r"bass\.wav: truncated or damaged: sample \d+ cannot be read"):
        track["bass"]


@pytest.mark.parametrize("content, message", [(b"", "empty"), (b"not audio at all", "not readable as audio")])
def test_files_without_audio_are_named(tmp_path, content, message):
    write_song(tmp_path / "song")
    (tmp_path / "song" / "drums.wav").write_bytes(content)
    with pytest.raises(ValueError, match=rf"drums\.wav: .*{message}"):
        open_tracks("folder", root=tmp_path)


def test_nan_in_a_float_file_is_refused(tmp_path):
    samples = np.zeros((100, 1), np.float32)
    samples[50] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"a\.wav: .*not finite"):
        read_audio(tmp_path / "a.wav")
    assert read_audio(tmp_path / "a.wav", 0, 50).shape == (1, 50)


# ---- a track

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
    _, track = song
    for track in (track, track.cached(StemCache(10)), Track.from_tensors("t", 8000, {"drums": torch.ones(2, 9)})):
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


# ---- resampling and caching

@pytest.mark.parametrize("rates", [(44100, 16000), (44100, 22050), (16000, 44100), (22050, 44100), (48000, 44100)])
def test_a_piece_of_a_resampled_track_is_a_piece_of_the_whole(rates):
    from torchaudio.functional import resample
    audio = torch.randn(2, 30011, generator=torch.Generator().manual_seed(0))
    track = Track.from_tensors("t", rates[0], {"drums": audio}).resampled(rates[1])
    whole = resample(audio, *rates)
    assert track.rate == rates[1] and track.frames == whole.shape[1]
    for start, frames in [(0, 500), (1, 999), (5003, 777), (whole.shape[1] - 333, 333), (0, whole.shape[1])]:
        piece = track.read("drums", start, frames)
        torch.testing.assert_close(piece, whole[:, start:start + frames], rtol=0, atol=1e-6)


def test_open_tracks_resamples_only_when_asked(tmp_path):
    write_song(tmp_path / "song")
    assert open_tracks("folder", root=tmp_path)[0].rate == 8000
    assert open_tracks("folder", root=tmp_path, rate=8000)[0].stems == STEMS
    track, = open_tracks("folder", root=tmp_path, rate=4000)
    assert (track.rate, track.frames, track.mixture.shape) == (4000, 4000, (2, 4000))
    torch.testing.assert_close(track.sources().sum(0), track.mixture, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="rate is -1"):
        open_tracks("folder", root=tmp_path, rate=-1)


def test_a_cache_gives_the_same_audio_within_its_limit_and_reads_once(tmp_path):
    reads = []                                                       # samples asked from the stems, one entry a time

    class Counted(FromTensor):
        def read_into(self, start, out):
            reads.append(out.shape[1])
            super().read_into(start, out)

    exact = torch.randint(-32768, 32768, (1, 1000), generator=torch.Generator().manual_seed(0)) / 32768
    finer = torch.rand(1, 1000, generator=torch.Generator().manual_seed(1))
    cache = StemCache(7e-3)                                 # 7000 bytes: 2000 go to 16-bit values, 4000 to others
    stems = {"drums": Counted(exact), "bass": Counted(finer), "other": Counted(finer)}
    track = Track("t", 8000, 1000, 1, stems).cached(cache)
    for _ in range(2):
        assert torch.equal(track["drums"], exact) and torch.equal(track.read("bass", 10, 20), finer[:, 10:30])
    assert reads == [1000, 1000] and cache.bytes_held == 6000
    for _ in range(2):
        assert torch.equal(track.read("other", 5, 6), finer[:, 5:11])
    assert reads == [1000, 1000, 1000, 6] and cache.bytes_held == 6000   # did not fit: from then on only the piece
    assert pickle.loads(pickle.dumps(cache)).bytes_held == 0             # another process fills its own
    with pytest.raises(ValueError, match="cache's limit is 0 MB"):
        StemCache(0)


def test_a_cached_set_equals_the_set(tmp_path):
    write_set(tmp_path, ["a", "b"], suffix=".flac")
    plain, cached = (open_tracks("folder", root=tmp_path, cache_mb=mb) for mb in (None, 1))
    for one, other in zip(plain, cached):
        assert torch.equal(one.sources(), other.sources()) and torch.equal(one.mixture, other.excerpt(0).mixture)
    assert not torch.equal(cached[0].mixture, cached[1].mixture)


# ---- open_tracks: folders

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


def test_an_own_folder_may_lack_the_mixture_or_a_stem_but_not_both(tmp_path):
    written = write_song(tmp_path / "song")
    (tmp_path / "song" / "mixture.wav").unlink()
    track, = open_tracks("folder", root=tmp_path)
    assert torch.equal(track.mixture, as_audio(written["mixture"]))
    (tmp_path / "song" / "vocals.wav").unlink()
    message = r"song: no file for vocals; found bass, drums, other\. Add vocals\.wav, or mixture\.wav"
    with pytest.raises(FileNotFoundError, match=message):
        open_tracks("folder", root=tmp_path)
    silent, = open_tracks("folder", root=tmp_path, missing="silence")
    assert not silent["vocals"].any() and silent.info["silent_stems"] == ["vocals"]
    assert torch.equal(silent.mixture, track.sources(("drums", "bass", "other")).sum(0))
    soundfile.write(tmp_path / "song" / "mixture.wav", written["mixture"], 8000)
    partial, = open_tracks("folder", root=tmp_path)
    assert partial.stems == ("drums", "bass", "other") and partial.info["missing_stems"] == ["vocals"]
    with pytest.raises(ValueError, match="no stem 'vocals'"):
        partial.sources()
    with pytest.raises(ValueError, match="missing is 'zeros'"):
        open_tracks("folder", root=tmp_path, missing="zeros")


def test_guitar_and_piano_of_an_own_folder_stand_beside_other(tmp_path):
    rng = np.random.default_rng(0)
    audio = {stem: noise(rng, 500) for stem in SIX_STEMS}
    (tmp_path / "song").mkdir()
    for stem, samples in audio.items():
        soundfile.write(tmp_path / "song" / f"{stem}.wav", samples, 8000)
    track, = open_tracks("folder", root=tmp_path)
    assert torch.equal(track["other"], as_audio(audio["other"] + audio["guitar"] + audio["piano"]))
    assert torch.equal(track.sources(SIX_STEMS)[2], as_audio(audio["other"]))
    assert torch.equal(track.mixture, as_audio(sum(samples.astype(np.int32) for samples in audio.values())))
    whole, = open_tracks("folder", root=tmp_path, other="whole")
    assert torch.equal(whole["other"], as_audio(audio["other"]))
    (tmp_path / "song" / "song.json").write_text("{}")                     # as the band writes, whose `other` is whole
    assert torch.equal(open_tracks("folder", root=tmp_path)[0].mixture, whole.mixture)
    with pytest.raises(ValueError, match="other 'half'"):
        open_tracks("folder", root=tmp_path, other="half")


def test_a_stem_of_another_name_needs_a_mixture(tmp_path):
    written = write_song(tmp_path / "song")
    soundfile.write(tmp_path / "song" / "Strings.wav", written["bass"], 8000)
    track, = open_tracks("folder", root=tmp_path)
    assert track.stems == (*STEMS, "strings") and torch.equal(track["strings"], track["bass"])
    (tmp_path / "song" / "mixture.wav").unlink()
    with pytest.raises(ValueError, match="no mixture, and strings beside drums"):
        open_tracks("folder", root=tmp_path)


def test_mono_files_are_spread_over_the_channels_of_the_others(tmp_path):
    written = write_song(tmp_path / "song")
    soundfile.write(tmp_path / "song" / "bass.wav", written["bass"][:, :1], 8000)
    track, = open_tracks("folder", root=tmp_path)
    assert track.channels == 2 and torch.equal(track["bass"], as_audio(written["bass"][:, [0, 0]]))
    write_song(tmp_path / "mono" / "song", channels=1)
    assert open_tracks("folder", root=tmp_path / "mono")[0].mixture.shape == (1, 8000)
    assert open_tracks("folder", root=tmp_path / "mono", channels=2)[0].mixture.shape == (2, 8000)


def test_files_that_do_not_fit_together_are_named(tmp_path):
    written = write_song(tmp_path / "song")
    other = tmp_path / "song" / "other.wav"
    soundfile.write(other, written["other"], 16000)
    with pytest.raises(ValueError, match=r"other\.wav: 16000 Hz, but bass\.wav has 8000 Hz"):
        open_tracks("folder", root=tmp_path)
    soundfile.write(other, written["other"][:-5], 8000)
    with pytest.raises(ValueError, match=r"other\.wav: 7995 samples, but bass\.wav has 8000; .*cut_to_shortest"):
        open_tracks("folder", root=tmp_path)
    track, = open_tracks("folder", root=tmp_path, cut_to_shortest=True)
    assert track.frames == 7995 and torch.equal(track["bass"], as_audio(written["bass"][:-5]))
    soundfile.write(other, noise(np.random.default_rng(0), 8000, 3), 8000)
    with pytest.raises(ValueError, match="channels; expected 1 or 3"):
        open_tracks("folder", root=tmp_path)


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


# ---- MUSDB18

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


# ---- Slakh2100

INSTRUMENTS = {
    "S00": {"inst_class": "Piano", "is_drum": False, "audio_rendered": True, "program_num": 0},
    "S01": {"inst_class": "Guitar", "is_drum": False, "audio_rendered": True, "program_num": 27},
    "S02": {"inst_class": "Strings (continued)", "is_drum": False, "audio_rendered": True, "program_num": 48},
    "S03": {"inst_class": "Drums", "is_drum": True, "audio_rendered": True, "program_num": 128},
    "S04": {"inst_class": "Brass", "is_drum": False, "audio_rendered": False, "program_num": 61},
    "S05": {"inst_class": "Piano", "is_drum": False, "audio_rendered": True, "program_num": 1},
}


@pytest.fixture
def slakh(tmp_path):
    """(root, what was written): one validation song of Slakh2100 without a bass."""
    folder = tmp_path / "validation" / "Track01501"
    (folder / "stems").mkdir(parents=True)
    rng = np.random.default_rng(0)
    audio = {key: noise(rng, 4000, 1) for key, inst in INSTRUMENTS.items() if inst["audio_rendered"]}
    for key, samples in audio.items():
        soundfile.write(folder / "stems" / f"{key}.flac", samples, 8000)
    audio["mix"] = sum(audio.values())
    soundfile.write(folder / "mix.flac", audio["mix"], 8000)
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "1a81", "stems": INSTRUMENTS}))
    return tmp_path, audio


def test_slakh_instruments_become_stereo_stems(slakh):
    root, audio = slakh
    track, = open_tracks("slakh2100", "valid", root=root)
    stereo = {key: as_audio(samples[:, [0, 0]]) for key, samples in audio.items()}
    assert track.name == "Track01501" and track.channels == 2 and track.stems == SIX_STEMS
    assert torch.equal(track["drums"], stereo["S03"]) and torch.equal(track["guitar"], stereo["S01"])
    assert torch.equal(track["piano"], stereo["S00"] + stereo["S05"])
    assert torch.equal(track.sources(SIX_STEMS)[2], stereo["S02"])
    assert torch.equal(track.sources().sum(0), track.mixture) and torch.equal(track.mixture, stereo["mix"])
    assert not track["bass"].any() and track.info["silent_stems"] == ["bass", "vocals"]
    assert track.info["not_rendered"] == ["S04"] and track.info["missing_stems"] == [] and track.info["UUID"] == "1a81"


def test_a_slakh_stem_that_should_be_there_is_named(slakh):
    root, audio = slakh
    (root / "validation" / "Track01501" / "stems" / "S05.flac").unlink()
    with pytest.warns(UserWarning, match="Track01501: no audio for S05, which metadata.yaml says was rendered"):
        track, = open_tracks("slakh2100", "valid", root=root)
    assert track.info["missing_stems"] == ["S05"] and torch.equal(track["piano"], as_audio(audio["S00"][:, [0, 0]]))


def test_a_broken_slakh_is_named(slakh):
    root, _ = slakh
    song = root / "validation" / "Track01501"
    with pytest.raises(FileNotFoundError, match="train: no such folder; expected Slakh2100's folders"):
        open_tracks("slakh2100", "train", root=root)
    (song / "metadata.yaml").write_text("stems: [")
    with pytest.raises(ValueError, match=r"metadata\.yaml: not the metadata of a Slakh2100 song"):
        open_tracks("slakh2100", "valid", root=root)
    (song / "metadata.yaml").write_text(yaml.safe_dump({"stems": {"S00": {}}}))
    with pytest.raises(ValueError, match=r"metadata\.yaml: no `inst_class` for S00"):
        open_tracks("slakh2100", "valid", root=root)
    (song / "metadata.yaml").write_text(yaml.safe_dump({"stems": {}}))
    (song / "mix.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"no mix\.flac"):
        open_tracks("slakh2100", "valid", root=root)
    (root / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="expected folders TrackNNNNN"):
        open_tracks("slakh2100", "test", root=root)


# ---- the band

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
        data.open_track
