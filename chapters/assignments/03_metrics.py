# %% [markdown]
# # Assignment 3 · Scores, and how to mistrust them
#
# Six tasks, 26 points. Five ask for a short function, the last for an experiment and a written answer. They follow
# chapter 3, but none is a copy of it. In one you write no metric at all: you break some.
#
# **How it works**
# - Replace `raise NotImplementedError(...)` by your code. Keep the first line of the cell and the function's name and
#   arguments.
# - Each task is followed by a check. It tells you what is wrong, on a few small examples. The grade comes from more and
#   stricter checks: other signals and sizes, silence, perfect estimates.
# - `torch`, `math` and your own code are all you need. Functions of `course_lib.metrics` don't count as your own work,
#   nor does changing the checks. You may add cells.
# - A function must not change its arguments.

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
TIME = variation.integer("time", 200, 900)                                       # samples
NOISE = variation.real("noise", 0.2, 0.8)                                        # its level
LETTERS = sorted("ABCDEFGH", key=lambda name: variation.real(name, 0, 1))        # of eight metrics
LENGTH = 10 * variation.integer("tens", 2, 5) + variation.integer("ones", 1, 9)  # of your signals
FREQUENCY = variation.integer("frequency", 50, 900)                              # hertz
GAIN = variation.real("gain", 0.7, 0.95)                                         # too quiet
DELAY = variation.integer("delay", 2, 5)                                         # samples

# %% [markdown]
# ## Task 1: three sums are enough
#
# A song doesn't fit into memory, so you read it in chunks. Luckily SDR, SI-SDR and SD-SDR don't need the signals, only
# three sums over them: $\sum_n s^2$, $\sum_n s \hat s$ and $\sum_n \hat s^2$, and sums of chunks simply add up. With
#
# $$ \text{SDR} = \frac{\lVert s \rVert^2}{\lVert s - \hat s \rVert^2}, \quad
# \text{SI-SDR} = \frac{\lVert \alpha s \rVert^2}{\lVert \alpha s - \hat s \rVert^2}, \quad
# \text{SD-SDR} = \frac{\lVert \alpha s \rVert^2}{\lVert s - \hat s \rVert^2}, \qquad \alpha = \frac{\langle \hat s, s \rangle}{\lVert s \rVert^2} $$
#
# (each as $10 \log_{10}$), expand the squares and write the three in terms of the sums.

# %%
# TASK 1 (4 points): three sums are enough
def scores_from_sums(ss, se, ee):
    """SDR, SI-SDR and SD-SDR in dB from the sums of s * s, s * s_hat and s_hat * s_hat: (3, ...).

    ss, se, ee: real tensors of one shape (...), possibly (). All three scores are NaN where the
    reference is silent. A silent estimate has the SDR 0, no SI-SDR (NaN), and the SD-SDR minus
    infinity. A perfect estimate has infinity three times. An energy that rounding has made negative
    counts as 0.
    """
    ### BEGIN SOLUTION
    alpha = se / ss
    error = (ss - 2 * se + ee).clamp_min(0)
    rest = (ee - alpha * se).clamp_min(0)  # of the estimate, at a right angle to s
    ratios = torch.stack([ss / error, alpha * se / rest, alpha * se / error])
    return torch.where(ss > 0, 10 * torch.log10(ratios), torch.nan)
    ### END SOLUTION

# %%
# CHECK 1
s, s_hat = torch.tensor([2., 0., 1., 2.]), torch.tensor([2., 1., 0., 1.])
found = scores_from_sums((s * s).sum(), (s * s_hat).sum(), (s_hat * s_hat).sum())
assert found.shape == (3,), f"three scores; you return the shape {tuple(found.shape)}"
expected = torch.tensor([9 / 3, 4 / 2, 4 / 3]).log10() * 10
for name, yours, right in zip(("SDR", "SI-SDR", "SD-SDR"), found, expected):
    assert abs(yours - right) < 1e-4, (
        f"the {name} of {s_hat.tolist()} for {s.tolist()} is {right:.3f} dB, you say {yours:.3f}")
generator = torch.Generator().manual_seed(TIME)
s = torch.randn(3, TIME, generator=generator, dtype=torch.float64)              # (source, time)
s_hat = 0.8 * s + NOISE * torch.randn(3, TIME, generator=generator, dtype=torch.float64)
found = scores_from_sums((s * s).sum(-1), (s * s_hat).sum(-1), (s_hat * s_hat).sum(-1))
sdr = 10 * torch.log10((s ** 2).sum(-1) / ((s - s_hat) ** 2).sum(-1))
assert found.shape == (3, 3), f"sums of three sources give (3, 3) scores, not {tuple(found.shape)}"
assert torch.allclose(found[0], sdr), f"the SDR of three noisy sources is {sdr}, you say {found[0]}"
assert (found[1] > found[2]).all(), "the estimates are too quiet, so SD-SDR must be below SI-SDR"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 1")
def _from_signals(s, s_hat):
    """The three from the signals themselves, in float64."""
    target = (s * s_hat).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True) * s
    signals = [(one ** 2).sum(-1) for one in (s, target, target)]
    errors = [((one - s_hat) ** 2).sum(-1) for one in (s, target, s)]
    return torch.stack([10 * torch.log10(signal / error) for signal, error in zip(signals, errors)])

def _sums(s, s_hat):
    return (s * s).sum(-1), (s * s_hat).sum(-1), (s_hat * s_hat).sum(-1)

_generator = hidden.generator("signals")
for _case, _leading in enumerate(((2, 4), (3,), (), (1, 2, 2))):
    _s, _noise = torch.randn(2, *_leading, 300, generator=_generator, dtype=torch.float64)
    _s_hat = hidden.choice(f"gain {_case}", [-0.6, 0.3, 1.8]) * _s
    _s_hat = _s_hat + hidden.real(f"noise {_case}", 0.1, 1.0) * _noise
    for _level in (1.0, 1e-6):
        _given = _sums(_level * _s, _level * _s_hat)
        _copies = [sums.clone() for sums in _given]
        _found = scores_from_sums(*_given)
        assert all(map(truth.equal, _given, _copies)), "the function changes its input"
        assert _found.shape == (3, *_leading), "wrong shape for other numbers of songs or sources"
        assert truth.close(_found, _from_signals(_s, _s_hat), rtol=1e-5, atol=1e-5), (
            "wrong scores for other signals")
    _found = scores_from_sums(*(sums.float() for sums in _sums(_s, _s_hat)))
    assert truth.close(_found, _from_signals(_s, _s_hat), rtol=1e-3, atol=1e-3), (
        "wrong scores for float32 sums")
_zero, _one = torch.zeros(2), torch.tensor([4.0, 9.0])
for _ee in (_one, _zero):
    assert bool(scores_from_sums(_zero, _zero, _ee).isnan().all()), (
        "a silent reference must give NaN")
_found = scores_from_sums(_one, _zero, _zero)
assert truth.close(_found[0], torch.zeros(2)), "a silent estimate has an SDR of 0"
assert bool(_found[1].isnan().all()) and bool(_found[2].isneginf().all()), (
    "wrong SI-SDR or SD-SDR for a silent estimate")
assert bool(scores_from_sums(_one, _one, _one).isposinf().all()), "a perfect estimate has infinity"
_found = scores_from_sums(_one, -2 * _one, 4 * _one)
assert bool(_found[1].isposinf().all()) and truth.close(_found[2, 0], math.log10(4 / 9) * 10), (
    "wrong scores for an estimate of the wrong sign and level")
_found = scores_from_sums(torch.tensor(0.1), torch.tensor(0.1), torch.tensor(0.1) - 4e-9)
assert bool(_found.isposinf().all()), (
    "an energy that rounding has made negative counts as 0: a nearly perfect estimate then has "
    "infinity"
)
_edge_s, _edge_noise = torch.randn(2, 9, 40, generator=_generator, dtype=torch.float64)
for _edge, _level, _given in edges.mutated(
    *_sums(_edge_s, 0.7 * _edge_s + 0.4 * _edge_noise), tiny=1e-12, huge=1e12
):
    _signals = (_edge_s, 0.7 * _edge_s + 0.4 * _edge_noise)
    _expected = _from_signals(*(signal[:_given[0].shape[0]] for signal in _signals))
    _expected = torch.where(_given[0] > 0, _expected, math.nan)  # silent ones among the others
    _found = scores_from_sums(*_given)
    assert truth.equal(_found.isnan(), _expected.isnan()), f"NaN for the wrong songs: {_edge}"
    assert truth.close(_found.nan_to_num(0.0), _expected.nan_to_num(0.0), rtol=1e-3, atol=1e-3), (
        f"wrong scores: {_edge}")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 2: which of these metrics lie?
#
# Eight metrics, all of them said to be the SDR of a stereo source: the energy of the reference over the energy of the
# error, both summed over channels and time, as $10 \log_{10}$. They take `(estimate, reference)`, two tensors `(2,
# time)`. **Some are right, if unusual. The others can be fooled**: there are estimates whose score they raise above the
# true SDR. Each of the mistakes is easily made. Read them.

# %%
def by_norms(e, s):
    return 20 * torch.log10(s.norm() / (s - e).norm())

def by_channels(e, s):
    return (10 * torch.log10((s ** 2).sum(-1) / ((s - e) ** 2).sum(-1))).mean()

def by_mono_error(e, s):
    error = (s - e).sum(0)
    return 10 * torch.log10((s ** 2).sum() / (error ** 2).sum())

def by_difference(e, s):
    return 10 * ((s ** 2).sum().log10() - ((e - s).flatten() @ (e - s).flatten()).log10())

def by_clipped(e, s):
    return 10 * torch.log10((s ** 2).sum() / ((s - e.clamp(-1, 1)) ** 2).sum())

def by_sounding(e, s):
    heard = s != 0
    return 10 * torch.log10((s[heard] ** 2).sum() / ((s[heard] - e[heard]) ** 2).sum())

def by_centred(e, s):
    error = s - e
    return 10 * torch.log10((s ** 2).sum() / ((error - error.mean(-1, keepdim=True)) ** 2).sum())

def by_frames(e, s):
    frames = s.shape[-1] // 10                                         # frames of ten samples
    s, e = s[:, :10 * frames], e[:, :10 * frames]
    return 10 * torch.log10((s ** 2).sum() / ((s - e) ** 2).sum())

METRICS = dict(zip(LETTERS, (by_norms, by_channels, by_mono_error, by_difference,
                             by_clipped, by_sounding, by_centred, by_frames)))

# %% [markdown]
# For each metric that can be fooled give a *counterexample*: an estimate and a reference, finite and `(2, LENGTH)`, on
# which it is at least 3 dB above the true SDR, both scores being finite. Metrics that are right get no entry. The
# signals are taken as float32 and the scores computed from them in float64, so that rounding fools nobody.

# %%
# TASK 2 (5 points): which of these metrics lie?
def counterexamples():
    """{letter: (estimate, reference)} for the metrics that can be fooled, signals (2, LENGTH)."""
    ### BEGIN SOLUTION
    letters = {metric.__name__: letter for letter, metric in METRICS.items()}
    s = 0.5 + 0.1 * torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(LENGTH, generator=torch.Generator().manual_seed(1))
    right_only, gap, late = s + noise * torch.tensor([[0.001], [1.0]]), s.clone(), s + 0.001
    gap[:, 5:9] = 0
    late[:, -1] += 1.0
    cases = {"by_channels": (right_only, s),
             "by_mono_error": (s + noise * torch.tensor([[1.0], [-0.99]]), s),
             "by_clipped": (s + 30 * (s > 0.55), s), "by_sounding": (s + 0.001, gap),
             "by_centred": (s + 1 + 0.01 * noise, s), "by_frames": (late, s)}
    return {letters[name]: pair for name, pair in cases.items()}
    ### END SOLUTION

# %%
# CHECK 2
def score(metric, estimate, reference):
    return float(metric(estimate.float().double(), reference.float().double()))

def true_sdr(estimate, reference):
    return score(
        lambda e, s: 10 * torch.log10((s**2).sum() / ((s - e) ** 2).sum()), estimate, reference
    )

pairs = counterexamples()
assert isinstance(pairs, dict) and set(pairs) <= set(LETTERS), (
    "a dictionary whose keys are among the metrics' letters")
assert len(pairs) >= 1, "not all of them are right"
for letter, (estimate, reference) in pairs.items():
    for signal in (estimate, reference):
        assert signal.shape == (2, LENGTH), (
            f"{letter}: shape {tuple(signal.shape)}; expected (2, {LENGTH})")
        assert signal.float().isfinite().all(), f"{letter}: a signal that isn't finite fools nobody"
    found, right = score(METRICS[letter], estimate, reference), true_sdr(estimate, reference)
    assert math.isfinite(found) and math.isfinite(right), (
        f"{letter}: says {found:.1f} dB, truly {right:.1f}; both must be finite")
    assert found >= right + 3, (
        f"{letter} says {found:.1f} dB, and the SDR is {right:.1f}: not fooled by 3 dB")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
_fooled = {name for name, metric in METRICS.items() if metric not in (by_norms, by_difference)}
_pairs = counterexamples()
assert set(_pairs) >= _fooled, "a metric that can be fooled has no counterexample"
for _letter, (_estimate, _reference) in _pairs.items():
    _found = score(METRICS[_letter], _estimate, _reference)
    assert 3 <= _found - true_sdr(_estimate, _reference) < math.inf, (
        "a counterexample that doesn't fool its metric")
assert set(_pairs) == _fooled, "a metric that is right has a counterexample"
for _edge in edges.EDGES:
    edges.left_out(_edge, "the function is given nothing")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 3: how late may it be?
#
# An estimate of a long steady tone of $f$ hertz has the right pitch but only $g$ times its amplitude, and comes late by
# $d$ seconds. With the phase $\varphi = 2 \pi f d$ its error has the energy $|1 - g\, e^{i\varphi}|^2$ relative to that
# of the tone. What is the largest delay that still scores `target` dB of SDR, counting from zero upwards until the
# score first drops below it?

# %%
# TASK 3 (3 points): how late may it be?
def largest_delay(frequency, gain, target):
    """The largest delay in seconds, a float, up to which the SDR stays at `target` dB or above.

    frequency: hertz. gain: g > 0. NaN where even without a delay the target is missed; infinity
    where every delay will do.
    """
    ### BEGIN SOLUTION
    c = (1 + gain ** 2 - 10 ** (-target / 10)) / (2 * gain)  # the phase's smallest cosine
    if c > 1:
        return math.nan
    return math.inf if c <= -1 else math.acos(c) / (2 * math.pi * frequency)
    ### END SOLUTION

# %%
# CHECK 3
def sdr_of_tone(frequency, gain, delay):
    t = torch.arange(20000, dtype=torch.float64) / 20000  # a second, a whole number of periods
    s = torch.sin(2 * math.pi * frequency * t)
    s_hat = gain * torch.sin(2 * math.pi * frequency * (t - delay))
    return float(10 * torch.log10((s ** 2).sum() / ((s - s_hat) ** 2).sum()))

for gain, target in ((1.0, 20.0), (GAIN, 8.0), (1 / GAIN, 5.0), (1.0, 0.0)):
    delay = largest_delay(FREQUENCY, gain, target)
    assert 0 < delay < 0.5 / FREQUENCY, (
        f"gain {gain:.2f}, {target} dB: a delay of {delay} s isn't in the first half period")
    score = sdr_of_tone(FREQUENCY, gain, delay)
    assert abs(score - target) < 1e-3, (
        f"gain {gain:.2f}: with your delay of {delay:.6f} s the tone has {score:.2f} dB, not "
        f"{target}")
best = sdr_of_tone(FREQUENCY, GAIN, 0.0)
assert math.isnan(largest_delay(FREQUENCY, GAIN, best + 1)), (
    f"a gain of {GAIN:.2f} alone costs so much that {best + 1:.1f} dB are out of reach: NaN")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 3")
def _score(frequency, gain, delay):
    """In dB, from the vectors of the two tones."""
    phase = 2 * math.pi * frequency * delay
    return -10 * math.log10((1 - gain * math.cos(phase)) ** 2 + (gain * math.sin(phase)) ** 2)

for _case in range(12):
    _frequency = hidden.real(f"frequency {_case}", 20, 15000)
    _gain = hidden.real(f"gain {_case}", 0.3, 2.0)
    _best, _worst = -20 * math.log10(abs(1 - _gain) + 1e-9), -20 * math.log10(1 + _gain)
    _target = _worst + (min(_best, 30) - _worst) * hidden.real(f"target {_case}", 0.05, 0.95)
    _low, _high = 0.0, 0.5 / _frequency  # halving: the score falls all the way
    for _step in range(60):
        _middle = (_low + _high) / 2
        _good = _score(_frequency, _gain, _middle) >= _target
        _low, _high = (_middle, _high) if _good else (_low, _middle)
    _found = largest_delay(_frequency, _gain, _target)
    assert truth.close(float(_found), _low, rtol=1e-5, atol=1e-12), (
        "wrong delay for other tones, gains or targets")
    assert math.isnan(largest_delay(_frequency, _gain, _best + 0.5)), (
        "out of reach even without a delay: NaN")
    assert largest_delay(_frequency, _gain, _worst - 0.5) == math.inf, (
        "every delay scores that much: infinity")
for _gain, _share in (
    (gain, share) for gain in (0.5, 1.0, 1.7) for share in (0.03, 0.3, 0.7, 0.97)
):
    # up to half a period, on both sides of a quarter
    _delay = math.acos(1 - 2 * _share) / (2 * math.pi * 150.0)
    _found = largest_delay(150.0, _gain, _score(150.0, _gain, _delay))
    assert truth.close(float(_found), _delay, rtol=1e-5, atol=1e-12), (
        "wrong delay where the phase at the border is small, near a quarter or near half a period")
for _edge, _frequency, _gain in (("short", 15000.0, 1.0), ("tiny", 0.01, 1e-3), ("huge", 1e6, 1e3),
                                 ("other type", 440, 2)):
    for _phase in (0.02, 1.0, 3.0):
        _delay = _phase / (2 * math.pi * _frequency)
        _found = largest_delay(
            edges.case(_edge, _frequency), _gain, _score(_frequency, _gain, _delay)
        )
        assert truth.close(float(_found), _delay, rtol=1e-4, atol=0.0), f"wrong delay: {_edge}"
edges.left_out("zeros inside", "the function sees no samples")
### END HIDDEN TESTS

# %% [markdown]
# ## Task 4: forgiving small shifts
#
# Framing may be off by a few samples to either side, and it may be a bit smeared. So let us forgive **any combination
# of copies of the reference that are shifted by** $-K, \dots, K$ **samples**: project the estimate onto all of them,
# and call what the projection $P$ explains the signal:
#
# $$ 10 \log_{10} \frac{\lVert P \rVert^2}{\lVert \hat s - P \rVert^2}, \qquad P[n] = \sum_{k=-K}^{K} c_k\, s[n - k], $$
#
# with the numbers $c_k$ that bring $P$ nearest to $\hat s$. A shifted copy keeps its length: what leaves at one end is
# lost, and zeros come in at the other. `torch.linalg.lstsq(A, b).solution` finds the $c$ that brings $A c$ nearest to
# $b$.

# %%
# TASK 4 (4 points): forgiving small shifts
def forgiving_sdr(estimate, reference, K):
    """The score above in dB, a float; NaN where the estimate or the reference is silent.

    estimate, reference: real (time,). K: the largest shift in samples, 0 or more, few for `time`.
    """
    ### BEGIN SOLUTION
    if not (estimate.any() and reference.any()):
        return math.nan
    s_hat, time = estimate.double(), len(estimate)
    copies = F.pad(reference.double(), (K, K)).unfold(0, time, 1).T      # (time, 2 K + 1)
    P = copies @ torch.linalg.lstsq(copies, s_hat[:, None]).solution[:, 0]
    return float(10 * torch.log10((P ** 2).sum() / ((s_hat - P) ** 2).sum()))
    ### END SOLUTION

# %%
# CHECK 4
generator = torch.Generator().manual_seed(TIME + 1)
reference, noise = torch.randn(2, TIME, generator=generator)
noisy = reference + NOISE * noise
alpha = (noisy @ reference) / (reference @ reference)
si_sdr = float(20 * torch.log10((alpha * reference).norm() / (alpha * reference - noisy).norm()))
found = forgiving_sdr(noisy, reference, 0)
assert isinstance(found, float), f"a float, not {type(found).__name__}"
assert abs(found - si_sdr) < 1e-3, (
    f"without any shift only the level is forgiven: SI-SDR, {si_sdr:.2f} dB; you say {found:.2f}")
late, early = F.pad(reference, (DELAY, 0))[:TIME], F.pad(reference, (0, DELAY))[DELAY:]
for name, shifted in (("late", late), ("early", early), ("late and early", late - 0.4 * early)):
    found = forgiving_sdr(shifted, reference, DELAY)
    assert found > 60, (
        f"the reference, {DELAY} samples {name}, has a combination that fits; you say only "
        f"{found:.1f} dB")
    found = forgiving_sdr(shifted, reference, DELAY - 1)
    assert found < 15, f"but with shifts up to {DELAY - 1} it has none; you say {found:.1f} dB"
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 4")
def _by_normal_equations(estimate, reference, K):
    """The same by orthogonalising the copies one after another, in float64."""
    e, s, basis = estimate.double(), reference.double(), []
    for k in range(-K, K + 1):
        copy = torch.zeros_like(s)
        if k >= 0:
            copy[k:] = s[:len(s) - k]
        else:
            copy[:k] = s[-k:]
        for _again in range(2):
            for b in basis:
                copy = copy - (copy @ b) * b
        basis.append(copy / copy.norm())
    P = sum((e @ b) * b for b in basis)
    return float(10 * torch.log10((P @ P) / ((e - P) @ (e - P))))

_generator = hidden.generator("signals")
for _case in range(6):
    _time = hidden.integer(f"time {_case}", 40, 90)
    _s = torch.randn(_time, generator=_generator)
    _s[-5:] *= 6                                                         # loud at the end
    _e = hidden.choice(f"gain {_case}", [-0.7, 0.5, 2.0]) * F.pad(_s, (2, 0))[:_time]
    _e = _e + 0.5 * torch.randn(_time, generator=_generator)
    _level = hidden.choice(f"level {_case}", [1.0, 1e-5])
    for _K in (0, 1, 3, 6):
        _given = (_level * _e, _level * _s)
        _copies = [signal.clone() for signal in _given]
        _found = forgiving_sdr(*_given, _K)
        assert all(truth.equal(new, old) for new, old in zip(_given, _copies)), (
            "the function changes its input")
        assert truth.close(float(_found), _by_normal_equations(_e, _s, _K), rtol=1e-3, atol=1e-3), (
            "wrong scores for other signals, lengths, levels or shifts")
assert math.isnan(forgiving_sdr(0 * _e, _s, 2)), "a silent estimate has no score: NaN"
assert math.isnan(forgiving_sdr(_e, 0 * _s, 2)), "a silent reference has no score: NaN"
_s = torch.randn(60, generator=_generator)
_e = 0.6 * F.pad(_s, (1, 0))[:60] + 0.4 * torch.randn(60, generator=_generator)
for _edge, _level, (_e, _s) in edges.mutated(_e, _s, short=12, tiny=1e-12, huge=1e12):
    assert truth.close(
        float(forgiving_sdr(_e, _s, 2)), _by_normal_equations(_e, _s, 2), rtol=1e-3, atol=1e-3
    ), f"wrong score: {_edge}"
### END HIDDEN TESTS

# %% [markdown]
# ## Task 5: does the metric rank like listeners?
#
# Listeners rated several systems on several songs; a metric scored the same. If one puts all of it into one
# correlation, easy songs get high ratings and high scores from everybody, and the metric looks good (or bad) for
# knowing songs, not systems. So: compute **Spearman's rank correlation over the systems of each song, and take the mean
# over the songs**.
#
# Spearman's correlation is Pearson's between the *ranks*, $\sum (a - \bar a)(b - \bar b) \big/ \sqrt{\sum (a - \bar
# a)^2 \sum (b - \bar b)^2}$. Equal values share the mean of their ranks: 10, 30, 30, 50 have the ranks 1, 2.5, 2.5, 4.

# %%
# TASK 5 (4 points): does the metric rank like listeners?
def within_song_correlation(ratings, scores):
    """The mean over songs of the rank correlation over systems, a float; NaN if none can be used.

    ratings, scores: real (song, system). Where one of the two is NaN the pair is left out; infinity
    is a value like any other. Songs with fewer than three pairs, or whose ratings or scores are all
    equal, are left out.
    """
    ### BEGIN SOLUTION
    def ranks(x):
        return ((x[:, None] > x).sum(1) + (x[:, None] >= x).sum(1) + 1).double() / 2
    correlations = []
    for a, b in zip(ratings, scores):
        both = ~(a.isnan() | b.isnan())
        a, b = ranks(a[both]), ranks(b[both])
        if len(a) >= 3 and (a != a[0]).any() and (b != b[0]).any():
            correlations.append(float(torch.corrcoef(torch.stack([a, b]))[0, 1]))
    return sum(correlations) / len(correlations) if correlations else math.nan
    ### END SOLUTION

# %%
# CHECK 5
nan = math.nan
found = within_song_correlation(torch.tensor([[20., 50., 90.]]), torch.tensor([[1., 4., 9.]]))
assert isinstance(found, float), f"a float, not {type(found).__name__}"
assert abs(found - 1) < 1e-6, f"both rank the three systems alike: 1, you say {found:.3f}"
ratings = torch.tensor([[10., 20., 30.], [70., 80., 90.]])                   # (song, system)
found = within_song_correlation(ratings, torch.tensor([[9., 10., 11.], [1., 2., 3.]]))
assert abs(found - 1) < 1e-6, (
    f"within each song both rank alike: 1, you say {found:.3f}. Are the songs kept apart?")
ties = torch.tensor([[10., 30., 30., 50.]]), torch.tensor([[1., 3., 2., 4.]])
found = within_song_correlation(*ties)
assert abs(found - 4.5 / math.sqrt(4.5 * 5)) < 1e-6, (
    f"ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4: {4.5 / math.sqrt(4.5 * 5):.4f}, you say {found:.4f}")
gaps = torch.tensor([[10., nan, 30., 50., 20.]]), torch.tensor([[4., 3., 2., math.inf, nan]])
found = within_song_correlation(*gaps)
assert abs(found - 0.5) < 1e-6, (
    f"three pairs are left, ranks 1, 2, 3 against 2, 1, 3: 0.5, you say {found:.3f}")
### BEGIN HIDDEN TESTS
from course_lib.classroom import edges, hidden_variation, truth
hidden = hidden_variation("task 5")
def _by_counting(ratings, scores):
    """The same in Python's own numbers."""
    values = []
    for a, b in zip(ratings.tolist(), scores.tolist()):
        pairs = [(x, y) for x, y in zip(a, b) if not (math.isnan(x) or math.isnan(y))]
        columns = [[sum(y < x for y in column) + sum(y <= x for y in column) for x in column]
                   for column in zip(*pairs)]
        if len(pairs) < 3 or any(len(set(ranks)) == 1 for ranks in columns):
            continue
        middle = len(pairs)  # of twice the rank less one
        a, b = ([rank - middle for rank in ranks] for ranks in columns)
        size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
        values.append(sum(x * y for x, y in zip(a, b)) / size)
    return sum(values) / len(values) if values else math.nan

_generator = hidden.generator("ratings")
for _case in range(6):
    _size = hidden.integer(f"songs {_case}", 2, 6), hidden.integer(f"systems {_case}", 4, 8)
    _scores = 5 * torch.randn(_size, generator=_generator).double()
    _scores += 8 * torch.randn(_size[0], 1, generator=_generator)  # songs are easy or hard
    _ratings = (_scores + 4 * torch.randn(_size, generator=_generator)) / 4
    _ratings = 10 * _ratings.round() + 50                                    # with ties
    if _case % 2:
        _ratings[0, 1], _scores[-1, 2], _scores[0, 0] = nan, nan, math.inf
    if _case >= 3:
        _more = torch.randn(3, _size[1], generator=_generator).double()
        _ratings = torch.cat([_ratings, 0 * _more[:1], _more[1:]])  # of one song all are equal
        _scores = torch.cat([_scores, _more])
        _ratings[-2, 2:], _scores[-1] = nan, 3.0  # too few, and equal scores
    _copies = _ratings.clone(), _scores.clone()
    _found = within_song_correlation(_ratings, _scores)
    for _now, _before in zip((_ratings, _scores), _copies):
        assert truth.equal(_now.nan_to_num(-1e9), _before.nan_to_num(-1e9)), "it changes its input"
    assert truth.close(float(_found), _by_counting(*_copies), atol=1e-6), "wrong for other ratings"
_useless = torch.tensor([[5., 5., 5.], [1., 2., nan]]), torch.randn(2, 3, generator=_generator)
assert math.isnan(within_song_correlation(*_useless)), "where no song can be used the answer is NaN"
_ends = torch.tensor([[10., 30., 20.]]), torch.tensor([[-1., -math.inf, -2.]])
_found = within_song_correlation(*_ends)
assert truth.close(float(_found), -1.0), "infinity is a value like any other"
_ratings, _scores = torch.randn(2, 3, 9, generator=_generator).double()
for _edge, _level, (_ratings, _scores) in edges.mutated(
    _ratings, _scores, short=3, tiny=1e-12, huge=1e12
):
    _found = within_song_correlation(_ratings, _scores)
    assert truth.close(float(_found), _by_counting(_ratings, _scores), atol=1e-6), (
        f"wrong correlation: {_edge}"
    )
### END HIDDEN TESTS

# %% [markdown]
# ## Task 6: can one win by turning a knob?
#
# A separator lets some of the other instruments through. Somebody suggests to turn its output down a little "for a
# better SDR". Does that work? Find out with estimates of the vocals that leak more or less. The cell below gives you
# songs of the band, such estimates, and two scores; the rest of the experiment is yours, in cells of your own below it.
# It needs none of your other answers.
#
# Write about 200 words:
# - what you varied, what you kept, and on how many songs and seconds your numbers rest,
# - a table: the SDR for leaks of 0.2, 0.4, 0.6 (rows) and gains of 0.25, 0.5, 0.75 and 1 on the estimate (columns), and
#   SI-SDR beside it,
# - for each leak the gain that is best for SDR, by least squares or by trying. Is there a case where a *worse*
#   separator, turned down, beats a better one?
# - the reason, and what you would do in a competition, in a product, and in a paper.

# %%
# EXPERIMENT: songs, estimates and scores to begin with; write your own cells below
def band_sources(number):
    """Eight seconds of the four stems of a song of the band, mono: (source, time), vocals last."""
    from course_lib.data import STEMS, open_tracks
    track = open_tracks("band", "test", count=number + 1)[number]
    return track.excerpt(4.0, 8.0).sources(STEMS).mean(1)


def leaking_vocals(sources, leak):
    """The vocals by an ideal ratio mask, plus `leak` times the rest of the mixture: (time,)."""
    size = dict(n_fft=2048, hop_length=512, window=torch.hann_window(2048))
    S = torch.stft(sources, **size, return_complex=True)               # (source, bin, frame)
    mask = S[3].abs() ** 2 / (S.abs() ** 2).sum(0).clamp_min(1e-12)
    vocals = torch.istft(mask * S.sum(0), **size, length=sources.shape[-1])
    return vocals + leak * (sources.sum(0) - vocals)


def sdr(estimate, reference):
    """SDR in dB of a signal (time,)."""
    return float(10 * torch.log10((reference ** 2).sum() / ((reference - estimate) ** 2).sum()))


def si_sdr(estimate, reference):
    """SI-SDR in dB of a signal (time,)."""
    target = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * torch.log10((target ** 2).sum() / ((target - estimate) ** 2).sum()))

# For example:  sources = band_sources(0);  sdr(0.5 * leaking_vocals(sources, 0.4), sources[3])

# %% [markdown]
# <!-- TASK 6 (6 points): can one win by turning a knob? -->
# *Your answer here.*
#
# <!-- BEGIN RUBRIC -->
# **Rubric** (whole points; one of two points where a criterion is met in part)
#
# - 1 point: the setting can be repeated: songs and seconds, what leak and gain mean, the scores; one thing varies at a
#   time.
# - 2 points: a table of three leaks and four gains with plausible numbers, SI-SDR beside it and seen to be the same for
#   all gains, and more than one song, or a remark that one song is not evidence.
# - 2 points: a right reading with a reason. Expected: the more it leaks, the more SDR rewards turning down, by several
#   decibels; the leak of 0.6 at half volume beats the leak of 0.4 at full volume. The error has two parts, what is
#   missing of the voice and what leaks; a lower gain trades the second for the first. The best gain is $\langle \hat s,
#   s \rangle / \lVert \hat s \rVert^2$, the smaller the more wrong the estimate is, and with it no estimate is below 0
#   dB, for silence has 0. (A very good answer: the best SDR is $10 \log_{10}(1 + 10^{\text{SI-SDR}/10})$.)
# - 1 point: the consequence. The voice isn't cleaner, only quieter: ranks can be bought where gains differ, so
#   compare at each method's best gain, or by SI-SDR, or by SIR and SAR, or by ear; in a product the stems must add up
#   to the mixture again, which a lower gain breaks; the best gain may be learned from validation songs, never from the
#   test song's reference.
#
# For comparison, means over the first four test songs, seconds 4 to 12, in mono, with the cell above (dB):
#
# | leak | 0.25 | 0.5 | 0.75 | 1 | best | SI-SDR |
# |---|---|---|---|---|---|---|
# | 0.2 | 2.0 | 4.1 | 5.6 | 5.3 | 6.0 | 4.4 |
# | 0.4 | 1.8 | 2.9 | 2.6 | 1.0 | 3.5 | 0.3 |
# | 0.6 | 1.5 | 1.4 | -0.1 | -2.1 | 2.2 | -2.6 |
# <!-- END RUBRIC -->
