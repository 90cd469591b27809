"""What bass and accompaniment play within one bar: small figures, each a function of the bar's harmony.

Time is counted in steps of a sixteenth note, 0..16 in a bar of four beats; pitches are MIDI numbers.
"""

from typing import NamedTuple

import numpy as np


class BassBar(NamedTuple):
    """The bass's harmony in one bar."""

    root: int
    third: int
    fifth: int
    next_root: int      # where the next bar begins
    approach: int       # a semitone or a tone beside next_root


class BassNote(NamedTuple):
    """One note of a bass figure."""

    step: float
    length: float       # steps
    pitch: int


class CompBar(NamedTuple):
    """An accompanying instrument's harmony in one bar."""

    voicing: tuple[int, ...]  # the chord's pitches, ascending
    bass_root: int             # the root in the guitar's low octave, for power chords
    bpm: float


class Strike(NamedTuple):
    """Notes struck together (or strummed) by an accompanying instrument."""

    step: float
    length: float       # steps
    pitches: tuple[int, ...]
    velocity: int = 82
    spread: float = 0.0     # seconds between one string and the next
    upstroke: bool = False  # strummed from the highest string


# ---- bass ----------------------------------------------------------------------------------------------------------


def bass_eighths(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Driving eighths on the root, sometimes walking to the next chord at the end."""
    last = bar.approach if rng.random() < 0.3 else bar.root
    return [BassNote(step, 1.7, bar.root) for step in range(0, 14, 2)] + [BassNote(14, 1.7, last)]


def bass_root(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Root on the strong beats with a push before the third."""
    notes = [BassNote(0, 5, bar.root), BassNote(6, 1.5, bar.root), BassNote(8, 5, bar.root)]
    return notes + ([BassNote(14, 1.8, bar.approach)] if rng.random() < 0.5 else [])


def bass_long(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """A long root and one answer."""
    return [BassNote(0, 9, bar.root), BassNote(10, 5, int(rng.choice([bar.root, bar.fifth, bar.root + 12])))]


def bass_two_beat(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Root and fifth in turn, the fifth below where the root lies high."""
    fifth = bar.fifth - 12 if bar.fifth > 44 else bar.fifth
    return [BassNote(0, 6, bar.root), BassNote(8, 6, fifth)]


def bass_syncopated(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Groups of three sixteenths across the beat."""
    fourth, last = int(rng.choice([bar.fifth, bar.root])), int(rng.choice([bar.third, bar.root + 12]))
    return [BassNote(0, 2.5, bar.root), BassNote(3, 2.5, bar.root), BassNote(6, 3, bar.root),
            BassNote(10, 2, fourth), BassNote(13, 2.5, last)]


def bass_funk(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Short roots with popped octaves."""
    answer = int(rng.choice([bar.fifth, bar.third]))
    return [BassNote(0, 1.6, bar.root), BassNote(3, 0.8, bar.root + 12), BassNote(6, 1, bar.root),
            BassNote(7, 0.8, bar.root), BassNote(10, 1.5, answer), BassNote(12, 0.8, bar.root + 12),
            BassNote(14, 1.5, bar.approach)]


def bass_octaves(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Eighths that leap an octave on every off-beat."""
    return [BassNote(step, 1.6, bar.root + (12 if step % 4 == 2 else 0)) for step in range(0, 16, 2)]


def bass_off_beat(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Between the kicks of a four-on-the-floor beat."""
    octaves = [12 if rng.random() < 0.15 else 0 for _ in range(4)]
    between = [BassNote(step, 1.7, bar.root + up) for step, up in zip((2, 6, 10, 14), octaves)]
    return between + [BassNote(15, 0.8, bar.root)]


def bass_dub(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """A rolling line with room between its notes."""
    last = int(rng.choice([bar.root, bar.approach]))
    return [BassNote(0, 2, bar.root), BassNote(3, 1.5, bar.root), BassNote(6, 1.5, bar.third),
            BassNote(8, 2, bar.fifth), BassNote(11, 1.2, bar.root), BassNote(14, 1.5, last)]


def bass_bossa(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Root and fifth, the next root anticipated."""
    return [BassNote(0, 5, bar.root), BassNote(6, 1.6, bar.fifth), BassNote(8, 5, bar.fifth),
            BassNote(14, 1.6, bar.next_root)]


def bass_walking(bar: BassBar, rng: np.random.Generator) -> list[BassNote]:
    """Quarters through the chord that lead into the next one."""
    return [BassNote(0, 3.8, bar.root), BassNote(4, 3.8, bar.third), BassNote(8, 3.8, bar.fifth),
            BassNote(12, 3.8, bar.approach)]


BASS_FIGURES = {
    "eighths": bass_eighths, "root": bass_root, "long": bass_long, "two beat": bass_two_beat,
    "syncopated": bass_syncopated, "funk": bass_funk, "octaves": bass_octaves, "off-beat": bass_off_beat,
    "dub": bass_dub, "bossa": bass_bossa, "walking": bass_walking,
}

# ---- accompaniment: `variant` picks one of the figure's rhythms, and stays the same throughout a section -----------

CHUG_RHYTHMS = ("x.xxx.xxx.xxx.xx", "xxx.xxx.xxx.xxxx", "x..xx..xx.x.x.x.")
SCRATCH_RHYTHMS = ("x..xx.x.x..xx.x.", ".xx..xx..xx..xxx", "x.x..x.xx.x..x.x")
STAB_RHYTHMS = ((0, 3, 6), (2, 6, 10, 14), (3, 6, 11), (0, 6, 12))
BOSSA_RHYTHMS = ((0, 3, 6, 10, 13), (0, 4, 7, 10, 14))
CHARLESTON_RHYTHMS = ((0, 6), (2, 10), (6, 14), (0, 6, 10))
STRUM_STEPS = ((0, False), (4, False), (6, True), (10, True), (12, False), (14, True))     # (step, upstroke)


def _hits(row: str) -> list[int]:
    """The steps of a row that hold an x."""
    return [step for step, mark in enumerate(row) if mark == "x"]


def _power_chord(bar: CompBar) -> tuple[int, ...]:
    """Root, fifth and octave in the guitar's low register."""
    return (bar.bass_root, bar.bass_root + 7, bar.bass_root + 12)


def comp_block(bar: CompBar, variant: int) -> list[Strike]:
    """The chord held for two halves."""
    return [Strike(0, 7.6, bar.voicing), Strike(8, 7.6, bar.voicing, 76)]


def comp_held_power(bar: CompBar, variant: int) -> list[Strike]:
    """One power chord that rings through the bar."""
    return [Strike(0, 15, _power_chord(bar), 90, 0.015)]


def comp_strum(bar: CompBar, variant: int) -> list[Strike]:
    """Folk strumming: down on the beats, up between them without the lowest string."""
    low = (bar.bass_root + 12,) if bar.bass_root + 12 < bar.voicing[0] else ()
    return [Strike(step, 2.2, bar.voicing if up else low + bar.voicing, 70 if up else 86, 0.014, up)
            for step, up in STRUM_STEPS]


def comp_power_eighths(bar: CompBar, variant: int) -> list[Strike]:
    """Power chords in eighths."""
    return [Strike(step, 1.8, _power_chord(bar), 92 if step % 8 == 0 else 80, 0.007) for step in range(0, 16, 2)]


def comp_chug(bar: CompBar, variant: int) -> list[Strike]:
    """Muted power chords in sixteenths."""
    return [Strike(step, 0.8, _power_chord(bar), 94) for step in _hits(CHUG_RHYTHMS[variant % len(CHUG_RHYTHMS)])]


def comp_arpeggio(bar: CompBar, variant: int, step_length: int = 2) -> list[Strike]:
    """The chord broken up and down in eighths."""
    order = bar.voicing + (bar.voicing[0] + 12,) + bar.voicing[::-1][:2]
    return [Strike(step, 2.2 * step_length, (order[index % len(order)],), 78)
            for index, step in enumerate(range(0, 16, step_length))]


def comp_sixteenth_arpeggio(bar: CompBar, variant: int) -> list[Strike]:
    """The chord broken up and down in sixteenths."""
    return comp_arpeggio(bar, variant, step_length=1)


def comp_scratch(bar: CompBar, variant: int) -> list[Strike]:
    """Short strokes in sixteenths."""
    rhythm = SCRATCH_RHYTHMS[variant % len(SCRATCH_RHYTHMS)]
    return [Strike(step, 0.7, bar.voicing, 78, 0.004) for step in _hits(rhythm)]


def comp_stab(bar: CompBar, variant: int) -> list[Strike]:
    """Short chords off the beat."""
    return [Strike(step, 1.3, bar.voicing, 86) for step in STAB_RHYTHMS[variant % len(STAB_RHYTHMS)]]


def comp_skank(bar: CompBar, variant: int) -> list[Strike]:
    """Chords on the second and fourth beat, or on every off-beat eighth where the song is fast enough."""
    return [Strike(step, 1.1, bar.voicing, 86) for step in ((4, 12) if bar.bpm < 76 else (2, 6, 10, 14))]


def comp_bossa(bar: CompBar, variant: int) -> list[Strike]:
    """The guitar's clave."""
    return [Strike(step, 2, bar.voicing, 76) for step in BOSSA_RHYTHMS[variant % len(BOSSA_RHYTHMS)]]


def comp_charleston(bar: CompBar, variant: int) -> list[Strike]:
    """Sparse chords of a swing pianist."""
    return [Strike(step, 2, bar.voicing, 78) for step in CHARLESTON_RHYTHMS[variant % len(CHARLESTON_RHYTHMS)]]


def comp_boom_chick(bar: CompBar, variant: int) -> list[Strike]:
    """Chords between the bass notes, each with a lighter upstroke."""
    return [Strike(step, 1.6, bar.voicing, 66 if step % 4 else 84, 0.012, step % 4 == 2) for step in (4, 6, 12, 14)]


COMP_FIGURES = {
    "block": comp_block, "held power chord": comp_held_power, "strum": comp_strum, "power eighths": comp_power_eighths,
    "chug": comp_chug, "arpeggio": comp_arpeggio, "sixteenth arpeggio": comp_sixteenth_arpeggio,
    "scratch": comp_scratch, "stab": comp_stab, "skank": comp_skank, "bossa": comp_bossa,
    "charleston": comp_charleston, "boom-chick": comp_boom_chick,
}
