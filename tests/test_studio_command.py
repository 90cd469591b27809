"""`course studio`: what the options do, what is written, the session, the app's notebook, and what can't be."""

import json

import numpy as np
import pytest
import soundfile

from course_lib import cli, studio, studio_command
from tests.test_studio import STEMS, Fakes, noise, song_file


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(studio, "Models", Fakes)


def run(*arguments):
    return cli.main(["studio", *map(str, arguments)])


def test_at_once(tmp_path, capsys):
    path = song_file(tmp_path / "a song.wav")
    assert run(path, "-o", tmp_path / "out", "--gain", "vocals=-6", "--mute", "drums", "--translate", "bass:flute") == 0
    folder = tmp_path / "out" / "a song"
    assert sorted(p.name for p in (folder / "stems").iterdir()) == ["bass as flute.wav", "drums.wav", "other.wav",
                                                                     "vocals.wav"]
    out = capsys.readouterr().out
    assert "4. remix" in out and "7 files in" in out and "song: " in out
    steps = json.loads((folder / "session.json").read_text())["steps"]
    assert [step["name"] for step in steps] == ["separate", "translate", "tag", "remix"]
    stems = {p.stem: soundfile.read(p)[0] for p in (folder / "stems").iterdir()}
    y = soundfile.read(folder / "remix.wav")[0]
    wanted = stems["bass as flute"] + stems["other"] + 10 ** -0.3 * stems["vocals"]
    assert np.abs(y - wanted).max() < 3e-4

    assert run(path, "-o", tmp_path / "again", "--session", folder) == 0
    again = tmp_path / "again" / "a song"
    for name in ("remix.wav", "stems/vocals.wav", "tags.csv"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert run(path, "-o", tmp_path / "out") == 2 and "is there already" in capsys.readouterr().err
    assert run(path, "-o", tmp_path / "out", "--overwrite", "--no-tags", "--format", "flac", "--start", 0.5) == 0
    assert soundfile.info(folder / "remix.flac").frames == 4000 and not (folder / "tags.csv").exists()


def test_steering_asks_for_its_stem(tmp_path):
    parser = cli.build_parser("studio")
    given = parser.parse_args(["studio", "x.wav", "-o", "y", "--steer", "guitar", "--steer", "piano:other less guitar",
                               "--steps", "5", "--model", "demucs_band", "--seed", "3", "--tempo", "1.5"])
    assert studio_command.asked_steps(given) == [
        ("separate", {"shifts": 0, "seed": 3, "model": "demucs_band"}),
        ("steer", {"name": "guitar", "of": "other", "steps": 5}),
        ("steer", {"name": "piano", "of": "other less guitar", "steps": 5}), ("tag", {}),
        ("remix", {"gains": {}, "mutes": [], "solos": [], "transpose": {}, "tempo": 1.5})]


@pytest.mark.parametrize("options,words", [
    (["--gain", "vocals"], "--gain is 'vocals'; expected two words"), (["--gain", "vocals=loud"], "expected a number"),
    (["--gain", "organ=3"], "the mix names organ"), (["--tempo", "9"], "tempo is 9.0"),
    (["--translate", "bass"], "--translate is 'bass'"), (["--steer", "guitar:organ"], "no stem 'organ'"),
    (["--threads", "0"], "--threads is 0"), (["--session", "nowhere.json"], "expected a session.json"),
    (["--start", "5"], "isn't inside it"),
])
def test_what_cant_be_leaves_nothing(tmp_path, capsys, options, words):
    path = song_file(tmp_path / "a.wav")
    assert run(path, "-o", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name,data,words", [("no.wav", None, "no such"), ("words.wav", b"words", "not readable"),
                                             ("empty.wav", b"", "empty")])
def test_no_song(tmp_path, capsys, name, data, words):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    for more in ([], ["-o", tmp_path / "out"]):
        assert run(tmp_path / name, *more) == 2 and words in capsys.readouterr().err


def test_short_and_silent_songs(tmp_path):
    for name, x in (("short", noise(0.01)), ("silent", 0 * noise(0.5))):
        assert run(song_file(tmp_path / f"{name}.wav", x), "-o", tmp_path / "out") == 0
        info = soundfile.info(tmp_path / "out" / name / "remix.wav")
        assert info.frames == x.shape[1] and info.samplerate == 8000
        assert {p.stem for p in (tmp_path / "out" / name / "stems").iterdir()} == set(STEMS)
    assert not soundfile.read(tmp_path / "out" / "silent" / "remix.wav")[0].any()


def test_the_app_opens_on_the_song(tmp_path, monkeypatch):
    path, seen = song_file(tmp_path / "it's.wav"), []
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("course_lib.authoring.lab.run", lambda command: seen.append(command) or 0)
    assert run(path, "--no-browser", "--port", 9999) == 0
    notebook = json.loads((tmp_path / "data" / "studio" / studio_command.NOTEBOOK).read_text())
    names = {}
    code = "".join(notebook["cells"][1]["source"])
    exec(code.replace("app.show()", ""), names)
    assert names["app"].studio.name == "it's" and names["app"].error == ""
    assert any(studio_command.NOTEBOOK in word for word in seen[0]) and "--no-browser" in seen[0]
