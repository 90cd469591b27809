"""Chapter 18's module: equality with BS-RoFormer and the official SCNet, parts by hand, lengths, errors and edges."""

import numpy as np
import pytest
import torch

from course_lib.band_split import (
    BandSplit,
    BSRoformer,
    LinearAttention,
    MaskEstimator,
    MelBandRoformer,
    RotaryEmbedding,
    SCNet,
    StemNetwork,
    doubly_stochastic,
    edges_of,
    equal_widths,
    mel_bands,
    musical_widths,
    rotary_angles,
    rotated,
)
from course_lib.separating import separate
from tests.references.band_split import CONFIGURATIONS, FILE, answers, filled

KINDS = {"BSRoformer": BSRoformer, "MelBandRoformer": MelBandRoformer, "SCNet": SCNet}
SMALL = dict(dim=8, depth=1, heads=2, dim_head=4, stft_n_fft=64, stft_win_length=64, stft_hop_length=16,
             num_residual_streams=1)
BANDS = dict(freqs_per_bands=(5, 10, 18), **SMALL)


@pytest.fixture(scope="module")
def references() -> dict[str, np.ndarray]:
    return dict(np.load(FILE))


def relative(ours, theirs) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_equal_to_the_published_code(name, references):
    kind, options, length = CONFIGURATIONS[name]
    found = answers(filled(KINDS[kind](**options), 0), length)
    assert {f"{name} {what}" for what in found} == {known for known in references if known.rpartition(" ")[0] == name}
    for what, values in found.items():
        theirs = references[f"{name} {what}"]
        assert values.shape == theirs.shape, what
        # gradients go through norms of tiny vectors: rounding is magnified; a wrong term would be of order 1
        assert relative(values, theirs) < (1e-3 if what == "gradients" else 1e-5), what


def test_the_published_size(references):
    with torch.device("meta"):
        ours = sum(p.numel() for p in SCNet().parameters())
    assert ours == int(references["official scnet parameters"]) == 10_578_768


def test_splits_hold_all_bins():
    for rate, n_fft in ((22_050, 1024), (44_100, 2048), (44_100, 4096), (16_000, 1024), (48_000, 2048)):
        widths = musical_widths(rate, n_fft)
        assert sum(widths) == n_fft // 2 + 1 and min(widths) >= 1
        assert edges_of(widths)[-1][1] == n_fft // 2 + 1
    first = musical_widths(44_100, 2048)
    assert len(first) == 41 or len(first) == 42 and first[-1] < 100
    assert equal_widths(10, 3) == (3, 4, 3) and equal_widths(5, 5) == (1,) * 5


@pytest.mark.filterwarnings("ignore:Empty filters")
@pytest.mark.parametrize("call, words", [
    (lambda: edges_of((2, 0)), "widths is"),
    (lambda: edges_of(()), "widths is"),
    (lambda: equal_widths(4, 5), "bands is 5"),
    (lambda: musical_widths(44_100, 256), "n_fft is 256"),
    (lambda: mel_bands(44_100, 256, 100), "100 mel bands"),
    (lambda: RotaryEmbedding(5), "dim is 5"),
    (lambda: BSRoformer(**{**BANDS, "freqs_per_bands": (5, 10)}), "2 bands of 15 bins"),
    (lambda: BSRoformer(**{**BANDS, "freq_range": (10, 5)}), "from 10"),
    (lambda: BSRoformer(**BANDS, use_pope=True), "use_pope is True"),
    (lambda: MelBandRoformer(num_bands=6, sample_rate=8000, **SMALL, num_residual_fracs=2), "num_residual_fracs 2"),
    (lambda: BSRoformer(**BANDS)(torch.zeros(1, 2, 100)), "1 channels"),
    (lambda: BSRoformer(**BANDS)(torch.zeros(1, 1, 32)), "more than 32"),
    (lambda: BSRoformer(**BANDS)(torch.zeros(1, 1, 320), torch.zeros(1, 3, 1, 320)), "target has shape"),
    (lambda: SCNet(audio_channels=1), "dims begins with 4"),
    (lambda: SCNet(num_dplayer=3), "num_dplayer is 3"),
    (lambda: SCNet()(torch.zeros(1, 1, 100)), "2 channels"),
    (lambda: StemNetwork("Demucs"), "network is 'Demucs'"),
])
def test_errors_say_what_was_expected(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_each_bin_is_in_one_or_two_mel_bands():
    inside = mel_bands(22_050, 2048, 34)
    assert inside.shape == (34, 1025) and set(inside.sum(0).tolist()) == {1, 2}
    assert inside[0, 0] and inside[-1, -1]


def test_rotary_is_relative_and_a_rotation():
    rotary, generator = RotaryEmbedding(8), torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 5, 8, generator=generator)
    later = rotary_angles(1005, rotary.freqs)[1000:]
    here = rotary(q) @ rotary(k).T
    assert torch.allclose(here, rotated(q, later) @ rotated(k, later).T, atol=2e-3)
    assert torch.allclose(rotary(q).norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    assert not rotary.freqs.requires_grad and torch.equal(rotary(q)[0], q[0])


def test_bands_have_weights_of_their_own():
    torch.manual_seed(0)
    split, masks = BandSplit(4, (2, 6)), MaskEstimator(4, (2, 6), 2)
    x = torch.randn(1, 3, 8)
    other = x.clone()
    other[..., :2] += torch.randn(1, 3, 2)
    moved = (split(x) - split(other)).abs().amax((0, 1, 3)) > 1e-6
    assert moved.tolist() == [True, False] and masks(split(x)).shape == (1, 3, 8)
    assert torch.allclose(split(1000 * x), split(x), atol=1e-5)


def test_linear_attention_costs_the_same_for_any_order():
    torch.manual_seed(0)
    layer, x = LinearAttention(8, 4, 2), torch.randn(2, 9, 8)
    assert torch.allclose(layer(x.flip(1))[0], layer(x)[0].flip(1), atol=1e-5)


def test_doubly_stochastic():
    x = doubly_stochastic(3 * torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0)), 100)
    assert torch.allclose(x.sum(-1), torch.ones(5, 4), atol=1e-4)
    assert torch.allclose(x.sum(-2), torch.ones(5, 4), atol=1e-2)


def test_a_silent_mask_makes_silence_and_the_level_goes_through():
    torch.manual_seed(0)
    network = BSRoformer(**BANDS, num_stems=2).eval()
    x = 0.1 * torch.randn(1, 1, 320, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(network(5 * x), 5 * network(x), atol=1e-5)
        assert not network(torch.zeros_like(x)).any()
        assert torch.allclose(network(x[:, 0]), network(x))                  # (batch, time) of one channel


def test_gradients_are_finite_on_silence():
    torch.manual_seed(0)
    for network in (BSRoformer(**BANDS), MelBandRoformer(num_bands=6, sample_rate=8000, **SMALL),
                    SCNet(audio_channels=1, dims=(2, 4, 4), nfft=64, hop_size=16, win_size=64, num_dplayer=2)):
        y = network(torch.zeros(1, 1, 320))
        (y - 0.1).square().mean().backward()
        assert not y.any() if not isinstance(network, SCNet) else y.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("kind, options", [
    ("BSRoformer", BANDS),
    ("MelBandRoformer", dict(num_bands=6, sample_rate=8000, **SMALL)),
    ("SCNet", dict(audio_channels=1, dims=(2, 4, 4), nfft=64, hop_size=16, win_size=64, num_dplayer=2)),
])
def test_any_length_and_chapter_9(kind, options):
    torch.manual_seed(0)
    model = StemNetwork(kind, ("a", "b"), samplerate=800, segment=0.5, **options).eval()
    x = 0.1 * torch.randn(1, 1, 1000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for length in (1, 33, 400, 641):
            assert model(x[..., :length]).shape == (1, 2, 1, length)
        assert torch.allclose(model(3 * x), 3 * model(x), atol=1e-4)
        assert not model(torch.zeros(1, 1, 100)).any() or kind == "SCNet"
    y = separate(model, x[0])
    assert y.shape == (2, 1, 1000) and y.isfinite().all()
    assert isinstance(model, StemNetwork) and model.sources == ("a", "b")


def test_weights_go_through_a_file(tmp_path):
    from course_lib.training import load_weights, save_weights

    torch.manual_seed(0)
    first, second = (StemNetwork("BSRoformer", ("a", "b"), **BANDS).eval() for _ in range(2))
    card = dict.fromkeys(("what", "trained_on", "steps", "seed", "command", "machine", "score"), "")
    load_weights(save_weights(tmp_path / "one.safetensors", first, card), second)
    x = 0.1 * torch.randn(1, 1, 320, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert torch.equal(first(x), second(x))

