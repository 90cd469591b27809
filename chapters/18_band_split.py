# %% [markdown]
# # Chapter 18 · Splitting the bands
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/18_band_split.ipynb)
#
# A kick drum, a vowel and a cymbal have little in common, and they live in different octaves. Demucs lets one stack of convolutions treat all of
# them. The networks that came after it cut the spectrum into **bands** first, and give every band a small network of its own on the way in and
# on the way out; in between, the bands talk to each other. You build three of them: BS-RoFormer and Mel-Band RoFormer, equal to the package that everyone trains, and SCNet,
# which keeps the low band whole and squeezes the high ones.
#
# **You will be able to**
# - say what the width of a band costs and what it buys, on a spectrogram,
# - write a norm, a linear layer and a mask network for every band, and hear the mask band by band,
# - turn queries and keys by their positions, and prove that only differences of positions count,
# - assemble BS-RoFormer and Mel-Band RoFormer from parts, and say where a bin of two bands gets its mask,
# - compress three subbands at three rates, and undo it,
# - judge what split, positions and masks were worth in a small experiment, and what it couldn't show.
#
# **You need** chapter 8 (attention, positions, a transformer layer) and chapter 1 (STFT, masks); chapter 4 for what an LSTM is.
#
# **Time** <!-- minutes 18_band_split -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 18.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp band_split
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("18_band_split", cpu=dict(seconds=4.0), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/band_split.py`.

# %%
#| export
import math
from collections.abc import Callable, Sequence
import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.data import STEMS
from course_lib.hdemucs import check_mixture

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import open_tracks
from course_lib.data.mono import mono_tracks
from course_lib.data.recordings import recording
from course_lib.experiments import band_split as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_losses, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.results import measured, measured_card, published, shipped_file
from course_lib.spectral import istft, stft
from course_lib.training import load_trained, read_card

# %% [markdown]
# ## 18.1 What lives where
#
# Six seconds of a real recording:

# %%
rate, n_fft, hop = 22_050, 1024, 512
real, _ = recording("fishin", start=12.0, seconds=6.0, mono=True, rate=rate)
listen(real, rate, "Karissa Hobbs, Let's Go Fishin'")

# %% [markdown]
# The same with only some of its bins left. An STFT is linear, so the pieces add up to the whole:

# %%
X = stft(real, n_fft, hop)                                           # (channel, bin, frame)
hertz = torch.arange(X.shape[1]) * rate / n_fft

def only(low, high):
    """The recording with nothing but the bins from `low` to below `high` Hz."""
    inside = (hertz >= low) & (hertz < high)
    return istft(X * inside[:, None], n_fft, hop, length=real.shape[-1])

pieces = {"below 250 Hz": only(0, 250), "250 Hz to 2 kHz": only(250, 2000),
          "above 2 kHz": only(2000, rate)}
for name, piece in pieces.items():
    listen(piece, rate, name)
assert (sum(pieces.values()) - real).abs().max() < 1e-5 * real.abs().max()

# %% [markdown]
# How much of the sound is where, and how many of the bins? A bin is 21.5 Hz wide, everywhere. The ear isn't made like that, and music isn't, either:

# %%
energy = X.abs().square().sum((0, 2))
edges = (0, 250, 2000, rate)
rows = [[name, float(energy[(hertz >= low) & (hertz < high)].sum() / energy.sum()),
         float(((hertz >= low) & (hertz < high)).float().mean())]
        for name, low, high in zip(pieces, edges, edges[1:])]
show_table(rows, ["piece", "share of the energy", "share of the bins"], digits=2,
           caption="Six seconds of the recording.")
assert rows[2][2] > 0.75 and rows[2][1] < 0.25

# %% [markdown]
# Most bins hold little. And what they hold differs in level by factors: here the mean level of every octave, against the loudest.

# %%
octaves = [float(10 * energy[(hertz >= low) & (hertz < 2 * low)].mean().log10())
           for low in 86 * 2 ** np.arange(7)]
print([f"{86 * 2 ** i} Hz: {level - max(octaves):.0f} dB" for i, level in enumerate(octaves)])
assert max(octaves) - min(octaves) > 20

# %% [markdown]
# One convolution over all bins, as in chapters 4 to 8, has to serve loud and soft octaves, wide and narrow sounds with the same weights. The idea of Band-Split RNN (2022):
# cut the spectrum into bands by hand, from what one knows about music; let each band have its *own* weights, and let a network look at the sequence of bands as at a sequence of words.

# %% [markdown]
# ## 18.2 Cutting
#
# A band is a run of neighbouring bins. What describes a split is the **width** of each of them, $w_1, \dots, w_K$, which add up to the number of bins; band $k$ begins where the ones
# before it end:
#
# $$ b_k = \sum_{j < k} w_j, \qquad \text{band } k = \{b_k, \dots, b_k + w_k - 1\}. \tag{18.1} $$

# %%
#| export
def edges_of(widths: Sequence[int]) -> list[tuple[int, int]]:
    """First bin of every band and first bin after it (eq. 18.1): widths (band,) to pairs.

    ValueError for a width below 1. Source: Luo and Yu 2023, section III; section 18.2.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {list(widths)}; expected one or more bands of at least 1 bin")
    ends = torch.tensor(widths).cumsum(0).tolist()
    return list(zip([0, *ends[:-1]], ends))

# %% [markdown]
# Three bands of six bins:

# %%
print(edges_of((1, 2, 3)))
assert edges_of((1, 2, 3)) == [(0, 1), (1, 3), (3, 6)]

# %% [markdown]
# The plainest split makes all bands equally wide, as far as whole numbers allow:

# %%
#| export
def equal_widths(bins: int, bands: int) -> tuple[int, ...]:
    """Widths of `bands` bands that share `bins` bins as equally as whole numbers can (18.2)."""
    if not 1 <= bands <= bins:
        raise ValueError(f"bands is {bands}; expected from 1 to {bins}, the number of bins")
    places = [round(bins * band / bands) for band in range(bands + 1)]
    return tuple(end - begin for begin, end in zip(places, places[1:]))

# %% [markdown]
# The split that won is made by hand: 100 Hz a band where voices and basses have their fundamentals, and wider and wider above. Its authors tried seven; this is the seventh, for any rate:

# %%
#| export
MUSICAL_STEPS = ((1000, 100), (4000, 250), (8000, 500), (16_000, 1000), (20_000, 2000))


def musical_widths(rate: int, n_fft: int) -> tuple[int, ...]:
    """Widths in bins of the heuristic split, narrow where music is dense.

    Bands of 100 Hz up to 1 kHz, of 250 Hz to 4 kHz, of 500 Hz to 8 kHz, of 1 kHz to 16 kHz, of 2
    kHz to 20 kHz, and one for what is left; fewer where half the rate comes earlier. ValueError
    where a band would have no bin. Source: Luo and Yu 2023, section III; section 18.2.
    """
    bins, hertz, places = n_fft // 2 + 1, 0, [0]
    for top, width in MUSICAL_STEPS:
        while hertz < top and places[-1] < bins:
            hertz += width
            places.append(min(bins, round(hertz * n_fft / rate)))
    places += [bins] * (places[-1] < bins)
    widths = tuple(end - begin for begin, end in zip(places, places[1:]))
    if min(widths) < 1:
        raise ValueError(f"n_fft is {n_fft} at {rate} Hz; expected a larger one: a band of 100 Hz "
                         "has no bin of its own")
    return widths

# %% [markdown]
# At our half rate, and at the paper's 44.1 kHz with 2048 samples a frame:

# %%
musical = musical_widths(rate, n_fft)
equal = equal_widths(n_fft // 2 + 1, len(musical))
for name, widths in (("musical", musical), ("equal", equal),
                     ("musical, 44.1 kHz", musical_widths(44_100, 2048))):
    print(f"{name}: {len(widths)} bands of {min(widths)} to {max(widths)} bins, {sum(widths)} bins")
assert sum(musical) == sum(equal) == n_fft // 2 + 1

# %% [markdown]
# Drawn on the recording, the bottom 4 kHz. Left, equal bands: two or three of them hold all fundamentals. Right, musical bands: each of the lowest holds about one partial of one instrument.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
for axis, (name, widths) in zip(axes, (("equal", equal), ("musical", musical))):
    plot_spectrogram(real, rate, f"{name} bands", axis="linear", ax=axis, colour_bar=False,
                     top=4000)
    for _, end in edges_of(widths):
        if hertz[min(end, len(hertz) - 1)] < 4000:
            axis.axhline(float(hertz[end]), color="white", linewidth=0.7)
show(figure, f"Both splits have {len(musical)} bands. White lines: where a band ends.",
     "Two spectrograms up to 4 kHz. The left one is cut by evenly spaced lines 340 Hz apart, the "
     "right one by many lines below 1 kHz and fewer above.")

# %% [markdown]
# **What a width means.** A band becomes *one* token of a fixed size (next section), and gets its mask back from one token. Narrow bands: much room for each bin, many tokens, and attention
# pays for pairs of them. Wide bands: cheap, but all their bins must share. The bins that each number of a token of 32 has to speak for, real and imaginary part counted:

# %%
def numbers_for_each(widths, hz):
    """Numbers in the band that holds `hz`, for each of 32 numbers of its token."""
    bin = round(hz * n_fft / rate)
    return next(2 * (end - begin) / 32 for begin, end in edges_of(widths) if begin <= bin < end)

show_table([[f"{hz} Hz", numbers_for_each(equal, hz), numbers_for_each(musical, hz)]
            for hz in (200, 800, 3000, 9000)], ["at", "equal", "musical"], digits=1,
           caption="Numbers of the spectrum for each number of the token.")
assert numbers_for_each(musical, 200) < numbers_for_each(equal, 200)
assert numbers_for_each(musical, 9000) > numbers_for_each(equal, 9000)

# %% [markdown]
# ## 18.3 A norm and a linear layer for every band
#
# Let $X[k, m]$ be the numbers of band $k$ in frame $m$: real and imaginary parts of its bins, of all channels, $2 w_k C$ of them. Its token is
#
# $$ z[k, m] = W_k\, \mathrm{norm}_k(X[k, m]) + c_k, \qquad
#    \mathrm{norm}_k(x) = \sqrt{n}\, \frac{x}{\lVert x \rVert}\, \gamma_k, \tag{18.2} $$
#
# $n$ is the number of entries of $x$. $W_k$, $c_k$ and $\gamma_k$ belong to band $k$ alone. The norm divides by the band's own level (root mean square), so a band 40 dB below another one looks alike to the network. By hand, with
# two numbers of very different size:

# %%
x = torch.tensor([[3.0, 4.0], [0.003, 0.004]])
normed = 2 ** 0.5 * x / x.norm(dim=-1, keepdim=True)
print([[round(value, 2) for value in row] for row in normed.tolist()])
assert torch.allclose(normed[0], normed[1])
assert torch.allclose(normed.square().mean(-1), torch.ones(2))

# %% [markdown]
# As a module, RMS norm for short. `F.normalize` divides by at least $10^{-12}$, so silence stays silence:

# %%
#| export
class RMSNorm(nn.Module):
    """Vectors (..., dim) brought to norm sqrt(dim), then each entry times a weight `gamma`.

    Silence stays 0. Source: Zhang and Sennrich 2019; section 18.3.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.scale, self.gamma = dim ** 0.5, nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.scale * self.gamma

# %% [markdown]
# It agrees with the line above, and with zeros:

# %%
assert torch.allclose(RMSNorm(2)(x), normed, atol=1e-6)
assert not RMSNorm(2)(torch.zeros(2)).any()

# %% [markdown]
# All bands at once. The bands' numbers stand one after the other in the last axis; `split` cuts them apart, `stack` puts the tokens side by side:

# %%
#| export
class BandSplit(nn.Module):
    """A token a band (eq. 18.2): (batch, frame, number) to (batch, frame, band, dim).

    dim_inputs: how many numbers each band has; they stand one band after the other in the input.
    Every band has a norm and a linear layer of its own. Source: Luo and Yu 2023, section III-A;
    section 18.3.
    """

    def __init__(self, dim: int, dim_inputs: tuple[int, ...]):
        super().__init__()
        self.dim_inputs = tuple(dim_inputs)
        self.to_features = nn.ModuleList(
            nn.Sequential(RMSNorm(numbers), nn.Linear(numbers, dim)) for numbers in dim_inputs)

    def forward(self, x: Tensor) -> Tensor:
        bands = x.split(self.dim_inputs, dim=-1)
        return torch.stack([layer(band) for layer, band in zip(self.to_features, bands)], dim=-2)

# %% [markdown]
# The recording as tokens. Making one band ten times as loud changes no token at all: of its level nothing is left.

# %%
torch.manual_seed(0)
numbers = torch.view_as_real(X).transpose(1, 2).flatten(2)          # (channel, frame, 2 * bin)
splitter = BandSplit(32, tuple(2 * width for width in musical))
louder = numbers.clone()
begin, end = edges_of(musical)[3]
louder[..., 2 * begin:2 * end] *= 10
with torch.no_grad():
    z, z_louder = splitter(numbers), splitter(louder)
print("(channel, frame, bin, part)", tuple(torch.view_as_real(X).transpose(1, 2).shape),
      "-> (channel, frame, band, dim)", tuple(z.shape))
assert torch.allclose(z, z_louder, atol=1e-4)

# %% [markdown]
# <details><summary>Quick question: nothing of the level is left. How can the network know whether a band is silent?</summary>
#
# It can't, and needn't: what it gives is a *mask*, and a mask on silence is silence. In section 18.14 we take the mask away, and have to give the level back. (Digital silence is the exception: its token is $c_k$.)
# </details>

# %% [markdown]
# ## 18.4 Along time, along bands
#
# Tokens lie in a grid, frames by bands. Band-Split RNN reads it in two directions by turns: an RNN along *time*, for each band alone, then one along the *bands*, for each frame alone, and again. Each adds to what it hears:

# %%
d = Diagram()
grid = d.block("tokens", "frame x band x dim", kind="data")
time_path = d.block("RNN along time", "a sequence a band", after=grid, kind="trained")
band_path = d.block("RNN along bands", "a sequence a frame", after=time_path, kind="trained")
tokens_out = d.block("tokens", "frame x band x dim", after=band_path, kind="data")
d.group([time_path, band_path], "12 times in the paper")
show(d.draw(), "Band-Split RNN's middle. Either path is a norm, a BLSTM and a linear layer, and "
     "adds to its input.", d.in_words())

# %% [markdown]
# One path, and which way it goes is only a matter of what is folded into the batch:

# %%
class Path(nn.Module):
    """A norm, an LSTM in both directions and a linear layer that add to x (row, step, dim)."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.lstm = nn.LSTM(dim, dim, bidirectional=True, batch_first=True)
        self.back = nn.Linear(2 * dim, dim)

    def forward(self, x):
        return x + self.back(self.lstm(self.norm(x))[0])

def two_ways(x, over_time, over_bands):
    """Tokens (batch, frame, band, dim) through both paths."""
    rows = x.transpose(1, 2).flatten(0, 1)                           # (batch * band, frame, dim)
    x = over_time(rows).unflatten(0, (len(x), -1)).transpose(1, 2)   # (batch, frame, band, dim)
    return over_bands(x.flatten(0, 1)).unflatten(0, (len(x), -1))

# %% [markdown]
# Who hears whom? Change one token, and look which outputs move. After the first path only those of the same band; after both, all of them:

# %%
torch.manual_seed(0)
time_path, band_path = Path(8).eval(), Path(8).eval()
grid = torch.randn(1, 6, 5, 8)                                       # (batch, frame, band, dim)
other = grid.clone()
other[0, 2, 3] = torch.randn(8)
nothing = nn.Identity()
with torch.no_grad():
    moved = {name: (two_ways(grid, *paths) - two_ways(other, *paths)).abs().amax(-1)[0] > 0
             for name, paths in (("time", (time_path, nothing)), ("both", (time_path, band_path)))}
print(f"tokens that move after time: {int(moved['time'].sum())}, after both: "
      f"{int(moved['both'].sum())}, of {moved['both'].numel()}")
assert moved["time"][:, 3].all() and not moved["time"][:, :3].any() and moved["both"].all()

# %% [markdown]
# Two cheap passes instead of one dear one: with $M$ frames and $K$ bands, attention over all tokens would weigh $(M K)^2$ pairs, the two paths together $K M^2 + M K^2$. Attention takes the LSTM's place in a moment. First the way out.

# %% [markdown]
# ## 18.5 A mask for every band
#
# Each band's token makes the mask of its bins, with weights of its own:
#
# $$ (a, g) = \mathrm{MLP}_k(z[k, m]), \qquad \hat M[k, m] = a \odot \sigma(g), \qquad
#    \hat S[k, m] = \hat M[k, m] \cdot X[k, m]. \tag{18.3} $$
#
# The MLP has tanh between its linear layers. Its last one gives *two* numbers for each that is needed; the second, through a sigmoid, is a gate for the first (a gated linear unit, GLU, chapter 6). $\hat M$ is complex and the product is
# that of complex numbers: it turns the phase, too, and isn't bounded by 1. A mask that is zero must be easy to make; a gate makes it easy:

# %%
a, g = torch.tensor([2.0, 2.0, -0.5]), torch.tensor([6.0, -6.0, 0.0])
print([round(value, 2) for value in F.glu(torch.cat([a, g]), dim=0).tolist()])
assert torch.allclose(F.glu(torch.cat([a, g]), dim=0), a * g.sigmoid())

# %% [markdown]
# The module:

# %%
#| export
class MaskEstimator(nn.Module):
    """The numbers of every band's mask from its token (eq. 18.3): (batch, frame, band, dim) to
    (batch, frame, number).

    depth: linear layers of each band's network, with tanh between them and a GLU at the end. The
    layers in between have mlp_expansion_factor * dim entries. Source: Luo and Yu 2023, section
    III-C; section 18.5.
    """

    def __init__(self, dim: int, dim_inputs: tuple[int, ...], depth: int,
                 mlp_expansion_factor: int = 4):
        super().__init__()
        hidden = [dim * mlp_expansion_factor] * (depth - 1)
        self.to_freqs = nn.ModuleList()
        for numbers in dim_inputs:
            sizes, layers = [dim, *hidden, 2 * numbers], []
            for before, after in zip(sizes, sizes[1:]):
                layers += [nn.Linear(before, after), nn.Tanh()]
            self.to_freqs.append(nn.Sequential(nn.Sequential(*layers[:-1]), nn.GLU(dim=-1)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(band) for layer, band in zip(self.to_freqs, x.unbind(-2))], dim=-1)

# %% [markdown]
# Where do the weights of such a network lie? Mostly here. A token of 32 for each of our bands, and two linear layers a band, as the package does, or one:

# %%
count = lambda module: sum(p.numel() for p in module.parameters() if p.requires_grad)
sizes = tuple(2 * width for width in musical)
for depth in (1, 2):
    print(f"{depth} layer(s): {count(MaskEstimator(32, sizes, depth)):,} weights a stem; "
          f"all band splits together: {count(splitter):,}")
assert count(MaskEstimator(32, sizes, 1)) > count(splitter)

# %% [markdown]
# ## 18.6 Positions that turn
#
# Attention doesn't see the order of its tokens (section 8.4). Chapter 8 *added* sines to them. BS-RoFormer **turns** queries and keys instead, and only those. Take two neighbouring entries of a query as a point in a plane, and turn it by an angle
# that grows with the position $m$:
#
# $$ R(m\theta) = \begin{pmatrix} \cos m\theta & -\sin m\theta \\ \sin m\theta & \cos m\theta \end{pmatrix},
#    \qquad \bigl(R(m\theta)\, q\bigr) \cdot \bigl(R(n\theta)\, k\bigr) = q \cdot R\bigl((n - m)\theta\bigr) k. \tag{18.4} $$
#
# The right side is why: turning both by the same angle leaves the product as it was, so only the *difference* $n - m$ is left in it. Whether a note came 3 frames ago is in there; whether the song has lasted 3 minutes isn't. By hand:

# %%
def turn(angle):
    """The matrix R of eq. 18.4."""
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

q, k, theta = torch.tensor([1.0, 0.5]), torch.tensor([-0.3, 2.0]), 0.4
products = {(m, n): float((turn(m * theta) @ q) @ (turn(n * theta) @ k))
            for m, n in ((0, 3), (5, 8), (100, 103), (3, 0))}
print({pair: round(value, 3) for pair, value in products.items()})
assert abs(products[0, 3] - products[5, 8]) < 1e-5 > abs(products[0, 3] - products[100, 103])
assert abs(products[0, 3] - products[3, 0]) > 0.1

# %% [markdown]
# The last pair looks back instead of ahead, and differs: direction counts.
#
# One angle can't tell 1 from $1 + 2\pi/\theta$. So the $d$ entries make $d/2$ pairs, and each pair turns at its own speed, $\theta_i = 10000^{-2i/d}$, from 1 radian a step down to almost standing still. First by loops, pair after pair:

# %%
def rotated_by_loops(x, freqs):
    """Eq. 18.4 for x (position, entry): pair i of position m turned by m freqs[i]."""
    y = torch.zeros_like(x)
    for m in range(len(x)):
        for i, freq in enumerate(freqs.tolist()):
            y[m, 2 * i:2 * i + 2] = turn(m * freq) @ x[m, 2 * i:2 * i + 2]
    return y

# %% [markdown]
# Then all at once. $R x = x \cos + x^{\perp} \sin$, where $x^{\perp}$ is $x$ turned by a right angle, $(-x_2, x_1)$:

# %%
#| export
def rotary_angles(length: int, freqs: Tensor) -> Tensor:
    """By how much each entry is turned (eq. 18.4): (position, 2 * pair), in radians.

    freqs: the angle that a pair turns by from one position to the next, (pair,).
    """
    positions = torch.arange(length, device=freqs.device, dtype=freqs.dtype)
    return torch.outer(positions, freqs).repeat_interleave(2, dim=-1)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair of neighbouring entries turned in its plane: x (..., position, entry)."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)   # by a right angle
    return x * angles.cos() + turned * angles.sin()

# %% [markdown]
# As a module:

# %%
#| export
class RotaryEmbedding(nn.Module):
    """Rotary positions for queries and keys of `dim` entries, an even number.

    forward: x (..., position, dim) with each pair of entries turned by position times its own
    frequency, from 1 radian down to 1 / theta. `freqs` is kept with the weights, but not trained.
    Source: Su et al. 2021, section 3.2; section 18.6.
    """

    def __init__(self, dim: int, theta: float = 10_000):
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(f"dim is {dim}; expected an even number, for entries turn in pairs")
        freqs = theta ** -(torch.arange(0, dim, 2).float() / dim)
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return rotated(x, rotary_angles(x.shape[-2], self.freqs)).to(x.dtype)

# %% [markdown]
# Loops and module agree; nothing gets longer or shorter; and a sequence moved by five positions has the same table of products:

# %%
rotary = RotaryEmbedding(16)
x = torch.randn(9, 16, generator=P.generator)
assert torch.allclose(rotary(x), rotated_by_loops(x, rotary.freqs), atol=1e-5)
assert torch.allclose(rotary(x).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
Q, K = (torch.randn(9, 16, generator=P.generator) for _ in range(2))
later = rotary_angles(14, rotary.freqs)[5:]                          # positions 5 to 13
table = rotary(Q) @ rotary(K).T
moved_table = rotated(Q, later) @ rotated(K, later).T
assert torch.allclose(table, moved_table, atol=1e-4)
relative_error = float((table - moved_table).abs().max())
assert not torch.allclose(table, Q @ K.T, atol=0.1)

# %% [markdown]
# What does a query that equals its key think of a key $n - m$ steps away? The product of a vector of ones with itself, turned. It is largest at 0, and goes up and down beyond: each of the 8 pairs comes round again at its own time, and only 0 suits all of them.

# %%
ones, steps = torch.ones(200, 16), torch.arange(-99, 101)
near = (rotary(ones) @ rotary(ones)[99]) / 16
figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.plot(steps, near, label="all pairs")
for i in (0, 3):
    axis.plot(steps, (steps * rotary.freqs[i]).cos(), linewidth=0.8, alpha=0.6, label=f"pair {i}")
axis.set(xlabel="position of the key less that of the query", ylabel="product / d",
         ylim=(-1.1, 1.6))
axis.legend(loc="upper left", ncols=3)
show(figure, "A vector of ones against itself, turned by their distance: each pair is a cosine, "
     "and all of them agree only at 0.", "A curve with its peak in the middle, and two cosines.")
assert int(near.argmax()) == 99

# %% [markdown]
# ## 18.7 A layer of the RoFormer
#
# Attention as in chapter 8, with three changes. Queries and keys are turned. Each head's answer is multiplied by a **gate**, $\sigma(u_h \cdot x)$, that the token itself computes: attention's weights add up to 1, so a head can't keep silent; with a gate it can. And there are no biases but the gate's. The plain computation, written
# out for one head, eight tokens:

# %%
torch.manual_seed(0)
x, rotary = torch.randn(8, 12), RotaryEmbedding(4)
W_q, W_k, W_v, u = torch.randn(12, 4), torch.randn(12, 4), torch.randn(12, 4), torch.randn(12)
weights = (rotary(x @ W_q) @ rotary(x @ W_k).T / 4 ** 0.5).softmax(-1)    # (query, key)
answer = (x @ u).sigmoid()[:, None] * (weights @ (x @ W_v))               # (token, 4)
assert torch.allclose(weights.sum(-1), torch.ones(8), atol=1e-5)

# %% [markdown]
# All heads at once, fused or written out:

# %%
#| export
def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, flash: bool = True,
           scale: float | None = None) -> Tensor:
    """Attention (eq. 8.1), fused or written out; scale: of the products, by default 1 / sqrt(d)."""
    if flash:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return F.dropout((q @ k.mT * scale).softmax(-1), dropout, training=dropout > 0) @ v

# %% [markdown]
# The module has the package's names. Its last argument is a later addition, the *value residual*: from the second layer on, a head may take over a share of the first layer's values, which share it learns. It sits in a method of its own, so that one can read past it:

# %%
#| export
class Attention(nn.Module):
    """Attention of a sequence to itself, with gates: (batch, position, dim) to the same, and the
    values (batch, head, position, dim_head).

    rotary_embed: turns queries and keys, None for no positions. flash: the fused computation.
    learned_value_residual_mix: take over some of the values `first` of an earlier layer. Source:
    Lu et al. 2023, section 2.2; section 18.7; names as in the package BS-RoFormer.
    """

    def __init__(self, dim: int, heads: int = 8, dim_head: int = 64, dropout: float = 0.0,
                 rotary_embed: RotaryEmbedding | None = None, flash: bool = True,
                 learned_value_residual_mix: bool = False):
        super().__init__()
        self.heads, self.dropout, self.flash = heads, dropout, flash
        self.rotary_embed = rotary_embed
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.add_value_mix(dim, heads, learned_value_residual_mix)
        self.to_gates = nn.Linear(dim, heads)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False),
                                    nn.Dropout(dropout))

    def add_value_mix(self, dim: int, heads: int, wanted: bool) -> None:
        self.to_value_residual_mix = nn.Linear(dim, heads) if wanted else None

    def mixed(self, x: Tensor, v: Tensor, first: Tensor | None) -> Tensor:
        """The values, some of them taken over from `first`."""
        if self.to_value_residual_mix is None:
            return v
        share = self.to_value_residual_mix(x).sigmoid().mT.unsqueeze(-1)     # (batch, head, n, 1)
        return torch.lerp(v, first, share)

    def forward(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1))              # (b, n, 3, head, d)
        q, k, own = qkv.permute(2, 0, 3, 1, 4)                               # (b, head, n, d) each
        v = self.mixed(x, own, first)
        if self.rotary_embed is not None:
            q, k = self.rotary_embed(q), self.rotary_embed(k)
        y = attend(q, k, v, self.dropout if self.training else 0.0, self.flash)
        y = y * self.to_gates(x).sigmoid().mT.unsqueeze(-1)
        return self.to_out(y.transpose(1, 2).flatten(2)), own

# %% [markdown]
# With our one head's weights put in it gives our one head's answer (its norm and its way out are made to do nothing):

# %%
one = Attention(12, 1, 4, rotary_embed=rotary)
with torch.no_grad():
    one.to_qkv.weight.copy_(torch.cat([W_q, W_k, W_v], dim=1).T)
    one.to_gates.weight.copy_(u[None]), one.to_gates.bias.zero_()
    one.norm, one.to_out = nn.Identity(), nn.Identity()
    assert torch.allclose(one(x[None])[0][0], answer, atol=1e-5)

# %% [markdown]
# **Relative only**, now of the layer: five more tokens in front, that nobody may listen to, change nothing. With chapter 8's added sines they would.

# %%
torch.manual_seed(0)
layer = Attention(12, 2, 8, rotary_embed=RotaryEmbedding(8)).eval()
with torch.no_grad():
    q, k, v = layer.to_qkv(x[None]).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    angles = rotary_angles(13, layer.rotary_embed.freqs)
    here, there = (attend(rotated(q, a), rotated(k, a), v) for a in (angles[:8], angles[5:]))
    assert torch.allclose(here, there, atol=1e-5)

# %% [markdown]
# After attention each token alone goes through a wider layer, with a norm in front. Both branches *add* to what they hear:

# %%
#| export
class FeedForward(nn.Module):
    """Each token alone: norm, wider, GELU, back: (..., dim) to (..., dim). Section 18.7."""

    def __init__(self, dim: int, mult: int = 4, dropout: float = 0.0):
        super().__init__()
        self.net = nn.Sequential(RMSNorm(dim), nn.Linear(dim, int(dim * mult)), nn.GELU(),
                                 nn.Dropout(dropout), nn.Linear(int(dim * mult), dim),
                                 nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

# %% [markdown]
# A branch that adds, as a module; the two methods are there to be replaced:

# %%
#| export
class Residual(nn.Module):
    """A branch that is added to what it hears; further outputs of the branch are passed on."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def heard(self, x: Tensor) -> tuple[Tensor, object]:
        """What the branch hears, and what `joined` needs of x."""
        return x, x

    def joined(self, y: Tensor, kept: object) -> Tensor:
        """What the branch gave, joined with what was kept of its input."""
        return y + kept

    def forward(self, x: Tensor, *more):
        x, kept = self.heard(x)
        found = self.branch(x, *more)
        if isinstance(found, tuple):
            return self.joined(found[0], kept), *found[1:]
        return self.joined(found, kept)

# %% [markdown]
# **Several streams.** Why the methods `heard` and `joined`? Since 2025 the package doesn't add in one place, but keeps four copies of every token, **streams**. A branch hears a learned mixture of them, the streams are mixed by a learned matrix whose rows and columns sum to (nearly) 1, and each gets a learned
# share of what the branch gave. All of these depend on the tokens. The papers of this chapter don't have it; without it (`num_residual_streams=1`) it is a plain sum. The matrix first: rows and columns are divided by their sums in turn.

# %%
#| export
def doubly_stochastic(logits: Tensor, iterations: int = 2) -> Tensor:
    """Positive square matrices (..., s, s) whose rows sum to 1, and columns nearly: columns and
    rows of exp(logits) divided by their sums in turn. Source: Sinkhorn and Knopp 1967."""
    if iterations < 1:
        return logits
    x = (logits - logits.amax(-2, keepdim=True).detach()).exp()
    for _ in range(iterations):
        x = F.normalize(x, p=1, dim=-2)
        x = F.normalize(x, p=1, dim=-1)
    return x

# %% [markdown]
# More turns, more nearly:

# %%
logits = torch.randn(4, 4, generator=P.generator)
off = [float((doubly_stochastic(logits, turns).sum(0) - 1).abs().max()) for turns in (1, 2, 20)]
print([f"{value:.0e}" for value in off[:2]], "and nearly nothing")
assert off[0] > off[1] > off[2] and off[2] < 1e-4

# %% [markdown]
# And the connection. The streams stand in the batch, each token's four side by side:

# %%
#| export
class HyperConnection(Residual):
    """A residual connection with several streams, which stand in the batch: (batch * stream, ...,
    dim). What the branch hears, how the streams are mixed and how much each of them gets of the
    branch's output are learned, and depend on the streams themselves.

    iterations: of `doubly_stochastic`. Source: Zhu et al. 2024; as in the package
    hyper-connections 0.4; section 18.7.
    """

    def __init__(self, branch: nn.Module, dim: int, streams: int, iterations: int = 2):
        super().__init__(branch)
        self.streams, self.iterations = streams, iterations
        self.norm = RMSNorm(dim)
        nn.init.zeros_(self.norm.gamma)                              # 1 is added where it is used
        first = F.one_hot(torch.randint(streams, ()), streams).float()[:, None]
        self.static_alpha = nn.Parameter(torch.cat([first, torch.eye(streams)], dim=1))
        self.dynamic_alpha_fn = nn.Parameter(torch.zeros(1, dim, streams + 1))
        self.pre_branch_scale = nn.Parameter(torch.full((1,), 1e-2))
        self.residual_scale = nn.Parameter(torch.full((1,), 1e-2))
        self.static_beta = nn.Parameter(torch.ones(streams))
        self.dynamic_beta_fn = nn.Parameter(torch.zeros(dim))
        self.h_post_scale = nn.Parameter(torch.tensor(1e-2))

    def heard(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = x.unflatten(0, (-1, self.streams)).movedim(1, -2)        # (batch, ..., stream, dim)
        normed = F.normalize(x, dim=-1) * self.norm.scale * (self.norm.gamma + 1)
        scales = torch.cat([self.pre_branch_scale, self.residual_scale.expand(self.streams)])
        alpha = normed @ self.dynamic_alpha_fn[0] * scales + self.static_alpha
        share, mix = alpha[..., :1].sigmoid(), doubly_stochastic(alpha[..., 1:], self.iterations)
        beta = 2 * (normed @ self.dynamic_beta_fn * self.h_post_scale + self.static_beta).sigmoid()
        return (share.mT @ x).squeeze(-2), (mix.mT @ x, beta)

    def joined(self, y: Tensor, kept: tuple[Tensor, Tensor]) -> Tensor:
        streams, beta = kept
        x = streams + beta.unsqueeze(-1) * y.unsqueeze(-2)           # (batch, ..., stream, dim)
        return x.movedim(-2, 1).flatten(0, 1)

# %% [markdown]
# With one stream and nothing learned yet it still isn't the plain sum, for its shares go through sigmoids. It never decides what is *there*, though: equal streams stay equal when the branch is silent.

# %%
class Silent(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)

streams = torch.randn(3, 5, 8, generator=P.generator).repeat_interleave(4, dim=0)
with torch.no_grad():
    after = HyperConnection(Silent(), 8, 4, iterations=50)(streams)
assert torch.allclose(after, streams, atol=1e-4)

# %% [markdown]
# Layers of both, along one axis:

# %%
#| export
class Transformer(nn.Module):
    """Layers along one axis: (batch, position, dim) to the same, and the first layer's values.

    attention: makes the attention of a layer. streams, iterations: of `HyperConnection`; 1 stream
    is a plain sum. Section 18.7; names as in the package BS-RoFormer."""

    def __init__(self, dim: int, depth: int, attention: Callable[[], nn.Module],
                 ff_dropout: float = 0.0, ff_mult: int = 4, norm_output: bool = True,
                 streams: int = 1, iterations: int = 2):
        super().__init__()
        join = (Residual if streams == 1 else
                lambda branch: HyperConnection(branch, dim, streams, iterations))
        self.layers = nn.ModuleList(nn.ModuleList(
            [join(attention()), join(FeedForward(dim, ff_mult, ff_dropout))]) for _ in range(depth))
        self.norm = RMSNorm(dim) if norm_output else nn.Identity()

    def forward(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        values = None
        for attention, feed_forward in self.layers:
            x, found = attention(x, first)
            values = found if values is None else values
            x = feed_forward(x)
        return self.norm(x), values

# %% [markdown]
# The two ways of section 18.4, for transformers, and a third one over all tokens at once that we need for mel bands:

# %%
#| export
def along_time(x: Tensor, transformer: nn.Module, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each band alone through a transformer over frames: x (batch, frame, band, dim)."""
    y, values = transformer(x.transpose(1, 2).flatten(0, 1), first)    # (batch * band, frame, dim)
    return y.unflatten(0, (len(x), -1)).transpose(1, 2), values


def along_bands(x: Tensor, transformer: nn.Module, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each frame alone through a transformer over bands: x (batch, frame, band, dim)."""
    y, values = transformer(x.flatten(0, 1), first)                    # (batch * frame, band, dim)
    return y.unflatten(0, (len(x), -1)), values


def along_both(x: Tensor, transformer: nn.Module, first: Tensor | None) -> tuple[Tensor, Tensor]:
    """All tokens of a chunk as one sequence: x (batch, frame, band, dim)."""
    y, values = transformer(x.flatten(1, 2), first)                    # (batch, frame * band, dim)
    return y.unflatten(1, x.shape[1:3]), values

# %% [markdown]
# The test of section 18.4 again, with attention:

# %%
torch.manual_seed(0)
over_time, over_bands = (
    Transformer(8, 1, lambda: Attention(8, 2, 4, rotary_embed=RotaryEmbedding(4)))
    for _ in range(2))
with torch.no_grad():
    after = [along_time(x, over_time, None)[0] for x in (grid, other)]
    both = [along_bands(x, over_bands, None)[0] for x in after]
moved = (after[0] - after[1]).abs().amax(-1)[0] > 0
assert moved[:, 3].all() and not moved[:, :3].any()
assert ((both[0] - both[1]).abs().amax(-1)[0] > 0).all()

# %% [markdown]
# <details><summary>Quick question: with several streams, which four rows does <code>HyperConnection</code> mix inside <code>along_time</code>?</summary>
#
# `along_time` folds the bands into the batch *behind* the streams, (batch * stream * band), and `HyperConnection` takes four neighbours of that axis: four neighbouring *bands* of one stream, not four streams of one band. The package does so, too (version 1.2.4); equal output means that we do it as it does. `along_both` folds nothing, and there the streams are streams. With `num_residual_streams=1` the question doesn't arise, and all networks that we train have one.
# </details>
#
# ## 18.8 BS-RoFormer
#
# Band split, pairs of transformers, one more norm, masks. In the published size, for 8 s of stereo at 44.1 kHz in hops of 10 ms:

# %%
d = Diagram()
mix_in = d.block("mixture", "2 x 352800", kind="data")
X_in = d.block("STFT", "2 x 1025 x 801", after=mix_in)
split_in = d.block("band split", "801 x 62 x 384", after=X_in, kind="trained")
t = d.block("transformer\nalong time", "62 rows of 801", after=split_in, kind="trained")
f = d.block("transformer\nalong bands", "801 rows of 62", after=t, kind="trained")
d.group([t, f], "depth times (12)")
est = d.block("mask\nestimators", "2 x 1025 x 801", after=f, kind="trained")
times = d.join("×", after=est)
d.arrow(X_in, times, route="under", reach=0.3)
out = d.block("inverse\nSTFT", "2 x 352800", after=times, kind="data", gap=0.25)
show(d.draw(), "BS-RoFormer for one stem: channels x bins x frames, frames x bands x dim. For more "
     "stems there are more mask estimators.", d.in_words())

# %% [markdown]
# How many bands in the package's default split, and how many Hz are they wide?

# %%
#| export
DEFAULT_FREQS_PER_BANDS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)

# %%
print(f"{len(DEFAULT_FREQS_PER_BANDS)} bands, {sum(DEFAULT_FREQS_PER_BANDS)} bins of "
      f"{44_100 / 2048:.1f} Hz; the narrowest {2 * 44_100 / 2048:.0f} Hz, the widest "
      f"{129 * 44_100 / 2048 / 1000:.1f} kHz")
assert (len(DEFAULT_FREQS_PER_BANDS), sum(DEFAULT_FREQS_PER_BANDS)) == (62, 1025)

# %% [markdown]
# In plain words, for mono and one stem, without anything that later helps to train it:

# %%
def plain_roformer(network, audio):
    """BS-RoFormer for audio (1, 1, time), step by step."""
    X = torch.stft(audio[0], 128, 32, 128, torch.hann_window(128), return_complex=True)
    x = network.band_split(torch.view_as_real(X).transpose(1, 2).flatten(2))  # (1, frame, band, d)
    for time_transformer, freq_transformer in network.layers:
        x, _ = along_time(x, time_transformer, None)
        x, _ = along_bands(x, freq_transformer, None)
    numbers = network.mask_estimators[0](network.final_norm(x))               # (1, frame, number)
    M = torch.view_as_complex(numbers.unflatten(-1, (-1, 2)).contiguous()).transpose(1, 2)
    return torch.istft(M * X, 128, 32, 128, torch.hann_window(128))[None]

# %% [markdown]
# The reusable form has the package's arguments. Both networks of this chapter share their two ends: an STFT whose channels stand side by side in every bin, so that a band holds all of them, and the way back.

# %%
#| export
class SpectralEnds(nn.Module):
    """Audio to a spectrum and back, as BS-RoFormer and Mel-Band RoFormer need it.

    `set_stft` sets the sizes; `audio_channels` is the subclass's. Section 18.8.
    """

    def set_stft(self, n_fft: int, hop_length: int, win_length: int, normalized: bool,
                 window_fn: Callable | None) -> None:
        self.stft_kwargs = dict(n_fft=n_fft, hop_length=hop_length, win_length=win_length,
                                normalized=normalized)
        self.stft_window_fn = lambda: (window_fn or torch.hann_window)(win_length)

    def valid_length(self, length: int) -> int:
        """The shortest whole number of hops that holds `length` samples and half a window."""
        hop, least = self.stft_kwargs["hop_length"], self.stft_kwargs["n_fft"] // 2 + 1
        return -(-max(length, least) // hop) * hop

    def spectrum(self, audio: Tensor) -> Tensor:
        """(batch, channel, time) to (batch, bin * channel, frame), complex."""
        X = torch.stft(audio.flatten(0, 1), **self.stft_kwargs, return_complex=True,
                       window=self.stft_window_fn().to(audio))
        X = X.unflatten(0, audio.shape[:2])                          # (batch, channel, bin, frame)
        return X.transpose(1, 2).flatten(1, 2)

    def audio_of(self, S: Tensor, length: int | None = None) -> Tensor:
        """(batch, stem, bin * channel, frame) back to (batch, stem, channel, time)."""
        S = S.unflatten(2, (-1, self.audio_channels)).transpose(2, 3)
        window = self.stft_window_fn().to(S.real)
        y = torch.istft(S.flatten(0, 2), **self.stft_kwargs, window=window, length=length)
        return y.unflatten(0, S.shape[:3])

    def checked(self, raw_audio: Tensor) -> Tensor:
        """Audio as (batch, channel, time). ValueError for other shapes and what is too short."""
        audio = raw_audio.unsqueeze(1) if raw_audio.ndim == 2 else raw_audio
        check_mixture(audio, self.audio_channels)
        if audio.shape[-1] <= self.stft_kwargs["n_fft"] // 2:
            raise ValueError(f"raw_audio has {audio.shape[-1]} samples; expected more than "
                             f"{self.stft_kwargs['n_fft'] // 2}, half of the STFT's window")
        return audio

# %% [markdown]
# **The loss** of the paper is the mean absolute error of the waveform plus that of several STFTs, from long windows to short ones:
#
# $$ L = \lVert \hat s - s \rVert_1 + \lambda \sum_w \lVert \mathrm{STFT}_w(\hat s) - \mathrm{STFT}_w(s) \rVert_1, \tag{18.5} $$
#
# with means in place of sums in the norms. The package computes it where it is given the targets; so do we, in a class that only does this:

# %%
#| export
def multi_stft_loss(estimates: Tensor, targets: Tensor, window_sizes: Sequence[int], n_fft: int,
                    hop: Callable[[int], int], window_fn: Callable,
                    normalized: bool = False) -> Tensor:
    """Sum over STFTs of several window sizes of the mean |error| of the spectra, a number.

    estimates, targets: (..., time). hop: of a window size. Source: Lu et al. 2023, section 2.4;
    section 18.8.
    """
    total = estimates.new_zeros(())
    for size in window_sizes:
        spectra = [torch.stft(x.flatten(0, -2), max(size, n_fft), hop(size), size,
                              window=window_fn(size).to(x), normalized=normalized,
                              return_complex=True) for x in (estimates, targets)]
        total = total + (spectra[0] - spectra[1]).abs().mean()
    return total

# %% [markdown]
# As a class that a network inherits, with the settings it was made with:

# %%
#| export
class SpectralLoss:
    """The loss (18.5) of a network, from its estimates and the targets."""

    def set_loss(self, weight: float, window_sizes: Sequence[int], hop: Callable[[int], int],
                 normalized: bool, window_fn: Callable) -> None:
        self.loss_weight = weight
        self.loss_options = dict(window_sizes=tuple(window_sizes), hop=hop, window_fn=window_fn,
                                 n_fft=self.stft_kwargs["n_fft"], normalized=normalized)

    def loss(self, y: Tensor, target: Tensor,
             breakdown: bool) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        target = target.unsqueeze(1) if target.ndim == 2 else target
        if target.ndim != y.ndim or target.shape[:-1] != y.shape[:-1]:
            raise ValueError(f"target has shape {tuple(target.shape)}; expected that of the "
                             f"estimates, {tuple(y.shape)}, up to the length")
        target = target[..., :y.shape[-1]]
        time, spectra = F.l1_loss(y, target), multi_stft_loss(y, target, **self.loss_options)
        total = time + self.loss_weight * spectra
        return (total, (time, spectra)) if breakdown else total

# %% [markdown]
# An estimate that is right costs nothing, and the loss of a click shows in the short windows as in the long ones:

# %%
y = 0.1 * torch.randn(1, 1, 2048, generator=P.generator)
options = dict(n_fft=256, hop=lambda size: size // 4, window_fn=torch.hann_window)
click = F.one_hot(torch.tensor(1000), 2048) * 0.5
print([round(float(multi_stft_loss(y + click, y, (size,), **options)), 2) for size in (256, 64)])
assert multi_stft_loss(y, y, (256, 64), **options) == 0

# %% [markdown]
# What both networks do with their layers. `ways` says along what each transformer of a layer goes; a layer's place may be empty:

# %%
#| export
class BandRoformer(SpectralEnds, SpectralLoss):
    """What BS-RoFormer and Mel-Band RoFormer have in common: the way through the layers, masks,
    and forward. The subclass sets `layers`, `ways`, `final_norm`, `band_split`, `mask_estimators`
    and the attributes that `set_up` doesn't. Section 18.8.
    """

    def set_up(self, stereo: bool, num_stems: int, streams: int, used: tuple[int, int],
               zero_dc: bool, use_pope: bool, fracs: int) -> None:
        if use_pope or fracs != 1:
            raise ValueError(f"use_pope is {use_pope} and num_residual_fracs {fracs}; this course "
                             "builds rotary positions and whole streams: expected False and 1")
        self.stereo, self.audio_channels, self.num_stems = stereo, 1 + stereo, num_stems
        self.streams, (self.min_freq, self.max_freq) = streams, used
        self.zero_dc, self.match_input_audio_length = zero_dc and self.min_freq == 0, False

    def banded(self, X: Tensor) -> Tensor:
        """The rows of a spectrum band after band: (batch, row, frame) to (batch, place, frame)."""
        return X

    def unbanded(self, M: Tensor, rows: int) -> Tensor:
        """The way back for masks: (batch, stem, place, frame) to (batch, stem, row, frame)."""
        return M

    def transformed(self, x: Tensor) -> Tensor:
        """Tokens (batch, frame, band, dim) that have heard each other."""
        first: list[Tensor | None] = [None] * len(self.ways)
        x = x.repeat_interleave(self.streams, dim=0)
        for transformers in self.layers:
            for place, (along, transformer) in enumerate(zip(self.ways, transformers)):
                if transformer is not None:
                    x, values = along(x, transformer, first[place])
                    first[place] = values if first[place] is None else first[place]
        return self.final_norm(x.unflatten(0, (-1, self.streams)).sum(1))

    def masks(self, X: Tensor) -> Tensor:
        """Complex masks (batch, stem, row, frame) of a spectrum (batch, row, frame)."""
        numbers = torch.view_as_real(self.banded(X)).transpose(1, 2).flatten(2)
        x = self.transformed(self.band_split(numbers))
        found = torch.stack([estimator(x) for estimator in self.mask_estimators], dim=1)
        found = found.unflatten(-1, (-1, 2)).transpose(2, 3).contiguous()   # (b, stem, place, m, 2)
        return self.unbanded(torch.view_as_complex(found), X.shape[1])

    def applied(self, masks: Tensor, X: Tensor) -> Tensor:
        """Spectra of the stems (batch, stem, row, frame) from masks and mixture."""
        return masks * X.unsqueeze(1)

    def forward(self, raw_audio: Tensor, target: Tensor | None = None,
                return_loss_breakdown: bool = False):
        audio, channels = self.checked(raw_audio), self.audio_channels
        X = self.spectrum(audio)
        low, high = self.min_freq * channels, self.max_freq * channels
        S = self.applied(self.masks(X[:, low:high]), X[:, low:high])
        S = F.pad(S, (0, 0, low, X.shape[1] - high))                 # nothing outside the range
        if self.zero_dc:
            S = S.index_fill(2, torch.arange(channels, device=S.device), 0)
        y = self.audio_of(S, audio.shape[-1] if self.match_input_audio_length else None)
        y = y[:, 0] if self.num_stems == 1 else y
        return y if target is None else self.loss(y, target, return_loss_breakdown)

# %% [markdown]
# A network may leave bins out at both ends of the spectrum; the widths must then add up to those that are left:

# %%
#| export
def used_bins(bins: int, freq_range: tuple[int, int] | None,
              widths: Sequence[int]) -> tuple[int, int]:
    """First bin that is used and the one after the last; ValueError where the widths aren't all."""
    low, high = freq_range or (-1, -1)
    low, high = max(low, 0), bins if high == -1 else high
    if not 0 <= low < high <= bins or len(widths) < 2 or sum(widths) != high - low:
        raise ValueError(f"freqs_per_bands are {len(widths)} bands of {sum(widths)} bins together; "
                         f"expected two bands or more that hold the {high - low} bins from {low} "
                         f"to {high}, of {bins}")
    return low, high

# %%
assert used_bins(65, None, (30, 35)) == (0, 65) and used_bins(65, (4, -1), (30, 31)) == (4, 65)

# %% [markdown]
# What is left for the network itself are its layers:

# %%
#| export
STFT_WINDOWS = (4096, 2048, 1024, 512, 256)


class BSRoformer(BandRoformer):
    """Band-Split RoPE Transformer: audio (batch, channel, time) to stems (batch, stem, channel,
    time), by complex masks on an STFT; with one stem (batch, channel, time).

    dim: of a token. depth: pairs of a transformer over frames and one over bands, of
    time_transformer_depth and freq_transformer_depth layers. freqs_per_bands: bins of every band.
    freq_range: (first, after the last) bin that is used, -1 for the end. The output is cut to
    whole hops (`valid_length`). With target, forward gives the loss (18.5), with
    return_loss_breakdown its parts, too. Arguments, defaults and tensor names as in the package
    BS-RoFormer 1.2; use_pope and num_residual_fracs are refused. ValueError for bands that aren't
    all bins, audio of another shape. Source: Lu, Wang, Kong and Hung 2023; section 18.8.
    """

    def __init__(self, dim: int, *, depth: int, stereo: bool = False, num_stems: int = 1,
                 time_transformer_depth: int = 2, freq_transformer_depth: int = 2,
                 freqs_per_bands: tuple[int, ...] = DEFAULT_FREQS_PER_BANDS,
                 freq_range: tuple[int, int] | None = None, dim_head: int = 64, heads: int = 8,
                 attn_dropout: float = 0.0, ff_dropout: float = 0.0, flash_attn: bool = True,
                 num_residual_streams: int = 4, num_residual_fracs: int = 1,
                 mc_hyper_conn_sinkhorn_iters: int = 2, dim_freqs_in: int = 1025,
                 stft_n_fft: int = 2048, stft_hop_length: int = 512, stft_win_length: int = 2048,
                 stft_normalized: bool = False, zero_dc: bool = False,
                 stft_window_fn: Callable | None = None, mask_estimator_depth: int = 2,
                 multi_stft_resolution_loss_weight: float = 1.0,
                 multi_stft_resolutions_window_sizes: tuple[int, ...] = STFT_WINDOWS,
                 multi_stft_hop_size: int = 147, multi_stft_normalized: bool = False,
                 multi_stft_window_fn: Callable = torch.hann_window, use_pope: bool = False):
        super().__init__()
        used = used_bins(stft_n_fft // 2 + 1, freq_range, freqs_per_bands)
        self.set_up(stereo, num_stems, num_residual_streams, used, zero_dc, use_pope,
                    num_residual_fracs)
        self.set_stft(stft_n_fft, stft_hop_length, stft_win_length, stft_normalized, stft_window_fn)
        self.set_loss(multi_stft_resolution_loss_weight, multi_stft_resolutions_window_sizes,
                      lambda size: multi_stft_hop_size, multi_stft_normalized, multi_stft_window_fn)
        rotary, self.ways = [RotaryEmbedding(dim_head) for _ in range(2)], (along_time, along_bands)
        make = lambda layers, embed, mix: Transformer(
            dim, layers, lambda: Attention(dim, heads, dim_head, attn_dropout, embed, flash_attn,
                                           mix),
            ff_dropout, norm_output=False, streams=num_residual_streams,
            iterations=mc_hyper_conn_sinkhorn_iters)
        self.layers = nn.ModuleList(
            nn.ModuleList([make(time_transformer_depth, rotary[0], number > 0),
                           make(freq_transformer_depth, rotary[1], number > 0)])
            for number in range(depth))
        self.final_norm = RMSNorm(dim)
        numbers = tuple(2 * width * self.audio_channels for width in freqs_per_bands)
        self.band_split = BandSplit(dim, numbers)
        self.mask_estimators = nn.ModuleList(
            MaskEstimator(dim, numbers, mask_estimator_depth) for _ in range(num_stems))

# %% [markdown]
# It does what the plain one does:

# %%
torch.manual_seed(0)
tiny = BSRoformer(16, depth=1, freqs_per_bands=(5, 10, 20, 30), dim_head=8, heads=2,
                  num_residual_streams=1, stft_n_fft=128, stft_hop_length=32,
                  stft_win_length=128).eval()
sound = 0.3 * torch.randn(1, 1, 640, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(tiny(sound), plain_roformer(tiny, sound), atol=1e-6)
    assert not tiny(torch.zeros(1, 1, 640)).any()

# %% [markdown]
# **And what the package does.** `tests/references/band_split.py` keeps what version 1.2.4 of `BS-RoFormer` gives for weights and sounds that a seed determines: outputs, what layers gave, losses and gradients, for several settings. `tests/test_band_split.py` compares all of them. The first of them here:

# %%
def references():
    """The package's answers, or None where the course is installed without its tests."""
    from course_lib.paths import repository_root
    root = repository_root()
    return None if root is None else np.load(root / "tests/references/band_split.npz")

def filled(module, seed):
    """Every tensor from NumPy's old generator, as in tests/references/band_split.py."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, tensor in sorted(module.state_dict().items()):
            if not name.endswith("freqs"):
                fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
                tensor.copy_(torch.as_tensor(random.randn(*tensor.shape) / fan_in ** 0.5))
    return module.eval()

# %%
found, answers = None, references()
if answers is not None:
    same_sizes = BSRoformer(16, depth=2, freqs_per_bands=(5, 10, 20, 30), dim_head=8, heads=2,
                            num_residual_streams=1, stft_n_fft=128, stft_hop_length=32,
                            stft_win_length=128)
    audio = torch.from_numpy(0.2 * np.random.RandomState(0).randn(2, 1, 320)).float()
    with torch.no_grad():
        found = filled(same_sizes, 0)(audio)
    theirs = torch.from_numpy(answers["plain output"])
    error = float((found - theirs).abs().max() / theirs.abs().max())
    print("equal to the package to 1e-5:", error < 1e-5)
    assert error < 1e-5

# %% [markdown]
# The published size of the paper, 12 pairs of dim 384, isn't a laptop's. On the meta device its weights can be counted without being made:

# %%
with torch.device("meta"):
    large = BSRoformer(384, depth=12, stereo=True, time_transformer_depth=1,
                       freq_transformer_depth=1, num_residual_streams=1)
parts = {"band split": large.band_split, "transformers": large.layers,
         "mask estimator": large.mask_estimators}
show_table([[name, count(part) / 1e6] for name, part in parts.items()] +
           [["all", count(large) / 1e6]], ["part", "million weights"], digits=1,
           caption="The package's default split, dim 384, 12 pairs of one layer each, one stem.")
assert count(large.mask_estimators) > count(large.band_split)

# %% [markdown]
# ## 18.9 Mel bands
#
# The split by hand has edges, and a partial that glides across one changes its band, its weights, its token. Mel-Band RoFormer takes bands of the mel scale (section 1.9), which **overlap**: each bin lies in two of them, nearly everywhere. Bands are only *which* bins; the triangles' heights aren't used:

# %%
#| export
def mel_bands(rate: int, n_fft: int, bands: int) -> Tensor:
    """Which bins belong to which of `bands` overlapping mel bands: (band, bin), True or False.

    A bin is in a band where the triangle of the mel filter bank is above 0; the first and the last
    bin, where all triangles are 0, belong to the first and the last band if their neighbours do.
    ValueError where a bin is in no band. Source: Wang et al. 2023, section 2; section 18.9.
    """
    weights = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands))
    inside = weights > 0
    inside[0, 0], inside[-1, -1] = inside[0, 1], inside[-1, -2]
    if not inside.any(0).all():
        raise ValueError(f"{bands} mel bands of n_fft {n_fft} leave bins without a band; expected "
                         "fewer bands or a larger n_fft")
    return inside

# %% [markdown]
# As many bands as before. Each row is a band:

# %%
mel = mel_bands(rate, n_fft, len(musical))
shown = torch.zeros(len(musical), n_fft // 2 + 1)
for band, (begin, end) in enumerate(edges_of(musical)):
    shown[band, begin:end] = 1
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
for axis, (name, table) in zip(axes, (("musical", shown), ("mel", mel.float()))):
    axis.imshow(table, aspect="auto", origin="lower", cmap="Blues", vmax=1.4, interpolation="none",
                extent=(0, rate / 2000, 0, len(musical)))
    axis.set(xlabel="frequency, kHz", title=name)
axes[0].set_ylabel("band")
show(figure, "Which bins belong to which band.", "Two stairs of blue steps that get wider to the "
     "right; on the right one the steps overlap.")
twice = float((mel.sum(0) == 2).float().mean())
print(f"in two bands: {twice:.0%} of the bins; numbers to split: {int(mel.sum())} bins against "
      f"{mel.shape[1]}")
assert int(mel.sum(0).max()) == 2 and twice > 0.8

# %% [markdown]
# On the way in a bin is given to all bands that hold it. On the way out each of these bands has a mask for it, and the **mean** counts:
#
# $$ M[f, m] = \frac{1}{\lvert\{k : f \in \text{band } k\}\rvert} \sum_{k :\, f \in \text{band } k} \hat M_k[f, m]. \tag{18.6} $$
#
# Two bands that share their middle bin, by loops and by one `index_add`:

# %%
which = torch.tensor([[True, True, False], [False, True, True]])     # (band, bin)
masks = torch.tensor([1.0, 0.2, 0.6, 0.0])                           # band after band
places = which.nonzero()[:, 1]                                       # the bin of each number
looped = [sum(m for m, place in zip(masks.tolist(), places.tolist()) if place == f) /
          int(which[:, f].sum()) for f in range(3)]
at_once = torch.zeros(3).index_add(0, places, masks) / which.sum(0)
print([round(value, 2) for value in looped])
assert torch.allclose(at_once, torch.tensor(looped)) and abs(looped[1] - 0.4) < 1e-6

# %% [markdown]
# The package adds, in front of each pair, a layer of attention over *all* tokens that costs little: **linear attention**. Queries and keys change their roles with their entries: not positions weigh positions, but the $d$ entries of a head weigh each other, a table of $d \times d$ whatever the length:

# %%
#| export
class LinearAttention(nn.Module):
    """Attention between the entries of a head instead of between positions: its cost grows with
    the number of positions only linearly. (batch, position, dim) to the same, and the values
    (batch, head, dim_head, position). Source: El-Nouby et al. 2021; section 18.9.
    """

    def __init__(self, dim: int, dim_head: int = 32, heads: int = 8, scale: float = 8,
                 flash: bool = False, dropout: float = 0.0, add_value_residual: bool = False):
        super().__init__()
        self.heads, self.scale, self.flash, self.dropout = heads, scale, flash, dropout
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Sequential(nn.Linear(dim, 3 * heads * dim_head, bias=False))
        self.temperature = nn.Parameter(torch.zeros(heads, 1, 1))
        mix = nn.Sequential(nn.Linear(dim, heads)) if add_value_residual else None
        self.learned_value_residual_mix = mix
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(heads * dim_head, dim, bias=False))

    def forward(self, x: Tensor, first: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        qkv = self.to_qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, own = qkv.permute(2, 0, 3, 4, 1)                       # (batch, head, d, position)
        v = own
        if self.learned_value_residual_mix is not None:
            share = self.learned_value_residual_mix(x).sigmoid().mT.unsqueeze(2)
            v = torch.lerp(own, first, share)
        q, k = F.normalize(q, dim=-1) * self.temperature.exp(), F.normalize(k, dim=-1)
        y = attend(q, k, v, self.dropout if self.training else 0.0, self.flash, self.scale)
        return self.to_out(y.flatten(1, 2).mT), own

# %% [markdown]
# It has no idea of order: shuffled tokens give the same answers, shuffled.

# %%
torch.manual_seed(0)
linear, x = LinearAttention(8, 4, 2), torch.randn(1, 7, 8)
order = torch.randperm(7, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(linear(x)[0][:, order], linear(x[:, order])[0], atol=1e-5)

# %% [markdown]
# The mel network of the package differs from the other in small things, which equal output demands. Its transformers end with a norm of their own; one more linear layer stands in each mask network than its argument says; and its value residual swaps two arguments: it computes $v + v_1 (s - v)$ where the other computes $v + s\, (v_1 - v)$, with $s$ the share and $v_1$ the first layer's values.

# %%
#| export
class MelAttention(Attention):
    """`Attention` with the value residual of the package's mel network, under its name there."""

    def add_value_mix(self, dim: int, heads: int, wanted: bool) -> None:
        self.learned_value_residual_mix = nn.Sequential(nn.Linear(dim, heads)) if wanted else None

    def mixed(self, x: Tensor, v: Tensor, first: Tensor | None) -> Tensor:
        if self.learned_value_residual_mix is None:
            return v
        share = self.learned_value_residual_mix(x).sigmoid().mT.unsqueeze(-1)
        return torch.lerp(v, share.expand_as(v), first)          # the package's order of arguments

# %% [markdown]
# How it makes its layers, and the way into the bands and out of them (eq. 18.6):

# %%
#| export
class MelBands(BandRoformer):
    """The layers of Mel-Band RoFormer, and its bands that overlap. Section 18.9."""

    def add_layers(self, kinds: Sequence[tuple[int, Callable]], depth: int, dim: int,
                   ff_dropout: float, add_value_residual: bool) -> None:
        self.ways, self.final_norm = (along_both, along_time, along_bands), nn.Identity()
        make = lambda layers, attention, mix: Transformer(
            dim, layers, lambda: attention(mix), ff_dropout, streams=self.streams)
        self.layers = nn.ModuleList(
            nn.ModuleList([make(layers, attention, add_value_residual and number > 0)
                           if layers else None for layers, attention in kinds])
            for number in range(depth))

    def add_bands(self, dim: int, bands: Tensor, mask_estimator_depth: int) -> None:
        rows = bands.nonzero()[:, 1, None] * self.audio_channels + torch.arange(self.audio_channels)
        self.register_buffer("freq_indices", rows.flatten(), persistent=False)
        counts = bands.sum(0).repeat_interleave(self.audio_channels)
        self.register_buffer("num_bands_per_freq", counts, persistent=False)
        numbers = tuple(2 * width * self.audio_channels for width in bands.sum(1).tolist())
        self.band_split = BandSplit(dim, numbers)
        self.mask_estimators = nn.ModuleList(
            MaskEstimator(dim, numbers, mask_estimator_depth + 1) for _ in range(self.num_stems))

    def banded(self, X: Tensor) -> Tensor:
        return X[:, self.freq_indices]

    def unbanded(self, M: Tensor, rows: int) -> Tensor:
        total = M.new_zeros(*M.shape[:2], rows, M.shape[-1]).index_add(2, self.freq_indices, M)
        return total / self.num_bands_per_freq[:, None]

# %% [markdown]
# The network:

# %%
#| export
class MelBandRoformer(MelBands):
    """`BSRoformer` on overlapping mel bands: a bin's mask is the mean over its bands (eq. 18.6).

    num_bands: of `mel_bands` at sample_rate. linear_transformer_depth: layers of linear attention
    over all tokens before each pair, 0 for none. match_input_audio_length: don't cut to whole
    hops. Arguments, defaults and tensor names as in the package BS-RoFormer 1.2; use_pope and
    num_residual_fracs are refused. Source: Wang, Lu and Won 2023; section 18.9.
    """

    def __init__(self, dim: int, *, depth: int, stereo: bool = False, num_stems: int = 1,
                 time_transformer_depth: int = 2, freq_transformer_depth: int = 2,
                 linear_transformer_depth: int = 1, num_bands: int = 60, dim_head: int = 64,
                 heads: int = 8, attn_dropout: float = 0.1, ff_dropout: float = 0.1,
                 flash_attn: bool = True, linear_flash_attn: bool | None = None,
                 dim_freqs_in: int = 1025, sample_rate: int = 44_100, stft_n_fft: int = 2048,
                 stft_hop_length: int = 512, stft_win_length: int = 2048,
                 stft_normalized: bool = False, stft_window_fn: Callable | None = None,
                 zero_dc: bool = False, mask_estimator_depth: int = 1,
                 multi_stft_resolution_loss_weight: float = 1.0,
                 multi_stft_resolutions_window_sizes: tuple[int, ...] = STFT_WINDOWS,
                 multi_stft_hop_size: int = 147, multi_stft_normalized: bool = False,
                 multi_stft_window_fn: Callable = torch.hann_window,
                 match_input_audio_length: bool = False, add_value_residual: bool = True,
                 num_residual_streams: int = 4, num_residual_fracs: int = 1,
                 use_pope: bool = False):
        super().__init__()
        self.set_up(stereo, num_stems, num_residual_streams, (0, stft_n_fft // 2 + 1), zero_dc,
                    use_pope, num_residual_fracs)
        self.match_input_audio_length = match_input_audio_length
        self.set_stft(stft_n_fft, stft_hop_length, stft_win_length, stft_normalized, stft_window_fn)
        self.set_loss(multi_stft_resolution_loss_weight, multi_stft_resolutions_window_sizes,
                      lambda size: max(multi_stft_hop_size, size // 4), multi_stft_normalized,
                      multi_stft_window_fn)
        rotary = [RotaryEmbedding(dim_head) for _ in range(2)]
        linear_flash = flash_attn if linear_flash_attn is None else linear_flash_attn
        softmax = lambda embed: lambda mix: MelAttention(dim, heads, dim_head, attn_dropout, embed,
                                                         flash_attn, mix)
        linear = lambda mix: LinearAttention(dim, dim_head, heads, flash=linear_flash,
                                             dropout=attn_dropout, add_value_residual=mix)
        self.add_layers([(linear_transformer_depth, linear),
                         (time_transformer_depth, softmax(rotary[0])),
                         (freq_transformer_depth, softmax(rotary[1]))],
                        depth, dim, ff_dropout, add_value_residual)
        self.add_bands(dim, mel_bands(sample_rate, stft_n_fft, num_bands), mask_estimator_depth)

# %% [markdown]
# If all bands say 1 for all their bins, the mean is 1 and the mixture comes back:

# %%
torch.manual_seed(0)
tiny_mel = MelBandRoformer(16, depth=1, num_bands=8, dim_head=8, heads=2, sample_rate=8000,
                           stft_n_fft=128, stft_hop_length=32, stft_win_length=128).eval()
ones = torch.ones(1, 1, len(tiny_mel.freq_indices), 21, dtype=torch.complex64)
with torch.no_grad():
    assert torch.allclose(tiny_mel.unbanded(ones, 65), torch.ones(1, 1, 65, 21) + 0j)
    assert tiny_mel(sound).shape == (1, 1, 640)

# %% [markdown]
# ## 18.10 Sparse compression
#
# SCNet (2024) asks another question: if high bands hold so little, why spend as many numbers on them? It is a U-Net over *frequency* only, in three subbands: the low one keeps its resolution, the middle one is squeezed by 4 and the high one by 16, in each of three layers.

# %%
#| export
def subbands(bins: int, shares: Sequence[float]) -> list[int]:
    """Bins of the low, the middle and the high subband; shares: of the three. Section 18.10."""
    low, middle = math.ceil(bins * shares[0]), math.ceil(bins * (shares[0] + shares[1]))
    return [low, middle - low, bins - middle]

# %% [markdown]
# In the published network, from 2049 bins:

# %%
shares, strides = (0.175, 0.392, 0.433), (1, 4, 16)
rows, bins = [], 2049
for layer in range(4):
    lengths = subbands(bins, shares)
    rows.append([layer, bins, *lengths])
    bins = sum(-(-length // stride) for length, stride in zip(lengths, strides))
show_table(rows, ["after layers", "rows", "low", "middle", "high"],
           caption="Rows of frequency, cut into subbands anew by each layer.")
low_hz = subbands(2049, shares)[0] * 44_100 / 4096
print(f"the low subband ends at {low_hz / 1000:.1f} kHz; {2049 / rows[-1][1]:.0f} times fewer rows")
assert rows[1][2] / rows[1][1] < 0.2 and rows[-1][1] < 2049 / 10

# %% [markdown]
# Look at the second line: the shares are taken of the *compressed* rows again, so what is "low" for the second layer is the lowest 17.5% of what the first left, and so on: the cut moves down with every layer. Only the lowest bins are kept whole to the end.
#
# A subband is squeezed by a convolution along frequency with a stride; as wide as its stride it cuts the band into blocks, so that no bin is in two of them. By hand, with weights that take means:

# %%
band = torch.tensor([1.0, 3, 5, 7, 2, 2, 2, 2]).view(1, 1, 8, 1)     # (batch, channel, bin, frame)
means = F.conv2d(band, torch.full((1, 1, 4, 1), 0.25), stride=(4, 1))
print(means.flatten().tolist())
assert means.flatten().tolist() == [4.0, 2.0]

# %% [markdown]
# Three of them side by side, with zeros where a band isn't a whole number of strides:

# %%
#| export
class SDlayer(nn.Module):
    """Sparse downsampling: each subband of x (batch, channel, bin, frame) by its own stride.

    Gives the three compressed subbands, and how many bins each had. Arguments: `SCNet`. Source:
    Tong et al. 2024, section 2.2; section 18.10.
    """

    def __init__(self, channels_in: int, channels_out: int, shares: Sequence[float],
                 strides: Sequence[int], kernels: Sequence[int]):
        super().__init__()
        self.shares, self.strides, self.kernels = shares, strides, kernels
        self.convs = nn.ModuleList(nn.Conv2d(channels_in, channels_out, (kernel, 1), (stride, 1))
                                   for kernel, stride in zip(kernels, strides))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[int]]:
        lengths, found = subbands(x.shape[2], self.shares), []
        for conv, band, stride, kernel in zip(self.convs, x.split(lengths, dim=2), self.strides,
                                              self.kernels):
            margin = kernel - 1 if stride == 1 else -band.shape[2] % stride
            found.append(conv(F.pad(band, (0, 0, margin // 2, margin - margin // 2))))
        return found, lengths

# %% [markdown]
# The way back is a transposed convolution for each subband, of which as much is kept as the band had:

# %%
#| export
class SUlayer(nn.Module):
    """Sparse upsampling, the way back of `SDlayer`: x (batch, channel, row, frame) to all bins.

    lengths: rows of each subband in x. original: bins that each of them becomes. Section 18.10.
    """

    def __init__(self, channels_in: int, channels_out: int, strides: Sequence[int],
                 kernels: Sequence[int]):
        super().__init__()
        self.convtrs = nn.ModuleList(
            nn.ConvTranspose2d(channels_in, channels_out, (kernel, 1), (stride, 1))
            for kernel, stride in zip(kernels, strides))

    def forward(self, x: Tensor, lengths: list[int], original: list[int]) -> Tensor:
        found = []
        for convtr, band, bins in zip(self.convtrs, x.split(lengths, dim=2), original):
            y = convtr(band)
            begin = (y.shape[2] - bins) // 2
            found.append(y[:, :, begin:begin + bins])
        return torch.cat(found, dim=2)

# %% [markdown]
# Down and up gives as many bins as there were, in any number:

# %%
kernels = (3, 4, 16)
down, up = SDlayer(2, 5, shares, strides, kernels), SUlayer(5, 2, strides, kernels)
for bins in (65, 100, 513):
    with torch.no_grad():
        bands, original = down(torch.randn(1, 2, bins, 3))
        lengths = [band.shape[2] for band in bands]
        assert up(torch.cat(bands, dim=2), lengths, original).shape == (1, 2, bins, 3)
print(f"513 bins as {original}, compressed to {lengths}")

# %% [markdown]
# Within a subband, layers over *time* follow: three in the low one, two, and one, for more happens where more is left. Each is a small residual branch, with fewer channels inside, a gate, and a convolution that treats each channel alone (depthwise):

# %%
#| export
class ConvolutionModule(nn.Module):
    """Layers over time that add to x (row, channel, frame): fewer channels, a gate, a convolution
    of each channel alone, and back. Source: Tong et al. 2024, section 2.2; section 18.10.
    """

    def __init__(self, channels: int, depth: int = 2, compress: float = 4, kernel: int = 3):
        super().__init__()
        hidden, margin = int(channels / compress), kernel // 2
        self.layers = nn.ModuleList(nn.Sequential(
            nn.GroupNorm(1, channels), nn.Conv1d(channels, 2 * hidden, kernel, padding=margin),
            nn.GLU(1), nn.Conv1d(hidden, hidden, kernel, padding=margin, groups=hidden),
            nn.GroupNorm(1, hidden), nn.SiLU(), nn.Conv1d(hidden, channels, 1))
            for _ in range(abs(depth)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x

# %% [markdown]
# A layer of the encoder puts it together, and a convolution over all rows lets the subbands hear each other where they meet. The decoder's layers begin with a **fusion** of what comes from below and what the encoder kept:

# %%
#| export
class SDblock(nn.Module):
    """A layer of the encoder; depths: of each subband's `ConvolutionModule`. Gives (output, skip,
    rows of each subband, bins that each had). Section 18.10."""

    def __init__(self, channels_in: int, channels_out: int, shares: Sequence[float],
                 strides: Sequence[int], kernels: Sequence[int], conv_config: dict,
                 depths: Sequence[int] = (3, 2, 1), kernel_size: int = 3):
        super().__init__()
        self.SDlayer = SDlayer(channels_in, channels_out, shares, strides, kernels)
        self.conv_modules = nn.ModuleList(ConvolutionModule(channels_out, depth, **conv_config)
                                          for depth in depths)
        self.globalconv = nn.Conv2d(channels_out, channels_out, kernel_size, 1,
                                    (kernel_size - 1) // 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
        bands, original = self.SDlayer(x)
        done = []
        for module, band in zip(self.conv_modules, bands):
            rows = module(band.transpose(1, 2).flatten(0, 1))        # (batch * row, channel, frame)
            done.append(F.gelu(rows.unflatten(0, (len(x), -1)).transpose(1, 2)))
        skip = torch.cat(done, dim=2)
        return self.globalconv(skip), skip, [band.shape[2] for band in bands], original

# %% [markdown]
# The fusion:

# %%
#| export
class FusionLayer(nn.Module):
    """Joins the decoder's input with the encoder's skip: sum, doubled, a convolution, a GLU."""

    def __init__(self, channels: int, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return F.glu(self.conv((x + skip).repeat(1, 2, 1, 1)), dim=1)

# %% [markdown]
# ## 18.11 Two paths, and a Fourier transform over time
#
# Between encoder and decoder SCNet does what section 18.4 did, with LSTMs: along rows of frequency, then along frames. New is what it does *between* two such layers: a Fourier transform of every row over time. Half the frames are left, real and imaginary part are twice as many channels, and the next layer's "steps of time" are frequencies: how often something comes back. The next
# transform undoes it.

# %%
#| export
class DualPathRNN(nn.Module):
    """An LSTM over rows of frequency in every frame, then one over frames in every row, both in
    both directions: x (batch, channel, row, frame) to the same.

    Source: Luo et al. 2020 (dual path); Tong et al. 2024, section 2.3; section 18.11.
    """

    def __init__(self, d_model: int, expand: int = 1):
        super().__init__()
        hidden = d_model * expand
        self.lstm_layers = nn.ModuleList(
            nn.LSTM(d_model, hidden, bidirectional=True, batch_first=True) for _ in range(2))
        self.linear_layers = nn.ModuleList(nn.Linear(2 * hidden, d_model) for _ in range(2))
        self.norm_layers = nn.ModuleList(nn.GroupNorm(1, d_model) for _ in range(2))

    def path(self, number: int, rows: Tensor) -> Tensor:
        """One of the two ways: rows (sequence, step, channel) to the same."""
        return self.linear_layers[number](self.lstm_layers[number](rows)[0])

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        rows = self.norm_layers[0](x).permute(0, 3, 2, 1).flatten(0, 1)  # (b * frame, row, channel)
        x = x + self.path(0, rows).unflatten(0, (batch, -1)).permute(0, 3, 2, 1)
        rows = self.norm_layers[1](x).permute(0, 2, 3, 1).flatten(0, 1)  # (b * row, frame, channel)
        return x + self.path(1, rows).unflatten(0, (batch, -1)).permute(0, 3, 1, 2)

# %% [markdown]
# The layers, with the transform between them:

# %%
#| export
class SeparationNet(nn.Module):
    """`DualPathRNN`s, by turns over frames and over the frequencies of these frames' Fourier
    transform, in which real and imaginary parts are twice as many channels.

    forward: (batch, channel, row, frame); an even number of layers and of frames. Section 18.11.
    """

    def __init__(self, channels: int, expand: int = 1, num_layers: int = 6):
        super().__init__()
        self.dp_modules = nn.ModuleList(DualPathRNN(channels * (1 + number % 2), expand)
                                        for number in range(num_layers))

    def forward(self, x: Tensor) -> Tensor:
        for number, module in enumerate(self.dp_modules):
            x = module(x)
            if number % 2 == 0:
                Z = torch.fft.rfft(x.float(), norm="ortho")
                x = torch.cat([Z.real, Z.imag], dim=1)
            else:
                real, imaginary = x.float().chunk(2, dim=1)
                x = torch.fft.irfft(torch.complex(real, imaginary), norm="ortho")
        return x

# %% [markdown]
# Why it might help: what is regular in time, a beat for example, is one number there. Sixteen frames with a beat in every fourth; almost all the energy is in three of nine frequencies:

# %%
beat = torch.zeros(16)
beat[::4] = 1.0
power = torch.fft.rfft(beat, norm="ortho").abs().square()
print([round(value, 1) for value in power.tolist()])
assert float(power[[0, 4, 8]].sum() / power.sum()) > 0.999

# %% [markdown]
# If the layers do nothing, transform and inverse give back what went in. That is also the reason for an *even* number of frames:

# %%
net = SeparationNet(4, num_layers=2)
net.dp_modules = nn.ModuleList([nn.Identity(), nn.Identity()])
for frames in (6, 7):
    x = torch.randn(1, 4, 3, frames, generator=P.generator)
    print(f"{frames} frames in, {net(x).shape[-1]} out")
assert torch.allclose(net(x[..., :6]), x[..., :6], atol=1e-5)

# %% [markdown]
# ## 18.12 SCNet
#
# All together; no mask: the network gives the stems' spectra themselves (**mapping**). So its input is standardised as a whole, not band by band, and its output gets the level back.

# %%
d = Diagram()
mix_in = d.block("mixture", "2 x 485100", kind="data")
X_in = d.block("STFT", "4 x 2049 x 476", after=mix_in)
enc = d.block("sparse\nencoder", "128 x 57 x 476", after=X_in, kind="trained", repeat=3)
sep = d.block("dual path", "128 x 57 x 476", after=enc, kind="trained", repeat=6)
dec = d.block("sparse\ndecoder", "16 x 2049 x 476", after=sep, kind="trained", repeat=3)
out = d.block("inverse\nSTFT", "8 x 485100", after=dec, kind="data")
d.arrow(enc, dec, "skips", route="over", reach=0.4)
show(d.draw(), "SCNet, for 11 s of stereo at 44.1 kHz: channels x rows x frames. The layers make "
     "32 x 616 and 64 x 186 rows in between.", d.in_words())

# %% [markdown]
# Do the numbers in the drawing agree with section 18.10's table? They come from it:

# %%
lengths, bins = [], 2049
for _ in range(3):
    bins = sum(-(-length // stride) for length, stride in zip(subbands(bins, shares), strides))
    lengths.append(bins)
print("rows after the three layers:", lengths)
assert lengths == [616, 186, 57]

# %% [markdown]
# Both ends first: an even number of frames, the level taken away and given back. (The official code gives the STFT no window, so it is a rectangular one; we do the same, or the weights would mean something else.)

# %%
#| export
class SpectrumMapping(nn.Module):
    """Audio to standardised spectrum, and spectra of the sources back to audio. The subclass has
    `stft_config`, `hop_length`, `audio_channels`, `sources` and `mapped`. Section 18.12.
    """

    def padding(self, length: int) -> int:
        """How many zeros follow the audio, at least one, so that the frames are an even number."""
        hops = max(length, self.stft_config["n_fft"] // 2) // self.hop_length + 1
        return (hops + 1 - hops % 2) * self.hop_length - length

    def spectra(self, y: Tensor, X: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        """Complex spectra (batch, source, channel, bin, frame) from what the network gave."""
        y = (y * deviation + mean).unflatten(1, (len(self.sources), self.audio_channels, 2))
        return torch.view_as_complex(y.movedim(3, -1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        check_mixture(x, self.audio_channels)
        batch, _, length = x.shape
        x = F.pad(x, (0, self.padding(length)))
        window = x.new_ones(self.stft_config["win_length"])
        X = torch.stft(x.flatten(0, 1), **self.stft_config, window=window, return_complex=True)
        X = X.unflatten(0, (batch, -1))                              # (batch, channel, bin, frame)
        parts = torch.view_as_real(X).movedim(-1, 2).flatten(1, 2)   # (batch, 2 * channel, bin, m)
        mean = parts.mean((1, 2, 3), keepdim=True)
        deviation = parts.std((1, 2, 3), keepdim=True)
        S = self.spectra(self.mapped((parts - mean) / (1e-5 + deviation)), X, mean, deviation)
        y = torch.istft(S.flatten(0, 2), **self.stft_config, window=window, length=x.shape[-1])
        return y.unflatten(0, S.shape[:3])[..., :length]

# %% [markdown]
# The class, with the official arguments:

# %%
#| export
class SCNet(SpectrumMapping):
    """Sparse Compression Network: audio (batch, channel, time) to (batch, source, channel, time).

    dims: channels of the spectrum (2 for each of audio_channels) and of every layer. band_SR,
    band_stride, band_kernel: share of the bins, stride and kernel of the three subbands.
    conv_depths, compress, conv_kernel: of the `ConvolutionModule`s. num_dplayer, expand: layers of
    the dual path, an even number, and how much wider their LSTMs are. Arguments, defaults and
    tensor names as in the official code. ValueError for audio of another shape, and for dims that
    don't begin with the spectrum's channels. Source: Tong et al. 2024; section 18.12.
    """

    def __init__(self, sources: Sequence[str] = STEMS, audio_channels: int = 2,
                 dims: Sequence[int] = (4, 32, 64, 128), nfft: int = 4096, hop_size: int = 1024,
                 win_size: int = 4096, normalized: bool = True,
                 band_SR: Sequence[float] = (0.175, 0.392, 0.433),
                 band_stride: Sequence[int] = (1, 4, 16), band_kernel: Sequence[int] = (3, 4, 16),
                 conv_depths: Sequence[int] = (3, 2, 1), compress: float = 4, conv_kernel: int = 3,
                 num_dplayer: int = 6, expand: int = 1):
        super().__init__()
        if dims[0] != 2 * audio_channels or num_dplayer % 2:
            raise ValueError(f"dims begins with {dims[0]}, num_dplayer is {num_dplayer}; expected "
                             f"{2 * audio_channels}, real and imaginary parts of {audio_channels} "
                             "channels, and an even number")
        self.sources, self.audio_channels, self.dims = tuple(sources), audio_channels, tuple(dims)
        self.hop_length = hop_size
        self.stft_config = dict(n_fft=nfft, hop_length=hop_size, win_length=win_size, center=True,
                                normalized=normalized)
        bands = dict(strides=band_stride, kernels=band_kernel)
        conv_config = dict(compress=compress, kernel=conv_kernel)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for number, (outer, inner) in enumerate(zip(dims, dims[1:])):
            self.encoder.append(SDblock(outer, inner, band_SR, conv_config=conv_config,
                                        depths=conv_depths, **bands))
            outputs = outer * len(self.sources) if number == 0 else outer
            self.decoder.insert(0, nn.Sequential(FusionLayer(inner),
                                                 SUlayer(inner, outputs, **bands)))
        self.separation_net = SeparationNet(dims[-1], expand, num_dplayer)

    def mapped(self, x: Tensor) -> Tensor:
        """The network itself: a standardised spectrum (batch, 2 * channel, bin, frame) to the
        sources' (batch, 2 * source * channel, bin, frame)."""
        kept = []
        for layer in self.encoder:
            x, *rest = layer(x)
            kept.append(rest)
        x = self.separation_net(x)
        for fusion, up in self.decoder:
            skip, lengths, original = kept.pop()
            x = up(fusion(x, skip), lengths, original)
        return x

# %% [markdown]
# Any length comes back as long as it was. `tests/references/band_split.npz` holds what the official code gives for a small one, too; and its size can be counted:

# %%
torch.manual_seed(0)
tiny_scnet = SCNet(audio_channels=1, dims=(2, 4, 8, 8), nfft=128, hop_size=32, win_size=128,
                   num_dplayer=2).eval()
with torch.no_grad():
    for length in (1, 100, 641):
        assert tiny_scnet(0.1 * torch.randn(1, 1, length)).shape == (1, 4, 1, length)
    if answers is not None:
        audio = torch.from_numpy(0.2 * np.random.RandomState(0).randn(2, 1, 700)).float()
        found, theirs = filled(tiny_scnet, 0)(audio), torch.from_numpy(answers["scnet output"])
        assert (found - theirs).abs().max() < 1e-5 * theirs.abs().max()

# %% [markdown]
# The published size:

# %%
paper_sizes = {row["model"]: row for row in published("band_split_sizes")}
with torch.device("meta"):
    official_scnet = count(SCNet())
print(f"SCNet: {official_scnet:,} weights; the official code has "
      f"{int(paper_sizes['SCNet, official code']['parameters']):,}, the paper says "
      f"{float(paper_sizes['SCNet']['parameters']) / 1e6:.2f} million")
assert official_scnet == int(paper_sizes["SCNet, official code"]["parameters"])

# %% [markdown]
# Equal to the code, and not to the paper's number: between the paper and the release something in it has grown.
#
# **How fast?** The paper's abstract says that SCNet takes 48% of HT Demucs' time on a CPU. `benchmarks/scnet_speed.py` runs both at their published sizes by turns, one thread, the same piece of stereo at 44.1 kHz; seconds are those of the processor:

# %%
speed = {row["what"]: row for row in measured("18_band_split/speed")}
show_table([[name, int(row["parameters"]) / 1e6, float(row["processor_seconds"]),
             float(row["share"])] for name, row in speed.items()],
           ["network", "million weights", "processor seconds", "of HT Demucs"],
           digits={"million weights": 1, "processor seconds": 1, "of HT Demucs": 2},
           caption=f"{float(next(iter(speed.values()))['audio_seconds']):.1f} s of stereo at 44.1 "
                   f"kHz, median of {next(iter(speed.values()))['turns']} turns.")
scnet_share = float(speed["SCNet"]["share"])
package_time = next(float(row["times_faster_processor"]) for row in measured("08_ht_demucs/speed")
                    if (row["what"], row["threads"]) == ("course_lib", "1"))
print(f"SCNet: {scnet_share:.0%} of our HT Demucs' processor time, and about "
      f"{scnet_share / package_time:.0%} of the package's (section 8.11)")
assert scnet_share < 1

# %% [markdown]
# ## 18.13 What has been reported
#
# On MUSDB18-HQ, trained on nothing else where a row doesn't say so, beside what chapter 8 ended with:

# %%
paper_scores = {row["model"]: row for row in published("band_split_scores")}
show_table([[name, *(float(row[stem]) if row[stem] else None for stem in STEMS), float(row["all"])]
            for name, row in paper_scores.items()], ["model", *STEMS, "all"], digits=2,
           caption="SDR in dB, as published; a dash where we have only the mean.")
best = max(paper_scores, key=lambda name: float(paper_scores[name]["all"]))
print(f"the best of these: {best}")

# %% [markdown]
# ## 18.14 In miniature
#
# What is a split worth, what are positions, what is a mask? `course experiment band_split` gives small networks **equal time**: so many seconds of one core to learn in, whatever a step costs. The clock decides when a run ends, and the learning rate falls with the clock. All have the same songs, the same loss (chapter 4's level of the error, of waveforms) and less than a million weights:

# %%
card = measured_card("18_band_split/runs")
used = card["settings"]
results = lambda table: measured(f"18_band_split/{table}")
runs = {(row["variant"], int(row["seed"])): row for row in results("runs")}
missing = [f"{name}, seed {seed}" for seed in experiment.SEEDS for name in experiment.VARIANTS
           if (name, seed) not in runs]
show_table(
    [["seconds of one core", f"{used['cpu_seconds']:g}"],
     ["songs to learn from", f"{used['train_songs']} of {used['song_seconds']:g} s, mono, "
      f"{card['rate_hz']} Hz"],
     ["songs to score on", f"{used['test_songs']}, the middle {used['score_seconds']:g} s"],
     ["RoFormers", f"{used['depth']} pairs, dim {used['dim']}, {used['heads']} heads, STFT "
      f"{used['n_fft']} in hops of {used['hop_length']}"],
     ["bands", f"{len(card['bands']['heuristic'])}, in every split"],
     ["not run", "; ".join(missing) or "nothing"]], ["what", "how much"],
    caption=f"{card['command']}, on {card['machine']}.")
assert all(int(row["parameters"]) <= 1_000_000 for row in runs.values())

# %% [markdown]
# So little time shows what *learns fast*, not what is best in the end. Every run, with its seeds:

# %%
def by_song(variant):
    """SDR of a variant's runs: (seed, song, stem); empty if there is none."""
    tables = [[[float(row[stem]) for stem in STEMS] for row in results("songs")
               if (row["variant"], int(row["seed"])) == (variant, seed)]
              for seed in experiment.SEEDS if (variant, seed) in runs]
    return torch.tensor(tables)

variants = [name for name in experiment.VARIANTS if (name, 0) in runs]
for name in variants:
    print(f"{name}: {experiment.VARIANTS[name].what}")

# %%
def row_of(name):
    """A row of the table: stems, mean, seeds, steps, size."""
    scores = by_song(name)                                           # (seed, song, stem)
    means = scores.nanmean(1).mean(-1)
    rows = [runs[name, seed] for seed in experiment.SEEDS if (name, seed) in runs]
    apart = float(means.max() - means.min()) if len(means) > 1 else None
    return [name, *scores.nanmean(1).mean(0).tolist(), float(means.mean()), len(rows), apart,
            int(np.mean([int(row["steps"]) for row in rows])), int(rows[0]["parameters"]) / 1e6]

bounds = {}
for row in results("bounds"):
    bounds.setdefault(row["method"], []).append([float(row[stem]) for stem in STEMS])
bounds = {method: torch.tensor(table) for method, table in bounds.items()}
columns = ["run", *STEMS, "mean", "seeds", "seeds apart", "steps", "million weights"]
show_table([*map(row_of, variants)] +
           [[method, *bounds[method].nanmean(0).tolist(), float(bounds[method].nanmean(0).mean()),
             None, None, None, None]
            for method in ("mixture / 4", experiment.EQUALISER, "ideal ratio mask")],
           columns, digits={**dict.fromkeys([*STEMS, "mean"], 1), "seeds apart": 2,
                            "million weights": 2},
           caption=f"SDR in dB, {used['test_songs']} songs, means over seeds.")

# %% [markdown]
# Who is ahead? A lead counts only if the interval of the paired difference over songs excludes zero, every seed agrees, and it exceeds what two seeds of either are apart. First the differences:

# %%
def lead(one, other):
    """Differences (seed, song) of the seeds that both have, and how far two seeds are apart."""
    both = [seed for seed in experiment.SEEDS if (one, seed) in runs and (other, seed) in runs]
    pick = lambda name: torch.stack([by_song(name)[i] for i, seed in enumerate(
        s for s in experiment.SEEDS if (name, s) in runs) if seed in both]).nanmean(-1)
    if not both:
        return torch.zeros(0, 0), 0.0
    means = [by_song(name).nanmean(1).mean(-1) for name in (one, other)]
    return pick(one) - pick(other), max(float(mean.max() - mean.min()) for mean in means)

# %% [markdown]
# In words, and against BS-RoFormer:

# %%
def told_apart(one, other):
    """Which of two variants is ahead, in words."""
    differences, apart = lead(one, other)
    if len(differences) < 2:
        return "one seed, so it can't be told"
    for first, sign in ((one, 1), (other, -1)):
        ahead = sign * differences
        if same_trend(ahead) == SAME_TREND and float(ahead.mean()) > apart:
            return f"{first} ahead"
    return "not told apart"

base = "BS-RoFormer"
for name in variants:
    if name != base:
        print(f"{name} less {base}: {difference_in_words(lead(name, base)[0])}; "
              f"{told_apart(name, base)}")

# %% [markdown]
# The losses on the way, over steps; each curve ends when its time is up:

# %%
families = [name for name in experiment.FAMILIES if name in variants]
logs = {name: np.array([(int(row["step"]), float(row["loss"])) for row in results("logs")
                        if (row["variant"], row["seed"]) == (name, "0")]).T for name in families}
axis = plot_losses({name: tuple(log) for name, log in logs.items()}, smoothing=20,
                   log_loss=False)
axis.set(ylabel="loss, dB")
show(axis, "The error's level against the mixture while learning, smoothed; seed 0.",
     "Restless falling curves of unequal length, one for each kind of network.")
longest = max(families, key=lambda name: logs[name][0][-1])
print(f"most steps in equal time: {longest}")

# %% [markdown]
# Open-Unmix is no band-split network, and in so short a time it is far ahead. Its steps are the cheapest:

# %%
steps_of = {name: row_of(name)[-2] for name in families}
print({name: f"{steps / steps_of[base]:.1f} times the steps of {base}"
       for name, steps in steps_of.items() if name != base})
assert longest == "Open-Unmix" == max(families, key=lambda name: row_of(name)[5])

# %% [markdown]
# Its LSTM reads one vector a frame where BS-RoFormer reads a token for each band. This is the lesson of section 8.9 once more: where time is short, the plainest network wins, and nothing follows from it for a long training: the published scores of section 18.13 are headed by networks that split bands.
#
# **What have they learned so far?** Beside the runs stands a *fixed equaliser*: for each bin and stem the one gain that is best over all training songs, the same at all times. It hears nothing at all. BS-RoFormer less the equaliser, by stem:

# %%
fixed = bounds[experiment.EQUALISER]
beyond = {name: (by_song(name).mean(0) - fixed).nanmean(0) for name in variants}
print({stem: f"{value:+.1f}" for stem, value in zip(STEMS, beyond[base].tolist())})
past = [name for name in variants if float(beyond[name].mean()) > 0.1]
print("past the equaliser:", ", ".join(past))
assert base not in past and "Mel-RoFormer" not in past and "Open-Unmix" in past

# %% [markdown]
# So the RoFormers, whatever their bands, are on the plateau of the equaliser, or just beneath it: their masks hardly follow the music yet. **That is why the split and the positions make no difference here**: all of them are still learning what needs neither. Only what has left the plateau hears something.
#
# Why does Open-Unmix leave it so soon? A likely reason: it is given *magnitudes*. The others are given real and imaginary parts, and have to find out by themselves that phase doesn't matter. Turn the sign of the recording: it sounds the same, its magnitudes are the same, and every token of section 18.3 is turned into its opposite (but for the constant $c_k$):

# %%
with torch.no_grad():
    constant = splitter(torch.zeros_like(numbers))                   # c_k alone
    flipped = splitter(-numbers)
assert torch.allclose(flipped - constant, -(z - constant), atol=1e-4)
assert torch.allclose((-X).abs(), X.abs())

# %% [markdown]
# And of a band's level, which would tell when the drum is hit, the norm leaves nothing in the token of that band. It takes layers, and steps, to make loudness out of such tokens. With days on many GPUs that is no hindrance.
#
# **The split.** What is gained or lost by stem, in dB, against musical bands:

# %%
for name in ("equal bands", "Mel-RoFormer", "without positions", "mapping"):
    if (name, 0) in runs:
        both = [seed for seed in experiment.SEEDS if (name, seed) in runs and (base, seed) in runs]
        gain = (by_song(name)[:len(both)] - by_song(base)[:len(both)]).nanmean((0, 1))
        print(name, {stem: f"{value:+.1f}" for stem, value in zip(STEMS, gain.tolist())})

# %% [markdown]
# "Mapping" is BS-RoFormer whose numbers are the stems' spectra in units of each band's level, which the norm took away (section 18.3); "SCNet, masks" is SCNet whose numbers multiply the mixture's bins. At the start a network of small weights gives nearly nothing in either way; but a mask that is a constant is already a sensible estimate, and a spectrum that is a constant isn't one. That is a likely reason for whatever masks gain in so short a time, and says nothing about the end of a long training.
#
# **Elsewhere.** The test songs with another soundfont, and readers over recorded music, whose stems are known: real sounds, but not songs. Beside the runs stand the committed networks, which learned for much longer:

# %%
elsewhere = results("elsewhere")
def set_table(name):
    """Method -> SDR (song, stem) on a set."""
    found = {}
    for row in elsewhere:
        if row["set"] == name:
            found.setdefault(row["method"], []).append([float(row[stem]) for stem in STEMS])
    return {method: torch.tensor(songs) for method, songs in found.items()}

sets = {name: set_table(name) for name in dict.fromkeys(row["set"] for row in elsewhere)}
methods = sorted({method for table in sets.values() for method in table},
                 key=lambda method: -float(np.mean([table[method].nanmean(0).nanmean()
                                                    for table in sets.values()])))
mean_of = lambda scores: float(scores.nanmean(0).nanmean())
show_table([[method, mean_of(bounds[method]) if method in bounds else
             float(by_song(method)[0].nanmean(0).mean()),
             *(mean_of(table[method]) for table in sets.values())] for method in methods],
           ["SDR in dB", "band", *sets], digits=1,
           caption="Seed 0 of the runs. Means over songs, then over stems that sound; songs: " +
                   ", ".join(f"{name} {len(next(iter(table.values())))}"
                             for name, table in sets.items()) + ".")

# %% [markdown]
# On the recordings only the two that learned longest are ahead of the mixture itself at a quarter of its level. How long did the committed ones learn?

# %%
cards = {name: read_card(shipped_file(f"checkpoints/{name}.safetensors"))
         for name in experiment.TRAINED.values()}
show_table([[name, card["minutes"], card["steps"], card["parameters"] / 1e6]
            for name, card in cards.items()], ["network", "minutes on the clock", "steps",
                                               "million weights"],
           digits={"minutes on the clock": 0, "million weights": 1},
           caption="Shared machine: a minute on the clock is less than one of a core.")

# %% [markdown]
# ## 18.15 The network that comes with the course
#
# `course train band_split_band` trained a BS-RoFormer as small as the miniature for longer, and on more songs. The command knows a network by its class's name:

# %%
#| export
def network_named(name: str, sources: Sequence[str], arguments: dict) -> nn.Module:
    """A new network of this chapter by its class's name; arguments: its own. ValueError for
    another name. Section 18.15."""
    kinds = {"BSRoformer": BSRoformer, "MelBandRoformer": MelBandRoformer, "SCNet": SCNet}
    if name not in kinds:
        raise ValueError(f"network is {name!r}; expected one of {', '.join(kinds)}")
    stems = {"sources": sources} if name == "SCNet" else {"num_stems": len(sources)}
    return kinds[name](**arguments, **stems)

# %% [markdown]
# A wrapper gives it what chapter 9's `separate` asks of a model: names, rate, any length, and the level of the mixture taken away and given back:

# %%
#| export
class StemNetwork(nn.Module):
    """A network from audio to stems with what chapter 9's `separate` asks of a model.

    network: one of this chapter's, with as many stems as sources; or the name of its class, and
    its arguments. samplerate: Hz. segment: seconds of a chunk. forward: (batch, channel, time) of
    any length to (batch, source, channel, time), equally long; the network hears the mixture at
    deviation 1. ValueError for another name. Section 18.15.
    """

    def __init__(self, network: nn.Module | str, sources: Sequence[str] = STEMS,
                 samplerate: int = 44_100, segment: float = 8.0, **arguments):
        super().__init__()
        self.sources, self.samplerate, self.segment = tuple(sources), samplerate, segment
        named = isinstance(network, str)
        self.network = network_named(network, sources, arguments) if named else network
        self.audio_channels = self.network.audio_channels

    def forward(self, mix: Tensor) -> Tensor:
        check_mixture(mix, self.audio_channels)
        length = mix.shape[-1]
        deviation = mix.std((1, 2), correction=0, keepdim=True).clamp_min(1e-5)
        wanted = getattr(self.network, "valid_length", lambda samples: samples)(length)
        y = self.network(F.pad(mix / deviation, (0, wanted - length)))
        return y[..., :length] * deviation.unsqueeze(1)

# %% [markdown]
# Twice as loud in, twice as loud out, at any length, and silence for silence:

# %%
ours_net = load_trained("band_split_band")
piece = real[None, :, :20_001]
with torch.no_grad():
    quiet, loud = ours_net(piece), ours_net(2 * piece)
    assert torch.allclose(2 * quiet, loud, atol=1e-4) and quiet.shape == (1, 4, 1, 20_001)
    assert not ours_net(torch.zeros(1, 1, 9000)).any()

# %% [markdown]
# Its scores on the band, beside those that learned longer:

# %%
trained_card = cards["band_split_band"]
show_table([[method, *scores.nanmean(0).tolist(), mean_interval(scores.nanmean(1))]
            for method, scores in sorted(bounds.items(), key=lambda item: mean_of(item[1]))],
           ["SDR in dB", *STEMS, "mean of stems"], digits=1,
           caption=f"The middle {used['score_seconds']:g} s of {used['test_songs']} band test "
                   "songs; last column with 95% interval.")
ours = bounds[experiment.BAND_SPLIT]
print(f"less the fixed equaliser: {difference_in_words((ours - fixed).nanmean(1))}")
assert (ours - fixed).nanmean(0)[:2].min() > 0                       # drums and bass
for method in (experiment.TRANSFORMER, experiment.UNMIX):
    print(f"less {method}: {difference_in_words((ours - bounds[method]).nanmean(1))}")

# %% [markdown]
# **Is it the default of `course separate`?** Only if it is better than the present one, Open-Unmix, which hears stereo at 44.1 kHz. Here both are scored at half the rate in mono:

# %%
from course_lib.separating import DEFAULT_MODEL
ahead = (ours - bounds[experiment.UNMIX]).nanmean(1)
better = same_trend(ahead) == SAME_TREND
print(f"better on the band: {'yes' if better else 'no'}; the default of `course separate`: "
      f"{DEFAULT_MODEL}")
assert DEFAULT_MODEL == ("band_split_band" if better else "open_unmix_band")

# %% [markdown]
# It has learned for minutes where the others learned for an hour or three, and its vocals are hardly there. But drums and bass have left the equaliser behind: what the runs of section 18.14 lacked was time. Hear it on a song of the band that it has not learned from:

# %%
song = mono_tracks(lambda: open_tracks("band", "test", count=1), rate, 20.0)[0]
chunk = song.mixture[:, 8 * rate:12 * rate]
listen(chunk, rate, "the mixture")
with torch.no_grad():
    stems = ours_net(chunk[None])[0]                                 # (source, channel, time)
for stem, audio in zip(STEMS, stems):
    listen(audio, rate, f"{stem}, band_split_band")

# %% [markdown]
# And its **masks**, band by band. A mask of one band at a time, all others zero: what each band contributes to the drums' estimate. Again the pieces add up:

# %%
network = ours_net.network
deviation = chunk.std()
with torch.no_grad():
    padded = F.pad(chunk / deviation, (0, network.valid_length(chunk.shape[-1]) - chunk.shape[-1]))
    X_chunk = network.spectrum(padded[None])                         # (1, bin, frame)
    M = network.masks(X_chunk)                                       # (1, stem, bin, frame)

trained_widths = trained_card["config"]["model"]["freqs_per_bands"]

def through(bands, stem):
    """The estimate of a stem by the masks of some bands only: (1, time)."""
    kept, places = torch.zeros(M.shape[2], 1), edges_of(trained_widths)
    for band in bands:
        kept[slice(*places[band])] = 1
    return deviation * network.audio_of(M * kept * X_chunk[:, None])[0, STEMS.index(stem)]

# %%
groups = {"bands 1 to 10, below 1 kHz": range(10), "bands 11 to 22, to 4 kHz": range(10, 22),
          "the others, above": range(22, len(trained_widths))}
parts = {name: through(bands, "drums") for name, bands in groups.items()}
for name, part in parts.items():
    listen(part[:, :chunk.shape[-1]], rate, f"drums, {name}")
assert torch.allclose(sum(parts.values())[:, :chunk.shape[-1]], stems[0], atol=1e-4)

# %% [markdown]
# The masks' sizes, a row a bin. Look for the bands' edges: where weights of two bands meet, a mask may jump. A horizontal stripe is a gain that never changes, an equaliser; where a stripe breaks up along time, its band has begun to listen. It is a band that learns, with all its bins, not a bin:

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), sharey=True, layout="constrained")
for axis, stem, mask in zip(axes, STEMS, M[0].abs()):
    picture = axis.imshow(mask[:200], origin="lower", aspect="auto", vmin=0, vmax=1, cmap="Blues",
                          extent=(0, 4, 0, 200 * rate / n_fft / 1000))
    axis.set(title=stem, xlabel="time, s")
axes[0].set_ylabel("frequency, kHz")
figure.colorbar(picture, ax=axes, label="size of the mask")
show(figure, "Masks of the trained network below 4.3 kHz, four seconds of a song.",
     "Four pictures with horizontal stripes of light and dark blue; in a few bands of drums, bass "
     "and other they are broken up along time. Vocals is nearly white.")
jump = (M[0].abs().diff(dim=1)).abs().mean((0, 2))                   # between neighbouring bins
at_edges = torch.zeros(len(jump), dtype=torch.bool)
at_edges[[end - 1 for _, end in edges_of(trained_widths)[:-1]]] = True
change = M[0].abs().std(-1).mean(-1) / M[0].abs().mean((1, 2))
print("deviation over time, of the mean size:", {stem: f"{value:.2f}" for stem, value
                                                in zip(STEMS, change.tolist())})
print(f"jump of the masks' size at an edge: {float(jump[at_edges].mean()):.2f}, "
      f"inside a band: {float(jump[~at_edges].mean()):.2f}")

# %% [markdown]
# And the recording, from another world than the band:

# %%
with torch.no_grad():
    real_stems = ours_net(real[None, :, :round(P.seconds * rate)])[0]
for place in (0, 1, 2):
    listen(real_stems[place], rate, f"{STEMS[place]}, band_split_band, a real song")

# %% [markdown]
# ## 18.16 What we built
#
# | name | what | section |
# |---|---|---|
# | `edges_of`, `equal_widths`, `musical_widths`, `mel_bands` | which bins are a band | 18.2, 18.9 |
# | `RMSNorm`, `BandSplit`, `MaskEstimator` | into tokens and out of them, a band at a time | 18.3, 18.5 |
# | `rotary_angles`, `rotated`, `RotaryEmbedding` | positions that turn | 18.6 |
# | `attend`, `Attention`, `FeedForward`, `Residual`, `HyperConnection`, `Transformer` | layers along one axis | 18.7 |
# | `multi_stft_loss`, `SpectralLoss`, `BSRoformer` | the loss, and the network on bands without overlap | 18.8 |
# | `LinearAttention`, `MelAttention`, `MelBandRoformer` | the network on mel bands | 18.9 |
# | `subbands`, `SDlayer`, `SUlayer`, `ConvolutionModule`, `SDblock`, `FusionLayer` | three subbands, compressed and back | 18.10 |
# | `DualPathRNN`, `SeparationNet`, `SCNet` | two paths, and the network | 18.11, 18.12 |
# | `StemNetwork` | any of them for chapter 9 | 18.15 |
#
# All of it is in `course_lib.band_split`.
#
# ## 18.17 Paper claims
#
# Published levels rest on MUSDB18-HQ and days on many GPUs, and *need real data*. A difference between our runs counts as seen only by the three rules of section 18.14; with one seed nothing does.

# %%
def claim(text, source, paper, one, other=base):
    """A claim that is right if variant `one` is ahead of `other`."""
    differences, apart = lead(one, other)
    if len(differences) < 2:
        words = difference_in_words(differences) if len(differences) else "not run"
        return Claim(text, source, "18.14", paper, f"{words}; too few seeds", NOT_SEEN)
    seen = same_trend(differences)
    if seen == SAME_TREND and float(differences.mean()) <= apart:
        seen = NOT_SEEN
    return Claim(text, source, "18.14", paper, difference_in_words(differences), seen)

# %% [markdown]
# The verdicts are computed:

# %%
level = lambda name: float(paper_scores[name]["all"])
gap = lambda one, other: f"{level(one) - level(other):+.2f} dB"
BSR, LU, WANG, TONG = "Luo and Yu 2023", "Lu et al. 2023", "Wang et al. 2023", "Tong et al. 2024"
claims = [
    Claim("Only differences of positions count", "Su et al. 2021", "18.6", "theorem",
          "equal but for rounding" if relative_error < 1e-4 else "unequal",
          reproduced(relative_error, 0, 1e-4)),
    Claim("SCNet's size", TONG, "18.12", f"{float(paper_sizes['SCNet']['parameters']) / 1e6:.2f} M",
          f"{official_scnet / 1e6:.2f} M, as the official code",
          reproduced(official_scnet / 1e6, float(paper_sizes["SCNet"]["parameters"]) / 1e6, 0.01)),
    Claim("SCNet takes 48% of HT Demucs' CPU time", TONG, "18.12", "48%",
          f"{scnet_share:.0%}, our code, one thread", reproduced(scnet_share, 0.48, 0.05)),
    claim("Bands by hand beat equal ones", BSR, "order only", base, "equal bands"),
    claim("Mel bands beat bands by hand", WANG, "order only", "Mel-RoFormer"),
    claim("Rotary positions help", LU, "order only", base, "without positions"),
    claim("Masks beat mapping in BS-RoFormer", "this chapter", None, base, "mapping"),
    claim("Mapping beats masks in SCNet", "starrytong/SCNet, issue 18", "slightly", "SCNet",
          "SCNet, masks")]

# %% [markdown]
# Those about kinds of networks, and about the committed one:

# %%
font = sets.get(experiment.OTHER, {})
claims += [
    claim("BS-RoFormer beats HT Demucs in equal time", LU, gap("BS-RoFormer", "HT Demucs"), base,
          "HT Demucs"),
    claim("SCNet beats HT Demucs in equal time", TONG, gap("SCNet", "HT Demucs"), "SCNet",
          "HT Demucs"),
    claim("BS-RoFormer beats Open-Unmix in equal time", "this chapter", None, base, "Open-Unmix"),
    Claim("band_split_band beats Open-Unmix", "this chapter", "18.15", None,
          difference_in_words(ahead), same_trend(ahead)),
    Claim("BS-RoFormer reaches 9.80 dB", LU, "18.13", "9.80 dB", "not run", NEEDS_REAL_DATA)]
if experiment.BAND_SPLIT in font:
    over = (font[experiment.BAND_SPLIT] - font[experiment.UNMIX]).nanmean(1)
    claims.append(Claim("band_split_band beats Open-Unmix on another soundfont, too",
                        "this chapter", "18.14", None, difference_in_words(over),
                        same_trend(over)))
show_claims(claims)

# %% [markdown]
# *Not seen* may mean that a claim is wrong, or that networks on the plateau of section 18.14 can't show it, which is so for split, mel bands and positions.
#
# ## 18.18 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/18_band_split.ipynb) has more tasks, with checks.
#
# **1. By hand.** A query $(1, 0)$ at position 2 and a key $(0, 1)$ at position 3 are turned by $\pi/2$ a position. What is their product? And at positions 10 and 11?
#
# <details><summary>Answer</summary>
#
# Only the difference counts, so both products are equal: $(1, 0) \cdot R(\pi/2)(0, 1) = (1, 0) \cdot (-1, 0) = -1$.
#
# ```python
# import torch
# from course_lib.band_split import rotary_angles, rotated
# angles = rotary_angles(12, torch.tensor([torch.pi / 2]))
# q, k = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
# for m, n in ((2, 3), (10, 11)):
#     product = rotated(q[None], angles[m:m + 1])[0] @ rotated(k[None], angles[n:n + 1])[0]
#     assert abs(float(product) + 1) < 1e-4
# ```
# </details>
#
# **2. A band without a bin.** What does `musical_widths(44_100, 512)` do, and which is the smallest power of two that works at this rate?
#
# <details><summary>Answer</summary>
#
# Its bins are 86 Hz wide. Bands of 100 Hz have one bin each, some of them two: it works. With 256 samples bins are 172 Hz wide, and some band of 100 Hz gets none.
#
# ```python
# from course_lib.band_split import musical_widths
# works = []
# for n_fft in (128, 256, 512, 1024):
#     try:
#         works.append((n_fft, min(musical_widths(44_100, n_fft))))
#     except ValueError:
#         pass
# assert works[0] == (512, 1)
# ```
# </details>
#
# **3. Level.** Multiply the mixture by 3. What happens to the masks of BS-RoFormer, and to its estimates?
#
# <details><summary>Answer</summary>
#
# The norms in front of the bands divide the level out again: masks stay, estimates are three times as large. So it needs no standardisation of songs; SCNet does.
#
# ```python
# import torch
# from course_lib.band_split import BSRoformer
# torch.manual_seed(0)
# net = BSRoformer(8, depth=1, freqs_per_bands=(5, 28), dim_head=4, heads=2, num_residual_streams=1, stft_n_fft=64, stft_hop_length=16, stft_win_length=64).eval()
# x = torch.randn(1, 1, 320)
# with torch.no_grad():
#     assert torch.allclose(net.masks(net.spectrum(3 * x)), net.masks(net.spectrum(x)), atol=1e-4)
#     assert torch.allclose(net(3 * x), 3 * net(x), atol=1e-4)
# ```
# </details>
#
# **4. How many tokens?** A chunk has $M$ frames and $K$ bands. How many pairs does attention weigh along time and along bands, and how many over all tokens? Try 800 frames and 60 bands.
#
# <details><summary>Answer</summary>
#
# $K M^2 + M K^2$ against $(M K)^2$: with these numbers 56 times fewer.
#
# ```python
# M, K = 800, 60
# assert round((M * K) ** 2 / (K * M ** 2 + M * K ** 2)) == 56
# ```
# </details>
#
# **5. Strides.** A subband of 17 rows is squeezed by 16. How many rows come out, and how many bins go back?
#
# <details><summary>Answer</summary>
#
# Two: 15 zeros fill it up to 32 rows. On the way back 32 are made, and the middle 17 are kept.
#
# ```python
# import torch
# from course_lib.band_split import SDlayer, SUlayer
# down, up = SDlayer(1, 1, (0.1, 0.1, 0.8), (1, 4, 16), (3, 4, 16)), SUlayer(1, 1, (1, 4, 16), (3, 4, 16))
# with torch.no_grad():
#     bands, original = down(torch.randn(1, 1, 22, 1))
#     rows = [band.shape[2] for band in bands]
#     assert (original[2], rows[2]) == (17, 2)
#     assert up(torch.cat(bands, 2), rows, original).shape[2] == 22
# ```
# </details>
#
# **6. Open.** Cut the bands by what the *band* plays: take the mean spectra of its stems and put an edge wherever another stem becomes the loudest. Train it for as long as the others, and compare.
#
# ## 18.19 Sources
#
# - Y. Luo and J. Yu, *Music source separation with band-split RNN*, IEEE/ACM Transactions on Audio, Speech and Language Processing 31, 2023, arXiv 2209.15174.
# - W.-T. Lu, J.-C. Wang, Q. Kong and Y.-N. Hung, *Music source separation with band-split RoPE transformer*, ICASSP 2024, arXiv 2309.02612.
# - J.-C. Wang, W.-T. Lu and M. Won, *Mel-band RoFormer for music source separation*, 2023, arXiv 2310.01809.
# - W. Tong et al., *SCNet: sparse compression network for music source separation*, ICASSP 2024, arXiv 2401.13276.
# - J. Su et al., *RoFormer: enhanced transformer with rotary position embedding*, 2021, arXiv 2104.09864.
# - Y. Luo, Z. Chen and T. Yoshioka, *Dual-path RNN*, ICASSP 2020. B. Zhang and R. Sennrich, *Root mean square layer normalization*, NeurIPS 2019. A. El-Nouby et al., *XCiT*, NeurIPS 2021, arXiv 2106.09681. D. Zhu et al., *Hyper-connections*, 2024, arXiv 2409.19606. R. Sinkhorn and P. Knopp, *Concerning nonnegative matrices and doubly stochastic matrices*, 1967.
#
# Names, arguments and quirks of the networks are those of the package `BS-RoFormer` (MIT) and of `starrytong/SCNet` (MIT). All code here is the course's own.
