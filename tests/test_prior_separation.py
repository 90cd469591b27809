"""Chapter 19's module: exact posteriors, counts, pairs of codes, paths down the noise, guidance; and their edges."""

import math

import pytest
import torch
from torch import Tensor

from course_lib.prior_separation import (
    Denoiser,
    DenoisingStep,
    GaussianMixtureDenoiser,
    GlobalBlock,
    NoiseBlock,
    PartPriors,
    PartPriorsStep,
    SourceUNet,
    Stepwise,
    SumTable,
    best_draw,
    churned,
    constrained,
    count_into,
    count_sums,
    denoising_loss,
    dirac_slope,
    euler_step,
    free_slope,
    gaussian_posterior,
    gaussian_slope,
    joint_logits,
    karras_sigmas,
    log_likelihood,
    masked_parts,
    noise_features,
    pair_posterior,
    preconditioning,
    put_in,
    resampling,
    sample_factored,
    sample_pairs,
    sample_sources,
    score,
    separate_codes,
    separate_with_diffusion,
)
from course_lib.spectral import ideal_ratio_mask


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -------------------------------------------------------------------------------------------------------- Bayes' rule


def test_pair_posterior_by_hand():
    p1, p2 = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    likelihood = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    expected = torch.tensor([[0.0, 0.75], [0.25, 0.0]])
    assert torch.allclose(pair_posterior(p1, p2, likelihood), expected)
    assert torch.allclose(pair_posterior(3 * p1, 0.1 * p2, 7 * likelihood), expected)       # units don't matter
    with pytest.raises(ValueError, match="no pair"):
        pair_posterior(p1, p2, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="likelihood has shape"):
        pair_posterior(p1, p2, torch.ones(2, 3))


def test_gaussian_posterior_is_the_general_formula():
    v = torch.tensor([[1.0, 0.3, 2.0], [0.5, 0.0, 0.1]], dtype=torch.float64)
    m = torch.tensor([0.7, -2.0], dtype=torch.float64)
    mean, covariance = gaussian_posterior(m, v, noise=0.2)
    ones = torch.ones(3, dtype=torch.float64)
    for n in range(2):                                          # S 1 (1' S 1 + s^2)^-1 m, S - S 1 (...)^-1 1' S
        S = torch.diag(v[n])
        gain = S @ ones / (ones @ S @ ones + 0.2)
        assert torch.allclose(mean[n], gain * m[n])
        assert torch.allclose(covariance[n], S - torch.outer(gain, ones @ S))


def test_gaussian_posterior_edges():
    mean, covariance = gaussian_posterior(torch.tensor(1.0), torch.zeros(2))
    assert (mean == 0).all() and (covariance == 0).all()                                   # no source sounds
    mean, _ = gaussian_posterior(torch.tensor(1.0), torch.tensor([0.4]))
    assert mean.tolist() == [1.0]                                                          # one source is the mixture
    S = torch.randn(3, 2, 4, 5, dtype=torch.complex64, generator=seeded())
    mask = gaussian_posterior(torch.ones(2, 4, 5), S.abs().square().movedim(0, -1))[0].movedim(-1, 0)
    assert torch.allclose(mask, ideal_ratio_mask(S, 2.0), atol=1e-5)
    for bad in (dict(noise=-1.0), dict(variances=-torch.ones(2)), dict(variances=torch.ones(3, 2))):
        with pytest.raises(ValueError, match="expected"):
            gaussian_posterior(**{"mixture": torch.tensor(1.0), "variances": torch.ones(2), **bad})


# --------------------------------------------------------------------------------------------------------------- codes


def counted(bins: int = 4, count: int = 500) -> tuple[SumTable, Tensor]:
    codes = torch.randint(bins - 1, (2, count), generator=seeded(1))
    mixed = (codes.sum(0) + torch.randint(2, (count,), generator=seeded(2))) % bins
    return count_sums(*codes, mixed, bins), torch.cat([codes, mixed[None]])


def test_counts_are_those_of_a_loop():
    table, codes = counted()
    dense = torch.zeros(4, 4, 4, dtype=torch.long)
    for k1, k2, km in codes.T.tolist():
        dense[km, k1, k2] += 1
    assert torch.equal(torch.stack([table.of(k) for k in range(4)]), dense)
    assert torch.equal(table.pairs, dense.sum(0)) and torch.equal(table.sums, dense.sum((1, 2)))
    shaped = count_sums(*codes.unflatten(1, (5, -1)), 4)
    assert torch.equal(shaped.keys, table.keys) and torch.equal(shaped.counts, table.counts)
    with pytest.raises(ValueError, match="expected 0 to 3"):
        table.of(4)


@pytest.mark.parametrize("codes", [
    (torch.zeros(3), torch.zeros(3), torch.zeros(3)),
    (torch.tensor([0]), torch.tensor([0]), torch.tensor([4])),
    (torch.tensor([0]), torch.tensor([-1]), torch.tensor([0])),
    (torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([0])),
    (torch.zeros(0, dtype=torch.long),) * 3])
def test_wrong_codes_are_named(codes):
    with pytest.raises(ValueError, match="codes"):
        count_sums(*codes, 4)


@pytest.mark.parametrize("smoothing", [0.01, 1.0, 100.0])
def test_likelihood_is_a_distribution_also_for_pairs_never_seen(smoothing):
    table, _ = counted()
    told = torch.stack([log_likelihood(table, k, smoothing) for k in range(4)])            # (km, k1, k2)
    assert torch.isfinite(told).all()                            # code 3 never comes in a part: rows of zero counts
    assert torch.allclose(told.exp().sum(0), torch.ones(4, 4), atol=1e-5)
    frequencies = (table.sums + 1) / (table.sums.sum() + 4)
    assert torch.allclose(told[:, 3, 3].exp(), frequencies, atol=1e-6)
    with pytest.raises(ValueError, match="smoothing"):
        log_likelihood(table, 0, 0.0)


def test_joint_logits_hold_posterior_and_evidence():
    table, _ = counted()
    a, b = torch.randn(2, 4, generator=seeded(3)), torch.randn(2, 4, generator=seeded(4))
    joint = joint_logits(a, b, log_likelihood(table, 2))
    for n in range(2):
        exact = pair_posterior(a[n].softmax(0), b[n].softmax(0), log_likelihood(table, 2).exp())
        assert torch.allclose(joint[n].flatten().softmax(0).view(4, 4), exact, atol=1e-6)
    all_codes = sum(joint_logits(a, b, log_likelihood(table, k)).exp().sum((1, 2)) for k in range(4))
    assert torch.allclose(all_codes, torch.ones(2), atol=1e-5)
    with pytest.raises(ValueError, match="logits have shapes"):
        joint_logits(a, b[:1], log_likelihood(table, 2))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_drawn_pairs_follow_the_posterior(temperature):
    table, _ = counted()
    a, b = torch.randn(1, 4, generator=seeded(3)), torch.randn(1, 4, generator=seeded(4))
    joint = joint_logits(a, b, log_likelihood(table, 2))
    exact = (joint[0].flatten() / temperature).softmax(0)
    many = lambda x: x.expand(20_000, *x.shape[1:])                                        # noqa: E731
    by_matrix = sample_pairs(many(joint), temperature, generator=seeded())
    factored, evidence = sample_factored(many(a), many(b), log_likelihood(table, 2), temperature, seeded())
    for drawn in (by_matrix, factored):
        found = torch.bincount(drawn[:, 0] * 4 + drawn[:, 1], minlength=16) / 20_000
        assert (found - exact).abs().max() < 0.015
    assert torch.allclose(evidence, joint.flatten(1).logsumexp(1).expand(20_000), atol=1e-4)


def test_top_k_and_ties():
    joint = torch.tensor([[[0.0, 1.0], [1.0, -5.0]]])
    drawn = sample_pairs(joint.expand(500, 2, 2), top_k=1, generator=seeded())             # two pairs tie
    assert {tuple(pair) for pair in drawn.tolist()} == {(0, 1), (1, 0)}
    assert sample_pairs(torch.tensor([[[0.0, 3.0], [1.0, 2.0]]]), top_k=1).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="temperature"):
        sample_pairs(joint, 0.0)
    with pytest.raises(ValueError, match="temperature"):
        sample_factored(joint[0], joint[0], joint[0], 0.0)


def test_weighted_draws_are_the_posterior_of_whole_rows():
    """All rows of three steps over two codes, against draws weighted by what each step's normalising took away."""
    stay = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    first = torch.tensor([[0.5, 0.5]])
    rule_1 = lambda z: (first.expand(len(z), -1) if z.shape[1] == 0 else stay[z[:, -1]]).log()   # noqa: E731
    rule_2 = lambda z: torch.tensor([[0.3, 0.7]]).expand(len(z), -1).log()                       # noqa: E731
    table = count_sums(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1, 1, 0]), 2)
    mixed = torch.tensor([0, 1, 1])
    rows = torch.cartesian_prod(*[torch.arange(2)] * 6)
    z1, z2 = rows[:, :3], rows[:, 3:]
    log_p = torch.zeros(64)
    for t in range(3):
        told = log_likelihood(table, int(mixed[t]), 0.5)
        log_p += rule_1(z1[:, :t])[torch.arange(64), z1[:, t]] + rule_2(z2[:, :t])[torch.arange(64), z2[:, t]]
        log_p += told[z1[:, t], z2[:, t]]
    for options in ({}, dict(top_k=4), dict(resampled=True)):                   # 4 of 4 pairs: forbids nothing
        drawn, evidence = separate_codes([rule_1, rule_2], table, mixed, 20_000, smoothing=0.5, generator=seeded(),
                                         **options)
        number = (drawn.flatten(1) * torch.tensor([32, 16, 8, 4, 2, 1])).sum(1)
        weighted = torch.bincount(number, evidence.softmax(0), minlength=64)
        assert (weighted - log_p.softmax(0)).abs().sum() / 2 < 0.05
        assert abs(float(evidence.exp().mean().log() - log_p.logsumexp(0))) < 0.05         # the mixture's probability


def test_separate_codes_edges():
    table, _ = counted()
    flat = lambda z: torch.zeros(len(z), 4)                                                # noqa: E731
    one, evidence = separate_codes([flat, flat], table, torch.tensor([2]), generator=seeded())
    assert one.shape == (1, 2, 1) and evidence.shape == (1,)
    again = [separate_codes([flat, flat], table, torch.tensor([2, 1, 0]), 3, generator=seeded(5))[0] for _ in range(2)]
    assert torch.equal(*again)
    for mixed, draws in ((torch.zeros(0, dtype=torch.long), 1), (torch.tensor([[1]]), 1), (torch.tensor([1]), 0)):
        with pytest.raises(ValueError, match="mixed has shape"):
            separate_codes([flat, flat], table, mixed, draws)


def test_resampling_only_where_weights_differ():
    even = torch.tensor([-3.0, -3.1, -2.9, -3.0])
    order, weights = resampling(even)
    assert order.tolist() == [0, 1, 2, 3] and torch.equal(weights, even)
    order, weights = resampling(torch.tensor([0.0, -50.0, -50.0, -50.0]), seeded())
    assert order.tolist() == [0, 0, 0, 0] and torch.allclose(weights, torch.tensor(-math.log(4)).expand(4))
    assert resampling(torch.tensor([-7.0]))[0].tolist() == [0]                                  # one draw
    with pytest.raises(ValueError, match="log_weights"):
        resampling(torch.zeros(0))


def test_memory_follows_the_draws():
    prior = small_priors().priors[0].eval()
    ask, row = Stepwise(prior), torch.randint(5, (3, 8), generator=seeded())
    order = torch.tensor([2, 0, 0])
    with torch.no_grad():
        for t in range(4):
            ask(row[:, :t])
        ask.reorder(order)
        assert torch.allclose(ask(row[order][:, :4]), prior.logits(row[order])[:, 4], atol=1e-5)


def test_best_draw_and_masks():
    x = torch.randn(2, 4000, generator=seeded())
    parts = torch.stack([x + 0.3, x, 0.5 * x])
    best, fits = best_draw(parts, x.sum(0))
    assert best == 1 and fits[1] > 60 > fits[2]
    assert best_draw(torch.stack([x, 0 * x]), torch.zeros(4000))[0] == 1                   # silence: the softest sum
    masked = masked_parts(x, x.sum(0))
    assert torch.allclose(masked.sum(0), x.sum(0), atol=1e-4)
    silent = masked_parts(torch.zeros(2, 4000), torch.zeros(4000))
    assert torch.isfinite(silent).all() and not silent.any()
    one = masked_parts(torch.stack([x[0], torch.zeros(4000)]), x[0])
    assert torch.allclose(one[0], x[0], atol=1e-4) and one[1].abs().max() < 1e-4
    for bad in (parts[0], parts[..., :-1]):
        with pytest.raises(ValueError, match="parts has shape"):
            best_draw(bad, x.sum(0))
    with pytest.raises(ValueError, match="parts has shape"):
        masked_parts(x, x[0, :-1])


def small_priors(**more) -> PartPriors:
    torch.manual_seed(0)
    return PartPriors(("a", "b"), input_dims=8, bins=5, width=16, depth=2, heads=2, **more)


def test_priors_never_hear_each_other():
    model = small_priors().eval()
    codes = torch.randint(5, (3, 2, 8), generator=seeded())
    other = codes.clone()
    other[:, 1] = 4 - other[:, 1]
    bits, changed = model(codes), model(other)
    assert bits[0] == changed[0] and bits[1] != changed[1] and bits.shape == (2,)
    PartPriorsStep()(model, codes).backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ValueError, match="a row for each"):
        model(codes[:, :1])


def test_stepwise_gives_what_all_at_once_gives():
    prior = small_priors().priors[0].eval()
    row = torch.randint(5, (2, 8), generator=seeded())
    ask = Stepwise(prior)
    with torch.no_grad():
        for _ in range(2):                                                                 # it begins anew
            found = torch.stack([ask(row[:, :t]) for t in range(8)], 1)
            assert torch.allclose(found, prior.logits(row), atol=1e-5)
        with pytest.raises(ValueError, match="one more each time"):
            ask(row[:, :3])
    with pytest.raises(ValueError, match="eval"):
        Stepwise(prior.train())


def test_counts_go_with_the_priors():
    _, codes = counted()
    data = type("Data", (), {"codes": codes[None]})()
    table = count_sums(*codes, 5)
    model = small_priors(triples=len(table.keys))
    count_into(model, data)
    again = small_priors(triples=len(table.keys))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.table.keys, table.keys) and torch.equal(again.table.pairs, table.pairs)
    with pytest.raises(ValueError, match=f"triples: {len(table.keys)}"):
        count_into(small_priors(triples=3), data)


# ----------------------------------------------------------------------------------------------------------- diffusion

BUMPS = (torch.tensor([[0.3, 0.7], [0.5, 0.5]]), torch.tensor([[-1.0, 1.0], [-0.4, 0.4]]), torch.full((2, 2), 0.15))


def gaussians(*deviations: float) -> GaussianMixtureDenoiser:
    d = torch.tensor(deviations)[:, None]
    return GaussianMixtureDenoiser(torch.ones_like(d), torch.zeros_like(d), d)


def test_exact_score_is_the_gradient():
    x = torch.randn(5, 2, 3, generator=seeded()).requires_grad_()
    normal = torch.distributions.Normal(BUMPS[1][..., None], (BUMPS[2][..., None] ** 2 + 0.4 ** 2).sqrt())
    density = (normal.log_prob(x[:, :, None]).exp() * BUMPS[0][..., None]).sum(2).log().sum()
    gradient, = torch.autograd.grad(density, x)
    assert torch.allclose(gradient, score(GaussianMixtureDenoiser(*BUMPS)(x, 0.4), x, 0.4), atol=1e-4)
    with pytest.raises(ValueError, match="sigma is 0"):
        score(x, x, 0)
    with pytest.raises(ValueError, match="component"):
        GaussianMixtureDenoiser(*BUMPS[:2], BUMPS[2][:1])


def test_levels():
    sigmas = karras_sigmas(10, 0.01, 2.0)
    assert len(sigmas) == 11 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
    assert math.isclose(float(sigmas[0]), 2.0, rel_tol=1e-5) and math.isclose(float(sigmas[9]), 0.01, rel_tol=1e-3)
    assert torch.allclose(karras_sigmas(5, 1.0, 3.0, rho=1.0)[:5], torch.linspace(3, 1, 5))
    for bad in ((1, 0.1, 1.0), (5, 0.0, 1.0), (5, 1.0, 0.1), (5, 0.1, 1.0, 0.0)):
        with pytest.raises(ValueError, match="steps is"):
            karras_sigmas(*bad)


def test_churn_reaches_its_level():
    x = torch.zeros(100_000)
    assert churned(x, 0.5, 0.0, 10) == (x, 0.5)
    for churn, factor in ((2.0, 1.2), (1e9, 2 ** 0.5)):
        y, higher = churned(x, 0.5, churn, 10, seeded())
        assert math.isclose(higher, 0.5 * factor, rel_tol=1e-6)
        assert abs(float(y.std()) / (higher ** 2 - 0.25) ** 0.5 - 1) < 0.02
    with pytest.raises(ValueError, match="churn"):
        churned(x, 0.5, -1.0, 10)


@pytest.mark.parametrize(("heun", "churn"), [(False, 0.0), (True, 0.0), (False, 20.0)])
def test_samples_have_the_right_distribution(heun, churn):
    x = sample_sources(free_slope(GaussianMixtureDenoiser(*BUMPS)), (4000, 2, 1), karras_sigmas(60, 1e-3, 5.0), churn,
                       heun, generator=seeded())
    positive = (x[:, 0] > 0).float().mean()
    assert abs(float(positive) - 0.7) < 0.06
    assert abs(float(x[x[:, 0] > 0, 0].std() if x.ndim == 2 else x[:, 0][x[:, 0] > 0].std()) - 0.15) < 0.03


def test_paths_repeat_and_refuse():
    slope = free_slope(gaussians(1.0))
    one, two = (sample_sources(slope, (2, 1, 5), karras_sigmas(5), 10.0, generator=seeded(3)) for _ in range(2))
    assert torch.equal(one, two) and torch.isfinite(one).all()
    assert torch.equal(euler_step(one, torch.ones_like(one), 1.0, 0.5), one - 0.5)
    with pytest.raises(ValueError, match="do not fall"):
        sample_sources(slope, (1, 1, 1), torch.tensor([0.0, 1.0]))


def test_preconditioning_and_loss():
    sigma = torch.tensor([0.01, 0.1, 3.0])
    skip, into, out = preconditioning(sigma, 0.1)
    assert torch.allclose(skip + out.square() / 0.01, torch.ones(3))        # c_out^2: what a Wiener mask leaves
    assert torch.allclose(into.square() * (sigma.square() + 0.01), torch.ones(3))
    x, noise = 0.1 * torch.randn(3, 2, 9000, generator=seeded()), torch.randn(3, 2, 9000, generator=seeded(1))
    wiener = lambda x, sigma: preconditioning(sigma, 0.1)[0][:, None, None] * x            # noqa: E731
    assert (denoising_loss(wiener, x, sigma, noise, 0.1) - 1).abs().max() < 0.08
    assert denoising_loss(lambda noisy, sigma: x, x, sigma, noise, 0.1).abs().max() == 0
    with pytest.raises(ValueError, match="least sigma"):
        preconditioning(torch.tensor([0.0]), 0.1)
    with pytest.raises(ValueError, match="noise"):
        denoising_loss(wiener, x, sigma, noise[:, :1], 0.1)


def test_network_shapes_lengths_and_start():
    torch.manual_seed(0)
    model = Denoiser(0.1, sources=3, patch=4, widths=(8, 16), factor=2, told=16)
    for time in (1, 7, 8, 50):
        x = torch.randn(2, 3, time, generator=seeded())
        given = model(x, 0.2)
        assert given.shape == x.shape and torch.isfinite(given).all()
    x = torch.randn(2, 3, 64, generator=seeded())
    torch.nn.init.zeros_(model.network.last.bias)
    assert torch.allclose(model(x, 0.2), preconditioning(torch.tensor(0.2), 0.1)[0] * x)   # before training: the level
    assert torch.allclose(model(x, 0.2)[:1], model(x[:1], torch.tensor([0.2])))
    assert torch.isfinite(model(torch.zeros(1, 3, 64), 0.01)).all()                        # silence
    assert torch.equal(model.network.unfolded(model.network.folded(x)), x)
    with pytest.raises(ValueError, match="expected \\(batch, 3"):
        model(x[:, :2], 0.2)
    with pytest.raises(ValueError, match="even"):
        noise_features(torch.ones(1), 3)
    assert GlobalBlock(8)(torch.ones(1, 8, 3)).shape == (1, 8, 3)
    assert NoiseBlock(8, 4)(torch.ones(1, 8, 3), torch.ones(1, 4)).shape == (1, 8, 3)


def test_level_of_the_noise_reaches_the_network():
    torch.manual_seed(0)
    network = SourceUNet(1, 4, (8, 8), 2, 16)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x = torch.randn(1, 1, 64, generator=seeded())
    assert not torch.allclose(network(x, torch.tensor([0.1])), network(x, torch.tensor([0.5])))


def test_step_learns_and_repeats():
    torch.manual_seed(0)
    model = Denoiser(0.1, sources=2, patch=4, widths=(8,), told=16)
    t = torch.arange(64) / 64 * 2 * math.pi
    waves = 0.14 * torch.stack([torch.sin(2 * t), torch.sin(7 * t)]).expand(8, 2, 64)
    losses = [float(DenoisingStep(generator=seeded(9))(model, waves).detach()) for _ in range(2)]
    assert losses[0] == losses[1]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    step = DenoisingStep(mean=-2.0, generator=seeded())
    for _ in range(60):
        optimizer.zero_grad()
        loss = step(model, waves)
        loss.backward()
        optimizer.step()
    after = float(DenoisingStep(generator=seeded(9))(model, waves).detach())
    assert after < 0.9 * losses[0]


# ------------------------------------------------------------------------------------------------------------ guidance


def test_given_sources_stay():
    given = torch.tensor([True, False])
    known = torch.ones(2000, 2, 1)
    x = sample_sources(free_slope(GaussianMixtureDenoiser(*BUMPS)), known.shape, karras_sigmas(40, 1e-3, 5.0),
                       before=put_in(known, given, seeded(1)), generator=seeded())
    assert torch.equal(x[:, 0], known[:, 0]) and abs(float(x[:, 1].std()) - 0.427) < 0.05
    noisy = put_in(torch.zeros(1, 2, 50_000), given, seeded())(torch.full((1, 2, 50_000), 7.0), 0.5)
    assert abs(float(noisy[0, 0].std()) - 0.5) < 0.02 and (noisy[0, 1] == 7).all()
    for bad in (torch.tensor([True, True]), torch.tensor([False, False]), torch.tensor([True]), torch.ones(2)):
        with pytest.raises(ValueError, match="given"):
            put_in(known, bad)


def test_constraint_by_hand():
    x = torch.tensor([[[1.0], [2.0], [5.0]]])
    assert constrained(x, torch.tensor([[4.0]]), 1)[0, :, 0].tolist() == [1.0, -2.0, 5.0]
    assert torch.equal(constrained(x[:, :1], torch.tensor([[4.0]]), 0), torch.tensor([[[4.0]]]))   # one source
    with pytest.raises(ValueError, match="source is 3"):
        constrained(x, torch.tensor([[4.0]]), 3)
    with pytest.raises(ValueError, match="mixture"):
        constrained(x, torch.tensor([4.0]), 0)


@pytest.mark.parametrize("source", [0, 1, 2])
def test_dirac_slope_is_the_gradient_under_the_constraint(source):
    denoiser = gaussians(1.0, 0.5, 2.0)
    x, m, sigma = torch.randn(4, 3, 5, generator=seeded()), torch.randn(4, 5, generator=seeded(1)), 0.3
    free = x.clone().requires_grad_()
    total = torch.tensor([1.0, 0.25, 4.0])[:, None] + sigma ** 2
    log_density = -(constrained(free, m, source).square() / (2 * total)).sum()
    gradient, = torch.autograd.grad(log_density, free)
    slope = dirac_slope(denoiser, m, source)(x, sigma)
    others = [n for n in range(3) if n != source]
    assert torch.allclose(slope[:, others], -sigma * gradient[:, others], atol=1e-5)
    assert (slope[:, source] == 0).all() and (gradient[:, source] == 0).all()


def test_gaussian_slope_is_the_gradient_of_both_terms():
    denoiser = gaussians(1.0, 0.5)
    x, m, sigma, gamma = torch.randn(4, 2, 5, generator=seeded()), torch.randn(4, 5, generator=seeded(1)), 0.3, 1.7
    free = x.clone().requires_grad_()
    total = torch.tensor([1.0, 0.25])[:, None] + sigma ** 2
    log_density = -(free.square() / (2 * total)).sum() - ((m - free.sum(1)) / (gamma * sigma)).square().sum() / 2
    gradient, = torch.autograd.grad(log_density, free)
    assert torch.allclose(gaussian_slope(denoiser, m, gamma)(x, sigma), -sigma * gradient, atol=1e-4)
    with pytest.raises(ValueError, match="gamma"):
        gaussian_slope(denoiser, m, 0.0)


def test_separation_adds_up_and_finds_the_right_bumps():
    judge, m = GaussianMixtureDenoiser(*BUMPS), torch.full((1000, 1), 0.6)
    x = separate_with_diffusion(judge, m, 2, karras_sigmas(80, 1e-3, 5.0), churn=20.0, generator=seeded())
    assert (x.sum(1) - m).abs().max() < 1e-5
    assert ((x[:, 0] > 0.5) & (x[:, 1] < 0)).float().mean() > 0.6
    y = separate_with_diffusion(judge, m, 2, karras_sigmas(80, 1e-3, 5.0), "gaussian", gamma=1.5, generator=seeded())
    assert (y.sum(1) - m).abs().mean() < 0.05


def test_dirac_guidance_loses_the_spread_and_churn_brings_it_back():
    m, levels = torch.full((2000, 1), 1.2), karras_sigmas(100, 1e-3, 10.0)
    mean, covariance = gaussian_posterior(torch.tensor(1.2), torch.tensor([1.0, 0.25]))
    exact = float(covariance[0, 0].sqrt())
    plain, stirred = (separate_with_diffusion(gaussians(1.0, 0.5), m, 2, levels, churn=churn, generator=seeded())
                      for churn in (0.0, 1e9))
    assert float(plain[:, 0].std()) < 0.3 * exact < 0.7 * exact < float(stirred[:, 0].std()) < 1.3 * exact
    assert (stirred.mean((0, 2)) - mean).abs().max() < (plain.mean((0, 2)) - mean).abs().max()


def test_separation_edges():
    denoiser, levels = gaussians(1.0, 0.5), karras_sigmas(30, 1e-3, 3.0)
    silent = separate_with_diffusion(denoiser, torch.zeros(1, 6), 2, levels, generator=seeded())
    assert torch.isfinite(silent).all() and (silent.sum(1)).abs().max() < 1e-5
    one = separate_with_diffusion(gaussians(1.0), torch.ones(1, 6), 1, levels, generator=seeded())
    assert torch.equal(one, torch.ones(1, 1, 6))                                            # one source is the mixture
    for bad in (dict(mixture=torch.zeros(6)), dict(mixture=torch.zeros(1, 0)), dict(guidance="exact")):
        with pytest.raises(ValueError, match="guidance is|empty"):
            separate_with_diffusion(**{"denoiser": denoiser, "mixture": torch.zeros(1, 6), "sources": 2,
                                       "sigmas": levels, **bad})
    with pytest.raises(ValueError, match="NaN"):
        separate_with_diffusion(denoiser, torch.full((1, 6), math.nan), 2, levels)
