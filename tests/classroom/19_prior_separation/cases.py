"""Answers to assignment 19 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------- 1, many sources, one sum

SUMS = """
def given_the_sum(priors, total):
    logs = priors.double().log()
    logs = logs - logs.logsumexp(1, keepdim=True)
    sources, levels = logs.shape
    marginals = torch.zeros(sources, levels, dtype=torch.float64)
    most = sources * (levels - 1)
    if total < 0 or total > most:
        return marginals, -math.inf

    def of_all_but(skip):
        known = torch.full((most + 1,), -math.inf, dtype=torch.float64)
        known[0] = 0.0
        for j in range(sources):
            if j != skip:
                new = torch.full_like(known, -math.inf)
                for level in range(levels):
                    moved = torch.full_like(known, -math.inf)
                    moved[level:] = known[:most + 1 - level] + logs[j, level]
                    new = torch.logaddexp(new, moved)
                known = new
        return known

    evidence = float(of_all_but(None)[total])
    if evidence == -math.inf:
        return marginals, evidence
    for j in range(sources):
        others = of_all_but(j)
        for level in range(min(levels, total + 1)):
            marginals[j, level] = torch.exp(logs[j, level] + others[total - level] - evidence)
    return marginals, evidence
"""
SUMS_BY_FRACTIONS = """
def given_the_sum(priors, total):
    from fractions import Fraction
    rows = [[Fraction(v) for v in row] for row in priors.double().tolist()]
    rows = [[v / sum(row) for v in row] for row in rows]
    J, L = len(rows), len(rows[0])

    def sums(some):
        known = {0: Fraction(1)}
        for row in some:
            new = {}
            for s, p in known.items():
                for level, v in enumerate(row):
                    if v:
                        new[s + level] = new.get(s + level, 0) + p * v
            known = new
        return known

    whole = sums(rows).get(total, 0)
    if not whole:
        return torch.zeros(J, L, dtype=torch.float64), -math.inf
    found = []
    for j in range(J):
        rest = sums(rows[:j] + rows[j + 1:])
        found.append([float(rows[j][l] * rest.get(total - l, 0) / whole) for l in range(L)])
    evidence = math.log(whole.numerator) - math.log(whole.denominator)
    return torch.tensor(found, dtype=torch.float64), evidence
"""
SUMS_RIGHT = {"all but one, in logarithms": SUMS, "fractions": SUMS_BY_FRACTIONS}


def _sums(*changes):
    return changed(SUMS, *changes)


def _fractions(*changes):
    return changed(SUMS_BY_FRACTIONS, *changes)


SUMS_WRONG = {
    "the priors themselves": _sums(
        (
            "torch.exp(logs[j, level] + others[total - level] - evidence)",
            "torch.exp(logs[j, level])",
        )
    ),
    "a pair of sources only": """
def given_the_sum(priors, total):
    p = priors.double() / priors.double().sum(1, keepdim=True)
    joint = p[0][:, None] * p[1]
    level = torch.arange(p.shape[1])
    joint = joint * (level[:, None] + level == total)
    evidence = float(joint.sum())
    found = torch.zeros(p.shape, dtype=torch.float64)
    if evidence == 0:
        return found, -math.inf
    found[0], found[1] = joint.sum(1) / evidence, joint.sum(0) / evidence
    return found, math.log(evidence)
""",
    "in probabilities": """
def given_the_sum(priors, total):
    p = priors.double() / priors.double().sum(1, keepdim=True)
    J, L = p.shape
    def convolved(rows):
        known = torch.ones(1, dtype=torch.float64)
        for row in rows:
            new = torch.zeros(len(known) + L - 1, dtype=torch.float64)
            for l in range(L):
                new[l:l + len(known)] += known * row[l]
            known = new
        return known
    found = torch.zeros(J, L, dtype=torch.float64)
    whole = convolved(p)
    if not 0 <= total < len(whole) or whole[total] == 0:
        return found, -math.inf
    for j in range(J):
        rest = convolved(torch.cat([p[:j], p[j + 1:]]))
        for l in range(L):
            if 0 <= total - l < len(rest):
                found[j, l] = p[j, l] * rest[total - l] / whole[total]
    return found, math.log(whole[total])
""",
    "in single precision": _sums(
        ("priors.double().log()", "priors.float().log()"),
        ("marginals = torch.zeros(sources, levels, dtype=torch.float64)", "marginals = torch.zeros(sources, levels)"),
    ),
    "marginals in single precision": SUMS.rsplit("marginals", 1)[0] + "marginals.float(), evidence\n",
    "not divided by their sums": _sums(("    logs = logs - logs.logsumexp(1, keepdim=True)\n", "")),
    "divided by the sum of all": _sums(("logs.logsumexp(1, keepdim=True)", "logs.flatten().logsumexp(0)")),
    "divided by the largest": _sums(("logs.logsumexp(1, keepdim=True)", "logs.amax(1, keepdim=True)")),
    "softmax of weights": _sums(("priors.double().log()", "priors.double()")),
    "a little added": _sums(("priors.double().log()", "(priors.double() + 1e-12).log()")),
    "cut off below": _sums(("priors.double().log()", "priors.double().clamp_min(1e-30).log()")),
    "levels from 1": _sums(("    most =", "    total = total - sources\n    most =")),
    "the source itself, too": _sums(("others = of_all_but(j)", "others = of_all_but(None)")),
    "the next source left out": _sums(("others = of_all_but(j)", "others = of_all_but((j + 1) % sources)")),
    "the evidence left out": _sums((" + others[total - level] - evidence)", " + others[total - level])")),
    "the prior left out": _sums(("torch.exp(logs[j, level] + others", "torch.exp(others")),
    "sums up to m": _sums(("others[total - level]", "others[:total - level + 1].logsumexp(0)")),
    "the evidence of sums up to m": _sums(
        ("float(of_all_but(None)[total])", "float(of_all_but(None)[:total + 1].logsumexp(0))")
    ),
    "the evidence in bits": SUMS.rsplit("evidence", 1)[0] + "evidence / math.log(2)\n",
    "the evidence as a probability": SUMS.rsplit("evidence", 1)[0] + "math.exp(evidence)\n",
    "the evidence as a tensor": SUMS.rsplit("evidence", 1)[0] + "torch.tensor(evidence)\n",
    "marginals as logarithms": SUMS.rsplit("marginals", 1)[0] + "marginals.log(), evidence\n",
    "marginals of sources in the other order": SUMS.rsplit("marginals", 1)[0] + "marginals.flip(0), evidence\n",
    "marginals as a list": SUMS.rsplit("marginals", 1)[0] + "marginals.tolist(), evidence\n",
    "marginals that sum to 1 over sources": SUMS.rsplit("marginals", 1)[0]
    + "marginals / marginals.sum(0).clamp_min(1e-300), evidence\n",
    "the likeliest levels only": SUMS.rsplit("marginals", 1)[0]
    + "F.one_hot(marginals.argmax(1), levels).double(), evidence\n",
    "no sum: an error": _fractions(
        ("    if not whole:\n", "    if not whole:\n        raise ValueError('no such sum')\n    if not whole:\n")
    ),
    "no sum: the priors": _fractions(
        (
            "return torch.zeros(J, L, dtype=torch.float64), -math.inf",
            "return priors.double() / priors.double().sum(1, keepdim=True), -math.inf",
        )
    ),
    "no sum: None": _fractions(("return torch.zeros(J, L, dtype=torch.float64), -math.inf", "return None, -math.inf")),
    "no sum: NaN": _fractions(
        ("return torch.zeros(J, L, dtype=torch.float64)", "return torch.full((J, L), math.nan).double()")
    ),
    "no sum: evidence 0": _fractions(("dtype=torch.float64), -math.inf", "dtype=torch.float64), 0.0")),
    "m counted from the end": _sums(
        (
            "    if total < 0 or total > most:",
            "    if total < 0:\n        total += most + 1\n    if total < 0 or total > most:",
        )
    ),
    "the largest sum left out": _sums(("total > most:", "total >= most:")),
    "the priors are changed": _sums(
        ("    logs = priors.double().log()", "    priors /= priors.sum()\n    logs = priors.double().log()")
    ),
    "all pairs are listed": """
def given_the_sum(priors, total):
    import itertools
    p = (priors.double() / priors.double().sum(1, keepdim=True)).tolist()
    J, L = len(p), len(p[0])
    found, whole = torch.zeros(J, L, dtype=torch.float64), 0.0
    for levels in itertools.islice(itertools.product(range(L), repeat=J), 20_000):
        if sum(levels) == total:
            q = math.prod(p[j][l] for j, l in enumerate(levels))
            whole += q
            for j, l in enumerate(levels):
                found[j, l] += q
    return (found / whole, math.log(whole)) if whole else (found, -math.inf)
""",
    "a bell curve": """
def given_the_sum(priors, total):
    p = priors.double() / priors.double().sum(1, keepdim=True)
    level = torch.arange(p.shape[1]).double()
    mean, var = (p * level).sum(1), (p * level ** 2).sum(1) - (p * level).sum(1) ** 2
    found = torch.zeros_like(p)
    for j in range(len(p)):
        m, v = mean.sum() - mean[j], (var.sum() - var[j]).clamp_min(1e-9)
        found[j] = (p[j].log() - (total - level - m) ** 2 / (2 * v)).softmax(0)
    v = var.sum().clamp_min(1e-9)
    return found, float(-(total - mean.sum()) ** 2 / (2 * v) - (2 * math.pi * v).log() / 2)
""",
}

# ------------------------------------------------------------------------------------ 2, where nothing was counted

COUNTS = """
def log_of_sum(triples, asked, codes, alpha, beta):
    from collections import Counter
    one, two, three = Counter(), Counter(), Counter()
    sums, first, second = Counter(), Counter(), Counter()
    pairs = Counter()
    for a, b, m in triples.tolist():
        three[a, b, m] += 1
        pairs[a, b] += 1
        one[a, m] += 1
        two[b, m] += 1
        first[a] += 1
        second[b] += 1
        sums[m] += 1
    found = torch.zeros(len(asked), dtype=torch.float64)
    for i, (a, b, m) in enumerate(asked.tolist()):
        q = (sums[m] + 1) / (len(triples) + codes)
        p1 = (one[a, m] + beta * q) / (first[a] + beta)
        p2 = (two[b, m] + beta * q) / (second[b] + beta)
        p = (three[a, b, m] + alpha * (p1 + p2) / 2) / (pairs[a, b] + alpha)
        found[i] = math.log(p)
    return found
"""
COUNTS_BY_COMPARING = """
def log_of_sum(triples, asked, codes, alpha, beta):
    result = []
    for start in range(0, len(asked), 16):
        some = asked[start:start + 16]
        same = some[:, None] == triples[None]                   # (asked, seen, column)
        n = lambda *columns: same[:, :, list(columns)].all(-1).sum(1).double()
        q = (n(2) + 1) / (len(triples) + codes)
        p1 = (n(0, 2) + beta * q) / (n(0) + beta)
        p2 = (n(1, 2) + beta * q) / (n(1) + beta)
        result.append(((n(0, 1, 2) + 0.5 * alpha * (p1 + p2)) / (n(0, 1) + alpha)).log())
    return torch.cat(result) if result else torch.zeros(0, dtype=torch.float64)
"""
COUNTS_BY_ROWS = """
def log_of_sum(triples, asked, codes, alpha, beta):
    def count(columns):
        both = torch.cat([triples[:, columns], asked[:, columns]])
        if not len(asked):
            return torch.zeros(0, dtype=torch.float64)
        _, which = torch.unique(both, dim=0, return_inverse=True)
        tally = torch.bincount(which[:len(triples)], minlength=int(which.max()) + 1)
        return tally[which[len(triples):]].double()
    q = (count([2]) + 1) / (len(triples) + codes)
    back = [(count([c, 2]) + beta * q) / (count([c]) + beta) for c in (0, 1)]
    top = count([0, 1, 2]) + alpha * sum(back) / 2
    return torch.log(top) - torch.log(count([0, 1]) + alpha)
"""
COUNTS_RIGHT = {
    "counters": COUNTS,
    "everything compared with everything": COUNTS_BY_COMPARING,
    "rows in one list": COUNTS_BY_ROWS,
}


def _counts(*changes):
    return changed(COUNTS, *changes)


def _rows(*changes):
    return changed(COUNTS_BY_ROWS, *changes)


COUNTS_WRONG = {
    "the chapter's": _counts(("alpha * (p1 + p2) / 2", "alpha * q")),
    "the first part's only": _counts(("alpha * (p1 + p2) / 2", "alpha * p1")),
    "the second part's only": _counts(("alpha * (p1 + p2) / 2", "alpha * p2")),
    "the sum of both": _counts(("alpha * (p1 + p2) / 2", "alpha * (p1 + p2)")),
    "the product of both": _counts(("alpha * (p1 + p2) / 2", "alpha * p1 * p2")),
    "the geometric mean": _counts(("alpha * (p1 + p2) / 2", "alpha * math.sqrt(p1 * p2)")),
    "the larger of both": _counts(("alpha * (p1 + p2) / 2", "alpha * max(p1, p2)")),
    "both by their counts": _counts(
        ("alpha * (p1 + p2) / 2", "alpha * (first[a] * p1 + second[b] * p2 + p1 + p2) / (first[a] + second[b] + 2)")
    ),
    "fall back only where nothing was seen": _counts(
        (
            "        found[i] = math.log(p)",
            "        if pairs[a, b]:\n            p = (three[a, b, m] + alpha * q) / (pairs[a, b] + alpha)\n"
            "        found[i] = math.log(p)",
        )
    ),
    "no fall back where something was seen": _counts(
        (
            "        found[i] = math.log(p)",
            "        if three[a, b, m]:\n            p = three[a, b, m] / pairs[a, b]\n        found[i] = math.log(p)",
        )
    ),
    "alpha and beta exchanged": _counts(
        ("    from collections", "    alpha, beta = beta, alpha\n    from collections")
    ),
    "alpha for both": _counts(("    from collections", "    beta = alpha\n    from collections")),
    "alpha by the number of codes": _counts(("(pairs[a, b] + alpha)", "(pairs[a, b] + alpha * codes)")),
    "nothing added below": _counts(("(pairs[a, b] + alpha)", "max(pairs[a, b], alpha)")),
    "beta not added below": _counts(("(first[a] + beta)", "max(first[a], beta)")),
    "q without the 1": _counts(("(sums[m] + 1)", "max(sums[m], 1e-9)")),
    "q without the codes": _counts(("(len(triples) + codes)", "max(1, len(triples))")),
    "q by codes that were seen": _counts(("(len(triples) + codes)", "(len(triples) + max(1, len(sums)))")),
    "q by different triples": _counts(("(len(triples) + codes)", "(len(three) + codes)")),
    "flat q": _counts(("(sums[m] + 1) / (len(triples) + codes)", "1 / codes")),
    "different triples count once": _counts(("triples.tolist()", "set(map(tuple, triples.tolist()))")),
    "the order of parts is no matter": _counts(
        ("in triples.tolist():\n", "in triples.tolist():\n        a, b = min(a, b), max(a, b)\n"),
        ("in enumerate(asked.tolist()):\n", "in enumerate(asked.tolist()):\n        a, b = min(a, b), max(a, b)\n"),
    ),
    "both parts share their counts": _counts(
        ("        two[b, m] += 1", "        one[b, m] += 1"), ("two[b, m] + beta", "one[b, m] + beta")
    ),
    "given the sum": _counts(("(pairs[a, b] + alpha)", "(sums[m] + alpha)")),
    "given the sum, the parts": _counts(
        ("(first[a] + beta)", "(sums[m] + beta)"), ("(second[b] + beta)", "(sums[m] + beta)")
    ),
    "the joint frequency": _counts(("(pairs[a, b] + alpha)", "(len(triples) + alpha)")),
    "columns mixed up": _counts(("for a, b, m in triples.tolist()", "for m, a, b in triples.tolist()")),
    "probabilities": _counts(("math.log(p)", "p")),
    "in bits": _counts(("math.log(p)", "math.log2(p)")),
    "the sign": _counts(("math.log(p)", "-math.log(p)")),
    "kept from 0": _counts(("math.log(p)", "math.log(max(p, 1e-6))")),
    "a list": _counts(("    return found\n", "    return found.tolist()\n")),
    "single precision": _counts(("dtype=torch.float64", "dtype=torch.float32")),
    "counts in single precision": _rows(
        ("].double()", "].float().double()"), ("torch.log(top)", "torch.log(top.float())")
    ),
    "one number": _counts(("    return found\n", "    return found.sum()\n")),
    "nothing seen: an error": _counts(("    from collections", "    assert len(triples)\n    from collections")),
    "nothing seen: zeros": _counts(
        (
            "    from collections",
            "    if not len(triples):\n        return torch.zeros(len(asked), dtype=torch.float64)\n"
            "    from collections",
        )
    ),
    "nothing asked: an error": _rows(
        (
            "        if not len(asked):\n            return torch.zeros(0, dtype=torch.float64)\n",
            "        assert len(asked)\n",
        )
    ),
    "a dense table": """
def log_of_sum(triples, asked, codes, alpha, beta):
    n = torch.zeros(codes, codes, codes, dtype=torch.float64)
    n.index_put_(tuple(triples.T), torch.ones(len(triples), dtype=torch.float64), accumulate=True)
    a, b, m = asked.T
    q = (n.sum((0, 1))[m] + 1) / (len(triples) + codes)
    p1 = (n.sum(1)[a, m] + beta * q) / (n.sum((1, 2))[a] + beta)
    p2 = (n.sum(0)[b, m] + beta * q) / (n.sum((0, 2))[b] + beta)
    return ((n[a, b, m] + alpha * (p1 + p2) / 2) / (n.sum(2)[a, b] + alpha)).log()
""",
    "keys of 32 bits": """
def log_of_sum(triples, asked, codes, alpha, beta):
    from collections import Counter
    def count(*columns):
        key = lambda rows: sum(rows[:, c].int() * (codes ** n % 2 ** 31) for n, c in enumerate(columns)).int().tolist()
        seen = Counter(key(triples))
        return torch.tensor([seen[k] for k in key(asked)], dtype=torch.float64)
    q = (count(2) + 1) / (len(triples) + codes)
    p1, p2 = ((count(c, 2) + beta * q) / (count(c) + beta) for c in (0, 1))
    return ((count(0, 1, 2) + alpha * (p1 + p2) / 2) / (count(0, 1) + alpha)).log()
""",
    "keys by a thousand": """
def log_of_sum(triples, asked, codes, alpha, beta):
    from collections import Counter
    def count(*columns):
        key = lambda rows: sum(rows[:, c] * 1000 ** n for n, c in enumerate(columns)).tolist()
        seen = Counter(key(triples))
        return torch.tensor([seen[k] for k in key(asked)], dtype=torch.float64)
    q = (count(2) + 1) / (len(triples) + codes)
    p1, p2 = ((count(c, 2) + beta * q) / (count(c) + beta) for c in (0, 1))
    return ((count(0, 1, 2) + alpha * (p1 + p2) / 2) / (count(0, 1) + alpha)).log()
""",
    "the triples are sorted in place": _counts(
        ("    from collections", "    triples.copy_(triples.sort(0).values)\n    from collections")
    ),
}

# ------------------------------------------------------------------------------------------ 3, let bad draws die out

DRAWS = """
def resample(logs, u, least):
    count = logs.shape[0]
    stay = torch.arange(count)
    top = logs.double().max()
    if top == -math.inf:
        return stay, 0.0
    w = (logs.double() - top).exp()
    effective = float(w.sum() ** 2 / (w ** 2).sum())
    if effective >= least * count:
        return stay, effective
    edges = torch.cumsum(w, 0) / w.sum()
    place = (stay.double() + u) / count
    parents = (edges[None] <= place[:, None]).sum(1)
    alive = torch.nonzero(w)[:, 0]
    return torch.clamp(parents, max=int(alive[-1])), effective
"""
DRAWS_BY_WALKING = """
def resample(logs, u, least):
    values = logs.double().tolist()
    D, top = len(values), max(values)
    if top == -math.inf:
        return torch.arange(D), 0.0
    weights = [math.exp(v - top) for v in values]
    whole = math.fsum(weights)
    shares = [w / whole for w in weights]
    effective = 1 / math.fsum(s * s for s in shares)
    if effective >= least * D:
        return torch.arange(D), effective
    alive = [d for d in range(D) if shares[d] > 0]
    parents, n, reached = [], 0, shares[alive[0]]
    for i in range(D):
        while reached <= (i + u) / D and n < len(alive) - 1:
            n += 1
            reached += shares[alive[n]]
        parents.append(alive[n])
    return torch.tensor(parents), effective
"""
DRAWS_RIGHT = {"sums compared": DRAWS, "walking along": DRAWS_BY_WALKING}


def _draws(*changes):
    return changed(DRAWS, *changes)


def _walk(*changes):
    return changed(DRAWS_BY_WALKING, *changes)


DRAWS_WRONG = {
    "weights for logarithms": _draws(("w = (logs.double() - top).exp()", "w = (logs.double() - top + 1).clamp_min(0)")),
    "no largest taken off": _draws(("(logs.double() - top).exp()", "logs.double().exp()")),
    "in single precision": _draws(
        ("w = (logs.double() - top)", "w = (logs.float() - top.float())"), ("stay.double() + u", "stay.float() + u")
    ),
    "weights kept from 0": _draws(("(logs.double() - top).exp()", "((logs.double() - top).exp()).clamp_min(1e-3)")),
    "exponentials of base 2": _draws((".exp()", ".exp2()")),
    "the number of those above 0": _draws(("float(w.sum() ** 2 / (w ** 2).sum())", "float((w > 0).sum())")),
    "the effective number upside down": _draws(
        ("float(w.sum() ** 2 / (w ** 2).sum())", "float((w ** 2).sum() / w.sum() ** 2)")
    ),
    "without the square": _draws(("float(w.sum() ** 2 / (w ** 2).sum())", "float(w.sum() / (w ** 2).sum())")),
    "by entropy": _draws(
        ("float(w.sum() ** 2 / (w ** 2).sum())", "float(torch.special.entr(w / w.sum()).sum().exp())")
    ),
    "the inverse of the largest share": _draws(("float(w.sum() ** 2 / (w ** 2).sum())", "float(w.sum() / w.max())")),
    "the share of effective ones": _draws(
        ("    if effective >=", "    effective = effective / count\n    if effective * count >=")
    ),
    "the number as a tensor": _draws(("float(w.sum() ** 2 / (w ** 2).sum())", "w.sum() ** 2 / (w ** 2).sum()")),
    "the number rounded": _draws(
        ("float(w.sum() ** 2 / (w ** 2).sum())", "float((w.sum() ** 2 / (w ** 2).sum()).round())")
    ),
    "always": _draws(("effective >= least * count", "False")),
    "never": _draws(("effective >= least * count", "True")),
    "where there are many": _draws(("effective >= least * count", "effective < least * count")),
    "below or at": _draws(("effective >= least * count", "effective > least * count")),
    "least as a number": _draws(("effective >= least * count", "effective >= least")),
    "one u each": _draws(("(stay.double() + u) / count", "torch.full((count,), float(u)).double()")),
    "places at the middle": _draws(("(stay.double() + u) / count", "(stay.double() + 0.5) / count")),
    "places at the beginning": _draws(("(stay.double() + u) / count", "stay.double() / count")),
    "u for the whole": _draws(("(stay.double() + u) / count", "(stay.double() / count + u) % 1")),
    "u subtracted": _draws(("(stay.double() + u) / count", "(stay.double() + 1 - u) / count")),
    "sums not divided": _draws(("torch.cumsum(w, 0) / w.sum()", "torch.cumsum(w, 0)")),
    "a reached sum is enough": _draws(("(edges[None] <= place[:, None])", "(edges[None] < place[:, None])")),
    "one draw later": _draws(
        ("parents = (edges[None] <= place[:, None]).sum(1)", "parents = (edges[None] <= place[:, None]).sum(1) + 1")
    ),
    "one draw earlier": _draws(
        (
            "parents = (edges[None] <= place[:, None]).sum(1)",
            "parents = ((edges[None] <= place[:, None]).sum(1) - 1).clamp_min(0)",
        )
    ),
    "to the last draw, dead or not": _draws(("max=int(alive[-1])", "max=count - 1")),
    "beyond the last": _draws(("torch.clamp(parents, max=int(alive[-1]))", "parents")),
    "the likeliest for all": _draws(("(edges[None] <= place[:, None]).sum(1)", "logs.argmax().expand(count).clone()")),
    "the order by weight": _draws(
        (
            "torch.clamp(parents, max=int(alive[-1]))",
            "logs.argsort(descending=True, stable=True)[torch.clamp(parents, max=int(alive[-1]))]",
        )
    ),
    "how many children": _draws(
        (
            "torch.clamp(parents, max=int(alive[-1]))",
            "torch.bincount(torch.clamp(parents, max=int(alive[-1])), minlength=count)",
        )
    ),
    "by chance": _draws(
        (
            "(edges[None] <= place[:, None]).sum(1)",
            "torch.multinomial(w, count, replacement=True, generator=torch.Generator().manual_seed(int(u * 1e6)))",
        )
    ),
    "the last ones first": _draws(
        ("torch.clamp(parents, max=int(alive[-1]))", "torch.clamp(parents, max=int(alive[-1])).flip(0)")
    ),
    "all impossible: an error": _draws(
        ("        return stay, 0.0\n", "        raise ValueError('all draws are impossible')\n")
    ),
    "all impossible: the first": _draws(("        return stay, 0.0\n", "        return 0 * stay, 0.0\n")),
    "all impossible: as many as there are": _draws(
        ("        return stay, 0.0\n", "        return stay, float(count)\n")
    ),
    "all impossible isn't looked at": _draws(("    if top == -math.inf:\n        return stay, 0.0\n", "")),
    "parents of 32 bits": _draws(
        (
            "    return torch.clamp(parents, max=int(alive[-1])), effective",
            "    return torch.clamp(parents, max=int(alive[-1])).int(), effective",
        )
    ),
    "a list": _walk(("return torch.tensor(parents), effective", "return parents, effective")),
    "the weights instead of parents": _walk(
        ("return torch.tensor(parents), effective", "return torch.tensor(shares)[torch.tensor(parents)], effective")
    ),
    "the logarithms are changed": _draws(
        ("    count = logs", "    logs -= logs.max().clamp(-1e9, 1e9)\n    count = logs")
    ),
    "only parents": _walk(("return torch.tensor(parents), effective", "return torch.tensor(parents)")),
    "a step at most": _walk(("while reached", "if reached")),
}

# ------------------------------------------------------------------------------------------ 4, denoised, and adding up

DENOISED = """
def denoised(x, sigma, means, variances, mixture, s):
    if sigma == 0:
        return x.clone()
    y, m = x.to(torch.float64), mixture.to(torch.float64)
    mu, v = means.to(torch.float64)[:, None], variances.to(torch.float64)[:, None]
    if math.isinf(sigma):
        a, b = mu + torch.zeros_like(y), v
    else:
        n = float(sigma) ** 2
        a = (v * y + n * mu) / (v + n)
        b = v * n / (v + n)
    error = b.sum() + s ** 2
    share = torch.where(error > 0, b / error, torch.zeros_like(b))
    missing = m - a.sum(dim=1)
    return (a + share * missing[:, None, :]).to(x.dtype)
"""
DENOISED_BY_SOURCES = """
def denoised(x, sigma, means, variances, mixture, s):
    if sigma == 0:
        return 1 * x
    guesses, spreads = [], []
    for j in range(x.shape[1]):
        mu, v = float(means[j]), float(variances[j])
        if sigma == math.inf:
            guesses.append(torch.full_like(x[:, j], mu, dtype=torch.float64))
            spreads.append(v)
        else:
            kept = v / (v + sigma ** 2)
            guesses.append(kept * x[:, j].double() + (1 - kept) * mu)
            spreads.append(kept * sigma ** 2)
    total = sum(spreads) + s * s
    missing = mixture.double() - sum(guesses)
    found = [g + (b / total if total else 0.0) * missing for g, b in zip(guesses, spreads)]
    return torch.stack(found, 1).to(x.dtype)
"""
DENOISED_RIGHT = {"as the formula": DENOISED, "source by source": DENOISED_BY_SOURCES}


def _denoised(*changes):
    return changed(DENOISED, *changes)


def _by_sources(*changes):
    return changed(DENOISED_BY_SOURCES, *changes)


DENOISED_WRONG = {
    "without the sum": _denoised(("(a + share * missing[:, None, :])", "a")),
    "equal shares": _denoised(("b / error, torch", "torch.ones_like(b) / len(b), torch")),
    "shares by variances": _denoised(("b / error, torch", "v / v.sum().clamp_min(1e-300), torch")),
    "shares by deviations": _denoised(("b / error, torch", "b.sqrt() / b.sqrt().sum(), torch")),
    "shares by what is there": _denoised(("(a + share * missing[:, None, :])", "(a * (m / a.sum(1))[:, None])")),
    "all of it to the last": _denoised(
        ("    missing =", "    share = torch.zeros_like(b)\n    share[-1] = 1\n    missing =")
    ),
    "what is missing of x": _denoised(("m - a.sum(dim=1)", "m - y.nan_to_num(0.0, 0.0, 0.0).sum(dim=1)")),
    "the sign": _denoised(("m - a.sum(dim=1)", "a.sum(dim=1) - m")),
    "the mixture itself": _denoised(("m - a.sum(dim=1)", "m")),
    "the mean over sources": _denoised(("m - a.sum(dim=1)", "m - a.mean(dim=1)")),
    "s not squared": _denoised(("s ** 2", "s")),
    "no s": _denoised((" + s ** 2", "")),
    "s for each source": _denoised(("b.sum() + s ** 2", "(b + s ** 2).sum()")),
    "s of every source's own": _denoised(("b / error, torch", "b / (b + s ** 2 + 1e-300), torch")),
    "sigma not squared": _denoised(("float(sigma) ** 2", "float(sigma)")),
    "twice sigma's square": _denoised(("float(sigma) ** 2", "2 * float(sigma) ** 2")),
    "variances as deviations": _denoised(
        ("variances.to(torch.float64)[:, None]", "variances.to(torch.float64)[:, None] ** 2")
    ),
    "means of 0": _denoised(("(v * y + n * mu) / (v + n)", "v * y / (v + n)")),
    "weights exchanged": _denoised(("(v * y + n * mu) / (v + n)", "(n * y + v * mu) / (v + n)")),
    "b is v": _denoised(("b = v * n / (v + n)", "b = v")),
    "b is sigma's": _denoised(("b = v * n / (v + n)", "b = n + 0 * v")),
    "b with a root": _denoised(("b = v * n / (v + n)", "b = (v * n / (v + n)).sqrt()")),
    "only the sum of the means": _denoised(("missing = m - a.sum(dim=1)", "missing = m - mu.sum()")),
    "sigma 0: the sum, too": _denoised(
        (
            "    if sigma == 0:\n        return x.clone()\n",
            "    if sigma == 0:\n        return x + ((mixture - x.sum(1)) / x.shape[1])[:, None]\n",
        )
    ),
    "sigma 0: the means": _denoised(("        return x.clone()\n", "        return x * 0 + means[:, None].to(x)\n")),
    "sigma 0 isn't looked at": _denoised(("    if sigma == 0:\n        return x.clone()\n", "")),
    "small sigma is 0": _denoised(("if sigma == 0:", "if sigma < 1e-6:")),
    "infinite sigma isn't looked at": _denoised(("if math.isinf(sigma):", "if False:")),
    "large sigma is infinite": _denoised(("if math.isinf(sigma):", "if sigma > 1e6:")),
    "infinite by a large number": _denoised(
        ("    if math.isinf(sigma):", "    sigma = min(sigma, 1e9)\n    if math.isinf(sigma):")
    ),
    "infinite sigma: x times 0": _denoised(("mu + torch.zeros_like(y), v", "mu + 0 * y, v")),
    "infinite sigma: no sum": _denoised(
        ("    error =", "    if math.isinf(sigma):\n        return a.to(x.dtype)\n    error =")
    ),
    "nothing uncertain: NaN": _denoised(("torch.where(error > 0, b / error, torch.zeros_like(b))", "b / error")),
    "nothing uncertain: equal shares": _denoised(("torch.zeros_like(b))", "torch.ones_like(b) / len(b))")),
    "nothing uncertain: an error": _by_sources(("(b / total if total else 0.0)", "(b / total)")),
    "a little added": _denoised(("b.sum() + s ** 2", "b.sum() + s ** 2 + 1e-12")),
    "a little added to v": _denoised(
        ("variances.to(torch.float64)[:, None]", "variances.to(torch.float64)[:, None] + 1e-9")
    ),
    "uncertain from a little on": _denoised(("error > 0", "error > 1e-20")),
    "known sources move": _denoised(("b / error, torch", "b.clamp_min(1e-2) / error, torch")),
    "in single precision": DENOISED.replace("torch.float64", "torch.float32"),
    "double precision comes out": _denoised((".to(x.dtype)", "")),
    "x is changed": _by_sources(
        ("    guesses, spreads", "    x[..., :1] *= 1\n    x -= 1e-4 * x.sign()\n    guesses, spreads")
    ),
    "no gradient": _by_sources(("return torch.stack(found, 1)", "return torch.stack(found, 1).detach()")),
    "sources behind time": _by_sources(("torch.stack(found, 1)", "torch.stack(found, 2)")),
    "for the first in the batch": _by_sources(("mixture.double() - sum", "mixture.double()[:1] - sum")),
    "clipped to 1": _denoised(("(a + share * missing[:, None, :])", "(a + share * missing[:, None, :]).clamp(-1, 1)")),
    "twice": _denoised(
        ("    return (a", "    a = a + share * missing[:, None, :]\n    missing = m - mu.sum()\n    return (a")
    ),
}

# ------------------------------------------------------------------------------------------ 5, nobody takes up the rest

DESCENT = """
def shared_descent(denoiser, mixture, weights, sigmas, noise):
    w = weights.double()
    w = torch.ones_like(w) if float(w.sum()) == 0 else w
    c = (w / w.sum()).view(1, -1, 1).to(mixture.dtype)

    def summing_up(x):
        return x + c * (mixture[:, None] - x.sum(1, keepdim=True))

    with torch.no_grad():
        x = summing_up(sigmas[0] * noise.to(mixture.dtype))
        for n in range(len(sigmas) - 1):
            sigma, lower = sigmas[n], sigmas[n + 1]
            score = (denoiser(x, sigma) - x) / sigma / sigma
            slope = -sigma * (score - (c * score).sum(1, keepdim=True))
            x = summing_up(x + (lower - sigma) * slope)
    return x
"""
DESCENT_BY_SOURCES = """
@torch.no_grad()
def shared_descent(denoiser, mixture, weights, sigmas, noise):
    shares = weights.double().tolist()
    if not any(shares):
        shares = [1.0] * len(shares)
    shares = [one / sum(shares) for one in shares]
    x = [sigmas[0] * row.to(mixture.dtype) for row in noise.unbind(1)]
    for number, sigma in enumerate(sigmas):
        rest = mixture - sum(x)
        x = [one + share * rest for one, share in zip(x, shares)]
        if number + 1 < len(sigmas):
            clean = denoiser(torch.stack(x, 1), sigma).unbind(1)
            down = [(one - goal) / sigma for one, goal in zip(x, clean)]
            common = sum(share * one for share, one in zip(shares, down))
            x = [one + (sigmas[number + 1] - sigma) * (d - common) for one, d in zip(x, down)]
    return torch.stack(x, 1)
"""


def _descent(*changes):
    return changed(DESCENT, *changes)


def _each(*changes):
    return changed(DESCENT_BY_SOURCES, *changes)


DESCENT_RIGHT = {
    "one formula": DESCENT,
    "source by source": DESCENT_BY_SOURCES,
    "the slope of y, the step from x": _descent(
        ("x = summing_up(sigmas[0] * noise.to(mixture.dtype))", "x = sigmas[0] * noise.to(mixture.dtype)"),
        (
            "            score = (denoiser(x, sigma) - x)",
            "            y = summing_up(x)\n            score = (denoiser(y, sigma) - y)",
        ),
        ("x = summing_up(x + (lower - sigma) * slope)", "x = x + (lower - sigma) * slope"),
    ).rsplit("return x", 1)[0]
    + "return summing_up(x)\n",
}


DESCENT_WRONG = {
    "the chapter's, the last takes the rest": _descent(
        ("    def summing_up", "    c = torch.zeros_like(c)\n    c[:, -1] = 1\n\n    def summing_up")
    ),
    "equal shares always": _descent(("    c = (w", "    w = torch.ones_like(w)\n    c = (w")),
    "no shares in the slope": _descent((" - (c * score).sum(1, keepdim=True)", "")),
    "the mean score in the slope": _descent(("(c * score).sum(1, keepdim=True)", "score.mean(1, keepdim=True)")),
    "the sum of scores in the slope": _descent(("(c * score).sum(1, keepdim=True)", "score.sum(1, keepdim=True)")),
    "each its own share of the scores": _descent(
        ("(c * score).sum(1, keepdim=True)", "c * score.sum(1, keepdim=True)")
    ),
    "each less its share": _descent(("(score - (c * score).sum(1, keepdim=True))", "(score - c * score)")),
    "shares in the slope only": _descent(
        ("x + c * (mixture", "x + (mixture"), ("x.sum(1, keepdim=True))\n", "x.sum(1, keepdim=True)) / x.shape[1]\n")
    ),
    "the rest to all": _descent(("x + c * (mixture", "x + (mixture")),
    "the rest with the wrong sign": _descent(("x + c * (mixture", "x - c * (mixture")),
    "the mixture to all": _descent(("(mixture[:, None] - x.sum(1, keepdim=True))", "mixture[:, None]")),
    "weights not divided": _descent(("(w / w.sum())", "w")),
    "weights by a softmax": _descent(("(w / w.sum())", "w.softmax(0)")),
    "weights by their root": _descent(("(w / w.sum())", "(w.sqrt() / w.sqrt().sum())")),
    "weights in single precision": _descent(("weights.double()", "weights.float()")),
    "a little added to the weights": _descent(("(w / w.sum())", "((w + 1e-3) / (w + 1e-3).sum())")),
    "all zeros: NaN": _descent(("    w = torch.ones_like(w) if float(w.sum()) == 0 else w\n", "")),
    "all zeros: the first": _descent(("torch.ones_like(w) if", "(torch.arange(len(w)) == 0).double() if")),
    "all zeros: an error": _descent(("    c = (w", "    assert weights.any()\n    c = (w")),
    "small weights are zeros": _descent(("float(w.sum()) == 0", "float(w.sum()) < 1e-6")),
    "the slope's sign": _descent(("slope = -sigma", "slope = sigma")),
    "the step's sign": _descent(("(lower - sigma) * slope", "(sigma - lower) * slope")),
    "sigma left out of the slope": _descent(("slope = -sigma *", "slope = -1 *")),
    "sigma not squared": _descent((" / sigma / sigma", " / sigma")),
    "to the level": _descent(("(lower - sigma) * slope", "-lower * slope")),
    "noise of deviation 1": _descent(("sigmas[0] * noise", "noise")),
    "no noise": _descent(("sigmas[0] * noise", "0 * noise")),
    "noise on the mixture": _descent(
        (
            "x = summing_up(sigmas[0] * noise.to(mixture.dtype))",
            "x = summing_up(mixture[:, None] / noise.shape[1] + sigmas[0] * noise.to(mixture.dtype))",
        )
    ),
    "the first isn't made to add up": _descent(
        ("x = summing_up(sigmas[0] * noise.to(mixture.dtype))", "x = sigmas[0] * noise.to(mixture.dtype)")
    ),
    "the last isn't made to add up": _descent(
        (
            "            x = summing_up(x + (lower - sigma) * slope)",
            "            x = x + (lower - sigma) * slope\n            x = summing_up(x) if n + 2 < len(sigmas) else x",
        )
    ),
    "made to add up only at the end": _descent(
        ("x = summing_up(x + (lower - sigma) * slope)", "x = x + (lower - sigma) * slope")
    ).rsplit("return x", 1)[0]
    + "return summing_up(x)\n",
    "a call at the last level, too": _each(
        (
            "        if number + 1 < len(sigmas):\n            clean = denoiser(torch.stack(x, 1), sigma).unbind(1)\n",
            "        clean = denoiser(torch.stack(x, 1), sigma).unbind(1)\n        if number + 1 < len(sigmas):\n",
        )
    ),
    "one step less": _each(("if number + 1 < len(sigmas):", "if number + 2 < len(sigmas):")),
    "two calls a step": _descent(("            score =", "            denoiser(x, sigma)\n            score =")),
    "steps of Heun": _descent(
        (
            "            x = summing_up(x + (lower - sigma) * slope)",
            "            y = summing_up(x + (lower - sigma) * slope)\n            if lower > 0:\n"
            "                other = (denoiser(y, lower) - y) / lower / lower\n"
            "                slope = (slope - lower * (other - (c * other).sum(1, keepdim=True))) / 2\n"
            "            x = summing_up(x + (lower - sigma) * slope)",
        )
    ),
    "called with the level below": _descent(("denoiser(x, sigma)", "denoiser(x, lower)")),
    "called with a tensor": _descent(("denoiser(x, sigma)", "denoiser(x, torch.tensor(sigma))")),
    "called source by source": _descent(
        ("denoiser(x, sigma)", "torch.cat([denoiser(x[:, j:j + 1], sigma) for j in range(x.shape[1])], 1)")
    ),
    "called in double precision": _descent(("denoiser(x, sigma)", "denoiser(x.double(), sigma).to(x.dtype)")),
    "with gradients": _descent(("    with torch.no_grad():\n", "    if True:\n")),
    "new noise at each step": _descent(
        (
            "            score =",
            "            x = summing_up(x + 0.1 * sigma * noise.to(x.dtype)) if n else x\n            score =",
        )
    ),
    "levels in the other order": _descent(
        ("    w = weights.double()", "    sigmas = sorted(sigmas)\n    w = weights.double()")
    ),
    "the levels are taken off the list": _each(
        (
            "    shares = weights",
            "    sigmas = sigmas if len(sigmas) < 2 or isinstance(sigmas, tuple) else [sigmas.pop(0), *sigmas]\n"
            "    shares = weights",
        )
    ),
    "the mixture is scaled": _each(
        ("    shares = weights", "    mixture = mixture / mixture.abs().max().clamp_min(1e-9)\n    shares = weights")
    ),
    "the precision of the noise": _each(("x = [sigmas[0] * row.to(mixture.dtype)", "x = [sigmas[0] * row.double()")),
    "what the denoiser says at the end": _each(
        ("    return torch.stack(x, 1)", "    return denoiser(torch.stack(x, 1), sigmas[-1])")
    ),
    "the rest only": _each(("    return torch.stack(x, 1)", "    return torch.stack(x, 1)[:, :-1]")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    5,
    """
from course_lib.prior_separation import score as score_of

def shared_descent(denoiser, mixture, weights, sigmas, noise):
    w = weights.double()
    w = torch.ones_like(w) if float(w.sum()) == 0 else w
    c = (w / w.sum()).view(1, -1, 1).to(mixture.dtype)
    with torch.no_grad():
        x = sigmas[0] * noise.to(mixture.dtype)
        x = x + c * (mixture[:, None] - x.sum(1, keepdim=True))
        for sigma, lower in zip(sigmas, sigmas[1:]):
            s = score_of(denoiser(x, sigma), x, sigma)
            x = x + (lower - sigma) * -sigma * (s - (c * s).sum(1, keepdim=True))
            x = x + c * (mixture[:, None] - x.sum(1, keepdim=True))
    return x
""",
)


CASES = as_cells(
    (SUMS_RIGHT, SUMS_WRONG),
    (COUNTS_RIGHT, COUNTS_WRONG),
    (DRAWS_RIGHT, DRAWS_WRONG),
    (DENOISED_RIGHT, DENOISED_WRONG),
    (DESCENT_RIGHT, DESCENT_WRONG),
)
