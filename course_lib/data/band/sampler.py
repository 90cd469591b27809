"""A SoundFont player in numpy: the notes of one instrument in, its sound out.

A SoundFont (.sf2) is a RIFF file of short recordings and of rules for playing them. A *preset* (bank, program) is a set
of *zones*; a zone says for which keys and velocities it sounds, which recording it plays, where that recording loops,
how it is tuned, filtered, placed and shaped in time. For every note the player goes

    recording -> looped to the note's length -> resampled to its pitch -> low-pass filter
              -> volume envelope -> panned sum

The first four steps depend only on zone, pitch and (coarsely) velocity, so they are done once for all notes that share
them, at the length of the longest. Everything is a deterministic function of file, rate and notes.

The numbers follow the SoundFont technical specification 2.04 (section 8 for the generators, 9.5 for the envelope);
its modulators are left out, except the default ones from velocity to level and to brightness. Files with Ogg Vorbis
samples (.sf3) are read as well.
"""

import io
import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.fft
import soundfile
from scipy.signal import lfilter

from course_lib.data.band.song import Note

DRUM_BANK = 128             # the bank of percussion kits: the program is the kit, the pitch is the drum
HI_HATS = (42, 44, 46)      # General MIDI closed, pedal and open hi-hat: each stops the one before
DRUM_RING = 3.0             # seconds a drum may ring
DRUM_RELEASE = 0.08         # seconds a stopped drum takes to fade
LONGEST_RELEASE = 1.5       # seconds: longer releases are shortened, as a player damps the strings between chords
SHORTEST_RELEASE = 0.03     # seconds: shorter ones would click
RELEASE_FLOOR_DB = 70.0     # a released note is dropped once it has fallen by this much
FADE_OUT = 0.005            # seconds of linear fade where a note is dropped or its recording ends
HOLE = 3                    # keys up to which a hole in a preset's key ranges is filled by its neighbours
VELOCITY_STEP = 16          # velocities are rounded to this for the filter only, so that notes can share a waveform
VELOCITY_TO_CUTOFF = 1200   # cents by which the softest note's filter is lower than the loudest note's
ATTENUATION_SCALE = 0.4     # share of a zone's attenuation that is applied, as fonts are voiced for
PAN_LAW_AT_CENTRE = (0.5 ** 0.5,)    # amplitude of a sound in the middle on each side
MISTUNED = (8.5, 45.0)     # cents: less is a chorus of layers, more is meant (a musette's second reed)
CLEAR_PITCH = 0.8           # normalised autocorrelation from which a measured pitch is believed
CENTRE = 0                  # the pan value of a zone in the middle; -500 is left, 500 right

RAW_OFFSETS = 32768         # points in one unit of the "coarse" address generators
NEVER = -12000              # timecents: the specification's "no time at all"
HZ_AT_ZERO_CENTS = 8.176    # absolute cents count from MIDI note 0
VORBIS_SAMPLE = 0x10        # sample type bit of the sf3 extension
ROM_SAMPLE = 0x8000         # sample type bit: the points are in a sound card, not in the file

REQUIRED_CHUNKS = (b"smpl", b"phdr", b"pbag", b"pgen", b"inst", b"ibag", b"igen", b"shdr")


class Generator(IntEnum):
    """The generators used here (SoundFont 2.04, section 8.1.2)."""

    START_OFFSET = 0
    END_OFFSET = 1
    LOOP_START_OFFSET = 2
    LOOP_END_OFFSET = 3
    START_OFFSET_COARSE = 4
    VIBRATO_TO_PITCH = 6
    FILTER_CUTOFF = 8
    FILTER_Q = 9
    MODULATION_ENVELOPE_TO_CUTOFF = 11
    END_OFFSET_COARSE = 12
    PAN = 17
    VIBRATO_DELAY = 23
    VIBRATO_FREQUENCY = 24
    DELAY = 33
    ATTACK = 34
    HOLD = 35
    DECAY = 36
    SUSTAIN = 37
    RELEASE = 38
    KEY_TO_HOLD = 39
    KEY_TO_DECAY = 40
    INSTRUMENT = 41
    KEY_RANGE = 43
    VELOCITY_RANGE = 44
    LOOP_START_OFFSET_COARSE = 45
    ATTENUATION = 48
    LOOP_END_OFFSET_COARSE = 50
    COARSE_TUNE = 51
    FINE_TUNE = 52
    SAMPLE = 53
    SAMPLE_MODES = 54
    SCALE_TUNING = 56
    ROOT_KEY = 58


G = Generator
DEFAULTS = {G.FILTER_CUTOFF: 13500, G.VIBRATO_DELAY: NEVER, G.DELAY: NEVER, G.ATTACK: NEVER, G.HOLD: NEVER,
            G.DECAY: NEVER, G.RELEASE: NEVER, G.SCALE_TUNING: 100, G.ROOT_KEY: -1}
RANGES = (G.KEY_RANGE, G.VELOCITY_RANGE)
INDICES = (G.INSTRUMENT, G.SAMPLE, G.SAMPLE_MODES)          # unsigned
SET_BY_INSTRUMENT_ONLY = {G.START_OFFSET, G.END_OFFSET, G.LOOP_START_OFFSET, G.LOOP_END_OFFSET, G.START_OFFSET_COARSE,
                          G.END_OFFSET_COARSE, G.LOOP_START_OFFSET_COARSE, G.LOOP_END_OFFSET_COARSE, G.SAMPLE_MODES,
                          G.ROOT_KEY, *RANGES, G.INSTRUMENT, G.SAMPLE}


class Sample(NamedTuple):
    """One recording: float32 points in [-1, 1], its loop (in points), rate (Hz), root key and correction (cents)."""

    points: np.ndarray
    loop_start: int
    loop_end: int
    rate: int
    root: int
    correction: int


@dataclass(frozen=True)
class Zone:
    """What one zone of a preset plays and how, in physical units; the key and velocity ranges include both ends."""

    sample: int
    keys: tuple[int, int]
    velocities: tuple[int, int]
    start: int                    # points added to the addresses of the sample
    end: int
    loop_start: int
    loop_end: int
    looped: bool
    root: int                     # MIDI key at which the recording sounds as it is; -1: as the sample says
    scale: float                  # cents per key
    tune: float                   # cents
    gain: float
    pan: int                      # -500 left .. 500 right
    cutoff: float                 # absolute cents
    resonance: float              # dB
    vibrato_depth: float          # cents
    vibrato_rate: float           # Hz
    vibrato_delay: float          # seconds
    delay: float                  # seconds, as all that follow unless said
    attack: float
    hold: float
    decay: float                  # for 100 dB
    sustain: float                # dB below full
    release: float                # for 100 dB
    key_to_hold: int              # timecents per key below 60
    key_to_decay: int

    def sounds_at(self, pitch: int, velocity: int) -> bool:
        """Whether a note of this MIDI key and velocity plays the zone."""
        return self.keys[0] <= pitch <= self.keys[1] and self.velocities[0] <= velocity <= self.velocities[1]


class SoundFont:
    """A SoundFont file opened for playing at one sample rate.

    path: an .sf2 or .sf3 file. rate: Hz of everything it renders.
    Raises FileNotFoundError for a missing file, ValueError for one that is not a SoundFont or is cut short.
    """

    def __init__(self, path: str | Path, rate: int = 44100):
        self.path, self.rate = Path(path), int(rate)
        if not 8000 <= self.rate <= 192000:
            raise ValueError(f"rate is {rate}; the sampler renders at 8000 to 192000 Hz")
        self._fade = np.linspace(1, 0, int(FADE_OUT * self.rate), dtype=np.float32)
        chunks = _read_chunks(self.path)
        self._sample_data = chunks[b"smpl"]
        self._sample_headers = _rows(chunks, b"shdr", "<20sIIIIIBbHH", self.path)
        self._generators = {tag: _rows(chunks, tag, "<HH", self.path) for tag in (b"pgen", b"igen", b"pbag", b"ibag")}
        self._instruments = _rows(chunks, b"inst", "<20sH", self.path)
        self._presets = _rows(chunks, b"phdr", "<20sHHHIII", self.path)
        self._index = {(row[2], row[1]): i for i, row in enumerate(self._presets[:-1])}
        self._zones: dict[tuple[int, int], list[Zone]] = {}
        self._samples: dict[int, Sample] = {}
        self._mistunings: dict[Zone, float] = {}

    @property
    def presets(self) -> dict[tuple[int, int], str]:
        """The name of every (bank, program) in the file; bank 128 holds the drum kits."""
        return {key: self._presets[i][0].split(b"\0")[0].decode("latin1") for key, i in sorted(self._index.items())}

    def render(self, notes: Iterable[Note], program: int, seconds: float, bank: int = 0,
               tuning: Mapping[int, float] | float = 0.0) -> np.ndarray:
        """Play `notes` on one preset.

        notes: onset and duration in seconds, pitch as MIDI key, velocity 1..127. program: 0..127, for drums the kit.
        seconds: length of the result; what would sound later is left out. bank: 0, or DRUM_BANK for drums.
        tuning: cents added to every note, or per pitch (a mapping) for drums that are tuned one by one.
        Returns (channels, round(seconds * rate)) float32: one channel where every zone is in the middle, which saves
        its user half the work, else left and right. The level is the font's own: one note is roughly within [-1, 1],
        a chord may exceed it. Raises ValueError for a program that the file does not have (a missing kit falls back to
        the standard kit, as General MIDI asks).
        """
        length = round(seconds * self.rate)
        notes = list(notes)
        if any(note.onset < 0 for note in notes):
            raise ValueError(f"a note starts at {min(notes).onset} s; onsets count from 0, the start of the song")
        notes = sorted(note for note in notes if round(note.onset * self.rate) < length)
        if bank == DRUM_BANK:
            notes = ring_drums(notes)
        longest_release = DRUM_RELEASE if bank == DRUM_BANK else LONGEST_RELEASE
        zones = self.zones(bank, program)
        sharing = _share_waveforms(zones, notes)
        centred = all(zones[zone].pan == CENTRE for zone, _, _ in sharing)
        out = np.zeros((1 if centred else 2, length), np.float32)
        for (zone, pitch, velocity), same in sharing.items():
            cents = tuning.get(pitch, 0.0) if isinstance(tuning, Mapping) else tuning
            gains = PAN_LAW_AT_CENTRE if centred else _pan_gains(zones[zone].pan)
            self._play(out, gains, zones[zone], pitch, velocity, same, cents, longest_release)
        return out

    def recordings(self) -> Iterator[np.ndarray]:
        """Every recording in the file, whether a preset plays it or not, as (time,) float32."""
        for index, header in enumerate(self._sample_headers[:-1]):
            if not header[9] & ROM_SAMPLE and header[2] > header[1]:
                yield self._sample(index).points

    def zones(self, bank: int, program: int) -> list[Zone]:
        """The zones of a preset, with what the preset adds to its instruments worked in."""
        key = self._preset_key(bank, program)
        if key not in self._zones:
            try:
                self._zones[key] = self._read_zones(self._index[key])
            except IndexError:
                raise ValueError(f"{self.path.name}: bank {bank}, program {program} refers to records that the "
                                 "file does not have; it is damaged, fetch it again") from None
        return self._zones[key]

    def _read_zones(self, i: int) -> list[Zone]:
        """The zones of the i-th preset."""
        return [_zone(preset, instrument)
                for preset in self._generator_sets(b"p", self._presets[i][3], self._presets[i + 1][3], G.INSTRUMENT)
                for instrument in self._instrument_sets(preset[G.INSTRUMENT])
                if _overlap(preset, instrument)]

    def _preset_key(self, bank: int, program: int) -> tuple[int, int]:
        if (bank, program) in self._index:
            return bank, program
        if bank == DRUM_BANK and (DRUM_BANK, 0) in self._index:
            return DRUM_BANK, 0
        raise ValueError(f"{self.path.name} has no preset for bank {bank}, program {program} (it has "
                         f"{len(self._index)} presets); use a General MIDI soundfont")

    def _instrument_sets(self, instrument: int) -> list[dict[int, int]]:
        first, after = self._instruments[instrument][1], self._instruments[instrument + 1][1]
        return self._generator_sets(b"i", first, after, G.SAMPLE)

    def _generator_sets(self, level: bytes, first: int, after: int, leaf: Generator) -> list[dict[int, int]]:
        """The generators of bags first..after-1 that end in `leaf`; a first bag without it holds their defaults."""
        bags, generators = self._generators[level + b"bag"], self._generators[level + b"gen"]
        sets, shared = [], {}
        for bag in range(first, after):
            values = dict(shared)
            for operator, raw in generators[bags[bag][0]:bags[bag + 1][0]]:
                values[operator] = _generator_value(operator, raw)
            if leaf in values:
                sets.append(values)
            elif bag == first:
                shared = values
        return sets

    def _sample(self, index: int) -> Sample:
        """The recording, decoded once and kept."""
        if index not in self._samples:
            name, start, end, loop_start, loop_end, rate, root, correction, _, kind = self._sample_headers[index]
            label = name.split(b"\0")[0].decode("latin1")
            if kind & ROM_SAMPLE:
                raise ValueError(f"{self.path.name}: the points of sample {label!r} are in a sound card's ROM, not in "
                                 "the file; use another soundfont")
            if kind & VORBIS_SAMPLE:                            # addresses are bytes; the loop counts decoded points
                points = self._decode_vorbis(label, start, end)
            else:
                if 2 * end > len(self._sample_data):
                    raise ValueError(f"{self.path.name}: sample {label!r} ends at point {end}, but the file holds "
                                     f"{len(self._sample_data) // 2}; the file is damaged, fetch it again")
                points = np.frombuffer(self._sample_data, "<i2", end - start, 2 * start).astype(np.float32) / 32768
                loop_start, loop_end = loop_start - start, loop_end - start
            self._samples[index] = Sample(points, loop_start, loop_end, rate, root, correction)
        return self._samples[index]

    def _decode_vorbis(self, label: str, start: int, end: int) -> np.ndarray:
        try:
            return soundfile.read(io.BytesIO(self._sample_data[start:end]), dtype="float32")[0]
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{self.path.name}: sample {label!r} cannot be decoded ({error}); the file is damaged, "
                             "fetch it again") from None

    def _play(self, out: np.ndarray, gains: tuple[float, ...], zone: Zone, pitch: int, velocity: int,
              notes: list[Note], cents: float, longest_release: float) -> None:
        """Add the notes that share a waveform to `out` (channels, length), with a gain for each channel."""
        end = out.shape[1]
        release = min(max(zone.release, SHORTEST_RELEASE), longest_release)
        tail = release * RELEASE_FLOOR_DB / 100
        longest = max(min(note.duration + tail, end / self.rate - note.onset) for note in notes)
        wave = self._waveform(zone, pitch, velocity, int(longest * self.rate) + 1, cents)
        held = _held_envelope(zone, pitch, len(wave), self.rate)
        body, released = wave * held, _falling(int(tail * self.rate) + 2, 100 / release, self.rate)
        for note in notes:
            start = round(note.onset * self.rate)
            length = min(int((note.duration + tail) * self.rate), len(wave), end - start)
            if length < 2:
                continue
            sound = body[:length].copy()
            key_up = int(note.duration * self.rate)
            if key_up < length:
                sound[key_up:] = wave[key_up:length] * released[:length - key_up]
                sound[key_up:] *= held[key_up - 1] if key_up else np.float32(0)
            if start + length < end:
                fade = self._fade[-length:]
                sound[length - len(fade):] *= fade
            level = zone.gain * (note.velocity / 127) ** 2                          # 40 log10(velocity / 127) dB
            for channel, gain in enumerate(gains):
                out[channel, start:start + length] += sound * np.float32(level * gain)

    def _waveform(self, zone: Zone, pitch: int, velocity: int, length: int, cents: float) -> np.ndarray:
        """The zone's recording at this pitch and brightness, at most (length,) float32; shorter where it ends."""
        sample = self._sample(zone.sample)
        root = zone.root if zone.root >= 0 else sample.root
        shift = (pitch - root) * zone.scale + sample.correction + zone.tune + cents - self._mistuning(zone, sample)
        positions = self._positions(zone, 2.0 ** (shift / 1200) * sample.rate / self.rate, length)
        points = _unrolled(zone, sample, int(positions[-1]) + 4)
        positions = positions[:np.searchsorted(positions, len(points) - 3)]
        wave = interpolate(points, positions)
        cutoff = HZ_AT_ZERO_CENTS * 2 ** ((zone.cutoff - VELOCITY_TO_CUTOFF * (127 - velocity) / 127) / 1200)
        return _low_pass(wave, cutoff, zone.resonance, self.rate) if cutoff < 0.43 * self.rate else wave

    def _mistuning(self, zone: Zone, sample: Sample) -> float:
        """Cents by which the zone sounds too high by mistake of the font's maker; 0 where that is not certain."""
        if zone not in self._mistunings:
            root = zone.root if zone.root >= 0 else sample.root
            key = 440 * 2 ** ((root - 69 - (sample.correction + zone.tune) / 100) / 12)
            cents = _detune(zone, sample, sample.rate / key) if zone.looped and zone.scale else 0.0
            self._mistunings[zone] = cents if MISTUNED[0] <= abs(cents) <= MISTUNED[1] else 0.0
        return self._mistunings[zone]

    def _positions(self, zone: Zone, ratio: float, length: int) -> np.ndarray:
        """Where in the recording each output sample lies: (length,) float64, in points, from 0 upwards."""
        if not zone.vibrato_depth:
            return np.arange(length) * ratio
        time = np.maximum(np.arange(length) / self.rate - zone.vibrato_delay, 0)
        cents = zone.vibrato_depth * np.sin(2 * np.pi * zone.vibrato_rate * time)
        steps = ratio * 2.0 ** (cents / 1200)
        return np.cumsum(steps) - steps[0]


# ---- reading the file -----------------------------------------------------------------------------------------------

def _read_chunks(path: Path) -> dict[bytes, memoryview]:
    """The leaf chunks of a SoundFont file by tag; the file stays mapped, so that a large font costs no memory."""
    if not path.is_file():
        raise FileNotFoundError(f"no soundfont at {path}; pass the path of an .sf2 or .sf3 file")
    if path.stat().st_size < 12:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: not a SoundFont 2 file")
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise ValueError(f"{path} is not a SoundFont 2 file: it begins with {bytes(data[:12])!r}, "
                         "expected RIFF....sfbk; pass an .sf2 or .sf3 file")
    declared = 8 + struct.unpack_from("<I", data, 4)[0]
    if declared > len(data) + 1:                        # some writers count a last padding byte that they do not write
        raise ValueError(f"{path} is cut short: {len(data)} bytes of {declared}; fetch it again")
    chunks: dict[bytes, memoryview] = {}
    position = 12
    while position + 12 <= len(data):
        tag, size = struct.unpack_from("<4sI", data, position)
        if tag == b"LIST":
            _read_list(data, position + 12, min(position + 8 + size, len(data)), chunks)
        position += 8 + size
        if data[position:position + 4] != b"LIST":      # padded to an even length, but not by every sf3 writer
            position += size & 1
    missing = [tag.decode() for tag in REQUIRED_CHUNKS if tag not in chunks]
    if missing:
        raise ValueError(f"{path} lacks the SoundFont chunks {', '.join(missing)}; the file is damaged, fetch it again")
    return chunks


def _read_list(data: memoryview, position: int, stop: int, chunks: dict[bytes, memoryview]) -> None:
    """Collect the leaf chunks of one LIST, whose content lies at position..stop."""
    while position + 8 <= stop:
        tag, size = struct.unpack_from("<4sI", data, position)
        chunks[tag] = data[position + 8:position + 8 + size]
        position += 8 + size + (size & 1)


def _rows(chunks: dict[bytes, memoryview], tag: bytes, layout: str, path: Path) -> list[tuple]:
    """A chunk of equal records as tuples; the last record only marks the end."""
    size = struct.calcsize(layout)
    if len(chunks[tag]) < size or len(chunks[tag]) % size:
        raise ValueError(f"{path}: chunk {tag.decode()} has {len(chunks[tag])} bytes, expected a multiple of {size}; "
                         "the file is damaged, fetch it again")
    return list(struct.iter_unpack(layout, chunks[tag]))


def _generator_value(operator: int, raw: int):
    """A generator's 16 bits as what they mean: a range, an index, or a signed amount."""
    if operator in RANGES:
        return raw & 255, raw >> 8
    return raw if operator in INDICES else raw - 65536 * (raw > 32767)


def _intersection(preset: dict, instrument: dict, kind: Generator) -> tuple[int, int]:
    low, high = zip(preset.get(kind, (0, 127)), instrument.get(kind, (0, 127)))
    return max(low), min(high)


def _overlap(preset: dict, instrument: dict) -> bool:
    """Whether any key and velocity play both zones."""
    return all(low <= high for low, high in (_intersection(preset, instrument, kind) for kind in RANGES))


def _seconds(timecents: float) -> float:
    return 0.0 if timecents <= NEVER else 2.0 ** (timecents / 1200)


def _zone(preset: dict[int, int], instrument: dict[int, int]) -> Zone:
    """The instrument's zone with the preset's amounts added, in physical units."""
    values = {**DEFAULTS, **instrument}
    for operator, amount in preset.items():
        if operator not in SET_BY_INSTRUMENT_ONLY:
            values[operator] = values.get(operator, 0) + amount

    def value(operator: Generator) -> int:
        return values.get(operator, 0)

    def address(fine: Generator, coarse: Generator) -> int:
        return value(fine) + RAW_OFFSETS * value(coarse)

    return Zone(
        sample=values[G.SAMPLE],
        keys=_intersection(preset, instrument, G.KEY_RANGE),
        velocities=_intersection(preset, instrument, G.VELOCITY_RANGE),
        start=address(G.START_OFFSET, G.START_OFFSET_COARSE),
        end=address(G.END_OFFSET, G.END_OFFSET_COARSE),
        loop_start=address(G.LOOP_START_OFFSET, G.LOOP_START_OFFSET_COARSE),
        loop_end=address(G.LOOP_END_OFFSET, G.LOOP_END_OFFSET_COARSE),
        looped=bool(value(G.SAMPLE_MODES) & 1),
        root=values[G.ROOT_KEY],
        scale=values[G.SCALE_TUNING],
        tune=100 * value(G.COARSE_TUNE) + value(G.FINE_TUNE),
        gain=10 ** (-ATTENUATION_SCALE * value(G.ATTENUATION) / 200),           # generator: centibel
        pan=min(max(value(G.PAN), -500), 500),
        cutoff=values[G.FILTER_CUTOFF] + 0.5 * value(G.MODULATION_ENVELOPE_TO_CUTOFF),      # the envelope's mean
        resonance=max(value(G.FILTER_Q), 0) / 10,
        vibrato_depth=value(G.VIBRATO_TO_PITCH),
        vibrato_rate=HZ_AT_ZERO_CENTS * 2 ** (value(G.VIBRATO_FREQUENCY) / 1200),
        vibrato_delay=_seconds(values[G.VIBRATO_DELAY]),
        delay=_seconds(values[G.DELAY]),
        attack=max(_seconds(values[G.ATTACK]), 0.001),
        hold=_seconds(values[G.HOLD]),
        decay=max(_seconds(values[G.DECAY]), 0.001),
        sustain=min(max(value(G.SUSTAIN), 0), 1000) / 10,
        release=_seconds(values[G.RELEASE]),
        key_to_hold=value(G.KEY_TO_HOLD),
        key_to_decay=value(G.KEY_TO_DECAY))


# ---- playing --------------------------------------------------------------------------------------------------------

def _share_waveforms(zones: list[Zone], notes: list[Note]) -> dict[tuple[int, int, int], list[Note]]:
    """{(zone, pitch, velocity step): notes}: notes that differ only in what the envelope does to them."""
    sharing: dict[tuple[int, int, int], list[Note]] = {}
    playing: dict[tuple[int, int], list[int]] = {}                  # (pitch, velocity) -> zones
    for note in notes:
        key = note.pitch, note.velocity
        if key not in playing:
            playing[key] = _zones_for(zones, *key)
        step = max(1, min(127, VELOCITY_STEP * round(note.velocity / VELOCITY_STEP)))
        for i in playing[key]:
            sharing.setdefault((i, note.pitch, step), []).append(note)
    return sharing


def _zones_for(zones: list[Zone], pitch: int, velocity: int) -> list[int]:
    """The zones that a note plays; where a font has a hole, those of the nearest key that is not in one."""
    for distance in range(HOLE + 1):
        for key in (pitch - distance, pitch + distance):
            if found := [i for i, zone in enumerate(zones) if zone.sounds_at(key, velocity)]:
                return found
    return []


def ring_drums(notes: list[Note]) -> list[Note]:
    """Let every drum ring, and every hi-hat until the next one; notes must be sorted by onset."""
    rung, next_hat = [], np.inf
    for note in reversed(notes):
        duration = DRUM_RING
        if note.pitch in HI_HATS:
            if next_hat - note.onset > 1e-3:
                duration = min(duration, next_hat - note.onset)
            next_hat = note.onset
        rung.append(note._replace(duration=duration))
    return rung[::-1]


def _pan_gains(pan: int) -> tuple[float, float]:
    """Left and right amplitude with constant power. pan: -500 left .. 500 right."""
    angle = (pan + 500) / 1000 * np.pi / 2
    return float(np.cos(angle)), float(np.sin(angle))


def _detune(zone: Zone, sample: Sample, period: float) -> float:
    """Cents by which the zone's sound lies above the pitch of `period` (points), by autocorrelation; 0 if not clear.

    It listens to what a long note plays from 0.3 to 0.8 s. The lag is that of several periods, at most 40 ms,
    which makes the estimate finer, but fewer than could be miscounted.
    """
    lag = period * min(12, max(1, int(0.04 * sample.rate / period)))
    lags = np.arange(int(lag * 2 ** (-0.5 / 12)) - 1, int(lag * 2 ** (0.5 / 12)) + 3)
    attack, window = int(0.3 * sample.rate), int(0.45 * sample.rate)
    signal = _unrolled(zone, sample, attack + window + lags[-1])[attack:attack + window + lags[-1]].astype(np.float64)
    if len(signal) < window + lags[-1]:
        return 0.0
    signal -= signal.mean()
    n_fft = scipy.fft.next_fast_len(len(signal) + window, real=True)
    spectrum = scipy.fft.rfft(signal, n_fft) * scipy.fft.rfft(signal[:window], n_fft).conj()
    energy = np.cumsum(np.square(np.append(0, signal)))
    energy = (energy[lags + window] - energy[lags]) * energy[window]
    match = scipy.fft.irfft(spectrum, n_fft)[lags] / np.sqrt(energy + 1e-20)
    best = int(match.argmax())
    if match[best] < CLEAR_PITCH or not 0 < best < len(lags) - 1:
        return 0.0
    before, peak, after = match[best - 1:best + 2]
    exact = lags[best] + 0.5 * (before - after) / (before - 2 * peak + after)
    return float(1200 * np.log2(lag / exact))


def _unrolled(zone: Zone, sample: Sample, needed: int) -> np.ndarray:
    """The points from the zone's start on, with the loop repeated until there are at least `needed` of them."""
    loop_start = sample.loop_start + zone.loop_start
    loop_end = min(sample.loop_end + zone.loop_end, len(sample.points))
    if not zone.looped or loop_end - loop_start <= 8:
        return sample.points[zone.start:len(sample.points) + zone.end]
    points = sample.points[zone.start:loop_end]
    repeats = -(-(needed - len(points)) // (loop_end - loop_start))
    if repeats <= 0:
        return points[:needed]
    return np.concatenate([points, np.tile(sample.points[loop_start:loop_end], repeats)])


def interpolate(points: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Points between the points by cubic Hermite (Catmull-Rom) interpolation: the shape of `positions`, float32."""
    index = positions.astype(np.int64)
    fraction = (positions - index).astype(np.float32)
    padded = np.concatenate([points[:1], points])                # padded[i] is the point before positions in [i, i + 1)
    before, left, right, after = (padded.take(index + k) for k in range(4))
    cubic = left - right
    cubic *= 3
    cubic += after
    cubic -= before
    square = 2 * before
    square -= 5 * left
    square += 4 * right
    square -= after
    cubic *= fraction
    cubic += square
    cubic *= fraction
    cubic += right
    cubic -= before
    cubic *= fraction
    cubic *= np.float32(0.5)
    cubic += left
    return cubic


def _held_envelope(zone: Zone, pitch: int, length: int, rate: int) -> np.ndarray:
    """Amplitude while the key is down: delay, linear attack, hold, decay in dB to the sustain level: (length,)."""
    below_middle = 60 - pitch
    hold = zone.hold * 2 ** (zone.key_to_hold * below_middle / 1200)
    decay = zone.decay * 2 ** (zone.key_to_decay * below_middle / 1200)
    corners = np.array([zone.delay, zone.attack, hold, zone.sustain * decay / 100]).cumsum() * rate
    start, attacked, held, settled = (int(min(corner, length)) for corner in corners)
    envelope = np.empty(length, np.float32)
    envelope[:start] = 0
    rise = (np.arange(start, attacked, dtype=np.float32) + np.float32(1 - start)) / np.float32(zone.attack * rate)
    envelope[start:attacked] = np.minimum(rise, 1)
    envelope[attacked:held] = 1
    envelope[held:settled] = _falling(settled - held, 100 / decay, rate)
    envelope[settled:] = 10 ** (-zone.sustain / 20)
    return envelope


def _falling(length: int, db_per_second: float, rate: int) -> np.ndarray:
    """An amplitude that starts at 1 and falls steadily in dB: (length,) float32."""
    slope = -db_per_second / rate * np.log(10) / 20
    return np.exp(np.arange(length, dtype=np.float32) * np.float32(slope))


def _low_pass(wave: np.ndarray, cutoff: float, resonance: float, rate: int) -> np.ndarray:
    """A second-order resonant low-pass (bilinear transform). cutoff: Hz. resonance: dB above a flat response."""
    omega = 2 * np.pi * min(cutoff, 0.45 * rate) / rate
    alpha = np.sin(omega) / (2 * 10 ** (resonance / 20) / np.sqrt(2))
    cosine = np.cos(omega)
    numerator = np.array([(1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2]) / (1 + alpha)
    denominator = np.array([1, -2 * cosine / (1 + alpha), (1 - alpha) / (1 + alpha)])
    return lfilter(numerator.astype(np.float32), denominator.astype(np.float32), wave)
