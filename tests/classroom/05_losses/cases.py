"""Answers to assignment 5 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------- 1, the gradient of a logarithm

GRADIENT_BY_CASES = """
def log_loss_gradient(estimates, references, p):
    e = estimates - references
    total = (e.abs() if p == 1 else e ** 2).sum(dim=(1, 2), keepdim=True)
    inner = torch.sign(e) if p == 1 else 2 * e
    gradient = 10 / math.log(10) * inner / total / e.shape[0]
    return torch.where(total > 0, gradient, torch.zeros_like(e))
"""
GRADIENT_BY_LOOP = """
def log_loss_gradient(estimates, references, p):
    found = torch.zeros_like(estimates)
    for b in range(len(estimates)):
        e = estimates[b] - references[b]
        total = (e.abs() ** p).sum()
        if total > 0:
            found[b] = 10 / (math.log(10) * len(estimates)) * p * e.abs() ** (p - 1) * torch.sign(e) / total
    return found
"""
GRADIENT_BY_MEANS = """
def log_loss_gradient(estimates, references, p):
    e = (estimates - references).flatten(1)                                      # (example, source * time)
    mean = e.abs().pow(p).mean(1, keepdim=True)
    outer = 10 / math.log(10) / mean.masked_fill(mean == 0, 1) / len(e)
    inner = p * e * e.abs().pow(p - 2).nan_to_num(posinf=0) / e.shape[1]
    return (outer * inner).reshape(estimates.shape)
"""
GRADIENT_RIGHT = {
    "a case each": GRADIENT_BY_CASES,
    "loop over the examples": GRADIENT_BY_LOOP,
    "chain rule with means": GRADIENT_BY_MEANS,
}
GRADIENT_WRONG = {
    "the mean over examples forgotten": changed(GRADIENT_BY_CASES, (" / e.shape[0]", "")),
    "the natural logarithm": changed(GRADIENT_BY_CASES, ("10 / math.log(10) * inner", "10 * inner")),
    "the factor 10 forgotten": changed(GRADIENT_BY_CASES, ("10 / math.log(10) * inner", "1 / math.log(10) * inner")),
    "the mean for the sum": changed(
        GRADIENT_BY_CASES, (".sum(dim=(1, 2), keepdim=True)", ".mean(dim=(1, 2), keepdim=True)")
    ),
    "one total for all examples": changed(GRADIENT_BY_CASES, (".sum(dim=(1, 2), keepdim=True)", ".sum()")),
    "a total for each source": changed(
        GRADIENT_BY_CASES, (".sum(dim=(1, 2), keepdim=True)", ".sum(dim=2, keepdim=True)")
    ),
    "reference minus estimate": changed(
        GRADIENT_BY_CASES, ("e = estimates - references", "e = references - estimates")
    ),
    "the factor p forgotten": changed(GRADIENT_BY_CASES, ("2 * e", "e")),
    "the sign forgotten": changed(GRADIENT_BY_LOOP, (" * torch.sign(e)", "")),
    "the gradient of the plain loss": changed(GRADIENT_BY_LOOP, (" / total", " / e.numel()")),
    "a constant against division by zero": changed(
        GRADIENT_BY_LOOP,
        ("        if total > 0:\n            found", "        if True:\n            found"),
        ("/ total", "/ (total + 1e-8)"),
    ),
    "NaN for a perfect example": changed(
        GRADIENT_BY_CASES, ("torch.where(total > 0, gradient, torch.zeros_like(e))", "gradient")
    ),
    "p = 1 all the time": changed(
        GRADIENT_BY_CASES,
        ("e.abs() if p == 1 else e ** 2", "e.abs()"),
        ("torch.sign(e) if p == 1 else 2 * e", "torch.sign(e)"),
    ),
    "autograd, kept from NaN": """
def log_loss_gradient(estimates, references, p):
    leaf = estimates.clone().requires_grad_()
    mean = (leaf - references).abs().pow(p).mean((1, 2))
    loss = 10 * torch.where(mean > 0, mean, 1).log10().sum() / len(mean)
    return torch.autograd.grad(loss, leaf)[0]
""",
    "the number of examples of the visible check": changed(GRADIENT_BY_CASES, ("/ e.shape[0]", "/ 2")),
}

# ------------------------------------------------------------------------------- 2, a loss that silence can't break

LIMITED_BY_INDEX = """
def limited_sdr_loss(estimates, references, limit):
    plays = references.abs().amax(-1) > 0
    if not plays.any():
        return 0 * estimates.sum()
    s, e = references[plays], estimates[plays]                                   # (what plays, time)
    tau = 10 ** (-limit / 10)
    power = (s ** 2).sum(-1)
    return (10 * torch.log10(((s - e) ** 2).sum(-1) / power + tau)).mean()
"""
LIMITED_BY_LOOP = """
def limited_sdr_loss(estimates, references, limit):
    total, count = 0 * estimates.sum(), 0
    for b in range(references.shape[0]):
        for j in range(references.shape[1]):
            s, e = references[b, j], estimates[b, j]
            signal = s.dot(s)
            if signal > 0:
                total = total + 10 * torch.log10((torch.dot(s - e, s - e) + 10 ** (-limit / 10) * signal) / signal)
                count += 1
    return total / max(count, 1)
"""
LIMITED_BY_SAFE_SIGNAL = """
def limited_sdr_loss(estimates, references, limit):
    signal = references.square().sum(-1)
    silent = signal == 0
    safe = signal.masked_fill(silent, 1.0)
    error = (references - estimates).square().sum(-1).masked_fill(silent, 1.0)
    decibels = 10 * torch.log10(error / safe + 10 ** (-limit / 10))
    weights = (~silent).to(decibels.dtype)
    return (decibels * weights).sum() / weights.sum().clamp(min=1)
"""
LIMITED_RIGHT = {
    "only what plays": LIMITED_BY_INDEX,
    "loop": LIMITED_BY_LOOP,
    "silence filled first": LIMITED_BY_SAFE_SIGNAL,
}
LIMITED_WRONG = {
    "as it stands": """
def limited_sdr_loss(estimates, references, limit):
    signal = references.square().sum(-1)
    error = (references - estimates).square().sum(-1)
    return (10 * torch.log10((error + 10 ** (-limit / 10) * signal) / signal)).mean()
""",
    "the NaN hidden afterwards": """
def limited_sdr_loss(estimates, references, limit):
    signal = references.square().sum(-1)
    error = (references - estimates).square().sum(-1)
    decibels = 10 * torch.log10((error + 10 ** (-limit / 10) * signal) / signal)
    plays = signal > 0
    return torch.where(plays, decibels, 0).sum() / plays.sum().clamp(min=1)
""",
    "nanmean": """
def limited_sdr_loss(estimates, references, limit):
    signal = references.square().sum(-1)
    error = (references - estimates).square().sum(-1)
    decibels = 10 * torch.log10((error + 10 ** (-limit / 10) * signal) / signal)
    return decibels.nan_to_num(posinf=torch.nan).nanmean().nan_to_num()
""",
    "a constant added": changed(
        LIMITED_BY_SAFE_SIGNAL, ("safe = signal.masked_fill(silent, 1.0)", "safe = signal + 1e-8")
    ),
    "silent references count as 0 dB": changed(
        LIMITED_BY_SAFE_SIGNAL, ("weights.sum().clamp(min=1)", "weights.numel()")
    ),
    "silent references are judged too": changed(
        LIMITED_BY_SAFE_SIGNAL,
        (".masked_fill(silent, 1.0)\n    decibels", "\n    decibels"),
        ("weights = (~silent)", "weights = (signal >= 0)"),
    ),
    "an example is left out as soon as one source is silent": changed(
        LIMITED_BY_SAFE_SIGNAL,
        ("silent = signal == 0", "silent = (signal == 0).any(1, keepdim=True).expand_as(signal)"),
    ),
    "NaN where nothing plays": changed(
        LIMITED_BY_INDEX, ("    if not plays.any():\n        return 0 * estimates.sum()\n", "")
    ),
    "no limit": changed(LIMITED_BY_INDEX, (" / power + tau", " / power")),
    "cut off at the limit": changed(
        LIMITED_BY_INDEX, ("((s - e) ** 2).sum(-1) / power + tau", "(((s - e) ** 2).sum(-1) / power).clamp_min(tau)")
    ),
    "the limit with the other sign": changed(LIMITED_BY_INDEX, ("10 ** (-limit / 10)", "10 ** (limit / 10)")),
    "the limit in amplitude": changed(LIMITED_BY_INDEX, ("10 ** (-limit / 10)", "10 ** (-limit / 20)")),
    "a score, not a loss": changed(LIMITED_BY_INDEX, ("return (10 * torch.log10(", "return (-10 * torch.log10(")),
    "scale-invariant": changed(
        LIMITED_BY_INDEX,
        (
            "    power = (s ** 2).sum(-1)\n",
            "    s = (s * e).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True) * s\n    power = (s ** 2).sum(-1)\n",
        ),
    ),
    "the logarithm of the mean": changed(
        LIMITED_BY_INDEX,
        (
            "(10 * torch.log10(((s - e) ** 2).sum(-1) / power + tau)).mean()",
            "10 * torch.log10((((s - e) ** 2).sum(-1) / power + tau).mean())",
        ),
    ),
    "silence as a sum of 0": changed(LIMITED_BY_INDEX, ("references.abs().amax(-1) > 0", "references.sum(-1) != 0")),
    "a single zero for silence": changed(
        LIMITED_BY_INDEX, ("references.abs().amax(-1) > 0", "(references != 0).all(-1)")
    ),
}

# --------------------------------------------------------------------------------------- 3, test a stranger's loss

PROPERTIES_PLAIN = """
def properties(loss):
    torch_random = torch.Generator().manual_seed(5)
    references = torch.rand(1, 2, 100, generator=torch_random) - 0.4
    estimates = torch.rand(1, 2, 100, generator=torch_random) - 0.6
    before = float(loss(estimates, references))
    def unchanged(value):
        return abs(float(value) - before) <= 1e-3 * abs(before)
    finite = []
    for e, s in ((estimates, torch.zeros_like(references)), (torch.zeros_like(estimates), references),
                 (torch.zeros_like(estimates), torch.zeros_like(references))):
        e = e.clone().requires_grad_(True)
        loss(e, s).backward()
        finite.append(bool(torch.isfinite(e.grad).all()))
    return {
        "gain": unchanged(loss(2.5 * estimates, references)),
        "polarity": unchanged(loss(-estimates, references)),
        "loudness": unchanged(loss(2.5 * estimates, 2.5 * references)),
        "silence": all(finite),
    }
"""
PROPERTIES_IN_FLOAT64 = """
def properties(loss):
    draw = torch.Generator().manual_seed(11)
    e, s = (torch.randn(3, 2, 40, generator=draw, dtype=torch.float64) for _ in range(2))
    def equal(*signals):
        return math.isclose(loss(*signals).item(), loss(e, s).item(), rel_tol=1e-6)
    found = dict(gain=all(equal(g * e, s) for g in (0.1, 7.0)), polarity=equal(-1 * e, s),
                 loudness=all(equal(g * e, g * s) for g in (0.1, 7.0)), silence=True)
    for loud_e, loud_s in ((1, 0), (0, 1), (0, 0)):
        x = (loud_e * e).requires_grad_()
        gradient, = torch.autograd.grad(loss(x, loud_s * s), x)
        found["silence"] = found["silence"] and not bool(gradient.isnan().any() or gradient.isinf().any())
    return found
"""
PROPERTIES_RIGHT = {
    "one gain": PROPERTIES_PLAIN,
    "float64, two gains": PROPERTIES_IN_FLOAT64,
    "very small and very large gains": changed(
        PROPERTIES_IN_FLOAT64,
        ("equal(g * e, s) for g in (0.1, 7.0)", "equal(g * e, s) for g in (1e-4, 1e4)"),
        ("equal(g * e, g * s) for g in (0.1, 7.0)", "equal(g * e, g * s) for g in (1e-4, 1e4)"),
    ),
    "very small and very large gains in float32": changed(
        PROPERTIES_PLAIN,
        (
            "unchanged(loss(2.5 * estimates, references))",
            "all(unchanged(loss(g * estimates, references)) for g in (1e-4, 1e4))",
        ),
        (
            "unchanged(loss(2.5 * estimates, 2.5 * references))",
            "all(unchanged(loss(g * estimates, g * references)) for g in (1e-4, 1e4))",
        ),
    ),
}
PROPERTIES_WRONG = {
    "a tolerance for losses around 1": changed(PROPERTIES_PLAIN, ("<= 1e-3 * abs(before)", "<= 1e-3")),
    "not a digit of tolerance": changed(
        PROPERTIES_PLAIN, ("abs(float(value) - before) <= 1e-3 * abs(before)", "float(value) == before")
    ),
    "a tolerance of half": changed(PROPERTIES_PLAIN, ("<= 1e-3 * abs(before)", "<= 0.5 * abs(before) + 1e-6")),
    "a perfect estimate to begin with": changed(
        PROPERTIES_PLAIN,
        ("estimates = torch.rand(1, 2, 100, generator=torch_random) - 0.6", "estimates = references.clone()"),
    ),
    "the value for the gradient": changed(
        PROPERTIES_PLAIN,
        (
            "        loss(e, s).backward()\n        finite.append(bool(torch.isfinite(e.grad).all()))",
            "        finite.append(bool(torch.isfinite(loss(e, s))))",
        ),
    ),
    "silent references only": changed(PROPERTIES_PLAIN, ("all(finite)", "finite[0]")),
    "silent estimates only": changed(PROPERTIES_PLAIN, ("all(finite)", "finite[1]")),
    "silence on both sides only": changed(PROPERTIES_PLAIN, ("all(finite)", "finite[2]")),
    "one finite gradient is enough": changed(PROPERTIES_PLAIN, ("all(finite)", "any(finite)")),
    "a whisper for silence": changed(
        PROPERTIES_IN_FLOAT64, ("((1, 0), (0, 1), (0, 0))", "((1, 1e-6), (1e-6, 1), (1e-6, 1e-6))")
    ),
    "both made louder for the gain": changed(
        PROPERTIES_PLAIN,
        ("unchanged(loss(2.5 * estimates, references))", "unchanged(loss(2.5 * estimates, 2.5 * references))"),
    ),
    "both signs flipped": changed(PROPERTIES_PLAIN, ("loss(-estimates, references)", "loss(-estimates, -references)")),
    "a gain with a flip": changed(
        PROPERTIES_PLAIN,
        ("unchanged(loss(2.5 * estimates, references))", "unchanged(loss(-2.5 * estimates, references))"),
    ),
    "only the references made louder": changed(
        PROPERTIES_PLAIN, ("loss(2.5 * estimates, 2.5 * references)", "loss(estimates, 2.5 * references)")
    ),
    "as for the mean squared error": """
def properties(loss):
    return {"gain": False, "polarity": False, "loudness": False, "silence": True}
""",
    "one gain, within a tenth": changed(
        PROPERTIES_PLAIN,
        ("unchanged(loss(2.5 * estimates, references))", "unchanged(loss(1.1 * estimates, references))"),
    ),
}

# ------------------------------------------------------------------------------------- 4, the share of the quiet bins

SHARE_BY_MASK = """
def quiet_share(loss, masks, mixture, decibels):
    M = masks.detach().clone()
    M.requires_grad = True
    loss(M).backward()
    g = M.grad.abs()
    loudest = mixture.flatten(1).max(dim=1).values.reshape(-1, 1, 1, 1)
    quiet = (mixture <= loudest * 10 ** (-decibels / 20))[:, None].expand_as(g)
    return (g[quiet].sum() / g.sum()).item() if g.any() else 0.0
"""
SHARE_BY_LOOP = """
def quiet_share(loss, masks, mixture, decibels):
    M = masks.clone().detach().requires_grad_(True)
    gradient, = torch.autograd.grad(loss(M), [M])
    inside = everything = 0.0
    for b, song in enumerate(mixture):
        quiet = song <= song.max() / 10 ** (decibels / 20)
        for j in range(masks.shape[1]):
            inside += gradient[b, j][quiet].abs().sum().item()
            everything += gradient[b, j].abs().sum().item()
    return inside / everything if everything > 0 else 0.0
"""
SHARE_RIGHT = {"boolean mask": SHARE_BY_MASK, "loop over songs and sources": SHARE_BY_LOOP}
SHARE_WRONG = {
    "quiet against the loudest of all songs": changed(
        SHARE_BY_MASK, ("mixture.flatten(1).max(dim=1).values.reshape(-1, 1, 1, 1)", "mixture.max()")
    ),
    "quiet against the loudest of the frame": changed(
        SHARE_BY_MASK, ("mixture.flatten(1).max(dim=1).values.reshape(-1, 1, 1, 1)", "mixture.amax(2, keepdim=True)")
    ),
    "quiet against the mean": changed(
        SHARE_BY_MASK, ("mixture.flatten(1).max(dim=1).values", "mixture.flatten(1).mean(dim=1)")
    ),
    "quiet against the loudest of the channel": changed(
        SHARE_BY_MASK,
        ("mixture.flatten(1).max(dim=1).values.reshape(-1, 1, 1, 1)", "mixture.amax((2, 3), keepdim=True)"),
    ),
    "decibels of power": changed(SHARE_BY_MASK, ("(-decibels / 20)", "(-decibels / 10)")),
    "the loud bins": changed(SHARE_BY_MASK, ("mixture <= loudest", "mixture > loudest")),
    "a signed sum": changed(
        SHARE_BY_LOOP, ("[quiet].abs().sum()", "[quiet].sum()"), ("gradient[b, j].abs().sum()", "gradient[b, j].sum()")
    ),
    "the share of the bins": changed(
        SHARE_BY_MASK,
        ("(g[quiet].sum() / g.sum()).item() if g.any() else 0.0", "quiet.float().mean().item() if g.any() else 0.0"),
    ),
    "the share of the energy": changed(SHARE_BY_MASK, ("g = M.grad.abs()", "g = M.grad ** 2")),
    "the mean over a song's shares": """
def quiet_share(loss, masks, mixture, decibels):
    M = masks.detach().clone().requires_grad_()
    g = torch.autograd.grad(loss(M), M)[0].abs()
    quiet = mixture <= mixture.amax((1, 2, 3), keepdim=True) * 10 ** (-decibels / 20)
    shares = (g * quiet.unsqueeze(1)).sum((1, 2, 3, 4)) / g.sum((1, 2, 3, 4)).clamp_min(1e-20)
    return float(shares.mean())
""",
    "NaN without any gradient": changed(SHARE_BY_MASK, (" if g.any() else 0.0", "")),
    "the masks' own gradient": """
def quiet_share(loss, masks, mixture, decibels):
    masks.requires_grad_()
    loss(masks).backward()
    g = masks.grad.abs()
    quiet = mixture <= mixture.amax((1, 2, 3), keepdim=True) * 10 ** (-decibels / 20)
    total = float(g.sum())
    return float((g * quiet.unsqueeze(1)).sum()) / total if total else 0.0
""",
    "a tensor": changed(
        SHARE_BY_MASK,
        (
            "(g[quiet].sum() / g.sum()).item() if g.any() else 0.0",
            "g[quiet].sum() / g.sum() if g.any() else torch.tensor(0.0)",
        ),
    ),
    "the gradient of a loss on quiet bins": changed(
        SHARE_BY_MASK, ("loss(M).backward()", "loss(M * (mixture <= 0.1 * mixture.amax()).unsqueeze(1)).backward()")
    ),
    "a silent song isn't quiet": changed(SHARE_BY_MASK, ("mixture <= loudest", "mixture < loudest")),
}

# ---------------------------------------------------------------------------------------- 5, the best discriminator

BEST_BY_SHARES = """
def best_discriminator(real, estimated, a, b):
    p = real / real.sum(-1, keepdim=True)
    q = estimated / estimated.sum(-1, keepdim=True)
    real_share = torch.where(p + q > 0, p / (p + q), 0.5)
    D = b + (a - b) * real_share
    loss = 0.5 * (p * (D - a) ** 2).sum(-1) + 0.5 * (q * (D - b) ** 2).sum(-1)
    return D, loss
"""
BEST_BY_FORMULA_OF_THE_LOSS = """
def best_discriminator(real, estimated, a, b):
    p, q = real / real.sum(-1, keepdim=True), estimated / estimated.sum(-1, keepdim=True)
    both = (p + q).masked_fill(p + q == 0, 1)
    D = ((a * p + b * q) / both).masked_fill(p + q == 0, (a + b) / 2)
    return D, (a - b) ** 2 / 2 * (p * q / both).sum(-1)
"""
BEST_BY_TRAINING = """
def best_discriminator(real, estimated, a, b):
    p = real / real.sum(-1, keepdim=True)
    q = estimated / estimated.sum(-1, keepdim=True)
    D = torch.full_like(p, (a + b) / 2)
    for _ in range(200):                                               # Newton's steps, made a little shorter
        gradient = p * (D - a) + q * (D - b)
        D = D - 0.5 * gradient / (p + q).clamp_min(1e-12)
    return D, ((p * (D - a) ** 2 + q * (D - b) ** 2) / 2).sum(-1)
"""
BEST_RIGHT = {
    "shares": BEST_BY_SHARES,
    "the loss by a formula": BEST_BY_FORMULA_OF_THE_LOSS,
    "trained": BEST_BY_TRAINING,
}
BEST_WRONG = {
    "counts for shares": changed(
        BEST_BY_SHARES,
        ("p = real / real.sum(-1, keepdim=True)", "p = real"),
        ("q = estimated / estimated.sum(-1, keepdim=True)", "q = estimated"),
    ),
    "shares of all examples": changed(
        BEST_BY_SHARES,
        ("real / real.sum(-1, keepdim=True)", "real / (real + estimated).sum(-1, keepdim=True)"),
        ("estimated / estimated.sum(-1, keepdim=True)", "estimated / (real + estimated).sum(-1, keepdim=True)"),
    ),
    "counts in D, shares in the loss": changed(
        BEST_BY_SHARES,
        ("torch.where(p + q > 0, p / (p + q), 0.5)", "torch.where(p + q > 0, real / (real + estimated), 0.5)"),
    ),
    "labels swapped": changed(BEST_BY_SHARES, ("D = b + (a - b) * real_share", "D = a + (b - a) * real_share")),
    "labels 1 and 0": changed(BEST_BY_SHARES, ("D = b + (a - b) * real_share", "D = real_share")),
    "the sharper decision": changed(
        BEST_BY_SHARES, ("torch.where(p + q > 0, p / (p + q), 0.5)", "torch.where(p > q, 1.0, 0.0)")
    ),
    "the ratio of densities": changed(BEST_BY_SHARES, ("p / (p + q)", "p / q.clamp_min(1e-9)")),
    "NaN for a kind that never occurs": changed(
        BEST_BY_SHARES, ("torch.where(p + q > 0, p / (p + q), 0.5)", "p / (p + q)")
    ),
    "0 for a kind that never occurs": changed(BEST_BY_SHARES, ("p / (p + q), 0.5)", "p / (p + q), 0.0)")),
    "a half forgotten": changed(
        BEST_BY_SHARES, ("0.5 * (p * (D - a)", "(p * (D - a)"), ("0.5 * (q * (D - b)", "(q * (D - b)")
    ),
    "the mean over the kinds": changed(
        BEST_BY_SHARES,
        ("(p * (D - a) ** 2).sum(-1)", "((D - a) ** 2).mean(-1)"),
        ("(q * (D - b) ** 2).sum(-1)", "((D - b) ** 2).mean(-1)"),
    ),
    "added up over all rows": changed(BEST_BY_FORMULA_OF_THE_LOSS, ("(p * q / both).sum(-1)", "(p * q / both).sum()")),
    "the entropy of the other GAN": changed(
        BEST_BY_SHARES,
        (
            "loss = 0.5",
            "loss = -0.5 * (p * (D.clamp(0.01, 0.99)).log()).sum(-1) - 0.5 * (q * (1 - D.clamp(0.01, "
            "0.99)).log()).sum(-1) + 0.0",
        ),
    ),
    "trained for too short a time": changed(BEST_BY_TRAINING, ("range(200)", "range(5)")),
    "the labels of the visible example": changed(
        BEST_BY_SHARES, ("D = b + (a - b) * real_share", "D = FAKE + (REAL - FAKE) * real_share")
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 1, """
from course_lib.losses import l1_time, l2_time

def log_loss_gradient(estimates, references, p):
    leaf, found = estimates.clone().requires_grad_(), torch.zeros_like(estimates)
    for b in range(len(estimates)):
        mean = (l1_time if p == 1 else l2_time)(leaf[b:b + 1, :, None], references[b:b + 1, :, None])
        if mean > 0:
            found += 10 / math.log(10) / len(estimates) / mean.item() * torch.autograd.grad(mean, leaf)[0]
    return found
"""


CASES = as_cells(
    (GRADIENT_RIGHT, GRADIENT_WRONG), (LIMITED_RIGHT, LIMITED_WRONG), (PROPERTIES_RIGHT, PROPERTIES_WRONG),
    (SHARE_RIGHT, SHARE_WRONG), (BEST_RIGHT, BEST_WRONG))
