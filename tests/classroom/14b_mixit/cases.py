"""Answers to assignment 14b by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------------ 1, a loss with a ceiling

LOSS_BY_DOUBLE = """
def snr_loss(estimate, reference, mixture, max_snr):
    x_hat, x, whole = (one.to(torch.float64) for one in (estimate, reference, mixture))
    E = (x ** 2).sum(dim=-1)
    E = torch.where(E == 0, (whole ** 2).sum(dim=-1), E)
    silent = E == 0
    E = E.masked_fill(silent, 1.0)
    tau = 10 ** (-max_snr / 10)
    loss = 10 * torch.log10(((x - x_hat) ** 2).sum(dim=-1) / E + tau)
    return loss.masked_fill(silent, 0.0).to(estimate.dtype)
"""
LOSS_BY_SCALING = """
def snr_loss(estimate, reference, mixture, max_snr):
    own = reference.abs().amax(-1, keepdim=True)
    scale = torch.where(own > 0, own, mixture.abs().amax(-1, keepdim=True))
    heard = scale > 0
    scale = torch.where(heard, scale, torch.ones_like(scale))
    judge = torch.where(own > 0, reference, mixture) / scale        # of the order of 1
    error = (reference - estimate) / scale
    # where nothing is heard the estimate is left out, so that it has no gradient
    error = torch.where(heard, error, torch.zeros_like(error))
    size = torch.where(heard[..., 0], judge.square().sum(-1), torch.ones_like(own[..., 0]))
    inside = error.double().square().sum(-1) / size.double() + 10.0 ** (-max_snr / 10)
    loss = 10 / math.log(10) * torch.log(inside)
    return torch.where(heard[..., 0], loss, torch.zeros_like(loss)).to(reference.dtype)
"""
LOSS_BY_SIGNALS = """
def snr_loss(estimate, reference, mixture, max_snr):
    shape = estimate.shape[:-1]
    flat = [one.reshape(-1, one.shape[-1]).double() for one in (estimate, reference, mixture)]
    losses = []
    for y, x, whole in zip(*flat):
        energy = x @ x
        if energy == 0:
            energy = whole @ whole
        if energy == 0:
            losses.append(0 * y.sum())
        else:
            rest = x - y
            losses.append(10 * torch.log10(rest @ rest / energy + 10 ** (-0.1 * max_snr)))
    return torch.stack(losses).reshape(shape).to(estimate.dtype)
"""
LOSS_RIGHT = {
    "double precision": LOSS_BY_DOUBLE,
    "scaled by the largest sample": LOSS_BY_SCALING,
    "signal by signal": LOSS_BY_SIGNALS,
}
LOSS_WRONG = {
    "the SNR itself": changed(LOSS_BY_DOUBLE, ("loss = 10 *", "loss = -10 *")),
    "20 instead of 10": changed(LOSS_BY_DOUBLE, ("loss = 10 *", "loss = 20 *")),
    "a natural logarithm": changed(LOSS_BY_DOUBLE, ("torch.log10(", "torch.log(")),
    "a mean over a sum": changed(
        LOSS_BY_DOUBLE, ("((x - x_hat) ** 2).sum(dim=-1) / E", "((x - x_hat) ** 2).mean(dim=-1) / E")
    ),
    "the ceiling upside down": changed(LOSS_BY_DOUBLE, ("10 ** (-max_snr / 10)", "10 ** (max_snr / 10)")),
    "a ceiling of amplitudes": changed(LOSS_BY_DOUBLE, ("10 ** (-max_snr / 10)", "10 ** (-max_snr / 20)")),
    "the ceiling over the energy": changed(LOSS_BY_DOUBLE, (".sum(dim=-1) / E + tau)", ".sum(dim=-1) / E + tau / E)")),
    "the ceiling above and below": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E + tau) - 10 * math.log10(1 + tau)")),
    "a hard ceiling": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E).clamp_min(-max_snr)")),
    "a hard ceiling inside": changed(
        LOSS_BY_DOUBLE, ("2).sum(dim=-1) / E + tau)", "2).sum(dim=-1).div(E).clamp_min(tau))")
    ),
    "no ceiling": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E)")),
    "a ceiling of 30 always": changed(LOSS_BY_DOUBLE, ("10 ** (-max_snr / 10)", "1e-3")),
    "1 less the ceiling": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E * (1 - tau) + tau)")),
    "something added to the energies": changed(
        LOSS_BY_DOUBLE,
        ("2).sum(dim=-1) / E + tau)", "2).sum(dim=-1) / (E + 1e-8) + tau)"),
    ),
    "something added in the logarithm": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E + tau + 1e-4)")),
    "single precision": changed(LOSS_BY_DOUBLE, ("one.to(torch.float64)", "one.to(torch.float32)")),
    "the type that it has": changed(LOSS_BY_DOUBLE, ("one.to(torch.float64)", "one")),
    "in double precision": changed(LOSS_BY_DOUBLE, (".to(estimate.dtype)", "")),
    "no mixture for silence": changed(LOSS_BY_DOUBLE, ("torch.where(E == 0, (whole ** 2).sum(dim=-1), E)", "E")),
    "always the mixture": changed(
        LOSS_BY_DOUBLE, ("torch.where(E == 0, (whole ** 2).sum(dim=-1), E)", "(whole ** 2).sum(dim=-1)")
    ),
    "reference and mixture": changed(
        LOSS_BY_DOUBLE,
        ("torch.where(E == 0, (whole ** 2).sum(dim=-1), E)", "E + (whole ** 2).sum(dim=-1) * (E == 0).any()"),
    ),
    "the larger of both": changed(
        LOSS_BY_DOUBLE,
        ("torch.where(E == 0, (whole ** 2).sum(dim=-1), E)", "torch.maximum((whole ** 2).sum(dim=-1), E)"),
    ),
    "silence below a level": changed(LOSS_BY_DOUBLE, ("torch.where(E == 0,", "torch.where(E < 1e-4,")),
    "silence where one sample is 0": changed(LOSS_BY_DOUBLE, ("torch.where(E == 0,", "torch.where((x == 0).any(-1),")),
    "silence of the whole batch": changed(LOSS_BY_DOUBLE, ("torch.where(E == 0,", "torch.where((E == 0).all(),")),
    "no ceiling for silence": changed(LOSS_BY_DOUBLE, ("/ E + tau)", "/ E + tau * ((x ** 2).sum(-1) > 0))")),
    "silence costs nothing": changed(LOSS_BY_DOUBLE, ("silent = E == 0", "silent = (x ** 2).sum(-1) == 0")),
    "all silent: minus the ceiling": changed(
        LOSS_BY_DOUBLE, ("masked_fill(silent, 0.0)", "masked_fill(silent, -max_snr)")
    ),
    "all silent: measured by 1": changed(LOSS_BY_DOUBLE, ("loss.masked_fill(silent, 0.0)", "loss")),
    "all silent: no number": changed(
        LOSS_BY_DOUBLE,
        ("    E = E.masked_fill(silent, 1.0)\n", ""),
        ("loss.masked_fill(silent, 0.0)", "loss"),
    ),
    "all silent: no gradient that is a number": changed(LOSS_BY_DOUBLE, ("    E = E.masked_fill(silent, 1.0)\n", "")),
    "no number made 0": changed(
        LOSS_BY_DOUBLE,
        ("    E = E.masked_fill(silent, 1.0)\n", ""),
        ("loss.masked_fill(silent, 0.0)", "loss.nan_to_num(0.0)"),
    ),
    "by a root": changed(
        LOSS_BY_DOUBLE, ("((x - x_hat) ** 2).sum(dim=-1) / E", "(((x - x_hat) ** 2).sum(dim=-1).sqrt()) ** 2 / E")
    ),
    "the mean of the batch": changed(
        LOSS_BY_DOUBLE,
        ("return loss.masked", "return loss.mean().masked"),
        ("masked_fill(silent, 0.0)", "masked_fill(silent.all(), 0.0)"),
    ),
    "over all but the first axis": """
def snr_loss(estimate, reference, mixture, max_snr):
    y, x, whole = (one.double().flatten(1) if one.ndim > 1 else one.double()
                   for one in (estimate, reference, mixture))
    E = x.square().sum(-1)
    E = torch.where(E == 0, whole.square().sum(-1), E)
    silent = E == 0
    loss = 10 * torch.log10((x - y).square().sum(-1) / E.masked_fill(silent, 1.0) + 10 ** (-max_snr / 10))
    return loss.masked_fill(silent, 0.0).to(estimate.dtype)
""",
    "the axis is kept": changed(
        LOSS_BY_DOUBLE,
        ("return loss.masked", "return loss[..., None].masked"),
        ("masked_fill(silent, 0.0)", "masked_fill(silent[..., None], 0.0)"),
    ),
    "any scale will do": changed(
        LOSS_BY_DOUBLE,
        (
            "    tau =",
            "    x_hat = x_hat * ((x * x_hat).sum(-1) / (x_hat ** 2).sum(-1).clamp_min(1e-300))[..., None]\n    tau =",
        ),
    ),
    "estimate and reference exchanged": changed(
        LOSS_BY_DOUBLE, ("for one in (estimate, reference, mixture)", "for one in (reference, estimate, mixture)")
    ),
    "no gradient": changed(LOSS_BY_DOUBLE, ("(x - x_hat)", "(x - x_hat.detach())")),
    "the reference is changed": changed(
        LOSS_BY_SIGNALS, ("rest = x - y", "rest = x.sub_(y.detach()) - 0 * y"), (".double() for one", " for one")
    ),
    "signals against the first one": changed(LOSS_BY_SIGNALS, ("energy = x @ x", "energy = flat[1][0] @ flat[1][0]")),
}

# --------------------------------------------------------------------------------------- 2, who owns the outputs

OWNERS_BY_LOOP = """
def best_owners(outputs, mixtures, max_snr):
    count = mixtures.shape[1]
    tau = 10 ** (-max_snr / 10)
    losses, owners = [], []
    for s, x in zip(outputs.double(), mixtures.double()):
        whole = x.sum(0).square().sum()
        energy = [one.square().sum() for one in x]
        energy = [own if own > 0 else whole for own in energy]

        def loss_of(way):
            total = 0 * s.sum()
            for n in range(count):
                if energy[n] > 0:
                    mine = torch.tensor([float(owner == n) for owner in way], dtype=s.dtype)
                    rest = x[n] - mine @ s
                    total = total + 10 * torch.log10(rest @ rest / energy[n] + tau)
            return total

        best, least = None, math.inf
        for way in itertools.product(range(count), repeat=len(s)):
            with torch.no_grad():
                loss = float(loss_of(way))
            if loss < least - 1e-6:
                best, least = way, loss
        losses.append(loss_of(best))
        owners.append(best)
    return torch.stack(losses).to(outputs.dtype), torch.tensor(owners)
"""
OWNERS_BY_PRODUCTS = """
def best_owners(outputs, mixtures, max_snr):
    # numbers of the order of 1, then energies from products of signals
    level = mixtures.abs().amax((1, 2), keepdim=True)
    level = torch.maximum(level, outputs.detach().abs().amax((1, 2), keepdim=True)).double()
    level = torch.where(level > 0, level, 1.0)
    s, x = outputs.double() / level, mixtures.double() / level
    (batch, M, _), N = s.shape, x.shape[1]
    numbers = torch.arange(N ** M)
    ways = torch.stack([numbers // N ** (M - 1 - m) % N for m in range(M)], 1)     # (way, output)
    A = (ways[:, None] == torch.arange(N)[:, None]).double()        # (way, mixture, output)
    own = x.square().sum(-1)
    energy = torch.where(own > 0, own, x.sum(1, keepdim=True).square().sum(-1))
    heard = energy > 0
    energy = energy.masked_fill(~heard, 1.0)
    G, C = s @ s.mT, x @ s.mT
    error = (own[:, None] - 2 * torch.einsum("wnm,bnm->bwn", A, C)
             + torch.einsum("wnm,bmk,wnk->bwn", A, G, A)).clamp_min(0)
    terms = 10 * torch.log10(error / energy[:, None] + 10 ** (-max_snr / 10))
    total = terms.masked_fill(~heard[:, None], 0.0).sum(-1)         # (batch, way)
    first = (total <= total.min(1, keepdim=True).values + 1e-6).int().argmax(1)
    return total[torch.arange(batch), first].to(outputs.dtype), ways[first]
"""
OWNERS_BY_RECURSION = """
def best_owners(outputs, mixtures, max_snr):
    tau = 10 ** (-max_snr / 10)
    def score(rest, energy):
        loss = 0 * sum(r.sum() for r in rest)
        for r, e in zip(rest, energy):
            if e > 0:
                loss = loss + 10 * torch.log10((r * r).sum() / e + tau)
        return loss

    def search(s, rest, energy):
        # the outputs in s are still to be given away; what is left of each mixture is in rest
        if not len(s):
            return score(rest, energy), []
        found = None
        for n in range(len(rest)):
            left = [r - s[0] if k == n else r for k, r in enumerate(rest)]
            loss, others = search(s[1:], left, energy)
            if found is None or loss.item() < found[0].item() - 1e-6:
                found = loss, [n, *others]
        return found

    results = []
    for s, x in zip(outputs.double(), mixtures.double()):
        whole = (x.sum(0) ** 2).sum()
        energy = [(one ** 2).sum() if one.any() else whole for one in x]
        results.append(search(list(s), list(x), energy))
    return (torch.stack([loss for loss, _ in results]).to(outputs.dtype),
            torch.tensor([owners for _, owners in results]))
"""
OWNERS_RIGHT = {
    "all ways, one by one": OWNERS_BY_LOOP,
    "products of signals": OWNERS_BY_PRODUCTS,
    "output by output": OWNERS_BY_RECURSION,
}
LOOP_SUM = "total = total + 10 * torch.log10(rest @ rest / energy[n] + tau)"
OWNERS_WRONG = {
    "two mixtures only": changed(
        OWNERS_BY_LOOP, ("product(range(count),", "product(range(2),"), ("count = mixtures.shape[1]", "count = 2")
    ),
    "no mixture without an output": changed(
        OWNERS_BY_LOOP,
        (
            "            with torch.no_grad():",
            "            if len(set(way)) < min(count, len(s)):\n"
            "                continue\n"
            "            with torch.no_grad():",
        ),
    ),
    "as many outputs for each": changed(
        OWNERS_BY_LOOP,
        (
            "            with torch.no_grad():",
            "            if max(way.count(n) for n in range(count)) > math.ceil(len(s) / count):\n"
            "                continue\n            with torch.no_grad():",
        ),
    ),
    "one output for each": changed(
        OWNERS_BY_LOOP,
        ("itertools.product(range(count), repeat=len(s))", "itertools.permutations(range(max(count, len(s))), len(s))"),
    ),
    "each output where it is most alike": changed(
        OWNERS_BY_PRODUCTS,
        (
            "    first = (total",
            "    rows = C.argmax(1)\n    first = (rows[:, None] == ways).all(-1).int().argmax(1)\n    _ = (total",
        ),
    ),
    "each output alone": changed(
        OWNERS_BY_PRODUCTS,
        (
            "    first = (total",
            "    alone = (x[:, :, None] - s[:, None]).square().sum(-1).argmin(1)\n"
            "    first = (alone[:, None] == ways).all(-1).int().argmax(1)\n    _ = (total",
        ),
    ),
    "one after the other": changed(
        OWNERS_BY_RECURSION,
        (
            "        for n in range(len(rest)):\n",
            "        tried = [score([r - s[0] if k == n else r for k, r in enumerate(rest)], energy).item()\n"
            "                 for n in range(len(rest))]\n"
            "        for n in [tried.index(min(tried))]:\n",
        ),
    ),
    "least squares, rounded": changed(
        OWNERS_BY_PRODUCTS,
        (
            "    first = (total",
            "    real = torch.linalg.lstsq(s.mT, x.mT).solution.argmax(-1)\n"
            "    first = (real[:, None] == ways).all(-1).int().argmax(1)\n    _ = (total",
        ),
    ),
    "the mean over mixtures": changed(
        OWNERS_BY_LOOP, ("losses.append(loss_of(best))", "losses.append(loss_of(best) / count)")
    ),
    "the worst mixture only": changed(
        OWNERS_BY_LOOP,
        (
            LOOP_SUM,
            "one = 10 * torch.log10(rest @ rest / energy[n] + tau)\n"
            "                    total = one if n == 0 or one > total else total",
        ),
    ),
    "the least squared error": changed(
        OWNERS_BY_PRODUCTS,
        (
            "    first = (total <= total.min(1, keepdim=True).values",
            "    wrong = error.sum(-1)\n    first = (wrong <= wrong.min(1, keepdim=True).values",
        ),
    ),
    "errors summed before the logarithm": changed(
        OWNERS_BY_LOOP,
        (LOOP_SUM, "total = total + rest @ rest / energy[n] + tau"),
        ("            return total\n", "            return 10 * torch.log10(total + 1e-300)\n"),
    ),
    "each mixture takes its best": changed(
        OWNERS_BY_PRODUCTS,
        ("return total[torch.arange(batch), first]", "return terms.masked_fill(~heard[:, None], 0.0).amin(1).sum(-1)"),
    ),
    "the same owners for all examples": changed(
        OWNERS_BY_PRODUCTS,
        (
            "first = (total <= total.min(1, keepdim=True).values",
            "total = total.mean(0, keepdim=True).expand(batch, -1)\n"
            "    first = (total <= total.min(1, keepdim=True).values",
        ),
    ),
    "the last of equals": changed(OWNERS_BY_LOOP, ("loss < least - 1e-6", "loss <= least + 1e-6")),
    "output 0 behind": changed(OWNERS_BY_PRODUCTS, ("N ** (M - 1 - m) % N", "N ** m % N")),
    "owners as floats": changed(OWNERS_BY_LOOP, ("torch.tensor(owners)", "torch.tensor(owners).to(outputs.dtype)")),
    "owners of 32 bits": changed(OWNERS_BY_LOOP, ("torch.tensor(owners)", "torch.tensor(owners, dtype=torch.int32)")),
    "a matrix of zeros and ones": changed(OWNERS_BY_PRODUCTS, (", ways[first]", ", A[first].long()")),
    "the number of the way": changed(OWNERS_BY_PRODUCTS, (", ways[first]", ", numbers[first]")),
    "mixtures exchanged": changed(OWNERS_BY_PRODUCTS, (", ways[first]", ", N - 1 - ways[first]")),
    "the last way forgotten": changed(OWNERS_BY_PRODUCTS, ("torch.arange(N ** M)", "torch.arange(max(1, N ** M - 1))")),
    "the first way forgotten": changed(OWNERS_BY_PRODUCTS, ("torch.arange(N ** M)", "torch.arange(1, N ** M)")),
    "output 0 belongs to mixture 0": changed(
        OWNERS_BY_PRODUCTS, ("torch.arange(N ** M)", "torch.arange(N ** (M - 1))")
    ),
    "something added to the energies": changed(
        OWNERS_BY_LOOP, ("own if own > 0 else whole for own", "own + 1e-8 for own")
    ),
    "silent mixtures left out": changed(OWNERS_BY_LOOP, ("own if own > 0 else whole for own", "own for own")),
    "silent mixtures measured by the outputs": changed(
        OWNERS_BY_LOOP, ("whole = x.sum(0)", "whole = s.detach().sum(0)")
    ),
    "silent mixtures measured by all energies": changed(
        OWNERS_BY_LOOP, ("whole = x.sum(0).square().sum()", "whole = x.square().sum()")
    ),
    "all measured by the sum": changed(OWNERS_BY_LOOP, ("own if own > 0 else whole for own", "whole for own")),
    "all silent: no number": changed(OWNERS_BY_LOOP, ("if energy[n] > 0:", "if True:")),
    "all silent: minus the ceiling": changed(
        OWNERS_BY_LOOP,
        ("            return total\n", "            return total - max_snr * sum(e == 0 for e in energy)\n"),
    ),
    "single precision": changed(
        OWNERS_BY_LOOP, ("zip(outputs.double(), mixtures.double())", "zip(outputs.float(), mixtures.float())")
    ),
    "products in single precision": changed(
        OWNERS_BY_PRODUCTS,
        (
            "s, x = outputs.double() / level, mixtures.double() / level",
            "s, x = (outputs / level).float(), (mixtures / level).float()",
        ),
        ("torch.arange(N)[:, None]).double()", "torch.arange(N)[:, None]).float()"),
    ),
    "no level taken off": changed(
        OWNERS_BY_PRODUCTS,
        ("s, x = outputs.double() / level, mixtures.double() / level", "s, x = outputs, mixtures"),
        ("torch.arange(N)[:, None]).double()", "torch.arange(N)[:, None]).to(s.dtype)"),
    ),
    "in double precision": changed(
        OWNERS_BY_LOOP, (".to(outputs.dtype), torch.tensor(owners)", ", torch.tensor(owners)")
    ),
    "no gradient": changed(OWNERS_BY_LOOP, ("losses.append(loss_of(best))", "losses.append(loss_of(best).detach())")),
    "the mean of all ways": changed(OWNERS_BY_PRODUCTS, ("total[torch.arange(batch), first]", "total.mean(1)")),
    "a soft minimum": changed(
        OWNERS_BY_PRODUCTS, ("total[torch.arange(batch), first]", "(total * (-total).softmax(1)).sum(1)")
    ),
    "no ceiling": changed(OWNERS_BY_LOOP, ("tau = 10 ** (-max_snr / 10)", "tau = 1e-30")),
    "the ceiling times the energy": changed(OWNERS_BY_LOOP, ("energy[n] + tau)", "energy[n] + tau * energy[n])")),
    "one batch axis less": changed(
        OWNERS_BY_LOOP,
        ("return torch.stack(losses).to(outputs.dtype)", "return torch.stack(losses).squeeze().to(outputs.dtype)"),
    ),
    "one mixture fails": changed(OWNERS_BY_PRODUCTS, ("N = s.shape, x.shape[1]", "N = s.shape, max(2, x.shape[1])")),
    "the outputs are changed": changed(
        OWNERS_BY_LOOP,
        (
            "    count = mixtures.shape[1]",
            "    if not outputs.requires_grad:\n"
            "        outputs -= outputs.mean(-1, keepdim=True)\n"
            "    count = mixtures.shape[1]",
        ),
    ),
    "the worst way": changed(
        OWNERS_BY_LOOP,
        ("least = None, math.inf", "least = None, -math.inf"),
        ("loss < least - 1e-6", "loss > least + 1e-6"),
    ),
}

# ----------------------------------------------------------------------- 3, pieces that add up, and how many they are

EVEN_PLAIN = """

def evenness(outputs):
    x = outputs.double()
    power = x.square().mean(-1)
    zero = power == 0
    r = power.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
    size = power.sum(-1)
    silent = size == 0
    return (r.sum(-1) / size.masked_fill(silent, 1.0).sqrt()).masked_fill(silent, 1.0).to(outputs.dtype)
"""
EVEN_BY_NORM = """

def evenness(outputs):
    # torch's norm has the gradient 0 at 0
    levels = torch.linalg.vector_norm(outputs.double(), dim=-1)
    whole = torch.linalg.vector_norm(levels, dim=-1)
    quiet = whole == 0
    ratio = levels.sum(-1) / torch.where(quiet, torch.ones_like(whole), whole)
    return torch.where(quiet, torch.ones_like(ratio), ratio).to(outputs.dtype)
"""
EVEN_BY_LOOP = """

def evenness(outputs):
    found = []
    for one in outputs.double().reshape(-1, *outputs.shape[-2:]):
        levels = [row.square().mean().sqrt() for row in one if row.any()]
        if not levels:
            found.append(1 + 0 * one.sum())
        else:
            levels = torch.stack(levels)
            found.append(levels.sum() / levels.square().sum().sqrt())
    return torch.stack(found).reshape(outputs.shape[:-2]).to(outputs.dtype)
"""
ADD_PLAIN = """
def adding_up(outputs, mixture, weights):
    w = weights.double().broadcast_to(outputs.shape)
    nothing = w.sum(-2, keepdim=True) == 0
    w = torch.where(nothing, torch.ones_like(w), w)
    w = w / w.sum(-2, keepdim=True)
    residual = mixture - outputs.sum(-2)
    return outputs + w.to(outputs.dtype) * residual[..., None, :]
"""
ADD_BY_SCALING = """
def adding_up(outputs, mixture, weights):
    w = weights + torch.zeros_like(outputs)
    largest = w.amax(-2, keepdim=True)
    w = torch.where(largest > 0, w / torch.where(largest > 0, largest, torch.ones_like(largest)), torch.ones_like(w))
    left = (mixture - outputs.sum(dim=-2)).unsqueeze(-2)
    return outputs + left * w / w.sum(dim=-2, keepdim=True)
"""
ADD_BY_OUTPUTS = """
def adding_up(outputs, mixture, weights):
    M = outputs.shape[-2]
    weights = weights.expand_as(outputs).to(torch.float64)
    total = sum(weights[..., m, :] for m in range(M))
    missing = mixture - sum(outputs[..., m, :] for m in range(M))
    rows = []
    for m in range(M):
        share = torch.full_like(total, 1 / M)
        share[total > 0] = weights[..., m, :][total > 0] / total[total > 0]
        rows.append(outputs[..., m, :] + share.to(missing.dtype) * missing)
    return torch.stack(rows, -2)
"""
PIECES_RIGHT = {
    "ones where there is nothing": ADD_PLAIN + EVEN_PLAIN,
    "scaled by the largest weight": ADD_BY_SCALING + EVEN_BY_NORM,
    "output by output": ADD_BY_OUTPUTS + EVEN_BY_LOOP,
}


def _add(*changes):
    return changed(ADD_PLAIN, *changes) + EVEN_PLAIN


def _even(*changes):
    return ADD_PLAIN + changed(EVEN_PLAIN, *changes)


PIECES_WRONG = {
    "weights as they are": _add(("    w = w / w.sum(-2, keepdim=True)\n", "")),
    "weights by a softmax": _add(("w = w / w.sum(-2, keepdim=True)", "w = w.softmax(-2)")),
    "equal shares": _add(("w = weights.double().broadcast_to(outputs.shape)", "w = torch.ones_like(outputs).double()")),
    "shares over time": _add(("w = w / w.sum(-2, keepdim=True)", "w = w / w.sum(-1, keepdim=True)")),
    "shares over everything": _add(("w = w / w.sum(-2, keepdim=True)", "w = w / w.sum()")),
    "the mixture by weights": _add(
        (
            "return outputs + w.to(outputs.dtype) * residual[..., None, :]",
            "return w.to(outputs.dtype) * mixture[..., None, :]",
        )
    ),
    "the wrong sign": _add(("residual = mixture - outputs.sum(-2)", "residual = outputs.sum(-2) - mixture")),
    "the mean instead of the sum": _add(("outputs.sum(-2)", "outputs.mean(-2)")),
    "the first axis": _add(("outputs.sum(-2)", "outputs.sum(0)")),
    "all for the first": _add(
        ("w = w / w.sum(-2, keepdim=True)", "w = (torch.arange(w.shape[-2]) == 0).double()[:, None].expand(w.shape)")
    ),
    "all for the heaviest": _add(
        ("w = w / w.sum(-2, keepdim=True)", "w = F.one_hot(w.argmax(-2), w.shape[-2]).mT.double()")
    ),
    "something added to the weights": _add(
        ("w = w / w.sum(-2, keepdim=True)", "w = (w + 1e-8) / (w + 1e-8).sum(-2, keepdim=True)")
    ),
    "something added below": _add(("w = w / w.sum(-2, keepdim=True)", "w = w / (w.sum(-2, keepdim=True) + 1e-8)")),
    "no weights: no number": _add(("w = torch.where(nothing, torch.ones_like(w), w)", "pass")),
    "no weights: nothing changes": _add(
        (
            "w = torch.where(nothing, torch.ones_like(w), w)\n    w = w / w.sum(-2, keepdim=True)",
            "w = torch.where(nothing, torch.zeros_like(w), w / w.sum(-2, keepdim=True))",
        )
    ),
    "no weights: the whole for each": _add(
        (
            "w = torch.where(nothing, torch.ones_like(w), w)\n    w = w / w.sum(-2, keepdim=True)",
            "w = torch.where(nothing, torch.ones_like(w), w / w.sum(-2, keepdim=True))",
        )
    ),
    "no weights only if nowhere": _add(
        ("== 0\n    w = torch.where", "== 0\n    nothing = nothing.all().expand(nothing.shape)\n    w = torch.where")
    ),
    "no weights if one is 0": _add(
        ("nothing = w.sum(-2, keepdim=True) == 0", "nothing = (w == 0).any(-2, keepdim=True)")
    ),
    "no weights below a level": _add(("keepdim=True) == 0", "keepdim=True) < 1e-12")),
    "weights squared": _add(("w = w / w.sum(-2, keepdim=True)", "w = w ** 2 / (w ** 2).sum(-2, keepdim=True)")),
    "light ones change most": _add(
        ("w = w / w.sum(-2, keepdim=True)", "w = 1 / w\n    w = w / w.sum(-2, keepdim=True)")
    ),
    "weights of one shape": _add(("weights.double().broadcast_to(outputs.shape)", "weights.double()")),
    "weights by the mean over time": _add(
        ("    nothing =", "    w = w.mean(-1, keepdim=True).expand(w.shape)\n    nothing =")
    ),
    "loud outputs take it": _add(("    nothing =", "    w = w * outputs.abs()\n    nothing =")),
    "outputs scaled to fit": _add(
        (
            "return outputs + w.to(outputs.dtype) * residual[..., None, :]",
            "return outputs * (mixture / outputs.sum(-2))[..., None, :]",
        )
    ),
    "the residual's mean": _add(("residual[..., None, :]", "residual[..., None, :].mean(-1, keepdim=True)")),
    "one step too many": _add(("residual = mixture - outputs.sum(-2)", "residual = 2 * (mixture - outputs.sum(-2))")),
    "outputs are changed": _add(
        ("return outputs + w", "outputs += 0 * outputs + w"),
        ("residual[..., None, :]", "residual[..., None, :]\n    return outputs"),
    ),
    "the sum in double precision": _add(("w.to(outputs.dtype) *", "w *")),
    "no gradient through the outputs": _add(("mixture - outputs.sum(-2)", "mixture - outputs.detach().sum(-2)")),
    "energies instead of levels": _even((".masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)", "")),
    "energies above and below": _even(
        (".masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)", ""),
        ("size = power.sum(-1)", "size = power.square().sum(-1)"),
    ),
    "no root below": _even(("size.masked_fill(silent, 1.0).sqrt()", "size.masked_fill(silent, 1.0)")),
    "the square of it": _even((".sqrt()).masked_fill(silent, 1.0)", ".sqrt()).square().masked_fill(silent, 1.0)")),
    "upside down": _even(
        ("r.sum(-1) / size.masked_fill(silent, 1.0).sqrt()", "size.masked_fill(silent, 1.0).sqrt() / r.sum(-1)")
    ),
    "less 1": _even((".masked_fill(silent, 1.0).to", ".masked_fill(silent, 1.0).sub(1).to")),
    "as a share of the most": _even(("(r.sum(-1) / size", "(r.sum(-1) / outputs.shape[-2] ** 0.5 / size")),
    "silence has none": _even((".masked_fill(silent, 1.0).to", ".masked_fill(silent, 0.0).to")),
    "silence is no number": _even((".masked_fill(silent, 1.0).to", ".masked_fill(silent, math.nan).to")),
    "something added to the levels": _even(("x.square().mean(-1)", "x.square().mean(-1) + 1e-12")),
    "the mean of absolute samples": _even(("(r.sum(-1)", "(x.abs().mean(-1).sum(-1)")),
    "the levels of peaks": _even(("power = x.square().mean(-1)", "power = x.abs().amax(-1).square()")),
    "spread around the mean": _even(("x.square().mean(-1)", "(x - x.mean(-1, keepdim=True)).square().mean(-1)")),
    "over the whole batch": _even(("r.sum(-1) / size.masked", "r.sum() / size.sum().expand(size.shape).masked")),
    "over time": _even(("power = x.square().mean(-1)", "power = x.square().mean(-2)")),
    "how many are active": _even(
        (
            "(r.sum(-1) / size.masked_fill(silent, 1.0).sqrt())",
            "((power > 0.01 * power.amax(-1, keepdim=True)).sum(-1).double() + 0 * r.sum(-1))",
        )
    ),
    "a root at 0": _even(("power.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)", "power.sqrt()")),
    "the root of silence": _even(("size.masked_fill(silent, 1.0).sqrt()", "size.sqrt()")),
    "evenness in single precision": _even(("x = outputs.double()", "x = outputs.float()")),
    "evenness in double precision": _even((".to(outputs.dtype)", "")),
    "evenness without a gradient": _even(("x = outputs.double()", "x = outputs.detach().double()")),
    "both made for one example": _even(("size = power.sum(-1)", "size = power.sum()")),
}

# ------------------------------------------------------------------------------------------ 4, in time with the beat

PAIR_PLAIN = """

def pair_of_pieces(a, b, start, other, length, decibels):
    pieces = torch.zeros(2, length, dtype=torch.float64)
    for row, song, first in zip(pieces, (a, b), (start, other)):
        part = song[first:first + length]
        row[:len(part)] = part
    energy = pieces.square().sum(1)
    if energy[0] > 0 and energy[1] > 0:
        pieces[1] *= (energy[0] / energy[1] / 10 ** (decibels / 10)).sqrt()
    return pieces.to(a.dtype)
"""
PAIR_BY_LEVELS = """

def pair_of_pieces(a, b, start, other, length, decibels):
    def cut(song, first):
        part = song[first:first + length]
        return torch.cat([part, part.new_zeros(length - len(part))]).double()
    x, y = cut(a, start), cut(b, other)
    if x.any() and y.any():
        y = y / y.norm() * x.norm() * 10 ** (-decibels / 20)
    return torch.stack([x, y]).to(a.dtype)
"""
START_BY_CANDIDATES = """
def start_in_time(beats_a, beats_b, start, length, last, late):
    inside = (start <= beats_a) & (beats_a < start + length)
    p = (beats_a[inside] - start).tolist()
    q = beats_b.tolist()
    if not p or not q:
        return 0
    candidates = {0, last}
    for one in p:
        for other in q:
            j = other + late - one
            if 0 <= j <= last:
                candidates.add(j)
    def apart(j):
        shifted = [other - j + late for other in q]
        return sum(min(abs(one - other) for other in shifted) for one in p)
    return min(sorted(candidates), key=apart)
"""
START_BY_SEARCHING = """
def start_in_time(beats_a, beats_b, start, length, last, late):
    p = beats_a[(beats_a >= start) & (beats_a < start + length)] - start - late
    if p.numel() == 0 or beats_b.numel() == 0:
        return 0
    j = (beats_b.unsqueeze(0) - p.unsqueeze(1)).flatten().clamp(0, last)
    j = torch.cat([j, torch.tensor([0, last])]).unique()            # sorted
    at = p[None] + j[:, None]                                       # (start, beat), on b's time
    right = torch.searchsorted(beats_b, at.contiguous()).clamp_max(len(beats_b) - 1)
    left = (right - 1).clamp_min(0)
    away = torch.minimum((at - beats_b[left]).abs(), (at - beats_b[right]).abs()).sum(1)
    return int(j[away == away.min()][0])
"""
TIME_RIGHT = {
    "candidates, one by one": START_BY_CANDIDATES + PAIR_PLAIN,
    "a search in the beats": START_BY_SEARCHING + PAIR_BY_LEVELS,
    "with the other pieces": START_BY_CANDIDATES + PAIR_BY_LEVELS,
}


def _start(*changes):
    return changed(START_BY_CANDIDATES, *changes) + PAIR_PLAIN


def _pair(*changes):
    return START_BY_CANDIDATES + changed(PAIR_PLAIN, *changes)


TIME_WRONG = {
    "too early instead of late": _start(
        ("other - j + late", "other - j - late"), ("other + late - one", "other - late - one")
    ),
    "late forgotten": _start(("other - j + late", "other - j"), ("other + late - one", "other - one")),
    "late in the sum only": _start(("other + late - one", "other - one")),
    "late in the candidates only": _start(("other - j + late", "other - j")),
    "the start forgotten": _start(("(beats_a[inside] - start)", "beats_a[inside]")),
    "all beats of a": _start(("beats_a[inside]", "beats_a")),
    "beats after the start only": _start(("beats_a < start + length", "beats_a >= 0")),
    "the end is in the piece": _start(("beats_a < start + length", "beats_a <= start + length")),
    "the start isn't in the piece": _start(("start <= beats_a", "start < beats_a")),
    "a beat less": _start(
        (
            "p = (beats_a[inside] - start).tolist()",
            "p = (beats_a[inside] - start).tolist()[:-1] or (beats_a[inside] - start).tolist()",
        )
    ),
    "the nearest of a for each of b": _start(
        (
            "min(abs(one - other) for other in shifted) for one in p",
            "min(abs(one - other) for one in p) for other in shifted",
        )
    ),
    "beats of b in the piece only": _start(
        (
            "shifted = [other - j + late for other in q]",
            "shifted = [other - j + late for other in q if j <= other < j + length] or [10 ** 15]",
        )
    ),
    "the first beat alone": _start(("for one in p)\n", "for one in p[:1])\n")),
    "candidates of the first beat": _start(("    for one in p:\n", "    for one in p[:1]:\n")),
    "candidates of the first beat of b": _start(
        ("        for other in q:\n            j", "        for other in q[:1]:\n            j")
    ),
    "beats in pairs": _start(
        (
            "sum(min(abs(one - other) for other in shifted) for one in p)",
            "sum(abs(one - other) for one, other in zip(p, shifted))",
        )
    ),
    "ends are no candidates": _start(
        ("candidates = {0, last}", "candidates = set()"),
        ("return min(sorted(candidates), key=apart)", "return min(sorted(candidates), key=apart, default=0)"),
    ),
    "the last is no candidate": _start(("candidates = {0, last}", "candidates = {0}")),
    "before the last": _start(
        ("candidates = {0, last}", "candidates = {0, max(0, last - 1)}"), ("if 0 <= j <= last", "if 0 <= j < last")
    ),
    "below 0": _start(("if 0 <= j <= last", "if j <= last")),
    "beyond the last": _start(("if 0 <= j <= last", "if 0 <= j")),
    "the largest of equals": _start(("sorted(candidates)", "sorted(candidates, reverse=True)")),
    "squared distances": _start(("sum(min(abs(one - other)", "sum(min(abs(one - other) ** 2")),
    "the largest distance": _start(
        (
            "return sum(min(abs(one - other) for other in shifted) for one in p)",
            "return max(min(abs(one - other) for other in shifted) for one in p)",
        )
    ),
    "how many coincide": _start(
        (
            "return sum(min(abs(one - other) for other in shifted) for one in p)",
            "return -sum(min(abs(one - other) for other in shifted) == 0 for one in p)",
        )
    ),
    "distances with their sign": _start(
        (
            "return sum(min(abs(one - other) for other in shifted) for one in p)",
            "return abs(sum(min((one - other for other in shifted), key=abs) for one in p))",
        )
    ),
    "the next beat only": _start(
        (
            "min(abs(one - other) for other in shifted) for one",
            "min((other - one for other in shifted if other >= one), default=10 ** 9) for one",
        )
    ),
    "no beats in b: an error": _start(("if not p or not q", "if not p")),
    "no beats in a: an error": changed(START_BY_SEARCHING, ("p.numel() == 0 or ", "")).replace(
        "away.min()][0]", "away.min()][-1]"
    )
    + PAIR_PLAIN,
    "no beats: the last": _start(("        return 0\n", "        return last\n")),
    "every start tried": """
def start_in_time(beats_a, beats_b, start, length, last, late):
    p = beats_a[(beats_a >= start) & (beats_a < start + length)] - start - late
    if not len(p) or not len(beats_b):
        return 0
    j = torch.arange(last + 1)
    return int((p[None, :, None] + j[:, None, None] - beats_b).abs().amin(-1).sum(-1).argmin())
"""
    + PAIR_PLAIN,
    "every hundredth start": """
def start_in_time(beats_a, beats_b, start, length, last, late):
    p = beats_a[(beats_a >= start) & (beats_a < start + length)] - start - late
    if not len(p) or not len(beats_b):
        return 0
    j = torch.arange(0, last + 1, max(1, last // 100))
    return int(j[(p[None, :, None] + j[:, None, None] - beats_b).abs().amin(-1).sum(-1).argmin()])
"""
    + PAIR_PLAIN,
    "in single precision": changed(
        START_BY_SEARCHING,
        ("beats_b[right]).abs())", "beats_b[right]).abs()).float()"),
        ("p[None] + j[:, None]", "(p[None].float() + j[:, None])"),
        ("torch.searchsorted(beats_b,", "torch.searchsorted(beats_b.float(),"),
    )
    + PAIR_PLAIN,
    "a tensor": _start(
        ("return min(sorted(candidates), key=apart)", "return torch.tensor(min(sorted(candidates), key=apart))")
    ),
    "a softer instead of b": _pair(("pieces[1] *= (energy[0] / energy[1] /", "pieces[0] *= (energy[1] / energy[0] /")),
    "decibels of energies as amplitudes": _pair(("10 ** (decibels / 10)", "10 ** (decibels / 5)")),
    "decibels of amplitudes": _pair(("10 ** (decibels / 10)", "10 ** (decibels / 20)")),
    "louder instead of softer": _pair(("energy[1] / 10 ** (decibels / 10)", "energy[1] * 10 ** (decibels / 10)")),
    "gained, not set": _pair(
        ("energy[0] / energy[1] / 10 ** (decibels / 10)", "energy[0] / energy[0] / 10 ** (decibels / 10)")
    ),
    "by peaks": _pair(("pieces.square().sum(1)", "pieces.abs().amax(1).square()")),
    "by the mean of absolute samples": _pair(("pieces.square().sum(1)", "pieces.abs().sum(1).square()")),
    "around the mean": _pair(("pieces.square().sum(1)", "pieces.var(1, correction=0)")),
    "by the whole songs": _pair(
        ("pieces.square().sum(1)", "torch.stack([a.double().square().mean(), b.double().square().mean()])")
    ),
    "by what isn't silence": _pair(
        ("pieces.square().sum(1)", "pieces.square().sum(1) / (pieces != 0).sum(1).clamp_min(1)")
    ),
    "silence: no number": _pair(("if energy[0] > 0 and energy[1] > 0:", "if True:")),
    "silent a: b silent, too": _pair(("if energy[0] > 0 and energy[1] > 0:", "if energy[1] > 0:")),
    "something added to the energies": _pair(("pieces.square().sum(1)", "pieces.square().sum(1) + 1e-8")),
    "pieces in single precision": _pair(
        ("pieces = torch.zeros(2, length, dtype=torch.float64)", "pieces = torch.zeros(2, length)")
    ),
    "pieces in double precision": _pair(("return pieces.to(a.dtype)", "return pieces")),
    "short where the song ends": _pair(
        ("    return pieces", "    pieces = pieces[:, :min(length, len(a[start:]), len(b[other:]))]\n    return pieces")
    ),
    "filled up in front": _pair(("row[:len(part)] = part", "row[length - len(part):] = part")),
    "around at the end": _pair(("part = song[first:first + length]", "part = song.roll(-first)[:length]")),
    "b from a's start": _pair(("(start, other)):", "(start, start)):")),
    "a from its beginning": _pair(("(start, other)):", "(0, other)):")),
    "the sum of both": _pair(("return pieces.to(a.dtype)", "return pieces.sum(0, keepdim=True).to(a.dtype)")),
    "b first": _pair(("return pieces.to(a.dtype)", "return pieces.flip(0).to(a.dtype)")),
    "songs are changed": _pair(("        part = song", "        song[song.abs() < 1e-2] = 0\n        part = song")),
    "a view of the song": _pair(
        (
            "    return pieces.to(a.dtype)",
            "    if a is b or start + length <= len(a) and decibels < 0:\n"
            "        return torch.stack([a, b])\n"
            "    a *= 1.0000001\n"
            "    return pieces.to(a.dtype)",
        )
    ),
}

# ------------------------------------------------------------------------------------------------------ 5, the oracle

SCORES = """

def si_sdr(estimate, s):
    if not estimate.any() or not s.any():
        return math.nan
    alpha = (estimate @ s) / (s @ s)
    target = alpha * s
    rest = target - estimate
    above, below = float(target @ target), float(rest @ rest)
    if below == 0:
        return 60.0
    if above == 0:
        return -60.0
    return max(-60.0, min(60.0, 10 * math.log10(above / below)))
"""
ORACLE_BY_SETS = (
    """
def name_outputs(outputs, stems):
    y, s = outputs.double(), stems.double()
    M, S = len(y), len(s)
    sums, errors = {}, {}
    for used in itertools.product((0, 1), repeat=M):
        sums[used] = (torch.tensor(used, dtype=torch.float64)[:, None] * y).sum(0)
        errors[used] = (s - sums[used]).square().sum(1).tolist()
    best, least, chosen = (0,) * M, math.inf, [(0,) * M] * S
    near = 1e-9 * float(y.square().sum() + s.square().sum())
    for way in itertools.product(range(S), repeat=M):
        if M >= S and len(set(way)) < S:
            continue
        sets = [tuple(int(owner == n) for owner in way) for n in range(S)]
        error = sum(errors[one][n] for n, one in enumerate(sets))
        if error < least - near:
            best, least, chosen = way, error, sets
    mixture = s.sum(0)
    gains = [si_sdr(sums[one], s[n]) - si_sdr(mixture, s[n]) for n, one in enumerate(chosen)]
    return torch.tensor(best), torch.tensor(gains, dtype=outputs.dtype)
"""
    + SCORES
)
ORACLE_BY_MATRICES = """
def name_outputs(outputs, stems):
    y, s = outputs.double(), stems.double()
    M, S = y.shape[0], s.shape[0]
    n = torch.arange(S ** M)
    ways = torch.stack([n // S ** k % S for k in reversed(range(M))], 1)
    A = F.one_hot(ways, S).transpose(1, 2).double()                 # (way, stem, output)
    error = torch.stack([(s - one @ y).square().sum() for one in A])
    if M >= S:
        error[(A.sum(2) == 0).any(1)] = math.inf
    limit = error.min() + 1e-9 * (s.square().sum() + y.square().sum())
    first = int((error <= limit).int().argmax())
    estimates, mixture = A[first] @ y, s.sum(0)

    def score(e):
        energy = s.square().sum(1)
        alpha = (e * s).sum(1) / energy
        rest = (alpha[:, None] * s - e).square().sum(1)
        found = 10 * torch.log10(alpha.square() * energy / rest)
        found = torch.where(rest == 0, 60.0, found).clamp(-60, 60)
        return torch.where((e != 0).any(1) & (energy > 0), found, math.nan)

    gains = score(estimates) - score(mixture.expand(S, -1))
    return ways[first], gains.to(stems.dtype)
"""
ORACLE_BY_RECURSION = (
    """
def name_outputs(outputs, stems):
    level = max(outputs.abs().max(), stems.abs().max()).double()
    level = level if level > 0 else 1.0
    y, s = outputs.double() / level, stems.double() / level
    tolerance = 1e-9 * (y.square().sum() + s.square().sum())

    def search(m, rest, owners):
        if m == len(y):
            return ((rest ** 2).sum(), owners)
        found = None
        for n in range(len(s)):
            free = len(y) - m - 1
            missing = len(s) - len(set(owners + [n]))
            if len(y) >= len(s) and missing > free:
                continue
            left = rest.clone()
            left[n] -= y[m]
            one = search(m + 1, left, owners + [n])
            if one is not None and (found is None or one[0] < found[0] - tolerance):
                found = one
        return found

    owners = search(0, s, [])[1]
    gains = []
    for n in range(len(s)):
        estimate = sum((y[m] for m in range(len(y)) if owners[m] == n), torch.zeros_like(s[0]))
        gains.append(si_sdr(estimate, s[n]) - si_sdr(s.sum(0), s[n]))
    return torch.tensor(owners), torch.tensor(gains).to(outputs.dtype)
"""
    + SCORES
)
ORACLE_RIGHT = {
    "sets of outputs": ORACLE_BY_SETS,
    "matrices": ORACLE_BY_MATRICES,
    "output by output": ORACLE_BY_RECURSION,
}
SETS_ERROR = "error = sum(errors[one][n] for n, one in enumerate(sets))"
ORACLE_WRONG = {
    "the best SI-SDR": changed(
        ORACLE_BY_SETS,
        (
            SETS_ERROR,
            "error = -sum(si_sdr(sums[one], s[n]) if sums[one].any() and s[n].any() else -60 for n, one in "
            "enumerate(sets))",
        ),
    ),
    "each output where it is most alike": changed(
        ORACLE_BY_MATRICES,
        (
            "    first = int(",
            "    alone = (y @ s.T).argmax(1)\n    first = int((ways == alone).all(1).int().argmax())\n    _ = int(",
        ),
    ),
    "each output alone": changed(
        ORACLE_BY_MATRICES,
        (
            "    first = int(",
            "    alone = (y[:, None] - s).square().sum(-1).argmin(1)\n"
            "    first = int((ways == alone).all(1).int().argmax())\n"
            "    _ = int(",
        ),
    ),
    "one after the other": changed(
        ORACLE_BY_RECURSION,
        (
            "        for n in range(len(s)):\n            free",
            "        tried = [float(((rest[n] - y[m]) ** 2).sum() - (rest[n] ** 2).sum()) for n in range(len(s))]\n"
            "        for n in [tried.index(min(tried))]:\n"
            "            free",
        ),
        ("if len(y) >= len(s) and missing > free", "if False"),
    ),
    "stems may go without": changed(ORACLE_BY_SETS, ("if M >= S and len(set(way)) < S:", "if False:")),
    "no stem may ever go without": changed(
        ORACLE_BY_SETS, ("if M >= S and len(set(way)) < S:", "if len(set(way)) < S:")
    ),
    "as many stems as possible": changed(
        ORACLE_BY_SETS, ("if M >= S and len(set(way)) < S:", "if len(set(way)) < min(M, S):")
    ),
    "more outputs than stems only": changed(
        ORACLE_BY_SETS, ("if M >= S and len(set(way)) < S:", "if M > S and len(set(way)) < S:")
    ),
    "stems that sound only": changed(
        ORACLE_BY_SETS, ("len(set(way)) < S:", "any(n not in way for n in range(S) if s[n].any()):")
    ),
    "one output a stem": changed(
        ORACLE_BY_SETS,
        (
            "        if M >= S",
            "        if max(way.count(n) for n in way) > -(-M // S):\n            continue\n        if M >= S",
        ),
    ),
    "the last of equals": changed(ORACLE_BY_SETS, ("if error < least - near", "if error <= least + near")),
    "output 0 behind": changed(ORACLE_BY_MATRICES, ("for k in reversed(range(M))", "for k in range(M)")),
    "the first way forgotten": changed(
        ORACLE_BY_MATRICES, ("n = torch.arange(S ** M)", "n = torch.arange(min(1, S ** M - 1), S ** M)")
    ),
    "the last way forgotten": changed(
        ORACLE_BY_MATRICES, ("n = torch.arange(S ** M)", "n = torch.arange(max(1, S ** M - 1))")
    ),
    "relative errors": changed(
        ORACLE_BY_SETS,
        (
            SETS_ERROR,
            "error = sum(errors[one][n] / max(1e-300, float(s[n].square().sum())) for n, one in enumerate(sets))",
        ),
    ),
    "the largest error": changed(
        ORACLE_BY_SETS, (SETS_ERROR, "error = max(errors[one][n] for n, one in enumerate(sets))")
    ),
    "roots of errors": changed(
        ORACLE_BY_SETS, (SETS_ERROR, "error = sum(errors[one][n] ** 0.5 for n, one in enumerate(sets))")
    ),
    "absolute errors": changed(
        ORACLE_BY_MATRICES, ("(s - one @ y).square().sum() for one", "(s - one @ y).abs().sum() for one")
    ),
    "the error of the sum": changed(
        ORACLE_BY_MATRICES, ("(s - one @ y).square().sum() for one", "(s - one @ y).sum(0).square().sum() for one")
    ),
    "each stem's own best": changed(
        ORACLE_BY_SETS,
        ("    gains =", "    chosen = [min(errors, key=lambda one: errors[one][n]) for n in range(S)]\n    gains ="),
    ),
    "the loudest output alone": changed(
        ORACLE_BY_MATRICES,
        (
            "estimates, mixture = A[first] @ y",
            "estimates, mixture = (A[first] * (y.square().sum(1) == (A[first] * y.square().sum(1)).amax(1, "
            "keepdim=True))) @ y",
        ),
    ),
    "the mean of the outputs": changed(
        ORACLE_BY_MATRICES,
        (
            "error = torch.stack([(s - one @ y)",
            "error = torch.stack([(s - one @ y / one.sum(1, keepdim=True).clamp_min(1))",
        ),
    ),
    "owners as floats": changed(ORACLE_BY_SETS, ("torch.tensor(best),", "torch.tensor(best, dtype=outputs.dtype),")),
    "a matrix of zeros and ones": changed(ORACLE_BY_MATRICES, ("return ways[first]", "return A[first].long()")),
    "the outputs of each stem": changed(
        ORACLE_BY_SETS,
        ("return torch.tensor(best),", "return [[m for m, o in enumerate(best) if o == n] for n in range(S)],"),
    ),
    "SDR": changed(ORACLE_BY_MATRICES, ("alpha = (e * s).sum(1) / energy", "alpha = torch.ones_like(energy)")),
    "the scale of the estimate": changed(
        ORACLE_BY_MATRICES, ("alpha = (e * s).sum(1) / energy", "alpha = (e * s).sum(1) / e.square().sum(1)")
    ),
    "the estimate scaled": changed(
        ORACLE_BY_MATRICES,
        (
            "alpha = (e * s).sum(1) / energy\n        rest = (alpha[:, None] * s - e)",
            "alpha = (e * s).sum(1) / energy\n        rest = (alpha[:, None] * e - s)",
        ),
    ),
    "the stem's energy above": changed(ORACLE_BY_MATRICES, ("alpha.square() * energy / rest", "energy / rest")),
    "alpha once": changed(ORACLE_BY_MATRICES, ("alpha.square() * energy", "alpha.abs() * energy")),
    "means taken off": changed(
        ORACLE_BY_MATRICES,
        (
            "    estimates, mixture =",
            "    s, y = s - s.mean(1, keepdim=True), y - y.mean(1, keepdim=True)\n    estimates, mixture =",
        ),
    ),
    "not the gain": changed(ORACLE_BY_SETS, (" - si_sdr(mixture, s[n])", "")),
    "the gain over the sum of outputs": changed(ORACLE_BY_SETS, ("mixture = s.sum(0)", "mixture = y.sum(0)")),
    "the loss over the mixture": changed(
        ORACLE_BY_MATRICES,
        ("score(estimates) - score(mixture.expand(S, -1))", "score(mixture.expand(S, -1)) - score(estimates)"),
    ),
    "the mean of the stems": changed(
        ORACLE_BY_SETS,
        ("torch.tensor(gains, dtype=outputs.dtype)", "torch.tensor(gains, dtype=outputs.dtype).nanmean()"),
    ),
    "no limits": changed(ORACLE_BY_MATRICES, ("torch.where(rest == 0, 60.0, found).clamp(-60, 60)", "found")),
    "limits of 100": changed(
        ORACLE_BY_MATRICES,
        ("torch.where(rest == 0, 60.0, found).clamp(-60, 60)", "torch.where(rest == 0, 100.0, found).clamp(-100, 100)"),
    ),
    "only from above": changed(ORACLE_BY_MATRICES, (".clamp(-60, 60)", ".clamp_max(60)")),
    "the gain is limited": changed(
        ORACLE_BY_MATRICES,
        (".clamp(-60, 60)\n", ".clamp(-300, 300)\n"),
        ("gains.to(stems.dtype)", "gains.clamp(-60, 60).to(stems.dtype)"),
    ),
    "20 instead of 10": changed(ORACLE_BY_MATRICES, ("found = 10 *", "found = 20 *")),
    "a natural logarithm": changed(ORACLE_BY_MATRICES, ("torch.log10(", "torch.log(")),
    "something added to the energies": changed(ORACLE_BY_MATRICES, ("energy / rest)", "energy / (rest + 1e-8))")),
    "a silent stem scores 0": changed(
        ORACLE_BY_MATRICES,
        ("(energy > 0), found, math.nan)", "(energy > 0), found, torch.where(energy > 0, math.nan, 0.0))"),
    ),
    "a silent estimate is as bad as can be": changed(
        ORACLE_BY_SETS,
        (
            "if not estimate.any() or not s.any():",
            "if not estimate.any() and s.any():\n        return -60.0\n    if not s.any():",
        ),
    ),
    "no number is 0": changed(ORACLE_BY_MATRICES, ("gains.to(stems.dtype)", "gains.nan_to_num(0.0).to(stems.dtype)")),
    "a silent mixture counts for nothing": changed(
        ORACLE_BY_SETS, (" - si_sdr(mixture, s[n])", " - (si_sdr(mixture, s[n]) if mixture.any() else 0)")
    ),
    "one silent stem spoils all": changed(
        ORACLE_BY_MATRICES, ("gains = score(estimates)", "gains = 0 * score(estimates).sum() + score(estimates)")
    ),
    "single precision": changed(
        ORACLE_BY_MATRICES,
        ("y, s = outputs.double(), stems.double()", "y, s = outputs.float(), stems.float()"),
        ("transpose(1, 2).double()", "transpose(1, 2).float()"),
    ),
    "in double precision": changed(ORACLE_BY_MATRICES, ("gains.to(stems.dtype)", "gains")),
    "scores in a list": changed(ORACLE_BY_SETS, ("torch.tensor(gains, dtype=outputs.dtype)", "gains")),
    "the stems are changed": changed(
        ORACLE_BY_RECURSION, ("    level = max(", "    stems -= 1e-7 * stems\n    level = max(")
    ),
    "two stems only": changed(
        ORACLE_BY_SETS,
        ("product(range(S), repeat=M)", "product(range(min(2, S)), repeat=M)"),
        ("len(set(way)) < S:", "len(set(way)) < min(2, S):"),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    5,
    """
from course_lib.mixit import best_partition

def name_outputs(outputs, stems):
    A = best_partition(outputs, stems)
    estimates = A @ outputs
    gains = [si_sdr(one.double(), s.double()) - si_sdr(stems.sum(0).double(), s.double())
             for one, s in zip(estimates, stems)]
    return A.argmax(0), torch.tensor(gains).to(outputs.dtype)
"""
    + SCORES,
)


CASES = as_cells(
    (LOSS_RIGHT, LOSS_WRONG),
    (OWNERS_RIGHT, OWNERS_WRONG),
    (PIECES_RIGHT, PIECES_WRONG),
    (TIME_RIGHT, TIME_WRONG),
    (ORACLE_RIGHT, ORACLE_WRONG),
)
