"""Answers to assignment 13 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------- 1, filters that never fall between bins

BANK_BY_CASES = """
def filter_bank(corners, n_fft, rate):
    step, rows = rate / n_fft, []

    def left_of(x, low, peak, high):
        # area of a triangle to the left of x
        if x <= low:
            return 0.0
        if x <= peak:
            return (x - low) ** 2 / (2 * (peak - low))
        if x >= high:
            return (high - low) / 2
        return (high - low) / 2 - (high - x) ** 2 / (2 * (high - peak))

    for low, peak, high in corners.double().reshape(-1, 3).tolist():
        areas = [left_of((k - 0.5) * step, low, peak, high) for k in range(n_fft // 2 + 2)]
        rows.append([(b - a) / step for a, b in zip(areas, areas[1:])])
    bank = torch.tensor(rows, dtype=torch.float64).T.reshape(n_fft // 2 + 1, *corners.shape[:-1])
    return bank.to(corners.dtype)

def levels(power, bank):
    flat = bank.double().reshape(len(bank), -1)
    db = 10 * torch.log10(torch.clamp(flat.T @ power.double(), min=1e-10))
    return db.reshape(len(power), *bank.shape[1:], -1).to(power.dtype)
"""
BANK_BY_RAMPS = """
def ramp(x):
    return x.clamp_min(0) ** 2 / 2

def filter_bank(corners, n_fft, rate):
    low, peak, high = [c.double()[None] for c in corners.unbind(-1)]
    width = rate / n_fft
    k = torch.arange(n_fft // 2 + 1, dtype=torch.float64).reshape(-1, *[1] * (low.ndim - 1))
    a, b = (k - 0.5) * width, (k + 0.5) * width
    a_up, b_up = a.clamp(low, peak), b.clamp(low, peak)
    a_down, b_down = a.clamp(peak, high), b.clamp(peak, high)
    up, down = peak - low, high - peak
    # straight pieces: the middle height times the length
    rise = (b_up - a_up) * ((a_up + b_up) / 2 - low) / up.clamp_min(1e-300)
    fall = (b_down - a_down) * (high - (a_down + b_down) / 2) / down.clamp_min(1e-300)
    return ((rise + fall) / width).to(corners.dtype)

def levels(power, bank):
    letters = "xyzuvw"[:bank.ndim - 1]
    gathered = torch.einsum(f"bkt,k{letters}->b{letters}t", power.double(), bank.double())
    return 10 * gathered.maximum(torch.tensor(1e-10).double()).log10().to(power.dtype)
"""
BANK_BY_FOUR_RAMPS = """
def filter_bank(corners, n_fft, rate):
    # between two neighbouring corners the triangle is straight: end heights and length of what lies in the bin
    step = rate / n_fft
    low, peak, high = corners.double()[..., 0], corners.double()[..., 1], corners.double()[..., 2]
    rows = []
    for k in range(n_fft // 2 + 1):
        start, stop = (k - 0.5) * step, (k + 0.5) * step
        area = torch.zeros_like(low)
        for left, right, foot in ((low, peak, low), (peak, high, high)):
            a, b = left.clamp(min=start), right.clamp(max=stop)
            length = (b - a).clamp(min=0)
            side = torch.where(right > left, right - left, torch.ones_like(left))
            area = area + length * ((a - foot).abs() + (b - foot).abs()) / (2 * side)
        rows.append(area / step)
    return torch.stack(rows).to(corners.dtype)

def levels(power, bank):
    out = []
    for item in power.double():
        gathered = (bank.double().unsqueeze(-1) * item.reshape(len(bank), *[1] * (bank.ndim - 1), -1)).sum(0)
        out.append(10 * torch.log10(gathered.clamp(min=1e-10)))
    return torch.stack(out).to(power.dtype)
"""
BANK_RIGHT = {
    "case by case": BANK_BY_CASES,
    "straight pieces": BANK_BY_RAMPS,
    "bin by bin": BANK_BY_FOUR_RAMPS,
}
BANK_WRONG = {
    "read at the bins": """
def filter_bank(corners, n_fft, rate):
    low, peak, high = corners.double().unbind(-1)
    f = torch.arange(n_fft // 2 + 1).double().view(-1, *[1] * low.ndim) * rate / n_fft
    up = (f - low) / (peak - low).clamp_min(1e-300)
    down = (high - f) / (high - peak).clamp_min(1e-300)
    return torch.minimum(up, down).clamp(0, 1).to(corners.dtype)

def levels(power, bank):
    return 10 * torch.tensordot(power.mT, bank, dims=1).clamp_min(1e-10).log10().movedim(1, -1)
""",
    "the mean of many points": """
def filter_bank(corners, n_fft, rate):
    low, peak, high = corners.double().unbind(-1)
    n = 64
    f = ((torch.arange((n_fft // 2 + 1) * n) + 0.5) / n - 0.5).double() * rate / n_fft
    f = f.view(-1, *[1] * low.ndim)
    up = (f - low) / (peak - low).clamp_min(1e-300)
    down = (high - f) / (high - peak).clamp_min(1e-300)
    height = torch.minimum(up, down).clamp(0, 1)
    return height.unflatten(0, (-1, n)).mean(1).to(corners.dtype)

def levels(power, bank):
    return 10 * torch.tensordot(power.mT, bank, dims=1).clamp_min(1e-10).log10().movedim(1, -1)
""",
    "the area, not the mean": changed(BANK_BY_RAMPS, ("((rise + fall) / width)", "(rise + fall)")),
    "of area 1": changed(BANK_BY_RAMPS, ("((rise + fall) / width)", "((rise + fall) / width / ((high - low) / 2))")),
    "columns that add up to 1": changed(
        BANK_BY_RAMPS, ("((rise + fall) / width)", "((rise + fall) / (rise + fall).sum(0).clamp_min(1e-300))")
    ),
    "bins that begin at their frequency": changed(
        BANK_BY_RAMPS, ("a, b = (k - 0.5) * width, (k + 0.5) * width", "a, b = k * width, (k + 1) * width")
    ),
    "bins of twice the width": changed(
        BANK_BY_RAMPS,
        ("a, b = (k - 0.5) * width, (k + 0.5) * width", "a, b = (k - 1) * width, (k + 1) * width"),
        ("((rise + fall) / width)", "((rise + fall) / (2 * width))"),
    ),
    "the first and the last bin cut off": changed(
        BANK_BY_RAMPS,
        ("    a_up, b_up", "    a, b = a.clamp(0, rate / 2), b.clamp(0, rate / 2)\n    a_up, b_up"),
    ),
    "the first and the last bin of half the width": changed(
        BANK_BY_RAMPS,
        ("    a_up, b_up", "    a, b = a.clamp(0, rate / 2), b.clamp(0, rate / 2)\n    a_up, b_up"),
        ("((rise + fall) / width)", "((rise + fall) / (b - a))"),
    ),
    "bins of the rate over half of n_fft": changed(
        BANK_BY_RAMPS, ("width = rate / n_fft", "width = rate / (n_fft // 2)")
    ),
    "bins from 0 to half the rate": changed(
        BANK_BY_RAMPS, ("width = rate / n_fft", "width = rate / 2 / (n_fft // 2 + 1)")
    ),
    "a bin too few": changed(BANK_BY_RAMPS, ("torch.arange(n_fft // 2 + 1,", "torch.arange(n_fft // 2,")),
    "all bins": changed(BANK_BY_RAMPS, ("torch.arange(n_fft // 2 + 1,", "torch.arange(n_fft,")),
    "the rising side only": changed(BANK_BY_RAMPS, ("((rise + fall) / width)", "(rise / width)")),
    "both sides as wide": changed(
        BANK_BY_RAMPS, ("up, down = peak - low, high - peak", "up, down = (high - low) / 2, (high - low) / 2")
    ),
    "the peak in the middle": changed(
        BANK_BY_RAMPS, ("    width = rate", "    peak = (low + high) / 2\n    width = rate")
    ),
    "heights at the bin's edges": changed(
        BANK_BY_RAMPS, ("(b_up - a_up) * ((a_up + b_up) / 2 - low)", "(b_up - a_up) * (b_up - low)")
    ),
    "boxes": changed(
        BANK_BY_RAMPS,
        ("rise = (b_up - a_up) * ((a_up + b_up) / 2 - low) / up.clamp_min(1e-300)", "rise = (b_up - a_up) / 2"),
        (
            "fall = (b_down - a_down) * (high - (a_down + b_down) / 2) / down.clamp_min(1e-300)",
            "fall = (b_down - a_down) / 2",
        ),
    ),
    "vertical sides: not a number": changed(
        BANK_BY_RAMPS, ("up.clamp_min(1e-300)", "up"), ("down.clamp_min(1e-300)", "down")
    ),
    "vertical sides: an error": changed(
        BANK_BY_CASES, ("        if x <= low:\n", "        1 / (peak - low), 1 / (high - peak)\n        if x <= low:\n")
    ),
    "vertical sides: a hertz wide": changed(
        BANK_BY_RAMPS,
        ("up, down = peak - low, high - peak", "up, down = (peak - low).clamp_min(1), (high - peak).clamp_min(1)"),
    ),
    "triangles outside held at the edge": changed(
        BANK_BY_RAMPS,
        (
            "    width = rate",
            "    low, peak, high = (c.clamp(0, rate / 2) for c in (low, peak, high))\n    width = rate",
        ),
    ),
    "triangles outside left out": changed(
        BANK_BY_RAMPS, ("((rise + fall) / width)", "((rise + fall) / width * ((low >= 0) & (high <= rate / 2)))")
    ),
    "narrow ones a bin wide": changed(
        BANK_BY_RAMPS,
        (
            "    width = rate / n_fft\n",
            "    width = rate / n_fft\n"
            "    low, high = torch.minimum(low, peak - width), torch.maximum(high, peak + width)\n",
        ),
    ),
    "single precision": changed(
        BANK_BY_RAMPS,
        ("[c.double()[None] for c in corners.unbind(-1)]", "[c.float()[None] for c in corners.unbind(-1)]"),
        ("dtype=torch.float64).reshape(-1", "dtype=torch.float32).reshape(-1"),
        ("up.clamp_min(1e-300)", "up.clamp_min(1e-30)"),
        ("down.clamp_min(1e-300)", "down.clamp_min(1e-30)"),
    ),
    "bins last": changed(
        BANK_BY_RAMPS,
        (
            "return ((rise + fall) / width).to(corners.dtype)",
            "return ((rise + fall) / width).to(corners.dtype).movedim(0, -1)",
        ),
    ),
    "one axis of filters": changed(BANK_BY_CASES, (".T.reshape(n_fft // 2 + 1, *corners.shape[:-1])", ".T")),
    "harmonics and heights exchanged": changed(
        BANK_BY_CASES,
        (".T.reshape(n_fft // 2 + 1, *corners.shape[:-1])", ".T.reshape(n_fft // 2 + 1, *corners.shape[:-1][::-1])"),
    ),
    "filters in float64 all the time": changed(BANK_BY_CASES, ("return bank.to(corners.dtype)", "return bank")),
    "corners sorted in place": changed(
        BANK_BY_CASES,
        ("    step, rows = rate / n_fft, []\n", "    step, rows = rate / n_fft, []\n    corners.sub_(1e-3)\n"),
    ),
    "20 instead of 10": changed(BANK_BY_CASES, ("10 * torch.log10", "20 * torch.log10")),
    "natural logarithms": changed(BANK_BY_CASES, ("10 * torch.log10", "10 * torch.log")),
    "the floor added": changed(
        BANK_BY_CASES, ("torch.clamp(flat.T @ power.double(), min=1e-10)", "flat.T @ power.double() + 1e-10")
    ),
    "silence: minus infinity": changed(
        BANK_BY_CASES, ("torch.clamp(flat.T @ power.double(), min=1e-10)", "flat.T @ power.double()")
    ),
    "a floor of -80 dB": changed(BANK_BY_CASES, ("min=1e-10", "min=1e-8")),
    "a floor of -200 dB": changed(BANK_BY_CASES, ("min=1e-10", "min=1e-20")),
    "the floor 80 dB below the loudest": changed(
        BANK_BY_CASES,
        ("    return db.reshape", "    db = torch.maximum(db, db.amax() - 80)\n    return db.reshape"),
    ),
    "the loudest is 0 dB": changed(
        BANK_BY_CASES, ("    return db.reshape", "    db = db - db.amax().clamp_min(-100)\n    return db.reshape")
    ),
    "decibels before they are gathered": changed(
        BANK_BY_CASES,
        (
            "db = 10 * torch.log10(torch.clamp(flat.T @ power.double(), min=1e-10))",
            "db = flat.T @ (10 * torch.log10(torch.clamp(power.double(), min=1e-10)))",
        ),
    ),
    "the root of the power": changed(BANK_BY_CASES, ("flat.T @ power.double()", "flat.T @ power.double().sqrt()")),
    "the mean over bins": changed(BANK_BY_CASES, ("flat.T @ power.double()", "flat.T @ power.double() / len(bank)")),
    "powers in single precision": changed(
        BANK_BY_CASES,
        ("flat = bank.double()", "flat = bank.float()"),
        ("flat.T @ power.double()", "flat.T @ power.float()"),
    ),
    "frames before filters": changed(
        BANK_BY_CASES,
        ("return db.reshape(len(power), *bank.shape[1:], -1)", "return db.mT.reshape(len(power), -1, *bank.shape[1:])"),
    ),
    "one axis of levels": changed(BANK_BY_CASES, ("return db.reshape(len(power), *bank.shape[1:], -1)", "return db")),
    "filters exchanged": changed(
        BANK_BY_CASES,
        (
            "flat = bank.double().reshape(len(bank), -1)",
            "flat = bank.double().mT.reshape(len(bank), -1) if bank.ndim > 1 else bank.double()[:, None]",
        ),
    ),
    "levels in float64 all the time": changed(BANK_BY_CASES, (", -1).to(power.dtype)", ", -1)")),
}

# ------------------------------------------------------------------------------ 2, a loss for labels with holes

LOSS_BY_TAGS = """
def tagging_loss(odds, labels):
    losses = []
    for o, y in zip(odds.T, labels.T):
        sides = [F.softplus(-o[y == 1]), F.softplus(o[y == 0])]
        sides = [side.mean() for side in sides if len(side)]
        if sides:
            losses.append(sum(sides) / len(sides))
    if not losses:
        return torch.where(torch.ones_like(odds, dtype=torch.bool), 0.0, odds).sum()
    return sum(losses) / len(losses)
"""
LOSS_BY_WEIGHTS = """
def tagging_loss(odds, labels):
    asked = torch.isfinite(labels)
    o, y = odds.masked_fill(~asked, 0.0), labels.masked_fill(~asked, 0.0)
    yes, no = (asked * y).sum(0), (asked * (1 - y)).sum(0)          # (tag,)
    both = torch.where((yes > 0) & (no > 0), 0.5, 1.0)
    w = y * both / yes.clamp(min=1) + (1 - y) * both / no.clamp(min=1)
    w = (w * asked).to(o.dtype)
    cost = F.binary_cross_entropy_with_logits(o, y, reduction="none")
    tags = (yes + no > 0).sum()
    return (w * cost).sum() / max(int(tags), 1)
"""
LOSS_BY_LOGS = """
def tagging_loss(odds, labels):
    asked = labels == labels
    true = torch.where(asked, torch.where(labels == 1, odds, -odds), 0.0)
    cost = torch.logaddexp(torch.zeros_like(true), -true)
    kinds = [asked & (labels == 1), asked & (labels == 0)]
    means = torch.stack([(cost * kind).sum(0) / kind.sum(0).clamp_min(1) for kind in kinds])
    there = torch.stack([kind.any(0) for kind in kinds]).sum(0)
    of_tags = means.sum(0) / there.clamp_min(1)
    return of_tags.sum() / (there > 0).sum().clamp_min(1)
"""
LOSS_RIGHT = {
    "tag by tag": LOSS_BY_TAGS,
    "weights": LOSS_BY_WEIGHTS,
    "its own logarithm": LOSS_BY_LOGS,
}
LOSS_WRONG = {
    "all clips alike": changed(
        LOSS_BY_TAGS,
        (
            "        sides = [side.mean() for side in sides if len(side)]\n",
            "        sides = [torch.cat(sides).mean()] if len(torch.cat(sides)) else []\n",
        ),
    ),
    "one kind only: one half": changed(
        LOSS_BY_TAGS, ("losses.append(sum(sides) / len(sides))", "losses.append(sum(sides) / 2)")
    ),
    "both kinds weigh 1": changed(
        LOSS_BY_TAGS, ("losses.append(sum(sides) / len(sides))", "losses.append(sum(sides))")
    ),
    "sums over clips": changed(LOSS_BY_TAGS, ("[side.mean() for side", "[side.sum() for side")),
    "the sum over tags": changed(LOSS_BY_TAGS, ("return sum(losses) / len(losses)", "return sum(losses)")),
    "the mean over all tags": changed(
        LOSS_BY_TAGS, ("return sum(losses) / len(losses)", "return sum(losses) / odds.shape[1]")
    ),
    "tags by how often they were asked": changed(
        LOSS_BY_TAGS,
        (
            "            losses.append(sum(sides) / len(sides))\n",
            "            losses += [sum(sides) / len(sides)] * int((y == y).sum())\n",
        ),
    ),
    "only tags of both kinds": changed(LOSS_BY_TAGS, ("        if sides:\n", "        if len(sides) == 2:\n")),
    "balanced over all tags together": changed(
        LOSS_BY_TAGS, ("zip(odds.T, labels.T)", "[(odds.flatten(), labels.flatten())]")
    ),
    "balanced by clips": changed(LOSS_BY_TAGS, ("zip(odds.T, labels.T)", "zip(odds, labels)")),
    "clips without a tag left out": changed(
        LOSS_BY_TAGS, ("[F.softplus(-o[y == 1]), F.softplus(o[y == 0])]", "[F.softplus(-o[y == 1])]")
    ),
    "holes taken for no": changed(LOSS_BY_TAGS, ("F.softplus(o[y == 0])", "F.softplus(o[y != 1])")),
    "holes taken for no, NaN for 0": changed(
        LOSS_BY_TAGS, ("F.softplus(o[y == 0])", "F.softplus(o[y != 1].nan_to_num())")
    ),
    "holes taken for yes": changed(LOSS_BY_TAGS, ("F.softplus(-o[y == 1])", "F.softplus(-o[y != 0].nan_to_num())")),
    "holes taken for a half": changed(
        LOSS_BY_WEIGHTS,
        ("labels.masked_fill(~asked, 0.0)", "labels.masked_fill(~asked, 0.5)"),
        ("w = (w * asked).to(o.dtype)", "w = w.to(o.dtype)"),
    ),
    "holes count below the line": changed(LOSS_BY_WEIGHTS, ("(asked * (1 - y)).sum(0)", "(1 - y).sum(0)")),
    "holes masked after the loss": changed(
        LOSS_BY_LOGS,
        ("torch.where(asked, torch.where(labels == 1, odds, -odds), 0.0)", "torch.where(labels == 1, odds, -odds)"),
        ("(cost * kind).sum(0)", "torch.where(kind, cost, 0.0).sum(0)"),
    ),
    "holes times 0": changed(
        LOSS_BY_LOGS,
        (
            "torch.where(asked, torch.where(labels == 1, odds, -odds), 0.0)",
            "torch.where(labels == 1, odds, -odds) * asked",
        ),
    ),
    "the sign the other way": changed(
        LOSS_BY_TAGS,
        ("[F.softplus(-o[y == 1]), F.softplus(o[y == 0])]", "[F.softplus(o[y == 1]), F.softplus(-o[y == 0])]"),
    ),
    "probabilities for log-odds": changed(
        LOSS_BY_TAGS, ("for o, y in zip(odds.T, labels.T):\n", "for o, y in zip(odds.sigmoid().T, labels.T):\n")
    ),
    "log-odds for probabilities": changed(
        LOSS_BY_TAGS,
        (
            "[F.softplus(-o[y == 1]), F.softplus(o[y == 0])]",
            "[-o[y == 1].clamp(1e-9, 1).log(), -(1 - o[y == 0]).clamp(1e-9, 1).log()]",
        ),
    ),
    "a sigmoid, then its logarithm": changed(
        LOSS_BY_TAGS,
        (
            "[F.softplus(-o[y == 1]), F.softplus(o[y == 0])]",
            "[-o[y == 1].sigmoid().log(), -(1 - o[y == 0].sigmoid()).log()]",
        ),
    ),
    "a sigmoid held away from 0": changed(
        LOSS_BY_TAGS,
        (
            "[F.softplus(-o[y == 1]), F.softplus(o[y == 0])]",
            "[-o[y == 1].sigmoid().clamp(1e-7, 1).log(), -(1 - o[y == 0].sigmoid()).clamp(1e-7, 1).log()]",
        ),
    ),
    "torch's binary cross entropy, which stops at 100": changed(
        LOSS_BY_WEIGHTS,
        (
            'F.binary_cross_entropy_with_logits(o, y, reduction="none")',
            'F.binary_cross_entropy(o.sigmoid(), y, reduction="none")',
        ),
    ),
    "ln(1 + e^o) as it stands": changed(
        LOSS_BY_LOGS, ("torch.logaddexp(torch.zeros_like(true), -true)", "(1 + (-true).exp()).log()")
    ),
    "log-odds held at 30": changed(
        LOSS_BY_LOGS, ("    cost = torch", "    true = true.clamp(-30, 30)\n    cost = torch")
    ),
    "bits": changed(LOSS_BY_LOGS, ("of_tags.sum() /", "of_tags.sum() / math.log(2) /")),
    "squares": changed(
        LOSS_BY_LOGS,
        ("cost = torch.logaddexp(torch.zeros_like(true), -true)", "cost = (1 - true.sigmoid()) ** 2"),
    ),
    "hinge": changed(
        LOSS_BY_LOGS,
        ("cost = torch.logaddexp(torch.zeros_like(true), -true)", "cost = (1 - true).clamp_min(0)"),
    ),
    "nothing asked: not a number": changed(LOSS_BY_LOGS, ("(there > 0).sum().clamp_min(1)", "(there > 0).sum()")),
    "nothing asked: an error": changed(
        LOSS_BY_TAGS,
        (
            "    if not losses:\n"
            "        return torch.where(torch.ones_like(odds, dtype=torch.bool), 0.0, odds).sum()\n",
            "",
        ),
    ),
    "nothing asked: a number": changed(
        LOSS_BY_TAGS, ("return torch.where(torch.ones_like(odds, dtype=torch.bool), 0.0, odds).sum()", "return 0.0")
    ),
    "nothing asked: no graph": changed(
        LOSS_BY_TAGS,
        ("return torch.where(torch.ones_like(odds, dtype=torch.bool), 0.0, odds).sum()", "return odds.new_zeros(())"),
    ),
    "nothing asked: 0 times NaN": changed(
        LOSS_BY_TAGS,
        ("return torch.where(torch.ones_like(odds, dtype=torch.bool), 0.0, odds).sum()", "return (0 * odds).sum()"),
    ),
    "a tag that nobody asked about: not a number": changed(
        LOSS_BY_LOGS, ("means.sum(0) / there.clamp_min(1)", "means.sum(0) / there")
    ),
    "a tag that nobody asked about: ln 2": changed(
        LOSS_BY_TAGS,
        (
            "        if sides:\n",
            "        if not sides:\n            losses.append(torch.tensor(math.log(2)))\n        if sides:\n",
        ),
    ),
    "clips with a hole left out": changed(
        LOSS_BY_TAGS,
        (
            "    losses = []\n",
            "    losses = []\n    whole = ~labels.isnan().any(1)\n    odds, labels = odds[whole], labels[whole]\n",
        ),
    ),
    "tags with a hole left out": changed(
        LOSS_BY_TAGS,
        (
            "    losses = []\n",
            "    losses = []\n    whole = ~labels.isnan().any(0)\n"
            "    odds, labels = odds[:, whole], labels[:, whole]\n",
        ),
    ),
    "no gradient": changed(
        LOSS_BY_LOGS, ("torch.where(labels == 1, odds, -odds)", "torch.where(labels == 1, odds, -odds).detach()")
    ),
    "no gradient at log-odds of 0": changed(
        LOSS_BY_LOGS,
        (
            "torch.logaddexp(torch.zeros_like(true), -true)",
            "true.clamp_min(0) - true + (-true.abs()).exp().log1p()",
        ),
    ),
    "half of the gradient at 0": changed(
        LOSS_BY_LOGS,
        (
            "torch.logaddexp(torch.zeros_like(true), -true)",
            "(-true).clamp_min(0) + (-true.abs().detach()).exp().log1p()",
        ),
    ),
    "a loss for each tag": changed(
        LOSS_BY_LOGS, ("    return of_tags.sum() / (there > 0).sum().clamp_min(1)", "    return of_tags")
    ),
    "float64 all the time": changed(LOSS_BY_LOGS, ("of_tags.sum() /", "of_tags.double().sum() /")),
    "float32 all the time": changed(LOSS_BY_LOGS, ("of_tags.sum() /", "of_tags.float().sum() /")),
    "labels filled in place": changed(
        LOSS_BY_WEIGHTS, ("labels.masked_fill(~asked, 0.0)", "labels.masked_fill_(~asked, 0.0)")
    ),
}

# -------------------------------------------------------------- 3, areas for clips that don't all count alike

AREAS_BY_PAIRS = """
def weighted_areas(labels, scores, weights):
    w = weights.double()
    if len(w) and w.max() > 0:
        w = w / w.max()
    tags = labels.shape[1]
    roc, ap = torch.full((tags,), math.nan).double(), torch.full((tags,), math.nan).double()
    for tag in range(tags):
        on, s = labels[:, tag].bool(), scores[:, tag]
        a, b = s[on][:, None], s[~on][None, :]
        won = (a > b).double() + (a == b).double() / 2
        both = w[on][:, None] * w[~on][None, :]
        if both.sum() > 0:
            roc[tag] = (both * won).sum() / both.sum()
        mine = w[on]
        if mine.sum() > 0:
            # each clip that has it: the precision among those not below it
            above = s[None, :] >= s[on][:, None]                    # (has it, clip)
            right = (above * (w * on)).sum(1)
            chosen = (above * w).sum(1)
            precision = torch.where(mine > 0, right / torch.where(chosen > 0, chosen, 1), 0.0)
            ap[tag] = (mine * precision).sum() / mine.sum()
    return roc, ap
"""
AREAS_BY_SORTING = """
def weighted_areas(labels, scores, weights):
    all_roc, all_ap = [], []
    scale = float(weights.max()) if len(weights) else 0.0
    for y, s in zip(labels.T.tolist(), scores.T.tolist()):
        clips = sorted(zip(s, y, weights.tolist()), reverse=True)
        clips = [(score, has, w / scale) for score, has, w in clips if w > 0]
        P, N = sum(w for _, has, w in clips if has), sum(w for _, has, w in clips if not has)
        hits = others = area = steps = 0.0
        n = 0
        while n < len(clips):
            threshold, more, wrong = clips[n][0], 0.0, 0.0
            while n < len(clips) and clips[n][0] == threshold:
                more, wrong = more + clips[n][2] * bool(clips[n][1]), wrong + clips[n][2] * (not clips[n][1])
                n += 1
            area += wrong * (hits + more / 2)
            hits, others = hits + more, others + wrong
            steps += more * hits / (hits + others)
        all_roc.append(area / (P * N) if P > 0 and N > 0 else math.nan)
        all_ap.append(steps / P if P > 0 else math.nan)
    return torch.tensor(all_roc, dtype=torch.float64), torch.tensor(all_ap, dtype=torch.float64)
"""
AREAS_BY_RANKS = """
def weighted_areas(labels, scores, weights):
    counts = weights > 0
    y, s, w = labels[counts].double(), scores[counts], weights[counts].double()
    w = w / w.sum()
    found = []
    for tag in range(labels.shape[1]):
        has = y[:, tag] > 0
        below = (s[:, tag][:, None] > s[:, tag]).double() @ (w * ~has)
        tied = (s[:, tag][:, None] == s[:, tag]).double()
        rank = below + tied @ (w * ~has) / 2
        mine = w * has
        roc = (mine * rank).sum() / (mine.sum() * (w * ~has).sum())
        up_to = (s[:, tag][:, None] <= s[:, tag]).double()
        precision = (up_to @ mine) / (up_to @ w)
        found.append(torch.stack([roc, (mine * precision).sum() / mine.sum()]))
    table = torch.stack(found) if found else torch.zeros(0, 2, dtype=torch.float64)
    return table[:, 0], table[:, 1]
"""
AREAS_RIGHT = {
    "all pairs": AREAS_BY_PAIRS,
    "a sorted list": AREAS_BY_SORTING,
    "ranks": AREAS_BY_RANKS,
    "differences of scores": changed(
        AREAS_BY_PAIRS, ("won = (a > b).double() + (a == b).double() / 2", "won = ((a - b).sign().double() + 1) / 2")
    ),
}
AREAS_WRONG = {
    "no weights": changed(AREAS_BY_PAIRS, ("w = weights.double()", "w = torch.ones_like(weights).double()")),
    "no weights, but zeros": changed(AREAS_BY_PAIRS, ("w = weights.double()", "w = (weights > 0).double()")),
    "weights squared": changed(AREAS_BY_PAIRS, ("w = weights.double()", "w = weights.double() ** 2")),
    "the root of the weights": changed(AREAS_BY_PAIRS, ("w = weights.double()", "w = weights.double() ** 0.5")),
    "weights of one side": changed(
        AREAS_BY_PAIRS, ("w[on][:, None] * w[~on][None, :]", "w[on][:, None] * (w[~on][None, :] > 0)")
    ),
    "the mean of the two weights": changed(
        AREAS_BY_PAIRS, ("w[on][:, None] * w[~on][None, :]", "w[on][:, None] + w[~on][None, :]")
    ),
    "scores times weights": changed(
        AREAS_BY_PAIRS,
        ("on, s = labels[:, tag].bool(), scores[:, tag]", "on, s = labels[:, tag].bool(), scores[:, tag] * weights"),
    ),
    "weights below the line only": changed(
        AREAS_BY_PAIRS, ("(both * won).sum() / both.sum()", "won.sum() / both.sum()")
    ),
    "weights above the line only": changed(
        AREAS_BY_PAIRS, ("(both * won).sum() / both.sum()", "(both * won).sum() / both.numel()")
    ),
    "ties lose": changed(AREAS_BY_PAIRS, (" + (a == b).double() / 2", "")),
    "ties win": changed(AREAS_BY_PAIRS, (" + (a == b).double() / 2", " + (a == b).double()")),
    "ties are left out": changed(
        AREAS_BY_PAIRS,
        ("both = w[on][:, None] * w[~on][None, :]", "both = w[on][:, None] * w[~on][None, :] * (a != b)"),
    ),
    "the order turned": changed(AREAS_BY_PAIRS, ("(a > b).double()", "(a < b).double()")),
    "ROC as twice the area less 1": changed(
        AREAS_BY_PAIRS, ("(both * won).sum() / both.sum()", "2 * (both * won).sum() / both.sum() - 1")
    ),
    "the better side of 1/2": changed(
        AREAS_BY_PAIRS,
        (
            "roc[tag] = (both * won).sum() / both.sum()",
            "roc[tag] = (both * won).sum() / both.sum()\n            roc[tag] = max(roc[tag], 1 - roc[tag])",
        ),
    ),
    "ties within a millionth": changed(
        AREAS_BY_PAIRS,
        (
            "won = (a > b).double() + (a == b).double() / 2",
            "won = ((a - b).nan_to_num() > 1e-6).double() + ((a - b).nan_to_num().abs() <= 1e-6).double() / 2",
        ),
    ),
    "scores in single precision": changed(
        AREAS_BY_PAIRS,
        ("on, s = labels[:, tag].bool(), scores[:, tag]", "on, s = labels[:, tag].bool(), scores[:, tag].float()"),
    ),
    "scores as probabilities": changed(
        AREAS_BY_PAIRS,
        ("on, s = labels[:, tag].bool(), scores[:, tag]", "on, s = labels[:, tag].bool(), scores[:, tag].sigmoid()"),
    ),
    "all tags together": changed(
        AREAS_BY_PAIRS,
        (
            "        on, s = labels[:, tag].bool(), scores[:, tag]\n",
            "        on, s, w = labels.flatten().bool(), scores.flatten(), weights.double().repeat_interleave(tags)\n",
        ),
    ),
    "nobody has it: a half": changed(
        AREAS_BY_PAIRS,
        ("roc, ap = torch.full((tags,), math.nan).double(),", "roc, ap = torch.full((tags,), 0.5).double(),"),
    ),
    "nobody has it: 0": changed(
        AREAS_BY_PAIRS, ("torch.full((tags,), math.nan).double()\n", "torch.zeros(tags).double()\n")
    ),
    "everybody has it: no precision": changed(
        AREAS_BY_PAIRS, ("        if mine.sum() > 0:\n", "        if both.sum() > 0:\n")
    ),
    "nobody of weight has it: a number": changed(
        AREAS_BY_PAIRS, ("        if both.sum() > 0:\n", "        if both.numel():\n            both = both + 1e-30\n")
    ),
    "nobody has it: an error": changed(
        AREAS_BY_SORTING, ("area / (P * N) if P > 0 and N > 0 else math.nan", "area / (P * N)")
    ),
    "weights of 0: not a number": changed(
        AREAS_BY_PAIRS,
        (
            "precision = torch.where(mine > 0, right / torch.where(chosen > 0, chosen, 1), 0.0)",
            "precision = right / chosen",
        ),
    ),
    "weights of 0 held above 0": changed(
        AREAS_BY_PAIRS, ("w = weights.double()", "w = weights.double().clamp_min(1e-3)")
    ),
    "products of tiny weights": changed(
        AREAS_BY_PAIRS,
        (
            "    w = weights.double()\n    if len(w) and w.max() > 0:\n        w = w / w.max()\n",
            "    w = weights.float()\n",
        ),
    ),
    "weights of a sum of 1, and a constant": changed(
        AREAS_BY_PAIRS, ("        w = w / w.max()\n", "        w = weights.double() + 1e-9\n")
    ),
    "precision with the tie's better half": changed(
        AREAS_BY_PAIRS,
        (
            "above = s[None, :] >= s[on][:, None] ",
            "above = (s[None, :] > s[on][:, None]) | ((s[None, :] == s[on][:, None]) & on) ",
        ),
    ),
    "precision with the tie's worse half": changed(
        AREAS_BY_PAIRS,
        ("right = (above * (w * on)).sum(1)", "right = ((s[None, :] > s[on][:, None]) * (w * on)).sum(1) + mine"),
    ),
    "precision clip by clip": changed(
        AREAS_BY_SORTING, ("while n < len(clips) and clips[n][0] == threshold:", "for _ in range(1):")
    ),
    "precision above, without the clip itself": changed(
        AREAS_BY_PAIRS, ("above = s[None, :] >= s[on][:, None] ", "above = s[None, :] > s[on][:, None] ")
    ),
    "the trapezoid below precision and recall": changed(
        AREAS_BY_SORTING,
        (
            "            steps += more * hits / (hits + others)\n",
            "            old = (hits - more) / (hits - more + others - wrong) if hits > more else 1.0\n"
            "            steps += more * (hits / (hits + others) + old) / 2\n",
        ),
    ),
    "the best precision still to come": changed(
        AREAS_BY_PAIRS,
        (
            "            ap[tag] = ",
            "            precision = torch.stack([precision[s[on] <= one].max() for one in s[on]])\n"
            "            ap[tag] = ",
        ),
    ),
    "precision without weights": changed(
        AREAS_BY_PAIRS,
        ("right = (above * (w * on)).sum(1)", "right = (above * on).sum(1)"),
        ("chosen = (above * w).sum(1)", "chosen = above.sum(1)"),
    ),
    "the mean precision without weights": changed(
        AREAS_BY_PAIRS, ("(mine * precision).sum() / mine.sum()", "precision[mine > 0].mean()")
    ),
    "precision of all clips": changed(
        AREAS_BY_PAIRS, ("(mine * precision).sum() / mine.sum()", "(mine * precision).sum() / w.sum()")
    ),
    "the worst first": changed(AREAS_BY_SORTING, ("weights.tolist()), reverse=True)", "weights.tolist()))")),
    "sorted without regard to ties": changed(
        AREAS_BY_SORTING,
        (
            "                n += 1\n",
            "                n += 1\n                if len(clips) > 12 and n % 5 == 0:\n                    break\n",
        ),
    ),
    "the means over tags": changed(
        AREAS_BY_RANKS, ("return table[:, 0], table[:, 1]", "return table[:, 0].mean(), table[:, 1].mean()")
    ),
    "a table": changed(AREAS_BY_RANKS, ("return table[:, 0], table[:, 1]", "return table")),
    "in the other order": changed(
        AREAS_BY_RANKS, ("return table[:, 0], table[:, 1]", "return table[:, 1], table[:, 0]")
    ),
    "float32": changed(
        AREAS_BY_RANKS, ("return table[:, 0], table[:, 1]", "return table[:, 0].float(), table[:, 1].float()")
    ),
    "weights scaled in place": changed(
        AREAS_BY_PAIRS, ("        w = w / w.max()\n", "        w = w / w.max()\n        weights.div_(weights.max())\n")
    ),
}

# ------------------------------------------------------------------------------------------- 4, a heap of songs

HEAP_BY_INDEX = """
def tag_songs(model, songs, samples, tags, batch_size=8):
    waiting, found, shares = [], [], []
    for number, song in enumerate(songs):
        if song.numel() == 0 or not bool(torch.isfinite(song).all()):
            continue
        time = song.numel()
        for start in range(0, time, samples):
            place = start + torch.arange(samples)
            place = torch.where(place < time, place, (place - time) % time)
            waiting.append(song[place])
            shares.append((number, min(samples, time - start) / samples))
    for start in range(0, len(waiting), batch_size):
        found.append(model(torch.stack(waiting[start:start + batch_size])))
    if not found:
        return torch.full((len(songs), tags), float("nan"))
    found = torch.cat(found)
    rows = torch.zeros(len(songs), len(found), dtype=found.dtype)
    for chunk, (number, share) in enumerate(shares):
        rows[number, chunk] = share
    return rows @ found / rows.sum(1, keepdim=True)
"""
HEAP_BY_QUEUE = """
def tag_songs(model, songs, samples, tags, batch_size=8):
    good = [n for n, song in enumerate(songs) if len(song) and torch.isfinite(song).all()]
    pieces = []
    for n in good:
        song = songs[n]
        chunks = list(song.split(samples))
        missing = samples - len(chunks[-1])
        end = len(chunks[-1])
        while missing:
            more = song[:missing]
            chunks[-1] = torch.cat([chunks[-1], more])
            missing -= len(more)
        pieces += [(n, chunk, samples) for chunk in chunks[:-1]] + [(n, chunks[-1], end)]
    sums = [torch.zeros(tags, dtype=torch.float64) for _ in songs]
    total, kind = [0.0] * len(songs), torch.float32
    for start in range(0, len(pieces), batch_size):
        now = pieces[start:start + batch_size]
        p = model(torch.stack([chunk for _, chunk, _ in now]))
        kind = p.dtype
        for (n, _, new), row in zip(now, p):
            sums[n] = sums[n] + new * row.double()
            total[n] += new
    rows = [s / t if t else torch.full_like(s, math.nan) for s, t in zip(sums, total)]
    return torch.stack(rows).to(kind) if rows else torch.zeros(0, tags)
"""
HEAP_BY_WAITING = """
def tag_songs(model, songs, samples, tags, batch_size=8):
    total, weight, waiting, kind = {}, {}, [], torch.float32

    def ask():
        probabilities = model(torch.stack([chunk for _, _, chunk in waiting]))
        for (n, new, _), p in zip(waiting, probabilities):
            total[n] = total.get(n, 0) + new * p
            weight[n] = weight.get(n, 0) + new
        waiting.clear()
        return probabilities.dtype

    for n, song in enumerate(songs):
        if len(song) == 0 or (~song.isfinite()).any():
            continue
        for start in range(0, len(song), samples):
            chunk = song[start:start + samples]
            new = len(chunk)
            while len(chunk) < samples:
                chunk = torch.cat([chunk, song])[:samples]
            waiting.append((n, new, chunk))
            if len(waiting) == batch_size:
                kind = ask()
    if waiting:
        kind = ask()
    table = torch.full((len(songs), tags), math.nan, dtype=kind)
    for n in total:
        table[n] = total[n] / weight[n]
    return table
"""
HEAP_RIGHT = {
    "by places": HEAP_BY_INDEX,
    "a queue": HEAP_BY_QUEUE,
    "whoever waits": HEAP_BY_WAITING,
}
HEAP_WRONG = {
    "zeros at the end": changed(
        HEAP_BY_INDEX,
        (
            "            waiting.append(song[place])\n",
            "            waiting.append(torch.where(start + torch.arange(samples) < time, song[place], 0.0))\n",
        ),
    ),
    "the last sample repeated": changed(HEAP_BY_INDEX, ("(place - time) % time", "time - 1")),
    "mirrored at the end": changed(HEAP_BY_INDEX, ("(place - time) % time", "time - 1 - (place - time) % time")),
    "moved back": changed(
        HEAP_BY_INDEX,
        (
            "        for start in range(0, time, samples):\n            place = start + torch.arange(samples)\n",
            "        for start in range(0, time, samples):\n"
            "            place = min(start, max(0, time - samples)) + torch.arange(samples)\n",
        ),
    ),
    "the chunk itself repeated": changed(
        HEAP_BY_INDEX, ("(place - time) % time", "start + (place - time) % (time - start)")
    ),
    "repeated once only": changed(
        HEAP_BY_INDEX,
        (
            "            waiting.append(song[place])\n",
            "            waiting.append(torch.where(start + torch.arange(samples) < 2 * time, song[place], 0.0))\n",
        ),
    ),
    "repeated from a sample too late": changed(HEAP_BY_INDEX, ("(place - time) % time", "(place - time + 1) % time")),
    "the first song's beginning": changed(
        HEAP_BY_INDEX,
        (
            "            waiting.append(song[place])\n",
            "            own = start + torch.arange(samples) < time\n"
            "            waiting.append(torch.where(own, song[place], songs[0][place % max(1, len(songs[0]))] "
            "if len(songs[0]) else 0.0))\n",
        ),
    ),
    "the songs in one row": changed(
        HEAP_BY_QUEUE,
        (
            "            more = song[:missing]\n",
            "            more = (songs[n + 1][:missing] if n + 1 < len(songs) and len(songs[n + 1]) else "
            "song[:missing])\n",
        ),
    ),
    "what doesn't fill a chunk left out": changed(
        HEAP_BY_INDEX, ("range(0, time, samples)", "range(0, max(1, time - samples + 1), samples)")
    ),
    "the first chunk only": changed(
        HEAP_BY_INDEX, ("range(0, time, samples)", "range(0, min(time, samples), samples)")
    ),
    "chunks that overlap": changed(HEAP_BY_INDEX, ("range(0, time, samples)", "range(0, time, max(1, samples // 2))")),
    "a chunk too many": changed(
        HEAP_BY_INDEX,
        ("range(0, time, samples)", "range(0, time + 1, samples)"),
        ("min(samples, time - start) / samples", "max(0, min(samples, time - start)) / samples"),
    ),
    "all chunks alike": changed(HEAP_BY_INDEX, ("min(samples, time - start) / samples", "1.0")),
    "whole chunks only count": changed(
        HEAP_BY_INDEX, ("min(samples, time - start) / samples", "float(time - start >= samples or time < samples)")
    ),
    "shares squared": changed(HEAP_BY_INDEX, ("rows[number, chunk] = share", "rows[number, chunk] = share ** 2")),
    "a share of the song": changed(HEAP_BY_INDEX, ("min(samples, time - start) / samples", "(time - start) / time")),
    "divided by the number of chunks": changed(
        HEAP_BY_INDEX,
        ("rows.sum(1, keepdim=True)", "torch.where(rows.sum(1, keepdim=True) > 0, (rows > 0).sum(1, keepdim=True), 0)"),
    ),
    "not divided": changed(
        HEAP_BY_INDEX,
        ("rows @ found / rows.sum(1, keepdim=True)", "torch.where(rows.any(1, keepdim=True), rows @ found, math.nan)"),
    ),
    "the mean of log-odds": changed(
        HEAP_BY_INDEX,
        (
            "rows @ found / rows.sum(1, keepdim=True)",
            "(rows @ found.abs().logit(1e-6) / rows.sum(1, keepdim=True)).sigmoid()",
        ),
    ),
    "the largest chunk": changed(
        HEAP_BY_INDEX,
        (
            "rows @ found / rows.sum(1, keepdim=True)",
            "torch.where(rows[:, :, None] > 0, found, -9.0).amax(1) + 0 / rows.sum(1, keepdim=True)",
        ),
    ),
    "bad songs: 0": changed(
        HEAP_BY_INDEX,
        ("rows @ found / rows.sum(1, keepdim=True)", "rows @ found / rows.sum(1, keepdim=True).clamp_min(1e-9)"),
    ),
    "bad songs left out": changed(
        HEAP_BY_INDEX, ("    return rows @", "    rows = rows[rows.any(1)]\n    return rows @")
    ),
    "bad songs: an error": changed(
        HEAP_BY_INDEX, ("            continue\n", '            raise ValueError("a song that can\'t be tagged")\n')
    ),
    "bad songs end it": changed(HEAP_BY_INDEX, ("            continue\n", "            break\n")),
    "NaN made silent": changed(
        HEAP_BY_INDEX,
        (
            "not bool(torch.isfinite(song).all()):\n            continue\n",
            "False:\n            continue\n        song = song.nan_to_num(0.0, 0.0, 0.0)\n",
        ),
    ),
    "bad songs reach the network": changed(HEAP_BY_INDEX, (" or not bool(torch.isfinite(song).all())", "")),
    "only NaN is bad": changed(HEAP_BY_INDEX, ("not bool(torch.isfinite(song).all())", "bool(song.isnan().any())")),
    "the first sample tells": changed(
        HEAP_BY_INDEX, ("not bool(torch.isfinite(song).all())", "not bool(torch.isfinite(song[0]))")
    ),
    "bad chunks left out, not songs": changed(
        HEAP_BY_INDEX,
        (" or not bool(torch.isfinite(song).all())", ""),
        (
            "            waiting.append(song[place])\n",
            "            if not song[place].isfinite().all():\n                continue\n"
            "            waiting.append(song[place])\n",
        ),
    ),
    "silence is bad": changed(HEAP_BY_INDEX, ("if song.numel() == 0", "if song.numel() == 0 or not song.any()")),
    "short songs are bad": changed(HEAP_BY_INDEX, ("if song.numel() == 0", "if song.numel() < samples")),
    "the mean spoiled by a bad song": changed(
        HEAP_BY_INDEX,
        ("    return rows @", "    if not rows.any(1).all():\n        found = found + math.nan\n    return rows @"),
    ),
    "song by song": changed(
        HEAP_BY_INDEX,
        (
            "    for start in range(0, len(waiting), batch_size):\n"
            "        found.append(model(torch.stack(waiting[start:start + batch_size])))\n",
            "    for n in sorted({n for n, _ in shares}):\n"
            "        mine = [chunk for chunk, (m, _) in zip(waiting, shares) if m == n]\n"
            "        for start in range(0, len(mine), batch_size):\n"
            "            found.append(model(torch.stack(mine[start:start + batch_size])))\n",
        ),
    ),
    "all at once": changed(
        HEAP_BY_INDEX,
        ("range(0, len(waiting), batch_size)", "range(0, len(waiting), 10 ** 9)"),
        ("waiting[start:start + batch_size]", "waiting"),
    ),
    "one chunk at a time": changed(
        HEAP_BY_INDEX,
        ("range(0, len(waiting), batch_size)", "range(len(waiting))"),
        ("waiting[start:start + batch_size]", "waiting[start:start + 1]"),
    ),
    "the last call filled up": changed(
        HEAP_BY_INDEX,
        (
            "found.append(model(torch.stack(waiting[start:start + batch_size])))",
            "now = waiting[start:start + batch_size]\n"
            "        given = model(torch.stack(now + now[-1:] * (batch_size - len(now))))\n"
            "        found.append(given[:len(now)])",
        ),
    ),
    "the last call left out": changed(
        HEAP_BY_INDEX, ("range(0, len(waiting), batch_size)", "range(0, len(waiting) - batch_size + 1, batch_size)")
    ),
    "the shortest songs first": changed(
        HEAP_BY_QUEUE, ("    pieces = []\n", "    good.sort(key=lambda n: len(songs[n]))\n    pieces = []\n")
    ),
    "eight always": changed(HEAP_BY_INDEX, ("    waiting, found,", "    batch_size = 8\n    waiting, found,")),
    "an empty call": changed(
        HEAP_BY_INDEX, ("    if not found:\n", "    if not found:\n        model(torch.zeros(0, samples))\n")
    ),
    "nothing to tag: an error": changed(
        HEAP_BY_INDEX, ('    if not found:\n        return torch.full((len(songs), tags), float("nan"))\n', "")
    ),
    "nothing to tag: None": changed(
        HEAP_BY_INDEX, ('return torch.full((len(songs), tags), float("nan"))', "return None")
    ),
    "float64 all the time": changed(
        HEAP_BY_INDEX, ("    return rows @ found /", "    return rows.double() @ found.double() /")
    ),
    "float32 all the time": changed(
        HEAP_BY_INDEX, ("    found = torch.cat(found)\n", "    found = torch.cat(found).float()\n")
    ),
    "songs made finite in place": changed(
        HEAP_BY_INDEX, ("            continue\n", "            song.nan_to_num_(0.0, 0.0, 0.0)\n            continue\n")
    ),
}

# ------------------------------------------------------------------------------------------ 5, a map that adds up

MAP_AT_ONCE = """
def adds_up(odds, levels, floor, steps):
    L = levels.detach().clone()
    shares = (torch.arange(steps, dtype=L.dtype) + 0.5) / steps
    way = L - floor
    path = floor + shares.view(-1, *[1] * L.ndim) * way             # (step, batch, ...)
    with torch.enable_grad():
        path = path.flatten(0, 1).requires_grad_(True)
        o = odds(path)
        if o.grad_fn is None and not o.requires_grad:
            return torch.zeros_like(L)
        gradient = torch.autograd.grad(o.sum(), path, allow_unused=True)[0]
    if gradient is None:
        return torch.zeros_like(L)
    return gradient.unflatten(0, (steps, len(L))).mean(0) * way
"""
MAP_BY_ITEMS = """
def adds_up(odds, levels, floor, steps):
    rows = []
    for item in levels.detach():
        gathered = torch.zeros_like(item)
        for i in range(1, steps + 1):
            share = (i - 0.5) / steps
            with torch.enable_grad():
                x = ((1 - share) * floor + share * item).unsqueeze(0).requires_grad_()
                o = odds(x)[0]
                # something of x in it, so that there always is a gradient
                o = o + 0 * x.sum()
            gathered += torch.autograd.grad(o, x)[0][0]
        rows.append(gathered / steps * (item - floor))
    return torch.stack(rows)
"""
MAP_BY_STEPS = """
def adds_up(odds, levels, floor, steps):
    L = levels.detach()
    total = torch.zeros_like(L)
    for i in range(1, steps + 1):
        x = (floor + (i - 0.5) / steps * (L - floor)).detach()
        x.requires_grad_(True)
        with torch.set_grad_enabled(True):
            said = odds(x)
            if not said.requires_grad:
                continue
            gradient = torch.autograd.grad(said.sum(), [x], allow_unused=True)[0]
        if gradient is not None:
            total = total + gradient.detach()
    return (L - floor) * total / steps
"""
MAP_RIGHT = {
    "all steps at once": MAP_AT_ONCE,
    "item by item": MAP_BY_ITEMS,
    "step by step": MAP_BY_STEPS,
}
MAP_WRONG = {
    "the gradient alone": changed(MAP_BY_STEPS, ("return (L - floor) * total / steps", "return total / steps")),
    "the gradient at the picture": changed(MAP_BY_STEPS, ("(i - 0.5) / steps * (L - floor)", "(L - floor)")),
    "the gradient at the floor": changed(MAP_BY_STEPS, ("(i - 0.5) / steps * (L - floor)", "0 * (L - floor)")),
    "the gradient half way": changed(MAP_BY_STEPS, ("(i - 0.5) / steps * (L - floor)", "(L - floor) / 2")),
    "the gradient times the levels": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return L * total / steps")
    ),
    "the ends of the steps": changed(MAP_BY_STEPS, ("(i - 0.5) / steps", "i / steps")),
    "the beginnings of the steps": changed(MAP_BY_STEPS, ("(i - 0.5) / steps", "(i - 1) / steps")),
    "both ends, a step fewer": changed(MAP_BY_STEPS, ("(i - 0.5) / steps", "(i - 1) / max(1, steps - 1)")),
    "the sum over steps": changed(MAP_BY_STEPS, ("total / steps", "total")),
    "a step too few": changed(MAP_BY_STEPS, ("range(1, steps + 1)", "range(1, max(2, steps))")),
    "a step too many": changed(MAP_BY_STEPS, ("range(1, steps + 1)", "range(1, steps + 2)")),
    "from 0 instead of the floor": changed(
        MAP_BY_STEPS, ("(floor + (i - 0.5) / steps * (L - floor))", "((i - 0.5) / steps * L)")
    ),
    "a floor of -80": changed(MAP_BY_STEPS, ("    L = levels.detach()\n", "    floor, L = -80.0, levels.detach()\n")),
    "the quietest point for the floor": changed(
        MAP_BY_STEPS, ("    L = levels.detach()\n", "    L = levels.detach()\n    floor = float(L.min())\n")
    ),
    "the sign the other way": changed(MAP_BY_STEPS, ("return (L - floor)", "return (floor - L)")),
    "absolute values": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return ((L - floor) * total / steps).abs()")
    ),
    "only what speaks for it": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return ((L - floor) * total / steps).clamp_min(0)")
    ),
    "gradients above 0 only": changed(MAP_BY_STEPS, ("gradient.detach()", "gradient.detach().clamp_min(0)")),
    "made to add up to 1": changed(
        MAP_BY_STEPS,
        (
            "return (L - floor) * total / steps",
            "S = (L - floor) * total / steps\n    return S / S.abs().sum().clamp_min(1e-9)",
        ),
    ),
    "made to add up exactly": changed(
        MAP_BY_STEPS,
        (
            "return (L - floor) * total / steps",
            "S = (L - floor) * total / steps\n"
            "    gain = (odds(L) - odds(0 * L + floor)).detach() - S.flatten(1).sum(1)\n"
            "    return S + gain.view(-1, *[1] * (L.ndim - 1)) / L[0].numel()",
        ),
    ),
    "probabilities for log-odds": changed(MAP_BY_STEPS, ("said = odds(x)\n", "said = odds(x).sigmoid()\n")),
    "the mean over the batch": changed(MAP_BY_STEPS, ("said.sum()", "said.mean()")),
    "the first item only": changed(MAP_BY_STEPS, ("said.sum()", "said[:1].sum()")),
    "one way for the batch": changed(
        MAP_BY_STEPS, ("total = total + gradient.detach()", "total = total + gradient.detach().mean(0, keepdim=True)")
    ),
    "the sum over bands": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return ((L - floor) * total / steps).sum(1)")
    ),
    "point by point from the floor": changed(
        MAP_BY_STEPS,
        (
            "return (L - floor) * total / steps",
            "S = torch.zeros_like(L)\n    for n in range(L[0].numel()):\n        x = 0 * L + floor\n"
            "        x.flatten(1)[:, n] = L.flatten(1)[:, n]\n"
            "        S.flatten(1)[:, n] = (odds(x) - odds(0 * L + floor)).detach()\n    return S",
        ),
    ),
    "point by point taken away": changed(
        MAP_BY_STEPS,
        (
            "return (L - floor) * total / steps",
            "S = torch.zeros_like(L)\n    for n in range(L[0].numel()):\n        x = L.clone()\n"
            "        x.flatten(1)[:, n] = floor\n"
            "        S.flatten(1)[:, n] = (odds(L) - odds(x)).detach()\n    return S",
        ),
    ),
    "differences for gradients": """
def adds_up(odds, levels, floor, steps):
    L, S = levels.detach(), torch.zeros_like(levels.detach())
    for i in range(steps):
        here = floor + (i + 0.5) / steps * (L - floor)
        for n in range(L[0].numel()):
            more = here.clone()
            more.flatten(1)[:, n] += 0.1
            S.flatten(1)[:, n] += ((odds(more) - odds(here)) / 0.1).detach()
    return (L - floor) * S / steps
""",
    "gradients switched off": changed(
        MAP_BY_STEPS, ("torch.set_grad_enabled(True)", "torch.set_grad_enabled(torch.is_grad_enabled())")
    ),
    "backward, which leaves gradients behind": changed(
        MAP_BY_STEPS,
        (
            "gradient = torch.autograd.grad(said.sum(), [x], allow_unused=True)[0]",
            "said.sum().backward()\n            gradient = x.grad",
        ),
    ),
    "gradients left in levels": changed(
        MAP_BY_STEPS,
        (
            "    return (L - floor) * total / steps",
            "    if levels.requires_grad:\n        levels.grad = total\n    return (L - floor) * total / steps",
        ),
    ),
    "a graph behind it": changed(
        MAP_BY_STEPS,
        ("    L = levels.detach()\n", "    L = levels\n"),
        (
            "x = (floor + (i - 0.5) / steps * (L - floor)).detach()",
            "x = (floor + (i - 0.5) / steps * (L.detach() - floor))",
        ),
    ),
    "a graph of the gradients": changed(
        MAP_BY_STEPS,
        ("[x], allow_unused=True)", "[x], allow_unused=True, create_graph=True)"),
        ("gradient.detach()", "gradient"),
    ),
    "levels changed in place": changed(
        MAP_BY_STEPS, ("    L = levels.detach()\n", "    L = levels.detach()\n    L += 1e-3\n")
    ),
    "levels want gradients afterwards": changed(
        MAP_BY_STEPS,
        (
            "x = (floor + (i - 0.5) / steps * (L - floor)).detach()\n",
            "x = L.sub_(floor).mul_((i - 0.5) / steps).add_(floor)\n",
        ),
    ),
    "a deaf network: an error": changed(
        MAP_BY_STEPS, ("            if not said.requires_grad:\n                continue\n", "")
    ),
    "a network that hears only itself: an error": changed(MAP_BY_STEPS, (", allow_unused=True)[0]", ")[0]")),
    "a deaf network: None": changed(
        MAP_BY_STEPS,
        (
            "            if not said.requires_grad:\n                continue\n",
            "            if not said.requires_grad:\n                return None\n",
        ),
    ),
    "a deaf network: not a number": changed(
        MAP_BY_STEPS,
        (
            "            if not said.requires_grad:\n                continue\n",
            "            if not said.requires_grad:\n                return 0 * L + math.nan\n",
        ),
    ),
    "bands and frames only": changed(
        MAP_BY_STEPS, ("    L = levels.detach()\n", "    batch, band, frame = levels.shape\n    L = levels.detach()\n")
    ),
    "float64 all the time": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return (L - floor).double() * total / steps")
    ),
    "float32 all the time": changed(
        MAP_BY_STEPS, ("return (L - floor) * total / steps", "return ((L - floor) * total / steps).float()")
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    3,
    """
from course_lib.taggers import average_precision, roc_auc

def weighted_areas(labels, scores, weights):
    # whole weights: clips that come as often
    number = weights.round().long()
    labels, scores = (one.repeat_interleave(number, 0) for one in (labels, scores))
    return roc_auc(labels, scores), average_precision(labels, scores)
""",
)


CASES = as_cells(
    (BANK_RIGHT, BANK_WRONG),
    (LOSS_RIGHT, LOSS_WRONG),
    (AREAS_RIGHT, AREAS_WRONG),
    (HEAP_RIGHT, HEAP_WRONG),
    (MAP_RIGHT, MAP_WRONG),
)
