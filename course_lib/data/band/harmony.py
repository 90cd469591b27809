"""Keys, scales, chords and voicings: the music theory that the composer stands on.

Pitches are MIDI numbers (60 = middle C), pitch classes 0..11 (0 = C), scale degrees count from 0 (the tonic) and go on
into the next octave: degree 7 is the tonic an octave higher.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

# mode -> semitones above the tonic
MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
}
# mode -> the degree of a major scale on which it starts: D dorian has the notes of C major from D to D
DEGREE_IN_MAJOR = {"major": 0, "dorian": 1, "phrygian": 2, "mixolydian": 4, "minor": 5}
# mode -> progressions, one scale degree a bar
PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (5, 3, 0, 4),
              (0, 2, 3, 4), (1, 4, 0, 5), (0, 0, 3, 4), (3, 4, 2, 5)),
    "minor": ((0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 6, 2), (0, 3, 4, 4), (5, 6, 0, 0), (0, 5, 3, 4)),
    "dorian": ((0, 3, 0, 3), (0, 0, 3, 3), (1, 4, 0, 0), (0, 6, 3, 0)),
    "mixolydian": ((0, 6, 3, 0), (0, 3, 6, 3), (0, 4, 3, 3)),
    "phrygian": ((0, 1, 0, 6), (0, 0, 1, 5), (0, 5, 6, 1)),
}
# intervals above the root -> what follows the root's name in a chord symbol
CHORD_SUFFIXES = {
    (0, 4, 7): "", (0, 3, 7): "m", (0, 3, 6): "dim",
    (0, 4, 7, 11): "maj7", (0, 4, 7, 10): "7", (0, 3, 7, 10): "m7", (0, 3, 6, 10): "m7b5",
}
LETTERS = "CDEFGAB"
NATURAL_PITCH_CLASSES = (0, 2, 4, 5, 7, 9, 11)     # of the letters
MAJOR_KEYS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")     # at most six accidentals each
ACCIDENTALS = {-1: "b", 0: "", 1: "#"}


@dataclass(frozen=True)
class Key:
    """A tonic (pitch class 0..11) and a mode (one of MODES)."""

    tonic: int
    mode: str

    @classmethod
    def parse(cls, name: str) -> "Key":
        """The key of a name such as "F# minor" or "D dorian"."""
        for mode in MODES:
            for tonic in range(12):
                if cls(tonic, mode).name == name:
                    return cls(tonic, mode)
        raise ValueError(f"no key is called {name!r}; expected a tonic and a mode, such as 'Eb major' or 'F# minor'")

    @cached_property
    def scale(self) -> tuple[int, ...]:
        """The seven pitch classes, tonic first."""
        return tuple((self.tonic + step) % 12 for step in MODES[self.mode])

    @property
    def note_names(self) -> tuple[str, ...]:
        """The seven notes as they are written in this key: every letter once, so F# minor has a G#, never an Ab."""
        major = MAJOR_KEYS[(self.tonic - MODES["major"][DEGREE_IN_MAJOR[self.mode]]) % 12]
        first = LETTERS.index(major[0]) + DEGREE_IN_MAJOR[self.mode]
        names = []
        for degree, pitch_class in enumerate(self.scale):
            letter = (first + degree) % 7
            accidental = (pitch_class - NATURAL_PITCH_CLASSES[letter] + 6) % 12 - 6
            names.append(LETTERS[letter] + ACCIDENTALS[accidental])
        return tuple(names)

    @property
    def name(self) -> str:
        """For example "F# minor"."""
        return f"{self.note_names[0]} {self.mode}"

    def semitones(self, degree: int) -> int:
        """How far a scale degree lies above the tonic, in semitones; degrees below 0 lie below it."""
        return 12 * (degree // 7) + MODES[self.mode][degree % 7]

    def chord(self, degree: int, seventh: bool = False) -> tuple[int, ...]:
        """Pitch classes of the chord of stacked thirds on a degree, root first: three notes, four with the seventh."""
        return tuple(self.scale[(degree + third) % 7] for third in ((0, 2, 4, 6) if seventh else (0, 2, 4)))

    def chord_name(self, degree: int, seventh: bool = False) -> str:
        """The chord's symbol, for example "Am7"."""
        root, *others = self.chord(degree, seventh)
        intervals = (0, *((pitch_class - root) % 12 for pitch_class in others))
        return self.note_names[degree % 7] + CHORD_SUFFIXES[intervals]


def nearest_pitch(pitch_class: int, centre: int) -> int:
    """The MIDI pitch of this pitch class that lies nearest to `centre`, from six semitones below to five above."""
    return centre + (pitch_class - centre + 6) % 12 - 6


@lru_cache(maxsize=4096)
def voice_lead(pitch_classes: tuple[int, ...], previous: tuple[int, ...] | None, centre: int) -> tuple[int, ...]:
    """Place a chord's notes so that the hand moves as little as it can from the chord before.

    pitch_classes: of the chord, root first. previous: MIDI pitches of the last voicing, None for the first chord.
    centre: the MIDI pitch around which the part lives; it keeps long songs from drifting away.
    Returns ascending MIDI pitches within an octave, one per pitch class.
    """
    first = tuple(sorted(nearest_pitch(pitch_class, centre) for pitch_class in pitch_classes))
    if previous is None:
        return first
    voicings = [first]
    for _ in first:                # inversions upwards: the lowest note moves above the others; and downwards
        voicings.append((*voicings[-1][1:], voicings[-1][0] + 12))
        voicings.insert(0, (voicings[0][-1] - 12, *voicings[0][:-1]))

    def cost(voicing: tuple[int, ...]) -> float:
        motion = sum(min(abs(pitch - old) for old in previous) for pitch in voicing)
        drift = abs(sum(voicing) / len(voicing) - centre)
        return motion + 0.5 * drift

    return min(voicings, key=lambda voicing: (cost(voicing), voicing))
