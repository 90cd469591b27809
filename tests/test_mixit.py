"""Chapter 14b: losses and assignments against brute force, invariances, silence, ties, and the experiment's data."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from course_lib.data import Track
from course_lib.data.band import compose
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments import mixit as experiment
from course_lib.metrics import sdr
from course_lib.mixit import (
    MaskTCN,
    MixITStep,
    SupervisedStep,
    active_outputs,
    best_assignment,
    best_partition,
    least_squares_assignment,
    mixing_matrices,
    mixit_loss,
    mixture_consistency,
    mixture_errors,
    negative_snr,
    output_sparsity,
    pit_loss,
)


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def reference_snr(estimate, reference, max_snr, power=None):
    """(14b.1) in plain numbers."""
    own = float(reference.double() @ reference.double()) or (power or 0.0)
    error = float(((reference.double() - estimate.double()) ** 2).sum())
    return 10 * math.log10(error + 10 ** (-max_snr / 10) * own + 1e-8) - 10 * math.log10(own + 1e-8)


def reference_mixit(outputs, mixtures, max_snr=30.0):
    """The smallest loss and the owners of outputs, by trying everything one after the other, for one example."""
    best = (math.inf, None)
    power = float(mixtures.double().sum(0).square().sum())
    for owners in itertools.product(range(len(mixtures)), repeat=len(outputs)):
        total = 0.0
        for n, mixture in enumerate(mixtures):
            built = sum((outputs[m].double() for m, owner in enumerate(owners) if owner == n),
                        torch.zeros(mixture.shape[-1], dtype=torch.float64))
            total += reference_snr(built, mixture, max_snr, power)
        if total < best[0] - 1e-9:
            best = (total, owners)
    return best


@pytest.mark.parametrize("count,outputs", [(2, 1), (2, 4), (2, 6), (3, 4), (1, 3)])
@pytest.mark.parametrize("max_snr", [30.0, 10.0])
def test_loss_and_assignment_are_those_of_brute_force(count, outputs, max_snr):
    s, x = noise(3, outputs, 200, seed=1), noise(3, count, 200, seed=2)
    s = s + x.mean(1, keepdim=True)
    losses, A = mixit_loss(s, x, max_snr)
    assert A.shape == (3, count, outputs) and (A.sum(1) == 1).all()
    for b in range(3):
        best, owners = reference_mixit(s[b], x[b], max_snr)
        assert float(losses[b]) == pytest.approx(best, abs=1e-3)
        assert A[b].argmax(0).tolist() == list(owners)


def test_permutations_are_those_of_brute_force():
    s, x = noise(4, 4, 100, seed=3), noise(4, 4, 100, seed=4)
    s = s + x[:, [2, 0, 3, 1]]
    losses, orders = pit_loss(s, x)
    for b in range(4):
        found = {order: sum(reference_snr(s[b, m], x[b, n], 30.0) for n, m in enumerate(order)) / 4
                 for order in itertools.permutations(range(4))}
        best = min(found, key=found.get)
        assert tuple(orders[b].tolist()) == best and float(losses[b]) == pytest.approx(found[best], abs=1e-3)


def test_ceiling_and_silence():
    x = noise(1, 500)
    assert float(negative_snr(x, x)) == pytest.approx(-30, abs=1e-3)
    assert float(negative_snr(x, x, 10.0)) == pytest.approx(-10, abs=1e-3)
    assert float(negative_snr(0 * x, x)) == pytest.approx(10 * math.log10(1.001), abs=1e-4)
    assert float(negative_snr(0 * x, 0 * x)) == 0
    power = x.square().sum(-1)
    assert float(negative_snr(0 * x, 0 * x, power=power)) == pytest.approx(-30, abs=1e-3)
    assert float(negative_snr(x, 0 * x, power=power)) == pytest.approx(10 * math.log10(1.001), abs=1e-3)


@pytest.mark.parametrize("silent", ["nothing", "one mixture", "both mixtures", "outputs", "all"])
def test_losses_and_gradients_stay_finite(silent):
    s, x = noise(2, 4, 300, seed=5), noise(2, 2, 300, seed=6)
    if silent == "one mixture":
        x[:, 1] = 0
    if silent in ("both mixtures", "all"):
        x[:] = 0
    if silent in ("outputs", "all"):
        s[:] = 0
    s.requires_grad_()
    for assign in (best_assignment, least_squares_assignment):
        loss, A = mixit_loss(s, x, assign=assign)
        (gradient,) = torch.autograd.grad(loss.sum(), s)
        assert loss.isfinite().all() and gradient.isfinite().all() and (A.sum(1) == 1).all()


def test_order_of_outputs_and_mixtures_does_not_matter():
    s, x = noise(2, 5, 300, seed=7), noise(2, 2, 300, seed=8)
    loss, A = mixit_loss(s, x)
    order = [3, 1, 4, 0, 2]
    moved, moved_A = mixit_loss(s[:, order], x)
    swapped, swapped_A = mixit_loss(s, x.flip(1))
    assert torch.allclose(loss, moved, atol=1e-4) and torch.equal(A[:, :, order], moved_A)
    assert torch.allclose(loss, swapped, atol=1e-4) and torch.equal(A.flip(1), swapped_A)
    louder, louder_A = mixit_loss(3 * s, 3 * x)
    assert torch.allclose(loss, louder, atol=1e-3) and torch.equal(A, louder_A)


def test_ties_go_to_the_first():
    x = noise(1, 2, 300, seed=9)
    s = torch.cat([x, torch.zeros(1, 2, 300)], 1)                                # two silent outputs
    assert best_assignment(s, x)[0].tolist() == [[1, 0, 1, 1], [0, 1, 0, 0]]
    assert least_squares_assignment(s, x)[0].tolist() == [[1, 0, 1, 1], [0, 1, 0, 0]]
    same = torch.ones(1, 2, 50)
    assert pit_loss(same, same)[1].tolist() == [[0, 1]]


def test_gradient_is_that_of_the_chosen_assignment():
    s, x = noise(2, 4, 200, seed=10, dtype=torch.float64).requires_grad_(), noise(2, 2, 200, dtype=torch.float64)
    loss, A = mixit_loss(s, x)
    (gradient,) = torch.autograd.grad(loss.sum(), s)
    chosen = negative_snr(torch.stack([A[b] @ s[b] for b in range(2)]), x).sum()
    (expected,) = torch.autograd.grad(chosen, s)
    assert torch.allclose(gradient, expected, rtol=1e-9) and not A.requires_grad
    step = 1e-6
    moved = s.detach().clone()
    moved[0, 1, 7] += step
    numeric = float(mixit_loss(moved, x)[0].sum() - loss.sum()) / step
    assert numeric == pytest.approx(float(gradient[0, 1, 7]), rel=1e-3, abs=1e-6)


def test_errors_are_those_of_the_signals():
    s, x = noise(2, 5, 400, seed=11), noise(2, 3, 400, seed=12)
    matrices = mixing_matrices(3, 5)
    direct = (x[:, None] - matrices @ s[:, None]).square().sum(-1)
    assert matrices.shape == (243, 3, 5) and len(matrices.flatten(1).unique(dim=0)) == 243
    assert torch.allclose(mixture_errors(s, x, matrices), direct.double(), rtol=1e-4)


def test_least_squares_finds_clean_assignments_of_many_outputs():
    parts = noise(2, 30, 2000, seed=13)
    owners = torch.randint(2, (2, 30), generator=torch.Generator().manual_seed(0))
    A = F.one_hot(owners, 2).mT.float()
    assert torch.equal(least_squares_assignment(parts, A @ parts), A)


def test_consistency_is_a_projection():
    y, x = noise(2, 3, 100, seed=14), noise(2, 100, seed=15)
    once = mixture_consistency(y, x)
    assert torch.allclose(once.sum(1), x, atol=1e-5) and torch.allclose(mixture_consistency(once, x), once, atol=1e-5)
    weights = torch.tensor([[0.2], [0.3], [0.5]])
    assert torch.allclose(mixture_consistency(y, x, weights).sum(1), x, atol=1e-5)
    nearest = torch.linalg.lstsq(torch.eye(3).double(), y[0].double()).solution  # any other that sums to x is farther
    other = once[0] + 0.1 * torch.tensor([[1.0], [-1.0], [0.0]])
    assert (other.double() - nearest).norm() > (once[0].double() - nearest).norm()


@pytest.mark.parametrize("sources,outputs", [(1, 3), (2, 2), (3, 5), (4, 4)])
def test_partition_is_that_of_brute_force(sources, outputs):
    y, s = noise(outputs, 100, seed=16), noise(sources, 100, seed=17)
    y[:sources] += s
    errors = {}
    for owners in itertools.product(range(sources), repeat=outputs):
        if len(set(owners)) == sources:
            A = F.one_hot(torch.tensor(owners), sources).T.float()
            errors[owners] = float((s - A @ y).square().sum())
    assert tuple(best_partition(y, s).argmax(0).tolist()) == min(errors, key=errors.get)


def test_partition_of_silence_and_of_fewer_outputs():
    assert (best_partition(torch.zeros(4, 50), noise(2, 50)).sum(0) == 1).all()
    assert (best_partition(noise(1, 50), noise(3, 50, seed=1)).sum(0) == 1).all()


def test_sparsity_and_active_outputs():
    one = torch.cat([noise(1, 1000), torch.zeros(3, 1000)])
    same = noise(1, 1000).expand(4, -1)
    assert float(output_sparsity(one)) == pytest.approx(1, abs=1e-3) and int(active_outputs(one)) == 1
    assert float(output_sparsity(same)) == pytest.approx(2, abs=1e-4) and int(active_outputs(same)) == 4
    silent = torch.zeros(4, 100, requires_grad=True)
    value = output_sparsity(silent)
    value.backward()
    assert float(value.detach()) == 1 and silent.grad.isfinite().all() and int(active_outputs(silent.detach())) == 0
    quieter = torch.stack([same[0], 0.05 * same[0]])
    assert int(active_outputs(quieter)) == 1 and int(active_outputs(quieter, 30.0)) == 2


@pytest.mark.parametrize("length", [700, 8000, 8001])
def test_network_adds_up_at_every_length_and_level(length):
    torch.manual_seed(0)
    net = MaskTCN(3, n_fft=256, hop_length=128, channels=8, hidden=16, blocks=2, repeats=1)
    x = noise(2, length)
    y = net(x)
    assert y.shape == (2, 3, length) and torch.allclose(y.sum(1), x, atol=1e-4)
    assert torch.allclose(net(0.1 * x), 0.1 * y, atol=1e-3) and (net(0 * x) == 0).all()
    loose = MaskTCN(3, 256, 128, 8, 16, 2, 1, consistent=False)
    loose.load_state_dict(net.state_dict())
    assert not torch.allclose(loose(x).sum(1), x, atol=1e-2)


def test_one_output_learns_nothing():
    net = MaskTCN(1, n_fft=256, hop_length=128, channels=8, hidden=16, blocks=2, repeats=1)
    MixITStep()(net, noise(2, 2, 4000)).backward()
    assert max(p.grad.abs().max() for p in net.parameters()) < 1e-3


def test_steps_lower_their_losses():
    torch.manual_seed(0)
    for step, batch in ((MixITStep(), noise(4, 2, 2000)), (MixITStep(sparsity=1.0), noise(4, 2, 2000)),
                        (SupervisedStep(), noise(4, 4, 2000))):
        net = MaskTCN(4, n_fft=256, hop_length=128, channels=8, hidden=16, blocks=2, repeats=1)
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        losses = []
        for _ in range(12):
            loss = step(net, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("call,says", [
    (lambda: negative_snr(noise(2, 5), noise(2, 6)), "estimates has shape"),
    (lambda: negative_snr(noise(2, 5).long(), noise(2, 5)), "estimates is torch.int64"),
    (lambda: pit_loss(noise(1, 2, 5), noise(1, 3, 5)), "expected one shape"),
    (lambda: pit_loss(noise(1, 8, 5), noise(1, 8, 5)), "at most 7 sources"),
    (lambda: mixing_matrices(0, 3), "mixtures is 0"),
    (lambda: mixing_matrices(2, 17), "outputs 17"),
    (lambda: mixit_loss(noise(1, 4, 5), noise(1, 2, 6)), "the same batch and time"),
    (lambda: mixit_loss(noise(4, 5), noise(1, 2, 5)), "outputs has shape"),
    (lambda: best_assignment(noise(1, 0, 5), noise(1, 2, 5)), "none of these axes empty"),
    (lambda: mixture_consistency(noise(3, 5), noise(6)), "mixture"),
    (lambda: best_partition(noise(13, 5), noise(2, 5)), "at most 12"),
    (lambda: MaskTCN()(noise(1, 2, 4000)), "expected \\(batch, time\\)"),
    (lambda: experiment.separate_sources(noise(4000), 16_000), "expected \\(channel, time\\)"),
    (lambda: experiment.MixturesOfMixtures(songs(), 3, 0, "backwards"), "pairing is 'backwards'"),
    (lambda: experiment.MixturesOfMixtures(songs(), 3, 0, seconds=99.0), "seconds is 99"),
])
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# ------------------------------------------------------------------------------------------------------ the experiment


def songs(count=3, seconds=8.0):
    """Made songs: a number per stem, so that pieces can be told apart; scores as the band composes them."""
    frames, stems = round(seconds * experiment.RATE), ("drums", "bass", "vocals", "guitar", "piano")
    tracks = []
    for n in range(count):
        values = {stem: noise(1, frames, seed=10 * n + k) for k, stem in enumerate(stems)}
        tracks.append(Track.from_tensors(f"song {n}", experiment.RATE, {**values, "other": noise(1, frames, seed=99)}))
    return experiment.Songs(tracks, [compose(n, seconds) for n in range(count)])


def test_pieces_are_a_function_of_seed_and_index():
    for pairing in ("unrelated", "one song twice", "independent stems"):
        one, again = (experiment.MixturesOfMixtures(songs(), 4, 5, pairing, 1.0) for _ in range(2))
        assert torch.equal(one[3], again[3]) and not torch.equal(one[2], one[3])
        assert one[0].shape == (2, experiment.RATE)


def test_against_the_beat_is_half_a_beat_away():
    band = songs(2, 16.0)
    band.scores[1].bpm, band.scores[1].key = band.scores[0].bpm, band.scores[0].key
    band.scores[1].downbeats[:] = band.scores[0].downbeats
    assert (0, 1) in band.in_tempo
    beat = 60 / band.scores[0].bpm
    for pairing, phase in (("with the beat", 0.0), ("against the beat", 0.5)):
        data = experiment.MixturesOfMixtures(band, 8, 0, pairing, 1.0)
        for index in range(8):
            generator = torch.Generator().manual_seed(index)
            places = data.places(lambda count: int(torch.randint(count, (), generator=generator)))  # noqa: B023
            gap = (places[1][1] - places[0][1]) / experiment.RATE / beat
            assert abs(gap % 1 - phase) < 0.01 or abs(gap % 1 - phase - 1) < 0.01


def test_committed_network_gives_outputs_that_add_up_at_any_rate():
    x = 0.1 * noise(2, 12_000)
    y = experiment.separate_sources(x, 16_000)
    assert y.shape == (8, 2, 12_000) and torch.allclose(y.sum(0), x, atol=1e-4)
    other = experiment.separate_sources(x, 22_050)
    assert other.shape == (8, 2, 12_000) and other.isfinite().all()
    assert (experiment.separate_sources(0 * x, 16_000) == 0).all()
    stems, owners = experiment.by_tagger(y[:, 0])
    assert stems.shape == (4, 12_000) and len(owners) == 8 and torch.allclose(stems.sum(0), x[0], atol=1e-4)
    assert torch.allclose(experiment.quartered(y[:, 0]).sum(0), x[0], atol=1e-4)


def test_improvement_of_the_mixture_is_none():
    s = noise(4, 500)
    mixture = s.sum(0).expand_as(s)
    assert torch.allclose(experiment.improvements(mixture, s), torch.zeros(2, 4), atol=1e-5)
    assert torch.allclose(experiment.improvements(0 * s, s)[0], -sdr(mixture, s), atol=1e-4)


def test_bands_of_equal_energy_add_up_and_are_equal():
    x = torch.randn(6000, generator=torch.Generator().manual_seed(0))
    bands = experiment.equal_bands(x, 8)
    assert bands.shape == (8, 6000) and torch.allclose(bands.sum(0), x, atol=1e-5)
    energy = bands.square().sum(1)
    assert float(energy.max() / energy.min()) < 1.2
    t = torch.arange(6000) / experiment.RATE
    low, high = torch.sin(2 * math.pi * 200 * t), torch.sin(2 * math.pi * 3000 * t)
    found = experiment.equal_bands(low + high, 2)                       # low first
    assert float((found[0] - low)[600:-600].abs().max()) < 0.02 > float((found[1] - high)[600:-600].abs().max())
    assert not experiment.equal_bands(torch.zeros(6000), 8).any()
    with pytest.raises(ValueError, match="centred frames"):
        experiment.equal_bands(torch.zeros(100), 2)


def test_every_definition_shares_out_all_six_sources():
    six = noise(6, 100, seed=20)
    for groups in experiment.DEFINITIONS.values():
        assert sorted(name for group in groups for name in group) == sorted(SIX_STEMS)
        assert torch.allclose(experiment.grouped(six, groups).sum(0), six.sum(0), atol=1e-5)
    four = experiment.grouped(six, experiment.DEFINITIONS[experiment.FOUR])
    assert torch.allclose(four, torch.stack([six[0], six[1], six[2] + six[4] + six[5], six[3]]), atol=1e-6)


def test_definitions_are_scored_over_the_sources_that_sound():
    """Pieces that are the six sources, with noise: the finer the definition, the less noise in each; no piano here."""
    six = noise(6, 8000, seed=21)
    six[SIX_STEMS.index("piano")] = 0
    pieces = six + 0.1 * noise(6, 8000, seed=22)
    given = SimpleNamespace(names=["a song"], six=six[None])
    rows = experiment.definition_rows({("pieces", 3): lambda mixture: pieces[None]}, given, 4)
    found = {row["definition"]: row for row in rows if row["method"] == "pieces"}
    assert list(found) == list(experiment.DEFINITIONS) and all(row["seed"] == 3 for row in found.values())
    assert [row["sources"] for row in found.values()] == [2, 2, 4, 4, 5]
    assert {row["method"] for row in rows} == {"pieces", experiment.BANDS} and len(rows) == 10
    references = experiment.grouped(six, experiment.DEFINITIONS["six sources"])[[0, 1, 2, 4, 5]]
    by_hand = (sdr(references + pieces[[0, 1, 4, 2, 3]] - six[[0, 1, 4, 2, 3]], references)
               - sdr(six.sum(0).expand(5, -1), references)).mean()
    assert float(found["six sources"]["SDRi"]) == pytest.approx(float(by_hand), abs=1.0)   # and a piano's noise
    bands = next(row for row in rows if (row["method"], row["definition"]) == (experiment.BANDS, "six sources"))
    assert float(found["six sources"]["SDRi"]) > float(bands["SDRi"]) + 5
