"""Chapter 10: nearest codes, gradients, losses and codebooks against loops, finite differences and the peers."""

import math

import pytest
import torch
from transformers.models.deprecated.jukebox.modeling_jukebox import JukeboxBottleneckBlock
from vector_quantize_pytorch import VectorQuantize

from course_lib.data import Track
from course_lib.experiments.vqvae import BASE, VARIANTS, Run, Sizes, new_model
from course_lib.training import FitSettings, fit
from course_lib.vqvae import (
    EMAVectorQuantizer,
    SmallVQVAE,
    VectorQuantizer,
    VQVAEStep,
    bits_per_second,
    code_counts,
    codebook_loss,
    commitment_loss,
    dequantise,
    ema_codebook,
    ema_update,
    kmeans,
    nearest_codes,
    perplexity,
    reconstruction_scores,
    restart_codes,
    squared_distances,
    straight_through,
    sums_and_counts,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def relative(found, expected):
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def by_loop(z, codebook):
    """Nearest codes, distance by distance, in 64 bits."""
    found = []
    for vector in z.double():
        distances = [float((vector - e).square().sum()) for e in codebook.double()]
        found.append(distances.index(min(distances)))
    return torch.tensor(found)


# ------------------------------------------------------------------------------------------------------ nearest codes


@pytest.mark.parametrize("at_once", [1, 7, 8192])
def test_nearest_codes_are_those_of_the_loop(at_once):
    z, codebook = drawn(100, 6, dtype=torch.float64), drawn(23, 6, seed=1, dtype=torch.float64)
    assert torch.equal(nearest_codes(z, codebook, at_once), by_loop(z, codebook))
    assert torch.equal(nearest_codes(z.unflatten(0, (4, 25)), codebook).flatten(), by_loop(z, codebook))
    expected = (z[:, None] - codebook).square().sum(-1)
    assert relative(squared_distances(z, codebook), expected) < 1e-12


def test_of_equally_near_codes_the_lowest_number_wins():
    codebook = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert nearest_codes(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), codebook).tolist() == [0, 1]
    assert nearest_codes(torch.zeros(3, 5, 2), codebook).unique().tolist() == [1]  # silence


def test_half_precision_and_autocast_find_what_32_bits_find():
    z, codebook = drawn(50, 8), drawn(16, 8, seed=1)
    expected = nearest_codes(z.half().float(), codebook)
    assert torch.equal(nearest_codes(z.half(), codebook), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert squared_distances(z, codebook).dtype == torch.float32
        assert torch.equal(nearest_codes(z.half(), codebook), expected)


def test_vectors_come_back_from_their_codes():
    codebook = drawn(9, 4)
    codes = torch.randint(0, 9, (2, 7), generator=generator())
    assert torch.equal(dequantise(codes, codebook), codebook[codes])
    assert torch.equal(nearest_codes(codebook, codebook), torch.arange(9))
    assert dequantise(codes.to(torch.uint8), codebook).shape == (2, 7, 4)


def test_nothing_gives_nothing():
    codebook = drawn(9, 4)
    assert nearest_codes(torch.zeros(0, 4), codebook).shape == (0,)
    assert dequantise(torch.zeros(2, 0, dtype=torch.long), codebook).shape == (2, 0, 4)
    assert float(commitment_loss(torch.zeros(0, 4), torch.zeros(0, 4))) == 0


@pytest.mark.parametrize(
    ("z", "codebook", "words"),
    [
        (torch.zeros(3, 5), torch.zeros(2, 4), r"z has shape \(3, 5\); expected \(..., 4\)"),
        (torch.zeros(()), torch.zeros(2, 4), r"z has shape \(\)"),
        (torch.zeros(3, 4), torch.zeros(0, 4), r"codebook has shape \(0, 4\)"),
        (torch.zeros(3, 4), torch.zeros(2, 4, 1), r"codebook has shape \(2, 4, 1\)"),
        (torch.zeros(3, 4, dtype=torch.long), torch.zeros(2, 4), r"z is torch.int64"),
        ([[0.0]], torch.zeros(2, 1), "z is list"),
        (torch.tensor([[0.0, math.nan]]), torch.zeros(2, 2), "z holds 1 numbers that are NaN"),
        (torch.zeros(1, 2), torch.tensor([[0.0, math.inf]]), "codebook holds 1 numbers"),
    ],
)
def test_vectors_that_can_not_be_quantised(z, codebook, words):
    with pytest.raises(ValueError, match=words):
        nearest_codes(z, codebook)


def test_codes_that_are_none():
    codebook = drawn(4, 2)
    for codes in (torch.tensor([4]), torch.tensor([-1])):
        with pytest.raises(ValueError, match="expected 0 to 3"):
            dequantise(codes, codebook)
        with pytest.raises(ValueError, match="expected 0 to 3"):
            code_counts(codes, 4)
    for codes in (torch.tensor([1.0]), torch.tensor([True])):
        with pytest.raises(ValueError, match="expected whole numbers"):
            dequantise(codes, codebook)
    with pytest.raises(ValueError, match="at_once is 0"):
        nearest_codes(drawn(3, 2), codebook, 0)


# ------------------------------------------------------------------------------------------------- counts, rates, means


def test_perplexity():
    counts = torch.tensor([[3, 3, 3], [9, 0, 0], [2, 2, 0], [0, 0, 0]])
    found = perplexity(counts)
    assert torch.allclose(found[:3], torch.tensor([3.0, 1.0, 2.0])) and found[3].isnan()
    shares = torch.tensor([0.7, 0.2, 0.1])
    assert float(perplexity(shares)) == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares.tolist())), 1e-6)
    assert code_counts(torch.tensor([[2, 2], [0, 2]]), 4).tolist() == [1, 0, 3, 0]
    for wrong in (torch.tensor([1.0, -1.0]), torch.tensor([1.0, math.nan]), torch.zeros(0)):
        with pytest.raises(ValueError, match="expected"):
            perplexity(wrong)


def test_bits_per_second():
    assert bits_per_second(16_000, 64, 512) == 2250
    assert bits_per_second(24_000, 320, 1024, levels=8) == 6000
    for wrong in ((0, 64, 512), (16_000, 0, 2), (16_000, 64, 0), (math.nan, 64, 2)):
        with pytest.raises(ValueError, match="expected a number from 1 on"):
            bits_per_second(*wrong)


def test_kmeans_never_rises_and_ends_at_the_means():
    z = drawn(300, 3, dtype=torch.float64)
    codebook, errors = z[:8].clone(), []
    for _ in range(40):
        errors.append(float((z - codebook[nearest_codes(z, codebook)]).square().sum()))
        codebook = kmeans(z, 8, 1, codebook=codebook)
    assert all(b <= a + 1e-9 for a, b in zip(errors, errors[1:]))
    assert torch.allclose(kmeans(z, 8, 40, codebook=z[:8].clone()), codebook)
    assert torch.equal(kmeans(z, 8, 3, generator(4)), kmeans(z, 8, 3, generator(4)))


def test_kmeans_leaves_what_nobody_is_near_to():
    far = torch.tensor([[0.0, 0.0], [99.0, 99.0]])
    assert torch.equal(kmeans(drawn(20, 2), 2, 5, codebook=far)[1], far[1])
    for z, size in ((drawn(3, 2), 4), (drawn(3, 2), 0), (drawn(3), 1)):
        with pytest.raises(ValueError, match="at least as many vectors as codes"):
            kmeans(z, size)


# ------------------------------------------------------------------------------------------------ gradients and losses


def test_straight_through_hands_the_gradient_on():
    z, e = (drawn(5, 3, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    weight = drawn(5, 3, seed=2, dtype=torch.float64)
    out = straight_through(z, e)
    out.sin().mul(weight).sum().backward()
    assert torch.allclose(out, e) and e.grad is None
    assert torch.allclose(z.grad, weight * e.detach().cos())  # the slope at e, not at z
    with pytest.raises(ValueError, match="expected the same"):
        straight_through(z, e[:2])


def test_losses_have_the_same_value_and_pull_at_different_ends():
    z, e = (drawn(4, 3, seed=seed, dtype=torch.float64).requires_grad_() for seed in (0, 1))
    expected = float((z - e).detach().square().mean())
    for loss, moved, still in ((codebook_loss, e, z), (commitment_loss, z, e)):
        value = loss(z, e)
        slope, none = torch.autograd.grad(value, (moved, still), allow_unused=True)
        assert float(value.detach()) == pytest.approx(expected) and none is None
        assert torch.allclose(slope, 2 * (moved - still).detach() / z.numel())


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
def test_gradients_of_a_quantiser_are_those_of_the_three_losses(kind):
    torch.manual_seed(0)
    quantizer = kind(7, 3).double().train()
    with torch.no_grad():
        quantizer.codebook.normal_()
    before = quantizer.codebook.detach().clone()
    z = drawn(2, 3, 11, dtype=torch.float64).requires_grad_()
    found = quantizer(z)
    weight = drawn(2, 3, 11, seed=5, dtype=torch.float64)
    loss = (found.values * weight).sum() + found.codebook_loss + 0.25 * found.commitment_loss
    loss.backward()
    e = dequantise(found.codes, before).movedim(-1, 1)
    assert torch.equal(found.codes.flatten(), by_loop(z.detach().movedim(1, -1).flatten(0, 1), before))
    assert torch.allclose(found.values, e)
    assert torch.allclose(z.grad, weight + 0.25 * 2 * (z.detach() - e) / z.numel())
    if kind is VectorQuantizer:
        expected = torch.zeros_like(before).index_add_(
            0, found.codes.flatten(), (2 * (e - z.detach()) / z.numel()).movedim(1, -1).flatten(0, 1))
        assert torch.allclose(quantizer.codebook.grad, expected)
    else:
        assert float(found.codebook_loss) == 0 and not list(quantizer.parameters())


def test_eval_changes_nothing():
    torch.manual_seed(0)
    for quantizer in (VectorQuantizer(6, 3, restart_below=5.0), EMAVectorQuantizer(6, 3)):
        before = {name: tensor.clone() for name, tensor in quantizer.eval().state_dict().items()}
        first, second = quantizer(drawn(2, 3, 9)), quantizer(drawn(2, 3, 9))
        assert torch.equal(first.values, second.values)
        assert all(torch.equal(before[name], tensor) for name, tensor in quantizer.state_dict().items())


@pytest.mark.parametrize("shape", [(2, 4, 5), (3, 5), (2, 5, 3)])
def test_a_quantiser_names_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 3, step\)"):
        EMAVectorQuantizer(6, 3)(torch.zeros(shape))


@pytest.mark.parametrize("arguments", [(0, 3), (3, 0), (3, 3, 1.0), (3, 3, 0.9, -1.0), (3, 3, 0.9, math.nan)])
def test_a_quantiser_names_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="expected at least one code"):
        VectorQuantizer(*arguments)


# --------------------------------------------------------------------------------------------------- moving averages


def test_moving_average_is_a_gradient_step_with_a_rate_for_each_code():
    z, codebook = drawn(200, 3, dtype=torch.float64), drawn(5, 3, seed=1, dtype=torch.float64)
    codes = nearest_codes(z, codebook)
    sums, n = sums_and_counts(z, codes, 5)
    assert (n > 0).all()
    leaf = codebook.clone().requires_grad_()
    slope, = torch.autograd.grad((z - leaf[codes]).square().sum(), leaf)
    for decay, N in ((0.99, n), (0.9, n * 3), (0.5, n + 7), (0.0, n + 1)):
        moved = ema_codebook(*ema_update(codebook * N[:, None], N, z, codes, decay), smoothing=0.0)
        a = (1 - decay) * n / (decay * N + (1 - decay) * n)
        assert relative(moved, codebook - (a / (2 * n))[:, None] * slope) < 1e-12
    assert relative(moved, sums / n[:, None]) < 1e-12  # decay 0: k-means
    for decay in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="expected a number from 0 to 1"):
            ema_update(sums, n, z, codes, decay)


def test_moving_averages_of_nothing_change_by_the_decay_alone():
    sums, counts = drawn(4, 2), torch.ones(4)
    new = ema_update(sums, counts, torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), 0.9)
    assert torch.allclose(new[0], 0.9 * sums) and torch.allclose(new[1], 0.9 * counts)
    assert torch.allclose(ema_codebook(*new, smoothing=0.0), sums)
    assert ema_codebook(torch.zeros(4, 2), torch.zeros(4)).isfinite().all()


def pair(size=12, dim=5, **options):
    """A quantiser of ours and the package's, from one codebook."""
    torch.manual_seed(0)
    ours = EMAVectorQuantizer(size, dim, restart_below=options.pop("restart_below", 0.0), **options).train()
    theirs = VectorQuantize(dim, codebook_size=size, decay=ours.decay, eps=ours.smoothing, rotation_trick=False,
                            threshold_ema_dead_code=ours.restart_below).train()
    codebook = drawn(size, dim, seed=3)
    for buffer in (ours.codebook, ours.sums, theirs._codebook.embed[0], theirs._codebook.embed_avg[0]):
        buffer.copy_(codebook)
    return ours, theirs


def test_the_packages_codebook_moves_alike():
    ours, theirs = pair()
    for seed in range(8):
        z = drawn(3, 5, 20, seed=10 + seed).requires_grad_()
        z_theirs = z.detach().movedim(1, 2).requires_grad_()
        found, (values, codes, loss) = ours(z), theirs(z_theirs)
        assert torch.equal(found.codes, codes) and relative(found.values.movedim(1, 2), values) < 1e-5
        assert float(found.commitment_loss.detach()) == pytest.approx(float(loss.detach()), rel=1e-5)
        for out, commit in ((found.values.movedim(1, 2), found.commitment_loss), (values, loss)):
            (out.sin().sum() + commit).backward()
        assert relative(z.grad.movedim(1, 2), z_theirs.grad) < 1e-5
        for mine, other in ((ours.codebook, "embed"), (ours.sums, "embed_avg"), (ours.counts, "cluster_size")):
            assert relative(mine, getattr(theirs._codebook, other)[0]) < 1e-5


def test_the_package_restarts_the_same_codes():
    ours, theirs = pair(restart_below=1.0)
    z = drawn(3, 5, 20, seed=10)
    before = theirs._codebook.embed[0].clone()
    ours(z), theirs(z.movedim(1, 2))
    vectors = z.movedim(1, -1).flatten(0, 1)

    def restarted(codebook):
        return (codebook[:, None] == vectors).all(-1).any(-1)

    dead = restarted(ours.codebook)
    assert torch.equal(dead, restarted(theirs._codebook.embed[0])) and 0 < int(dead.sum()) < 12
    assert relative(ours.codebook[~dead], theirs._codebook.embed[0][~dead]) < 1e-5
    assert torch.equal(ours.counts[dead], torch.ones(int(dead.sum()))) and not torch.equal(ours.codebook, before)


def test_the_packages_learned_codebook_gets_the_same_gradient():
    torch.manual_seed(0)
    ours = VectorQuantizer(12, 5).train()
    theirs = VectorQuantize(5, codebook_size=12, learnable_codebook=True, ema_update=False, rotation_trick=False)
    with torch.no_grad():
        ours.codebook.copy_(drawn(12, 5, seed=3))
        theirs._codebook.embed.copy_(ours.codebook[None])
    z = drawn(3, 5, 20, seed=4)
    found, (_, codes, loss) = ours(z), theirs(z.movedim(1, 2))
    (found.codebook_loss + found.commitment_loss).backward()
    loss.backward()
    assert torch.equal(found.codes, codes)
    assert relative(ours.codebook.grad, theirs._codebook.embed.grad[0]) < 1e-5


def test_jukebox_moves_its_sums_and_counts_alike():
    config = type("Config", (), {"nb_discrete_codes": 8, "embed_dim": 4, "lmu": 0.99})
    theirs, codebook = JukeboxBottleneckBlock(config), drawn(8, 4)
    theirs.codebook = theirs.codebook_sum = codebook.clone()
    theirs.codebook_elem = torch.ones(8)
    sums, counts = codebook.clone(), torch.ones(8)
    for seed in range(3):
        z = drawn(40, 4, seed=5 + seed)
        codes, _ = theirs.quantise(z)
        assert torch.equal(codes, nearest_codes(z, theirs.codebook))
        theirs.update_codebook(z, codes)
        sums, counts = ema_update(sums, counts, z, codes, 0.99)
        assert relative(sums, theirs.codebook_sum) < 1e-5 and relative(counts, theirs.codebook_elem) < 1e-5
        alive = counts >= 1
        assert relative(ema_codebook(sums, counts, 0.0)[alive], theirs.codebook[alive]) < 1e-5


# ----------------------------------------------------------------------------------------------------------- restarts


def test_restarts_take_vectors_of_the_batch_without_repetition():
    codebook, counts, z = drawn(6, 3), torch.tensor([2.0, 0.5, 0.0, 1.0, 0.9, 3.0]), drawn(30, 3, seed=1)
    moved, dead = restart_codes(codebook, counts, z, 1.0, generator())
    assert dead.tolist() == [False, True, True, False, True, False]
    assert torch.equal(moved[~dead], codebook[~dead])
    places = [(row == z).all(1).nonzero().item() for row in moved[dead]]
    assert len(set(places)) == 3
    assert torch.equal(moved, restart_codes(codebook, counts, z, 1.0, generator())[0])


def test_restarts_with_fewer_vectors_than_dead_codes_differ():
    moved, dead = restart_codes(drawn(9, 3), torch.zeros(9), drawn(4, 3, seed=1), 1.0, generator())
    assert dead.all() and len(moved.unique(dim=0)) == 9
    assert ((moved[:, None] - drawn(4, 3, seed=1)).abs().amax(-1).amin(-1) < 0.05).all()


def test_restarts_without_need_or_without_vectors():
    codebook = drawn(5, 3)
    for counts, z in ((torch.ones(5), drawn(4, 3)), (torch.zeros(5), torch.zeros(0, 3))):
        moved, dead = restart_codes(codebook, counts, z, 1.0)
        assert torch.equal(moved, codebook) and not dead.any()


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
def test_a_codebook_that_collapsed_comes_back_by_restarts(kind):
    def used(restart_below):
        torch.manual_seed(0)
        quantizer = kind(16, 2, decay=0.9, restart_below=restart_below).train()
        for seed in range(30):
            out = quantizer(5 + drawn(4, 2, 64, seed=seed))
        return float(perplexity(code_counts(out.codes, 16)))

    assert used(0.0) < 4 and used(1.0) > 8


# -------------------------------------------------------------------------------------------------------- the network


def small(size=8, **options):
    torch.manual_seed(0)
    return SmallVQVAE(size, 3, 6, (4, 2), 1, **options)


@pytest.mark.parametrize("time", [1, 7, 8, 41])
@pytest.mark.parametrize("quantizer", ["ema", "gradient"])
def test_any_length_comes_back_and_codes_are_the_whole_of_it(time, quantizer):
    model, x = small(quantizer=quantizer).eval(), drawn(2, 1, time)
    with torch.no_grad():
        y, found = model(x)
        codes = model.encode(x)
        assert y.shape == x.shape and codes.shape == (2, math.ceil(time / 8)) and torch.equal(codes, found.codes)
        assert torch.allclose(model.decode(codes)[..., :time], y, atol=1e-5)


def test_gradients_pass_the_quantiser_to_the_first_layer():
    model = small().train()
    y, found = model(drawn(2, 1, 64))
    y.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert "quantizer.codebook" in model.state_dict() and found.values.shape == (2, 3, 8)


def test_without_a_codebook_nothing_is_quantised():
    model = small(0)
    y, found = model(drawn(1, 1, 32))
    assert found is None and y.shape == (1, 1, 32)
    with pytest.raises(ValueError, match="size 0 and no codes"):
        model.encode(drawn(1, 1, 32))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.zeros(1, 2, 32), "mono"),
        (torch.zeros(1, 32), "mono"),
        (torch.zeros(1, 1, 0), "at least one sample"),
        (torch.full((1, 1, 32), math.nan), "NaN or infinite"),
        (torch.zeros(1, 1, 32, dtype=torch.int16), "int16"),
        (torch.zeros(1, 1, 32).numpy(), "torch tensor"),
    ],
)
def test_the_network_names_bad_audio(x, words):
    with pytest.raises(ValueError, match=words):
        small()(x)


@pytest.mark.parametrize("options", [{"strides": ()}, {"strides": (3,)}, {"strides": (1,)}, {"quantizer": "none"}])
def test_the_network_names_bad_arguments(options):
    with pytest.raises(ValueError, match="expected"):
        SmallVQVAE(8, 3, 6, **options)


def test_silence_is_audio():
    model = small().train()
    parts = VQVAEStep()(model, torch.zeros(2, 4, 1, 64))
    parts["loss"].backward()
    assert all(value.isfinite() for value in parts.values()) and float(parts["perplexity"]) >= 1
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    silent = Track.from_tensors("silent", 8000, {"vocals": torch.zeros(1, 64)})
    assert math.isnan(reconstruction_scores(model, [silent])["snr"]) and model.training


def test_the_steps_loss_is_the_formula():
    model, chunks = small(quantizer="gradient").train(), drawn(2, 4, 1, 64)
    parts = VQVAEStep(beta=0.3, codebook=0.7, reconstruction=2.0, power=4.0)(model, chunks)
    y, found = model(chunks.sum(1))
    expected = (2.0 * (y - chunks.sum(1)).square().mean() / 4 + 0.7 * found.codebook_loss
                + 0.3 * found.commitment_loss)
    assert float(parts["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert set(VQVAEStep()(small(0), chunks)) == {"loss", "reconstruction"}
    for wrong in ({"beta": -1}, {"codebook": -1}, {"reconstruction": -1}, {"power": 0}):
        with pytest.raises(ValueError, match="expected weights from 0 on"):
            VQVAEStep(**wrong)


def test_training_repeats_itself_with_its_restarts():
    def trained():
        model = small(16, restart_below=1.0)
        fit(model, VQVAEStep(), lambda start: (drawn(2, 1, 64, seed=k) for k in range(start, 9)),
            torch.optim.Adam(model.parameters(), 1e-2), FitSettings(6, validate_every=100), progress=False)
        return model.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_scores_of_a_perfect_and_of_a_silent_model():
    track = Track.from_tensors("noise", 8000, {"vocals": 0.1 * drawn(1, 64)})

    class Copy(torch.nn.Module):
        size = 0

        def forward(self, x):
            return x * self.gain, None

    copy = Copy()
    copy.gain = 0.0
    assert reconstruction_scores(copy, [track]) == {"snr": pytest.approx(0.0, abs=1e-6)}
    copy.gain = 0.9
    assert reconstruction_scores(copy, [track])["snr"] == pytest.approx(20.0, abs=1e-3)


# ------------------------------------------------------------------------------------------------------ the experiment


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_differs_in_what_its_name_says(variant):
    sizes = Sizes(channels=4, dim=3, blocks=1)
    size = 0 if variant == "unquantised" else 8
    model = new_model(Run(variant, size, 0), sizes).train()
    parts = VQVAEStep(power=1.0, **VARIANTS[variant].step)(model, drawn(1, 1, 64))
    if float(parts["loss"].detach()) == 0:
        pytest.fail("no loss at all")
    parts["loss"].backward()
    reached = model.encoder[0].weight.grad is not None
    assert reached and isinstance(model.quantizer, VectorQuantizer) == (variant != "unquantised")
    _, found = model(drawn(1, 1, 64))
    if variant == "no straight-through":
        model.zero_grad()
        assert not found.values.requires_grad
    elif size:
        assert found.values.requires_grad
        by_gradient = "gradient" in variant or variant == "no codebook loss"
        assert isinstance(model.quantizer, EMAVectorQuantizer) != by_gradient
    assert VARIANTS[BASE].model == {} and (model.quantizer is None or model.quantizer.restart_below in (0.0, 1.0))
