# %% [markdown]
# # Chapter 12 · Priors and sampling, a language model of codes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/12_priors_and_sampling.ipynb)
#
# A codec turns music into a row of whole numbers, the codes, and codes back into music. Whoever can write *new* rows of codes that look like
# music can therefore compose. A model that says how likely a row is, and lets one draw new ones, is called a **prior**. Jukebox has three of them: one
# for the coarsest codes, and two that fill in what is finer. You build all of it, with the official tensor names, and every part gives the numbers of the
# reference implementation. What you train here learns from the band's melodies, where a code is a note and one can read, hear and check what came of it. At the end two trained priors write ten seconds of music, and go on from a song of your own.
#
# **You will be able to**
# - say in bits how well a model knows a row of codes, and beat the counts of single codes and of pairs,
# - write attention that looks at a row, a column or the row before, and show that it is dense attention under a mask,
# - build Jukebox's transformer, its labels, its upsamplers and both of its ways to hear lyrics,
# - keep keys and values, so that sampling takes time in proportion to what is new,
# - sample with temperature, top-k and nucleus, from nothing, from a given beginning, and beyond the context,
# - count the parameters of the published priors without the memory for them.
#
# **You need** chapter 8 (attention) and the idea of a codebook (chapters 10 and 11); the chapter runs without them.
#
# **Time** <!-- minutes 12_priors_and_sampling -->2 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 12.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp priors
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("12_priors_and_sampling", threads=1,
          cpu=dict(songs=350, steps=400, label_steps=250, up_steps=200, tokens=256,
                   new_seconds=10, prime_seconds=3, more_seconds=3, draw_seconds=2),
          gpu=dict(songs=2000, steps=2000, label_steps=1000, up_steps=1000, tokens=512,
                   new_seconds=20, prime_seconds=6, more_seconds=10, draw_seconds=5))

# %% [markdown]
# What we write becomes the module `course_lib/priors.py`.

# %%
#| export
import math
from collections.abc import Mapping, Sequence
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.progress import progress as progress_bar

# %% [markdown]
# The rest serves the chapter only.

# %%
import time
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import recording
from course_lib.data.band import compose, sung_syllables
from course_lib.data.band.styles import STYLES
from course_lib.experiments import priors as experiment
from course_lib.generation_command import asked_labels, read_prime
from course_lib.notebook import (Diagram, listen, mean_interval, plot_spectrogram, show,
                                 show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, reproduced,
                                        same_trend, show_claims)
from course_lib.results import measured, published
from course_lib.training import load_trained

# %% [markdown]
# ## 12.1 What a row of codes costs
#
# We need codes that we can read. The band's lead singers give some: cut a song into sixteenths, sixteen to a bar, and write for each what the voice does. Code 0 is
# a rest, code 1 goes on with the note, and code $2 + n$ begins a note, $n$ semitones above a low E.

# %%
REST, HOLD, LOWEST, CODES, BAR = 0, 1, 40, 48, 16

def melody(song):
    """The lead voice of a song as codes, one a sixteenth: (time,); None where nobody sings."""
    notes = [note for part in song.parts if part.stem == "vocals" and part.role == "lead"
             for note in part.notes]
    grid = np.interp(np.arange(4 * len(song.beats) - 3) / 4, range(len(song.beats)), song.beats)
    codes = torch.full((len(grid),), REST)
    for note in sorted(notes):
        first, last = (int(np.abs(grid - t).argmin()) for t in
                       (note.onset, note.onset + note.duration))
        codes[first:last] = HOLD
        codes[first] = 2 + int(min(max(note.pitch - LOWEST, 0), CODES - 3))
    return codes if notes else None

# %% [markdown]
# Look at one song, two bars:

# %%
song = compose(1009)
codes = melody(song)
print(song.style, song.key, f"{song.bpm:.0f} beats a minute")
for bar in codes[:2 * BAR].view(2, BAR).tolist():
    print(" ".join(f"{code:2d}" for code in bar))
assert codes.max() < CODES and (codes[codes > 1] + LOWEST - 2).min() >= LOWEST

# %% [markdown]
# And the way back to sound: a tone with a few harmonics a note. It's our decoder, so to speak.

# %%
RATE = 22_050

def play(codes, bpm=110.0, rate=RATE):
    """Codes (time,) as sound (1, time)."""
    step = round(rate * 15 / bpm)                                   # samples of a sixteenth
    audio, codes, at = torch.zeros(1, step * len(codes)), codes.tolist(), 0
    while at < len(codes):
        end = at + 1
        while end < len(codes) and codes[end] == HOLD:
            end += 1
        if codes[at] > HOLD:
            t = torch.arange((end - at) * step) / rate
            pitch = 440 * 2 ** ((codes[at] - 2 + LOWEST - 69) / 12)
            tone = sum(torch.sin(2 * torch.pi * k * pitch * t) / k ** 2 for k in (1, 2, 3, 4))
            audio[0, at * step:end * step] = 0.3 * tone * torch.exp(-2 * t) * (1 - t / t[-1])
        at = end
    return audio

listen(play(codes[:6 * BAR], song.bpm), RATE, "the lead voice as codes, played back")

# %% [markdown]
# Eight bars are an example. A song that is shorter is left out; the last part of the songs is kept for the test, and no song is in both.

# %%
LENGTH = 8 * BAR

def example(seed):
    """(song, its first eight bars (time,)), or None where it has less."""
    song = compose(seed)
    codes = melody(song)
    return None if codes is None or len(codes) < LENGTH else (song, codes[:LENGTH])

# %% [markdown]
# A fifth of the songs for the test:

# %%
examples = [one for seed in range(1000, 1000 + P.songs) if (one := example(seed))]
held = len(examples) // 5
train_songs, test_songs = examples[:-held], examples[-held:]
test = torch.stack([codes for _, codes in test_songs])              # (song, time)
print(f"{len(train_songs)} songs to learn from, {len(test)} to test, {LENGTH} codes each")

# %% [markdown]
# The band transposes at will, so we may, too: in training every melody is moved by up to five semitones. That leaves out no rule of music, and makes eleven songs of one.

# %%
def transposed(codes, semitones):
    """All notes moved; rests and holds stay."""
    return torch.where(codes > HOLD, (codes + semitones).clamp(2, CODES - 1), codes)

train = torch.stack([codes for _, codes in train_songs])            # (song, time)
moved = torch.cat([transposed(train, n) for n in range(-5, 6)])
assert (moved <= HOLD).equal((train <= HOLD).repeat(11, 1))

# %% [markdown]
# **The chain rule.** A row $z = z_1 \dots z_T$ of codes (in this chapter, as in Jukebox's paper, $z$ stands for the *codes*, not for the encoder's vectors of chapters 10 and 11) has a probability, and without any assumption it is a product of guesses, each of the next code from all before it:
#
# $$ p(z) = \prod_{t=1}^{T} p(z_t \mid z_1, \dots, z_{t-1}). \tag{12.1} $$
#
# How good are the guesses? Take the mean of what each code was worth,
#
# $$ \text{bits per code} = -\frac1T \sum_{t=1}^{T} \log_2 p(z_t \mid z_{<t}). \tag{12.2} $$
#
# It is what a perfect packer would need to store the row with this model's help. Who knows nothing needs $\log_2$ of the size of the codebook.

# %%
def bits(p):
    """Eq. 12.2 for the probabilities that each code was given."""
    return float(-p.log2().mean())

assert bits(torch.full((10,), 1 / 8)) == 3.0                        # eight equally likely codes
print(f"a blind guess: {math.log2(CODES):.1f} bits per code")

# %% [markdown]
# Two models that only count. **Unigram**: how frequent is the code? **Bigram**: how frequent is it after the one before? One is added to every count, so that nothing is impossible.

# %%
def unigram(rows):
    """(code,): how likely each code is."""
    counts = torch.bincount(rows.flatten(), minlength=CODES) + 1.0
    return counts / counts.sum()

def bigram(rows):
    """(code before, code): how likely each is after each."""
    pairs = (rows[:, :-1] * CODES + rows[:, 1:]).flatten()
    counts = torch.bincount(pairs, minlength=CODES ** 2).view(CODES, CODES) + 1.0
    return counts / counts.sum(-1, keepdim=True)

# %% [markdown]
# Counted on the songs to learn from; each must be a distribution:

# %%
one, two = unigram(moved), bigram(moved)
assert abs(float(one.sum()) - 1) < 1e-5 and torch.allclose(two.sum(-1), torch.ones(CODES))

# %% [markdown]
# Their cost on the test songs, code by code (the first code has none before it, so the bigram takes the unigram's guess):

# %%
def bigram_probabilities(rows):
    """What the bigram gave each code: (song, time)."""
    return torch.cat([one[rows[:, :1]], two[rows[:, :-1], rows[:, 1:]]], 1)

unigram_bits = -one[test].log2().mean(1)                            # (song,)
bigram_bits = -bigram_probabilities(test).log2().mean(1)
show_table([["blind", math.log2(CODES)], ["unigram", float(unigram_bits.mean())],
            ["bigram", float(bigram_bits.mean())]], ["model", "bits per code"], digits=1,
           caption=f"{len(test)} test songs of {LENGTH} codes.")
assert (unigram_bits - bigram_bits).mean() > 0.3

# %% [markdown]
# What we train below learns anew in every run, so its last digits differ between machines. Of it the text only says what holds with a margin: that a difference is larger than something, with its whole interval over songs.

# %%
def sure(differences, least, unit, what="songs"):
    """In words, and checked: the mean of paired differences has its 95% interval above `least`."""
    _, low, _ = mean_interval(differences)
    assert low > least, f"the interval begins at {low:.3f}"
    return f"by more than {least:g} {unit}, {len(differences)} {what}"

print("the bigram is better than the unigram", sure(unigram_bits - bigram_bits, 0.3, "bits"))

# %% [markdown]
# Draw from the bigram, and listen. Each step is possible, and the whole goes nowhere: no bar repeats another, for after one code all else is forgotten.

# %%
row = torch.multinomial(one, 1, generator=P.generator)
while len(row) < LENGTH:
    row = torch.cat([row, torch.multinomial(two[row[-1]], 1, generator=P.generator)])
listen(play(row[:6 * BAR]), RATE, "drawn from the bigram")

# %% [markdown]
# How much is there to remember? Ask how often a note begins where another began a given number of steps earlier:

# %%
def repeats(rows, lag):
    """How often a note begins `lag` steps after the beginning of another."""
    begins = rows > HOLD
    return float(begins[:, :-lag][begins[:, lag:]].float().mean())

# %% [markdown]
# For all distances up to five bars, on the test songs:

# %%
lags = list(range(1, 5 * BAR))
shares = [repeats(test, lag) for lag in lags]
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.bar(lags, shares, color=["C1" if lag % BAR == 0 else "C0" for lag in lags], width=0.9)
axis.set(xlabel="steps earlier", ylabel="share of notes")
show(figure, "How often a note began there before; orange: one, two, three, four bars earlier.",
     "Bars over lags from 1 to 79, low but for the multiples of 16, which stand out.")

# %% [markdown]
# What is worth knowing stands *whole bars* earlier: the rhythm comes back. A model should reach back several bars, and it should be easy for it to look at the same place of earlier bars.
# Keep this in mind for section 12.3.

# %%
at_bars = [repeats(test, n * BAR) for n in (1, 2, 3, 4)]
elsewhere = [repeats(test, lag) for lag in lags if lag % BAR]
print(f"whole bars earlier: {np.mean(at_bars):.1f}; at other distances: {np.mean(elsewhere):.1f}")
assert min(at_bars) > 1.5 * np.mean(elsewhere)

# %% [markdown]
# ## 12.2 The parts of a block
#
# Jukebox's transformer is a relative of GPT-2. Three things are different from chapter 8's layer: it may only look *back*; its linear layers keep their weights the other way
# round; and the activation is a cheap GELU.
#
# **Linear layers, GPT-2 style.** $y = x W + b$ with $W$ of shape (in, out), named `w` and `b`. PyTorch's `Linear` keeps (out, in). Reading a checkpoint without knowing this gives shapes that fit wherever in = out, and nonsense.

# %%
#| export
class Conv1D(nn.Module):
    """A linear layer x w + b on the last axis, weights (in, out), as GPT-2 keeps them.

    n_in, n_out: sizes. zero_out: begin with w = 0; else normal of deviation 0.02 * init_scale.
    Tensor names as openai/jukebox. Source: Radford et al. 2019; section 12.2.
    """

    def __init__(self, n_in: int, n_out: int, zero_out: bool = False, init_scale: float = 1.0):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n_in, n_out))
        self.b = nn.Parameter(torch.zeros(n_out))
        if not zero_out:
            nn.init.normal_(self.w, std=0.02 * init_scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.w.T, self.b)

# %% [markdown]
# **Quick GELU.** The true GELU is $x\,\Phi(x)$, with the normal distribution's $\Phi$. A sigmoid comes near it and costs less: $x\,\sigma(1.702\,x)$.

# %%
#| export
def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), any shape. Source: Hendrycks and Gimpel 2016; section 12.2."""
    return x * torch.sigmoid(1.702 * x)

# %% [markdown]
# How near?

# %%
x = torch.linspace(-4, 4, 801)
furthest = (quick_gelu(x) - F.gelu(x)).abs().max()
print(f"at most {float(furthest):.2f} away from the true GELU")
assert 0.01 < furthest < 0.03

# %% [markdown]
# **The small network** of each token has one hidden layer, in Jukebox as wide as the token itself (the usual transformer takes four times that).

# %%
#| export
class MLP(nn.Module):
    """Each token on its own: n_in to n_state, quick GELU, back to n_in (section 12.2)."""

    def __init__(self, n_in: int, n_state: int, resid_dropout: float = 0.0,
                 zero_out: bool = False, init_scale: float = 1.0):
        super().__init__()
        self.c_fc = Conv1D(n_in, n_state, init_scale=init_scale)
        self.c_proj = Conv1D(n_state, n_in, zero_out, init_scale)
        self.resid_dropout = nn.Dropout(resid_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.resid_dropout(self.c_proj(quick_gelu(self.c_fc(x))))

# %% [markdown]
# **Only back.** The guess of code $t$ may use codes before $t$. If attention saw later ones, training would be reading the answer. So of the products of (8.1) those with later keys are set to $-\infty$ before the softmax, and their weights are 0:

# %%
products = torch.zeros(4, 4)
later = torch.ones(4, 4).triu(1).bool()                             # key after query
weights = products.masked_fill(later, -torch.inf).softmax(-1)
print(weights.numpy().round(2))
assert weights[0].tolist() == [1, 0, 0, 0] and torch.allclose(weights.sum(-1), torch.ones(4))

# %% [markdown]
# With several heads, on projections that are already made:

# %%
#| export
def attend(q: Tensor, k: Tensor, v: Tensor, n_head: int, causal: bool = False) -> Tensor:
    """Softmax attention in heads: q (batch, query, n_state), k and v (batch, key, n_state) to
    (batch, query, n_state).

    n_head: divides n_state. causal: query m sees the keys 0 to m only. Source: eq. 8.1;
    section 12.2.
    """
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    heard = F.scaled_dot_product_attention(q, k, v, is_causal=causal)     # (batch, head, query, c)
    return heard.transpose(1, 2).flatten(2)

# %% [markdown]
# The test of "only back": change the last key and value, and nothing but the last answer may change.

# %%
q, k, v = (torch.randn(1, 6, 8, generator=P.generator) for _ in range(3))
before = attend(q, k, v, 2, causal=True)
k[:, -1], v[:, -1] = 9.0, 9.0
after = attend(q, k, v, 2, causal=True)
assert torch.equal(before[:, :-1], after[:, :-1]) and not torch.equal(before[:, -1], after[:, -1])

# %% [markdown]
# ## 12.3 A row, a column, the row before
#
# Jukebox's top prior sees 8192 codes at once. Dense attention would compute $8192^2/2 = 33.6$ million weights in each head of each layer. Instead the row of codes is folded into a table of **blocks**, like a page of text, and a layer looks
# along one direction only. Which directions? For our melodies make a block of each bar:
#
# - **row**: the codes of this block, up to here: the bar so far,
# - **column**: the codes at the same place of all blocks before: the same beat of earlier bars,
# - **previous row**: *all* codes of the block before: the whole bar before this one.
#
# In an official configuration they take turns: row, column, previous row, row, ... Here is who may see whom:

# %%
#| export
DENSE, ROW, COLUMN, PREVIOUS, ENCODER, LYRICS = 0, 1, 2, 3, 6, 7   # openai/jukebox's numbers


def allowed_pairs(kind: int, time: int, block: int, lyrics: int = 0) -> Tensor:
    """Which query sees which key: bool (query, key), for the kinds DENSE, ROW, COLUMN, PREVIOUS and
    LYRICS (the first `lyrics` keys only, up to the query).

    time: codes; block: codes of a row. A row all False (PREVIOUS in the first block) means that
    the query hears zeros. ValueError for another kind. Source: Dhariwal et al. 2020, section 4;
    section 12.3.
    """
    query, key = torch.arange(time)[:, None], torch.arange(time)
    before = key <= query
    masks = {DENSE: before, ROW: before & (query // block == key // block),
             COLUMN: before & (query % block == key % block),
             PREVIOUS: query // block == key // block + 1, LYRICS: before & (key < lyrics)}
    if kind not in masks:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(map(str, masks))}")
    return masks[kind]

# %% [markdown]
# For four blocks of four codes:

# %%
names = {ROW: "row", COLUMN: "column", PREVIOUS: "previous row"}
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.9), sharey=True)
for axis, (kind, name) in zip(axes, names.items()):
    axis.imshow(allowed_pairs(kind, 16, 4), cmap="Blues", vmin=0, vmax=1.3)
    axis.set(title=name, xlabel="key", xticks=range(0, 16, 4), yticks=range(0, 16, 4))
axes[0].set_ylabel("query")
show(figure, "Who (query, downwards) may see whom (key, to the right): 16 codes, blocks of four.",
     "Three tables of 16 by 16 cells: blue triangles on the diagonal; slanted rows of dots; "
     "squares one block below the diagonal.")

# %% [markdown]
# A layer alone sees little. But tokens pass on what they have heard. What can the last code know after several layers? Multiply the masks, layer by layer (each token keeps what it has: the residual):

# %%
def reach(kinds, time, block):
    """Which codes each token can have heard of after layers of these kinds: bool (query, key)."""
    known = torch.eye(time)
    for kind in kinds:
        known = ((allowed_pairs(kind, time, block).float() + torch.eye(time)) @ known > 0).float()
    return known.bool()

# %% [markdown]
# For five stacks of layers:

# %%
rows = [[", ".join(names[kind] for kind in kinds), int(reach(kinds, 64, 8)[-1].sum())]
        for kinds in ([ROW], [COLUMN], [ROW, COLUMN], [ROW, COLUMN, PREVIOUS], [COLUMN, ROW])]
show_table(rows, ["layers", "codes that the last of 64 can know"], caption="Eight blocks of eight.")
assert rows[2][1] == 64 and rows[0][1] == rows[1][1] == 8

# %% [markdown]
# Two layers are enough for the *last* code. For one in the middle of a block it isn't: what comes later in an earlier block than its own place is out of reach. The third kind mends that.

# %%
whole = allowed_pairs(DENSE, 64, 8)
missing = {tuple(kinds): int((whole & ~reach(kinds, 64, 8)).sum())
           for kinds in ([ROW, COLUMN], [ROW, COLUMN, PREVIOUS], [ROW, COLUMN, PREVIOUS] * 2)}
for kinds, count in missing.items():
    print(f"{len(kinds)} layers: {count} of {int(whole.sum())} pairs out of reach")
assert list(missing.values())[0] > 0 and list(missing.values())[-1] == 0

# %% [markdown]
# **Cost.** For $T$ codes in blocks of $\sqrt T$, a row, a column and the row before take at most about $T\sqrt T$ weights each instead of $T^2/2$. For the published sizes:

# %%
time_steps, block = 8192, 8192 // 128
per_head = {"dense": time_steps * (time_steps + 1) // 2,
            "row": time_steps * (block + 1) // 2, "column": time_steps * (128 + 1) // 2,
            "previous row": (time_steps - block) * block}
show_table([[name, count / 1e6, per_head["dense"] / count] for name, count in per_head.items()],
           ["attention", "million weights", "times fewer"], digits=1,
           caption="One head of one layer, 8192 codes in 128 blocks of 64.")
small = {kind: int(allowed_pairs(kind, 64, 8).sum()) for kind in (DENSE, ROW, COLUMN, PREVIOUS)}
assert small == {DENSE: 64 * 65 // 2, ROW: 64 * 9 // 2, COLUMN: 64 * 9 // 2, PREVIOUS: 56 * 8}

# %% [markdown]
# A mask alone saves nothing: all products are computed and then thrown away. Folding does. Give every block as an item of the batch, and no product with another block is ever made. **Rows** first; what is missing in the last block is filled with zeros that nobody sees, for they come later:

# %%
#| export
def _folded(x: Tensor, block: int) -> Tensor:
    """(batch, time, c) to (batch, row, block, c); the last row is filled up with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[1] % block)).unflatten(1, (-1, block))


def row_attention(q: Tensor, k: Tensor, v: Tensor, block: int, n_head: int) -> Tensor:
    """`attend` within each block of the row of codes, back only (section 12.3)."""
    rows = [_folded(x, block).flatten(0, 1) for x in (q, k, v)]            # (batch * row, block, c)
    heard = attend(*rows, n_head, causal=True)
    return heard.unflatten(0, (len(q), -1)).flatten(1, 2)[:, :q.shape[1]]

# %% [markdown]
# The oracle of this section is dense attention under the mask. Where a query sees nothing it hears zeros:

# %%
def dense(q, k, v, allowed, n_head):
    """Attention with all products, under a mask (query, key)."""
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))
    products = q @ k.mT / q.shape[-1] ** 0.5
    weights = products.masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0)
    return (weights @ v).transpose(1, 2).flatten(2)

q, k, v = (torch.randn(2, 22, 8, generator=P.generator) for _ in range(3))     # 22: no whole rows
ours = row_attention(q, k, v, 4, 2)
assert torch.allclose(ours, dense(q, k, v, allowed_pairs(ROW, 22, 4), 2), atol=1e-5)

# %% [markdown]
# **Columns** are the rows of the transposed table:

# %%
#| export
def column_attention(q: Tensor, k: Tensor, v: Tensor, block: int, n_head: int) -> Tensor:
    """`attend` along the codes at one place of their blocks, back only (section 12.3)."""
    columns = [_folded(x, block).transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    heard = attend(*columns, n_head, causal=True)                          # (batch * place, row, c)
    heard = heard.unflatten(0, (len(q), -1)).transpose(1, 2)                # (batch, row, place, c)
    return heard.flatten(1, 2)[:, :q.shape[1]]

# %% [markdown]
# The same check:

# %%
ours = column_attention(q, k, v, 4, 2)
assert torch.allclose(ours, dense(q, k, v, allowed_pairs(COLUMN, 22, 4), 2), atol=1e-5)

# %% [markdown]
# **The row before**: keys and values move down by one row. What stands above the first row? Jukebox puts a row of *zeros* there: keys of zero fit every query equally, and values of zero give the answer zero. Who leaves the first block out, or lets it see itself, gets another network, with all shapes right.

# %%
#| export
def previous_row_attention(q: Tensor, k: Tensor, v: Tensor, block: int, n_head: int) -> Tensor:
    """`attend` to the whole block before; the first block hears zeros (section 12.3)."""
    queries = _folded(q, block).flatten(0, 1)
    above = [F.pad(_folded(x, block)[:, :-1], (0, 0, 0, 0, 1, 0)).flatten(0, 1) for x in (k, v)]
    heard = attend(queries, *above, n_head)                                # (batch * row, block, c)
    return heard.unflatten(0, (len(q), -1)).flatten(1, 2)[:, :q.shape[1]]

# %% [markdown]
# And the check, with a look at the first block:

# %%
ours = previous_row_attention(q, k, v, 4, 2)
assert torch.allclose(ours, dense(q, k, v, allowed_pairs(PREVIOUS, 22, 4), 2), atol=1e-5)
assert ours[:, :4].abs().max() == 0 and ours[:, 4:].abs().min() > 0

# %% [markdown]
# <details><summary>Quick question: rows and columns are "back only". Why doesn't the row before need that?</summary>
#
# All of it lies before every query of the next row.
# </details>

# %% [markdown]
# ## 12.4 Attention with a memory
#
# In training all codes are known, and all guesses are made at once. In sampling they come one by one, and to guess the next one needs the keys and values of those before. They don't change any more. So a layer keeps them:

# %%
#| export
class Cache:
    """The keys and values that a layer has seen, (batch, time, n_state) each, and how many.

    keys, values: room for all that will come, or for an encoder all that there is; time: how many
    of them count. Source: section 12.4.
    """

    def __init__(self):
        self.keys = self.values = None
        self.time = 0

    def append(self, k: Tensor, v: Tensor, room: int) -> None:
        """Put new keys and values behind the old ones. room: for how many in all."""
        if self.keys is None:
            self.keys, self.values = (x.new_zeros(len(x), room, x.shape[-1]) for x in (k, v))
        new = slice(self.time, self.time + k.shape[1])
        self.keys[:, new], self.values[:, new] = k, v
        self.time = new.stop

# %% [markdown]
# Which of them does the newest code see? Of row $\lfloor t / B \rfloor$ and place $t \bmod B$, with $B$ codes a block, each kind is one slice:

# %%
#| export
def newest_slice(kind: int, t: int, block: int, lyrics: int = 0) -> slice:
    """The keys that code t, the newest, sees; kinds and arguments as in `allowed_pairs`."""
    first = t - t % block
    return {DENSE: slice(0, t + 1), ROW: slice(first, t + 1),
            COLUMN: slice(t % block, t + 1, block), LYRICS: slice(0, min(lyrics, t + 1)),
            PREVIOUS: slice(max(0, first - block), first)}[kind]

# %% [markdown]
# It must be the mask's row, for every kind and place:

# %%
for kind in (DENSE, ROW, COLUMN, PREVIOUS, LYRICS):
    mask = allowed_pairs(kind, 22, 4, lyrics=6)
    for t in range(22):
        seen = torch.arange(22)[newest_slice(kind, t, 4, 6)]
        assert seen.tolist() == mask[t].nonzero()[:, 0].tolist()
print("all 5 kinds, all 22 places: the slice is the row of the mask")

# %% [markdown]
# Now the layer. `c_attn` makes queries, keys and values in one product; their width is `n_state`, a quarter of the token's in Jukebox. Two kinds are for lyrics and come in section 12.9: `ENCODER` asks the tokens of another network, `LYRICS` only the first codes of the row.

# %%
d = Diagram()
x_in = d.block("x", "(time, 4800)", kind="data")
qkv = d.block("c_attn", "(time, 3 x 1200)", after=x_in, kind="trained", gap=0.5)
heads = d.block("row, column or\nprevious row", "8 heads of 150", after=qkv, gap=0.5)
proj = d.block("c_proj", "(time, 4800)", after=heads, kind="trained", gap=0.5)
memory = d.block("cache", "keys, values", kind="data", at=(heads.x, heads.y - 1.0))
d.arrow(memory, heads, "in sampling", dashed=True)
show(d.draw(), "Factored attention, in the sizes of the 5b prior: 1200 is a quarter of 4800.",
     d.in_words())

# %% [markdown]
# Its weights first:

# %%
#| export
class _AttentionWeights(nn.Module):
    """The projections of `FactoredAttention`, and what decides who sees whom (section 12.4)."""

    def __init__(self, n_in: int, n_ctx: int, n_state: int, n_head: int, attn_func: int = DENSE,
                 blocks: int | None = None, resid_dropout: float = 0.0, zero_out: bool = False,
                 init_scale: float = 1.0, prime_len: int = 0):
        super().__init__()
        if n_state % n_head or (blocks and n_ctx % blocks):
            raise ValueError(f"n_state is {n_state} with n_head {n_head}, n_ctx {n_ctx} with "
                             f"blocks {blocks}; expected multiples")
        self.n_ctx, self.n_head, self.attn_func = n_ctx, n_head, attn_func
        self.block = n_ctx // (blocks or 1)
        # openai/jukebox's number of keys: one more than lyrics fill, in units of `blocks`
        self.lyrics = (prime_len // (blocks or 1) + 1) * (blocks or 1)
        crossing = attn_func == ENCODER
        self.c_attn = Conv1D(n_in, n_state if crossing else 3 * n_state, init_scale=init_scale)
        if crossing:
            self.c_enc_kv = Conv1D(n_in, 2 * n_state, init_scale=init_scale)
        self.c_proj = Conv1D(n_state, n_in, zero_out, init_scale)
        self.resid_dropout = nn.Dropout(resid_dropout)

# %% [markdown]
# And the layer:

# %%
#| export
PATTERNS = {ROW: row_attention, COLUMN: column_attention, PREVIOUS: previous_row_attention}


class FactoredAttention(_AttentionWeights):
    """Attention of one kind, all codes at once or one by one: (batch, time, n_in) to the same.

    n_ctx: most codes; n_state: width of queries, keys and values; n_head divides it. attn_func: the
    kind, see `allowed_pairs`; ENCODER attends to encoder_kv (batch, token, n_in) of another
    network. blocks: rows that n_ctx is folded into. prime_len: lyrics in front of the codes.
    forward(x, encoder_kv, cache): with a `Cache` x follows what it has seen: the first call may
    bring several codes, later ones one each. ValueError for sizes that do not divide. Tensor
    names as openai/jukebox. Source: Dhariwal et al. 2020, section 4; sections 12.3, 12.4.
    """

    def forward(self, x: Tensor, encoder_kv: Tensor | None = None,
                cache: Cache | None = None) -> Tensor:
        if self.attn_func == ENCODER:
            heard = attend(self.c_attn(x), *self.encoder_keys(encoder_kv, cache), self.n_head)
            return self.resid_dropout(self.c_proj(heard))
        q, k, v = self.c_attn(x).chunk(3, -1)
        if cache is not None:
            cache.append(k, v, self.n_ctx)
        one_by_one = cache is not None and cache.time > k.shape[1]
        heard = self.newest(q, cache) if one_by_one else self.all_at_once(q, k, v)
        return self.resid_dropout(self.c_proj(heard))

    def all_at_once(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Every code attends: (batch, time, n_state)."""
        if self.attn_func in PATTERNS:
            return PATTERNS[self.attn_func](q, k, v, self.block, self.n_head)
        keys = slice(0, self.lyrics if self.attn_func == LYRICS else None)
        return attend(q, k[:, keys], v[:, keys], self.n_head, causal=True)

    def newest(self, q: Tensor, cache: Cache) -> Tensor:
        """The newest code attends to what the cache holds: (batch, 1, n_state)."""
        if q.shape[1] != 1:
            raise ValueError(f"{q.shape[1]} codes follow others in a cache; expected one at a time")
        seen = newest_slice(self.attn_func, cache.time - 1, self.block, self.lyrics)
        if seen.stop == 0:                                       # nothing is above the first row
            return torch.zeros_like(q)
        return attend(q, cache.keys[:, seen], cache.values[:, seen], self.n_head)

    def encoder_keys(self, encoder_kv: Tensor, cache: Cache | None) -> Sequence[Tensor]:
        """Keys and values of the encoder's tokens; made once where a cache keeps them."""
        if cache is None:
            return self.c_enc_kv(encoder_kv).chunk(2, -1)
        if cache.keys is None:
            cache.keys, cache.values = self.c_enc_kv(encoder_kv).chunk(2, -1)
        return cache.keys, cache.values

# %% [markdown]
# Check all kinds: 22 codes at once; then six at once and the others one by one.

# %%
torch.manual_seed(0)
x = torch.randn(2, 22, 16, generator=P.generator)
for kind in (DENSE, ROW, COLUMN, PREVIOUS, LYRICS):
    layer = FactoredAttention(16, 24, 8, 2, kind, blocks=6, init_scale=20.0, prime_len=5)
    cache = Cache()
    with torch.no_grad():
        at_once = layer(x)
        parts = [layer(x[:, :6], cache=cache)]
        parts += [layer(x[:, t:t + 1], cache=cache) for t in range(6, 22)]
    assert torch.allclose(torch.cat(parts, 1), at_once, atol=1e-5), kind
print("one by one is the same as all at once")

# %% [markdown]
# **A block** of the transformer joins attention and the small network. Without the factor $s$ it's chapter 8's residual sum (8.5), in other letters. With $a$ for what attention adds,
#
# $$ a = \text{attn}\big(\text{LN}_0(x)\big), \qquad m = \text{MLP}\big(\text{LN}_1(x + a)\big), \qquad \text{out} = x + s\,(a + m), \tag{12.3} $$
#
# $s$ is 1 in all published priors, and $1 / \text{depth}$ where `res_scale` is set. Mind where it stands: the small network hears $x + a$, unscaled.

# %%
d = Diagram()
x_in = d.block("x", "(time, width)", kind="data")
ln0 = d.block("LN$_0$", "", after=x_in, kind="trained", gap=0.4)
att = d.block("attention", "", after=ln0, kind="trained")
plus1 = d.join("+", after=att)
ln1 = d.block("LN$_1$", "", after=plus1, kind="trained", gap=0.3)
mlp = d.block("MLP", "", after=ln1, kind="trained")
plus2 = d.join("+", after=mlp)
out = d.block("out", "(time, width)", after=plus2, kind="data", gap=0.3)
d.arrow(x_in, plus1, route="over")
d.arrow(plus1, plus2, route="under", reach=0.4)
show(d.draw(), "A block of Jukebox's transformer, eq. 12.3 with s = 1.", d.in_words())

# %% [markdown]
# In code, that is one line more than the formula:

# %%
#| export
class ResAttnBlock(nn.Module):
    """Attention and a small network, both added: (batch, time, n_in) to the same (eq. 12.3).

    n_in: width of a token; m_attn, m_mlp: times that in attention and in the small network.
    res_scale: factor of what is added. The others as in `FactoredAttention`. Tensor names as
    openai/jukebox. Source: section 12.4.
    """

    def __init__(self, n_in: int, n_ctx: int, n_head: int, attn_func: int = DENSE,
                 blocks: int | None = None, resid_dropout: float = 0.0, zero_out: bool = False,
                 init_scale: float = 1.0, res_scale: float = 1.0, m_attn: float = 0.25,
                 m_mlp: float = 1.0, prime_len: int = 0):
        super().__init__()
        self.attn = FactoredAttention(n_in, n_ctx, int(m_attn * n_in), n_head, attn_func, blocks,
                                      resid_dropout, zero_out, init_scale, prime_len)
        self.ln_0 = nn.LayerNorm(n_in)
        self.mlp = MLP(n_in, int(m_mlp * n_in), resid_dropout, zero_out, init_scale)
        self.ln_1 = nn.LayerNorm(n_in)
        self.attn_func, self.res_scale = attn_func, res_scale

    def forward(self, x: Tensor, encoder_kv: Tensor | None = None,
                cache: Cache | None = None) -> Tensor:
        a = self.attn(self.ln_0(x), encoder_kv, cache)
        m = self.mlp(self.ln_1(x + a))
        return x + self.res_scale * (a + m)

# %% [markdown]
# **The order of the kinds** has a number, too, `attn_order`. Four of them are in the published priors: 2 takes turns; 10 is for 79 layers, of which some listen to an encoder; 12 has the lyrics in the row of codes.

# %%
#| export
_TURNS = (ROW, COLUMN, PREVIOUS)


def attn_funcs(attn_order: int, depth: int) -> list[int]:
    """The kinds of `depth` layers, by openai/jukebox's number: 0 dense, 1 row and column, 2 row,
    column and previous row, 8 and 10 with encoder attention, 12 with lyrics in front.

    ValueError for another number. Source: section 12.4.
    """
    cycles = {0: (DENSE,), 1: (ROW, COLUMN), 2: _TURNS, 8: (*_TURNS * 3, ENCODER),
              10: (*_TURNS * 3, *(*_TURNS * 3, ENCODER) * 7)}
    if attn_order == 12:
        every_16th = (LYRICS, LYRICS, DENSE)
        return [every_16th[d % 3] if d % 16 == 15 else _TURNS[d % 3] for d in range(depth)]
    if attn_order not in cycles:
        raise ValueError(f"attn_order is {attn_order}; expected one of "
                         f"{', '.join(map(str, cycles))} or 12")
    cycle = cycles[attn_order]
    return [cycle[d % len(cycle)] for d in range(depth)]

# %% [markdown]
# Which layers hear the lyrics, in the two priors that sing?

# %%
in_10 = [n for n, kind in enumerate(attn_funcs(10, 79)) if kind == ENCODER]
in_12 = [n for n, kind in enumerate(attn_funcs(12, 72)) if kind in (LYRICS, DENSE)]
print("5b_lyrics:", in_10)
print("1b_lyrics:", in_12)
assert in_10 == list(range(18, 79, 10)) and in_12 == [15, 31, 47, 63]

# %% [markdown]
# The stack of all blocks. With a list of caches, one a layer, it goes on from what they have seen.

# %%
#| export
class Transformer(nn.Module):
    """A stack of `ResAttnBlock`s: (batch, time, n_in) to the same.

    n_depth: blocks; attn_order: their kinds, see `attn_funcs`; res_scale: divide what is added by
    n_depth. Layers that attend to an encoder begin with zero output weights, as if they were not
    there. The others as in `ResAttnBlock`. forward(x, encoder_kv, caches): see
    `FactoredAttention`. Tensor names as openai/jukebox. Source: section 12.4.
    """

    def __init__(self, n_in: int, n_ctx: int, n_head: int, n_depth: int, attn_order: int = 0,
                 blocks: int | None = None, resid_dropout: float = 0.0, zero_out: bool = False,
                 init_scale: float = 1.0, res_scale: bool = False, m_attn: float = 0.25,
                 m_mlp: float = 1.0, prime_len: int = 0):
        super().__init__()
        scale = 1 / n_depth if res_scale else 1.0
        self._attn_mods = nn.ModuleList(
            ResAttnBlock(n_in, n_ctx, n_head, kind, blocks, resid_dropout,
                         zero_out or kind == ENCODER, init_scale, scale, m_attn, m_mlp, prime_len)
            for kind in attn_funcs(attn_order, n_depth))

    def caches(self) -> list[Cache]:
        """An empty memory for each layer."""
        return [Cache() for _ in self._attn_mods]

    def forward(self, x: Tensor, encoder_kv: Tensor | None = None,
                caches: Sequence[Cache] | None = None) -> Tensor:
        for block, cache in zip(self._attn_mods, caches or [None] * len(self._attn_mods)):
            x = block(x, encoder_kv, cache)
        return x

# %% [markdown]
# Check the formula, and that a new layer of encoder attention isn't there:

# %%
torch.manual_seed(0)
stack = Transformer(16, 24, 2, 10, attn_order=8, blocks=6, init_scale=10.0).eval()
x, lyrics = (torch.randn(2, n, 16, generator=P.generator) for n in (24, 7))
block = stack._attn_mods[0]
with torch.no_grad():
    a = block.attn(block.ln_0(x))
    m = block.mlp.c_proj(quick_gelu(block.mlp.c_fc(block.ln_1(x + a))))
    assert torch.allclose(block(x), x + a + m, atol=1e-5)
    assert stack._attn_mods[9].attn_func == ENCODER
    assert torch.equal(stack._attn_mods[9](x, lyrics), x)

# %% [markdown]
# ## 12.5 Codes in, codes out
#
# Around the stack goes what makes a language model of it. A table gives each code a vector. All vectors move **one place on**: at place $t$ the network is told code $t - 1$, and has to guess code $t$; in front stands a start token. Each place gets a learned vector of its own. At the end a product
# with the *same* table turns each token into one number a code, the logits, whose softmax are the guesses of (12.1).

# %%
d = Diagram()
z = d.block("codes z", "(time)", kind="data")
emb = d.block("x_emb", "(time, width)", after=z, kind="trained")
shifted = d.block("one place on,\nstart first", "(time, width)", after=emb)
plus = d.join("+", after=shifted)
tr = d.block("transformer", "(time, width)", after=plus, kind="trained")
plus2 = d.join("+", after=tr)
logits = d.block("x_out", "(time, codes)", after=plus2, kind="trained")
start = d.block("start token\nor y_cond", "(1, width)", kind="data", at=(shifted.x, -1.2))
pos = d.block("pos_emb", "(time, width)", kind="trained", at=(plus.x, 1.1))
cond = d.block("x_cond", "(time, width)", kind="data", at=(tr.x, -1.2))
d.arrow(start, shifted)
d.arrow(pos, plus)
d.arrow(cond, plus, route="corner")
d.arrow(cond, plus2, route="corner")
show(d.draw(), "An autoregressive model of codes. x_cond is a condition for each place, y_cond one "
     "for all.", d.in_words())

# %% [markdown]
# **Two conditions.** `y_cond` is one vector for the whole row and takes the place of the start token: it's how artist and genre come in. `x_cond` is a vector for each place: timing, or what the level above says. It is added before the transformer, and once more after it.
#
# The largest priors have a table of their own at the end and no second addition; this is called `merged_decoder`, and comes from training in a pipeline, whose two ends lie far apart.

# %%
#| export
class PositionEmbedding(nn.Module):
    """A learned vector for each place, (time, width) (section 12.5)."""

    def __init__(self, input_dims: int, width: int, init_scale: float = 1.0):
        super().__init__()
        self.pos_emb = nn.Parameter(torch.empty(input_dims, width))
        nn.init.normal_(self.pos_emb, std=0.01 * init_scale)

    def forward(self) -> Tensor:
        return self.pos_emb

# %% [markdown]
# The model's tables, and what goes into the transformer:

# %%
#| export
class _CodeTables(nn.Module):
    """Embeddings of `ConditionalAutoregressive2D`, and the input they make (section 12.5)."""

    def __init__(self, input_dims: int, bins: int, width: int, init_scale: float,
                 emb_dropout: float, y_cond: bool, merged_decoder: bool, only_encode: bool):
        super().__init__()
        self.x_emb = nn.Embedding(bins, width)
        nn.init.normal_(self.x_emb.weight, std=0.02 * init_scale)
        if not y_cond:
            self.start_token = nn.Parameter(0.01 * init_scale * torch.randn(1, width))
        self.pos_emb = PositionEmbedding(input_dims, width, init_scale)
        self.emb_dropout = nn.Dropout(emb_dropout)
        if not only_encode:
            self.x_out = nn.Linear(width, bins, bias=False)
            if not merged_decoder:
                self.x_out.weight = self.x_emb.weight

    def inputs(self, x: Tensor, x_cond: Tensor | None, y_cond: Tensor | None, start: int,
               stop: int) -> Tensor:
        """Places start to stop of the transformer's input, (batch, stop - start, width). x: codes
        (batch, time) with at least those before the places."""
        first = y_cond if y_cond is not None else self.start_token.expand(len(x), 1, -1)
        h = self.x_emb(x[:, max(0, start - 1):stop - 1])                # one place on
        h = torch.cat([first, h], 1) if start == 0 else h
        h = self.emb_dropout(h) + self.emb_dropout(self.pos_emb()[start:stop])
        return h if x_cond is None else h + _places(x_cond, start, stop)


def _places(x_cond: Tensor, start: int, stop: int) -> Tensor:
    """Of a condition for each place these places; one for all stays as it is."""
    return x_cond if x_cond.shape[1] == 1 else x_cond[:, start:stop]

# %% [markdown]
# And the model:

# %%
#| export
class ConditionalAutoregressive2D(_CodeTables):
    """How likely each code is after those before it: codes (batch, time) to logits (batch, time,
    bins) by `logits`, and to the loss in bits per code (eq. 12.2) by forward.

    input_dims: most codes; bins: how many there are; width, depth, heads: of the transformer.
    x_cond (batch, time or 1, width) and y_cond (batch, 1, width): the conditions; y_cond: whether
    there will be one, else a start token is learned. only_encode: forward gives the tokens
    (batch, time, width), there is no output table. merged_decoder: an output table of its own, and
    x_cond is added only once. The others as in `Transformer`. ValueError for too many codes, or
    codes that there are not. Tensor names as openai/jukebox. Source: Dhariwal et al. 2020,
    section 4; section 12.5.
    """

    def __init__(self, input_dims: int, bins: int, width: int = 128, depth: int = 2,
                 heads: int = 1, resid_dropout: float = 0.0, emb_dropout: float = 0.0,
                 zero_out: bool = False, init_scale: float = 1.0, res_scale: bool = False,
                 m_attn: float = 0.25, m_mlp: float = 1.0, attn_order: int = 0,
                 blocks: int | None = None, y_cond: bool = False, only_encode: bool = False,
                 merged_decoder: bool = False, prime_len: int = 0):
        super().__init__(input_dims, bins, width, init_scale, emb_dropout, y_cond, merged_decoder,
                         only_encode)
        self.transformer = Transformer(width, input_dims, heads, depth, attn_order, blocks,
                                       resid_dropout, zero_out, init_scale, res_scale, m_attn,
                                       m_mlp, prime_len)
        self.input_dims, self.bins, self.width = input_dims, bins, width
        self.only_encode, self.add_cond_after_transformer = only_encode, not merged_decoder

    def tokens(self, x: Tensor, x_cond: Tensor | None = None, y_cond: Tensor | None = None,
               encoder_kv: Tensor | None = None, caches: Sequence[Cache] | None = None,
               start: int = 0, stop: int | None = None) -> Tensor:
        """What the transformer makes of the places start to stop (None: all of x)."""
        stop = x.shape[1] if stop is None else stop
        known = not x.numel() or 0 <= int(x.min()) <= int(x.max()) < self.bins
        if stop > self.input_dims or not known:
            raise ValueError(f"x has {stop} codes; expected at most {self.input_dims}, "
                             f"each from 0 to {self.bins - 1}")
        h = self.transformer(self.inputs(x, x_cond, y_cond, start, stop), encoder_kv, caches)
        after = x_cond is not None and self.add_cond_after_transformer
        return h + _places(x_cond, start, stop) if after else h

    def logits(self, *args, **kwargs) -> Tensor:
        """Arguments of `tokens`; (batch, place, bins), before the softmax."""
        return self.x_out(self.tokens(*args, **kwargs))

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        if self.only_encode:
            return self.tokens(x, *args, **kwargs)
        logits = self.logits(x, *args, **kwargs)
        return F.cross_entropy(logits.flatten(0, 1), x.flatten()) / math.log(2)

# %% [markdown]
# The whole once more, as plain as it gets, for a row of codes without conditions. It must give the same:

# %%
def plain_forward(model, z):
    """Bits per code of a row z (time,)."""
    tokens = model.x_emb.weight[z]                                  # (time, width)
    tokens = torch.cat([model.start_token, tokens[:-1]])            # one place on
    tokens = model.transformer((tokens + model.pos_emb.pos_emb[:len(z)])[None])[0]
    guesses = (tokens @ model.x_emb.weight.T).softmax(-1)           # (time, code)
    return bits(guesses[torch.arange(len(z)), z])

# %% [markdown]
# On a small one, with weights large enough to matter:

# %%
torch.manual_seed(0)
small = ConditionalAutoregressive2D(24, 10, 16, 3, 2, attn_order=2, blocks=6, init_scale=10.0)
z = torch.randint(10, (1, 22), generator=P.generator)
with torch.no_grad():
    assert abs(plain_forward(small, z[0]) - float(small(z))) < 1e-4

# %% [markdown]
# Before the first step it knows nothing. On 48 codes that is near $\log_2 48$. And it may not peek: change code $t$, and no guess up to the one of code $t$ itself changes.

# %%
torch.manual_seed(0)
model = ConditionalAutoregressive2D(LENGTH, CODES, width=64, depth=3, heads=2, attn_order=2,
                                    blocks=LENGTH // BAR, m_attn=0.5, init_scale=4.0)
with torch.no_grad():
    z = test[:1].clone()
    before = model.eval().logits(z)
    z[:, 40] = (z[:, 40] + 1) % CODES
    change = (model.logits(z) - before).abs().amax((0, 2))
print(f"untrained: {float(model(test).detach()):.1f} bits; first guess that changes: "
      f"{int(change.nonzero()[0])}")
assert change[:41].max() == 0 and change[41] > 0

# %% [markdown]
# **Training** is an ordinary loop: a few melodies, all guesses at once, a step. A block of the table is a bar, so "column" is *the same place of earlier bars*.

# %%
def train_melodies(model, rows, loss_of, steps=P.steps, batch=16, rate=3e-3, seed=0):
    """Adam with a cosine, on random rows; the losses in bits. loss_of: (model, indices)."""
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        loss = loss_of(model.train(), torch.randint(len(rows), (batch,)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    return losses

# %% [markdown]
# Some seconds of it:

# %%
losses = train_melodies(model, moved, lambda m, i: m(moved[i]))
smooth = np.convolve(losses, np.ones(20) / 20, "valid")
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.plot(range(20, len(losses) + 1), smooth, label="transformer, training")
for name, cost in (("unigram", unigram_bits), ("bigram", bigram_bits)):
    axis.axhline(float(cost.mean()), ls="--", lw=1, color="0.4")
    axis.text(len(losses), float(cost.mean()) + 0.05, f"{name}, test", ha="right", va="bottom")
axis.set(xlabel="step", ylabel="bits per code")
axis.legend(loc="lower left")
show(figure, "The loss, means over 20 steps, and what counting gives on the test songs.",
     "A curve that falls steeply and then slowly, through two dashed lines.")

# %% [markdown]
# And on songs that it hasn't heard, song by song against the bigram:

# %%
@torch.no_grad()
def song_bits(model, rows, *args):
    """Bits per code of each row: (song,)."""
    logits = model.logits(rows, *args)
    return F.cross_entropy(logits.transpose(1, 2), rows, reduction="none").mean(1) / math.log(2)

ours = song_bits(model, test)
print("better than the bigram", sure(bigram_bits - ours, 0.15, "bits per code"))

# %% [markdown]
# Where does it know more? Bar by bar: some bars are dearer than others for both, because in some songs the singer pauses there. Look at the distance between the lines.

# %%
with torch.no_grad():
    costs = F.cross_entropy(model.logits(test).transpose(1, 2), test, reduction="none")
by_bar = costs.unflatten(1, (-1, BAR)).mean((0, 2)) / math.log(2)   # (bar,)
counted = -bigram_probabilities(test).log2().unflatten(1, (-1, BAR)).mean((0, 2))
figure, axis = plt.subplots(figsize=(7, 2.4))
axis.plot(range(1, 9), by_bar, "o-", label="transformer")
axis.plot(range(1, 9), counted, "s--", color="0.5", label="bigram")
axis.set(xlabel="bar", ylabel="bits per code")
axis.legend()
show(figure, "What a code costs in each bar of the test songs.",
     "Two lines over eight bars that rise and fall together; the transformer's lies lower.")

# %% [markdown]
# ## 12.6 Sampling
#
# Draw code 1 from the first guess, tell the model, draw code 2, and so on: **ancestral sampling**, each code a child of all before it. Whatever is drawn is a fair draw of (12.1).
#
# Fair is not always what one wants. The guesses of rare codes are the least certain, and among very many codes some rare one is drawn every few steps; a single odd code may lead the rest astray. Three knobs take from the rare and give to the frequent:
#
# - **temperature** $\tau$: the logits are divided by it before the softmax, $p_i \propto e^{l_i / \tau}$. 1 is fair, below 1 is bolder, 0 would always take the likeliest,
# - **top-k**: only the $k$ likeliest codes stay,
# - **nucleus** (top-p): only the likeliest codes stay that together make up a share $p$; many where the model is unsure, few where it is sure.

# %%
#| export
def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Logits (..., bins) with -inf for codes that may not be drawn.

    top_k: keep the k likeliest (0: all). top_p: keep the likeliest up to and with the one that
    brings their share above top_p (0: all). Both: first the one, then the other. ValueError
    outside these ranges. Source: Holtzman et al. 2020 (nucleus); section 12.6.
    """
    if top_k < 0 or not 0 <= top_p <= 1:
        raise ValueError(f"top_k is {top_k} and top_p {top_p}; expected 0 or more, and 0 to 1")
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, -1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p > 0:
        ordered, order = logits.sort(-1, descending=True)
        above = ordered.softmax(-1).cumsum(-1) > top_p
        drop = F.pad(above[..., :-1], (1, 0))                   # the first above it stays
        logits = logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)
    return logits

# %% [markdown]
# On four codes one can follow it by hand:

# %%
p = torch.tensor([0.5, 0.3, 0.15, 0.05])
rows = [["fair", *p.tolist()]]
for name, logits in (("temperature 0.5", 2 * p.log()), ("temperature 2", p.log() / 2),
                     ("top-k 2", filter_logits(p.log(), top_k=2)),
                     ("nucleus 0.7", filter_logits(p.log(), top_p=0.7)),
                     ("nucleus 0.9", filter_logits(p.log(), top_p=0.9))):
    rows.append([name, *logits.softmax(-1).tolist()])
show_table(rows, ["how", "a", "b", "c", "d"], digits=2)
assert [sum(value > 0 for value in row[1:]) for row in rows] == [4, 4, 4, 2, 2, 3]

# %% [markdown]
# **The loop.** First what is given, all at once; its keys and values fill the caches. Then one code after the other. A `torch.Generator` makes the draw repeatable.

# %%
#| export
@torch.no_grad()
def sample(model: ConditionalAutoregressive2D, n_samples: int = 1, x: Tensor | None = None,
           x_cond: Tensor | None = None, y_cond: Tensor | None = None,
           encoder_kv: Tensor | None = None, temp: float = 1.0, top_k: int = 0,
           top_p: float = 0.0, sample_tokens: int | None = None, first_code: int = 0,
           generator: torch.Generator | None = None, cached: bool = True,
           progress: str | None = None) -> Tensor:
    """Draw codes one by one: (n_samples, sample_tokens), beginning with x.

    x: codes that are given, (n_samples, time), time >= 0. x_cond, y_cond, encoder_kv: as in
    `ConditionalAutoregressive2D`. temp, top_k, top_p: see `filter_logits`; temp > 0.
    sample_tokens: length in all (None: the model's context). first_code: codes below it are never
    drawn. generator: for repeatable draws. cached: keep keys and values; without it all is computed
    anew for each code. progress: text of a bar. ValueError for a model in training mode, other
    shapes and lengths. Source: Dhariwal et al. 2020, section 4; section 12.6.
    """
    given, length = _checked_start(model, n_samples, x, temp, sample_tokens)
    caches = model.transformer.caches() if cached else None
    z, done = given, 0
    steps = range(given.shape[1], length)
    for t in progress_bar(steps, progress) if progress else steps:
        # place t is asked: its input is code t - 1, so codes up to t - 1 are enough
        padded = F.pad(z, (0, 1))
        logits = model.logits(padded, x_cond, y_cond, encoder_kv, caches, done if cached else 0,
                              t + 1)[:, -1] / temp
        logits[:, :first_code] = -torch.inf
        p = filter_logits(logits, top_k, top_p).softmax(-1)
        z = torch.cat([z, torch.multinomial(p, 1, generator=generator)], 1)
        done = t + 1
    return z

# %% [markdown]
# What it refuses:

# %%
#| export
def _checked_start(model: ConditionalAutoregressive2D, n_samples: int, x: Tensor | None,
                   temp: float, sample_tokens: int | None) -> tuple[Tensor, int]:
    """The given codes (n_samples, time) and the length in all; ValueError where they don't fit."""
    if model.training:
        raise ValueError("the model is in training mode, where dropout disturbs every guess; "
                         "call model.eval() first")
    if not temp > 0:
        raise ValueError(f"temp is {temp}; expected a number above 0")
    device = model.x_emb.weight.device
    given = torch.zeros(n_samples, 0, dtype=torch.long, device=device) if x is None else x
    length = model.input_dims if sample_tokens is None else sample_tokens
    most = model.input_dims
    if given.ndim != 2 or len(given) != n_samples or not given.shape[1] <= length <= most:
        raise ValueError(f"x has shape {tuple(given.shape)} and sample_tokens is {length}; "
                         f"expected ({n_samples}, time) with time <= sample_tokens <= {most}")
    return given, length

# %% [markdown]
# Listen to three melodies, each drawn at another temperature.

# %%
drawn = {}
for temp in (0.6, 0.95, 1.5):
    drawn[temp] = sample(model, 16, temp=temp, generator=torch.Generator().manual_seed(1))
    listen(play(drawn[temp][0, :6 * BAR]), RATE, f"temperature {temp:g}")

# %% [markdown]
# How much is the model surprised by its own draws, beside the band's songs? Sixteen of each:

# %%
def show_bars(values, unit, caption):
    """A bar a name, with its number."""
    figure, axis = plt.subplots(figsize=(6.4, 0.45 * len(values) + 0.8))
    names = list(values)[::-1]
    axis.barh(names, [float(values[name]) for name in names], color="C0", height=0.6)
    for place, name in enumerate(names):
        axis.text(float(values[name]), place, f" {float(values[name]):.2f}", va="center")
    axis.set_xlabel(unit)
    axis.margins(x=0.12)
    show(figure, caption, f"Bars: {', '.join(values)}.")

surprise = {f"temperature {temp:g}": song_bits(model, z).mean() for temp, z in drawn.items()}
show_bars({**surprise, "the band's test songs": ours.mean()}, "bits per code",
          "Cold draws are what the model expects, hot ones hardly.")
assert list(surprise.values()) == sorted(surprise.values())

# %% [markdown]
# **With and without a memory** the same codes must come out, if the same numbers are drawn:

# %%
draw = lambda **options: sample(model, 2, temp=0.95, sample_tokens=40,
                                generator=torch.Generator().manual_seed(2), **options)
assert torch.equal(draw(), draw(cached=False))
assert torch.equal(draw(), draw()) and not torch.equal(draw()[0], draw()[1])
print("cached and uncached draw the same 2 x 40 codes")

# %% [markdown]
# And the time? Without a memory, code $t$ costs $t$ tokens: for $T$ codes about $T^2/2$ tokens go through the network. With one it is $T$. A wider network, measured here in processor time; section 12.14 has it for 512 codes:

# %%
torch.manual_seed(0)
wide = ConditionalAutoregressive2D(P.tokens, 512, width=256, depth=6, heads=2, attn_order=2,
                                   blocks=16).eval()

def seconds_for(tokens, **options):
    begun = time.process_time()
    sample(wide, sample_tokens=tokens, generator=torch.Generator().manual_seed(0), **options)
    return time.process_time() - begun

# %% [markdown]
# Both ways, after a few codes to warm up:

# %%
seconds_for(16)                                                     # warms up
faster = seconds_for(P.tokens, cached=False) / seconds_for(P.tokens)
print(f"{P.tokens} codes: at least twice as fast with a cache: {faster > 2}")

# %% [markdown]
# **Primed sampling** begins with given codes. They go through the network at once; then it's as before. Give the first four bars of each test song, and let four more be drawn:

# %%
half = LENGTH // 2
continued = sample(model, len(test), test[:, :half], temp=0.9,
                   generator=torch.Generator().manual_seed(3))
assert torch.equal(continued[:, :half], test[:, :half])
listen(play(continued[0], test_songs[0][0].bpm), RATE, "four bars of the band, four of the model")

# %% [markdown]
# **Beyond the context.** The network knows at most `n_ctx` places. Longer rows are drawn in **windows**: the last part of what is there is given, the rest drawn, and the window moves on. A small hop remembers much and takes long. The last window ends exactly at the end, so it may overlap more.

# %%
#| export
def get_starts(total_length: int, n_ctx: int, hop_length: int) -> list[int]:
    """Where windows of n_ctx codes begin that cover total_length codes; hop_length apart, but for
    the last one, which ends at the end.

    ValueError unless 1 <= hop_length <= n_ctx <= total_length. Source: openai/jukebox; section
    12.6.
    """
    if not 1 <= hop_length <= n_ctx <= total_length:
        raise ValueError(f"hop_length is {hop_length}, n_ctx {n_ctx} and total_length "
                         f"{total_length}; expected 1 <= hop_length <= n_ctx <= total_length")
    last = total_length - n_ctx
    return [*range(0, last, hop_length), last]

# %% [markdown]
# Twenty bars with a context of eight, hop four bars:

# %%
starts = get_starts(20, 8, 4)
figure, axis = plt.subplots(figsize=(7, 2.0))
filled = 0
for row, start in enumerate(starts):
    axis.barh(-row, filled - start, left=start, color="0.75")
    axis.barh(-row, start + 8 - max(filled, start), left=max(filled, start), color="C0")
    filled = start + 8
axis.set(xlabel="bar", yticks=[])
show(figure, "Windows of eight bars, four apart: grey is given, blue is drawn.",
     "Four bars below each other, each four units further right, grey on the left, blue on the "
     "right; the first is all blue.")
assert get_starts(21, 8, 4) == [0, 4, 8, 12, 13] and starts == [0, 4, 8, 12]

# %% [markdown]
# <details><summary>Quick question: why does the published top prior hop half of its context, and the finest upsampler an eighth?</summary>
#
# The finest level has sixteen times as many codes a second as the top one, so its context lasts a sixteenth of the time. With a hop of half of it, the
# first code after a seam would remember very little. The price: every code of the new part is drawn only once, but much more is given again and again.
# </details>

# %% [markdown]
# ## 12.7 Labels: who, what, and where in the song
#
# A prior that only continues can't be asked for anything. So each training row comes with labels. Jukebox gives three kinds:
#
# - the **artist**: one word out of thousands, a vector each,
# - the **genres**: a bag of up to five words, whose vectors are added; empty places of the bag are -1 and count as nothing,
# - **timing**: how long is the whole song, where in it is this code, and which share of it has passed? So a prior can learn how songs begin and end.
#
# Artist and genres add up to `y_cond`, the start token. Timing is a vector for each place and becomes `x_cond`; only the top level gets it, the others hear the level above.

# %%
#| export
class SimpleEmbedding(nn.Module):
    """A vector for each of `bins` labels (section 12.7)."""

    def __init__(self, bins: int, out_width: int, init_scale: float = 1.0):
        super().__init__()
        self.emb = nn.Embedding(bins, out_width)
        nn.init.normal_(self.emb.weight, std=0.01 * init_scale)

    def forward(self, y: Tensor) -> Tensor:
        return self.emb(y)

# %% [markdown]
# A time is a real number, so it is cut into `bins` of equal width, a vector each. Of a window from `start` to `end` place $j$ of $n$ is at $\text{start} + (\text{end} - \text{start})\, j/n$:

# %%
#| export
class RangeEmbedding(nn.Module):
    """A vector for each of n_time places between two times, by the bin that the time falls into:
    start and end (batch, 1) to (batch, n_time, out_width).

    bins: that range [low, high) is cut into. clamp: an end beyond the range counts as its end.
    ValueError for times outside the range. Tensor names as openai/jukebox. Source: Dhariwal et al.
    2020, section 4; section 12.7.
    """

    def __init__(self, n_time: int, bins: int, range: Sequence[float], out_width: int,
                 init_scale: float = 1.0, clamp: bool = False):
        super().__init__()
        self.n_time, self.bins, self.clamp = n_time, bins, clamp
        self.pos_min, self.pos_max = range
        self.emb = nn.Embedding(bins, out_width)
        nn.init.normal_(self.emb.weight, std=0.01 * init_scale)

    def positions(self, start: Tensor, end: Tensor | None = None) -> Tensor:
        """The bin of each place, (batch, n_time)."""
        end = start if end is None else end.clamp(self.pos_min, self.pos_max) if self.clamp else end
        ends = torch.cat([start, end])
        if not (self.pos_min <= ends.min() and start.max() < self.pos_max >= end.max()):
            raise ValueError(f"times are {float(ends.min()):g} to {float(ends.max()):g}; expected "
                             f"them in [{self.pos_min:g}, {self.pos_max:g})")
        share = torch.arange(self.n_time, device=start.device).float() / self.n_time
        times = start.float() + (end.float() - start.float()) * share
        return (self.bins * (times - self.pos_min) / (self.pos_max - self.pos_min)).floor().long()

    def forward(self, start: Tensor, end: Tensor | None = None) -> Tensor:
        return self.emb(self.positions(start, end))

# %% [markdown]
# Eight places of the second half of a song of 60 s, in bins of a tenth:

# %%
tenths = RangeEmbedding(8, 10, (0.0, 1.0), 4, clamp=True)
found = tenths.positions(torch.tensor([[0.5]]), torch.tensor([[1.0]]))
print(found[0].tolist())
assert found[0].tolist() == [5, 5, 6, 6, 7, 8, 8, 9]

# %% [markdown]
# Together:

# %%
#| export
class LabelConditioner(nn.Module):
    """Labels y (batch, 4 + genres), whole numbers: total length, offset and length in samples, the
    artist, the genres (-1: none), to y_cond (batch, 1, out_width) and, with include_time_signal,
    x_cond (batch, n_time, out_width), else None.

    y_bins: how many genres and artists there are. t_bins: of the times. sr, min_duration,
    max_duration: rate in Hz and seconds that a song lasts. n_time: codes of a window. ValueError
    for another number of labels, and for times outside. Tensor names as openai/jukebox. Source:
    Dhariwal et al. 2020, section 4; section 12.7.
    """

    def __init__(self, y_bins: Sequence[int], t_bins: int, sr: float, min_duration: float,
                 max_duration: float, n_time: int, out_width: int, init_scale: float = 1.0,
                 max_bow_genre_size: int = 1, include_time_signal: bool = True):
        super().__init__()
        genres, artists = y_bins
        self.max_bow_genre_size = max_bow_genre_size
        self.bow_genre_emb = SimpleEmbedding(genres, out_width, init_scale)
        self.artist_emb = SimpleEmbedding(artists, out_width, init_scale)
        self.include_time_signal = include_time_signal
        if include_time_signal:
            longest = max_duration * sr
            self.total_length_emb = RangeEmbedding(1, t_bins, (min_duration * sr, longest),
                                                   out_width, init_scale)
            self.absolute_pos_emb = RangeEmbedding(n_time, t_bins, (0.0, longest), out_width,
                                                   init_scale)
            self.relative_pos_emb = RangeEmbedding(n_time, t_bins, (0.0, 1.0), out_width,
                                                   init_scale, clamp=True)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        if y.ndim != 2 or y.shape[1] != 4 + self.max_bow_genre_size:
            raise ValueError(f"y has shape {tuple(y.shape)}; expected (batch, "
                             f"{4 + self.max_bow_genre_size}): total length, offset, length, "
                             "artist, genres")
        total, offset, length, artist = y[:, :4].split(1, 1)
        genres = y[:, 4:]
        there = (genres >= 0)[..., None]
        bag = (self.bow_genre_emb(genres.clamp(0)) * there).sum(1, keepdim=True)
        y_cond = bag + self.artist_emb(artist)
        if not self.include_time_signal:
            return y_cond, None
        start, end, total = offset.float(), (offset + length).float(), total.float()
        return y_cond, (self.total_length_emb(total) + self.absolute_pos_emb(start, end)
                        + self.relative_pos_emb(start / total, end / total))

# %% [markdown]
# The bag is a sum: neither the order nor empty places matter.

# %%
torch.manual_seed(0)
labels = LabelConditioner((12, 3), 16, 1.0, 16.0, 1000.0, n_time=8, out_width=6,
                          max_bow_genre_size=3)
bags = torch.tensor([[160, 16, 8, 2, *bag] for bag in ([1, 7, -1], [7, 1, -1], [-1, 7, 1])])
y_cond, x_cond = labels(bags)
assert torch.allclose(y_cond[0], y_cond[1]) and torch.allclose(y_cond[0], y_cond[2])
print("y_cond", tuple(y_cond.shape), "x_cond", tuple(x_cond.shape))

# %% [markdown]
# Now for our melodies. The "artist" is the style, the bag of "genres" holds two words: tonic and mode. What a key says is which notes fit, so let us leave out rhythm: a row is the first 24 notes of a song, one code each. The scale of each mode, to check later:

# %%
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10),
          "dorian": (0, 2, 3, 5, 7, 9, 10), "mixolydian": (0, 2, 4, 5, 7, 9, 10),
          "phrygian": (0, 1, 3, 5, 7, 8, 10)}
MODES, NOTES = list(SCALES), 24
TONICS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

def tonic_of(key):
    """The pitch class of "Bb minor", "D# dorian", ..."""
    name = key.split()[0]
    return (TONICS[name[0]] + {"#": 1, "b": -1}.get(name[1:2], 0)) % 12

def labels_of(song, semitones=0):
    """The labels of a song's notes, moved by some semitones: (6,)."""
    tonic = (tonic_of(song.key) + semitones) % 12
    mode = 12 + MODES.index(song.key.split()[1])
    style = list(STYLES).index(song.style)
    return torch.tensor([4 * len(song.beats), 0, NOTES, style, tonic, mode])

# %% [markdown]
# The rows and their labels; a song with fewer notes is left out:

# %%
def notes_and_labels(songs, shifts):
    """First notes of songs, moved by semitones: (row, 24) and (row, 6)."""
    kept = [(song, melody(song)) for song, _ in songs]
    kept = [(song, codes[codes > HOLD][:NOTES]) for song, codes in kept
            if (codes > HOLD).sum() >= NOTES]
    return (torch.stack([transposed(notes, n) for n in shifts for _, notes in kept]),
            torch.stack([labels_of(song, n) for n in shifts for song, _ in kept]))

# %% [markdown]
# In training moved by up to five semitones, as before, labels and all:

# %%
notes, note_labels = notes_and_labels(train_songs, range(-5, 6))
test_notes, test_labels = notes_and_labels(test_songs, [0])
print(len(notes), "rows to learn from,", len(test_notes), "to test")
print("first test row:", test_notes[0, :8].tolist(), "labels", test_labels[0].tolist())

# %% [markdown]
# The network sees all notes at once (dense), and is told the labels:

# %%
class Labelled(nn.Module):
    """Notes with labels."""

    def __init__(self, width=64):
        super().__init__()
        self.y_emb = LabelConditioner((12 + len(MODES), len(STYLES)), 16, 1.0, 16.0, 1000.0, NOTES,
                                      width, 24.0, max_bow_genre_size=2)
        self.prior = ConditionalAutoregressive2D(NOTES, CODES, width, depth=3, heads=2,
                                                 m_attn=0.5, init_scale=6.0, y_cond=True)

    def forward(self, rows, y):
        y_cond, x_cond = self.y_emb(y)
        return self.prior(rows, x_cond, y_cond)

# %% [markdown]
# Some seconds of training:

# %%
torch.manual_seed(0)
labelled = Labelled()
_ = train_melodies(labelled, notes, lambda m, i: m(notes[i], note_labels[i]), P.label_steps,
                   batch=32, rate=6e-3)

# %% [markdown]
# What are labels worth? On the test songs, with the right ones and with those of the next song:

# %%
@torch.no_grad()
def labelled_bits(y):
    y_cond, x_cond = labelled.y_emb(y)
    return song_bits(labelled.prior, test_notes, x_cond, y_cond)

told_right, told_wrong = (labelled_bits(y) for y in (test_labels, test_labels.roll(1, 0)))
show_bars({"of another song": told_wrong.mean(), "its own": told_right.mean()}, "bits per note",
          f"Labels, and what the notes of {len(told_right)} test songs cost.")
print("its own labels are better than another's",
      sure(told_wrong - told_right, 0.5, "bits per note"))

# %% [markdown]
# Does the prior do what it is asked? Ask for each of the twelve tonics in major, four rows of each, and count the notes in the scale that was asked for, beside the scale a tritone away. First the measure itself, on what the band wrote:

# %%
def share_in_scale(codes, tonic, mode):
    """How many of the notes belong to a scale."""
    scale = {(tonic + step) % 12 for step in SCALES[mode]}
    return float(np.mean([(n - 2 + LOWEST) % 12 in scale for n in codes[codes > HOLD].tolist()]))

real = [share_in_scale(z, tonic_of(song.key), song.key.split()[1])
        for song, z in test_songs if (z > HOLD).any()]
print(f"the band's own notes in their scale: {np.mean(real):.2f}")
assert np.mean(real) > 0.9

# %% [markdown]
# Then what is drawn:

# %%
asked = torch.tensor([[160, 0, NOTES, list(STYLES).index("pop"), n % 12, 12] for n in range(48)])
with torch.no_grad():
    y_cond, x_cond = labelled.y_emb(asked)
songs = sample(labelled.prior, len(asked), None, x_cond, y_cond, temp=0.9,
               generator=torch.Generator().manual_seed(4))
in_asked, in_other = (np.array([share_in_scale(z, n + away, "major") for n, z in enumerate(songs)])
                      for away in (0, 6))
show_bars({"the scale asked for": in_asked.mean(), "a tritone away": in_other.mean()},
          "share of notes", f"{len(songs)} rows of notes, asked for by their key.")
print("more notes in it", sure(100 * (in_asked - in_other), 50, "% of the notes", "rows"))

# %% [markdown]
# C major, then F sharp major, as asked, a note an eighth:

# %%
for tonic, name in ((0, "C"), (6, "F sharp")):
    eighths = torch.stack([songs[tonic], torch.full((NOTES,), HOLD)], 1).flatten()
    listen(play(eighths), RATE, f"asked for {name} major")

# %% [markdown]
# ## 12.8 Upsamplers: the level above as a condition
#
# The top level's codes are few, and what they decode to is rough. A second prior writes the codes of the next finer level, *given* those above; a third one those of the finest. An **upsampler** is the same transformer, and its `x_cond` comes from the level above through a small network of convolutions:
#
# each code becomes a vector, $D$ residual layers look around, a transposed convolution doubles the rate, and so on until there is a vector for each code of the finer level; a LayerNorm ends it.
#
# The residual layers are dilated, $3^d$ with $d = 0, 1, \dots$ counted modulo 8, so that a few layers see far, and in both directions: what is above is known in full.

# %%
d = Diagram()
z_in = d.block("codes above", "(2048)", kind="data")
emb = d.block("x_emb", "(2048, 1920)", after=z_in, kind="trained")
first = d.block("conv 3", "(1024, 2048)", after=emb, kind="trained")
res = d.block("dilated\nresidual", "(1024, 2048)", after=first, kind="trained", repeat=16)
up = d.block("transposed\nconv 4, stride 2", "(1024, 4096)", after=res, kind="trained")
d.group([res, up], "twice")
ln = d.block("LN", "(8192, 1920)", after=up, kind="trained", gap=0.45)
out = d.block("x_cond", "(8192, 1920)", kind="data", after=ln)
show(d.draw(), "What conditions a published upsampler: one code above for four beneath. The second "
     "transposed convolution goes to 1920 channels.", d.in_words())

# %% [markdown]
# A residual layer of it. It is chapter 11's (11.2) once more, so that this chapter stands alone; the stack behind it differs in a name, `blocks` where the codec's checkpoint says `model`:

# %%
#| export
class ResConv1DBlock(nn.Module):
    """x + res_scale * conv1(ReLU(conv3(ReLU(x)))): (batch, n_in, time) to the same.

    n_state: channels inside; dilation: of the first convolution. zero_out: begin as the identity.
    Tensor names as openai/jukebox. Source: section 12.8.
    """

    def __init__(self, n_in: int, n_state: int, dilation: int = 1, zero_out: bool = False,
                 res_scale: float = 1.0):
        super().__init__()
        self.model = nn.Sequential(nn.ReLU(), nn.Conv1d(n_in, n_state, 3, 1, dilation, dilation),
                                   nn.ReLU(), nn.Conv1d(n_state, n_in, 1))
        self.res_scale = res_scale
        if zero_out:
            nn.init.zeros_(self.model[-1].weight)
            nn.init.zeros_(self.model[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.model(x)

# %% [markdown]
# A stack of them:

# %%
#| export
class Resnet1D(nn.Module):
    """n_depth `ResConv1DBlock`s with dilations growth_rate^d, d counted modulo dilation_cycle.

    res_scale: divide what is added by sqrt(n_depth). Source: section 12.8.
    """

    def __init__(self, n_in: int, n_depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False):
        super().__init__()
        scale = 1 / math.sqrt(n_depth) if res_scale else 1.0
        self.blocks = nn.ModuleList(
            ResConv1DBlock(n_in, int(m_conv * n_in),
                           dilation_growth_rate ** (d % (dilation_cycle or n_depth)), zero_out,
                           scale) for d in range(n_depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

# %% [markdown]
# Up in rate, step by step:

# %%
#| export
class DecoderConvBock(nn.Module):
    """To stride_t^down_t times the rate: (batch, out_width, time) to (batch, out_width, time times
    that); the class's name is openai/jukebox's. Source: section 12.8."""

    def __init__(self, out_width: int, down_t: int, stride_t: int, width: int, depth: int,
                 **resnet):
        super().__init__()
        widths = [width] * down_t + [out_width]
        ups = [nn.Sequential(Resnet1D(width, depth, **resnet),
                             nn.ConvTranspose1d(width, to, 2 * stride_t, stride_t, stride_t // 2))
               for to in widths[1:]]
        self.model = nn.Sequential(nn.Conv1d(out_width, width, 3, 1, 1), *ups)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %% [markdown]
# And the conditioner:

# %%
#| export
class Conditioner(nn.Module):
    """Codes of the level above, (batch, time), to a vector for each finer code, (batch, time *
    stride_t^down_t, out_width).

    bins: how many codes there are. down_t, stride_t: the finer level has stride_t^down_t codes for
    each above, stride_t even. width, depth, m_conv, dilation_growth_rate, dilation_cycle, zero_out,
    res_scale: of the convolutions, see `Resnet1D`. Tensor names as openai/jukebox. Source:
    Dhariwal et al. 2020, section 4; section 12.8.
    """

    def __init__(self, bins: int, down_t: int, stride_t: int, out_width: int, init_scale: float,
                 width: int, depth: int, **resnet):
        super().__init__()
        self.x_emb = nn.Embedding(bins, out_width)
        nn.init.normal_(self.x_emb.weight, std=0.02 * init_scale)
        self.cond = DecoderConvBock(out_width, down_t, stride_t, width, depth, **resnet)
        self.ln = nn.LayerNorm(out_width)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.cond(self.x_emb(x).mT).mT)                    # (batch, time, out_width)

# %% [markdown]
# Four codes above make sixteen vectors. Change one of them, and see how far that reaches: in both directions, though not everywhere.

# %%
torch.manual_seed(0)
conditioner = Conditioner(10, 2, 2, 16, 20.0, width=12, depth=2, dilation_growth_rate=3)
above = torch.randint(10, (1, 20), generator=P.generator)
with torch.no_grad():
    changed = above.clone()
    changed[0, 10] = (changed[0, 10] + 1) % 10
    touched = (conditioner(above) != conditioner(changed)).any(-1)[0].nonzero()[:, 0]
print(f"one code above stands for places 40 to 43; it is heard at {int(touched[0])} "
      f"to {int(touched[-1])}")
assert conditioner(above).shape == (1, 80, 16) and touched[0] < 40 and touched[-1] > 43

# %% [markdown]
# What does it do for us? Make the "level above" of a melody: of each quarter note, that is of four codes, the note that sounds at its beginning, or a rest. Four times fewer codes, which hold the outline and nothing of the rhythm.

# %%
def outline(rows):
    """What sounds at the start of each quarter: (song, time) to (song, time / 4); no holds."""
    sounding = torch.full((len(rows),), REST)
    quarters = []
    for t in range(rows.shape[1]):
        sounding = torch.where(rows[:, t] == HOLD, sounding, rows[:, t])
        if t % 4 == 0:
            quarters.append(sounding)
    return torch.stack(quarters, 1)

# %% [markdown]
# The outlines of all melodies, and one bar to look at:

# %%
tops, test_tops = outline(moved), outline(test)
bar = int((test[0] > HOLD).view(-1, BAR).sum(1).argmax())             # the one with most notes
print(test[0].view(-1, BAR)[bar].tolist(), "->", test_tops[0].view(-1, 4)[bar].tolist())
assert test_tops.shape == (len(test), LENGTH // 4) and not (test_tops == HOLD).any()

# %% [markdown]
# An upsampler learns to fill them in. It is as large as the network that wrote without help, and learns for fewer steps:

# %%
class Upsampled(nn.Module):
    """Melodies from their outline."""

    def __init__(self, width=64):
        super().__init__()
        self.conditioner = Conditioner(CODES, 2, 2, width, 24.0, width=48, depth=2,
                                       dilation_growth_rate=3)
        self.prior = ConditionalAutoregressive2D(LENGTH, CODES, width, depth=3, heads=2,
                                                 attn_order=2, blocks=LENGTH // BAR, m_attn=0.5,
                                                 init_scale=6.0)

    def forward(self, rows, above):
        return self.prior(rows, self.conditioner(above))

# %% [markdown]
# The same loop, with the outlines beside the melodies:

# %%
torch.manual_seed(0)
upsampler = Upsampled()
_ = train_melodies(upsampler, moved, lambda m, i: m(moved[i], tops[i]), P.up_steps, rate=6e-3)

# %% [markdown]
# What do its codes cost, with the outline of their song, and with another's?

# %%
@torch.no_grad()
def upsampled_bits(above):
    return song_bits(upsampler.prior, test, upsampler.conditioner(above))

with_own, with_other = upsampled_bits(test_tops), upsampled_bits(test_tops.roll(1, 0))
show_bars({"nothing (section 12.5)": ours.mean(), "another song's outline": with_other.mean(),
           "its own outline": with_own.mean()}, "bits per code",
          f"What the upsampler is told, and what {len(test)} test songs cost.")
print("better than without", sure(ours - with_own, 0.3, "bits per code"))

# %% [markdown]
# "The top level holds the structure, what is beneath the details." Then one outline with several draws of the upsampler should give several melodies with one shape. For each test song draw two, and compare them with each other and with those of another song: how often do they agree on the note that begins a quarter, and how often on all four codes of it?

# %%
with torch.no_grad():
    conditions = upsampler.conditioner(test_tops)
first, second = (sample(upsampler.prior, len(test), None, conditions,
                        generator=torch.Generator().manual_seed(seed)) for seed in (5, 6))

# %% [markdown]
# How far two sets of draws agree:

# %%
def agree(a, b):
    """Share of equal quarters by their outline, and by all four codes: (song,) each."""
    same = (a == b).unflatten(1, (-1, 4)).all(-1)
    return (outline(a) == outline(b)).float().mean(1), same.float().mean(1)

# %% [markdown]
# With the other draw of the same outline, and with one of another:

# %%
shape, detail = agree(first, second)
other_shape, other_detail = agree(first, second.roll(1, 0))
show_bars({"one outline: note at the quarter": shape.mean(), "two outlines": other_shape.mean(),
           "one outline: all four codes": detail.mean(), "two outlines ": other_detail.mean()},
          "share of quarters that are equal", f"{len(test)} pairs of draws each.")
print("one outline: more equal notes", sure(100 * (shape - other_shape), 30,
                                            "% of the quarters"))
print("and fewer equal details than notes", sure(100 * (shape - detail), 20,
                                                 "% of the quarters"))

# %% [markdown]
# Two draws from one outline:

# %%
for z in (first, second):
    listen(play(z[0, :6 * BAR], test_songs[0][0].bpm), RATE, "one outline, filled in")

# %% [markdown]
# ## 12.9 Lyrics, in two ways
#
# A singer should sing *these* words. The model gets them as letters, one token each, and has to find out by itself where in the words it is: nobody tells it when a syllable is sung. Jukebox knows two ways.
#
# **A second transformer** (5b_lyrics). It reads the letters; a linear layer and a LayerNorm bring its tokens to the prior's width; some layers of the prior, kind `ENCODER`, ask them. It reads only back, too, and is trained to guess the next letter beside its main work.
#
# **One transformer for all** (1b_lyrics). The letters stand in front of the codes in one row. Music codes are moved up by the number of letters, so that no number means both. Layers of kind `LYRICS` see nothing but the front.

# %%
d = Diagram()
letters = d.block("letters", "(512)", kind="data")
enc = d.block("prime_prior", "(512, 1280)", after=letters, kind="trained", repeat=18)
proj = d.block("prime_state_proj,\nprime_state_ln", "(512, 4800)", after=enc, kind="trained",
               gap=0.35)
codes_in = d.block("codes", "(8192)", kind="data", at=(letters.x, letters.y - 1.2))
dec = d.block("prior, 7 of its layers\nask the letters", "(8192, 4800)", kind="trained",
              at=(proj.x, proj.y - 1.2), repeat=79)
d.arrow(codes_in, dec)
d.arrow(proj, dec, "keys, values")
lout = d.block("prime_x_out", "(512, 80)", after=proj, kind="trained", gap=0.5)
mout = d.block("x_out", "(8192, 2048)", after=dec, kind="trained", gap=0.5)
show(d.draw(), "Two transformers: 5b_lyrics.", d.in_words())

# %% [markdown]
# And the other way:

# %%
d = Diagram()
letters = d.block("letters 0 - 78", "(384)", kind="data")
music = d.block("codes + 79", "(6144)", kind="data", at=(letters.x, -1.0))
row = d.block("one row", "(6528)", after=[letters, music])
one_t = d.block("transformer", "(6528, 2048)", after=row, kind="trained", repeat=72)
x_out = d.block("x_out", "(6528, 79 + 2048)", after=one_t, kind="trained")
l_loss = d.block("letter loss x 0.4", "", kind="loss", at=(x_out.x + 2.0, 0.0))
m_loss = d.block("music loss", "", kind="loss", at=(x_out.x + 2.0, -1.0))
d.arrow(x_out, l_loss)
d.arrow(x_out, m_loss)
show(d.draw(), "One transformer: 1b_lyrics.", d.in_words())

# %% [markdown]
# **The loss** of both counts letters and codes by their share of all tokens, and letters for less: with $N_l$ letters, $N_m$ codes, and bits per token $b_l$, $b_m$,
#
# $$ \text{loss} = 0.4\,\frac{N_l}{N_l + N_m}\, b_l + \frac{N_m}{N_l + N_m}\, b_m. \tag{12.4} $$

# %%
#| export
def joint_loss(letter_bits: Tensor, music_bits: Tensor, letters: int, codes: int,
               prime_loss_fraction: float) -> Tensor:
    """Eq. 12.4: bits per letter and per code weighted by their share of the tokens, letters by
    prime_loss_fraction as well. Source: openai/jukebox; section 12.9."""
    return (prime_loss_fraction * letters * letter_bits + codes * music_bits) / (letters + codes)

# %% [markdown]
# For 1b_lyrics, 384 letters and 6144 codes:

# %%
share = 0.4 * 384 / (384 + 6144)
print(f"1b_lyrics: a bit of a letter counts {share / (6144 / 6528):.3f} of a bit of a code")
value = joint_loss(torch.tensor(3.0), torch.tensor(5.0), 384, 6144, 0.4)
assert abs(float(value) - (3 * share + 5 * 6144 / 6528)) < 1e-5

# %% [markdown]
# **Which letters?** A song has more of them than the model takes. When it samples, Jukebox knows no times, so it assumes that letters pass *evenly*: around the middle of a window of codes it takes the letters around the same share of the text. Where times are known, one can count the letters sung so far instead:

# %%
#| export
def get_relevant_lyric_tokens(full_tokens: Sequence[int], n_tokens: int, total_length: float,
                              offset: float, duration: float,
                              times: Sequence[float] | None = None) -> tuple[list, list]:
    """The n_tokens letters for a window of the song, and where each is in the text (-1: filled).

    full_tokens: of the whole song. total_length, offset, duration: of the song, where the window
    begins, and its length, in one unit. times: when each letter is sung, in that unit, rising;
    None: they pass evenly. A short text is filled with zeros in front. ValueError where times are
    not as many as letters. Source: openai/jukebox; section 12.9.
    """
    full_tokens, count = list(full_tokens), len(full_tokens)
    if times is not None and len(times) != count:
        raise ValueError(f"times has {len(times)} values; expected {count}, one a letter")
    if count < n_tokens:
        missing = n_tokens - count
        return [0] * missing + full_tokens, [-1] * missing + list(range(count))
    middle = offset + duration / 2
    passed = (int(count * middle / total_length) if times is None else
              int(torch.searchsorted(torch.tensor(times), middle)))
    start = min(max(passed, n_tokens // 2), count - n_tokens // 2) - n_tokens // 2
    return full_tokens[start:start + n_tokens], list(range(start, start + n_tokens))

# %% [markdown]
# How wrong is "evenly"? The band's singers know when they sing what. Here is one of them:

# %%
sung = sung_syllables(song)
print(" ".join(syllable.text for syllable in sung[:12]), "...")
print("sung at", ", ".join(f"{syllable.onset:.1f}" for syllable in sung[:12]), "s")

# %% [markdown]
# For 60 songs: when would each syllable be sung if they passed evenly, and when is it?

# %%
def linear_errors(song):
    """Seconds that each syllable is sung after its even place: (syllable,)."""
    sung = np.array([syllable.onset for syllable in sung_syllables(song)])
    even = (np.arange(len(sung)) + 0.5) / len(sung) * song.seconds
    return sung - even

band = [compose(seed) for seed in range(1000, 1060)]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.8, 2.9))
for one_song in band[:8]:
    onsets = [syllable.onset for syllable in sung_syllables(one_song)]
    left.plot(onsets, np.linspace(0, 1, len(onsets)), lw=1)
left.plot([0, 20], [0, 1], "k--", lw=1)
left.set(xlabel="time, s", ylabel="share of the text")
right.hist(np.concatenate([linear_errors(one_song) for one_song in band]), 40, color="C0")
right.set(xlabel="sung later than evenly, s", ylabel="syllables")
show(figure, "Left: how the text passes in eight songs; dashed: evenly. Right: the error.",
     "Eight staircase curves around a dashed diagonal; a broad hump of errors around zero.")

# %% [markdown]
# In windows this costs letters. A window of 6 s, and room for as many letters as the *average* song sings in 8 s: how many of the syllables that are sung in the window does the model get to see, evenly chosen and chosen by their times?

# %%
ROOM = round(np.mean([8 * len(sung_syllables(s)) / s.seconds for s in band]))

def share_seen(song, aligned, seconds=6.0, room=ROOM):
    """Share of the syllables sung in windows that are among those given; NaN without any."""
    times = [syllable.onset for syllable in sung_syllables(song)]
    seen = []
    for start in np.arange(0, song.seconds - seconds + 0.1, 2.0):
        _, given = get_relevant_lyric_tokens(range(1, len(times) + 1), room, song.seconds, start,
                                             seconds, times if aligned else None)
        seen += [n in given for n, t in enumerate(times) if start <= t < start + seconds]
    return float(np.mean(seen)) if seen else math.nan

evenly, by_time = (np.array([share_seen(s, aligned) for s in band]) for aligned in (False, True))
print(f"room for {ROOM} syllables; seen: evenly {np.nanmean(evenly):.2f}, by time "
      f"{np.nanmean(by_time):.2f}")

# %% [markdown]
# **Fast singing** makes it worse, in another way: when more is sung in a window than there is room for, no choice of letters can be complete. By how fast the songs are sung:

# %%
speed = np.array([len(sung_syllables(s)) / s.seconds for s in band])
thirds = np.array_split(np.argsort(speed), 3)
rows = [[name, float(speed[third].mean()), float(np.nanmean(evenly[third])),
         float(np.nanmean(by_time[third]))]
        for name, third in zip(("slow", "middle", "fast"), thirds)]
show_table(rows, ["songs", "syllables a second", "seen, evenly", "seen, by time"], digits=2,
           caption=f"{len(band)} songs of the band in thirds by speed, windows of 6 s.")

# %% [markdown]
# Slow songs gain from known times: every syllable of theirs is seen. Fast ones don't, for what they lack is room. Words that are not given can't be sung, or can only be mumbled. In real songs the singer's times are not known; they can be found by separating the voice and aligning the letters to it, which is what Jukebox's authors did for its training data.

# %% [markdown]
# ## 12.10 A whole prior
#
# Everything is there. A `SimplePrior` (the name is the original's) is a model of codes with its labels, its conditioner where there is a level above, and its way to hear lyrics. First what it is made of:

# %%
#| export
class _PriorParts(nn.Module):
    """The networks of a `SimplePrior` (section 12.10)."""

    def __init__(self, n_ctx: int, l_bins: int, level: int, downs_t: Sequence[int],
                 strides_t: Sequence[int], labels: bool, prior_kwargs: Mapping,
                 x_cond_kwargs: Mapping, y_cond_kwargs: Mapping, prime_kwargs: Mapping,
                 merged_decoder: bool, single_enc_dec: bool):
        super().__init__()
        width, scale = prior_kwargs["width"], prior_kwargs.get("init_scale", 1.0)
        self.x_cond, self.y_cond = level < len(downs_t) - 1, labels
        self.single_enc_dec = single_enc_dec
        self.n_tokens = prime_kwargs.get("n_tokens", 0)
        self.prime_bins = prime_kwargs.get("bins", 0)
        if self.x_cond:
            self.conditioner_blocks = nn.ModuleList([Conditioner(
                l_bins, downs_t[level + 1], strides_t[level + 1], width, scale, **x_cond_kwargs)])
        if labels:
            self.y_emb = LabelConditioner(n_time=n_ctx, out_width=width, init_scale=scale,
                                          include_time_signal=not self.x_cond, **y_cond_kwargs)
        joined = self.n_tokens if single_enc_dec else 0
        self.prior = ConditionalAutoregressive2D(
            n_ctx + joined, l_bins + (self.prime_bins if joined else 0), **prior_kwargs,
            y_cond=labels or single_enc_dec, merged_decoder=merged_decoder, prime_len=joined)
        if self.n_tokens and not single_enc_dec:
            self._add_encoder(prime_kwargs, width, scale)

    def _add_encoder(self, prime_kwargs: Mapping, width: int, scale: float) -> None:
        """The second transformer, which reads the letters."""
        sizes = {name: value for name, value in prime_kwargs.items()
                 if name not in ("n_tokens", "prime_loss_fraction", "bins")}
        self.prime_prior = ConditionalAutoregressive2D(self.n_tokens, self.prime_bins, **sizes,
                                                       only_encode=True)
        self.prime_state_proj = Conv1D(sizes["width"], width,
                                       init_scale=sizes.get("init_scale", 1.0))
        self.prime_state_ln = nn.LayerNorm(width)
        self.prime_x_out = nn.Linear(width, self.prime_bins, bias=False)
        nn.init.normal_(self.prime_x_out.weight, std=0.02 * scale)

# %% [markdown]
# Conditions from labels, letters and the codes above:

# %%
#| export
class _PriorConditions(_PriorParts):
    """What the parts make of labels, letters and the codes above (section 12.10)."""

    def get_cond(self, z_conds: Sequence[Tensor], y: Tensor | None
                 ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """x_cond (batch, n_ctx, width), y_cond (batch, 1, width) and letters; None where none."""
        y_cond = y_pos = letters = None
        if self.y_cond:
            labels = y.shape[1] - self.n_tokens
            (y_cond, y_pos), letters = self.y_emb(y[:, :labels]), y[:, labels:]
        x_cond = self.conditioner_blocks[0](z_conds[0]) if self.x_cond else y_pos
        return x_cond, y_cond, letters

    def get_encoder_kv(self, letters: Tensor | None) -> Tensor | None:
        """What layers that ask the letters hear, (batch, letter, width); None without encoder."""
        if not self.n_tokens or self.single_enc_dec:
            return None
        return self.prime_state_ln(self.prime_state_proj(self.prime_prior(letters)))

    def joined(self, z: Tensor, x_cond: Tensor | None, letters: Tensor
               ) -> tuple[Tensor, Tensor | None]:
        """Letters and codes as one row, and its condition, which is zero at the letters."""
        if x_cond is not None and x_cond.shape[1] > 1:
            x_cond = F.pad(x_cond, (0, 0, self.n_tokens, 0))
        return torch.cat([letters, z + self.prime_bins], 1), x_cond

# %% [markdown]
# And the prior itself, with all its sizes:

# %%
#| export
class SimplePrior(_PriorConditions):
    """A prior of one level: how likely codes are, given labels, the level above, and lyrics.

    n_ctx: codes of a window; l_bins: codes of the codebook. level: 0 is the finest; downs_t,
    strides_t: of all levels, level l has strides_t[l]^downs_t[l] times fewer codes than the one
    beneath. labels: whether there are any. prior_kwargs: width, depth, heads, ... of
    `ConditionalAutoregressive2D`; x_cond_kwargs: width, depth, ... of `Conditioner`; y_cond_kwargs:
    of `LabelConditioner`; prime_kwargs: n_tokens letters out of bins, prime_loss_fraction, and the
    encoder's width, depth, ... unless single_enc_dec puts the letters in front of the codes.

    z: codes (batch, n_ctx or fewer). z_conds: a list with the codes above, (batch, n_ctx / ratio),
    empty at the top. y: (batch, 4 + genres + n_tokens), see `LabelConditioner`, then the letters.
    Tensor names as openai/jukebox. Source: Dhariwal et al. 2020, section 4; section 12.10.
    """

    def __init__(self, n_ctx: int, l_bins: int = 2048, level: int = 2,
                 downs_t: Sequence[int] = (3, 2, 2), strides_t: Sequence[int] = (2, 2, 2),
                 labels: bool = True, *, prior_kwargs: Mapping,
                 x_cond_kwargs: Mapping | None = None, y_cond_kwargs: Mapping | None = None,
                 prime_kwargs: Mapping | None = None, merged_decoder: bool = False,
                 single_enc_dec: bool = False):
        prime_kwargs = prime_kwargs or {}
        super().__init__(n_ctx, l_bins, level, downs_t, strides_t, labels, prior_kwargs,
                         x_cond_kwargs or {}, y_cond_kwargs or {}, prime_kwargs, merged_decoder,
                         single_enc_dec)
        self.n_ctx, self.l_bins, self.level, self.levels = n_ctx, l_bins, level, len(downs_t)
        self.prime_loss_fraction = prime_kwargs.get("prime_loss_fraction", 0.0)
        ratios = [stride ** down for stride, down in zip(strides_t, downs_t)]
        self.raw_to_tokens = math.prod(ratios[:level + 1])
        self.cond_downsample = ratios[level + 1] if self.x_cond else None

    @property
    def sample_length(self) -> int:
        """Samples of audio that a window of codes stands for."""
        return self.n_ctx * self.raw_to_tokens

    def forward(self, z: Tensor, z_conds: Sequence[Tensor] = (),
                y: Tensor | None = None) -> dict[str, Tensor]:
        """What the codes cost, see `prior_loss`."""
        return prior_loss(self, z, z_conds, y)

# %% [markdown]
# The loss (12.4) for both ways, and for none:

# %%
#| export
def prior_loss(prior: SimplePrior, z: Tensor, z_conds: Sequence[Tensor] = (),
               y: Tensor | None = None) -> dict[str, Tensor]:
    """What a batch of codes costs: loss (eq. 12.4), gen_loss and prime_loss in bits per code and
    per letter, and preds, the logits of the codes, (batch, time, bins).

    Arguments as in `SimplePrior`. Source: section 12.10.
    """
    x_cond, y_cond, letters = prior.get_cond(z_conds, y)
    kv, n = prior.get_encoder_kv(letters), prior.n_tokens
    if prior.single_enc_dec:
        row, x_cond = prior.joined(z, x_cond, letters)
        logits = prior.prior.logits(row, x_cond, y_cond)
        letter_logits, preds, targets = logits[:, :n], logits[:, n:], row[:, n:]
    else:
        preds, targets = prior.prior.logits(z, x_cond, y_cond, kv), z
        letter_logits = None if kv is None else prior.prime_x_out(kv)
    in_bits = lambda guess, true: F.cross_entropy(guess.mT, true) / math.log(2)
    gen_loss = in_bits(preds, targets)
    prime_loss = in_bits(letter_logits, letters) if n else torch.zeros_like(gen_loss)
    loss = joint_loss(prime_loss, gen_loss, n, z.shape[1], prior.prime_loss_fraction)
    return {"loss": loss, "gen_loss": gen_loss, "prime_loss": prime_loss, "preds": preds}

# %% [markdown]
# And sampling, for one window:

# %%
#| export
@torch.no_grad()
def sample_prior(prior: SimplePrior, n_samples: int = 1, z: Tensor | None = None,
                 z_conds: Sequence[Tensor] = (), y: Tensor | None = None,
                 sample_tokens: int | None = None, **options) -> Tensor:
    """Draw a window of codes, (n_samples, sample_tokens or n_ctx), that begins with z.

    options: temp, top_k, top_p, generator, progress, ... of `sample`. Letters are never drawn in
    the place of codes. Source: Dhariwal et al. 2020, section 4; section 12.10.
    """
    x_cond, y_cond, letters = prior.get_cond(z_conds, y)
    length = prior.n_ctx if sample_tokens is None else sample_tokens
    if prior.single_enc_dec:
        z = letters.new_zeros(n_samples, 0) if z is None else z
        row, x_cond = prior.joined(z, x_cond, letters)
        row = sample(prior.prior, n_samples, row, x_cond, y_cond, first_code=prior.prime_bins,
                     sample_tokens=prior.n_tokens + length, **options)
        return row[:, prior.n_tokens:] - prior.prime_bins
    return sample(prior.prior, n_samples, z, x_cond, y_cond, prior.get_encoder_kv(letters),
                  sample_tokens=length, **options)

# %% [markdown]
# A small one of each kind: what do an untrained letter and an untrained code cost, and does the loss follow (12.4)?

# %%
NARROW = dict(width=16, depth=10, heads=2, blocks=4)
MADE = dict(n_ctx=24, l_bins=10, level=0, downs_t=(0,), strides_t=(2,),
            y_cond_kwargs=dict(y_bins=(5, 3), t_bins=8, sr=1.0, min_duration=1, max_duration=100,
                               max_bow_genre_size=2))
LETTERS = dict(n_tokens=8, bins=6, prime_loss_fraction=0.4)

torch.manual_seed(0)
two_networks = SimplePrior(**MADE, prior_kwargs=NARROW | dict(attn_order=8),
                           prime_kwargs=LETTERS | dict(width=16, depth=3, heads=2, attn_order=2,
                                                       blocks=2)).eval()
one_network = SimplePrior(**MADE, prior_kwargs=NARROW | dict(attn_order=12, depth=16),
                          prime_kwargs=LETTERS, single_enc_dec=True).eval()
z = torch.randint(10, (2, 24), generator=P.generator)
y = torch.cat([torch.tensor([[50, 0, 24, 1, 2, -1]] * 2),
               torch.randint(6, (2, 8), generator=P.generator)], 1)

# %% [markdown]
# In the first, a letter is one of 6 and a code one of 10; in the second both are one of 16.

# %%
for prior, name in ((two_networks, "two networks"), (one_network, "one network")):
    with torch.no_grad():
        cost = prior_loss(prior, z, y=y)
    print(f"{name}: {float(cost['prime_loss']):.1f} bits a letter, "
          f"{float(cost['gen_loss']):.1f} bits a code")
    expected = (0.4 * 8 * cost["prime_loss"] + 24 * cost["gen_loss"]) / 32
    assert torch.allclose(cost["loss"], expected)

# %% [markdown]
# Both sample, and no letter comes out where a code should be:

# %%
for prior in (two_networks, one_network):
    drawn_codes = sample_prior(prior, 2, z[:, :5], y=y, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn_codes[:, :5], z[:, :5]) and drawn_codes.shape == (2, 24)
    assert drawn_codes.min() >= 0 and drawn_codes.max() < 10
print("2 x 24 codes from each")

# %% [markdown]
# **Look at the lyrics.** The weights of a layer that asks the letters are a table: for each code, where in the text it looks. In a trained prior some head shows a line that climbs; the authors name it for both models, and read from it when each word is sung. The weights are not kept in normal use; ask for them:

# %%
#| export
@torch.no_grad()
def lyric_attention(prior: SimplePrior, layer: int, z: Tensor, y: Tensor,
                    z_conds: Sequence[Tensor] = ()) -> Tensor:
    """What each code looks at in the letters: weights (batch, head, code, letter) of a layer of the
    kind ENCODER or LYRICS.

    Rows of ENCODER add up to 1; of LYRICS some weight may go to codes. ValueError for a layer of
    another kind. Source: section 12.10.
    """
    attn = prior.prior.transformer._attn_mods[layer].attn
    if attn.attn_func not in (ENCODER, LYRICS):
        raise ValueError(f"layer {layer} is of kind {attn.attn_func}; expected one that sees "
                         f"letters, {ENCODER} or {LYRICS}")
    seen = []
    hook = attn.register_forward_hook(lambda module, given, result: seen.append(given))
    try:
        prior_loss(prior, z, z_conds, y)
    finally:
        hook.remove()
    x, kv = seen[0][:2]
    q = attn.c_attn(x) if kv is not None else attn.c_attn(x).chunk(3, -1)[0]
    k = attn.encoder_keys(kv, None)[0] if kv is not None else attn.c_attn(x).chunk(3, -1)[1]
    q, k = (one.unflatten(-1, (attn.n_head, -1)).transpose(1, 2) for one in (q, k))
    products = q @ k.mT / q.shape[-1] ** 0.5
    if kv is not None:
        return products.softmax(-1)
    allowed = allowed_pairs(LYRICS, x.shape[1], attn.block, attn.lyrics).to(x.device)
    weights = products.masked_fill(~allowed, -torch.inf).softmax(-1)
    return weights[:, :, prior.n_tokens:, :prior.n_tokens]

# %% [markdown]
# A table of the right shape, whose rows are shares:

# %%
table = lyric_attention(two_networks, 9, z, y)
assert table.shape == (2, 2, 24, 8) and torch.allclose(table.sum(-1), torch.ones(2, 2, 24))
assert (lyric_attention(one_network, 15, z, y).sum(-1) <= 1 + 1e-6).all()
print("layer 9 of the first:", tuple(table.shape), "(batch, head, code, letter)")

# %% [markdown]
# **A decoder that can sing already.** Training the large prior anew for lyrics would throw away what it has learned. Instead the trained one is taken apart, and layers that ask the letters are put between its own. Their output weights begin at zero, for attention and small network alike, so that at first they do nothing: the new prior *is* the old one, and learns to listen from there.

# %%
#| export
def restore_decoder(prior: SimplePrior, decoder: SimplePrior) -> SimplePrior:
    """Give a prior with an encoder the weights of one without; layers that ask letters keep theirs,
    which begin as if they weren't there.

    Both must agree in all else: as many other layers, equal widths; else ValueError. Returns the
    prior. Source: Dhariwal et al. 2020, section 4; section 12.10.
    """
    into = [block for block in prior.prior.transformer._attn_mods if block.attn_func != ENCODER]
    from_ = list(decoder.prior.transformer._attn_mods)
    if [block.attn_func for block in into] != [block.attn_func for block in from_]:
        raise ValueError(f"the decoder has {len(from_)} layers and the prior {len(into)} beside "
                         "those that ask letters; expected as many, of the same kinds")
    for new, old in zip(into, from_):
        new.load_state_dict(old.state_dict())
    others = {name: value for name, value in decoder.state_dict().items()
              if not name.startswith("prior.transformer.")}
    unknown = prior.load_state_dict(others, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the prior has no {unknown[0]}, which the decoder has; expected two "
                         "priors that differ in the encoder only")
    return prior

# %% [markdown]
# See it: nine layers, then ten with an encoder. Weights of all layers are drawn large, so that nothing is hidden; the tenth keeps its zeros.

# %%
torch.manual_seed(1)
plain = SimplePrior(**MADE, prior_kwargs=NARROW | dict(attn_order=2, depth=9,
                                                       init_scale=8.0)).eval()
singing = SimplePrior(**MADE, prior_kwargs=NARROW | dict(attn_order=8, init_scale=8.0),
                      prime_kwargs=LETTERS | dict(width=16, depth=3, heads=2, attn_order=2,
                                                  blocks=2)).eval()
with torch.no_grad():
    expected = prior_loss(plain, z, y=y[:, :6])["preds"]
    different = (prior_loss(singing, z, y=y)["preds"] - expected).abs().max()
    restored = prior_loss(restore_decoder(singing, plain), z, y=y)["preds"]
print("equal at the start:", torch.equal(restored, expected))
assert torch.equal(restored, expected) and different > 1e-2

# %% [markdown]
# One step of training, and the letters are heard: the new weights get a gradient although they are zero.

# %%
prior_loss(singing.train(), z, y=y)["loss"].backward()
asking = singing.prior.transformer._attn_mods[9]
assert asking.attn.c_proj.w.abs().max() == 0 and asking.attn.c_proj.w.grad.abs().max() > 0
assert asking.attn.c_enc_kv.w.grad.abs().max() == 0          # not yet: what follows is still zero
print("output weights: a gradient; keys and values: none before the second step")

# %% [markdown]
# ## 12.11 The published priors
#
# Their weights take gigabytes. But PyTorch can build a network on the device `meta`, where tensors have a shape and no numbers. So the sizes can be checked on any laptop:

# %%
#| export
_LABELS_V2 = dict(y_bins=(120, 4111), t_bins=128, sr=44100, max_duration=600.0,
                  max_bow_genre_size=5)
_UPSAMPLER = dict(
    n_ctx=8192, prior_kwargs=dict(width=1920, depth=72, heads=1, attn_order=2, blocks=128,
                                  init_scale=0.4),
    y_cond_kwargs=_LABELS_V2 | dict(min_duration=23.8))
_CONVOLUTIONS = dict(width=1024, depth=16, dilation_growth_rate=3, dilation_cycle=8)
_LARGE = dict(width=4800, heads=8, blocks=128, init_scale=0.1)

PUBLISHED: dict[str, dict] = {
    "5b": dict(n_ctx=8192, prior_kwargs=_LARGE | dict(depth=72, attn_order=2),
               y_cond_kwargs=_LABELS_V2 | dict(min_duration=60.0), merged_decoder=True),
    "5b_lyrics": dict(
        n_ctx=8192, prior_kwargs=_LARGE | dict(depth=79, attn_order=10),
        y_cond_kwargs=_LABELS_V2 | dict(min_duration=23.8), merged_decoder=True,
        prime_kwargs=dict(n_tokens=512, bins=80, prime_loss_fraction=0.4, width=1280, depth=18,
                          heads=4, attn_order=2, blocks=32, init_scale=0.7)),
    "1b_lyrics": dict(
        n_ctx=6144, prior_kwargs=dict(width=2048, depth=72, heads=2, attn_order=12, blocks=64,
                                      init_scale=0.2),
        y_cond_kwargs=_LABELS_V2 | dict(y_bins=(604, 7898), t_bins=64, max_bow_genre_size=1,
                                        min_duration=17.84), single_enc_dec=True,
        prime_kwargs=dict(n_tokens=384, bins=79, prime_loss_fraction=0.4)),
    "upsampler_level_1": _UPSAMPLER | dict(level=1, x_cond_kwargs=_CONVOLUTIONS | dict(
        res_scale=True)),
    "upsampler_level_0": _UPSAMPLER | dict(level=0, x_cond_kwargs=_CONVOLUTIONS),
}

# %% [markdown]
# A prior in one of these sizes:

# %%
#| export
def published_prior(name: str, device: str = "meta") -> SimplePrior:
    """A prior in the sizes of a published one; on the device "meta" it takes no memory.

    ValueError for a name that isn't in PUBLISHED. Source: openai/jukebox; section 12.11.
    """
    if name not in PUBLISHED:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(PUBLISHED)}")
    with torch.device(device):
        return SimplePrior(**PUBLISHED[name])

# %% [markdown]
# Count, and compare with the published totals:

# %%
def parameters(network):
    """Numbers that training moves."""
    return sum(p.numel() for p in network.parameters())

official = {row["prior"]: int(row["parameters"]) for row in published("jukebox_priors")}
counts = {name: parameters(published_prior(name)) for name in official}
show_table([[name, f"{counts[name]:,}", f"{official[name]:,}", f"{2 * counts[name] / 1e9:.1f}"]
            for name in counts], ["prior", "ours", "published", "GB in 16 bits"])
assert counts == official

# %% [markdown]
# Where do they go? Two thirds into the small networks, which are as wide as the token, and a third into attention, a quarter as wide:

# %%
big = published_prior("5b")
parts = {"attention": sum(parameters(b.attn) for b in big.prior.transformer._attn_mods),
         "small networks": sum(parameters(b.mlp) for b in big.prior.transformer._attn_mods),
         "places": parameters(big.prior.pos_emb),
         "codes": parameters(big.prior.x_emb) + parameters(big.prior.x_out),
         "labels and times": parameters(big.y_emb)}
show_table([[name, count / 1e6, 100 * count / counts["5b"]] for name, count in parts.items()],
           ["part of 5b", "million", "%"], digits=1)
assert abs(sum(parts.values()) / counts["5b"] - 1) < 1e-3

# %% [markdown]
# How much music does a context hold? At 44.1 kHz, with 8, 32 and 128 samples a code:

# %%
seconds = {name: published_prior(name).sample_length / 44100 for name in official}
show_table([[name, PUBLISHED[name]["n_ctx"], length] for name, length in seconds.items()],
           ["prior", "codes of context", "seconds"], digits=1)
assert seconds["5b"] > 15 * seconds["upsampler_level_0"]

# %% [markdown]
# The top prior remembers less than half a minute: enough for a phrase to come back, not for a chorus. That is what timing and labels must make up for.
#
# ## 12.12 All levels, window by window
#
# A song is drawn from the top: all windows of the top level, then, given its codes, all of the next, and so on. Each window gets labels of its own, for its place in the song and its letters:

# %%
#| export
def window_labels(prior: SimplePrior, labels: Mapping | None, start: int) -> Tensor | None:
    """The labels of the window that begins at code `start`: (batch, 4 + genres + n_tokens).

    labels: y (batch, 4 + genres) as in `LabelConditioner`, with where the first window begins as
    offset; letters and, perhaps, times: a list an item for a prior with lyrics, times in samples.
    None without labels. Source: section 12.12.
    """
    if labels is None or not prior.y_cond:
        return None
    y = labels["y"].clone()
    y[:, 1] += start * prior.raw_to_tokens
    y[:, 2] = prior.sample_length
    if not prior.n_tokens:
        return y
    times = labels.get("times") or [None] * len(y)
    letters = [get_relevant_lyric_tokens(text, prior.n_tokens, *map(int, row[:3]), at)[0]
               for text, row, at in zip(labels["letters"], y, times)]
    return torch.cat([y, torch.tensor(letters, dtype=y.dtype, device=y.device)], 1)

# %% [markdown]
# The codes above for the same stretch of time; beyond the end they are filled with zeros:

# %%
#| export
def window_above(prior: SimplePrior, zs: Sequence[Tensor], start: int) -> list[Tensor]:
    """The codes of the level above for the window that begins at code `start`; [] at the top.

    ValueError unless the window begins with a code above. Source: section 12.12.
    """
    if not prior.x_cond:
        return []
    ratio, above = prior.cond_downsample, zs[prior.level + 1]
    if start % ratio:
        raise ValueError(f"a window begins at code {start}; expected a multiple of {ratio}, the "
                         "codes for one of the level above: choose another hop")
    first, count = start // ratio, prior.n_ctx // ratio
    piece = above[:, first:first + count]
    return [F.pad(piece, (0, count - piece.shape[1]))]

# %% [markdown]
# One level:

# %%
#| export
def sample_level(prior: SimplePrior, zs: list[Tensor], total_length: int, hop_length: int,
                 labels: Mapping | None = None, **options) -> list[Tensor]:
    """Draw the codes of the prior's level up to total_length, window by window.

    zs: the codes of all levels, finest first, (batch, time) each; of this level what is given, of
    the one above all. hop_length: codes between windows. labels: see `window_labels`. options: of
    `sample`. Returns zs, with this level drawn. Source: openai/jukebox; section 12.12.
    """
    zs, level = list(zs), prior.level
    window = min(prior.n_ctx, total_length)
    for start in get_starts(total_length, window, min(hop_length, window)):
        given = zs[level][:, start:start + window]
        if given.shape[1] < window:
            drawn = sample_prior(prior, len(given), given, window_above(prior, zs, start),
                                 window_labels(prior, labels, start), window, **options)
            zs[level] = torch.cat([zs[level], drawn[:, given.shape[1]:]], 1)
    return zs

# %% [markdown]
# All of them, from the top down:

# %%
#| export
HOP_FRACTION = (0.125, 0.5, 0.5)                                # of the context, finest level first


def sample_levels(priors: Mapping[int, SimplePrior], zs: Sequence[Tensor], sample_length: int,
                  labels: Mapping | None = None, hop_fraction: Sequence[float] = HOP_FRACTION,
                  **options) -> list[Tensor]:
    """Draw the codes of all levels that have a prior, from the top down.

    priors: by level. zs: what is given of each level, (batch, time >= 0), finest first.
    sample_length: samples of audio in all, a multiple of each level's hop, else ValueError. labels:
    for all levels, see `window_labels`. hop_fraction: by level. options: of `sample`. Source:
    openai/jukebox; section 12.12.
    """
    zs = list(zs)
    for level in sorted(priors, reverse=True):
        prior = priors[level]
        codes, rest = divmod(sample_length, prior.raw_to_tokens)
        if rest:
            raise ValueError(f"sample_length is {sample_length}; expected a multiple of "
                             f"{prior.raw_to_tokens}, the hop of level {level}")
        hop = max(1, int(hop_fraction[level] * prior.n_ctx))
        zs = sample_level(prior, zs, codes, hop, labels, **options)
    return zs

# %% [markdown]
# A toy of two levels, one code above for four beneath, 96 codes with a context of 24; the first ten are given:

# %%
tops_made = dict(MADE, downs_t=(0, 2), strides_t=(2, 2), level=1)
torch.manual_seed(0)
sizes = NARROW | dict(depth=3, attn_order=2)
priors = {1: SimplePrior(**tops_made, prior_kwargs=sizes).eval(),
          0: SimplePrior(**dict(tops_made, level=0), prior_kwargs=sizes,
                         x_cond_kwargs=dict(width=8, depth=2)).eval()}
given = [torch.zeros(1, 0, dtype=torch.long), z[:1, :10]]
about = {"y": torch.tensor([[96, 0, 0, 1, 2, -1]])}
zs = sample_levels(priors, given, 96, about, (0.5, 0.5),
                   generator=torch.Generator().manual_seed(0))
print([tuple(level.shape) for level in zs])
assert [level.shape[1] for level in zs] == [96, 24] and torch.equal(zs[1][:, :10], z[:1, :10])

# %% [markdown]
# The same seed, the same song:

# %%
again = sample_levels(priors, given, 96, about, (0.5, 0.5),
                      generator=torch.Generator().manual_seed(0))
assert all(torch.equal(a, b) for a, b in zip(zs, again))

# %% [markdown]
# With a codec and priors that are trained on its codes, `course generate` does this from the command line: labels, lyrics, a song to go on from, a seed.
#
# ## 12.13 Priors of the band
#
# Now for sound. Chapter 11's codec turned 300 songs of the band into codes, and two priors learned them: one for the top level, with style, tempo, instruments and sung syllables, and an upsampler for the level beneath. Both come with the course; `course train priors_band_top` and `course train priors_band_up` make them again.

# %%
codec = load_trained("jukebox_band")
top, up = (load_trained(f"priors_band_{name}") for name in ("top", "up"))
rate = codec.facts.rate
show_table([[network.card["what"], network.card["parameters"] / 1e6, network.card["steps"],
             network.card["minutes"], network.n_ctx, network.sample_length / rate]
            for network in (top, up)],
           ["prior", "million", "steps", "minutes", "codes of context", "seconds"], digits=1)

# %% [markdown]
# **What do they know?** Bits per code on the test songs, beside counts of single codes and of pairs; and what it costs to be told the wrong thing: the labels of another song, its letters, or, for the upsampler, its codes above.

# %%
song_bits = {}
for row in measured("12_priors_and_sampling/bits"):
    song_bits.setdefault((row["prior"], row["method"]), []).append(float(row["bits"]))
bits_of = {key: torch.tensor(values) for key, values in song_bits.items()}
table = [[prior, method, *mean_interval(values)] for (prior, method), values in bits_of.items()]
show_table(table, ["prior", "what guesses", "bits per code", "from", "to"],
           caption="Means over the test songs and their 95% intervals; a blind guess costs "
                   f"{math.log2(top.l_bins):g} bits.")

# %% [markdown]
# The same, as differences within songs, which is what counts:

# %%
def worse_by(prior, method, than="model"):
    """By how many bits a method is worse in each song: (song,)."""
    return bits_of[prior, method] - bits_of[prior, than]

told = [key for key in bits_of if key[1] not in ("model", "unigram")]
figure, axis = plt.subplots(figsize=(7, 2.6))
for place, key in enumerate(told):
    mean, low, high = mean_interval(worse_by(*key))
    axis.errorbar(mean, -place, xerr=[[mean - low], [high - mean]], fmt="o",
                  color="C0" if "top" in key[0] else "C1")
axis.axvline(0, color="0.6", lw=1)
axis.set_xscale("symlog", linthresh=0.01)
axis.set_yticks([-n for n in range(len(told))],
                [f"{'top' if 'top' in prior else 'upsampler'}: {method}" for prior, method in told])
axis.set(xlabel="bits per code more than the model")
show(figure, "What a code costs more with counts, and when the prior is told the wrong thing.",
     "A row a method with mean and interval in bits more than the model, on an axis that is "
     "logarithmic beyond a hundredth of a bit.")

# %% [markdown]
# The axis is logarithmic, but for its middle. A code of the top level stands for six milliseconds, and which of many similar ones comes next is hard to guess; what the upsampler is told from above is worth most. Counts of pairs gain little over counts of codes: 512 codes make a quarter of a million pairs, most of which the songs never show.
#
# **Ten seconds of music.** Labels first; then the top level, from nothing:

# %%
def asked(style, tempo, instruments, batch=1):
    """Labels for `sample_levels`: the middle of a song of 20 s, without words."""
    numbers = asked_labels(style, tempo, instruments)
    return {"y": torch.tensor([[20 * rate, 5 * rate, 0, *numbers]] * batch),
            "letters": [[]] * batch}

def nothing(batch=1):
    """Codes of no level yet."""
    return [torch.zeros(batch, 0, dtype=torch.long) for _ in range(3)]

labels = asked("rock", 120, "drums, electric bass, electric guitar")
length = round(P.new_seconds * rate / 512) * 512
zs = sample_levels({2: top}, nothing(), length, labels, generator=torch.Generator().manual_seed(1),
                   progress="top level")

# %% [markdown]
# Early sound: the codec can decode the top level alone. It's like hearing a band through a wall, for hop 128 keeps little above some hundred hertz:

# %%
def decoded(zs, level, song=0):
    """Codes of a level as sound, (1, time)."""
    with torch.no_grad():
        return codec.decode(zs[level][song:song + 1], level=level)[0]

coarse = decoded(zs, 2)
listen(coarse, rate, "new music, top level only")

# %% [markdown]
# Then the upsampler writes four codes for each of the top, and knows them all beforehand, also those to come:

# %%
zs = sample_levels({1: up}, zs, length, labels, generator=torch.Generator().manual_seed(1),
                   progress="level 1")
fine = decoded(zs, 1)
print(f"{length / rate:.0f} s of music: {zs[2].shape[1]} + {zs[1].shape[1]} codes")
listen(fine, rate, "new music, both levels")

# %% [markdown]
# What was added shows in the spectrogram:

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
for axis, sound, name in zip(axes, (coarse, fine), ("top level only", "both levels")):
    plot_spectrogram(sound[0], rate, name, ax=axis)
show(figure, "The same codes of the top level, decoded alone and filled in by the upsampler.",
     "Two spectrograms over ten seconds with the same events in time; the right one has more "
     "detail and more strength at high frequencies.")
high = [float(torch.fft.rfft(sound[0]).abs()[torch.fft.rfftfreq(sound.shape[1], 1 / rate) > 2000]
              .square().sum()) for sound in (coarse, fine)]
assert high[1] > high[0] > 0

# %% [markdown]
# **Not too careful.** These codes were drawn as the prior says, with temperature 1 and no nucleus. Is it not safer to leave out what is unlikely? Draw eight rows each way, and see how loud they are as time passes; the dashed line is what the band plays:

# %%
def levels_over_time(draws, **options):
    """RMS of every half second of new music, top level only: (draw, half second)."""
    zs = sample_levels({2: top}, nothing(draws), round(5 * rate / 512) * 512,
                       asked("rock", 120, "drums, electric bass, electric guitar", draws),
                       generator=torch.Generator().manual_seed(0), **options)
    sound = torch.cat([decoded(zs, 2, n) for n in range(draws)])
    return sound[:, :rate // 2 * 10].unflatten(1, (10, -1)).square().mean(-1).sqrt()

ways = {"temperature 1": {}, "temperature 0.95, nucleus 0.95": dict(temp=0.95, top_p=0.95)}
loudness = {name: levels_over_time(8, **options) for name, options in ways.items()}

# %% [markdown]
# A line a draw:

# %%
played = experiment.band_codes("test", 2)[0].codes[2][None]
with torch.no_grad():
    usual = float(codec.decode(played, level=2).square().mean().sqrt())
figure, axes = plt.subplots(1, 2, figsize=(8, 2.5), sharey=True)
for axis, (name, rows) in zip(axes, loudness.items()):
    axis.plot(np.arange(10) / 2 + 0.25, rows.T, "C0", lw=1)
    axis.axhline(usual, color="0.4", ls="--")
    axis.set(title=name, xlabel="seconds", yscale="log")
axes[0].set_ylabel("RMS")
show(figure, "How loud eight draws are as time passes; dashed: a song of the band.",
     "Eight lines each; on the left they wander about the dashed line, some far below it; on the "
     "right most fall to one low level and stay there.")
ends = {name: float((rows[:, -1] < usual / 5).float().mean()) for name, rows in loudness.items()}
print("fallen silent after five seconds, careful draws more often:",
      ends["temperature 0.95, nucleus 0.95"] > ends["temperature 1"])

# %% [markdown]
# At temperature 1 draws swell and fade, and some go quiet, too. The careful way sinks into silence and doesn't come back: the likeliest code after a quiet one is a quiet one. A likely reason: where a sound has a few hundred codes that will do, each is unlikely, and a nucleus favours what has only a few, which is silence and hum. Holtzman and others found the same in text, and their remedy was the nucleus against the likeliest code alone; here even the nucleus is too careful. Jukebox's authors draw with temperatures of 0.98 and 0.99.
#
# **Judge for yourself:** what of the ten seconds is the band's? Is there a beat, a key, a melody? Then compare the means with the paper's:

# %%
smaller = counts["5b"] / parameters(top)
print(f"the paper's top prior is {smaller:.0f} times as large, and its context "
      f"{seconds['5b'] / (top.sample_length / rate):.0f} times as long")

# %% [markdown]
# **Is it what was asked for?** Music was drawn with the labels of each test song. Chapter 13's tagger hears it and gives each instrument a score. Scores and labels are compared by their cosine, after the mean over songs is taken from both, for an instrument that every song has says nothing: 1 is exactly as asked. A tempo is measured from the onsets, and its distance to the one
# asked for is counted in octaves, halves and doubles being equal. Beside it, the same for labels of *another* song, and for what the band really played, through the same codec, as a yardstick.

# %%
def by_kind(table, *names):
    """Rows of a results table by the values of columns, each a list over songs."""
    kinds = {}
    for row in measured(f"12_priors_and_sampling/{table}"):
        kinds.setdefault(tuple(row[name] for name in names), []).append(row)
    return kinds

def column(rows, name):
    """A column as numbers, (song,)."""
    return torch.tensor([float(row[name]) for row in rows])

def songs_in(kinds):
    """How many songs a kind has."""
    return len(next(iter(kinds.values())))

wanted = by_kind("asked", "audio", "labels")
show_table([[audio, labels_of, float(column(rows, "tags").mean()),
             float(column(rows, "tempo_octaves").mean())]
            for (audio, labels_of), rows in wanted.items()],
           ["music", "labels", "likeness of tags", "distance of tempi, octaves"],
           caption=f"Means over {songs_in(wanted)} songs.")

# %% [markdown]
# Read the last two rows first. Where even music that was really played, once through the codec, isn't nearer to its own labels than to another song's, the measure is blind, and nothing follows for what was drawn. In pairs, with intervals over songs:

# %%
def own_over_other(kinds, name, *first):
    """How much larger a column is for a song's own, less another song's: (song,)."""
    return column(kinds[*first, "its own"], name) - column(kinds[*first, "another song's"], name)

tags_steered = own_over_other(wanted, "tags", "drawn")
tempo_steered = -own_over_other(wanted, "tempo_octaves", "drawn")
print("instruments, likeness:", difference_in_words(tags_steered, ""))
print("tempo, nearer by octaves:", difference_in_words(tempo_steered, ""))
for name, what in (("tags", "likeness"), ("tempo_octaves", "tempo")):
    bound = own_over_other(wanted, name, "played") * (1 if name == "tags" else -1)
    print(f"yardstick, what was played, {what}:", difference_in_words(bound, ""))

# %% [markdown]
# **Going on from a beginning.** A prime is encoded, and the prior goes on. Here six seconds of each test song were continued for five; chroma (chapter 7) tells whether the key stays, and the tempo is compared again, both with the song's own beginning and with another's:

# %%
continued = by_kind("continued", "continuation", "beginning")
show_table([[music, begin, float(column(rows, "chroma").mean()),
             float(column(rows, "tempo_octaves").mean())]
            for (music, begin), rows in continued.items()],
           ["continuation", "compared with", "likeness of chroma", "distance of tempi, octaves"],
           caption=f"Means over {songs_in(continued)} songs, top level. 1: equal chroma.")
key_kept = own_over_other(continued, "chroma", "drawn")
tempo_kept = -own_over_other(continued, "tempo_octaves", "drawn")
print("key:", difference_in_words(key_kept, "of chroma"))
print("tempo, nearer by octaves:", difference_in_words(tempo_kept, ""))

# %% [markdown]
# Now with a song of your own: put the path of a file between the quotes. Without one it's a recording that no model of this course has been trained on.

# %%
MY_SONG = ""
prime = (read_prime(MY_SONG, rate, P.prime_seconds) if MY_SONG else
         recording("fishin", start=14.0, seconds=P.prime_seconds, mono=True, rate=rate)[0][None])
prime = prime[..., :prime.shape[-1] // 512 * 512]
with torch.no_grad():
    begun = [codes.long() for codes in codec.encode(prime)]
listen(decoded(begun, 1), rate, "the beginning, through the codec")

# %% [markdown]
# Both levels begin with it, and go on:

# %%
more = prime.shape[-1] + round(P.more_seconds * rate / 512) * 512
about = asked("folk", 100, "acoustic guitar, vocals")
whole = sample_levels({2: top, 1: up}, begun, more, about,
                      generator=torch.Generator().manual_seed(0), progress="going on")
listen(decoded(whole, 1), rate, f"the beginning, and {P.more_seconds:g} s that are new")
assert torch.equal(whole[1][:, :begun[1].shape[1]], begun[1])

# %% [markdown]
# **Structure above, timbre below.** One top row, three seeds of the upsampler. If the top level holds the structure, then notes stay and what is left to chance is detail:

# %%
row = zs[2][:, :round(P.draw_seconds * rate / 512) * 4].repeat(3, 1)
thrice = [*nothing(3)[:2], row]
thrice = sample_levels({1: up}, thrice, row.shape[1] * top.raw_to_tokens,
                       asked("rock", 120, "drums, electric bass, electric guitar", 3),
                       generator=torch.Generator().manual_seed(3), progress="three draws")
for draw in range(3):
    listen(decoded(thrice, 1, draw), rate, f"one top row, draw {draw + 1}")

# %% [markdown]
# Measured on the test songs' own top rows: two draws for one row against draws for two songs' rows, by likeness of chroma, and by distance of the mean mel cepstrum, which stands for timbre:

# %%
filled = by_kind("filled_in", "pair")
show_table([[pair, *mean_interval(column(rows, "chroma")),
             *mean_interval(column(rows, "timbre_distance"))] for (pair,), rows in filled.items()],
           ["two draws for", "chroma", "from", "to", "timbre, distance", "from", "to"],
           caption=f"{songs_in(filled)} songs, means and intervals.")
one_row, two_rows = filled["one top row",], filled["two top rows",]
structure = column(one_row, "chroma") - column(two_rows, "chroma")
print("chroma, one row over two:", difference_in_words(structure, ""))
left = [float(column(rows, "timbre_distance").mean()) for rows in (one_row, two_rows)]
print(f"of the distance in timbre between songs, a draw moves {100 * left[0] / left[1]:.0f}%")

# %% [markdown]
# So the row fixes the harmony, and most of the timbre, too: the upsampler sees codes of six milliseconds, which say a good deal about sound, and is told the instruments besides. The paper's division, structure above and timbre below, is not as clean here.
#
# **Does it read the words?** The layer that asks the letters, of the trained prior, on a test song with a singer. If the prior had learned which syllable is sung when, the picture would show a line that climbs (white: where the syllables really are):

# %%
song = next(one for one in experiment.band_codes("test", 2) if one.letters)
windows = experiment.windows_for(top, [song])
first = (len(song.codes[2]) - top.n_ctx) // 2
item = windows.window(song, first)
table = lyric_attention(top, 9, item["z"][None], item["y"][None])[0]        # (head, code, letter)
text, places = get_relevant_lyric_tokens(song.letters, top.n_tokens, song.samples,
                                         first * top.raw_to_tokens, top.sample_length, song.times)
sung = [(song.times[n] / top.raw_to_tokens - first, at) for at, n in enumerate(places) if n >= 0]
figure, axes = plt.subplots(1, len(table), figsize=(9, 2.6), sharey=True)
for head, (axis, weights) in enumerate(zip(axes, table)):
    axis.imshow(weights.T, origin="lower", aspect="auto", cmap="magma",
                vmax=float(weights.quantile(0.99)))
    axis.plot(*zip(*[(t, at) for t, at in sung if 0 <= t < top.n_ctx]), "w.", ms=1.5)
    axis.set(title=f"head {head}", xlabel="code")
axes[0].set_ylabel("letter")
show(figure, "Where each code looks in the letters; white dots: when each letter is sung.",
     "Four pictures of attention over 1024 codes and 96 letters, with a line of white dots that "
     "climbs.")

# %% [markdown]
# Is there a line? Compare the mean place a code looks at with the letter that is sung then:

# %%
looked = (table * torch.arange(top.n_tokens)).sum(-1)                       # (head, code)
inside = [(int(t), at) for t, at in sung if 0 <= t < top.n_ctx]
heads = [float(np.corrcoef([float(row[t]) for t, _ in inside], [at for _, at in inside])[0, 1])
         for row in looked]
print("correlation by head:", [round(r, 1) for r in heads])
letters_cost = worse_by("priors_band_top", "letters of another song")
print("letters of another song cost", difference_in_words(letters_cost, "bits per code"))

# %% [markdown]
# No line: the bright rows are letters that nearly every code looks at, wherever it stands, and where a mean hardly moves, a correlation says little. The letters of another song cost nothing that could be told from zero. This prior does not read.
#
# ## 12.14 What a cache saves
#
# `benchmarks/priors_speed.py` draws 512 codes with a cache and without, in turn:

# %%
speed_rows = measured("12_priors_and_sampling/speed")
show_table([[int(row["width"]), int(row["depth"]), float(row["cached_seconds"]),
             float(row["uncached_seconds"]), float(row["times_faster"])] for row in speed_rows],
           ["width", "layers", "cached, s", "uncached, s", "times faster"], digits=1,
           caption=f"{speed_rows[0]['codes']} codes, median of {speed_rows[0]['turns']} turns, "
                   f"processor time of one thread on {speed_rows[0]['machine']}.")
faster = {int(row["width"]): float(row["times_faster"]) for row in speed_rows}

# %% [markdown]
# The wider network gains more. A likely reason: with a cache each code goes through alone, and a small network then spends more time on calling its layers than on arithmetic.
#
# ## 12.15 What we built
#
# | name | what | section |
# |---|---|---|
# | `Conv1D`, `quick_gelu`, `MLP`, `attend` | the parts of a block | 12.2 |
# | `allowed_pairs`, `row_attention`, `column_attention`, `previous_row_attention` | factorised attention | 12.3 |
# | `Cache`, `newest_slice`, `FactoredAttention`, `ResAttnBlock`, `attn_funcs`, `Transformer` | the transformer, with a memory | 12.4 |
# | `PositionEmbedding`, `ConditionalAutoregressive2D` | codes in, guesses out | 12.5 |
# | `filter_logits`, `sample`, `get_starts` | sampling | 12.6 |
# | `SimpleEmbedding`, `RangeEmbedding`, `LabelConditioner` | labels and timing | 12.7 |
# | `ResConv1DBlock`, `Resnet1D`, `DecoderConvBock`, `Conditioner` | the level above | 12.8 |
# | `joint_loss`, `get_relevant_lyric_tokens` | lyrics | 12.9 |
# | `SimplePrior`, `prior_loss`, `sample_prior`, `lyric_attention`, `restore_decoder` | a whole prior | 12.10 |
# | `PUBLISHED`, `published_prior` | the published sizes | 12.11 |
# | `window_labels`, `window_above`, `sample_level`, `sample_levels` | all levels, window by window | 12.12 |
#
# All of it is in `course_lib.priors`.
#
# ## 12.16 Paper claims
#
# What the authors say of songs of minutes, drawn by five billion parameters and judged by ears, *needs real data*. What can be tested here is tested on melodies and on the band's codes; the unit is a song, and every prior was trained once.

# %%
PAPER = "Dhariwal et al. 2020"
claims = [
    *(Claim(f"Parameters of {name}", "openai/jukebox", "12.11", f"{official[name]:,}",
            f"{counts[name]:,}", reproduced(counts[name], official[name], 0)) for name in counts),
    Claim("A transformer needs fewer bits than counts of pairs", PAPER, "12.5", None,
          sure(bigram_bits - ours, 0.15, "bits"), same_trend(bigram_bits - ours)),
    Claim("Labels make codes easier to guess", PAPER, "12.7", "order only",
          sure(told_wrong - told_right, 0.5, "bits per note"),
          same_trend(told_wrong - told_right)),
    Claim("Labels steer what is drawn", PAPER, "12.7", "by ear",
          sure(100 * (in_asked - in_other), 50, "% of notes", "rows"),
          same_trend(in_asked - in_other)),
    Claim("The level above holds the structure", PAPER, "12.8", "order only",
          sure(100 * (shape - other_shape), 30, "% of quarters"),
          same_trend(shape - other_shape))]

# %% [markdown]
# And those about lyrics and speed:

# %%
claims += [
    Claim("Evenly spread lyrics miss syllables that are sung", PAPER, "12.9", "order only",
          difference_in_words(100 * (by_time - evenly), "% of syllables"),
          same_trend(by_time - evenly)),
    *(Claim(f"A cache is at least 5 times faster at 512 codes, width {width}", "this chapter",
            "12.14", None, f"{times:.1f} times", reproduced(min(times, 5.0), 5.0, 0))
      for width, times in faster.items()),
    Claim("Lyrics can be understood where they are conditioned on", PAPER, "12.10", "by ear",
          "not run", NEEDS_REAL_DATA)]

# %% [markdown]
# And of the band's priors:

# %%
def of_the_band(text, differences, unit, paper="by ear"):
    """A claim that section 12.13 tests, by differences that are positive where it is right."""
    return Claim(text, PAPER, "12.13", paper, difference_in_words(differences, unit),
                 same_trend(differences))

TOP, UP = "priors_band_top", "priors_band_up"
claims += [
    of_the_band("The top prior needs fewer bits than counts of pairs", worse_by(TOP, "bigram"),
                "bits per code", None),
    of_the_band("The upsampler does, too", worse_by(UP, "bigram"), "bits per code", None),
    of_the_band("Labels make codes easier to guess", worse_by(TOP, "labels of another song"),
                "bits per code", "order only"),
    of_the_band("So do the words that are sung", letters_cost, "bits per code", "order only"),
    of_the_band("The level above makes codes easier to guess",
                worse_by(UP, "another song above"), "bits per code", "order only")]

# %% [markdown]
# What was heard in what they draw:

# %%
claims += [
    of_the_band("Instruments that are asked for are heard", tags_steered, "of likeness"),
    of_the_band("The tempo is the one asked for", tempo_steered, "octaves nearer"),
    of_the_band("A continuation keeps the key", key_kept, "of chroma"),
    of_the_band("A continuation keeps the tempo", tempo_kept, "octaves nearer"),
    of_the_band("One top row, one harmony: the top level holds structure", structure, "of chroma")]
show_claims(claims)

# %% [markdown]
# ## 12.17 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/12_priors_and_sampling.ipynb) has more tasks, with checks.
#
# **1. Bits by hand.** A model gives the four codes of a row the probabilities 1/2, 1/4, 1/2 and 1/8. How many bits per code?
#
# <details><summary>Answer</summary>
#
# $(1 + 2 + 1 + 3) / 4 = 1.75$.
#
# ```python
# p = torch.tensor([1 / 2, 1 / 4, 1 / 2, 1 / 8])
# assert float(-p.log2().mean()) == 1.75
# ```
# </details>
#
# **2. Only columns.** A transformer has layers of kind `COLUMN` only. Which codes can code $t$ ever know of?
#
# <details><summary>Answer</summary>
#
# Those at its own place of earlier blocks, however deep it is: columns don't mix.
#
# ```python
# known = torch.eye(24)
# for _ in range(5):
#     known = ((allowed_pairs(COLUMN, 24, 4).float() @ known) > 0).float()
# assert known[23].nonzero()[:, 0].tolist() == [3, 7, 11, 15, 19, 23]
# ```
# </details>
#
# **3. Temperature zero.** What does `sample` give in the limit of temperature 0? How can you have it without dividing by zero?
#
# <details><summary>Answer</summary>
#
# Always the likeliest code: `top_k=1`.
#
# ```python
# torch.manual_seed(0)
# logits = torch.randn(5, 9)
# cold, first = (logits / 1e-3).softmax(-1), filter_logits(logits, top_k=1).softmax(-1)
# assert torch.allclose(cold, first, atol=1e-3) and torch.equal(first.argmax(-1), logits.argmax(-1))
# ```
# </details>
#
# **4. A nucleus of a half.** The likeliest code has probability 0.6. What does `top_p=0.5` leave? And `top_p=0.6`?
#
# <details><summary>Answer</summary>
#
# The first code that brings the share *above* top_p stays. For 0.5 that is the likeliest itself. 0.6 isn't above 0.6, so a second code stays, rounding aside.
#
# ```python
# p = torch.tensor([0.625, 0.25, 0.125])                  # powers of two: nothing is rounded
# left = lambda top_p: int(torch.isfinite(filter_logits(p.log(), top_p=top_p)).sum())
# assert left(0.5) == 1 and left(0.7) == 2 and left(0.9) == 3
# ```
# </details>
#
# **5. Zeros, or nothing.** Why may the first block of the previous-row kind not simply be masked, all keys at $-\infty$?
#
# <details><summary>Answer</summary>
#
# A softmax of nothing but $-\infty$ is 0/0, which is NaN, and from there it spreads. Keys and values of zero give the answer zero.
#
# ```python
# assert torch.full((3,), -torch.inf).softmax(0).isnan().all()
# q = torch.randn(1, 8, 4)
# assert previous_row_attention(q, q, q, 4, 1)[:, :4].abs().max() == 0
# ```
# </details>
#
# **6. Open.** Train `Labelled` without timing (zero its `x_cond`), with as many steps and two seeds each. Are the last bars of a song worth more bits? Which of the three times matters?
#
# ## 12.18 Sources
#
# - P. Dhariwal, H. Jun, C. Payne, J. W. Kim, A. Radford and I. Sutskever, *Jukebox: a generative model for music*, 2020, arXiv 2005.00341.
# - R. Child, S. Gray, A. Radford and I. Sutskever, *Generating long sequences with sparse transformers*, 2019, arXiv 1904.10509.
# - A. Radford, J. Wu, R. Child, D. Luan, D. Amodei and I. Sutskever, *Language models are unsupervised multitask learners*, 2019: GPT-2.
# - A. Holtzman, J. Buys, L. Du, M. Forbes and Y. Choi, *The curious case of neural text degeneration*, ICLR 2020: the nucleus.
# - D. Hendrycks and K. Gimpel, *Gaussian error linear units*, 2016, arXiv 1606.08415.
#
# Sizes, tensor names and the order of layers are those of openai/jukebox, whose weights, and whatever they generate or decode, are for non-commercial use only. All code here is the course's own.
