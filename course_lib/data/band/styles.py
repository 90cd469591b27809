"""The styles that the band plays, as data: tempo, swing, modes, drum patterns, figures and instruments.

A drum row has 16 characters, one a sixteenth note: x a hit, o a soft hit, a digit the chance in ten of a hit, . a rest.
Instruments are General MIDI program numbers counted from 0.
"""

from dataclasses import dataclass

# General MIDI percussion keys
KICK, SIDE_STICK, SNARE, CLAP = 36, 37, 38, 39
CLOSED_HAT, PEDAL_HAT, OPEN_HAT = 42, 44, 46
LOW_FLOOR_TOM, LOW_TOM, LOW_MID_TOM, HIGH_MID_TOM = 43, 45, 47, 48
CRASH, RIDE, TAMBOURINE, CRASH_2, MARACAS = 49, 51, 54, 57, 70

# General MIDI drum kits (programs of bank 128)
STANDARD_KIT, ROOM_KIT, POWER_KIT, ELECTRONIC_KIT, TR808_KIT, JAZZ_KIT, BRUSH_KIT = 0, 8, 16, 24, 25, 32, 40

# Programs that give no good melody in the soundfonts used here: an octave or more away from the written pitch, with
# several pitches at once, or out of tune (celesta, glockenspiel, tubular bells, the organs, guitar harmonics, timpani,
# orchestra hit, shakuhachi, whistle, and the sound effects fifths lead, soundtrack, crystal).
UNSUITABLE_FOR_MELODY = frozenset({8, 9, 14, 16, 17, 18, 31, 47, 55, 77, 78, 86, 97, 98})
LAST_MELODIC_PROGRAM = 111     # from 112 on General MIDI has percussion and sound effects

# first program of a family -> tag; the exceptions stand in PROGRAM_TAGS
PROGRAM_FAMILIES = (
    (0, "piano"), (8, "mallets"), (16, "organ"), (24, "acoustic guitar"), (26, "electric guitar"),
    (29, "distorted guitar"), (31, "electric guitar"), (32, "bass"), (40, "strings"), (52, "choir"),
    (55, "orchestra hit"), (56, "brass"), (64, "reeds"), (72, "flute"), (80, "synth lead"), (88, "synth pad"),
    (96, "synth effects"), (104, "plucked folk"), (112, "percussion"),
)
PROGRAM_TAGS = {
    4: "electric piano", 5: "electric piano", 6: "harpsichord", 7: "clavinet", 21: "accordion", 22: "harmonica",
    23: "accordion", 46: "harp", 47: "timpani", 105: "banjo", 109: "bagpipe", 110: "strings", 111: "reeds",
}
BASS_TAGS = {32: "acoustic bass", 43: "acoustic bass",
             38: "synth bass", 39: "synth bass", 81: "synth bass", 87: "synth bass"}
DISTORTED_GUITAR_PROGRAMS = (29, 30)


@dataclass(frozen=True)
class Style:
    """What makes a style: every tuple lists what the composer may choose from (twice = twice as likely)."""

    tempo: tuple[float, float]                 # beats per minute, lowest and highest
    modes: tuple[str, ...]                     # names in harmony.MODES
    kits: tuple[int, ...]
    drums: tuple[dict[int, str], ...]          # patterns of one bar: percussion key -> row of 16 steps
    bass_figures: tuple[str, ...]              # names in figures.BASS_FIGURES
    comp_figures: tuple[str, ...]              # names in figures.COMP_FIGURES
    bass: tuple[int, ...]
    comp: tuple[int, ...]
    pad: tuple[int, ...]
    lead: tuple[int, ...]
    sevenths: bool = False                     # chords always carry their seventh
    swing: float = 0.0                         # how much later the off-beats come, in sixteenths
    swung_steps: int = 1                       # 1: the off-beat sixteenths swing, 2: the off-beat eighths


STYLES = {
    "rock": Style(
        tempo=(100, 150), modes=("major", "minor", "mixolydian"), kits=(STANDARD_KIT, ROOM_KIT, POWER_KIT),
        drums=(
            {KICK: "x.....x.x.......", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x..x..x.x..x....", SNARE: "....x..o....x..o", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x.x...x.x.x.....", SNARE: "....x.......x...", RIDE: "x.x.x.x.x.x.x.x."},
        ),
        bass_figures=("eighths", "root"), comp_figures=("power eighths", "strum"),
        bass=(33, 34), comp=(29, 30, 27), pad=(16, 18, 0, 48), lead=(29, 30, 27),
    ),
    "pop": Style(
        tempo=(90, 128), modes=("major", "major", "minor"), kits=(STANDARD_KIT, ROOM_KIT, ELECTRONIC_KIT),
        drums=(
            {KICK: "x.......x.x.....", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x..x....x.x.....", SNARE: "....x.......x...",
             CLAP: "....x.......x...", CLOSED_HAT: "xoxoxoxoxoxoxoxo"},
            {KICK: "x...x...x...x...", SNARE: "....x.......x...", CLOSED_HAT: "..x...x...x...x."},
        ),
        bass_figures=("root", "eighths", "syncopated"), comp_figures=("strum", "arpeggio", "block"),
        bass=(33, 34, 38, 39), comp=(0, 1, 25, 27, 4), pad=(48, 89, 50, 90), lead=(27, 73, 80, 11),
    ),
    "ballad": Style(
        tempo=(58, 84), modes=("major", "major", "minor"), kits=(STANDARD_KIT, ROOM_KIT, BRUSH_KIT),
        drums=(
            {KICK: "x.......x..2....", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x.........x.....", SIDE_STICK: "....x.......x...", CLOSED_HAT: "x...x...x...x..."},
        ),
        bass_figures=("root", "long"), comp_figures=("arpeggio", "block"),
        bass=(32, 33, 35), comp=(0, 24, 25, 4), pad=(48, 49, 89), lead=(73, 40, 65, 68),
    ),
    "funk": Style(
        tempo=(92, 118), modes=("dorian", "minor"), kits=(STANDARD_KIT, ROOM_KIT), swing=0.08, sevenths=True,
        drums=(
            {KICK: "x.x...x...x..x..", SNARE: "....x..o.o..x..o", CLOSED_HAT: "xoxoxoxoxoxoxoxo"},
            {KICK: "x..x..x....x..x.", SNARE: "....x.o.o...x.o.", CLOSED_HAT: "x.xxx.x.x.xxx.x."},
        ),
        bass_figures=("funk",), comp_figures=("scratch", "stab"),
        bass=(36, 37, 33), comp=(27, 28, 7, 4), pad=(16, 61, 17), lead=(61, 65, 56, 81),
    ),
    "disco": Style(
        tempo=(112, 126), modes=("minor", "dorian", "major"), kits=(STANDARD_KIT, ELECTRONIC_KIT), sevenths=True,
        drums=(
            {KICK: "x...x...x...x...", SNARE: "....x.......x...",
             OPEN_HAT: "..x...x...x...x.", CLOSED_HAT: "x.ox.xoxx.ox.xox"},
            {KICK: "x...x...x...x...", CLAP: "....x.......x...", OPEN_HAT: "..x...x...x...x."},
        ),
        bass_figures=("octaves",), comp_figures=("scratch", "stab", "block"),
        bass=(33, 38, 39), comp=(27, 0, 4), pad=(48, 50, 51), lead=(61, 62, 81),
    ),
    "house": Style(
        tempo=(118, 130), modes=("minor", "minor", "dorian"), kits=(ELECTRONIC_KIT, TR808_KIT),
        swing=0.04, sevenths=True,
        drums=(
            {KICK: "x...x...x...x...", CLAP: "....x.......x...",
             OPEN_HAT: "..x...x...x...x.", CLOSED_HAT: "oooooooooooooooo"},
            {KICK: "x...x...x...x..2", CLAP: "....x.......x..2",
             CLOSED_HAT: "..x...x...x...x.", MARACAS: "xoxxoxxoxoxxoxxo"},
        ),
        bass_figures=("off-beat", "syncopated"), comp_figures=("stab", "sixteenth arpeggio"),
        bass=(38, 39, 87), comp=(4, 90, 81, 0), pad=(89, 50, 94, 95), lead=(80, 81, 11),
    ),
    "hiphop": Style(
        tempo=(76, 98), modes=("minor", "dorian"), kits=(ELECTRONIC_KIT, TR808_KIT, STANDARD_KIT),
        swing=0.12, sevenths=True,
        drums=(
            {KICK: "x..x......x..3..", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x.....xx..x.....", CLAP: "....x.......x...", CLOSED_HAT: "x.xxx.x.x.x.xxxx"},
        ),
        bass_figures=("long", "syncopated"), comp_figures=("block", "arpeggio", "stab"),
        bass=(39, 38, 35), comp=(4, 0, 24, 11), pad=(48, 92, 50), lead=(73, 75, 80, 56),
    ),
    "reggae": Style(
        tempo=(66, 88), modes=("minor", "major"), kits=(STANDARD_KIT, ROOM_KIT), swing=0.1,
        drums=(
            {KICK: "........x.......", SIDE_STICK: "........x.......", CLOSED_HAT: "x.x.x.xox.x.x.xo"},
            {KICK: "x...x...x...x...", SIDE_STICK: "....x.......x...", CLOSED_HAT: "x.xox.x.x.xox.x."},
        ),
        bass_figures=("dub",), comp_figures=("skank",),
        bass=(33, 32, 39), comp=(27, 28, 0, 17), pad=(16, 17, 61), lead=(22, 56, 57),
    ),
    "bossa": Style(
        tempo=(112, 140), modes=("major", "minor", "dorian"), kits=(STANDARD_KIT, JAZZ_KIT, BRUSH_KIT), sevenths=True,
        drums=({KICK: "x..xx..xx..xx..x", SIDE_STICK: "x..x..x...x..x..", CLOSED_HAT: "xxxxxxxxxxxxxxxx"},),
        bass_figures=("bossa",), comp_figures=("bossa",),
        bass=(32, 35), comp=(24, 0, 26), pad=(49, 89, 4), lead=(73, 65, 66, 11, 24),
    ),
    "swing": Style(
        tempo=(120, 180), modes=("dorian", "major"), kits=(JAZZ_KIT, BRUSH_KIT),
        swing=0.6, swung_steps=2, sevenths=True,
        drums=({RIDE: "x...x.x.x...x.x.", PEDAL_HAT: "....x.......x...",
                KICK: "3..2..3...2...3.", SNARE: "...2..2....3..2."},),
        bass_figures=("walking",), comp_figures=("charleston",),
        bass=(32, 43), comp=(0, 26, 11), pad=(61, 49, 16), lead=(65, 66, 56, 59, 71),
    ),
    "metal": Style(
        tempo=(120, 170), modes=("minor", "minor", "phrygian"), kits=(POWER_KIT, STANDARD_KIT),
        drums=(
            {KICK: "xxxxx.x.xxxxx.x.", SNARE: "....x.......x...", CLOSED_HAT: "x...x...x...x..."},
            {KICK: "x.xxx.xxx.xxx.xx", SNARE: "....x.......x...", RIDE: "x...x...x...x..."},
        ),
        bass_figures=("eighths",), comp_figures=("chug", "power eighths"),
        bass=(34, 33), comp=(30, 30, 29), pad=(48, 52, 30), lead=(30, 29, 81),
    ),
    "synth": Style(
        tempo=(96, 124), modes=("minor",), kits=(ELECTRONIC_KIT, TR808_KIT, POWER_KIT),
        drums=(
            {KICK: "x...x...x...x...", SNARE: "....x.......x...", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x.....x...x.....", SNARE: "....x.......x...", CLOSED_HAT: "xoxoxoxoxoxoxoxo"},
        ),
        bass_figures=("eighths", "octaves"), comp_figures=("sixteenth arpeggio", "block"),
        bass=(38, 39, 81), comp=(81, 90, 80, 88), pad=(50, 89, 94, 51), lead=(80, 81, 84),
    ),
    "country": Style(
        tempo=(96, 140), modes=("major", "major", "mixolydian"), kits=(STANDARD_KIT, ROOM_KIT, BRUSH_KIT), swing=0.06,
        drums=(
            {KICK: "x.......x.......", SNARE: "....x..o....x..o", CLOSED_HAT: "x.x.x.x.x.x.x.x."},
            {KICK: "x.......x.......", SIDE_STICK: "..x...x...x...x.", CLOSED_HAT: "..x...x...x...x."},
        ),
        bass_figures=("two beat",), comp_figures=("boom-chick", "strum"),
        bass=(32, 33), comp=(25, 24, 105), pad=(110, 21, 48), lead=(110, 105, 22, 25),
    ),
    "folk": Style(
        tempo=(80, 120), modes=("major", "minor", "mixolydian"), kits=(BRUSH_KIT, STANDARD_KIT),
        drums=(
            {KICK: "x.......x.......", MARACAS: "x.x.x.x.x.x.x.x.", TAMBOURINE: "....x.......x..."},
            {KICK: "x.....x.x.......", SIDE_STICK: "....x.......x...", TAMBOURINE: "..x...x...x...x."},
        ),
        bass_figures=("two beat", "root"), comp_figures=("arpeggio", "strum"),
        bass=(32, 35, 42), comp=(24, 25, 46, 0), pad=(49, 40, 21), lead=(40, 73, 74, 71, 110),
    ),
}


def instrument_tag(program: int) -> str:
    """The tag of an instrument by its General MIDI program (0..127), for example "electric guitar"."""
    if not 0 <= program <= 127:
        raise ValueError(f"program is {program}; General MIDI has programs 0 to 127")
    return PROGRAM_TAGS.get(program) or [tag for first, tag in PROGRAM_FAMILIES if first <= program][-1]


def bass_tag(program: int) -> str:
    """The tag of an instrument that plays the bass line."""
    if 33 <= program <= 37:
        return "electric bass"
    return BASS_TAGS.get(program) or instrument_tag(program)


def kit_tag(kit: int) -> str:
    """The tag of a drum kit."""
    return "electronic drums" if kit in (ELECTRONIC_KIT, TR808_KIT) else "drums"
