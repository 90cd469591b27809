"""Answers to assignment 8b by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------------------ 1, all of one band

BANDS_BY_LOOPS = """
def bucket_numbers(x, R):
    numbers = []
    for n in range(R.shape[1]):
        fits = x @ R[:, n].to(x.dtype)                              # (..., time, directions)
        numbers.append(torch.cat([fits, -fits], dim=-1).argmax(-1))
    return torch.stack(numbers, -1)

def kept_by_bands(b_q, b_k, band):
    kept, rounds = None, b_q.shape[-1]
    for start in range(0, rounds, band):
        agree = None
        for n in range(start, min(start + band, rounds)):
            same = b_q[..., n].unsqueeze(-1) == b_k[..., n].unsqueeze(-2)
            agree = same if agree is None else agree & same
        kept = agree if kept is None else kept | agree
    return kept
"""
BANDS_BY_NUMBERS = """
def bucket_numbers(x, R):
    both = torch.cat([R, -R], -1).to(x.dtype)                       # (feature, round, bucket)
    return (x @ both.flatten(1)).unflatten(-1, both.shape[1:]).max(-1).indices

def kept_by_bands(b_q, b_k, band):
    b_q, b_k = b_q.long(), b_k.long()
    base = 1 + max(int(b_q.max()), int(b_k.max()))
    kept = False
    for part_q, part_k in zip(b_q.split(band, -1), b_k.split(band, -1)):
        powers = base ** torch.arange(part_q.shape[-1])             # a band's buckets as one number
        number_q, number_k = (part_q * powers).sum(-1), (part_k * powers).sum(-1)
        kept = kept | (number_q[..., :, None] == number_k[..., None, :])
    return kept
"""
BANDS_BY_COUNTS = """
def bucket_numbers(x, R):
    fits = torch.tensordot(x, R.to(x.dtype), dims=1)
    fits = torch.cat([fits, fits.neg()], -1)
    first = fits == fits.amax(-1, keepdim=True)                     # maybe several
    return first.to(torch.int8).argmax(-1)

def kept_by_bands(b_q, b_k, band):
    rounds = b_q.shape[-1]
    bands = torch.arange(rounds) // band
    size = torch.bincount(bands)                                    # (band,)
    which = F.one_hot(bands, len(size))                             # (round, band)
    same = (b_q.unsqueeze(-2) == b_k.unsqueeze(-3)).long()
    return (torch.einsum("...r,rb->...b", same, which) == size).any(-1)
"""
BANDS_RIGHT = {
    "loops": BANDS_BY_LOOPS,
    "a number a band": BANDS_BY_NUMBERS,
    "counts": BANDS_BY_COUNTS,
}
BANDS_WRONG = {
    "opposites left out": changed(BANDS_BY_LOOPS, ("torch.cat([fits, -fits], dim=-1).argmax(-1)", "fits.argmax(-1)")),
    "the sign doesn't count": changed(
        BANDS_BY_LOOPS, ("torch.cat([fits, -fits], dim=-1).argmax(-1)", "fits.abs().argmax(-1)")
    ),
    "opposites first": changed(BANDS_BY_LOOPS, ("torch.cat([fits, -fits]", "torch.cat([-fits, fits]")),
    "a direction beside its opposite": changed(
        BANDS_BY_LOOPS, ("torch.cat([fits, -fits], dim=-1)", "torch.stack([fits, -fits], dim=-1).flatten(-2)")
    ),
    "the worst fit": changed(BANDS_BY_LOOPS, (".argmax(-1)", ".argmin(-1)")),
    "counted from one": changed(BANDS_BY_LOOPS, ("dim=-1).argmax(-1)", "dim=-1).argmax(-1) + 1")),
    "the last of those that fit equally well": changed(
        BANDS_BY_COUNTS,
        (
            "return first.to(torch.int8).argmax(-1)",
            "return first.shape[-1] - 1 - first.flip(-1).to(torch.int8).argmax(-1)",
        ),
    ),
    "bits of the signs": changed(
        BANDS_BY_LOOPS,
        ("torch.cat([fits, -fits], dim=-1).argmax(-1)", "((fits > 0) * 2 ** torch.arange(fits.shape[-1])).sum(-1)"),
    ),
    "four buckets": changed(BANDS_BY_LOOPS, ("R[:, n].to(x.dtype)", "R[:, n, :2].to(x.dtype)")),
    "zeros get a bucket of their own": changed(
        BANDS_BY_LOOPS,
        ("torch.stack(numbers, -1)", "torch.stack(numbers, -1).masked_fill(~x.any(-1, keepdim=True), 2 * R.shape[2])"),
    ),
    "small numbers rounded off": changed(
        BANDS_BY_LOOPS, ("    numbers = []", "    x, numbers = torch.round(x, decimals=5), []")
    ),
    "in int32": changed(BANDS_BY_LOOPS, ("torch.stack(numbers, -1)", "torch.stack(numbers, -1).int()")),
    "rounds in front": changed(BANDS_BY_LOOPS, ("torch.stack(numbers, -1)", "torch.stack(numbers, 0)")),
    "float32 all the time": changed(BANDS_BY_LOOPS, ("R[:, n].to(x.dtype)", "R[:, n]")),
    "normed in place": changed(
        BANDS_BY_LOOPS, ("    numbers = []", "    x /= x.norm(dim=-1, keepdim=True).clamp_min(1e-12)\n    numbers = []")
    ),
    "any round": changed(BANDS_BY_LOOPS, ("agree & same", "agree | same")),
    "all bands": changed(BANDS_BY_LOOPS, ("kept | agree", "kept & agree")),
    "the last band left out if it is shorter": changed(
        BANDS_BY_LOOPS, ("range(0, rounds, band):", "range(0, max(rounds - band, 0) + 1, band):")
    ),
    "the last band filled from the one before": changed(
        BANDS_BY_LOOPS,
        (
            "for n in range(start, min(start + band, rounds)):",
            "for n in range(min(start, max(0, rounds - band)), min(start + band, rounds)):",
        ),
    ),
    "bands that overlap": changed(BANDS_BY_LOOPS, ("range(0, rounds, band):", "range(rounds):")),
    "so many bands, not rounds": changed(
        BANDS_BY_LOOPS,
        (
            "    kept, rounds = None, b_q.shape[-1]",
            "    kept, rounds = None, b_q.shape[-1]\n    band = -(-rounds // band)",
        ),
    ),
    "every so many rounds": changed(
        BANDS_BY_LOOPS,
        (
            "for n in range(start, min(start + band, rounds)):",
            "for n in range(start // band, rounds, -(-rounds // band)):",
        ),
    ),
    "the short band needs as many": changed(BANDS_BY_COUNTS, ("same, which) == size)", "same, which) == band)")),
    "bands as sums": changed(
        BANDS_BY_NUMBERS,
        ("powers = base ** torch.arange(part_q.shape[-1])", "powers = torch.ones(part_q.shape[-1], dtype=torch.int64)"),
    ),
    "bands as numbers to base two": changed(BANDS_BY_NUMBERS, ("powers = base **", "powers = 2 **")),
    "numbers of eight bits": changed(
        BANDS_BY_NUMBERS,
        ("b_q, b_k = b_q.long(), b_k.long()", "b_q, b_k = b_q.to(torch.uint8), b_k.to(torch.uint8)"),
        ("torch.arange(part_q.shape[-1])", "torch.arange(part_q.shape[-1], dtype=torch.uint8)"),
        (
            "(part_q * powers).sum(-1), (part_k * powers).sum(-1)",
            "(part_q * powers).sum(-1).to(torch.uint8), (part_k * powers).sum(-1).to(torch.uint8)",
        ),
    ),
    "keys by queries": changed(
        BANDS_BY_LOOPS,
        (
            "b_q[..., n].unsqueeze(-1) == b_k[..., n].unsqueeze(-2)",
            "b_q[..., n].unsqueeze(-2) == b_k[..., n].unsqueeze(-1)",
        ),
    ),
    "two axes only": changed(
        BANDS_BY_LOOPS,
        (
            "b_q[..., n].unsqueeze(-1) == b_k[..., n].unsqueeze(-2)",
            "b_q[..., n].unsqueeze(1) == b_k[..., n].unsqueeze(0)",
        ),
    ),
    "k of n instead": """
def bucket_numbers(x, R):
    fits = torch.einsum("...tf,frh->...trh", x, R.to(x.dtype))
    return torch.cat([fits, -fits], -1).argmax(-1)

def kept_by_bands(b_q, b_k, band):
    return (b_q[..., :, None, :] == b_k[..., None, :, :]).sum(-1) >= min(band, b_q.shape[-1])
""",
}

# ------------------------------------------------------------------------- 2, exactly as many as there is room for

ROOM_BY_RANKS = """
def exactly(counts, room):
    flat = counts.flatten(-2).long()
    order = torch.sort(flat, dim=-1, descending=True, stable=True).indices
    rank = order.argsort(-1)                                        # the place of each pair
    kept = (rank < room * counts.shape[-2]) & (flat >= 0)
    return kept.reshape(counts.shape)
"""
ROOM_BY_PYTHON = """
def exactly(counts, room):
    queries, keys = counts.shape[-2:]
    heads = counts.reshape(-1, queries * keys)
    kept = torch.zeros(heads.shape, dtype=torch.bool)
    for number, head in enumerate(heads.tolist()):
        allowed = [n for n, count in enumerate(head) if count >= 0]
        allowed.sort(key=lambda n: -head[n])                        # keeps the order of equals
        kept[number, allowed[:room * queries]] = True
    return kept.view(counts.shape)
"""
ROOM_BY_THRESHOLD = """
def exactly(counts, room):
    queries, keys = counts.shape[-2:]
    kept = torch.zeros(counts.shape, dtype=torch.bool).reshape(-1, queries * keys)
    for mask, head in zip(kept, counts.reshape(-1, queries * keys).long()):
        total = min(room * queries, int((head >= 0).sum()))
        if total == 0:
            continue
        k = head.sort(descending=True).values[total - 1]            # the count where room ends
        mask |= head > k
        rest = (head == k).nonzero()[:, 0][:total - int(mask.sum())]
        mask[rest] = True
    return kept.reshape(counts.shape)
"""
ROOM_RIGHT = {
    "ranks": ROOM_BY_RANKS,
    "Python's sort": ROOM_BY_PYTHON,
    "a threshold, and the first of the rest": ROOM_BY_THRESHOLD,
}
ROOM_WRONG = {
    "so many for each query": """
def exactly(counts, room):
    order = counts.long().argsort(dim=-1, descending=True, stable=True)[..., :room]
    kept = torch.zeros(counts.shape, dtype=torch.bool).scatter(-1, order, True)
    return kept & (counts >= 0)
""",
    "all heads share": """
def exactly(counts, room):
    flat = counts.flatten().long()
    order = flat.argsort(descending=True, stable=True)[:room * counts[..., 0].numel()]
    kept = torch.zeros(flat.shape, dtype=torch.bool)
    kept[order] = True
    return (kept & (flat >= 0)).reshape(counts.shape)
""",
    "the first head's room for all": changed(
        ROOM_BY_RANKS, ("rank = order.argsort(-1) ", "rank = order.reshape(-1, order.shape[-1])[0].argsort(-1) ")
    ),
    "one k for all pairs": changed(ROOM_BY_THRESHOLD, ("[:total - int(mask.sum())]", "")),
    "only what is above k": changed(ROOM_BY_THRESHOLD, ("        mask[rest] = True\n", "")),
    "the last of the ties": changed(
        ROOM_BY_THRESHOLD, ("[:total - int(mask.sum())]", "[int((head >= k).sum()) - total:]")
    ),
    "ties by key, then by query": """
def exactly(counts, room):
    turned = counts.mT
    flat = turned.flatten(-2).long()
    rank = torch.sort(flat, dim=-1, descending=True, stable=True).indices.argsort(-1)
    kept = (rank < room * counts.shape[-2]) & (flat >= 0)
    return kept.reshape(turned.shape).mT
""",
    "ties as they come": changed(
        ROOM_BY_RANKS,
        (
            "order = torch.sort(flat, dim=-1, descending=True, stable=True).indices",
            "order = flat.topk(flat.shape[-1], dim=-1).indices.flip(-1).flip(-1)\n"
            "    order = (flat * 7 + torch.arange(flat.shape[-1]) % 3).argsort(dim=-1, descending=True, "
            "stable=True)",
        ),
    ),
    "the order of the ranks": changed(ROOM_BY_RANKS, ("rank = order.argsort(-1) ", "rank = order ")),
    "the smallest counts": changed(ROOM_BY_RANKS, ("descending=True", "descending=False")),
    "turned round": changed(
        ROOM_BY_RANKS,
        (
            "torch.sort(flat, dim=-1, descending=True, stable=True).indices",
            "torch.sort(flat, dim=-1, stable=True).indices.flip(-1)",
        ),
    ),
    "forbidden pairs too": changed(ROOM_BY_RANKS, (" & (flat >= 0)", "")),
    "counts of 0 aren't allowed": changed(ROOM_BY_RANKS, ("(flat >= 0)", "(flat > 0)")),
    "only -1 isn't allowed": changed(ROOM_BY_RANKS, ("(flat >= 0)", "(flat != -1)")),
    "room times the keys": changed(ROOM_BY_RANKS, ("room * counts.shape[-2]", "room * counts.shape[-1]")),
    "room for all together": changed(ROOM_BY_RANKS, ("room * counts.shape[-2]", "room")),
    "one more": changed(ROOM_BY_RANKS, ("rank < room * counts.shape[-2]", "rank <= room * counts.shape[-2]")),
    "one less": changed(ROOM_BY_RANKS, ("rank < room * counts.shape[-2]", "rank < room * counts.shape[-2] - 1")),
    "at least one for each query": changed(
        ROOM_BY_RANKS,
        (
            "return kept.reshape(counts.shape)",
            "kept = kept.reshape(counts.shape)\n"
            "    return kept | ((counts == counts.amax(-1, keepdim=True)) & ~kept.any(-1, keepdim=True))",
        ),
    ),
    "as floats": changed(ROOM_BY_RANKS, ("flatten(-2).long()", "flatten(-2).float()")),
    "as doubles": changed(ROOM_BY_RANKS, ("flatten(-2).long()", "flatten(-2).double()")),
    "counts up to 32": changed(ROOM_BY_RANKS, ("flatten(-2).long()", "flatten(-2).long().clamp(max=32)")),
    "at most as many as there are, or it breaks": """
def exactly(counts, room):
    flat = counts.flatten(-2).long()
    flat = flat * flat.shape[-1] - torch.arange(flat.shape[-1])
    best = flat.topk(room * counts.shape[-2], dim=-1).indices
    kept = torch.zeros(flat.shape, dtype=torch.bool).scatter(-1, best, True)
    return (kept.reshape(counts.shape)) & (counts >= 0)
""",
    "counts made unique in eight bits": """
def exactly(counts, room):
    flat = counts.flatten(-2)
    unique = flat * flat.shape[-1] - torch.arange(flat.shape[-1]).to(flat.dtype)
    rank = unique.argsort(-1, descending=True).argsort(-1)
    return ((rank < room * counts.shape[-2]) & (flat >= 0)).reshape(counts.shape)
""",
    "k from the mean": changed(
        ROOM_BY_THRESHOLD,
        ("k = head.sort(descending=True).values[total - 1]  ", "k = int(head[head >= 0].double().mean())  "),
    ),
    "an empty head breaks it": changed(
        ROOM_BY_THRESHOLD, ("        if total == 0:\n            continue\n", "        assert total\n")
    ),
    "room for none means room for one": changed(
        ROOM_BY_THRESHOLD, ("min(room * queries,", "min(max(1, room) * queries,")
    ),
    "forbidden pairs take room": changed(ROOM_BY_PYTHON, ("if count >= 0]", "if count > -2]")),
    "three axes only": changed(
        ROOM_BY_PYTHON,
        (
            "    heads = counts.reshape(-1, queries * keys)",
            "    heads = counts.flatten(1) if counts.ndim == 3 else counts.reshape(1, -1)",
        ),
    ),
    "numbers instead of bool": changed(ROOM_BY_PYTHON, ("kept.view(counts.shape)", "kept.view(counts.shape).int()")),
    "marked in the counts": changed(
        ROOM_BY_PYTHON,
        (
            "    return kept.view(counts.shape)",
            "    kept = kept.view(counts.shape)\n    counts[~kept] = -1\n    return kept",
        ),
    ),
}

# ------------------------------------------------------------------------------------------------ 3, a list of pairs

PAIRS_BY_REDUCE = """
def attend_pairs(q, k, v, queries, keys):
    scores = torch.einsum("pf,pf->p", q[queries], k[keys]) / math.sqrt(q.shape[-1])
    top = torch.full((q.shape[0],), -math.inf, dtype=q.dtype)
    top = top.index_reduce(0, queries, scores.detach(), "amax")
    weights = torch.exp(scores - top[queries]).unsqueeze(-1)        # (pair, 1)
    both = torch.cat([weights * v[keys], weights], -1)              # the sum of weights comes last
    sums = q.new_zeros(len(q), both.shape[-1]).index_add(0, queries, both)
    total = sums[:, -1:]
    return sums[:, :-1] / torch.where(total > 0, total, 1)
"""
PAIRS_BY_SORTING = """
def attend_pairs(q, k, v, queries, keys):
    order = queries.argsort()
    queries, keys = queries[order], keys[order]
    present, counts = torch.unique_consecutive(queries, return_counts=True)
    found = torch.zeros(len(q), v.shape[-1], dtype=q.dtype)
    rows, start = [], 0
    for n, count in zip(present.tolist(), counts.tolist()):
        mine = keys[start:start + count]
        weights = (k[mine] @ q[n] / q.shape[-1] ** 0.5).softmax(0)
        rows.append(weights @ v[mine])
        start += count
    return found.index_copy(0, present, torch.stack(rows)) if rows else found
"""
PAIRS_IN_FLOAT64 = """
def attend_pairs(q, k, v, queries, keys):
    kind, (q, k, v) = q.dtype, (part.double() for part in (q, k, v))
    s = (q.index_select(0, queries) * k.index_select(0, keys)).sum(1) * q.shape[1] ** -0.5
    top = torch.zeros(len(q), dtype=torch.float64).scatter_reduce(
        0, queries, s.detach(), "amax", include_self=False)
    e = (s - top.gather(0, queries)).exp()
    total = torch.zeros(len(q), dtype=torch.float64).scatter_add(0, queries, e)
    share = e / total.gather(0, queries)
    out = torch.zeros(len(q), v.shape[1], dtype=torch.float64)
    return out.index_add(0, queries, share[:, None] * v.index_select(0, keys)).to(kind)
"""
PAIRS_RIGHT = {
    "weights beside the values": PAIRS_BY_REDUCE,
    "sorted, a query at a time": PAIRS_BY_SORTING,
    "float64": PAIRS_IN_FLOAT64,
}
PAIRS_WRONG = {
    "a square": """
def attend_pairs(q, k, v, queries, keys):
    scores = q @ k.T / q.shape[-1] ** 0.5
    ones = torch.ones(len(queries), dtype=q.dtype)
    times = torch.zeros(len(q), len(k), dtype=q.dtype).index_put((queries, keys), ones, accumulate=True)
    scores = scores.masked_fill(times == 0, -math.inf)
    some = (times > 0).any(1, keepdim=True)
    weights = (scores - scores.amax(1, keepdim=True).masked_fill(~some, 0)).exp() * times
    return weights @ v / weights.sum(1, keepdim=True).clamp_min(0.5)
""",
    "a mask": """
def attend_pairs(q, k, v, queries, keys):
    mask = torch.zeros(len(q), len(k), dtype=torch.bool)
    mask[queries, keys] = True
    some = mask.any(1, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask | ~some) * some
""",
    "not divided by the root": changed(PAIRS_BY_REDUCE, (" / math.sqrt(q.shape[-1])", "")),
    "divided by the number of features": changed(PAIRS_BY_REDUCE, ("math.sqrt(q.shape[-1])", "q.shape[-1]")),
    "the root of the values' size": changed(PAIRS_BY_REDUCE, ("math.sqrt(q.shape[-1])", "math.sqrt(v.shape[-1])")),
    "softmax over the whole list": changed(
        PAIRS_IN_FLOAT64, ("share = e / total.gather(0, queries)", "share = s.softmax(0)")
    ),
    "softmax over the keys' queries": changed(
        PAIRS_IN_FLOAT64, ("scatter_add(0, queries, e)", "scatter_add(0, queries.flip(0), e)")
    ),
    "exp as it is": changed(
        PAIRS_IN_FLOAT64, ("e = (s - top.gather(0, queries)).exp()", "e = s.float().exp().double()")
    ),
    "the largest of all": changed(
        PAIRS_BY_REDUCE, ("torch.exp(scores - top[queries])", "torch.exp(scores - scores.max())")
    ),
    "the largest no smaller than 0": changed(
        PAIRS_BY_REDUCE,
        ("torch.full((q.shape[0],), -math.inf, dtype=q.dtype)", "torch.zeros(q.shape[0], dtype=q.dtype)"),
    ),
    "the mean taken off": changed(PAIRS_BY_REDUCE, ('"amax")', '"mean", include_self=False)')),
    "the last score taken off": changed(
        PAIRS_BY_REDUCE,
        ('top = top.index_reduce(0, queries, scores.detach(), "amax")', "top[queries] = scores.detach()"),
    ),
    "weights that aren't divided": changed(
        PAIRS_BY_REDUCE, ("sums[:, :-1] / torch.where(total > 0, total, 1)", "sums[:, :-1]")
    ),
    "divided by the number of pairs": changed(
        PAIRS_BY_REDUCE,
        ("total = sums[:, -1:]", "total = torch.bincount(queries, minlength=len(q))[:, None].to(q.dtype)"),
    ),
    "a constant in the denominator": changed(PAIRS_BY_REDUCE, ("torch.where(total > 0, total, 1)", "(total + 1e-2)")),
    "not a number without pairs": changed(PAIRS_BY_REDUCE, ("torch.where(total > 0, total, 1)", "total")),
    "the mean of all values without pairs": changed(
        PAIRS_BY_REDUCE,
        (
            "return sums[:, :-1] / torch.where(total > 0, total, 1)",
            "return torch.where(total > 0, sums[:, :-1] / torch.where(total > 0, total, 1), v.mean(0))",
        ),
    ),
    "queries without pairs left out": changed(
        PAIRS_BY_SORTING,
        ("return found.index_copy(0, present, torch.stack(rows)) if rows else found", "return torch.stack(rows)"),
    ),
    "no pairs forgotten": changed(PAIRS_BY_SORTING, (" if rows else found", "")),
    "sorted by key as well": changed(
        PAIRS_BY_SORTING,
        ("    queries, keys = queries[order], keys[order]", "    queries, keys = queries[order], keys.sort().values"),
    ),
    "the list isn't sorted": changed(
        PAIRS_BY_SORTING, ("    order = queries.argsort()", "    order = torch.arange(len(queries))")
    ),
    "as many pairs for each query": """
def attend_pairs(q, k, v, queries, keys):
    order = queries.argsort(stable=True)
    each = max(1, len(queries) // len(q))
    mine = keys[order][:each * len(q)].reshape(len(q), each)
    weights = (torch.einsum("qf,qpf->qp", q, k[mine]) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("qp,qpv->qv", weights, v[mine])
""",
    "a pair that comes twice counts once": changed(
        PAIRS_BY_REDUCE,
        (
            "    scores = torch.einsum",
            "    queries, keys = torch.unique(torch.stack([queries, keys]), dim=1)\n    scores = torch.einsum",
        ),
    ),
    "the last pair of a query wins": changed(
        PAIRS_BY_REDUCE,
        (
            "sums = q.new_zeros(len(q), both.shape[-1]).index_add(0, queries, both)",
            "sums = q.new_zeros(len(q), both.shape[-1]).index_copy(0, queries, both)",
        ),
    ),
    "written with an index": changed(
        PAIRS_BY_REDUCE,
        (
            "sums = q.new_zeros(len(q), both.shape[-1]).index_add(0, queries, both)",
            "sums = q.new_zeros(len(q), both.shape[-1])\n    sums[queries] += both",
        ),
    ),
    "as many answers as keys": changed(
        PAIRS_BY_REDUCE, ("sums = q.new_zeros(len(q), both.shape[-1])", "sums = q.new_zeros(len(k), both.shape[-1])")
    ),
    "values of the queries": changed(PAIRS_BY_REDUCE, ("weights * v[keys]", "weights * v[queries % len(v)]")),
    "values of as many as features": changed(
        PAIRS_IN_FLOAT64,
        (
            "out = torch.zeros(len(q), v.shape[1], dtype=torch.float64)",
            "out = torch.zeros(len(q), q.shape[1], dtype=torch.float64)",
        ),
    ),
    "no gradient through the weights": changed(
        PAIRS_BY_REDUCE,
        (
            "weights = torch.exp(scores - top[queries]).unsqueeze(-1)",
            "weights = torch.exp(scores - top[queries]).unsqueeze(-1).detach()",
        ),
    ),
    "queries of zeros taken for padding": changed(
        PAIRS_BY_REDUCE,
        (
            "return sums[:, :-1] / torch.where(total > 0, total, 1)",
            "return sums[:, :-1] / torch.where(total > 0, total, 1) * (q != 0).any(1, keepdim=True)",
        ),
    ),
    "float32 all the time": changed(PAIRS_IN_FLOAT64, (".to(kind)", ".float()")),
    "float64 all the time": changed(PAIRS_IN_FLOAT64, (".to(kind)", "")),
    "scaled in place": changed(
        PAIRS_BY_REDUCE, ("    scores = torch.einsum(", "    q *= 1.0 + 1e-6\n    scores = torch.einsum(")
    ),
}

# ---------------------------------------------------------------------------------------------------- 4, what fits

FITS_BY_CASES = """
def numbers_held(tokens, channels, heads, way, size=0):
    total = 4 * tokens * channels
    if way == "dense":
        total += heads * tokens ** 2
    elif way == "chunks":
        total += heads * min(size, tokens) * tokens
    else:
        total += 2 * heads * tokens * min(size, tokens)
    return total

def longest(room, channels, heads, way, size=0):
    high = 1
    while numbers_held(high, channels, heads, way, size) <= room:
        high *= 2
    low = 0                                                         # fits; high doesn't
    while low + 1 < high:
        middle = (low + high) // 2
        if numbers_held(middle, channels, heads, way, size) <= room:
            low = middle
        else:
            high = middle
    return low
"""
FITS_BY_FORMULA = """
def numbers_held(tokens, channels, heads, way, size=0):
    factor = 2 if way == "pairs" else 1
    width = tokens if way == "dense" else min(size, tokens)
    return tokens * (4 * channels + factor * heads * width)

def longest(room, channels, heads, way, size=0):
    a = heads * (2 if way == "pairs" else 1)
    square = (math.isqrt(4 * channels ** 2 + a * room) - 2 * channels) // a
    if way == "dense" or square < size:
        return square
    return room // (4 * channels + a * size)
"""
FITS_BY_BITS = """
def numbers_held(tokens, channels, heads, way, size=0):
    ways = {"dense": lambda: tokens * tokens, "chunks": lambda: tokens * min(tokens, size),
            "pairs": lambda: tokens * min(tokens, size) * 2}
    return 4 * tokens * channels + heads * ways[way]()

def longest(room, channels, heads, way, size=0):
    found = 0
    for bit in reversed(range(110)):
        if numbers_held(found + (1 << bit), channels, heads, way, size) <= room:
            found += 1 << bit
    return found
"""
FITS_RIGHT = {
    "halving": FITS_BY_CASES,
    "the quadratic formula": FITS_BY_FORMULA,
    "bit by bit": FITS_BY_BITS,
}
FITS_WRONG = {
    "one square for all heads": changed(FITS_BY_CASES, ("heads * tokens ** 2", "tokens ** 2")),
    "channels in each head": changed(
        FITS_BY_CASES, ("total = 4 * tokens * channels", "total = 4 * tokens * channels * heads")
    ),
    "queries, keys and values only": changed(FITS_BY_CASES, ("total = 4 * tokens", "total = 3 * tokens")),
    "bytes": changed(FITS_BY_CASES, ("    return total", "    return 4 * total")),
    "half of the square": changed(FITS_BY_CASES, ("heads * tokens ** 2", "heads * tokens * (tokens + 1) // 2")),
    "chunks of the size, more than there are": changed(
        FITS_BY_CASES, ("heads * min(size, tokens) * tokens", "heads * size * tokens")
    ),
    "chunks with themselves": changed(
        FITS_BY_CASES, ("heads * min(size, tokens) * tokens", "heads * min(size, tokens) ** 2")
    ),
    "all chunks": changed(
        FITS_BY_CASES, ("heads * min(size, tokens) * tokens", "heads * -(-tokens // size) * min(size, tokens) * tokens")
    ),
    "chunks in one head": changed(FITS_BY_CASES, ("heads * min(size, tokens) * tokens", "min(size, tokens) * tokens")),
    "a number a pair": changed(FITS_BY_CASES, ("2 * heads * tokens * min", "heads * tokens * min")),
    "three numbers a pair": changed(FITS_BY_CASES, ("2 * heads * tokens * min", "3 * heads * tokens * min")),
    "which key only once for all heads": changed(
        FITS_BY_CASES, ("2 * heads * tokens * min(size, tokens)", "(heads + 1) * tokens * min(size, tokens)")
    ),
    "more keys than there are": changed(
        FITS_BY_CASES, ("2 * heads * tokens * min(size, tokens)", "2 * heads * tokens * size")
    ),
    "chunks and pairs exchanged": changed(FITS_BY_CASES, ('elif way == "chunks"', 'elif way == "pairs"')),
    "less than the room": changed(
        FITS_BY_CASES,
        (
            "        if numbers_held(middle, channels, heads, way, size) <= room:",
            "        if numbers_held(middle, channels, heads, way, size) < room:",
        ),
    ),
    "the first that doesn't fit": changed(FITS_BY_CASES, ("    return low\n", "    return high\n")),
    "at least one token": changed(FITS_BY_CASES, ("    low = 0  ", "    low = min(1, high - 1) if high > 1 else 1  ")),
    "to the power of two": changed(FITS_BY_CASES, ("    low = 0 ", "    return high // 2\n    low = 0 ")),
    "the root in floats": changed(
        FITS_BY_FORMULA,
        (
            "(math.isqrt(4 * channels ** 2 + a * room) - 2 * channels) // a",
            "int((math.sqrt(4 * channels ** 2 + a * room) - 2 * channels) / a)",
        ),
    ),
    "halving thirty times": changed(FITS_BY_CASES, ("    while low + 1 < high:", "    for _ in range(30):")),
    "a float": changed(FITS_BY_FORMULA, ("return square\n", "return float(square)\n")),
    "the root of room by heads": changed(
        FITS_BY_FORMULA, ("(math.isqrt(4 * channels ** 2 + a * room) - 2 * channels) // a", "math.isqrt(room // a)")
    ),
    "what is linear taken off once": changed(
        FITS_BY_FORMULA,
        (
            "(math.isqrt(4 * channels ** 2 + a * room) - 2 * channels) // a",
            "math.isqrt(max(0, room - 4 * channels) // a)",
        ),
    ),
    "always the line": changed(FITS_BY_FORMULA, (" or square < size", "")),
    "always the square": changed(FITS_BY_FORMULA, ('if way == "dense" or square < size:', "if True:")),
    "the smaller of both": changed(
        FITS_BY_FORMULA,
        (
            '    if way == "dense" or square < size:\n        return square\n    return room',
            '    if way == "dense":\n        return square\n    return min(square, size) if square < size else room',
        ),
        ("// (4 * channels + a * size)", "// (4 * channels + heads * size)"),
    ),
    "a line above the size, with a token to spare": changed(FITS_BY_FORMULA, ("square < size", "square <= size")),
    "sixty bits": changed(FITS_BY_BITS, ("range(110)", "range(40)")),
    "a size of 0 for dense": changed(
        FITS_BY_FORMULA, ('width = tokens if way == "dense" else min(size, tokens)', "width = min(size or 1, tokens)")
    ),
    "numbers of 64 bits": changed(
        FITS_BY_BITS,
        (
            "    return 4 * tokens * channels + heads * ways[way]()",
            "    return int(4 * tokens * channels + heads * torch.tensor(float(ways[way]())))",
        ),
    ),
}

# -------------------------------------------------------------------------------------- 5, how likely a pair is found

FOUND_BY_WHOLE_BANDS = """
def found_by_bands(angle, rounds, band):
    p = ((1 - angle.double() / math.pi).clamp(min=0)) ** 2
    whole, rest = divmod(rounds, band)
    missed = whole * torch.log1p(-p ** band) if whole else torch.zeros_like(p)
    if rest:
        missed = missed + torch.log1p(-p ** rest)
    return (-missed.expm1()).to(angle.dtype)

def largest_needed(angle, probability, rounds):
    p = (1 - angle / math.pi) ** 2
    terms = [math.comb(rounds, n) * p ** n * (1 - p) ** (rounds - n) for n in range(rounds + 1)]
    best = 0
    for k in range(1, rounds + 1):
        if math.fsum(terms[k:]) >= probability:
            best = k
    return best
"""
FOUND_STEP_BY_STEP = """
def found_by_bands(angle, rounds, band):
    p = (1 - angle.double() / math.pi).clamp(0, 1).square()
    found = torch.zeros_like(p)
    for start in range(0, rounds, band):
        here = p ** min(band, rounds - start)
        found = found + (1 - found) * here                          # found before, or just now
    return found.type_as(angle)

def largest_needed(angle, probability, rounds):
    p = (1 - angle / math.pi) ** 2
    ways = [1.0] + [0.0] * rounds                                   # so many agree, after n rounds
    for _ in range(rounds):
        ways = [ways[0] * (1 - p)] + [b * (1 - p) + a * p for a, b in zip(ways, ways[1:])]
    tail = 0.0
    for k in range(rounds, 0, -1):
        tail += ways[k]
        if tail >= probability:
            return k
    return 0
"""
FOUND_BY_LOGS = """
def found_by_bands(angle, rounds, band):
    sizes = torch.tensor([min(band, rounds - s) for s in range(0, rounds, band)]).double()
    p = (1 - angle.double() / math.pi).clamp_min(0) ** 2
    missed = torch.log1p(-p.unsqueeze(-1) ** sizes).sum(-1)
    return -torch.expm1(missed).to(angle.dtype)

def largest_needed(angle, probability, rounds):
    p = (1 - angle / math.pi) ** 2
    if p in (0.0, 1.0):
        return rounds if p == 1 or probability == 0 else 0
    n = torch.arange(rounds + 1).double()
    log_ways = math.lgamma(rounds + 1) - torch.lgamma(n + 1) - torch.lgamma(rounds - n + 1)
    terms = (log_ways + n * math.log(p) + (rounds - n) * math.log1p(-p)).exp()
    tails = terms.flip(0).cumsum(0).flip(0)
    enough = tails >= probability * (1 - 1e-12)
    enough[0] = True
    return int(enough.nonzero().max())
"""
FOUND_RIGHT = {
    "whole bands and the rest": FOUND_BY_WHOLE_BANDS,
    "band by band, round by round": FOUND_STEP_BY_STEP,
    "logarithms": FOUND_BY_LOGS,
}
FOUND_WRONG = {
    "1 less what is left": changed(FOUND_BY_WHOLE_BANDS, ("(-missed.expm1())", "(1 - missed.exp())")),
    "without log1p": changed(
        FOUND_BY_WHOLE_BANDS, ("whole * torch.log1p(-p ** band) if", "whole * torch.log(1 - p ** band) if")
    ),
    "in single precision": changed(
        FOUND_BY_LOGS,
        (
            "p = (1 - angle.double() / math.pi).clamp_min(0) ** 2",
            "p = (1 - angle.float() / math.pi).clamp_min(0).double() ** 2",
        ),
    ),
    "p without the square": changed(
        FOUND_BY_WHOLE_BANDS,
        ("p = ((1 - angle.double() / math.pi).clamp(min=0)) ** 2", "p = (1 - angle.double() / math.pi).clamp(min=0)"),
    ),
    "p for k without the square": changed(
        FOUND_BY_WHOLE_BANDS, ("    p = (1 - angle / math.pi) ** 2", "    p = 1 - angle / math.pi")
    ),
    "the cosine": changed(
        FOUND_BY_WHOLE_BANDS,
        ("p = ((1 - angle.double() / math.pi).clamp(min=0)) ** 2", "p = angle.double().cos().clamp(min=0)"),
    ),
    "two pi": changed(FOUND_BY_WHOLE_BANDS, ("angle.double() / math.pi)", "angle.double() / (2 * math.pi))")),
    "degrees": changed(FOUND_BY_WHOLE_BANDS, ("angle.double() / math.pi)", "angle.double() / 180)")),
    "a little more than pi": changed(
        FOUND_BY_LOGS, (".clamp_min(0) ** 2", " ** 1 * (1 - angle.double() / math.pi).sqrt() ** 2")
    ),
    "the rest forgotten": changed(FOUND_BY_WHOLE_BANDS, ("    if rest:", "    if False:")),
    "the rest as a whole band": changed(FOUND_BY_WHOLE_BANDS, ("torch.log1p(-p ** rest)", "torch.log1p(-p ** band)")),
    "a band larger than the rounds": changed(
        FOUND_BY_WHOLE_BANDS,
        (
            "whole, rest = divmod(rounds, band)",
            "whole, rest = max(1, rounds // band), rounds % band if rounds > band else 0",
        ),
    ),
    "rounds by bands": changed(
        FOUND_BY_WHOLE_BANDS, ("whole, rest = divmod(rounds, band)", "whole, rest = rounds / band, 0")
    ),
    "bands and rounds exchanged": changed(
        FOUND_BY_WHOLE_BANDS, ("whole * torch.log1p(-p ** band)", "band * torch.log1p(-p ** whole)")
    ),
    "all bands": changed(FOUND_STEP_BY_STEP, ("found + (1 - found) * here", "found * here if start else here")),
    "probabilities added": changed(FOUND_STEP_BY_STEP, ("found + (1 - found) * here", "(found + here).clamp(max=1)")),
    "the last band only": changed(FOUND_STEP_BY_STEP, ("found + (1 - found) * here", "here")),
    "any round of the band": changed(
        FOUND_STEP_BY_STEP, ("here = p ** min(band, rounds - start)", "here = 1 - (1 - p) ** min(band, rounds - start)")
    ),
    "missed": changed(FOUND_STEP_BY_STEP, ("return found.type_as(angle)", "return (1 - found).type_as(angle)")),
    "a number": changed(FOUND_STEP_BY_STEP, ("return found.type_as(angle)", "return found.max().type_as(angle)")),
    "float64 all the time": changed(FOUND_STEP_BY_STEP, ("return found.type_as(angle)", "return found")),
    "in place": changed(
        FOUND_BY_WHOLE_BANDS,
        (
            "    p = ((1 - angle.double() / math.pi).clamp(min=0)) ** 2",
            "    angle.clamp_(0, 3.1)\n    p = ((1 - angle.double() / math.pi).clamp(min=0)) ** 2",
        ),
    ),
    "more than k": changed(FOUND_BY_WHOLE_BANDS, ("math.fsum(terms[k:])", "math.fsum(terms[k + 1:])")),
    "exactly k": changed(FOUND_BY_WHOLE_BANDS, ("math.fsum(terms[k:])", "terms[k]")),
    "at most k": changed(FOUND_BY_WHOLE_BANDS, ("math.fsum(terms[k:])", "math.fsum(terms[:k + 1])")),
    "more likely than": changed(FOUND_BY_WHOLE_BANDS, (">= probability", "> probability")),
    "the smallest k": changed(FOUND_BY_WHOLE_BANDS, ("            best = k", "            return k")),
    "the first k that isn't enough": changed(
        FOUND_STEP_BY_STEP, ("            return k\n", "            return min(k + 1, rounds)\n")
    ),
    "the expected number": changed(
        FOUND_STEP_BY_STEP, ("    tail = 0.0\n", "    return int(rounds * p)\n    tail = 0.0\n")
    ),
    "a normal distribution": changed(
        FOUND_STEP_BY_STEP,
        (
            "    tail = 0.0\n",
            "    from statistics import NormalDist\n"
            "    if 0 < p < 1 and 0 < probability < 1:\n"
            "        normal = NormalDist(rounds * p, (rounds * p * (1 - p)) ** 0.5)\n"
            "        return max(0, min(rounds, math.floor(normal.inv_cdf(1 - probability) + 0.5)))\n"
            "    tail = 0.0\n",
        ),
    ),
    "without the ways": changed(FOUND_BY_WHOLE_BANDS, ("math.comb(rounds, n) * p ** n", "p ** n")),
    "at least one": changed(FOUND_BY_WHOLE_BANDS, ("    best = 0\n", "    best = 1\n")),
    "thirty-two rounds": changed(
        FOUND_BY_WHOLE_BANDS, ("    terms = [math.comb", "    rounds = min(rounds, 32)\n    terms = [math.comb")
    ),
    "opposites not a number": changed(
        FOUND_BY_LOGS, ("    if p in (0.0, 1.0):\n        return rounds if p == 1 or probability == 0 else 0\n", "")
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    3,
    """
from course_lib.sparse_attention import masked_attention

def attend_pairs(q, k, v, queries, keys):
    mask = torch.zeros(len(q), len(k), dtype=torch.bool)
    mask[queries, keys] = True
    return masked_attention(q, k, v, mask)
""",
)


CASES = as_cells(
    (BANDS_RIGHT, BANDS_WRONG),
    (ROOM_RIGHT, ROOM_WRONG),
    (PAIRS_RIGHT, PAIRS_WRONG),
    (FITS_RIGHT, FITS_WRONG),
    (FOUND_RIGHT, FOUND_WRONG),
)
