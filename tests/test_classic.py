"""Chapter 2's module: equality with SciPy, librosa and scikit-learn, what must not change, edge cases, bad input,
the scores.
"""

import math

import librosa
import numpy as np
import pytest
import scipy.ndimage
import torch
from sklearn.decomposition import non_negative_factorization

from course_lib import classic
from course_lib.classic import (
    METHODS,
    above,
    beat_spectrum,
    beta_divergence,
    centre_share,
    cluster_components,
    component_features,
    component_masks,
    hpss,
    median_filter,
    nearest_frames,
    nmf,
    repeating_period,
    repet_mask,
    repet_sim_mask,
    separate_unsupervised,
    similarity_matrix,
    soft_mask,
    stem_masks,
)
from course_lib.experiments.scoreboard import HIGHEST, stem_scores
from course_lib.results import measured
from course_lib.spectral import fft_frequencies, stft

SKLEARN = {"euclidean": "frobenius", "kl": "kullback-leibler", "itakura-saito": "itakura-saito"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=generator(seed), dtype=dtype)


def spectrum(*shape, seed=0):
    return torch.complex(uniform(*shape, seed=seed) - 0.5, uniform(*shape, seed=seed + 1) - 0.5)


# --- median filters, masks, HPSS ------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(9,), (5, 8), (2, 33, 40), (2, 3, 4, 7), (1,)])
@pytest.mark.parametrize("size", [1, 3, 7, 31])              # 31: longer than most axes, mirrored more than once
@pytest.mark.parametrize("dim", [-1, 0])
def test_median_filter_equals_scipy(shape, size, dim):
    x = uniform(*shape)
    ends = [(0, 0)] * x.ndim
    ends[dim] = (size // 2, size // 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x.numpy(), ends, mode="symmetric"), size, axis=dim)
    assert torch.equal(median_filter(x, size, dim), torch.from_numpy(np.median(windows, axis=-1)))
    if x.shape[dim] > 2:  # of two values and a long window SciPy 1.16 makes something else
        window = [1] * x.ndim
        window[dim] = size
        theirs = scipy.ndimage.median_filter(x.numpy(), window, mode="reflect")
        assert torch.equal(median_filter(x, size, dim), torch.from_numpy(theirs))


def test_median_filter_in_pieces_equals_whole():
    x = uniform(3, 400, 700)                                  # more than one piece
    assert x.numel() * 31 > 2 ** 22
    whole = scipy.ndimage.median_filter(x.numpy(), (1, 1, 31), mode="reflect")
    assert torch.equal(median_filter(x, 31, -1), torch.from_numpy(whole))


@pytest.mark.parametrize("size", [0, 2, -3])
def test_median_filter_needs_a_middle(size):
    with pytest.raises(ValueError, match=f"size is {size}"):
        median_filter(torch.zeros(5), size)


@pytest.mark.parametrize("S", [torch.zeros(3, 4, dtype=torch.complex64), torch.zeros(0, 4), torch.tensor(1.0)])
def test_median_filter_refuses(S):
    with pytest.raises(ValueError, match="real values"):
        median_filter(S, 3)


@pytest.mark.parametrize("power", [1.0, 2.0, 5.0, math.inf])
@pytest.mark.parametrize("split", [False, True])
def test_soft_mask_equals_librosa(power, split):
    a, b = uniform(20, 30), uniform(20, 30, seed=1)
    a[:3], b[:2] = 0, 0                                       # both silent, one silent
    theirs = librosa.util.softmask(a.numpy(), b.numpy(), power=power, split_zeros=split)
    assert np.abs(soft_mask(a, b, power, split).numpy() - theirs).max() <= 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel": 17},
        {"kernel": (13, 31)},
        {"power": 1.0},
        {"power": math.inf},
        {"margin": 3.0},
        {"margin": (1.0, 5.0)},
        {"mask": True},
        {"mask": True, "margin": (2.0, 1.5)},
    ],
)
@pytest.mark.parametrize("shape", [(65, 50), (2, 65, 20)])
def test_hpss_equals_librosa(options, shape):
    S = spectrum(*shape)
    S[..., :5, :] = 0                                         # silence as well
    renamed = {{"kernel": "kernel_size"}.get(key, key): value for key, value in options.items()}
    for ours, theirs in zip(hpss(S, **options), librosa.decompose.hpss(S.numpy(), **renamed)):
        assert np.abs(ours.numpy() - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_hpss_parts_add_up_and_follow_the_level():
    S = spectrum(33, 60)
    H, Q = hpss(S)
    assert torch.allclose(H + Q, S, atol=1e-6)
    assert torch.allclose(hpss(1000 * S)[0], 1000 * H, rtol=1e-4, atol=1e-3)
    M_H, M_Q = hpss(S, margin=2.0, mask=True)
    assert (M_H + M_Q <= 1 + 1e-6).all() and M_H.min() >= 0


def test_hpss_turned_by_a_right_angle_swaps_the_parts():
    V = uniform(40, 40)
    H, Q = hpss(V, 7)
    H_turned, Q_turned = hpss(V.T, 7)
    assert torch.allclose(H_turned, Q.T, atol=1e-6) and torch.allclose(Q_turned, H.T, atol=1e-6)


@pytest.mark.parametrize("options", [{"margin": 0.5}, {"kernel": 8}, {"power": 0.0}, {"power": math.nan}])
def test_hpss_refuses(options):
    with pytest.raises(ValueError):
        hpss(torch.ones(5, 5), **options)


@pytest.mark.parametrize("shape", [(65, 1), (1, 40), (1, 1)])
def test_hpss_of_one_frame_or_bin(shape):
    parts = hpss(torch.ones(shape))
    assert all(part.isfinite().all() for part in parts) and torch.allclose(sum(parts), torch.ones(shape))


# --- repetition -----------------------------------------------------------------------------------------------------

def test_beat_spectrum_equals_the_definition():
    V = uniform(2, 11, 37, dtype=torch.float64)
    power = V ** 2
    slow = torch.stack([(power[..., :37 - shift] * power[..., shift:]).sum() / (37 - shift) for shift in range(37)])
    assert torch.allclose(beat_spectrum(V), slow / slow[0], atol=1e-10)


def test_beat_spectrum_of_silence_is_zero():
    assert torch.equal(beat_spectrum(torch.zeros(4, 9)), torch.zeros(9))


@pytest.mark.parametrize("period", [7, 12, 25, 40])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_repeating_period_finds_the_period(period, seed):
    V = uniform(20, period, seed=seed).repeat(1, 400 // period + 1)[:, :400] + 0.1 * uniform(20, 400, seed=seed + 9)
    assert repeating_period(beat_spectrum(V)) % period == 0
    assert repeating_period(beat_spectrum(V), shortest=2) <= 100


@pytest.mark.parametrize("shortest", [0, 26, 1000])
def test_repeating_period_refuses_what_cannot_be(shortest):
    with pytest.raises(ValueError, match=f"shortest is {shortest}"):
        repeating_period(torch.ones(100), shortest)


@pytest.mark.parametrize("count,period", [(20, 5), (23, 5), (10, 5), (11, 4), (9, 1)])
def test_repet_mask_equals_the_loop(count, period):
    V = uniform(2, 6, count)
    model = torch.empty_like(V)
    for m in range(count):
        model[..., m] = torch.from_numpy(np.median(V[..., m % period::period].numpy(), axis=-1))
    assert torch.allclose(repet_mask(V, period), torch.minimum(model, V) / V, atol=1e-6)


def test_repet_keeps_what_repeats_and_drops_what_does_not():
    band = uniform(8, 5).repeat(1, 6) + 0.1
    voice = torch.zeros(8, 30)
    voice[2, 11], voice[5, 22] = 4.0, 7.0
    assert torch.allclose(repet_mask(band + voice, 5) * (band + voice), band, atol=1e-5)


@pytest.mark.parametrize("period", [0, -1, 6, 100])
def test_repet_mask_refuses(period):
    with pytest.raises(ValueError, match=f"period is {period}"):
        repet_mask(torch.ones(3, 11), period)


def test_similarity_does_not_see_level():
    V = uniform(30, 12)
    C = similarity_matrix(V)
    assert torch.allclose(C, similarity_matrix(V * torch.linspace(0.01, 50, 12)), atol=1e-5)
    assert torch.allclose(C.diagonal(), torch.ones(12), atol=1e-6) and torch.allclose(C, C.T)
    assert torch.equal(similarity_matrix(torch.zeros(3, 4)), torch.zeros(4, 4))


@pytest.mark.parametrize("neighbours,width", [(5, 1), (10, 12), (21, 3)])
@pytest.mark.parametrize("shape", [(40, 90), (2, 20, 90)])
def test_repet_sim_equals_librosa(neighbours, width, shape):
    V = uniform(*shape)
    graph = librosa.segment.recurrence_matrix(
        V.numpy(), k=neighbours, width=width, metric="cosine", mode="distance", sparse=True
    )
    model = torch.from_numpy(librosa.decompose.nn_filter(V.numpy(), rec=graph, aggregate=np.median))
    assert torch.allclose(repet_sim_mask(V, neighbours, width), torch.minimum(model, V) / V, atol=1e-5)


def test_nearest_frames_keep_their_distance_and_are_no_more_than_there_are():
    similarity = similarity_matrix(uniform(10, 20))
    nearest = nearest_frames(similarity, 100, 4)
    assert nearest.shape == (20, 13)                          # what a frame in the middle has
    assert ((nearest - torch.arange(20)[:, None]).abs() >= 4).all()


@pytest.mark.parametrize("neighbours,width", [(0, 1), (3, 0), (3, 6)])
def test_repet_sim_refuses(neighbours, width):
    with pytest.raises(ValueError, match="neighbours"):
        repet_sim_mask(torch.ones(4, 10), neighbours, width)


@pytest.mark.parametrize(
    "call", [lambda V: beat_spectrum(V), lambda V: repet_mask(V, 2), lambda V: similarity_matrix(V)]
)
@pytest.mark.parametrize("V", [torch.zeros(4), torch.zeros(3, 0), torch.zeros(3, 4, dtype=torch.complex64)])
def test_repetition_refuses_other_than_magnitudes(call, V):
    with pytest.raises(ValueError, match="expected magnitudes"):
        call(V)


# --- NMF ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", SKLEARN)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("seed", [0, 1])
def test_nmf_equals_scikit_learn(kind, dtype, tolerance, seed):
    V = uniform(50, 70, seed=seed, dtype=dtype) ** 3 + 1e-3
    W, H = uniform(50, 6, seed=seed + 5, dtype=dtype), uniform(6, 70, seed=seed + 6, dtype=dtype)
    ours = nmf(V, 6, kind, 60, W=W, H=H)
    theirs = non_negative_factorization(
        V.numpy(),
        W=W.numpy().copy(),
        H=H.numpy().copy(),
        n_components=6,
        init="custom",
        solver="mu",
        beta_loss=SKLEARN[kind],
        max_iter=60,
        tol=0,
    )
    for a, b in zip(ours[:2], theirs[:2]):
        assert np.abs(a.numpy() - b).max() <= tolerance * b.max()


@pytest.mark.parametrize("kind", SKLEARN)
@pytest.mark.parametrize("seed", range(4))
def test_divergence_never_rises(kind, seed):
    V = uniform(40, 60, seed=seed, dtype=torch.float64) ** 4
    V[:, :4] = 0                                              # silent frames
    losses = nmf(V, 5, kind, 120, generator(seed))[2]
    assert losses.shape == (121,) and losses.isfinite().all()
    assert (losses.diff() <= 1e-9 * losses[:-1].abs()).all() and losses[-1] < losses[0]


@pytest.mark.parametrize("kind", SKLEARN)
def test_nmf_stays_nonnegative_and_repeats_with_its_seed(kind):
    V = uniform(20, 30)
    W, H, _ = nmf(V, 4, kind, 30, generator(3))
    again = nmf(V, 4, kind, 30, generator(3))
    assert W.min() >= 0 and H.min() >= 0 and torch.equal(W, again[0]) and torch.equal(H, again[1])
    assert not torch.equal(W, nmf(V, 4, kind, 30, generator(4))[0])


@pytest.mark.parametrize("kind", SKLEARN)
def test_nmf_follows_the_level(kind):
    V = uniform(20, 30, dtype=torch.float64) + 0.01
    W, H, _ = nmf(V, 4, kind, 40, generator())
    W_loud, H_loud, _ = nmf(1e4 * V, 4, kind, 40, generator())
    assert torch.allclose(W_loud @ H_loud, 1e4 * (W @ H), rtol=1e-6)


@pytest.mark.parametrize("kind", ["euclidean", "kl"])
def test_nmf_recovers_a_product(kind):
    W, H = uniform(30, 3, dtype=torch.float64) ** 4, uniform(3, 40, seed=1, dtype=torch.float64) ** 4
    V = W @ H
    found = nmf(V, 3, kind, 3000, generator())
    assert ((V - found[0] @ found[1]) ** 2).sum() < 1e-3 * (V ** 2).sum()


@pytest.mark.parametrize("kind", SKLEARN)
def test_nmf_of_silence_is_finite(kind):
    W, H, losses = nmf(torch.zeros(6, 5), 2, kind, 10, generator())
    assert W.isfinite().all() and H.isfinite().all() and losses.isfinite().all() and (W @ H).max() < 1e-5


@pytest.mark.parametrize(
    "V",
    [
        -torch.ones(3, 4),
        torch.full((3, 4), math.nan),
        torch.full((3, 4), math.inf),
        torch.ones(4),
        torch.ones(0, 3),
        torch.ones(2, 3, 4),
        torch.ones(3, 4, dtype=torch.complex64),
    ],
)
def test_nmf_refuses_values(V):
    with pytest.raises(ValueError, match="V is"):
        nmf(V, 2)


def test_nmf_refuses_sizes():
    for options in ({"components": 0}, {"components": 2, "iterations": -1}, {"components": 2, "divergence": "l1"},
                    {"components": 2, "W": torch.ones(3, 3)}, {"components": 2, "H": torch.ones(3, 4)}):
        with pytest.raises(ValueError):
            nmf(torch.ones(3, 4), **options)


@pytest.mark.parametrize("kind,exponent", [("euclidean", 2), ("kl", 1), ("itakura-saito", 0)])
def test_divergences_scale_as_they_should(kind, exponent):
    V, Y = uniform(9, 9, dtype=torch.float64) + 0.1, uniform(9, 9, seed=1, dtype=torch.float64) + 0.1
    assert torch.allclose(beta_divergence(7 * V, 7 * Y, kind), 7.0 ** exponent * beta_divergence(V, Y, kind))
    assert beta_divergence(V, V, kind).abs() < 1e-12 < beta_divergence(V, Y, kind)


def test_kl_of_zero_is_its_limit():
    assert float(beta_divergence(torch.zeros(1), torch.full((1,), 0.25), "kl")) == 0.25
    with pytest.raises(ValueError, match="one shape"):
        beta_divergence(torch.ones(2), torch.ones(3), "kl")


# --- components and clusters ----------------------------------------------------------------------------------------

def test_component_masks_sum_to_one_in_silence_too():
    W, H = uniform(20, 4), uniform(4, 15)
    H[:, 3] = 0
    masks = component_masks(W, H)
    assert masks.shape == (4, 20, 15) and torch.allclose(masks.sum(0), torch.ones(20, 15), atol=1e-5)
    assert torch.allclose(masks[:, :, 3], torch.full((4, 20), 0.25))
    with pytest.raises(ValueError, match="component"):
        component_masks(W, H[:3])


def test_features_do_not_depend_on_level_and_order():
    W, H = uniform(60, 5), uniform(5, 40)
    features = component_features(W, H)
    scale = torch.tensor([0.1, 1.0, 5.0, 20.0, 300.0])
    assert torch.allclose(component_features(W * scale, H / scale[:, None]), features, atol=1e-4)
    order = torch.tensor([3, 1, 0, 4, 2])
    assert torch.allclose(component_features(W[:, order], H[order]), features[order], atol=1e-6)
    assert component_features(torch.zeros(9, 2), torch.zeros(2, 5)).isfinite().all()


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_clusters_are_complete_and_reproducible(groups):
    W, H = uniform(50, 6), uniform(6, 30)
    labels = cluster_components(W, H, groups, generator())
    assert labels.shape == (6,) and set(labels.tolist()) <= set(range(groups))
    assert torch.equal(labels, cluster_components(W, H, groups, generator()))
    assert groups < 6 or len(set(labels.tolist())) == 6       # as many groups as components: each its own


@pytest.mark.parametrize("groups", [0, 7])
def test_clusters_refuse(groups):
    with pytest.raises(ValueError, match=f"groups is {groups}"):
        cluster_components(uniform(50, 6), uniform(6, 30), groups)


# --- four stems -----------------------------------------------------------------------------------------------------

def little_song(rate=16000, seconds=6.0, channels=2):
    """A low tone, a gliding tone, chords on one side and regular noise bursts: (source, channel, time)."""
    t = torch.arange(int(rate * seconds)) / rate
    drums = torch.randn(len(t), generator=generator()) * torch.exp(-(t % 0.5) / 0.01)
    bass = 0.4 * torch.sin(2 * math.pi * 80 * t)
    chord = 0.2 * sum(torch.sin(2 * math.pi * f * t) for f in (330.0, 415.0, 1500.0))
    voice = 0.4 * torch.sin(2 * math.pi * (500 * t + 40 * torch.sin(2 * math.pi * 0.31 * t)))
    pan = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.2], [1.0, 1.0]])[:, :channels, None]
    return torch.stack([drums, bass, chord, voice])[:, None] * pan


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "channels,time,rate", [(2, 40000, 16000), (1, 30000, 44100), (2, 5, 44100), (1, 1, 8000), (2, 9000, 22050)]
)
def test_estimates_sum_to_the_mixture(method, channels, time, rate):
    mixture = uniform(channels, time) - 0.5
    estimates = separate_unsupervised(mixture, rate, method)
    assert estimates.shape == (4, channels, time) and torch.allclose(estimates.sum(0), mixture, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_silence_gives_silence(method):
    assert separate_unsupervised(torch.zeros(2, 50000), 44100, method).abs().max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_estimates_follow_the_level_and_repeat(method):
    mixture = little_song().sum(0)
    estimates = separate_unsupervised(mixture, 16000, method)
    assert torch.equal(estimates, separate_unsupervised(mixture, 16000, method))
    assert torch.allclose(separate_unsupervised(0.25 * mixture, 16000, method), 0.25 * estimates, atol=2e-3)


def test_rules_find_a_song_made_to_their_taste():
    sources = little_song()
    error = lambda estimates: (estimates - sources).pow(2).sum((1, 2))
    by_quarter = error(separate_unsupervised(sources.sum(0), 16000, "mixture"))
    for method in ("hpss_rules", "evidence"):
        by_method = error(separate_unsupervised(sources.sum(0), 16000, method))
        assert (by_method[:2] < 0.5 * by_quarter[:2]).all() and by_method.sum() < 0.7 * by_quarter.sum(), method


def test_bass_is_in_the_middle_only_for_the_evidence():
    mixture = uniform(1, 40000) - 0.5
    sides = torch.cat([mixture, -mixture])                    # nothing in the middle
    bass = separate_unsupervised(sides, 16000, "evidence")[1]
    even_share = classic.SHRINK["evidence"] / 4
    assert torch.allclose(bass, even_share * sides, atol=1e-3)


@pytest.mark.parametrize("mixture", [torch.zeros(3, 100), torch.zeros(100), torch.zeros(2, 0), torch.zeros(1, 2, 100)])
def test_separate_refuses_shapes(mixture):
    with pytest.raises(ValueError, match="mixture has shape"):
        separate_unsupervised(mixture, 44100)


def test_separate_refuses_unknown_methods():
    with pytest.raises(ValueError, match='method is "magic"'):
        separate_unsupervised(torch.zeros(2, 1000), 44100, "magic")


def test_masks_of_stems_and_steps():
    frequencies = fft_frequencies(512, 16000)
    masks = stem_masks(uniform(257, 9), uniform(257, 9, seed=1), frequencies)
    assert torch.allclose(masks.sum(0), torch.ones(257, 9), atol=1e-6) and masks.min() >= 0
    step = above(frequencies, 1000.0)[:, 0]
    assert (step.diff() >= 0).all() and float(step[32]) == 0.5 and frequencies[32] == 1000
    assert torch.equal(centre_share(torch.zeros(2, 3, 4, dtype=torch.complex64)), torch.full((3, 4), 0.5))
    assert torch.equal(centre_share(stft(uniform(1, 4000), 512)), torch.ones(257, 32))


# --- the stored scores ----------------------------------------------------------------------------------------------

def test_stored_scores_are_in_order():
    """All the evidence is the best of the rules by either score,
    above a quarter of the mixture and far below the mask.
    """
    rows = measured("02_classic_separation/scores")
    for score in ("song", "frames, median"):
        mean = {method: float(stem_scores(rows, method, score).nanmean(1).mean()) for method in (*METHODS, HIGHEST)}
        best = max(METHODS, key=mean.get)
        assert best == "evidence" and mean["mixture"] < mean[best] < mean[HIGHEST] - 3


def test_every_public_name_says_what_it_does():
    for name in classic.__all__:
        if callable(getattr(classic, name)):
            assert getattr(classic, name).__doc__, name
