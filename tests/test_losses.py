"""The losses of chapter 5: equal to other libraries and to hand-computed values, finite on silence,
clear about bad input.
"""

import math

import auraloss
import pytest
import torch
import torchaudio
import torchmetrics.functional.audio as metrics

from course_lib import losses
from course_lib.spectral import ideal_ratio_mask, istft, stft

ON_TIME = ["l1_time", "l2_time", "sisdr_time", "sdsdr_time", "logl1_time", "logl2_time", "mrs"]
ON_MAGNITUDES = ["l1_freq", "l2_freq", "sisdr_freq", "logl1_freq", "logl2_freq", "dissimilarity"]
ON_MASKS = ["l1_mask", "l2_mask"]
ALL = [*ON_TIME, *ON_MAGNITUDES, *ON_MASKS, "psa"]


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def example(name, seed=0):
    """Estimates and references of the kind that a loss compares."""
    estimates, references = random(2, 4, 2, 4000, seed=seed), random(2, 4, 2, 4000, seed=seed + 1)
    if name in ON_TIME:
        return estimates, references
    E, S = stft(estimates, 256, 64), stft(references, 256, 64)
    return {"psa": (E, S)}.get(name) or (
        (ideal_ratio_mask(E, 1), ideal_ratio_mask(S, 1)) if name in ON_MASKS else (E.abs(), S.abs())
    )


# ---------------------------------------------------------------------------------------------------- other libraries

@pytest.mark.parametrize("noise", [0.01, 0.3, 3.0])
def test_ratios_equal_auraloss_and_torchmetrics(noise):
    references = 0.1 * random(3, 4, 2, 8000)
    estimates = references + noise * 0.1 * random(3, 4, 2, 8000, seed=1)
    flat = estimates.flatten(0, 1), references.flatten(0, 1)
    assert float(losses.sisdr_time(estimates, references)) == pytest.approx(
        float(auraloss.time.SISDRLoss(zero_mean=False)(*flat)), abs=1e-3)
    assert float(losses.sisdr_time(estimates, references)) == pytest.approx(
        -float(metrics.scale_invariant_signal_distortion_ratio(estimates, references).mean()), abs=1e-3)
    soft = 0.3 * estimates  # too soft everywhere: the SNR is the larger, auraloss has L_down alone
    assert float(losses.sdsdr_time(soft, references)) == pytest.approx(
        float(auraloss.time.SDSDRLoss(zero_mean=False)(0.3 * flat[0], flat[1])), abs=1e-3)


def test_sdsdr_is_the_smaller_of_two_so_that_too_loud_is_not_rewarded():
    references = 0.1 * random(3, 4, 2, 4000)
    gain = torch.tensor([2.0, 0.5, 1.0]).reshape(3, 1, 1, 1)
    estimates = gain * references + 0.02 * random(3, 4, 2, 4000, seed=1)
    snr = metrics.signal_noise_ratio(estimates, references)
    alpha = (estimates * references).sum(-1) / references.square().sum(-1)
    assert float(losses.sdsdr_time(estimates, references)) == pytest.approx(
        -float(torch.minimum(snr, snr + 20 * alpha.log10()).mean()), abs=1e-3)
    assert float(losses.sdsdr_time(2 * references, references)) == pytest.approx(0, abs=1e-3)  # L_down would be -6.02
    louder = [float(losses.sdsdr_time(factor * references, references)) for factor in (1.5, 2.0, 3.0)]
    assert louder == sorted(louder)


def test_logl2_is_minus_the_snr_and_the_level():
    references = 0.1 * random(3, 4, 1, 8000)
    estimates = references + 0.05 * random(3, 4, 1, 8000, seed=1)
    level = 10 * torch.log10(references.square().mean((-1, -2)))
    snr = metrics.signal_noise_ratio(estimates, references).mean()
    assert float(losses.logl2_time(estimates, references)) == pytest.approx(float(level.mean() - snr), abs=1e-3)


@pytest.mark.parametrize("sizes", [losses.RESOLUTIONS, ((256, 64, 256), (512, 100, 300))])
def test_multi_resolution_equals_auraloss(sizes):
    references = 0.1 * random(2, 4, 2, 6000)
    estimates = references + 0.03 * random(2, 4, 2, 6000, seed=1)
    estimates[:, 0] *= 3                                # one source worse than the others: no common norm
    n_ffts, hops, windows = zip(*sizes)
    theirs = auraloss.freq.MultiResolutionSTFTLoss(list(n_ffts), list(hops), list(windows), w_log_mag=1 / math.log(10))
    expected = (
        sum(float(theirs(a.contiguous(), b.contiguous())) for a, b in zip(estimates.unbind(1), references.unbind(1)))
        / 4
    )
    assert float(losses.mrs(estimates, references, sizes)) == pytest.approx(expected, rel=1e-4)


def test_plain_losses_equal_torch():
    for l1, l2 in (("l1_time", "l2_time"), ("l1_freq", "l2_freq"), ("l1_mask", "l2_mask")):
        estimates, references = example(l1)
        assert torch.allclose(getattr(losses, l1)(estimates, references), torch.nn.L1Loss()(estimates, references))
        assert torch.allclose(getattr(losses, l2)(estimates, references), torch.nn.MSELoss()(estimates, references))


# -------------------------------------------------------------------------------------------------------- by hand

def test_by_hand_in_time():
    signal = lambda *values: torch.tensor(values).reshape(1, 1, 1, -1)
    assert float(losses.sisdr_time(signal(2.0, 1.0), signal(1.0, 0.0))) == pytest.approx(-10 * math.log10(4), abs=1e-4)
    assert float(losses.sdsdr_time(signal(2.0, 1.0), signal(1.0, 0.0))) == pytest.approx(10 * math.log10(2), abs=1e-4)
    assert float(losses.sdsdr_time(signal(0.5, 0.5), signal(1.0, 0.0))) == pytest.approx(10 * math.log10(2), abs=1e-4)
    assert float(losses.logl1_time(signal(0.1, -0.1), signal(0.0, 0.0))) == pytest.approx(-10, abs=1e-4)
    assert float(losses.logl2_time(signal(0.1, -0.1), signal(0.0, 0.0))) == pytest.approx(-20, abs=1e-4)


def test_logarithms_are_taken_of_each_example_and_source():
    references = torch.zeros(2, 2, 1, 50)
    estimates = torch.tensor([[1.0, 0.1], [0.01, 0.001]]).reshape(2, 2, 1, 1).expand(2, 2, 1, 50)
    assert float(losses.logl1_time(estimates, references)) == pytest.approx((0 - 10 - 20 - 30) / 4, abs=1e-2)
    spectral = estimates.unsqueeze(-1), references.unsqueeze(-1)
    assert float(losses.logl2_freq(*spectral)) == pytest.approx((0 - 20 - 40 - 60) / 4, abs=1e-1)


def test_sisdr_is_a_mean_over_sources_not_a_ratio_of_sums():
    estimates, references = example("sisdr_time")
    apart = [losses.sisdr_time(estimates[:, i:i + 1], references[:, i:i + 1]) for i in range(4)]
    assert torch.allclose(losses.sisdr_time(estimates, references), torch.stack(apart).mean(), atol=1e-4)
    scaled = losses.sisdr_time(estimates * torch.tensor([1, 10, 0.1, 3]).reshape(1, 4, 1, 1), references)
    assert torch.allclose(scaled, losses.sisdr_time(estimates, references), atol=1e-3)


def test_psa_projects_on_the_mixture():
    S = torch.tensor([0.5, 1j, -0.5, 1 + 1j]).reshape(1, 1, 1, 4, 1)
    X = torch.ones(1, 1, 4, 1, dtype=torch.complex64)
    masks = torch.tensor([0.5, 0.2, 0.1, 2.0]).reshape(1, 1, 1, 4, 1)
    expected = (0 + 0.2 ** 2 + 0.6 ** 2 + 1) / 4
    assert float(losses.psa(masks * X, S, X)) == pytest.approx(expected, abs=1e-6)
    assert float(losses.psa(masks * X, S)) == pytest.approx(expected, abs=1e-6)


def test_psa_and_its_mask_gradient_equal_the_formula():
    S = stft(random(2, 3, 1, 3000), 256, 64)
    X = S.sum(1, keepdim=True)
    masks = torch.rand(S.shape, generator=torch.Generator().manual_seed(3)).requires_grad_()
    cosine = torch.cos(S.angle() - X.angle())
    formula = (masks * X.abs() - S.abs() * cosine).square().mean()
    assert torch.allclose(losses.psa(masks * X, S), formula, rtol=1e-4)
    ours, theirs = (torch.autograd.grad(value, masks)[0] for value in (losses.psa(masks * X, S), formula))
    assert torch.allclose(ours, theirs, atol=1e-6 * float(theirs.abs().max()) + 1e-9)


def test_dissimilarity_equals_its_loop_and_has_its_minimum_beyond_the_truth():
    estimates, references = example("dissimilarity")
    loop = 0.0
    for j in range(4):
        loop += float((estimates[:, j] - references[:, j]).square().mean()) / 4
        loop -= 0.1 * sum(float((estimates[:, j] - references[:, i]).square().mean()) for i in range(4) if i != j) / 4
    assert float(losses.dissimilarity(estimates, references, 0.1)) == pytest.approx(loop, rel=1e-4)
    assert torch.allclose(losses.dissimilarity(estimates, references, 0.0), losses.l2_freq(estimates, references))
    truth = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1, 1)
    best = torch.tensor([(1 - 0.5 * 0.1) / 0.9, (0.5 - 1 * 0.1) / 0.9]).reshape(1, 2, 1, 1, 1).requires_grad_()
    losses.dissimilarity(best, truth, 0.1).backward()
    assert best.grad.abs().max() < 1e-6
    far, four = torch.full((1, 4, 1, 1, 1), 1e4), torch.ones(1, 4, 1, 1, 1)
    # lost from 1/3 on
    assert losses.dissimilarity(far, four, 0.34) < -1e5 < 1e5 < losses.dissimilarity(far, four, 0.32)


def test_scale_invariant_gradient_is_at_a_right_angle_to_the_estimate():
    estimates, references = example("sisdr_time")
    estimates = estimates.requires_grad_()
    push, = torch.autograd.grad(losses.sisdr_time(estimates, references), estimates)
    assert float(((push * estimates).sum().abs() / (push.norm() * estimates.norm())).detach()) < 1e-4


# --------------------------------------------------------------------------------------------------------- silence

@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("silent", ["estimate", "reference", "both", "one source", "nothing"])
def test_values_and_gradients_are_finite_on_silence(name, silent):
    estimates, references = (x.clone() for x in example(name))
    if silent in ("estimate", "both"):
        estimates.zero_()
    if silent in ("reference", "both"):
        references.zero_()
    if silent == "one source":
        references[:, 1] = 0
    estimates.requires_grad_()
    value = getattr(losses, name)(estimates, references)
    value.backward()
    assert value.isfinite() and estimates.grad.isfinite().all()


@pytest.mark.parametrize("name", ["l1_time", "sisdr_time", "sdsdr_time", "logl1_time", "logl2_time", "mrs"])
def test_gradients_reach_masks_through_a_silent_mixture(name):
    sources = torch.zeros(1, 4, 1, 4000)
    S = stft(sources, 256, 64)
    masks = torch.full(S.shape, 0.25, requires_grad=True)
    estimates = istft(masks * S.sum(1, keepdim=True), 256, 64, 4000)
    getattr(losses, name)(estimates, sources).backward()
    assert masks.grad.isfinite().all()


def test_sdsdr_is_finite_for_an_estimate_of_the_wrong_sign():
    signal = random(1, 1, 1, 100)
    estimate = (-0.3 * signal).requires_grad_()
    losses.sdsdr_time(estimate, signal).backward()
    assert estimate.grad.isfinite().all()


def test_an_exact_estimate_has_the_smallest_loss_and_no_gradient_that_is_not_finite():
    for name in ALL:
        estimates, references = example(name)
        exact = references.clone().requires_grad_()
        value = getattr(losses, name)(exact, references)
        value.backward()
        assert exact.grad.isfinite().all(), name
        if name != "psa":
            assert value < getattr(losses, name)(estimates, references), name


def test_mask_losses_push_silent_points_as_hard_as_loud_ones():
    S = stft(random(1, 2, 1, 4000), 256, 64)
    S[..., 60:, :] *= 1e-5
    ideal, X = ideal_ratio_mask(S, 1), S.sum(1, keepdim=True).abs()
    def share(loss, scale, target):
        M = torch.full_like(ideal, 0.25).requires_grad_()
        push, = torch.autograd.grad(loss(M * scale, target), M)
        return float(push[..., 60:, :].square().sum() / push.square().sum())
    assert share(losses.l2_mask, 1.0, ideal) > 0.4
    assert share(losses.l2_freq, X, S.abs()) < 1e-9


# ------------------------------------------------------------------------------------------------------ bad input

@pytest.mark.parametrize("name", ALL)
def test_bad_shapes_are_named(name):
    estimates, references = example(name)
    loss = getattr(losses, name)
    with pytest.raises(ValueError, match="references"):
        loss(estimates, references[:, :3])
    with pytest.raises(ValueError, match="estimates"):
        loss(estimates[0], references[0])
    with pytest.raises(ValueError, match="expected (real|complex)"):
        loss(*((x.abs() if name == "psa" else x.to(torch.complex64)) for x in (estimates, references)))
    with pytest.raises(ValueError, match="empty"):
        loss(estimates[..., :0], references[..., :0])


def test_too_short_signals_and_bad_weights_are_named():
    with pytest.raises(ValueError, match="2048"):
        losses.mrs(torch.zeros(1, 1, 1, 1000), torch.zeros(1, 1, 1, 1000))
    magnitudes = torch.ones(1, 1, 1, 3, 3)
    with pytest.raises(ValueError, match="1 sources"):
        losses.dissimilarity(magnitudes, magnitudes)
    with pytest.raises(ValueError, match="beta -1"):
        losses.dissimilarity(magnitudes.expand(1, 2, 1, 3, 3), magnitudes.expand(1, 2, 1, 3, 3), -1)
    with pytest.raises(ValueError, match="15600"):
        losses.vggish_patches(torch.zeros(1, 15_000))
    with pytest.raises(ValueError, match="3840"):
        losses.TaggerFeatures().feature_maps(torch.zeros(1, 3000))


# ------------------------------------------------------------------------------------ half precision, large and small

@pytest.mark.parametrize("name", ALL)
def test_half_precision_has_the_values_of_32_bits_and_finite_gradients(name):
    """Ten seconds of audio: in 16 bits its sums of squares overflow."""
    references = 0.5 * random(1, 2, 1, 100_000)
    estimates = references + 0.05 * random(1, 2, 1, 100_000, seed=1)
    if name not in ON_TIME:
        S, E = stft(references, 256, 64), stft(estimates, 256, 64)
        pair = (E, S) if name == "psa" else (E.abs(), S.abs()) if name in ON_MAGNITUDES else (
            ideal_ratio_mask(E, 1), ideal_ratio_mask(S, 1))
    else:
        pair = estimates, references
    kind = torch.complex32 if name == "psa" else torch.float16
    halves = [x.to(kind) for x in pair]
    exact = [x.to(pair[0].dtype).requires_grad_(place == 0) for place, x in enumerate(halves)]
    loss = getattr(losses, name)
    expected = loss(*exact)
    halves[0].requires_grad_()
    value = loss(*halves)
    value.backward()
    assert value.dtype == torch.float32 and torch.allclose(value, expected) and halves[0].grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e20, 1e-20])
@pytest.mark.parametrize("name", [name for name in ALL if name not in ON_MASKS])
def test_values_and_gradients_at_the_ends_of_32_bits(name, scale):
    """The values of 64 bits; where those don't fit into 32 bits, as L2's of 1e20, infinity,
    and a gradient all the same.
    """
    estimates, references = (x * scale for x in example(name))
    estimates.requires_grad_()
    loss = getattr(losses, name)
    value = loss(estimates, references)
    value.backward()
    wide = torch.complex128 if name == "psa" else torch.float64
    expected = float(loss(*(x.detach().to(wide) for x in (estimates, references))))
    if abs(expected) > torch.finfo(torch.float32).max:
        assert value.isinf()
    else:
        assert float(value.detach()) == pytest.approx(expected, rel=1e-3, abs=1e-30)
    assert estimates.grad.isfinite().all()


@pytest.mark.parametrize("name", ["l1_time", "sisdr_time", "mrs"])
def test_what_is_no_tensor_of_floats_is_refused_by_name(name):
    x = random(1, 2, 1, 4000)
    with pytest.raises(ValueError, match="references is a numpy"):
        getattr(losses, name)(x, x.numpy())
    with pytest.raises(ValueError, match="estimates is torch.int16"):
        getattr(losses, name)(x.to(torch.int16), x)


# ---------------------------------------------------------------------------------------------------- adversarial

def test_least_squares_with_smoothed_labels():
    scores = lambda *values: torch.tensor(values)
    assert float(losses.discriminator_loss(scores(0.9), scores(0.1))) == 0 == float(losses.separator_loss(scores(0.9)))
    assert float(losses.discriminator_loss(scores(0.4), scores(0.6))) == pytest.approx((0.25 + 0.25) / 2)
    assert float(losses.separator_loss(scores(0.1, 0.5))) == pytest.approx((0.64 + 0.16) / 4)


class Loudness(torch.nn.Module):
    """A discriminator that gives every spectrogram its mean."""

    def forward(self, source):
        return source.mean((1, 2, 3))


def test_the_discriminators_loss_has_four_quarters_and_the_separators_both_mixtures():
    game = losses.Discriminators(["a", "b"], width=4)
    game.of["a"] = game.of["b"] = Loudness()
    made = lambda a, b: torch.stack([torch.full((3, 1, 2, 2), a), torch.full((3, 1, 2, 2), b)], 1)
    real, fake, others, unpaired = made(0.5, 0.7), made(0.3, 0.2), made(0.8, 0.9), made(0.6, 0.4)
    quarters = sum((value - label) ** 2 for values, label in (((0.5, 0.7), 0.9), ((0.3, 0.2), 0.1), ((0.8, 0.9), 0.9),
                                                              ((0.6, 0.4), 0.1)) for value in values) / 4 / 2
    assert float(game.loss(real, fake, others, unpaired)) == pytest.approx(quarters, abs=1e-6)
    separator = sum((value - 0.9) ** 2 for value in (0.3, 0.2, 0.6, 0.4)) / 2
    assert float(game.separation_loss(fake, unpaired)) == pytest.approx(separator, abs=1e-6)


def test_the_game_gives_each_side_its_own_gradients():
    torch.manual_seed(0)
    game = losses.Discriminators(width=4)
    real, others = torch.rand(3, 4, 1, 128, 64), torch.rand(3, 4, 1, 128, 64)
    fake, unpaired = (torch.rand(3, 4, 1, 128, 64).requires_grad_() for _ in range(2))
    game.loss(real, fake, others, unpaired).backward()
    assert fake.grad is None and unpaired.grad is None and all(p.grad is not None for p in game.parameters())
    value = losses.adversarial(fake, real, unpaired, game, gamma=2.0)
    assert torch.allclose(value, losses.l2_freq(fake, real) + 2 * game.separation_loss(fake, unpaired))
    value.backward()
    assert fake.grad.abs().sum() > 0 and unpaired.grad.abs().sum() > 0
    assert len(game.of) == 4 and game.of["drums"](real[:, 0]).shape == (3,)


class OneMask(torch.nn.Module):
    """A separator with one number: its share of the mixture for every source."""

    def __init__(self, sources=2):
        super().__init__()
        self.sources, self.share = sources, torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.share.expand(len(x), self.sources, *x.shape[1:])


def test_the_turns_see_what_they_should():
    """Both mixtures are separated, real are the paired and the other sources, and each side gets its own gradient."""
    torch.manual_seed(0)
    game, model = losses.Discriminators(["a", "b"], width=4), OneMask()
    turns = losses.AdversarialSteps(game, 256, 64)
    sources, mixtures, others = random(2, 2, 1, 6000), random(2, 1, 6000, seed=1), random(2, 2, 1, 6000, seed=2)
    game.eval()
    S, U, X, X_other = (stft(x, 256, 64).abs() for x in (sources, others, sources.sum(1), mixtures))
    fake, unpaired = (0.3 * x.unsqueeze(1).expand_as(S) for x in (X, X_other))
    value = turns.discriminator(model, (sources, mixtures, others))
    assert torch.allclose(value, game.loss(S, fake, U, unpaired), rtol=1e-4)
    value.backward()
    assert model.share.grad is None
    found = turns.separator(model, (sources, mixtures, others))
    assert torch.allclose(found["l2"], losses.l2_freq(fake, S), rtol=1e-4)
    assert torch.allclose(found["adversarial"], game.separation_loss(fake, unpaired), rtol=1e-4)
    assert float(found["loss"].detach()) == pytest.approx(2 * float(found["l2"].detach()), rel=1e-4)  # both begin alike
    found["loss"].backward()
    assert model.share.grad.isfinite()


def test_paired_and_unpaired_items_are_sources_a_mixture_and_sources():
    sets = [[random(2, 1, 50, seed=10 * k + i) for i in range(3)] for k in range(3)]
    data = losses.PairedAndUnpaired(*sets)
    paired, mixture, others = data[1]
    assert len(data) == 3 and torch.equal(paired, sets[0][1]) and torch.equal(others, sets[2][1])
    assert torch.equal(mixture, sets[1][1].sum(0))


# ----------------------------------------------------------------------------------------------------- training steps

def test_a_step_compares_what_its_loss_is_for():
    model, sources = OneMask(), random(2, 2, 1, 3000)
    S = stft(sources, 256, 64)
    masks = torch.full_like(S.real, 0.3)
    by_hand = {"masks": losses.l1_mask(masks, ideal_ratio_mask(S, 1)),
               "magnitudes": losses.l1_freq(0.3 * S.sum(1, keepdim=True).abs().expand_as(masks), S.abs()),
               "waveforms": losses.l1_time(0.3 * sources.sum(1, keepdim=True).expand_as(sources), sources)}
    for (compares, expected), loss in zip(by_hand.items(), (losses.l1_mask, losses.l1_freq, losses.l1_time)):
        assert torch.allclose(losses.LossStep(loss, compares, 256, 64)(model, sources), expected, rtol=1e-3), compares
    assert losses.LossStep(losses.psa, "spectra", 256, 64)(model, sources).isfinite()
    with pytest.raises(ValueError, match="compares is 'phases'"):
        losses.compared("phases", masks, S, sources, 64)


def test_the_deep_feature_step_adds_both_terms_at_half_of_l2():
    torch.manual_seed(0)
    network = losses.TaggerFeatures().requires_grad_(False).eval()
    network.mel.fill_(1 / 96)
    step, model, sources = (
        losses.DeepFeatureStep(network, 16_000, 0.5, 256, 64),
        OneMask(),
        0.1 * random(1, 2, 1, 16_000),
    )
    found = step(model, sources)
    delta, lam = step.factors
    assert float(delta * found["feature"].detach()) == pytest.approx(float(found["l2"].detach()) / 2, rel=1e-4)
    assert float(lam * found["style"].detach()) == pytest.approx(float(found["l2"].detach()) / 2, rel=1e-4)
    half = 0.3 * sources.sum(1, keepdim=True).expand_as(sources)[..., :8000], sources[..., :8000]
    assert torch.allclose(found["feature"], losses.deep_feature(*half, network), rtol=1e-2)
    found["loss"].backward()
    assert model.share.grad.abs() > 0


# -------------------------------------------------------------------------------------------------- deep features

def test_vggish_has_the_published_layout(tmp_path):
    with torch.device("meta"):
        names = {name: tuple(x.shape) for name, x in losses.VGGish().state_dict().items()}
    convolutions = {"features.0": (64, 1), "features.3": (128, 64), "features.6": (256, 128), "features.8": (256, 256),
                    "features.11": (512, 256), "features.13": (512, 512)}
    expected = {f"{name}.weight": (*sizes, 3, 3) for name, sizes in convolutions.items()}
    expected |= {f"{name}.bias": (sizes[0],) for name, sizes in convolutions.items()}
    for name, sizes in {
        "embeddings.0": (4096, 12288),
        "embeddings.2": (4096, 4096),
        "embeddings.4": (128, 4096),
    }.items():
        expected |= {f"{name}.weight": sizes, f"{name}.bias": sizes[:1]}
    assert names == expected and sum(math.prod(shape) for shape in names.values()) == 72_141_184


def test_vggish_reads_its_file_and_refuses_others(tmp_path):
    torch.manual_seed(0)
    network = losses.VGGish(embed=False)
    path = tmp_path / "vggish.pth"
    torch.save({**network.state_dict(), "embeddings.0.weight": torch.zeros(1)}, path)
    loaded = losses.load_vggish(path, embed=False)
    second = 0.1 * random(2, 16_000)
    for ours, theirs in zip(loaded.feature_maps(second), network.feature_maps(second)):
        assert torch.equal(ours, theirs)
    assert isinstance(losses.load_feature_network(path), losses.VGGish)
    with pytest.raises(ValueError, match="vggish.pth does not fit TaggerFeatures"):
        losses.load_tagger(path)
    with pytest.raises(FileNotFoundError, match="missing.pth"):
        losses.load_vggish(tmp_path / "missing.pth")
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], b"<html>404</html>"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="vggish.pth"):
            losses.load_vggish(path, embed=False)


def test_vggish_patches_are_log_mel_of_windows_every_10_ms():
    x = 0.1 * random(1, 16_000 * 2)
    patches = losses.vggish_patches(x)
    assert patches.shape == (2, 1, 96, 64)                                  # 198 frames: two whole patches
    start = 96 * 160                                                        # the second patch's first frame, by hand
    piece = torch.cat([x[0, start:start + 400] * torch.hann_window(400), torch.zeros(112)])
    mel = torch.fft.rfft(piece).abs() @ losses.vggish_filterbank()
    assert torch.allclose(patches[1, 0, 0], torch.log(mel + 0.01), atol=1e-4)
    assert torch.allclose(losses.vggish_patches(torch.zeros(1, 16_000)), torch.tensor(0.01).log())


def test_the_tagger_hears_torchaudio_s_mel_spectrogram(tmp_path):
    torch.manual_seed(0)
    network = losses.TaggerFeatures()
    theirs = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0.0, f_max=8000.0, n_mels=96)
    tensors = {**network.state_dict(), "spec.mel_scale.fb": theirs.mel_scale.fb, "dense.weight": torch.zeros(50, 64)}
    del tensors["mel"]
    torch.save(tensors, tmp_path / "best_model.pth")
    loaded = losses.load_tagger(tmp_path / "best_model.pth")
    x = 0.1 * random(2, 16_000)
    decibels = torchaudio.transforms.AmplitudeToDB()(theirs(x)).unsqueeze(1)
    expected = loaded.layer1(loaded.spec_bn(decibels))
    assert torch.allclose(loaded.feature_maps(x)[0], expected, atol=1e-3)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_a_tagger_with_another_hash_is_refused(tmp_path, monkeypatch):
    (tmp_path / "taggers").mkdir()
    (tmp_path / "taggers" / "mtat_fcn.pth").write_bytes(b"not it")
    monkeypatch.setenv("COURSE_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="mtat_fcn.pth"):
        losses.load_tagger()


def test_feature_losses_are_zero_for_equals_and_differ_where_they_should():
    torch.manual_seed(0)
    network = losses.TaggerFeatures()
    network.mel.copy_(torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 96, 16_000))
    network.requires_grad_(False).eval()
    sources = 0.1 * random(1, 2, 2, 8192)
    other = (0.1 * random(1, 2, 2, 8192, seed=1)).requires_grad_()
    assert losses.feature_and_style(other, sources, network) == (losses.deep_feature(other, sources, network),
                                                                 losses.gram_style(other, sources, network))
    for loss in (losses.deep_feature, losses.gram_style):
        assert float(loss(sources, sources, network)) == 0
        value = loss(other, sources, network)
        push, = torch.autograd.grad(value, other)
        assert value > 0 and push.isfinite().all() and push.abs().sum() > 0
        for silent in ((torch.zeros_like(sources), sources), (sources, torch.zeros_like(sources))):
            assert loss(*silent, network).isfinite()


def test_gram_matrices_forget_places():
    maps = torch.rand(2, 5, 4, 7)
    loop = torch.stack(
        [torch.stack([(maps[:, c] * maps[:, d]).sum((-1, -2)) for d in range(5)], -1) for c in range(5)], 1
    )
    assert torch.allclose(losses.gram(maps), loop / (5 * 28), atol=1e-6)
    assert torch.allclose(losses.gram(maps.flip(-1)), losses.gram(maps), atol=1e-6)
