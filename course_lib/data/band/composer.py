"""A seeded composer: key, tempo, form and chords first, then drums, bass, accompaniment, pad, singer and a solo.

>>> song = compose(seed=7, seconds=20.0)
>>> [part.name for part in song.parts]

A song is planned as a lead sheet (what a band has on its music stands); each function `write_...` is one player who
reads it and returns a `Part`. Everything random comes from one generator, seeded by (seed, length, attempt).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from course_lib.data.band.figures import BASS_FIGURES, COMP_FIGURES, BassBar, CompBar, Strike
from course_lib.data.band.harmony import PROGRESSIONS, Key, nearest_pitch, voice_lead
from course_lib.data.band.song import Chord, Note, Part, Song
from course_lib.data.band.styles import (
    CLOSED_HAT,
    CRASH,
    CRASH_2,
    DISTORTED_GUITAR_PROGRAMS,
    HIGH_MID_TOM,
    KICK,
    LOW_FLOOR_TOM,
    LOW_MID_TOM,
    LOW_TOM,
    OPEN_HAT,
    RIDE,
    SNARE,
    STYLES,
    Style,
    bass_tag,
    instrument_tag,
    kit_tag,
)

SHORTEST_SONG = 2.0          # seconds
STEPS = 16                   # sixteenth notes in a bar of four beats
SECTION_BARS = 4
FORMS = ("AABB", "IABB", "AABA", "ABAB", "IAAB", "BABB")     # sections of four bars: intro, verse, chorus
SECTION_NAMES = {"I": "intro", "A": "A", "B": "B"}
LEAST_SOUNDING = 0.15        # share of the song in which every stem must sound
ATTEMPTS = 200
SHORTEST_NOTE = 0.04         # seconds; later onsets than this before the end are dropped
DRUM_HIT_SECONDS = 0.2       # a drum hit counts as sounding for this long
VOICE_RANGES = ((45, 62), (52, 68), (58, 76))     # MIDI pitches of a low, a middle and a high voice
LEAD_RANGE = (57, 79)
MELODIC_MOVES = (-3, -2, -1, 0, 1, 2, 3, 4)       # scale steps from one melody note to the next, and how likely each is
MOVE_WEIGHTS = (0.05, 0.14, 0.26, 0.14, 0.24, 0.10, 0.04, 0.03)


def compose(seed: int, seconds: float = 20.0, style: str | None = None) -> Song:
    """Compose the song of this seed.

    seed: 0 or more. seconds: length, 2 or more; another length is another song, not a longer one. style: a name in
    STYLES; by default the seeds take the styles in turn, so that any run of 14 seeds holds each of them once.
    Returns a Song whose four stems each sound for at least 15% of the time: it is drawn again until they do, because a
    silent stem has no SDR. The same arguments give the same song. ValueError for arguments outside these ranges.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected a whole number, 0 or more")
    check_seconds(seconds)
    if style is not None and style not in STYLES:
        raise ValueError(f"style is {style!r}; expected one of {', '.join(STYLES)}")
    name = style or list(STYLES)[seed % len(STYLES)]
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, round(seconds * 1000), attempt])
        song = _compose_once(int(seed), float(seconds), name, rng)
        if min(sounding_seconds(song).values()) >= LEAST_SOUNDING * seconds:
            return song
    raise RuntimeError(f"no song with four sounding stems in {ATTEMPTS} attempts (seed {seed}, {seconds:g} s, {name})")


def check_seconds(seconds: float) -> None:
    """ValueError unless `seconds` is a length that a song can have."""
    if not (math.isfinite(seconds) and seconds >= SHORTEST_SONG):
        raise ValueError(f"seconds is {seconds!r}; expected a song's length, {SHORTEST_SONG:g} seconds or more")


def sounding_seconds(song: Song) -> dict[str, float]:
    """For how many seconds of the song at least one note of a stem sounds, for each of the four stems."""
    total = {}
    for stem in ("drums", "bass", "other", "vocals"):
        notes = sorted(note for part in song.parts if part.stem == stem for note in part.notes)
        total[stem], heard_until = 0.0, 0.0
        for note in notes:
            end = min(song.seconds, note.onset + (DRUM_HIT_SECONDS if stem == "drums" else note.duration))
            total[stem] += max(0.0, end - max(note.onset, heard_until))
            heard_until = max(heard_until, end)
    return total


def _compose_once(seed: int, seconds: float, name: str, rng: np.random.Generator) -> Song:
    """One attempt: the lead sheet, then every player in turn."""
    sheet = draw_lead_sheet(STYLES[name], seconds, rng)
    sung = sung_bars(sheet, rng)
    parts = [write_drums(sheet, rng), write_bass(sheet, rng), *write_comping(sheet, rng)]
    if rng.random() < 0.7:
        parts.append(write_pad(sheet, rng))
    vocals = write_vocals(sheet, sung, rng)
    parts.append(vocals)
    if rng.random() < 0.5:
        parts.append(write_backing_vocals(sheet, vocals))
    if rng.random() < 0.65:
        parts.append(write_lead(sheet, sung, rng))
    for part in parts:
        part.notes = _within(part.notes, seconds)
    return Song(
        seed=seed, style=name, bpm=sheet.bpm, key=sheet.key.name, seconds=seconds,
        parts=[part for part in parts if part.notes],
        beats=sheet.beats(), downbeats=sheet.downbeats(), chords=sheet.chord_list(), sections=sheet.section_list(),
    )


# ---- the plan ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LeadSheet:
    """What the whole band agrees on before anyone plays; the lists have one entry a bar."""

    style: Style
    key: Key
    bpm: float
    seconds: float
    first_bar: int               # 0..3: how far into its first section the song begins
    sections: tuple[str, ...]    # "I", "A" or "B"
    degrees: tuple[int, ...]     # scale degree of the bar's chord
    sevenths: bool

    @property
    def bars(self) -> int:
        return len(self.sections)

    @property
    def bar_seconds(self) -> float:
        return 240.0 / self.bpm

    def chord(self, bar: int) -> tuple[int, ...]:
        """The bar's pitch classes, root first."""
        return self.key.chord(self.degrees[bar], self.sevenths)

    def section_bar(self, bar: int) -> int:
        """The bar's place in its section, 0..3."""
        return (bar + self.first_bar) % SECTION_BARS

    def section_at(self, onset: float) -> str:
        """The section that sounds at a time in seconds."""
        return self.sections[min(self.bars - 1, int(onset / self.bar_seconds))]

    def beats(self) -> list[float]:
        """Onsets of all beats within the song, in seconds, to the microsecond."""
        return [round(index * 60.0 / self.bpm, 6) for index in range(math.ceil(self.seconds * self.bpm / 60.0 - 1e-9))]

    def downbeats(self) -> list[float]:
        """Onsets of the bars within the song, in seconds."""
        return self.beats()[::4]

    def chord_list(self) -> list[Chord]:
        """The chords within the song; a chord that stays for several bars is one entry."""
        chords: list[Chord] = []
        for bar, onset in enumerate(self.downbeats()):
            name = self.key.chord_name(self.degrees[bar], self.sevenths)
            if not chords or chords[-1].name != name:
                chords.append(Chord(onset, name, self.chord(bar)))
        return chords

    def section_list(self) -> list[tuple[float, str]]:
        """(onset in seconds, name) of the sections within the song."""
        return [(onset, SECTION_NAMES[self.sections[bar]]) for bar, onset in enumerate(self.downbeats())
                if bar == 0 or self.section_bar(bar) == 0]


def draw_lead_sheet(style: Style, seconds: float, rng: np.random.Generator) -> LeadSheet:
    """Choose key, tempo, form and chords for a song of this length."""
    key = Key(int(rng.integers(12)), _choose(style.modes, rng))
    bpm = float(np.round(rng.uniform(*style.tempo), 1))
    bars = math.ceil(seconds * bpm / 240.0) + 1          # one more than is heard, so that approach notes have a target
    progressions = {section: _choose(PROGRESSIONS[key.mode], rng) for section in "AB"}
    if rng.random() < 0.25:                              # half as many chord changes
        progressions = {section: (p[0], p[0], p[1], p[1]) for section, p in progressions.items()}
    first_bar, form = int(rng.integers(SECTION_BARS)), _choose(FORMS, rng)
    sections = tuple(form[(bar + first_bar) // SECTION_BARS % len(form)] for bar in range(bars))
    degrees = tuple(progressions["B" if section == "B" else "A"][(bar + first_bar) % SECTION_BARS]
                    for bar, section in enumerate(sections))
    sevenths = style.sevenths or rng.random() < 0.15
    return LeadSheet(style, key, bpm, seconds, first_bar, sections, degrees, sevenths)


class PartWriter:
    """Collects one player's notes: from the grid of bars and steps to seconds, with swing and human timing."""

    def __init__(self, sheet: LeadSheet, rng: np.random.Generator, spread: float, delay: float = 0.0,
                 swings: bool = True):
        """spread: standard deviation of the player's timing in seconds; delay: how far behind the beat, in seconds."""
        self.sheet, self.rng, self.spread, self.delay = sheet, rng, spread, delay
        self.swing = sheet.style.swing if swings else 0.0
        self.step_seconds = sheet.bar_seconds / STEPS
        self.notes: list[Note] = []

    def add(self, bar: int, step: float, length: float, pitch: int, velocity: float, after: float = 0.0) -> None:
        """A note at a step (0..16) of a bar, `length` steps long; `after` seconds later than written (strumming)."""
        unit = self.sheet.style.swung_steps
        off_beat = int(step) % (2 * unit) == unit
        onset = (bar * STEPS + step + (self.swing if off_beat else 0.0)) * self.step_seconds
        onset += float(self.rng.normal(0.0, self.spread)) + self.delay + after
        loudness = velocity + float(self.rng.normal(0.0, 5.0)) + (4 if step % 8 == 0 else 0)
        duration = max(SHORTEST_NOTE, length * self.step_seconds)
        self.notes.append(Note(max(0.0, onset), duration, int(pitch), int(min(127, max(12, loudness)))))


# ---- rhythm section ------------------------------------------------------------------------------------------------


def write_drums(sheet: LeadSheet, rng: np.random.Generator) -> Part:
    """A pattern for each section, with fills into new sections, crashes on their first beat and stray kicks."""
    writer = PartWriter(sheet, rng, spread=0.004)
    patterns = {section: _choose(sheet.style.drums, rng) for section in "AB"}
    for bar in range(sheet.bars):
        rows = patterns["B" if sheet.sections[bar] == "B" else "A"]
        if sheet.sections[bar] == "I" and rng.random() < 0.5:
            rows = {drum: row for drum, row in rows.items() if drum not in (KICK, SNARE)}
        fill = sheet.section_bar(bar) == SECTION_BARS - 1 and rng.random() < 0.6
        _drum_pattern(writer, bar, rows, fill)
        if fill:
            _drum_fill(writer, bar)
        if sheet.section_bar(bar) == 0 and rng.random() < 0.5:
            writer.add(bar, 0, 4, _choose((CRASH, CRASH_2), rng), 96)
        if RIDE not in rows and rng.random() < 0.15:
            writer.add(bar, int(rng.integers(STEPS)), 1, KICK, 82)
    kit = _choose(sheet.style.kits, rng)
    return Part("drums", kit_tag(kit), kit, writer.notes, "drums")


def _drum_pattern(writer: PartWriter, bar: int, rows: dict[int, str], fill: bool) -> None:
    """One bar of a pattern; where a fill follows, the last beat leaves it room."""
    rng = writer.rng
    for drum, row in rows.items():
        for step, mark in enumerate(row):
            rests = mark == "." or (mark.isdigit() and rng.random() > int(mark) / 10)
            if rests or (fill and step >= 12 and drum in (SNARE, CLOSED_HAT, RIDE)):
                continue
            velocity = 105 if drum in (KICK, SNARE) else 78
            velocity -= (42 if mark == "o" else 0) + (12 if drum == CLOSED_HAT and step % 4 else 0)
            opens = drum == CLOSED_HAT and step == 14 and rng.random() < 0.12
            writer.add(bar, step, 1, OPEN_HAT if opens else drum, velocity)


def _drum_fill(writer: PartWriter, bar: int) -> None:
    """Snare and toms on the last beat, growing louder."""
    drums = (SNARE, SNARE, HIGH_MID_TOM, LOW_MID_TOM, LOW_TOM, LOW_FLOOR_TOM)
    for step in range(12, 16):
        if writer.rng.random() < 0.85:
            writer.add(bar, step, 1, _choose(drums, writer.rng), 80 + 6 * (step - 12))


def write_bass(sheet: LeadSheet, rng: np.random.Generator) -> Part:
    """One of the style's bass figures on the chords, in a register of its own; it may rest in the intro."""
    writer = PartWriter(sheet, rng, spread=0.005, delay=0.003)
    figure = BASS_FIGURES[_choose(sheet.style.bass_figures, rng)]
    centre = int(rng.integers(36, 41))          # so that no note lies below the bass guitar's low E, MIDI 28
    for bar in range(sheet.bars):
        if sheet.sections[bar] == "I" and rng.random() < 0.4:
            continue
        for note in figure(_bass_bar(sheet, bar, centre, rng), rng):
            if rng.random() < 0.97:
                writer.add(bar, note.step, note.length, note.pitch, 96)
    program = _choose(sheet.style.bass, rng)
    return Part("bass", bass_tag(program), program, _one_at_a_time(writer.notes), "bass")


def _bass_bar(sheet: LeadSheet, bar: int, centre: int, rng: np.random.Generator) -> BassBar:
    """The pitches that a bass figure draws on in this bar."""
    root_class, third_class, fifth_class = sheet.chord(bar)[:3]
    root = nearest_pitch(root_class, centre)
    next_root = nearest_pitch(sheet.chord(min(bar + 1, sheet.bars - 1))[0], centre)
    approach = next_root + _choose((-1, 1, -2, 2), rng)
    third, fifth = root + (third_class - root_class) % 12, root + (fifth_class - root_class) % 12
    return BassBar(root, third, fifth, next_root, approach)


# ---- harmony -------------------------------------------------------------------------------------------------------


def write_comping(sheet: LeadSheet, rng: np.random.Generator) -> list[Part]:
    """One accompanying instrument, or two a fourth apart."""
    layers = 1 + int(rng.random() < 0.8)
    programs = rng.permutation(sorted(set(sheet.style.comp)))[:layers]
    return [_write_comp_layer(sheet, layer, int(program), rng) for layer, program in enumerate(programs)]


def _write_comp_layer(sheet: LeadSheet, layer: int, program: int, rng: np.random.Generator) -> Part:
    """Chords in the style's figure; the first layer plays throughout, the second joins in some sections."""
    writer = PartWriter(sheet, rng, spread=0.008)
    figure = COMP_FIGURES[_comp_figure_name(sheet, layer, program, rng)]
    centre = int(rng.integers(54, 66)) + 5 * layer
    plays_in = "IAB" if layer == 0 else _choose(("B", "AB", "IAB"), rng)
    variants = {section: int(rng.integers(12)) for section in "IAB"}
    voicing = None
    for bar in range(sheet.bars):
        if sheet.sections[bar] not in plays_in:
            continue
        voicing = voice_lead(sheet.chord(bar), voicing, centre)
        comp_bar = CompBar(voicing, nearest_pitch(sheet.chord(bar)[0], 43), sheet.bpm)
        for strike in figure(comp_bar, variants[sheet.sections[bar]]):
            _add_strike(writer, bar, strike)
    return Part("other", instrument_tag(program), program, writer.notes, "comp")


def _comp_figure_name(sheet: LeadSheet, layer: int, program: int, rng: np.random.Generator) -> str:
    """A figure that suits the instrument: distorted guitars play power chords, second layers stay simple."""
    own = _choose(sheet.style.comp_figures, rng)
    if program in DISTORTED_GUITAR_PROGRAMS:
        return _choose(("power eighths", "chug" if "chug" in sheet.style.comp_figures else "held power chord"), rng)
    if own in ("power eighths", "chug"):             # power chords belong to distorted guitars
        own = "strum" if 24 <= program <= 31 else "block"
    return own if layer == 0 else _choose(("block", "arpeggio", own), rng)


def _add_strike(writer: PartWriter, bar: int, strike: Strike) -> None:
    """Write down a chord, string by string."""
    pitches = sorted(strike.pitches, reverse=strike.upstroke)
    for string, pitch in enumerate(pitches):
        writer.add(bar, strike.step, strike.length, pitch, strike.velocity, after=string * strike.spread)


def write_pad(sheet: LeadSheet, rng: np.random.Generator) -> Part:
    """Held chords in some of the sections, connected by the shortest ways."""
    writer = PartWriter(sheet, rng, spread=0.015, swings=False)
    program = _choose(sheet.style.pad, rng)
    plays_in, voicing = _choose(("B", "IAB", "IB"), rng), None
    for bar in range(sheet.bars):
        if sheet.sections[bar] in plays_in:
            voicing = voice_lead(sheet.chord(bar), voicing, 64)
            for pitch in voicing:
                writer.add(bar, 0, 15.6, pitch, 66)
    return Part("other", instrument_tag(program), program, writer.notes, "pad")


# ---- melodies ------------------------------------------------------------------------------------------------------


def sung_bars(sheet: LeadSheet, rng: np.random.Generator) -> list[bool]:
    """In which bars the singer sings: not in intros, and every other time not in the last bar of a phrase."""
    sung = [section != "I" and (bar % 4 != 3 or rng.random() < 0.5) for bar, section in enumerate(sheet.sections)]
    if not any(sung[: max(2, sheet.bars - 2)]):          # a song that is all intro: sing over it
        sung = [bar % 4 != 3 for bar in range(sheet.bars)]
    return sung


def write_vocals(sheet: LeadSheet, sung: list[bool], rng: np.random.Generator) -> Part:
    """The singer's melody, a little behind the beat, in the range of a low, middle or high voice."""
    writer = PartWriter(sheet, rng, spread=0.012, delay=0.012)
    voice = int(rng.integers(len(VOICE_RANGES)))
    write_melody(writer, VOICE_RANGES[voice], float(rng.uniform(0.35, 0.75)), sung)
    return Part("vocals", "vocals", voice, _one_at_a_time(writer.notes), "lead")


def write_backing_vocals(sheet: LeadSheet, vocals: Part) -> Part:
    """A second voice in the B sections, a third above in the key, softer."""
    notes = [note._replace(pitch=_third_above(note.pitch, sheet.key), velocity=max(12, note.velocity - 14))
             for note in vocals.notes if sheet.section_at(note.onset) == "B"]
    return Part("vocals", "vocals", min(vocals.program + 1, len(VOICE_RANGES) - 1), notes, "backing")


def _third_above(pitch: int, key: Key) -> int:
    """The third above a pitch of the key: three semitones where that is a note of the key, else four."""
    return pitch + (3 if (pitch + 3) % 12 in key.scale else 4)


def write_lead(sheet: LeadSheet, sung: list[bool], rng: np.random.Generator) -> Part:
    """An instrument that answers where the singer rests, and now and then joins in."""
    writer = PartWriter(sheet, rng, spread=0.008)
    program = _choose(sheet.style.lead, rng)
    plays = [not sings or rng.random() < 0.25 for sings in sung]
    write_melody(writer, LEAD_RANGE, float(rng.uniform(0.3, 0.9)), plays)
    return Part("other", instrument_tag(program), program, _one_at_a_time(writer.notes), "lead")


def write_melody(writer: PartWriter, pitch_range: tuple[int, int], density: float, active: Sequence[bool]) -> None:
    """A tune of two motifs that come back changed: a walk on the scale that rests on chord tones.

    pitch_range: lowest and highest MIDI pitch. density: 0 slow .. 1 busy. active: the bars in which it sounds.
    """
    sheet, rng, (low, high) = writer.sheet, writer.rng, pitch_range
    motifs = [draw_motif(density, rng) for _ in range(2)]
    degree = min(range(-14, 60), key=lambda d: abs(_melody_pitch(sheet.key, d) - (low + high) / 2))
    for bar in range(sheet.bars):
        if not active[bar]:
            continue
        for step, length, move in motifs[0 if bar % 2 == 0 else int(rng.integers(2))]:
            if rng.random() < 0.06:                      # breathe
                continue
            degree += move if rng.random() < 0.7 else draw_move(rng)
            degree = _fold_into_range(sheet.key, degree, low, high, rng)
            if step % 4 == 0 or length >= 4:
                degree = _settle_on_chord(sheet, bar, degree, low, high)
            held = length * (0.95 if rng.random() < 0.8 else 0.6)
            writer.add(bar, step, held, _melody_pitch(sheet.key, degree), 94 if sheet.sections[bar] == "B" else 88)


def draw_motif(density: float, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """One bar of (step, length in steps, move in scale steps): short notes where density is near 1, long near 0."""
    lengths = (1, 2, 3, 4, 6, 8)
    calm = 1.2 - density
    weights = np.array([0.2 * density, 0.5 * density + 0.1, 0.15, 0.35 * calm, 0.2 * calm, 0.15 * calm])
    motif, step = [], _choose((0, 0, 2, 4), rng)
    while step < STEPS:
        length = min(int(rng.choice(lengths, p=weights / weights.sum())), STEPS - step)
        if rng.random() > 0.12:
            motif.append((step, length, draw_move(rng)))
        step += length
    return motif


def draw_move(rng: np.random.Generator) -> int:
    """How many scale steps a melody moves to its next note: mostly one up or down."""
    return int(rng.choice(MELODIC_MOVES, p=MOVE_WEIGHTS))


def _melody_pitch(key: Key, degree: int) -> int:
    """The MIDI pitch of a scale degree; degree 0 is the tonic between C2 (36) and B2 (47)."""
    return 36 + key.tonic + key.semitones(degree)


def _fold_into_range(key: Key, degree: int, low: int, high: int, rng: np.random.Generator) -> int:
    """Step back until the pitch lies within low..high."""
    while _melody_pitch(key, degree) > high:
        degree -= int(rng.integers(1, 4))
    while _melody_pitch(key, degree) < low:
        degree += 1
    return degree


def _settle_on_chord(sheet: LeadSheet, bar: int, degree: int, low: int, high: int) -> int:
    """The degree of the nearest chord tone in range, at most two scale steps away; the same degree if there is none."""
    chord = sheet.chord(bar)
    near = [d for d in (degree, degree + 1, degree - 1, degree + 2, degree - 2)
            if low <= _melody_pitch(sheet.key, d) <= high and _melody_pitch(sheet.key, d) % 12 in chord]
    return near[0] if near else degree


# ---- notes ---------------------------------------------------------------------------------------------------------


def _choose(options: Sequence, rng: np.random.Generator):
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def _one_at_a_time(notes: list[Note]) -> list[Note]:
    """Notes in order, each ended by the next one: what one string, throat or reed can play."""
    notes = sorted(notes)
    ends = [after.onset for after in notes[1:]] + [math.inf]
    return [note._replace(duration=min(note.duration, max(SHORTEST_NOTE, end - note.onset)))
            for note, end in zip(notes, ends)]


def _within(notes: list[Note], seconds: float) -> list[Note]:
    """Notes in order that begin within the song, ended where it ends; times to the microsecond."""
    return [note._replace(onset=round(note.onset, 6), duration=round(min(note.duration, seconds - note.onset), 6))
            for note in sorted(notes) if note.onset <= seconds - SHORTEST_NOTE]
