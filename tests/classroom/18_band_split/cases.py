"""Answers to assignment 18 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# -------------------------------------------------------------------------------------------- 1, no band without a bin

BANDS = """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    firsts = sorted(set((border * n_fft + rate - 1) // rate for border in borders))
    bands, begin = [], 0
    for first in firsts:
        if 0 < first < bins and first - begin >= least:
            bands.append((begin, first))
            begin = first
    if bins - begin < least and bands:
        begin, _ = bands.pop()
    bands.append((begin, bins))
    return bands

"""
BANDS_BY_JOINING = """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    cuts = [0]
    for border in sorted(borders):
        cut = min(bins, max(0, -((-border * n_fft) // rate)))
        if cut != cuts[-1]:
            cuts.append(cut)
    if cuts[-1] != bins:
        cuts.append(bins)
    widths = [b - a for a, b in zip(cuts, cuts[1:])]
    joined, waiting = [], 0
    for width in widths:
        waiting += width
        if waiting >= least:
            joined.append(waiting)
            waiting = 0
    if waiting:
        if joined:
            joined[-1] += waiting
        else:
            joined = [waiting]
    found, begin = [], 0
    for width in joined:
        found.append([begin, begin + width])
        begin += width
    return found

"""
BANDS_BY_DELETING = """
from fractions import Fraction

def bands_of(borders, rate, n_fft, least):
    top = n_fft // 2 + 1
    cuts = [math.ceil(Fraction(border * n_fft, rate)) for border in borders]
    cuts = [0] + sorted(cut for cut in set(cuts) if 0 < cut < top)
    at = 1
    while at < len(cuts):
        if cuts[at] - cuts[at - 1] < least:
            del cuts[at]
        else:
            at += 1
    if len(cuts) > 1 and top - cuts[-1] < least:
        del cuts[-1]
    return list(zip(cuts, cuts[1:] + [top]))

"""
ROWS = """
def rows_left(rows, parts, strides, layers):
    found = [rows]
    whole = sum(parts)
    for _ in range(layers):
        now = found[-1]
        ends = [0]
        for n in range(len(parts)):
            ends.append(-(-now * sum(parts[:n + 1]) // whole))
        found.append(sum(-(-(ends[n + 1] - ends[n]) // strides[n]) for n in range(len(parts))))
    return found
"""
ROWS_BY_RECURSION = """
def rows_left(rows, parts, strides, layers):
    if layers == 0:
        return [rows]
    total, held, begin, after = sum(parts), 0, 0, 0
    for part, stride in zip(parts, strides):
        held = held + part
        end, more = divmod(rows * held, total)
        end += more > 0
        width, begin = end - begin, end
        after += (width + stride - 1) // stride
    return [rows] + rows_left(after, parts, strides, layers - 1)
"""
BANDS_RIGHT = {
    "cut by cut": BANDS + ROWS,
    "widths joined": BANDS_BY_JOINING + ROWS_BY_RECURSION,
    "borders deleted": BANDS_BY_DELETING + ROWS,
}


def _bands(*changes):
    return changed(BANDS, *changes) + ROWS


def _rows(*changes):
    return BANDS + changed(ROWS, *changes)


BANDS_WRONG = {
    "rounded": _bands(("(border * n_fft + rate - 1) // rate", "round(border * n_fft / rate)")),
    "rounded down": _bands(("(border * n_fft + rate - 1) // rate", "border * n_fft // rate")),
    "the bin on the border lies below": _bands(("(border * n_fft + rate - 1) // rate", "border * n_fft // rate + 1")),
    "a ceiling of floats": _bands(("(border * n_fft + rate - 1) // rate", "math.ceil(border * n_fft / rate)")),
    "a width of a bin by floats": _bands(("(border * n_fft + rate - 1) // rate", "math.ceil(border / (rate / n_fft))")),
    "borders of half the rate": _bands(("(border * n_fft + rate - 1) // rate", "-(-2 * border * n_fft // rate)")),
    "bins, not Hz": _bands(("(border * n_fft + rate - 1) // rate", "border")),
    "one bin less": _bands(("n_fft // 2 + 1", "n_fft // 2")),
    "all bins of the FFT": _bands(("n_fft // 2 + 1", "n_fft")),
    "half, rounded up": _bands(("n_fft // 2 + 1", "(n_fft + 1) // 2 + 1")),
    "in the order given": _bands(
        ("sorted(set(", "list(("),
    ),
    "sorted backwards": _bands(("for border in borders))", "for border in borders), reverse=True)")),
    "equal borders: an empty band": _bands(
        (
            "sorted(set((border * n_fft + rate - 1) // rate for border in borders))",
            "sorted((border * n_fft + rate - 1) // rate for border in borders)",
        ),
        ("first - begin >= least:", "first - begin >= least or first == begin > 0:"),
    ),
    "borders below 0 cut": _bands(
        ("if 0 < first < bins and first - begin >= least", "if first < bins and abs(first - begin) >= least")
    ),
    "borders beyond cut": _bands(("0 < first < bins and", "0 < first and")),
    "more than least": _bands(("first - begin >= least", "first - begin > least")),
    "least ignored": _bands(("first - begin >= least", "first > begin"), ("bins - begin < least and bands", "False")),
    "least is only 1": _bands(("first - begin >= least", "first - begin >= 1")),
    "small ones go down": """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    cuts = sorted({0, bins} | {c for c in (-(-b * n_fft // rate) for b in borders) if 0 < c < bins})
    bands = []
    for begin, end in zip(cuts, cuts[1:]):
        if bands and end - begin < least:
            bands[-1] = (bands[-1][0], end)
        else:
            bands.append((begin, end))
    return bands

"""
    + ROWS,
    "small ones left out": _bands(
        (
            "            begin = first\n",
            "            begin = first\n        elif 0 < first < bins:\n            begin = first\n",
        )
    ),
    "takes in one only": """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    cuts = sorted({0, bins} | {c for c in (-(-b * n_fft // rate) for b in borders) if 0 < c < bins})
    widths, joined, at = [b - a for a, b in zip(cuts, cuts[1:])], [], 0
    while at < len(widths):
        if widths[at] < least and at + 1 < len(widths):
            joined.append(widths[at] + widths[at + 1])
            at += 2
        else:
            joined.append(widths[at])
            at += 1
    if len(joined) > 1 and joined[-1] < least:
        joined[-2:] = [joined[-2] + joined[-1]]
    return [(sum(joined[:n]), sum(joined[:n + 1])) for n in range(len(joined))]

"""
    + ROWS,
    "from the top down": """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    end, bands = bins, []
    for first in sorted(set(-(-b * n_fft // rate) for b in borders), reverse=True):
        if 0 < first < bins and end - first >= least:
            bands.insert(0, (first, end))
            end = first
    if end < least and bands:
        _, end = bands.pop(0)
    return [(0, end)] + bands

"""
    + ROWS,
    "the smallest first": """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    cuts = sorted({0, bins} | {c for c in (-(-b * n_fft // rate) for b in borders) if 0 < c < bins})
    widths = [b - a for a, b in zip(cuts, cuts[1:])]
    while len(widths) > 1 and min(widths) < least:
        n = widths.index(min(widths))
        n = min(n, len(widths) - 2)
        widths[n:n + 2] = [widths[n] + widths[n + 1]]
    return [(sum(widths[:n]), sum(widths[:n + 1])) for n in range(len(widths))]

"""
    + ROWS,
    "too few at the top stay": _bands(("    if bins - begin < least and bands:\n        begin, _ = bands.pop()\n", "")),
    "too few at the top are left out": _bands(
        (
            "    bands.append((begin, bins))\n    return",
            "    if bins - begin >= least:\n        bands.append((begin, bins))\n    return",
        ),
        ("    if bins - begin < least and bands:\n        begin, _ = bands.pop()\n", ""),
    ),
    "all too few: none": _bands(
        (
            "    bands.append((begin, bins))\n    return",
            "    if bins - begin >= least:\n        bands.append((begin, bins))\n    return",
        ),
    ),
    "all too few: an error": _bands(
        ("    bands.append((begin, bins))", "    assert bins >= least\n    bands.append((begin, bins))")
    ),
    "no borders: an error": _bands(("    bands, begin = [], 0", "    bands, begin = [], min(0, firsts[0] ** 2)")),
    "the last bin left out": _bands(("bands.append((begin, bins))", "bands.append((begin, bins - 1))")),
    "the last bin, not the one after": _bands(("    return bands\n", "    return [(a, b - 1) for a, b in bands]\n")),
    "widths": _bands(("    return bands\n", "    return [b - a for a, b in bands]\n")),
    "only the first bins": _bands(("    return bands\n", "    return [(a, a) for a, b in bands]\n")),
    "a tuple": _bands(("    return bands\n", "    return tuple(bands)\n")),
    "tensors": _bands(("    return bands\n", "    return torch.tensor(bands)\n")),
    "floats": _bands(("    return bands\n", "    return [(float(a), float(b)) for a, b in bands]\n")),
    "highest first": _bands(("    return bands\n", "    return bands[::-1]\n")),
    "borders are sorted in place": _bands(("    bands, begin = [], 0", "    borders.sort()\n    bands, begin = [], 0")),
    "bin by bin": """
def bands_of(borders, rate, n_fft, least):
    bins = n_fft // 2 + 1
    assert bins < 10_000_000
    bands, begin = [], 0
    for k in range(1, bins):
        if any((k - 1) * rate < b * n_fft <= k * rate for b in borders) and k - begin >= least:
            bands.append((begin, k))
            begin = k
    if bands and bins - begin < least:
        begin = bands.pop()[0]
    return bands + [(begin, bins)]

"""
    + ROWS,
    "64 bits": _bands(
        (
            "sorted(set((border * n_fft + rate - 1) // rate for border in borders))",
            "(-((-torch.tensor(borders, dtype=torch.int64) * n_fft) // rate)).unique().tolist()",
        )
    ),
    "shares of each alone": _rows(("sum(parts[:n + 1]) // whole))", "parts[n] // whole) + ends[-1])")),
    "shares rounded": _rows(("-(-now * sum(parts[:n + 1]) // whole)", "round(now * sum(parts[:n + 1]) / whole)")),
    "shares rounded down": _rows(("-(-now * sum(parts[:n + 1]) // whole)", "now * sum(parts[:n + 1]) // whole")),
    "shares by floats": _rows(
        ("-(-now * sum(parts[:n + 1]) // whole)", "math.ceil(now * sum(p / whole for p in parts[:n + 1]))")
    ),
    "a quotient of floats": _rows(
        ("-(-now * sum(parts[:n + 1]) // whole)", "math.ceil(now * (sum(parts[:n + 1]) / whole))")
    ),
    "rows rounded down": _rows(("-(-(ends[n + 1] - ends[n]) // strides[n])", "(ends[n + 1] - ends[n]) // strides[n]")),
    "rows rounded": _rows(("-(-(ends[n + 1] - ends[n]) // strides[n])", "round((ends[n + 1] - ends[n]) / strides[n])")),
    "rows by floats": _rows(
        ("-(-(ends[n + 1] - ends[n]) // strides[n])", "math.ceil((ends[n + 1] - ends[n]) / strides[n])")
    ),
    "one row at least": _rows(
        ("-(-(ends[n + 1] - ends[n]) // strides[n])", "max(1, -(-(ends[n + 1] - ends[n]) // strides[n]))")
    ),
    "the sum rounded, not each": _rows(
        (
            "sum(-(-(ends[n + 1] - ends[n]) // strides[n]) for n in range(len(parts)))",
            "math.ceil(sum((ends[n + 1] - ends[n]) / strides[n] for n in range(len(parts))))",
        )
    ),
    "the first rows always": _rows(("now = found[-1]", "now = found[0]")),
    "the low cut stays": _rows(
        (
            "        ends = [0]\n",
            "        low = -(-rows * parts[0] // whole)\n"
            "        ends = [0, low] if len(parts) > 1 and now > low else [0]\n",
        ),
        ("for n in range(len(parts)):\n", "for n in range(len(ends) - 1, len(parts)):\n"),
    ),
    "strides grow": _rows(("// strides[n])", "// strides[n] ** len(found))")),
    "three subbands": _rows(
        ("for n in range(len(parts)):", "for n in range(3):"),
        ("ends[n]) // strides[n]) for n in range(len(parts))", "ends[n]) // strides[n]) for n in range(3)"),
    ),
    "the shares are per mille": _rows(("whole = sum(parts)", "whole = 1000")),
    "without the first": _rows(("    return found\n", "    return found[1:]\n")),
    "only the last": _rows(("    return found\n", "    return found[-1]\n")),
    "a layer too many": _rows(("range(layers)", "range(layers + 1)")),
    "ends at no rows": _rows(
        ("        now = found[-1]\n", "        now = found[-1]\n        if now == 1:\n            break\n")
    ),
    "parts made shares": _rows(("    found = [rows]\n", "    found = [rows]\n    parts[:] = [p * 2 for p in parts]\n")),
}

# ----------------------------------------------------------------------------- 2, some bands are surer than others

CUT = """
def cut(x, weights):
    return [x[:, band > 0] for band in weights]

"""
CUT_BY_INDEX = """
def cut(x, weights):
    parts = []
    for k in range(weights.shape[0]):
        places = torch.nonzero(weights[k] > 0).flatten()
        parts.append(torch.index_select(x, 1, places))
    return parts

"""
JOIN = """
def join(parts, weights, rest):
    batch, _, frames = parts[0].shape
    w = weights.double()
    top = w.max(0).values
    inside = top > 0
    w = w / torch.where(inside, top, 1.0)
    total = torch.zeros(batch, w.shape[1], frames, dtype=torch.promote_types(parts[0].dtype, torch.float64))
    for part, row, places in zip(parts, w, weights > 0):
        kept = torch.zeros_like(total)
        kept[:, places] = part.to(total.dtype) * row[places][:, None]
        total = total + kept
    y = total / torch.where(inside, w.sum(0), 1.0)[:, None]
    y = torch.where(inside[:, None], y, torch.tensor(rest, dtype=y.dtype))
    return y.to(parts[0].dtype)
"""
JOIN_BY_BINS = """
def join(parts, weights, rest):
    place = [0] * len(parts)
    columns = []
    for f in range(weights.shape[1]):
        bands = [k for k in range(len(parts)) if weights[k, f] > 0]
        if not bands:
            columns.append(torch.full_like(parts[0][:, :1].sum(1), rest))
            continue
        w = weights[bands, f].double()
        w = w / w.max()
        w = (w / w.sum()).tolist()
        columns.append(sum(share * parts[k][:, place[k]] for share, k in zip(w, bands)))
        for k in bands:
            place[k] += 1
    return torch.stack(columns, dim=1)
"""
JOIN_BY_MATRIX = """
def join(parts, weights, rest):
    # one matrix from all bands' numbers to the bins
    band, bin = (weights > 0).nonzero(as_tuple=True)
    log = weights.double()[band, bin].log()
    table = torch.full(weights.shape, -math.inf, dtype=torch.float64)
    table[band, bin] = log
    shares = table.softmax(0)[band, bin]
    matrix = torch.zeros(weights.shape[1], len(band), dtype=torch.float64)
    matrix[bin, torch.arange(len(band))] = shares
    y = matrix.to(parts[0].dtype) @ torch.cat(list(parts), 1)
    nobody = (weights > 0).sum(0) == 0
    return y + nobody[:, None].to(y.dtype) * rest
"""
JOIN_RIGHT = {
    "band after band": CUT + JOIN,
    "bin after bin": CUT_BY_INDEX + JOIN_BY_BINS,
    "one matrix": CUT + JOIN_BY_MATRIX,
}


def _cut(*changes):
    return changed(CUT, *changes) + JOIN


def _join(*changes):
    return CUT + changed(JOIN, *changes)


JOIN_WRONG = {
    "bins from the first to the last": """
def cut(x, weights):
    parts = []
    for band in weights:
        places = (band > 0).nonzero().flatten()
        parts.append(x[:, places[0]:places[-1] + 1] if len(places) else x[:, :0])
    return parts

"""
    + JOIN,
    "as many bins from 0 on": _cut(("x[:, band > 0]", "x[:, :int((band > 0).sum())]")),
    "values times weights": _cut(("x[:, band > 0]", "x[:, band > 0] * band[band > 0, None]")),
    "zeros instead of cutting": _cut(("x[:, band > 0]", "x * (band > 0)[:, None]")),
    "above a half": _cut(("band > 0]", "band > 0.5]")),
    "weights of bins as bools": _cut(("x[:, band > 0]", "x[:, band.bool() & (band >= 1e-20)]")),
    "a band without bins left out": _cut(("for band in weights]", "for band in weights if (band > 0).any()]")),
    "a band without bins: an error": _cut(("    return", "    assert (weights > 0).any(1).all()\n    return")),
    "highest bin first": _cut(("x[:, band > 0]", "x[:, band > 0].flip(1)")),
    "frames first": _cut(("x[:, band > 0]", "x[:, band > 0].mT")),
    "one tensor": """
def cut(x, weights):
    return torch.cat([x[:, band > 0] for band in weights], 1)

"""
    + JOIN,
    "the first of the batch": _cut(("x[:, band > 0]", "x[:1, band > 0]")),
    "real parts": _cut(("x[:, band > 0]", "x[:, band > 0].real")),
    "parts in single precision": _cut(
        ("x[:, band > 0]", "x[:, band > 0].to(torch.complex64 if x.is_complex() else torch.float32)")
    ),
    "the plain mean": _join(("w = weights.double()", "w = (weights > 0).double()")),
    "weights squared": _join(("w = weights.double()", "w = weights.double() ** 2")),
    "roots of weights": _join(("w = weights.double()", "w = weights.double().sqrt()")),
    "no division": _join(("total / torch.where(inside, w.sum(0), 1.0)[:, None]", "total")),
    "divided by how many": _join(
        ("total / torch.where(inside, w.sum(0), 1.0)[:, None]", "total / (w > 0).sum(0).clamp_min(1)[:, None]")
    ),
    "divided by each band's sum": _join(
        ("w = w / torch.where(inside, top, 1.0)", "w = w / w.sum(1, keepdim=True).clamp_min(1e-300)")
    ),
    "the surest band only": _join(("w = w / torch.where(inside, top, 1.0)", "w = (w >= top).double() * inside")),
    "the last band only": _join(
        (
            "total = total + kept",
            "total = torch.where(places[:, None], kept / row.clamp_min(1e-300)[:, None] * w.sum(0)[:, None], total)",
        )
    ),
    "something added below": _join(("torch.where(inside, w.sum(0), 1.0)", "(w.sum(0) + 1e-3)")),
    "weights as they are": _join(("    w = w / torch.where(inside, top, 1.0)\n", "    w = weights.float()\n")),
    "1e-8 added": _join(
        ("    w = w / torch.where(inside, top, 1.0)\n", ""), ("torch.where(inside, w.sum(0), 1.0)", "(w.sum(0) + 1e-8)")
    ),
    "at least 1e-12": _join(
        ("    w = w / torch.where(inside, top, 1.0)\n", ""),
        ("torch.where(inside, w.sum(0), 1.0)", "w.sum(0).clamp_min(1e-12)"),
    ),
    "small weights don't count": _join(("w = weights.double()", "w = weights.double() * (weights > 1e-12)")),
    "sums in single precision": _join(
        ("w = weights.double()", "w = weights / weights.sum(0).float()"),
        ("top = w.max", "w = w.double().nan_to_num(0, 1, 0)\n    top = w.max"),
    ),
    "rest is 0": _join(("torch.tensor(rest, dtype=y.dtype)", "torch.tensor(0, dtype=y.dtype)")),
    "rest is 1": _join(("torch.tensor(rest, dtype=y.dtype)", "torch.tensor(1, dtype=y.dtype)")),
    "rest is NaN": _join(
        ("total / torch.where(inside, w.sum(0), 1.0)[:, None]", "total / w.sum(0)[:, None]"),
        ("    y = torch.where(inside[:, None], y, torch.tensor(rest, dtype=y.dtype))\n", ""),
    ),
    "rest where the mean is 0": _join(
        ("torch.where(inside[:, None], y,", "torch.where((y != 0) & inside[:, None], y,")
    ),
    "rest added everywhere": _join(
        ("torch.where(inside[:, None], y, torch.tensor(rest, dtype=y.dtype))", "y + rest"),
    ),
    "rest at weak bins": _join(("inside = top > 0", "inside = top > 1e-35")),
    "bins one after the other": _join(
        (
            "kept[:, places] = part.to(total.dtype) * row[places][:, None]",
            "kept[:, :part.shape[1]] = part.to(total.dtype) * row[places][:, None]",
        )
    ),
    "weights one after the other": _join(("row[places][:, None]", "row[:part.shape[1]][:, None]")),
    "weights of the first band": _join(("row[places][:, None]", "w[0][places][:, None]")),
    "weights over frames": _join(
        ("row[places][:, None]", "(row[places][:, None] if part.shape[1] != part.shape[2] else row[places])")
    ),
    "real only": _join(
        ("dtype=torch.promote_types(parts[0].dtype, torch.float64)", "dtype=torch.float64"),
        ("part.to(total.dtype)", "part.real.to(total.dtype)"),
    ),
    "sizes and phases apart": _join(
        (
            "    return y.to(parts[0].dtype)",
            "    y = torch.polar(y.abs(), y.angle().round(decimals=1)) if y.is_complex() else y\n"
            "    return y.to(parts[0].dtype)",
        )
    ),
    "in double precision": _join(("return y.to(parts[0].dtype)", "return y")),
    "in the weights' precision": _join(
        ("return y.to(parts[0].dtype)", "return y.to(torch.complex64 if y.is_complex() else weights.dtype)")
    ),
    "in single precision": _join(
        (
            "return y.to(parts[0].dtype)",
            "return y.to(torch.complex64 if y.is_complex() else torch.float32).to(parts[0].dtype)",
        )
    ),
    "no gradient": _join(("return y.to(parts[0].dtype)", "return y.to(parts[0].dtype).detach()")),
    "a gradient of the last band": _join(("total = total + kept", "total = total.detach() + kept")),
    "parts are changed": _join(
        (
            "        kept = torch.zeros_like(total)",
            "        if not part.requires_grad:\n            part *= 1.00001\n        kept = torch.zeros_like(total)",
        )
    ),
    "weights are changed": _join(("    w = weights.double()", "    weights /= 2\n    w = weights.double()")),
    "frames and bins swapped": _join(("return y.to(parts[0].dtype)", "return y.to(parts[0].dtype).mT")),
    "no batch": _join(("return y.to(parts[0].dtype)", "return y.to(parts[0].dtype).squeeze(0)")),
    "as many bins as bands need": _join(
        (
            "return y.to(parts[0].dtype)",
            "return y.to(parts[0].dtype)[:, :int(inside.nonzero().max()) + 1 if inside.any() else 0]",
        )
    ),
}

# --------------------------------------------------------------------------------- 3, turned to anywhere, and back

TURN = """
def turned(x, positions, freqs):
    P = freqs.shape[0]
    angles = positions.double()[:, None] * freqs.double()
    c, s = torch.cos(angles), torch.sin(angles)
    a, b = x[..., :P].double(), x[..., P:2 * P].double()
    y = torch.cat((a * c - b * s, b * c + a * s, x[..., 2 * P:].double()), dim=-1)
    return y.to(x.dtype)

"""
TURN_BY_COMPLEX = """
def turned(x, positions, freqs):
    P = len(freqs)
    if P == 0:
        return x.clone()
    z = torch.complex(x[..., :P].double(), x[..., P:2 * P].double())
    angles = torch.outer(positions.double(), freqs.double())
    z = z * torch.exp(1j * angles)
    return torch.cat([z.real.to(x.dtype), z.imag.to(x.dtype), x[..., 2 * P:]], -1)

"""
TURN_BY_MATRICES = """
def turned(x, positions, freqs):
    size, P = x.shape[-1], len(freqs)
    angles = positions.to(torch.float64).unsqueeze(-1) * freqs.to(torch.float64)
    R = torch.eye(size, dtype=torch.float64).repeat(len(positions), 1, 1)
    for i in range(P):
        R[:, i, i] = angles[:, i].cos()
        R[:, i, P + i] = -angles[:, i].sin()
        R[:, P + i, i] = angles[:, i].sin()
        R[:, P + i, P + i] = angles[:, i].cos()
    return (R @ x.double().unsqueeze(-1)).squeeze(-1).to(x.dtype)

"""
ANEW = """
def counted_anew(keys, by, freqs):
    where = torch.full((keys.shape[-2],), float(-by), dtype=torch.float64)
    return turned(keys, where, freqs)
"""
ANEW_BY_HAND = """
def counted_anew(keys, by, freqs):
    a, b, rest = keys.double().tensor_split([len(freqs), 2 * len(freqs)], dim=-1)
    angle = by * freqs.double()
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos + b * sin, b * cos - a * sin, rest], -1).to(keys.dtype)
"""
TURN_RIGHT = {
    "halves": TURN + ANEW,
    "complex numbers": TURN_BY_COMPLEX + ANEW_BY_HAND,
    "matrices": TURN_BY_MATRICES + ANEW,
}


def _turn(*changes):
    return changed(TURN, *changes) + ANEW_BY_HAND


def _anew(*changes):
    return TURN + changed(ANEW_BY_HAND, *changes)


TURN_WRONG = {
    "neighbours, as in the chapter": """
def turned(x, positions, freqs):
    P = len(freqs)
    angles = torch.outer(positions.double(), freqs.double()).repeat_interleave(2, -1)
    part = x[..., :2 * P].double()
    other = torch.stack([-part[..., 1::2], part[..., ::2]], -1).flatten(-2)
    return torch.cat([(part * angles.cos() + other * angles.sin()).to(x.dtype), x[..., 2 * P:]], -1)

"""
    + ANEW_BY_HAND,
    "the other way round": _turn(("a * c - b * s, b * c + a * s", "a * c + b * s, b * c - a * s")),
    "both plus": _turn(("a * c - b * s", "a * c + b * s")),
    "both minus": _turn(("b * c + a * s", "b * c - a * s")),
    "sine and cosine swapped": _turn(
        ("c, s = torch.cos(angles), torch.sin(angles)", "s, c = torch.cos(angles), torch.sin(angles)")
    ),
    "halves swapped": _turn(("(a * c - b * s, b * c + a * s,", "(b * c + a * s, a * c - b * s,")),
    "the second not turned": _turn(("b * c + a * s,", "b,")),
    "the first used anew": _turn(("b * c + a * s,", "b * c + (a * c - b * s) * s,")),
    "only cosines": _turn(("a * c - b * s, b * c + a * s", "a * c, b * c")),
    "added, as in chapter 8": _turn(("a * c - b * s, b * c + a * s", "a + s, b + c")),
    "halves of all entries": _turn(
        (
            "a, b = x[..., :P].double(), x[..., P:2 * P].double()",
            "half = x.shape[-1] // 2\n    a, b = x[..., :P].double(), x[..., half:half + P].double()",
        )
    ),
    "the last entries turned": _turn(
        (
            "a, b = x[..., :P].double(), x[..., P:2 * P].double()",
            "rest = x.shape[-1] - 2 * P\n    a, b = x[..., rest:rest + P].double(), x[..., rest + P:].double()",
        ),
        ("x[..., 2 * P:].double()), dim=-1)", "x[..., :x.shape[-1] - 2 * P].double()), dim=-1)"),
    ),
    "the rest cut off": _turn(("b * c + a * s, x[..., 2 * P:].double())", "b * c + a * s)")),
    "the rest is 0": _turn(("x[..., 2 * P:].double())", "0 * x[..., 2 * P:].double())")),
    "the rest negative": _turn(("x[..., 2 * P:].double())", "-x[..., 2 * P:].double())")),
    "positions counted": _turn(("positions.double()[:, None]", "torch.arange(len(positions))[:, None].double()")),
    "positions from the first": _turn(("positions.double()[:, None]", "(positions - positions[:1]).double()[:, None]")),
    "positions' sizes": _turn(("positions.double()[:, None]", "positions.double().abs()[:, None]")),
    "whole positions": _turn(("positions.double()[:, None]", "positions.long().double()[:, None]")),
    "positions rounded": _turn(("positions.double()[:, None]", "positions.double().round()[:, None]")),
    "positions from 1": _turn(("positions.double()[:, None]", "positions.double()[:, None] + 1")),
    "positions not below 0": _turn(("positions.double()[:, None]", "positions.double().clamp_min(0)[:, None]")),
    "sorted positions": _turn(("positions.double()[:, None]", "positions.double().sort().values[:, None]")),
    "angles in single precision": _turn(
        ("positions.double()[:, None] * freqs.double()", "(positions.float()[:, None] * freqs.float()).double()")
    ),
    "angles as precise as x": _turn(
        (
            "positions.double()[:, None] * freqs.double()",
            "(positions.to(x.dtype)[:, None] * freqs.to(x.dtype)).double()",
        )
    ),
    "positions in single precision": _turn(("positions.double()[:, None]", "positions.float().double()[:, None]")),
    "positions modulo 10000": _turn(("positions.double()[:, None]", "(positions % 10000).double()[:, None]")),
    "angles modulo 6.2832": _turn(
        ("positions.double()[:, None] * freqs.double()", "(positions.double()[:, None] * freqs.double()) % 6.2832")
    ),
    "turns instead of radians": _turn(
        ("positions.double()[:, None] * freqs.double()", "2 * math.pi * positions.double()[:, None] * freqs.double()")
    ),
    "degrees": _turn(
        ("positions.double()[:, None] * freqs.double()", "(positions.double()[:, None] * freqs.double()).deg2rad()")
    ),
    "frequencies of its own": _turn(("freqs.double()\n", "(10000.0 ** (-torch.arange(P).double() / max(P, 1)))\n")),
    "frequencies' sizes": _turn(("* freqs.double()\n", "* freqs.double().abs()\n")),
    "divided by frequencies": _turn(("* freqs.double()\n", "/ freqs.double()\n")),
    "frequencies the other way round": _turn(("* freqs.double()\n", "* freqs.double().flip(0)\n")),
    "the first frequency": _turn(("* freqs.double()\n", "* (freqs[:1] if P else freqs).double().expand(P)\n")),
    "no frequencies: an error": _turn(("    angles =", "    assert P\n    angles =")),
    "no frequencies: nothing": _turn(("    angles =", "    if not P:\n        return x[..., :0]\n    angles =")),
    "two axes only": _turn(
        (
            "    angles =",
            "    x = x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x\n"
            "    positions = positions.repeat(len(x) // max(1, len(positions)))\n"
            "    angles =",
        )
    ),
    "over the wrong axis": _turn(
        (
            "    c, s = torch.cos(angles), torch.sin(angles)",
            "    if x.ndim == 3 and len(x) == x.shape[1]:\n"
            "        angles = angles[:, None]\n"
            "    if x.ndim == 3:\n"
            "        angles = angles[:1]\n"
            "    c, s = torch.cos(angles), torch.sin(angles)",
        )
    ),
    "in double precision": _turn(("return y.to(x.dtype)", "return y")),
    "in single precision": _turn(("return y.to(x.dtype)", "return y.float()")),
    "single precision inside": _turn(("return y.to(x.dtype)", "return y.float().to(x.dtype)")),
    "x is changed": _turn(
        ("    y = torch.cat(", "    if not x.requires_grad:\n        x[..., :P] *= 1.00001\n    y = torch.cat(")
    ),
    "no gradient": _turn(("return y.to(x.dtype)", "return y.to(x.dtype).detach()")),
    "lengths brought to 1": _turn(("return y.to(x.dtype)", "return F.normalize(y, dim=-1).to(x.dtype)")),
    "counted the other way": _anew(("angle = by * freqs.double()", "angle = -by * freqs.double()")),
    "not counted anew": _anew(("angle = by * freqs.double()", "angle = 0 * freqs.double()")),
    "from the first key": TURN
    + """
def counted_anew(keys, by, freqs):
    return turned(keys, torch.arange(keys.shape[-2]) - by, freqs)
""",
    "by whole numbers": TURN + changed(ANEW, ("float(-by)", "float(-int(by))")),
    "only forwards": _anew(("angle = by *", "angle = max(by, 0) *")),
    "by in single precision": TURN + changed(ANEW, ("dtype=torch.float64", "dtype=torch.float32")),
    "an angle in single precision": _anew(("angle = by * freqs.double()", "angle = (by * freqs.float()).double()")),
    "the rest turned, too": _anew(("rest], -1)", "rest * math.cos(by)], -1)")),
    "keys in double precision": _anew((".to(keys.dtype)", "")),
    "keys are changed": _anew(("    angle =", "    if not keys.requires_grad:\n        keys *= 1.00001\n    angle =")),
    "one key less": TURN
    + changed(ANEW, ("return turned(keys, where, freqs)", "return turned(keys, where, freqs)[..., 1:, :]")),
    "the first key only": TURN
    + changed(
        ANEW,
        ("float(-by), dtype=torch.float64)", "0.0, dtype=torch.float64)\n    where[:1] = -by"),
    ),
}

# ----------------------------------------------------------------------- 4, songs of different lengths, both ways

WAYS = """
def two_ways(x, lengths, over_time, over_bands):
    B, M, K, D = x.shape
    real = torch.arange(M)[None, :] < lengths[:, None]
    grid = real[:, :, None, None].expand(B, M, K, D)
    x = torch.where(grid, x, 0.0)
    rows = x.permute(0, 2, 1, 3).reshape(B * K, M, D)
    which = real[:, None, :].expand(B, K, M).reshape(B * K, M)
    y = over_time(rows, which).reshape(B, K, M, D).permute(0, 2, 1, 3)
    x = x + torch.where(grid, y, 0.0)
    tokens = x.reshape(B * M, K, D)[real.reshape(-1)]
    z = tokens + over_bands(tokens)
    result = x.new_zeros(B * M, K, D)
    result[real.reshape(-1)] = z
    return result.reshape(B, M, K, D)
"""
WAYS_BY_SONGS = """
def two_ways(x, lengths, over_time, over_bands):
    batch, frames, bands, dim = x.shape
    rows, real = [], []
    for song, length in zip(x, lengths.tolist()):
        for k in range(bands):
            silence = torch.zeros(frames - length, dim, dtype=x.dtype)
            rows.append(torch.cat([song[:length, k], silence]))
            real.append([m < length for m in range(frames)])
    rows = torch.stack(rows)
    answers = over_time(rows, torch.tensor(real))
    songs = []
    for b, length in enumerate(lengths.tolist()):
        mine = slice(b * bands, (b + 1) * bands)
        songs.append((rows[mine, :length] + answers[mine, :length]).transpose(0, 1))
    tokens = torch.cat(songs)
    tokens = tokens + over_bands(tokens)
    parts = tokens.split(lengths.tolist())
    return torch.stack([torch.cat([part, part.new_zeros(frames - len(part), bands, dim)]) for part in parts])
"""
WAYS_BY_INDEX = """
def two_ways(x, lengths, over_time, over_bands):
    batch, frames, bands, dim = x.shape
    real = torch.zeros(batch, frames, dtype=torch.bool)
    for b in range(batch):
        real[b, :int(lengths[b])] = True
    song, frame = real.nonzero(as_tuple=True)
    clean = torch.zeros_like(x).index_put((song, frame), x[song, frame])
    rows = torch.cat([one.transpose(0, 1) for one in clean], 0)
    masks = torch.cat([row.expand(bands, frames) for row in real], 0)
    y = torch.stack(over_time(rows, masks).split(bands), 0).transpose(1, 2)
    tokens = clean[song, frame] + y[song, frame]
    return torch.zeros_like(x).index_put((song, frame), tokens + over_bands(tokens))
"""
WAYS_RIGHT = {"masks": WAYS, "song by song": WAYS_BY_SONGS, "by index": WAYS_BY_INDEX}


def _ways(*changes):
    return changed(WAYS, *changes)


CLEAN = "    x = torch.where(grid, x, 0.0)\n"
WAYS_WRONG = {
    "padding is left in": _ways((CLEAN, "")),
    "padding times 0": _ways((CLEAN, "    x = x * grid\n")),
    "NaN to 0": _ways((CLEAN, "    x = x.nan_to_num(0.0)\n")),
    "padding is noise": _ways(("torch.where(grid, x, 0.0)", "torch.where(grid, x, 1e-3)")),
    "padding is the last frame": _ways(
        (
            CLEAN,
            CLEAN + "    ends = (lengths - 1).clamp_min(0)[:, None]\n"
            "    x = x[torch.arange(B)[:, None], torch.arange(M).minimum(ends)]\n",
        ),
    ),
    "rows of frames": _ways(("x.permute(0, 2, 1, 3).reshape(B * K, M, D)", "x.reshape(B * K, M, D)")),
    "bands first": _ways(
        ("x.permute(0, 2, 1, 3).reshape(B * K, M, D)", "x.permute(2, 0, 1, 3).reshape(B * K, M, D)"),
        ("real[:, None, :].expand(B, K, M).reshape(B * K, M)", "real[None].expand(K, B, M).reshape(B * K, M)"),
        (".reshape(B, K, M, D).permute(0, 2, 1, 3)", ".reshape(K, B, M, D).permute(1, 2, 0, 3)"),
    ),
    "the mask's bands first": _ways(
        ("real[:, None, :].expand(B, K, M).reshape(B * K, M)", "real[None].expand(K, B, M).reshape(B * K, M)")
    ),
    "bands' frames in one row": _ways(
        ("x.permute(0, 2, 1, 3).reshape(B * K, M, D)", "x.reshape(B, M * K, D)"),
        ("real[:, None, :].expand(B, K, M).reshape(B * K, M)", "real.repeat_interleave(K, 1)"),
        (".reshape(B, K, M, D).permute(0, 2, 1, 3)", ".reshape(B, M, K, D)"),
    ),
    "dims apart": _ways(("x.permute(0, 2, 1, 3).reshape(B * K, M, D)", "x.permute(0, 2, 3, 1).reshape(B * K, M, D)")),
    "put back wrong": _ways((".reshape(B, K, M, D).permute(0, 2, 1, 3)", ".reshape(B, M, K, D)")),
    "put back backwards": _ways(
        (".reshape(B, K, M, D).permute(0, 2, 1, 3)", ".reshape(B, K, M, D).permute(0, 2, 1, 3).flip(2)")
    ),
    "the mask the other way round": _ways(("over_time(rows, which)", "over_time(rows, ~which)")),
    "a mask of numbers": _ways(("over_time(rows, which)", "over_time(rows, which.float())")),
    "no mask": _ways(("over_time(rows, which)", "over_time(rows, torch.ones_like(which))")),
    "a mask a song": _ways(("over_time(rows, which)", "over_time(rows, real.repeat(K, 1)[:B * K])")),
    "one frame too many": _ways(
        ("torch.arange(M)[None, :] < lengths[:, None]", "torch.arange(M)[None, :] <= lengths[:, None]")
    ),
    "one frame too few": _ways(
        ("torch.arange(M)[None, :] < lengths[:, None]", "torch.arange(M)[None, :] < lengths[:, None] - 1"),
        ("    tokens =", "    real = torch.arange(M)[None, :] < lengths[:, None]\n    tokens ="),
    ),
    "padding in front": _ways(
        ("torch.arange(M)[None, :] < lengths[:, None]", "torch.arange(M)[None, :] >= M - lengths[:, None]")
    ),
    "the first song's length": _ways(("< lengths[:, None]", "< lengths[:1, None].expand(B, 1)")),
    "the longest length": _ways(("< lengths[:, None]", "< lengths.max().expand(B, 1)")),
    "lengths of frames axis": _ways(("< lengths[:, None]", "< (lengths[:, None] if B != M else lengths[None, :])")),
    "a song of padding: an error": _ways(
        ("    B, M, K, D = x.shape", "    assert lengths.min() > 0\n    B, M, K, D = x.shape")
    ),
    "a song has one frame at least": _ways(("< lengths[:, None]", "< lengths.clamp_min(1)[:, None]")),
    "frames cut to the longest": _ways(
        ("    B, M, K, D = x.shape", "    x = x[:, :int(lengths.max())]\n    B, M, K, D = x.shape")
    ),
    "only along time": _ways(("z = tokens + over_bands(tokens)", "z = tokens")),
    "only along bands": _ways(("x = x + torch.where(grid, y, 0.0)", "x = x + 0 * torch.where(grid, y, 0.0)")),
    "time isn't added": _ways(("x = x + torch.where(grid, y, 0.0)", "x = torch.where(grid, y, 0.0)")),
    "bands aren't added": _ways(("z = tokens + over_bands(tokens)", "z = over_bands(tokens)")),
    "side by side": _ways(
        (
            "    x = x + torch.where(grid, y, 0.0)\n    tokens",
            "    first, x = x, x + torch.where(grid, y, 0.0)\n    tokens",
        ),
        ("z = tokens + over_bands(tokens)", "z = tokens + over_bands(first.reshape(B * M, K, D)[real.reshape(-1)])"),
    ),
    "added to what came in": _ways(
        (
            "    x = x + torch.where(grid, y, 0.0)\n    tokens",
            "    first, x = x, x + torch.where(grid, y, 0.0)\n    tokens",
        ),
        ("z = tokens + over_bands(tokens)", "z = first.reshape(B * M, K, D)[real.reshape(-1)] + over_bands(tokens)"),
    ),
    "bands first, then time": """
def two_ways(x, lengths, over_time, over_bands):
    B, M, K, D = x.shape
    real = torch.arange(M)[None, :] < lengths[:, None]
    grid = real[:, :, None, None].expand(B, M, K, D)
    x = torch.where(grid, x, 0.0)
    tokens = x[real]
    x = x.index_put((real,), tokens + over_bands(tokens))
    rows = x.permute(0, 2, 1, 3).reshape(B * K, M, D)
    which = real[:, None, :].expand(B, K, M).reshape(B * K, M)
    y = over_time(rows, which).reshape(B, K, M, D).permute(0, 2, 1, 3)
    return x + torch.where(grid, y, 0.0)
""",
    "NaN of the answer times 0": _ways(
        ("torch.where(grid, y, 0.0)", "y * grid"), ("x.new_zeros(B * M, K, D)", "(0 * x).reshape(B * M, K, D)")
    ),
    "the answer's NaN made 0": _ways(
        ("torch.where(grid, y, 0.0)", "y.nan_to_num(0.0)"),
        ("x.new_zeros(B * M, K, D)", "x.reshape(B * M, K, D).clone()"),
    ),
    "padding goes along bands": _ways(
        ("x.reshape(B * M, K, D)[real.reshape(-1)]", "x.reshape(B * M, K, D)"),
        ("result[real.reshape(-1)] = z", "result[real.reshape(-1)] = z[real.reshape(-1)]"),
    ),
    "songs one by one along bands": _ways(
        ("over_bands(tokens)", "torch.cat([over_bands(t) for t in tokens.split(lengths.tolist()) if len(t)])")
    ),
    "songs one by one along time": _ways(
        ("over_time(rows, which)", "torch.cat([over_time(r, w) for r, w in zip(rows.split(K), which.split(K))])")
    ),
    "over_time twice": _ways(("    y = over_time", "    over_time(rows, which)\n    y = over_time")),
    "over_bands twice": _ways(("    z = tokens", "    over_bands(tokens)\n    z = tokens")),
    "frame after frame, not song after song": _ways(
        ("x.reshape(B * M, K, D)[real.reshape(-1)]", "x.transpose(0, 1).reshape(B * M, K, D)[real.T.reshape(-1)]"),
        ("    return result.reshape(B, M, K, D)", "    return result.reshape(M, B, K, D).transpose(0, 1)"),
        ("result[real.reshape(-1)] = z", "result[real.T.reshape(-1)] = z"),
    ),
    "bands as rows over bands": _ways(("over_bands(tokens)", "over_bands(tokens.transpose(1, 2)).transpose(1, 2)")),
    "padding isn't 0 in the end": _ways(
        ("result = x.new_zeros(B * M, K, D)", "result = torch.ones_like(x).reshape(B * M, K, D)")
    ),
    "padding is what it was": _ways(
        ("    B, M, K, D = x.shape", "    whole = x\n    B, M, K, D = x.shape"),
        ("return result.reshape(B, M, K, D)", "return torch.where(grid, result.reshape(B, M, K, D), whole)"),
    ),
    "packed to the front": _ways(("result[real.reshape(-1)] = z", "result[:len(z)] = z")),
    "x is changed": _ways((CLEAN, "    if not x.requires_grad:\n        x[~real] = 0.0\n" + CLEAN)),
    "lengths are changed": _ways(("    grid =", "    lengths.clamp_(1, M)\n    grid =")),
    "no gradient": _ways(("    rows = x", "    x = x.detach()\n    rows = x")),
    "no gradient along time": _ways(("torch.where(grid, y, 0.0)", "torch.where(grid, y, 0.0).detach()")),
    "in double precision": _ways(("return result.reshape(B, M, K, D)", "return result.reshape(B, M, K, D).double()")),
    "rows in double precision": _ways(("over_time(rows, which)", "over_time(rows.double(), which).to(x.dtype)")),
    "in single precision": _ways(("return result.reshape(B, M, K, D)", "return result.reshape(B, M, K, D).float()")),
    "songs and frames swapped": _ways(
        ("return result.reshape(B, M, K, D)", "return result.reshape(B, M, K, D).transpose(0, 1)")
    ),
    "normed in between": _ways(("    tokens =", "    x = F.normalize(x, dim=-1)\n    tokens =")),
}

# ------------------------------------------------------------------------------------------ 5, masks that add up

MASKS = """
def masks_of(numbers, widths):
    masks, begin = [], 0
    for width in widths:
        a = numbers[..., begin:begin + 2 * width]
        g = numbers[..., begin + 2 * width:begin + 4 * width]
        y = a * g.sigmoid()
        masks.append(torch.complex(y[..., ::2], y[..., 1::2]))
        begin += 4 * width
    return torch.cat(masks, dim=-1).transpose(-1, -2)

"""
MASKS_BY_GLU = """
def masks_of(numbers, widths):
    y = torch.cat([F.glu(band, -1) for band in numbers.split([4 * w for w in widths], -1)], -1)
    pairs = y.reshape(*y.shape[:-1], sum(widths), 2).contiguous()
    return torch.view_as_complex(pairs).permute(0, 1, 3, 2)

"""
ADD = """
def adding_up(masks, X):
    M = masks.to(torch.complex128)
    mix = X.to(torch.complex128).unsqueeze(1)
    size = M.abs()
    top = size.amax(1, keepdim=True)
    nothing = top == 0
    energy = (size / torch.where(nothing, 1.0, top)) ** 2
    energy = torch.where(nothing, 1.0, energy)
    share = energy / energy.sum(1, keepdim=True)
    S = M * mix
    missing = mix - S.sum(1, keepdim=True)
    return (S + share * missing).to(masks.dtype)
"""
ADD_BY_SOFTMAX = """
def adding_up(masks, X):
    # |M|^2 over their sum is a softmax of 2 log |M|
    silent = masks == 0
    safe = torch.where(silent, torch.ones_like(masks), masks)
    log = torch.where(silent, -math.inf, 2 * safe.to(torch.complex128).abs().log())
    none = silent.all(1, keepdim=True)
    share = torch.where(none, 0.0, log).softmax(1)
    Y = masks.to(torch.complex128) * X[:, None]
    return (Y + share * (X[:, None] - Y.sum(1, keepdim=True))).to(masks.dtype)
"""
ADD_BY_STEMS = """
def adding_up(masks, X):
    stems = [masks[:, s].to(torch.complex128) for s in range(masks.shape[1])]
    X = X.to(torch.complex128)
    size = torch.stack([torch.maximum(m.real.abs(), m.imag.abs()) for m in stems]).max(0).values
    zero = size == 0
    size = size.masked_fill(zero, 1.0)
    energies = [((m.real / size) ** 2 + (m.imag / size) ** 2).masked_fill(zero, 1.0) for m in stems]
    whole = sum(energies)
    rest = X
    for m in stems:
        rest = rest - m * X
    return torch.stack([m * X + e / whole * rest for m, e in zip(stems, energies)], 1).to(masks.dtype)
"""
MASKS_RIGHT = {
    "band after band": MASKS + ADD,
    "GLU and softmax": MASKS_BY_GLU + ADD_BY_SOFTMAX,
    "stem after stem": MASKS + ADD_BY_STEMS,
}


def _masks(*changes):
    return changed(MASKS, *changes) + ADD


def _add(*changes):
    return MASKS + changed(ADD, *changes)


MASKS_WRONG = {
    "silent where the sum is 0": _add(("nothing = top == 0", "nothing = M.sum(1, keepdim=True) == 0")),
    "all gates at the end": """
def masks_of(numbers, widths):
    y = F.glu(numbers, -1)
    return torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous()).mT

"""
    + ADD,
    "gates first": _masks(("y = a * g.sigmoid()", "y = g * a.sigmoid()")),
    "no gates": _masks(("y = a * g.sigmoid()", "y = a")),
    "gates of tanh": _masks(("g.sigmoid()", "g.tanh()")),
    "gates of ReLU": _masks(("g.sigmoid()", "g.relu()")),
    "gates as they are": _masks(("g.sigmoid()", "g")),
    "a tanh before the gate": _masks(("y = a *", "y = a.tanh() *")),
    "a sigmoid on all": _masks(("y = a *", "y = a.sigmoid() *")),
    "gates shut": _masks(("g.sigmoid()", "(-g).sigmoid()")),
    "one gate a bin": _masks(("g.sigmoid()", "g[..., ::2].repeat_interleave(2, -1).sigmoid()")),
    "gates after each bin": _masks(
        (
            "        a = numbers[..., begin:begin + 2 * width]\n"
            "        g = numbers[..., begin + 2 * width:begin + 4 * width]\n",
            "        both = numbers[..., begin:begin + 4 * width].unflatten(-1, (width, 2, 2))\n"
            "        a, g = both[..., 0, :].flatten(-2), both[..., 1, :].flatten(-2)\n",
        )
    ),
    "gates by exp": _masks(("g.sigmoid()", "g.exp() / (1 + g.exp())")),
    "all real parts first": _masks(
        ("torch.complex(y[..., ::2], y[..., 1::2])", "torch.complex(y[..., :width], y[..., width:])")
    ),
    "imaginary first": _masks(("torch.complex(y[..., ::2], y[..., 1::2])", "torch.complex(y[..., 1::2], y[..., ::2])")),
    "conjugate": _masks(("torch.complex(y[..., ::2], y[..., 1::2])", "torch.complex(y[..., ::2], -y[..., 1::2])")),
    "size and angle": _masks(("torch.complex(y[..., ::2], y[..., 1::2])", "torch.polar(y[..., ::2], y[..., 1::2])")),
    "pairs of numbers": _masks(
        ("torch.complex(y[..., ::2], y[..., 1::2])", "y"),
    ),
    "equal bands": _masks(
        (
            "    for width in widths:\n",
            "    for width in torch.tensor(range(sum(widths))).tensor_split(len(widths)):\n"
            "        width = len(width)\n",
        )
    ),
    "one band": _masks(("    for width in widths:\n", "    for width in [sum(widths)]:\n")),
    "bands of one bin": _masks(("    for width in widths:\n", "    for width in [1] * sum(widths):\n")),
    "the last band missing": _masks(("torch.cat(masks, dim=-1)", "torch.cat(masks[:-1] or masks, dim=-1)")),
    "bands from above": _masks(("torch.cat(masks, dim=-1)", "torch.cat(masks[::-1], dim=-1)")),
    "two numbers a step": _masks(
        ("begin += 4 * width", "begin += 2 * width"),
        ("    return torch", "    assert begin <= numbers.shape[-1]\n    return torch"),
    ),
    "frames before bins": _masks((".transpose(-1, -2)", "")),
    "bins before stems": _masks((".transpose(-1, -2)", ".permute(0, 3, 1, 2)")),
    "held to size 1": _masks(
        (".transpose(-1, -2)", ".transpose(-1, -2)\n    "),
        ("return torch.cat", "masks = [m / m.abs().clamp_min(1) for m in masks]\n    return torch.cat"),
    ),
    "masks in single precision": _masks(
        ("    return torch.cat(masks, dim=-1)", "    return torch.cat(masks, dim=-1).to(torch.complex64)")
    ),
    "masks in double precision": _masks(
        ("    return torch.cat(masks, dim=-1)", "    return torch.cat(masks, dim=-1).to(torch.complex128)")
    ),
    "masks have no gradient": _masks(("y = a * g.sigmoid()", "y = (a * g.sigmoid()).detach()")),
    "gates have no gradient": _masks(("g.sigmoid()", "g.sigmoid().detach()")),
    "numbers are changed": _masks(
        ("        y = a", "        if not a.requires_grad:\n            a *= 1.00001\n        y = a")
    ),
    "the number of stems is the batch": _masks((".transpose(-1, -2)", ".transpose(-1, -2).transpose(0, 1)")),
    "nothing is added": _add(("S + share * missing", "S")),
    "equal shares": _add(
        ("share = energy / energy.sum(1, keepdim=True)", "share = torch.ones_like(energy) / energy.shape[1]")
    ),
    "shares by size": _add((" ** 2\n", "\n")),
    "shares by the fourth power": _add((" ** 2\n", " ** 4\n")),
    "shares by real parts": _add(("size = M.abs()", "size = M.real.abs()")),
    "shares by the estimates' level over frames": _add(
        ("size = M.abs()", "size = M.abs().mean(-1, keepdim=True).expand(M.shape)")
    ),
    "all to the strongest": _add(
        (
            "share = energy / energy.sum(1, keepdim=True)",
            "share = (energy == energy.amax(1, keepdim=True)).double()\n    share = share / share.sum(1, keepdim=True)",
        )
    ),
    "all to the first": _add(
        ("share = energy / energy.sum(1, keepdim=True)", "share = torch.zeros_like(energy)\n    share[:, 0] = 1")
    ),
    "shares over bins": _add(("energy.sum(1, keepdim=True)", "energy.sum(2, keepdim=True)")),
    "shares that don't add up": _add(("energy.sum(1, keepdim=True)", "(energy.sum(1, keepdim=True) + 1e-2)")),
    "a little added": _add(
        (
            "energy = (size / torch.where(nothing, 1.0, top)) ** 2\n    energy = torch.where(nothing, 1.0, energy)\n",
            "energy = size ** 2 + 1e-10\n",
        )
    ),
    "squares of double precision": _add(
        (
            "energy = (size / torch.where(nothing, 1.0, top)) ** 2\n    energy = torch.where(nothing, 1.0, energy)\n",
            "energy = torch.where(nothing, 1.0, size ** 2)\n",
        )
    ),
    "squares in single precision": _add(
        (
            "energy = (size / torch.where(nothing, 1.0, top)) ** 2\n    energy = torch.where(nothing, 1.0, energy)\n",
            "energy = torch.where(nothing, 1.0, masks.abs() ** 2)\n",
        )
    ),
    "all by the loudest bin": _add(
        (
            "top = size.amax(1, keepdim=True)",
            "top = size.amax((1, 2, 3), keepdim=True) if size.numel() else size[:, :1]",
        ),
        ("nothing = top == 0", "nothing = size.amax(1, keepdim=True) == 0"),
    ),
    "silent masks: 0 / 0": _add(("    energy = torch.where(nothing, 1.0, energy)\n", "")),
    "silent masks get nothing": _add(
        ("    energy = torch.where(nothing, 1.0, energy)\n", ""),
        ("energy / energy.sum(1, keepdim=True)", "energy / energy.sum(1, keepdim=True).clamp_min(1e-300)"),
    ),
    "silent masks: the first stem": _add(
        (
            "torch.where(nothing, 1.0, energy)",
            "torch.where(nothing, F.one_hot(torch.tensor(0), masks.shape[1])[:, None, None].double(), energy)",
        )
    ),
    "small masks are silent": _add(("nothing = top == 0", "nothing = top < 1e-12")),
    "0 / 0 put right afterwards": _add(
        ("    energy = torch.where(nothing, 1.0, energy)\n", ""),
        ("torch.where(nothing, 1.0, top)", "top"),
        (
            "share = energy / energy.sum(1, keepdim=True)",
            "share = torch.where(nothing, 1 / size.shape[1], energy / energy.sum(1, keepdim=True))",
        ),
    ),
    "a root in the gradient": _add(("size = M.abs()", "size = (M.real ** 2 + M.imag ** 2).sqrt()")),
    "the mixture less one stem": _add(("mix - S.sum(1, keepdim=True)", "mix - S[:, :1]")),
    "missing turned round": _add(("mix - S.sum(1, keepdim=True)", "S.sum(1, keepdim=True) - mix")),
    "the mean missing": _add(("mix - S.sum(1, keepdim=True)", "mix - S.mean(1, keepdim=True)")),
    "masks divided by their sum": _add(
        (
            "return (S + share * missing)",
            "total = M.sum(1, keepdim=True)\n"
            "    return (torch.where(total.abs() > 0, M / total, 1 / M.shape[1]) * mix)",
        )
    ),
    "missing of masks": _add(("missing = mix - S.sum(1, keepdim=True)", "missing = 1 - M.sum(1, keepdim=True)")),
    "sizes of the mixture": _add(("S = M * mix", "S = M * mix.abs()")),
    "sizes of the masks": _add(("S = M * mix", "S = M.abs() * mix")),
    "conjugate masks": _add(("S = M * mix", "S = M.conj() * mix")),
    "real and imaginary apart": _add(("S = M * mix", "S = torch.complex(M.real * mix.real, M.imag * mix.imag)")),
    "the last stem is what is left": _add(
        (
            "return (S + share * missing)",
            "S = torch.cat([S[:, :-1], mix - S[:, :-1].sum(1, keepdim=True)], 1)\n    return S",
        )
    ),
    "stems in double precision": _add((".to(masks.dtype)", "")),
    "stems in single precision": _add((".to(masks.dtype)", ".to(torch.complex64)")),
    "single precision inside": _add(
        ("M = masks.to(torch.complex128)", "M = masks.to(torch.complex64).to(torch.complex128)")
    ),
    "stems have no gradient": _add(("return (S + share * missing)", "return (S + share * missing).detach()")),
    "shares have no gradient": _add(("size = M.abs()", "size = M.abs().detach()")),
    "the mixture has no gradient": _add(("mix = X.to", "mix = X.detach().to")),
    "masks are changed": _add(
        ("    M = masks", "    if not masks.requires_grad:\n        masks *= 1.00001\n    M = masks")
    ),
    "the stems' sum": _add(("(S + share * missing)", "(S + share * missing).sum(1)")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    3,
    """
from course_lib.band_split import rotated

def turned(x, positions, freqs):
    P = len(freqs)
    angles = torch.outer(positions.double(), freqs.double()).repeat_interleave(2, -1)
    pairs = torch.stack([x[..., :P], x[..., P:2 * P]], -1).flatten(-2).double()
    y = rotated(pairs, angles).to(x.dtype)
    return torch.cat([y[..., ::2], y[..., 1::2], x[..., 2 * P:]], -1)

def counted_anew(keys, by, freqs):
    return turned(keys, torch.full((keys.shape[-2],), -by).double(), freqs)
""",
)


CASES = as_cells(
    (BANDS_RIGHT, BANDS_WRONG),
    (JOIN_RIGHT, JOIN_WRONG),
    (TURN_RIGHT, TURN_WRONG),
    (WAYS_RIGHT, WAYS_WRONG),
    (MASKS_RIGHT, MASKS_WRONG),
)
