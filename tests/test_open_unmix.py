"""Chapter 4's module: equality with the openunmix package, layers by hand, EM, separation, the training step,
errors.
"""

import math

import numpy as np
import openunmix
import openunmix.filtering
import openunmix.model
import pytest
import torch
from torch import nn

from course_lib.data import STEMS, RandomChunks, Track
from course_lib.open_unmix import (
    OFFICIAL,
    JointOpenUnmix,
    MaskHead,
    OpenUnmix,
    SpectrogramEncoder,
    SpectrogramStep,
    _em_step,
    bandwidth_to_max_bin,
    error_level,
    input_statistics,
    official_open_unmix,
    prepare_input,
    separate,
    separation_scores,
    stft_sizes,
    wiener,
)
from course_lib.spectral import apply_mask, ideal_ratio_mask, stft
from course_lib.training import FitSettings, fit, process_batches, with_facts


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model: nn.Module, seed=0) -> nn.Module:
    """Norms, running statistics, scales and biases away from their starting values, which hide mistakes."""
    random = generator(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running_var" in name:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=random))
            elif tensor.ndim == 1:
                centre = 1.0 if "weight" in name or "scale" in name else 0.0
                tensor.copy_(centre + 0.4 * torch.randn(tensor.shape, generator=random))
    return model.eval()


def relative(ours, theirs) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


# --- equality with the official package -----------------------------------------------------------------------------

SIZES = [dict(nb_bins=65, nb_channels=2, hidden_size=32, max_bin=40),
         dict(nb_bins=65, nb_channels=1, hidden_size=16, max_bin=None),
         dict(nb_bins=33, nb_channels=2, hidden_size=24, nb_layers=1, max_bin=33),
         dict(nb_bins=65, nb_channels=2, hidden_size=32, unidirectional=True, max_bin=50)]


@pytest.fixture(params=SIZES, ids=lambda size: "-".join(str(value) for value in size.values()))
def pair(request):
    official = shaken(openunmix.model.OpenUnmix(**request.param))
    ours = OpenUnmix(**request.param)
    ours.load_state_dict(official.state_dict(), strict=True)
    return ours.eval(), official


def magnitudes_for(model, batch=3, frames=25):
    return torch.rand(batch, model.nb_channels, model.nb_output_bins, frames, generator=generator(1)) * 5


def test_same_tensors_as_the_official_package(pair):
    ours, official = pair
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in official.state_dict().items()}
    assert ({name for name, _ in ours.named_parameters()} == {name for name, _ in official.named_parameters()})


def test_same_output_and_activations(pair):
    ours, official = pair
    seen = {"ours": {}, "official": {}}
    for who, model in (("ours", ours), ("official", official)):
        for name, layer in model.named_children():
            layer.register_forward_hook(lambda _layer, _x, y, who=who, name=name: seen[who].update(
                {name: (y[0] if isinstance(y, tuple) else y).clone()}))   # the package scales in place
    x = magnitudes_for(ours)
    with torch.no_grad():
        assert relative(ours(x), official(x)) < 1e-5
    assert set(seen["ours"]) == set(seen["official"]) == {"fc1", "bn1", "lstm", "fc2", "bn2", "fc3", "bn3"}
    for name, activation in seen["official"].items():
        assert seen["ours"][name].shape == activation.shape and relative(seen["ours"][name], activation) < 1e-5, name


def test_same_output_and_gradients_in_training(pair):
    """With batch statistics; without the LSTM's dropout, which draws at random."""
    ours, official = pair
    ours.train(), official.train()
    ours.lstm.dropout = official.lstm.dropout = 0.0
    x = magnitudes_for(ours)
    for model in (ours, official):
        model(x).square().mean().backward()
    for (name, parameter), other in zip(ours.named_parameters(), dict(official.named_parameters()).values()):
        other = dict(official.named_parameters())[name]
        assert (parameter.grad - other.grad).abs().max() <= 1e-5 * max(1e-3, float(other.grad.abs().max())), name
    for name, buffer in official.named_buffers():
        assert torch.allclose(dict(ours.named_buffers())[name].double(), buffer.double(), rtol=1e-5), name


def test_same_initial_scaling():
    mean, scale = np.linspace(0, 2, 65), np.linspace(0.5, 3, 65)
    official = openunmix.model.OpenUnmix(65, 2, 16, input_mean=mean, input_scale=scale, max_bin=40)
    ours = OpenUnmix(65, 2, 16, input_mean=torch.from_numpy(mean), input_scale=scale, max_bin=40)
    assert torch.allclose(ours.input_mean, official.input_mean) and torch.allclose(
        ours.input_scale, official.input_scale
    )
    assert (ours.input_mean <= 0).all() and ours.input_mean.shape == (40,)


@pytest.mark.parametrize("dtype,bar", [(torch.float64, 1e-6), (torch.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("niter", [0, 1, 2])
@pytest.mark.parametrize("softmask", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_wiener_equals_the_official_one(dtype, bar, channels, niter, softmask, residual):
    X = torch.randn(channels, 9, 230, dtype=torch.complex128, generator=generator()) * 20     # above its batch of 200
    magnitudes = torch.rand(3, channels, 9, 230, dtype=torch.float64, generator=generator(1)) * X.abs()
    X = X.to(torch.complex64 if dtype == torch.float32 else torch.complex128)
    ours = wiener(magnitudes.to(dtype), X, niter, softmask, residual)
    theirs = openunmix.filtering.wiener(magnitudes.to(dtype).permute(3, 2, 1, 0).clone(),
                                        torch.view_as_real(X).permute(2, 1, 0, 3).clone(), niter, softmask, residual)
    theirs = torch.view_as_complex(theirs.permute(4, 2, 1, 0, 3).contiguous())      # (source, channel, bin, frame)
    assert ours.shape == theirs.shape and ours.dtype == X.dtype and relative(ours, theirs) < bar


@pytest.mark.parametrize(
    "options", [dict(niter=0), dict(niter=1), dict(niter=2, softmask=True), dict(niter=1, residual=True)], ids=str
)
@pytest.mark.parametrize("window", [20, None])
def test_separation_equals_the_official_separator(options, window):
    size = dict(nb_bins=257, nb_channels=2, hidden_size=16, max_bin=150)
    official = {name: shaken(openunmix.model.OpenUnmix(**size), seed) for seed, name in enumerate(STEMS)}
    separator = openunmix.model.Separator(official, n_fft=512, n_hop=128, wiener_win_len=window, **options).eval()
    ours = {name: OpenUnmix(**size).eval() for name in STEMS}
    for name, model in ours.items():
        model.load_state_dict(official[name].state_dict())
    mixture = 0.3 * torch.randn(2, 2, 7001, generator=generator(3))

    def outputs(dtype):
        """What the package and we give, computed in this type."""
        for module in (separator, *ours.values()):
            module.to(dtype)
        with torch.no_grad():
            own = separate(ours, mixture.to(dtype), 512, 128, window_frames=window, **options)
            alone = separate(ours, mixture[1].to(dtype), 512, 128, window_frames=window, **options)
            return separator(mixture.to(dtype)), own, alone

    theirs, estimates, alone = outputs(torch.float32)
    exact, exact_estimates, exact_alone = outputs(torch.float64)
    assert exact_estimates.shape == exact.shape and relative(exact_estimates, exact) < 1e-5
    assert relative(exact_alone, exact[1]) < 1e-5                         # items of a batch don't touch each other
    # in 32 bits EM magnifies the networks' rounding, which falls otherwise on each CPU and for each order of the sums:
    # ours and the package's are each off by about as much, and not by the same
    rounding = max(1e-5, 5 * relative(theirs, exact))
    assert relative(estimates, exact) < rounding and relative(alone, exact[1]) < rounding


@pytest.mark.parametrize("release", OFFICIAL)
def test_sizes_of_the_published_networks(release, monkeypatch):
    """The package's own sizes, looked at as it would build the networks: nothing is built or downloaded."""
    asked = []

    class Recorder(nn.Module):
        def __init__(self, nb_bins, nb_channels, hidden_size, max_bin):
            super().__init__()
            asked.append((nb_bins, nb_channels, hidden_size, int(max_bin)))

    monkeypatch.setattr(openunmix.model, "OpenUnmix", Recorder)
    monkeypatch.setattr("course_lib.open_unmix.OpenUnmix", Recorder)
    separator = getattr(openunmix, release)(pretrained=False)
    official_open_unmix(release)
    assert len(asked) == len(separator.target_models) + 1 and len(set(asked)) == 1
    assert float(separator.sample_rate) == OFFICIAL[release]["rate"]
    assert (separator.stft.n_fft, separator.stft.n_hop) == (OFFICIAL[release]["n_fft"], OFFICIAL[release]["hop_length"])


@pytest.mark.parametrize(
    "rate,n_fft,bandwidth", [(44100, 4096, 16000), (16000, 1024, 16000), (22050, 2048, 5000), (8000, 256, 0)]
)
def test_bandwidth_equals_the_official_one(rate, n_fft, bandwidth):
    assert bandwidth_to_max_bin(rate, n_fft, bandwidth) == openunmix.utils.bandwidth_to_max_bin(rate, n_fft, bandwidth)


# --- input scaling ---------------------------------------------------------------------------------------------------

def small_track(seed=0, seconds=1.0, rate=8000, silent=()):
    n = round(seconds * rate)
    stems = {stem: 0.1 * torch.randn(2, n, generator=generator(10 * seed + k)) * (stem not in silent)
             for k, stem in enumerate(STEMS)}
    return Track.from_tensors(f"song {seed}", rate, stems)


def test_input_statistics_equal_those_of_all_frames_at_once():
    tracks = [small_track(0), small_track(1, 0.7)]
    frames = torch.cat([stft(track.mixture, 256, 64).abs().permute(1, 0, 2).flatten(1) for track in tracks], dim=1)
    mean, deviation = input_statistics(tracks, 256, 64)
    assert torch.allclose(mean, frames.mean(1), rtol=1e-4)
    assert torch.allclose(deviation, frames.std(1, correction=0), rtol=1e-4)
    short = input_statistics(tracks, 256, 64, seconds=0.5)
    assert not torch.allclose(short[0], mean) and torch.isfinite(short[1]).all()


def test_input_statistics_of_silence_and_of_nothing():
    mean, deviation = input_statistics([small_track(silent=STEMS)], 256, 64)
    assert (mean == 0).all() and (deviation > 0).all()
    with pytest.raises(ValueError, match="tracks is empty"):
        input_statistics([])


def test_prepared_model_sees_standardised_input():
    tracks = [small_track(0), small_track(1)]
    model = JointOpenUnmix(129, 2, 8, max_bin=100)
    prepare_input(model, tracks, n_fft=256, hop_length=64)
    x = torch.cat([stft(track.mixture, 256, 64).abs() for track in tracks], dim=-1)[:, :100]
    scaled = model.scale_input(x.movedim(1, -1))
    assert scaled.mean((0, 1)).abs().max() < 1e-3 and (scaled.std((0, 1)) - 1).abs().max() < 2e-2


# --- the network -----------------------------------------------------------------------------------------------------

def test_joint_network_with_one_source_is_open_unmix():
    joint = shaken(JointOpenUnmix(33, 2, 16, sources=["vocals"]))
    single = OpenUnmix(33, 2, 16).eval()
    single.load_state_dict({name.removeprefix("heads.vocals."): tensor for name, tensor in joint.state_dict().items()})
    x = magnitudes_for(single)
    assert torch.equal(joint(x)[:, 0], single(x))


def test_joint_masks_go_on_above_the_bins_they_know():
    model = shaken(JointOpenUnmix(65, 2, 16, max_bin=40))
    x = torch.rand(2, 2, 65, 12, generator=generator())
    masks = model.masks(x)
    assert masks.shape == (2, 4, 2, 65, 12) and (masks >= 0).all()
    assert torch.allclose(masks[..., 40:, :], masks[..., 35:40, :].mean(-2, keepdim=True).expand(-1, -1, -1, 25, -1))
    assert torch.equal(model(x), masks * x.unsqueeze(1))
    assert torch.allclose(model.masks(x[..., :40, :]), masks[..., :40, :])     # the bins above were never looked at


def test_each_source_has_its_own_head():
    model = shaken(JointOpenUnmix(33, 2, 16, sources=("speech", "noise")))
    x = torch.rand(1, 2, 33, 9, generator=generator())
    before = model(x)
    with torch.no_grad():
        model.heads["noise"].output_mean += 1
    after = model(x)
    assert torch.equal(before[:, 0], after[:, 0]) and not torch.equal(before[:, 1], after[:, 1])


def test_a_causal_network_does_not_look_ahead():
    model = shaken(OpenUnmix(33, 2, 16, unidirectional=True))
    x = torch.rand(1, 2, 33, 20, generator=generator())
    changed = x.clone()
    changed[..., 13:] += 1
    assert torch.equal(model(x)[..., :13], model(changed)[..., :13])


def test_head_and_encoder_make_up_the_network():
    model = shaken(OpenUnmix(33, 2, 16))
    encoder, head = SpectrogramEncoder(33, 2, 16, 3, False).eval(), MaskHead(33, 2, 16).eval()
    tensors = model.state_dict()
    encoder.load_state_dict({name: tensors[name] for name in encoder.state_dict()})
    head.load_state_dict({name: tensors[name] for name in head.state_dict()})
    x = torch.rand(2, 2, 33, 9, generator=generator())
    assert encoder(x).shape == (9, 2, 32) and torch.equal(head(encoder(x)) * x, model(x))


@pytest.mark.parametrize("shape", [(2, 33, 9), (1, 1, 33, 9), (1, 2, 32, 9)], ids=str)
def test_wrong_spectrograms_are_refused(shape):
    for model in (OpenUnmix(33, 2, 8), JointOpenUnmix(33, 2, 8)):
        with pytest.raises(ValueError, match="2 channels and at least 33 bins"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match="complex"):
        OpenUnmix(33, 2, 8)(torch.zeros(1, 2, 33, 9, dtype=torch.complex64))


# --- EM --------------------------------------------------------------------------------------------------------------

def spectra(sources=3, channels=2, bins=5, frames=40, seed=0):
    return torch.randn(sources, channels, bins, frames, dtype=torch.complex128, generator=generator(seed))


def test_one_channel_of_em_is_the_ratio_mask():
    S = spectra(channels=1)
    assert relative(wiener(S.abs(), S.sum(0)), apply_mask(ideal_ratio_mask(S), S.sum(0))) < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_em_equals_loops_over_points(channels):
    Y, eps = spectra(channels=channels), 1e-10
    X = spectra(1, channels, seed=1)[0]
    expected = torch.zeros_like(Y)
    v = Y.abs().square().mean(1)
    for k in range(Y.shape[2]):
        R = [sum(torch.outer(y, y.conj()) for y in S[:, k].T) / (eps + v[j, k].sum()) for j, S in enumerate(Y)]
        for m in range(Y.shape[3]):
            total = sum(v[j, k, m] * R[j] for j in range(len(Y))) + eps ** 0.5 * torch.eye(channels)
            for j in range(len(Y)):
                expected[j, :, k, m] = v[j, k, m] * R[j] @ torch.linalg.solve(total, X[:, k, m])
    assert relative(_em_step(Y, X, eps), expected) < 1e-9


def test_refined_sources_add_up_to_the_mixture():
    S = spectra()
    guess = S.abs() * torch.rand(S.shape, dtype=torch.float64, generator=generator(2))
    left_over = lambda niter: float((wiener(guess, S.sum(0), niter).sum(0) - S.sum(0)).abs().max())
    assert left_over(1) < 1e-3 and left_over(0) > 0.1


def test_em_learns_where_sources_sit():
    A, B = torch.tensor([[1.0, 0, 1], [0, 0, 0]]), torch.tensor([[0.0, 1, 1], [0, 1, 1]])
    S = torch.stack([A, B])[:, :, None].to(torch.complex64)
    guess = torch.tensor([[0.8, 0.2, 0.5], [0.2, 0.8, 0.5]]).view(2, 1, 1, 3) * S.sum(0).abs()
    errors = [float((wiener(guess, S.sum(0), niter) - S).abs().square().sum()) for niter in range(5)]
    assert all(later < 0.6 * earlier for earlier, later in zip(errors, errors[1:]))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_em_of_loud_quiet_and_silent_spectra_is_finite(scale):
    S = spectra().to(torch.complex64) * scale
    assert torch.isfinite(torch.view_as_real(wiener(S.abs(), S.sum(0), 2))).all()
    silent = wiener(torch.zeros(3, 2, 5, 40), torch.zeros(2, 5, 40, dtype=torch.complex64), 2)
    assert (silent == 0).all()


@pytest.mark.parametrize("gains", [(1.0, 1.0), (0.9, 0.4), (1.0, 0.0)], ids=str)
@pytest.mark.parametrize("kind", [torch.complex64, torch.complex128], ids=str)
def test_em_of_one_signal_in_both_channels(gains, kind):
    """Dual mono: all sources in one place, so that (4.11) inverts a matrix of rank one and a little noise."""
    S = (10 * spectra(4, 1, 33, 120) * torch.tensor(gains).view(1, 2, 1, 1)).to(kind)
    X = S.sum(0)
    guess = S.abs() * (0.5 + torch.rand(4, 1, 33, 120, generator=generator(1)))
    for niter in (1, 3):
        Y = wiener(guess, X, niter)
        assert Y.dtype == kind and torch.isfinite(torch.view_as_real(Y)).all()
        assert relative(Y.sum(0), X) < 1e-4                    # but for the noise; 32 bits miss by 1e-2 and more
        assert Y.abs().max() < 2 * X.abs().max()


def test_em_passes_gradients():
    S = spectra()
    guess = S.abs().requires_grad_()
    wiener(guess, S.sum(0), 1).abs().square().sum().backward()
    assert torch.isfinite(guess.grad).all() and guess.grad.abs().max() > 0


def test_wiener_refuses_what_does_not_fit():
    X = torch.zeros(2, 5, 7, dtype=torch.complex64)
    with pytest.raises(ValueError, match=r"magnitudes \(4, 2, 5, 6\)"):
        wiener(torch.zeros(4, 2, 5, 6), X)
    with pytest.raises(ValueError, match="residual=True or iterations=0"):
        wiener(torch.zeros(1, 2, 5, 7), X)
    assert wiener(torch.zeros(1, 2, 5, 7), X, residual=True).shape == (2, 2, 5, 7)


# --- separation, scores, the training step ---------------------------------------------------------------------------

class KnowsTheAnswer(nn.Module):
    """A pretended network that gives every source the same share of the mixture."""

    def __init__(self, *shares, bins=129):
        super().__init__()
        self.sources, self.nb_bins = STEMS[:len(shares)], bins
        self.shares = torch.tensor(shares).view(1, -1, 1, 1, 1)

    def forward(self, x):
        return self.shares * x.unsqueeze(1)


def test_separating_with_constant_masks():
    mixture = torch.randn(2, 5000, generator=generator())
    estimates = separate(KnowsTheAnswer(0.5, 0.25, 0.0, 1.0), mixture, 256, 64)
    expected = torch.tensor([0.5, 0.25, 0.0, 1.0])[:, None, None] * mixture
    assert torch.allclose(estimates, expected, atol=1e-5)
    assert separate(KnowsTheAnswer(1.0, 1.0), mixture[None], 256, 64).shape == (1, 2, 2, 5000)
    with pytest.raises(ValueError, match="mixture has shape"):
        separate(KnowsTheAnswer(1.0, 1.0), mixture[0], 256, 64)


def test_the_model_says_which_stft():
    """Its bins give n_fft, its facts the hop; sizes that contradict it are refused,
    where they were taken in silence.
    """
    model, mixture = shaken(JointOpenUnmix(65, 2, 8, nb_layers=1)), 0.1 * torch.randn(2, 3000, generator=generator())
    assert stft_sizes(model) == (128, 32) and stft_sizes(model, hop_length=64) == (128, 64)
    assert torch.equal(separate(model, mixture), separate(model, mixture, 128, 32))
    for arguments in ((256,), (256, 64)):
        with pytest.raises(ValueError, match="n_fft is 256, but this JointOpenUnmix was made for 128; leave"):
            separate(model, mixture, *arguments)
    with_facts(model, rate=8000, n_fft=128, hop_length=16)
    assert stft_sizes(model) == (128, 16)
    assert torch.equal(separate(model, mixture), separate(model, mixture, hop_length=16))
    with pytest.raises(ValueError, match="hop_length is 32, but this JointOpenUnmix was made for 16"):
        separate(model, mixture, 128, 32)
    with pytest.raises(ValueError, match="n_fft is 256"):
        SpectrogramStep(256, 64)(model, torch.zeros(1, 4, 2, 3000))
    with pytest.raises(ValueError, match="n_fft is 256"):
        prepare_input(model, [small_track(0)], n_fft=256)
    models = {"a": shaken(OpenUnmix(65, 2, 8)), "b": shaken(OpenUnmix(33, 2, 8))}
    with pytest.raises(ValueError, match=r"made for several STFTs, \[\(64, 16\), \(128, 32\)\]; expected one"):
        separate(models, mixture)


def test_published_networks_know_their_stft():
    assert stft_sizes(official_open_unmix("umxse")) == (1024, 512) and official_open_unmix("umxse").facts.rate == 16000


def test_audio_of_another_type_is_computed_in_the_models():
    """float64, which soundfile gives by default, to and from a float32 model;
    the estimates come as the mixture came.
    """
    model, mixture = shaken(JointOpenUnmix(65, 2, 8, nb_layers=1)), 0.1 * torch.randn(2, 3000, generator=generator())
    exact = separate(model, mixture.double())
    assert exact.dtype == torch.float64 and (exact - separate(model, mixture)).abs().max() < 1e-6


def test_audio_of_other_types():
    """64 bits, soundfile's default, in and out; NumPy's arrays, whose axes may be turned, are refused by name."""
    torch.manual_seed(0)
    model, mixture = (
        JointOpenUnmix(129, 2, 8, 1).eval(),
        torch.randn(2, 3000, dtype=torch.float64, generator=generator()),
    )
    with torch.no_grad():
        estimates = separate(model, mixture)
        assert estimates.dtype == torch.float64 and torch.allclose(
            estimates.float(), separate(model, mixture.float()), atol=1e-6
        )
    with pytest.raises(ValueError, match="mixture is a numpy.ndarray"):
        separate(model, mixture.numpy())


def test_scores_by_hand():
    """All of it for the only sounding stem: a perfect score; a tenth too little of it: 20 dB;
    silent stems don't count.
    """
    track = small_track(silent=STEMS[1:])
    scores = separation_scores(KnowsTheAnswer(0.9, 0.0, 0.0, 0.0), [track], 0, 256, 64)
    assert abs(scores["drums"] - 20) < 0.01 and all(math.isnan(scores[stem]) for stem in STEMS[1:])
    few, song = separation_scores(KnowsTheAnswer(1.0, 1.0), [small_track(0)], 0, 256, 64), small_track(0)
    wrong = song.mixture - song["bass"]                    # all of the mixture, taken for the bass
    assert list(few) == ["sdr", "drums", "bass"]
    assert abs(few["bass"] - 10 * math.log10(song["bass"].square().sum() / wrong.square().sum())) < 0.01
    two = separation_scores(KnowsTheAnswer(0.9, 0.9, 0.9, 0.9), [small_track(0), small_track(1)], 0, 256, 64)
    assert list(two) == ["sdr", *STEMS] and abs(two["sdr"] - sum(two[stem] for stem in STEMS) / 4) < 1e-4


def test_step_by_hand():
    step = SpectrogramStep(256, 64)
    source = torch.randn(1, 1, 2, 4000, generator=generator())
    alone = torch.cat([source, torch.zeros_like(source)], dim=1)             # (batch, source, channel, time)
    assert abs(float(step(KnowsTheAnswer(1.0, 0.0), alone)) + 30) < 1e-2
    wrong = float(step(KnowsTheAnswer(0.0, 0.0), alone))                     # errors of 0 dB and of nothing
    assert abs(wrong - (10 * math.log10(1.001) - 30) / 2) < 1e-2
    assert abs(float(step(KnowsTheAnswer(0.5, 0.5), alone)) - 10 * math.log10(0.251)) < 1e-2
    louder = float(step(KnowsTheAnswer(0.3, 0.2), alone * 7))
    assert abs(louder - float(step(KnowsTheAnswer(0.3, 0.2), alone))) < 1e-3  # a level, so loudness doesn't matter


def test_error_level_is_the_mean_over_chunks_and_sources_and_gives_magnitudes_the_mixtures_phase():
    S = torch.randn(3, 2, 2, 5, 7, dtype=torch.complex64, generator=generator())  # (batch, source, channel, bin, frame)
    X, guess = S.sum(1), torch.rand(3, 2, 2, 5, 7, generator=generator(1))
    levels = []
    for n in range(3):
        for j in range(2):
            error = (guess[n, j] * torch.exp(1j * X[n].angle()) - S[n, j]).abs().square().sum()
            levels.append(10 * torch.log10(error / X[n].abs().square().sum() + 1e-2))
    assert torch.allclose(error_level(guess, S, X, 1e-2), torch.stack(levels).mean(), atol=1e-4)
    silence = torch.zeros_like(S)
    assert math.isclose(float(error_level(torch.zeros(3, 2, 2, 5, 7), silence, silence.sum(1))), -30, rel_tol=1e-4)


def test_step_of_some_sources():
    """Targets are chosen by name, against the mixture of all stems."""
    sources = torch.randn(2, 4, 2, 4000, generator=generator())
    sources[:, 1] *= 3
    S = stft(sources, 256, 64)
    X = S.sum(1)
    level = lambda j: (
        10 * torch.log10((0.4 * X - S[:, j]).abs().square().sum((1, 2, 3)) / X.abs().square().sum((1, 2, 3)) + 1e-3)
    )
    for targets in (["bass"], ["vocals", "drums"]):
        step = SpectrogramStep(256, 64, targets=targets)
        expected = torch.stack([level(STEMS.index(target)) for target in targets]).mean()
        assert abs(float(step(KnowsTheAnswer(*[0.4] * len(targets)), sources)) - float(expected)) < 1e-3


def test_step_refuses_a_model_of_other_sources():
    sources = torch.randn(1, 4, 2, 4000, generator=generator())
    for model in (KnowsTheAnswer(1.0), KnowsTheAnswer(1.0, 0.0), OpenUnmix(129, 2, 8)):
        with pytest.raises(ValueError, match=r"the model gives \(1, .*targets have \(1, 4, 2, 129"):
            SpectrogramStep(256, 64)(model, sources)
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 129.*targets have \(1, 1, 2, 129"):
        SpectrogramStep(256, 64, targets=["vocals"])(KnowsTheAnswer(1.0, 0.0), sources)
    with pytest.raises(ValueError, match="targets holds .*'voice'.*expected names of drums, bass, other, vocals"):
        SpectrogramStep(targets=["voice"])


def test_a_single_source_can_be_trained_and_scored():
    """Exercise 6: one source, against the mixture of four."""
    time = torch.arange(8000) / 8000
    stems = {stem: 0.2 * torch.sin(2 * math.pi * 400 * (k + 1) * time).expand(2, -1) for k, stem in enumerate(STEMS)}
    song = Track.from_tensors("tones", 8000, stems)
    torch.manual_seed(0)
    model, step = (
        JointOpenUnmix(129, 2, 16, nb_layers=1, sources=["other"]),
        SpectrogramStep(256, 64, targets=["other"]),
    )
    prepare_input(model, [song], n_fft=256, hop_length=64)
    batches = process_batches(RandomChunks([song], 0.5, length=240, seed=0), 4)
    fit(model, step, batches, torch.optim.Adam(model.parameters(), lr=0.02), 60, progress=False)
    with torch.no_grad():
        scores = separation_scores(model.eval(), [song], 0, 256, 64)
    assert list(scores) == ["sdr", "other"] and scores["other"] > 8


def test_step_on_silence_has_finite_gradients():
    model = JointOpenUnmix(129, 2, 8, max_bin=64, nb_layers=1)
    loss = SpectrogramStep(256, 64)(model, torch.zeros(2, 4, 2, 3000))
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def tiny_run(train, songs):
    torch.manual_seed(0)
    model = JointOpenUnmix(129, 2, 16, max_bin=100, nb_layers=2, dropout=0.3)
    prepare_input(model, songs, n_fft=256, hop_length=64)
    batches = process_batches(RandomChunks(songs, 0.4, length=20, seed=0), 4)
    torch.manual_seed(1)
    train(model, SpectrogramStep(256, 64), batches, torch.optim.Adam(model.parameters(), lr=0.01))
    return model.state_dict()


def by_hand(model, step, batches, optimizer):
    """The chapter's loop."""
    model.train()
    for _, sources in zip(range(5), batches(0)):
        optimizer.zero_grad()
        step(model, sources).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def test_the_chapters_loop_and_fit_give_equal_weights():
    """Bit for bit, dropout included."""
    songs = [small_track(seed) for seed in range(3)]
    loop = tiny_run(by_hand, songs)
    library = tiny_run(lambda model, step, batches, optimizer: fit(
        model, step, batches, optimizer, FitSettings(5, clip=1.0), progress=False), songs)
    assert all(torch.equal(loop[name], library[name]) for name in loop)


def test_training_lowers_the_loss():
    """On songs that can be separated by frequency alone: two tones."""
    time = torch.arange(8000) / 8000
    stems = {stem: 0.2 * torch.sin(2 * math.pi * 400 * (k + 1) * time).expand(2, -1) for k, stem in enumerate(STEMS)}
    song = Track.from_tensors("tones", 8000, stems)
    torch.manual_seed(0)
    model, step = JointOpenUnmix(129, 2, 16, nb_layers=1), SpectrogramStep(256, 64)
    prepare_input(model, [song], n_fft=256, hop_length=64)
    batches = process_batches(RandomChunks([song], 0.5, length=240, seed=0), 4)
    history = fit(model, step, batches, torch.optim.Adam(model.parameters(), lr=0.02), 60, progress=False)
    losses = [row["loss"] for row in history.steps]
    assert losses[0] > -5 and losses[-1] < -15
    with torch.no_grad():
        assert separation_scores(model.eval(), [song], 0, 256, 64)["sdr"] > 8
