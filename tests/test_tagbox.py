"""Chapter 14's module: masks against another construction, words, losses by loops, batches against single songs, codes,
bad input; the command's pieces."""

import numpy as np
import pytest
import scipy.signal
import torch

from course_lib.jukebox import VQVAE
from course_lib.steering_command import pieces_of, steer_song
from course_lib.tagbox import (
    CODES,
    Quantiser,
    masked_audio,
    peaks_of,
    spectral_mask,
    steer,
    tagging_losses,
    tags_of,
    target_of,
    words_for,
)
from course_lib.taggers import FCN, JAMENDO_TAGS, MTAT_TAGS

RATE = 16_000


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    model = VQVAE(levels=2, downs_t=(1, 1), strides_t=(8, 4), emb_width=8, l_bins=32, multipliers=(1, 1), width=8,
                  depth=1)
    for block in model.bottleneck.level_blocks:
        block.k.copy_(0.3 * torch.randn(32, 8))
        block.restore_k()
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def tagger():
    torch.manual_seed(1)
    model = FCN(n_mels=64, n_class=3, channels=(4, 4, 4, 4, 4), pooling=((2, 2), (2, 2), (2, 2), (2, 2), (4, 3)),
                seconds=1.0)
    model.tags = ("drums", "guitar", "voice")
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def songs():
    return 0.3 * torch.randn(2, 12_000, generator=torch.Generator().manual_seed(2))


TARGET = torch.tensor([1.0, 0.0, 0.0])


def test_the_mask_equals_one_built_with_torch_stft():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(1, 5000, generator=generator), torch.randn(1, 5000, generator=generator)
    window = torch.from_numpy(np.sqrt(scipy.signal.get_window("hann", 512))).float()
    X, J = (torch.stft(one, 512, 256, window=window, return_complex=True) for one in (x, y))
    mask = J.abs() / (torch.maximum(X.abs(), J.abs()) + 1e-8)
    expected = torch.istft(mask * X.abs() * torch.exp(1j * X.angle()), 512, 256, window=window, length=5000)
    assert torch.allclose(masked_audio(x, y, 512), expected, atol=1e-5)


def test_the_mask_of_silence_is_zero_and_has_a_finite_gradient():
    x = torch.zeros(1, 3000, requires_grad=True)
    out = masked_audio(torch.zeros(1, 3000), x, 512)
    out.sum().backward()
    assert out.abs().max() == 0 and bool(x.grad.isfinite().all())
    assert spectral_mask(torch.tensor([2.0]), torch.tensor([1.0])) == pytest.approx(1.0)


def test_words():
    assert len(words_for("vocals", MTAT_TAGS)) == 14
    assert words_for("guitar", JAMENDO_TAGS) == [f"instrument---{one}" for one in (
        "acousticguitar", "electricguitar", "guitar")]
    assert words_for("genre---jazz", JAMENDO_TAGS) == ["genre---jazz"] == words_for("jazz", JAMENDO_TAGS)
    assert target_of("drums", MTAT_TAGS).sum() == 3
    with pytest.raises(ValueError, match="no tag stands for 'bassoon'"):
        words_for("bassoon", MTAT_TAGS)
    with pytest.raises(ValueError, match="tags of Linear"):
        tags_of(torch.nn.Linear(1, 1))


def test_losses_equal_a_plain_loop(tagger, songs):
    signals = torch.stack([songs, 0.5 * songs, songs.flip(-1)])                  # (size, batch, time)
    targets = [TARGET, torch.tensor([0.0, 1.0, 1.0])]
    found = tagging_losses([tagger, tagger], targets, signals, RATE, "repeat")
    assert found.shape == (2, 2, 3)
    for song in range(2):
        for which in range(2):
            for size in range(3):
                padded = signals[size, song].repeat(2)[:16_000]
                p = tagger(padded[None])[0].double()
                y = targets[which].double()
                loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
                assert float(found[song, which, size]) == pytest.approx(float(loss), rel=1e-3)


@pytest.mark.parametrize("codes", CODES)
def test_a_batch_gives_what_each_song_gives_alone(codec, tagger, songs, codes):
    options = dict(rate=RATE, steps=3, lr=0.05, n_fft=[512, 256], codes=codes)
    both = steer(codec, [tagger], songs, [TARGET], **options)
    alone = [steer(codec, [tagger], songs[n:n + 1], [TARGET], **options) for n in range(2)]
    assert both.losses.shape == (3, 2, 1, 2)
    for n, one in enumerate(alone):
        assert torch.allclose(both.losses[:, n], one.losses[:, 0], rtol=1e-2, atol=1e-4)
    assert torch.allclose(both.masked + both.residual, both.heard, atol=1e-6)
    assert both.masked.shape == songs.shape


def test_steering_lowers_the_loss_and_leaves_the_codec_alone(codec, tagger, songs):
    before = {name: value.clone() for name, value in codec.state_dict().items()}
    found = steer(codec, [tagger], songs, [TARGET], rate=RATE, steps=20, lr=0.1, n_fft=[512], codes="free")
    assert bool((found.losses[-1] < found.losses[0]).all())
    assert all(torch.equal(value, before[name]) for name, value in codec.state_dict().items())


def test_early_sound_readings_and_level(codec, tagger, songs):
    heard = []
    found = steer(codec, [tagger], songs, [TARGET], rate=RATE, steps=4, n_fft=[512], of="mixture", level=1,
                  early=lambda step, masked: heard.append((step, masked.shape)), every=2)
    assert heard == [(0, songs.shape), (2, songs.shape)]
    assert torch.allclose(found.heard, songs, atol=1e-6)
    without = steer(codec, [tagger], songs, [TARGET], rate=RATE, steps=1, mask=False, n_fft=[512])
    assert without.losses.shape == (1, 2, 1, 1)


def test_loudness_does_not_matter_and_silence_is_valid(codec, tagger, songs):
    options = dict(rate=RATE, steps=2, lr=0.05, n_fft=[512])
    soft = steer(codec, [tagger], 0.01 * songs, [TARGET], **options)
    loud = steer(codec, [tagger], songs, [TARGET], **options)
    assert torch.allclose(100 * soft.masked, loud.masked, atol=1e-2)
    silent = steer(codec, [tagger], torch.zeros(1, 4000), [TARGET], **options)
    assert bool(silent.steered.isfinite().all()) and peaks_of(torch.zeros(1, 4)) == 1


def test_drifting_codes_are_the_excerpts_own(codec):
    z = torch.randn(2, 8, 100, generator=torch.Generator().manual_seed(0))
    quantiser = Quantiser(codec.bottleneck.level_blocks[0], "drifting", batch=2)
    quantiser(z)
    assert len(quantiser.blocks) == 2 and not torch.equal(quantiser.blocks[0].k, quantiser.blocks[1].k)
    with pytest.raises(ValueError, match="codes is 'fixed'"):
        Quantiser(codec.bottleneck.level_blocks[0], "fixed")


@pytest.mark.parametrize(("change", "words"), [
    (dict(x=torch.zeros(5)), r"x has shape \(5,\)"), (dict(x=torch.full((1, 4000), torch.nan)), "finite"),
    (dict(steps=0), "steps is 0"), (dict(n_fft=[16_384]), "half the largest size"), (dict(targets=[]), "0 targets"),
    (dict(of="song"), "of is 'song'"), (dict(start="x"), "start is 'x'"), (dict(rate=None), "rate of the codec"),
    (dict(level=5), "level is 5|index")])
def test_bad_input_is_refused(codec, tagger, change, words):
    given = dict(x=torch.zeros(1, 4000), targets=[TARGET], rate=RATE, steps=1, n_fft=[512]) | change
    with pytest.raises((ValueError, IndexError), match=words):
        steer(codec, [tagger], given.pop("x"), given.pop("targets"), **given)


def test_pieces_cover_a_song(codec, tagger, songs):
    for samples in (900, 1000, 1001, 2750, 5003):
        starts = pieces_of(samples, 1000, 100)
        assert starts[0] == 0 and starts[-1] + min(1000, samples) == samples
        assert all(b - a <= 900 for a, b in zip(starts, starts[1:]))
    song = torch.cat([songs[0], songs[1], songs[0]])
    found = steer_song(codec, [tagger], song, RATE, "drums", 1.5, steps=1, n_fft=[512], of="mixture")
    assert torch.allclose(found["masked"] + found["residual"], song, atol=1e-5)
