"""Answers to assignment 14 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# --------------------------------------------------------------------------------- 1, what stays, and what is left

STAYS = """
def stays_and_rest(J, X):
    a, b = J.abs(), X.abs()
    top = torch.maximum(a, b)
    nothing = a == 0
    M = (a / top.masked_fill(top == 0, 1)).masked_fill(nothing, 0)
    return M * X, X - M * X
"""
STAYS_BY_CASES = """
def stays_and_rest(J, X):
    a, b = J.abs(), X.abs()
    softer = a < b
    M = torch.where(softer, a / torch.where(softer, b, torch.ones_like(b)), (a > 0).to(b.dtype))
    stays = X * M
    return [stays, X - stays]
"""
STAYS_RIGHT = {"the larger one": STAYS, "by cases": STAYS_BY_CASES}


def _stays(*changes):
    return changed(STAYS, *changes)


STAYS_WRONG = {
    "the chapter's epsilon": _stays(("a / top.masked_fill(top == 0, 1)", "a / (top + 1e-8)")),
    "a large epsilon": _stays(("a / top.masked_fill(top == 0, 1)", "a / (top + 1e-3)")),
    "a ratio to the sum": _stays(("top = torch.maximum(a, b)", "top = a + b")),
    "the smaller one below": _stays(("torch.maximum(a, b)", "torch.minimum(a, b)")),
    "not above the mixture": _stays(("top = torch.maximum(a, b)", "top = b")),
    "energies": _stays(("a, b = J.abs(), X.abs()", "a, b = J.abs() ** 2, X.abs() ** 2")),
    "roots": _stays(("a / top.masked_fill(top == 0, 1)", "(a / top.masked_fill(top == 0, 1)).clamp_min(1e-30).sqrt()")),
    "a mask of 0 and 1": _stays(("a / top.masked_fill(top == 0, 1)", "(a >= b) * 1.0 + 0 * a")),
    "J takes the phase": _stays(("return M * X, X - M * X", "return M * J, X - M * J")),
    "J itself": _stays(("return M * X, X - M * X", "return J + 0 * X, X - J")),
    "the rest of J": _stays(("X - M * X", "J - M * X")),
    "the rest by a mask of its own": _stays(("X - M * X", "(b / torch.maximum(a, b).clamp_min(1e-30)) * X")),
    "outputs exchanged": _stays(("return M * X, X - M * X", "return X - M * X, M * X")),
    "the mask": _stays(("return M * X, X - M * X", "return M, 1 - M")),
    "levels": _stays(("return M * X, X - M * X", "return M * b, b - M * b")),
    "one output": _stays((", X - M * X", "")),
    "the mask is inverted": _stays(("return M * X, X - M * X", "M = 1 - M\n    return M * X, X - M * X")),
    "0 by 0": _stays((".masked_fill(top == 0, 1)).masked_fill(nothing, 0)", ")")),
    "0 by 0 made 0": _stays((".masked_fill(top == 0, 1)).masked_fill(nothing, 0)", ").nan_to_num(0.0)")),
    "the root of a sum": _stays(
        ("a, b = J.abs(), X.abs()", "a, b = (J.real ** 2 + J.imag ** 2).sqrt(), (X.real ** 2 + X.imag ** 2).sqrt()")
    ),
    "real parts": _stays(("J.abs()", "J.real.abs()")),
    "sums of parts": _stays(("J.abs()", "(J.real.abs() + J.imag.abs())")),
    "the whole spectrum's largest": _stays(("torch.maximum(a, b)", "torch.maximum(a, b).max().expand(a.shape)")),
    "no gradient": _stays(("a, b = J.abs()", "a, b = J.detach().abs()"), ("M * X, X", "M * X + 0 * J, X")),
    "in double precision": _stays(
        ("return M * X, X - M * X", "M = M.double()\n    return (M * X).to(torch.complex128), X - M * X")
    ),
    "X is changed": _stays(("    nothing", "    if not X.requires_grad:\n        X *= 0.999999\n    nothing")),
}

# -------------------------------------------------------------------------------------------- 2, at several sizes

MASKED = """
def masked_at(x, J, sizes):
    found = []
    time = x.shape[-1]
    for n in sizes:
        hop = n // 2
        more = (hop - time % hop) % hop
        window = torch.hann_window(n, periodic=True).to(x.dtype).sqrt()
        spectra = []
        for signal in (x, J):
            frames = F.pad(signal, (hop, more + hop)).unfold(-1, n, hop) * window
            spectra.append(torch.fft.rfft(frames))
        X, S = spectra
        a = S.abs()
        top = torch.maximum(a, X.abs())
        M = (a / top.masked_fill(top == 0, 1)).masked_fill(a == 0, 0)
        pieces = torch.fft.irfft(X * M, n=n) * window
        total = F.fold(pieces.mT, (1, time + more + 2 * hop), (1, n), stride=(1, hop))[:, 0, 0]
        found.append(total[:, hop:hop + time])
    return torch.stack(found)
"""
MASKED_BY_FRAMES = """
def masked_at(x, J, sizes):
    def one(n):
        hop, time = n // 2, x.shape[1]
        count = (time + hop - 1) // hop + 1
        w = torch.sin(math.pi * torch.arange(n, dtype=torch.float64) / n).to(x.dtype)
        song, steered = (F.pad(s, (hop, count * hop - time)) for s in (x, J))
        y = torch.zeros_like(song)
        for k in range(count):
            X = torch.fft.rfft(song[:, k * hop:k * hop + n] * w)
            S = torch.fft.rfft(steered[:, k * hop:k * hop + n] * w)
            keep = S.abs() < X.abs()
            M = torch.where(keep, S.abs() / torch.where(keep, X.abs(), 1.0), (S.abs() > 0) * 1.0)
            piece = torch.fft.irfft(M * X, n) * w
            y = y + F.pad(piece, (k * hop, y.shape[1] - k * hop - n))
        return y[:, hop:hop + time]
    return torch.stack([one(n) for n in sizes]).to(x.dtype)
"""
MASKED_RIGHT = {"folded": MASKED, "frame by frame": MASKED_BY_FRAMES}


def _masked(*changes):
    return changed(MASKED, *changes)


MASKED_WRONG = {
    "Hann's window itself": _masked((".to(x.dtype).sqrt()", ".to(x.dtype)")),
    "Hann's window once": _masked((".to(x.dtype).sqrt()", ".to(x.dtype)"), ("n=n) * window", "n=n)")),
    "the root once": _masked(("n=n) * window", "n=n)")),
    "no window": _masked((".to(x.dtype).sqrt()", ".to(x.dtype) * 0 + 0.5 ** 0.5")),
    "a symmetric window": _masked(("periodic=True", "periodic=False")),
    "Hamming": _masked(("torch.hann_window(n, periodic=True)", "torch.hamming_window(n)")),
    "quarter hops": _masked(("hop = n // 2", "hop = max(1, n // 4)")),
    "nothing before the beginning": _masked(
        ("F.pad(signal, (hop, more + hop))", "F.pad(signal, (0, more + 2 * hop))"),
        ("total[:, hop:hop + time]", "total[:, :time]"),
    ),
    "nothing behind the end": _masked(
        ("more = (hop - time % hop) % hop", "more = max(0, n - time - hop) if time < n else -(time % hop)")
    ),
    "mirrored ends": _masked(
        ("F.pad(signal, (hop, more + hop))", "F.pad(signal[:, None], (hop, more + hop), mode='replicate')[:, 0]")
    ),
    "a hop late": _masked(("total[:, hop:hop + time]", "total[:, :time]")),
    "the padded song": _masked(("total[:, hop:hop + time]", "total")),
    "the first size": _masked(("for n in sizes:", "for n in sizes[:1]:")),
    "sizes in order": _masked(("for n in sizes:", "for n in sorted(sizes):")),
    "each size once": _masked(("for n in sizes:", "for n in dict.fromkeys(sizes):")),
    "the mean of sizes": _masked(("torch.stack(found)", "torch.stack(found).mean(0, keepdim=True)")),
    "the batch first": _masked(("torch.stack(found)", "torch.stack(found, 1)")),
    "a list": _masked(("torch.stack(found)", "found")),
    "the mask of the sum": _masked(("torch.maximum(a, X.abs())", "a + X.abs()")),
    "a mask above 1": _masked(("torch.maximum(a, X.abs())", "X.abs()")),
    "an epsilon": _masked(("(a / top.masked_fill(top == 0, 1)).masked_fill(a == 0, 0)", "a / (top + 1e-4)")),
    "0 by 0": _masked(("(a / top.masked_fill(top == 0, 1)).masked_fill(a == 0, 0)", "a / top")),
    "0 by 0 made 0": _masked(("(a / top.masked_fill(top == 0, 1)).masked_fill(a == 0, 0)", "(a / top).nan_to_num(0)")),
    "J masked by x": _masked(("X * M, n=n", "S * M, n=n")),
    "the phase of J": _masked(("X * M, n=n", "X.abs() * M * torch.exp(1j * S.angle()), n=n")),
    "no phase": _masked(("X * M, n=n", "(X.abs() * M).to(X.dtype), n=n")),
    "the rest": _masked(("X * M, n=n", "X * (1 - M), n=n")),
    "one mask for all frames": _masked(("pieces =", "M = M.mean(1, keepdim=True)\n        pieces =")),
    "no gradient": _masked(("a = S.abs()", "a = S.detach().abs()")),
    "in single precision": _masked(
        ("found.append(total[:, hop:hop + time])", "found.append(total[:, hop:hop + time].float())")
    ),
    "the first of the batch": _masked(
        ("found.append(total[:, hop:hop + time])", "found.append(total[:1, hop:hop + time].expand(x.shape))")
    ),
    "the song is changed": _masked(("    time = x", "    x *= 1.00001\n    time = x")),
}

# ------------------------------------------------------------------------ 3, no certainty stops the gradient

TAGGING = """
def tagging_loss(log_odds, targets):
    total = 0
    for a, y in zip(log_odds, targets):
        chunks = a.shape[2]
        signed = torch.where(y.bool(), a, -a)
        log_p = F.logsigmoid(signed).logsumexp(dim=2) - math.log(chunks)
        total = total - log_p.mean(dim=-1).mean(dim=0)
    return total / len(targets)
"""
TAGGING_BY_SOFTPLUS = """
def tagging_loss(log_odds, targets):
    losses = []
    for a, y in zip(log_odds, targets):
        yes = -torch.logsumexp(-F.softplus(-a), dim=-2)
        no = -torch.logsumexp(-F.softplus(a), dim=-2)
        both = y * yes + (1 - y) * no + torch.tensor(float(a.shape[-2])).log()
        losses.append(both.sum(dim=(0, 2)) / (both.shape[0] * both.shape[2]))
    return sum(losses) / len(losses)
"""
TAGGING_RIGHT = {"signs": TAGGING, "softplus": TAGGING_BY_SOFTPLUS}


def _tagging(*changes):
    return changed(TAGGING, *changes)


TAGGING_WRONG = {
    "from probabilities": """
def tagging_loss(log_odds, targets):
    losses = []
    for a, y in zip(log_odds, targets):
        p = a.sigmoid().mean(2)
        losses.append(F.binary_cross_entropy(p, y.expand(p.shape), reduction="none").mean((0, 2)))
    return torch.stack(losses).mean(0)
""",
    "probabilities with something added": """
def tagging_loss(log_odds, targets):
    losses = []
    for a, y in zip(log_odds, targets):
        p = a.sigmoid().mean(2)
        losses.append(-(y * (p + 1e-7).log() + (1 - y) * (1 - p + 1e-7).log()).mean((0, 2)))
    return torch.stack(losses).mean(0)
""",
    "probabilities in double precision": """
def tagging_loss(log_odds, targets):
    losses = []
    for a, y in zip(log_odds, targets):
        p = a.double().sigmoid().mean(2)
        loss = F.binary_cross_entropy(p, y.double().expand(p.shape), reduction="none")
        losses.append(loss.mean((0, 2)).to(a.dtype))
    return torch.stack(losses).mean(0)
""",
    "the mean of log-odds": _tagging(
        ("F.logsigmoid(signed).logsumexp(dim=2) - math.log(chunks)", "F.logsigmoid(signed.mean(2))")
    ),
    "the mean of losses over chunks": _tagging(
        ("F.logsigmoid(signed).logsumexp(dim=2) - math.log(chunks)", "F.logsigmoid(signed).mean(2)")
    ),
    "the sum over chunks": _tagging((" - math.log(chunks)", "")),
    "the first chunk": _tagging(
        ("a.shape[2]", "a[:, :, :1].shape[2]"),
        ("torch.where(y.bool(), a, -a)", "torch.where(y.bool(), a, -a)[:, :, :1]"),
    ),
    "the largest chunk": _tagging(
        ("F.logsigmoid(signed).logsumexp(dim=2) - math.log(chunks)", "F.logsigmoid(signed).amax(2)")
    ),
    "the sum over tags": _tagging((".mean(dim=-1)", ".sum(dim=-1)")),
    "the sum over sizes": _tagging((".mean(dim=0)", ".sum(dim=0)")),
    "the last size": _tagging((".mean(dim=0)", "[-1]")),
    "the first size": _tagging((".mean(dim=0)", "[0]")),
    "the sum over taggers": _tagging(("total / len(targets)", "total")),
    "each tag counts the same": _tagging(
        (".mean(dim=-1).mean(dim=0)", ".sum(dim=-1).mean(dim=0)"),
        ("total / len(targets)", "total / sum(len(y) for y in targets)"),
    ),
    "the first tagger": _tagging(
        ("zip(log_odds, targets)", "zip(log_odds[:1], targets[:1])"), ("/ len(targets)", "/ 1")
    ),
    "the last tagger": _tagging(("total = total - log_p", "total = -log_p"), ("total / len(targets)", "total")),
    "wanted tags only": _tagging(("log_p.mean(dim=-1)", "(log_p * y).mean(dim=-1)")),
    "unwanted tags only": _tagging(("log_p.mean(dim=-1)", "(log_p * (1 - y)).mean(dim=-1)")),
    "wanted and unwanted count the same": _tagging(
        (
            "log_p.mean(dim=-1)",
            "((log_p * y).sum(-1) / y.sum().clamp_min(1) + (log_p * (1 - y)).sum(-1) / (1 - "
            "y).sum().clamp_min(1)).div(2)",
        )
    ),
    "the wrong sign": _tagging(("total = total - log_p", "total = total + log_p")),
    "targets exchanged": _tagging(("torch.where(y.bool(), a, -a)", "torch.where(y.bool(), -a, a)")),
    "a softmax over tags": _tagging(
        ("F.logsigmoid(signed).logsumexp(dim=2)", "(y * a.log_softmax(-1)).logsumexp(dim=2)")
    ),
    "bits": _tagging(("total / len(targets)", "total / len(targets) / math.log(2)")),
    "held back": _tagging(("F.logsigmoid(signed)", "F.logsigmoid(signed.clamp(-100, 100))")),
    "held back above": _tagging(("log_p.mean(dim=-1)", "log_p.clamp_min(-100).mean(dim=-1)")),
    "the mean of the batch": _tagging(("total / len(targets)", "(total / len(targets)).mean()")),
    "one mean for the batch": _tagging(
        ("total / len(targets)", "(total / len(targets)).mean().expand(log_odds[0].shape[1])")
    ),
    "squares": _tagging(("total = total - log_p.mean", "total = total + (1 - log_p.exp()).square().mean")),
    "no gradient": _tagging(
        ("signed = torch.where(y.bool(), a, -a)", "signed = torch.where(y.bool(), a, -a).detach() + 0 * a")
    ),
    "in double precision": _tagging(("total / len(targets)", "(total / len(targets)).double()")),
    "log-odds are changed": _tagging(
        ("        chunks", "        if not a.requires_grad:\n            a.mul_(1.00001)\n        chunks")
    ),
}

# ---------------------------------------------------------------------------- 4, straight through a frozen codebook

THROUGH = """
def through_codes(z, codebook):
    book = codebook.detach()
    distance = (z.detach().double().transpose(1, 2).unsqueeze(2) - book.double()).pow(2).sum(-1)
    numbers = distance.argmin(-1)
    codes = book[numbers].transpose(1, 2).to(z.dtype).contiguous()
    # z - z is 0, and has the gradient of z
    return codes + (z - z.detach()), numbers
"""
THROUGH_BY_VECTORS = """
def through_codes(z, codebook):
    book = codebook.detach()
    numbers = torch.zeros(z.shape[0], z.shape[2], dtype=torch.int64)
    for b in range(z.shape[0]):
        for t in range(z.shape[2]):
            away = (book.double() - z[b, :, t].detach().double()).square().sum(1)
            numbers[b, t] = (away == away.min()).nonzero()[0, 0]
    codes = torch.stack([book[row].T for row in numbers]).to(z.dtype)
    class Pass(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z, codes):
            return codes.clone()
        @staticmethod
        def backward(ctx, grad):
            return grad, None
    return Pass.apply(z, codes), numbers
"""
THROUGH_RIGHT = {"the difference of equals": THROUGH, "vector by vector": THROUGH_BY_VECTORS}


def _through(*changes):
    return changed(THROUGH, *changes)


THROUGH_WRONG = {
    "z and the difference": _through(("codes + (z - z.detach())", "z + (codes - z).detach()")),
    "no gradient": _through(("codes + (z - z.detach())", "codes")),
    "twice the gradient": _through(("codes + (z - z.detach())", "codes + 2 * (z - z.detach())")),
    "half of the gradient": _through(("codes + (z - z.detach())", "codes + (z - z.detach()) / 2")),
    "z itself": _through(("return codes + (z - z.detach()), numbers", "return z + 0 * codes, numbers")),
    "the codebook learns": _through(("book = codebook.detach()", "book = codebook")),
    "the codebook learns alone": _through(
        ("book = codebook.detach()", "book = codebook"), ("codes + (z - z.detach())", "codes + 0 * z")
    ),
    "the codebook follows": _through(
        (
            "    return codes",
            "    if not codebook.requires_grad:\n        codebook[numbers[0, 0]] *= 0.99\n    return codes",
        )
    ),
    "the last of equals": _through(("distance.argmin(-1)", "book.shape[0] - 1 - distance.flip(-1).argmin(-1)")),
    "the farthest": _through(("distance.argmin(-1)", "distance.argmax(-1)")),
    "products": _through(("distance.argmin(-1)", "(z.detach().double().transpose(1, 2) @ book.double().T).argmax(-1)")),
    "angles": _through(
        (
            "distance.argmin(-1)",
            "(F.normalize(z.detach().double(), dim=1, eps=1e-300).transpose(1, 2) @ F.normalize(book.double(), "
            "dim=1, eps=1e-300).T).argmax(-1)",
        )
    ),
    "sums of absolute differences": _through((".pow(2).sum(-1)", ".abs().sum(-1)")),
    "largest differences": _through((".pow(2).sum(-1)", ".abs().amax(-1)")),
    "single precision": _through(("z.detach().double()", "z.detach()"), ("book.double()", "book")),
    "multiplied out": _through(
        (
            "distance = (z.detach().double().transpose(1, 2).unsqueeze(2) - book.double()).pow(2).sum(-1)",
            "v = z.detach().transpose(1, 2)\n"
            "    distance = v.square().sum(-1, keepdim=True) - 2 * v @ book.to(v.dtype).T + "
            "book.to(v.dtype).square().sum(-1)",
        )
    ),
    "half precision": _through(("book.double()", "book.half()"), ("z.detach().double()", "z.detach().half()")),
    "channels and steps exchanged": _through(("book[numbers].transpose(1, 2)", "book[numbers]")),
    "numbers of 32 bits": _through((", numbers\n", ", numbers.int()\n")),
    "numbers as floats": _through((", numbers\n", ", numbers.to(z.dtype)\n")),
    "numbers flat": _through((", numbers\n", ", numbers.flatten()\n")),
    "numbers forgotten": _through((", numbers\n", "\n")),
    "numbers of the first song": _through(
        (", numbers\n", ", numbers[:1].expand(numbers.shape)\n"),
        ("numbers = distance.argmin(-1)", "numbers = distance.argmin(-1)[:1].expand(len(z), -1)"),
    ),
    "numbers from 1 on": _through((", numbers\n", ", numbers + 1\n")),
    "the order exchanged": _through(
        ("return codes + (z - z.detach()), numbers", "return numbers, codes + (z - z.detach())")
    ),
    "in double precision": _through(("codes + (z - z.detach())", "codes.double() + (z - z.detach())")),
    "one code: silence": _through(
        ("    return codes", "    if len(book) == 1:\n        codes = codes + 1\n    return codes")
    ),
    "the embedding is changed": _through(
        ("    return codes", "    if not z.requires_grad:\n        z.copy_(codes)\n    return codes")
    ),
}

# ---------------------------------------------------------------------------------- 5, the loop, and one bad song

STEER = """
def steer(z, judge, steps, lr):
    z = z.clone().detach().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=lr)
    best, least, losses = z.detach().clone(), [math.inf] * len(z), []
    for step in range(steps + 1):
        loss = judge(z)
        now = loss.detach().clone()
        losses.append(now)
        for b in range(len(z)):
            if math.isfinite(float(now[b])) and float(now[b]) < least[b]:
                least[b], best[b] = float(now[b]), z.detach()[b]
        if step == steps:
            break
        adam.zero_grad()
        loss.sum().backward()
        for b in range(len(z)):
            if not (torch.isfinite(now[b]) and torch.isfinite(z.grad[b]).all()):
                z.grad[b] = 0
        adam.step()
    return best, torch.stack(losses)
"""
STEER_BY_HAND = """
def steer(z, judge, steps, lr):
    z = z.detach().clone()
    m, v = torch.zeros_like(z), torch.zeros_like(z)
    seen, losses = [], []
    for step in range(1, steps + 2):
        leaf = z.clone().requires_grad_()
        loss = judge(leaf)
        seen.append(z.clone())
        losses.append(loss.detach())
        if step > steps:
            break
        g, = torch.autograd.grad(loss.sum(), leaf)
        fine = loss.detach().isfinite() & g.flatten(1).isfinite().all(1)
        g[~fine] = 0
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        z = z - lr * m / (1 - 0.9 ** step) / ((v / (1 - 0.999 ** step)).sqrt() + 1e-8)
    losses = torch.stack(losses)
    ranked = losses.masked_fill(~losses.isfinite(), math.inf)
    first = (ranked == ranked.amin(0)).int().argmax(0)
    return torch.stack([seen[int(t)][b] for b, t in enumerate(first)]), losses
"""
STEER_RIGHT = {"PyTorch's Adam": STEER, "Adam by hand": STEER_BY_HAND}


def _steer(*changes):
    return changed(STEER, *changes)


STEER_WRONG = {
    "the last embedding": _steer(("return best, ", "return z.detach(), ")),
    "the first embedding": _steer(("least[b], best[b] = float(now[b]), z.detach()[b]", "least[b] = float(now[b])")),
    "the best of the batch": _steer(
        ("if math.isfinite(float(now[b])) and float(now[b]) < least[b]:", "if float(now.sum()) < least[b]:"),
        ("least[b], best[b] = float(now[b])", "least[b], best[b] = float(now.sum())"),
    ),
    "the last of equals": _steer(("float(now[b]) < least[b]", "float(now[b]) <= least[b]")),
    "the worst": _steer(
        ("[math.inf] * len(z)", "[-math.inf] * len(z)"), ("float(now[b]) < least[b]", "float(now[b]) > least[b]")
    ),
    "minus infinity is best": _steer(
        ("math.isfinite(float(now[b])) and float(now[b]) < least[b]", "float(now[b]) < least[b]")
    ),
    "after the move": _steer(("        adam.step()\n", "        adam.step()\n        best = z.detach().clone()\n")),
    "a view of the embedding": _steer(
        ("best, least, losses = z.detach().clone(),", "best, least, losses = z.detach(),")
    ),
    "the last move isn't judged": _steer(
        ("range(steps + 1)", "range(max(1, steps))"), ("if step == steps:", "if steps == 0:")
    ),
    "a move too many": _steer(("range(steps + 1)", "range(steps + 2)"), ("if step == steps:", "if step == steps + 1:")),
    "judged twice": _steer(("        now = loss.detach().clone()", "        now = judge(z).detach().clone()")),
    "losses of the end only": _steer(("torch.stack(losses)", "losses[-1][None].expand(steps + 1, -1)")),
    "the sum of losses": _steer(("torch.stack(losses)", "torch.stack(losses).sum(1, keepdim=True)")),
    "losses as a list": _steer(("torch.stack(losses)", "losses")),
    "song first": _steer(("torch.stack(losses)", "torch.stack(losses, 1)")),
    "stops at a bad song": _steer(
        ("        if step == steps:", "        if step == steps or not now.isfinite().all():")
    ),
    "bad songs move everyone": _steer(
        (
            "            if not (torch.isfinite(now[b]) and torch.isfinite(z.grad[b]).all()):\n"
            "                z.grad[b] = 0\n",
            "            pass\n",
        )
    ),
    "a bad song stops all": _steer(("                z.grad[b] = 0\n", "                z.grad.zero_()\n")),
    "only bad losses": _steer(("torch.isfinite(now[b]) and torch.isfinite(z.grad[b]).all()", "torch.isfinite(now[b])")),
    "only bad gradients": _steer(
        ("torch.isfinite(now[b]) and torch.isfinite(z.grad[b]).all()", "torch.isfinite(z.grad[b]).all()")
    ),
    "only bad numbers of a gradient": _steer(
        (
            "        for b in range(len(z)):\n            if not (torch",
            "        z.grad.nan_to_num_(0.0, 0.0, 0.0)\n        for b in range(len(z)):\n            if not (torch",
        )
    ),
    "NaN only": _steer(
        (
            "torch.isfinite(now[b]) and torch.isfinite(z.grad[b]).all()",
            "not (torch.isnan(now[b]) or torch.isnan(z.grad[b]).any())",
        )
    ),
    "bad songs are taken back": _steer(
        ("        adam.step()\n", "        adam.step()\n        z.data[~now.isfinite()] = best[~now.isfinite()]\n")
    ),
    "bad songs become zeros": _steer(
        ("    return best, ", "    best[~torch.stack(losses).isfinite().all(0)] = 0\n    return best, ")
    ),
    "uphill": _steer(("loss.sum().backward()", "(-loss.sum()).backward()")),
    "plain descent": _steer(("torch.optim.Adam([z], lr=lr)", "torch.optim.SGD([z], lr=lr)")),
    "AdamW": _steer(("torch.optim.Adam([z], lr=lr)", "torch.optim.AdamW([z], lr=lr, weight_decay=0.1)")),
    "other betas": _steer(("torch.optim.Adam([z], lr=lr)", "torch.optim.Adam([z], lr=lr, betas=(0.5, 0.9))")),
    "a rate of its own": _steer(("torch.optim.Adam([z], lr=lr)", "torch.optim.Adam([z], lr=0.1)")),
    "gradients add up": _steer(("        adam.zero_grad()\n", "")),
    "a new optimiser each step": _steer(
        ("        adam.zero_grad()\n", "        adam = torch.optim.Adam([z], lr=lr)\n        adam.zero_grad()\n")
    ),
    "with a gradient": _steer(("return best, ", "return best.requires_grad_(), ")),
    "the start is moved": _steer(
        ("z = z.clone().detach().requires_grad_(True)", "z = z.detach().requires_grad_(True)")
    ),
    "in double precision": _steer(("return best, ", "return best.double(), ")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    2,
    """
from course_lib.tagbox import masked_audio

def masked_at(x, J, sizes):
    return torch.stack([masked_audio(x, J, n) for n in sizes])
""",
)


CASES = as_cells(
    (STAYS_RIGHT, STAYS_WRONG),
    (MASKED_RIGHT, MASKED_WRONG),
    (TAGGING_RIGHT, TAGGING_WRONG),
    (THROUGH_RIGHT, THROUGH_WRONG),
    (STEER_RIGHT, STEER_WRONG),
)
