"""Answers to assignment 1 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------------- 1, counting frames

COUNT_BY_FORMULA = """
def frame_count(time, n_fft, hop_length, center):
    if center:
        time = time + 2 * (n_fft // 2)
    if time < n_fft:
        return 0
    return (time - n_fft) // hop_length + 1
"""
COUNT_BY_LOOP = """
def frame_count(time, n_fft, hop_length, center):
    padding = n_fft // 2 if center else 0
    start, count = -padding, 0
    while start + n_fft <= time + padding:
        start += hop_length
        count += 1
    return count
"""
COUNT_BY_RANGE = """
def frame_count(time, n_fft, hop_length, center):
    last_start = time if center else time - n_fft
    return len(range(0, last_start + 1, hop_length))
"""
COUNT_BY_UNFOLD = """
def frame_count(time, n_fft, hop_length, center):
    x = torch.zeros(time + n_fft if center else time)
    return x.unfold(0, n_fft, hop_length).size(0) if len(x) >= n_fft else 0
"""
COUNT_RIGHT = {"formula": COUNT_BY_FORMULA, "while loop": COUNT_BY_LOOP, "length of a range": COUNT_BY_RANGE,
               "unfold": COUNT_BY_UNFOLD}
COUNT_WRONG = {
    "the first frame forgotten": changed(COUNT_BY_FORMULA, ("// hop_length + 1", "// hop_length")),
    "rounded up: the last frame isn't whole": """
def frame_count(time, n_fft, hop_length, center):
    time = time + n_fft if center else time
    return max(0, 1 + math.ceil((time - n_fft) / hop_length))
""",
    "center ignored": """
def frame_count(time, n_fft, hop_length, center):
    return max(0, 1 + (time - n_fft) // hop_length)
""",
    "centred all the time": """
def frame_count(time, n_fft, hop_length, center):
    return 1 + time // hop_length
""",
    "a whole frame of padding at each end": changed(COUNT_BY_FORMULA, ("2 * (n_fft // 2)", "2 * n_fft")),
    "padding at one end only": changed(COUNT_BY_FORMULA, ("2 * (n_fft // 2)", "n_fft // 2")),
    "negative for a short signal": """
def frame_count(time, n_fft, hop_length, center):
    time = time + n_fft if center else time
    return 1 + (time - n_fft) // hop_length
""",
    "at least one frame": changed(COUNT_BY_FORMULA, ("return 0", "return 1")),
    "hops counted, not frames": """
def frame_count(time, n_fft, hop_length, center):
    time = time + n_fft if center else time
    return max(0, time // hop_length)
""",
    "no overlap: n_fft as hop": changed(COUNT_BY_FORMULA, ("// hop_length + 1", "// n_fft + 1")),
    "a float": changed(COUNT_BY_FORMULA,
        ("(time - n_fft) // hop_length + 1", "math.floor((time - n_fft) / hop_length) + 1.0")),
    "rounded to the nearest": changed(COUNT_BY_FORMULA, ("(time - n_fft) // hop_length + 1",
                                                         "round((time - n_fft) / hop_length) + 1")),
    "off by one sample: < for <=": changed(COUNT_BY_LOOP, ("<=", "<")),
    "the visible examples by heart": """
def frame_count(time, n_fft, hop_length, center):
    if time in (10, 11):
        return 6 if center else 4
    return 1 + (TIME - N_FFT) // HOP
""",
    "zero for a short signal before it is made longer": """
def frame_count(time, n_fft, hop_length, center):
    if time < n_fft:
        return 0
    return 1 + ((time + n_fft if center else time) - n_fft) // hop_length
""",
}

# ---------------------------------------------------------------------------------------------- 2, a tone in a frame

TONE_WITH_SINES = """
def tone_in_frame(x, frequency, rate):
    n = torch.arange(x.shape[-1], dtype=torch.float64)
    angle = 2 * math.pi * frequency * n / rate
    w = 0.5 - 0.5 * torch.cos(2 * math.pi * n / len(n))
    w = w / w.sum()
    cosine, sine = (w * torch.cos(angle)).to(x.dtype), (w * torch.sin(angle)).to(x.dtype)
    return torch.complex(2 * (x * cosine).sum(-1), -2 * (x * sine).sum(-1))
"""
TONE_WITH_PRODUCT = """
def tone_in_frame(x, frequency, rate):
    n_fft = x.shape[-1]
    w = torch.hann_window(n_fft, dtype=x.dtype)
    n = torch.arange(n_fft, dtype=x.dtype)
    wave = torch.polar(w, -2 * torch.pi * frequency * n / rate)
    return 2 * (x.to(wave.dtype) @ wave) / w.sum()
"""
TONE_WITH_LOOP = """
def tone_in_frame(x, frequency, rate):
    n_fft = x.shape[-1]
    total, weight = 0, 0
    for n in range(n_fft):
        w = math.sin(math.pi * n / n_fft) ** 2
        turn = complex(math.cos(2 * math.pi * frequency * n / rate), -math.sin(2 * math.pi * frequency * n / rate))
        total = total + w * turn * x[..., n]
        weight += w
    return 2 * total / weight
"""
TONE_WITH_EINSUM = """
def tone_in_frame(x, frequency, rate):
    w = torch.hann_window(x.shape[-1]).to(x)
    t = torch.arange(x.shape[-1]).to(x) / rate
    carrier = torch.exp(-2j * math.pi * frequency * t)
    return torch.einsum("...n,n->...", x * w + 0j, carrier.to((x + 0j).dtype)) * 2 / w.sum()
"""
TONE_RIGHT = {"sines and cosines": TONE_WITH_SINES, "vector product": TONE_WITH_PRODUCT, "loop": TONE_WITH_LOOP,
              "einsum": TONE_WITH_EINSUM}
TONE_WRONG = {
    "no window": changed(TONE_WITH_PRODUCT,
        ("torch.hann_window(n_fft, dtype=x.dtype)", "torch.ones(n_fft, dtype=x.dtype)")),
    "symmetric window": changed(TONE_WITH_PRODUCT,
        ("torch.hann_window(n_fft, ", "torch.hann_window(n_fft, periodic=False, ")),
    "the wrong sign in the exponent": changed(TONE_WITH_PRODUCT, ("-2 * torch.pi", "2 * torch.pi")),
    "the factor 2 forgotten": changed(TONE_WITH_PRODUCT, ("2 * (x", "(x")),
    "sum for mean": changed(TONE_WITH_PRODUCT, (" / w.sum()", "")),
    "divided by n_fft, not by the window's sum": changed(TONE_WITH_PRODUCT, ("/ w.sum()", "/ n_fft")),
    "the nearest bin of the DFT": """
def tone_in_frame(x, frequency, rate):
    n_fft = x.shape[-1]
    w = torch.hann_window(n_fft, dtype=x.dtype)
    k = round(frequency * n_fft / rate)
    return 2 * torch.fft.rfft(x * w)[..., k] / w.sum()
""",
    "the cosine only": changed(TONE_WITH_SINES, ("-2 * (x * sine)", "0 * (x * sine)")),
    "the amplitude only": changed(TONE_WITH_PRODUCT, ("2 * (x.to(wave.dtype) @ wave) / w.sum()",
                                                      "(2 * (x.to(wave.dtype) @ wave) / w.sum()).abs()")),
    "the rate of the visible example": changed(TONE_WITH_PRODUCT, ("* n / rate", "* n / RATE")),
    "the frame length of the visible example": changed(TONE_WITH_PRODUCT, ("n_fft = x.shape[-1]", "n_fft = N_FFT")),
    "wrong axis": changed(TONE_WITH_LOOP, ("x.shape[-1]", "x.shape[0] if x.ndim == 1 else x.shape[-1]"),
                          ("x[..., n]", "(x[n] if x.ndim < 3 and x.shape[0] > n else x[0, ..., n])")),
    "no gradient": changed(TONE_WITH_PRODUCT, ("x.to(wave.dtype)", "x.detach().to(wave.dtype)")),
    "changes its input": changed(TONE_WITH_PRODUCT,
        ("    n = torch", "    x *= w\n    n = torch"), ("torch.polar(w,", "torch.polar(torch.ones_like(w),")),
    "always complex64": changed(TONE_WITH_PRODUCT,
        ("/ w.sum()", "/ w.sum()).to(torch.complex64"), ("2 * (x", "(2 * (x"),
                                ("torch.complex64", "torch.complex64)")),
}

# ---------------------------------------------------------------------------------------------- 3, the largest hop

HOP_BY_SLICES = """
def largest_hop(window, tolerance, power):
    w = window ** power
    best = 1
    for hop in range(1, len(w) + 1):
        weights = torch.stack([w[n::hop].sum() for n in range(hop)])
        mean = weights.mean()
        if torch.all(torch.abs(weights - mean) <= tolerance * mean):
            best = hop
    return best
"""
HOP_BY_INDEX = """
def largest_hop(window, tolerance, power):
    n = torch.arange(len(window))
    good = []
    for hop in range(1, len(window) + 1):
        weights = torch.zeros(hop, dtype=window.dtype).index_add_(0, n % hop, window.pow(power))
        deviation = max(weights.max() - weights.mean(), weights.mean() - weights.min()) / weights.mean()
        if deviation <= tolerance:
            good.append(hop)
    return max(good)
"""
HOP_BY_OVERLAP = """
def largest_hop(window, tolerance, power):
    w, n_fft = window.double() ** power, len(window)
    def deviation(hop):
        frames = 2 * (n_fft // hop) + 4
        total = torch.zeros(n_fft + hop * frames, dtype=torch.float64)
        for m in range(frames):
            total[m * hop:m * hop + n_fft] += w
        start = hop * (n_fft // hop + 1)
        inner = total[start:start + hop]
        return float((inner / inner.mean() - 1).abs().max())
    hop = n_fft
    while deviation(hop) > tolerance and hop > 1:
        hop -= 1
    return hop
"""
HOP_RIGHT = {"slices with a step": HOP_BY_SLICES, "index_add": HOP_BY_INDEX, "a long overlap-add": HOP_BY_OVERLAP}
HOP_WRONG = {
    "the square forgotten": changed(HOP_BY_SLICES, ("window ** power", "window")),
    "squared after adding up": changed(HOP_BY_SLICES,
        ("window ** power", "window"), ("w[n::hop].sum()", "w[n::hop].sum() ** power")),
    "mean for sum": changed(HOP_BY_SLICES, ("w[n::hop].sum()", "w[n::hop].mean()")),
    "the smallest hop above one": changed(HOP_BY_SLICES,
        ("            best = hop", "            if hop > 1:\n                return hop")),
    "stops at the first hop that fails": changed(HOP_BY_SLICES,
        ("            best = hop", "            best = hop\n        else:\n            break")),
    "off by one: the full window left out": changed(HOP_BY_SLICES, ("range(1, len(w) + 1)", "range(1, len(w))")),
    "only divisors of n_fft": changed(HOP_BY_SLICES, ("if torch.all", "if len(w) % hop == 0 and torch.all")),
    "the rest of the window dropped": """
def largest_hop(window, tolerance, power):
    w = window ** power
    for hop in range(len(w), 0, -1):
        pieces = w[:len(w) // hop * hop].reshape(-1, hop)
        weights = pieces.sum(0)
        if (weights - weights.mean()).abs().max() <= tolerance * weights.mean():
            return hop
""",
    "the ends counted": """
def largest_hop(window, tolerance, power):
    w, n_fft = window ** power, len(window)
    for hop in range(n_fft, 0, -1):
        total = torch.zeros(n_fft + 20 * hop)
        for m in range(20):
            total[m * hop:m * hop + n_fft] += w
        if (total - total.mean()).abs().max() <= tolerance * total.mean():
            return hop
    return 1
""",
    "not relative to the mean": changed(HOP_BY_SLICES, ("tolerance * mean", "tolerance")),
    "relative to the window's maximum": changed(HOP_BY_SLICES, ("tolerance * mean", "tolerance * w.max()")),
    "standard deviation for maximum": changed(HOP_BY_SLICES,
        ("torch.all(torch.abs(weights - mean) <= tolerance * mean)",
         "weights.std(correction=0) <= tolerance * mean")),
    "the whole swing, top to bottom": changed(HOP_BY_SLICES,
        ("torch.all(torch.abs(weights - mean) <= tolerance * mean)",
         "weights.max() - weights.min() <= tolerance * mean")),
    "the Hann window's hops by heart": """
def largest_hop(window, tolerance, power):
    return len(window) // (power + 1)
""",
    "changes the window": changed(HOP_BY_SLICES, ("w = window ** power", "w = window.pow_(power)")),
}

# ---------------------------------------------------------------------------------------------- 4, weighted overlap-add

TOGETHER_BY_FOLD = """
def put_together(frames, window, hop_length):
    *leading, count, n_fft = frames.shape
    time = (count - 1) * hop_length + n_fft
    def add(pieces):
        columns = pieces.reshape(-1, count, n_fft).transpose(1, 2)
        return F.fold(columns, (1, time), (1, n_fft), stride=(1, hop_length))[:, 0, 0]
    total = add(frames * window).reshape(*leading, time)
    weights = add((window ** 2).repeat(count, 1))[0]
    unknown = weights < 0.01 * weights.max()
    return total.masked_fill(unknown, 0) / weights.masked_fill(unknown, 1)
"""
TOGETHER_BY_INDEX = """
def put_together(frames, window, hop_length):
    count, n_fft = frames.size(-2), frames.size(-1)
    where = (torch.arange(count)[:, None] * hop_length + torch.arange(n_fft)).flatten()
    time = int(where.max()) + 1
    y = frames * window
    signal = torch.zeros(y.shape[:-2] + (time,), dtype=y.dtype).index_add(-1, where, y.flatten(-2))
    norm = torch.zeros(time, dtype=y.dtype).index_add(0, where, (window * window).repeat(count))
    ok = norm >= norm.max() / 100
    out = torch.zeros_like(signal)
    out[..., ok] = signal[..., ok] / norm[ok]
    return out
"""
TOGETHER_BY_PADDING = """
def put_together(frames, window, hop_length):
    count, n_fft = frames.shape[-2:]
    signal, norm = 0, 0
    for m in range(count):
        ends = (m * hop_length, (count - 1 - m) * hop_length)
        signal = signal + F.pad(frames[..., m, :] * window, ends)
        norm = norm + F.pad(window.square(), ends)
    safe = norm.clamp_min(0.01 * norm.max())
    return torch.where(norm < 0.01 * norm.max(), torch.zeros_like(signal), signal / safe)
"""
TOGETHER_BY_LOOP = """
def put_together(frames, window, hop_length):
    count, n_fft = frames.shape[-2:]
    time = (count - 1) * hop_length + n_fft
    signal = torch.zeros(*frames.shape[:-2], time, dtype=frames.dtype)
    weights = torch.zeros(time, dtype=frames.dtype)
    for m in range(count):
        start = m * hop_length
        signal[..., start:start + n_fft] += frames[..., m, :] * window
        weights[start:start + n_fft] += window ** 2
    bad = weights < 0.01 * weights.max()
    weights[bad] = 1.0
    return torch.where(bad, 0, signal / weights)
"""
TOGETHER_RIGHT = {"fold": TOGETHER_BY_FOLD, "index_add": TOGETHER_BY_INDEX, "padding": TOGETHER_BY_PADDING,
                  "loop": TOGETHER_BY_LOOP}
TOGETHER_WRONG = {
    "the square of the window forgotten": changed(TOGETHER_BY_LOOP, ("window ** 2", "window")),
    "not windowed a second time": changed(TOGETHER_BY_LOOP, ("frames[..., m, :] * window", "frames[..., m, :]")),
    "not divided at all": changed(TOGETHER_BY_LOOP, ("signal / weights", "signal")),
    "hop off by one": changed(TOGETHER_BY_LOOP, ("start = m * hop_length", "start = m * (hop_length - 1)")),
    "the last frame cut at its hop": changed(
        TOGETHER_BY_LOOP,
        (
            "    return torch.where(bad, 0, signal / weights)",
            "    return torch.where(bad, 0, signal / weights)[..., :count * hop_length]",
        ),
    ),
    "divided everywhere": changed(
        TOGETHER_BY_LOOP,
        ("torch.where(bad, 0, signal / weights)", "signal / weights"),
        ("    weights[bad] = 1.0\n", ""),
    ),
    "a small number added to the weights": """
def put_together(frames, window, hop_length):
    count, n_fft = frames.shape[-2:]
    signal = frames.new_zeros(*frames.shape[:-2], (count - 1) * hop_length + n_fft)
    weights = torch.zeros_like(signal)
    for m in range(count):
        start = m * hop_length
        signal[..., start:start + n_fft] += frames[..., m, :] * window
        weights[..., start:start + n_fft] += window ** 2
    return signal / (weights + 1e-8)
""",
    "one hundredth, not of the maximum": changed(TOGETHER_BY_LOOP, ("0.01 * weights.max()", "0.01")),
    "the gradient is NaN where nothing is known": changed(TOGETHER_BY_LOOP, ("    weights[bad] = 1.0\n", "")),
    "only mono: frames without leading dimensions": changed(
        TOGETHER_BY_LOOP,
        ("torch.zeros(*frames.shape[:-2], time,", "torch.zeros(time,"),
        ("signal[..., start", "signal[start"),
        ("frames[..., m, :]", "frames[m]"),
    ),
    "only a batch of one": changed(
        TOGETHER_BY_LOOP,
        (
            "count, n_fft = frames.shape[-2:]",
            "shape, frames = frames.shape, frames.reshape(-1, *frames.shape[-2:])[:1]\n"
            "    count, n_fft = frames.shape[-2:]",
        ),
        (
            "    return torch.where(bad, 0, signal / weights)",
            "    return torch.where(bad, 0, signal / weights).expand(*shape[:-2], time)"
            " if len(shape) > 2 else torch.where(bad, 0, signal / weights)[0]",
        ),
    ),
    "changes the frames": changed(
        TOGETHER_BY_FOLD, ("    total = add(frames * window)", "    frames *= window\n    total = add(frames)")
    ),
    "no gradient": changed(TOGETHER_BY_LOOP, ("frames[..., m, :] * window", "frames[..., m, :].detach() * window")),
    "always float32": changed(
        TOGETHER_BY_LOOP,
        (
            "time, dtype=frames.dtype)\n    weights = torch.zeros(time, dtype=frames.dtype)",
            "time)\n    weights = torch.zeros(time)",
        ),
    ),
    "only hops that divide n_fft": """
def put_together(frames, window, hop_length):
    count, n_fft = frames.shape[-2:]
    overlap = n_fft // hop_length
    pieces = (frames * window)[..., :overlap * hop_length].unflatten(-1, (overlap, hop_length))
    squares = (window ** 2)[:overlap * hop_length].reshape(overlap, hop_length)
    signal = frames.new_zeros(*frames.shape[:-2], count + overlap - 1, hop_length)
    weights = frames.new_zeros(count + overlap - 1, hop_length)
    for i in range(overlap):
        signal[..., i:i + count, :] += pieces[..., i, :]
        weights[i:i + count] += squares[i]
    signal, weights = signal.flatten(-2), weights.flatten()
    bad = weights < 0.01 * weights.max()
    return torch.where(bad, 0, signal / torch.where(bad, 1, weights))
""",
    "1% of one window's square, not of the sum": changed(
        TOGETHER_BY_LOOP, ("0.01 * weights.max()", "0.01 * (window ** 2).max()")
    ),
    "the window's own small values left out": changed(
        TOGETHER_BY_LOOP,
        (
            "    for m in range(count):",
            "    window = torch.where(window ** 2 < 0.01 * (window ** 2).max(), 0, window)\n    for m in range(count):",
        ),
    ),
}

# ---------------------------------------------------------------------------------------------- 5, phase-sensitive mask

MASK_BY_ANGLE = """
def phase_sensitive_estimates(S, X, upper):
    X = X[..., None, :, :, :]
    silent = X == 0
    size = torch.where(silent, 1, X).abs()
    mask = S.abs() / size * torch.cos(S.angle() - X.angle())
    return torch.where(silent, 0, mask.clamp(min=0, max=upper) * X)
"""
MASK_BY_DIVISION = """
def phase_sensitive_estimates(S, X, upper):
    mixture = X.unsqueeze(-4).expand_as(S)
    safe = torch.where(mixture == 0, torch.ones_like(mixture), mixture)
    M = torch.clip((S / safe).real, 0, upper)
    return M * mixture
"""
MASK_BY_LOOP = """
def phase_sensitive_estimates(S, X, upper):
    a, b = X.real, X.imag
    energy = a * a + b * b
    energy = energy + (energy == 0)
    estimates = []
    for source in S.unbind(-4):
        mask = (source.real * a + source.imag * b) / energy
        mask = torch.minimum(torch.relu(mask), torch.full_like(mask, upper))
        estimates.append(mask * X)
    return torch.stack(estimates, dim=-4)
"""
MASK_BY_EPS = """
def phase_sensitive_estimates(S, X, upper):
    X = X.unsqueeze(-4)
    M = (S * X.conj()).real / (X.abs() ** 2 + 1e-20)
    return M.clamp(0, upper) * X
"""
MASK_RIGHT = {"size and angle": MASK_BY_ANGLE, "division": MASK_BY_DIVISION, "loop over the sources": MASK_BY_LOOP,
              "a very small number in the denominator": MASK_BY_EPS}
MASK_WRONG = {
    "missing conjugate": changed(MASK_BY_EPS, ("X.conj()", "X")),
    "missing square": changed(MASK_BY_EPS, ("X.abs() ** 2", "X.abs()")),
    "not limited at all": changed(MASK_BY_EPS, (".clamp(0, upper)", "")),
    "limited to the visible example's limit": changed(MASK_BY_EPS, (".clamp(0, upper)", ".clamp(0, UPPER)")),
    "the ratio mask": changed(MASK_BY_EPS, ("(S * X.conj()).real / (X.abs() ** 2 + 1e-20)",
                                            "S.abs() ** 2 / (S.abs() ** 2).sum(-4, keepdim=True).clamp_min(1e-20)")),
    "the mixture taken as the sum of the sources": changed(MASK_BY_EPS, ("X.unsqueeze(-4)", "S.sum(-4, keepdim=True)")),
    "the mask, not the estimates": changed(MASK_BY_EPS, ("M.clamp(0, upper) * X", "M.clamp(0, upper)")),
    "swapped sources": changed(MASK_BY_EPS, ("return M.clamp(0, upper) * X", "return M.flip(-4).clamp(0, upper) * X")),
    "source axis only for spectra without a batch": changed(MASK_BY_EPS, ("X.unsqueeze(-4)", "X.unsqueeze(0)")),
    "only mono": changed(MASK_BY_EPS,
        ("    X = X.unsqueeze(-4)", "    X = X.unsqueeze(-4)[..., :1, :, :]\n    S = S[..., :1, :, :]")),
    "NaN in silence": changed(MASK_BY_EPS, (" + 1e-20", "")),
    "NaN replaced, but not in the gradient": changed(MASK_BY_EPS,
        (" + 1e-20", ""), ("return M", "M = M.nan_to_num(0)\n    return M")),
    "no gradient": changed(MASK_BY_EPS, ("S * X.conj()", "S.detach() * X.conj()")),
    "the mask is a constant for the gradient": changed(MASK_BY_EPS, ("return M", "return M.detach()")),
    "changes the sources": changed(MASK_BY_EPS, ("(S * X.conj())", "S.mul_(X.conj())")),
}

# ---------------------------------------------------------------------------------------------- 6, SDR over time

SDR_BY_LOOP = """
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    length, hop = round(rate * seconds), round(rate * hop_seconds)
    scores = []
    for start in range(0, references.shape[-1] - length + 1, hop):
        s = references[..., start:start + length]
        e = estimates[..., start:start + length]
        signal = (s ** 2).sum(dim=(-2, -1))
        error = ((s - e) ** 2).sum(dim=(-2, -1))
        sdr = 10 * torch.log10(signal / error)
        silent = (s.abs().amax(dim=(-2, -1)) == 0) | (e.abs().amax(dim=(-2, -1)) == 0)
        sdr = sdr.masked_fill(silent.any(dim=-1, keepdim=True), float("nan"))
        scores.append(sdr)
    return torch.stack(scores, dim=-1)
"""
SDR_BY_UNFOLD = """
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    cut = lambda z: z.unfold(-1, round(rate * seconds), round(rate * hop_seconds)).transpose(-3, -2).flatten(-2)
    s, e = cut(references), cut(estimates)                 # (..., source, frame, channel and sample)
    sdr = 20 * (torch.linalg.norm(s, dim=-1).log10() - torch.linalg.norm(s - e, dim=-1).log10())
    heard = (s != 0).any(-1) & (e != 0).any(-1)
    sdr[~heard.all(-2, keepdim=True).expand_as(sdr)] = math.nan
    return sdr
"""
SDR_BY_EINSUM = """
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    n, h = round(rate * seconds), round(rate * hop_seconds)
    def energy(z):
        z = z.unfold(-1, n, h)
        return torch.einsum("...cmn,...cmn->...m", z, z)
    signal, guess, error = energy(references), energy(estimates), energy(references - estimates)
    score = 10 * (torch.log10(signal) - torch.log10(error))
    all_heard = (torch.minimum(signal, guess) > 0).all(dim=-2, keepdim=True)
    return torch.where(all_heard, score, score.new_tensor(float("nan")))
"""
SDR_RIGHT = {"loop over the frames": SDR_BY_LOOP, "unfold": SDR_BY_UNFOLD, "einsum": SDR_BY_EINSUM}
SDR_WRONG = {
    "20 for 10": changed(SDR_BY_LOOP, ("10 * torch.log10", "20 * torch.log10")),
    "upside down": changed(SDR_BY_LOOP, ("signal / error", "error / signal")),
    "missing square": changed(
        SDR_BY_LOOP, ("(s ** 2).sum", "s.abs().sum"), ("((s - e) ** 2).sum", "(s - e).abs().sum")
    ),
    "the mean of the channels' scores": """
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    length, hop = round(rate * seconds), round(rate * hop_seconds)
    signal, guess, error = ((z.unfold(-1, length, hop) ** 2).sum(-1)
                            for z in (references, estimates, references - estimates))
    silent = ((signal.sum(-2) == 0) | (guess.sum(-2) == 0)).any(-2, keepdim=True)
    return torch.where(silent, torch.nan, (10 * torch.log10(signal / error)).mean(-2))
""",
    "NaN for the silent source alone": changed(SDR_BY_LOOP, ("silent.any(dim=-1, keepdim=True)", "silent")),
    "silent estimates not looked at": changed(SDR_BY_LOOP, (" | (e.abs().amax(dim=(-2, -1)) == 0)", "")),
    "0 dB for silence": changed(SDR_BY_LOOP, ('float("nan")', "0.0")),
    "a small number added to both": changed(SDR_BY_LOOP, ("signal / error", "(signal + 1e-8) / (error + 1e-8)")),
    "frames that don't overlap": changed(SDR_BY_LOOP, ("+ 1, hop)", "+ 1, length)")),
    "hop off by one": changed(SDR_BY_LOOP, ("+ 1, hop)", "+ 1, hop - 1)")),
    "cut, not rounded, to samples": changed(
        SDR_BY_LOOP,
        ("round(rate * seconds), round(rate * hop_seconds)", "int(rate * seconds), int(rate * hop_seconds)"),
    ),
    "only without a batch": """
def sdr_over_time(estimates, references, rate, seconds, hop_seconds):
    length, hop = round(rate * seconds), round(rate * hop_seconds)
    s, e = references.unfold(2, length, hop), estimates.unfold(2, length, hop)
    signal, guess, error = (s ** 2).sum((1, 3)), (e ** 2).sum((1, 3)), ((s - e) ** 2).sum((1, 3))
    silent = ((signal == 0) | (guess == 0)).any(0)
    return torch.where(silent, torch.nan, 10 * torch.log10(signal / error))
""",
    "changes the estimates": changed(SDR_BY_LOOP, ("((s - e) ** 2)", "(e.sub_(s) ** 2)")),
    "no gradient": changed(SDR_BY_LOOP, ("        e = estimates[", "        e = estimates.detach()[")),
    "silence as little energy": changed(
        SDR_BY_LOOP,
        ("(s.abs().amax(dim=(-2, -1)) == 0)", "((s ** 2).sum(dim=(-2, -1)) < 1e-8)"),
        ("(e.abs().amax(dim=(-2, -1)) == 0)", "((e ** 2).sum(dim=(-2, -1)) < 1e-8)"),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 4, """
from course_lib.spectral import overlap_add

def put_together(frames, window, hop_length):
    total = overlap_add(frames * window, hop_length)
    weights = overlap_add((window ** 2).expand(frames.shape[-2], len(window)), hop_length)
    known = weights >= 0.01 * weights.max()
    return total * known / torch.where(known, weights, 1)
"""


CASES = as_cells(
    (COUNT_RIGHT, COUNT_WRONG), (TONE_RIGHT, TONE_WRONG), (HOP_RIGHT, HOP_WRONG),
    (TOGETHER_RIGHT, TOGETHER_WRONG), (MASK_RIGHT, MASK_WRONG), (SDR_RIGHT, SDR_WRONG))
