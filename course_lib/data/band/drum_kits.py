"""Drum kits of real recordings: the kits of the drum machine Hydrogen, played from their folders.

A kit is a folder with drumkit.xml: instruments by name, each with recordings (layers) for soft to hard hits. The names
are free text, so each drum of General MIDI looks for its instrument by pattern; where a kit has none the nearest drum
that it has plays instead (a tom for another tom, the snare for a clap).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import soundfile

from course_lib.data.band.sampler import DRUM_RELEASE, interpolate, ring_drums
from course_lib.data.band.song import Note
from course_lib.data.band.styles import (
    CLAP,
    CLOSED_HAT,
    CRASH,
    CRASH_2,
    HIGH_MID_TOM,
    KICK,
    LOW_FLOOR_TOM,
    LOW_MID_TOM,
    LOW_TOM,
    MARACAS,
    OPEN_HAT,
    PEDAL_HAT,
    RIDE,
    SIDE_STICK,
    SNARE,
    TAMBOURINE,
)

HAT = r"hat|\bhh|\bohh"
# drum -> pattern of the names that it may have in a kit; where several fit, one is drawn for each song
NAMES = {
    KICK: r"kick|bass ?drum",
    SNARE: r"snare(?!.*(roll|rim))|djembe. slap",
    SIDE_STICK: r"stick|rim|click",
    CLAP: r"clap|snap|cajon slap",
    CLOSED_HAT: rf"({HAT}).*(clos|\bcl\b|low|ring)|closed h",
    PEDAL_HAT: rf"({HAT}).*(ped|\bpd\b|choke|side)|(pedal|side) h",
    OPEN_HAT: rf"({HAT}).*(open|\bop\b)|(open|side o)h|open h",
    LOW_FLOOR_TOM: r"floor|tom low|low tom|low$",
    LOW_TOM: r"tom low|low tom|floor|tom 2",
    LOW_MID_TOM: r"tom mid|mid(dle)? tom|tom 2|\btom\b",
    HIGH_MID_TOM: r"tom hi|hi(gh)? tom|tom 1|\btom\b",
    CRASH: r"crash(?!.*(choke|bell|flink))|cymbal|splash",
    CRASH_2: r"crash(?!.*(choke|bell|flink))|cymbal|splash|china",
    RIDE: r"ride(?!.*crash)",
    TAMBOURINE: r"tambourine|cowbell|agogo",
    MARACAS: r"shaker|maraca",
}
INSTEAD = {
    SIDE_STICK: (SNARE,), CLAP: (SNARE,), SNARE: (CLAP,), PEDAL_HAT: (CLOSED_HAT,), CLOSED_HAT: (PEDAL_HAT, MARACAS),
    OPEN_HAT: (CLOSED_HAT, CRASH), LOW_FLOOR_TOM: (LOW_TOM, LOW_MID_TOM, HIGH_MID_TOM, KICK),
    LOW_TOM: (LOW_FLOOR_TOM, LOW_MID_TOM, HIGH_MID_TOM, KICK),
    LOW_MID_TOM: (HIGH_MID_TOM, LOW_TOM, LOW_FLOOR_TOM, KICK),
    HIGH_MID_TOM: (LOW_MID_TOM, LOW_TOM, LOW_FLOOR_TOM, SNARE), CRASH: (CRASH_2, RIDE, OPEN_HAT, CLOSED_HAT),
    CRASH_2: (CRASH, RIDE, OPEN_HAT, CLOSED_HAT), RIDE: (CRASH, CLOSED_HAT), TAMBOURINE: (CLOSED_HAT, CLAP, SNARE),
    MARACAS: (CLOSED_HAT, SNARE), KICK: (LOW_FLOOR_TOM, LOW_TOM),
}
LONGEST_HIT = 3.0           # seconds that are read of a recording
AUDIO = (".wav", ".flac", ".ogg", ".aiff", ".aif")


class Layer(NamedTuple):
    """One recording of an instrument, and for which strength of a hit it stands."""

    path: Path
    low: float              # 0..1
    high: float
    gain: float


class Instrument(NamedTuple):
    """A drum of the kit."""

    name: str
    volume: float
    layers: tuple[Layer, ...]


class DrumKit:
    """A Hydrogen kit at a sampling rate. FileNotFoundError without drumkit.xml, ValueError where it can't be used."""

    def __init__(self, folder: str | Path, rate: int = 44100):
        self.folder, self.rate = Path(folder), int(rate)
        self.instruments = read_kit(self.folder)
        self._waves: dict[tuple[Path, int], np.ndarray] = {}

    def choices(self, drum: int) -> list[Instrument]:
        """The instruments that may play a General MIDI drum, or those of the nearest drum that the kit has."""
        for candidate in (drum, *INSTEAD.get(drum, (SNARE,))):
            pattern = NAMES.get(candidate)
            found = [i for i in self.instruments if pattern and re.search(pattern, i.name, re.IGNORECASE)]
            if found:
                return found
        return list(self.instruments)

    def render(self, notes: Sequence[Note], seconds: float, tuning: Mapping[int, float], rng: np.random.Generator,
               ) -> np.ndarray:
        """Play notes (General MIDI drums) of a song: (2, round(seconds * rate)) float32.

        tuning: cents by drum. rng: which instrument plays each drum, and small differences between hits.
        """
        length = round(seconds * self.rate)
        out = np.zeros((2, length), np.float32)
        notes = ring_drums(sorted(note for note in notes if round(note.onset * self.rate) < length))
        players: dict[int, Instrument] = {}
        for drum in sorted({note.pitch for note in notes}):
            choices = self.choices(drum)
            players[drum] = choices[rng.integers(len(choices))]
        for note in notes:
            wave = self._wave(players[note.pitch], note.velocity / 127, tuning.get(note.pitch, 0.0))
            start = round(note.onset * self.rate)
            count = min(wave.shape[1], length - start, int((note.duration + DRUM_RELEASE) * self.rate))
            hit = wave[:, :count] * np.float32((note.velocity / 127) ** 1.5 * np.exp(rng.normal(0, 0.06)))
            fade = min(count, int(DRUM_RELEASE * self.rate))
            if count < wave.shape[1]:
                hit[:, count - fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
            out[:, start:start + count] += hit
        return out

    def _wave(self, instrument: Instrument, strength: float, cents: float) -> np.ndarray:
        """The recording of a hit, tuned: (2, time)."""
        layers = instrument.layers
        layer = next((layer for layer in layers if layer.low <= strength <= layer.high),
                     min(layers, key=lambda layer: abs((layer.low + layer.high) / 2 - strength)))
        key = layer.path, round(cents)
        if key not in self._waves:
            wave, rate = read_beginning(layer.path)
            ratio = 2.0 ** (key[1] / 1200) * rate / self.rate
            positions = np.arange(max(1, int((wave.shape[1] - 4) / ratio))) * ratio
            self._waves[key] = np.stack([interpolate(side, positions) for side in wave]) if wave.shape[1] > 8 \
                else np.zeros((2, 8), np.float32)
        return self._waves[key] * np.float32(layer.gain * instrument.volume)


def read_kit(folder: Path) -> list[Instrument]:
    """The instruments of a kit's folder that have recordings; ValueError where there are none."""
    path = folder / "drumkit.xml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the folder of a Hydrogen drum kit, as Debian's "
                                "packages hydrogen-data and hydrogen-drumkits install them")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML ({error}); install the kit again") from error
    instruments = []
    for node in root.iter():
        if _tag(node) != "instrument":
            continue
        layers = [Layer(folder / _text(layer, "filename"), _number(layer, "min", 0), _number(layer, "max", 1),
                        _number(layer, "gain", 1)) for layer in node.iter() if _tag(layer) == "layer"]
        if not layers and _text(node, "filename"):
            layers = [Layer(folder / _text(node, "filename"), 0, 1, 1)]
        layers = [layer for layer in layers if layer.path.suffix.lower() in AUDIO and layer.path.is_file()]
        if layers:
            instruments.append(Instrument(_text(node, "name"), _number(node, "volume", 1), tuple(layers)))
    if not instruments:
        raise ValueError(f"{path} names no recording that is there; install the kit again")
    return instruments


def read_beginning(path: Path) -> tuple[np.ndarray, int]:
    """A recording from its first sound on, (2, time) float32, and its rate."""
    with soundfile.SoundFile(path) as file:
        wave = file.read(int(LONGEST_HIT * file.samplerate), dtype="float32", always_2d=True).T
        rate = file.samplerate
    wave = np.repeat(wave, 2, axis=0)[:2] if len(wave) == 1 else wave[:2]
    heard = np.flatnonzero(np.abs(wave).max(0) > 0.003)
    return wave[:, max(0, heard[0] - 32) if len(heard) else 0:], rate


def _tag(node) -> str:
    return node.tag.rpartition("}")[2]


def _text(node, name: str) -> str:
    return next(((child.text or "").strip() for child in node if _tag(child) == name), "")


def _number(node, name: str, default: float) -> float:
    try:
        return float(_text(node, name))
    except ValueError:
        return default
