"""Answers to assignment 2 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------------- 1, the running median

MEDIAN_BY_LOOP = """
def running_median(v, size):
    half, time = size // 2, v.shape[-1]
    medians = []
    for m in range(time):
        some = v[..., max(0, m - half):m + half + 1].sort(dim=-1).values
        count = some.shape[-1]
        medians.append((some[..., (count - 1) // 2] + some[..., count // 2]) / 2)
    return torch.stack(medians, dim=-1)
"""
MEDIAN_BY_QUANTILE = """
def running_median(v, size):
    half = size // 2
    return torch.stack([v[..., max(0, m - half):m + half + 1].quantile(0.5, dim=-1) for m in range(v.shape[-1])], -1)
"""
MEDIAN_BY_INFINITIES = """
def running_median(v, size):
    # as many +inf as -inf in the padding of a window would not do at the ends: count the values instead
    half, time = size // 2, v.shape[-1]
    windows = F.pad(v, (half, half), value=float("inf")).unfold(-1, size, 1).sort(-1).values
    m = torch.arange(time)
    count = torch.minimum(m + half + 1, torch.tensor(time)) - torch.clamp(m - half, min=0)
    low = windows.gather(-1, ((count - 1) // 2).expand(v.shape)[..., None])
    high = windows.gather(-1, (count // 2).expand(v.shape)[..., None])
    return ((low + high) / 2)[..., 0]
"""
MEDIAN_BY_NUMPY = """
import numpy as np
def running_median(v, size):
    h = size // 2
    x = v.numpy()
    out = np.stack([np.median(x[..., max(m - h, 0):m + h + 1], axis=-1) for m in range(x.shape[-1])], axis=-1)
    return torch.from_numpy(out).to(v.dtype)
"""
MEDIAN_BY_PADDING = """
def running_median(v, size):
    half = size // 2
    padded = F.pad(v, (half, half), value=math.nan)
    return padded.unfold(-1, size, 1).nanquantile(0.5, dim=-1)
"""
MEDIAN_RIGHT = {"loop and sorting": MEDIAN_BY_LOOP, "quantile": MEDIAN_BY_QUANTILE,
                "padded by infinity, counted": MEDIAN_BY_INFINITIES, "NumPy": MEDIAN_BY_NUMPY}
MEDIAN_WRONG = {
    "torch.median: of two middle values the lower": changed(
        MEDIAN_BY_QUANTILE, (".quantile(0.5, dim=-1)", ".median(dim=-1).values")
    ),
    "nanmedian: the lower as well": changed(
        MEDIAN_BY_PADDING, ("nanquantile(0.5, dim=-1)", "nanmedian(dim=-1).values")
    ),
    "of two middle values the upper": changed(
        MEDIAN_BY_LOOP, ("(some[..., (count - 1) // 2] + some[..., count // 2]) / 2", "some[..., count // 2]")
    ),
    "mirrored as in the chapter": """
def running_median(v, size):
    half, count = size // 2, v.shape[-1]
    where = torch.arange(-half, count + half) % (2 * count)
    where = torch.minimum(where, 2 * count - 1 - where)
    return v[..., where].unfold(-1, size, 1).median(-1).values
""",
    "zeros beyond the ends": changed(MEDIAN_BY_PADDING, ("math.nan", "0.0")),
    "the end values repeated": """
def running_median(v, size):
    half, count = size // 2, v.shape[-1]
    where = torch.arange(-half, count + half).clamp(0, count - 1)
    return v[..., where].unfold(-1, size, 1).median(-1).values
""",
    "mean for median": changed(MEDIAN_BY_QUANTILE, (".quantile(0.5, dim=-1)", ".mean(dim=-1)")),
    "only whole windows": """
def running_median(v, size):
    return v.unfold(-1, min(size, v.shape[-1]), 1).median(-1).values
""",
    "the window ends at the frame": changed(MEDIAN_BY_QUANTILE, ("m - half):m + half + 1", "m - size + 1):m + 1")),
    "one value less on the right": changed(MEDIAN_BY_QUANTILE, ("m + half + 1", "m + half")),
    "a negative start counts from the end": changed(MEDIAN_BY_LOOP, ("max(0, m - half)", "m - half")),
    "only one row": changed(MEDIAN_BY_LOOP, ("v[..., max", "v[max"), ("v.shape[-1]", "len(v)")),
    "along the first axis": changed(
        MEDIAN_BY_PADDING,
        ("    padded =", "    v = v.movedim(0, -1)\n    padded ="),
        ("nanquantile(0.5, dim=-1)", "nanquantile(0.5, dim=-1).movedim(-1, 0)"),
    ),
    "writes the result into the input": changed(
        MEDIAN_BY_LOOP, ("return torch.stack(medians, dim=-1)", "return v.copy_(torch.stack(medians, dim=-1))")
    ),
    "always float32": changed(MEDIAN_BY_NUMPY, (".to(v.dtype)", ".float()")),
}

# ---------------------------------------------------------------------------------------------- 2, sizes of kernels

SIZES_BY_FORMULA = """
def kernel_sizes(shortest_note, narrowest_stroke, rate, n_fft, hop_length):
    frames = int(shortest_note * rate / hop_length)
    bins = int(narrowest_stroke / (rate / n_fft))
    return max(2 * frames - 1, 1), max(2 * bins - 1, 1)
"""
SIZES_BY_TRYING = """
def kernel_sizes(shortest_note, narrowest_stroke, rate, n_fft, hop_length):
    def largest(filled):
        size = 1
        while filled > (size + 2) / 2:
            size += 2
        return size
    frame_seconds, bin_hertz = hop_length / rate, rate / n_fft
    return largest(shortest_note // frame_seconds), largest(narrowest_stroke // bin_hertz)
"""
SIZES_BY_FLOOR = """
def kernel_sizes(shortest_note, narrowest_stroke, rate, n_fft, hop_length):
    places = (math.floor(shortest_note * rate / hop_length), math.floor(narrowest_stroke * n_fft / rate))
    return tuple(2 * max(count, 1) - 1 for count in places)
"""
SIZES_RIGHT = {"formula": SIZES_BY_FORMULA, "by trying": SIZES_BY_TRYING, "floor": SIZES_BY_FLOOR}
SIZES_WRONG = {
    "the two swapped": changed(
        SIZES_BY_FORMULA,
        ("max(2 * frames - 1, 1), max(2 * bins - 1, 1)", "max(2 * bins - 1, 1), max(2 * frames - 1, 1)"),
    ),
    "as long as the note": changed(
        SIZES_BY_FORMULA, ("max(2 * frames - 1, 1), max(2 * bins - 1, 1)", "max(frames, 1), max(bins, 1)")
    ),
    "half of the window is not more than half": changed(
        SIZES_BY_TRYING, ("filled > (size + 2) / 2", "filled >= (size + 1) / 2")
    ),
    "half the note": changed(
        SIZES_BY_FORMULA, ("max(2 * frames - 1, 1), max(2 * bins - 1, 1)", "frames // 2 * 2 + 1, bins // 2 * 2 + 1")
    ),
    "even": changed(SIZES_BY_FORMULA, ("2 * frames - 1", "2 * frames"), ("2 * bins - 1", "2 * bins")),
    "rounded": changed(
        SIZES_BY_FLOOR, ("math.floor(shortest_note", "round(shortest_note"), ("math.floor(narrowest", "round(narrowest")
    ),
    "rounded up": changed(
        SIZES_BY_FLOOR,
        ("math.floor(shortest_note", "math.ceil(shortest_note"),
        ("math.floor(narrowest", "math.ceil(narrowest"),
    ),
    "frames follow each other without overlap": changed(SIZES_BY_FLOOR, ("rate / hop_length", "rate / n_fft")),
    "bins from 0 to the rate in half as many": changed(SIZES_BY_FLOOR, ("* n_fft / rate", "* (n_fft // 2 + 1) / rate")),
    "bins from 0 to half the rate, over n_fft": changed(SIZES_BY_FORMULA, ("(rate / n_fft)", "(rate / 2 / n_fft)")),
    "negative for what fills nothing": changed(
        SIZES_BY_FORMULA, ("max(2 * frames - 1, 1), max(2 * bins - 1, 1)", "2 * frames - 1, 2 * bins - 1")
    ),
    "floats": changed(SIZES_BY_TRYING, ("size = 1\n", "size = 1.0\n")),
    "the doubled length rounded, not the length": changed(
        SIZES_BY_FORMULA,
        ("int(shortest_note * rate / hop_length)", "shortest_note * rate / hop_length"),
        ("int(narrowest_stroke / (rate / n_fft))", "narrowest_stroke / (rate / n_fft)"),
        (
            "max(2 * frames - 1, 1), max(2 * bins - 1, 1)",
            "max(int(2 * frames - 1) // 2 * 2 + 1, 1), max(int(2 * bins - 1) // 2 * 2 + 1, 1)",
        ),
    ),
    "the usual 31": """
def kernel_sizes(shortest_note, narrowest_stroke, rate, n_fft, hop_length):
    return 31, 31
""",
}

# ---------------------------------------------------------------------------------------------- 3, the shortest period

PERIOD_BY_LOOP = """
def shortest_period(V, shortest, longest, share):
    V = V.double()
    matches = {}
    for l in range(shortest, longest + 1):
        a, b = V[..., :-l], V[..., l:]
        size = torch.sqrt((a ** 2).sum() * (b ** 2).sum())
        matches[l] = float((a * b).sum() / size) if size > 0 else 0.0
    limit = share * max(matches.values())
    return min(l for l in matches if matches[l] >= limit)
"""
PERIOD_BY_COSINE = """
def shortest_period(V, shortest, longest, share):
    rows = V.double() / V.double().max().clamp_min(1e-300)
    c = torch.stack([F.cosine_similarity(rows[..., :-l].flatten(), rows[..., l:].flatten(), dim=0, eps=1e-100)
                     for l in range(shortest, longest + 1)])
    good = (c >= share * c.max()).nonzero()
    return shortest + int(good[0])
"""
PERIOD_BY_GRAM = """
def shortest_period(V, shortest, longest, share):
    frames = V.reshape(-1, V.shape[-1]).double()
    gram = frames.T @ frames                                # products of all pairs of frames
    energy = gram.diagonal()
    best, matches = 0.0, []
    for l in range(shortest, longest + 1):
        both = float(energy[:-l].sum() * energy[l:].sum()) ** 0.5
        matches.append(0.0 if both == 0 else float(gram.diagonal(l).sum()) / both)
        best = max(best, matches[-1])
    for l, match in zip(range(shortest, longest + 1), matches):
        if match >= share * best:
            return l
"""
PERIOD_RIGHT = {
    "loop": PERIOD_BY_LOOP,
    "cosine_similarity": PERIOD_BY_COSINE,
    "from all pairs of frames": PERIOD_BY_GRAM,
}
PERIOD_WRONG = {
    "the best match, a multiple of the period": changed(
        PERIOD_BY_LOOP,
        ("return min(l for l in matches if matches[l] >= limit)", "return max(matches, key=matches.get)"),
    ),
    "the longest of the good ones": changed(PERIOD_BY_LOOP, ("return min(", "return max(")),
    "share taken from the best, not of it": changed(
        PERIOD_BY_LOOP, ("share * max(matches.values())", "max(matches.values()) - share")
    ),
    "share of a perfect match": changed(PERIOD_BY_LOOP, ("share * max(matches.values())", "share")),
    "not divided by any energy": changed(PERIOD_BY_LOOP, ("float((a * b).sum() / size)", "float((a * b).sum())")),
    "divided by the whole song's energy": changed(
        PERIOD_BY_LOOP, ("(a ** 2).sum() * (b ** 2).sum()", "(V ** 2).sum() ** 2")
    ),
    "divided by the number of frames": changed(
        PERIOD_BY_LOOP, ("float((a * b).sum() / size)", "float((a * b).sum() / a.shape[-1])")
    ),
    "square root forgotten": changed(
        PERIOD_BY_LOOP, ("torch.sqrt((a ** 2).sum() * (b ** 2).sum())", "(a ** 2).sum() * (b ** 2).sum()")
    ),
    "the longest shift left out": changed(PERIOD_BY_LOOP, ("longest + 1", "longest")),
    "a place in the list, not a shift": changed(PERIOD_BY_COSINE, ("shortest + int(good[0])", "int(good[0])")),
    "a tensor": changed(PERIOD_BY_COSINE, ("int(good[0])", "good[0, 0]")),
    "one channel only": changed(PERIOD_BY_LOOP, ("V = V.double()", "V = V.double().reshape(-1, *V.shape[-2:])[0]")),
    "NaN in silence": changed(
        PERIOD_BY_LOOP, ("float((a * b).sum() / size) if size > 0 else 0.0", "float((a * b).sum() / size)")
    ),
    "a small number that swallows quiet songs": changed(
        PERIOD_BY_LOOP, ("float((a * b).sum() / size) if size > 0 else 0.0", "float((a * b).sum() / (size + 1e-8))")
    ),
    "means subtracted first: the correlation": changed(
        PERIOD_BY_LOOP, ("        size =", "        a, b = a - a.mean(), b - b.mean()\n        size =")
    ),
}

# ---------------------------------------------------------------------------------------------- 4, bar lines

BARS_BY_LOOP = """
def background_mask(V, starts):
    bars = list(zip(starts, starts[1:] + [V.shape[-1]]))
    mask = torch.zeros_like(V)
    for j in range(max(end - start for start, end in bars)):
        there = [start + j for start, end in bars if start + j < end]
        ordered = V[..., there].sort(-1).values
        n = len(there)
        model = (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2
        for m in there:
            values = V[..., m]
            mask[..., m] = torch.where(values > 0, torch.minimum(model, values) / values.clamp_min(1e-30), 0)
    return mask
"""
BARS_BY_PLACE = """
def background_mask(V, starts):
    frame = torch.arange(V.shape[-1])
    bar = torch.searchsorted(torch.tensor(starts), frame, right=True) - 1
    place = frame - torch.tensor(starts)[bar]
    model = torch.empty_like(V)
    for j in place.unique():
        at = place == j
        model[..., at] = V[..., at].quantile(0.5, dim=-1, keepdim=True)
    return torch.nan_to_num(torch.minimum(model, V) / V, nan=0.0)
"""
BARS_BY_PADDING = """
def background_mask(V, starts):
    ends = starts[1:] + [V.shape[-1]]
    lengths = [b - a for a, b in zip(starts, ends)]
    stacked = torch.full((len(starts), *V.shape[:-1], max(lengths)), float("nan"), dtype=V.dtype)
    for i, (a, b) in enumerate(zip(starts, ends)):
        stacked[i, ..., :b - a] = V[..., a:b]
    model = stacked.nanquantile(0.5, dim=0)
    mask = torch.zeros_like(V)
    for a, b in zip(starts, ends):
        part = V[..., a:b]
        mask[..., a:b] = torch.where(part > 0, (model[..., :b - a] / torch.where(part > 0, part, 1)).clamp(max=1), 0)
    return mask
"""
BARS_RIGHT = {"by the place in the bar": BARS_BY_LOOP, "by the place, found by search": BARS_BY_PLACE,
              "padded bars": BARS_BY_PADDING}
BARS_WRONG = {
    "all bars as long as the first": """
def background_mask(V, starts):
    period, count = (starts + [V.shape[-1]])[1], V.shape[-1]
    bars = F.pad(V, (0, -count % period), value=math.nan).unflatten(-1, (-1, period))
    model = bars.nanquantile(0.5, dim=-2, keepdim=True).expand(bars.shape).flatten(-2)[..., :count]
    return torch.minimum(model, V) / torch.where(V == 0, 1, V)
""",
    "bars cut to the shortest": """
def background_mask(V, starts):
    ends = starts[1:] + [V.shape[-1]]
    shortest = min(b - a for a, b in zip(starts, ends))
    model = torch.stack([V[..., a:a + shortest] for a in starts]).quantile(0.5, dim=0)
    S = torch.cat([F.pad(model, (0, b - a - shortest)) for a, b in zip(starts, ends)], -1)
    return torch.minimum(S, V) / torch.where(V == 0, 1, V)
""",
    "zeros where a bar is too short": changed(BARS_BY_PADDING, ('float("nan")', "0.0")),
    "the last bar forgotten": changed(BARS_BY_LOOP, ("starts[1:] + [V.shape[-1]]", "starts[1:]")),
    "the last bar not asked": changed(
        BARS_BY_PADDING, ("stacked.nanquantile", "stacked[:max(1, len(starts) - 1)].nanquantile")
    ),
    "of two middle values the lower": changed(BARS_BY_PADDING, ("nanquantile(0.5, dim=0)", "nanmedian(dim=0).values")),
    "mean for median": changed(BARS_BY_PADDING, ("nanquantile(0.5, dim=0)", "nanmean(dim=0)")),
    "the smallest for the median": changed(
        BARS_BY_LOOP, ("(ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2", "ordered[..., 0]")
    ),
    "not capped: masks above one": changed(BARS_BY_PADDING, (".clamp(max=1)", "")),
    "the mask of the singer": changed(BARS_BY_PADDING, ("    return mask", "    return 1 - mask")),
    "the model, not the mask": changed(
        BARS_BY_PLACE, ("torch.nan_to_num(torch.minimum(model, V) / V, nan=0.0)", "torch.minimum(model, V)")
    ),
    "NaN in silence": changed(
        BARS_BY_PLACE, ("torch.nan_to_num(torch.minimum(model, V) / V, nan=0.0)", "torch.minimum(model, V) / V")
    ),
    "a small number that swallows quiet songs": changed(
        BARS_BY_PLACE,
        ("torch.nan_to_num(torch.minimum(model, V) / V, nan=0.0)", "torch.minimum(model, V) / (V + 1e-4)"),
    ),
    "the median over the bins as well": changed(
        BARS_BY_PLACE, ("V[..., at].quantile(0.5, dim=-1, keepdim=True)", "V[..., at].quantile(0.5)")
    ),
    "changes starts": changed(
        BARS_BY_PADDING,
        (
            "    ends = starts[1:] + [V.shape[-1]]",
            "    starts.append(V.shape[-1])\n    ends, starts = starts[1:], starts[:-1]",
        ),
    ),
}

# ---------------------------------------------------------------------------------------------- 5, weighted update

STEP_BY_MATRICES = """
def activations_step(V, W, H, G):
    Y = W @ H
    minus = W.T @ (G * V / Y)
    plus = W.T @ G
    return torch.where(plus == 0, H, H * minus / torch.where(plus == 0, 1, plus))
"""
STEP_BY_EINSUM = """
def activations_step(V, W, H, G):
    minus = torch.einsum("kr,km,km->rm", W, G, V / torch.einsum("kr,rm->km", W, H))
    plus = torch.einsum("kr,km->rm", W, G)
    new = H.clone()
    known = plus > 0
    new[known] = H[known] * minus[known] / plus[known]
    return new
"""
STEP_BY_FRAMES = """
def activations_step(V, W, H, G):
    columns = []
    for m in range(V.shape[1]):
        weighted = W * G[:, m:m + 1]                             # (bin, component)
        ratio = V[:, m] / (W @ H[:, m])
        factor = (weighted.T @ ratio) / weighted.sum(0)
        columns.append(H[:, m] * torch.nan_to_num(factor, nan=1.0))
    return torch.stack(columns, dim=1)
"""
STEP_BY_GRADIENT = """
def activations_step(V, W, H, G):
    leaf = H.clone().requires_grad_()
    Y = W @ leaf
    (G * (Y - V * torch.log(Y))).sum().backward()               # what depends on H
    plus = W.T @ G
    factor = torch.where(plus > 0, 1 - leaf.grad / plus.clamp_min(1e-38), 1)
    return (H * factor).detach()
"""
STEP_RIGHT = {"matrices": STEP_BY_MATRICES, "einsum": STEP_BY_EINSUM, "frame by frame": STEP_BY_FRAMES,
              "from autograd's gradient": STEP_BY_GRADIENT}
STEP_WRONG = {
    "the chapter's update, without weights": changed(
        STEP_BY_MATRICES, ("G * V / Y", "V / Y"), ("W.T @ G", "W.T @ torch.ones_like(G)")
    ),
    "weights only in what is subtracted": changed(STEP_BY_MATRICES, ("W.T @ G", "W.T @ torch.ones_like(G)")),
    "weights only in what is added": changed(STEP_BY_MATRICES, ("G * V / Y", "V / Y")),
    "weights squared": changed(STEP_BY_MATRICES, ("G * V / Y", "G * G * V / Y"), ("W.T @ G", "W.T @ (G * G)")),
    "only ones and zeros as weights": changed(
        STEP_BY_MATRICES, ("    Y = W @ H", "    G = (G > 0).to(G)\n    Y = W @ H")
    ),
    "Euclidean": changed(STEP_BY_MATRICES, ("G * V / Y", "G * V"), ("W.T @ G", "W.T @ (G * Y)")),
    "Itakura-Saito": changed(STEP_BY_MATRICES, ("G * V / Y", "G * V / Y ** 2"), ("W.T @ G", "W.T @ (G / Y)")),
    "upside down": changed(
        STEP_BY_MATRICES,
        (
            "torch.where(plus == 0, H, H * minus / torch.where(plus == 0, 1, plus))",
            "torch.where(minus == 0, H, H * plus / torch.where(minus == 0, 1, minus))",
        ),
    ),
    "the square root of the ratio": changed(
        STEP_BY_EINSUM, ("H[known] * minus[known] / plus[known]", "H[known] * (minus[known] / plus[known]).sqrt()")
    ),
    "a gradient step": changed(
        STEP_BY_GRADIENT, ("(H * factor).detach()", "(H - 0.01 * leaf.grad).clamp_min(0).detach()")
    ),
    "the lost points filled by zeros": changed(
        STEP_BY_MATRICES,
        ("G * V / Y", "(G * V) / Y"),
        ("    plus = W.T @ G", "    plus = W.sum(0)[:, None].expand_as(H)"),
    ),
    "NaN where a frame is lost": changed(STEP_BY_FRAMES, ("torch.nan_to_num(factor, nan=1.0)", "factor")),
    "silence where a frame is lost": changed(
        STEP_BY_FRAMES, ("torch.nan_to_num(factor, nan=1.0)", "torch.nan_to_num(factor, nan=0.0)")
    ),
    "small numbers that swallow quiet songs": changed(STEP_BY_MATRICES, ("V / Y", "V / (Y + 1e-4)")),
    "changes H": changed(STEP_BY_EINSUM, ("new = H.clone()", "new = H")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 1, """
from course_lib.classic import median_filter

def running_median(v, size):
    filtered = median_filter(v, size)                            # right except at the ends
    for m in range(v.shape[-1]):
        some = v[..., max(0, m - size // 2):m + size // 2 + 1]
        if some.shape[-1] < size:
            filtered[..., m] = some.quantile(0.5, dim=-1)
    return filtered
"""


CASES = as_cells(
    (MEDIAN_RIGHT, MEDIAN_WRONG), (SIZES_RIGHT, SIZES_WRONG), (PERIOD_RIGHT, PERIOD_WRONG),
    (BARS_RIGHT, BARS_WRONG), (STEP_RIGHT, STEP_WRONG))
