# %% [markdown]
# # Chapter 11 · Jukebox's codes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/11_music_vq_vae.ipynb)
#
# *Jukebox* (2020) writes songs the way one writes sentences: it chooses one symbol after another out of a vocabulary of 2048. This chapter
# builds the machine that makes symbols of sound and sound of symbols, at three speeds: 2756, 689 and 172 symbols a second for ours, which works at 22,050 Hz, and twice as many for the published one. You will read
# every line of it, load the published weights into it by name, hear what each speed keeps and what it throws away, and put it
# beside Opus, which phones use, and beside residual quantisation, which came after.
#
# **You will be able to**
# - build the three encoders and decoders of Jukebox out of one residual block, and count what they see,
# - keep a codebook alive on music: running means, random restarts, and how to know that it lives,
# - say what a spectral loss sees that a waveform loss doesn't, and why one resolution of it is not enough,
# - count the bits a second of any codec, and compare two at *equal* bits,
# - explain residual vector quantisation, and what it buys.
#
# **You need** chapter 10 (nearest code, straight-through gradient, commitment), chapter 1 (STFT), chapter 5 (losses). Chapter 12 learns to
# write in these symbols, chapter 14 steers them.
#
# **Time** <!-- minutes 11_music_vq_vae -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 11.0 Set up
#
# The first lines install the course where it is missing, on Colab. The trained codec came out of `course train jukebox_band`, the comparison
# of section 11.11 out of `course experiment jukebox`; both come with the course.

# %%
#| default_exp jukebox
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("11_music_vq_vae", cpu=dict(songs=4, seconds=5.0, steps=150),
          gpu=dict(songs=20, seconds=10.0, steps=600), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/jukebox.py`, word for word. It begins here.

# %%
#| export
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.training.official import fetch_weights, load_strictly
from course_lib.training.parts import Part
from course_lib.training.weight_files import read_structure
from course_lib.vqvae import kmeans, nearest_codes, straight_through

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
from course_lib.data import recording
from course_lib.experiments import jukebox as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_losses, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, reproduced,
                                        same_trend, show_claims)
from course_lib.results import measured_card, measured_table
from course_lib.training import load_trained
from course_lib.vqvae import bits_per_second, code_counts, perplexity

# %% [markdown]
# ## 11.1 Three speeds of symbols
#
# Here are some seconds of a song of the band, mono at 22,050 Hz, and the same seconds after they were **written down as symbols** and read back by a
# small codec that came out of `course train jukebox_band`. It knows three alphabets of 512 symbols, and writes with them at three speeds: a symbol for every 8, 32 or
# 128 samples. Listen to the three before reading on: what goes first?

# %%
rate = experiment.RATE
songs = experiment.middles("test", P.songs, P.seconds)              # (song, 1, time)
song = songs[1:2]                                                   # (1, 1, time)
listen(song[0], rate, "a song of the band")

# %% [markdown]
# `load_trained` builds the codec from its card; the class is the one that we build below. `encode` gives a tensor of symbols a level, whole numbers, the fastest first;
# `decode` takes the symbols of *one* level. The codes really are all that is handed over:

# %%
codec = load_trained(experiment.OURS)
with torch.no_grad():
    codes = codec.encode(song)                                      # three of (1, step)
    heard = [codec.decode(codes[level], level) for level in range(3)]
print([tuple(one.shape) for one in codes], codes[2][0, :12].tolist())

# %% [markdown]
# Level 0, a symbol for 8 samples:

# %%
listen(heard[0][0], rate, "read back from a symbol for every 8 samples")

# %% [markdown]
# Level 1, a symbol for 32 samples:

# %%
listen(heard[1][0], rate, "read back from a symbol for every 32 samples")

# %% [markdown]
# And level 2, a symbol for 128 samples:

# %%
listen(heard[2][0], rate, "read back from a symbol for every 128 samples")

# %% [markdown]
# How much is that? As in chapter 10, a symbol out of $K$ needs $\log_2 K$ bits, and a level with hop $h$ writes $f_s / h$ of them a second:
#
# $$ \text{bits a second} = \frac{f_s}{h} \log_2 K. \tag{11.1} $$
#
# For 16-bit samples as they are, $h = 1$ and $K = 2^{16}$. Jukebox itself works at 44,100 Hz with $K = 2048$.

# %%
bits = bits_per_second                                              # (11.1)
rows = [["16-bit samples", rate, bits(rate, 1, 2 ** 16) / 1000, bits(44100, 1, 2 ** 16) / 1000]]
for hop in codec.hop_lengths:
    rows.append([f"hop {hop}", rate / hop, bits(rate, hop, 512) / 1000,
                 bits(44100, hop, 2048) / 1000])
show_table(rows, ["what", "symbols a second, ours", "kbit/s, ours", "kbit/s, Jukebox"], digits=1,
           caption="Bits a second of one channel, by (11.1).")
assert math.isclose(rows[3][2], experiment.bits_per_second(codec, 2) / 1000)

# %% [markdown]
# A model that shall write music wants few symbols a second: chapter 12's transformer looks back over some thousand of them, which are seconds at the top level and
# a moment at the bottom. A model that shall sound good wants many. Jukebox takes three levels *because* no single one does both.

# %% [markdown]
# ## 11.2 The residual block
#
# The codec is made of one part, repeated. It adds to its input $x$ what two convolutions make of it; the first has three taps, $d$ steps apart (its
# *dilation*), the second mixes channels only:
#
# $$ y = x + W_2\, \mathrm{relu}\big(W_1 *_d \mathrm{relu}(x)\big), \qquad
#    (W *_d x)[t] = b + W[0]\, x[t - d] + W[1]\, x[t] + W[2]\, x[t + d]. \tag{11.2} $$
#
# With numbers, one channel and $d = 2$, all weights 1: at each place the sum of three values that lie two apart.

# %%
x_tiny = torch.tensor([0.0, 1, 2, 3, 4, 5, 6])
by_loop = [sum(float(x_tiny[t + k]) for k in (-2, 0, 2) if 0 <= t + k < 7) for t in range(7)]
by_torch = F.conv1d(x_tiny[None, None], torch.ones(1, 1, 3), padding=2, dilation=2)[0, 0]
print(by_loop)
assert by_torch.tolist() == by_loop

# %% [markdown]
# Block after block, the dilation grows: $1, 3, 9, 27, \dots$ Each block widens the view by $2d$ steps, so that $D$ blocks see
#
# $$ R_D = 1 + 2 \sum_{j=0}^{D-1} 3^j = 3^D \tag{11.3} $$
#
# steps. The powers of three leave no gap and count nothing twice. The class:

# %%
#| export
class ResConv1DBlock(nn.Module):
    """x + W2 relu(W1 relu(x)): a dilated convolution of 3 taps to n_state channels, then 1 tap back
    (eq. 11.2).

    dilation: samples between the taps. zero_out: begin as the identity. res_scale: factor of what
    is added. forward: (batch, n_in, time) to the same. Source: openai/jukebox; section 11.2.
    """

    def __init__(self, n_in: int, n_state: int, dilation: int = 1, zero_out: bool = False,
                 res_scale: float = 1.0):
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(), nn.Conv1d(n_in, n_state, 3, padding=dilation, dilation=dilation),
            nn.ReLU(), nn.Conv1d(n_state, n_in, 1))
        self.res_scale = res_scale
        if zero_out:
            nn.init.zeros_(self.model[-1].weight)
            nn.init.zeros_(self.model[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        added = self.model(x)
        return x + (added if self.res_scale == 1 else self.res_scale * added)

# %% [markdown]
# And a stack of them. A decoder begins with the widest block, as the mirror image of an encoder:

# %%
#| export
class Resnet1D(nn.Module):
    """n_depth residual blocks, block d with dilation growth^d, or growth^(d mod cycle).

    n_in: channels in and out; m_conv: width of a block's inside, in n_in. res_scale: each block
    adds only 1/sqrt(n_depth) of what it makes. reverse_dilation: the widest block first, as in a
    decoder. forward: (batch, n_in, time) to the same. Source: Dhariwal et al. 2020, section 3 and
    appendix B.1; section 11.2.
    """

    def __init__(self, n_in: int, n_depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False, reverse_dilation: bool = False):
        super().__init__()
        powers = [d if dilation_cycle is None else d % dilation_cycle for d in range(n_depth)]
        scale = 1 / math.sqrt(n_depth) if res_scale else 1.0
        blocks = [ResConv1DBlock(n_in, int(m_conv * n_in), dilation_growth_rate ** power,
                                 zero_out, scale) for power in powers]
        self.model = nn.Sequential(*(reversed(blocks) if reverse_dilation else blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %% [markdown]
# Is (11.3) right? Move one step of the input and see which steps of the output move:

# %%
torch.manual_seed(0)
stack = Resnet1D(4, 4, dilation_growth_rate=3)
for p in stack.parameters():
    p.data.abs_()                                                   # no ReLU shuts
x = torch.rand(1, 4, 201, requires_grad=True)
stack(x)[0, :, 100].sum().backward()
touched = x.grad[0].abs().sum(0).nonzero().flatten()
print(f"one output step sees {len(touched)} input steps, {3 ** 4} by the formula")
assert len(touched) == 3 ** 4 == int(touched.max() - touched.min()) + 1

# %% [markdown]
# <details><summary>Quick question: Jukebox's lowest level has 8 blocks a stack. Its last stack works at an eighth of 44,100 Hz. How many seconds does it see?</summary>
#
# $3^8 = 6561$ steps of 8 samples: 52,488 samples, 1.2 s, to both sides together. The stacks before it add a little more. That is no small view for something that writes a symbol every 0.18 ms.
# </details>

# %% [markdown]
# ## 11.3 Down and up
#
# An encoder strides by 2 (a convolution of 4 taps), passes a stack, strides again. Three times make hop 8. In the published size, for
# level 0, channels x steps for one second of 44,100 Hz (44,096 samples, whole hops):

# %%
d = Diagram()
x_in = d.block("audio", "1 x 44096", kind="data")
a = d.block("stride 2,\n8 blocks", "64 x 22048", after=x_in, kind="trained")
b = d.block("stride 2,\n8 blocks", "64 x 11024", after=a, kind="trained")
c = d.block("stride 2,\n8 blocks", "64 x 5512", after=b, kind="trained")
e = d.block("3 taps", "64 x 5512", after=c, kind="trained")
q = d.block("nearest\ncode", "5512 symbols", after=e, kind="step")
show(d.draw(), "The encoder of level 0, hop 8, and what follows it.", d.in_words())

# %% [markdown]
# The decoder goes the same way back, with transposed convolutions. Written plainly, an encoder is this loop; `convs` and `stacks` are its layers:

# %%
def plain_encoder(x, convs, stacks, last):
    """One level of an encoder: (batch, 1, time) to (batch, channel, time / 2^stages)."""
    for conv, stack in zip(convs, stacks):
        x = stack(conv(x))                                          # half as many steps
    return last(x)

convs = [nn.Conv1d(1, 8, 4, stride=2, padding=1)] + [nn.Conv1d(8, 8, 4, 2, 1) for _ in range(2)]
stacks = [Resnet1D(8, 2, dilation_growth_rate=3) for _ in range(3)]
z = plain_encoder(torch.randn(1, 1, 256), convs, stacks, nn.Conv1d(8, 6, 3, padding=1))
print(tuple(z.shape))
assert z.shape == (1, 6, 256 // 8)

# %% [markdown]
# The reusable form has the names of the tensors in Jukebox's checkpoint, `model.STAGE.0` for the convolution and `model.STAGE.1` for the stack:

# %%
#| export
class EncoderConvBlock(nn.Module):
    """down_t times: a convolution that strides by stride_t, then residual blocks; then 3 taps to
    output_emb_width channels. forward: (batch, input_emb_width, time) to (batch, output_emb_width,
    time / stride_t^down_t). The rest as in `Resnet1D`; section 11.3."""

    def __init__(self, input_emb_width: int, output_emb_width: int, down_t: int, stride_t: int,
                 width: int, depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False):
        super().__init__()
        strided = lambda channels: nn.Conv1d(channels, width, 2 * stride_t, stride_t, stride_t // 2)
        stages = [nn.Sequential(
            strided(width if stage else input_emb_width),
            Resnet1D(width, depth, m_conv, dilation_growth_rate, dilation_cycle, zero_out,
                     res_scale)) for stage in range(down_t)]
        self.model = nn.Sequential(*stages, nn.Conv1d(width, output_emb_width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %% [markdown]
# And its way back. In the first place stands the convolution that widens the code, then stacks and transposed convolutions in turn:

# %%
#| export
class DecoderConvBlock(nn.Module):
    """The way back of `EncoderConvBlock`: 3 taps to the inner width, then down_t times residual
    blocks and a transposed convolution. forward: (batch, output_emb_width, step) to (batch,
    input_emb_width, step * stride_t^down_t); section 11.3."""

    def __init__(self, input_emb_width: int, output_emb_width: int, down_t: int, stride_t: int,
                 width: int, depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False, reverse_decoder_dilation: bool = True):
        super().__init__()
        up = lambda channels: nn.ConvTranspose1d(width, channels, 2 * stride_t, stride_t,
                                                 stride_t // 2)
        stages = [nn.Sequential(
            Resnet1D(width, depth, m_conv, dilation_growth_rate, dilation_cycle, zero_out,
                     res_scale, reverse_decoder_dilation),
            up(width if stage < down_t - 1 else input_emb_width)) for stage in range(down_t)]
        self.model = nn.Sequential(nn.Conv1d(output_emb_width, width, 3, padding=1), *stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %% [markdown]
# A slower level is a block *on top of* a faster one: its encoder runs through hop 8 first, then strides by 4 to hop 32, then by 4 to hop 128. That is why `Encoder` has several blocks,
# and it keeps what each gives, for section 11.11:

# %%
#| export
class Encoder(nn.Module):
    """`levels` blocks on top of each other; block l strides by stride_t[l] for downs_t[l] times.

    forward: (batch, input_emb_width, time) to what each block gives, a list of (batch,
    output_emb_width, steps), the fastest first. **block: see `EncoderConvBlock`. Section 11.3.
    """

    def __init__(self, input_emb_width: int, output_emb_width: int, levels: int,
                 downs_t: Sequence[int], strides_t: Sequence[int], **block):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            EncoderConvBlock(output_emb_width if level else input_emb_width, output_emb_width,
                             downs_t[level], strides_t[level], **block) for level in range(levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for block in self.level_blocks:
            x = block(x)
            outputs.append(x)
        return outputs

# %% [markdown]
# `Decoder` goes down the same stairs. With `all_levels` it adds on each step what is known at that speed; Jukebox does without:

# %%
#| export
class Decoder(nn.Module):
    """The way back of `Encoder`, the slowest block first, then 3 taps to input_emb_width channels.

    forward(xs): with all_levels one tensor a level, the fastest first, and each is added where the
    way up has come to its speed; else one tensor, the slowest. Gives (batch, input_emb_width,
    time). **block: see `DecoderConvBlock`. Section 11.3.
    """

    def __init__(self, input_emb_width: int, output_emb_width: int, levels: int,
                 downs_t: Sequence[int], strides_t: Sequence[int], **block):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            DecoderConvBlock(output_emb_width, output_emb_width, downs_t[level], strides_t[level],
                             **block) for level in range(levels))
        self.out = nn.Conv1d(output_emb_width, input_emb_width, 3, padding=1)

    def forward(self, xs: Sequence[Tensor], all_levels: bool = True) -> Tensor:
        expected = len(self.level_blocks) if all_levels else 1
        if len(xs) != expected:
            raise ValueError(f"xs has {len(xs)} tensors; expected {expected}, with all_levels="
                             f"{all_levels}")
        x = xs[-1]
        for level, block in reversed(list(enumerate(self.level_blocks))):
            x = block(x)
            if level and all_levels:
                x = x + xs[level - 1]
        return self.out(x)

# %% [markdown]
# Do loop and class agree? Give the class the layers of the loop:

# %%
plain = EncoderConvBlock(1, 6, down_t=3, stride_t=2, width=8, depth=2, dilation_growth_rate=3)
layers = list(plain.model)
noise = torch.randn(2, 1, 256)
by_loop = plain_encoder(noise, [one[0] for one in layers[:3]], [one[1] for one in layers[:3]],
                        layers[3])
assert torch.equal(plain(noise), by_loop)

# %% [markdown]
# ## 11.4 The codebook
#
# The encoder gives a vector $z_t$ of 64 numbers a step. A **codebook** holds $K$ vectors $e_0, \dots, e_{K-1}$ of the same kind; the step's symbol is the number of
# the nearest one,
#
# $$ s_t = \arg\min_k \lVert z_t - e_k \rVert^2, \qquad
#    \lVert z - e \rVert^2 = \lVert z \rVert^2 - 2\, z \cdot e + \lVert e \rVert^2, \tag{11.4} $$
#
# and the decoder gets $e_{s_t}$ in the place of $z_t$. The right side computes all distances as one matrix product. Chapter 10 has the theory; here is the smallest case, three vectors and two codes.

# %%
z_tiny = torch.tensor([[0.0, 0.1], [1.0, 0.9], [0.2, 0.0]])
e_tiny = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
by_loop = [min(range(2), key=lambda k: float((z - e_tiny[k]).square().sum())) for z in z_tiny]
print("symbols", by_loop)
assert by_loop == [0, 1, 0]

# %% [markdown]
# A song has many steps, and a table of all distances, 2048 to each, would fill the memory. Chapter 10's `nearest_codes` works it off in pieces; here the distance of the one that was chosen comes along:

# %%
#| export
def nearest(x: Tensor, codes: Tensor, piece: int = 8192) -> tuple[Tensor, Tensor]:
    """The nearest code of every vector, and its squared distance (eq. 11.4), `piece` vectors at a
    time, so that memory stays small. x: (vector, width); codes: (code, width). Returns (vector,)
    whole numbers and (vector,) distances. Section 11.4."""
    found = nearest_codes(x, codes, piece)
    return found, (x - codes[found]).square().sum(-1)

# %% [markdown]
# It must agree with the loop:

# %%
found, distance = nearest(z_tiny, e_tiny)
assert found.tolist() == by_loop
assert torch.allclose(distance, (z_tiny - e_tiny[found]).square().sum(-1), atol=1e-6)

# %% [markdown]
# As a module, with the codes as a buffer `k`: it is saved with the weights, but no optimizer moves it.

# %%
#| export
class Codebook(nn.Module):
    """k_bins codes of emb_width entries: k, (k_bins, emb_width), zeros until they are set.

    encode: vectors (batch, emb_width, step) to the nearest codes (batch, step). decode: codes back
    to vectors. rows: the vectors one beneath the other, in 32 bits. Section 11.4.
    """

    def __init__(self, k_bins: int, emb_width: int):
        super().__init__()
        self.k_bins, self.emb_width = k_bins, emb_width
        self.register_buffer("k", torch.zeros(k_bins, emb_width))

    def encode(self, x: Tensor) -> Tensor:
        return nearest(self.rows(x), self.k)[0].unflatten(0, (x.shape[0], x.shape[-1]))

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.k).mT                       # (batch, emb_width, step)

    @staticmethod
    def rows(x: Tensor) -> Tensor:
        return x.mT.flatten(0, 1).float()                          # (batch * step, emb_width)

# %% [markdown]
# ## 11.5 Keeping a codebook alive
#
# Who moves the codes? Not the gradient. In each training step every code becomes a running mean of the vectors that chose it. With $S_k$ the running sum of these vectors, $N_k$ their running
# number, and a memory $\mu$ near 1 (chapter 10's $m_k$, $N_k$ and $\gamma$ in (10.12); $\mu$ is the name in Jukebox's code),
#
# $$ S_k \leftarrow \mu S_k + (1 - \mu) \sum_{t:\, s_t = k} z_t, \qquad
#    N_k \leftarrow \mu N_k + (1 - \mu)\, \#\{t: s_t = k\}, \qquad e_k = S_k / N_k. \tag{11.5} $$
#
# One code, $\mu = 0.9$, two vectors a step, both at 1: it walks from 0 to where its vectors are.

# %%
total, count = 0.0, 1.0                                             # S and N: the code begins at 0
for step in range(30):
    total, count = 0.9 * total + 0.1 * 2 * 1.0, 0.9 * count + 0.1 * 2
    if step in (0, 4, 29):
        print(f"after {step + 1} steps: code {total / count:.2f}, running count {count:.2f}")
assert total / count > 0.9

# %% [markdown]
# A code that nobody chooses never moves again: it is **dead**, and its symbol is lost. The cure of Jukebox: where $N_k$ falls below a threshold (1 in the paper), put the code on a
# **random vector of the batch**. There, somebody is near. Codes in use are left alone.
#
# The encoder learns through the *straight-through* gradient of chapter 10, and is held near its codes by the commitment loss $\lVert z - \mathrm{sg}[e_s] \rVert^2$.

# %% [markdown]
# Two helpers: vectors to restart at, and sums over processes, for trainings on several GPUs:

# %%
#| export
def random_rows(x: Tensor, count: int) -> Tensor:
    """`count` vectors drawn from x (vector, width) without repetition; from copies with a little
    noise (0.01 / sqrt(width)) where there are fewer. Several processes get the first one's."""
    if len(x) < count:
        copies = x.repeat(-(-count // len(x)), 1)
        x = copies + torch.randn_like(copies) * 0.01 / math.sqrt(x.shape[1])
    drawn = x[torch.randperm(len(x), device=x.device)[:count]].contiguous()
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(drawn, 0)
    return drawn


def over_processes(*tensors: Tensor) -> None:
    """Sum tensors in place over all processes of a training; alone, nothing."""
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)

# %% [markdown]
# The running means, and a step of (11.5) with restarts:

# %%
#| export
class RunningCodebook(Codebook):
    """A codebook whose codes are running means of the vectors that chose them.

    mu: of the means; threshold: running count below which a code is restarted. Loaded codes count
    as begun. update_k(x, codes): one step of (11.5), with restarts. Section 11.5.
    """

    def __init__(self, k_bins: int, emb_width: int, mu: float, threshold: float = 1.0):
        super().__init__(k_bins, emb_width)
        self.mu, self.threshold = mu, threshold
        self.k_sum: Tensor | None = None                           # (k_bins, emb_width), running
        self.k_elem: Tensor | None = None                          # (k_bins,), running

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if self.k.any():
            self.restore_k()

    def reset_k(self) -> None:
        """Forget the codes: the next batch in training mode gives new ones."""
        self.k.zero_()
        self.k_sum = self.k_elem = None

    def restore_k(self, expected_usage: float = 1.0) -> None:
        """Let running means begin at the codes, as if each had been chosen so many times."""
        self.k_sum = self.k * expected_usage
        self.k_elem = torch.full_like(self.k[:, 0], expected_usage)

    @torch.no_grad()
    def update_k(self, x: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """Move the codes towards the vectors (vector, emb_width) that chose them (eq. 11.5), and
        restart those that hardly any vector chooses."""
        total = torch.zeros_like(self.k).index_add_(0, codes, x)   # (k_bins, emb_width)
        count = torch.bincount(codes, minlength=self.k_bins).to(x.dtype)
        over_processes(total, count)
        self.k_sum = self.mu * self.k_sum.to(x.device) + (1 - self.mu) * total
        self.k_elem = self.mu * self.k_elem.to(x.device) + (1 - self.mu) * count
        alive = (self.k_elem >= self.threshold)[:, None]
        means = self.k_sum / self.k_elem.clamp_min(1e-20)[:, None]
        old = self.k.clone()
        self.k.copy_(torch.where(alive, means, random_rows(x, self.k_bins)))
        p = count / count.sum()
        return {"entropy": -(p * (p + 1e-8).log()).sum(), "usage": alive.sum().float(),
                "used_curr": (count >= self.threshold).sum().float(),
                "dk": (self.k - old).square().mean().sqrt()}

# %% [markdown]
# And the pass through the bottleneck, in training and outside of it:

# %%
#| export
class BottleneckBlock(RunningCodebook):
    """A codebook that follows the vectors in training mode.

    Its codes begin as vectors of the first batch (loaded ones count as begun), then are running
    means (mu) of the vectors that chose them; one whose running count is below `threshold` is put
    where a random vector of the batch is, drawn from the global generator. forward: (batch,
    emb_width, step) to codes, vectors with the straight-through gradient, the commitment loss, and
    statistics: `fit`, the squared distance; in training `entropy` of the batch's codes in nats,
    `usage` and `used_curr`, codes chosen `threshold` times by the running count and in the batch,
    `dk`, how far codes moved. Source: Dhariwal et al. 2020, section 3.3; section 11.5.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        with torch.autocast(x.device.type, enabled=False):         # distances need their digits
            x = x.float()
            rows = self.rows(x)
            if self.training and self.k_sum is None:
                self.k.copy_(random_rows(rows.detach(), self.k_bins))
                self.restore_k(self.threshold or 1.0)              # who isn't chosen now, restarts
            codes, distance = nearest(rows, self.k)
            codes = codes.unflatten(0, (x.shape[0], x.shape[-1]))   # (batch, step)
            quantised = self.decode(codes)
            statistics = {"fit": distance.detach().mean()}
            if self.training:
                statistics |= self.update_k(rows.detach(), codes.flatten())
            commit = (quantised.detach() - x).square().mean()
            return codes, straight_through(x, quantised), commit, statistics

# %% [markdown]
# Now watch it. Vectors come from eight heaps in the plane; of the eight codes six begin far away from everything. Once without restarts, once with them:

# %%
centres = 3 * torch.tensor([[math.cos(a), math.sin(a)] for a in torch.arange(8) * math.pi / 4])

def heaps(generator, count=256):
    """Vectors (1, 2, count) around eight places on a circle."""
    places = centres[torch.randint(8, (count,), generator=generator)]
    return (places + 0.3 * torch.randn(count, 2, generator=generator)).T[None]

def lives(threshold):
    """A codebook that begins badly, after 80 batches."""
    block, generator = BottleneckBlock(8, 2, 0.9, threshold), torch.Generator().manual_seed(0)
    block.k.copy_(torch.cat([0.1 * centres[:2], 20 + centres[2:]]))
    block.restore_k()
    for _ in range(80):
        statistics = block(heaps(generator))[3]
    return block, statistics

# %% [markdown]
# Codes as crosses over vectors as dots:

# %%
torch.manual_seed(0)
without, with_restarts = lives(0.0), lives(1.0)
points = heaps(torch.Generator().manual_seed(1))[0]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4))
for axis, (block, _), name in zip(axes, (without, with_restarts), ("no restarts", "restarts")):
    axis.plot(*points, ".", color="0.75", markersize=3)
    axis.plot(*block.k.T, "x", color="tab:red", markersize=9, markeredgewidth=2)
    axis.set(title=name, xlim=(-4.5, 4.5), ylim=(-4.5, 4.5), aspect="equal")
show(figure, "Eight heaps, eight codes. Left, most codes stayed where nobody is, out of sight.",
     "Left: two crosses in the middle of a ring of eight dot heaps. Right: crosses on the heaps.")

# %% [markdown]
# In numbers: **perplexity**, $2$ to the entropy of the symbols in bits, says how many codes would do if all were used alike. And the mean squared distance of a vector to its code:

# %%
rows = [[name, float(statistics["entropy"].exp()), float(statistics["fit"])]
        for name, (_, statistics) in (("no restarts", without), ("restarts", with_restarts))]
show_table(rows, ["codebook", "perplexity, of 8", "squared distance"], digits=1,
           caption="The last of 80 batches of 256 vectors.")
assert rows[0][1] < 2.5 < 5 < rows[1][1] and rows[1][2] < rows[0][2] / 3

# %% [markdown]
# The threshold is a *number of choices a step*, and must fit the batch: with 512 codes and 128 symbols a batch, a code is chosen a quarter of a time on average, so that a threshold of 1 would restart nearly all of
# them for ever. The small codec of this chapter, with so small batches, uses 0.05.

# %% [markdown]
# ## 11.6 Three autoencoders, apart
#
# Jukebox trains three encoders, three codebooks and three decoders that share *nothing*, not even the layers that do the same thing. Each level has to say all it can in its own symbols:

# %%
d = Diagram()
audio = d.block("audio", "1 x T", kind="data")
for level, (hop, shift, wide) in enumerate(((8, 1.0, 64), (32, 0.0, 32), (128, -1.0, 32))):
    enc = d.block(f"encoder {level}", f"64 x T/{hop}", kind="trained", at=(1.9, shift))
    d.arrow(audio, enc)
    book = d.block("codebook", f"T/{hop} symbols", after=enc, kind="trained")
    dec = d.block(f"decoder {level}", "1 x T", after=book, kind="trained")
    out = d.block("loss", after=dec, kind="loss")
show(d.draw(), "Three autoencoders: T samples, hops 8, 32 and 128, 2048 codes of 64 numbers each.",
     d.in_words())

# %% [markdown]
# The codebooks of all levels:

# %%
#| export
class Bottleneck(nn.Module):
    """A codebook a level, the fastest first. forward: a list of latents to a list a level of what
    `BottleneckBlock` gives. Section 11.6."""

    def __init__(self, l_bins: int, emb_width: int, mu: float, levels: int, threshold: float = 1.0):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            BottleneckBlock(l_bins, emb_width, mu, threshold) for _ in range(levels))

    def forward(self, xs: Sequence[Tensor]) -> list[tuple]:
        return [block(x) for block, x in zip(self.level_blocks, xs)]

# %% [markdown]
# What a pass gives, and what it refuses. Audio must come in whole hops of the slowest level; `to_hops` fills up with zeros:

# %%
#| export
@dataclass
class Coded:
    """What a VQ-VAE makes of audio, a list entry a level (one hierarchical: one output): outputs
    (batch, channel, time), codes (batch, step), commit losses, statistics of the codebooks."""

    outputs: list[Tensor]
    codes: list[Tensor]
    commits: list[Tensor]
    statistics: list[dict[str, Tensor]]

# %%
#| export
def check_hops(x: Tensor, hop: int, channels: int) -> None:
    """ValueError unless x is float audio (batch, channels, time) in whole hops, at least one."""
    if x.ndim != 3 or x.shape[1] != channels or not x.is_floating_point():
        raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}; expected float audio (batch, "
                         f"{channels}, time)")
    if x.shape[-1] == 0 or x.shape[-1] % hop:
        raise ValueError(f"x has {x.shape[-1]} samples; expected a multiple of {hop} above 0: "
                         "pad it with to_hops")


def check_level(level: int, hops: Sequence[int]) -> None:
    """ValueError unless there is such a level."""
    if not 0 <= level < len(hops):
        raise ValueError(f"level is {level}; expected 0 (hop {hops[0]}) to {len(hops) - 1} (hop "
                         f"{hops[-1]})")


def check_codes(codes: Tensor, l_bins: int) -> None:
    """ValueError unless codes are whole numbers (batch, step) from 0 to l_bins - 1."""
    if codes.ndim != 2 or codes.is_floating_point() or codes.numel() == 0:
        raise ValueError(f"codes are {codes.dtype} of shape {tuple(codes.shape)}; expected whole "
                         "numbers (batch, step), at least one")
    if not 0 <= int(codes.min()) <= int(codes.max()) < l_bins:
        raise ValueError(f"codes go from {int(codes.min())} to {int(codes.max())}; expected 0 to "
                         f"{l_bins - 1}")

# %%
#| export
def to_hops(x: Tensor, hop: int = 128) -> Tensor:
    """Audio (..., time) with zeros behind it, up to a multiple of `hop` samples (section 11.6)."""
    return F.pad(x, (0, -x.shape[-1] % hop))

# %% [markdown]
# The parts. `multipliers` makes level 0 twice as wide and twice as deep as the others:

# %%
#| export
class LevelAutoencoders(nn.Module):
    """The parts of a `VQVAE`, whose arguments these are: an encoder, a decoder and a codebook a
    level (section 11.6)."""

    def __init__(self, levels: int = 3, downs_t: Sequence[int] = (3, 2, 2),
                 strides_t: Sequence[int] = (2, 2, 2), emb_width: int = 64, l_bins: int = 2048,
                 mu: float = 0.99, multipliers: Sequence[int] | None = (2, 1, 1), width: int = 32,
                 depth: int = 4, m_conv: float = 1.0, dilation_growth_rate: int = 3,
                 dilation_cycle: int | None = None, reverse_decoder_dilation: bool = True,
                 revival_threshold: float = 1.0, x_channels: int = 1):
        super().__init__()
        multipliers = (1,) * levels if multipliers is None else tuple(multipliers)
        for name, given in (("downs_t", downs_t), ("strides_t", strides_t),
                            ("multipliers", multipliers)):
            if len(given) < levels:
                raise ValueError(f"{name} is {tuple(given)}; expected one number for each of "
                                 f"{levels} levels")
        self.levels, self.l_bins, self.emb_width = levels, l_bins, emb_width
        self.x_channels, self.downs_t, self.strides_t = x_channels, downs_t, strides_t
        downsamples = [stride ** down for stride, down in zip(strides_t, downs_t)]
        self.hop_lengths = [math.prod(downsamples[:level + 1]) for level in range(levels)]
        self.bandwidth: dict[str, float] | None = None
        block = dict(m_conv=m_conv, dilation_growth_rate=dilation_growth_rate,
                     dilation_cycle=dilation_cycle)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, times in enumerate(multipliers[:levels]):
            sizes = dict(width=times * width, depth=times * depth, **block)
            shape = (x_channels, emb_width, level + 1, downs_t, strides_t)
            self.encoders.append(Encoder(*shape, **sizes))
            self.decoders.append(Decoder(*shape, **sizes,
                                         reverse_decoder_dilation=reverse_decoder_dilation))
        self.bottleneck = Bottleneck(l_bins, emb_width, mu, levels, revival_threshold)

# %% [markdown]
# And what one does with them:

# %%
#| export
class VQVAE(LevelAutoencoders):
    """Jukebox's codec: `levels` autoencoders with a codebook each, apart from one another, from the
    fastest (hop 8) to the slowest (hop 128). The defaults are the published network.

    levels: how many. downs_t, strides_t: level l strides by strides_t[l], downs_t[l] times, after
    what the levels below it do. emb_width: entries of a code; l_bins: codes of a level. mu: of the
    running means; revival_threshold: running count below which a code is restarted. multipliers:
    factors of `width` and `depth` by level. x_channels: of the audio. The rest as in `Resnet1D`.
    hop_lengths: samples a code, by level. bandwidth: set by a training (`measure_bandwidth`).
    forward: (batch, x_channels, time) to `Coded`; in training mode the codebooks move.
    Source: Dhariwal et al. 2020, section 3; names of tensors as in openai/jukebox. Section 11.6.
    """

    def latents(self, x: Tensor, level: int) -> Tensor:
        """What the encoder of a level gives, before it is quantised: (batch, x_channels, time) to
        (batch, emb_width, time / hop). ValueError for audio that is not in whole hops."""
        check_level(level, self.hop_lengths)
        check_hops(x, self.hop_lengths[level], self.x_channels)
        return self.encoders[level](x)[-1]

    def from_latents(self, z: Tensor, level: int) -> Tensor:
        """Vectors (batch, emb_width, step), codes or not, to audio (batch, x_channels, time)."""
        check_level(level, self.hop_lengths)
        return self.decoders[level]([z], all_levels=False)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Audio (batch, x_channels, time) in [-1, 1] to codes, (batch, time / hop) whole numbers a
        level, hop 8 first. ValueError unless time is a multiple of the largest hop (`to_hops`)."""
        check_hops(x, self.hop_lengths[-1], self.x_channels)
        return [block.encode(self.latents(x, level))
                for level, block in enumerate(self.bottleneck.level_blocks)]

    def decode(self, codes: Tensor, level: int) -> Tensor:
        """Codes (batch, step) of one level to audio (batch, x_channels, step * hop). ValueError for
        codes that are no whole numbers below l_bins."""
        check_level(level, self.hop_lengths)
        check_codes(codes, self.l_bins)
        return self.from_latents(self.bottleneck.level_blocks[level].decode(codes), level)

    def forward(self, x: Tensor) -> Coded:
        check_hops(x, self.hop_lengths[-1], self.x_channels)
        latents = [encoder(x)[-1] for encoder in self.encoders]
        codes, quantised, commits, statistics = zip(*self.bottleneck(latents))
        outputs = [decoder([z], all_levels=False) for decoder, z in zip(self.decoders, quantised)]
        return Coded(outputs, list(codes), list(commits), list(statistics))

# %% [markdown]
# Without arguments it is the published network. Its tensors and numbers can be counted; the names are those of the checkpoint:

# %%
published_size = VQVAE()
counted = (sum(p.numel() for p in published_size.parameters()),
           sum(b.numel() for b in published_size.buffers()), len(published_size.state_dict()))
print("parameters, entries of codes, tensors:", counted)
print(list(published_size.state_dict())[0], list(published_size.state_dict())[-1])
assert counted == (1_485_763, 393_216, 669)

# %% [markdown]
# Small as they are, the three encoders would fit into a phone: the size of Jukebox lies in what *writes* the symbols. Are the levels really apart? Change the first level's decoder, and only level 0 changes:

# %%
torch.manual_seed(0)
tiny = VQVAE(emb_width=6, l_bins=16, width=8, depth=1).eval()
x = torch.randn(1, 1, 256)
with torch.no_grad():
    before = tiny(x).outputs
    tiny.decoders[0].out.bias += 1
    after = tiny(x).outputs
assert [torch.equal(a, b) for a, b in zip(before, after)] == [False, True, True]

# %% [markdown]
# Ours, `jukebox_band`, is the same class in another size: each level strides by 8, 4 and 4 in one layer each instead of by 2 in several, which spares the costly layers at half and a quarter of the rate. It had minutes to train.

# %%
card = codec.card
print(f"{card['parameters']:,} parameters, {card['steps']} steps, {card['minutes']:.0f} minutes")
print({name: card["config"]["model"][name] for name in ("strides_t", "width", "depth", "l_bins")})

# %% [markdown]
# ## 11.7 What is an error?
#
# **In the waveform** a decoder that is judged by squared error alone prefers silence to noise: where it doesn't know the phase of a cymbal, the safest guess is the mean, which is nothing. High frequencies
# vanish. The spectral loss asks for the *magnitudes* instead:
#
# $$ d_r(x, y) = \big\lVert\, |X_r| - |Y_r| \,\big\rVert, \tag{11.6} $$
#
# the root of the sum of squares over all bins and frames, for an STFT with resolution $r$ (frame, hop, window). Two noises with the same spectrum show the difference: take noise, another noise, and silence.

# %%
#| export
def magnitudes(x: Tensor, n_fft: int, hop_length: int, window_size: int) -> Tensor:
    """Magnitudes of the STFT as Jukebox takes it: a Hann window of window_size in the middle of
    frames of n_fft, mirrored ends. x: (batch, 1, time). Returns (batch, bin, frame); section 11.7.
    """
    if x.shape[-1] <= n_fft // 2:
        raise ValueError(f"x has {x.shape[-1]} samples; expected more than half a frame of {n_fft}")
    window = torch.hann_window(window_size, device=x.device, dtype=x.dtype)
    return torch.stft(x.mean(1), n_fft, hop_length, window_size, window, return_complex=True).abs()


def spectral_distance(x: Tensor, y: Tensor, n_fft: int, hop_length: int,
                      window_size: int) -> Tensor:
    """The norm of the difference of two signals' magnitudes, (batch,), eq. 11.6; x, y: (batch, 1,
    time)."""
    difference = magnitudes(x, n_fft, hop_length, window_size) - magnitudes(
        y, n_fft, hop_length, window_size)
    return torch.linalg.vector_norm(difference.flatten(1), dim=1)

# %% [markdown]
# Noise against another noise, and against silence:

# %%
generator = torch.Generator().manual_seed(0)
noise, other = 0.1 * torch.randn(2, 1, 1, 16384, generator=generator)
rows = [[name, float((noise - y).square().mean() / noise.square().mean()),
         float(spectral_distance(noise, y, 2048, 240, 1200) / spectral_distance(
             noise, 0 * noise, 2048, 240, 1200))]
        for name, y in (("another noise", other), ("silence", 0 * noise))]
show_table(rows, ["instead of the noise", "squared error", "spectral distance"], digits=1,
           caption="Both divided by what silence gives.")
assert rows[0][1] > 1.5 and rows[0][2] < 0.9

# %% [markdown]
# The waveform calls another noise twice as bad as silence; magnitudes, which ears follow better, call it better. Now, which resolution?
#
# ### One resolution overfits
#
# Let us *make* a signal under one resolution: begin with noise, and let Adam move its samples until (11.6) with a third of a second of a recording is small. Then measure with the resolutions that it was not made for,
# among them two that nobody used. `all three` is the mean of Jukebox's three,
#
# $$ \mathcal L_{\text{spec}}(x, y) = \frac 1 3 \sum_{r} d_r(x, y). \tag{11.7} $$

# %%
#| export
RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))     # n_fft, hop, window


def multispectral_loss(x: Tensor, y: Tensor,
                       resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> Tensor:
    """Mean over resolutions (n_fft, hop, window) of the distance of magnitudes, (batch,): eq. 11.7.

    x, y: (batch, 1, time), target and output. Magnitudes are linear, and not divided by the
    target's. Source: Dhariwal et al. 2020, section 3.2; section 11.7.
    """
    return torch.stack([spectral_distance(x, y, *one) for one in resolutions]).mean(0)


def linf_loss(x: Tensor, y: Tensor, linf_k: int = 2048) -> Tensor:
    """Mean of the linf_k largest squared errors of each example, (batch,): eq. 11.8; of all where
    there are fewer. x, y: (batch, channel, time). Section 11.7."""
    errors = (x - y).square().flatten(1)
    return errors.topk(min(linf_k, errors.shape[1]), dim=1).values.mean(1)

# %% [markdown]
# The recording, and the three ways to be judged:

# %%
piece, _ = recording("fishin", start=14.0, seconds=0.4, mono=True, rate=rate)
piece = piece[None, :, :8192]                                       # (1, 1, time)

def made_under(resolutions, steps):
    """A signal whose magnitudes fit the recording's, begun as noise: (1, 1, time)."""
    generator = torch.Generator().manual_seed(0)
    y = (piece.std() * torch.randn(piece.shape, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([y], 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        multispectral_loss(piece, y, resolutions).mean().backward()
        optimizer.step()
    return y.detach()

made = {"only 2048": made_under(RESOLUTIONS[:1], P.steps), "only 512": made_under(
    RESOLUTIONS[2:], P.steps), "all three": made_under(RESOLUTIONS, P.steps)}

# %% [markdown]
# A row a signal, a column an STFT; the distance is divided by the recording's norm, in dB:

# %%
measures = (*RESOLUTIONS, (4096, 480, 2400), (256, 32, 128))
size = lambda one: torch.linalg.vector_norm(magnitudes(piece, *one))
error_db = lambda y, one: 20 * math.log10(float(spectral_distance(piece, y, *one) / size(one)))
table = {name: [error_db(y, one) for one in measures] for name, y in made.items()}
show_table([[name, *values, max(values)] for name, values in table.items()],
           ["made under", *(f"frame {one[0]}" for one in measures), "worst"], digits=0,
           caption="Spectral error in dB, lower is better. Nobody was trained on 4096 and 256.")
assert table["only 512"][2] < table["only 512"][0] - 6
assert max(table["all three"]) < min(max(table["only 2048"]), max(table["only 512"])) - 0.5

# %% [markdown]
# Whoever is judged by short frames alone gets the spectrum between their broad bins wrong; whoever is judged by long ones alone is free to move energy within them in time. Each is an *overfit to a way of looking*. With all
# three the worst case is best, though each of them is only a third of the loss. Look at it:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
for axis, (name, y) in zip(axes, (("recording", piece), ("only 512", made["only 512"]),
                                  ("all three", made["all three"]))):
    plot_spectrogram(y[0], rate, name, hop_length=128, axis="linear", top=4000, db_range=60,
                     colour_bar=False, ax=axis)
show(figure, "A third of a second, and two signals that were made to look like it.",
     "Three spectrograms; the middle one has blurred harmonics, the right one resembles the left.")

# %% [markdown]
# ### The largest errors, and the bandwidth
#
# A squared error averages a click away. Jukebox adds the mean of the $n = 2048$ largest squared errors of each example,
#
# $$ \mathcal L_\infty(x, y) = \frac 1 n \sum_{i \in \text{top } n} (x_i - y_i)^2, \tag{11.8} $$
#
# named after the norm that it comes close to for small $n$. And it divides every term by its **bandwidth**, what the term would be, roughly, for a codec that gives nothing: the data's variance for errors,
# the mean norm of a spectrogram for spectra. So the terms are of the order of 1 and their weights mean the same for loud and for quiet music.

# %%
#| export
def bandwidth_of(x: Tensor) -> dict[str, float]:
    """How large a data set's loss terms are: `l2` its variance, `l1` its mean magnitude, `spec` the
    mean norm of a chunk's spectrogram (frames 2048, hop 256, window 1536).

    x: (chunk, 1, time), chunks as long as those of the training, else ValueError. Losses divided by
    these are of the order of 1, whatever the loudness. Source: openai/jukebox; section 11.7.
    """
    if x.ndim != 3 or not x.any():
        found = "silent" if x.ndim == 3 else "no batch"
        raise ValueError(f"x has shape {tuple(x.shape)} and is {found}; expected chunks (chunk, 1, "
                         "time) of music")
    sizes = torch.linalg.vector_norm(magnitudes(x, 2048, 256, 1536).flatten(1), dim=1)
    return {"l2": float(x.var(unbiased=False)), "l1": float(x.abs().mean()),
            "spec": float(sizes.mean())}


def measure_bandwidth(model: nn.Module, data, chunks: int = 64) -> None:
    """Before a training: let the model know the bandwidth of the first chunks of its data."""
    batch = [data[number] for number in range(min(chunks, len(data)))]
    model.bandwidth = bandwidth_of(torch.stack(batch))

# %% [markdown]
# With a click of 0.5 in a second of near silence:

# %%
quiet = torch.zeros(1, 1, 22050)
click = quiet.clone()
click[..., 100] = 0.5
mean_error, largest = float((click - quiet).square().mean()), float(linf_loss(quiet, click, 4)[0])
print(f"mean {mean_error:.0e}, mean of the four largest {largest:.3f}")
assert math.isclose(largest, 0.25 / 4, rel_tol=1e-6) and mean_error < 2e-5

# %% [markdown]
# ### Two measures
#
# For comparing codecs, two numbers, both with frames of 2048 samples: **spectral convergence**, (11.6) divided by the norm of the target's magnitudes, in dB (20 times the logarithm; 0 dB is what silence gets, lower is better), and
# the **log-spectral distance**, the root mean square difference of two log spectra over bins, averaged over frames,
#
# $$ \mathrm{SC} = \frac{\lVert |X| - |Y| \rVert}{\lVert |X| \rVert}, \qquad
#    \mathrm{LSD} = \frac 1 M \sum_m \sqrt{\frac 1 F \sum_f \Big(20 \log_{10} \frac{|X[f, m]|}{|Y[f, m]|}\Big)^2}. \tag{11.9} $$
#
# The first looks at what is loud, the second, with a floor at a thousandth of the loudest, at all bins alike.

# %%
#| export
def spectral_convergence(x: Tensor, y: Tensor, epsilon: float = 2e-3) -> Tensor:
    """|| |X| - |Y| || / || |X| ||, (batch,), with frames of 2048, hop 256, window 1536: eq. 11.9.

    x, y: (batch, 1, time), target and output. 0 where the target's norm is below epsilon, as in
    openai/jukebox. Section 11.7.
    """
    size = torch.linalg.vector_norm(magnitudes(x, 2048, 256, 1536).flatten(1), dim=1)
    return spectral_distance(x, y, 2048, 256, 1536) * (size > epsilon) / size.clamp_min(epsilon)


def log_spectral_distance(x: Tensor, y: Tensor, floor: float = 1e-3) -> Tensor:
    """Root mean square, over bins, of the difference of two log spectra in dB, mean over frames,
    (batch,): eq. 11.9. x, y: (batch, 1, time), target and output. floor: magnitudes below this
    share of the target's largest count as it. Section 11.7."""
    X, Y = (magnitudes(signal, 2048, 256, 1536) for signal in (x, y))
    least = (floor * X.amax((1, 2), keepdim=True)).clamp_min(1e-8)
    difference = in_decibels(torch.maximum(X, least) / torch.maximum(Y, least))
    return difference.square().mean(1).sqrt().mean(-1)


def in_decibels(ratio: Tensor) -> Tensor:
    """20 log10 of a ratio of amplitudes; ratios below 1e-6 count as that."""
    return 20 * ratio.clamp_min(1e-6).log10()

# %% [markdown]
# Checked where the answers are known: a signal at 0.9 of its loudness, and at half:

# %%
softer = in_decibels(spectral_convergence(song, 0.9 * song))
assert torch.allclose(softer, torch.tensor(-20.0), atol=0.01)
halved = float(log_spectral_distance(song, 0.5 * song, floor=1e-9))
print(f"log-spectral distance to half the amplitude: {halved:.1f} dB")
assert abs(halved - 6.02) < 0.05

# %% [markdown]
# ## 11.8 Training
#
# The loss of a level, and of all (the sum over levels), is
#
# $$ \frac{\lVert x - y \rVert^2 / T + 0.02\, \mathcal L_\infty}{b_2} + \frac{\mathcal L_{\text{spec}}}{b_{\text{spec}}} +
#    0.02\, \lVert z - \mathrm{sg}[e_s] \rVert^2 / \dim z, \tag{11.10} $$
#
# with the bandwidths $b_2$ and $b_{\text{spec}}$. Jukebox's weights stand in the defaults:

# %%
#| export
class CodecStep:
    """The training step of Jukebox's VQ-VAE (eq. 11.10): for each level the waveform's error, its
    largest errors, the spectra's, and the commitment.

    linf, spectral, commit: weights of the last three. resolutions: of the spectral term. parts: is
    ignored (the codebooks move in the model's forward). The model's `bandwidth` must be set
    (`measure_bandwidth`), else ValueError. __call__(model, batch (batch, 1, time)) gives a dict:
    loss, and for the log recons, spec, commit (summed over levels), and usage and entropy of each
    level's codebook. Source: Dhariwal et al. 2020, section 3.2; section 11.8.
    """

    def __init__(self, linf: float = 0.02, spectral: float = 1.0, commit: float = 0.02,
                 resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS, parts=None):
        self.linf, self.spectral, self.commit = linf, spectral, commit
        self.resolutions = [tuple(one) for one in resolutions]

    def __call__(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        size = getattr(model, "module", model).bandwidth
        if size is None:
            raise ValueError("bandwidth of the model is not set; call measure_bandwidth(model, "
                             "data), or name it under prepare in the configuration")
        coded = model(batch)
        recons = spec = 0.0
        for y in coded.outputs:
            y = y.float()
            recons += (batch - y).square().mean() / size["l2"]
            recons += self.linf * linf_loss(batch, y).mean() / size["l2"]
            if self.spectral:
                spec += multispectral_loss(batch, y, self.resolutions).mean() / size["spec"]
        commit = sum(coded.commits)
        rows = {f"{name}_{level}": statistics[name] for level, statistics in enumerate(
            coded.statistics) for name in ("usage", "entropy") if name in statistics}
        spec = torch.as_tensor(spec)
        return {"loss": recons + self.spectral * spec + self.commit * commit, "recons": recons,
                "spec": spec, "commit": commit, **rows}

# %% [markdown]
# The running sums of (11.5) are no weights; a checkpoint must hold them all the same, or a training that is interrupted goes on as another one. The course's loop takes such things as *parts*:

# %%
#| export
class CodebookState:
    """The running sums of a model's codebooks, for checkpoints; the codes themselves are in the
    model."""

    def __init__(self, model: nn.Module):
        self.blocks = list(model.bottleneck.level_blocks)

    def state_dict(self) -> dict[str, object]:
        return {str(level): [block.k_sum, block.k_elem] if block.k_sum is not None else []
                for level, block in enumerate(self.blocks)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        for level, block in enumerate(self.blocks):
            block.k_sum, block.k_elem = state[str(level)] or (None, None)


def codebook_part(model: nn.Module) -> Part:
    """The codebooks of a VQ-VAE as a part of its training: what a checkpoint must hold (11.8)."""
    return Part("codebooks", CodebookState(model))

# %% [markdown]
# **Random downmix.** Codes are mono, songs stereo. Jukebox draws for each example how much of either channel it takes, so that the codec hears voices, guitars and rooms at many balances:

# %%
#| export
def random_downmix(stereo: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each example's two channels as one, a l + (1 - a) r with a drawn from 0 to 1 (section 11.8).

    stereo: (batch, 2, time), or (batch, 1, time), which stays. Returns (batch, 1, time).
    Source: Dhariwal et al. 2020, section 4; openai/jukebox (aug_blend).
    """
    if stereo.ndim != 3 or stereo.shape[1] not in (1, 2):
        raise ValueError(f"stereo has shape {tuple(stereo.shape)}; expected (batch, 2, time)")
    if stereo.shape[1] == 1:
        return stereo
    a = torch.rand(len(stereo), 1, 1, generator=generator, device=stereo.device, dtype=stereo.dtype)
    return a * stereo[:, :1] + (1 - a) * stereo[:, 1:]

# %% [markdown]
# The two ends and the middle of it:

# %%
left_right = torch.stack([torch.ones(4), torch.zeros(4)])[None].expand(1000, -1, -1)
shares = random_downmix(left_right, torch.Generator().manual_seed(0))[:, 0, 0]
print(f"share of the left: {shares.min():.2f} to {shares.max():.2f}, mean {shares.mean():.2f}")
assert shares.min() < 0.02 and shares.max() > 0.98 and abs(float(shares.mean()) - 0.5) < 0.05

# %% [markdown]
# One step with a fresh codec, to see the numbers: both errors are of the order of 1 a level, because the codec gives nothing yet.

# %%
torch.manual_seed(0)
fresh = VQVAE(emb_width=8, l_bins=32, width=8, depth=1).train()
measure_bandwidth(fresh, [one for one in songs[:, :, :8192]])
first_step = CodecStep()(fresh, songs[:2, :, :8192])
print({name: round(float(first_step[name].detach()), 1) for name in ("recons", "spec", "commit")})
assert 0.5 < float(first_step["spec"].detach()) < 6

# %% [markdown]
# And the log of `jukebox_band`. Above the loss, below how many of its 512 codes each level used by the running count:

# %%
log = measured_table("11_music_vq_vae/jukebox_band_log")
figure, (above, below) = plt.subplots(2, 1, figsize=(6.6, 4.6), sharex=True)
plot_losses({"loss": (log["step"].to_numpy(), log["loss"].to_numpy())}, smoothing=60, ax=above)
for level, hop in enumerate(codec.hop_lengths):
    below.plot(log["step"], log[f"usage_{level}"], label=f"hop {hop}")
below.set(xlabel="step", ylabel="codes in use", ylim=(0, 540))
below.legend(loc="lower right")
show(figure, "jukebox_band while it learned: loss (sum of three levels), and codes in use.",
     "Above a falling curve; below three curves that rise to about 500 and stay there.")

# %% [markdown]
# Restarts keep the codebooks alive from the first steps on. A code in use by the running count may still be one that *these* songs don't need:

# %%
with torch.no_grad():
    all_codes = codec.encode(songs)
rows = []
for level, one in enumerate(all_codes):
    counts = code_counts(one, 512)
    rows.append([f"hop {codec.hop_lengths[level]}", one.numel(), int((counts > 0).sum()),
                 float(perplexity(counts))])
show_table(rows, ["level", "symbols", "different ones", "perplexity"], digits=0,
           caption=f"{len(songs)} test songs, {P.seconds:g} s each; 512 codes a level.")
assert all(row[3] > 40 for row in rows)

# %% [markdown]
# ## 11.9 What each level keeps
#
# The spectrograms of the song from the beginning, with the same colours:

# %%
figure, axes = plt.subplots(2, 2, figsize=(8.4, 5.4), sharex=True, sharey=True)
names = ["the song", *(f"hop {hop}" for hop in codec.hop_lengths)]
for axis, y, name in zip(axes.flat, (song, *heard), names):
    plot_spectrogram(y[0], rate, name, loudest=-10, db_range=70, axis="mel", colour_bar=False,
                     ax=axis)
show(figure, "A song of the band and what is read back from its symbols.",
     "Four spectrograms; the lower levels lose fine lines and high bands, and gain a haze.")

# %% [markdown]
# Measured, for all test songs (section 11.10 says more of this table): each level in the two measures of (11.9), and in the signal-to-noise ratio of the waveform.

# %%
codecs = measured_table("11_music_vq_vae/codecs")
settings = measured_card("11_music_vq_vae/runs")["settings"]
tested = codecs[codecs.method == f"codes, hop {codec.hop_lengths[0]}"].shape[0]
scores = lambda method, column: codecs[codecs.method == method][column].to_numpy()
rows = [[hop, *(mean_interval(scores(f"codes, hop {hop}", column)) for column in
                ("convergence_db", "log_distance_db", "snr_db"))] for hop in codec.hop_lengths]
columns = ["spectral convergence, dB", "log-spectral distance, dB", "SNR, dB"]
show_table(rows, ["hop", *columns], digits=1,
           caption=f"{tested} test songs of the band, {settings['score_seconds']:g} s each.")

# %% [markdown]
# The order is the paper's: the higher the compression, the more is lost. And all three measures agree on it.
#
# Now a real recording, which is nothing like the band: other voices, rooms and instruments, and noise. The codec never heard such a thing.

# %%
real, _ = recording("fishin", start=12.0, seconds=P.seconds, mono=True, rate=rate)
real = to_hops(real)[None]                                          # (1, 1, time)
with torch.no_grad():
    real_heard = [codec.decode(one, level) for level, one in enumerate(codec.encode(real))]
listen(real[0], rate, "Karissa Hobbs, Let's Go Fishin'")

# %% [markdown]
# Read back from hop 8:

# %%
listen(real_heard[0][0], rate, "the recording from a symbol for every 8 samples")

# %% [markdown]
# From hop 32:

# %%
listen(real_heard[1][0], rate, "the recording from a symbol for every 32 samples")

# %% [markdown]
# And from hop 128:

# %%
listen(real_heard[2][0], rate, "the recording from a symbol for every 128 samples")

# %% [markdown]
# How do the levels do on it, beside the band?

# %%
rows = []
for level, hop in enumerate(codec.hop_lengths):
    band = float(scores(f"codes, hop {hop}", "convergence_db").mean())
    rows.append([hop, band, float(in_decibels(spectral_convergence(real, real_heard[level])))])
show_table(rows, ["hop", "the band", "the recording"], digits=0,
           caption="Spectral convergence in dB; one recording, and the band's test songs.")

# %% [markdown]
# It does about as well as on the band, although it trained on nothing like it. A codec with such short hops learns what sound is like for some milliseconds, and in that songs differ less than in anything longer. One recording proves nothing, though: try your own, and
# listen where it fails. Jukebox's codec saw 1.2 million songs.

# %% [markdown]
# ## 11.10 At equal bits: Opus, and residual quantisation
#
# ### Opus
#
# What would an ordinary codec do with the same bits? **Opus** is what phones and browsers use. It knows nothing of any band; it has a model of hearing and thirty years of experience. `soundfile` writes it; how
# many bits it takes is set by `compression_level`, and measured by the size of the file. Opus knows 24,000 Hz and not 22,050, so the audio is resampled there and back.

# %%
squeezed, opus_rate = experiment.through_opus(song[0], 0.92)
print(f"{opus_rate / 1000:.0f} kbit/s; spectral convergence "
      f"{float(in_decibels(spectral_convergence(song, squeezed[None]))):.0f} dB")
listen(squeezed, rate, "Opus, at about the bits of hop 8")

# %% [markdown]
# All of its settings on all test songs, beside our levels. Its lowest setting takes more than our two slower levels, which have no rival here.

# %%
means = ["bits_per_second", "convergence_db", "log_distance_db"]
by_method = codecs.groupby("method", sort=False)[means].mean()
rows = [[name, row.bits_per_second / 1000, row.convergence_db, row.log_distance_db]
        for name, row in by_method.iterrows()]
show_table([[None if isinstance(value, float) and math.isnan(value) else value for value in row]
            for row in rows], ["codec", "kbit/s", *columns[:2]], digits=1,
           caption=f"{tested} test songs of the band; means. Resampled: to 24,000 Hz and back.")

# %% [markdown]
# As a picture: the further down and left, the better.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
for axis, column, label in zip(axes, ("convergence_db", "log_distance_db"), columns):
    for start, marker, name in (("codes", "o", "jukebox_band"), ("Opus", "s", "Opus")):
        part = by_method[[method.startswith(start) for method in by_method.index]]
        axis.plot(part.bits_per_second / 1000, part[column], marker + "-", label=name)
    axis.set(xscale="log", xlabel="kbit/s", ylabel=label)
axes[0].legend()
show(figure, "Bits and errors of the small codec and of Opus on the band.",
     "Two falling curves in each panel, errors over kilobits a second.")

# %% [markdown]
# The comparison at matching bits, song by song: hop 8 needs 25 kbit/s, and the setting of Opus nearest to it, chosen by its rate alone, takes a little more.

# %%
opus = by_method[[name.startswith("Opus") for name in by_method.index]]
level_bits = experiment.bits_per_second(codec, 0)
match = (opus.bits_per_second - level_bits).abs().idxmin()
gains = {column: scores(match, column) - scores("codes, hop 8", column)
         for column in ("convergence_db", "log_distance_db")}
print(f"{match}: {opus.bits_per_second[match] / 1000:.1f} kbit/s, hop 8 {level_bits / 1000:.1f}")
for column, label in zip(gains, columns):
    print(f"{label}: codes ahead by {difference_in_words(gains[column])}")

# %% [markdown]
# So at about equal bits spectral convergence doesn't tell the two apart, and in log-spectral distance Opus is ahead, although the codec knows this band. At the low end the table says something else: by spectral convergence hop 32 is far nearer to the song than the lowest setting of Opus, with fewer bits. Two things to keep in mind. The file of Opus carries its container and a header, which count in so short a file. And codes can be packed: not every symbol is as likely as every other, and a model that predicts them (chapter 12) needs fewer bits than (11.1).
#
# ### Residual quantisation
#
# Later codecs (SoundStream, EnCodec, DAC) want many bits a step, and a codebook of $2^{36}$ codes can't be stored or searched. They quantise **what is left over**: a first codebook takes the nearest code, a second one quantises the rest, and so on,
#
# $$ r_1 = z, \qquad s_i = \arg\min_k \lVert r_i - e^{(i)}_k \rVert^2, \qquad r_{i+1} = r_i - e^{(i)}_{s_i}, \qquad
#    \hat z = \sum_i e^{(i)}_{s_i}. \tag{11.11} $$
#
# Numbers on a line: 7 becomes 10 with the codebook {0, 10}, the rest −3 becomes −2 with {−2, 2}, the rest −1 becomes −1 with {−1, 1}: $10 - 2 - 1 = 7$, with three bits and six stored numbers. Eight codes of
# a single book would need eight.
#
# Codebooks can be found by chapter 10's **k-means** (`kmeans`), which is (11.5) with all data at once.
#
# The quantiser: fit a codebook, take it off, fit the next to the rest.

# %%
#| export
class ResidualQuantiser:
    """Codebooks in a row, each for what the ones before it left (eq. 11.11).

    codebooks: a list of (codes, width). `fit` makes them by k-means. encode: vectors (vector,
    width) to codes (vector, stage); decode: back, with the first `stages` only if that is given.
    Source: Zeghidour et al. 2021, SoundStream, section III C; section 11.10.
    """

    def __init__(self, codebooks: Sequence[Tensor]):
        self.codebooks = list(codebooks)

    @classmethod
    def fit(cls, x: Tensor, stages: int, codes: int, seed: int = 0) -> "ResidualQuantiser":
        codebooks, generator = [], torch.Generator().manual_seed(seed)
        for _ in range(stages):
            codebooks.append(kmeans(x, codes, 10, generator))
            x = x - codebooks[-1][nearest_codes(x, codebooks[-1])]
        return cls(codebooks)

    def encode(self, x: Tensor) -> Tensor:
        codes = []
        for codebook in self.codebooks:
            codes.append(nearest_codes(x, codebook))
            x = x - codebook[codes[-1]]
        return torch.stack(codes, -1)

    def decode(self, codes: Tensor, stages: int | None = None) -> Tensor:
        return sum(codebook[codes[:, stage]]
                   for stage, codebook in enumerate(self.codebooks[:stages]))

# %% [markdown]
# The numbers on a line, once more, by the class:

# %%
line = ResidualQuantiser([torch.tensor([[0.0], [10.0]]), torch.tensor([[-2.0], [2.0]]),
                          torch.tensor([[-1.0], [1.0]])])
symbols = line.encode(torch.tensor([[7.0]]))
print(symbols[0].tolist(), float(line.decode(symbols)))
assert float(line.decode(symbols)) == 7.0

# %% [markdown]
# Now on music, **at equal bits**. Take the vectors that the trained encoder of hop 128 makes of the band's training songs, before they are quantised, and fit four residual codebooks of 512: $4 \times 9$ bits every 128 samples. That is as many bits a second as hop 32
# with one codebook. Which says more?

# %%
teach = experiment.middles("train", 6, 10.0)                        # (song, 1, time)
with torch.no_grad():
    z_train = codec.bottleneck.level_blocks[2].rows(codec.latents(teach, 2))
    z_test = codec.latents(songs, 2)                                # (song, 32, step)
quantiser = ResidualQuantiser.fit(z_train, stages=4, codes=512)
symbols = quantiser.encode(Codebook.rows(z_test))                   # (song * step, 4)
assert math.isclose(4 * bits(rate, 128, 512), bits(rate, 32, 512))

# %% [markdown]
# How much of the vectors' energy is left after each stage, in new songs?

# %%
flat = Codebook.rows(z_test)
left = [float((flat - quantiser.decode(symbols, stages)).square().sum() / (
    flat - flat.mean(0)).square().sum()) for stages in (1, 2, 3, 4)]
print("left over, in % of the variance:", [round(100 * one) for one in left])
assert left == sorted(left, reverse=True)

# %% [markdown]
# The decoder of hop 128 reads them. It was trained for one codebook and does not know this one; no weight is changed.

# %%
with torch.no_grad():
    back = lambda stages: codec.from_latents(quantiser.decode(symbols, stages).unflatten(
        0, (len(songs), -1)).mT, 2)
    outputs = {"hop 128, its own codebook": (codec.decode(all_codes[2], 2), 1, 128),
               "hop 128, 4 residual codebooks": (back(4), 4, 128),
               "hop 32, its own codebook": (codec.decode(all_codes[1], 1), 1, 32),
               "hop 128, not quantised": (codec.from_latents(z_test, 2), None, 128)}
errors = {name: in_decibels(spectral_convergence(songs, y)) for name, (y, _, _) in outputs.items()}
rows = [[name, stages and stages * bits(rate, hop, 512) / 1000, float(errors[name].mean())]
        for name, (_, stages, hop) in outputs.items()]
show_table(rows, ["vectors", "kbit/s", "spectral convergence, dB"], digits=1,
           caption=f"Means over {len(songs)} test songs, {P.seconds:g} s each.")

# %% [markdown]
# The last row is the bound of this decoder: even without any quantisation hop 128 gives no more than that, for encoder and decoder themselves are too small or trained too briefly. Between the first row and the last lies all that codebooks can win here; the second shows how much of it four
# residual ones do. Whether a level with *more steps* or one with *more codebooks a step* is better at equal bits can be read off rows two and three, but for this pair of trainings only: the decoders of EnCodec and DAC are trained with their residual codebooks, ours was not.
#
# What does it mean for whoever writes symbols? With hop 32 a transformer sees four symbols in a row; with four residual codebooks it sees four at once, the first of which says most. MusicGen (2023) writes them that way, each codebook a step behind the one before, so that its symbol is known by then.

# %% [markdown]
# ## 11.11 The paper's comparisons, small
#
# Why three autoencoders apart? Before, one would build *one* with three levels inside: the encoder's levels feed each other, each is quantised, and one decoder adds them up. It has all bits at once, and therefore a choice: it can say everything in the fast symbols and leave
# the top empty. For a model that begins to write at the top, that is fatal. The class is short, for `Encoder` and `Decoder` were made for it:

# %%
#| export
class HierarchicalVQVAE(nn.Module):
    """One autoencoder with all levels: the encoder's levels feed each other, each is quantised, and
    one decoder adds them on its way up. What Jukebox tried first and gave up.

    The arguments as in `VQVAE`, without multipliers. forward: as there, with a single output;
    `without`: numbers of levels whose vectors are replaced by zeros. Section 11.11.
    """

    def __init__(self, levels: int = 3, downs_t: Sequence[int] = (3, 2, 2),
                 strides_t: Sequence[int] = (2, 2, 2), emb_width: int = 64, l_bins: int = 2048,
                 mu: float = 0.99, width: int = 32, depth: int = 4, m_conv: float = 1.0,
                 dilation_growth_rate: int = 3, dilation_cycle: int | None = None,
                 revival_threshold: float = 1.0, x_channels: int = 1):
        super().__init__()
        block = dict(width=width, depth=depth, m_conv=m_conv, dilation_cycle=dilation_cycle,
                     dilation_growth_rate=dilation_growth_rate)
        shape = (x_channels, emb_width, levels, downs_t, strides_t)
        self.encoder, self.decoder = Encoder(*shape, **block), Decoder(*shape, **block)
        self.bottleneck = Bottleneck(l_bins, emb_width, mu, levels, revival_threshold)
        self.bandwidth: dict[str, float] | None = None

    def forward(self, x: Tensor, without: Sequence[int] = ()) -> Coded:
        codes, quantised, commits, statistics = zip(*self.bottleneck(self.encoder(x)))
        kept = [torch.zeros_like(z) if level in without else z for level, z in enumerate(quantised)]
        return Coded([self.decoder(kept)], list(codes), list(commits), list(statistics))

# %% [markdown]
# `course experiment jukebox` trains small codecs that differ in one thing each, with equal steps. What all share:

# %%
print({name: settings[name] for name in ("width", "depth", "l_bins", "steps", "samples")})
runs = measured_table("11_music_vq_vae/runs")
by_song = measured_table("11_music_vq_vae/songs")

# %% [markdown]
# The scores, mean over the test songs, a row a run and output. `hop 128` of the hierarchical one is what its decoder makes of the top symbols alone, the others being replaced by zeros:

# %%
show_table([[row.variant, str(row.seed), row.level, row.convergence_db, row.log_distance_db]
            for row in runs.itertuples()],
           ["run", "seed", "output", *columns[:2]], digits=1,
           caption=f"{settings['test_songs']} test songs, {settings['score_seconds']:g} s each; "
                   f"{settings['steps']} steps; lower is better.")

# %% [markdown]
# A difference is believed if the paired interval over songs excludes zero, both seeds agree, and it exceeds what two seeds of the base are apart:

# %%
def song_scores(variant, level, column="convergence_db"):
    """(seed, song) scores of a variant's output; (0, 0) where it was not run."""
    found = by_song[(by_song.variant == variant) & (by_song.level == level)]
    return found.pivot(index="seed", columns="song", values=column).to_numpy()

def compared(variant, level, column="convergence_db"):
    """How much worse a variant is than the base (seed, song), and how far two seeds are apart."""
    base, other = song_scores("base", level, column), song_scores(variant, level, column)
    apart = abs(float(base[0].mean() - base[1].mean())) if len(base) == 2 else math.inf
    seeds = min(len(base), len(other))
    return (other[:seeds] - base[:seeds] if seeds else other), apart

# %% [markdown]
# For each comparison of the paper (and one more, the small codebook), at the level that it speaks of:

# %%
comparisons = {
    "without spectral loss, hop 128": compared("without spectral loss", "hop 128"),
    "one hierarchical autoencoder, hop 128 alone": compared("one hierarchical autoencoder",
                                                            "hop 128"),
    "without restarts, hop 8": compared("without restarts", "hop 8"),
    "32 codes, hop 8": compared("32 codes", "hop 8")}
show_table([[name, difference_in_words(gap), len(gap), apart]
            for name, (gap, apart) in comparisons.items()],
           ["against the base", "worse by", "seeds", "two seeds apart, dB"], digits=2,
           caption="Spectral convergence in dB, mean over the seeds, paired over songs; "
                   "positive: the base is better.")

# %% [markdown]
# Look at the rows of the hierarchical codec in the table before. All levels together are about as good as the base's hop 8, which has fewer bits. But its top symbols alone give what silence gives, 0 dB, and without them nothing is lost: **the top is empty.** The first could be
# the decoder's fault, which never heard the top alone; the second can't. Whoever wants to write music from the top down must make the levels speak for themselves.
#
# Without the spectral loss the top loses most, as it knows least about phases. And without restarts hop 8 is as if it had far fewer codes: compare it with the codec that has 32.

# %% [markdown]
# ## 11.12 The published weights
#
# `load_official` reads Jukebox's checkpoint, 7.5 MB, into `VQVAE()`, tensor by tensor and strictly. The file is called `vqvae.pth.tar` and is no tar: it is a file of `torch.save` from before 2020, a dict with `model`, `step` and more. It is fetched from
# OpenAI's server, which publishes no hash of it; so the course can notice a transfer that breaks off and a file with the wrong tensors, but not a forged one. No code in the file is run.
#
# **Licence.** The weights, and *what they decode or generate*, may not be used commercially; the authors ask to say that a sound was made with Jukebox. Keep that note beside every file you make with them. The small codec of this chapter is our own and has no such limit.

# %%
#| export
def load_official(path: str | Path | None = None) -> VQVAE:
    """The published VQ-VAE of Jukebox in eval mode, from its checkpoint `vqvae.pth.tar`.

    path: of the file (default: fetched from the publisher, 7.5 MB; no hash of it was published).
    It is a file of torch.save, no tar, that holds a dict with "model"; no code of it is run.
    **Its licence is non-commercial, and so is whatever it decodes.** Raises FileNotFoundError where
    the file can't be had, ValueError for another file. Section 11.12.
    """
    path = Path(path) if path is not None else fetch_weights("jukebox", "vqvae")
    expected = "a checkpoint of Jukebox: a dict with the tensors under 'model'"
    content = read_structure(path, {"jukebox.hparams.Hyperparams": dict}, expected)
    tensors = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path.name} holds {type(content).__name__} without 'model'; expected "
                         f"{expected}")
    model = VQVAE()
    load_strictly(model, {name.removeprefix("module."): tensor for name, tensor in tensors.items()},
                  path.name)
    return model.eval()

# %% [markdown]
# The stored outputs of this chapter don't use the file. What they do: write a file of the same layout, as of 2019, with random weights, and read it back.

# %%
import tempfile
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "vqvae.pth.tar"
    torch.save({"model": published_size.state_dict(), "step": 0, "opt": None}, file,
               _use_new_zipfile_serialization=False)
    print(f"{file.stat().st_size / 1e6:.1f} MB")
    read = load_official(file)
assert all(torch.equal(a, b) for a, b in zip(read.parameters(), published_size.parameters()))

# %% [markdown]
# The tests hold `VQVAE()` against the implementation in the package `transformers`, which renames the tensors: same weights, drawn at random, same codes (but for ties in the last digit), same sound to five digits, same gradients.
#
# ## 11.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `ResConv1DBlock`, `Resnet1D` | dilated residual blocks | 11.2 |
# | `EncoderConvBlock`, `DecoderConvBlock`, `Encoder`, `Decoder` | down and up, in levels | 11.3 |
# | `nearest`, `Codebook`, `RunningCodebook`, `BottleneckBlock`, `Bottleneck` | nearest codes, running means, restarts | 11.4 to 11.6 |
# | `VQVAE`, `Coded`, `to_hops` | three autoencoders: `encode`, `decode`, `latents`, `from_latents` | 11.6 |
# | `magnitudes`, `spectral_distance`, `multispectral_loss`, `linf_loss`, `bandwidth_of`, `measure_bandwidth` | what an error is | 11.7 |
# | `spectral_convergence`, `log_spectral_distance` | how codecs are compared | 11.7 |
# | `CodecStep`, `codebook_part`, `random_downmix` | training | 11.8 |
# | `ResidualQuantiser` | residual quantisation | 11.10 |
# | `HierarchicalVQVAE` | one autoencoder for all levels | 11.11 |
# | `load_official` | the published weights | 11.12 |
#
# All of it is in `course_lib.jukebox`.
#
# ## 11.14 Paper claims
#
# The levels of the paper rest on Jukebox's data and need them. The order can be tested on the band; differences between runs count only if both seeds agree and they exceed what two seeds are apart.

# %%
PAPER = "Dhariwal et al. 2020"

def claim(text, name, source=PAPER):
    """A claim that holds where the base is ahead of what is left out."""
    gap, apart = comparisons[name]
    if not len(gap):
        return Claim(text, source, "11.11", "order only", "not run", NEEDS_REAL_DATA)
    seen = same_trend(gap if float(gap.mean()) > apart else -abs(gap))
    return Claim(text, source, "11.11", "order only", difference_in_words(gap), seen)

between = lambda slow, fast: scores(f"codes, hop {slow}", "convergence_db") - scores(
    f"codes, hop {fast}", "convergence_db")

# %% [markdown]
# The verdicts are computed:

# %%
claims = [
    Claim("Parameters of the VQ-VAE", "openai/jukebox", "11.6", "1,485,763", f"{counted[0]:,}",
          reproduced(counted[0], 1_485_763, 0)),
    Claim("Hop 32 loses more than hop 8", PAPER, "11.9", "order only",
          difference_in_words(between(32, 8)), same_trend(between(32, 8))),
    Claim("Hop 128 loses more than hop 32", PAPER, "11.9", "order only",
          difference_in_words(between(128, 32)), same_trend(between(128, 32))),
    claim("The spectral loss helps the top level", "without spectral loss, hop 128"),
    claim("Apart, the top level says more than in one hierarchical autoencoder",
          "one hierarchical autoencoder, hop 128 alone"),
    claim("Restarts help the bottom level", "without restarts, hop 8"),
    claim("A larger codebook helps the bottom level", "32 codes, hop 8"),
    Claim("At hop 8's bits the codes are ahead of Opus in spectral convergence", "this chapter",
          "11.10", None, difference_in_words(gains["convergence_db"]),
          same_trend(gains["convergence_db"])),
    Claim("And in log-spectral distance", "this chapter", "11.10", None,
          difference_in_words(gains["log_distance_db"]), same_trend(gains["log_distance_db"]))]
show_claims(claims)

# %% [markdown]
# The codec was trained on songs of this very band, and Opus was made for everything. And neither measure hears as we do. Compare by ear. (Should a row of yours say *needs real data*, its run has not been made: `course experiment jukebox` makes those that lack.)
#
# ## 11.15 Exercises
#
# Try each before opening its answer. The graded [assignment of this chapter](assignments/11_music_vq_vae.ipynb) has more tasks, with checks.
#
# **1. By hand.** A codec for speech works at 16,000 Hz with hop 320 and 8 residual codebooks of 1024. How many bits a second?
#
# <details><summary>Answer</summary>
#
# $16000 / 320 = 50$ steps a second, each $8 \cdot 10$ bits: 4000.
#
# ```python
# assert 8 * 16000 / 320 * math.log2(1024) == 4000
# ```
# </details>
#
# **2. Without loss.** With how many codes could a codebook of scalars (width 1) store 12-bit samples exactly, at hop 1? And what would (11.4) cost?
#
# <details><summary>Answer</summary>
#
# $2^{12}$; and as many distances for every sample. That is what residual quantisation spares: two stages of 64 do the same with 128 distances. (The coarse codes lie half way between samples, so that no sample is equally near to two.)
#
# ```python
# coarse = 64.0 * torch.arange(-32, 32)[:, None] + 31.5                   # (code, 1)
# fine = torch.arange(64.0)[:, None] - 31.5
# two = ResidualQuantiser([coarse, fine])
# samples = torch.arange(-2048.0, 2048)[:, None]
# assert torch.equal(two.decode(two.encode(samples)), samples)
# ```
# </details>
#
# **3. Deaf to the sign.** Show that no spectral loss can tell $x$ from $-x$. Which term of (11.10) can?
#
# <details><summary>Answer</summary>
#
# $|-X| = |X|$ in every bin. The squared error can: it is four times the energy.
#
# ```python
# x = 0.1 * torch.randn(1, 1, 8192)
# assert float(multispectral_loss(x, -x)) < 1e-3
# assert torch.allclose((x - (-x)).square().mean(), 4 * x.square().mean())
# ```
# </details>
#
# **4. The threshold.** With 128 symbols a batch, 512 codes that are all chosen alike, and threshold 1, how many codes are restarted in each step, once the running counts have settled? With threshold 0.05?
#
# <details><summary>Answer</summary>
#
# Every running count settles at 0.25: below 1, so *all* are restarted in every step and nothing is ever learned; above 0.05, so none.
# </details>
#
# **5. A shift.** Shift the song by 4 samples, half a hop of level 0. How many of its symbols stay the same? And shifted by 8?
#
# <details><summary>Answer</summary>
#
# By a whole hop of the fastest level its symbols move along, but for the ends; by half a hop most of them change, although nobody hears a difference. Codes are not invariant.
#
# ```python
# from course_lib.experiments.jukebox import middles
# from course_lib.training import load_trained
# codec, x = load_trained("jukebox_band"), middles("test", 1, 3.0)
# with torch.no_grad():
#     before = codec.encode(x)[0]
#     same = [float((codec.encode(x.roll(shift, -1))[0] == before.roll(shift // 8, -1))
#                   [:, 200:-200].float().mean()) for shift in (8, 4)]
# assert same[0] > 0.95 > 0.7 > same[1]
# ```
# </details>
#
# **6. Open.** Train a fourth level with hop 512 (`downs_t`, `strides_t`). What is left of a song at 388 bits a second? And would it help chapter 12's transformer?
#
# ## 11.16 Sources
#
# - P. Dhariwal, H. Jun, C. Payne, J. W. Kim, A. Radford and I. Sutskever, *Jukebox: a generative model for music*, 2020, arXiv 2005.00341; code and weights openai/jukebox, under a non-commercial licence.
# - A. van den Oord, O. Vinyals and K. Kavukcuoglu, *Neural discrete representation learning*, NeurIPS 2017; A. Razavi, A. van den Oord and O. Vinyals, *Generating diverse high-fidelity images with VQ-VAE-2*, NeurIPS 2019.
# - N. Zeghidour et al., *SoundStream: an end-to-end neural audio codec*, 2021; A. Défossez, J. Copet, G. Synnaeve and Y. Adi, *High fidelity neural audio compression* (EnCodec), 2022; R. Kumar et al., *High-fidelity audio compression with improved RVQGAN* (DAC), NeurIPS 2023.
# - J. Copet et al., *Simple and controllable music generation* (MusicGen), NeurIPS 2023.
# - J.-M. Valin, K. Vos and T. Terriberry, *Definition of the Opus audio codec*, RFC 6716, 2012.
# - N. Sturmel and L. Daudet, *Signal reconstruction from STFT magnitude: a state of the art*, DAFx 2011: spectral convergence.
#
# All code here is the course's own; the names of arguments and tensors are Jukebox's.

