"""Answers to assignment 9 by imagined students: right ones in several styles, and the mistakes that students make.

CASES[task]["right" | "wrong"][name] is the source of a task cell, below its first line, which the notebook gives. A
mistake of one word is written as a change of a right answer, so that one sees what is wrong with it. TAKEN would be
right, but takes its work from the chapter's module.
"""

from tests.classroom.case_tools import as_cells, changed

# --------------------------------------------------------------------------------------- 1, chunks, wherever they begin

JOINED_BY_PADDING = """
def triangle(size, power):
    n = torch.arange(size).double()
    w = torch.minimum(n + 1, size - n)
    return (w / w.max()) ** power

def joined_chunks(chunks, starts, length, power=1.0):
    top, bottom = 0.0, 0.0
    for chunk, start in zip(chunks, starts):
        size = chunk.shape[-1]
        w = triangle(size, power)
        place = (start, length - start - size)                      # below 0: cut off
        if start >= length or start + size <= 0:
            place, chunk, w = (0, length - 1), 0 * chunk[..., :1], torch.zeros(1).double()
        top = top + F.pad(w * chunk, place)
        bottom = bottom + F.pad(w, place)
    bottom = torch.where(bottom == 0, torch.ones_like(bottom), bottom)
    return (top / bottom).type_as(chunks[0])
"""
JOINED_BY_INDEX = """
def joined_chunks(chunks, starts, length, power=1.0):
    places, values, weights = [], [], []
    for chunk, start in zip(chunks, starts):
        size = chunk.shape[-1]
        n = torch.arange(size, dtype=torch.float64)
        w = (torch.minimum(n + 1, size - n) / ((size + 1) // 2)).pow(power)
        inside = (n + start >= 0) & (n + start < length)
        places.append((n + start).long()[inside])
        values.append((w * chunk)[..., inside])
        weights.append(w[inside])
    places = torch.cat(places)
    front = chunks[0].shape[:-1]
    top = torch.zeros(*front, length, dtype=torch.float64).index_add(-1, places, torch.cat(values, -1))
    bottom = torch.zeros(length, dtype=torch.float64).index_add(0, places, torch.cat(weights))
    return (top / bottom.masked_fill(bottom == 0, 1.0)).to(chunks[0].dtype)
"""
JOINED_ON_A_LONG_STRIP = """
def joined_chunks(chunks, starts, length, power=1.0):
    first = min(0, *starts)
    end = max([length, *(s + c.shape[-1] for s, c in zip(starts, chunks))])
    top = [torch.zeros(*chunks[0].shape[:-1], end - first, dtype=torch.float64)]
    bottom = torch.zeros(end - first, dtype=torch.float64)
    for chunk, start in zip(chunks, starts):
        size = chunk.shape[-1]
        up = torch.arange(1, size + 1, dtype=torch.float64)
        w = (torch.minimum(up, up.flip(0)) / math.ceil(size / 2)) ** power
        strip = torch.zeros(*chunk.shape[:-1], end - first, dtype=torch.float64)
        strip[..., start - first:start - first + size] = w * chunk
        top.append(strip)
        bottom[start - first:start - first + size] += w
    song = sum(top) / bottom.clamp_min(1e-300)
    return song[..., -first:-first + length].to(chunks[0].dtype)
"""
JOINED_RIGHT = {
    "padded": JOINED_BY_PADDING,
    "places and values": JOINED_BY_INDEX,
    "a strip long enough for all": JOINED_ON_A_LONG_STRIP,
}
JOINED_WRONG = {
    "equal weights": changed(JOINED_BY_PADDING, ("return (w / w.max()) ** power", "return torch.ones_like(w)")),
    "a power of one": changed(JOINED_BY_PADDING, ("(w / w.max()) ** power", "w / w.max()")),
    "the root": changed(JOINED_BY_PADDING, ("(w / w.max()) ** power", "(w / w.max()) ** (1 / power)")),
    "zeros at the ends": changed(
        JOINED_BY_PADDING,
        ("torch.minimum(n + 1, size - n)", "torch.minimum(n, size - 1 - n)"),
        ("(w / w.max())", "(w / w.max().clamp_min(1))"),
    ),
    "not symmetric": changed(
        JOINED_BY_PADDING, ("torch.minimum(n + 1, size - n)", "torch.minimum(n + 1, size - n + 1)")
    ),
    "fades in only": changed(JOINED_BY_PADDING, ("torch.minimum(n + 1, size - n)", "n + 1")),
    "a Hann window": changed(
        JOINED_BY_PADDING,
        ("    w = torch.minimum(n + 1, size - n)", "    w = (math.pi * (n + 1) / (size + 1)).sin() ** 2"),
    ),
    "the largest weight not 1": changed(JOINED_BY_PADDING, ("(w / w.max()) ** power", "w ** power")),
    "divided by half of the length": changed(JOINED_BY_PADDING, ("w / w.max()", "w / (size / 2)")),
    "rounded down": changed(JOINED_BY_INDEX, ("((size + 1) // 2)", "max(1, size // 2)")),
    "the first chunk's triangle for all": changed(
        JOINED_BY_PADDING,
        ("        w = triangle(size, power)", "        w = triangle(max(size, chunks[0].shape[-1]), power)[:size]"),
    ),
    "a triangle of the longest": changed(
        JOINED_BY_PADDING,
        ("        w = triangle(size, power)", "        w = triangle(max(c.shape[-1] for c in chunks), power)[:size]"),
    ),
    "the triangle of what is inside": changed(
        JOINED_BY_INDEX,
        (
            "        size = chunk.shape[-1]\n",
            "        low = max(0, -start)\n        chunk = chunk[..., low:max(low + 1, length - start)]\n"
            "        start, size = max(0, start), chunk.shape[-1]\n"
            "        if size == 0:\n            continue\n",
        ),
    ),
    "weights in single precision": changed(
        JOINED_BY_PADDING, ("torch.arange(size).double()", "torch.arange(size).float()")
    ),
    "a constant in the denominator": changed(
        JOINED_BY_PADDING,
        ("bottom = torch.where(bottom == 0, torch.ones_like(bottom), bottom)", "bottom = bottom + 1e-8"),
    ),
    "weights below 1e-8 taken for 0": changed(
        JOINED_BY_PADDING, ("torch.where(bottom == 0,", "torch.where(bottom < 1e-8,")
    ),
    "not a number where nothing is": changed(
        JOINED_BY_PADDING, ("    bottom = torch.where(bottom == 0, torch.ones_like(bottom), bottom)\n", "")
    ),
    "not divided": changed(JOINED_BY_PADDING, ("(top / bottom)", "top")),
    "divided by the number of chunks": changed(
        JOINED_BY_PADDING, ("bottom = bottom + F.pad(w, place)", "bottom = bottom + F.pad(torch.ones_like(w), place)")
    ),
    "the last chunk wins": """
def joined_chunks(chunks, starts, length, power=1.0):
    song = torch.zeros(*chunks[0].shape[:-1], length, dtype=chunks[0].dtype)
    for chunk, start in zip(chunks, starts):
        for n in range(chunk.shape[-1]):
            if 0 <= start + n < length:
                song[..., start + n] = chunk[..., n]
    return song
""",
    "one after the other": """
def joined_chunks(chunks, starts, length, power=1.0):
    order = sorted(range(len(starts)), key=lambda n: starts[n])
    song = torch.cat([chunks[n] for n in order], -1)
    return F.pad(song, (0, max(0, length - song.shape[-1])))[..., :length]
""",
    "from the end": changed(
        JOINED_BY_INDEX,
        ("inside = (n + start >= 0) & (n + start < length)", "inside = (n + start >= -length) & (n + start < length)"),
        ("(n + start).long()[inside]", "(n + start).long()[inside] % length"),
    ),
    "what begins before the song is moved": changed(
        JOINED_BY_INDEX, ("        size = chunk.shape[-1]\n", "        size, start = chunk.shape[-1], max(0, start)\n")
    ),
    "what begins before the song is left out": changed(
        JOINED_BY_INDEX,
        ("inside = (n + start >= 0) & (n + start < length)", "inside = (n + start < length) & (start >= 0)"),
    ),
    "what ends after the song is left out": changed(
        JOINED_BY_INDEX,
        (
            "inside = (n + start >= 0) & (n + start < length)",
            "inside = (n + start >= 0) & (n < size * (start + size <= length))",
        ),
    ),
    "what lies outside breaks it": changed(
        JOINED_BY_PADDING, ("        if start >= length or start + size <= 0:", "        if False:")
    ),
    "silent samples don't count": changed(
        JOINED_BY_INDEX,
        (
            "        inside = (n + start >= 0)",
            "        w = w * (chunk != 0).reshape(-1, size).any(0)\n        inside = (n + start >= 0)",
        ),
    ),
    "no gradient": changed(JOINED_BY_PADDING, ("F.pad(w * chunk, place)", "F.pad(w * chunk.detach(), place)")),
    "float64 all the time": changed(JOINED_BY_PADDING, ("(top / bottom).type_as(chunks[0])", "top / bottom")),
    "float32 all the time": changed(JOINED_BY_PADDING, ("(top / bottom).type_as(chunks[0])", "(top / bottom).float()")),
    "weighted in place": changed(
        JOINED_BY_INDEX,
        (
            "values.append((w * chunk)[..., inside])",
            "chunk.detach().mul_(w)\n        values.append(chunk[..., inside].double())",
        ),
    ),
}

# ------------------------------------------------------------------------------------------------- 2, no short chunk

PLAN_BY_COUNTING = """
def plan(length, chunk, overlap):
    hop, count = chunk - overlap, 1
    if length > chunk:
        count += (length - chunk + hop - 1) // hop
    starts = []
    for k in range(count):
        starts.append(0 if count == 1 else k * (length - chunk) // (count - 1))
    return starts
"""
PLAN_BY_TRYING = """
def plan(length, chunk, overlap):
    count = 1
    while count * chunk - (count - 1) * overlap < length:
        count += 1
    if count == 1:
        return [0]
    whole, rest = divmod(length - chunk, count - 1)
    return [k * whole + k * rest // (count - 1) for k in range(count)]
"""
PLAN_BY_DIVMOD = """
def plan(length, chunk, overlap):
    room = max(0, length - chunk)
    hops, over = divmod(room, chunk - overlap)
    hops += over > 0
    return [0, *(k * room // hops for k in range(1, hops + 1))]
"""
PLAN_RIGHT = {"counted": PLAN_BY_COUNTING, "tried": PLAN_BY_TRYING, "divmod": PLAN_BY_DIVMOD}
PLAN_WRONG = {
    "the fixed hop": """
def plan(length, chunk, overlap):
    return list(range(0, length, chunk - overlap))
""",
    "the fixed hop, the last one moved": """
def plan(length, chunk, overlap):
    if length <= chunk:
        return [0]
    starts = list(range(0, length - chunk, chunk - overlap))
    return [*starts, length - chunk]
""",
    "the fixed hop while there is room": """
def plan(length, chunk, overlap):
    return list(range(0, max(1, length - chunk + 1), chunk - overlap))
""",
    "no rounding up": changed(
        PLAN_BY_COUNTING, ("(length - chunk + hop - 1) // hop", "max(1, (length - chunk) // hop)")
    ),
    "always one more": changed(PLAN_BY_COUNTING, ("(length - chunk + hop - 1) // hop", "(length - chunk) // hop + 1")),
    "a chunk for what the hop covers": changed(
        PLAN_BY_COUNTING, ("(length - chunk + hop - 1) // hop", "(length + hop - 1) // hop - 1")
    ),
    "the overlap forgotten": changed(PLAN_BY_COUNTING, ("hop, count = chunk - overlap, 1", "hop, count = chunk, 1")),
    "the overlap as the hop": changed(
        PLAN_BY_COUNTING, ("hop, count = chunk - overlap, 1", "hop, count = max(1, overlap), 1")
    ),
    "a sample more overlap": changed(
        PLAN_BY_COUNTING, ("hop, count = chunk - overlap, 1", "hop, count = max(1, chunk - overlap - 1), 1")
    ),
    "two chunks at least": changed(
        PLAN_BY_COUNTING,
        ("if length > chunk:", "if True:"),
        ("(length - chunk + hop - 1) // hop", "max(1, (length - chunk + hop - 1) // hop)"),
    ),
    "a song of one chunk taken as longer": changed(
        PLAN_BY_DIVMOD, ("hops += over > 0", "hops += over > 0 or not hops")
    ),
    "rounded to the nearest": changed(
        PLAN_BY_COUNTING,
        ("k * (length - chunk) // (count - 1)", "(2 * k * (length - chunk) + count - 1) // (2 * (count - 1))"),
    ),
    "rounded up": changed(
        PLAN_BY_COUNTING, ("k * (length - chunk) // (count - 1)", "-(-k * (length - chunk) // (count - 1))")
    ),
    "one rounded hop": changed(
        PLAN_BY_COUNTING, ("k * (length - chunk) // (count - 1)", "k * ((length - chunk) // (count - 1))")
    ),
    "divided by the number of chunks": changed(
        PLAN_BY_COUNTING, ("k * (length - chunk) // (count - 1)", "k * (length - chunk) // count")
    ),
    "over the whole length": changed(PLAN_BY_COUNTING, ("k * (length - chunk) // (count - 1)", "k * length // count")),
    "in floats": changed(
        PLAN_BY_COUNTING, ("k * (length - chunk) // (count - 1)", "int(k * (length - chunk) / (count - 1))")
    ),
    "the number of chunks in floats": changed(
        PLAN_BY_COUNTING, ("(length - chunk + hop - 1) // hop", "math.ceil((length - chunk) / hop)")
    ),
    "by linspace": """
def plan(length, chunk, overlap):
    if length <= chunk:
        return [0]
    count = -(-(length - chunk) // (chunk - overlap)) + 1
    return torch.linspace(0, length - chunk, count).long().tolist()
""",
    "a tensor": changed(PLAN_BY_COUNTING, ("    return starts\n", "    return torch.tensor(starts)\n")),
    "a generator": changed(PLAN_BY_COUNTING, ("    return starts\n", "    return tuple(starts)\n")),
    "starts and ends": changed(
        PLAN_BY_COUNTING, ("    return starts\n", "    return [(s, s + chunk) for s in starts]\n")
    ),
    "without the last": changed(PLAN_BY_COUNTING, ("    return starts\n", "    return starts[:-1] or starts\n")),
    "the last chunk twice": changed(
        PLAN_BY_COUNTING, ("    return starts\n", "    return starts + [max(0, length - chunk)]\n")
    ),
    "below 0 for a short song": changed(
        PLAN_BY_COUNTING, ("0 if count == 1 else", "length - chunk if count == 1 else")
    ),
    "nothing for a short song": changed(
        PLAN_BY_DIVMOD,
        (
            "    return [0, *(",
            "    if length < chunk:\n        return []\n    return [0, *(",
        ),
    ),
}

# -------------------------------------------------------------------------------------------- 3, ask those who know

ASKED_BY_TABLE = """
def from_several(networks, counts, wanted, mixture):
    table = torch.tensor([[float(count.get(name, 0)) for name in wanted] for count in counts],
                         dtype=torch.float64)                       # (network, source)
    sums = table.sum(0)
    shares = table / torch.where(sums > 0, sums, 1)
    out = [torch.zeros_like(mixture) for _ in wanted]
    for network, row in zip(networks, shares):
        if not (row > 0).any():
            continue
        answer = network(mixture)
        for j, name in enumerate(wanted):
            if row[j] > 0:
                out[j] = out[j] + float(row[j]) * answer[name]
    return torch.stack(out)
"""
ASKED_FIRST = """
def from_several(networks, counts, wanted, mixture):
    answers = {}
    for n, count in enumerate(counts):
        if max((count.get(name, 0) for name in wanted), default=0) > 0:
            answers[n] = networks[n](mixture)
    sources = []
    for name in wanted:
        who = [n for n in answers if counts[n].get(name, 0) > 0]
        largest = max((counts[n][name] for n in who), default=1)
        parts = [(counts[n][name] / largest, answers[n][name]) for n in who]
        total = sum(weight for weight, _ in parts)
        source = mixture * 0
        for weight, estimate in parts:
            source = source + (weight / total) * estimate
        sources.append(source)
    return torch.stack(sources, dim=0)
"""
ASKED_LAZILY = """
def from_several(networks, counts, wanted, mixture):
    kept = {}

    def ask(n):
        if n not in kept:
            kept[n] = networks[n](mixture.clone())
        return kept[n]

    found = mixture.new_zeros(len(wanted), *mixture.shape)
    for j, name in enumerate(wanted):
        weights = {n: count[name] for n, count in enumerate(counts) if count.get(name, 0) > 0}
        total = math.fsum(weights.values())
        for n, weight in weights.items():
            found[j] += ask(n)[name] * (weight / total)
    return found
"""
ASKED_RIGHT = {"a table of shares": ASKED_BY_TABLE, "asked first": ASKED_FIRST, "asked when needed": ASKED_LAZILY}
ASKED_WRONG = {
    "everyone is asked": changed(ASKED_BY_TABLE, ("        if not (row > 0).any():\n            continue\n", "")),
    "asked for each source": changed(
        ASKED_LAZILY, ("        if n not in kept:\n            kept[n]", "        if True:\n            kept[n]")
    ),
    "asked if it counts for anything": changed(
        ASKED_FIRST,
        ("max((count.get(name, 0) for name in wanted), default=0) > 0", "max(count.values(), default=0) > 0"),
    ),
    "asked if it has a wanted source": changed(
        ASKED_FIRST,
        ("max((count.get(name, 0) for name in wanted), default=0) > 0", "any(name in count for name in wanted)"),
    ),
    "asked only if it counts for all": changed(ASKED_BY_TABLE, ("not (row > 0).any()", "not (row > 0).all()")),
    "a sum": changed(ASKED_BY_TABLE, ("shares = table / torch.where(sums > 0, sums, 1)", "shares = table")),
    "a plain mean": changed(
        ASKED_BY_TABLE, ("    sums = table.sum(0)", "    table = (table > 0).double()\n    sums = table.sum(0)")
    ),
    "the mean over all networks": changed(
        ASKED_BY_TABLE, ("sums = table.sum(0)", "sums = 0 * table.sum(0) + len(networks)")
    ),
    "shares over the sources": changed(ASKED_BY_TABLE, ("sums = table.sum(0)", "sums = table.sum(1, keepdim=True)")),
    "what is missing counts 1": changed(
        ASKED_LAZILY,
        (
            "count[name] for n, count in enumerate(counts) if count.get(name, 0) > 0",
            "count.get(name, 1) for n, count in enumerate(counts) if count.get(name, 1) > 0",
        ),
    ),
    "what is missing breaks it": changed(ASKED_BY_TABLE, ("float(count.get(name, 0))", "float(count[name])")),
    "whole numbers": changed(ASKED_BY_TABLE, ("float(count.get(name, 0))", "int(count.get(name, 0))")),
    "estimates that count 0 are added": changed(
        ASKED_BY_TABLE, ("            if row[j] > 0:", "            if name in answer:")
    ),
    "not a number taken for 0": changed(
        ASKED_BY_TABLE,
        (
            "            if row[j] > 0:\n                out[j] = out[j] + float(row[j]) * answer[name]",
            "            if name in answer:\n"
            "                out[j] = (out[j] + float(row[j]) * answer[name]).nan_to_num(0)",
        ),
    ),
    "not a number if nobody counts": changed(
        ASKED_BY_TABLE,
        ("table / torch.where(sums > 0, sums, 1)", "table / sums"),
        ("if not (row > 0).any():", "if not (row.nan_to_num(1) > 0).any():"),
        ("            if row[j] > 0:", "            if name in answer:"),
    ),
    "the mixture if nobody counts": changed(
        ASKED_BY_TABLE,
        ("    return torch.stack(out)", "    return torch.stack([y if s > 0 else mixture for y, s in zip(out, sums)])"),
    ),
    "left out if nobody counts": changed(
        ASKED_BY_TABLE,
        ("    return torch.stack(out)", "    return torch.stack([y for y, s in zip(out, sums) if s > 0])"),
    ),
    "the first's order": changed(
        ASKED_BY_TABLE, ("    table = torch", "    wanted = sorted(wanted)\n    table = torch")
    ),
    "sources by their places": changed(
        ASKED_BY_TABLE,
        ("float(row[j]) * answer[name]", "float(row[j]) * list(answer.values())[min(j, len(answer) - 1)]"),
    ),
    "the network that counts most": """
def from_several(networks, counts, wanted, mixture):
    kept, out = {}, []
    for name in wanted:
        best = max(range(len(counts)), key=lambda n: counts[n].get(name, 0))
        if counts[best].get(name, 0) > 0:
            kept[best] = kept[best] if best in kept else networks[best](mixture)
            out.append(kept[best][name])
        else:
            out.append(torch.zeros_like(mixture))
    return torch.stack(out)
""",
    "a running mean": changed(
        ASKED_LAZILY,
        (
            "            found[j] += ask(n)[name] * (weight / total)",
            "            found[j] = ask(n)[name] if not found[j].any() else (found[j] + ask(n)[name]) / 2",
        ),
    ),
    "each wanted source once": changed(
        ASKED_LAZILY, ("    kept = {}\n", "    kept, wanted = {}, list(dict.fromkeys(wanted))\n")
    ),
    "a constant in the denominator": changed(ASKED_LAZILY, ("(weight / total)", "(weight / (total + 1e-8))")),
    "counts below 1e-6 are none": changed(
        ASKED_LAZILY, ("if count.get(name, 0) > 0}", "if count.get(name, 0) > 1e-6}")
    ),
    "counts in single precision": changed(
        ASKED_LAZILY,
        (
            "found[j] += ask(n)[name] * (weight / total)",
            "found[j] += ask(n)[name] * (torch.tensor(float(weight)) / torch.tensor(float(total)))",
        ),
    ),
    "weighted sums, divided at the end": changed(
        ASKED_LAZILY,
        (
            "            found[j] += ask(n)[name] * (weight / total)\n",
            "            found[j] += ask(n)[name] * weight\n        found[j] /= total or 1\n",
        ),
    ),
    "at most two networks": changed(ASKED_LAZILY, ("    kept = {}\n", "    kept, counts = {}, counts[:2]\n")),
    "the counts are made into shares": changed(
        ASKED_LAZILY,
        ("    kept = {}\n", "    kept = {}\n    for count in counts:\n        count.setdefault(wanted[0], 0)\n"),
    ),
    "float32 all the time": changed(ASKED_LAZILY, ("    return found\n", "    return found.float()\n")),
    "the mixture scaled in place": changed(
        ASKED_LAZILY, ("networks[n](mixture.clone())", "networks[n](mixture.mul_(1.001))")
    ),
    "a dictionary": changed(ASKED_BY_TABLE, ("return torch.stack(out)", "return dict(zip(wanted, out))")),
    "channels first": changed(ASKED_BY_TABLE, ("return torch.stack(out)", "return torch.stack(out, 1)")),
}

# --------------------------------------------------------------------------------- 4, share it out where it belongs

SHARED_BY_POOLING = """
def loudness(x, width):
    square = x.square().reshape(1, -1, x.shape[-1])
    half = width // 2
    square = F.pad(square, (half, half))
    sums = F.avg_pool1d(square, width, 1) * width
    ones = F.pad(torch.ones(1, 1, x.shape[-1], dtype=x.dtype), (half, half))
    return (sums / (F.avg_pool1d(ones, width, 1) * width)).reshape(x.shape)

def adding_up(sources, mixture, weights):
    weights = weights.double()
    total = weights.sum(-3, keepdim=True)
    equal = torch.full_like(weights, 1 / weights.shape[-3])
    shares = torch.where(total > 0, weights / total.clamp_min(1e-300), equal)
    residual = mixture - sources.sum(dim=-3)
    return sources + shares.to(sources.dtype) * residual.unsqueeze(-3)
"""
SHARED_BY_LOOPS = """
def loudness(x, width):
    found = torch.zeros_like(x)
    for n in range(x.shape[-1]):
        low, high = max(n - (width - 1) // 2, 0), min(n + (width + 1) // 2, x.shape[-1])
        found[..., n] = (x[..., low:high] ** 2).mean(-1)
    return found

def adding_up(sources, mixture, weights):
    count = sources.shape[-3]
    largest = weights.max(-3, keepdim=True).values
    safe = torch.where(largest > 0, largest, torch.ones_like(largest))
    weights = torch.where(largest == 0, torch.ones_like(weights), weights / safe)
    residual = mixture.clone()
    for j in range(count):
        residual -= sources[..., j, :, :]
    total = sum(weights[..., j, :, :] for j in range(count))
    return torch.stack([sources[..., j, :, :] + weights[..., j, :, :] / total * residual
                        for j in range(count)], -3)
"""
SHARED_BY_SHIFTS = """
def loudness(x, width):
    half, time = width // 2, x.shape[-1]
    total, count = torch.zeros_like(x), torch.zeros(time, dtype=x.dtype)
    for shift in range(-min(half, time - 1), min(half, time - 1) + 1):
        here = slice(max(0, -shift), min(time, time - shift))
        there = slice(max(0, shift), min(time, time + shift))
        total[..., here] += x[..., there] * x[..., there]
        count[here] += 1
    return total / count

def adding_up(sources, mixture, weights):
    logs = weights.double().log()
    shares = logs.softmax(-3)                                       # NaN where all are 0
    shares = shares.nan_to_num(1 / sources.shape[-3]).to(sources.dtype)
    return sources + torch.einsum("...jct,...ct->...jct", shares.expand_as(sources),
                                  mixture - sources.sum(-3))
"""
SHARED_RIGHT = {"pooling": SHARED_BY_POOLING, "loops": SHARED_BY_LOOPS, "shifts and logarithms": SHARED_BY_SHIFTS}
SHARED_WRONG = {
    "divided by the width everywhere": changed(
        SHARED_BY_POOLING,
        (
            "ones = F.pad(torch.ones(1, 1, x.shape[-1], dtype=x.dtype), (half, half))",
            "ones = torch.ones(1, 1, x.shape[-1] + 2 * half, dtype=x.dtype)",
        ),
    ),
    "mirrored at the ends": changed(
        SHARED_BY_LOOPS,
        (
            "found[..., n] = (x[..., low:high] ** 2).mean(-1)",
            "near = [min(abs(m), 2 * x.shape[-1] - 2 - abs(m)) % x.shape[-1] for m in "
            "range(n - width // 2, n + width // 2 + 1)]\n"
            "        found[..., n] = (x[..., near] ** 2).mean(-1)",
        ),
    ),
    "the samples before": changed(
        SHARED_BY_LOOPS,
        ("max(n - (width - 1) // 2, 0), min(n + (width + 1) // 2, x.shape[-1])", "max(n - width + 1, 0), n + 1"),
    ),
    "one sample too few": changed(
        SHARED_BY_LOOPS, ("min(n + (width + 1) // 2, x.shape[-1])", "min(n + max(1, width // 2), x.shape[-1])")
    ),
    "twice as wide": changed(
        SHARED_BY_LOOPS,
        ("max(n - (width - 1) // 2, 0), min(n + (width + 1) // 2,", "max(n - width, 0), min(n + width + 1,"),
    ),
    "the mean size": changed(SHARED_BY_LOOPS, ("(x[..., low:high] ** 2).mean(-1)", "x[..., low:high].abs().mean(-1)")),
    "the square of the mean": changed(
        SHARED_BY_LOOPS, ("(x[..., low:high] ** 2).mean(-1)", "x[..., low:high].mean(-1) ** 2")
    ),
    "the root": changed(
        SHARED_BY_LOOPS, ("(x[..., low:high] ** 2).mean(-1)", "(x[..., low:high] ** 2).mean(-1).sqrt()")
    ),
    "the variance": changed(
        SHARED_BY_LOOPS, ("(x[..., low:high] ** 2).mean(-1)", "x[..., low:high].var(-1, correction=0)")
    ),
    "the largest square": changed(
        SHARED_BY_LOOPS, ("(x[..., low:high] ** 2).mean(-1)", "(x[..., low:high] ** 2).amax(-1)")
    ),
    "the sum": changed(SHARED_BY_SHIFTS, ("return total / count", "return total")),
    "running sums": """
def loudness(x, width):
    half, time = width // 2, x.shape[-1]
    sums = F.pad(x.square().cumsum(-1), (1, 0))
    n = torch.arange(time)
    low, high = (n - half).clamp(min=0), (n + half + 1).clamp(max=time)
    return (sums[..., high] - sums[..., low]) / (high - low)

def adding_up(sources, mixture, weights):
    total = weights.double().sum(-3, keepdim=True)
    shares = torch.where(total > 0, weights / total.clamp_min(1e-300), 1 / weights.shape[-3])
    return sources + shares.to(sources.dtype) * (mixture - sources.sum(-3)).unsqueeze(-3)
""",
    "channels together": changed(
        SHARED_BY_LOOPS,
        ("    return found\n", "    return found.mean(-2, keepdim=True).expand_as(found) if x.ndim > 1 else found\n"),
    ),
    "a width longer than the sound breaks it": changed(
        SHARED_BY_SHIFTS, ("range(-min(half, time - 1), min(half, time - 1) + 1)", "range(-half, half + 1)")
    ),
    "two axes": changed(
        SHARED_BY_POOLING, ("square = x.square().reshape(1, -1, x.shape[-1])", "square = x.square()[None]")
    ),
    "squared in place": changed(SHARED_BY_POOLING, ("x.square().reshape", "x.mul_(x).reshape")),
    "equal parts everywhere": changed(
        SHARED_BY_POOLING, ("torch.where(total > 0, weights / total.clamp_min(1e-300), equal)", "equal")
    ),
    "a constant in the denominator": changed(
        SHARED_BY_POOLING,
        ("torch.where(total > 0, weights / total.clamp_min(1e-300), equal)", "weights / (total + 1e-8)"),
    ),
    "a constant on all weights": changed(
        SHARED_BY_POOLING, ("    weights = weights.double()", "    weights = weights.double() + 1e-8")
    ),
    "not a number without weights": changed(
        SHARED_BY_POOLING, ("torch.where(total > 0, weights / total.clamp_min(1e-300), equal)", "weights / total")
    ),
    "nothing without weights": changed(SHARED_BY_POOLING, ("1 / weights.shape[-3])", "0.0)")),
    "the whole rest to each without weights": changed(SHARED_BY_POOLING, ("1 / weights.shape[-3])", "1.0)")),
    "small weights taken for none": changed(
        SHARED_BY_POOLING, ("torch.where(total > 0,", "torch.where(total > 1e-12,")
    ),
    "sums that overflow": changed(SHARED_BY_POOLING, ("    weights = weights.double()\n", "")),
    "equal parts where one weight is 0": changed(
        SHARED_BY_POOLING, ("torch.where(total > 0,", "torch.where((weights > 0).all(-3, keepdim=True),")
    ),
    "equal parts if any place has no weights": changed(
        SHARED_BY_POOLING, ("torch.where(total > 0,", "torch.where((total > 0).all(),")
    ),
    "weights of the whole piece": changed(
        SHARED_BY_POOLING,
        (
            "total = weights.sum(-3, keepdim=True)",
            "weights = weights.mean(-1, keepdim=True)\n    total = weights.sum(-3, keepdim=True)",
        ),
    ),
    "divided by all weights": changed(
        SHARED_BY_POOLING, ("weights.sum(-3, keepdim=True)", "weights.sum((-3, -1), keepdim=True)")
    ),
    "over the channels": changed(SHARED_BY_POOLING, ("weights.sum(-3, keepdim=True)", "weights.sum(-2, keepdim=True)")),
    "the first axis": changed(SHARED_BY_POOLING, ("weights.sum(-3, keepdim=True)", "weights.sum(0, keepdim=True)")),
    "softmax": changed(SHARED_BY_SHIFTS, ("shares = logs.softmax(-3) ", "shares = weights.double().softmax(-3) ")),
    "the loudest gets all": changed(
        SHARED_BY_SHIFTS, ("shares = logs.softmax(-3) ", "shares = (1e6 * logs).softmax(-3) ")
    ),
    "the wrong sign": changed(
        SHARED_BY_POOLING, ("residual = mixture - sources.sum(dim=-3)", "residual = sources.sum(dim=-3) - mixture")
    ),
    "shares of the mixture": changed(
        SHARED_BY_POOLING,
        (
            "return sources + shares.to(sources.dtype) * residual.unsqueeze(-3)",
            "return shares.to(sources.dtype) * mixture.unsqueeze(-3)",
        ),
    ),
    "scaled to fit": changed(
        SHARED_BY_POOLING,
        (
            "return sources + shares.to(sources.dtype) * residual.unsqueeze(-3)",
            "return sources * (mixture / sources.sum(-3)).unsqueeze(-3)",
        ),
    ),
    "added in place": changed(
        SHARED_BY_POOLING,
        ("return sources + shares.to(sources.dtype)", "return sources.add_(shares.to(sources.dtype)"),
        ("residual.unsqueeze(-3)", "residual.unsqueeze(-3))"),
    ),
    "the residual taken from the mixture in place": changed(
        SHARED_BY_LOOPS, ("residual = mixture.clone()", "residual = mixture")
    ),
    "float64 all the time": changed(SHARED_BY_POOLING, ("shares.to(sources.dtype) *", "shares *")),
}

# ----------------------------------------------------------------------------------------- 5, which songs are clean

CLEAN_BY_LOOPS = """
def margins(levels):
    found = []
    for j in range(levels.shape[-2]):
        own = levels[..., j, j]
        others = torch.cat([levels[..., j, :j], levels[..., j, j + 1:]], -1)
        found.append(own - others.max(-1).values)
    return torch.stack(found, -1)

def kept_songs(levels, clean, percent):
    known = [m for m in margins(clean).flatten().tolist() if not math.isnan(m)]
    known.sort()
    needed = (percent * len(known) + 99) // 100                     # so many are not below
    threshold = known[len(known) - needed]
    kept = []
    for song in margins(levels).tolist():
        heard = [m for m in song if not math.isnan(m)]
        kept.append(len(heard) > 0 and all(m >= threshold for m in heard))
    return torch.tensor(kept)
"""
CLEAN_BY_TOPK = """
def margins(levels):
    count = levels.shape[-1]
    rows = torch.arange(count)
    order = (rows[:, None] + torch.arange(count)) % count           # the own one first
    turned = levels.gather(-1, order.expand(levels.shape))
    return turned[..., 0] - turned[..., 1:].amax(-1)

def kept_songs(levels, clean, percent):
    known = margins(clean)
    known = known[known == known]
    needed = math.ceil(percent * len(known) / 100)
    threshold = known.topk(needed).values[-1]
    found = margins(levels)
    silent = found.isnan()
    return ((found >= threshold) | silent).all(1) & (silent.logical_not().any(1))
"""
CLEAN_BY_LOWEST = """
def margins(levels):
    own = torch.eye(levels.shape[-1], dtype=torch.bool).expand(levels.shape)
    others = torch.where(own, torch.full_like(levels, -math.inf), levels)
    return torch.einsum("...jj->...j", levels) - others.max(dim=-1)[0]

def kept_songs(levels, clean, percent):
    known = margins(clean).reshape(-1)
    known = known[torch.logical_not(torch.isnan(known))]
    enough = (known[None, :] >= known[:, None]).sum(1) * 100 >= percent * len(known)
    threshold = known[enough].max()                                 # the largest that is enough
    lowest = margins(levels).nan_to_num(math.inf, math.inf, -math.inf).min(1).values
    return (lowest >= threshold) & ~margins(levels).isnan().all(1)
"""
CLEAN_RIGHT = {"lists": CLEAN_BY_LOOPS, "the largest ones": CLEAN_BY_TOPK, "the lowest of a song": CLEAN_BY_LOWEST}
CLEAN_WRONG = {
    "the mean of the others": changed(CLEAN_BY_LOOPS, ("others.max(-1).values", "others.mean(-1)")),
    "the softest of the others": changed(CLEAN_BY_LOOPS, ("others.max(-1).values", "others.min(-1).values")),
    "the energy of the others": changed(
        CLEAN_BY_LOOPS, ("others.max(-1).values", "10 * (10 ** (others / 10)).sum(-1).log10()")
    ),
    "the loudest of all": changed(CLEAN_BY_LOOPS, ("others.max(-1).values", "levels[..., j, :].max(-1).values")),
    "the own level alone": changed(CLEAN_BY_LOOPS, ("found.append(own - others.max(-1).values)", "found.append(own)")),
    "the others less the own": changed(CLEAN_BY_LOOPS, ("own - others.max(-1).values", "others.max(-1).values - own")),
    "what other stems say of this source": changed(
        CLEAN_BY_LOOPS,
        (
            "torch.cat([levels[..., j, :j], levels[..., j, j + 1:]], -1)",
            "torch.cat([levels[..., :j, j], levels[..., j + 1:, j]], -1)",
        ),
    ),
    "four stems": changed(CLEAN_BY_LOOPS, ("range(levels.shape[-2])", "range(min(4, levels.shape[-2]))")),
    "the own level made 0": changed(
        CLEAN_BY_LOWEST, ("torch.full_like(levels, -math.inf)", "torch.zeros_like(levels)")
    ),
    "the own level made -100": changed(
        CLEAN_BY_LOWEST, ("torch.full_like(levels, -math.inf)", "torch.full_like(levels, -100.0)")
    ),
    "silence is 0 dB": changed(
        CLEAN_BY_LOOPS,
        ("return torch.stack(found, -1)", "return torch.stack(found, -1).nan_to_num(0, math.inf, -math.inf)"),
    ),
    "silence is clean": changed(
        CLEAN_BY_LOOPS,
        ("return torch.stack(found, -1)", "return torch.stack(found, -1).nan_to_num(math.inf, math.inf, -math.inf)"),
    ),
    "margins below 0 cut off": changed(
        CLEAN_BY_LOOPS, ("return torch.stack(found, -1)", "return torch.stack(found, -1).clamp(min=0)")
    ),
    "infinite margins cut off": changed(
        CLEAN_BY_LOOPS, ("return torch.stack(found, -1)", "return torch.stack(found, -1).clamp(-200, 200)")
    ),
    "rounded margins": changed(
        CLEAN_BY_LOOPS, ("return torch.stack(found, -1)", "return torch.stack(found, -1).round(decimals=1)")
    ),
    "the diagonal marked in place": changed(
        CLEAN_BY_LOOPS,
        (
            "        own = levels[..., j, j]\n",
            "        own = levels[..., j, j].clone()\n        levels[..., j, j] = -math.inf\n",
        ),
    ),
    "rounded down": changed(
        CLEAN_BY_LOOPS, ("(percent * len(known) + 99) // 100", "max(1, percent * len(known) // 100)")
    ),
    "rounded to the nearest": changed(
        CLEAN_BY_LOOPS, ("(percent * len(known) + 99) // 100", "max(1, round(percent * len(known) / 100))")
    ),
    "a share in floats": changed(
        CLEAN_BY_LOOPS, ("(percent * len(known) + 99) // 100", "math.ceil(percent / 100 * len(known))")
    ),
    "one more": changed(
        CLEAN_BY_LOOPS, ("(percent * len(known) + 99) // 100", "min(len(known), percent * len(known) // 100 + 1)")
    ),
    "quantile": changed(
        CLEAN_BY_LOOPS,
        (
            "threshold = known[len(known) - needed]",
            "threshold = float(torch.tensor(known).quantile(1 - percent / 100))",
        ),
    ),
    "from the other end": changed(CLEAN_BY_LOOPS, ("known[len(known) - needed]", "known[needed - 1]")),
    "the smallest clean margin": changed(CLEAN_BY_LOOPS, ("known[len(known) - needed]", "known[0]")),
    "the mean less a deviation": changed(
        CLEAN_BY_LOOPS,
        ("known[len(known) - needed]", "sum(known) / len(known) - 0.5 * float(torch.tensor(known).std(correction=0))"),
    ),
    "silent clean stems count": changed(
        CLEAN_BY_LOOPS,
        (
            "needed = (percent * len(known) + 99) // 100",
            "needed = min(len(known), (percent * margins(clean).numel() + 99) // 100)",
        ),
    ),
    "a threshold by label": """
def margins(levels):
    own = torch.eye(levels.shape[-1], dtype=torch.bool)
    return levels.diagonal(dim1=-2, dim2=-1) - levels.masked_fill(own, -math.inf).amax(-1)

def kept_songs(levels, clean, percent):
    known, found = margins(clean), margins(levels)
    kept = ~found.isnan().all(-1)
    for j in range(known.shape[1]):
        mine = known[:, j][~known[:, j].isnan()].sort(descending=True).values
        if len(mine):
            kept &= ~(found[:, j] < mine[-(-percent * len(mine) // 100) - 1])
    return kept
""",
    "so many songs, not stems": """
def margins(levels):
    own = torch.eye(levels.shape[-1], dtype=torch.bool)
    return levels.diagonal(dim1=-2, dim2=-1) - levels.masked_fill(own, -math.inf).amax(-1)

def kept_songs(levels, clean, percent):
    worst = lambda x: margins(x).nan_to_num(math.inf, math.inf, -math.inf).amin(-1)
    known = worst(clean).sort(descending=True).values
    return (worst(levels) >= known[-(-percent * len(known) // 100) - 1]) & ~margins(levels).isnan().all(-1)
""",
    "above the threshold": changed(CLEAN_BY_LOOPS, ("m >= threshold", "m > threshold")),
    "one good stem is enough": changed(CLEAN_BY_LOOPS, ("all(m >= threshold", "any(m >= threshold")),
    "the mean margin": changed(
        CLEAN_BY_LOOPS, ("all(m >= threshold for m in heard)", "sum(heard) / len(heard) >= threshold")
    ),
    "silent songs are kept": changed(CLEAN_BY_LOOPS, ("len(heard) > 0 and ", "")),
    "a silent stem spoils a song": changed(CLEAN_BY_TOPK, ("((found >= threshold) | silent)", "(found >= threshold)")),
    "numbers": changed(CLEAN_BY_LOOPS, ("return torch.tensor(kept)", "return torch.tensor(kept).float()")),
    "which songs": changed(CLEAN_BY_LOOPS, ("return torch.tensor(kept)", "return torch.tensor(kept).nonzero()[:, 0]")),
    "thrown out": changed(CLEAN_BY_LOOPS, ("return torch.tensor(kept)", "return ~torch.tensor(kept)")),
    "the paper's rule": changed(
        CLEAN_BY_TOPK,
        (
            "    return ((found >= threshold) | silent).all(1)",
            "    threshold = 10.0\n    return ((found >= threshold) | silent).all(1)",
        ),
    ),
    "float32 all the time": changed(
        CLEAN_BY_TOPK,
        (
            "return turned[..., 0] - turned[..., 1:].amax(-1)",
            "return (turned[..., 0] - turned[..., 1:].amax(-1)).float()",
        ),
    ),
}

# ---------------------------------------------------------------------------------------------- taken from the chapter

TAKEN = (
    1,
    """
from course_lib.separating import transition_weights

def joined_chunks(chunks, starts, length, power=1.0):
    top, bottom = 0.0, 0.0
    for chunk, start in zip(chunks, starts):
        place = (start, length - start - chunk.shape[-1])
        w = transition_weights(chunk.shape[-1], power)
        top, bottom = top + F.pad(w * chunk, place), bottom + F.pad(w, place)
    return top / bottom.masked_fill(bottom == 0, 1)
""",
)


CASES = as_cells(
    (JOINED_RIGHT, JOINED_WRONG),
    (PLAN_RIGHT, PLAN_WRONG),
    (ASKED_RIGHT, ASKED_WRONG),
    (SHARED_RIGHT, SHARED_WRONG),
    (CLEAN_RIGHT, CLEAN_WRONG),
)
