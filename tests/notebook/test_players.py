"""Players: the sound in the page is the sound that went in, and what cannot be played is refused in words."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from course_lib.notebook import players

RATE = 44100


def tones(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Two channels with another tone each, 440 and 1000 Hz, (2, time)."""
    time = np.arange(int(seconds * rate)) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.25 * np.sin(2 * np.pi * 1000 * time)]).astype(np.float32)


def music(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Stereo noise with falling spectrum: harder to compress than music is. (2, time)."""
    noise = np.random.default_rng(seed).standard_normal((2, int(seconds * rate)))
    spectrum = np.fft.rfft(noise) / np.sqrt(1 + np.arange(noise.shape[1] // 2 + 1))
    sound = np.fft.irfft(spectrum, noise.shape[1])
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def decode(page: str) -> tuple[np.ndarray, int, str]:
    """The sound inside a player's HTML: samples (channels, time), rate in Hz, media type."""
    media_type, data = re.search(r'src="data:([^;]+);base64,([^"]+)"', page).groups()
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), always_2d=True)
    return samples.T, rate, media_type


def peak_frequency(channel: np.ndarray, rate: int) -> float:
    return np.argmax(np.abs(np.fft.rfft(channel))) * rate / len(channel)


def test_a_player_holds_the_sound_that_went_in():
    sound, rate, media_type = decode(players.player_html(tones(), RATE))
    assert (media_type, rate, sound.shape) == ("audio/mpeg", RATE, (2, 2 * RATE))
    assert [round(peak_frequency(channel, rate)) for channel in sound] == [440, 1000]
    assert np.allclose(sound.std(1), tones().std(1), rtol=0.03)
    assert np.corrcoef(sound[0], tones()[0])[0, 1] > 0.99, "the encoder's delay is cut off, so the samples line up"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_the_usual_rates_stay_as_they_are(rate):
    sound, decoded_rate, _ = decode(players.player_html(tones(1.0, rate)[0], rate))
    assert decoded_rate == rate and len(sound) == 1 and abs(sound.shape[1] - rate) <= 2 * 1152


@pytest.mark.parametrize("rate, played", [(96000, 48000), (88200, 48000), (30000, 32000), (4000, 8000), (44056, 44100)])
def test_other_rates_are_resampled_to_one_that_mp3_knows(rate, played):
    sound, decoded_rate, _ = decode(players.player_html(tones(1.0, rate)[0], rate))
    assert decoded_rate == played
    assert abs(sound.shape[1] / played - 1.0) < 0.15 and abs(peak_frequency(sound[0], played) - 440) < 3


def test_lossless_keeps_every_sample_to_16_bits():
    x = music(0.5)
    sound, rate, media_type = decode(players.player_html(x, RATE, lossless=True))
    assert (media_type, rate) == ("audio/flac", RATE) and np.abs(sound - x).max() <= 1 / 32767


def test_half_a_minute_of_stereo_is_well_under_a_megabyte():
    data, _ = players.encode_audio(music(4), RATE)
    assert len(data) / 4 <= 16_000, "bytes a second of stereo"
    mono, _ = players.encode_audio(music(4)[0], RATE)
    assert len(mono) <= 0.75 * len(data)


@pytest.mark.parametrize("samples", [1, 10, 1000])
def test_very_short_sounds_play(samples):
    sound, _, _ = decode(players.player_html(tones()[:, :samples], RATE))
    assert len(sound) == 2 and sound.shape[1] >= samples


@pytest.mark.parametrize("make", [torch.from_numpy, lambda x: torch.from_numpy(x).requires_grad_(),
                                  lambda x: x.astype("f8")])
def test_tensors_and_arrays_give_the_same_player(make):
    assert players.player_html(make(tones()), RATE) == players.player_html(tones(), RATE)


def test_too_loud_a_sound_is_turned_down_and_the_caption_says_so():
    page = players.player_html(2.4 * tones(), RATE, "too loud")
    assert "too loud (scaled by 0.83)" in page
    assert np.abs(decode(page)[0]).max() < 1.03
    assert "scaled" not in players.player_html(tones(), RATE, "as it is")


def test_normalizing_lifts_a_quiet_sound_and_says_so():
    page = players.player_html(0.01 * tones(), RATE, "quiet", normalize=True)
    assert "quiet (scaled by 190)" in page
    assert 0.9 < np.abs(decode(page)[0]).max() < 1.03
    silence = decode(players.player_html(0 * tones(), RATE, normalize=True))[0]
    assert np.abs(silence).max() < 1e-3


class TagsAndText(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


# What JupyterLab's sanitizer leaves of an output in a notebook that is not trusted (@jupyterlab/apputils, Sanitizer).
KEPT_TAGS = {"figure", "figcaption", "audio", "div", "details", "summary", "span", "p"}
KEPT_AUDIO_ATTRIBUTES = {"controls", "preload", "src", "title", "style", "class"}


def test_what_an_untrusted_notebook_drops_is_not_needed():
    page = TagsAndText(players.player_html(tones(), RATE, 'a <b>"title"</b>'))
    assert {tag for tag, _ in page.tags} <= KEPT_TAGS
    audio = next(attributes for tag, attributes in page.tags if tag == "audio")
    assert set(audio) - KEPT_AUDIO_ATTRIBUTES == {"aria-label"}, "only the label is lost, and the title says the same"
    assert audio["title"] == page.text == 'a <b>"title"</b>'


def test_listen_displays_one_output_and_returns_none(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: shown.append((data, options)))
    assert players.listen(tones(8.0), RATE, "the mixture") is None
    [(data, options)] = shown
    assert options == {"raw": True} and set(data) == {"text/html", "text/plain"}
    assert data["text/plain"] == "player: the mixture (8.0 s, 44.1 kHz, stereo)"
    assert data["text/html"].count("<audio controls") == 1


@pytest.mark.parametrize("x, message", [
    (np.zeros((44100, 2), "f4"), r"\(44100, 2\).*\(time, channels\).*x\.T"),
    (np.zeros((1, 2, 100), "f4"), r"\(1, 2, 100\).*one item of a batch"),
    (np.zeros((6, 100), "f4"), "at most 2 channels"),
    (np.zeros((2, 0), "f4"), "empty"),
    (np.array([0.0, np.nan, np.inf]), "2 samples that are NaN or infinite"),
    (np.zeros(100, "i2"), "int16.*32768"),
    (np.zeros(100, complex), "complex128"),
])
def test_what_is_no_audio_is_refused_in_words(x, message):
    with pytest.raises(ValueError, match=message):
        players.player_html(x, RATE)


@pytest.mark.parametrize("rate", [0, -1, 44100.5, True])
def test_a_rate_must_be_a_positive_whole_number(rate):
    with pytest.raises(ValueError, match="rate is"):
        players.player_html(tones(), rate)


@pytest.mark.parametrize("rate", ["44100", None, float("nan"), 2 ** 31 - 1, 0.5])
def test_a_rate_of_another_kind_is_named(rate):
    with pytest.raises(ValueError, match="rate is .*; expected the sample rate in Hz"):
        players.checked_rate(rate)


def test_half_precision_is_played_and_what_float32_cannot_hold_is_refused():
    assert players.as_channels(torch.full((2, 3), 0.5).bfloat16()).dtype == np.float32
    with pytest.raises(ValueError, match="3 samples that are NaN or infinite"):
        players.as_channels(np.full((1, 3), 1e300))


def test_a_title_that_is_no_text_can_be_stored():
    assert r"caf\udce9" in players.player_html(np.zeros(10), 8000, "caf\udce9").encode("utf-8").decode("utf-8")
