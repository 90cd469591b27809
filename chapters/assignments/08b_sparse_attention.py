# %% [markdown]
# # Assignment 8b · Which pairs?
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 8b, but none is a copy of it: you join the rounds of a hash in another way, keep exactly as many pairs as there is room for, attend over a list of pairs
# without a square, count what memory is for, and work out how likely a pair is found. Read what is asked for, above all
# at the edges (vectors of zeros, ties, a query without keys, a hundred thousand tokens).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.sparse_attention` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input.

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
ROUNDS = variation.choice("rounds", [7, 10, 13])  # of the hash
BAND = variation.choice("band", [2, 3, 4])  # rounds of a band
ROOM = variation.integer("room", 2, 4)  # pairs a query, on the average
HEADS = variation.choice("heads", [4, 6, 8])
ANGLE = variation.choice("angle", [0.6, 0.8, 1.0])  # radians

# %% [markdown]
# ## Task 1: all of one band
#
# Chapter 8b keeps a pair that agrees in at least $k$ rounds. The older way joins the rounds twice. They are cut into **bands** of `band` rounds, in their order; the last band may have fewer. A pair agrees in a band if it shares the bucket in **all** of its rounds, and
# it is kept if it agrees in **at least one** band. The first makes the hash choosy, the second forgiving.
#
# 1. The bucket of each vector in each round, as in (8b.4), for any number of directions: that direction among $r_1 \dots r_h, -r_1 \dots -r_h$ which fits best, counted from 0 in this order; the first of them where several fit equally well.
# 2. Which pairs are kept.

# %%
# TASK 1 (5 points): all of one band
def bucket_numbers(x, R):
    """The bucket of every vector in every round: int64 (..., time, round).

    x: (..., time, feature), any number of axes in front (or none). R: (feature, round, directions),
    of another precision, maybe: what is computed has that of x.
    """
    ### BEGIN SOLUTION
    fits = torch.einsum("...tf,frh->...trh", x, R.to(x.dtype))
    return torch.cat([fits, -fits], -1).argmax(-1)
    ### END SOLUTION


def kept_by_bands(b_q, b_k, band):
    """The pairs that share all buckets of at least one band: bool (..., query, key).

    b_q: (..., query, round), b_k: (..., key, round), the same number of rounds, at least one, whole
    numbers. band: 1 or more; more than there are rounds make one band of all.
    """
    ### BEGIN SOLUTION
    same = b_q[..., :, None, :] == b_k[..., None, :, :]             # (..., query, key, round)
    return torch.stack([part.all(-1) for part in same.split(band, -1)]).any(0)
    ### END SOLUTION

# %%
# CHECK 1
R = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # (feature, round, directions): one round, the axes
x = torch.tensor([[3.0, 1.0], [1.0, 3.0], [-3.0, 1.0], [1.0, -3.0], [1.0, 1.0], [0.0, 0.0]])
found = bucket_numbers(x, R)
assert found.shape == (6, 1) and found.dtype == torch.int64, f"int64 (6, 1); {found.shape}"
assert found[:, 0].tolist() == [0, 1, 2, 3, 0, 0], (
    f"along +x, +y, -x, -y, then two for which several fit as well: 0 1 2 3 0 0; {found[:, 0]}")
b_q = torch.tensor([[0, 1, 2, 3, 0]])
b_k = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 2, 0, 1], [1, 0, 2, 3, 1], [1, 0, 0, 0, 0]])
found = kept_by_bands(b_q, b_k, 2)
assert found.shape == (1, 4) and found.dtype == torch.bool, f"bool (1, 4); you: {found.shape}"
assert found[0].tolist() == [True, False, True, True], (
    f"bands (0, 1), (2, 3) and (4): the first key shares the first band, the second one round of "
    f"each, the third the second band, the last the band of one round; you: {found[0]}")
generator = torch.Generator().manual_seed(1)
R = torch.randn(8, ROUNDS, 3, generator=generator)
q, k = (torch.randn(2, n, 8, generator=generator) for n in (20, 30))
b_q, b_k = bucket_numbers(q, R), bucket_numbers(k, R)
assert b_q.shape == (2, 20, ROUNDS) and b_q.min() >= 0 and b_q.max() <= 5, (
    f"{ROUNDS} rounds of 6 buckets; you: {tuple(b_q.shape)}, from {b_q.min()} to {b_q.max()}")
assert torch.equal(bucket_numbers(-q, R), (b_q + 3) % 6), "the opposite is three buckets away"
any_round = (b_q[:, :, None] == b_k[:, None]).any(-1)
assert torch.equal(kept_by_bands(b_q, b_k, 1), any_round), "bands of one: any shared bucket"
assert kept_by_bands(b_q, b_q, BAND).diagonal(dim1=1, dim2=2).all(), "everyone agrees with himself"
assert (kept_by_bands(b_q, b_k, BAND) & ~any_round).sum() == 0, "kept, and no bucket is shared"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _buckets(x, R):
    """Direction by direction: a later one must fit better than all before it."""
    best = number = None
    for n in range(2 * R.shape[2]):
        r = R[..., n % R.shape[2]].to(x.dtype) * (1 if n < R.shape[2] else -1)
        fit = (x[..., None] * r).sum(-2)                            # (..., time, round)
        if best is None:
            best, number = fit, torch.zeros(fit.shape, dtype=torch.int64)
        number = torch.where(fit > best, n, number)
        best = torch.maximum(best, fit)
    return number

def _kept(b_q, b_k, band):
    """By counting shared buckets in each band."""
    shape = torch.broadcast_shapes(b_q.shape[:-2], b_k.shape[:-2])
    kept = torch.zeros(*shape, b_q.shape[-2], b_k.shape[-2], dtype=torch.bool)
    for start in range(0, b_q.shape[-1], band):
        count, size = 0, min(band, b_q.shape[-1] - start)
        for n in range(start, start + size):
            count = count + (b_q[..., :, n].unsqueeze(-1) == b_k[..., :, n].unsqueeze(-2)).long()
        kept |= count == size
    return kept

def _right(x, R, message):
    before = x.clone(), R.clone()
    found = bucket_numbers(x, R)
    assert truth.equal([x, R], list(before)), "bucket_numbers changes its arguments"
    assert truth.equal(found, _buckets(*before)), f"wrong buckets: {message}"
    assert found.dtype == torch.int64, f"buckets are of type {found.dtype}: {message}"

_generator = hidden.generator("vectors")
for _case, _front in enumerate(((), (2,), (2, 3), (1, 1))):
    _features, _rounds, _half, _time = (hidden.integer(f"{_axis} {_case}", 1, 6) for _axis in (
        "features", "rounds", "directions", "time"))
    _R = torch.randn(_features, _rounds, _half, generator=_generator)
    _right(torch.randn(*_front, _time, _features, generator=_generator), _R,
           f"{_rounds} rounds of {2 * _half} buckets")
_R = torch.randint(-1, 2, (3, 8, 4), generator=_generator).float()
_right(torch.randint(-1, 2, (30, 3), generator=_generator).float(), _R, "several fit equally well")
_right(torch.zeros(2, 3, 3), _R, "vectors of zeros")
_right(torch.randn(4, 3, generator=_generator).double(), _R, "directions in float32, x in float64")
for _case in range(5):
    _rounds, _queries, _keys = (hidden.integer(f"{_axis} {_case}", 1, 9)
                                for _axis in ("all rounds", "queries", "keys"))
    _b_q, _b_k = (torch.randint(0, 2 + _case % 2, (*((2, 3) if _case % 2 else ()), _n, _rounds),
                                generator=_generator) for _n in (_queries, _keys))
    for _band in (1, 2, 3, 5, 20):
        _before = _b_q.clone(), _b_k.clone()
        _found = kept_by_bands(_b_q, _b_k, _band)
        assert truth.equal([_b_q, _b_k], list(_before)), "kept_by_bands changes its arguments"
        assert truth.equal(_found, _kept(_b_q, _b_k, _band)) and _found.dtype == torch.bool, (
            f"wrong pairs: {_rounds} rounds in bands of {_band}")
_b = torch.randint(0, 100, (12, 6), generator=_generator)
assert truth.equal(kept_by_bands(_b.to(torch.uint8), _b.to(torch.uint8), 2), _kept(_b, _b, 2)), (
    "wrong pairs for buckets of type uint8")
_R, _x = torch.randn(6, 5, 2, generator=_generator), torch.randn(2, 7, 6, generator=_generator)
for _edge, _level, (_x,) in edges.mutated(_x, axis=1):
    _right(_x, _R, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: exactly as many as there is room for
#
# One $k$ for all pairs keeps more or fewer than asked for, as many pairs have the same count (8b.6). A kernel with a fixed room for its pairs wants **exactly** so many: for each head `room` pairs a query *on the average*, `room` times the number of queries together. So of all pairs
# of a head keep those with the largest counts; among those of the count at which the room ends, the pairs of earlier queries, and of one query those with earlier keys. One query may keep many pairs, another none. Pairs with a count below 0 are not allowed, and never
# kept: where there are fewer than there is room for, all that are allowed are kept.

# %%
# TASK 2 (5 points): exactly as many as there is room for
def exactly(counts, room):
    """The pairs that are kept: bool (..., query, key).

    counts: (..., query, key), whole numbers of any size and integer type; each head, an index of
    the axes in front (there may be none), has its own room. room: pairs a query, 0 or more.
    """
    ### BEGIN SOLUTION
    flat = counts.flatten(-2)
    order = flat.argsort(dim=-1, descending=True, stable=True)
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept.scatter_(-1, order[..., :room * counts.shape[-2]], True)
    return (kept & (flat >= 0)).unflatten(-1, counts.shape[-2:])
    ### END SOLUTION

# %%
# CHECK 2
counts = torch.tensor([[5, 2, 3, 3], [1, 3, 3, 0]])
found = exactly(counts, 1)
assert found.shape == (2, 4) and found.dtype == torch.bool, f"bool (2, 4); you: {found.shape}"
assert found.tolist() == [[True, False, True, False], [False] * 4], (
    f"room for two pairs: the 5, and the first of the 3s; you keep {found.tolist()}")
assert exactly(counts, 2).tolist() == [[True, False, True, True], [False, True, False, False]], (
    f"room for four: the 5 and three of the four 3s; you keep {exactly(counts, 2).tolist()}")
hidden_pairs = counts.masked_fill(counts == 3, -1)
assert torch.equal(exactly(hidden_pairs, 4), hidden_pairs >= 0), (
    "room for all: those that are allowed, and no others")
generator = torch.Generator().manual_seed(2)
counts = torch.randint(0, 33, (2, 3, 10, 12), generator=generator)
found = exactly(counts, ROOM)
assert (found.sum((-1, -2)) == 10 * ROOM).all(), (
    f"each of the heads should keep {10 * ROOM} pairs; yours: {found.sum((-1, -2)).tolist()}")
least, most = (torch.where(found, counts, 99).amin((-1, -2)),
               torch.where(found, -1, counts).amax((-1, -2)))
assert (least >= most).all(), "a pair with a larger count was left out than one that was kept"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _exactly(counts, room):
    """Pair by pair, in Python."""
    kept = torch.zeros(counts.shape, dtype=torch.bool).reshape(-1, *counts.shape[-2:])
    for number, head in enumerate(counts.reshape(-1, *counts.shape[-2:]).tolist()):
        pairs = [(-count, i, j) for i, row in enumerate(head) for j, count in enumerate(row)
                 if count >= 0]
        for _, i, j in sorted(pairs)[:room * counts.shape[-2]]:
            kept[number, i, j] = True
    return kept.reshape(counts.shape)

def _right(counts, room, message):
    before = counts.clone()
    found = exactly(counts, room)
    assert truth.equal(counts, before), "the function changes the counts"
    assert truth.equal(found, _exactly(before, room)), f"wrong pairs: {message}"
    assert found.dtype == torch.bool, f"not of type bool: {message}"

_generator = hidden.generator("counts")
for _case, _front in enumerate(((), (3,), (2, 2), (1,))):
    _queries, _keys = (hidden.integer(f"{_axis} {_case}", 2, 12) for _axis in ("queries", "keys"))
    _counts = torch.randint(0, 33, (*_front, _queries, _keys), generator=_generator)
    for _room in (1, 2, hidden.integer(f"room {_case}", 1, _keys)):
        _right(_counts, _room, f"{_queries} queries, {_keys} keys, room {_room}")
        _right(_counts.masked_fill(_counts % 3 == 0, -1), _room, "a third isn't allowed")
        _right(_counts // 12, _room, "many ties")
_right(torch.full((2, 30, 40), 32), 7, "all counts equal, a thousand pairs")
_right(torch.full((2, 4, 5), -1), 3, "no pair is allowed")
_few = torch.full((3, 4, 6), -1)
_few[0, 1, 2], _few[1, :2], _few[2] = 7, 0, 3
_right(_few, 2, "heads of which some have fewer pairs than there is room for")
_right(torch.tensor([[-5, 2, -1], [0, -2, 4]]), 3, "room for all, and some below 0 aren't allowed")
edges.case("zeros inside")
_right(torch.tensor([[0, 3, 0, 0], [0, 0, -1, 1], [-5, 0, 0, 2]]), 2, "counts of zero")
edges.case("short")
_right(torch.tensor([[3]]), 1, "a single pair")
_right(torch.tensor([[3, 1, 2]]), 2, "a single query")
_right(torch.tensor([[3], [1], [3]]), 1, "a single key")
edges.case("tiny")
_right(torch.randint(0, 5, (2, 3, 4), generator=_generator), 0, "no room at all")
edges.case("huge")
_right(torch.randint(0, 5, (2, 3, 4), generator=_generator), 10 ** 9, "room for a billion")
_right(torch.randint(0, 9, (2, 5, 4), generator=_generator) + 2 ** 53, 2, "counts above 2 ** 53")
edges.case("other type")
for _type in (torch.int16, torch.int32, torch.int8):
    _right(torch.randint(-1, 33, (2, 6, 7), generator=_generator).to(_type), 2, str(_type))
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: a list of pairs
#
# If pairs are kept as a list, (8b.3) needs no square: not of scores, not of a mask, not even for a moment. Compute it from the list alone. A query of which no pair is in the list gets zeros, and no gradient that isn't a number. Scores may be too large for $\exp$: chapter 8's softmax
# takes the largest off first, and here *each query has its own largest*.
#
# Tools: `index_add`, `index_reduce` or `scatter_reduce` of tensors.

# %%
# TASK 3 (5 points): a list of pairs
def attend_pairs(q, k, v, queries, keys):
    """Attention over the pairs (queries[n], keys[n]) only: (query, value).

    q: (query, feature). k: (key, feature). v: (key, value). queries, keys: int64 (pair,), in any
    order, maybe none; a pair that stands there twice counts twice. Memory for a number of numbers
    in proportion to queries, keys and pairs. Differentiable.
    """
    ### BEGIN SOLUTION
    scores = (q[queries] * k[keys]).sum(-1) / q.shape[-1] ** 0.5    # (pair,)
    largest = scores.detach().new_full((len(q),), -math.inf)
    largest = largest.scatter_reduce(0, queries, scores.detach(), "amax")
    weights = (scores - largest[queries]).exp()
    total = weights.new_zeros(len(q)).index_add(0, queries, weights)
    found = v.new_zeros(len(q), v.shape[-1]).index_add(0, queries, weights[:, None] * v[keys])
    return found / total.clamp_min(0.5)[:, None]                    # 1 or more, or no pair
    ### END SOLUTION

# %%
# CHECK 3
generator = torch.Generator().manual_seed(3)
q, k, v = (torch.randn(n, m, generator=generator) for n, m in ((5, 4), (7, 4), (7, 3)))
queries, keys = torch.cartesian_prod(torch.arange(5), torch.arange(7)).T
found = attend_pairs(q, k, v, queries, keys)
assert found.shape == (5, 3), f"5 queries, values of 3: (5, 3); you: {tuple(found.shape)}"
assert torch.allclose(found, F.scaled_dot_product_attention(q, k, v), atol=1e-5), (
    "a list of all pairs is dense attention")
some = torch.tensor([20, 3, 9, 16, 27, 0, 22])  # of queries 2 0 1 2 3 0 3, none of query 4
found = attend_pairs(q, k, v, queries[some], keys[some])
mask = torch.zeros(5, 7, dtype=torch.bool)
mask[queries[some], keys[some]] = True
mask[4] = True
expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
assert torch.allclose(found[:4], expected[:4], atol=1e-5), "wrong for a list of some pairs"
assert not found[4].any(), f"a query without pairs gets zeros; you say {found[4]}"
found = attend_pairs(100 * q, 100 * k, v, queries, keys)
assert torch.allclose(found, F.scaled_dot_product_attention(100 * q, 100 * k, v), atol=1e-4), (
    "scores in the thousands: exp of them is infinite, their differences are all that counts")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _by_query(q, k, v, queries, keys):
    """Query by query, in double precision."""
    rows = []
    for n in range(len(q)):
        mine = keys[queries == n]
        scores = (k[mine].double() @ q[n].double()) / math.sqrt(q.shape[-1])
        rows.append(scores.softmax(0) @ v[mine].double())
    return torch.stack(rows)

def _right(q, k, v, queries, keys, message, level=1.0):
    before = [part.clone() for part in (q, k, v, queries, keys)]
    found = attend_pairs(q, k, v, queries, keys)
    assert truth.equal([q, k, v, queries, keys], before), "the function changes its arguments"
    assert found.dtype == q.dtype, f"wrong precision: {message}"
    assert truth.close(found / level, _by_query(*before) / level, rtol=1e-3, atol=1e-4), (
        f"wrong answers: {message}")

def _pairs(count, queries, keys):
    return (torch.randint(queries, (count,), generator=_generator),
            torch.randint(keys, (count,), generator=_generator))

_generator = hidden.generator("tokens")
for _case in range(4):
    _sizes = [hidden.integer(f"{_axis} {_case}", 1, 9)
              for _axis in ("queries", "keys", "features", "values")]
    _q, _k, _v = (torch.randn(_sizes[a], _sizes[b], generator=_generator)
                  for a, b in ((0, 2), (1, 2), (1, 3)))
    for _count in (1, 6, 40):
        _right(_q, _k, _v, *_pairs(_count, *_sizes[:2]), f"{_sizes}, {_count} pairs")
_q, _k, _v = (torch.randn(8, 5, generator=_generator) for _ in range(3))
_right(_q, _k, _v, *_pairs(0, 8, 8), "no pairs at all")
_right(_q, _k, _v, torch.tensor([2, 2, 2, 5]), torch.tensor([1, 1, 4, 0]), "one pair twice")
_list = _pairs(30, 7, 8)
_far = hidden.real("far", 300.0, 900.0)
for _sign in (1, -1):
    _q[:, 0], _k[:, 0] = _far, _sign * 5 ** 0.5
    _right(_q, _k, _v, *_list, f"all scores near {_sign * _far:.0f}")
_q, _k, _v = (torch.randn(8, 5, generator=_generator) for _ in range(3))
_q[1] *= 300  # one query shouts: its largest score is not the others'
_right(_q, _k, _v, *_list, "one query with scores a hundred times as large")
_right(_q[3:4], _k, _v, torch.zeros(3, dtype=torch.int64), torch.tensor([7, 0, 2]), "one query")
_leaves = [part.clone().requires_grad_() for part in (_q, _k, _v)]
attend_pairs(*_leaves, *_list).square().sum().backward()
_twins = [part.clone().requires_grad_() for part in (_q, _k, _v)]
_by_query(*_twins, *_list).square().sum().backward()
for _leaf, _twin in zip(_leaves, _twins):
    assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-3), (
        "the gradient is wrong")
_long, _few = 100_000 + hidden.integer("long", 0, 999), _pairs(2000, 50, 60)
_q, _k, _v = (torch.randn(_long, 2, generator=_generator) for _ in range(3))
_spread = [part * 1601 for part in _few]  # over the whole song
_found = attend_pairs(_q, _k, _v, *_spread)
assert _found.shape == (_long, 2), "a song of a hundred thousand tokens: another shape"
_places = torch.arange(50) * 1601
assert truth.close(_found[_places], _by_query(_q[_places], _k, _v, _few[0], _spread[1]), rtol=1e-3,
                   atol=1e-4), "wrong answers for a hundred thousand tokens, two thousand pairs"
_q, _k, _v = (torch.randn(9, 4, generator=_generator) for _ in range(3))
for _edge, _level, (_q, _k, _v) in edges.mutated(_q, _k, _v, axis=0):
    _right(_q, _k, _v, *_pairs(4 * len(_q), len(_q), len(_k)), _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: what fits
#
# How long a song fits into memory? Count the numbers that a layer of attention with $C$ channels, in $H$ heads together, holds at once for $T$ tokens: queries, keys, values and answers, $4\,T\,C$, and
#
# - `"dense"`: the scores of all pairs in each head, $H\,T^2$,
# - `"chunks"`: the scores of `size` queries at a time in each head, with all keys,
# - `"pairs"`: for each head and query a list of `size` keys, with two numbers a pair: which key, and its score.
#
# A chunk has no more queries than there are, and a list no more keys. Find the number for a given length, and the greatest length that fits. All are whole numbers and may be very large: memory is counted exactly.

# %%
# TASK 4 (4 points): what fits
def numbers_held(tokens, channels, heads, way, size=0):
    """Numbers that are held at once, a whole number.

    tokens: T, 0 or more. channels: C, heads: H, 1 or more. way: "dense", "chunks" or "pairs".
    size: queries of a chunk, or keys of a query, 1 or more; of no meaning for "dense".
    """
    ### BEGIN SOLUTION
    a_query = {"dense": tokens, "chunks": min(size, tokens), "pairs": 2 * min(size, tokens)}[way]
    return 4 * tokens * channels + heads * tokens * a_query
    ### END SOLUTION


def longest(room, channels, heads, way, size=0):
    """The greatest number of tokens for which no more than `room` numbers are held.

    room: 0 or more, up to 10 ** 30: for such a room, too, the answer comes at once. The others: as
    above.
    """
    ### BEGIN SOLUTION
    low, high = 0, room + 1                                         # fits, doesn't fit
    while high - low > 1:
        middle = (low + high) // 2
        if numbers_held(middle, channels, heads, way, size) <= room:
            low = middle
        else:
            high = middle
    return low
    ### END SOLUTION

# %%
# CHECK 4
found = numbers_held(100, 64, HEADS, "dense")
assert found == 4 * 6400 + HEADS * 10000, f"4 x 100 x 64 and {HEADS} squares of 100; you: {found}"
found = numbers_held(100, 64, HEADS, "chunks", 10)
assert found == 4 * 6400 + HEADS * 1000, f"10 queries with 100 keys, in {HEADS} heads; {found}"
found = numbers_held(100, 64, HEADS, "pairs", 10)
assert found == 4 * 6400 + HEADS * 2000, f"1000 pairs of two numbers in {HEADS} heads; {found}"
assert numbers_held(5, 64, 1, "chunks", 10) == numbers_held(5, 64, 1, "dense"), (
    "a chunk of ten queries, and there are only five: a square of five")
for way, size in (("dense", 0), ("chunks", 128), ("pairs", 90)):
    found = longest(10 ** 9, 512, HEADS, way, size)
    held = [numbers_held(found + n, 512, HEADS, way, size) for n in (0, 1)]
    assert held[0] <= 10 ** 9 < held[1], (
        f"{way}: {found} tokens hold {held[0]} numbers, one more {held[1]}, and there is room for "
        "a billion")
assert longest(100, 512, HEADS, "dense") == 0, "not even one token fits: 0"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _held(T, C, H, way, size):
    if way == "pairs":
        return 4 * T * C + 2 * H * T * (size if size < T else T)
    return 4 * T * C + H * T * (T if way == "dense" or size > T else size)

def _longest(room, C, H, way, size):
    """By the formulas: a square first, then a line, if one of the two is left."""
    def square(a):  # the greatest T with 4 T C + a T^2 <= room
        return (math.isqrt(4 * C * C + a * room) - 2 * C) // a
    if way == "dense":
        return square(H)
    each = 2 * H if way == "pairs" else H
    T = square(each)
    return T if T < size else room // (4 * C + each * size)

def _right(room, tokens, C, H, way, size, message):
    found = numbers_held(tokens, C, H, way, size)
    assert found == _held(tokens, C, H, way, size), f"wrong number: {message}"
    found = longest(room, C, H, way, size)
    assert found == _longest(room, C, H, way, size), f"wrong length: {message}"
    assert type(found) is int, f"a whole number (int) is asked for: {message}"

for _case in range(4):
    _C = hidden.choice(f"channels {_case}", [32, 96, 384])
    _H = hidden.integer(f"heads {_case}", 1, 8)
    for _way in ("dense", "chunks", "pairs"):
        _size = hidden.integer(f"size {_case} {_way}", 1, 200)
        for _room in (10 ** 4, 10 ** 6, 10 ** hidden.integer(f"room {_case} {_way}", 7, 12)):
            _right(_room, hidden.integer(f"tokens {_case} {_way}", 1, 300), _C, _H, _way, _size,
                   f"{_way}, size {_size}, {_C} channels, {_H} heads, room {_room}")
for _way in ("dense", "chunks", "pairs"):
    for _tokens in (9, 10, 11):  # room for exactly so many, one more, one less
        for _more in (-1, 0, 1):
            _right(_held(_tokens, 8, 2, _way, 10) + _more, _tokens, 8, 2, _way, 10,
                   f"{_way}, size 10, room for {_tokens} tokens and {_more}")
edges.case("zeros inside")
_right(0, 0, 16, 2, "pairs", 3, "no room, no tokens")
edges.case("short")
for _way in ("dense", "chunks", "pairs"):
    _right(4 * 7 + 2, 1, 7, 1, _way, 1, f"{_way}: a single token")
edges.case("tiny")
_right(3, 1, 1, 1, "dense", 0, "room for three numbers")
edges.case("huge")
for _way in ("dense", "chunks", "pairs"):
    _right(10 ** 30 + hidden.integer(f"more {_way}", 1, 10 ** 9), 10 ** 12 + 7, 512, 8, _way,
           10 ** 6, f"{_way}, room 10 ** 30")
    _far = 3 * 10 ** 14 + hidden.integer(f"far {_way}", 1, 10 ** 6)
    for _more in (-1, 0):  # exactly so many fit, or one less
        _right(_held(_far, 512, 8, _way, 10 ** 6) + _more, _far, 512, 8, _way, 10 ** 6,
               f"{_way}, room for {_far} tokens and {_more}")
_right(10 ** 12, 50, 64, 4, "chunks", 10 ** 15, "a chunk larger than any song")
edges.left_out("other type", "all are whole numbers")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: how likely a pair is found
#
# Two vectors at an angle $\theta$ share the bucket of a round of four with probability $p = (1 - \theta/\pi)^2$ (8b.5), and rounds are independent.
#
# 1. How likely does the rule of **task 1** keep them, for `rounds` rounds in bands of `band` (the last band may be shorter)? What is likely *not* to happen is easier to count. Near $\pi$ the answer is tiny, and still has to be right to three digits: 1 less a number near 1 has none left.
# 2. The chapter's rule keeps a pair that agrees in at least $k$ of the rounds. Which is the largest $k$ that keeps pairs at this angle with at least the wanted probability? ($k = 0$ keeps all.)

# %%
# TASK 5 (5 points): how likely a pair is found
def found_by_bands(angle, rounds, band):
    """The probability that a pair at an angle is kept by the rule of task 1, as `angle`.

    angle: a tensor of radians, 0 to pi (in float32 pi is a little more: it counts as pi), any
    shape. rounds, band: 1 or more.
    """
    ### BEGIN SOLUTION
    p = (1 - angle.double() / math.pi).clamp_min(0) ** 2
    sizes = [min(band, rounds - start) for start in range(0, rounds, band)]
    missed = sum(torch.log1p(-p ** size) for size in sizes)
    return (-torch.expm1(missed)).to(angle.dtype)
    ### END SOLUTION


def largest_needed(angle, probability, rounds):
    """The largest k, from 0 to `rounds`, so that a pair agrees in at least k of the rounds with at
    least this probability, a whole number.

    angle: a number, radians, 0 to pi. probability: a number, 0 to 1. rounds: 1 or more.
    """
    ### BEGIN SOLUTION
    p, tail = (1 - angle / math.pi) ** 2, 0.0
    for k in range(rounds, 0, -1):                                  # the tail grows as k falls
        tail += math.comb(rounds, k) * p ** k * (1 - p) ** (rounds - k)
        if tail >= probability:
            return k
    return 0
    ### END SOLUTION

# %%
# CHECK 5
angles = torch.tensor([0.0, math.pi / 2, math.pi])
found = found_by_bands(angles, 1, 1)
assert found.shape == (3,) and torch.allclose(found, torch.tensor([1, 0.25, 0]), atol=1e-5), (
    f"one round: 1 for the same direction, 1/4 at right angles, 0 for opposites; you say {found}")
found = float(found_by_bands(angles[1], 6, 2))
assert abs(found - (1 - (15 / 16) ** 3)) < 1e-5, (
    f"right angles, three bands of two: a band is missed with 15/16; you say {found:.4f}")
found = float(found_by_bands(angles[1], 5, 2))
assert abs(found - (1 - (15 / 16) ** 2 * (3 / 4))) < 1e-5, (
    f"five rounds in bands of two: the last band has one round; you say {found:.4f}")
found = float(found_by_bands(torch.tensor(3.1, dtype=torch.float64), 32, 4))
assert abs(found / (8 * (1 - 3.1 / math.pi) ** 8) - 1) < 1e-3, (
    f"3.1 radians, eight bands of four: near 8 p^4, which is tiny; you say {found}")
assert largest_needed(0.0, 1.0, 32) == 32, "the same direction agrees in all rounds"
assert largest_needed(math.pi / 2, 0.25, 1) == 1, "one round, right angles: 1/4 is enough for 1/4"
assert largest_needed(math.pi / 2, 0.26, 1) == 0, "but not for 0.26"
k, p = largest_needed(ANGLE, 0.9, 32), (1 - ANGLE / math.pi) ** 2
tails = [sum(math.comb(32, n) * p ** n * (1 - p) ** (32 - n) for n in range(m, 33))
         for m in (k, k + 1)]
assert tails[0] >= 0.9 > tails[1], (
    f"{ANGLE} radians, 32 rounds: at least {k} with probability {tails[0]:.3f}, at least {k + 1} "
    f"with {tails[1]:.3f}; wanted are 0.9")
### BEGIN HIDDEN TESTS
from decimal import Decimal, localcontext
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _by_bands(angle, rounds, band):
    """With 80 digits; pi in double precision, as the angle is."""
    values = []
    with localcontext() as context:
        context.prec = 80
        for one in angle.double().flatten().tolist():
            p = max(1 - Decimal(one) / Decimal(math.pi), Decimal(0)) ** 2
            missed = (1 - p ** band) ** (rounds // band) if rounds >= band else Decimal(1)
            if rounds % band:
                missed *= 1 - p ** (rounds % band)
            values.append(float(1 - missed))
    return torch.tensor(values, dtype=torch.float64).reshape(angle.shape)

def _largest(angle, probability, rounds):
    """Each tail on its own, from the small terms up."""
    p = (1 - angle / math.pi) ** 2
    terms = [math.comb(rounds, n) * p ** n * (1 - p) ** (rounds - n) for n in range(rounds + 1)]
    return max([0, *(k for k in range(1, rounds + 1) if math.fsum(terms[k:]) >= probability)])

def _right(angle, rounds, band, message, relative=False):
    before = angle.clone()
    found, expected = found_by_bands(angle, rounds, band), _by_bands(before, rounds, band)
    assert truth.equal(angle, before), "the function changes the angles"
    assert found.dtype == angle.dtype, f"wrong precision: {message}"
    assert truth.has_shape(found, *angle.shape), f"wrong shape: {message}"
    if relative:
        found, expected = found.double() / expected, expected / expected
    assert truth.close(found, expected, rtol=1e-3, atol=1e-5), f"wrong probability: {message}"

_generator = hidden.generator("angles")
for _case, _shape in enumerate(((), (4,), (2, 3), (1, 1, 5))):
    _rounds, _band = hidden.integer(f"rounds {_case}", 3, 40), hidden.integer(f"band {_case}", 1, 6)
    _angle = math.pi * torch.rand(_shape, generator=_generator)
    _right(_angle, _rounds, _band, f"{_rounds} rounds in bands of {_band}")
    _right(_angle, 7, 3, "seven rounds in bands of three")
    _right(_angle / 3, 4, 9, "a band larger than the rounds")
for _case in range(12):
    _angle, _rounds = hidden.real(f"angle {_case}", 0.1, 2.5), hidden.integer(f"all {_case}", 1, 60)
    _wanted = hidden.real(f"wanted {_case}", 0.02, 0.98)
    assert largest_needed(_angle, _wanted, _rounds) == _largest(_angle, _wanted, _rounds), (
        f"wrong k: {_angle:.2f} radians, probability {_wanted:.2f}, {_rounds} rounds")
for _angle, _wanted, _rounds in ((0.0, 1.0, 5), (0.0, 0.5, 1), (math.pi, 0.01, 9), (1.0, 0.0, 8),
                                 (1.0, 1.0, 8), (math.pi / 2, 1 / 16, 2), (0.3, 0.999, 300)):
    _found = largest_needed(_angle, _wanted, _rounds)
    assert _found == _largest(_angle, _wanted, _rounds), (
        f"wrong k: {_angle:.2f} radians, probability {_wanted}, {_rounds} rounds")
    assert type(_found) is int, "a whole number (int) is asked for"
edges.case("zeros inside")
_right(torch.tensor([0.0, 0.3, 0.0, math.pi / 2]), 12, 3, "angles of 0")
edges.case("short")
_right(torch.tensor([1.0]), 1, 1, "one round")
edges.case("tiny")
_right(torch.tensor([3.0, 3.1, 3.14], dtype=torch.float64), 32, 4, "near pi", relative=True)
_right(torch.tensor([3.14159], dtype=torch.float64), 40, 2, "very near pi", relative=True)
edges.case("huge")
_right(torch.tensor([1.5, 2.5, 3.0], dtype=torch.float64), 100_000, 10, "100,000 rounds")
assert largest_needed(2.0, 0.5, 900) == _largest(2.0, 0.5, 900), "wrong k for 900 rounds"
edges.case("other type")
_right(torch.rand(5, generator=_generator).double(), 20, 3, "float64")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: is a tenth enough?
#
# Of all pairs, a tenth is kept. Whether that is enough depends on the attention: one that looks for the few frames that sound the same needs few keys; one that takes a mean over nearly everything needs all of them, or does it? The cell below gives you frames of a song as tokens, attention whose
# **sharpness** you choose (the number that the cosine of the angle is multiplied by), ways to rank the keys of each query, and how far the answers are from those of all pairs, as an SDR. The ways: hashing with some number of rounds, by chance, the nearest in time, and the best (the largest scores, which a hash would like to find).
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: with nine tenths left out, the SDR for the sharpness 2, 8 and 32, by 32 rounds, by 8 rounds, by chance, by nearness in time and for the best keys; and by 32 rounds and by chance with half left out,
# - a control: how much of the weight does a query's best tenth hold at each sharpness?
# - for which attention hashing pays, for which chance is better, *even better than the best keys*, and why that is no contradiction. (What does a mean over a fair sample get right on the average? What does a mean over the most similar frames get wrong?)
# - one thing that this experiment can't tell about HT Demucs.

# %%
# EXPERIMENT: frames of a song, ways to rank keys, the answers' SDR; write your own cells below
def frames_of(number):
    """Twenty seconds of a song of the band as tokens of length 1: (frame, mel)."""
    from course_lib.data import open_tracks
    from course_lib.data.resampling import resample
    from course_lib.sparse_attention import log_mel_frames
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(0.0, 20.0)
    mono = resample(song.mixture.mean(0, keepdim=True), song.rate, 22_050)
    return F.normalize(log_mel_frames(mono, 22_050).double(), dim=-1)


def ranks(x, way, rounds=32, seed=0):
    """How early each key would be kept, (query, key), the largest first; way: "hash", "chance",
    "near" or "best"."""
    from course_lib.sparse_attention import count_matches, hash_directions, lsh_buckets
    generator = torch.Generator().manual_seed(seed)
    lots = torch.rand(len(x), len(x), generator=generator, dtype=torch.float64)
    if way == "hash":                                               # equal counts: by lot
        b = lsh_buckets(x, hash_directions(x.shape[1], rounds, generator=generator))
        return count_matches(b, b) + lots
    place = torch.arange(len(x), dtype=torch.float64)
    return {"chance": lots, "near": -(place[:, None] - place).abs(), "best": x @ x.T}[way]


def answers(x, sharpness, ranks=None, share=1.0):
    """What attention over each query's first keys gives, `share` of them: (frame, mel)."""
    scores = sharpness * x @ x.T
    if ranks is not None:
        kept = ranks.topk(round(share * len(x)), dim=1).indices
        scores = torch.full_like(scores, -math.inf).scatter(1, kept, scores.gather(1, kept))
    return scores.softmax(-1) @ x


def sdr(found, expected):
    """SDR in dB of answers, one number."""
    error = (found - expected).square().sum()
    return float(10 * torch.log10(expected.square().sum() / error))

# For example:  x = frames_of(0)
#               sdr(answers(x, 8, ranks(x, "hash"), 0.1), answers(x, 8))

# %% [markdown]
# <!-- TASK 6 (6 points): is a tenth enough? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, how queries and keys are made, how many keys are kept and how, seeds; only sharpness, way and share vary.
# - 2 points: the table with plausible numbers and the control, on more than one song, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: a sharp attention (32) gives nearly all weight to a few frames that sound the same; whoever finds them has the answer, and hashing finds most, the better the more rounds, never as well as the best keys. Chance misses them and fails. A flat one (2) is
#   nearly the mean of *all* frames, of which the best tenth holds little more than a quarter of the weight. A tenth by chance is a fair sample: its mean is right on the average, and what it misses is noise that falls with the number of keys. The most similar tenth is **not** a fair sample: it leaves out all that sounds different, so that the
#   answer is drawn to the frame itself. So chance beats hashing, and even the best keys; the better the hash, the worse. With half of the keys the order at sharpness 2 is the same. No contradiction: "best" means the largest weights, and the error is what the left-out ones *together* would have said. In between (8) hashing is ahead, and in every song. An answer with
#   the right order, but no reason for the flat case, gets one point.
# - 1 point: a limit, such as: here queries and keys are the frames themselves; a trained network chooses both, sharpens where it needs to, and could learn to live with few keys. Or: HT Demucs has several heads of which some may be flat, some sharp; the error of an answer isn't that of a separation; songs of the band repeat themselves exactly.
#
# For comparison, means over the first eight test songs, 20 seconds each, with the cell above (SDR in dB of the answers).
#
# | | sharpness 2 | sharpness 8 | sharpness 32 |
# |---|---|---|---|
# | hash 32, a tenth | -1.4 | 16.9 | 52.8 |
# | hash 8, a tenth | -0.6 | 13.9 | 39.3 |
# | chance, a tenth | 7.2 | 7.1 | 3.6 |
# | near, a tenth | 0.0 | 11.5 | 31.6 |
# | best, a tenth | -1.9 | 19.4 | 77.4 |
# | hash 32, a half | 5.9 | 34.0 | 126.6 |
# | chance, a half | 16.7 | 13.6 | 8.7 |
# <!-- END RUBRIC -->
