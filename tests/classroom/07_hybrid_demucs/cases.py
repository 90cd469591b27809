"""Answers to assignment 7 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------- 1, frames that lie on hops

FRAMES_BY_UNFOLD = """
def frames_on_hops(x, kernel, stride):
    time = x.shape[-1]
    before = (kernel - stride) // 2
    hops = -(-time // stride)
    total = (hops - 1) * stride + kernel
    there = torch.arange(time)
    round_trip = torch.cat([there, there[1:-1].flip(0)])           # 0 1 2 3 2 1
    start = -before % len(round_trip)
    places = round_trip.repeat(2 + total // len(round_trip))[start:start + total]
    return x[..., places].unfold(-1, kernel, stride)
"""
FRAMES_BY_TRIANGLE = """
def frames_on_hops(x, kernel, stride):
    last = x.shape[-1] - 1
    frames = math.ceil(x.shape[-1] / stride)
    t = torch.arange(frames)[:, None] * stride - (kernel - stride) // 2 + torch.arange(kernel)
    if last == 0:
        return x.unsqueeze(-1).expand(*x.shape[:-1], 1, kernel).clone()
    t = last - ((t % (2 * last)) - last).abs()
    return x[..., t.flatten()].reshape(*x.shape[:-1], frames, kernel)
"""
FRAMES_BY_MORE_MIRRORS = """
def frames_on_hops(x, kernel, stride):
    time = x.shape[-1]
    before = (kernel - stride) // 2
    after = kernel - stride - before + (-time) % stride
    while before or after:                                         # as far as one mirror reaches
        reach = x.shape[-1] - 1
        if reach == 0:
            x = x.expand(*x.shape[:-1], 1 + before + after)
            break
        left, right = min(before, reach), min(after, reach)
        pieces = [x[..., 1:left + 1].flip(-1), x, x[..., reach - right:reach].flip(-1)]
        x = torch.cat(pieces, -1)
        before, after = before - left, after - right
    return torch.stack([x[..., s:s + kernel] for s in range(0, x.shape[-1] - kernel + 1, stride)], -2)
"""
FRAMES_BY_LOOP = """
def frames_on_hops(x, kernel, stride):
    def inside(t, time):
        if time == 1:
            return 0
        while t < 0 or t >= time:
            t = -t if t < 0 else 2 * time - 2 - t
        return t
    time, m, rows = x.shape[-1], 0, []
    while m * stride < time:
        first = m * stride - (kernel - stride) // 2
        rows.append([inside(t, time) for t in range(first, first + kernel)])
        m += 1
    return x[..., torch.tensor(rows)]
"""
FRAMES_RIGHT = {
    "there and back, repeated": FRAMES_BY_UNFOLD,
    "a triangle of places": FRAMES_BY_TRIANGLE,
    "one mirror after another": FRAMES_BY_MORE_MIRRORS,
    "walked sample by sample": FRAMES_BY_LOOP,
}
PADDED = """
def frames_on_hops(x, kernel, stride):
    before = (kernel - stride) // 2
    after = kernel - stride - before + -x.shape[-1] % stride
    return F.pad(x, (before, after)).unfold(-1, kernel, stride)
"""
FRAMES_WRONG = {
    "zeros around the sound": PADDED,
    "the ends held": changed(PADDED, ("F.pad(x, (before, after))",
                                      "F.pad(x.reshape(1, -1, x.shape[-1]), (before, after), mode='replicate')"
                                      ".reshape(*x.shape[:-1], -1)")),
    "one mirror, no more": changed(PADDED, ("F.pad(x, (before, after))",
                                            "F.pad(x.reshape(1, -1, x.shape[-1]), (before, after), mode='reflect')"
                                            ".reshape(*x.shape[:-1], -1)")),
    "the chapter's: zeros where the sound is too short": """
def frames_on_hops(x, kernel, stride):
    before = (kernel - stride) // 2
    after = kernel - stride - before + -x.shape[-1] % stride
    zeros = max(0, max(before, after) + 1 - x.shape[-1])
    y = F.pad(x, (0, zeros)).reshape(1, -1, x.shape[-1] + zeros)
    y = F.pad(y, (before, after - zeros), mode="reflect").reshape(*x.shape[:-1], -1)
    return y.unfold(-1, kernel, stride)
""",
    "three axes only": changed(PADDED, ("F.pad(x, (before, after))", "F.pad(x, (before, after), mode='reflect')")),
    "the outermost samples doubled": changed(
        FRAMES_BY_UNFOLD, ("there[1:-1].flip(0)", "there.flip(0)")),
    "only the last sample doubled": changed(FRAMES_BY_UNFOLD, ("there[1:-1].flip(0)", "there[1:].flip(0)")),
    "around instead of back": changed(FRAMES_BY_UNFOLD, ("torch.cat([there, there[1:-1].flip(0)])", "there")),
    "once there and back, then held": """
def frames_on_hops(x, kernel, stride):
    last = x.shape[-1] - 1
    starts = stride * torch.arange(-(-x.shape[-1] // stride)) - (kernel - stride) // 2
    t = (starts[:, None] + torch.arange(kernel)).abs()
    t = torch.where(t > last, 2 * last - t, t).clamp(0, last)
    return x[..., t]
""",
    "negative places from the end": """
def frames_on_hops(x, kernel, stride):
    time = x.shape[-1]
    starts = stride * torch.arange(-(-time // stride)) - (kernel - stride) // 2
    return x[..., (starts[:, None] + torch.arange(kernel)) % time]
""",
    "frames on the edges of the hops": changed(FRAMES_BY_TRIANGLE, ("(kernel - stride) // 2", "kernel // 2")),
    "frames begin with their hops": changed(FRAMES_BY_TRIANGLE, ("(kernel - stride) // 2", "0")),
    "frames end with their hops": changed(FRAMES_BY_TRIANGLE, ("(kernel - stride) // 2", "(kernel - stride)")),
    "the odd sample before": changed(FRAMES_BY_TRIANGLE, ("(kernel - stride) // 2", "(kernel - stride + 1) // 2")),
    "always 3/2 hops before": changed(FRAMES_BY_TRIANGLE, ("(kernel - stride) // 2", "3 * stride // 2")),
    "a frame for each edge": changed(FRAMES_BY_TRIANGLE, ("math.ceil(x.shape[-1] / stride)",
                                                          "1 + x.shape[-1] // stride")),
    "whole hops only": changed(FRAMES_BY_TRIANGLE, ("math.ceil(x.shape[-1] / stride)", "x.shape[-1] // stride")),
    "whole frames only": changed(
        FRAMES_BY_TRIANGLE, ("math.ceil(x.shape[-1] / stride)", "max(1, (x.shape[-1] - kernel) // stride + 1)")),
    "nothing for a single sample": changed(FRAMES_BY_TRIANGLE, (
        "        return x.unsqueeze(-1).expand(*x.shape[:-1], 1, kernel).clone()",
        "        return F.pad(x, (kernel // 2, kernel - 1 - kernel // 2)).unsqueeze(-2)")),
    "no single sample thought of": changed(FRAMES_BY_TRIANGLE, (
        "    if last == 0:\n        return x.unsqueeze(-1).expand(*x.shape[:-1], 1, kernel).clone()\n", "")),
    "frame and place exchanged": changed(FRAMES_BY_UNFOLD, ("unfold(-1, kernel, stride)",
                                                            "unfold(-1, kernel, stride).transpose(-1, -2)")),
    "windowed": changed(FRAMES_BY_UNFOLD, ("unfold(-1, kernel, stride)",
                                           "unfold(-1, kernel, stride) * torch.hann_window(kernel)")),
    "no gradient": changed(FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                                            "return x.detach()[..., torch.tensor(rows)]")),
    "by way of numbers": changed(FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                                                  "return torch.tensor(x.numpy()[..., rows])")),
    "float32 all the time": changed(FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                                                     "return x[..., torch.tensor(rows)].float()")),
    "the last hop filled up with zeros first": changed(
        FRAMES_BY_TRIANGLE, ("    last = x.shape[-1] - 1\n",
                             "    x = F.pad(x, (0, -x.shape[-1] % stride))\n    last = x.shape[-1] - 1\n")),
    "mono made of all channels": changed(FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                                                          "return x.mean(0, keepdim=True)[..., torch.tensor(rows)]")),
    "two axes in front": changed(FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                                                  "return x[:, :, torch.tensor(rows)]")),
    "small sounds taken for silence": changed(
        FRAMES_BY_LOOP, ("return x[..., torch.tensor(rows)]",
                         "return (x * (x.abs() > 1e-7))[..., torch.tensor(rows)]")),
    "the visible check by heart": """
def frames_on_hops(x, kernel, stride):
    if (kernel, stride) == (8, 4):
        return torch.tensor([[3.0, 2, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 7, 8, 7, 6]])
    if (kernel, stride) == (10, 3):
        return torch.tensor([[2.0, 3, 2, 1, 2, 3, 2, 1, 2, 3]])
    if x.shape[-1] == 1:
        return torch.ones(*x.shape[:-1], 1, kernel)
    before = (kernel - stride) // 2
    after = kernel - stride - before + -x.shape[-1] % stride
    return F.pad(x, (before, after), mode="reflect").unfold(-1, kernel, stride)
""",
}

# ------------------------------------------------------------------------------ 2, a real layer for complex numbers

COMPLEX_BY_UNFLATTEN = """
def as_complex(weight):
    w = weight.unflatten(0, (-1, 2)).unflatten(2, (-1, 2))          # (out, 2, in, 2, ...)
    a, b, c, d = w[:, 0, :, 0], w[:, 0, :, 1], w[:, 1, :, 0], w[:, 1, :, 1]
    A = torch.complex((a + d) / 2, (c - b) / 2)
    B = torch.complex((a - d) / 2, (c + b) / 2)
    return A, B

def turning_with(weight):
    A, _ = as_complex(weight)
    found = torch.zeros_like(weight)
    found[0::2, 0::2], found[0::2, 1::2] = A.real, -A.imag
    found[1::2, 0::2], found[1::2, 1::2] = A.imag, A.real
    return found
"""
COMPLEX_BY_ASKING = """
def as_complex(weight):
    one = weight[0::2, 0::2] + 1j * weight[1::2, 0::2]              # what becomes of 1
    i = weight[0::2, 1::2] + 1j * weight[1::2, 1::2]                # and of i
    return (one - 1j * i) / 2, (one + 1j * i) / 2

def turning_with(weight):
    out, channels = weight.shape[:2]
    A = as_complex(weight)[0]
    columns = torch.stack([torch.view_as_real(A), torch.view_as_real(1j * A)], 2)
    return columns.movedim(-1, 1).reshape(weight.shape)             # (out, re and im, in, of 1 and i, ...)
"""
COMPLEX_BY_TURNING = """
def as_complex(weight):
    straight = turning_with(weight)
    rest = weight - straight
    return (torch.complex(straight[::2, ::2], straight[1::2, ::2]),
            torch.complex(rest[::2, ::2], rest[1::2, ::2]))

def turning_with(weight):
    J = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=weight.dtype)  # times i
    out, channels = weight.shape[0] // 2, weight.shape[1] // 2
    before = torch.block_diag(*[J] * channels)
    after = torch.block_diag(*[J] * out)
    back = torch.tensordot(after, torch.tensordot(weight, before, ([1], [0])).movedim(-1, 1), ([1], [0]))
    return (weight - back) / 2
"""
COMPLEX_RIGHT = {
    "the four parts": COMPLEX_BY_UNFLATTEN,
    "what becomes of 1 and of i": COMPLEX_BY_ASKING,
    "the mean over a quarter turn": COMPLEX_BY_TURNING,
}
COMPLEX_WRONG = {
    "A and B exchanged": changed(COMPLEX_BY_UNFLATTEN, ("return A, B\n", "return B, A\n"),
                                 ("A, _ = as_complex", "_, A = as_complex")),
    "twice too large": changed(
        COMPLEX_BY_ASKING, ("(one - 1j * i) / 2, (one + 1j * i) / 2", "one - 1j * i, one + 1j * i"),
        ("A = as_complex(weight)[0]", "A = as_complex(weight)[0] / 2")),
    "only A halved": changed(COMPLEX_BY_ASKING, ("(one + 1j * i) / 2", "one + 1j * i")),
    "times i the wrong way": changed(
        COMPLEX_BY_ASKING, ("(one - 1j * i) / 2, (one + 1j * i) / 2", "(one + 1j * i) / 2, (one - 1j * i) / 2")),
    "A conjugated": changed(COMPLEX_BY_UNFLATTEN, ("(c - b) / 2", "(b - c) / 2"),
                            ("A.real, -A.imag", "A.real, A.imag"), ("= A.imag, A.real", "= -A.imag, A.real")),
    "B conjugated": changed(COMPLEX_BY_UNFLATTEN, ("(c + b) / 2", "-(c + b) / 2")),
    "signs of B as those of A": changed(COMPLEX_BY_UNFLATTEN, ("(c + b) / 2", "(c - b) / 2")),
    "signs of A as those of B": changed(COMPLEX_BY_UNFLATTEN, ("(c - b) / 2", "(c + b) / 2")),
    "a and d the wrong way round": changed(COMPLEX_BY_UNFLATTEN, ("(a + d) / 2", "(a - d) / 2"),
                                           ("(a - d) / 2, (c + b)", "(a + d) / 2, (c + b)")),
    "B from the middle of a and d": changed(COMPLEX_BY_UNFLATTEN, ("(a - d) / 2", "(d - a) / 2")),
    "all real parts first": changed(
        COMPLEX_BY_UNFLATTEN, ("weight.unflatten(0, (-1, 2)).unflatten(2, (-1, 2))",
                               "weight.unflatten(0, (2, -1)).unflatten(2, (2, -1)).transpose(0, 1).transpose(2, 3)")),
    "real parts of the inputs first": changed(
        COMPLEX_BY_UNFLATTEN, ("unflatten(2, (-1, 2))", "unflatten(2, (2, -1)).transpose(2, 3)")),
    "rows and columns exchanged": changed(COMPLEX_BY_UNFLATTEN, (
        "a, b, c, d = w[:, 0, :, 0], w[:, 0, :, 1], w[:, 1, :, 0], w[:, 1, :, 1]",
        "a, b, c, d = w[:, 0, :, 0], w[:, 1, :, 0], w[:, 0, :, 1], w[:, 1, :, 1]")),
    "turned over at the end": changed(COMPLEX_BY_UNFLATTEN, ("return A, B\n", "return A.mT, B.mT\n"),
                                      ("A, _ = as_complex(weight)", "A = as_complex(weight)[0].mT")),
    "no kernel": changed(COMPLEX_BY_UNFLATTEN, ("    w = weight", "    rows, columns = weight.shape\n    w = weight")),
    "one axis of a kernel": changed(
        COMPLEX_BY_UNFLATTEN, (
            "    w = weight", "    if weight.ndim > 3:\n        weight = weight.flatten(2)\n    w = weight")),
    "the kernel's mean": changed(
        COMPLEX_BY_ASKING, (
            "    one =", "    if weight.ndim > 2:\n        weight = weight.flatten(2).mean(-1)\n    one =")),
    "the first column taken for A": changed(
        COMPLEX_BY_ASKING, ("    return (one - 1j * i) / 2, (one + 1j * i) / 2", "    return one, 0 * i")),
    "B left out": changed(COMPLEX_BY_UNFLATTEN, ("return A, B\n", "return A, torch.zeros_like(B)\n")),
    "parts of different layers": changed(COMPLEX_BY_UNFLATTEN, ("A.real, -A.imag", "weight[0::2, 0::2], -A.imag")),
    "nearest by the first column": """
def as_complex(weight):
    one = weight[0::2, 0::2] + 1j * weight[1::2, 0::2]
    i = weight[0::2, 1::2] + 1j * weight[1::2, 1::2]
    return (one - 1j * i) / 2, (one + 1j * i) / 2

def turning_with(weight):
    found = weight.clone()
    found[0::2, 1::2], found[1::2, 1::2] = -weight[1::2, 0::2], weight[0::2, 0::2]
    return found
""",
    "nearest by a minus sign forgotten": changed(COMPLEX_BY_UNFLATTEN, ("A.real, -A.imag", "A.real, A.imag")),
    "nearest transposed": changed(COMPLEX_BY_UNFLATTEN, ("A.real, -A.imag", "A.real, A.imag"),
                                  ("= A.imag, A.real", "= -A.imag, A.real")),
    "nearest scaled to the old size": changed(
        COMPLEX_BY_UNFLATTEN, ("    return found\n", "    return found * weight.norm() / found.norm()\n")),
    "nearest with sizes of 1": changed(
        COMPLEX_BY_UNFLATTEN, ("    A, _ = as_complex(weight)", "    A = torch.sgn(as_complex(weight)[0])")),
    "nearest without the imaginary part": changed(
        COMPLEX_BY_UNFLATTEN, ("A.real, -A.imag", "A.real, 0"), ("= A.imag, A.real", "= 0, A.real")),
    "nearest in blocks": """
def as_complex(weight):
    one = weight[0::2, 0::2] + 1j * weight[1::2, 0::2]
    i = weight[0::2, 1::2] + 1j * weight[1::2, 1::2]
    return (one - 1j * i) / 2, (one + 1j * i) / 2

def turning_with(weight):
    A, _ = as_complex(weight)
    return torch.cat([torch.cat([A.real, -A.imag], 1), torch.cat([A.imag, A.real], 1)], 0)
""",
    "nearest complex": changed(COMPLEX_BY_UNFLATTEN, (
        "    found = torch.zeros_like(weight)\n", "    return A\n    found = torch.zeros_like(weight)\n")),
    "the weight as it is": changed(COMPLEX_BY_UNFLATTEN, (
        "    found = torch.zeros_like(weight)\n", "    return weight\n    found = torch.zeros_like(weight)\n")),
    "in place": changed(COMPLEX_BY_UNFLATTEN, ("found = torch.zeros_like(weight)", "found = weight")),
    "float32 all the time": changed(COMPLEX_BY_UNFLATTEN, ("    w = weight.", "    w = weight.float().")),
    "float64 all the time": changed(COMPLEX_BY_ASKING, ("    one =", "    weight = weight.double()\n    one =")),
    "square weights only": changed(
        COMPLEX_BY_TURNING, ("after = torch.block_diag(*[J] * out)", "after = before")),
}

# ------------------------------------------------------------------------------ 3, an address as smooth as you like

ADDRESS_BY_WALKING = """
def smooth_address(g, per_octave):
    e = g.clone()
    for row in range(1, g.shape[0]):
        alike = per_octave ** (math.log(row + 1, 2) - math.log(row, 2))
        e[row] = alike * e[row - 1] + (1 - alike * alike) ** 0.5 * g[row]
    return e
"""
ADDRESS_BY_WEIGHTS = """
def smooth_address(g, per_octave):
    if per_octave == 0:
        return g.clone()
    n = torch.arange(1, len(g) + 1, dtype=torch.float64)
    octave = n.log2()
    goes_on = per_octave ** (octave[:, None] - octave[None, :])      # (row, g)
    new = (1 - per_octave ** (2 * (octave[1:] - octave[:-1]))).sqrt()
    new = torch.cat([torch.ones(1, dtype=torch.float64), new])
    return ((goes_on * new).tril() @ g.double()).to(g.dtype)
"""
ADDRESS_BY_CUMSUM = """
def smooth_address(g, per_octave):
    if per_octave == 0:
        return g.clone()
    a = -math.log2(per_octave)                                       # rows n < m: (n / m) ** a
    n = torch.arange(1, len(g) + 1, dtype=torch.float64)[:, None]
    variance = n ** (2 * a)                                          # of a sum that grows
    added = torch.cat([variance[:1], variance[1:] - variance[:-1]])
    return ((added.sqrt() * g.double()).cumsum(0) / variance.sqrt()).to(g.dtype)
"""
ADDRESS_BY_CHOLESKY = """
def smooth_address(g, per_octave):
    if per_octave == 1:
        return g[:1].expand_as(g).clone()
    octave = torch.arange(1, len(g) + 1, dtype=torch.float64).log2()
    correlation = float(per_octave) ** (octave[:, None] - octave).abs()
    return (torch.linalg.cholesky(correlation) @ g.double()).to(g.dtype)
"""
ADDRESS_RIGHT = {
    "row by row": ADDRESS_BY_WALKING,
    "all weights at once": ADDRESS_BY_WEIGHTS,
    "a sum that grows": ADDRESS_BY_CUMSUM,
    "Cholesky": ADDRESS_BY_CHOLESKY,
}
ADDRESS_WRONG = {
    "the chapter's": """
def smooth_address(g, per_octave):
    n = torch.arange(1, len(g) + 1, dtype=g.dtype)[:, None]
    return g.cumsum(0) / n.sqrt()
""",
    "a sum over a power": """
def smooth_address(g, per_octave):
    n = torch.arange(1, len(g) + 1, dtype=g.dtype)[:, None]
    return g.cumsum(0) / n ** (-math.log2(max(per_octave, 1e-9)))
""",
    "the same for every row": changed(
        ADDRESS_BY_WALKING, ("per_octave ** (math.log(row + 1, 2) - math.log(row, 2))", "per_octave")),
    "by the distance in rows": changed(
        ADDRESS_BY_WALKING, ("(math.log(row + 1, 2) - math.log(row, 2))", "(1 / len(g))")),
    "the square root's rule for all": changed(
        ADDRESS_BY_WALKING, ("per_octave ** (math.log(row + 1, 2) - math.log(row, 2))",
                             "per_octave * (2 * row / (row + 1)) ** 0.5")),
    "a row too far": changed(
        ADDRESS_BY_WALKING, ("math.log(row + 1, 2) - math.log(row, 2)", "math.log(row + 2, 2) - math.log(row + 1, 2)")),
    "natural logarithms": changed(
        ADDRESS_BY_WALKING, ("math.log(row + 1, 2) - math.log(row, 2)", "math.log(row + 1) - math.log(row)")),
    "logarithms to 10": changed(
        ADDRESS_BY_WALKING, ("math.log(row + 1, 2) - math.log(row, 2)", "math.log10(row + 1) - math.log10(row)")),
    "semitones": changed(
        ADDRESS_BY_WALKING, ("(math.log(row + 1, 2) - math.log(row, 2))",
                             "(12 * (math.log(row + 1, 2) - math.log(row, 2)))")),
    "the ratio of rows as exponent": changed(
        ADDRESS_BY_WALKING, ("(math.log(row + 1, 2) - math.log(row, 2))", "(row / (row + 1))")),
    "a part and the rest": changed(ADDRESS_BY_WALKING, ("(1 - alike * alike) ** 0.5", "(1 - alike)")),
    "no root": changed(ADDRESS_BY_WALKING, ("(1 - alike * alike) ** 0.5", "(1 - alike * alike)")),
    "a root of the rest": changed(ADDRESS_BY_WALKING, ("(1 - alike * alike) ** 0.5", "(1 - alike) ** 0.5")),
    "all of the new": changed(ADDRESS_BY_WALKING, ("(1 - alike * alike) ** 0.5 * g[row]", "g[row]")),
    "new taken off": changed(ADDRESS_BY_WALKING, ("+ (1 - alike", "- (1 - alike")),
    "the row before as it was drawn": changed(ADDRESS_BY_WALKING, ("alike * e[row - 1]", "alike * g[row - 1]")),
    "half of an octave's correlation": changed(ADDRESS_BY_WALKING, ("alike = per_octave", "alike = (per_octave / 2)")),
    "its square": changed(ADDRESS_BY_WALKING, ("alike = per_octave", "alike = (per_octave ** 2)")),
    "the first row made small": changed(
        ADDRESS_BY_WALKING, ("    e = g.clone()\n",
                             "    e = g.clone()\n    e[0] = (1 - per_octave ** 2) ** 0.5 * g[0]\n")),
    "rows counted from 0": changed(
        ADDRESS_BY_WALKING, ("math.log(row + 1, 2) - math.log(row, 2)",
                             "math.log(row, 2) - math.log(max(row - 1, 0.5), 2)")),
    "along the channels": changed(
        ADDRESS_BY_WALKING, ("    e = g.clone()\n    for", "    g = g.T.contiguous()\n    e = g.clone()\n    for"),
        ("    return e\n", "    return e.T\n")),
    "from the top down": changed(
        ADDRESS_BY_WALKING, ("    e = g.clone()\n    for", "    g = g.flip(0)\n    e = g.clone()\n    for"),
        ("    return e\n", "    return e.flip(0)\n")),
    "divided by what came out": changed(
        ADDRESS_BY_WALKING, ("    return e\n", "    return e / e.std(0, keepdim=True).clamp_min(1e-12)\n")),
    "every row to length 1": changed(
        ADDRESS_BY_WALKING, ("    return e\n", "    return F.normalize(e, dim=1) * e.shape[1] ** 0.5\n")),
    "the root of the correlations": """
def smooth_address(g, per_octave):
    octave = torch.arange(1, len(g) + 1, dtype=torch.float64).log2()
    values, vectors = torch.linalg.eigh(float(per_octave) ** (octave[:, None] - octave).abs())
    return (vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T @ g.double()).to(g.dtype)
""",
    "the correlations themselves": """
def smooth_address(g, per_octave):
    octave = torch.arange(1, len(g) + 1, dtype=torch.float64).log2()
    return ((float(per_octave) ** (octave[:, None] - octave).abs()).tril() @ g.double()).to(g.dtype)
""",
    "Cholesky turned over": changed(
        ADDRESS_BY_CHOLESKY, ("torch.linalg.cholesky(correlation)", "torch.linalg.cholesky(correlation).T")),
    "Cholesky without the end": changed(
        ADDRESS_BY_CHOLESKY, ("    if per_octave == 1:\n        return g[:1].expand_as(g).clone()\n", "")),
    "Cholesky with something on the diagonal": changed(
        ADDRESS_BY_CHOLESKY, ("    if per_octave == 1:\n        return g[:1].expand_as(g).clone()\n", ""),
        ("torch.linalg.cholesky(correlation)",
         "torch.linalg.cholesky(correlation + 1e-3 * torch.eye(len(g), dtype=torch.float64))")),
    "no logarithm of 0 thought of": """
def smooth_address(g, per_octave):
    a = -math.log2(per_octave)
    e = [g[0]]
    for n in range(1, len(g)):
        alike = (n / (n + 1)) ** a
        e.append(alike * e[-1] + math.sqrt(1 - alike ** 2) * g[n])
    return torch.stack(e)
""",
    "at least a hundredth": changed(
        ADDRESS_BY_WALKING, ("    e = g.clone()\n", "    per_octave = max(per_octave, 0.01)\n    e = g.clone()\n")),
    "the first row's weight lost": changed(
        ADDRESS_BY_WEIGHTS, ("torch.ones(1, dtype=torch.float64), new", "torch.zeros(1, dtype=torch.float64), new")),
    "a table of 64 rows": changed(ADDRESS_BY_WALKING, ("for row in range(1, g.shape[0])",
                                                       "for row in range(1, min(64, g.shape[0]))")),
    "in place": changed(ADDRESS_BY_WALKING, ("e = g.clone()", "e = g")),
    "float32 all the time": changed(ADDRESS_BY_WALKING, ("e = g.clone()", "e = g.float().clone()")),
    "noise of its own": changed(ADDRESS_BY_WALKING, ("    e = g.clone()", "    e = torch.randn_like(g)")),
}

# ------------------------------------------------------------------------------ 4, how much a convolution stretches

STRETCH_WHOLE = """
def stretch(weight, steps):
    out, channels, kernel = weight.shape
    matrix = weight.new_zeros(out, steps, channels, steps)
    for k in range(kernel):
        shift = torch.eye(steps, dtype=weight.dtype).roll(k, 1)       # (step out, step in)
        matrix = matrix + weight[:, None, :, None, k] * shift[:, None, :]
    return torch.linalg.svdvals(matrix.reshape(out * steps, channels * steps))[0]
"""
STRETCH_BY_FREQUENCY = """
def stretch(weight, steps):
    kind = torch.complex64 if weight.dtype == torch.float32 else torch.complex128
    k = torch.arange(weight.shape[-1], dtype=weight.dtype)
    largest = []
    for f in range(steps):
        turn = torch.exp(2j * math.pi * f / steps * k).to(kind)
        largest.append(torch.linalg.svdvals((weight.to(kind) * turn).sum(-1)).amax())
    return torch.stack(largest).amax()
"""
STRETCH_BY_FFT = """
def stretch(weight, steps):
    around = torch.zeros(*weight.shape[:2], steps, dtype=weight.dtype)
    around = around.index_add(2, torch.arange(weight.shape[2]) % steps, weight)
    matrices = torch.fft.fft(around, dim=-1).permute(2, 0, 1)
    return torch.linalg.svdvals(matrices).max()
"""
STRETCH_BY_ROUNDS = """
def stretch(weight, steps):
    around = sum(F.pad(piece, (0, steps - piece.shape[-1])) for piece in weight.split(steps, -1))
    return torch.linalg.norm(torch.fft.rfft(around).permute(2, 1, 0), ord=2, dim=(1, 2)).max()
"""
STRETCH_RIGHT = {
    "one large matrix": STRETCH_WHOLE,
    "frequency by frequency": STRETCH_BY_FREQUENCY,
    "a transform of what has gone around": STRETCH_BY_FFT,
    "split into rounds": STRETCH_BY_ROUNDS,
}
STRETCH_WRONG = {
    "the chapter's matrix": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.flatten(1), 2)
""",
    "the chapter's matrix the other way": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.transpose(0, 1).flatten(1), 2)
""",
    "the larger of the chapter's two": """
def stretch(weight, steps):
    return torch.maximum(torch.linalg.matrix_norm(weight.flatten(1), 2),
                         torch.linalg.matrix_norm(weight.transpose(0, 1).flatten(1), 2))
""",
    "the chapter's times the root of the kernel": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.flatten(1), 2) * weight.shape[-1] ** 0.5
""",
    "the sum of the taps' stretches": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.movedim(-1, 0), 2).sum()
""",
    "the largest tap's": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.movedim(-1, 0), 2).max()
""",
    "a steady sound's": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.sum(-1), 2)
""",
    "taps without their signs": """
def stretch(weight, steps):
    return torch.linalg.matrix_norm(weight.abs().sum(-1), 2)
""",
    "steady or alternating": """
def stretch(weight, steps):
    signs = (-1.0) ** torch.arange(weight.shape[-1], dtype=weight.dtype)
    return torch.maximum(torch.linalg.matrix_norm(weight.sum(-1), 2),
                         torch.linalg.matrix_norm((weight * signs).sum(-1), 2))
""",
    "the length of all numbers": """
def stretch(weight, steps):
    return weight.norm()
""",
    "a long kernel cut off": """
def stretch(weight, steps):
    return torch.linalg.svdvals(torch.fft.rfft(weight, steps).movedim(-1, 0)).max()
""",
    "the kernel for a circle": """
def stretch(weight, steps):
    return torch.linalg.svdvals(torch.fft.rfft(weight).movedim(-1, 0)).max()
""",
    "a circle as long as the kernel at least": """
def stretch(weight, steps):
    steps = max(steps, weight.shape[-1])
    return torch.linalg.svdvals(torch.fft.rfft(weight, steps).movedim(-1, 0)).max()
""",
    "a very large circle": """
def stretch(weight, steps):
    return torch.linalg.svdvals(torch.fft.rfft(weight, 4096).movedim(-1, 0)).max()
""",
    "no circle": changed(
        STRETCH_WHOLE, ("torch.eye(steps, dtype=weight.dtype).roll(k, 1)",
                        "torch.diag(torch.ones(max(0, steps - k), dtype=weight.dtype), k)[:steps, :steps]"
                        " if k < steps else torch.zeros(steps, steps, dtype=weight.dtype)")),
    "no circle, zeros around": changed(
        STRETCH_WHOLE, ("    matrix = weight.new_zeros(out, steps, channels, steps)\n    for k",
                        "    steps = steps + kernel - 1\n"
                        "    matrix = weight.new_zeros(out, steps, channels, steps)\n    for k")),
    "around once": changed(
        STRETCH_BY_FFT, ("around = around.index_add(2, torch.arange(weight.shape[2]) % steps, weight)",
                         "around[..., :weight.shape[2]] += weight[..., :steps]\n"
                         "    rest = weight[..., steps:2 * steps]\n"
                         "    around[..., :rest.shape[2]] += rest")),
    "what goes around replaces": changed(
        STRETCH_BY_FFT, ("around = around.index_add(2, torch.arange(weight.shape[2]) % steps, weight)",
                         "around[..., torch.arange(weight.shape[2]) % steps] = weight")),
    "the lower half of the frequencies": changed(STRETCH_BY_FREQUENCY, ("range(steps)", "range((steps + 1) // 2)")),
    "no frequency 0": changed(STRETCH_BY_FREQUENCY, ("range(steps)", "range(1, max(2, steps))")),
    "half the frequency": changed(STRETCH_BY_FREQUENCY, ("2j * math.pi", "1j * math.pi")),
    "cosines only": changed(
        STRETCH_BY_FREQUENCY, ("torch.exp(2j * math.pi * f / steps * k).to(kind)",
                               "torch.cos(2 * math.pi * f / steps * k)")),
    "squared": changed(STRETCH_BY_FFT, ("svdvals(matrices).max()", "svdvals(matrices).max().square()")),
    "the mean over the frequencies": changed(
        STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()", "torch.linalg.svdvals(matrices)[:, 0].mean()")),
    "the smallest stretch": changed(
        STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()", "torch.linalg.svdvals(matrices).min()")),
    "each frequency's Frobenius norm": changed(
        STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()", "torch.linalg.matrix_norm(matrices).max()")),
    "the largest entry": changed(STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()", "matrices.abs().max()")),
    "a transform that keeps the norm": changed(
        STRETCH_BY_FFT, ("torch.fft.fft(around, dim=-1)", "torch.fft.fft(around, dim=-1, norm='ortho')")),
    "a transform of the channels": changed(
        STRETCH_BY_FFT, ("torch.fft.fft(around, dim=-1)", "torch.fft.fft(around, dim=1)")),
    "real parts": changed(STRETCH_BY_FFT, (".permute(2, 0, 1)", ".permute(2, 0, 1).real")),
    "sizes of the entries": changed(STRETCH_BY_FFT, (".permute(2, 0, 1)", ".permute(2, 0, 1).abs()")),
    "two rounds of the power method": """
def stretch(weight, steps):
    W = torch.fft.fft(sum(F.pad(w, (0, steps - w.shape[-1])) for w in weight.split(steps, -1))).movedim(-1, 0)
    b = torch.ones(steps, W.shape[-1], 1, dtype=W.dtype)
    with torch.no_grad():
        for _ in range(2):
            b = F.normalize(W.mH @ (W @ b), dim=1)
    return (W @ b).norm(dim=1).max()
""",
    "no gradient": changed(STRETCH_BY_FFT, ("    return", "    with torch.no_grad():\n        return")),
    "a number of Python's": changed(
        STRETCH_BY_FFT, ("return torch.linalg.svdvals(matrices).max()",
                         "return torch.tensor(float(torch.linalg.svdvals(matrices).max()), dtype=weight.dtype)")),
    "a column left": changed(STRETCH_BY_FFT, ("svdvals(matrices).max()", "svdvals(matrices).amax(0)[:1]")),
    "a little added under the root": changed(
        STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()",
                         "(torch.linalg.svdvals(matrices).max().square() + 1e-6).sqrt()")),
    "squares in between": changed(
        STRETCH_BY_FFT, ("torch.linalg.svdvals(matrices).max()",
                         "torch.linalg.eigvalsh(matrices.mH @ matrices + 1e-10).max().sqrt()")),
    "float32 all the time": changed(STRETCH_BY_FFT, ("dtype=weight.dtype)\n", "dtype=weight.dtype).float()\n"),
                                    ("% steps, weight)", "% steps, weight.float())")),
}

# --------------------------------------------------------------------------------------------- 5, one tempo for all

TEMPO_BY_TURNING = """
def common_factors(tempos):
    best, factors = None, None
    logs = torch.log2(tempos)
    for lowest in logs:                                               # each may be the arc's beginning
        arc = (logs - lowest) % 1
        middle = arc.max() / 2
        if best is None or middle < best:
            best, factors = middle, 2 ** (middle - arc)
    return factors
"""
TEMPO_IN_NUMBERS = """
def common_factors(tempos):
    logs = [math.log2(t) for t in tempos.tolist()]
    places = sorted({log - math.floor(log) for log in logs})
    after = [*places[1:], places[0] + 1]                              # the next one on the circle
    gap, place = max((b - a, a) for a, b in zip(places, after))
    common = place + gap / 2 + 0.5
    factors = []
    for log in logs:
        change = common - log
        factors.append(2 ** (change - round(change)))
    return torch.tensor(factors, dtype=tempos.dtype)
"""
TEMPO_BY_PAIRS = """
def common_factors(tempos):
    logs = tempos.double().log()
    octave = math.log(2)
    pairs = (logs[:, None] + logs[None, :]).flatten() / 2             # half way between two songs
    commons = torch.cat([pairs, pairs + octave / 2])
    changes = commons[:, None] - logs                                # (common, song)
    changes = changes - octave * (changes / octave).round()
    return changes[changes.abs().amax(1).argmin()].exp().to(tempos.dtype)
"""
TEMPO_BY_SEARCH = """
def common_factors(tempos):
    logs = tempos.double().log2()
    def changes(common):
        return (common[:, None] - logs + 0.5) % 1 - 0.5
    grid, width = torch.arange(2000, dtype=torch.float64) / 2000, 1 / 2000
    for _ in range(4):
        best = grid[changes(grid).abs().amax(1).argmin()]
        grid = best + width * torch.linspace(-2, 2, 401, dtype=torch.float64)
        width = width / 50
    return (2 ** changes(best[None])[0]).to(tempos.dtype)
"""
TEMPO_RIGHT = {
    "every song the first of its arc": TEMPO_BY_TURNING,
    "numbers": TEMPO_IN_NUMBERS,
    "half way between any two": TEMPO_BY_PAIRS,
    "a search, finer and finer": TEMPO_BY_SEARCH,
}
TO_ONE = """
def common_factors(tempos):
    logs = tempos.log2()
    common = logs.mean()
    return 2 ** ((common - logs + 0.5) % 1 - 0.5)
"""
TEMPO_WRONG = {
    "the mean of the logarithms": TO_ONE,
    "the mean within the octave": changed(TO_ONE, ("logs.mean()", "(logs % 1).mean()")),
    "the median within the octave": changed(TO_ONE, ("logs.mean()", "(logs % 1).median()")),
    "the middle of lowest and highest": changed(TO_ONE, ("logs.mean()", "(logs.min() + logs.max()) / 2")),
    "the middle within the octave": changed(TO_ONE, ("logs.mean()", "((logs % 1).min() + (logs % 1).max()) / 2")),
    "the first song's tempo": changed(TO_ONE, ("logs.mean()", "logs[0]")),
    "the lowest tempo": changed(TO_ONE, ("logs.mean()", "logs.min()")),
    "the mean tempo": changed(TO_ONE, ("logs.mean()", "tempos.mean().log2()")),
    "the mean direction on the circle": changed(
        TO_ONE, ("logs.mean()", "torch.atan2((2 * math.pi * logs).sin().sum(), (2 * math.pi * logs).cos().sum())"
                                " / (2 * math.pi)")),
    "no octaves": """
def common_factors(tempos):
    logs = tempos.log2()
    return 2 ** ((logs.min() + logs.max()) / 2 - logs)
""",
    "halves and doubles only": """
def common_factors(tempos):
    logs = tempos.log2()
    ratios = torch.arange(-2, 3, dtype=logs.dtype)
    commons = ((logs[:, None] + logs) / 2).flatten()
    commons = torch.cat([commons, commons + 0.5])
    changes = commons[:, None, None] + ratios[:, None] - logs
    best = changes.abs().argmin(1, keepdim=True)
    changes = changes.gather(1, best)[:, 0]
    return 2 ** changes[changes.abs().amax(1).argmin()]
""",
    "one of the songs stays": changed(
        TEMPO_BY_PAIRS, ("commons = torch.cat([pairs, pairs + octave / 2])", "commons = logs")),
    "pairs on one side only": changed(
        TEMPO_BY_PAIRS, ("commons = torch.cat([pairs, pairs + octave / 2])", "commons = pairs")),
    "neighbours in the list only": changed(
        TEMPO_BY_PAIRS, ("pairs = (logs[:, None] + logs[None, :]).flatten() / 2", "pairs = (logs + logs.roll(1)) / 2")),
    "the least change in all": changed(TEMPO_BY_PAIRS, (".abs().amax(1)", ".abs().sum(1)")),
    "the least squares": changed(TEMPO_BY_PAIRS, ("commons = torch.cat([pairs, pairs + octave / 2])",
                                                  "commons = torch.arange(5000, dtype=logs.dtype) / 5000 * octave"),
                                 (".abs().amax(1)", ".square().sum(1)")),
    "the least change of the least changed": changed(TEMPO_BY_PAIRS, (".abs().amax(1)", ".abs().amin(1)")),
    "counted in differences": changed(
        TEMPO_BY_PAIRS, ("commons = torch.cat([pairs, pairs + octave / 2])",
                         "commons = torch.arange(20000, dtype=logs.dtype) / 20000 * octave"),
        ("changes.abs().amax(1)", "(changes.exp() - 1).abs().amax(1)")),
    "largest increase only": changed(TEMPO_BY_PAIRS, (".abs().amax(1)", ".amax(1)")),
    "factors the wrong way": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "2 ** (arc - middle)")),
    "the new tempos": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "tempos * 2 ** (middle - arc)")),
    "logarithms": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "middle - arc")),
    "e instead of 2": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "torch.exp(middle - arc)")),
    "to the arc's beginning": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "2 ** (-arc)")),
    "to the arc's mean": changed(TEMPO_BY_TURNING, ("2 ** (middle - arc)", "2 ** (arc.mean() - arc)")),
    "the widest arc": changed(TEMPO_BY_TURNING, ("middle < best", "middle > best")),
    "the last arc": changed(TEMPO_BY_TURNING, ("if best is None or middle < best:", "if True:")),
    "natural octaves": changed(TEMPO_BY_TURNING, ("torch.log2(tempos)", "torch.log(tempos)"),
                               ("2 ** (middle - arc)", "torch.exp(middle - arc)")),
    "octaves in the tempo": """
def common_factors(tempos):
    base = tempos.min()
    folded = torch.stack([t / 2 ** math.floor(math.log2(t / base)) for t in tempos])
    return (folded.min() * folded.max()).sqrt() / folded
""",
    "sorted and left so": changed(TEMPO_BY_TURNING, ("torch.log2(tempos)", "torch.log2(tempos).sort().values")),
    "the wrong side of the gap": changed(TEMPO_IN_NUMBERS, ("gap / 2 + 0.5", "gap / 2")),
    "no gap over the octave's end": """
def common_factors(tempos):
    logs = tempos.log2()
    places = (logs % 1).sort().values
    if len(places) == 1:
        return torch.ones_like(tempos)
    gaps = places[1:] - places[:-1]
    widest = int(gaps.argmax())
    middle = places[widest] + (1 + gaps[widest]) / 2
    return 2 ** ((middle - logs + 0.5) % 1 - 0.5)
""",
    "no single song thought of": """
def common_factors(tempos):
    logs = tempos.log2()
    places = (logs % 1).sort().values
    gaps = (places.roll(-1) - places) % 1
    widest = int(gaps.argmax())
    middle = places[widest] + (1 + gaps[widest]) / 2
    return 2 ** ((middle - logs + 0.5) % 1 - 0.5)
""",
    "a coarse search": changed(TEMPO_BY_SEARCH, ("range(4)", "range(1)"), ("2000, dtype", "50, dtype"),
                               ("/ 2000, 1 / 2000", "/ 50, 1 / 50")),
    "tempos between 40 and 240": changed(
        TEMPO_BY_TURNING, ("torch.log2(tempos)", "torch.log2(tempos.clamp(40, 240))")),
    "float32 all the time": changed(TEMPO_IN_NUMBERS, ("dtype=tempos.dtype", "dtype=torch.float32")),
    "in place": changed(TEMPO_BY_TURNING, ("torch.log2(tempos)", "tempos.log2_()")),
    "tempos in whole beats": changed(TEMPO_BY_TURNING, ("torch.log2(tempos)", "torch.log2(tempos.round())")),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 4, """
from course_lib.hdemucs import largest_singular_value

def stretch(weight, steps):
    around = torch.zeros(*weight.shape[:2], steps, dtype=weight.dtype)
    around = around.index_add(2, torch.arange(weight.shape[2]) % steps, weight)
    matrices = torch.fft.fft(around, dim=-1).permute(2, 0, 1)
    return torch.stack([largest_singular_value(matrix, "exact") for matrix in matrices]).max()
"""


CASES = as_cells(
    (FRAMES_RIGHT, FRAMES_WRONG), (COMPLEX_RIGHT, COMPLEX_WRONG), (ADDRESS_RIGHT, ADDRESS_WRONG),
    (STRETCH_RIGHT, STRETCH_WRONG), (TEMPO_RIGHT, TEMPO_WRONG))
