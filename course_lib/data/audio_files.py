"""Audio files: a header that has been checked, and any part of the samples as a float32 tensor.

Everything libsndfile reads will do (WAV, FLAC, OGG, MP3). 16-bit WAV, which the band and MUSDB18-HQ use, is read
straight from its bytes: a training loop asks for thousands of short pieces, and opening a decoder for each costs more
than the samples do. MP3 is decoded from the start of the file whatever part is asked for: keep such stems in a cache.
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
FULL_SCALE_16_BIT = 32768
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)          # what programs that write to a pipe leave in a WAV header


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
    that libsndfile cannot read, or (WAV) was cut short.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty (0 bytes); fetch or render it again")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: not readable as audio ({error.error_string.strip()}); expected a WAV, FLAC, OGG or "
                         "MP3 file. Fetch it again or convert it to WAV") from error
    offset = _checked_wav_data(path) if info.format in ("WAV", "WAVEX") else None
    if info.frames < 1:
        raise ValueError(f"{path}: the file holds no samples; fetch or render it again")
    pcm_offset = offset if info.subtype == "PCM_16" and info.endian in ("FILE", "LITTLE") else None
    return AudioHeader(path, info.samplerate, info.frames, info.channels, info.subtype, pcm_offset)


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
        raise ValueError(f"{header.path}: samples {start} to {start + frames} asked, but the file holds "
                         f"{header.frames} ({header.frames / header.rate:.3f} s at {header.rate} Hz)")
    samples = _read_pcm(header, start, frames) if header.pcm_offset is not None else _decode(header, start, frames)
    if len(samples) < frames:
        raise ValueError(f"{header.path}: truncated or damaged: sample {start + len(samples)} cannot be read, although "
                         f"the header says {header.frames} samples. Fetch or render it again")
    audio = torch.empty(header.channels, frames) if out is None else out
    rows = torch.from_numpy(samples).T                                  # (channels, frames)
    if samples.dtype == np.int16:
        return torch.mul(rows, 1 / FULL_SCALE_16_BIT, out=audio)        # converts and scales in one pass
    audio.copy_(rows)
    if header.subtype in ("FLOAT", "DOUBLE") and not torch.isfinite(audio).all():
        raise ValueError(f"{header.path}: holds samples that are not finite numbers (NaN or infinity); export it again")
    return audio


def _read_pcm(header: AudioHeader, start: int, frames: int) -> np.ndarray:
    """16-bit samples (frames, channels) from the file's bytes; fewer rows where the file ends early."""
    with open(header.path, "rb") as file:
        file.seek(header.pcm_offset + 2 * header.channels * start)
        values = np.fromfile(file, dtype="<i2", count=frames * header.channels)
    whole = len(values) // header.channels
    return values[:whole * header.channels].reshape(whole, header.channels)


def _decode(header: AudioHeader, start: int, frames: int) -> np.ndarray:
    """Samples (frames, channels) through libsndfile; fewer rows where the file ends early."""
    # An MP3 frame needs bits of those before it: after a seek, libsndfile's first thousand samples may be wrong.
    seek = 0 if header.subtype.startswith("MPEG") else start
    with soundfile.SoundFile(str(header.path)) as file:
        try:
            file.seek(seek)
            return file.read(start - seek + frames, dtype="float32", always_2d=True)[start - seek:]
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{header.path}: truncated or damaged ({error.error_string.strip()}). "
                             "Fetch or render it again") from error


def _checked_wav_data(path: Path) -> int | None:
    """The byte offset of the samples in a RIFF WAV file, or None where its chunks are laid out in another way.

    libsndfile quietly shortens a file that was cut off; a song whose download broke would then only be noticed by ear.
    """
    with open(path, "rb") as file:
        data = _wav_data_chunk(file)
    if data is None:
        return None
    offset, declared = data
    present = path.stat().st_size - offset
    if declared not in _UNKNOWN_SIZES and present < declared:
        raise ValueError(f"{path}: truncated: its header says {declared} bytes of samples, {present} are there. "
                         "Fetch or render it again")
    return offset


def _wav_data_chunk(file: BinaryIO) -> tuple[int, int] | None:
    """(offset, declared size) in bytes of the `data` chunk of a RIFF WAVE file; None where there is none."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    while len(chunk := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", chunk)
        if name == b"data":
            return file.tell(), size
        file.seek(size + size % 2, 1)          # chunks are padded to an even number of bytes
    return None
