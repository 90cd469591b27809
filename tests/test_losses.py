"""The losses of chapter 5: equal to other libraries and to hand-computed values, finite on silence, clear about bad input."""

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
    return {"psa": (E, S)}.get(name) or ((ideal_ratio_mask(E, 1), ideal_ratio_mask(S, 1)) if name in ON_MASKS else (E.abs(), S.abs()))


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
    assert float(losses.sdsdr_time(estimates, references)) == pytest.approx(
        float(auraloss.time.SDSDRLoss(zero_mean=False)(*flat)), abs=1e-3)


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
    n_ffts, hops, windows = zip(*sizes)
    theirs = auraloss.freq.MultiResolutionSTFTLoss(list(n_ffts), list(hops), list(windows))
    expected = float(theirs(estimates.flatten(0, 1), references.flatten(0, 1)))
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
    assert float(losses.sdsdr_time(signal(2.0, 1.0), signal(1.0, 0.0))) == pytest.approx(-10 * math.log10(2), abs=1e-4)
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
        loop -= 0.3 * sum(float((estimates[:, j] - references[:, i]).square().mean()) for i in range(4) if i != j) / 3 / 4
    assert float(losses.dissimilarity(estimates, references, 0.3)) == pytest.approx(loop, rel=1e-4)
    assert torch.allclose(losses.dissimilarity(estimates, references, 0.0), losses.l2_freq(estimates, references))
    truth = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1, 1)
    best = torch.tensor([(1 - 0.5 * 0.1) / 0.9, (0.5 - 1 * 0.1) / 0.9]).reshape(1, 2, 1, 1, 1).requires_grad_()
    losses.dissimilarity(best, truth, 0.1).backward()
    assert best.grad.abs().max() < 1e-6
    far = torch.full((1, 2, 1, 1, 1), 1e4)
    assert losses.dissimilarity(far, truth, 1.5) < -1e6 < 0 < losses.dissimilarity(far, truth, 0.9)


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
    with pytest.raises(ValueError, match="weight -1"):
        losses.dissimilarity(magnitudes.expand(1, 2, 1, 3, 3), magnitudes.expand(1, 2, 1, 3, 3), -1)
    with pytest.raises(ValueError, match="15600"):
        losses.vggish_patches(torch.zeros(1, 15_000))
    with pytest.raises(ValueError, match="3840"):
        losses.TaggerFeatures().feature_maps(torch.zeros(1, 3000))


# ---------------------------------------------------------------------------------------------------- adversarial

def test_least_squares_with_smoothed_labels():
    scores = lambda *values: torch.tensor(values)
    assert float(losses.discriminator_loss(scores(0.9), scores(0.1))) == 0 == float(losses.separator_loss(scores(0.9)))
    assert float(losses.discriminator_loss(scores(0.4), scores(0.6))) == pytest.approx((0.25 + 0.25) / 2)
    assert float(losses.separator_loss(scores(0.1, 0.5))) == pytest.approx((0.64 + 0.16) / 4)


@pytest.mark.parametrize("paired", [True, False])
def test_the_game_gives_each_side_its_own_gradients(paired):
    torch.manual_seed(0)
    judges = losses.Discriminators(paired=paired, width=4)
    S, X = torch.rand(3, 4, 1, 64, 40), torch.rand(3, 1, 64, 40)
    estimates = torch.rand(3, 4, 1, 64, 40).requires_grad_()
    judges.loss(estimates, S, X).backward()
    assert estimates.grad is None and all(p.grad is not None for p in judges.parameters())
    value = losses.adversarial(estimates, S, judges, X, gamma=2.0)
    expected = losses.l2_freq(estimates, S) + 2 * judges.separation_loss(estimates, X)
    assert torch.allclose(value, expected)
    value.backward()
    assert estimates.grad.abs().sum() > 0
    assert len(judges.judges) == 4 and (judges.judges["drums"](S[:, 0], X).shape == (3,))


def test_only_a_paired_judge_sees_the_mixture():
    S, X = torch.rand(2, 1, 64, 40), torch.rand(2, 1, 64, 40)
    alone, beside = (losses.SourceDiscriminator(paired=paired, width=4).eval() for paired in (False, True))
    assert torch.equal(alone(S, X), alone(S, 2 * X)) and not torch.equal(beside(S, X), beside(S, 2 * X))
    with pytest.raises(ValueError, match="mixture"):
        beside(S)


def test_unpaired_references_may_have_a_mixture_of_their_own():
    torch.manual_seed(0)
    judges = losses.Discriminators(width=4)
    S, X, other = torch.rand(2, 4, 1, 64, 40), torch.rand(2, 1, 64, 40), torch.rand(2, 1, 64, 40)
    judges.eval()
    assert not torch.equal(judges.loss(S, S, X), judges.loss(S, S, X, other))


# -------------------------------------------------------------------------------------------------- deep features

def test_vggish_has_the_published_layout(tmp_path):
    with torch.device("meta"):
        names = {name: tuple(x.shape) for name, x in losses.VGGish().state_dict().items()}
    convolutions = {"features.0": (64, 1), "features.3": (128, 64), "features.6": (256, 128), "features.8": (256, 256),
                    "features.11": (512, 256), "features.13": (512, 512)}
    expected = {f"{name}.weight": (*sizes, 3, 3) for name, sizes in convolutions.items()}
    expected |= {f"{name}.bias": (sizes[0],) for name, sizes in convolutions.items()}
    for name, sizes in {"embeddings.0": (4096, 12288), "embeddings.2": (4096, 4096), "embeddings.4": (128, 4096)}.items():
        expected |= {f"{name}.weight": sizes, f"{name}.bias": sizes[:1]}
    assert names == expected and sum(math.prod(shape) for shape in names.values()) == 72_141_184


def test_vggish_reads_its_file_and_refuses_others(tmp_path):
    torch.manual_seed(0)
    network = losses.VGGish(embed=False)
    torch.save({**network.state_dict(), "embeddings.0.weight": torch.zeros(1)}, tmp_path / "torchvggish.pth")
    loaded = losses.load_vggish(tmp_path / "torchvggish.pth", embed=False)
    second = 0.1 * random(2, 16_000)
    for ours, theirs in zip(loaded.feature_maps(second), network.feature_maps(second)):
        assert torch.equal(ours, theirs)
    assert isinstance(losses.load_feature_network(tmp_path / "torchvggish.pth"), losses.VGGish)
    with pytest.raises(ValueError, match="another network"):
        losses.load_tagger(tmp_path / "torchvggish.pth")
    with pytest.raises(FileNotFoundError, match="missing.pth"):
        losses.load_vggish(tmp_path / "missing.pth")


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
    with pytest.raises(ValueError, match="SHA-256"):
        losses.fetch_tagger()


def test_feature_losses_are_zero_for_equals_and_differ_where_they_should():
    torch.manual_seed(0)
    network = losses.TaggerFeatures()
    network.mel.copy_(torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 96, 16_000))
    network.requires_grad_(False).eval()
    sources = 0.1 * random(1, 2, 2, 8192)
    other = (0.1 * random(1, 2, 2, 8192, seed=1)).requires_grad_()
    for loss in (losses.deep_feature, losses.gram_style):
        assert float(loss(sources, sources, network)) == 0
        value = loss(other, sources, network)
        push, = torch.autograd.grad(value, other)
        assert value > 0 and push.isfinite().all() and push.abs().sum() > 0
        for silent in ((torch.zeros_like(sources), sources), (sources, torch.zeros_like(sources))):
            assert loss(*silent, network).isfinite()


def test_gram_matrices_forget_places():
    maps = torch.rand(2, 5, 4, 7)
    loop = torch.stack([torch.stack([(maps[:, c] * maps[:, d]).sum((-1, -2)) for d in range(5)], -1) for c in range(5)], 1)
    assert torch.allclose(losses.gram(maps), loop / (5 * 28), atol=1e-6)
    assert torch.allclose(losses.gram(maps.flip(-1)), losses.gram(maps), atol=1e-6)
