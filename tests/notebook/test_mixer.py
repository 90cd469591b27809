"""The stem mixer without a browser: what it sends, what it stores, and that its two sides speak of the same traits."""

import io
import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile
import traitlets
from PIL import Image

from course_lib.notebook import mixer

RATE = 44100
NAMES = ["drums", "bass", "other", "vocals"]
SCRIPT = Path(mixer.__file__).with_name("mixer.js").read_text(encoding="utf8")
STYLE = Path(mixer.__file__).with_name("mixer.css").read_text(encoding="utf8")


@pytest.fixture(autouse=True)
def off_screen():
    matplotlib.use("agg")


def clicks(seconds: float = 1.0) -> dict[str, np.ndarray]:
    """Stems with a short tone of 840 Hz at the same moment, 0.5 s, each of another level. (2, time) each."""
    burst = np.sin(2 * np.pi * 840 * np.arange(2000) / RATE) * np.hanning(2000)
    stems = {}
    for name, level in zip(NAMES, (0.9, 0.5, 0.3, 0.2)):
        stems[name] = np.zeros((2, int(seconds * RATE)), np.float32)
        stems[name][:, RATE // 2 - 1000 : RATE // 2 + 1000] = level * burst
    return stems


@pytest.fixture
def shown(monkeypatch) -> list:
    """What was displayed, in order."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: outputs.append(data))
    return outputs


def test_all_stems_are_delayed_alike_by_the_encoder():
    encoded = mixer.encode_stems(clicks(), RATE)
    sounds = {name: soundfile.read(io.BytesIO(data))[0].T for name, data in encoded.audio.items()}
    assert list(sounds) == NAMES and len({sound.shape for sound in sounds.values()}) == 1
    centres = [np.sum(sound[0] ** 2 * np.arange(len(sound[0]))) / np.sum(sound[0] ** 2) for sound in sounds.values()]
    assert np.ptp(centres) < 0.001 * RATE, "within a millisecond of each other"
    assert encoded.duration == 1.0 and encoded.description == "drums, bass, other, vocals; 1.0 s, 44.1 kHz, stereo"


def test_stems_that_clip_are_turned_down_together():
    stems = {name: 2 * x for name, x in clicks().items()}
    encoded = mixer.encode_stems(stems, RATE)
    scale = float(re.search(r"scaled by ([\d.]+)", encoded.description)[1])
    assert 0.5 < scale < 0.65
    for name, data in encoded.audio.items():
        sound = soundfile.read(io.BytesIO(data))[0].T
        assert np.isclose(sound.std(), scale * stems[name].std(), rtol=0.15), name


def test_a_stem_takes_at_most_12_5_kilobytes_a_second():
    noise = np.random.default_rng(0).standard_normal((2, 10 * RATE))
    spectrum = np.fft.rfft(noise) / np.sqrt(1 + np.arange(5 * RATE + 1))
    sound = (0.05 * np.fft.irfft(spectrum) / np.fft.irfft(spectrum).std()).astype(np.float32)
    assert len(mixer.encode_stems({"drums": sound}, RATE).audio["drums"]) / 10 < 12_500


def test_where_a_notebook_is_stored_there_are_players_and_no_widget(shown, monkeypatch):
    monkeypatch.setenv("COURSE_EXECUTING", "1")
    assert mixer.mix_stems(clicks(), RATE, "a & b") is None
    [data] = shown
    assert data["text/plain"] == "a & b (drums, bass, other, vocals; 1.0 s, 44.1 kHz, stereo)"
    assert data["text/html"].count("<audio controls") == 4 and "<details" not in data["text/html"]
    assert "a &amp; b" in data["text/html"] and mixer.RUN_NOTE in data["text/html"]
    assert "<script" not in data["text/html"]


def test_under_a_kernel_there_are_the_mixer_and_folded_players(shown, monkeypatch):
    monkeypatch.delenv("COURSE_EXECUTING", raising=False)
    mixer.mix_stems(clicks(), RATE)
    widget, data = shown
    assert isinstance(widget, mixer.StemMixer) and widget.stems == NAMES
    assert data["text/html"].startswith("<details") and data["text/html"].count("<audio controls") == 4


def test_the_text_form_of_the_widget_is_the_same_on_every_run():
    widget = mixer.StemMixer({"drums": clicks()["drums"]}, RATE)
    assert repr(widget) == "stem mixer (drums; 1.0 s, 44.1 kHz, stereo)"


def test_the_controls_can_be_set_and_stay_within_bounds():
    widget = mixer.StemMixer(clicks(), RATE)
    assert widget.gains == dict.fromkeys(NAMES, 0.0)
    assert not any(widget.solos.values()) and not any(widget.mutes.values())
    widget.solos = {**widget.solos, "bass": 1}
    widget.gains = {**widget.gains, "drums": 30.0, "bass": -100}
    widget.position = 99.0
    assert widget.solos["bass"] is True and (widget.gains["drums"], widget.gains["bass"]) == mixer.GAIN_RANGE[::-1]
    assert widget.position == 1.0
    with pytest.raises(traitlets.TraitError, match="for each of"):
        widget.mutes = {"piano": True}


def test_the_picture_has_its_axes_where_the_position_is_drawn():
    widget = mixer.StemMixer(clicks(), RATE)
    pixels = np.asarray(Image.open(io.BytesIO(widget.picture)).convert("L")).astype(int)
    height, width = pixels.shape
    left, bottom, box_width, box_height = widget.plot_box
    columns = slice(int(width * left) + 3, int(width * (left + box_width)) - 3)
    row = pixels[int(height * (1 - bottom - box_height / 2)), columns]
    assert row.max() > 100 and row.min() < 40
    click = np.flatnonzero(row > 100).mean() / len(row)
    assert abs(click - 0.5) < 0.02, "the tone at half time is drawn at half the width"
    assert pixels[:, int(width * (left + box_width)) + 3 :].min() > 200, "white right of the axes"


def test_both_sides_speak_of_the_same_traits():
    synced = set(mixer.StemMixer.class_trait_names(sync=True))
    asked = set(re.findall(r'model\.[gs]et\("(\w+)"', SCRIPT)) | set(re.findall(r'"change:(\w+)"', SCRIPT))
    assert asked and asked <= synced
    own = set(mixer.StemMixer.class_own_traits(sync=True)) - {"_esm", "_css"}
    assert own - asked <= {"gains", "mutes", "solos"}, "these are asked for by name in a variable"
    assert all(f'"{name}"' in SCRIPT for name in own)


def test_every_styled_class_is_used():
    styled = set(re.findall(r"\.(course-mixer[\w-]*)", STYLE))
    built = set(re.findall(r"course-mixer[\w-]*", SCRIPT)) | {"course-mixer-solo", "course-mixer-mute"}
    assert styled <= built


def test_the_traits_travel_as_json_and_buffers():
    from ipywidgets.widgets.widget import _remove_buffers

    state, paths, buffers = _remove_buffers(mixer.StemMixer(clicks(), RATE).get_state())
    json.dumps(state)
    assert {path[0] for path in paths} == {"audio", "picture"} and len(buffers) == 5


@pytest.mark.parametrize("stems, message", [
    ({}, "at least one stem"),
    ({"drums": np.zeros((2, 100), "f4"), "bass": np.zeros((2, 99), "f4")}, r"'bass': \(2, 99\)"),
    ({"drums": np.full((2, 100), np.nan)}, "stem 'drums' holds 200 samples"),
    ({" ": np.zeros(100)}, "the names"),
    ([np.zeros(100)], "expected a mapping"),
])
def test_stems_that_do_not_fit_are_refused_in_words(stems, message):
    with pytest.raises(ValueError, match=message):
        mixer.mix_stems(stems, RATE)


@pytest.mark.parametrize("stems", [None, [], {}, 5])
def test_what_is_no_mapping_of_stems_is_named(stems):
    with pytest.raises(ValueError, match="stems is .*; expected a mapping name -> audio"):
        mixer.checked_stems(stems)
