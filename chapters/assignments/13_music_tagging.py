# %% [markdown]
# # Assignment 13 · What does it hear, and how well?
#
# Six tasks, 30 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 13, but none is a copy of it: you build filters that never fall between two bins, a loss for labels with holes, both areas for clips that don't all count alike, tags for a heap of songs of which some are broken, and
# a map that adds up. Read what is asked for, above all at the edges (a triangle narrower than a bin, a tag that nobody asked about, clips that tie, a song of one sample, a network that doesn't listen).
#
# **How it works**
# - Replace each `raise NotImplementedError` by your code. Keep the first line of the cell and the functions' names and arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and stricter
#   checks: other sizes and numbers, zeros, very small and very large values.
# - `torch` and your own code are all you need. Functions of `course_lib.taggers` don't count as your own work, nor does changing
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
N_FFT = variation.choice("n_fft", [256, 512, 1024])
RATE = variation.choice("rate", [12000, 16000, 22050])  # Hz
BANDS = variation.integer("bands", 40, 96)
SAMPLES = variation.integer("samples", 4, 7)  # of a chunk
STEPS = variation.integer("steps", 3, 9)  # along a path

# %% [markdown]
# ## Task 1: filters that never fall between bins
#
# The triangles of (13.1) and (13.5) are read at the bins' frequencies $f_k = k\,\Delta$, $\Delta = \text{rate} / n_\text{fft}$. A narrow one may lie between two bins and meet none of them: a band that is always silent. So give bin $k$ not the triangle's height at $f_k$, but its **mean over the bin's width**, from $f_k - \Delta/2$ to $f_k + \Delta/2$ (for the first and the last bin, too): an integral, which has a formula. Each triangle has its own three corners in Hz: it rises from 0 at `low` to 1 at `peak` and falls to 0 at `high`. One of its sides may be vertical, and it may stand partly or wholly outside of the bins.
#
# Then the levels in decibels, $10 \log_{10}$ of the power that a filter gathers, never below $-100$. The filters may stand in any arrangement, in a row of bands as well as in harmonics and heights (13.6). Powers may be as large as $10^{37}$ and the triangles a thousandth of a bin wide.

# %%
# TASK 1 (5 points): filters that never fall between bins
def filter_bank(corners, n_fft, rate):
    """The mean of each triangle over each bin: (n_fft / 2 + 1, ...).

    corners: (..., 3), low <= peak <= high and low < high, in Hz, any number of axes in front, also
    none. n_fft: even. rate: Hz.
    """
    ### BEGIN SOLUTION
    low, peak, high = corners.double().unbind(-1)
    width = rate / n_fft
    edges = (torch.arange(n_fft // 2 + 2, dtype=torch.float64) - 0.5) * width
    x = edges.view(-1, *[1] * low.ndim)
    up, down = peak - low, high - peak
    # the area to the left of x
    risen = (x.minimum(peak).maximum(low) - low).square() / (2 * torch.where(up > 0, up, 1))
    left = (high - x.minimum(high).maximum(peak)).square() / (2 * torch.where(down > 0, down, 1))
    return ((risen + down / 2 - left).diff(dim=0) / width).to(corners.dtype)
    ### END SOLUTION


def levels(power, bank):
    """What each filter gathers, in dB: (batch, ..., frame).

    power: (batch, bin, frame), 0 or more. bank: (bin, ...), as filter_bank gives it.
    """
    ### BEGIN SOLUTION
    gathered = torch.tensordot(power.double().mT, bank.double(), dims=1)    # (batch, frame, ...)
    return (10 * gathered.clamp_min(1e-10).log10()).movedim(1, -1).to(power.dtype)
    ### END SOLUTION

# %%
# CHECK 1
bank = filter_bank(torch.tensor([[0.0, 2.0, 4.0], [2.9, 3.0, 3.1], [1.0, 1.0, 3.0]]), 8, 8)
assert bank.shape == (5, 3), f"n_fft 8: 5 bins, three filters, (5, 3); you: {tuple(bank.shape)}"
assert torch.allclose(bank[:, 0], torch.tensor([0.0625, 0.5, 0.875, 0.5, 0.0625]), atol=1e-5), (
    f"bins of 1 Hz, the triangle 0 2 4: its means are 1/16 1/2 7/8 1/2 1/16; you: {bank[:, 0]}")
assert torch.allclose(bank[:, 1], torch.tensor([0.0, 0, 0, 0.1, 0]), atol=1e-5), (
    f"a triangle of area 0.1 inside of bin 3: 0.1 there, and 0 elsewhere; you: {bank[:, 1]}")
assert torch.allclose(bank[:, 2], torch.tensor([0.0, 0.4375, 0.5, 0.0625, 0]), atol=1e-5), (
    f"a vertical side at 1 Hz: 0 7/16 1/2 1/16 0; you: {bank[:, 2]}")
mel = torch.linspace(0, 2595 * math.log10(1 + RATE / 2 / 700), BANDS + 2, dtype=torch.float64)
hertz = 700 * (10 ** (mel / 2595) - 1)
bank = filter_bank(torch.stack([hertz[:-2], hertz[1:-1], hertz[2:]], -1), N_FFT, RATE)
assert (bank.sum(0) > 0).all(), "a mel band that meets no bin"
areas = bank.sum(0) * RATE / N_FFT
assert torch.allclose(areas, (hertz[2:] - hertz[:-2]) / 2, rtol=1e-4), (
    "over all bins the means times a bin's width are the triangle's area")
power, two = torch.tensor([[[4.0, 0.0], [6.0, 0.0]]]), torch.tensor([[[0.5, 0.0]], [[0.5, 100.0]]])
found = levels(power, two)
assert found.shape == (1, 1, 2, 2), f"a batch of 1, filters (1, 2), 2 frames; {tuple(found.shape)}"
assert torch.allclose(found[0, 0, :, 0], torch.tensor([6.9897, 27.7815]), atol=1e-3), (
    f"5 and 600 are 6.99 and 27.78 dB; you: {found[0, 0, :, 0]}")
assert found[0, 0, :, 1].tolist() == [-100, -100], f"silence: -100 dB; you: {found[0, 0, :, 1]}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _mean(low, peak, high, start, stop):
    """Mean of a triangle from start to stop: between its corners it is straight, so that the
    middle of each piece is its mean."""
    def height(x):
        if low < x <= peak:
            return (x - low) / (peak - low)
        return (high - x) / (high - peak) if peak <= x < high else 0.0
    places = sorted({start, stop, *(x for x in (low, peak, high) if start < x < stop)})
    return math.fsum(height((a + b) / 2) * (b - a) for a, b in zip(places, places[1:])) / (
        stop - start)

def _bank(corners, n_fft, rate):
    step, flat = rate / n_fft, corners.double().reshape(-1, 3).tolist()
    rows = [[_mean(*three, (k - 0.5) * step, (k + 0.5) * step) for three in flat]
            for k in range(n_fft // 2 + 1)]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, *corners.shape[:-1])

def _right(corners, n_fft, rate, message):
    before = corners.clone()
    found = filter_bank(corners, n_fft, rate)
    assert truth.equal(corners, before), "filter_bank changes its argument"
    assert found.dtype == corners.dtype, f"wrong precision: {message}"
    expected = _bank(before, n_fft, rate)
    largest = max(float(expected.max()) if expected.numel() else 0.0, 1e-30)
    assert truth.close(found.double() / largest, expected / largest, rtol=1e-3, atol=1e-5), (
        f"wrong means: {message}, n_fft {n_fft}, rate {rate}")

def _heard(power, bank, message):
    before = power.clone(), bank.clone()
    found = levels(power, bank)
    assert truth.equal([power, bank], list(before)), "levels changes its arguments"
    assert found.dtype == power.dtype, f"wrong precision: {message}"
    flat = before[1].double().reshape(len(bank), -1)
    rows = [[10 * math.log10(max(1e-10, float((one[:, None] * column).sum(0))))
             for one in item.double().T for column in flat.T[:, :, None]] for item in before[0]]
    wanted = torch.tensor(rows, dtype=torch.float64).reshape(
        len(power), power.shape[2], *bank.shape[1:]).movedim(1, -1)
    assert truth.close(found, wanted, rtol=1e-4, atol=1e-3), f"wrong levels: {message}"

_generator = hidden.generator("corners")
def _corners(*front, spread=300.0):
    """Triangles at random, in order."""
    start = 4000 * torch.rand(*front, 1, generator=_generator) - 300
    return (start + spread * torch.rand(*front, 3, generator=_generator)).sort(-1).values

for _case, _front in enumerate(((5,), (), (2, 3), (1, 2, 2))):
    _n_fft = 2 * hidden.integer(f"n_fft {_case}", 4, 24)
    _rate = hidden.choice(f"rate {_case}", [6000, 8000, 11025])
    _right(_corners(*_front), _n_fft, _rate, f"corners {_front} and three")
    _right(_corners(*_front, spread=3000.0), _n_fft, _rate, "wide triangles")
_sides = torch.tensor([[100.0, 100, 700], [100, 700, 700], [-900, -400, -100], [9e3, 9.1e3, 9.9e3],
                       [-50, 0, 60], [3900, 4000, 4100], [187.5, 250, 312.5], [0, 187.5, 4000]])
_right(_sides, 64, 8000, "vertical sides, and triangles outside")
_right(_sides.T.contiguous().T, 2, 8000, "two bins")
for _spread in (1e-2, 1e-6):
    _right(_corners(6, spread=_spread).double(), 64, 8000, "very narrow triangles")
_x, _small = torch.rand(2, 6, 7, generator=_generator), torch.rand(6, 2, 3, generator=_generator)
_heard(_x, _small, "harmonics and heights")
_heard(_x, _small[:, 0], "a row of bands")
_heard(_x, _small[:, 0, 0], "one filter")
_heard(_x.mT.contiguous().mT, _small.movedim(0, -1).contiguous().movedim(-1, 0), "not contiguous")
_heard(1e-11 * _x, _small, "powers near the floor")
_heard(3e37 * _x, 40 * _small, "powers of 3e37")
_heard(0 * _x, _small, "silence")
for _edge, _level, (_y, _three) in edges.mutated(_x, _corners(3, 9).mT):
    _heard(_y, _small.to(_y.dtype), _edge)
    _right((_three.mT / _level).sort(-1).values + torch.arange(3).to(_y.dtype), 32, 8000, _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: a loss for labels with holes
#
# Nobody asked of every clip whether there is a flute in it. So a label is 1 (has it), 0 (hasn't) or NaN (**nobody asked**), and a rare tag drowns in the many clips that don't have it. For each tag, let the clips that have it weigh one half together and those that haven't the other half; where a tag has clips of one kind only, they weigh 1 together. With $o$ the log-odds and $p = 1 / (1 + e^{-o})$, the cost of a clip is $-\ln p$ or $-\ln (1 - p)$, as in (13.9). The loss is the mean over the tags about which somebody was asked at all.
#
# - Where nobody asked, log-odds may be anything, also NaN, and their gradient is 0.
# - Where nobody asked anything, the loss is 0, and so is its gradient.
# - Log-odds may be as large as $10^{30}$. Who is that sure and wrong pays that much, but not infinitely much.

# %%
# TASK 2 (5 points): a loss for labels with holes
def tagging_loss(odds, labels):
    """The loss of the text, a tensor of no axes. Differentiable by odds.

    odds: (clip, tag). labels: (clip, tag), 1, 0 or NaN, of the same precision.
    """
    ### BEGIN SOLUTION
    asked = ~labels.isnan()
    has, hasnt = asked & (labels == 1), asked & (labels == 0)
    o = torch.where(asked, odds, 0.0).double()
    cost = F.softplus(torch.where(has, -o, o))                              # (clip, tag)
    with_it, without = has.sum(0), hasnt.sum(0)                             # (tag,)
    kinds = (with_it > 0).int() + (without > 0).int()
    weights = (has / with_it.clamp_min(1) + hasnt / without.clamp_min(1)) / kinds.clamp_min(1)
    return ((weights * cost).sum() / (kinds > 0).sum().clamp_min(1)).to(odds.dtype)
    ### END SOLUTION

# %%
# CHECK 2
two, some = math.log(2), torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
found = tagging_loss(torch.zeros(4, 3), some)
assert found.shape == () and abs(float(found) - two) < 1e-5, (
    f"log-odds of 0, no idea: ln 2; you: {found}")
odds, labels = torch.tensor([[2.0, 0, 0, 0]]).T, torch.tensor([[1.0, 0, 0, 0]]).T
found, wanted = float(tagging_loss(odds, labels)), (math.log(1 + math.exp(-2)) + two) / 2
assert abs(found - wanted) < 1e-5, (
    f"one has it, three haven't: half of ln(1 + e^-2), half of ln 2, {wanted:.4f}; you: {found}")
found = float(tagging_loss(odds[:1], labels[:1]))
assert abs(found - math.log(1 + math.exp(-2))) < 1e-5, f"one kind only weighs 1; you: {found:.4f}"
holes = torch.tensor([[1.0, math.nan], [math.nan, math.nan], [0.0, math.nan], [0.0, math.nan]])
odds = torch.tensor([[2.0, 5.0], [math.nan, math.nan], [0.0, -7.0], [0.0, 0.0]]).requires_grad_()
found = tagging_loss(odds, holes)
assert abs(found.item() - wanted) < 1e-5, (
    f"nobody asked about clip 1 and tag 1, so that nothing changes: {wanted:.4f}; you: {found:.4f}")
found.backward()
assert odds.grad[[0, 2, 3], 0].abs().min() > 0, "where somebody asked there is a gradient"
assert not odds.grad[:, 1].any() and not odds.grad[1].any(), f"elsewhere it is 0: {odds.grad}"
leaf = torch.zeros(2, 2, requires_grad=True)
found = tagging_loss(leaf, torch.full((2, 2), math.nan))
assert float(found.detach()) == 0, f"nobody asked anything: 0; you: {found}"
found.backward()
assert not leaf.grad.any(), f"nothing is learned from it: {leaf.grad}"
found = float(tagging_loss(torch.tensor([[-300.0]]), torch.tensor([[1.0]])))
assert abs(found - 300) < 1e-2, f"300 against it, and wrong: 300; you: {found}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 2")
def _loss(odds, labels):
    """Tag by tag, with numbers of Python; and the gradient."""
    gradient, tags = torch.zeros(odds.shape, dtype=torch.float64), []
    for tag in range(odds.shape[1]):
        sides = {1: [], 0: []}
        for clip in range(odds.shape[0]):
            label = float(labels[clip, tag])
            if not math.isnan(label):
                sides[int(label)].append(clip)
        if sides[0] or sides[1]:
            tags.append((tag, sides))
    loss = 0.0
    for tag, sides in tags:
        for label, clips in sides.items():
            for clip in clips:
                share = 1 / len(clips) / (2 if sides[0] and sides[1] else 1) / len(tags)
                o = float(odds[clip, tag]) * (-1 if label else 1)
                loss += share * (max(o, 0.0) + math.log1p(math.exp(-abs(o))))
                slope = 1 / (1 + math.exp(-o)) if o > -700 else 0.0
                gradient[clip, tag] = share * slope * (-1 if label else 1)
    return loss, gradient

def _right(odds, labels, message):
    before, leaf = labels.clone(), odds.clone().requires_grad_()
    found = tagging_loss(leaf, labels)
    assert truth.equal(leaf.detach().nan_to_num(7.0), odds.nan_to_num(7.0)) and truth.equal(
        labels.nan_to_num(7.0), before.nan_to_num(7.0)), "the function changes its arguments"
    loss, gradient = _loss(odds, before)
    assert found.dtype == odds.dtype, f"wrong precision: {message}"
    assert truth.has_shape(found), f"a tensor of no axes: {message}"
    assert truth.close(found, loss, rtol=1e-4, atol=1e-6), f"wrong loss: {message}"
    found.backward()
    assert leaf.grad is not None and truth.close(leaf.grad, gradient, rtol=1e-3, atol=1e-6), (
        f"wrong gradient: {message}")
    hole = before.isnan()
    assert truth.equal(leaf.grad[hole], 0 * gradient[hole].to(odds.dtype)), (
        f"a gradient where nobody asked: {message}")

_generator = hidden.generator("clips")
def _some(clips, tags, asked=0.7, share=0.4):
    odds = 3 * torch.randn(clips, tags, generator=_generator)
    labels = (torch.rand(clips, tags, generator=_generator) < share).float()
    hole = torch.rand(clips, tags, generator=_generator) > asked
    return torch.where(hole & (odds > 0), math.nan, odds), torch.where(hole, math.nan, labels)

for _case in range(5):
    _sizes = [hidden.integer(f"{_name} {_case}", 1, 9) for _name in ("clips", "tags")]
    _right(*_some(*_sizes), f"clips, tags {_sizes}")
    _right(*_some(*_sizes, 1.0, 0.1), "everything asked, rare tags")
_odds, _labels = torch.randn(8, 5, generator=_generator), torch.tensor(
    [[1.0, 0, 1, math.nan, 0]] * 2 + [[0, 0, 1, math.nan, math.nan]] * 5 + [[0, 1, 1, math.nan, 1]])
_right(_odds, _labels, "tags of one kind, and one that nobody asked about")
_right(_odds, _labels[[0] * 8], "one kind for all")
_right(math.nan + 0 * _odds, math.nan + 0 * _labels, "nobody asked anything")
_right(_odds[:0], _labels[:0], "no clips")
_right(_odds[:, 3:4], _labels[:, 3:4], "one tag, nobody asked")
_right(_odds[:1], _labels[:1], "one clip")
_right(_odds.T.contiguous().T, _labels.T.contiguous().T, "not contiguous")
for _sure in (60.0, 300.0, 1e4, 1e30):
    _right(_sure * _odds.sign(), _labels, f"log-odds of {_sure:g}")
_right(-_odds.abs() - 15, 0 * _odds + 1, "sure and wrong")
for _edge, _level, (_x, _y) in edges.mutated(_odds.T, _odds.T):
    _time = _x.shape[1]
    _right(_x.T, _labels[:_time].to(_x.dtype), _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: areas for clips that don't all count alike
#
# A clip of thirty seconds should count more than one of three. Give each clip $i$ a weight $w_i$, and (13.7) becomes
#
# $$ \text{ROC-AUC} = \frac{\sum_{i \text{ has it}} \sum_{j \text{ has not}} w_i w_j \bigl([s_i > s_j] + \tfrac12 [s_i = s_j]\bigr)}{\sum_{i \text{ has it}} w_i \sum_{j \text{ has not}} w_j}, $$
#
# and in (13.8) precision and recall are shares of weight instead of numbers of clips; clips of equal score are one threshold. Where all weights are 1 it's the chapter's.
#
# - The weights may be 0: such a clip counts for nothing, wherever it stands. They may be as small as $10^{-30}$, or as large.
# - A score is any number, also infinite (log-odds may be): equal ones tie, infinite ones, too.
# - NaN where there is nothing to divide by: ROC-AUC of a tag that no clip of any weight has, or that all such clips have; average precision of a tag that none has.

# %%
# TASK 3 (5 points): areas for clips that don't all count alike
def weighted_areas(labels, scores, weights):
    """ROC-AUC and average precision of each tag, (tag,) and (tag,), float64.

    labels: (clip, tag), 0 or 1, whole numbers. scores: (clip, tag), no NaN. weights: (clip,), 0 or
    more.
    """
    ### BEGIN SOLUTION
    counts = weights > 0
    w = weights[counts].double()
    w = w / w.max() if len(w) else w
    roc, precision = [], []
    for has, s in zip(labels[counts].T.double(), scores[counts].T):
        _, place = s.unique(return_inverse=True)                            # from the worst on
        steps = torch.zeros(2, int(place.max()) + 1 if len(place) else 0, dtype=torch.float64)
        hits, others = steps.index_add(1, place, torch.stack([w * has, w * (1 - has)]))
        below = others.cumsum(0) - others / 2
        roc.append((hits * below).sum() / (hits.sum() * others.sum()))
        right, chosen = hits.flip(0).cumsum(0), (hits + others).flip(0).cumsum(0)
        precision.append((hits.flip(0) * right / chosen).sum() / hits.sum())
    empty = torch.zeros(0, dtype=torch.float64)
    return (torch.stack(roc), torch.stack(precision)) if roc else (empty, empty)
    ### END SOLUTION

# %%
# CHECK 3
labels = torch.tensor([[1], [1], [1], [0], [0]])
scores, ones = torch.tensor([[0.9], [0.6], [0.4], [0.5], [0.4]]), torch.ones(5)
roc, precision = weighted_areas(labels, scores, ones)
assert roc.shape == precision.shape == (1,), f"one tag: (1,) each; {roc.shape}, {precision.shape}"
assert roc.dtype == precision.dtype == torch.float64, f"float64; you: {roc.dtype}"
assert abs(float(roc) - 0.75) < 1e-6, f"of six pairs 4 1/2 in order: 0.75; you: {float(roc):.4f}"
assert abs(float(precision) - (1 + 1 + 3 / 5) / 3) < 1e-6, (
    f"steps of 1/3 at precisions 1, 1 and, the last two together, 3/5; you: {float(precision):.4f}")
roc, precision = weighted_areas(labels, scores, torch.tensor([0.0, 1, 1, 3, 1]))
assert abs(float(roc) - (4 + 0.5) / 8) < 1e-6, (
    f"clip 0 counts for nothing, clip 3 thrice: (3 + 1 + 1/2) / (2 4); you: {float(roc):.4f}")
assert abs(float(precision) - (1 + 2 / 6) / 2) < 1e-6, (
    f"steps of 1/2 at precisions 1 and 2/6; you: {float(precision):.4f}")
twice = torch.cat([labels, labels[1:3]]), torch.cat([scores, scores[1:3]])
found = weighted_areas(*twice, torch.ones(7))
again = weighted_areas(labels, scores, torch.tensor([1.0, 2, 2, 1, 1]))
assert all(abs(float(a - b)) < 1e-6 for a, b in zip(found, again)), (
    f"a clip of weight 2 is a clip that comes twice: {found} and {again}")
same = weighted_areas(labels, torch.full((5, 1), -math.inf), ones)
assert abs(float(same[0]) - 0.5) < 1e-6 and abs(float(same[1]) - 0.6) < 1e-6, (
    f"all scores -inf: they tie, 1/2 and the share of the tag, 3/5; you: {same}")
none = weighted_areas(torch.tensor([[0, 1], [0, 1]]), torch.zeros(2, 2), ones[:2])
assert none[0].isnan().all() and none[1][0].isnan() and float(none[1][1]) == 1, (
    f"nobody has tag 0, everybody tag 1: NaN NaN and NaN 1; you: {none}")
### BEGIN HIDDEN TESTS
from fractions import Fraction
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _areas(labels, scores, weights):
    """Pair by pair and threshold by threshold, with fractions."""
    w, roc, precision = [Fraction(one) for one in weights.tolist()], [], []
    for has, s in zip(labels.T.tolist(), scores.T.tolist()):
        yes = [n for n, one in enumerate(has) if one]
        no = [n for n, one in enumerate(has) if not one]
        both = sum(w[n] for n in yes) * sum(w[n] for n in no)
        won = sum(w[i] * w[j] * (Fraction(s[i] > s[j]) + Fraction(s[i] == s[j]) / 2)
                  for i in yes for j in no)
        roc.append(float(won / both) if both else math.nan)
        total, area, before = sum(w[n] for n in yes), Fraction(0), Fraction(0)
        for threshold in sorted(set(s), reverse=True):
            hits = sum(w[n] for n in yes if s[n] >= threshold)
            chosen = hits + sum(w[n] for n in no if s[n] >= threshold)
            if hits > before:
                area, before = area + (hits - before) * hits / chosen, hits
        precision.append(float(area / total) if total else math.nan)
    return roc, precision

def _right(labels, scores, weights, message):
    given = (labels, scores, weights)
    before = [one.clone() for one in given]
    found, expected = weighted_areas(*given), _areas(*before)
    assert all(truth.equal(one.double().nan_to_num(posinf=1e300, neginf=-1e300),
                           copy.double().nan_to_num(posinf=1e300, neginf=-1e300))
               for one, copy in zip(given, before)), "the function changes its arguments"
    assert type(found) in (tuple, list) and len(found) == 2, "two areas a tag are asked for"
    for one, wanted, name in zip(found, expected, ("ROC-AUC", "average precision")):
        assert truth.has_shape(one, labels.shape[1]), f"(tag,) is asked for: {name}, {message}"
        assert one.dtype == torch.float64, f"float64 is asked for: {name}, {message}"
        wanted = torch.tensor(wanted, dtype=torch.float64)
        assert truth.equal(one.isnan(), wanted.isnan()), f"NaN elsewhere: {name}, {message}"
        assert truth.close(one.nan_to_num(9.0), wanted.nan_to_num(9.0), rtol=1e-5, atol=1e-7), (
            f"wrong {name}: {message}")

_generator = hidden.generator("clips")
def _some(clips, tags, share=0.4, steps=0):
    labels = (torch.rand(clips, tags, generator=_generator) < share).long()
    scores = torch.randn(clips, tags, generator=_generator)
    weights = 30 * torch.rand(clips, generator=_generator)
    return labels, (scores * steps).round() / steps if steps else scores, weights

for _case in range(4):
    _sizes = [hidden.integer(f"clips {_case}", 1, 24), hidden.integer(f"tags {_case}", 1, 5)]
    _right(*_some(*_sizes), f"clips, tags {_sizes}")
    _right(*_some(*_sizes, steps=2), f"clips, tags {_sizes}, scores that tie")
_labels, _scores, _weights = _some(16, 4, 0.5, 2)
_right(_labels, _scores, 0 * _weights + 1, "all weights 1")
_zeros = _weights * (torch.arange(16) % 3 != 0)
_right(_labels, _scores, _zeros, "weights of 0")
_right(_labels, _scores - 9 * (_zeros > 0)[:, None], _zeros, "the best scores have no weight")
_right(_labels, _scores, _zeros * _labels[:, 0], "only those that have tag 0 count")
_right(_labels, _scores, _zeros * (1 - _labels[:, 1]), "nobody who counts has tag 1")
_right(_labels, _scores, 0 * _weights, "nobody counts")
_right(_labels[:0], _scores[:0], _weights[:0], "no clips")
_right(0 * _labels, _scores, _weights, "nobody has any tag")
_right(0 * _labels + 1, _scores, _weights, "everybody has all tags")
_right(_labels, 0 * _scores, _weights, "all scores tie")
_right(_labels, _labels.float(), _weights, "perfect")
_right(_labels, -_labels.float(), _weights, "all wrong")
_far = torch.where(_scores > 0.9, math.inf, torch.where(_scores < -0.4, -math.inf, _scores))
_right(_labels, _far, _weights, "infinite scores")
_right(_labels, 1e30 * _scores, _weights, "scores of 1e30")
_right(_labels, 2.0 ** 52 + (4 * _scores).round().double(), _weights, "scores of 52 bits")
for _size in (1e-30, 1e30):
    _right(_labels, _scores, _size * _weights, f"weights of {_size:g}")
_right(_labels.T.contiguous().T, _scores.T.contiguous().T, _weights, "not contiguous")
_right(_labels.bool(), _scores, _weights, "labels of bool")
for _edge, _level, (_s, _w) in edges.mutated(_scores.T, _weights[None]):
    _right(_labels[:_s.shape[1]], _s.T, _w[0], _edge)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: a heap of songs
#
# Tag a whole heap of songs of any length with a network that takes chunks of `samples` (13.7).
# - A song is cut into chunks, end to end. What is missing of the last one is filled with the song itself, **from its beginning**, as often as needed.
# - Each chunk counts by the share of it that is *new*: a last chunk of which a quarter is the song's end, and the rest repeated, counts a quarter of the others. The song's tags are the mean of the chunks' probabilities, so weighted.
# - A heap has bad songs: files without a sample, or with NaN or infinite ones. Their row is NaN; they must neither reach the network nor disturb another song.
# - The network gets `batch_size` chunks at once, from whatever songs, in their order, and only the last call fewer: the fewest calls that will do. None where there is nothing to tag.

# %%
# TASK 4 (5 points): a heap of songs
def tag_songs(model, songs, samples, tags, batch_size=8):
    """Probabilities (song, tag), NaN for songs that can't be tagged; of the network's precision,
    float32 where it isn't called.

    model: a function of (chunk, samples) to (chunk, tags). songs: a list of tensors (time,), time
    from 0 on, all of one precision; perhaps an empty list. samples, batch_size: 1 or more.
    """
    ### BEGIN SOLUTION
    chunks, owner, new = [], [], []
    for number, song in enumerate(songs):
        time = len(song)
        if not time or not song.isfinite().all():
            continue
        count = -(-time // samples)
        chunks.append(song.repeat(-(-count * samples // time))[:count * samples].view(count, -1))
        owner += [number] * count
        new += [samples] * (count - 1) + [time - (count - 1) * samples]
    if not chunks:
        return torch.full((len(songs), tags), math.nan)
    p = torch.cat([model(part) for part in torch.cat(chunks).split(batch_size)])
    new = torch.tensor(new, dtype=p.dtype)[:, None]
    sums = p.new_zeros(len(songs), tags).index_add(0, torch.tensor(owner), new * p)
    return sums / p.new_zeros(len(songs), 1).index_add(0, torch.tensor(owner), new)
    ### END SOLUTION

# %%
# CHECK 4
calls = []
def first_and_mean(chunks):
    """Two "tags": the first sample and the mean; notes what it was given."""
    calls.append(chunks.tolist())
    return torch.stack([chunks[:, 0], chunks.mean(1)], 1)

found = tag_songs(first_and_mean, [torch.arange(1.0, 7.0)], 4, 2)
assert found.shape == (1, 2), f"one song, two tags: (1, 2); you: {tuple(found.shape)}"
assert calls == [[[1, 2, 3, 4], [5, 6, 1, 2]]], (
    f"six samples in chunks of four: 1 2 3 4, then 5 6 and from the beginning 1 2; you: {calls}")
assert torch.allclose(found, torch.tensor([[7 / 3, (2.5 * 4 + 3.5 * 2) / 6]])), (
    f"the second chunk is new by half: (1 + 5/2) / (3/2) and (2.5 + 3.5/2) / (3/2); you: {found}")
calls.clear()
broken = [torch.tensor([1.0, math.nan, 3.0]), torch.tensor([8.0]), torch.zeros(0), torch.ones(5)]
found = tag_songs(first_and_mean, broken, 4, 2)
assert found[[0, 2]].isnan().all(), f"songs 0 and 2 can't be tagged: NaN; you: {found}"
assert torch.allclose(found[[1, 3]], torch.tensor([[8.0, 8], [1, 1]])), (
    f"songs 1 and 3 are 8 and 1 all through; you: {found}")
assert calls == [[[8, 8, 8, 8], [1, 1, 1, 1], [1, 1, 1, 1]]], (
    f"one call for the three chunks of songs 1 and 3; you: {calls}")
calls.clear()
songs = [torch.arange(1.0, n) for n in (20, 2, SAMPLES + 1)]
together = tag_songs(first_and_mean, songs, SAMPLES, 2, 3)
number = -(-19 // SAMPLES) + 2
assert [len(call) for call in calls] == [3] * (number // 3) + [number % 3] * (number % 3 > 0), (
    f"{number} chunks in calls of 3; you: {[len(call) for call in calls]}")
alone = torch.cat([tag_songs(first_and_mean, [song], SAMPLES, 2, 1) for song in songs])
assert torch.allclose(together, alone), "a song's tags depend on the other songs"
calls.clear()
assert tag_songs(first_and_mean, [torch.zeros(0)], 4, 2).isnan().all() and not calls, "no calls"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _network(calls, level=1.0):
    """Tags that depend on every sample and its place."""
    def model(chunks):
        assert chunks.ndim == 2 and len(chunks), "the network gets (chunk, samples), at least one"
        calls.append(chunks.clone())
        x, places = chunks / level, torch.arange(1, chunks.shape[1] + 1)
        return torch.stack([(x * places).sum(1).sigmoid(), (x - places / 9).sin().mean(1),
                            x.abs().amax(1).tanh()], 1)
    return model

def _right(songs, samples, batch_size, message, level=1.0, default=False):
    before, calls = [song.clone() for song in songs], []
    model = _network(calls, level)
    found = (tag_songs(model, songs, samples, 3) if default
             else tag_songs(model, songs, samples, 3, batch_size))
    message = f"{message}: songs of {[len(song) for song in songs]}, samples {samples}"
    assert len(songs) == len(before) and all(
        truth.equal(one.nan_to_num(7.0, 8.0, 9.0), copy.nan_to_num(7.0, 8.0, 9.0))
        for one, copy in zip(songs, before)), "the songs are changed"
    rows, chunks = [], []
    for song in before:
        values = song.tolist()
        if not values or not all(map(math.isfinite, values)):
            rows.append([math.nan] * 3)
            continue
        parts, shares = [], []
        for start in range(0, len(values), samples):
            new = values[start:start + samples]
            filled = [new[n] if n < len(new) else values[(n - len(new)) % len(values)]
                      for n in range(samples)]
            parts.append(torch.tensor(filled, dtype=song.dtype))
            shares.append(len(new) / samples)
        tagged = _network([], level)(torch.stack(parts)).double().tolist()
        rows.append([sum(s * t[n] for s, t in zip(shares, tagged)) / sum(shares)
                     for n in range(3)])
        chunks += parts
    sizes = [len(call) for call in calls]
    full, rest = divmod(len(chunks), batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0), f"wrong calls, {message}"
    assert not chunks or truth.equal(torch.cat(calls), torch.stack(chunks)), (
        f"the network hears something else, {message}")
    wanted = torch.tensor(rows, dtype=torch.float64).reshape(len(songs), 3)
    assert truth.has_shape(found, len(songs), 3), f"(song, tag) is asked for, {message}"
    assert found.dtype == (songs[0].dtype if chunks else torch.float32), f"precision, {message}"
    assert truth.equal(found.isnan(), wanted.isnan()), f"NaN elsewhere, {message}"
    assert truth.close(found.nan_to_num(9.0), wanted.nan_to_num(9.0), rtol=1e-4, atol=1e-5), (
        f"wrong tags, {message}")

_generator = hidden.generator("songs")
def _songs(*lengths):
    return [torch.randn(time, generator=_generator) for time in lengths]

for _case in range(6):
    _lengths = [hidden.integer(f"time {_case} {_n}", 0, 40) for _n in range(_case + 1)]
    _right(_songs(*_lengths), hidden.integer(f"samples {_case}", 1, 12),
           hidden.integer(f"batch {_case}", 1, 9), "a heap")
_right(_songs(24, 23, 25, 1, 12), 12, 4, "just a chunk, one sample less, one more")
_right(_songs(3, 4, 5), 16, 2, "songs much shorter than a chunk")
_right(_songs(9, 2), 1, 4, "chunks of one sample")
_right(_songs(70), 4, 8, "eight chunks at once by default", default=True)
for _place, _value in ((0, math.nan), (9, math.inf), (19, -math.inf)):
    _heap = _songs(20, 20, 7)
    _heap[1][_place] = _value
    _right(_heap, 6, 4, f"a song with {_value}")
    _right(_heap[1:2], 6, 4, "nothing but a broken song")
_right(_songs(0, 0), 6, 4, "empty songs")
_right([], 6, 4, "no songs")
_right([torch.zeros(9), *_songs(9)], 6, 4, "a silent song")
_right([song[::2] for song in _songs(30, 20)], 6, 4, "not contiguous")
for _edge, _level, (_x, _y) in edges.mutated(*_songs(21, 33)):
    _right([_x, _y], 8, 3, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: a map that adds up
#
# The gradient (13.6) says what *one decibel more* would do. It says nothing of how much what is there has brought: where a network is sure, its gradient may be 0 everywhere. So walk from silence to the picture, all bands and frames at once, and gather the gradient on the way. With $f$ for the floor of the picture,
#
# $$ S[b, m] = (L[b, m] - f)\; \frac1n \sum_{i=1}^{n} \frac{\partial o}{\partial L[b, m]} \Bigl(f + \tfrac{i - 1/2}{n} (L - f)\Bigr). $$
#
# $S$ adds up to what the picture as a whole has brought, $o(L) - o(f)$, up to what $n$ steps leave over: each decibel of log-odds has its place.
#
# - Each item of the batch goes its own way. The result is a plain tensor, without a graph behind it.
# - It must work where gradients are switched off (`torch.no_grad`), and must leave nothing behind: no `.grad` in the network's parameters or in `levels`.
# - For a network that doesn't listen to its input at all, $S$ is 0 everywhere.

# %%
# TASK 5 (4 points): a map that adds up
def adds_up(odds, levels, floor, steps):
    """S of the text: of the shape of levels.

    odds: a function of levels (batch, ...) to log-odds (batch,). levels: (batch, band, frame) or
    any other axes behind the batch. floor: dB, a number. steps: n, 1 or more.
    """
    ### BEGIN SOLUTION
    way = levels.detach() - floor
    total = torch.zeros_like(way)
    with torch.enable_grad():
        for i in range(steps):
            here = (floor + (i + 0.5) / steps * way).requires_grad_()
            said = odds(here).sum()
            if said.requires_grad:
                gradient, = torch.autograd.grad(said, here, allow_unused=True)
                total = total if gradient is None else total + gradient
    return way * total / steps
    ### END SOLUTION

# %%
# CHECK 5
picture = torch.tensor([[[-60.0, -80.0], [-70.0, -50.0]]])  # (batch, band, frame)
found = adds_up(lambda L: L.sum((1, 2)) / 10, picture, -80.0, 1)
assert found.shape == (1, 2, 2), f"(1, 2, 2) is asked for; you: {tuple(found.shape)}"
assert torch.allclose(found, torch.tensor([[[2.0, 0.0], [1.0, 3.0]]])), (
    f"all decibels alike, a tenth each: 20, 0, 10 and 30 dB above the floor make 2 0 1 3; {found}")
found = adds_up(lambda L: (L[:, 0] / 10 + 8).square().sum(1), picture, -80.0, STEPS)
assert torch.allclose(found, torch.tensor([[[4.0, 0.0], [0.0, 0.0]]]), atol=1e-4), (
    f"o = 2 squared at the end: the loud point has brought all 4; you: {found}")
sure = lambda L: (L[:, 0, 0] + 75).clamp(0, 5)
assert abs(float(adds_up(sure, picture, -80.0, 40).sum()) - 5) < 1e-3, (
    "o stops growing at -70 dB, but the loud point has brought 5")
torch.manual_seed(5)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.Tanh(),
                              torch.nn.Linear(8, 1), torch.nn.Flatten(0))
x = torch.randn(3, 4, 3).requires_grad_()
with torch.no_grad():
    found = adds_up(network, x, -1.0, 50)
    brought = network(x) - network(torch.full((3, 4, 3), -1.0))
assert torch.allclose(found.sum((1, 2)), brought, atol=1e-3), (
    f"S should add up to {brought}; you: {found.sum((1, 2))}")
assert not found.requires_grad, "a graph hangs behind the result"
assert x.grad is None and all(p.grad is None for p in network.parameters()), "gradients left behind"
deaf = adds_up(lambda L: torch.zeros(len(L)), picture, -80.0, STEPS)
assert deaf.shape == (1, 2, 2) and not deaf.any(), f"a deaf network: zeros; you: {deaf}"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
_generator = hidden.generator("networks")
_shape = (4, 3)
_a = torch.randn(2, 12, generator=_generator, dtype=torch.float64)
def _odds(level):
    """Log-odds with a known gradient, and that gradient: tanh, a product, and a kink."""
    def odds(L):
        x = L.flatten(1) / level
        a = _a[:, :x.shape[1]].to(L.dtype)
        return (x @ a[0]).tanh() + (x @ a[1]) ** 2 / 20 + x[:, 0].relu() * x[:, -1]
    def slope(L):
        x = L.flatten(1) / level
        a = _a[:, :x.shape[1]]
        g = (1 - (x @ a[0]).tanh() ** 2)[:, None] * a[0] + (x @ a[1])[:, None] / 10 * a[1]
        g[:, 0] += (x[:, 0] > 0) * x[:, -1]
        g[:, -1] += x[:, 0].relu()
        return (g / level).reshape(L.shape)
    return odds, slope

def _right(L, floor, steps, message, level=1.0, kept=None):
    odds, slope = _odds(level)
    before, calls = L.detach().clone(), []
    def watched(x):
        calls.append(len(x))
        return odds(x)
    found = adds_up(watched, L, floor, steps)
    assert truth.equal(L.detach(), before), "the function changes the levels"
    assert found.dtype == L.dtype, f"wrong precision: {message}"
    assert not found.requires_grad, f"a graph hangs behind the result: {message}"
    assert L.grad is None, f"a gradient is left in levels: {message}"
    way = before.double() - floor
    total = sum(slope(floor + (i + 0.5) / steps * way) for i in range(steps))
    assert truth.close(found, way * total / steps, rtol=1e-3, atol=1e-4), (
        f"wrong: {message}, floor {floor:g}, {steps} steps")

for _case in range(5):
    _x = torch.randn(hidden.integer(f"batch {_case}", 1, 4), *_shape, generator=_generator)
    _right(_x, hidden.real(f"floor {_case}", -3.0, -0.5), hidden.integer(f"steps {_case}", 1, 12),
           f"a batch of {len(_x)}")
_x = torch.randn(3, *_shape, generator=_generator)
_right(_x, 0.0, 4, "a floor of 0")
_right(_x, 1.5, 3, "a floor above the picture")
_right(0 * _x - 2, -2.0, 3, "a picture at the floor")
_right(_x.clone().requires_grad_(), -1.0, 3, "levels that want gradients")
_right(torch.randn(2, 2, 3, 2, generator=_generator), -1.0, 3, "harmonics, heights and frames")
_right(_x[:, :, 0], -1.0, 3, "one axis behind the batch")
_right(_x.mT.contiguous().mT, -1.0, 5, "not contiguous")
with torch.no_grad():
    _right(_x, -1.0, 3, "gradients switched off")
torch.set_grad_enabled(True)
_weight = torch.nn.Parameter(torch.ones(12))
_found = adds_up(lambda L: (L.flatten(1) @ _weight).tanh(), _x, -1.0, 3)
assert _weight.grad is None, "a gradient is left in the network's parameters"
assert not _found.requires_grad, "a graph hangs behind the result"
_found = adds_up(lambda L: _weight.sum() + torch.zeros(len(L)), _x, -1.0, 3)
assert truth.equal(_found, 0 * _x), "a network that hears only its own parameters: zeros"
assert truth.equal(adds_up(lambda L: torch.ones(len(L)), _x, -1.0, 2), 0 * _x), "deaf: zeros"
_half = adds_up(lambda L: (L.flatten(1)[:, :3]).sum(1), _x, -1.0, 2)
assert truth.close(_half.flatten(1)[:, :3], _x.flatten(1)[:, :3] + 1), "it hears three points only"
for _edge, _level, (_y,) in edges.mutated(_x):
    _right(_y, -1.0 * _level, 4, _edge, _level)
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: what does it go by?
#
# The band's tagger (13.11) names nine instruments in five seconds of a song. What does it go by: the order of events, the spectrum, the level, or habit? The cell below gives you songs in chunks with what sounds in them, the tagger in its two steps (levels, then probabilities), and, for each chunk, the share of pairs of a tag that sounds and one that doesn't which the tagger ranks right (1/2 is a coin): for all nine tags, and for the six that not every song has.
#
# Change what the tagger gets, and see. Write about 200 words:
# - what you changed, what you kept, and on how many songs and chunks your numbers rest,
# - a table: for the song as it is; 20 dB softer; with its frames in random order; with each band's mean over time in all frames; with the mean over bands in all bands; moved up by 8 bands; its first half, then zeros; its first half twice; silence; and the **next song** instead of this one, always with this song's labels: the pairs in order, for nine and for six tags, and the mean probability of tags that sound and of tags that don't,
# - for each change in how many of your songs it does worse than with the song as it is, by the pairs of nine tags and by those of six,
# - a reading: which change hurts most, and which hardly, and what does that say of what it goes by? What does the next song tell about the pairs of nine tags: how much of 0.9 is hearing? And what do the zeros do that the repetition doesn't?
# - one thing that this experiment can't tell.

# %%
# EXPERIMENT: songs in chunks, the band's tagger in two steps, pairs in order; add your own cells
RATE_HZ, CHUNK = 16_000, 80_000  # samples of a chunk of five seconds
SIX = slice(3, 9)  # guitar, piano, strings, brass, winds, synth; before them drums, bass, vocals


def song_in_chunks(number):
    """A test song of the band: audio (4, CHUNK), and what sounds in it, 0 or 1, (4, 9)."""
    from course_lib.data import open_tracks
    from course_lib.data.band import compose
    from course_lib.data.band.library import SPLITS
    from course_lib.data.resampling import resample
    from course_lib.experiments.taggers import activity, sounding
    track = open_tracks("band", "test", count=number + 1)[number]
    x = resample(track.mixture.mean(0, keepdim=True), track.rate, RATE_HZ)[0, :4 * CHUNK]
    frames = activity(compose(SPLITS["test"][number], 20.0))[..., :200].unflatten(-1, (4, 50))
    everything = torch.ones(len(frames), dtype=torch.bool)
    labels = [sounding(chunk, everything) for chunk in frames.unbind(-2)]
    return x.unflatten(0, (4, CHUNK)), torch.stack(labels)


def bands_tagger():
    """The tagger: .levels(audio) gives dB (chunk, 64, frame), .tagged(levels) probabilities."""
    from course_lib.training import load_trained
    return load_trained("tagger_band").eval().requires_grad_(False)


def in_random_order(levels):
    """The same frames, each somewhere else."""
    order = torch.randperm(levels.shape[-1], generator=torch.Generator().manual_seed(0))
    return levels[..., order]


def moved_up(levels, bands):
    """The picture higher by some bands; the lowest one fills up what is free."""
    return torch.cat([levels[:, :1].expand(-1, bands, -1), levels[:, :-bands]], 1)


def in_order(p, labels):
    """Share of the pairs (one that sounds, one that doesn't) in order, the mean over chunks."""
    shares = []
    for given, on in zip(p, labels.bool()):
        if on.any() and not on.all():
            apart = given[on][:, None] - given[~on]
            shares.append(((apart > 0).float() + (apart == 0).float() / 2).mean())
    return float(torch.stack(shares).mean()) if shares else math.nan

# For example:  tagger, (x, labels) = bands_tagger(), song_in_chunks(0)
#               p = tagger.tagged(in_random_order(tagger.levels(x)))
#               in_order(p, labels), in_order(p[:, SIX], labels[:, SIX]), p[labels == 1].mean()

# %% [markdown]
# <!-- TASK 6 (6 points): what does it go by? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and chunks, what was changed and where (audio or levels), what is scored; the labels are always those of the song itself.
# - 2 points: the table with plausible numbers, on more than one song with the number of songs in which each change does worse, or with a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: by nine tags 0.90 of the pairs are in order, but with the *next song* it is 0.88, and worse in 4 of 8 songs only: every song of this band has drums and bass, and nearly every chunk a voice, so that whoever always says so is right. Most of the 0.90 is habit. Silence gives 0.37: the habit needs some sound to be woken by.
#   Random order changes hardly anything (0.89, worse in 4 of 8): it doesn't go by the order of events. The mean over time does, in all 8 songs (0.70): drums and voices, which move, are no longer found, while by the six other tags it is worse in 2 of 8 only: those go by the spectrum. Half a chunk of zeros makes everything unlikely, what sounds (0.78 to 0.44) and what doesn't (0.20 to 0.03), and is worse by both measures in 7 of 8;
#   the same half twice changes hardly anything: it isn't the missing half that hurts, but the silence. 20 dB softer is worse in 7 of 8 by nine tags: softer than anything in training. An answer that takes 0.90 for hearing without a word on the next song gets at most one point here.
# - 1 point: by the six tags only the zeros and silence can be told from the song as it is; the others are worse in 2 to 4 of 8 songs. And a limit, such as: 32 chunks of eight songs of one band, played by one soundfont, the one it was trained with; one network, trained once; pairs within a chunk, where the chapter ranks the chunks for each tag; a changed picture is also one that it has never seen, so that a loss may tell of the strange and not of the missing.
#
# For comparison, means over the first eight test songs, four chunks each, with the cell above (shares of pairs in order, and mean probabilities).
#
# | heard | nine tags | six tags | sounding | not sounding |
# |---|---|---|---|---|
# | as it is | 0.90 | 0.74 | 0.78 | 0.20 |
# | 20 dB softer | 0.84 | 0.74 | 0.58 | 0.14 |
# | frames in random order | 0.89 | 0.75 | 0.75 | 0.21 |
# | mean over time | 0.70 | 0.71 | 0.43 | 0.21 |
# | mean over bands | 0.84 | 0.66 | 0.54 | 0.15 |
# | 8 bands up | 0.86 | 0.68 | 0.69 | 0.19 |
# | first half, then zeros | 0.79 | 0.53 | 0.44 | 0.03 |
# | first half twice | 0.89 | 0.76 | 0.77 | 0.20 |
# | silence | 0.37 | 0.37 | 0.01 | 0.02 |
# | the next song | 0.88 | 0.69 | 0.74 | 0.25 |
# <!-- END RUBRIC -->
