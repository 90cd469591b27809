"""`course separate`: files and folders, options, what is there already, and songs that can't be separated."""

import shutil

import numpy as np
import pytest
import soundfile

from course_lib.cli import main

STEMS = ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]


def song(path, seconds=1.0, rate=22_050, channels=2, **options):
    rng = np.random.default_rng(0)
    audio = 0.1 * rng.standard_normal((round(seconds * rate), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, **options)
    return path


def run(*arguments):
    return main(["separate", *map(str, arguments), "--model", "demucs_band", "--threads", "1"])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_several_songs_and_a_folder(tmp_path, capsys):
    one = song(tmp_path / "one.wav")
    song(tmp_path / "more" / "two.flac", channels=1)
    song(tmp_path / "more" / "three.mp3")
    (tmp_path / "more" / "notes.txt").write_text("not a song")
    assert run(one, tmp_path / "more", one, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["one", "three", "two"] and names(tmp_path / "out" / "two") == STEMS
    info = soundfile.info(tmp_path / "out" / "two" / "vocals.wav")
    assert (info.channels, info.samplerate, info.frames, info.subtype) == (1, 22_050, 22_050, "PCM_16")
    assert "3 separated" in capsys.readouterr().out


def test_options(tmp_path):
    path = song(tmp_path / "x.wav", 0.7, 44_100)
    assert run(path, "-o", tmp_path / "out", "--two-stems", "vocals", "--format", "flac", "--bits", 24, "--shifts", 1,
               "--overlap", 0.5, "--segment", 0.5, "--rest", "add") == 0
    assert names(tmp_path / "out" / "x") == ["accompaniment.flac", "vocals.flac"]
    assert run(path, "-o", tmp_path / "sum", "--sum-to-mix", "--bits", 32) == 0
    total = sum(soundfile.read(tmp_path / "sum" / "x" / name)[0] for name in STEMS)
    assert np.abs(total - soundfile.read(path)[0]).max() < 1e-5


def test_one_bad_song_costs_only_itself(tmp_path, capsys):
    good = song(tmp_path / "good.wav")
    (tmp_path / "words.wav").write_text("no audio in here, only words")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(good.read_bytes()[:20_000])
    bad = song(tmp_path / "nan.wav", subtype="FLOAT")
    samples = soundfile.read(bad)[0]
    samples[9_000] = np.nan
    soundfile.write(bad, samples, 22_050, subtype="FLOAT")
    assert run(tmp_path / "words.wav", tmp_path / "empty.wav", cut, bad, tmp_path / "none.wav", tmp_path / "nothing",
               good, "-o", tmp_path / "out") == 1
    output = capsys.readouterr()
    assert names(tmp_path / "out") == ["good"] and names(tmp_path / "out" / "good") == STEMS
    for text in ("words.wav: not readable as audio", "empty.wav: the file is empty", "cut.wav: truncated",
                 "nan.wav: holds samples that are not finite", "none.wav: no such audio file",
                 "nothing: no audio file in this folder"):
        assert text in output.err, text
    assert "1 separated, 6 failed" in output.out and "Traceback" not in output.err


def test_songs_of_one_name(tmp_path, capsys):
    song(tmp_path / "a" / "x.wav")
    song(tmp_path / "b" / "X.flac")
    assert run(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out") == 1
    assert "its stems would go where those of" in capsys.readouterr().err and names(tmp_path / "out") == ["x"]


def test_what_is_there_already(tmp_path, capsys):
    path = song(tmp_path / "x.wav")
    out = tmp_path / "out"
    assert run(path, "-o", out) == 0
    vocals = out / "x" / "vocals.wav"
    vocals.write_bytes(b"mine")
    assert run(path, "-o", out) == 1 and "is there already; pass --overwrite" in capsys.readouterr().err
    assert run(path, "-o", out, "--skip") == 0 and vocals.read_bytes() == b"mine"
    assert "0 separated, 1 were there already" in capsys.readouterr().out
    assert run(path, "-o", out, "--overwrite") == 0 and soundfile.info(vocals).frames == 22_050
    vocals.unlink()
    assert run(path, "-o", out, "--skip") == 0 and vocals.exists()              # half of a song is not done


def test_what_there_is_not(tmp_path, capsys):
    path = song(tmp_path / "x.wav")
    out = ("-o", tmp_path / "out")
    for arguments, text in (
        (("--two-stems", "flute"), "stem is 'flute'; this model gives drums, bass, other, vocals"),
        (("--overlap", "1"), "overlap 1.0"),
        (("--shifts", "-1"), "shifts is -1"),
        (("--segment", "0"), "segment is 0"),
        (("--threads", "0"), "--threads is 0"),
        (("--format", "flac", "--bits", "32"), "format is 'flac' with 32 bits"),
        (("--device", "cuda:99"), "--device cuda:99"),
    ):
        assert main(["separate", str(path), *map(str, out), "--model", "demucs_band", *arguments]) == 2, arguments
        assert text in capsys.readouterr().err, arguments
    assert main(["separate", str(path), *map(str, out), "--model", "nobody"]) == 2
    assert "no trained model 'nobody'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_written(tmp_path, capsys):
    path = song(tmp_path / "x.wav")
    (tmp_path / "file").write_text("a file")
    assert run(path, "-o", tmp_path / "file" / "deep") == 1
    assert "can't write there" in capsys.readouterr().err


def test_clipping_is_said(tmp_path, capsys):
    path = tmp_path / "loud.wav"
    t = np.arange(22_050) / 22_050
    soundfile.write(path, 8 * np.sin(2 * np.pi * 100 * t), 22_050, subtype="FLOAT")
    assert run(path, "-o", tmp_path / "out") == 0 and "were clipped; --bits 32" in capsys.readouterr().out


def test_an_interruption_leaves_no_file(tmp_path, capsys, monkeypatch):
    import course_lib.separating as separating

    monkeypatch.setattr(separating.StemFiles, "write", lambda self, sources: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run(song(tmp_path / "x.wav"), "-o", tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("false") is None, reason="a POSIX system is needed for names of any bytes")
def test_names_of_any_kind(tmp_path):
    path = song(tmp_path / "Łódź 'live' [1].wav")
    assert run(path, "-o", tmp_path / "out dir") == 0 and names(tmp_path / "out dir") == [path.stem]
