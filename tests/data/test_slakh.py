"""Slakh2100: its instruments summed into stems, and what is wrong in a song of it named."""

import numpy as np
import pytest
import soundfile
import torch
import yaml

from course_lib.data import SIX_STEMS, open_tracks
from tests.song_folders import as_audio, noise

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
    with pytest.raises(ValueError, match=r"metadata\.yaml: .*\(no `inst_class` for S00 that is a str\)"):
        open_tracks("slakh2100", "valid", root=root)
    (song / "metadata.yaml").write_text(yaml.safe_dump({"stems": {}}))
    (song / "mix.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"no mix\.flac"):
        open_tracks("slakh2100", "valid", root=root)
    (root / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="expected folders TrackNNNNN"):
        open_tracks("slakh2100", "test", root=root)


@pytest.mark.parametrize("content", [
    b"# caf\xe9\nstems: {S00: {inst_class: Bass}}",                             # Latin-1
    b"stems: {0: {inst_class: Bass}}", b"stems: {../S00: {inst_class: Bass}}",
    b"stems: {S00: {inst_class: [Bass]}}", b"stems: {S00: {inst_class: 5}}", b"stems: {S00: [Bass]}",
    b"stems: {S00: {inst_class: Bass, is_drum: 'no'}}", b"stems: {S00: {inst_class: Bass, audio_rendered: 1}}",
    b"stems: [S00]", b"- S00", b"", b"stems: " + b"[" * 500, b"stems: {S00: !!python/name:os.system }",
], ids=range(13))
def test_metadata_of_any_kind_is_named(slakh, content):
    root, _ = slakh
    (root / "validation" / "Track01501" / "metadata.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"Track01501.metadata\.yaml: not the metadata of a Slakh2100 song"):
        open_tracks("slakh2100", "valid", root=root)


def test_metadata_may_begin_with_a_byte_order_mark(slakh):
    root, _ = slakh
    path = root / "validation" / "Track01501" / "metadata.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_tracks("slakh2100", "valid", root=root)[0].info["UUID"] == "1a81"
