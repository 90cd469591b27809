"""Who plays a song of a world, and what the studio does to each part: drawn from the world by the song's seed."""

import functools
from collections.abc import Mapping

import numpy as np
from scipy.signal import fftconvolve, firwin2

from course_lib.data.band.drum_kits import DrumKit
from course_lib.data.band.effects import (
    at_level,
    chorus,
    compressor_gain,
    delayed,
    equalise,
    high_shelf,
    peaking,
    saturate,
    width,
)
from course_lib.data.band.gus_patches import PatchSet
from course_lib.data.band.sampler import DRUM_BANK, SoundFont
from course_lib.data.band.song import Note, Part, Song
from course_lib.data.band.speech import sing_words, speak_words
from course_lib.data.band.synthesiser import DECAYING, Synthesiser
from course_lib.data.band.voice import Singer, sing
from course_lib.data.band.worlds import SOUNDS, World, find_sound

CAST, TREATMENT = 11, 12            # what a generator is for, beside those of the mixer


class Cast:
    """The players of one song in a world. All that is drawn depends on (song.seed, world.name, part) alone."""

    def __init__(self, world: World, song: Song, rate: int):
        self.world, self.song, self.rate, self.studio = world, song, rate, world.studio
        self._key = int.from_bytes(world.name.encode()[:6].ljust(6, b"\0"), "big")
        rng = self._generator(CAST, 0)
        self.kit = world.kits[rng.integers(len(world.kits))] if world.kits and rng.random() < world.kit_share else None
        self.seed = int(rng.integers(2 ** 31))

    def _generator(self, purpose: int, index: int) -> np.random.Generator:
        return np.random.default_rng([self.song.seed, purpose, index, self._key])

    def _font_for(self, rng: np.random.Generator) -> "SoundFont | PatchSet":
        return _opened(_drawn(self.world.fonts, rng), self.rate)

    def drums(self, part: Part, tuning: Mapping[int, float], index: int) -> np.ndarray:
        """The dry drums: of a kit, or of a soundfont."""
        rng = self._generator(CAST, 1 + index)
        if self.kit is not None:
            return _kit(self.kit, self.rate).render(part.notes, self.song.seconds, tuning, rng)
        return self._font_for(rng).render(part.notes, part.program, self.song.seconds, DRUM_BANK, tuning)

    def instrument(self, part: Part, tuning: float, index: int) -> np.ndarray:
        """A dry melodic part: a soundfont's instrument or a random synthesiser."""
        rng = self._generator(CAST, 1 + index)
        if rng.random() < self.world.synthesiser:
            player = Synthesiser((self.seed, index), self.rate, part.program in DECAYING)
            return player.render(part.notes, part.program, self.song.seconds, tuning=tuning)
        return self._font_for(rng).render(part.notes, part.program, self.song.seconds, tuning=tuning)

    def voice(self, part: Part, notes: list[Note], singer: Singer, words: int, index: int) -> np.ndarray:
        """One take of a voice, (time,). words: seed of the performance; the same words for a double."""
        rng = self._generator(CAST, 1 + index)
        kind = _drawn(self.world.voices, rng)
        spread = 0.12 if kind == "formant" else 0.09
        singer = Singer(tract=float(np.clip(singer.tract * np.exp(rng.normal(0, spread)), 0.75, 1.35)),
                        brightness=singer.brightness + rng.normal(-1, 2.5), vibrato_rate=float(rng.uniform(4.2, 7.0)),
                        vibrato_depth=float(rng.uniform(0, 0.8) ** 1.5), breath=float(rng.uniform(0.01, 0.25)))
        own = np.random.default_rng(words)
        if kind == "formant":
            return sing(notes, self.song.seconds, singer, own, self.rate)
        speaker = self.world.speakers[rng.integers(len(self.world.speakers))]
        speaker = speaker._replace(rate=int(rng.integers(115, 200)), pitch=int(rng.integers(15, 85)))
        if kind == "spoken":
            return speak_words(notes, self.song.seconds, speaker, own, self.rate)
        return sing_words(notes, self.song.seconds, singer, speaker, own, self.rate, float(rng.uniform(1.0, 2.2)))

    def treat(self, y: np.ndarray, part: Part, index: int) -> np.ndarray:
        """What this world's studio does to a recorded part, at the reference level."""
        return at_level(EFFECTS[self.world.effects](y, part, self.rate, self._generator(TREATMENT, index)))


def _drawn(weighted: tuple[tuple[str, float], ...], rng: np.random.Generator) -> str:
    weights = np.array([weight for _, weight in weighted])
    return weighted[int(rng.choice(len(weighted), p=weights / weights.sum()))][0]


@functools.lru_cache(maxsize=8)
def _opened(name: str, rate: int) -> "SoundFont | PatchSet":
    path = find_sound(name)
    return PatchSet(path, rate, SOUNDS[name].left_out) if path.is_dir() else SoundFont(path, rate)


@functools.lru_cache(maxsize=3)
def _kit(name: str, rate: int) -> DrumKit:
    return DrumKit(find_sound(name), rate)


# ---- effects by world ------------------------------------------------------------------------------------------------

def untreated(y: np.ndarray, part: Part, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The part as it is."""
    return y


def studio_effects(y: np.ndarray, part: Part, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Bells and shelves, saturation, compression, chorus and width, from wide ranges."""
    bells = [peaking(float(np.exp(rng.uniform(np.log(70), np.log(11000)))), rng.normal(0, 5), rate,
                     float(rng.uniform(0.4, 2))) for _ in range(rng.integers(1, 4))]
    y = equalise(y, *bells, high_shelf(float(rng.uniform(1500, 8000)), rng.normal(0, 4), rate))
    if rng.random() < 0.3:
        y = saturate(at_level(y), float(np.exp(rng.uniform(np.log(0.1), np.log(2)))))
    if rng.random() < 0.4:
        y = at_level(y)
        y = y * compressor_gain(y, rate, rng.uniform(-36, -20), rng.uniform(2, 10), attack=rng.uniform(0.001, 0.03),
                                release=rng.uniform(0.05, 0.3))
    if part.stem == "other" and rng.random() < 0.15:
        y = chorus(y, rng.uniform(0.2, 2), rate)
    return width(y, float(rng.uniform(0.0, 1.5)))


def other_effects(y: np.ndarray, part: Part, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Effects built otherwise: a random linear-phase equaliser, hard clipping, a comb reverb, a notch comb, tremolo."""
    corners = np.concatenate([[0], np.geomspace(60, 0.45 * rate, 9), [rate / 2]])
    gains = 10 ** (np.concatenate([[0], rng.normal(0, 4, 9), [-6]]) / 20)
    y = fftconvolve(y, firwin2(513, corners, gains, fs=rate)[None], mode="same", axes=1).astype(np.float32)
    y = at_level(y)
    if rng.random() < 0.3:
        ceiling = np.float32(rng.uniform(0.12, 0.3))
        y = np.clip(y, -ceiling, 0.8 * ceiling)
    if part.stem != "bass" and rng.random() < 0.4:
        y = comb_reverb(y, rate, float(rng.uniform(0.05, 0.25)), float(rng.uniform(0.6, 0.85)), rng)
    if part.stem == "other" and rng.random() < 0.2:
        y = y + np.float32(rng.uniform(-0.7, 0.7)) * delayed(y, float(rng.uniform(0.0005, 0.004)), rate)
    if part.stem == "other" and rng.random() < 0.15:
        time = np.arange(y.shape[1], dtype=np.float32) / np.float32(rate)
        y = y * (1 + np.float32(rng.uniform(0.1, 0.4)) * np.sin(2 * np.pi * np.float32(rng.uniform(3, 7)) * time))
    return y - y.mean(1, keepdims=True)


def comb_reverb(y: np.ndarray, rate: int, amount: float, feedback: float, rng: np.random.Generator) -> np.ndarray:
    """Four feedback combs and a delay between the sides (after Schroeder 1962): (2, time)."""
    middle = y.mean(0)
    sides = []
    for _ in range(2):
        tail = np.zeros_like(middle)
        for seconds in (0.0297, 0.0371, 0.0411, 0.0437):
            tail += feedback_comb(middle, int(seconds * rng.uniform(0.9, 1.1) * rate), feedback)
        sides.append(tail)
    return np.repeat(y, 2 // len(y), axis=0) + np.float32(amount) * np.stack(sides)


def feedback_comb(y: np.ndarray, delay: int, feedback: float) -> np.ndarray:
    """out[n] = y[n] + feedback out[n - delay]: (time,), a block of `delay` samples at a time."""
    blocks = np.pad(y, (0, -len(y) % delay)).reshape(-1, delay).copy()
    for i in range(1, len(blocks)):
        blocks[i] += np.float32(feedback) * blocks[i - 1]
    return blocks.ravel()[:len(y)]


EFFECTS = {"none": untreated, "studio": studio_effects, "other": other_effects}
