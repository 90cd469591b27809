"""What a song is before it sounds: parts of notes, with the harmony and beat they were written to."""

from dataclasses import dataclass, field
from typing import NamedTuple

# Raise it with every change that gives the same seed other notes or other audio: cached songs of another version are
# never mixed with new ones.
GENERATOR_VERSION = 1

class Note(NamedTuple):
    """One note of a part."""

    onset: float      # seconds from the start of the song
    duration: float   # seconds
    pitch: int        # MIDI number; for drums the General MIDI percussion key
    velocity: int     # 1..127


@dataclass
class Part:
    """What one instrument or voice plays."""

    stem: str                 # "drums", "bass", "other" or "vocals"
    name: str                 # the tag, for example "distorted guitar"
    program: int              # General MIDI program 0..127; drums: the kit; vocals: voice type 0 low, 1 middle, 2 high
    notes: list[Note]
    role: str                 # "drums", "bass", "comp", "pad", "lead" or "backing"

    @property
    def six_stem(self) -> str:
        """The stem in the six-stem split: other parts on guitar or piano programs have stems of their own."""
        if self.stem != "other":
            return self.stem
        return "piano" if 0 <= self.program <= 5 else "guitar" if 24 <= self.program <= 31 else "other"


class Chord(NamedTuple):
    """A chord that sounds from `onset` until the next one."""

    onset: float              # seconds
    name: str                 # for example "Am7"
    pitch_classes: tuple[int, ...]   # 0..11, root first


@dataclass
class Song:
    """A composed song: everything that `song.json` says of it, and the notes."""

    seed: int
    style: str
    bpm: float
    key: str                  # for example "A minor", "D dorian"
    seconds: float
    parts: list[Part] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)       # seconds
    downbeats: list[float] = field(default_factory=list)   # seconds
    chords: list[Chord] = field(default_factory=list)
    sections: list[tuple[float, str]] = field(default_factory=list)   # (onset in seconds, "intro", "A" or "B")

    def tags(self) -> list[str]:
        """What can be heard, sorted: "acoustic guitar", "drums", "vocals" and so on."""
        return sorted({part.name for part in self.parts})
