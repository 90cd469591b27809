"""Chapter 15's mu-law, WaveNet, encoder and generators, held against plain NumPy that shares no code with them."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib.experiments import wavenet as experiment
from course_lib.wavenet import (
    CausalConv1d,
    DilatedResConv,
    LinearProbe,
    TemporalEncoder,
    WaveNet,
    WaveNetAutoencoder,
    WaveNetLayer,
    WaveNetStep,
    between,
    bits_per_sample,
    draw,
    generate,
    generate_naive,
    generate_queued,
    mu_law_decode,
    mu_law_encode,
    receptive_field,
)

GENERATORS = (generate_naive, generate_queued, generate)


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def redrawn(model, seed=0, scale=0.4):
    """The model in double precision, every weight and bias drawn anew."""
    for p in model.double().parameters():
        p.data = scale * torch.randn(p.shape, generator=numbers(seed + p.numel()), dtype=p.dtype)
    return model


# ------------------------------------------------------------------------------------------------ plain NumPy, by names


def conv(x, weight, bias, dilation=1, before=0, after=0):
    """(channel, time) by sums over taps: zeros before and after, oldest tap first."""
    x = np.pad(x, ((0, 0), (before, after)))
    length = x.shape[1] - (weight.shape[2] - 1) * dilation
    return bias[:, None] + sum(weight[:, :, j] @ x[:, j * dilation : j * dilation + length]
                               for j in range(weight.shape[2]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_wavenet(tensors, codes, z, blocks, layers):
    """Logits (256, time) of one sequence, from the official names of tensors."""
    w = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    get = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    taps = w["first_conv.weight"].shape[2]
    x = np.concatenate([[0.0], codes[:-1] / 255 - 0.5])[None]
    z = np.repeat(z, len(codes) // z.shape[1], axis=1)
    x = conv(x, *get("first_conv"), before=taps - 1)
    skips = conv(x, *get("skip_conv"))
    for n in range(blocks * layers):
        d = 2 ** (n % layers)
        a = conv(x, *get(f"layers.{n}.causal"), d, before=(taps - 1) * d) + conv(z, *get(f"layers.{n}.condition"))
        half = len(a) // 2
        h = sigmoid(a[:half]) * np.tanh(a[half:])
        x, skips = x + conv(h, *get(f"layers.{n}.residual")), skips + conv(h, *get(f"layers.{n}.skip"))
    y = conv(np.maximum(skips, 0), *get("fc")) + conv(z, *get("condition"))
    return conv(np.maximum(y, 0), *get("logits"))


def reference_encoder(tensors, codes, blocks, layers, pool, relu_first):
    w = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    get = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    x = conv((codes / 255 - 0.5)[None], *get("start"), before=1, after=1)
    for n in range(blocks * layers):
        d = 2 ** (n % layers)
        h = np.maximum(x, 0) if relu_first else x
        h = conv(h, *get(f"dilated_convs.{n}.dilated_conv"), d, before=d, after=d)
        x = x + conv(np.maximum(h, 0), *get(f"dilated_convs.{n}.conv_1x1"))
    x = conv(x, *get("conv_1x1"))
    frames = x.shape[1] // pool
    return x[:, : frames * pool].reshape(len(x), frames, pool).mean(2)


# --------------------------------------------------------------------------------------------------------------- mu-law


def test_mu_law_is_the_official_arithmetic():
    x = np.concatenate([np.linspace(-1.2, 1.2, 4001), [0.0, 1e-5, -1e-5]])
    cut = np.clip(x, -1, 1)
    y = np.sign(cut) * np.log(1 + 255 * np.abs(cut)) / np.log(256)
    assert np.array_equal(mu_law_encode(torch.from_numpy(x)).numpy(), ((y + 1) / 2 * 255).astype(np.int16))
    s = np.arange(256)
    y = 2 * (s - 128.0) / 256
    expected = np.sign(y) * (256 ** np.abs(y) - 1) / 255
    assert np.allclose(mu_law_decode(torch.from_numpy(s)).numpy(), expected, atol=1e-6)


def test_mu_law_at_its_ends_and_silence():
    assert mu_law_encode(torch.tensor([-1.0, 0.0, 1.0, 7.0])).tolist() == [0, 127, 255, 255]
    assert float(mu_law_decode(torch.tensor(128))) == 0.0 and float(mu_law_decode(torch.tensor(127))) < 0
    assert mu_law_decode(torch.tensor([0])).item() == pytest.approx(-1)
    codes = torch.arange(256)
    assert (mu_law_encode(mu_law_decode(codes)) - codes).abs().max() <= 1


@pytest.mark.parametrize("bad", [torch.tensor([float("nan")]), torch.tensor([1])])
def test_mu_law_refuses_what_is_no_audio(bad):
    with pytest.raises(ValueError, match="audio in"):
        mu_law_encode(bad)


@pytest.mark.parametrize(("bad", "words"), [
    (torch.tensor([256]), "256"), (torch.tensor([-1]), "-1"), (torch.tensor([0.5]), "float32"),
    (torch.tensor([]).long(), "at least one")])
def test_codes_are_checked(bad, words):
    with pytest.raises(ValueError, match=words):
        mu_law_decode(bad)


# -------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("taps", [2, 3])
def test_causal_convolution_is_padding_on_both_sides_cut_off(taps):
    layer = CausalConv1d(3, 4, taps, dilation=5)
    x = torch.randn(2, 3, 40, generator=numbers(0))
    official = F.conv1d(x, layer.weight, layer.bias, padding=layer.past, dilation=5)[..., : -layer.past]
    assert torch.allclose(layer(x), official, atol=1e-6)


@pytest.mark.parametrize(("blocks", "layers", "taps"), [(1, 3, 2), (2, 3, 2), (2, 2, 3)])
def test_receptive_field_by_moving_a_symbol(blocks, layers, taps):
    model = redrawn(WaveNet(2, blocks, layers, taps, 4, 4), scale=0.5)
    codes = torch.randint(0, 256, (1, 60), generator=numbers(1))
    changed = codes.clone()
    changed[0, 10] = 255 - changed[0, 10]
    moved = (model(codes) - model(changed)).abs().amax((0, 1)).nonzero().flatten()
    field = receptive_field(blocks, layers, taps)
    assert moved.min() == 11 and moved.max() == 10 + field == 10 + model.receptive_field


@pytest.mark.parametrize("taps", [2, 3])
def test_wavenet_against_numpy(taps):
    model = redrawn(WaveNet(3, 2, 3, taps, 6, 5))
    codes = torch.randint(0, 256, (2, 48), generator=numbers(2))
    z = torch.randn(2, 3, 6, generator=numbers(3), dtype=torch.float64)
    logits = model(codes, z)
    for n in range(2):
        expected = reference_wavenet(model.state_dict(), codes[n].numpy(), z[n].numpy(), 2, 3)
        assert np.allclose(logits[n].detach().numpy(), expected, rtol=1e-8, atol=1e-8)
    single = model.float()(codes, z.float())
    assert torch.allclose(single.double(), logits, rtol=1e-4, atol=1e-5 * float(logits.detach().abs().max()))


def test_gradients_are_those_of_finite_differences():
    model = redrawn(WaveNet(2, 1, 2, 2, 3, 3))
    codes = torch.randint(0, 256, (1, 12), generator=numbers(4))
    z = torch.randn(1, 2, 3, generator=numbers(5), dtype=torch.float64)

    def loss():
        return WaveNetStep.bits(model(codes, z), codes)

    loss().backward()
    for name, p in model.named_parameters():
        if name.startswith("layers.1.residual"):
            assert p.grad is None                       # the last layer's goes nowhere
            continue
        place = (0,) * p.ndim
        with torch.no_grad():
            p[place] += 1e-5
            high = float(loss())
            p[place] -= 2e-5
            low = float(loss())
            p[place] += 1e-5
        assert float(p.grad[place]) == pytest.approx((high - low) / 2e-5, rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("relu_first", [True, False])
def test_encoder_against_numpy(relu_first):
    model = redrawn(TemporalEncoder(3, 5, 2, 3, 16, relu_first))
    codes = torch.randint(0, 256, (2, 70), generator=numbers(6))
    z = model(codes)
    assert z.shape == (2, 3, 4) and model.hop_length == 16                   # what is left over is left out
    for n in range(2):
        expected = reference_encoder(model.state_dict(), codes[n].numpy(), 2, 3, 16, relu_first)
        assert np.allclose(z[n].detach().numpy(), expected, rtol=1e-8, atol=1e-9)


def test_official_names_and_sizes():
    names = set(WaveNet(4, 1, 2, 2, 4, 4).state_dict())
    tensors = {f"layers.{n}.{part}" for n in range(2) for part in ("causal", "condition", "residual", "skip")}
    tensors |= {"first_conv", "skip_conv", "condition", "fc", "logits"}
    assert names == {f"{name}.{what}" for name in tensors for what in ("weight", "bias")}
    assert sum(p.numel() for p in WaveNet().parameters()) == 5_356_544
    encoder = TemporalEncoder(128, 128, 3, 10, 800, relu_first=False)
    assert sum(p.numel() for p in encoder.parameters()) == 1_990_784
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"start", "dilated_convs", "conv_1x1"}
    assert set(DilatedResConv(2).state_dict()) == {f"{name}.{what}" for name in ("dilated_conv", "conv_1x1")
                                                   for what in ("weight", "bias")}
    assert (receptive_field(4, 10), receptive_field(4, 14)) == (4094, 65_534)


def test_the_gate_is_the_first_half():
    layer = redrawn(WaveNetLayer(2, 2, 1))
    layer.causal.weight.data.zero_()
    layer.causal.bias.data = torch.tensor([-50.0, -50.0, 3.0, 3.0], dtype=torch.float64)
    added, _ = layer(torch.ones(1, 2, 4, dtype=torch.float64))
    assert torch.allclose(added, layer.residual.bias[:, None].expand(2, 4), atol=1e-9)


@pytest.mark.parametrize(("codes", "z", "words"), [
    (torch.zeros(4).long(), None, r"\(batch, time\)"), (torch.zeros(1, 4), None, "float32"),
    (torch.full((1, 4), 300), None, "300"), (torch.zeros(1, 4).long(), torch.zeros(1, 3, 1), "2, frame"),
    (torch.zeros(1, 4).long(), torch.zeros(2, 2, 1), "1, 2, frame"),
    (torch.zeros(1, 4).long(), torch.zeros(1, 2, 3), "divides"),
    (torch.zeros(1, 4).long(), torch.zeros(1, 2, 1).long(), "int64")])
def test_wavenet_refuses(codes, z, words):
    with pytest.raises(ValueError, match=words):
        WaveNet(2, 1, 2, 2, 4, 4)(codes, z)


def test_sizes_and_short_input_are_refused():
    for name in ("latent_d", "blocks", "layers", "kernel_size", "residual_channels", "skip_channels"):
        for bad in (0, 1.5, True):
            with pytest.raises(ValueError, match=name):
                WaveNet(**{name: bad})
    with pytest.raises(ValueError, match="16 samples"):
        TemporalEncoder(2, 2, 1, 1, 16)(torch.zeros(1, 15).long())
    with pytest.raises(ValueError, match="encoder_pool"):
        TemporalEncoder(encoder_pool=0)


# ----------------------------------------------------------------------------------------------------------- generating


@pytest.mark.parametrize(("taps", "temperature"), [(2, 1.0), (3, 1.0), (2, 0.5), (2, 0)])
def test_all_generators_draw_the_same(taps, temperature):
    model = redrawn(WaveNet(3, 2, 3, taps, 6, 5))
    z = 2 * torch.randn(2, 3, 4, generator=numbers(7), dtype=torch.float64)
    uniforms = torch.rand(2, 61, generator=numbers(8), dtype=torch.float64)
    plain, queued, compiled = (way(model, z, uniforms, 16, temperature) for way in GENERATORS)
    assert torch.equal(plain, queued) and torch.equal(plain, compiled)
    assert torch.equal(plain[1:], generate(model, z[1:], uniforms[1:], 16, temperature))
    if temperature:
        assert len(plain.unique()) > 10


def test_generated_is_what_one_pass_predicts():
    model = redrawn(WaveNet(2, 1, 4, 2, 4, 4))
    z = torch.randn(1, 2, 5, generator=numbers(9), dtype=torch.float64)
    uniforms = torch.rand(1, 40, generator=numbers(10), dtype=torch.float64)
    codes = generate(model, z, uniforms, 8)
    logits = model(codes, z).detach()
    assert torch.equal(codes[0], torch.stack([draw(logits[..., t], uniforms[:, t])[0] for t in range(40)]))


def test_single_precision_and_other_latents():
    model = redrawn(WaveNet(2, 1, 3, 2, 4, 4)).float()
    z = torch.randn(1, 2, 2, generator=numbers(11), dtype=torch.float64)
    codes = generate(model, z, torch.rand(1, 9, generator=numbers(12), dtype=torch.float64), 8)
    assert codes.shape == (1, 9) and codes.dtype == torch.int64 and 0 <= int(codes.min()) <= int(codes.max()) < 256


def test_draw_follows_its_probabilities():
    p = torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64)
    logits = torch.full((1, 256), -torch.inf, dtype=torch.float64)
    logits[:, 5:8] = p.log()
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    assert (draw(logits.expand(1000, -1), u).bincount(minlength=8)[5:] == torch.tensor([100, 600, 300])).all()
    assert draw(logits, torch.tensor([0.99]), temperature=0).item() == 6
    assert draw(logits, torch.tensor([0.0])).item() == 5


@pytest.mark.parametrize("way", GENERATORS)
def test_generators_refuse(way):
    model, z = WaveNet(2, 1, 2, 2, 4, 4), torch.zeros(1, 2, 3)
    refused = ((torch.rand(1, 25), "1 to 24"), (torch.rand(2, 5), "uniforms"), (torch.rand(5), "uniforms"))
    for uniforms, words in refused:
        with pytest.raises(ValueError, match=words):
            way(model, z, uniforms, 8)
    with pytest.raises(ValueError, match="temperature"):
        way(model, z, torch.rand(1, 5), 8, -1.0)
    with pytest.raises(ValueError, match="2, frame"):
        way(model, torch.zeros(1, 4, 3), torch.rand(1, 5), 8)


def test_a_kernel_of_one_tap_has_no_past():
    with pytest.raises(ValueError, match="kernel_size is 1"):
        generate(WaveNet(2, 1, 2, 1, 4, 4), torch.zeros(1, 2, 3), torch.rand(1, 5), 8)


# ------------------------------------------------------------------------------------------- autoencoder, probe, notes


def small_autoencoder():
    torch.manual_seed(0)
    return WaveNetAutoencoder(3, 16, dict(encoder_channels=4, encoder_blocks=1, encoder_layers=2),
                              dict(blocks=1, layers=3, residual_channels=4, skip_channels=4))


def test_autoencoder_there_and_back():
    model, x = small_autoencoder(), 0.3 * torch.randn(2, 64, generator=numbers(13))
    z = model.encode(x)
    y = model.decode(z.detach(), numbers(14))
    assert z.shape == (2, 3, 4) and y.shape == (2, 64) and float(y.abs().max()) <= 1
    assert torch.equal(y, model.decode(z.detach(), numbers(14)))
    silent = model.encode(torch.zeros(1, 32))
    assert torch.isfinite(silent).all()


def test_bits_and_their_step():
    model = small_autoencoder()
    codes = torch.randint(0, 256, (2, 32), generator=numbers(15))
    logits = model(codes)
    p = logits.softmax(1).gather(1, codes[:, None])[:, 0]
    loss = WaveNetStep()(model, codes)["loss"]
    assert float(loss.detach()) == pytest.approx(float(-p.detach().log2().mean()), rel=1e-5)
    assert bits_per_sample(model, [codes])["bits"] == pytest.approx(float(loss.detach()), rel=1e-5)
    flat = torch.zeros(1, 256, 8)
    assert float(WaveNetStep.bits(flat, torch.zeros(1, 8).long())) == pytest.approx(8.0)
    loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "layers.2.residual" not in name)


def test_probe():
    x = torch.randn(300, 5, generator=numbers(16))
    labels = (x[:, :3]).argmax(1)
    probe = LinearProbe(x[:200], labels[:200])
    assert float((probe(x[200:]) == labels[200:]).float().mean()) > 0.9
    assert torch.equal(probe(x), LinearProbe(x[:200], labels[:200])(x))
    constant = torch.cat([x, torch.ones(300, 1)], 1)                         # a feature without spread
    assert torch.isfinite(LinearProbe(constant, labels).weight).all()
    with pytest.raises(ValueError, match="expected"):
        LinearProbe(x, labels[:5])


def test_between():
    a, b = torch.zeros(2, 3), torch.ones(2, 3)
    assert torch.equal(between(a, b, 0.0), a) and torch.equal(between(a, b, 1.0), b)
    assert float(between(a, b, 0.25).mean()) == 0.25
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="weight"):
            between(a, b, bad)
    with pytest.raises(ValueError, match="first has shape"):
        between(a, b[:1], 0.5)


def test_notes_are_split_by_pitch_and_instrument():
    split = {name: experiment.notes(name) for name in experiment.SPLITS}
    assert [len(one) for one in split.values()] == [288, 72, 72]
    pairs = {name: set(zip(one.instrument.tolist(), one.pitch.tolist())) for name, one in split.items()}
    assert not pairs["train"] & pairs["test"] and not pairs["train"] & pairs["valid"]
    for one in split.values():
        assert one.x.shape[1] == experiment.NOTE and float(one.x.abs().max()) <= 1
        assert one.x.square().mean(1).min() > 1e-6
    assert {pitch for _, pitch in pairs["test"]} <= {pitch for _, pitch in pairs["train"]}
    with pytest.raises(ValueError, match="train, valid, test"):
        experiment.notes("else")


def test_pieces_are_functions_of_seed_and_place():
    one, again = experiment.training_notes(3, 5, 1024), experiment.training_notes(3, 9, 1024)
    assert torch.equal(one[4], again[4]) and not torch.equal(one[3], one[4])
    assert one[0].shape == (1024,) and one[0].dtype == torch.int64
    with pytest.raises(IndexError):
        one[5]
    with pytest.raises(ValueError, match="multiple of 512"):
        experiment.NotePieces(experiment.notes("test"), 1000, 1, 0)


def test_positions_and_timbre():
    data = experiment.notes("test")
    places = experiment.positions(torch.stack([data.x[0], data.x[0], data.x[40]]))
    assert places[0] == 0 and float(places[1]) == pytest.approx(0) and float(places[2]) == pytest.approx(1, abs=1e-4)
    assert experiment.timbre(data.x[:2]).shape == (2, 32)
    assert torch.isfinite(experiment.timbre(torch.zeros(1, experiment.NOTE))).all()


def test_the_benchmark_says_what_it_does():
    from course_lib.paths import repository_root

    shown = subprocess.run([sys.executable, repository_root() / "benchmarks" / "wavenet_speed.py", "--help"],
                           capture_output=True, text=True, timeout=120)
    assert shown.returncode == 0 and "--untrained" in shown.stdout
