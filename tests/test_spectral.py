"""Chapter 1's module: equality with torch and librosa, reconstruction, masks that sum to one, gradients, bad input."""

import itertools

import librosa
import numpy as np
import pytest
import torch

from course_lib import spectral
from course_lib.spectral import (
    amplitude_to_db,
    apply_mask,
    cola_deviation,
    complex_mask,
    fft_frequencies,
    frame,
    framewise_sdr,
    hann_window,
    hz_to_mel,
    ideal_binary_mask,
    ideal_ratio_mask,
    istft,
    mel_filterbank,
    mel_spectrogram,
    mel_to_hz,
    multichannel_wiener,
    overlap_add,
    phase_sensitive_mask,
    reflect_pad,
    song_sdr,
    spatial_model,
    stft,
)

SIZES = [(2048, 512), (1024, 256), (512, 128), (400, 100), (1024, 300), (64, 1), (16, 5)]


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def source_spectra(sources=4, channels=2, time=6000, seed=0, dtype=torch.float32):
    levels = torch.linspace(0.1, 1, sources, dtype=dtype)[:, None, None]
    return stft(noise(sources, channels, time, seed=seed, dtype=dtype) * levels, 512, 128)


# --- frames, windows, transforms ------------------------------------------------------------------------------------

@pytest.mark.parametrize("time,n_fft,hop", [(10, 4, 2), (11, 4, 3), (1000, 1000, 1), (5000, 256, 100)])
def test_overlap_add_is_the_transpose_of_frame(time, n_fft, hop):
    x = noise(2, time, dtype=torch.float64)
    frames = frame(x, n_fft, hop)
    assert frames.shape == (2, 1 + (time - n_fft) // hop, n_fft)
    y = noise(*frames.shape, seed=1, dtype=torch.float64)
    covered = (frames.shape[-2] - 1) * hop + n_fft
    assert torch.allclose((frames * y).sum(), (x[..., :covered] * overlap_add(y, hop)).sum())


@pytest.mark.parametrize("n_fft,hop", SIZES)
@pytest.mark.parametrize("shape", [(5000,), (2, 4999), (3, 2, 2100)])
def test_stft_equals_torch(n_fft, hop, shape):
    x = noise(*shape)
    expected = torch.stft(x.reshape(-1, shape[-1]), n_fft, hop, window=torch.hann_window(n_fft), return_complex=True)
    ours = stft(x, n_fft, hop)
    assert ours.shape == (*shape[:-1], n_fft // 2 + 1, 1 + shape[-1] // hop)
    assert (ours.reshape(expected.shape) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("n_fft,hop", [(2048, 512), (1024, 256), (512, 100)])
def test_stft_and_istft_equal_librosa(n_fft, hop):
    x = noise(9000).numpy()
    expected = librosa.stft(x, n_fft=n_fft, hop_length=hop, pad_mode="reflect")
    ours = stft(torch.from_numpy(x), n_fft, hop)
    assert np.abs(ours.numpy() - expected).max() <= 1e-5 * np.abs(expected).max()
    changed = ours * noise(*ours.shape, seed=2)  # an inconsistent spectrogram: the least-squares inverse
    theirs = librosa.istft(changed.numpy(), n_fft=n_fft, hop_length=hop, length=8000)
    assert np.abs(istft(changed, n_fft, hop, 8000).numpy() - theirs).max() <= 1e-5


def test_defaults_and_other_windows():
    x = noise(2, 9000)
    assert torch.equal(stft(x), stft(x, 2048, 512))
    assert torch.equal(stft(x, 1024), stft(x, 1024, 256, hann_window(1024)))
    window = torch.hamming_window(512)
    expected = torch.stft(x, 512, 128, window=window, return_complex=True, center=False)
    assert (stft(x, 512, 128, window, center=False) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert stft(x.double()).dtype == torch.complex128 and istft(stft(x.double())).dtype == torch.float64


@pytest.mark.parametrize(
    "n_fft,hop,time", [(n_fft, hop, time) for n_fft, hop in SIZES[:-1] for time in (2049, 6000, 6143)]
)
def test_round_trip_to_a_millionth(n_fft, hop, time):
    x = noise(2, time)
    assert (istft(stft(x, n_fft, hop), n_fft, hop, time) - x).abs().max() < 1e-6


def test_every_window_and_hop_reconstructs_or_refuses():
    """Wherever the weights stay above 1% of their maximum the round trip is exact to 1e-6; elsewhere a ValueError."""
    outcomes = {"exact": 0, "refused": 0}
    for hop, time, window in itertools.product(
        (64, 100, 128, 200, 256), (1000, 1023, 1279), ("hann", "ones", "hamming")
    ):
        taper = {"hann": hann_window(256), "ones": torch.ones(256), "hamming": torch.hamming_window(256)}[window]
        x = noise(time, seed=time)
        weights = overlap_add((taper ** 2).expand(1 + time // hop, 256), hop)
        covered = len(weights) >= 128 + time
        inside = weights[128:128 + time]
        if covered and inside.min() >= 0.01 * weights.max():
            assert (istft(stft(x, 256, hop, taper), 256, hop, time, taper) - x).abs().max() < 1e-6
            outcomes["exact"] += 1
        else:
            with pytest.raises(ValueError, match="NOLA" if covered else "frames cover"):
                istft(stft(x, 256, hop, taper), 256, hop, time, taper)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0, outcomes


def test_uncentred_round_trip_needs_a_window_that_starts_above_zero():
    x = noise(256 + 10 * 64)
    raised = 0.3 + 0.7 * hann_window(256)
    back = istft(stft(x, 256, 64, raised, center=False), 256, 64, window=raised, center=False)
    assert back.shape == x.shape and (back - x).abs().max() < 1e-6
    with pytest.raises(ValueError, match="NOLA"):
        istft(stft(x, 256, 64, center=False), 256, 64, center=False)


@pytest.mark.parametrize("call,words", [
    (lambda: stft(noise(100), 512, 128), "pad x"),
    (lambda: stft(torch.zeros(2, 0), 512, 128), r"shape \(2, 0\)"),
    (lambda: stft(torch.zeros(0, 1000), 512, 128), r"shape \(0, 1000\)"),
    (lambda: stft(torch.tensor(1.0), 512, 128), r"shape \(\)"),
    (lambda: stft(noise(1000).half(), 512, 128), "float16"),
    (lambda: stft(torch.zeros(1000, dtype=torch.int16), 512, 128), "int16"),
    (lambda: stft(noise(1000).to(torch.complex64), 512, 128), "complex64"),
    (lambda: stft(noise(1000), 511, 128), "n_fft is 511"),
    (lambda: stft(noise(1000), 512, 0), "hop_length is 0"),
    (lambda: stft(noise(1000), 512, 513), "hop_length is 513"),
    (lambda: stft(noise(1000), 512, 128, torch.ones(256)), "window has shape"),
    (lambda: frame(noise(100), 128, 32), "100"),
    (lambda: reflect_pad(noise(4), 4), r"\(4,\)"),
    (lambda: reflect_pad(noise(4), -1), "pad x"),
    (lambda: istft(torch.zeros(257, 4), 512, 128), "expected complex"),
    (lambda: istft(torch.zeros(256, 4, dtype=torch.complex64), 512, 128), "257"),
    (lambda: istft(stft(noise(1000), 512, 128), 512, 128, 5000), "frames cover"),
    (lambda: istft(stft(noise(1000), 512, 128), 512, 128, 0), "length is 0"),
    (lambda: istft(torch.zeros(257, 0, dtype=torch.complex64), 512, 128), "expected complex"),
    (lambda: amplitude_to_db(torch.ones(2), 0.0), "above 0"),
    (lambda: amplitude_to_db(torch.ones(2, dtype=torch.complex64)), "real values"),
    (lambda: hz_to_mel(torch.ones(1), "bark"), "bark"),
    (lambda: mel_filterbank(0, 512, 8000), "n_mels is 0"),
    (lambda: mel_filterbank(128, 512, 44100), "meet no bin"),
    (lambda: ideal_ratio_mask(source_spectra(), float("nan")), "exponent is nan"),
    (lambda: complex_mask(source_spectra(), source_spectra()), "mixture has shape"),
    (lambda: phase_sensitive_mask(source_spectra(), source_spectra().sum(0)[:1]), "mixture has shape"),
    (lambda: multichannel_wiener(*spatial_model(source_spectra()), source_spectra()), "expected"),
    (lambda: framewise_sdr(noise(2, 2, 100), noise(2, 2, 100), 100, 0.001), "at least one frame"),
    (lambda: mel_filterbank(10, 512, 8000, f_max=5000), "5000"),
    (lambda: ideal_ratio_mask(source_spectra(), 0), "exponent is 0"),
    (lambda: ideal_binary_mask(torch.zeros(2, 3, 4)), "source, channel, bin, frame"),
    (lambda: apply_mask(torch.ones(4, 3, 257, 9), torch.ones(2, 257, 9)), "doesn't fit"),
    (lambda: framewise_sdr(noise(2, 2, 8000), noise(2, 2, 7999), 8000), "equal"),
    (lambda: framewise_sdr(noise(2, 2, 100), noise(2, 2, 100), 8000), "8000 samples"),
])
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_cola():
    assert cola_deviation(hann_window(1024), 512) < 1e-6 and cola_deviation(hann_window(1024), 256) < 1e-6
    assert cola_deviation(hann_window(1024) ** 2, 512) > 0.3 and cola_deviation(hann_window(1024) ** 2, 256) < 1e-6
    with pytest.raises(ValueError):
        cola_deviation(hann_window(64), 65)


def test_a_window_of_odd_length_has_a_cola_too():
    assert cola_deviation(torch.ones(9), 3) < 1e-6 and overlap_add(frame(noise(20), 9, 3), 3).shape == (18,)


def test_axes_and_levels():
    assert torch.allclose(
        fft_frequencies(2048, 44100).double(),
        torch.from_numpy(librosa.fft_frequencies(sr=44100, n_fft=2048)),
        atol=1e-2,
    )
    level = amplitude_to_db(torch.tensor([2.0, 0.2, 0.0]))
    assert torch.allclose(level, torch.tensor([0.0, -20.0, -100.0])) and amplitude_to_db(torch.zeros(3)).eq(-100).all()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("rate,n_fft,n_mels", [(44100, 2048, 128), (16000, 512, 96), (22050, 1024, 40)])
def test_mel_equals_librosa(scale, rate, n_fft, n_mels):
    hertz = torch.linspace(0, rate / 2, 50, dtype=torch.float64)
    assert torch.allclose(
        hz_to_mel(hertz, scale), torch.from_numpy(librosa.hz_to_mel(hertz.numpy(), htk=scale == "htk"))
    )
    assert torch.allclose(mel_to_hz(hz_to_mel(hertz, scale), scale), hertz, atol=1e-6)
    for norm in (True, False):
        theirs = librosa.filters.mel(
            sr=rate, n_fft=n_fft, n_mels=n_mels, htk=scale == "htk", norm="slaney" if norm else None
        )
        ours = mel_filterbank(n_mels, n_fft, rate, scale=scale, norm=norm).numpy()
        assert np.abs(ours - theirs).max() <= 1e-5 * theirs.max()


def test_mel_spectrogram_equals_torchaudio():
    import torchaudio

    x = noise(2, 8000)
    transform = torchaudio.transforms.MelSpectrogram(16000, 512, hop_length=128, n_mels=40, f_min=20.0)  # HTK, no norm
    ours = mel_spectrogram(x, 16000, 40, 512, 128, f_min=20.0, scale="htk", norm=False)
    assert (ours - transform(x)).abs().max() <= 1e-5 * ours.max()


# --- masks -----------------------------------------------------------------------------------------------------------

MASKS = {
    "binary": ideal_binary_mask,
    "ratio 0.5": lambda S: ideal_ratio_mask(S, 0.5),
    "ratio 1": lambda S: ideal_ratio_mask(S, 1),
    "ratio 2": ideal_ratio_mask,
    "ratio 7": lambda S: ideal_ratio_mask(S, 7.0),
    "phase": lambda S: phase_sensitive_mask(S, limits=None),
    "complex": complex_mask,
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("case", ["noise", "silent source", "all silent", "mono", "batch", "very quiet"])
def test_masks_sum_to_one(name, case):
    S = {
        "noise": source_spectra(dtype=torch.float64),
        "silent source": source_spectra() * torch.tensor([1, 0, 1, 1.0])[:, None, None, None],
        "all silent": torch.zeros(3, 2, 9, 5, dtype=torch.complex64),
        "mono": source_spectra(2, 1, dtype=torch.float64),
        "batch": source_spectra(dtype=torch.float64).expand(3, 4, 2, 257, 47),
        "very quiet": source_spectra(dtype=torch.float64) * 1e-12,
    }[case]
    mask = MASKS[name](S)
    assert mask.shape == S.shape and mask.isfinite().all()
    tolerance = 1e-3 if name in ("phase", "complex") else 1e-5       # there the terms are large where sources cancel
    assert (mask.sum(-4) - 1).abs().max() < tolerance * max(1.0, float(mask.abs().max()))


def test_binary_mask_takes_the_loudest_and_breaks_ties_once():
    S = torch.tensor([3.0, 1, 2, 0]).reshape(2, 1, 1, 2)                 # (source, channel, bin, frame)
    assert ideal_binary_mask(S).flatten().tolist() == [1, 1, 0, 0]
    assert ideal_binary_mask(torch.ones(3, 1, 2, 2)).sum() == 4


def test_phase_sensitive_mask_is_the_best_real_mask():
    S = source_spectra(dtype=torch.float64)
    X, best = S.sum(0), phase_sensitive_mask(S, limits=None)
    error = lambda mask: (S - apply_mask(mask, X)).abs().pow(2).sum((1, 2, 3))
    for step in (0.01, -0.01):
        assert (error(best) < error(best + step)).all()
    assert (error(phase_sensitive_mask(S)) <= error(ideal_ratio_mask(S))).all()
    truncated = phase_sensitive_mask(S)
    assert truncated.min() >= 0 and truncated.max() <= 1


def test_complex_mask_is_exact():
    S = source_spectra(dtype=torch.float64)
    assert (apply_mask(complex_mask(S), S.sum(0)) - S).abs().max() < 1e-9


def test_wiener_adds_up_and_is_the_ratio_mask_for_one_channel():
    S = source_spectra(dtype=torch.float64)
    estimates = multichannel_wiener(*spatial_model(S), S.sum(0))
    assert estimates.shape == S.shape and (estimates.sum(0) - S.sum(0)).abs().max() < 1e-6
    mono = source_spectra(3, 1, dtype=torch.float64)
    expected = apply_mask(ideal_ratio_mask(mono), mono.sum(0))
    assert (multichannel_wiener(*spatial_model(mono), mono.sum(0)) - expected).abs().max() < 1e-5
    batch = torch.stack([S, S.flip(0)])
    both = multichannel_wiener(*spatial_model(batch), batch.sum(1))
    assert (both[0] - estimates).abs().max() < 1e-8 and both.shape == batch.shape


def test_wiener_equals_the_formula_point_by_point():
    S = source_spectra(3, 2, 2000, dtype=torch.float64)
    v, R = spatial_model(S)
    estimates = multichannel_wiener(v, R, S.sum(0))
    for f, t in ((3, 2), (100, 7), (256, 0)):
        covariances = [(v[j, f, t] + 1e-10) * R[j, f] for j in range(3)]
        for j in range(3):
            expected = covariances[j] @ torch.linalg.inv(sum(covariances)) @ S.sum(0)[:, f, t]
            assert (estimates[j, :, f, t] - expected).abs().max() < 1e-8


def test_the_power_of_the_spatial_model_is_the_likeliest():
    S = source_spectra(dtype=torch.float64)
    v, R = spatial_model(S)
    Y = S.movedim(-3, -1)                                           # (source, bin, frame, channel)
    squared = ((Y @ torch.linalg.inv(R).mT) * Y.conj()).sum(-1).real
    log_likelihood = lambda v: -2 * torch.log(v) - squared / v      # of a complex Gaussian with covariance v R
    best = log_likelihood(v)
    assert (best > log_likelihood(1.01 * v)).all() and (best > log_likelihood(0.99 * v)).all()


def test_wiener_hears_directions_that_a_mask_cannot():
    sources = torch.randn(2, 1, 16000, generator=torch.Generator().manual_seed(3)) * torch.tensor(
        [[[1.0], [0.3]], [[0.3], [1.0]]]
    )
    S = stft(sources, 512, 128)
    wiener = (multichannel_wiener(*spatial_model(S), S.sum(0)) - S).abs().pow(2).sum()
    assert wiener < 0.05 * (apply_mask(ideal_ratio_mask(S), S.sum(0)) - S).abs().pow(2).sum()


def test_silence_survives_the_wiener_filter():
    S = source_spectra() * torch.tensor([1.0, 0, 0, 1])[:, None, None, None]
    S[..., :20] = 0
    estimates = multichannel_wiener(*spatial_model(S), S.sum(0))
    assert estimates.isfinite().all() and estimates[1].abs().max() < 1e-3


# --- gradients
# -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "function",
    [
        lambda x: stft(x, 32, 8).abs().pow(2),
        lambda x: istft(stft(x, 32, 8), 32, 8, 80),
        lambda x: overlap_add(frame(x, 16, 6), 6),
        lambda x: mel_spectrogram(x, 8000, 5, 32, 8),
        lambda x: istft(apply_mask(ideal_ratio_mask(stft(x, 32, 8), 1.5), stft(x, 32, 8).sum(0)), 32, 8, 80),
        lambda x: phase_sensitive_mask(stft(x, 32, 8), limits=None),
        lambda x: torch.view_as_real(complex_mask(stft(x, 32, 8))),
        lambda x: torch.view_as_real(multichannel_wiener(*spatial_model(stft(x, 32, 8)), stft(x, 32, 8).sum(0))),
        lambda x: framewise_sdr(x * 0.9 + 0.05, x, 40),
    ],
    ids=["stft", "istft", "overlap_add", "mel", "ratio mask", "phase-sensitive", "complex", "wiener", "sdr"],
)
def test_gradients(function):
    x = noise(2, 2, 80, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,), eps=1e-6, atol=1e-4, fast_mode=True)


def test_gradients_are_finite_on_silence():
    for name, mask in MASKS.items():
        x = torch.zeros(2, 2, 600, requires_grad=True)
        S = stft(x, 64, 16)
        total = istft(apply_mask(mask(S), S.sum(0)), 64, 16, 600).sum() + stft(x, 64, 16).abs().sum()
        total.backward()
        assert x.grad.isfinite().all(), name
    x = torch.zeros(2, 2, 600, requires_grad=True)
    S = stft(x, 64, 16)
    istft(multichannel_wiener(*spatial_model(S), S.sum(0)), 64, 16, 600).sum().backward()
    assert x.grad.isfinite().all()


# --- the score
# --------------------------------------------------------------------------------------------------------------

def test_song_sdr_is_the_energy_ratio_of_all_channels():
    references = noise(3, 2, 500)
    estimates = references + 0.1 * noise(3, 2, 500, seed=1)
    s, e = references.double().numpy(), estimates.double().numpy()
    expected = 10 * np.log10((s ** 2).sum((1, 2)) / ((s - e) ** 2).sum((1, 2)))
    assert np.abs(song_sdr(estimates, references).numpy() - expected).max() < 1e-4
    assert song_sdr(estimates[:, :1], references[:, :1]).shape == (3,)
    assert song_sdr(estimates[0], references[0]).shape == ()
    scores = song_sdr(estimates, references)
    for scale in (1e-20, 1e15):
        assert torch.allclose(song_sdr(scale * estimates, scale * references), scores, atol=1e-3)
    assert torch.allclose(song_sdr(estimates.half(), references.half()).float(), scores, atol=0.1)


def test_song_sdr_of_silence():
    references = noise(3, 2, 500)
    references[1] = 0
    silent, perfect = song_sdr(torch.zeros_like(references), references), song_sdr(references, references)
    assert silent.isnan().tolist() == [False, True, False] and (silent[[0, 2]] == 0).all()
    assert perfect.isnan().tolist() == [False, True, False] and perfect[[0, 2]].isposinf().all()
    with pytest.raises(ValueError, match=r"estimates \(3, 2, 400\) and references"):
        song_sdr(references[..., :400], references)
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        song_sdr(references / 0, references)


def test_framewise_sdr_equals_museval():
    from course_lib.data.without_ffmpeg import import_museval

    rate, references = 4000, noise(3, 2, 14500)
    estimates = references + 0.4 * noise(3, 2, 14500, seed=1) + 0.2 * references.flip(0)
    references[1, :, 4000:8000] = 0  # a silent source makes the frame NaN for all
    theirs = import_museval().evaluate(
        references.transpose(1, 2).double().numpy(), estimates.transpose(1, 2).double().numpy(), win=rate, hop=rate
    )[0]
    ours = framewise_sdr(estimates.double(), references.double(), rate)
    assert ours.shape == theirs.shape == (3, 3)
    assert np.isnan(theirs[:, 1]).all() and ours[:, 1].isnan().all()
    assert np.nanmax(np.abs(ours.numpy() - theirs)) < 1e-3


def test_every_public_name_has_a_docstring():
    public = [
        value
        for name, value in vars(spectral).items()
        if callable(value) and getattr(value, "__module__", "") == spectral.__name__ and not name.startswith("_")
    ]
    assert len(public) >= 19 and all(value.__doc__ for value in public)
