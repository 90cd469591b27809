"""Answers to assignment 15 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ---------------------------------------------------------------------------------------- 1, a mu-law without a slant

VALUES = """
def values_of(symbols, mu):
    k = torch.arange(symbols, dtype=torch.float64)
    y = (2 * k - (symbols - 1)) / (symbols - 1)
    if mu == 0:
        return y
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu

"""
VALUES_BY_LOOP = """
def values_of(symbols, mu):
    found = []
    for k in range(symbols):
        y = (2 * k - (symbols - 1)) / (symbols - 1)
        size = math.expm1(abs(y) * math.log1p(mu)) / mu if mu > 0 else abs(y)
        found.append(math.copysign(size, y))
    return torch.tensor(found, dtype=torch.float64)

"""
NEAREST = """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu)
    distance = (x.to(torch.float64).clamp(-1, 1).unsqueeze(-1) - values).abs()
    least = distance.min(-1, keepdim=True).values
    return (distance <= least + 1e-9).int().argmax(-1)
"""
BY_BORDERS = """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu)
    borders = (values[1:] + values[:-1]) / 2
    # on a border, or a hair above it, the lower one
    return torch.searchsorted(borders, x.double().contiguous() - 5e-10, right=False)
"""
BY_SAMPLES = """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu).tolist()
    found = []
    for sample in x.flatten().tolist():
        sample = max(-1.0, min(1.0, sample))
        best = 0
        for k in range(1, symbols):
            if abs(sample - values[k]) < abs(sample - values[best]) - 1e-9:
                best = k
        found.append(best)
    return torch.tensor(found, dtype=torch.int64).reshape(x.shape)
"""
MU_RIGHT = {
    "all distances": VALUES + NEAREST,
    "borders": VALUES_BY_LOOP + BY_BORDERS,
    "sample by sample": VALUES_BY_LOOP + BY_SAMPLES,
}


def _values(*changes):
    return changed(VALUES, *changes) + NEAREST


def _nearest(*changes):
    return VALUES + changed(NEAREST, *changes)


MU_WRONG = {
    "nearest in y": VALUES
    + """
def nearest_symbols(x, symbols, mu):
    x = x.double().clamp(-1, 1)
    y = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu) if mu else x
    return torch.ceil((y + 1) / 2 * (symbols - 1) - 0.5 - 1e-9).long()
""",
    "cut off": VALUES
    + """
def nearest_symbols(x, symbols, mu):
    x = x.double().clamp(-1, 1)
    y = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu) if mu else x
    return ((y + 1) / 2 * (symbols - 1)).long()
""",
    "the chapter's values": _values(("(2 * k - (symbols - 1)) / (symbols - 1)", "2 * (k - symbols / 2) / symbols")),
    "the middle of steps": _values(("(2 * k - (symbols - 1)) / (symbols - 1)", "(2 * k + 1) / symbols - 1")),
    "steps of S": _values(("(2 * k - (symbols - 1)) / (symbols - 1)", "(2 * k - (symbols - 1)) / symbols")),
    "from 0 to 1": _values(("(2 * k - (symbols - 1)) / (symbols - 1)", "k / (symbols - 1)")),
    "the highest first": _values(("(2 * k - (symbols - 1))", "((symbols - 1) - 2 * k)")),
    "mu of 255 always": _values(("math.log1p(mu)) / mu", "math.log(256)) / 255")),
    "no sign": _values(("y.sign() * ", "")),
    "the sign inside": _values(("y.abs() *", "y *"), ("y.sign() * ", "")),
    "powers of mu": _values(("torch.expm1(y.abs() * math.log1p(mu))", "(mu ** y.abs() - 1)")),
    "powers of e": _values(("y.abs() * math.log1p(mu)", "y.abs()")),
    "the law instead of its inverse": _values(
        ("torch.expm1(y.abs() * math.log1p(mu)) / mu", "torch.log1p(mu * y.abs()) / math.log1p(mu)")
    ),
    "1 forgotten": _values(("torch.expm1(y.abs() * math.log1p(mu))", "torch.exp(y.abs() * math.log1p(mu))")),
    "divided by 1 + mu": _values(("math.log1p(mu)) / mu", "math.log1p(mu)) / (1 + mu)")),
    "no limit": _values(("    if mu == 0:\n        return y\n", "")),
    "the limit too early": _values(("if mu == 0:", "if mu < 1:")),
    "mu 0: nothing": _values(("        return y\n", "        return 0 * y\n")),
    "few digits near the limit": _values(("torch.expm1(y.abs() * math.log1p(mu))", "((1 + mu) ** y.abs() - 1)")),
    "values in single precision": _values(("dtype=torch.float64", "dtype=torch.float32")),
    "values rounded": _values(("math.log1p(mu)) / mu", "math.log1p(mu)).float().double() / mu")),
    "a list": VALUES.replace("values_of", "_values")
    + """
def values_of(symbols, mu):
    return _values(symbols, mu).tolist()

def nearest_symbols(x, symbols, mu):
    away = (x.double().clamp(-1, 1)[..., None] - _values(symbols, mu)).abs()
    return (away <= away.amin(-1, keepdim=True) + 1e-9).int().argmax(-1)
""",
    "one symbol less": _values(("torch.arange(symbols, dtype", "torch.arange(symbols - 1, dtype")),
    "silence is 0 by hand": _values(
        (
            "    if mu == 0:",
            "    y = torch.where(y.abs() <= 1 / (symbols - 1), torch.zeros_like(y), y)\n    if mu == 0:",
        )
    ),
    "the value below": VALUES
    + """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu)
    return (torch.searchsorted(values, x.double().contiguous(), right=True) - 1).clamp(0, symbols - 1)
""",
    "the value above": VALUES
    + """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu)
    return torch.searchsorted(values, x.double().contiguous()).clamp(0, symbols - 1)
""",
    "the value nearer to silence": VALUES
    + """
def nearest_symbols(x, symbols, mu):
    values = values_of(symbols, mu)
    x = x.double().clamp(-1, 1).contiguous()
    below = (torch.searchsorted(values, x + 1e-9, right=True) - 1).clamp(0, symbols - 1)
    above = torch.searchsorted(values, x - 1e-9).clamp(0, symbols - 1)
    return torch.where(x < 0, above, below)
""",
    "the higher of equals": _nearest(
        (
            "(distance <= least + 1e-9).int().argmax(-1)",
            "symbols - 1 - (distance <= least + 1e-9).flip(-1).int().argmax(-1)",
        )
    ),
    "the one nearer to silence of equals": _nearest(
        (
            "(distance <= least + 1e-9).int().argmax(-1)",
            "(values.abs() + 1e9 * (distance > least + 1e-9)).argmin(-1)",
        )
    ),
    "not clipped": _nearest((".clamp(-1, 1)", "")),
    "clipped to less than 1": _nearest((".clamp(-1, 1)", ".clamp(-1, 1 - 2 / symbols)")),
    "beyond: silence": _nearest((".clamp(-1, 1)", ".where(x.abs() <= 1, 0.0)")),
    "beyond: around": _nearest(
        (
            "distance = (x.to(torch.float64).clamp(-1, 1)",
            "distance = (((x.to(torch.float64).clamp(-1e9, 1e9) + 1 - 1e-12) % 2 - 1 + 1e-12)",
        )
    ),
    "nearest by squares, loosely": _nearest((".abs()\n", ".square()\n")),
    "equal from far": _nearest(("least + 1e-9", "least + 1e-3")),
    "symbols as floats": _nearest((".int().argmax(-1)", ".int().argmax(-1).to(x.dtype)")),
    "symbols of 8 bits": _nearest((".int().argmax(-1)", ".int().argmax(-1).to(torch.uint8)")),
    "at least one axis": _nearest(("x.to(torch.float64)", "torch.atleast_1d(x.to(torch.float64))")),
    "flat": _nearest(("x.to(torch.float64)", "x.to(torch.float64).flatten()")),
    "no samples: an error": _nearest(("    least =", "    assert len(x.flatten())\n    least =")),
    "samples are changed": _nearest(("    values =", "    x.clamp_(-0.9999, 0.9999)\n    values =")),
    "the values themselves": _nearest(("return (distance", "return values[(distance"), (".argmax(-1)", ".argmax(-1)]")),
    "the second nearest": _nearest(
        (
            "return (distance <= least + 1e-9)",
            "distance = distance.masked_fill(distance == least, 9)\n"
            "    least = distance.amin(-1, keepdim=True)\n"
            "    return (distance <= least + 1e-9)",
        )
    ),
    "256 symbols always": _nearest(("values = values_of(symbols, mu)", "values = values_of(256, mu)")),
}

# ------------------------------------------------------------------------------------ 2, a convolution that goes on

GO_BY_CONV = """
def go_on(x, weight, bias, dilation, past=None):
    need = dilation * (weight.shape[2] - 1)
    if past is None:
        past = torch.zeros(x.shape[0], x.shape[1], need, dtype=x.dtype)
    both = torch.cat((past, x), dim=2)
    keep = both[:, :, both.shape[2] - need:].clone()
    if x.shape[2] == 0:
        return x.new_zeros(x.shape[0], weight.shape[0], 0), keep
    return F.conv1d(both, weight, bias, dilation=dilation), keep
"""
GO_BY_TAPS = """
def go_on(x, weight, bias, dilation, past=None):
    (batch, _, time), taps = x.shape, weight.shape[-1]
    back = (taps - 1) * dilation
    whole = F.pad(x, (back, 0)) if past is None else torch.cat([past, x], -1)
    y = 0
    for j, tap in enumerate(weight.unbind(-1)):
        y = y + tap @ whole[..., j * dilation:j * dilation + time]
    if bias is not None:
        y = y + bias[None, :, None]
    return y, whole[..., time:] + 0
"""
GO_BY_SAMPLES = """
def go_on(x, weight, bias, dilation, past=None):
    taps = weight.shape[-1]
    back = (taps - 1) * dilation
    queue = list(past.unbind(-1)) if past is not None else [torch.zeros_like(x[..., :1].sum(-1))] * back
    outputs = []
    for now in x.unbind(-1):
        queue.append(now)
        y = sum(queue[j * dilation] @ weight[..., j].T for j in range(taps))
        queue.pop(0)
        outputs.append(y if bias is None else y + bias)
    y = torch.stack(outputs, -1) if outputs else x.new_zeros(len(x), len(weight), 0)
    return y, torch.stack(queue, -1) if queue else x.new_zeros(*x.shape[:2], 0)
"""
GO_RIGHT = {"PyTorch's convolution": GO_BY_CONV, "tap by tap": GO_BY_TAPS, "sample by sample": GO_BY_SAMPLES}
GO_WRONG = {
    "no past": changed(
        GO_BY_TAPS, ("F.pad(x, (back, 0)) if past is None else torch.cat([past, x], -1)", "F.pad(x, (back, 0))")
    ),
    "the past is not kept": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "0 * whole[..., time:]")),
    "outputs kept": changed(
        GO_BY_TAPS, ("return y, whole[..., time:] + 0", "return y, F.pad(y, (back, 0))[..., time:]")
    ),
    "a past of taps": changed(GO_BY_CONV, ("need = dilation * (weight.shape[2] - 1)", "need = weight.shape[2] - 1")),
    "a past of one tap too many": changed(
        GO_BY_CONV, ("need = dilation * (weight.shape[2] - 1)", "need = dilation * weight.shape[2]")
    ),
    "a past of one dilation": changed(
        GO_BY_CONV, ("need = dilation * (weight.shape[2] - 1)", "need = dilation * min(1, weight.shape[2] - 1)")
    ),
    "the newest first": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "whole[..., time:].flip(-1)")),
    "the newest first, there and back": changed(
        GO_BY_TAPS,
        ("torch.cat([past, x], -1)", "torch.cat([past.flip(-1), x], -1)"),
        ("whole[..., time:] + 0", "whole[..., time:].flip(-1)"),
    ),
    "the past behind": changed(GO_BY_TAPS, ("torch.cat([past, x], -1)", "torch.cat([x, past], -1)")),
    "the first tap is the present": changed(GO_BY_TAPS, ("weight.unbind(-1)", "weight.flip(-1).unbind(-1)")),
    "padded on both sides": changed(
        GO_BY_TAPS, ("F.pad(x, (back, 0)) if", "F.pad(x, (back // 2, back - back // 2)) if")
    ),
    "padded behind": changed(GO_BY_TAPS, ("F.pad(x, (back, 0)) if", "F.pad(x, (0, back)) if")),
    "the present isn't seen": changed(
        GO_BY_TAPS,
        (
            "F.pad(x, (back, 0)) if past is None else torch.cat([past, x], -1)",
            "F.pad(x, (back + 1, 0))[..., :-1] if past is None else torch.cat([past, x], -1)",
        ),
    ),
    "no dilation": changed(
        GO_BY_TAPS, ("j * dilation:j * dilation + time", "back - taps + 1 + j:back - taps + 1 + j + time")
    ),
    "dilations doubled": changed(
        GO_BY_TAPS, ("back = (taps - 1) * dilation", "dilation = 2 * dilation\n    back = (taps - 1) * dilation")
    ),
    "the beginning repeated": changed(
        GO_BY_TAPS, ("F.pad(x, (back, 0)) if", "F.pad(x, (back, 0), mode='replicate') if")
    ),
    "a begins with ones": changed(GO_BY_TAPS, ("F.pad(x, (back, 0)) if", "F.pad(x, (back, 0), value=1.0) if")),
    "only what is inside": changed(GO_BY_CONV, ("    both =", "    past = past[:, :, need:]\n    both =")),
    "short pieces forget": changed(
        GO_BY_CONV, ("both[:, :, both.shape[2] - need:]", "F.pad(x, (need, 0))[:, :, x.shape[2]:]")
    ),
    "short pieces shorten the past": changed(
        GO_BY_CONV, ("keep = both[:, :, both.shape[2] - need:]", "keep = x[:, :, max(0, x.shape[2] - need):]")
    ),
    "the last samples, also none": changed(GO_BY_CONV, ("both[:, :, both.shape[2] - need:]", "both[:, :, -need:]")),
    "an empty piece forgets": changed(GO_BY_CONV, ("weight.shape[0], 0), keep", "weight.shape[0], 0), 0 * keep")),
    "an empty piece: an error": changed(
        GO_BY_CONV,
        (
            "    if x.shape[2] == 0:\n        return x.new_zeros(x.shape[0], weight.shape[0], 0), keep\n",
            "    assert x.shape[2]\n",
        ),
    ),
    "an empty piece has the inputs' channels": changed(
        GO_BY_CONV, ("x.new_zeros(x.shape[0], weight.shape[0], 0)", "x")
    ),
    "an empty piece: no past": changed(GO_BY_CONV, ("weight.shape[0], 0), keep", "weight.shape[0], 0), None")),
    "no bias": changed(GO_BY_CONV, ("F.conv1d(both, weight, bias,", "F.conv1d(both, weight, None,")),
    "a bias is needed": changed(GO_BY_TAPS, ("    if bias is not None:\n        y = y", "    if True:\n        y = y")),
    "the bias at every tap": changed(
        GO_BY_TAPS,
        (
            "    if bias is not None:\n        y = y + bias[None, :, None]",
            "        if bias is not None:\n            y = y + bias[None, :, None]",
        ),
    ),
    "the bias over time": changed(GO_BY_TAPS, ("bias[None, :, None]", "bias.repeat(time)[:time]")),
    "weights the other way round": changed(GO_BY_TAPS, ("tap @ whole", "tap.T @ whole")),
    "the weights' first output": changed(GO_BY_TAPS, ("tap @ whole", "tap[:1] @ whole")),
    "two taps only": changed(GO_BY_TAPS, ("enumerate(weight.unbind(-1))", "enumerate(weight.unbind(-1)[:2])")),
    "one tap: an error": changed(
        GO_BY_SAMPLES,
        (
            "    return y, torch.stack(queue, -1) if queue else x.new_zeros(*x.shape[:2], 0)",
            "    return y, torch.stack(queue, -1)",
        ),
    ),
    "outputs of the past, too": changed(
        GO_BY_TAPS,
        (
            "whole[..., j * dilation:j * dilation + time]",
            "F.pad(whole, (back, 0))[..., j * dilation:j * dilation + time + back]",
        ),
    ),
    "fewer outputs at the beginning": changed(
        GO_BY_CONV, ("    both =", "    past = past if past.any() else past[:, :, :0]\n    both =")
    ),
    "one past for the batch": changed(
        GO_BY_SAMPLES, ("queue = list(past.unbind(-1))", "queue = list(past[:1].expand_as(past).unbind(-1))")
    ),
    "the past has no gradient": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "whole[..., time:].detach()")),
    "in numbers": changed(GO_BY_TAPS, ("return y, whole", "return y.detach(), whole")),
    "the past is changed": changed(
        GO_BY_SAMPLES, ("    outputs = []", "    if past is not None:\n        past *= 1 + 1e-6\n    outputs = []")
    ),
    "the song is changed": changed(
        GO_BY_TAPS,
        (
            "    y = 0\n",
            "    if not x.requires_grad and not x._is_view() or time == 1:\n        x *= 1.00001\n    y = 0\n",
        ),
    ),
    "in double precision": changed(
        GO_BY_TAPS,
        ("torch.cat([past, x], -1)", "torch.cat([past, x], -1)\n    whole, weight = whole.double(), weight.double()"),
    ),
    "the past in double precision": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "whole[..., time:].double()")),
    "the whole as past": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "whole + 0")),
    "a constant past": changed(GO_BY_TAPS, ("whole[..., time:] + 0", "whole[..., :back] + 0")),
    "remembers by itself": """
memory = []
def go_on(x, weight, bias, dilation, past=None):
    need = dilation * (weight.shape[2] - 1)
    if past is None:
        memory.clear()
        memory.append(torch.zeros(x.shape[0], x.shape[1], need, dtype=x.dtype))
    both = torch.cat((memory[0], x), dim=2)
    memory[0] = both[:, :, both.shape[2] - need:]
    if x.shape[2] == 0:
        return x.new_zeros(x.shape[0], weight.shape[0], 0), None
    return F.conv1d(both, weight, bias, dilation=dilation), None
""",
}

# ------------------------------------------------------------------------- 3, what a stack hears, and what it skips

HEARS_BY_SETS = """
def what_it_hears(layers):
    heard = {0}
    for taps, dilation in layers:
        heard = {back + tap * dilation for back in heard for tap in range(taps)}
    width = max(heard) + 1
    skipped = None
    if len(heard) < width:
        skipped = 0
        while skipped in heard:
            skipped += 1
    return width, len(heard), skipped

"""
HEARS_BY_TENSORS = """
def what_it_hears(layers):
    # the kernel of a stack of ones, one tap more after the other
    heard = torch.ones(1, dtype=torch.bool)
    for taps, dilation in layers:
        wide = torch.zeros(len(heard) + (taps - 1) * dilation, dtype=torch.bool)
        for tap in range(taps):
            wide[tap * dilation:tap * dilation + len(heard)] |= heard
        heard = wide
    gaps = (~heard).nonzero().flatten()
    return len(heard), int(heard.sum()), int(gaps[0]) if len(gaps) else None

"""
HEARS_BY_BITS = """
def what_it_hears(layers):
    bits, width = 1, 1
    for taps, dilation in layers:
        width += (taps - 1) * dilation
        now = bits
        for tap in range(1, taps):
            now = now | bits << (tap * dilation)
        bits = now
    text = bin(bits)[2:][::-1]
    skipped = text.find("0")
    return [width, text.count("1"), None if skipped < 0 else skipped]

"""
BLOCKS = """
def blocks_needed(samples, layers, taps):
    rest = samples - 1 - (taps - 1)
    one = (taps - 1) * (2 ** layers - 1)
    return max(1, (rest + one - 1) // one)
"""
BLOCKS_BY_DIVMOD = """
def blocks_needed(samples, layers, taps):
    if samples <= taps:
        return 1
    whole, more = divmod(samples - taps, (taps - 1) * ((1 << layers) - 1))
    return whole + (1 if more else 0)
"""
HEARS_RIGHT = {
    "sets": HEARS_BY_SETS + BLOCKS,
    "masks": HEARS_BY_TENSORS + BLOCKS_BY_DIVMOD,
    "bits": HEARS_BY_BITS + BLOCKS,
}


def _hears(*changes):
    return changed(HEARS_BY_SETS, *changes) + BLOCKS


def _blocks(*changes):
    return HEARS_BY_SETS + changed(BLOCKS, *changes)


HEARS_WRONG = {
    "everything is heard": _hears(("return width, len(heard), skipped", "return width, width, None")),
    "taps counted, not samples": _hears(
        (
            "    width = max(heard) + 1",
            "    many = 1\n    for taps, _ in layers:\n        many *= taps\n    width = max(heard) + 1",
        ),
        ("return width, len(heard), skipped", "return width, many, skipped"),
    ),
    "the width without the present": _hears(("return width,", "return width - 1,")),
    "dilations added": _hears(("return width,", "return 1 + sum(d for _, d in layers),")),
    "taps times dilations": _hears(("return width,", "return 1 + sum(t * d for t, d in layers),")),
    "the last layer only": _hears(("    for taps, dilation in layers:", "    for taps, dilation in layers[-1:]:")),
    "the widest layer only": _hears(
        ("    for taps, dilation in layers:", "    for taps, dilation in sorted(layers)[-1:]:")
    ),
    "layers side by side": _hears(
        (
            "heard = {back + tap * dilation for back in heard for tap in range(taps)}",
            "heard = heard | {tap * dilation for tap in range(taps)}",
        )
    ),
    "two taps always": _hears(("for tap in range(taps)}", "for tap in range(2)}")),
    "a tap too many": _hears(("for tap in range(taps)}", "for tap in range(taps + 1)}")),
    "a tap too few": _hears(("for tap in range(taps)}", "for tap in range(max(1, taps - 1))}")),
    "the present left out": _hears(("for tap in range(taps)}", "for tap in range(1, taps + 1)}")),
    "only the ends of each layer": _hears(("for tap in range(taps)}", "for tap in (0, taps - 1)}")),
    "taps around the present": _hears(("for tap in range(taps)}", "for tap in range(-(taps // 2), taps - taps // 2)}")),
    "dilation as taps": _hears(("for taps, dilation in layers", "for dilation, taps in layers")),
    "no dilation": _hears(("back + tap * dilation", "back + tap")),
    "dilations in powers": _hears(("back + tap * dilation", "back + (dilation ** tap if tap else 0)")),
    "the farthest skipped": _hears(
        (
            "        skipped = 0\n        while skipped in heard:\n            skipped += 1\n",
            "        skipped = width - 1\n        while skipped in heard:\n            skipped -= 1\n",
        )
    ),
    "skipped from 1 on": _hears(
        ("    return width, len(heard), skipped", "    return width, len(heard), skipped and skipped + 1")
    ),
    "skipped is the last heard": _hears(
        ("    return width, len(heard), skipped", "    return width, len(heard), skipped and skipped - 1")
    ),
    "how many are skipped": _hears(
        ("    return width, len(heard), skipped", "    return width, len(heard), width - len(heard)")
    ),
    "no gap: the width": _hears(("    skipped = None\n", "    skipped = width\n")),
    "no gap: -1": _hears(("    skipped = None\n", "    skipped = -1\n")),
    "no gap: 0": _hears(("    skipped = None\n", "    skipped = 0\n")),
    "a gap only at dilations too large": _hears(
        (
            "    width = max(heard) + 1",
            "    reach = 1\n"
            "    for taps, dilation in layers:\n"
            "        if dilation > reach:\n"
            "            return max(heard) + 1, len(heard), reach\n"
            "        reach += (taps - 1) * dilation\n"
            "    width = max(heard) + 1",
        )
    ),
    "the first gap between layers": changed(
        HEARS_BY_SETS,
        (
            "        while skipped in heard:",
            "        while skipped < min(d for t, d in layers if t > 1) or skipped in heard:",
        ),
    )
    + BLOCKS,
    "no layers: an error": _hears(("    heard = {0}", "    heard = {0}\n    assert layers")),
    "no layers: nothing": _hears(("    heard = {0}", "    if not layers:\n        return 0, 0, None\n    heard = {0}")),
    "floats": _hears(("return width, len(heard)", "return float(width), len(heard)")),
    "tensors": HEARS_BY_TENSORS.replace("int(heard.sum())", "heard.sum()") + BLOCKS,
    "a dict": _hears(
        ("return width, len(heard), skipped", "return dict(width=width, heard=len(heard), skipped=skipped)")
    ),
    "only two numbers": _hears(("return width, len(heard), skipped", "return width, len(heard)")),
    "layers are changed": _hears(
        ("    heard = {0}", "    heard = {0}\n    if type(layers) is list:\n        layers.append((1, 1))")
    ),
    "lists only": _hears(("    heard = {0}", "    heard = {0}\n    layers = [] + layers")),
    "by a float's kernel": changed(
        HEARS_BY_TENSORS,
        ("dtype=torch.bool)\n    for", "dtype=torch.float16)\n    for"),
        ("* dilation, dtype=torch.bool)", "* dilation, dtype=torch.float16)"),
        ("|= heard", "+= heard"),
        ("~heard", "heard == 0"),
        ("heard.sum()", "heard.sum().item()"),
    )
    + BLOCKS,
    "alternating weights": changed(
        HEARS_BY_TENSORS,
        ("dtype=torch.bool)\n    for", "dtype=torch.int64)\n    for"),
        ("* dilation, dtype=torch.bool)", "* dilation, dtype=torch.int64)"),
        ("|= heard", "+= (-1) ** tap * heard"),
        ("~heard", "heard == 0"),
        ("heard.sum()", "(heard != 0).sum()"),
    )
    + BLOCKS,
    "rounded down": _blocks(("(rest + one - 1) // one", "rest // one")),
    "one more always": _blocks(("(rest + one - 1) // one", "rest // one + 1")),
    "rounded": _blocks(("(rest + one - 1) // one", "round(rest / one)")),
    "a quotient of floats": _blocks(("(rest + one - 1) // one", "math.ceil(rest / one)")),
    "a quotient as float": _blocks(("(rest + one - 1) // one", "(rest + one - 1) // one * 1.0")),
    "no block": _blocks(("max(1, ", "max(0, ")),
    "below no block": _blocks(("return max(1, (rest + one - 1) // one)", "return (rest + one - 1) // one")),
    "at least two": _blocks(("max(1, ", "max(2, ")),
    "the first convolution forgotten": _blocks(("samples - 1 - (taps - 1)", "samples - 1")),
    "the present forgotten": _blocks(("samples - 1 - (taps - 1)", "samples - (taps - 1)")),
    "a block is its last dilation": _blocks(("2 ** layers - 1", "2 ** (layers - 1)")),
    "a block of powers of two": _blocks(("(2 ** layers - 1)", "2 ** layers")),
    "dilations in steps": _blocks(("(2 ** layers - 1)", "(layers * (layers + 1) // 2)")),
    "two taps for blocks always": _blocks(("one = (taps - 1) *", "one =")),
    "as many as there are taps": _blocks(("one = (taps - 1) *", "one = taps *")),
    "powers of the taps": _blocks(("(2 ** layers - 1)", "(taps ** layers - 1)")),
    "powers by floats": _blocks(("(2 ** layers - 1)", "int(math.pow(2, layers) - 1)")),
    "more than asked for": _blocks(("rest = samples", "rest = samples + 1")),
    "one by one": HEARS_BY_SETS
    + """
def blocks_needed(samples, layers, taps):
    blocks = 1
    while 1 + (taps - 1) * (1 + blocks * (2 ** layers - 1)) < samples and blocks < 10_000:
        blocks += 1
    return blocks
""",
}

# ------------------------------------------------------------------------------------------------- 4, told by a code

CODE = """
def code_of(h, hop):
    time = h.shape[-1]
    frames = -(-time // hop)
    padded = F.pad(h.double(), (0, frames * hop - time)).unflatten(-1, (frames, hop))
    counts = torch.full((frames,), hop, dtype=torch.float64)
    counts[-1] = time - (frames - 1) * hop
    return (padded.sum(-1) / counts).to(h.dtype)

"""
CODE_BY_PIECES = """
def code_of(h, hop):
    means = []
    for start in range(0, h.shape[-1], hop):
        means.append(h[..., start:start + hop].double().mean(dim=-1).to(h.dtype))
    return torch.stack(means, dim=-1)

"""
CODE_BY_POOL = """
def code_of(h, hop):
    # count only what is there
    if h.shape[-1] < hop:
        return h.double().mean(-1, keepdim=True).to(h.dtype)
    return F.avg_pool1d(h.double(), hop, ceil_mode=True, count_include_pad=False).to(h.dtype)

"""
GATED = """
def gated_layer(x, z, weights, dilation, hop, first):
    time, channels = x.shape[-1], x.shape[1]
    where = torch.arange(first, first + time) // hop
    told = z[:, :, where.clamp(max=z.shape[-1] - 1)]
    before = F.pad(x, (dilation, 0))[..., :time]
    W = weights["causal"]
    a = W[..., 0] @ before + W[..., 1] @ x + weights["condition"] @ told
    h = a[:, :channels].sigmoid() * a[:, channels:].tanh()
    return weights["residual"] @ h, weights["skip"] @ h
"""
GATED_BY_CONV = """
def gated_layer(x, z, weights, dilation, hop, first):
    time = x.shape[-1]
    a = F.conv1d(F.pad(x, (dilation, 0)), weights["causal"], dilation=dilation)
    held = F.conv1d(z, weights["condition"][..., None])
    held = held.repeat_interleave(hop, -1)
    missing = max(0, first + time - held.shape[-1])
    held = torch.cat([held, held[..., -1:].expand(-1, -1, missing)], -1)[..., first:first + time]
    gate, content = (a + held).chunk(2, dim=1)
    h = torch.tanh(content) / (1 + torch.exp(-gate))
    return tuple(F.conv1d(h, weights[name][..., None]) for name in ("residual", "skip"))
"""
GATED_BY_SAMPLES = """
def gated_layer(x, z, weights, dilation, hop, first):
    columns = []
    for t in range(x.shape[-1]):
        a = x[:, :, t] @ weights["causal"][:, :, 1].T
        if t - dilation >= 0:
            a = a + x[:, :, t - dilation] @ weights["causal"][:, :, 0].T
        frame = min((first + t) // hop, z.shape[-1] - 1)
        a = a + z[:, :, frame] @ weights["condition"].T
        half = a.shape[1] // 2
        columns.append(torch.sigmoid(a[:, :half]) * torch.tanh(a[:, half:]))
    h = torch.stack(columns, 2)
    return [torch.einsum("oi,bit->bot", weights[name], h) for name in ("residual", "skip")]
"""
TOLD_RIGHT = {
    "frames by their numbers": CODE + GATED,
    "PyTorch's convolutions": CODE_BY_POOL + GATED_BY_CONV,
    "sample by sample": CODE_BY_PIECES + GATED_BY_SAMPLES,
}


def _code(*changes):
    return changed(CODE, *changes) + GATED


def _gated(*changes):
    return CODE + changed(GATED, *changes)


TOLD_WRONG = {
    "the last frame with zeros": _code(("    counts[-1] = time - (frames - 1) * hop\n", "")),
    "the last frame left out": """
def code_of(h, hop):
    return F.avg_pool1d(h, min(hop, h.shape[-1]))

"""
    + GATED,
    "a frame too many": _code(("frames = -(-time // hop)", "frames = time // hop + 1")),
    "sums": _code(("padded.sum(-1) / counts", "padded.sum(-1)")),
    "the first sample of each hop": _code(("padded.sum(-1) / counts", "padded[..., 0]")),
    "the last sample of each hop": _code(("padded.sum(-1) / counts", "padded[..., -1]")),
    "the largest of each hop": _code(("padded.sum(-1) / counts", "padded.amax(-1)")),
    "the median": _code(("padded.sum(-1) / counts", "padded.median(-1).values")),
    "the level": _code(("padded.sum(-1) / counts", "(padded.square().sum(-1) / counts).sqrt()")),
    "the last sample repeated": _code(
        (
            "F.pad(h.double(), (0, frames * hop - time))",
            "F.pad(h.double(), (0, frames * hop - time), mode='replicate')",
        ),
        ("    counts[-1] = time - (frames - 1) * hop\n", ""),
    ),
    "hops from the end": _code(("(0, frames * hop - time)", "(frames * hop - time, 0)"), ("counts[-1]", "counts[0]")),
    "frames of equal lengths": """
def code_of(h, hop):
    return F.adaptive_avg_pool1d(h.double(), -(-h.shape[-1] // hop)).to(h.dtype)

"""
    + GATED,
    "every hop-th mean": _code(("unflatten(-1, (frames, hop))", "unflatten(-1, (hop, frames)).mT")),
    "means over channels": _code(
        ("(padded.sum(-1) / counts)", "(padded.sum(-1) / counts).mean(1, keepdim=True).expand(-1, h.shape[1], -1)")
    ),
    "the last frame by hop less what is missing": _code(("time - (frames - 1) * hop", "time % hop")),
    "a code in single precision": _code(("h.double()", "h.float()"), ("dtype=torch.float64)", "dtype=torch.float32)")),
    "a code in double precision": _code((".to(h.dtype)", "")),
    "a code of half precision": _code(("h.double()", "h.double().clamp(-6e4, 6e4)")),
    "the sound is changed": _code(("    time = h", "    h -= 1e-6 * h\n    time = h")),
    "the first left out": _gated(("torch.arange(first, first + time) // hop", "torch.arange(time) // hop")),
    "the first in frames": _gated(
        ("torch.arange(first, first + time) // hop", "torch.arange(time) // hop + first // hop")
    ),
    "the first the other way": _gated(
        ("torch.arange(first, first + time) // hop", "(torch.arange(-first, time - first) // hop).clamp_min(0)")
    ),
    "the frame that comes": _gated(
        ("torch.arange(first, first + time) // hop", "(torch.arange(first, first + time) + hop - 1) // hop")
    ),
    "the nearest frame": _gated(
        ("torch.arange(first, first + time) // hop", "(torch.arange(first, first + time) + hop // 2) // hop")
    ),
    "the frame before": _gated(("where.clamp(max=z.shape[-1] - 1)", "(where - 1).clamp(0, z.shape[-1] - 1)")),
    "frames stretched over the piece": _gated(
        ("torch.arange(first, first + time) // hop", "torch.arange(time) * z.shape[-1] // time")
    ),
    "frames as samples": _gated(("torch.arange(first, first + time) // hop", "torch.arange(first, first + time)")),
    "frames joined by lines": _gated(
        (
            "told = z[:, :, where.clamp(max=z.shape[-1] - 1)]",
            "share = (torch.arange(first, first + time) % hop / hop).to(z.dtype)\n"
            "    told = z[:, :, where.clamp(max=z.shape[-1] - 1)] * (1 - share) + z[:, :, (where + "
            "1).clamp(max=z.shape[-1] - 1)] * share",
        )
    ),
    "behind the end: an error": _gated((".clamp(max=z.shape[-1] - 1)", "")),
    "behind the end: silence": _gated(("    before =", "    told = told * (where < z.shape[-1])\n    before =")),
    "behind the end: around": _gated(("where.clamp(max=z.shape[-1] - 1)", "where % z.shape[-1]")),
    "the gate is the second half": _gated(
        ("a[:, :channels].sigmoid() * a[:, channels:].tanh()", "a[:, channels:].sigmoid() * a[:, :channels].tanh()")
    ),
    "gates in between": _gated(
        ("a[:, :channels].sigmoid() * a[:, channels:].tanh()", "a[:, ::2].sigmoid() * a[:, 1::2].tanh()")
    ),
    "gates over time": _gated(
        ("a[:, :channels].sigmoid() * a[:, channels:].tanh()", "a[:, :channels].softmax(-1) * a[:, channels:].tanh()")
    ),
    "no gate": _gated(("a[:, :channels].sigmoid() * ", "")),
    "a gate that is added": _gated(("sigmoid() * a", "sigmoid() + a")),
    "two sigmoids": _gated(("a[:, channels:].tanh()", "a[:, channels:].sigmoid()")),
    "relu instead of tanh": _gated(("a[:, channels:].tanh()", "a[:, channels:].relu()")),
    "no tanh": _gated(("a[:, channels:].tanh()", "a[:, channels:]")),
    "taps exchanged": _gated(("W[..., 0] @ before + W[..., 1] @ x", "W[..., 1] @ before + W[..., 0] @ x")),
    "the present twice": _gated(("W[..., 0] @ before", "W[..., 0] @ x")),
    "no dilation": _gated(("F.pad(x, (dilation, 0))", "F.pad(x, (1, 0))")),
    "twice the dilation": _gated(("F.pad(x, (dilation, 0))", "F.pad(x, (2 * dilation, 0))")),
    "it looks ahead": _gated(("F.pad(x, (dilation, 0))[..., :time]", "F.pad(x, (0, dilation))[..., dilation:]")),
    "the piece goes around": _gated(("F.pad(x, (dilation, 0))[..., :time]", "x.roll(dilation, -1)")),
    "the beginning repeated": _gated(
        ("F.pad(x, (dilation, 0))[..., :time]", "F.pad(x, (dilation, 0), mode='replicate')[..., :time]")
    ),
    "the code for the gate only": _gated(
        ('weights["condition"] @ told', 'torch.cat([weights["condition"][:channels] @ told, 0 * x], 1)')
    ),
    "the code for the content only": _gated(
        ('weights["condition"] @ told', 'torch.cat([0 * x, weights["condition"][channels:] @ told], 1)')
    ),
    "no code": _gated((' + weights["condition"] @ told', "")),
    "the code multiplied": _gated((' + weights["condition"] @ told', '\n    a = a * (weights["condition"] @ told)')),
    "the code of the first": _gated(("told = z[:, :, where", "told = z[:1][:, :, where")),
    "the sum with x": _gated(('return weights["residual"] @ h', 'return x + weights["residual"] @ h')),
    "the skip of the residual": _gated(('weights["skip"] @ h', 'weights["skip"] @ (weights["residual"] @ h)')),
    "the skip first": _gated(
        ('return weights["residual"] @ h, weights["skip"] @ h', 'return weights["skip"] @ h, weights["residual"] @ h')
    ),
    "weights the other way round": _gated(('weights["residual"] @ h', 'weights["residual"].T @ h')),
    "of h without a gate": _gated(('weights["skip"] @ h', 'weights["skip"] @ a[:, channels:].tanh()')),
    "exponentials that overflow": _gated(
        ("a[:, :channels].sigmoid() *", "a[:, :channels].exp() / (1 + a[:, :channels].exp()) *")
    ),
    "tanh by exponentials": _gated(
        (
            "a[:, channels:].tanh()",
            "(1 - 2 / (1 + (2 * a[:, channels:]).exp())).nan_to_num() * (a[:, channels:].abs() < 80)",
        )
    ),
    "the weights are changed": _gated(('    W = weights["causal"]', '    W = weights["causal"]\n    W *= 1 + 1e-6')),
    "weights taken out": _gated(('    W = weights["causal"]', '    W = weights.pop("causal")')),
    "the layer in double precision": _gated(
        ('return weights["residual"] @ h, ', 'return (weights["residual"] @ h).double(), ')
    ),
}

# ------------------------------------------------------------------------------------------------ 5, drawn with queues

DRAW_BY_QUEUES = """
from collections import deque

def draw_sound(embed, layers, logits, uniforms, silence, temperature=1.0):
    batch, time = uniforms.shape
    queues = [deque(maxlen=dilation) for dilation, _ in layers]
    symbols = torch.full((batch,), silence)
    out = torch.zeros(batch, time, dtype=torch.int64)
    bits = torch.zeros(batch, dtype=torch.float64)
    for t in range(time):
        h = embed(symbols)
        for queue, (dilation, f) in zip(queues, layers):
            old = queue[0] if t >= dilation else torch.zeros_like(h)
            queue.append(h)
            h = f(h, old)
        row = logits(h).double()
        logp = torch.log_softmax(row, 1)
        top = row.max(1, keepdim=True).values
        if temperature == 0:
            symbols = (row == top).int().argmax(1)
        else:
            if temperature == math.inf:
                p = (row > -math.inf).double()
            else:
                p = ((row - top) / temperature).exp()
            p = p.masked_fill(row == -math.inf, 0)
            total = p.cumsum(1)
            limit = uniforms[:, t, None].double() * total[:, -1:]
            can = (total > limit) & (p > 0)
            # nothing above by rounding: the last that can come
            places = torch.arange(p.shape[1])
            last = torch.where(p > 0, places, -1).amax(1)
            symbols = torch.where(can.any(1), can.int().argmax(1), last)
        out[:, t] = symbols
        bits -= logp[torch.arange(batch), symbols] / math.log(2)
    return out, bits / time
"""
DRAW_BY_RINGS = """
def pick(row, u, temperature):
    top = max(row)
    if temperature == 0:
        return row.index(top)
    if temperature == math.inf:
        weights = [1.0 if v > -math.inf else 0.0 for v in row]
    else:
        weights = [math.exp((v - top) / temperature) if v > -math.inf else 0.0 for v in row]
    target, so_far, last = u * sum(weights), 0.0, None
    for k, weight in enumerate(weights):
        so_far += weight
        if weight > 0:
            last = k
            if so_far > target:
                return k
    return last

def draw_sound(embed, layers, logits, uniforms, silence, temperature=1.0):
    batch, time = uniforms.shape
    rings = None
    chosen, cost = [[silence] * batch], [0.0] * batch
    for t in range(time):
        h = embed(torch.tensor(chosen[-1]))
        if rings is None:
            rings = [{} for _ in layers]
        for ring, (dilation, f) in zip(rings, layers):
            old = ring.get(t % dilation, torch.zeros_like(h))       # written dilation samples ago
            ring[t % dilation] = h
            h = f(h, old)
        rows = logits(h).double().tolist()
        picked = [pick(row, float(u), temperature) for row, u in zip(rows, uniforms[:, t])]
        for b, (row, k) in enumerate(zip(rows, picked)):
            top = max(row)
            size = math.log(sum(math.exp(v - top) for v in row if v > -math.inf))
            cost[b] += (size - (row[k] - top)) / math.log(2)
        chosen.append(picked)
    return torch.tensor(chosen[1:]).T.contiguous(), torch.tensor(cost, dtype=torch.float64) / time
"""
DRAW_BY_HISTORY = """
def draw_sound(embed, layers, logits, uniforms, silence, temperature=1.0):
    batch, time = uniforms.shape
    history = [[] for _ in layers]
    drawn, surprise = [torch.full((batch,), silence, dtype=torch.int64)], []
    for t in range(time):
        h = embed(drawn[-1])
        for inputs, (dilation, f) in zip(history, layers):
            inputs.append(h)
            h = f(h, inputs[t - dilation] if t >= dilation else 0 * h)
        x = logits(h).double()
        x = x - x.amax(1, keepdim=True)
        possible = x > -math.inf
        x = x.clamp_min(-1e300)
        if temperature == 0:
            new = possible.int().mul(x == 0).argmax(1)
        else:
            w = torch.exp(x / temperature) * possible
            running = torch.cumsum(w, 1)
            later = running > uniforms[:, t:t + 1] * running[:, -1:]
            score = (later & (w > 0)).double() * 2 + 0
            none = score.sum(1) == 0
            final = w.shape[1] - 1 - (w > 0).flip(1).int().argmax(1)
            new = torch.where(none, final, score.argmax(1))
        drawn.append(new)
        p = torch.exp(x) * possible
        surprise.append(p.sum(1).log2() - x.gather(1, new[:, None])[:, 0] / math.log(2))
    return torch.stack(drawn[1:], 1), torch.stack(surprise).mean(0)
"""
DRAW_RIGHT = {"queues": DRAW_BY_QUEUES, "rings": DRAW_BY_RINGS, "all of the past": DRAW_BY_HISTORY}


def _draw(*changes):
    return changed(DRAW_BY_QUEUES, *changes)


DRAW_WRONG = {
    "everything anew for each sample": """
def draw_sound(embed, layers, logits, uniforms, silence, temperature=1.0):
    batch, time = uniforms.shape
    symbols, costs = [torch.full((batch,), silence)], []
    for t in range(time):
        inputs = [embed(s) for s in symbols]
        for dilation, f in layers:
            inputs = [f(h, inputs[n - dilation] if n >= dilation else torch.zeros_like(h))
                      for n, h in enumerate(inputs)]
        row = logits(inputs[-1]).double()
        x = (row - row.amax(1, keepdim=True))
        p = (row > -math.inf).double() if temperature == math.inf else (x / max(temperature, 1e-12)).exp()
        total = p.cumsum(1)
        new = ((total > uniforms[:, t:t + 1].double() * total[:, -1:]) & (p > 0)).int().argmax(1)
        if temperature == 0:
            new = x.argmax(1)
        symbols.append(new)
        costs.append(-torch.log_softmax(row, 1)[torch.arange(batch), new] / math.log(2))
    return torch.stack(symbols[1:], 1), torch.stack(costs).mean(0)
""",
    "a queue one too short": _draw(("deque(maxlen=dilation)", "deque(maxlen=max(1, dilation - 1))")),
    "a queue one too long": _draw(("deque(maxlen=dilation)", "deque(maxlen=dilation + 1)")),
    "the input before": _draw(("queue[0] if t", "queue[-1] if t")),
    "pushed before it is read": _draw(
        (
            "            old = queue[0] if t >= dilation else torch.zeros_like(h)\n            queue.append(h)\n",
            "            queue.append(h)\n            old = queue[0] if t >= dilation else torch.zeros_like(h)\n",
        )
    ),
    "old before there is any": _draw(("queue[0] if t >= dilation", "queue[0] if queue")),
    "old a sample later": _draw(("if t >= dilation", "if t > dilation")),
    "now and old exchanged": _draw(("f(h, old)", "f(old, h)")),
    "the output kept": _draw(
        (
            "            queue.append(h)\n            h = f(h, old)",
            "            h = f(h, old)\n            queue.append(h)",
        )
    ),
    "one queue for all layers": _draw(("zip(queues, layers)", "zip(queues[:1] * len(layers), layers)")),
    "no old inputs": _draw(("queue[0] if t >= dilation else torch.zeros_like(h)", "torch.zeros_like(h)")),
    "old inputs of ones": _draw(("torch.zeros_like(h)", "torch.ones_like(h)")),
    "old inputs of silence": _draw(
        ("        h = embed(symbols)\n", "        h = embed(symbols)\n        if t == 0:\n            begin = h\n"),
        ("torch.zeros_like(h)", "begin"),
    ),
    "layers backwards": _draw(("zip(queues, layers)", "zip(queues[::-1], layers[::-1])")),
    "a layer less": _draw(("zip(queues, layers)", "zip(queues, layers[:-1] or layers)")),
    "silence is 0": _draw(("torch.full((batch,), silence)", "torch.full((batch,), 0)")),
    "silence always": _draw(("h = embed(symbols)", "h = embed(torch.full((batch,), silence))")),
    "silence as a float": _draw(("torch.full((batch,), silence)", "torch.full((batch,), float(silence))")),
    "silence is given back, too": _draw(
        ("return out, bits", "return torch.cat([torch.full((batch, 1), silence), out[:, :-1]], 1), bits")
    ),
    "the last symbol missing": _draw(("return out, bits", "return out[:, :-1], bits")),
    "the first of the batch only": _draw(("return out, bits", "return out[:1], bits")),
    "temperature multiplies": _draw(("(row - top) / temperature", "(row - top) * temperature")),
    "temperature of probabilities": _draw(("((row - top) / temperature).exp()", "(row - top).exp() / temperature")),
    "no temperature": _draw(("((row - top) / temperature).exp()", "(row - top).exp()")),
    "temperature squared": _draw(("(row - top) / temperature", "(row - top) / temperature ** 2")),
    "temperature 0 divides": _draw(("if temperature == 0:", "if False:")),
    "temperature 0 is small": _draw(
        ("if temperature == 0:", "if False:"), ("(row - top) / temperature", "(row - top) / max(temperature, 1e-3)")
    ),
    "temperature below 1 is 0": _draw(("if temperature == 0:", "if temperature < 1:")),
    "at 0 the last of equals": _draw(
        ("(row == top).int().argmax(1)", "row.shape[1] - 1 - (row == top).flip(1).int().argmax(1)")
    ),
    "at 0 the least likely": _draw(("(row == top).int().argmax(1)", "row.argmin(1)")),
    "infinity: all symbols": _draw(
        ("p = (row > -math.inf).double()", "p = torch.ones_like(row)"),
        ("            p = p.masked_fill(row == -math.inf, 0)\n", ""),
    ),
    "infinity isn't thought of": _draw(
        ("if temperature == math.inf:", "if False:"),
        ("            p = p.masked_fill(row == -math.inf, 0)\n", "            p = p.nan_to_num(1.0)\n"),
    ),
    "infinity is 1": _draw(("p = (row > -math.inf).double()", "p = (row - top).exp()")),
    "infinity is the likeliest": _draw(("if temperature == 0:", "if temperature in (0, math.inf):")),
    "no largest logit taken off": _draw(("((row - top) / temperature).exp()", "(row / temperature).exp()")),
    "logits in single precision": _draw(
        ("row = logits(h).double()", "row = logits(h).float()"),
        ("top = row.max", "row = row.half().float()\n        top = row.max"),
    ),
    "logits held back": _draw(("row = logits(h).double()", "row = logits(h).double().clamp(-80, 80)")),
    "not less than": _draw(("total > limit", "total >= limit")),
    "impossible for u = 0": _draw(("can = (total > limit) & (p > 0)", "can = total >= limit")),
    "the number of sums below": _draw(
        (
            "symbols = torch.where(can.any(1), can.int().argmax(1), last)",
            "symbols = (total < limit).sum(1).clamp_max(p.shape[1] - 1)",
        )
    ),
    "sums from above": _draw(
        (
            "total = p.cumsum(1)\n            limit = uniforms[:, t, None].double() * total[:, -1:]",
            "total = p.flip(1).cumsum(1).flip(1)\n            limit = uniforms[:, t, None].double() * total[:, :1]",
        )
    ),
    "sums that aren't scaled": _draw(
        ("uniforms[:, t, None].double() * total[:, -1:]", "uniforms[:, t, None].double()")
    ),
    "u turned around": _draw(("uniforms[:, t, None].double()", "(1 - uniforms[:, t, None].double())")),
    "one u for the batch": _draw(("uniforms[:, t, None].double()", "uniforms[:1, t, None].double()")),
    "the u of the beginning": _draw(("uniforms[:, t, None].double()", "uniforms[:, 0, None].double()")),
    "numbers of its own": _draw(("uniforms[:, t, None].double()", "torch.rand(batch, 1).double()")),
    "the likeliest always": _draw(("if temperature == 0:", "if True:")),
    "bits in nats": _draw(("/ math.log(2)", "")),
    "the sum of bits": _draw(("bits / time", "bits")),
    "the mean of the batch": _draw(("return out, bits / time", "return out, (bits / time).mean().expand(batch)")),
    "bits below 0": _draw(("bits -= logp", "bits += logp")),
    "bits at the temperature": _draw(
        (
            "logp = torch.log_softmax(row, 1)",
            "logp = torch.log_softmax(row / (temperature if 0 < temperature < math.inf else 1), 1)",
        )
    ),
    "the entropy": _draw(
        (
            "bits -= logp[torch.arange(batch), symbols] / math.log(2)",
            "bits -= (logp.exp() * logp.clamp_min(-1e300)).sum(1) / math.log(2)",
        )
    ),
    "bits of the symbol before": _draw(
        (
            "bits -= logp[torch.arange(batch), symbols]",
            "bits -= logp[torch.arange(batch), out[:, t - 1] if t else symbols]",
        )
    ),
    "bits of a mean probability": _draw(
        (
            "bits -= logp[torch.arange(batch), symbols] / math.log(2)",
            "bits += logp[torch.arange(batch), symbols].exp()",
        ),
        ("bits / time", "-(bits / time).log2()"),
    ),
    "probability with something added": _draw(
        ("logp[torch.arange(batch), symbols] / math.log(2)", "(logp[torch.arange(batch), symbols].exp() + 1e-3).log2()")
    ),
    "bits in single precision": _draw(("return out, bits / time", "return out, (bits / time).float()")),
    "symbols of 32 bits": _draw(("return out, bits", "return out.int(), bits")),
    "a list of symbols": _draw(("return out, bits", "return out.tolist(), bits")),
    "time first": _draw(("return out, bits", "return out.T, bits")),
    "logits twice": _draw(("top = row.max", "row = logits(h).double()\n        top = row.max")),
    "embed twice": _draw(("        h = embed(symbols)\n", "        embed(symbols)\n        h = embed(symbols)\n")),
    "a run before the first": _draw(
        (
            "    for t in range(time):\n",
            "    if layers:\n"
            "        layers[0][1](torch.zeros_like(embed(symbols)), torch.zeros_like(embed(symbols)))\n"
            "    for t in range(time):\n",
        )
    ),
    "uniforms are changed": _draw(
        ("    batch, time = uniforms.shape", "    uniforms.clamp_(1e-6, 0.999)\n    batch, time = uniforms.shape")
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    3,
    HEARS_BY_BITS
    + """
from course_lib.wavenet import receptive_field

def blocks_needed(samples, layers, taps):
    low, high = 1, 1
    while receptive_field(high, layers, taps) < samples:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if receptive_field(middle, layers, taps) >= samples:
            high = middle
        else:
            low = middle + 1
    return low
""",
)


CASES = as_cells(
    (MU_RIGHT, MU_WRONG),
    (GO_RIGHT, GO_WRONG),
    (HEARS_RIGHT, HEARS_WRONG),
    (TOLD_RIGHT, TOLD_WRONG),
    (DRAW_RIGHT, DRAW_WRONG),
)
