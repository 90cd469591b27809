# %% [markdown]
# # Chapter 10 · VQ-VAE, music in letters
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/10_vq_vae.ipynb)
#
# A book is a sequence of letters out of a small alphabet, and so a machine can learn to write one. A song is a sequence of numbers, and no alphabet comes with it. This chapter
# makes one. It begins with points in a plane that are replaced by the nearest of a few others, which one can see and hear. It ends with a network that turns a song into 689 letters a second and
# back. The step between them, choosing the nearest, has no gradient, and half of the chapter is about how one trains through it all the same, and what goes wrong.
#
# **You will be able to**
# - quantise vectors to the nearest code, place the codes by k-means, and count what it costs in bits and what it costs in decibels,
# - explain the straight-through gradient, and say which of the three losses moves what,
# - update a codebook by moving averages, and say when that is a gradient step and when it is k-means,
# - recognise a codebook that has collapsed, measure it by its perplexity, and cure it by restarts,
# - build and train a VQ-VAE on songs, and judge it by rate and distortion.
#
# **You need** chapter 3 (SNR), chapter 4 (training loop, moving averages), chapter 6 (strided and transposed convolutions). Chapter 11 builds Jukebox's codes on this one, chapter 12 lets a network write with them.
#
# **Time** <!-- minutes 10_vq_vae -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 10.0 Set up
#
# The first lines install the course where it is missing, on Colab. The networks here are small, so one thread computes. What takes longer than a chapter was run by a command, and its results come with the course.

# %%
#| default_exp vqvae
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("10_vq_vae", cpu=dict(songs=6, steps=60, batch=8),
          gpu=dict(songs=60, steps=400, batch=16), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/vqvae.py`, word for word. It begins here.

# %%
#| export
import math
from collections.abc import Sequence
from typing import NamedTuple
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.metrics import snr

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
from course_lib.data import RandomChunks, recording
from course_lib.experiments import vqvae as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, Claim, difference_in_words,
                                        reproduced, same_trend, show_claims)
from course_lib.results import measured, measured_card, published
from course_lib.training import FitSettings, fit, load_trained, process_batches

# %% [markdown]
# ## 10.1 An alphabet for sound
#
# What can be had? Here are six seconds of a recording, and the same six seconds after they went through the network of this chapter: an encoder that writes one letter of an alphabet of 256 for every 32 samples, and a decoder that
# gets the letters and nothing else. It learned from songs of the course's band; this recording is as foreign to it as can be.

# %%
rate = experiment.RATE
song, _ = recording("fishin", rate, mono=True, start=12.0, seconds=6.0)     # (channel, time)
ours = load_trained("vqvae_band_256")
with torch.no_grad():
    letters = ours.encode(song[None])                                       # (batch, step)
    spoken = ours.decode(letters)[0, :, :song.shape[-1]]                    # (channel, time)
listen(song, rate, "Karissa Hobbs, Let's Go Fishin'")
listen(spoken, rate, "the same, in letters")

# %% [markdown]
# It is no telephone yet, and we shall hear what is missing and why. But all that the decoder knew were these letters:

# %%
print(letters.shape[-1], "letters,", round(rate / ours.hop_length), "a second; the first:",
      *letters[0, :12].tolist())
assert letters.shape == (1, math.ceil(song.shape[-1] / ours.hop_length))
assert 0 <= int(letters.min()) and int(letters.max()) < 256

# %% [markdown]
# A letter of an alphabet of $K$ costs $\log_2 K$ bits, so with $f_s$ samples a second and $h$ samples a letter the *bit rate* is
#
# $$ R = \frac{f_s}{h} \log_2 K \quad \text{bits a second.} \tag{10.1} $$

# %%
#| export
def bits_per_second(rate: float, hop_length: int, size: int, levels: int = 1) -> float:
    """The bits a second of codes that are stored one by one (eq. 10.1).

    rate: of the audio, in Hz. hop_length: samples a code. size: of the codebook. levels: codes for
    each step, one of each of so many codebooks (chapter 11). ValueError for values below 1.
    Source: section 10.1.
    """
    for name, value in (("rate", rate), ("hop_length", hop_length), ("size", size),
                        ("levels", levels)):
        if not (math.isfinite(value) and value >= 1):
            raise ValueError(f"{name} is {value}; expected a number from 1 on")
    return rate / hop_length * levels * math.log2(size)

# %% [markdown]
# What is saved, in kilobits a second:

# %%
rows = [["compact disc, stereo, 16 bits", 44_100 * 2 * 16 / 1000],
        ["this recording, mono, 16 bits", rate * 16 / 1000],
        ["our letters", bits_per_second(rate, ours.hop_length, 256) / 1000],
        ["van den Oord et al. 2017, speech", bits_per_second(16_000, 64, 512) / 1000]]
show_table(rows, ["", "kbit/s"], digits=2)
assert rows[2][1] * 64 == rows[1][1]                                # 512 bits of audio to 8

# %% [markdown]
# The last row is the paper that this chapter follows: van den Oord, Vinyals and Kavukcuoglu, *Neural discrete representation learning*. Its speech has 16,000 samples a second, a letter each 64 of them, an alphabet of 512.
#
# ## 10.2 The nearest code
#
# Before there is a network, take two neighbouring samples $x[2n]$ and $x[2n+1]$ as a point of the plane. A recording becomes a cloud of points, stretched along the diagonal, as neighbours are alike. A *codebook* is a list of $K$ points $e_0, \ldots, e_{K-1}$, its *codes*. To *quantise* a vector $z$
# is to replace it by the code next to it,
#
# $$ k(z) = \arg\min_{k} \; \lVert z - e_k \rVert^2, \qquad e = e_{k(z)}. \tag{10.2} $$
#
# What is stored is $k$, a whole number; who has the same codebook gets $e$ from it. Five points and three codes, as a loop:

# %%
def nearest_by_loop(z, codebook):
    """(10.2), word for word: z (point, dim), codebook (code, dim)."""
    found = []
    for vector in z:
        distances = [float((vector - e).square().sum()) for e in codebook]
        found.append(distances.index(min(distances)))               # of equal ones the first
    return torch.tensor(found)

# %% [markdown]
# Five points and three codes, as lists:

# %%
z_tiny = torch.tensor([[0.0, 0.2], [0.9, 1.1], [2.2, 0.1], [1.0, 0.0], [0.1, -0.3]])
e_tiny = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
print(nearest_by_loop(z_tiny, e_tiny).tolist())
assert nearest_by_loop(z_tiny, e_tiny).tolist() == [0, 1, 2, 0, 0]

# %% [markdown]
# The fourth point, $(1, 0)$, is at distance 1 from all three codes. A *tie* needs a rule, or two machines would write different letters for one song. Ours is: the lowest number wins.
#
# The loop takes one distance at a time. All of them at once follow from
#
# $$ \lVert z - e_k \rVert^2 = \lVert z \rVert^2 - 2\, z^\top e_k + \lVert e_k \rVert^2, \tag{10.3} $$
#
# where the middle term for all $z$ and all $k$ is one product of matrices.

# %%
#| export
def _check_vectors(z: Tensor, codebook: Tensor) -> None:
    """ValueError unless z (..., dim) and codebook (code, dim) are floats that fit each other."""
    for name, x in (("z", z), ("codebook", codebook)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"{name} is {kind}; expected a torch tensor of real floats")
    if codebook.ndim != 2 or 0 in codebook.shape:
        raise ValueError(f"codebook has shape {tuple(codebook.shape)}; expected (code, dim) with "
                         "at least one code")
    if z.ndim < 1 or z.shape[-1] != codebook.shape[1]:
        raise ValueError(f"z has shape {tuple(z.shape)}; expected (..., {codebook.shape[1]}) as "
                         "the codes have, the vector's numbers along the last axis")
    for name, x in (("z", z), ("codebook", codebook)):
        if not torch.isfinite(x).all():
            raise ValueError(f"{name} holds {int((~torch.isfinite(x)).sum())} numbers that are NaN "
                             "or infinite, which are near to nothing; expected finite numbers (a "
                             "training that diverged? a smaller learning rate, clipped gradients)")

# %% [markdown]
# With the check of its arguments in front, the formula:

# %%
#| export
def squared_distances(z: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distances (eq. 10.3): z (..., dim), codebook (code, dim) to (..., code).

    At least 0, though rounding makes small ones uncertain by some 1e-7 of |z|^2 + |e|^2 in 32
    bits. Without silent casts below 32 bits: autocast is off. ValueError for shapes that do not
    fit, integers, NaN. Source: section 10.2.
    """
    _check_vectors(z, codebook)
    with torch.autocast(z.device.type, enabled=False):
        z, codebook = (x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
                       for x in (z, codebook))
        products = z @ codebook.T                                   # (..., code)
        squares = z.square().sum(-1, keepdim=True) + codebook.square().sum(-1)
        return (squares - 2 * products).clamp_min(0)

# %% [markdown]
# A song has a million vectors, and a codebook can have 2048 codes: all distances at once would fill 8 GB. So the search goes by a few thousand vectors at a time.

# %%
#| export
def nearest_codes(z: Tensor, codebook: Tensor, at_once: int = 8192) -> Tensor:
    """The number of the nearest code of each vector (eq. 10.2); of equally near ones the lowest.

    z: (..., dim), codebook: (code, dim), floats. Returns int64 (...), without a gradient. at_once:
    vectors whose distances are held in memory together. No vectors give no codes. ValueError for
    shapes that do not fit, integers, NaN. Source: van den Oord et al. 2017, eq. 1; section 10.2.
    """
    _check_vectors(z, codebook)
    if at_once < 1:
        raise ValueError(f"at_once is {at_once}; expected a number of vectors from 1 on")
    with torch.no_grad():
        flat = z.reshape(-1, z.shape[-1])                           # (vector, dim)
        found = [squared_distances(some, codebook).argmin(-1) for some in flat.split(at_once)]
        return torch.cat(found).reshape(z.shape[:-1])

# %% [markdown]
# And the way back, which is nothing but a look into the list:

# %%
#| export
def dequantise(codes: Tensor, codebook: Tensor) -> Tensor:
    """The codes' vectors: whole numbers (...) and codebook (code, dim) to (..., dim).

    A gradient reaches the codes that were used. ValueError for floats and for numbers that no
    code has. Source: section 10.2.
    """
    if codes.is_floating_point() or codes.dtype == torch.bool or codes.is_complex():
        raise ValueError(f"codes is {codes.dtype}; expected whole numbers, as nearest_codes gives")
    if codes.numel():
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= len(codebook):
            raise ValueError(f"codes go from {low} to {high}; expected 0 to {len(codebook) - 1}, "
                             f"for the codebook has {len(codebook)} codes")
    return F.embedding(codes.long(), codebook)

# %% [markdown]
# Both must agree with the loop, and with each other: a code's own vector is nearest to itself.

# %%
z_some = torch.randn(300, 5, generator=P.generator)
e_some = torch.randn(40, 5, generator=P.generator)
assert torch.equal(nearest_codes(z_tiny, e_tiny), nearest_by_loop(z_tiny, e_tiny))
assert torch.equal(nearest_codes(z_some, e_some, at_once=7), nearest_by_loop(z_some, e_some))
assert torch.equal(nearest_codes(dequantise(torch.arange(40), e_some), e_some), torch.arange(40))
assert nearest_codes(torch.zeros(0, 5), e_some).shape == (0,)

# %% [markdown]
# Every point of the plane has a nearest code, so a codebook cuts the plane into *Voronoi cells*, whose borders lie half way between two codes. Here they are, for sixteen points of the recording's cloud taken at random as codes:

# %%
pairs = song[0, :song.shape[-1] // 2 * 2].unflatten(0, (-1, 2))     # (time, channel) -> (point, 2)
choice = torch.randperm(len(pairs), generator=P.generator)[:16]
at_random = pairs[choice]                                           # (code, 2)

# %% [markdown]
# A small function draws the cells: it asks for the nearest code of every point of a fine grid.

# %%
REACH = 0.6
line = torch.linspace(-REACH, REACH, 240)
plane = torch.cartesian_prod(line, line)                            # (240 * 240, 2)
def draw_cells(axis, codebook, title):
    """The cells of a codebook in colour, a part of the cloud, and the codes."""
    cells = nearest_codes(plane, codebook).unflatten(0, (240, 240)).T       # (row, column)
    axis.imshow(cells * 7 % 20, cmap="tab20", origin="lower", alpha=0.45,
                extent=(-REACH, REACH, -REACH, REACH), interpolation="nearest")
    axis.plot(*pairs[::11].T, ".", ms=1, color="#303030", alpha=0.35)
    axis.plot(*codebook.T, "o", ms=5, color="white", mec="black")
    axis.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xlabel="x[2n]", title=title)

# %% [markdown]
# With it, the picture:

# %%
figure, axis = plt.subplots(figsize=(4.2, 4.4))
draw_cells(axis, at_random, "16 codes, taken at random")
axis.set(ylabel="x[2n+1]")
show(figure, "The recording as a cloud of points, and sixteen of them as codes. Where a cell's "
     "colour ends, another code is nearer.",
     "A cloud along the diagonal over coloured polygonal cells; "
     "white dots, the codes, lie mostly crowded in the middle.")

# %% [markdown]
# <details><summary>Quick question: why are the borders between cells straight lines, never curves?</summary>
#
# On the border the two distances of (10.3) are equal. $\lVert z \rVert^2$ stands on both sides and drops out, and what is left is linear in $z$.
# </details>
#
# ## 10.3 Where to put the codes: k-means
#
# Codes at random crowd where the cloud is dense and leave its ends to chance. What would be best? The *distortion* is the mean squared distance between a point and its code,
#
# $$ D = \frac{1}{N} \sum_{i=1}^{N} \lVert z_i - e_{k(z_i)} \rVert^2 . \tag{10.4} $$
#
# For given codes, (10.2) is the best assignment. For a given assignment, the best code is the *mean* of the points that are assigned to it, as the gradient of (10.4) says:
#
# $$ \frac{\partial D}{\partial e_k} = \frac{2}{N} \sum_{i:\,k(z_i)=k} (e_k - z_i) = 0 \quad\Longrightarrow\quad
#    e_k = \frac{1}{n_k} \sum_{i:\,k(z_i)=k} z_i , \tag{10.5} $$
#
# with $n_k$ points in cell $k$. Doing both in turns is *k-means* (Lloyd 1957). Each half can only lower $D$.

# %%
#| export
def sums_and_counts(z: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """What a batch says of each code: the sum of its vectors (code, dim) and their number (code,).

    z: (vector, dim), codes: (vector,) whole numbers below size. Floats of z's type. Section 10.3.
    """
    counts = torch.bincount(codes, minlength=size).to(z.dtype)
    return z.new_zeros(size, z.shape[-1]).index_add_(0, codes, z), counts

# %% [markdown]
# In turns: the nearest codes, then the means.

# %%
#| export
def kmeans(z: Tensor, size: int, steps: int = 20, generator: torch.Generator | None = None,
           codebook: Tensor | None = None) -> Tensor:
    """A codebook by k-means (eqs. 10.2 and 10.5): vectors z (vector, dim) to (size, dim).

    steps: assignments, each followed by means. codebook: to start from; None: vectors drawn
    without repetition by the generator. A code that no vector is nearest to stays where it is.
    ValueError for fewer vectors than codes, for shapes that do not fit, NaN. Source: Lloyd 1982;
    section 10.3.
    """
    if z.ndim != 2 or not 1 <= size <= len(z):
        raise ValueError(f"z has shape {tuple(z.shape)} and size is {size}; expected (vector, dim) "
                         "with at least as many vectors as codes, and a code at least")
    if codebook is None:
        codebook = z[torch.randperm(len(z), generator=generator)[:size]]
    for _ in range(steps):
        sums, counts = sums_and_counts(z, nearest_codes(z, codebook), size)
        means = sums / counts.clamp_min(1)[:, None]
        codebook = torch.where(counts[:, None] > 0, means, codebook)
    return codebook

# %% [markdown]
# The picture again, from the same sixteen random points, after one, four and thirty steps:

# %%
def distortion(z, codebook):
    """(10.4)."""
    return float((z - dequantise(nearest_codes(z, codebook), codebook)).square().sum(-1).mean())

stages = {steps: kmeans(pairs, 16, steps, codebook=at_random) for steps in (0, 1, 4, 30)}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.9), sharey=True)
for axis, steps in zip(axes, (1, 4, 30)):
    draw_cells(axis, stages[steps], f"after {steps} step{'s' * (steps > 1)}")
axes[0].set(ylabel="x[2n+1]")
show(figure, "K-means: codes walk to the means of their cells, and the cells follow.",
     "Three plots of cells: white dots spread along the diagonal cloud from left to right.")

# %% [markdown]
# The distortion falls with every step:

# %%
fall = [distortion(pairs, codebook) for codebook in stages.values()]
print("distortion, the start being 1:", [round(value / fall[0], 2) for value in fall])
assert all(later <= earlier * (1 + 1e-5) for earlier, later in zip(fall, fall[1:]))
assert fall[-1] < 0.7 * fall[0]

# %% [markdown]
# ### Heard
#
# A pair of samples is now one letter. So sixteen codes are four bits for two samples, two bits each instead of sixteen. Beside it, the plain way of spending two bits: four equally wide steps for every sample alone.

# %%
def in_steps(x, bits):
    """Each sample alone, in 2^bits equally wide steps between -peak and peak, to their middles."""
    width = 2 * float(x.abs().max()) / 2 ** bits
    return ((x / width).floor().clamp(-2 ** (bits - 1), 2 ** (bits - 1) - 1) + 0.5) * width

def in_pairs(codebook):
    """The recording, every pair of samples replaced by its code: (channel, time)."""
    return dequantise(nearest_codes(pairs, codebook), codebook).flatten()[None]

# %% [markdown]
# Codebooks of four sizes, and the plain steps at the same bits:

# %%
books = {size: kmeans(pairs, size, 15, torch.Generator().manual_seed(1))
         for size in (4, 16, 64, 256)}
even = song[:, :2 * len(pairs)]                                     # an even number of samples
by_size = {size: float(snr(in_pairs(codebook), even)) for size, codebook in books.items()}
alone = {size: float(snr(in_steps(even, round(math.log2(size) / 2)), even))
         for size in books}
show_table([[size, math.log2(size) / 2, by_size[size], alone[size]] for size in books],
           ["codes", "bits a sample", "SNR in pairs (dB)", "SNR in equal steps (dB)"], digits=1)
assert all(by_size[size] > alone[size] + 8 for size in books)

# %% [markdown]
# Hear two and four bits a sample:

# %%
listen(in_pairs(books[16]), rate, "16 codes for pairs of samples: 2 bits a sample")
listen(in_pairs(books[256]), rate, "256 codes for pairs: 4 bits a sample")
listen(in_steps(even, 2), rate, "2 bits a sample, in equal steps")

# %% [markdown]
# Same bits, many decibels between them, for two reasons. The codes go where the samples are (equal steps give silence and loudness the same care), and pairs are *together*: along the diagonal lie many codes, far from it none.
#
# How much does a letter more buy? Halving the width of a cell in every direction of a space of $d$ dimensions takes $2^d$ times as many codes and divides the squared error by 4, which is 6 dB. So with many codes each doubling of $K$ is worth about
#
# $$ \frac{20 \log_{10} 2}{d} = \frac{6.02}{d} \ \text{dB}. \tag{10.6} $$
#
# In the plane that is 3 dB. What a network must do, then, is to find a space of few dimensions in which music lies.

# %%
doublings = [(by_size[b] - by_size[a]) / math.log2(b / a)
             for a, b in ((4, 16), (16, 64), (64, 256))]
print("dB for each doubling of the codes:", [round(value, 1) for value in doublings])
assert abs(doublings[-1] - 6.02 / 2) < 0.8

# %% [markdown]
# ## 10.4 How many codes are in use?
#
# A codebook of 256 codes need not be an alphabet of 256 letters. Count how often each one is used, as shares $p_k$. The *entropy* and its exponential, the *perplexity*, are
#
# $$ H = -\sum_k p_k \log_2 p_k \ \text{bits}, \qquad \mathrm{PP} = 2^{H}. \tag{10.7} $$
#
# If all are used alike, $H = \log_2 K$ and the perplexity is $K$; if one code takes everything, $H = 0$ and it is 1. It is the size of the alphabet that would be as surprising. And as a code that comes often can be written with a short word,
# $H$ is also the number of bits a letter that an entropy coder needs, if it knows no more than the shares.

# %%
#| export
def code_counts(codes: Tensor, size: int) -> Tensor:
    """How often each of `size` codes is used: whole numbers (...) to int64 (size,).

    ValueError for floats and for numbers that no code has. Source: section 10.4.
    """
    if codes.is_floating_point():
        raise ValueError(f"codes is {codes.dtype}; expected whole numbers, as nearest_codes gives")
    if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
        raise ValueError(f"codes go from {int(codes.min())} to {int(codes.max())}; expected 0 to "
                         f"{size - 1}")
    return torch.bincount(codes.flatten().long(), minlength=size)


def perplexity(counts: Tensor) -> Tensor:
    """The size of an alphabet of equally frequent letters that is as surprising (eq. 10.7).

    counts: (..., code), how often each code was used, >= 0 (shares will do). Returns (...), from
    1, one code takes all, to the number of codes; NaN where nothing was counted. ValueError for
    negative counts, NaN and no codes. Source: section 10.4.
    """
    if counts.ndim < 1 or 0 in counts.shape[-1:] or not (counts >= 0).all():
        raise ValueError(f"counts has shape {tuple(counts.shape)} and goes down to "
                         f"{counts.min().item() if counts.numel() else None}; expected (..., "
                         "code), numbers from 0 on")
    shares = counts.double() / counts.double().sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp().float()         # entr(p) = -p ln p, 0 at 0

# %% [markdown]
# Four counts of 16 letters: all alike, two alike, one alone, and one with three rare ones.

# %%
counts_tiny = torch.tensor([[4, 4, 4, 4], [8, 8, 0, 0], [16, 0, 0, 0], [13, 1, 1, 1]])
print([round(value, 2) for value in perplexity(counts_tiny).tolist()])
assert torch.allclose(perplexity(counts_tiny)[:3], torch.tensor([4.0, 2.0, 1.0]))
assert perplexity(torch.zeros(4)).isnan()

# %% [markdown]
# For the pairs, which k-means served well:

# %%
rows = []
for size, codebook in books.items():
    used = code_counts(nearest_codes(pairs, codebook), size)
    rows.append([size, int((used > 0).sum()), float(perplexity(used)),
                 float(perplexity(used).log2()), math.log2(size)])
show_table(rows, ["codes", "used", "perplexity", "entropy (bits)", "log2 of the codes"], digits=1)
assert all(row[1] == row[0] and row[2] > 0.4 * row[0] for row in rows)

# %% [markdown]
# ## 10.5 A step without a gradient
#
# Now put the quantiser between an encoder $E$ and a decoder $D$ (which is no longer the distortion of (10.4)): $z = E(x)$, $e = e_{k(z)}$, $\hat x = D(e)$. The loss $\lVert x - \hat x \rVert^2$ trains the decoder. Does it train the encoder? Move $z$ by a little: it stays in its cell, $e$ stays where it is, and so does the loss. The derivative is *zero*, almost everywhere; and at a border it does not exist.
# Take one number for $z$, codes at 0, 1, 2, 3, a decoder $D(e) = 2e$, and a target $x = 5$:

# %%
steps_1d = torch.arange(4.0)[:, None]                               # four codes of one number
def loss_of_code(e):
    return (5 - 2 * e).square().sum()
def loss_of(z):
    """The loss as it is: quantise, decode, compare; z (1,)."""
    return loss_of_code(dequantise(nearest_codes(z, steps_1d), steps_1d))

# %% [markdown]
# Drawn over z, with the quantiser and without:

# %%
grid = torch.linspace(-0.4, 3.4, 381)
figure, axis = plt.subplots(figsize=(7.6, 2.4))
axis.plot(grid, [float(loss_of(z[None])) for z in grid], label="with the quantiser")
axis.plot(grid, [float(loss_of_code(z)) for z in grid], "--", label="without")
axis.set(xlabel="z", ylabel="loss", ylim=(-1, 30))
axis.legend()
show(figure, "The loss over z: a staircase with the quantiser, a parabola without.",
     "A parabola with its minimum at 2.5 and a staircase of four steps that follows it.")
difference = (loss_of(torch.tensor([1.31])) - loss_of(torch.tensor([1.29]))) / 0.02
print("slope of the staircase at 1.3:", float(difference))
assert float(difference) == 0

# %% [markdown]
# But a person who sees the staircase from afar knows where down is. The *straight-through estimator* (Bengio, Léonard and Courville 2013) says it in a formula: forward, take $e$; backward, act as if quantising had been the identity, so that the gradient which arrives at $e$ is handed to $z$ as it is,
#
# $$ \frac{\partial L}{\partial z} := \left. \frac{\partial L}{\partial e} \right|_{e = e_{k(z)}} . \tag{10.8} $$
#
# In code it is one line, with $\mathrm{sg}$, the *stop-gradient* (`detach`): its value is its argument, its gradient zero.
#
# $$ e_\mathrm{st} = z + \mathrm{sg}(e - z). \tag{10.9} $$

# %%
#| export
def straight_through(z: Tensor, e: Tensor) -> Tensor:
    """e forward (but for one rounding), the identity of z backward (eq. 10.9); shapes alike.

    No gradient reaches e. ValueError for unlike shapes. Source: Bengio et al. 2013; van den Oord et
    al. 2017, section 3.2; section 10.5.
    """
    if z.shape != e.shape:
        raise ValueError(f"z has shape {tuple(z.shape)}, e {tuple(e.shape)}; expected the same")
    return z + (e - z).detach()

# %% [markdown]
# By hand for our example at $z = 1.3$: the code is $e = 1$, and $\partial L / \partial e = 2 \cdot (-2)(5 - 2e) = -12$. Autograd must give that for $z$; and a finite difference, taken at the code of the loss *without* quantiser, too.

# %%
z_1d = torch.tensor([1.3], requires_grad=True)
e_1d = dequantise(nearest_codes(z_1d, steps_1d), steps_1d)
value = loss_of_code(straight_through(z_1d, e_1d))
value.backward()
finite = (loss_of_code(e_1d + 0.01) - loss_of_code(e_1d - 0.01)) / 0.02
print("loss", float(value.detach()), "gradient", float(z_1d.grad),
      "finite difference", round(float(finite), 1))
assert float(value.detach()) == 9 and float(z_1d.grad) == -12 and abs(float(finite) + 12) < 1e-2

# %% [markdown]
# The sign is right: $z$ should grow, over the border at 1.5 to the better code 2. The number is an estimate: it is the slope of the parabola *at the code*, not at $z$. Is such a gradient of any use over a whole network? In more than one dimension the same check holds for every number of $z$, whatever the decoder:

# %%
torch.manual_seed(0)
decoder = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()
z_5d = z_some[:4].double().requires_grad_()
e_5d = dequantise(nearest_codes(z_5d, e_some.double()), e_some.double())
decoder(straight_through(z_5d, e_5d)).square().sum().backward()

# %% [markdown]
# Every number of every code, a little up and a little down:

# %%
numeric = torch.zeros_like(e_5d)
with torch.no_grad():
    for place in range(e_5d.numel()):
        bump = torch.zeros(e_5d.numel(), dtype=torch.double)
        bump[place] = 1e-5
        up, down = (decoder(e_5d + sign * bump.view_as(e_5d)).square().sum() for sign in (1, -1))
        numeric.view(-1)[place] = (up - down) / 2e-5
assert torch.allclose(z_5d.grad, numeric, atol=1e-7)
print("equal to the finite differences at the code, in all", numeric.numel(), "places")

# %% [markdown]
# ## 10.6 Three losses, three jobs
#
# One part has no gradient yet: the codebook. (10.9) goes around it. So two more terms are added,
#
# $$ L = \underbrace{\lVert x - D(e_\mathrm{st}) \rVert^2}_{\text{reconstruction}}
#      + \underbrace{\lVert \mathrm{sg}(z) - e \rVert^2}_{\text{codebook}}
#      + \beta\, \underbrace{\lVert z - \mathrm{sg}(e) \rVert^2}_{\text{commitment}} . \tag{10.10} $$
#
# The last two are the same number and pull at different ends. The *codebook loss* pulls the code towards the vectors that chose it: it is k-means' step (10.5), by gradient. The *commitment loss* pulls the encoder's vector towards the code it chose, so that it stays with it.
#
# $$ \frac{\partial}{\partial e} \lVert \mathrm{sg}(z) - e \rVert^2 = 2 (e - z), \qquad
#    \frac{\partial}{\partial z} \lVert z - \mathrm{sg}(e) \rVert^2 = 2 (z - e). \tag{10.11} $$
#
# In code all norms are *means* over the numbers, so that the weights mean the same for any size; the paper writes sums.

# %%
#| export
def codebook_loss(z: Tensor, e: Tensor) -> Tensor:
    """Mean squared distance that pulls the codes e to the vectors z, shapes alike (eq. 10.10).

    No gradient reaches z. 0 without any vector. Source: van den Oord et al. 2017, eq. 3; 10.6.
    """
    return _mean_square(z.detach() - e)


def commitment_loss(z: Tensor, e: Tensor) -> Tensor:
    """Mean squared distance that pulls the vectors z to their codes e, shapes alike (eq. 10.10).

    No gradient reaches e. 0 without any vector. Source: van den Oord et al. 2017, eq. 3; 10.6.
    """
    return _mean_square(z - e.detach())


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean() if x.numel() else x.sum()

# %% [markdown]
# By hand, $z = 3$ and $e = 1$: both losses are 4; one pulls $e$ up by a slope of 4, the other $z$ down by 4.

# %%
pulls = {}
for loss in (codebook_loss, commitment_loss):
    z_one, e_one = torch.tensor([3.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    slopes = torch.autograd.grad(loss(z_one, e_one), (z_one, e_one), allow_unused=True)
    pulls[loss.__name__] = [None if slope is None else float(slope) for slope in slopes]
show_table([[name, *pull] for name, pull in pulls.items()], ["", "slope of z", "slope of e"],
           digits=0)
assert pulls == {"codebook_loss": [None, -4], "commitment_loss": [4, None]}

# %% [markdown]
# ### Leave one out
#
# What each is for shows when it is missing. The smallest model that has all three parts: one number $z$ that is free (a perfect encoder), codes at 0 and 1, the decoder $D(e) = e$, and a target of $x = 10$ that no code is near to. Gradient descent, 400 steps:

# %%
def descent(codebook_weight, beta, steps=400, rate=0.05):
    """The path of z and of the nearest code: two lists."""
    z = torch.tensor([[0.7]], requires_grad=True)
    codebook = torch.tensor([[0.0], [1.0]], requires_grad=True)
    path = []
    for _ in range(steps):
        e = dequantise(nearest_codes(z, codebook), codebook)
        path.append((float(z.detach()), float(e.detach())))
        loss = (10 - straight_through(z, e)).square().mean()
        loss = loss + codebook_weight * codebook_loss(z, e) + beta * commitment_loss(z, e)
        slopes = torch.autograd.grad(loss, (z, codebook), allow_unused=True)
        with torch.no_grad():
            for x, slope in zip((z, codebook), slopes):
                x -= rate * (slope if slope is not None else 0)
    return zip(*path)

# %% [markdown]
# Four ways of weighting them:

# %%
WAYS = {"all three": (1, 0.25), "no codebook loss": (0, 0.25), "no commitment loss": (1, 0),
        "neither": (0, 0)}
figure, axes = plt.subplots(1, 4, figsize=(10, 2.5), sharey=True)
ends = {}
for axis, (name, weights) in zip(axes, WAYS.items()):
    z_path, e_path = descent(*weights)
    ends[name] = z_path[-1], e_path[-1]
    axis.plot(z_path, label="z")
    axis.plot(e_path, label="its code")
    axis.axhline(10, color="#707070", lw=0.8, ls="--")
    axis.set(title=name, xlabel="step", ylim=(-2, 60))
axes[0].legend()
show(figure, "The vector and its code on their way to a target of 10 (dashed).",
     "Four plots: with all three losses both lines meet at 10; without codebook loss z rises to 37 "
     "and the code stays at 1; without commitment z overshoots a little more and comes back; "
     "without both z rises steeply out of the picture.")

# %% [markdown]
# - *All three*: the vector runs ahead, the code follows, both arrive.
# - *Without the codebook loss* the code stays at 1. The vector feels a constant pull $2(e - x) = -18$, and the commitment holds it where both are equal, at $z = e + (x - e)/\beta = 1 + 9/0.25 = 37$. The decoder still gets a 1.
# - *Without the commitment* the codebook has to catch up with a vector that nothing holds: it overshoots by more, and takes longer. Here it does catch up. In a network, where thousands of vectors move at the same time, it may or may not: section 10.13 measures it.
# - *Neither*: the vector runs away in a straight line, for ever.

# %%
print({name: [round(value, 1) for value in pair] for name, pair in ends.items()})
assert abs(ends["all three"][0] - 10) < 0.1 and abs(ends["all three"][1] - 10) < 0.1
assert abs(ends["no codebook loss"][0] - 37) < 0.1 and ends["no codebook loss"][1] == 1
assert ends["neither"][0] > 300
overshoot = {name: max(list(descent(*WAYS[name]))[0])
             for name in ("all three", "no commitment loss")}
print("z rises to", {name: round(value, 1) for name, value in overshoot.items()})
assert overshoot["no commitment loss"] > overshoot["all three"] + 1

# %% [markdown]
# <details><summary>Quick question: what happens without the reconstruction loss?</summary>
#
# Vector and code pull at each other and meet between, wherever that is. Both losses become zero and the codes say nothing about $x$. The cheapest way for a network to satisfy them is to send everything to one vector.
# </details>
#
# ## 10.7 The module
#
# Convolutions give vectors as (batch, dim, step), the search wants the vector's numbers last. Otherwise all is there:

# %%
d = Diagram()
z_in = d.block("z, from the\nencoder", "(batch, dim, step)", kind="data")
search = d.block("nearest\n(10.2)", "(batch, step)", after=z_in)
letter = d.block("codes k", "whole numbers", kind="data", after=search)
look = d.block("look up", "(batch, dim, step)", after=letter)
through = d.block("straight\nthrough (10.9)", "(batch, dim, step)", after=look)
out = d.block("to the\ndecoder", "", kind="text", after=through)
book = d.block("codebook", "(code, dim)", kind="trained", at=(search.x + 0.75, -1.2))
d.arrow(book, search, route="corner")
d.arrow(book, look, route="corner")
d.arrow(z_in, through, "the gradient's way", route="over", dashed=True)
show(d.draw(), "A quantiser. Dashed: the way that gradients take, in the other direction.",
     d.in_words())

# %% [markdown]
# The codes start as small random numbers, uniformly between $-1/K$ and $1/K$: before the first step nobody knows where the vectors will be. `counts` keeps in mind how often each was used lately, a moving average of a batch's $n_k$; we need it in section 10.9, with `restart_below`.

# %%
#| export
class Quantised(NamedTuple):
    """What a quantiser gives: values (batch, dim, step) for the decoder, codes (batch, step), and
    the two losses of eq. 10.10, codebook (0 where it moves by other means) and commitment."""

    values: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor

# %% [markdown]
# What brings back codes that nobody uses stands here too, as the class needs it; section 10.9 explains it, and until there it is switched off.

# %%
#| export
def restart_codes(codebook: Tensor, counts: Tensor, z: Tensor, below: float,
                  generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Move codes that are hardly used to vectors of the batch, drawn at random.

    codebook: (code, dim). counts: (code,), how often each was used lately. z: (vector, dim).
    below: codes with a smaller count move. Returns the new codebook, and which moved, bool (code,).
    Where more move than there are vectors, these come again with a little noise, of
    0.01 / sqrt(dim), so that no two codes are alike; without any vector nothing moves. Source:
    Dhariwal et al. 2020, section 3.1 and their code; section 10.9.
    """
    _check_vectors(z, codebook)
    dead = counts < below
    wanted, dim = int(dead.sum()), codebook.shape[1]
    if not wanted or not len(z):
        return codebook, torch.zeros_like(dead)
    order = torch.randperm(len(z), generator=generator)[:wanted].to(z.device)
    chosen = z.detach()[order].to(codebook.dtype)                   # (vector, dim)
    if len(chosen) < wanted:
        chosen = chosen.repeat(math.ceil(wanted / len(z)), 1)[:wanted]
        noise = torch.randn(chosen[len(z):].shape, generator=generator).to(chosen)
        chosen[len(z):] += 0.01 / math.sqrt(dim) * noise
    moved = codebook.clone()
    moved[dead] = chosen
    return moved, dead

# %% [markdown]
# The module puts the pieces together:

# %%
#| export
class VectorQuantizer(nn.Module):
    """A codebook that is trained by the gradient of the codebook loss (eqs. 10.9 and 10.10).

    size: codes. dim: numbers of each. decay: of the moving average `counts` of a training batch's
    uses of each code, from 0 to below 1. restart_below: codes whose count falls below it are
    restarted (section 10.9); 0: never. z (batch, dim, step) to `Quantised`; in train mode counts
    and restarts follow, on one process's vectors. ValueError for other shapes and for NaN.
    Source: van den Oord et al. 2017; section 10.7.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.99, restart_below: float = 0.0):
        super().__init__()
        if size < 1 or dim < 1 or not 0 <= decay < 1 or not restart_below >= 0:
            raise ValueError(f"size is {size}, dim {dim}, decay {decay}, restart_below "
                             f"{restart_below}; expected at least one code and one number, a decay "
                             "from 0 to below 1, and a count from 0 on")
        self.size, self.dim, self.decay, self.restart_below = size, dim, decay, restart_below
        self.codebook = nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size))
        self.register_buffer("counts", torch.ones(size))

    def encode(self, z: Tensor) -> Tensor:
        """(batch, dim, step) to the codes (batch, step)."""
        if z.ndim != 3 or z.shape[1] != self.dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected (batch, {self.dim}, step)")
        return nearest_codes(z.movedim(1, -1), self.codebook)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, step) to their vectors (batch, dim, step)."""
        return dequantise(codes, self.codebook).movedim(-1, 1)

    def forward(self, z: Tensor) -> Quantised:
        codes = self.encode(z)
        e = self.decode(codes).to(z.dtype)
        if self.training and codes.numel():
            self.update(z.detach().movedim(1, -1).flatten(0, 1), codes.flatten())
        return Quantised(straight_through(z, e), codes, self.learn(z, e), commitment_loss(z, e))

    def learn(self, z: Tensor, e: Tensor) -> Tensor:
        """The codebook loss."""
        return codebook_loss(z, e)

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor) -> None:
        """What a training batch changes beside gradients: z (vector, dim), codes (vector,)."""
        _, counts = sums_and_counts(z.to(self.codebook.dtype), codes, self.size)
        self.counts.lerp_(counts, 1 - self.decay)
        self.restart(z)

    def restart(self, z: Tensor) -> None:
        """Restart what is hardly used; a restarted code counts as just alive."""
        moved, dead = restart_codes(self.codebook, self.counts, z, self.restart_below)
        self.codebook.copy_(moved)
        self.counts[dead] = self.restart_below

# %% [markdown]
# Its gradients must be those of the three losses by hand, each where it belongs; and the peers' package `vector_quantize_pytorch` must find the same codes and the same loss. It has one weight for both losses, whose values are equal.

# %%
torch.manual_seed(0)
quantizer = VectorQuantizer(12, 5).eval()
with torch.no_grad():
    quantizer.codebook.normal_()
z_in = torch.randn(2, 5, 30, requires_grad=True)
found = quantizer(z_in)
(found.values.sum() + found.codebook_loss + 0.25 * found.commitment_loss).backward()
e_in = quantizer.decode(found.codes)
assert torch.allclose(z_in.grad, 1 + 0.25 * 2 * (z_in - e_in) / z_in.numel(), atol=1e-6)
assert torch.allclose(found.values, e_in, atol=1e-6) and found.codes.shape == (2, 30)

# %% [markdown]
# The package, with the same codebook:

# %%
if importlib.util.find_spec("vector_quantize_pytorch"):
    from vector_quantize_pytorch import VectorQuantize
    theirs = VectorQuantize(5, codebook_size=12, learnable_codebook=True, ema_update=False,
                            rotation_trick=False)
    theirs._codebook.embed.data.copy_(quantizer.codebook.detach()[None])
    values, codes, loss = theirs(z_in.detach().movedim(1, 2))
    difference = abs(float((loss - found.commitment_loss).detach()))
    assert torch.equal(codes, found.codes) and difference < 1e-5
    assert torch.allclose(values.movedim(2, 1), found.values, atol=1e-5)
    print("same codes, values and loss as vector_quantize_pytorch")
else:
    print("vector_quantize_pytorch is not installed here; the course's tests compare with it")

# %% [markdown]
# ## 10.8 A codebook that follows by itself
#
# The codebook loss wants the means of the cells, (10.5), and a mean needs no gradient. The vectors change all the time, so neither does one batch suffice nor may the old ones count for ever: *moving averages* of each code's number of vectors and of their sum,
#
# $$ N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad m_k \leftarrow \gamma\, m_k + (1 - \gamma)\!\! \sum_{i:\,k(z_i)=k}\!\! z_i, \qquad e_k = \frac{m_k}{N_k} . \tag{10.12} $$
#
# The paper gives it in an appendix; Razavi, van den Oord and Vinyals (2019) train with it, $\gamma = 0.99$.

# %%
#| export
def ema_update(sums: Tensor, counts: Tensor, z: Tensor, codes: Tensor,
               decay: float) -> tuple[Tensor, Tensor]:
    """The moving averages of eq. 10.12 after a batch: new sums (code, dim) and counts (code,).

    sums, counts: those before. z: (vector, dim), codes: (vector,), their codes. decay: gamma,
    from 0 (only this batch counts) to 1 (nothing changes), else ValueError. All stay as they are.
    Source: van den Oord et al. 2017, appendix A.1; section 10.8.
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"decay is {decay}; expected a number from 0 to 1, such as 0.99")
    batch_sums, batch_counts = sums_and_counts(z.to(sums.dtype), codes, len(sums))
    return torch.lerp(batch_sums, sums, decay), torch.lerp(batch_counts, counts, decay)


def ema_codebook(sums: Tensor, counts: Tensor, smoothing: float = 1e-5) -> Tensor:
    """The codes (code, dim) of the averages sums (code, dim) and counts (code,) (eq. 10.12).

    smoothing: eps of eq. 10.13, so that nothing is divided by zero. Source: section 10.8.
    """
    total = counts.sum()
    smoothed = (counts + smoothing) / (total + len(counts) * smoothing) * total
    return sums / smoothed.clamp_min(torch.finfo(sums.dtype).tiny)[:, None]

# %% [markdown]
# A code that is never chosen has $N_k \to 0$, and its sum goes to zero with it. So that the division survives it, every count gets a tiny bit more, at the others' expense (*Laplace smoothing*), with $K$ codes and $N = \sum_k N_k$:
#
# $$ \tilde N_k = \frac{N_k + \varepsilon}{N + K \varepsilon}\, N . \tag{10.13} $$

# %%
#| export
class EMAVectorQuantizer(VectorQuantizer):
    """A codebook that follows its vectors by moving averages (eq. 10.12), with restarts.

    Arguments, shapes and errors as in `VectorQuantizer`; smoothing: eps of eq. 10.13. The codebook
    gets no gradient, the codebook loss is 0. A batch is quantised by the codes as they were before
    it. Source: van den Oord et al. 2017, appendix A.1; Razavi et al. 2019; section 10.8.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.99, restart_below: float = 1.0,
                 smoothing: float = 1e-5):
        super().__init__(size, dim, decay, restart_below)
        self.smoothing = smoothing
        first = self.codebook.detach()
        del self.codebook                                           # no parameter any more
        self.register_buffer("codebook", first)
        self.register_buffer("sums", first.clone())

    def learn(self, z: Tensor, e: Tensor) -> Tensor:
        """No loss: the codebook moves without."""
        return z.new_zeros(())

    @torch.no_grad()
    def update(self, z: Tensor, codes: Tensor) -> None:
        """Move the averages, the codes and what is to be restarted."""
        sums, counts = ema_update(self.sums, self.counts, z, codes, self.decay)
        self.sums.copy_(sums)
        self.counts.copy_(counts)
        self.codebook.copy_(ema_codebook(sums, counts, self.smoothing))
        self.restart(z)

    def restart(self, z: Tensor) -> None:
        """Restart what is hardly used; a restarted code is the mean of as many as keep it alive."""
        moved, dead = restart_codes(self.codebook, self.counts, z, self.restart_below)
        self.codebook.copy_(moved)
        self.counts[dead] = self.restart_below
        self.sums[dead] = moved[dead] * self.restart_below

# %% [markdown]
# The same update by the package, three batches long:

# %%
ema, batches_3 = EMAVectorQuantizer(12, 5, restart_below=0.0).train(), torch.randn(3, 2, 5, 30)
if importlib.util.find_spec("vector_quantize_pytorch"):
    theirs = VectorQuantize(5, codebook_size=12, decay=0.99, rotation_trick=False).train()
    for name in ("embed", "embed_avg"):
        getattr(theirs._codebook, name).copy_(ema.codebook[None])
    for batch in batches_3:
        mine, (_, codes, loss) = ema(batch), theirs(batch.movedim(1, 2))
        difference = abs(float((mine.commitment_loss - loss).detach()))
        assert torch.equal(mine.codes, codes) and difference < 1e-5
    assert torch.allclose(ema.codebook, theirs._codebook.embed[0], rtol=1e-5, atol=1e-6)
    print("same codes, commitment loss and codebook after three batches")

# %% [markdown]
# ### When is that a gradient step?
#
# Put (10.12) together for a code with $n$ vectors of mean $\bar z$ in the batch, before which $m = N e$:
#
# $$ e' = \frac{\gamma N e + (1 - \gamma) n \bar z}{\gamma N + (1 - \gamma) n}
#       = e + \underbrace{\frac{(1 - \gamma)\, n}{\gamma N + (1 - \gamma)\, n}}_{a} \, (\bar z - e). \tag{10.14} $$
#
# A gradient step of size $\eta$ on the sum of squares $\sum_i \lVert z_i - e \rVert^2$ of that cell is $e' = e + 2 \eta n (\bar z - e)$. Both go the same way. So (10.12) *is* gradient descent with a rate of its own for each code, $\eta_k = a / (2 n)$. Three limits:
#
# - steady use, $N = n$: then $a = 1 - \gamma$, a step that does not depend on how often a code is used; plain gradient descent moves rare codes slowly, by $2\eta n$,
# - $\gamma = 0$: $a = 1$, each batch is a step of k-means,
# - $\gamma \to 1$: $a \to 0$, infinitely small steps.

# %%
cloud = torch.randn(400, 2, generator=P.generator).double()
e_0 = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, 1.0]]).double()
k_0 = nearest_codes(cloud, e_0)
sums_0, n_0 = sums_and_counts(cloud, k_0, 3)
def by_ema(gamma, N):
    """The codes after one update, N the counts before."""
    return ema_codebook(*ema_update(e_0 * N[:, None], N, cloud, k_0, gamma), smoothing=0.0)

# %% [markdown]
# And the gradient steps that (10.14) says they equal, by autograd on the sum of squares, each code with its rate:

# %%
leaf = e_0.clone().requires_grad_()
slope, = torch.autograd.grad((cloud - leaf[k_0]).square().sum(), leaf)
by_gradient = lambda a: e_0 - (a / (2 * n_0))[:, None] * slope
steady = by_gradient(torch.full((3,), 0.01, dtype=torch.double))
N_other = n_0 * torch.tensor([0.5, 3.0, 20.0])
a_other = 0.01 * n_0 / (0.99 * N_other + 0.01 * n_0)
equal = lambda x, y: torch.allclose(x, y, rtol=0, atol=1e-12)
assert equal(by_ema(0.99, n_0), steady)                             # steady use
assert equal(by_ema(0.99, N_other), by_gradient(a_other))           # any use
assert equal(by_ema(0.0, N_other), kmeans(cloud, 3, 1, codebook=e_0))
print("EMA = gradient step of rate a / 2n; gamma = 0: k-means")

# %% [markdown]
# ## 10.9 Collapse
#
# Both ways share a weakness. A code moves only if it is chosen, and is chosen only if it is near. A code that starts in the wrong place is never chosen, never moves, and stays in the wrong place: it is *dead*. Nothing in the loss says so.
#
# Codes start around zero, a tiny cloud. Put the data elsewhere, as an encoder will: four clusters away from the origin. Quantisers with 32 codes see 128 points at a time, for 400 batches.

# %%
centres = torch.tensor([[2.0, 2.0], [3.5, 2.0], [2.5, 3.5], [4.0, 4.0]])
def clusters(count, generator):
    """Points (count, 2) of four clusters."""
    which = torch.randint(0, 4, (count,), generator=generator)
    return centres[which] + 0.35 * torch.randn(count, 2, generator=generator)

def trained_on_points(quantizer, steps=400):
    """The perplexity of each batch; the codebook moves by its own means or by Adam."""
    generator, found = torch.Generator().manual_seed(1), []
    learned = list(quantizer.parameters())
    adam = torch.optim.Adam(learned, 1e-2) if learned else None
    for _ in range(steps):
        out = quantizer.train()(clusters(128, generator).T[None])
        found.append(float(perplexity(code_counts(out.codes, quantizer.size))))
        if adam:
            adam.zero_grad()
            out.codebook_loss.backward()
            adam.step()
    return found

# %% [markdown]
# Both kinds of codebook, each with and without the cure that comes below:

# %%
torch.manual_seed(0)
kinds = {"gradient": VectorQuantizer(32, 2), "EMA": EMAVectorQuantizer(32, 2, restart_below=0.0),
         "gradient, restarts": VectorQuantizer(32, 2, restart_below=0.5),
         "EMA, restarts": EMAVectorQuantizer(32, 2, restart_below=0.5)}
curves = {name: trained_on_points(quantizer) for name, quantizer in kinds.items()}

# %% [markdown]
# How many codes are in use, and where they are in the end:

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
for name, curve in curves.items():
    axes[0].plot(curve, label=name)
axes[0].set(xlabel="batch", title="perplexity, of 32 codes")
axes[0].legend(fontsize=7)
some = clusters(600, torch.Generator().manual_seed(2))
for axis, name in zip(axes[1:], ("EMA", "EMA, restarts")):
    axis.plot(*some.T, ".", ms=2, color="#9a9a9a")
    axis.plot(*kinds[name].codebook.detach().T, "o", ms=5, color="#D55E00", mec="black")
    axis.set(title=name, xlim=(-0.5, 5.2), ylim=(-0.5, 5.2))
show(figure, "Left: how many codes are in use. Middle, right: where the codes (orange) end up.",
     "Perplexity stays at a few codes without restarts and rises to above twenty with them; in the "
     "middle plot most codes sit at the origin, in the right one they spread over four clusters.")

# %% [markdown]
# Without restarts one or two codes do all the work: those that happened to stand on the right side of the tiny cloud. The rest sits near the origin. Worse, with EMA and its smoothing (10.13) it goes *to* the origin: the sums of an unused code shrink a little faster than its smoothed count.
#
# The cure is blunt and works (Dhariwal et al. 2020, for Jukebox): if a code's count falls below a threshold, put it on a vector of the batch, drawn at random. The drawn vector lies where the data are, so the code is chosen at once, by that vector if by no other. In `restart_codes` above that is the middle part of the cell. Exactly which, on a small example:

# %%
moved, dead = restart_codes(e_tiny, torch.tensor([5.0, 0.2, 0.0]), z_tiny, below=1.0,
                            generator=torch.Generator().manual_seed(0))
print(moved, dead.tolist())
assert torch.equal(moved[0], e_tiny[0]) and dead.tolist() == [False, True, True]
assert all((row == z_tiny).all(1).any() for row in moved[1:])
assert not torch.equal(moved[1], moved[2])

# %% [markdown]
# And in numbers, for all four:

# %%
last = {name: sum(curve[-50:]) / 50 for name, curve in curves.items()}
show_table([[name, round(value)] for name, value in last.items()],
           ["", "perplexity, last 50 batches"])
for kind in ("gradient", "EMA"):
    assert last[kind] < 10 and last[f"{kind}, restarts"] > 20

# %% [markdown]
# Why start the codes so badly at all? One may start them on vectors of the first batch. It helps, and it does not protect: while the encoder learns, its vectors wander off and leave codes behind. Restarts are the start from data, repeated whenever it is needed.

# %% [markdown]
# ## 10.10 The network
#
# Now the points come from an encoder. Ours has three strided convolutions (section 6.2; in the drawing $K$ is the length of a kernel and $s$ its stride, while in the formulas $K$ goes on counting codes), by 4, 4 and 2, so one vector for 32 samples; after the second and third stand *dilated residual blocks*, two each, which look further around without striding: a convolution of three steps that are $3^l$ apart, added to its input. The decoder goes back the same way, with two blocks before each of its three transposed convolutions. Jukebox's networks
# (chapter 11) are made of the same parts, in greater number.

# %%
d = Diagram()
x_in = d.block("audio", "(1, 32 m)", kind="data", at=(0, 0))
before = x_in
for number, (stride, steps, at) in enumerate(((4, "8 m", 1.35), (4, "2 m", 2.85), (2, "m", 4.35))):
    words = f"conv. K = {2 * stride},\ns = {stride}" + (", 2 blocks" if number else "")
    before = d.block(words, f"(32, {steps})", kind="trained", after=before, at=(at, 0))
z_out = d.block("conv. K = 3", "z (16, m)", kind="trained", after=before, at=(5.75, 0))
letter = d.block("quantiser", "k (m), e (16, m)", kind="trained", at=(7.2, -0.75))
d.arrow(z_out, letter, route="corner")
before = d.block("conv. K = 3", "(32, m)", kind="trained", at=(5.75, -1.5))
d.arrow(letter, before, route="corner")

# %% [markdown]
# The way back, from right to left:

# %%
for stride, shape, at in ((2, "(32, 2 m)", 4.35), (4, "(32, 8 m)", 2.85), (4, "(1, 32 m)", 1.35)):
    words = f"2 blocks, transp.\nK = {2 * stride}, s = {stride}"
    before = d.block(words, shape, kind="trained", after=before, at=(at, -1.5))
heard = d.block("audio", "(1, 32 m)", kind="data", after=before, at=(0, -1.5))
show(d.draw(), "The small VQ-VAE of this chapter; (channels, steps), m letters.", d.in_words())

# %% [markdown]
# ### A plain forward
#
# As code that one can read in one go, with a stride of 4 only and one block on each side. `quantise` is anything that gives `Quantised`.

# %%
class PlainVQVAE(nn.Module):
    """Audio (batch, 1, 4 m) to its reconstruction and what the quantiser said."""

    def __init__(self, quantise, channels, dim):
        super().__init__()
        self.down = nn.Conv1d(1, channels, 8, 4, padding=2)
        self.look = nn.Conv1d(channels, channels, 3, padding=1)
        self.to_z, self.from_e = nn.Conv1d(channels, dim, 1), nn.Conv1d(dim, channels, 1)
        self.look_back = nn.Conv1d(channels, channels, 3, padding=1)
        self.up, self.quantise = nn.ConvTranspose1d(channels, 1, 8, 4, padding=2), quantise

    def forward(self, x):
        h = self.down(x)                                            # (batch, channel, m)
        h = h + self.look(torch.relu(h))                            # a residual block
        found = self.quantise(self.to_z(h))                         # values (batch, dim, m)
        h = self.from_e(found.values)
        h = h + self.look_back(torch.relu(h))
        return self.up(h), found                                    # (batch, 1, 4 m)

# %% [markdown]
# Its shapes, and that a gradient arrives at the first layer:

# %%
torch.manual_seed(0)
plain = PlainVQVAE(EMAVectorQuantizer(8, 3), 16, 3)
back, found = plain(torch.randn(2, 1, 40))
(back.square().sum() + found.commitment_loss).backward()
print(tuple(back.shape), tuple(found.codes.shape))
assert back.shape == (2, 1, 40) and found.codes.shape == (2, 10)
assert plain.down.weight.grad.abs().sum() > 0                       # straight through to the front

# %% [markdown]
# ### The reusable form
#
# For any list of strides, without a quantiser for comparison, and for audio of any length: zeros after the end up to a whole number of letters, which the output loses again.

# %%
#| export
class DilatedResidual(nn.Module):
    """A look around that is added to its input: (batch, channel, step) to the same (section 10.10).

    A convolution of three steps, `dilation` apart, and one of one step, a ReLU before each.
    Source: the residual blocks of Dhariwal et al. 2020, section 3.
    """

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.wide = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(torch.relu(self.wide(torch.relu(x))))


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [DilatedResidual(channels, 3 ** depth) for depth in range(count)]

# %% [markdown]
# The two ways, as lists of layers:

# %%
#| export
def _both_ways(dim: int, channels: int, strides: Sequence[int], blocks: int) -> tuple:
    """Encoder (batch, 1, time) to (batch, dim, step), and the decoder that goes back."""
    if not strides or any(stride < 2 or stride % 2 for stride in strides):
        raise ValueError(f"strides is {tuple(strides)}; expected even numbers from 2 on")
    down, up = [], []
    for depth, stride in enumerate(strides):
        kernel = {"kernel_size": 2 * stride, "stride": stride, "padding": stride // 2}
        outer = channels if depth else 1
        inner = _blocks(channels, blocks if depth else 0)
        down += [nn.Conv1d(outer, channels, **kernel), *inner]
        up = [*_blocks(channels, blocks), nn.ConvTranspose1d(channels, outer, **kernel), *up]
    return (nn.Sequential(*down, nn.Conv1d(channels, dim, 3, padding=1)),
            nn.Sequential(nn.Conv1d(dim, channels, 3, padding=1), *up))

# %% [markdown]
# And the network:

# %%
#| export
QUANTIZERS = {"ema": EMAVectorQuantizer, "gradient": VectorQuantizer}


class SmallVQVAE(nn.Module):
    """A convolutional VQ-VAE for mono audio: (batch, 1, time) to (batch, 1, time) and `Quantised`.

    size: codes; 0: an autoencoder without a quantiser, whose vectors z pass as they are. dim:
    numbers of a code. channels: of all layers. strides: even numbers from 2 on; their product is
    `hop_length`, the samples of a code. blocks: dilated residual blocks after each stride but the
    first, and before each transposed convolution of the way back. quantizer: "ema" or "gradient".
    options: of its class, such as restart_below.
    Audio of any length from one sample on; a last code may stand for less than hop_length.
    ValueError for other shapes, integers, NaN. Silence is audio.
    Source: van den Oord et al. 2017, with blocks as Dhariwal et al. 2020; section 10.10.
    """

    def __init__(self, size: int = 256, dim: int = 16, channels: int = 32,
                 strides: Sequence[int] = (4, 4, 2), blocks: int = 2, quantizer: str = "ema",
                 **options):
        super().__init__()
        if quantizer not in QUANTIZERS:
            raise ValueError(f"quantizer is {quantizer!r}; expected one of {', '.join(QUANTIZERS)}")
        self.size, self.hop_length = size, math.prod(strides)
        self.encoder, self.decoder = _both_ways(dim, channels, strides, blocks)
        self.quantizer = QUANTIZERS[quantizer](size, dim, **options) if size else None

    def latents(self, x: Tensor) -> Tensor:
        """The encoder's vectors z, not quantised: (batch, 1, time) to (batch, dim, step)."""
        check_audio(x=x)
        if x.ndim != 3 or x.shape[1] != 1 or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, 1, time), mono, with "
                             "at least one sample")
        if not torch.isfinite(x).all():
            raise ValueError("x holds samples that are NaN or infinite; expected finite ones")
        return self.encoder(F.pad(x, (0, -x.shape[-1] % self.hop_length)))

    def encode(self, x: Tensor) -> Tensor:
        """(batch, 1, time) to codes (batch, step), step = time / hop_length, rounded up."""
        return self._quantizer().encode(self.latents(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, step) to audio (batch, 1, step hop_length)."""
        return self.decoder(self._quantizer().decode(codes))

    def forward(self, x: Tensor) -> tuple[Tensor, Quantised | None]:
        z = self.latents(x)
        found = self.quantizer(z) if self.quantizer is not None else None
        return self.decoder(z if found is None else found.values)[..., :x.shape[-1]], found

    def _quantizer(self) -> VectorQuantizer:
        if self.quantizer is None:
            raise ValueError("this network has size 0 and no codes; expected one with a codebook")
        return self.quantizer

# %% [markdown]
# Checks: every length comes back, decoding the codes is the forward pass, silence passes, and a gradient gets to the very first layer.

# %%
torch.manual_seed(0)
network = SmallVQVAE(32, 4, 8).eval()
for time in (1, 31, 32, 100):
    x = torch.randn(2, 1, time)
    with torch.no_grad():
        y, found = network(x)
        assert y.shape == x.shape and found.codes.shape == (2, math.ceil(time / 32))
        assert torch.allclose(network.decode(network.encode(x))[..., :time], y, atol=1e-5)
assert network(torch.zeros(1, 1, 64))[0].isfinite().all()

# %% [markdown]
# The gradient, and the sizes:

# %%
y, found = network(torch.randn(2, 1, 64))
y.sum().backward()
assert network.encoder[0].weight.grad.abs().sum() > 0
weights = sum(p.numel() for p in SmallVQVAE().parameters())
print(f"{weights} weights, and a codebook of", SmallVQVAE().quantizer.codebook.numel(), "numbers")

# %% [markdown]
# The training step is (10.10). The squared error is divided by the *power* of the training songs, one number for all, so that 1 means that nothing was learned, and $\beta$ and learning rate do not depend on how loud the songs are.

# %%
#| export
class VQVAEStep:
    """A training step of a VQ-VAE on the mixtures of a batch of chunks (eq. 10.10).

    Called with (model, chunks): chunks (batch, source, 1, time), whose sum over sources the model
    rebuilds, or mixtures (batch, 1, time). Gives a dict: loss, reconstruction, commitment,
    perplexity of the batch. beta: weight of the commitment loss. codebook: weight of the codebook
    loss. reconstruction: weight of the error. power: mean square of the training audio, > 0.
    ValueError for negative weights. Source: van den Oord et al. 2017, eq. 3; section 10.10.
    """

    def __init__(self, beta: float = 0.25, codebook: float = 1.0, reconstruction: float = 1.0,
                 power: float = 1.0):
        if min(beta, codebook, reconstruction) < 0 or not power > 0:
            raise ValueError(f"beta is {beta}, codebook {codebook}, reconstruction "
                             f"{reconstruction}, power {power}; expected weights from 0 on and a "
                             "power above 0")
        self.beta, self.codebook, self.reconstruction = beta, codebook, reconstruction
        self.power = power

    def __call__(self, model: nn.Module, chunks: Tensor) -> dict[str, Tensor]:
        x = chunks.sum(1) if chunks.ndim == 4 else chunks           # (batch, 1, time)
        y, found = model(x)
        error = (y - x).square().mean() / self.power
        if found is None:
            return {"loss": self.reconstruction * error, "reconstruction": error.detach()}
        loss = (self.reconstruction * error + self.codebook * found.codebook_loss
                + self.beta * found.commitment_loss)
        used = perplexity(code_counts(found.codes, model.size))
        return {"loss": loss, "reconstruction": error.detach(),
                "commitment": found.commitment_loss.detach(), "perplexity": used}

# %% [markdown]
# And what it is judged by: the SNR of each song (3.1), and the perplexity over all of them.

# %%
#| export
@torch.no_grad()
def reconstruction_scores(model: nn.Module, data: Sequence) -> dict[str, float]:
    """Mean SNR in dB of mono tracks' mixtures after the model, and perplexity of all their codes.

    model: such as `SmallVQVAE`, taken in eval mode. data: tracks; one whose SNR is undefined
    (silence) is left out. Without a codebook there is no perplexity. Section 10.10.
    """
    training, scores, counts = model.training, [], torch.zeros(max(1, model.size))
    model.eval()
    for track in data:
        x = track.mixture[None]                                     # (batch, channel, time)
        y, found = model(x)
        scores.append(float(snr(y[0, 0], x[0, 0])))
        if found is not None:
            counts += code_counts(found.codes, model.size)
    model.train(training)
    known = [score for score in scores if not math.isnan(score)]
    result = {"snr": sum(known) / len(known) if known else math.nan}
    return {**result, "perplexity": float(perplexity(counts))} if model.size else result

# %% [markdown]
# ## 10.11 A training, live
#
# Six songs of the band, mono at 22,050 Hz, chunks of 0.375 s, eight at a time, for as many steps as the set-up says. Two networks with the same first weights, which differ in one thing: whether codes are restarted.

# %%
songs = experiment.songs_of("train", P.songs, 20.0, None)
def trained_live(restart_below):
    """A network after P.steps steps, and its log."""
    torch.manual_seed(0)
    model = SmallVQVAE(256, restart_below=restart_below)
    chunks = RandomChunks(songs, 0.375, P.steps * P.batch, seed=0)
    history = fit(model, VQVAEStep(power=experiment.POWER), process_batches(chunks, P.batch),
                  torch.optim.Adam(model.parameters(), 2e-3),
                  FitSettings(P.steps, clip=5.0, validate_every=10 ** 9), progress=False)
    return model.eval(), history.steps

# %% [markdown]
# Both, and their logs:

# %%
live = {"restarts": trained_live(1.0), "no restarts": trained_live(0.0)}
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, (_, log) in live.items():
    for axis, what in zip(axes, ("reconstruction", "perplexity")):
        axis.plot([line["step"] for line in log], [line[what] for line in log], label=name)
axes[0].set(xlabel="step", title="squared error, 1 = the songs' power", ylim=(0, 1.4))
axes[1].set(xlabel="step", title="perplexity of a batch, of 256 codes", yscale="log")
axes[1].legend()
show(figure, "The first steps of two networks.", "Left, error falls with restarts and more slowly "
     "without; right, perplexity on a log axis, high with restarts and low without.")

# %% [markdown]
# The encoder starts with small vectors around some mean, and without restarts one code or a handful is the nearest to all of them. The decoder then hears the same letter again and again, and can't tell one moment from another. As the vectors spread, more codes come into reach, slowly; with restarts many are there after a handful of steps.

# %%
tail = {name: sum(line["perplexity"] for line in log[-10:]) / 10
        for name, (_, log) in live.items()}
print("more than three times the perplexity with restarts:",
      tail["restarts"] > 3 * tail["no restarts"])
assert tail["restarts"] > 3 * tail["no restarts"]

# %% [markdown]
# ## 10.12 Collapse on songs
#
# The comparison proper was run by `course experiment vqvae`: the same network trained on 60 songs of the band, every variant with two seeds; then 20 test songs, the middle four seconds of each. The trainings are short, as the next cell says: what follows compares *equal and small* effort, and none of these networks is done learning.

# %%
runs, logs = measured("10_vq_vae/runs"), measured("10_vq_vae/logs")
card = measured_card("10_vq_vae/runs")["settings"]
test_songs = list(dict.fromkeys(row["song"] for row in measured("10_vq_vae/songs")))
table = {(row["variant"], int(row["size"]), int(row["seed"]), row["song"]): float(row["song_snr"])
         for row in measured("10_vq_vae/songs")}
def song_snr(variant, size=256):
    """SNR in dB: (seed, song)."""
    return torch.tensor([[table[variant, size, seed, song] for song in test_songs]
                         for seed in range(card["seeds"])])
def of_runs(variant, what, size=256):
    """A column of the table of runs, one number a seed."""
    return [float(row[what]) for row in runs
            if (row["variant"], int(row["size"])) == (variant, size)]
print(len(runs), "trainings of", card["steps"], "steps,",
      round(sum(float(row["cpu_seconds"]) for row in runs) / 60), "minutes of one core together")

# %% [markdown]
# The two ways to move a codebook, each with and without restarts, on their way:

# %%
CODEBOOKS = ("EMA, restarts", "EMA, no restarts", "gradient, restarts", "gradient, no restarts")
figure, axis = plt.subplots(figsize=(7.6, 2.8))
for number, variant in enumerate(CODEBOOKS):
    for seed, style in enumerate(("-", "--")):
        lines = [row for row in logs if (row["variant"], row["size"], row["seed"]) ==
                 (variant, "256", str(seed))]
        axis.semilogy([int(row["step"]) for row in lines],
                      [float(row["perplexity"]) for row in lines], style, color=f"C{number}",
                      label=None if seed else variant)
axis.set(xlabel="step", ylabel="perplexity of a batch")
axis.legend(fontsize=8)
show(figure, "How many of 256 codes are in use while training; solid and dashed: two seeds.",
     "Log plot: the variants with restarts rise to more than a hundred, EMA without to thirty, the "
     "gradient without to about seven.")

# %% [markdown]
# And at their end, on songs that none of them was trained on:

# %%
show_table([[variant, " / ".join(f"{value:.0f}" for value in of_runs(variant, "perplexity")),
             " / ".join(f"{value:.0f}" for value in of_runs(variant, "used")),
             mean_interval(song_snr(variant).mean(0))] for variant in CODEBOOKS],
           ["256 codes", "perplexity (by seed)", "used (by seed)", "SNR (dB)"], digits=1,
           caption=f"{len(test_songs)} test songs of the band, {card['steps']} steps, two seeds; "
           "mean and 95% interval over songs. Silence would have 0 dB.")
for kind in ("EMA", "gradient"):
    assert min(of_runs(f"{kind}, restarts", "perplexity")) > 3 * max(
        of_runs(f"{kind}, no restarts", "perplexity"))

# %% [markdown]
# Restarts matter more than how the codebook moves. Without them only a small part of the 256 codes is in use, and the error is what a far smaller alphabet would give: with moving averages it lies between that of 16 and that of 64 codes (section 10.14), with the codebook loss it is worse than that of 16. The letters cost eight bits all the same. With restarts, too, the codebook loss does a little worse than moving averages: its codes follow with
# Adam's learning rate, which is small at the end and the same for all, (10.14).

# %%
def change(first, second, size=256):
    """How far the first variant is ahead: (seed, song)."""
    return song_snr(first, size) - song_snr(second, size)
def in_words(first, second):
    """The paired difference over songs, mean over seeds, and each seed's mean."""
    difference = change(first, second)
    by_seed = ", ".join(f"{value:+.2f}" for value in difference.mean(1).tolist())
    return f"{difference_in_words(difference)} (by seed {by_seed})"
def apart(*variants):
    """How far the two seeds of a variant are apart in dB, the largest of the variants."""
    means = [song_snr(variant).mean(1) for variant in variants]
    return max(float(mean.max() - mean.min()) for mean in means)
print("restarts, EMA:      ", in_words("EMA, restarts", "EMA, no restarts"))
print("restarts, gradient: ", in_words("gradient, restarts", "gradient, no restarts"))
print("EMA over gradient:  ", in_words("EMA, restarts", "gradient, restarts"))
print(f"two seeds of a variant are up to {apart(*CODEBOOKS):.2f} dB apart")
for seed in range(card["seeds"]):
    by_alphabet = [float(song_snr("EMA, restarts", size)[seed].mean()) for size in (16, 64)]
    assert by_alphabet[0] < float(song_snr("EMA, no restarts")[seed].mean()) < by_alphabet[1]
    assert float(song_snr("gradient, no restarts")[seed].mean()) < by_alphabet[0]

# %% [markdown]
# ## 10.13 Leave one out
#
# Section 10.6 took the losses apart in one dimension. Now in the network, 256 codes each. *z* is the level (root mean square) of the encoder's vectors on the test songs, *codes* that of the codes they use.

# %%
LEFT_OUT = ("EMA, restarts", "no straight-through", "no codebook loss", "no commitment loss",
            "beta 2")
show_table([[variant, mean_interval(song_snr(variant).mean(0)),
             *(" / ".join(f"{value:.{digits}f}" for value in of_runs(variant, what))
               for what, digits in (("perplexity", 0), ("z_rms", 2), ("codes_rms", 2)))]
            for variant in LEFT_OUT],
           ["", "SNR (dB)", "perplexity", "z", "codes"], digits=1,
           caption=f"{len(test_songs)} test songs, {card['steps']} steps; the SNR is the mean of "
           "two seeds, else both are given. The first row has all: EMA, beta 0.25, restarts.")

# %% [markdown]
# - *Straight-through*: without it the encoder hears nothing of the reconstruction. Only the commitment moves it, and that is satisfied most cheaply by vectors that hardly move at all. The letters say nothing, and the decoder gives silence, 0 dB.
# - *Codebook loss*: the codes stay in the tiny cloud they were drawn in. The pull of the reconstruction finds no answer there, and drives the vectors as far out as the commitment lets them go, as in the second plot of section 10.6.
# - *Commitment*: nothing holds the vectors, as in section 10.6. They run away to hundreds of times their size, the codes run after them and don't catch up: nearly half of the alphabet is lost, and several decibels.
# - Its *weight* is far less important than that it is there.

# %%
print("straight-through:   ", in_words("EMA, restarts", "no straight-through"))
print("commitment:         ", in_words("EMA, restarts", "no commitment loss"))
print("beta 2 over 0.25:   ", in_words("beta 2", "EMA, restarts"))
growth = [a / b for a, b in zip(of_runs("no commitment loss", "z_rms"),
                                of_runs("EMA, restarts", "z_rms"))]
print("z without commitment, times as large:", [round(value, 1) for value in growth])
assert (change("EMA, restarts", "no straight-through").mean(1) > 0.5).all()

# %% [markdown]
# ## 10.14 Rate and distortion
#
# What does a larger alphabet buy? The same network with 16, 64, 256 and 1024 codes, against its bounds: the autoencoder that quantises nothing (16 floats for 32 samples; no codebook can be better than the space it lies in, at equal training), and two ways without a trained quantiser, at the same bits:
#
# - *k-means on samples*: 32 samples are a vector, as in section 10.3. No network at all.
# - *k-means on latents*: the unquantised autoencoder's vectors, quantised after its training. Its decoder never met a quantised vector.

# %%
bounds = measured("10_vq_vae/bounds")
sizes = experiment.SIZES
def bound(method, size):
    """SNR in dB of a bound: (seed, song)."""
    found = {(row["seed"], row["song"]): float(row["song_snr"]) for row in bounds
             if row["method"] == method and int(row["codes"]) == size}
    return torch.tensor([[found[str(seed), song] for song in test_songs]
                         for seed in range(card["seeds"])])
rates = [bits_per_second(rate, 32, size) / 1000 for size in sizes]
by_method = {"VQ-VAE": [song_snr("EMA, restarts", size) for size in sizes],
             "k-means on latents": [bound("k-means on latents", size) for size in sizes],
             "k-means on samples": [bound("k-means on samples", size) for size in sizes]}
ceiling = song_snr("unquantised", 0)

# %% [markdown]
# As a picture, error over rate:

# %%
figure, axis = plt.subplots(figsize=(7.6, 3.2))
for (name, scores), marker in zip(by_method.items(), "osD"):
    means = [mean_interval(score.mean(0)) for score in scores]
    spread = [[mean - low for mean, low, _ in means], [high - mean for mean, _, high in means]]
    axis.errorbar(rates, [mean for mean, _, _ in means], spread, marker=marker, capsize=3,
                  label=name)
axis.axhline(float(ceiling.mean()), color="#606060", ls="--", label="unquantised")
axis.axhline(0, color="#606060", lw=0.8, label="silence")
axis.set(xlabel="kbit/s", ylabel="SNR (dB)", xticks=rates, ylim=(-0.5, 17))
axis.set_xticklabels([f"{value:.2f}\n{size} codes" for value, size in zip(rates, sizes)])
axis.legend(fontsize=8, ncols=2)
show(figure, f"Rate and distortion on {len(test_songs)} test songs; mean over two seeds, 95% "
     "interval over songs.",
     "Three rising lines over the bit rate, k-means on samples above the VQ-VAE above k-means on "
     "latents; a dashed line for the unquantised autoencoder far above, silence at zero.")

# %% [markdown]
# And as numbers:

# %%
show_table([[size, kbit, *(mean_interval(scores[place].mean(0)) for scores in by_method.values()),
             " / ".join(f"{value:.0f}" for value in of_runs("EMA, restarts", "perplexity", size))]
            for place, (size, kbit) in enumerate(zip(sizes, rates))],
           ["codes", "kbit/s", *by_method, "perplexity"], digits=2,
           caption=f"SNR in dB, {len(test_songs)} songs; the unquantised autoencoder has "
           f"{float(ceiling.mean()):.1f} dB.")

# %% [markdown]
# Three things can be read.
#
# - Each doubling of the alphabet buys the VQ-VAE between half a decibel and one. By (10.6) a gain of 1 dB is what a space of six dimensions would give, half a decibel one of twelve: that is about how many directions are worth describing at these sizes.
# - Training *through* the quantiser pays: at every size the VQ-VAE is ahead of codes that are put afterwards into the space of a network which, unquantised, is far better than either. Its space was made for something else.
# - The plain rival is ahead of both, at 16 codes by a hair, and has no network. A stretch of 32 samples lasts 1.5 ms; of the band's music it holds hardly more than a slow bend, which a few numbers describe, and k-means has found its optimum, which a network after so few steps has not.
#
# The numbers behind the first two, and whether the alphabet of 1024 is in use:

# %%
dB = {name: [float(score.mean()) for score in scores] for name, scores in by_method.items()}
for name, means in dB.items():
    print(f"{name}: dB for each doubling of the codes",
          [round((b - a) / 2, 2) for a, b in zip(means, means[1:])])
dimensions = [6.02 / ((b - a) / 2) for a, b in zip(dB["VQ-VAE"], dB["VQ-VAE"][1:])]
print("the VQ-VAE's gains are those of a space of", [round(d) for d in dimensions], "dimensions")
assert all(afterwards < through < plain for afterwards, through, plain in zip(
    dB["k-means on latents"], dB["VQ-VAE"], dB["k-means on samples"]))
print("of the codes of 1024:", [round(value) for value in of_runs("EMA, restarts", "used", 1024)],
      "in use")

# %% [markdown]
# Is it that the network has not learned long enough? `vqvae_band_256` was trained five times as long. Some of the same songs, scored now:

# %%
tests = [experiment.middle(track, card["score_seconds"])
         for track in experiment.songs_of("test", 8, card["song_seconds"], None)]
longer = torch.tensor(experiment.scored(ours, tests)[0])            # (song,)
assert [track.name for track in tests] == test_songs[:8]
ahead = {"k-means on samples": longer - by_method["k-means on samples"][2].mean(0)[:8],
         "the network after a fifth of the steps": longer - by_method["VQ-VAE"][2].mean(0)[:8]}
show_table([[f"ahead of {name}", mean_interval(difference)] for name, difference in ahead.items()],
           [f"{ours.card['steps']} steps, 256 codes", "dB"], digits=1,
           caption="Paired over 8 test songs, one seed, 95% interval.")

# %% [markdown]
# It is. With more steps the network passes the rival, by less than it gained itself. What k-means can never have, the network has from the start: its decoder sees neighbours, so that letters share the work and stretches join.
#
# ## 10.15 Listen
#
# The networks that come with the course are trained longer than those of the tables: their cards say how long. First a test song of the band, then the recording of the beginning.

# %%
nets = {"16 codes": load_trained("vqvae_band_16"), "256 codes": ours,
        "no codebook": load_trained("autoencoder_band")}
band = experiment.songs_of("test", 2, 20.0, None)[1].mixture[:, 6 * rate:12 * rate]
def rebuilt(name, x):
    """Audio (1, time) through a network."""
    with torch.no_grad():
        return nets[name](x[None])[0][0]
for name, net in nets.items():
    print(f"{name}: {net.card['steps']} steps,",
          f"{net.card['score']['snr']:.1f} dB on the validation songs")
listen(band, rate, "a test song of the band")
for name in reversed(nets):
    listen(rebuilt(name, band), rate, f"the same, {name}")

# %% [markdown]
# The recording, of which none of them has heard the like:

# %%
listen(song, rate, "Karissa Hobbs, Let's Go Fishin'")
for name in reversed(nets):
    listen(rebuilt(name, song), rate, f"the same, {name}")

# %% [markdown]
# And its rival at 256 codes, which has no network: stretches of 32 samples, one after the other, each the nearest of 256 that k-means found in six songs of the band. You hear where they are joined.

# %%
waves = torch.cat([experiment.stretches(track.mixture, 32) for track in songs])[::8]
wave_book = kmeans(waves, 256, 15, torch.Generator().manual_seed(0))
joined = dequantise(nearest_codes(experiment.stretches(song, 32), wave_book), wave_book).flatten()
listen(joined[None], rate, "256 stretches of waveform")

# %% [markdown]
# What is lost is not spread evenly. Squared error counts energy, energy is in the bass, and the letters are spent where the energy is.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.0), sharey=True)
pictures = {"original": song, "no codebook": rebuilt("no codebook", song),
            "256 codes": rebuilt("256 codes", song)}
for axis, (name, sound) in zip(axes, pictures.items()):
    plot_spectrogram(sound, rate, name, axis="mel", loudest=0.0, colour_bar=False, ax=axis)
show(figure, "The recording, rebuilt with and without a codebook.",
     "Three spectrograms; the rebuilt ones end near 1.5 kHz, and the one in letters has noise "
     "between its harmonics.")

# %% [markdown]
# In numbers, band by band:

# %%
edges = [0, 500, 1000, 2000, 4000, 11025]
def band_snr(sound, low, high):
    """SNR in dB of the part between two frequencies."""
    X, Y = (torch.fft.rfft(x[0]) for x in (song, sound))
    f = torch.fft.rfftfreq(song.shape[-1], 1 / rate)
    inside = (f >= low) & (f < high)
    error = (X - Y)[inside].abs().square().sum()
    return float(10 * torch.log10(X[inside].abs().square().sum() / error))
by_band = {name: [band_snr(rebuilt(name, song), low, high) for low, high in zip(edges, edges[1:])]
           for name in reversed(nets)}
show_table([[name, *scores] for name, scores in by_band.items()],
           ["SNR (dB)", *(f"{low}-{high} Hz" for low, high in zip(edges, edges[1:]))], digits=1,
           caption="The recording, by frequency. 0 dB: as good as silence.")
assert all(scores[0] > scores[-1] + 5 for scores in by_band.values())

# %% [markdown]
# Below 500 Hz the letters do well. Above two kilohertz *none* of the networks has learned anything, 0 dB is what silence has, not even the one without a codebook: the dull sound is the loss's fault and the short training's, not the alphabet's. What the alphabet takes away is lower down, and the noise between the harmonics, which the right picture shows, is what you hear of it. Chapter 11 gives the loss an ear, spectra at several resolutions, and the alphabet more levels.
#
# ### What a letter says
#
# Last, the letters themselves. How often is each used, and what does one sound like when it is said again and again?

# %%
shares = code_counts(letters, 256).sort(descending=True)
figure, axis = plt.subplots(figsize=(7.6, 2.2))
axis.bar(range(256), shares.values / letters.numel() * 100, width=1.0)
axis.set(xlabel="letters, the most frequent first", ylabel="% of the song", xlim=(-1, 256))
show(figure, "How often the recording uses each of the 256 letters.",
     "Bars that fall from about two percent for the first letters to nothing for the last.")
print("perplexity of the song:", round(float(perplexity(code_counts(letters, 256)))),
      "- letters it never uses:", int((shares.values == 0).sum()))

# %% [markdown]
# Now say them:

# %%
with torch.no_grad():
    said = torch.cat([ours.decode(torch.full((1, 345), int(letter)))[0]
                      for letter in shares.indices[:6]], dim=-1)     # half a second each
listen(said, rate, "the six most frequent letters, half a second each")
spectrum = torch.fft.rfft(said[0, 22_050 // 10:22_050 // 10 + 32 * 200]).abs()
tones = spectrum[200::200].square().sum() / spectrum[1:].square().sum()
print("in the harmonics of", round(rate / 32), "Hz:", f"{100 * float(tones):.0f}% of its energy")
assert float(tones) > 0.95

# %% [markdown]
# One letter, said again and again, repeats every 32 samples: a buzz, or nothing. It is no note and no drum. Letters mean something only beside their neighbours, as those of an alphabet do; what they say together is for chapter 12 to learn.
#
# ## 10.16 What we built
#
# | name | what | section |
# |---|---|---|
# | `bits_per_second` | rate of codes | 10.1 |
# | `squared_distances`, `nearest_codes`, `dequantise` | to the nearest code and back | 10.2 |
# | `sums_and_counts`, `kmeans` | where codes belong | 10.3 |
# | `code_counts`, `perplexity` | how many are in use | 10.4 |
# | `straight_through` | a gradient around the choice | 10.5 |
# | `codebook_loss`, `commitment_loss` | what pulls at codes and vectors | 10.6 |
# | `Quantised`, `VectorQuantizer` | a codebook by gradient | 10.7 |
# | `ema_update`, `ema_codebook`, `EMAVectorQuantizer` | a codebook by moving averages | 10.8 |
# | `restart_codes` | dead codes come back | 10.9 |
# | `DilatedResidual`, `SmallVQVAE`, `VQVAEStep`, `reconstruction_scores` | the network and its training | 10.10 |
#
# All of it is in `course_lib.vqvae`. The comparison is `course experiment vqvae`; `course train vqvae_band_256`, `vqvae_band_16` and `autoencoder_band` train the networks that one hears.

# %% [markdown]
# ## 10.17 Paper claims
#
# Three papers: van den Oord, Vinyals and Kavukcuoglu (2017), Razavi, van den Oord and Vinyals (2019), Dhariwal et al. (2020). Their numbers come from images, speech with a WaveNet as decoder, and a million songs; in miniature one can test what is said about the parts.

# %%
paper = {row["claim"]: float(row["value"]) for row in published("vq_vae")}
OORD, DHARIWAL, HERE = ("van den Oord et al. 2017", "Dhariwal et al. 2020", "this chapter")
by_beta = float(change("beta 2", "EMA, restarts").mean())
chance = apart("EMA, restarts", "beta 2")
def verdict(first, second):
    """Same trend, if the difference is also larger than what two seeds are apart."""
    difference = change(first, second)
    return same_trend(difference) if difference.mean() > apart(first, second) else NOT_SEEN
claims = [
    Claim("The straight-through gradient trains the encoder", OORD, "10.13", "order only",
          difference_in_words(change("EMA, restarts", "no straight-through")),
          verdict("EMA, restarts", "no straight-through")),
    Claim("Without commitment vectors outgrow their codes; it helps", OORD, "10.13", "order only",
          f"{difference_in_words(change('EMA, restarts', 'no commitment loss'))}; z "
          f"{growth[0]:.1f} and {growth[1]:.1f} times as large without",
          verdict("EMA, restarts", "no commitment loss")),
    Claim(f"Its weight hardly matters: 2 for 0.25 (within {chance:.1f} dB, as two seeds)", OORD,
          "10.13",
          f"{paper['smallest commitment weight without effect']:g} to "
          f"{paper['largest commitment weight without effect']:g}",
          f"{by_beta:+.2f} dB", reproduced(by_beta, 0, chance))]

# %% [markdown]
# The codebook's own, and what can't be tested here:

# %%
claims += [
    Claim("Moving averages do better than the codebook loss", HERE, "10.12", None,
          difference_in_words(change("EMA, restarts", "gradient, restarts")),
          verdict("EMA, restarts", "gradient, restarts")),
    Claim("Restarts keep the codebook in use, and that is heard in the error", DHARIWAL, "10.12",
          "order only", f"perplexity {of_runs(CODEBOOKS[0], 'perplexity')[0]:.0f} against "
          f"{of_runs(CODEBOOKS[1], 'perplexity')[0]:.0f}; "
          + difference_in_words(change("EMA, restarts", "EMA, no restarts")),
          verdict("EMA, restarts", "EMA, no restarts")),
    Claim("Codes nearly do what continuous latents do (CIFAR-10)", OORD, "10.14",
          f"{paper['VQ-VAE on CIFAR-10']:g} against {paper['VAE on CIFAR-10']:g} bits",
          f"not run; ours cost {float((ceiling - by_method['VQ-VAE'][2]).mean()):.1f} dB at 256",
          NEEDS_REAL_DATA),
    Claim("Codes of speech tell phonemes", OORD, "10.15",
          f"{paper['phonemes from codes']:g}%, chance {paper['phonemes by chance']:g}%", "not run",
          NEEDS_REAL_DATA)]

# %% [markdown]
# And our own:

# %%
latents, samples = by_method["k-means on latents"][2], by_method["k-means on samples"][2]
claims += [
    Claim("EMA with steady use is a gradient step, with gamma = 0 k-means", HERE, "10.8", "theorem",
          "equal to 1e-12", reproduced(by_ema(0.99, n_0), steady, 1e-12)),
    Claim(f"At 256 codes and {card['steps']} steps the network beats k-means on the waveform", HERE,
          "10.14", None, difference_in_words(by_method["VQ-VAE"][2] - samples),
          same_trend(by_method["VQ-VAE"][2] - samples)),
    Claim(f"After {ours.card['steps']} steps it does", HERE, "10.14", None,
          difference_in_words(ahead["k-means on samples"]),
          same_trend(ahead["k-means on samples"])),
    Claim("Training with the quantiser beats quantising afterwards", HERE, "10.14", None,
          difference_in_words(by_method["VQ-VAE"][2] - latents),
          same_trend(by_method["VQ-VAE"][2] - latents))]
show_claims(claims)

# %% [markdown]
# What the papers say about the parts holds in miniature, where it could be tested, and no number of theirs was: the songs are generated, the networks small and hardly trained, 20 songs and two seeds. One row is our own expectation, and it failed: at equal, small effort the codes of a network are no better than k-means without any. Squared error is also the rival's home ground; how either *sounds* no row says.
#
# ## 10.18 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/10_vq_vae.ipynb) has more tasks, with checks.
#
# **1. Bits.** Jukebox's top level: 44,100 Hz, a code for 128 samples, 2048 codes. How many kbit/s? And its bottom level, a code for 8 samples?
#
# <details><summary>Answer</summary>
#
# 3.8 and 60.6, a factor of 16, as the two hops have it.
#
# ```python
# assert round(bits_per_second(44_100, 128, 2048) / 1000, 1) == 3.8
# assert round(bits_per_second(44_100, 8, 2048) / 1000, 1) == 60.6
# ```
# </details>
#
# **2. Far from home.** (10.3) subtracts large numbers when $z$ and the codes are far from the origin. Move both by 3000 and count how many codes of `z_some` come out wrong in 32 bits. What helps?
#
# <details><summary>Answer</summary>
#
# Distances do not change when the same vector is taken from both: subtract the codes' mean first.
#
# ```python
# z_some, e_some = torch.randn(300, 5), torch.randn(40, 5)
# right = nearest_codes(z_some, e_some)
# far_z, far_e = z_some + 3000, e_some + 3000
# wrong = (nearest_codes(far_z, far_e) != right).float().mean()
# middle = far_e.mean(0)
# mended = (nearest_codes(far_z - middle, far_e - middle) != right).float().mean()
# assert wrong > 0.1 and mended < 0.05
# ```
# </details>
#
# **3. A gradient for the codebook?** Take (10.9) with the roles of $z$ and $e$ exchanged, `e + (z - e).detach()`. What does the decoder get, and what does the codebook learn from the reconstruction?
#
# <details><summary>Answer</summary>
#
# The decoder gets $z$, not quantised, so that nothing is learned about codes: forward, the bottleneck is gone.
#
# ```python
# z, e = torch.randn(4, 5), torch.randn(4, 5, requires_grad=True)
# other = straight_through(e, z)
# assert torch.allclose(other, z) and torch.autograd.grad(other.sum(), e)[0].eq(1).all()
# ```
# </details>
#
# **4. Unused and shrinking.** Show that by (10.12) with $\varepsilon = 0$ an unused code stays where it is, and that with $\varepsilon > 0$ it goes to the origin.
#
# <details><summary>Answer</summary>
#
# Sum and count shrink alike, and their quotient stays; with smoothing the count has a floor and the sum has none.
#
# ```python
# sums, counts = torch.tensor([[5.0], [2.0]]).double(), torch.tensor([1.0, 1.0]).double()
# only_first = torch.zeros(4, dtype=torch.long)
# for _ in range(3000):
#     sums, counts = ema_update(sums, counts, torch.full((4, 1), 5.0).double(), only_first, 0.99)
# assert abs(float(ema_codebook(sums, counts, 0.0)[1]) - 2) < 1e-6
# assert float(ema_codebook(sums, counts, 1e-5)[1]) < 1e-3
# ```
# </details>
#
# **5. An entropy coder.** How many bits a letter would the recording's letters of section 10.15 need at best, if each is written alone? Is it less than 8?
#
# <details><summary>Answer</summary>
#
# $H = \log_2$ of the perplexity; always at most $\log_2 K$, and the less, the more unequal the shares.
#
# ```python
# from course_lib.data.recordings import recording
# from course_lib.training import load_trained
# x, _ = recording("fishin", 22_050, mono=True, start=12.0, seconds=6.0)
# with torch.no_grad():
#     letters = load_trained("vqvae_band_256").encode(x[None])
# H = float(perplexity(code_counts(letters, 256)).log2())
# assert 2 < H < 8
# ```
# </details>
#
# **6. Open.** Restarts put codes on vectors drawn at random. What if they were drawn with a probability that grows with their distance from their code (as k-means++ starts)? Does the perplexity rise, does the SNR?

# %% [markdown]
# ## 10.19 Sources
#
# - A. van den Oord, O. Vinyals and K. Kavukcuoglu, *Neural discrete representation learning*, NeurIPS 2017 (arXiv 1711.00937).
# - A. Razavi, A. van den Oord and O. Vinyals, *Generating diverse high-fidelity images with VQ-VAE-2*, NeurIPS 2019 (arXiv 1906.00446).
# - P. Dhariwal, H. Jun, C. Payne, J. W. Kim, A. Radford and I. Sutskever, *Jukebox: a generative model for music*, 2020 (arXiv 2005.00341), section 3.
# - Y. Bengio, N. Léonard and A. Courville, *Estimating or propagating gradients through stochastic neurons for conditional computation*, 2013 (arXiv 1308.3432).
# - S. P. Lloyd, *Least squares quantization in PCM*, IEEE Transactions on Information Theory 28, 1982 (written 1957); A. Gersho and R. M. Gray, *Vector quantization and signal compression*, 1992.
# - The package `vector-quantize-pytorch` 1.32 (MIT), which the tests compare with. All code here is the course's own.
#
# Recording: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive under CC BY 3.0, as shipped for `librosa.ex`.
