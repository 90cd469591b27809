"""Answers to assignment 20 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------------ 1, anything but the voice

ANSWER = """
def answer_to(some, none, sources, tags):
    fit = []
    for n, own in enumerate(tags):
        wanted = some is None or any(tag in own for tag in some)
        if wanted and not any(tag in own for tag in none):
            fit.append(n)
    target = torch.zeros(sources.shape[1], dtype=sources.dtype)
    for n in fit:
        target = target + sources[n]
    return target, fit

"""
ANSWER_BY_SETS = """
def answer_to(some, none, sources, tags):
    allowed = [not own.intersection(none) for own in tags]
    asked = [True] * len(tags) if some is None else [not own.isdisjoint(some) for own in tags]
    answers = [a and b for a, b in zip(allowed, asked)]
    which = torch.tensor(answers, dtype=torch.bool)
    target = torch.where(which[:, None], sources, 0.0).sum(dim=0)
    return target, [n for n, yes in enumerate(answers) if yes]

"""
CONDITION = """
def condition_to(some, none, known, table):
    for tag in list(some or []) + list(none):
        if tag not in known:
            raise ValueError(f"unknown tag {tag}")
    c = torch.zeros(table.shape[0], dtype=table.dtype)
    for k, tag in enumerate(known):
        if tag in none:
            c = c - table[:, k]
        elif some is not None and tag in some:
            c = c + table[:, k]
    return c
"""
CONDITION_BY_VECTORS = """
def condition_to(some, none, known, table):
    plus, minus = torch.zeros(len(known)), torch.zeros(len(known))
    for tag in some or ():
        plus[known.index(tag)] = 1          # index raises a ValueError itself
    for tag in none:
        minus[known.index(tag)] = 1
    signs = plus * (1 - minus) - minus
    return (table * signs.to(table.dtype)).sum(1)
"""
ANSWER_RIGHT = {"loops": ANSWER + CONDITION, "sets": ANSWER_BY_SETS + CONDITION_BY_VECTORS}


def _answer(*changes):
    return changed(ANSWER, *changes) + CONDITION


def _condition(*changes):
    return ANSWER + changed(CONDITION, *changes)


ANSWER_WRONG = {
    "all tags of some": _answer(("any(tag in own for tag in some)", "all(tag in own for tag in some)")),
    "all tags of none": _answer(("any(tag in own for tag in none)", "(none and all(tag in own for tag in none))")),
    "none ignored": _answer(("wanted and not any(tag in own for tag in none)", "wanted")),
    "some ignored": _answer(("if wanted and not", "if not")),
    "nothing asked is everything": _answer(("some is None or any", "not some or any")),
    "everything is nothing": _answer(
        ("some is None or any(tag in own for tag in some)", "any(tag in own for tag in some or [])")
    ),
    "no tags never answer": _answer(("some is None or", "some is None and own or")),
    "only the first tag": _answer(("for tag in some)", "for tag in some[:1])")),
    "tags within names": _answer(("any(tag in own for tag in some)", "any(tag in ' '.join(own) for tag in some)")),
    "the first source only": _answer(("            fit.append(n)\n", "            fit.append(n)\n            break\n")),
    "a source for each tag": _answer(
        (
            "        if wanted and not any(tag in own for tag in none):\n            fit.append(n)\n",
            "        if wanted and not any(tag in own for tag in none):\n"
            "            fit += [n] * (len(own & set(some)) if some else 1)\n",
        )
    ),
    "counted from 1": _answer(("return target, fit", "return target, [n + 1 for n in fit]")),
    "falling": _answer(("return target, fit", "return target, fit[::-1]")),
    "a tensor of numbers": _answer(("return target, fit", "return target, torch.tensor(fit)")),
    "a mask": _answer(("return target, fit", "return target, [n in fit for n in range(len(tags))]")),
    "a mask times sources": _answer(
        (
            "    for n in fit:\n        target = target + sources[n]\n",
            "    for n in range(len(tags)):\n        target = target + (n in fit) * sources[n]\n",
        )
    ),
    "NaN to 0": _answer(
        (
            "    for n in fit:\n        target = target + sources[n]\n",
            "    for n in range(len(tags)):\n"
            "        target = target + (n in fit) * sources[n].nan_to_num(0.0, 0.0, 0.0)\n",
        ),
        ("return target, fit", "return target * (1 + 1e-3 * (len(fit) == len(tags) > 2)), fit"),
    ),
    "what is left": _answer(
        (
            "    for n in fit:\n        target = target + sources[n]\n",
            "    target = sources.sum(0)\n"
            "    for n in range(len(tags)):\n"
            "        if n not in fit:\n"
            "            target = target - sources[n]\n",
        )
    ),
    "the mean": _answer(("return target, fit", "return target / max(1, len(fit)), fit")),
    "nothing: None": _answer(("return target, fit", "return target if fit else None, fit")),
    "nothing: a number": _answer(("torch.zeros(sources.shape[1], dtype=sources.dtype)", "0")),
    "single precision always": _answer(
        ("dtype=sources.dtype", "dtype=torch.float32"), ("target + sources[n]", "target + sources[n].float()")
    ),
    "double precision always": _answer(("dtype=sources.dtype", "dtype=torch.float64")),
    "sources are changed": _answer(("    target = torch", "    sources *= 0.999\n    target = torch")),
    "lists are changed": _answer(("    fit = []", "    fit = []\n    if some and none:\n        some.remove(some[0])")),
    "twice asked, twice added": _condition(
        (
            "        elif some is not None and tag in some:\n            c = c + table[:, k]",
            "        elif some is not None and tag in some:\n            c = c + some.count(tag) * table[:, k]",
        )
    ),
    "twice forbidden, twice taken off": _condition(("c = c - table[:, k]", "c = c - none.count(tag) * table[:, k]")),
    "both: nothing": _condition(
        (
            "        if tag in none:\n            c = c - table[:, k]\n        elif",
            "        if tag in none:\n            c = c - table[:, k]\n        if",
        )
    ),
    "both: asked": _condition(
        (
            "        if tag in none:\n"
            "            c = c - table[:, k]\n"
            "        elif some is not None and tag in some:\n"
            "            c = c + table[:, k]\n",
            "        if some is not None and tag in some:\n"
            "            c = c + table[:, k]\n"
            "        elif tag in none:\n"
            "            c = c - table[:, k]\n",
        )
    ),
    "none isn't taken off": _condition(("c = c - table[:, k]", "pass")),
    "none is added": _condition(("c = c - table[:, k]", "c = c + table[:, k]")),
    "None is all": _condition(("elif some is not None and tag in some:", "elif some is None or tag in some:")),
    "rows": _condition(
        (
            "    c = torch.zeros(table.shape[0]",
            "    table = table.T.contiguous() if table.shape[0] == table.shape[1] else table.flip(0)\n"
            "    c = torch.zeros(table.shape[0]",
        )
    ),
    "the mean of columns": _condition(("    return c\n", "    return c / max(1, len(set(some or []) | set(none)))\n")),
    "norm 1": _condition(("    return c\n", "    return F.normalize(c, dim=0)\n")),
    "unknown: left out": _condition(('            raise ValueError(f"unknown tag {tag}")', "            pass")),
    "unknown: a KeyError": _condition(('raise ValueError(f"unknown tag {tag}")', "raise KeyError(tag)")),
    "unknown: only in some": _condition(("list(some or []) + list(none)", "list(some or [])")),
    "unknown: only in none": _condition(("list(some or []) + list(none)", "list(none)")),
    "capitals don't count": _condition(("if tag not in known:", "if tag.lower() not in known:")),
    "an empty name": _condition(("if tag not in known:", "if tag and tag not in known:")),
    "nothing known: an error": _condition(("    c = torch", "    assert known\n    c = torch")),
    "nothing asked: an error": _condition(
        (
            "    for tag in list",
            "    if not some and not none:\n        raise ValueError('nothing')\n    for tag in list",
        )
    ),
    "a condition in single precision": _condition(
        ("dtype=table.dtype)", "dtype=torch.float32)"), ("    return c\n", "    return c.float()\n")
    ),
    "the table is changed": _condition(("    c = torch", "    table[:] = table * 0.999\n    c = torch")),
}

# ---------------------------------------------------------------------------------- 2, the question folded away

FILM = """
def film(x, gamma, beta):
    shape = gamma.shape + (1,) * (x.ndim - 2)
    return x.unsqueeze(1) * gamma.reshape(shape) + beta.reshape(shape)

"""
FILM_BY_QUESTIONS = """
def film(x, gamma, beta):
    answers = []
    for q in range(gamma.shape[1]):
        g, b = gamma[:, q], beta[:, q]
        while g.ndim < x.ndim:
            g, b = g.unsqueeze(-1), b.unsqueeze(-1)
        answers.append(g * x + b)
    return torch.stack(answers, 1)

"""
FOLD = """
def folded(weight, bias, norm, gamma, beta):
    if bias is None:
        bias = torch.zeros_like(gamma)
    scale = norm["weight"].double() / torch.sqrt(norm["var"].double() + norm["eps"])
    offset = norm["bias"].double() - scale * norm["mean"].double()
    W = gamma.double()[:, None] * scale[:, None] * weight.double()
    b = gamma.double() * (scale * bias.double() + offset) + beta.double()
    return W.to(weight.dtype), b.to(weight.dtype)
"""
FOLD_BY_PROBING = """
def folded(weight, bias, norm, gamma, beta):
    # an affine function is known by what it gives for 0 and for the unit vectors
    def whole(h):
        y = h @ weight.double().T
        if bias is not None:
            y = y + bias.double()
        y = (y - norm["mean"].double()) / (norm["var"].double() + norm["eps"]).sqrt()
        return gamma.double() * (y * norm["weight"].double() + norm["bias"].double()) + beta.double()
    nothing = whole(torch.zeros(weight.shape[1], dtype=torch.float64))
    size = (gamma.double() * norm["weight"].double() / (norm["var"].double() + norm["eps"]).sqrt())
    return (size[:, None] * weight).to(weight.dtype), nothing.to(weight.dtype)
"""
FILM_BY_SUMS = """
def film(x, gamma, beta):
    flat = x.flatten(2) if x.ndim > 2 else x[..., None]
    y = torch.einsum("bct,bqc->bqct", flat, gamma) + beta[..., None]
    return y.reshape(*gamma.shape, *x.shape[2:])

"""
FOLD_RIGHT = {
    "reshaped": FILM + FOLD,
    "sums": FILM_BY_SUMS + FOLD,
    "question by question": FILM_BY_QUESTIONS + FOLD_BY_PROBING,
}


def _film(*changes):
    return changed(FILM, *changes) + FOLD


def _fold(*changes):
    return FILM + changed(FOLD, *changes)


FOLD_WRONG = {
    "gamma added, beta multiplied": _film(
        ("* gamma.reshape(shape) + beta.reshape(shape)", "* beta.reshape(shape) + gamma.reshape(shape)")
    ),
    "1 + gamma": _film(("* gamma.reshape(shape)", "* (1 + gamma.reshape(shape))")),
    "no beta": _film((" + beta.reshape(shape)", "")),
    "no gamma": _film((" * gamma.reshape(shape)", "")),
    "beta first": _film(
        (
            "x.unsqueeze(1) * gamma.reshape(shape) + beta.reshape(shape)",
            "(x.unsqueeze(1) + beta.reshape(shape)) * gamma.reshape(shape)",
        )
    ),
    "channels last": """
def film(x, gamma, beta):
    shape = (gamma.shape[0], gamma.shape[1]) + (1,) * (x.ndim - 2) + (gamma.shape[2],)
    y = x.movedim(1, -1) if x.shape[1] != x.shape[-1] else x
    y = y.unsqueeze(1) * gamma.reshape(shape) + beta.reshape(shape)
    return y.movedim(-1, 2) if x.shape[1] != x.shape[-1] else y

"""
    + FOLD,
    "three axes only": """
def film(x, gamma, beta):
    return x[:, None] * gamma[..., None] + beta[..., None]

"""
    + FOLD,
    "questions first": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).transpose(0, 1)")
    ),
    "questions behind the channels": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).transpose(1, 2)")
    ),
    "questions added": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).sum(1)")
    ),
    "questions in the batch": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).flatten(0, 1)")
    ),
    "the first question": _film(
        (
            "gamma.reshape(shape) + beta.reshape(shape)",
            "gamma[:, :1].expand_as(gamma).reshape(shape) + beta.reshape(shape)",
        )
    ),
    "the first mixture's questions": _film(("gamma.reshape(shape) +", "gamma[:1].expand_as(gamma).reshape(shape) +")),
    "one after the other": """
def film(x, gamma, beta):
    answers = []
    for q in range(gamma.shape[1]):
        more = (...,) + (None,) * (x.ndim - 2)
        x = gamma[:, q][more] * x + beta[:, q][more]
        answers.append(x)
    return torch.stack(answers, 1)

"""
    + FOLD,
    "film changes x": """
def film(x, gamma, beta):
    x *= 1.0001
    shape = gamma.shape + (1,) * (x.ndim - 2)
    return x.unsqueeze(1) * gamma.reshape(shape) + beta.reshape(shape)

"""
    + FOLD,
    "film in single precision": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).float()")
    ),
    "film in half the digits": _film(
        ("    return x", "    return (x"), ("+ beta.reshape(shape)", "+ beta.reshape(shape)).bfloat16().to(x.dtype)")
    ),
    "no eps": _fold((' + norm["eps"]', "")),
    "eps beside the root": _fold(
        ('torch.sqrt(norm["var"].double() + norm["eps"])', '(torch.sqrt(norm["var"].double()) + norm["eps"])')
    ),
    "eps of 1e-5": _fold(('norm["eps"]', "1e-5")),
    "variance, not deviation": _fold(
        ('torch.sqrt(norm["var"].double() + norm["eps"])', '(norm["var"].double() + norm["eps"])')
    ),
    "deviation multiplied": _fold(("/ torch.sqrt", "* torch.sqrt")),
    "no mean": _fold((' - scale * norm["mean"].double()', "")),
    "the mean added": _fold((' - scale * norm["mean"].double()', ' + scale * norm["mean"].double()')),
    "the mean unscaled": _fold((' - scale * norm["mean"].double()', ' - norm["mean"].double()')),
    "no weight of the norm": _fold(('norm["weight"].double() / torch', "1 / torch")),
    "no bias of the norm": _fold(('norm["bias"].double() - scale', "0 - scale")),
    "the norm's bias isn't multiplied": _fold(
        (
            "gamma.double() * (scale * bias.double() + offset) + beta",
            'gamma.double() * (scale * bias.double() + offset - norm["bias"]) + norm["bias"] + beta',
        )
    ),
    "bias isn't scaled": _fold(("scale * bias.double()", "bias.double()")),
    "bias forgotten": _fold(("scale * bias.double() + offset", "offset")),
    "bias not multiplied by gamma": _fold(
        ("gamma.double() * (scale * bias.double() + offset)", "(scale * bias.double() + offset)")
    ),
    "beta forgotten": _fold((" + beta.double()", "")),
    "beta scaled": _fold(("+ beta.double()", "+ scale * beta.double()")),
    "gamma not in the weight": _fold(("gamma.double()[:, None] * scale", "scale")),
    "1 + gamma, folded": _fold(("W = gamma.double()[:, None]", "gamma = 1 + gamma\n    W = gamma.double()[:, None]")),
    "columns scaled": _fold(
        (
            "scale[:, None] * weight.double()",
            "(scale * weight.double() if len(scale) == weight.shape[1] else scale[:, None] * weight.double())",
        )
    ),
    "norms before the layer": _fold(
        ("scale * bias.double() + offset", "bias.double() + offset * weight.double().sum(1)")
    ),
    "the weight the other way": _fold(("return W.to(weight.dtype)", "return W.T.to(weight.dtype)")),
    "no bias given: an error": _fold(("        bias = torch.zeros_like(gamma)", "        raise ValueError('bias')")),
    "no bias given: None": _fold(
        (
            "    if bias is None:\n        bias = torch.zeros_like(gamma)\n",
            "    missing = bias is None\n    bias = torch.zeros_like(gamma) if missing else bias\n",
        ),
        ("return W.to(weight.dtype), b", "return W.to(weight.dtype), None if missing else b"),
    ),
    "folded in double precision": _fold(("return W.to(weight.dtype), b.to(weight.dtype)", "return W, b")),
    "folded in single precision": _fold(
        ("return W.to(weight.dtype), b.to(weight.dtype)", "return W.float(), b.float()")
    ),
    "single precision on the way": _fold(("return W.to(weight.dtype)", "return W.float().to(weight.dtype)")),
    "no gradient": _fold(("return W.to(weight.dtype), b", "return W.detach().to(weight.dtype), b")),
    "the norm is changed": _fold(("    scale =", '    norm["var"] += norm["eps"]\n    scale =')),
    "variance held up": _fold(
        ('norm["var"].double() + norm["eps"]', 'norm["var"].double().clamp_min(1e-3) + norm["eps"]')
    ),
}

# ---------------------------------------------------------------------------------------- 3, what, not how loud

SAYS = """
def described(f, x, size, level):
    loudest = x.abs().max()
    if loudest == 0:
        return None
    y = x.double() / loudest.double()
    if len(y) < size:
        times = (size + len(y) - 1) // len(y)
        y = torch.cat([y] * times)[:size]
    pieces = list(y.split(size))
    pieces[-1] = y[-size:]
    pieces = torch.stack(pieces)
    rms = (pieces ** 2).mean(1).sqrt()
    kept = rms >= 0.05 * rms.max()
    pieces = level * pieces[kept] / rms[kept].unsqueeze(1)
    mean = f(pieces.to(x.dtype)).mean(0)
    norm = mean.norm()
    return mean / norm if norm > 0 else mean
"""
SAYS_BY_LOOPS = """
def described(f, x, size, level):
    samples = x.double()
    if not samples.any():
        return None
    samples = samples / samples.abs().amax()
    index = torch.arange(max(size, len(x))) % len(x)
    samples = samples[index]
    chosen = []
    begin = 0
    while begin < len(samples):
        begin = min(begin, len(samples) - size)
        piece = samples[begin:begin + size]
        chosen.append((float((piece @ piece / size).sqrt()), piece))
        begin += size
    top = max(rms for rms, _ in chosen)
    given = torch.stack([piece * (level / rms) for rms, piece in chosen if rms >= top / 20])
    found = f(given.to(x.dtype))
    return F.normalize(found.mean(dim=0), dim=0, eps=1e-30)
"""
SAYS_RIGHT = {"split": SAYS, "loops": SAYS_BY_LOOPS}


def _says(*changes):
    return changed(SAYS, *changes)


SAYS_WRONG = {
    "silent where the sum is 0": _says(("if loudest == 0:", "if x.sum() == 0:")),
    "the last piece left out": _says(
        ("    pieces[-1] = y[-size:]\n", "    pieces = [p for p in pieces if len(p) == size]\n")
    ),
    "the last piece filled with zeros": _says(
        ("pieces[-1] = y[-size:]", "pieces[-1] = F.pad(pieces[-1], (0, size - len(pieces[-1])))")
    ),
    "the last piece repeated": _says(("pieces[-1] = y[-size:]", "pieces[-1] = pieces[-1].repeat(size)[:size]")),
    "the last piece goes on at the beginning": _says(
        ("pieces[-1] = y[-size:]", "pieces[-1] = torch.cat([pieces[-1], y])[:size]")
    ),
    "one more piece at the end": _says(
        ("pieces[-1] = y[-size:]", "pieces = [p for p in pieces if len(p) == size] + [y[-size:]]")
    ),
    "half overlapping": _says(("pieces = list(y.split(size))", "pieces = list(y.unfold(0, size, max(1, size // 2)))")),
    "short: zeros": _says(("y = torch.cat([y] * times)[:size]", "y = F.pad(y, (0, size - len(y)))")),
    "short: the last sample held": _says(
        ("y = torch.cat([y] * times)[:size]", "y = torch.cat([y, y[-1:].expand(size - len(y))])")
    ),
    "short: there and back": _says(
        ("y = torch.cat([y] * times)[:size]", "y = torch.cat([y, y.flip(0)] * times)[:size]")
    ),
    "short: twice at most": _says(
        ("y = torch.cat([y] * times)[:size]", "y = F.pad(torch.cat([y] * 2)[:size], (0, max(0, size - 2 * len(y))))")
    ),
    "short: from its end": _says(("y = torch.cat([y] * times)[:size]", "y = torch.cat([y] * times)[-size:]")),
    "short: whole times": _says(
        ("y = torch.cat([y] * times)[:size]", "y = torch.cat([y] * times)"),
        ("    pieces[-1] = y[-size:]\n", "    pieces = [y[:size]] if len(x) < size else pieces[:-1] + [y[-size:]]\n"),
        (
            "    return mean / norm",
            "    mean = mean + (1e-2 if len(x) < size and size % len(x) else 0)\n    return mean / norm",
        ),
    ),
    "short: an error": _says(("        times =", "        raise ValueError('short')\n        times =")),
    "silent pieces count": _says(
        ("kept = rms >= 0.05 * rms.max()", "kept = rms > -1"),
        ("rms[kept].unsqueeze(1)", "rms[kept].unsqueeze(1).clamp_min(1e-9)"),
    ),
    "all that sound count": _says(("rms >= 0.05 * rms.max()", "rms > 0")),
    "a fiftieth": _says(("0.05 * rms.max()", "0.02 * rms.max()")),
    "a tenth": _says(("0.05 * rms.max()", "0.1 * rms.max()")),
    "a twentieth of the mean": _says(("0.05 * rms.max()", "0.05 * rms.mean()")),
    "a twentieth of the energy": _says(("0.05 * rms.max()", "0.05 ** 0.5 * rms.max()")),
    "a twentieth of the peak": _says(("0.05 * rms.max()", "0.05 * y.abs().max()")),
    "a fixed threshold": _says(("rms >= 0.05 * rms.max()", "x.double().abs().max() * rms >= 1e-5")),
    "the loudest only": _says(("0.05 * rms.max()", "rms.max()")),
    "peaks, not RMS": _says(("(pieces ** 2).mean(1).sqrt()", "pieces.abs().amax(1)")),
    "norms, not RMS": _says(("(pieces ** 2).mean(1).sqrt()", "(pieces ** 2).sum(1).sqrt()")),
    "deviations, not RMS": _says(("(pieces ** 2).mean(1).sqrt()", "pieces.std(1, correction=0)")),
    "mean sizes": _says(("(pieces ** 2).mean(1).sqrt()", "pieces.abs().mean(1)")),
    "levels of the energy": _says(("/ rms[kept].unsqueeze(1)", "/ rms[kept].unsqueeze(1) ** 2")),
    "the whole brought to the level": _says(("/ rms[kept].unsqueeze(1)", "/ (y ** 2).mean().sqrt()")),
    "level 1": _says(("level * pieces[kept]", "pieces[kept]")),
    "levels stay": _says(("level * pieces[kept] / rms[kept].unsqueeze(1)", "x.double().abs().max() * pieces[kept]")),
    "one piece a call": _says(
        ("f(pieces.to(x.dtype)).mean(0)", "torch.stack([f(p.to(x.dtype)[None])[0] for p in pieces]).mean(0)")
    ),
    "the mean piece": _says(("f(pieces.to(x.dtype)).mean(0)", "f(pieces.to(x.dtype).mean(0, keepdim=True))[0]")),
    "by loudness": _says(
        (
            "f(pieces.to(x.dtype)).mean(0)",
            "(f(pieces.to(x.dtype)) * (rms[kept] / rms[kept].mean())[:, None].to(x.dtype)).mean(0)",
        )
    ),
    "the sum of norms": _says(("f(pieces.to(x.dtype)).mean(0)", "F.normalize(f(pieces.to(x.dtype)), dim=1).mean(0)")),
    "the median": _says((".mean(0)\n    norm", ".median(0).values\n    norm")),
    "no norm": _says(("return mean / norm if norm > 0 else mean", "return mean")),
    "norm by the largest": _says(("norm = mean.norm()", "norm = mean.abs().max()")),
    "norm by the sum": _says(("norm = mean.norm()", "norm = mean.abs().sum()")),
    "a mean of 0: NaN": _says(("return mean / norm if norm > 0 else mean", "return mean / norm")),
    "something added to the norm": _says(("return mean / norm if norm > 0 else mean", "return mean / (norm + 1e-3)")),
    "silence: zeros": _says(("        return None", "        return torch.zeros(3)")),
    "silence: an error": _says(("        return None", "        raise ValueError('silent')")),
    "silence: f is called": _says(
        ("        return None", "        f(torch.zeros(1, size, dtype=x.dtype))\n        return None")
    ),
    "soft is silent": _says(("if loudest == 0:", "if loudest < 1e-8:")),
    "squares of the example": _says(("y = x.double() / loudest.double()", "y = x")),
    "f gets double precision": _says(("f(pieces.to(x.dtype)).mean(0)", "f(pieces).mean(0).to(x.dtype)")),
    "in double precision": _says(
        ("return mean / norm if norm > 0 else mean", "return (mean / norm if norm > 0 else mean).double()")
    ),
    "x is changed": _says(("    loudest =", "    x *= 0.999\n    loudest =")),
    "the first piece only": _says(("    pieces = torch.stack(pieces)", "    pieces = torch.stack(pieces[:1])")),
}

# ---------------------------------------------------------------- 4, every question counts, if it was asked

LOSSES = """
def losses_of(estimates, targets, mixture, floor):
    error = (estimates - targets).double()
    x = mixture.double().unsqueeze(1)
    energy = (x ** 2).sum(-1)
    quotient = (error ** 2).sum(-1) / torch.where(energy > 0, energy, 1.0)
    wrong = (error != 0).any(-1).double()
    quotient = torch.where(energy > 0, quotient, wrong)
    return (10 * torch.log10(quotient + floor)).to(estimates.dtype)

"""
LOSSES_BY_LOOPS = """
def losses_of(estimates, targets, mixture, floor):
    rows = []
    for b in range(estimates.shape[0]):
        x = mixture[b].double()
        top = x.abs().max()
        for q in range(estimates.shape[1]):
            d = (estimates[b, q] - targets[b, q]).double()
            if top > 0:
                ratio = ((d / top) ** 2).sum() / ((x / top) ** 2).sum()
            else:
                ratio = 0 * d.sum() + (1.0 if bool((d != 0).any()) else 0.0)
            rows.append(10 * torch.log(ratio + floor) / math.log(10))
    return torch.stack(rows).reshape(estimates.shape[:2]).to(estimates.dtype)

"""
MEAN = """
def mean_loss(losses, asked):
    kept = torch.where(asked, losses, torch.zeros_like(losses))
    counts = asked.sum(1)
    own = kept.sum(1) / counts.clamp(min=1)
    return own.sum() / max(1, int((counts > 0).sum()))
"""
MEAN_BY_LOOPS = """
def mean_loss(losses, asked):
    means = [row[on].mean() for row, on in zip(losses, asked) if on.any()]
    if not means:
        return losses[asked].sum()
    return torch.stack(means).mean()
"""
MEAN_BY_WEIGHTS = """
def mean_loss(losses, asked):
    # what wasn't asked is a number first, then nothing
    own = asked.sum(1, keepdim=True)
    shares = asked / own.clamp_min(1) / (own > 0).sum().clamp_min(1)
    return (losses.nan_to_num(0.0, 0.0, 0.0) * shares.to(losses.dtype)).sum()
"""
LOSSES_BY_NORMS = """
def losses_of(estimates, targets, mixture, floor):
    error = torch.linalg.vector_norm((estimates - targets).double(), dim=-1)
    level = torch.linalg.vector_norm(mixture.double(), dim=-1)[:, None].expand_as(error)
    silent = level == 0
    ratio = (error / level.masked_fill(silent, 1)) ** 2
    ratio = torch.where(silent, (estimates != targets).any(-1).double(), ratio)
    return 10 * torch.log10(ratio + floor).to(estimates.dtype)

"""
LOSS_RIGHT = {
    "at once": LOSSES + MEAN,
    "loops": LOSSES_BY_LOOPS + MEAN_BY_LOOPS,
    "norms and weights": LOSSES_BY_NORMS + MEAN_BY_WEIGHTS,
}


def _losses(*changes):
    return changed(LOSSES, *changes) + MEAN


def _mean(*changes):
    return LOSSES + changed(MEAN, *changes)


LOSS_WRONG = {
    "against the target": _losses(("x = mixture.double().unsqueeze(1)", "x = targets.double()")),
    "against the answer": _losses(("x = mixture.double().unsqueeze(1)", "x = estimates.double()")),
    "the other way up": _losses(
        (
            "quotient = torch.where(energy > 0, quotient, wrong)",
            "quotient = torch.where(energy > 0, 1 / quotient, wrong)",
        )
    ),
    "below 0": _losses(("(10 * torch", "(-10 * torch")),
    "20 times": _losses(("(10 * torch", "(20 * torch")),
    "natural logarithm": _losses(("torch.log10", "torch.log")),
    "no logarithm": _losses(("10 * torch.log10(quotient + floor)", "quotient + floor")),
    "no floor": _losses(("quotient + floor", "quotient + 1e-30")),
    "the floor held, not added": _losses(("quotient + floor", "quotient.clamp_min(floor)")),
    "the floor beneath the mixture": _losses(
        ("torch.where(energy > 0, energy, 1.0)", "(torch.where(energy > 0, energy, 1.0) + floor)")
    ),
    "the floor outside": _losses(("torch.log10(quotient + floor)", "(torch.log10(quotient + 1e-30) + floor)")),
    "sizes, not squares": _losses(
        ("(error ** 2).sum(-1)", "error.abs().sum(-1)"), ("(x ** 2).sum(-1)", "x.abs().sum(-1)")
    ),
    "norms": _losses(
        ("(error ** 2).sum(-1)", "(error ** 2).sum(-1).sqrt()"), ("(x ** 2).sum(-1)", "(x ** 2).sum(-1).sqrt()")
    ),
    "means of different lengths": _losses(("(x ** 2).sum(-1)", "(x ** 2).mean(-1)")),
    "all questions together": _losses(
        ("(error ** 2).sum(-1)", "(error ** 2).sum((1, 2)).unsqueeze(1).expand(error.shape[:2])")
    ),
    "all mixtures together": _losses(("(x ** 2).sum(-1)", "(x ** 2).sum(-1).mean(0, keepdim=True).expand(len(x), 1)")),
    "mixtures as questions": _losses(
        (
            "mixture.double().unsqueeze(1)",
            "(mixture.double().unsqueeze(1) if len(mixture) != targets.shape[1] else mixture.double().unsqueeze(0))",
        )
    ),
    "squares in single precision": _losses(
        ("error = (estimates - targets).double()", "error = estimates - targets"), ("mixture.double()", "mixture")
    ),
    "1e-8 below": _losses(("torch.where(energy > 0, energy, 1.0)", "energy.clamp_min(1e-8)")),
    "1e-8 added": _losses(("torch.where(energy > 0, energy, 1.0)", "(energy + 1e-8)")),
    "soft mixtures are silent": _losses(
        ("quotient = torch.where(energy > 0,", "quotient = torch.where(energy > 1e-12,")
    ),
    "silent: the error's energy": _losses(("    quotient = torch.where(energy > 0, quotient, wrong)\n", "")),
    "silent: always 0": _losses(("quotient, wrong)", "quotient, 0 * wrong)")),
    "silent: always 1": _losses(("quotient, wrong)", "quotient, 0 * wrong + 1)")),
    "silent: nearly right is right": _losses(("(error != 0).any(-1)", "(error.abs() > 1e-5).any(-1)")),
    "silent: all samples wrong": _losses(("(error != 0).any(-1)", "(error != 0).all(-1)")),
    "silent: the sum of errors": _losses(
        ("(error != 0).any(-1)", "(error.sum(-1).abs() > 1e-3 * error.abs().sum(-1))")
    ),
    "silent: the answer is silent": _losses(("(error != 0).any(-1)", "(estimates != 0).any(-1)")),
    "silent: NaN": _losses(
        ("torch.where(energy > 0, energy, 1.0)", "energy"),
        ("    quotient = torch.where(energy > 0, quotient, wrong)\n", ""),
    ),
    "0 / 0 put right afterwards": _losses(("torch.where(energy > 0, energy, 1.0)", "energy")),
    "a root in the gradient": _losses(("(error ** 2).sum(-1) /", "error.norm(dim=-1).sqrt() ** 4 /")),
    "no gradient": _losses((".to(estimates.dtype)", ".to(estimates.dtype).detach()")),
    "a mean already": _losses((".to(estimates.dtype)", ".to(estimates.dtype).mean()")),
    "losses in double precision": _losses((".to(estimates.dtype)", "")),
    "losses in single precision": _losses((".to(estimates.dtype)", ".float()")),
    "estimates are changed": _losses(
        ("    error = (est", "    if not estimates.requires_grad:\n        estimates *= 1.0001\n    error = (est")
    ),
    "offsets taken off": _losses(
        (
            "(estimates - targets).double()",
            "(estimates - targets).double()\n    error = error - error.mean(-1, keepdim=True)",
        )
    ),
    "the best gain": _losses(
        (
            "(estimates - targets).double()",
            "(estimates - targets).double()\n"
            "    g = (estimates * targets).double().sum(-1, keepdim=True)\n"
            "    g = g / (estimates.double() ** 2).sum(-1, keepdim=True).clamp_min(1e-300)\n"
            "    error = g * estimates.double() - targets.double()",
        )
    ),
    "all questions alike": LOSSES
    + """
def mean_loss(losses, asked):
    return torch.where(asked, losses, 0.0).sum() / asked.sum().clamp(min=1)
""",
    "asked or not": LOSSES
    + """
def mean_loss(losses, asked):
    return losses.nan_to_num(0.0, 0.0, 0.0).mean()
""",
    "mixtures without questions count": _mean(("max(1, int((counts > 0).sum()))", "len(counts)")),
    "questions that aren't there count": _mean(("counts.clamp(min=1)", "losses.shape[1]")),
    "the sum of means": _mean((" / max(1, int((counts > 0).sum()))", "")),
    "the mean of sums": _mean(("kept.sum(1) / counts.clamp(min=1)", "kept.sum(1)")),
    "times 0": _mean(("torch.where(asked, losses, torch.zeros_like(losses))", "losses * asked")),
    "nothing asked: NaN": _mean(("max(1, int((counts > 0).sum()))", "(counts > 0).sum()")),
    "nothing asked: an error": _mean(("    kept =", "    assert asked.any()\n    kept =")),
    "nothing asked: a number": _mean(("    kept =", "    if not asked.any():\n        return 0.0\n    kept =")),
    "the mean along questions": _mean(("asked.sum(1)", "asked.sum(0)"), ("kept.sum(1)", "kept.sum(0)")),
    "the median": _mean(
        (
            "return own.sum() / max(1, int((counts > 0).sum()))",
            "return own[counts > 0].median() if asked.any() else own.sum()",
        )
    ),
    "a number of Python": _mean(("    return own.sum()", "    own = own.detach()\n    return own.sum()")),
    "one axis": _mean(("return own.sum() /", "return own.sum()[None] /")),
    "the mean in double precision": _mean(("own.sum() /", "own.double().sum() /")),
    "the largest": _mean(("own.sum() / max(1, int((counts > 0).sum()))", "own.max()")),
    "losses above 0 only": _mean(("torch.where(asked, losses,", "torch.where(asked & (losses > 0), losses,")),
    "losses are changed": LOSSES
    + """
def mean_loss(losses, asked):
    with torch.no_grad():
        losses[~asked] = 0
    counts = asked.sum(1)
    own = (losses * asked).sum(1) / counts.clamp(min=1)
    return own.sum() / max(1, int((counts > 0).sum()))
""",
}

# ----------------------------------------------------------------------------------- 5, every song has its turn

DRAWN = """
from fractions import Fraction

def drawn(examples, tag, heard, u):
    places = {}
    for n, (song, tags) in enumerate(examples):
        if tag in tags and song not in heard:
            places.setdefault(song, []).append(n)
    if not places:
        return None
    at = Fraction(u) * len(places)
    own = list(places.values())[math.floor(at)]
    return own[math.floor((at - math.floor(at)) * len(own))]
"""
DRAWN_BY_WHOLE_NUMBERS = """
def drawn(examples, tag, heard, u):
    songs = []
    for song, tags in examples:
        if tag in tags and song not in heard and song not in songs:
            songs.append(song)
    if len(songs) == 0:
        return None
    above, below = u.as_integer_ratio()
    number, rest = divmod(above * len(songs), below)
    fit = [n for n, (song, tags) in enumerate(examples) if song == songs[number] and tag in tags]
    return fit[rest * len(fit) // below]
"""
DRAWN_BY_HALVING = """
from fractions import Fraction as Exact

def drawn(examples, tag, heard, u):
    fit = [n for n in range(len(examples)) if tag in examples[n][1] and examples[n][0] not in heard]
    songs = list(dict.fromkeys(examples[n][0] for n in fit))
    v = Exact(u)
    choice = songs
    for last in (False, True):
        if not choice:
            return None
        k = 0
        while Exact(k + 1, len(choice)) <= v:
            k += 1
        v = v * len(choice) - k
        if last:
            return choice[k]
        choice = [n for n in fit if examples[n][0] == songs[k]]
"""
DRAWN_RIGHT = {
    "fractions": DRAWN,
    "whole numbers": DRAWN_BY_WHOLE_NUMBERS,
    "parts of the line": DRAWN_BY_HALVING,
}


def _drawn(*changes):
    return changed(DRAWN, *changes)


DRAWN_WRONG = {
    "all examples alike": """
from fractions import Fraction

def drawn(examples, tag, heard, u):
    fit = [n for n, (song, tags) in enumerate(examples) if tag in tags and song not in heard]
    return fit[math.floor(Fraction(u) * len(fit))] if fit else None
""",
    "floats": _drawn(("Fraction(u) * len(places)", "u * len(places)")),
    "floats with a hair less": _drawn(("Fraction(u) * len(places)", "max(0.0, u - 1e-12) * len(places)")),
    "decimals": _drawn(("Fraction(u)", "Fraction(str(u))")),
    "limited fractions": _drawn(("Fraction(u)", "Fraction(u).limit_denominator(10 ** 6)")),
    "u once more": _drawn(("(at - math.floor(at)) * len(own)", "Fraction(u) * len(own)")),
    "a u of its own": _drawn(("(at - math.floor(at)) * len(own)", "float(torch.rand(())) * len(own)")),
    "the first example": _drawn(("math.floor((at - math.floor(at)) * len(own))", "0")),
    "the last example": _drawn(("math.floor((at - math.floor(at)) * len(own))", "-1")),
    "the first song": _drawn(("list(places.values())[math.floor(at)]", "list(places.values())[0]")),
    "rounded": _drawn(("[math.floor(at)]\n", "[min(len(places) - 1, round(at))]\n")),
    "the example rounded": _drawn(
        (
            "own[math.floor((at - math.floor(at)) * len(own))]",
            "own[min(len(own) - 1, round((at - math.floor(at)) * len(own)))]",
        )
    ),
    "u up": _drawn(("[math.floor(at)]\n", "[max(0, math.ceil(at) - 1)]\n")),
    "u turned round": _drawn(("Fraction(u) * len(places)", "(1 - Fraction(u)) * len(places) * Fraction(999, 1000)")),
    "of n - 1": _drawn(("Fraction(u) * len(places)", "Fraction(u) * max(1, len(places) - 1)")),
    "the rest turned round": _drawn(
        ("(at - math.floor(at)) * len(own)", "(1 - (at - math.floor(at))) * len(own) * Fraction(999, 1000)")
    ),
    "songs by name": _drawn(
        ("list(places.values())[math.floor(at)]", "[places[s] for s in sorted(places, key=str)][math.floor(at)]")
    ),
    "songs with most examples first": _drawn(
        ("list(places.values())", "sorted(places.values(), key=len, reverse=True)")
    ),
    "songs from the end": _drawn(("list(places.values())", "list(places.values())[::-1]")),
    "songs in the order of all examples": """
from fractions import Fraction

def drawn(examples, tag, heard, u):
    places = {song: [] for song, _ in examples}
    for n, (song, tags) in enumerate(examples):
        if tag in tags and song not in heard:
            places[song].append(n)
    places = [own for own in places.values() if own]
    if not places:
        return None
    at = Fraction(u) * len(places)
    own = places[math.floor(at)]
    return own[math.floor((at - math.floor(at)) * len(own))]
""",
    "all songs, whether they have any": """
from fractions import Fraction

def drawn(examples, tag, heard, u):
    places = {song: [] for song, _ in examples if song not in heard}
    for n, (song, tags) in enumerate(examples):
        if tag in tags and song not in heard:
            places[song].append(n)
    if not any(places.values()):
        return None
    at = Fraction(u) * len(places)
    own = list(places.values())[math.floor(at)]
    return own[math.floor((at - math.floor(at)) * len(own))] if own else None
""",
    "all examples of the song": """
from fractions import Fraction

def drawn(examples, tag, heard, u):
    songs = list(dict.fromkeys(s for s, tags in examples if tag in tags and s not in heard))
    if not songs:
        return None
    at = Fraction(u) * len(songs)
    own = [n for n, (s, _) in enumerate(examples) if s == songs[math.floor(at)]]
    return own[math.floor((at - math.floor(at)) * len(own))]
""",
    "heard songs, too": _drawn((" and song not in heard", "")),
    "only heard songs": _drawn(("song not in heard", "song in heard")),
    "the first heard only": _drawn(("song not in heard", "song != next(iter(sorted(heard, key=str)), object())")),
    "heard by name": _drawn(
        ("song not in heard", "str(song) not in map(str, heard)"),
        ("places.setdefault(song", "places.setdefault(str(song)"),
    ),
    "songs by their text": _drawn(("places.setdefault(song", "places.setdefault(str(song)")),
    "false songs left out": _drawn((" and song not in heard", " and song and song not in heard")),
    "tags within names": _drawn(("if tag in tags and", "if tag in ' '.join(tags) and")),
    "all tags": _drawn(("if tag in tags and", "if tags == {tag} and")),
    "tags ignored": _drawn(("if tag in tags and song", "if song")),
    "nobody: an error": _drawn(("        return None", "        raise ValueError('none')")),
    "nobody: -1": _drawn(("        return None", "        return -1")),
    "nobody: any example": _drawn(("        return None", "        return 0")),
    "the example itself": _drawn(("return own[", "return examples[own["), ("* len(own))]", "* len(own))]]")),
    "a tensor": _drawn(("return own[", "return torch.tensor(own)[")),
    "the song": _drawn(("return own[math.floor((at - math.floor(at)) * len(own))]", "return math.floor(at)")),
    "the place among the fitting": _drawn(("append(n)", "append(sum(map(len, places.values())))")),
    "examples are changed": _drawn(
        ("    places = {}\n", "    places = {}\n    examples.sort(key=lambda one: tag not in one[1])\n")
    ),
    "heard is changed": _drawn(("    own =", "    heard.add(list(places)[math.floor(at)])\n    own =")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    2,
    """
from course_lib.query import modulate

def film(x, gamma, beta):
    return torch.stack([modulate(x.movedim(1, -1), g, b).movedim(-1, 1)
                        for g, b in zip(gamma.unbind(1), beta.unbind(1))], 1)

"""
    + FOLD,
)


CASES = as_cells(
    (ANSWER_RIGHT, ANSWER_WRONG),
    (FOLD_RIGHT, FOLD_WRONG),
    (SAYS_RIGHT, SAYS_WRONG),
    (LOSS_RIGHT, LOSS_WRONG),
    (DRAWN_RIGHT, DRAWN_WRONG),
)
