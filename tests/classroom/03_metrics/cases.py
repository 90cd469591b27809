"""Answers to assignment 3 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------------- 1, scores from sums

SUMS_BY_ALPHA = """
def scores_from_sums(ss, se, ee):
    alpha = se / ss
    target = alpha ** 2 * ss
    whole = torch.clamp(ss + ee - 2 * se, min=0)
    rest = torch.clamp(ee - 2 * alpha * se + target, min=0)
    sdr = 10 * torch.log10(ss / whole)
    si_sdr = 10 * torch.log10(target / rest)
    sd_sdr = 10 * torch.log10(target / whole)
    scores = torch.stack([sdr, si_sdr, sd_sdr])
    scores[:, ss == 0] = math.nan
    return scores
"""
SUMS_BY_COSINE = """
def scores_from_sums(ss, se, ee):
    # the share of the estimate's energy along s is the squared cosine of the angle between them
    def decibels(a, b):
        return 10 * (torch.log10(a) - torch.log10(b.clamp_min(0)))
    along = se * se / ss
    error = (ee - se) + (ss - se)
    out = torch.stack([decibels(ss, error), decibels(along, ee - along), decibels(along, error)])
    out = out.masked_fill((ss == 0).expand(out.shape), float("nan"))
    out[1] = out[1].masked_fill(ee == 0, float("nan"))
    return out
"""
SUMS_BY_IDENTITIES = """
def scores_from_sums(ss, se, ee):
    a = se / ss
    r = (ee / ss - a ** 2).clamp_min(0)                      # energy at a right angle, relative to the reference's
    error = (1 - a) ** 2 + r
    ratios = (1 / error, a ** 2 / r, a ** 2 / error)
    return torch.stack([torch.where(ss > 0, 10 * ratio.log10(), torch.nan) for ratio in ratios])
"""
SUMS_RIGHT = {
    "alpha": SUMS_BY_ALPHA,
    "difference of logarithms": SUMS_BY_COSINE,
    "relative to the reference": SUMS_BY_IDENTITIES,
}
SUMS_WRONG = {
    "the cross term once": changed(SUMS_BY_ALPHA, ("ss + ee - 2 * se,", "ss + ee - se,")),
    "no cross term: energies subtracted": changed(SUMS_BY_ALPHA, ("ss + ee - 2 * se,", "ss - ee,")),
    "alpha the wrong way round": changed(SUMS_BY_ALPHA, ("alpha = se / ss", "alpha = se / ee")),
    "alpha not squared": changed(SUMS_BY_ALPHA, ("alpha ** 2 * ss", "alpha * ss")),
    "20 for 10": changed(SUMS_BY_COSINE, ("10 * (", "20 * (")),
    "upside down": changed(
        SUMS_BY_COSINE, ("torch.log10(a) - torch.log10(b.clamp_min(0))", "torch.log10(b.clamp_min(0)) - torch.log10(a)")
    ),
    "SD-SDR and SI-SDR swapped": changed(SUMS_BY_ALPHA, ("[sdr, si_sdr, sd_sdr]", "[sdr, sd_sdr, si_sdr]")),
    "SDR for SD-SDR": changed(
        SUMS_BY_ALPHA, ("sd_sdr = 10 * torch.log10(target / whole)", "sd_sdr = 10 * torch.log10(ss / whole)")
    ),
    "minus infinity for a silent reference": changed(SUMS_BY_ALPHA, ("    scores[:, ss == 0] = math.nan\n", "")),
    "0 dB for a silent reference": changed(SUMS_BY_ALPHA, ("= math.nan", "= 0.0")),
    "NaN for any silence": changed(SUMS_BY_ALPHA, ("scores[:, ss == 0]", "scores[:, (ss == 0) | (ee == 0)]")),
    "small numbers added": changed(
        SUMS_BY_ALPHA,
        ("ss / whole)", "(ss + 1e-8) / (whole + 1e-8))"),
        ("target / rest)", "(target + 1e-8) / (rest + 1e-8))"),
    ),
    "rounding makes NaN": changed(
        SUMS_BY_ALPHA,
        ("torch.clamp(ss + ee - 2 * se, min=0)", "ss + ee - 2 * se"),
        ("torch.clamp(ee - 2 * alpha * se + target, min=0)", "ee - 2 * alpha * se + target"),
    ),
    "all songs in one": changed(
        SUMS_BY_ALPHA, ("    alpha =", "    ss, se, ee = ss.sum(), se.sum(), ee.sum()\n    alpha =")
    ),
    "the last axis summed away": changed(
        SUMS_BY_IDENTITIES,
        (
            "    a = se / ss",
            "    if ss.ndim > 1:\n        ss, se, ee = ss.sum(-1), se.sum(-1), ee.sum(-1)\n    a = se / ss",
        ),
    ),
    "the size of what rounding has made negative": changed(
        SUMS_BY_ALPHA,
        ("torch.clamp(ss + ee - 2 * se, min=0)", "(ss + ee - 2 * se).abs()"),
        ("torch.clamp(ee - 2 * alpha * se + target, min=0)", "(ee - 2 * alpha * se + target).abs()"),
    ),
}

# ---------------------------------------------------------------------------------------------- 2, counterexamples

FOOLED_BY_NAMES = """
def counterexamples():
    letter = {metric.__name__: name for name, metric in METRICS.items()}
    generator = torch.Generator().manual_seed(7)
    s = torch.rand(2, LENGTH, generator=generator) * 0.4 + 0.3
    n = torch.randn(2, LENGTH, generator=generator)
    pairs = {}
    e = s.clone()
    e[0] += 1e-5 * n[0]
    e[1] += 0.3 * n[1]
    pairs[letter["by_channels"]] = e, s
    e = s.clone()
    e[0] += 0.2
    e[1] -= 0.1999
    pairs[letter["by_mono_error"]] = e, s
    e = s.clone()
    e[:, 3] = 50.0
    pairs[letter["by_clipped"]] = e, s
    gaps = s * (torch.arange(LENGTH) % 2)
    pairs[letter["by_sounding"]] = s + 0.01, gaps
    pairs[letter["by_centred"]] = s + 0.25 + 0.01 * n, s
    e = s + 0.001 * n
    e[:, LENGTH - 1] = -4.0
    pairs[letter["by_frames"]] = e, s
    return pairs
"""
FOOLED_BY_SEARCH = """
def counterexamples():
    g = torch.Generator().manual_seed(3)
    s = torch.randn(2, LENGTH, generator=g).clamp(-0.9, 0.9)
    quiet = s.clone()
    quiet[:, :LENGTH // 2] = 0
    noise = 0.01 * torch.randn(2, LENGTH, generator=g)
    loud_end = torch.zeros(2, LENGTH)
    loud_end[:, -1] = 5.0
    one_sided = torch.tensor([[1.0], [0.0]])
    candidates = [(s + noise + one_sided * 0.5 * torch.randn(LENGTH, generator=g), s),
                  (s + noise * one_sided + 0.3 * torch.tensor([[1.0], [-1.0]]) * torch.sign(s[0]), s),
                  (s + noise + loud_end, s), (quiet + 0.5 * (s - quiet) + noise, quiet), (s + noise + 0.7, s),
                  (0.9 + noise + 9 * (torch.arange(LENGTH) == 2), 0 * s + 0.9)]
    found = {}
    for name, metric in METRICS.items():
        for e, r in candidates:
            true = 10 * torch.log10((r ** 2).sum() / ((r - e) ** 2).sum())
            said = metric(e, r)
            if said.isfinite() and said > true + 3.1:
                found[name] = (e, r)
    return found
"""
FOOLED_IN_A_LIST = """
def counterexamples():
    ones, ramp = torch.ones(2, LENGTH) * 0.5, torch.linspace(0, 1, LENGTH)
    sides = torch.tensor([[1.0], [-1.0]])
    wrong = [
        (by_channels, ones + torch.stack([1e-6 + 0 * ramp, ramp]), ones),
        (by_mono_error, ones + sides * ramp + 1e-3, ones),
        (by_clipped, ones * 9, ones),
        (by_sounding, ones + 1e-3, ones * (ramp > 0.4)),
        (by_centred, ones + 1 + 0.001 * ramp, ones),
        (by_frames, ones + 0.001 + 3 * (ramp >= 1), ones),
    ]
    return {letter: (e, s) for letter, metric in METRICS.items() for wrong_one, e, s in wrong if metric is wrong_one}
"""
FOOLED_RIGHT = {
    "one after the other": FOOLED_BY_NAMES,
    "by search": FOOLED_BY_SEARCH,
    "a list": FOOLED_IN_A_LIST,
    "very soft signals": changed(
        FOOLED_BY_NAMES,
        (
            "    return pairs",
            """    return {name: (e, s) if name == letter["by_clipped"]
            else (1e-25 * e, 1e-25 * s) for name, (e, s) in pairs.items()}""",
        ),
    ),
}
FOOLED_WRONG = {
    "frames overlooked": changed(FOOLED_BY_NAMES, ('    pairs[letter["by_frames"]] = e, s\n', "")),
    "silence overlooked": changed(FOOLED_BY_NAMES, ('    pairs[letter["by_sounding"]] = s + 0.01, gaps\n', "")),
    "the mean of channels thought right": changed(FOOLED_BY_NAMES, ('    pairs[letter["by_channels"]] = e, s\n', "")),
    "the offset overlooked": changed(
        FOOLED_BY_NAMES, ('    pairs[letter["by_centred"]] = s + 0.25 + 0.01 * n, s\n', "")
    ),
    "one that only lowers the score": changed(
        FOOLED_BY_NAMES, ("e[0] += 0.2\n    e[1] -= 0.1999", "e[0] += 0.2\n    e[1] += 0.2")
    ),
    "a score raised by less than 3 dB": changed(FOOLED_BY_NAMES, ("s + 0.25 + 0.01 * n", "s + 0.01 + 0.03 * n")),
    "infinity": changed(FOOLED_BY_NAMES, ("e[1] -= 0.1999", "e[1] = s[1] - (e[0] - s[0])")),
    "the reference silent": changed(FOOLED_BY_NAMES, ("s + 0.01, gaps", "s + 0.01, 0 * gaps")),
    "estimate and reference swapped": changed(FOOLED_BY_NAMES, ("s + 0.01, gaps", "gaps, s + 0.01")),
    "another length": changed(
        FOOLED_BY_NAMES,
        ("    pairs = {}", "    pairs = {}\n    s, n = s[:, :-1], n[:, :-1]"),
        ("torch.arange(LENGTH)", "torch.arange(LENGTH - 1)"),
        ("LENGTH - 1] = -4.0", "LENGTH - 2] = -4.0"),
    ),
    "mono": changed(FOOLED_BY_NAMES, ("= s + 0.25 + 0.01 * n, s", "= (s + 0.25 + 0.01 * n)[0], s[0]")),
    "a right one accused": changed(
        FOOLED_BY_NAMES, ("    return pairs", '    pairs[letter["by_norms"]] = s, -s\n    return pairs')
    ),
    "names for letters": changed(
        FOOLED_BY_NAMES,
        (
            "{metric.__name__: name for name, metric in METRICS.items()}",
            "{metric.__name__: metric.__name__ for metric in METRICS.values()}",
        ),
    ),
    "nothing found": """
def counterexamples():
    return {}
""",
    "no signals, only letters": changed(FOOLED_BY_NAMES, ("    return pairs", "    return sorted(pairs)")),
}

# ---------------------------------------------------------------------------------------------- 3, the delay

DELAY_BY_FORMULA = """
def largest_delay(frequency, gain, target):
    allowed = 10 ** (-target / 10)                         # energy of the error
    cosine = (1 + gain ** 2 - allowed) / (2 * gain)
    if cosine > 1:
        return float("nan")
    if cosine < -1:
        return float("inf")
    return math.acos(cosine) / (2 * math.pi) / frequency
"""
DELAY_BY_HALF_ANGLE = """
def largest_delay(frequency, gain, target):
    # |1 - g e^(i phi)|^2 = (1 - g)^2 + 4 g sin^2(phi / 2)
    left = (10 ** (-target / 10) - (1 - gain) ** 2) / (4 * gain)
    if left < 0:
        return math.nan
    if left >= 1:
        return math.inf
    return 2 * math.asin(math.sqrt(left)) / (2 * math.pi * frequency)
"""
DELAY_BY_HALVING = """
def largest_delay(frequency, gain, target):
    def score(phase):
        error = abs(1 - gain * complex(math.cos(phase), math.sin(phase)))
        return math.inf if error == 0 else -20 * math.log10(error)
    if score(0.0) < target:
        return math.nan
    if score(math.pi) >= target:
        return math.inf
    low, high = 0.0, math.pi
    while high - low > 1e-13:
        middle = (low + high) / 2
        if score(middle) >= target:
            low = middle
        else:
            high = middle
        if middle in (low, high) and high - low < 1e-12:
            break
    return low / (2 * math.pi * frequency)
"""
DELAY_RIGHT = {"formula": DELAY_BY_FORMULA, "half angle": DELAY_BY_HALF_ANGLE, "halving": DELAY_BY_HALVING}
DELAY_WRONG = {
    "amplitude for energy: 20 for 10": changed(DELAY_BY_FORMULA, ("-target / 10", "-target / 20")),
    "sign of the target": changed(DELAY_BY_FORMULA, ("-target / 10", "target / 10")),
    "the gain ignored": changed(DELAY_BY_FORMULA, ("(1 + gain ** 2 - allowed) / (2 * gain)", "1 - allowed / 2")),
    "the gain not squared": changed(DELAY_BY_FORMULA, ("gain ** 2", "gain")),
    "the error relative to the estimate": changed(
        DELAY_BY_FORMULA, ("10 ** (-target / 10)", "gain ** 2 * 10 ** (-target / 10)")
    ),
    "sine for cosine": changed(DELAY_BY_FORMULA, ("math.acos(cosine)", "math.asin(cosine)")),
    "2 pi forgotten": changed(DELAY_BY_FORMULA, (" / (2 * math.pi)", "")),
    "a phase, not a delay": changed(DELAY_BY_FORMULA, (" / (2 * math.pi) / frequency", "")),
    "degrees": changed(
        DELAY_BY_FORMULA, ("math.acos(cosine) / (2 * math.pi)", "math.degrees(math.acos(cosine)) / (2 * math.pi)")
    ),
    "half of the phase": changed(DELAY_BY_HALF_ANGLE, ("2 * math.asin", "math.asin")),
    "0 where it is out of reach": changed(DELAY_BY_FORMULA, ('float("nan")', "0.0")),
    "half a period where every delay will do": changed(DELAY_BY_FORMULA, ('float("inf")', "0.5 / frequency")),
    "out of reach and always swapped": changed(
        DELAY_BY_FORMULA, ('float("nan")', "math.inf"), ('float("inf")', "math.nan")
    ),
    "an error where it is out of reach": changed(
        DELAY_BY_FORMULA, ('    if cosine > 1:\n        return float("nan")\n', "")
    ),
    "delays in steps of a sample": changed(
        DELAY_BY_FORMULA,
        (
            "math.acos(cosine) / (2 * math.pi) / frequency",
            "round(math.acos(cosine) / (2 * math.pi) / frequency * 44100) / 44100",
        ),
    ),
    "infinity from a quarter of a period on": changed(DELAY_BY_FORMULA, ("if cosine < -1:", "if cosine < 0:")),
}

# ---------------------------------------------------------------------------------------------- 4, small shifts

SHIFTS_BY_LOOP = """
def forgiving_sdr(estimate, reference, K):
    e, s = estimate.double(), reference.double()
    if (e == 0).all() or (s == 0).all():
        return float("nan")
    columns = []
    for k in range(-K, K + 1):
        column = torch.zeros_like(s)
        column[max(k, 0):len(s) + min(k, 0)] = s[max(-k, 0):len(s) - max(k, 0)]
        columns.append(column)
    A = torch.stack(columns, 1)
    c = torch.linalg.lstsq(A, e.unsqueeze(1)).solution
    P = (A @ c).squeeze(1)
    return float(10 * torch.log10((P ** 2).sum() / ((e - P) ** 2).sum()))
"""
SHIFTS_BY_NORMAL_EQUATIONS = """
def forgiving_sdr(estimate, reference, K):
    e, s = estimate.double(), reference.double()
    A = F.pad(s, (K, K)).unfold(0, len(s), 1)              # (shift, time)
    if not s.any() or not e.any():
        return math.nan
    explained = (A @ e) @ torch.linalg.solve(A @ A.T, A @ e)
    return 10 * math.log10(explained / ((e @ e) - explained).clamp_min(1e-300))
"""
SHIFTS_BY_QR = """
def forgiving_sdr(estimate, reference, K):
    if estimate.norm() == 0 or reference.norm() == 0:
        return math.nan
    time = len(reference)
    padded = torch.cat([torch.zeros(K), reference, torch.zeros(K)]).double()
    A = torch.stack([padded[i:i + time] for i in range(2 * K + 1)], dim=1)
    Q, _ = torch.linalg.qr(A)
    inside = Q @ (Q.T @ estimate.double())
    outside = estimate.double() - inside
    return 20 * math.log10(inside.norm() / outside.norm())
"""
SHIFTS_RIGHT = {"loop": SHIFTS_BY_LOOP, "normal equations": SHIFTS_BY_NORMAL_EQUATIONS, "QR": SHIFTS_BY_QR}
SHIFTS_WRONG = {
    "rolled round": changed(
        SHIFTS_BY_LOOP,
        (
            "column = torch.zeros_like(s)\n        column[max(k, 0):len(s) + min(k, 0)] = s[max(-k, 0):len(s) - "
            "max(k, 0)]",
            "column = s.roll(k)",
        ),
    ),
    "only late": changed(SHIFTS_BY_LOOP, ("range(-K, K + 1)", "range(0, K + 1)")),
    "only early": changed(SHIFTS_BY_LOOP, ("range(-K, K + 1)", "range(-K, 1)")),
    "the last shift left out": changed(SHIFTS_BY_LOOP, ("K + 1)", "max(K, 1))")),
    "one shift too many": changed(SHIFTS_BY_LOOP, ("range(-K, K + 1)", "range(-K - 1, K + 2)")),
    "the best single shift": changed(
        SHIFTS_BY_LOOP,
        (
            "    A = torch.stack(columns, 1)\n    c = torch.linalg.lstsq(A, e.unsqueeze(1)).solution\n"
            "    P = (A @ c).squeeze(1)\n",
            "    options = [(e @ a) / (a @ a) * a for a in columns]\n"
            "    P = max(options, key=lambda p: float((p ** 2).sum()))\n",
        ),
    ),
    "a projection on each copy, all added": changed(
        SHIFTS_BY_LOOP,
        (
            "    A = torch.stack(columns, 1)\n    c = torch.linalg.lstsq(A, e.unsqueeze(1)).solution\n"
            "    P = (A @ c).squeeze(1)\n",
            "    P = sum((e @ a) / (a @ a) * a for a in columns)\n",
        ),
    ),
    "the reference projected on the estimate": changed(
        SHIFTS_BY_LOOP,
        ("    e, s = estimate.double(), reference.double()", "    s, e = estimate.double(), reference.double()"),
    ),
    "the reference's energy above": changed(SHIFTS_BY_LOOP, ("(P ** 2).sum() / ", "(s ** 2).sum() / ")),
    "the estimate's energy above": changed(SHIFTS_BY_LOOP, ("(P ** 2).sum() / ", "(e ** 2).sum() / ")),
    "the plain SDR's error below": changed(SHIFTS_BY_LOOP, ("((e - P) ** 2)", "((e - s) ** 2)")),
    "20 for 10": changed(SHIFTS_BY_LOOP, ("10 * torch.log10", "20 * torch.log10")),
    "silence isn't looked at": changed(
        SHIFTS_BY_LOOP, ('    if (e == 0).all() or (s == 0).all():\n        return float("nan")\n', "")
    ),
    "a small number that swallows quiet signals": changed(
        SHIFTS_BY_LOOP, ("((e - P) ** 2).sum()", "(((e - P) ** 2).sum() + 1e-6)")
    ),
    "a tensor": changed(
        SHIFTS_BY_LOOP,
        (
            "return float(10 * torch.log10((P ** 2).sum() / ((e - P) ** 2).sum()))",
            "return 10 * torch.log10((P ** 2).sum() / ((e - P) ** 2).sum())",
        ),
    ),
    "soft called silent": changed(
        SHIFTS_BY_LOOP, ("(e == 0).all() or (s == 0).all()", "(e.abs() < 1e-8).all() or (s.abs() < 1e-8).all()")
    ),
}

# ------------------------------------------------------------------------------------------ 5, correlation within songs

WITHIN_BY_LOOP = """
def within_song_correlation(ratings, scores):
    def ranks(x):
        return torch.stack([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]).double()
    results = []
    for rated, scored in zip(ratings, scores):
        there = rated.isnan().logical_not() & scored.isnan().logical_not()
        if there.sum() < 3:
            continue
        a, b = ranks(rated[there]), ranks(scored[there])
        a, b = a - a.mean(), b - b.mean()
        if a.norm() > 0 and b.norm() > 0:
            results.append(float(a @ b / (a.norm() * b.norm())))
    return sum(results) / len(results) if results else float("nan")
"""
WITHIN_BY_SCIPY = """
import warnings
import numpy as np
from scipy import stats
def within_song_correlation(ratings, scores):
    results = []
    for a, b in zip(ratings.numpy(), scores.numpy()):
        there = ~(np.isnan(a) | np.isnan(b))
        a, b = stats.rankdata(a[there]), stats.rankdata(b[there])
        if len(a) >= 3 and np.ptp(a) > 0 and np.ptp(b) > 0:
            results.append(stats.pearsonr(a, b)[0])
    return float(np.mean(results)) if results else math.nan
"""
WITHIN_BY_SORTING = """
def within_song_correlation(ratings, scores):
    def ranks(values):
        order = sorted(values)
        first = {v: order.index(v) for v in values}
        return [first[v] + (order.count(v) + 1) / 2 for v in values]
    total, count = 0.0, 0
    for row in range(len(ratings)):
        pairs = [(r, s) for r, s in zip(ratings[row].tolist(), scores[row].tolist()) if r == r and s == s]
        if len(pairs) < 3:
            continue
        a, b = ranks([r for r, s in pairs]), ranks([s for r, s in pairs])
        m = sum(a) / len(a)
        bottom = sum((x - m) ** 2 for x in a) * sum((y - m) ** 2 for y in b)
        if bottom == 0:
            continue
        total += sum((x - m) * (y - m) for x, y in zip(a, b)) / bottom ** 0.5
        count += 1
    return total / count if count else math.nan
"""
WITHIN_RIGHT = {"loop": WITHIN_BY_LOOP, "SciPy": WITHIN_BY_SCIPY, "lists": WITHIN_BY_SORTING}
WITHIN_WRONG = {
    "all songs in one": changed(WITHIN_BY_LOOP, ("zip(ratings, scores)", "[(ratings.flatten(), scores.flatten())]")),
    "over the songs of each system": changed(WITHIN_BY_LOOP, ("zip(ratings, scores)", "zip(ratings.T, scores.T)")),
    "Pearson's, of the values": changed(
        WITHIN_BY_LOOP, ("ranks(rated[there]), ranks(scored[there])", "rated[there].double(), scored[there].double()")
    ),
    "ties in the order they come": changed(
        WITHIN_BY_LOOP,
        (
            "torch.stack([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]).double()",
            "x.argsort(stable=True).argsort().double()",
        ),
    ),
    "ties share the lowest rank": changed(
        WITHIN_BY_LOOP, ("(x < v).sum() + ((x == v).sum() + 1) / 2", "(x < v).sum() + 1")
    ),
    "argsort for ranks": changed(
        WITHIN_BY_LOOP,
        ("torch.stack([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x]).double()", "x.argsort().double()"),
    ),
    "the short formula, wrong with ties": changed(
        WITHIN_BY_LOOP,
        ("        a, b = a - a.mean(), b - b.mean()\n", "        n = len(a)\n"),
        ("a.norm() > 0 and b.norm() > 0", "a.std() > 0 and b.std() > 0"),
        ("float(a @ b / (a.norm() * b.norm()))", "float(1 - 6 * ((a - b) ** 2).sum() / (n * (n ** 2 - 1)))"),
    ),
    "NaN as zero": changed(
        WITHIN_BY_LOOP,
        ("rated.isnan().logical_not() & scored.isnan().logical_not()", "torch.ones_like(rated, dtype=torch.bool)"),
        ("ranks(rated[there]), ranks(scored[there])", "ranks(rated.nan_to_num(0)), ranks(scored.nan_to_num(0))"),
    ),
    "ranks before NaN is left out": changed(
        WITHIN_BY_LOOP, ("ranks(rated[there]), ranks(scored[there])", "ranks(rated)[there], ranks(scored)[there]")
    ),
    "infinity left out": changed(
        WITHIN_BY_LOOP,
        ("rated.isnan().logical_not() & scored.isnan().logical_not()", "rated.isfinite() & scored.isfinite()"),
    ),
    "two pairs are enough": changed(WITHIN_BY_LOOP, ("there.sum() < 3", "there.sum() < 2")),
    "equal ratings count as no correlation": changed(
        WITHIN_BY_LOOP,
        (
            "        if a.norm() > 0 and b.norm() > 0:\n            results",
            "        if not (a.norm() > 0 and b.norm() > 0):\n            results.append(0.0)\n        else:\n"
            "            results",
        ),
    ),
    "equal ratings make NaN": changed(
        WITHIN_BY_LOOP, ("        if a.norm() > 0 and b.norm() > 0:\n            results", "        results")
    ),
    "the median over songs": changed(
        WITHIN_BY_LOOP, ("sum(results) / len(results)", "sorted(results)[len(results) // 2]")
    ),
    "0 where no song can be used": changed(WITHIN_BY_LOOP, ('float("nan")', "0.0")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 1, """
from course_lib.metrics import sd_sdr, sdr, si_sdr

def scores_from_sums(ss, se, ee):
    length = ss.sqrt()                                           # two samples with these sums
    along = torch.where(ss > 0, se / length, 0)
    s = torch.stack([length, 0 * length], -1)
    s_hat = torch.stack([along, (ee - along ** 2).clamp_min(0).sqrt()], -1)
    return torch.stack([sdr(s_hat, s), si_sdr(s_hat, s), sd_sdr(s_hat, s)])
"""


CASES = as_cells(
    (SUMS_RIGHT, SUMS_WRONG), (FOOLED_RIGHT, FOOLED_WRONG), (DELAY_RIGHT, DELAY_WRONG),
    (SHIFTS_RIGHT, SHIFTS_WRONG), (WITHIN_RIGHT, WITHIN_WRONG))
