# %% [markdown]
# # Chapter 8b · Sparse attention
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/08b_sparse_attention.ipynb)
#
# In attention every step of a song looks at every other one. Twice the song, four times the work: that is why HT Demucs hears eight seconds at a time. The paper's best
# model leaves out nine pairs of ten, and chooses them by *hashing*: tokens that point the same way fall into the same buckets. It has neither
# public weights nor a public kernel. This chapter builds the attention, checks it against dense attention under the same mask, writes the missing kernel for a CPU, and
# measures from which length on it pays: for memory, for time, and for what the attention was there for.
#
# **You will be able to**
# - compute what attention costs at a given length, and which part of a network costs more,
# - write a locality-sensitive hash for directions, and derive how likely two of them share a bucket,
# - keep the pairs that agree in $k$ of 32 rounds, and say what $k$ can't do,
# - compute attention on kept pairs without ever holding a square of numbers, forward and backward,
# - read a table of memory and time against length, and find where a method pays.
#
# **You need** attention with queries, keys and values (chapter 8), the similarity of frames (chapter 2), broadcasting and autograd in PyTorch.
#
# **Time** <!-- minutes 08b_sparse_attention -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 8b.0 Set up
#
# The first lines install the course where it is missing, on Colab. Sizes are those of the small demonstrations; the long measurements of sections 8b.12 and 8b.13 were made by a command, and their results come with the course.

# %%
#| default_exp sparse_attention
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("08b_sparse_attention", cpu=dict(seconds=30.0, steps=120, pairs=10000),
          gpu=dict(seconds=30.0, steps=120, pairs=100000), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/sparse_attention.py`, word for word. It begins here. `numba` compiles loops (section 8b.9); it came with librosa.

# %%
#| export
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from course_lib.audio import check_audio
from course_lib.htdemucs import MultiheadAttention
from course_lib.spectral import mel_spectrogram

# %% [markdown]
# The rest serves the chapter only.

# %%
import time
import matplotlib.pyplot as plt
from course_lib.data import recording
from course_lib.htdemucs import HTDemucs
from course_lib.notebook import Diagram, listen, mean_interval, show, show_table
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, reproduced, same_trend,
                                        show_claims)
from course_lib.results import measured, measured_card, published
from course_lib.spectral import istft, stft

# %% [markdown]
# ## 8b.1 What attention costs
#
# Each of $T$ tokens has a query $q_i$, a key $k_i$ and a value $v_i$ of $d$ numbers in each head. A token's answer is a mean of all values, weighted by how well the keys fit its query:
#
# $$ y_i = \sum_{j=1}^{T} w_{ij}\, v_j, \qquad w_{ij} = \frac{e^{s_{ij}}}{\sum_{l} e^{s_{il}}}, \qquad s_{ij} = \frac{q_i \cdot k_j}{\sqrt d}. \tag{8b.1} $$
#
# There are $T^2$ pairs. Each costs $2d$ operations for $s_{ij}$ and $2d$ for its part of $y_i$, so with $C$ channels in all heads together
#
# $$ \text{attention: } 4\,T^2 C, \qquad \text{all that is linear in a layer: } 24\, T C^2, \tag{8b.2} $$
#
# the latter for four projections of $C \times C$ and two layers of $C \times 4C$, at two operations a weight. How many tokens has HT Demucs? Its frequency branch has 8 bins and a frame every 1024 samples, its time branch a step every 256.

# %%
def tokens(seconds, rate=44100):
    """Tokens of the frequency and of the time branch of HT Demucs."""
    samples = round(seconds * rate)
    return 8 * math.ceil(samples / 1024), math.ceil(samples / 256)

# %% [markdown]
# 7.8 s is the segment of the dense model, 12.2 s that of the sparse one. The last two columns are one self-attention layer of the frequency branch, 512 channels in 8 heads: the square of scores as float32, for one song, and attention's operations beside the layer's others.

# %%
C, heads = 512, 8
rows = []
for seconds in (7.8, 12.2, 30.0, 60.0):
    T, T_time = tokens(seconds)
    attention, rest = 4 * T ** 2 * C, 24 * T * C ** 2              # (8b.2)
    rows.append([seconds, T, T_time, 4 * heads * T ** 2 / 1e6, attention / rest])
show_table(rows, ["seconds", "tokens, frequency", "tokens, time", "scores (MB)",
                  "attention / rest"],
           digits={"seconds": 1, "scores (MB)": 0}, caption="What attention costs at four lengths.")
assert tokens(7.8) == (2688, 1344)

# %% [markdown]
# From $T = 6C$ on attention is the larger part: 3072 tokens here, 8.9 seconds. At a minute it is nearly all there is. And in training every layer keeps its square for the way back, for each song of the batch.
#
# PyTorch's `scaled_dot_product_attention` no longer holds the square: it works through it in tiles and throws each away (Dao et al. 2022). So the *memory* is linear; the *work* isn't, and the clock shows it:

# %%
assert 4 * (6 * C) ** 2 * C == 24 * (6 * C) * C ** 2
def seconds_of(function, repeats=5):
    """The shortest processor time of a few runs, which other programs disturb least."""
    best = math.inf
    for _ in range(repeats):
        began = time.process_time()
        function()
        best = min(best, time.process_time() - began)
    return best

# %% [markdown]
# Four times the length:

# %%
fused = []
for T in (512, 2048):
    q, k, v = torch.randn(3, 1, 2, T, 64, generator=P.generator)   # (batch, head, time, feature)
    fused.append(seconds_of(lambda: F.scaled_dot_product_attention(q, k, v)))
print("takes more than seven times as long:", fused[1] > 7 * fused[0])
assert fused[1] > 7 * fused[0]

# %% [markdown]
# <details><summary>Quick question: cross attention of HT Demucs goes from 1344 tokens to 2688. How many pairs has it, beside the two self-attentions?</summary>
#
# $1344 \cdot 2688$ each way, half of the frequency branch's $2688^2$ and twice the time branch's $1344^2$.
# </details>
#
# ## 8b.2 Attention on some of the pairs
#
# Suppose somebody tells us which pairs matter: for each query $i$ a set $\mathcal K_i$ of keys. The softmax runs over these only,
#
# $$ y_i = \frac{\sum_{j \in \mathcal K_i} e^{s_{ij}} v_j}{\sum_{j \in \mathcal K_i} e^{s_{ij}}}. \tag{8b.3} $$
#
# What is left out counts as $s_{ij} = -\infty$, and the weights of the rest grow so that they still sum to one. Read as a loop:

# %%
def over_kept(q, k, v, kept):
    """(8b.3) as a loop: q, k, v (time, feature), kept a list of keys for each query."""
    y = torch.zeros(len(q), v.shape[1])
    for i, keys in enumerate(kept):
        scores = [math.exp(float(q[i] @ k[j]) / math.sqrt(q.shape[1])) for j in keys]
        for j, score in zip(keys, scores):
            y[i] += score / sum(scores) * v[j]
    return y

# %% [markdown]
# Three queries, four keys. The second query keeps a single key, so its answer must be that key's value, whatever the score. The third keeps *none*: we say that its answer is zero.

# %%
q, k, v = (torch.randn(n, 2, generator=P.generator) for n in (3, 4, 4))
y = over_kept(q, k, v, [[0, 1, 3], [2], []])
print([[round(value, 3) for value in row] for row in y.tolist()])
assert torch.allclose(y[1], v[2]) and (y[2] == 0).all()

# %% [markdown]
# For tensors the sets become a mask, `True` where a pair is kept. (`nn.MultiheadAttention` has it the other way round: its `True` means *leave out*.) The fused function gives NaN or zero for a query without keys, depending on version and device, and NaN in a gradient
# spoils all weights. So such a row is opened, and its answer multiplied by zero.

# %%
#| export
def _check_attention(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(f"{shapes}: expected (..., query, feature), (..., key, feature) and "
                         "(..., key, value) with the same batch and heads in front")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or 0 in (*q.shape, *v.shape):
        raise ValueError(f"{shapes}: expected as many features in q as in k, as many keys in k as "
                         "in v, and at least one of each")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k, v are {q.dtype}, {k.dtype}, {v.dtype}; expected one float type")

# %% [markdown]
# Then (8b.3) itself, with weights only where the mask has kept a pair:

# %%
#| export
def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor,
                     dropout: float = 0.0) -> Tensor:
    """Attention over the kept pairs (eq. 8b.3): (..., query, value). Takes memory for the mask.

    q: (..., query, feature). k: (..., key, feature). v: (..., key, value). mask: bool
    (..., query, key), True where a pair is kept; a query that keeps no key gives zeros, and no
    gradient. dropout: share of the weights that are set to 0. ValueError for other shapes.
    """
    _check_attention(q, k, v)
    if mask.dtype != torch.bool or mask.shape[-2:] != (q.shape[-2], k.shape[-2]):
        raise ValueError(f"mask is {mask.dtype} {tuple(mask.shape)}; expected bool with "
                         f"{q.shape[-2]} queries and {k.shape[-2]} keys, True where kept")
    some = mask.any(-1, keepdim=True)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask | ~some, dropout_p=dropout)
    return y * some

# %% [markdown]
# Against the loop, and with a gradient that stays finite:

# %%
mask = torch.tensor([[1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
leaf = q.clone().requires_grad_()
found = masked_attention(leaf, k, v, mask)
assert torch.allclose(found, y, atol=1e-6)
found.sum().backward()
print("gradients of the second and third query:", leaf.grad[1:].abs().max().item() < 1e-6)
assert torch.isfinite(leaf.grad).all() and leaf.grad[0].abs().max() > 1e-3

# %% [markdown]
# The query with one key has no gradient either: where there is no choice, there is nothing to learn. That is the price of leaving out pairs. A pair that is left out can't say that it should have been kept.
#
# ## 8b.3 Which pairs does music need?
#
# We need an attention that was trained on something real, small enough for a minute. Take chapter 2's thought, that music repeats: **rebuild every frame of a recording from its other frames.** Tokens are frames of a log-mel spectrogram with two neighbours on
# either side. One matrix $W$ makes queries and keys, $q_i = k_i = W x_i + b$; the values are the frames themselves. Frames less than half a second apart are hidden from each other, as otherwise the answer would be the neighbour.

# %%
d = Diagram()
frames = d.block("frames $x_i$", "(time, 5 mel)", kind="data")
project = d.block("$W$, $b$", "(time, 64)", kind="trained", after=frames)
choice = d.block("which pairs?", "(time, time)", after=project)
attend = d.block("attention (8b.3)", "(time, mel)", after=choice)
d.arrow(project, attend, "q, k", route="over")
values = d.block("frames $v_j$", "(time, mel)", kind="data", after=attend, place="below",
                 arrow=False)
d.arrow(values, attend)
rebuilt = d.block("frames, rebuilt", "(time, mel)", kind="data", after=attend)
show(d.draw(), "Frames of a recording, rebuilt from other frames of it.", d.in_words())

# %%
#| export
def log_mel_frames(x: Tensor, rate: float, n_mels: int = 64, n_fft: int = 2048,
                   hop_length: int = 1024) -> Tensor:
    """Frames of a recording as tokens: log-mel amplitudes, mean 0 in each band and deviation 1 in
    all, (time, n_mels).

    x: (1, time), mono, at `rate` Hz. Silence gives zeros. Source: section 8b.3.
    """
    check_audio(x=x)
    if x.ndim != 2 or x.shape[0] != 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (1, time): take the mean of the "
                         "channels")
    power = mel_spectrogram(x, rate, n_mels, n_fft, hop_length)[0]
    level = power.clamp_min(0).sqrt()                               # (mel, time)
    frames = torch.log(1e-3 + level / level.mean().clamp_min(1e-8)).T
    frames = frames - frames.mean(0)
    deviation = frames.std()
    return frames / deviation if deviation > 1e-4 else torch.zeros_like(frames)


def with_neighbours(frames: Tensor, reach: int = 2) -> Tensor:
    """Each frame beside its neighbours: (time, mel) to (time, (2 reach + 1) mel), ends repeated."""
    padded = F.pad(frames.T[None], (reach, reach), mode="replicate")[0]
    return padded.unfold(-1, 2 * reach + 1, 1).transpose(0, 1).flatten(1)

# %% [markdown]
# The module takes the mask from outside, so that the same weights can look at all pairs or at some.

# %%
#| export
class FrameRetrieval(nn.Module):
    """Rebuilds each frame of a recording from others that resemble it, by attention.

    mel: bands of a frame. features: of queries and keys, which are the same. reach: neighbours on
    either side that a token sees. apart: frames nearer than that are hidden from each other.
    seed: of the first weights. Source: section 8b.3, after REPET-SIM (chapter 2).
    """

    def __init__(self, mel: int, features: int = 64, reach: int = 2, apart: int = 11,
                 seed: int = 0):
        super().__init__()
        self.reach, self.apart = reach, apart
        inputs = (2 * reach + 1) * mel
        self.project = nn.Linear(inputs, features)
        first = torch.randn(features, inputs, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            self.project.weight.copy_(first / math.sqrt(inputs))
            self.project.bias.zero_()

    def queries(self, frames: Tensor) -> Tensor:
        """Queries, and keys, of the frames: (time, mel) to (time, features)."""
        return self.project(with_neighbours(frames, self.reach))

    def allowed(self, frames: Tensor) -> Tensor:
        """The pairs far enough apart: bool (time, time)."""
        place = torch.arange(len(frames), device=frames.device)
        return (place[:, None] - place).abs() >= self.apart

    def forward(self, frames: Tensor, choose: Callable | None = None) -> Tensor:
        """Rebuild frames (time, mel). choose: function of (queries, allowed) to the kept pairs,
        bool (time, time); None keeps all that are allowed."""
        q, kept = self.queries(frames), self.allowed(frames)
        if choose is not None:
            kept = choose(q.detach(), kept)
        return masked_attention(q, q, frames, kept)

# %% [markdown]
# Training is what it always is:

# %%
#| export
def train_retrieval(frames: Tensor, steps: int, choose: Callable | None = None, seed: int = 0,
                    learning_rate: float = 3e-3) -> tuple[FrameRetrieval, list[float]]:
    """Train a `FrameRetrieval` on the frames (time, mel) of one recording by mean squared error.

    choose: as in its forward, called anew at every step. Returns the module and a loss a step.
    """
    model, losses = FrameRetrieval(frames.shape[1], seed=seed), []
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for _ in range(steps):
        loss = (model(frames, choose) - frames).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, losses

# %% [markdown]
# Thirty seconds of *Vibe Ace*, a jazz tune over a repeated pattern:

# %%
rate = 22050
audio, _ = recording("vibeace", rate, mono=True, seconds=P.seconds)
frames = log_mel_frames(audio, rate)                                # (time, mel)
listen(audio[:, :10 * rate], rate, "Kevin MacLeod, Vibe Ace: the first ten seconds")
began = time.perf_counter()
dense_model, dense_losses = train_retrieval(frames, P.steps)
print(f"{len(frames)} frames; of their variance, less than a quarter is left:",
      dense_losses[-1] < 0.25 * float(frames.var()))
assert dense_losses[-1] < 0.25 * float(frames.var())

# %% [markdown]
# Now sort each query's weights, the largest first, and add them up. If attention were a plain mean, a tenth of the keys would hold a tenth of the weight.

# %%
with torch.no_grad():
    q = dense_model.queries(frames)
    scores = (q @ q.T / math.sqrt(q.shape[1])).masked_fill(~dense_model.allowed(frames), -torch.inf)
    weights = scores.softmax(-1)                                    # (query, key)
concentration = weights.sort(-1, descending=True).values.cumsum(-1).mean(0)   # (best keys,)
tenth = len(frames) // 10
top_tenth = float(concentration[tenth])

# %% [markdown]
# Both curves:

# %%
figure, axis = plt.subplots(figsize=(6, 2.6))
percent = torch.linspace(0, 100, len(frames))
axis.plot(percent, concentration, label="trained attention")
axis.plot(percent, percent / 100, ls="--", label="a plain mean")
axis.axvline(10, color="0.6", lw=1)
axis.set(xlabel="best keys of a query (%)", ylabel="share of the weight", ylim=(0, 1.02))
axis.legend()
show(figure, "How much of the weight the best keys hold, mean over the frames of a recording.",
     "Two rising curves from 0 to 1: the trained one rises steeply, the other is a straight line.")

# %% [markdown]
# In one number:

# %%
print("a tenth of the keys holds more than half of the weight:", top_tenth > 0.5)
assert top_tenth > 0.5

# %% [markdown]
# The weight is concentrated, but the tail is not nothing: nine tenths of the keys share the rest. What leaving it out does, section 8b.13 measures. First: how does one find a query's best keys *without computing all scores*?
#
# ## 8b.4 A hash that keeps directions
#
# A hash function sends things to buckets. An ordinary one scatters neighbours on purpose. A *locality-sensitive* one (Indyk and Motwani 1998) does the opposite: the nearer two things are, the likelier they share a bucket. For directions it is quickly made. Draw two random vectors $r_1, r_2$, and ask which
# of $r_1, r_2, -r_1, -r_2$ a vector $x$ fits best:
#
# $$ b(x) = \operatorname*{argmax}\; [\,x \cdot r_1,\; x \cdot r_2,\; -x \cdot r_1,\; -x \cdot r_2\,]. \tag{8b.4} $$
#
# That makes four buckets (Andoni et al. 2015). In two dimensions one can see them:

# %%
generator = torch.Generator().manual_seed(3)
points = torch.randn(240, 2, generator=generator)
r = torch.randn(2, 2, generator=generator)                          # (feature, r_1 or r_2)
def bucket(x, r):
    """(8b.4) for one vector x (feature,)."""
    fits = [float(x @ r[:, 0]), float(x @ r[:, 1])]
    fits += [-fits[0], -fits[1]]
    return fits.index(max(fits))
by_bucket = torch.tensor([bucket(x, r) for x in points])

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, sharey=True)
colours, markers = ["C0", "C1", "C2", "C3"], "os^D"
for axis, seed in zip(axes, (3, 4, 5)):
    r_here = r if seed == 3 else torch.randn(2, 2, generator=torch.Generator().manual_seed(seed))
    found = torch.tensor([bucket(x, r_here) for x in points])
    for number in range(4):
        axis.plot(*points[found == number].T, markers[number], color=colours[number], ms=3)
    for column in (0, 1):
        axis.plot(*zip(-r_here[:, column], r_here[:, column]), color="0.3", lw=1)
    axis.set(aspect="equal", xlabel=f"round {seed - 2}")
show(figure, "Three rounds of the hash. Lines: ±r1 and ±r2. Colours and marks: the buckets.",
     "Three panels of the same points in a plane, cut into four sectors at different angles.")

# %% [markdown]
# The buckets are sectors; how long a vector is plays no part. One round may cut between two neighbours, so there are many rounds, 32 in the paper, each with its own $r_1, r_2$. The tensor $R$ has the shape (feature, round, buckets/2).

# %%
#| export
def hash_directions(features: int, rounds: int = 32, buckets: int = 4,
                    generator: torch.Generator | None = None) -> Tensor:
    """The random directions R of all rounds: (feature, round, buckets / 2), Gaussian.

    rounds: hashes drawn independently. buckets: of each, an even number. generator: where the
    numbers come from (None: torch's global one). ValueError for sizes below 1 or odd buckets.
    """
    if features < 1 or rounds < 1 or buckets < 2 or buckets % 2:
        raise ValueError(f"features {features}, rounds {rounds}, buckets {buckets}; expected at "
                         "least 1, at least 1, and an even number")
    return torch.randn(features, rounds, buckets // 2, generator=generator)

# %% [markdown]
# And the bucket of each vector in each round:

# %%
#| export
def lsh_buckets(x: Tensor, R: Tensor) -> Tensor:
    """The bucket of every vector in every round (eq. 8b.4): uint8 (..., time, round), no gradient.

    x: (..., time, feature). R: from `hash_directions`. Zeros fall into bucket 0. Computed in
    float32 for half precision. ValueError where the features differ.
    """
    if x.ndim < 2 or x.shape[-1] != R.shape[0]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., time, {R.shape[0]}), as "
                         f"many features as R {tuple(R.shape)}")
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    fits = torch.einsum("...tf,fhi->...thi", x, R.to(x))            # (..., time, round, half)
    return torch.cat([fits, -fits], -1).argmax(-1).to(torch.uint8)

# %% [markdown]
# The same points, one round:

# %%
assert torch.equal(lsh_buckets(points, r[:, None])[:, 0].long(), by_bucket)
assert torch.equal(lsh_buckets(7 * points, r[:, None]), lsh_buckets(points, r[:, None]))
opposite = lsh_buckets(-points, r[:, None])[:, 0].long()
assert torch.equal(opposite, (by_bucket + 2) % 4)                   # the bucket across
print("points in each bucket:", by_bucket.bincount(minlength=4).tolist())

# %% [markdown]
# ## 8b.5 How likely two directions meet
#
# Let two vectors $x, y$ of any dimension stand at the angle $\theta$. The pair $(x \cdot r_1, x \cdot r_2)$ is a point in the plane, and (8b.4) says in which of four sectors it lies, those around the axes. Their borders are the diagonals: the sector is told by two signs,
#
# $$ \operatorname{sign}\bigl(x \cdot (r_1 + r_2)\bigr), \qquad \operatorname{sign}\bigl(x \cdot (r_1 - r_2)\bigr). $$
#
# Now $r_1 + r_2$ and $r_1 - r_2$ are again Gaussian, and independent of each other. A random plane separates $x$ from $y$ with probability $\theta / \pi$ (only where it cuts the angle between them), so both signs agree with
#
# $$ p(\theta) = \Bigl(1 - \frac{\theta}{\pi}\Bigr)^{2}. \tag{8b.5} $$

# %%
#| export
def collision_probability(angle: Tensor) -> Tensor:
    """The probability that two vectors at an angle (radians, 0 to pi) share one of the four buckets
    of a round (eq. 8b.5). Vectors at right angles: 1/4."""
    return (1 - angle / math.pi) ** 2

# %% [markdown]
# And in at least so many of the rounds, which are independent of each other:

# %%
#| export
def match_probability(angle: Tensor, needed: int, rounds: int = 32) -> Tensor:
    """The probability that they share a bucket in at least `needed` of the rounds (eq. 8b.6)."""
    p = collision_probability(angle.double())
    ways = [math.comb(rounds, n) * p ** n * (1 - p) ** (rounds - n)
            for n in range(needed, rounds + 1)]
    return sum(ways) if ways else torch.zeros_like(p)

# %% [markdown]
# Rounds are independent, so the number of shared buckets is binomial, and a pair is kept with
#
# $$ P(\theta) = \sum_{n=k}^{32} \binom{32}{n}\, p^n (1-p)^{32-n}. \tag{8b.6} $$
#
# Theory against drawing: pairs of vectors in 64 dimensions at a given angle, 32 rounds each.

# %%
def pairs_at(angle, count, features=64):
    """Two vectors at this angle, `count` times, in random planes: two (count, feature)."""
    draw = torch.randn(2, count, features, generator=P.generator)
    x = F.normalize(draw[0], dim=-1)
    across = F.normalize(draw[1] - (draw[1] * x).sum(-1, keepdim=True) * x, dim=-1)
    return x, math.cos(angle) * x + math.sin(angle) * across

# %%
angles = torch.linspace(0, math.pi, 9)
one_round, twelve = [], []
for angle in angles.tolist():
    x, y = pairs_at(angle, P.pairs // 10)
    R = torch.stack([hash_directions(64, 32, generator=P.generator) for _ in range(10)])
    same = torch.cat([lsh_buckets(x[n::10], R[n]) == lsh_buckets(y[n::10], R[n])
                      for n in range(10)])                          # (pair, round)
    one_round.append(float(same.float().mean()))
    twelve.append(float((same.sum(-1) >= 12).float().mean()))
worst = max(abs(found - float(collision_probability(angle)))
            for found, angle in zip(one_round, angles))
print("one round, largest distance from the formula below 0.03:", worst < 0.03)
assert worst < 0.03
assert max(abs(found - float(match_probability(angle, 12)))
           for found, angle in zip(twelve, angles)) < 0.1

# %%
figure, axis = plt.subplots(figsize=(6, 2.8))
fine = torch.linspace(0, math.pi, 200)
axis.plot(fine.rad2deg(), collision_probability(fine), label="one round")
for needed, style in ((8, ":"), (12, "-"), (20, "--")):
    axis.plot(fine.rad2deg(), match_probability(fine, needed), "C1" + style,
              label=f"{needed} of 32 rounds")
axis.plot(angles.rad2deg(), one_round, "C0o", ms=4)
axis.plot(angles.rad2deg(), twelve, "C1o", ms=4)
axis.set(xlabel="angle between query and key (degrees)", ylabel="probability",
         xticks=range(0, 181, 30))
axis.legend()
show(figure, "Probability of a shared bucket, and of k shared ones. Dots: simulated, for one round "
     "and for k = 12.", "Falling curves over the angle; those for k of 32 rounds are steep steps.")

# %% [markdown]
# One round is a vague judge. Thirty-two together are a soft step: with $k = 12$ nearly all pairs below 50 degrees are kept and nearly none above 100. A larger $k$ moves the step to smaller angles. So the rule keeps the pairs at **small angles**, up to chance.
#
# <details><summary>Quick question: the softmax wants large inner products. When are these not the pairs at small angles?</summary>
#
# $q \cdot k = |q| |k| \cos\theta$: a long key at 60 degrees can beat a short one at 20. The hash doesn't see lengths. Some methods normalise the keys or add a dimension that makes lengths count; HT Demucs doesn't.
# </details>
#
# ## 8b.6 Counting rounds, choosing k
#
# The number of rounds in which query $i$ and key $j$ agree, as a loop over rounds, and as a product. For the product each bucket becomes a vector of four numbers with a single one, all rounds in a row make 128 numbers, and the inner product of two such rows counts the common ones.

# %%
#| export
def _as_ones(b: Tensor, buckets: int) -> Tensor:
    """Buckets (..., time, round) as rows of zeros and ones: float (..., time, round * buckets)."""
    return F.embedding(b.int(), torch.eye(buckets, device=b.device)).flatten(-2)


def count_matches(b_q: Tensor, b_k: Tensor, buckets: int = 4) -> Tensor:
    """The number of rounds in which query and key share a bucket: int16 (..., query, key).

    b_q: (..., query, round), b_k: (..., key, round), from `lsh_buckets` with the same R.
    """
    return (_as_ones(b_q, buckets) @ _as_ones(b_k, buckets).mT).round().short()

# %% [markdown]
# On the queries of the trained attention:

# %%
R = hash_directions(q.shape[1], generator=torch.Generator().manual_seed(0))
b = lsh_buckets(q, R)                                               # (time, round)
counts = count_matches(b, b)                                        # (query, key)
by_loop = sum((b[:, None, n] == b[None, :, n]).short() for n in range(32))
assert torch.equal(counts, by_loop) and (counts.diagonal() == 32).all()

# %% [markdown]
# Now $k$. We want to leave out a share $\sigma$ of the pairs, 90%. But $k$ is a whole number, and many pairs have the same count: **the share moves in steps.** Here are the steps near the wanted one, among the pairs that are allowed.

# %%
allowed = dense_model.allowed(frames)
shares = {k: float((counts[allowed] >= k).float().mean()) for k in range(1, 33)}
needed = next(k for k in shares if shares[k] <= 0.1)
show_table([[k, 100 * shares[k]] for k in range(needed - 2, needed + 3)],
           ["k", "kept (%)"], digits=0, caption="Pairs that agree in at least k of 32 rounds.")
assert shares[needed - 1] > 0.1 >= shares[needed]

# %% [markdown]
# No $k$ keeps exactly a tenth. The paper says that $k$ is chosen for 90%, its code that it can be inferred, not how. Our rule: **the smallest $k$ that leaves out at least the wanted share**, for each head and song of its own. So somewhat fewer pairs are kept than asked for; where the keys are all alike, every pair has 32 matches, no $k$ can part them, and all are kept.
# The second rule is for a query that agrees with nobody: **it keeps the keys it agrees with most often.** So every query keeps at least one.
#
# To find $k$ one needn't count all pairs; evenly spaced queries do as well, by default 128. That is a poll instead of a census.

# %%
#| export
def matches_needed(counts: Tensor, sparsity: float, rounds: int) -> Tensor:
    """The smallest k from 1 to `rounds` so that at least the share `sparsity` of the pairs has
    fewer than k matches; `rounds` where there is none. One for each batch and head: (...).

    counts: (..., query, key) from `count_matches`; pairs below 0 don't take part.
    ValueError for a sparsity outside [0, 1). Source: section 8b.6.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}; expected the share of pairs to leave out, from "
                         "0 to below 1, such as 0.9")
    needed = []
    for head in counts.reshape(-1, counts.shape[-2] * counts.shape[-1]):
        each = head[head >= 0].long().bincount(minlength=rounds + 1)    # pairs by matches
        kept = each.flip(0).cumsum(0).flip(0)                       # pairs with at least k
        needed.append(int((kept[1:] > (1 - sparsity) * each.sum()).sum()) + 1)
    needed = torch.tensor(needed, dtype=counts.dtype, device=counts.device).clamp(max=rounds)
    return needed.reshape(counts.shape[:-2])


def _polled(b_q: Tensor, sample: int) -> Tensor:
    """Evenly spaced queries, at most `sample`: (..., sample, round)."""
    if b_q.shape[-2] <= sample:
        return b_q
    places = torch.linspace(0, b_q.shape[-2] - 1, sample, device=b_q.device).round().long()
    return b_q[..., places, :]

# %% [markdown]
# With both rules, the mask:

# %%
#| export
def lsh_mask(q: Tensor, k: Tensor, R: Tensor, sparsity: float = 0.9, *,
             allowed: Tensor | None = None, sample: int = 128) -> Tensor:
    """Which pairs agree in enough rounds: bool (..., query, key). Memory grows with their number.

    q: (..., query, feature), k: (..., key, feature). R: from `hash_directions`. sparsity: share of
    pairs that is left out at least, 0 to below 1 (fewer only where all counts are equal). A query
    without such a key keeps those it agrees with most often. allowed: bool (query, key), pairs that
    may be kept. sample: queries from which k is found. Source: Rouard et al. 2022; section 8b.6.
    """
    rounds, buckets = R.shape[1], 2 * R.shape[2]
    b_q, b_k = lsh_buckets(q, R), lsh_buckets(k, R)
    counts = count_matches(b_q, b_k, buckets)
    if allowed is None:
        poll = count_matches(_polled(b_q, sample), b_k, buckets)
        allowed = torch.ones((), dtype=torch.bool, device=q.device)
    else:
        poll = counts = counts.masked_fill(~allowed, -1)
    needed = matches_needed(poll, sparsity, rounds)[..., None, None]
    return (counts >= torch.minimum(needed, counts.amax(-1, keepdim=True))) & allowed

# %% [markdown]
# Does it find the strong pairs? For each query take the hundredth of the keys with the largest weights. How many of them does the hash keep, against a mask that keeps as many pairs by chance?

# %%
strong = weights >= weights.kthvalue(len(frames) - len(frames) // 100, keepdim=True).values
def found_by(kept):
    """Share of the strong pairs, and share of the weight, that a mask keeps."""
    return float((strong & kept).sum() / strong.sum()), float((weights * kept).sum(-1).mean())
recall = {}
for sparsity in (0.5, 0.7, 0.8, 0.9, 0.95, 0.98):
    kept = lsh_mask(q, q, R, sparsity, allowed=allowed)
    recall[sparsity] = (float(kept[allowed].float().mean()), *found_by(kept))

# %% [markdown]
# And the best that any mask of that size could do, which has to know the weights:

# %%
best = [float(concentration[int(share * len(frames)) - 1]) for share, _, _ in recall.values()]
figure, axis = plt.subplots(figsize=(6, 2.8))
kept_share, strong_share, weight_share = zip(*recall.values())
axis.plot(kept_share, strong_share, "o-", label="strong pairs, by hashing")
axis.plot(kept_share, weight_share, "s-", label="weight, by hashing")
axis.plot(kept_share, best, "^:", label="weight, best choice of as many")
axis.plot([0, 0.5], [0, 0.5], "--", color="0.5", label="by chance")
axis.set(xlabel="share of the pairs that is kept", ylabel="share found", ylim=(0, 1.02))
axis.legend(loc="lower right")
show(figure, "What 32 rounds of hashing find of the strongest hundredth and of the weight.",
     "Four curves over the share of kept pairs; hashing lies far above chance, below the best.")
print("at 90%: strong pairs found more than half:", recall[0.9][1] > 0.5)
assert recall[0.9][1] > 0.5 and all(by_hash > 2 * share for share, _, by_hash in
                                    [recall[0.9], recall[0.95]])
assert all(by_hash <= oracle + 1e-3 for by_hash, oracle in zip(weight_share, best))

# %% [markdown]
# Hashing finds much more than chance and less than the best choice, which would need all scores. Pictured, as a matrix of time against time:

# %%
kept = lsh_mask(q, q, R, 0.9, allowed=allowed)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.9), sharey=True)
seconds = len(frames) * 1024 / rate
for axis, picture, title in zip(axes, (weights.sqrt(), kept.float()), ("weights", "kept pairs")):
    axis.imshow(picture, extent=(0, seconds, seconds, 0), cmap="magma", vmax=picture.quantile(0.99),
                interpolation="antialiased")
    axis.set(title=title, xlabel="key (s)")
axes[0].set_ylabel("query (s)")
show(figure, "Dense attention's weights (square root), and the pairs that hashing keeps.",
     "Two square pictures of time against time with the same diagonal stripes and blocks.")

# %% [markdown]
# The stripes beside the diagonal are the pattern of the piece that comes again; the rounds found most of them without computing a single score.
#
# ## 8b.7 Masks that don't look
#
# The official code also knows four masks that are fixed in advance, for $T_2$ queries and $T_1$ keys:
#
# - *diag*: a window around the query's own place, $\lfloor i\, T_1/T_2 + w \rfloor$ for $|w| \le$ `sparse_attn_window`,
# - *jmask*: places that jump further and further, $\lfloor i\, T_1/T_2 \pm n(n+1)/2 \rfloor$: near ones densely, far ones thinly,
# - *global*: everyone sees the first `global_window` keys, and the first queries see everyone,
# - *random*: each pair by chance.
#
# Several can be joined by underscores, as in `diag_global`.

# %%
#| export
MASK_TYPES = ("diag", "jmask", "random", "global")


def _at_offsets(T1: int, T2: int, offsets: Tensor, border: int) -> Tensor:
    """True at the given distances from the diagonal of (T2, T1); with a border of that width, which
    catches what lies outside; without, the outermost keys catch it."""
    rows = torch.arange(T2 + 2 * border)[:, None]
    columns = (T1 / T2 * rows + offsets).long().clamp(0, T1 + 2 * border - 1)
    mask = torch.zeros(T2 + 2 * border, T1 + 2 * border, dtype=torch.bool)
    mask.scatter_(1, columns, torch.ones_like(columns, dtype=torch.bool))
    return mask[border:T2 + border, border:T1 + border]


def elementary_mask(T1: int, T2: int, mask_type: str, sparse_attn_window: int = 500,
                    global_window: int = 50, mask_random_seed: int = 42,
                    sparsity: float = 0.95) -> Tensor:
    """One of the fixed masks: bool (T2, T1), queries by keys, True where a pair is kept.

    T1: keys. T2: queries. mask_type: one of MASK_TYPES. sparse_attn_window: reach of diag.
    global_window: keys that all queries see. mask_random_seed, sparsity: of random. Arguments and
    result are those of demucs 4.1.0. ValueError for other types and sizes below 1.
    """
    if mask_type not in MASK_TYPES or T1 < 1 or T2 < 1:
        raise ValueError(f"mask_type {mask_type!r}, T1 {T1}, T2 {T2}; expected one of "
                         f"{', '.join(MASK_TYPES)} and sizes of at least 1")
    if mask_type == "diag":
        reach = torch.arange(-sparse_attn_window, sparse_attn_window + 1)
        return _at_offsets(T1, T2, reach, border=0)
    if mask_type == "jmask":
        n = torch.arange(int((2 * T1) ** 0.5 + 1))
        jumps = n * (n + 1) // 2
        return _at_offsets(T1, T2, torch.cat([-jumps, jumps]), border=1)
    if mask_type == "random":
        generator = torch.Generator().manual_seed(mask_random_seed)
        return torch.rand(T1 * T2, generator=generator).reshape(T2, T1) > sparsity
    mask = torch.zeros(T2, T1, dtype=torch.bool)
    mask[:, :global_window] = True
    mask[:int(global_window * T2 / T1)] = True
    return mask


def attention_mask(T1: int, T2: int, mask_type: str, **options) -> Tensor:
    """Fixed masks joined by underscores, such as "diag_jmask": where any of them keeps the pair.

    Returns bool (T2, T1). options: those of `elementary_mask`.
    """
    return torch.stack([elementary_mask(T1, T2, one, **options)
                        for one in mask_type.split("_")]).any(0)

# %% [markdown]
# Small enough to see:

# %%
figure, axes = plt.subplots(1, 5, figsize=(10, 2.4), sharey=True)
options = dict(sparse_attn_window=4, global_window=3, sparsity=0.9)
for axis, kind in zip(axes, (*MASK_TYPES, "diag_jmask_global")):
    shown = attention_mask(60, 60, kind, **options)
    axis.imshow(~shown, cmap="gray", interpolation="nearest")
    axis.set(title=f"{kind}: {100 * shown.float().mean():.0f}%", xlabel="key")
axes[0].set_ylabel("query")
show(figure, "Fixed masks for 60 queries and keys; black: kept.",
     "Five black-on-white matrices: a band, bands that thin out, dots, a frame, a union of three.")
assert attention_mask(60, 60, "jmask")[30].nonzero().flatten().tolist() == sorted(
    place for n in range(8) for place in {30 - n * (n + 1) // 2, 30 + n * (n + 1) // 2}
    if 0 <= place < 60)

# %% [markdown]
# They are cheap, need no hashing, and can't know where the chorus comes again. (That they are the official ones to the last pair, tests check.) One example of attention under such a mask, against the loop, with more keys than queries:

# %%
q_8, k_8, v_8 = (torch.randn(n, 4, generator=P.generator) for n in (8, 12, 12))
mask = attention_mask(12, 8, "diag_global", sparse_attn_window=1, global_window=2)
by_loop = over_kept(q_8, k_8, v_8, [row.nonzero().flatten().tolist() for row in mask])
assert torch.allclose(masked_attention(q_8, k_8, v_8, mask), by_loop, atol=1e-5)
print("kept:", int(mask.sum()), "of", mask.numel(), "pairs")

# %% [markdown]
# ## 8b.8 Without the square in memory
#
# `lsh_mask` leaves out nine pairs of ten and still holds all counts: nothing is gained yet. But each query minds only its own row. So we go through the queries in chunks: count, choose, attend, and forget the chunk's counts before the next. Memory then grows with (chunk $\times$ keys). For the way back, autograd would keep every chunk's weights after all. `checkpoint` keeps only the inputs and
# computes the chunk again when its gradient is asked for: **time is paid for memory.**

# %%
#| export
def chunked_attention(q: Tensor, k: Tensor, v: Tensor, mask_rows: Callable[[int, int], Tensor],
                      chunk: int = 128) -> Tensor:
    """Attention over kept pairs, some queries at a time: memory for (chunk, key) numbers a head.

    q, k, v: as in `masked_attention`. mask_rows: function of (start, stop) to the mask's rows of
    these queries, bool (..., stop - start, key); called again for the gradient, so it must give the
    same both times. chunk: queries at a time. Returns (..., query, value).
    """
    _check_attention(q, k, v)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected at least one query at a time")

    def part(rows: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        return masked_attention(rows, k, v, mask_rows(start, start + rows.shape[-2]))

    parts = [checkpoint(part, rows, k, v, number * chunk, use_reentrant=False,
                        preserve_rng_state=False)
             for number, rows in enumerate(q.split(chunk, dim=-2))]
    return torch.cat(parts, -2)

# %% [markdown]
# The rows of our rule, from the buckets of all queries and keys, which are small (a byte a round):

# %%
#| export
def _lsh_rows(b_q: Tensor, b_k: Tensor, buckets: int, sparsity: float,
              sample: int) -> Callable[[int, int], Tensor]:
    """What `chunked_attention` asks for: the mask of `lsh_mask`, rows at a time."""
    poll = count_matches(_polled(b_q, sample), b_k, buckets)
    needed = matches_needed(poll, sparsity, b_q.shape[-1])[..., None, None]

    def rows(start: int, stop: int) -> Tensor:
        counts = count_matches(b_q[..., start:stop, :], b_k, buckets)
        return counts >= torch.minimum(needed, counts.amax(-1, keepdim=True))

    return rows

# %% [markdown]
# It must agree with dense attention under the whole mask, output and gradients. The same check will meet every way to compute it, so it is a function. Inputs: two songs, three heads, 300 queries, 200 keys.

# %%
def relative(found, expected):
    """Largest difference, as a share of the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())

def errors_against(mask_of, attend, shape=(2, 3, 300, 200, 16), seed=0):
    """Relative errors of output and of the gradients for q, k, v against `masked_attention`."""
    generator = torch.Generator().manual_seed(seed)
    batch, heads, T_q, T_k, d = shape
    leaves = [torch.randn(batch, heads, n, d, generator=generator, requires_grad=True)
              for n in (T_q, T_k, T_k)]
    upstream = torch.randn(batch, heads, T_q, d, generator=generator)
    dense = masked_attention(*leaves, mask_of(*leaves[:2]))
    found = attend(*leaves)
    pairs = [(found, dense)] + list(zip(torch.autograd.grad(found, leaves, upstream),
                                        torch.autograd.grad(dense, leaves, upstream)))
    return [relative(mine.detach(), theirs.detach()) for mine, theirs in pairs]

# %% [markdown]
# Chunks of 77, so that the last is shorter:

# %%
R = hash_directions(16, generator=torch.Generator().manual_seed(1))
def in_chunks(q, k, v):
    rows = _lsh_rows(lsh_buckets(q, R), lsh_buckets(k, R), 4, 0.9, sample=128)
    return chunked_attention(q, k, v, rows, chunk=77)

errors = errors_against(lambda q, k: lsh_mask(q, k, R), in_chunks)
print("output and three gradients agree to 1e-5:", [error < 1e-5 for error in errors])
assert max(errors) < 1e-5

# %% [markdown]
# That is right, and for a network on a GPU a way to go. But it can't be *faster* than dense attention: it multiplies 128 numbers a pair to count and then computes all scores of the chunk, to throw most of them away. Leaving out pairs saves nothing as long as one can't *skip* them.
#
# ## 8b.9 A kernel
#
# What would a machine do that skips? Four buckets are two bits. Thirty-two rounds are two words of 32 bits: one for the low bits, one for the high ones. Two tokens agree in a round if both bits do, so
#
# $$ \text{rounds that differ} = \operatorname{popcount}\bigl((l_i \oplus l_j)\; |\; (h_i \oplus h_j)\bigr), \tag{8b.7} $$
#
# $\oplus$ the exclusive or, popcount the number of ones. A handful of operations on whole words instead of 128 products, and a processor does several words at once. In Python's integers:

# %%
one, two = b[10].tolist(), b[400].tolist()                          # buckets of two frames
low = [sum((bucket & 1) << n for n, bucket in enumerate(code)) for code in (one, two)]
high = [sum((bucket >> 1) << n for n, bucket in enumerate(code)) for code in (one, two)]
differ = ((low[0] ^ low[1]) | (high[0] ^ high[1])).bit_count()
print(f"{differ} rounds differ, {int(counts[10, 400])} agree")
assert differ + int(counts[10, 400]) == 32

# %% [markdown]
# The official kernel, in CUDA, was never published. We write one for the CPU with `numba`, which compiles loops over NumPy arrays to machine code. First the codes, then the rounds that differ between one query and all keys. Counting ones without a special instruction is an old trick: add neighbouring bits in pairs, then in fours, then let a product sum the bytes.

# %%
#| export
def pack_buckets(b: Tensor) -> np.ndarray:
    """Buckets 0 to 3 of up to 32 rounds as two words: uint8 (..., time, round) to uint32
    (..., 2, time), low bits and high bits. ValueError for more rounds."""
    if b.shape[-1] > 32:
        raise ValueError(f"b has {b.shape[-1]} rounds; expected at most 32, one bit each")
    place = torch.arange(b.shape[-1], device=b.device)
    words = torch.stack([((b.long() & 1) << place).sum(-1), ((b.long() >> 1) << place).sum(-1)], -2)
    return words.cpu().numpy().astype(np.uint32)


@numba.njit(nogil=True)
def _count_differing(low, high, codes, differ):
    """The rounds in which one query's code differs from each key's (eq. 8b.7), into differ."""
    for j in range(codes.shape[1]):
        x = (codes[0, j] ^ low) | (codes[1, j] ^ high)
        x = x - ((x >> np.uint32(1)) & np.uint32(0x55555555))
        x = (x & np.uint32(0x33333333)) + ((x >> np.uint32(2)) & np.uint32(0x33333333))
        x = (x + (x >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
        differ[j] = np.uint8((x * np.uint32(0x01010101)) >> np.uint32(24))

# %% [markdown]
# Against the counts of before, all rows:

# %%
codes, differ = pack_buckets(b), np.empty(len(b), np.uint8)
for i in range(len(b)):
    _count_differing(codes[0, i], codes[1, i], codes, differ)
    assert np.array_equal(32 - differ, counts[i].numpy())
print("rows that agree:", len(b))

# %% [markdown]
# The kept keys of a query are then written into a list. Its loop has no `if`: every key is written, and the place moves on only where it is kept, which spares the processor from guessing. If nothing was kept, the keys with the fewest differing rounds are.

# %%
#| export
@numba.njit(nogil=True)
def _list_kept(differ, most, found):
    """The places where differ <= most, into found; returns their number."""
    count = 0
    for j in range(differ.shape[0]):
        found[count] = j
        count += differ[j] <= most
    return count


@numba.njit(nogil=True)
def _kept_keys(low, high, codes, most, differ, found):
    """The keys that a query keeps, into found; returns their number, at least 1."""
    _count_differing(low, high, codes, differ)
    count = _list_kept(differ, most, found)
    return count if count else _list_kept(differ, differ.min(), found)

# %% [markdown]
# Now attention itself, for one head. It reads (8b.3) from the top: scores of the kept keys, their softmax, the mean of the values. `log_sums` keeps $\log \sum e^{s}$, from which the way back gets the weights without another sum.

# %%
#| export
LOOSE = {"reassoc", "contract"}     # sums in any order, so that several are made at once


@numba.njit(nogil=True, fastmath=LOOSE)
def _attend(q, k, v, codes_q, codes_k, most, zero, y, log_sums):
    """One head: q (query, feature) already divided by sqrt(d), k, v; fills y and log_sums."""
    differ, found = np.empty(len(k), np.uint8), np.empty(len(k), np.int32)
    scores = np.empty(len(k), q.dtype)
    for i in range(len(q)):
        count = _kept_keys(codes_q[0, i], codes_q[1, i], codes_k, most, differ, found)
        for e in range(count):
            score, j = zero, found[e]
            for f in range(q.shape[1]):
                score += q[i, f] * k[j, f]
            scores[e] = score
        top, total = scores[:count].max(), zero
        for e in range(count):
            scores[e] = np.exp(scores[e] - top)
            total += scores[e]
        for e in range(count):
            weight, j = scores[e] / total, found[e]
            for f in range(v.shape[1]):
                y[i, f] += weight * v[j, f]
        log_sums[i] = top + np.log(total)

# %% [markdown]
# The way back. With $g_i$ the gradient that arrives at $y_i$, the chain rule gives for every kept pair
#
# $$ \frac{\partial}{\partial s_{ij}} = w_{ij}\,(g_i \cdot v_j - g_i \cdot y_i), \qquad \frac{\partial}{\partial q_i} = \sum_j \frac{\partial}{\partial s_{ij}}\, k_j, \qquad \frac{\partial}{\partial k_j} = \sum_i \frac{\partial}{\partial s_{ij}}\, q_i, \qquad \frac{\partial}{\partial v_j} = \sum_i w_{ij}\, g_i. \tag{8b.8} $$
#
# The pairs are found anew, from the codes. Nothing that grows with their number was kept.

# %%
#| export
@numba.njit(nogil=True, fastmath=LOOSE)
def _attend_back(q, k, v, codes_q, codes_k, most, zero, y, log_sums, g, dq, dk, dv):
    """The gradients of one head (eq. 8b.8), added to dq, dk, dv."""
    differ, found = np.empty(len(k), np.uint8), np.empty(len(k), np.int32)
    for i in range(len(q)):
        count = _kept_keys(codes_q[0, i], codes_q[1, i], codes_k, most, differ, found)
        mean = zero
        for f in range(v.shape[1]):
            mean += g[i, f] * y[i, f]
        for e in range(count):
            j, score, fit = found[e], zero, zero
            for f in range(q.shape[1]):
                score += q[i, f] * k[j, f]
            for f in range(v.shape[1]):
                fit += g[i, f] * v[j, f]
            weight = np.exp(score - log_sums[i])
            change = weight * (fit - mean)
            for f in range(v.shape[1]):
                dv[j, f] += weight * g[i, f]
            for f in range(q.shape[1]):
                dq[i, f] += change * k[j, f]
                dk[j, f] += change * q[i, f]

# %% [markdown]
# To autograd it is one operation. Heads don't share anything, so each is a task; with several threads, several run at once.

# %%
#| export
def _for_each_head(task: Callable[[int], None], heads: int) -> None:
    """Run task(head) for all, on as many threads as torch uses."""
    if torch.get_num_threads() == 1 or heads == 1:
        for head in range(heads):
            task(head)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(task, range(heads)))


class _KernelAttention(torch.autograd.Function):
    """q (head, query, feature) divided by sqrt(d), k, v (head, key, ...), codes and the most rounds
    that may differ, one a head; to (head, query, value)."""

    @staticmethod
    def forward(ctx, q, k, v, codes_q, codes_k, most):
        arrays = [x.detach().contiguous().numpy() for x in (q, k, v)]
        zero = arrays[0].dtype.type(0)
        y = np.zeros((*q.shape[:2], v.shape[2]), arrays[0].dtype)
        log_sums = np.empty(q.shape[:2], arrays[0].dtype)
        _for_each_head(lambda h: _attend(*(x[h] for x in arrays), codes_q[h], codes_k[h], most[h],
                                         zero, y[h], log_sums[h]), len(q))
        result = torch.from_numpy(y)
        ctx.save_for_backward(q, k, v, result, torch.from_numpy(log_sums))
        ctx.codes = codes_q, codes_k, most
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        arrays = [x.detach().contiguous().numpy() for x in (*ctx.saved_tensors, g)]
        q, k, v, y, log_sums, g = arrays
        codes_q, codes_k, most = ctx.codes
        grads = [np.zeros_like(x) for x in (q, k, v)]
        zero = q.dtype.type(0)
        _for_each_head(lambda h: _attend_back(q[h], k[h], v[h], codes_q[h], codes_k[h], most[h],
                                              zero, y[h], log_sums[h], g[h],
                                              *(x[h] for x in grads)), len(q))
        return *(torch.from_numpy(x) for x in grads), None, None, None

# %% [markdown]
# Both ways, the kernel and the chunks, behind one name:

# %%
#| export
METHODS = ("auto", "kernel", "chunks", "mask")


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, b_q: Tensor, b_k: Tensor, sparsity: float,
               sample: int) -> Tensor:
    """`lsh_attention` through the kernel, in float32 or float64."""
    needed = matches_needed(count_matches(_polled(b_q, sample), b_k), sparsity, b_q.shape[-1])
    most = (b_q.shape[-1] - needed.flatten()).numpy().astype(np.uint8)
    dtype = q.dtype if q.dtype == torch.float64 else torch.float32
    heads = [x.to(dtype).reshape(-1, *x.shape[-2:])
             for x in (q * q.shape[-1] ** -0.5, k, v)]
    codes = [pack_buckets(b.reshape(-1, *b.shape[-2:])) for b in (b_q, b_k)]
    y = _KernelAttention.apply(*heads, *codes, most)
    return y.to(q.dtype).reshape(*q.shape[:-1], v.shape[-1])


def lsh_attention(q: Tensor, k: Tensor, v: Tensor, sparsity: float = 0.9, rounds: int = 32, *,
                  generator: torch.Generator | None = None, R: Tensor | None = None,
                  method: str = "auto", chunk: int = 128, sample: int = 128) -> Tensor:
    """Attention over the pairs that `lsh_mask` keeps: (..., query, value).

    q: (..., query, feature), k: (..., key, feature), v: (..., key, value). sparsity: share of the
    pairs that is left out, 0 to below 1. rounds: hashes of four buckets. generator: of the random
    directions; or R, the directions themselves. method: "kernel" (CPU, up to 32 rounds of four
    buckets), "chunks" of `chunk` queries (any device), "mask" (holds all pairs), "auto": the kernel
    where it can, else chunks. sample: as in `lsh_mask`. Each query attends to one key at least.
    Differentiable once. ValueError for other shapes. Source: Rouard et al. 2022; section 8b.9.
    """
    _check_attention(q, k, v)
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    R = hash_directions(q.shape[-1], rounds, generator=generator) if R is None else R
    can = q.device.type == "cpu" and R.shape[1] <= 32 and R.shape[2] == 2
    if method == "kernel" and not can:
        raise ValueError(f"method 'kernel' with q on {q.device} and R {tuple(R.shape)}; expected "
                         "the CPU and at most 32 rounds of four buckets: take 'chunks'")
    if method == "mask":
        return masked_attention(q, k, v, lsh_mask(q, k, R, sparsity, sample=sample))
    b_q, b_k = lsh_buckets(q, R), lsh_buckets(k, R)
    if can and method != "chunks":
        return _by_kernel(q, k, v, b_q, b_k, sparsity, sample)
    return chunked_attention(q, k, v, _lsh_rows(b_q, b_k, 2 * R.shape[2], sparsity, sample), chunk)

# %% [markdown]
# The check of before, and then the edges: one token, keys all alike, zeros, half precision, hardly any pair kept.

# %%
errors = errors_against(lambda q, k: lsh_mask(q, k, R),
                        lambda q, k, v: lsh_attention(q, k, v, R=R, method="kernel"))
print("output and three gradients agree to 1e-5:", [error < 1e-5 for error in errors])
assert max(errors) < 1e-5

# %%
one = torch.randn(1, 1, 1, 16, generator=P.generator)
assert torch.allclose(lsh_attention(one, one, one), one)            # one token: itself
alike = torch.randn(1, 1, 1, 16, generator=P.generator).expand(1, 1, 40, 16)
v = torch.randn(1, 1, 40, 16, generator=P.generator)
assert torch.allclose(lsh_attention(alike, alike, v), v.mean(2, keepdim=True), atol=1e-5)
assert torch.allclose(lsh_attention(0 * v, 0 * v, v), v.mean(2, keepdim=True), atol=1e-5)
tight = lsh_mask(v, -v.roll(1, 2), hash_directions(16, generator=P.generator), 0.999)
print("kept by each of 40 queries, 99.9% left out:", sorted(set(tight.sum(-1).flatten().tolist())))
assert (tight.sum(-1) >= 1).all()

# %% [markdown]
# And half precision, which must come back as it went in:

# %%
half = lsh_attention(v.bfloat16(), v.bfloat16(), v.bfloat16(), R=R)
assert half.dtype == torch.bfloat16 and torch.isfinite(half).all()

# %% [markdown]
# Keys that are all alike, or zero, can't be told apart: all are kept, which is dense attention. That is slow, and right.
#
# <details><summary>Quick question: does the kernel do fewer than $T^2$ steps?</summary>
#
# No. It compares all codes, $T^2$ times. But each comparison is a few operations on words, where a score takes 64 products, and only the kept tenth goes further. The order is the same, the constant is much smaller.
# </details>
#
# ## 8b.10 Whole blocks
#
# A kernel of one's own is one way to skip. The other: choose pairs so that an ordinary matrix product can skip them. Kitaev, Kaiser and Levskaya (2020) *sort* the tokens by their bucket and let neighbours in that order attend to each other. Our variant: sort queries and keys by the buckets of the first four rounds, cut both into blocks of 64, and for each block of queries keep the tenth of the key blocks that agree
# with it best. How well two *blocks* agree needs no pairs either. Add up each block's rows of zeros and ones; the inner product of two such sums is the number of matches between all their pairs.

# %%
d = Diagram()
q_in = d.block("queries", "(time, d)", kind="data")
q_sorted = d.block("hash, sort,\ncut", "(block, 64, d)", after=q_in)
k_in = d.block("keys, values", "(time, d)", kind="data", after=q_in, place="below", arrow=False)
k_sorted = d.block("hash, sort,\ncut", "(block, 64, d)", after=k_in)
agree = d.block("best tenth of\nkey blocks", "(block, n)", after=[q_sorted, k_sorted])
fetch = d.block("fetch", "(block, 64 n, d)", after=agree)
attend = d.block("attention", "(block, 64, d)", after=fetch)
back = d.block("back in order", "(time, d)", after=attend)
show(d.draw(), "Hashed attention on whole blocks: ordinary products of fewer numbers.",
     d.in_words())

# %%
#| export
def _sorted_order(b: Tensor, buckets: int, first: int = 4) -> Tensor:
    """The order of tokens by the buckets of the first rounds: (head, time, round) to (head, time),
    so that equal directions stand together."""
    number = torch.zeros_like(b[..., 0], dtype=torch.long)
    for n in range(min(first, b.shape[-1])):
        number = number * buckets + b[..., n].long()
    return number.argsort(stable=True)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """Each head's tokens in another order: (head, time, d), (head, time) to (head, time, d)."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]

# %% [markdown]
# In that order, cut into blocks, the last one filled up:

# %%
#| export
def _in_blocks(x: Tensor, order: Tensor, block: int) -> Tensor:
    """Tokens in that order, in blocks, the last filled up with zeros: (head, time, d) to
    (head, blocks, block, d)."""
    x = _reordered(x, order)
    return F.pad(x, (0, 0, 0, -x.shape[1] % block)).unflatten(1, (-1, block))

# %% [markdown]
# And which blocks of keys a block of queries takes, those with the most matches:

# %%
#| export
def block_choice(b_q: Tensor, b_k: Tensor, sparsity: float, block: int,
                 buckets: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """The order of queries and of keys, (head, time), and for each block of queries the chosen
    blocks of keys: (head, query block, n), n = (1 - sparsity) of all rounded down, at least 1.

    b_q, b_k: (head, time, round). Section 8b.10.
    """
    orders = [_sorted_order(b, buckets) for b in (b_q, b_k)]
    sums = [_in_blocks(_as_ones(b, buckets), order, block).sum(2)   # (head, block, round * bucket)
            for b, order in zip((b_q, b_k), orders)]
    matches = sums[0] @ sums[1].mT
    matches[..., -1] *= block / ((b_k.shape[1] - 1) % block + 1)    # the last has fewer keys
    count = max(1, int((1 - sparsity) * matches.shape[-1] + 1e-6))
    return *orders, matches.topk(count, -1).indices

# %% [markdown]
# Attention fetches the chosen blocks, some query blocks at a time, again with `checkpoint` for the way back:

# %%
#| export
def _attend_blocks(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, real: Tensor) -> Tensor:
    """q (some, block, d), all key blocks k, v (all, block, d), real bool (all, block), and those
    chosen (some, n): (some, block, value)."""
    mask = real[chosen].flatten(1)[None, :, None]                   # (1, some, 1, n * block)
    keys, values = (x[chosen].flatten(1, 2)[None] for x in (k, v))  # (1, some, n * block, d)
    return F.scaled_dot_product_attention(q[None], keys, values,
                                          attn_mask=None if mask.all() else mask)[0]


def block_lsh_attention(q: Tensor, k: Tensor, v: Tensor, sparsity: float = 0.9, rounds: int = 32,
                        *, generator: torch.Generator | None = None, R: Tensor | None = None,
                        block: int = 64, numbers: int = 2 ** 21) -> Tensor:
    """Attention of blocks of like queries to the key blocks that agree best: (..., query, value).

    q, k, v, sparsity, rounds, generator, R: as in `lsh_attention`. block: tokens of a block.
    numbers: values fetched at a time, which bounds the memory. Every query keeps at least a block.
    Another rule than `lsh_attention`'s; `block_lsh_mask` gives its pairs. Section 8b.10.
    """
    _check_attention(q, k, v)
    R = hash_directions(q.shape[-1], rounds, generator=generator) if R is None else R
    heads = [x.reshape(-1, *x.shape[-2:]) for x in (q, k, v)]
    order_q, order_k, chosen = block_choice(
        *(lsh_buckets(x, R) for x in heads[:2]), sparsity, block, 2 * R.shape[2])
    q_blocks = _in_blocks(heads[0], order_q, block).flatten(0, 1)   # (head * block, 64, d)
    k_blocks, v_blocks = (_in_blocks(x, order_k, block) for x in heads[1:])
    count = k_blocks.shape[1]
    real = (torch.arange(count * block, device=q.device) < k.shape[-2]).reshape(count, block)
    real = real.repeat(len(k_blocks), 1)
    chosen = chosen + count * torch.arange(len(k_blocks), device=q.device)[:, None, None]
    some = max(1, numbers // (chosen.shape[-1] * block * q.shape[-1]))
    parts = [checkpoint(_attend_blocks, rows, k_blocks.flatten(0, 1), v_blocks.flatten(0, 1), which,
                        real, use_reentrant=False, preserve_rng_state=False)
             for rows, which in zip(q_blocks.split(some), chosen.flatten(0, 1).split(some))]
    y = torch.cat(parts).reshape(len(k_blocks), -1, v.shape[-1])[:, :q.shape[-2]]
    return _reordered(y, order_q.argsort(-1)).reshape(*q.shape[:-1], v.shape[-1])

# %% [markdown]
# Which pairs are these? As a mask, for the check:

# %%
#| export
def block_lsh_mask(q: Tensor, k: Tensor, R: Tensor, sparsity: float = 0.9,
                   block: int = 64) -> Tensor:
    """The pairs of `block_lsh_attention`: bool (..., query, key)."""
    heads = [x.reshape(-1, *x.shape[-2:]) for x in (q, k)]
    order_q, order_k, chosen = block_choice(
        *(lsh_buckets(x, R) for x in heads), sparsity, block, 2 * R.shape[2])
    block_q, block_k = (order.argsort(-1) // block for order in (order_q, order_k))
    count = -(-k.shape[-2] // block)
    kept = torch.zeros(*chosen.shape[:2], count, dtype=torch.bool, device=q.device)
    kept.scatter_(-1, chosen, True)                                 # (head, query block, key block)
    rows = kept.gather(1, block_q[..., None].expand(-1, -1, count))
    mask = rows.gather(2, block_k[:, None].expand(-1, rows.shape[1], -1))
    return mask.reshape(*q.shape[:-1], k.shape[-2])

# %% [markdown]
# Again output and gradients, with blocks of 16 that divide neither 300 nor 200 (one of each is filled up):

# %%
errors = errors_against(lambda q, k: block_lsh_mask(q, k, R, 0.8, block=16),
                        lambda q, k, v: block_lsh_attention(q, k, v, 0.8, R=R, block=16,
                                                            numbers=9000))
print("output and three gradients agree to 1e-5:", [error < 1e-5 for error in errors])
assert max(errors) < 1e-5

# %% [markdown]
# The price is coarseness: a block is kept or left out with all its pairs. Both rules on the trained attention, with the same share of pairs:

# %%
R_64 = hash_directions(64, generator=torch.Generator().manual_seed(0))
rules = {"pairs": lsh_mask(q, q, R_64, 0.9, allowed=allowed)}
for size in (64, 16):
    rules[f"blocks of {size}"] = block_lsh_mask(q, q, R_64, 0.9, block=size) & allowed
by_rule = {name: (float(kept[allowed].float().mean()), *found_by(kept))
           for name, kept in rules.items()}
show_table([[name, *(100 * value for value in values)] for name, values in by_rule.items()],
           ["hashing by", "kept (%)", "strong pairs found (%)", "weight (%)"], digits=0,
           caption="One recording, one draw of directions, 90% to be left out.")
assert by_rule["pairs"][2] > by_rule["blocks of 64"][2] > by_rule["blocks of 64"][0]

# %% [markdown]
# ## 8b.11 In a network
#
# The official sparse layer is a `MultiheadAttention` of its own, with four matrices `q`, `k`, `v` and `proj` where PyTorch's has `in_proj_weight`, three of them in one, and `out_proj`. The names and arguments are kept here, `add_bias_kv` and the like included, which it ignores. `auto_sparsity` is the share that hashing leaves out; 0 means dense, or a fixed mask.

# %%
d = Diagram()
x = d.block("tokens", "(time, batch, C)", kind="data")
projections = [d.block(name, "(batch, head, time, d)", kind="trained", after=x, shift=shift)
               for name, shift in (("q", 0.75), ("k", 0.0), ("v", -0.75))]
hashing = d.block("hash: 32 rounds\nof 4 buckets", "(batch, head, time, 32)",
                  after=projections[:2])
counting = d.block("at least\nk agree?", "kept pairs", after=hashing)
attend = d.block("attention (8b.3)", "(batch, head, time, d)", after=counting)
d.arrow(projections[2], attend, route="corner")
out = d.block("proj", "(time, batch, C)", kind="trained", after=attend)
show(d.draw(), "Sparse multi-head attention. No gradient flows through hashing and counting.",
     d.in_words())

# %% [markdown]
# Where do the directions $R$ come from? In the official code they are drawn anew in every call. In training that is good, since no pair is left out for ever; they then come from torch's global generator, as dropout's numbers do, so that a resumed training is the same training. When the network is only used, the same song should give the same result, so they come from `seed`.

# %%
#| export
class _HashedProjections(nn.Module):
    """The four matrices of `SparseMultiheadAttention`, and how its pairs are to be chosen."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False,
                 auto_sparsity: float | None = None, *, rounds: int = 32, seed: int = 0,
                 method: str = "auto", block: int = 64):
        super().__init__()
        if auto_sparsity is None or not 0 <= auto_sparsity < 1:
            raise ValueError(f"auto_sparsity is {auto_sparsity}; expected the share of pairs to "
                             "leave out, such as 0.9, or 0 for dense attention")
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"embed_dim is {embed_dim}, num_heads {num_heads}; expected embed_dim "
                             "as a multiple of num_heads")
        if add_bias_kv or add_zero_attn or not {kdim, vdim} <= {None, embed_dim}:
            raise ValueError(f"add_bias_kv {add_bias_kv}, add_zero_attn {add_zero_attn}, kdim "
                             f"{kdim}, vdim {vdim} are not supported; leave them out")
        if method not in (*METHODS, "blocks"):
            raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}, blocks")
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.auto_sparsity, self.rounds, self.seed = auto_sparsity, rounds, seed
        self.method, self.block = method, block
        self.q, self.k, self.v = (nn.Linear(embed_dim, embed_dim, bias=bias) for _ in "qkv")
        self.attn_drop, self.proj_drop = nn.Dropout(dropout), nn.Dropout(dropout)
        self.proj = nn.Linear(embed_dim, embed_dim, bias=bias)
        self.in_proj_bias = None        # tells nn.TransformerEncoderLayer not to take its shortcut

    def directions(self) -> Tensor:
        """R of this call: new ones in training, always the same ones otherwise."""
        generator = None if self.training else torch.Generator().manual_seed(self.seed)
        return hash_directions(self.embed_dim // self.num_heads, self.rounds, generator=generator)

# %% [markdown]
# And what it does with them:

# %%
#| export
class SparseMultiheadAttention(_HashedProjections):
    """Multi-head attention over hashed pairs, or over those of a fixed mask.

    embed_dim: channels, a multiple of num_heads. dropout: of what `proj` gives, and, with a fixed
    mask or none, of the weights. bias: of all four projections. batch_first: (batch, time,
    channel) instead of (time, batch, channel). auto_sparsity: share of pairs that hashing leaves
    out, 0: none, then attn_mask may choose. add_bias_kv, add_zero_attn, kdim, vdim: not supported,
    as in the official class. Ours: rounds of the hash; seed of its directions outside training
    (in training they are drawn anew from torch's global generator); method: of `lsh_attention`, or
    "blocks" for `block_lsh_attention` with blocks of `block` tokens.

    Arguments and tensor names are those of demucs 4.1.0. Source: Rouard et al. 2022; section 8b.11.
    """

    def _over_pairs(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Heads (batch, head, time, d) to (batch, head, query, d)."""
        if not self.auto_sparsity:
            dropout = self.attn_drop.p if self.training else 0.0
            if mask is None:
                return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
            return masked_attention(q, k, v, mask, dropout)
        if mask is not None:
            raise ValueError("attn_mask with auto_sparsity: hashing chooses the pairs; leave the "
                             "mask out, or set auto_sparsity=0")
        if self.method == "blocks":
            return block_lsh_attention(q, k, v, self.auto_sparsity, R=self.directions(),
                                       block=self.block)
        return lsh_attention(q, k, v, self.auto_sparsity, R=self.directions(), method=self.method)

    def forward(self, query: Tensor, key: Tensor, value: Tensor,
                key_padding_mask: Tensor | None = None, need_weights: bool = True,
                attn_mask: Tensor | None = None, average_attn_weights: bool = True,
                is_causal: bool = False) -> tuple[Tensor, None]:
        """query (query, batch, channel), key and value (key, batch, channel), or batch first.

        attn_mask: bool (query, key), True where a pair is KEPT, the reverse of nn's. Returns the
        answers, shaped like query, and None: weights are never there to be returned.
        """
        if key_padding_mask is not None or is_causal or query.ndim != 3:
            raise ValueError("expected three-dimensional tokens, no key_padding_mask and no "
                             f"is_causal; got query {tuple(query.shape)}, is_causal {is_causal}")
        q, k, v = (layer(x if self.batch_first else x.transpose(0, 1))
                   .unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                   for layer, x in ((self.q, query), (self.k, key), (self.v, value)))
        y = self._over_pairs(q, k, v, attn_mask)                    # (batch, head, query, d)
        y = self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))
        return y if self.batch_first else y.transpose(0, 1), None

# %% [markdown]
# Chapter 8's layers call their attention in a shorter way, with the queries and, across branches, the keys:

# %%
#| export
class HashedAttention(SparseMultiheadAttention):
    """`SparseMultiheadAttention` in the place of chapter 8's `MultiheadAttention`: query
    (batch, query, channel), and key (batch, key, channel) or none, to (batch, query, channel)."""

    def forward(self, query: Tensor, key: Tensor | None = None) -> Tensor:
        key = query if key is None else key
        return super().forward(query, key, key)[0]

# %% [markdown]
# A trained dense layer becomes a sparse one by cutting its `in_proj_weight` in three.

# %%
#| export
def sparse_from_dense(attention: nn.MultiheadAttention | MultiheadAttention,
                      sparsity: float = 0.9, **options) -> SparseMultiheadAttention:
    """A `SparseMultiheadAttention` with the weights of a dense layer, which stays as it is; of
    chapter 8's layer a `HashedAttention`.

    sparsity: share of pairs to leave out; 0 gives what the dense layer gives. options: rounds,
    seed, method, block. The layer's dropout of weights is not taken over where hashing chooses.
    ValueError for layers with kdim, vdim, bias_k or add_zero_attn.
    """
    own = isinstance(attention, MultiheadAttention)
    if not own and (attention.in_proj_weight is None or attention.bias_k is not None
                    or attention.add_zero_attn):
        raise ValueError("attention has kdim, vdim, bias_k or add_zero_attn; expected a plain "
                         "nn.MultiheadAttention")
    weight = attention.out_proj.weight
    kind = HashedAttention if own else SparseMultiheadAttention
    sparse = kind(attention.embed_dim, attention.num_heads, auto_sparsity=sparsity,
                  bias=attention.in_proj_bias is not None,
                  batch_first=own or attention.batch_first, **options)
    sparse.attn_drop.p = attention.dropout
    sparse.to(weight.device, weight.dtype).train(attention.training)
    with torch.no_grad():
        for layer, part in zip((sparse.q, sparse.k, sparse.v), attention.in_proj_weight.chunk(3)):
            layer.weight.copy_(part)
        sparse.proj.weight.copy_(weight)
        if attention.in_proj_bias is not None:
            for layer, part in zip((sparse.q, sparse.k, sparse.v), attention.in_proj_bias.chunk(3)):
                layer.bias.copy_(part)
            sparse.proj.bias.copy_(attention.out_proj.bias)
    return sparse

# %% [markdown]
# And a whole network, by doing so wherever a layer attends to itself. Cross attention stays dense, as in the paper, unless asked for.

# %%
#| export
def sparsify(model: nn.Module, sparsity: float = 0.9, rounds: int = 32, cross: bool = False,
             **options) -> list[str]:
    """Replace the self-attention of a network by hashed attention with the same weights, in place.

    model: any network with `nn.MultiheadAttention` inside, or chapter 8's, such as `HTDemucs`.
    cross: also layers whose name says that they attend to something else ("cross_attn",
    "multihead_attn"). options: of `sparse_from_dense`. Returns the names of what was replaced.
    ValueError where there is nothing.
    """
    replaced = []
    for path, parent in list(model.named_modules()):
        for name, layer in list(parent.named_children()):
            across = "cross" in name or name == "multihead_attn"
            dense = isinstance(layer, (nn.MultiheadAttention, MultiheadAttention))
            if dense and (cross or not across):
                setattr(parent, name, sparse_from_dense(layer, sparsity, rounds=rounds, **options))
                replaced.append(f"{path}.{name}".lstrip("."))
    if not replaced:
        raise ValueError("model has no nn.MultiheadAttention of the wanted kind; expected a "
                         "network with dense attention, such as HTDemucs")
    return replaced

# %% [markdown]
# With sparsity 0 nothing may change. With 0.9 the layer must be the dense one *under the mask*: PyTorch's own layer, given that mask (turned round), is the judge.

# %%
torch.manual_seed(0)
dense_layer = nn.MultiheadAttention(32, 4).eval()
nn.init.normal_(dense_layer.in_proj_bias)
sparse_layer = sparse_from_dense(dense_layer, 0.9)
x = torch.randn(150, 2, 32)                                         # (time, batch, channel)
with torch.no_grad():
    assert torch.allclose(sparse_from_dense(dense_layer, 0.0)(x, x, x)[0],
                          dense_layer(x, x, x)[0], atol=1e-5)
    q_heads, k_heads = (layer(x).unflatten(-1, (4, 8)).permute(1, 2, 0, 3)
                        for layer in (sparse_layer.q, sparse_layer.k))
    kept = lsh_mask(q_heads, k_heads, sparse_layer.directions(), 0.9)   # (batch, head, time, time)
    judged = dense_layer(x, x, x, attn_mask=~kept.flatten(0, 1))[0]
    error = relative(sparse_layer(x, x, x, need_weights=False)[0], judged)
print("kept:", f"{float(kept.float().mean()):.2f} of the pairs; equal to 1e-5:", error < 1e-5)
assert error < 1e-5

# %% [markdown]
# A small network with self- and cross attention, before and after:

# %%
network = nn.Transformer(32, 4, 1, 1, 64, dropout=0.0, batch_first=True).eval()
same = torch.randn(1, 90, 32, generator=P.generator)
with torch.no_grad():
    before = network(same, same)
    names = sparsify(network, 0.9)
    after, again = network(same, same), network(same, same)
print("replaced:", ", ".join(names))
assert torch.equal(after, again) and not torch.allclose(before, after, atol=1e-3)
assert isinstance(network.decoder.layers[0].multihead_attn, nn.MultiheadAttention)

# %% [markdown]
# And chapter 8's network, whose layers 0 and 2 attend to themselves in either branch:

# %%
torch.manual_seed(0)
hybrid = HTDemucs(["a"], 1, 8, nfft=2048, t_heads=2, t_layers=3, use_train_segment=False).eval()
song = 0.1 * torch.randn(1, 1, 9000, generator=P.generator)
with torch.no_grad():
    before = hybrid(song)
    print("replaced:", ", ".join(sparsify(hybrid, 0.0)))
    assert torch.allclose(hybrid(song), before, atol=1e-5)          # nothing left out: the same

# %% [markdown]
# The network that was replaced gives *something else*, not just a little noise. Whether that is good enough, or has to be trained, is section 8b.13.
#
# ## 8b.12 Where it pays
#
# Now the measurement: 8 heads of 64, as in HT Demucs, tokens that change slowly as frames do, one core, processor time, the methods in turns. Peak memory is that of a process of its own which does nothing else, beyond what it had before the call, since nothing inside Python sees all of torch's memory. *Dense, written out* is (8b.1) as it stands, *dense, fused* is PyTorch's function, *mask* holds all counts and the mask.

# %%
bench = measured("08b_sparse_attention/lengths")
def column(method, what):
    """Length to number, for the lengths that this method was measured at."""
    return {int(row["tokens"]): float(row[what]) for row in bench
            if row["method"] == method and row[what]}
NAMES = {"written out": "dense, written out", "fused": "dense, fused", "mask": "hashed, mask",
         "chunks": "hashed, chunks", "kernel": "hashed, kernel", "blocks": "hashed, blocks"}
lengths = sorted(column("fused", "training_s"))

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
for axis, what, title in zip(axes, ("forward_s", "training_s", "peak_mb"),
                             ("forward (s)", "forward and back (s)", "peak memory (MB)")):
    for number, (method, name) in enumerate(NAMES.items()):
        values = column(method, what)
        axis.loglog(list(values), list(values.values()), "osv^D*"[number] + "-", ms=4, label=name)
    axis.set(xlabel="tokens", title=title)
axes[0].legend(fontsize=7)
show(figure, "Time of one core and peak memory (forward and back) against length, 8 heads of 64.",
     "Three log-log plots with six lines each; the lines of fused, kernel and blocks cross.")

# %% [markdown]
# As numbers. Each time is divided by that of fused attention in the same turn, so that a busy machine disturbs it less: below 1, the method pays.

# %%
def ratio(method, what):
    """Length to (method / fused attention), with the spread over turns."""
    return {int(row["tokens"]): (float(row[what]), float(row[what + "_low"]),
                                 float(row[what + "_high"]))
            for row in bench if row["method"] == method and row[what]}

# %% [markdown]
# Forward alone, and forward and back:

# %%
for what, caption in (("forward_ratio", "Forward"), ("training_ratio", "Forward and back")):
    show_table([[NAMES[method], *[ratio(method, what).get(T) for T in lengths]]
                for method in NAMES if method != "fused"], ["times fused", *map(str, lengths)],
               digits=2, caption=f"{caption}: time beside fused attention, median and range over "
               f"{min(int(row['turns']) for row in bench)} turns or more. Kept pairs: "
               f"{100 * float(bench[-1]['kept']):.0f}%; dash: not measured, too large.")

# %% [markdown]
# And memory:

# %%
show_table([[NAMES[method], *[column(method, "peak_mb").get(T) for T in lengths]]
            for method in NAMES], ["peak (MB)", *map(str, lengths)], digits=0,
           caption="Peak memory of forward and back, beyond the inputs' own, one process each; "
           "the system makes it uncertain by some tens of MB.")
def pays_from(method, what):
    """The shortest length from which on this method took less time in every turn, or None."""
    below = [T for T in lengths if ratio(method, what)[T][2] < 1]
    return next((T for T in below if all(longer in below for longer in lengths if longer >= T)),
                None)
pays = {(method, what): pays_from(method, what) for method in ("kernel", "blocks")
        for what in ("forward_ratio", "training_ratio")}
for (method, what), T in pays.items():
    print(f"{NAMES[method]}, {what.removesuffix('_ratio')}:",
          f"pays from {T} tokens on" if T else f"does not pay up to {lengths[-1]} tokens")

# %% [markdown]
# Read them column by column. *Memory*: the written-out form grows fourfold with each doubling, and the mask nearly so; fused attention, kernel and blocks stay far below (that nothing they keep grows with the square, a test checks). So against what was usual in 2022 hashing saves memory; against today's fused attention it saves none, as that never holds the square. *Time*: mask and chunks do more work than dense attention, whatever the length. The kernel counts all pairs too,
# but cheaply, and the blocks touch a tenth of the numbers. Both have a fixed price, the hashing itself, so that they pay from some length on, and sooner in training, where dense attention costs several times as much and the hashing is done once.
#
# On this one kind of machine, that is. A GPU's products are faster beside its memory than a CPU's, which makes gathering dear and fused attention cheap; nothing here says where the line lies there.

# %%
mb = {method: column(method, "peak_mb") for method in ("written out", "fused", "kernel")}
before, longest = sorted(mb["written out"])[-2:]
share = mb["kernel"][longest] / mb["written out"][longest]
square = (math.log(mb["written out"][longest] / mb["written out"][before])
          / math.log(longest / before))
print(f"at {longest} tokens the kernel takes {share:.2f} of the memory of the written-out form, "
      f"which grows with the length to the power {square:.1f}")
assert share < 0.2 and square > 1.7

# %% [markdown]
# ## 8b.13 Trained with it, and heard
#
# What does the network lose? The frames of section 8b.3, of eight recordings, five of music and three of speech, rebuilt by weights that were trained in one way and used in another. *Random* and *window* keep as many pairs as hashing does, by chance and by nearness. Directions are drawn anew in every training step. A number is the share of the frames' variance that is left, in percent: 0 were perfect, 100 is a mean.

# %%
runs = sorted(measured("08b_sparse_attention/retrieval"), key=lambda row: row["recording"])
USES = ("all pairs", "hashed", "hashed blocks", "random", "window")
def left(trained, used):
    """Share of the variance that is left, in percent: (seed, recording)."""
    seeds = sorted({row["seed"] for row in runs})
    return torch.tensor([[100 * float(row["error"]) for row in runs if (row["trained"], row["used"],
                          row["seed"]) == (trained, used, seed)] for seed in seeds])

# %%
retrieval_card = measured_card("08b_sparse_attention/retrieval")["settings"]
show_table([[trained, *(mean_interval(left(trained, used).mean(0)) for used in USES)]
            for trained in USES[:3]], ["trained with", *(f"used with {used}" for used in USES)],
           digits=0, caption="Variance left (%), mean over 8 recordings with 95% interval, "
           f"{len(left('hashed', 'hashed'))} seed(s), {retrieval_card['steps']} steps.")

# %% [markdown]
# The intervals of single columns are wide, since recordings differ. Pairs tell more: the same recording, one thing changed.

# %%
changes = {"hashing a layer that was trained with all pairs":
           left("all pairs", "hashed") - left("all pairs", "all pairs"),
           "the same, with random pairs instead of hashed ones":
           left("all pairs", "random") - left("all pairs", "hashed"),
           "training with hashing, for use with it":
           left("hashed", "hashed") - left("all pairs", "hashed"),
           "hashing from the first step, against all pairs":
           left("hashed", "hashed") - left("all pairs", "all pairs"),
           "hashed blocks from the first step, against all pairs":
           left("hashed blocks", "hashed blocks") - left("all pairs", "all pairs")}
show_table([[what, mean_interval(change.mean(0)), int((change.mean(0) > 0).sum())]
            for what, change in changes.items()],
           ["change", "points of variance left", "recordings that lose"], digits=1,
           caption="Above 0: worse. Paired over 8 recordings, 95% interval.")

# %% [markdown]
# Three things can be read. A layer that was trained with all pairs loses when it is hashed, in every recording; a random tenth loses several times as much, so the hash does find what matters. Training with the hash wins back a part of the loss in most recordings, but not safely: one of the sixteen trainings ended worse than a plain mean, and draws the whole average up. **Here, a tenth of the pairs is not better than all of them.** And whole blocks, the fastest way, are far too coarse for
# this task: what a frame needs are single frames, scattered over the song, and blocks fetch their neighbours instead.
#
# So if the paper's sparse model is better than its dense one, the likely reason is not that pairs are left out but what that made room for: more seconds and more layers. Nothing here can test that.

# %%
hurt, by_chance, mended, against_all, in_blocks = (
    change.mean(0) for change in changes.values())
print("hashing a dense layer loses in", int((hurt > 0).sum()), "of", len(hurt), "recordings,",
      "random pairs lose more in", int((by_chance > 0).sum()))
print("training with hashing helps in", int((mended < 0).sum()), "recordings; trainings that ended "
      "worse than a plain mean:", int((left("hashed", "hashed") > 100).sum()))
assert (hurt > 0).all() and float(by_chance.mean()) > 2 * float(hurt.mean())
assert (mended < 0).sum() > len(mended) / 2 and (left("hashed", "hashed") > 100).sum() == 1
assert (in_blocks > hurt).all() and float(against_all.mean()) > 0

# %% [markdown]
# ### Listen
#
# What does a tenth of the pairs sound like? A song with a voice over a guitar. Each frame's magnitudes are replaced by the weighted mean of the frames it attends to, where that is smaller, and the phase stays: chapter 2's REPET-SIM with attention as the judge of similarity. **What comes again stays, what happens once is taken away.** First with all pairs, then with weights trained on the hashed tenth, and used with it. The learning rate is smaller and the training shorter than above, so that none goes astray.

# %%
song, _ = recording("fishin", rate, mono=True, seconds=P.seconds)
song_frames = log_mel_frames(song, rate)
draws = torch.Generator().manual_seed(1)
def hashed_tenth(q, allowed):
    """A tenth of the pairs, by new directions at every call."""
    return lsh_mask(q, q, hash_directions(q.shape[-1], generator=draws), 0.9, allowed=allowed)
models = {name: train_retrieval(song_frames, P.steps // 2, choose, learning_rate=1e-3)[0]
          for name, choose in (("all pairs", None), ("a hashed tenth", hashed_tenth))}

# %% [markdown]
# The rebuilt sound, from the magnitudes of the frames attended to:

# %%
X = stft(song, 2048, 1024)[0]                                       # (bin, frame)
song = song[:, :1024 * (X.shape[-1] - 1)]                           # to the last frame's middle
def what_repeats(model, choose):
    """The part of the song that its other frames explain: (1, time)."""
    with torch.no_grad():
        q, kept = model.queries(song_frames), model.allowed(song_frames)
        kept = kept if choose is None else choose(q, kept)
        rebuilt = masked_attention(q, q, X.abs().T.contiguous(), kept).T
    mask = (rebuilt / X.abs().clamp_min(1e-8)).clamp(max=1)
    return istft((mask * X)[None], 2048, 1024, length=song.shape[-1])
repeats = {name: what_repeats(model, None if name == "all pairs" else hashed_tenth)
           for name, model in models.items()}

# %%
piece = slice(12 * rate, 20 * rate)
listen(song[:, piece], rate, "Karissa Hobbs, Let's Go Fishin': eight seconds")
for name, sound in repeats.items():
    listen(sound[:, piece], rate, f"what repeats, by {name}")
difference = repeats["all pairs"] - repeats["a hashed tenth"]
below = 10 * math.log10(float(repeats["all pairs"].square().sum() / difference.square().sum()))
print("the two differ by less than a fifth of their energy:", below > 7)
assert below > 7

# %% [markdown]
# And what each takes for unique, the song less what repeats. The voice stands out more than in the song, and so do single strokes of the guitar.

# %%
for name, sound in repeats.items():
    listen((song - sound)[:, piece], rate, f"what happens once, by {name}")
taken = {name: float((song - sound).square().sum() / song.square().sum())
         for name, sound in repeats.items()}
print("both take away less than half of the energy:", max(taken.values()) < 0.5)
assert 0.02 < min(taken.values()) <= max(taken.values()) < 0.5

# %% [markdown]
# ## 8b.14 What we built
#
# | name | what | section |
# |---|---|---|
# | `masked_attention` | attention over kept pairs | 8b.2 |
# | `log_mel_frames`, `with_neighbours`, `FrameRetrieval`, `train_retrieval` | frames rebuilt from others | 8b.3 |
# | `hash_directions`, `lsh_buckets` | the hash | 8b.4 |
# | `collision_probability`, `match_probability` | how likely two directions meet | 8b.5 |
# | `count_matches`, `matches_needed`, `lsh_mask` | the pairs that agree often enough | 8b.6 |
# | `elementary_mask`, `attention_mask` | fixed masks | 8b.7 |
# | `chunked_attention` | some queries at a time | 8b.8 |
# | `pack_buckets`, `lsh_attention` | the kernel, and all ways behind one name | 8b.9 |
# | `block_choice`, `block_lsh_attention`, `block_lsh_mask` | whole blocks | 8b.10 |
# | `SparseMultiheadAttention`, `HashedAttention`, `sparse_from_dense`, `sparsify` | in a network | 8b.11 |
#
# All of it is in `course_lib.sparse_attention`; the lengths are measured by `benchmarks/sparse_attention.py`, the recordings by `course experiment sparse_attention`.

# %% [markdown]
# ## 8b.15 Paper claims
#
# Rouard, Massa and Défossez (2022) give two numbers for sparse attention and no ablation of it: the sparse model also has two layers more and hears half as long again, so that its gain can't be put down to hashing alone. Without the 800 songs, a GPU for weeks and the kernel, the decibels *need real data*. What can be tested in small is tested; where it is our own claim, the source says so.

# %%
paper = {row["claim"]: float(row["value"]) for row in published("sparse_attention")}
HERE, ROUARD = "this chapter", "Rouard et al. 2022"
def in_words(differences, unit="points"):
    """Mean, interval and number of recordings."""
    mean, low, high = mean_interval(differences.mean(0))
    return f"{mean:+.1f} {unit} [{low:.1f}, {high:.1f}], {differences.shape[1]} recordings"
gain = paper["sparse and fine-tuned"] - paper["fine-tuned"]
claims = [
    Claim("Sparse, with 7 layers and 12.2 s, it separates better than dense", ROUARD, "8b.13",
          f"{gain:+.2f} dB", "not run", NEEDS_REAL_DATA),
    Claim("Sparse attention lets the context grow within the same memory", ROUARD, "8b.12",
          "7.8 s to 12.2 s", f"one layer, {longest} tokens: {mb['written out'][longest]:.0f} MB "
          f"written out, {mb['kernel'][longest]:.0f} hashed, {mb['fused'][longest]:.0f} fused",
          NEEDS_REAL_DATA)]

# %% [markdown]
# The theorem, and what we claim ourselves:

# %%
formula = [float(collision_probability(angle)) for angle in angles]
claims += [
    Claim("Two directions share a bucket with probability (1 - angle / pi)^2", HERE, "8b.5",
          "theorem", "within 0.03 at 9 angles", reproduced(one_round, formula, 0.03)),
    Claim("Hashed attention is dense attention under its mask", HERE, "8b.9, 8b.10", "exact",
          "output and gradients to 1e-5", reproduced(errors, 0, 1e-5)),
    Claim("Hashed pairs serve a dense layer better than random ones", HERE, "8b.13", None,
          in_words(changes["the same, with random pairs instead of hashed ones"]),
          same_trend(changes["the same, with random pairs instead of hashed ones"])),
    Claim("A layer trained with all pairs loses when they are hashed", HERE, "8b.13", None,
          in_words(changes["hashing a layer that was trained with all pairs"]),
          same_trend(changes["hashing a layer that was trained with all pairs"])),
    Claim("Training with hashing wins part of that back", HERE, "8b.13", None,
          in_words(changes["training with hashing, for use with it"]),
          same_trend(-changes["training with hashing, for use with it"])),
    Claim("Trained with hashing, it does better than with all pairs", HERE, "8b.13", None,
          in_words(changes["hashing from the first step, against all pairs"]),
          same_trend(-changes["hashing from the first step, against all pairs"]))]
show_claims(claims)

# %% [markdown]
# The second row compares one layer's memory with a dense layer as one wrote it then. Beside today's fused attention the memory is no argument any more (section 8b.12), the time is.

# %% [markdown]
# ## 8b.16 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/08b_sparse_attention.ipynb) has more tasks, with checks.
#
# **1. More buckets.** How likely do two vectors at right angles share one of six buckets (three random directions and their opposites)? Guess, then draw.
#
# <details><summary>Answer</summary>
#
# What one does says nothing about the other: $1/6$.
#
# ```python
# x, y = torch.eye(8)[:1], torch.eye(8)[1:2]
# R_6 = hash_directions(8, 40000, buckets=6, generator=torch.Generator().manual_seed(0))
# assert abs(float((lsh_buckets(x, R_6) == lsh_buckets(y, R_6)).float().mean()) - 1 / 6) < 0.01
# ```
# </details>
#
# **2. The step.** Which $k$ of 32 puts the middle of the step (8b.6) next to 60 degrees?
#
# <details><summary>Answer</summary>
#
# At 60 degrees $p = (2/3)^2 = 0.44$, so 14.2 rounds agree on average.
#
# ```python
# angle = torch.tensor(math.pi / 3)
# middle = min(range(1, 33), key=lambda k: abs(float(match_probability(angle, k)) - 0.5))
# assert middle in (14, 15)
# ```
# </details>
#
# **3. What the hash can't see.** Build a query and two keys so that the softmax prefers the key that the hash leaves out.
#
# <details><summary>Answer</summary>
#
# A long key at 60 degrees, a short one at 20.
#
# ```python
# unit = lambda degrees: torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
# query, two_keys = unit(0)[None], torch.stack([5 * unit(60), unit(20)])
# R_2 = hash_directions(2, generator=torch.Generator().manual_seed(0))
# assert (query @ two_keys.T)[0].argmax() == 0
# assert count_matches(lsh_buckets(query, R_2), lsh_buckets(two_keys, R_2))[0].argmax() == 1
# ```
# </details>
#
# **4. Exactly so many.** Write a mask in which every query keeps exactly $n$ keys, those with the most matches, ties to the earlier key. What does it cost?
#
# <details><summary>Answer</summary>
#
# A stable sort of every row, which the rule with one $k$ for all does not need.
#
# ```python
# def exactly(counts, n):
#     best = counts.argsort(dim=-1, descending=True, stable=True)[..., :n]
#     return torch.zeros_like(counts, dtype=torch.bool).scatter_(-1, best, True)
# row = torch.tensor([[3, 9, 9, 1, 9]])
# assert exactly(row, 2).tolist() == [[False, True, True, False, False]]
# ```
# </details>
#
# **5. Paid twice.** How often does `chunked_attention` ask for each chunk's mask in a training step? Count.
#
# <details><summary>Answer</summary>
#
# Twice: forward, and again for the gradient.
#
# ```python
# asked = []
# def all_rows(start, stop):
#     asked.append(start)
#     return torch.ones(stop - start, 10, dtype=torch.bool)
# leaf = torch.randn(10, 4, requires_grad=True)
# chunked_attention(leaf, leaf, leaf, all_rows, chunk=4).sum().backward()
# assert sorted(asked) == [0, 0, 4, 4, 8, 8]
# ```
# </details>
#
# **6. Open.** Keys can be made equally long without changing the softmax's order: add a dimension that makes up for what is missing (Shrivastava and Li 2014), 0 in the query. Does that find more of the weight of section 8b.6?

# %% [markdown]
# ## 8b.17 Sources
#
# - S. Rouard, F. Massa and A. Défossez, *Hybrid transformers for music source separation*, ICASSP 2023 (arXiv 2211.08553); the package `demucs` 4.1.0 (MIT), whose sparse layers need a kernel that was not published.
# - P. Indyk and R. Motwani, *Approximate nearest neighbors: towards removing the curse of dimensionality*, STOC 1998; M. Charikar, *Similarity estimation techniques from rounding algorithms*, STOC 2002 (random planes); A. Andoni, P. Indyk, T. Laarhoven, I. Razenshteyn and L. Schmidt, *Practical and optimal LSH for angular distance*, NeurIPS 2015.
# - N. Kitaev, Ł. Kaiser and A. Levskaya, *Reformer: the efficient transformer*, ICLR 2020; R. Child, S. Gray, A. Radford and I. Sutskever, *Generating long sequences with sparse transformers*, 2019 (fixed masks).
# - T. Dao, D. Y. Fu, S. Ermon, A. Rudra and C. Ré, *FlashAttention*, NeurIPS 2022; T. Chen, B. Xu, C. Zhang and C. Guestrin, *Training deep nets with sublinear memory cost*, 2016 (checkpoints).
# - Z. Rafii and B. Pardo, *Music/voice separation using the similarity matrix*, ISMIR 2012 (REPET-SIM).
# - A. Shrivastava and P. Li, *Asymmetric LSH for sublinear time maximum inner product search*, NeurIPS 2014.
#
# Recordings: Kevin MacLeod, *Vibe Ace*, and Karissa Hobbs, *Let's Go Fishin'*, both from the Free Music Archive under CC BY 3.0, as shipped for `librosa.ex`.
