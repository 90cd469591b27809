"""Answers to assignment 8 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# --------------------------------------------------------------------------------------- 1, one row for both branches

ROW_BY_SORTED = """
def order(bins, frames, steps, ratio):
    events = [(t * ratio, 0, f, ("z", f, t)) for t in range(frames) for f in range(bins)]
    events += [(m, 1, 0, ("s", m)) for m in range(steps)]
    return [event[-1] for event in sorted(events)]

def one_row(x, xt, ratio):
    row = []
    for kind, *place in order(x.shape[2], x.shape[3], xt.shape[2], ratio):
        row.append(x[:, :, place[0], place[1]] if kind == "z" else xt[:, :, place[0]])
    return torch.stack(row, dim=1)

def two_branches(row, bins, frames, ratio):
    steps = row.shape[1] - bins * frames
    x = row.new_zeros(row.shape[0], row.shape[2], bins, frames)
    xt = row.new_zeros(row.shape[0], row.shape[2], steps)
    for n, (kind, *place) in enumerate(order(bins, frames, steps, ratio)):
        if kind == "z":
            x[:, :, place[0], place[1]] = row[:, n]
        else:
            xt[:, :, place[0]] = row[:, n]
    return x, xt
"""
ROW_BY_PLACES = """
def places(bins, frames, steps, ratio):
    t, f = torch.arange(frames), torch.arange(bins)
    before = torch.ceil(t.double() * ratio).long().clamp(max=steps)          # steps before a frame
    of_frames = (t * bins + before)[:, None] + f                             # (frame, bin)
    m = torch.arange(steps)
    begun = torch.floor(m.double() / ratio).long() + 1                       # frames that have begun
    return of_frames.T, m + bins * begun.clamp(max=frames)

def one_row(x, xt, ratio):
    z, s = places(*x.shape[2:], xt.shape[-1], ratio)
    row = x.new_empty(x.shape[0], x.shape[1], z.numel() + s.numel())
    row = row.index_copy(2, z.flatten(), x.flatten(2)).index_copy(2, s, xt)
    return row.transpose(1, 2)

def two_branches(row, bins, frames, ratio):
    z, s = places(bins, frames, row.shape[1] - bins * frames, ratio)
    row = row.transpose(1, 2)
    return row[:, :, z], row[:, :, s]
"""
ROW_BY_MERGING = """
def one_row(x, xt, ratio):
    pieces, m = [], 0
    for t in range(x.shape[-1]):
        while m < xt.shape[-1] and m < t * ratio:
            pieces.append(xt[..., m:m + 1])
            m += 1
        pieces.append(x[..., t])
    pieces.append(xt[..., m:])
    return torch.cat(pieces, -1).permute(0, 2, 1)

def two_branches(row, bins, frames, ratio):
    z, s, place, m, steps = [], [], 0, 0, row.shape[1] - bins * frames
    for t in range(frames):
        while m < steps and m < t * ratio:
            s.append(row[:, place])
            place, m = place + 1, m + 1
        z.append(row[:, place:place + bins])
        place += bins
    s += list(row[:, place:].unbind(1))
    return torch.stack(z, -1).transpose(1, 2), torch.stack(s, -1)
"""
ROW_RIGHT = {
    "sorted events": ROW_BY_SORTED,
    "the place of each token": ROW_BY_PLACES,
    "two rows merged": ROW_BY_MERGING,
}
ROW_WRONG = {
    "bin by bin": changed(ROW_BY_SORTED, ('[(t * ratio, 0, f, ("z", f, t))', '[(f, 0, t * ratio, ("z", f, t))')),
    "the spectrogram first, then the steps": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(-1, t, f,")),
    "the steps first where both begin": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(t * ratio, 2, f,")),
    "the highest bin first": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(t * ratio, 0, -f,")),
    "the ratio upside down": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(t / ratio, 0, f,")),
    "a whole ratio": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(t * int(ratio), 0, f,")),
    "the ratio rounded up": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(t * math.ceil(ratio), 0, f,")),
    "frame times rounded down": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[(int(t * ratio), 0, f,")),
    "sorted without a rule for what is equal": changed(
        ROW_BY_SORTED, ("sorted(events)", "sorted(events[::-1], key=lambda event: event[0])")
    ),
    "middles instead of beginnings": changed(ROW_BY_SORTED, ("[(t * ratio, 0, f,", "[((t + 0.5) * ratio - 0.5, 0, f,")),
    "as many steps as the frames last": changed(
        ROW_BY_MERGING, ("    pieces.append(xt[..., m:])\n", ""), ("    s += list(row[:, place:].unbind(1))\n", "")
    ),
    "steps taken that aren't there": changed(
        ROW_BY_MERGING, ("        while m < steps and m < t * ratio:", "        while m < t * ratio:")
    ),
    "steps until the frame, the frame's own too": changed(
        ROW_BY_MERGING,
        ("        while m < xt.shape[-1] and m < t * ratio:", "        while m < xt.shape[-1] and m <= t * ratio:"),
        ("        while m < steps and m < t * ratio:", "        while m < steps and m <= t * ratio:"),
    ),
    "not brought to tokens": changed(ROW_BY_MERGING, (".permute(0, 2, 1)", "")),
    "tokens reshaped instead of turned": changed(
        ROW_BY_MERGING,
        (
            "return torch.cat(pieces, -1).permute(0, 2, 1)",
            "row = torch.cat(pieces, -1)\n    return row.reshape(row.shape[0], row.shape[2], -1)",
        ),
    ),
    "back with bins and frames exchanged": changed(
        ROW_BY_MERGING, ("torch.stack(z, -1).transpose(1, 2)", "torch.stack(z, -2).transpose(1, 3)")
    ),
    "back by a reshape": changed(
        ROW_BY_MERGING, ("torch.stack(z, -1).transpose(1, 2)", "torch.cat(z, 1).mT.reshape(len(row), -1, bins, frames)")
    ),
    "back with the wrong number of steps": changed(
        ROW_BY_PLACES,
        (
            "places(bins, frames, row.shape[1] - bins * frames, ratio)",
            "places(bins, frames, math.ceil(frames * ratio), ratio)",
        ),
    ),
    "frames that come after the last step cut off": changed(ROW_BY_PLACES, (".long().clamp(max=steps) ", ".long() ")),
    "steps that come after the last frame spread": changed(
        ROW_BY_PLACES, ("bins * begun.clamp(max=frames)", "bins * begun")
    ),
    "rounded instead of up": changed(ROW_BY_PLACES, ("torch.ceil(t.double() * ratio)", "torch.round(t * ratio)")),
    "one item only": changed(
        ROW_BY_MERGING, ("        pieces.append(x[..., t])", "        pieces.append(x[:1, :, :, t])")
    ),
    "no gradient": changed(ROW_BY_MERGING, ("torch.cat(pieces, -1).permute", "torch.cat(pieces, -1).detach().permute")),
    "float32 all the time": changed(
        ROW_BY_SORTED,
        ("row.new_zeros(row.shape[0], row.shape[2], steps)", "torch.zeros(row.shape[0], row.shape[2], steps)"),
        ("torch.stack(row, dim=1)", "torch.stack(row, dim=1).float()"),
    ),
    "silent tokens left out": changed(
        ROW_BY_MERGING,
        ("    pieces.append(xt[..., m:])", "    pieces.append(xt[..., m:] * (xt[..., m:].abs() > 1e-6))"),
    ),
    "interleaved a frame and a step": """
def one_row(x, xt, ratio):
    row = []
    for n in range(max(x.shape[-1], xt.shape[-1])):
        row += [x[..., n]] if n < x.shape[-1] else []
        row += [xt[..., n:n + 1]] if n < xt.shape[-1] else []
    return torch.cat(row, -1).mT

def two_branches(row, bins, frames, ratio):
    z, s, place = [], [], 0
    for n in range(row.shape[1]):
        if n < frames:
            z.append(row[:, place:place + bins])
            place += bins
        if place < row.shape[1]:
            s.append(row[:, place])
            place += 1
    return torch.stack(z, -1).transpose(1, 2), torch.stack(s, -1)
""",
}

# ------------------------------------------------------------------------------- 2, places one can calculate with

PLACES_BY_LOOPS = """
def grid_places(dim, bins, frames, bin_step=1.0, frame_step=1.0, max_period=10000.0):
    out = torch.zeros(frames, bins, dim, dtype=torch.float64)
    for i in range(dim // 4):
        rate = 1 / max_period ** (2 * i / (dim // 2))
        for t in range(frames):
            out[t, :, 2 * i] = math.sin(t * frame_step * rate)
            out[t, :, 2 * i + 1] = math.cos(t * frame_step * rate)
        for f in range(bins):
            out[:, f, dim // 2 + 2 * i] = math.sin(f * bin_step * rate)
            out[:, f, dim // 2 + 2 * i + 1] = math.cos(f * bin_step * rate)
    return out.reshape(frames * bins, dim).to(torch.float32)

def moved(places, frames, bins, max_period=10000.0):
    out, half = places.clone(), places.shape[-1] // 2
    for start, by in ((0, frames), (half, bins)):
        for i in range(0, half, 2):
            angle = by / max_period ** (i / half)
            s, c = places[..., start + i], places[..., start + i + 1]
            out[..., start + i] = s * math.cos(angle) + c * math.sin(angle)
            out[..., start + i + 1] = c * math.cos(angle) - s * math.sin(angle)
    return out
"""
PLACES_BY_COMPLEX = """
def rates_of(dim, max_period):
    return torch.exp(-math.log(max_period) * torch.arange(0, dim // 2, 2).double() / (dim // 2))

def grid_places(dim, bins, frames, bin_step=1.0, frame_step=1.0, max_period=10000.0):
    rates = rates_of(dim, max_period)
    t = torch.outer(torch.arange(frames).double() * frame_step, rates)      # (frame, rate)
    f = torch.outer(torch.arange(bins).double() * bin_step, rates)
    phase = torch.cat([t[:, None].expand(frames, bins, -1), f[None].expand(frames, bins, -1)], -1)
    z = torch.polar(torch.ones_like(phase), phase)
    return torch.stack([z.imag, z.real], -1).reshape(frames * bins, dim).float()

def moved(places, frames, bins, max_period=10000.0):
    rates = rates_of(places.shape[-1], max_period)
    angle = torch.cat([frames * rates, bins * rates])
    pairs = places.unflatten(-1, (-1, 2)).double()
    z = torch.complex(pairs[..., 1], pairs[..., 0]) * torch.polar(torch.ones_like(angle), angle)
    return torch.stack([z.imag, z.real], -1).flatten(-2).to(places.dtype)
"""
PLACES_BY_MATRIX = """
def grid_places(dim, bins, frames, bin_step=1.0, frame_step=1.0, max_period=10000.0):
    i = torch.arange(dim // 2)
    rate = max_period ** (-(i - i % 2).double() / (dim // 2))               # each rate twice
    late = (i % 2) * math.pi / 2                                            # cos a = sin(a + pi / 2)
    place = torch.cartesian_prod(torch.arange(frames).double() * frame_step,
                                 torch.arange(bins).double() * bin_step)    # (token, 2)
    return (place[:, :, None] * rate + late).sin().flatten(1).float()

def moved(places, frames, bins, max_period=10000.0):
    dim = places.shape[-1]
    blocks = []
    for by in (frames, bins):
        for i in range(dim // 4):
            a = by * max_period ** (-4 * i / dim)
            blocks.append(torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]]))
    turn = torch.block_diag(*blocks).to(places.dtype)
    return torch.einsum("ij,...j->...i", turn, places)
"""
PLACES_RIGHT = {
    "loops": PLACES_BY_LOOPS,
    "complex numbers": PLACES_BY_COMPLEX,
    "a matrix of blocks": PLACES_BY_MATRIX,
}
PLACES_WRONG = {
    "the chapter's other exponent": changed(
        PLACES_BY_LOOPS, ("max_period ** (2 * i / (dim // 2))", "max_period ** (i / max(1, dim // 4 - 1))")
    ),
    "the exponent over all channels": changed(
        PLACES_BY_LOOPS, ("max_period ** (2 * i / (dim // 2))", "max_period ** (2 * i / dim)")
    ),
    "cosine first": changed(
        PLACES_BY_LOOPS,
        ("out[t, :, 2 * i] = math.sin", "out[t, :, 2 * i] = math.cos"),
        ("out[t, :, 2 * i + 1] = math.cos", "out[t, :, 2 * i + 1] = math.sin"),
    ),
    "all sines, then all cosines": changed(
        PLACES_BY_COMPLEX,
        (
            "torch.stack([z.imag, z.real], -1).reshape(frames * bins, dim).float()",
            "torch.cat([z.imag, z.real], -1).reshape(frames * bins, dim).float()",
        ),
    ),
    "bins in the first half": changed(
        PLACES_BY_COMPLEX,
        (
            "torch.cat([t[:, None].expand(frames, bins, -1), f[None].expand(frames, bins, -1)], -1)",
            "torch.cat([f[None].expand(frames, bins, -1), t[:, None].expand(frames, bins, -1)], -1)",
        ),
    ),
    "bin by bin": changed(
        PLACES_BY_LOOPS, ("out.reshape(frames * bins, dim)", "out.transpose(0, 1).reshape(frames * bins, dim)")
    ),
    "counted from one": changed(
        PLACES_BY_LOOPS,
        ("math.sin(t * frame_step * rate)", "math.sin((t + 1) * frame_step * rate)"),
        ("math.cos(t * frame_step * rate)", "math.cos((t + 1) * frame_step * rate)"),
    ),
    "the steps exchanged": changed(
        PLACES_BY_MATRIX,
        ("torch.arange(frames).double() * frame_step", "torch.arange(frames).double() * bin_step"),
        ("torch.arange(bins).double() * bin_step", "torch.arange(bins).double() * frame_step"),
    ),
    "divided by the step": changed(
        PLACES_BY_MATRIX,
        ("torch.arange(bins).double() * bin_step", "torch.arange(bins).double() / max(bin_step, 1e-3)"),
    ),
    "the bins' step forgotten": changed(
        PLACES_BY_MATRIX, ("torch.arange(bins).double() * bin_step", "torch.arange(bins).double()")
    ),
    "angles in single precision": changed(
        PLACES_BY_COMPLEX,
        ("torch.arange(0, dim // 2, 2).double()", "torch.arange(0, dim // 2, 2)"),
        ("torch.arange(frames).double()", "torch.arange(frames).float()"),
        ("torch.arange(bins).double()", "torch.arange(bins).float()"),
        ("unflatten(-1, (-1, 2)).double()", "unflatten(-1, (-1, 2)).float()"),
    ),
    "a period of 10000 whatever is asked": changed(
        PLACES_BY_LOOPS, ("rate = 1 / max_period **", "rate = 1 / 10000 **")
    ),
    "moved with a period of 10000": changed(PLACES_BY_LOOPS, ("angle = by / max_period **", "angle = by / 10000 **")),
    "float64": changed(PLACES_BY_LOOPS, (".to(torch.float32)", "")),
    "moved the other way": changed(
        PLACES_BY_LOOPS,
        ("s * math.cos(angle) + c * math.sin(angle)", "s * math.cos(angle) - c * math.sin(angle)"),
        ("c * math.cos(angle) - s * math.sin(angle)", "c * math.cos(angle) + s * math.sin(angle)"),
    ),
    "not a turn": changed(
        PLACES_BY_LOOPS, ("c * math.cos(angle) - s * math.sin(angle)", "c * math.cos(angle) + s * math.sin(angle)")
    ),
    "every pair by the fastest rate": changed(PLACES_BY_LOOPS, ("angle = by / max_period ** (i / half)", "angle = by")),
    "the pair's number twice": changed(
        PLACES_BY_LOOPS, ("angle = by / max_period ** (i / half)", "angle = by / max_period ** (2 * i / half)")
    ),
    "frames and bins exchanged": changed(
        PLACES_BY_LOOPS, ("((0, frames), (half, bins))", "((0, bins), (half, frames))")
    ),
    "only frames move": changed(PLACES_BY_LOOPS, ("((0, frames), (half, bins))", "((0, frames),)")),
    "read after it was written": changed(
        PLACES_BY_LOOPS,
        (
            "s, c = places[..., start + i], places[..., start + i + 1]",
            "s, c = out[..., start + i], out[..., start + i + 1]",
        ),
    ),
    "in place": changed(PLACES_BY_LOOPS, ("out, half = places.clone()", "out, half = places.detach()")),
    "whole frames only": changed(PLACES_BY_LOOPS, ("angle = by / max_period", "angle = int(by) / max_period")),
    "no way back": changed(PLACES_BY_LOOPS, ("angle = by / max_period", "angle = abs(by) / max_period")),
    "places found from their first channels": """
def grid_places(dim, bins, frames, bin_step=1.0, frame_step=1.0, max_period=10000.0):
    i = torch.arange(dim // 2)
    rate = max_period ** (-(i - i % 2).double() / (dim // 2))
    place = torch.cartesian_prod(torch.arange(frames).double() * frame_step,
                                 torch.arange(bins).double() * bin_step)
    return (place[:, :, None] * rate + (i % 2) * math.pi / 2).sin().flatten(1).float()

def moved(places, frames, bins, max_period=10000.0):
    dim = places.shape[-1]
    i = torch.arange(dim // 2)
    rate = max_period ** (-(i - i % 2).double() / (dim // 2))
    pairs = places.double().unflatten(-1, (2, -1, 2))                        # slowest pair: no turn
    place = torch.atan2(pairs[..., -1, 0], pairs[..., -1, 1]) / rate[-1]
    place = place + torch.tensor([frames, bins])
    return (place[..., None] * rate + (i % 2) * math.pi / 2).sin().flatten(-2).to(places.dtype)
""",
    "what is moved made of length 1": changed(
        PLACES_BY_COMPLEX,
        (
            "    return torch.stack([z.imag, z.real], -1).flatten(-2).to(places.dtype)",
            "    z = z / z.abs().clamp_min(1e-12)\n"
            "    return torch.stack([z.imag, z.real], -1).flatten(-2).to(places.dtype)",
        ),
    ),
    "rows of a table": changed(
        PLACES_BY_MATRIX, ('torch.einsum("ij,...j->...i", turn, places)', "places.reshape(-1, dim) @ turn.T")
    ),
    "float32 all the time": changed(
        PLACES_BY_MATRIX,
        ("turn = torch.block_diag(*blocks).to(places.dtype)", "turn = torch.block_diag(*blocks)"),
        ('torch.einsum("ij,...j->...i", turn, places)', 'torch.einsum("ij,...j->...i", turn, places.float())'),
    ),
}

# ------------------------------------------------------------------------------------- 3, attention piece by piece

PIECES_STABLE = """
def piece_of_attention(q, k, v):
    scores = torch.einsum("...qd,...kd->...qk", q, k) / math.sqrt(q.shape[-1])
    if scores.shape[-1] == 0:
        return q.new_zeros(*q.shape[:-1], v.shape[-1]), q.new_full(q.shape[:-1], -math.inf)
    largest = scores.max(-1, keepdim=True).values
    weights = torch.exp(scores - largest)
    total = weights.sum(-1, keepdim=True)
    return weights @ v / total, (largest + total.log())[..., 0]

def joined(pieces):
    answer, log = pieces[0]
    for next_answer, next_log in pieces[1:]:
        both = torch.logaddexp(log, next_log)
        empty = both == -math.inf
        share = torch.where(empty, torch.zeros_like(log), (log - both).exp())
        next_share = torch.where(empty, torch.zeros_like(log), (next_log - both).exp())
        answer = share[..., None] * answer + next_share[..., None] * next_answer
        log = both
    return answer, log
"""
PIECES_BY_MAXIMUM = """
def piece_of_attention(q, k, v):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return F.softmax(scores, dim=-1) @ v, torch.logsumexp(scores, dim=-1)

def joined(pieces):
    logs = torch.stack([log for _, log in pieces], -1)                       # (..., query, piece)
    answers = torch.stack([answer for answer, _ in pieces], -1)              # (..., query, c, piece)
    top = logs.amax(-1, keepdim=True)
    top = torch.where(top == -math.inf, torch.zeros_like(top), top)
    weights = (logs - top).exp()
    total = weights.sum(-1, keepdim=True)
    mean = (answers * weights[..., None, :]).sum(-1) / total.clamp_min(0.5)  # 1 or more, or 0
    return mean, total.log()[..., 0] + top[..., 0]
"""
PIECES_BY_LOOPS = """
def piece_of_attention(q, k, v):
    answers, logs = [], []
    for n in range(q.shape[-2]):
        scores = (k * q[..., n:n + 1, :]).sum(-1) / q.shape[-1] ** 0.5       # (..., key)
        weights = scores.softmax(-1)
        answers.append((weights[..., None] * v).sum(-2))
        logs.append(scores.logsumexp(-1))
    return torch.stack(answers, -2), torch.stack(logs, -1)

def joined(pieces):
    total = torch.stack([log for _, log in pieces]).logsumexp(0)
    some = total > -math.inf
    answer = 0
    for part, log in pieces:
        share = torch.where(some, log - torch.where(some, total, 0), log).exp()
        answer = answer + share.unsqueeze(-1) * part
    return [answer, total]
"""
PIECES_RIGHT = {
    "one piece after the other": PIECES_STABLE,
    "the largest taken off": PIECES_BY_MAXIMUM,
    "a query at a time": PIECES_BY_LOOPS,
}
PIECES_WRONG = {
    "not divided by the root of d": changed(PIECES_STABLE, (" / math.sqrt(q.shape[-1])", "")),
    "divided by d": changed(PIECES_STABLE, (" / math.sqrt(q.shape[-1])", " / q.shape[-1]")),
    "the root of the values' channels": changed(PIECES_STABLE, ("math.sqrt(q.shape[-1])", "math.sqrt(v.shape[-1])")),
    "the root of the number of keys": changed(
        PIECES_STABLE, ("math.sqrt(q.shape[-1])", "math.sqrt(max(1, k.shape[-2]))")
    ),
    "exp as it is": changed(
        PIECES_STABLE, ("largest = scores.max(-1, keepdim=True).values", "largest = torch.zeros_like(scores[..., :1])")
    ),
    "the largest of all scores": changed(PIECES_STABLE, ("scores.max(-1, keepdim=True).values", "scores.max()")),
    "the largest not given back": changed(PIECES_STABLE, ("(largest + total.log())[..., 0]", "total.log()[..., 0]")),
    "the sum, not its logarithm": changed(
        PIECES_STABLE, ("(largest + total.log())[..., 0]", "(largest.exp() * total)[..., 0]")
    ),
    "the mean of the exponentials": changed(
        PIECES_BY_LOOPS,
        ("logs.append(scores.logsumexp(-1))", "logs.append(scores.logsumexp(-1) - math.log(max(1, k.shape[-2])))"),
    ),
    "a base of two": changed(
        PIECES_BY_LOOPS, ("logs.append(scores.logsumexp(-1))", "logs.append(scores.logsumexp(-1) / math.log(2))")
    ),
    "the largest score for the logarithm": changed(
        PIECES_STABLE, ("(largest + total.log())[..., 0]", "largest[..., 0]")
    ),
    "softmax over the queries": changed(PIECES_BY_MAXIMUM, ("F.softmax(scores, dim=-1)", "F.softmax(scores, dim=-2)")),
    "the logarithm over the queries": changed(
        PIECES_BY_MAXIMUM, ("torch.logsumexp(scores, dim=-1)", "torch.logsumexp(scores, dim=-2)")
    ),
    "weights that aren't divided": changed(PIECES_STABLE, ("weights @ v / total", "weights @ v")),
    "an axis too many": changed(PIECES_STABLE, ("(largest + total.log())[..., 0]", "largest + total.log()")),
    "no keys forgotten": changed(PIECES_STABLE, ("scores.shape[-1] == 0", "False")),
    "no keys: minus a billion": changed(
        PIECES_STABLE, ("q.new_full(q.shape[:-1], -math.inf)", "q.new_full(q.shape[:-1], -1e9)")
    ),
    "no keys: a logarithm of 0": changed(
        PIECES_STABLE, ("q.new_full(q.shape[:-1], -math.inf)", "q.new_zeros(q.shape[:-1])")
    ),
    "no keys: not a number": changed(
        PIECES_STABLE, ("q.new_zeros(*q.shape[:-1], v.shape[-1])", "q.new_full((*q.shape[:-1], v.shape[-1]), math.nan)")
    ),
    "two axes in front at most": changed(PIECES_BY_MAXIMUM, ("q @ k.transpose(-1, -2) *", "q @ k.transpose(1, 2) *")),
    "the mean of the answers": changed(
        PIECES_BY_MAXIMUM, ("    weights = (logs - top).exp()", "    weights = (logs - top).exp() * 0 + 1")
    ),
    "weights of the logarithms": changed(
        PIECES_BY_MAXIMUM,
        (
            "(answers * weights[..., None, :]).sum(-1) / total.clamp_min(0.5)",
            "(answers * logs.nan_to_num(0)[..., None, :]).sum(-1) / logs.nan_to_num(0).sum(-1, True)",
        ),
    ),
    "the sum of the answers": changed(
        PIECES_BY_MAXIMUM, ("(answers * weights[..., None, :]).sum(-1) / total.clamp_min(0.5)", "answers.sum(-1)")
    ),
    "joined with exp as it is": changed(
        PIECES_BY_MAXIMUM,
        ("top = logs.amax(-1, keepdim=True)", "top = torch.zeros_like(logs[..., :1])"),
        ("total.clamp_min(0.5)", "total.clamp_min(1e-30)"),
    ),
    "the top not given back": changed(PIECES_BY_MAXIMUM, ("total.log()[..., 0] + top[..., 0]", "total.log()[..., 0]")),
    "not a number where nothing is heard": changed(
        PIECES_BY_MAXIMUM, ("    top = torch.where(top == -math.inf, torch.zeros_like(top), top)\n", "")
    ),
    "divided by nothing where nothing is heard": changed(PIECES_BY_MAXIMUM, (" / total.clamp_min(0.5)", " / total")),
    "a constant against division by zero": changed(PIECES_BY_MAXIMUM, ("total.clamp_min(0.5)", "(total + 0.01)")),
    "logarithms added": changed(PIECES_STABLE, ("        log = both", "        log = log + next_log")),
    "the last piece's logarithm": changed(PIECES_STABLE, ("        log = both", "        log = next_log")),
    "a running mean": changed(
        PIECES_STABLE, ("share[..., None] * answer + next_share[..., None] * next_answer", "(answer + next_answer) / 2")
    ),
    "two pieces": changed(PIECES_STABLE, ("in pieces[1:]:", "in pieces[1:2]:")),
    "pieces of any number, but not one": changed(
        PIECES_STABLE, ("    answer, log = pieces[0]\n", "    answer, log = pieces[0]\n    pieces[1]\n")
    ),
    "the first piece taken out of the list": changed(
        PIECES_STABLE,
        (
            "    answer, log = pieces[0]\n    for next_answer, next_log in pieces[1:]:",
            "    answer, log = pieces.pop(0)\n    for next_answer, next_log in pieces:",
        ),
    ),
    "the first answer scaled in place": changed(
        PIECES_STABLE,
        (
            "        answer = share[..., None] * answer + next_share",
            "        answer *= share[..., None]\n        answer = answer + next_share",
        ),
    ),
    "no gradient through the shares": changed(
        PIECES_STABLE, ("both = torch.logaddexp(log, next_log)", "both = torch.logaddexp(log, next_log).detach()")
    ),
    "float32 all the time": changed(PIECES_BY_LOOPS, ("[answer, total]", "[answer.float(), total.float()]")),
    "the answer alone": changed(PIECES_BY_LOOPS, ("return [answer, total]", "return answer")),
}

# -------------------------------------------------------------------------------------------- 4, both listen at once

EXCHANGE_WITH_TORCH = """
def exchange(x, xt, layer, layer_t, heads):
    def get(w, name):
        return w[name + ".weight"], w[name + ".bias"]

    def norm(y, w, name):
        return F.layer_norm(y, (y.shape[-1],), *get(w, name), 1e-5)

    def one(y, other, w):
        a, b = norm(y, w, "norm1"), norm(other, w, "norm2")
        heard, _ = F.multi_head_attention_forward(
            a.transpose(0, 1), b.transpose(0, 1), b.transpose(0, 1), y.shape[-1], heads,
            w["cross_attn.in_proj_weight"], w["cross_attn.in_proj_bias"], None, None, False, 0.0,
            *get(w, "cross_attn.out_proj"), training=False, need_weights=False)
        y = y + heard.transpose(0, 1) * w["gamma_1.scale"]
        inside = F.gelu(F.linear(norm(y, w, "norm3"), *get(w, "linear1")))
        y = y + F.linear(inside, *get(w, "linear2")) * w["gamma_2.scale"]
        return F.group_norm(y.transpose(1, 2), 1, *get(w, "norm_out"), 1e-5).transpose(1, 2)

    return one(x, xt, layer), one(xt, x, layer_t)
"""
EXCHANGE_BY_HEADS = """
def normal(y, axes, scale, bias):
    y = y - y.mean(axes, keepdim=True)
    return y / torch.sqrt((y ** 2).mean(axes, keepdim=True) + 1e-5) * scale + bias

def listen(x, other, w, heads):
    channels = x.shape[-1]
    size = channels // heads
    asks = normal(x, -1, w["norm1.weight"], w["norm1.bias"])
    told = normal(other, -1, w["norm2.weight"], w["norm2.bias"])
    W, b = w["cross_attn.in_proj_weight"], w["cross_attn.in_proj_bias"]
    q = asks @ W[:channels].T + b[:channels]
    k = told @ W[channels:2 * channels].T + b[channels:2 * channels]
    v = told @ W[2 * channels:].T + b[2 * channels:]
    heard = []
    for h in range(heads):
        mine = slice(h * size, (h + 1) * size)
        scores = q[..., mine] @ k[..., mine].transpose(1, 2) / math.sqrt(size)
        heard.append(scores.softmax(-1) @ v[..., mine])
    heard = torch.cat(heard, -1)
    attended = heard @ w["cross_attn.out_proj.weight"].T + w["cross_attn.out_proj.bias"]
    x = x + w["gamma_1.scale"] * attended
    inside = normal(x, -1, w["norm3.weight"], w["norm3.bias"])
    inside = F.gelu(inside @ w["linear1.weight"].T + w["linear1.bias"])
    thought = inside @ w["linear2.weight"].T + w["linear2.bias"]
    x = x + w["gamma_2.scale"] * thought
    return normal(x, (1, 2), w["norm_out.weight"], w["norm_out.bias"])

def exchange(x, xt, layer, layer_t, heads):
    new = listen(x, xt, layer, heads)
    new_t = listen(xt, x, layer_t, heads)
    return new, new_t
"""
EXCHANGE_BY_EINSUM = """
def exchange(x, xt, layer, layer_t, heads):
    results = []
    for mine, other, w in ((x, xt, layer), (xt, x, layer_t)):
        c = mine.shape[-1]
        ln = lambda y, n: F.layer_norm(y, (c,)) * w[f"norm{n}.weight"] + w[f"norm{n}.bias"]
        W = w["cross_attn.in_proj_weight"].view(3, heads, c // heads, c)
        b = w["cross_attn.in_proj_bias"].view(3, heads, 1, c // heads)
        q = torch.einsum("btc,hdc->bhtd", ln(mine, 1), W[0]) + b[0]
        k, v = (torch.einsum("btc,hdc->bhtd", ln(other, 2), W[n]) + b[n] for n in (1, 2))
        heard = F.scaled_dot_product_attention(q, k, v)
        out = w["cross_attn.out_proj.weight"].view(c, heads, c // heads)
        y = torch.einsum("bhtd,ehd->bte", heard, out) + w["cross_attn.out_proj.bias"]
        y = mine + y * w["gamma_1.scale"]
        z = F.gelu(ln(y, 3) @ w["linear1.weight"].mT + w["linear1.bias"])
        z = y + (z @ w["linear2.weight"].mT + w["linear2.bias"]) * w["gamma_2.scale"]
        variance, mean = torch.var_mean(z, (1, 2), correction=0, keepdim=True)
        results.append((z - mean) / (variance + 1e-5) ** 0.5 * w["norm_out.weight"] + w["norm_out.bias"])
    return results
"""
EXCHANGE_RIGHT = {
    "torch's own function": EXCHANGE_WITH_TORCH,
    "a head at a time": EXCHANGE_BY_HEADS,
    "einsum": EXCHANGE_BY_EINSUM,
}
EXCHANGE_WRONG = {
    "the first branch goes first": changed(
        EXCHANGE_BY_HEADS, ("new_t = listen(xt, x, layer_t", "new_t = listen(xt, new, layer_t")
    ),
    "the second branch goes first": changed(
        EXCHANGE_BY_HEADS,
        (
            "    new = listen(x, xt, layer, heads)\n    new_t = listen(xt, x, layer_t, heads)",
            "    new_t = listen(xt, x, layer_t, heads)\n    new = listen(x, new_t, layer, heads)",
        ),
    ),
    "the layers exchanged": changed(
        EXCHANGE_BY_HEADS,
        ("listen(x, xt, layer, heads)", "listen(x, xt, layer_t, heads)"),
        ("listen(xt, x, layer_t, heads)", "listen(xt, x, layer, heads)"),
    ),
    "one layer for both": changed(EXCHANGE_BY_HEADS, ("listen(xt, x, layer_t, heads)", "listen(xt, x, layer, heads)")),
    "the results exchanged": changed(EXCHANGE_BY_HEADS, ("return new, new_t", "return new_t, new")),
    "everyone listens to himself": changed(EXCHANGE_BY_HEADS, ("told = normal(other,", "told = normal(x,")),
    "queries from the other": changed(
        EXCHANGE_BY_HEADS, ("q = asks @", "q = told @"), ("k = told @", "k = asks @"), ("v = told @", "v = asks @")
    ),
    "one norm for both": changed(
        EXCHANGE_BY_HEADS, ('w["norm2.weight"], w["norm2.bias"]', 'w["norm1.weight"], w["norm1.bias"]')
    ),
    "the other isn't normed": changed(
        EXCHANGE_BY_HEADS, ('told = normal(other, -1, w["norm2.weight"], w["norm2.bias"])', "told = other")
    ),
    "norm2 before the feed-forward part": changed(
        EXCHANGE_BY_HEADS, ('w["norm3.weight"], w["norm3.bias"]', 'w["norm2.weight"], w["norm2.bias"]')
    ),
    "the feed-forward part isn't normed": changed(
        EXCHANGE_BY_HEADS, ('inside = normal(x, -1, w["norm3.weight"], w["norm3.bias"])', "inside = x")
    ),
    "values before keys": changed(
        EXCHANGE_BY_HEADS,
        (
            "k = told @ W[channels:2 * channels].T + b[channels:2 * channels]",
            "v = told @ W[channels:2 * channels].T + b[channels:2 * channels]",
        ),
        ("v = told @ W[2 * channels:].T + b[2 * channels:]", "k = told @ W[2 * channels:].T + b[2 * channels:]"),
    ),
    "matrices that aren't turned": changed(EXCHANGE_BY_HEADS, ("asks @ W[:channels].T", "asks @ W[:channels]")),
    "no biases for queries": changed(EXCHANGE_BY_HEADS, ("W[:channels].T + b[:channels]", "W[:channels].T")),
    "divided by the root of all channels": changed(EXCHANGE_BY_HEADS, ("math.sqrt(size)", "math.sqrt(channels)")),
    "not divided": changed(EXCHANGE_BY_HEADS, (" / math.sqrt(size)", "")),
    "a single head": changed(EXCHANGE_BY_HEADS, ("    size = channels // heads", "    heads = 1\n    size = channels")),
    "heads of neighbouring tokens": changed(
        EXCHANGE_BY_EINSUM,
        (
            'W = w["cross_attn.in_proj_weight"].view(3, heads, c // heads, c)',
            'W = w["cross_attn.in_proj_weight"].view(3, c // heads, heads, c).transpose(1, 2)',
        ),
        (
            'b = w["cross_attn.in_proj_bias"].view(3, heads, 1, c // heads)',
            'b = w["cross_attn.in_proj_bias"].view(3, c // heads, heads).mT[:, :, None]',
        ),
    ),
    "softmax over the queries": changed(EXCHANGE_BY_HEADS, ("scores.softmax(-1)", "scores.softmax(-2)")),
    "exp without care": changed(
        EXCHANGE_BY_HEADS, ("scores.softmax(-1)", "(scores.exp() / scores.exp().sum(-1, keepdim=True))")
    ),
    "out_proj forgotten": changed(
        EXCHANGE_BY_HEADS,
        ('attended = heard @ w["cross_attn.out_proj.weight"].T + w["cross_attn.out_proj.bias"]', "attended = heard"),
    ),
    "out_proj without its bias": changed(EXCHANGE_BY_HEADS, (' + w["cross_attn.out_proj.bias"]', "")),
    "gamma_1 forgotten": changed(EXCHANGE_BY_HEADS, ('w["gamma_1.scale"] * attended', "attended")),
    "gamma_2 forgotten": changed(EXCHANGE_BY_HEADS, ('w["gamma_2.scale"] * thought', "thought")),
    "the scales exchanged": changed(
        EXCHANGE_BY_HEADS,
        ('w["gamma_1.scale"] * attended', 'w["gamma_2.scale"] * attended'),
        ('w["gamma_2.scale"] * thought', 'w["gamma_1.scale"] * thought'),
    ),
    "what was there isn't added": changed(EXCHANGE_BY_HEADS, ('x = x + w["gamma_1.scale"]', 'x = w["gamma_1.scale"]')),
    "the normed tokens are added to": changed(
        EXCHANGE_BY_HEADS, ('x = x + w["gamma_1.scale"]', 'x = asks + w["gamma_1.scale"]')
    ),
    "ReLU": changed(EXCHANGE_BY_HEADS, ("F.gelu(", "F.relu(")),
    "GELU by tanh, all the time": changed(
        EXCHANGE_BY_HEADS,
        (
            'F.gelu(inside @ w["linear1.weight"].T + w["linear1.bias"])',
            '(lambda u: u * torch.sigmoid(1.702 * u))(inside @ w["linear1.weight"].T + w["linear1.bias"])',
        ),
    ),
    "the last norm token by token": changed(EXCHANGE_BY_HEADS, ("normal(x, (1, 2),", "normal(x, -1,")),
    "the last norm channel by channel": changed(EXCHANGE_BY_HEADS, ("normal(x, (1, 2),", "normal(x, 1,")),
    "the last norm over the batch, too": changed(EXCHANGE_BY_HEADS, ("normal(x, (1, 2),", "normal(x, (0, 1, 2),")),
    "no last norm": changed(
        EXCHANGE_BY_HEADS, ('return normal(x, (1, 2), w["norm_out.weight"], w["norm_out.bias"])', "return x")
    ),
    "variances with correction": changed(EXCHANGE_BY_EINSUM, ("correction=0", "correction=1")),
    "norms at the end": changed(
        EXCHANGE_BY_HEADS,
        ('    asks = normal(x, -1, w["norm1.weight"], w["norm1.bias"])', "    asks = x"),
        (
            '    x = x + w["gamma_1.scale"] * attended',
            '    x = normal(x + w["gamma_1.scale"] * attended, -1, w["norm1.weight"], w["norm1.bias"])',
        ),
    ),
    "no constant under the root": changed(EXCHANGE_BY_HEADS, (" + 1e-5)", ")")),
    "equal lengths only": changed(
        EXCHANGE_BY_HEADS, ("    heard = torch.cat(heard, -1)", "    heard = torch.cat(heard, -1).reshape(other.shape)")
    ),
    "the scores of all items together": changed(
        EXCHANGE_BY_HEADS,
        (
            "scores = q[..., mine] @ k[..., mine].transpose(1, 2)",
            "scores = q[..., mine] @ k[:1, :, mine].transpose(1, 2)",
        ),
    ),
    "in place": changed(
        EXCHANGE_BY_HEADS, ('    x = x + w["gamma_1.scale"] * attended', '    x += w["gamma_1.scale"] * attended')
    ),
    "float32 all the time": changed(EXCHANGE_BY_HEADS, ("return new, new_t", "return new.float(), new_t.float()")),
}

# ---------------------------------------------------------------------------- 5, fold away what only training needs

FOLDED_BY_PARTS = """
def folded(layer):
    new = dict(layer)
    channels = layer["norm1.bias"].numel()
    W, b = layer["cross_attn.in_proj_weight"].clone(), layer["cross_attn.in_proj_bias"].clone()
    for first, last, norm in ((0, 1, "norm1"), (1, 3, "norm2")):
        rows = slice(first * channels, last * channels)
        b[rows] += W[rows] @ layer[norm + ".bias"]
        W[rows] *= layer[norm + ".weight"]
    carried = b[2 * channels:].clone()
    b[channels:] = 0
    new["cross_attn.in_proj_weight"], new["cross_attn.in_proj_bias"] = W, b
    V = layer["linear1.weight"]
    new["linear1.bias"] = layer["linear1.bias"] + V @ layer["norm3.bias"]
    new["linear1.weight"] = V * layer["norm3.weight"]
    out = layer["cross_attn.out_proj.weight"]
    bias = layer["cross_attn.out_proj.bias"] + out @ carried
    g1, g2 = layer["gamma_1.scale"], layer["gamma_2.scale"]
    new["cross_attn.out_proj.weight"] = out * g1.unsqueeze(1)
    new["cross_attn.out_proj.bias"] = bias * g1
    new["linear2.weight"] = layer["linear2.weight"] * g2.unsqueeze(1)
    new["linear2.bias"] = layer["linear2.bias"] * g2
    for name in new:
        if name[:5] in ("norm1", "norm2", "norm3") or "gamma" in name:
            new[name] = torch.ones_like(layer[name]) if not name.endswith("bias") else torch.zeros_like(layer[name])
    for name in ("norm_out.weight", "norm_out.bias"):
        new[name] = layer[name].clone()
    return new
"""
FOLDED_BY_DIAGONALS = """
def before(W, b, scale, bias):
    return W @ torch.diag(scale), W @ bias + b

def behind(W, b, scale):
    return torch.diag(scale) @ W, scale * b

def folded(layer):
    p = {name: value.clone() for name, value in layer.items()}
    c = len(p["gamma_1.scale"])
    W, b = p["cross_attn.in_proj_weight"], p["cross_attn.in_proj_bias"]
    q = before(W[:c], b[:c], p["norm1.weight"], p["norm1.bias"])
    kv = before(W[c:], b[c:], p["norm2.weight"], p["norm2.bias"])
    p["cross_attn.in_proj_weight"] = torch.cat([q[0], kv[0]])
    p["cross_attn.in_proj_bias"] = torch.cat([q[1], torch.zeros_like(kv[1])])
    out, out_bias = p["cross_attn.out_proj.weight"], p["cross_attn.out_proj.bias"]
    p["cross_attn.out_proj.weight"], p["cross_attn.out_proj.bias"] = behind(
        out, out_bias + out @ kv[1][c:], p["gamma_1.scale"])
    p["linear1.weight"], p["linear1.bias"] = before(
        p["linear1.weight"], p["linear1.bias"], p["norm3.weight"], p["norm3.bias"])
    p["linear2.weight"], p["linear2.bias"] = behind(
        p["linear2.weight"], p["linear2.bias"], p["gamma_2.scale"])
    for name in ("norm1", "norm2", "norm3"):
        p[name + ".weight"].fill_(1)
        p[name + ".bias"].zero_()
    p["gamma_1.scale"].fill_(1)
    p["gamma_2.scale"].fill_(1)
    return p
"""
FOLDED_IN_FLOAT64 = """
def folded(layer):
    kind = layer["norm1.bias"].dtype
    w = {name: value.double().clone() for name, value in layer.items()}
    c = w["norm1.bias"].shape[0]
    W, b = w["cross_attn.in_proj_weight"], w["cross_attn.in_proj_bias"]
    a = torch.stack([w["norm1.weight"], w["norm2.weight"], w["norm2.weight"]]).repeat_interleave(c, 0)
    d = torch.stack([w["norm1.bias"], w["norm2.bias"], w["norm2.bias"]]).repeat_interleave(c, 0)
    b = b + (W * d).sum(1)
    w["cross_attn.in_proj_weight"] = W * a
    w["cross_attn.out_proj.bias"] = w["cross_attn.out_proj.bias"] + torch.einsum(
        "oc,c->o", w["cross_attn.out_proj.weight"], b[-c:])
    w["cross_attn.in_proj_bias"] = b * (torch.arange(3 * c) < c)
    w["linear1.bias"] = w["linear1.bias"] + torch.einsum("oc,c->o", w["linear1.weight"], w["norm3.bias"])
    w["linear1.weight"] = torch.einsum("oc,c->oc", w["linear1.weight"], w["norm3.weight"])
    for name, scale in (("cross_attn.out_proj", "gamma_1.scale"), ("linear2", "gamma_2.scale")):
        w[name + ".weight"] = torch.einsum("oc,o->oc", w[name + ".weight"], w[scale])
        w[name + ".bias"] = w[name + ".bias"] * w[scale]
        w[scale] = torch.ones_like(w[scale])
    for n in "123":
        w[f"norm{n}.weight"] = torch.ones(c)
        w[f"norm{n}.bias"] = torch.zeros(c)
    return {name: value.to(kind) for name, value in w.items()}
"""
FOLDED_RIGHT = {
    "part by part": FOLDED_BY_PARTS,
    "diagonal matrices": FOLDED_BY_DIAGONALS,
    "float64 and einsum": FOLDED_IN_FLOAT64,
}
FOLDED_WRONG = {
    "gamma_1 by columns": changed(FOLDED_BY_PARTS, ("out * g1.unsqueeze(1)", "out * g1")),
    "gamma_2 not on the bias": changed(FOLDED_BY_PARTS, ('layer["linear2.bias"] * g2', 'layer["linear2.bias"]')),
    "gamma_1 not on the bias": changed(FOLDED_BY_PARTS, ("bias * g1", "bias")),
    "gamma_1 not on what was carried": changed(
        FOLDED_BY_PARTS,
        ('bias = layer["cross_attn.out_proj.bias"] + out @ carried', 'bias = layer["cross_attn.out_proj.bias"]'),
        ("bias * g1", "bias * g1 + out @ carried"),
    ),
    "gamma_2 into linear1": changed(
        FOLDED_BY_PARTS,
        (
            'new["linear2.weight"] = layer["linear2.weight"] * g2.unsqueeze(1)',
            'new["linear2.weight"] = layer["linear2.weight"] @ torch.diag(torch.ones(len(V)))',
        ),
    ),
    "gammas exchanged": changed(
        FOLDED_BY_PARTS,
        (
            'g1, g2 = layer["gamma_1.scale"], layer["gamma_2.scale"]',
            'g2, g1 = layer["gamma_1.scale"], layer["gamma_2.scale"]',
        ),
    ),
    "norms by rows": changed(
        FOLDED_BY_PARTS,
        ('W[rows] *= layer[norm + ".weight"]', 'W[rows] *= layer[norm + ".weight"].repeat(last - first)[:, None]'),
    ),
    "norm1 for queries and keys": changed(
        FOLDED_BY_PARTS, ('((0, 1, "norm1"), (1, 3, "norm2"))', '((0, 2, "norm1"), (2, 3, "norm2"))')
    ),
    "norm1 for all": changed(FOLDED_BY_PARTS, ('((0, 1, "norm1"), (1, 3, "norm2"))', '((0, 3, "norm1"),)')),
    "norm2 and norm3 exchanged": changed(FOLDED_BY_PARTS, ('V @ layer["norm3.bias"]', 'V @ layer["norm2.bias"]')),
    "the norm's weight first, then its bias": changed(
        FOLDED_BY_PARTS,
        (
            '        b[rows] += W[rows] @ layer[norm + ".bias"]\n        W[rows] *= layer[norm + ".weight"]',
            '        W[rows] *= layer[norm + ".weight"]\n        b[rows] += W[rows] @ layer[norm + ".bias"]',
        ),
    ),
    "the same in the feed-forward part": changed(
        FOLDED_BY_PARTS, ('V @ layer["norm3.bias"]', '(V * layer["norm3.weight"]) @ layer["norm3.bias"]')
    ),
    "norms' biases dropped": changed(FOLDED_BY_PARTS, ('        b[rows] += W[rows] @ layer[norm + ".bias"]\n', "")),
    "norm3's bias dropped": changed(FOLDED_BY_PARTS, (' + V @ layer["norm3.bias"]', "")),
    "the query's bias dropped, too": changed(FOLDED_BY_PARTS, ("b[channels:] = 0", "b[:] = 0")),
    "the values' bias lost": changed(FOLDED_BY_PARTS, (" + out @ carried", "")),
    "the values' bias from before the norm": changed(
        FOLDED_BY_PARTS,
        ("carried = b[2 * channels:].clone()", 'carried = layer["cross_attn.in_proj_bias"][2 * channels:]'),
    ),
    "the keys' bias carried": changed(
        FOLDED_BY_PARTS, ("carried = b[2 * channels:].clone()", "carried = b[channels:2 * channels].clone()")
    ),
    "the keys' bias to the queries": changed(
        FOLDED_BY_PARTS, ("    b[channels:] = 0", "    b[:channels] += b[channels:2 * channels]\n    b[channels:] = 0")
    ),
    "the values' bias added as it is": changed(FOLDED_BY_PARTS, ("out @ carried", "carried")),
    "the values' bias through the scaled matrix": changed(
        FOLDED_BY_PARTS, ("+ out @ carried", '+ (out * layer["gamma_1.scale"].unsqueeze(1)) @ carried')
    ),
    "out_proj turned": changed(FOLDED_BY_PARTS, ("out @ carried", "out.T @ carried")),
    "the last norm folded, too": changed(
        FOLDED_BY_PARTS,
        (
            "    return new\n",
            '    new["norm_out.weight"] = torch.ones_like(layer["norm_out.weight"])\n    return new\n',
        ),
    ),
    "scales left": changed(FOLDED_BY_PARTS, (' or "gamma" in name', "")),
    "norms left": changed(FOLDED_BY_PARTS, ('name[:5] in ("norm1", "norm2", "norm3") or', "")),
    "norm3 left": changed(FOLDED_BY_PARTS, ('in ("norm1", "norm2", "norm3")', 'in ("norm1", "norm2")')),
    "divided by scales and set right": changed(FOLDED_BY_PARTS, ("bias * g1", "bias * g1 / g1 * g1")),
    "in place": changed(
        FOLDED_BY_PARTS,
        (
            'W, b = layer["cross_attn.in_proj_weight"].clone(), layer["cross_attn.in_proj_bias"].clone()',
            'W, b = layer["cross_attn.in_proj_weight"], layer["cross_attn.in_proj_bias"]',
        ),
    ),
    "tensors shared with the old layer": changed(
        FOLDED_BY_PARTS,
        (
            '    for name in ("norm_out.weight", "norm_out.bias"):\n        new[name] = layer[name].clone()\n',
            "",
        ),
    ),
    "the layer itself": changed(FOLDED_BY_PARTS, ("    new = dict(layer)\n", "    new = layer\n")),
    "float32 all the time": changed(FOLDED_IN_FLOAT64, ("value.to(kind)", "value.float()")),
    "float64 all the time": changed(FOLDED_IN_FLOAT64, ("value.to(kind)", "value")),
    "six channels": changed(FOLDED_IN_FLOAT64, ('c = w["norm1.bias"].shape[0]', "c = 6")),
    "names left out": changed(
        FOLDED_BY_PARTS, ("    return new\n", '    del new["gamma_1.scale"], new["gamma_2.scale"]\n    return new\n')
    ),
    "scales below 1e-6 taken for none": changed(
        FOLDED_BY_PARTS,
        (
            'g1, g2 = layer["gamma_1.scale"], layer["gamma_2.scale"]',
            'g1, g2 = (g.where(g.abs() > 1e-6, 0 * g) for g in (layer["gamma_1.scale"], layer["gamma_2.scale"]))',
        ),
    ),
    "scales of zero taken for missing": changed(
        FOLDED_BY_PARTS,
        (
            'g1, g2 = layer["gamma_1.scale"], layer["gamma_2.scale"]',
            'g1, g2 = (g + (g == 0).to(g.dtype) for g in (layer["gamma_1.scale"], layer["gamma_2.scale"]))',
        ),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    4,
    """
from course_lib.htdemucs import CrossAttentionLayer

def exchange(x, xt, layer, layer_t, heads):
    found = []
    for mine, other, weights in ((x, xt, layer), (xt, x, layer_t)):
        wide, channels = weights["linear1.weight"].shape
        module = CrossAttentionLayer(channels, heads, wide, 0.0, norm_first=True, norm_out=1, layer_scale=True)
        module.load_state_dict(weights)
        found.append(module(mine, other).detach())
    return found
""",
)


CASES = as_cells(
    (ROW_RIGHT, ROW_WRONG),
    (PLACES_RIGHT, PLACES_WRONG),
    (PIECES_RIGHT, PIECES_WRONG),
    (EXCHANGE_RIGHT, EXCHANGE_WRONG),
    (FOLDED_RIGHT, FOLDED_WRONG),
)
