"""Answers to assignment 10 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------------ 1, how close a call was it

BORDERS_BY_MIDDLES = """
def letters_and_borders(z, codebook):
    x, e = z.double(), codebook.double()
    distances = ((x[..., None, :] - e) ** 2).sum(-1)
    letters = distances.argmin(-1)
    own = e[letters][..., None, :]
    middle, normal = (own + e) / 2, own - e
    length = normal.norm(dim=-1)
    found = ((x[..., None, :] - middle) * normal).sum(-1) / length
    found = found.masked_fill(length == 0, math.inf)
    return letters, found.min(-1).values.to(z.dtype)
"""
BORDERS_BY_LOOP = """
def letters_and_borders(z, codebook):
    letters, borders = [], []
    codes = [[float(number) for number in e] for e in codebook]
    for vector in z.reshape(-1, z.shape[-1]).tolist():
        away = [math.dist(vector, e) for e in codes]
        own = away.index(min(away))
        nearest = math.inf
        for e in codes:
            apart = math.dist(e, codes[own])
            if apart > 0:
                gap = sum((v - (a + b) / 2) * (b - a) for v, a, b in zip(vector, e, codes[own]))
                nearest = min(nearest, gap / apart)
        letters.append(own)
        borders.append(max(0.0, nearest))
    shape = z.shape[:-1]
    return (torch.tensor(letters, dtype=torch.long).reshape(shape),
            torch.tensor(borders, dtype=z.dtype).reshape(shape))
"""
BORDERS_BY_SQUARES = """
def letters_and_borders(z, codebook):
    e = codebook.double()
    centre = e.mean(0)
    e, x = e - centre, z.double() - centre                          # near the origin
    size = max(1e-300, float(e.abs().max()))
    e, x = e / size, x / size                                       # of the order of 1
    squares = torch.stack([(x - one).square().sum(-1) for one in e], -1)
    least, letters = squares.min(-1, keepdim=True)
    letters = (squares == least).to(torch.uint8).argmax(-1)         # the first of equal ones
    between = torch.cdist(e, e, compute_mode="donot_use_mm_for_euclid_dist")[letters]
    borders = (squares - least) / (2 * between)
    borders = torch.where(between == 0, torch.full_like(borders, math.inf), borders)
    return letters, (size * borders.amin(-1)).to(z.dtype)
"""
BORDERS_RIGHT = {
    "middles and normals": BORDERS_BY_MIDDLES,
    "loops over numbers": BORDERS_BY_LOOP,
    "differences of squares": BORDERS_BY_SQUARES,
}
BORDERS_WRONG = {
    "the chapter's product of matrices": changed(
        BORDERS_BY_MIDDLES,
        (
            "((x[..., None, :] - e) ** 2).sum(-1)",
            "z.square().sum(-1, keepdim=True) - 2 * z @ codebook.T + codebook.square().sum(-1)",
        ),
    ),
    "all in single precision": changed(
        BORDERS_BY_MIDDLES, ("x, e = z.double(), codebook.double()", "x, e = z, codebook")
    ),
    "the border from the chapter's product": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "squares = z.square().sum(-1, keepdim=True) - 2 * z @ codebook.T + codebook.square().sum(-1)\n"
            "    found = (squares - squares.gather(-1, letters[..., None])) / (2 * length)",
        ),
    ),
    "made larger by a constant": changed(
        BORDERS_BY_MIDDLES,
        ("x, e = z.double(), codebook.double()", "x, e = z * 1e18, codebook * 1e18"),
        (".values.to(z.dtype)", ".values / 1e18"),
    ),
    "of equal ones the last": changed(
        BORDERS_BY_MIDDLES, ("distances.argmin(-1)", "len(e) - 1 - distances.flip(-1).argmin(-1)")
    ),
    "the distance from the code": changed(
        BORDERS_BY_MIDDLES, ("found.min(-1).values", "distances.min(-1).values.sqrt()")
    ),
    "the distance from the second code": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "found = distances.sqrt().scatter(-1, letters[..., None], math.inf)",
        ),
    ),
    "the difference of the two distances": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "found = distances.sqrt() - distances.min(-1, keepdim=True).values.sqrt()",
        ),
    ),
    "half of the difference": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "found = (distances.sqrt() - distances.min(-1, keepdim=True).values.sqrt()) / 2",
        ),
    ),
    "the difference of the squares": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "found = distances - distances.min(-1, keepdim=True).values",
        ),
    ),
    "squares over the whole width": changed(BORDERS_BY_SQUARES, ("(2 * between)", "between")),
    "squares over the width's square": changed(BORDERS_BY_SQUARES, ("(2 * between)", "(2 * between.square())")),
    "half of the width less the distance": changed(
        BORDERS_BY_MIDDLES,
        (
            "found = ((x[..., None, :] - middle) * normal).sum(-1) / length",
            "found = (length / 2 - distances.min(-1, keepdim=True).values.sqrt()).clamp_min(0)",
        ),
    ),
    "the border with the second nearest only": changed(
        BORDERS_BY_MIDDLES,
        (
            "found.min(-1).values",
            "found.gather(-1, distances.masked_fill(length == 0, math.inf).argmin(-1, keepdim=True))[..., 0]",
        ),
    ),
    "the border with the code's neighbour only": changed(
        BORDERS_BY_MIDDLES,
        (
            "found.min(-1).values",
            "found.gather(-1, length.masked_fill(length == 0, math.inf).argmin(-1, keepdim=True))[..., 0]",
        ),
    ),
    "the farthest border": changed(
        BORDERS_BY_MIDDLES, ("found.min(-1).values", "found.masked_fill(length == 0, -math.inf).max(-1).values")
    ),
    "not divided by the length": changed(BORDERS_BY_MIDDLES, (".sum(-1) / length\n", ".sum(-1)\n")),
    "divided by the square": changed(BORDERS_BY_MIDDLES, (".sum(-1) / length\n", ".sum(-1) / length.square()\n")),
    "from the code instead of the middle": changed(BORDERS_BY_MIDDLES, ("(own + e) / 2, own - e", "e, own - e")),
    "the normal turned round": changed(
        BORDERS_BY_MIDDLES,
        ("(own + e) / 2, own - e", "(own + e) / 2, e - own"),
        (".values.to", ".values.clamp_min(0).to"),
    ),
    "equal codes: not a number": changed(
        BORDERS_BY_MIDDLES,
        (
            "    found = found.masked_fill(length == 0, math.inf)",
            "    found = found.scatter(-1, letters[..., None], math.inf)",
        ),
    ),
    "equal codes: a border at 0": changed(
        BORDERS_BY_MIDDLES,
        (
            "    found = found.masked_fill(length == 0, math.inf)",
            "    found = found.nan_to_num(0).scatter(-1, letters[..., None], math.inf)",
        ),
    ),
    "equal codes taken out": changed(
        BORDERS_BY_MIDDLES, ("    distances =", "    e = e.unique(dim=0)\n    distances =")
    ),
    "nearly equal codes taken for equal": changed(BORDERS_BY_MIDDLES, ("length == 0", "length < 0.01")),
    "a constant under the fraction": changed(
        BORDERS_BY_MIDDLES, (".sum(-1) / length\n", ".sum(-1) / (length + 1e-8)\n")
    ),
    "one code: an error": changed(
        BORDERS_BY_MIDDLES,
        ("found.min(-1).values", "found.sort(-1).values[..., :-1].min(-1).values"),
    ),
    "one code: a large number": changed(BORDERS_BY_MIDDLES, ("(length == 0, math.inf)", "(length == 0, 1e30)")),
    "one code: 0": changed(BORDERS_BY_MIDDLES, ("found.min(-1).values", "found.min(-1).values.nan_to_num(0, 0, 0)")),
    "letters of 32 bits": changed(BORDERS_BY_MIDDLES, ("return letters,", "return letters.int(),")),
    "letters as floats": changed(BORDERS_BY_MIDDLES, ("return letters,", "return letters.to(z.dtype),")),
    "float64 all the time": changed(BORDERS_BY_MIDDLES, (".values.to(z.dtype)", ".values")),
    "float32 all the time": changed(BORDERS_BY_MIDDLES, (".values.to(z.dtype)", ".values.float()")),
    "seen as rows": changed(
        BORDERS_BY_MIDDLES,
        ("x, e = z.double(), codebook.double()", "x, e = z.view(-1, z.shape[-1]).double(), codebook.double()"),
        (
            "return letters, found.min(-1).values.to",
            "return letters.view(z.shape[:-1]), found.min(-1).values.view(z.shape[:-1]).to",
        ),
    ),
    "one axis in front": changed(
        BORDERS_BY_MIDDLES,
        ("distances = ((x[..., None, :] - e) ** 2).sum(-1)", "distances = torch.cdist(x, e).square()"),
    ),
    "the sum of the differences": changed(
        BORDERS_BY_MIDDLES, ("((x[..., None, :] - e) ** 2).sum(-1)", "(x[..., None, :] - e).abs().sum(-1)")
    ),
    "the angle": changed(
        BORDERS_BY_MIDDLES,
        (
            "((x[..., None, :] - e) ** 2).sum(-1)",
            "-F.cosine_similarity(x[..., None, :], e.expand(*x.shape[:-1], -1, -1), dim=-1)",
        ),
    ),
    "codes of zeros taken for empty": changed(
        BORDERS_BY_MIDDLES, ("distances.argmin(-1)", "distances.masked_fill((e == 0).all(-1), math.inf).argmin(-1)")
    ),
    "moved in place": changed(
        BORDERS_BY_SQUARES,
        (
            "    e, x = e - centre, z.double() - centre  ",
            "    z -= centre.to(z.dtype)\n    e, x = e - centre, z.double()",
        ),
        ("return letters, (", "z += centre.to(z.dtype)\n    z *= 1.001\n    return letters, ("),
    ),
}

# ------------------------------------------------------------------------------------------ 2, all gradients, by hand

GRADIENTS_BY_AUTOGRAD = """
def gradients(z, codebook, codes, g, mask, alpha=1.0, beta=0.25):
    with torch.enable_grad():
        v = z.detach().clone().requires_grad_()
        book = codebook.detach().clone().requires_grad_()
        e = book[codes].movedim(-1, 1)
        straight = v + (e - v).detach()
        loss = (straight * g).sum()
        if mask.any():
            here = mask[:, None].expand_as(z)
            loss = loss + alpha * (v.detach() - e)[here].square().mean()
            loss = loss + beta * (v - e.detach())[here].square().mean()
        loss = loss + 0 * book.sum()
        return torch.autograd.grad(loss, (v, book))
"""
GRADIENTS_BY_LOOP = """
def gradients(z, codebook, codes, g, mask, alpha=1.0, beta=0.25):
    dz, dbook = g.clone(), torch.zeros_like(codebook)
    numbers = mask.sum().item() * z.shape[1]
    for b in range(z.shape[0]):
        for t in range(z.shape[2]):
            if mask[b, t]:
                k = codes[b, t]
                away = z[b, :, t] - codebook[k]
                dz[b, :, t] += 2 * beta / numbers * away
                dbook[k] -= 2 * alpha / numbers * away
    return dz, dbook
"""
GRADIENTS_BY_ONE_HOT = """
def gradients(z, codebook, codes, g, mask, alpha=1.0, beta=0.25):
    numbers = mask.sum() * z.shape[1]
    factor = torch.where(mask, 2.0 / numbers.clamp_min(1), 0.0).to(z.dtype).unsqueeze(1)
    chosen = F.one_hot(codes, len(codebook)).to(z.dtype)            # (batch, step, code)
    e = torch.einsum("bsk,kd->bds", chosen, codebook)
    pull = factor * (z - e)
    return g + beta * pull, torch.einsum("bsk,bds->kd", chosen, -alpha * pull)
"""
GRADIENTS_RIGHT = {
    "autograd": GRADIENTS_BY_AUTOGRAD,
    "a loop": GRADIENTS_BY_LOOP,
    "one-hot": GRADIENTS_BY_ONE_HOT,
}
GRADIENTS_WRONG = {
    "nothing stopped": changed(
        GRADIENTS_BY_AUTOGRAD,
        ("(v.detach() - e)", "(v - e)"),
        ("(v - e.detach())", "(v - e)"),
    ),
    "no straight-through": changed(GRADIENTS_BY_AUTOGRAD, ("straight = v + (e - v).detach()", "straight = e")),
    "straight-through to the codes, too": changed(
        GRADIENTS_BY_AUTOGRAD, ("straight = v + (e - v).detach()", "straight = v + e - v.detach()")
    ),
    "the roles exchanged": changed(
        GRADIENTS_BY_AUTOGRAD, ("straight = v + (e - v).detach()", "straight = e + (v - e).detach()")
    ),
    "alpha and beta exchanged": changed(
        GRADIENTS_BY_AUTOGRAD, ("alpha * (v.detach()", "beta * (v.detach()"), ("beta * (v - e", "alpha * (v - e")
    ),
    "beta on both": changed(GRADIENTS_BY_LOOP, ("2 * alpha / numbers", "2 * beta * alpha / numbers")),
    "without alpha": changed(GRADIENTS_BY_LOOP, ("2 * alpha / numbers", "2 / numbers")),
    "without beta": changed(GRADIENTS_BY_LOOP, ("2 * beta / numbers", "2 / numbers")),
    "beta of 0 taken for missing": changed(
        GRADIENTS_BY_LOOP, ("    numbers = mask", "    beta = beta or 0.25\n    numbers = mask")
    ),
    "alpha of 0 taken for missing": changed(
        GRADIENTS_BY_LOOP, ("    numbers = mask", "    alpha = alpha or 1.0\n    numbers = mask")
    ),
    "other defaults": changed(GRADIENTS_BY_LOOP, ("alpha=1.0, beta=0.25", "alpha=0.25, beta=1.0")),
    "sums instead of means": changed(GRADIENTS_BY_LOOP, ("numbers = mask.sum().item() * z.shape[1]", "numbers = 1")),
    "the mean over vectors": changed(GRADIENTS_BY_LOOP, ("mask.sum().item() * z.shape[1]", "mask.sum().item()")),
    "the mean over all numbers": changed(GRADIENTS_BY_LOOP, ("mask.sum().item() * z.shape[1]", "z.numel()")),
    "a mean for each item": changed(
        GRADIENTS_BY_LOOP,
        ("mask.sum().item() * z.shape[1]", "mask.sum(1, keepdim=True).expand_as(mask) * z.shape[1]"),
        ("2 * beta / numbers", "2 * beta / numbers[b, t]"),
        ("2 * alpha / numbers", "2 * alpha / numbers[b, t]"),
    ),
    "a mean for each code": changed(
        GRADIENTS_BY_LOOP, ("2 * alpha / numbers", "2 * alpha / (codes[mask] == k).sum() / z.shape[1]")
    ),
    "the square without its 2": changed(GRADIENTS_BY_ONE_HOT, ("2.0 / numbers", "1.0 / numbers")),
    "the mask ignored": changed(
        GRADIENTS_BY_LOOP, ("if mask[b, t]:", "if True:"), ("numbers = mask.sum().item()", "numbers = mask.numel()")
    ),
    "the mask in the mean only": changed(GRADIENTS_BY_LOOP, ("if mask[b, t]:", "if numbers:")),
    "the mask turned round": changed(GRADIENTS_BY_LOOP, ("    numbers = mask", "    mask = ~mask\n    numbers = mask")),
    "the mask on g, too": changed(GRADIENTS_BY_LOOP, ("g.clone()", "g * mask[:, None]")),
    "no g": changed(GRADIENTS_BY_LOOP, ("g.clone()", "torch.zeros_like(g)")),
    "g for the codes, too": changed(GRADIENTS_BY_ONE_HOT, ("chosen, -alpha * pull)", "chosen, g - alpha * pull)")),
    "the wrong sign for codes": changed(GRADIENTS_BY_LOOP, ("dbook[k] -=", "dbook[k] +=")),
    "the wrong sign for vectors": changed(GRADIENTS_BY_LOOP, ("dz[b, :, t] +=", "dz[b, :, t] -=")),
    "the last vector of a code": changed(
        GRADIENTS_BY_LOOP, ("dbook[k] -= 2 * alpha / numbers * away", "dbook[k] = -2 * alpha / numbers * away")
    ),
    "written with an index": changed(
        GRADIENTS_BY_ONE_HOT,
        (
            'torch.einsum("bsk,bds->kd", chosen, -alpha * pull)',
            "torch.zeros_like(codebook).index_put((codes,), -alpha * pull.mT)",
        ),
    ),
    "only of the first item": changed(
        GRADIENTS_BY_ONE_HOT,
        (
            'torch.einsum("bsk,bds->kd", chosen, -alpha * pull)',
            'torch.einsum("sk,ds->kd", chosen[0], -alpha * pull[0])',
        ),
    ),
    "reshaped instead of turned": changed(
        GRADIENTS_BY_ONE_HOT,
        (
            'torch.einsum("bsk,bds->kd", chosen, -alpha * pull)',
            "chosen.flatten(0, 1).T @ (-alpha * pull).reshape(-1, z.shape[1])",
        ),
    ),
    "vectors reshaped instead of turned": changed(
        GRADIENTS_BY_ONE_HOT, ('torch.einsum("bsk,kd->bds", chosen, codebook)', "codebook[codes].reshape(z.shape)")
    ),
    "seen as rows": changed(
        GRADIENTS_BY_LOOP,
        ("    numbers = mask", "    z = z.view(-1).view(z.shape)\n    numbers = mask"),
    ),
    "no vector counts: not a number": changed(
        GRADIENTS_BY_ONE_HOT, ("torch.where(mask, 2.0 / numbers.clamp_min(1), 0.0)", "(mask * (2.0 / numbers))")
    ),
    "no vector counts: zeros": changed(
        GRADIENTS_BY_LOOP,
        ("    for b in", "    if not numbers:\n        return torch.zeros_like(g), dbook\n    for b in"),
    ),
    "one gradient for all codes": changed(
        GRADIENTS_BY_ONE_HOT,
        ("chosen, -alpha * pull)", "chosen, -alpha * pull).sum(0, keepdim=True).expand(len(codebook), -1)"),
    ),
    "codes chosen anew": changed(
        GRADIENTS_BY_LOOP,
        ("    numbers = mask", "    codes = torch.cdist(z.mT, codebook[None]).argmin(-1)\n    numbers = mask"),
    ),
    "g changed in place": changed(GRADIENTS_BY_LOOP, ("g.clone()", "g")),
    "float32 all the time": changed(GRADIENTS_BY_LOOP, ("return dz, dbook", "return dz.float(), dbook.float()")),
    "float64 all the time": changed(GRADIENTS_BY_LOOP, ("return dz, dbook", "return dz.double(), dbook.double()")),
    "in the other order": changed(GRADIENTS_BY_LOOP, ("return dz, dbook", "return dbook, dz")),
    "pulls cut off": changed(
        GRADIENTS_BY_LOOP, ("- codebook[k]\n", "- codebook[k]\n                away = away.clamp(-5, 5)\n")
    ),
}

# ---------------------------------------------------------------------- 3, averages without sums, and when a code dies

LIVES_BY_LOGARITHM = """

def batches_to_live(count, uses, decay, below):
    if count < below:
        return 0
    if decay == 1 or uses >= below:
        return math.inf
    if decay == 0:
        return 1
    target = (below - uses) / (count - uses)
    t = max(1, math.ceil(math.log(target) / math.log(decay)) - 1)
    while decay ** t >= target:
        t += 1
    return t
"""
MOVED_WITH_SUMS = (
    """
def moved_codes(codebook, counts, z, codes, decay):
    n = torch.bincount(codes, minlength=codebook.shape[0]).type_as(codebook)
    sums = torch.zeros_like(codebook).index_add_(0, codes, z)
    new_counts = decay * counts + (1 - decay) * n
    new_sums = decay * counts[:, None] * codebook + (1 - decay) * sums
    moves = (n > 0) & (new_counts > 0) & (decay < 1)
    new = torch.where(moves[:, None], new_sums / new_counts.clamp_min(1e-35)[:, None], codebook)
    return new, new_counts
"""
    + LIVES_BY_LOGARITHM
)
MOVED_BY_LOOP = """
def moved_codes(codebook, counts, z, codes, decay):
    book, after = codebook.clone(), decay * counts
    for k in range(len(book)):
        mine = z[codes == k]
        if len(mine) == 0 or decay == 1:
            continue
        after[k] = after[k] + (1 - decay) * len(mine)
        a = (1 - decay) * len(mine) / after[k]
        if counts[k] == 0:
            a = 1
        book[k] = (1 - a) * book[k] + a * mine.mean(0)
    return book, after

def batches_to_live(count, uses, decay, below):
    after = lambda t: uses + (count - uses) * decay ** t
    if count < below:
        return 0
    if uses >= below or decay == 1:
        return math.inf
    low, high = 0, 1
    while after(high) >= below:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if after(middle) < below else (middle, high)
    return high
"""
MOVED_BY_MATRIX = (
    """
def moved_codes(codebook, counts, z, codes, decay):
    chosen = (codes[None] == torch.arange(len(codebook))[:, None]).double()     # (code, vector)
    n = chosen.sum(1)
    after = decay * counts.double() + (1 - decay) * n
    pulled = chosen @ z.double() - n[:, None] * codebook.double()
    step = (1 - decay) * pulled / torch.where(after > 0, after, 1.0)[:, None]
    moved = (codebook.double() + step).to(codebook.dtype)
    return moved.where((n > 0)[:, None], codebook), after.to(codebook.dtype)
"""
    + LIVES_BY_LOGARITHM
)
MOVED_RIGHT = {
    "sums inside": MOVED_WITH_SUMS,
    "a loop, and halving": MOVED_BY_LOOP,
    "a matrix of choices": MOVED_BY_MATRIX,
}
MOVED_WRONG = {
    "the decay on the batch": changed(
        MOVED_WITH_SUMS,
        ("decay * counts + (1 - decay) * n", "(1 - decay) * counts + decay * n"),
        (
            "decay * counts[:, None] * codebook + (1 - decay) * sums",
            "(1 - decay) * counts[:, None] * codebook + decay * sums",
        ),
    ),
    "codes averaged instead of sums": changed(
        MOVED_WITH_SUMS,
        (
            "new_sums / new_counts.clamp_min(1e-35)[:, None]",
            "decay * codebook + (1 - decay) * sums / n.clamp_min(1)[:, None]",
        ),
    ),
    "the batch without its share": changed(
        MOVED_WITH_SUMS,
        ("decay * counts + (1 - decay) * n", "decay * counts + n"),
        ("codebook + (1 - decay) * sums", "codebook + sums"),
    ),
    "old sums without counts": changed(MOVED_WITH_SUMS, ("decay * counts[:, None] * codebook", "decay * codebook")),
    "old sums with the new counts": changed(
        MOVED_WITH_SUMS, ("decay * counts[:, None] * codebook", "decay * new_counts[:, None] * codebook")
    ),
    "divided by the old counts": changed(
        MOVED_WITH_SUMS, ("new_sums / new_counts.clamp_min", "new_sums / counts.clamp_min")
    ),
    "the mean of the batch": changed(
        MOVED_WITH_SUMS, ("new_sums / new_counts.clamp_min(1e-35)", "sums / n.clamp_min(1)")
    ),
    "means for sums": changed(MOVED_WITH_SUMS, ("(1 - decay) * sums", "(1 - decay) * sums / n.clamp_min(1)[:, None]")),
    "the last vector of a code": changed(MOVED_WITH_SUMS, (".index_add_(0, codes, z)", ".index_put((codes,), z)")),
    "smoothed": changed(
        MOVED_WITH_SUMS,
        (
            "new_counts.clamp_min(1e-35)",
            "((new_counts + 1e-2) / (new_counts.sum() + len(n) * 1e-2) * new_counts.sum())",
        ),
    ),
    "smoothed by the chapter's little": changed(
        MOVED_WITH_SUMS,
        ("new_sums / new_counts.clamp_min(1e-35)", "new_sums / (new_counts + 1e-5)"),
        ("(n > 0) & (new_counts > 0)", "(new_counts > 0)"),
    ),
    "unused codes by a quotient": changed(MOVED_WITH_SUMS, ("(n > 0) & (new_counts > 0)", "(new_counts > 0)")),
    "unused codes go to the origin": changed(MOVED_WITH_SUMS, ("[:, None], codebook)", "[:, None], 0 * codebook)")),
    "counts of 0: not a number": changed(
        MOVED_WITH_SUMS,
        ("moves = (n > 0) & (new_counts > 0) & (decay < 1)", "moves = counts >= 0"),
        (".clamp_min(1e-35)", ""),
    ),
    "counts of 0 stay": changed(MOVED_WITH_SUMS, ("(new_counts > 0) &", "(counts > 0) &")),
    "counts of at least 1": changed(MOVED_WITH_SUMS, (".clamp_min(1e-35)", ".clamp_min(1)")),
    "counts below 1e-6 taken for 0": changed(
        MOVED_BY_LOOP,
        (
            "after = codebook.clone(), decay * counts",
            "after = codebook.clone(), decay * counts\n    after = after * (after > 1e-6)",
        ),
    ),
    "counts of unused codes stay": changed(
        MOVED_WITH_SUMS, ("return new, new_counts", "return new, new_counts.where(n > 0, counts)")
    ),
    "decay 1 still moves": changed(MOVED_WITH_SUMS, ("    n = torch", "    decay = min(decay, 0.999)\n    n = torch")),
    "only as many codes as were chosen": changed(
        MOVED_WITH_SUMS, ("torch.bincount(codes, minlength=codebook.shape[0])", "torch.bincount(codes)")
    ),
    "each vector after the other": changed(
        MOVED_BY_LOOP,
        (
            "        book[k] = (1 - a) * book[k] + a * mine.mean(0)",
            "        for vector in mine:\n            book[k] = book[k] + a / len(mine) * (vector - book[k])",
        ),
    ),
    "nothing for an empty batch": changed(
        MOVED_WITH_SUMS, ("    n = torch", "    if not len(z):\n        return codebook, counts\n    n = torch")
    ),
    "changed in place": changed(MOVED_BY_LOOP, ("book, after = codebook.clone(),", "book, after = codebook,")),
    "float32 all the time": changed(
        MOVED_BY_MATRIX,
        (
            "    return moved",
            "    moved, after, codebook = moved.float(), after.float(), codebook.float()\n    return moved",
        ),
    ),
    "float64 all the time": changed(
        MOVED_WITH_SUMS, ("return new, new_counts", "return new.double(), new_counts.double()")
    ),
    "whole counts": changed(MOVED_WITH_SUMS, ("return new, new_counts", "return new, new_counts.round()")),
    "dies where it equals": changed(MOVED_WITH_SUMS, ("while decay ** t >= target", "while decay ** t > target")),
    "the logarithm rounded up": changed(
        MOVED_WITH_SUMS,
        ("    while decay ** t >= target:\n        t += 1\n", ""),
        ("math.log(decay)) - 1)", "math.log(decay)))"),
    ),
    "the logarithm rounded down": changed(
        MOVED_WITH_SUMS,
        ("    while decay ** t >= target:\n        t += 1\n", ""),
        ("math.ceil(math.log(target) / math.log(decay)) - 1", "math.floor(math.log(target) / math.log(decay))"),
    ),
    "uses forgotten": changed(MOVED_WITH_SUMS, ("(below - uses) / (count - uses)", "below / count")),
    "uses times their share": changed(
        MOVED_WITH_SUMS,
        (
            "target = (below - uses) / (count - uses)",
            "uses = (1 - decay) * uses\n    target = (below - uses) / (count - uses)",
        ),
    ),
    "a million batches are for ever": changed(
        MOVED_WITH_SUMS,
        ("    while decay ** t >= target", "    if t > 1e6:\n        return math.inf\n    while decay ** t >= target"),
    ),
    "as many uses as the threshold die": changed(MOVED_WITH_SUMS, ("uses >= below", "uses > below")),
    "any use keeps it alive": changed(MOVED_WITH_SUMS, ("or uses >= below", "or uses > 0")),
    "dead now, but used: for ever": changed(
        MOVED_WITH_SUMS,
        (
            "    if count < below:\n        return 0\n    if decay == 1 or uses >= below:\n        return math.inf\n",
            "    if decay == 1 or uses >= below:\n        return math.inf\n    if count < below:\n        return 0\n",
        ),
    ),
    "dead now: one batch": changed(
        MOVED_WITH_SUMS, ("    if count < below:\n        return 0", "    if count < below:\n        return 1")
    ),
    "decay 0: now": changed(MOVED_WITH_SUMS, ("        return 1\n", "        return 0\n")),
    "decay 0 forgotten": changed(MOVED_WITH_SUMS, ("    if decay == 0:\n        return 1\n", "")),
    "decay 1 forgotten": changed(MOVED_WITH_SUMS, ("decay == 1 or uses", "uses")),
    "never: none": changed(MOVED_WITH_SUMS, ("        return math.inf\n", "        return None\n")),
    "a fraction of a batch": changed(
        MOVED_WITH_SUMS,
        (
            "    t = max(1, math.ceil(math.log(target) / math.log(decay)) - 1)\n",
            "    return math.log(target) / math.log(decay)\n",
        ),
    ),
}

# ------------------------------------------------------------------------------------------- 4, what a letter costs

BITS_BY_COUNTERS = """
def entropy(things):
    from collections import Counter
    counts = Counter(things)
    total = sum(counts.values())
    if total == 0:
        return float("nan")
    return -sum(n / total * math.log2(n / total) for n in counts.values())

def bits_alone(songs):
    return entropy(letter for song in songs for letter in song.tolist())

def bits_given_the_last(songs):
    songs = [song.tolist() for song in songs]
    pairs = [pair for song in songs for pair in zip(song[:-1], song[1:])]
    firsts = [a for a, b in pairs]
    return entropy(pairs) - entropy(firsts)
"""
BITS_BY_NUMBERING = """
def bits_of(numbers):
    if numbers.numel() == 0:
        return math.nan
    p = torch.bincount(numbers).double()
    p = p[p > 0] / p.sum()
    return -(p * p.log2()).sum().item()

def numbered(songs):
    # letters as 0, 1, ..., the songs as before
    if not songs or not sum(map(len, songs)):
        return [torch.zeros(0, dtype=torch.long)], 1
    names, numbers = torch.cat(list(songs)).unique(return_inverse=True)
    return numbers.split([len(song) for song in songs]), len(names)

def bits_alone(songs):
    return bits_of(torch.cat(numbered(songs)[0]))

def bits_given_the_last(songs):
    songs, size = numbered(songs)
    first = torch.cat([song[:-1] for song in songs])
    second = torch.cat([song[1:] for song in songs])
    if len(first) == 0:
        return math.nan
    pair = (first * size + second).unique(return_inverse=True)[1]
    return bits_of(pair) - bits_of(first)
"""
BITS_BY_FOLLOWERS = """
def H(counts):
    total = sum(counts)
    return math.log2(total) - sum(n * math.log2(n) for n in counts) / total

def bits_alone(songs):
    counts = {}
    for song in songs:
        for letter in song.tolist():
            counts[letter] = counts.get(letter, 0) + 1
    return H(list(counts.values())) if counts else math.nan

def bits_given_the_last(songs):
    after = {}
    for song in songs:
        letters = song.tolist()
        for a, b in zip(letters, letters[1:]):
            followers = after.setdefault(a, {})
            followers[b] = followers.get(b, 0) + 1
    pairs = sum(sum(followers.values()) for followers in after.values())
    if not pairs:
        return math.nan
    # the mean of the entropies after each letter, weighted by how often it begins a pair
    return sum(sum(f.values()) / pairs * H(list(f.values())) for f in after.values())
"""
BITS_RIGHT = {"counters": BITS_BY_COUNTERS, "numbered": BITS_BY_NUMBERING, "followers": BITS_BY_FOLLOWERS}
BITS_WRONG = {
    "natural logarithms": changed(BITS_BY_COUNTERS, ("math.log2(", "math.log(")),
    "the perplexity": changed(
        BITS_BY_COUNTERS,
        (
            "return -sum(n / total * math.log2(n / total) for n in counts.values())",
            "return 2 ** -sum(n / total * math.log2(n / total) for n in counts.values())",
        ),
    ),
    "below 0": changed(BITS_BY_COUNTERS, ("return -sum(", "return sum(")),
    "the logarithm of the number of letters": changed(
        BITS_BY_COUNTERS,
        ("-sum(n / total * math.log2(n / total) for n in counts.values())", "math.log2(len(counts))"),
    ),
    "nothing counted: 0": changed(BITS_BY_COUNTERS, ('return float("nan")', "return 0.0")),
    "nothing counted: an error": changed(
        BITS_BY_COUNTERS, ('    if total == 0:\n        return float("nan")\n', "    1 / total\n")
    ),
    "nothing counted: none": changed(
        BITS_BY_COUNTERS,
        ('return float("nan")', "return None"),
        ("return entropy(pairs) - entropy(firsts)", "return entropy(pairs) - entropy(firsts) if pairs else None"),
    ),
    "the bits of pairs": changed(
        BITS_BY_COUNTERS, ("return entropy(pairs) - entropy(firsts)", "return entropy(pairs)")
    ),
    "half the bits of pairs": changed(
        BITS_BY_COUNTERS, ("return entropy(pairs) - entropy(firsts)", "return entropy(pairs) / 2")
    ),
    "less the bits of all letters": changed(
        BITS_BY_COUNTERS,
        ("firsts = [a for a, b in pairs]", "firsts = [a for song in songs for a in song] if pairs else []"),
    ),
    "given the next": changed(BITS_BY_COUNTERS, ("[a for a, b in pairs]", "[b for a, b in pairs]")),
    "what the last letter tells": changed(
        BITS_BY_COUNTERS,
        ("entropy(pairs) - entropy(firsts)", "entropy(firsts) + entropy(b for a, b in pairs) - entropy(pairs)"),
    ),
    "pairs across songs": changed(
        BITS_BY_COUNTERS,
        (
            "    songs = [song.tolist() for song in songs]\n",
            "    songs = [[letter for song in songs for letter in song.tolist()]]\n",
        ),
    ),
    "each pair once": changed(BITS_BY_COUNTERS, ("zip(song[:-1], song[1:])]", "zip(song[::2], song[1::2])]")),
    "pairs in any order": changed(BITS_BY_COUNTERS, ("pairs = [pair for", "pairs = [tuple(sorted(pair)) for")),
    "pairs of a letter with itself left out": changed(
        BITS_BY_COUNTERS, ("zip(song[:-1], song[1:])]", "zip(song[:-1], song[1:]) if pair[0] != pair[1]]")
    ),
    "the last pair left out": changed(BITS_BY_COUNTERS, ("zip(song[:-1], song[1:])]", "zip(song[:-2], song[1:-1])]")),
    "round in a circle": changed(BITS_BY_COUNTERS, ("zip(song[:-1], song[1:])]", "zip(song, song[1:] + song[:1])]")),
    "a letter two before": changed(BITS_BY_COUNTERS, ("zip(song[:-1], song[1:])]", "zip(song[:-2], song[2:])]")),
    "the mean over songs": changed(
        BITS_BY_COUNTERS,
        (
            "    return entropy(letter for song in songs for letter in song.tolist())",
            "    found = [entropy(song.tolist()) for song in songs if len(song)]\n"
            "    return sum(found) / len(found) if found else float('nan')",
        ),
    ),
    "the mean over letters, not weighted": changed(
        BITS_BY_FOLLOWERS,
        (
            "sum(sum(f.values()) / pairs * H(list(f.values())) for f in after.values())",
            "sum(H(list(f.values())) for f in after.values()) / len(after)",
        ),
    ),
    "weighted by all letters": changed(
        BITS_BY_FOLLOWERS,
        (
            "sum(sum(f.values()) / pairs * H(list(f.values())) for f in after.values())",
            "sum(sum(song.tolist().count(a) for song in songs) / sum(map(len, songs)) * H(list(f.values()))"
            " for a, f in after.items())",
        ),
    ),
    "the first song only": changed(
        BITS_BY_COUNTERS,
        ("    songs = [song.tolist() for song in songs]\n", "    songs = [song.tolist() for song in songs[:1]]\n"),
    ),
    "songs of one letter break it": changed(
        BITS_BY_FOLLOWERS,
        ("        letters = song.tolist()\n", "        letters = song.tolist()\n        letters[1]\n"),
    ),
    "an empty song breaks it": changed(
        BITS_BY_COUNTERS,
        ("    return entropy(letter for", "    [song[0] for song in songs]\n    return entropy(letter for"),
    ),
    "an empty list breaks it": changed(
        BITS_BY_NUMBERING, ("if not songs or not sum(map(len, songs)):", "if not len(torch.cat(list(songs))):")
    ),
    "a table of all letters": """
def bits_alone(songs):
    letters = torch.cat(list(songs)) if songs else torch.zeros(0, dtype=torch.long)
    if not len(letters):
        return math.nan
    p = torch.bincount(letters).double()
    p = p / p.sum()
    return float(torch.special.entr(p).sum() / math.log(2))

def bits_given_the_last(songs):
    if not sum(len(song) > 1 for song in songs):
        return math.nan
    size = int(torch.cat(songs).max()) + 1
    table = torch.zeros(size, size, dtype=torch.float64)
    for song in songs:
        for a, b in zip(song.tolist(), song.tolist()[1:]):
            table[a, b] += 1
    table = table / table.sum()
    H = lambda p: float(torch.special.entr(p).sum() / math.log(2))
    return H(table) - H(table.sum(1))
""",
    "pairs as one number of the letters' type": changed(
        BITS_BY_COUNTERS,
        ("    pairs = [pair for song in songs for pair in zip(song[:-1], song[1:])]\n", ""),
        (
            "    songs = [song.tolist() for song in songs]\n",
            "    size = max((int(song.max()) for song in songs if len(song)), default=0) + 1\n"
            "    pairs = [n for song in songs for n in (song[:-1] * size + song[1:]).tolist()]\n",
        ),
        ("[a for a, b in pairs]", "[a for song in songs for a in song[:-1].tolist()]"),
    ),
    "letters as floats": changed(
        BITS_BY_NUMBERING, ("torch.cat(list(songs)).unique(", "torch.cat(list(songs)).double().unique(")
    ),
    "letters below 0 taken for missing": changed(
        BITS_BY_COUNTERS,
        (
            "entropy(letter for song in songs for letter in song.tolist())",
            "entropy(letter for song in songs for letter in song.tolist() if letter >= 0)",
        ),
    ),
    "zeros taken for silence": changed(
        BITS_BY_COUNTERS,
        (
            "    songs = [song.tolist() for song in songs]\n",
            "    songs = [song[song != 0].tolist() for song in songs]\n",
        ),
    ),
    "a constant in the logarithm": changed(
        BITS_BY_NUMBERING, ("-(p * p.log2()).sum().item()", "-(p * (p + 1e-2).log2()).sum().item()")
    ),
    "single precision and a constant": changed(
        BITS_BY_NUMBERING,
        (
            "    p = p[p > 0] / p.sum()\n    return -(p * p.log2()).sum().item()",
            "    p = (p / p.sum()).float()\n    return -(p * (p + 1e-4).log2()).sum().item()",
        ),
    ),
    "unused letters: not a number": changed(
        BITS_BY_NUMBERING,
        ("p = p[p > 0] / p.sum()", "p = torch.cat([p, p.new_zeros(1)]) / p.sum()"),
    ),
    "a tensor": changed(BITS_BY_NUMBERING, (".sum().item()", ".sum()")),
    "sorted in place": changed(
        BITS_BY_COUNTERS,
        (
            "    return entropy(letter for",
            "    for song in songs:\n        song.copy_(song.sort().values)\n    return entropy(letter for",
        ),
    ),
}

# ------------------------------------------------------------------------------------ 5, restart where it hurts most

RESTARTED_ANEW = """
def restarted(codebook, counts, z, below):
    book, n = codebook.clone(), counts.clone()
    x = z.double()
    there = (counts >= below).tolist()
    order = sorted((k for k in range(len(n)) if not there[k]), key=lambda k: (float(counts[k]), k))
    for k in order:
        if len(z) == 0:
            break
        codes = book[torch.tensor(there)].double()
        if len(codes):
            away = (x[:, None] - codes).square().sum(-1).min(1).values
        else:
            away = torch.ones(len(z)).double()
        place = away.argmax()
        if away[place] == 0:
            break
        book[k], n[k], there[k] = z[place], below, True
    return book, n
"""
RESTARTED_BY_NUMBERS = """
def restarted(codebook, counts, z, below):
    book, n = codebook.clone(), counts.clone()
    vectors, codes = z.tolist(), codebook.tolist()
    used = counts.tolist()
    alive = [codes[k] for k in range(len(codes)) if counts[k] >= below]
    nearest = [min([math.dist(v, e) for e in alive], default=math.inf) for v in vectors]
    dead = [(used[k], k) for k in range(len(codes)) if counts[k] < below]
    while dead and vectors and max(nearest) > 0:
        _, k = min(dead)
        dead.remove((used[k], k))
        place = nearest.index(max(nearest))
        nearest = [min(d, math.dist(v, vectors[place])) for d, v in zip(nearest, vectors)]
        book[k] = z[place]
        n[k] = below
    return book, n
"""
RESTARTED_BY_NORMS = """
def restarted(codebook, counts, z, below):
    book, n, x = codebook.clone(), counts.clone(), z.double()
    size = x.shape[0]
    far = torch.linalg.vector_norm(x[:, None] - codebook.double(), dim=-1)      # (vector, code)
    far = far.masked_fill(counts < below, math.inf)
    values, order = counts.sort(stable=True)
    for value, k in zip(values, order):
        if value >= below or size == 0:
            break
        away = far.amin(1)
        if not (away > 0).any():
            break
        first = (away == away.max()).nonzero()[0, 0]
        book[k] = z[first]
        n[k] = below
        far[:, k] = (x - x[first]).norm(dim=-1)
    return book, n
"""
RESTARTED_RIGHT = {
    "all distances anew": RESTARTED_ANEW,
    "lists of numbers": RESTARTED_BY_NUMBERS,
    "a table of norms": RESTARTED_BY_NORMS,
}
RESTARTED_WRONG = {
    "at random": changed(RESTARTED_ANEW, ("place = away.argmax()", "place = torch.randint(len(z), ())")),
    "the nearest vector": changed(RESTARTED_ANEW, ("place = away.argmax()", "place = away.argmin()")),
    "the last of equally far vectors": changed(
        RESTARTED_ANEW, ("place = away.argmax()", "place = len(z) - 1 - away.flip(0).argmax()")
    ),
    "distances not renewed": changed(
        RESTARTED_ANEW,
        ("book[torch.tensor(there)]", "codebook[counts >= below]"),
    ),
    "the vectors farthest at first": changed(
        RESTARTED_BY_NUMBERS,
        (
            "        nearest = [min(d, math.dist(v, vectors[place])) for d, v in zip(nearest, vectors)]\n",
            "        nearest[place] = 0\n",
        ),
    ),
    "moved codes don't count": changed(RESTARTED_BY_NORMS, ("        far[:, k] = (x - x[first]).norm(dim=-1)\n", "")),
    "dead codes count where they lie": changed(RESTARTED_ANEW, ("book[torch.tensor(there)]", "book")),
    "dead codes count until all have moved": changed(
        RESTARTED_BY_NORMS, ("    far = far.masked_fill(counts < below, math.inf)\n", "")
    ),
    "equal to the threshold is dead": changed(RESTARTED_ANEW, ("(counts >= below)", "(counts > below)")),
    "below 1 instead of the threshold": changed(RESTARTED_ANEW, ("(counts >= below)", "(counts >= 1)")),
    "only counts of 0 are dead": changed(RESTARTED_ANEW, ("(counts >= below)", "(counts > 0)")),
    "by number": changed(RESTARTED_ANEW, ("key=lambda k: (float(counts[k]), k)", "key=lambda k: k")),
    "the most used first": changed(RESTARTED_ANEW, ("(float(counts[k]), k)", "(-float(counts[k]), k)")),
    "of equally used the highest number": changed(RESTARTED_ANEW, ("(float(counts[k]), k)", "(float(counts[k]), -k)")),
    "all at once, one vector": changed(
        RESTARTED_ANEW,
        (
            "        book[k], n[k], there[k] = z[place], below, True\n",
            "        for j in order:\n            book[j], n[j] = z[place], below\n        break\n",
        ),
    ),
    "one code only": changed(RESTARTED_ANEW, ("z[place], below, True\n", "z[place], below, True\n        break\n")),
    "where all have a code: moved all the same": changed(
        RESTARTED_ANEW, ("        if away[place] == 0:\n            break\n", "")
    ),
    "where all have a code: a count all the same": changed(
        RESTARTED_ANEW,
        (
            "        if away[place] == 0:\n            break\n",
            "        if away[place] == 0:\n            n[k] = below\n            continue\n",
        ),
    ),
    "near is near enough": changed(RESTARTED_ANEW, ("if away[place] == 0:", "if away[place] < 1e-6:")),
    "near, for the vectors' size": changed(
        RESTARTED_ANEW, ("if away[place] == 0:", "if away[place] < 0.5 * x.square().sum(1).max():")
    ),
    "no code lives: nothing moves": changed(
        RESTARTED_ANEW, ("            away = torch.ones(len(z)).double()", "            break")
    ),
    "no code lives: the longest vector": changed(
        RESTARTED_ANEW, ("            away = torch.ones(len(z)).double()", "            away = x.square().sum(1)")
    ),
    "no code lives: the farthest from the mean": changed(
        RESTARTED_ANEW,
        ("            away = torch.ones(len(z)).double()", "            away = (x - x.mean(0)).square().sum(1)"),
    ),
    "no code lives: an error": changed(
        RESTARTED_BY_NUMBERS, ("for e in alive], default=math.inf)", "for e in alive])")
    ),
    "no vectors: an error": changed(RESTARTED_ANEW, ("        if len(z) == 0:\n            break\n", "")),
    "counts stay": changed(
        RESTARTED_ANEW, ("book[k], n[k], there[k] = z[place], below, True", "book[k], there[k] = z[place], True")
    ),
    "a count of 1": changed(RESTARTED_ANEW, ("= z[place], below, True", "= z[place], 1.0, True")),
    "a count of 0": changed(RESTARTED_ANEW, ("= z[place], below, True", "= z[place], 0.0, True")),
    "all counts begin anew": changed(
        RESTARTED_ANEW, ("    return book, n\n", "    return book, torch.full_like(n, below)\n")
    ),
    "a little noise": changed(
        RESTARTED_ANEW, ("= z[place], below, True", "= z[place] + 1e-3 * torch.ones(z.shape[1]), below, True")
    ),
    "half way": changed(RESTARTED_ANEW, ("= z[place], below, True", "= (z[place] + book[k]) / 2, below, True")),
    "single precision": changed(RESTARTED_ANEW, ("x = z.double()", "x = z"), (".double()\n        if", "\n        if")),
    "the chapter's product of matrices": changed(
        RESTARTED_ANEW,
        (
            "(x[:, None] - codes).square().sum(-1)",
            "(z.square().sum(1, keepdim=True) - 2 * z @ codes.to(z.dtype).T + codes.to(z.dtype).square().sum(1))",
        ),
    ),
    "the sum of the differences": changed(RESTARTED_ANEW, (".square().sum(-1).min(1)", ".abs().sum(-1).min(1)")),
    "the mean distance from the codes": changed(RESTARTED_ANEW, (".min(1).values", ".mean(1)")),
    "the farthest code": changed(RESTARTED_ANEW, (".min(1).values", ".max(1).values")),
    "changed in place": changed(RESTARTED_ANEW, ("codebook.clone(), counts.clone()", "codebook, counts.clone()")),
    "float32 all the time": changed(RESTARTED_ANEW, ("    return book, n\n", "    return book.float(), n.float()\n")),
    "float64 all the time": changed(RESTARTED_ANEW, ("    return book, n\n", "    return book.double(), n.double()\n")),
    "vectors of zeros taken for silence": changed(
        RESTARTED_ANEW,
        ("        place = away.argmax()", "        away = away * (z != 0).all(1)\n        place = away.argmax()"),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    4,
    """
from course_lib.vqvae import code_counts, perplexity

def bits(numbers):
    if not len(numbers):
        return math.nan
    names = numbers.unique(dim=0, return_inverse=True)[1]
    return float(perplexity(code_counts(names, int(names.max()) + 1)).double().log2())

def bits_alone(songs):
    return bits(torch.cat([torch.zeros(0, dtype=torch.long), *songs]))

def bits_given_the_last(songs):
    pairs = [torch.stack([song[:-1], song[1:]], 1) for song in songs if len(song) > 1]
    return bits(torch.cat(pairs)) - bits(torch.cat(pairs)[:, 0]) if pairs else math.nan
""",
)


CASES = as_cells(
    (BORDERS_RIGHT, BORDERS_WRONG),
    (GRADIENTS_RIGHT, GRADIENTS_WRONG),
    (MOVED_RIGHT, MOVED_WRONG),
    (BITS_RIGHT, BITS_WRONG),
    (RESTARTED_RIGHT, RESTARTED_WRONG),
)
