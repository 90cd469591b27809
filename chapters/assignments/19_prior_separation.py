# %% [markdown]
# # Assignment 19 · What a prior knows, and what it doesn't
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 19, but none is a copy of it: you say of many sources at once how likely their levels are when only the sum is known, count codes and fall back on what was counted where nothing was,
# let draws that explain the mixture badly die out without chance taking the good ones, denoise sources that have to add up, and follow them down so that no source takes up what the others leave.
# Read what is asked for, above all at the edges (a sum that can't be, a pair that was never seen, draws that are all impossible, sources that can't move, a share of nothing).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.prior_separation` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input where nothing else is said.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import math
import torch
import torch.nn.functional as F

# %% [markdown]
# The numbers of your version of this assignment:

# %%
# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
SOURCES = variation.integer("sources", 8, 14)
CODES = variation.integer("codes", 5, 9)  # of a codebook
DRAWS = variation.integer("draws", 6, 12)
VARIANCE = variation.choice("variance", [2.0, 3.0, 5.0])
SHARE = variation.choice("share", [0.25, 0.5, 0.75])

# %% [markdown]
# ## Task 1: many sources, one sum
#
# The smallest example of 19.1 lists all pairs. With $J$ sources of $L$ levels each there are $L^J$ of them, but only the sum counts, and sums add up one source after the other: the probability that the first $j$ sources have sum $s$ comes from that of the first $j - 1$.
#
# Source $j$ has level $0, \dots, L - 1$ with probability $p_j(\ell)$, all independently, and $m$ is the sum of all levels. Find
# - the marginals $p(x_j = \ell \mid m)$ of all sources,
# - $\ln p(m)$, the evidence, in nats.
#
# Priors come as weights, 0 or more, in any unit: each source's are divided by their sum, which is above 0. A level may be impossible, and others as unlikely as $10^{-300}$: then $p(m)$ is far below what a float64 can hold, but its logarithm is not. Where no levels give the sum (also for $m$ below 0 or above $J (L - 1)$) the marginals are all 0, and the evidence is $-\infty$.

# %%
# TASK 1 (5 points): many sources, one sum
def given_the_sum(priors, total):
    """(marginals float64 (source, level), evidence as a float).

    priors: floats (source, level), one source and one level or more. total: m, a whole number.
    """
    ### BEGIN SOLUTION
    logs = priors.double().log().log_softmax(1)
    sources, levels = logs.shape
    sums = sources * (levels - 1) + 1

    def added(known, log):
        """Log-probabilities of a sum with one source more."""
        terms = [F.pad(known[:sums - level] + log[level], (level, 0), value=-math.inf)
                 for level in range(levels)]
        return torch.stack(terms).logsumexp(0)

    nothing = torch.full((sums,), -math.inf, dtype=torch.float64)
    nothing[0] = 0.0
    before, after = [nothing], [nothing]
    for log in logs[:-1]:
        before.append(added(before[-1], log))
    for log in logs.flip(0)[:-1]:
        after.append(added(after[-1], log))
    marginals = torch.zeros(sources, levels, dtype=torch.float64)
    if not 0 <= total < sums:
        return marginals, -math.inf
    evidence = float(added(before[-1], logs[-1])[total])
    if evidence == -math.inf:
        return marginals, evidence
    for j in range(sources):
        for level in range(min(levels, total + 1)):
            rest = total - level                                    # of the others
            others = before[j][:rest + 1] + after[sources - 1 - j][:rest + 1].flip(0)
            marginals[j, level] = (logs[j, level] + others.logsumexp(0) - evidence).exp()
    return marginals, evidence
    ### END SOLUTION

# %%
# CHECK 1
priors = torch.tensor([[0.5, 0.3, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]])
found, evidence = given_the_sum(priors, 3)
assert found.shape == (2, 4) and found.dtype == torch.float64, (
    f"float64 (2, 4); you: {tuple(found.shape)}, {found.dtype}")
joint = torch.tensor([0.5 * 0.4, 0.3 * 0.3, 0.1 * 0.2, 0.1 * 0.1]).double()
assert torch.allclose(found[0], joint / joint.sum(), atol=1e-6), (
    f"four pairs give 3: 0.625, 0.281, 0.0625, 0.031 for the first source; you say {found[0]}")
assert torch.allclose(found[1], found[0].flip(0)), "the second has what is left of 3"
assert abs(evidence - math.log(0.32)) < 1e-6, f"p(3) = 0.32; you say exp({evidence})"
found, evidence = given_the_sum(priors, 7)
assert found.eq(0).all() and evidence == -math.inf, "3 + 3 is the most: no 7"
coins = torch.ones(SOURCES, 2)
found, evidence = given_the_sum(coins, 1)
assert torch.allclose(found[:, 1], torch.full((SOURCES,), 1 / SOURCES).double()), (
    f"one of {SOURCES} coins shows 1: each with 1/{SOURCES}; you say {found[:, 1]}")
assert abs(evidence - math.log(SOURCES * 0.5 ** SOURCES)) < 1e-6, (
    f"which happens in {SOURCES} of {2 ** SOURCES} cases; you say exp({evidence})")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
from fractions import Fraction
def _exact(priors, total):
    """Marginals and ln p(m) with exact fractions, source by source."""
    rows = [[Fraction(v) for v in row] for row in priors.double().tolist()]
    rows = [[v / sum(row) for v in row] for row in rows]
    def sums(rows):
        known = {0: Fraction(1)}
        for row in rows:
            new = {}
            for s, p in known.items():
                for level, q in enumerate(row):
                    if q:
                        new[s + level] = new.get(s + level, 0) + p * q
            known = new
        return known
    whole = sums(rows).get(total, Fraction(0))
    marginals = torch.zeros(len(rows), len(rows[0]), dtype=torch.float64)
    if not whole:
        return marginals, -math.inf
    for j, row in enumerate(rows):
        others = sums(rows[:j] + rows[j + 1:])
        for level, q in enumerate(row):
            marginals[j, level] = float(q * others.get(total - level, 0) / whole)
    return marginals, math.log(whole.numerator) - math.log(whole.denominator)

def _right(priors, total, message):
    before = priors.clone()
    found = given_the_sum(priors, total)
    message = f"{message}: priors {tuple(priors.shape)}, sum {total}"
    assert truth.equal(priors, before), "given_the_sum changes its argument"
    assert type(found) in (tuple, list) and len(found) == 2, f"two results, {message}"
    marginals, evidence = found
    expected, log = _exact(before, total)
    assert truth.has_shape(marginals, *priors.shape) and marginals.dtype == torch.float64, (
        f"marginals are float64 (source, level), {message}")
    assert truth.close(marginals, expected, rtol=1e-6, atol=1e-9), f"wrong marginals, {message}"
    assert type(evidence) is float, f"the evidence is a float, {message}"
    assert evidence == log if math.isinf(log) else truth.close(
        evidence, log, rtol=1e-7, atol=1e-7), f"wrong evidence, {message}"

_generator = hidden.generator("priors")
_draw = lambda *shape: torch.rand(*shape, generator=_generator)
for _case in range(5):
    _priors = _draw(2 + _case, hidden.integer(f"levels {_case}", 2, 5))
    for _total in (0, 1, 2, hidden.integer(f"sum {_case}", 2, 6), _priors.shape[0]):
        _right(_priors, _total, "a few sources")
    _most = len(_priors) * (_priors.shape[1] - 1)
    for _total in (_most - 1, _most, _most + 1, _most + 50, -1, -7):
        _right(_priors, _total, "sums at the ends and beyond")
_right(_draw(24, 2), 9, "24 sources")
_right(_draw(16, 4), 20, "16 sources")
for _total in range(-1, 5):
    _right(_draw(1, 4), _total, "one source")
    _right(_draw(3, 1), _total, "one level")
_holes = _draw(4, 5)
_holes[0, 1:] = 0
_holes[1, ::2] = 0
_holes[2, :4] = 0
for _total in range(12):
    _right(_holes, _total, "some levels are impossible")
_odd = torch.zeros(3, 5)
_odd[:, ::2] = 1.0
_right(_odd, 5, "only even levels, an odd sum")
_right(_odd, 6, "only even levels, an even sum")
_small = _draw(8, 3).double()
_small[:, 2] = 1e-300
for _total in (3, 8, 12, 15, 16):
    _right(_small, _total, "levels as unlikely as 1e-300")
_units = torch.tensor([1e-250, 1.0, 1e250, 7.0], dtype=torch.float64)[:, None] * _draw(4, 4)
_right(_units, 6, "other units")
_right(_draw(5, 4).T, 7, "not contiguous")
for _edge, _level, (_v,) in edges.mutated(_draw(4, 6) + 0.01, tiny=1e-30, huge=1e30):
    _right(_v, 3 if _v.shape[1] > 1 else 0, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: where nothing was counted
#
# By (19.4) a pair of codes that was never seen says nothing, though both of its codes may have been seen often, each with another partner. Fall back in two steps. With $n[\cdot]$ for the number of triples with these codes, $N$ of all, and $K$ codes,
#
# $$ q(k_m) = \frac{n[k_m] + 1}{N + K}, \qquad p(k_m \mid k_1) = \frac{n[k_1, k_m] + \beta\, q(k_m)}{n[k_1] + \beta}, \qquad p(k_m \mid k_2) \text{ likewise}, $$
#
# $$ p(k_m \mid k_1, k_2) = \frac{n[k_1, k_2, k_m] + \alpha\, \tfrac12 \big(p(k_m \mid k_1) + p(k_m \mid k_2)\big)}{n[k_1, k_2] + \alpha} . $$
#
# `triples` lists what was seen, a row $(k_1, k_2, k_m)$ each, the same row as often as it was seen; `asked` lists the triples whose $\ln p(k_m \mid k_1, k_2)$ is asked for. A codebook may have a million codes: a table of $K^2$ numbers doesn't fit, and $K^3$ is more than an int32 holds. Either list may be empty.

# %%
# TASK 2 (5 points): where nothing was counted
def log_of_sum(triples, asked, codes, alpha, beta):
    """ln p(km | k1, k2), float64 (asked,). triples: int64 (seen, 3), asked: int64 (asked, 3), codes
    from 0 to `codes` - 1. alpha, beta: above 0."""
    ### BEGIN SOLUTION
    def count(*columns):
        """How often the asked codes of these columns were seen together: (asked,)."""
        key = lambda rows: sum(rows[:, c] * codes ** n for n, c in enumerate(columns))
        seen, counts = key(triples).unique(return_counts=True)
        wanted = key(asked)
        if not len(seen):
            return torch.zeros(len(wanted), dtype=torch.float64)
        place = torch.searchsorted(seen, wanted).clamp_max(len(seen) - 1)
        return torch.where(seen[place] == wanted, counts[place], 0).double()

    q = (count(2) + 1) / (len(triples) + codes)
    single = [(count(c, 2) + beta * q) / (count(c) + beta) for c in (0, 1)]
    return ((count(0, 1, 2) + alpha * (single[0] + single[1]) / 2) / (count(0, 1) + alpha)).log()
    ### END SOLUTION

# %%
# CHECK 2
triples = torch.tensor([[0, 2, 1], [0, 2, 1], [0, 2, 0], [1, 0, 1]])
asked = torch.tensor([[0, 2, 1], [1, 2, 1], [2, 1, 1], [2, 1, 2]])
found = log_of_sum(triples, asked, 3, 1.0, 1.0).exp()
assert found.shape == (4,) and found.dtype == torch.float64, (
    f"a number for each that is asked, float64; you: {tuple(found.shape)}, {found.dtype}")
q = 4 / 7
seen = (2 + q) / 4
assert abs(float(found[0]) - (2 + seen) / 4) < 1e-6, (
    f"0 and 2 gave 1 in two of three cases, each alone, too: (2 + (2 + 4/7)/4) / 4, 0.6607; "
    f"you say {float(found[0]):.4f}")
expected = ((1 + q) / 2 + seen) / 2
assert abs(float(found[1]) - expected) < 1e-6, (
    f"1 and 2 never met: the mean of what each alone says, {expected:.4f}; you say "
    f"{float(found[1]):.4f}")
assert abs(float(found[2]) - q) < 1e-6, (
    f"2 first and 1 second were never seen: only q, 4/7; you say {float(found[2]):.4f}")
assert abs(float(found[3]) - 1 / 7) < 1e-6, "and q of a sum that never came is 1 of 7"
everything = torch.tensor([[1, 2, k] for k in range(CODES)])
found = log_of_sum(triples, everything, CODES, 0.3, 2.5).exp()
assert abs(float(found.sum()) - 1) < 1e-6, f"over all sums it is 1; yours: {float(found.sum()):.6f}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
from collections import Counter
def _expected(triples, asked, codes, alpha, beta):
    rows = [tuple(row) for row in triples.tolist()]
    count = {columns: Counter(tuple(row[c] for c in columns) for row in rows)
             for columns in ((2,), (0,), (1,), (0, 2), (1, 2), (0, 1), (0, 1, 2))}
    found = []
    for a in asked.tolist():
        n = lambda *columns: count[columns][tuple(a[c] for c in columns)]
        q = (n(2) + 1) / (len(rows) + codes)
        one, two = ((n(c, 2) + beta * q) / (n(c) + beta) for c in (0, 1))
        found.append(math.log((n(0, 1, 2) + alpha * (one + two) / 2) / (n(0, 1) + alpha)))
    return torch.tensor(found, dtype=torch.float64)

def _right(triples, asked, codes, alpha, beta, message):
    before = triples.clone(), asked.clone()
    found = log_of_sum(triples, asked, codes, alpha, beta)
    message = (f"{message}: {len(triples)} triples, {len(asked)} asked, {codes} codes, alpha "
               f"{alpha:g}, beta {beta:g}")
    assert truth.equal((triples, asked), before), "log_of_sum changes its arguments"
    assert truth.has_shape(found, len(asked)) and found.dtype == torch.float64, (
        f"float64 (asked,), {message}")
    assert truth.close(found, _expected(*before, codes, alpha, beta), rtol=1e-8, atol=1e-8), (
        f"wrong numbers, {message}")

_generator = hidden.generator("codes")
_draw = lambda count, codes: torch.randint(0, codes, (count, 3), generator=_generator)
for _case in range(6):
    _codes = hidden.integer(f"codes {_case}", 2, 7)
    _right(_draw(60, _codes), _draw(40, _codes), _codes, hidden.real(f"alpha {_case}", 0.1, 5),
           hidden.real(f"beta {_case}", 0.1, 5), "codes of a small book")
_triples, _asked = _draw(50, 5), _draw(30, 5)
_mixed = _triples[torch.randint(0, 50, (30,), generator=_generator)].clone()
for _column in range(3):
    _more = _mixed.clone()
    _more[:, _column] = _asked[:, _column]
    _right(_triples, _more, 9, 1.0, 2.0, "some known, some not")
_right(_triples, _triples, 5, 0.5, 3.0, "what was seen")
_right(_triples, _asked, 500, 0.5, 3.0, "a large book, most of it never seen")
_far = torch.tensor([999_999, 524_287, 65_536, 46_341, 0])
_big = _far[_draw(80, 5)]
_right(_big, torch.cat([_big[:20], _far[_draw(20, 5)]]), 1_000_000, 1.0, 1.0, "a million codes")
_right(torch.tensor([[967_301, 4294, 7], [9, 967_301, 4294], [967_301, 8, 4294]]),
       torch.tensor([[5, 0, 7], [9, 5, 0], [5, 8, 0], [5, 0, 0]]), 1_000_000, 1.0, 1.0,
       "a million codes, far apart")
_right(torch.tensor([[1000, 3, 7], [9, 1000, 3], [1000, 9, 3]]),
       torch.tensor([[0, 4, 7], [9, 0, 4], [0, 9, 4], [0, 4, 4]]), 5000, 1.0, 1.0,
       "5,000 codes")
_right(torch.tensor([[0, 1, 0], [1, 0, 0]]), torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0]]), 2,
       1.0, 1.0, "the order of the parts counts")
_right(_triples[:0], _asked, 5, 1.0, 1.0, "nothing was seen")
_right(_triples, _asked[:0], 5, 1.0, 1.0, "nothing is asked")
_right(_triples[:0], _asked[:0], 5, 1.0, 1.0, "nothing at all")
_right(_triples[:1], _asked, 5, 2.0, 0.5, "one triple")
_right(0 * _triples, 0 * _asked, 1, 1.0, 1.0, "a book of one code")
_right(_triples.T.contiguous().T, _asked.flip(0), 5, 1.0, 1.0, "not contiguous")
edges.case("zeros inside")
_right(_triples * (torch.arange(50) % 3 > 0)[:, None], _asked, 5, 1.0, 1.0, "zeros inside")
edges.case("short")
_right(_triples[:2], _asked[:1], 5, 1.0, 1.0, "short")
edges.case("tiny")
_right(_triples, _asked, 5, 1e-9, 1e-9, "nearly no smoothing")
_right(_triples, _asked, 5, 1e-9, 1.0, "nearly no smoothing of pairs")
edges.case("huge")
_right(_triples, _asked, 5, 1e12, 1e12, "much smoothing")
_right(_triples.repeat(60, 1), _asked, 5, 1.0, 1.0, "3,000 triples")
edges.left_out("other type", "codes are int64")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: let bad draws die out, and no good ones
#
# When 19.5 draws the draws anew, by weight, chance takes part twice: even a draw that has half of the weight may die, and of draws with equal weights hardly all go on. **Systematic** resampling needs a single random number, and leaves as little as possible to it. Draw $d$ of $D$ has the weight $w_d \ge 0$, given as $\ln w_d$, in any unit.
#
# - The **effective number** of draws is $(\sum_d w_d)^2 / \sum_d w_d^2$: $D$ if all are alike, 1 if one has all the weight.
# - If it is below `least` times $D$, resample with one random number $u \in [0, 1)$: of $D$ places $(i + u) / D$, $i = 0, \dots, D - 1$, each goes to the first draw up to and with which the summed shares *exceed* it. So a draw with share $w$ gets $\lfloor D w \rfloor$ or $\lceil D w \rceil$ places, and the order stays. Otherwise everybody keeps its place.
# - A draw of weight 0 ($-\infty$) gets none, whatever rounding does to the sums. Where all are $-\infty$ nothing can be said: everybody keeps its place, and the effective number is 0.
#
# Logarithms may lie around $-10^5$ or $+10^5$, and differ by as much.

# %%
# TASK 3 (5 points): let bad draws die out, and no good ones
def resample(logs, u, least):
    """(parents int64 (draw,), effective number as a float); parents[i] is the draw that goes on in
    place i. logs: floats (draw,), one or more, finite or -inf. u: from 0 to below 1. least: from 0
    to 1."""
    ### BEGIN SOLUTION
    draws, stay = len(logs), torch.arange(len(logs))
    if not (logs > -math.inf).any():
        return stay, 0.0
    shares = logs.double().softmax(0)
    effective = 1 / float(shares.square().sum())
    if not effective < least * draws:
        return stay, effective
    sums = shares.cumsum(0)
    places = (torch.arange(draws, dtype=torch.float64) + u) / draws
    found = torch.searchsorted(sums, places, right=True)
    last = int(shares.nonzero().max())
    return found.clamp_max(last), effective
    ### END SOLUTION

# %%
# CHECK 3
logs = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
parents, effective = resample(logs, 0.6, 1.0)
assert parents.dtype == torch.int64 and parents.shape == (4,), (
    f"int64 (4,); you: {parents.dtype}, {tuple(parents.shape)}")
assert abs(effective - 1 / (0.25 + 0.0625 + 0.03125)) < 1e-5, (
    f"1 / (1/4 + 1/16 + 2/64) = 2.909; you say {effective}")
assert parents.tolist() == [0, 0, 1, 3], (
    f"places 0.15, 0.4, 0.65, 0.9; sums 0.5, 0.75, 0.875, 1: 0 0 1 3; you say {parents.tolist()}")
alike = torch.zeros(4)
alike[1] = -math.inf
parents, _ = resample(alike[[0, 1, 2, 1]], 0.0, 1.0)
assert parents.tolist() == [0, 0, 2, 2], (
    f"sums 0.5, 0.5, 1, 1: the place 0.5 isn't exceeded by 0.5: 0 0 2 2; you say "
    f"{parents.tolist()}")
assert resample(logs, 0.6, 0.5)[0].tolist() == [0, 1, 2, 3], "2.9 is not below 2: all stay"
alike = torch.full((DRAWS,), -1e5)
parents, effective = resample(alike, 0.3, 0.9)
assert parents.tolist() == list(range(DRAWS)) and abs(effective - DRAWS) < 1e-4, (
    f"{DRAWS} draws alike: {DRAWS}; you say {effective}")
one = torch.full((DRAWS,), -math.inf)
one[2] = 7.0
parents, effective = resample(one, 0.9, 0.5)
assert parents.tolist() == [2] * DRAWS and abs(effective - 1) < 1e-6, "one has all the weight"
parents, effective = resample(one - math.inf, 0.9, 0.5)
assert parents.tolist() == list(range(DRAWS)) and effective == 0, "all impossible: all stay, 0"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _expected(logs, u, least):
    values = logs.double().tolist()
    top = max(values)
    if top == -math.inf:
        return list(range(len(values))), 0.0
    weights = [math.exp(v - top) for v in values]
    whole = math.fsum(weights)
    effective = whole ** 2 / math.fsum(w * w for w in weights)
    if not effective < least * len(values):
        return list(range(len(values))), effective
    alive = [n for n, w in enumerate(weights) if w]
    found, at, reached = [], 0, weights[alive[0]]
    for i in range(len(values)):
        while reached <= (i + u) / len(values) * whole and at + 1 < len(alive):
            at += 1
            reached += weights[alive[at]]
        found.append(alive[at])
    return found, effective

def _right(logs, u, least, message):
    before = logs.clone()
    found = resample(logs, u, least)
    message = f"{message}: {len(logs)} draws, u {u:g}, least {least:g}"
    assert truth.equal(logs.nan_to_num(0.0, 9.0, -9e9), before.nan_to_num(0.0, 9.0, -9e9)), (
        "resample changes its argument")
    assert type(found) in (tuple, list) and len(found) == 2, f"two results, {message}"
    parents, effective = found
    expected, number = _expected(before, u, least)
    assert type(effective) is float, f"the effective number is a float, {message}"
    precise = 1e-6 if logs.dtype == torch.float64 else 1e-4
    assert truth.close(effective, number, rtol=precise, atol=1e-6), f"wrong number, {message}"
    assert parents.dtype == torch.int64 and truth.has_shape(parents, len(logs)), (
        f"parents are int64 (draw,), {message}")
    assert truth.equal(parents, torch.tensor(expected)), f"wrong parents, {message}"

_generator = hidden.generator("weights")
_draw = lambda n, spread=2.0: spread * torch.randn(n, generator=_generator)
for _case in range(8):
    _logs = _draw(hidden.integer(f"draws {_case}", 2, 20))
    for _u in (0.0, hidden.real(f"u {_case}", 0.01, 0.99), 0.999):
        for _least in (0.0, 0.5, 1.0):
            _right(_logs, _u, _least, "weights of all kinds")
for _shift in (1e5, -1e5, 3e4):
    _right(_draw(9).double() + _shift, 0.4, 1.0, f"around {_shift:g}")
_right(_draw(9, 1e5), 0.4, 1.0, "far apart")
_right(_draw(9, 300.0), 0.7, 1.0, "far apart")
_holes = _draw(12)
_holes[[0, 3, 4, 11]] = -math.inf
for _u in (0.0, 0.3, 1 - 2 ** -53):
    _right(_holes, _u, 1.0, "some are impossible")
    _right(_draw(1), _u, 1.0, "one draw")
    _right(torch.zeros(8), min(_u, 0.9), 1.0, "all alike")
    _right(torch.full((5,), -math.inf), _u, 1.0, "all impossible")
    _only = torch.full((6,), -math.inf)
    _only[-1] = 0.0
    _right(_only, _u, 1.0, "only the last")
    _right(_only.flip(0), _u, 1.0, "only the first")
    _right(torch.tensor([0.0, 0, -math.inf, 0, 0]), _u, 1.0, "alike, but for one")
_right(torch.tensor([0.0, 0, -math.inf, -math.inf]), 0.0, 1.0, "a place is just a sum")
_right(torch.tensor([0.0, -math.inf, 0, -math.inf]), 0.0, 1.0, "a place is just a sum")
_right(torch.tensor([0.0, -math.inf, 0, -math.inf]), 0.0, 0.5, "just at the least")
_right(torch.cat([_draw(300, 0.1), torch.full((50,), -math.inf)]), 1 - 2 ** -53, 1.0, "many")
_right(_draw(400, 3.0), 0.37, 0.9, "many")
_right(_draw(20)[::2], 0.6, 1.0, "not contiguous")
edges.left_out("huge", "weights are in any unit: their logarithms around 1e5 are tested above")
edges.case("zeros inside")
_v = _draw(9)
_v[3:6] = 0
_right(_v, 0.2, 1.0, "zeros inside")
edges.case("short")
_right(_v[:2], 0.2, 1.0, "short")
edges.case("tiny")
_right(1e-8 * _v, 0.2, 1.0, "tiny")
edges.case("other type")
_right(_v.double(), 0.2, 1.0, "other type")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: denoised, and adding up
#
# Where sources are independent Gaussians, source $j$ of mean $\mu_j$ and variance $v_j$, what (19.8) asks for can be written down, also for sources whose **sum is known**. $x_j$ is the source with noise of deviation $\sigma$. Without the sum, given $x_j$ alone, the source has
#
# $$ a_j = \frac{v_j\, x_j + \sigma^2 \mu_j}{v_j + \sigma^2}, \qquad b_j = \frac{v_j\, \sigma^2}{v_j + \sigma^2} $$
#
# as mean and variance; and then the sum $m$, heard with an error of variance $s^2$, moves each by its share of the uncertainty, as in (19.2):
#
# $$ D_j = a_j + \frac{b_j}{\sum_i b_i + s^2} \Big( m - \sum_i a_i \Big) . $$
#
# - $\sigma = 0$: nothing is uncertain, $D = x$, whatever $m$ says. $\sigma = \infty$: $x$ says nothing (and may be infinite itself), $a = \mu$ and $b = v$.
# - A source with $v_j = 0$ is known: it stays at $\mu_j$ (but for $\sigma = 0$, where $D = x$). Where nothing is uncertain and $s = 0$, the sum can't be kept, and nothing moves.
# - Variances may be as small as $10^{-30}$ and as large as $10^{30}$.

# %%
# TASK 4 (5 points): denoised, and adding up
def denoised(x, sigma, means, variances, mixture, s):
    """D, shaped and precise as x: (batch, source, time).

    sigma: 0 or more, also infinite. means, variances: (source,), variances 0 or more. mixture: m,
    (batch, time). s: deviation of the sum's error, 0 or more. Differentiable.
    """
    ### BEGIN SOLUTION
    y, m = x.double(), mixture.double()
    mu, v = (one.double()[:, None] for one in (means, variances))   # (source, 1)
    if sigma == 0:
        return x + 0
    if sigma == math.inf:
        a, b = mu.expand_as(y), v
    else:
        ratio = v / (v + sigma ** 2)
        a, b = ratio * y + (1 - ratio) * mu, ratio * sigma ** 2
    total = b.sum() + s ** 2
    if float(total) > 0:
        a = a + b / total * (m - a.sum(1))[:, None]
    return a.to(x.dtype)
    ### END SOLUTION

# %%
# CHECK 4
x = torch.tensor([[[3.0], [1.0]]])
means, variances, m = torch.zeros(2), torch.tensor([1.0, 3.0]), torch.tensor([[4.0]])
found = denoised(x, 1.0, means, variances, m, 0.0)
assert found.shape == (1, 2, 1) and found.dtype == torch.float32, (
    f"shaped as x, in its precision; you: {tuple(found.shape)}, {found.dtype}")
expected = [1.5 + 0.4 * 1.75, 0.75 + 0.6 * 1.75]
assert torch.allclose(found.flatten(), torch.tensor(expected), atol=1e-5), (
    f"a is 1.5 and 0.75, b 0.5 and 0.75; 1.75 is missing, shared 2 to 3: 2.2, 1.8; you say {found}")
found = denoised(x, 1.0, means, variances, m, math.sqrt(1.25))
assert torch.allclose(found.sum(), torch.tensor(2.25 + 1.75 / 2), atol=1e-5), (
    "the sum's error is as large as both: half of what is missing")
assert torch.equal(denoised(x, 0.0, means, variances, m, 0.0), x), "sigma 0: x"
found = denoised(x, math.inf, torch.tensor([1.0, 1.0]), torch.tensor([1.0, VARIANCE]), m, 0.0)
expected = [1 + 2 / (1 + VARIANCE), 1 + 2 * VARIANCE / (1 + VARIANCE)]
assert torch.allclose(found.flatten(), torch.tensor(expected), atol=1e-5), (
    f"sigma infinite: x says nothing, {expected}; you say {found.flatten()}")
found = denoised(x, 1.0, torch.tensor([0.5, 0.0]), torch.tensor([0.0, VARIANCE]), m, 0.0)
assert torch.allclose(found.flatten(), torch.tensor([0.5, 3.5]), atol=1e-5), (
    f"the first is known, 0.5; the second takes the rest, 3.5; you say {found.flatten()}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
from fractions import Fraction
def _expected(x, sigma, means, variances, mixture, s):
    """The formula with exact fractions, number by number."""
    found = x.double().clone()
    if sigma == 0:
        return found
    mu, v = ([Fraction(one) for one in y.double().tolist()] for y in (means, variances))
    for n in range(x.shape[0]):
        for t in range(x.shape[2]):
            a, b = [], []
            for j in range(x.shape[1]):
                if sigma == math.inf:
                    a.append(mu[j])
                    b.append(v[j])
                else:
                    q = Fraction(sigma) ** 2
                    a.append((v[j] * Fraction(float(x[n, j, t])) + q * mu[j]) / (v[j] + q))
                    b.append(v[j] * q / (v[j] + q))
            total = sum(b) + Fraction(s) ** 2
            missing = Fraction(float(mixture[n, t])) - sum(a)
            for j in range(x.shape[1]):
                found[n, j, t] = float(a[j] + (b[j] / total * missing if total else 0))
    return found

def _right(x, sigma, means, variances, mixture, s, message, level=1.0, rtol=1e-3):
    given = [x, means, variances, mixture]
    before = [one.clone() for one in given]
    found = denoised(x, sigma, means, variances, mixture, s)
    message = (f"{message}: x {tuple(x.shape)}, sigma {sigma:g}, s {s:g}, variances "
               f"{variances.tolist()[:4]}")
    assert all(torch.equal(a, b) for a, b in zip(given, before)), "denoised changes its arguments"
    assert truth.has_shape(found, *x.shape), f"wrong shape, {message}"
    assert found.dtype == x.dtype, f"wrong precision, {message}"
    expected = _expected(before[0], sigma, *before[1:], s)
    assert truth.close(found.double() / level, expected / level, rtol=rtol, atol=1e-5), (
        f"wrong sources, {message}")

_generator = hidden.generator("sources")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
for _case in range(6):
    _n = 2 + _case % 3
    _x, _mu, _v, _m = _draw(2, _n, 3), _draw(_n), _draw(_n).square() + 0.05, _draw(2, 3)
    for _sigma in (hidden.real(f"sigma {_case}", 0.1, 3.0), 0.0, math.inf):
        for _s in (0.0, hidden.real(f"s {_case}", 0.1, 2.0)):
            _right(_x, _sigma, _mu, _v, _m, _s, "sources of all kinds")
_x, _mu, _v, _m = _draw(2, 3, 4), _draw(3), torch.tensor([0.5, 0.0, 2.0]), _draw(2, 4)
for _sigma in (0.0, 0.7, math.inf, 1e-12, 1e12, 1):
    for _s in (0.0, 0.3, 5):
        _right(_x, _sigma, _mu, _v, _m, _s, "one source is known")
        _right(_x, _sigma, _mu, 0 * _v, _m, _s, "all sources are known")
_lost = _x.clone()
_lost[0, 0] = math.inf
_lost[1, 2, 1] = math.nan
_found = denoised(_lost, math.inf, _mu, _v, _m, 0.0)
assert truth.close(_found, _expected(_x, math.inf, _mu, _v, _m, 0.0), rtol=1e-3, atol=1e-5), (
    "sigma infinite: x says nothing, be it infinite or NaN")
_right(_x, 1e-15, _mu, 1e-30 * (_v + 1), _m, 0.0, "variances and noise of 1e-30")
_right(_x, 1.0, _mu, 1e-30 * (_v + 1), _m, 0.0, "variances of 1e-30")
_right(_x, 1.0, _mu, 1e30 * (_v + 1), _m, 0.0, "variances of 1e30")
_right(_x, 1e15, _mu, 1e30 * (_v + 1), _m, 0.0, "variances and noise of 1e30")
_right(_x, 1.0, _mu, torch.tensor([1e-30, 1.0, 1e30]), _m, 0.0, "variances of all sizes")
_right(_x, 1e-15, _mu, torch.tensor([1e-30, 1.0, 1e30]), _m, 1e-15, "variances of all sizes")
_right(_x[:, :1], 0.7, _mu[:1], _v[:1], _m, 0.0, "one source")
_right(_x[..., :0], 0.7, _mu, _v, _m[:, :0], 0.0, "no samples")
_right(_x[:0], 0.7, _mu, _v, _m[:0], 0.0, "nothing in the batch")
_right(_x.mT.contiguous().mT, 0.7, _mu, _v.flip(0), _m.T.contiguous().T, 0.2, "not contiguous")
_leaf = _x.clone().requires_grad_()
(denoised(_leaf, 0.7, _mu, _v, _m, 0.2) * _draw(3, 1)).sum().backward()
assert _leaf.grad is not None and bool(_leaf.grad.isfinite().all()) and bool(
    _leaf.grad.abs().sum() > 0), "the gradient by x is missing"
for _edge, _level, (_a, _b) in edges.mutated(_x, _m, tiny=1e-8, huge=1e8):
    _kind = _a.dtype
    _right(_a, 0.7 * _level, (_level * _mu).to(_kind), (_level ** 2 * _v).to(_kind), _b,
           0.2 * _level, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: nobody takes up the rest
#
# Dirac guidance (19.16) makes one source what the others leave (19.15), and it is that source which gets everybody's errors. Share instead. With **shares** $c_1, \dots, c_J$, 0 or more, whose sum is 1,
#
# $$ y_n = x_n + c_n \Big( m - \sum_i x_i \Big), \qquad \frac{d y_n}{d \sigma} = -\sigma \Big( S_n(y; \sigma) - \sum_i c_i\, S_i(y; \sigma) \Big), \qquad S(y; \sigma) = \frac{D(y; \sigma) - y}{\sigma^2} , $$
#
# which for $c = (0, \dots, 0, 1)$ is the chapter's. Go down the levels $\sigma_0 > \sigma_1 > \dots > \sigma_N$, of which the last may be 0, with steps of Euler (19.10): begin with $x = \sigma_0$ times `noise`; before each step make $x$ into $y$, which the slope is taken at and the step begins from; and make the result of the last step add up, too.
#
# - The shares are given as weights in any unit; all zeros means equal shares.
# - The denoiser is called once a step, with $y$ and the level as a float. It may be a network: don't call it with anything that doesn't add up, and not at all where there is only one level, and so no step.
# - The result has no gradient.

# %%
# TASK 5 (5 points): nobody takes up the rest
def shared_descent(denoiser, mixture, weights, sigmas, noise):
    """Sources that add up: (batch, source, time), in the precision of the mixture.

    denoiser: (y, sigma) to clean sources, all as y. mixture: (batch, time). weights: (source,), 0
    or more. sigmas: list of floats, falling. noise: (batch, source, time).
    """
    ### BEGIN SOLUTION
    weights = weights.double()
    if not weights.any():
        weights = torch.ones_like(weights)
    weights = weights / weights.max()
    c = (weights / weights.sum())[:, None].to(mixture.dtype)        # (source, 1)
    add_up = lambda x: x + c * (mixture - x.sum(1))[:, None]
    with torch.no_grad():
        y = add_up(sigmas[0] * noise.to(mixture.dtype))
        for sigma, lower in zip(sigmas, sigmas[1:]):
            away = (y - denoiser(y, sigma)) / sigma                 # -sigma S
            y = add_up(y + (lower - sigma) * (away - (c * away).sum(1, keepdim=True)))
    return y
    ### END SOLUTION

# %%
# CHECK 5
calls = []
def towards(target):
    """A denoiser that knows the sources, and notes how it is called."""
    def denoiser(y, sigma):
        calls.append((y.clone(), sigma))
        return target.expand_as(y)
    return denoiser

target, m = torch.tensor([1.0, 2.0])[:, None], torch.tensor([[4.0]])
noise = torch.tensor([[[3.0], [1.0]]])
calls.clear()
found = shared_descent(towards(target), m, torch.tensor([1.0, 1.0]), [1.0, 0.5], noise)
assert len(calls) == 1 and calls[0][1] == 1.0, f"one step, one call with 1.0; you: {len(calls)}"
assert torch.allclose(calls[0][0].flatten(), torch.tensor([3.0, 1.0])), (
    f"3 + 1 add up to 4 already: y is 3 and 1; you call with {calls[0][0].flatten()}")
assert found.shape == (1, 2, 1) and torch.allclose(found.flatten(), torch.tensor([2.25, 1.75])), (
    f"towards 1 and 2: -sigma S is 2 and -1, less their mean 1.5 and -1.5; half a step down: 2.25, "
    f"1.75; you say {found.flatten()}")
found = shared_descent(towards(target), m, torch.tensor([SHARE, 1 - SHARE]), [1.0, 0.0], 0 * noise)
middle = SHARE * (4 * SHARE - 1) + (1 - SHARE) * (4 * (1 - SHARE) - 2)
expected = torch.tensor([1.0, 2.0]) + middle
expected = expected + torch.tensor([SHARE, 1 - SHARE]) * (4 - expected.sum())
assert torch.allclose(found.flatten(), expected, atol=1e-5), (
    f"shares {SHARE} and {1 - SHARE}, from 0 and 0: {expected.tolist()}; you say {found.flatten()}")
found = shared_descent(towards(target), m, torch.tensor([0.0, 0.0]), [2.0], noise)
assert torch.allclose(found.flatten(), torch.tensor([4.0, 0.0])), (
    f"one level, no step: 6 and 2, and both give 2 of the 4 that are too much: 4, 0; you say "
    f"{found.flatten()}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _expected(denoiser, mixture, weights, sigmas, noise):
    """In double precision, source by source; also what the denoiser should be called with."""
    w = [float(v) for v in weights.double()]
    w = w if any(w) else [1.0] * len(w)
    c = [v / max(w) / math.fsum(u / max(w) for u in w) for v in w]
    x = [sigmas[0] * noise[:, j].double() for j in range(len(c))]
    told, m = [], mixture.double()
    def add_up(x):
        rest = m - sum(x)
        return [one + share * rest for one, share in zip(x, c)]
    x = add_up(x)
    for sigma, lower in zip(sigmas, sigmas[1:]):
        told.append((torch.stack(x, 1), sigma))
        D = denoiser(torch.stack(x, 1), sigma)
        S = [(D[:, j] - x[j]) / sigma ** 2 for j in range(len(c))]
        mean = sum(share * one for share, one in zip(c, S))
        x = add_up([one - (lower - sigma) * sigma * (s - mean) for one, s in zip(x, S)])
    return torch.stack(x, 1), told

def _right(denoiser, mixture, weights, sigmas, noise, message, level=1.0, rtol=1e-3):
    given = [mixture, weights, noise]
    before, levels, told = [one.clone() for one in given], list(sigmas), []
    def watched(y, sigma):
        assert y.shape == noise.shape and y.dtype == mixture.dtype, (
            f"the denoiser gets (batch, source, time) in the mixture's precision: {message}")
        assert not y.requires_grad and not torch.is_grad_enabled(), f"no gradients: {message}"
        told.append((y.clone(), sigma))
        return denoiser(y.double(), sigma).to(y.dtype)
    found = shared_descent(watched, mixture, weights, sigmas, noise)
    message = (f"{message}: noise {tuple(noise.shape)}, weights {weights.tolist()[:5]}, levels "
               f"{[round(s, 4) for s in levels[:5]]}")
    assert all(torch.equal(a, b) for a, b in zip(given, before)) and list(sigmas) == levels, (
        "shared_descent changes its arguments")
    expected, right = _expected(denoiser, before[0], before[1], levels, before[2])
    assert len(told) == len(right), f"one call a step, {message}: {len(told)}, not {len(right)}"
    for (y, sigma), (wanted, at) in zip(told, right):
        assert type(sigma) is float and sigma == at, f"the level is a float, {message}"
        assert truth.close(y.double() / level, wanted / level, rtol=rtol, atol=1e-4), (
            f"the denoiser is called with something else, {message}")
    assert truth.has_shape(found, *noise.shape), f"wrong shape, {message}"
    assert found.dtype == mixture.dtype, f"wrong precision, {message}"
    assert not found.requires_grad, f"the result has a gradient, {message}"
    assert truth.close(found.double() / level, expected / level, rtol=rtol, atol=1e-4), (
        f"wrong sources, {message}")

_generator = hidden.generator("sources")
_draw = lambda *shape: torch.randn(*shape, generator=_generator)
def _gaussians(variances, scale=1.0):
    """The exact denoiser of independent Gaussians around 1, 2, ..."""
    v = scale ** 2 * variances.double()[:, None]
    mu = scale * torch.arange(1.0, len(variances) + 1, dtype=torch.float64)[:, None]
    return lambda y, sigma: (v * y + sigma ** 2 * mu) / (v + sigma ** 2)
for _case in range(6):
    _n = 2 + _case % 3
    _denoiser = _gaussians(_draw(_n).square() + 0.1)
    _weights = torch.rand(_n, generator=_generator) * hidden.real(f"unit {_case}", 0.1, 9.0)
    for _levels in ([2.0, 1.0, 0.3, 0.0], [1.0, 0.5, 0.25], [3.0, 0.0], [0.7]):
        _right(_denoiser, _draw(2, 5), _weights, _levels, _draw(2, _n, 5), "a descent")
_denoiser, _m, _noise = _gaussians(torch.tensor([1.0, 0.2, 3.0])), _draw(2, 5), _draw(2, 3, 5)
_levels = [2.0, 1.0, 0.4, 0.1, 0.0]
for _weights in ([0.0, 0, 1], [1.0, 0, 0], [0.0, 0, 0], [1.0, 1, 1], [0.0, 2, 6], [1e-30, 3e-30, 0],
                 [1e38, 2e38, 3e38], [1e-3, 1.0, 1e3]):
    _right(_denoiser, _m, torch.tensor(_weights), _levels, _noise, "shares of all kinds")
_weights = torch.tensor([1.0, 2.0, 1.0])
_right(_denoiser, _m, _weights.double(), _levels, _noise, "weights in double precision")
_right(_denoiser, _m, _weights, [1.0 - n / 50 for n in range(50)] + [0.0], _noise, "fifty steps")
_right(_denoiser, _m, _weights, tuple(_levels), _noise, "levels in a tuple")
_right(_gaussians(torch.ones(1)), _m, torch.tensor([3.0]), _levels, _noise[:, :1], "one source")
_right(_gaussians(torch.ones(1)), _m, torch.tensor([0.0]), _levels, _noise[:, :1], "one source")
_right(_denoiser, _m[:1], _weights, _levels, _noise[:1], "one in the batch")
_right(_denoiser, _m[:, :0], _weights, _levels, _noise[..., :0], "no samples")
_right(_denoiser, 0 * _m, _weights, _levels, _noise, "silence")
_right(_denoiser, _m, _weights, _levels, 0 * _noise, "no noise")
_right(_denoiser, _m.T.contiguous().T, _weights.flip(0), _levels, _noise.mT.contiguous().mT,
       "not contiguous")
_net = torch.nn.Linear(5, 5).double()
_right(lambda y, sigma: _net(y) * 0.5, _m, _weights, _levels, _noise, "a network")
for _edge, _level, (_a, _b) in edges.mutated(_m, _noise, tiny=1e-8, huge=1e8):
    _right(_gaussians(torch.tensor([1.0, 0.2, 3.0]), _level), _a, _weights,
           [one * _level for one in _levels], _b / _level, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: what to do with many draws?
#
# A posterior gives as many answers as one likes to draw, and in the end somebody wants one. Take one? The mean of all? The one whose parts add up best (19.7), or the one that the prior likes best? The cell below has a world in which all of this is exact: two sources that are loud or soft by chance at each point, and draws from their true posterior, without a network.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many worlds and points your numbers rest,
# - a table of the SNR for 1, 4, 16 and 64 draws of: the mean of the draws, the draw with the best sum (19.7), the likeliest draw, and the draw nearest to the truth; beside the posterior's exact mean,
# - in how many of your worlds 64 draws are ahead of one, for each,
# - a reading: by how much is one draw behind the mean, and why by that? What follows for the mean of $D$ draws? Why does choosing by the sum, or by the prior, help so little, when even choosing by the truth does? What is one draw good for, that the mean isn't?
# - and one thing that this experiment can't tell.

# %%
# EXPERIMENT: what to do with many draws; add your own cells
POINTS, LOUD, SOFT, OFTEN = 400, 1.0, 0.01, 0.3       # variances, and how often a source is loud
NOISE = 0.05                                          # deviation of what is added to the sum


def world(number):
    """Two sources (2, POINTS), each loud by chance at each point, and their mixture (POINTS,)."""
    g = torch.Generator().manual_seed(number)
    loud = torch.rand(2, POINTS, generator=g, dtype=torch.float64) < OFTEN
    x = torch.randn(2, POINTS, generator=g, dtype=torch.float64)
    x = x * torch.where(loud, LOUD, SOFT) ** 0.5
    noise = torch.randn(POINTS, generator=g, dtype=torch.float64)
    return x, x.sum(0) + NOISE * noise


def cases():
    """The four ways to be loud or soft: variances (case, source), and their shares (case,)."""
    v = torch.tensor([[a, b] for a in (LOUD, SOFT) for b in (LOUD, SOFT)], dtype=torch.float64)
    return v, torch.where(v == LOUD, OFTEN, 1 - OFTEN).prod(1)


def which(m):
    """How likely each case is at each point of a mixture: (case, POINTS), by (19.1)."""
    v, p = cases()
    total = v.sum(1)[:, None] + NOISE ** 2
    return (p.log()[:, None] - m.square() / (2 * total) - total.log() / 2).softmax(0)


def exact_mean(m):
    """The posterior's mean: (2, POINTS)."""
    v, _ = cases()
    gain = v / (v.sum(1, keepdim=True) + NOISE ** 2)                  # (case, source), (19.2)
    return torch.einsum("cp,cs,p->sp", which(m), gain, m)


def exact_draws(m, draws, seed):
    """Draws from the posterior: (draw, 2, POINTS)."""
    g = torch.Generator().manual_seed(10_000 + seed)
    case = torch.multinomial(which(m).T, draws, replacement=True, generator=g).T
    v = cases()[0][case].movedim(-1, 1)                               # (draw, source, point)
    x = torch.randn(v.shape, generator=g, dtype=torch.float64) * v.sqrt()
    off = NOISE * torch.randn(draws, POINTS, generator=g, dtype=torch.float64)
    missing = m - x.sum(1) - off
    return x + v / (v.sum(1, keepdim=True) + NOISE ** 2) * missing[:, None]


def likely(x):
    """ln p of sources (..., 2, POINTS), before any mixture is known: (...)."""
    terms = [math.log(p) - x.square() / (2 * v) - math.log(v) / 2
             for v, p in ((LOUD, OFTEN), (SOFT, 1 - OFTEN))]
    return torch.stack(terms).logsumexp(0).sum((-2, -1))


def snr(found, true):
    """SNR of both sources together, in dB."""
    return float(10 * torch.log10(true.square().sum() / (found - true).square().sum()))

# For example:  x, m = world(0)
#               draws = exact_draws(m, 16, 0)
#               snr(draws[0], x), snr(draws.mean(0), x), snr(exact_mean(m), x)

# %% [markdown]
# <!-- TASK 6 (5 points): what to do with many draws? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: worlds and points, the variances, how often a source is loud, the error of the sum, and only the number of draws and the choice vary; that the draws for 4 are among those for 64, or not; what the SNR compares.
# - 1 point: the table with plausible numbers, on more than one world with the number of worlds in which 64 draws are ahead of one (the mean in all twelve, the best sum in six, the likeliest in five, the nearest in all twelve), or with a remark that one world is not evidence.
# - 2 points: a right reading with a reason. Expected: one draw is nearly 3 dB behind the exact mean (0.2 against 2.9), for the truth itself is like a draw: both differ from the mean by the posterior's spread, independently, so that the squared error is twice that of the mean, 3.01 dB. The mean of $D$ draws has $1 + 1/D$ times the error of the exact one: 1.0, 0.3 and 0.1 dB behind with 4, 16 and 64 draws, as measured.
#   Choosing doesn't help: all draws explain the mixture equally well, up to an error that says nothing of the sources, and all come from the prior's likely region. A draw has 800 numbers; some are nearer to the truth here, others there, and a whole draw that is better everywhere hardly occurs, so that even a choice by the truth gains no more than 1 dB with 64 draws. (19.7) helps where draws are *not* from the posterior, as those of chapter 19's coded prior, of which some do not fit the mixture.
#   A draw is what a source may sound like: it is as loud, as often, as the sources are; a mean is too soft where the posterior is undecided. An answer with the right order in which one of the reasons is missing or wrong gets one point.
# - 1 point: a limit, such as: points are independent here, and music is not; real draws are approximations, so that their mean needn't be good; SNR favours the mean, by its definition; one world of two sources, with equal priors; the prior is exactly right, which no learned one is; nothing is heard.
#
# For comparison, mean SNR in dB of both sources over the first twelve worlds, with the cell above; of the draws with a world's number as seed the first so many of 64.
#
# | | 1 draw | 4 draws | 16 draws | 64 draws |
# |---|---|---|---|---|
# | mean of the draws | 0.16 | 1.94 | 2.70 | 2.89 |
# | draw with the best sum | 0.16 | -0.02 | 0.16 | 0.15 |
# | likeliest draw | 0.16 | 0.04 | -0.10 | 0.17 |
# | draw nearest to the truth | 0.16 | 0.40 | 0.76 | 1.11 |
# | exact mean | 2.94 | 2.94 | 2.94 | 2.94 |
# <!-- END RUBRIC -->
