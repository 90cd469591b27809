"""Audio files: the same samples as soundfile reads, and errors that name the file."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from course_lib.data import open_tracks
from course_lib.data.audio_files import read_audio, read_blocks, read_header
from tests.song_folders import as_audio, noise, write_song


@pytest.mark.parametrize("name, options", [
    ("a.wav", {}), ("a.wav", {"subtype": "PCM_24"}), ("a.wav", {"subtype": "FLOAT"}), ("a.wav", {"subtype": "PCM_U8"}),
    ("a.wav", {"format": "WAVEX"}), ("a.wav", {"format": "RF64"}), ("a.flac", {}), ("a.ogg", {}), ("a.mp3", {}),
])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_part_of_a_file_is_what_soundfile_reads(tmp_path, name, options, channels):
    path = tmp_path / name
    soundfile.write(path, noise(np.random.default_rng(0), 20000, channels), 22050, **options)
    expected = torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T)
    # an MP3 decoder rounds as its buffers lie: the last bit of a float may differ from one reading to the next
    most = 1e-6 if name.endswith(".mp3") else 0.0
    assert torch.allclose(read_audio(path), expected, rtol=0, atol=most)
    assert torch.allclose(read_audio(path, 5003, 777), expected[:, 5003:5780], rtol=0, atol=most)
    assert torch.allclose(read_audio(read_header(path), 19999), expected[:, 19999:], rtol=0, atol=most)


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


# ---- lengths that can't be believed

def patched(path: Path, place: int, content: bytes) -> None:
    """Overwrite bytes of a file."""
    written = bytearray(path.read_bytes())
    written[place:place + len(content)] = content
    path.write_bytes(written)


def flac_of_length(path: Path, frames: int, declared: int) -> None:
    """A FLAC file of silence whose header says another length (36 bits at byte 21)."""
    soundfile.write(path, np.zeros((frames, 2)), 44100)
    head = int.from_bytes(path.read_bytes()[18:26], "big")
    patched(path, 18, (head >> 36 << 36 | declared).to_bytes(8, "big"))


@pytest.mark.parametrize("declared, said", [
    (0, r"a\.flac: its header does not say how long it is.*ffmpeg"),
    (2 ** 36 - 1, r"a\.flac: truncated or damaged: its header says 68719476735 samples"),
    (10 ** 8, r"a\.flac: truncated or damaged: its header says 100000000 samples"),
])
def test_a_flac_of_no_or_absurd_length_is_refused_before_memory_is_asked_for(tmp_path, declared, said):
    flac_of_length(tmp_path / "a.flac", 4410, declared)
    with pytest.raises(ValueError, match=said):
        read_header(tmp_path / "a.flac")


def test_much_silence_in_few_bytes_is_believed(tmp_path):
    flac_of_length(tmp_path / "a.flac", 10 ** 6, 10 ** 6)
    assert (tmp_path / "a.flac").stat().st_size * 64 < 10 ** 6
    assert read_audio(tmp_path / "a.flac").shape == (2, 10 ** 6)


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000, 0x7FFF0000, 0])
def test_what_programs_that_write_to_a_pipe_leave_as_a_length_is_none(tmp_path, declared):
    samples = noise(np.random.default_rng(1), 441)
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    patched(tmp_path / "a.wav", 40, declared.to_bytes(4, "little"))
    assert read_header(tmp_path / "a.wav").frames == 441
    assert torch.equal(read_audio(tmp_path / "a.wav", 5), as_audio(samples)[:, 5:])


def test_a_length_of_0_is_read_in_16_bits_and_explained_in_others(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(np.random.default_rng(1), 441), 44100, subtype="PCM_24")
    patched(tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes().index(b"data") + 4, bytes(4))
    with pytest.raises(ValueError, match=r"a\.wav: its header says 0 bytes of samples, and 2646 follow.*not PCM_24"):
        read_header(tmp_path / "a.wav")
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), 44100)
    for tags in (b"", b"LIST" + struct.pack("<I", 5) + b"INFOx\0"):
        (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes() + tags)
        with pytest.raises(ValueError, match=r"b\.wav: the file holds no samples"):
            read_header(tmp_path / "b.wav")


@pytest.mark.parametrize("name, options", [
    ("a.wav", {"format": "RF64"}), ("a.wav", {"endian": "BIG"}), ("a.aiff", {}), ("a.wav", {"subtype": "PCM_24"}),
    ("a.ogg", {}), ("a.ogg", {"subtype": "OPUS"}),
])
def test_half_a_file_is_called_truncated_when_it_is_opened(tmp_path, name, options):
    soundfile.write(tmp_path / name, noise(np.random.default_rng(0), 200000), 48000, **options)
    assert read_header(tmp_path / name).frames == 200000
    cut_in_half(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: truncated"):
        read_header(tmp_path / name)


def test_an_ogg_file_of_two_streams_is_not_read_as_the_first(tmp_path):
    soundfile.write(tmp_path / "a.ogg", noise(np.random.default_rng(0), 5000), 44100)
    first = (tmp_path / "a.ogg").read_bytes()
    serial = first[14:18]
    second, place = first, -1
    while (place := first.find(b"OggS", place + 1)) >= 0:          # each page names its stream
        second = second[:place + 14] + bytes(byte ^ 1 for byte in serial) + second[place + 18:]
    (tmp_path / "both.ogg").write_bytes(first + second)
    with pytest.raises(ValueError, match=r"both\.ogg: several OGG streams"):
        read_header(tmp_path / "both.ogg")


def test_an_mp3_without_a_length_is_decoded_once_to_learn_it(tmp_path):
    path = tmp_path / "a.mp3"
    sound = 0.3 * np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write(path, sound, 44100, bitrate_mode="CONSTANT", compression_level=0.5)
    whole = read_audio(path)
    assert whole.shape == (2, 44100)
    content = path.read_bytes()
    second = content.index(content[:2], 100)             # where the frame ends that says how many there are
    path.write_bytes(b"ID3\x03\0\0\0\0\0\x05tags!" + content[second:])
    header = read_header(path)
    assert 44100 <= header.frames <= 44100 + 3 * 1152 and read_audio(header).shape == (2, header.frames)
    quiet_end = np.concatenate([sound, np.zeros((400000, 2))])
    soundfile.write(path, quiet_end, 44100, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    path.write_bytes(content[content.index(content[:2], 100):])
    with pytest.raises(ValueError, match=r"a\.mp3: this MP3 file does not say how long it is.*Convert it to WAV"):
        read_header(path)


# ---- names, places, formats

@pytest.mark.parametrize("name, said", [(b"caf\xe9.wav", r"caf\\udce9\.wav"), (b"two\nlines.wav", r"two\\nlines\.wav"),
                                        ("Gr\u00fc\u00dfe \u266b.wav".encode(), "Gr\u00fc\u00dfe \u266b\\.wav")])
def test_a_name_of_any_bytes_is_read_and_named_in_a_line_that_can_be_printed(tmp_path, name, said):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    samples = noise(np.random.default_rng(0), 50)
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    try:
        (tmp_path / "a.flac").rename(path)
    except OSError:
        pytest.skip("this file system does not take such names")
    assert torch.equal(read_audio(path), as_audio(samples))
    path.write_bytes(b"no audio")
    with pytest.raises(ValueError, match=said + ": not readable as audio") as error:
        read_header(path)
    assert str(error.value).encode("utf-8") and "\n" not in str(error.value)


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "a.wav").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a\.wav: a folder, not an audio file"):
        read_header(tmp_path / "a.wav")
    with pytest.raises(FileNotFoundError, match=r"b\.wav: no such audio file"):
        read_header(tmp_path / "b.wav")
    with pytest.raises((ValueError, FileNotFoundError), match="aaaa: (can't be read|no such audio file)"):
        read_header(tmp_path / ("a" * 300))
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    with pytest.raises(FileNotFoundError, match=r"link\.wav: a link to .*gone\.wav, which is not there"):
        read_header(tmp_path / "link.wav")


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros((10, 1)), 8000)

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(ValueError, match=r"a\.wav: can't be read \(Permission denied\)"):
        read_header(tmp_path / "a.wav")


def test_other_formats_are_to_be_converted(tmp_path):
    soundfile.write(tmp_path / "a.au", np.zeros((100, 1)), 8000)
    with pytest.raises(ValueError, match=r"a\.au: a AU file; expected WAV, FLAC, OGG or MP3\. Convert it to WAV"):
        read_header(tmp_path / "a.au")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_beyond_full_scale_come_as_they_are(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, -2.5], [1e-30, 3.0]]), 8000, subtype=subtype)
    assert torch.equal(read_audio(tmp_path / "a.wav"), torch.tensor([[0.5, 1e-30], [-2.5, 3.0]]))


def test_codings_that_can_only_be_read_from_the_start_are_read_in_parts_too(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 3000), 8000, subtype="GSM610")
    whole = read_audio(tmp_path / "a.wav")
    assert torch.equal(read_audio(tmp_path / "a.wav", 777, 500), whole[:, 777:1277])


def test_a_decoded_file_that_is_gone_is_named(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros((100, 2)), 8000)
    header = read_header(tmp_path / "a.flac")
    with pytest.raises(ValueError, match=r"out has shape \(2, 11\); expected \(2, 10\)"):
        read_audio(header, 0, 10, out=torch.empty(2, 11))
    (tmp_path / "a.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.flac: was there when it was opened, and is gone"):
        read_audio(header)


@pytest.mark.parametrize(("name", "options"), [("a.wav", {}), ("a.flac", {}), ("a.mp3", {}),
                                               ("a.wav", {"subtype": "FLOAT"})])
def test_blocks_joined_are_the_whole_file(tmp_path, name, options):
    samples = 0.1 * np.random.default_rng(0).standard_normal((30_001, 2))
    soundfile.write(tmp_path / name, samples, 44100, **options)
    blocks = list(read_blocks(tmp_path / name, 7000))
    assert {block.shape[0] for block in blocks} == {2} and all(block.shape[1] <= 7000 for block in blocks)
    most = 1e-6 if name.endswith(".mp3") else 0.0
    assert torch.allclose(torch.cat(blocks, -1), read_audio(tmp_path / name), rtol=0, atol=most)


def test_damage_is_met_where_it_is(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal((90_000, 1))
    soundfile.write(tmp_path / "a.flac", samples, 44100)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[:len(whole) // 2])
    with pytest.raises(ValueError, match="a.flac: truncated or damaged"):
        list(read_blocks(tmp_path / "a.flac"))
    samples[50_000] = np.nan
    soundfile.write(tmp_path / "b.wav", samples, 44100, subtype="FLOAT")
    with pytest.raises(ValueError, match="b.wav: holds samples that are not finite"):
        list(read_blocks(tmp_path / "b.wav"))
    with pytest.raises(ValueError, match="frames is 0"):
        list(read_blocks(tmp_path / "b.wav", 0))
