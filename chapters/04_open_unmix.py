# %% [markdown]
# # Chapter 4 · Open-Unmix, a separator that learns
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/04_open_unmix.ipynb)
#
# Chapter 1 computed masks from the answer, chapter 2 guessed them by rules. Now we let a network find them from examples:
# songs whose stems we know. We build *Open-Unmix*, for years the field's reference model, from its smallest parts; train a
# tiny one in front of your eyes; load one that trained for an hour; and put a statistical post-filter behind it. What you
# build is the real thing: it has the tensor names of the official package and reads its published weights.
#
# **You will be able to**
# - say what "learning a mask" means, and fit the smallest such mask by hand and by gradient descent,
# - scale the input of a network, and compute batch normalisation and an LSTM cell by hand,
# - show with a small puzzle why a separator must remember, and why it helps to hear the future too,
# - assemble Open-Unmix, write a training loop of ten lines, and read learning curves,
# - derive the expectation-maximisation post-filter, and say what it does to the sound and to the score.
#
# **You need** chapters 1 to 3: STFT, masks, SDR. Matrix products, the chain rule. No deep learning: every layer is explained.
#
# **Time** <!-- minutes 04_open_unmix -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 4.0 Set up
#
# One thread computes: a puzzle in section 4.5 consists of thousands of tiny products, which wait for each other when they are shared out.

# %%
#| default_exp open_unmix
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("04_open_unmix", cpu=dict(songs=2, train_songs=8, steps=40, batch=4, seconds=2.0),
          gpu=dict(songs=20, train_songs=60, steps=400, batch=16, seconds=5.0), threads=1)

# %% [markdown]
# ## 4.1 What "learned" means here
#
# Here is the recording that went through the rules of chapter 2. You hear at once who sings and who plays, though nobody
# told you a rule: you have heard thousands of songs, many of them with the voice alone for a bar or two. A network gets the
# same chance. We show it mixtures *and their stems*, and ask it for a mask. Where its answer is wrong we turn its numbers a
# little in the direction that makes it less wrong, and go on to the next song.

# %%
from course_lib.data import open_tracks, recording
from course_lib.notebook import listen

song, rate = recording("fishin", start=12.0, seconds=6.0)
listen(song[:1, :4 * rate], rate, "Karissa Hobbs, Let's Go Fishin'")

# %% [markdown]
# Written down: let $M_j(|X|; \theta)$ be the mask of source $j$, computed from the magnitudes of the mixture by a function
# with numbers $\theta$ inside, its *parameters*. Learning means choosing them so that the error over all training songs is small,
#
# $$ \theta^\star = \arg\min_\theta \sum_{\text{songs}} \sum_j
#    \Big\| M_j(|X|; \theta)\, X - S_j \Big\|^2 . \tag{4.1} $$
#
# The sum runs over songs whose stems we have. What we want is something else: a small error on songs that were *not* among
# them. So songs come in three groups that never mix: *training* songs to fit $\theta$, *validation* songs to make choices
# (which step, which size), and *test* songs, opened only to report the result.

# %%
train_songs = open_tracks("band", "train", count=P.train_songs)
test_songs = open_tracks("band", "test", count=P.songs)
assert not {track.name for track in train_songs} & {track.name for track in test_songs}
print(len(train_songs), "songs to train on here,", len(test_songs), "to test on")

# %% [markdown]
# What we write becomes the module `course_lib/open_unmix.py`. It stands on chapter 1's transform and on the course's reader for
# published weights.

# %%
#| export
from collections.abc import Mapping, Sequence
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.data import STEMS, Track
from course_lib.spectral import istft, song_sdr, stft
from course_lib.training.official import fetch_weights, load_strictly, read_tensors
from course_lib.training.trained import with_facts

# %% [markdown]
# The rest serves the chapter only.

# %%
import copy, math, tempfile
import matplotlib.pyplot as plt
from course_lib.classic import separate_unsupervised
from course_lib.data import RandomChunks
from course_lib.experiments.scoreboard import (ModelSeparator, bounds, estimates_of, song_names,
                                               stem_scores)
from course_lib.metrics import bss_eval, median_over_frames
from course_lib.notebook import (Diagram, mean_interval, mix_stems, plot_losses, plot_masks,
                                 plot_scores, plot_spectrogram, progress, show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, same_trend,
                                        show_claims)
from course_lib.notebook.plots import STEM_COLOURS
from course_lib.results import measured, published
from course_lib.spectral import apply_mask, fft_frequencies, ideal_ratio_mask
from course_lib.training import FitSettings, fit, load_trained, process_batches

# %% [markdown]
# ## 4.2 The smallest mask that can be learned
#
# Let the mask be *one number* $m$ for a whole bin, the same at all times. For one source in one bin, (4.1) is
# $\sum_t (m X_t - S_t)^2$: a parabola in $m$. Four frames, with the mixture and the source as plain numbers:

# %%
X_tiny = torch.tensor([2.5, 1.0, 1.0, 2.0])
S_tiny = torch.tensor([2.0, 0.0, 1.0, 0.0])
best = float((S_tiny * X_tiny).sum() / (X_tiny ** 2).sum())    # where the parabola's slope is 0
print(f"best m = {best:.3f}")

# %% [markdown]
# The slope of the parabola is $\sum_t 2 X_t (m X_t - S_t)$. *Gradient descent* knows nothing of the formula for the best
# $m$: it starts somewhere and takes small steps against the slope, $m \leftarrow m - \eta\, \partial L / \partial m$. The step size
# $\eta$ is called the *learning rate*.

# %%
m, learning_rate = 0.0, 0.02
for number in range(12):
    slope = float((2 * X_tiny * (m * X_tiny - S_tiny)).sum())
    m = m - learning_rate * slope
    if number in (0, 1, 2, 11):
        print(f"after step {number + 1}: m = {m:.3f}")
assert abs(m - best) < 1e-3

# %% [markdown]
# For all bins and all four stems at once we let autograd compute the slopes, on the first seconds of a few training songs, in mono. The
# lowest 1025 of 2049 bins, up to 11 kHz, are enough here.

# %%
def spectra(tracks, seconds=4.0):
    """The stems' spectra of the first seconds of songs: (source, channel, bin, all frames)."""
    mono = [track.excerpt(0, seconds).sources(STEMS).mean(1, keepdim=True) for track in tracks]
    return torch.cat([stft(sources, 4096, 1024)[..., :1025, :] for sources in mono], dim=-1)

S_train = spectra(train_songs[:8])
X_train = S_train.sum(0)                                            # (channel, bin, frame)

# %% [markdown]
# Bins differ in energy, and with it in the curvature of their parabolas, $c = 2 \sum_t |X_t|^2$, so each gets a step size of its own. A step
# of $1/c$ would land in the minimum at once, as the slope is $c\,(m - m_\text{best})$. Nobody knows the curvature of a network so well; we take
# 0.8 of that step, so that a fifth of the distance is left each time, and $0.2^8$ of it after eight. `torch.autograd.grad` gives the slopes.

# %%
mask = torch.zeros(4, 1, 1025, 1, requires_grad=True)          # (source, channel, bin, frame)
curvature = 2 * X_train.abs().square().sum((0, 2), keepdim=True)    # (1, bin, 1)
for number in range(8):
    loss = (apply_mask(mask, X_train) - S_train).abs().square().sum()
    slope, = torch.autograd.grad(loss, mask)
    with torch.no_grad():
        mask -= 0.8 * slope / curvature

# %% [markdown]
# The best number per bin has a formula, like the parabola's: $m = \sum \operatorname{Re}(S X^*) / \sum |X|^2$. The descent must
# have found it.

# %%
formula = (S_train * X_train.conj()).real.sum((1, 3)) / X_train.abs().square().sum((0, 2))
assert (mask.detach().squeeze() - formula).abs().max() < 1e-3

# %% [markdown]
# From bin to bin the curves are jagged, as each rests on few partials. For the eye we average them over neighbours on a *logarithmic* axis,
# about a third of an octave, so that the treble is smoothed as much as the bass.

# %%
bins, shown = fft_frequencies(4096, rate)[1:1025], torch.logspace(math.log10(40), 4, 200)
distance = torch.log2(bins / shown[:, None])                   # (shown, bin), in octaves
near = torch.exp(-0.5 * (distance / 0.15) ** 2)
near = near / near.sum(1, keepdim=True)
figure, axis = plt.subplots(figsize=(7.6, 2.6))
for stem, curve in zip(STEMS, formula):
    axis.semilogx(shown, near @ curve[1:], color=STEM_COLOURS[stem], label=stem)
axis.set(xlabel="frequency (Hz)", ylabel="mask")
axis.legend(ncols=4)
show(figure, "The best constant mask of each stem, learned from 4 s of eight songs, smoothed over "
     "a third of an octave.",
     "Four curves over frequency: bass and drums share the range below 150 Hz, other and vocals "
     "the middle, vocals and drums the top.")

# %% [markdown]
# It has learned where each stem usually lives, which is chapter 1's equaliser. That is also all it can say: a mask that
# does not change with time can't let a drum hit through and close behind it. To do better, the mask must **look at the
# spectrogram**. The rest of the chapter builds a function that does.
#
# <details><summary>Quick question: which mask would minimise (4.1) if it might be another number in every frame?</summary>
#
# Then each point is its own parabola, with minimum at $\operatorname{Re}(S X^*) / |X|^2$, which is chapter 1's phase-sensitive mask: an ideal mask. But it can only be
# computed from the stems, so it says nothing about a new song. The constant mask does, and that is the difference between knowing and learning.
# </details>

# %% [markdown]
# ## 4.3 Input scaling
#
# Before a network sees the magnitudes we look at them ourselves: three bins of the training mixtures, as histograms.

# %%
figure, axis = plt.subplots(figsize=(7.6, 2.4))
for k in (9, 93, 743):                                              # about 100, 1000 and 8000 Hz
    level = X_train[:, k].abs().flatten().clamp_min(1e-4).log10()
    axis.hist(level, bins=60, range=(-3, 3), histtype="step", label=f"{k * rate / 4096:.0f} Hz")
axis.set(xlabel="log10 of the magnitude", ylabel="frames")
axis.legend()
show(figure, "Magnitudes of three bins over all frames, on a logarithmic axis.",
     "Three overlapping hills: the one at 100 Hz lies about two powers of ten to the right of "
     "the one at 8 kHz, that at 1 kHz between them.")

# %% [markdown]
# The bins live on scales that are one to two powers of ten apart. That is bad for descent: the slope of a weight is proportional
# to its input, so weights that listen to the bass would move tens of times faster than those that listen to the hi-hat, and no
# one learning rate suits both. The remedy is to *standardise* each bin $k$ with its mean $\mu_k$ and deviation $\sigma_k$ over songs:
#
# $$ \tilde x_k = \frac{|X_k| - \mu_k}{\sigma_k}. \tag{4.2} $$
#
# We measure both over whole songs, one after the other, from sums of the values and of their squares. Open-Unmix reads
# only bins below 16 kHz, which is where lossy formats end; the other function counts them.

# %%
#| export
def bandwidth_to_max_bin(rate: float, n_fft: int, bandwidth: float) -> int:
    """How many bins of an STFT lie at or below `bandwidth` hertz. rate: Hz. Section 4.3."""
    return int((torch.arange(n_fft // 2 + 1) * (rate / n_fft) <= bandwidth).sum())


def input_statistics(tracks: Sequence[Track], n_fft: int = 4096, hop_length: int = 1024,
                     seconds: float | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every bin's magnitude over the mixtures of songs (eq. 4.2).

    tracks: at least one, else ValueError; of any channel count (channels count as further frames).
    seconds: only the first ones of each song. Returns two (n_fft/2 + 1,); the deviation is at
    least 1e-4 of its largest value, so that empty bins are not blown up. Source: Uhlich et al.
    2017; chapter 4, section 4.3.
    """
    if not tracks:
        raise ValueError("tracks is empty; expected at least one song to measure")
    total, squares, count = 0.0, 0.0, 0
    for track in tracks:
        end = track.frames if seconds is None else min(track.frames, round(seconds * track.rate))
        x = stft(track.read("mixture", 0, end), n_fft, hop_length).abs().double()
        total, squares = total + x.sum((0, 2)), squares + x.square().sum((0, 2))     # (bin,)
        count += x.shape[0] * x.shape[2]
    mean = total / count
    deviation = (squares / count - mean ** 2).clamp_min(0).sqrt()
    return mean.float(), deviation.clamp_min(1e-4 * float(deviation.max()) or 1.0).float()

# %% [markdown]
# Checked against the plain way, which holds all magnitudes at once; and the scaled input must have mean 0 and deviation 1.

# %%
mean, deviation = input_statistics(train_songs[:2], seconds=8.0)
at_once = torch.cat([stft(track.read("mixture", 0, 8 * rate), 4096, 1024).abs()
                     for track in train_songs[:2]], dim=-1)         # (channel, bin, frame)
scaled = ((at_once - mean[:, None]) / deviation[:, None])[:, :1487]
assert bandwidth_to_max_bin(44100, 4096, 16000) == 1487
assert scaled.mean((0, 2)).abs().max() < 1e-3 and (scaled.std((0, 2)) - 1).abs().max() < 1e-2
ratio = float(deviation[9] / deviation[743])
print(f"the deviation at 100 Hz is about {round(ratio, -1):.0f} times that at 8 kHz")

# %% [markdown]
# In the model the two are *parameters*: they start from the measured statistics, and training may move them
# (`nn.Parameter` marks a tensor that it may move). Like the official package we keep $-\mu$ and $1/\sigma$, so that the forward pass adds and multiplies:

# %%
input_mean, input_scale = nn.Parameter(-mean[:1487]), nn.Parameter(1 / deviation[:1487])
x = at_once[:, :1487].mT                                       # (channel, frame, bin)
with torch.no_grad():
    assert torch.allclose((x + input_mean) * input_scale, scaled.mT, atol=1e-3)

# %% [markdown]
# ## 4.4 One frame squeezed
#
# A stereo frame has 2 x 1487 numbers, neighbours among them nearly equal. The first layer squeezes it to a few hundred: a
# matrix $W_1$ whose rows each ask for one pattern of frequencies, like the DFT's rows ask for waves, only that these
# patterns are learned.
#
# What comes out may be large or small, and drifts while the weights below are learning. *Batch normalisation* holds it in
# place. A *batch* is what goes through the network at once: here a few pieces of songs, so a few hundred frames. Over all frames of the
# batch each feature gets mean 0 and variance 1, then a learned scale $\gamma$ and shift $\beta$,
#
# $$ \operatorname{BN}(x) = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta,
#    \qquad \mu, \sigma^2: \text{ mean and variance over the batch.} \tag{4.3} $$
#
# The smallest example: four frames of two features, one of which is a hundred times the other.

# %%
features = torch.tensor([[1.0, 100.0], [2.0, 300.0], [3.0, 100.0], [2.0, 300.0]])
mu, variance = features.mean(0), features.var(0, correction=0)
by_hand = (features - mu) / (variance + 1e-5).sqrt()
norm = nn.BatchNorm1d(2)                                            # gamma 1, beta 0 at the start
assert torch.allclose(norm(features), by_hand, atol=1e-5)
by_hand.round(decimals=2)

# %% [markdown]
# A song to be separated later is no batch, and its frames should not depend on each other in this way. So the layer keeps a *running
# mean and variance* of the batches it has seen, a tenth of the new one each time, and uses those in *evaluation mode*. `model.train()` and `model.eval()`
# switch between the two. Forgetting the switch is a classic mistake; section 4.11 measures what it costs.

# %%
running_mean = 0.9 * torch.zeros(2) + 0.1 * mu
running_variance = 0.9 * torch.ones(2) + 0.1 * features.var(0)      # this one divides by n - 1
norm.eval()
expected = (features - running_mean) / (running_variance + 1e-5).sqrt()
assert torch.allclose(norm(features), expected, atol=1e-5)
assert (norm(features) - by_hand).abs().max() > 1              # the two modes are not the same

# %% [markdown]
# Last, $\tanh$ bends every feature into $[-1, 1]$, the range in which the next layer, a memory, likes its input. Together:
#
# $$ h_t = \tanh\!\big(\operatorname{BN}(W_1 \tilde x_t)\big). \tag{4.4} $$
#
# <details><summary>Quick question: why has $W_1$ no bias, as $W x + b$ usually has?</summary>
#
# Whatever is added to a feature in all frames, batch normalisation takes away again with the mean; its own $\beta$ is the bias.
# </details>

# %% [markdown]
# ## 4.5 What one frame cannot know
#
# Does a mask need to know more than the frame it is for? A puzzle says yes. One bin; every sound in it has magnitude 1 and
# looks the same. Some sounds last six frames: those belong to source A. The others are strokes of two frames: source B.

# %%
def puzzle(count, frames, generator):
    """count rows of sounds: x (count, frames) is 1 where one sounds, a is 1 where it is A's."""
    x, a = torch.zeros(count, frames), torch.zeros(count, frames)
    for row in range(count):
        start = int(torch.randint(0, 4, (), generator=generator))
        while start + 6 < frames:
            is_a = bool(torch.rand((), generator=generator) < 0.5)
            end = start + (6 if is_a else 2)
            x[row, start:end], a[row, start:end] = 1.0, float(is_a)
            start = end + int(torch.randint(2, 4, (), generator=generator))
    return x, a

x, a = puzzle(120, 40, P.generator)
figure, axis = plt.subplots(figsize=(7.6, 1.3))
axis.imshow(torch.stack([x[0], a[0]]), aspect="auto", cmap="cividis")
axis.set(yticks=[0, 1], yticklabels=["mixture", "A's mask"], xlabel="frame")
show(figure, "One row of the puzzle: the mixture, and the mask that A needs.",
     "Two rows of bars: in the upper one long and short bars look alike in each frame; the lower "
     "one has the long bars only.")

# %% [markdown]
# How well can anyone do? Three kinds of listener, and the smallest mean squared error each can reach:
# - One who sees **only this frame** must give every sounding frame the same mask. If a share $p$ of them is A's, the best
#   number is $p$, and the error $p(1 - p)$.
# - One who **remembers** knows from the third frame on. In the first two the sound may be either's: if a share $q$ of the
#   *sounds* is A's, the error there is $q(1 - q)$, and 0 elsewhere.
# - One who **also knows what comes** makes no error.

# %%
onset = F.pad(x[:, 1:] - x[:, :-1], (1, 0)).clamp_min(0)            # 1 where a sound begins
onset[:, 0] = x[:, 0]
first_two = (onset + F.pad(onset[:, :-1], (1, 0))) * x
p = float(a.sum() / x.sum())
q = float((a * onset).sum() / onset.sum())
smallest = {"this frame": p * (1 - p),
            "the past": q * (1 - q) * float(first_two.sum() / x.sum()), "past and future": 0.0}
print({name: round(bound, 3) for name, bound in smallest.items()})

# %% [markdown]
# ### A memory cell by hand
#
# What remembers is a *recurrent* layer: it reads the frames in order and carries a state from one to the next. The *long
# short-term memory* (LSTM, Hochreiter and Schmidhuber 1997) keeps two vectors: the cell $c_t$, its memory, and the output $h_t$.
# Three *gates* $i$, $f$, $o$, vectors of numbers between 0 and 1, decide what to write, what to keep and what to show. Each looks at the same
# frame and the same last output, with **weights of its own**, and so does $g$, which is what may be written:
#
# $$ \begin{aligned}
# i &= \sigma(W_i x_t + U_i h_{t-1} + b_i), & f &= \sigma(W_f x_t + U_f h_{t-1} + b_f), \\
# o &= \sigma(W_o x_t + U_o h_{t-1} + b_o), & g &= \tanh(W_g x_t + U_g h_{t-1} + b_g), \\
# c_t &= f \odot c_{t-1} + i \odot g, & h_t &= o \odot \tanh(c_t).
# \end{aligned} \tag{4.5} $$
#
# $\sigma$ is the logistic function, $\odot$ the product entry by entry. $f$ near 1 keeps the memory, $i$ near 1 overwrites it with $g$.
#
# In the pictures of this course white squares are data, blue blocks compute, thick orange ones have learned weights, and the small print
# is the shape of what leaves a block.

# %%
d, gates = Diagram(), {}
x_and_h = d.block("$x_t$ and $h_{t-1}$", "(input), (hidden)", kind="data", at=(0, -1.2))
for row, name in enumerate("figo"):
    bend = r"\tanh" if name == "g" else r"\sigma"
    gates[name] = d.block(f"${name} = {bend}(W_{name} x_t + U_{name} h_{{t-1}} + b_{name})$",
                          "(hidden)", kind="trained", size=(2.3, 0.42), at=(2.6, -0.8 * row),
                          after=x_and_h)
old = d.block("$c_{t-1}$", "(hidden)", kind="data", at=(5.0, 0.85))
kept = d.join("×", after=[old, gates["f"]], at=(5.0, 0.0))
written = d.join("×", after=[gates["i"], gates["g"]], at=(5.0, -0.8))
cell = d.block("$c_t$", "(hidden)", kind="data", after=[kept, written], at=(6.5, 0.0))
bent = d.block("tanh", after=cell, at=(6.5, -1.2))
shown_part = d.join("×", after=[bent, gates["o"]], at=(6.5, -2.4))
d.block("$h_t$", "(hidden)", kind="data", after=shown_part)
show(d.draw(), "One step of an LSTM. What enters the new cell from the two products is added.",
     d.in_words())

# %% [markdown]
# PyTorch stacks the four $W$ into one matrix, in the order $i, f, g, o$, and likewise the four $U$. Instead of $b$ it keeps *two* biases, one beside $W$ and
# one beside $U$. They are always added, so only their sum matters; the second is there because NVIDIA's library wants it so (a
# comment in PyTorch's source says as much). A loop over the frames is all there is:

# %%
def lstm_by_hand(x, W, U, b):
    """x (frame, input) to h (frame, hidden), by (4.5); W, U, b stack the rows of i, f, g, o."""
    h = c = torch.zeros(U.shape[1])
    outputs = []
    for x_t in x:
        i, f, g, o = (W @ x_t + U @ h + b).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)

# %% [markdown]
# It must equal PyTorch's layer. And a *bidirectional* LSTM, BLSTM for short, is two of them, one of which reads the frames backwards; their
# outputs stand side by side.

# %%
def weights_of(lstm, way):
    """W, U and b of the first layer of an nn.LSTM; way: "" or "_reverse"."""
    W, U, b_ih, b_hh = (getattr(lstm, f"{kind}_l0{way}")
                        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return W, U, b_ih + b_hh

torch.manual_seed(0)
both = nn.LSTM(3, 2, bidirectional=True)
frames = torch.randn(7, 3, generator=P.generator)
with torch.no_grad():
    forwards = lstm_by_hand(frames, *weights_of(both, ""))
    backwards = lstm_by_hand(frames.flip(0), *weights_of(both, "_reverse")).flip(0)
    assert torch.allclose(both(frames)[0], torch.cat([forwards, backwards], dim=-1), atol=1e-6)
print("two loops equal nn.LSTM:", tuple(both(frames)[0].shape))

# %% [markdown]
# ### The puzzle, learned
#
# An `nn.Module` is a function with numbers inside: `__init__` makes them, `forward` uses them, `parameters()` lists them. It is
# called like any function. `nn.Linear(n, h)` is the smallest: $Wx + b$, with $W$ of $h$ rows and $n$ columns.
#
# Three tiny networks, alike but for what they can see. Each gets 120 steps of *Adam*, gradient descent with a step size of
# its own for every parameter (Kingma and Ba 2015), and is tested on rows it has not seen.

# %%
class Listener(nn.Module):
    """A mask for the puzzle from `sees`: this frame, the past, or past and future."""

    def __init__(self, sees, hidden=8):
        super().__init__()
        two_ways = sees == "past and future"
        self.memory = None if sees == "this frame" else nn.LSTM(
            1, hidden, batch_first=True, bidirectional=two_ways)
        self.lift = nn.Linear(1, hidden)
        self.out = nn.Linear(2 * hidden if two_ways else hidden, 1)

    def forward(self, x):
        x = x.unsqueeze(-1)                                         # (row, frame, 1)
        z = torch.tanh(self.lift(x)) if self.memory is None else self.memory(x)[0]
        return torch.sigmoid(self.out(z)).squeeze(-1)

# %% [markdown]
# The loop is the one that trains every network of this course: forward, loss, gradients, one step. `zero_grad` forgets the
# gradients of the last step, `backward` computes the new ones, and `step` moves the parameters.

# %%
def learn_puzzle(sees, x, a, steps=120):
    """Train a Listener; return it."""
    torch.manual_seed(0)
    listener = Listener(sees)
    optimizer = torch.optim.Adam(listener.parameters(), lr=0.03)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (x * (listener(x) - a) ** 2).sum() / x.sum()
        loss.backward()
        optimizer.step()
    return listener

x_new, a_new = puzzle(120, 40, P.generator)
reached = {}
for sees in smallest:
    guess = learn_puzzle(sees, x, a)(x_new).detach()
    reached[sees] = float((x_new * (guess - a_new) ** 2).sum() / x_new.sum())

# %% [markdown]
# Reached, beside what the theory above allows:

# %%
show_table([[sees, f"{reached[sees]:.2f}", f"{smallest[sees]:.2f}"] for sees in smallest],
           ["the network sees", "error reached", "smallest possible"],
           caption="Mean squared error of the mask over sounding frames: 120 unseen rows of 40 "
                   "frames, one seed.")
assert abs(reached["this frame"] - smallest["this frame"]) < 0.02
assert abs(reached["the past"] - smallest["the past"]) < 0.02
assert reached["past and future"] < 0.01

# %% [markdown]
# Each reaches its bound and no more. The puzzle is drums against held notes in miniature: a kick and the start of a bass note look
# alike, and only what follows tells them apart. So Open-Unmix listens in both directions, and pays for it: it can't run live, as it needs the future.
#
# <details><summary>Quick question: how could the network that sees the past only reach an error of 0?</summary>
#
# By answering two frames late: then it has heard two frames of future before it must speak. Live separators do that, and what they wait is called their *latency* (chapter 9, section 9.12).
# </details>

# %% [markdown]
# ## 4.6 Open-Unmix from top to bottom
#
# All the parts are there. Open-Unmix scales each bin (4.2), squeezes each frame (4.4) and lets three BLSTM layers, one above the other,
# read the frames in both directions. Their output does not replace $h$ but stands beside it, a *skip connection*: what the frame alone tells need not pass
# through the memory,
#
# $$ z_t = \big[\, h_t \;;\; \operatorname{BLSTM}(h)_t \,\big]. \tag{4.6} $$
#
# The second half turns these features into a mask: one more squeeze to the hidden size, then a matrix that unfolds it to all
# bins of both channels, each followed by batch normalisation,
#
# $$ M_t = \operatorname{ReLU}\!\Big( s \odot \operatorname{BN}\big(W_3 \operatorname{ReLU}(\operatorname{BN}(W_2 z_t))\big) + b \Big). \tag{4.7} $$
#
# $\operatorname{ReLU}(y) = \max(0, y)$ keeps it from being negative; nothing keeps it under one. $s$ and $b$ are a scale and a
# shift of each bin, the mirror image of the input scaling. Last, the mask times the mixture's magnitudes:
#
# $$ |\hat S| = M(|X|; \theta) \odot |X|. \tag{4.8} $$

# %%
d = Diagram()
X_in = d.block("$|X|$", "(batch, channel,\nbin, frame)", kind="data")
scale = d.block("scale (4.2)", "(frame, batch,\nchannel, bin)", after=X_in, kind="trained")
squeeze = d.block("squeeze, BN,\ntanh (4.4)", "(frame, batch,\nhidden)", after=scale,
                  kind="trained")
memory = d.block("BLSTM", "(frame, batch,\nhidden)", after=squeeze, kind="trained", repeat=3)
beside = d.block("side by side\n(4.6)", "(frame, batch,\n2 hidden)", after=memory)
d.arrow(squeeze, beside, "skip connection", route="over")
again = d.block("squeeze,\nBN, ReLU", "(frame, batch,\nhidden)", after=beside, place="below",
                kind="trained", gap=0.55)
unfold = d.block("unfold, BN, scale,\nReLU (4.7)", "(batch, channel,\nbin, frame)", after=again,
                 place="left", kind="trained", gap=0.75)
times = d.join("×", after=unfold, at=(2.2, unfold.y))
d.block(r"$|\hat S| = M \odot |X|$", "(batch, channel,\nbin, frame)", after=times, place="left",
        kind="data")
d.arrow(X_in, times, "the mixture's magnitudes", route="under", reach=0.55)
d.group([scale, squeeze, memory, beside], "encoder")
d.group([again, unfold], "mask head")
show(d.draw(), "Open-Unmix for one source, after the figure of its authors.", d.in_words())

# %% [markdown]
# The same as code: `__init__` makes the blocks, under the names that they have in the official package, and `forward` walks through
# the picture. *Dropout*, between the LSTM layers, sets a share of the values to zero while training, a different one each time, so that the network
# can't rely on single features.

# %%
class PlainOpenUnmix(nn.Module):
    """Magnitudes of a mixture to those of a source, (batch, channel, bin, frame) both."""

    def __init__(self, bins, channels, hidden, max_bin):
        super().__init__()
        self.input_mean = nn.Parameter(torch.zeros(max_bin))   # holds -mean
        self.input_scale = nn.Parameter(torch.ones(max_bin))   # holds 1 / deviation
        self.fc1 = nn.Linear(channels * max_bin, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.lstm = nn.LSTM(hidden, hidden // 2, num_layers=3, bidirectional=True, dropout=0.4)
        self.fc2 = nn.Linear(2 * hidden, hidden, bias=False)
        self.bn2 = nn.BatchNorm1d(hidden)
        self.fc3 = nn.Linear(hidden, channels * bins, bias=False)
        self.bn3 = nn.BatchNorm1d(channels * bins)
        self.output_scale = nn.Parameter(torch.ones(bins))
        self.output_mean = nn.Parameter(torch.ones(bins))

    def forward(self, X):
        batch, channels, bins, frames = X.shape
        x = X[:, :, :len(self.input_mean)].permute(3, 0, 1, 2)   # (frame, batch, channel, bin)
        x = (x + self.input_mean) * self.input_scale             # eq. 4.2
        x = x.reshape(frames * batch, -1)                        # (frame * batch, channel * bin)
        h = torch.tanh(self.bn1(self.fc1(x)))                    # eq. 4.4
        h = h.reshape(frames, batch, -1)                         # (frame, batch, hidden)
        z = torch.cat([h, self.lstm(h)[0]], dim=-1)              # eq. 4.6 (frame, batch, 2 hidden)
        y = F.relu(self.bn2(self.fc2(z.flatten(0, 1))))          # (frame * batch, hidden)
        y = self.bn3(self.fc3(y))                                # (frame * batch, channel * bin)
        y = y.reshape(frames, batch, channels, bins)             # (frame, batch, channel, bin)
        M = F.relu(y * self.output_scale + self.output_mean)     # eq. 4.7
        return M.permute(1, 2, 3, 0) * X                         # eq. 4.8

# %% [markdown]
# Two things can be said of it before it has learned anything: it never gives a negative magnitude, and its masks wobble around 1, as
# scale and shift $s, b$ start at 1.

# %%
torch.manual_seed(0)
plain = PlainOpenUnmix(bins=33, channels=2, hidden=16, max_bin=20)
x = torch.rand(3, 2, 33, 50, generator=P.generator)
start_mask = (plain(x) / x).detach()
print(f"mean of the mask {start_mask.mean():.1f}, smallest value {start_mask.min() + 0.0:.1f}")
assert (start_mask >= 0).all() and 0.9 < start_mask.mean() < 1.3

# %% [markdown]
# <details><summary>Quick question: the network looks at <code>max_bin</code> bins only. How can it give a mask for all?</summary>
#
# The last matrix unfolds the features to as many bins as we like. What happens above 16 kHz has to be guessed from what is below, which is easy: a cymbal that
# sounds at 15 kHz sounds at 17 as well.
# </details>
#
# ## 4.7 The same in two halves
#
# We shall want the halves apart, to set four heads on one encoder (section 4.9). So the library has them as classes of their
# own. First, a network should say what is wrong with its input instead of failing somewhere inside:

# %%
#| export
def _check_spectrogram(x: Tensor, channels: int, bins: int) -> None:
    if x.ndim != 4 or x.is_complex() or x.shape[1] != channels or x.shape[2] < bins:
        raise ValueError(f"x is {x.dtype} {tuple(x.shape)}; expected magnitudes (batch, channel, "
                         f"bin, frame) with {channels} channels and at least {bins} bins")

# %% [markdown]
# The encoder is the upper row of the picture, with what may vary as arguments. Each direction of the LSTM has half the hidden size,
# so that the two together have all of it.

# %%
#| export
class SpectrogramEncoder(nn.Module):
    """The first half of Open-Unmix: magnitudes to features that know what came before and after.

    Arguments and tensor names as `OpenUnmix`, and dropout: between LSTM layers. forward: (batch,
    channel, bin, frame) with at least `max_bin` bins to (frame, batch, 2 hidden_size). Source:
    Uhlich et al. 2017; chapter 4, sections 4.3 to 4.7.
    """

    def __init__(self, nb_bins: int, nb_channels: int, hidden_size: int, nb_layers: int,
                 unidirectional: bool, input_mean=None, input_scale=None,
                 max_bin: int | None = None, dropout: float = 0.4):
        super().__init__()
        self.nb_output_bins, self.nb_bins = nb_bins, max_bin or nb_bins
        self.nb_channels, self.hidden_size = nb_channels, hidden_size
        self.fc1 = nn.Linear(self.nb_bins * nb_channels, hidden_size, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size if unidirectional else hidden_size // 2,
                            num_layers=nb_layers, bidirectional=not unidirectional,
                            dropout=dropout if nb_layers > 1 else 0.0)
        self.input_mean = nn.Parameter(torch.zeros(self.nb_bins))   # holds -mean, as openunmix
        self.input_scale = nn.Parameter(torch.ones(self.nb_bins))   # holds 1 / deviation
        self.set_input_statistics(input_mean, input_scale)

    def set_input_statistics(self, mean=None, deviation=None) -> None:
        """Start from statistics, (bins,) or more: x becomes (x - mean) / deviation."""
        with torch.no_grad():
            if mean is not None:
                self.input_mean.copy_(-torch.as_tensor(mean)[:self.nb_bins])
            if deviation is not None:
                self.input_scale.copy_(1 / torch.as_tensor(deviation)[:self.nb_bins])

    def scale_input(self, x: Tensor) -> Tensor:
        """(..., bin) to the same shape, each bin with its own shift and scale (eq. 4.2)."""
        return (x + self.input_mean) * self.input_scale

    def encode(self, x: Tensor) -> Tensor:
        _check_spectrogram(x, self.nb_channels, self.nb_bins)
        x = x[..., :self.nb_bins, :].permute(3, 0, 1, 2)           # (frame, batch, channel, bin)
        frames, batch = x.shape[:2]
        x = self.scale_input(x).reshape(frames * batch, -1)        # (frame * batch, channel * bin)
        h = torch.tanh(self.bn1(self.fc1(x)))                      # eq. 4.4
        h = h.reshape(frames, batch, self.hidden_size)             # (frame, batch, hidden)
        return torch.cat([h, self.lstm(h)[0]], dim=-1)    # (frame, batch, 2 hidden), eq. 4.6

    forward = encode

# %% [markdown]
# Does it listen in both directions? We ask the gradient: on which input frames does the output of frame 5 depend? Without the backward
# direction it must not depend on later ones.

# %%
def influence(encoder, frame, frames=11):
    """How strongly each input frame moves the features of one frame: (frame,)."""
    x = torch.rand(1, 2, 33, frames, generator=torch.Generator().manual_seed(1)).requires_grad_()
    encoder(x)[frame].square().sum().backward()
    return x.grad.abs().sum((0, 1, 2))

torch.manual_seed(0)
two_ways = influence(SpectrogramEncoder(33, 2, 16, 1, unidirectional=False).eval(), 5)
causal = influence(SpectrogramEncoder(33, 2, 16, 1, unidirectional=True).eval(), 5)
assert (two_ways > 0).all() and (causal[:6] > 0).all() and (causal[6:] == 0).all()

# %% [markdown]
# The mask head is the lower row. Its layers are added by a function, and used by another, because in the official files they belong to
# the network itself, and in the variant with several heads to each head:

# %%
#| export
def _add_head(module: nn.Module, nb_bins: int, nb_channels: int, hidden_size: int) -> None:
    """Give a module the layers of a mask head, under the official names."""
    module.fc2 = nn.Linear(2 * hidden_size, hidden_size, bias=False)
    module.bn2 = nn.BatchNorm1d(hidden_size)
    module.fc3 = nn.Linear(hidden_size, nb_bins * nb_channels, bias=False)
    module.bn3 = nn.BatchNorm1d(nb_bins * nb_channels)
    module.output_scale = nn.Parameter(torch.ones(nb_bins))
    module.output_mean = nn.Parameter(torch.ones(nb_bins))


def _mask(head: nn.Module, features: Tensor) -> Tensor:
    """Features (frame, batch, 2 hidden) to a mask (batch, channel, bin, frame), eq. 4.7."""
    frames, batch = features.shape[:2]
    x = F.relu(head.bn2(head.fc2(features.flatten(0, 1))))         # (frame * batch, hidden)
    x = head.bn3(head.fc3(x))                                      # (frame * batch, channel * bin)
    x = x.reshape(frames, batch, -1, len(head.output_scale))       # (frame, batch, channel, bin)
    return F.relu(x * head.output_scale + head.output_mean).permute(1, 2, 3, 0)


class MaskHead(nn.Module):
    """The second half of Open-Unmix: features to the mask of one source.

    forward: (frame, batch, 2 hidden_size) to (batch, channel, bin, frame), >= 0. Source: section
    4.7.
    """

    def __init__(self, nb_bins: int, nb_channels: int, hidden_size: int):
        super().__init__()
        _add_head(self, nb_bins, nb_channels, hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        return _mask(self, features)

# %% [markdown]
# With $s = 0$ nothing of the features comes through, and the mask is $\operatorname{ReLU}(b)$: with $b = 1$, all ones.

# %%
torch.manual_seed(0)
head, features = MaskHead(33, 2, 16), torch.randn(50, 3, 32, generator=P.generator)
with torch.no_grad():
    head.output_scale.zero_()
assert torch.equal(head(features), torch.ones(3, 2, 33, 50))

# %% [markdown]
# ## 4.8 Open-Unmix, as the library has it
#
# The two halves together, and (4.8). There is one such network for each source. Its tensors are its own, none sits in a sub-module: that
# is how the official files name them.

# %%
#| export
class OpenUnmix(SpectrogramEncoder):
    """Magnitudes of a mixture to magnitudes of one source, by a learned mask (eq. 4.8).

    nb_bins: n_fft/2 + 1. nb_channels: of the audio. hidden_size: width, even. nb_layers: of the
    LSTM. unidirectional: look back only. input_mean, input_scale: mean and deviation of each bin
    of the songs to come (`input_statistics`). max_bin: how many bins the network looks at (None:
    all); it gives all. forward: (batch, channel, bin, frame) to the same shape, >= 0.

    Arguments, defaults and tensor names are those of the `openunmix` package. ValueError for
    another shape. Source: Stöter, Uhlich, Liutkus and Mitsufuji 2019; chapter 4, section 4.8.
    """

    def __init__(self, nb_bins: int = 4096, nb_channels: int = 2, hidden_size: int = 512,
                 nb_layers: int = 3, unidirectional: bool = False, input_mean=None,
                 input_scale=None, max_bin: int | None = None):
        super().__init__(nb_bins, nb_channels, hidden_size, nb_layers, unidirectional,
                         input_mean, input_scale, max_bin)
        _add_head(self, nb_bins, nb_channels, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        _check_spectrogram(x, self.nb_channels, self.nb_output_bins)
        return _mask(self, self.encode(x)) * x

# %% [markdown]
# It must be the plain network of section 4.6: the same tensors by name, and with them the same output, to the last bit.

# %%
halves = OpenUnmix(33, 2, 16, max_bin=20)
halves.load_state_dict(plain.state_dict())                     # strict: every name must fit
assert torch.equal(halves.eval()(x), plain.eval()(x))

# %% [markdown]
# Where are its parameters? The official size, for 44.1 kHz stereo:

# %%
model = OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=512, max_bin=1487).eval()
parts = {"scaling": "input_", "squeeze": "fc1 bn1", "BLSTM": "lstm", "squeeze 2": "fc2 bn2",
         "unfold to the mask": "fc3 bn3 output_"}
counts = {part: sum(tensor.numel() for name, tensor in model.named_parameters()
                    if name.startswith(tuple(prefixes.split())))
          for part, prefixes in parts.items()}
counts["all"] = sum(tensor.numel() for tensor in model.parameters())
show_table([[part, f"{count:,}"] for part, count in counts.items()],
           ["part", "parameters of one source"])
assert sum(counts.values()) == 2 * counts["all"]

# %% [markdown]
# Is it the real thing? Where the official package is installed, we give it our tensors by name and compare outputs. (All
# norms, scales and biases get random values first: at their starting values they hide mistakes.)

# %%
def shaken(model, seed=0):
    """The model with random norms, scales, biases and statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model.eval()

ours = shaken(OpenUnmix(513, 2, 64, max_bin=300))
x = torch.rand(2, 2, 513, 20, generator=P.generator)
if importlib.util.find_spec("openunmix"):
    from openunmix.model import OpenUnmix as Official
    official = Official(513, 2, 64, max_bin=300).eval()
    official.load_state_dict(ours.state_dict())                     # strict: every name must fit
    with torch.no_grad():
        theirs = official(x)
        assert (ours(x) - theirs).abs().max() < 1e-5 * theirs.abs().max()
    print("same names, and outputs equal to five digits")
else:
    print("the package openunmix is not installed here; the course's tests compare with it")

# %% [markdown]
# ### Reading the published weights
#
# Four sets are published, each with one file per source: `umx` and `umxhq` (MUSDB18 and its uncompressed version, MIT
# licence), `umxl` (a larger network on a private set, **not for commercial use**, CC BY-NC-SA 4.0) and `umxse` (speech against noise, 16 kHz
# mono). Their sizes:

# %%
#| export
OFFICIAL = {
    "umx": dict(rate=44100, n_fft=4096, hop_length=1024, nb_channels=2, hidden_size=512),
    "umxhq": dict(rate=44100, n_fft=4096, hop_length=1024, nb_channels=2, hidden_size=512),
    "umxl": dict(rate=44100, n_fft=4096, hop_length=1024, nb_channels=2, hidden_size=1024),
    "umxse": dict(rate=16000, n_fft=1024, hop_length=512, nb_channels=1, hidden_size=256),
}
_SOURCES = {"umxse": ("speech", "noise")}                          # the others: STEMS
_NOT_PARAMETERS = ("sample_rate", "stft.window", "transform.0.window")   # in the files of 2019


def official_open_unmix(release: str) -> OpenUnmix:
    """An untrained network of a published size, in evaluation mode. release: a key of OFFICIAL."""
    if release not in OFFICIAL:
        raise ValueError(f"release is {release!r}; expected one of {', '.join(OFFICIAL)}")
    size = OFFICIAL[release]
    max_bin = bandwidth_to_max_bin(size["rate"], size["n_fft"], 16000)
    model = OpenUnmix(size["n_fft"] // 2 + 1, size["nb_channels"], size["hidden_size"],
                      max_bin=max_bin)
    facts = {name: size[name] for name in ("rate", "n_fft", "hop_length")}
    return with_facts(model, **facts).eval()

# %% [markdown]
# A published file is a *pickle*, a format that may carry code and run it when it is opened. We read it with a restricted
# reader that knows tensors only, and demand that every tensor is there, by name and shape.

# %%
#| export
def load_official(path: str | Path, release: str = "umxhq") -> OpenUnmix:
    """The network of one published file (.pth), in evaluation mode.

    release: which size the file has, a key of OFFICIAL. The file is read without running code and
    strictly; only three tensors that old files carry along are left out. FileNotFoundError where
    it is missing, ValueError where it is damaged or a tensor is missing, unknown or of another
    shape. Source: the `openunmix` package 1.3; chapter 4, section 4.8.
    """
    model = official_open_unmix(release)
    load_strictly(model, read_tensors(path), Path(path).name, leave_out=_NOT_PARAMETERS)
    return model


def load_release(release: str = "umxhq", sources: Sequence[str] | None = None,
                 base_url: str | None = None,
                 folder: str | Path | None = None) -> dict[str, OpenUnmix]:
    """All networks of a release by source, downloaded when first asked for and checked by hash.

    sources: default all, in the order of STEMS. base_url, folder: as in
    `course_lib.training.official.fetch_weights`, whose errors it raises. Source: section 4.8.
    """
    official_open_unmix(release)                                   # a wrong name fails here
    paths = {source: fetch_weights(release, source, base_url=base_url, folder=folder)
             for source in sources or _SOURCES.get(release, STEMS)}
    return {source: load_official(path, release) for source, path in paths.items()}

# %% [markdown]
# A file of that layout, made here from random numbers with one of the old extra tensors, must come back as the same
# network. One with a tensor missing must be refused.

# %%
with tempfile.TemporaryDirectory() as folder:
    path, written = Path(folder) / "vocals-01234567.pth", shaken(official_open_unmix("umxse"))
    torch.save({**written.state_dict(), "stft.window": torch.hann_window(1024)}, path)
    x = torch.rand(1, 1, 513, 12, generator=P.generator)
    assert torch.equal(load_official(path, "umxse")(x), written(x))
    torch.save({name: t for name, t in written.state_dict().items() if name != "fc2.weight"}, path)
    try:
        load_official(path, "umxse")
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("a file without fc2.weight must be refused")

# %% [markdown]
# With a network connection, the published separator is then two lines (`separate` follows in section 4.13):
#
# ```
# models = load_release("umxhq")                 # 140 MB, once
# stems = separate(models, song, niter=1)        # (source, channel, time)
# ```

# %% [markdown]
# ## 4.9 All sources at once
#
# Four networks for four sources do the first half of the work four times. The *joint* variant shares one encoder and gives each
# source a head of its own (Gusó et al. 2022 compare losses on such a network, and so will chapter 5). Besides being cheaper it
# has to find features that serve all sources.
#
# One detail is ours. To stay small our heads know the lowest `max_bin` bins only; above them each mask goes on with its
# average over the highest eighth of the bins it knows.

# %%
#| export
def _continued_upwards(masks: Tensor, bins: int) -> Tensor:
    """Masks (..., bin, frame), and above them the mean of their highest eighth, up to `bins`."""
    known = masks.shape[-2]
    if bins == known:
        return masks
    top = masks[..., -max(1, known // 8):, :].mean(-2, keepdim=True)
    return torch.cat([masks, top.expand(*top.shape[:-2], bins - known, -1)], dim=-2)

# %% [markdown]
# The network itself is an encoder with a dictionary of heads:

# %%
#| export
class JointOpenUnmix(SpectrogramEncoder):
    """One encoder, a mask head for every source: all sources at once (section 4.9).

    Arguments as `OpenUnmix`, and sources: their names, in order; dropout: between LSTM layers. The
    heads know the lowest `max_bin` bins, like the encoder; above them each mask goes on with its
    mean over the highest eighth of those. forward: magnitudes (batch, channel, bin, frame) with at
    least `max_bin` bins to (batch, source, channel, bin, frame). Source: Gusó et al. 2022.
    """

    def __init__(self, nb_bins: int = 2049, nb_channels: int = 2, hidden_size: int = 512,
                 nb_layers: int = 3, unidirectional: bool = False, input_mean=None,
                 input_scale=None, max_bin: int | None = None, sources: Sequence[str] = STEMS,
                 dropout: float = 0.4):
        super().__init__(nb_bins, nb_channels, hidden_size, nb_layers, unidirectional,
                         input_mean, input_scale, max_bin, dropout)
        self.sources = tuple(sources)
        self.heads = nn.ModuleDict({source: MaskHead(self.nb_bins, nb_channels, hidden_size)
                                    for source in self.sources})

    def masks(self, x: Tensor) -> Tensor:
        """The masks alone, (batch, source, channel, bin, frame), >= 0."""
        features = self.encode(x)
        masks = torch.stack([head(features) for head in self.heads.values()], dim=1)
        return _continued_upwards(masks, x.shape[-2])

    def forward(self, x: Tensor) -> Tensor:
        return self.masks(x) * x.unsqueeze(1)

# %% [markdown]
# With one source and all bins it must be Open-Unmix itself; and the sharing must pay.

# %%
torch.manual_seed(0)
joint, single = JointOpenUnmix(33, 2, 16, sources=["vocals"]).eval(), OpenUnmix(33, 2, 16).eval()
renamed = {name.removeprefix("heads.vocals."): t for name, t in joint.state_dict().items()}
single.load_state_dict(renamed)
x = torch.rand(1, 2, 33, 9, generator=P.generator)
assert torch.equal(joint(x)[:, 0], single(x))

# %% [markdown]
# And at the official size:

# %%
size = lambda model: sum(tensor.numel() for tensor in model.parameters())
smaller = size(JointOpenUnmix(2049, max_bin=1487)) / (4 * size(OpenUnmix(2049, max_bin=1487)))
print(f"the joint network has {smaller:.0%} of the parameters of four single ones")
assert smaller < 0.6

# %% [markdown]
# ## 4.10 Learning, live
#
# What is to be made small? The songs come in *chunks* of a few seconds, $N$ of them in a batch. In each chunk $n$, for each of the $J$ sources, we compare the
# energy of the error with the energy of the mixture, in decibels, and take the mean over all:
#
# $$ L = \frac{1}{N J} \sum_n \sum_j 10 \log_{10}\!\Big( \frac{\| M_{n,j} \odot X_n - S_{n,j} \|^2}{\| X_n \|^2} + \tau \Big). \tag{4.9} $$
#
# The norms sum over channels, bins and frames of a chunk. The small $\tau$ says when an error counts as solved, 30 dB under
# the mixture, and keeps the logarithm finite on silence. Why decibels and not the plain squared error of (4.1)? Plain errors
# are ruled by the loudest chunks; decibels weigh a quiet chunk like a loud one. Chapter 5 measures what that is worth, and many other losses.
#
# The network gives magnitudes; $M \odot X$ are these with the mixture's phase $X / |X|$.

# %%
#| export
def error_level(magnitudes: Tensor, S: Tensor, X: Tensor, floor: float = 1e-3) -> Tensor:
    """The loss (4.9) in dB: mean over chunks and sources of the error's level against the mixture.

    magnitudes, S: estimated magnitudes and true spectra, (batch, source, channel, bin, frame). X:
    the mixture's spectrum, (batch, channel, bin, frame). floor: tau. Finite for silence. Source:
    section 4.10; the floor: Wisdom et al. 2020.
    """
    phase = (X / X.abs().clamp_min(1e-8)).unsqueeze(1)         # (batch, 1, channel, bin, frame)
    error = torch.view_as_real(magnitudes * phase - S).square().sum((2, 3, 4, 5))
    mixture = torch.view_as_real(X).square().sum((1, 2, 3, 4)).clamp_min(1e-8)
    ratio = error / mixture.unsqueeze(1)                       # (batch, source)
    return (10 * torch.log10(ratio + floor)).mean()

# %% [markdown]
# The formula can be checked with one point: mixture 2, source 1.5, estimate 1 gives an error energy of 0.25 against 4.

# %%
point = lambda value: torch.full((1, 1, 1, 1, 1), value)
level = error_level(point(1.0), point(1.5 + 0j), point(2.0 + 0j)[:, 0])
assert abs(level - 10 * math.log10(0.25 / 4 + 1e-3)) < 1e-4

# %% [markdown]
# Around it goes what every training step does: transform, sum up the mixture, ask the network, compare. Two sizes must be right for that, the STFT's, and they are the
# network's business: bins follow from `n_fft`, and the rest is written into the model when it is made (`with_facts`).

# %%
#| export
def stft_sizes(model: nn.Module, n_fft: int | None = None,
               hop_length: int | None = None) -> tuple[int, int]:
    """(n_fft, hop_length) of the STFT that a model was made for, so that nobody has to type them.

    n_fft follows from the bins that the model gives, hop_length from `model.facts`; where these
    don't say, from the arguments, and else 4096 and a quarter of n_fft. ValueError where an
    argument contradicts the model, whose masks would fall on other frequencies. Section 4.10.
    """
    model = getattr(model, "module", model)                        # beneath accelerate's wrapper
    bins, facts = getattr(model, "nb_output_bins", None), getattr(model, "facts", None)
    own = {"n_fft": 2 * (bins - 1) if bins else None,
           "hop_length": facts.hop_length if facts else None}
    for name, asked in (("n_fft", n_fft), ("hop_length", hop_length)):
        if asked is not None and own[name] not in (None, asked):
            raise ValueError(f"{name} is {asked}, but this {type(model).__name__} was made for "
                             f"{own[name]}; leave the argument out")
    n_fft = own["n_fft"] or n_fft or 4096
    return n_fft, own["hop_length"] or hop_length or n_fft // 4


class SpectrogramStep:
    """A training step for spectrogram models: the error's level against the mixture (eq. 4.9).

    Called with (model, sources): sources (batch, source, channel, time); returns `error_level` in
    dB. n_fft, hop_length: by default the model's. floor: what lies that far under the mixture
    counts as solved. targets: for a model of some sources only, their names; the sources are then
    STEMS, and their sum the mixture. ValueError for other targets, and where the model gives
    another shape than the targets have. Source: section 4.10.
    """

    def __init__(self, n_fft: int | None = None, hop_length: int | None = None,
                 floor: float = 1e-3, targets: Sequence[str] | None = None):
        if unknown := [target for target in targets or () if target not in STEMS]:
            raise ValueError(f"targets holds {unknown}; expected names of {', '.join(STEMS)}")
        self.n_fft, self.hop_length, self.floor = n_fft, hop_length, floor
        self.targets = None if targets is None else [STEMS.index(target) for target in targets]

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        bins = getattr(model, "module", model).nb_bins             # beneath accelerate's wrapper
        S = stft(sources, *stft_sizes(model, self.n_fft, self.hop_length))[..., :bins, :]
        X = S.sum(1)                                               # (batch, channel, bin, frame)
        S = S if self.targets is None else S[:, self.targets]
        magnitudes = model(X.abs())                      # (batch, source, channel, bin, frame)
        if magnitudes.shape != S.shape:
            raise ValueError(f"the model gives {tuple(magnitudes.shape)}, the targets have "
                             f"{tuple(S.shape)}; expected the same (batch, source, channel, bin, "
                             "frame): name the model's sources in targets")
        return error_level(magnitudes, S, X, self.floor)

# %% [markdown]
# Two cases by hand. A "network" that answers with silence errs by the source itself. One that is right errs by nothing, which
# gives $10 \log_{10} \tau = -30$ dB; it can be right about a mixture of one source and three silences.

# %%
class Answers(nn.Module):
    """A pretended network: each source is the mixture times a number."""

    def __init__(self, *numbers):
        super().__init__()
        self.nb_bins, self.numbers = 2049, torch.tensor(numbers).view(1, -1, 1, 1, 1)

    def forward(self, x):
        return self.numbers * x.unsqueeze(1)

step, noise = SpectrogramStep(), torch.randn(1, 2, 20000, generator=P.generator)
alone = torch.stack([noise, *[torch.zeros_like(noise)] * 3], dim=1)   # (1, source, channel, time)
assert abs(step(Answers(1.0, 0.0, 0.0, 0.0), alone) - -30) < 1e-3
silent = step(Answers(0.0, 0.0, 0.0, 0.0), alone)              # one error of 0 dB, three of -30
assert abs(silent - (10 * math.log10(1 + 1e-3) - 3 * 30) / 4) < 1e-3
assert torch.isfinite(step(Answers(1.0, 1.0, 1.0, 1.0), torch.zeros_like(alone)))

# %% [markdown]
# Each chunk is a few seconds from a random place of a random song. Chunk $i$ depends on the seed and $i$ alone, so that a run can be
# repeated, stopped and continued. A batch stacks several.

# %%
chunks = RandomChunks(train_songs, P.seconds, length=P.steps * P.batch, seed=0)
batches = process_batches(chunks, P.batch)                     # from step k on: batches(k)
print(tuple(next(iter(batches(0))).shape))                     # (batch, source, channel, time)

# %% [markdown]
# A tiny joint network: bins up to 5.5 kHz, one LSTM layer, 64 features. Its input scaling is measured before it learns, by
# the function that the full training calls too.

# %%
#| export
def prepare_input(model: SpectrogramEncoder, tracks: Sequence[Track], songs: int = 60,
                  n_fft: int | None = None, hop_length: int | None = None) -> None:
    """Set a model's input scaling from the first `songs` of a training set. Section 4.3."""
    sizes = stft_sizes(model, n_fft, hop_length)
    model.set_input_statistics(*input_statistics(tracks[:songs], *sizes))

# %% [markdown]
# One thing is set for so short a run: four masks of about 1 add up to four times the mixture, so we let scale and shift of
# each head start at a quarter.

# %%
def tiny_model():
    """A small joint network with fresh weights, the same at each call."""
    torch.manual_seed(0)
    model = JointOpenUnmix(nb_bins=1025, max_bin=257, hidden_size=64, nb_layers=1)
    with_facts(model, rate=rate, n_fft=2048, hop_length=1024)       # what it is made for
    prepare_input(model, train_songs, 2)
    with torch.no_grad():
        for head in model.heads.values():
            head.output_mean.fill_(0.25)
            head.output_scale.fill_(0.25)
    return model.to(P.device)

step = SpectrogramStep()                                           # the model knows its STFT

# %% [markdown]
# The loop is that of section 4.5 with one line more: clipping shortens a gradient that is longer than 5, so that one odd chunk
# can't throw the network off.

# %%
def train(model, batches, steps):
    """Train on `steps` batches; return the loss of each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    model.train()
    losses = []
    for _, sources in zip(range(steps), batches(0)):
        optimizer.zero_grad()
        loss = step(model, sources.to(P.device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.item())
    return losses

# %% [markdown]
# Now train. A falling curve alone proves little, for it may start anywhere. The bound to beat is an answer of *silence* on the
# same chunks:

# %%
live = tiny_model()
losses = train(live, batches, P.steps)
quiet = Answers(0.0, 0.0, 0.0, 0.0)
quiet.nb_bins, quiet.nb_output_bins, quiet.facts = live.nb_bins, live.nb_output_bins, live.facts
silence = [float(step(quiet, sources)) for sources in batches(0)]

# %% [markdown]
# Both losses, step by step:

# %%
numbers = range(1, P.steps + 1)
axis = plot_losses({"tiny network": (numbers, losses), "silence": (numbers, silence)}, smoothing=8,
                   log_loss=False, unit="loss (dB)")
show(axis, f"The loss over the first {P.steps} steps of {P.batch} chunks of {P.seconds:g} s.",
     "Two noisy curves from one level: that of silence goes up and down around it, that of the "
     "network falls below it.")
below = (sum(silence[-10:]) - sum(losses[-10:])) / 10
print(f"the last ten steps lie about {below:.0f} dB below silence")
assert below > 1

# %% [markdown]
# It learns: within seconds the loss has fallen below what silence gets. Each step sees other chunks, so the curve is noisy, and
# only its trend counts.
#
# <details><summary>Quick question: why does silence not get 0 dB, as it did in chapter 3?</summary>
#
# (4.9) compares each error with the energy of the *mixture*, not of the source. Four equally loud sources that have nothing to do with each other have a quarter
# of it each: $10 \log_{10} \tfrac14$, 6 dB below the mixture. Where they differ, the mean of the logarithms is lower still.
# </details>
#
# ### What it can do after a few seconds
#
# A test song that it never saw, separated by this tiny network: transform, network, the mixture's phase, and back. Of
# which stem has it learned most? We compare with a quarter of the mixture, and play that stem beside the mixture and the truth.

# %%
piece = test_songs[0].excerpt(8.0, 4.0)
truth = piece.sources(STEMS)                                   # (source, channel, time)
X = stft(truth.sum(0), 2048, 1024)                             # (channel, bin, frame)
with torch.no_grad():
    Y = live.eval()(X.abs()[None].to(P.device))[0].cpu()       # (source, channel, bin, frame)
first_try = istft(Y * torch.sgn(X), 2048, 1024, length=truth.shape[-1])
learned = song_sdr(first_try, truth) - song_sdr(truth.sum(0).expand_as(truth) / 4, truth)
best_stem = int(learned.argmax())
print(f"most gained over a quarter of the mixture: {STEMS[best_stem]}, {learned.max():+.0f} dB")
assert learned.max() > 1

# %% [markdown]
# Listen to what it made of that stem:

# %%
for title, sound in (("the mixture", truth.sum(0)), ("the tiny network", first_try[best_stem]),
                     ("the truth", truth[best_stem])):
    listen(sound.mean(0), rate, f"{STEMS[best_stem]}: {title}")

# %% [markdown]
# The treble is a guess, as the network looks at bins up to 5.5 kHz only, and much of the others is left. But something has been found that no rule told it.
#
# ### The same loop, grown up
#
# A real training runs for hours and must survive a power cut. The course's `fit` adds what that takes: checkpoints from which it
# goes on to *the same* weights, many processors, mixed precision, averaged weights, a log, early stopping. Its
# core is the loop above, and the proof is that three steps of each give bit-equal weights.

# %%
by_loop, by_fit = tiny_model(), tiny_model()
train(by_loop, batches, 3)
optimizer = torch.optim.Adam(by_fit.parameters(), lr=0.003)
fit(by_fit, step, batches, optimizer, FitSettings(3, clip=5.0), progress=False)
pairs = zip(by_loop.state_dict().values(), by_fit.state_dict().values())
assert all(torch.equal(one, other) for one, other in pairs)
print("equal weights, to the last bit")

# %% [markdown]
# ## 4.11 The trained network
#
# On the real size a laptop needs patience, so a trained network comes with the course. The command that made it is in its *card*, the
# file that lies beside the weights, and anyone can run it again. The card also says how the network is built and for what
# audio, so that `load_trained` brings it back whole, its weights checked by their hash:

# %%
model = load_trained("open_unmix_band").to(P.device)
card = model.card
assert (model.facts.rate, model.facts.stems) == (rate, STEMS)
training, data = card["config"]["training"], card["config"]["data"]
show_table([["made by", card["command"]], ["steps", f"{card['steps']:,}"],
            ["chunks", f"{training['batch_size']} of {data['seconds']:g} s a step"],
            ["parameters", f"{card['parameters']:,}"], ["minutes", f"{card['minutes']:.0f}"],
            ["machine", card["machine"]],
            ["STFT", f"{model.facts.n_fft} samples, hop {model.facts.hop_length}"]], ["card", ""])

# %% [markdown]
# What did it train on? The band's songs are composed by numbers, *seeds*. The split `train` has sixty songs; `further` means as many more as
# anyone likes, named by their seeds. A *world*, where one is named, is a set of instruments, voices and effects that the songs are played with.

# %%
from course_lib.data.band.library import SPLITS               # split -> its seeds

rows = []
for part in card["trained_on"]:
    seeds = part.get("seeds")
    count = len(SPLITS[part["split"]]) if seeds is None else seeds[1] - seeds[0]
    rows.append([part["split"], part.get("world", "the band's own"), count])
show_table(rows, ["split", "world", "songs"])
begun_with = card["config"]["prepare"].get("checkpoint")
print("begun with", f"the weights of {begun_with}" if begun_with else "random weights")

# %% [markdown]
# Three things it had that our forty steps didn't. The chunks are changed at random before they are mixed, which is called *augmentation*: other loudness,
# channels swapped, and so on. The learning rate is not constant: it rises over the first steps and then falls along half a cosine, so that the
# last steps are small. And what is scored and kept are *averaged* weights. After each step the average moves a little towards the new weights,
# $\bar\theta \leftarrow d\, \bar\theta + (1 - d)\, \theta$, with $d$ near 1: an *exponential moving average*, EMA. It remembers about $1 / (1 - d)$ steps, and is
# steadier than the last one.

# %%
augmentation, schedule = data.get("augment", {}), card["config"]["schedule"]
changes = {name: value for name, value in augmentation.items() if name != "use"}
show_table([["augmentation", augmentation.get("use", "gain, channels").split(":")[-1]],
            ["  its settings", str(changes) if changes else "its defaults"],
            ["learning rate", f"up to {card['config']['optimizer']['lr']:g}, {schedule['kind']}"],
            ["d of the average", f"{training['ema_decay']:g}"]], ["card", ""])

# %% [markdown]
# Its learning curves: the loss on the chunks it trained on, and every few hundred steps the SDR on validation songs,
# whole, of each stem, and the mean over the stems.

# %%
log, validation = (measured(f"04_open_unmix/open_unmix_band_{name}")
                   for name in ("log", "validation"))
column = lambda rows, name: [float(row[name]) for row in rows]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
plot_losses({"training": (column(log, "step"), column(log, "loss"))}, smoothing=50, log_loss=False,
            unit="loss (dB)", ax=axes[0])
for stem in STEMS:
    axes[1].plot(column(validation, "step"), column(validation, stem), label=stem,
                 color=STEM_COLOURS[stem])
axes[1].plot(column(validation, "step"), column(validation, "sdr"), color="black", label="mean")
axes[1].set(xlabel="step", ylabel="SDR, validation (dB)")
axes[1].legend()
show(figure, "Training loss (running mean over 50 steps) and SDR of whole validation songs.",
     "Left, the noisy loss over the steps. Right, five curves of SDR over the steps, one a stem "
     "and their mean.")

# %% [markdown]
# Two questions to ask of every such curve: has it risen, and has it begun to fall again, which would mean that the network learns the
# training songs by heart?

# %%
sdr = column(validation, "sdr")
first, last = validation[0]["step"], validation[-1]["step"]
highest = validation[sdr.index(max(sdr))]["step"]
print(f"after {first} steps {sdr[0]:.1f} dB, after {last} steps {sdr[-1]:.1f} dB; "
      f"highest {max(sdr):.1f} dB, after {highest} steps")
print("it has begun to fall" if sdr[-1] < max(sdr) - 0.3 else "it has not begun to fall")
assert sdr[-1] > sdr[0]

# %% [markdown]
# Before any score, look at what it answers. Below, its masks for two seconds of a test song, under the ideal ratio masks that know the answer.

# %%
track = test_songs[-1].excerpt(8.0, 6.0)
references = track.sources(STEMS)                                   # (source, channel, time)
mixture, S = references.sum(0), stft(references, 4096, 1024)
with torch.no_grad():
    masks = model.masks(S.sum(0).abs()[None].to(P.device))[0].cpu()  # (source, channel, bin, ...)
detail = lambda masks, j: masks[j, 0, :, 80:166].clamp(0, 1)
kinds = {"ideal": ideal_ratio_mask(S), "ours": masks}
pictures = {f"{stem}, {kind}": detail(one, j) for kind, one in kinds.items()
            for j, stem in enumerate(STEMS)}
figure = plot_masks(pictures, track.rate, 1024, axis="log", bottom=40, top=10000, columns=4)
show(figure, f"Masks for two seconds of {track.name}, left channel: ideal above, ours below.",
     "Eight panels. The network's masks have the shapes of the ideal ones, but softer edges and "
     "blurred details.")

# %% [markdown]
# The network has found strokes, lines and ladders without being told of any of them. What it lacks is sharpness: where it
# isn't sure it answers with something between 0 and 1, as the puzzle's first listener did.
#
# ### What it costs to forget `eval()`
#
# In training mode the norms take their statistics from whatever they are fed, a single song, and dropout still mutes features. We separate the same
# six seconds in both modes. (A copy of the network, because in training mode the running means move with every song.)

# %%
forgetful = copy.deepcopy(model)
modes = []
for one in test_songs:
    truth = one.excerpt(8.0, 6.0).sources(STEMS)
    S_one = stft(truth, 4096, 1024)
    scores = []
    for network in (model, forgetful.train()):
        torch.manual_seed(0)                                   # dropout draws from it
        with torch.no_grad():
            Y = network(S_one.sum(0).abs()[None].to(P.device))[0].cpu() * torch.sgn(S_one.sum(0))
        scores.append(float(song_sdr(istft(Y, 4096, 1024, truth.shape[-1]), truth).nanmean()))
    modes.append([one.name, *scores, scores[1] - scores[0]])
show_table(modes, ["mean SDR over stems, dB", "eval()", "forgotten", "difference"], digits=1,
           caption="Six seconds of each song.")
assert sum(row[-1] for row in modes) < 0

# %% [markdown]
# ## 4.12 A post-filter that uses both channels
#
# The network looked at magnitudes. Two things it left unused: that the estimates must **add up to the mixture**, and that a source **sits in
# one place** between left and right. A statistical model knows both. We derive what follows from it, first for one channel, where it can be
# done with a pen, then read the result with vectors.
#
# ### One channel: a Gaussian for each point
#
# What can be said of a source at a point of time and frequency before we have looked? Its power, perhaps: call its expected value $v$. Nothing about its
# phase: all angles are equally likely. The simplest such model is the *complex Gaussian* $\mathcal{N}_{\mathbb C}(0, v)$: real and imaginary part are independent normal numbers of
# variance $v/2$ each, so that $\mathbb{E}|S|^2 = v$ and the density at $S$ is $\frac{1}{\pi v} e^{-|S|^2 / v}$. Let each source be one, and the mixture their sum:
#
# $$ S_j[k,m] \sim \mathcal{N}_{\mathbb C}\big(0,\; v_j[k,m]\big), \qquad X = \sum_j S_j. \tag{4.10} $$
#
# **The best guess.** Suppose we know all $v$ and see $X$. What is $S_j$? The others together are $X - S_j$, with variance $u = \sum_{i \ne j} v_i$, so the density of
# $S_j$ *given* $X$ is proportional to
#
# $$ e^{-|S_j|^2 / v_j}\; e^{-|X - S_j|^2 / u}
# = \exp\!\Big[ -\Big(\tfrac{1}{v_j} + \tfrac{1}{u}\Big) \Big| S_j - \tfrac{v_j}{v_j + u} X \Big|^2 + \text{terms without } S_j \Big], $$
#
# by completing the square: multiply out the right side, and the terms with $|S_j|^2$ and with $S_j^* X$ are those of the left. That is again a complex Gaussian, and we can
# read off its mean and its variance:
#
# $$ \hat S_j = \frac{v_j}{\sum_i v_i}\, X = m_j X, \qquad
#    \operatorname{var}(S_j \mid X) = \frac{v_j\, u}{v_j + u} = v_j\, (1 - m_j). $$
#
# The mean is chapter 1's ratio mask with $p = 2$. The variance says how unsure the guess is: not at all where one source has all the power, most where they share it.
#
# Both can be checked by throwing dice: two sources with $v = 4$ and $1$, two hundred thousand times.

# %%
v_true = torch.tensor([4.0, 1.0])
drawn = torch.randn(2, 200_000, dtype=torch.complex64, generator=P.generator)   # power 1 each
S_drawn = v_true.sqrt()[:, None] * drawn                       # (source, draw)
X_drawn = S_drawn.sum(0)
m_j = v_true / v_true.sum()
missed = S_drawn - m_j[:, None] * X_drawn
unsure = missed.abs().square().mean(1)
print(f"masks {m_j[0]:.1f} and {m_j[1]:.1f}; missed power {unsure[0]:.1f} and {unsure[1]:.1f}")
assert torch.allclose(unsure, v_true * (1 - m_j), rtol=0.02)
assert (missed * X_drawn.conj()).mean(1).abs().max() < 0.03    # nothing about S_j is left in X

# %% [markdown]
# **The best loudness.** Now the other way round: suppose we saw the sources, and ask which $v$ makes them most likely. For frames that share one $v$ (a note held for
# $M$ frames, say), the logarithm of the density is
#
# $$ \sum_m \Big[ -\log(\pi v) - \frac{|S[m]|^2}{v} \Big], \qquad \text{with derivative } -\frac{M}{v} + \frac{\sum_m |S[m]|^2}{v^2},
# \qquad\text{so } v = \frac{1}{M} \sum_m |S[m]|^2 : $$
#
# the mean power. But we don't see the sources. *Expectation-maximisation* (EM, Dempster, Laird and Rubin 1977) puts in place of $|S|^2$ what we must *expect* it to be, given $X$ and
# our present guess of all $v$: the power of the mean plus the variance around it,
#
# $$ \mathbb{E}\big[|S_j|^2 \mid X\big] = |\hat S_j|^2 + v_j\,(1 - m_j). $$
#
# Then it makes a better guess of the sources from the new $v$, and so on. Each round can only raise the likelihood of $X$.
#
# With one channel, and a $v$ of its own for every point, the rounds lead nowhere. If $\sum_i v_i = |X|^2$, the new loudness is
# $m_j^2 |X|^2 + m_j |X|^2 (1 - m_j) = m_j |X|^2$: the old one. A single number $X$ tells the sum of the powers, and nothing about how it is shared out. *Leave out the variance*, and it becomes
# $m_j^2 |X|^2$: the shares get squared, and the louder source wins.

# %%
def em_one_channel(v, power, with_variance):
    """A round of EM at one point: v (source,) and |X|^2 to the next v."""
    m = v / v.sum()
    return m ** 2 * power + (v * (1 - m) if with_variance else 0)

shares = torch.tensor([0.6, 0.4])                              # of a mixture of power 1
exact, without = (em_one_channel(shares, 1.0, kept) for kept in (True, False))
in_hundredths = lambda v: [round(value, 2) for value in (v / v.sum()).tolist()]
print("exact:", in_hundredths(exact), " without the variance, as shares:", in_hundredths(without))
assert torch.allclose(exact, shares) and (without / without.sum())[0] > 0.65

# %% [markdown]
# ### Two channels: a source has a place
#
# With two channels there *is* something to learn. Let $S_j$ and $X$ be vectors, one number a channel, and let the Gaussian have a covariance matrix, $\mathbb{E}[S_j S_j^H] = v_j R_j$ ($H$:
# transposed and conjugated): a loudness $v_j[k,m]$ that changes with time, times a **place** $R_j[k]$ that does not, the matrix of chapter 1, section 1.10. The same steps, with matrices
# in place of numbers, give the same results. The best guess is chapter 1's multichannel Wiener filter,
#
# $$ \hat S_j = v_j R_j \Big(\sum_i v_i R_i + \epsilon I\Big)^{-1} X, \tag{4.11} $$
#
# where $\epsilon$ stands for a little noise, so that the matrix has an inverse. The variance around it becomes a matrix as well, and what is expected of $S_j S_j^H$ is
#
# $$ \hat C_j = \hat S_j \hat S_j^H + v_j R_j - v_j R_j \Big(\sum_i v_i R_i\Big)^{-1} v_j R_j . $$
#
# The loudness and place that make this most likely are means of it over $C$ channels and $M$ frames (Duong, Vincent and Gribonval 2010):
#
# $$ v_j = \frac{1}{C} \operatorname{tr}\big(R_j^{-1} \hat C_j\big), \qquad R_j = \frac{1}{M} \sum_m \frac{\hat C_j}{v_j}. $$
#
# That is exact EM. Where the sources are known, $\hat C_j$ is $S_j S_j^H$, and these are the two formulas of chapter 1. The official package, and we with it, take something simpler:
#
# $$ v_j = \frac{1}{C} \|\hat S_j\|^2, \qquad R_j = \frac{\sum_m \hat S_j \hat S_j^H}{\sum_m v_j}. \tag{4.12} $$
#
# It differs in three points. The variance of the guess is left out, so that loud sources gain at the cost of soft ones, as above. The loudness is the plain mean power of the channels. And the frames are *pooled*:
# the exact form divides each by its own $v_j$ before averaging; in a network's estimate a quiet frame may hold little but errors, and dividing it by its small $v_j$ would blow these
# up. Where a source's direction doesn't depend on its loudness, both estimate the same $R_j$.
#
# We know neither sources nor loudness, but have a first guess from the network. So we go round:

# %%
d = Diagram()
network = d.block("network", "magnitudes", kind="trained")
phase = d.block("take the\nmixture's phase", "(source, channel,\nbin, frame)", after=network)
measure = d.block("measure loudness $v_j$ and place $R_j$\n(4.12)",
                  "(source, bin, frame), (source, bin, channel, channel)", after=phase)
guess = d.block("best guess of the sources\n(4.11)", "(source, channel, bin, frame)",
                after=measure, place="below", gap=0.5)
X_in = d.block("mixture $X$", "(channel, bin, frame)", kind="data", at=(phase.x, guess.y))
d.arrow(X_in, guess)
d.arrow(guess, measure, "again", route="right")
d.block(r"$\hat S_j$", "(source, channel, bin, frame)", kind="data", after=guess, place="below")
show(d.draw(), "The post-filter: rounds of measuring and filtering.", d.in_words())

# %% [markdown]
# ### Three frames by hand
#
# One bin, two channels, three frames. Source A plays in frames 0 and 2, on the left only; source B in frames 1 and 2, on
# both sides. The pretended network is roughly right where one plays alone, and has **no idea** in frame 2: half each.

# %%
A = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])                # (channel, frame)
B = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
S_small = torch.stack([A, B])[:, :, None].to(torch.complex64)       # (source, channel, bin, frame)
X_small = S_small.sum(0)
half_each = torch.tensor([[0.8, 0.2, 0.5], [0.2, 0.8, 0.5]]).view(2, 1, 1, 3) * X_small.abs()

# %% [markdown]
# A round of EM in loops, as the formulas read. `eps` guards divisions; its root is the $\epsilon$ of (4.11):

# %%
def em_by_hand(Y, X, eps=1e-10):
    """A round of (4.12), (4.11) in one bin. Y: (source, channel, frame), X: (channel, frame)."""
    v = Y.abs().square().mean(1)                               # (source, frame)
    R = [sum(torch.outer(y, y.conj()) for y in Y[j].T) / (eps + v[j].sum()) for j in range(len(Y))]
    out = torch.zeros_like(Y)
    for m in range(X.shape[1]):
        total = sum(v[j, m] * R[j] for j in range(len(Y))) + eps ** 0.5 * torch.eye(len(X))
        for j in range(len(Y)):
            out[j, :, m] = v[j, m] * R[j] @ torch.linalg.inv(total) @ X[:, m]
    return out

# %% [markdown]
# Follow the estimate of A in frame 2, which should be 1 on the left and 0 on the right:

# %%
Y_small = (half_each * torch.sgn(X_small))[:, :, 0]            # the mixture's phase
rows = []
for number in range(5):
    wrong = float((Y_small - S_small[:, :, 0]).abs().square().sum())
    left, right = Y_small[0, :, 2].real.tolist()
    rows.append([number, f"{left:.2f}", f"{right:.2f}", f"{wrong:.2f}"])
    Y_small = em_by_hand(Y_small, X_small[:, 0])
show_table(rows, ["rounds", "A in frame 2, left", "A in frame 2, right", "squared error of all"],
           caption="The truth is 1.00 and 0.00.")
assert float(rows[-1][3]) < 0.05 * float(rows[0][3])

# %% [markdown]
# The frames where one plays alone taught where each sits, and that solved the frame in which the network was lost. (On its way A passes 1 on the left. The two estimates add up to the
# mixture, 2 on the left and 1 on the right. While A is still believed to sit partly on the right, B is short of that there; and as B sits alike on both sides, it is short on
# the left as well, where A gets what is missing.)
#
# <details><summary>Quick question: could EM solve frame 2 if A and B never played alone?</summary>
#
# No. With half each in all frames, (4.12) measures the same $R$ for both, the filter gives half each again, and the rounds stand still.
# </details>
#
# ### For a whole song
#
# For two channels the inverse of a matrix has a formula (Cramer's rule), which is faster here than a general solver.

# %%
#| export
def _solve(A: Tensor, b: Tensor) -> Tensor:
    """x with A x = b: A (..., channel, channel, frame), b and x (..., channel, frame)."""
    channels = A.shape[-2]
    if channels == 1:
        return b / A[..., 0, :]
    if channels == 2:
        (p, q), (r, s) = [[A[..., i, j, :] for j in (0, 1)] for i in (0, 1)]
        x, y = b[..., 0, :], b[..., 1, :]
        return torch.stack([s * x - q * y, p * y - r * x], dim=-2) / (p * s - q * r).unsqueeze(-2)
    return torch.linalg.solve(A.movedim(-1, -3), b.mT.unsqueeze(-1)).squeeze(-1).mT


def _em_step(Y: Tensor, X: Tensor, eps: float) -> Tensor:
    """One round of EM: Y (..., source, channel, bin, frame), X (..., channel, bin, frame)."""
    Y, X = Y.movedim(-3, -2), X.movedim(-3, -2)            # (..., source, bin, channel, frame)
    v = Y.abs().square().mean(-2)                          # (..., source, bin, frame), eq. 4.12
    R = Y @ Y.mH / (eps + v.sum(-1))[..., None, None]      # (..., source, bin, channel, channel)
    total = torch.einsum("...jfcd,...jft->...fcdt", R, v.to(R.dtype))
    loading = eps ** 0.5 * torch.eye(Y.shape[-2], dtype=Y.dtype, device=Y.device)
    whitened = _solve(total + loading.unsqueeze(-1), X)            # (..., bin, channel, frame)
    Y = (R @ whitened.unsqueeze(-4)) * v.unsqueeze(-2)             # eq. 4.11
    return Y.movedim(-2, -3)                               # (..., source, channel, bin, frame)

# %% [markdown]
# It must equal the loops:

# %%
start = half_each * torch.sgn(X_small)                         # sgn of a complex number: its phase
once = _em_step(start, X_small, 1e-10)
assert torch.allclose(once[:, :, 0], em_by_hand(start[:, :, 0], X_small[:, 0]), atol=1e-5)

# %% [markdown]
# Before the first round, magnitudes must become complex numbers. Either each keeps its size and takes the mixture's phase, or
# they share out the mixture in proportion (`softmask`). If not all sources were asked for, what is left of the mixture can
# stand for the others (`residual`).

# %%
#| export
def _first_estimate(magnitudes: Tensor, X: Tensor, softmask: bool, residual: bool,
                    eps: float) -> Tensor:
    """Complex spectra from magnitudes, before EM: shapes, arguments as `wiener`."""
    if softmask:
        shares = magnitudes / (eps + magnitudes.sum(-4, keepdim=True))
        Y = shares * X.unsqueeze(-4)
    else:
        phase = torch.polar(torch.ones_like(X.real), X.angle())
        Y = magnitudes * phase.unsqueeze(-4)
    if residual:
        Y = torch.cat([Y, X.unsqueeze(-4) - Y.sum(-4, keepdim=True)], dim=-4)
    return Y

# %% [markdown]
# The whole post-filter: a first estimate, a safe scale, and rounds of EM. They need 64 bits: where all sources sit in one place,
# the matrix in (4.11) is all but singular, and Cramer's differences would keep few digits of 32.

# %%
#| export
def wiener(magnitudes: Tensor, X: Tensor, iterations: int = 1, softmask: bool = False,
           residual: bool = False, scale_factor: float = 10.0, eps: float = 1e-10) -> Tensor:
    """Magnitudes of the sources to their complex spectra, refined by expectation-maximisation.

    magnitudes: (..., source, channel, bin, frame), >= 0. X: the mixture, complex (..., channel,
    bin, frame). iterations: of EM; 0 keeps the first estimate. softmask: that estimate shares the
    mixture out in proportion to the magnitudes, instead of giving each the mixture's phase.
    residual: one more source, what the others leave of the mixture. scale_factor: EM works on a
    mixture scaled so that its largest value is at most this. eps: guards divisions; EM takes its
    root as power of noise. EM computes in 64 bits, as the matrices of a source that is alike in
    both channels have no inverse but for that noise (32 bits on MPS, which has no others). Returns
    complex (..., sources, channel, bin, frame). ValueError where shapes don't fit, and for EM with
    one source alone. Source: Nugraha, Liutkus and Vincent 2016; chapter 4, section 4.12;
    arguments as `openunmix.filtering.wiener`.
    """
    if magnitudes.ndim != X.ndim + 1 or magnitudes.shape[:-4] + magnitudes.shape[-3:] != X.shape:
        raise ValueError(f"magnitudes {tuple(magnitudes.shape)} and X {tuple(X.shape)}; expected "
                         "(..., source, channel, bin, frame) and (..., channel, bin, frame)")
    Y = _first_estimate(magnitudes, X, softmask, residual, eps)
    if iterations == 0:
        return Y
    if Y.shape[-4] < 2:
        raise ValueError("magnitudes holds one source, which can't be refined against others; "
                         "pass residual=True or iterations=0")
    largest = X.abs().amax((-1, -2, -3), keepdim=True) / scale_factor      # (..., 1, 1, 1)
    largest = largest.clamp_min(1.0)
    kind, exact = Y.dtype, torch.complex64 if X.device.type == "mps" else torch.complex128
    Y, X = (Y / largest.unsqueeze(-4)).to(exact), (X / largest).to(exact)
    for _ in range(iterations):
        Y = _em_step(Y, X, eps)
    return (Y * largest.unsqueeze(-4)).to(kind)

# %% [markdown]
# With one channel there is no place to learn, and a round of EM is something we know: the ratio mask with exponent 2. And where a
# bin's power is well above $\epsilon$, the refined sources add up to the mixture.

# %%
magnitudes = S.abs() * (0.5 + torch.rand(S.shape, generator=P.generator))    # a guess that is off
mono = wiener(magnitudes[:, :1], S.sum(0)[:1])
ratio = apply_mask(ideal_ratio_mask(magnitudes[:, :1]), S.sum(0)[:1])
loud = S.sum(0)[:1].abs() > 0.1                                     # elsewhere the loading counts
assert (mono - ratio).abs()[:, loud].max() < 1e-2 * ratio.abs().max()
power = lambda Y: float(Y.abs().square().sum())
left_over = [power(wiener(magnitudes, S.sum(0), rounds).sum(0) - S.sum(0)) / power(S.sum(0))
             for rounds in (0, 1)]
assert left_over[1] < 1e-4 < 1e-2 < left_over[0]

# %% [markdown]
# The hard case, a mono recording sold as stereo: all sources in one place, the right channel a weaker copy of the left.

# %%
flat = torch.stack([S[:, 0], 0.4 * S[:, 0]], dim=1)             # (source, channel, bin, frame)
refined = wiener(flat.abs(), flat.sum(0))
assert torch.isfinite(torch.view_as_real(refined)).all()
assert power(refined.sum(0) - flat.sum(0)) < 1e-4 * power(flat.sum(0))

# %% [markdown]
# ## 4.13 Separate
#
# All parts in a row: transform, network, post-filter, inverse transform. A place that stays for a whole song is a strong assumption; the
# official separator lets it hold for 300 frames, seven seconds, at a time.

# %%
#| export
def separate(model: nn.Module | Mapping[str, nn.Module], mixture: Tensor, n_fft: int | None = None,
             hop_length: int | None = None, niter: int = 0, window_frames: int | None = 300,
             **options) -> Tensor:
    """Separate audio with a joint model, or with one model a source.

    model: a `JointOpenUnmix`, or a dict of `OpenUnmix` by source name. mixture: (batch, channel,
    time) or (channel, time), any float type. n_fft, hop_length: by default the model's
    (`stft_sizes`). niter: rounds of EM. window_frames: EM assumes that a source stays where it is
    for so many frames (None: all through). options: as `wiener`. Returns (batch, source, channel,
    time), or without batch, computed in the model's type and given in the mixture's. ValueError
    for other shapes, NumPy arrays, audio shorter than half a frame, sizes that are not the
    model's, and models of several sizes. Source: chapter 4, section 4.13.
    """
    check_audio(mixture=mixture)
    if mixture.ndim == 2:
        mixture = mixture[None]
        return separate(model, mixture, n_fft, hop_length, niter, window_frames, **options)[0]
    if mixture.ndim != 3:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (batch, channel, "
                         "time) or (channel, time)")
    models = list(model.values()) if isinstance(model, Mapping) else [model]
    sizes = {stft_sizes(one, n_fft, hop_length) for one in models}
    if len(sizes) > 1:
        raise ValueError(f"the models were made for several STFTs, {sorted(sizes)}; expected one")
    size, kind = sizes.pop(), next(models[0].parameters(), mixture).dtype
    X = stft(mixture.to(kind), *size)                               # (batch, channel, bin, frame)
    if isinstance(model, Mapping):
        magnitudes = torch.stack([one(X.abs()) for one in models], dim=1)
    else:
        magnitudes = model(X.abs())                   # (batch, source, channel, bin, frame)
    window = window_frames or X.shape[-1]
    pieces = zip(magnitudes.split(window, dim=-1), X.split(window, dim=-1))
    Y = torch.cat([wiener(piece, x, niter, **options) for piece, x in pieces], dim=-1)
    return istft(Y, *size, length=mixture.shape[-1]).to(mixture.dtype)

# %% [markdown]
# The score that was followed in training is the SDR of whole songs, for each stem, and the mean over the stems:

# %%
#| export
def separation_scores(model: nn.Module, tracks: Sequence[Track], niter: int = 0,
                      n_fft: int | None = None,
                      hop_length: int | None = None) -> dict[str, float]:
    """Mean SDR in dB over songs, of each of the model's sources, and their mean (`sdr`, first).

    A song's score is chapter 1's `song_sdr`; songs in which a source is silent don't count for
    that source. Source: chapter 3, section 3.6; chapter 4, section 4.13.
    """
    names, table = model.sources, []
    device = next((p.device for p in model.parameters()), "cpu")
    for track in tracks:
        estimates = separate(model, track.mixture.to(device), n_fft, hop_length, niter)
        table.append(song_sdr(estimates, track.sources(names).to(device)))
    means = torch.stack(table).nanmean(0)                          # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(names, means.tolist()))}

# %% [markdown]
# ### The scoreboard
#
# First on few songs, live: a quarter of the mixture, chapter 2's best method, the network, the network with one round of EM,
# and the oracle. The bounds are the same for all chapters and come from the course's scoreboard. A *separator* is there whatever takes audio and gives
# sources; `ModelSeparator` makes one of our network. To run it on real data, change the line with `open_tracks` in section 4.1.

# %%
low, rules, high = bounds().items()
contenders = dict([low, rules, ("Open-Unmix", ModelSeparator(model)),
                   ("Open-Unmix, EM", ModelSeparator(model, niter=1)), high])

# %% [markdown]
# The score is the SDR of a whole song, both channels together, as in chapters 1 to 3.

# %%
live_scores, heard = {}, []
for track in progress(test_songs, "songs"):
    references = track.sources(STEMS)
    estimates = {method: estimates_of(separator, references, track.rate)
                 for method, separator in contenders.items()}
    heard.append((track, estimates, references))
    for method, estimate in estimates.items():
        live_scores.setdefault(method, []).append(song_sdr(estimate, references))   # (stem,)
live_scores = {method: torch.stack(scores) for method, scores in live_scores.items()}
show_table([[method, *scores.nanmean(0).tolist(), float(scores.nanmean(0).mean())]
            for method, scores in live_scores.items()],
           ["SDR in dB", *STEMS, "mean"], digits=1,
           caption=f"SDR of whole songs, mean over {len(test_songs)} band test songs of 20 s.")

# %% [markdown]
# The score of the training must say the same of the network:

# %%
with torch.no_grad():
    found = separation_scores(model, test_songs)
assert abs(found["sdr"] - float(live_scores["Open-Unmix"].nanmean(0).mean())) < 0.1

# %% [markdown]
# A few songs are too few for conclusions. The committed results come from `course experiment open_unmix`, the same
# methods on all 20 test songs; where a song is in both they must agree.

# %%
rows = measured("04_open_unmix/scores")

def stored(method, score="song", songs="band"):
    """The committed scores: (song, stem), in the order of the songs."""
    return stem_scores(rows, method, score, songs)

if test_songs[0].name in {row["song"] for row in rows}:
    for method, scores in live_scores.items():
        differing = (stored(method)[:len(scores)] - scores).abs()
        assert differing.nan_to_num(0).max() < 0.1, method

# %% [markdown]
# Per stem and over all, with two kinds of score, as papers differ in which they mean:

# %%
methods = list(live_scores)
show_table([[method, *stored(method).nanmean(0).tolist(), mean_interval(stored(method).nanmean(1)),
             float(stored(method, "frames, mean").nanmean(0).mean())] for method in methods],
           ["SDR in dB", *STEMS, "mean of stems", "mean, 1 s frames"], digits=1,
           caption="20 band test songs of 20 s: SDR of whole songs, mean over songs, with 95% "
                   "interval; last column: museval's SDR in frames of 1 s, mean over all.")

# %% [markdown]
# The same with an interval for each stem:

# %%
axis = plot_scores({method: stored(method) for method in methods[1:4]}, STEMS,
                   {"a quarter of the mixture": stored("mixture / 4"),
                    "ideal ratio mask": stored("ideal ratio mask")}, centre="mean")
show(axis, "Whole-song SDR on 20 band test songs: mean and 95% interval over songs.",
     "Dots with intervals for chapter 2's best and Open-Unmix with and without EM, one group a "
     "stem, between the line of a quarter of the mixture and that of the oracle.")

# %% [markdown]
# How far ahead is the learned separator of the best that rules can do, and how much is left?

# %%
def ahead_of_rules(score="song", songs="band"):
    """SDR of Open-Unmix minus that of chapter 2's best: (song, stem)."""
    return stored("Open-Unmix", score, songs) - stored("chapter 2's best", score, songs)

for score in ("song", "frames, mean", "frames, median"):
    lead = ahead_of_rules(score).nanmean(1)                    # (song,)
    centre, low, high = mean_interval(lead)
    print(f"{score}: {centre:+.1f} dB over the best rules [{low:.1f}, {high:.1f}]")
    assert mean_interval(lead)[1] > 0
left = (stored("ideal ratio mask") - stored("Open-Unmix")).nanmean(0)
print("song: left to the oracle", {stem: f"{value:.1f} dB" for stem, value in zip(STEMS, left)})
assert left.min() > 0

# %% [markdown]
# Learning beats the best rules on these songs, by each of the three scores; and on every stem the oracle shows that more is left.
#
# ### What EM changes
#
# One round of EM against none, song by song, so that easy and hard songs don't blur the difference:

# %%
gain = stored("Open-Unmix, EM") - stored("Open-Unmix")              # (song, stem)
show_table([["SDR gained by EM", *[mean_interval(gain[:, j]) for j in range(4)],
             mean_interval(gain.nanmean(1))]], ["dB", *STEMS, "mean of stems"], digits=2,
           caption="Mean over 20 songs of the difference in whole-song SDR, 95% interval.")

# %% [markdown]
# The SDR adds up two kinds of error, and EM treats them differently. Chapter 3 can tell them apart: *interference*, what is heard of the other
# sources (SIR, higher is better), and *artefacts*, what belongs to no source (SAR).

# %%
table, sir_gain = [], []
for track, estimates, references in heard:
    piece = slice(5 * track.rate, 13 * track.rate)
    before, after = (bss_eval(references[..., piece], estimates[method][..., piece], track.rate)
                     for method in ("Open-Unmix", "Open-Unmix, EM"))
    row = [float(median_over_frames(getattr(after, kind) - getattr(before, kind)).mean())
           for kind in ("sdr", "sir", "sar")]
    table.append([track.name, *row])
    sir_gain.append(row[1])
show_table(table, ["change by EM, in dB", "SDR", "SIR", "SAR"], digits=1,
           caption="BSSEval v4 on 8 s of each song: median over frames of 1 s, mean over stems.")

# %% [markdown]
# Two errors, two directions: what EM takes from the interference it may add to the artefacts, and the SDR, which counts both, sees the difference. One
# reason may be this: our EM *squares* the shares, as section 4.12 derived. That is good where the network was right and bad where it was
# wrong. If so, EM must gain most where the score was high before. (A second reason may be that the loss (4.9) also counts phase errors, so that
# the network is trained for the mixture's phase; that is not tested here.)

# %%
sets = list(dict.fromkeys(row["set"] for row in rows))         # the others: section 4.14
table = []
for songs in sets:
    before, after = stored("Open-Unmix", songs=songs), stored("Open-Unmix, EM", songs=songs)
    pairs = torch.stack([before.flatten(), (after - before).flatten()])
    pairs = pairs[:, ~pairs.isnan().any(0)]                    # (2, stems of all songs)
    table.append([songs, mean_interval((after - before).nanmean(1)),
                  float(torch.corrcoef(pairs)[0, 1]), pairs.shape[1]])
show_table(table, ["songs", "gained by EM, dB", "correlation with the score before", "stems"])

# %% [markdown]
# A positive correlation in the third column speaks for that reading, one near zero or below it against it; the real recordings have few stems to tell by. Where the interval in the second holds zero or lies below it, EM is not worth its time
# for this network, so this course separates without it (`niter=0`) unless it says otherwise. The published networks were trained on magnitudes alone, and their package's
# ready-made separators (`openunmix.umxhq()` and the like) do one round by default.

# %% [markdown]
# ## 4.14 Listen
#
# The last song of the scoreboard first: solo the stems, and listen for what is left of the others in the background of each.

# %%
clip = slice(9 * track.rate, 14 * track.rate)
mix_stems(dict(zip(STEMS, estimates["Open-Unmix"][..., clip])), track.rate,
          f"{track.name}, separated")

# %% [markdown]
# EM is best heard on one stem: the vocals without it, with it, and the truth, left and right mixed to one channel.

# %%
for title in ("Open-Unmix", "Open-Unmix, EM"):
    listen(estimates[title][3, :, clip].mean(0), track.rate, f"vocals, {title}")
listen(references[3, :, clip].mean(0), track.rate, "vocals, the truth")

# %% [markdown]
# ### A real recording
#
# Now the recording from the beginning. The network has never heard a record: what it trained on stands in its card (section 4.11). There are no
# stems to score it with, so trust your ears.

# %%
song, rate = recording("fishin", start=12.0, seconds=10.0)
with torch.no_grad():
    stems = separate(model, song.to(P.device)).cpu()                # (source, channel, time)
for stem, audio in zip(STEMS, stems):
    listen(audio[:, :4 * rate].mean(0), rate, f"Let's Go Fishin', {stem}")

# %% [markdown]
# Which stem got how much of it? Without EM nothing forces them to add up to the recording, but they nearly do. We ask the rules of chapter 2 the same.

# %%
by_rules = separate_unsupervised(song, rate)
for name, found in {"Open-Unmix": stems, "chapter 2's best": by_rules}.items():
    energies = found.square().sum((1, 2))
    print(name, {stem: f"{value:.0%}" for stem, value in zip(STEMS, energies / energies.sum())})
left_out = float((stems.sum(0) - song).square().sum() / song.square().sum())
print(f"left out by Open-Unmix: {left_out:.0%} of the energy")
assert left_out < 0.2

# %% [markdown]
# And to see, the network above, the rules below:

# %%
figure, axes = plt.subplots(2, 4, figsize=(10, 4.4), sharey=True, sharex=True)
for row, found in zip(axes, (stems, by_rules)):
    for axis, stem, audio in zip(row, STEMS, found):
        plot_spectrogram(audio, rate, stem, colour_bar=False, db_range=70, loudest=-15, ax=axis)
show(figure, "Ten seconds of the real recording: the network's stems above, chapter 2's below.",
     "Eight spectrograms, one a stem and method. A voice would be a moving ladder of lines, a "
     "bass lines at the bottom, drums upright strokes.")

# %% [markdown]
# Look for what doesn't belong: lines far above a bass in `bass`, steady lines in `drums`, rungs of the singer's ladder missing in `vocals` and present in `other`. A record has
# no stems to say how much is lost against the band's songs. The difference between the songs that a model knows and those that come is called *domain shift*. It
# can be measured wherever the stems are known.
#
# ### Other worlds
#
# A *soundfont* is a file with recordings of single notes of many instruments, from which a synthesiser plays whatever is written. The band can play its test songs,
# note for note, with another one: other recordings of other instruments. And it can play songs in a world of which *nothing* was in any training: other instruments,
# drums, voices and effects. Each row below is a method, each column a set of songs that the network never trained on; the committed file says which sets there are.
# (A stem that is silent throughout a set has no score there and stays out of the means.)

# %%
about = {"band": "the instruments and the singer of the band's own songs",
         "other instruments": "the same test songs on the instruments of another soundfont",
         "unheard": "a world of which nothing was in any training",
         "real recordings": "readers of books over recorded music, drums and bass silent"}
for songs in sets:
    count = len(stored("Open-Unmix", songs=songs))
    print(f"{songs}: {count} songs, {about.get(songs, 'see the card of the results')}")
show_table([[method, *(mean_interval(stored(method, songs=songs).nanmean(1)) for songs in sets)]
            for method in methods], ["mean SDR in dB", *sets], digits=1,
           caption="Whole-song SDR, mean over stems, then over songs, with 95% interval.")

# %% [markdown]
# Two differences say what the table means. The oracle's scores tell how hard a set is for *any* mask: what the network loses **beyond the oracle's change** is what
# it had learned about the instruments of its training, and not about instruments. And rules, which never saw an example, have nothing of the kind to lose: is
# the network's **lead over them** still there?

# %%
def carried_over(songs):
    """The lead over the rules on a set of songs, in words."""
    centre, low, high = mean_interval(ahead_of_rules(songs=songs).nanmean(1))
    verdict = "ahead" if low > 0 else "behind" if high < 0 else "not told apart"
    return [(centre, low, high), verdict]

def beyond_oracle(songs):
    """How much Open-Unmix changes from the band to a set, less the oracle's change: dB.

    Mean over the stems that sound in both.
    """
    change = lambda method: float((stored(method, songs=songs).nanmean(0)
                                   - stored(method).nanmean(0)).nanmean())
    return change("Open-Unmix") - change("ideal ratio mask")

show_table([[songs, *carried_over(songs), None if songs == "band" else beyond_oracle(songs)]
            for songs in sets],
           ["songs", "Open-Unmix less the rules, dB", "so it is", "change beyond the oracle's"],
           digits=1, caption="Paired over the songs of each set: mean and 95% interval.")

# %% [markdown]
# <details><summary>Quick question: from one set to another the oracle falls by 1 dB and the network by 3. What has the network lost?</summary>
#
# 2 dB. One decibel any mask would lose, because the stems of the second set overlap more.
# </details>
#
# Where the verdict reads *ahead* in a world that the network has not heard, some of what it learned carries over; where it reads *not told apart*, too little does to
# be seen in so many songs. Mind the last column where drums and bass are silent: two sources are an easy task for an ideal mask, so that the oracle *rises* there. The number then says
# how little of that ease the network can use, more than what it has lost. The way to a wider
# view is wider training: the published `umxl` was trained on far more music than `umxhq` (and is twice as wide), and scores best of the three for music
# (`data/paper/open_unmix_scores.csv`).
#
# We tried it. `Open-Unmix, wide` went on from the first network with songs of many soundfonts, recorded drum kits, synthetic and
# spoken voices, in part with stems of different songs put together, and with random equalisers, reverbs, compressors and distortion on every stem (`course_lib/data/band/README.md`);
# its weights were then averaged, half and half, with those it came from. Song by song, what did that change?

# %%
of = lambda method, songs: stored(method, songs=songs).nanmean(1)             # (song,)
wider = {songs: of("Open-Unmix, wide", songs) - of("Open-Unmix", songs) for songs in sets}
in_words = lambda low, high: "better" if low > 0 else "worse" if high < 0 else "not told apart"
over_rules = {songs: of("Open-Unmix, wide", songs) - of("chapter 2's best", songs)
              for songs in sets}
show_table([[songs, mean_interval(change), in_words(*mean_interval(change)[1:]),
             mean_interval(over_rules[songs])] for songs, change in wider.items()],
           ["songs", "wide less the first network, dB", "so it is", "wide less the rules, dB"],
           digits=1,
           caption="Paired over the songs of each set: mean and 95% interval.")

# %% [markdown]
# What is gained in one world may be paid for in another, so read the table row by row. The last column asks again whether the network is ahead of rules that never saw an
# example: yes where its interval lies above zero. Two cautions belong to it. How much of the first
# network to keep was chosen after a look at a few of these songs, so the gain is not measured on wholly unseen ones; and readers over recorded music are neither songs
# nor mixed as songs are. By stem, the first network's changes from set to set are uneven:

# %%
changes_of = {songs: (stored("Open-Unmix", songs=songs).nanmean(0)
                      - stored("Open-Unmix").nanmean(0)).tolist() for songs in sets[1:]}
show_table([[f"{songs} less band", *change] for songs, change in changes_of.items()],
           ["Open-Unmix, dB", *STEMS], digits=1)

# %% [markdown]
# ### Where it fails
#
# The songs with the lowest scores, stem by stem:

# %%
names = song_names(rows)
scores = stored("Open-Unmix")                                       # (song, stem)
level = stored("mixture / 4")
worst = scores.nan_to_num(99).argmin(0)
show_table([[stem, names[int(i)], float(scores[i, j]), float(stored("ideal ratio mask")[i, j])]
            for j, (stem, i) in enumerate(zip(STEMS, worst))],
           ["stem", "worst song", "SDR in dB", "ideal ratio mask"], digits=1,
           caption="Open-Unmix, lowest of 20 band test songs per stem.")

# %% [markdown]
# Is a low score the network's fault? The stem may just be quiet: a quarter of the mixture scores low exactly where it is. Or it
# may overlap with the others in time and frequency: then the ideal mask scores low too. We correlate both with the network's
# score over songs:

# %%
ideal = stored("ideal ratio mask")
for name, other in (("a quarter of the mixture", level), ("the ideal mask", ideal)):
    correlation = [float(torch.corrcoef(torch.stack([scores[:, j], other[:, j]]))[0, 1])
                   for j in range(4)]
    print(f"with {name}:", {stem: f"{value:.1f}" for stem, value in zip(STEMS, correlation)})
    assert min(correlation) > 0
agreed = [stem for stem, i, k in zip(STEMS, worst, ideal.nan_to_num(99).argmin(0)) if i == k]
print("network and ideal mask have the same worst song for:", ", ".join(agreed) or "no stem")

# %% [markdown]
# Loudness is part of it: decibels against a quiet reference are hard to get. The ideal mask's score says more. Where network and ideal mask agree on a stem's worst song, that song is hard for
# every mask: its stems lie on the same points of time and frequency. (The worst songs differ from stem to stem; it is within a stem that the two agree.)

# %% [markdown]
# ## 4.15 What we built
#
# | name | what | section |
# |---|---|---|
# | `input_statistics`, `bandwidth_to_max_bin`, `prepare_input` | scale of the input | 4.3, 4.10 |
# | `SpectrogramEncoder`, `MaskHead` | the two halves of the network | 4.7 |
# | `OpenUnmix`, `JointOpenUnmix` | one network a source; one for all | 4.8, 4.9 |
# | `load_official`, `load_release`, `official_open_unmix` | the published weights | 4.8 |
# | `error_level`, `SpectrogramStep`, `stft_sizes` | the loss, the training step, the STFT that a model was made for | 4.10 |
# | `wiener` | the post-filter by expectation-maximisation | 4.12 |
# | `separate`, `separation_scores` | audio in, stems out, and their score | 4.13 |
#
# All of it is in `course_lib.open_unmix`; the training loop is `course_lib.training.fit`.

# %% [markdown]
# ## 4.16 Paper claims
#
# What rests on fewer than six songs, or on the puzzle, *needs real data*. Open-Unmix' published scores are medians over frames and songs of MUSDB18; ours, computed the
# same way, are on the band, whose mixing was tuned towards MUSDB18's oracle scores, so their levels *need real data*.

# %%
paper = {row["model"]: [float(row[stem]) for stem in STEMS]
         for row in published("open_unmix_scores")}["UMX"]
medians = stored("Open-Unmix, EM", "frames, median").nanquantile(0.5, dim=0)     # (stem,)
em_gain, over_rules = gain.nanmean(1), ahead_of_rules().nanmean(1)               # (song,)
change = lambda method: (stored(method, songs=sets[1]) - stored(method)).nanmean(1)
fall = change("ideal ratio mask") - change("Open-Unmix")                         # (song,)
error = lambda one, other: f"error {reached[one]:.2f} against {reached[other]:.2f} (puzzle only)"

# %%
claims = [
    Claim("Multichannel Wiener filtering by EM raises the SDR",
          "Uhlich et al. 2017; Stöter et al. 2019", "4.13", "order only",
          difference_in_words(em_gain), same_trend(em_gain)),
    Claim("It lowers interference (raises the SIR)", "Uhlich et al. 2017", "4.13", "order only",
          difference_in_words(sir_gain), same_trend(sir_gain)),
    Claim("Learned separators beat those without training", "Stöter, Liutkus & Ito 2018", "4.13",
          "order only", difference_in_words(over_rules), same_trend(over_rules)),
    Claim("Memory beats looking at single frames", "Uhlich et al. 2017", "4.5", "order only",
          error("the past", "this frame"), NEEDS_REAL_DATA),
    Claim("Both directions beat one", "this chapter", "4.5", None,
          error("past and future", "the past"), NEEDS_REAL_DATA),
    Claim("Models lose on music unlike their training's", "this chapter", "4.14", None,
          f"lost beyond the oracle: {difference_in_words(fall)}", same_trend(fall)),
]

# %%
for stem, ours, theirs in zip(STEMS, medians.tolist(), paper):
    claims.append(Claim(f"Open-Unmix on {stem}, median SDR", "Stöter et al. 2019", "4.13",
                        f"{theirs:.2f} dB (MUSDB18)", f"{ours:.1f} dB (band)", NEEDS_REAL_DATA))
order = lambda values: ", ".join(stem for _, stem in sorted(zip(values, STEMS), reverse=True))
claims.append(Claim("Which stems are easy, from best to worst", "Stöter et al. 2019", "4.13",
                    order(paper), order(medians.tolist()), NEEDS_REAL_DATA))
show_claims(claims)

# %% [markdown]
# Three remarks. What EM does to the SDR and to its two kinds of error is discussed in section 4.13. Memory and direction were tried on a puzzle that was *made* to need them: it shows the mechanism, not the size of
# the gain on music. And the comparison of one joint network with four single ones, which the literature discusses, is not made here: it would
# take a training of each for as long as it needs (exercise 6).

# %% [markdown]
# ## 4.17 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded
# [assignment of this chapter](assignments/04_open_unmix.ipynb) has more tasks, with checks.
#
# **1. Count.** How many parameters has an LSTM layer with input size $n$ and hidden size $h$, in one direction and in both? Check it on the BLSTM of Open-Unmix.
#
# <details><summary>Answer</summary>
#
# Four gates, each with $h \times n$ and $h \times h$ weights and, in PyTorch, two biases: $4h(n + h + 2)$, twice that for
# both directions. Here each direction has half the hidden size, and each layer reads all of the one below.
#
# ```python
# lstm_size = lambda n, h: 4 * h * (n + h + 2)
# model = OpenUnmix(33, 2, 16)
# counted = sum(tensor.numel() for name, tensor in model.named_parameters() if name.startswith("lstm"))
# assert counted == 3 * 2 * lstm_size(16, 8)
# ```
# </details>
#
# **2. A low-pass filter.** Turn Open-Unmix into a filter that lets the lowest ten bins through and nothing else, by
# `output_scale` and `output_mean` only, whatever its other weights are. Why can these two mute a bin, but not a channel?
#
# <details><summary>Answer</summary>
#
# With scale 0 the mask is $\operatorname{ReLU}(b)$ (eq. 4.7): shift 1 lets a bin through, shift 0 or anything below it mutes it. Both hold
# one number a *bin*, which all channels share, so with scale 0 the channels always get the same mask.
#
# ```python
# model, x = OpenUnmix(33, 2, 16).eval(), torch.rand(1, 2, 33, 8)
# with torch.no_grad():
#     model.output_scale.zero_()
#     model.output_mean[10:] = -3.0
#     filtered = model(x)
#     assert torch.equal(filtered[:, :, :10], x[:, :, :10]) and (filtered[:, :, 10:] == 0).all()
#     assert model.output_mean.shape == model.output_scale.shape == (33,)           # nothing says: left, right
#     model.output_mean.copy_(torch.randn(33))
#     masks = model(torch.ones_like(x))
#     assert torch.equal(masks[:, 0], masks[:, 1])
# ```
# </details>
#
# **3. Live.** A musician wants to use the separator on stage. Which argument makes that possible, and how would you prove that
# it does not cheat?
#
# <details><summary>Answer</summary>
#
# `unidirectional=True`. Change the future and watch the past: it must not move. (The STFT's frame still looks half a frame
# ahead, and EM uses 300 frames at a time: a live system does without it.)
#
# ```python
# model, x = OpenUnmix(33, 2, 16, unidirectional=True).eval(), torch.rand(1, 2, 33, 20)
# changed = x.clone()
# changed[..., 12:] = torch.rand(1, 2, 33, 8)
# with torch.no_grad():
#     assert torch.equal(model(x)[..., :12], model(changed)[..., :12])
#     two_ways = OpenUnmix(33, 2, 16).eval()
#     assert not torch.equal(two_ways(x)[..., :12], two_ways(changed)[..., :12])
# ```
# </details>
#
# **4. Karaoke.** You have a network for the vocals only. How do you get the accompaniment, with EM, and what do the two add up to?
#
# <details><summary>Answer</summary>
#
# `residual=True` adds a second source, what the vocals leave of the mixture; EM refines both. They add up to the mixture.
#
# ```python
# torch.manual_seed(0)
# vocals = {"vocals": OpenUnmix(513, 2, 16).eval()}
# mixture = 0.1 * torch.randn(2, 20000)
# with torch.no_grad():
#     both = separate(vocals, mixture, 1024, 256, niter=1, residual=True)       # (source, channel, time)
# assert both.shape == (2, 2, 20000)
# assert (both.sum(0) - mixture).square().sum() < 1e-4 * mixture.square().sum()
# ```
# </details>
#
# **5. Why EM needs two channels to teach it something.** Show that for a mono mixture a second round learns nothing new:
# after one round, each source's share of the power only moves further towards the louder one.
#
# <details><summary>Answer</summary>
#
# With one channel $R_j$ is a positive number near 1, so a round squares the shares: $m_j = v_j / \sum_i v_i$, and the next $v_j$ is $m_j^2 |X|^2$. The
# larger share grows, the smaller shrinks, whatever the other frames say.
#
# ```python
# X = torch.randn(1, 1, 50, dtype=torch.complex64)
# magnitudes = torch.tensor([0.6, 0.4]).view(2, 1, 1, 1) * X.abs()
# once, twice = wiener(magnitudes, X, 1), wiener(magnitudes, X, 2)
# share = lambda Y: (Y[0].abs() / X.abs()).mean()
# assert abs(share(once) - 0.36 / 0.52) < 0.01 and share(twice) > share(once) + 0.1
# ```
# </details>
#
# **6. Open.** Copy `course_lib/training/configs/open_unmix_band.yaml`, give it another `name`, and delete `keep`, so that it leaves the
# course's weights alone; a run takes over an hour on one core (section 4.11's card) and 11 GB of songs, fewer if `tracks` names fewer. Train
# with half the songs, or without augmentation, or four single networks instead of a joint one (for the vocals `sources: [vocals]` under
# `model` and `targets: [vocals]` under `step`), and compare on the validation songs. Which of them matters most? Give every
# variant the same number of steps and two seeds before you believe a difference.

# %% [markdown]
# ## 4.18 Sources
#
# - S. Hochreiter and J. Schmidhuber, *Long short-term memory*, Neural Computation 1997.
# - S. Ioffe and C. Szegedy, *Batch normalization*, ICML 2015; D. P. Kingma and J. Ba, *Adam*, ICLR 2015.
# - S. Uhlich, M. Porcu, F. Giron, M. Enenkl, T. Kemp, N. Takahashi and Y. Mitsufuji, *Improving music source separation based on deep neural networks through data augmentation and network blending*, ICASSP 2017.
# - F.-R. Stöter, S. Uhlich, A. Liutkus and Y. Mitsufuji, *Open-Unmix: a reference implementation for music source separation*, JOSS 2019; the package `openunmix` (MIT).
# - A. P. Dempster, N. M. Laird and D. B. Rubin, *Maximum likelihood from incomplete data via the EM algorithm*, JRSS B 1977.
# - N. Q. K. Duong, E. Vincent and R. Gribonval, *Under-determined reverberant audio source separation using a full-rank spatial covariance model*, IEEE TASLP 2010.
# - A. A. Nugraha, A. Liutkus and E. Vincent, *Multichannel music separation with deep neural networks*, EUSIPCO 2016 (EM as here).
# - F.-R. Stöter, A. Liutkus and N. Ito, *The 2018 Signal Separation Evaluation Campaign*, LVA/ICA 2018.
# - E. Gusó, J. Pons, S. Pascual and J. Serrà, *On loss functions and evaluation metrics for music source separation*, ICASSP 2022 (the joint network).
# - S. Wisdom, E. Tzinis, H. Erdogan, R. J. Weiss, K. Wilson and J. R. Hershey, *Unsupervised sound separation using mixture invariant training*, NeurIPS 2020 (the loss's threshold).
#
# Recording: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive under CC BY 3.0, as shipped for `librosa.ex`.
