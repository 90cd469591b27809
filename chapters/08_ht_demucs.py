# %% [markdown]
# # Chapter 8 · HT Demucs, a transformer between two U-Nets
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/08_ht_demucs.ipynb)
#
# Hybrid Demucs (chapter 7) looks at a song in two ways at once, and the two views meet in a single addition. Hybrid Transformer
# Demucs, the fourth version, lets them *talk*: between the two U-Nets stands a transformer, in which every step of the one
# can listen to every step of itself and of the other, however far away. With 800 more songs to learn from it beat its
# forerunner clearly. You build the real one: it has the tensor names of the
# package `demucs`, and gives the same output to five digits.
#
# **You will be able to**
# - compute attention by hand, by loops and by one matrix product, and say why it is divided by $\sqrt d$,
# - tell a set of tokens *where* each one is, in one dimension and in two,
# - build a transformer layer from its parts, and say what each is for,
# - let two branches of unequal length listen to each other,
# - assemble HT Demucs and count the parameters of the published networks,
# - read what a trained cross attention listens to.
#
# **You need** chapter 7 (two branches, complex channels, residual branches); nothing about transformers.
#
# **Time** <!-- minutes 08_ht_demucs -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 8.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp htdemucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("08_ht_demucs", cpu=dict(seconds=4.0), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/htdemucs.py`. Layers, transforms and both ends are chapter 7's; new is the middle.

# %%
#| export
import inspect
import math
import random
from collections.abc import Sequence
from fractions import Fraction
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.demucs import LayerScale, rescale_module
from course_lib.hdemucs import (HybridEnds, HybridPasses, LayerMaker, ScaledEmbedding, TwoUNets,
                                check_mixture, layer_sizes)

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from course_lib.classic import separate_unsupervised
from course_lib.data import STEMS, open_tracks
from course_lib.data.mono import mono_tracks
from course_lib.data.recordings import attribution, recording
from course_lib.demucs import separate
from course_lib.experiments import htdemucs as experiment
from course_lib.experiments import real_songs as on_real_songs
from course_lib.hdemucs import (HDecLayer, HDemucs, HEncLayer, aligned_istft, aligned_stft,
                                channels_as_complex, complex_as_channels, standardised)
from course_lib.notebook import (Diagram, listen, mean_interval, plot_losses, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.results import measured, measured_card, published, shipped_file
from course_lib.spectral import stft
from course_lib.training import load_trained, read_card

# %% [markdown]
# ## 8.1 What two U-Nets don't tell each other
#
# Music repeats itself. Whoever wants to know what the guitar plays *now*, under a loud drum, may remember what it played a
# bar ago, when the drums paused. Listen to eight seconds of a real recording.

# %%
rate = 22_050
real, _ = recording("fishin", start=12.0, seconds=8.0, mono=True, rate=rate)
listen(real, rate, "Karissa Hobbs, Let's Go Fishin'")

# %% [markdown]
# How much of it comes back? Cut it into pieces of 0.1 s, describe each by its spectrum (the logarithm of the magnitudes below
# 4 kHz, less the recording's mean), and compare every piece with every other by the cosine of the angle between them: 1 is
# the same, 0 unrelated.

# %%
def tokens_of(audio, width=4, bins=372):
    """Audio (1, time) as tokens (token, bin): log spectra of 0.1 s, less their mean, of norm 1."""
    magnitude = stft(audio, 2048, 512)[0, :bins].abs()              # (bin, frame)
    count = magnitude.shape[-1] // width
    means = magnitude[:, :count * width].unflatten(-1, (count, width)).mean(-1).T
    x = (1e-2 + means).log()                                        # (token, bin)
    return F.normalize(x - x.mean(0), dim=-1)

tokens = tokens_of(real)
alike = tokens @ tokens.T                                           # (token, token)

# %% [markdown]
# Dark squares beside the diagonal are notes that last; lines parallel to it are passages that return.

# %%
figure, axis = plt.subplots(figsize=(4.6, 3.9))
picture = axis.imshow(alike, origin="lower", extent=(0, 8, 0, 8), vmin=0, vmax=1, cmap="Blues")
axis.set(xlabel="time, s", ylabel="time, s")
figure.colorbar(picture, label="likeness")
show(figure, "Every tenth of a second against every other: dark is alike.",
     "A square of blue cells with a dark diagonal, dark blocks along it and stripes beside it.")

# %% [markdown]
# For a number, take for each piece its best match that is at least a second away:

# %%
far = (torch.arange(len(tokens))[:, None] - torch.arange(len(tokens))).abs() >= 11
best_far = alike.masked_fill(~far, -1).max(1).values
print(f"a piece and its best match a second or more away: {float(best_far.mean()):.1f}; "
      f"and any two pieces: {round(float(alike[far].mean()), 1) + 0.0:.1f}")
assert best_far.mean() > alike[far].mean() + 0.3

# %% [markdown]
# Do the networks that we have use it? A test: let a trained network separate the recording; then silence everything that is
# more than $d$ seconds away from the middle, separate again, and see how much the estimate changes *in* the middle. A network that
# doesn't listen beyond $d$ changes nothing.

# %%
@torch.no_grad()
def change_in_the_middle(model, audio, reach, estimate=separate):
    """How much the middle quarter second's estimates change, in dB of them, without what is
    farther away than `reach` seconds."""
    middle, near = audio.shape[-1] // 2, round(reach * rate)
    cut = torch.zeros_like(audio)
    cut[:, middle - near:middle + near] = audio[:, middle - near:middle + near]
    piece = slice(middle - rate // 8, middle + rate // 8)
    whole, less = (estimate(model, x)[..., piece] for x in (audio, cut))
    return float(10 * ((whole - less).square().sum() / whole.square().sum()).log10())

# %% [markdown]
# Chapter 7's committed hybrid, on four seconds of the recording:

# %%
hybrid_net = load_trained("hdemucs_band")
four = real[:, :round(P.seconds * rate)]
reaches = (0.25, 0.5, 1.0)
hybrid_changes = [change_in_the_middle(hybrid_net, four, reach) for reach in reaches]
show_table([[f"{reach:g} s", change] for reach, change in zip(reaches, hybrid_changes)],
           ["without what is farther than", "change, dB"], digits=0,
           caption="Hybrid Demucs (hdemucs_band), all stems, four seconds of the recording.")
assert hybrid_changes == sorted(hybrid_changes, reverse=True)

# %% [markdown]
# What is a second away changes little, and in part it isn't even listening: both branches standardise their input by the level of all of it. The hybrid has
# a BLSTM and a local attention in its inner layers, but the far past must come through them step by step, and attention pays a price for each step. And the branches? They are
# *added*, once, step $m$ to step $m$. If the time branch knows where a drum was hit, it can tell the frequency branch in that very step, and
# in no other.
#
# So the design of 2022: keep both U-Nets apart, four layers each, and put between them something in which **every step may
# ask every other step, of both branches**. In the published size, for 7.8 s of stereo at 44.1 kHz:

# %%
d = Diagram()
mix_in = d.block("mixture", "2 x 343980", kind="data")
X_in = d.block("STFT, complex\nas channels", "4 x 2048 x 336", after=mix_in, shift=0.75)
enc = d.block("frequency\nencoder", "384 x 8 x 336", after=X_in, kind="trained", repeat=4)
tenc = d.block("time encoder", "384 x 1344", kind="trained", repeat=4, at=(enc.x, -0.75))
d.arrow(mix_in, tenc)
z = d.block("self and cross\nattention", "2688 tokens", after=enc, kind="trained", gap=0.32)
t = d.block("self and cross\nattention", "1344 tokens", kind="trained", at=(z.x, -0.75))
d.arrow(tenc, t)
d.arrow(z, t)
d.arrow(t, z)
d.group([z, t], "transformer, 5 layers")

# %% [markdown]
# And the decoders; the skips join layers of the same size as before:

# %%
dec = d.block("frequency\ndecoder", "16 x 2048 x 336", after=z, kind="trained", repeat=4, gap=0.32)
tdec = d.block("time decoder", "8 x 343980", kind="trained", repeat=4, at=(dec.x, -0.75))
d.arrow(t, tdec)
d.arrow(enc, dec, "skips", route="over", reach=0.4)
d.arrow(tenc, tdec, "skips", route="under", reach=0.4)
inv = d.block("inverse\nSTFT", "8 x 343980", after=dec, gap=0.32)
plus = d.join("+", after=[inv, tdec])
out = d.block("sources", "8 x 343980", after=plus, kind="data", gap=0.25)
show(d.draw(), "HT Demucs. Channels x bins x frames above, channels x steps below; the layers make "
     "48 x 512 x 336, 96 x 128, 192 x 32, 384 x 8 x 336 and 48 x 85995, 96 x 21499, 192 x 5375, "
     "384 x 1344.", d.in_words())

# %% [markdown]
# A **token** is what one place of the last layer holds: a vector of 384 channels. There are $8 \cdot 336 = 2688$ of them in the
# frequency branch and 1344 in the time branch. The rest of the chapter builds what they do with each other.

# %%
bins, frames, steps = 2048 // 4 ** 4, -(-343_980 // 1024), -(-343_980 // 4 ** 4)
print(f"{bins} bins x {frames} frames = {bins * frames} tokens, and {steps} steps")
assert (bins * frames, steps) == (2688, 1344)

# %% [markdown]
# ## 8.2 Attention on something one can see
#
# Let one token look for others that resemble it, and take over what they hold. Its **query** $q$ says what it looks for; each
# of the others, $n$, shows a **key** $k_n$ and holds a **value** $v_n$. How well they fit is the scalar product $q \cdot k_n$. A
# softmax makes weights of the products, which are positive and add up to 1, and the answer is the weighted mean of the values:
#
# $$ w_n = \frac{\exp(q \cdot k_n / \sqrt d)}{\sum_j \exp(q \cdot k_j / \sqrt d)}, \qquad
#    \text{answer} = \sum_n w_n v_n, \tag{8.1} $$
#
# $d$ is the number of entries of $q$. The smallest case, two entries and three keys:

# %%
q = torch.tensor([2.0, 0.0])
k = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])          # fits, doesn't matter, opposes
v = torch.tensor([10.0, 20.0, 30.0])
w = (k @ q / 2 ** 0.5).softmax(0)
print("weights", [round(x, 2) for x in w.tolist()], "answer", round(float(w @ v), 1))
assert abs(float(w.sum()) - 1) < 1e-6 and w[0] > w[1] > w[2]

# %% [markdown]
# All queries at once, first by loops, as the formula reads:

# %%
def attend_by_loops(Q, K, V):
    """Eq. 8.1 for queries (query, d), keys (key, d), values (key, c): answers (query, c)."""
    answers = torch.zeros(len(Q), V.shape[-1])
    for m, q in enumerate(Q):
        fits = [math.exp(float(q @ k) / len(q) ** 0.5) for k in K]
        for fit, v in zip(fits, V):
            answers[m] += fit / sum(fits) * v
    return answers

# %% [markdown]
# Then with the products as one matrix, a row a query. Both must agree:

# %%
def attend(Q, K, V):
    """Eq. 8.1: answers (query, c), and the weights (query, key)."""
    weights = (Q @ K.mT / Q.shape[-1] ** 0.5).softmax(-1)
    return weights @ V, weights

Q, K, V = (torch.randn(n, 8, generator=P.generator) for n in (5, 7, 7))
assert torch.allclose(attend(Q, K, V)[0], attend_by_loops(Q, K, V), atol=1e-5)

# %% [markdown]
# Now with sound. A trumpet plays a few notes, some of them more than once. Listen:

# %%
trumpet, _ = recording("trumpet", mono=True, rate=rate, seconds=3.0)
listen(trumpet, rate, "Mihai Sorohan, solo trumpet")

# %% [markdown]
# Its tokens are made as above. Query and key are the token itself, times a number that makes the softmax sharp. Look at the
# weights: a row is one moment, and what it listens to.

# %%
notes = tokens_of(trumpet)                                          # (token, bin)
sharp = 2 * notes.shape[-1] ** 0.25                              # so that q k / sqrt(d) is 4 cos
_, weights = attend(sharp * notes, sharp * notes, notes)
figure, (above, below) = plt.subplots(2, 1, figsize=(6.4, 5.6), gridspec_kw=dict(
    height_ratios=(1, 2.6)), sharex=True)
plot_spectrogram(trumpet, rate, "", ax=above, colour_bar=False, top=4000)
end = len(notes) * 2048 / rate
below.imshow(weights.sqrt(), origin="lower", extent=(0, end, 0, end), aspect="auto", cmap="Blues")
below.set(xlabel="key: what is listened to, s", ylabel="query: who listens, s", xlim=(0, end))
show(figure, "The trumpet, and its attention to itself (square roots of the weights).",
     "A spectrogram with horizontal lines for notes; beneath it a square of cells, dark in "
     "blocks where two moments hold the same note.")

# %% [markdown]
# What is blue away from the diagonal is the same note, played again. Nobody said which moments belong together. What is it good for? Add noise to the
# tokens. A moment alone can't know what is note and what is noise; a mean over its likes can, for the noise is different in each of them.

# %%
noise = torch.randn(notes.shape, generator=P.generator) / notes.shape[-1] ** 0.5
noisy = notes + 0.7 * noise                                         # half as much power as the note
answers, _ = attend(sharp * noisy, sharp * noisy, noisy)
error = lambda x: float((x - notes).square().sum() / notes.square().sum())
show_table([["noisy tokens", error(noisy)], ["after attention", error(answers)]],
           ["tokens", "error / clean"], digits=1,
           caption=f"{len(notes)} tokens of the trumpet.")
assert error(answers) < 0.8 * error(noisy)

# %% [markdown]
# **Why $\sqrt d$?** The product of two vectors of $d$ random entries of variance 1 is a sum of $d$ terms of variance 1, so its deviation is
# $\sqrt d$. Undivided, the softmax would take one key and nothing else as soon as $d$ is large, and hardly any gradient comes through.

# %%
rows = []
for size in (4, 64, 1024):
    Q, K = (torch.randn(200, size, generator=P.generator) for _ in range(2))
    products = Q @ K.T
    rows.append([size, float(products.std()), float(products.softmax(-1).max(-1).values.mean()),
                 float((products / size ** 0.5).softmax(-1).max(-1).values.mean())])
show_table(rows, ["d", "deviation of q k", "largest weight", "largest weight, divided by √d"],
           digits={"deviation of q k": 0, "largest weight": 1, "largest weight, divided by √d": 2},
           caption="200 random queries and keys; equal weights would be 0.005.")
assert rows[2][2] > 0.8 and rows[2][3] < 0.2

# %% [markdown]
# <details><summary>Quick question: with 4032 tokens, how many weights does a layer of self attention in both branches and of cross attention in both
# compute, for 7.8 s? And for twice the length?</summary>
#
# Self: $2688^2 + 1344^2 = 9.0$ million; cross: $2 \cdot 2688 \cdot 1344 = 7.2$ million, in each head. Twice the length: four times as many. Chapter 8b
# looks for the few that matter.
# </details>

# %% [markdown]
# ## 8.3 Several heads
#
# In a network, queries, keys and values are not the tokens but three learned pictures of them, $q = W_q x + b_q$ and so on: the
# network learns what to look for, what to show and what to hand over. And a single softmax has a single set of weights. Whoever
# wants the last drum hit *and* the same chord a bar ago would get a mixture of both. So the channels are divided among $H$ **heads**, each
# with its own weights, whose answers stand side by side and are mixed once more:
#
# $$ \text{head}_h = \text{attend}(W_q^h x,\; W_k^h y,\; W_v^h y), \qquad
#    \text{MHA}(x, y) = W_o\,[\text{head}_1, \dots, \text{head}_H] + b_o. \tag{8.2} $$
#
# $x$ are the tokens that ask, $y$ those that are asked. The class keeps the three matrices on top of each other, as PyTorch does, and leaves softmax and means to a fused routine, which
# never stores all weights at once.

# %%
#| export
class MultiheadAttention(nn.Module):
    """Every query gathers what the keys hold, in several heads (eq. 8.1, 8.2).

    embed_dim: channels of queries, keys and output; num_heads: among which they are divided, else
    ValueError. dropout: of the weights, in training. forward(query, key): (batch, query, channel)
    and (batch, key, channel) to (batch, query, channel); without key, queries attend to each
    other. Tensor names, and first weights, as torch.nn.MultiheadAttention. Source: Vaswani et al.
    2017; section 8.3.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim is {embed_dim} and num_heads {num_heads}; expected a "
                             "multiple of it")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def heads(self, x: Tensor, first: int, last: int) -> list[Tensor]:
        """Projections number `first` to `last` (query 0, key 1, value 2) of tokens, by heads:
        (batch, token, channel) to (batch, head, token, channel of a head) each."""
        rows = slice(first * self.embed_dim, (last + 1) * self.embed_dim)
        y = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        y = y.unflatten(-1, (last + 1 - first, self.num_heads, -1))   # (batch, token, 3, head, c)
        return list(y.permute(2, 0, 3, 1, 4))

    def forward(self, query: Tensor, key: Tensor | None = None) -> Tensor:
        if key is None:
            q, k, v = self.heads(query, 0, 2)
        else:
            (q,), (k, v) = self.heads(query, 0, 0), self.heads(key, 1, 2)
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(heard.transpose(1, 2).flatten(2))        # (batch, query, channel)

# %% [markdown]
# The same by loops over heads, written as (8.2):

# %%
def heads_by_loops(module, x, y):
    """Eq. 8.2 for one item: x (query, channel), y (key, channel), with the module's weights."""
    W, b = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
    Q, K, V = (z @ W[i].T + b[i] for i, z in enumerate((x, y, y)))
    size = module.embed_dim // module.num_heads
    heads = [attend(*(z[:, h * size:(h + 1) * size] for z in (Q, K, V)))[0]
             for h in range(module.num_heads)]
    return torch.cat(heads, -1) @ module.out_proj.weight.T + module.out_proj.bias

# %% [markdown]
# It must agree with the loops, and with PyTorch's own class, whose weights have the same names:

# %%
torch.manual_seed(0)
ours = MultiheadAttention(16, 4)
theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
theirs.load_state_dict(ours.state_dict())
x, y = (torch.randn(2, n, 16, generator=P.generator) for n in (5, 7))
with torch.no_grad():
    assert torch.allclose(ours(x, y)[0], heads_by_loops(ours, x[0], y[0]), atol=1e-5)
    assert torch.allclose(ours(x, y), theirs(x, y, y)[0], atol=1e-5)
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-5)
print(f"{sum(p.numel() for p in ours.parameters())} weights: 4 x 16 x 16 and 4 x 16 biases")

# %% [markdown]
# See what heads are for. The value of each token is its own number; token 0 is to hear the mean of token 2, and, apart from it, that of token 5. With one head
# of two channels the two arrive as one mean; with two heads of one channel each they stay apart.

# %%
values = torch.tensor([0.0, 0, 3, 0, 0, 8])
fits = torch.full((2, 6), -20.0)
fits[0, 2], fits[1, 5] = 20.0, 20.0                                 # what each head looks for
apart = fits.softmax(-1) @ values
together = fits.logsumexp(0).softmax(-1) @ values
print(f"two heads: {[round(x, 1) for x in apart.tolist()]}; one head that wants both: "
      f"{float(together):.1f}")
assert torch.allclose(apart, torch.tensor([3.0, 8.0]), atol=1e-3) and abs(together - 5.5) < 1e-3

# %% [markdown]
# ## 8.4 Where a token is
#
# Shuffle the tokens, and each still gives the same answer: attention has no idea of order. A sum doesn't care in which order
# it is added up.

# %%
shuffled = torch.randperm(7, generator=P.generator)
with torch.no_grad():
    y = torch.randn(1, 7, 16, generator=P.generator)
    assert torch.allclose(ours(y)[:, shuffled], ours(y[:, shuffled]), atol=1e-6)
print("attention of shuffled tokens is the shuffled attention")

# %% [markdown]
# So each token gets a vector added that says where it is. One number, such as the time in steps, would be hard to read for a scalar product. Better are the hands
# of many clocks, from a fast one to a very slow one. With $C$ channels and a longest period of $2\pi P$ steps, $P = 10000$:
#
# $$ p_{t,j} = \cos\frac{t}{P^{\,j/(C/2-1)}}, \qquad p_{t,\,C/2+j} = \sin\frac{t}{P^{\,j/(C/2-1)}}, \qquad j = 0 \dots C/2 - 1.
#    \tag{8.3} $$

# %%
#| export
def sin_positions(length: int, dim: int, max_period: float = 10000.0, shift: int = 0) -> Tensor:
    """A vector for each step in time, (length, dim): cosines, then sines, of ever slower phases
    (eq. 8.3).

    dim: even and >= 4, else ValueError. max_period: of the slowest, over 2 pi. shift: of the first
    step. Source: Vaswani et al. 2017, in the form of HT Demucs; section 8.4.
    """
    return _waves(shift + torch.arange(length), dim, max_period)


def _waves(positions: Tensor, dim: int, max_period: float) -> Tensor:
    """(..., length) to (..., length, dim)."""
    if dim < 4 or dim % 2:
        raise ValueError(f"dim is {dim}; expected an even number of channels from 4 on")
    half = dim // 2
    phase = positions[..., None] / max_period ** (torch.arange(half) / (half - 1))
    return torch.cat([phase.cos(), phase.sin()], -1)

# %% [markdown]
# Why clocks? Because $\cos a \cos b + \sin a \sin b = \cos(a - b)$, the product of two positions depends on their *distance* alone:

# %%
positions = sin_positions(200, 64)
product = positions @ positions.T / 32                              # 1 for the same place
assert torch.allclose(product[50, 60], product[120, 130], atol=1e-4)
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3))
left.imshow(positions.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
left.set(xlabel="step t", ylabel="channel")
right.plot(range(-100, 100), product[100])
right.set(xlabel="distance in steps", ylabel="product, 1 for the same place")
show(figure, "Left: the vectors, cosines above, sines beneath. Right: how alike two places are.",
     "Left stripes that grow wider downwards, twice; right a curve with a sharp peak at 0 that "
     "falls towards both sides.")

# %% [markdown]
# With positions, shuffling is noticed:

# %%
with torch.no_grad():
    placed = y + sin_positions(7, 16)
    moved = y[:, shuffled] + sin_positions(7, 16)
    change = (ours(placed)[:, shuffled] - ours(moved)).abs().max()
print(f"now shuffling changes the answers: {bool(change > 1e-2)}")
assert change > 1e-2

# %% [markdown]
# **In two dimensions.** A token of the frequency branch has a frame $t$ *and* a bin $f$. The first half of the channels tells the one, the second the other; sine and cosine
# alternate, and the exponent is a little different from (8.3):
#
# $$ p_{2i}(f, t) = \sin\frac{t}{P^{\,2i/(C/2)}}, \quad p_{2i+1}(f, t) = \cos\frac{t}{P^{\,2i/(C/2)}}, \qquad i = 0 \dots C/4 - 1,
#    \tag{8.4} $$
#
# and $p_{C/2+2i}$, $p_{C/2+2i+1}$ the same with $f$ in the place of $t$.

# %%
#| export
def sin_positions_2d(dim: int, bins: int, frames: int, max_period: float = 10000.0) -> Tensor:
    """A vector for each place of a spectrogram, (dim, bins, frames): the first half of the channels
    knows the frame, the second the bin; sine and cosine in turn (eq. 8.4).

    dim: a multiple of 4, else ValueError. Source: Rouard, Massa and Défossez 2022; section 8.4.
    """
    if dim % 4:
        raise ValueError(f"dim is {dim}; expected a multiple of 4: sine and cosine, twice")
    half = dim // 2
    rates = torch.exp(torch.arange(0.0, half, 2) * -(math.log(max_period) / half))
    def waves(count: int) -> Tensor:
        phase = torch.arange(float(count)) * rates[:, None]             # (rate, place)
        return torch.stack([phase.sin(), phase.cos()], 1).flatten(0, 1)
    in_time = waves(frames)[:, None, :].expand(-1, bins, -1)
    in_frequency = waves(bins)[:, :, None].expand(-1, -1, frames)
    return torch.cat([in_time, in_frequency])

# %% [markdown]
# Four channels of 64, and how alike the place in the middle is to all others:

# %%
places = sin_positions_2d(64, 8, 60)                                # (channel, bin, frame)
figure, axes = plt.subplots(1, 5, figsize=(10, 1.9), sharey=True, sharex=True)
for axis, channel in zip(axes, (0, 8, 32, 36)):
    axis.imshow(places[channel], aspect="auto", cmap="RdBu", vmin=-1, vmax=1, origin="lower")
    axis.set(title=f"channel {channel}", xlabel="frame")
here = torch.einsum("c,cft->ft", places[:, 4, 30], places) / 32
axes[4].imshow(here, aspect="auto", cmap="Blues", origin="lower")
axes[4].set(title="like (4, 30)", xlabel="frame")
axes[0].set_ylabel("bin")
show(figure, "The first half of the channels changes with the frame only, the second with the bin.",
     "Four pictures with upright or level stripes, and one with a dark cross in the middle.")

# %% [markdown]
# And the check:

# %%
assert torch.equal(places[:32, 0], places[:32, 7]) and torch.equal(places[32:, :, 0],
                                                                   places[32:, :, 9])
assert here.argmax() == 4 * 60 + 30 and abs(float(here[4, 30]) - 1) < 1e-5

# %% [markdown]
# **Other ways.** The official code knows three more, for the time branch. *Learned*: chapter 7's `ScaledEmbedding`, a vector a step; it ends where the
# training chunks ended. *Random shift*: the count begins anywhere, so that the network can't rely on absolute places. *CAPE* (Likhomanenko et al.
# 2021): places are real numbers, counted from the middle, and training moves, jitters and stretches them, so that no grid can be learned by heart.

# %%
#| export
def cape_positions(length: int, dim: int, batch: int, max_period: float = 10000.0,
                   mean_normalize: bool = True,
                   moves: Sequence[float] | None = None) -> Tensor:
    """Continuous positions that training moves at random: (batch, length, dim).

    mean_normalize: count from the middle. moves: largest shift of all, largest shift of each step,
    largest factor; None: none of them. Draws from torch's global generator. Source: Likhomanenko
    et al. 2021 (CAPE); section 8.4.
    """
    positions = torch.arange(float(length)).expand(batch, -1)           # (batch, length)
    if mean_normalize:
        positions = positions - positions.mean(-1, keepdim=True)
    if moves is not None:
        shift, jitter, factor = moves
        uniform = lambda *size: 2 * torch.rand(size) - 1
        positions = positions + shift * uniform(batch, 1) + jitter * uniform(batch, length)
        positions = positions * torch.exp(math.log(factor) * uniform(batch, 1))
    return _waves(positions, dim, max_period)

# %% [markdown]
# In evaluation nothing moves. In training every item of a batch gets its own shift, jitter and factor. A shift of everything leaves the products as they are:

# %%
still = cape_positions(5, 16, batch=1)
assert torch.allclose(still[0, 2], _waves(torch.tensor(0.0), 16, 10000.0))     # the middle is 0
torch.manual_seed(0)
shifted = cape_positions(5, 16, batch=2, moves=(50.0, 0.0, 1.0))
products = shifted @ shifted.mT
assert not torch.allclose(shifted[0], shifted[1], atol=0.1)
assert torch.allclose(products[0], products[1], atol=1e-3)
print("shifted: other vectors, equal products")

# %% [markdown]
# ## 8.5 A layer
#
# Attention lets tokens listen; a small network, the same for each token, then thinks about what was heard. Both parts are *added* to
# what was there, as in chapter 7's residual branches. In full, for tokens $x$:
#
# $$ y = x + \gamma_1 \odot \text{MHA}\big(\text{LN}_1(x), \text{LN}_1(x)\big), \qquad
#    z = y + \gamma_2 \odot \big(W_2\, \text{GELU}(W_1\, \text{LN}_2(y) + b_1) + b_2\big), \qquad
#    \text{out} = \text{GN}(z). \tag{8.5} $$
#
# $\text{LN}$, **LayerNorm**, brings each token to mean 0 and deviation 1 over its channels, so that no token shouts. $W_1$ makes four times as many channels, $W_2$ goes back. $\gamma_1$, $\gamma_2$ are
# chapter 6's `LayerScale`, a number a channel, $10^{-4}$ at the start.

# %%
d = Diagram()
x_in = d.block("x", "(token, channel)", kind="data")
ln = d.block("LN", "", after=x_in, kind="trained", gap=0.5)
att = d.block("attention", "8 heads", after=ln, kind="trained")
g1 = d.block("$\\gamma_1$", "", after=att, kind="trained")
plus1 = d.join("+", after=g1)
ln2 = d.block("LN", "", after=plus1, kind="trained", gap=0.5)
ffn = d.block("linear, GELU,\nlinear", "384 - 1536 - 384", after=ln2, kind="trained")
g2 = d.block("$\\gamma_2$", "", after=ffn, kind="trained")
plus2 = d.join("+", after=g2)
gn = d.block("GN", "", after=plus2, kind="trained")
d.arrow(x_in, plus1, route="over")
d.arrow(plus1, plus2, route="under", reach=0.4)
show(d.draw(), "A layer of self attention, eq. 8.5.", d.in_words())

# %% [markdown]
# The last norm, $\text{GN}$, is a **GroupNorm** with one group: mean and deviation are taken over *all tokens and channels together*. Why another kind? After LayerNorm all tokens are equally strong. Here a
# quiet token among loud ones stays quiet.

# %%
#| export
class TokenGroupNorm(nn.GroupNorm):
    """GroupNorm of tokens: (batch, token, channel); with one group over all tokens and channels.

    Source: Rouard, Massa and Défossez 2022; section 8.5.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.num_groups > 1:
            return super().forward(x.mT).mT
        normalised = F.layer_norm(x, x.shape[1:], eps=self.eps)
        return torch.addcmul(self.bias, normalised, self.weight)

# %% [markdown]
# Two tokens, one a hundred times quieter than the other:

# %%
pair = torch.randn(1, 2, 8, generator=P.generator) * torch.tensor([[1.0], [0.01]])
with torch.no_grad():
    by_token, together = nn.LayerNorm(8)(pair), TokenGroupNorm(1, 8)(pair)
spread = lambda x: float(x[0, 1].std() / x[0, 0].std())
print(f"quiet / loud: LayerNorm {spread(by_token):.2f}, all tokens together {spread(together):.2f}")
assert spread(by_token) > 0.9 and spread(together) < 0.05
by_hand = (pair - pair.mean()) / (pair.var(unbiased=False) + 1e-5).sqrt()
assert torch.allclose(together, by_hand, atol=1e-5)

# %% [markdown]
# What this layer shares with the one of the next section goes into a base class: norms, the feed-forward part, scales.

# %%
#| export
class _TransformerLayer(nn.Module):
    """What both kinds of layers share: feed-forward part, scales, the last norm (section 8.5)."""

    def __init__(self, norms: int, d_model: int, dim_feedforward: int, dropout: float, gelu: bool,
                 group_norm: int, norm_first: bool, norm_out: int, layer_scale: bool,
                 init_values: float):
        super().__init__()
        self.norm_first, self.activation = norm_first, F.gelu if gelu else F.relu
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.dropout = nn.Dropout(dropout)
        for index in range(1, norms + 1):
            norm = TokenGroupNorm(int(group_norm), d_model) if group_norm else nn.LayerNorm(d_model)
            setattr(self, f"norm{index}", norm)
        self.norm_out = (TokenGroupNorm(int(norm_out), d_model) if norm_first and norm_out
                         else nn.Identity())
        scale = lambda: LayerScale(d_model, init_values, channel_last=True)
        self.gamma_1, self.gamma_2 = ((scale(), scale()) if layer_scale
                                      else (nn.Identity(), nn.Identity()))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each token on its own: (batch, token, channel)."""
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout(self.linear2(hidden))

    def add(self, x: Tensor, gamma: nn.Module, y: Tensor) -> Tensor:
        """x + gamma(y)."""
        return gamma.add(x, y) if isinstance(gamma, LayerScale) else x + gamma(y)

# %% [markdown]
# The layer itself is then (8.5), line by line. With `norm_first=False` the norms come after each part, the order of 2017, which official networks don't use.

# %%
#| export
class SelfAttentionLayer(_TransformerLayer):
    """Tokens of one branch listen to each other: (batch, token, channel) to the same (eq. 8.5).

    d_model: channels; nhead: heads; dim_feedforward: inside the second part; gelu: else ReLU.
    group_norm: groups of a `TokenGroupNorm` instead of LayerNorm (0: LayerNorm). norm_first: norms
    before each part, and norm_out after both; else after each part. layer_scale: see `LayerScale`,
    init_values at first. Tensor names as demucs.transformer.MyTransformerEncoderLayer 4.1.0.
    Source: Rouard, Massa and Défossez 2022; section 8.5.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 gelu: bool = True, group_norm: int = 0, norm_first: bool = False,
                 norm_out: int = 0, layer_scale: bool = False, init_values: float = 1e-4):
        super().__init__(2, d_model, dim_feedforward, dropout, gelu, group_norm, norm_first,
                         norm_out, layer_scale, init_values)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        attend = lambda y: self.dropout(self.self_attn(y))
        if self.norm_first:
            x = self.add(x, self.gamma_1, attend(self.norm1(x)))
            x = self.add(x, self.gamma_2, self.feed_forward(self.norm2(x)))
            return self.norm_out(x)
        x = self.norm1(self.add(x, self.gamma_1, attend(x)))
        return self.norm2(self.add(x, self.gamma_2, self.feed_forward(x)))

# %% [markdown]
# Check it against the formula, with scales that are not tiny:

# %%
torch.manual_seed(0)
layer = SelfAttentionLayer(16, 4, 64, 0.0, norm_first=True, norm_out=1, layer_scale=True,
                           init_values=0.5).eval()
x = torch.randn(2, 9, 16, generator=P.generator)
with torch.no_grad():
    y = x + 0.5 * layer.self_attn(layer.norm1(x))
    z = y + 0.5 * layer.linear2(F.gelu(layer.linear1(layer.norm2(y))))
    z = (z - z.mean((1, 2), True)) / (z.var((1, 2), unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(layer(x), z, atol=1e-5)

# %% [markdown]
# **At the start the transformer is hidden.** With $\gamma = 10^{-4}$ a new layer lets almost everything pass as it came. The U-Nets can begin to learn as if it weren't there, and each channel of it fades in as far as it helps. How
# well hidden is it? Set what attention and feed-forward add to zero, and compare:

# %%
fresh = SelfAttentionLayer(16, 4, 64, 0.0, norm_first=True, norm_out=1, layer_scale=True).eval()
with torch.no_grad():
    change = (fresh(x) - fresh.norm_out(x)).norm() / fresh.norm_out(x).norm()
print(f"a new layer adds 1 part in {10 ** round(-math.log10(float(change))):,}")
assert change < 1e-3

# %% [markdown]
# This has a consequence for whoever tests: a transformer that is computed *wrongly* is hidden just as well. The course's tests draw scales, norms and biases anew
# before they compare with the package.

# %% [markdown]
# ## 8.6 Listening to the other branch
#
# **Cross attention** is the same with queries from one branch, and keys and values from the other. Nothing else is needed for tokens of two kinds to talk, as long as they have equally many channels. For tokens $x$ that listen to tokens $o$ of the other branch:
#
# $$ y = x + \gamma_1 \odot \text{MHA}\big(\text{LN}_1(x), \text{LN}_2(o)\big), \qquad
#    z = y + \gamma_2 \odot \big(W_2\, \text{GELU}(W_1\, \text{LN}_3(y) + b_1) + b_2\big), \qquad
#    \text{out} = \text{GN}(z). \tag{8.6} $$

# %%
#| export
class CrossAttentionLayer(_TransformerLayer):
    """Tokens of one branch listen to the other branch: x (batch, token, channel) and other
    (batch, token of the other, channel) to the shape of x (eq. 8.6).

    Arguments as `SelfAttentionLayer`. Tensor names as
    demucs.transformer.CrossTransformerEncoderLayer 4.1.0, whose norm3 does nothing where norms come
    last. Source: Rouard, Massa and Défossez 2022; section 8.6.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 gelu: bool = True, group_norm: int = 0, norm_first: bool = False,
                 norm_out: int = 0, layer_scale: bool = False, init_values: float = 1e-4):
        super().__init__(3, d_model, dim_feedforward, dropout, gelu, group_norm, norm_first,
                         norm_out, layer_scale, init_values)
        self.cross_attn = MultiheadAttention(d_model, nhead, dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        attend = lambda y, keys: self.dropout(self.cross_attn(y, keys))
        if self.norm_first:
            x = self.add(x, self.gamma_1, attend(self.norm1(x), self.norm2(other)))
            x = self.add(x, self.gamma_2, self.feed_forward(self.norm3(x)))
            return self.norm_out(x)
        x = self.norm1(self.add(x, self.gamma_1, attend(x, other)))
        return self.norm2(self.add(x, self.gamma_2, self.feed_forward(x)))

# %% [markdown]
# 9 tokens listen to 4, and 9 come out:

# %%
torch.manual_seed(0)
listener = CrossAttentionLayer(16, 4, 64, 0.0, norm_first=True, norm_out=1, layer_scale=True,
                               init_values=0.5).eval()
other = torch.randn(2, 4, 16, generator=P.generator)
with torch.no_grad():
    y = x + 0.5 * listener.cross_attn(listener.norm1(x), listener.norm2(other))
    z = listener.norm_out(y + 0.5 * listener.linear2(F.gelu(listener.linear1(listener.norm3(y)))))
    assert torch.allclose(listener(x, other), z, atol=1e-5) and z.shape == (2, 9, 16)

# %% [markdown]
# **The transformer** has two columns of layers, one a branch. Self and cross attention alternate: self, cross, self, cross, self. In
# a layer of cross attention *both* branches listen to what the other was **before** it, none goes first.

# %%
d = Diagram()
z_in = d.block("frequency\ntokens", "2688 x 384", kind="data")
t_in = d.block("time tokens", "1344 x 384", kind="data", at=(z_in.x, -1.3))
z0 = d.block("LN +\nposition (2D)", "", after=z_in, kind="trained")
t0 = d.block("LN +\nposition", "", kind="trained", at=(z0.x, -1.3))
d.arrow(t_in, t0)
z, t = z0, t0
for name in ("self", "cross", "self", "cross", "self"):
    z_next = d.block(name, "", after=z, kind="trained", gap=0.55)
    t_next = d.block(name, "", kind="trained", at=(z_next.x, -1.3))
    d.arrow(t, t_next)
    if name == "cross":
        d.arrow(z_next, t_next, dashed=True)
        d.arrow(t_next, z_next, dashed=True)
    z, t = z_next, t_next
show(d.draw(), "The transformer: frequency tokens above, time tokens below, five layers each. "
     "Dashed: cross attention, to what the other was before this layer.", d.in_words())

# %% [markdown]
# Before the first layer each branch's tokens go through a LayerNorm and get their positions. How does the frequency branch become a row of tokens? **Frame by frame**: all bins of frame 0, then all of frame 1. See it on
# three bins and two frames, each token tagged with its bin and frame:

# %%
tags = torch.tensor([[[10 * f + t for t in range(2)] for f in range(3)]])       # (1, bin, frame)
row = tags.transpose(-1, -2).flatten(-2)                                        # frame by frame
print("bin, frame:", [f"{n // 10},{n % 10}" for n in row[0].tolist()])
assert torch.equal(row.unflatten(-1, (2, 3)).transpose(-1, -2), tags)

# %% [markdown]
# Written out for three layers, with the names of the picture:

# %%
def plain_transformer(t, x, xt):
    """What a transformer t of three layers does: x (batch, channel, bin, frame), xt (batch,
    channel, step)."""
    _, dim, bins, frames = x.shape
    z = x.transpose(2, 3).flatten(2).mT                             # (batch, frame * bin, channel)
    z = t.norm_in(z) + sin_positions_2d(dim, bins, frames).transpose(1, 2).flatten(1).T
    s = t.norm_in_t(xt.mT) + sin_positions(xt.shape[-1], dim)       # (batch, step, channel)
    z, s = t.layers[0](z), t.layers_t[0](s)                         # each branch by itself
    z, s = t.layers[1](z, s), t.layers_t[1](s, z)                   # each hears the other's old one
    z, s = t.layers[2](z), t.layers_t[2](s)
    return z.mT.unflatten(2, (frames, bins)).transpose(2, 3), s.mT

# %% [markdown]
# The class does this for any number of layers and all kinds of positions. First the positions of the time branch:

# %%
#| export
class _TimePositions(nn.Module):
    """Positions of the time branch, of the kind `emb`."""

    def positions(self, xt: Tensor) -> Tensor:
        """Of the steps of xt (batch, step, channel): (1 or batch, step, channel)."""
        batch, steps, dim = xt.shape
        if self.emb == "scaled":
            return self.position_embeddings(torch.arange(steps, device=xt.device))[None]
        if self.emb == "sin":
            shift = random.randrange(self.sin_random_shift + 1)
            return sin_positions(steps, dim, self.max_period, shift)[None].to(xt)
        moves = self.cape_glob_loc_scale if self.training and self.cape_augment else None
        return cape_positions(steps, dim, batch, self.max_period, self.cape_mean_normalize,
                              moves).to(xt)

# %% [markdown]
# Then the transformer:

# %%
#| export
class CrossTransformerEncoder(_TimePositions):
    """The transformer between two branches: x (batch, channel, bin, frame) and xt (batch, channel,
    step) to the same shapes, bins, frames and steps any number.

    dim: channels, emb: positions in time, "sin", "cape" or "scaled" (learned, max_positions of
    them); of the spectrogram always `sin_positions_2d`. hidden_scale: times dim in the feed-forward
    parts. num_layers: a branch; self and cross attention in turn, cross_first or not. norm_in:
    LayerNorm of what comes in, or norm_in_group: TokenGroupNorm. sin_random_shift: largest shift of
    the positions, drawn by Python's generator. weight_pos_embed: their factor. The others as in
    `SelfAttentionLayer`. weight_decay, lr: kept for the optimiser. ValueError for heads that don't
    divide dim and another emb. Tensor names as demucs.transformer.CrossTransformerEncoder 4.1.0.
    Source: Rouard, Massa and Défossez 2022; section 8.6.
    """

    def __init__(self, dim: int, emb: str = "sin", hidden_scale: float = 4.0, num_heads: int = 8,
                 num_layers: int = 6, cross_first: bool = False, dropout: float = 0.0,
                 max_positions: int = 1000, norm_in: bool = True, norm_in_group: int = 0,
                 group_norm: int = 0, norm_first: bool = False, norm_out: int = 0,
                 max_period: float = 10000.0, weight_decay: float = 0.0, lr: float | None = None,
                 layer_scale: bool = False, gelu: bool = True, sin_random_shift: int = 0,
                 weight_pos_embed: float = 1.0, cape_mean_normalize: bool = True,
                 cape_augment: bool = True,
                 cape_glob_loc_scale: Sequence[float] = (5000.0, 1.0, 1.4)):
        super().__init__()
        if emb not in ("sin", "cape", "scaled"):
            raise ValueError(f"emb is {emb!r}; expected sin, cape or scaled")
        self.emb, self.max_period, self.weight_pos_embed = emb, max_period, weight_pos_embed
        self.sin_random_shift, self.weight_decay, self.lr = sin_random_shift, weight_decay, lr
        self.cape_mean_normalize, self.cape_augment = cape_mean_normalize, cape_augment
        self.cape_glob_loc_scale = tuple(cape_glob_loc_scale)
        if emb == "scaled":
            self.position_embeddings = ScaledEmbedding(max_positions, dim, scale=3.0)
            with torch.no_grad():
                self.position_embeddings.embedding.weight *= 0.2
        norm = lambda: (nn.LayerNorm(dim) if norm_in else
                        TokenGroupNorm(int(norm_in_group), dim) if norm_in_group else nn.Identity())
        self.norm_in, self.norm_in_t = norm(), norm()
        self.layers, self.layers_t = nn.ModuleList(), nn.ModuleList()
        for index in range(num_layers):
            kind = CrossAttentionLayer if index % 2 != cross_first else SelfAttentionLayer
            for layers in (self.layers, self.layers_t):
                layers.append(kind(dim, num_heads, int(dim * hidden_scale), dropout, gelu,
                                   group_norm, norm_first, norm_out, layer_scale))

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        _, dim, bins, frames = x.shape
        places = sin_positions_2d(dim, bins, frames, self.max_period).to(x)
        tokens = lambda y: y.transpose(-3, -1).flatten(-3, -2)      # (..., frame * bin, channel)
        x = self.norm_in(tokens(x)) + self.weight_pos_embed * tokens(places)
        xt = self.norm_in_t(xt.mT)
        xt = xt + self.weight_pos_embed * self.positions(xt)        # (batch, step, channel)
        for layer, layer_t in zip(self.layers, self.layers_t):
            x, xt = layer(x, xt), layer_t(xt, x)                    # both from what was before
        return x.unflatten(1, (frames, bins)).transpose(-3, -1), xt.mT

# %% [markdown]
# It must agree with the plain form; we make the scales large first, for the reason given above.

# %%
def awake(model, size=0.5):
    """The model with all layer scales set to `size`."""
    for name, p in model.named_parameters():
        if "gamma" in name:
            nn.init.constant_(p, size)
    return model.eval()

torch.manual_seed(0)
transformer = awake(CrossTransformerEncoder(16, num_heads=4, num_layers=3, norm_first=True,
                                            norm_out=1, layer_scale=True))
x = torch.randn(1, 16, 3, 5, generator=P.generator)                 # (batch, channel, bin, frame)
xt = torch.randn(1, 16, 11, generator=P.generator)                  # (batch, channel, step)
with torch.no_grad():
    found, expected = transformer(x, xt), plain_transformer(transformer, x, xt)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected))

# %% [markdown]
# Five frames here, eleven steps there: nobody asked that they fit. Does anything cross over? Change one step of the time branch, and look whether the frequency branch hears it:

# %%
with torch.no_grad():
    other = xt.clone()
    other[:, 0, 4] += 3                                             # one channel of one step
    heard = (transformer(x, other)[0] - transformer(x, xt)[0]).abs().amax(1)[0]  # (bin, frame)
print("places of the frequency branch that change:", f"{int((heard > 1e-4).sum())} of 15")
assert (heard > 1e-4).all()

# %% [markdown]
# ## 8.7 The whole network
#
# ### A plain one first
#
# Two layers a branch and three of the transformer. `nfft` is 128, so 64 bins go to 16 and to 4; the time branch goes down by 16, half a hop. Compare with
# chapter 7's plain form: there is no place where the branches meet and no shared layer; and the decoders don't begin with zeros, but with what the transformer gives.

# %%
class PlainHT(nn.Module):
    """Mono mixture (batch, 1, time) to four sources (batch, 4, 1, time); c: first channels."""
    def __init__(self, c=16):
        super().__init__()
        down = dict(norm=False, dconv_kw=dict(compress=8, init=1e-3))
        up = dict(norm=False, dconv=False)
        pair = lambda kind, *sizes, **more: [kind(*size, **more) for size in sizes]
        self.encoder = nn.ModuleList(pair(HEncLayer, (2, c), (c, 2 * c), **down))
        self.tencoder = nn.ModuleList(pair(HEncLayer, (1, c), (c, 2 * c), freq=False, **down))
        self.decoder = nn.ModuleList(pair(HDecLayer, (2 * c, c), (c, 8, True), **up))
        self.tdecoder = nn.ModuleList(pair(HDecLayer, (2 * c, c), (c, 4, True), freq=False, **up))
        self.freq_emb = ScaledEmbedding(16, c, smooth=True)
        self.crosstransformer = CrossTransformerEncoder(2 * c, num_heads=4, num_layers=3,
                                                        norm_first=True, norm_out=1,
                                                        layer_scale=True)

    def forward(self, mix):
        z0, mean, deviation = standardised(complex_as_channels(aligned_stft(mix, 128)))
        t0, mean_t, deviation_t = standardised(mix)
        z1 = self.encoder[0](z0) + 0.2 * self.freq_emb.weight.T.unsqueeze(-1)   # eq. 7.3
        t1 = self.tencoder[0](t0)
        z2, t2 = self.encoder[1](z1), self.tencoder[1](t1)
        y, s = self.crosstransformer(z2, t2)                        # the branches talk
        y, _ = self.decoder[0](y, z2, z1.shape[-1])
        s, _ = self.tdecoder[0](s, t2, t1.shape[-1])
        y, _ = self.decoder[1](y, z1, z0.shape[-1])
        s, _ = self.tdecoder[1](s, t1, mix.shape[-1])
        Y = y.unflatten(1, (4, 2)) * deviation.unsqueeze(1) + mean.unsqueeze(1)
        spectral = aligned_istft(channels_as_complex(Y), mix.shape[-1])
        return spectral + s.unflatten(1, (4, 1)) * deviation_t.unsqueeze(1) + mean_t.unsqueeze(1)

# %% [markdown]
# Any length comes back as it went in:

# %%
torch.manual_seed(0)
plain = PlainHT().eval()
with torch.no_grad():
    for time in (1, 15, 16, 1000):
        assert plain(torch.ones(1, 1, time)).shape == (1, 4, 1, time)
print(f"{sum(p.numel() for p in plain.parameters()):,} weights")

# %% [markdown]
# ### The reusable form
#
# In chapter 7 the U-Nets, the way through them and both ends were classes of their own; all three serve again. What is new goes into three pieces. First, arguments that can't go together are refused by name:

# %%
#| export
def _check_arguments(sizes, nfft, depth, wiener_iters, end_iters, channels, channels_time,
                     sparse) -> None:
    if any(size.merges or not size.freq for size in sizes):
        raise ValueError(f"depth is {depth} and nfft {nfft}: less than two bins are left; expected "
                         "fewer layers, such as 4 with nfft 4096, so that both branches stay apart")
    if wiener_iters != end_iters:
        raise ValueError(f"wiener_iters is {wiener_iters} and end_iters {end_iters}; both branches "
                         "are added in training and after: expected them equal")
    if channels_time not in (None, channels):
        raise ValueError(f"channels is {channels} and channels_time {channels_time}; the "
                         "transformer compares both branches: expected them equal, or None")
    if sparse:
        raise ValueError("t_sparse_self_attn or t_sparse_cross_attn is True; build the network "
                         "with dense attention, and call chapter 8b's `sparsify` on it")

# %% [markdown]
# **The middle.** In the published `htdemucs` the transformer has 512 channels, the branches 384: a convolution of width 1 leads up to it and another back, for each branch.

# %%
#| export
class _Middle:
    """The transformer of `HTDemucs`, and the convolutions that lead to its width and back."""

    hybrid, hybrid_old = True, False                        # for chapter 7's `HybridEnds`

    def add_middle(self, wide: int, bottom_channels: int, layers: int, heads: int,
                   **options) -> None:
        """wide: channels of the last layers. options: arguments of `CrossTransformerEncoder`; those
        of sparse attention are left out (chapter 8b)."""
        self.bottom_channels = bottom_channels
        if bottom_channels:
            for branch in ("", "_t"):
                up, down = nn.Conv1d(wide, bottom_channels, 1), nn.Conv1d(bottom_channels, wide, 1)
                setattr(self, f"channel_upsampler{branch}", up)
                setattr(self, f"channel_downsampler{branch}", down)
        taken = inspect.signature(CrossTransformerEncoder).parameters
        options = {name: value for name, value in options.items() if name in taken}
        self.crosstransformer = CrossTransformerEncoder(
            bottom_channels or wide, num_layers=layers, num_heads=heads,
            **options) if layers else None

    def exchange(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """What the transformer makes of both branches' last layers, in their shapes."""
        if self.crosstransformer is None:
            return x, xt
        if not self.bottom_channels:
            return self.crosstransformer(x, xt)
        bins = x.shape[2]
        x = self.channel_upsampler(x.flatten(2)).unflatten(2, (bins, -1))
        x, xt = self.crosstransformer(x, self.channel_upsampler_t(xt))
        x = self.channel_downsampler(x.flatten(2)).unflatten(2, (bins, -1))
        return x, self.channel_downsampler_t(xt)

    def through(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Down, through the transformer, and up again."""
        skips, skips_t, lengths, lengths_t = self.encode(x, xt)
        x, xt = self.exchange(skips[-1], skips_t[-1])
        return self.decode(skips, skips_t, lengths, lengths_t, x, xt)

# %% [markdown]
# **Lengths.** Tokens can be any number, so the network takes any length. But a network that has learned on 7.8 s has seen positions up to 336 frames and 1344 steps, and no others. With `use_train_segment`, the default,
# an `HTDemucs` remembers how long its training chunks were; in evaluation a shorter mixture is padded to this length, and a longer one is refused: chapter 9 cuts songs up.

# %%
#| export
class _OneSegment:
    """How long the mixtures are that `HTDemucs` works on."""

    def valid_length(self, length: int) -> int:
        """The number of samples that the network works on: the segment's, or `length`."""
        if not self.use_train_segment:
            return length
        longest = int(self.segment * self.samplerate)
        if length > longest:
            raise ValueError(f"the mixture has {length} samples; this network takes at most a "
                             f"segment of {longest}: cut it up (`course_lib.separating`)")
        return longest

    def forward(self, mix: Tensor) -> Tensor:
        check_mixture(mix, self.audio_channels)
        length = mix.shape[-1]
        if self.use_train_segment and not self.training:
            mix = F.pad(mix, (0, self.valid_length(length) - length))
        estimates = sum(self.branches(mix))[..., :length]
        if self.use_train_segment and self.training:
            self.segment = Fraction(length, self.samplerate)
        return estimates

# %% [markdown]
# **The network.** Mind the order at the end: `rescale` (chapter 6) divides the weights of all convolutions so that their deviation comes nearer to 0.1, and it comes *before* the transformer and the convolutions that lead to it.
# Those keep their first weights. Chapter 7's network is rescaled as a whole, its last act. Whoever gets this wrong builds a network that loads every checkpoint and still *learns* differently.

# %%
#| export
class HTDemucs(_Middle, _OneSegment, TwoUNets, HybridPasses, HybridEnds):
    """Hybrid Transformer Demucs (v4): (batch, channel, time) to (batch, source, channel, time).

    As `HDemucs`, but the branches never become one: after `depth` layers of stride `stride` a
    `CrossTransformerEncoder` lets them listen to each other. bottom_channels: of it, with 1x1
    convolutions there and back; 0: as the last layer. t_layers: 0: no transformer; t_...: its
    arguments. dconv_...: of residual branches without BLSTM and attention. samplerate, segment:
    seconds of a training chunk; with use_train_segment training keeps it, and in eval mode shorter
    mixtures are padded to it and longer ones refused (chapter 9 cuts them up).

    ValueError for other shapes, arguments that don't go together, sparse attention (chapter 8b:
    `sparsify`), a depth that leaves one bin. Arguments, defaults and tensor names:
    demucs.htdemucs.HTDemucs 4.1.0. Source: Rouard, Massa and Défossez 2022; section 8.7.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 48,
                 channels_time: int | None = None, growth: float = 2, nfft: int = 4096,
                 wiener_iters: int = 0, end_iters: int = 0, wiener_residual: bool = False,
                 cac: bool = True, depth: int = 4, rewrite: bool = True,
                 multi_freqs: Sequence[float] | None = None, multi_freqs_depth: int = 3,
                 freq_emb: float = 0.2, emb_scale: float = 10, emb_smooth: bool = True,
                 kernel_size: int = 8, time_stride: int = 2, stride: int = 4, context: int = 1,
                 context_enc: int = 0, norm_starts: int = 4, norm_groups: int = 4,
                 dconv_mode: int = 1, dconv_depth: int = 2, dconv_comp: float = 8,
                 dconv_init: float = 1e-3, bottom_channels: int = 0, t_layers: int = 5,
                 t_emb: str = "sin", t_hidden_scale: float = 4.0, t_heads: int = 8,
                 t_dropout: float = 0.0, t_max_positions: int = 10000, t_norm_in: bool = True,
                 t_norm_in_group: int = 0, t_group_norm: int = 0, t_norm_first: bool = True,
                 t_norm_out: int = 1, t_max_period: float = 10000.0, t_weight_decay: float = 0.0,
                 t_lr: float | None = None, t_layer_scale: bool = True, t_gelu: bool = True,
                 t_weight_pos_embed: float = 1.0, t_sin_random_shift: int = 0,
                 t_cape_mean_normalize: bool = True, t_cape_augment: bool = True,
                 t_cape_glob_loc_scale: Sequence[float] = (5000.0, 1.0, 1.4),
                 t_sparse_self_attn: bool = False, t_sparse_cross_attn: bool = False,
                 t_mask_type: str = "diag", t_mask_random_seed: int = 42,
                 t_sparse_attn_window: int = 500, t_global_window: int = 100,
                 t_sparsity: float = 0.95, t_auto_sparsity: bool = False,
                 t_cross_first: bool = False, rescale: float = 0.1, samplerate: int = 44100,
                 segment: float = 10, use_train_segment: bool = True):
        middle = {name[2:]: value for name, value in locals().items() if name.startswith("t_")}
        sizes = layer_sizes(nfft, depth, kernel_size, stride, time_stride)
        _check_arguments(sizes, nfft, depth, wiener_iters, end_iters, channels, channels_time,
                         t_sparse_self_attn or t_sparse_cross_attn)
        branch = dict(depth=dconv_depth, compress=dconv_comp, init=dconv_init)
        make = LayerMaker(rewrite, context, context_enc, norm_starts, norm_groups, dconv_mode,
                          branch, depth, depth, multi_freqs, multi_freqs_depth)
        parts, outputs = 2 if cac else 1, audio_channels * len(sources)
        super().__init__(sizes, make, (parts * audio_channels, parts * outputs, channels),
                         (audio_channels, outputs, channels), growth, timed=True)
        self.sources, self.audio_channels, self.depth = list(sources), audio_channels, depth
        self.nfft, self.hop_length, self.cac = nfft, nfft // 4, cac
        self.wiener_iters, self.end_iters = wiener_iters, end_iters
        self.wiener_residual, self.use_train_segment = wiener_residual, use_train_segment
        self.samplerate, self.segment, self.freq_emb_scale = samplerate, segment, freq_emb
        self.freq_emb = (ScaledEmbedding(sizes[0].bins_out, channels, emb_scale, emb_smooth)
                         if freq_emb else None)
        if rescale:
            rescale_module(self, rescale)                   # all that follows keeps its weights
        self.add_middle(int(channels * growth ** (depth - 1)), bottom_channels, **middle)

# %% [markdown]
# It must be the plain network, for its sizes. The tensors have equal names, so the weights can be handed over:

# %%
torch.manual_seed(0)
small = HTDemucs(STEMS, audio_channels=1, channels=16, nfft=128, depth=2, t_layers=3, t_heads=4,
                 use_train_segment=False)
plain.load_state_dict(awake(small).state_dict())
with torch.no_grad():
    x = 0.1 * torch.randn(2, 1, 777, generator=P.generator)
    assert torch.allclose(small(x), plain(x), atol=1e-6)
    assert small(x[..., :1]).shape == (2, 4, 1, 1)
print(f"{len(small.state_dict())} tensors fit, and both give the same")

# %% [markdown]
# What was rescaled, and what not? A convolution of the encoder and the one that leads to the transformer, before and after, in a network with `bottom_channels`:

# %%
spreads = []
for rescale in (0, 0.1):
    torch.manual_seed(0)
    net = HTDemucs(STEMS, 1, 16, nfft=128, depth=2, bottom_channels=32, t_heads=4, rescale=rescale)
    spreads.append([float(net.encoder[1].conv.weight.detach().std()),
                    float(net.channel_upsampler.weight.detach().std())])
show_table([["without", *spreads[0]], ["rescaled", *spreads[1]]],
           ["weights", "encoder", "way up to the transformer"], digits=3,
           caption="Deviation of the first weights.")
assert spreads[0][0] != spreads[1][0] and spreads[0][1] == spreads[1][1]

# %% [markdown]
# **How well is the transformer hidden?** A fresh network, and the same with everything that attention and feed-forward add set to zero:

# %%
def silenced(model):
    """The model, its transformer's layers adding nothing."""
    return awake(model, 0.0)

torch.manual_seed(0)
fresh = HTDemucs(STEMS, 1, 16, nfft=128, depth=2, t_layers=3, t_heads=4, use_train_segment=False)
with torch.no_grad():
    before, after = fresh.eval()(x), silenced(fresh)(x)
    change = float((before - after).norm() / before.norm())
    whole = float((awake(fresh)(x) - after).norm() / after.norm())
print(f"fresh: less than one part in 10,000 changes: {change < 1e-4}; awake: more than one in 100: "
      f"{whole > 1e-2}")
assert 0 < change < 1e-4 and whole > 1e-2

# %% [markdown]
# **The segment.** A network with `use_train_segment` remembers its training chunk and keeps to it:

# %%
net = HTDemucs(STEMS, 1, 16, nfft=128, depth=2, t_heads=4, samplerate=1000, segment=2.0)
net.train()(x)
print("the training chunk, in seconds:", float(net.segment))
assert net.eval()(x[..., :300]).shape == (2, 4, 1, 300)
try:
    net(torch.zeros(1, 1, 778))
except ValueError as error:
    print("refused:", error)

# %% [markdown]
# ### The published networks
#
# Parameters are counted without storing any: PyTorch's *meta* device makes tensors that are only shapes.

# %%
PUBLISHED = {
    "HTDemucs": dict(), "htdemucs": dict(dconv_mode=3, bottom_channels=512),
    "htdemucs_6s": dict(dconv_mode=3, sources=[*STEMS, "guitar", "piano"])}
counts = {}
for name, arguments in PUBLISHED.items():
    with torch.device("meta"):
        net = HTDemucs(**{"sources": STEMS, **arguments})
    counts[name] = sum(p.numel() for p in net.parameters())
named = {row["model"]: int(row["parameters"]) for row in published("ht_demucs_sizes")}
show_table([[name, f"{counts[name]:,}", f"{named[name]:,}"] for name in counts],
           ["network", "ours", "package demucs 4.1.0"], caption="Parameters.")
assert counts == named

# %% [markdown]
# What takes them? In the released `htdemucs` the transformer is more than half of the network:

# %%
with torch.device("meta"):
    net = HTDemucs(STEMS, **PUBLISHED["htdemucs"])
shares = {}
for name, p in net.named_parameters():
    part = name.split(".")[0]
    part = "ways to the transformer" if part.startswith("channel_") else part
    shares[part] = shares.get(part, 0) + p.numel() / counts["htdemucs"]
show_table([[part, 100 * share] for part, share in shares.items()], ["part", "% of parameters"],
           digits=1, caption="htdemucs.")
assert shares["crosstransformer"] > 0.5

# %% [markdown]
# <details><summary>Quick question: Hybrid Demucs has twice as many parameters. Does it compute twice as much?</summary>
#
# Parameters are not work. Hybrid Demucs has wide inner layers, up to 1536 channels, which run over 168 steps only. Here every matrix of the transformer is applied to each of 4032 tokens, and the products of
# queries and keys need no parameter at all.
# </details>
#
# ## 8.8 Lengths no longer matter
#
# Chapter 7's branches are added, so both must have one step a hop when they meet: the strides must multiply to it. Try an odd one, a window of 896 samples. Its hop is 224, and three strides of 4 make 64: there is no last
# stride that leads from 64 to 224.

# %%
try:
    HDemucs(STEMS, 1, 8, nfft=896, depth=4)
except ValueError as error:
    print("Hybrid Demucs:", error)
torch.manual_seed(0)
odd = HTDemucs(STEMS, 1, 16, nfft=896, depth=3, t_layers=3, t_heads=4, use_train_segment=False)
with torch.no_grad():
    X = complex_as_channels(odd.spectrogram(x[:1, :, :700]))
    X, T, *_ = odd.encode(X, x[:1, :, :700])
print("HT Demucs:", tuple(X[-1].shape), "and", tuple(T[-1].shape))
assert odd.eval()(x).shape == (2, 4, 1, 777)

# %% [markdown]
# Seven bins in four frames, and eleven steps: they needn't fit. That is convenient, for the window can be chosen for its sound and the stride for its cost. But it also means that
# **nobody tells the network that step 4 and frame 1 are the same moment.** The positions don't: both branches count from 0, each in its own steps (in the published network a frame lasts as long as four steps), and write the count
# in another way, (8.3) here and (8.4) there. It has to learn which step belongs to which frame. Does it?
#
# We look into the trained network that comes with the course (section 8.10). Its second layer is the first with cross attention; its weights are what we want to see: for each step of the time branch, how much it listens to each frame (the sum over bins, the mean over heads).

# %%
ours_net = load_trained("htdemucs_band")

@torch.no_grad()
def cross_weights(model, audio, layer=1):
    """Of the steps on the frames, (step, frame), and of the frames on the steps, (frame, step)."""
    kept, transformer = {}, model.crosstransformer
    hook = lambda name: lambda module, given, _: kept.update({name: given})
    hooks = [layers[layer].register_forward_hook(hook(name)) for name, layers in
             (("z", transformer.layers), ("t", transformer.layers_t))]
    frames = model.spectrogram(audio[None]).shape[-1]
    model(audio[None])
    for one in hooks:
        one.remove()
    found = []
    for name, layers in (("t", transformer.layers_t), ("z", transformer.layers)):
        module, (x, other) = layers[layer], kept[name]
        (q,), (k, _) = (module.cross_attn.heads(module.norm1(x), 0, 0),
                        module.cross_attn.heads(module.norm2(other), 1, 2))
        found.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1)[0])
    on_frames = found[0].unflatten(1, (frames, -1)).sum(2)          # (step, frame)
    return on_frames, found[1].unflatten(0, (frames, -1)).mean(1)   # (frame, step)

# %% [markdown]
# A chunk of the recording, as long as those of the training. A diagonal would mean that each moment listens to its own time in the other branch; an upright stripe, that all of them listen to one and the same moment:

# %%
chunk = real[:, :experiment.SEGMENT]
on_frames, on_steps = cross_weights(ours_net, chunk)
assert torch.allclose(on_frames.sum(1), torch.ones(len(on_frames)), atol=1e-4)
seconds = experiment.SEGMENT / rate
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axis, weights, who in ((axes[0], on_frames, ("frame", "step")),
                           (axes[1], on_steps, ("step", "frame"))):
    axis.imshow(weights / weights.mean(), origin="lower", extent=(0, seconds, 0, seconds),
                aspect="auto", cmap="Blues", vmin=0, vmax=4)
    axis.set(xlabel=f"{who[0]} that is listened to, s", ylabel=f"{who[1]} that listens, s")
show(figure, "First cross attention of the trained network: white is never, dark four times the "
     "mean weight or more.", "Two squares of blue cells.")

# %% [markdown]
# How much of it is *now*? The share of the weights that lies within 0.1 s of the listener, beside what equal weights would give:

# %%
def share_of_now(weights, within=0.1):
    """The share of weights (listener, listened) within so many seconds, and of equal weights."""
    listener, listened = ((torch.arange(n) + 0.5) / n * seconds for n in weights.shape)
    near = (listener[:, None] - listened).abs() < within
    return float((weights * near).sum() / weights.sum()), float(near.float().mean())

# %% [markdown]
# In both directions, and for a measure of how choosy they are, the number of places over which the weights are spread, $\exp$ of their entropy, as a share of all:

# %%
spread_of = lambda w: float((-(w * w.clamp_min(1e-12).log()).sum(1)).exp().mean() / w.shape[1])
now = {name: (*share_of_now(w), spread_of(w)) for name, w in
       (("steps listen to frames", on_frames), ("frames listen to steps", on_steps))}
show_table([[name, *values] for name, values in now.items()],
           ["cross attention", "share within 0.1 s", "equal weights", "spread over"],
           digits=2, caption="htdemucs_band, second layer, one chunk of the recording.")
diagonal = {name: share > 2 * equal for name, (share, equal, _) in now.items()}
print({name: "on the diagonal" if yes else "not on the diagonal" for name, yes in diagonal.items()})
assert not any(diagonal.values())

# %% [markdown]
# If the weights were equal, the share would be that of the second column. So the answer to "does it?" is *no*, as far as this network has learned: its listeners don't look for their own moment. All share the moments that they look at, the upright stripes of the figure, and the last column says over how much of the chunk they spread them. Nothing in the loss asks for a diagonal; a network that uses its outer layers first (section 8.9) may get along without.
#
# Listen to what was looked at, to have it in your ear:

# %%
listen(chunk, rate, "the chunk")

# %% [markdown]
# ## 8.9 In miniature
#
# Which of this is worth what? `course experiment htdemucs` trains a small network and its relatives, each for the same number of steps, on equally much audio a step. How small, and what has been run:

# %%
card = measured_card("08_ht_demucs/runs")
used = card["settings"]
results = lambda table: measured(f"08_ht_demucs/{table}")
runs = {(row["variant"], row["seed"]): row for row in results("runs")}
missing = [name for name in experiment.VARIANTS if (name, "0") not in runs]
show_table(
    [["songs to learn from", f"{used['train_songs']} of {used['song_seconds']:g} s, mono, "
      f"{card['rate_hz']} Hz"],
     ["songs to score on", f"{used['test_songs']}, the middle {used['score_seconds']:g} s"],
     ["steps, batch, seconds of a chunk", f"{used['steps']}, {used['batch_size']}, "
      f"{used['samples'] / card['rate_hz']:.1f}"],
     ["network", f"{used['channels']} channels, nfft {used['nfft']}, depth {used['depth']}, "
      f"{used['layers']} transformer layers"],
     ["not run", ", ".join(missing) or "nothing"]], ["what", "how much"],
    caption=f"{card['command']}, on {card['machine']}.")

# %% [markdown]
# The authors trained for 1200 epochs of 800 batches, each of 32 chunks. So few steps make a table that shows what *learns faster at first*, and a transformer, hidden at the start, is at a disadvantage in it. The base was trained twice, with two seeds. How far these are apart is the smallest difference that another seed wouldn't turn round. Beside it what a quarter of the mixture as every stem's estimate scores, on the same songs, to see how little has been learned:

# %%
def by_song(variant, seed="0"):
    """SDR of a run: (song, stem), the songs in their order."""
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in results("songs")
                         if (row["variant"], row["seed"]) == (variant, seed)])

base = by_song("base")
two = {seed: float(row["test_sdr"]) for (name, seed), row in runs.items() if name == "base"}
seeds_apart = abs(two["0"] - two["1"])
bounds = measured("07_hybrid_demucs/bounds")
quarter = np.mean([[float(row[stem]) for stem in STEMS] for row in bounds
                   if row["method"] == "mixture / 4"])
print(f"two seeds of the base: {seeds_apart:.2f} dB apart, at {two['0']:.1f} and {two['1']:.1f}; "
      f"a quarter of the mixture has {quarter:.1f} dB")
assert len(base) == used["test_songs"]

# %% [markdown]
# **Depth, width, context, parts.** A row a run with equal steps:

# %%
def row_of(name):
    """A row of the table: stems, mean, difference to the base, size, cost."""
    found, row = by_song(name), runs[name, "0"]
    less = None if name == "base" else mean_interval((found - base).nanmean(1))
    return [name, *found.nanmean(0).tolist(), float(row["test_sdr"]), less,
            int(row["parameters"]) / 1e6, float(row["cpu_seconds"])]

equal_steps = [name for name, variant in experiment.VARIANTS.items()
               if not variant.equal_time and variant.scale is None and (name, "0") in runs]
show_table([row_of(name) for name in equal_steps],
           ["run", *STEMS, "mean", "less the base, paired", "million weights",
            "seconds of one core"],
           digits={"seconds of one core": 0, "less the base, paired": 2, "million weights": 2,
                   **dict.fromkeys([*STEMS, "mean"], 1)},
           caption=f"SDR in dB, {len(base)} songs; difference with its 95% interval over songs.")

# %% [markdown]
# In words. A lead counts only if its interval excludes zero and it is larger than two seeds are apart:

# %%
def told_apart(one, other="base"):
    """Which of two runs is ahead, in words; a lead within the seeds' distance is none."""
    mean, low, high = mean_interval((by_song(one) - by_song(other)).nanmean(1))
    if abs(mean) <= seeds_apart or low <= 0 <= high:
        return "not told apart"
    return f"{one if mean > 0 else other} ahead"

for name in equal_steps[1:]:
    print(f"{name}, base: {told_apart(name)}")

# %% [markdown]
# Look at the runs that differ in nothing but the layers of the transformer. Their U-Nets began with the same weights, which are drawn first. How far apart did they end?

# %%
layers_only = [name for name in ("no transformer", "1 layer", "5 layers", "without cross attention",
                                 "without positions") if (name, "0") in runs]
largest = max(abs(float((by_song(name) - base).nanmean())) for name in layers_only)
print(f"{len(layers_only)} runs, at most {largest:.2f} dB from the base; "
      f"two seeds are {seeds_apart:.2f} dB apart")
assert largest < 0.5 * seeds_apart

# %% [markdown]
# They end nearly where the base ends, with five layers or with none. So this table can't say what depth, cross attention or positions are worth. It says that they cost time from the first step on, and give nothing back in the first few hundred.
#
# Why? The suspect is `LayerScale` (section 8.5), which hides the layers at the start. So let a network be `loud` from its first step: its scales begin with 0.1 instead of $10^{-4}$, and it learns at three times the rate; and once more for four times as many steps, and (`learned`) for eight times as many. Then ask what it has come to *use*: silence all that the transformer's layers add; or put zeros in the place of everything that comes out of the transformer, so that the decoders know only what the skips tell them, the bottom of the network lost.

# %%
def silent_rows(name):
    """A row of the table: the score of a run, and what it loses without layers, without bottom."""
    whole = by_song(name)
    of = lambda row: (row["variant"], row["seed"], row["part"])
    parts = {part: torch.tensor([[float(row[stem]) for stem in STEMS] for row in results("silenced")
                                 if of(row) == (name, "0", part)])
             for part in ("layers", "bottom")}
    return [name, int(runs[name, "0"]["steps"]), float(whole.nanmean()),
            *(mean_interval((found - whole).nanmean(1)) for found in parts.values())]

# %% [markdown]
# Beside them the committed network of section 8.10, 24 channels wide and trained for much longer; of it the chapter's assignment has measured the first column, on eight songs:

# %%
loud = [name for name in ("loud", "loud, 800 steps", "learned") if (name, "0") in runs]
rubric = lambda part: torch.tensor([[float(row[stem]) for stem in STEMS]
                                    for row in results("rubric") if row["row"] == part])
whole, layers = rubric("whole"), rubric("without cross self feed-forward")
trained_card = read_card(shipped_file("checkpoints/htdemucs_band.safetensors"))
silent = [silent_rows(name) for name in loud]
silent += [["htdemucs_band", trained_card["steps"], float(whole.nanmean()),
            mean_interval((layers - whole).nanmean(1)), None]]
show_table(silent, ["network", "steps", "SDR, dB", "layers silenced", "bottom silenced"],
           digits=2, caption="What a network loses, in dB with its 95% interval over songs.")

# %% [markdown]
# In words:

# %%
for name, _, _, without_layers, without_bottom in silent:
    print(f"{name}: {-without_layers[0]:.2f} dB lost without its layers"
          + (f", {-without_bottom[0]:.2f} dB without its bottom" if without_bottom else ""))
lost_by = {name: -without[0] for name, _, _, without, _ in silent}
print("loud less the base, equal steps:", difference_in_words((by_song("loud") - base).nanmean(1)))
assert max(abs(lost_by[name]) for name in loud) < 0.1 < 0.3 < lost_by["htdemucs_band"]

# %% [markdown]
# The transformer was loud from the start, and yet next to nothing is lost without it, not even after 1600 steps (`learned`); and little more without anything that comes from the bottom. So it isn't `LayerScale` that makes the table above so even, or not it alone. **In its first hundreds of steps such a network separates with its outer layers**, to which the skips are a short way, and doesn't use its innermost ones, whatever they are made of. (That `loud` is ahead of the base must then be its rate's doing: the base's, which all other runs share, is low for so few steps.)
#
# What the transformer is worth shows late: the committed network, wider and after thousands of steps, has come to need it.
#
# **Once more, eight times as long.** What matters most: is there a transformer at all, and how long are the chunks that it may look through? The `loud` network with 1600 steps, with two seeds each. (Depth and width wait: they are questions to a transformer that is used.)

# %%
def of_seeds(variant):
    """SDR of a variant's runs, mean over stems: (seed, song)."""
    return torch.stack([by_song(variant, seed).nanmean(1) for name, seed in runs
                        if name == variant])

def apart(*variants):
    """How far two seeds of one of the variants lie apart at most, in dB."""
    means = [of_seeds(variant).mean(1) for variant in variants]
    return max(float(mean.max() - mean.min()) for mean in means)

# %% [markdown]
# A row a variant, means over the seeds:

# %%
def learned_row(name, other="learned"):
    """A row of the table: level, seeds apart, the paired difference to another, size, cost."""
    gap = None if name == other else mean_interval((of_seeds(name) - of_seeds(other)).mean(0))
    cost = [float(row["cpu_seconds"]) for (variant, _), row in runs.items() if variant == name]
    return [name.removeprefix("learned, "), float(of_seeds(name).mean()), apart(name), gap,
            int(runs[name, "0"]["parameters"]) / 1e6, float(np.mean(cost))]

learned = [name for name in experiment.LEARNED if (name, "1") in runs]
show_table([learned_row(name) for name in learned],
           ["run", "SDR, dB", "seeds apart", "less the base (learned), paired", "million weights",
            "seconds of one core"],
           digits={"SDR, dB": 2, "seeds apart": 2, "less the base (learned), paired": 2,
                   "million weights": 2, "seconds of one core": 0},
           caption=f"{runs['learned', '0']['steps']} steps, two seeds, {len(base)} songs.")

# %% [markdown]
# In words, by a stricter rule than above, now that there are two seeds: the interval over songs leaves out zero, both seeds agree, and the lead is larger than two seeds of either variant are apart.

# %%
def seen(one, other):
    """Which of two variants is ahead by the rule, in words."""
    gap = of_seeds(one) - of_seeds(other)                                  # (seed, song)
    for name, sign in ((one, 1), (other, -1)):
        if same_trend(sign * gap) == SAME_TREND and abs(float(gap.mean())) > apart(one, other):
            return f"{name} ahead"
    return "not told apart"

for name in learned[1:]:
    print(f"{name.removeprefix('learned, ')}, base: {seen(name, 'learned')}")
assert {seen(name, "learned") for name in learned[1:]} == {"not told apart"}

# %% [markdown]
# The network has learned much since the first table, and yet a U-Net *without* a transformer is as good, and chunks twice as long gain nothing. That fits the table of silenced layers: after 1600 steps this small network still does nearly without them. So depth, width and context of the transformer can't be tested in this miniature, and four times as many steps of the same miniature are no remedy: one can't ask what is best for something that isn't used. The committed network uses its layers; it is three times as wide, has nine times the weights, and has learned for four times as many steps again.
#
# **Three kinds of Demucs in equal time.** Here no step is counted, but time: all get what the base needs. The machine was shared with other work, so seconds on the wall mean nothing; these are seconds in which a core
# really worked for the run (`time.process_time`), and the steps that fit in were found by timing both networks in turn.

# %%
equal_time = ["base", *(name for name, variant in experiment.VARIANTS.items()
                        if variant.equal_time and variant.times == 1 and (name, "0") in runs)]
names = {"base": "HT Demucs"}
show_table([[names.get(name, name), int(runs[name, "0"]["steps"]), *row_of(name)[1:]]
            for name in equal_time],
           ["run", "steps", *STEMS, "mean", "less HT Demucs, paired", "million weights",
            "seconds of one core"],
           digits={"seconds of one core": 0, "less HT Demucs, paired": 2, "million weights": 2,
                   **dict.fromkeys([*STEMS, "mean"], 1)},
           caption=f"SDR in dB, {len(base)} songs, one seed; equal time to learn.")
for name in equal_time[1:]:
    print(f"{name}, HT Demucs: {told_apart(name).replace('base', 'HT Demucs')}")

# %% [markdown]
# The plain waveform network of chapter 6 learns fastest, and by far. A likely reason is in the second column: its steps are the cheapest, so it makes most of them, and in so short a time steps count for more than what each could
# achieve. Nor is it the low rate alone that holds the transformer's network back: `loud`, with three times the rate and as many steps as the base, stays behind, too. (That the seconds of one core are not quite equal is the machine's doing: a core is slower when others use the memory, too.)

# %%
sdr_of = lambda name: float(runs[name, "0"]["test_sdr"])
fastest = max(equal_time, key=sdr_of)
print(f"{fastest}: {runs[fastest, '0']['steps']} steps, "
      f"{sdr_of(fastest) - max(sdr_of(name) for name in equal_time if name != fastest):+.1f} dB "
      "against the next")
assert fastest == "Demucs, equal time" and sdr_of(fastest) > sdr_of("loud")
assert fastest == max(equal_time, key=lambda name: int(runs[name, "0"]["steps"]))

# %% [markdown]
# And in eight times the time, two seeds each; the forerunners at the rate of their committed networks, HT Demucs `loud` at three times that:

# %%
in_time = [name for name in ("learned", *experiment.FORERUNNERS) if (name, "1") in runs]
show_table([[name, np.mean([int(row["steps"]) for (variant, _), row in runs.items()
                            if variant == name]), *learned_row(name)[1:]] for name in in_time],
           ["run", "steps", "SDR, dB", "seeds apart", "less HT Demucs (learned), paired",
            "million weights", "seconds of one core"],
           digits={"steps": 0, "SDR, dB": 2, "seeds apart": 2,
                   "less HT Demucs (learned), paired": 2, "million weights": 2,
                   "seconds of one core": 0},
           caption=f"Equal time to learn, {len(base)} songs.")
for name in in_time[1:]:
    print(f"{name.removeprefix('learned, ')}, HT Demucs: "
          f"{seen(name, 'learned').replace('learned ahead', 'HT Demucs ahead')}")
assert seen("learned, Demucs", "learned") == "not told apart"

# %% [markdown]
# The head start is gone. In the short runs the waveform network was far ahead; in eight times the time HT Demucs has caught up, and the two can't be told apart. Both kinds of steps are worth something, cheap ones first. (Rates are not matched: each has the one that served it here.)
#
# The losses of the short runs on the way:

# %%
logs = {names.get(name, name): np.array([
    (int(row["step"]), float(row["loss"])) for row in results("logs")
    if (row["variant"], row["seed"]) == (name, "0")]).T for name in equal_time}
axis = plot_losses({name: tuple(log) for name, log in logs.items()}, smoothing=40)
show(axis, "L1 loss while learning, smoothed over 40 steps; the curves end when the time is up.",
     "Four restless curves of unequal length; the one of Demucs goes lowest and lasts longest.")

# %% [markdown]
# **The authors' table.** Trained at full size, with 800 songs besides MUSDB18-HQ (chapter 1's MUSDB18, uncompressed):

# %%
paper = published("ht_demucs_ablations")
show_table([[float(row["segment_seconds"]), int(row["layers"]), int(row["width"]),
             float(row["sdr_db"])] for row in paper],
           ["seconds of a chunk", "layers", "width", "SDR, dB"],
           digits={"seconds of a chunk": 1}, caption="Rouard, Massa and Défossez 2022, MUSDB18-HQ.")
level = {(row["segment_seconds"], row["layers"], row["width"]): float(row["sdr_db"])
         for row in paper}
context_gain = level["7.8", "5", "384"] - level["3.4", "5", "384"]
depth_gain = level["3.4", "7", "384"] - level["3.4", "5", "384"]
wider_gain = level["7.8", "5", "512"] - level["7.8", "5", "384"]
print(f"longer context {context_gain:+.2f} dB, two more layers {depth_gain:+.2f} dB")
assert context_gain > depth_gain > 0

# %% [markdown]
# What helps most here is *context*: attention can only find what the chunk holds. It fits section 8.1. And the whole, beside its forerunner:

# %%
paper_scores = {row["model"]: row for row in published("ht_demucs_scores")}
show_table([[name, *(float(row[stem]) for stem in STEMS), float(row["all"])]
            for name, row in paper_scores.items()], ["model", *STEMS, "all"],
           caption="SDR on MUSDB18-HQ, dB, as published.")
without = float(paper_scores["HT Demucs"]["all"]) - float(paper_scores["Hybrid Demucs"]["all"])
print(f"without the 800 songs the transformer is {without:+.2f} dB against the hybrid")
assert without < 0

# %% [markdown]
# Without the further songs the transformer *loses*. A likely reason: a convolution knows from the start that neighbours belong together; attention must learn it, and needs songs for that.
#
# ## 8.10 The network that comes with the course
#
# `course train htdemucs_band` trained a small one on the band, with the loss and the augmentation of chapters 6 and 7, but longer chunks and more songs:

# %%
arguments = trained_card["config"]["model"]
show_table([[name, str(arguments[name])] for name in ("channels", "nfft", "t_layers", "t_heads")] +
           [["million weights", f"{trained_card['parameters'] / 1e6:.1f}"],
            ["steps of 4 chunks", f"{trained_card['steps']:,}"],
            ["seconds of a chunk", f"{experiment.SEGMENT / rate:.1f}"],
            ["minutes of training", f"{trained_card['minutes']:.0f}"],
            ["seed", str(trained_card["seed"])]], ["what", "how much"],
           caption=f"htdemucs_band: mono, 22,050 Hz; trained on {trained_card['machine']}, "
                   "which did other work at the same time.")

# %% [markdown]
# How it learned, from its log and its validations (12 songs that no training heard). Where the *schedule* of the learning rate has a restart, a run that was to end there went on: the rate, which had come down to nearly nothing, jumped back and came down once more.

# %%
log, checks = (np.array([[float(row["step"]), float(row[column])] for row in
                         results(f"htdemucs_band_{table}")]).T
               for table, column in (("log", "loss"), ("validation", "sdr")))
restarts = trained_card["config"]["schedule"].get("restarts", [])
every = trained_card["config"]["training"]["validate_every"]
figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.9), layout="constrained")
plot_losses({"training": tuple(log)}, smoothing=300, unit="L1 loss", ax=axes[0])
plot_losses({"validation": tuple(checks)}, unit="SDR, dB", log_loss=False, ax=axes[1])
axes[1].legend(loc="lower right")
for axis in axes:
    axis.set_xlim(0, log[0, -1])
    for step in restarts:
        axis.axvline(step, color="grey", linestyle=":")
show(figure, f"Loss of every step, smoothed over 300 (over fewer at both ends, so the last drop is "
     f"chance), and SDR every {every} steps, from step "
     f"{checks[0, 0]:.0f} on: earlier validations "
     f"{'were not kept' if checks[0, 0] > every else 'there are none'}. "
     "Dotted: a restart of the rate.",
     "Left a restless loss that falls slowly, with a bump behind the dotted line; right a score "
     "that rises, with a dip there.")

# %% [markdown]
# What the restart and the steps after it were worth:

# %%
def score_at(step):
    """The last validation that is not later than a step."""
    return float(checks[1, checks[0] <= step][-1])

for step in restarts:
    print(f"step {step}: {score_at(step):.2f} dB; a validation later {score_at(step + every):.2f}; "
          f"at the end {checks[1, -1]:.2f}")
last = checks[1, -1] - checks[1, -2]
print(f"the last {checks[0, -1] - checks[0, -2]:.0f} steps: {last:+.2f} dB")
assert checks[1, -1] == checks[1].max() and checks[1, -1] > checks[1, 0] + 0.5

# %% [markdown]
# The score still rises at the end, though ever more slowly: partly because the rate has come down, which lets a network settle. It is *one* training, with one seed. How far two seeds of the small networks lie apart is printed in section 8.9; of this one there is no second.

# %% [markdown]
# Its scores beside all bounds, and beside the networks of the chapters before. They learned on other numbers of steps and of songs, and Open-Unmix hears the songs in stereo at 44.1 kHz, the others in mono, so this is what the course *has*, not which kind is better:

# %%
def methods_of(table):
    """Method -> SDR (song, stem), in the order of their means."""
    rows = results(table)
    found = {method: torch.tensor([[float(row[stem]) for stem in STEMS] for row in rows
                                   if row["method"] == method])
             for method in dict.fromkeys(row["method"] for row in rows)}
    return dict(sorted(found.items(), key=lambda item: float(item[1].nanmean())))

def show_methods(methods, caption):
    show_table([[method, *scores.nanmean(0).tolist(), mean_interval(scores.nanmean(1))]
                for method, scores in methods.items()], ["SDR in dB", *STEMS, "mean of stems"],
               digits=1, caption=caption)

methods = methods_of("bounds")
ours = methods[experiment.TRANSFORMER]
show_methods(methods, f"The middle {used['score_seconds']:g} s of {len(ours)} band test songs; "
             "last column with 95% interval.")
assert list(methods)[0] == "mixture / 4" and list(methods)[-1] == "ideal ratio mask"

# %% [markdown]
# The difference to each of the others, song by song:

# %%
ahead = {method: difference_in_words((ours - scores).nanmean(1)) for method, scores
         in methods.items() if method != experiment.TRANSFORMER}
for method, words in ahead.items():
    print(f"less {method}: {words}")

# %% [markdown]
# All networks learned from the instruments of *one* soundfont. The same songs, played with another, are harder:

# %%
other = methods_of("other_instruments")
show_methods(other, f"The same {len(ours)} songs, played with a soundfont that no training heard.")
lost = (methods[experiment.TRANSFORMER] - other[experiment.TRANSFORMER]).nanmean(1)
print(f"HT Demucs loses {difference_in_words(lost)}")

# %% [markdown]
# Does it listen farther than the hybrid? The test of section 8.1 on a chunk as long as its training chunks; the cut leaves the length as it was. The nearer a number is to 0, the more depends on what is far away.

# %%
whole_piece = lambda model, audio: experiment.in_segments(model, audio, audio.shape[-1])
ours_changes = [change_in_the_middle(ours_net, chunk, reach, whole_piece) for reach in reaches]
hybrid_changes = [change_in_the_middle(hybrid_net, chunk, reach) for reach in reaches]
show_table([[f"{reach:g} s", one, two] for reach, one, two
            in zip(reaches, hybrid_changes, ours_changes)],
           ["without what is farther than", "Hybrid Demucs", "HT Demucs"], digits=0,
           caption="Change in the middle quarter second, dB of the estimates there; one chunk.")
assert ours_changes[-1] > hybrid_changes[-1] + 3

# %% [markdown]
# It does. To the hybrid the past matters less and less; to HT Demucs, what is more than a second away still matters. (In either, part of it is the level of the whole chunk, by which the input is divided.)
#
# Hear it on a song of the band, that it has not learned from:

# %%
songs = mono_tracks(lambda: open_tracks("band", "test", count=1), rate, 20.0)
song = songs[0]
piece = song.mixture[:, 8 * rate:8 * rate + experiment.SEGMENT]
listen(piece, rate, "the mixture")
with torch.no_grad():
    stems = ours_net(piece[None])[0]                                # (source, channel, time)
for stem, audio in zip(STEMS, stems):
    listen(audio, rate, f"{stem}, HT Demucs")

# %% [markdown]
# And the recording, from another world than the band: a real voice, a real guitar, a room.

# %%
with torch.no_grad():
    real_stems = ours_net(chunk[None])[0]
for place in (0, 2, 3):
    listen(real_stems[place], rate, f"{STEMS[place]}, HT Demucs, a real song")

# %% [markdown]
# It has learned from synthetic songs alone, and never heard a singer's breath or a room. How much it gets wrong here can't be measured: nobody gave us this song's stems.
#
# ### On music that nobody generated
#
# Real stems are rare. `course experiment real_songs` scores the networks on those there are, which no training of the course has heard:
#
# - *one* multitrack, six seconds of a pop song of MUSDB18, which the package `stempeg` brings to test itself with,
# - *voices over music*: three readers of audiobooks and that song's singer, each laid over recordings without words and over that song's band. The voice is as loud as the music, or 5 dB below.
#
# (With a network, `--set data=musdb18-7s` fetches excerpts of all songs, which ffmpeg reads; `--set data=musdb18hq --set root=FOLDER` takes whole ones. `--folder` says where the new table goes.) First the song. Chapter 2's rules stand there twice, for they look for what is in the middle of the stereo picture, and a mono song has no such picture:

# %%
real_card = measured_card("08_ht_demucs/real_songs")
real_rows = results("real_songs")
song_rows = {row["method"]: row for row in real_rows if row["set"] == on_real_songs.SONGS}
columns = [*STEMS, "rest"]
values = {method: [float(row[name]) for name in columns] for method, row in song_rows.items()}
mean_of = {method: float(np.mean(value[:4])) for method, value in values.items()}
by_mean = sorted(mean_of, key=mean_of.get)
show_table([[method, *values[method], mean_of[method]] for method in by_mean],
           ["SDR in dB", *columns, "mean of stems"], digits=1,
           caption=", ".join({row["song"] for row in song_rows.values()}) + ", "
           f"{song_rows[experiment.TRANSFORMER]['seconds']} s; rest: all but vocals.")
assert len(song_rows) == len(on_real_songs.METHODS), "one song"

# %% [markdown]
# In words, beside what the same networks do on the band:

# %%
rules_there = max((on_real_songs.IN_STEREO, on_real_songs.RULES), key=mean_of.get)
song_lead = {method: mean_of[method] - mean_of[rules_there]
             for method in on_real_songs.WEIGHTS}
for method, lead in sorted(song_lead.items(), key=lambda item: item[1]):
    on_band = methods.get(method)
    print(f"{method} less {rules_there}: {lead:+.1f} dB"
          + (f"; on the band {float((on_band - methods[on_real_songs.RULES]).nanmean()):+.1f} dB"
             if on_band is not None else ""))
lead_on_band = float((ours - methods[on_real_songs.RULES]).nanmean())
assert max(song_lead.values()) < 1 < lead_on_band

# %% [markdown]
# On this one song nothing is left of the networks' leads: what the network of this chapter has in front of the rules on the band, it hasn't here. One song decides nothing; but it is what the songs say that we have.
#
# Now the voices. Two scores for each voice: SDR, and chapter 3's SI-SDR, which forgives a wrong level. Both are needed. Whoever gives half of the mixture as the voice and half as the rest (*equal shares*) has 3 dB of SDR where both are equally loud, and separates nothing; its SI-SDR is that of the mixture. A method of four stems has learned to share a doubtful sound among four.

# %%
pair_rows = [row for row in real_rows if row["set"] == on_real_songs.PAIRS]
levels = sorted({float(row["level_db"]) for row in pair_rows}, reverse=True)

def pairs_of(method, score, level=None):
    """A score of a method by (voice, piece, level)."""
    return {(row["voice"], row["piece"], float(row["level_db"])): float(row[score])
            for row in pair_rows if row["method"] == method
            and level in (None, float(row["level_db"]))}

mean_pairs = lambda *which: float(np.mean(list(pairs_of(*which).values())))
in_order = sorted(on_real_songs.METHODS, key=lambda method: mean_pairs(method, "vocals_si"))
show_table([[method, *(mean_pairs(method, score, level) for level in levels
                       for score in ("vocals", "rest", "vocals_si"))] for method in in_order],
           ["dB", *(f"{score}, {level:g} dB" for level in levels
                    for score in ("voice", "rest", "voice SI"))], digits=1,
           caption=f"{len(pairs_of('Open-Unmix', 'rest'))} pairs: {real_card['voices']} voices, "
                   f"{real_card['pieces']} pieces, voice at {levels[0]:g} and {levels[1]:g} dB; "
                   "SDR of voice and rest, SI-SDR of the voice.")

# %% [markdown]
# So many pairs look like much, but behind them are few voices and few pieces, and pairs that share one aren't independent. So we take the mean over all pairs of a piece first, and draw the interval over *pieces*:

# %%
def by_piece(method, other, score="vocals_si"):
    """How far a method is ahead of another on each piece: mean over its voices and levels."""
    one, two = pairs_of(method, score), pairs_of(other, score)
    pieces = sorted({piece for _, piece, _ in one})
    return torch.tensor([np.mean([one[key] - two[key] for key in one if key[1] == piece])
                         for piece in pieces])

in_pieces = lambda differences: difference_in_words(differences).replace("songs", "pieces")
show_table([[method, *(mean_interval(by_piece(method, other_one, score)) for other_one in
                         (on_real_songs.RULES, on_real_songs.SHARES) for score in
                         ("vocals", "vocals_si"))] for method in on_real_songs.WEIGHTS],
           ["the voice, dB", "SDR less the rules'", "SI-SDR less the rules'",
            "SDR less equal shares'", "SI-SDR less equal shares'"], digits=1,
           caption=f"With 95% intervals over {real_card['pieces']} pieces.")
of_ours = by_piece(experiment.TRANSFORMER, on_real_songs.RULES)
print(f"HT Demucs, SI-SDR of the voice less the rules': {in_pieces(of_ours)}")
assert len(of_ours) == real_card["pieces"] < 6
assert all(mean_interval(by_piece(method, on_real_songs.SHARES))[1] < 0
           for method in on_real_songs.WEIGHTS)

# %% [markdown]
# Five pieces are too few to decide anything, however narrow an interval may look. What can be said: the networks are not several decibels ahead of the rules any more, as they are on the band; HT Demucs is by about one. And look at the last column: equal shares have the mixture's SI-SDR, and no network is surely ahead of it. So as a mean over these pairs, the voices that come out hold about as much music as what went in, or more.
#
# Is it the music that is strange to the network, or the voice? The same differences by voice, and beside them how high each one speaks:

# %%
def pitch_of(voice, size=2048):
    """Median pitch of a voice (1, time) in Hz: the best lag of its loud frames' autocorrelation."""
    frames = voice[0].unfold(-1, size, size // 2)                   # (frame, time)
    power = frames.square().mean(-1)
    loud = frames[power > 0.1 * power.mean()] * torch.hann_window(size)
    likeness = torch.fft.irfft(torch.fft.rfft(loud, 2 * size).abs().square())
    lags = slice(rate // 500, rate // 60)                           # 500 to 60 Hz
    return float((rate / (likeness[:, lags].argmax(-1) + lags.start)).median())

tone = torch.sin(2 * math.pi * 200 / rate * torch.arange(rate))[None]
assert abs(pitch_of(tone) - 200) < 2

# %% [markdown]
# First the readers, then the singers of six songs of the band:

# %%
def lead_by_voice(voice):
    """HT Demucs less the rules, SI-SDR of one voice: mean over pieces and levels."""
    ours_of, rules_of = (pairs_of(method, "vocals_si") for method in
                         (experiment.TRANSFORMER, on_real_songs.RULES))
    return float(np.mean([ours_of[key] - rules_of[key] for key in ours_of if key[0] == voice]))

readers = {name: recording(name, rate, mono=True)[0] for name in on_real_songs.READERS}
pitch = {name: pitch_of(voice) for name, voice in readers.items()}
in_height = sorted(readers, key=pitch.get)
show_table([[name, f"{pitch[name]:.0f}", lead_by_voice(name)] for name in in_height],
           ["reader", "median pitch, Hz", "HT Demucs less the rules, dB"], digits=1,
           caption="SI-SDR of the voice, mean over pieces and levels.")
singers = mono_tracks(lambda: open_tracks("band", "test", count=6), rate, 20.0, stems=("vocals",))
sung = sorted(pitch_of(track["vocals"]) for track in singers)
print(f"six singers of the band: {sung[0]:.0f} to {sung[-1]:.0f} Hz")
assert sorted(readers, key=lead_by_voice) == in_height
assert pitch[in_height[0]] < pitch[in_height[1]] < sung[0] < pitch[in_height[2]] < sung[-1]

# %% [markdown]
# It is the voice, as far as three readers can say: the lower it is, the worse. Only the highest of them speaks where the band's singers sing. To which stem does the network give a voice that is too low for a singer? Take the part of each estimate that moves with the true voice $v$, $\langle \hat s, v\rangle / \langle v, v\rangle$. A perfect estimate of the voice has 1 and the other stems 0.

# %%
def over_music(name, piece="nutcracker"):
    """A reader over a piece, equally loud, as a mono track."""
    sounds = (recording(one, 44_100)[0] for one in (name, piece))
    stereo = on_real_songs.laid_over(name, piece, *sounds, 0.0, 44_100, 6.0)
    return mono_tracks(lambda: [stereo], rate, 6.0)[0]

mixed = {name: over_music(name) for name in in_height}
with torch.no_grad():
    taken = {name: experiment.in_segments(ours_net, mixed[name].mixture) for name in in_height}

def shares_of(name):
    """Which share of the voice each estimate (source, channel, time) holds."""
    voice = mixed[name]["vocals"]
    return ((taken[name] * voice).sum((-2, -1)) / voice.square().sum()).tolist()

shares = {name: shares_of(name) for name in in_height}
show_table([[name, *shares[name]] for name in in_height], ["share of the voice", *STEMS], digits=1,
           caption="Readers over the Dance of the Sugar Plum Fairy, equally loud; HT Demucs.")
lowest, highest = shares[in_height[0]], shares[in_height[-1]]
assert lowest[1] > 2 * lowest[3] and highest[3] > 2 * lowest[3]

# %% [markdown]
# It takes the lowest voice for a bass, above all. Nobody told it what a voice *is*; it has learned what tells the band's singers from the band's instruments, and for that their height is nearly enough. No layer of this chapter mends that, only other songs do: with low voices and high ones, spoken and sung, in rooms. It fits what 800 further songs were worth to the authors (section 8.9).
#
# Hear it: the second of the three readers, first mixed, then as the rules and as the network find the voice, at the levels that they give it.

# %%
second = in_height[1]
by_rules = separate_unsupervised(mixed[second].mixture, rate)[STEMS.index("vocals")]
for sound, what in ((mixed[second].mixture, "mixture"), (by_rules, "vocals, chapter 2's rules"),
                    (taken[second][STEMS.index("vocals")], "vocals, HT Demucs")):
    listen(sound, rate, f"{second} over music: {what}")
used_here = ("fishin", *on_real_songs.READERS, *on_real_songs.MUSIC)
display(Markdown("\n".join(f"- {attribution(name)}" for name in used_here)))

# %% [markdown]
# ## 8.11 What makes it fast
#
# A large network on a laptop had better waste nothing. Three things change no number (but for rounding), only the order in which numbers are made:
#
# - **Fused attention.** `scaled_dot_product_attention` (section 8.3) goes through the keys piece by piece and never writes the table of all weights: 2688 x 2688 numbers a head. The package `demucs` uses it, too.
# - **A few rows at a time.** Between its convolutions a layer along frequency treats every row alike; chapter 7's `in_blocks` takes so few rows that all that comes in between stays in the processor's cache.
# - **One pass instead of two.** `LayerScale.add` scales and adds at once, and a transposed convolution leaves out its margin itself, as long as no norm has to see it: less goes through memory.
#
# `benchmarks/htdemucs_speed.py` runs the published network of the package and ours in turn, with the same weights, on a segment of 7.8 s; ours once more without blocks, and once more with attention written out:

# %%
speed = results("speed")
show_table([[row["what"], int(row["threads"]), float(row["seconds"]), float(row["times_faster"]),
             float(row["times_faster_processor"])] for row in speed],
           ["network", "threads", "seconds", "times faster", "by processor time"], digits=2,
           caption=f"7.8 s of stereo at 44.1 kHz in 32 bits, median of {speed[0]['turns']} turns, "
                   f"on {speed[0]['machine']}; times faster than the package in the same run.")
ours_fast = [row for row in speed if row["what"] == "course_lib"]
assert all(float(row["largest_difference"]) < 1e-5 for row in speed)
assert all(float(row["times_faster"]) > 1 for row in ours_fast)

# %% [markdown]
# In training, layers go through whole: the way back needs all that came in between. What is left of the time is arithmetic, convolutions and products of matrices, at the speed of the machine.

# %% [markdown]
# ## 8.12 What we built
#
# | name | what | section |
# |---|---|---|
# | `MultiheadAttention` | queries gather what keys hold | 8.3 |
# | `sin_positions`, `sin_positions_2d`, `cape_positions` | where a token is | 8.4 |
# | `TokenGroupNorm` | a norm over all tokens | 8.5 |
# | `SelfAttentionLayer`, `CrossAttentionLayer` | a layer of either kind | 8.5, 8.6 |
# | `CrossTransformerEncoder` | the transformer between two branches | 8.6 |
# | `HTDemucs` | the network | 8.7 |
#
# All of it is in `course_lib.htdemucs`.
#
# ## 8.13 Paper claims
#
# Published levels rest on MUSDB18-HQ and 800 further songs, and *need real data*. Differences between our runs count as seen only if the interval over songs excludes zero **and** they are larger than two seeds are apart.

# %%
PAPER = "Rouard et al. 2022"

def claim(text, source, paper, one, other):
    """A claim that is right if variant `one` is ahead of `other`, by the rule of 8.9."""
    seeds = min(len(of_seeds(name)) for name in (one, other))
    gap = of_seeds(one)[:seeds] - of_seeds(other)[:seeds]                 # (seed, song)
    limit = max(seeds_apart if seeds == 1 else 0.0, apart(one, other))
    verdict = same_trend(gap)
    if verdict == SAME_TREND and float(gap.mean()) <= limit:
        verdict = NOT_SEEN
    return Claim(text, source, "8.9", paper, difference_in_words(gap), verdict)

# %% [markdown]
# The verdicts are computed:

# %%
claims = [
    *(Claim(f"Parameters of {name}", "package demucs 4.1.0", "8.7", f"{named[name]:,}",
            f"{counts[name]:,}", reproduced(counts[name], named[name], 0)) for name in counts),
    claim("A longer context helps", PAPER, f"{context_gain:+.2f} dB", "learned, long context",
          "learned"),
    claim("A deeper transformer helps (200 steps, one seed)", PAPER, f"{depth_gain:+.2f} dB",
          "5 layers", "base"),
    claim("A wider one helps (200 steps, one seed)", PAPER, f"{wider_gain:+.2f} dB",
          "twice as wide", "base"),
    claim("The transformer helps, equal steps", "this chapter", None, "learned",
          "learned, no transformer"),
    claim("Cross attention helps (200 steps, one seed)", "this chapter", None, "base",
          "without cross attention"),
    claim("Positions help (200 steps, one seed)", "Vaswani et al. 2017", "order only", "base",
          "without positions"),
    claim("HT Demucs beats Hybrid Demucs in equal time (one seed)", "this chapter", None, "base",
          "Hybrid Demucs, equal time"),
    claim("HT Demucs beats Demucs in equal time", "this chapter", None, "learned",
          "learned, Demucs")]

# %% [markdown]
# Those about the committed network, and those that only real data can decide:

# %%
over = lambda method: (ours - methods[method]).nanmean(1)
fonts = lambda method: (other[experiment.TRANSFORMER] - other[method]).nanmean(1)
gain = float(paper_scores["HT Demucs, 800 songs more"]["all"]) - float(
    paper_scores["Hybrid Demucs, 800 songs more"]["all"])
claims += [
    Claim("The small HT Demucs beats Open-Unmix", "this chapter", "8.10", None,
          difference_in_words(over("Open-Unmix")), same_trend(over("Open-Unmix"))),
    Claim("It does on another soundfont, too", "this chapter", "8.10", None,
          difference_in_words(fonts("Open-Unmix")), same_trend(fonts("Open-Unmix"))),
    Claim("On a real multitrack it beats chapter 2's rules", "this chapter", "8.10", None,
          difference_in_words([song_lead[experiment.TRANSFORMER]]),
          same_trend([song_lead[experiment.TRANSFORMER]])),
    *(Claim(f"It finds real voices in real music better than the rules, {score}", "this chapter",
            "8.10", None, in_pieces(found), same_trend(found))
      for score, found in (("SDR", by_piece(experiment.TRANSFORMER, on_real_songs.RULES, "vocals")),
                           ("SI-SDR", of_ours))),
    Claim("A branch's cross attention follows time, though nobody tells it", "this chapter", "8.8",
          None, f"{now['steps listen to frames'][0]:.2f} of the weight within 0.1 s, "
          f"{now['steps listen to frames'][1]:.2f} if equal; one chunk", NEEDS_REAL_DATA),
    Claim("With 800 songs more HT Demucs beats Hybrid Demucs", PAPER, "8.9", f"{gain:+.2f} dB",
          "not run", NEEDS_REAL_DATA)]
show_claims(claims)

# %% [markdown]
# An interval over songs says nothing about another seed. *Not seen* may mean that a claim is wrong for small networks, or that so few steps can't show it: what begins hidden needs time to appear.
#
# ## 8.14 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/08_ht_demucs.ipynb) has more tasks, with checks.
#
# **1. By hand.** A query $q = (1, 1)$, keys $(1, 1)$ and $(-1, -1)$, values 0 and 1. What is the answer of (8.1)?
#
# <details><summary>Answer</summary>
#
# The products are $\pm 2$, divided by $\sqrt 2$: $\pm\sqrt 2$. The second weight is $1 / (1 + e^{2 \sqrt 2}) \approx 0.056$, and so is the answer.
#
# ```python
# q, k, v = torch.ones(1, 2), torch.tensor([[1.0, 1], [-1, -1]]), torch.tensor([[0.0], [1.0]])
# answer = F.scaled_dot_product_attention(q, k, v)
# assert abs(float(answer) - 1 / (1 + math.exp(2 * 2 ** 0.5))) < 1e-6
# ```
# </details>
#
# **2. Equal keys.** What does attention give when all keys are equal? When all queries are zero?
#
# <details><summary>Answer</summary>
#
# Both times all products of a query are equal, so all weights are: the mean of the values.
#
# ```python
# torch.manual_seed(0)
# Q, K, V = torch.randn(3, 4), torch.randn(1, 4).expand(6, -1), torch.randn(6, 2)
# mean = V.mean(0).expand(3, -1)
# assert torch.allclose(F.scaled_dot_product_attention(Q, K, V), mean, atol=1e-6)
# assert torch.allclose(F.scaled_dot_product_attention(0 * Q, torch.randn(6, 4), V), mean, atol=1e-6)
# ```
# </details>
#
# **3. Frame by frame or bin by bin?** Does it matter in which order the frequency branch's tokens stand, if positions are added before and the order is undone after?
#
# <details><summary>Answer</summary>
#
# No. Attention doesn't see the order, norms and feed-forward treat each token alike, and the last norm takes all of them together. It matters only where tokens are compared with another program's, token by token.
#
# ```python
# torch.manual_seed(0)
# layer = SelfAttentionLayer(16, 4, 32, 0.0, norm_first=True, norm_out=1, layer_scale=True, init_values=0.5)
# x, order = torch.randn(1, 12, 16), torch.arange(12).view(3, 4).T.flatten()
# with torch.no_grad():
#     assert torch.allclose(layer(x)[:, order], layer(x[:, order]), atol=1e-5)
# ```
# </details>
#
# **4. Who goes first?** In a layer of cross attention, let the frequency branch go first and the time branch listen to its *new* tokens. Is the output another?
#
# <details><summary>Answer</summary>
#
# Yes, and a checkpoint that was trained the other way gives a wrong result, with all shapes right.
#
# ```python
# torch.manual_seed(0)
# make = lambda: CrossAttentionLayer(16, 4, 32, 0.0, norm_first=True, norm_out=1, layer_scale=True, init_values=0.5)
# a, b, z, t = make(), make(), torch.randn(1, 6, 16), torch.randn(1, 9, 16)
# with torch.no_grad():
#     assert (b(t, z) - b(t, a(z, t))).abs().max() > 1e-3
# ```
# </details>
#
# **5. Doubled.** A song is played twice, one after the other. Without positions, what does self attention give for the two halves?
#
# <details><summary>Answer</summary>
#
# The same twice, and the same as for one playing: every key is there twice, every weight is halved.
#
# ```python
# torch.manual_seed(0)
# module, x = MultiheadAttention(16, 4), torch.randn(1, 5, 16)
# with torch.no_grad():
#     twice = module(torch.cat([x, x], 1))
#     assert torch.allclose(twice[:, :5], module(x), atol=1e-5) and torch.allclose(twice[:, 5:], module(x), atol=1e-5)
# ```
# </details>
#
# **6. Open.** The positions of the two branches count in steps and in frames. Give the time branch positions in *frames* (step $m$ is at $m/4$), train both kinds for some hundred steps on the band, and look whether cross attention finds the diagonal sooner. What of a network that is run on another `nfft` than it learned on?
#
# ## 8.15 Sources
#
# - S. Rouard, F. Massa and A. Défossez, *Hybrid transformers for music source separation*, ICASSP 2023, arXiv 2211.08553.
# - A. Vaswani et al., *Attention is all you need*, NeurIPS 2017.
# - T. Likhomanenko, Q. Xu, R. Collobert, G. Synnaeve and A. Rogozhnikov, *CAPE: encoding relative positions with continuous augmented positional embeddings*, NeurIPS 2021.
# - H. Touvron, M. Cord, A. Sablayrolles, G. Synnaeve and H. Jégou, *Going deeper with image transformers*, ICCV 2021: LayerScale.
# - J. Ba, J. Kiros and G. Hinton, *Layer normalization*, 2016; Y. Wu and K. He, *Group normalization*, ECCV 2018.
#
# The network's design is that of the package `demucs` (MIT). All code here is the course's own.
