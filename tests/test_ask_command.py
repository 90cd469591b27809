"""`course ask`: its files, its options, and what it refuses; with the course's own network."""

import re

import numpy as np
import pytest
import soundfile

from course_lib.cli import main


def song(path, seconds=1.0, rate=22_050, channels=2, level=0.1):
    audio = level * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype="FLOAT")
    return path


def run(*arguments):
    return main(["ask", *map(str, arguments), "--threads", "1"])


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_is_asked_and_the_rest_are_the_song(tmp_path):
    path = song(tmp_path / "x.wav")
    assert run(path, "--tag", "drums", "-o", tmp_path / "out", "--rest", "--bits", 32) == 0
    assert names(tmp_path / "out") == ["drums.wav", "no_drums.wav"]
    one, rest = (soundfile.read(tmp_path / "out" / "x" / name)[0] for name in ("drums.wav", "no_drums.wav"))
    assert np.abs(one + rest - soundfile.read(path)[0]).max() < 1e-4 and one.std() > 1e-4
    info = soundfile.info(tmp_path / "out" / "x" / "drums.wav")
    assert (info.samplerate, info.channels, info.frames) == (22_050, 2, 22_050)


def test_several_songs_tags_and_an_example(tmp_path, capsys):
    paths = song(tmp_path / "a.wav", channels=1), song(tmp_path / "more" / "b.wav", 0.5, 44_100)
    example = song(tmp_path / "like.wav", 0.6, 8000)
    assert run(*paths, "--tag", "bass", "drums", "bass", "-o", tmp_path / "tags") == 0
    assert names(tmp_path / "tags") == ["bass_drums.wav"] * 2 and "2 separated" in capsys.readouterr().out
    assert run(paths[0], "--example", example, "-o", tmp_path / "out", "--format", "flac") == 0
    assert run(paths[0], "--example", example, "--tag", "bass", "--name", "mine", "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["like.flac", "mine.wav"]


def test_one_bad_song_costs_only_itself(tmp_path, capsys):
    (tmp_path / "words.wav").write_text("no audio in here")
    assert run(tmp_path / "words.wav", song(tmp_path / "x.wav"), "--tag", "bass", "-o", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "course ask:" in error and "words.wav" in error and names(tmp_path / "out") == ["bass.wav"]


def test_silence_stays_silent(tmp_path):
    assert run(song(tmp_path / "x.wav", level=0.0), "--tag", "vocals", "-o", tmp_path / "out") == 0
    assert np.abs(soundfile.read(tmp_path / "out" / "x" / "vocals.wav")[0]).max() == 0


def test_what_is_there_already_is_kept(tmp_path, capsys):
    path, there = song(tmp_path / "x.wav"), tmp_path / "out" / "x" / "bass.wav"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    assert run(path, "--tag", "bass", "-o", tmp_path / "out") == 1
    assert "bass.wav is there already" in capsys.readouterr().err and there.read_text() == "mine"
    assert run(path, "--tag", "bass", "-o", tmp_path / "out", "--skip") == 0 and there.read_text() == "mine"
    assert run(path, "--tag", "bass", "-o", tmp_path / "out", "--overwrite") == 0
    assert soundfile.info(there).frames == 22_050


@pytest.mark.parametrize("options, words", [
    ([], "nothing is asked for: pass --tag NAME, or --example FILE"),
    (["--tag", "theremin"], "'theremin'; expected one or more of drums, bass, vocals"),
    (["--tag", "bass", "--model", "demucs_band"], "expected a network that can be asked, such as query_band"),
    (["--tag", "bass", "--name", "a/b"], "--name is 'a/b'"), (["--tag", "bass", "--overlap", 1], "overlap 1"),
    (["--tag", "bass", "--format", "flac", "--bits", 32], "32"),
])
def test_bad_options_leave_nothing(tmp_path, capsys, options, words):
    assert run(song(tmp_path / "x.wav"), *options, "-o", tmp_path / "out") != 0
    error = capsys.readouterr().err
    assert re.search(words, error) and "Traceback" not in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds, level, words", [(0.3, 0.1, "at least 0.5 s"), (1.0, 0.0, "example is silent")])
def test_bad_examples(tmp_path, capsys, seconds, level, words):
    example = song(tmp_path / "like.wav", seconds, level=level)
    assert run(song(tmp_path / "x.wav"), "--example", example, "-o", tmp_path / "out") != 0
    error = capsys.readouterr().err
    assert "like.wav" in error and words in error and not (tmp_path / "out").exists()
    assert run(tmp_path / "x.wav", "--example", tmp_path / "gone.wav", "-o", tmp_path / "out") != 0
    assert "gone.wav" in capsys.readouterr().err


def test_an_interruption_leaves_no_file(tmp_path, monkeypatch):
    from course_lib.separating import StemFiles

    def stop(self, sources):
        raise KeyboardInterrupt

    monkeypatch.setattr(StemFiles, "write", stop)
    try:
        assert run(song(tmp_path / "x.wav"), "--tag", "bass", "-o", tmp_path / "out") != 0
    except KeyboardInterrupt:
        pass
    assert not names(tmp_path / "out") if (tmp_path / "out").exists() else True
