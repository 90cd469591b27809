"""Worlds: songs that are a function of seed and world, sounds that are held apart, errors that say what to install."""

import functools
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from course_lib.data.band import casting, drum_kits, mixer, speech, worlds
from course_lib.data.band.composer import compose
from course_lib.data.band.drum_kits import DrumKit
from course_lib.data.band.fingerprints import fingerprint, fingerprints
from course_lib.data.band.gus_patches import PatchSet, nearest_program, read_patch
from course_lib.data.band.library import band_songs, variant_of
from course_lib.data.band.sampler import DRUM_BANK
from course_lib.data.band.song import Note
from course_lib.data.band.soundfonts import FLUID_SHA256
from course_lib.data.band.speech import Articulation, Speaker, phrases
from course_lib.data.band.styles import CLAP, CLOSED_HAT, CRASH, KICK, SNARE
from course_lib.data.band.synthesiser import Synthesiser
from course_lib.data.band.voice import Singer
from course_lib.data.band.worlds import SOUNDS, WORLDS, Sound, World, check_world, find_sound, world_named
from course_lib.data.band.writer import read_description
from tests.data.band.test_sound import pitch_of

RATE = 22050
NOTES = [Note(0.1, 0.5, 57, 100), Note(0.7, 0.8, 64, 90)]


def installed(name: str) -> bool:
    """Whether a sound of the course is on this machine."""
    try:
        return find_sound(name).exists()
    except FileNotFoundError:
        return False


needs = {name: pytest.mark.skipif(not installed(name), reason=f"{name} is not installed (Debian: {sound.package})")
         for name, sound in SOUNDS.items()}
needs_engine = {engine: pytest.mark.skipif(shutil.which(engine) is None, reason=f"no {engine} (Debian: {package})")
                for engine, package in speech.HINTS.items()}


@functools.cache
def marks_of(name: str) -> set[str]:
    """The fingerprints of a sound as its world plays it."""
    return fingerprints(find_sound(name), SOUNDS[name].left_out)


@pytest.fixture
def kit(tmp_path) -> Path:
    """A small drum kit: a kick in two layers, a snare, a closed hi-hat; noise that falls."""
    folder, rng = tmp_path / "small kit", np.random.default_rng(0)
    folder.mkdir()
    for name in ("soft", "hard", "snare", "hat"):
        hit = rng.uniform(-0.5, 0.5, 4000) * np.exp(-np.arange(4000) / 600)
        soundfile.write(folder / f"{name}.wav", hit, RATE)
    layer = "<layer><filename>{}.wav</filename><min>{}</min><max>{}</max><gain>1</gain></layer>"
    instruments = [("Bass Drum", layer.format("soft", 0, 0.5) + layer.format("hard", 0.5, 1)),
                   ("Snare Roll", layer.format("snare", 0, 1)), ("Snare", layer.format("snare", 0, 1)),
                   ("Hat Closed", layer.format("hat", 0, 1)), ("Hat Open", layer.format("missing", 0, 1))]
    text = "".join(f"<instrument><name>{name}</name><volume>1</volume>{layers}</instrument>"
                   for name, layers in instruments)
    (folder / "drumkit.xml").write_text('<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><instrumentList>'
                                        f"{text}</instrumentList></drumkit_info>", encoding="utf8")
    return folder


@pytest.fixture
def small_world(kit, monkeypatch) -> World:
    """A world that every machine can play: the default soundfont, random synthesisers, the small kit, wide effects."""
    monkeypatch.setitem(SOUNDS, "small kit", Sound("small kit", (str(kit.parent),), "no-package", "none",
                                                   worlds.sound_sha256(kit)))
    return World("small", "for tests", fonts=(("timgm6mb", 1.0),), synthesiser=0.5, kits=("small kit",), kit_share=0.8,
                 effects="studio", studio=replace(WORLDS["wide"].studio))


# ---- songs ----------------------------------------------------------------------------------------------------------

def test_a_song_is_a_function_of_its_seed_and_its_world(small_world):
    song = compose(5, 3.0)
    first, again, other = (mixer.mix(song, RATE, None, world) for world in
                           (small_world, small_world, replace(small_world, name="smaller")))
    band = mixer.mix(song, RATE)
    assert all(np.array_equal(first[stem], again[stem]) for stem in first)
    for stem in ("drums", "bass", "vocals"):
        assert first[stem].any() and np.isfinite(first[stem]).all()
        assert not np.array_equal(first[stem], other[stem]) and not np.array_equal(first[stem], band[stem])
    assert np.abs(sum(first.values())).max() <= mixer.PEAK


def test_effects_keep_length_and_stay_finite():
    song = compose(3, 2.0)
    for name, effect in casting.EFFECTS.items():
        for part in song.parts:
            for channels in (1, 2):
                silence = np.zeros((channels, RATE), np.float32)
                noise = np.random.default_rng(1).standard_normal((channels, RATE)).astype(np.float32) * np.float32(0.1)
                for seed in range(3):
                    rng = np.random.default_rng(seed)
                    assert not effect(silence, part, RATE, rng).any(), name
                    treated = effect(noise, part, RATE, rng)
                    assert treated.shape[1] == RATE and np.isfinite(treated).all() and treated.any(), name


def test_a_comb_repeats_what_went_in():
    impulse = np.zeros(50, np.float32)
    impulse[3] = 1
    expected = np.zeros(50, np.float32)
    expected[3::10] = 0.5 ** np.arange(5)
    assert np.allclose(casting.feedback_comb(impulse, 10, 0.5), expected)


def test_songs_of_a_world_lie_apart_and_say_where_they_come_from(small_world, tmp_path):
    folders = band_songs("test", 1, 2.0, 16000, progress=False, jobs=1, root=tmp_path / "band", world=small_world)
    described = read_description(folders[0])["world"]
    assert described["name"] == "small" and described["sounds"]["small kit"] == SOUNDS["small kit"].sha256
    assert small_world.digest() in folders[0].parts[-3] and "small" in folders[0].parts[-3]
    band = variant_of(2.0, 16000)
    assert band.name.startswith("2s_16000Hz_TimGM6mb-")          # the default's folder is what it was
    assert replace(small_world, synthesiser=0.4).digest() != small_world.digest()


def test_a_world_and_a_soundfont_exclude_each_other():
    with pytest.raises(ValueError, match="expected one of them"):
        variant_of(2.0, 16000, find_sound("timgm6mb"), "wide")
    with pytest.raises(ValueError, match="expected band, wide, unheard"):
        world_named("narrow")
    assert world_named("band") is None and world_named(None) is None


# ---- held apart -----------------------------------------------------------------------------------------------------

def test_no_training_sound_is_in_the_unheard_world():
    wide, unheard = WORLDS["wide"], WORLDS["unheard"]
    files = [{SOUNDS[name].sha256 for name in world.sounds()} for world in (wide, unheard)]
    assert not files[0] & files[1] and "" not in files[0] | files[1]
    assert FLUID_SHA256 not in files[0] | files[1]               # the held-out soundfont is in neither
    assert SOUNDS["timgm6mb"].sha256 not in files[1]             # nor the band's in the unheard world
    assert not set(wide.engines()) & set(unheard.engines()) and wide.effects != unheard.effects
    assert not {kind for kind, _ in unheard.voices} & {"formant"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs[name]) for name in WORLDS["unheard"].sounds()])
def test_no_recording_of_the_unheard_world_is_in_a_training_sound(name):
    training = [other for other in dict.fromkeys(["timgm6mb", *WORLDS["wide"].sounds()]) if installed(other)]
    marks = marks_of(name)
    shared = {other: len(marks & marks_of(other)) for other in training}
    assert len(marks) > 10 and not any(shared.values()), shared


@needs["freepats"]
def test_copied_recordings_are_found():
    """The patches that are left out: without that the world would hold recordings of the training fonts."""
    assert len(fingerprints(find_sound("freepats")) & marks_of("timgm6mb")) == 3


def test_a_fingerprint_ignores_level_and_lead_in_but_not_the_sound():
    rng = np.random.default_rng(0)
    sound = rng.standard_normal(3000)
    copy = np.concatenate([np.zeros(77), 0.25 * sound])
    assert fingerprint(sound) == fingerprint(copy) != fingerprint(rng.standard_normal(3000))
    assert fingerprint(np.zeros(3000)) is None and fingerprint(sound[:100]) is None


# ---- what is missing ------------------------------------------------------------------------------------------------

def test_a_missing_sound_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(SOUNDS, "opl3", replace(SOUNDS["opl3"], places=(str(tmp_path),)))
    monkeypatch.setenv("COURSE_SOUNDS", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    worlds._found.cache_clear()
    with pytest.raises(FileNotFoundError, match="apt install opl3-soundfont"):
        find_sound("opl3")
    with pytest.raises(FileNotFoundError, match=r"apt install .*opl3-soundfont.* espeak-ng") as caught:
        check_world(WORLDS["wide"])
    assert "COURSE_SOUNDS" in str(caught.value)
    worlds._found.cache_clear()


def test_another_file_of_the_same_name_is_refused(monkeypatch, tmp_path):
    (tmp_path / SOUNDS["opl3"].file).write_bytes(b"RIFF")
    monkeypatch.setenv("COURSE_SOUNDS", str(tmp_path))
    worlds._found.cache_clear()
    with pytest.raises(ValueError, match=f"{SOUNDS['opl3'].file} has SHA-256 {hashlib.sha256(b'RIFF').hexdigest()}"):
        find_sound("opl3")
    worlds._found.cache_clear()


def test_missing_speech_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="apt install flite"):
        speech.speak("la", Speaker("flite", "slt"))


# ---- drum kits ------------------------------------------------------------------------------------------------------

def test_a_kit_finds_its_drums_by_name(kit):
    drums = DrumKit(kit, RATE)
    assert [i.name for i in drums.choices(KICK)] == ["Bass Drum"]
    assert [i.name for i in drums.choices(SNARE)] == ["Snare"]                 # not the roll
    assert [i.name for i in drums.choices(CLAP)] == ["Snare"]                  # it has none: the nearest
    assert [i.name for i in drums.choices(CRASH)] == ["Hat Closed"]            # "Hat Open" has no recording


def test_a_kit_plays_hits_where_they_are_and_by_their_strength(kit):
    drums = DrumKit(kit, RATE)
    hits = [Note(0.2, 0.1, KICK, 20), Note(0.8, 0.1, KICK, 120)]
    y = drums.render(hits, 1.5, {}, np.random.default_rng(0))
    assert y.shape == (2, round(1.5 * RATE)) and not y[:, :round(0.2 * RATE)].any()
    soft, hard = (y[:, round(t * RATE):][:, :3300] for t in (0.2, 0.8))
    assert np.abs(hard).max() > 5 * np.abs(soft).max() > 0
    assert np.corrcoef(soft[0], hard[0])[0, 1] < 0.5                           # another recording
    again = drums.render(hits, 1.5, {}, np.random.default_rng(0))
    assert np.array_equal(y, again)


def test_a_tuned_drum_is_higher(kit):
    drums = DrumKit(kit, RATE)
    plain, high = (drums.render([Note(0.0, 0.5, CLOSED_HAT, 100)], 0.5, tuning, np.random.default_rng(0))
                   for tuning in ({}, {CLOSED_HAT: 1200}))
    ends = [np.flatnonzero(np.abs(y[0]) > 1e-4)[-1] for y in (plain, high)]
    assert abs(ends[1] / ends[0] - 0.5) < 0.05                                 # an octave up: half as long


@pytest.mark.parametrize("text, error, message", [
    (None, FileNotFoundError, "hydrogen-drumkits"), ("<kit", ValueError, "is not XML"),
    ("<kit><instrument><name>Kick</name></instrument></kit>", ValueError, "names no recording"),
])
def test_a_kit_that_cannot_be_played_is_refused(tmp_path, text, error, message):
    if text is not None:
        (tmp_path / "drumkit.xml").write_text(text)
    with pytest.raises(error, match=message):
        DrumKit(tmp_path)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=needs[name]) for world in WORLDS.values() for name in world.kits])
def test_the_kits_have_their_own_kick_snare_and_hat(name):
    drums = DrumKit(find_sound(name), RATE)
    found = [{i.name for i in drums.choices(drum)} for drum in (KICK, SNARE, CLOSED_HAT)]
    assert not found[0] & found[1] and not found[1] & found[2] and not found[0] & found[2]
    assert all(drum_kits.re.search(drum_kits.NAMES[drum], name, drum_kits.re.IGNORECASE)
               for drum, names in zip((KICK, SNARE, CLOSED_HAT), found) for name in names)


# ---- patches and synthesisers ---------------------------------------------------------------------------------------

@needs["freepats"]
@pytest.mark.parametrize("program", [0, 25, 33, 40, 56, 73])
def test_patches_are_in_tune(program):
    patches = PatchSet(find_sound("freepats"), RATE)
    y = patches.render([Note(0.0, 1.0, 57, 100)], program, 1.0).mean(0)[round(0.25 * RATE):round(0.6 * RATE)]
    assert abs(pitch_of(y, RATE) - 57) < 0.2


@needs["freepats"]
def test_patches_play_drums_and_leave_out_what_they_should():
    patches = PatchSet(find_sound("freepats"), RATE, left_out=(64, 75))
    assert patches.render([Note(0.0, 0.2, KICK, 100)], 0, 0.5, DRUM_BANK).any()
    assert (0, 64) not in patches.presets and (0, 65) in patches.presets and (DRUM_BANK, 0) in patches.presets
    assert patches.zones(0, 64) is patches.zones(0, 65)


def test_the_nearest_program_is_one_of_the_family():
    assert nearest_program(28, (27, 31, 40)) == 27 and nearest_program(40, (27, 31, 40)) == 40
    assert nearest_program(90, (3, 50)) == 50


@pytest.mark.parametrize("data", [b"", b"GF1PATCH110\0" + bytes(400), b"RIFF" + bytes(400)])
def test_a_damaged_patch_is_refused_or_empty(tmp_path, data):
    path = tmp_path / "000_Piano.pat"
    path.write_bytes(data)
    if data.startswith(b"GF1"):
        assert read_patch(path) == []
    else:
        with pytest.raises(ValueError, match="is not a Gravis Ultrasound patch"):
            read_patch(path)
    with pytest.raises(FileNotFoundError, match="freepats"):
        PatchSet(tmp_path)


@pytest.mark.parametrize("decays", [True, False])
def test_a_synthesiser_is_in_tune_and_repeatable(decays):
    for seed in range(4):
        player, again = (Synthesiser((seed,), RATE, decays) for _ in range(2))
        y = player.render([Note(0.0, 1.0, 57, 100)], 0, 1.0)
        assert np.array_equal(y, again.render([Note(0.0, 1.0, 57, 100)], 80, 1.0)) and np.isfinite(y).all()
        found = pitch_of(y[0][round(0.25 * RATE):round(0.6 * RATE)], RATE)
        assert abs(found - 57) < 0.2 or abs(abs(found - 57) - 12) < 0.2, (seed, found)     # an even tone: an octave up


# ---- voices ---------------------------------------------------------------------------------------------------------

def test_phrases_end_at_rests():
    notes = [Note(0.0, 0.5, 60, 90), Note(0.6, 0.4, 62, 90), Note(2.0, 0.5, 60, 90)]
    assert phrases(notes) == [(0.0, 1.0), (2.0, 2.5)] and phrases([]) == []


def test_the_melody_is_sung_whatever_is_said(monkeypatch):
    """Speech of noise bursts and a buzz: the pitch must come from the notes."""
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 110 * k * time) / k for k in range(1, 40)).astype(np.float32)
    monkeypatch.setattr(speech, "_spoken", lambda text, speaker, rate: buzz + 0.01 * rng.standard_normal(len(buzz)))
    singer, speaker = Singer(vibrato_depth=0.0), Speaker("espeak-ng", "en")
    y, again = (speech.sing_words(NOTES, 2.0, singer, speaker, np.random.default_rng(1), RATE) for _ in range(2))
    assert y.shape == (2 * RATE,) and np.isfinite(y).all() and y.any()
    assert not y[round(1.7 * RATE):].any()                                     # nobody sings there
    for note in NOTES:
        middle = y[round((note.onset + 0.2) * RATE):round((note.onset + 0.4) * RATE)]
        assert abs(pitch_of(middle, RATE) - note.pitch) < 0.5
    assert not speech.sing_words([], 1.0, singer, speaker, np.random.default_rng(1), RATE).any()
    spoken = speech.speak_words(NOTES, 2.0, speaker, np.random.default_rng(1), RATE)
    assert abs(pitch_of(spoken[round(0.3 * RATE):round(0.5 * RATE)], RATE) - 45) < 0.3     # speech keeps its own


def test_articulation_tells_voice_from_noise():
    time = np.arange(RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k ** 1.5 for k in range(1, 60)).astype(np.float32)
    hiss = np.diff(np.random.default_rng(0).standard_normal(RATE + 1)).astype(np.float32)
    mouths = [speech.articulate(sound, 512, RATE) for sound in (buzz, hiss)]
    assert all(isinstance(mouth, Articulation) and np.isfinite(mouth.envelope).all() for mouth in mouths)
    assert np.median(mouths[0].voicing) > 0.9 > 0.1 > np.median(mouths[1].voicing)


@pytest.mark.parametrize("speaker", [
    pytest.param(Speaker("espeak-ng", "en-us+f2"), marks=needs_engine["espeak-ng"]),
    pytest.param(Speaker("espeak-ng", "de+m3"), marks=needs_engine["espeak-ng"]),
    pytest.param(Speaker("flite", "slt"), marks=needs_engine["flite"])])
def test_speech_is_the_same_each_time(speaker):
    first, again = (speech.speak("la la", speaker, RATE) for _ in range(2))
    assert len(first) > 0.3 * RATE and np.abs(first).max() > 0.05 and np.array_equal(first, again)
