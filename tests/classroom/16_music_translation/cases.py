"""Answers to assignment 16 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------- 1, out of tune, without a jump

BENT = """
def detuned(x, start, length, semitones):
    time = x.shape[-1]
    end = min(start + length, time)
    if start >= end:
        return x.clone()
    i = torch.arange(start, end, dtype=torch.float64)
    ratio = 2 ** (semitones / 12)
    d = length / math.pi * (ratio - 1) * torch.sin(math.pi * (i - start) / length) ** 2
    t = torch.clamp(i + d, 0, time - 1)
    k = torch.floor(t).to(torch.int64)
    f = t - k
    left = x[..., k].to(torch.float64)
    right = x[..., torch.clamp(k + 1, max=time - 1)].to(torch.float64)
    y = x.clone()
    y[..., start:end] = (left + f * (right - left)).to(x.dtype)
    return y
"""
BENT_OVER_ALL = """
def detuned(x, start, length, semitones):
    n = torch.arange(x.shape[-1])
    inside = (n >= start) & (n < start + length)
    phase = math.pi * (n - start).double() / max(length, 1)
    d = (2 ** (semitones / 12) - 1) * length / math.pi * (1 - torch.cos(2 * phase)) / 2
    place = (n + d).clamp(0, x.shape[-1] - 1)
    lower = place.floor().long().clamp(max=max(0, x.shape[-1] - 2))
    upper = (lower + 1).clamp(max=x.shape[-1] - 1)
    share = place - lower
    a, b = x[..., lower].double(), x[..., upper].double()
    y = torch.lerp(a, b, share.expand(a.shape))
    return torch.where(inside, y.to(x.dtype), x)
"""
BENT_BY_SAMPLES = """
def detuned(x, start, length, semitones):
    y, last = x.clone(), x.shape[-1] - 1
    for i in range(start, min(start + length, last + 1)):
        d = length / math.pi * (2 ** (semitones / 12) - 1) * math.sin(math.pi * (i - start) / length) ** 2
        place = min(float(last), i + d)
        k = int(place)
        one = x[..., k].double()
        other = x[..., min(k + 1, last)].double()
        y[..., i] = (one * (k + 1 - place) + other * (place - k)).to(x.dtype)
    return y
"""
BENT_RIGHT = {
    "written into a copy": BENT,
    "all places, then chosen": BENT_OVER_ALL,
    "sample by sample": BENT_BY_SAMPLES,
}


def _bent(*changes):
    return changed(BENT, *changes)


BENT_WRONG = {
    "the chapter's way": """
def detuned(x, start, length, semitones):
    time = x.shape[-1]
    end = min(start + length, time)
    if start >= end:
        return x.clone()
    i = torch.arange(start, end, dtype=torch.float64)
    centre = start + length / 2
    t = (centre + 2 ** (semitones / 12) * (i - centre)).clamp(0, time - 1)
    k = t.floor().long()
    a, b = x[..., k].double(), x[..., (k + 1).clamp_max(time - 1)].double()
    return torch.cat([x[..., :start], (a + (t - k) * (b - a)).to(x.dtype), x[..., end:]], -1)
""",
    "flat for sharp": _bent(("i + d, 0", "i - d, 0")),
    "cents for semitones": _bent(("semitones / 12", "semitones / 1200")),
    "octaves for semitones": _bent(("2 ** (semitones / 12)", "2 ** semitones")),
    "a line for the ratio": _bent(("2 ** (semitones / 12)", "1 + semitones / 12")),
    "powers of e": _bent(("2 ** (semitones / 12)", "math.exp(semitones / 12)")),
    "the ratio's other side for flat ones": _bent(
        ("ratio = 2 ** (semitones / 12)", "ratio = 2 ** (abs(semitones) / 12)")
    ),
    "1 forgotten": _bent(("(ratio - 1)", "ratio")),
    "no square": _bent((") ** 2", ")")),
    "the fourth power": _bent((") ** 2", ") ** 4")),
    "two bumps": _bent(("torch.sin(math.pi * (i", "torch.sin(2 * math.pi * (i")),
    "half a bump": _bent(("torch.sin(math.pi * (i", "torch.sin(math.pi / 2 * (i")),
    "a cosine": _bent(("torch.sin(math.pi", "torch.cos(math.pi")),
    "without pi": _bent(("length / math.pi * (ratio", "length * (ratio")),
    "without the length": _bent(("length / math.pi * (ratio", "1 / math.pi * (ratio")),
    "half as far": _bent(("length / math.pi * (ratio", "length / 2 / math.pi * (ratio")),
    "from the sound's beginning": _bent(("(i - start) / length", "i / length")),
    "half a sample later": _bent(("(i - start) / length", "(i - start + 0.5) / length")),
    "to the last sample": _bent(("(i - start) / length", "(i - start) / max(1, length - 1)")),
    "the cut piece is a piece of its own": _bent(("    ratio =", "    length = end - start\n    ratio =")),
    "one sample less": _bent(("end = min(start + length, time)", "end = min(start + length - 1, time)")),
    "one sample more": _bent(("end = min(start + length, time)", "end = min(start + length + 1, time)")),
    "behind the end: an error": _bent(
        ("    if start >= end:\n        return x.clone()\n", "    assert start < time\n")
    ),
    "an empty piece: an error": _bent(("    if start >= end:\n", "    assert length > 0\n    if start >= end:\n")),
    "beyond the ends: zeros": _bent(
        ("    left = x", "    gone = (i + d > time - 1) | (i + d < 0)\n    left = x"),
        ("(left + f * (right - left))", "(left + f * (right - left)).masked_fill(gone, 0)"),
    ),
    "beyond the ends: around": _bent(("torch.clamp(i + d, 0, time - 1)", "torch.remainder(i + d, time)")),
    "beyond the ends: mirrored": _bent(
        (
            "torch.clamp(i + d, 0, time - 1)",
            "((i + d).abs() % max(1, 2 * time - 2) - (time - 1)).abs().mul(-1).add(time - 1)",
        )
    ),
    "behind the piece the last sample of the piece": _bent(
        ("torch.clamp(i + d, 0, time - 1)", "torch.clamp(i + d, 0, end - 1)")
    ),
    "the nearest sample": _bent(("f = t - k", "f = (t - k).round()")),
    "the sample below": _bent(("f = t - k", "f = 0 * t")),
    "shares the other way round": _bent(("f = t - k", "f = 1 - (t - k)")),
    "a cubic": _bent(("f = t - k", "f = (t - k) ** 2 * (3 - 2 * (t - k))")),
    "places in single precision": _bent(("dtype=torch.float64)\n    ratio", "dtype=torch.float32)\n    ratio")),
    "sounds in single precision": _bent(
        ("left = x[..., k].to(torch.float64)", "left = x[..., k].float()"),
        ("max=time - 1)].to(torch.float64)", "max=time - 1)].float()"),
        ("f = t - k", "f = (t - k).float()"),
    ),
    "a result in double precision": """
def detuned(x, start, length, semitones):
    time = x.shape[-1]
    end = min(start + length, time)
    if start >= end:
        return x.double()
    i = torch.arange(start, end, dtype=torch.float64)
    d = length / math.pi * (2 ** (semitones / 12) - 1) * torch.sin(math.pi * (i - start) / length) ** 2
    t = (i + d).clamp(0, time - 1)
    k = t.floor().long()
    a, b = x[..., k].double(), x[..., (k + 1).clamp_max(time - 1)].double()
    return torch.cat([x[..., :start].double(), a + (t - k) * (b - a), x[..., end:].double()], -1)
""",
    "the sound is changed": _bent(("    y = x.clone()\n", "    y = x.detach()\n")),
    "no gradient": _bent(
        ("    y = x.clone()\n", "    y = x.detach().clone()\n"),
        ("(left + f * (right - left))", "(left + f * (right - left)).detach()"),
    ),
    "all of it is read anew": _bent(
        ("i = torch.arange(start, end,", "i = torch.arange(time,"),
        ("    t = torch", "    d = d * ((i >= start) & (i < end)) + 1e-4\n    t = torch"),
        ("y[..., start:end] =", "y[...] ="),
    ),
    "outside by multiplication": _bent(
        (
            "    return y\n",
            "    inside = torch.zeros(time, dtype=x.dtype)\n    inside[start:end] = 1\n"
            "    return inside * y + (1 - inside) * x\n",
        )
    ),
    "only the piece": _bent(("    return y\n", "    return y[..., start:end]\n")),
    "along the first axis": _bent(
        ("time = x.shape[-1]", "time = x.shape[0]"),
        ("left = x[..., k]", "left = x[k]"),
        ("right = x[..., torch.clamp(k + 1, max=time - 1)]", "right = x[torch.clamp(k + 1, max=time - 1)]"),
        ("y[..., start:end] =", "y[start:end] ="),
    ),
    "two axes only": _bent(
        ("    time = x.shape[-1]\n", "    time = x.shape[-1]\n    if x.ndim > 2:\n        x = x[0]\n")
    ),
    "nothing": "def detuned(x, start, length, semitones):\n    return x.clone()",
    "rolled": _bent(("(left + f * (right - left)).to(x.dtype)", "x[..., start:end].roll(1, -1)")),
    "louder as well": _bent(("(left + f * (right - left))", "(left + f * (right - left)) * ratio")),
    "differences beyond single precision": _bent(
        (
            "(left + f * (right - left)).to(x.dtype)",
            "left.to(x.dtype) + f.to(x.dtype) * (right.to(x.dtype) - left.to(x.dtype))",
        )
    ),
}

# ----------------------------------------------------------------------------------------- 2, every domain counts alike

SURPRISED = """
def surprise(logits, frames, domains):
    here = torch.arange(logits.shape[2])[None] < frames[:, None]
    c = torch.where(here[:, None], logits.double(), torch.zeros((), dtype=torch.float64))
    mean = c.sum(2) / frames.double()[:, None]
    cost = -torch.log_softmax(mean, 1)[torch.arange(len(mean)), domains]
    best = mean.max(1, keepdim=True).values
    ties = (mean == best).sum(1)
    guess = (mean == best)[torch.arange(len(mean)), domains].double() / ties
    count = torch.bincount(domains, minlength=logits.shape[1]).double()
    weight = 1 / count[domains] / (count > 0).sum()
    return (weight * cost).sum().to(logits.dtype), float((weight * guess).sum())
"""
SURPRISED_BY_SOUNDS = """
def surprise(logits, frames, domains):
    costs, guesses = {}, {}
    for row, count, domain in zip(logits, frames.tolist(), domains.tolist()):
        mean = row[:, :count].double().mean(1)
        costs.setdefault(domain, []).append(-F.log_softmax(mean, 0)[domain])
        best = (mean == mean.max()).double()
        guesses.setdefault(domain, []).append(float(best[domain] / best.sum()))
    cost = sum(sum(v) / len(v) for v in costs.values()) / len(costs)
    guess = sum(sum(v) / len(v) for v in guesses.values()) / len(guesses)
    return cost.to(logits.dtype), guess
"""
SURPRISED_BY_DOMAINS = """
def surprise(logits, frames, domains):
    padding = torch.arange(logits.shape[-1]).expand(len(logits), -1) >= frames.unsqueeze(1)
    sums = logits.to(torch.float64).masked_fill(padding.unsqueeze(1), 0.0).sum(dim=-1)
    means = sums / frames.unsqueeze(1)
    losses, rights = [], []
    for k in sorted(set(domains.tolist())):
        mine = means[domains == k]
        losses.append(F.cross_entropy(mine, torch.full((len(mine),), k)))
        top = mine == mine.amax(dim=1, keepdim=True)
        rights.append((top[:, k].double() / top.sum(dim=1)).mean())
    return torch.stack(losses).mean().to(logits.dtype), torch.stack(rights).mean().item()
"""
SURPRISED_RIGHT = {
    "weights": SURPRISED,
    "sound by sound": SURPRISED_BY_SOUNDS,
    "domain by domain": SURPRISED_BY_DOMAINS,
}


def _surprised(*changes):
    return changed(SURPRISED, *changes)


def _of_domains(*changes):
    return changed(SURPRISED_BY_DOMAINS, *changes)


SURPRISED_WRONG = {
    "the chapter's": """
def surprise(logits, frames, domains):
    mean = logits.mean(-1)
    return F.cross_entropy(mean, domains), float((mean.argmax(1) == domains).float().mean())
""",
    "every sound counts alike": _surprised(
        (
            "weight = 1 / count[domains] / (count > 0).sum()",
            "weight = torch.full((len(mean),), 1 / len(mean), dtype=torch.float64)",
        )
    ),
    "sounds alike for the share only": _surprised(("float((weight * guess).sum())", "float(guess.mean())")),
    "domains alike for the share only": _surprised(("(weight * cost).sum()", "cost.mean()")),
    "every frame counts alike": _surprised(
        ("    count = torch", "    domains_of = frames.double()\n    count = torch"),
        ("weight = 1 / count[domains] / (count > 0).sum()", "weight = domains_of / domains_of.sum()"),
    ),
    "long sounds count more within a domain": _surprised(
        (
            "count = torch.bincount(domains, minlength=logits.shape[1]).double()",
            "count = torch.bincount(domains, frames.double(), minlength=logits.shape[1])",
        ),
        ("weight = 1 / count[domains]", "weight = frames / count[domains]"),
    ),
    "domains that don't occur count": _surprised(("(count > 0).sum()", "len(count)")),
    "PyTorch's class weights": """
def surprise(logits, frames, domains):
    here = torch.arange(logits.shape[2])[None] < frames[:, None]
    mean = logits.double().masked_fill(~here[:, None], 0).sum(2) / frames[:, None]
    count = torch.bincount(domains, minlength=logits.shape[1]).double()
    cost = F.cross_entropy(mean, domains, weight=1 / (count + 1))
    best = mean == mean.amax(1, keepdim=True)
    guess = best[torch.arange(len(mean)), domains] / best.sum(1).double()
    weight = 1 / count[domains] / (count > 0).sum()
    return cost.to(logits.dtype), float((weight * guess).sum())
""",
    "padding counts": _surprised((" / frames.double()[:, None]", " / logits.shape[2]")),
    "padding by zero times": _surprised(
        (
            "torch.where(here[:, None], logits.double(), torch.zeros((), dtype=torch.float64))",
            "logits.double() * here[:, None]",
        )
    ),
    "padding through nan_to_num": _surprised(
        (
            "torch.where(here[:, None], logits.double(), torch.zeros((), dtype=torch.float64))",
            "logits.double().nan_to_num(0.0)",
        )
    ),
    "one frame too many": _surprised(("[None] < frames", "[None] <= frames")),
    "one frame less": _surprised(("[None] < frames", "[None] + 1 < frames")),
    "the longest for all": _surprised(("[None] < frames[:, None]", "[None] < frames.max() + 0 * frames[:, None]")),
    "the shortest for all": _surprised(
        ("frames[:, None]\n", "frames.min() + 0 * frames[:, None]\n"),
        (" / frames.double()[:, None]", " / frames.min()"),
    ),
    "padding in front": _surprised(
        (
            "torch.arange(logits.shape[2])[None] < frames[:, None]",
            "torch.arange(logits.shape[2]).flip(0)[None] < frames[:, None]",
        )
    ),
    "sums of logits": _surprised((" / frames.double()[:, None]", "")),
    "cross entropy of each frame": """
def surprise(logits, frames, domains):
    weight_of = torch.bincount(domains, minlength=logits.shape[1]).double()
    losses, rights = [], []
    for row, n, k in zip(logits.double(), frames.tolist(), domains.tolist()):
        losses.append(F.cross_entropy(row[:, :n].T, torch.full((n,), k)) / weight_of[k])
        mean = row[:, :n].mean(1)
        best = (mean == mean.max()).double()
        rights.append(best[k] / best.sum() / weight_of[k])
    some = (weight_of > 0).sum()
    return (sum(losses) / some).to(logits.dtype), float(sum(rights) / some)
""",
    "mean of probabilities": """
def surprise(logits, frames, domains):
    weight_of = torch.bincount(domains, minlength=logits.shape[1]).double()
    losses, rights = [], []
    for row, n, k in zip(logits.double(), frames.tolist(), domains.tolist()):
        p = row[:, :n].softmax(0).mean(1)
        losses.append(-p[k].clamp_min(1e-30).log() / weight_of[k])
        mean = row[:, :n].mean(1)
        best = (mean == mean.max()).double()
        rights.append(best[k] / best.sum() / weight_of[k])
    some = (weight_of > 0).sum()
    return (sum(losses) / some).to(logits.dtype), float(sum(rights) / some)
""",
    "in bits": _surprised(("(weight * cost).sum()", "(weight * cost).sum() / math.log(2)")),
    "the sign": _surprised(("-torch.log_softmax", "torch.log_softmax")),
    "softmax before": _surprised(("-torch.log_softmax(mean, 1)", "-torch.log_softmax(mean.softmax(1), 1)")),
    "the logarithm of a softmax": _surprised(("-torch.log_softmax(mean, 1)", "-mean.softmax(1).log()")),
    "a softmax that is kept from 0": _surprised(
        ("-torch.log_softmax(mean, 1)", "-mean.softmax(1).clamp_min(1e-9).log()")
    ),
    "exponentials": _surprised(
        ("-torch.log_softmax(mean, 1)", "-(mean.exp() / mean.exp().sum(1, keepdim=True)).log()")
    ),
    "the difference of two large numbers": _surprised(
        (
            "-torch.log_softmax(mean, 1)[torch.arange(len(mean)), domains]",
            "torch.logsumexp(mean, 1).float() - mean[torch.arange(len(mean)), domains].float()",
        )
    ),
    "softmax over sounds": _surprised(("-torch.log_softmax(mean, 1)", "-torch.log_softmax(mean, 0)")),
    "in single precision": _surprised(
        ("logits.double()", "logits.float()"),
        ("torch.zeros((), dtype=torch.float64)", "torch.zeros(())"),
        ("frames.double()", "frames"),
    ),
    "of the first domain": _surprised(
        ("torch.log_softmax(mean, 1)[torch.arange(len(mean)), domains]", "torch.log_softmax(mean, 1)[:, 0]")
    ),
    "no ties": _surprised(
        (
            "    guess = (mean == best)[torch.arange(len(mean)), domains].double() / ties",
            "    guess = (mean.argmax(1) == domains).double()",
        )
    ),
    "ties are right": _surprised((".double() / ties", ".double()")),
    "ties are wrong": _surprised((".double() / ties", ".double() * (ties == 1)")),
    "ties are half right": _surprised((".double() / ties", ".double() / ties.clamp_max(2)")),
    "ties by all domains": _surprised((".double() / ties", ".double() / torch.where(ties > 1, mean.shape[1], 1)")),
    "ties up to a little": _surprised(
        ("best = mean.max(1, keepdim=True).values", "best = mean.max(1, keepdim=True).values - 1e-6"),
        ("ties = (mean == best)", "ties = (mean >= best)"),
        ("guess = (mean == best)", "guess = (mean >= best)"),
    ),
    "the smallest logit": _surprised(("mean.max(1, keepdim=True)", "mean.min(1, keepdim=True)")),
    "the share of wrong ones": _surprised(("float((weight * guess).sum())", "1 - float((weight * guess).sum())")),
    "in percent": _surprised(("float((weight * guess).sum())", "100 * float((weight * guess).sum())")),
    "the number of right ones": _surprised(("float((weight * guess).sum())", "float(guess.sum())")),
    "the share as a tensor": _surprised(("float((weight * guess).sum())", "(weight * guess).sum()")),
    "the surprise as a float": _surprised(("(weight * cost).sum().to(logits.dtype)", "float((weight * cost).sum())")),
    "the surprise in double precision": _surprised((".sum().to(logits.dtype)", ".sum()")),
    "the surprise of each sound": _surprised(("(weight * cost).sum().to(logits.dtype)", "cost.to(logits.dtype)")),
    "an axis of one": _surprised(
        ("(weight * cost).sum().to(logits.dtype)", "(weight * cost).sum().to(logits.dtype)[None]")
    ),
    "no gradient": _surprised(
        ("(weight * cost).sum().to(logits.dtype)", "(weight * cost).sum().to(logits.dtype).detach()")
    ),
    "all domains have to occur": _of_domains(("sorted(set(domains.tolist()))", "range(logits.shape[1])")),
    "domains up to the largest": _of_domains(
        ("for k in sorted(set(domains.tolist())):", "for k in range(int(domains.max()) + 1):")
    ),
    "the domain's mean logits": _of_domains(
        ("mine = means[domains == k]", "mine = means[domains == k].mean(0, keepdim=True)")
    ),
    "the sum over domains": _of_domains(("torch.stack(losses).mean()", "torch.stack(losses).sum()")),
    "the median over domains": _of_domains(("torch.stack(losses).mean()", "torch.stack(losses).median()")),
    "the logits are changed": _of_domains(
        (
            "    sums = logits.to(torch.float64).masked_fill(padding.unsqueeze(1), 0.0)",
            "    logits.detach().masked_fill_(padding.unsqueeze(1), 0.0)\n    sums = logits.to(torch.float64)",
        )
    ),
    "the domains are sorted": _of_domains(("    padding =", "    domains.copy_(domains.sort().values)\n    padding =")),
    "logits that are cut off": _of_domains(
        ("means = sums / frames.unsqueeze(1)", "means = (sums / frames.unsqueeze(1)).clamp(-50, 50)")
    ),
    "frames of the first sound": _of_domains((">= frames.unsqueeze(1)", ">= frames[0]")),
}

# ------------------------------------------------------------------------------------ 3, nobody moves what isn't his

ROUND = """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    found = []
    for name, player, sign in (("critic", critic, 1.0), ("encoder", encoder, -1.0)):
        loss = loss_of(critic(encoder(x)))
        found.append(loss.item())
        own = [p for p in player.parameters() if p.requires_grad]
        for p in [*encoder.parameters(), *critic.parameters()]:
            p.grad = None
        if not own:
            continue
        gradients = torch.autograd.grad(sign * weight * loss, own, allow_unused=True)
        fine = bool(torch.isfinite(loss))
        for g in gradients:
            fine = fine and (g is None or bool(torch.isfinite(g).all()))
        if fine:
            for p, g in zip(own, gradients):
                p.grad = None if g is None else torch.clamp(g, -1.0, 1.0)
            optimizers[name].step()
        for p in own:
            p.grad = None
    return tuple(found)
"""
ROUND_BY_BACKWARD = """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    return (move(critic, encoder, critic, encoder, optimizers["critic"], x, loss_of, weight),
            move(encoder, critic, critic, encoder, optimizers["encoder"], x, loss_of, -weight))


def move(mine, others, critic, encoder, optimizer, x, loss_of, weight):
    flags = [(p, p.requires_grad) for p in others.parameters()]
    for p in [*mine.parameters(), *others.parameters()]:
        p.grad = None
    others.requires_grad_(False)
    try:
        loss = loss_of(critic(encoder(x)))
        if loss.requires_grad and math.isfinite(loss.item()):
            (weight * loss).backward()
            gradients = [p.grad for p in mine.parameters() if p.grad is not None]
            if all(g.isfinite().all() for g in gradients):
                torch.nn.utils.clip_grad_value_(mine.parameters(), 1.0, foreach=False)
                optimizer.step()
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
        for p in mine.parameters():
            p.grad = None
    return loss.item()
"""
ROUND_WITH_A_CUT = """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    def clear():
        for p in [*encoder.parameters(), *critic.parameters()]:
            p.grad = None

    def go(player, optimizer):
        grads = [p.grad for p in player.parameters() if p.grad is not None]
        if all(bool(g.isfinite().all()) for g in grads):
            for g in grads:
                g.clamp_(-1, 1)
            optimizer.step()
        clear()

    clear()
    with torch.no_grad():
        z = encoder(x)
    first = loss_of(critic(z))
    if first.isfinite() and first.requires_grad:
        (weight * first).backward()
        go(critic, optimizers["critic"])
    second = loss_of(critic(encoder(x)))
    if second.isfinite() and second.requires_grad:
        (-weight * second).backward()
        for p in critic.parameters():
            p.grad = None
        go(encoder, optimizers["encoder"])
    clear()
    return float(first.detach()), float(second.detach())
"""
ROUND_RIGHT = {
    "gradients asked for": ROUND,
    "the other one frozen for a while": ROUND_BY_BACKWARD,
    "codes without a gradient": ROUND_WITH_A_CUT,
}


def _round(*changes):
    return changed(ROUND, *changes)


def _cut(*changes):
    return changed(ROUND_WITH_A_CUT, *changes)


def _frozen(*changes):
    return changed(ROUND_BY_BACKWARD, *changes)


ROUND_WRONG = {
    "the encoder lowers L, too": _round(("encoder, -1.0)", "encoder, 1.0)")),
    "the critic raises L": _round(("critic, 1.0)", "critic, -1.0)"), ("encoder, -1.0)", "encoder, 1.0)")),
    "signs the other way round": _cut(
        ("(weight * first)", "(-weight * first)"), ("(-weight * second)", "(weight * second)")
    ),
    "the encoder first": _round(
        (
            '(("critic", critic, 1.0), ("encoder", encoder, -1.0))',
            '(("encoder", encoder, -1.0), ("critic", critic, 1.0))',
        )
    ),
    "the encoder first, told in order": _round(
        (
            '(("critic", critic, 1.0), ("encoder", encoder, -1.0))',
            '(("encoder", encoder, -1.0), ("critic", critic, 1.0))',
        ),
        ("return tuple(found)", "return tuple(found[::-1])"),
    ),
    "against the critic as it was": """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    loss = loss_of(critic(encoder(x)))
    players = {"critic": (critic, 1.0), "encoder": (encoder, -1.0)}
    moves = {}
    for name, (player, sign) in players.items():
        own = [p for p in player.parameters() if p.requires_grad]
        g = torch.autograd.grad(sign * weight * loss, own, allow_unused=True, retain_graph=True) if own else ()
        moves[name] = [(p, one) for p, one in zip(own, g) if one is not None]
    for p in [*encoder.parameters(), *critic.parameters()]:
        p.grad = None
    for name, known in moves.items():
        if known and loss.isfinite() and all(bool(g.isfinite().all()) for _, g in known):
            for p, g in known:
                p.grad = g.clamp(-1, 1)
            optimizers[name].step()
            for p, _ in known:
                p.grad = None
    return float(loss.detach()), float(loss.detach())
""",
    "one graph for both": """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    for p in [*encoder.parameters(), *critic.parameters()]:
        p.grad = None
    loss = loss_of(critic(encoder(x)))
    (weight * loss).backward(retain_graph=True)
    optimizers["critic"].step()
    for p in encoder.parameters():
        p.grad = None
    (-weight * loss).backward()
    optimizers["encoder"].step()
    for p in [*encoder.parameters(), *critic.parameters()]:
        p.grad = None
    return float(loss.detach()), float(loss.detach())
""",
    "codes from before for both": _cut(("second = loss_of(critic(encoder(x)))", "second = loss_of(critic(z))")),
    "told is the first loss twice": _round(("return tuple(found)", "return found[0], found[0]")),
    "told are losses after the moves": _round(
        (
            "return tuple(found)",
            "found = [found[1], float(loss_of(critic(encoder(x))).detach())]\n    return tuple(found)",
        )
    ),
    "told with lambda": _round(("loss.item()", "weight * loss.item()")),
    "told with lambda and sign": _round(("loss.item()", "sign * weight * loss.item()")),
    "told as tensors": _round(("loss.item()", "loss.detach()")),
    "told in the other order": _round(("return tuple(found)", "return tuple(found[::-1])")),
    "told is the sum": _round(("return tuple(found)", "return sum(found)")),
    "lambda for the critic only": _round(("sign * weight * loss, own", "(weight if sign > 0 else -1.0) * loss, own")),
    "lambda for the encoder only": _round(("sign * weight * loss, own", "(1.0 if sign > 0 else -weight) * loss, own")),
    "no lambda": _round(("sign * weight * loss, own", "sign * loss, own")),
    "lambda after the cut": _round(
        ("sign * weight * loss, own", "sign * loss, own"),
        ("torch.clamp(g, -1.0, 1.0)", "weight * torch.clamp(g, -1.0, 1.0)"),
    ),
    "the critic's gradients not cut off": _round(
        ("torch.clamp(g, -1.0, 1.0)", "g if sign > 0 else torch.clamp(g, -1.0, 1.0)")
    ),
    "the encoder's gradients not cut off": _round(
        ("torch.clamp(g, -1.0, 1.0)", "g if sign < 0 else torch.clamp(g, -1.0, 1.0)")
    ),
    "cut off by the norm": _round(("torch.clamp(g, -1.0, 1.0)", "g / g.norm().clamp_min(1.0)")),
    "cut off above only": _round(("torch.clamp(g, -1.0, 1.0)", "g.clamp(max=1.0)")),
    "cut off at lambda": _round(("torch.clamp(g, -1.0, 1.0)", "g.clamp(-weight, weight)")),
    "signs of gradients": _round(("torch.clamp(g, -1.0, 1.0)", "g.sign()")),
    "old gradients count": """
def play_round(encoder, critic, optimizers, x, loss_of, weight):
    found = []
    for name, player, sign in (("critic", critic, 1.0), ("encoder", encoder, -1.0)):
        loss = loss_of(critic(encoder(x)))
        found.append(loss.item())
        own = [p for p in player.parameters() if p.requires_grad]
        if own:
            gradients = torch.autograd.grad(sign * weight * loss, own, allow_unused=True)
            if loss.isfinite() and all(g is None or bool(g.isfinite().all()) for g in gradients):
                for p, g in zip(own, gradients):
                    if g is not None:
                        p.grad = (g if p.grad is None else p.grad + g).clamp(-1, 1)
                optimizers[name].step()
        for p in player.parameters():
            p.grad = None
    return tuple(found)
""",
    "frozen ones with old gradients move": _round(
        ("        for p in [*encoder.parameters(), *critic.parameters()]:\n            p.grad = None\n", ""),
        ("p.grad = None if g is None else torch.clamp(g, -1.0, 1.0)", "p.grad = None if g is None else g.clamp(-1, 1)"),
        (
            "    return tuple(found)",
            "    for p in [*encoder.parameters(), *critic.parameters()]:\n        p.grad = None\n"
            "    return tuple(found)",
        ),
    ),
    "gradients of 0 instead of none": _round(
        (
            "            p.grad = None\n        if not own",
            "            p.grad = torch.zeros_like(p)\n        if not own",
        ),
        (
            "    return tuple(found)",
            "    for p in [*encoder.parameters(), *critic.parameters()]:\n        p.grad = None\n"
            "    return tuple(found)",
        ),
    ),
    "unused ones get a gradient of 0": _round(
        (
            "None if g is None else torch.clamp(g, -1.0, 1.0)",
            "torch.zeros_like(p) if g is None else torch.clamp(g, -1.0, 1.0)",
        )
    ),
    "the critic's gradients are left over": _cut(
        ("        for p in critic.parameters():\n            p.grad = None\n        go(encoder", "        go(encoder"),
        ("            optimizer.step()\n        clear()", "            optimizer.step()"),
        ("    clear()\n    return", "    return"),
    ),
    "gradients of 0 are left over": _round(
        (
            "    return tuple(found)",
            "    for p in critic.parameters():\n        p.grad = torch.zeros_like(p)\n    return tuple(found)",
        )
    ),
    "old gradients of a player that doesn't move are left over": _round(
        (
            "        for p in [*encoder.parameters(), *critic.parameters()]:\n            p.grad = None\n"
            "        if not own:\n            continue\n",
            "        if not own:\n            continue\n"
            "        for p in [*encoder.parameters(), *critic.parameters()]:\n            p.grad = None\n",
        ),
    ),
    "the critic's step moves the encoder, too": _cut(
        (
            "    with torch.no_grad():\n        z = encoder(x)\n    first = loss_of(critic(z))",
            "    first = loss_of(critic(encoder(x)))",
        ),
        ('go(critic, optimizers["critic"])', 'optimizers["encoder"].step()\n        go(critic, optimizers["critic"])'),
    ),
    "the encoder's step moves the critic, too": _cut(
        (
            "        for p in critic.parameters():\n            p.grad = None\n        go(encoder",
            '        optimizers["critic"].step()\n        go(encoder',
        )
    ),
    "L isn't looked at": _round(("fine = bool(torch.isfinite(loss))", "fine = True")),
    "gradients aren't looked at": _round(("fine = fine and (g is None or bool(torch.isfinite(g).all()))", "pass")),
    "NaN only": _round(
        ("bool(torch.isfinite(g).all())", "not bool(torch.isnan(g).any())"),
        ("bool(torch.isfinite(loss))", "not bool(torch.isnan(loss))"),
    ),
    "gradients that aren't finite become 0": _round(
        ("fine = fine and (g is None or bool(torch.isfinite(g).all()))", "pass"),
        ("torch.clamp(g, -1.0, 1.0)", "g.nan_to_num(0.0, 1.0, -1.0).clamp(-1, 1)"),
    ),
    "cut off before looking": _round(
        ("bool(torch.isfinite(g).all())", "not bool(g.clamp(-1, 1).isnan().any())"),
        ("bool(torch.isfinite(loss))", "not bool(torch.isnan(loss))"),
    ),
    "one who can't move stops the round": _round(
        (
            "        if fine:\n",
            "        if not fine:\n            return found[0], loss_of(critic(encoder(x))).item()\n        if fine:\n",
        )
    ),
    "one who is frozen stops the round": _round(
        ("            continue\n", "            return found[0], loss_of(critic(encoder(x))).item()\n")
    ),
    "both or nobody": _round(
        (
            "    found = []\n",
            "    found = []\n    every = [p for p in [*encoder.parameters(), *critic.parameters()] if "
            "p.requires_grad]\n    if every:\n"
            "        try_ = torch.autograd.grad(loss_of(critic(encoder(x))), every, allow_unused=True)\n"
            "        if not all(g is None or bool(g.isfinite().all()) for g in try_):\n"
            "            L = loss_of(critic(encoder(x))).item()\n            for p in every:\n"
            "                p.grad = None\n            return L, L\n",
        )
    ),
    "an error where L isn't finite": _round(
        ("        own =", "        assert math.isfinite(loss.item())\n        own =")
    ),
    "infinite gradients are a step with no gradient": _round(
        (
            "        if fine:\n",
            "        if not fine:\n"
            "            gradients = [None if g is None else torch.zeros_like(g) for g in gradients]\n"
            "        if True:\n",
        )
    ),
    "frozen for good": _frozen(("            p.requires_grad_(flag)", "            pass")),
    "all unfrozen afterwards": _frozen(("p.requires_grad_(flag)", "p.requires_grad_(True)")),
    "frozen ones move": _round(
        ("if p.requires_grad]", "]"),
        (
            "        loss = loss_of",
            "        flags = [p.requires_grad for p in player.parameters()]\n        player.requires_grad_(True)\n"
            "        loss = loss_of",
        ),
        (
            "        for p in own:\n",
            "        for p, flag in zip(player.parameters(), flags):\n            p.requires_grad_(flag)\n"
            "        for p in own:\n",
        ),
    ),
    "a frozen player: an error": _round(("        if not own:\n            continue\n", "")),
    "every parameter is used": _round((", allow_unused=True", "")),
    "training mode for all": _round(("    found = []\n", "    found = []\n    encoder.train(), critic.train()\n")),
    "the encoder in eval mode": _round(("    return tuple(found)", "    encoder.eval()\n    return tuple(found)")),
    "steps by hand": _round(
        (
            "            optimizers[name].step()\n",
            "            with torch.no_grad():\n                for p in own:\n"
            "                    if p.grad is not None:\n                        p -= 0.1 * p.grad\n",
        )
    ),
    "two steps": _round(("optimizers[name].step()", "optimizers[name].step()\n            optimizers[name].step()")),
    "the critic's optimizer for both": _round(("optimizers[name].step()", 'optimizers["critic"].step()')),
    "only the critic moves": _round(
        (
            "            optimizers[name].step()",
            '            if name == "critic":\n                optimizers[name].step()',
        )
    ),
    "only the encoder moves": _round(
        (
            "            optimizers[name].step()",
            '            if name == "encoder":\n                optimizers[name].step()',
        )
    ),
    "the encoder moves by codes, not by weights": _round(
        ("loss = loss_of(critic(encoder(x)))", "loss = loss_of(critic(encoder(x).detach().requires_grad_()))")
    ),
    "x is made softer": _round(("    found = []\n", "    found = []\n    x.mul_(0.99)\n")),
    "the first sounds only": _round(("loss = loss_of(critic(encoder(x)))", "loss = loss_of(critic(encoder(x[:3])))")),
}

# ---------------------------------------------------------------------------------- 4, wrong, or only in another key?

AGREEING = """
def agreements(chroma, truth):
    a, b = chroma.double(), truth.double()
    heard = b.abs().sum(0) > 0
    a, b = a[:, heard], b[:, heard]
    flat = is_flat(a) | is_flat(b)
    a, b = centred(a), centred(b)
    found = []
    for s in range(12):
        shifted = torch.cat([a[s:], a[:s]])
        r = (shifted * b).sum(0) / ((shifted * shifted).sum(0) * (b * b).sum(0)).sqrt()
        found.append(torch.where(flat, 0.0, r).mean())
    return torch.stack(found)


def is_flat(x):
    return x.max(0).values - x.min(0).values <= 1e-9 * x.max(0).values if x.numel() else torch.zeros(0).bool()


def centred(x):
    if not x.numel():
        return x
    x = x / x.max(0, keepdim=True).values
    return x - x.mean(0, keepdim=True)

"""
AGREEING_BY_FRAMES = """
def agreements(chroma, truth):
    sums, frames = [0.0] * 12, 0
    for a, b in zip(chroma.double().T.tolist(), truth.double().T.tolist()):
        if not any(b):
            continue
        frames += 1
        if max(a) - min(a) <= 1e-9 * max(a) or max(b) - min(b) <= 1e-9 * max(b):
            continue
        a, b = ([v / max(one) for v in one] for one in (a, b))
        a, b = ([v - sum(one) / 12 for v in one] for one in (a, b))
        size = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
        for s in range(12):
            sums[s] += sum(a[(c + s) % 12] * b[c] for c in range(12)) / size
    return torch.tensor([v / frames if frames else math.nan for v in sums], dtype=torch.float64)

"""
AGREEING_BY_MATRIX = """
def agreements(chroma, truth):
    sounds = truth.amax(0) > 0
    a, b = (unit(one.double()[:, sounds]) for one in (chroma, truth))
    table = a @ b.T                                     # (class of a, class of b)
    c = torch.arange(12)
    sums = torch.stack([table[(c + s) % 12, c].sum() for s in range(12)])
    return sums / sounds.sum()


def unit(x):
    top, low = x.amax(0), x.amin(0)
    x = torch.where(top > 0, x / top, 0.0)
    x = x - x.mean(0)
    x = x / x.square().sum(0).sqrt()
    return torch.where(top - low <= 1e-9 * top, 0.0, x)

"""
KEY = """
def key_of(found):
    if bool(torch.isnan(found).any()):
        return 0
    for s in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6):
        if float(found[s]) >= float(found.max()) - 1e-9:
            return s
"""
KEY_BY_SORT = """
def key_of(found):
    if torch.isnan(found[0]):
        return 0
    order = sorted(range(-5, 7), key=lambda s: (abs(s), s < 0))
    rolled = found[torch.tensor([s % 12 for s in order])]
    return order[int((rolled >= rolled.max() - 1e-9).int().argmax())]
"""
KEYS_RIGHT = {
    "shift by shift": AGREEING + KEY,
    "frame by frame": AGREEING_BY_FRAMES + KEY_BY_SORT,
    "one product of matrices": AGREEING_BY_MATRIX + KEY,
}


def _agreeing(*changes):
    return changed(AGREEING, *changes) + KEY


def _matrix(*changes):
    return changed(AGREEING_BY_MATRIX, *changes) + KEY


def _by_frames(*changes):
    return changed(AGREEING_BY_FRAMES, *changes) + KEY


def _key(*changes):
    return AGREEING + changed(KEY, *changes)


KEYS_WRONG = {
    "shifted the other way": _agreeing(("torch.cat([a[s:], a[:s]])", "a.roll(s, 0)")),
    "not shifted": _agreeing(("torch.cat([a[s:], a[:s]])", "a")),
    "shifted in time": _agreeing(("torch.cat([a[s:], a[:s]])", "a.roll(-s, 1)")),
    "both shifted": _agreeing(("r = (shifted * b)", "r = (shifted * b.roll(-s, 0))")),
    "shifted without coming round": _agreeing(("torch.cat([a[s:], a[:s]])", "torch.cat([a[s:], 0 * a[:s]])")),
    "cosine without the mean": _agreeing(("return x - x.mean(0, keepdim=True)", "return x")),
    "the mean of all frames": _agreeing(("return x - x.mean(0, keepdim=True)", "return x - x.mean()")),
    "the mean over time": _agreeing(("return x - x.mean(0, keepdim=True)", "return x - x.mean(1, keepdim=True)")),
    "covariance": _agreeing((" / ((shifted * shifted).sum(0) * (b * b).sum(0)).sqrt()", "")),
    "no root": _agreeing(("(b * b).sum(0)).sqrt()", "(b * b).sum(0))")),
    "only the truth's size": _agreeing(("((shifted * shifted).sum(0) * (b * b).sum(0)).sqrt()", "(b * b).sum(0)")),
    "squared correlations": _agreeing(("torch.where(flat, 0.0, r)", "torch.where(flat, 0.0, r * r)")),
    "sizes of correlations": _agreeing(("torch.where(flat, 0.0, r)", "torch.where(flat, 0.0, r.abs())")),
    "none below 0": _agreeing(("torch.where(flat, 0.0, r)", "torch.where(flat, 0.0, r.clamp_min(0))")),
    "one correlation over all": """
def agreements(chroma, truth):
    sounds = (truth > 0).any(0)
    a, b = chroma[:, sounds].double(), truth[:, sounds].double()
    found = []
    for s in range(12):
        v, w = a.roll(-s, 0).flatten(), b.flatten()
        v, w = v - v.mean(), w - w.mean()
        found.append((v * w).sum() / (v.norm() * w.norm()).clamp_min(1e-300))
    return torch.stack(found) if sounds.any() else torch.full((12,), math.nan).double()

"""
    + KEY,
    "the mean chroma only": """
def agreements(chroma, truth):
    sounds = (truth > 0).any(0)
    a, b = chroma[:, sounds].double().mean(1), truth[:, sounds].double().mean(1)
    a, b = a - a.mean(), b - b.mean()
    return torch.stack([(a.roll(-s) * b).sum() / (a.norm() * b.norm()) for s in range(12)])

"""
    + KEY,
    "the strongest class only": """
def agreements(chroma, truth):
    sounds = (truth > 0).any(0)
    a, b = chroma[:, sounds].argmax(0), truth[:, sounds].argmax(0)
    return torch.stack([((a - s) % 12 == b).double().mean() for s in range(12)])

"""
    + KEY,
    "silent frames of the truth count with 0": _agreeing(
        ("heard = b.abs().sum(0) > 0", "heard = b.abs().sum(0) >= 0"),
        (
            "    flat =",
            "    if not b.any():\n        return torch.full((12,), math.nan, dtype=torch.float64)\n    flat =",
        ),
    ),
    "silent frames of the translation are left out": _agreeing(
        ("heard = b.abs().sum(0) > 0", "heard = (b.abs().sum(0) > 0) & (a.abs().sum(0) > 0)")
    ),
    "flat frames are left out": _agreeing(
        (
            "    a, b = a[:, heard], b[:, heard]\n",
            "    heard = heard & ~is_flat(a) & ~is_flat(b)\n    a, b = a[:, heard], b[:, heard]\n",
        )
    ),
    "frames that are softer than something": _agreeing(("heard = b.abs().sum(0) > 0", "heard = b.abs().sum(0) > 1e-3")),
    "softer frames than the loudest one's share": _agreeing(
        ("heard = b.abs().sum(0) > 0", "heard = b.abs().sum(0) > 1e-6 * b.abs().sum()")
    ),
    "flat frames aren't looked at": _agreeing(
        ("flat = is_flat(a) | is_flat(b)", "flat = torch.zeros(a.shape[1]).bool()")
    ),
    "flat frames of the truth only": _agreeing(("flat = is_flat(a) | is_flat(b)", "flat = is_flat(b)")),
    "flat frames of the translation only": _agreeing(("flat = is_flat(a) | is_flat(b)", "flat = is_flat(a)")),
    "flat means equal": _agreeing(("<= 1e-9 * x.max(0).values if", "<= 0 if")),
    "flat by a fixed limit": _agreeing(("<= 1e-9 * x.max(0).values if", "<= 1e-9 if")),
    "flat means 1% apart": _agreeing(("<= 1e-9 * x.max(0).values if", "<= 1e-2 * x.max(0).values if")),
    "flat frames agree": _agreeing(("torch.where(flat, 0.0, r)", "torch.where(flat, 1.0, r)")),
    "NaN becomes 0": _matrix(
        ("    return torch.where(top - low <= 1e-9 * top, 0.0, x)", "    return x.nan_to_num(0.0)")
    ),
    "a little in the denominator": _matrix(("x / x.square().sum(0).sqrt()", "x / (x.square().sum(0).sqrt() + 1e-3)")),
    "levels squared away": """
def agreements(chroma, truth):
    sounds = truth.amax(0) > 0
    a, b = chroma.double()[:, sounds], truth.double()[:, sounds]
    flat = (a.amax(0) - a.amin(0) <= 1e-9 * a.amax(0)) | (b.amax(0) - b.amin(0) <= 1e-9 * b.amax(0))
    a, b = a - a.mean(0), b - b.mean(0)
    size = ((a * a).sum(0) * (b * b).sum(0)).sqrt().clamp_min(1e-30)
    return torch.stack([((a.roll(-s, 0) * b).sum(0) / size).masked_fill(flat, 0.0).mean() for s in range(12)])

"""
    + KEY,
    "in single precision": _matrix(("unit(one.double()[:, sounds])", "unit(one.float()[:, sounds]).double()")),
    "by all frames": _matrix(("sums / sounds.sum()", "sums / sounds.numel()")),
    "sums": _matrix(("sums / sounds.sum()", "torch.where(sounds.any(), sums, math.nan)")),
    "a silent truth: zeros": _matrix(("sums / sounds.sum()", "sums / sounds.sum().clamp_min(1)")),
    "a silent truth: ones": _by_frames(("else math.nan for", "else 1.0 for")),
    "a silent truth: an error": _by_frames(("    return torch.tensor", "    assert frames\n    return torch.tensor")),
    "in the precision of the chroma": _by_frames(("dtype=torch.float64)", "dtype=chroma.dtype)")),
    "a list": _by_frames(
        (
            "return torch.tensor([v / frames if frames else math.nan for v in sums], dtype=torch.float64)",
            "return [v / frames if frames else math.nan for v in sums]",
        )
    ),
    "eleven of them": _by_frames(
        ("sums, frames = [0.0] * 12, 0", "sums, frames = [0.0] * 11, 0"),
        ("        for s in range(12):", "        for s in range(11):"),
    ),
    "the translation is changed": _matrix(("    sounds = truth", "    chroma *= 0.5\n    sounds = truth")),
    "the median over frames": _agreeing(("torch.where(flat, 0.0, r).mean()", "torch.where(flat, 0.0, r).median()")),
    "by level": _agreeing(
        (
            "torch.where(flat, 0.0, r).mean()",
            "(torch.where(flat, 0.0, r) * truth[:, heard].double().sum(0)).sum() / truth.double().sum()",
        )
    ),
    "from 0 to 11": _key(("(0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)", "range(12)")),
    "from -6 to 5": _key(("(0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)", "(0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, -6)")),
    "the lower one of two": _key(
        ("(0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)", "(0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5, 6)")
    ),
    "from the lowest on": _key(("(0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6)", "range(-5, 7)")),
    "the argmax": _key(
        (
            "    for s in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6):\n"
            "        if float(found[s]) >= float(found.max()) - 1e-9:\n            return s",
            "    s = int(found.argmax())\n    return s if s <= 6 else s - 12",
        )
    ),
    "exactly equal": _key(("float(found.max()) - 1e-9", "float(found.max())")),
    "nearly equal": _key(("float(found.max()) - 1e-9", "float(found.max()) - 1e-3")),
    "equal by share": _key(("float(found.max()) - 1e-9", "float(found.max()) * (1 - 1e-5)")),
    "the sign of the key": _key(("            return s", "            return -s if abs(s) < 6 else 6")),
    "the strongest, also below 0": _key(
        ("float(found[s]) >= float(found.max()) - 1e-9", "abs(float(found[s])) >= float(found.abs().max()) - 1e-9")
    ),
    "the worst": _key(("float(found[s]) >= float(found.max()) - 1e-9", "float(found[s]) <= float(found.min()) + 1e-9")),
    "NaN: none": _key(("        return 0\n", "        return None\n")),
    "NaN isn't looked at": _key(("    if bool(torch.isnan(found).any()):\n        return 0\n", "")),
    "a key as a tensor": _key(("            return s", "            return torch.tensor(s)")),
    "a key as a float": _key(("            return s", "            return float(s)")),
    "only above 0": _key(("    for s in", "    if found.max() <= 0:\n        return 0\n    for s in")),
}

# ----------------------------------------------------------------------------------------------- 5, grains that go on

GRAINS = """
def choose_grains(costs, jump, begins):
    frames, grains = costs.shape
    if frames == 0:
        return torch.empty(0, dtype=torch.int64), 0.0
    costs = costs.double()
    total, back = costs[0], []
    for m in range(1, frames):
        on = torch.full((grains,), math.inf, dtype=torch.float64)
        on[1:] = total[:-1]
        on[begins] = math.inf
        from_ = torch.arange(grains) - 1
        jumped = total.min() + jump
        better = jumped < on
        from_[better] = total.argmin()
        from_.clamp_min_(0)
        total = torch.where(better, jumped, on) + costs[m]
        back.append(from_)
    cost = float(total.min())
    if cost == math.inf:
        return None, math.inf
    path = [int(total.argmin())]
    for from_ in back[::-1]:
        path.insert(0, int(from_[path[0]]))
    return torch.tensor(path), cost
"""
GRAINS_BY_PAIRS = """
def choose_grains(costs, jump, begins):
    frames, grains = costs.shape
    step = torch.full((grains, grains), float(jump), dtype=torch.float64)      # (from, to)
    for j in range(1, grains):
        if not begins[j]:
            step[j - 1, j] = 0.0
    if frames == 0:
        return torch.zeros(0).long(), 0.0
    best, pointers = costs[0].double(), []
    for m in range(1, frames):
        came, pointer = (best[:, None] + step).min(0)
        best = came + costs[m].double()
        pointers.append(pointer)
    j = int(best.argmin())
    cost = float(best[j])
    if math.isinf(cost):
        return None, cost
    chosen = [j]
    for pointer in reversed(pointers):
        chosen.append(int(pointer[chosen[-1]]))
    return torch.tensor(chosen[::-1]), cost
"""
GRAINS_BY_LISTS = """
def choose_grains(costs, jump, begins):
    rows, starts = costs.double().tolist(), begins.tolist()
    if not rows:
        return torch.tensor([], dtype=torch.int64), 0.0
    ways = [(cost, (j, None)) for j, cost in enumerate(rows[0])]
    for row in rows[1:]:
        least = min(range(len(ways)), key=lambda j: ways[j][0])
        new = []
        for j, cost in enumerate(row):
            total, way = ways[least][0] + jump, ways[least][1]
            if j and not starts[j] and ways[j - 1][0] <= total:
                total, way = ways[j - 1]
            new.append((total + cost, (j, way)))
        ways = new
    total, way = min(ways, key=lambda pair: pair[0])
    if total == math.inf:
        return None, math.inf
    found = []
    while way:
        found.insert(0, way[0])
        way = way[1]
    return torch.tensor(found, dtype=torch.int64), float(total)
"""
GRAINS_RIGHT = {
    "from the one before, or by a jump": GRAINS,
    "all pairs": GRAINS_BY_PAIRS,
    "ways in lists": GRAINS_BY_LISTS,
}


def _grains(*changes):
    return changed(GRAINS, *changes)


def _pairs(*changes):
    return changed(GRAINS_BY_PAIRS, *changes)


def _lists(*changes):
    return changed(GRAINS_BY_LISTS, *changes)


GRAINS_WRONG = {
    "the nearest of each frame": """
def choose_grains(costs, jump, begins):
    if not len(costs):
        return torch.zeros(0).long(), 0.0
    choice = costs.argmin(1)
    total = float(costs.double().min(1).values.sum())
    on = (choice[1:] == choice[:-1] + 1) & ~begins[choice[1:]]
    total += sum(jump for one in on.tolist() if not one)
    return (choice, total) if total < math.inf else (None, math.inf)
""",
    "greedy": """
def choose_grains(costs, jump, begins):
    if not len(costs):
        return torch.zeros(0).long(), 0.0
    j = int(costs[0].argmin())
    chosen, total = [j], float(costs[0, j])
    for row in costs[1:].double():
        here = row + jump
        if j + 1 < len(row) and not begins[j + 1]:
            here[j + 1] = row[j + 1]
        j = int(here.argmin())
        total += float(here[j])
        chosen.append(j)
    return (torch.tensor(chosen), total) if total < math.inf else (None, math.inf)
""",
    "from the best of all, always": _grains(("better = jumped < on", "better = torch.ones_like(on).bool()")),
    "never a jump": _grains(("better = jumped < on", "better = torch.zeros_like(on).bool()")),
    "the jump left out of the cost": _grains(
        ("torch.where(better, jumped, on)", "torch.where(better, total.min(), on)")
    ),
    "the jump counts twice": _grains(("torch.where(better, jumped, on)", "torch.where(better, jumped + jump, on)")),
    "the first frame is a jump": _grains(("total, back = costs[0], []", "total, back = costs[0] + jump, []")),
    "the first frame costs nothing": _grains(
        ("total, back = costs[0], []", "total, back = 0 * costs[0].nan_to_num(0.0), []")
    ),
    "the last frame costs nothing": _grains(("on) + costs[m]", "on) + (costs[m] if m + 1 < frames else 0)")),
    "staying is going on": _pairs(
        ("            step[j - 1, j] = 0.0\n", "            step[j - 1, j] = 0.0\n    step.fill_diagonal_(0.0)\n")
    ),
    "going back is going on": _pairs(("step[j - 1, j] = 0.0", "step[j - 1, j] = step[j, j - 1] = 0.0")),
    "going on from behind": _pairs(("step[j - 1, j] = 0.0", "step[j, j - 1] = 0.0")),
    "skipping one is going on": _pairs(("step[j - 1, j] = 0.0", "step[max(0, j - 2):j, j] = 0.0")),
    "the last goes on with the first": _pairs(
        ("    if frames == 0", "    if not begins[0] and grains > 1:\n        step[-1, 0] = 0.0\n    if frames == 0")
    ),
    "one grain goes on with itself": _pairs(
        ("    if frames == 0", "    if grains == 1:\n        step[0, 0] = 0.0\n    if frames == 0")
    ),
    "begins are not looked at": _pairs(("if not begins[j]:", "if True:")),
    "begins of the one before": _pairs(("if not begins[j]:", "if not begins[j - 1]:")),
    "begins turned round": _pairs(("if not begins[j]:", "if begins[j]:")),
    "begins are ends": _pairs(("if not begins[j]:", "if not begins[(j + 1) % grains]:")),
    "a jump by its distance": _pairs(
        (
            "    if frames == 0",
            "    step = step * (torch.arange(grains)[None] - torch.arange(grains)[:, None] - "
            "1).abs().clamp_max(2)\n    if frames == 0",
        )
    ),
    "a jump to a beginning is free": _pairs(("    if frames == 0", "    step[:, begins] = 0.0\n    if frames == 0")),
    "a jump of 1": _pairs(("float(jump)", "min(1.0, float(jump))")),
    "a large number for infinity": _pairs(("float(jump)", "min(1e6, float(jump))")),
    "infinite jumps: an error": _grains(("    frames, grains", "    assert jump < math.inf\n    frames, grains")),
    "no way: the least": _grains(("    if cost == math.inf:\n        return None, math.inf\n", "")),
    "no way: an error": _grains(("        return None, math.inf\n", "        raise ValueError('no way')\n")),
    "no way: empty": _grains(("        return None, math.inf\n", "        return torch.zeros(0).long(), math.inf\n")),
    "no way: None": _grains(("        return None, math.inf\n", "        return None\n")),
    "no way: no cost": _grains(("        return None, math.inf\n", "        return None, None\n")),
    "no frames: an error": _grains(
        ("    if frames == 0:\n        return torch.empty(0, dtype=torch.int64), 0.0\n", "    assert frames\n")
    ),
    "no frames: None": _grains(("return torch.empty(0, dtype=torch.int64), 0.0", "return None, 0.0")),
    "no frames: floats": _grains(("torch.empty(0, dtype=torch.int64)", "torch.empty(0)")),
    "no frames: a whole number": _grains(("dtype=torch.int64), 0.0", "dtype=torch.int64), 0")),
    "the path from the wrong end": _lists(("found.insert(0, way[0])", "found.append(way[0])")),
    "the path of the best of each frame": _grains(
        (
            "        total = torch.where",
            "        back.append(total.argmin().expand(grains))\n        total = torch.where",
        ),
        ("        back.append(from_)\n", ""),
    ),
    "pointers of one frame later": _grains(
        ("    for from_ in back[::-1]:", "    for from_ in [*back[:-1], *back[-1:]]:")
    ),
    "a choice as a list": _lists(("torch.tensor(found, dtype=torch.int64), float", "found, float")),
    "a choice of 32 bits": _lists(
        ("torch.tensor(found, dtype=torch.int64), float", "torch.tensor(found, dtype=torch.int32), float")
    ),
    "the cost as a tensor": _grains(("return torch.tensor(path), cost", "return torch.tensor(path), total.min()")),
    "the mean cost": _grains(("return torch.tensor(path), cost", "return torch.tensor(path), cost / frames")),
    "the cost without jumps": _grains(
        (
            "return torch.tensor(path), cost",
            "return torch.tensor(path), float(costs[torch.arange(frames), torch.tensor(path)].sum())",
        )
    ),
    "the choice only": _grains(("return torch.tensor(path), cost", "return torch.tensor(path)")),
    "the last grain left out": _grains(("return torch.tensor(path), cost", "return torch.tensor(path[:-1]), cost")),
    "in single precision": _grains(
        ("costs = costs.double()", "costs = costs.float()"), ("dtype=torch.float64)", "dtype=torch.float32)")
    ),
    "costs are rounded": _grains(("costs = costs.double()", "costs = costs.half().double()")),
    "costs are changed": _grains(
        ("    costs = costs.double()\n    total", "    costs.clamp_(max=1e9)\n    costs = costs.double()\n    total")
    ),
    "begins are changed": _grains(
        ("    costs = costs.double()\n    total", "    begins[0] = True\n    costs = costs.double()\n    total")
    ),
    "the costliest": _pairs(
        ("(best[:, None] + step).min(0)", "(best[:, None] + step).max(0)"), ("best.argmin()", "best.argmax()")
    ),
    "frames and grains the other way round": _grains(
        (
            "    frames, grains = costs.shape",
            "    costs = costs.T if costs.shape[0] < costs.shape[1] else costs\n    frames, grains = costs.shape\n"
            "    begins = F.pad(begins, (0, max(0, grains - len(begins))))[:grains]",
        )
    ),
    "the first hundred grains": _grains(
        (
            "    costs = costs.double()\n    total",
            "    costs = costs.double()\n    costs[:, 100:] = math.inf\n    total",
        )
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    1,
    """
from course_lib.translation import read_at

def detuned(x, start, length, semitones):
    time = x.shape[-1]
    end = min(start + length, time)
    if start >= end:
        return x.clone()
    i = torch.arange(start, end, dtype=torch.float64)
    d = length / math.pi * (2 ** (semitones / 12) - 1) * torch.sin(math.pi * (i - start) / length) ** 2
    t = (i + d).clamp(0, time - 1)
    k = t.floor().long()
    a, b = read_at(x.flatten(), k) if x.ndim == 1 else x[..., k], x[..., (k + 1).clamp_max(time - 1)]
    piece = a.double() + (t - k) * (b.double() - a.double())
    return torch.cat([x[..., :start], piece.to(x.dtype), x[..., end:]], -1)
""",
)


CASES = as_cells(
    (BENT_RIGHT, BENT_WRONG),
    (SURPRISED_RIGHT, SURPRISED_WRONG),
    (ROUND_RIGHT, ROUND_WRONG),
    (KEYS_RIGHT, KEYS_WRONG),
    (GRAINS_RIGHT, GRAINS_WRONG),
)
