"""Chapter 6's module: equality with demucs 2.0.3 and 4.1.0, julius and diffq; layers by hand, lengths, shifts,
errors.
"""

import math

import demucs.demucs as peer
import julius
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.data import STEMS, RandomChunks, Track
from course_lib.demucs import (
    BLSTM,
    DConv,
    Demucs,
    DemucsV2,
    DiffQ,
    DiffQStep,
    LayerScale,
    LinearUpsampling,
    LocalState,
    WaveformStep,
    center_trim,
    joined_middles,
    mono_statistics,
    overlapping_frames,
    quantise,
    repitch,
    resample_by,
    rescale_module,
    separate,
    separation_scores,
    sinc_filters,
    valid_length,
    with_linear_upsampling,
)
from course_lib.training import FitSettings, fit, load_trained, process_batches
from tests.references import demucs_v2 as frozen

KEPT = dict(np.load(frozen.FILE))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, dtype=torch.float32):
    return 0.1 * torch.randn(*shape, generator=generator(seed), dtype=dtype)


def relative(ours, theirs) -> float:
    ours, theirs = (torch.as_tensor(x).detach() for x in (ours, theirs))
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-20))


def shaken(model: nn.Module, seed=1) -> nn.Module:
    """Scales, norms and biases away from their starting values, which hide mistakes."""
    random = generator(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                centre = 0.5 if name.endswith("scale") else 1.0 if "weight" in name else 0.0
                tensor.copy_(centre + 0.3 * torch.randn(tensor.shape, generator=random))
    return model.eval()


def watched(model: nn.Module, names) -> dict[str, torch.Tensor]:
    """What the named modules give, filled at the next forward pass."""
    seen = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _layer, _x, y, name=name: seen.update({name: y.clone()}))
    return seen


# --- version 2, frozen references ------------------------------------------------------------------------------------

def shown_shapes(model):
    return [f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()]


@pytest.fixture(params=frozen.CONFIGURATIONS, scope="module")
def v2(request):
    """Name, our model as it begins with seed 3, its channels, the length."""
    arguments, length = frozen.CONFIGURATIONS[request.param]
    torch.manual_seed(3)
    return request.param, DemucsV2(frozen.SOURCES, **arguments), arguments.get("audio_channels", 2), length


def test_v2_has_the_official_tensors_lengths_and_first_weights(v2):
    name, model, *_ = v2
    assert shown_shapes(model) == KEPT[f"{name}/names"].tolist()
    assert [model.valid_length(n) for n in frozen.LENGTHS] == KEPT[f"{name}/valid"].tolist()
    torch.manual_seed(3)
    again = DemucsV2(frozen.SOURCES, **frozen.CONFIGURATIONS[name][0])
    spread = np.array([float(t.std()) for t in again.state_dict().values() if t.ndim > 1])
    assert np.allclose(spread, KEPT[f"{name}/initial"], rtol=1e-5)           # with the same rescaling


def official_answers(of):
    """What the official network gave: arrays by name."""
    compared = ("output", "shape", "activation", "gradient")
    return {key.partition("/")[2]: value for key, value in KEPT.items() if key.startswith(tuple(
        f"{of}/{kind}" for kind in compared))}


def same_answers(found, official, bar=1e-5, floor=0.0):
    """Every array within `bar` of its largest value; gradients, where they are small, of `floor` of the largest one."""
    assert found.keys() == official.keys() and tuple(found["shape"]) == tuple(official["shape"])
    largest = max((np.abs(official[key]).max() for key in official if key.startswith("gradient")), default=0)
    for key in official.keys() - {"shape"}:
        size = max(np.abs(official[key]).max(), floor * largest if key.startswith("gradient") else 0)
        assert np.abs(found[key] - official[key]).max() <= bar * size, key


def test_v2_gives_the_official_output_activations_and_gradients(v2):
    """Outputs and activations in 32 bits. Gradients in 64, where each must agree by its own size; in 32 bits they are
    sums whose terms nearly cancel, and one below a hundredth of the largest is measured by that.
    """
    name, model, channels, length = v2
    mix, official = frozen.mixture(channels, length, 1), official_answers(name)
    found = frozen.answers(frozen.filled(model, 2), mix)
    same_answers(found, official, floor=1e-2)
    exact = frozen.gradients(model.double(), model(mix.double()))
    model.float()
    assert len(exact) == len(list(model.parameters()))
    same_answers(found | exact, official)


@pytest.mark.parametrize(("name", "parameters"), [("v2", 265_679_496), ("v1", 648_548_208)])
def test_v2_at_full_size(name, parameters):
    """Names, shapes and lengths, then output and activations of the published networks; of v2 gradients, too."""
    with torch.device("meta"):
        model = DemucsV2(frozen.SOURCES, rescale=0, **frozen.FULL[name])
    assert sum(p.numel() for p in model.parameters()) == parameters == int(KEPT[f"full {name}/parameters"])
    assert shown_shapes(model) == KEPT[f"full {name}/names"].tolist()
    assert [model.valid_length(n) for n in frozen.LENGTHS] == KEPT[f"full {name}/valid"].tolist()
    assert name == "v1" or model.valid_length(343_980) == 350_890
    official = official_answers(f"full {name}")
    assert any(key.startswith("gradient") for key in official) == (name == "v2") and len(official) > 14
    same_answers(frozen.full_answers(DemucsV2, name, rescale=0), official, floor=1e-2)


# --- version 3 beside demucs 4.1.0 -----------------------------------------------------------------------------------

SMALL = {
    "inner parts": dict(channels=4, depth=5, norm_groups=2, dconv_attn=2, dconv_lstm=3, norm_starts=2),
    "both ways": dict(
        channels=8,
        depth=3,
        dconv_mode=3,
        lstm_layers=2,
        dconv_attn=1,
        dconv_lstm=9,
        context=0,
        glu=False,
        gelu=False,
        normalize=False,
        dconv_depth=-2,
        dconv_init=1e-2,
    ),
    "decoder": dict(channels=6, depth=2, dconv_mode=2, dconv_comp=1.5, dconv_depth=3, context=2, rescale=0.3),
    "plain": dict(
        channels=8,
        depth=2,
        rewrite=False,
        resample=False,
        audio_channels=1,
        rescale=0,
        kernel_size=6,
        stride=2,
        growth=1.5,
        norm_groups=2,
        norm_starts=1,
        dconv_mode=0,
        samplerate=8000,
        segment=3,
    ),
}


@pytest.fixture(params=SMALL)
def v3(request):
    """The official model and ours of a small configuration, with equal shaken weights."""
    official = shaken(peer.Demucs(STEMS, **SMALL[request.param]))
    ours = Demucs(STEMS, **SMALL[request.param]).eval()
    ours.load_state_dict(official.state_dict(), strict=True)
    return official, ours


def test_v3_tensors_go_both_ways_and_begin_alike(v3):
    official, ours = v3
    assert shown_shapes(ours) == shown_shapes(official)
    official.load_state_dict(ours.state_dict(), strict=True)
    torch.manual_seed(2)
    size = SMALL["inner parts"]
    first = peer.Demucs(STEMS, **size).state_dict()
    torch.manual_seed(2)
    second = Demucs(STEMS, **size).state_dict()
    assert all(torch.allclose(first[name], second[name], rtol=1e-5) for name in first)


@pytest.mark.parametrize("length", [2, 3, 999, 6001])
def test_v3_output_and_activations(v3, length):
    official, ours = v3
    layers = [*(f"encoder.{i}" for i in range(ours.depth)), *(f"decoder.{i}" for i in range(ours.depth))]
    seen, theirs = watched(ours, layers), watched(official, layers)
    mix = 0.02 + noise(2, ours.audio_channels, length)
    with torch.no_grad():
        assert relative(ours(mix), official(mix)) < 1e-5
    assert all(relative(seen[name], theirs[name]) < 1e-5 for name in layers)


def same_gradients(ours, official, outputs, floor=1e-2):
    """Gradients of the outputs' mean squares agree, each by its own size or, where it is less, by `floor` of the
    largest one's: in 32 bits small ones are sums whose terms nearly cancel, and those of a bias before a norm are 0.
    """
    for output in outputs:
        output.square().mean().backward()
    theirs = dict(official.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in theirs.values())
    for name, parameter in ours.named_parameters():
        difference = float((parameter.grad - theirs[name].grad).abs().max())
        assert difference <= 1e-5 * max(float(theirs[name].grad.abs().max()), floor * largest), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_v3_gradients(v3, dtype):
    """In 64 bits even one of a ten-millionth of the largest agrees by its own size; of a thousandth where the sound is
    resampled, for which the package computes its filters in 32 bits.
    """
    official, ours = (model.to(dtype) for model in v3)
    floor = 1e-2 if dtype == torch.float32 else 1e-3 if ours.resample else 1e-7
    mix = 0.02 + noise(2, ours.audio_channels, 5000, dtype=dtype)
    same_gradients(ours, official, [ours(mix), official(mix)], floor)


def test_v3_as_released():
    """The configuration of the waveform models in mdx_final, at full size: 133,753,064 parameters."""
    released = dict(channels=64, norm_starts=4, dconv_attn=4, dconv_lstm=4, dconv_init=1e-3)
    torch.manual_seed(0)
    official = shaken(peer.Demucs(STEMS, **released))
    ours = Demucs(STEMS, **released).eval()
    ours.load_state_dict(official.state_dict(), strict=True)
    assert sum(p.numel() for p in ours.parameters()) == 133_753_064
    layers = [f"encoder.{i}" for i in range(6)] + [f"decoder.{i}" for i in range(6)] + ["encoder.4.3.layers.1.4"]
    seen, theirs = watched(ours, layers), watched(official, layers)
    mix = noise(1, 2, 20_000)
    outputs = [ours(mix), official(mix)]
    assert relative(*outputs) < 1e-5
    assert all(relative(seen[name], theirs[name]) < 1e-5 for name in layers)
    same_gradients(ours, official, outputs)


@pytest.mark.parametrize("time", [1, 7, 200, 201, 399, 400, 401, 650])
def test_blstm_in_frames_equals_the_official_one(time):
    official, ours = peer.BLSTM(6, 2, max_steps=200, skip=True), BLSTM(6, 2, max_steps=200, skip=True)
    ours.load_state_dict(official.state_dict())
    x = noise(2, 6, time)
    with torch.no_grad():
        assert relative(ours(x), official(x)) < 1e-5


@pytest.mark.parametrize(("heads", "ndecay"), [(4, 4), (2, 1), (1, 0), (8, 3)])
def test_local_attention_equals_the_official_one(heads, ndecay):
    official, ours = shaken(peer.LocalState(8, heads, ndecay=ndecay)), LocalState(8, heads, ndecay)
    ours.load_state_dict(official.state_dict())
    x = 10 * noise(2, 8, 50)
    with torch.no_grad():
        assert relative(ours(x), official(x)) < 1e-5
        assert relative(ours(x[..., :1]), official(x[..., :1])) < 1e-5


def test_residual_branches_equal_the_official_ones():
    for arguments in (dict(), dict(attn=True, lstm=True), dict(norm=False, gelu=False, kernel=5, depth=-3, compress=2)):
        official = shaken(peer.DConv(16, **arguments))
        ours = DConv(16, **arguments)
        ours.load_state_dict(official.state_dict())
        x = 10 * noise(1, 16, 230)
        with torch.no_grad():
            assert relative(ours(x), official(x)) < 1e-5


# --- resampling, trimming, lengths -----------------------------------------------------------------------------------

@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 1), (3, 2), (2, 3), (1, 1), (18, 17), (147, 160)])
@pytest.mark.parametrize("time", [1, 2, 63, 64, 1000, 4001])
def test_resampling_equals_julius(old, new, time):
    x = noise(2, 3, time, seed=time)
    ours, theirs = resample_by(x, old, new), julius.resample_frac(x, old, new)
    assert ours.shape == theirs.shape
    if theirs.numel() and old != new:
        assert relative(ours, theirs) < 1e-5


def test_resampling_in_blocks_is_one_convolution_and_has_its_gradient():
    x = noise(2, 700, dtype=torch.float64).requires_grad_()
    for old, new in ((1, 2), (2, 1)):
        filters = sinc_filters(old, new)
        width = (filters.shape[-1] - old) // 2
        padded = F.pad(x[:, None], (width, width + old), mode="replicate")
        plain = F.conv1d(padded, filters, stride=old).mT.flatten(1)[:, :700 * new // old]
        assert torch.allclose(resample_by(x, old, new), plain, atol=1e-12)
        assert torch.allclose(torch.autograd.grad(resample_by(x, old, new).square().sum(), x)[0],
                              torch.autograd.grad(plain.square().sum(), x)[0], atol=1e-10)
        assert torch.allclose(filters.sum(-1), torch.ones(new, 1, dtype=torch.float64))


def test_up_and_down_again_keeps_a_low_tone():
    tone = torch.sin(2 * math.pi * 0.11 * torch.arange(4000, dtype=torch.float64))
    back = resample_by(resample_by(tone, 1, 2), 2, 1)
    assert (back - tone)[200:-200].abs().max() < 1e-3


def test_trimming_takes_more_from_the_right():
    x = torch.arange(6)
    assert center_trim(x, 6).tolist() == [0, 1, 2, 3, 4, 5] and center_trim(x, 3).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="at least 7"):
        center_trim(x, 7)


def test_a_valid_length_leaves_no_rest_and_the_next_is_a_stride_away():
    for depth, kernel, stride, resample in ((3, 8, 4, False), (2, 6, 2, True), (4, 5, 3, False)):
        found = {valid_length(n, depth, kernel, stride, resample=resample) for n in range(1, 800)}
        for length in found:
            steps = 2 * length if resample else length
            for _ in range(depth):
                assert resample or (steps - kernel) % stride == 0
                steps = (steps - kernel) // stride + 1
            assert valid_length(length, depth, kernel, stride, resample=resample) == length
        grown = sorted(found)
        assert all(b - a == stride ** depth // (1 + resample) for a, b in zip(grown, grown[1:]))
    with pytest.raises(ValueError, match="length is 0"):
        valid_length(0, 2, 8, 4)


def test_frames_overlap_by_half_and_join_again():
    for time in (9, 16, 21, 100):
        x = noise(2, 3, time)
        frames = overlapping_frames(x, 8)
        assert frames.shape == (2, 3, math.ceil(time / 4), 8) and torch.equal(frames[:, :, 1, :4], frames[:, :, 0, 4:])
        assert torch.equal(joined_middles(frames, time), x)


# --- layers ----------------------------------------------------------------------------------------------------------

def test_rescaling_takes_the_geometric_mean_and_leaves_linear_layers():
    model = nn.Sequential(nn.Conv1d(3, 5, 4), nn.Linear(4, 4), nn.ConvTranspose1d(5, 2, 3, bias=False))
    before = [p.detach().clone() for p in model.parameters()]
    rescale_module(model, 0.1)
    ratio = float((before[0].std() / 0.1) ** 0.5)
    assert torch.allclose(model[0].weight, before[0] / ratio) and torch.allclose(model[0].bias, before[1] / ratio)
    assert float(model[0].weight.detach().std()) == pytest.approx(float((before[0].std() * 0.1) ** 0.5), rel=1e-5)
    assert torch.equal(model[1].weight, before[2]) and not torch.equal(model[2].weight, before[4])
    with pytest.raises(ValueError, match="reference is 0"):
        rescale_module(model, 0)


def test_layer_scale():
    x = noise(2, 3, 5)
    assert torch.allclose(LayerScale(3, 0.5)(x), 0.5 * x)
    assert torch.allclose(LayerScale(3, 0.5, channel_last=True)(x.mT), 0.5 * x.mT)


def test_statistics_are_those_of_the_mono_signal():
    mix = 0.3 + noise(2, 2, 100)
    mean, deviation = mono_statistics(mix)
    assert torch.allclose(mean.flatten(), mix.mean((1, 2))) and torch.allclose(deviation.flatten(), mix.mean(1).std(-1))
    assert mono_statistics(mix[..., :1])[1].flatten().tolist() == [0, 0]


def test_linear_interpolation_keeps_the_lengths():
    model = DemucsV2(STEMS, channels=4, depth=3, resample=False)
    mix = noise(1, 2, model.valid_length(2000))
    shape = model(mix).shape
    assert with_linear_upsampling(model)(mix).shape == shape
    assert not any(isinstance(layer, nn.ConvTranspose1d) for layer in model.modules())
    assert sum(isinstance(layer, LinearUpsampling) for layer in model.modules()) == 3
    up = LinearUpsampling(1, 1, 8, 4)
    with torch.no_grad():
        up.conv.weight.fill_(1 / 8)
        up.conv.bias.zero_()
        assert torch.allclose(up(torch.full((1, 1, 9), 3.0)), torch.full((1, 1, 40), 3.0))


# --- any length, silence, other types --------------------------------------------------------------------------------

def tiny_v2(**arguments):
    torch.manual_seed(0)
    return DemucsV2(STEMS, **dict(channels=4, depth=2) | arguments).eval()


@pytest.mark.parametrize(
    "model",
    [
        tiny_v2(),
        tiny_v2(normalize=True, context=1),
        Demucs(STEMS, channels=4, depth=3, norm_starts=2, norm_groups=2).eval(),
    ],
    ids=["v2", "v2n", "v3"],
)
@pytest.mark.parametrize("length", [1, 2, 5, 37, 1000])
def test_any_length_is_separated(model, length):
    for dtype in (torch.float32, torch.float64, torch.float16):
        with torch.no_grad():
            found = separate(model, noise(2, length).to(dtype))
        assert found.shape == (4, 2, length) and found.dtype == dtype and found.isfinite().all()
    with torch.no_grad():
        alone, batch = separate(model, noise(2, length)), separate(model, noise(2, length).expand(3, 2, length))
        assert torch.allclose(batch[1], alone, atol=1e-6)


@pytest.mark.parametrize("model", [tiny_v2(normalize=True), Demucs(STEMS, channels=4, depth=3)], ids=["v2", "v3"])
def test_silence_has_finite_outputs_and_gradients(model):
    mix = torch.zeros(1, 2, model.valid_length(500))
    output = model(mix)
    assert output.abs().max() < 1e-3
    F.l1_loss(output, torch.zeros_like(output)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_double_precision_says_the_same():
    model = tiny_v2()
    mix = noise(1, 2, model.valid_length(800))
    with torch.no_grad():
        single = model(mix)
        assert relative(model.double()(mix.double()).float(), single) < 1e-5


def test_gradients_agree_with_differences():
    model = tiny_v2(channels=2, resample=True).double()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05                                   # away from the corners of ReLU
    mix = noise(1, 2, model.valid_length(30), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x)[..., ::7], (mix,), atol=1e-5, rtol=1e-3, fast_mode=True)


def test_a_network_of_one_channel_takes_stereo_channel_by_channel():
    model = tiny_v2(audio_channels=1)
    mix = noise(2, 300)
    with torch.no_grad():
        both = separate(model, mix)
        assert both.shape == (4, 2, 300)
        for channel in range(2):
            assert torch.allclose(both[:, channel], separate(model, mix[channel:channel + 1])[:, 0], atol=1e-6)


@pytest.mark.parametrize("call", [lambda m, x: m(x), separate], ids=["forward", "separate"])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 2, 900), np.float32), "torch tensor"),
        (torch.zeros(1, 2, 900, dtype=torch.int16), "int16"),
        (torch.zeros(1, 3, 900), "2 channels"),
        (torch.zeros(1, 2, 0), "at least one sample"),
        (torch.zeros(900), r"shape \(900,\)"),
    ],
    ids=["numpy", "integers", "channels", "empty", "line"],
)
def test_bad_mixtures_are_refused(call, bad, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_v2(), bad)


def test_what_else_is_refused():
    model = tiny_v2()
    with pytest.raises(ValueError, match=r"takes at least \d+: pad to valid_length"):
        model(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        separate(model, torch.full((2, 900), float("nan")))
    with pytest.raises(ValueError, match="shifts is -1"):
        separate(model, torch.zeros(2, 900), shifts=-1)
    with pytest.raises(ValueError, match="max_steps is 6"):
        BLSTM(4, max_steps=6)
    with pytest.raises(ValueError, match="heads 4"):
        LocalState(6)
    with pytest.raises(ValueError, match="kernel is 4"):
        DConv(8, kernel=4)
    with pytest.raises(ValueError, match="common divisor"):
        resample_by(torch.zeros(5), 2, 4)
    with pytest.raises(ValueError, match="semitones is 7"):
        repitch(torch.zeros(1, 9000), 7)
    with pytest.raises(ValueError, match="loss is 'l3'"):
        WaveformStep("l3")
    with pytest.raises(ValueError, match="min_bits < init_bits"):
        DiffQ(model, init_bits=20)


# --- shifts, training, repitch ---------------------------------------------------------------------------------------

def test_shifts_change_nothing_of_a_network_that_is_equivariant():
    class Halves(nn.Module):
        """A network that gives halves of the mixture."""
        audio_channels, samplerate = 2, 1000

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.5))

        def valid_length(self, length):
            return length + 5

        def forward(self, x):
            return self.weight * x.unsqueeze(1).expand(-1, 2, -1, -1)

    mix = noise(2, 700)
    for shifts in (0, 1, 4):
        assert torch.allclose(
            separate(Halves(), mix, shifts, generator=generator()), 0.5 * mix.expand(2, 2, -1), atol=1e-7
        )


def test_shifts_are_the_mean_of_shifted_passes_and_repeat_with_their_generator():
    model = tiny_v2()
    mix = noise(1, 2, 500)
    with torch.no_grad():
        found = separate(model, mix, 2, max_shift=40, generator=generator(5))
        assert torch.equal(found, separate(model, mix, 2, max_shift=40, generator=generator(5)))
        random, passes = generator(5), []
        for _ in range(2):
            early = int(torch.randint(41, (), generator=random))
            passes.append(separate(model, F.pad(mix, (early, 40 - early)))[..., early:early + 500])
        assert torch.allclose(found, torch.stack(passes).mean(0), atol=1e-6)
        assert not torch.allclose(found, separate(model, mix), atol=1e-4)


def test_the_training_step_compares_the_middle():
    model = tiny_v2()
    sources = noise(2, 4, 2, model.valid_length(1000))
    with torch.no_grad():
        estimates = model(sources.sum(1))
        assert estimates.shape[-1] < sources.shape[-1]
        expected = (estimates - center_trim(sources, estimates.shape[-1])).abs().mean()
        assert torch.allclose(WaveformStep()(model, sources), expected)
        assert torch.allclose(WaveformStep("l2")(model, sources),
                              (estimates - center_trim(sources, estimates.shape[-1])).square().mean())
        with pytest.raises(ValueError, match="the targets have"):
            WaveformStep()(model, sources[:, :3])


def song(seed=0, seconds=1.0, rate=8000):
    return Track.from_tensors(f"song {seed}", rate, {stem: noise(2, round(seconds * rate), seed=10 * seed + k)
                                                     for k, stem in enumerate(STEMS)})


def test_it_learns_and_two_trainings_are_equal():
    losses, weights = [], []
    for _ in range(2):
        model = tiny_v2(samplerate=8000)
        chunks = RandomChunks([song()], model.valid_length(1500) / 8000, 40, 0)
        history = fit(model, WaveformStep(), process_batches(chunks, 2), torch.optim.Adam(model.parameters(), 3e-3),
                      FitSettings(20), progress=False)
        losses.append([row["loss"] for row in history.steps])
        weights.append(model.state_dict())
    assert losses[0] == losses[1] and all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert np.mean(losses[0][-5:]) < np.mean(losses[0][:5])


def test_scores_are_those_of_whole_songs():
    found = separation_scores(tiny_v2(), [song(), song(1)])
    assert list(found) == ["sdr", *STEMS] and found["sdr"] == pytest.approx(np.mean([found[stem] for stem in STEMS]))


@pytest.mark.parametrize(("semitones", "tempo"), [(0, 1.1), (2, 1.0), (-2, 0.9), (1, 1.12)])
def test_repitch_moves_a_tone_and_the_length(semitones, tempo):
    rate, hertz = 16_000, 440.0
    tone = 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(2 * rate) / rate)
    moved = repitch(tone[None], semitones, tempo)[0]
    assert abs(len(moved) * tempo / len(tone) - 1) < 2e-3
    middle = moved[len(moved) // 4:-len(moved) // 4]
    peak = int(torch.fft.rfft(middle * torch.hann_window(len(middle))).abs().argmax()) * rate / len(middle)
    assert abs(peak / (hertz * 2 ** (semitones / 12)) - 1) < 0.01
    assert 0.2 < float(middle.square().mean().sqrt()) < 0.45


# --- fewer bits ------------------------------------------------------------------------------------------------------

def test_diffq_equals_the_package():
    """Bits, size, its gradient and the output with rounded weights, beside diffq 0.2.4."""
    arguments, length = frozen.CONFIGURATIONS["small"]
    model = DiffQ(frozen.filled(DemucsV2(frozen.SOURCES, **arguments), 2), min_values=math.floor(0.002 * 2 ** 18) + 1)
    assert [name.rpartition(".")[2] for name in model.names] == KEPT["diffq/quantised"].tolist()
    random = np.random.RandomState(5)
    with torch.no_grad():
        for logit in model.logits:
            logit.copy_(torch.from_numpy(2 * random.randn(len(logit))[:, None]))
    size = model.megabytes()
    size.backward()
    assert float(size.detach()) == pytest.approx(float(KEPT["diffq/megabytes"]), rel=1e-6)
    slopes = np.concatenate([frozen.shown(logit.grad) for logit in model.logits])
    assert np.allclose(slopes, KEPT["diffq/gradients"], rtol=1e-5)
    with torch.no_grad():
        output = model.eval()(frozen.mixture(2, length, 1))
    assert relative(output.numpy()[..., ::5], KEPT["diffq/output"]) < 1e-5


def test_rounding_by_hand():
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    p = torch.tensor([[-1.0, -0.4, 0.6, 2.0]])
    # four levels, a unit apart
    assert quantise(p, torch.tensor([[2.0]]), low, high).tolist() == [[-1.0, 0.0, 1.0, 2.0]]
    assert quantise(p, torch.tensor([[1.0]]), low, high).tolist() == [[-1.0, -1.0, 2.0, 2.0]]
    fine = quantise(p, torch.tensor([[12.0]]), low, high)
    assert (fine - p).abs().max() <= 0.5 * 3 / (2 ** 12 - 1) + 1e-6


def test_the_penalty_drives_bits_down_and_noise_reaches_them():
    torch.manual_seed(0)
    model = DiffQ(tiny_v2(resample=False), min_values=64)
    before = float(model.megabytes().detach())
    sources = noise(2, 4, 2, model.inner.valid_length(600))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(10):
        optimizer.zero_grad()
        parts = DiffQStep(WaveformStep(), penalty=10.0)(model, sources)
        parts["loss"].backward()
        assert all(logit.grad.isfinite().all() and logit.grad.abs().max() > 0 for logit in model.logits)
        optimizer.step()
    assert float(model.megabytes().detach()) < before
    assert torch.allclose(parts["loss"], parts["error"] + 10 * parts["megabytes"])
    mix = sources.sum(1)
    with torch.no_grad():
        assert not torch.equal(model.train()(mix), model(mix))               # noise
        assert torch.equal(model.eval()(mix), model(mix))                    # none


# --- the network that comes with the course --------------------------------------------------------------------------

def test_the_committed_network_comes_back_and_separates():
    model = load_trained("demucs_band")
    assert (model.facts.rate, model.facts.stems) == (22_050, STEMS) and model.samplerate == 22_050
    assert model.card["command"] == "uv run course train demucs_band" and not model.training
    with torch.no_grad():
        found = separate(model, noise(1, 5000))
    assert found.shape == (4, 1, 5000) and found.isfinite().all()
