"""`course steer`: its files, its options, and what it refuses; with the course's own codec and tagger, few steps."""

import re

import numpy as np
import pytest
import soundfile
import torch

from course_lib.cli import main
from course_lib.data.resampling import resample
from course_lib.jukebox import VQVAE
from course_lib.steering_command import pieces_of


def song(path, seconds=1.5, rate=22_050, channels=2, level=0.1):
    audio = level * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, audio, rate, subtype="FLOAT")
    return path


def run(*arguments):
    return main(["steer", *map(str, arguments), "--steps", "1", "--n-fft", "512", "--threads", "1"])


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_masked_and_rest_are_the_song(tmp_path):
    path = song(tmp_path / "x.wav")
    assert run(path, "--tag", "guitar", "-o", tmp_path / "out", "--codec-output") == 0
    assert names(tmp_path / "out") == ["guitar.wav", "guitar_codec.wav", "guitar_rest.wav"]
    read = {name: soundfile.read(tmp_path / "out" / "x" / name)[0] for name in names(tmp_path / "out")}
    mono = soundfile.read(path)[0].mean(1)
    assert all(len(one) == len(mono) for one in read.values())
    assert np.abs(read["guitar.wav"] + read["guitar_rest.wav"] - mono).max() < 1e-3
    assert read["guitar.wav"].std() > 1e-3


def test_residual_swaps_the_two_and_another_rate_is_the_codecs(tmp_path):
    path = song(tmp_path / "x.wav", 2.0, 44_100, 1)
    assert run(path, "--tag", "drums", "-o", tmp_path / "a", "--start", 0.5, "--seconds", 1) == 0
    assert run(path, "--tag", "drums", "-o", tmp_path / "b", "--start", 0.5, "--seconds", 1, "--residual") == 0
    assert soundfile.info(tmp_path / "a" / "x" / "drums.wav").samplerate == 22_050
    one, other = (soundfile.read(tmp_path / folder / "x" / name)[0]
                  for folder, name in (("a", "drums.wav"), ("b", "drums_rest.wav")))
    assert len(one) == 22_050 and np.array_equal(one, other)


def test_early_sounds_are_of_the_first_piece(tmp_path, capsys):
    path = song(tmp_path / "x.wav")
    arguments = ["steer", path, "--tag", "drums", "-o", tmp_path / "out", "--steps", "3", "--n-fft", "512", "--threads",
                 "1", "--piece", "1", "--early", "2"]
    assert main(list(map(str, arguments))) == 0
    assert names(tmp_path / "out") == ["drums.wav", "drums_rest.wav", "drums_step000.wav", "drums_step002.wav"]
    first, later, last = (soundfile.read(tmp_path / "out" / "x" / name)[0]
                          for name in ("drums_step000.wav", "drums_step002.wav", "drums.wav"))
    assert len(first) == len(later) == 22_050 and len(last) == 33_075
    plain = slice(0, 9_000)                                               # where the second piece has not begun
    moved = [np.abs(one[plain] - last[plain]).mean() for one in (first, later)]
    assert first.std() > 1e-3 and moved[0] > moved[1] > 0                 # the way to what comes out
    assert "4 files" in capsys.readouterr().out
    assert main(list(map(str, arguments))) != 0 and "drums.wav is there already" in capsys.readouterr().err
    (tmp_path / "out" / "x" / "drums.wav").unlink()
    (tmp_path / "out" / "x" / "drums_rest.wav").unlink()
    assert main(list(map(str, arguments))) != 0 and "drums_step000.wav is there already" in capsys.readouterr().err


def test_jukebox_from_a_file_of_the_official_layout(tmp_path, monkeypatch):
    """The published size with weights drawn here, as the publisher's file would have them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VQVAE()
        for block in model.bottleneck.level_blocks:
            block.k.normal_()
    (tmp_path / "weights" / "jukebox").mkdir(parents=True)
    torch.save({"hps": {"levels": 3}, "model": model.state_dict(), "opt": None, "step": 384_000},
               tmp_path / "weights" / "jukebox" / "vqvae.pth.tar", _use_new_zipfile_serialization=False)
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    path = song(tmp_path / "x.wav", 0.3)
    assert run(path, "--tag", "guitar", "-o", tmp_path / "out", "--codec", "jukebox", "--codec-output") == 0
    read = {name: soundfile.read(tmp_path / "out" / "x" / name) for name in names(tmp_path / "out")}
    assert set(read) == {"guitar.wav", "guitar_rest.wav", "guitar_codec.wav"}
    assert all(rate == 44_100 and len(audio) == round(0.3 * 44_100) for audio, rate in read.values())
    masked, rest = read["guitar.wav"][0], read["guitar_rest.wav"][0]
    mono = resample(torch.from_numpy(soundfile.read(path, dtype="float32")[0].mean(1))[None], 22_050, 44_100)[0].numpy()
    assert np.abs(masked + rest - mono).max() < 1e-3


def test_silence_stays_silent(tmp_path):
    assert run(song(tmp_path / "x.wav", level=0.0), "--tag", "vocals", "-o", tmp_path / "out") == 0
    assert np.abs(soundfile.read(tmp_path / "out" / "x" / "vocals.wav")[0]).max() == 0


def test_what_is_there_already_is_kept(tmp_path, capsys):
    path = song(tmp_path / "x.wav")
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "guitar_rest.wav").write_text("mine")
    assert run(path, "--tag", "guitar", "-o", tmp_path / "out") != 0
    assert "guitar_rest.wav is there already" in capsys.readouterr().err
    assert (tmp_path / "out" / "x" / "guitar_rest.wav").read_text() == "mine"
    assert run(path, "--tag", "guitar", "-o", tmp_path / "out", "--overwrite") == 0


@pytest.mark.parametrize("options, words", [
    (["--tag", "theremin"], "theremin"),
    (["--tag", "guitar", "--piece", 0.5], "--piece is 0.5; expected at least 1 second"),
    (["--tag", "guitar", "--start", 9], "lasts 1.5 s"),
    (["--tag", "guitar", "--codec", "demucs_band"], "expected a VQVAE"),
    (["--tag", "guitar", "--taggers", "open_unmix_band"], "open_unmix_band|tags"),
    (["--tag", "guitar", "--lr", 0], "--lr is 0"),
    (["--tag", "guitar", "--early", 0], "--early is 0; expected a number of steps"),
    (["--tag", "guitar", "--early", 1, "--residual"], "--early with --residual"),
])
def test_bad_options_leave_nothing(tmp_path, capsys, options, words):
    assert run(song(tmp_path / "x.wav"), *options, "-o", tmp_path / "out") != 0
    error = capsys.readouterr().err
    assert re.search(words, error) and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_an_interruption_leaves_no_file(tmp_path, monkeypatch):
    from course_lib.separating import StemFiles

    def stop(self, sources):
        raise KeyboardInterrupt

    monkeypatch.setattr(StemFiles, "write", stop)
    try:
        assert run(song(tmp_path / "x.wav"), "--tag", "guitar", "-o", tmp_path / "out") != 0
    except KeyboardInterrupt:
        pass
    assert not (tmp_path / "out").exists()


def test_no_song(tmp_path, capsys):
    assert run(tmp_path / "gone.wav", "--tag", "guitar", "-o", tmp_path / "out") != 0
    assert "gone.wav" in capsys.readouterr().err


@pytest.mark.parametrize("samples", [1, 100, 101, 199, 1000, 12_345])
def test_pieces_cover_every_sample(samples):
    starts = pieces_of(samples, min(100, samples), 25)
    assert starts[0] == 0 and starts[-1] + min(100, samples) == samples
    assert all(0 < b - a <= 75 for a, b in zip(starts, starts[1:]))
