"""Answers to assignment 11 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# --------------------------------------------------------------------------- 1, what a symbol costs, and what it sees

LEVELS_BY_WALKING_BACK = """
def levels_of(rate, downs, strides, depth, growth, codes):
    levels = []
    for level in range(len(downs)):
        steps, hop = 3, 1                                           # the last three taps
        for j in range(level, -1, -1):
            if j < level:
                steps += 2
            for _ in range(downs[j]):
                for d in range(depth):
                    steps += 2 * growth ** d
                steps = (steps - 1) * strides[j] + 2 * strides[j]   # through the strided convolution
                hop *= strides[j]
        levels.append((hop, rate / hop * math.log2(codes), steps))
    return levels
"""
LEVELS_BY_FORMULA = """
def levels_of(rate, downs, strides, depth, growth, codes):
    # both sides of a stack: a geometric series
    wide = 2 * depth if growth == 1 else 2 * (growth ** depth - 1) // (growth - 1)
    found, hop, seen = [], 1, 1
    for number, stride in zip(downs, strides):
        while number > 0:
            seen = seen + hop * (2 * stride - 1) + hop * stride * wide
            hop, number = hop * stride, number - 1
        seen = seen + 2 * hop
        found.append([hop, math.log2(codes) * rate / hop, seen])
    return found
"""
LEVELS_BY_LAYERS = """
def levels_of(rate, downs, strides, depth, growth, codes):
    layers, found = [], []                                          # (taps, dilation, stride)
    for times, stride in zip(downs, strides):
        stage = [(2 * stride, 1, stride)] + [(3, growth ** d, 1) for d in range(depth)]
        layers = layers + stage * times + [(3, 1, 1)]
        seen, hop = 1, 1
        for taps, dilation, s in layers:
            seen += (taps - 1) * dilation * hop
            hop *= s
        found.append((hop, math.log(codes, 2) * (rate / hop), seen))
    return found
"""
LEVELS_RIGHT = {
    "walking back": LEVELS_BY_WALKING_BACK,
    "a formula for a stack": LEVELS_BY_FORMULA,
    "a list of layers": LEVELS_BY_LAYERS,
}
LEVELS_WRONG = {
    "the hop of each block alone": changed(
        LEVELS_BY_FORMULA,
        (
            "    for number, stride in zip(downs, strides):",
            "    for number, stride in zip(downs, strides):\n        hop = 1",
        ),
    ),
    "the stride once": changed(LEVELS_BY_FORMULA, ("hop * stride, number - 1", "hop * stride, 0")),
    "times instead of powers": """
def levels_of(rate, downs, strides, depth, growth, codes):
    wide, found, hop, seen = sum(2 * growth ** d for d in range(depth)), [], 1, 1
    for number, stride in zip(downs, strides):
        for _ in range(number):
            seen += hop * (2 * stride - 1) + hop * stride * wide
        hop *= max(1, number * stride)
        seen += 2 * hop
        found.append((hop, rate / hop * math.log2(codes), seen))
    return found
""",
    "a down of 0 strides all the same": changed(LEVELS_BY_LAYERS, ("stage * times +", "stage * max(1, times) +")),
    "a down of 0 has no taps": changed(
        LEVELS_BY_LAYERS, ("stage * times + [(3, 1, 1)]", "stage * times + [(3, 1, 1)] * (times > 0)")
    ),
    "a down of 0 is left out": changed(
        LEVELS_BY_FORMULA,
        ("        while number", "        if number == 0:\n            continue\n        while number"),
    ),
    "as many taps as the stride": changed(LEVELS_BY_LAYERS, ("(2 * stride, 1, stride)", "(stride, 1, stride)")),
    "four taps always": changed(LEVELS_BY_LAYERS, ("(2 * stride, 1, stride)", "(4, 1, stride)")),
    "the taps counted, not their reach": changed(LEVELS_BY_LAYERS, ("(taps - 1) * dilation", "taps * dilation")),
    "the stride before its taps": changed(
        LEVELS_BY_LAYERS,
        (
            "            seen += (taps - 1) * dilation * hop\n            hop *= s\n",
            "            hop *= s\n            seen += (taps - 1) * dilation * hop\n",
        ),
    ),
    "hops forgotten": changed(LEVELS_BY_LAYERS, ("(taps - 1) * dilation * hop", "(taps - 1) * dilation")),
    "the whole hop for all layers": changed(
        LEVELS_BY_LAYERS,
        (
            "        found.append((hop,",
            "        seen = 1 + sum((t - 1) * g * hop for t, g, _ in layers)\n        found.append((hop,",
        ),
    ),
    "dilations from growth on": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, growth ** (d + 1), 1)")),
    "dilations in steps": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, 1 + growth * d, 1)")),
    "dilations times growth": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, max(1, growth * d), 1)")),
    "powers of three always": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, 3 ** d, 1)")),
    "no dilation": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, 1, 1)")),
    "one side only": changed(LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(2, growth ** d, 1)")),
    "the widest block only": changed(LEVELS_BY_LAYERS, ("for d in range(depth)]", "for d in range(depth)][-1:]")),
    "a block less": changed(LEVELS_BY_LAYERS, ("for d in range(depth)]", "for d in range(depth - 1)]")),
    "one stack a block": changed(
        LEVELS_BY_LAYERS, ("layers + stage * times +", "layers + stage[:1] * times + stage[1:] * (times > 0) +")
    ),
    "depth is that of all": changed(
        LEVELS_BY_LAYERS, ("for d in range(depth)]", "for d in range(depth // max(1, times))]")
    ),
    "the formula of three for any growth": changed(
        LEVELS_BY_FORMULA,
        ("2 * depth if growth == 1 else 2 * (growth ** depth - 1) // (growth - 1)", "growth ** depth - 1"),
    ),
    "growth 1 divides by zero": changed(LEVELS_BY_FORMULA, ("2 * depth if growth == 1 else ", "")),
    "a quotient of floats": changed(LEVELS_BY_FORMULA, ("// (growth - 1)", "/ (growth - 1)")),
    "floats turned whole": changed(
        LEVELS_BY_LAYERS, ("(3, growth ** d, 1)", "(3, int(math.exp(d * math.log(growth)) + 0.5), 1)")
    ),
    "a tensor of 64 bits": changed(
        LEVELS_BY_LAYERS,
        (
            "        found.append((hop,",
            "        hop = int(torch.tensor([s for _, _, s in layers]).prod())\n        found.append((hop,",
        ),
    ),
    "the last taps forgotten": changed(LEVELS_BY_LAYERS, ("stage * times + [(3, 1, 1)]", "stage * times")),
    "the last taps of this level only": changed(
        LEVELS_BY_WALKING_BACK, ("            if j < level:\n                steps += 2\n", "")
    ),
    "all blocks under each level": changed(
        LEVELS_BY_WALKING_BACK,
        ("range(level, -1, -1)", "range(len(downs) - 1, -1, -1)"),
        ("if j < level", "if j < len(downs) - 1"),
    ),
    "blocks from the front": changed(LEVELS_BY_WALKING_BACK, ("range(level, -1, -1)", "range(level + 1)")),
    "the slowest first": changed(LEVELS_BY_LAYERS, ("    return found", "    return found[::-1]")),
    "natural logarithms": changed(LEVELS_BY_LAYERS, ("math.log(codes, 2)", "math.log(codes)")),
    "whole bits": changed(LEVELS_BY_LAYERS, ("math.log(codes, 2)", "math.ceil(math.log2(codes))")),
    "whole steps a second": changed(LEVELS_BY_LAYERS, ("(rate / hop)", "(rate // hop)")),
    "kilobits": changed(LEVELS_BY_LAYERS, ("(rate / hop)", "(rate / hop) / 1000")),
    "the bits of all levels so far": changed(
        LEVELS_BY_LAYERS,
        (
            "    return found",
            "    return [(h, sum(b for _, b, _ in found[:n + 1]), s) for n, (h, _, s) in enumerate(found)]",
        ),
    ),
    "the number of codes for their bits": changed(LEVELS_BY_LAYERS, ("math.log(codes, 2)", "codes")),
    "seconds instead of samples": changed(LEVELS_BY_LAYERS, ("(rate / hop), seen)", "(rate / hop), seen / rate)")),
    "in the other order": changed(
        LEVELS_BY_LAYERS,
        ("(hop, math.log(codes, 2) * (rate / hop), seen)", "(hop, seen, math.log(codes, 2) * (rate / hop))"),
    ),
}

# ------------------------------------------------------------------------------------------------ 2, a song in pieces

PIECES_BY_KEEPING = """
def symbols_in_pieces(encode, x, hop, reach, piece):
    steps = math.ceil(x.shape[-1] / hop)
    x = torch.cat([x, x.new_zeros(*x.shape[:-1], steps * hop - x.shape[-1])], -1)
    most, margin = piece // hop, math.ceil(reach / hop)             # in hops
    kept, first = [], 0                                             # the next symbol that we need
    while first < steps:
        start = max(0, first - margin)
        end = min(steps, start + most)
        last = steps if end == steps else end - margin
        symbols = encode(x[..., start * hop:end * hop])
        kept.append(symbols[:, first - start:last - start])
        first = last
    return torch.cat(kept, 1)
"""
PIECES_BY_WRITING = """
def symbols_in_pieces(encode, x, hop, reach, piece):
    batch, _, time = x.shape
    steps = (time + hop - 1) // hop
    x = F.pad(x, (0, steps * hop - time))
    P, m = piece - piece % hop, (reach + hop - 1) // hop * hop
    out = torch.empty(batch, steps, dtype=torch.int64)
    start = 0
    while True:
        end = min(start + P, steps * hop)
        found = encode(x[:, :, start:end])
        skip = m // hop if start else 0
        # what is wrong at the end of this piece the next one writes anew
        out[:, start // hop + skip:end // hop] = found[:, skip:]
        if end == steps * hop:
            return out
        start += P - 2 * m
"""
PIECES_BY_PLAN = """
def symbols_in_pieces(encode, x, hop, reach, piece):
    x = F.pad(x, (0, (hop - x.shape[-1] % hop) % hop))
    T, P, m = x.shape[-1] // hop, piece // hop, -(-reach // hop)
    n = 1 if T <= P else 1 + -(-(T - P) // (P - 2 * m))
    # pieces of equal length, spread evenly, the last one ends with the song
    starts = [0] if n == 1 else [k * (T - P) // (n - 1) for k in range(n)]
    symbols = [encode(x[:, :, s * hop:(s + P) * hop]) for s in starts]
    whole, done = [], 0
    for k, (s, found) in enumerate(zip(starts, symbols)):
        until = T if k == n - 1 else s + P - m
        whole.append(found[:, done - s:until - s])
        done = until
    return torch.cat(whole, dim=-1)
"""
PIECES_RIGHT = {
    "what is needed next": PIECES_BY_KEEPING,
    "written over": PIECES_BY_WRITING,
    "planned and even": PIECES_BY_PLAN,
}
PIECES_WRONG = {
    "the whole song at once": """
def symbols_in_pieces(encode, x, hop, reach, piece):
    return encode(F.pad(x, (0, -x.shape[-1] % hop)))
""",
    "one piece after the other": changed(
        PIECES_BY_KEEPING, ("margin = piece // hop, math.ceil(reach / hop)", "margin = piece // hop, 0")
    ),
    "surroundings before only": changed(PIECES_BY_KEEPING, ("else end - margin", "else end")),
    "surroundings behind only": changed(PIECES_BY_KEEPING, ("start = max(0, first - margin)", "start = first")),
    "half of the reach": changed(PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "math.ceil(reach / 2 / hop)")),
    "the reach rounded down": changed(PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "reach // hop")),
    "the reach rounded": changed(PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "round(reach / hop)")),
    "a hop more than needed": changed(
        PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "min(math.ceil(reach / hop) + 1, (piece // hop - 1) // 2)")
    ),
    "always a hop": changed(PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "1")),
    "the reach in symbols": changed(
        PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "min(reach, (piece // hop - 1) // 2)")
    ),
    "twice the reach": changed(
        PIECES_BY_KEEPING, ("math.ceil(reach / hop)", "min(2 * math.ceil(reach / hop), (piece // hop - 1) // 2)")
    ),
    "the song's beginning cut off": changed(
        PIECES_BY_WRITING, ("skip = m // hop if start else 0", "skip = m // hop"), ("torch.empty", "torch.zeros")
    ),
    "the song's end cut off": changed(
        PIECES_BY_KEEPING,
        ("last = steps if end == steps else end - margin", "last = end - margin"),
        ("    while first < steps:", "    while first < steps - margin:"),
    ),
    "zeros in front of the song": changed(
        PIECES_BY_KEEPING,
        (
            "        symbols = encode(x[..., start * hop:end * hop])\n",
            "        before = max(0, margin - first)\n"
            "        symbols = encode(F.pad(x[..., start * hop:end * hop], (before * hop, 0)))[:, before:]\n",
        ),
    ),
    "zeros behind the song": changed(
        PIECES_BY_KEEPING,
        (
            "encode(x[..., start * hop:end * hop])",
            "encode(F.pad(x[..., start * hop:end * hop], (0, (start + most - end) * hop)))[:, :end - start]",
        ),
    ),
    "every piece as long as the others": changed(
        PIECES_BY_WRITING,
        (
            "found = encode(x[:, :, start:end])",
            "found = encode(F.pad(x[:, :, start:end], (0, P - end + start)))[:, :(end - start) // hop]",
        ),
    ),
    "pieces moved to the end, the wrong symbols": changed(
        PIECES_BY_PLAN,
        (
            "        whole.append(found[:, done - s:until - s])",
            "        whole.append(found[:, (m if k else 0):(m if k else 0) + until - done])",
        ),
    ),
    "the later piece wins": changed(PIECES_BY_WRITING, ("skip = m // hop if start else 0", "skip = 0")),
    "the mean of both": changed(
        PIECES_BY_PLAN,
        (
            "        until = T if k == n - 1 else s + P - m",
            "        until = T if k == n - 1 else (s + P + starts[k + 1]) // 2 + 1",
        ),
    ),
    "a fixed overlap of one hop": changed(PIECES_BY_WRITING, ("start += P - 2 * m", "start += max(hop, P - hop)")),
    "too many calls": changed(PIECES_BY_WRITING, ("start += P - 2 * m", "start += max(hop, P - 2 * m - hop)")),
    "one call for every hop": changed(PIECES_BY_WRITING, ("start += P - 2 * m", "start += hop")),
    "an overlap of one margin": changed(PIECES_BY_WRITING, ("start += P - 2 * m", "start += P - m")),
    "always two calls": changed(
        PIECES_BY_PLAN,
        ("n = 1 if T <= P else 1 +", "n = 2 if T <= P else 1 +"),
        ("k * (T - P) // (n - 1)", "max(0, k * (T - P) // (n - 1))"),
    ),
    "a call too few": changed(PIECES_BY_PLAN, ("1 + -(-(T - P) // (P - 2 * m))", "max(2, 1 + (T - P) // (P - 2 * m))")),
    "a call too many": changed(PIECES_BY_PLAN, ("1 + -(-(T - P) // (P - 2 * m))", "2 + (T - P) // (P - 2 * m)")),
    "pieces of no whole hops": changed(PIECES_BY_WRITING, ("P, m = piece - piece % hop,", "P, m = piece,")),
    "pieces a hop too long": changed(
        PIECES_BY_KEEPING, ("most, margin = piece // hop,", "most, margin = -(-piece // hop),")
    ),
    "not filled up": changed(PIECES_BY_PLAN, ("    x = F.pad(x, (0, (hop - x.shape[-1] % hop) % hop))\n", "")),
    "a hop of zeros too many": changed(PIECES_BY_PLAN, ("(hop - x.shape[-1] % hop) % hop", "hop - x.shape[-1] % hop")),
    "filled up in front": changed(
        PIECES_BY_PLAN,
        ("F.pad(x, (0, (hop - x.shape[-1] % hop) % hop))", "F.pad(x, ((hop - x.shape[-1] % hop) % hop, 0))"),
    ),
    "what doesn't fill a hop cut off": changed(
        PIECES_BY_PLAN,
        (
            "x = F.pad(x, (0, (hop - x.shape[-1] % hop) % hop))",
            "x = x[..., :max(hop, x.shape[-1] // hop * hop)]\n    x = F.pad(x, (0, -x.shape[-1] % hop))",
        ),
    ),
    "filled up to whole pieces": changed(
        PIECES_BY_PLAN,
        (
            "    T, P, m =",
            "    steps, n = x.shape[-1] // hop, piece // hop * hop\n"
            "    x = F.pad(x, (0, -x.shape[-1] % n))\n"
            "    T, P, m =",
        ),
        ("return torch.cat(whole, dim=-1)", "return torch.cat(whole, dim=-1)[:, :steps]"),
    ),
    "the end repeated": changed(
        PIECES_BY_PLAN,
        (
            "F.pad(x, (0, (hop - x.shape[-1] % hop) % hop))",
            "F.pad(x, (0, (hop - x.shape[-1] % hop) % hop), mode='replicate')",
        ),
    ),
    "the first item only": changed(PIECES_BY_KEEPING, ("kept.append(symbols[:, ", "kept.append(symbols[:1, ")),
    "two axes": changed(
        PIECES_BY_KEEPING, ("encode(x[..., start * hop:end * hop])", "encode(x[:, 0, start * hop:end * hop])")
    ),
    "in double precision": changed(
        PIECES_BY_WRITING, ("F.pad(x, (0, steps * hop - time))", "F.pad(x, (0, steps * hop - time)).double()")
    ),
    "symbols as floats": changed(PIECES_BY_WRITING, ("dtype=torch.int64", "dtype=x.dtype")),
    "symbols of 16 bits": changed(PIECES_BY_WRITING, ("dtype=torch.int64", "dtype=torch.int16")),
    "silence skipped": changed(
        PIECES_BY_KEEPING,
        (
            "        symbols = encode(",
            "        if not x[..., first * hop:(first + 1) * hop].any():\n"
            "            x = x + (x == 0)\n"
            "        symbols = encode(",
        ),
    ),
}

# ------------------------------------------------------------------------- 3, a spectral loss that nothing disturbs

SPECTRAL_BY_SCALING = """
def relative_spectral_loss(x, y, resolutions):
    largest = x.abs().amax()
    scale = torch.where(largest > 0, largest, torch.ones_like(largest)).detach()
    total = 0
    for n_fft, hop, size in resolutions:
        window = torch.hann_window(size, dtype=x.dtype)
        stft = lambda s: torch.stft(s.squeeze(1), n_fft, hop, size, window, center=True,
                                    pad_mode="constant", return_complex=True).abs()
        if largest > 0:
            X, Y = stft(x / scale), stft(y / scale)
        else:
            X, Y = stft(x), stft(y)
        bottom = X.square().sum((1, 2)).sqrt().mean()
        distance = torch.linalg.vector_norm(X - Y, dim=(1, 2)).mean()
        total = total + (distance / bottom if bottom > 0 else distance)
    return total / len(resolutions)
"""
SPECTRAL_BY_FRAMES = """
def norms(z):
    # of each example, with a gradient of 0 at 0
    squares = z.flatten(1).square().sum(1)
    safe = torch.where(squares > 0, squares, torch.ones_like(squares))
    return torch.where(squares > 0, safe.sqrt(), torch.zeros_like(squares))

def spectrum(x, n_fft, hop, size):
    window = F.pad(torch.hann_window(size).double(), ((n_fft - size) // 2, n_fft - size - (n_fft - size) // 2))
    frames = F.pad(x[:, 0].double(), (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, hop)
    return torch.fft.rfft(frames * window).abs()

def relative_spectral_loss(x, y, resolutions):
    losses = []
    for resolution in resolutions:
        X, Y = spectrum(x, *resolution), spectrum(y, *resolution)
        size = norms(X).mean().item()
        losses.append(norms(X - Y).mean() / (size or 1.0))
    return (sum(losses) / len(losses)).to(y.dtype)
"""
SPECTRAL_BY_EXAMPLE = """
def relative_spectral_loss(x, y, resolutions):
    kind, x, y = x.dtype, x.double(), y.double()
    loss = x.new_zeros(())
    for n_fft, hop_length, win_length in resolutions:
        window = torch.hann_window(win_length, dtype=torch.float64)
        above = below = 0.0
        for target, output in zip(x, y):
            X, Y = (torch.stft(one[0], n_fft, hop_length, win_length, window, pad_mode="constant",
                               return_complex=True).abs() for one in (target, output))
            above, below = above + (X - Y).norm(), below + X.norm()
        if below == 0:
            below = len(x)
        loss = loss + above / below / len(resolutions)
    return loss.to(kind)
"""
SPECTRAL_RIGHT = {
    "scaled by the largest sample": SPECTRAL_BY_SCALING,
    "frames and rfft": SPECTRAL_BY_FRAMES,
    "example by example": SPECTRAL_BY_EXAMPLE,
}
SPECTRAL_WRONG = {
    "mirrored ends": changed(SPECTRAL_BY_EXAMPLE, ('pad_mode="constant"', 'pad_mode="reflect"')),
    "frames that begin at 0": changed(SPECTRAL_BY_FRAMES, ("(n_fft // 2, n_fft // 2)", "(0, n_fft)")),
    "frames that lie inside": changed(
        SPECTRAL_BY_FRAMES, ("(n_fft // 2, n_fft // 2)", "(0, max(0, n_fft - x.shape[-1]))")
    ),
    "a symmetric window": changed(
        SPECTRAL_BY_EXAMPLE,
        ("torch.hann_window(win_length, dtype", "torch.hann_window(win_length, periodic=False, dtype"),
    ),
    "no window": changed(SPECTRAL_BY_EXAMPLE, ("torch.hann_window(win_length, dtype", "torch.ones(win_length, dtype")),
    "a Hamming window": changed(SPECTRAL_BY_EXAMPLE, ("torch.hann_window", "torch.hamming_window")),
    "a window as long as the frame": changed(
        SPECTRAL_BY_EXAMPLE, ("in resolutions:\n", "in resolutions:\n        win_length = n_fft\n")
    ),
    "the window at the frame's beginning": changed(
        SPECTRAL_BY_FRAMES, ("((n_fft - size) // 2, n_fft - size - (n_fft - size) // 2)", "(0, n_fft - size)")
    ),
    "hop and window exchanged": changed(
        SPECTRAL_BY_EXAMPLE, ("n_fft, hop_length, win_length in", "n_fft, win_length, hop_length in")
    ),
    "only the first resolution": changed(
        SPECTRAL_BY_EXAMPLE, ("in resolutions:\n", "in resolutions[:1]:\n"), ("/ len(resolutions)", "/ 1")
    ),
    "the sum over resolutions": changed(SPECTRAL_BY_EXAMPLE, (" / len(resolutions)", "")),
    "three resolutions always": changed(SPECTRAL_BY_EXAMPLE, (" / len(resolutions)", " / 3")),
    "complex differences": changed(SPECTRAL_BY_EXAMPLE, ("return_complex=True).abs()", "return_complex=True)")),
    "powers": changed(SPECTRAL_BY_EXAMPLE, ("return_complex=True).abs()", "return_complex=True).abs().square()")),
    "logarithms": changed(
        SPECTRAL_BY_EXAMPLE, ("return_complex=True).abs()", "return_complex=True).abs().clamp_min(1e-5).log()")
    ),
    "mean instead of norm": changed(
        SPECTRAL_BY_EXAMPLE, ("(X - Y).norm(), below + X.norm()", "(X - Y).abs().sum(), below + X.sum()")
    ),
    "the squared norm": changed(
        SPECTRAL_BY_EXAMPLE, ("(X - Y).norm(), below + X.norm()", "(X - Y).norm() ** 2, below + X.norm() ** 2")
    ),
    "frame by frame": changed(
        SPECTRAL_BY_EXAMPLE,
        ("(X - Y).norm(), below + X.norm()", "(X - Y).norm(dim=0).sum(), below + X.norm(dim=0).sum()"),
    ),
    "the norm over the batch": changed(
        SPECTRAL_BY_FRAMES,
        ("norms(X - Y).mean()", "norms((X - Y)[None])[0]"),
        ("norms(X).mean().item()", "norms(X[None]).item()"),
    ),
    "each example by its own size": changed(
        SPECTRAL_BY_FRAMES,
        ("size = norms(X).mean().item()", "size = norms(X)"),
        ("norms(X - Y).mean() / (size or 1.0)", "(norms(X - Y) / torch.where(size > 0, size, 1)).mean()"),
    ),
    "silent targets left out of the mean": changed(
        SPECTRAL_BY_FRAMES, ("norms(X).mean().item()", "(norms(X).sum() / (norms(X) > 0).sum().clamp_min(1)).item()")
    ),
    "divided by the output": changed(SPECTRAL_BY_EXAMPLE, ("below + X.norm()", "below + Y.norm()")),
    "divided by both": changed(SPECTRAL_BY_EXAMPLE, ("below + X.norm()", "below + (X.norm() + Y.norm()) / 2")),
    "not divided": changed(SPECTRAL_BY_EXAMPLE, ("above / below /", "above / len(x) /")),
    "one size for all resolutions": changed(
        SPECTRAL_BY_FRAMES,
        ("size = norms(X).mean().item()", "size = norms(spectrum(x, *resolutions[0])).mean().item()"),
    ),
    "the loudness divided out": changed(
        SPECTRAL_BY_EXAMPLE,
        (
            "        above = below = 0.0\n",
            "        above = below = 0.0\n        y = y / y.norm().clamp_min(1e-30) * x.norm()\n",
        ),
    ),
    "a constant below the line": changed(SPECTRAL_BY_EXAMPLE, ("above / below /", "above / (below + 1e-3) /")),
    "a small constant below the line": changed(SPECTRAL_BY_EXAMPLE, ("above / below /", "above / (below + 1e-8) /")),
    "soft targets taken for silent": changed(SPECTRAL_BY_EXAMPLE, ("if below == 0:", "if below < 1e-6:")),
    "silent targets: not a number": changed(
        SPECTRAL_BY_EXAMPLE, ("        if below == 0:\n            below = len(x)\n", "")
    ),
    "silent targets: no loss": changed(
        SPECTRAL_BY_EXAMPLE, ("            below = len(x)\n", "            below = math.inf\n")
    ),
    "silent targets: the sum": changed(
        SPECTRAL_BY_EXAMPLE, ("            below = len(x)\n", "            below = 1\n")
    ),
    "a root with an infinite slope": changed(
        SPECTRAL_BY_FRAMES,
        (
            "    safe = torch.where(squares > 0, squares, torch.ones_like(squares))\n"
            "    return torch.where(squares > 0, safe.sqrt(), torch.zeros_like(squares))\n",
            "    return squares.sqrt()\n",
        ),
    ),
    "a root with a constant": changed(
        SPECTRAL_BY_FRAMES,
        (
            "    safe = torch.where(squares > 0, squares, torch.ones_like(squares))\n"
            "    return torch.where(squares > 0, safe.sqrt(), torch.zeros_like(squares))\n",
            "    return (squares + 1e-8).sqrt()\n",
        ),
    ),
    "magnitudes by a root": changed(
        SPECTRAL_BY_FRAMES,
        (
            "torch.fft.rfft(frames * window).abs()",
            "torch.view_as_real(torch.fft.rfft(frames * window)).square().sum(-1).sqrt()",
        ),
    ),
    "magnitudes with a constant": changed(
        SPECTRAL_BY_FRAMES,
        (
            "torch.fft.rfft(frames * window).abs()",
            "(torch.view_as_real(torch.fft.rfft(frames * window)).square().sum(-1) + 1e-6).sqrt()",
        ),
    ),
    "single precision": changed(
        SPECTRAL_BY_EXAMPLE,
        ("kind, x, y = x.dtype, x.double(), y.double()", "kind, x, y = x.dtype, x.float(), y.float()"),
        ("dtype=torch.float64", "dtype=torch.float32"),
    ),
    "no gradient": changed(SPECTRAL_BY_EXAMPLE, ("above + (X - Y).norm()", "above + (X - Y).norm().item()")),
    "float64 all the time": changed(SPECTRAL_BY_EXAMPLE, ("loss.to(kind)", "loss")),
    "float32 all the time": changed(SPECTRAL_BY_EXAMPLE, ("loss.to(kind)", "loss.float()")),
    "a loss for each example": changed(SPECTRAL_BY_FRAMES, ("norms(X - Y).mean()", "norms(X - Y)")),
}

# ---------------------------------------------------------------------------------- 4, the bandwidth of all downmixes

VARIANCE_BY_SIMPSON = """
def mixed_down(chunks, shares, gains):
    left, right = chunks[:, 0], chunks[:, -1]
    a, g = shares.unsqueeze(1), gains.unsqueeze(1)
    return (g * (a * left + (1 - a) * right)).unsqueeze(1)

def expected_variance(chunks, quietest=1.0, loudest=1.0):
    x = chunks.double()
    cases = []                                                      # (weight, samples)
    for w, a in ((1, 0.0), (4, 0.5), (1, 1.0)):
        for v, g in ((1, quietest), (4, 0.5 * (quietest + loudest)), (1, loudest)):
            cases.append((w * v / 36, g * (a * x[:, 0] + (1 - a) * x[:, -1])))
    mean = sum(w * s.mean() for w, s in cases)
    return sum(w * ((s - mean) ** 2).mean() for w, s in cases).item()
"""
VARIANCE_BY_PARTS = """
def mixed_down(chunks, shares, gains):
    if chunks.shape[1] == 2:
        chunks = torch.einsum("cst,cs->ct", chunks, torch.stack([shares, 1 - shares], 1))[:, None]
    return chunks * gains.view(-1, 1, 1)

def expected_variance(chunks, quietest=1.0, loudest=1.0):
    x = chunks.double()
    middle, side = (x[:, 0] + x[:, -1]) / 2, (x[:, 0] - x[:, -1]) / 2
    # u = middle + (2 a - 1) side, and (2 a - 1) has mean 0 and mean square 1/3
    of_u = middle.var(unbiased=False) + side.square().mean() / 3
    g, spread = (quietest + loudest) / 2, (loudest - quietest) ** 2 / 12
    # the law of total variance: what the samples vary by, and what the gain does
    return ((g * g + spread) * of_u + spread * middle.mean() ** 2).item()
"""
VARIANCE_BY_MOMENTS = """
def mixed_down(chunks, shares, gains):
    mixed = []
    for chunk, a, g in zip(chunks, shares, gains):
        mixed.append(g * (a * chunk[0] + (1 - a) * chunk[-1]))
    return torch.stack(mixed)[:, None]

def expected_variance(chunks, quietest=1.0, loudest=1.0):
    l, r = chunks[:, 0].double(), chunks[:, -1].double()
    offset = float((l + r).mean() / 2)
    l, r = l - offset, r - offset
    second = float((l * l + l * r + r * r).mean()) / 3              # around the offset
    gains = (quietest ** 2 + quietest * loudest + loudest ** 2) / 3
    return gains * second + (loudest - quietest) ** 2 / 12 * offset ** 2
"""
VARIANCE_RIGHT = {
    "Simpson's rule": VARIANCE_BY_SIMPSON,
    "middle and side": VARIANCE_BY_PARTS,
    "moments": VARIANCE_BY_MOMENTS,
}
VARIANCE_WRONG = {
    "the left channel's share for the right": changed(
        VARIANCE_BY_MOMENTS, ("g * (a * chunk[0] + (1 - a) * chunk[-1])", "g * (a * chunk[-1] + (1 - a) * chunk[0])")
    ),
    "both channels by the same share": changed(VARIANCE_BY_MOMENTS, ("(1 - a) * chunk[-1]", "a * chunk[-1]")),
    "without the gain": changed(
        VARIANCE_BY_MOMENTS, ("g * (a * chunk[0] + (1 - a) * chunk[-1])", "a * chunk[0] + (1 - a) * chunk[-1]")
    ),
    "the gain on one channel": changed(
        VARIANCE_BY_MOMENTS, ("g * (a * chunk[0] + (1 - a) * chunk[-1])", "g * a * chunk[0] + (1 - a) * chunk[-1]")
    ),
    "the first share for all": changed(
        VARIANCE_BY_MOMENTS, ("zip(chunks, shares, gains)", "zip(chunks, shares[:1].expand(len(chunks)), gains)")
    ),
    "one channel times its share": changed(
        VARIANCE_BY_PARTS,
        (
            "if chunks.shape[1] == 2:\n        chunks",
            "if True:\n"
            "        chunks = chunks if chunks.shape[1] == 2 else torch.cat([chunks, 0 * chunks], 1)\n"
            "        chunks",
        ),
    ),
    "one channel without its gain": changed(
        VARIANCE_BY_PARTS,
        ("    return chunks * gains.view(-1, 1, 1)", "        return chunks * gains.view(-1, 1, 1)\n    return chunks"),
    ),
    "two axes": changed(VARIANCE_BY_MOMENTS, ("torch.stack(mixed)[:, None]", "torch.stack(mixed)")),
    "not more than 1": changed(
        VARIANCE_BY_MOMENTS, ("torch.stack(mixed)[:, None]", "torch.stack(mixed)[:, None].clamp(-1, 1)")
    ),
    "gains below 0 turned": changed(VARIANCE_BY_MOMENTS, ("mixed.append(g *", "mixed.append(g.abs() *")),
    "mixed in place": changed(
        VARIANCE_BY_PARTS, ("return chunks * gains.view(-1, 1, 1)", "return chunks.mul_(gains.view(-1, 1, 1))")
    ),
    "mixed in double precision": changed(
        VARIANCE_BY_MOMENTS, ("torch.stack(mixed)[:, None]", "torch.stack(mixed)[:, None].double()")
    ),
    "mixed in single precision": changed(
        VARIANCE_BY_MOMENTS, ("torch.stack(mixed)[:, None]", "torch.stack(mixed)[:, None].float()")
    ),
    "the variance of the middle": changed(
        VARIANCE_BY_PARTS,
        ("of_u = middle.var(unbiased=False) + side.square().mean() / 3", "of_u = middle.var(unbiased=False)"),
    ),
    "the variance of both channels": changed(
        VARIANCE_BY_PARTS,
        (
            "of_u = middle.var(unbiased=False) + side.square().mean() / 3",
            "of_u = (x[:, 0].var(unbiased=False) + x[:, -1].var(unbiased=False)) / 2",
        ),
    ),
    "channels taken for independent": changed(
        VARIANCE_BY_MOMENTS, ("(l * l + l * r + r * r).mean()", "(l * l + r * r).mean()")
    ),
    "the product twice": changed(VARIANCE_BY_MOMENTS, ("l * l + l * r + r * r", "l * l + 2 * l * r + r * r")),
    "shares of one half": changed(
        VARIANCE_BY_MOMENTS,
        ("float((l * l + l * r + r * r).mean()) / 3", "float((l * l + 2 * l * r + r * r).mean()) / 4"),
    ),
    "a half for a third": changed(VARIANCE_BY_PARTS, ("side.square().mean() / 3", "side.square().mean() / 2")),
    "the side's variance": changed(VARIANCE_BY_PARTS, ("side.square().mean() / 3", "side.var(unbiased=False) / 3")),
    "left or right": changed(VARIANCE_BY_PARTS, ("side.square().mean() / 3", "side.square().mean()")),
    "the mean square": changed(VARIANCE_BY_PARTS, ("middle.var(unbiased=False)", "middle.square().mean()")),
    "the offset not taken off": changed(VARIANCE_BY_MOMENTS, ("    l, r = l - offset, r - offset\n", "")),
    "large numbers less large numbers": changed(
        VARIANCE_BY_MOMENTS,
        ("l, r = chunks[:, 0].double(), chunks[:, -1].double()", "l, r = chunks[:, 0], chunks[:, -1]"),
        ("    l, r = l - offset, r - offset\n", ""),
        (
            "gains * second + (loudest - quietest) ** 2 / 12 * offset ** 2",
            "float(gains * torch.tensor(second) - ((loudest + quietest) / 2 * torch.tensor(offset)) ** 2)",
        ),
    ),
    "single precision": changed(
        VARIANCE_BY_SIMPSON,
        ("x = chunks.double()", "x = chunks.float()"),
        ("(s - mean) ** 2", "s ** 2"),
        (".mean() for w, s in cases).item()", ".mean() for w, s in cases).item() - float(mean) ** 2"),
    ),
    "the unbiased variance": changed(
        VARIANCE_BY_PARTS, ("middle.var(unbiased=False)", "(middle.var() if middle.numel() > 1 else 0)")
    ),
    "each chunk around its own mean": changed(
        VARIANCE_BY_PARTS, ("middle.var(unbiased=False)", "middle.var(1, unbiased=False).mean()")
    ),
    "each channel around its own mean": changed(
        VARIANCE_BY_MOMENTS, ("l, r = l - offset, r - offset", "l, r = l - l.mean(), r - r.mean()")
    ),
    "the gain forgotten": changed(VARIANCE_BY_PARTS, ("(g * g + spread) * of_u + spread * middle.mean() ** 2", "of_u")),
    "the mean gain, squared": changed(
        VARIANCE_BY_PARTS, ("(g * g + spread) * of_u + spread * middle.mean() ** 2", "g * g * of_u")
    ),
    "the gain's mean square alone": changed(
        VARIANCE_BY_PARTS, ("(g * g + spread) * of_u + spread * middle.mean() ** 2", "(g * g + spread) * of_u")
    ),
    "the gain without its square": changed(VARIANCE_BY_PARTS, ("(g * g + spread) * of_u", "g * of_u")),
    "the gain spreads wider": changed(
        VARIANCE_BY_PARTS, ("(loudest - quietest) ** 2 / 12", "(loudest - quietest) ** 2 / 4")
    ),
    "the gains' ends only": changed(
        VARIANCE_BY_MOMENTS,
        ("(quietest ** 2 + quietest * loudest + loudest ** 2) / 3", "(quietest ** 2 + loudest ** 2) / 2"),
    ),
    "the loudest gain": changed(
        VARIANCE_BY_MOMENTS, ("(quietest ** 2 + quietest * loudest + loudest ** 2) / 3", "loudest ** 2")
    ),
    "one gain divides by zero": changed(
        VARIANCE_BY_MOMENTS,
        (
            "(quietest ** 2 + quietest * loudest + loudest ** 2) / 3",
            "(loudest ** 3 - quietest ** 3) / (3 * (loudest - quietest))",
        ),
    ),
    "gains from 0": changed(VARIANCE_BY_PARTS, ("x = chunks.double()", "x, quietest = chunks.double(), 0.0")),
    "drawn": """
def mixed_down(chunks, shares, gains):
    left, right = chunks[:, :1], chunks[:, -1:]
    return gains[:, None, None] * (shares[:, None, None] * left + (1 - shares)[:, None, None] * right)

def expected_variance(chunks, quietest=1.0, loudest=1.0):
    draw = torch.Generator().manual_seed(0)
    n, found = len(chunks), []
    for _ in range(300):
        a, g = torch.rand(2, n, generator=draw, dtype=torch.float64)
        found.append(mixed_down(chunks.double(), a, quietest + (loudest - quietest) * g))
    return float(torch.cat(found).var())
""",
    "the standard deviation": changed(
        VARIANCE_BY_PARTS, ("middle.mean() ** 2).item()", "middle.mean() ** 2).sqrt().item()")
    ),
    "a tensor": changed(VARIANCE_BY_PARTS, ("middle.mean() ** 2).item()", "middle.mean() ** 2)")),
    "silence left out": changed(
        VARIANCE_BY_PARTS,
        ("    g, spread =", "    middle = middle[middle != 0] if middle.any() else middle\n    g, spread ="),
        (
            "of_u = middle.var(unbiased=False) + side.square().mean() / 3",
            "of_u = middle[middle != 0].var(unbiased=False).nan_to_num() + side[side != "
            "0].square().mean().nan_to_num() / 3",
        ),
    ),
}

# ------------------------------------------------------------------------------------ 5, only as many stages as needed

FRUGAL_BY_STAGES = """
def frugal_symbols(x, codebooks, tolerance):
    rest = x.double()
    energy = (rest ** 2).sum(1)
    symbols = torch.full((len(x), len(codebooks)), -1, dtype=torch.int64)
    best, best_error = symbols.clone(), energy.clone()
    done = best_error <= tolerance * energy
    for stage, codebook in enumerate(codebooks):
        e = codebook.double()
        k = ((rest.unsqueeze(1) - e) ** 2).sum(2).argmin(1)
        symbols[:, stage] = k
        rest = rest - e[k]
        error = (rest ** 2).sum(1)
        better = ~done & ((error < best_error) | (error <= tolerance * energy))
        best = torch.where(better[:, None], symbols, best)
        best_error = torch.where(better, error, best_error)
        done = done | (error <= tolerance * energy)
    return best

def from_symbols(symbols, codebooks):
    total = 0
    for column, book in zip(symbols.T, codebooks):
        with_zero = torch.cat([book, torch.zeros_like(book[:1])])   # -1 is the last row
        total = total + with_zero[column]
    return total
"""
FRUGAL_BY_VECTORS = """
def frugal_symbols(x, codebooks, tolerance):
    table = torch.full((x.shape[0], len(codebooks)), -1)
    for row, vector in enumerate(x.double()):
        energy = float(vector @ vector)
        rest, symbols, tried = vector, [], [(energy, 0)]
        for book in codebooks:
            if tried[-1][0] <= tolerance * energy:
                break
            k = int((rest - book.double()).square().sum(-1).argmin())
            symbols.append(k)
            rest = rest - book[k].double()
            tried.append((float(rest @ rest), len(symbols)))
        n = tried[-1][1] if tried[-1][0] <= tolerance * energy else min(tried)[1]
        for stage in range(n):
            table[row, stage] = symbols[stage]
    return table

def from_symbols(symbols, codebooks):
    out = codebooks[0].new_zeros(symbols.shape[0], codebooks[0].shape[1])
    for row in range(symbols.shape[0]):
        for stage, k in enumerate(symbols[row].tolist()):
            if k >= 0:
                out[row] += codebooks[stage][k]
    return out
"""
FRUGAL_BY_TABLE = """
def frugal_symbols(x, codebooks, tolerance):
    x, all_symbols, found = x.double(), [], [torch.zeros_like(x).double()]
    for book in codebooks:
        rest = x - found[-1]
        distances = torch.cdist(rest, book.double(), compute_mode="donot_use_mm_for_euclid_dist")
        # norms of the same numbers in another order may tie differently: squares decide
        distances = torch.stack([(rest - e).square().sum(-1) for e in book.double()], -1)
        all_symbols.append(distances.min(-1).indices)
        found.append(found[-1] + book.double()[all_symbols[-1]])
    errors = torch.stack([(x - one).square().sum(-1) for one in found])         # (1 + stage, vector)
    good = errors <= tolerance * x.square().sum(-1)
    first = good.to(torch.uint8).argmax(0)
    least = (errors == errors.min(0).values).to(torch.uint8).argmax(0)
    stages = torch.where(good.any(0), first, least)
    symbols = torch.stack(all_symbols, -1)
    for stage in range(symbols.shape[1]):
        symbols[stages <= stage, stage] = -1
    return symbols

def from_symbols(symbols, codebooks):
    parts = [torch.where(k[:, None] >= 0, book[k.clamp(min=0)], torch.zeros_like(book[:1]))
             for k, book in zip(symbols.unbind(1), codebooks)]
    return torch.stack(parts).sum(0)
"""
FRUGAL_RIGHT = {
    "stage by stage": FRUGAL_BY_STAGES,
    "vector by vector": FRUGAL_BY_VECTORS,
    "a table of errors": FRUGAL_BY_TABLE,
}
TABLE_BACK = """
def from_symbols(symbols, codebooks):
    parts = [torch.where(k[:, None] >= 0, book[k.clamp(min=0)], torch.zeros_like(book[:1]))
             for k, book in zip(symbols.unbind(1), codebooks)]
    return torch.stack(parts).sum(0)
"""
FRUGAL_WRONG = {
    "all stages": changed(FRUGAL_BY_TABLE, ("        symbols[stages <= stage, stage] = -1\n", "        pass\n")),
    "at least one stage": changed(
        FRUGAL_BY_TABLE,
        (
            "stages = torch.where(good.any(0), first, least)",
            "stages = torch.where(good.any(0), first, least).clamp_min(1)",
        ),
    ),
    "the stage with the least error": changed(FRUGAL_BY_TABLE, ("torch.where(good.any(0), first, least)", "least")),
    "the last number of stages that will do": changed(
        FRUGAL_BY_TABLE,
        ("first = good.to(torch.uint8).argmax(0)", "first = len(good) - 1 - good.flip(0).to(torch.uint8).argmax(0)"),
    ),
    "where none will do: all": changed(
        FRUGAL_BY_TABLE, ("torch.where(good.any(0), first, least)", "torch.where(good.any(0), first, len(codebooks))")
    ),
    "where none will do: none": changed(FRUGAL_BY_TABLE, ("torch.where(good.any(0), first, least)", "first")),
    "where none will do: the last of equal ones": changed(
        FRUGAL_BY_TABLE,
        (
            "least = (errors == errors.min(0).values).to(torch.uint8).argmax(0)",
            "least = len(errors) - 1 - (errors == errors.min(0).values).flip(0).to(torch.uint8).argmax(0)",
        ),
    ),
    "where none will do: not 0": changed(
        FRUGAL_BY_TABLE,
        ("least = (errors == errors.min(0).values).to(torch.uint8).argmax(0)", "least = 1 + errors[1:].argmin(0)"),
    ),
    "stops as soon as it gets worse": changed(
        FRUGAL_BY_VECTORS,
        (
            "            tried.append((float(rest @ rest), len(symbols)))\n",
            "            tried.append((float(rest @ rest), len(symbols)))\n"
            "            if tried[-1][0] >= tried[-2][0]:\n"
            "                break\n",
        ),
    ),
    "a stage that makes it worse is skipped": changed(
        FRUGAL_BY_VECTORS,
        (
            "            rest = rest - book[k].double()\n",
            "            if (rest - book[k].double()).norm() < rest.norm():\n"
            "                rest = rest - book[k].double()\n"
            "            else:\n"
            "                symbols[-1] = -1\n",
        ),
    ),
    "below the tolerance": changed(FRUGAL_BY_TABLE, ("errors <= tolerance *", "errors < tolerance *")),
    "the tolerance of the amplitude": changed(FRUGAL_BY_TABLE, ("errors <= tolerance *", "errors <= tolerance ** 2 *")),
    "an absolute tolerance": changed(
        FRUGAL_BY_TABLE, ("errors <= tolerance * x.square().sum(-1)", "errors <= tolerance")
    ),
    "the energy of the whole batch": changed(
        FRUGAL_BY_TABLE,
        ("tolerance * x.square().sum(-1)", "tolerance * x.square().sum(-1).nan_to_num().sum() / max(1, len(x))"),
    ),
    "the energy of what was found": changed(
        FRUGAL_BY_TABLE, ("tolerance * x.square().sum(-1)", "tolerance * torch.stack(found).square().sum(-1)")
    ),
    "the energy of the rest": changed(
        FRUGAL_BY_VECTORS,
        (
            "            rest = rest - book[k].double()\n",
            "            energy = float(rest @ rest)\n            rest = rest - book[k].double()\n",
        ),
    ),
    "each stage for the vector itself": changed(FRUGAL_BY_TABLE, ("rest = x - found[-1]", "rest = x")),
    "the rest added": changed(FRUGAL_BY_STAGES, ("rest = rest - e[k]", "rest = rest + e[k]")),
    "from the last codebook": changed(
        FRUGAL_BY_STAGES, ("enumerate(codebooks):\n        e =", "reversed(list(enumerate(codebooks))):\n        e =")
    ),
    "the first codebook for all": changed(FRUGAL_BY_STAGES, ("e = codebook.double()", "e = codebooks[0].double()")),
    "the best pair of the first two": changed(
        FRUGAL_BY_VECTORS,
        (
            "            k = int((rest - book.double()).square().sum(-1).argmin())\n",
            "            n = len(symbols) + 1\n"
            "            after = codebooks[n].double() if n < len(codebooks) else 0 * book[:1].double()\n"
            "            k = int((rest - book.double()[:, None] - after).square().sum(-1).amin(1).argmin())\n",
        ),
    ),
    "of equal ones the last": changed(
        FRUGAL_BY_STAGES,
        (
            "((rest.unsqueeze(1) - e) ** 2).sum(2).argmin(1)",
            "len(e) - 1 - ((rest.unsqueeze(1) - e) ** 2).sum(2).flip(1).argmin(1)",
        ),
    ),
    "the farthest code": changed(FRUGAL_BY_STAGES, (".sum(2).argmin(1)", ".sum(2).argmax(1)")),
    "the largest product": changed(
        FRUGAL_BY_STAGES, ("((rest.unsqueeze(1) - e) ** 2).sum(2).argmin(1)", "(rest @ e.T).argmax(1)")
    ),
    "the sum of the differences": changed(
        FRUGAL_BY_STAGES, ("((rest.unsqueeze(1) - e) ** 2)", "(rest.unsqueeze(1) - e).abs()")
    ),
    "single precision": changed(
        FRUGAL_BY_STAGES, ("rest = x.double()", "rest = x.float()"), ("e = codebook.double()", "e = codebook.float()")
    ),
    "a constant in the energy": changed(
        FRUGAL_BY_STAGES, ("energy = (rest ** 2).sum(1)", "energy = (rest ** 2).sum(1) + 1e-9")
    ),
    "soft vectors taken for silence": changed(
        FRUGAL_BY_STAGES,
        ("done = best_error <= tolerance * energy", "done = best_error <= (tolerance * energy).clamp_min(1e-12)"),
    ),
    "unused stages: 0": changed(
        FRUGAL_BY_TABLE, ("symbols[stages <= stage, stage] = -1", "symbols[stages <= stage, stage] = 0")
    ),
    "unused stages: the number of codes": changed(
        FRUGAL_BY_TABLE,
        ("symbols[stages <= stage, stage] = -1", "symbols[stages <= stage, stage] = len(codebooks[stage])"),
    ),
    "one stage too few": changed(
        FRUGAL_BY_TABLE, ("symbols[stages <= stage, stage]", "symbols[stages - 1 <= stage, stage]")
    ),
    "one stage too many": changed(
        FRUGAL_BY_TABLE, ("symbols[stages <= stage, stage]", "symbols[stages < stage, stage]")
    ),
    "the same number for all": changed(
        FRUGAL_BY_TABLE,
        (
            "    symbols = torch.stack",
            "    stages = stages.amax().expand(len(x)) if len(x) else stages\n    symbols = torch.stack",
        ),
    ),
    "-1 read as the last code": changed(
        FRUGAL_BY_VECTORS,
        ("            if k >= 0:\n                out[row]", "            if True:\n                out[row]"),
    ),
    "-1 read as the first code": changed(
        FRUGAL_BY_TABLE,
        ("torch.where(k[:, None] >= 0, book[k.clamp(min=0)], torch.zeros_like(book[:1]))", "book[k.clamp(min=0)]"),
    ),
    "code 0 read as unused": changed(
        FRUGAL_BY_TABLE, ("torch.where(k[:, None] >= 0, book", "torch.where(k[:, None] > 0, book")
    ),
    "the last stage alone": changed(FRUGAL_BY_TABLE, ("torch.stack(parts).sum(0)", "parts[-1]")),
    "the mean of the stages": changed(FRUGAL_BY_TABLE, ("torch.stack(parts).sum(0)", "torch.stack(parts).mean(0)")),
    "symbols changed in place": changed(
        FRUGAL_BY_TABLE, ("book[k.clamp(min=0)], torch", "book[k.clamp_(min=0)], torch")
    ),
    "no vectors: an error": changed(
        FRUGAL_BY_TABLE,
        (
            "x, all_symbols, found = x.double(), [], [torch.zeros_like(x).double()]",
            "x, all_symbols, found = x.double(), [], [torch.zeros_like(x).double()]\n    x[0]",
        ),
    ),
    "symbols of 32 bits": changed(FRUGAL_BY_TABLE, ("    return symbols\n", "    return symbols.int()\n")),
    "float64 all the time": changed(
        FRUGAL_BY_TABLE, ("torch.stack(parts).sum(0)", "torch.stack(parts).sum(0).double()")
    ),
    "float32 all the time": changed(
        FRUGAL_BY_TABLE, ("torch.stack(parts).sum(0)", "torch.stack(parts).sum(0).float()")
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    5,
    """
from course_lib.jukebox import ResidualQuantiser

def frugal_symbols(x, codebooks, tolerance):
    quantiser = ResidualQuantiser([book.double() for book in codebooks])
    symbols = quantiser.encode(x.double())
    found = [torch.zeros_like(x).double()]
    found += [quantiser.decode(symbols, stages) for stages in range(1, len(codebooks) + 1)]
    errors = torch.stack([(x - one).square().sum(-1) for one in found], 1)
    enough = errors <= tolerance * errors[:, :1]
    count = torch.where(enough.any(1), enough.int().argmax(1), errors.argmin(1))
    return symbols.masked_fill(torch.arange(len(codebooks)) >= count[:, None], -1)
"""
    + TABLE_BACK,
)


CASES = as_cells(
    (LEVELS_RIGHT, LEVELS_WRONG),
    (PIECES_RIGHT, PIECES_WRONG),
    (SPECTRAL_RIGHT, SPECTRAL_WRONG),
    (VARIANCE_RIGHT, VARIANCE_WRONG),
    (FRUGAL_RIGHT, FRUGAL_WRONG),
)
