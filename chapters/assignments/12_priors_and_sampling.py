# %% [markdown]
# # Assignment 12 · One code after the other
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 12, but none is a copy of it: you count what rows of different lengths cost, let bars listen that begin with an upbeat, give a layer a memory that forgets, sharpen guesses so that ties stay fair, and write
# a song window by window under the codes of the level above. Read what is asked for, above all at the edges (a row without a code that counts, a code that hears nothing, a window of one code, temperature 0, a song that is finished already).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.priors` don't count as your own work, nor does changing
#   the checks. You may add cells.
# - A function must not change its arguments, and its result has the precision of its input.

# %%
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
import math
import torch
import torch.nn.functional as F

# %% [markdown]
# The numbers of your version of this assignment:

# %%
# VARIATION
from course_lib.classroom import Variation
seed = 0
variation = Variation(seed)
BINS = variation.choice("bins", [16, 32, 64])  # codes that there are
BAR = variation.integer("bar", 4, 6)  # codes of a block
UPBEAT = variation.integer("upbeat", 1, 3)  # codes before the first whole block
WINDOW = variation.integer("window", 3, 6)  # codes that a layer hears
TOP_P = variation.choice("top_p", [0.5, 0.7, 0.8])
RATIO = variation.integer("ratio", 2, 4)  # codes for one of the level above

# %% [markdown]
# ## Task 1: what each row costs
#
# In a batch, rows of different lengths stand side by side. Of row $b$ the codes `first[b]` to `length[b] - 1` count: what comes before was given, so nobody had to guess it, and what comes behind only fills the row up. The logits at place $t$ are the guess of code $t$, made from what stands before it. Give the bits per code (12.2) of each row, and those of all codes that count, taken together: a long row has more of them than a short one.
#
# - Where nothing counts, the answer is NaN: for that row, or for all.
# - What fills up may be anything: codes that there are not, such as $-1$, and logits that are NaN. It must disturb nobody. Training goes through the second number, so its gradient is 0 at logits that don't count, and finite at those that do.
# - A logit of $-\infty$ says "impossible". If such a code comes all the same, it costs infinitely many bits: its own row, and with it all together, but no other row.
# - Logits may all lie at $10^{8}$, or be as large as $10^{30}$.

# %%
# TASK 1 (5 points): what each row costs
def bits_of_rows(logits, codes, first, length):
    """Bits per code of each row, (batch,), and of all codes that count, a tensor of no axes.

    logits: (batch, time, bins), before the softmax. codes: (batch, time), int64. first, length:
    (batch,), int64, from 0 to time; row b counts its codes first[b] to length[b] - 1, perhaps none.
    Both have the logits' precision. Differentiable.
    """
    ### BEGIN SOLUTION
    place = torch.arange(codes.shape[1])
    counts = (place >= first[:, None]) & (place < length[:, None])          # (batch, time)
    guesses = torch.where(counts[..., None], logits.double(), 0.0).log_softmax(-1)
    true = torch.where(counts, codes, 0)[..., None]
    bits = torch.where(counts, -guesses.gather(-1, true)[..., 0] / math.log(2), 0.0)
    rows, number = bits.sum(1), counts.sum(1)
    return (rows / number).to(logits.dtype), (rows.sum() / number.sum()).to(logits.dtype)
    ### END SOLUTION

# %%
# CHECK 1
logits = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.5, 0.0]],
                       [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]]).log()
codes = torch.tensor([[0, 0, 1], [2, 1, 0]])
rows, together = bits_of_rows(logits, codes, torch.tensor([0, 1]), torch.tensor([3, 2]))
assert rows.shape == (2,) and together.shape == (), (
    f"two rows: (2,), and a number without axes; you: {tuple(rows.shape)}, {tuple(together.shape)}")
assert torch.allclose(rows, torch.tensor([4 / 3, 2.0])), (
    f"row 0 costs 1, 2 and 1 bits, a mean of 4/3; of row 1 only code 1 counts, 2 bits; you: {rows}")
assert abs(float(together) - 1.5) < 1e-5, f"four codes count, 6 bits in all: 1.5; you: {together}"
filled = torch.where(torch.tensor([[[False], [True], [True]]]), math.nan, logits).requires_grad_()
rows, together = bits_of_rows(filled, torch.tensor([[0, -1, 77]] * 2), torch.tensor([0, 0]),
                              torch.tensor([1, 0]))
assert abs(rows[0].item() - 1) < 1e-5 and abs(together.item() - 1) < 1e-5, (
    f"one code counts in all, and it costs 1 bit, whatever fills up the rows; you: {together}")
assert rows[1].isnan(), f"nothing counts in row 1: NaN; you: {rows[1]}"
together.backward()
assert filled.grad[0, 0].abs().min() > 0, "the logits that count have a gradient"
filled.grad[0, 0] = 0
assert not filled.grad.any(), "logits that don't count have a gradient of 0"
rows, together = bits_of_rows(logits, torch.full((2, 3), 2), torch.zeros(2).long(),
                              torch.tensor([3, 3]))
assert rows[0] == math.inf == together and abs(float(rows[1]) - 4 / 3) < 1e-5, (
    f"an impossible code costs infinitely many bits, but not in another row; you: {rows}")
draw = torch.Generator().manual_seed(1)
rows, _ = bits_of_rows(torch.zeros(2, 9, BINS), torch.randint(BINS, (2, 9), generator=draw),
                       torch.tensor([0, 4]), torch.tensor([9, 9]))
assert torch.allclose(rows, torch.tensor(math.log2(BINS))), (
    f"no idea at all: {math.log2(BINS)} bits for one of {BINS} codes; you: {rows}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _bits(logits, codes, first, length):
    """Code by code, with numbers of Python."""
    rows, everything, number = [], 0.0, 0
    for guesses, row, start, stop in zip(logits.tolist(), codes.tolist(), first.tolist(),
                                         length.tolist()):
        spent = []
        for t in range(start, stop):
            top = max(guesses[t])
            whole = math.log2(math.fsum(math.exp(one - top) for one in guesses[t]))
            spent.append(whole - (guesses[t][row[t]] - top) / math.log(2))
        rows.append(sum(spent) / len(spent) if spent else math.nan)
        everything, number = everything + sum(spent), number + len(spent)
    return rows, everything / number if number else math.nan

def _same(found, expected, message):
    for one, wanted in zip([float(value) for value in found.reshape(-1)], expected):
        if math.isnan(wanted) or math.isinf(wanted):
            assert str(one) == str(wanted), f"{wanted} bits are asked for: {message}"
        else:
            assert truth.close(one, wanted, rtol=1e-4, atol=1e-5), f"wrong bits: {message}"

def _right(logits, codes, first, length, message):
    given = (logits, codes, first, length)
    before = [one.clone() for one in given]
    found = bits_of_rows(*given)
    assert all(truth.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) if a.is_floating_point()
               else truth.equal(a, b) for a, b in zip(given, before)), "arguments are changed"
    assert type(found) in (tuple, list) and len(found) == 2, "two results are asked for"
    assert truth.has_shape(found[0], len(codes)) and truth.has_shape(found[1]), (
        f"(batch,) and no axes: {message}")
    assert found[0].dtype == found[1].dtype == logits.dtype, f"wrong precision: {message}"
    rows, together = _bits(*before)
    _same(found[0], rows, f"a row, {message}")
    _same(found[1], [together], f"all together, {message}")

_generator = hidden.generator("rows")
def _batch(batch, time, bins):
    """Rows at random; what doesn't count is filled up."""
    first, length = torch.randint(0, time + 1, (2, batch), generator=_generator)
    first = (first - time // 2).clamp_min(0)
    place = torch.arange(time)
    counts = (place >= first[:, None]) & (place < length[:, None])
    logits = 3 * torch.randn(batch, time, bins, generator=_generator)
    codes = torch.randint(bins, (batch, time), generator=_generator)
    fill = torch.randint(-2, bins + 9, (batch, time), generator=_generator)
    return (torch.where(counts[..., None], logits, math.nan), torch.where(counts, codes, fill),
            first, length)

for _case in range(5):
    _sizes = [hidden.integer(f"{_name} {_case}", 1, 7) for _name in ("batch", "time")]
    _right(*_batch(*_sizes, hidden.integer(f"bins {_case}", 1, 40)), f"batch, time {_sizes}")
_logits, _codes = torch.randn(4, 9, 12, generator=_generator), torch.randint(
    12, (4, 9), generator=_generator)
_first, _length = torch.tensor([0, 2, 5, 8]), torch.tensor([9, 3, 9, 9])
_right(_logits, _codes, _first, _length, "rows of very different lengths")
_right(_logits, _codes, 0 * _first, 0 * _first + 9, "all codes count")
_right(_logits, _codes, _length, _first, "hardly anything counts")
_right(_logits, _codes, _first, 0 * _first, "nothing counts")
_right(_logits[:, :0], _codes[:, :0], 0 * _first, 0 * _first, "rows without a code")
_right(_logits.mT.contiguous().mT, _codes.T.contiguous().T, _first, _length, "not contiguous")
_hole = _logits.clone()
_hole[0, 4, int(_codes[0, 4])] = -math.inf
_hole[1, 4, int(_codes[1, 4])] = -math.inf
_hole[2, 6, (int(_codes[2, 6]) + 1) % 12] = -math.inf
_right(_hole, _codes, _first, _length, "impossible codes")
_leaf = torch.where(torch.arange(9)[:, None] < 5, _logits, math.nan).requires_grad_()
_twin = _logits.clone().requires_grad_()
bits_of_rows(_leaf, _codes, _first, _length.clamp(max=5))[1].backward()
_place = torch.arange(9)
_counts = (_place >= _first[:, None]) & (_place < _length.clamp(max=5)[:, None])
(F.cross_entropy(_twin[_counts], _codes[_counts]) / math.log(2)).backward()
assert _leaf.grad is not None and truth.close(_leaf.grad, _twin.grad, rtol=1e-3, atol=1e-6), (
    "the gradient is wrong")
_right(_logits + 1e8 * (_codes[..., None] == 3), _codes, _first, _length, "logits that lie high")
_right(1e30 * _logits, _logits.argmax(-1), _first, _length, "certain and right, logits of 1e30")
_right(1e30 * _logits, _codes, _first, _length, "logits of 1e30")
_right(torch.linspace(1e8, 1e8 + 96, 12).expand(4, 9, 12), _codes, _first, _length, "at 1e8")
for _edge, _level, (_x, _y) in edges.mutated(_logits.mT, _codes.float()[:, None]):
    _time = _x.shape[-1]
    _right(_x.mT, _codes[:, :_time], _first.clamp(max=_time), _length.clamp(max=_time), _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: bars with an upbeat
#
# Section 12.3 folds the codes into blocks from the first code on. Many songs begin with an **upbeat**: some notes before the first whole bar. So let the first block be incomplete: its `upbeat` codes stand at the *end* of a block whose beginning isn't there. Then come whole blocks; the last one may be incomplete again, as always. With upbeat 0 it's the chapter's.
#
# Write attention of one head, softmax of products over $\sqrt{c}$ with $c$ the width of a query, of the three kinds: along the **row** (this block, up to the code itself), along the **column** (the same place of all blocks before, and the code itself), and to the **previous row** (all codes of the block before). A code that has nothing to hear hears zeros. What isn't there is never heard, not even as a zero among others.

# %%
# TASK 2 (5 points): bars with an upbeat
def heard(q, k, v, kind, block, upbeat=0):
    """What each code hears: (batch, time, width of v).

    q, k: (batch, time, c). v: (batch, time, any width). kind: "row", "column" or "previous row".
    block: codes of a whole block, 1 or more. upbeat: codes before the first whole block, from 0 to
    block - 1.
    """
    ### BEGIN SOLUTION
    place = torch.arange(q.shape[1]) + -upbeat % block
    row, column = place // block, place % block
    back = place[:, None] >= place
    seen = {"row": back & (row[:, None] == row), "column": back & (column[:, None] == column),
            "previous row": row[:, None] == row + 1}[kind]                  # (query, key)
    products = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    weights = products.masked_fill(~seen, -math.inf).softmax(-1)
    weights = torch.where(seen.any(-1, keepdim=True), weights, 0.0)
    return (weights @ v.double()).to(v.dtype)
    ### END SOLUTION

# %%
# CHECK 2
ones = torch.zeros(1, 8, 1)  # equal products: each code hears a mean
v = torch.tensor([1.0, 2, 4, 8, 16, 32, 64, 128])[None, :, None]
def means(kind, upbeat):
    found = heard(ones, ones, v, kind, 3, upbeat)
    assert found.shape == (1, 8, 1), f"(1, 8, 1) is asked for; you: {tuple(found.shape)}"
    return found[0, :, 0]

def near(found, *expected):
    return torch.allclose(found, torch.tensor([float(one) for one in expected]), rtol=1e-4)

found = means("row", 0)
assert near(found, 1, 1.5, 7 / 3, 8, 12, 56 / 3, 64, 96), (
    f"blocks 012 345 67, each code hears the mean of its block so far; you: {found}")
found = means("row", 1)
assert near(found, 1, 2, 3, 14 / 3, 16, 24, 112 / 3, 128), (
    f"an upbeat of one: blocks 0 123 456 7; you: {found}")
found = means("column", 1)
assert near(found[:4], 1, 2, 4, 4.5), (
    f"the upbeat, code 0, is the last of its block, as are 3 and 6: code 3 hears 0 and 3, codes 1 "
    f"and 2 only themselves; you: {found}")
found = means("previous row", 0)
assert near(found, 0, 0, 0, 7 / 3, 7 / 3, 7 / 3, 56 / 3, 56 / 3), (
    f"nothing is above the first block: zeros; you: {found}")
found = means("previous row", 1)
assert near(found[:4], 0, 1, 1, 1), (
    f"codes 1, 2 and 3 hear the upbeat and nothing else; you: {found}")
draw = torch.Generator().manual_seed(2)
q, k, v = torch.randn(3, 2, 17, 4, generator=draw)
for kind in ("row", "column", "previous row"):
    late = heard(q, k, v, kind, BAR, UPBEAT)
    padded = [F.pad(one, (0, 0, BAR, 0)) for one in (q, k, v)]
    assert torch.allclose(heard(*padded, kind, BAR, UPBEAT)[:, BAR + UPBEAT + BAR:],
                          late[:, UPBEAT + BAR:], atol=1e-5) or kind == "column", (
        f"a block more in front changes nothing from the second whole block on: {kind}")
    far = v.clone()
    far[:, -1] += 100
    assert torch.equal(heard(q, k, far, kind, BAR, UPBEAT)[:, :-1], late[:, :-1]), (
        f"no code hears what comes later: {kind}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
KINDS = ("row", "column", "previous row")
def _heard(q, k, v, kind, block, upbeat):
    """Query by query: the list of its keys, then a softmax in double precision."""
    q, k, v = (one.double() for one in (q, k, v))
    blocks, rest = [], list(range(q.shape[1]))
    if upbeat:
        blocks.append([None] * (block - upbeat) + rest[:upbeat])
    for start in range(upbeat, len(rest), block):
        blocks.append(rest[start:start + block])
    out = torch.zeros_like(v)
    for number, codes in enumerate(blocks):
        for place, t in enumerate(codes):
            if t is None:
                continue
            if kind == "row":
                keys = codes[:place + 1]
            elif kind == "column":
                keys = [other[place] for other in blocks[:number + 1] if place < len(other)]
            else:
                keys = blocks[number - 1] if number else []
            keys = [key for key in keys if key is not None]
            if keys:
                products = torch.einsum("bc,bkc->bk", q[:, t], k[:, keys]) / q.shape[-1] ** 0.5
                weights = (products - products.amax(1, keepdim=True)).exp()
                weights = weights / weights.sum(1, keepdim=True)
                out[:, t] = torch.einsum("bk,bkc->bc", weights, v[:, keys])
    return out

def _right(q, k, v, kind, block, upbeat, message, level=1.0):
    given = (q, k, v)
    before = [one.clone() for one in given]
    found = heard(q, k, v, kind, block, upbeat)
    message = f"{message}: {kind}, {q.shape[1]} codes, blocks of {block}, upbeat {upbeat}"
    assert all(truth.equal(one, copy) for one, copy in zip(given, before)), "arguments are changed"
    assert found.dtype == v.dtype, f"wrong precision, {message}"
    assert truth.close(found.double() / level, _heard(*before, kind, block, upbeat) / level,
                       rtol=1e-3, atol=1e-5), f"wrong, {message}"

_generator = hidden.generator("codes")
def _some(batch, time, wide=4, of_v=3):
    return (torch.randn(batch, time, wide, generator=_generator),
            torch.randn(batch, time, wide, generator=_generator),
            torch.randn(batch, time, of_v, generator=_generator))

for _case in range(4):
    _block = hidden.integer(f"block {_case}", 2, 6)
    _upbeat = hidden.integer(f"upbeat {_case}", 0, _block - 1)
    _given = _some(*(hidden.integer(f"{_name} {_case}", 1, most)
                     for _name, most in (("batch", 3), ("time", 25), ("wide", 6), ("v", 5))))
    for _kind in KINDS:
        _right(*_given, _kind, _block, _upbeat, "a song")
        _right(*_given, _kind, _block, _block - 1, "nearly a whole block in front")
_given = _some(2, 13)
for _kind in KINDS:
    _right(*_given, _kind, 1, 0, "blocks of one code")
    _right(*_given, _kind, 20, 0, "one block, not complete")
    _right(*_given, _kind, 20, 17, "nothing but an upbeat")
    _right(*(one.mT.contiguous().mT for one in _given), _kind, 4, 3, "not contiguous")
assert truth.close(heard(*_given, "row", 5), _heard(*_given, "row", 5, 0), rtol=1e-3), (
    "no upbeat by default")
_right(_given[0], 40 * _given[1], _given[2], "row", 7, 2, "sharp products")
_right(_given[0], _given[1], 0 * _given[2] + 1, "previous row", 4, 2, "values of 1")
_right(-9 + 0 * _given[0], 9 + 0 * _given[1], _given[2], "previous row", 4, 1, "very low products")
for _edge, _level, _all in edges.mutated(*(one.mT for one in _given)):
    for _kind in KINDS:
        _right(*(one.mT for one in _all), _kind, 4, 3, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: a memory that forgets
#
# The `Cache` of section 12.4 grows with the song. A layer that hears only the last `window` codes, the newest one among them, needs to keep less. Write such a layer's step, for several heads: it gets queries, keys and values of some **new** codes and what it remembers, and gives what the new codes hear, and what to remember from now on. However a song is cut into steps, the codes hear the same.
#
# - The memory is a pair (keys, values) of the last `window` $- 1$ codes, in the order of time, or of all codes, where there have been fewer. `None` at the beginning.
# - It keeps **no more** than that: a slice of a longer tensor keeps all of that alive.
# - From one memory two singers may go on in different ways, so it must not be changed; and whoever calls may write over `k` and `v` afterwards.
# - Each head has its share of the width, one after the other, and divides by the root of *its* width. A step may bring no code at all, or more than `window`.

# %%
# TASK 3 (5 points): a memory that forgets
def go_on(q, k, v, memory, window, heads=1):
    """What the new codes hear, (batch, new, width), and the memory after them, (keys, values).

    q, k, v: of the new codes, (batch, new, width), new from 0 on. memory: None, or the pair that
    the last call has given. window: 1 or more; code t hears codes t - window + 1 to t. heads:
    divides width.
    """
    ### BEGIN SOLUTION
    old_k, old_v = (k[:, :0], v[:, :0]) if memory is None else memory
    keys, values = torch.cat([old_k, k], 1), torch.cat([old_v, v], 1)
    old, time = old_k.shape[1], keys.shape[1]
    age = torch.arange(old, time)[:, None] - torch.arange(time)             # (new, key)
    split = lambda x: x.double().unflatten(-1, (heads, -1)).transpose(1, 2)
    products = split(q) @ split(keys).mT / math.sqrt(q.shape[-1] // heads)
    weights = products.masked_fill((age < 0) | (age >= window), -math.inf).softmax(-1)
    found = (weights @ split(values)).transpose(1, 2).flatten(2).to(v.dtype)
    first = max(0, time - window + 1)
    return found, (keys[:, first:].clone(), values[:, first:].clone())
    ### END SOLUTION

# %%
# CHECK 3
zeros, v = torch.zeros(1, 5, 1), torch.tensor([1.0, 2, 4, 8, 16])[None, :, None]
found, memory = go_on(zeros, zeros, v, None, 2)
assert found.shape == (1, 5, 1) and len(memory) == 2, f"(1, 5, 1) and a pair; {tuple(found.shape)}"
assert torch.allclose(found.flatten(), torch.tensor([1, 1.5, 3, 6, 12])), (
    f"a window of 2: each code hears itself and the one before, 1 1.5 3 6 12; you: {found}")
assert memory[0].shape == (1, 1, 1) and memory[1].flatten().tolist() == [16], (
    f"one code is remembered, the last one, whose value is 16; you: {memory}")
first, memory = go_on(zeros[:, :3], zeros[:, :3], v[:, :3], None, 9)
second, memory = go_on(zeros[:, :2], zeros[:, :2], v[:, 3:], memory, 9)
assert torch.allclose(second.flatten(), torch.tensor([3.75, 6.2])), (
    f"a window of 9, three codes and two more: 15/4 and 31/5; you: {second}")
assert memory[1].flatten().tolist() == [1, 2, 4, 8, 16], f"all five are remembered; {memory[1]}"
draw = torch.Generator().manual_seed(3)
q, k, v = torch.randn(3, 2, 20, 8, generator=draw)
whole, _ = go_on(q, k, v, None, WINDOW, 2)
parts, memory, start = [], None, 0
for size in (1, 1, 7, 0, 2, 9):
    piece = [one[:, start:start + size].clone() for one in (q, k, v)]
    found, after = go_on(*piece, memory, WINDOW, 2)
    again, _ = go_on(*piece, memory, WINDOW, 2)
    assert torch.equal(found, again), "from one memory a second time: it was changed"
    parts, memory, start = [*parts, found], after, start + size
    for one in piece:
        one.fill_(99.0)
assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5), (
    "in steps of 1, 1, 7, 0, 2 and 9 codes the song sounds different than at once")
assert torch.equal(memory[0], k[:, 20 - WINDOW + 1:]), "the last keys are remembered, in order"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _whole(q, k, v, window, heads):
    """All codes at once, query by query and head by head, in double precision."""
    out, c = torch.zeros(v.shape, dtype=torch.float64), v.shape[-1] // heads
    for t in range(q.shape[1]):
        first = max(0, t - window + 1)
        for head in range(heads):
            part = slice(head * c, (head + 1) * c)
            keys, values = (one[:, first:t + 1, part].double() for one in (k, v))
            products = torch.einsum("bc,bkc->bk", q[:, t, part].double(), keys) / c ** 0.5
            weights = (products - products.amax(1, keepdim=True)).exp()
            weights = weights / weights.sum(1, keepdim=True)
            out[:, t, part] = torch.einsum("bk,bkc->bc", weights, values)
    return out

def _right(q, k, v, sizes, window, heads, message, level=1.0):
    expected = _whole(q, k, v, window, heads) / level
    memory, start = None, 0
    message = f"{message}: steps of {sizes}, window {window}, heads {heads}"
    for number, size in enumerate(sizes):
        given = [one[:, start:start + size].clone() for one in (q, k, v)]
        kept = None if memory is None else [one.clone() for one in memory]
        found = go_on(*given, memory, window, heads)
        assert all(truth.equal(one, copy[:, start:start + size])
                   for one, copy in zip(given, (q, k, v))), "q, k or v is changed"
        assert kept is None or truth.equal(list(memory), kept), f"the memory is changed, {message}"
        assert type(found) in (tuple, list) and len(found) == 2, "two results are asked for"
        assert found[0].dtype == v.dtype, f"wrong precision, {message}"
        assert truth.close(found[0].double() / level, expected[:, start:start + size],
                           rtol=1e-3, atol=1e-5), f"step {number} hears something else, {message}"
        memory, start = found[1], start + size
        assert type(memory) in (tuple, list) and len(memory) == 2, "the memory is a pair"
        for one in given:
            one.fill_(-5.0)
        first = max(0, start - window + 1)
        for one, wanted, name in zip(memory, (k, v), ("keys", "values")):
            assert truth.equal(one, wanted[:, first:start]), f"wrong {name} remembered, {message}"
            assert one.dtype == wanted.dtype, f"wrong precision of the {name}, {message}"
            assert one.untyped_storage().nbytes() <= one.numel() * one.element_size(), (
                f"the {name} keep a longer tensor alive, {message}")

_generator = hidden.generator("codes")
for _case in range(4):
    _sizes = [hidden.integer(f"step {_case} {_n}", 0, 6) for _n in range(4)]
    _heads = hidden.integer(f"heads {_case}", 1, 3)
    _wide = _heads * hidden.integer(f"wide {_case}", 1, 4)
    _q, _k, _v = torch.randn(3, hidden.integer(f"batch {_case}", 1, 3), sum(_sizes), _wide,
                             generator=_generator)
    _right(_q, _k, _v, _sizes, hidden.integer(f"window {_case}", 1, 9), _heads, "a song")
_q, _k, _v = torch.randn(3, 2, 12, 6, generator=_generator)
_right(_q, _k, _v, [12], 1, 2, "a window of one code")
_right(_q, _k, _v, [1, 1, 1, 2, 1], 1, 1, "a window of one code")
_right(_q, _k, _v, [1] * 12, 4, 3, "one by one")
_right(_q, _k, _v, [5, 7], 100, 2, "a window longer than the song")
_right(_q, _k, _v, [0, 0, 3, 0, 2], 3, 2, "steps without a code")
_right(_q, _k, _v, [2, 10], 3, 6, "heads of width one")
_right(_q, _k, _v, [4, 8], 4, 1, "just a window, then more")
_right(_q, _k, _v, [3, 1, 8], 4, 1, "one code less than a window")
assert truth.close(go_on(_q, _k, _v, None, 5)[0], _whole(_q, _k, _v, 5, 1), rtol=1e-3), (
    "one head by default")
_memory = go_on(_q[:, :6], _k[:, :6], _v[:, :6], None, 4)[1]
_one = go_on(_q[:, 6:], _k[:, 6:], _v[:, 6:], _memory, 4)[0]
go_on(_v[:, 6:9], _q[:, 6:9], _k[:, 6:9], _memory, 4)
_two = go_on(_q[:, 6:], _k[:, 6:], _v[:, 6:], _memory, 4)[0]
assert truth.equal(_two, _one), "two singers go on from one memory and disturb each other"
for _edge, _level, _all in edges.mutated(*(one.mT for one in (_q, _k, _v))):
    _time = _all[0].shape[-1]
    _right(*(one.mT for one in _all), [1, 2, 9] if _time > 1 else [0, 1], 3, 2, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: temperature, nucleus, and a draw
#
# A batch draws one code a row, each row with its own temperature $\tau$ and its own nucleus $p$. First the chances, by a softmax of the logits over $\tau$:
#
# - The temperature goes from 0 to infinity, both included, and both mean what the limit means. At 0 the likeliest code takes all; if several are equally likely, they share it. At infinity all codes that may be drawn at all are equally likely. A logit of $-\infty$ means: never, at no temperature.
# - Then the nucleus: the smallest number of the likeliest codes that together have **at least** $p$. Codes *as likely as the last one* of these stay, too: no code is left out because of where it stands in the codebook. What stays adds up to 1. $p = 1$ leaves everything.
# - In a row in which nothing may be drawn, all chances are 0. The other rows don't mind.
#
# Then the draw: from a number $u$ in $[0, 1)$ the first code at which the sum of the chances so far is **above** $u$. A code without a chance is never drawn, although the sums, being rounded, may end a little below 1 (or below $u$). In a row without any chance it's code $-1$.

# %%
# TASK 4 (5 points): temperature, nucleus, and a draw
def chances(logits, temperature, top_p):
    """The chance of each code: (batch, bins).

    logits: (batch, bins). temperature: (batch,), from 0 to math.inf. top_p: (batch,), above 0, up
    to 1. All of one precision.
    """
    ### BEGIN SOLUTION
    x = logits.double()
    never = x == -math.inf
    x = (x - x.amax(-1, keepdim=True)).masked_fill(never, -math.inf)        # the likeliest: 0
    scaled = torch.where(x == 0, 0.0, x / temperature.double()[:, None])
    scaled = torch.where(temperature[:, None] == math.inf, 0.0, scaled)
    p = scaled.masked_fill(never, -math.inf).softmax(-1).nan_to_num()
    ordered, order = p.sort(-1, descending=True)
    last = (ordered.cumsum(-1) < top_p[:, None]).sum(-1, keepdim=True)
    least = ordered.gather(-1, last.clamp_max(p.shape[-1] - 1))
    p = torch.where((p >= least) | (top_p[:, None] == 1), p, 0.0)
    return (p / p.sum(-1, keepdim=True).clamp_min(1e-300)).to(logits.dtype)
    ### END SOLUTION


def drawn(p, u):
    """The code that u draws from the chances p: int64 (batch,), -1 where there is no chance.

    p: (batch, bins), each row adds up to 1, but for rounding, or is 0. u: (batch,), from 0 on,
    below 1.
    """
    ### BEGIN SOLUTION
    some = p > 0
    above = (p.double().cumsum(-1) > u.double()[:, None]) & some
    last = p.shape[-1] - 1 - some.flip(-1).int().argmax(-1)
    code = torch.where(above.any(-1), above.int().argmax(-1), last)
    return torch.where(some.any(-1), code, -1)
    ### END SOLUTION

# %%
# CHECK 4
p = torch.tensor([[0.5, 0.125, 0.25, 0.125]])
def once(temperature, top_p, logits=p.log()):
    return chances(logits, torch.tensor([temperature]), torch.tensor([top_p]))[0]

assert once(1.0, 1.0).shape == (4,), "one row of four chances"
assert torch.allclose(once(1.0, 1.0), p[0]), f"temperature 1, all stays: p itself; {once(1.0, 1.0)}"
assert torch.allclose(once(0.5, 1.0), p[0] ** 2 / (p ** 2).sum()), (
    f"temperature 1/2 squares the chances; you: {once(0.5, 1.0)}")
assert once(0.0, 1.0).tolist() == [1, 0, 0, 0], f"temperature 0: 1 0 0 0; you: {once(0.0, 1.0)}"
assert torch.allclose(once(math.inf, 1.0), torch.tensor(0.25)), (
    f"temperature without end: all equal; you: {once(math.inf, 1.0)}")
assert once(1.0, 0.45).tolist() == [1, 0, 0, 0], (
    f"a nucleus of 0.45: the first alone has at least that; you: {once(1.0, 0.45)}")
assert torch.allclose(once(1.0, 0.7), torch.tensor([2 / 3, 0, 1 / 3, 0])), (
    f"0.7: the first and the third, 0.75 together; you: {once(1.0, 0.7)}")
assert torch.allclose(once(1.0, 0.8), p[0]), (
    f"0.8: one code of 1/8 more, and the other one is as likely: all stay; you: {once(1.0, 0.8)}")
tied = torch.tensor([[2.0, 3.0, -math.inf, 3.0]])
assert torch.allclose(once(0.0, TOP_P, tied), torch.tensor([0, 0.5, 0, 0.5])), (
    f"temperature 0, two are likeliest and share it; you: {once(0.0, TOP_P, tied)}")
assert torch.allclose(once(math.inf, 1.0, tied), torch.tensor([1 / 3, 1 / 3, 0, 1 / 3])), (
    f"never is never: 1/3 1/3 0 1/3; you: {once(math.inf, 1.0, tied)}")
none = torch.full((1, 4), -math.inf)
assert once(1.0, TOP_P, none).tolist() == [0, 0, 0, 0], (
    f"nothing may be drawn: zeros; you: {once(1.0, TOP_P, none)}")
codes = drawn(p.expand(5, 4), torch.tensor([0.0, 0.499, 0.5, 0.625, 0.99999]))
assert codes.tolist() == [0, 0, 1, 2, 3], (
    f"sums 0.5 0.625 0.875 1, the first above u: 0 0 1 2 3; you: {codes}")
codes = drawn(torch.tensor([[0.0, 0.5, 0.0, 0.4999, 0.0], [0.0] * 5]), torch.tensor([0.99995, 0.0]))
assert codes.tolist() == [3, -1], (
    f"sums that end at 0.9999: the last code that has a chance, 3; no chances: -1; you: {codes}")
assert drawn(torch.tensor([[0.0, 1.0]]), torch.tensor([0.0])).tolist() == [1], "u of 0: code 1"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _row(logits, temperature, top_p):
    """One row, with numbers of Python."""
    top = max(logits)
    if top == -math.inf:
        return [0.0] * len(logits)
    def weight(x):
        if x == -math.inf:
            return 0.0
        if x == top or temperature == math.inf:
            return 1.0
        return math.exp((x - top) / temperature) if temperature > 0 else 0.0
    weights = [weight(x) for x in logits]
    if top_p < 1:
        kept, total = 0.0, math.fsum(weights)
        for x in sorted(set(weights), reverse=True):
            number, some = weights.count(x), 0
            while some < number and kept < top_p * total:
                kept, some = kept + x, some + 1
            if kept >= top_p * total:
                weights = [w if w >= x else 0.0 for w in weights]
                break
    total = math.fsum(weights)
    return [w / total for w in weights]

def _right(logits, temperature, top_p, message):
    given = (logits, temperature, top_p)
    before = [one.clone() for one in given]
    found = chances(*given)
    assert all(truth.equal(one.nan_to_num(neginf=-1e9, posinf=1e9),
                           copy.nan_to_num(neginf=-1e9, posinf=1e9))
               for one, copy in zip(given, before)), "arguments are changed"
    assert found.dtype == logits.dtype, f"wrong precision: {message}"
    wanted = torch.tensor([_row(row, t, p) for row, t, p in zip(
        before[0].tolist(), before[1].tolist(), before[2].tolist())], dtype=torch.float64)
    assert truth.close(found, wanted, rtol=1e-3, atol=1e-6), f"wrong chances: {message}"
    assert truth.equal(found == 0, wanted.to(logits.dtype) == 0), f"wrong codes stay: {message}"

def _drawn(p, u, message):
    before = p.clone(), u.clone()
    found = drawn(p, u)
    assert truth.equal([p, u], list(before)), "drawn changes its arguments"
    assert found.dtype == torch.int64, f"codes are int64: {message}"
    wanted = []
    for row, number in zip(p.double().tolist(), u.double().tolist()):
        total, code = 0.0, -1
        for n, one in enumerate(row):
            total = total + one
            code = n if one > 0 else code
            if one > 0 and total > number:
                break
        wanted.append(code)
    assert truth.equal(found, torch.tensor(wanted)), f"wrong codes drawn: {message}"

_generator = hidden.generator("logits")
_rows = lambda value, batch: torch.full((batch,), float(value))
for _case in range(4):
    _batch, _bins = hidden.integer(f"batch {_case}", 1, 5), hidden.integer(f"bins {_case}", 1, 40)
    _x = 2 * torch.randn(_batch, _bins, generator=_generator)
    _t = 0.2 + 2 * torch.rand(_batch, generator=_generator)
    _p = 0.05 + 0.9 * torch.rand(_batch, generator=_generator)
    _right(_x, _t, _p, f"{_bins} codes")
    _right(_x.round(), _t, 0 * _p + 1, "nothing left out")
_x = 2 * torch.randn(6, 12, generator=_generator)
_ends = torch.tensor([0.0, math.inf, 1, 0, math.inf, 0.5])
_right(_x, _ends, torch.tensor([0.3, 0.55, 0.9, 1, 1, 1e-6]), "temperatures 0 and without end")
_right(_x.round(), _ends, _rows(0.61, 6), "logits that tie")
_right(torch.tensor([[3.0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 3]]), _rows(1, 2), _rows(0.8, 2),
       "ties where the nucleus ends")
_right(torch.zeros(3, 8), torch.tensor([0.0, 1, math.inf]), _rows(0.3, 3), "all codes equal")
_holes = _x.clone()
_holes[:, ::3] = -math.inf
_holes[1] = -math.inf
_holes[4, 1:] = -math.inf
_right(_holes, _ends, _rows(0.9, 6), "codes and rows that may not be drawn")
_right(_holes, _rows(0.7, 6), _rows(1, 6), "rows that may not be drawn, nothing left out")
_right(_x - 40 * torch.arange(12), _rows(1, 6), _rows(1, 6), "chances of 1e-190 and less")
_right(_x, torch.tensor([1e-30, 1e-6, 1e6, 1e30, 1e-3, 40]), _rows(0.7, 6), "extreme temperatures")
_right(1e30 * _x, _rows(1e30, 6), _rows(0.7, 6), "logits and temperatures of 1e30")
_right(_x.T.contiguous().T, _rows(1, 6), _rows(0.8, 6), "not contiguous")
for _edge, _level, (_y,) in edges.mutated(_x):
    _right(_y, torch.full((6,), _level, dtype=_y.dtype), torch.full((6,), 0.75, dtype=_y.dtype),
           _edge)
    _drawn(_y.double().softmax(-1).to(_y.dtype),
           torch.rand(6, generator=_generator).to(_y.dtype), _edge)
_p = torch.tensor([0.0, 0.25, 0.0, 0.0, 0.5, 0.125, 0.125, 0.0])
_u = torch.tensor([0.0, 0.2, 0.25, 0.3, 0.74, 0.75, 0.86, 0.875, 0.999, 1 - 2 ** -24])
_drawn(_p.expand(10, 8), _u, "codes without a chance between others")
_drawn(0.999 * _p.expand(10, 8), _u, "sums that end at 0.999")
_drawn(_p.expand(10, 8) * (_u[:, None] > 0.25), _u, "rows without a chance")
_drawn(torch.full((3, 3), 1 / 3), torch.tensor([0.0, 0.5, 1 - 2 ** -24]), "thirds")
_drawn(torch.ones(2, 1), torch.tensor([0.0, 0.9]), "one code")
_drawn(torch.tensor([[1 - 1e-6, 0, 1e-6]]).double(), torch.tensor([1 - 1e-9]).double(), "rare")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: window by window, under the level above
#
# An upsampler writes a song (12.12): `ratio` of its codes stand under one code of the level above, and its window takes `context` codes. Some of them may be given. Write the rest, window by window, with a function `draw` that does the sampling.
#
# Let $t$ codes be there, and $T$ be asked for. The next window begins as **early** as it can, to hear as much of the past as possible, provided that
# - it begins under the *first* of the `ratio` codes of a code above, that is at a multiple of `ratio`,
# - it has room for at least `fresh` new codes, or for all that are missing, if these are fewer.
#
# It is filled up: codes are drawn to its end, or to the song's, so that there are never more than $T$. `draw` gets what is known in the window, the codes above that lie over it (from its first code to the last one that is drawn), and how many to draw. It isn't called where nothing is missing.

# %%
# TASK 5 (4 points): window by window, under the level above
def written(draw, given, above, total, context, fresh, ratio):
    """The codes of a song: (batch, total), beginning with what is given, of its type.

    draw: a function of known codes (batch, known), the codes above them (batch, some) and a number,
    to so many new codes (batch, number). given: (batch, time), time from 0 on. above: (batch, at
    least total / ratio). total: T. context: codes of a window, a multiple of ratio. fresh: from 1
    to context - ratio + 1.
    """
    ### BEGIN SOLUTION
    codes = given[:, :total]
    while codes.shape[1] < total:
        time = codes.shape[1]
        room = min(fresh, total - time)
        start = max(0, -(-(time + room - context) // ratio) * ratio)
        stop = min(start + context, total)
        new = draw(codes[:, start:], above[:, start // ratio:-(-stop // ratio)], stop - time)
        codes = torch.cat([codes, new.to(codes.dtype)], 1)
    return codes.clone()
    ### END SOLUTION

# %%
# CHECK 5
calls = []
def counting(known, above, number):
    """Draws whole numbers that go on counting, and notes what it was given."""
    calls.append((known[0].tolist(), above[0].tolist(), number))
    last = known[:, -1:] if known.shape[1] else torch.full((len(known), 1), -1)
    return last + 1 + torch.arange(number)

above = torch.arange(100, 110)[None]
found = written(counting, torch.zeros(1, 0).long(), above, 11, 6, 2, 2)
assert found.tolist() == [list(range(11))], f"codes 0 to 10, each written once; you: {found}"
assert calls[0] == ([], [100, 101, 102], 6), (
    f"first an empty window of 6 codes, under the first three above; you: {calls[0]}")
assert calls[1] == ([2, 3, 4, 5], [101, 102, 103], 2), (
    f"room for 2 at least: from code 2 on, under 101 to 103; you: {calls[1]}")
assert calls[2:] == [([4, 5, 6, 7], [102, 103, 104], 2), ([6, 7, 8, 9], [103, 104, 105], 1)], (
    f"then from 4, then from 6, for one code that is missing; you: {calls[2:]}")
calls.clear()
found = written(counting, torch.tensor([[7, 8, 9]]), above, 3, 6, 2, 2)
assert found.tolist() == [[7, 8, 9]] and not calls, f"nothing is missing: no calls; you: {calls}"
written(counting, torch.arange(7)[None], above, 20, 6, 3, 2)
assert calls[0] == ([4, 5, 6], [102, 103, 104], 3), (
    f"seven given, room for 3: 4 is the first multiple of 2 that will do; you: {calls[0]}")
calls.clear()
written(counting, torch.arange(5)[None], torch.arange(99)[None], 12 * RATIO, 4 * RATIO, 1, RATIO)
assert all(known[0] % RATIO == 0 and above[0] == known[0] // RATIO for known, above, _ in calls), (
    f"windows begin at multiples of {RATIO}, and the codes above with them; you: {calls}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _upsampler(calls, dtype):
    """New codes that depend on all that is given: places, values and how many."""
    def draw(known, above, number):
        assert known.ndim == above.ndim == 2 and len(known) == len(above), (
            f"draw gets (batch, known) and (batch, some), not {known.shape} and {above.shape}")
        assert type(number) is int and number > 0, f"draw is asked for {number} codes"
        calls.append((known.clone(), above.clone(), number))
        weights = 1 + torch.arange(known.shape[1])
        seen = (known.long() * weights).sum(1) + 3 * known.shape[1] + 7 * number
        over = (above.long() * (2 + torch.arange(above.shape[1]))).sum(1)
        new = (seen + 5 * over)[:, None] * torch.arange(1, number + 1) % 251
        return new.to(dtype)
    return draw

def _plan(time, total, context, fresh, ratio):
    """Windows found by trying every beginning."""
    windows = []
    while time < total:
        needed = min(fresh, total - time)
        start = next(s for s in range(0, time + 1, ratio) if s + context - time >= needed)
        stop = min(start + context, total)
        windows.append((start, time, stop))
        time = stop
    return windows

def _right(batch, time, total, context, fresh, ratio, message, dtype=torch.int64, far=3, top=250):
    given = torch.randint(0, top, (batch, time), generator=_generator).to(dtype)
    above = torch.randint(0, 500, (batch, -(-total // ratio) + far), generator=_generator)
    before, calls = (given.clone(), above.clone()), []
    found = written(_upsampler(calls, dtype), given, above, total, context, fresh, ratio)
    message = (f"{message}: {time} given, {total} asked for, context {context}, fresh {fresh}, "
               f"ratio {ratio}")
    assert truth.equal([given, above], list(before)), "the function changes its arguments"
    codes, windows = before[0][:, :total], _plan(time, total, context, fresh, ratio)
    assert len(calls) == len(windows), f"{len(windows)} windows are needed, {message}"
    draw = _upsampler([], dtype)
    for (start, old, stop), (known, over, number) in zip(windows, calls):
        assert truth.equal(known, codes[:, start:old]), f"wrong codes are known, {message}"
        expected = before[1][:, start // ratio:(stop + ratio - 1) // ratio]
        assert truth.equal(over, expected), f"wrong codes above, {message}"
        assert number == stop - old, f"another number should be drawn, {message}"
        codes = torch.cat([codes, draw(known, over, number)], 1)
    assert found.dtype == dtype, f"codes keep their type, {message}"
    assert truth.equal(found, codes), f"wrong codes, {message}"

_generator = hidden.generator("codes")
for _case in range(8):
    _ratio = hidden.integer(f"ratio {_case}", 1, 5)
    _context = _ratio * hidden.integer(f"context {_case}", 2, 8)
    _fresh = hidden.integer(f"fresh {_case}", 1, _context - _ratio + 1)
    _time = hidden.integer(f"time {_case}", 0, 40)
    _right(1 + _case % 3, _time, _time + hidden.integer(f"more {_case}", 1, 60), _context, _fresh,
           _ratio, "a song")
_right(2, 5, 40, 12, 10, 3, "as much that is new as there is room for")
_right(2, 11, 40, 12, 9, 3, "a window that is nearly full")
_right(2, 12, 40, 12, 1, 3, "a window that is full")
_right(1, 3, 9, 12, 4, 3, "a song shorter than a window")
_right(1, 7, 13, 8, 5, 4, "an end inside of what stands under a code above")
_right(2, 0, 30, 6, 6, 1, "one code under each")
_right(2, 10, 11, 8, 5, 4, "one code missing")
_right(2, 14, 30, 8, 4, 4, "no more above than needed", far=0)
edges.case("zeros inside")
_right(2, 9, 40, 8, 3, 4, "nothing but zeros given", top=1)
edges.case("short")
for _time, _total in ((0, 1), (0, 0), (1, 1), (5, 5), (9, 4), (4, 0)):
    _right(1, _time, _total, 4, 1, 2, "short songs")
edges.case("tiny")
_right(1, 3, 9, 1, 1, 1, "a context of one code")
_right(1, 3, 9, 2, 1, 2, "a context of one code above")
edges.case("huge")
_right(1, 10, 3000, 10 ** 9, 10 ** 8, 10, "a context longer than the song")
_right(1, 2000, 2100, 1024, 100, 128, "a long song")
edges.case("other type")
_right(2, 9, 40, 12, 5, 3, "codes of 32 bits", torch.int32)
_right(2, 0, 25, 12, 5, 3, "codes of 8 bits", torch.uint8)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: how far back is it worth looking?
#
# Counting is the simplest prior: how often came this code, where the codes before were *these*? The more of them one asks for, the more one knows, and the less often one has seen just that. The cell below gives you melodies as codes (section 12.1), counts of codes after any **lags** (lag 1 is the code before, lag 16 that of one bar earlier), and the bits per code of a melody. Where a context is rare, the guess leans on the shorter one, without the last lag.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many melodies your numbers rest,
# - a table: for several lists of lags, with 0 to 4 codes just before and with and without the code of a bar earlier, the bits per code of a melody that is new; of the same melody, new, where all others were counted in eleven keys (`moved`); and of the same melody where it was **counted, too**,
# - in how many of your melodies a longer context is better, for each kind of bits. Which list is best for new melodies, and which for melodies that were counted?
# - a reading: what do more codes buy, and what do they cost? Why is the best list for what was counted not the best for what is new? What does counting in eleven keys change, and for which lists most? What does the code a bar earlier know that the four codes before don't?
# - chapter 12's transformer sees eight bars at once. Why can't counts do that? And one thing that this experiment can't tell.

# %%
# EXPERIMENT: melodies as codes, counts after any lags, bits per code; write your own cells below
REST, HOLD, BAR_CODES, BLIND = 0, 1, 16, 130


def melody(number):
    """The first eight bars of a song's singer, as a list of codes; None where nobody sings."""
    import numpy
    from course_lib.data.band import compose
    song = compose(number)
    step = lambda time: int(abs(grid - time).argmin())              # the sixteenth nearest to it
    notes = [note for part in song.parts if (part.stem, part.role) == ("vocals", "lead")
             for note in part.notes]
    sixteenths = numpy.arange(4 * len(song.beats) - 3) / 4
    grid = numpy.interp(sixteenths, range(len(song.beats)), song.beats)
    codes = [REST] * len(grid)
    for note in sorted(notes):
        first, last = step(note.onset), step(note.onset + note.duration)
        codes[first:last] = [HOLD] * (last - first)
        codes[first] = 2 + note.pitch
    return codes[:8 * BAR_CODES] if notes and len(codes) >= 8 * BAR_CODES else None


def moved(codes, semitones):
    """All notes moved; rests and holds stay."""
    return [code + semitones if code > HOLD else code for code in codes]


def context(codes, t, lags):
    """What stood `lags` before place t; None before the melody."""
    return tuple(codes[t - lag] if t >= lag else None for lag in lags)


def counted(rows, lags):
    """For no lag, the first one, the first two ... all: {context: {code: how often}}."""
    tables = [{} for _ in range(len(lags) + 1)]
    for row in rows:
        for t, code in enumerate(row):
            for n, table in enumerate(tables):
                after = table.setdefault(context(row, t, lags[:n]), {})
                after[code] = after.get(code, 0) + 1
    return tables


def bits(tables, lags, codes, mass=4.0):
    """Bits per code of a melody by these counts; where a context is rare, a shorter one helps."""
    spent = 0.0
    for t, code in enumerate(codes):
        chance = 1 / BLIND                                          # from no lag to all of them
        for n, table in enumerate(tables):
            after = table.get(context(codes, t, lags[:n]), {})
            chance = (after.get(code, 0) + mass * chance) / (sum(after.values()) + mass)
        spent -= math.log2(chance)
    return spent / len(codes)

# For example:  others = [row for n in range(1000, 1080) if (row := melody(n))]
#               new = melody(2000)
#               bits(counted(others, [1, 16]), [1, 16], new)
#               bits(counted([*others, new], [1, 16]), [1, 16], new)

# %% [markdown]
# <!-- TASK 6 (6 points): how far back is it worth looking? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: how many melodies are counted and how many are asked about, which lags, how rare contexts are helped out; only the lags and what was counted vary, and a new melody is really new.
# - 2 points: the table with plausible numbers, on more than one melody with the number of melodies in which the longer context is better, or with a remark that one melody is not evidence.
# - 2 points: a right reading with a reason. Expected: for *new* melodies one code before is worth half a bit, in 7 of 8, and everything beyond costs: two codes are worse than one in all 8, four worse by 0.4 bits. For a melody that was counted, too, each code more is better, the fourth in all 8, and four codes are best of all: they know by heart what came after just these, and a context that is so long has seldom been seen anywhere else.
#   A longer context says more where it has been seen often enough; it is seen the less often the longer it is, and what was seen once is taken for a rule. Eleven keys make other melodies' turns count where they stand on other notes: that helps the long contexts most (0.34 bits for four codes, 0.38 for two and the bar, 0.09 for one, none for no code), and now the code before *and* that of a bar earlier are best, in the mean.
#   The bar earlier tells whether a note began at this place of the rhythm; the four codes before are mostly "goes on" or a rest and say little of it. Beside the code before it gains 0.09 bits for new melodies if eleven keys are counted, though only in 5 of 8, and loses 0.07 if they aren't: too seldom has one seen just this pair. An answer that takes the last column for how good a prior is gets at most one point here.
# - 1 point: of eight bars each context occurs once: a table can't tell a context from one that differs in a single code, while a transformer gives similar contexts similar guesses, and learns which codes matter. And a limit, such as: 61 melodies of one band, whose best list may be another one with ten times as many; the weight of shorter contexts (`mass`) was not varied; bits don't say how a melody sounds that was drawn; melodies as codes are not a codec's codes, of which there are hundreds a second.
#
# For comparison, means over the melodies 2000 to 2003, 2005 to 2007 and 2010, and the 61 of the songs 1000 to 1079, with the cell above (bits per code).
#
# | looked at | new | new, counted in eleven keys | counted, too |
# |---|---|---|---|
# | 0 codes | 2.50 | 2.49 | 2.46 |
# | 1 code | 2.03 | 1.94 | 1.84 |
# | 2 codes | 2.18 | 1.99 | 1.69 |
# | 3 codes | 2.29 | 2.06 | 1.49 |
# | 4 codes | 2.43 | 2.09 | 1.24 |
# | 0 codes, and a bar earlier | 2.44 | 2.30 | 2.18 |
# | 1 code, and a bar earlier | 2.10 | 1.85 | 1.49 |
# | 2 codes, and a bar earlier | 2.33 | 1.95 | 1.31 |
# <!-- END RUBRIC -->
