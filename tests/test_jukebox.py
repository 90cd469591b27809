"""Chapter 11's module: equality with transformers' JukeboxVQVAE, codebooks, losses by hand, official files, edges."""

import http.server
import math
import re
import threading
from functools import partial

import pytest
import torch
import torch.multiprocessing
from torch import nn
from transformers import JukeboxVQVAEConfig
from transformers.models.deprecated.jukebox.modeling_jukebox import JukeboxBottleneckBlock, JukeboxVQVAE

from course_lib.jukebox import (
    RESOLUTIONS,
    VQVAE,
    Bottleneck,
    BottleneckBlock,
    Codebook,
    CodebookState,
    CodecStep,
    Coded,
    HierarchicalVQVAE,
    ResConv1DBlock,
    ResidualQuantiser,
    Resnet1D,
    bandwidth_of,
    codebook_part,
    in_decibels,
    linf_loss,
    load_official,
    log_spectral_distance,
    magnitudes,
    measure_bandwidth,
    multispectral_loss,
    nearest,
    random_downmix,
    random_rows,
    spectral_convergence,
    spectral_distance,
    to_hops,
)
from course_lib.training import FitSettings, fit
from course_lib.training.official import PUBLISHED_WEIGHTS
from course_lib.training.weight_files import AsksForCode

SMALL = dict(emb_width=6, l_bins=16, width=8, depth=2)
RANDOM = dict(levels=2, downs_t=(2, 1), strides_t=(2, 4), emb_width=5, l_bins=8, width=4, depth=3, multipliers=(1, 2),
              dilation_growth_rate=2, dilation_cycle=2)


def renamed(name: str) -> str:
    """A tensor's name in transformers, by its published conversion."""
    part = r"(encoders|decoders)\.(\d+)\.level_blocks\.(\d+)\.model\."
    if match := re.fullmatch(part + r"(\d+)\.(weight|bias)", name):
        side, level, block, _, kind = match.groups()
        return f"{side}.{level}.level_blocks.{block}.{'proj_out' if side == 'encoders' else 'proj_in'}.{kind}"
    if match := re.fullmatch(part + r"(\d+)\.(\d)\.(?:model\.(\d+)\.model\.(\d)\.)?(weight|bias)", name):
        side, level, block, stage, place, deep, conv, kind = match.groups()
        down = side == "encoders"
        number = 2 * int(stage) + int(place) - (0 if down else 2)
        inner = f"resnet_block.{deep}.conv1d_{ {'1': 1, '3': 2}[conv]}." if deep else ""
        return f"{side}.{level}.level_blocks.{block}.{'down' if down else 'up'}sample_block.{number}.{inner}{kind}"
    return re.sub(r"\.k$", ".codebook", name)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights, biases and codes drawn anew; codes as vectors of the encoders, so that all of them are used."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter[0].numel() if parameter.ndim > 1 else 16
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(size))
        x = torch.randn(2, model.x_channels, 2048, generator=generator)
        for level, block in enumerate(model.bottleneck.level_blocks):
            rows = block.rows(model.latents(x, level))
            noise = torch.randn(block.k.shape, generator=generator)
            picked = torch.randint(len(rows), (block.k_bins,), generator=generator)
            block.k.copy_(rows[picked] + 0.1 * rows.std() * noise)
    return model.eval()


def peer_of(model: VQVAE, **config) -> JukeboxVQVAE:
    """transformers' network with the same weights."""
    peer = JukeboxVQVAE(JukeboxVQVAEConfig(**config)).eval()
    peer.load_state_dict({renamed(name): tensor for name, tensor in model.state_dict().items()})
    return peer


def noise(*shape, seed=1, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())


# ------------------------------------------------------------------------------------------------------------- parity

def test_the_published_network_is_the_default():
    model = VQVAE()
    state = model.state_dict()
    assert len(state) == 669 and sum(p.numel() for p in model.parameters()) == 1_485_763
    assert sum(b.numel() for b in model.buffers()) == 393_216 == 3 * 2048 * 64
    assert model.hop_lengths == [8, 32, 128] and model.l_bins == 2048 and model.levels == 3
    for name in ("encoders.2.level_blocks.1.model.0.0.weight", "decoders.0.out.bias", "bottleneck.level_blocks.2.k",
                 "encoders.0.level_blocks.0.model.2.1.model.7.model.3.bias",
                 "decoders.1.level_blocks.0.model.3.0.model.0.model.1.weight"):
        assert name in state
    dilations = lambda stack: [block.model[1].dilation[0] for block in stack.model]
    assert dilations(model.encoders[0].level_blocks[0].model[0][1]) == [3**d for d in range(8)]
    assert dilations(model.decoders[0].level_blocks[0].model[1][0]) == [3**d for d in range(8)][::-1]


@pytest.fixture(scope="module")
def published():
    model = randomised(VQVAE())
    return model, peer_of(model)


def test_codes_of_the_published_size_equal_the_peers(published):
    model, peer = published
    x = noise(1, 1, 8192)
    with torch.no_grad():
        ours, theirs = model.encode(x), peer.encode(x.mT)
    for level, (a, b) in enumerate(zip(ours, theirs)):
        assert a.shape == (1, 8192 // model.hop_lengths[level]) and a.dtype == torch.int64
        assert len(a.unique()) > 20
        assert float((a != b).float().mean()) <= 2e-3, level                  # ties in the last digit


@pytest.mark.parametrize("level", [0, 1, 2])
def test_decoders_and_latents_equal_the_peers(published, level):
    model, peer = published
    codes = torch.randint(0, 2048, (2, 4096 // model.hop_lengths[level]), generator=torch.Generator().manual_seed(3))
    x = noise(1, 1, 4096)
    with torch.no_grad():
        lower = [torch.zeros(2, 4, dtype=torch.long)] * (2 - level)
        close(model.decode(codes, level), peer.decode([codes, *lower], start_level=level).mT)
        close(model.latents(x, level), peer.encoders[level](x)[-1])


def test_intermediate_activations_and_gradients_equal_the_peers(published):
    model, peer = published
    x = noise(1, 1, 2048)
    for level in range(3):
        ours, theirs = model.encoders[level](x), peer.encoders[level](x)
        for a, b in zip(ours, theirs):
            close(a.detach(), b.detach())
        names = [f"encoders.{level}.level_blocks.0.model.{place}" for place in (
            "0.0.weight", "1.1.model.2.model.1.bias")]
        weights, peers = dict(model.named_parameters()), dict(peer.named_parameters())
        ours = torch.autograd.grad(ours[-1].square().mean(), [weights[name] for name in names])
        theirs = torch.autograd.grad(theirs[-1].square().mean(), [peers[renamed(name)] for name in names])
        for a, b in zip(ours, theirs):
            close(a, b, 1e-4)


def test_other_configurations_equal_the_peers():
    model = randomised(VQVAE(**RANDOM), 5)
    peer = peer_of(model, levels=2, res_downs_t=[2, 1], res_strides_t=[2, 4], embed_dim=5, nb_discrete_codes=8,
                   res_conv_width=4, res_conv_depth=3, multipliers=[1, 2], res_dilation_growth_rate=2,
                   res_dilation_cycle=2, hop_fraction=[0.5, 0.5])
    x = noise(3, 1, 480)
    with torch.no_grad():
        for level, (a, b) in enumerate(zip(model.encode(x), peer.encode(x.mT))):
            assert float((a != b).float().mean()) <= 5e-3
            lower = [b[:, :1]] * (1 - level)
            close(model.decode(b, level), peer.decode([b, *lower], start_level=level).mT)


def test_scaled_residuals_and_beginning_as_the_identity():
    net = Resnet1D(4, 3, res_scale=True)
    assert all(block.res_scale == pytest.approx(3**-0.5) for block in net.model)
    block, x = ResConv1DBlock(4, 4, zero_out=True), noise(1, 4, 32)
    assert torch.equal(block(x), x)


# ---------------------------------------------------------------------------------------------------------- codebooks

def test_nearest_is_what_comparing_all_gives():
    x, codes = noise(50, 7), noise(11, 7, seed=2)
    found, distance = nearest(x, codes, piece=16)
    full = (x[:, None] - codes).square().sum(-1)
    assert torch.equal(found, full.argmin(1))
    torch.testing.assert_close(distance, full.min(1).values, rtol=1e-4, atol=1e-4)


def test_running_means_equal_the_peers():
    """Two steps of a codebook whose codes all stay alive: codes, loss and straight-through gradient."""
    ours, theirs = BottleneckBlock(4, 3, 0.9, threshold=1e-9), JukeboxBottleneckBlock(
        JukeboxVQVAEConfig(nb_discrete_codes=4, embed_dim=3, lmu=0.9))
    ours.k.copy_(noise(4, 3)), ours.restore_k()
    theirs.codebook.copy_(ours.k)
    theirs.init, theirs.threshold = True, 1e-9
    theirs.codebook_sum, theirs.codebook_elem = ours.k.clone(), torch.ones(4)
    for seed in (2, 3):
        x = noise(2, 3, 40, seed=seed).requires_grad_()
        codes, quantised, commit, statistics = ours(x)
        (quantised.sum() * 0.1 + commit).backward()
        mine, x.grad = x.grad, None
        peer_codes, peer_quantised, peer_commit, metrics = theirs(x)
        (peer_quantised.sum() * 0.1 + peer_commit).backward()
        assert torch.equal(codes, peer_codes)
        for a, b in ((quantised, peer_quantised), (commit, peer_commit), (mine, x.grad), (ours.k, theirs.codebook)):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        for name in ("entropy", "usage", "dk", "fit"):
            assert float(statistics[name]) == pytest.approx(float(metrics[name]), rel=1e-4)
        assert float(statistics["used_curr"]) == (torch.bincount(codes.flatten(), minlength=4) > 0).sum()


def test_codes_begin_as_vectors_and_dead_ones_restart():
    torch.manual_seed(0)
    block = BottleneckBlock(8, 2, 0.5).train()
    x = noise(1, 2, 40)
    block(x)
    rows = {tuple(row) for row in block.rows(x).tolist()}
    block.k[0] = 1e4                                             # nothing is near it
    block.k_sum[0], block.k_elem[0] = 1e4, 0.9
    _, _, _, statistics = block(x)
    assert tuple(block.k[0].tolist()) in rows and float(statistics["usage"]) < 8
    block.threshold = 0.0
    block.k[0], block.k_sum[0], block.k_elem[0] = 1e4, 0.9e4, 0.9
    block(x)
    assert torch.allclose(block.k[0], torch.tensor(1e4))         # without restarts it stays where it was


def test_eval_mode_and_loaded_codes_stay():
    block = BottleneckBlock(8, 2, 0.9).eval()
    block.k.copy_(noise(8, 2))
    before = block.k.clone()
    block(noise(1, 2, 30))
    assert torch.equal(block.k, before)
    fresh = BottleneckBlock(8, 2, 0.9, threshold=1e-9)
    fresh.load_state_dict(block.state_dict())
    fresh.train()(noise(1, 2, 30))                               # does not begin anew: codes move by running means
    assert float((fresh.k - before).abs().max()) < 0.5 * float(before.abs().max()) and fresh.k_sum is not None
    empty = BottleneckBlock(8, 2, 0.9)
    empty.load_state_dict(BottleneckBlock(8, 2, 0.9).state_dict())
    assert empty.k_sum is None
    fresh.reset_k()
    assert not fresh.k.any() and fresh.k_sum is None


def test_random_rows_come_from_the_data():
    x = noise(5, 3)
    torch.manual_seed(0)
    assert len(random_rows(x, 5).unique(dim=0)) == 5
    more = random_rows(x, 12)
    assert more.shape == (12, 3) and float((more[:, None] - x).norm(dim=-1).min(1).values.max()) < 0.1


def _in_a_process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)
    block = BottleneckBlock(4, 2, 0.5, threshold=1e-9)
    block.k.copy_(noise(4, 2)), block.restore_k()
    block(noise(2, 2, 30)[rank:rank + 1])
    torch.save(block.k, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_count_what_one_would(tmp_path):
    torch.multiprocessing.spawn(_in_a_process, (str(tmp_path),), nprocs=2)
    block = BottleneckBlock(4, 2, 0.5, threshold=1e-9)
    block.k.copy_(noise(4, 2)), block.restore_k()
    block(noise(2, 2, 30))
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), block.k)


def test_mixed_precision_keeps_the_codebook_in_32_bits():
    torch.manual_seed(0)
    model = VQVAE(**SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        coded = model(noise(1, 1, 512))
    assert coded.commits[0].dtype == torch.float32 and model.bottleneck.level_blocks[0].k.dtype == torch.float32


# -------------------------------------------------------------------------------------------------------------- losses

def test_magnitudes_are_those_of_a_centred_window():
    x = noise(1, 1, 900, scale=0.1)
    frame, n_fft, hop, size = 3, 128, 40, 100
    window = torch.zeros(n_fft)
    window[14:114] = torch.hann_window(size)
    by_hand = torch.fft.rfft(x[0, 0, frame * hop - 64:frame * hop + 64] * window).abs()
    torch.testing.assert_close(magnitudes(x, n_fft, hop, size)[0, :, frame], by_hand, rtol=1e-4, atol=1e-5)


def test_losses_by_hand():
    x, y = noise(2, 1, 4096, scale=0.1), noise(2, 1, 4096, seed=2, scale=0.1)
    by_hand = [torch.stack([(magnitudes(x, *one)[i] - magnitudes(y, *one)[i]).square().sum().sqrt()
                            for one in RESOLUTIONS]).mean() for i in range(2)]
    torch.testing.assert_close(multispectral_loss(x, y), torch.stack(by_hand))
    errors = (x - y).square()[0, 0].sort(descending=True).values
    assert float(linf_loss(x, y, 5)[0]) == pytest.approx(float(errors[:5].mean()), rel=1e-5)
    assert float(linf_loss(x, y, 10**6)[0]) == pytest.approx(float(errors.mean()), rel=1e-5)
    assert torch.allclose(in_decibels(spectral_convergence(x, 0.9 * x)), torch.tensor(-20.0), atol=1e-2)
    assert torch.equal(spectral_convergence(x, 0 * x).round(decimals=4), torch.ones(2))
    assert torch.allclose(log_spectral_distance(x, 10 * x, 1e-9), torch.tensor(20.0), atol=1e-2)
    assert float(spectral_distance(x, -x, 512, 128, 512).max()) < 1e-3           # deaf to the sign


def test_bandwidth_makes_losses_independent_of_the_level():
    torch.manual_seed(0)
    x, model, step = noise(4, 1, 4096, scale=0.2), VQVAE(**SMALL).eval(), CodecStep(commit=0.0)
    losses = []
    for gain in (1.0, 0.01):
        model.bandwidth = bandwidth_of(gain * x)
        model.forward = lambda batch: Coded([0.5 * batch], [], [torch.zeros(())], [{}])
        losses.append(float(step(model, gain * x)["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert bandwidth_of(x)["l2"] == pytest.approx(float(x.var(unbiased=False)))
    with pytest.raises(ValueError, match="x has shape .* silent; expected chunks"):
        bandwidth_of(0 * x)


def test_silence_is_valid_audio():
    torch.manual_seed(0)
    model = VQVAE(**SMALL).train()
    model.bandwidth = {"l2": 0.01, "l1": 0.1, "spec": 30.0}
    losses = CodecStep()(model, torch.zeros(2, 1, 2048))
    losses["loss"].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    zeros = torch.zeros(1, 1, 4096, requires_grad=True)
    (multispectral_loss(torch.zeros(1, 1, 4096), zeros) + spectral_convergence(zeros.detach(), zeros)).sum().backward()
    assert zeros.grad.isfinite().all()
    assert float(log_spectral_distance(zeros.detach(), zeros)) == 0.0


def test_the_step_is_the_sum_of_its_terms():
    torch.manual_seed(0)
    model, x = VQVAE(**SMALL).eval(), noise(2, 1, 2048, scale=0.1)
    with pytest.raises(ValueError, match="bandwidth of the model is not set"):
        CodecStep()(model, x)
    measure_bandwidth(model, x, chunks=2)
    for block in model.bottleneck.level_blocks:
        block.k.copy_(noise(*block.k.shape))
    size, coded, rows = model.bandwidth, model(x), CodecStep()(model, x)
    expected = 0.02 * sum(coded.commits)
    for y in coded.outputs:
        expected = expected + (x - y).square().mean() / size["l2"] + 0.02 * linf_loss(x, y).mean() / size["l2"]
        expected = expected + multispectral_loss(x, y).mean() / size["spec"]
    assert float(rows["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(CodecStep(spectral=0)(model, x)["spec"]) == 0


def test_downmix_is_a_weighted_mean_of_the_channels():
    stereo = noise(50, 2, 100)
    mono = random_downmix(stereo, torch.Generator().manual_seed(0))
    a = ((mono[:, 0] - stereo[:, 1]) / (stereo[:, 0] - stereo[:, 1])).median(-1).values
    assert mono.shape == (50, 1, 100) and 0 <= a.min() < 0.2 and 0.8 < a.max() <= 1
    assert torch.equal(mono, random_downmix(stereo, torch.Generator().manual_seed(0)))
    assert torch.equal(random_downmix(stereo[:, :1]), stereo[:, :1])
    with pytest.raises(ValueError, match="stereo has shape"):
        random_downmix(noise(2, 3, 10))


# ------------------------------------------------------------------------------------------------------------ training

def trained(folder, steps, seed=0):
    torch.manual_seed(seed)
    model = VQVAE(**SMALL)
    model.bandwidth = {"l2": 0.01, "l1": 0.1, "spec": 10.0}
    batches = lambda start: (noise(2, 1, 2048, seed=number, scale=0.1) for number in range(start, 100))
    history = fit(model, CodecStep(), batches, torch.optim.Adam(model.parameters(), 1e-3),
                  FitSettings(steps, checkpoint_every=2), parts=[codebook_part(model)], folder=folder, progress=False)
    return model, history


def test_training_goes_on_where_it_stopped(tmp_path):
    straight, history = trained(tmp_path / "a", 6)
    trained(tmp_path / "b", 4)
    resumed, _ = trained(tmp_path / "b", 6)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert {"recons", "spec", "commit", "usage_0", "entropy_2"} <= set(history.steps[0])
    ours, theirs = CodebookState(straight).state_dict(), CodebookState(resumed).state_dict()
    assert all(torch.equal(a, b) for level in ours for a, b in zip(ours[level], theirs[level]))


def test_one_hierarchical_autoencoder():
    torch.manual_seed(0)
    model, x = HierarchicalVQVAE(**SMALL), noise(2, 1, 512, scale=0.1)
    coded = model(x)
    assert len(coded.outputs) == 1 and coded.outputs[0].shape == x.shape
    assert [codes.shape[1] for codes in coded.codes] == [64, 16, 4]
    model.eval()
    assert not torch.equal(model(x, without=(2,)).outputs[0], model(x).outputs[0])
    with pytest.raises(ValueError, match="xs has 1 tensors; expected 3"):
        model.decoder([noise(1, 6, 4)])


def test_residual_quantiser_halves_what_is_left():
    x = noise(600, 4)
    quantiser = ResidualQuantiser.fit(x, stages=3, codes=16, seed=0)
    codes = quantiser.encode(x)
    assert codes.shape == (600, 3) and codes.max() < 16
    errors = [float((x - quantiser.decode(codes, stages)).square().mean()) for stages in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] == pytest.approx(float(nearest(x, quantiser.codebooks[0])[1].mean()) / 4, rel=1e-3)
    assert torch.equal(Codebook.rows(x.T[None]), x)
    heaps = torch.cat([noise(50, 2, scale=0.01), 5 + noise(50, 2, scale=0.01)])
    centres = ResidualQuantiser.fit(heaps, stages=1, codes=2, seed=0).codebooks[0]
    assert sorted(round(float(c.mean())) for c in centres) == [0, 5]
    with pytest.raises(ValueError, match="at least as many vectors as codes"):
        ResidualQuantiser.fit(noise(10, 2), stages=1, codes=16)


# --------------------------------------------------------------------------------------------------------- bad input

@pytest.mark.parametrize("x, message", [
    (torch.zeros(1, 1, 100), "100 samples; expected a multiple of 128"),
    (torch.zeros(1, 1, 0), "0 samples"),
    (torch.zeros(1, 2, 128), r"expected float audio \(batch, 1, time\)"),
    (torch.zeros(1, 128), "expected float audio"),
    (torch.zeros(1, 1, 128, dtype=torch.long), "expected float audio"),
])
def test_bad_audio_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**SMALL).encode(x)


@pytest.mark.parametrize("codes, level, message", [
    (torch.zeros(1, 4), 0, "expected whole numbers"),
    (torch.zeros(4, dtype=torch.long), 0, "expected whole numbers"),
    (torch.zeros(1, 0, dtype=torch.long), 0, "at least one"),
    (torch.full((1, 4), 16), 1, "codes go from 16 to 16; expected 0 to 15"),
    (torch.zeros(1, 4, dtype=torch.long), 3, r"level is 3; expected 0 \(hop 8\) to 2 \(hop 128\)"),
])
def test_bad_codes_are_named(codes, level, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**SMALL).decode(codes, level)


def test_bad_sizes_are_named_and_audio_is_padded():
    with pytest.raises(ValueError, match=r"multipliers is \(2, 1\); expected one number for each of 3 levels"):
        VQVAE(multipliers=(2, 1))
    assert to_hops(torch.ones(1, 1, 130)).shape[-1] == 256
    assert torch.equal(to_hops(torch.ones(1, 128)), torch.ones(1, 128))
    model = randomised(VQVAE(**SMALL))
    with torch.no_grad():
        codes = model.encode(to_hops(noise(1, 1, 1000)))
        assert [code.shape[1] for code in codes] == [128, 32, 8]
        assert model.decode(codes[1], 1).shape == (1, 1, 1024)
    assert len(Bottleneck(4, 2, 0.9, 2).level_blocks) == 2
    with pytest.raises(ValueError, match="x has 512 samples; expected more than half a frame of 2048"):
        multispectral_loss(noise(1, 1, 512), noise(1, 1, 512))


# ----------------------------------------------------------------------------------------------------- official files

def checkpoint(path, model, old=False, prefix="", **extras):
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    content = {"hps": {"levels": 3, "width": 32, "lr": 0.0003}, "model": state, "opt": None, "step": 384000, **extras}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@pytest.mark.parametrize("old, prefix", [(True, ""), (False, "module.")])
def test_a_checkpoint_of_the_official_layout(published, tmp_path, old, prefix):
    """Files before zip, which the published one is, and later ones; names as one GPU or several write them."""
    model, _ = published
    read = load_official(checkpoint(tmp_path / "vqvae.pth.tar", model, old, prefix))
    assert not read.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name])


def test_it_is_fetched_from_the_publishers_folder(published, tmp_path, monkeypatch):
    assert PUBLISHED_WEIGHTS["jukebox"].address("vqvae") == (
        "https://openaipublic.azureedge.net/jukebox/models/5b/vqvae.pth.tar")
    assert "non-commercial" in PUBLISHED_WEIGHTS["jukebox"].licence
    served = tmp_path / "served" / "jukebox"
    served.mkdir(parents=True)
    checkpoint(served / "vqvae.pth.tar", published[0], old=True)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=served.parent)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setenv("COURSE_WEIGHTS_URL", f"http://127.0.0.1:{httpd.server_address[1]}")
    monkeypatch.delenv("COURSE_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    try:
        model = load_official()
    finally:
        httpd.shutdown()
        httpd.server_close()
    assert torch.equal(model.decoders[1].out.weight, published[0].decoders[1].out.weight)


class Forged:
    def __reduce__(self):
        return print, ("code was run",)


def test_other_files_are_refused(published, tmp_path, capsys):
    model = published[0]
    with pytest.raises(AsksForCode, match="vqvae.pth.tar can't be read .* Expected a checkpoint of Jukebox"):
        load_official(checkpoint(tmp_path / "vqvae.pth.tar", model, step=Forged()))
    assert "code was run" not in capsys.readouterr().out
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="bare.pth holds .* without 'model'"):
        load_official(tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="does not fit VQVAE"):
        load_official(checkpoint(tmp_path / "small.pth.tar", VQVAE(**SMALL)))
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_official(tmp_path / "absent.pth.tar")
