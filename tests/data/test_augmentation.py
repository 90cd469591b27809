"""The studio in the loader: a function of seed and chunk, finite for any sound, each effect what it says."""

from dataclasses import replace

import pytest
import torch
from torch import Generator

from course_lib.data import STEMS, RandomChunks, Remix, Track
from course_lib.data.augmentation import CORNERS, StudioAugmentation, equaliser_curve

RATE = 8000
NOTHING = StudioAugmentation(equaliser=0, room=0, saturation=0, compression=0, width=None, gain=(0, 0), flip=0, swap=0,
                             absent=0, bus=0, loudness=(0, 0), rate=RATE)
EVERYTHING = StudioAugmentation(room=1, saturation=1, compression=1, bus=1, absent=0, rate=RATE)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=Generator().manual_seed(seed))


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def tracks(count: int = 6) -> list[Track]:
    return [Track.from_tensors(f"song {i}", RATE, {stem: noise(2, 2 * RATE, seed=10 * i + k)
                                                   for k, stem in enumerate(STEMS)}) for i in range(count)]


def test_chunks_are_a_function_of_seed_and_number():
    songs, studio = tracks(), StudioAugmentation(rate=RATE)
    for make in (RandomChunks, Remix):
        chunks, again, other = (make(songs, 0.5, 6, seed, augment=studio) for seed in (3, 3, 4))
        backwards = {i: again[i] for i in reversed(range(6))}
        assert all(torch.equal(chunks[i], backwards[i]) and not torch.equal(chunks[i], other[i]) for i in range(6))


def test_it_leaves_its_input_alone():
    x = noise(4, 2, RATE)
    before = x.clone()
    assert not torch.equal(EVERYTHING(x, seeded(0)), x) and torch.equal(x, before)


@pytest.mark.parametrize("x", [
    torch.zeros(4, 2, RATE), noise(4, 2, 1), noise(4, 2, 7), noise(2, 1, 3000), 1e5 * noise(4, 2, RATE),
    1e-6 * noise(4, 2, RATE), torch.ones(3, 2, RATE), torch.cat([torch.zeros(3, 2, RATE), noise(1, 2, RATE)]),
], ids=["silence", "one sample", "seven samples", "mono", "loud", "soft", "constant", "one source"])
def test_it_is_finite_for_any_sound(x):
    for seed in range(5):
        y = EVERYTHING(x, seeded(seed))
        assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
        assert y.abs().max() <= 300 * x.abs().max()
        silent = ~x.any(-1).any(-1)
        assert not y[silent].any()                                     # silence stays silence, and only silence does
        assert y[~silent].abs().amax((1, 2)).gt(0).all() or x.shape[-1] == 1


def test_nothing_asked_is_nothing_done():
    x = noise(4, 2, RATE)
    torch.testing.assert_close(NOTHING(x, seeded(0)), x, rtol=1e-4, atol=1e-6)


def test_the_equaliser_is_the_curve_that_was_drawn():
    knots = torch.tensor([[0.0, 0, 0, 0, 6, 0, 0, 0, 0]])
    gains = 20 * equaliser_curve(knots, RATE * 4, 2 * RATE)[0].log10()       # bins of 0.5 Hz up to 8 kHz
    at = {corner: float(gains[round(corner * 2)]) for corner in CORNERS[:8]}
    assert at[1000] == pytest.approx(6, abs=0.1) and at[500] == pytest.approx(0, abs=0.3)
    assert at[250] == at[120] == at[8000] == pytest.approx(0, abs=1e-4)
    assert float(gains[round(1414 * 2)]) == pytest.approx(3, abs=0.2)        # half an octave above: half the dB


@pytest.mark.parametrize("effect", [{"equaliser": 6.0}, {"room": 1.0}, {"saturation": 1.0}, {"compression": 1.0}])
def test_effects_change_the_sound_and_keep_its_level(effect):
    x = noise(4, 2, RATE) * torch.linspace(0.1, 1, RATE)
    y = replace(NOTHING, **effect)(x, seeded(2))
    levels = [z.square().mean((1, 2)).sqrt() for z in (x, y)]
    torch.testing.assert_close(*levels, rtol=1e-3, atol=0)
    cosine = (x * y).sum((1, 2)) / (x.square().sum((1, 2)) * y.square().sum((1, 2))).sqrt()
    assert (cosine < 0.9999).all() and (cosine > 0.3).all()


def test_a_compressor_lifts_the_soft_against_the_loud():
    x = noise(1, 2, 4 * RATE)
    x[..., :2 * RATE] *= 0.1
    ratios = []
    for seed in range(8):
        y = replace(NOTHING, compression=1.0)(x, seeded(seed))
        soft, loud = (y[..., part].square().mean().sqrt() for part in (slice(RATE), slice(3 * RATE, None)))
        ratios.append(float(loud / soft))
    assert max(ratios) <= 10.5 and min(ratios) < 7


def test_width_gain_polarity_and_channels_are_one_matrix():
    x = noise(3, 2, 500)
    mono = replace(NOTHING, width=0.0)(x, seeded(0))
    torch.testing.assert_close(mono[:, 0], mono[:, 1])
    torch.testing.assert_close(mono[:, 0], x.mean(1), rtol=1e-3, atol=1e-6)
    swapped = replace(NOTHING, swap=1.0, flip=1.0, gain=(6.0206, 6.0206))(x, seeded(0))
    torch.testing.assert_close(swapped, -2 * x.flip(1), rtol=1e-3, atol=1e-5)


def test_sources_are_absent_with_their_probability_but_never_all():
    x = noise(4, 2, 200)
    heard = torch.stack([replace(NOTHING, absent=0.5)(x, seeded(seed)).any(-1).any(-1) for seed in range(200)])
    assert heard.any(1).all() and 0.4 < heard.float().mean() < 0.65
    assert all(replace(NOTHING, absent=1.0)(x, seeded(seed)).any() for seed in range(3))


def test_the_bus_moves_all_sources_alike():
    x = noise(4, 2, RATE) * torch.linspace(0.05, 1, RATE)
    gains = replace(NOTHING, bus=1.0)(x, seeded(1)) / x
    usual = x.abs() > 1e-3
    spread = (gains - gains[:1, :1]).abs()[usual & usual[:1, :1]]
    assert spread.max() < 0.02 and gains[usual].max() <= 1.01 and gains[usual].min() < 0.9


@pytest.mark.parametrize("options, message", [
    ({"room": 1.5}, "room is 1.5"), ({"absent": -0.1}, "absent is -0.1"), ({"gain": (3.0, -3.0)}, "gain is"),
    ({"equaliser": -1.0}, "equaliser is -1.0"), ({"rate": 0}, "rate 0"),
])
def test_a_studio_out_of_bounds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StudioAugmentation(**options)


def test_a_share_of_the_groups_is_remixed():
    songs = tracks(5)
    chunks = Remix(songs, 1, 400, 0, augment=None, share=0.5)
    together = [len({place.track for place in chunks.places(i)}) == 1 for i in range(400)]
    groups = [together[i:i + 4] for i in range(0, 400, 4)]
    assert all(len(set(group)) == 1 for group in groups) and 30 < sum(group[0] for group in groups) < 70
    whole = Remix(songs, 1, 400, 0, augment=None)
    assert all(chunks.places(i) == whole.places(i) for i in range(400) if not together[i])     # the rest as ever
    with pytest.raises(ValueError, match="share is 1.5"):
        Remix(songs, 1, 10, 0, share=1.5)
