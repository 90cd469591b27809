# %% [markdown]
# # Chapter 6 · Demucs, from waveform to waveforms
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/06_demucs.ipynb)
#
# Open-Unmix looks at magnitudes and keeps the mixture's phase. *Demucs* looks at no spectrogram at all: samples go in, samples come
# out, and what lies between has to invent its own transform. This chapter builds it from a single strided convolution up to the two
# networks that were published, version 2 of 2021 (and version 1 by its arguments) and version 3 of the same year. They have the tensor
# names of the official packages and give their numbers. Then we take the machine apart again: one part changed at a time, equal
# training for all, and the paper's table beside ours.
#
# **You will be able to**
# - compute a strided convolution and its transpose by hand, and say why one is not the other's inverse,
# - build a U-Net on waveforms: gates, skips, an LSTM in the middle, resampling, valid lengths, first weights of the right size,
# - hear and see what a stride does to a spectrum, and average it away with the shift trick,
# - let a network learn with how many bits its weights are stored,
# - read a table of ablations: what it rests on, and what it can't say.
#
# **You need** chapter 3 (SDR), chapter 4 (LSTM, training loop), convolutions in PyTorch. Chapter 7 goes on from here.
#
# **Time** <!-- minutes 06_demucs -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 6.0 Set up
#
# The first lines install the course where it is missing, on Colab. The sizes are those of the small demonstrations, whose products are too
# small to be shared out: one thread computes. The comparison of section 6.14 was run by a command, and its results come with the course.

# %%
#| default_exp demucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("06_demucs", cpu=dict(songs=2, steps=24, shifts=5, copies=80),
          gpu=dict(songs=20, steps=300, shifts=10, copies=400), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/demucs.py`, word for word. It begins here.

# %%
#| export
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.data import Track
from course_lib.spectral import song_sdr

# %% [markdown]
# The rest serves the chapter only.

# %%
import time
import matplotlib.pyplot as plt
from course_lib.data import STEMS, RandomChunks, recording
from course_lib.experiments import demucs as experiment
from course_lib.notebook import Diagram, listen, mean_interval, plot_losses, show, show_table
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, REPRODUCED, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.notebook.plots import STEM_COLOURS
from course_lib.results import measured, measured_card, measured_table, published
from course_lib.training import FitSettings, fit, load_trained, process_batches

# %% [markdown]
# ## 6.1 What a mask can't do
#
# Take one point of a spectrogram. Two sources sound there, nearly in opposite phase: $S_1 = 1$ and $S_2 = -0.6$. The mixture is their sum,
# $X = 0.4$. A mask between 0 and 1 can make out of it anything from 0 to 0.4, but never 1: **the best mask misses most of the source.**

# %%
S_1, S_2 = 1.0, -0.6
X = S_1 + S_2
best_mask = min(1.0, max(0.0, S_1 / X))
print(f"the mask would have to be {S_1 / X:.1f}; the best allowed one leaves an error of "
      f"{abs(best_mask * X - S_1):.1f}")
assert abs(best_mask * X - S_1) > 0.5

# %% [markdown]
# A larger mask would do, but with complex spectra even its sign, its angle, would have to be right. A network that gives the *waveform*
# is not bound by any of it: its output can have any phase. That is the promise; the price is that it must find out by itself what a
# Fourier transform gives for nothing. How does that sound? Here is a song of the band, mono at 22,050 Hz, and the voice that the small network of this
# chapter finds in it. It saw the waveform only, and it trained for minutes, so expect faults: we shall name them.

# %%
rate = experiment.RATE
song = experiment.songs_of("test", 2, 20.0, None)[1]
truth = song.sources(STEMS, 6 * rate, 6 * rate)                    # (source, channel, time)
mixture = truth.sum(0)                                             # (channel, time)
listen(mixture, rate, f"{song.name}: the mixture")

# %% [markdown]
# `load_trained` builds the network from its card and reads its weights; the class is the one that we build below.

# %%
ours = load_trained("demucs_band")
rest = ours.valid_length(mixture.shape[-1]) - mixture.shape[-1]
with torch.no_grad():
    found = ours(F.pad(mixture, (0, rest))[None])[0]               # (source, channel, time)
vocals = found[STEMS.index("vocals")]                              # (channel, time)
listen(vocals, rate, "the voice, as the small Demucs hears it")

# %% [markdown]
# ## 6.2 A convolution that strides
#
# A convolution with *stride* $s$ looks at the signal through a window of $K$ samples, takes one number for each output channel $c$, and
# moves on by $s$ samples:
#
# $$ y_c[t] = b_c + \sum_i \sum_{k=0}^{K-1} W_{c,i}[k]\; x_i[t s + k]. \tag{6.1} $$
#
# An STFT is exactly that: 2049 windowed cosines and as many sines for weights, a hop for stride. Here the weights are learned.
# The smallest example: ten samples, a window of four, stride two.

# %%
def strided(x, w, stride):
    """(6.1) for one channel, as a loop: x (time,), w (K,)."""
    count = (len(x) - len(w)) // stride + 1
    return torch.stack([(w * x[t * stride:t * stride + len(w)]).sum() for t in range(count)])

# %% [markdown]
# As a list of ten numbers, rising and falling; the weights ask for a rise:

# %%
x_tiny = torch.tensor([0.0, 1, 2, 3, 4, 5, 4, 3, 2, 1])
w_tiny = torch.tensor([-1.0, -1, 1, 1])                            # rises give positive numbers
y_tiny = strided(x_tiny, w_tiny, 2)
print(y_tiny.tolist())
assert torch.equal(y_tiny, F.conv1d(x_tiny[None, None], w_tiny[None, None], stride=2)[0, 0])

# %% [markdown]
# All of it is linear, so there is a matrix $A$ with $y = Ax$: each row holds the weights, two places further right than the row above.

# %%
A = torch.zeros(len(y_tiny), len(x_tiny))
for t in range(len(y_tiny)):
    A[t, 2 * t:2 * t + 4] = w_tiny
print(A.int())
assert torch.equal(A @ x_tiny, y_tiny)

# %% [markdown]
# ### The way back
#
# The *transposed convolution* multiplies by $A^\top$: every $y[t]$ writes a copy of the weights, $s$ samples after the last, and copies
# that overlap add up,
#
# $$ \hat x_i[n] = b_i + \sum_{c}\; \sum_{t s + k = n} W_{c,i}[k]\; y_c[t]. \tag{6.2} $$
#
# This is chapter 1's overlap-add, with learned windows.

# %%
def transposed(y, w, stride):
    """(6.2) for one channel, as a loop: y (step,), w (K,)."""
    x = torch.zeros((len(y) - 1) * stride + len(w))
    for t, value in enumerate(y):
        x[t * stride:t * stride + len(w)] += value * w
    return x

# %% [markdown]
# Multiplied by the transpose, or by PyTorch's layer, it is the same:

# %%
x_back = transposed(y_tiny, w_tiny, 2)
assert torch.equal(x_back, A.T @ y_tiny)
pytorchs = F.conv_transpose1d(y_tiny[None, None], w_tiny[None, None], stride=2)[0, 0]
assert torch.equal(x_back, pytorchs)
print(x_back.tolist())

# %% [markdown]
# It has the right length and is *not* the signal: a transpose is no inverse. Nothing in the network needs it to be. Its weights are learned,
# so the way back can be whatever the way down needs.
#
# <details><summary>Quick question: for which A is the transpose the inverse, and which chapter had such a pair?</summary>
#
# For an orthogonal one, $A^\top A = I$. Chapter 1's STFT with a window that is COLA when squared is nearly that: analysis and synthesis use the same frames, and overlap-add
# divides by what is left.
# </details>

# %% [markdown]
# ### Down six times
#
# Demucs stacks six of these, with $K = 8$ and $s = 4$. Each has four times fewer steps than the one above, and twice the channels, so that from layer to layer the number of values halves. What does one number of the innermost layer know? Each layer widens the view of the one
# before by $K - 1$ of its own steps,
#
# $$ R_L = 1 + \sum_{l=0}^{L-1} (K - 1)\, s^{l}. \tag{6.3} $$

# %%
rows, view, twice = [], 1, 2 * 44100                               # it works at twice the rate
for layer in range(6):
    view += 7 * 4 ** layer
    rows.append([layer + 1, 64 * 2 ** layer, round(twice / 4 ** (layer + 1), 1),
                 round(1000 * view / twice, 1)])
show_table(rows, ["layer", "channels", "steps a second", "sees (ms)"], digits=1,
           caption="The encoder of Demucs version 2 on audio of 44.1 kHz.")
assert view == 1 + 7 * sum(4 ** layer for layer in range(6))
assert 2048 * twice / 4 ** 6 == 44100                              # numbers a second, in the middle

# %% [markdown]
# A tenth of a second: enough for a drum hit, too little for a bar. Section 6.6 gives the middle a memory. The formula can be
# tested: change one sample and see which steps of the middle move.

# %%
torch.manual_seed(0)
layers = nn.Sequential(*[nn.Conv1d(1, 1, 8, 4) for _ in range(3)])
x = torch.zeros(1, 1, 500, requires_grad=True)
layers(x)[0, 0, 2].backward()                                      # the third step of the middle
touched = x.grad[0, 0].nonzero().flatten()
assert len(touched) == 1 + 7 * (1 + 4 + 16) and touched[0] == 2 * 64

# %% [markdown]
# ### Skips
#
# What the strides leave out, the way up can't know: the middle holds 44,100 numbers a second (the assert above), half as many as a stereo song. A *U-Net* therefore adds to each layer
# of the way up what the layer of the same height gave on the way down. We can see what that is worth. A toy network of two layers shall copy
# noise, which can't be compressed: once with its skip, once without.

# %%
class Copier(nn.Module):
    """Two layers down, two up, the same channels everywhere: (batch, 1, time) to the same."""

    def __init__(self, skip, channels=4):
        super().__init__()
        self.skip = skip
        sizes = [(1, channels), (channels, channels)]
        self.down = nn.ModuleList(nn.Conv1d(a, b, 8, 4) for a, b in sizes)
        self.up = nn.ModuleList(nn.ConvTranspose1d(b, a, 8, 4) for a, b in reversed(sizes))

    def forward(self, x):
        outer = torch.relu(self.down[0](x))
        inner = torch.relu(self.down[1](outer))
        back = torch.relu(self.up[0](inner))
        return self.up[1](back + outer if self.skip else back)

# %% [markdown]
# The outer layer keeps four numbers for every four samples, which is enough; the inner one four for every sixteen.

# %%
def copy_error(skip):
    """Squared error, as a share of the signal's power, after a short training on noise."""
    torch.manual_seed(0)
    net, noise = Copier(skip), torch.randn(8, 1, 8 + 4 * (7 + 4 * 20))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(P.copies):
        optimizer.zero_grad()
        loss = (net(noise) - noise).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())

# %% [markdown]
# Both, compared:

# %%
with_skip, without_skip = copy_error(True), copy_error(False)
print(f"error with skip below a half: {with_skip < 0.5}, without: {without_skip < 0.5}")
assert with_skip < 0.5 < 0.7 < without_skip

# %% [markdown]
# The inner path alone holds a quarter of the numbers, so it *can't* copy noise. With the skip it needn't: fine detail takes the short way, and the
# deep layers are free for what only they can know, which instrument it is.
#
# ## 6.3 A gate for each channel
#
# Between the strides Demucs has a second, cheaper convolution of one step, called *rewrite*. It makes twice the channels, and then a *gated linear unit* (GLU,
# Dauphin et al. 2017) halves them again. One half is the value, the other decides how much of it passes:
#
# $$ \operatorname{GLU}(a, b) = a \odot \sigma(b). \tag{6.4} $$

# %%
a_tiny, b_tiny = torch.tensor([2.0, 2.0, -2.0]), torch.tensor([-5.0, 0.0, 5.0])
gated = a_tiny * torch.sigmoid(b_tiny)
print([round(value, 2) for value in gated.tolist()])               # closed, half open, open
assert torch.allclose(gated, F.glu(torch.cat([a_tiny, b_tiny]), dim=0))

# %% [markdown]
# That is a mask after all, only that the network masks features that it made itself. What would a ReLU do in its place? It has a gate too, but value and gate are the same number, so
# a negative value can't pass: of our three, it would stop the last. And where it is closed, no gradient passes either. A GLU's value has a gradient as long as its gate isn't
# quite closed.

# %%
values = torch.linspace(-4, 4, 9, requires_grad=True)
slopes = {}
for name, layer in (("ReLU", F.relu), ("GLU, gate half open", lambda v: F.glu(
        torch.cat([v, torch.zeros(9)]), dim=0))):
    slopes[name], = torch.autograd.grad(layer(values).sum(), values)
show_table([[name, *slope.tolist()] for name, slope in slopes.items()],
           ["slope for a value of", *[f"{v:g}" for v in values.tolist()]], digits=1)
assert (slopes["GLU, gate half open"] == 0.5).all() and slopes["ReLU"][0] == 0

# %% [markdown]
# ## 6.4 Twice the rate
#
# Demucs version 2 resamples its input to twice the rate and its output back. It adds no information. But a ReLU makes overtones, and those above half of the rate fold back as tones
# that belong to nothing; at twice the rate they land where no music is, and the way back removes them. That may be why it helps, where it does (section 6.14).
#
# The tool is the interpolation of a band-limited signal: between the samples $x[n]$ it runs as a sum of sinc waves,
#
# $$ x(t) = \sum_n x[n]\, h(t - n), \qquad h(t) = \rho\, \operatorname{sinc}(\rho t)\, w(t), \tag{6.5} $$
#
# $t$ counted in samples. The sinc never ends, so a window $w$ lets it die after 24 zero crossings, here $\cos^2$; and as such a filter is not perfectly steep, it cuts
# at $\rho = 0.945$ of the limit. At twice the rate we need $x(t)$ at $t = 0, \tfrac12, 1, \tfrac32, \ldots$: **two filters, one for whole, one for half places.** In general there are `new` of them for
# a step of `old` samples.

# %%
#| export
@functools.lru_cache(maxsize=16)
def sinc_filters(old: int, new: int, zeros: int = 24, rolloff: float = 0.945) -> Tensor:
    """The filters that resample by the ratio new / old, one for each of the `new` phases (eq. 6.5).

    zeros: zero crossings of the sinc kept on either side. rolloff: the cutoff, as a share of the
    lower of the two Nyquist frequencies. Returns (new, 1, 2 width + old) in double precision,
    width = ceil(zeros old / (rolloff min(old, new))); each filter adds up to 1. old and new are
    whole numbers without a common divisor, else ValueError. Source: J. O. Smith, Digital audio
    resampling, 2002; the window is the square of a cosine, as in the package julius; section 6.4.
    """
    if old < 1 or new < 1 or math.gcd(old, new) != 1:
        raise ValueError(f"old is {old} and new {new}; expected whole numbers from 1 on without a "
                         "common divisor, such as 1 and 2")
    cutoff = rolloff * min(old, new)
    width = math.ceil(zeros * old / cutoff)
    samples = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64)[:, None] / new         # (phase, 1)
    t = (cutoff * (samples - phases)).clamp(-zeros, zeros)                 # (phase, tap)
    filters = torch.sinc(t) * torch.cos(math.pi * t / (2 * zeros)) ** 2
    return (filters / filters.sum(1, keepdim=True)).unsqueeze(1)           # (phase, 1, tap)

# %% [markdown]
# With a filter of two crossings one sees it all: both rows are symmetric, the first around a sample, the second around the middle between two. Each is scaled to sum one, so that a constant stays what it is.

# %%
tiny = sinc_filters(1, 2, zeros=2)[:, 0]                           # (phase, tap)
show_table([[f"place {phase}", *row] for phase, row in zip(("n", "n + 1/2"), tiny.tolist())],
           ["filter for", *[str(k) for k in range(-3, 4)]], digits=2)
assert torch.allclose(tiny[0], tiny[0].flip(0))
assert torch.allclose(tiny.sum(1), torch.ones(2).double())

# %% [markdown]
# Doubling is then one convolution with two output channels, whose steps are written one after the other; halving is a convolution with stride two. At the ends the signal is taken to stay where it is.

# %%
def doubled_plainly(x):
    """x (time,) at twice the rate, by one convolution."""
    filters = sinc_filters(1, 2).to(x)                             # (phase, 1, tap)
    width = (filters.shape[-1] - 1) // 2
    padded = F.pad(x[None, None], (width, width), mode="replicate")
    return F.conv1d(padded, filters)[0].T.flatten()                # (phase, time) -> (2 time)

# %% [markdown]
# A single sample shows the filters themselves:

# %%
hit = torch.zeros(9)
hit[4] = 1.0
figure, axis = plt.subplots(figsize=(7.6, 2.2))
axis.stem(torch.arange(18) / 2, doubled_plainly(hit), basefmt=" ", label="at twice the rate")
axis.plot(range(9), hit, "o", color="black", mfc="none", ms=9, label="before")
axis.set(xlabel="time (samples before)")
axis.legend()
show(figure, "One sample of height 1, and what it becomes at twice the rate.",
     "A stem plot: at the middle a stem a little lower than one, falling waves to both sides.")

# %% [markdown]
# The circle is not quite met: above 0.945 of the limit nothing passes, and a single sample holds all frequencies alike.
#
# A convolution with one channel is a poor load for a processor. The library's version does 64 steps at once, as a product with a matrix in whose columns the filters stand, each step's a
# little lower than those of the last. It is (6.2)'s matrix again, and not one number is new.

# %%
#| export
@functools.lru_cache(maxsize=16)
def resampling_matrix(old: int, new: int, steps: int = 64) -> Tensor:
    """`steps` steps of resampling as one matrix: (input samples, steps new), section 6.4.

    A step reads `old` samples further on than the last and gives `new` samples; its columns hold
    the filters of `sinc_filters`, its neighbours' the same ones, `old` rows lower.
    """
    filters = sinc_filters(old, new)[:, 0].T                               # (tap, phase)
    matrix = torch.zeros(old * (steps - 1) + len(filters), steps, new, dtype=torch.float64)
    for step in range(steps):
        matrix[old * step:old * step + len(filters), step] = filters
    return matrix.flatten(1)

# %%
#| export
def resample_by(x: Tensor, old: int, new: int, steps: int = 64) -> Tensor:
    """Audio at new / old times the rate: float (..., time) -> (..., floor(time new / old)).

    Beyond its ends the signal is taken to stay at its first and last value. steps: computed at
    once. ValueError for audio without samples and for ratios as in `sinc_filters`. Equal to
    julius.resample_frac, and faster where there are few channels; section 6.4.
    """
    check_audio(x=x)
    if x.ndim < 1 or 0 in x.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one sample along time")
    matrix = resampling_matrix(old, new, steps).to(x)                      # (sample, step * phase)
    width, time, hop = (sinc_filters(old, new).shape[-1] - old) // 2, x.shape[-1], old * steps
    blocks = math.ceil(time / hop)
    rest = hop * (blocks - 1) + len(matrix) - width - time
    padded = F.pad(x.reshape(1, -1, time), (width, rest), mode="replicate")
    frames = padded[0].unfold(-1, len(matrix), hop)                        # (line, block, sample)
    y = (frames @ matrix).reshape(*x.shape[:-1], -1)                       # (..., all phases)
    return y[..., :time * new // old]

# %% [markdown]
# It must equal the plain one, and going up and down again must bring back whatever lies well below the limit:

# %%
noise = torch.randn(3000, generator=P.generator).double()
assert torch.allclose(resample_by(noise, 1, 2), doubled_plainly(noise), atol=1e-9)
tone = torch.sin(2 * math.pi * 0.2 * torch.arange(3000).double())
there_and_back = resample_by(resample_by(tone, 1, 2), 2, 1)
assert (there_and_back - tone)[100:-100].abs().max() < 1e-3
assert resample_by(torch.ones(7), 2, 1).shape == (3,)              # half a step gives nothing

# %% [markdown]
# Does halving really let nothing through from above the new limit? Noise at 44.1 kHz, halved by taking every second sample, and by the filter. The reader's ear knows the first as a cheap toy.

# %%
voice, _ = recording("libri1", seconds=3.0, mono=True, rate=44_100)
high = torch.randn(1, voice.shape[-1] + 1, generator=P.generator).diff()   # more treble than bass
hiss = voice + 0.2 * voice.std() * high
listen(hiss[:, ::4], 11_025, "a voice with hiss, every fourth sample")
filtered = resample_by(resample_by(hiss, 2, 1), 2, 1)
listen(filtered, 11_025, "the same, filtered before")

# %% [markdown]
# In numbers: white noise holds as much power above half of the limit as below. Thrown in a heap, the power stays; the filter takes half of it away.

# %%
white = torch.randn(1, 200_000, generator=P.generator)
power = lambda y: float(y.square().mean())
shares = {"every second sample": power(white[:, ::2]) / power(white),
          "filtered": power(resample_by(white, 2, 1)) / power(white)}
print({name: f"{share:.2f} of the power" for name, share in shares.items()})
assert abs(shares["every second sample"] - 1) < 0.02 and abs(shares["filtered"] - 0.5) < 0.05

# %% [markdown]
# ## 6.5 Lengths that fit
#
# Of $n$ samples, a window of $K$ with stride $s$ reads $\lfloor (n - K)/s \rfloor + 1$ steps. What is left over at the end is seen by nobody, and the way up gives
# $(m - 1) s + K$ samples for $m$ steps, fewer than went in. A *valid length* leaves no rest in any layer: go down with
#
# $$ m_{l+1} = \Big\lceil \frac{m_l - K}{s} \Big\rceil + 1 \tag{6.6} $$
#
# (at least one), and come up again with $(m - 1)s + K$. Twenty samples, $K = 8$, $s = 4$, one layer and then two:

# %%
def windows(n, kernel=8, stride=4):
    """Which samples each window covers, and how many are left over."""
    steps = (n - kernel) // stride + 1
    return [(t * stride, t * stride + kernel - 1) for t in range(steps)], (n - kernel) % stride

# %% [markdown]
# Three lengths:

# %%
for n in (20, 22, 24):
    print(n, "samples:", *windows(n))

# %% [markdown]
# 20 and 24 leave none, 22 leaves two. With a second layer even 20 does not fit: its four windows are four values, and the next layer wants eight. There may be another loss: the decoder's rewrite can read
# `context` steps at a time, without padding, and then each layer loses `context - 1` more.

# %%
#| export
def valid_length(length: int, depth: int, kernel_size: int, stride: int, context: int = 1,
                 resample: bool = False) -> int:
    """The number of samples, about `length`, at which no convolution of a U-Net has a rest.

    depth: layers of kernel_size and stride. context: steps that a decoder layer's first
    convolution reads. resample: whether the network works at twice the rate. length: >= 1, else
    ValueError. Source: section 6.5.
    """
    if length < 1:
        raise ValueError(f"length is {length}; expected at least one sample")
    length *= 2 if resample else 1
    for _ in range(depth):
        length = max(1, math.ceil((length - kernel_size) / stride) + 1) + context - 1
    for _ in range(depth):
        length = (length - 1) * stride + kernel_size
    return math.ceil(length / 2) if resample else length

# %% [markdown]
# The checks: from a valid length on, no layer has a rest, and valid lengths lie $s^\text{depth}$ apart, for that is how many samples one more step in the middle costs.

# %%
for length in (valid_length(n, 3, 8, 4) for n in range(1, 500)):
    for _ in range(3):
        assert (length - 8) % 4 == 0
        length = (length - 8) // 4 + 1
lengths = sorted({valid_length(n, 3, 8, 4) for n in range(1, 500)})
print("valid lengths of three layers:", lengths[:5], "...")
assert {b - a for a, b in zip(lengths, lengths[1:])} == {4 ** 3}

# %% [markdown]
# Where two signals of unequal length meet, at a skip or in the loss, the longer one loses at both ends. Of an odd surplus the right end loses more: nobody would miss the sample, but everybody who wants the same numbers must agree on it.

# %%
#| export
def center_trim(x: Tensor, length: int) -> Tensor:
    """The middle `length` samples of x (..., time); of an odd surplus the right end loses more.

    ValueError where x is shorter. Source: section 6.5.
    """
    surplus = x.shape[-1] - length
    if surplus < 0:
        raise ValueError(f"x has {x.shape[-1]} samples; expected at least {length} to trim to")
    return x[..., surplus // 2:x.shape[-1] - (surplus - surplus // 2)]

# %%
assert center_trim(torch.arange(6), 3).tolist() == [1, 2, 3]
assert center_trim(torch.arange(6), 6).tolist() == [0, 1, 2, 3, 4, 5]

# %% [markdown]
# ## 6.6 A memory in the middle
#
# One step of the innermost layer sees a tenth of a second. Between the way down and the way up, a BLSTM (section 4.5) reads all steps in both directions, so that each knows of the whole excerpt. Its two directions
# together give twice the channels; a linear layer brings them back, so that the skips still fit.
#
# Version 3 has small BLSTMs also in outer layers, where there are many steps, and an LSTM must read them one after the other. To keep that short, they see frames of 200 steps that overlap by half. Each frame is read on its own, all at
# the same time, and of each the middle half is kept, where it has context on both sides. Twelve steps in frames of eight:

# %%
#| export
def overlapping_frames(x: Tensor, width: int) -> Tensor:
    """x (..., time), zeros after its end, as frames that overlap by half: (..., frame, width)."""
    stride = width // 2
    count = math.ceil(x.shape[-1] / stride)
    return F.pad(x, (0, (count - 1) * stride + width - x.shape[-1])).unfold(-1, width, stride)


def joined_middles(frames: Tensor, time: int) -> Tensor:
    """The reverse: of each frame (..., frame, width) its middle half, and the two outer ends."""
    edge = frames.shape[-1] // 4
    middles = frames[..., edge:-edge].flatten(-2)               # (..., frame * width / 2)
    return torch.cat([frames[..., 0, :edge], middles, frames[..., -1, -edge:]], -1)[..., :time]

# %%
steps = torch.arange(12.0)
cut = overlapping_frames(steps, 8)
print(cut.int())
print("kept:", [frame[2:6].int().tolist() for frame in cut], "and the outer ends")
assert torch.equal(joined_middles(cut, 12), steps)

# %% [markdown]
# With them, the layer. `permute` is needed as `nn.LSTM` wants time first.

# %%
#| export
class BLSTM(nn.Module):
    """A BLSTM over time that keeps the channels: (batch, channel, time) to the same shape.

    dim: channels, and hidden size of each direction; a linear layer brings both back to dim.
    layers: one above the other. max_steps: longer signals are cut into frames of so many steps
    that overlap by half, each read on its own (a multiple of 4, else ValueError; None: never).
    skip: add the input. Source: Défossez et al. 2019, 2021; sections 6.6 and 6.12.
    """

    def __init__(self, dim: int, layers: int = 1, max_steps: int | None = None,
                 skip: bool = False):
        super().__init__()
        if max_steps is not None and (max_steps < 4 or max_steps % 4):
            raise ValueError(f"max_steps is {max_steps}; expected a multiple of 4, or None")
        self.max_steps, self.skip = max_steps, skip
        self.lstm = nn.LSTM(dim, dim, num_layers=layers, bidirectional=True)
        self.linear = nn.Linear(2 * dim, dim)

    def read(self, x: Tensor) -> Tensor:
        """One pass over the whole of x (batch, channel, time)."""
        return self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.max_steps is None or x.shape[-1] <= self.max_steps:
            y = self.read(x)
        else:
            frames = overlapping_frames(x, self.max_steps)      # (batch, channel, frame, step)
            batch, channels, count, width = frames.shape
            y = self.read(frames.transpose(1, 2).reshape(-1, channels, width))
            y = y.reshape(batch, count, channels, width).transpose(1, 2)
            y = joined_middles(y, x.shape[-1])                  # (batch, channel, time)
        return x + y if self.skip else y

# %% [markdown]
# Two checks. Short signals are read whole, so that frames change nothing there. And what a BLSTM is for: change the last step, and the first output moves. In frames it does not, as no frame holds both.

# %%
torch.manual_seed(0)
whole, framed = BLSTM(3), BLSTM(3, max_steps=8)
framed.load_state_dict(whole.state_dict())
x = torch.randn(1, 3, 40, generator=P.generator)
changed = x.clone()
changed[..., -1] += 5.0
with torch.no_grad():
    assert torch.equal(whole(x[..., :8]), framed(x[..., :8]))
    assert not torch.equal(whole(x)[..., 0], whole(changed)[..., 0])
    assert torch.equal(framed(x)[..., 0], framed(changed)[..., 0])

# %% [markdown]
# ## 6.7 First weights of the right size
#
# PyTorch draws the first weights of a convolution small, with a deviation near $1/\sqrt{3 \cdot \text{inputs} \cdot K}$, so small that with a ReLU after each layer the signal shrinks from layer to layer. Demucs moves every layer's weights towards
# one common size, half way on a logarithmic scale: with deviation $\sigma$ and reference $a$,
#
# $$ W \leftarrow W / \alpha, \quad b \leftarrow b / \alpha, \qquad \alpha = \sqrt{\sigma / a}, \tag{6.7} $$
#
# after which the deviation is $\sqrt{\sigma a}$. With $\sigma = 0.025$ and $a = 0.1$ that is $0.05$.

# %%
#| export
def rescale_module(module: nn.Module, reference: float) -> None:
    """Bring the deviation of every convolution's weights nearer to `reference`, in place (eq. 6.7).

    Weights and bias are divided by sqrt(deviation / reference): the deviation becomes the
    geometric mean of both. reference: > 0, else ValueError. Source: Défossez et al. 2019;
    section 6.7.
    """
    if not reference > 0:
        raise ValueError(f"reference is {reference}; expected a deviation above 0, such as 0.1")
    kinds = (nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.ConvTranspose2d)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, kinds):
                alpha = (layer.weight.std() / reference) ** 0.5
                for tensor in (layer.weight, layer.bias):
                    if tensor is not None:
                        tensor /= alpha

# %%
layer = nn.Conv1d(64, 128, 8)
before = float(layer.weight.detach().std())
rescale_module(layer, 0.1)
after = float(layer.weight.detach().std())
print(f"deviation {before:.3f} before, {after:.3f} after;",
      f"sqrt(0.1 x before) is {(0.1 * before) ** 0.5:.3f}")
assert abs(after - (0.1 * before) ** 0.5) < 1e-4

# %% [markdown]
# What it changes, one sees on the way through: noise of level 1 goes down six layers, convolution and ReLU, with the first weights as PyTorch has them and rescaled.

# %%
def levels(rescale, channels=16, depth=6):
    """Root mean square after each layer of a way down with its first weights."""
    torch.manual_seed(0)
    sizes = [1] + [min(channels * 2 ** n, 128) for n in range(depth)]
    down = nn.ModuleList(nn.Conv1d(a, b, 8, 4) for a, b in zip(sizes, sizes[1:]))
    if rescale:
        rescale_module(down, rescale)
    x, found = torch.randn(2, 1, valid_length(20_000, depth, 8, 4)), []
    with torch.no_grad():
        for layer in down:
            x = torch.relu(layer(x))
            found.append(float(x.square().mean().sqrt()))
    return found

# %% [markdown]
# The level after each layer, on a logarithmic axis:

# %%
curves = {"as PyTorch draws them": levels(0), "rescaled, a = 0.1": levels(0.1)}
figure, axis = plt.subplots(figsize=(7.6, 2.4))
for name, curve in curves.items():
    axis.semilogy(range(1, 7), curve, "o-", label=name)
axis.set(xlabel="layer", ylabel="level (RMS)")
axis.legend()
show(figure, "The level of noise on its way down, with untrained weights.",
     "Two curves over six layers: without rescaling the level falls, with it it stays higher.")
assert curves["rescaled, a = 0.1"][-1] > 2 * curves["as PyTorch draws them"][-1]

# %% [markdown]
# A quiet middle is a middle without a say: its part of the sums with the skips is small, and so are its gradients. Whether that hurts in the end is a question for section 6.14.

# %% [markdown]
# ## 6.8 Demucs version 2, from top to bottom
#
# All parts are there. The whole network, in the released size, for an excerpt of 7.8 s:

# %%
T = 343_980
lengths = [2 * valid_length(T, 6, 8, 4, 3, True)]
for _ in range(6):
    lengths.append((lengths[-1] - 8) // 4 + 1)                     # steps after each encoder layer
d = Diagram()
mix = d.block("mixture", f"(2, {lengths[0] // 2})", kind="data", at=(0, 0))
up = d.block("× 2", f"(2, {lengths[0]})", after=mix, at=(1.45, 0))
places = {1: 2.85, 2: 4.5, 6: 7.0}
before, encoders = up, {}
for number, x in places.items():
    if number == 6:
        before = d.block("...", kind="text", after=before, at=(5.65, 0))
    shape = f"({32 * 2 ** number}, {lengths[number]})"
    before = encoders[number] = d.block(f"encoder {number}", shape, kind="trained", after=before,
                                        at=(x, 0))
lstm = d.block("BLSTM × 2,\nlinear", f"(2048, {lengths[6]})", kind="trained", at=(8.45, -0.85))
d.arrow(before, lstm, route="corner")

# %% [markdown]
# The way up, from the right to the left:

# %%
before = lstm
for number, x in reversed(places.items()):
    join = d.block("+", kind="join", after=before, at=(x, -1.6), arrow=number < 6)
    if number == 6:
        d.arrow(lstm, join, route="under", reach=0.2)
    d.arrow(encoders[number], join, "skip")
    channels = 8 if number == 1 else 16 * 2 ** number
    before = d.block(f"decoder {number}", f"({channels}, ...)", kind="trained", after=join,
                     at=(x - 0.85 if number < 6 else x - 0.95, -1.6))
    if number == 6:
        before = d.block("...", kind="text", after=before, at=(5.25, -1.6))
down = d.block("÷ 2", "(8, ...)", after=before, at=(1.0, -1.6))
d.block("sources", "(4, 2, ...)", kind="data", after=down, at=(-0.05, -1.6))
show(d.draw(), "Demucs version 2: six layers down, a memory, six layers up. (channels, steps).",
     d.in_words())

# %% [markdown]
# And one layer of each side. In the encoder the stride comes first and the gate after it; the decoder is its mirror image, only that its rewrite reads three steps (`context`) instead of one.

# %%
d = Diagram()
x_in = d.block("from above", "(C/2, 4m + 4)", kind="data")
conv = d.block("convolution\nK = 8, s = 4", "(C, m)", kind="trained", after=x_in)
relu = d.block("ReLU", "(C, m)", after=conv)
rewrite = d.block("rewrite\nK = 1", "(2C, m)", kind="trained", after=relu)
glu = d.block("GLU (6.4)", "(C, m)", after=rewrite)
leaves = d.block("below,\nand skip", "", kind="text", after=glu)

# %% [markdown]
# The lower row:

# %%
total = d.block("sum with\nthe skip", "(C, m)", kind="data", at=(0, -1.15))
rewrite = d.block("rewrite\nK = 3", "(2C, m - 2)", kind="trained", after=total)
glu_2 = d.block("GLU (6.4)", "(C, m - 2)", after=rewrite)
back = d.block("transposed conv.\nK = 8, s = 4", "(C/2, 4m - 4)", kind="trained", after=glu_2)
relu_2 = d.block("ReLU, but in\nthe last", "(C/2, 4m - 4)", after=back)
d.block("above", "", kind="text", after=relu_2)
show(d.draw(), "An encoder layer (above) and a decoder layer (below) of C channels.", d.in_words())

# %% [markdown]
# ### A plain forward
#
# The same as code that one can read in one go: two layers deep, one channel of audio, everything else as above. Padding is left to the caller, so the mixture must have a valid length.

# %%
class PlainDemucs(nn.Module):
    """Two layers of Demucs v2: mixture (batch, 1, time) to (batch, source, 1, time)."""

    def __init__(self, sources, c):
        super().__init__()
        self.down_1, self.gate_1 = nn.Conv1d(1, c, 8, 4), nn.Conv1d(c, 2 * c, 1)
        self.down_2, self.gate_2 = nn.Conv1d(c, 2 * c, 8, 4), nn.Conv1d(2 * c, 4 * c, 1)
        self.memory = BLSTM(2 * c, 2)
        self.wide_2, self.up_2 = nn.Conv1d(2 * c, 4 * c, 3), nn.ConvTranspose1d(2 * c, c, 8, 4)
        self.wide_1, self.up_1 = nn.Conv1d(c, 2 * c, 3), nn.ConvTranspose1d(c, sources, 8, 4)

    def forward(self, mix):
        x = resample_by(mix, 1, 2)                                  # (batch, 1, 2 time)
        skip_1 = F.glu(self.gate_1(torch.relu(self.down_1(x))), 1)  # (batch, c, step)
        skip_2 = F.glu(self.gate_2(torch.relu(self.down_2(skip_1))), 1)
        x = self.memory(skip_2)                                     # (batch, 2 c, step)
        x = F.glu(self.wide_2(x + skip_2), 1)                       # two steps fewer
        x = torch.relu(self.up_2(x))                                # (batch, c, step)
        x = F.glu(self.wide_1(x + center_trim(skip_1, x.shape[-1])), 1)
        return resample_by(self.up_1(x), 2, 1).unsqueeze(2)         # (batch, source, 1, time)

# %% [markdown]
# ### The reusable form
#
# For any depth the layers stand in two lists, and the way through them is a loop with a stack of skips: the last in is the first out. Both published versions share that way, so it is a class of its own. Before it, two helpers: what says whether the input can be used, and
# the mean and deviation by which a mixture is *normalised*,
#
# $$ \tilde x = \frac{x - \mu}{\sigma + 10^{-5}}, \qquad y = \sigma\, \tilde y + \mu, \tag{6.8} $$
#
# $\mu$ and $\sigma$ those of the mono signal. Without it a quiet song would be another task than a loud one.

# %%
#| export
def _check_mixture(mix: Tensor, channels: int) -> None:
    check_audio(mix=mix)
    if mix.ndim != 3 or mix.shape[1] != channels or 0 in mix.shape:
        raise ValueError(f"mix has shape {tuple(mix.shape)}; expected (batch, channel, time) with "
                         f"{channels} channels and at least one sample")


def mono_statistics(mix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (unbiased) deviation of the mean of the channels: (batch, channel, time) to two
    (batch, 1, 1). A single sample has deviation 0. Source: section 6.8."""
    mono = mix.mean(1, keepdim=True)
    deviation = mono.std(-1, keepdim=True) if mix.shape[-1] > 1 else torch.zeros_like(mono)
    return mono.mean(-1, keepdim=True), deviation

# %% [markdown]
# The normalisation is not undone exactly: the $10^{-5}$ is not. For music that is a hundred-thousandth; silence comes back as silence.

# %%
quiet = 0.02 + 0.01 * torch.randn(1, 2, 5000, generator=P.generator)
mean, deviation = mono_statistics(quiet)
x = (quiet - mean) / (1e-5 + deviation)
assert abs(float(x.mean(1).std()) - 1) < 2e-3 and (x * deviation + mean - quiet).abs().max() < 1e-4
assert float(mono_statistics(torch.zeros(1, 2, 9))[1]) == 0

# %% [markdown]
# Now what both versions share:

# %%
#| export
class _WaveformUNet(nn.Module):
    """What both versions of Demucs share: their sizes, lengths, and the way down and up again.

    lost: steps that a decoder layer's first convolution takes away, plus one. Section 6.8.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int, channels: int, depth: int,
                 kernel_size: int, stride: int, context: int, lost: int, normalize: bool,
                 resample: bool, samplerate: int):
        super().__init__()
        self.sources, self.audio_channels, self.channels = list(sources), audio_channels, channels
        self.depth, self.kernel_size, self.stride = depth, kernel_size, stride
        self.context, self.lost, self.samplerate = context, lost, samplerate
        self.normalize, self.resample = normalize, resample
        self.encoder, self.decoder, self.lstm = nn.ModuleList(), nn.ModuleList(), None

    def valid_length(self, length: int) -> int:
        """The number of samples, for `length` wanted ones, at which no convolution has a rest."""
        return valid_length(length, self.depth, self.kernel_size, self.stride, self.lost,
                            self.resample)

    def scaled(self, mix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture as the layers want it, and what undoes that: mean and deviation (eq. 6.8)."""
        _check_mixture(mix, self.audio_channels)
        mean, deviation = mix.new_zeros(()), mix.new_ones(())
        if self.normalize:
            mean, deviation = mono_statistics(mix)
        return (mix - mean) / (1e-5 + deviation), mean, deviation

    def through(self, x: Tensor) -> Tensor:
        """Down and up: (batch, channel, time) to (batch, source * channel, time)."""
        x, skips = resample_by(x, 1, 2) if self.resample else x, []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = x if self.lstm is None else self.lstm(x)
        for layer in self.decoder:
            x = layer(x + center_trim(skips.pop(), x.shape[-1]))
        return resample_by(x, 2, 1) if self.resample else x

    def by_source(self, x: Tensor) -> Tensor:
        """(batch, source * channel, time) to (batch, source, channel, time)."""
        return x.unflatten(1, (len(self.sources), self.audio_channels))

# %% [markdown]
# The layers of version 2. They are plain lists of modules, in the order of the package, so that each tensor gets its official name: `encoder.0.0.weight` is the first convolution, `encoder.0.2.weight` its rewrite.

# %%
#| export
def _rewrite(channels: int, kernel_size: int, glu: bool, padding: int = 0) -> list[nn.Module]:
    """A convolution that keeps the channels, and its gate (or ReLU)."""
    wide = 2 * channels if glu else channels
    return [nn.Conv1d(channels, wide, kernel_size, padding=padding),
            nn.GLU(dim=1) if glu else nn.ReLU()]


def _encoder_v2(inputs: int, channels: int, kernel_size: int, stride: int, rewrite: bool,
                glu: bool) -> nn.Sequential:
    conv = nn.Conv1d(inputs, channels, kernel_size, stride)
    after = _rewrite(channels, 1, glu) if rewrite else []
    return nn.Sequential(conv, nn.ReLU(), *after)


def _decoder_v2(channels: int, outputs: int, kernel_size: int, stride: int, rewrite: bool,
                glu: bool, context: int, last: bool) -> nn.Sequential:
    before = _rewrite(channels, context, glu) if rewrite else []
    after = [] if last else [nn.ReLU()]
    return nn.Sequential(*before, nn.ConvTranspose1d(channels, outputs, kernel_size, stride),
                         *after)

# %% [markdown]
# And the network. Most of it is its arguments.

# %%
#| export
class DemucsV2(_WaveformUNet):
    """Demucs of 2019 to 2021 (v1 and v2): mixture (batch, channel, time) to its sources
    (batch, source, channel, time).

    sources: their names. audio_channels: of the mixture and of each source. channels: of the first
    layer; growth: their factor from layer to layer. depth: layers. rewrite: a 1x1 convolution in
    each encoder layer and one of `context` steps in each decoder layer, gated if glu.
    rescale: see `rescale_module`; 0 leaves the weights alone. resample: work at twice the rate.
    kernel_size, stride: of the outer convolutions. lstm_layers: in the middle; 0: none.
    normalize: by mean and deviation of the mixture. samplerate, segment_length: kept as they are.
    Version 1 is DemucsV2(sources, channels=100, resample=False).

    With audio of `valid_length` samples no step is left over; the output has as many samples with
    context 1, and fewer with more, so that what it should equal is trimmed (`center_trim`);
    `separate` sees to both. ValueError for other shapes and for audio too short for the network.
    Arguments, defaults and tensor names are those of the package demucs 2.0.3. Source: Défossez
    et al. 2019; section 6.8.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 64,
                 depth: int = 6, rewrite: bool = True, glu: bool = True, rescale: float = 0.1,
                 resample: bool = True, kernel_size: int = 8, stride: int = 4, growth: float = 2.0,
                 lstm_layers: int = 2, context: int = 3, normalize: bool = False,
                 samplerate: int = 44100, segment_length: int = 4 * 10 * 44100):
        super().__init__(sources, audio_channels, channels, depth, kernel_size, stride, context,
                         context, normalize, resample, samplerate)
        self.segment_length = segment_length
        inputs, outputs = audio_channels, len(self.sources) * audio_channels
        for index in range(depth):
            self.encoder.append(
                _encoder_v2(inputs, channels, kernel_size, stride, rewrite, glu))
            self.decoder.insert(0, _decoder_v2(channels, outputs, kernel_size, stride, rewrite,
                                               glu, context, last=index == 0))
            inputs, outputs, channels = channels, channels, int(growth * channels)
        self.lstm = BLSTM(inputs, lstm_layers) if lstm_layers else None
        if rescale:
            rescale_module(self, rescale)

    def forward(self, mix: Tensor) -> Tensor:
        x, mean, deviation = self.scaled(mix)
        if x.shape[-1] < (shortest := self.valid_length(1)):
            raise ValueError(f"mix has {x.shape[-1]} samples; this network takes at least "
                             f"{shortest}: pad to valid_length(), or use `separate`")
        return self.by_source(self.through(x) * deviation + mean)

# %% [markdown]
# It must agree with the plain one when both have the same weights; they come in the same order.

# %%
torch.manual_seed(0)
full = DemucsV2(STEMS, audio_channels=1, channels=6, depth=2)
plain = PlainDemucs(4, 6)
order = [plain.down_1, plain.gate_1, plain.down_2, plain.gate_2, plain.wide_2, plain.up_2,
         plain.wide_1, plain.up_1, plain.memory]
weights = [tensor for module in order for tensor in module.state_dict().values()]
for mine, theirs in zip(weights, full.state_dict().values()):
    mine.copy_(theirs)

# %% [markdown]
# Equal weights, equal sound:

# %%
x = torch.randn(2, 1, full.valid_length(700), generator=P.generator)
with torch.no_grad():
    assert torch.allclose(full(x), plain(x), atol=1e-5)

# %% [markdown]
# At full size, without filling memory: on the device `meta`, tensors have shapes and no numbers.

# %%
count = lambda model: sum(p.numel() for p in model.parameters())
with torch.device("meta"):
    sizes = {"v2": count(DemucsV2(STEMS)),
             "v1": count(DemucsV2(STEMS, channels=100, resample=False))}
known = {row["claim"]: float(row["value"]) for row in published("demucs_sizes")}
show_table([[name, f"{size:,}", 4 * size / 2 ** 20, known[name]] for name, size in sizes.items()],
           ["version", "parameters", "MB of 2^20 bytes", "SDR on MUSDB18, dB"],
           digits={"MB of 2^20 bytes": 0}, caption="Full size; the SDR is the paper's.")
assert sizes == {"v2": 265_679_496, "v1": 648_548_208}

# %% [markdown]
# A gigabyte, most of it in the middle, where there are 2048 channels. Section 6.15 is about that. (That outputs, activations and gradients are those of the packages, `tests/test_demucs.py` checks in every argument, to a hundred-thousandth.)
#
# <details><summary>Quick question: the input of 7.8 s has 343,980 samples, the valid length is 350,890. Why isn't the output as long as the input?</summary>
#
# The rewrites of the decoder read three steps without padding, so each layer loses two steps. Valid lengths count that in beforehand: the network is fed more than is asked for and gives a little more than is needed, and `center_trim` cuts the middle out.
# </details>
#
# ## 6.9 Up again, two ways
#
# Wave-U-Net (Stoller, Ewert and Dixon 2018), the network that Demucs followed, has no transposed convolutions. It draws straight lines between the steps and convolves the result at the *higher* rate. What speaks for either?

# %%
d = Diagram()
x = d.block("steps", "(C, m)", kind="data")
a = d.block("transposed convolution\nK = 8, s = 4", "(C/2, 4m + 4)", kind="trained", after=x,
            shift=0.45)
b = d.block("straight lines,\n4 times the steps", "(C, 4m + 11)", after=x, shift=-0.45)
c = d.block("convolution\nK = 8", "(C/2, 4m + 4)", kind="trained", after=b)
show(d.draw(), "Two ways to four times the rate, with as many weights.", d.in_words())

# %%
#| export
class LinearUpsampling(nn.Module):
    """Wave-U-Net's way up: linear interpolation, then a convolution at the higher rate.

    Takes the place of a transposed convolution of the same channels, kernel_size and stride, and
    gives as many samples: (batch, channel, time) to (batch, outputs, (time - 1) stride +
    kernel_size). Source: Stoller et al. 2018; section 6.9.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int, stride: int):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.conv = nn.Conv1d(channels, outputs, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        length = (x.shape[-1] - 1) * self.stride + self.kernel_size
        wide = F.interpolate(x, length + self.kernel_size - 1, mode="linear", align_corners=True)
        return self.conv(wide)

# %% [markdown]
# In a ready network they take the places of the transposed convolutions, wherever these are:

# %%
#| export
def with_linear_upsampling(model: nn.Module) -> nn.Module:
    """The model, its transposed convolutions replaced by new `LinearUpsampling` of their sizes."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.ConvTranspose1d):
                setattr(parent, name, LinearUpsampling(layer.in_channels, layer.out_channels,
                                                       layer.kernel_size[0], layer.stride[0]))
    return model

# %% [markdown]
# **Cost.** Transposed, each of the $m$ steps writes $K$ samples: $m K C C'$ products. Interpolated, each of the $4m$ samples reads $K$: four times as many. Counted, and measured:

# %%
channels, steps = 64, 4000
ways = {"transposed": nn.ConvTranspose1d(channels, channels // 2, 8, 4),
        "interpolated": LinearUpsampling(channels, channels // 2, 8, 4)}
products = {"transposed": steps * 8 * channels * channels // 2,
            "interpolated": ((steps - 1) * 4 + 8) * 8 * channels * channels // 2}

# %% [markdown]
# And on the clock:

# %%
x, seconds = torch.randn(1, channels, steps, generator=P.generator), {}
for name, layer in ways.items():
    with torch.no_grad():
        layer(x)
        began = time.perf_counter()
        for _ in range(5):
            y = layer(x)
    seconds[name] = time.perf_counter() - began
    assert y.shape == (1, channels // 2, (steps - 1) * 4 + 8)
print(f"{products['interpolated'] / products['transposed']:.0f} times the products;",
      "slower:", seconds["interpolated"] > seconds["transposed"])
assert count(ways["transposed"]) == count(ways["interpolated"])

# %% [markdown]
# **What the stride leaves behind.** A transposed convolution treats the samples between two steps differently: the first of each four is the sum of other weights than the second. Feed it a constant and out
# comes a pattern with a period of four samples. Straight lines between equal steps stay level.

# %%
constant = torch.ones(1, channels, 40)
with torch.no_grad():
    patterns = {name: layer(constant)[0, 0, 16:32] for name, layer in ways.items()}
for name, pattern in patterns.items():
    repeats, level = (torch.allclose(pattern[n:], pattern[:-n], atol=1e-5) for n in (4, 1))
    print(f"{name}: repeats after 4 samples: {repeats}, all equal: {level}")
assert not torch.allclose(patterns["transposed"][1:], patterns["transposed"][:-1], atol=1e-3)
assert torch.allclose(patterns["interpolated"][1:], patterns["interpolated"][:-1], atol=1e-4)

# %% [markdown]
# A period of four samples is a tone at a quarter of the rate. Layers with strides of four write such tones at the rate over 4, 16, 64, ..., and their multiples. Training can make the weights of
# the four places alike, but nothing forces it. Where does one hear it? Best where nothing else sounds. We take networks that were trained alike for a few minutes (section 6.14): one with a
# decoder kernel of three steps, one with a kernel of one, one that works at twice the rate, and one that interpolates. We feed each *silence* and look at what it says.

# %%
silence = [row for row in measured("06_demucs/silence") if row["hertz"]]

def answer(variant, seed="0"):
    """The loudest line of a network's answer to silence at each frequency: hertz, dB."""
    lines = {}
    for row in silence:
        if (row["variant"], row["seed"]) == (variant, seed):
            hertz, level = float(row["hertz"]), float(row["level_db"])
            lines[hertz] = max(level, lines.get(hertz, -200.0))
    return torch.tensor(sorted(lines.items())).T if lines else torch.zeros(2, 0)

# %% [markdown]
# The decibels count from the level of the mixture that the network was trained on. Grey lines mark the multiples of the rate over 16.

# %%
shown = {"base": "decoder kernel 3", "decoder kernel 1": "decoder kernel 1",
         "with resampling": "kernel 3, resampled", "linear interpolation": "interpolated"}

# %% [markdown]
# Four panels, one network each:

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharey=True)
for axis, (variant, label) in zip(axes, shown.items()):
    for k in range(1, 9):
        axis.axvline(k * rate / 16, color="0.85", lw=2)
    lines = answer(variant)
    axis.vlines(lines[0], -85, lines[1], lw=0.8)
    axis.set(xlabel="frequency (Hz)", title=label, ylim=(-85, -20), xlim=(0, rate / 2))
axes[0].set_ylabel("dB under the mixture")
show(figure, "What four trained networks answer to silence: the loudest source at each frequency.",
     "Four line spectra over frequency, the last one empty, with marks at the multiples of "
     "a sixteenth of the rate.")

# %% [markdown]
# Is what we see on the marks more than what lies between them? All lines on the marks together, and all others:

# %%
def on_marks(hertz, period=16, tolerance=6.0):
    """Whether a frequency is a multiple of the rate over `period`, within a few Hz."""
    step = rate / period
    return abs(hertz - step * round(hertz / step)) < tolerance and hertz > step / 2

def total_level(lines, wanted):
    """Level in dB of all lines that satisfy `wanted`."""
    kept = [10 ** (float(level) / 10) for hertz, level in lines.T if wanted(float(hertz))]
    return 10 * math.log10(sum(kept)) if kept else math.nan        # a dash in the table

# %% [markdown]
# Of the four networks:

# %%
levels_of = {variant: (total_level(answer(variant), on_marks),
                       total_level(answer(variant), lambda h: h > 20 and not on_marks(h)))
             for variant in shown}
show_table([[label, *levels_of[variant]] for variant, label in shown.items()],
           ["way up", "on the marks, dB", "elsewhere, dB"], digits=0,
           caption="One network each, a few minutes of training, one second of silence; "
                   "lines above -80 dB.")
assert answer("linear interpolation").numel() == 0 and levels_of["base"][0] > -60

# %% [markdown]
# The strides leave their marks on every network but the one that interpolates; working at twice the rate moves some of them out of the way. The paper gives the wider kernel as the remedy: with three steps in view, the rewrite can prepare neighbours for each other. With one network each
# such a difference can't be told; the two columns of the first two rows say how large it is here. To hear it, the answer to
# silence of the committed network, turned up as far as it goes. (Its input is not normalised here: there is nothing to divide by.)

# %%
ours.normalize = False
with torch.no_grad():
    hum = ours(torch.zeros(1, 1, ours.valid_length(2 * rate)))[0]  # (source, channel, time)
ours.normalize = True
hum = center_trim(hum, rate)
loudest = int(hum.square().mean((1, 2)).argmax())
level = 10 * math.log10(float(hum[loudest].var()))
print(f"silence in, {STEMS[loudest]} out: about {round(level, -1):.0f} dB under the mixture")
listen(hum[loudest] - hum[loudest].mean(), rate, "its answer to silence, turned up", normalize=True)

# %% [markdown]
# ## 6.10 The shift trick
#
# An ear hears a song that begins a millisecond later as the same song. A convolution without stride agrees: it is *time equivariant*. If $D_\tau$ delays a signal by $\tau$ samples,
#
# $$ f(D_\tau x) = D_\tau f(x). \tag{6.9} $$
#
# A stride breaks that. Delay by one sample and every window sees other samples; only for delays of $s^\text{depth}$ samples, one step of the middle, all is as before. How far is the committed network from it?

# %%
piece = mixture[:, :2 * rate][None]                                # (batch, channel, time)

@torch.no_grad()
def estimate(delay):
    """What the network gives for a delayed piece, moved back: (source, channel, time)."""
    length = ours.valid_length(piece.shape[-1] + 2048)
    padded = F.pad(piece, (delay, length - piece.shape[-1] - delay))
    y = ours(padded)[0]
    start = delay - (padded.shape[-1] - y.shape[-1]) // 2
    return y[..., start + 4096:start + piece.shape[-1] - 2048]

# %% [markdown]
# A delay of one whole step is the reference:

# %%
stays = estimate(1024)
moves = {delay: float((estimate(1024 + delay) - stays).square().mean() / stays.square().mean())
         for delay in (1, 4, 64, 256, 512, 1024)}
show_table([[str(delay), 10 * math.log10(max(move, 1e-12))] for delay, move in moves.items()],
           ["delay (samples)", "change of the output, dB"], digits=0,
           caption="Power of the change, relative to the output's; 1024 samples are one step.")

# %% [markdown]
# For 1024 samples, a step of the middle in this network of depth five, what is left is the normalisation and the edges. Everything else is noise of the network's own making. And noise can be averaged: delay by random amounts, move each
# estimate back, take the mean,
#
# $$ \bar f(x) = \frac1N \sum_{i=1}^N D_{-\tau_i}\, f(D_{\tau_i} x), \qquad \tau_i \text{ uniform in } 0 \ldots \tau_\text{max}. \tag{6.10} $$
#
# The authors call it the *shift trick*. By itself the mean is not better than its members: if all were wrong in the same way, nothing would be gained. First the pass that pads and trims, then the average:

# %%
#| export
def padded_separation(model: nn.Module, mixture: Tensor) -> Tensor:
    """One pass over audio of any length: (batch, channel, time) to (batch, source, channel, time).

    Zeros are put around it up to the model's `valid_length`, and the output is trimmed. A network
    whose output is longer or as long needs no more. Source: section 6.5.
    """
    length = mixture.shape[-1]
    rest = model.valid_length(length) - length
    return center_trim(model(F.pad(mixture, (rest // 2, rest - rest // 2))), length)

# %%
#| export
def _shifted_average(model: nn.Module, x: Tensor, shifts: int, max_shift: int | None,
                     generator: torch.Generator | None) -> Tensor:
    """The mean of the estimates of `shifts` copies that begin 0 to max_shift samples earlier."""
    max_shift = model.samplerate // 2 if max_shift is None else max_shift
    if shifts < 0 or max_shift < 0:
        raise ValueError(f"shifts is {shifts} and max_shift {max_shift}; expected both >= 0")
    padded, total = F.pad(x, (max_shift, max_shift)), 0.0
    for _ in range(shifts):
        early = int(torch.randint(max_shift + 1, (), generator=generator))
        copy = padded[..., max_shift - early:x.shape[-1] + 2 * max_shift - early]
        total = total + padded_separation(model, copy)[..., early:early + x.shape[-1]]
    return total / shifts

# %% [markdown]
# What both serve is the function that separates audio of any length and with any network of this kind.

# %%
#| export
def separate(model: nn.Module, mixture: Tensor, shifts: int = 0, max_shift: int | None = None,
             generator: torch.Generator | None = None) -> Tensor:
    """Separate audio with `DemucsV2`, `Demucs` or another network from waveform to waveforms.

    mixture: (batch, channel, time) or (channel, time), any float type; computed in the model's
    type, given back in the mixture's. Mono and stereo are what the model was built for, but a
    model of one channel takes any number, each on its own. shifts: 0, or the number of randomly
    shifted copies whose estimates are averaged. max_shift: samples, by default half a second.
    Returns (batch, source, channel, time), or without batch. ValueError for other shapes, no
    samples, NaN and negative shifts. Source: Défossez et al. 2019; section 6.10.
    """
    check_audio(mixture=mixture)
    if mixture.ndim == 2:
        return separate(model, mixture[None], shifts, max_shift, generator)[0]
    if mixture.ndim != 3 or 0 in mixture.shape:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (batch, channel, "
                         "time) or (channel, time) with at least one sample")
    if not mixture.isfinite().all():
        raise ValueError("mixture holds NaN or infinity; expected finite samples in [-1, 1]")
    if model.audio_channels == 1 and mixture.shape[1] > 1:
        alone = separate(model, mixture.flatten(0, 1)[:, None], shifts, max_shift, generator)
        return alone[:, :, 0].unflatten(0, mixture.shape[:2]).transpose(1, 2)
    x = mixture.to(next(model.parameters()).dtype)
    if shifts == 0:
        return padded_separation(model, x).to(mixture.dtype)
    return _shifted_average(model, x, shifts, max_shift, generator).to(mixture.dtype)

# %% [markdown]
# A network that is equivariant must not care:

# %%
class Half(nn.Module):
    """A network of one source, half the mixture."""

    audio_channels, samplerate = 1, 8000

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.5))

    def valid_length(self, length):
        return length + 3

    def forward(self, x):
        return self.factor * x.unsqueeze(1)

# %% [markdown]
# Three shifts, no difference:

# %%
x = torch.randn(1, 500, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(separate(Half(), x, shifts=3)[0], 0.5 * x, atol=1e-6)

# %% [markdown]
# And ours? The SDR of a piece by single shifted passes, and of the mean of more and more of them:

# %%
short = truth[..., :4 * rate]
generator = torch.Generator().manual_seed(1)
with torch.no_grad():
    passes = torch.stack([separate(ours, short.sum(0), 1, generator=generator)
                          for _ in range(P.shifts)])               # (pass, source, channel, time)
mean_of = lambda first: float(song_sdr(passes[:first].mean(0), short).nanmean())
single = [float(song_sdr(one, short).nanmean()) for one in passes]
gain = mean_of(P.shifts) - sum(single) / len(single)
print(f"the mean of {P.shifts} passes is {gain:.1f} dB better than its members on average")
assert gain > 0

# %% [markdown]
# In squared error a mean can't be worse than its members are on average, for squares are convex. How much better it is on all songs, section 6.14 measures.

# %% [markdown]
# ## 6.11 What it learns from
#
# The loss is the mean absolute error of all samples,
#
# $$ L = \frac{1}{J C T} \sum_{j,c,n} \big| \hat s_{j,c}[n] - s_{j,c}[n] \big|, \tag{6.11} $$
#
# chapter 5's L1 in time, without any transform. As the network's output is shorter than its input, the target is trimmed to it.

# %%
#| export
LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}


class WaveformStep:
    """A training step on waveforms: the mean absolute error of the estimates (eq. 6.11).

    Called with (model, sources): sources (batch, source, channel, time); the model is given their
    sum, and what it gives is compared with their middle, as long as its output. loss: "l1" or
    "l2". ValueError for another loss and for an output of another shape.
    Source: Défossez et al. 2019; section 6.11.
    """

    def __init__(self, loss: str = "l1"):
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}")
        self.loss = loss

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        estimates = model(sources.sum(1))
        length = min(estimates.shape[-1], sources.shape[-1])
        estimates, sources = center_trim(estimates, length), center_trim(sources, length)
        if estimates.shape != sources.shape:
            raise ValueError(f"the model gives {tuple(estimates.shape)}, the targets have "
                             f"{tuple(sources.shape)}; expected the same (batch, source, channel, "
                             "time)")
        return LOSSES[self.loss](estimates, sources)

# %% [markdown]
# By hand: a "network" that gives every source half of the mixture.

# %%
class Halves(nn.Module):
    """Two sources, each half of the mixture, its first and last sample cut off."""

    def forward(self, mix):
        return (0.5 * mix[..., 1:-1]).unsqueeze(1).expand(-1, 2, -1, -1)

sources = torch.tensor([[[[9.0, 1.0, 3.0, 9.0]], [[9.0, 1.0, -1.0, 9.0]]]])     # (1, 2, 1, 4)
assert WaveformStep()(Halves(), sources) == (0 + 2 + 0 + 2) / 4
assert WaveformStep("l2")(Halves(), sources) == (0 + 4 + 0 + 4) / 4

# %% [markdown]
# Songs are few and networks large, so Demucs never hears the same thing twice: stems are remixed from several songs, turned up and down, flipped (`Remix` and `Augmentation` of `course_lib.data`). Version 2 added pitch
# and tempo: a fifth of the songs come moved by up to two semitones and an eighth of tempo.
#
# To change the tempo and keep the pitch, cut the sound into frames and set them closer together or further apart. If they then overlapped at random, waves would cancel. So each frame may be taken a little earlier or later, from where it continues the frame before best: that is WSOLA, after the search for the largest
# correlation. (One frame of 2048 samples, hop 1024, search within 512.)

# %%
#| export
def stretch(x: Tensor, speed: float, frame: int = 2048, search: int = 512) -> Tensor:
    """Audio `speed` times as fast at the same pitch: (..., time) -> (..., about time / speed).

    Frames of `frame` samples overlap by half. Each is taken at most `search` samples from where
    the speed puts it, where it goes on best from the frame before: the same place for all signals
    of x, found on their sum. ValueError for no samples and speeds that aren't above 0. Source:
    Verhelst and Roelands 1993 (WSOLA); section 6.11.
    """
    check_audio(x=x)
    if not speed > 0 or 0 in x.shape:
        raise ValueError(f"speed is {speed} and x {tuple(x.shape)}; expected both above 0")
    hop, window = frame // 2, torch.hann_window(frame, dtype=x.dtype, device=x.device)
    count = math.ceil(x.shape[-1] / speed / hop) + 1
    padded = F.pad(x, (hop + search, 2 * frame + 2 * search + math.ceil(hop * speed)))
    guide = padded.flatten(0, -2).sum(0) if x.ndim > 1 else padded
    y, place = x.new_zeros(*x.shape[:-1], (count + 1) * hop), search
    for m in range(count):
        first = round(m * hop * speed)                              # of the places to choose from
        if m:
            region, before = guide[first:first + 2 * search + frame], guide[place + hop:]
            place = first + int(F.conv1d(region[None, None], before[None, None, :frame]).argmax())
        y[..., m * hop:m * hop + frame] += window * padded[..., place:place + frame]
    return y[..., hop:hop + round(x.shape[-1] / speed)]

# %% [markdown]
# And pitch is a matter of playing it faster: a just whole tone is 9/8 of the rate, which `resample_by` can do, and the tempo is put right beforehand.

# %%
#| export
INTERVALS = {0: (1, 1), 1: (18, 17), 2: (9, 8), 3: (6, 5), 4: (5, 4), 5: (4, 3)}


def repitch(x: Tensor, semitones: int, tempo: float = 1.0) -> Tensor:
    """Audio at another pitch and tempo: (..., time) -> (..., about time / tempo).

    All signals of x move alike. semitones: a whole number from -5 to 5, taken as a just interval.
    tempo: > 0, 1.1 is a tenth faster. ValueError for others. Source: used for separation by
    Cohen-Hadria, Roebel and Peeters 2019; section 6.11.
    """
    if abs(semitones) not in INTERVALS or not tempo > 0:
        raise ValueError(f"semitones is {semitones} and tempo {tempo}; expected a whole number "
                         "from -5 to 5 and a factor above 0")
    up, down = INTERVALS[abs(semitones)][:: 1 if semitones >= 0 else -1]
    stretched = stretch(x, tempo * down / up)
    return stretched if semitones == 0 else resample_by(stretched, up, down)

# %% [markdown]
# A tone must move by the interval, and nothing but the tempo may change its length. Then a real one.

# %%
a_440 = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(2 * rate) / rate)[None]
moved = repitch(a_440, 2, tempo=0.9)
spectrum = torch.fft.rfft(moved[0] * torch.hann_window(moved.shape[-1])).abs()
peak = int(spectrum.argmax()) * rate / moved.shape[-1]
print(f"440 Hz, up a whole tone: about {round(peak):d} Hz; 9/8 of it is 495")
assert abs(peak - 495) < 5 and abs(moved.shape[-1] * 0.9 / a_440.shape[-1] - 1) < 2e-3

real, _ = recording("fishin", start=12.0, seconds=5.0, mono=True, rate=rate)
listen(repitch(real, 2, 1.1), rate, "Let's Go Fishin', a whole tone up and a tenth faster")

# %% [markdown]
# ### Learning, live
#
# A network of three layers, a few steps on a few seconds of two songs. Enough to see that the loss falls, and no more.

# %%
torch.manual_seed(0)
small = DemucsV2(STEMS, audio_channels=1, channels=8, depth=3, normalize=True, samplerate=rate)
train_songs = experiment.songs_of("train", P.songs, 10.0, None)
chunks = RandomChunks(train_songs, small.valid_length(rate // 2) / rate, 4 * P.steps, seed=0)

# %% [markdown]
# The loop is chapter 4's:

# %%
optimizer = torch.optim.Adam(small.parameters(), 3e-3)
history = fit(small, WaveformStep(), process_batches(chunks, 4), optimizer,
              FitSettings(P.steps, clip=5.0), progress=False)
losses = [row["loss"] for row in history.steps]
third = P.steps // 3
fell = sum(losses[-third:]) / sum(losses[:third])
print("the loss of the last third is below that of the first:", fell < 1)
assert fell < 1

# %% [markdown]
# ### Learning for minutes
#
# `course train demucs_band` trains the network that comes with the course. Its card says on what and how long. It is a toy beside the paper's, whose weights section 6.8 has counted.

# %%
card = ours.card
rows = [["parameters", f"{card['parameters']:,}"], ["audio", f"mono, {ours.facts.rate} Hz"],
        ["steps", str(card["steps"])], ["batch", str(card["config"]["training"]["batch_size"])],
        ["seconds of a chunk", str(card["config"]["data"]["seconds"])],
        ["minutes on one shared core", f"{card['minutes']:.0f}"], ["seed", str(card["seed"])]]
show_table(rows, ["demucs_band", ""], caption=f"Trained by {card['command']}.")

# %% [markdown]
# Its score on the validation songs, all along:

# %%
#| export
def separation_scores(model: nn.Module, data: Sequence[Track], shifts: int = 0,
                      seed: int = 0) -> dict[str, float]:
    """Mean SDR in dB over songs, of each of the model's sources, and their mean (`sdr`, first).

    data: tracks. shifts: see `separate`, by a generator of this seed. A song's score is chapter
    1's `song_sdr`; songs in which a source is silent don't count for it. Source: section 6.11.
    """
    generator, table = torch.Generator().manual_seed(seed), []
    device = next(model.parameters()).device
    with torch.no_grad():
        for track in data:
            estimates = separate(model, track.mixture.to(device), shifts, generator=generator)
            table.append(song_sdr(estimates, track.sources(model.sources).to(device)))
    means = torch.stack(table).nanmean(0)                          # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(model.sources, means.tolist()))}

# %%
curve = measured_table("06_demucs/demucs_band_validation")
figure, axis = plt.subplots(figsize=(7.6, 2.5))
for stem in STEMS:
    axis.plot(curve["step"], curve[stem], "o-", color=STEM_COLOURS[stem], label=stem)
axis.set(xlabel="step", ylabel="SDR (dB)")
axis.legend(ncols=4)
show(figure, "SDR of demucs_band on 12 validation songs while it learned.",
     "Four rising curves, one a stem, that flatten towards the end.")
assert curve["sdr"].iloc[-1] > curve["sdr"].iloc[0]

# %% [markdown]
# The function that measured it must say the same of the weights that were kept (they are stored in half precision):

# %%
few = experiment.valid_songs()[:P.songs]
with torch.no_grad():
    kept = separation_scores(ours, few)
assert all(math.isfinite(value) for value in kept.values())
print(f"SDR on the first {P.songs} validation songs, mean of the stems: about {kept['sdr']:.0f} dB")

# %% [markdown]
# ## 6.12 Branches that are small
#
# Version 3 takes the large BLSTM out of the middle and puts small *residual branches* into the encoder layers. A branch is a side path whose output is added, scaled by a small learned factor $\lambda$ for each channel,
#
# $$ x \leftarrow x + \lambda \odot B(x). \tag{6.12} $$
#
# As $\lambda$ starts near zero, the network starts as if the branch were not there, and takes of it what turns out to help. Inside, the channels are compressed four times, so that a branch is cheap. Chapter 7 opens it up; here we build what we need.

# %%
d = Diagram()
x = d.block("x", "(C, m)", kind="data")
conv = d.block("conv. 3,\ndilated", "(C/4, m)", kind="trained", after=x)
norm = d.block("norm,\nGELU", "(C/4, m)", after=conv, kind="trained")
far = d.block("BLSTM,\nattention", "(C/4, m)", after=norm, kind="trained")
wide = d.block("conv. 1,\nnorm, GLU", "(C, m)", after=far, kind="trained")
scale = d.block("λ", "(C, m)", after=wide, kind="trained")

# %% [markdown]
# And what goes round it:

# %%
plus = d.join("+", after=scale)
d.arrow(x, plus, "as it was", route="over", reach=0.62)
d.block("x", "(C, m)", kind="data", after=plus)
d.group([far], "in the inner layers only")
show(d.draw(), "A residual branch. The next one has twice the dilation.", d.in_words())

# %% [markdown]
# Two layers in it are new. *GELU* is a ReLU with a rounded corner, $x\,\Phi(x)$, $\Phi$ the share of a normal distribution below $x$. *GroupNorm* is batch normalisation's sister (section 4.4): it subtracts the mean and divides by the deviation of a *group of channels over all steps* of one excerpt, so that nothing depends on what else is in the batch,
# and then scales and shifts each channel. Both by hand:

# %%
x = torch.randn(2, 6, 5, generator=P.generator)                    # (batch, channel, step)
groups = x.unflatten(1, (3, 2))                                    # (batch, group, channel, step)
mean, power = groups.mean((2, 3), keepdim=True), groups.var((2, 3), keepdim=True, correction=0)
by_hand = ((groups - mean) / (power + 1e-5).sqrt()).flatten(1, 2)
assert torch.allclose(nn.GroupNorm(3, 6)(x), by_hand, atol=1e-5)
normal = torch.distributions.Normal(0.0, 1.0)
assert torch.allclose(F.gelu(x), x * normal.cdf(x), atol=1e-6)

# %% [markdown]
# The factor:

# %%
#| export
class LayerScale(nn.Module):
    """A learned factor for each channel, small at first: (batch, channel, time) to the same shape.

    init: its first value. channel_last: for (..., channel) instead. add(x, y): x and the scaled y
    in one pass over memory. Source: Touvron et al. 2021; section 6.12.
    """

    def __init__(self, channels: int, init: float = 0.0, channel_last: bool = False):
        super().__init__()
        self.channel_last = channel_last
        self.scale = nn.Parameter(torch.full((channels,), float(init)))

    def _factor(self) -> Tensor:
        return self.scale if self.channel_last else self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self._factor()

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.addcmul(x, y, self._factor())

# %%
x = torch.randn(1, 2, 5, generator=P.generator)
assert torch.equal(LayerScale(2, 0.5)(x), 0.5 * x) and torch.equal(LayerScale(2)(x), 0 * x)
assert torch.allclose(LayerScale(2, 0.5).add(x, x), 1.5 * x)

# %% [markdown]
# ### Attention that prefers its neighbours
#
# A step $s$ asks all steps $t$ how well their key fits its query, and hears the contents of those that fit. Music repeats, so a step far away may help; but it should be *further* from being heard the further away it is. There is no position in the input; instead each query subtracts
# a penalty that grows with the distance, and decides by itself how steeply,
#
# $$ w_{s,t} = \operatorname{softmax}_t\!\Big( \frac{q_s \cdot k_t}{\sqrt{d}} - \delta_s\, |s - t| \Big), \qquad
#    \delta_s = \frac{1}{\sqrt D} \sum_{f=1}^{D} f\, \frac{\sigma(r_{s,f})}{2}, \tag{6.13} $$
#
# with $D = 4$ rates $r$ computed from the step. Query $q_s$, key $k_t$ and content are a matrix times the step each, $d$ is the number of channels of $q$, and the *softmax* makes weights of scores $z_t$, $e^{z_t} / \sum_u e^{z_u}$: positive, together 1, most for the largest (chapter 8 takes its time over all that). Nobody listens to himself: that score is set to $-100$, as the input is added anyway. The penalty alone, for queries and keys of zero and nine steps:

# %%
def heard(slope, steps=9):
    """Weights (6.13) of the middle step when queries and keys say nothing."""
    distance = (torch.arange(steps) - steps // 2).abs().float()
    return (-slope * distance).masked_fill(distance == 0, -100.0).softmax(0)

show_table([[f"slope {slope:g}", *heard(slope).tolist()] for slope in (0.0, 0.2, 1.0)],
           ["step 4 hears step", *map(str, range(9))], digits=2)
assert heard(1.0)[4] < 1e-6 and abs(float(heard(0.0)[0]) - 1 / 8) < 1e-6

# %%
#| export
class LocalState(nn.Module):
    """Attention with a learned penalty on distance, its input added: (batch, channel, time).

    heads: that the channels are divided among, else ValueError. ndecay: penalties to mix, each
    query for itself; 0: none. Time and memory grow with the square of the steps. Source: Défossez
    2021, section 3; chapter 6, section 6.12.
    """

    def __init__(self, channels: int, heads: int = 4, ndecay: int = 4):
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels is {channels} and heads {heads}; expected a multiple")
        self.heads, self.ndecay = heads, ndecay
        self.content, self.query, self.key = (nn.Conv1d(channels, channels, 1) for _ in range(3))
        if ndecay:
            self.query_decay = nn.Conv1d(channels, heads * ndecay, 1)
            with torch.no_grad():
                self.query_decay.weight *= 0.01                 # hardly any penalty at first
                self.query_decay.bias.fill_(-2.0)
        self.proj = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        split = lambda y: y.unflatten(1, (self.heads, -1))      # (batch, head, channel, time)
        q, k, v = split(self.query(x)), split(self.key(x)), split(self.content(x))
        scores = q.mT @ k / q.shape[2] ** 0.5                   # (batch, head, query, key)
        steps = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
        distance = (steps[:, None] - steps).abs()               # (query, key)
        if self.ndecay:
            share = torch.sigmoid(split(self.query_decay(x))) / 2    # (batch, head, decay, query)
            rates = torch.arange(1, self.ndecay + 1, device=x.device, dtype=x.dtype)
            slope = (rates[:, None] * share).sum(2) / self.ndecay ** 0.5  # (batch, head, query)
            scores = scores - slope.unsqueeze(-1) * distance
        scores = scores.masked_fill(distance == 0, -100.0)      # nobody looks at itself
        heard = v @ scores.softmax(-1).mT                       # (batch, head, channel, query)
        return x + self.proj(heard.flatten(1, 2))

# %% [markdown]
# The plain way, query by query, must agree:

# %%
def attention_by_hand(layer, x):
    """(6.13) for one head of one excerpt, as a loop: x (channel, step)."""
    q, k, v = (conv(x[None])[0] for conv in (layer.query, layer.key, layer.content))
    r = torch.sigmoid(layer.query_decay(x[None])[0]) / 2           # (decay, step)
    y = torch.zeros_like(x)
    for s in range(x.shape[1]):
        slope = sum((f + 1) * r[f, s] for f in range(4)) / 4 ** 0.5
        scores = [q[:, s] @ k[:, t] / len(q) ** 0.5 - slope * abs(s - t) for t in range(x.shape[1])]
        scores[s] = torch.tensor(-100.0)
        y[:, s] = v @ torch.stack(scores).softmax(0)
    return x + layer.proj(y[None])[0]

# %% [markdown]
# With weights drawn at random:

# %%
torch.manual_seed(0)
one_head, x = LocalState(6, heads=1), torch.randn(6, 12, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(one_head(x[None])[0], attention_by_hand(one_head, x), atol=1e-5)

# %% [markdown]
# The branches, one after the other. The dilation $2^d$ means that the three steps of the convolution lie $2^d$ apart.

# %%
#| export
class DConv(nn.Module):
    """Compressed residual branches, one after the other: (batch, channel, time) to the same shape.

    channels: in and out. compress: how many times fewer the branch has inside. depth: branches;
    branch d has dilation 2^d, or none of them where depth is negative. init: of `LayerScale`.
    norm: GroupNorm with one group. attn: `LocalState` of `heads` and `ndecay`. lstm: a `BLSTM`
    over frames of 200 steps. gelu: else ReLU. kernel: odd, else ValueError. Source: Défossez 2021,
    section 3; chapter 6, section 6.12, and chapter 7 in depth.
    """

    def __init__(self, channels: int, compress: float = 4, depth: int = 2, init: float = 1e-4,
                 norm: bool = True, attn: bool = False, heads: int = 4, ndecay: int = 4,
                 lstm: bool = False, gelu: bool = True, kernel: int = 3, dilate: bool = True):
        super().__init__()
        if kernel % 2 != 1:
            raise ValueError(f"kernel is {kernel}; expected an odd number of steps")
        hidden = int(channels / compress)
        self.layers = nn.ModuleList()
        for d in range(abs(depth)):
            dilation = 2 ** d if depth > 0 and dilate else 1
            first = nn.Conv1d(channels, hidden, kernel, dilation=dilation,
                              padding=dilation * (kernel // 2))
            second = nn.Conv1d(hidden, 2 * channels, 1)
            far = [LocalState(hidden, heads, ndecay)] if attn else []
            far = [BLSTM(hidden, 2, max_steps=200, skip=True), *far] if lstm else far
            scale = nn.GroupNorm if norm else lambda groups, size: nn.Identity()
            self.layers.append(nn.Sequential(
                first, scale(1, hidden), nn.GELU() if gelu else nn.ReLU(), *far,
                second, scale(1, 2 * channels), nn.GLU(1), LayerScale(channels, init)))

    def forward(self, x: Tensor) -> Tensor:
        for *parts, scale in self.layers:
            y = x
            for part in parts:
                y = part(y)
            x = scale.add(x, y)
        return x

# %% [markdown]
# At first it does nothing, to a ten-thousandth. (A test that compares two such networks and forgets to shake $\lambda$ tests nothing.)

# %%
torch.manual_seed(0)
branch, x = DConv(16, attn=True, lstm=True), torch.randn(1, 16, 50, generator=P.generator)
with torch.no_grad():
    assert 0 < (branch(x) - x).abs().max() < 1e-2
    for layer in branch.layers:
        layer[-1].scale.fill_(1.0)
    assert (branch(x) - x).abs().max() > 0.5

# %% [markdown]
# ## 6.13 Demucs version 3
#
# The differences to version 2, then: branches instead of the large BLSTM, GELU instead of ReLU, a GroupNorm in the inner layers, and a decoder that pads, so that the output is as long as the input. (A version 3 of 2021 also had a spectrogram branch: that is the hybrid, chapter 7.)

# %%
d = Diagram()
x = d.block("from above", "(C/2, 4m + 4)", kind="data")
conv = d.block("convolution\nK = 8, s = 4", "(C, m)", kind="trained", after=x)
act = d.block("norm,\nGELU", "(C, m)", kind="trained", after=conv)
dconv = d.block("residual\nbranch", "(C, m)", kind="trained", after=act, repeat=2)
gate = d.block("rewrite, norm,\nGLU", "(C, m)", kind="trained", after=dconv)
leaves = d.block("below,\nand skip", kind="text", after=gate)

# %% [markdown]
# The lower row:

# %%
total = d.block("sum with\nthe skip", "(C, m)", kind="data", at=(0, -1.15))
wide = d.block("rewrite K = 3,\nnorm, GLU", "(C, m)", kind="trained", after=total)
back = d.block("transposed conv.\nK = 8, s = 4", "(C/2, 4m + 4)", kind="trained", after=wide)
last = d.block("norm, GELU, but\nin the last", "(C/2, 4m + 4)", kind="trained", after=back)
d.block("above", kind="text", after=last)
show(d.draw(), "An encoder layer (above) and a decoder layer (below) of version 3. The norms are "
     "there from the fifth layer on.", d.in_words())

# %% [markdown]
# A plain forward, in two functions that walk through the picture. First an encoder layer:

# %%
def plain_encoder(layer, x):
    """One encoder layer of version 3: layer as `Demucs` has it, x (batch, channel, time)."""
    conv, norm, activation, branches, rewrite, norm_2, gate = layer
    x = activation(norm(conv(x)))                                  # (batch, C, step)
    for branch in branches.layers:
        x = x + branch(x)
    return gate(norm_2(rewrite(x)))                                # (batch, C, step)

# %% [markdown]
# Then the whole way. Of the innermost layer nothing lies between the way down and the way up, so that its skip adds it to itself.

# %%
def plain_forward(net, mix):
    """Version 3 in words: mix (batch, channel, time) to (batch, source, channel, time)."""
    mean, deviation = mono_statistics(mix)
    rest = net.valid_length(mix.shape[-1]) - mix.shape[-1]
    x = F.pad((mix - mean) / (1e-5 + deviation), (rest // 2, rest - rest // 2))
    x, skips = resample_by(x, 1, 2), []
    for layer in net.encoder:
        x = plain_encoder(layer, x)
        skips.append(x)                                            # (batch, C, step)
    for rewrite, norm, gate, up, *after in net.decoder:
        x = up(gate(norm(rewrite(x + center_trim(skips.pop(), x.shape[-1])))))
        for step in after:                                         # norm and GELU, but in the last
            x = step(x)
    x = resample_by(x, 2, 1) * deviation + mean                    # (batch, source * channel, time)
    return center_trim(x, mix.shape[-1]).unflatten(1, (len(net.sources), -1))

# %% [markdown]
# The reusable form. First the two kinds of layer; where a norm isn't wanted stands an identity, so that tensors keep their numbers.

# %%
#| export
@dataclass(frozen=True)
class _Layers:
    """What the layers of one depth of `Demucs` are made of: norm of a size, activation, gate."""

    norm: Callable[[int], nn.Module]
    activation: Callable[[], nn.Module]
    rewrite: bool
    glu: bool

    def gate(self, channels: int, context: int) -> list[nn.Module]:
        """The convolution that keeps the channels, norm and gate; [] without rewrite."""
        if not self.rewrite:
            return []
        wide = 2 * channels if self.glu else channels
        return [nn.Conv1d(channels, wide, 2 * context + 1, padding=context), self.norm(wide),
                nn.GLU(dim=1) if self.glu else nn.ReLU()]

    def encoder(self, conv: nn.Conv1d, branch: Callable[[], nn.Module] | None) -> nn.Sequential:
        """conv, norm, activation, residual branch, gate."""
        channels, branches = conv.out_channels, [branch()] if branch else []
        return nn.Sequential(conv, self.norm(channels), self.activation(), *branches,
                             *self.gate(channels, 0))

    def decoder(self, channels: int, outputs: int, kernel_size: int, stride: int, context: int,
                branch: Callable[[], nn.Module] | None, last: bool) -> nn.Sequential:
        """Gate, residual branch, transposed convolution, and, but in the last, norm, activation."""
        gate, branches = self.gate(channels, context), [branch()] if branch else []
        after = [] if last else [self.norm(outputs), self.activation()]
        return nn.Sequential(*gate, *branches,
                             nn.ConvTranspose1d(channels, outputs, kernel_size, stride), *after)

# %%
#| export
class Demucs(_WaveformUNet):
    """Demucs v3, the waveform model of 2021: mixture (batch, channel, time) to its sources
    (batch, source, channel, time), as long as the mixture.

    As `DemucsV2`, with these differences. context: steps on *either side* that a decoder layer's
    first convolution reads; it pads. gelu: GELU instead of ReLU. norm_starts, norm_groups:
    GroupNorm from this layer on. dconv_mode: `DConv` in the encoder (1), the decoder (2), both (3)
    or neither (0); dconv_depth, dconv_comp, dconv_init: its depth, compress, init;
    dconv_attn, dconv_lstm: attention and BLSTM in it from this layer on. segment: seconds, kept as
    it is. The mixture is padded to a valid length and what comes out is trimmed, so that any
    length from 1 on is taken. ValueError for other shapes. Arguments, defaults and tensor names
    are those of demucs.demucs.Demucs 4.1.0. Source: Défossez 2021; section 6.13.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 64,
                 growth: float = 2.0, depth: int = 6, rewrite: bool = True, lstm_layers: int = 0,
                 kernel_size: int = 8, stride: int = 4, context: int = 1, gelu: bool = True,
                 glu: bool = True, norm_starts: int = 4, norm_groups: int = 4,
                 dconv_mode: int = 1, dconv_depth: int = 2, dconv_comp: float = 4,
                 dconv_attn: int = 4, dconv_lstm: int = 4, dconv_init: float = 1e-4,
                 normalize: bool = True, resample: bool = True, rescale: float = 0.1,
                 samplerate: int = 44100, segment: float = 4 * 10):
        super().__init__(sources, audio_channels, channels, depth, kernel_size, stride, context,
                         1, normalize, resample, samplerate)
        self.segment = segment
        inputs, outputs = audio_channels, len(self.sources) * audio_channels
        for index in range(depth):
            norm = functools.partial(nn.GroupNorm, norm_groups)
            layers = _Layers(norm if index >= norm_starts else lambda size: nn.Identity(),
                             nn.GELU if gelu else nn.ReLU, rewrite, glu)
            branch = functools.partial(
                DConv, channels, dconv_comp, dconv_depth, dconv_init, attn=index >= dconv_attn,
                lstm=index >= dconv_lstm)
            self.encoder.append(layers.encoder(
                nn.Conv1d(inputs, channels, kernel_size, stride),
                branch if dconv_mode & 1 else None))
            self.decoder.insert(0, layers.decoder(
                channels, outputs, kernel_size, stride, context,
                branch if dconv_mode & 2 else None, last=index == 0))
            inputs, outputs, channels = channels, channels, int(growth * channels)
        self.lstm = BLSTM(inputs, lstm_layers) if lstm_layers else None
        if rescale:
            rescale_module(self, rescale)

    def forward(self, mix: Tensor) -> Tensor:
        x, mean, deviation = self.scaled(mix)
        length = x.shape[-1]
        rest = self.valid_length(length) - length
        x = self.through(F.pad(x, (rest // 2, rest - rest // 2)))
        return self.by_source(center_trim(x * deviation + mean, length))

# %% [markdown]
# Checks: it gives what the plain forward gives; the output is as long as the input for any length, one sample included; and the size is the published one.

# %%
torch.manual_seed(0)
v3 = Demucs(STEMS, channels=4, depth=3, norm_starts=1, norm_groups=2).eval()
x = torch.randn(2, 2, 500, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(v3(x), plain_forward(v3, x), atol=1e-6)
    assert all(v3(x[..., :n]).shape == (2, 4, 2, n) for n in (1, 2, 77, 500))

# %% [markdown]
# At full size:

# %%
with torch.device("meta"):
    size = count(Demucs(STEMS))
print(f"{size:,} parameters, {size / sizes['v2']:.2f} of version 2's")
assert size == 133_753_064

# %% [markdown]
# Half of version 2's, and the BLSTM in the middle is what went.
#
# <details><summary>Quick question: for a song of three minutes, what would take most memory in <code>LocalState</code>, and what do the authors do?</summary>
#
# The scores: one for each pair of steps, and steps grow with the song. In the fifth layer version 3 has 86 steps a second, three minutes have 15,500, and a head's scores 240 million numbers, nearly a gigabyte. So long songs are cut into segments that overlap (chapter 9).
# </details>

# %% [markdown]
# ## 6.14 One part at a time
#
# The paper's table takes one part away at a time and trains again, an *ablation*. So do we, in miniature, with one difference: to save time our base works at the song's own rate, and resampling is what one run *adds*; likewise repitch. Exactly how little this is:

# %%
about = measured_card("06_demucs/runs")
used = about["settings"]
runs = measured("06_demucs/runs")
one = {(row["variant"], row["seed"]): row for row in runs}
minutes = sum(float(row["seconds"]) for row in runs) / 60
show_table([["songs to learn from", f"{used['train_songs']} of {used['song_seconds']:g} s, mono, "
             f"{about['rate_hz']} Hz"],
            ["songs to score on", f"{used['test_songs']}, the middle {used['score_seconds']:g} s"],
            ["steps, batch, seconds of a chunk",
             f"{used['steps']}, {used['batch_size']}, {used['seconds']:g}"],
            ["first channels, depth", f"{used['channels']}, {used['depth']}"],
            ["seeds", "2 of the base, 1 of each other"],
            ["minutes, all runs together", f"{minutes:.0f}"]], ["what", "how much"],
           caption=f"{about['command']}, on {about['machine']}.")
assert {row["steps"] for row in runs} == {str(used["steps"])}

# %% [markdown]
# The package's own training has 180 epochs by default, each over all of MUSDB18's training songs. After so few steps a table can show what *learns faster*, not what is better in the end.
#
# All runs are scored on the same songs, so we subtract song by song. And one yardstick comes first: how far are two runs apart that differ in nothing but the seed?

# %%
song_rows = measured("06_demucs/songs")

def by_song(variant, seed="0"):
    """SDR of a run, without shifts: (song, stem), the songs in their order."""
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in song_rows
                         if (row["variant"], row["seed"]) == (variant, seed)])

# %% [markdown]
# Two seeds of the base:

# %%
base, other_base = by_song("base"), by_song("base", "1")
spread = (other_base - base).nanmean(1)                            # (song,)
print(f"one seed against the other: {difference_in_words(spread)}")
seeds_apart = abs(float(spread.mean()))

# %% [markdown]
# Now the table. Its fourth column is what the part is worth in our hands: with it less without it, against the mean of both base runs, over songs with 95% interval; the fifth what the paper says it is worth.

# %%
paper = {row["variant"]: float(row["sdr_db"]) for row in published("demucs_ablations")}
PARTS = {"LSTM": "without LSTM", "rescaling": "without rescaling", "GLU": "without GLU",
         "L1 (not MSE)": "with MSE", "repitch": "with repitch", "resampling": "with resampling",
         "decoder kernel 3": "decoder kernel 1", "transposed conv.": "linear interpolation",
         "16 channels (not 8)": "8 channels"}
ADDED = ("with repitch", "with resampling")                        # the run has what the base lacks

def worth(variant):
    """What a part is worth, dB: with it less without it, against each base run, (seed, song)."""
    change = torch.stack([(by_song(variant) - run).nanmean(1) for run in (base, other_base)])
    return change if variant in ADDED else -change

# %% [markdown]
# The row of the shift trick has no training: it is the first base network, with ten shifts and with none.

# %%
shift_rows = measured("06_demucs/shifts")

def shifted(count):
    """SDR of the first base run with so many shifts: (song, stem)."""
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in shift_rows
                         if row["shifts"] == str(count)])

by_shifts = (shifted(10) - base).nanmean(1)                        # (song,)

# %% [markdown]
# A row for each part:

# %%
paper_of = lambda variant: paper["base"] - paper[variant.replace("with r", "without r")] if (
    variant.replace("with r", "without r") in paper) else None
rows = [[part, int(one[variant, "0"]["parameters"]) / 1e6, float(one[variant, "0"]["test_sdr"]),
         mean_interval(worth(variant).mean(0)), paper_of(variant)]
        for part, variant in PARTS.items()]
rows.append(["10 shifts", int(one["base", "0"]["parameters"]) / 1e6, float(shifted(10).nanmean()),
             mean_interval(by_shifts), paper["base"] - paper["without shifts"]])

# %%
both = [float(one["base", seed]["test_sdr"]) for seed in ("0", "1")]
base_row = ["(base)", int(one["base", "0"]["parameters"]) / 1e6, sum(both) / 2, None, None]
show_table([base_row, *rows],
           ["part", "million weights of its run", "SDR of its run, dB", "worth here, dB",
            "worth in the paper, dB"],
           caption="Its run is the one that lacks the part, or, of repitch, resampling and shifts, "
                   f"that adds it. {len(base)} songs, one seed (base: two, {seeds_apart:.2f} dB "
                   "apart; shifts: the first).")

# %% [markdown]
# A picture of the two columns. Where a dot's line crosses zero, or the dot lies within the grey band of the seeds, there is nothing to see.

# %%
figure, axis = plt.subplots(figsize=(7.6, 3.4))
axis.axvspan(-seeds_apart, seeds_apart, color="0.9", label="two seeds apart")
axis.axvline(0, color="0.6", lw=0.8)
for place, (part, _, _, (middle, low, high), theirs) in enumerate(rows):
    axis.plot([low, high], [place, place], color="C0", lw=2)
    axis.plot(middle, place, "o", color="C0", label="here" if place == 0 else None)
    if theirs is not None:
        axis.plot(theirs, place, "D", color="C1", mfc="none", label="paper" if place == 0 else None)
axis.set(yticks=range(len(rows)), yticklabels=[row[0] for row in rows], xlabel="worth (dB)")
axis.invert_yaxis()
axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
show(figure, "What each part is worth: ours with 95% interval over songs, and the paper's number.",
     "A dot plot, a row a part: dots with intervals for our runs, diamonds for the paper.")

# %% [markdown]
# What can be said, computed from the intervals, from *both* seeds of the base, and from how far apart these are:

# %%
def seen(change):
    """The verdict of (seed, song) differences, *not seen* where two equal runs are as far apart."""
    verdict = same_trend(change)
    too_small = verdict == SAME_TREND and abs(float(change.mean())) <= seeds_apart
    return NOT_SEEN if too_small else verdict

def in_words(variant):
    """Whether a part helped, hurt, or can't be told, by both seeds of the base."""
    helped, hurt = seen(worth(variant)), seen(-worth(variant))
    return "helps" if helped == SAME_TREND else "hurts" if hurt == SAME_TREND else "can't be told"

verdicts = {part: in_words(variant) for part, variant in PARTS.items()}
for word in ("helps", "hurts", "can't be told"):
    named = [part for part, found in verdicts.items() if found == word]
    print(f"{word}:", ", ".join(named) or "nothing")

# %% [markdown]
# Where ours differs from the paper, three reasons are at hand, and none of them says that the paper is wrong. *Time*: a part that makes learning easier shows at once, one that keeps a
# network from learning songs by heart (repitch) shows only when it begins to. *Size*: sixteen channels at 22 kHz are another machine, and in chunks of a second and a half an LSTM has little to remember. *The score*: SDR counts squared errors, which is what MSE makes small; L1's merit, if it has one here, would have to show on errors that are rare and large.
#
# The learning curves show the first reason. Means of ten steps; MSE is left out, its loss is another unit.

# %%
logs = measured_table("06_demucs/logs")
first = logs[(logs["seed"] == 0) & logs["variant"].isin(
    ["base", "without LSTM", "without rescaling", "without GLU", "with resampling"])]
axis = plot_losses({name: (part["step"].to_numpy(), part["loss"].to_numpy())
                    for name, part in first.groupby("variant", sort=False)}, smoothing=60)
show(axis, "L1 while learning, smoothed over 60 steps: equal songs, steps and first seed.",
     "Five falling curves on a logarithmic axis that lie close together at the end.")

# %% [markdown]
# ## 6.15 Fewer bits
#
# A gigabyte of weights is too much for a phone. Must each have 32 bits? Round all weights of a tensor to $2^b$ levels between its smallest and its largest value,
#
# $$ Q_b(w) = \Delta_b \operatorname{round}\!\Big(\frac{w - w_\text{min}}{\Delta_b}\Big) + w_\text{min}, \qquad \Delta_b = \frac{w_\text{max} - w_\text{min}}{2^b - 1}. \tag{6.14} $$

# %%
#| export
def quantise(p: Tensor, bits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values rounded to 2^bits levels, evenly spaced from low to high (eq. 6.14).

    p: (group, value). bits: whole numbers, (group, 1). low, high: of all values. Section 6.15.
    """
    unit = (high - low) / (2.0 ** bits - 1)
    return ((p - low) / unit).round() * unit + low

# %%
w = torch.tensor([[-1.0, -0.4, 0.6, 2.0]])
two_bits = quantise(w, torch.tensor([[2.0]]), w.min(), w.max())
print(w.tolist(), "->", two_bits.tolist())                         # four levels, a whole apart
assert two_bits.tolist() == [[-1.0, 0.0, 1.0, 2.0]]

# %% [markdown]
# With each bit fewer the error doubles. How few are enough? We round the trained base, without any further training:

# %%
bit_rows = measured("06_demucs/bits")

def with_bits(bits):
    """SDR of the first base run, its weights rounded: (song, stem); and its size in MB."""
    chosen = [row for row in bit_rows if row["bits"] == str(bits)]
    return (torch.tensor([[float(row[stem]) for stem in STEMS] for row in chosen]),
            float(chosen[0]["megabytes"]))

# %% [markdown]
# For each number of bits:

# %%
rounded = {bits: with_bits(bits) for bits in used["bits"]}
show_table([["32", float(one["base", "0"]["megabytes"]), float(base.nanmean()), None],
            *[[str(bits), size, float(sdr.nanmean()), mean_interval((sdr - base).nanmean(1))]
              for bits, (sdr, size) in rounded.items()]],
           ["bits", "MB", "SDR, dB", "against 32 bits, dB"],
           caption=f"The first base run, rounded after training; {len(base)} songs.")

# %% [markdown]
# A network that has learned for a minute forgives a lot. The committed one learned longer; rounded likewise, on the piece of section 6.10:

# %%
with torch.no_grad():
    exact = float(song_sdr(separate(ours, short.sum(0)), short).nanmean())
    by_bits = {bits: song_sdr(separate(experiment.rounded(ours, bits)[0], short.sum(0)), short)
               for bits in (8, 6, 4, 3, 2)}
show_table([["SDR lost, dB", *[exact - float(sdr.nanmean()) for sdr in by_bits.values()]]],
           ["bits", *map(str, by_bits)], digits=1, caption="demucs_band, four seconds of one song.")
assert abs(exact - float(by_bits[8].nanmean())) < 0.1

# %% [markdown]
# With eight bits nobody notices; with few enough it breaks. Two wishes remain: that the network *knows* in training that it will be rounded, and that each group of weights gets as many bits as *it* needs. Rounding has a slope of zero, so gradients say nothing about it. *DiffQ* (Défossez, Adi and Synnaeve 2021) replaces it in training by noise
# of the same size,
#
# $$ \tilde w = w + \tfrac12 \Delta_b\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, 1), \tag{6.15} $$
#
# and noise has a slope: a gradient for $w$ as if there were none, and one for the real number $b$, by way of $\Delta_b$. (Rounding errors are uniform within $\pm\Delta/2$, with deviation $\Delta/\sqrt{12}$; the package's default is Gaussian noise of deviation $\Delta/2$, as here.) Groups of eight weights share one $b$, kept between 2 and 15 by a logistic function. The size of the network is then something
# to take a derivative of, too,
#
# $$ M(b) = \sum_g 8\, b_g + \text{(what isn't rounded, and the list of the } b_g), \qquad L + \lambda M. \tag{6.16} $$

# %% [markdown]
# As a wrapper around any network: `torch.func.functional_call` runs a module with other weights than its own, here the noisy or the rounded ones.

# %%
#| export
class DiffQ(nn.Module):
    """A network whose weights learn with how many bits they are stored.

    model: whose weight tensors of at least `min_values` numbers are quantised, in groups of
    `group` numbers with one number of bits each, from min_bits to max_bits, init_bits at first.
    In training their rounding is imitated by noise, through which gradients reach the bits; in
    eval mode they are rounded. The first weights are moved into it; `model.facts`, sources etc.
    are found under `inner`. ValueError for bits out of order. Source: Défossez, Adi and Synnaeve
    2021; as the package diffq (Gaussian noise); section 6.15.
    """

    def __init__(self, model: nn.Module, group: int = 8, min_values: int = 2622,
                 min_bits: float = 2.0, max_bits: float = 15.0, init_bits: float = 8.0):
        super().__init__()
        if not min_bits < init_bits < max_bits:
            raise ValueError(f"bits are {min_bits}, {init_bits}, {max_bits}; expected min_bits < "
                             "init_bits < max_bits")
        self.inner, self.group, self.min_bits, self.max_bits = model, group, min_bits, max_bits
        self.names = [name for name, p in model.named_parameters()
                      if p.numel() >= min_values and p.numel() % group == 0]
        start = torch.logit(torch.tensor((init_bits - min_bits) / (max_bits - min_bits)))
        tensors = dict(model.named_parameters())
        self.logits = nn.ParameterList(
            torch.full((tensors[name].numel() // group, 1), float(start)) for name in self.names)

    def bits(self) -> list[Tensor]:
        """Bits of every group, real numbers: one (group, 1) a tensor."""
        span = self.max_bits - self.min_bits
        return [self.min_bits + span * torch.sigmoid(logit) for logit in self.logits]

    def weights(self) -> dict[str, Tensor]:
        """The quantised tensors by name: with noise in training, else rounded."""
        tensors, found = dict(self.inner.named_parameters()), {}
        for name, bits in zip(self.names, self.bits()):
            p = tensors[name].reshape(-1, self.group)
            low, high = p.min(), p.max()
            if self.training:
                noise = torch.randn_like(p) / 2
                found[name] = (p + (high - low) / (2 ** bits - 1) * noise).view_as(tensors[name])
            else:
                found[name] = quantise(p, bits.round(), low, high).view_as(tensors[name])
        return found

    def forward(self, mix: Tensor) -> Tensor:
        return torch.func.functional_call(self.inner, self.weights(), (mix,))

    def megabytes(self) -> Tensor:
        """Size of the stored network, with a gradient for the bits: 2^20 bytes (eq. 6.16)."""
        tensors = dict(self.inner.named_parameters())
        total = sum(32.0 * p.numel() for name, p in tensors.items() if name not in self.names)
        for bits in self.bits():
            most = float(bits.detach().max().round())
            index = math.ceil(math.log2(1 + most - self.min_bits))     # to store a group's bits
            total = total + self.group * bits.sum() + 2 * 32 + 8 + index * bits.numel()
        return total / (8 * 2 ** 20)

# %% [markdown]
# And the step that adds the penalty to any other step's loss.

# %%
#| export
class DiffQStep:
    """The training step of a `DiffQ` network: another step's loss and a penalty on the size.

    step: the loss, (model, batch) -> scalar. penalty: per 2^20 bytes. Logs both. Section 6.15.
    """

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor], penalty: float):
        self.step, self.penalty = step, penalty

    def __call__(self, model: nn.Module, sources: Tensor) -> dict[str, Tensor]:
        error, size = self.step(model, sources), model.megabytes()
        return {"loss": error + self.penalty * size, "error": error, "megabytes": size}

# %% [markdown]
# Try it on one weight. A loss of $(\tilde w - 0.3)^2$ gets worse with noise, on average by its variance, $\Delta^2/4$, so its slope for the bits must be negative: more bits, less loss.

# %%
bits = torch.tensor(4.0, requires_grad=True)
unit = 1.0 / (2 ** bits - 1)                                       # weights from 0 to 1
noise = torch.randn(20_000, generator=P.generator)
noisy_loss = ((0.3 + unit / 2 * noise - 0.3) ** 2).mean()
slope, = torch.autograd.grad(noisy_loss, bits)
by_formula = -math.log(2) * 2 ** 4 / (2 * (2 ** 4 - 1) ** 3)       # derivative of unit^2 / 4
print(f"slope for the bits is {slope / by_formula:.1f} times the formula's")
assert abs(float(slope) / by_formula - 1) < 0.05

# %% [markdown]
# On a small network: in eval mode the weights are really rounded, and a strong penalty drives the size down.

# %%
torch.manual_seed(0)
tiny = DiffQ(DemucsV2(STEMS, 1, channels=8, depth=2, resample=False), min_values=64)
start = float(tiny.megabytes().detach())

# %% [markdown]
# Fifteen steps on noise, with a penalty that rules everything:

# %%
chunk = torch.randn(2, 4, 1, tiny.inner.valid_length(1000), generator=P.generator)
optimizer = torch.optim.Adam(tiny.parameters(), 0.05)
for _ in range(15):
    optimizer.zero_grad()
    DiffQStep(WaveformStep(), penalty=50.0)(tiny, chunk)["loss"].backward()
    optimizer.step()
weights = tiny.eval().weights()["lstm.lstm.weight_ih_l0"]
print("smaller:", float(tiny.megabytes().detach()) < start,
      "| values of the LSTM's first matrix:", "few" if len(weights.unique()) < 300 else "many")
assert float(tiny.megabytes().detach()) < 0.8 * start

# %% [markdown]
# And the real runs: the base, trained from the start with $\lambda M$, for three penalties $\lambda$ per MB. What does it save, what does it cost, and would fewer channels have done the same? (Adam moves a number by about its learning rate in a step, however large the gradient. So that the strongest penalty gets anywhere in so few steps, the bits learn four times as fast with it.)

# %%
against = lambda sdr: mean_interval((sdr - base).nanmean(1))
size_of = lambda variant: float(one[variant, "0"]["megabytes"])
penalty_of = {variant: about["variants"][variant]["penalty"]
              for variant in ("DiffQ", "DiffQ, penalty 0.1", "DiffQ, penalty 1")}
trained = lambda variant: [size_of(variant), float(by_song(variant).nanmean()),
                           against(by_song(variant))]
compared = [["base, 32 bits", *trained("base")[:2], None],
            *[[f"DiffQ, λ = {penalty:g}", *trained(variant)]
              for variant, penalty in penalty_of.items()],
            *[[f"base, rounded to {bits}", rounded[bits][1], float(rounded[bits][0].nanmean()),
               against(rounded[bits][0])] for bits in (8, 4, 3, 2)],
            ["8 channels, 32 bits", *trained("8 channels")]]

# %% [markdown]
# Side by side:

# %%
show_table(compared, ["network", "MB of 2^20 bytes", "SDR, dB", "against the base, dB"],
           caption=f"One seed, {len(base)} songs.")
quantised_mb = next(row for row in published("demucs_sizes") if row["claim"] == "quantised")
print(f"the paper's network: {4 * sizes['v2'] / 2 ** 20:.0f} MB, with DiffQ",
      quantised_mb["value"], "MB")
bits_of = {variant: 32 * size_of(variant) / size_of("base") for variant in penalty_of}
for variant, bits in bits_of.items():
    print(f"{variant}: {32 / bits:.1f} times smaller, {bits:.1f} bits a weight on average")
assert bits_of["DiffQ"] < 10 and sorted(bits_of.values(), reverse=True) == [*bits_of.values()]

# %% [markdown]
# Compare by size. Half the channels cost most: a large network with few bits is the better use of a megabyte. Between DiffQ and rounding afterwards the rows decide, and at four bits they decide for rounding: after a training as short as this it is still free, so DiffQ has nothing to win, and its noise costs a little.

# %%
rounded_4, fewer = rounded[4], by_song("8 channels")
ahead = mean_interval((by_song("DiffQ") - fewer).nanmean(1))
print("DiffQ is ahead of the network with 8 channels:", ahead[1] > 0,
      "| smaller, too:", size_of("DiffQ") < size_of("8 channels"))
assert ahead[1] > 0 and size_of("DiffQ") < size_of("8 channels")
assert all(float((rounded_4[0] - by_song(variant)).nanmean()) > 0
           for variant in ("DiffQ", "DiffQ, penalty 0.1")) and rounded_4[1] < size_of("DiffQ")

# %% [markdown]
# Its case should be fewer bits than that, where rounding afterwards breaks. The strongest penalty goes there, and lies between rounding to two bits and to three:

# %%
least = by_song("DiffQ, penalty 1")
for bits in (3, 2):
    print(f"DiffQ, λ = 1, less the base rounded to {bits}:",
          difference_in_words((least - rounded[bits][0]).nanmean(1)))
assert rounded[2][1] < size_of("DiffQ, penalty 1") < rounded[3][1]
assert mean_interval((least - rounded[2][0]).nanmean(1))[1] <= 0

# %% [markdown]
# So here is nothing to win either: a network that has learned for a minute forgives even two bits, and DiffQ pays as much and is even a little larger. `demucs_band` has learned longer and doesn't forgive them (the row above, on the right); there DiffQ would have a case. That it has one is the paper's word: no run here trained *that* network with it.
#
# How the sizes fell while they learned:

# %%
figure, axis = plt.subplots(figsize=(7.6, 2.4))
for variant, penalty in penalty_of.items():
    log = logs[logs["variant"] == variant]
    axis.plot(log["step"], log["megabytes"], label=f"DiffQ, λ = {penalty:g}")
axis.axhline(size_of("8 channels"), color="0.5", ls="--", label="8 channels, 32 bits")
axis.set(xlabel="step", ylabel="MB", ylim=(0, None))
axis.legend(fontsize="small")
show(figure, "Size of the stored network while DiffQ trains it.",
     "Three falling curves, the lower the larger the penalty, beside the dashed line of the "
     "network with half the channels.")

# %% [markdown]
# What it doesn't save is time: the network computes with floats as before, and training draws noise for every weight. Bits save storage and download.
#
# <details><summary>Quick question: why does DiffQ keep the smallest and the largest value of a tensor, and what would one outlier do?</summary>
#
# All levels lie between them. One weight ten times as large as the others stretches the levels ten times, and costs every other weight of the tensor more than three bits.
# </details>
#
# ## 6.16 Where it stands
#
# All methods on the same songs, mono at 22,050 Hz. Open-Unmix heard the songs in stereo and at twice the rate, and what it gave was brought to the same form; it trained longer, and on more songs, so this is no fair race.

# %%
bound_rows = measured("06_demucs/bounds")

def by_method(method):
    """SDR of a method of the table of bounds: (song, stem)."""
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in bound_rows
                         if row["method"] == method])

# %% [markdown]
# All of them, the worst first:

# %%
methods = list(dict.fromkeys(row["method"] for row in bound_rows))
table = {method: by_method(method) for method in methods} | {"Demucs, base": base}
order = sorted(table, key=lambda method: float(table[method].nanmean()))
show_table([[method, *table[method].nanmean(0).tolist(), mean_interval(table[method].nanmean(1))]
            for method in order], ["SDR in dB", *STEMS, "mean of stems"], digits=1,
           caption=f"The middle {used['score_seconds']:g} s of {len(base)} band test songs, mean "
                   "over songs; last column with 95% interval.")
assert order[0] == "mixture / 4" and order[-1] == "ideal ratio mask"

# %% [markdown]
# Against the rules of chapter 2 and against Open-Unmix, song by song:

# %%
mine = table["Demucs, longer, 10 shifts"]
for other in ("chapter 2's best", "Open-Unmix", "Demucs, longer"):
    lead = (mine - table[other]).nanmean(1)
    print(f"10 shifts, less {other}: {difference_in_words(lead, digits=1)}")

# %% [markdown]
# ### Listen
#
# The song of section 6.1, stem by stem, with a few shifts. Listen for two things: what is left of the others, and what belongs to nobody, a roughness that comes and goes with the notes.

# %%
with torch.no_grad():
    stems = separate(ours, mixture, shifts=3, generator=torch.Generator().manual_seed(0))
for place, stem in enumerate(STEMS):
    listen(stems[place], rate, f"{stem}, as the small Demucs hears them")

# %% [markdown]
# And music that no training saw: the recording of chapter 2, five seconds of it, and what is taken for the voice.

# %%
listen(real, rate, "Karissa Hobbs, Let's Go Fishin'")
with torch.no_grad():
    real_stems = separate(ours, real, shifts=3, generator=torch.Generator().manual_seed(0))
listen(real_stems[STEMS.index("vocals")], rate, "the voice, as the small Demucs hears it")

# %% [markdown]
# Nobody has the stems of that recording, so there is no score. But one thing can be measured: do the four estimates add up to the mixture? Nothing asks that of a waveform network; masks that sum to one do it by themselves.

# %%
rest = (real_stems.sum(0) - real).square().mean() / real.square().mean()
band_rest = (stems.sum(0) - mixture).square().mean() / mixture.square().mean()
for name, share in (("band", band_rest), ("recording", rest)):
    print(f"{name}: what the stems don't account for lies about "
          f"{round(10 * math.log10(float(share))):d} dB under the mixture")
assert 0 < float(band_rest) < 1

# %% [markdown]
# ## 6.17 What we built
#
# | name | what | section |
# |---|---|---|
# | `sinc_filters`, `resampling_matrix`, `resample_by` | another rate, by windowed sinc | 6.4 |
# | `valid_length`, `center_trim` | lengths that fit | 6.5 |
# | `BLSTM`, `overlapping_frames`, `joined_middles` | a memory in the middle, whole or in frames | 6.6 |
# | `rescale_module` | first weights of the right size | 6.7 |
# | `mono_statistics`, `DemucsV2` | version 2, and version 1 by its arguments | 6.8 |
# | `LinearUpsampling`, `with_linear_upsampling` | Wave-U-Net's way up | 6.9 |
# | `padded_separation`, `separate` | any length, and the shift trick | 6.10 |
# | `WaveformStep`, `stretch`, `repitch`, `separation_scores` | what it learns from | 6.11 |
# | `LayerScale`, `LocalState`, `DConv` | residual branches | 6.12 |
# | `Demucs` | version 3, time only | 6.13 |
# | `quantise`, `DiffQ`, `DiffQStep` | fewer bits | 6.15 |
#
# All of it is in `course_lib.demucs`; the comparison is `course_lib.experiments.demucs`.

# %% [markdown]
# ## 6.18 Paper claims
#
# The claims are from Défossez, Usunier, Bottou and Bach (version 2 of their paper, 2021). A part counts as seen if its worth, paired over songs, has an interval that excludes zero, both seeds of the base agree, and two equal runs lie less far apart. (Shifts need no second training, so there the interval alone decides.) Levels *need real data*: ours are on the band, mono, after minutes.

# %%
SOURCE = "Défossez et al. 2021"
def part_claim(text, variant):
    """The claim that a part helps, against both seeds of the base."""
    theirs = paper_of(variant)
    return Claim(text, SOURCE, "6.14", "order only" if theirs is None else f"{theirs:+.2f} dB",
                 difference_in_words(worth(variant)), seen(worth(variant)))

# %% [markdown]
# One claim a part, and the shifts:

# %%
claims = [part_claim(text, variant) for text, variant in (
    ("The BLSTM in the middle helps", "without LSTM"),
    ("Pitch and tempo augmentation helps", "with repitch"),
    ("Rescaled first weights help", "without rescaling"),
    ("GLU is better than ReLU", "without GLU"),
    ("L1 is better than MSE", "with MSE"), ("Resampling by two helps", "with resampling"),
    ("A decoder kernel of three steps is better than one", "decoder kernel 1"),
    ("More channels help", "8 channels"))]
shifts_in_paper = f"{paper['base'] - paper['without shifts']:+.2f} dB"
claims.append(Claim("The shift trick helps", SOURCE, "6.10, 6.14", shifts_in_paper,
                    difference_in_words(by_shifts), same_trend(by_shifts)))

# %% [markdown]
# The remaining ones:

# %%
times = products["interpolated"] / products["transposed"]
gigabyte = next(row for row in published("demucs_sizes") if row["claim"] == "one float each")
gigabytes = 4 * sizes["v2"] / 2 ** 30
eighth = "DiffQ, penalty 0.1"                                       # which comes nearest to 8 times
lost, saved = (base - by_song(eighth)).nanmean(1), 32 / bits_of[eighth]
no_loss = mean_interval(lost)[1] <= 0 and float(lost.mean()) <= 0.1
marks = {variant: levels_of[variant][0] for variant in shown}
claims += [
    Claim("Transposed convolutions need fewer operations than linear interpolation", SOURCE, "6.9",
          "order only", f"{times:.1f} times fewer", reproduced(times, 4.0, 0.05)),
    Claim("A decoder kernel of three steps reduces the stride's artefacts", SOURCE, "6.9",
          "by argument", f"lines at {marks['base']:.0f} dB with three, "
          f"{marks['decoder kernel 1']:.0f} dB with one (a network each)", NEEDS_REAL_DATA),
    Claim("Version 2 takes about a gigabyte", "demucs 2.0.3, description", "6.8",
          f"{gigabyte['value']} GB", f"{gigabytes:.2f} GB", reproduced(gigabytes, 1.0, 0.05)),
    Claim("DiffQ makes it eight times smaller at no loss", SOURCE, "6.15",
          f"{quantised_mb['value']} MB, 0 dB",
          f"{saved:.1f} times, loss {difference_in_words(lost)}",
          REPRODUCED if saved >= 8 and no_loss else NOT_SEEN),
    Claim("SDR of version 2", SOURCE, "6.16", f"{paper['base']:.2f} dB",
          f"{float(mine.nanmean()):.1f} dB (band, mono)", NEEDS_REAL_DATA)]
show_claims(claims)

# %% [markdown]
# Two remarks. One seed a part is thin, as the band of the two base seeds shows: a claim that is *not seen* may be true, and smaller than that band. And the paper's numbers are medians over frames of 44.1 kHz stereo songs; only the signs can be compared with ours.

# %% [markdown]
# ## 6.19 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/06_demucs.ipynb) has more tasks, with checks.
#
# **1. Count.** How many weights has the BLSTM of version 2 in the middle, with its linear layer, and which share of the network is that?
#
# <details><summary>Answer</summary>
#
# Two layers, two directions, 2048 inputs (the second layer: 4096): $4h(n + h + 2)$ each (section 4.17).
#
# ```python
# h = 2048
# lstm = 2 * 4 * h * (h + h + 2) + 2 * 4 * h * (2 * h + h + 2) + (2 * h * h + h)
# with torch.device("meta"):
#     model = DemucsV2(["drums", "bass", "other", "vocals"])
# assert lstm == sum(p.numel() for p in model.lstm.parameters())
# assert 0.6 < lstm / sum(p.numel() for p in model.parameters()) < 0.8
# ```
# </details>
#
# **2. A stride that is a transform.** Give a strided convolution the weights of a windowed cosine and sine of bin 3, $n_\text{fft} = 16$, hop 4, and show that it is one bin of an STFT.
#
# <details><summary>Answer</summary>
#
# ```python
# window, n = torch.hann_window(16), torch.arange(16)
# conv = nn.Conv1d(1, 2, 16, 4, bias=False)
# with torch.no_grad():
#     conv.weight[0, 0] = window * torch.cos(2 * math.pi * 3 * n / 16)
#     conv.weight[1, 0] = -window * torch.sin(2 * math.pi * 3 * n / 16)
#     x = torch.randn(200)
#     ours_bin = conv(x[None, None])[0]
# X = torch.stft(x, 16, 4, window=window, center=False, return_complex=True)[3]
# assert torch.allclose(ours_bin[0], X.real, atol=1e-5) and torch.allclose(ours_bin[1], X.imag, atol=1e-5)
# ```
# </details>
#
# **3. Equivariance for free.** For which delays is a `DemucsV2` of depth 2 exactly equivariant (6.9), without resampling and LSTM? Show it, and show that one sample less is not.
#
# <details><summary>Answer</summary>
#
# For multiples of $4^2 = 16$ samples, away from the ends.
#
# ```python
# torch.manual_seed(0)
# net = DemucsV2(["a"], 1, channels=4, depth=2, resample=False, lstm_layers=0)
# x = torch.randn(1, 1, net.valid_length(1000))
# late = lambda n: torch.cat([x[..., -n:], x[..., :-n]], -1)
# with torch.no_grad():
#     y, same, other = net(x)[0, 0, 0], net(late(16))[0, 0, 0], net(late(15))[0, 0, 0]
# assert torch.allclose(same[300:700], y[284:684], atol=1e-5)
# assert not torch.allclose(other[300:700], y[285:685], atol=1e-3)
# ```
# </details>
#
# **4. Silence.** Why can't a Demucs with `normalize` say anything on perfect silence, and what of a song that is silent for its first half?
#
# <details><summary>Answer</summary>
#
# Mean and deviation are 0, and (6.8) multiplies by them at the end. A half-silent song has a deviation, and the hum of section 6.9 is heard in its first half.
#
# ```python
# torch.manual_seed(0)
# net = DemucsV2(["a"], 1, channels=4, depth=2, normalize=True)
# with torch.no_grad():
#     assert separate(net, torch.zeros(1, 3000)).abs().max() == 0
#     half = torch.cat([torch.zeros(1, 3000), torch.randn(1, 3000)], -1)
#     assert separate(net, half)[..., :2000].abs().max() > 1e-3
# ```
# </details>
#
# **5. Bits by hand.** A tensor of 800 weights in groups of 8, 4 bits each. How large is it by `DiffQ.megabytes`, and how large would one number of bits for all have made it?
#
# <details><summary>Answer</summary>
#
# $800 \cdot 4$ bits, 64 for the two ends, 8 to say how many bits a number of bits takes, and $\lceil \log_2(1 + 4 - 2) \rceil = 2$ for each of 100 groups. With one for all these 200 bits fall away.
#
# ```python
# layer = DiffQ(nn.Linear(800, 1, bias=False), min_values=1, init_bits=4)
# assert abs(float(layer.megabytes().detach()) * 8 * 2 ** 20 - (3200 + 64 + 8 + 200)) < 0.1
# ```
# </details>
#
# **6. Open.** Add a variant to `VARIANTS` of `course_lib/experiments/demucs.py`, in a copy, for example `kernel_size` 16, stride 2 with more layers, or GELU in version 2, and run it into a folder of your own: `course experiment demucs --only NAME --folder DIR`. How many seeds does your difference need?

# %% [markdown]
# ## 6.20 Sources
#
# - A. Défossez, N. Usunier, L. Bottou and F. Bach, *Music source separation in the waveform domain*, arXiv 1911.13254, version 2 of 2021 (Demucs v1 and v2); the package `demucs` 2.0.3 (MIT).
# - A. Défossez, *Hybrid spectrogram and waveform source separation*, MDX workshop at ISMIR 2021 (residual branches, local attention); the package `demucs` 4.1.0 (MIT). Its published weights are for scientific purposes only.
# - D. Stoller, S. Ewert and S. Dixon, *Wave-U-Net*, ISMIR 2018; O. Ronneberger, P. Fischer and T. Brox, *U-Net*, MICCAI 2015.
# - Y. N. Dauphin, A. Fan, M. Auli and D. Grangier, *Language modeling with gated convolutional networks*, ICML 2017 (GLU).
# - J. O. Smith, *Digital audio resampling*, 2002; A. Défossez, the package `julius` (MIT).
# - A. Odena, V. Dumoulin and C. Olah, *Deconvolution and checkerboard artifacts*, Distill 2016; J. Pons, S. Pascual, G. Cengarle and J. Serrà, *Upsampling artifacts in neural audio synthesis*, ICASSP 2021.
# - W. Verhelst and M. Roelands, *An overlap-add technique based on waveform similarity (WSOLA)*, ICASSP 1993; A. Cohen-Hadria, A. Roebel and G. Peeters, *Improving singing voice separation using deep U-Net and Wave-U-Net with data augmentation*, EUSIPCO 2019.
# - H. Touvron, M. Cord, A. Sablayrolles, G. Synnaeve and H. Jégou, *Going deeper with image transformers*, ICCV 2021 (LayerScale).
# - A. Défossez, Y. Adi and G. Synnaeve, *Differentiable model compression via pseudo quantization noise*, TMLR 2022 (arXiv 2104.09987); the package `diffq`.
#
# Recordings: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive under CC BY 3.0; *Ashiel Mystery*, read by Garth Comira, LibriSpeech, CC BY 4.0; as shipped for `librosa.ex`.
