"""Chapter 8's module: equality with the package demucs, the transformer's parts by hand, lengths, errors and edges."""

import math
import random
import re
from fractions import Fraction

import demucs.htdemucs
import demucs.transformer
import pytest
import torch
from torch import nn

from course_lib.data import STEMS
from course_lib.demucs import separate
from course_lib.htdemucs import (
    CrossAttentionLayer,
    CrossTransformerEncoder,
    HTDemucs,
    MultiheadAttention,
    SelfAttentionLayer,
    TokenGroupNorm,
    cape_positions,
    sin_positions,
    sin_positions_2d,
)

SMALL = dict(sources=["a", "b", "c"], channels=4, nfft=2048, depth=4, dconv_comp=1, dconv_init=0.3, t_heads=4,
             t_layers=3, segment=Fraction(4100, 44100))
OPTIONS = [
    dict(),
    dict(audio_channels=1),
    dict(depth=3),
    dict(depth=3, stride=2, kernel_size=4, nfft=512),
    dict(growth=3, t_heads=3, depth=3, t_layers=1),
    dict(nfft=4096),
    dict(cac=False),
    dict(cac=False, wiener_iters=-1, end_iters=-1),
    dict(multi_freqs=[0.25, 0.5], multi_freqs_depth=2),
    dict(multi_freqs=[0.3], dconv_mode=3),
    dict(freq_emb=0),
    dict(freq_emb=0.7, emb_scale=3, emb_smooth=False),
    dict(context=2, context_enc=1),
    dict(rewrite=False),
    dict(norm_starts=1, norm_groups=2),
    dict(dconv_mode=0),
    dict(dconv_mode=3),
    dict(dconv_mode=2, dconv_depth=3),
    dict(bottom_channels=24, t_heads=2),
    dict(bottom_channels=24, t_layers=0),
    dict(t_layers=0),
    dict(t_layers=1),
    dict(t_layers=4),
    dict(t_cross_first=True),
    dict(t_emb="cape"),
    dict(t_emb="cape", t_cape_mean_normalize=False),
    dict(t_emb="scaled", t_max_positions=99),
    dict(t_hidden_scale=1.5),
    dict(t_norm_in=False),
    dict(t_norm_in=False, t_norm_in_group=True),
    dict(t_group_norm=1),
    dict(t_group_norm=4, t_norm_out=False),
    dict(t_norm_first=False),
    dict(t_norm_first=False, t_group_norm=2, t_layer_scale=False),
    dict(t_norm_out=False),
    dict(t_layer_scale=False),
    dict(t_gelu=False),
    dict(t_max_period=100.0, t_weight_pos_embed=0.3),
    dict(t_dropout=0.3),                       # nothing in eval mode
    dict(rescale=0),
    dict(use_train_segment=False),
]
RELEASED = {
    "default": (dict(sources=list(STEMS)), 26_899_536),
    "htdemucs": (dict(sources=list(STEMS), bottom_channels=512, dconv_mode=3, t_dropout=0.02,
                      segment=Fraction(39, 5)), 41_984_456),
    "htdemucs_6s": (dict(sources=[*STEMS, "guitar", "piano"], dconv_mode=3, t_dropout=0.02, segment=Fraction(39, 5)),
                    27_414_996),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model: nn.Module, seed=0) -> nn.Module:
    """Scales, norms and biases away from their starting values, which hide mistakes: at first the layers' scales of
    1e-4 hide the whole transformer."""
    values = generator(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1:
                centre = 0.3 if "scale" in name else 1.0 if "norm" in name and name.endswith("weight") else 0.0
                tensor.copy_(centre + 0.2 * torch.randn(tensor.shape, generator=values))
    return model.eval()


def pair_of(**options) -> tuple[HTDemucs, nn.Module]:
    torch.manual_seed(0)
    official = shaken(demucs.htdemucs.HTDemucs(**options))
    ours = HTDemucs(**options).eval()
    ours.load_state_dict(official.state_dict(), strict=True)
    official.load_state_dict(ours.state_dict(), strict=True)
    return ours, official


def mixture(channels=2, time=4096, batch=2, dtype=torch.float32):
    return 0.2 * torch.randn(batch, channels, time, generator=generator(1), dtype=torch.float64).to(dtype)


def relative(ours, theirs) -> float:
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))


def activations(model: nn.Module, x) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and what every layer gave, by the layer's name."""
    seen, handles = {}, []
    for name, layer in model.named_modules():
        if name and not isinstance(layer, (nn.ModuleList, nn.Dropout, nn.Identity)):
            handles.append(layer.register_forward_hook(lambda _layer, _x, y, name=name: seen.update(
                {name: (y[0] if isinstance(y, tuple) else y).detach().clone()})))
    y = model(x)
    for handle in handles:
        handle.remove()
    return y, seen


def check_equal(ours, official, x, bar=1e-5):
    """Output, activations and gradients agree."""
    (y, own), (z, other) = activations(ours, x), activations(official, x)
    assert y.shape == z.shape and relative(y, z) < bar
    common = set(own) & set(other)
    # residual branches, transformer layers and what scales them are added in one pass here: their sum is compared
    apart = [name for name in other if not re.search(r"dconv\.layers\.\d+(\.\d+)?$|gamma_\d$", name) or name in own]
    assert len(common) > 0.8 * len(apart)
    if ours.crosstransformer is not None:
        kinds = {name.rsplit(".", 1)[-1] for name in common}
        assert kinds >= {"self_attn" if "self_attn" in str(ours) else "cross_attn", "linear2", "crosstransformer"}
    for name in common:
        theirs = other[name]
        if name.endswith("conv_tr"):                       # may have left out its margins, where demucs cuts them later
            for axis, (size, whole) in enumerate(zip(own[name].shape, theirs.shape)):
                theirs = theirs.narrow(axis, (whole - size) // 2, size)
        if own[name].shape == theirs.shape:                # of bands: padded outside in one, inside in the other
            assert relative(own[name], theirs) < bar, name
    check_gradients(ours, y, official, z, bar, floor=1e-3)


def check_gradients(ours, y, official, z, bar=1e-5, floor=1e-3):
    """Gradients of the same loss of outputs y and z agree, each by its own size or, where it is less, by `floor` of the
    largest one's: in 32 bits small ones are sums whose terms nearly cancel, and those of a bias before a norm are 0.
    """
    loss = lambda y: (y * torch.linspace(0.5, 1.5, y.shape[-1], dtype=y.dtype)).square().mean()
    loss(y).backward()
    loss(z).backward()
    theirs = dict(official.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in theirs.values() if p.grad is not None)
    for name, parameter in ours.named_parameters():
        grad = theirs[name].grad
        if grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        assert (parameter.grad - grad).abs().max() <= bar * max(floor * largest, float(grad.abs().max())), name


def check_exact_gradients(ours, official, x, floor=1e-7):
    """Gradients in 64 bits: even one of a ten-millionth of the largest agrees by its own size."""
    for model in (ours.double(), official.double()):
        model.zero_grad()
    check_gradients(ours, ours(x.double()), official, official(x.double()), floor=floor)


# --- equality with the package demucs --------------------------------------------------------------------------------

@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_to_demucs(options):
    options = {**SMALL, **options}
    ours, official = pair_of(**options)
    x = mixture(options.get("audio_channels", 2))
    check_equal(ours, official, x)
    # both compute positions in 32 bits: their rounding shows in the bands' biases, a millionth of the largest gradient
    check_exact_gradients(ours, official, x, floor=1e-3 if "multi_freqs" in options else 1e-7)


@pytest.mark.parametrize("release", RELEASED)
def test_released_configurations_equal_demucs(release):
    options, count = RELEASED[release]
    ours, official = pair_of(**options)
    assert sum(p.numel() for p in ours.parameters()) == count
    ours.segment = official.segment = Fraction(1, 4)       # the length alone: for gradients
    check_equal(ours, official, mixture(time=8_000, batch=1))


def test_a_whole_released_segment_equals_demucs():
    """7.8 s, where there are 336 frames and 2688 tokens: the output, in a few seconds and without gradients."""
    ours, official = pair_of(**RELEASED["htdemucs"][0])
    x = mixture(time=343_980, batch=1)
    with torch.no_grad():
        assert relative(ours(x), official(x)) < 1e-5


@pytest.mark.parametrize("time", [1, 2, 255, 256, 1023, 1024, 1025, 3000])
def test_equal_for_every_length(time):
    ours, official = pair_of(**SMALL, use_train_segment=False)
    with torch.no_grad():
        y = ours(mixture(time=time))
        assert y.shape == (2, 3, 2, time)
        if time >= 3:                                      # demucs gives NaN for one sample, and fails at a few
            assert relative(y, official(mixture(time=time))) < 1e-5
        assert y.isfinite().all()


def test_equal_in_training_mode_and_segments_kept():
    options = dict(SMALL, t_emb="sin", t_dropout=0.0)
    ours, official = (model.train() for model in pair_of(**options))
    with torch.no_grad():
        assert relative(ours(mixture(time=3333)), official(mixture(time=3333))) < 1e-5
    assert ours.segment == official.segment == Fraction(3333, 44100)
    ours.eval()
    assert ours.valid_length(1000) == 3333
    with pytest.raises(ValueError, match="3334 samples; this network takes at most a segment of 3333"):
        ours(mixture(time=3334))


def test_short_mixtures_are_padded_to_the_segment():
    ours, official = pair_of(**SMALL)
    with torch.no_grad():
        y = ours(mixture(time=1200))
        assert relative(y, official(mixture(time=1200))) < 1e-5
        whole = ours(torch.nn.functional.pad(mixture(time=1200), (0, 2900)))
        assert torch.equal(y, whole[..., :1200])
        assert separate(ours, mixture(time=1200)[0]).shape == (3, 2, 1200)


def test_dropout_and_random_positions_draw_in_training_only():
    ours, _ = pair_of(**SMALL)
    noisy = HTDemucs(**{**SMALL, "t_dropout": 0.5})
    noisy.load_state_dict(ours.state_dict())
    x = mixture()
    with torch.no_grad():
        plain = noisy.eval()(x)
        assert torch.equal(plain, noisy(x)) and relative(plain, ours(x)) < 1e-6
        noisy.train()
        torch.manual_seed(0)
        first = noisy(x)
        torch.manual_seed(0)
        assert torch.equal(first, noisy(x)) and relative(first, plain) > 1e-3
    shifting = CrossTransformerEncoder(16, num_heads=2, num_layers=1, sin_random_shift=50)
    random.seed(1)
    one, two = shifting.positions(torch.zeros(1, 9, 16)), shifting.positions(torch.zeros(1, 9, 16))
    assert not torch.equal(one, two) and one.shape == (1, 9, 16)


def test_silence_and_gradients_stay_finite():
    ours, official = pair_of(**SMALL)
    silence = ours(torch.zeros(1, 2, 3000))
    assert silence.isfinite().all() and silence.abs().max() < 1e-2
    assert torch.allclose(silence, official(torch.zeros(1, 2, 3000)), atol=1e-6)
    silence.abs().mean().backward()
    assert all(p.grad.isfinite().all() for p in ours.parameters() if p.grad is not None)


def test_equal_in_float64():
    ours, official = (model.double() for model in pair_of(**SMALL))
    with torch.no_grad():                                  # positions are computed in 32 bits by both
        assert relative(ours(mixture(dtype=torch.float64)), official(mixture(dtype=torch.float64))) < 1e-6


def test_branches_may_have_unequal_hops():
    """HDemucs needs one step of the time branch a hop; the transformer doesn't care."""
    for stride, nfft in ((4, 2048), (2, 512), (2, 4096)):
        model = HTDemucs(["a"], 1, 4, nfft=nfft, depth=3, kernel_size=2 * stride, stride=stride, t_heads=2,
                         dconv_comp=1, use_train_segment=False).eval()
        assert model(mixture(1, 3000, 1)).shape == (1, 1, 1, 3000)


# --- the parts -------------------------------------------------------------------------------------------------------

def test_attention_by_hand_and_equal_to_torch():
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    ours = MultiheadAttention(12, 3)
    nn.init.normal_(theirs.in_proj_bias)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, other = torch.randn(2, 5, 12), torch.randn(2, 7, 12)
    assert relative(ours(x), theirs(x, x, x)[0]) < 1e-5
    assert relative(ours(x, other), theirs(x, other, other)[0]) < 1e-5
    with torch.no_grad():                                  # query 1, head 2 of item 0
        W, b = ours.in_proj_weight, ours.in_proj_bias
        q, k, v = (other_or_x @ W[i:i + 12].T + b[i:i + 12] for other_or_x, i in ((x[0], 0), (x[0], 12), (x[0], 24)))
        weights = torch.softmax(q[1, 8:] @ k[:, 8:].T / 2, 0)
        heads = ours.heads(x, 0, 2)
        assert torch.allclose(heads[2][0, 2], v[:, 8:], atol=1e-6)
        by_hand = weights @ v[:, 8:]
        out = torch.nn.functional.scaled_dot_product_attention(*heads)[0, 2, 1]
        assert torch.allclose(by_hand, out, atol=1e-6)
    one = ours(x[:, :1])
    assert one.shape == (2, 1, 12)
    with pytest.raises(ValueError, match="embed_dim is 12 and num_heads 5"):
        MultiheadAttention(12, 5)


@pytest.mark.parametrize("length,dim,period,shift",
                         [(1, 4, 1e4, 0), (50, 16, 1e4, 0), (1500, 384, 1e4, 0), (9, 6, 7.0, 3)])
def test_positions_in_time(length, dim, period, shift):
    theirs = demucs.transformer.create_sin_embedding(length, dim, shift=shift, max_period=period)[:, 0]
    assert (sin_positions(length, dim, period, shift) - theirs).abs().max() < 1e-6
    half = dim // 2
    expected = math.cos((length - 1 + shift) / period ** ((half - 1) / (half - 1)))
    assert abs(float(sin_positions(length, dim, period, shift)[-1, half - 1]) - expected) < 1e-5


@pytest.mark.parametrize("dim,bins,frames", [(4, 1, 1), (16, 8, 5), (384, 8, 336)])
def test_positions_in_spectrograms(dim, bins, frames):
    theirs = demucs.transformer.create_2d_sin_embedding(dim, bins, frames)[0]
    ours = sin_positions_2d(dim, bins, frames)
    assert ours.shape == (dim, bins, frames) and (ours - theirs).abs().max() < 1e-6
    assert (ours[:dim // 2] == ours[:dim // 2, :1]).all() and (ours[dim // 2:] == ours[dim // 2:, :, :1]).all()


def test_bad_positions():
    for dim in (2, 5):
        with pytest.raises(ValueError, match=f"dim is {dim}"):
            sin_positions(3, dim)
    with pytest.raises(ValueError, match="dim is 6"):
        sin_positions_2d(6, 2, 2)


def test_moved_positions():
    still = cape_positions(7, 8, 2)
    assert still.shape == (2, 7, 8) and torch.equal(still[0], still[1])
    assert torch.allclose(still[0, 3], torch.tensor([1.0] * 4 + [0.0] * 4))            # the middle is place 0
    torch.manual_seed(0)
    moved = cape_positions(7, 8, 2, moves=(100.0, 0.0, 1.0))
    assert not torch.equal(moved[0], moved[1])
    torch.manual_seed(0)
    assert torch.equal(moved, cape_positions(7, 8, 2, moves=(100.0, 0.0, 1.0)))
    assert torch.allclose(cape_positions(7, 8, 1, moves=(0.0, 0.0, 1.0))[0], still[0], atol=1e-6)
    with_mean = demucs.transformer.create_sin_embedding_cape(7, 8, 2, True, False).transpose(0, 1)
    assert (still - with_mean).abs().max() < 1e-6


def test_norm_over_all_tokens():
    torch.manual_seed(0)
    for groups in (1, 2):
        ours, theirs = TokenGroupNorm(groups, 6), demucs.transformer.MyGroupNorm(groups, 6)
        nn.init.normal_(ours.weight)
        nn.init.normal_(ours.bias)
        theirs.load_state_dict(ours.state_dict())
        x = 5 + 3 * torch.randn(2, 9, 6)
        assert relative(ours(x), theirs(x)) < 1e-5
    plain = TokenGroupNorm(1, 6)(x)
    assert plain.mean((1, 2)).abs().max() < 1e-5 and (plain.std((1, 2), unbiased=False) - 1).abs().max() < 1e-3


@pytest.mark.parametrize("kind", [SelfAttentionLayer, CrossAttentionLayer])
def test_a_layer_begins_as_nearly_nothing(kind):
    """Layer scale: at first a layer hands on its input (but for the norm that comes last, left out here)."""
    torch.manual_seed(0)
    layer = kind(16, 4, 32, 0.0, norm_first=True, layer_scale=True)
    x = torch.randn(2, 5, 16)
    assert (layer(x, torch.randn(2, 3, 16)) - x).abs().max() < 1e-2
    assert set(dict(layer.named_parameters())) > {"gamma_1.scale", "norm1.weight", "linear2.bias"}


def test_both_branches_listen_to_what_was_before():
    torch.manual_seed(0)
    encoder = shaken(CrossTransformerEncoder(16, num_heads=2, num_layers=1, cross_first=True))
    x, xt = torch.randn(1, 16, 2, 3), torch.randn(1, 16, 5)
    with torch.no_grad():
        _, late = encoder(x, xt)
        encoder.layers[0].linear2.weight.zero_()           # another update of the spectrogram's tokens
        _, again = encoder(x, xt)
    assert torch.equal(late, again)


# --- errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options,message", [
    (dict(depth=6), "less than two bins"),
    (dict(wiener_iters=1), "wiener_iters is 1 and end_iters 0"),
    (dict(channels_time=24), "channels is 48 and channels_time 24"),
    (dict(t_sparse_self_attn=True), "chapter 8b"),
    (dict(t_emb="best"), "emb is 'best'"),
    (dict(t_heads=5), "num_heads 5"),
    (dict(nfft=30), "nfft is 30"),
])
def test_arguments_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        HTDemucs(list(STEMS), **options)


@pytest.mark.parametrize("shape", [(2, 100), (1, 3, 100), (1, 2, 0)])
@pytest.mark.parametrize("training", [False, True])
def test_mixtures_of_another_shape(shape, training):
    model = HTDemucs(["a"], channels=8, nfft=2048, t_heads=2).train(training)
    with pytest.raises(ValueError, match="expected \\(batch, channel, time\\)"):
        model(torch.zeros(shape))
    assert model.segment == 10
