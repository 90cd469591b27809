"""The studio: sums, lengths, steps that can be taken back, files that are whole and made again, the app's buttons."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from course_lib import studio as s

RATE = 8000
STEMS = ("drums", "bass", "other", "vocals")


class Quarters(nn.Module):
    """A separator's network without weights: source j is j + 1 tenths of the song."""

    def __init__(self):
        super().__init__()
        self.sources, self.samplerate, self.audio_channels, self.segment = STEMS, RATE, 2, 0.5
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, mix):
        return torch.stack([0.1 * (j + 1) * mix for j in range(4)], 1)


class Loud(nn.Module):
    """A tagger that says of a sound how loud it is, and that it holds a guitar with one half."""

    rate, samples, tags = 8000, 4000, ("loud", "guitar")

    def forward(self, x):
        return torch.stack([x.abs().amax(1), torch.full((len(x),), 0.5)], 1)


class Backwards:
    """A translator that turns time round."""

    instruments = ("flute", "piano")

    def __call__(self, x, rate, to, seed):
        return x.flip(0)[:-7]


class Fakes(s.Models):
    """Networks that cost nothing."""

    def separator(self, name):
        return s.SongSeparator(Quarters(), standardise=False)

    def tagger(self, name):
        return Loud()

    def translator(self, name):
        return Backwards()


def noise(seconds=1.0, rate=RATE, channels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.2 * torch.randn(channels, round(seconds * rate), generator=generator)


def a_studio(**options):
    return s.Studio(noise(**options), options.get("rate", RATE), models=Fakes())


def song_file(path, audio=None, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (noise() if audio is None else audio).T.numpy(), rate)
    return path


# --------------------------------------------------------------------------------------------------------------- stems


@pytest.mark.parametrize("rate,frames,channels", [(8000, 8000, 2), (44_101, 9001, 1), (11_025, 3, 2), (4000, 1, 5)])
def test_stems_of_any_song_sum_to_it(rate, frames, channels):
    x = 0.1 * torch.randn(channels, frames, generator=torch.Generator().manual_seed(1))
    stems = s.stems_of(Fakes().separator(""), x, rate)
    assert list(stems) == list(STEMS) and all(y.shape == x.shape for y in stems.values())
    assert torch.allclose(sum(stems.values()), x, atol=1e-6)


def test_stems_at_the_models_rate_are_the_models():
    x = noise()
    bare = s.stems_of(Fakes().separator(""), x, RATE, complete=False)
    assert all(torch.allclose(y, 0.1 * (j + 1) * x, atol=1e-6) for j, y in enumerate(bare.values()))
    shared = s.stems_of(Fakes().separator(""), 0.1 * x, RATE)          # the sum is the song already
    assert torch.allclose(shared["vocals"], 0.04 * x, atol=1e-6)


def test_real_separator_on_silence_and_one_sample():
    separator = s.load_separator("demucs_band")
    for x in (torch.zeros(2, 4000), noise()[:, :1]):
        stems = s.stems_of(separator, x, 22_050)
        assert all(y.isfinite().all() for y in stems.values())
        assert torch.allclose(sum(stems.values()), x, atol=1e-5)


@pytest.mark.parametrize("audio,rate,words", [
    (torch.zeros(5), 8000, "shape"), (torch.zeros(2, 0), 8000, "shape"), (torch.full((1, 9), math.nan), 8000, "NaN"),
    (torch.zeros(1, 9, dtype=torch.int16), 8000, "audio is torch.int16"), (torch.zeros(1, 9), 0.5, "rate"),
])
def test_what_is_no_song(audio, rate, words):
    with pytest.raises(ValueError, match=words):
        s.Studio(audio, rate)


# ----------------------------------------------------------------------------------------- tags, steering, translation


def test_tags_hear_the_mean_of_channels_and_silence_has_none():
    x = torch.stack([torch.full((6000,), 0.5), torch.full((6000,), 0.1)])
    assert s.tags_of_sound(Loud(), x, 8000) == pytest.approx({"loud": 0.3, "guitar": 0.5}, abs=1e-6)
    assert s.tags_of_sound(Loud(), torch.full((2, 6000), 0.9 * s.SILENCE), 8000) == {}
    assert s.tags_of_sound(Loud(), 2 * torch.full((1, 10), s.SILENCE), 44_100)["guitar"] == 0.5


@pytest.mark.parametrize("rate,frames", [(8000, 8000), (44_100, 20_001), (44_100, 700)])
def test_parts_by_a_mask_sum_to_the_stem(rate, frames):
    x = noise(frames / rate, rate)[:, :frames]
    part, rest = s.split_by_mask(x, 0.5 * x.mean(0)[:frames // 2], rate)
    assert part.shape == rest.shape == x.shape and torch.allclose(part + rest, x, atol=1e-6)
    half = frames // 2 - 2 * round(s.WINDOW * rate)
    if half > 0:                                        # half as loud where it is sung, nothing where it isn't
        assert torch.allclose(part[:, :half], 0.5 * x[:, :half], atol=1e-4)
        assert part[:, -half:].abs().max() < 1e-5


def test_one_mask_keeps_a_sound_between_the_speakers():
    left = noise(channels=1)[0]
    x = torch.stack([left, 0.1 * left])
    part, _ = s.split_by_mask(x, 0.3 * x.mean(0), RATE)
    assert torch.allclose(part[1], 0.1 * part[0], atol=1e-6)


def test_silence_isnt_steered():
    part, rest = s.split_by_tag(None, 0, [], torch.zeros(2, 500), RATE, "guitar")
    assert part.shape == rest.shape == (2, 500) and not part.any() and not rest.any()


def test_a_translation_has_the_stems_length_channels_and_level():
    x = noise()
    y = s.translated(lambda x, rate, to: 5 * x.flip(0)[:-100], x, RATE, "piano")
    assert y.shape == x.shape and torch.equal(y[0], y[1]) and not y[:, -100:].any()
    assert float(y.square().mean()) == pytest.approx(float(x.square().mean()), rel=1e-5)
    longer = s.translated(lambda x, rate, to: torch.cat([x, x]), x, RATE, "piano")
    assert longer.shape == x.shape
    assert not s.translated(lambda *_: None, torch.zeros(2, 50), RATE, "piano").any()
    for bad in (lambda x, rate, to: x[None], lambda x, rate, to: x * math.nan):
        with pytest.raises(ValueError, match="translator gave"):
            s.translated(bad, x, RATE, "piano")


def test_no_weights_of_a_translator_are_told():
    with pytest.raises(FileNotFoundError, match="no trained model 'nowhere_band'"):
        s.Models().translator("nowhere_band")


# ----------------------------------------------------------------------------------------------------------- the remix


def test_gains_mutes_and_solos():
    mix = s.Mix({"a": 6.0, "b": -20.0}, mutes=("c",), solos=())
    assert mix.factor("a") == pytest.approx(1.99526, abs=1e-4) and mix.factor("b") == pytest.approx(0.1)
    assert mix.factor("c") == 0 and mix.factor("d") == 1
    assert [s.Mix(solos=("a",), mutes=("b",)).factor(n) for n in "abc"] == [1, 0, 0]


@pytest.mark.parametrize("wrong,words", [
    ({"gains": {"a": 13.0}}, "gain of a is 13.0"), ({"gains": {"a": math.nan}}, "gain of a"),
    ({"gains": {"a": "6"}}, "gain of a is '6'"), ({"tempo": 0.0}, "tempo is 0.0"),
    ({"transpose": {"a": 20}}, "transpose of a"),
    ({"gains": {"a": True}}, "gain of a is True"),
])
def test_wishes_that_cant_be(wrong, words):
    with pytest.raises(ValueError, match=words):
        s.Mix(**wrong)


def test_the_error_of_a_remix_is_that_of_the_changed_stem():
    true = {name: noise(seed=n) for n, name in enumerate(STEMS)}
    errors = [0.1 * noise(seed=9 + n) for n in range(3)]
    errors.append(-sum(errors))
    found = {name: x + e for (name, x), e in zip(true.items(), errors)}
    for gain in (3.0, -6.0, 12.0):
        mix = s.Mix(gains={"bass": gain})
        (y, a), (z, b) = (s.remixed({k: 0.1 * v for k, v in one.items()}, RATE, mix) for one in (found, true))
        assert a == b == 1
        assert torch.allclose(y - z, 0.1 * (10 ** (gain / 20) - 1) * errors[1], atol=1e-5)


def test_what_would_clip_is_turned_down():
    y, scale = s.remixed({"a": torch.full((1, 50), 0.9), "b": torch.full((1, 50), 0.9)}, RATE, s.Mix())
    assert 0.5 < scale < 0.56 and float(y.max()) <= 1
    with pytest.raises(ValueError, match="names nobody; there are the stems a"):
        s.remixed({"a": torch.zeros(1, 5)}, RATE, s.Mix(mutes=("nobody",)))


def test_tempo_and_pitch():
    t = torch.arange(16_000) / RATE
    x = {"a": 0.3 * torch.sin(2 * torch.pi * 440 * t)[None]}
    peak = lambda y: float(torch.fft.rfft(y[0]).abs().argmax()) * RATE / y.shape[-1]           # noqa: E731
    slow, _ = s.remixed(x, RATE, s.Mix(tempo=0.5))
    assert abs(slow.shape[-1] - 32_000) <= 1 and abs(peak(slow) - 440) < 5
    high, _ = s.remixed(x, RATE, s.Mix(transpose={"a": 12}))
    assert high.shape == x["a"].shape and abs(peak(high) - 880) < 10
    assert torch.equal(s.transposed(torch.zeros(1, 4), RATE, 3.0), torch.zeros(1, 4))
    for mix in (s.Mix(tempo=2.0), s.Mix(transpose={"a": 1})):
        with pytest.raises(ValueError, match="at least 2048"):
            s.remixed({"a": x["a"][:, :2000]}, RATE, mix)


# --------------------------------------------------------------------------------------------------------------- steps


def test_undo_and_redo():
    one = a_studio()
    before = one.audio()
    one.do("separate")
    one.do("tag")
    one.do("remix", gains={"vocals": 6.0}, mutes=["drums"])
    after = one.audio()
    assert [step.name for step in one.steps] == ["separate", "tag", "remix"] and set(one.tags) == {"song", *STEMS}
    assert one.steps[0].settings == {"model": s.DEFAULT_MODEL, "shifts": 0, "seed": 0}
    assert one.undo().name == "remix" and torch.allclose(one.audio(), before, atol=1e-6)
    assert one.redo().name == "remix" and torch.equal(one.audio(), after)
    for _ in range(3):
        one.undo()
    assert one.stems["song"] is one.song and one.tags == {}
    one.do("tag")
    with pytest.raises(ValueError, match="nothing was undone"):
        one.redo()
    one.undo()
    with pytest.raises(ValueError, match="nothing to undo"):
        one.undo()


def test_a_step_that_fails_changes_nothing():
    one = a_studio()
    one.do("separate")
    for step, settings, words in (
            ("separate", {}, "undo first"), ("remix", {"gains": {"organ": 1.0}}, "organ"),
            ("steer", {"name": "guitar", "of": "organ"}, "no stem 'organ'; there: drums"),
            ("translate", {"stem": "bass"}, "to not left out"), ("tag", {"taggers": "x"}, "expected tagger"),
            ("dance", {}, "expected one of separate, tag")):
        with pytest.raises(ValueError, match=words):
            one.do(step, **settings)
    assert len(one.steps) == 1
    with pytest.raises(ValueError, match="separate it first"):
        a_studio().do("remix")


def test_names_tags_and_wishes_follow_the_stems():
    one = a_studio()
    one.do("separate")
    one.do("tag")
    one.do("remix", gains={"bass": 3.0, "vocals": -3.0})
    one.do("translate", stem="bass", to="flute")
    assert list(one.stems) == ["drums", "bass as flute", "other", "vocals"]
    assert set(one.tags) == {"drums", "other", "vocals"} and one.state.mix.gains == {"vocals": -3.0}
    one.do("tag")
    assert set(one.tags) == {"song", *one.stems}
    assert s.why_not(one.state, "tag") == "everything has its tags already"
    assert s.free_name("a", ["a", "a 2"]) == "a 3" and s.free_name("b", ["a"]) == "b"


def test_steering_a_stem_splits_it(monkeypatch):
    monkeypatch.setattr(s, "split_by_tag", lambda c, r, taggers, audio, *rest, **options: (0.3 * audio, 0.7 * audio))
    one = a_studio()
    one.models.codec = lambda name: (None, RATE)
    one.do("steer", name="guitar", of="song")
    assert list(one.stems) == ["guitar", "rest"] and torch.allclose(one.audio(), one.song, atol=1e-6)
    one.undo()
    one.do("separate")
    one.do("steer", name="vocals", of="other")
    assert list(one.stems) == ["drums", "bass", "vocals 2", "other less vocals", "vocals"]
    assert torch.allclose(one.audio(), one.song, atol=1e-6)


def test_steps_leave_the_global_generator_alone():
    one = a_studio()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one.do("separate", shifts=1, seed=5)
    assert torch.equal(torch.rand(2), wanted)


# --------------------------------------------------------------------------------------------------------------- files


def worked(path):
    one = s.Studio.open(path, models=Fakes())
    one.do("separate")
    one.do("tag")
    one.do("remix", gains={"vocals": -3.0})
    return one


@pytest.mark.parametrize("kind,bits", [("wav", 16), ("wav", 32), ("flac", 24)])
def test_a_session_makes_the_same_again(tmp_path, kind, bits):
    path = song_file(tmp_path / "my song.wav")
    done = s.export(worked(path), tmp_path / "out", kind, bits)
    assert sorted(done.files) == [f"remix.{kind}", *sorted(f"stems/{n}.{kind}" for n in STEMS), "tags.csv"]
    info = soundfile.info(done.folder / "stems" / f"bass.{kind}")
    assert (info.frames, info.samplerate, info.channels) == (RATE, RATE, 2) and done.clipped == 0
    again = s.replay(s.read_session(done.folder), path, Fakes())
    far = s.deviation(again, done.folder)
    assert len(far) == 5 and max(far.values()) < (-55 if bits == 16 else -90)
    assert (tmp_path / "out" / "tags.csv").read_text().splitlines()[0] == "sound,tag,probability"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my song.wav", "out"]


def test_a_piece_of_a_song(tmp_path):
    path = song_file(tmp_path / "x.wav")
    one = s.Studio.open(path, 0.25, 0.5, Fakes())
    assert one.song.shape == (2, RATE // 2)
    again = s.replay(json.loads(json.dumps(s.session_of(one))), path, Fakes())
    assert torch.equal(again.song, one.song)
    assert s.Studio.open(path, 0.5, 10.0).song.shape == (2, RATE // 2)
    for start, seconds in ((2.0, None), (-1.0, None), (0.0, 0.0), (math.nan, None)):
        with pytest.raises(ValueError, match="isn't inside"):
            s.Studio.open(path, start, seconds)
    with pytest.raises(FileNotFoundError, match="nothing.wav"):
        s.Studio.open(tmp_path / "nothing.wav")


def test_another_song_is_refused(tmp_path):
    done = s.export(worked(song_file(tmp_path / "a.wav")), tmp_path / "out")
    other = song_file(tmp_path / "b.wav", noise(seed=4))
    with pytest.raises(ValueError, match="isn't the song of this session"):
        s.replay(s.read_session(done.folder), other, Fakes())


def test_a_crash_leaves_what_was_there(tmp_path, monkeypatch):
    one = worked(song_file(tmp_path / "a.wav"))
    s.export(one, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    write = s.write_sound

    def full(path, *rest):
        if path.stem == "vocals":
            raise OSError("no space left")
        return write(path, *rest)

    monkeypatch.setattr(s, "write_sound", full)
    for folder in ("out", "new"):
        with pytest.raises(OSError, match="no space left"):
            s.export(one, tmp_path / folder, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "out"]


def test_what_is_there_is_replaced_only_if_it_is_the_studios(tmp_path):
    one = worked(song_file(tmp_path / "a.wav"))
    s.export(one, tmp_path / "out")
    with pytest.raises(ValueError, match="is there already"):
        s.export(one, tmp_path / "out")
    one.undo()
    s.export(one, tmp_path / "out", "flac", overwrite=True)
    assert not list((tmp_path / "out").rglob("*.wav"))
    (tmp_path / "out" / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match="diary.txt, which no export has written"):
        s.export(one, tmp_path / "out", overwrite=True)
    (tmp_path / "empty").mkdir()
    s.export(one, tmp_path / "empty")
    with pytest.raises(ValueError, match="is a file"):
        s.export(one, tmp_path / "a.wav")
    with pytest.raises(ValueError, match="format is 'wav' with 12 bits"):
        s.export(one, tmp_path / "bits", bits=12)


def test_clipped_samples_are_counted(tmp_path):
    one = a_studio()
    loud = torch.full((2, 100), 1.5)
    one.push(s.Step("separate", {}, 0.0), s.State({"a": loud, "b": -loud}))
    assert s.export(one, tmp_path / "out").clipped == 400
    assert s.export(one, tmp_path / "float", bits=32).clipped == 0


def test_stranger_sessions_are_refused(tmp_path):
    one = worked(song_file(tmp_path / "a.wav"))
    good = s.session_of(one, {"remix.wav": "0"})
    assert s.check_session(json.loads(json.dumps(good))) is None
    step = dict(good["steps"][0])
    for change, words in (({"format": "2"}, "format is '2'"), ({"song": {}}, "sha256"), ({"steps": 5}, "not a session"),
                          ({"steps": [step | {"name": "system"}]}, "step 'system'"),
                          ({"steps": [step | {"settings": {"command": "x"}}]}, "separate got command"),
                          ({"files": {"../a.wav": "0"}}, "a file is called"), ({"files": {"/a.wav": "0"}}, "is called"),
                          ({"files": {"stems/../../a.wav": "0"}}, "is called"), ({"files": None}, "not a session")):
        path = tmp_path / "session.json"
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(ValueError, match=words):
            s.read_session(path)
    path.write_text("[1, 2")
    with pytest.raises(ValueError, match="not JSON"):
        s.read_session(path)
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="not a session"):
        s.read_session(path)
    with pytest.raises(FileNotFoundError, match="expected a session.json"):
        s.read_session(tmp_path / "nowhere")


def test_names_of_files():
    assert s.file_name("other less guitar") == "other less guitar"
    assert s.file_name("genre---rock/../x") == "genre---rock-x" and s.file_name("..") == "-"
    for name in (*STEMS, "bass as flute", "a/b", "mood---x"):
        assert s.PLAIN.fullmatch(f"stems/{s.file_name(name)}.wav")


# ------------------------------------------------------------------------------------------------------------- the app


@pytest.fixture
def app(tmp_path):
    return s.StudioApp(song_file(tmp_path / "song.wav"), tmp_path / "kept", Fakes())


def enabled(app):
    return [name for name in s.ACTIONS if not app.w[name].disabled]


def test_buttons_follow_the_state(app):
    assert enabled(s.StudioApp(models=Fakes())) == ["open"]
    assert enabled(app) == ["open", "separate", "tag", "steer"]
    app.w["separate"].click()
    assert enabled(app) == ["open", "tag", "steer", "translate", "remix", "undo", "export"]
    assert app.w["separate"].tooltip == "the song is in stems already; undo first"
    assert list(app.w["of"].options) == list(STEMS) and app.mixer.stems == list(STEMS)
    app.w["undo"].click()
    assert enabled(app) == ["open", "separate", "tag", "steer", "redo"] and app.mixer.stems == ["song"]


def test_the_mixer_is_what_is_mixed_and_exported(app):
    app.w["separate"].click()
    mixer = app.mixer
    mixer.gains = {**mixer.gains, "vocals": 6.0}
    mixer.solos = {**mixer.solos, "vocals": True}
    app.w["remix"].click()
    assert app.mixer is mixer and app.studio.state.mix == s.Mix({"vocals": 6.0}, (), ("vocals",))
    app.w["format"].value = "flac"
    app.w["folder"].value = "../song 1"
    app.w["export"].click()
    assert app.error == "" and sorted(path.name for path in app.folder.iterdir()) == ["-song 1"]
    y, _ = soundfile.read(next(app.folder.iterdir()) / "remix.flac")
    assert np.abs(y.T - app.studio.audio().numpy()).max() < 1e-4


def test_the_app_shows_what_went_wrong_and_goes_on(app):
    app.w["path"].value = "nowhere.wav"
    app.w["open"].click()
    assert "nowhere.wav" in app.error and "nowhere.wav" in app.w["status"].value and app.studio is not None
    app.w["separate"].click()
    assert app.error == "" and "1. separate" in app.w["history"].value
    app.models.translator = lambda name: (_ for _ in ()).throw(FileNotFoundError("<no weights>"))
    app.w["translate"].click()
    assert "&lt;no weights&gt;" in app.w["status"].value and len(app.studio.steps) == 1 and "undo" in enabled(app)
    app.models.tagger = lambda name: 1 / 0
    with pytest.raises(ZeroDivisionError):
        app.act("tag")
    assert "nobody expected" in app.w["status"].value and "undo" in enabled(app)


def test_without_a_translator_the_button_says_so(tmp_path):
    class Without(Fakes):
        def translator(self, name):
            raise FileNotFoundError("no weights")

    app = s.StudioApp(song_file(tmp_path / "song.wav"), tmp_path, Without())
    app.w["separate"].click()
    assert app.error == "" and "translate" not in enabled(app)
    assert "no weights of translation_band" in app.w["translate"].tooltip


def test_a_trained_translator_works_at_its_own_rate():
    class Net(nn.Module):
        domains, hop_length = ["piano", "flute"], 64
        facts = s.dataclasses.make_dataclass("Facts", [("rate", int, 4000)])()

        def translate(self, x, domain, generator, temperature):
            assert abs(float(x.abs().max()) - 0.7) < 0.02 and temperature == 0.3
            return x + 1e-3 * torch.rand(x.shape, generator=generator)

    translator = s.TrainedTranslator(Net())
    x = 0.1 * torch.sin(torch.arange(8000) / 20)
    y = translator(x, 8000, "flute")
    assert translator.instruments == ("piano", "flute") and y.shape == (8000,)
    assert float((y - 7 * x)[500:-500].abs().max()) < 0.02 and torch.equal(y, translator(x, 8000, "flute"))
    assert not torch.equal(y, translator(x, 8000, "flute", seed=1))
    with pytest.raises(ValueError, match="lasts 0.005 s; translating takes at least 0.016 s"):
        translator(x[:40], 8000, "flute")
    with pytest.raises(ValueError, match="to is 'tuba'; this translator plays piano, flute"):
        translator(x, 8000, "tuba")


def test_uploads_of_both_ipywidgets(app, tmp_path):
    data = song_file(tmp_path / "up.wav", noise(0.5)).read_bytes()
    new = ({"name": "../up.wav", "content": memoryview(data)},)
    old = {"up.wav": {"metadata": {"name": "up.wav"}, "content": data}}
    assert s.uploaded(new) == s.uploaded(old) == ("up.wav", data)
    assert s.uploaded(()) is None and s.uploaded({}) is None
    app.w["upload"].value = ({"name": "up.wav", "content": data, "type": "", "size": len(data),
                              "last_modified": __import__("datetime").datetime(2026, 1, 1)},)
    assert app.error == "" and app.studio.song.shape == (2, RATE // 2) and (app.folder / "up.wav").is_file()


def test_words():
    one = a_studio()
    assert s.history_in_words(one) == "nothing done yet" and s.tags_in_words(one) == ""
    one.do("tag")
    assert s.history_in_words(one).startswith("1. tag (tagger tagger_band), ")
    assert s.tags_in_words(one) == "song: " + ", ".join(
        f"{name} {value:.2f}" for name, value in sorted(one.tags["song"].items(), key=lambda p: -p[1]) if value >= 0.5)
