"""Answers to assignment 4 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ------------------------------------------------------------------------------------------ 1, statistics from parts

BY_TOTAL_VARIANCE = """
def merged_statistics(parts):
    parts = [part for part in parts if part[0] > 0]
    total = sum(n for n, m, s in parts)
    mean = sum(n / total * m.double() for n, m, s in parts)
    within = sum(n / total * s.double() ** 2 for n, m, s in parts)
    between = sum(n / total * (m.double() - mean) ** 2 for n, m, s in parts)
    return total, mean.float(), (within + between).sqrt().float()
"""
BY_SUMS_OF_SQUARES = """
def merged_statistics(parts):
    count, total, squares = 0, 0, 0
    for n, m, s in parts:
        if n == 0:
            continue
        m, s = m.double(), s.double()
        count += n
        total = total + n * m
        squares = squares + n * (s ** 2 + m ** 2)
    mean = total / count
    variance = (squares / count - mean ** 2).clamp_min(0)
    return count, mean.float(), variance.sqrt().float()
"""
BY_PAIRS = """
def merged_statistics(parts):
    count, mean, deviation = 0, None, None
    for n, m, s in parts:
        if n == 0:
            continue
        if count == 0:
            count, mean, deviation = n, m.clone(), s.clone()
            continue
        step = m - mean
        squares = count * deviation ** 2 + n * s ** 2 + step ** 2 * count * n / (count + n)
        mean = mean + step * n / (count + n)
        count += n
        deviation = torch.sqrt(squares / count)
    return count, mean, deviation
"""
BY_STACKING = """
def merged_statistics(parts):
    n = torch.tensor([part[0] for part in parts], dtype=torch.float64)[:, None]
    m = torch.stack([part[1] for part in parts]).double().nan_to_num()
    s = torch.stack([part[2] for part in parts]).double().nan_to_num()
    mean = (n * m).sum(0) / n.sum()
    variance = (n * (s * s + (m - mean) ** 2)).sum(0) / n.sum()
    return int(n.sum()), mean.float(), variance.sqrt().float()
"""
MERGED_RIGHT = {
    "variance within and between parts": BY_TOTAL_VARIANCE,
    "sums of squares in float64": BY_SUMS_OF_SQUARES,
    "two parts at a time": BY_PAIRS,
    "stacked": BY_STACKING,
}
MERGED_WRONG = {
    "deviations averaged": changed(
        BY_TOTAL_VARIANCE, ("(within + between).sqrt().float()", "sum(n / total * s for n, m, s in parts)")
    ),
    "what lies between the parts forgotten": changed(BY_TOTAL_VARIANCE, ("(within + between)", "within")),
    "what lies within the parts forgotten": changed(BY_TOTAL_VARIANCE, ("(within + between)", "between")),
    "every part counts the same": """
def merged_statistics(parts):
    parts = [part for part in parts if part[0] > 0]
    m, s = (torch.stack([part[k] for part in parts]).double() for k in (1, 2))
    mean = m.mean(0)
    return sum(part[0] for part in parts), mean.float(), (s ** 2 + (m - mean) ** 2).mean(0).sqrt().float()
""",
    "the distance between parts counts the same for all": changed(
        BY_TOTAL_VARIANCE,
        (
            "sum(n / total * (m.double() - mean) ** 2 for n, m, s in parts)",
            "sum((m.double() - mean) ** 2 for n, m, s in parts) / len(parts)",
        ),
    ),
    "the variance for the deviation": changed(BY_TOTAL_VARIANCE, (".sqrt()", "")),
    "divided by one less": changed(
        BY_TOTAL_VARIANCE, ("(within + between)", "((within + between) * total / (total - 1))")
    ),
    "a part without frames brings its NaN": changed(
        BY_TOTAL_VARIANCE, ("parts = [part for part in parts if part[0] > 0]", "parts = list(parts)")
    ),
    "sums of squares in float32": changed(BY_SUMS_OF_SQUARES, ("m, s = m.double(), s.double()", "m, s = m, s")),
    "distance between parts not squared": changed(BY_PAIRS, ("step ** 2 * count * n", "step.abs() * count * n")),
    "two at a time, the new mean too early": changed(
        BY_PAIRS,
        ("        squares =", "        mean = mean + step * n / (count + n)\n        squares ="),
        ("        mean = mean + step * n / (count + n)\n        count += n", "        count += n"),
        ("step ** 2 * count * n / (count + n)", "(m - mean) ** 2 * count * n / (count + n)"),
    ),
    "the number of frames as a float": changed(BY_STACKING, ("int(n.sum())", "float(n.sum())")),
    "only the first two parts": changed(BY_TOTAL_VARIANCE, ("if part[0] > 0]", "if part[0] > 0][:2]")),
    "the parts' tensors changed in place": changed(
        BY_PAIRS,
        ("m.clone(), s.clone()", "m, s"),
        ("mean = mean + step * n / (count + n)", "mean += step * n / (count + n)"),
    ),
    "float64 returned": changed(
        BY_TOTAL_VARIANCE, ("mean.float(), (within + between).sqrt().float()", "mean, (within + between).sqrt()")
    ),
}

# -------------------------------------------------------------------------------------------- 2, an LSTM from the end

LSTM_BY_LOOP = """
def lstm_from_the_end(x, W, U, b, order):
    frames, batch, _ = x.shape
    n = W.shape[0] // 4
    rows = {gate: slice(k * n, (k + 1) * n) for k, gate in enumerate(order)}
    h = torch.zeros(batch, n, dtype=x.dtype)
    c = torch.zeros(batch, n, dtype=x.dtype)
    out = [None] * frames
    for t in range(frames - 1, -1, -1):
        a = x[t] @ W.T + h @ U.T + b
        i, f, o = (torch.sigmoid(a[:, rows[gate]]) for gate in "ifo")
        g = torch.tanh(a[:, rows["g"]])
        c = f * c + i * g
        h = o * torch.tanh(c)
        out[t] = h
    return torch.stack(out)
"""
LSTM_BY_CELL = """
def lstm_from_the_end(x, W, U, b, order):
    n = len(b) // 4
    def moved(weight):
        blocks = dict(zip(order, weight.split(n)))
        return torch.cat([blocks[gate] for gate in "ifgo"])
    cell = nn.LSTMCell(x.shape[-1], n, dtype=x.dtype)
    weights = {"weight_ih": moved(W), "weight_hh": moved(U), "bias_ih": moved(b), "bias_hh": torch.zeros_like(b)}
    state = (torch.zeros(x.shape[1], n, dtype=x.dtype), torch.zeros(x.shape[1], n, dtype=x.dtype))
    outputs = []
    for frame in reversed(x.unbind(0)):
        state = torch.func.functional_call(cell, weights, (frame, state))
        outputs.insert(0, state[0])
    return torch.stack(outputs)
"""
LSTM_BY_MODULE = """
def lstm_from_the_end(x, W, U, b, order):
    n = len(b) // 4
    place = torch.cat([torch.arange(order.index(gate) * n, order.index(gate) * n + n) for gate in "ifgo"])
    lstm = nn.LSTM(x.shape[-1], n, dtype=x.dtype)
    lstm.load_state_dict({"weight_ih_l0": W[place], "weight_hh_l0": U[place], "bias_ih_l0": b[place],
                          "bias_hh_l0": torch.zeros_like(b)})
    return lstm(x.flip(0))[0].flip(0)
"""
LSTM_BY_VIEW = """
def lstm_from_the_end(x, W, U, b, order):
    n = b.numel() // 4
    fixed = (torch.einsum("tbf,kf->tbk", x, W) + b).unflatten(-1, (4, n))            # (frame, batch, gate, hidden)
    h, c, found = 0 * fixed[0, :, 0], 0 * fixed[0, :, 0], {}
    for t in reversed(range(len(x))):
        a = fixed[t] + (h @ U.T).unflatten(-1, (4, n))
        gate = {letter: a[:, k] for k, letter in enumerate(order)}
        c = c * gate["f"].sigmoid() + gate["i"].sigmoid() * gate["g"].tanh()
        found[t] = h = c.tanh() * gate["o"].sigmoid()
    return torch.stack([found[t] for t in range(len(x))])
"""
LSTM_RIGHT = {
    "loop": LSTM_BY_LOOP,
    "LSTMCell with moved rows": LSTM_BY_CELL,
    "LSTM on the flipped frames": LSTM_BY_MODULE,
    "all frames' inputs at once": LSTM_BY_VIEW,
    "weights as constants": changed(
        LSTM_BY_LOOP,
        (
            "    frames, batch, _ = x.shape",
            "    W, U, b = W.detach(), U.detach(), b.detach()\n    frames, batch, _ = x.shape",
        ),
    ),
}
LSTM_WRONG = {
    "from the beginning": changed(LSTM_BY_LOOP, ("range(frames - 1, -1, -1)", "range(frames)")),
    "not turned back": changed(LSTM_BY_MODULE, ("(x.flip(0))[0].flip(0)", "(x.flip(0))[0]")),
    "turned back, but read from the beginning": changed(LSTM_BY_MODULE, ("lstm(x.flip(0))", "lstm(x)")),
    "PyTorch's order, whatever is asked": changed(LSTM_BY_LOOP, ("enumerate(order)", 'enumerate("ifgo")')),
    "the order of the visible example": changed(LSTM_BY_LOOP, ("enumerate(order)", "enumerate(ORDER)")),
    "the order inverted": changed(
        LSTM_BY_MODULE,
        (
            """torch.cat([torch.arange(order.index(gate) * n, order.index(gate) * n + n) for gate in "ifgo"])""",
            """torch.cat([torch.arange("ifgo".index(gate) * n, "ifgo".index(gate) * n + n) for gate in order])""",
        ),
    ),
    "gates by turns, not in blocks": changed(LSTM_BY_LOOP, ("slice(k * n, (k + 1) * n)", "slice(k, None, 4)")),
    "no tanh on the cell": changed(LSTM_BY_LOOP, ("h = o * torch.tanh(c)", "h = o * c")),
    "a sigmoid for every gate": changed(
        LSTM_BY_LOOP, ('g = torch.tanh(a[:, rows["g"]])', 'g = torch.sigmoid(a[:, rows["g"]])')
    ),
    "the cell for the output": changed(LSTM_BY_LOOP, ("out[t] = h", "out[t] = c")),
    "h forgotten": changed(LSTM_BY_LOOP, ("x[t] @ W.T + h @ U.T + b", "x[t] @ W.T + b")),
    "the bias forgotten": changed(LSTM_BY_LOOP, (" + h @ U.T + b", " + h @ U.T")),
    "the forget gate as in a GRU": changed(LSTM_BY_LOOP, ("f * c + i * g", "f * c + (1 - f) * g")),
    "songs for frames": changed(
        LSTM_BY_MODULE, ("lstm(x.flip(0))[0].flip(0)", "lstm(x.transpose(0, 1).flip(0))[0].flip(0).transpose(0, 1)")
    ),
    "no gradient": changed(LSTM_BY_LOOP, ("a = x[t] @", "a = x[t].detach() @")),
}

# ---------------------------------------------------------------------------------------------- 3, three layers in one

FOLDED_STEP_BY_STEP = """
def folded(shift, scale, V, norm):
    hidden, width = V.shape
    many = width // scale.shape[0]
    W = V * torch.cat([scale] * many)
    b = V @ torch.cat([shift * scale] * many)
    std = torch.sqrt(norm.running_var + norm.eps)
    W = norm.weight.unsqueeze(1) * W / std.unsqueeze(1)
    b = norm.weight * (b - norm.running_mean) / std + norm.bias
    return W, b
"""
FOLDED_BY_PROBING = """
def folded(shift, scale, V, norm):
    norm = copy.deepcopy(norm).eval()
    channels = V.shape[1] // len(shift)
    def layers(x):
        return norm(((x.unflatten(-1, (channels, -1)) + shift) * scale).flatten(-2) @ V.T)
    b = layers(torch.zeros(1, V.shape[1]))[0]
    W = (layers(torch.eye(V.shape[1])) - b).T
    return W, b
"""
FOLDED_WITH_MATRICES = """
def folded(shift, scale, V, norm):
    with torch.no_grad():
        D = torch.diag(norm.weight / torch.sqrt(norm.running_var + norm.eps))
        M = torch.diag(scale.tile(V.shape[1] // len(scale)))
        A = D @ V
        b = A @ M @ shift.tile(V.shape[1] // len(shift)) - D @ norm.running_mean + norm.bias
        return A @ M, b
"""
FOLDED_IN_BLOCKS = """
def folded(shift, scale, V, norm):
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    blocks = V.unflatten(1, (-1, len(scale))) * scale * gain[:, None, None]        # (hidden, channel, bin)
    b = (blocks * shift).sum((1, 2)) + norm.bias - gain * norm.running_mean
    return blocks.flatten(1), b
"""
FOLDED_RIGHT = {"step by step": FOLDED_STEP_BY_STEP, "by what silence and unit inputs give": FOLDED_BY_PROBING,
                "diagonal matrices": FOLDED_WITH_MATRICES, "in blocks": FOLDED_IN_BLOCKS}
FOLDED_WRONG = {
    "epsilon forgotten": changed(FOLDED_STEP_BY_STEP, ("norm.running_var + norm.eps", "norm.running_var")),
    "PyTorch's usual epsilon": changed(FOLDED_STEP_BY_STEP, ("+ norm.eps", "+ 1e-5")),
    "the variance for the deviation": changed(
        FOLDED_STEP_BY_STEP, ("torch.sqrt(norm.running_var + norm.eps)", "norm.running_var + norm.eps")
    ),
    "epsilon outside the root": changed(
        FOLDED_STEP_BY_STEP, ("torch.sqrt(norm.running_var + norm.eps)", "torch.sqrt(norm.running_var) + norm.eps")
    ),
    "scaled first, then shifted": changed(FOLDED_STEP_BY_STEP, ("[shift * scale]", "[shift]")),
    "shift with the other sign": changed(FOLDED_STEP_BY_STEP, ("[shift * scale]", "[-shift * scale]")),
    "scale as a divisor": changed(
        FOLDED_STEP_BY_STEP, ("V * torch.cat([scale] * many)", "V / torch.cat([scale] * many)")
    ),
    "shift forgotten": changed(FOLDED_STEP_BY_STEP, ("V @ torch.cat([shift * scale] * many)", "0")),
    "channels by turns": changed(
        FOLDED_STEP_BY_STEP,
        ("torch.cat([scale] * many)", "scale.repeat_interleave(many)"),
        ("torch.cat([shift * scale] * many)", "(shift * scale).repeat_interleave(many)"),
    ),
    "gamma forgotten": changed(
        FOLDED_STEP_BY_STEP, ("norm.weight.unsqueeze(1) * W", "W"), ("norm.weight * (b -", "(b -")
    ),
    "gamma on the weights only": changed(FOLDED_STEP_BY_STEP, ("norm.weight * (b -", "(b -")),
    "beta forgotten": changed(FOLDED_STEP_BY_STEP, (" / std + norm.bias", " / std")),
    "beta scaled too": changed(
        FOLDED_STEP_BY_STEP,
        (
            "norm.weight * (b - norm.running_mean) / std + norm.bias",
            "norm.weight * (b - norm.running_mean + norm.bias) / std",
        ),
    ),
    "the norm is left in another mode": changed(FOLDED_BY_PROBING, ("copy.deepcopy(norm).eval()", "norm.eval()")),
    "the norm takes the batch's statistics": changed(
        FOLDED_BY_PROBING,
        ("copy.deepcopy(norm).eval()", "copy.deepcopy(norm).train()"),
        ("layers(torch.zeros(1,", "layers(torch.zeros(2,"),
    ),
}

# ------------------------------------------------------------------------------------------- 4, sources by their places

PLACE_BY_LOOPS = """
def separate_by_place(v, angles, X, noise):
    sources, bins, frames = v.shape
    Y = torch.zeros(sources, 2, bins, frames, dtype=X.dtype)
    a = [torch.stack([torch.cos(angle), torch.sin(angle)]) for angle in angles]
    R = [torch.outer(one, one) for one in a]
    for k in range(bins):
        for m in range(frames):
            C = noise * torch.eye(2, dtype=v.dtype)
            for j in range(sources):
                C = C + v[j, k, m] * R[j]
            inverse = torch.linalg.inv(C)
            for j in range(sources):
                gain = v[j, k, m] * R[j] @ inverse
                Y[j, :, k, m] = gain.to(X.dtype) @ X[:, k, m]
    return Y
"""
PLACE_BY_DETERMINANT = """
def separate_by_place(v, angles, X, noise):
    p = angles.cos()[:, None, None]
    q = angles.sin()[:, None, None]
    ll, rr, lr = (v * p * p).sum(0) + noise, (v * q * q).sum(0) + noise, (v * p * q).sum(0)
    det = ll * rr - lr * lr
    left, right = (rr * X[0] - lr * X[1]) / det, (ll * X[1] - lr * X[0]) / det
    s = v * (p * left + q * right)                                                   # (source, bin, frame)
    return torch.stack([p * s, q * s], dim=1)
"""
PLACE_BY_INVERSE = """
def separate_by_place(v, angles, X, noise):
    a = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    C = torch.einsum("jkm,jc,jd->kmcd", v, a, a) + noise * torch.eye(2).to(v)
    G = torch.einsum("jkm,jc,jd,kmde->jkmce", v, a, a, torch.linalg.inv(C))
    return torch.einsum("jkmce,ekm->jckm", G.to(X.dtype), X)
"""
PLACE_RIGHT = {"loops": PLACE_BY_LOOPS, "determinant": PLACE_BY_DETERMINANT, "einsum and inverse": PLACE_BY_INVERSE}
PLACE_WRONG = {
    "noise forgotten": changed(
        PLACE_BY_LOOPS, ("noise * torch.eye(2, dtype=v.dtype)", "1e-6 * torch.eye(2, dtype=v.dtype)")
    ),
    "noise for each source": changed(
        PLACE_BY_LOOPS, ("noise * torch.eye(2, dtype=v.dtype)", "sources * noise * torch.eye(2, dtype=v.dtype)")
    ),
    "noise in all four places": changed(
        PLACE_BY_LOOPS, ("torch.eye(2, dtype=v.dtype)", "torch.ones(2, 2, dtype=v.dtype)")
    ),
    "places ignored": """
def separate_by_place(v, angles, X, noise):
    return (v / (v.sum(0) + noise))[:, None] * X
""",
    "shares times places": """
def separate_by_place(v, angles, X, noise):
    a = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    seen = torch.einsum("jc,ckm->jkm", a.to(X.dtype), X)
    return torch.einsum("jc,jkm->jckm", a.to(X.dtype), v / (v.sum(0) + noise) * seen)
""",
    "places only: a projection": changed(
        PLACE_BY_INVERSE, ("torch.linalg.inv(C)", "torch.eye(2).to(C).expand_as(C) / (1 + noise)")
    ),
    "left and right swapped": changed(
        PLACE_BY_DETERMINANT, ("p = angles.cos()", "p = angles.sin()"), ("q = angles.sin()", "q = angles.cos()")
    ),
    "each source against itself alone": changed(
        PLACE_BY_LOOPS,
        ("inverse = torch.linalg.inv(C)", "inverse = None"),
        (
            "gain = v[j, k, m] * R[j] @ inverse",
            "gain = v[j, k, m] * R[j] @ torch.linalg.inv(v[j, k, m] * R[j] + noise * torch.eye(2, dtype=v.dtype))",
        ),
    ),
    "divided element by element": changed(
        PLACE_BY_LOOPS, ("torch.linalg.inv(C)", "1 / C"), ("* R[j] @ inverse", "* R[j] * inverse")
    ),
    "the power taken as an amplitude": changed(
        PLACE_BY_LOOPS, ("sources, bins, frames = v.shape", "sources, bins, frames = v.shape\n    v = v ** 2")
    ),
    "v forgotten in the gain": changed(PLACE_BY_LOOPS, ("gain = v[j, k, m] * R[j]", "gain = (v[j, k, m] > 0) * R[j]")),
    "the other order: inverse times R": changed(
        PLACE_BY_LOOPS, ("v[j, k, m] * R[j] @ inverse", "v[j, k, m] * inverse @ R[j]")
    ),
    "two sources only": changed(
        PLACE_BY_LOOPS,
        (
            "            for j in range(sources):\n                C =",
            "            for j in range(min(2, sources)):\n                C =",
        ),
    ),
    "the noise of the visible example": changed(
        PLACE_BY_DETERMINANT,
        ("(v * p * p).sum(0) + noise", "(v * p * p).sum(0) + NOISE"),
        ("(v * q * q).sum(0) + noise", "(v * q * q).sum(0) + NOISE"),
    ),
    "the sources before they reach the channels": changed(PLACE_BY_DETERMINANT, ("[p * s, q * s]", "[s, s]")),
}

# ------------------------------------------------------------------------------------------------ 5, save and resume

RUN_BY_COPIES = """
def save_run(run):
    return {
        "model": {name: value.clone() for name, value in run.model.state_dict().items()},
        "velocity": {name: value.clone() for name, value in run.velocity.items()},
        "average": {name: value.clone() for name, value in run.average.items()},
        "generators": [run.batches.get_state(), torch.get_rng_state()],
        "rate": run.rate,
        "step": run.step,
    }

def load_run(run, saved):
    run.model.load_state_dict(saved["model"])
    run.velocity = {name: value.clone() for name, value in saved["velocity"].items()}
    run.average = {name: value.clone() for name, value in saved["average"].items()}
    run.batches.set_state(saved["generators"][0])
    torch.set_rng_state(saved["generators"][1])
    run.rate = saved["rate"]
    run.step = saved["step"]
"""
RUN_THROUGH_BYTES = """
def save_run(run):
    state = dict(model=run.model.state_dict(), velocity=run.velocity, average=run.average, numbers=[run.rate, run.step],
                 batches=run.batches.get_state(), torch=torch.get_rng_state())
    file = io.BytesIO()
    torch.save(state, file)
    return {"file": torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)}

def load_run(run, saved):
    state = torch.load(io.BytesIO(bytes(saved["file"].tolist())), weights_only=True)
    run.model.load_state_dict(state["model"])
    run.velocity, run.average = state["velocity"], state["average"]
    run.rate, run.step = state["numbers"]
    run.batches.set_state(state["batches"])
    torch.random.set_rng_state(state["torch"])
"""
RUN_IN_PLACE = """
def save_run(run):
    saved = {name: copy.deepcopy(value) for name, value in vars(run).items() if name not in ("model", "batches")}
    saved["model"] = copy.deepcopy(run.model.state_dict())
    saved["random"] = [run.batches.get_state(), torch.random.get_rng_state()]
    return saved

def load_run(run, saved):
    run.model.load_state_dict(saved["model"])
    for part in ("velocity", "average"):
        for name, value in getattr(run, part).items():
            value.copy_(saved[part][name])
    run.step, run.rate = saved["step"], saved["rate"]
    run.batches.set_state(saved["random"][0])
    torch.random.set_rng_state(saved["random"][1])
"""
RUN_RIGHT = {
    "copies of every part": RUN_BY_COPIES,
    "through a file in memory": RUN_THROUGH_BYTES,
    "values copied in place": RUN_IN_PLACE,
    "the rate computed from the step": changed(
        RUN_BY_COPIES,
        ('        "rate": run.rate,\n', ""),
        ('    run.rate = saved["rate"]\n', ""),
        ('run.step = saved["step"]', 'run.step = saved["step"]\n    run.rate = 0.02 * 0.95 ** run.step'),
    ),
}
RUN_WRONG = {
    "the network and the velocities only": """
def save_run(run):
    return copy.deepcopy({"model": run.model.state_dict(), "velocity": run.velocity})

def load_run(run, saved):
    saved = copy.deepcopy(saved)
    run.model.load_state_dict(saved["model"])
    run.velocity = saved["velocity"]
""",
    "the parameters without the batch norm's statistics": changed(
        RUN_BY_COPIES,
        ("run.model.state_dict().items()", "run.model.named_parameters()"),
        ('load_state_dict(saved["model"])', 'load_state_dict(saved["model"], strict=False)'),
    ),
    "the velocities forgotten": changed(
        RUN_BY_COPIES, ('    run.velocity = {name: value.clone() for name, value in saved["velocity"].items()}\n', "")
    ),
    "the rate forgotten": changed(RUN_BY_COPIES, ('    run.rate = saved["rate"]\n', "")),
    "the rate rounded": changed(RUN_BY_COPIES, ('run.rate = saved["rate"]', 'run.rate = round(saved["rate"], 5)')),
    "the batches' generator forgotten": changed(
        RUN_BY_COPIES, ('    run.batches.set_state(saved["generators"][0])\n', "")
    ),
    "the batches' generator set to its first seed": changed(
        RUN_BY_COPIES,
        ('run.batches.set_state(saved["generators"][0])', "run.batches.manual_seed(run.batches.initial_seed())"),
    ),
    "dropout's generator forgotten": changed(RUN_BY_COPIES, ('    torch.set_rng_state(saved["generators"][1])\n', "")),
    "the same seed for dropout again": changed(
        RUN_BY_COPIES, ('torch.set_rng_state(saved["generators"][1])', "torch.manual_seed(1)")
    ),
    "the averaged weights forgotten": changed(
        RUN_BY_COPIES, ('    run.average = {name: value.clone() for name, value in saved["average"].items()}\n', "")
    ),
    "the average started anew from the weights": changed(
        RUN_BY_COPIES,
        (
            'value.clone() for name, value in saved["average"].items()',
            "value.detach().clone() for name, value in run.model.named_parameters()",
        ),
    ),
    "the number of steps forgotten": changed(RUN_BY_COPIES, ('    run.step = saved["step"]\n', "")),
    "what is saved goes on with the run": changed(
        RUN_BY_COPIES,
        ("{name: value.clone() for name, value in run.model.state_dict().items()}", "run.model.state_dict()"),
        ("{name: value.clone() for name, value in run.velocity.items()}", "run.velocity"),
    ),
    "the average is shared with what is saved": changed(
        RUN_BY_COPIES,
        (
            'run.average = {name: value.clone() for name, value in saved["average"].items()}',
            'run.average = saved["average"]',
        ),
    ),
    "saving changes the batch norm and takes random numbers": changed(
        RUN_BY_COPIES,
        ("def save_run(run):\n    return {", "def save_run(run):\n    run.model(torch.zeros(2, 6))\n    return {"),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = 3, """
from course_lib.open_unmix import SpectrogramEncoder

def folded(shift, scale, V, norm):
    bins, channels = len(shift), V.shape[1] // len(shift)
    encoder = SpectrogramEncoder(bins, channels, len(V), nb_layers=1, unidirectional=True)
    encoder.set_input_statistics(-shift, 1 / scale)
    encoder.fc1.weight.data, encoder.bn1 = V.clone(), copy.deepcopy(norm).eval()
    def layers(x):
        x = (x.unflatten(-1, (channels, bins)) + encoder.input_mean) * encoder.input_scale
        return encoder.bn1(encoder.fc1(x.flatten(-2))).detach()
    b = layers(torch.zeros(1, V.shape[1]))[0]
    return (layers(torch.eye(V.shape[1])) - b).T, b
"""


CASES = as_cells(
    (MERGED_RIGHT, MERGED_WRONG), (LSTM_RIGHT, LSTM_WRONG), (FOLDED_RIGHT, FOLDED_WRONG),
    (PLACE_RIGHT, PLACE_WRONG), (RUN_RIGHT, RUN_WRONG))
