"""Another sampling rate: torchaudio's, for any pair of rates and any piece."""

import pytest
import torch
import torchaudio

from course_lib.data import Track
from course_lib.data.resampling import _windowed_sinc, resample, resampled_blocks, resampled_frames, steps


@pytest.mark.parametrize("rates", [(44100, 16000), (44100, 22050), (16000, 44100), (22050, 44100), (48000, 44100)])
def test_a_piece_of_a_resampled_track_is_a_piece_of_the_whole(rates):
    audio = torch.randn(2, 30011, generator=torch.Generator().manual_seed(0))
    track = Track.from_tensors("t", rates[0], {"drums": audio}).resampled(rates[1])
    whole = torchaudio.functional.resample(audio, *rates)
    assert track.rate == rates[1] and track.frames == whole.shape[1]
    for start, frames in [(0, 500), (1, 999), (5003, 777), (whole.shape[1] - 333, 333), (0, whole.shape[1])]:
        piece = track.read("drums", start, frames)
        torch.testing.assert_close(piece, whole[:, start:start + frames], rtol=0, atol=1e-6)


def test_rates_without_a_common_divisor_use_the_same_filter_and_little_memory(monkeypatch):
    audio = torch.randn(2, 5000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for rates in [(1031, 1033), (1033, 1031), (1301, 811)]:
        torch.testing.assert_close(resample(audio, *rates), torchaudio.functional.resample(audio, *rates))
    monkeypatch.setattr(torchaudio.functional, "resample", None)             # its table would take gigabytes
    for rate in (44101, 44056):
        track = Track.from_tensors("t", rate, {"drums": audio[:, :4410]}).resampled(44100)
        whole = track["drums"]
        assert whole.shape == (2, track.frames) == (2, -(-4410 * 44100 // rate))
        torch.testing.assert_close(track.read("drums", 700, 50), whole[:, 700:750], rtol=0, atol=1e-6)
        assert _windowed_sinc(*steps(rate, 44100)).nbytes < 5e6


def test_a_tone_keeps_its_pitch_and_level_between_odd_rates():
    seconds = torch.arange(44101) / 44101
    heard = resample(torch.sin(2 * torch.pi * 440 * seconds), 44101, 44100)
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(44100) / 44100)
    assert (heard - expected)[100:-100].abs().max() < 0.01


def test_a_song_of_many_minutes_keeps_its_length():
    audio = torch.zeros(1, 2 ** 25 + 2)                         # torchaudio gives a sample less
    assert resample(audio, 88200, 44100).shape == (1, 2 ** 24 + 1) == (1, resampled_frames(2 ** 25 + 2, 2, 1))


@pytest.mark.parametrize("rate", [0, -1, 22050.5, float("nan"), float("inf"), "16000", True])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate is .*; expected a sampling rate in Hz"):
        resample(torch.zeros(1, 10), 8000, rate)
    with pytest.raises(ValueError, match="grids meet only after 2147483647 samples"):
        resample(torch.zeros(1, 10), 2 ** 31 - 1, 44100)


@pytest.mark.parametrize("rates", [(44100, 22050), (22050, 44100), (48000, 44100), (8000, 44100), (44101, 44100),
                                   (44100, 44100)])
@pytest.mark.parametrize("frames", [1, 40, 40_000, 120_001])
def test_blocks_joined_are_the_whole_resampled(rates, frames):
    x = torch.randn(2, 3, frames, generator=torch.Generator().manual_seed(0))
    for block in {1000, 65_536, frames} if frames > 1000 else {3, frames}:
        joined = torch.cat(list(resampled_blocks(iter(x.split(block, -1)), *rates)), -1)
        whole = resample(x, *rates)
        assert joined.shape == whole.shape and torch.allclose(joined, whole, atol=2e-6)


def test_blocks_are_given_as_soon_as_they_can_be():
    """Resampling a long stream holds a few blocks, however long it is."""
    taken = []

    def blocks():
        for _ in range(400):
            taken.append(1000)
            yield torch.zeros(1, 1000)

    given = 0
    for block in resampled_blocks(blocks(), 44100, 22050):
        given += block.shape[-1]
        assert sum(taken) - 2 * given < 20_000
    assert given == 200_000 and list(resampled_blocks([], 44100, 22050)) == []


def test_a_view_with_other_strides_is_resampled_too():
    audio = torch.randn(500, 3, 2, generator=torch.Generator().manual_seed(0)).permute(1, 2, 0)      # not contiguous
    for rates in [(44100, 22050), (44101, 44100)]:
        torch.testing.assert_close(resample(audio, *rates), resample(audio.contiguous(), *rates))
