"""Recordings: what librosa's examples hold, credited as their licences ask, and a clear word where they are missing."""

import re

import pytest
import torch
from torchaudio.functional import resample

from course_lib.data import RECORDINGS, attribution, recording


@pytest.fixture(scope="module")
def librosa_files():
    """librosa's own store of example files."""
    import librosa.util.files as files
    return vars(files)["__GOODBOY"]


@pytest.fixture(scope="module")
def on_this_machine(librosa_files):
    """Skips where the recordings would have to be downloaded."""
    if not list(librosa_files.path.glob("Karissa_Hobbs*.hq.ogg")):
        pytest.skip(f"librosa's example recordings are not in {librosa_files.path} (set LIBROSA_DATA_DIR, or call "
                    "librosa.ex once for each with a network)")


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_is_credited(name):
    line = attribution(name)
    of = RECORDINGS[name]
    assert of.title in line and of.artist in line and "\n" not in line
    links = re.findall(r"\[([^]]+)\]\((https://[^ )]+)\)", line)
    assert links == [(of.licence, of.licence_url), (of.source, of.source_url)]


def test_the_licence_named_is_the_licence_linked():
    for of in RECORDINGS.values():
        kind, version = re.search(r"creativecommons\.org/(.*)/(\d\.\d)/$", of.licence_url).groups()
        assert (kind, of.licence) in (("licenses/by", f"CC BY {version}"), ("publicdomain/mark", "public domain"))


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_is_music_in_stereo_or_speech(on_this_machine, name):
    audio, rate = recording(name, seconds=3)
    speech = name.startswith("libri")
    assert rate == (16000 if speech else 44100) and audio.shape == (1 if speech else 2, 3 * rate)
    assert audio.dtype == torch.float32 and 0.01 < audio.abs().max() <= 1.0


def test_a_part_is_part_of_the_whole(on_this_machine):
    whole, rate = recording("trumpet")
    part, _ = recording("trumpet", start=1.25, seconds=0.5)
    assert torch.equal(part, whole[:, 55125:77175])
    assert torch.equal(recording("trumpet", start=5)[0], whole[:, 5 * rate:])
    mono, _ = recording("trumpet", mono=True)
    torch.testing.assert_close(mono, whole.mean(0, keepdim=True))


def test_another_rate_is_resampled_and_reported(on_this_machine):
    audio, rate = recording("trumpet", rate=16000, mono=True, start=1, seconds=2)
    assert rate == 16000 and audio.shape == (1, 32000)
    torch.testing.assert_close(audio, resample(recording("trumpet", mono=True, start=1, seconds=2)[0], 44100, 16000))
    with pytest.raises(ValueError, match="rate is 0"):
        recording("trumpet", rate=0)


@pytest.mark.parametrize("start, seconds", [(6, None), (5, 1), (-1, 1), (0, 0)])
def test_a_part_outside_the_recording_is_refused(on_this_machine, start, seconds):
    with pytest.raises(ValueError, match=r"'trumpet' lasts 5\.33 s"):
        recording("trumpet", start=start, seconds=seconds)


def test_an_unknown_recording_is_refused_with_those_there_are():
    for ask in (recording, attribution):
        with pytest.raises(ValueError, match="name is 'choir'; expected one of fishin, vibeace"):
            ask("choir")


def test_without_file_and_network_the_error_says_what_to_do(librosa_files, monkeypatch, tmp_path):
    monkeypatch.setattr(librosa_files, "path", tmp_path)
    monkeypatch.setattr(librosa_files, "base_url", "http://127.0.0.1:9/")           # nobody listens there
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    message = "'brahms' is not on this machine .*Connect to the internet once, or set LIBROSA_DATA_DIR"
    with pytest.raises(FileNotFoundError, match=message):
        recording("brahms")
