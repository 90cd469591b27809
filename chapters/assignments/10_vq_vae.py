# %% [markdown]
# # Assignment 10 · Letters under the lens
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 10, but none is a copy of it: you find out how close a call each letter was, write down all gradients of the three losses,
# move a codebook without its sums and say when a code dies, count what a letter costs if the one before it is known, and restart codes
# where they are missed most. Read what is asked for, above all at the edges (a tie, two equal codes, a code that nobody chose, a batch without a vector that counts, a song of one letter).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.vqvae` don't count as your own work, nor does changing
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
CODES = variation.integer("codes", 5, 9)  # of a codebook
DIM = variation.integer("dim", 2, 4)  # numbers of a code
BETA = variation.choice("beta", [0.25, 0.5, 2.0])  # weight of the commitment loss
DECAY = variation.choice("decay", [0.8, 0.9, 0.95])
SHIFT = variation.choice("shift", [2000.0, 3000.0, 5000.0])

# %% [markdown]
# ## Task 1: how close a call was it?
#
# The nearest code (10.2) says nothing about how near the *second* was. Take a vector $z$ in the cell of its code: how far is it, on the shortest way, from a place where another code is just as near? The cells' borders are straight, half way between two codes (section 10.2), so the answer is a short formula.
#
# Give the letters and these distances.
# - Of equally near codes the lowest number wins, and the distance is then 0.
# - A codebook may hold the same code twice. Between equal codes there is no border: the second one never wins, and doesn't count.
# - Where there is no other code, the distance is infinite.
# - Vectors and codes may lie a thousand times farther from the origin than from each other, where (10.3) has no digits left; and they may be as small as $10^{-25}$ or as large as $10^{25}$, and single precision can't hold their squares. Letters must be right, distances to three digits.

# %%
# TASK 1 (5 points): how close a call was it
def letters_and_borders(z, codebook):
    """The nearest code of each vector and its distance from the border of this code's cell.

    z: (..., dim), any number of axes in front, also none. codebook: (code, dim), at least one.
    Returns whole numbers (...), int64, and distances (...), 0 or more.
    """
    ### BEGIN SOLUTION
    x, e = z.double(), codebook.double()
    letters = (x.unsqueeze(-2) - e).square().sum(-1).argmin(-1)     # (...)
    own = e[letters].unsqueeze(-2)                                  # (..., 1, dim)
    apart = own - e                                                 # (..., code, dim)
    width = apart.square().sum(-1).sqrt()                           # (..., code)
    beyond = ((x.unsqueeze(-2) - (own + e) / 2) * apart).sum(-1)
    borders = torch.where(width > 0, beyond / torch.where(width > 0, width, 1), math.inf)
    return letters, borders.amin(-1).clamp_min(0).to(z.dtype)
    ### END SOLUTION

# %%
# CHECK 1
codebook = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
z = torch.tensor([[1.5, 0.0], [2.0, 0.0], [1.0, 1.0], [9.0, 0.0]])
letters, borders = letters_and_borders(z, codebook)
assert letters.shape == (4,) and borders.shape == (4,), (
    f"four vectors: (4,) and (4,); you: {tuple(letters.shape)} and {tuple(borders.shape)}")
assert letters.tolist() == [0, 0, 0, 1], f"letters 0 0 0 1 (a tie: the lowest); you say {letters}"
assert torch.allclose(borders, torch.tensor([0.5, 0.0, 0.5, 6.5]), atol=1e-5), (
    f"(1.5, 0) is 0.5 from the border at 2, (2, 0) on it, (1, 1) is 0.5 from the line half way to "
    f"code 2, (9, 0) is 6.5 from that between codes 1 and 2: 0.5 0 0.5 6.5; you say {borders}")
letters, borders = letters_and_borders(z, codebook[[0, 1, 0]])
assert letters.tolist() == [0, 0, 0, 1] and torch.allclose(
    borders, torch.tensor([0.5, 0.0, 1.0, 7.0]), atol=1e-5), (
    f"codes 0 and 2 equal: as if there were two codes, 0.5 0 1 7; you say {letters}, {borders}")
assert letters_and_borders(z, codebook[:1])[1].tolist() == [math.inf] * 4, "one code: no border"
generator = torch.Generator().manual_seed(1)
book, points = (torch.randn(n, DIM, generator=generator) for n in (CODES, 20))
letters, borders = letters_and_borders(points, book)
steps = torch.randn(20, 50, DIM, generator=generator)
steps = 0.99 * borders[:, None, None] * steps / steps.norm(dim=-1, keepdim=True)
after, _ = letters_and_borders(points[:, None] + steps, book)
assert (after == letters[:, None]).all(), "a step shorter than the distance changes a letter"
far_book = book + SHIFT
far = letters_and_borders(book[:, None] + 0.001 + SHIFT, far_book)[0]
assert (far[:, 0] == torch.arange(CODES)).all(), f"letters are wrong {SHIFT:.0f} from the origin"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _both(z, codebook):
    """Vector by vector in double precision, the codes' differences scaled to 1."""
    letters, borders = [], []
    codes = codebook.double()
    for vector in z.double().reshape(-1, z.shape[-1]):
        scale = max(float((vector - codes).abs().max()), 1e-300)
        away = [float(((vector - e) / scale).square().sum()) for e in codes]
        own = away.index(min(away))
        letters.append(own)
        found = [math.inf]
        for e in codes:
            apart = (e - codes[own]) / scale
            if apart.any():
                middle = (codes[own] / 2 + e / 2 - vector) / scale
                found.append(scale * float((middle * apart).sum() / apart.norm()))
        borders.append(max(0.0, min(found)))
    shape = z.shape[:-1]
    return (torch.tensor(letters, dtype=torch.int64).reshape(shape),
            torch.tensor(borders, dtype=torch.float64).reshape(shape))

def _right(z, codebook, message, level=1.0):
    before = z.clone(), codebook.clone()
    found, expected = letters_and_borders(z, codebook), _both(z, codebook)
    assert truth.equal([z, codebook], list(before)), "the function changes its arguments"
    assert type(found) in (tuple, list) and len(found) == 2, "letters and distances are asked for"
    assert found[0].dtype == torch.int64, f"letters are int64: {message}"
    assert found[1].dtype == z.dtype, f"wrong precision: {message}"
    assert truth.equal(found[0], expected[0]), f"wrong letters: {message}"
    assert truth.close(found[1].double() / level, expected[1] / level, rtol=2e-3, atol=2e-5), (
        f"wrong distances: {message}")

_generator = hidden.generator("vectors")
for _case, _front in enumerate(((), (7,), (2, 5), (3, 1, 4), (0,))):
    _dim, _size = (hidden.integer(f"{_name} {_case}", 1, 7) for _name in ("dim", "codes"))
    _book = torch.randn(_size, _dim, generator=_generator)
    _z = torch.randn(*_front, _dim, generator=_generator)
    _right(_z, _book, f"z {tuple(_z.shape)}, {_size} codes")
    _right(3 * _z, _book, "vectors outside of the codes")
_grid = torch.randint(-2, 3, (40, 2), generator=_generator).float()
_right(_grid, torch.tensor([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]), "ties")
_right(_grid, torch.tensor([[1.0, 1], [1, 1], [-1, 1], [-1, 1]]), "codes that are equal")
_right(_grid, torch.ones(3, 2), "all codes are equal")
_right(_grid, torch.tensor([[0.0, 0], [0, 1e-3], [0, 5]]), "codes that are nearly equal")
_right(_grid, torch.cat([9 + _grid[:5], torch.tensor([[0.25, 0], [0, 3]])]), "the last codes win")
_book, _z = (torch.randn(_n, 3, generator=_generator) for _n in (12, 30))
for _far in (1000.0, hidden.real("far", -6000.0, -2000.0), 4000.0):
    _right(_z + _far, _book + _far, f"{_far:.0f} from the origin")
for _size in (1e-25, 1e25, 1e-18, 1e18):
    _right(_size * _z, _size * _book, f"vectors and codes of {_size:g}", _size)
_right(_z.view(5, 6, 3).transpose(0, 1), _book.T.contiguous().T, "not contiguous")
_right(_book, _book, "the codes themselves")
for _edge, _level, (_z, _book) in edges.mutated(_z, _book):
    _right(_z, _book, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: all gradients, by hand
#
# Songs of different lengths stand in one batch, the short ones filled up with zeros. So a `mask` says which vectors count. With the decoder's loss $R(e_\mathrm{st})$, the weight $\alpha$ of the codebook loss, and *means* over the numbers of the vectors that **count**,
#
# $$ L = R(e_\mathrm{st}) + \alpha\, \overline{(\mathrm{sg}(z) - e)^2} + \beta\, \overline{(z - \mathrm{sg}(e))^2}, \qquad e_\mathrm{st} = z + \mathrm{sg}(e - z). $$
#
# The decoder has already told what it wants, $g = \partial R / \partial e_\mathrm{st}$. Give $\partial L / \partial z$ and $\partial L / \partial$ codebook. What $g$ says holds everywhere, whatever the mask. If no vector counts, both means are 0. Which number gets which gradient is all that counts here, not how you compute it.

# %%
# TASK 2 (5 points): all gradients, by hand
def gradients(z, codebook, codes, g, mask, alpha=1.0, beta=0.25):
    """The gradients of L by the vectors (batch, dim, step) and by the codebook (code, dim).

    z: (batch, dim, step). codebook: (code, dim). codes: (batch, step), int64, that of each vector.
    g: of z's shape. mask: bool (batch, step). alpha, beta: numbers from 0 on.
    """
    ### BEGIN SOLUTION
    count = max(1, int(mask.sum()) * z.shape[1])
    e = F.embedding(codes, codebook).mT                             # (batch, dim, step)
    pull = 2 * (z - e) * mask[:, None] / count
    rows = -alpha * pull.mT.flatten(0, 1)                           # (batch * step, dim)
    return g + beta * pull, torch.zeros_like(codebook).index_add(0, codes.flatten(), rows)
    ### END SOLUTION

# %%
# CHECK 2
z = torch.tensor([[[3.0, 5.0, 0.0]]])  # (batch, dim, step): three vectors of one number
codebook, codes = torch.tensor([[1.0], [9.0]]), torch.tensor([[0, 0, 0]])
g, everything = torch.tensor([[[10.0, 20.0, 30.0]]]), torch.ones(1, 3, dtype=torch.bool)
of_z, of_codes = gradients(z, codebook, codes, g, everything, 1.0, 0.5)
assert of_z.shape == (1, 1, 3) and of_codes.shape == (2, 1), (
    f"(1, 1, 3) and (2, 1); you: {tuple(of_z.shape)} and {tuple(of_codes.shape)}")
assert torch.allclose(of_z, g + 0.5 * 2 / 3 * (z - 1), atol=1e-5), (
    f"g plus 0.5 times 2/3 of 2, 4 and -1; you say {of_z}")
assert torch.allclose(of_codes, torch.tensor([[-2 / 3 * 5], [0.0]]), atol=1e-5), (
    f"three vectors pull at code 0, by -2/3 (2 + 4 - 1), none at code 1; you say {of_codes}")
of_z, of_codes = gradients(z, codebook, codes, g, torch.tensor([[True, True, False]]), 3.0, 0.5)
assert torch.allclose(of_z, torch.tensor([[[11.0, 22.0, 30.0]]]), atol=1e-5), (
    f"the third vector doesn't count, 2/2 for the others: 11 22 30; you say {of_z}")
assert torch.allclose(of_codes, torch.tensor([[-18.0], [0.0]]), atol=1e-5), (
    f"alpha 3: -3 (2 + 4); you say {of_codes}")
generator = torch.Generator().manual_seed(2)
z, g = torch.randn(2, 2, DIM, 11, generator=generator)
codebook = torch.randn(CODES, DIM, generator=generator)
codes, mask = torch.randint(CODES, (2, 11), generator=generator), torch.arange(22).view(2, 11) < 19
of_z, of_codes = gradients(z, codebook, codes, g, mask, 1.0, BETA)
assert torch.equal(of_z[1, :, -3:], g[1, :, -3:]), "what doesn't count gets g and nothing else"
pulls = (of_z - g).sum((0, 2)) / BETA
assert torch.allclose(of_codes.sum(0), -pulls, atol=1e-5), (
    "the pulls at all codes are, together, those at all vectors, with the other sign")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _gradients(z, codebook, codes, g, mask, alpha, beta):
    """Number by number, in double precision."""
    of_z, of_codes = g.double().clone(), torch.zeros(codebook.shape, dtype=torch.float64)
    numbers = int(mask.sum()) * z.shape[1]
    for item, step in mask.nonzero().tolist():
        code = int(codes[item, step])
        away = z[item, :, step].double() - codebook[code].double()
        of_z[item, :, step] += beta * 2 * away / numbers
        of_codes[code] -= alpha * 2 * away / numbers
    return of_z, of_codes

def _right(z, codebook, codes, g, mask, alpha, beta, message, level=1.0):
    given = (z, codebook, codes, g, mask)
    before = [one.clone() for one in given]
    found = gradients(*given, alpha, beta)
    expected = _gradients(*before, alpha, beta)
    assert all(truth.equal(one, copy) for one, copy in zip(given, before)), "arguments are changed"
    assert type(found) in (tuple, list) and len(found) == 2, "two gradients are asked for"
    for one, wanted, what in zip(found, expected, ("vectors", "codebook")):
        assert one.dtype == z.dtype, f"wrong precision: {message}"
        assert truth.close(one.detach().double() / level, wanted / level, rtol=1e-3, atol=1e-5), (
            f"wrong gradient of the {what}: {message}")

_generator = hidden.generator("batches")
def _batch(batch, dim, steps, size, share=0.7):
    """A batch at random: vectors, codebook, codes, g, mask."""
    return (torch.randn(batch, dim, steps, generator=_generator),
            torch.randn(size, dim, generator=_generator),
            torch.randint(size, (batch, steps), generator=_generator),
            torch.randn(batch, dim, steps, generator=_generator),
            torch.rand(batch, steps, generator=_generator) < share)

for _case in range(5):
    _sizes = [hidden.integer(f"{_name} {_case}", 1, 6) for _name in ("batch", "dim")]
    _sizes += [hidden.integer(f"steps {_case}", 1, 30), hidden.integer(f"codes {_case}", 1, 9)]
    _weights = [hidden.real(f"{_name} {_case}", 0.1, 3.0) for _name in ("alpha", "beta")]
    _right(*_batch(*_sizes), *_weights, f"batch, dim, steps, codes {_sizes}")
    _right(*_batch(*_sizes, 1.0), *_weights, "everything counts")
_some = _batch(3, 4, 10, 6)
_right(*_some, 0.0, 0.5, "no codebook loss")
_right(*_some, 2.0, 0.0, "no commitment loss")
_right(*_some, 0.0, 0.0, "neither: g alone")
_right(*_some[:2], 0 * _some[2] + 3, *_some[3:], 1.0, 0.5, "all vectors have one code")
_right(*_some[:3], 0 * _some[3], _some[4], 1.0, 0.5, "the decoder wants nothing")
_right(*_some[:4], torch.zeros(3, 10, dtype=torch.bool), 1.0, 0.5, "no vector counts")
_one = torch.zeros(3, 10, dtype=torch.bool)
_one[1, 4] = True
_right(*_some[:4], _one, 1.0, 0.5, "one vector counts")
_right(_some[0].mT.contiguous().mT, *_some[1:3], _some[3].mT.contiguous().mT, _some[4], 1.0, 0.5,
       "vectors that are not contiguous")
_right(_some[1][_some[2]].mT, *_some[1:], 1.0, 0.5, "vectors on their codes")
assert truth.close(list(gradients(*_some)), list(_gradients(*_some, 1.0, 0.25)), rtol=1e-3), (
    "alpha and beta as they are by default")
for _edge, _level, (_z, _g) in edges.mutated(_some[0], _some[3]):
    _steps = _z.shape[-1]
    _right(_z, (_level * _some[1]).to(_z.dtype), _some[2][:, :_steps], _g, _some[4][:, :_steps],
           1.0, 0.5, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: averages without sums, and when a code dies
#
# Equation (10.12) keeps sums $m_k$ beside the codes. They aren't needed: before a batch $m_k = N_k e_k$. Give the codebook and the counts after a batch, without sums and without smoothing. A code that no vector of the batch has chosen stays **exactly** where it is, and so does one whose new count is 0. If only one code has been chosen, by a single vector, and its
# count was 0 before, it is now that vector.
#
# Then look at a code whose count is $N$ and that is chosen $n$ times in *every* batch from now on, $n = 0, 1, \ldots$ or a mean such as 0.3. After how many batches is its count *below* the threshold of a restart for the first time? 0 if it is now, infinity if it never will be. The decay may be $1 - 10^{-9}$, and then the answer has ten digits: no loop over batches comes to an end.

# %%
# TASK 3 (5 points): averages without sums, and when a code dies
def moved_codes(codebook, counts, z, codes, decay):
    """The codebook (code, dim) and the counts (code,) after a batch, by (10.12).

    codebook: (code, dim). counts: (code,), 0 or more, of the codebook's precision. z: (vector,
    dim), also none. codes: (vector,), int64, the code of each. decay: from 0 to 1.
    """
    ### BEGIN SOLUTION
    uses = torch.bincount(codes, minlength=len(codebook)).to(codebook.dtype)
    sums = torch.zeros_like(codebook).index_add(0, codes, z)        # (code, dim)
    after = decay * counts + (1 - decay) * uses
    share = (1 - decay) * uses / torch.where(after > 0, after, 1)
    means = sums / uses.clamp_min(1)[:, None]
    moved = codebook + share[:, None] * (means - codebook)
    moved = torch.where((share == 1)[:, None], means, moved)
    return torch.where((share > 0)[:, None], moved, codebook), after
    ### END SOLUTION


def batches_to_live(count, uses, decay, below):
    """After how many batches a count is below the threshold: a whole number, or math.inf.

    count: now, 0 or more. uses: in each batch, 0 or more. decay: from 0 to 1. below: the
    threshold, above 0.
    """
    ### BEGIN SOLUTION
    if count < below:
        return 0
    if uses >= below or decay == 1:
        return math.inf
    if decay == 0:
        return 1
    left = (below - uses) / (count - uses)                          # what decay^t must be below
    t = max(0, math.floor(math.log(left) / math.log(decay)) - 1)
    while not decay ** t < left:
        t += 1
    return t
    ### END SOLUTION

# %%
# CHECK 3
codebook, counts = torch.tensor([[0.0, 0.0], [4.0, 2.0], [7.0, 7.0]]), torch.tensor([3.0, 1.0, 0.0])
z, codes = torch.tensor([[1.0, 1.0], [3.0, 1.0], [5.0, 5.0]]), torch.tensor([0, 0, 2])
found, after = moved_codes(codebook, counts, z, codes, 0.5)
assert found.shape == (3, 2) and after.shape == (3,), (
    f"(3, 2) and (3,); you: {tuple(found.shape)} and {tuple(after.shape)}")
assert torch.allclose(after, torch.tensor([2.5, 0.5, 0.5])), (
    f"half of 3 1 0 and half of 2 0 1: 2.5 0.5 0.5; you say {after}")
assert torch.allclose(found[0], torch.tensor([0.8, 0.4]), atol=1e-5), (
    f"code 0: (1.5 (0, 0) + 0.5 (4, 2)) / 2.5 = (0.8, 0.4); you say {found[0]}")
assert torch.equal(found[1], codebook[1]), "code 1 was not chosen and stays exactly"
assert torch.allclose(found[2], z[2]), "code 2 had a count of 0: it is now its only vector"
generator = torch.Generator().manual_seed(3)
book, points = (torch.randn(n, DIM, generator=generator) for n in (CODES, 200))
codes = torch.cdist(points, book).argmin(1)
start = 1 + torch.rand(CODES, generator=generator)
sums, counts, now = book * start[:, None], start, (book, start)
for _ in range(3):
    sums = DECAY * sums + (1 - DECAY) * torch.zeros_like(book).index_add(0, codes, points)
    counts = DECAY * counts + (1 - DECAY) * torch.bincount(codes, minlength=CODES)
    now = moved_codes(*now, points, codes, DECAY)
assert torch.allclose(now[1], counts, atol=1e-3), "the counts after three batches are others"
assert torch.allclose(now[0], sums / counts[:, None], atol=1e-4), (
    "the codes after three batches are others than with sums")
found = [batches_to_live(*one) for one in ((8, 0, 0.5, 1), (8.1, 0, 0.5, 1), (0.5, 3, 0.5, 1),
                                           (8, 1, 0.5, 1), (9, 0.5, 0.5, 1), (5, 0, 0, 1))]
assert found == [4, 4, 0, math.inf, 5, 1], (
    f"8 4 2 1 is not below 1 yet: 4; 8.1: 4; 0.5 is below 1 already: 0; 1 in every batch is not "
    f"below 1: never; from 9 to 0.5, 8.5 0.5^t away: 5; decay 0: 1; you say {found}")
### BEGIN HIDDEN TESTS
from decimal import Decimal, getcontext
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
getcontext().prec = 40
def _moved(codebook, counts, z, codes, decay):
    """Code by code, with sums, in double precision."""
    new, after = codebook.double().clone(), counts.double().clone()
    for k in range(len(codebook)):
        mine = z[codes == k].double()
        after[k] = decay * counts[k].double() + (1 - decay) * len(mine)
        if len(mine) and after[k] > 0:
            new[k] = (decay * counts[k].double() * codebook[k].double()
                      + (1 - decay) * mine.sum(0)) / after[k]
    return new, after

def _right(codebook, counts, z, codes, decay, message, level=1.0):
    given = (codebook, counts, z, codes)
    before = [one.clone() for one in given]
    found, expected = moved_codes(*given, decay), _moved(*before, decay)
    assert all(truth.equal(one, copy) for one, copy in zip(given, before)), "arguments are changed"
    assert type(found) in (tuple, list) and len(found) == 2, "codebook and counts are asked for"
    assert found[0].dtype == found[1].dtype == codebook.dtype, f"wrong precision: {message}"
    assert truth.close(found[1], expected[1], rtol=1e-3, atol=1e-36), f"wrong counts: {message}"
    assert truth.close(found[0].double() / level, expected[0] / level, rtol=1e-3, atol=1e-4), (
        f"wrong codes: {message}")
    unused = torch.bincount(codes, minlength=len(codebook)) == 0
    if decay == 1:
        unused[:] = True
    assert truth.equal(found[0][unused], before[0][unused]), f"unused codes have moved: {message}"

def _lives(count, uses, decay, below):
    found = batches_to_live(count, uses, decay, below)
    case = f"{count:g} now, {uses:g} in each batch, decay {decay:g}, threshold {below:g}"
    if uses >= below <= count or (decay == 1 and count >= below):
        assert found == math.inf, f"it never falls below: {case}"
        return
    assert type(found) is int and found >= 0, f"a whole number (int) is asked for: {case}"
    at = lambda t: (Decimal(uses) + (Decimal(count) - Decimal(uses)) * Decimal(decay) ** t
                    if t else Decimal(count))
    assert at(found) < Decimal(below), f"too early: {case}"
    assert found == 0 or at(found - 1) >= Decimal(below), f"too late: {case}"

_generator = hidden.generator("vectors")
for _case in range(5):
    _size, _dim = hidden.integer(f"codes {_case}", 1, 9), hidden.integer(f"dim {_case}", 1, 5)
    _z = torch.randn(hidden.integer(f"vectors {_case}", 1, 40), _dim, generator=_generator)
    _codes = torch.randint(_size, (len(_z),), generator=_generator)
    _book = torch.randn(_size, _dim, generator=_generator)
    _counts = 9 * torch.rand(_size, generator=_generator)
    _counts = _counts * (torch.rand(_size, generator=_generator) < 0.7)
    for _decay in (hidden.real(f"decay {_case}", 0.05, 0.95), 0.99, 0.0, 1.0):
        _right(_book, _counts, _z, _codes, _decay, f"{_size} codes, {len(_z)} vectors, {_decay:g}")
    _right(_book, 0 * _counts, _z, _codes, 0.9, "counts of 0")
_right(_book, _counts, _z[:0], _codes[:0], 0.9, "a batch without a vector")
_right(_book, 1e-30 * (_counts + 1), _z[:0], _codes[:0], 0.5, "counts that have nearly vanished")
_right(1e6 * (1 + _book), 0 * _counts, _z, _codes, 0.9, "codes far from vectors, counts of 0")
_right(_book, _counts, _z.T.contiguous().T, _codes, 0.7, "not contiguous")
for _arguments in ((2 ** 20, 0, 0.5, 1), (2 ** 20, 0, 0.5, 2), (64, 0, 0.25, 1), (1, 0, 0.5, 1),
                   (1, 1, 0.9, 1), (0.2, 5, 0.9, 1), (0, 0, 0.9, 0.1), (3, 0.2, 1.0, 1),
                   (0.3, 0.2, 1.0, 1), (7, 0.5, 0.0, 1), (7, 2, 0.0, 1), (1.0, 0.999, 0.9, 1),
                   (3, 2, 0.5, 2.5), (2.5, 2, 0.5, 2.5)):
    _lives(*_arguments)
for _case in range(6):
    _lives(hidden.real(f"count {_case}", 1.0, 300.0), hidden.real(f"uses {_case}", 0.0, 0.9),
           hidden.real(f"gamma {_case}", 0.05, 0.999), 1.0)
edges.case("tiny")
_lives(hidden.real("tiny", 1e-9, 1e-8), 1e-12, 0.99, 1e-11)
edges.case("huge")
for _count in (1e9, 1e300):
    _lives(_count * hidden.real("huge", 1.0, 2.0), 0.5, 0.99, 1.0)
_lives(hidden.real("slow", 3.0, 9.0), 0, 1 - 1e-9, 1.0)
_lives(hidden.real("slower", 3.0, 9.0), 0.3, 1 - 2e-7, 0.5)
_z, _codes = torch.randn(9, 4, generator=_generator), torch.tensor([0, 1, 1, 3, 3, 3, 0, 0, 0])
_book, _counts = torch.randn(5, 4, generator=_generator), torch.tensor([2.0, 0, 5, 1e-3, 0])
for _edge, _level, (_z, _book) in edges.mutated(_z, _book):
    _right(_book, _counts.to(_book.dtype), _z, _codes, 0.9, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: what a letter costs
#
# By (10.7) a letter needs $H$ bits for someone who knows how often each one comes. Whoever also remembers the letter **before** needs fewer. With $p_{ab}$ the share of *pairs* of neighbours that are $a, b$, and $p_a$ the share of pairs that *begin* with $a$, it is
#
# $$ H_1 = -\sum_{a, b} p_{ab} \log_2 \frac{p_{ab}}{p_a} \ \text{bits.} $$
#
# Compute both, over several songs together: each is a list of letters, of any length. No pair goes from one song to the next. Where there is nothing to count, the answer is NaN. A letter may be **any** whole number, also below 0, as large as its type holds; a table of all letters that there could be doesn't fit anywhere.

# %%
# TASK 4 (4 points): what a letter costs
def bits_alone(songs):
    """H of all letters of the songs together: a number, in bits.

    songs: list of tensors (letter,) of whole numbers, all of one type (such as int64 or uint8);
    some may be empty, and so may the list.
    """
    ### BEGIN SOLUTION
    return _entropy(list(songs))


def _entropy(parts):
    """Bits of how often each row comes, over all parts."""
    if not sum(len(part) for part in parts):
        return math.nan
    counts = torch.unique(torch.cat(parts), dim=0, return_counts=True)[1].double()
    return float(torch.special.entr(counts / counts.sum()).sum()) / math.log(2)
    ### END SOLUTION


def bits_given_the_last(songs):
    """H_1 of the songs together: a number, in bits. The songs are as in bits_alone."""
    ### BEGIN SOLUTION
    pairs = [torch.stack([song[:-1], song[1:]], 1) for song in songs if len(song) > 1]
    return _entropy(pairs) - _entropy([pair[:, 0] for pair in pairs])
    ### END SOLUTION

# %%
# CHECK 4
song = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
found = bits_alone([song]), bits_given_the_last([song])
assert abs(found[0] - 1) < 1e-6 and abs(found[1]) < 1e-6, (
    f"0 1 0 1 ...: one bit alone, none if the last is known; you say {found}")
found = bits_given_the_last([torch.tensor([0, 0, 1, 1, 0])])
assert abs(found - 1) < 1e-6, (
    f"0 0 1 1 0: after each letter both come equally often, one bit; you say {found:.3f}")
found = bits_given_the_last([torch.tensor([7, 7, 7]), torch.tensor([2, 2])])
assert abs(found) < 1e-6, f"7 7 7 and 2 2: no pair goes from song to song, 0 bits; you {found:.3f}"
found = bits_alone([torch.tensor([7, 7, 7]), torch.tensor([2, 2])])
assert abs(found - 0.970951) < 1e-5, f"alone, 3/5 and 2/5: 0.971 bits; you say {found:.3f}"
assert math.isnan(bits_given_the_last([torch.tensor([4]), torch.tensor([9])])), "no pairs: NaN"
draw = torch.Generator().manual_seed(4)
song = torch.randint(CODES, (4000,), generator=draw)
found = bits_alone([song]) - bits_given_the_last([song])
assert 0 <= found < 0.05, f"letters drawn apart from each other: nearly the same; {found:.3f} less"
### BEGIN HIDDEN TESTS
from collections import Counter
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _bits(counts):
    total = sum(counts.values())
    return -math.fsum(n / total * math.log2(n / total) for n in counts.values())

def _right(songs, message):
    lists = [song.tolist() for song in songs]
    found = bits_alone(songs), bits_given_the_last(songs)
    assert [song.tolist() for song in songs] == lists, "the functions change their argument"
    letters = Counter(letter for song in lists for letter in song)
    pairs = Counter(pair for song in lists for pair in zip(song, song[1:]))
    firsts = Counter(letter for song in lists for letter in song[:-1])
    expected = (_bits(letters) if letters else math.nan,
                math.fsum(n / sum(pairs.values()) * math.log2(firsts[a] / n)
                          for (a, _), n in pairs.items()) if pairs else math.nan)
    for value, wanted, name in zip(found, expected, ("bits_alone", "bits_given_the_last")):
        assert type(value) is float, f"a float is asked for: {name}, {message}"
        assert math.isnan(wanted) == math.isnan(value), f"NaN if nothing counts: {name}, {message}"
        assert math.isnan(wanted) or truth.close(value, wanted), f"wrong {name}: {message}"

_generator = hidden.generator("songs")
def _songs(low, high, lengths):
    return [torch.randint(low, high, (length,), generator=_generator) for length in lengths]

for _case in range(6):
    _size = hidden.integer(f"size {_case}", 2, 12)
    _lengths = [hidden.integer(f"length {_case} {_n}", 0, 30) for _n in range(_case + 1)]
    _right(_songs(0, _size, _lengths), f"{_size} letters, songs of {_lengths}")
    _right([song.clamp_min(_size // 2) for song in _songs(0, _size, [9, *_lengths])],
           "letters that come more often")
_walk = (torch.randint(-1, 2, (500,), generator=_generator).cumsum(0) % 7)
_right([_walk[:200], _walk[200:201], _walk[201:]], "letters that follow each other")
_right([_walk[::2], _walk[1::2]], "not contiguous")
_right([torch.tensor([3, 1, 2, 3]), torch.tensor([5])], "each pair once, the last letter alone")
_right([torch.tensor([1, 1, 1, 1, 0])], "the last letter begins no pair")
edges.case("zeros inside")
_right([torch.tensor([0, 0, 5, 0, 0, 0, 5, 5]), torch.zeros(4, dtype=torch.int64)], "zeros")
edges.case("short")
for _lengths in ([], [0], [1], [1, 1], [2], [0, 2, 0], [1, 0, 3]):
    _right(_songs(0, 4, _lengths), f"songs of {_lengths} letters")
edges.case("tiny")
_right(_songs(-5, 3, [40, 11]), "letters below 0")
edges.case("huge")
_far = 2 ** 62
_right([2 * (song - 4) * (_far // 8) for song in _songs(0, 8, [50, 30])], "letters of 62 bits")
_right([_far + song for song in _songs(0, 3, [40, 9])], "letters that floats can't tell apart")
_right(_songs(0, 200_000, [300, 100]) * 2, "letters of a large alphabet")
edges.case("other type")
_right([song.to(torch.uint8) for song in _songs(0, 256, [60, 40])], "uint8")
_right([song.to(torch.int16) * 8191 for song in _songs(-3, 4, [60, 40])], "int16")
_right([song.to(torch.int32) * 715827882 for song in _songs(-2, 3, [60, 40])], "int32")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: restart where it hurts most
#
# Restarts (section 10.9) draw a vector at random: most of them come where many vectors are, and two may come to nearly the same place. Put dead codes where they are missed most instead. A code is dead if its count is **below** the threshold. The dead are moved one after the other, the least used first, of equally used the lowest number. Each goes to that vector of the batch which is
# **farthest from its nearest code**; of equally far vectors to the first.
#
# - What counts as a code are those that live and those that have been moved *before*. A dead code where it still lies counts for nothing. While there is no code at all, all vectors are equally far.
# - If all vectors have a code exactly where they are, the rest of the dead stay dead, and where they are.
# - A code that was moved has the threshold as its new count; all other counts stay.
#
# Vectors may again be far from the origin, or have squares that single precision can't hold.

# %%
# TASK 5 (5 points): restart where it hurts most
def restarted(codebook, counts, z, below):
    """The codebook (code, dim) and the counts (code,) after restarts.

    codebook: (code, dim). counts: (code,), of the same precision. z: (vector, dim), also none.
    below: the threshold, above 0.
    """
    ### BEGIN SOLUTION
    new, new_counts, x = codebook.clone(), counts.clone(), z.double()
    away = torch.full((len(z),), math.inf, dtype=torch.float64)     # squared, to the nearest
    for code in codebook[counts >= below].double():
        away = torch.minimum(away, (x - code).square().sum(1))
    dead = [k for k in counts.argsort(stable=True).tolist() if counts[k] < below]
    for k in dead:
        if not len(z) or away.max() == 0:
            break
        place = int(away.argmax())
        new[k], new_counts[k] = z[place], below
        away = torch.minimum(away, (x - x[place]).square().sum(1))
    return new, new_counts
    ### END SOLUTION

# %%
# CHECK 5
codebook = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 60.0], [9.0, 9.0]])
counts = torch.tensor([5.0, 0.5, 0.2, 1.0])
z = torch.tensor([[1.0, 0.0], [8.0, 9.0], [-6.0, 0.0], [0.0, 4.0], [-7.0, 0.0]])
found, after = restarted(codebook, counts, z, 1.0)
assert found.shape == (4, 2) and after.shape == (4,), (
    f"(4, 2) and (4,); you: {tuple(found.shape)} and {tuple(after.shape)}")
assert torch.equal(found[[0, 3]], codebook[[0, 3]]), "codes 0 and 3 live: 1 is not below 1"
assert found[2].tolist() == [-7.0, 0.0], (
    f"code 2 is used least and moves first, to (-7, 0), 7 from (0, 0); you say {found[2]}")
assert found[1].tolist() == [0.0, 4.0], (
    f"(-6, 0) has a code near it by now: code 1 moves to (0, 4); you say {found[1]}")
assert torch.equal(after, torch.tensor([5.0, 1.0, 1.0, 1.0])), f"counts 5 1 1 1; you say {after}"
found, after = restarted(codebook, torch.zeros(4), z[:1].repeat(3, 1), 0.5)
assert found[0].tolist() == [1.0, 0.0] and torch.equal(found[1:], codebook[1:]), (
    f"all dead, all vectors (1, 0): code 0 moves there, then nothing is missing; you say {found}")
assert after.tolist() == [0.5, 0.0, 0.0, 0.0], f"counts 0.5 0 0 0; you say {after}"
assert torch.equal(restarted(codebook, counts, z[:0], 9.0)[0], codebook), "no vectors: no moves"
points = torch.randn(40, DIM, generator=torch.Generator().manual_seed(5))
found, _ = restarted(torch.zeros(CODES, DIM), torch.zeros(CODES), points, 1.0)
assert torch.equal(found[0], points[0]), "no code lives: the first one moves to the first vector"
assert len(found.unique(dim=0)) == CODES, "two codes were moved to the same vector"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _restarted(codebook, counts, z, below):
    """All distances anew for each dead code, in double precision, the differences scaled to 1."""
    new, after = codebook.clone(), counts.clone()
    there = [k for k in range(len(counts)) if counts[k] >= below]
    order = sorted((float(counts[k]), k) for k in range(len(counts)) if counts[k] < below)
    for _, k in order:
        far, place = 0.0, None
        for number, vector in enumerate(z.double()):
            nearest = math.inf
            for j in there:
                apart = (vector - new[j].double()).tolist()
                nearest = min(nearest, math.hypot(*apart))
            if nearest > far * (1 + 1e-9):
                far, place = nearest, number
        if place is None:
            break
        new[k], after[k] = z[place], below
        there.append(k)
    return new, after

def _right(codebook, counts, z, below, message):
    given = (codebook, counts, z)
    before = [one.clone() for one in given]
    found, expected = restarted(*given, below), _restarted(*before, below)
    assert truth.equal(list(given), before), "arguments are changed"
    assert type(found) in (tuple, list) and len(found) == 2, "codebook and counts are asked for"
    assert found[0].dtype == found[1].dtype == codebook.dtype, f"wrong precision: {message}"
    assert truth.equal(found[0], expected[0]), f"wrong codes: {message}"
    assert truth.equal(found[1], expected[1]), f"wrong counts: {message}"

_generator = hidden.generator("vectors")
for _case in range(6):
    _size, _dim = hidden.integer(f"codes {_case}", 1, 9), hidden.integer(f"dim {_case}", 1, 4)
    _z = torch.randn(hidden.integer(f"vectors {_case}", 1, 15), _dim, generator=_generator)
    _book = 2 * torch.randn(_size, _dim, generator=_generator)
    _counts = torch.randint(0, 5, (_size,), generator=_generator) / 4.0
    for _below in (0.25, 0.75, 5.0):
        _right(_book, _counts, _z, _below, f"{_size} codes, {len(_z)} vectors, threshold {_below}")
_z, _book = torch.randn(12, 3, generator=_generator), torch.randn(5, 3, generator=_generator)
_counts = torch.tensor([0.5, 2, 0.5, 0.25, 1])
_right(_book, _counts, _z[:0], 1.0, "no vectors")
_right(_book, _counts + 1, _z, 1.0, "no dead codes")
_right(_z[[3, 0, 4, 5, 7]], _counts, _z, 1.0, "dead codes that lie on vectors")
_right(_z[[3, 0, 4, 5, 7]], _counts, _z[[0, 7, 7, 0]], 1.0, "all vectors have a code")
_right(_book, 0 * _counts, _z[:3], 1.0, "fewer vectors than dead codes")
_right(_book, 0 * _counts, _z[:1].repeat(6, 1), 1.0, "all vectors are equal")
_grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
_right(torch.ones(6, 2), torch.tensor([3.0, 0, 0, 0, 0, 0]), _grid, 1.0, "equally far vectors")
_right(_book.T.contiguous().T, _counts, _z.T.contiguous().T, 1.0, "not contiguous")
for _far in (hidden.real("far", 2000.0, 6000.0), -3000.0):
    _right(_book + _far, _counts, _z + _far, 1.0, f"{_far:.0f} from the origin")
    _right(_z[[3, 0, 4, 5, 7]] + _far, _counts, _z[[0, 7, 7, 0]] + _far, 1.0,
           f"all vectors have a code, {_far:.0f} from the origin")
for _size in (1e-25, 1e25):
    _right(_size * _book, _counts, _size * _z, 1.0, f"vectors of {_size:g}")
for _small in (1e-20, 1e12):
    _right(_book, _small * _counts, _z, _small, f"a threshold of {_small:g}")
for _edge, _level, (_z, _book) in edges.mutated(_z, _book):
    _right(_book, _counts.to(_book.dtype), _z, 1.0, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: what do longer letters buy?
#
# One bit a sample can be spent in many ways: 2 codes for single samples, 4 codes for pairs, 16 for four samples, 256 for eight. The bits are the same by (10.1). Is the sound? And if a long letter is better, is it because neighbours are alike, or is there more to it? The cell below gives you some seconds of a song, its vectors, a codebook by k-means, the SNR, and the same samples in **random order**, in which nothing tells anything about its neighbour.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: for letters of 1, 2, 4 and 8 samples the SNR of a song with its own codes; of the same song with the codes of the *next* one; of the song in random order with codes made for this order; and of the song in random order with the codes of the song as it is,
# - in how many of your songs the longer letter is better, in the right order and in random order. What does the first row say about the order, and could it be otherwise?
# - a reading: how much of what eight samples gain over one is owed to the neighbours? What else can a codebook of vectors do that one for single samples can't, if nothing depends on anything? Why does the last column *fall*?
# - what the difference between the first two columns is, and for which letters it is largest; and one thing that this experiment can't tell.

# %%
# EXPERIMENT: a song as vectors, a codebook, the SNR; write your own cells below
RATE = 22_050  # Hz


def samples(number):
    """Three seconds of a song of the band, mono, in double precision: (time,)."""
    from course_lib.data import open_tracks
    from course_lib.data.resampling import resample
    song = open_tracks("band", "test", count=number + 1)[number].excerpt(8.0, 3.0)
    return resample(song.mixture.mean(0, keepdim=True), song.rate, RATE)[0].double()


def in_random_order(x):
    """The same samples, each somewhere else."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


def vectors(x, dim):
    """Samples (time,) as (vector, dim)."""
    return x[:len(x) // dim * dim].unflatten(0, (-1, dim))


def codes_for(x, dim):
    """2^dim codes for vectors of dim samples, by k-means: (code, dim)."""
    from course_lib.vqvae import kmeans
    return kmeans(vectors(x, dim), 2 ** dim, 12, torch.Generator().manual_seed(0))


def snr(x, codebook):
    """SNR in dB of x after each of its vectors was replaced by the nearest code."""
    from course_lib.vqvae import dequantise, nearest_codes
    z = vectors(x, codebook.shape[1])
    error = z - dequantise(nearest_codes(z, codebook), codebook)
    return float(10 * torch.log10(z.square().sum() / error.square().sum()))

# For example:  x = samples(0)
#               snr(x, codes_for(x, 8)), snr(x, codes_for(samples(1), 8))

# %% [markdown]
# <!-- TASK 6 (6 points): what do longer letters buy? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, how the codes are found, what is scored; the bits a sample are the same in all rows, and only the length of a letter and the order vary.
# - 2 points: the table with plausible numbers, on more than one song with the number of songs in which the longer letter is better, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: longer letters are better in *every* song, and eight samples gain about 12 dB over one. In random order they are better in every song, too, but by 1.3 dB only: so nearly nine tenths of the gain (in dB) are owed to the neighbours, whose vectors lie near few directions of the space and leave most of it empty.
#   The rest is what vectors can do even where nothing depends on anything: 256 codes may lie anywhere, pairs of codes for single samples only on a grid of $2^8$ corners; soft samples are far more frequent than loud ones, and the corners where all eight are loud are wasted. (That cells of many dimensions are rounder than cubes adds a little; a small part is overfitting, see below.)
#   The first row must be the same in both orders: a codebook for single samples sees how often each value comes and nothing else. The last column falls because the song's codes lie where neighbours are alike; a vector of strangers is near none of them, so that four codes for pairs do *worse* than two for samples. An answer that gives the numbers, but says neither why the first row can't change nor why the last column falls, gets one point.
# - 1 point: the codes of the next song cost about half a decibel for short letters and about one and a half for the longest: 256 codes of 8 numbers are 2048 numbers, found from 8268 vectors of three seconds, and fit these vectors better than any others. And a limit, such as: k-means finds a local optimum; SNR isn't what is heard; the bits of (10.1) are not those of an entropy coder; one band, whose songs resemble each other; longer letters than eight samples can't be tried this way, for the codes double with each sample.
#
# For comparison, means over the first eight test songs, seconds 8 to 11, with the cell above (SNR in dB).
#
# | | own codes | the next song's codes | random order, own codes | random order, codes of the song |
# |---|---|---|---|---|
# | 1 sample, 2 codes | 4.14 | 3.82 | 4.14 | 4.14 |
# | 2 samples, 4 codes | 8.52 | 8.07 | 4.27 | 2.33 |
# | 4 samples, 16 codes | 12.73 | 12.15 | 4.59 | 1.82 |
# | 8 samples, 256 codes | 16.03 | 14.59 | 5.44 | 2.34 |
# <!-- END RUBRIC -->
