"""Answers to assignment 12 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# ----------------------------------------------------------------------------------------------- 1, what each row costs

ROWS_BY_MASK = """
def bits_of_rows(logits, codes, first, length):
    batch, time, bins = logits.shape
    t = torch.arange(time).expand(batch, time)
    mask = (t >= first.unsqueeze(1)) & (t < length.unsqueeze(1))
    x = logits.masked_fill(~mask.unsqueeze(2), 0)
    y = codes.masked_fill(~mask, 0)
    nats = F.cross_entropy(x.double().reshape(-1, bins), y.reshape(-1), reduction="none").view(batch, time)
    nats = nats.masked_fill(~mask, 0)
    rows = nats.sum(1) / mask.sum(1) / math.log(2)
    return rows.to(logits.dtype), (nats.sum() / mask.sum() / math.log(2)).to(logits.dtype)
"""
ROWS_BY_LOOP = """
def bits_of_rows(logits, codes, first, length):
    rows, spent = [], []
    for guess, row, start, stop in zip(logits, codes, first.tolist(), length.tolist()):
        if stop <= start:
            rows.append(logits.new_full((), math.nan))
            continue
        log_p = guess[start:stop].log_softmax(-1)
        cost = -log_p[torch.arange(stop - start), row[start:stop]] / math.log(2)
        rows.append(cost.mean())
        spent.append(cost)
    together = torch.cat(spent).mean() if spent else logits.new_full((), math.nan)
    return torch.stack(rows), together
"""
ROWS_BY_CHOICE = """
def bits_of_rows(logits, codes, first, length):
    t = torch.arange(codes.size(1))[None]
    counts = (first[:, None] <= t) & (t < length[:, None])
    row = counts.nonzero()[:, 0]                                    # of each code that counts
    x, y = logits[counts].double(), codes[counts]                   # (number, bins), (number,)
    top = x.amax(1, keepdim=True) if len(x) else x[:, :1]
    nats = (x - top).exp().sum(1).log() + (top - x.gather(1, y[:, None]))[:, 0]
    bits = nats / math.log(2)
    sums = torch.zeros(len(codes), dtype=torch.float64).index_add(0, row, bits)
    each = sums / torch.bincount(row, minlength=len(codes))
    return each.to(logits.dtype), bits.mean().to(logits.dtype)
"""
ROWS_RIGHT = {
    "a mask": ROWS_BY_MASK,
    "row by row": ROWS_BY_LOOP,
    "only what counts": ROWS_BY_CHOICE,
}
ROWS_WRONG = {
    "nats": changed(ROWS_BY_LOOP, (" / math.log(2)", "")),
    "decimal digits": changed(ROWS_BY_LOOP, ("math.log(2)", "math.log(10)")),
    "times the logarithm": changed(ROWS_BY_LOOP, (" / math.log(2)", " * math.log(2)")),
    "the sum, not the mean": changed(ROWS_BY_LOOP, ("rows.append(cost.mean())", "rows.append(cost.sum())")),
    "the mean of the rows": changed(
        ROWS_BY_LOOP, ("torch.cat(spent).mean()", "torch.stack([one.mean() for one in spent]).mean()")
    ),
    "the sum of all": changed(ROWS_BY_LOOP, ("torch.cat(spent).mean()", "torch.cat(spent).sum()")),
    "divided by the time": changed(ROWS_BY_MASK, ("rows = nats.sum(1) / mask.sum(1)", "rows = nats.sum(1) / time")),
    "divided by the length": changed(ROWS_BY_MASK, ("rows = nats.sum(1) / mask.sum(1)", "rows = nats.sum(1) / length")),
    "all divided by all places": changed(ROWS_BY_MASK, ("nats.sum() / mask.sum()", "nats.mean()")),
    "what is given counts": changed(ROWS_BY_MASK, ("(t >= first.unsqueeze(1)) & ", "")),
    "what fills up counts": changed(ROWS_BY_MASK, (" & (t < length.unsqueeze(1))", "")),
    "a code too late": changed(ROWS_BY_MASK, ("t >= first", "t > first")),
    "a code too many": changed(ROWS_BY_MASK, ("t < length", "t <= length")),
    "length counts from first": changed(ROWS_BY_MASK, ("t < length", "t < (first + length)")),
    "the mask of the first row": changed(
        ROWS_BY_MASK, ("    x = logits", "    mask = mask[:1].expand(batch, time)\n    x = logits")
    ),
    "moved by one": changed(
        ROWS_BY_LOOP,
        ("log_p = guess[start:stop].log_softmax(-1)", "log_p = guess.roll(-1, 0)[start:stop].log_softmax(-1)"),
    ),
    "the guess of the next code": changed(
        ROWS_BY_LOOP,
        ("log_p = guess[start:stop].log_softmax(-1)", "log_p = guess.roll(1, 0)[start:stop].log_softmax(-1)"),
    ),
    "times the mask, where NaN stays NaN": changed(
        ROWS_BY_MASK, ("x = logits.masked_fill(~mask.unsqueeze(2), 0)", "x = logits * mask.unsqueeze(2)")
    ),
    "masked after the loss only": changed(
        ROWS_BY_MASK, ("x = logits.masked_fill(~mask.unsqueeze(2), 0)", "x = logits")
    ),
    "NaN masked in the sum only": changed(
        ROWS_BY_MASK,
        ("x = logits.masked_fill(~mask.unsqueeze(2), 0)", "x = logits"),
        ("nats = nats.masked_fill(~mask, 0)", "nats = nats.nan_to_num().masked_fill(~mask, 0)"),
    ),
    "codes that are not there": changed(ROWS_BY_MASK, ("y = codes.masked_fill(~mask, 0)", "y = codes")),
    "only -1 fills up": changed(ROWS_BY_MASK, ("y = codes.masked_fill(~mask, 0)", "y = codes.clamp_min(0)")),
    "what fills up is found by its codes": changed(
        ROWS_BY_MASK,
        (
            "mask = (t >= first.unsqueeze(1)) & (t < length.unsqueeze(1))",
            "mask = (t >= first.unsqueeze(1)) & (codes >= 0) & (codes < bins)",
        ),
    ),
    "rows without a code: 0": changed(
        ROWS_BY_MASK, ("rows = nats.sum(1) / mask.sum(1)", "rows = nats.sum(1) / mask.sum(1).clamp_min(1)")
    ),
    "nothing at all: 0": changed(ROWS_BY_MASK, ("nats.sum() / mask.sum()", "nats.sum() / mask.sum().clamp_min(1)")),
    "a NaN row makes all NaN": changed(
        ROWS_BY_MASK,
        (
            "(nats.sum() / mask.sum() / math.log(2))",
            "((rows * mask.sum(1)).sum() / mask.sum())",
        ),
    ),
    "rows without a code left out": changed(
        ROWS_BY_LOOP, ("            rows.append(logits.new_full((), math.nan))\n", "")
    ),
    "an error where nothing counts": changed(
        ROWS_BY_LOOP, ("torch.cat(spent).mean() if spent else logits.new_full((), math.nan)", "torch.cat(spent).mean()")
    ),
    "an error for empty rows": changed(ROWS_BY_LOOP, ("if stop <= start:", "if stop == start == -1:")),
    "infinite bits cut off": changed(
        ROWS_BY_LOOP, (" / math.log(2)", " / math.log(2)\n        cost = cost.clamp_max(100.0)")
    ),
    "a constant in the logarithm": changed(
        ROWS_BY_LOOP,
        ("log_p = guess[start:stop].log_softmax(-1)", "log_p = (guess[start:stop].softmax(-1) + 1e-9).log()"),
    ),
    "softmax, then the logarithm": changed(
        ROWS_BY_LOOP, ("log_p = guess[start:stop].log_softmax(-1)", "log_p = guess[start:stop].softmax(-1).log()")
    ),
    "exponents without their top": changed(
        ROWS_BY_CHOICE, ("top = x.amax(1, keepdim=True) if len(x) else x[:, :1]", "top = 0 * x[:, :1].detach()")
    ),
    "infinite bits left out": changed(
        ROWS_BY_MASK, ("nats = nats.masked_fill(~mask, 0)", "nats = nats.masked_fill(~mask, 0).nan_to_num(posinf=0.0)")
    ),
    "the rows' impossible codes spread": changed(
        ROWS_BY_MASK,
        (
            "rows = nats.sum(1) / mask.sum(1) / math.log(2)",
            "rows = (nats.flatten().cumsum(0).view(batch, time)[:, -1:] - nats.flatten().cumsum(0).view(batch, "
            "time)[:, :1]"
            " + nats[:, :1])[:, 0] / mask.sum(1) / math.log(2)",
        ),
    ),
    "softmax over time": changed(
        ROWS_BY_LOOP, ("guess[start:stop].log_softmax(-1)", "guess[start:stop].log_softmax(0)")
    ),
    "logits taken for chances": changed(ROWS_BY_LOOP, ("guess[start:stop].log_softmax(-1)", "guess[start:stop].log()")),
    "the entropy of the guess": changed(
        ROWS_BY_LOOP,
        (
            "-log_p[torch.arange(stop - start), row[start:stop]] / math.log(2)",
            "torch.special.entr(log_p.exp()).sum(-1) / math.log(2)",
        ),
    ),
    "the likeliest code": changed(
        ROWS_BY_LOOP,
        ("-log_p[torch.arange(stop - start), row[start:stop]] / math.log(2)", "-log_p.amax(-1) / math.log(2)"),
    ),
    "all logits of the true codes": changed(
        ROWS_BY_LOOP,
        ("-log_p[torch.arange(stop - start), row[start:stop]]", "-log_p[:, row[start:stop]].diagonal().flip(0)[:1]"),
    ),
    "no gradient": changed(ROWS_BY_MASK, ("x = logits.masked_fill", "x = logits.detach().masked_fill")),
    "float64 all the time": changed(
        ROWS_BY_CHOICE, ("each.to(logits.dtype), bits.mean().to(logits.dtype)", "each, bits.mean()")
    ),
    "float32 all the time": changed(
        ROWS_BY_CHOICE, ("each.to(logits.dtype), bits.mean().to(logits.dtype)", "each.float(), bits.mean().float()")
    ),
    "a number for all together": changed(
        ROWS_BY_CHOICE, ("bits.mean().to(logits.dtype)", "bits.mean().to(logits.dtype).expand(len(codes))")
    ),
    "filled up in place": changed(
        ROWS_BY_MASK, ("y = codes.masked_fill(~mask, 0)", "y = codes.masked_fill_(~mask, 0)")
    ),
}

# ---------------------------------------------------------------------------------------------- 2, bars with an upbeat

HEARD_BY_LOOPS = """
def heard(q, k, v, kind, block, upbeat=0):
    time = q.shape[1]
    in_front = block - upbeat if upbeat else 0
    where = [divmod(t + in_front, block) for t in range(time)]
    out = torch.zeros_like(v)
    for t, (row, column) in enumerate(where):
        if kind == "row":
            keys = [s for s in range(t + 1) if where[s][0] == row]
        elif kind == "column":
            keys = [s for s in range(t + 1) if where[s][1] == column]
        else:
            keys = [s for s in range(t) if where[s][0] == row - 1]
        if keys:
            products = (k[:, keys] @ q[:, t, :, None])[..., 0] / q.shape[2] ** 0.5
            out[:, t] = (products.softmax(1)[:, :, None] * v[:, keys]).sum(1)
    return out
"""
HEARD_BY_FOLDING = """
def heard(q, k, v, kind, block, upbeat=0):
    batch, time, _ = q.shape
    front = (block - upbeat) % block
    behind = -(front + time) % block
    q, k, v_ = (F.pad(x, (0, 0, front, behind)).unflatten(1, (-1, block)) for x in (q, k, v))
    there = F.pad(torch.ones(time, dtype=torch.bool), (front, behind)).unflatten(0, (-1, block))
    rows = len(there)
    if kind == "column":
        q, k, v_, there = q.transpose(1, 2), k.transpose(1, 2), v_.transpose(1, 2), there.T
    if kind == "previous row":
        k, v_ = (F.pad(x, (0, 0, 0, 0, 1, 0))[:, :-1] for x in (k, v_))
        there = F.pad(there, (0, 0, 1, 0))[:-1]
        seen = there[:, None, :]
    else:
        n = q.shape[2]
        seen = there[:, None, :] & torch.ones(n, n, dtype=torch.bool).tril()
    x = (q @ k.mT) * q.shape[-1] ** -0.5                            # (batch, group, query, key)
    x = x - x.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)
    w = torch.where(seen, x, -torch.inf).exp()
    out = w @ v_ / w.sum(-1, keepdim=True).clamp_min(1e-30)
    if kind == "column":
        out = out.transpose(1, 2)
    return out.flatten(1, 2)[:, front:front + time]
"""
HEARD_BY_SDPA = """
def heard(q, k, v, kind, block, upbeat=0):
    T = q.size(1)
    p = torch.arange(T) + (block - upbeat if upbeat > 0 else 0)
    r, c = torch.div(p, block, rounding_mode="floor"), p % block
    causal = torch.ones(T, T).tril().bool()
    if kind == "row":
        mask = causal & (r.view(-1, 1) == r)
    if kind == "column":
        mask = causal & (c.view(-1, 1) == c)
    if kind == "previous row":
        mask = r.view(-1, 1) - 1 == r
    # a key of zeros in front, that only those see who see nothing else; its value is zero
    nothing = ~mask.any(1, keepdim=True)
    mask = torch.cat([nothing, mask], 1)
    k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
"""
HEARD_BY_MASK = """
def heard(q, k, v, kind, block, upbeat=0):
    places = torch.arange(q.shape[1]) + (block - upbeat) % block
    row, column = places // block, places % block
    earlier = places.unsqueeze(1) >= places
    if kind == "row":
        seen = earlier & (row.unsqueeze(1) == row)
    elif kind == "column":
        seen = earlier & (column.unsqueeze(1) == column)
    else:
        seen = row.unsqueeze(1) == row + 1
    scores = q.double() @ k.double().transpose(1, 2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~seen, float("-inf"))
    weights = scores.softmax(-1)
    weights = weights.masked_fill(~seen, 0.0)
    return (weights @ v.double()).to(v.dtype)
"""
HEARD_RIGHT = {
    "query by query": HEARD_BY_LOOPS,
    "folded": HEARD_BY_FOLDING,
    "torch's attention": HEARD_BY_SDPA,
    "a mask": HEARD_BY_MASK,
}
SDPA_KEY = """
    nothing = ~mask.any(1, keepdim=True)
    mask = torch.cat([nothing, mask], 1)
    k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
"""
HEARD_WRONG = {
    "no upbeat": changed(HEARD_BY_MASK, (" + (block - upbeat) % block", "")),
    "the upbeat's length for what is missing": changed(HEARD_BY_MASK, ("(block - upbeat) % block", "upbeat")),
    "the upbeat at the beginning of its block": changed(
        HEARD_BY_MASK,
        (
            "    earlier =",
            "    row = torch.where(torch.arange(q.shape[1]) < upbeat, 0, row)\n"
            "    column = torch.where(torch.arange(q.shape[1]) < upbeat, torch.arange(q.shape[1]), column)\n"
            "    earlier =",
        ),
    ),
    "the upbeat is a block of its own, columns from 0": changed(
        HEARD_BY_LOOPS,
        (
            "where = [divmod(t + in_front, block) for t in range(time)]",
            "where = [(0, t) if t < upbeat else divmod(t - upbeat + block * (upbeat > 0), block) for t in range(time)]",
        ),
    ),
    "the upbeat belongs to the first block": changed(
        HEARD_BY_LOOPS, ("where = [divmod(t + in_front, block)", "where = [divmod(max(0, t - upbeat), block)")
    ),
    "an upbeat of one always": changed(HEARD_BY_LOOPS, ("block - upbeat if upbeat", "block - 1 if upbeat")),
    "a block more without an upbeat": changed(
        HEARD_BY_FOLDING,
        ("front = (block - upbeat) % block", "front = block - upbeat"),
        (
            "there = F.pad(torch.ones(time, dtype=torch.bool), (front, behind))",
            "there = torch.ones(front + time + behind, dtype=torch.bool)",
        ),
    ),
    "zeros in front are heard": changed(
        HEARD_BY_FOLDING,
        (
            "F.pad(torch.ones(time, dtype=torch.bool), (front, behind))",
            "F.pad(torch.ones(time + front, dtype=torch.bool), (0, behind))",
        ),
    ),
    "the chapter's zeros above the upbeat's block": changed(
        HEARD_BY_FOLDING,
        ("        seen = there[:, None, :]\n", "        seen = torch.ones(rows, 1, block, dtype=torch.bool)\n"),
    ),
    "rows with what comes later": changed(
        HEARD_BY_MASK, ("seen = earlier & (row.unsqueeze(1) == row)", "seen = row.unsqueeze(1) == row")
    ),
    "columns with what comes later": changed(
        HEARD_BY_MASK, ("seen = earlier & (column.unsqueeze(1) == column)", "seen = column.unsqueeze(1) == column")
    ),
    "all that is back": changed(HEARD_BY_MASK, ("seen = earlier & (row.unsqueeze(1) == row)", "seen = earlier")),
    "rows without the code itself": changed(
        HEARD_BY_LOOPS,
        (
            "keys = [s for s in range(t + 1) if where[s][0] == row]",
            "keys = [s for s in range(t) if where[s][0] == row]",
        ),
    ),
    "columns without the code itself": changed(
        HEARD_BY_LOOPS,
        (
            "keys = [s for s in range(t + 1) if where[s][1] == column]",
            "keys = [s for s in range(t) if where[s][1] == column]",
        ),
    ),
    "rows and columns exchanged": changed(
        HEARD_BY_LOOPS, ('if kind == "row":', 'if kind == "column":'), ('elif kind == "column":', 'elif kind == "row":')
    ),
    "the row before and this one": changed(
        HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if row - 1 <= where[s][0] <= row]")
    ),
    "the row before, up to the same place": changed(
        HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if where[s][0] == row - 1 and where[s][1] <= column]")
    ),
    "the row before, before this place": changed(
        HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if where[s][0] == row - 1 and t - s <= block]")
    ),
    "the last block's worth of codes": changed(
        HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if t - s <= block and row > 0]")
    ),
    "all rows before": changed(HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if where[s][0] < row]")),
    "two rows before": changed(HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if where[s][0] == row - 2]")),
    "the row after": changed(
        HEARD_BY_MASK, ("seen = row.unsqueeze(1) == row + 1", "seen = row.unsqueeze(1) + 1 == row")
    ),
    "the last code of the row before": changed(
        HEARD_BY_LOOPS, ("if where[s][0] == row - 1]", "if where[s][0] == row - 1][-1:]")
    ),
    "the first row hears itself": changed(
        HEARD_BY_MASK,
        ("seen = row.unsqueeze(1) == row + 1", "seen = row.unsqueeze(1) == (row + 1) * (row + 1 <= row.max())"),
        ("weights = weights.masked_fill(~seen, 0.0)", "weights = weights.nan_to_num()"),
    ),
    "nothing to hear: not a number": changed(HEARD_BY_MASK, ("    weights = weights.masked_fill(~seen, 0.0)\n", "")),
    "nothing to hear: the mean of all": changed(
        HEARD_BY_MASK,
        ('float("-inf")', "-1e300"),
        ("    weights = weights.masked_fill(~seen, 0.0)\n", ""),
    ),
    "nothing to hear: itself": changed(
        HEARD_BY_LOOPS, ("        if keys:\n", "        keys = keys or [t]\n        if keys:\n")
    ),
    "nothing to hear: the first code": changed(
        HEARD_BY_LOOPS, ("        if keys:\n", "        keys = keys or [0]\n        if keys:\n")
    ),
    "a key of zeros for everybody": changed(
        HEARD_BY_SDPA, (SDPA_KEY, SDPA_KEY.replace("~mask.any(1, keepdim=True)", "torch.ones(T, 1, dtype=torch.bool)"))
    ),
    "a key of zeros for the previous row": changed(
        HEARD_BY_SDPA,
        (
            SDPA_KEY,
            SDPA_KEY.replace("~mask.any(1, keepdim=True)", '~mask.any(1, keepdim=True) | (kind == "previous row")'),
        ),
    ),
    "a large number for infinity": changed(HEARD_BY_MASK, ('float("-inf")', "-1e4")),
    "a larger number for infinity": changed(HEARD_BY_MASK, ('float("-inf")', "-1e9")),
    "masked with zeros": changed(HEARD_BY_MASK, ('float("-inf")', "0.0")),
    "masked after the softmax": changed(HEARD_BY_MASK, ('    scores = scores.masked_fill(~seen, float("-inf"))\n', "")),
    "a constant below the weights": changed(HEARD_BY_FOLDING, ("clamp_min(1e-30)", "add(1e-2)")),
    "exponents without their top": changed(
        HEARD_BY_FOLDING,
        ("    x = x - x.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)\n", ""),
    ),
    "the top of all keys": changed(
        HEARD_BY_FOLDING,
        (
            "x = x - x.masked_fill(~seen, -torch.inf).amax(-1, keepdim=True).nan_to_num(neginf=0.0)",
            "x = x - x.amax(-1, keepdim=True)",
        ),
    ),
    "not scaled": changed(HEARD_BY_MASK, (" / math.sqrt(q.shape[-1])", "")),
    "divided by the width": changed(HEARD_BY_MASK, (" / math.sqrt(q.shape[-1])", " / q.shape[-1]")),
    "the root of the values' width": changed(HEARD_BY_MASK, ("math.sqrt(q.shape[-1])", "math.sqrt(v.shape[-1])")),
    "the root of a block": changed(HEARD_BY_MASK, ("math.sqrt(q.shape[-1])", "math.sqrt(block)")),
    "softmax over queries": changed(
        HEARD_BY_MASK, ("weights = scores.softmax(-1)", "weights = scores.softmax(-2).nan_to_num()")
    ),
    "keys for values": changed(HEARD_BY_MASK, ("weights @ v.double()", "weights @ k.double()")),
    "keys and queries exchanged": changed(HEARD_BY_MASK, ("q.double() @ k.double()", "k.double() @ q.double()")),
    "the mean without weights": changed(HEARD_BY_MASK, ("scores = q.double()", "scores = 0 * q.double()")),
    "the likeliest key only": changed(
        HEARD_BY_MASK, ("weights = scores.softmax(-1)", "weights = F.one_hot(scores.argmax(-1), q.shape[1]).double()")
    ),
    "values of the queries' width": changed(HEARD_BY_LOOPS, ("out = torch.zeros_like(v)", "out = torch.zeros_like(q)")),
    "the last block cut off": changed(
        HEARD_BY_MASK,
        (
            "    return (weights",
            "    weights[:, (q.shape[1] - upbeat) // block * block + upbeat:] = 0\n    return (weights",
        ),
    ),
    "whole blocks only": changed(HEARD_BY_FOLDING, ("behind = -(front + time) % block", "behind = 0")),
    "float64 all the time": changed(HEARD_BY_MASK, (".to(v.dtype)", "")),
    "float32 all the time": changed(HEARD_BY_MASK, (".to(v.dtype)", ".float()")),
    "values changed in place": changed(
        HEARD_BY_MASK, ("weights @ v.double()", "weights @ v.nan_to_num_().mul_(2).double() / 2")
    ),
}

# ----------------------------------------------------------------------------------------- 3, a memory that forgets

MEMORY_BY_CODES = """
def go_on(q, k, v, memory, window, heads=1):
    keys = [] if memory is None else list(memory[0].unbind(1))
    values = [] if memory is None else list(memory[1].unbind(1))
    out = []
    for t in range(q.shape[1]):
        keys, values = [*keys, k[:, t]], [*values, v[:, t]]
        seen, said = torch.stack(keys[-window:], 1), torch.stack(values[-window:], 1)
        parts = []
        for a, b, c in zip(q[:, t].chunk(heads, -1), seen.chunk(heads, -1), said.chunk(heads, -1)):
            weights = (b @ a[..., None] / a.shape[-1] ** 0.5).softmax(1)    # (batch, key, 1)
            parts.append((weights * c).sum(1))
        out.append(torch.cat(parts, -1))
    first = max(0, len(keys) - (window - 1))
    left = [torch.stack(x[first:], 1) if x[first:] else k[:, :0].clone() for x in (keys, values)]
    return (torch.stack(out, 1) if out else torch.zeros_like(v)), tuple(left)
"""
MEMORY_BY_SDPA = """
def go_on(q, k, v, memory, window, heads=1):
    if memory is not None:
        k, v = torch.cat((memory[0], k), 1), torch.cat((memory[1], v), 1)
    total, new = k.size(1), q.size(1)
    query = torch.arange(total - new, total).view(-1, 1)
    key = torch.arange(total).view(1, -1)
    mask = (key <= query) & (key > query - window)
    B, _, W = q.shape
    shape = lambda x: x.reshape(B, -1, heads, W // heads).permute(0, 2, 1, 3)
    if new:
        y = F.scaled_dot_product_attention(shape(q), shape(k), shape(v), attn_mask=mask)
        y = y.permute(0, 2, 1, 3).reshape(B, new, W)
    else:
        y = torch.zeros_like(q)
    keep = min(window - 1, total)
    return y, (k[:, total - keep:].clone(), v[:, total - keep:].clone())
"""
MEMORY_BY_UNFOLDING = """
def go_on(q, k, v, memory, window, heads=1):
    batch, new, width = q.shape
    old = 0 if memory is None else memory[0].shape[1]
    K = k if old == 0 else torch.cat([memory[0], k], 1)
    V = v if old == 0 else torch.cat([memory[1], v], 1)
    # window - 1 codes in front of the first new one, those that never were are masked
    missing = window - 1 - old
    there = F.pad(torch.ones(old + new), (missing, 0)).bool()
    Kp, Vp = F.pad(K, (0, 0, missing, 0)), F.pad(V, (0, 0, missing, 0))
    index = torch.arange(new)[:, None] + torch.arange(window)               # (new, window)
    h = (batch, new, window, heads, width // heads)
    Q = q.double().reshape(batch, new, heads, width // heads)
    scores = torch.einsum("bnhc,bnwhc->bnhw", Q, Kp[:, index].double().reshape(h)) / (width // heads) ** 0.5
    scores = scores.masked_fill(~there[index][None, :, None, :], -torch.inf)
    out = torch.einsum("bnhw,bnwhc->bnhc", scores.softmax(-1), Vp[:, index].double().reshape(h))
    keep = max(0, old + new - window + 1)
    return out.reshape(batch, new, width).to(v.dtype), [torch.clone(x[:, keep:]) for x in (K, V)]
"""
MEMORY_BY_MASK = """
def go_on(q, k, v, memory, window, heads=1):
    before = 0
    if memory is not None:
        before = memory[0].shape[1]
        k = torch.cat([memory[0], k], dim=1)
        v = torch.cat([memory[1], v], dim=1)
    time = torch.arange(k.shape[1])
    age = time[before:, None] - time[None, :]
    hidden = (age < 0) | (age >= window)
    found = []
    for Q, K, V in zip(q.chunk(heads, 2), k.chunk(heads, 2), v.chunk(heads, 2)):
        scores = Q.double() @ K.double().mT / Q.shape[-1] ** 0.5
        found.append(scores.masked_fill(hidden, -math.inf).softmax(-1) @ V.double())
    start = max(0, k.shape[1] - (window - 1))
    kept = k[:, start:].clone(), v[:, start:].clone()
    return torch.cat(found, 2).to(v.dtype), kept
"""
KEPT = "    kept = k[:, start:].clone(), v[:, start:].clone()\n"
MEMORY_RIGHT = {
    "code by code": MEMORY_BY_CODES,
    "torch's attention": MEMORY_BY_SDPA,
    "unfolded": MEMORY_BY_UNFOLDING,
    "a mask": MEMORY_BY_MASK,
}
MEMORY_WRONG = {
    "nothing is forgotten": changed(MEMORY_BY_MASK, ("start = max(0, k.shape[1] - (window - 1))", "start = 0")),
    "everything is heard": changed(MEMORY_BY_MASK, (" | (age >= window)", "")),
    "everything is heard and kept": changed(
        MEMORY_BY_MASK, (" | (age >= window)", ""), ("start = max(0, k.shape[1] - (window - 1))", "start = 0")
    ),
    "a code more is kept": changed(MEMORY_BY_MASK, ("k.shape[1] - (window - 1)", "k.shape[1] - window")),
    "a code too few is kept": changed(MEMORY_BY_MASK, ("k.shape[1] - (window - 1)", "k.shape[1] - (window - 2)")),
    "-0 keeps everything": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:, -(window - 1):].clone(), v[:, -(window - 1):].clone()\n")
    ),
    "a window a code too wide": changed(MEMORY_BY_MASK, ("age >= window", "age > window")),
    "a window a code too narrow": changed(MEMORY_BY_MASK, ("age >= window", "age >= max(1, window - 1)")),
    "without the code itself": changed(
        MEMORY_BY_MASK, ("(age < 0) | (age >= window)", "((age <= 0) | (age > window)) & (time > 0)")
    ),
    "what comes later is heard": changed(MEMORY_BY_MASK, ("(age < 0) | ", "")),
    "new codes all hear each other": changed(MEMORY_BY_MASK, ("(age < 0) |", "(age < -len(age)) |")),
    "only the memory is masked": changed(
        MEMORY_BY_MASK, ("    found = []\n", "    hidden[:, before:] = False\n    found = []\n")
    ),
    "only new codes are masked": changed(MEMORY_BY_MASK, ("(age >= window)", "((age >= window) & (time >= before))")),
    "the newest code's window for all": changed(
        MEMORY_BY_MASK, ("(age >= window)", "(len(time) - 1 - time[None, :] >= max(window, len(age)))")
    ),
    "new codes only": changed(
        MEMORY_BY_MASK, ("    if memory is not None:\n", "    if memory is not None and False:\n")
    ),
    "the memory only": changed(
        MEMORY_BY_MASK, ("(age < 0) |", "((time >= before) & (before > 0) & (age != 0)) | (age < 0) |")
    ),
    "the memory of this step only": changed(
        MEMORY_BY_MASK, ("start = max(0, k.shape[1] - (window - 1))", "start = max(before, k.shape[1] - (window - 1))")
    ),
    "the memory behind the new codes": changed(
        MEMORY_BY_MASK,
        ("k = torch.cat([memory[0], k], dim=1)", "k = torch.cat([k, memory[0]], dim=1)"),
        ("v = torch.cat([memory[1], v], dim=1)", "v = torch.cat([v, memory[1]], dim=1)"),
    ),
    "the first codes are kept": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:, :window - 1].clone(), v[:, :window - 1].clone()\n")
    ),
    "kept backwards": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:, start:].flip(1).clone(), v[:, start:].flip(1).clone()\n")
    ),
    "a ring, not in order": changed(
        MEMORY_BY_MASK,
        (KEPT, "    kept = tuple(x[:, start:].roll(start, 1).clone() for x in (k, v))\n"),
    ),
    "a slice that keeps all alive": changed(MEMORY_BY_MASK, (KEPT, "    kept = k[:, start:], v[:, start:]\n")),
    "contiguous, which may be a slice": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:, start:].contiguous(), v[:, start:].contiguous()\n")
    ),
    "a memory that the caller writes over": changed(
        MEMORY_BY_MASK,
        (
            KEPT,
            "    kept = (k[:, start:], v[:, start:]) if start == 0 else (k[:, start:].clone(), v[:, start:].clone())\n",
        ),
    ),
    "filled up with zeros": changed(
        MEMORY_BY_MASK, (KEPT, KEPT + "    kept = [F.pad(x, (0, 0, window - 1 - x.shape[1], 0)) for x in kept]\n")
    ),
    "zeros are heard at the beginning": changed(
        MEMORY_BY_UNFOLDING,
        ("there = F.pad(torch.ones(old + new), (missing, 0)).bool()", "there = torch.ones(missing + old + new).bool()"),
    ),
    "written into the old memory": changed(
        MEMORY_BY_MASK,
        (
            KEPT,
            KEPT + "    if memory is not None and memory[0].shape == kept[0].shape:\n"
            "        memory[0].copy_(kept[0])\n        memory[1].copy_(kept[1])\n        kept = memory\n",
        ),
    ),
    "the memory is a list that grows": changed(
        MEMORY_BY_MASK,
        (
            KEPT,
            KEPT + "    if isinstance(memory, list):\n        memory[:] = kept\n        kept = memory\n"
            "    kept = list(kept) if memory is None else kept\n",
        ),
    ),
    "a memory of its own": """
remembered = {}

def go_on(q, k, v, memory, window, heads=1):
    if memory is None:
        remembered.clear()
    else:
        k, v = torch.cat([remembered["k"], k], 1), torch.cat([remembered["v"], v], 1)
    total, new = k.shape[1], q.shape[1]
    age = torch.arange(total - new, total)[:, None] - torch.arange(total)
    split = lambda x: x.double().unflatten(-1, (heads, -1)).transpose(1, 2)
    scores = split(q) @ split(k).mT / (q.shape[-1] // heads) ** 0.5
    out = scores.masked_fill((age < 0) | (age >= window), -math.inf).softmax(-1) @ split(v)
    first = max(0, total - window + 1)
    remembered["k"], remembered["v"] = k[:, first:].clone(), v[:, first:].clone()
    return out.transpose(1, 2).flatten(2).to(v.dtype), (remembered["k"].clone(), remembered["v"].clone())
""",
    "values and keys exchanged": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = v[:, start:].clone(), k[:, start:].clone()\n")
    ),
    "keys twice": changed(MEMORY_BY_MASK, (KEPT, "    kept = k[:, start:].clone(), k[:, start:].clone()\n")),
    "the first item of the batch": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:1, start:].clone(), v[:1, start:].clone()\n")
    ),
    "one head always": changed(MEMORY_BY_MASK, ("    found = []\n", "    heads, found = 1, []\n")),
    "heads of the whole width's root": changed(MEMORY_BY_MASK, ("Q.shape[-1] ** 0.5", "q.shape[-1] ** 0.5")),
    "not scaled": changed(MEMORY_BY_MASK, (" / Q.shape[-1] ** 0.5", "")),
    "heads take turns": changed(
        MEMORY_BY_SDPA,
        (
            "shape = lambda x: x.reshape(B, -1, heads, W // heads).permute(0, 2, 1, 3)",
            "shape = lambda x: x.reshape(B, -1, W // heads, heads).permute(0, 3, 1, 2)",
        ),
        ("y.permute(0, 2, 1, 3)", "y.permute(0, 2, 3, 1)"),
    ),
    "heads cut across time": changed(
        MEMORY_BY_SDPA,
        (
            "shape = lambda x: x.reshape(B, -1, heads, W // heads).permute(0, 2, 1, 3)",
            "shape = lambda x: x.reshape(B, heads, -1, W // heads)",
        ),
        ("y.permute(0, 2, 1, 3).reshape", "y.reshape"),
    ),
    "heads put together wrongly": changed(MEMORY_BY_SDPA, ("y.permute(0, 2, 1, 3).reshape", "y.reshape")),
    "the mean of the heads": changed(
        MEMORY_BY_MASK, ("torch.cat(found, 2)", "torch.cat([sum(found) / heads] * heads, 2)")
    ),
    "one code a step only": changed(
        MEMORY_BY_MASK, ("    before = 0\n", "    before = 0\n    q, k, v = q[:, :1], k[:, :1], v[:, :1]\n")
    ),
    "an error without new codes": changed(
        MEMORY_BY_CODES, ("torch.stack(out, 1) if out else torch.zeros_like(v)", "torch.stack(out, 1)")
    ),
    "no new codes: the memory is lost": changed(
        MEMORY_BY_MASK,
        (
            "    before = 0\n",
            "    before = 0\n    if not q.shape[1]:\n        return q.clone(), (k.clone(), v.clone())\n",
        ),
    ),
    "no new codes at the beginning: no memory": changed(
        MEMORY_BY_MASK,
        ("    before = 0\n", "    before = 0\n    if not q.shape[1]:\n        return q.clone(), memory\n"),
    ),
    "a large number for infinity": changed(MEMORY_BY_MASK, ("-math.inf", "-1e4")),
    "exponents without their top": changed(
        MEMORY_BY_MASK,
        (
            "        found.append(scores.masked_fill(hidden, -math.inf).softmax(-1) @ V.double())\n",
            "        weights = scores.exp().masked_fill(hidden, 0.0)\n"
            "        found.append(weights / weights.sum(-1, keepdim=True) @ V.double())\n",
        ),
    ),
    "what new codes hear is kept": changed(
        MEMORY_BY_MASK,
        (
            KEPT,
            KEPT + "    heard = torch.cat([v[:, :before], torch.cat(found, 2).to(v.dtype)], 1)\n"
            "    kept = kept[0], heard[:, start:].clone()\n",
        ),
    ),
    "kept in half precision": changed(
        MEMORY_BY_MASK, (KEPT, "    kept = k[:, start:].half().to(k.dtype), v[:, start:].half().to(v.dtype)\n")
    ),
    "kept in double precision": changed(
        MEMORY_BY_MASK,
        (KEPT, "    kept = k[:, start:].double(), v[:, start:].double()\n    kept = [x.clone() for x in kept]\n"),
    ),
    "float64 all the time": changed(MEMORY_BY_MASK, ("torch.cat(found, 2).to(v.dtype)", "torch.cat(found, 2)")),
    "float32 all the time": changed(MEMORY_BY_MASK, ("torch.cat(found, 2).to(v.dtype)", "torch.cat(found, 2).float()")),
}

# --------------------------------------------------------------------------- 4, temperature, nucleus, and a draw

CHANCES_BY_ROWS = """
def chances(logits, temperature, top_p):
    out = torch.zeros_like(logits)
    for n, (row, t, share) in enumerate(zip(logits.double(), temperature.tolist(), top_p.tolist())):
        possible = (row > -math.inf).nonzero()[:, 0]
        if not len(possible):
            continue
        x = row[possible]
        if t == 0:
            p = (x == x.max()).double()
        elif t == math.inf:
            p = torch.ones_like(x)
        else:
            p = ((x - x.max()) / t).exp()
        p = p / p.sum()
        if share < 1:
            order = p.argsort(descending=True)
            enough = (p[order].cumsum(0) >= share).nonzero()[:, 0]
            least = p[order[enough[0]]] if len(enough) else 0.0
            p = torch.where(p >= least, p, 0.0)
            p = p / p.sum()
        out[n, possible] = p.to(out.dtype)
    return out

def drawn(p, u):
    codes = []
    for row, number in zip(p, u):
        places = row.nonzero()[:, 0]
        if not len(places):
            codes.append(-1)
            continue
        sums = row[places].double().cumsum(0)
        codes.append(int(places[min(int((sums <= number).sum()), len(places) - 1)]))
    return torch.tensor(codes)
"""
CHANCES_AT_ONCE = """
def chances(logits, temperature, top_p):
    x, t = logits.double(), temperature.double().unsqueeze(1)
    possible = x > -torch.inf
    best = x.max(1, keepdim=True).values
    gap = torch.where(possible, x - best, 0.0)
    weights = torch.where(t == 0, (gap == 0).double(), (gap / t.clamp_min(1e-320)).exp())
    weights = weights * possible
    total = weights.sum(1, keepdim=True)
    p = weights / torch.where(total > 0, total, 1)
    # the sum of all that is likelier: a code stays if it is below the share
    likelier = (p.unsqueeze(1) * (p.unsqueeze(1) > p.unsqueeze(2))).sum(2)
    # of a group of equals the first ones may be enough; then all stay
    keep = (likelier < top_p.unsqueeze(1)) | (top_p.unsqueeze(1) == 1)
    p = p * keep
    total = p.sum(1, keepdim=True)
    return (p / torch.where(total > 0, total, 1)).to(logits.dtype)

def drawn(p, u):
    sums = p.double().cumsum(1)
    code = (sums <= u.double().unsqueeze(1)).sum(1)
    places = torch.arange(p.shape[1])
    last = torch.where(p > 0, places, -1).max(1).values
    return torch.minimum(code, last)
"""
CHANCES_BY_LOGITS = """
def chances(logits, temperature, top_p):
    z = logits.double()
    z = z - z.max(-1, keepdim=True)[0]
    z = torch.where(logits == -math.inf, -math.inf, z)
    soft = torch.where(z == 0, z, z / temperature.double()[:, None])
    flat = torch.where(z == -math.inf, z, torch.zeros_like(z))
    z = torch.where(temperature[:, None] == math.inf, flat, soft)
    p = torch.nan_to_num(z.softmax(-1))
    order = z.argsort(-1, descending=True)
    sorted_p = p.gather(-1, order)
    before = F.pad(sorted_p.cumsum(-1)[:, :-1], (1, 0))
    count = (before < top_p[:, None]).sum(-1)
    least = sorted_p.gather(-1, count[:, None] - 1)
    keep = (p >= least) | (top_p[:, None] >= 1)
    p = p.masked_fill(~keep, 0.0)
    return torch.nan_to_num(p / p.sum(-1, keepdim=True)).to(logits.dtype)

def drawn(p, u):
    sums = torch.cumsum(p.double(), -1)
    code = torch.searchsorted(sums, u.double()[:, None], right=True)[:, 0]
    last = (p > 0).long().cumsum(-1).argmax(-1)                     # the first place of all sums
    code = torch.minimum(code, last)
    return code.masked_fill(~(p > 0).any(-1), -1)
"""
CHANCES_RIGHT = {
    "row by row": CHANCES_BY_ROWS,
    "all at once": CHANCES_AT_ONCE,
    "sorted logits": CHANCES_BY_LOGITS,
}
FALLEN = (
    "            least = p[order[enough[0]]] if len(enough) else 0.0\n            p = torch.where(p >= least, p, 0.0)\n"
)
CHANCES_WRONG = {
    "times the temperature": changed(CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "((x - x.max()) * t).exp()")),
    "the chances to the power of the temperature": changed(
        CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "(x - x.max()).exp() ** t")
    ),
    "no temperature": changed(CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "(x - x.max()).exp()")),
    "the root of the temperature": changed(CHANCES_BY_ROWS, ("/ t).exp()", "/ t ** 0.5).exp()")),
    "powers of 2": changed(CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "2 ** ((x - x.max()) / t)")),
    "the first row's temperature": changed(
        CHANCES_BY_ROWS,
        (
            "in enumerate(zip(logits.double(), temperature.tolist(), ",
            "in enumerate(zip(logits.double(), temperature[:1].tolist() * len(logits), ",
        ),
    ),
    "the first row's nucleus": changed(CHANCES_BY_ROWS, ("top_p.tolist())):", "top_p[:1].tolist() * len(logits))):")),
    "temperature 0: an error": changed(
        CHANCES_BY_ROWS, ("        if t == 0:\n", "        1 / t\n        if t == 0:\n")
    ),
    "temperature 0: not a number": changed(
        CHANCES_BY_ROWS,
        ("        if t == 0:\n            p = (x == x.max()).double()\n        elif", "        if"),
        ("((x - x.max()) / t)", "((x - x.max()) / torch.tensor(t))"),
    ),
    "temperature 0: nearly 0": changed(
        CHANCES_BY_ROWS,
        (
            "        if t == 0:\n            p = (x == x.max()).double()\n        elif",
            "        t = max(t, 1e-2)\n        if",
        ),
    ),
    "temperature 0: the first of the likeliest": changed(
        CHANCES_BY_ROWS, ("p = (x == x.max()).double()", "p = F.one_hot(x.argmax(), len(x)).double()")
    ),
    "temperature 0: all fair": changed(CHANCES_BY_ROWS, ("p = (x == x.max()).double()", "p = (x - x.max()).exp()")),
    "temperature 0: all equal": changed(CHANCES_BY_ROWS, ("p = (x == x.max()).double()", "p = torch.ones_like(x)")),
    "small temperatures are 0": changed(CHANCES_BY_ROWS, ("if t == 0:", "if t < 0.3:")),
    "temperature without end: not a number": changed(
        CHANCES_BY_LOGITS,
        ("    z = torch.where(temperature[:, None] == math.inf, flat, soft)\n", "    z = soft\n"),
    ),
    "temperature without end: never is sometimes": changed(
        CHANCES_BY_LOGITS, ("flat = torch.where(z == -math.inf, z, torch.zeros_like(z))", "flat = torch.zeros_like(z)")
    ),
    "temperature without end: all codes of the book": changed(
        CHANCES_BY_ROWS,
        (
            "        out[n, possible] = p.to(out.dtype)\n",
            "        out[n, possible] = p.to(out.dtype)\n        if t == math.inf:\n"
            "            out[n] = 1 / len(row)\n",
        ),
    ),
    "never is seldom": changed(
        CHANCES_BY_ROWS,
        (
            "for n, (row, t, share) in enumerate(zip(logits.double(),",
            "for n, (row, t, share) in enumerate(zip(logits.double().clamp_min(-3.0),",
        ),
    ),
    "never is a large number": changed(
        CHANCES_BY_ROWS, ("enumerate(zip(logits.double(),", "enumerate(zip(logits.double().nan_to_num(neginf=-1e9),")
    ),
    "a row without a choice: not a number": changed(
        CHANCES_BY_LOGITS,
        ("p = torch.nan_to_num(z.softmax(-1))", "p = z.softmax(-1)"),
        ("torch.nan_to_num(p / p.sum(-1, keepdim=True))", "(p / p.sum(-1, keepdim=True))"),
    ),
    "a row without a choice: all equal": changed(
        CHANCES_BY_ROWS,
        (
            "            continue\n        x = row",
            "            out[n] = 1 / len(row)\n            continue\n        x = row",
        ),
    ),
    "a row without a choice ends it": changed(
        CHANCES_BY_ROWS, ("            continue\n        x = row", "            break\n        x = row")
    ),
    "a row without a choice: an error": changed(
        CHANCES_BY_ROWS, ("        if not len(possible):\n            continue\n        x = row", "        x = row")
    ),
    "the nucleus before the temperature": changed(
        CHANCES_BY_ROWS,
        (
            "            order = p.argsort(descending=True)\n            enough = (p[order].cumsum(0) >= share)",
            "            order = p.argsort(descending=True, stable=True)\n"
            "            enough = (x.softmax(0)[order].cumsum(0) >= share)",
        ),
    ),
    "the one before the nucleus is full": changed(
        CHANCES_BY_ROWS, ("p[order[enough[0]]] if", "p[order[max(0, enough[0] - 1)]] if")
    ),
    "a code too many": changed(
        CHANCES_BY_ROWS, ("p[order[enough[0]]] if", "p[order[min(len(p) - 1, enough[0] + 1)]] if")
    ),
    "ties are cut by their place": changed(
        CHANCES_BY_ROWS,
        (
            FALLEN,
            "            n_kept = int(enough[0]) + 1 if len(enough) else len(p)\n"
            "            p[p.argsort(descending=True, stable=True)[n_kept:]] = 0\n",
        ),
    ),
    "ties all leave": changed(
        CHANCES_BY_ROWS,
        (
            FALLEN,
            "            least = p[order[enough[0]]] if len(enough) else 0.0\n"
            "            several = int((p == least).sum()) > 1 and bool((p > least).any())\n"
            "            p = torch.where((p > least) if several else (p >= least), p, 0.0)\n",
        ),
    ),
    "codes above a share each": changed(
        CHANCES_BY_ROWS,
        (
            "enough = (p[order].cumsum(0) >= share).nonzero()[:, 0]",
            "enough = (p[order] <= (1 - share) * p.max()).nonzero()[:, 0]",
        ),
    ),
    "a share of the number": changed(
        CHANCES_BY_ROWS,
        (
            "enough = (p[order].cumsum(0) >= share).nonzero()[:, 0]",
            "enough = torch.tensor([math.ceil(share * len(p)) - 1])",
        ),
    ),
    "the least likely stay": changed(CHANCES_BY_ROWS, ("p.argsort(descending=True)", "p.argsort()")),
    "not sorted": changed(CHANCES_BY_ROWS, ("order = p.argsort(descending=True)", "order = torch.arange(len(p))")),
    "sorted back wrongly": changed(
        CHANCES_BY_LOGITS,
        ("    p = p.masked_fill(~keep, 0.0)\n", "    p = sorted_p.masked_fill(~keep.gather(-1, order), 0.0)\n"),
    ),
    "does not add up to 1": changed(
        CHANCES_BY_ROWS,
        ("p = torch.where(p >= least, p, 0.0)\n            p = p / p.sum()\n", "p = torch.where(p >= least, p, 0.0)\n"),
    ),
    "nothing left out": changed(CHANCES_BY_ROWS, ("if share < 1:", "if share < 0:")),
    "everything left out by p = 1": changed(
        CHANCES_BY_ROWS,
        (
            "        if share < 1:\n",
            "        if share == 1:\n            p = F.one_hot(p.argmax(), len(p)).double()\n        if share < 1:\n",
        ),
    ),
    "p = 1 leaves out what rounding hides": changed(CHANCES_BY_ROWS, ("if share < 1:", "if share < 2:")),
    "the likeliest leaves a tiny nucleus": changed(
        CHANCES_BY_ROWS,
        (
            "least = p[order[enough[0]]] if len(enough) else 0.0",
            "least = p[order[enough[0]]] if len(enough) else 0.0\n            least = 2.0 if share < 1e-3 else least",
        ),
    ),
    "one likeliest code at least, not its equals": changed(
        CHANCES_BY_ROWS,
        (
            "        out[n, possible]",
            "        p = p if share > 0.4 else F.one_hot(p.argmax(), len(p)).double()\n        out[n, possible]",
        ),
    ),
    "exponents without their top": changed(CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "(x / t).exp()")),
    "single precision": changed(
        CHANCES_BY_ROWS, ("((x - x.max()) / t).exp()", "((x - x.max()) / t).half().exp().double()")
    ),
    "logits changed in place": changed(
        CHANCES_BY_LOGITS,
        (
            "z = logits.double()\n    z = z - z.max(-1, keepdim=True)[0]",
            "z = logits.sub_(logits.max(-1, keepdim=True)[0]).double()",
        ),
    ),
    "float64 all the time": changed(
        CHANCES_AT_ONCE, ("torch.where(total > 0, total, 1)).to(logits.dtype)\n", "torch.where(total > 0, total, 1))\n")
    ),
    "u drawn anew": changed(
        CHANCES_BY_ROWS, ("for row, number in zip(p, u):", "for row, number in zip(p, torch.rand(len(u))):")
    ),
    "the likeliest code": changed(
        CHANCES_BY_ROWS, ("int(places[min(int((sums <= number).sum()), len(places) - 1)])", "int(row.argmax())")
    ),
    "sums not below u": changed(CHANCES_BY_ROWS, ("(sums <= number)", "(sums < number)")),
    "a code too early": changed(
        CHANCES_BY_ROWS,
        (
            "places[min(int((sums <= number).sum()), len(places) - 1)]",
            "places[max(0, min(int((sums <= number).sum()), len(places) - 1) - 1)]",
        ),
    ),
    "a code too late": changed(
        CHANCES_BY_ROWS,
        (
            "places[min(int((sums <= number).sum()), len(places) - 1)]",
            "places[min(int((sums <= number).sum()) + 1, len(places) - 1)]",
        ),
    ),
    "places among those with a chance": changed(
        CHANCES_BY_ROWS,
        (
            "int(places[min(int((sums <= number).sum()), len(places) - 1)])",
            "min(int((sums <= number).sum()), len(places) - 1)",
        ),
    ),
    "behind the end": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.where(last < 0, -1, code)")
    ),
    "the last code of the book": changed(
        CHANCES_AT_ONCE,
        ("return torch.minimum(code, last)", "return torch.where(last < 0, -1, code.clamp_max(p.shape[1] - 1))"),
    ),
    "rounded sums: the first code": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.where(last < 0, -1, code % p.shape[1])")
    ),
    "codes without a chance at u = 0": changed(
        CHANCES_AT_ONCE,
        ("code = (sums <= u.double().unsqueeze(1)).sum(1)", "code = (sums < u.double().unsqueeze(1)).sum(1)"),
    ),
    "no chance: code 0": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.minimum(code, last).clamp_min(0)")
    ),
    "no chance: an error": changed(
        CHANCES_BY_ROWS, ("        if not len(places):\n            codes.append(-1)\n            continue\n", "")
    ),
    "sums from the end": changed(
        CHANCES_AT_ONCE, ("sums = p.double().cumsum(1)", "sums = 1 - p.double().flip(1).cumsum(1).flip(1)")
    ),
    "the first row's u": changed(CHANCES_AT_ONCE, ("u.double().unsqueeze(1)", "u.double()[0]")),
    "codes of 32 bits": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.minimum(code, last).int()")
    ),
    "codes as floats": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.minimum(code, last).float()")
    ),
    "an axis more": changed(
        CHANCES_AT_ONCE, ("return torch.minimum(code, last)", "return torch.minimum(code, last)[:, None]")
    ),
}

# ------------------------------------------------------------------- 5, window by window, under the level above

WRITTEN_BY_TRYING = """
def written(draw, given, above, total, context, fresh, ratio):
    codes = given[:, :total].clone()
    while True:
        time = codes.size(1)
        if time >= total:
            return codes
        needed = fresh if total - time > fresh else total - time
        start = 0
        while start + context < time + needed:
            start += ratio
        end = min(total, start + context)
        first, last = start // ratio, (end - 1) // ratio
        new = draw(codes[:, start:time], above[:, first:last + 1], end - time)
        codes = torch.cat((codes, new), 1)
"""
WRITTEN_INTO = """
def written(draw, given, above, total, context, fresh, ratio):
    time = min(given.shape[1], total)
    song = given.new_zeros(given.shape[0], total)
    song[:, :time] = given[:, :time]
    while time < total:
        need = min(fresh, total - time)
        start = max(0, math.ceil((time + need - context) / ratio)) * ratio
        stop = min(start + context, total)
        over = above[:, start // ratio:math.ceil(stop / ratio)]
        song[:, time:stop] = draw(song[:, start:time], over, stop - time)
        time = stop
    return song
"""
WRITTEN_ABOVE = """
def written(draw, given, above, total, context, fresh, ratio):
    parts, windows = [given[:, :total]], context // ratio              # in codes above
    time = parts[0].shape[1]
    while time < total:
        need = min(fresh, total - time)
        last = -(-(time + need) // ratio)                              # codes above that must be there
        first = max(0, last - windows)
        stop = min((first + windows) * ratio, total)
        known = torch.cat(parts, 1)[:, first * ratio:]
        parts.append(draw(known, above[:, first:-(-stop // ratio)], stop - time))
        time = stop
    return torch.cat(parts, 1)
"""
WRITTEN_RIGHT = {
    "by trying": WRITTEN_BY_TRYING,
    "written into": WRITTEN_INTO,
    "in codes above": WRITTEN_ABOVE,
}
WRITTEN_WRONG = {
    "everything at once": changed(
        WRITTEN_BY_TRYING,
        ("while start + context < time + needed:", "while False:"),
        ("end = min(total, start + context)", "end = total"),
    ),
    "one code at a time": changed(WRITTEN_BY_TRYING, ("end = min(total, start + context)", "end = time + 1")),
    "only fresh codes a window": changed(
        WRITTEN_BY_TRYING, ("end = min(total, start + context)", "end = time + needed")
    ),
    "no past": changed(WRITTEN_BY_TRYING, ("        start = 0\n", "        start = time // ratio * ratio\n")),
    "as much that is new as possible": changed(
        WRITTEN_BY_TRYING,
        ("        end = min", "        start = max(start, (time - context // 2) // ratio * ratio)\n        end = min"),
    ),
    "the room that is missing forgotten": changed(
        WRITTEN_BY_TRYING, ("needed = fresh if total - time > fresh else total - time", "needed = fresh")
    ),
    "room for one": changed(
        WRITTEN_BY_TRYING, ("needed = fresh if total - time > fresh else total - time", "needed = 1")
    ),
    "room for one more": changed(
        WRITTEN_BY_TRYING,
        ("while start + context < time + needed:", "while start + context <= time + needed and start + ratio <= time:"),
    ),
    "room for one less": changed(
        WRITTEN_BY_TRYING,
        ("while start + context < time + needed:", "while start + context < time + max(1, needed - 1):"),
    ),
    "windows at any code": changed(WRITTEN_BY_TRYING, ("            start += ratio\n", "            start += 1\n")),
    "windows rounded down": changed(
        WRITTEN_INTO,
        ("math.ceil((time + need - context) / ratio)", "((time + need - context) // ratio)"),
        ("    while time < total:\n", "    for _ in range(9999):\n        if time >= total:\n            break\n"),
    ),
    "windows rounded": changed(
        WRITTEN_INTO,
        ("math.ceil((time + need - context) / ratio)", "round((time + need - context) / ratio)"),
        ("    while time < total:\n", "    for _ in range(9999):\n        if time >= total:\n            break\n"),
    ),
    "multiples of the context": changed(
        WRITTEN_BY_TRYING, ("            start += ratio\n", "            start += context\n")
    ),
    "multiples of half a context": changed(
        WRITTEN_BY_TRYING, ("            start += ratio\n", "            start += max(1, context // 2)\n")
    ),
    "multiples of fresh": changed(WRITTEN_BY_TRYING, ("            start += ratio\n", "            start += fresh\n")),
    "the last window ends at the end": changed(
        WRITTEN_BY_TRYING,
        ("        end = min", "        start = min(start, max(0, total - context))\n        end = min"),
    ),
    "the song's codes counted from 1": changed(
        WRITTEN_BY_TRYING, ("first, last = start // ratio,", "first, last = (start + 1) // ratio,")
    ),
    "the codes above from the beginning": changed(
        WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, :last + 1 - first]")
    ),
    "the codes above of the new ones": changed(
        WRITTEN_BY_TRYING, ("first, last = start // ratio,", "first, last = time // ratio,")
    ),
    "all codes above": changed(WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above")),
    "all codes above so far": changed(WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, :last + 1]")),
    "all codes above from here": changed(WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, first:]")),
    "a whole context above": changed(
        WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, first:first + context // ratio]")
    ),
    "the last code above left out": changed(
        WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, first:max(first + 1, last)]")
    ),
    "a code above rounded down": changed(WRITTEN_INTO, ("math.ceil(stop / ratio)", "stop // ratio")),
    "a code above too many": changed(WRITTEN_INTO, ("math.ceil(stop / ratio)", "stop // ratio + 1")),
    "a code above each": changed(
        WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above.repeat_interleave(ratio, 1)[:, start:end]")
    ),
    "codes above at the song's codes": changed(WRITTEN_BY_TRYING, ("above[:, first:last + 1]", "above[:, start:end]")),
    "the codes above up to what is known": changed(
        WRITTEN_BY_TRYING, ("(end - 1) // ratio", "max(start, time - 1) // ratio")
    ),
    "everything known": changed(WRITTEN_BY_TRYING, ("codes[:, start:time]", "codes")),
    "the last codes, as many as fit": changed(
        WRITTEN_BY_TRYING, ("codes[:, start:time]", "codes[:, max(0, time - context + needed):time]")
    ),
    "one known code too few": changed(
        WRITTEN_BY_TRYING, ("codes[:, start:time]", "codes[:, start:max(start, time - 1)]")
    ),
    "zeros where nothing is drawn yet": changed(
        WRITTEN_INTO, ("draw(song[:, start:time], over", "draw(song[:, start:stop], over")
    ),
    "the number in all": changed(
        WRITTEN_BY_TRYING,
        ("above[:, first:last + 1], end - time)", "above[:, first:last + 1], end - start)"),
        ("torch.cat((codes, new), 1)", "torch.cat((codes, new[:, :end - time]), 1)"),
    ),
    "a whole window drawn anew": changed(
        WRITTEN_BY_TRYING,
        (
            "codes[:, start:time], above[:, first:last + 1], end - time)",
            "codes[:, start:start], above[:, first:last + 1], end - start)[:, time - start:]",
        ),
    ),
    "too many codes": changed(WRITTEN_BY_TRYING, ("end = min(total, start + context)", "end = start + context")),
    "too many codes, cut off": changed(
        WRITTEN_BY_TRYING,
        ("end = min(total, start + context)", "end = start + context"),
        ("            return codes\n", "            return codes[:, :total]\n"),
    ),
    "what is given is drawn anew": changed(
        WRITTEN_INTO,
        ("time = min(given.shape[1], total)", "time = 0"),
        ("song[:, :time] = given[:, :time]", "song[:, :given.shape[1]] = given[:, :total]"),
    ),
    "what is given is not returned": changed(
        WRITTEN_INTO, ("    return song\n", "    return song[:, given.shape[1]:]\n")
    ),
    "more given than asked for": changed(
        WRITTEN_BY_TRYING, ("codes = given[:, :total].clone()", "codes = given.clone()")
    ),
    "more given: an error": changed(
        WRITTEN_INTO, ("    song = given", "    assert given.shape[1] <= total\n    song = given")
    ),
    "finished songs are drawn on": changed(
        WRITTEN_BY_TRYING,
        (
            "    while True:\n",
            "    codes = torch.cat([codes, draw(codes[:, -1:], above[:, -1:], 1)], 1)[:, :max(total, 1)]\n"
            "    while True:\n",
        ),
    ),
    "a finished song is None": changed(
        WRITTEN_INTO, ("    song = given", "    if time == total:\n        return None\n    song = given")
    ),
    "the first row for all": changed(
        WRITTEN_INTO,
        ("= draw(song[:, start:time], over, stop - time)", "= draw(song[:1, start:time], over[:1], stop - time)"),
    ),
    "row by row": changed(
        WRITTEN_INTO,
        (
            "= draw(song[:, start:time], over, stop - time)",
            "= torch.cat([draw(a[None], b[None], stop - time) for a, b in zip(song[:, start:time], over)])",
        ),
    ),
    "codes of 64 bits": changed(WRITTEN_INTO, ("    return song\n", "    return song.long()\n")),
    "codes of 16 bits": changed(
        WRITTEN_INTO,
        (
            "song = given.new_zeros(given.shape[0], total)",
            "song = torch.zeros(given.shape[0], total, dtype=torch.int16)",
        ),
    ),
    "written into what is given": changed(
        WRITTEN_INTO,
        ("    while time < total:\n", "    if given.shape[1]:\n        given[:, -1] += 1\n    while time < total:\n"),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    2,
    """
from course_lib.priors import column_attention, previous_row_attention, row_attention

def heard(q, k, v, kind, block, upbeat=0):
    # masks of the chapter's own attention, for codes that stand one block later
    front = (block - upbeat) % block
    T = q.shape[1] + front
    one_hot = torch.eye(T)[None]
    from course_lib.priors import COLUMN, PREVIOUS, ROW, allowed_pairs
    kinds = {"row": ROW, "column": COLUMN, "previous row": PREVIOUS}
    seen = allowed_pairs(kinds[kind], T, block)[front:, front:]
    products = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    weights = products.masked_fill(~seen, -math.inf).softmax(-1).masked_fill(~seen, 0.0)
    return (weights @ v.double()).to(v.dtype)
""",
)


CASES = as_cells(
    (ROWS_RIGHT, ROWS_WRONG),
    (HEARD_RIGHT, HEARD_WRONG),
    (MEMORY_RIGHT, MEMORY_WRONG),
    (CHANCES_RIGHT, CHANCES_WRONG),
    (WRITTEN_RIGHT, WRITTEN_WRONG),
)
