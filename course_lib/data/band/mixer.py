"""From a song to its stems: play every part, treat it like a recording, and mix as for a record.

    part -> sampler or voice -> saturation, equaliser, dynamics -> place -+-> stem -> level -+-> master -> stems
                                                                          `-> rooms --'

Every choice (amplifier, microphone colour, panning, level, room) is drawn from ranges that were set so that the ideal
masks separate the mixtures about as well as MUSDB18's (tests/data/band/test_realism.py), with a generator of the song's
own seed and of the part's place in the song. Nonlinear steps of the master are gain curves that all stems share: the
mixture is exactly the sum of the stems. In a world (`worlds`) other players and a wider studio take part.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from course_lib.data.band.casting import Cast
from course_lib.data.band.effects import (
    REFERENCE_LEVEL,
    Reverb,
    active_level,
    at_level,
    band_pass,
    chorus,
    compressor_gain,
    decibels,
    double_track,
    echo,
    equalise,
    excite,
    high_pass,
    high_shelf,
    impulse_response,
    limiter_gain,
    pan,
    peaking,
    saturate,
    width,
)
from course_lib.data.band.sampler import DRUM_BANK, SoundFont
from course_lib.data.band.song import Note, Part, Song
from course_lib.data.band.soundfonts import default_soundfont
from course_lib.data.band.voice import Singer, Syllable, sing, syllables
from course_lib.data.band.worlds import Studio, World

STEMS = ("drums", "bass", "guitar", "piano", "rest", "vocals")      # guitar + piano + rest = the stem "other"
OTHER = ("guitar", "piano", "rest")
REFERENCE_MIX = 0.2                 # active level of the mixture before the master's compressor
PEAK = 0.98                         # the mixture stays below
SUBSONIC = 25.0                     # Hz: what lies below is offset and rumble
FADE_OUT = 0.012                    # seconds: sounds cut at the song's end do not click
STEM_LEVELS = {"drums": -2.0, "bass": -0.9, "other": -0.2, "vocals": -0.8}     # dB, mean of the songs
ROLE_LEVELS = {"comp": 0.0, "pad": -5.0, "lead": -1.0}              # dB, within the stem "other"
PAN_SPREAD = 0.20                   # standard deviation of the places of instruments, 1 is hard left or right
HALL_SHARE = 0.5                    # of the stems are in the hall, the others in the plate
ROLE_REVERB = {"pad": 1.3, "drums": 0.8, "bass": 0.0}               # send to the rooms re other parts
BACKING_LEVEL = -7.0                # dB of a backing voice re the lead voice
TRACTS = (0.92, 1.0, 1.12)          # formants of the low, middle and high voice re an average adult
DISTORTED = (29, 30)                # General MIDI overdriven and distorted guitar: always through an amplifier
AMPLIFIED = (27, 4, 16, 18)         # clean guitar, electric piano, organs: sometimes
DOUBLED = (25, 27, 29, 30)          # guitars that are often recorded twice, left and right
KICK, SNARE, HI_HAT = 36, 38, 42    # General MIDI drums that are tuned one by one


@functools.lru_cache(maxsize=4)
def _font(path: Path, rate: int) -> SoundFont:
    return SoundFont(path, rate)


class Band:
    """The players of a song outside any world: one soundfont, the formant singer, the parts as recorded."""

    studio = Studio()

    def __init__(self, song: Song, rate: int, soundfont: Path | None):
        self.song, self.rate, self.soundfont = song, rate, soundfont

    def _font(self) -> SoundFont:
        return _font(Path(self.soundfont or default_soundfont()), self.rate)

    def drums(self, part: Part, tuning: dict[int, float], index: int) -> np.ndarray:
        """The dry drums."""
        return self._font().render(part.notes, part.program, self.song.seconds, DRUM_BANK, tuning)

    def instrument(self, part: Part, tuning: float, index: int) -> np.ndarray:
        """A dry melodic part."""
        return self._font().render(part.notes, part.program, self.song.seconds, tuning=tuning)

    def voice(self, part: Part, notes: list[Note], singer: Singer, words: int, index: int) -> np.ndarray:
        """One take of a voice, (time,). words: seed of the performance."""
        return sing(notes, self.song.seconds, singer, np.random.default_rng(words), self.rate)

    def treat(self, y: np.ndarray, part: Part, index: int) -> np.ndarray:
        """The recorded part as it is."""
        return y


def mix(song: Song, rate: int = 44100, soundfont: Path | None = None, world: World | None = None,
        ) -> dict[str, np.ndarray]:
    """Play and mix a song.

    rate: Hz, 8000..192000. soundfont: an .sf2 or .sf3 file, by default the one inside the pretty_midi package.
    world: whose sounds, voices and effects to draw from instead of the soundfont (see `worlds`).
    Returns float32 stems (2, round(song.seconds * rate)) under the names in STEMS; those that the song does not have
    are silent. Their sum is the mixture, with |mixture| <= 0.98 and |stem| <= 1 (also for other = guitar + piano +
    rest). Two calls give the same bytes. Raises ValueError for a song without length or a part without a known stem.
    """
    _check(song)
    length = round(song.seconds * rate)
    rng = np.random.default_rng([song.seed, 1])
    hall = impulse_response(rng, rate, rng.uniform(0.8, 2.6), 1.5, rng.uniform(0.01, 0.04))
    plate = impulse_response(rng, rate, rng.uniform(0.25, 0.8), 0.6, 0.004)
    rooms = Reverb(plate, length), Reverb(hall, length)
    members = {stem: [(i, part) for i, part in enumerate(song.parts) if _stem_of(part) == stem and part.notes]
               for stem in STEMS}
    players = Band(song, rate, soundfont) if world is None else Cast(world, song, rate)
    stems = {stem: _mix_stem(parts, song, rate, players, rooms) for stem, parts in members.items() if parts}
    _balance(stems, rng, players.studio)
    _master(stems, rate, rng, players.studio)
    return {stem: stems[stem] if stem in stems else np.zeros((2, length), np.float32) for stem in STEMS}


def render_part(part: Part, song: Song, rate: int = 44100, soundfont: Path | None = None, index: int = 0) -> np.ndarray:
    """Play one part of a song as it was recorded, before panning and reverb: (1 or 2, round(song.seconds * rate)).

    The level is REFERENCE_LEVEL while it plays. index: the part's place in the song, which with the song's seed
    draws the treatment. Parts with equal notes and index are sample-aligned whatever they are played on.
    """
    return _recorded(part, song, rate, Band(song, rate, soundfont), index)


def _recorded(part: Part, song: Song, rate: int, players: Band | Cast, index: int) -> np.ndarray:
    """A part played by someone, as `render_part` gives it."""
    rng = np.random.default_rng([song.seed, 2, index])
    if part.stem == "vocals":
        return players.treat(_record_vocals(part, song, rate, players, index, rng), part, index)
    if part.stem == "drums":
        return players.treat(_record_drums(part, rate, players, index, rng), part, index)
    dry = players.instrument(part, rng.normal(0, 4), index)
    record = _record_bass if part.stem == "bass" else _record_instrument
    return players.treat(at_level(record(at_level(dry), part, rate, rng)), part, index)


def _check(song: Song) -> None:
    if not song.seconds > 0:
        raise ValueError(f"song.seconds is {song.seconds}; a song must last longer than 0 s")
    for part in song.parts:
        if part.stem not in ("drums", "bass", "other", "vocals"):
            raise ValueError(f"part {part.name!r} has stem {part.stem!r}, expected drums, bass, other or vocals")
        if part.stem == "vocals" and part.program not in range(len(TRACTS)):
            raise ValueError(f"voice {part.name!r} has program {part.program}, expected 0 low, 1 middle or 2 high")


def _stem_of(part: Part) -> str:
    return "rest" if part.six_stem == "other" else part.six_stem


# ---- recording: each part's own sound -------------------------------------------------------------------------------

def _record_drums(part: Part, rate: int, players: Band | Cast, index: int, rng: np.random.Generator) -> np.ndarray:
    """A drum kit: tuned drums, overhead width, colour, saturation and parallel compression."""
    kit = rng.normal(0, 60)                                                     # cents, as all tunings
    tuning = {pitch: kit for pitch in range(128)}
    tuning |= {KICK: rng.normal(0, 150), SNARE: rng.normal(0, 180), HI_HAT: rng.normal(0, 150)}
    y = players.drums(part, tuning, index)
    y = saturate(at_level(width(y, rng.uniform(0.05, 0.4))), rng.uniform(0.08, 0.4))
    y = equalise(y, high_pass(SUBSONIC, rate), peaking(rng.uniform(60, 110), rng.normal(1, 3), rate),
                 peaking(rng.uniform(300, 900), rng.normal(-1, 3), rate), high_shelf(4000, rng.normal(4, 2.5), rate))
    y = excite(y, rng.uniform(4500, 7500), rng.uniform(0.4, 1.4), rate, air_db=6)
    y = at_level(y)
    crushed = at_level(y * compressor_gain(y, rate, -34, 8, attack=0.003, release=0.12))
    return at_level(y + crushed * np.float32(rng.uniform(0.1, 0.8)))        # brings up the room and the ghost notes


def _record_bass(y: np.ndarray, part: Part, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A bass: the clean string, some amplifier beside it, compression."""
    amplifier = equalise(saturate(y, rng.uniform(0.4, 2)), band_pass(300, rng.uniform(2500, 5000), rate))
    y = y + amplifier * np.float32(rng.uniform(0.05, 0.9))
    y = excite(y, 700, rng.uniform(0.1, 0.6), rate)
    y = y * compressor_gain(y, rate, -24, 4, attack=0.01, release=0.15)
    return equalise(y, high_pass(SUBSONIC, rate), peaking(rng.uniform(500, 1200), rng.normal(1, 3), rate))


def _record_instrument(y: np.ndarray, part: Part, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Anything in the stem "other": perhaps an amplifier, a chorus, a second take; then microphone colour."""
    if part.program in DISTORTED or (part.program in AMPLIFIED and rng.random() < 0.3):
        y = equalise(saturate(y, rng.uniform(0.4, 2.5)), band_pass(90, rng.uniform(3800, 6500), rate))
    y = excite(y, rng.uniform(1800, 3500), rng.uniform(0.4, 2.0), rate, air_db=10)
    y = equalise(y, high_pass(SUBSONIC, rate), high_shelf(2500, rng.normal(3, 2.5), rate),
                 peaking(np.exp(rng.uniform(np.log(250), np.log(6000))), rng.normal(0, 4), rate))
    if rng.random() < (0.6 if part.role == "pad" else 0.3):
        y = chorus(y, rng.uniform(0.3, 1.2), rate)
    if part.role == "comp" and part.program in DOUBLED and rng.random() < 0.6:
        y = double_track(y, rng.uniform(0.012, 0.025), rng.uniform(0.1, 0.3), rate)
    return y


def _singer_of(part: Part, rng: np.random.Generator) -> tuple[Singer, bool, int]:
    """Who sings a part, whether it is sung twice, and the seed of the words: a double is the same words again."""
    singer = Singer(tract=TRACTS[part.program] * float(np.exp(rng.normal(0, 0.05))), brightness=rng.normal(2.5, 1.2),
                    vibrato_rate=rng.uniform(4.8, 6.4), vibrato_depth=rng.uniform(0.1, 0.4),
                    breath=rng.uniform(0.02, 0.1))
    doubled = part.role != "lead" or rng.random() < 0.4
    return singer, doubled, rng.integers(2 ** 31)


def sung_syllables(song: Song, rate: int = 44100) -> list[Syllable]:
    """What the lead singer of a song sings and when, in order; [] where nobody sings.

    The words of the band's own formant singer, as `mix` renders the song outside any world (rate: Hz, as there).
    """
    for index, part in enumerate(song.parts):
        if part.stem == "vocals" and part.role == "lead" and part.notes:
            words = _singer_of(part, np.random.default_rng([song.seed, 2, index]))[2]
            return syllables(part.notes, song.seconds, np.random.default_rng(words), rate)
    return []


def _record_vocals(part: Part, song: Song, rate: int, players: Band | Cast, index: int, rng: np.random.Generator,
                   ) -> np.ndarray:
    """A voice: one or two takes, colour, soft saturation, strong compression."""
    singer, doubled, words = _singer_of(part, rng)
    y = players.voice(part, part.notes, singer, words, index)[None]
    if doubled:
        later, detune = rng.uniform(0.012, 0.03), rng.normal(0, 0.1)
        again = [Note(n.onset + later, n.duration, n.pitch + detune, n.velocity) for n in part.notes]
        second = players.voice(part, again, singer, words, index)[None]
        y = pan(y, -0.5 * rng.uniform(0.3, 1)) + pan(second, 0.5 * rng.uniform(0.3, 1))
    y = saturate(at_level(y), rng.uniform(0.15, 0.6))
    y = equalise(y, high_pass(90, rate), peaking(rng.uniform(1500, 3500), rng.normal(5, 2), rate),
                 high_shelf(7000, rng.normal(6, 2), rate))
    y = at_level(y)
    return at_level(y * compressor_gain(y, rate, -26, rng.uniform(3, 8), attack=0.01, release=0.15))


# ---- mixing ---------------------------------------------------------------------------------------------------------

def _mix_stem(members: list[tuple[int, Part]], song: Song, rate: int, players: Band | Cast,
              rooms: tuple[Reverb, Reverb]) -> np.ndarray:
    """Place the parts of one stem and add the room they share: (2, time). members: (place in the song, part)."""
    rng = np.random.default_rng([song.seed, 3, members[0][0]])
    room, amount = rooms[int(rng.random() < HALL_SHARE)], rng.uniform(0.1, 0.45) * players.studio.reverb
    out, send = None, np.zeros(rooms[0].length, np.float32)
    for index, part in members:
        rng = np.random.default_rng([song.seed, 4, index])
        y = _recorded(part, song, rate, players, index)
        y = pan(y * decibels(_part_level(part, rng)), rng.normal(0, PAN_SPREAD) if part.stem == "other" else 0.0)
        if part.stem == "vocals" and rng.random() < 0.35:
            y = echo(y, 60 / song.bpm * rng.choice([0.5, 0.75, 1.0]), rate)
        send += (y[0] + y[1]) * np.float32(0.5 * amount * ROLE_REVERB.get(part.role, 1.0) * rng.uniform(0.5, 1.5))
        out = y if out is None else out + y
    if send.any():
        out += room(send)
    return out


def _part_level(part: Part, rng: np.random.Generator) -> float:
    """dB of a part within its stem."""
    if part.stem == "other":
        return ROLE_LEVELS.get(part.role, 0.0) + rng.normal(0, 2)
    return BACKING_LEVEL if part.role == "backing" else 0.0


def _balance(stems: dict[str, np.ndarray], rng: np.random.Generator, studio: Studio) -> None:
    """Bring the stems to their levels, in place; guitar, piano and rest keep theirs to one another."""
    groups = {"drums": ("drums",), "bass": ("bass",), "other": OTHER, "vocals": ("vocals",)}
    for group, names in groups.items():
        playing = [name for name in names if name in stems]
        loudness = STEM_LEVELS[group] + rng.normal(0, studio.level_spread)
        if playing:
            level = active_level(_total(stems[name] for name in playing))
            for name in playing:
                stems[name] *= decibels(loudness) * np.float32(REFERENCE_LEVEL / max(level, 1e-9))


def _master(stems: dict[str, np.ndarray], rate: int, rng: np.random.Generator, studio: Studio) -> None:
    """Bus compression to a record's loudness and a limiter, as one gain curve for all stems, in place."""
    if not stems:
        return
    mixture = _total(stems.values())
    level = active_level(mixture)
    if level == 0:
        return
    before = np.float32(REFERENCE_MIX / level)
    mixture *= before
    gain = compressor_gain(mixture, rate, rng.uniform(*studio.threshold), rng.uniform(*studio.ratio), attack=0.015,
                           release=0.2)
    mixture *= gain
    after = decibels(rng.uniform(*studio.loudness)) / np.float32(active_level(mixture))
    mixture *= after
    gain *= limiter_gain(mixture, rate, 0.97)
    gain *= before * after
    fade = min(int(FADE_OUT * rate), len(gain))
    gain[len(gain) - fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    for y in stems.values():
        y *= gain
    _below_full_scale(stems)


def _below_full_scale(stems: dict[str, np.ndarray]) -> None:
    """Scale all stems by one factor, in place, so that neither the mixture nor any stem clips."""
    tracks = [*stems.values()]
    if sum(name in stems for name in OTHER) > 1:
        tracks.append(_total(stems[name] for name in OTHER if name in stems))
    mixture_peak, stem_peak = _peak(_total(stems.values())), max(_peak(track) for track in tracks)
    # a hair less than what is allowed, for the rounding of other orders of summation
    factor = np.float32(min(1.0, 0.9999 * PEAK / mixture_peak, 0.9999 / stem_peak))
    if factor < 1:
        for y in stems.values():
            y *= factor


def _peak(y: np.ndarray) -> float:
    return max(float(y.max()), -float(y.min()))


def _total(signals: Iterable[np.ndarray]) -> np.ndarray:
    """The sum of signals of equal shape, as a new array."""
    first, *others = signals
    out = first.copy()
    for y in others:
        out += y
    return out
