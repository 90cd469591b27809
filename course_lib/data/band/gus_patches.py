"""Gravis Ultrasound patches (.pat), played by the sampler: a folder of recordings, one file an instrument or drum.

The files are those of the freepats project: Tone_000/NNN_NAME.pat for General MIDI programs, Drum_000/NNN_NAME.pat for
drums by key. A program that has no file is played on the nearest one of its family. The layout follows the description
in the Ultrasound development kit; rates and levels of envelopes are read as TiMidity reads them.
"""

import functools
import re
import struct
from collections.abc import Collection
from pathlib import Path

import numpy as np

from course_lib.data.band.sampler import DRUM_BANK, FADE_OUT, Sample, SoundFont, Zone

HEADER, INSTRUMENT, LAYER, SAMPLE = 129, 63, 47, 96         # bytes of the parts of a file
MAGIC = (b"GF1PATCH110\0", b"GF1PATCH100\0")
SIXTEEN_BIT, UNSIGNED, LOOPED, PING_PONG, ENVELOPE = 1, 2, 4, 8, 64
FULL_SCALE_SECONDS = 47.55                                  # seconds of a ramp over the whole range at rate 1
ENVELOPE_RANGE_DB = 36.0
FAMILY = 8                                                  # programs in a family of General MIDI


class PatchSet(SoundFont):
    """A folder of patches at one sampling rate. FileNotFoundError without patches, ValueError for a damaged one.

    left_out: programs that are to be played on others of their family.
    """

    def __init__(self, folder: str | Path, rate: int = 44100, left_out: Collection[int] = ()):
        self.path, self.rate = Path(folder), int(rate)
        self._fade = np.linspace(1, 0, int(FADE_OUT * self.rate), dtype=np.float32)
        self._files = {bank: {int(path.name[:3]): path for path in sorted((self.path / name).glob("*.pat"))
                              if re.match(r"\d{3}_", path.name) and (bank or int(path.name[:3]) not in left_out)}
                       for bank, name in ((0, "Tone_000"), (DRUM_BANK, "Drum_000"))}
        if not all(self._files.values()):
            raise FileNotFoundError(f"{self.path} holds no patches; expected Tone_000 and Drum_000 with .pat files, as "
                                    "Debian's package freepats installs them")
        self._zones, self._samples, self._mistunings = {}, {}, {}

    @property
    def presets(self) -> dict[tuple[int, int], str]:
        """The name of every (bank, program) that has a file of its own; the drums are one kit."""
        names = {(0, program): path.stem[4:] for program, path in self._files[0].items()}
        return names | {(DRUM_BANK, 0): "drums"}

    def zones(self, bank: int, program: int) -> list[Zone]:
        """The zones of an instrument, or of all drums."""
        key = (DRUM_BANK, 0) if bank == DRUM_BANK else (0, nearest_program(program, tuple(self._files[0])))
        if key not in self._zones:
            self._zones[key] = self._drum_zones() if bank == DRUM_BANK else self._read(self._files[0][key[1]])
        return self._zones[key]

    def _drum_zones(self) -> list[Zone]:
        """The drums that have a file, each at its own key, as it was recorded."""
        return [zone for key, path in self._files[DRUM_BANK].items() for zone in self._read(path, drum=key)[:1]]

    def _read(self, path: Path, drum: int | None = None) -> list[Zone]:
        """The zones of one file; their recordings are kept as samples."""
        zones = []
        for sample, facts in read_patch(path):
            number = len(self._samples)
            self._samples[number] = sample
            keys = (drum, drum) if drum is not None else facts["keys"]
            zones.append(Zone(
                sample=number, keys=keys, velocities=(0, 127), start=0, end=0, loop_start=0, loop_end=0,
                looped=facts["looped"] and drum is None, root=-1, scale=0.0 if drum is not None else 100.0,
                tune=-sample.correction if drum is not None else 0.0, gain=1.0, pan=facts["pan"], cutoff=13500.0,
                resonance=0.0, vibrato_depth=0.0, vibrato_rate=5.0, vibrato_delay=0.0, delay=0.0, hold=0.0,
                key_to_hold=0, key_to_decay=0, **facts["envelope"]))
        if drum is None and zones:                          # the outermost recordings serve all keys beyond them
            zones.sort(key=lambda zone: zone.keys)
            first, last = zones[0], zones[-1]
            zones[0] = Zone(**{**vars(first), "keys": (0, first.keys[1])})
            last = zones[-1]
            zones[-1] = Zone(**{**vars(last), "keys": (last.keys[0], 127)})
        return zones

    def _sample(self, index: int) -> Sample:
        return self._samples[index]


@functools.lru_cache(maxsize=256)
def nearest_program(program: int, present: tuple[int, ...]) -> int:
    """The program itself, or the nearest of its family, or the nearest of all."""
    family = [other for other in present if other // FAMILY == program // FAMILY] or list(present)
    return min(family, key=lambda other: (abs(other - program), other))


def read_patch(path: Path) -> list[tuple[Sample, dict]]:
    """The recordings of a file, and for each what its zone needs. ValueError where the file is damaged."""
    data = path.read_bytes()
    if data[:12] not in MAGIC or len(data) < HEADER + INSTRUMENT + LAYER + SAMPLE:
        raise ValueError(f"{path} is not a Gravis Ultrasound patch: it has {len(data)} bytes and begins with "
                         f"{data[:12]!r}; install its package again")
    count = data[HEADER + INSTRUMENT + 6]
    position, found = HEADER + INSTRUMENT + LAYER, []
    for _ in range(count):
        header = data[position:position + SAMPLE]
        if len(header) < SAMPLE:
            raise ValueError(f"{path} ends within a recording's header; it is damaged, install its package again")
        size, loop_start, loop_end, rate, low, high, root = struct.unpack_from("<IIIHIII", header, 8)
        pan, modes = header[36], header[55]
        raw = data[position + SAMPLE:position + SAMPLE + size]
        position += SAMPLE + size
        if len(raw) < size or not rate or not root:
            raise ValueError(f"{path}: a recording of {size} bytes has {len(raw)} and {rate} Hz; the file is damaged, "
                             "install its package again")
        points, loop = _points(raw, modes, loop_start, loop_end)
        pitch = _midi(root)
        sample = Sample(points, *loop, rate, round(pitch), 100 * (round(pitch) - pitch))
        found.append((sample, {
            "keys": (int(np.ceil(_midi(low) - 0.5)) if low else 0, int(np.floor(_midi(high) + 0.49)) if high else 127),
            "looped": bool(modes & LOOPED) and loop[1] - loop[0] > 8, "pan": 0 if pan > 15 else round((pan - 7) * 60),
            "envelope": _envelope(header[37:43], header[43:49], bool(modes & ENVELOPE))}))
    return found


def _points(raw: bytes, modes: int, loop_start: int, loop_end: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Float32 points in [-1, 1] and the loop in points; a loop that runs to and fro is written out."""
    wide = bool(modes & SIXTEEN_BIT)
    points = np.frombuffer(raw[:len(raw) // 2 * 2] if wide else raw, "<i2" if wide else "i1")
    if modes & UNSIGNED:
        points = points ^ points.dtype.type(-32768 if wide else -128)
    points = points.astype(np.float32) / np.float32(32768 if wide else 128)
    start, end = (place // 2 if wide else place for place in (loop_start, loop_end))
    start, end = min(start, len(points)), min(end, len(points))
    if modes & PING_PONG and end > start:
        points = np.concatenate([points[:end], points[start:end][::-1]])
        end += end - start
    return points, (start, end)


def _envelope(rates: bytes, levels: bytes, used: bool) -> dict[str, float]:
    """Attack, decay, sustain and release of a zone, from six rates and six levels."""
    if not used:
        return {"attack": 0.001, "decay": 1.0, "sustain": 0.0, "release": 0.1}
    seconds = [FULL_SCALE_SECONDS / max(1, (rate & 63) << 3 * (3 - (rate >> 6))) for rate in rates]
    sustain = ENVELOPE_RANGE_DB * (1 - levels[2] / 255)
    per_100_db = 100 / ENVELOPE_RANGE_DB
    return {"attack": min(2.0, max(0.001, seconds[0] * levels[0] / 255)), "decay": max(0.01, seconds[2] * per_100_db),
            "sustain": sustain, "release": min(10.0, max(0.03, seconds[3] * per_100_db))}


def _midi(millihertz: int) -> float:
    return 69 + 12 * float(np.log2(millihertz / 440000))
