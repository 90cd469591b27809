"""Chapter 3's module: equality with museval, torchmetrics and fast_bss_eval, exact cases, gradients, silence,
bad input.
"""

import math
import warnings

import fast_bss_eval
import numpy as np
import pytest
import torch
import torchmetrics.functional.audio as torchmetrics_audio

from course_lib.data import STEMS, open_tracks, recording
from course_lib.data.without_ffmpeg import import_museval
from course_lib.metrics import (
    bss_eval,
    chunk_sdr,
    conjugate_gradients,
    distortion_anchor,
    improvement,
    interference_anchor,
    lagged_products,
    levinson,
    median_over_frames,
    median_over_tracks,
    projection_filters,
    sd_sdr,
    sdr,
    sdr_after_filter,
    si_sdr,
    snr,
    toeplitz_inverse,
    toeplitz_product,
    utterance_sdr,
)
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, stft

museval = import_museval()


def noise(*shape, seed=0, dtype=torch.float64):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def masked(sources, exponent=1.0):
    S = stft(sources)
    return istft(apply_mask(ideal_ratio_mask(S, exponent), S.sum(0)), length=sources.shape[-1])


def by_museval(references, estimates, rate, taps=512):
    """(4, source, frame): SDR, ISR, SIR, SAR."""
    arrays = [z.double().movedim(1, 2).numpy() for z in (references, estimates)]  # (source, time, channel)
    return torch.stack(
        [torch.as_tensor(z) for z in museval.metrics.bss_eval(*arrays, rate, rate, filters_len=taps)[:4]]
    )


def largest_difference(references, estimates, rate, taps=512):
    ours, theirs = (
        torch.stack(bss_eval(references, estimates, rate, taps=taps)),
        by_museval(references, estimates, rate, taps),
    )
    assert torch.equal(ours.isnan(), theirs.isnan())
    return float((ours - theirs)[~theirs.isnan()].abs().max())


# --- ratios over time -----------------------------------------------------------------------------------------------

def test_by_hand():
    s, e = torch.tensor([2.0, -1.0, 2.0]), torch.tensor([2.0, -1.0, 1.0])
    assert math.isclose(float(snr(e, s)), 10 * math.log10(9), rel_tol=1e-6)
    alpha = 7 / 9                                                       # (4 + 1 + 2) / 9
    along, error = 9 * alpha ** 2, 6 - 9 * alpha ** 2                   # the estimate's energy is 4 + 1 + 1
    assert math.isclose(float(si_sdr(e, s)), 10 * math.log10(along / error), rel_tol=1e-5)
    assert math.isclose(float(sd_sdr(e, s)), 10 * math.log10(along / 1), rel_tol=1e-5)


@pytest.mark.parametrize("shape", [(1000,), (3, 999), (2, 4, 2, 500)])
def test_equal_to_torchmetrics_and_fast_bss_eval(shape):
    s = noise(*shape)
    e = s + 0.3 * noise(*shape, seed=1)
    assert torch.allclose(snr(e, s), torchmetrics_audio.signal_noise_ratio(e, s))
    assert torch.allclose(si_sdr(e, s), torchmetrics_audio.scale_invariant_signal_distortion_ratio(e, s), atol=1e-6)
    assert torch.equal(sdr(e, s), snr(e, s))
    if len(shape) > 1:
        theirs = fast_bss_eval.si_sdr_loss(e.reshape(-1, 1, shape[-1]), s.reshape(-1, 1, shape[-1]))      # minus SI-SDR
        assert torch.allclose(si_sdr(e, s).flatten(), -theirs.flatten(), atol=1e-5)


def test_sdr_after_filter_is_that_of_torchmetrics():
    s = noise(3, 8000)
    e = torch.nn.functional.conv1d(s[:, None], noise(1, 1, 40, seed=5), padding=39)[:, 0, :8000] + 0.02 * noise(
        3, 8000, seed=1
    )
    theirs = torchmetrics_audio.signal_distortion_ratio(e, s)
    assert torch.allclose(sdr_after_filter(e, s), theirs.double(), atol=1e-3)
    assert torch.allclose(sdr_after_filter(e, s, taps=1), si_sdr(e, s), atol=1e-6)
    assert (sdr_after_filter(e, s, taps=64) > sdr_after_filter(e, s, taps=8)).all()


def test_invariances():
    s = noise(2, 1000)
    e = s + 0.2 * noise(2, 1000, seed=1)
    for factor in (0.01, 7.0, -1.0):
        assert torch.allclose(si_sdr(factor * e, s), si_sdr(e, s)) and torch.allclose(
            si_sdr(e, factor * s), si_sdr(e, s)
        )
        assert torch.allclose(snr(factor * e, factor * s), snr(e, s))
        assert (snr(factor * e, s) - snr(e, s)).abs().min() > 1
    alpha = (e * s).sum(-1) / (s * s).sum(-1)
    assert torch.allclose(sd_sdr(e, s), snr(e, s) + 20 * alpha.abs().log10())


def test_perfect_silent_and_orthogonal():
    s = torch.tensor([1.0, 0.0, -1.0])
    zero, other = torch.zeros(3), torch.tensor([1.0, 0.0, 1.0])
    assert snr(s, s) == math.inf and si_sdr(s, s) == math.inf and sd_sdr(s, s) == math.inf
    assert snr(zero, s) == 0 and sd_sdr(zero, s) == -math.inf and si_sdr(zero, s).isnan()
    assert si_sdr(other, s) == -math.inf
    for metric in (snr, sdr, si_sdr, sd_sdr, sdr_after_filter):
        assert metric(s, zero).isnan() and metric(zero, zero).isnan()
        batch = metric(torch.stack([s, s]) + 0.1, torch.stack([s, zero]))
        assert batch[0].isfinite() and batch[1].isnan(), "one silent reference leaves the others alone"


@pytest.mark.parametrize("metric", [snr, sdr, si_sdr, sd_sdr])
def test_gradients(metric):
    s = noise(2, 50)
    e = (s + 0.3 * noise(2, 50, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: metric(e, s), (e,))
    loss = -metric(e, s).mean()
    loss.backward()
    assert metric(e - 1e-4 * e.grad / e.grad.norm(), s).mean() > metric(e, s).mean(), "a step along the gradient helps"


def test_gradients_of_the_song_scores():
    s, e = noise(2, 300), (noise(2, 300) + 0.1 * noise(2, 300, seed=1)).requires_grad_()
    (utterance_sdr(e, s) + chunk_sdr(e, s, 100).sum() + sdr_after_filter(e, s, 4).sum()).backward()
    assert e.grad.isfinite().all() and e.grad.abs().max() > 0


@pytest.mark.parametrize("metric", [snr, sdr, si_sdr, sd_sdr, sdr_after_filter])
@pytest.mark.parametrize("e,s,words", [
    (torch.zeros(3), torch.zeros(4), "equal shapes"), (torch.zeros(0), torch.zeros(0), "at least one sample"),
    (torch.zeros(()), torch.zeros(()), "equal shapes"), (torch.zeros(3).long(), torch.zeros(3).long(), "floats"),
    (torch.tensor([math.nan, 1.0]), torch.ones(2), "estimates holds NaN"),
    (torch.ones(2), torch.tensor([math.inf, 1.0]), "references holds NaN")])
def test_bad_input(metric, e, s, words):
    with pytest.raises(ValueError, match=words):
        metric(e, s)


# --- improvement, songs, chunks, medians ----------------------------------------------------------------------------

def test_improvement():
    sources = noise(3, 4, 2, 400)                                       # (batch, source, channel, time)
    mixture, estimates = sources.sum(1), sources + 0.1 * noise(3, 4, 2, 400, seed=1)
    for metric in (snr, si_sdr, utterance_sdr):
        expected = metric(estimates, sources) - metric(mixture[:, None].expand_as(sources), sources)
        assert torch.allclose(improvement(metric, estimates, sources, mixture), expected)
    assert improvement(utterance_sdr, mixture[:, None].expand_as(sources), sources, mixture).abs().max() < 1e-9
    assert improvement(snr, estimates[0, 0], sources[0, 0], mixture[0]).shape == (2,)
    with pytest.raises(ValueError, match="mixture"):
        improvement(snr, estimates, sources, mixture[:2])


def test_utterance_sdr_is_the_challenges_formula():
    s, e = noise(5, 2, 700), noise(5, 2, 700) + 0.1 * noise(5, 2, 700, seed=1)
    for k in range(5):  # MDX 2021: sums over channels and time, delta 1e-7
        num = np.sum(np.square(s[k].numpy())) + 1e-7
        den = np.sum(np.square(s[k].numpy() - e[k].numpy())) + 1e-7
        assert math.isclose(float(utterance_sdr(e, s)[k]), 10 * np.log10(num / den), rel_tol=1e-9)
    zero = torch.zeros(2, 100)
    assert utterance_sdr(zero, zero) == 0 and utterance_sdr(zero + 1, zero) < -90
    with pytest.raises(ValueError, match="channel, time"):
        utterance_sdr(torch.zeros(5), torch.zeros(5))


def test_chunk_sdr():
    s, e = noise(3, 2, 1050), noise(3, 2, 1050) + 0.1 * noise(3, 2, 1050, seed=1)
    s[1, :, 200:300] = 0
    scores = chunk_sdr(e, s, rate=100)
    assert scores.shape == (3, 10) and scores.isnan().nonzero().tolist() == [[1, 2]]
    for k in (0, 5, 9):
        assert torch.allclose(scores[:, k], utterance_sdr(e[..., 100 * k:100 * k + 100], s[..., 100 * k:100 * k + 100]))
    assert chunk_sdr(e, s, rate=100, seconds=2.5).shape == (3, 4)
    for seconds in (11, 0):
        with pytest.raises(ValueError, match="chunk"):
            chunk_sdr(e, s, rate=100, seconds=seconds)


@pytest.mark.parametrize("values,expected", [
    ([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([math.nan, 1.0], 1.0), ([math.nan, 1.0, 5.0, math.nan], 3.0),
    ([math.inf, math.inf, 0.0], math.inf), ([-math.inf, 0.0, 1.0], 0.0), ([7.0], 7.0)])
def test_median_over_frames(values, expected):
    assert median_over_frames(torch.tensor(values)) == expected
    assert np.nanmedian(values) == expected


def test_medians():
    assert median_over_frames(torch.full((2, 3), math.nan)).isnan().all()
    assert median_over_frames(torch.tensor([-math.inf, math.inf])).isnan(), "no number lies between them"
    tracks = [noise(4, frames, seed=frames) for frames in (1, 4, 7, 20)]
    expected = np.median([np.median(track, -1) for track in tracks], 0)
    assert torch.allclose(median_over_tracks(tracks), torch.from_numpy(expected))
    assert torch.allclose(median_over_tracks(torch.stack([tracks[3]] * 3)), median_over_frames(tracks[3]))
    for empty in ([], torch.zeros(0, 4, 3)):
        with pytest.raises(ValueError, match="empty"):
            median_over_tracks(empty)
    with pytest.raises(ValueError, match="at least one frame"):
        median_over_frames(torch.zeros(2, 0))


# --- the parts of BSSEval -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("time,lags", [(1, 1), (5, 8), (300, 512), (3585, 512), (9000, 512), (9000, 3), (20_000, 2000)])
def test_lagged_products(time, lags):
    x, y = noise(2, time), noise(3, time, seed=1)
    r = lagged_products(x, y, lags)
    assert r.shape == (lags, 2, 3) and r.dtype == torch.float64
    for k in {0, 1, lags // 2, lags - 1} & set(range(lags)):
        expected = x[:, :time - k] @ y[:, k:].T if k < time else torch.zeros(2, 3, dtype=torch.float64)
        assert torch.allclose(r[k], expected, atol=1e-12 * time)


def block_toeplitz(R):
    """The whole matrix of (taps, m, m) blocks."""
    taps = len(R)
    return torch.cat([torch.cat([R[a - b] if a >= b else R[b - a].T for b in range(taps)], 1) for a in range(taps)])


@pytest.mark.parametrize("channels,taps", [(1, 1), (1, 20), (2, 1), (3, 16), (8, 6)])
def test_block_toeplitz(channels, taps):
    x = noise(channels, 500)
    x[:, 1:] += 0.9 * x[:, :-1].clone()                                 # coloured, so that the blocks differ
    R = lagged_products(x, x, taps)
    T, v = block_toeplitz(R), noise(taps, channels, 3, seed=2)
    Tv = toeplitz_product(R)(v)
    assert torch.allclose(Tv.flatten(0, 1), T @ v.flatten(0, 1), atol=1e-10)
    f, b, E_f, E_b = levinson(R)
    assert torch.allclose(
        T @ f.flatten(0, 1), torch.nn.functional.pad(E_f, (0, 0, 0, (taps - 1) * channels)), atol=1e-9
    )
    assert torch.allclose(
        T @ b.flatten(0, 1), torch.nn.functional.pad(E_b, (0, 0, (taps - 1) * channels, 0)), atol=1e-9
    )
    assert torch.allclose(toeplitz_inverse(R)(Tv), v, atol=1e-8)
    assert torch.allclose(projection_filters(R, Tv), v, atol=1e-8)
    batch = levinson(torch.stack([R, 2 * R]))
    assert torch.allclose(batch[0][0], f) and torch.allclose(batch[2][1], 2 * E_f)


def test_conjugate_gradients_without_a_good_guess():
    A = noise(12, 12)
    A = A @ A.T + 0.1 * torch.eye(12, dtype=torch.float64)
    shaped = lambda z: (A @ z.reshape(12, 2)).reshape(4, 3, 2)          # (tap, m, column) as one vector a column
    x = noise(4, 3, 2, seed=1)
    found, residual = conjugate_gradients(shaped, lambda z: z, shaped(x), steps=60)
    assert residual < 1e-12 and torch.allclose(found, x, atol=1e-9)


# --- BSSEval against museval ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("sources,channels,time,rate", [
    (2, 1, 12_077, 4000), (3, 1, 9001, 4000), (2, 2, 12_001, 4000), (3, 2, 8000, 4000)])
def test_equal_to_museval_on_noise(sources, channels, time, rate):
    references = noise(sources, channels, time)
    estimates = references + 0.3 * references.roll(1, 0) + 0.1 * noise(sources, channels, time, seed=1)
    assert largest_difference(references, estimates, rate) < 1e-3


def test_equal_to_museval_for_one_source():
    references = noise(1, 2, 8100)
    ours, theirs = (
        z[[0, 1, 3]]
        for z in (
            torch.stack(bss_eval(references, references + 0.1 * noise(1, 2, 8100, seed=1), 4000)),
            by_museval(references, references + 0.1 * noise(1, 2, 8100, seed=1), 4000),
        )
    )
    assert (ours - theirs).abs().max() < 1e-3, "there is nobody to interfere: SIR is left out"


@pytest.mark.parametrize("taps,length", [(1, 2000), (32, 3001), (512, 3000)])
def test_equal_to_museval_for_other_filters_and_signals_under_a_frame(taps, length):
    references = noise(2, 1, length)
    estimates = references + 0.2 * references.roll(3, -1) + 0.1 * noise(2, 1, length, seed=1)
    assert bss_eval(references, estimates, 4000, taps=taps).sdr.shape == (2, 1)
    assert largest_difference(references, estimates, 4000, taps) < 1e-3


def test_equal_to_museval_on_a_song():
    track = open_tracks("band", "test", count=1)[0].excerpt(6.0, 3.2)
    sources = track.sources(STEMS)                                      # four stems, stereo, 44.1 kHz
    scores = bss_eval(sources, masked(sources), track.rate)
    assert scores.sdr.shape == (4, 3) and scores.sdr.isfinite().any()
    assert largest_difference(sources, masked(sources), track.rate) < 1e-3


def test_equal_to_museval_on_speech_and_on_recordings_of_16_bits():
    speech = torch.stack([recording(name, start=1.0, seconds=3.01)[0] for name in ("libri1", "libri2", "libri3")])
    assert largest_difference(speech, masked(speech), 16000) < 1e-3
    music = torch.stack([recording(name, start=5.0, seconds=2.3)[0] for name in ("fishin", "vibeace")])
    music = (music * 32768).round() / 32768
    assert largest_difference(music, masked(music), 44100) < 1e-3


def singular_cases():
    one, two = noise(2, 1, 12_000), noise(2, 2, 12_000, seed=1)
    silent_channel = two.clone()
    silent_channel[:, 1] = 0
    quiet = two * torch.tensor([1.0, 1e-3], dtype=torch.float64)[:, None, None]
    return {"mono in both channels": one.expand(2, 2, -1), "panned": one * torch.tensor([1.0, 0.5])[:, None],
            "one channel silent": silent_channel, "one source 60 dB below the other": quiet}


@pytest.mark.parametrize("name", singular_cases())
def test_equal_to_museval_where_the_matrix_is_singular_or_badly_scaled(name):
    references = singular_cases()[name].contiguous()
    estimates = references + 0.2 * references.flip(0) + 0.1 * noise(2, 2, 12_000, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert largest_difference(references, estimates, 4000) < 1e-3


def test_where_a_part_of_the_spectrum_is_empty_it_warns():
    """No filter is the best one there: museval's scores change by decibels with the last bit of its input."""
    spectrum = torch.fft.rfft(noise(2, 2, 16_000, dtype=torch.float32))
    empty = torch.fft.irfft(spectrum * torch.exp(-torch.arange(spectrum.shape[-1]) / 160), n=16_000).double()
    estimates = empty + 0.2 * empty.flip(0) + 0.01 * noise(2, 2, 16_000, seed=1)
    with pytest.warns(UserWarning, match="spectrum"):
        scores = bss_eval(empty, estimates, 4000)
    assert all(score.isfinite().all() for score in scores)
    nudged = empty * (1 + 1e-13 * noise(*empty.shape, seed=2))
    moved = (by_museval(empty, estimates, 4000) - by_museval(nudged, estimates, 4000)).abs().amax((1, 2))
    assert moved[0] < 1e-3 < 0.1 < moved[1:].max(), "SDR stands, the others don't"
    rounded = (empty * 32768).round() / 32768
    assert largest_difference(rounded, estimates, 4000) < 1e-3, "with a noise floor there is one best filter"


def test_silence():
    """A frame with a silent source or estimate is NaN for all, as museval's; a wholly silent source, where it raises,
    too.
    """
    references = noise(3, 2, 5 * 1000)
    estimates = references + 0.1 * noise(3, 2, 5000, seed=1)
    references[1, :, 1000:2000], estimates[2, :, 3000:4000] = 0, 0
    assert largest_difference(references, estimates, 1000, taps=64) < 1e-3
    scores = torch.stack(bss_eval(references, estimates, 1000, taps=64))
    assert scores.isnan().all(1).all(0).tolist() == [False, True, False, True, False]
    assert not scores[..., [0, 2, 4]].isnan().any()
    references[0] = 0
    with pytest.raises(ValueError, match="silent"):
        by_museval(references, estimates, 1000, 64)
    assert torch.stack(bss_eval(references, estimates, 1000, taps=64)).isnan().all()
    assert torch.stack(bss_eval(torch.zeros(2, 1, 3000), torch.zeros(2, 1, 3000), 1000, taps=64)).isnan().all()


def test_opposite_channels_are_not_silence():
    """museval adds the channels up before it asks whether a source is silent, and refuses this one."""
    mono = noise(2, 1, 4000)
    references = torch.cat([mono, -mono], 1)
    estimates = references + 0.1 * noise(2, 2, 4000, seed=1)
    with pytest.raises(ValueError, match="non-silent"):
        by_museval(references, estimates, 1000, 64)
    assert bss_eval(references, estimates, 1000, taps=64).sdr.isfinite().all()


@pytest.mark.parametrize("sources,channels,taps", [(2, 1, 512), (2, 2, 64), (1, 2, 100)])
def test_too_short_for_the_filters(sources, channels, taps):
    shortest = sources * channels * taps - taps + 2                     # samples that leave one dimension to artefacts
    references = noise(sources, channels, shortest)
    estimates = references + 0.1 * noise(sources, channels, shortest, seed=1)
    long_enough = bss_eval(references, estimates, shortest, taps=taps)
    short = bss_eval(references[..., 1:], estimates[..., 1:], shortest, taps=taps)
    assert not long_enough.sar.isnan().any() and short.sar.isnan().all() and short.sir.isnan().all()
    assert short.sdr.isfinite().all() and short.isr.isnan().all() == (sources == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bss_eval(noise(2, 2, 1), noise(2, 2, 1, seed=1), 44100).sdr.isfinite().all()


def test_perfect_estimates_and_float32():
    references = noise(2, 2, 3000, dtype=torch.float32)
    scores = bss_eval(references, references, 1000, taps=32)
    assert scores.sdr.eq(math.inf).all() and scores.sdr.dtype == torch.float64
    assert min(float(score.min()) for score in scores[1:]) > 200
    estimates = references + 0.1 * noise(2, 2, 3000, seed=1, dtype=torch.float32)
    as_double = bss_eval(references.double(), estimates.double(), 1000, taps=32)
    assert all(torch.allclose(a, b) for a, b in zip(bss_eval(references, estimates, 1000, taps=32), as_double))
    assert torch.allclose(as_double.sdr, chunk_sdr(estimates.double(), references.double(), 1000), atol=1e-4)


def test_each_damage_moves_its_own_score():
    references = noise(2, 1, 8000)
    def scores(estimate):
        return [
            float(score[0].mean())
            for score in bss_eval(references, torch.stack([estimate, references[1]]), 4000, taps=64)
        ]
    leak, hiss = scores(references[0] + 0.1 * references[1]), scores(references[0] + 0.1 * noise(1, 8000, seed=9))
    echo = scores(references[0] + 0.1 * references[0].roll(5, -1))
    assert abs(leak[2] - 20) < 0.5 and leak[1] > 35 and leak[3] > 200
    assert abs(hiss[3] - 20) < 0.5 and min(hiss[1:3]) > 30
    assert abs(echo[1] - 20) < 0.5 and min(echo[2:]) > 35
    assert all(abs(each[0] - 20) < 0.5 for each in (leak, hiss, echo))


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with pytest.raises(ValueError):
        bss_eval(torch.zeros(2, 3), torch.zeros(2, 3), 100)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "references,estimates,options,words",
    [
        (torch.zeros(2, 1, 9), torch.zeros(2, 1, 8), {}, "equal shapes"),
        (torch.zeros(2, 9), torch.zeros(2, 9), {}, "source, channel, time"),
        (torch.zeros(1, 2, 1, 9), torch.zeros(1, 2, 1, 9), {}, "source, channel, time"),
        (torch.zeros(2, 1, 0), torch.zeros(2, 1, 0), {}, "at least one sample"),
        (torch.ones(2, 1, 9), torch.full((2, 1, 9), math.nan), {}, "NaN"),
        (torch.ones(2, 1, 9), torch.ones(2, 1, 9), {"taps": 0}, "taps 0"),
        (torch.ones(2, 1, 9), torch.ones(2, 1, 9), {"seconds": 0}, "seconds 0"),
    ],
)
def test_bss_eval_refuses(references, estimates, options, words):
    with pytest.raises(ValueError, match=words):
        bss_eval(references, estimates, 10, **options)


# --- anchors --------------------------------------------------------------------------------------------------------

def test_anchors():
    rate, target, others = 44100, noise(2, 44100, dtype=torch.float32), noise(2, 44100, seed=1, dtype=torch.float32)
    generator = lambda: torch.Generator().manual_seed(0)
    dull = distortion_anchor(target, rate, generator())
    assert dull.shape == target.shape and torch.equal(dull, distortion_anchor(target, rate, generator()))
    power = torch.fft.rfft(dull).abs().pow(2).sum(0)
    assert power[:3500].sum() > 1000 * power[4000:].sum()
    lost = 1 - power[:3400].sum() / torch.fft.rfft(target).abs().pow(2).sum(0)[:3400].sum()
    assert 0.15 < lost < 0.45, "a fifth of the points, and what the overlap of frames doesn't fill up again"
    assert abs(float(utterance_sdr(interference_anchor(target, 17 * others), target))) < 1e-3
    assert torch.equal(interference_anchor(target, 0 * others), target)
    with pytest.raises(ValueError, match="holes"):
        distortion_anchor(target, rate, generator(), holes=2)


# --- the type and size of what comes in -----------------------------------------------------------------------------

RATIOS = [snr, sdr, si_sdr, sd_sdr, utterance_sdr]


@pytest.mark.parametrize("metric", RATIOS)
def test_half_precision_has_the_right_score(metric):
    """Ten seconds of stereo: the energy of 220,000 lies beyond float16's 65,504 (infinity would say 'perfect')."""
    s = 0.5 * torch.randn(1, 2, 441_000, generator=torch.Generator().manual_seed(0))
    e = s + 0.05 * torch.randn(1, 2, 441_000, generator=torch.Generator().manual_seed(1))
    for kind in (torch.float16, torch.bfloat16):
        half = metric(e.to(kind), s.to(kind))
        assert half.dtype == torch.float32
        assert torch.allclose(half.double(), metric(e.to(kind).double(), s.to(kind).double()), atol=1e-3)
    assert (metric(e.half(), s.half()) - metric(e, s)).abs().max() < 0.05, "20 dB, but for the rounding of the samples"


@pytest.mark.parametrize("metric", [*RATIOS[:4], sdr_after_filter])
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e20, 1e30])
def test_scores_do_not_depend_on_the_scale(metric, scale):
    s = noise(2, 3000, dtype=torch.float32)
    e = s + 0.1 * noise(2, 3000, seed=1, dtype=torch.float32)
    assert torch.allclose(metric(scale * e, scale * s), metric(e, s), atol=1e-3)


@pytest.mark.parametrize("scale", [1e-22, 1e20])
def test_bss_eval_does_not_depend_on_the_scale(scale):
    references = noise(2, 2, 3000, dtype=torch.float32)
    estimates = references + 0.1 * noise(2, 2, 3000, seed=1, dtype=torch.float32)
    expected = torch.stack(bss_eval(references, estimates, 1000, taps=16))
    assert torch.allclose(
        torch.stack(bss_eval(scale * references, scale * estimates, 1000, taps=16)), expected, atol=1e-3
    )
    half = torch.stack(bss_eval(references.half(), estimates.half(), 1000, taps=16))
    assert (half - expected).abs().max() < 0.1


@pytest.mark.parametrize("metric", RATIOS[:4])
@pytest.mark.parametrize("kind,scale", [(torch.float16, 1.0), (torch.float32, 1e-18), (torch.float32, 1e18)])
def test_gradients_are_finite_even_beside_a_silent_reference(metric, kind, scale):
    s = (scale * noise(2, 400)).to(kind)
    s[1] = 0
    e = (s + (0.1 * scale * noise(2, 400, seed=1)).to(kind)).requires_grad_()
    scores = metric(e, s)
    assert scores[0].isfinite() and scores[1].isnan()
    scores.nansum().backward()
    assert e.grad.isfinite().all() and e.grad[0].abs().max() > 0 and (e.grad[1] == 0).all()


@pytest.mark.parametrize(
    "shape,order,fix",
    [
        ((2, 400, 2), "source, time, channel", "swapaxes"),
        ((400, 2, 2), "time, source", "movedim"),
        ((2, 400_000, 2), "museval", "swapaxes"),
    ],
)
def test_axes_in_musevals_order_are_refused_before_anything_is_computed(shape, order, fix):
    """As channels, a time of 400 samples would ask for gigabytes."""
    x = torch.zeros(1).expand(shape)
    with pytest.raises(ValueError, match=rf"(?s){order}.*{fix}"):
        bss_eval(x, x, 44100)
    assert bss_eval(noise(2, 8, 3), noise(2, 8, 3, seed=1), 44100).sdr.isfinite().all(), "few samples of few channels"


@pytest.mark.parametrize("metric", [snr, sdr, si_sdr, sd_sdr, utterance_sdr, sdr_after_filter])
def test_numpy_arrays_are_refused_by_name(metric):
    x = np.zeros((2, 100), dtype=np.float32)
    with pytest.raises(ValueError, match=r"references is a numpy.ndarray.*torch.from_numpy\(references\)"):
        metric(torch.zeros(2, 100), x)
    with pytest.raises(ValueError, match="estimates is a numpy.ndarray"):
        metric(x, torch.zeros(2, 100))
    with pytest.raises(ValueError, match="references is a numpy.ndarray"):
        bss_eval(x[None], torch.zeros(1, 2, 100), 100)
    with pytest.raises(ValueError, match="mixture is a numpy.ndarray"):
        improvement(snr, torch.zeros(2, 100), torch.zeros(2, 100), x)
