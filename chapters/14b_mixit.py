# %% [markdown]
# # Chapter 14b · MixIT
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/14b_mixit.ipynb)
#
# PROMISE

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
from collections.abc import Sequence
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.metrics import sdr, si_sdr
from course_lib.spectral import istft, stft

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
               assign=best_assignment) -> tuple[Tensor, Tensor]:
    """Mixture invariant loss (eq. 14b.4): losses (batch,) and matrices (batch, mixture, output).

    outputs: (batch, output, time), what a separator makes of mixtures.sum(1). mixtures: (batch,
    mixture, time). max_snr: see `negative_snr`. assign: (outputs, mixtures) -> matrices. The loss
    is the sum over mixtures of `negative_snr`; its gradient goes through the outputs, not through
    the choice. ValueError for other shapes. Source: Wisdom et al. 2020; section 14b.4.
    """
    _check_signals(outputs=outputs, mixtures=mixtures)
    A = assign(outputs.detach(), mixtures)
    whole = mixtures.sum(1).square().sum(-1)[:, None]
    return negative_snr(A @ outputs, mixtures, max_snr, whole).sum(1), A

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

# %%
#| export
class TemporalBlock(nn.Module):
    """A dilated convolution over time in each channel, between two 1x1 convolutions; adds its input.

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
        X = stft(mixture / level, self.n_fft, self.hop_length)
        y = istft(self.masks(X) * X[:, None], self.n_fft, self.hop_length, mixture.shape[-1])
        y = y * level[:, None]
        return mixture_consistency(y, mixture) if self.consistent else y

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

# %%
#| export
def output_sparsity(outputs: Tensor) -> Tensor:
    """How evenly energy is spread over outputs (eq. 14b.9): 1 for one output, sqrt(M) for M alike.

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

# %%
#| export
def best_partition(outputs: Tensor, references: Tensor) -> Tensor:
    """The oracle's way to give each output to one source: matrices (source, output) of 0 and 1.

    outputs: (output, time). references: (source, time), the true sources: this is no separation,
    but a bound. Of all source ** output ways in which each source gets at least one output (where
    there are enough), the one with the least squared error, found source by source over sets of
    outputs. ValueError for other shapes and more than 12 outputs.
    Source: section 14b.10.
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
