"""Recordings of real music and speech to try a method on: the examples that librosa downloads, with their licences."""

import math
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from course_lib.data.audio_files import read_audio, read_header
from course_lib.data.resampling import check_rate, resample


class Recording(NamedTuple):
    """What must be said of a recording where it is used."""

    title: str
    artist: str
    licence: str
    licence_url: str
    source: str                   # who published it
    source_url: str


_CC_BY_3 = ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/")
_CC_BY_4 = ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/")
_PUBLIC_DOMAIN = ("public domain", "https://creativecommons.org/publicdomain/mark/1.0/")
_ARCHIVE = "https://freemusicarchive.org/music/"
_MUSOPEN = "https://musopen.org/music/"
_LIBRISPEECH = ("LibriSpeech (SLR12)", "https://www.openslr.org/12/")

# The keys are those of librosa.ex. Music is 44.1 kHz stereo, speech 16 kHz mono.
RECORDINGS = {
    "fishin": Recording("Let's Go Fishin'", "Karissa Hobbs", *_CC_BY_3, "Free Music Archive",
                        _ARCHIVE + "Karissa_Hobbs/Age_of_Flowers/09_Lets_Go_Fishin"),
    "vibeace": Recording("Vibe Ace", "Kevin MacLeod", *_CC_BY_3, "Free Music Archive",
                         _ARCHIVE + "Kevin_MacLeod/Jazz_Sampler/Vibe_Ace"),
    "nutcracker": Recording("P. I. Tchaikovsky: Dance of the Sugar Plum Fairy", "Kevin MacLeod", *_CC_BY_3,
                            "Free Music Archive",
                            _ARCHIVE + "Kevin_MacLeod/Classical_Sampler/Dance_of_the_Sugar_Plum_Fairy"),
    "brahms": Recording("Johannes Brahms: Hungarian Dance No. 5 in F sharp minor", "US Army Strings", *_PUBLIC_DOMAIN,
                        "Musopen",
                        _MUSOPEN + "43805-hungarian-dance-no-5-in-f-sharp-minor-woo-1-string-orchestra-arr/"),
    "trumpet": Recording("Solo trumpet 06, from Jazz Trumpet Loops Pack in F 90 bpm", "Mihai Sorohan", *_CC_BY_3,
                         "Freesound", "https://freesound.org/s/77711/"),
    "libri1": Recording("Ashiel Mystery: A Detective Story, chapter 2", "read by Garth Comira", *_CC_BY_4,
                        *_LIBRISPEECH),
    "libri2": Recording("The Age of Chivalry, chapter 18: Perceval", "read by Anders Lankford", *_CC_BY_4,
                        *_LIBRISPEECH),
    "libri3": Recording("Jane Austen: Sense and Sensibility, chapter 18", "read by Heather Barnett", *_CC_BY_4,
                        *_LIBRISPEECH),
}


def attribution(name: str) -> str:
    """One line of Markdown that credits a recording as its licence asks: title, artist, licence, source, with links."""
    of = _known(name)
    return f"“{of.title}”, {of.artist} ([{of.licence}]({of.licence_url})), from [{of.source}]({of.source_url})"


def recording(name: str, rate: int | None = None, mono: bool = False, start: float = 0.0,
              seconds: float | None = None) -> tuple[Tensor, int]:
    """A recording, or `seconds` of it from `start` seconds on, and its sampling rate in Hz.

    name: a key of RECORDINGS. rate: resample to this rate in Hz (None: as published, 44100 for music, 16000 for
    speech). mono: the mean of the channels. Returns float32 (channels, time) in [-1, 1].
    librosa downloads the file once; with the environment variable LIBROSA_DATA_DIR set before librosa is imported it
    reads (and keeps) it there. Raises FileNotFoundError when it is neither there nor to be had, ValueError for an
    unknown name or a piece outside the recording.
    """
    _known(name)
    if rate is not None:
        check_rate(rate)
    if not math.isfinite(start) or not (seconds is None or math.isfinite(seconds)):
        raise ValueError(f"start is {start} and seconds {seconds}; expected finite numbers")
    header = read_header(_local_file(name))
    first = round(start * header.rate)
    frames = header.frames - first if seconds is None else round(seconds * header.rate)
    if first < 0 or frames < 1 or first + frames > header.frames:
        asked = f"{start} s to " + ("the end" if seconds is None else f"{start + seconds} s")
        raise ValueError(f"recording {name!r} lasts {header.frames / header.rate:.2f} s; {asked} is not inside it")
    audio = read_audio(header, first, frames)
    if mono:
        audio = audio.mean(0, keepdim=True)
    if rate is None or rate == header.rate:
        return audio, header.rate
    return resample(audio, header.rate, rate), int(rate)


def _known(name: str) -> Recording:
    if name not in RECORDINGS:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(RECORDINGS)}")
    return RECORDINGS[name]


def _local_file(name: str) -> Path:
    """The recording's file in its best quality, downloaded if need be."""
    import librosa  # on demand: it takes seconds to import
    try:
        return Path(librosa.ex(name, hq=True))
    except (OSError, ValueError) as error:         # no network, a read-only folder, a file with another hash
        raise FileNotFoundError(
            f"recording {name!r} is not on this machine and librosa could not download it ({type(error).__name__}: "
            f"{error}). Connect to the internet once, or set LIBROSA_DATA_DIR to a folder that holds librosa's example "
            "files and restart Python (librosa reads the variable when it is imported)") from error
