# %% [markdown]
# # Chapter 14b · MixIT, learning from mixtures alone
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/14b_mixit.ipynb)
#
# All networks of part II were shown the stems. Nobody has the stems of most music. *Mixture invariant training* needs none: add two
# mixtures, have a network take the sum apart into many pieces, and ask only that the pieces can be put together to the two mixtures again. This chapter builds it
# term by term, trains it, and looks at the place where music breaks its assumption: sources that play together.
#
# **You will be able to**
# - write the loss with its ceiling and its search over assignments, and make the search cheap,
# - say what a network has to learn to make that loss small, and what it need not learn,
# - see the assumption fail in a world of four sounds, and test it on songs with and against the beat,
# - name the outputs: by an oracle, and by a tagger,
# - use MixIT as preparation for training with few labelled songs, and measure whether that helps.
#
# **You need** SDR and SI-SDR (chapter 3), masks (chapter 1), and a tagger (chapter 13).
#
# **Time** <!-- minutes 14b_mixit -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about two hours.

# %% [markdown]
# ## 14b.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp mixit
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("14b_mixit", cpu=dict(steps=150), gpu=dict(steps=150), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/mixit.py`.

# %%
#| export
import itertools
import math
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.metrics import sdr
from course_lib.spectral import istft, stft

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
from course_lib.data import STEMS, open_tracks, recording
from course_lib.data.mono import mono_tracks
from course_lib.experiments import mixit as experiment
from course_lib.notebook import Diagram, listen, mean_interval, show, show_table
from course_lib.notebook.claims import (Claim, difference_in_words, reproduced, same_trend,
                                        show_claims)
from course_lib.results import measured, measured_card, shipped_file
from course_lib.training import read_card

# %% [markdown]
# ## 14b.1 A score with a ceiling
#
# The loss compares a mixture $x$ with an estimate $\hat x$ by the signal-to-noise ratio. One thing is new: once an estimate is good, it shall stop mattering, so that a batch isn't ruled by its easiest example. A *soft threshold* $\tau$ does that:
#
# $$ \mathcal L(x, \hat x) = 10 \log_{10} \bigl( \|x - \hat x\|^2 + \tau \|x\|^2 \bigr) - 10 \log_{10} \|x\|^2, \qquad \tau = 10^{-\mathrm{SNR}_{\max} / 10}. \tag{14b.1} $$
#
# With $\hat x = 0$ it is near 0 dB; with $\hat x = x$ it is $10 \log_{10} \tau = -\mathrm{SNR}_{\max}$, −30 dB by default, and no less. Note that it isn't scale-invariant: the pieces have to *add up*, so their level counts.
#
# A silent $x$ would make the second term −∞. Then we measure the error by another energy, that of the whole mixture, as was done for a data set with a varying number of sources.

# %% [markdown]
# First the checks that all functions share.

# %%
#| export
EPS = 1e-8  # added to energies: what is far below it is silence


def _check_signals(**signals: Tensor) -> None:
    """Each float (batch, signal, time), of one batch and length, none of these axes empty."""
    check_audio(**signals)
    for name, x in signals.items():
        if x.ndim != 3 or 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (batch, signal, time), "
                             "none of these axes empty")
    if len({(x.shape[0], x.shape[2]) for x in signals.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in signals.items())
        raise ValueError(f"{shapes}: expected the same batch and time; cut them to one length")

# %% [markdown]
# Then (14b.1):

# %%
#| export
def negative_snr(estimates: Tensor, references: Tensor, max_snr: float = 30.0,
                 power: Tensor | None = None) -> Tensor:
    """Minus the SNR in dB, clamped softly at max_snr (eq. 14b.1): (..., time) to (...).

    estimates, references: floats of one shape. max_snr: dB from which on a better estimate earns
    nothing more. power: (...), energy that a *silent* reference is measured by, e.g. that of the
    mixture; without it two silences give 0 dB. Finite, and so are its gradients, for silence.
    ValueError for other shapes. Source: Wisdom et al. 2020, section 3.1; section 14b.1.
    """
    check_audio(estimates=estimates, references=references)
    if estimates.shape != references.shape or 0 in estimates.shape:
        raise ValueError(f"estimates has shape {tuple(estimates.shape)}, references "
                         f"{tuple(references.shape)}; expected one shape (..., time), not empty")
    own = references.square().sum(-1)
    if power is not None:
        own = torch.where(own > 0, own, power)
    error = (references - estimates).square().sum(-1)
    tau = 10 ** (-max_snr / 10)
    return 10 * torch.log10(error + tau * own + EPS) - 10 * torch.log10(own + EPS)

# %% [markdown]
# Three estimates of one signal, and the two silences:

# %%
x = torch.randn(1, 8000, generator=P.generator)
noise = torch.randn(1, 8000, generator=P.generator)
losses = {"nothing": 0 * x, "a tenth of noise": x + 0.1 * noise, "perfect": x}
values = {name: float(negative_snr(estimate, x)) for name, estimate in losses.items()}
show_table([[name, value] for name, value in values.items()], ["estimate", "loss, dB"], digits=1,
           caption="Equation (14b.1) with a ceiling of 30 dB.")
assert abs(values["perfect"] + 30) < 0.01 and abs(values["nothing"]) < 0.01

# %% [markdown]
# A silent estimate of a silent reference has a finite loss and no gradient that pulls:

# %%
silent = torch.zeros(1, 8000, requires_grad=True)
quiet = negative_snr(silent, torch.zeros(1, 8000), power=x.square().sum(-1))
quiet.sum().backward()
assert abs(float(quiet.detach()) + 30) < 0.01 and silent.grad.abs().max() == 0

# %% [markdown]
# <details><summary>Quick question: by how much does the ceiling change the loss at an SNR of 20 dB?</summary>
#
# The error is a hundredth of the energy, $\tau$ a thousandth: $10 \log_{10} (0.011 / 0.01) = 0.41$ dB.
# </details>
#
# ## 14b.2 What came before: any order will do
#
# Suppose we do have the sources, say of two speakers. Which output is to be which? There is no answer: speakers have no order. *Permutation invariant training* (PIT) takes the order $\pi$ of the $N$ estimates $\hat s$ that fits the sources $s_n$ best, for each example anew:
#
# $$ \mathcal L_{\text{PIT}} = \min_{\pi} \frac1N \sum_{n=1}^{N} \mathcal L\bigl(s_n, \hat s_{\pi(n)}\bigr). \tag{14b.2} $$
#
# All pairs are scored once, in a table of $N \times N$; an order picks one entry from each row and column.

# %%
#| export
def pit_loss(estimates: Tensor, references: Tensor,
             max_snr: float = 30.0) -> tuple[Tensor, Tensor]:
    """Permutation invariant loss (eq. 14b.2): losses (batch,) and permutations (batch, source).

    estimates, references: (batch, source, time) of one shape, else ValueError. The loss is the mean
    of `negative_snr` over sources; permutation[b, n] is the estimate that reference n gets. Silent
    references are measured by the energy of all references' sum. Of equal ones the first in
    lexical order. All source! orders are tried: up to 7 sources.
    Source: Yu et al. 2017; section 14b.2.
    """
    _check_signals(estimates=estimates, references=references)
    count = references.shape[1]
    if estimates.shape != references.shape or count > 7:
        raise ValueError(f"estimates has shape {tuple(estimates.shape)}, references "
                         f"{tuple(references.shape)}; expected one shape of at most 7 sources")
    power = references.sum(1).square().sum(-1)[:, None, None]
    pairs = negative_snr(*torch.broadcast_tensors(estimates[:, None], references[:, :, None]),
                         max_snr, power)                            # (batch, reference, estimate)
    orders = torch.tensor(list(itertools.permutations(range(count))), device=pairs.device)
    losses = pairs[:, torch.arange(count, device=pairs.device), orders].mean(-1)  # (batch, order)
    best = _first_smallest(losses)
    return losses.gather(1, best[:, None])[:, 0], orders[best]


def _first_smallest(x: Tensor) -> Tensor:
    """Where each row of (batch, candidate) is smallest; the first of equal ones."""
    places = torch.arange(x.shape[1], device=x.device)
    return torch.where(x == x.amin(1, keepdim=True), places, x.shape[1]).amin(1)

# %% [markdown]
# Shuffle three sources, and the order is found again:

# %%
s = torch.randn(1, 3, 4000, generator=P.generator)
shuffled = s[:, [2, 0, 1]]
loss, order = pit_loss(shuffled, s)
print("reference n is estimate", order[0].tolist())
assert order[0].tolist() == [1, 2, 0] and abs(float(loss) + 30) < 0.01
assert torch.equal(shuffled[0, order[0]], s[0])

# %% [markdown]
# Drums, bass and vocals *have* an order, so chapters 4 to 9 didn't need PIT. What matters here is the idea: a minimum over discrete choices, in the loss. The gradient goes through the winner.
#
# PIT still needs the sources $s_n$. Can the minimum make up for not having them?
#
# ## 14b.3 A mixture of mixtures
#
# Take two songs, $x_1$ and $x_2$, and add them. The sum $\bar x = x_1 + x_2$ goes into a network with $M$ outputs $\hat s_1, \dots, \hat s_M$. We know nothing about the outputs, but this: *if* they are sources, each belongs to one of the songs. So there is a matrix $A$ of zeros and ones ($\mathbb B = \{0, 1\}$), each column with a single one, with $A \hat s \approx (x_1, x_2)$:
#
# $$ \mathcal L_{\text{MixIT}} = \min_{A \in \mathbb B^{2 \times M}} \sum_{n=1}^{2} \mathcal L\bigl(x_n, [A \hat s]_n\bigr), \qquad \sum_{n} A_{nm} = 1. \tag{14b.3} $$

# %%
d = Diagram()
first = d.block("song $x_1$", "(time)", kind="data", at=(0, 0.8))
second = d.block("song $x_2$", "(time)", kind="data", at=(0, -0.8))
both = d.join("+", after=[first, second])
network = d.block("network", "(M, time)", kind="trained", after=both)
outputs = d.block("outputs\n$s_1 ... s_M$", "(M, time)", kind="data", after=network)
assign = d.block("best $A$", "(2, M)", after=outputs)
score = d.block("loss (14b.3)", "()", kind="loss", after=assign)
d.arrow(first, score, route="over")
d.arrow(second, score, route="under")
show(d.draw(), "MixIT: two songs are added, taken apart, and put together again.", d.in_words())

# %% [markdown]
# Why should the outputs become instruments? The network doesn't know which sounds came from which song. If a guitar and a voice are left in one output, and they came from different songs, no $A$ can repair it. What the network can't tell to be *together*, it has to keep *apart*. Remember the converse: **what always comes together need never be taken apart.**
#
# The matrices, for three outputs:

# %%
#| export
def mixing_matrices(mixtures: int, outputs: int) -> Tensor:
    """All ways to give each output to one mixture: (mixtures^outputs, mixtures, outputs), 0 and 1.

    In lexical order of the outputs' mixtures: in the first matrix all go to mixture 0. ValueError
    for counts below 1 and for more than 65,536 matrices (then: `least_squares_assignment`).
    Source: Wisdom et al. 2020, section 3.2; section 14b.3.
    """
    if mixtures < 1 or outputs < 1 or mixtures ** outputs > 65_536:
        raise ValueError(f"mixtures is {mixtures} and outputs {outputs}; expected at least one of "
                         "each, and at most 65,536 matrices, mixtures ** outputs")
    owners = torch.cartesian_prod(*[torch.arange(mixtures)] * outputs).view(-1, outputs)
    return F.one_hot(owners, mixtures).transpose(1, 2).float()      # (matrix, mixture, output)

# %% [markdown]
# Eight matrices, all different, one 1 in each column:

# %%
A = mixing_matrices(2, 3)
print(A.shape, "the third:", A[2].int().tolist())
assert A.shape == (8, 2, 3) and (A.sum(1) == 1).all() and len(A.flatten(1).unique(dim=0)) == 8

# %% [markdown]
# ## 14b.4 The best of all assignments
#
# The matrices are finitely many, so the best one can simply be looked for:
#
# $$ A^{\star} = \arg\min_{A} \; \sum_{n=1}^{2} \mathcal L\bigl(x_n, [A \hat s]_n\bigr), \qquad A_{nm} \in \{0, 1\}, \quad \sum_n A_{nm} = 1. \tag{14b.4} $$
#
# As a loop, whole on the screen:

# %%
def by_loop(outputs, mixtures):
    """The smallest loss over all matrices, and the matrix: outputs (output, time)."""
    best, chosen = math.inf, None
    for A in mixing_matrices(len(mixtures), len(outputs)):
        loss = float(negative_snr(A @ outputs, mixtures).sum())
        if loss < best:
            best, chosen = loss, A
    return best, chosen

# %% [markdown]
# Five outputs that are parts of two mixtures, and a little noise:

# %%
parts = torch.randn(5, 4000, generator=P.generator)
belongs = torch.tensor([[1., 0, 0, 1, 0], [0, 1, 1, 0, 1]])
mixtures = belongs @ parts
noisy = parts + 0.1 * torch.randn(5, 4000, generator=P.generator)
best, chosen = by_loop(noisy, mixtures)
print("found:", chosen.int().tolist())
assert torch.equal(chosen, belongs)

# %% [markdown]
# Each of the $2^M$ rounds sums $M$ signals of thousands of samples. All of them ask for energies of the same signals, so multiply out:
#
# $$ \|x_n - \textstyle\sum_m A_{nm} \hat s_m\|^2 = \|x_n\|^2 - 2 \sum_m A_{nm} C_{nm} + \sum_{m, m'} A_{nm} G_{mm'} A_{nm'}, \qquad C = x \hat s^{\top},\; G = \hat s \hat s^{\top}. \tag{14b.5} $$
#
# The signals are read once; what is left are products of small matrices: $x$ holds the mixtures in its rows, $\hat s$ the outputs. The difference of large numbers takes 64 bits.

# %%
#| export
def mixture_errors(outputs: Tensor, mixtures: Tensor, matrices: Tensor) -> Tensor:
    """Energy of x - A s for each matrix A, without forming A s (eq. 14b.5).

    outputs s: (batch, output, time). mixtures x: (batch, mixture, time). matrices: (matrix,
    mixture, output). Returns (batch, matrix, mixture), computed in 64 bits. Source: section 14b.4.
    """
    _check_signals(outputs=outputs, mixtures=mixtures)
    s, x, A = (y.double() for y in (outputs, mixtures, matrices))
    G, C = s @ s.mT, x @ s.mT          # (batch, output, output), (batch, mixture, output)
    inner = torch.einsum("kno,bno->bkn", A, C)
    squares = torch.einsum("kno,bop,knp->bkn", A, G, A)
    return (x.square().sum(-1)[:, None] - 2 * inner + squares).clamp_min(0)

# %% [markdown]
# For all 32 matrices of the five outputs, against the direct way:

# %%
all_five = mixing_matrices(2, 5)
by_products = mixture_errors(noisy[None], mixtures[None], all_five)[0]      # (matrix, mixture)
directly = (mixtures - all_five @ noisy).square().sum(-1)
print("largest relative difference below 1e-4:",
      bool(((by_products - directly).abs() / directly).max() < 1e-4))
assert torch.allclose(by_products, directly.double(), rtol=1e-4)

# %% [markdown]
# The best matrix is chosen by these errors; the loss itself is computed for that one only, from the signals, and with a gradient:

# %%
#| export
def best_assignment(outputs: Tensor, mixtures: Tensor, max_snr: float = 30.0) -> Tensor:
    """The mixing matrix with the smallest loss (14b.3), of all there are: (batch, mixture, output).

    outputs: (batch, output, time). mixtures: (batch, mixture, time). No gradient. Of equal ones the
    first of `mixing_matrices`. ValueError for other shapes and more than 65,536 matrices.
    Source: Wisdom et al. 2020, section 3.2; section 14b.4.
    """
    _check_signals(outputs=outputs, mixtures=mixtures)
    matrices = mixing_matrices(mixtures.shape[1], outputs.shape[1]).to(outputs.device)
    with torch.no_grad():
        error = mixture_errors(outputs, mixtures, matrices)         # (batch, matrix, mixture)
        own = reference_power(mixtures).double()[:, None]
        tau = 10 ** (-max_snr / 10)
        losses = (10 * torch.log10(error + tau * own + EPS)).sum(-1)
        return matrices[_first_smallest(losses)].to(outputs.dtype)


def reference_power(mixtures: Tensor) -> Tensor:
    """What each mixture's error is measured by: its energy, or that of the sum where it is silent.

    (batch, mixture, time) to (batch, mixture).
    """
    own, whole = mixtures.square().sum(-1), mixtures.sum(1).square().sum(-1)
    return torch.where(own > 0, own, whole[:, None])

# %%
#| export
def mixit_loss(outputs: Tensor, mixtures: Tensor, max_snr: float = 30.0,
               assign=None) -> tuple[Tensor, Tensor]:
    """Mixture invariant loss (eq. 14b.3): losses (batch,) and matrices (batch, mixture, output).

    outputs: (batch, output, time), what a separator makes of mixtures.sum(1). mixtures: (batch,
    mixture, time). max_snr: see `negative_snr`. assign: (outputs, mixtures) -> matrices; by default
    `best_assignment`. The loss is the sum over mixtures of `negative_snr`; its gradient goes
    through the outputs, not through the choice. ValueError for other shapes. Source: Wisdom et al.
    2020; section 14b.4.
    """
    _check_signals(outputs=outputs, mixtures=mixtures)
    if assign is None:
        A = best_assignment(outputs, mixtures, max_snr)
    else:
        A = assign(outputs.detach(), mixtures)
    whole = mixtures.sum(1).square().sum(-1)[:, None]
    return negative_snr(A @ outputs, mixtures, max_snr, whole).sum(1), A

# %% [markdown]
# It agrees with the loop, and two properties come for free:

# %%
loss, A = mixit_loss(noisy[None], mixtures[None])
print("as the loop:", abs(float(loss) - best) < 1e-3, torch.equal(A[0], chosen))
assert abs(float(loss) - best) < 1e-3 and torch.equal(A[0], chosen)
moved = noisy[None, [4, 2, 0, 1, 3]]
assert abs(float(mixit_loss(moved, mixtures[None])[0]) - best) < 1e-3
assert abs(float(mixit_loss(noisy[None], mixtures[None].flip(1))[0]) - best) < 1e-3

# %% [markdown]
# The last two lines say what the name means: the order of outputs doesn't matter, nor that of the mixtures. Two more facts are worth knowing. An output may stay unused only by being *silent*, since it has to go somewhere; and $A$ may give all outputs to one mixture.
#
# ## 14b.5 Without trying all
#
# $2^M$ is 256 for 8 outputs, and over a million for 20. Wisdom et al. (2021) ask first for any real matrix, by least squares, then round it: each output goes where its weight is largest.
#
# $$ \tilde A = \arg\min_{A \in \mathbb R^{2 \times M}} \|x - A \hat s\|^2 = C\, G^{-1}, \qquad A_{nm} = 1 \text{ for } n = \arg\max_{n'} \tilde A_{n'm}. \tag{14b.6} $$

# %%
#| export
def least_squares_assignment(outputs: Tensor, mixtures: Tensor, ridge: float = 1e-6) -> Tensor:
    """A mixing matrix by least squares, then rounding (eq. 14b.6): (batch, mixture, output).

    Takes any number of outputs. Each output goes to the mixture with its largest weight; of equal
    weights (a silent output's) to the first. ridge: share of the outputs' mean energy added to the
    equations' diagonal, so that silent or equal outputs don't spoil them. No gradient. ValueError
    for other shapes. Source: Wisdom et al. 2021; section 14b.5.
    """
    _check_signals(outputs=outputs, mixtures=mixtures)
    with torch.no_grad():
        s, x = outputs.double(), mixtures.double()
        G, C = s @ s.mT, x @ s.mT
        level = G.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None]
        eye = torch.eye(G.shape[-1], dtype=G.dtype, device=G.device)
        weights = torch.linalg.solve(G + (ridge * level + 1e-12) * eye, C.mT).mT
        owners = _first_smallest(-weights.mT.flatten(0, 1)).view(len(s), -1)   # (batch, output)
        return F.one_hot(owners, x.shape[1]).mT.to(outputs.dtype)

# %% [markdown]
# For outputs that are nearly sources both ways agree; for outputs that still hold parts of everything they need not. Count over 100 draws, from clean to blurred:

# %%
agree, costs = {}, {}
for blur in (0.1, 0.5, 1.0):
    s = torch.randn(100, 6, 800, generator=P.generator)
    owners = torch.randint(2, (100, 6), generator=P.generator)
    x = torch.nn.functional.one_hot(owners, 2).mT.float() @ s
    outputs = s + blur * torch.randn(100, 6, 6, generator=P.generator) @ s / 6 ** 0.5
    exact, rounded = best_assignment(outputs, x), least_squares_assignment(outputs, x)
    agree[blur] = float((exact == rounded).all((1, 2)).float().mean())
    costs[blur] = float((mixit_loss(outputs, x, assign=least_squares_assignment)[0]
                         - mixit_loss(outputs, x)[0]).mean())
show_table([[blur, 100 * agree[blur], costs[blur]] for blur in agree],
           ["blur", "same matrix (%)", "loss above the best, dB"],
           digits={"same matrix (%)": 0, "blur": 1},
           caption="Least squares against all 64 matrices, 100 draws of six outputs.")
assert agree[0.1] == 1 and agree[1.0] < agree[0.1] and min(costs.values()) > -1e-4

# %% [markdown]
# ## 14b.6 Pieces that add up
#
# The true sources sum to $\bar x$; masks drawn one by one don't. The nearest outputs that do are found by giving each an equal share of what is missing:
#
# $$ \hat s_m \leftarrow \hat s_m + \frac1M \Bigl( \bar x - \sum_{m'} \hat s_{m'} \Bigr). \tag{14b.7} $$
#
# It is a projection: doing it twice changes nothing, and the change is orthogonal to every set of signals that sums to zero. Chapter 9 shared a residual the same way; here it is the network's last layer, so that training knows of it.

# %%
#| export
def mixture_consistency(outputs: Tensor, mixture: Tensor, weights: Tensor | None = None) -> Tensor:
    """The nearest outputs that sum to the mixture (eq. 14b.7): (..., output, time).

    outputs: (..., output, time). mixture: (..., time). weights: (..., output, 1) or (output, 1),
    of how much of the residual each gets, summing to 1 over outputs; equal by default.
    ValueError for shapes that don't fit. Source: Wisdom et al. 2019; section 14b.6.
    """
    check_audio(outputs=outputs, mixture=mixture)
    if outputs.ndim < 2 or outputs.shape[:-2] + outputs.shape[-1:] != mixture.shape:
        raise ValueError(f"outputs has shape {tuple(outputs.shape)}, mixture "
                         f"{tuple(mixture.shape)}; expected (..., output, time) and (..., time)")
    share = 1 / outputs.shape[-2] if weights is None else weights
    return outputs + share * (mixture - outputs.sum(-2)).unsqueeze(-2)

# %% [markdown]
# Four signals that don't add up, made to:

# %%
rough = torch.randn(4, 500, generator=P.generator)
whole = torch.randn(500, generator=P.generator)
once = mixture_consistency(rough, whole)
zero_sum = torch.randn(4, 500, generator=P.generator)
zero_sum = zero_sum - zero_sum.mean(0)
print("sums to the mixture:", torch.allclose(once.sum(0), whole, atol=1e-5))
assert torch.allclose(once.sum(0), whole, atol=1e-5)
assert torch.allclose(mixture_consistency(once, whole), once, atol=1e-5)
assert abs(float(((once - rough) * zero_sum).sum())) < 1e-2

# %% [markdown]
# ## 14b.7 The network
#
# Masks on a spectrogram, drawn by a *temporal convolutional network*: blocks of a wide 1 × 1 convolution, a convolution over time within each channel whose taps lie 1, 2, 4, ... frames apart, and a 1 × 1 convolution back. Each block adds to its input (the drawing shows that sum once; every block makes it). It is Conv-TasNet's separator, on an STFT instead of a learned basis, which needs far fewer frames a second.

# %%
d = Diagram()
x_ = d.block("$|X|^{0.3}$", "(513, frame)", kind="data")
first = d.block("1 x 1, norm", "(128, frame)", kind="trained", after=x_)
spread = d.block("1 x 1", "(256, frame)", kind="trained", after=first)
depth = d.block("dilated", "(256, frame)", kind="trained", after=spread)
gather = d.block("1 x 1", "(128, frame)", kind="trained", after=depth)
plus = d.join("+", after=gather)
d.arrow(first, plus, route="over")
d.group([spread, depth, gather], "12 blocks, dilations 1 to 32, twice")
last = d.block("1 x 1, sigmoid", "(8, 513, frame)", kind="trained", after=plus, gap=0.5)
show(d.draw(), "From a spectrogram to eight masks; norms and PReLUs of the blocks left out.",
     d.in_words())

# %%
#| export
class TemporalBlock(nn.Module):
    """A dilated convolution over time in each channel between two 1x1 ones; adds its input.

    channels: in and out. hidden: within. dilation: of the middle one, kernel 3. (batch, channel,
    frame) to the same. Source: Luo and Mesgarani 2019; section 14b.7.
    """

    def __init__(self, channels: int, hidden: int, dilation: int):
        super().__init__()
        self.spread = nn.Conv1d(channels, hidden, 1)
        self.first_norm = nn.GroupNorm(1, hidden)
        self.over_time = nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation,
                                   groups=hidden)
        self.second_norm = nn.GroupNorm(1, hidden)
        self.gather = nn.Conv1d(hidden, channels, 1)
        self.first_slope, self.second_slope = nn.PReLU(), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.first_norm(self.first_slope(self.spread(x)))
        y = self.second_norm(self.second_slope(self.over_time(y)))
        return x + self.gather(y)

# %% [markdown]
# The power 0.3 makes soft bins visible, and dividing by the mixture's level makes loud and soft songs alike.

# %%
#| export
class MaskTCN(nn.Module):
    """Separates by masks that a temporal convolutional network draws: (batch, time) to (batch,
    output, time).

    outputs: signals it gives. n_fft, hop_length: of the STFT, in samples. channels, hidden: of the
    blocks. blocks: in a row, dilations 1, 2, 4, ...; repeats: of the row. consistent: whether the
    outputs are made to sum to the mixture. The mixture's level doesn't matter. ValueError for
    other shapes. Source: after Wisdom et al. 2020 and Luo and Mesgarani 2019; section 14b.7.
    """

    def __init__(self, outputs: int = 8, n_fft: int = 1024, hop_length: int = 512,
                 channels: int = 128, hidden: int = 256, blocks: int = 6, repeats: int = 2,
                 consistent: bool = True):
        super().__init__()
        self.outputs, self.n_fft, self.hop_length = outputs, n_fft, hop_length
        self.consistent, bins = consistent, n_fft // 2 + 1
        self.first = nn.Sequential(nn.Conv1d(bins, channels, 1), nn.GroupNorm(1, channels))
        self.body = nn.Sequential(*[TemporalBlock(channels, hidden, 2 ** k)
                                    for _ in range(repeats) for k in range(blocks)])
        self.last = nn.Conv1d(channels, outputs * bins, 1)

    def masks(self, X: Tensor) -> Tensor:
        """(batch, bin, frame), complex, to masks (batch, output, bin, frame) between 0 and 1."""
        seen = self.first((X.abs() + 1e-8) ** 0.3)
        return torch.sigmoid(self.last(self.body(seen))).unflatten(1, (self.outputs, -1))

    def forward(self, mixture: Tensor) -> Tensor:
        check_audio(mixture=mixture)
        if mixture.ndim != 2 or 0 in mixture.shape:
            raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (batch, time)")
        level = mixture.square().mean(-1, keepdim=True).sqrt() + 1e-5   # (batch, 1)
        time = mixture.shape[-1]
        padded = F.pad(mixture / level, (0, -time % self.hop_length))      # whole frames to the end
        X = stft(padded, self.n_fft, self.hop_length)
        y = istft(self.masks(X) * X[:, None], self.n_fft, self.hop_length, padded.shape[-1])
        y = y[..., :time] * level[:, None]
        return mixture_consistency(y, mixture) if self.consistent else y

# %% [markdown]
# How many frames does a mask see? Each convolution with kernel 3 and dilation $2^k$ adds $2 \cdot 2^k$: twice $2 (1 + 2 + \dots + 32)$ and one. The norms, though, take the mean over *all* frames, so we check by the gradient of the convolutions alone.

# %%
net = MaskTCN().eval()
frames_seen = 1 + 2 * sum(2 * 2 ** k for k in range(6))
conv_only = torch.nn.Sequential(*[block.over_time for block in net.body])
probe = torch.randn(1, 256, 401, generator=P.generator).requires_grad_()
conv_only(probe)[0, :, 200].sum().backward()
reached = int((probe.grad.abs().sum((0, 1)) > 0).sum())
print(f"{reached} frames, {reached * net.hop_length / experiment.RATE:.1f} s at 16 kHz")
assert reached == frames_seen == 253

# %% [markdown]
# And the whole network: shapes, the sum, the level.

# %%
loud = torch.randn(1, 16_000, generator=P.generator)
with torch.no_grad():
    y, soft = net(loud), net(0.1 * loud)
print(tuple(y.shape), "adds up:", torch.allclose(y.sum(1), loud, atol=1e-4))
assert y.shape == (1, 8, 16_000) and torch.allclose(y.sum(1), loud, atol=1e-4)
assert torch.allclose(soft, 0.1 * y, atol=1e-3)

# %% [markdown]
# ## 14b.8 Four sounds, and who goes with whom
#
# A world small enough for seconds: every example has a low tone, a high tone, clicks and hiss, at equal levels. Two of them are one "song", the other two the other.

# %%
tiny_rate, t = 8000, torch.arange(8000) / 8000
def four_kinds(generator):
    """A low tone, a high tone, clicks and hiss of one second: (4, time), at equal levels."""
    u = torch.rand(3, generator=generator).tolist()
    low = torch.sin(2 * math.pi * (120 + 120 * u[0]) * t)
    high = torch.sin(2 * math.pi * (1500 + 1000 * u[1]) * t)
    places = torch.zeros(1, 1, 8000)
    places[..., torch.randint(8000, (6,), generator=generator)] = 1
    grain = torch.exp(-torch.arange(400) / 60) * torch.randn(400, generator=generator)
    clicks = F.conv1d(places, grain.flip(0)[None, None], padding=399)[0, 0, :8000]
    swell = 1 + torch.sin(2 * math.pi * (3 * t + u[2]))
    hiss = torch.randn(8001, generator=generator).diff() * swell
    kinds = torch.stack([low, high, clicks, hiss])
    return 0.1 * kinds / kinds.square().mean(-1, keepdim=True).sqrt()

# %% [markdown]
# In one world the partners change from example to example. In the other the low tone always comes with the clicks, and the high tone with the hiss: as bass and drums in music.

# %%
def two_songs(generator, fixed):
    """Two mixtures of two kinds each: (2, time)."""
    order = torch.tensor([0, 2, 1, 3]) if fixed else torch.randperm(4, generator=generator)
    kinds = four_kinds(generator)[order]
    return torch.stack([kinds[:2].sum(0), kinds[2:].sum(0)])
kinds = four_kinds(torch.Generator().manual_seed(99))
listen(kinds.sum(0)[None], tiny_rate, "low tone, high tone, clicks and hiss")

# %% [markdown]
# The training step hears the sum and is judged by (14b.3). The sources appear nowhere.

# %%
#| export
class MixITStep:
    """A training step without sources: (model, mixtures) to a loss.

    Called with (model, x), x (batch, mixture, time): the model hears x.sum(1). max_snr: see
    `negative_snr`. sparsity: weight of `output_sparsity`. Source: Wisdom et al. 2020; section
    14b.8.
    """

    def __init__(self, max_snr: float = 30.0, sparsity: float = 0.0):
        self.max_snr, self.sparsity = max_snr, sparsity

    def __call__(self, model: nn.Module, mixtures: Tensor) -> Tensor:
        outputs = model(mixtures.sum(1))
        loss = mixit_loss(outputs, mixtures, self.max_snr)[0].mean()
        return loss + self.sparsity * output_sparsity(outputs).mean() if self.sparsity else loss

# %% [markdown]
# A plain training loop, with Adam:

# %%
def train_tiny(fixed, seed=0):
    """A small network after P.steps steps of MixIT, and its last loss."""
    torch.manual_seed(seed)
    generator, step = torch.Generator().manual_seed(seed), MixITStep()
    model = MaskTCN(4, n_fft=256, hop_length=128, channels=32, hidden=64, blocks=4, repeats=1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(P.steps):
        batch = torch.stack([two_songs(generator, fixed) for _ in range(8)])
        loss = step(model, batch)                                   # (batch, mixture, time) to ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), float(loss.detach())

# %% [markdown]
# Trained once each way:

# %%
tiny = {name: train_tiny(fixed) for name, fixed in (("changing", False), ("fixed", True))}

# %% [markdown]
# Both are judged on the same 48 mixtures of all four kinds. To score outputs that have no names, an *oracle* gives each to one source, so that the squared error is least. It looks at the sources, so this is a bound, not a separation. There are $4^4$ ways here and $4^8$ for eight outputs; but a source's error depends on its own set of outputs only, so sets are combined source by source.

# %%
#| export
def best_partition(outputs: Tensor, references: Tensor) -> Tensor:
    """The oracle's way to give each output to one source: matrices (source, output) of 0 and 1.

    outputs: (output, time). references: (source, time), the true sources: this is no separation,
    but a bound. Of all source ** output ways in which each source gets at least one output (where
    there are enough), the one with the least squared error, found source by source over sets of
    outputs. ValueError for other shapes and more than 12 outputs.
    Source: section 14b.8.
    """
    _check_signals(outputs=outputs[None], references=references[None])
    count = len(outputs)
    if count > 12:
        raise ValueError(f"outputs has {count} outputs; expected at most 12")
    sets = mixing_matrices(2, count)[:, 1:]                          # row k: bits of k, (2^M, 1, M)
    errors = torch.stack([mixture_errors(outputs[None], one[None, None], sets)[0, :, 0]
                          for one in references])                   # (source, set)
    if count >= len(references):
        errors[:, 0] = torch.inf                                    # no source goes without
    best, chosen = errors[0], [torch.arange(2 ** count)]
    inside = [[k for k in range(2 ** count) if k & whole == k] for whole in range(2 ** count)]
    for error in errors[1:]:
        totals = [error[subset] + best[[whole ^ k for k in subset]]
                  for whole, subset in enumerate(inside)]
        chosen.append(torch.tensor([subset[int(total.argmin())]
                                    for subset, total in zip(inside, totals)]))
        best = torch.stack([total.min() for total in totals])
    left, rows = 2 ** count - 1, []
    for one in reversed(chosen):
        rows.append(sets[int(one[left]), 0])
        left ^= int(one[left])
    return torch.stack(rows[::-1]).to(outputs)

# %% [markdown]
# The gain of each kind over the mixture:

# %%
def gains(model):
    """SDR gained over the mixture, (example, kind)."""
    generator, rows = torch.Generator().manual_seed(99), []
    for _ in range(48):
        s = four_kinds(generator)
        with torch.no_grad():
            y = model(s.sum(0, keepdim=True))[0]                    # (output, time)
        rows.append(sdr(best_partition(y, s) @ y, s) - sdr(s.sum(0).expand_as(s), s))
    return torch.stack(rows)

# %% [markdown]
# What is such a gain worth? Two marks, for silence and for *half a pair*: whoever has the pairs of the fixed world without fault, but can't take them apart, does best to give each of the two half of their sum.

# %%
generator, marks = torch.Generator().manual_seed(99), {"silence": [], "half a pair": []}
for _ in range(48):
    s = four_kinds(generator)
    before = sdr(s.sum(0).expand_as(s), s)
    marks["silence"].append(sdr(0 * s, s) - before)
    marks["half a pair"].append(sdr((s + s[[2, 3, 0, 1]]) / 2, s) - before)
marks = {name: torch.stack(rows).mean(1) for name, rows in marks.items()}    # (example,)
print({name: f"{float(mark.mean()):.1f} dB" for name, mark in marks.items()})

# %% [markdown]
# On the same 48 new examples:

# %%
tiny_gains = {name: gains(model) for name, (model, _) in tiny.items()}
changing, fixed = (tiny_gains[name].mean() for name in ("changing", "fixed"))
print("changing partners gain over 2 dB more:", bool(changing > fixed + 2),
      "| more than half a pair:", bool(changing > marks["half a pair"].mean()),
      "| fixed partners less than half a pair:", bool(fixed < marks["half a pair"].mean()),
      "| the loss with changing partners is higher:", tiny["changing"][1] > tiny["fixed"][1])
assert changing > fixed + 2 and tiny["changing"][1] > tiny["fixed"][1]
assert marks["silence"].mean() < fixed < marks["half a pair"].mean() < changing

# %% [markdown]
# Read these answers together. The network with fixed partners has the *better* loss and the *worse* separation. It found the pairs, and nothing asked it for more. Where does each kind's energy go? The masks say it, with the share that consistency adds. With fixed partners the low tone goes where the clicks go, and the high tone where the hiss goes. With changing partners the low tone, the clicks and the hiss have an output each; the high tone is still torn in two, after so short a training.

# %%
def shares_of(model):
    """The share of each kind's energy in each output: (kind, output)."""
    with torch.no_grad():
        X = stft(kinds.sum(0)[None], 256, 128)
        level = kinds.sum(0).square().mean().sqrt() + 1e-5
        masks = model.masks(X / level)[0]                           # (output, bin, frame)
        masks = masks + (1 - masks.sum(0)) / len(masks)             # (14b.7), bin by bin
        power = stft(kinds, 256, 128).abs().square()                # (kind, bin, frame)
    energy = torch.stack([(masks ** 2 * one).sum((1, 2)) for one in power])
    return energy / energy.sum(1, keepdim=True)

# %% [markdown]
# A picture a network:

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.5), layout="constrained")
for axis, (name, (model, _)) in zip(axes, tiny.items()):
    axis.imshow(shares_of(model), vmin=0, vmax=1, cmap="Blues")
    axis.set(xlabel="output", title=f"{name} partners", xticks=range(4), yticks=range(4),
             yticklabels=["low", "high", "clicks", "hiss"])
show(figure, "Where the energy of each kind goes: each row adds up to one, dark is much.",
     "Two grids of four kinds by four outputs. On the right the rows of low and clicks are alike, "
     "and those of high and hiss; on the left they are not.")

# %% [markdown]
# Listen to the clicks of both, as the oracle puts them together. With fixed partners the low tone comes along.

# %%
for name, (model, _) in tiny.items():
    with torch.no_grad():
        y = model(kinds.sum(0, keepdim=True))[0]
    listen((best_partition(y, kinds) @ y)[2:3], tiny_rate, f"the clicks, {name} partners")

# %% [markdown]
# So independence is no technicality. But be careful with the word: the fixed pair is *always* together. In music the bass and the drums of one song are, and of another song they are others. Whether that is enough is for measurement.
#
# ## 14b.9 The band, without stems
#
# `course train mixit_band` trains the network of 14b.7 on the band at 16 kHz: pieces of 3 s from two unrelated songs, added; eight outputs. It never sees a stem. What it reaches on pairs of pieces of *valid* songs while it learns:

# %%
card = read_card(shipped_file("checkpoints/mixit_band.safetensors"))
log = measured("14b_mixit/mixit_band_validation")
figure, axis = plt.subplots(figsize=(6, 2.4), layout="constrained")
axis.plot([int(row["step"]) for row in log], [float(row["snr"]) for row in log], marker="o")
axis.set(xlabel="step", ylabel="SNR, dB", ylim=(0, None))
show(figure, "Pairs of valid pieces told apart, best assignment.",
     "The SNR rises in the first thousand steps and stays level afterwards.")
batch_size = card["config"]["training"]["batch_size"]
print(f"{card['steps']} steps of {batch_size} pairs; SNR {float(log[-1]['snr']):.1f} dB")
assert float(log[-1]["snr"]) > float(log[0]["snr"])

# %% [markdown]
# That is the SNR of *mixtures* put together from outputs. Now a single test song, which the network takes apart into eight outputs just the same:

# %%
rate = experiment.RATE
song = mono_tracks(lambda: open_tracks("band", "test", count=1), rate, 20.0)[0].excerpt(5, 10)
references = song.sources(STEMS)[:, 0]                              # (source, time)
outputs = experiment.separate_sources(song.mixture, rate)[:, 0]     # (output, time)
print(tuple(outputs.shape), "adds up:", torch.allclose(outputs.sum(0), song.mixture[0], atol=1e-3))
assert torch.allclose(outputs.sum(0), song.mixture[0], atol=1e-3)
listen(song.mixture, rate, "a test song of the band")

# %% [markdown]
# ### Too many outputs
#
# The song has four stems, the network eight outputs, since two songs may have as many. With four left over, a stem may be spread over several: *over-separation*. Two numbers tell. How many outputs are within 20 dB of the loudest; and how evenly the level $r_m$ (root mean square) is spread,
#
# $$ \frac{\sum_m r_m}{\sqrt{\sum_m r_m^2}}, \tag{14b.8} $$
#
# which is 1 for a single output and $\sqrt M$ for $M$ alike. As a penalty beside the loss it asks for sparse outputs.

# %%
#| export
def output_sparsity(outputs: Tensor) -> Tensor:
    """How evenly energy is spread over outputs (eq. 14b.8): 1 for one output, sqrt(M) for M alike.

    (..., output, time) to (...): the sum of the outputs' levels over the root of the sum of their
    squares. Smaller is sparser; 1 for silence. Source: Wisdom et al. 2021; section 14b.9.
    """
    check_audio(outputs=outputs)
    levels = (outputs.square().mean(-1) + 1e-12).sqrt()             # (..., output)
    quiet = levels.square().sum(-1) < 1e-10
    ratio = levels.sum(-1) / levels.square().sum(-1).sqrt()
    return torch.where(quiet, torch.ones_like(ratio), ratio)


def active_outputs(outputs: Tensor, below: float = 20.0) -> Tensor:
    """Outputs that are less than `below` dB softer than the loudest one: (..., output, time) to
    (...) whole numbers; 0 for silence. Source: section 14b.9.
    """
    check_audio(outputs=outputs)
    energy = outputs.square().sum(-1)
    loudest = energy.amax(-1, keepdim=True)
    return ((energy > loudest * 10 ** (-below / 10)) & (loudest > 0)).sum(-1)

# %% [markdown]
# For our song:

# %%
energy = 10 * torch.log10(outputs.square().mean(-1) / song.mixture.square().mean())
loudest_first = energy.sort(descending=True)
show_table([[m, float(value)] for m, value in zip(loudest_first.indices.tolist(),
                                                  loudest_first.values)],
           ["output", "level against the song's, dB"], digits=0,
           caption="Eight outputs of one song, loudest first.")
evenness = float(output_sparsity(outputs))
print(f"active: {int(active_outputs(outputs))} | evenness {evenness:.1f} of at most {8 ** 0.5:.1f}")
assert 1 <= evenness <= 8 ** 0.5 + 1e-5 and active_outputs(outputs) > 4

# %% [markdown]
# No output rests: consistency gives every one a share of what is missing, and the loss has no reason to keep any silent. Whoever wants four stems has to put them together.
#
# ## 14b.10 Which output is what?
#
# The oracle we have. A listener without stems can ask chapter 13's tagger: each output is heard in chunks of 5 s and goes to drums, bass or vocals, or to `other` where another instrument is more probable than all three.

# %%
oracle = experiment.by_oracle(outputs, references)
tagged, owners = experiment.by_tagger(outputs)
chosen = best_partition(outputs, references).argmax(0)
show_table([[m, STEMS[int(chosen[m])], STEMS[owners[m]]] for m in range(len(outputs))],
           ["output", "oracle", "tagger"], caption="Who owns the outputs of this song.")
assert len(set(chosen.tolist())) == 4 and len(owners) == 8

# %% [markdown]
# <details><summary>Quick question: why can the oracle's stems never have a larger squared error, summed over stems, than the tagger's, if the tagger uses all four?</summary>
#
# The oracle's is the least among all ways to give outputs to stems in which none goes without, and the tagger's is one of them.
# </details>

# %% [markdown]
# Listen to the oracle's stems:

# %%
for place, stem in enumerate(STEMS):
    listen(oracle[place:place + 1], rate, f"{stem}, chosen by the oracle")
together = (oracle - references).square().sum(), (tagged - references).square().sum()
print("the oracle's squared error is smaller:", bool(together[0] <= together[1]))
if len(set(owners)) == 4:
    assert together[0] <= together[1] * (1 + 1e-5)

# %% [markdown]
# And a recording, a voice and a guitar, which no training of the band heard. Its two loudest outputs:

# %%
real, _ = recording("fishin", rate, start=12.0, seconds=6.0, mono=True)
pieces = experiment.separate_sources(real, rate)                   # (output, channel, time)
loudest = pieces.square().sum((1, 2)).argsort(descending=True)
listen(real, rate, "Karissa Hobbs, Let's Go Fishin'")
for place in loudest[:2]:
    listen(pieces[place], rate, f"output {int(place)}")
assert torch.allclose(pieces.sum(0), real, atol=1e-2)

# %% [markdown]
# ### The table
#
# `course experiment mixit` scores the middle 10 s of 20 test songs: SDR and SI-SDR less those of the mixture, with 95% intervals over songs. Beside MixIT with three ways to choose (oracle, tagger, and *in turn*, which is chance) stand chapter 2's rules, the supervised networks of chapters 6 and 8, and the bounds. Look at *silence* first: nothing at all "gains" several dB of SDR, because it beats the mixture's own SDR, which is below zero. SI-SDR has no such gift: it doesn't exist for silence.

# %%
others = measured("14b_mixit/others")
def of_method(method, chooser="", score="SI-SDRi"):
    """(song, source) of a method, in dB."""
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in others if
                         (row["method"], row["chooser"], row["score"]) == (method, chooser, score)])

# %% [markdown]
# One table a score:

# %%
methods = list(dict.fromkeys((row["method"], row["chooser"]) for row in others))
label = lambda pair: f"{pair[0]}, {pair[1]}" if pair[1] else pair[0]
for score_ in ("SI-SDRi", "SDRi"):
    table = {pair: of_method(*pair, score_) for pair in methods}
    show_table([[label(pair), *(mean_interval(of[:, j]) for j in range(4)),
                 mean_interval(of.nanmean(1))] for pair, of in table.items()
                if not of.isnan().all()], ["method", *STEMS, "mean"], digits=1,
               caption=f"{score_}, dB, {len(of_method(*methods[0]))} test songs, 95% interval.")

# %% [markdown]
# MixIT stays below the rules of chapter 2, which know what drums and voices are like, and far below the supervised networks; and an oracle helped it. The tagger, which learned from songs and not from fragments, leaves stems without any output; those have no SI-SDR and are left out, which flatters it. Its SDR counts them, and is below that of dealing outputs in turn.
#
# How much of a score by the oracle is the oracle's? Give it pieces that nobody learned: the mixture cut into as many bands of frequency as the network has outputs, each of about equal energy (`equal_bands` in the experiment). That is the row *bands of equal energy*.
#
# The comparisons that matter, paired over songs:

# %%
mean_of = lambda method, chooser="": of_method(method, chooser).nanmean(1)
leads = {"MixIT with the oracle, above chapter 2's rules":
         mean_of("mixit_band", "oracle") - mean_of("chapter 2's best"),
         "supervised Demucs, above MixIT with the oracle":
         mean_of("Demucs") - mean_of("mixit_band", "oracle"),
         "MixIT, above bands of equal energy, the oracle for both":
         mean_of("mixit_band", "oracle") - mean_of("bands of equal energy", "oracle"),
         "the oracle's choice, above the tagger's":
         mean_of("mixit_band", "oracle") - mean_of("mixit_band", "tagger"),
         "the tagger's choice, above dealing in turn":
         mean_of("mixit_band", "tagger") - mean_of("mixit_band", "in turn")}
show_table([[what, mean_interval(lead), int((lead > 0).sum())] for what, lead in leads.items()],
           ["comparison", "SI-SDRi, dB", "songs of 20"], digits=1,
           caption="Differences of the mean over stems, paired over songs, 95% interval.")
assert leads["supervised Demucs, above MixIT with the oracle"].mean() > 0
bands = leads["MixIT, above bands of equal energy, the oracle for both"]
_, low, high = mean_interval(bands)
assert low < 0 < high                                            # neither is ahead

# %% [markdown]
# Bands that know nothing of music stand beside the network that has learned, by the same oracle: what is gained with an oracle says what the pieces *allow*, not that a network has learned to separate. Whoever reports such a score should report that of a cut without learning, too.
#
# ## 14b.11 With and against the beat
#
# MixIT's fear is dependence, and music has two kinds. *Within* a song the stems follow one beat and one key, so that a network might tell songs apart by beat and leave stems together, as in 14b.8. *Between* the two songs there is none, if they are unrelated; if they share beat and key, their notes coincide. One can turn both:
#
# | pairing | within a song | between the songs |
# |---|---|---|
# | unrelated | dependent | independent |
# | with the beat: equal tempo and nearly equal key, bars aligned | dependent | dependent |
# | against the beat: the same pairs, half a beat apart | dependent | key alike, onsets apart |
# | one song twice: two places of one song, bars aligned | dependent | dependent, and the same instruments |
# | independent stems: every stem from another song (this takes stems!) | independent | independent |
#
# First a check that the pairings do what they say: how alike are the onsets of the two pieces? Here are two songs of one tempo as the composer wrote them: the share of onsets of one that fall within 30 ms of one of the other.

# %%
from course_lib.data.band import compose
scores = [compose(seed, 20.0) for seed in range(1000, 1040)]
pairs = [(a, b) for n, a in enumerate(scores) for b in scores[n + 1:]
         if abs(math.log(a.bpm / b.bpm)) < experiment.TEMPO_WITHIN]

# %% [markdown]
# How many onsets of one meet one of the other?

# %%
def onsets(song):
    return torch.tensor(sorted(note.onset for part in song.parts for note in part.notes))
def coinciding(a, b, shift):
    """Share of a's onsets in 3 s that lie within 30 ms of one of b's, b later by shift."""
    first, second = onsets(a), onsets(b) + shift
    return float(((first[first < 3, None] - second).abs().amin(1) < 0.03).float().mean())

# %% [markdown]
# With the beat, half a beat apart, and at a distance that is no simple share of one:

# %%
together = torch.tensor([[coinciding(a, b, shift * 60 / b.bpm) for shift in (0, 0.5, 0.27)]
                         for a, b in pairs])
show_table([[name, mean_interval(together[:, n])] for n, name in enumerate(
    ("with the beat", "half a beat apart", "0.27 beats apart"))],
    ["second song", "onsets that coincide"], digits=2,
    caption=f"{len(pairs)} pairs of songs of one tempo, mean with 95% interval over pairs.")
assert together[:, 0].mean() > together[:, 2].mean()

# %% [markdown]
# Half a beat apart is not out of the grid: where songs play eighths, much coincides all the same. That weakens the contrast between *with* and *against the beat* below; what coincides by chance stands in the last row.
#
# Each pairing trained the same network for equally many steps, four times, with four seeds, which draw the first weights and the pieces. All are scored on the same test songs, by the oracle.

# %%
song_rows, run_rows = measured("14b_mixit/songs"), measured("14b_mixit/runs")
settings = measured_card("14b_mixit/runs")["settings"]
def of_variant(variant, score="SI-SDRi"):
    """Mean over stems, (training, song)."""
    seeds = sorted({row["seed"] for row in song_rows if row["variant"] == variant})
    return torch.stack([torch.tensor([[float(row[stem]) for stem in STEMS] for row in song_rows if (
        row["variant"], row["seed"], row["score"]) == (variant, seed, score)]).nanmean(1)
        for seed in seeds])
def run_numbers(variant, column):
    return [float(row[column]) for row in run_rows if row["variant"] == variant]

# %% [markdown]
# The pairings first:

# %%
pairings = [name for name in experiment.PAIRINGS if run_numbers(name, "steps")]
each = lambda name: ", ".join(f"{float(value):.2f}" for value in of_variant(name).mean(1))
show_table([[name, mean_interval(of_variant(name).mean(0)), each(name),
             mean_interval(of_variant(name, "SDRi").mean(0)),
             run_numbers(name, "pairs_snr")[0]] for name in pairings],
           ["trained on", "SI-SDRi", "each training", "SDRi", "SNR of pairs"], digits=2,
           caption=f"{settings['steps']} steps of {settings['batch_size']}, 20 test songs, mean "
           "over stems by the oracle, 95% interval; SNR of unrelated test pairs, first seed.")
assert len(pairings) >= 3

# %% [markdown]
# What differs, paired over songs, and by our rule: an interval without zero, every training of the one ahead of every training of the other, and more than trainings of either differ among themselves:

# %%
def difference(a, b, seeds=slice(None)):
    """a less b: mean interval over songs, how far trainings are apart, and whether it counts; of
    all trainings or of those with some seeds."""
    first, second = of_variant(a)[seeds], of_variant(b)[seeds]              # (training, song)
    mean, low, high = mean_interval(first.mean(0) - second.mean(0))
    ours, theirs = first.mean(1), second.mean(1)                    # (training,)
    apart = max(float(one.max() - one.min()) for one in (ours, theirs))
    agree = bool(ours.min() > theirs.max() or ours.max() < theirs.min())
    counts = agree and (low > 0 or high < 0) and abs(mean) > apart
    return [f"{a}, less {b}", (mean, low, high), apart, "yes" if counts else "no"]

# %% [markdown]
# Each pairing against what it is to be compared with; the fear expects the first to be ahead, for its mixtures are the less dependent:

# %%
contrasts = [("unrelated", "with the beat"), ("unrelated", "one song twice"),
             ("against the beat", "with the beat"), ("independent stems", "unrelated")]
found = [difference(a, b) for a, b in contrasts if {a, b} <= set(pairings)]
show_table(found, ["difference, SI-SDRi", "dB", "trainings apart by", "counts?"], digits=2,
           caption="Paired over 20 songs, means over trainings; beside it how far the trainings of "
           "one of the two variants are apart at most.")
assert not any(row[-1] == "yes" for row in found)
assert all(row[2] > abs(row[1][0]) for row in found)
assert min(pairings, key=lambda name: of_variant(name).mean()) == "one song twice"

# %% [markdown]
# Nothing counts: *the same training with another seed* moves the score by more than any of the pairings does. What if we had trained only twice, as chapter 7 and others did? Of four seeds there are six pairs. For how many of them would a row have counted, and for whom?

# %%
from itertools import combinations
def by_two(a, b):
    """Of all pairs of seeds: how many would have put a ahead, and how many b."""
    rows = [difference(a, b, list(pair)) for pair in combinations(range(len(of_variant(a))), 2)]
    won = [row[1][0] > 0 for row in rows if row[-1] == "yes"]
    return sum(won), len(won) - sum(won)

with_two = {pair: by_two(*pair) for pair in contrasts if set(pair) <= set(pairings)}
show_table([[*pair, *ahead] for pair, ahead in with_two.items()],
           ["one", "other", "the one would be ahead", "the other would be"], digits=0,
           caption="By pairs of seeds, six of them.")
assert min(with_two["against the beat", "with the beat"]) > 0

# %% [markdown]
# Whoever trains twice finds what the two seeds happen to say: half a beat's shift helps, or harms; songs of one tempo and key teach *more* than unrelated ones. Two seeds are enough where seeds lie close, as in chapter 7's runs; here they lie more than a decibel apart, and the only cure is more of them.
#
# What can be said: dependence *between* the songs, by beat and key, doesn't decide here whether MixIT works; nor does dependence within them. If it did, stems that were never played together, whose independence is perfect, should be far ahead; their mean is that of whole songs. Only two places of *one* song, which share all their sounds, have a lower mean than the rest, and even that is no finding by the rule. A likely reason why perfect independence doesn't pay is the test: real songs, with their levels and their common silences, which stems thrown together don't have. Three hundred steps of a small network on a generated band are a small experiment.

# %% [markdown]
# ### Fewer outputs, or sparser ones?
#
# With four outputs instead of eight a mixture of two songs can't even be taken into its stems. On single songs there would be enough. Or keep eight, and let (14b.8) be a penalty, whose weight is the row's number:

# %%
of_outputs = ("unrelated", "4 outputs", "sparse outputs")
called = dict(zip(of_outputs, ("8 outputs", "4 outputs", "8 outputs, a penalty of "
                               f"{experiment.VARIANTS['sparse outputs'].sparsity:g}")))
mean_of_runs = lambda name, column: float(torch.tensor(run_numbers(name, column)).mean())
show_table([[called[name], mean_interval(of_variant(name).mean(0)), *(
    mean_of_runs(name, column) for column in ("outputs", "sparsity", "pairs_snr"))]
    for name in of_outputs],
    ["network", "SI-SDRi by the oracle", "active outputs", "evenness", "SNR of pairs"], digits=2,
    caption="Means of all trainings; 20 test songs, unrelated pairs.")
fewer, sparser = (difference(name, "unrelated") for name in of_outputs[1:])
for row in (fewer, sparser):
    print(f"{row[0]}: {row[1][0]:.1f} dB [{row[1][1]:.1f}, {row[1][2]:.1f}], trainings apart by "
          f"{row[2]:.1f}, counts: {row[-1]}")
assert sparser[-1] == "yes" != fewer[-1] and max(run_numbers("4 outputs", "outputs")) <= 4

# %% [markdown]
# Four outputs can't be told from eight by these trainings. Mind that the oracle favours eight: with more pieces to choose from it can fit better, even pieces of no meaning. Compare networks with equally many outputs, or let a tagger choose.
#
# The penalty does harm. It lowers what it is made of: energy is spread less evenly. It silences no output, though; all eight stay within 20 dB of the loudest. And the *songs* of a pair are told apart nearly as well as before: that is the loss, and it stays satisfied. What goes is what MixIT got for nothing, the stems within a song. A likely reason: where evenness costs, the cheapest way to two mixtures is one loud output for each. (This is one weight, chosen beforehand; a smaller one may lose less.)

# %% [markdown]
# ## 14b.12 The contrary view
#
# Two objections have been raised to "MixIT fails because musical sources depend". We try both.
#
# ### Are four stems the wrong question?
#
# The first: *stems are ill-defined*. Is a guitar solo one source with the rhythm guitar? MixIT may find parts that are sensible and none of the four stems; scored by stems it then fails by definition. The oracle over eight outputs softens that, for it may join parts; it can't split them.
#
# So let the oracle put the same eight outputs together to *other* definitions of a source:
#
# | definition | sources |
# |---|---|
# | rhythm and the rest, coarser | drums and bass; all else |
# | four stems | drums; bass; guitar, piano and the rest; vocals |
# | six sources, finer | drums; bass; guitar; piano; the rest; vocals |
# | two, crosswise | drums with guitar, piano and the rest; bass with vocals |
# | four, crosswise | drums with guitar; bass with piano; the rest; vocals |
#
# The last two are of no musical sense. Sources that don't sound in a song are left out.
#
# What would support the objection, and what wouldn't? Levels of two definitions can't be compared: the softer a source is in the mixture, the more there is to gain, for any method. So we look at MixIT's *lead* over the bands of equal energy of 14b.10, by the same oracle. The objection is right if that lead is larger for a sensible definition than for four stems, **and** larger than for a crosswise one: then MixIT's pieces follow sources, but others than ours. If crosswise groups raise the lead just as much, the pieces follow no definition at all, and all that moves is how well bands happen to fit.
#
# SDR decides here, for it is what the oracle makes best. Where one bin of the STFT holds more than an eighth of a song's energy, a band may stay empty, and a source that gets only that has no SI-SDR. The table has the network that comes with the course, and two short trainings of 14b.11.

# %%
defined = measured("14b_mixit/definitions")
trainings = [("mixit_band", ""), ("unrelated", "0"), ("unrelated", "1")]
def of_definition(name, method, seed="", score="SDRi"):
    """(song,): the mean over the sources that sound, in dB."""
    return torch.tensor([float(row[score]) for row in defined if
                         (row["definition"], row["method"], row["seed"]) == (name, method, seed)])
def lead_of(name, score="SDRi"):
    """MixIT less bands of equal energy, (training, song)."""
    return torch.stack([of_definition(name, *training, score) for training in trainings]
                       ) - of_definition(name, "bands of equal energy", "", score)

# %% [markdown]
# The levels, and the lead of the network that comes with the course:

# %%
names_of = list(experiment.DEFINITIONS)
sounding = {name: torch.tensor([float(row["sources"]) for row in defined if (
    row["definition"], row["method"]) == (name, "mixit_band")]) for name in names_of}
show_table([[name, float(sounding[name].mean()),
             *(float(of_definition(name, method).mean())
               for method in ("mixit_band", "bands of equal energy")),
             mean_interval(lead_of(name)[0]), mean_interval(lead_of(name, "SI-SDRi")[0])]
            for name in names_of],
           ["definition", "sources", "MixIT, SDRi", "bands, SDRi", "MixIT less bands, SDRi",
            "the same, SI-SDRi"], digits={"sources": 1},
           caption="dB, by the oracle, mean over the sources that sound; 20 test songs, 95% "
                   "interval over songs (SI-SDRi over those in which every source has one).")

# %% [markdown]
# How much more MixIT leads than it does by four stems, for three trainings, and six sources against the crosswise four:

# %%
def more(name, other):
    """How much larger the lead is for one definition than for another, (training, song)."""
    return lead_of(name) - lead_of(other)
acrosses = {"six sources": "four, crosswise", "rhythm and the rest": "two, crosswise"}
compared = [*((name, experiment.FOUR) for name in names_of if name != experiment.FOUR),
            *acrosses.items()]
show_table([[f"{a}, less {b}", *(float(one.mean()) for one in more(a, b)),
             mean_interval(more(a, b).mean(0))] for a, b in compared],
           ["lead of MixIT over bands, SDRi", "the course's", "seed 0", "seed 1", "mean of three"],
           digits=2, caption="dB, paired over 20 songs, 95% interval.")
supports = {name: same_trend(more(name, experiment.FOUR)) == same_trend(more(name, across)) ==
            "same trend" for name, across in acrosses.items()}
print("supports the first objection:", supports)
assert not any(supports.values())

# %% [markdown]
# <details><summary>Quick question: the level of MixIT is highest for six sources. Why is that no support for the objection?</summary>
#
# The bands' level rises as well, and so does that of silence: a single source is softer in the mixture than four stems' are, and the mixture's own SDR, which is subtracted, is lower.
# </details>
#
# The objection isn't borne out. Coarser sources lower the lead in all three trainings; finer ones raise it in one and not in the others; and both *senseless* definitions raise it in all three. So the pieces are not good sources under another name. What moves the lead is how well bands fit: rhythm against the rest is nearly a cut by frequency, crosswise groups are none. (This speaks of the band's six sources. Whether pieces follow something finer than an instrument, such as single drums, isn't tested.)
#
# ### Preparation
#
# The second objection: it need not separate at all. It may be *preparation*. What a network learns about sounds from unlabelled mixtures may save labels. We try it: the body of `mixit_band` and a new last layer for four stems, against the same network from scratch, with 4 and with 16 labelled songs.

# %%
#| export
class SupervisedStep:
    """A training step with sources in a fixed order: (model, sources) to a loss.

    sources: (batch, source, time), as many as the model has outputs; the loss is the mean of
    `negative_snr`, silent sources measured by the mixture's energy. Source: section 14b.12.
    """

    def __init__(self, max_snr: float = 30.0):
        self.max_snr = max_snr

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        mixture = sources.sum(1)
        power = mixture.square().sum(-1)[:, None]
        return negative_snr(model(mixture), sources, self.max_snr, power).mean()

# %% [markdown]
# Both starts, and all songs with labels beside them:

# %%
few_names = [f"{count} songs, {start}" for count in (4, 16)
             for start in ("from scratch", "from MixIT")]
show_table([[name, mean_interval(of_variant(name).mean(0)), len(of_variant(name)),
             mean_interval(of_variant(name, "SDRi").mean(0))]
            for name in [*few_names, "supervised"]],
           ["trained with labels", "SI-SDRi", "seeds", "SDRi"], digits=2,
           caption=f"{settings['few_steps']} steps with few labelled songs; supervised: all 160, "
           f"{settings['steps']} steps. 20 test songs, mean over stems, 95% interval.")

# %% [markdown]
# In pairs, seed by seed:

# %%
pair = lambda count: [of_variant(f"{count} songs, {start}")
                      for start in ("from MixIT", "from scratch")]
helped = {count: ours[:len(theirs)] - theirs[:len(ours)]            # (seed, song)
          for count in (4, 16) for ours, theirs in [pair(count)]}
for count, gap in helped.items():
    print(f"{count} songs, {len(gap)} seed(s): {difference_in_words(gap)}")
assert all(gap.shape[1] == 20 for gap in helped.values())

# %% [markdown]
# Mind that `mixit_band` has had its own 3000 steps on unlabelled songs before; only the steps *with* labels are equal. Where the interval holds zero, the preparation wasn't worth its time at this size: the network from scratch learns from few songs quickly, for the band's instruments are few.

# %% [markdown]
# ## 14b.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `negative_snr` | the SNR with a ceiling | 14b.1 |
# | `pit_loss` | any order of sources | 14b.2 |
# | `mixing_matrices`, `mixture_errors`, `reference_power`, `best_assignment`, `mixit_loss` | mixtures put together again | 14b.3, 14b.4 |
# | `least_squares_assignment` | without trying all | 14b.5 |
# | `mixture_consistency` | pieces that add up | 14b.6 |
# | `TemporalBlock`, `MaskTCN` | the network | 14b.7 |
# | `MixITStep`, `SupervisedStep` | training steps | 14b.8, 14b.12 |
# | `best_partition` | the oracle | 14b.8 |
# | `output_sparsity`, `active_outputs` | how many outputs sound | 14b.9 |
#
# All of it is in `course_lib.mixit`. `course_lib.experiments.mixit` has `separate_sources(mixture, rate)`, `by_oracle` and `by_tagger` for any audio.

# %% [markdown]
# ## 14b.14 Paper claims
#
# The papers' numbers come from speech and from hours of GPU time, so the claims here are about signs. MixIT's own success on *independent* sources is tested in the world of four sounds.

# %%
WISDOM, TAGBOX, VIEW = "Wisdom et al. 2020", "Manilow et al. 2022", "arXiv 2505.07631"
apart = tiny_gains["changing"].mean(1) - tiny_gains["fixed"].mean(1)
better_than_pairs = same_trend(tiny_gains["changing"].mean(1) - marks["half a pair"])
better = better_than_pairs == "same trend"
claims = [
    Claim("A perfect estimate costs minus the ceiling", WISDOM, "14b.1", "-30 dB",
          f"{values['perfect']:.1f} dB", reproduced(values["perfect"], -30, 0.05)),
    Claim("Sources that change partners are separated without a single source shown", WISDOM,
          "14b.8", None, f"{'more' if better else 'not more'} SDR than half a pair, 48 examples",
          better_than_pairs),
    Claim("Sources that always come together are separated worse", TAGBOX, "14b.8", None,
          f"{'over' if float(apart.mean()) > 2 else 'under'} 2 dB worse, 48 examples",
          same_trend(apart))]

# %% [markdown]
# And what was measured on the band:

# %%
HERE = "this chapter"
claims += [
    *(Claim(f"The less dependent mixtures teach more: {text}", TAGBOX, "14b.11", None,
            f"SI-SDRi {interval[0]:+.2f} dB [{interval[1]:.2f}, {interval[2]:.2f}], trainings "
            f"{apart_by:.1f} dB apart", "same trend" if counts == "yes" and interval[0] > 0 else
            "not seen")
      for text, interval, apart_by, counts in found),
    Claim("MixIT with an oracle beats rules without learning", HERE, "14b.10", None,
          difference_in_words(leads["MixIT with the oracle, above chapter 2's rules"]),
          same_trend(leads["MixIT with the oracle, above chapter 2's rules"])),
    Claim("Supervised networks beat MixIT", TAGBOX, "14b.10", None,
          difference_in_words(leads["supervised Demucs, above MixIT with the oracle"]),
          same_trend(leads["supervised Demucs, above MixIT with the oracle"])),
    *(Claim(f"Stems are ill-defined: MixIT leads bands by more for {name} than for four stems, and "
            "than for meaningless groups", VIEW, "14b.12", None,
            f"SDRi {difference_in_words(more(name, experiment.FOUR))}, "
            f"{difference_in_words(more(name, across))}, 3 trainings",
            "same trend" if supports[name] else "not seen")
      for name, across in acrosses.items()),
    *(Claim(f"MixIT first helps with {count} labelled songs", VIEW, "14b.12", None,
            f"{difference_in_words(gap)}, {len(gap)} seed(s)",
            same_trend(gap) if len(gap) > 1 else "not seen") for count, gap in helped.items())]
show_claims(claims)

# %% [markdown]
# ## 14b.15 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/14b_mixit.ipynb) has more tasks, with checks.
#
# **1. Count.** Three mixtures, six outputs: how many matrices? In how many does every mixture get at least one output?
#
# <details><summary>Answer</summary>
#
# $3^6 = 729$; without the $3 \cdot 2^6 - 3$ that leave at least one out, $540$.
#
# ```python
# A = mixing_matrices(3, 6)
# assert len(A) == 729 and int((A.sum(2) > 0).all(1).sum()) == 540
# ```
# </details>
#
# **2. The lazy network.** A network gives half of the sum to each of two outputs. What is its loss for two uncorrelated mixtures of equal energy?
#
# <details><summary>Answer</summary>
#
# Either way: one output each leaves an error of $\|x_2 - x_1\|^2 / 4$, half of $\|x_1\|^2$: −3 dB each, −6 dB together. Everything to one mixture gives 0 dB each.
#
# ```python
# x = torch.randn(1, 2, 50_000, generator=torch.Generator().manual_seed(0))
# halves = x.sum(1, keepdim=True).expand(1, 2, -1) / 2
# assert abs(float(mixit_loss(halves, x)[0]) + 6.02) < 0.1
# ```
# </details>
#
# **3. One output.** What can a network with $M = 1$ learn from MixIT, if it is consistent?
#
# <details><summary>Answer</summary>
#
# Nothing: its output is the sum, whatever its weights.
#
# ```python
# x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
# torch.manual_seed(0)
# assert torch.allclose(MaskTCN(1)(x)[:, 0], x, atol=1e-4)
# ```
# </details>
#
# **4. Unequal shares.** Give the residual of (14b.7) to the outputs in proportion to their energy. Do they still add up? Is it still the nearest?
#
# <details><summary>Answer</summary>
#
# They add up, but lie farther away than with equal shares. What is gained: a silent output stays silent.
#
# ```python
# g = torch.Generator().manual_seed(0)
# y, x = torch.randn(3, 500, generator=g) * torch.tensor([[1.0], [0.5], [0.0]]), torch.randn(500, generator=g)
# weights = y.square().sum(-1, keepdim=True) / y.square().sum()
# unequal, equal = mixture_consistency(y, x, weights), mixture_consistency(y, x)
# assert torch.allclose(unequal.sum(0), x, atol=1e-5) and (unequal[2] == 0).all()
# assert (unequal - y).norm() > (equal - y).norm()
# ```
# </details>
#
# **5. Open.** Train with three songs added, or with pieces of one song only. What does `pairs_snr` say, and what do the stems?

# %% [markdown]
# ## 14b.16 Sources
#
# - S. Wisdom, E. Tzinis, H. Erdogan, R. Weiss, K. Wilson and J. Hershey, *Unsupervised sound separation using mixture invariant training*, NeurIPS 2020 (MixIT).
# - S. Wisdom, A. Jansen, R. Weiss, H. Erdogan and J. Hershey, *Sparse, efficient, and semantic mixture invariant training*, WASPAA 2021; S. Wisdom et al., *Differentiable consistency constraints for improved deep speech enhancement*, ICASSP 2019; S. Wisdom et al., *What's all the FUSS about free universal sound separation data?*, ICASSP 2021 (silent references).
# - D. Yu, M. Kolbæk, Z.-H. Tan and J. Jensen, *Permutation invariant training of deep models for speaker-independent multi-talker speech separation*, ICASSP 2017.
# - Y. Luo and N. Mesgarani, *Conv-TasNet*, IEEE/ACM TASLP 2019.
# - E. Manilow, P. O'Reilly, P. Seetharaman and B. Pardo, *Source separation by steering pretrained music models*, ICASSP 2022 (TagBox), which doubts MixIT's assumption for music; *Is MixIT really unsuitable for correlated sources? Exploring MixIT for unsupervised pre-training in music source separation*, 2025, arXiv 2505.07631, which doubts that doubt.
#
# Recording: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive under CC BY 3.0, as shipped for `librosa.ex`.
