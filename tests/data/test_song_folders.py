"""Songs as folders: what may be missing, what stands beside what, and what is refused."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from course_lib.data import SIX_STEMS, STEMS, open_tracks
from course_lib.data.song_folders import NOT_SONGS, audio_files_of, song_folders
from tests.song_folders import as_audio, noise, write_song


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


# ---- what lies beside songs, and names

@pytest.mark.parametrize("junk", [".@__thumb", "@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information"])
@pytest.mark.parametrize("source", ["musdb18hq", "folder", "slakh2100"])
def test_what_servers_and_archives_leave_beside_songs_is_no_song(tmp_path, junk, source):
    song = tmp_path / "test" / "A - B"
    write_song(song, frames=100)
    if source == "slakh2100":
        (song / "mixture.wav").rename(song / "mix.wav")
        (song / "metadata.yaml").write_text("stems: {}")
    (tmp_path / "test" / junk / "mixture.wav").mkdir(parents=True)         # Synology's thumbnails have the files' names
    (tmp_path / "test" / junk / "metadata.yaml").write_text("stems: {}")
    (song / "._drums.wav").write_bytes(b"what macOS puts beside a file")
    (song / "@eaDir").mkdir()
    (song / "piano.wav").mkdir()
    track, = open_tracks(source, "test", root=tmp_path)
    assert track.name == "A - B" and track.mixture.shape == (2, 100)
    assert all(name == name.lower() for name in NOT_SONGS)


def test_songs_that_look_like_waste_are_songs(tmp_path):
    names = ["#1 Crush", "$ave Dat Money", "@home", "_macosx"]
    for name in names:
        (tmp_path / name).mkdir()
    assert [path.name for path in song_folders(tmp_path)] == names


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    write_song(tmp_path / "elsewhere" / "song", frames=100)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere" / "song")
    track, = open_tracks("folder", root=tmp_path / "set")
    assert track.name == "linked"
    (tmp_path / "set" / "lost").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="lost: a link to .*gone, which is not there"):
        open_tracks("folder", root=tmp_path / "set")


def test_accents_are_one_letter_whatever_the_file_system_keeps(tmp_path):
    name = "Caf\u00e9 - \u00c5rhus"
    write_song(tmp_path / unicodedata.normalize("NFD", name), frames=100)
    (tmp_path / unicodedata.normalize("NFD", name) / "drums.wav").rename(
        tmp_path / unicodedata.normalize("NFD", name) / (unicodedata.normalize("NFD", "Schl\u00e4gel") + ".WAV"))
    track, = open_tracks("folder", root=tmp_path)
    assert track.name == name and "schl\u00e4gel" in track.stems


def test_names_that_are_no_text_are_read_and_named(tmp_path):
    song = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    write_song(tmp_path / "song", frames=100)
    try:
        (tmp_path / "song").rename(song)
    except OSError:
        pytest.skip("this file system does not take such names")
    track, = open_tracks("folder", root=tmp_path)
    assert track.name == r"caf\udce9" and str(track).encode("utf-8") and track.mixture.shape == (2, 100)
    (song / "bass.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"caf\\udce9/bass\.wav: the file is empty"):
        open_tracks("folder", root=tmp_path)


def test_names_that_differ_in_case_alone_are_one_stem(tmp_path):
    write_song(tmp_path / "song", frames=100)
    if (tmp_path / "song" / "DRUMS.wav").exists():
        pytest.skip("this file system does not tell capitals from small letters")
    (tmp_path / "song" / "DRUMS.wav").write_bytes((tmp_path / "song" / "bass.wav").read_bytes())
    with pytest.raises(ValueError, match=r"DRUMS\.wav and drums\.wav are both the stem 'drums'; remove one"):
        audio_files_of(tmp_path / "song")


@pytest.mark.parametrize("content", [b"[1, 2]", b"\xff\xfe", b"[" * 100000, b"null"], ids=range(4))
def test_a_song_json_that_is_no_object_is_named(tmp_path, content):
    write_song(tmp_path / "song", frames=100)
    (tmp_path / "song" / "song.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"song\.json: (not valid JSON|holds a)"):
        open_tracks("folder", root=tmp_path)
