"""The same notes on other instruments, as pairs for timbre translation.

Two renderings of one part are aligned to the sample, so each is the ground truth for a translation of the other.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from course_lib.data.band import mixer
from course_lib.data.band.song import Song
from course_lib.data.band.styles import LAST_MELODIC_PROGRAM, UNSUITABLE_FOR_MELODY, bass_tag, instrument_tag


def translate(song: Song, part: int | str, program: int) -> Song:
    """The same song with a part, or all parts of a stem, played on another instrument.

    part: a place in song.parts, or "bass", "other", "guitar" or "piano" for all parts of that stem. program: General
    MIDI, 0..111 without those in UNSUITABLE_FOR_MELODY: they sound out of tune, in another octave or as several notes.
    Every note keeps its time, length, pitch and velocity. ValueError for drums and vocals, which have no program to
    change, for a part that the song lacks, and for a refused program.
    """
    check_program(program)
    chosen = _places(song, part)
    parts = []
    for place, old in enumerate(song.parts):
        name = bass_tag(program) if old.stem == "bass" else instrument_tag(program)
        parts.append(replace(old, program=program, name=name) if place in chosen else old)
    return replace(song, parts=parts)


def translation_pair(song: Song, part: int, program: int, rate: int = 16000,
                     soundfont: Path | str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One part alone as it was composed, and the same notes on another instrument.

    part: a place in song.parts. program: as for `translate`. rate: Hz.
    Returns two float32 arrays (1, time) of equal length in [-1, 1], scaled alike, without reverb.
    """
    font = Path(soundfont) if soundfont else None
    songs = (song, translate(song, part, program))
    takes = [mixer.render_part(each.parts[part], each, rate, font, index=part).mean(0, keepdims=True) for each in songs]
    scale = 0.9 / max(float(np.abs(take).max()) for take in takes)
    source, target = (np.float32(scale) * take.astype(np.float32) for take in takes)
    return source, target


def check_program(program: int) -> None:
    """ValueError unless melodies keep their pitch on this General MIDI program."""
    if not 0 <= program <= LAST_MELODIC_PROGRAM or program in UNSUITABLE_FOR_MELODY:
        refused = ", ".join(str(number) for number in sorted(UNSUITABLE_FOR_MELODY))
        raise ValueError(f"program is {program}; expected 0 to {LAST_MELODIC_PROGRAM} without {refused}, which do not "
                         "keep the written pitch")


def _places(song: Song, part: int | str) -> list[int]:
    """The places in song.parts that `part` names."""
    if isinstance(part, str):
        places = [place for place, each in enumerate(song.parts) if part in (each.stem, each.six_stem)]
        if not places:
            stems = sorted({name for each in song.parts for name in (each.stem, each.six_stem)})
            raise ValueError(f"the song has no {part!r}; its stems are {', '.join(stems)}")
    elif 0 <= part < len(song.parts):
        places = [part]
    else:
        raise ValueError(f"part is {part}; the song has parts 0 to {len(song.parts) - 1}")
    if any(song.parts[place].stem in ("drums", "vocals") for place in places):
        raise ValueError("drums and vocals have no instrument to change; translate bass, other, guitar or piano")
    return places
