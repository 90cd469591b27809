"""How the band sounds: the sampler, the voice, the effects and the mixer."""

import hashlib
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from course_lib.data.band import effects, mixer, voice
from course_lib.data.band.composer import compose
from course_lib.data.band.sampler import DRUM_BANK, Generator, SoundFont
from course_lib.data.band.song import Note, Part, Song
from course_lib.data.band.soundfonts import default_soundfont
from course_lib.data.band.styles import STYLES

ROOT = Path(__file__).resolve().parents[3]
FLUID = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
RATE = 44100
FONTS = [
    pytest.param(default_soundfont(), id="TimGM6mb"),
    pytest.param(FLUID, id="FluidR3", marks=pytest.mark.skipif(
        not FLUID.is_file(), reason="the held-out soundfont is not installed (Debian: fluid-soundfont-gm)")),
]
PROGRAMS = {role: sorted({program for style in STYLES.values() for program in getattr(style, role)})
            for role in ("bass", "comp", "pad", "lead")}
ENSEMBLES = {50, 52}        # layered strings and a choir: many pitches at once, so only their middle can be in tune


# ---- measuring ------------------------------------------------------------------------------------------------------

def frequency_of(pitch: float) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


def detune(y: np.ndarray, pitch: float, rate: int, partials: int = 6) -> float:
    """Semitones by which a note is off: its first partials' peaks, weighted by power, within 0.6 semitone of theirs."""
    n_fft = 2 ** 17
    power = np.abs(np.fft.rfft(y * np.hanning(len(y)), n_fft)) ** 2
    offsets, weights = [], []
    for k in range(1, partials + 1):
        low, high = (int(k * frequency_of(pitch + side) * n_fft / rate) for side in (-0.6, 0.6))
        peak = low + int(power[low:high + 1].argmax())
        offsets.append(12 * np.log2(peak * rate / n_fft / (k * frequency_of(pitch))))
        weights.append(power[peak])
    return float(np.average(offsets, weights=weights))


def pitch_of(y: np.ndarray, rate: int, lowest: float = 60, highest: float = 1200) -> float:
    """MIDI number of a periodic sound by normalised autocorrelation: the shortest of the lags that match best."""
    y = y - y.mean()
    product = np.fft.irfft(np.abs(np.fft.rfft(y, 2 * len(y))) ** 2)[:len(y)]
    squares = np.append(0, np.cumsum(y ** 2))
    n = np.arange(len(y))
    match = 2 * product / (squares[len(y) - n] + squares[-1] - squares[n] + 1e-12)
    lags = np.arange(int(rate / highest), min(int(rate / lowest), len(y) // 2))
    peaks = lags[(match[lags] > match[lags - 1]) & (match[lags] >= match[lags + 1])]
    lag = peaks[match[peaks] >= 0.9 * match[peaks].max()][0]
    before, peak, after = match[lag - 1:lag + 2]
    return 69 + 12 * np.log2(rate / (lag + 0.5 * (before - after) / (before - 2 * peak + after)) / 440)


def level_db(y: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(y, dtype=np.float64)) + 1e-20)


def band_level(y: np.ndarray, low: float, high: float, rate: int = RATE) -> float:
    """dB of what lies between two frequencies."""
    power = np.abs(np.fft.rfft(y.mean(0))) ** 2
    frequencies = np.fft.rfftfreq(y.shape[1], 1 / rate)
    return 10 * np.log10(power[(frequencies >= low) & (frequencies < high)].sum() + 1e-20)


def gain_at(sections: np.ndarray, frequency: float, rate: int = RATE) -> float:
    """dB of a filter at a frequency, from its impulse response."""
    impulse = np.zeros((1, rate), np.float32)
    impulse[0, 0] = 1
    response = effects.equalise(impulse, sections)[0]
    return 20 * np.log10(np.abs(np.dot(response, np.exp(-2j * np.pi * frequency * np.arange(rate) / rate))))


# ---- a soundfont small enough to know everything about --------------------------------------------------------------

def write_soundfont(path: Path, vorbis: bool = False, zone: dict[int, int] | None = None, pitch: int = 60) -> Path:
    """A font of one preset (0, 0) with one zone: a looped sine at MIDI `pitch`, whose root key is 60."""
    rate, cycles = 44100, 40
    points = round(cycles * rate / frequency_of(pitch))
    wave = 0.5 * np.sin(2 * np.pi * cycles * np.arange(points) / points)
    if vorbis:
        encoded = io.BytesIO()
        soundfile.write(encoded, np.tile(wave, 4), rate, format="OGG", subtype="VORBIS")
        samples = encoded.getvalue()
        header = (0, len(samples), points, 2 * points, rate, 60, 0, 0, 0x11)
    else:
        samples = (wave * 32767).astype("<i2").tobytes() + bytes(92)
        header = (0, points, 0, points, rate, 60, 0, 0, 1)
    generators = {54: 1, 38: -2400, **(zone or {}), 53: 0}              # looped, release 0.25 s; the sample comes last

    def chunk(tag: bytes, data: bytes) -> bytes:
        return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def pack(layout: str, *rows: tuple) -> bytes:
        return b"".join(struct.pack(layout, *row) for row in rows)

    pdta = b"".join([
        chunk(b"phdr", pack("<20sHHHIII", (b"Sine", 0, 0, 0, 0, 0, 0), (b"EOP", 0, 0, 1, 0, 0, 0))),
        chunk(b"pbag", pack("<HH", (0, 0), (1, 0))), chunk(b"pmod", bytes(10)),
        chunk(b"pgen", pack("<HH", (41, 0), (0, 0))),
        chunk(b"inst", pack("<20sH", (b"Sine", 0), (b"EOI", 1))),
        chunk(b"ibag", pack("<HH", (0, 0), (len(generators), 0))), chunk(b"imod", bytes(10)),
        chunk(b"igen", pack("<HH", *((k, v % 65536) for k, v in generators.items()), (0, 0))),
        chunk(b"shdr", pack("<20sIIIIIBbHH", (b"sine", *header), (b"EOS", *[0] * 9)))])
    lists = [chunk(b"LIST", b"INFO" + chunk(b"ifil", struct.pack("<HH", 2, 1))),
             chunk(b"LIST", b"sdta" + chunk(b"smpl", samples)), chunk(b"LIST", b"pdta" + pdta)]
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(lists)))
    return path


# ---- sampler --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("vorbis", [False, True], ids=["sf2", "sf3"])
def test_sampler_plays_each_key_at_its_pitch(tmp_path, rate, vorbis):
    font = SoundFont(write_soundfont(tmp_path / "sine.sf2", vorbis), rate)
    for pitch in (48, 60, 67, 84):
        y = font.render([Note(0.1, 1.0, pitch, 127)], 0, 1.5)
        assert y.shape == (1, round(1.5 * rate)) and y.dtype == np.float32
        assert abs(detune(y[0, int(0.2 * rate):int(rate)], pitch, rate, partials=1)) < 0.01
        assert not y[:, :int(0.1 * rate)].any()


def test_sampler_shapes_level_and_time_as_the_specification_says(tmp_path):
    def play(velocity=127, **zone):
        generators = {Generator[name]: amount for name, amount in zone.items()}
        font = SoundFont(write_soundfont(tmp_path / "sine.sf2", zone=generators), RATE)
        return font.render([Note(0, 1.0, 60, velocity)], 0, 2.0)

    def level(y, start, stop):
        return level_db(y[0, int(start * RATE):int(stop * RATE)])

    full = level(play(), 0.2, 0.9)
    softer = level(play(velocity=64, FILTER_CUTOFF=14000), 0.2, 0.9)
    assert softer - full == pytest.approx(40 * np.log10(64 / 127), abs=0.3)
    assert level(play(ATTENUATION=100), 0.2, 0.9) - full == pytest.approx(-4, abs=0.05)        # 10 dB, scaled by 0.4
    released = play()
    assert level(released, 1.099, 1.101) - full == pytest.approx(-0.1 / 0.25 * 100, abs=1.5)    # 100 dB in 0.25 s
    assert not released[:, int(1.3 * RATE):].any()
    assert level(play(DECAY=0, SUSTAIN=200), 0.5, 0.9) - full == pytest.approx(-20, abs=0.1)
    fading = play(DECAY=0, SUSTAIN=1000)                                                        # 100 dB in 1 s
    assert level(fading, 0.4, 0.42) - level(fading, 0.2, 0.22) == pytest.approx(-20, abs=0.3)
    assert np.abs(play(ATTACK=-1200)[0, :int(0.25 * RATE)]).max() < 0.55 * np.abs(play()).max()  # 0.5 s of attack
    left = play(PAN=-500)
    assert left.shape[0] == 2 and level_db(left[0]) - level_db(left[1] + 1e-9) > 60
    assert level_db(left[0]) - level_db(play()[0]) == pytest.approx(3.01, abs=0.05)             # constant power
    assert level(play(FILTER_CUTOFF=4000), 0.2, 0.9) - full < -15


def test_sampler_loops_without_a_seam_and_keeps_long_notes(tmp_path):
    font = SoundFont(write_soundfont(tmp_path / "sine.sf2"), RATE)
    y = font.render([Note(0, 20.0, 64, 127)], 0, 20.0)[0, 1000:-1000]
    assert abs(level_db(y[:RATE]) - level_db(y[-RATE:])) < 0.1
    # a seam would be a step: no sample may stray from its neighbours more than a sine of this frequency does
    limit = np.abs(y).max() * (2 * np.pi * frequency_of(64) / RATE) ** 2
    assert np.abs(np.diff(y, 2)).max() < 1.1 * limit


def test_sampler_corrects_a_mistuned_zone_but_leaves_layers_alone(tmp_path):
    def played(cents):
        font = SoundFont(write_soundfont(tmp_path / "sine.sf2", zone={52: cents}), RATE)
        return 100 * detune(font.render([Note(0, 1.5, 60, 127)], 0, 1.5)[0, 5000:60000], 60, RATE, partials=1)

    assert abs(played(30)) < 1 and abs(played(-20)) < 1
    assert played(5) == pytest.approx(5, abs=1) and played(-55) == pytest.approx(-55, abs=1)


@pytest.mark.parametrize("path", FONTS)
def test_every_program_of_the_composer_is_in_tune(path):
    font = SoundFont(path, 22050)
    worst = {}
    for program in sorted(set(sum(PROGRAMS.values(), []))):
        for pitch in ((40, 45) if program in PROGRAMS["bass"] else (57, 64, 69)):
            y = font.render([Note(0, 1.4, pitch, 100)], program, 1.4)
            off = np.mean([detune(side[2000:28000].astype(float), pitch, 22050) for side in y])
            worst[program] = max(worst.get(program, 0.0), abs(off))
    assert len(worst) > 40
    loose = ENSEMBLES if path == FLUID else set()
    assert {program: off for program, off in worst.items() if not off < (0.3 if program in loose else 0.1)} == {}


@pytest.mark.parametrize("path", FONTS)
def test_every_kit_and_every_drum_of_the_composer_sounds(path):
    font = SoundFont(path, RATE)
    kits = {kit for style in STYLES.values() for kit in style.kits}
    drums = {drum for style in STYLES.values() for rows in style.drums for drum in rows} | {45, 46, 47, 48, 49, 57}
    for kit in kits:
        for drum in drums:
            assert font.render([Note(0, 0.1, drum, 100)], kit, 0.5, DRUM_BANK).std() > 1e-4, (kit, drum)


def test_no_note_of_the_composer_is_lost():
    font = SoundFont(default_soundfont(), 16000)
    for program in sorted(set(sum(PROGRAMS.values(), []))):
        for pitch in range(36, 88):
            assert np.abs(font.render([Note(0, 0.05, pitch, 90)], program, 0.06)).max() > 1e-4, (program, pitch)


def test_a_closed_hi_hat_stops_an_open_one():
    font = SoundFont(default_soundfont(), RATE)
    ring = font.render([Note(0, 0.1, 46, 100)], 0, 1.0, DRUM_BANK)
    stopped = font.render([Note(0, 0.1, 46, 100), Note(0.2, 0.1, 42, 1)], 0, 1.0, DRUM_BANK)
    assert np.array_equal(ring[:, :8000], stopped[:, :8000])
    assert level_db(stopped[:, 14000:20000]) < level_db(ring[:, 14000:20000]) - 10


def test_notes_past_the_end_are_cut_and_their_order_does_not_matter():
    font = SoundFont(default_soundfont(), RATE)
    notes = [Note(0.5, 9.0, 60, 80), Note(0.0, 0.3, 64, 90), Note(7.0, 1.0, 67, 90)]
    y = font.render(notes, 0, 2.0)
    assert y.shape[1] == 2 * RATE and np.isfinite(y).all()
    assert np.array_equal(y, font.render(notes[::-1], 0, 2.0))
    assert not font.render([], 0, 0.5).any()


def test_a_file_that_is_not_a_soundfont_is_refused(tmp_path):
    whole = default_soundfont().read_bytes()
    with pytest.raises(FileNotFoundError, match="no soundfont at .*missing.sf2"):
        SoundFont(tmp_path / "missing.sf2")
    for name, content, message in (
            ("empty.sf2", b"", "0 bytes: not a SoundFont"),
            ("text.sf2", b"hello, this is a text file", "is not a SoundFont 2 file: it begins with"),
            ("wave.sf2", b"RIFF" + struct.pack("<I", 100) + b"WAVE" + bytes(96), "is not a SoundFont 2 file"),
            ("half.sf2", whole[:len(whole) // 2], "cut short: .* bytes of"),
            ("hollow.sf2", b"RIFF" + struct.pack("<I", 4) + b"sfbk", "lacks the SoundFont chunks smpl, phdr")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            SoundFont(tmp_path / name)
    data = bytearray(write_soundfont(tmp_path / "sine.sf2").read_bytes())
    end = data.index(b"shdr") + 8 + 20 + 4
    data[end:end + 4] = struct.pack("<I", 10 ** 6)                     # the sample claims to end beyond the file
    (tmp_path / "long.sf2").write_bytes(data)
    with pytest.raises(ValueError, match="'sine' ends at point 1000000"):
        SoundFont(tmp_path / "long.sf2").render([Note(0, 0.1, 60, 100)], 0, 0.2)
    data = bytearray(write_soundfont(tmp_path / "sine.sf3", vorbis=True).read_bytes())
    start = data.index(b"OggS")
    data[start:start + 200] = bytes(200)
    (tmp_path / "noise.sf3").write_bytes(data)
    with pytest.raises(ValueError, match="'sine' cannot be decoded"):
        SoundFont(tmp_path / "noise.sf3").render([Note(0, 0.1, 60, 100)], 0, 0.2)
    data = bytearray((tmp_path / "sine.sf2").read_bytes())
    generators = data.index(b"pgen") + 8
    data[generators:generators + 4] = struct.pack("<HH", 41, 77)        # an instrument that is not there
    (tmp_path / "astray.sf2").write_bytes(data)
    with pytest.raises(ValueError, match="program 0 refers to records that the file does not have"):
        SoundFont(tmp_path / "astray.sf2").render([Note(0, 0.1, 60, 100)], 0, 0.2)


def test_a_missing_program_is_refused_and_a_missing_kit_replaced(tmp_path):
    font = SoundFont(write_soundfont(tmp_path / "sine.sf2"), RATE)
    with pytest.raises(ValueError, match="no preset for bank 0, program 29"):
        font.render([Note(0, 1, 60, 90)], 29, 1.0)
    with pytest.raises(ValueError, match="no preset for bank 128"):
        font.render([Note(0, 1, 36, 90)], 0, 1.0, DRUM_BANK)
    standard = SoundFont(default_soundfont(), RATE)
    kick = [Note(0, 1, 36, 90)]
    assert np.array_equal(standard.render(kick, 99, 0.5, DRUM_BANK), standard.render(kick, 0, 0.5, DRUM_BANK))
    with pytest.raises(ValueError, match="rate is 10"):
        SoundFont(default_soundfont(), 10)


# ---- voice ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("pitches, tract", [((45, 52, 57), 0.92), ((55, 62, 67), 1.0), ((64, 71, 76, 81), 1.12)],
                         ids=["low", "middle", "high"])
def test_voice_follows_its_notes(pitches, tract):
    notes = [Note(1.0 * i, 0.95, pitch, 95) for i, pitch in enumerate(pitches)]
    y = voice.sing(notes, len(pitches), voice.Singer(tract=tract), np.random.default_rng(3), RATE)
    for note in notes:
        held = range(int((note.onset + 0.3) * RATE), int((note.onset + 0.8) * RATE), 1500)
        frames = [y[start:start + 3000] for start in held]
        sung = np.median([pitch_of(frame.astype(float), RATE) for frame in frames])
        assert abs(sung - note.pitch) < 0.3, (note, sung)


def test_voice_has_vibrato_of_its_rate_and_depth():
    singer = voice.Singer(vibrato_rate=5.5, vibrato_depth=0.4)
    y = voice.sing([Note(0, 4.0, 60, 90)], 4.0, singer, np.random.default_rng(0), RATE)
    hop = 441
    starts = range(RATE, 3 * RATE + RATE // 2, hop)
    track = np.array([pitch_of(y[start:start + 1800].astype(float), RATE) for start in starts])
    track = track - np.convolve(np.pad(track, 25, mode="edge"), np.ones(51) / 51, "valid")
    spectrum = np.abs(np.fft.rfft(track * np.hanning(len(track)), 4096))
    assert np.fft.rfftfreq(4096, hop / RATE)[spectrum.argmax()] == pytest.approx(5.5, abs=0.7)
    assert np.sqrt(2) * track.std() == pytest.approx(0.4, abs=0.15)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_voiced_sound_is_harmonic_without_aliasing(rate):
    steady = np.full(400, 660.0)
    source = voice.glottal_source(steady, 256, 60000, rate, 0.0)[10000:42768].astype(float)
    power = np.abs(np.fft.rfft(source * scipy.signal.windows.blackmanharris(len(source)))) ** 2
    frequencies = np.fft.rfftfreq(len(source), 1 / rate)
    nearest = np.abs(frequencies / 660 - np.maximum(np.round(frequencies / 660), 1)) * 660
    assert 10 * np.log10(power[nearest > 30].sum() / power.sum()) < -60
    expected = np.array([voice.GLOTTAL_TILT * np.log2(k) for k in range(1, 6)])
    partials = np.array([power[np.abs(frequencies - 660 * k) < 30].sum() for k in range(1, 6)])
    assert np.allclose(10 * np.log10(partials / partials[0]), expected, atol=0.1)


def test_vowels_put_their_formants_where_they_say():
    frequencies = np.arange(0, 5000, 5, dtype=np.float32)
    for vowel in voice.VOWELS.values():
        gain = np.abs(voice._resonances(frequencies, np.array([vowel.frequencies]), np.array([vowel.levels]), 1.0))[0]
        peaks = frequencies[1:-1][(gain[1:-1] > gain[:-2]) & (gain[1:-1] > gain[2:])]
        for formant in vowel.frequencies[:3]:
            assert np.abs(peaks - formant).min() < 60, (vowel, peaks)


def test_consonants_are_noise_bursts_and_differ():
    rest = voice.Gestures.at_rest(200)
    time = np.arange(200) / 172
    voice._articulate(rest, time, Note(0.5, 0.5, 60, 100), voice.CONSONANTS["s"], np.random.default_rng(0))
    struck = np.flatnonzero(rest.noise_level)
    assert abs(time[struck].mean() - 0.5) < 0.05 and rest.noise_centre[struck].min() > 6000
    # sung: syllables on one pitch differ in their top end, because some begin with a sibilant and some do not
    notes = [Note(0.4 * i, 0.35, 57, 95) for i in range(40)]
    y = voice.sing(notes, 16.0, voice.Singer(), np.random.default_rng(1), RATE)
    high = scipy.signal.sosfilt(scipy.signal.butter(4, 5500, "high", fs=RATE, output="sos"), y)

    def levels(start, stop):
        spans = [(max(0, int((n.onset + start) * RATE)), int((n.onset + stop) * RATE)) for n in notes]
        return np.array([level_db(high[first:last]) for first, last in spans])

    onsets, held = levels(-0.04, 0.05), levels(0.15, 0.3)
    assert onsets.max() > np.median(held) + 15 and onsets.max() > np.median(onsets) + 10


def test_voice_is_silent_without_notes_and_repeatable_with_them():
    assert not voice.sing([], 1.0, voice.Singer(), np.random.default_rng(0)).any()
    notes = [Note(0.2, 0.6, 60, 90), Note(0.8, 0.6, 62, 90)]
    first, again, other = (voice.sing(notes, 2.0, voice.Singer(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again) and not np.allclose(first, other, atol=1e-3)
    assert 0.05 < np.abs(first).max() < 1 and not first[int(1.55 * RATE):].any()


# ---- effects --------------------------------------------------------------------------------------------------------

def test_filters_have_the_gains_they_promise():
    assert gain_at(effects.peaking(1000, 6, RATE), 1000) == pytest.approx(6, abs=0.05)
    assert gain_at(effects.peaking(1000, 6, RATE), 20) == pytest.approx(0, abs=0.05)
    shelf = effects.high_shelf(4000, -8, RATE)
    assert [gain_at(shelf, f) for f in (40, 4000, 20000)] == pytest.approx([0, -4, -8], abs=0.1)
    for corner in (25, 900, 12000):
        for make, kind in ((effects.high_pass, "high"), (effects.low_pass, "low")):
            reference = scipy.signal.butter(2, corner, kind, fs=RATE, output="sos")
            assert np.allclose(make(corner, RATE), reference, atol=1e-12)
    assert np.isfinite(effects.equalise(np.ones((1, 100), np.float32), effects.high_pass(12000, 16000))).all()


def test_equaliser_in_float32_is_close_to_float64():
    y = np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)
    sections = np.concatenate([effects.high_pass(mixer.SUBSONIC, RATE), effects.peaking(80, 5, RATE)])
    reference = scipy.signal.sosfilt(sections, y.astype(np.float64))
    assert level_db(effects.equalise(y, sections) - reference) < level_db(reference) - 65


def test_compressor_settles_at_its_ratio_and_limiter_at_its_ceiling():
    y = np.full((2, RATE), 0.5, np.float32)
    gain = effects.compressor_gain(y, RATE, -26, 4, 0.01, 0.15)
    assert 20 * np.log10(gain[-1]) == pytest.approx((20 * np.log10(0.5) + 26) * (1 / 4 - 1), abs=0.1)
    assert gain.shape == (RATE,) and gain[0] > 2 * gain[-1] and (gain <= 1).all() and (np.diff(gain) <= 0).all()
    peaks = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    limited = peaks * effects.limiter_gain(peaks, RATE, 0.7)
    assert 0.5 < np.abs(limited).max() <= 0.7 + 1e-6


def test_panning_keeps_power_and_width_zero_is_mono():
    y = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    for position in (-1, -0.4, 0, 0.7, 1):
        assert np.square(effects.pan(y, position)).sum() == pytest.approx(2 * np.square(y).sum(), rel=1e-5)
    assert np.allclose(*effects.pan(y, 0), rtol=1e-6) and not effects.pan(y, -1)[1].round(6).any()
    stereo = np.random.default_rng(1).standard_normal((2, 1000)).astype(np.float32)
    assert np.array_equal(*effects.width(stereo, 0)) and np.allclose(effects.width(stereo, 1), stereo, atol=1e-6)


def test_reverb_is_the_convolution_and_the_room_has_its_decay():
    response = effects.impulse_response(np.random.default_rng(0), RATE, 1.2, 1.0, 0.02)
    send = np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    wet = effects.Reverb(response, RATE)(send)
    for side in (0, 1):
        assert np.allclose(wet[side], scipy.signal.fftconvolve(send, response[side])[:RATE], atol=1e-4)
    assert not response[:, :int(0.019 * RATE)].any() and np.allclose(np.square(response).sum(1), 1, atol=1e-4)
    low = scipy.signal.sosfilt(scipy.signal.butter(2, (200, 500), "band", fs=RATE, output="sos"), response[0])
    decay = 10 * np.log10(np.cumsum(np.square(low)[::-1])[::-1])                 # Schroeder's backward integration
    decay -= decay[0]
    start, stop = np.argmax(decay < -5), np.argmax(decay < -25)
    assert 3 * (stop - start) / RATE == pytest.approx(1.2, rel=0.2)


def test_echo_delay_and_chorus_are_where_they_should_be():
    click = np.zeros((2, RATE), np.float32)
    click[0, 100] = 1
    repeats = effects.echo(click, 0.25, RATE)
    assert np.flatnonzero(repeats[1]).tolist() == [100 + RATE // 4, 100 + 3 * RATE // 4]
    assert np.flatnonzero(repeats[0]).tolist() == [100, 100 + RATE // 2]
    swept = effects.chorus(click[:1], 0.7, RATE)
    for side in swept:
        arrivals = np.flatnonzero(side)[1:]
        assert swept.shape == (2, RATE) and 0.007 < (arrivals - 100).mean() / RATE < 0.017


def test_exciter_adds_overtones_above_and_leaves_the_rest():
    tone = (0.1 * np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE)).astype(np.float32)[None]
    bright = effects.excite(tone, 2500, 0.5, RATE)
    assert band_level(bright, 5900, 6100) > band_level(tone, 5900, 6100) + 40          # even
    assert band_level(bright, 8900, 9100) > band_level(tone, 8900, 9100) + 40          # odd
    assert band_level(bright - tone, 20, 500) < band_level(tone, 2900, 3100) - 40


def test_level_is_measured_while_a_part_plays():
    y = np.zeros((1, 10 * RATE), np.float32)
    y[:, :RATE] = 0.3
    assert effects.active_level(y) == pytest.approx(0.3, rel=0.02)
    assert effects.active_level(effects.at_level(y)) == pytest.approx(effects.REFERENCE_LEVEL, rel=0.01)
    silence = np.zeros((1, RATE), np.float32)
    assert effects.active_level(silence) == 0 and not effects.at_level(silence).any()


# ---- mixer ----------------------------------------------------------------------------------------------------------

def check_mix(song: Song, stems: dict[str, np.ndarray], rate: int) -> None:
    """What every mix must keep, whatever the song."""
    assert tuple(stems) == mixer.STEMS
    for name, y in stems.items():
        assert y.shape == (2, round(song.seconds * rate)) and y.dtype == np.float32, name
        assert np.isfinite(y).all() and np.abs(y).max() <= 1, name
    other = stems["guitar"] + stems["piano"] + stems["rest"]
    for name, y in (("drums", stems["drums"]), ("bass", stems["bass"]), ("other", other), ("vocals", stems["vocals"])):
        assert effects.active_level(y) > 1e-3, f"{name} is silent"
    assert np.abs(other).max() <= 1
    mixture = sum(stems.values())
    assert 0.1 < np.abs(mixture).max() <= mixer.PEAK
    for y in (mixture, *stems.values()):
        assert np.abs(y[:, -1]).max() < 1e-6                           # faded, not cut
    assert abs(mixture.mean()) < 2e-3                                  # no offset


@pytest.mark.parametrize("seed, seconds, rate", [(1, 2.0, 44100), (2, 5.0, 16000), (3, 5.0, 22050), (4, 6.0, 44100),
                                                 (5, 5.0, 48000), (6, 60.0, 16000), (7, 2.345, 44100)])
def test_mix_at_any_length_and_rate(seed, seconds, rate):
    song = compose(seed, seconds)
    check_mix(song, mixer.mix(song, rate), rate)


@pytest.mark.parametrize("style", sorted(STYLES))
def test_every_style_mixes_and_survives_mono(style):
    song = compose(11, 4.0, style)
    stems = mixer.mix(song, 22050)
    check_mix(song, stems, 22050)
    for name, y in (*stems.items(), ("mixture", sum(stems.values()))):
        if y.any():                                                    # two unrelated sides would lose 3 dB
            lost = level_db(y.mean(0)) - level_db(y)
            assert lost > (-1.5 if name == "mixture" else -3.6), (name, lost)


@pytest.mark.skipif(not FLUID.is_file(), reason="the held-out soundfont is not installed (Debian: fluid-soundfont-gm)")
def test_mix_on_another_soundfont_is_the_same_music_with_another_sound():
    song = compose(12, 4.0)
    ours, theirs = mixer.mix(song, 22050), mixer.mix(song, 22050, FLUID)
    check_mix(song, theirs, 22050)
    assert not np.allclose(ours["bass"], theirs["bass"], atol=1e-3)


def test_parts_are_independent_of_each_other_and_stems_of_missing_parts_silent():
    song = compose(13, 4.0)
    place = next(i for i, part in enumerate(song.parts) if part.stem == "other")
    parts = [replace(part, program=40) if i == place else part for i, part in enumerate(song.parts)]
    changed = replace(song, parts=parts)
    for i, part in enumerate(song.parts):
        before, after = (mixer.render_part(each.parts[i], each, 22050, index=i) for each in (song, changed))
        assert np.array_equal(before, after) == (i != place)
    solo = mixer.mix(replace(song, parts=[part for part in song.parts if part.stem == "bass"]), 22050)
    assert solo["bass"].any() and not any(solo[name].any() for name in mixer.STEMS if name != "bass")
    silence = mixer.mix(replace(song, parts=[]), 22050)
    assert tuple(silence) == mixer.STEMS and not any(y.any() for y in silence.values())


def test_parts_played_on_other_instruments_stay_aligned():
    notes = [Note(0.5 * i + 0.25, 0.3, 60, 100) for i in range(6)]
    song = Song(1, "pop", 120.0, "C major", 3.5)
    for program in (0, 24, 27, 56, 80):
        y = mixer.render_part(Part("other", "", program, notes, "lead"), song, RATE)
        envelope = np.abs(y).max(0)
        for note in notes:
            around = envelope[int((note.onset - 0.02) * RATE):int((note.onset + 0.1) * RATE)]
            rise = np.argmax(around > 0.25 * around.max()) / RATE - 0.02
            assert -0.001 < rise < 0.04, (program, note, rise)


def test_a_song_that_cannot_be_mixed_is_refused():
    with pytest.raises(ValueError, match="song.seconds is 0"):
        mixer.mix(Song(1, "pop", 120.0, "C major", 0.0))
    with pytest.raises(ValueError, match="'strings', expected drums, bass, other or vocals"):
        mixer.mix(Song(1, "pop", 120.0, "C major", 1.0, [Part("strings", "violins", 48, [Note(0, 1, 60, 90)], "pad")]))
    with pytest.raises(ValueError, match="voice 'choir' has program 52, expected 0"):
        mixer.mix(Song(1, "pop", 120.0, "C major", 1.0, [Part("vocals", "choir", 52, [Note(0, 1, 60, 90)], "lead")]))
    with pytest.raises(ValueError, match="a note starts at -0.5 s"):
        mixer.mix(Song(1, "pop", 120.0, "C major", 1.0, [Part("bass", "bass", 33, [Note(-0.5, 1, 40, 90)], "bass")]))
    with pytest.raises(FileNotFoundError, match="no soundfont at nowhere.sf2"):
        mixer.mix(compose(1, 2.0), RATE, Path("nowhere.sf2"))


PROBE = """
import hashlib, json, sys
from course_lib.data.band.mixer import mix
from course_lib.data.band.composer import compose
digest = hashlib.sha256()
for y in mix(compose(21, 3.0), 44100).values():
    digest.update(y.tobytes())
print(json.dumps({"digest": digest.hexdigest(), "torch": "torch" in sys.modules}))
"""


def test_same_bytes_in_every_process_and_without_torch():
    digest = hashlib.sha256()
    for y in mixer.mix(compose(21, 3.0), 44100).values():
        digest.update(y.tobytes())
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads,
                       "PYTHONHASHSEED": threads}
        result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True,
                                cwd=ROOT, env=environment)
        assert json.loads(result.stdout) == {"digest": digest.hexdigest(), "torch": False}


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="peak memory is measured with a Unix module")
def test_rendering_is_fast_and_small():
    command = [sys.executable, str(ROOT / "benchmarks" / "band_speed.py"), "--songs", "2", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    result = json.loads(printed)
    assert result["realtime_per_core"] >= 6
    assert result["peak_mb"] <= 700
