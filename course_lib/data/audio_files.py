"""Audio files: a header that has been checked, and any part of the samples as a float32 tensor.

WAV (RF64 and AIFF too), FLAC, OGG and MP3, through libsndfile. 16-bit WAV, which the band and MUSDB18-HQ use, is read
straight from its bytes: a training loop asks for thousands of short pieces, and opening a decoder for each costs more
than the samples do. MP3 is decoded from the start of the file whatever part is asked for: keep such stems in a cache.

What a header says of the length is not believed where libsndfile would quietly give less or make memory for more: a
song whose download broke would else be noticed by ear, or by a machine that has run out of memory.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from course_lib.paths import for_libsndfile, shown

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
FULL_SCALE_16_BIT = 32768
_FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "FLAC", "OGG", "MPEG", "MP3")   # libsndfile's names
_STREAMED_SIZE = 0x7FFF0000               # larger ones that don't fit are left by programs that write to a pipe
_PLAUSIBLE_FRAMES_PER_BYTE = 64           # no music needs less space; silence in FLAC does
_MP3_TAGS = (b"Xing", b"Info", b"VBRI")   # one of them in an MP3's first frame is followed by the number of frames
_OGG_PAGE = 65307                         # the most bytes of one page
_OGG_LAST_PAGE = 4                        # flag of the page that ends a stream


class AudioHeader(NamedTuple):
    """What an audio file says of itself."""

    path: Path
    rate: int                     # Hz
    frames: int                   # samples per channel
    channels: int
    subtype: str                  # libsndfile's name of the sample format, for example "PCM_16"
    pcm_offset: int | None        # byte where 16-bit little-endian samples begin; None: the file needs decoding


def read_header(path: str | Path) -> AudioHeader:
    """The header of an audio file, without its samples.

    Raises FileNotFoundError when there is no such file, ValueError when it is empty, holds no audio, is in a format
    that libsndfile cannot read, was cut short (WAV, OGG; others when the missing part is read) or does not say how
    long it is.
    """
    path, name = Path(path), shown(path)
    try:
        if not path.is_file():
            raise FileNotFoundError(f"{name}: {_instead_of_a_file(path)}")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ValueError(f"{name}: the file is empty (0 bytes); fetch or render it again")
            info = soundfile.info(for_libsndfile(path))
            data = _wav_data(file, name) if info.format in ("WAV", "WAVEX", "RF64", "AIFF") else None
            frames = _checked_frames(file, name, info, data)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name}: not readable as audio ({error.error_string.strip()}); expected a WAV, FLAC, OGG or "
                         "MP3 file. Fetch it again or convert it to WAV") from error
    except FileNotFoundError:
        raise
    except OSError as error:                       # no right to read it, a name too long, a disk that fails
        raise ValueError(f"{name}: can't be read ({error.strerror or error})") from error
    if frames < 1:
        raise ValueError(f"{name}: the file holds no samples; fetch or render it again")
    plain = data is not None and data.order == "<" and info.subtype == "PCM_16" and info.endian in ("FILE", "LITTLE")
    if plain and frames != data.present // (2 * info.channels):
        plain = False                              # laid out in a way of its own: libsndfile knows
    return AudioHeader(path, info.samplerate, frames, info.channels, info.subtype, data.offset if plain else None)


def read_audio(source: str | Path | AudioHeader, start: int = 0, frames: int | None = None,
               out: Tensor | None = None) -> Tensor:
    """Samples `start` to `start + frames` of a file (frames=None: to its end) as float32 (channels, frames) in [-1, 1].

    Passing the header of an earlier `read_header` saves reading it again; out: where to write them.
    Raises ValueError when the piece lies outside the file, the file ends before its header says, or a sample is not a
    finite number.
    """
    header = source if isinstance(source, AudioHeader) else read_header(source)
    frames = header.frames - start if frames is None else frames
    if start < 0 or frames < 0 or start + frames > header.frames:
        raise ValueError(f"{shown(header.path)}: samples {start} to {start + frames} asked, but the file holds "
                         f"{header.frames} ({header.frames / header.rate:.3f} s at {header.rate} Hz)")
    if out is not None and tuple(out.shape) != (header.channels, frames):
        raise ValueError(f"out has shape {tuple(out.shape)}; expected {(header.channels, frames)}, (channels, frames)")
    samples = _read_pcm(header, start, frames) if header.pcm_offset is not None else _decode(header, start, frames)
    if len(samples) < frames:
        raise ValueError(f"{shown(header.path)}: truncated or damaged: sample {start + len(samples)} cannot be read, "
                         f"although the header says {header.frames} samples. Fetch or render it again")
    audio = torch.empty(header.channels, frames) if out is None else out
    rows = torch.from_numpy(samples).T                                  # (channels, frames)
    if samples.dtype == np.int16:
        return torch.mul(rows, 1 / FULL_SCALE_16_BIT, out=audio)        # converts and scales in one pass
    audio.copy_(rows)
    if not (header.subtype.startswith("PCM") or torch.isfinite(audio).all()):
        raise ValueError(f"{shown(header.path)}: holds samples that are not finite numbers (NaN or infinity); export "
                         "it again")
    return audio


def read_blocks(source: str | Path | AudioHeader, frames: int = 2 ** 16) -> Iterator[Tensor]:
    """All samples of a file from first to last, in blocks of float32 (channels, up to `frames`) in [-1, 1].

    Only one block is in memory at a time. Raises as `read_header` and `read_audio` do, where the damage is met.
    """
    header = source if isinstance(source, AudioHeader) else read_header(source)
    if frames < 1:
        raise ValueError(f"frames is {frames}; expected the samples of a block, at least 1")
    if header.pcm_offset is not None:
        for start in range(0, header.frames, frames):
            yield read_audio(header, start, min(frames, header.frames - start))
        return
    done = 0
    try:
        with soundfile.SoundFile(for_libsndfile(header.path)) as file:         # decoded once, and in order
            while done < header.frames:
                samples = file.read(min(frames, header.frames - done), dtype="float32", always_2d=True)
                if not len(samples):
                    raise ValueError(f"{shown(header.path)}: truncated or damaged: sample {done} cannot be read, "
                                     f"although the header says {header.frames} samples. Fetch or render it again")
                if not np.isfinite(samples).all():
                    raise ValueError(f"{shown(header.path)}: holds samples that are not finite numbers (NaN or "
                                     "infinity); export it again")
                done += len(samples)
                yield torch.from_numpy(np.ascontiguousarray(samples.T))
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{shown(header.path)}: truncated or damaged ({error.error_string.strip()}). "
                         "Fetch or render it again") from error


def _read_pcm(header: AudioHeader, start: int, frames: int) -> np.ndarray:
    """16-bit samples (frames, channels) from the file's bytes; fewer rows where the file ends early."""
    with open(header.path, "rb") as file:
        file.seek(header.pcm_offset + 2 * header.channels * start)
        values = np.fromfile(file, dtype="<i2", count=frames * header.channels)
    whole = len(values) // header.channels
    return values[:whole * header.channels].reshape(whole, header.channels)


def _decode(header: AudioHeader, start: int, frames: int) -> np.ndarray:
    """Samples (frames, channels) through libsndfile; fewer rows where the file ends early."""
    try:
        with soundfile.SoundFile(for_libsndfile(header.path)) as file:
            # An MP3 frame needs bits of those before it: after a seek, the first thousand samples may be wrong.
            seek = start if file.seekable() and not header.subtype.startswith("MPEG") else 0
            if seek:
                file.seek(seek)
            return file.read(start - seek + frames, dtype="float32", always_2d=True)[start - seek:]
    except soundfile.LibsndfileError as error:
        if not header.path.is_file():
            raise FileNotFoundError(f"{shown(header.path)}: was there when it was opened, and is gone") from error
        raise ValueError(f"{shown(header.path)}: truncated or damaged ({error.error_string.strip()}). "
                         "Fetch or render it again") from error


def _instead_of_a_file(path: Path) -> str:
    """What is there where an audio file is expected."""
    if path.is_symlink():
        return f"a link to {shown(path.readlink())}, which is not there"
    return "a folder, not an audio file" if path.is_dir() else "no such audio file"


def _checked_frames(file: BinaryIO, name: str, info, data: "_WavData | None") -> int:
    """How many samples a file holds in each channel; ValueError where that is less than it says, or not known."""
    size = os.fstat(file.fileno()).st_size
    if info.format not in _FORMATS:
        raise ValueError(f"{name}: a {info.format} file; expected WAV, FLAC, OGG or MP3. Convert it to WAV")
    if data is not None and data.declared == 0 and data.present:
        return _streamed_frames(name, info, data)
    if info.format == "OGG":
        _check_ogg_end(file, name, size)
    if info.format in ("MPEG", "MP3") and not _gives_its_length(file):
        return _count_mp3(file, name)
    if info.frames >= 2 ** 62:
        raise ValueError(f"{name}: its header does not say how long it is, as in recordings of a stream. Rewrite it: "
                         f"ffmpeg -i IN -c:a {info.format.lower()} OUT, or convert it to WAV")
    if info.frames > _PLAUSIBLE_FRAMES_PER_BYTE * size:
        _check_last_sample(file, name, info.frames)
    return info.frames


def _check_last_sample(file: BinaryIO, name: str, frames: int) -> None:
    """ValueError unless the last sample that a header speaks of is there."""
    try:
        with soundfile.SoundFile(for_libsndfile(Path(file.name))) as audio:
            audio.seek(frames - 1)
            found = len(audio.read(1))
    except soundfile.LibsndfileError:
        found = 0
    if not found:
        raise ValueError(f"{name}: truncated or damaged: its header says {frames} samples, and the last of them cannot "
                         "be read. Fetch or render it again")


# ---- WAV and AIFF


class _WavData(NamedTuple):
    """The chunk of a WAV or AIFF file that holds the samples, in bytes."""

    offset: int                   # where they begin
    declared: int                 # how many there are by the header; 0: it does not say
    present: int                  # how many there are
    order: str                    # of the bytes, "<" or ">"


def _wav_data(file: BinaryIO, name: str) -> _WavData | None:
    """Where the samples of a file are, or None where its chunks are laid out in another way.

    ValueError where some are missing: libsndfile quietly shortens a file that was cut off.
    """
    size = os.fstat(file.fileno()).st_size
    found = _data_chunk(file)
    if found is None:
        return None
    offset, declared, order = found
    behind = size - offset
    if declared == 0:
        return _WavData(offset, 0, 0 if _only_chunks(file, offset, size, order) else behind, order)
    if behind < declared < _STREAMED_SIZE:
        raise ValueError(f"{name}: truncated: its header says {declared} bytes of samples, {behind} are there. "
                         "Fetch or render it again")
    return _WavData(offset, declared, min(declared, behind), order)


def _data_chunk(file: BinaryIO) -> tuple[int, int, str] | None:
    """(offset, declared bytes, order of bytes) of the samples of a RIFF, RIFX, RF64 or AIFF file; None without any."""
    file.seek(0)
    head = file.read(12)
    order = "<" if head[:4] in (b"RIFF", b"RF64", b"BW64") else ">"
    if (head[:4], head[8:]) not in [(kind, b"WAVE") for kind in (b"RIFF", b"RIFX", b"RF64", b"BW64")] + [
            (b"FORM", b"AIFF"), (b"FORM", b"AIFC")]:
        return None
    long_size = None                           # RF64 keeps it in a chunk of its own
    while len(chunk := file.read(8)) == 8:
        kind, size = struct.unpack(order + "4sI", chunk)
        if kind == b"ds64":
            place, long_size = file.tell(), struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
            file.seek(place)
        if kind == b"data":
            return file.tell(), size if long_size is None else long_size, order
        if kind == b"SSND":                    # two numbers stand before the samples
            return file.tell() + 8, max(size - 8, 0), order
        file.seek(size + size % 2, 1)          # chunks are padded to an even number of bytes
    return None


def _only_chunks(file: BinaryIO, start: int, end: int, order: str) -> bool:
    """Whether a file goes on with whole chunks from here to its end: tags behind no samples, not samples."""
    file.seek(start)
    while file.tell() < end:
        chunk = file.read(8)
        if len(chunk) < 8 or not chunk[:4].isascii() or not chunk[:4].decode("ascii").isprintable():
            return False
        size = struct.unpack(order + "I", chunk[4:])[0]
        file.seek(size + size % 2, 1)
    return file.tell() <= end + 1


def _streamed_frames(name: str, info, data: _WavData) -> int:
    """Samples in each channel of a WAV file whose header says 0 bytes, although samples follow."""
    if info.subtype != "PCM_16" or data.order != "<":
        raise ValueError(f"{name}: its header says 0 bytes of samples, and {data.present} follow, as programs leave it "
                         f"that write to a pipe; that is read only in 16 bits, not {info.subtype}. Rewrite it, for "
                         "example with ffmpeg -i IN.wav OUT.wav")
    return data.present // (2 * info.channels)


# ---- OGG and MP3


def _check_ogg_end(file: BinaryIO, name: str, size: int) -> None:
    """ValueError unless an OGG file ends with the last page of its one stream."""
    file.seek(0)
    serial = file.read(18)[14:]
    file.seek(max(0, size - 2 * _OGG_PAGE))
    tail = file.read()
    place = tail.rfind(b"OggS")
    page = tail[place:] if place >= 0 else b""
    segments = page[27:27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(segments) == page[26] and len(page) >= 27 + len(segments) + sum(segments)
    if not whole or not page[5] & _OGG_LAST_PAGE:
        raise ValueError(f"{name}: truncated: an OGG file ends with a page that is marked as the last, and this one "
                         "does not. Fetch it again, or rewrite what is there: ffmpeg -i IN.ogg OUT.wav")
    if page[14:18] != serial:
        raise ValueError(f"{name}: several OGG streams in one file, of which only the first would be read. Split it, "
                         "or convert it: ffmpeg -i IN.ogg OUT.wav")


def _gives_its_length(file: BinaryIO) -> bool:
    """Whether the first frame of an MP3 file says how many frames there are."""
    file.seek(0)
    while (head := file.read(10))[:3] == b"ID3":   # tags before it give their size in four bytes of seven bits
        file.seek(sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0))), 1)
    file.seek(-len(head), 1)
    start = file.read(2 ** 14)
    return any(tag in start for tag in _MP3_TAGS)


def _count_mp3(file: BinaryIO, name: str) -> int:
    """Samples in each channel of an MP3 file that doesn't say how many, by decoding it once.

    libsndfile guesses from the file's size and reads no further than that: only where the guess was too high is the
    true length known.
    """
    count = 0
    with soundfile.SoundFile(for_libsndfile(Path(file.name))) as audio:
        while block := len(audio.read(2 ** 18, dtype="float32")):
            count += block
        guess = audio.frames
    if count >= guess:
        raise ValueError(f"{name}: this MP3 file does not say how long it is, and goes on where a guess from its size "
                         "ends. Convert it to WAV: ffmpeg -i IN.mp3 OUT.wav")
    return count
