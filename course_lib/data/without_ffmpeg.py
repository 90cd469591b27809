"""musdb and museval on machines without ffmpeg.

Both import stempeg, which refuses to be imported where ffmpeg and ffprobe are missing, although WAV files and arrays
need neither. `import_musdb()` and `import_museval()` give the real packages; only where ffmpeg is missing, the few
stempeg functions they call are replaced by ones over soundfile, which read and write WAV and FLAC.
"""

import importlib
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile

from course_lib.data.audio_files import read_header
from course_lib.paths import for_libsndfile


def ffmpeg_is_there() -> bool:
    """Whether ffmpeg and ffprobe are on the path, as stempeg needs them."""
    return all(shutil.which(program) for program in ("ffmpeg", "ffprobe"))


def import_musdb() -> ModuleType:
    """The module musdb; without ffmpeg it reads WAV folders (`is_wav=True`), not .stem.mp4 files."""
    return _import("musdb")


def import_museval() -> ModuleType:
    """The module museval, with or without ffmpeg."""
    return _import("museval")


def _import(name: str) -> ModuleType:
    if "stempeg" not in sys.modules and not ffmpeg_is_there():
        sys.modules["stempeg"] = _stempeg_over_soundfile()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name} is not installed; it comes with "
                                  "pip install 'separation-course[musdb]', or pip install musdb museval",
                                  name=error.name) from error


def _stempeg_over_soundfile() -> ModuleType:
    module = ModuleType("stempeg", "Stands in for stempeg where ffmpeg is missing: single-stream audio over soundfile.")
    module.Info, module.read_stems, module.write_audio = _Info, _read_stems, _write_audio
    return module


class _Info:
    """What musdb asks of stempeg.Info; a WAV or FLAC file has one stream, whatever stream is asked for."""

    def __init__(self, filename: str):
        if str(filename).endswith(".mp4"):
            raise ValueError(f"{filename}: reading .stem.mp4 needs ffmpeg and ffprobe, which are not installed. "
                             "Install ffmpeg, or use MUSDB18-HQ, which is WAV")
        self._header = read_header(filename)

    def samples(self, _stream: int) -> int:
        return self._header.frames

    def duration(self, _stream: int) -> float:
        return self._header.frames / self._header.rate

    def rate(self, _stream: int) -> int:
        return self._header.rate


def _read_stems(filename: str, start: float | None = 0, duration: float | None = None,
                sample_rate: float | None = None, **_ignored) -> tuple[np.ndarray, int]:
    """float64 (time, channels) in [-1, 1] and the rate in Hz, from `start` seconds on for `duration` seconds."""
    header = read_header(filename)
    if sample_rate not in (None, header.rate):
        raise ValueError(f"{filename}: {header.rate} Hz, and {sample_rate} Hz are asked for; resampling in musdb needs "
                         "ffmpeg. Open the set without sample_rate and resample with torchaudio")
    first = round((start or 0) * header.rate)
    frames = -1 if duration is None else round(duration * header.rate)
    audio, rate = soundfile.read(for_libsndfile(filename), start=first, frames=frames, dtype="float64", always_2d=True)
    return audio, rate


def _write_audio(path: str, data: np.ndarray, sample_rate: float = 44100, **_ignored) -> None:
    """data: (time, channels) in [-1, 1], written in the format of the file's suffix."""
    soundfile.write(for_libsndfile(path), data, int(sample_rate), format=Path(path).suffix[1:].upper())
