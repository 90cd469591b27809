# %% [markdown]
# # Chapter 15 · The WaveNet autoencoder
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/15_wavenet_autoencoder.ipynb)
#
# A WaveNet writes sound one sample at a time: it looks at the samples so far, says how likely each of 256 values is for the next one, draws one, and goes on. *NSynth* (2017)
# put an encoder in front that tells it, thirty times a second and in sixteen numbers, what to play. Nobody said what these numbers should mean; what one finds in them, which note it is and
# which instrument, is a question that we put to them. In this chapter you build both halves, train them, look at the code, walk from a cello to a trumpet in it, and make the decoder so fast that it plays in real time on a laptop.
# Chapter 16 gives one such encoder several decoders, one for each instrument: that is music translation.
#
# **You will be able to**
# - turn sound into 256 symbols that spend their precision where the ear does, and find the flaw in the official pair of functions,
# - build causal dilated convolutions, and say how far a stack of them hears,
# - build a gated residual layer, WaveNet, and a temporal encoder that may look ahead,
# - train by cross entropy and say what a bit a sample means,
# - generate: plainly, with queues, and compiled, and prove that all three draw the same samples,
# - ask a code what it knows, with linear probes and their bounds.
#
# **You need** chapter 11 (residual blocks with dilation), chapter 12 (autoregressive models, sampling). Chapter 16 goes on from here.
#
# **Time** <!-- minutes 15_wavenet_autoencoder -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 15.0 Set up
#
# The first lines install the course where it is missing, on Colab. The trained autoencoder came out of `course train wavenet_band`, the scores of sections 15.12 to 15.14 out of
# `course experiment wavenet`, and the speeds of 15.11 out of `benchmarks/wavenet_speed.py`; all come with the course.

# %%
#| default_exp wavenet
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("15_wavenet_autoencoder", cpu=dict(steps=100), gpu=dict(steps=400), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/wavenet.py`, word for word. It begins here. `numba` compiles loops (section 15.11).

# %%
#| export
import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %% [markdown]
# The rest serves the chapter only.

# %%
import time
import matplotlib.pyplot as plt
from course_lib.data.recordings import attribution, recording
from course_lib.experiments import wavenet as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_losses, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (Claim, difference_in_words, reproduced, same_trend,
                                        show_claims)
from course_lib.results import measured_table
from course_lib.training import load_trained

# %% [markdown]
# ## 15.1 Notes in, numbers, notes out
#
# The sounds of this chapter are single notes of six instruments, played from the band's soundfont: mono, 16,000 Hz, a little over a second each, three velocities, two octaves from C3 on. Here are three of them.

# %%
rate, hop = experiment.RATE, experiment.HOP
test = experiment.notes("test")
names = list(experiment.INSTRUMENTS)

def find(data, instrument, velocity=85, number=0):
    """The place of a note in the data."""
    fit = (data.instrument == names.index(instrument)) & (data.velocity == velocity)
    return int(fit.nonzero()[number])

chosen = [find(test, name) for name in ("trumpet", "piano", "cello")]
listen(test.x[chosen].flatten(), rate, "a trumpet, a piano, a cello")

# %% [markdown]
# The trained autoencoder turns each into a table of $16 \times 32$ numbers, and a new sound is drawn from nothing but that table. The class is the one that we build below.

# %%
trained = load_trained(experiment.WEIGHTS)
with torch.no_grad():
    z = trained.encode(test.x[chosen])                              # (note, 16, 32)
again = trained.decode(z, torch.Generator().manual_seed(0))         # (note, time)
print(f"{test.x.shape[1]} samples -> {tuple(z.shape[1:])} numbers -> {again.shape[1]} samples")
listen(again.flatten(), rate, "drawn from their codes")

# %% [markdown]
# What you hear is no copy. The code is thirty times smaller than the sound and knows nothing of the waveform's phase; every sample was *invented*, one after another. None of these notes was heard in training: each instrument has pitches that were kept back. How well it went is
# measured in section 15.12. Level and course of a note are there, its harmonics drown in noise: a small network that learned from few notes, for an hour or two of one core. The published one trained for ten days on 32 GPUs.

# %%
assert test.x[0].numel() == 32 * z[0].numel()
train_pairs = set(zip(*(one.tolist() for one in (experiment.notes("train").instrument,
                                                 experiment.notes("train").pitch))))
assert not train_pairs & set(zip(test.instrument.tolist(), test.pitch.tolist()))

# %% [markdown]
# ## 15.2 Sound as 256 symbols
#
# A network that says how likely each value of the next sample is needs few values to choose from. Sixteen bits have 65,536. With 256 equally spaced ones, soft sounds fall between two of them and turn into noise. The
# **mu-law**, which telephones have used since the 1970s, spaces them unequally, with $\mu = 255$:
#
# $$ f(x) = \operatorname{sign}(x)\, \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \qquad s = \left\lfloor \tfrac{1}{2} \big(f(x) + 1\big)\, \mu \right\rfloor. \tag{15.1} $$
#
# $f$ maps $[-1, 1]$ to itself, steeply near 0. (Mind the words: in this chapter and the next *the code* is the encoder's table $z$; what the functions call `codes` are these symbols $s$.) Five values by hand:

# %%
x_tiny = [-1.0, -0.1, 0.0, 0.01, 1.0]
by_loop = []
for x in x_tiny:
    y = math.copysign(math.log(1 + 255 * abs(x)) / math.log(256), x)
    by_loop.append(math.floor((y + 1) / 2 * 255))
print(by_loop)

# %% [markdown]
# A hundredth of full scale is already 29 symbols away from silence. The way back is $f^{-1}$, and here the official code of the music translation, which chapter 16 reads, has a peculiarity that we keep, since its weights were trained with it: it divides by 256 where (15.1) multiplies by 255,
#
# $$ y = \frac{2 (s - 128)}{256}, \qquad x = \operatorname{sign}(y)\, \frac{(1 + \mu)^{|y|} - 1}{\mu}. \tag{15.2} $$

# %%
#| export
SYMBOLS = 256                       # of the mu-law code


def mu_law_encode(x: Tensor, mu: int = 255) -> Tensor:
    """Audio in [-1, 1], any shape, to whole numbers 0 to mu, finer near silence (eq. 15.1).

    Beyond [-1, 1] it is clipped. Silence gives 127. As the official code it cuts off and does not
    round, see `mu_law_decode`. ValueError for whole numbers and NaN. Source: ITU-T G.711; van den
    Oord et al. 2016, section 2.2; facebookresearch/music-translation; section 15.2.
    """
    if not x.is_floating_point() or torch.isnan(x).any():
        raise ValueError(f"x is {x.dtype}{' with NaN' if x.is_floating_point() else ''}; expected "
                         "audio in [-1, 1] without NaN")
    x = x.clamp(-1, 1)
    y = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)      # in [-1, 1]
    return ((y + 1) / 2 * mu).long()

# %% [markdown]
# And back:

# %%
#| export
def mu_law_decode(codes: Tensor, mu: int = 255) -> Tensor:
    """Whole numbers 0 to mu to float32 audio (eq. 15.2): code 128 is silence, 127 a little below.

    Not quite the inverse of `mu_law_encode`, as in the official code: it divides by 256 where that
    multiplies by 255. ValueError for other numbers. Section 15.2.
    """
    check_codes(codes, mu)
    y = 2 * (codes.float() - (mu + 1) / 2) / (mu + 1)
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def check_codes(codes: Tensor, mu: int = 255) -> None:
    """ValueError unless codes are whole numbers from 0 to mu, at least one."""
    if codes.is_floating_point() or codes.dtype == torch.bool or codes.numel() == 0:
        raise ValueError(f"codes are {codes.dtype} of shape {tuple(codes.shape)}; expected whole "
                         "numbers, at least one: see mu_law_encode")
    if not 0 <= int(codes.min()) <= int(codes.max()) <= mu:
        raise ValueError(f"codes go from {int(codes.min())} to {int(codes.max())}; expected 0 to "
                         f"{mu}")

# %% [markdown]
# Against the loop, and there and back. What is asymmetric about the pair? (15.1) cuts off where it could round, so nothing comes back higher than it went in; the most negative sample comes back whole, the most positive one doesn't, and silence comes back a little below zero:

# %%
assert mu_law_encode(torch.tensor(x_tiny)).tolist() == by_loop
back = mu_law_decode(mu_law_encode(torch.tensor(x_tiny)))
show_table([[x, code, float(y)] for x, code, y in zip(x_tiny, by_loop, back)],
           ["sample", "symbol", "comes back as"], digits=5, caption="There and back.")
assert (mu_law_decode(torch.arange(256)).diff() > 0).all()
assert int(mu_law_encode(torch.zeros(1))) == 127 and float(mu_law_decode(torch.tensor(128))) == 0

# %% [markdown]
# Look at all errors: the steps grow with the sample, and on both sides of zero what comes back is lower.

# %%
ramp = torch.linspace(-1, 1, 20_001)
error = mu_law_decode(mu_law_encode(ramp)) - ramp
figure, axis = plt.subplots(figsize=(7.2, 2.4))
axis.plot(ramp, error, linewidth=0.7)
axis.set(xlabel="sample", ylabel="error")
show(figure, "What the mu-law there and back does to a sample.",
     "A saw of errors over the sample from -1 to 1: its teeth are tiny near 0 and grow outwards; "
     "all of it lies below zero.")
print(f"lower in {float((error < 0).float().mean()):.0%} of all cases, mean {error.mean():.3f}")
assert error.mean() < -0.005

# %% [markdown]
# What matters is the precision for soft sounds. Two encoders with 256 values each, equal steps and this mu-law, on all test notes as they are, and turned down by 20 and by 40 dB:

# %%
def snr_db(x, y):
    """Signal to noise ratio in dB of sounds (note, time)."""
    return 10 * torch.log10(x.square().sum(1) / (x - y).square().sum(1))

linear = lambda x: ((x + 1) * 128).floor().clamp(0, 255) / 128 - 1 + 1 / 256
companded = lambda x: mu_law_decode(mu_law_encode(x))
softer = {down: test.x * 10 ** (-down / 20) for down in (0, 20, 40)}
both = {down: [snr_db(x, way(x)) for way in (linear, companded)] for down, x in softer.items()}
show_table([[down, *map(mean_interval, snrs)] for down, snrs in both.items()],
           ["dB softer", "equal steps", "mu-law"], digits=1,
           caption="SNR in dB of sound in 256 values, mean over 72 test notes, 95% intervals.")
assert both[0][0].mean() > both[0][1].mean() and both[20][0].mean() < both[20][1].mean()

# %% [markdown]
# Our notes are loud, and as they are equal steps do better: the mu-law spends its symbols on silence, and gives some away by cutting off (exercise 2). Its strength is that its SNR depends far less on the level. Turned down, as most of a recording is beside its peak, the equal steps lose a decibel for each decibel.
# Hear a soft note, 20 dB softer still and then played louder again, first with equal steps, then with the mu-law:

# %%
soft = softer[20][find(test, "piano", 60)]
listen(10 * linear(soft), rate, "a soft note in 256 equal steps, ten times louder")

# %%
listen(10 * mu_law_decode(mu_law_encode(soft)), rate, "the same with the mu-law")
mu_law_gain = both[20][1] - both[20][0]                              # (note,)

# %% [markdown]
# ## 15.3 Predicting a symbol
#
# Any distribution over sequences of symbols $s_1, \dots, s_T$ is a product of predictions, and the model's **loss** is the mean surprise of these predictions, here in bits:
#
# $$ p(s_1, \dots, s_T \mid z) = \prod_{t=1}^{T} p(s_t \mid s_1, \dots, s_{t-1}, z), \qquad
#    \text{bits} = -\frac{1}{T} \sum_{t=1}^{T} \log_2 p(s_t \mid s_1, \dots, s_{t-1}, z). \tag{15.3} $$
#
# There is no distance between waveforms in it: a prediction is right or wrong by its probability alone, as in a language model. Who knows nothing says $1/256$ and pays 8 bits. What do simple rules pay? One that knows how often each symbol occurs, and one that also knows the symbol before:

# %%
train_codes = mu_law_encode(experiment.notes("train").x)             # (note, time)
test_codes = mu_law_encode(test.x)
once = torch.bincount(train_codes.flatten(), minlength=256) + 1.0    # (256,)
pairs = train_codes[:, :-1] * 256 + train_codes[:, 1:]
twice = torch.bincount(pairs.flatten(), minlength=256 ** 2).view(256, 256) + 0.01
p_once = once / once.sum()
p_twice = twice / twice.sum(1, keepdim=True)                         # (before, now)
scored = test_codes[test.velocity == 85]                             # (note, time)
counted = {"nothing known": 8.0,
           "how often symbols occur": float(-p_once[scored].log2().mean()),
           "and the symbol before": float(-p_twice[scored[:, :-1], scored[:, 1:]].log2().mean())}
show_table([[name, bits] for name, bits in counted.items()], ["rule", "bits a sample"], digits=2,
           caption=f"{len(scored)} test notes of one velocity, counted on {len(train_codes)} train "
                   "notes.")
assert counted["and the symbol before"] < counted["how often symbols occur"] < 8

# %% [markdown]
# These are the bounds that a network has to get below. A table for the two symbols before would need $256^3$ counts; for a thousand of them, which is a sixteenth of a second, no table will do.
#
# ## 15.4 Causal convolution
#
# What may a prediction of sample $t$ see? The past only. A convolution whose $k$ taps all lie in the past and the present, $d$ samples apart, is **causal**:
#
# $$ y[t] = b + \sum_{j=0}^{k-1} W[j]\; x[t - (k - 1 - j)\, d], \qquad x[t] = 0 \text{ for } t < 0. \tag{15.4} $$
#
# The last tap is the present, the first lies farthest back. Two taps, $d = 2$, both weights 1:

# %%
x_tiny = [1.0, 2, 3, 4, 5, 6]
by_loop = [x_tiny[t] + (x_tiny[t - 2] if t >= 2 else 0) for t in range(6)]
print(by_loop)

# %% [markdown]
# In PyTorch it is an ordinary convolution after zeros have been put in front. (The official code pads on both sides and cuts off the end, which is the same.)

# %%
#| export
class CausalConv1d(nn.Conv1d):
    """A convolution that sees the present and the past (eq. 15.4): (batch, in_channels, time) to
    (batch, out_channels, time), zeros before the beginning. Section 15.4."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 2,
                 dilation: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)

    @property
    def past(self) -> int:
        """How many samples back the first tap lies."""
        return (self.kernel_size[0] - 1) * self.dilation[0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.past, 0)))

# %% [markdown]
# The check of a causal layer: change a sample, and nothing before it may move.

# %%
conv = CausalConv1d(1, 1, kernel_size=2, dilation=2)
nn.init.ones_(conv.weight), nn.init.zeros_(conv.bias)
x = torch.tensor(x_tiny)[None, None]                                # (batch, channel, time)
assert conv(x)[0, 0].tolist() == by_loop
changed = x.clone()
changed[..., 3] += 1
moved = (conv(changed) != conv(x))[0, 0].nonzero().flatten().tolist()
print("sample 3 changes outputs", moved)
assert moved == [3, 5]

# %% [markdown]
# ## 15.5 How far a stack hears
#
# A layer with dilation $d$ widens the view by $(k-1)\, d$. With dilations $1, 2, 4, \dots, 2^{L-1}$, repeated in $B$ blocks, after a first convolution with dilation 1, a prediction sees
#
# $$ R = 1 + (k - 1) \left( 1 + B\, (2^L - 1) \right) \tag{15.5} $$
#
# samples. That grows like $2^L$, while the work grows like $L$: without dilation, a thousand samples would take a thousand layers. Why then several blocks? Within one, every pair of samples meets in just one way; the next block combines what the first has found.

# %%
#| export
def receptive_field(blocks: int, layers: int, kernel_size: int = 2) -> int:
    """Samples of the past that a WaveNet's prediction rests on (eq. 15.5; section 15.5)."""
    return 1 + (kernel_size - 1) * (1 + blocks * (2 ** layers - 1))

# %% [markdown]
# Ours, the one of the music translation as its code has it by default, and as it was published with 14 layers a block; and NSynth's, with 3 taps:

# %%
sizes = {"ours": (2, 9, 2), "music translation, default": (4, 10, 2),
         "music translation, published": (4, 14, 2), "NSynth": (3, 10, 3)}
show_table([[name, *size, receptive_field(*size), 1000 * receptive_field(*size) / 16_000]
            for name, size in sizes.items()],
           ["decoder", "blocks", "layers", "taps", "samples", "ms at 16 kHz"], digits=0,
           caption="What a prediction sees, by (15.5).")
assert receptive_field(4, 10) == 4094 and receptive_field(4, 14) == 65_534

# %% [markdown]
# A period of C3 at 131 Hz lasts 7.6 ms, so that ours sees eight of them. It does not see how the note began half a second ago: *that* has to come by the code.
#
# A picture of two blocks with three layers, and which inputs the last output rests on:

# %%
figure, axis = plt.subplots(figsize=(7.2, 2.6))
depths, now, reached = [1, 1, 2, 4, 1, 2, 4], 16, {16}
for height, d in zip(range(7, 0, -1), reversed(depths)):
    axis.plot(range(17), [height] * 17, ".", color="0.8")
    for t in reached:
        for back in (t, t - d):
            axis.plot([t, back], [height, height - 1], color="tab:blue", linewidth=0.8)
    reached = reached | {t - d for t in reached}
axis.plot(range(17), [0] * 17, ".", color="0.8")
axis.plot(sorted(reached), [0] * len(reached), "o", color="tab:blue", markersize=4)
axis.set(yticks=range(8), xlabel="sample",
         yticklabels=["input", "first", *(f"d = {d}" for d in depths[1:])])
show(figure, "Two blocks, dilations 1, 2, 4, after a first layer: the last output sees 16 inputs.",
     "A tree of lines from one point at the top right down to sixteen neighbouring inputs.")
assert len(reached) == receptive_field(2, 3) == 16

# %% [markdown]
# ## 15.6 The gated layer
#
# Inside a layer the dilated convolution makes twice as many channels as it got. One half, through a sigmoid, is a **gate** between 0 and 1 for the other, through a tanh. With the code $z$, which both halves are told through a 1x1 convolution,
#
# $$ h = \sigma\big(W_g * x + V_g z\big) \odot \tanh\big(W_f * x + V_f z\big). \tag{15.6} $$
#
# Two more 1x1 convolutions look at $h$. One is added to the layer's own input, the **residual**, and goes to the next layer; the other, the **skip**, goes straight to the end:
#
# $$ x \leftarrow x + W_r h, \qquad \text{skips} \leftarrow \text{skips} + W_s h. \tag{15.7} $$
#
# The shapes of ours, for $T$ samples and $T/512$ frames of the code:

# %%
d = Diagram()
x_in = d.block("x", "32 x T", kind="data")
conv_ = d.block("causal,\ndilation d", "64 x T", after=x_in, kind="trained")
told = d.block("1x1,\nrepeat", "64 x T", kind="trained", at=(conv_.x, 1.5))
code = d.block("z", "16 x T/512", after=told, place="left", kind="data", arrow=False)
d.arrow(code, told)
plus = d.join("+", after=conv_)
d.arrow(told, plus, route="corner")
gate_ = d.block("sigmoid", "32 x T", after=plus, shift=0.55)
content_ = d.block("tanh", "32 x T", after=plus, shift=-0.55)
times = d.join("×", after=[gate_, content_])
res = d.block("1x1", "32 x T", after=times, kind="trained", shift=-0.55)
skip_ = d.block("1x1", "64 x T", after=times, kind="trained", shift=0.55)
total = d.join("+", after=res)
d.arrow(x_in, total, route="under", reach=1.0)
d.block("next x", "32 x T", after=total, kind="data")
d.block("skips", "64 x T", after=skip_, kind="data")
show(d.draw(), "A gated residual layer with 32 channels.", d.in_words())

# %% [markdown]
# Written plainly, for one layer of weights:

# %%
def plain_layer(x, z, layer):
    """(15.6) and (15.7) without the sum: what goes to x, and what goes to the skips."""
    told = layer.condition(z).repeat_interleave(x.shape[-1] // z.shape[-1], dim=-1)
    a = layer.causal(x) + told                                      # (batch, 2 channel, time)
    half = a.shape[1] // 2
    h = torch.sigmoid(a[:, :half]) * torch.tanh(a[:, half:])        # the gate comes first
    return layer.residual(h), layer.skip(h)

# %% [markdown]
# The class has the official names of tensors. *Which half is the gate* is a fact that only the official code tells: with the halves swapped, its weights load without complaint and give noise.

# %%
#| export
class WaveNetLayer(nn.Module):
    """A gated residual layer (eq. 15.6, 15.7).

    forward: x (batch, residual_channels, time) and, unless None, z (batch, cond_channels, frame),
    time a multiple of frame, to what is added to x (the same shape) and to the skips (batch,
    skip_channels, time). The first half of `causal` is the gate. Source: van den Oord et al. 2016,
    section 2.3 and eq. 2; names as in facebookresearch/music-translation; section 15.6.
    """

    def __init__(self, residual_channels: int, skip_channels: int, cond_channels: int,
                 kernel_size: int = 2, dilation: int = 1):
        super().__init__()
        self.causal = CausalConv1d(residual_channels, 2 * residual_channels, kernel_size, dilation)
        self.condition = nn.Conv1d(cond_channels, 2 * residual_channels, 1)
        self.residual = nn.Conv1d(residual_channels, residual_channels, 1)
        self.skip = nn.Conv1d(residual_channels, skip_channels, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a = self.causal(x)                                         # (batch, 2 channel, time)
        if z is not None:
            a = a + repeat_frames(self.condition(z), x.shape[-1])
        gate, content = a.chunk(2, dim=1)
        h = torch.sigmoid(gate) * torch.tanh(content)              # (batch, channel, time)
        return self.residual(h), self.skip(h)


def repeat_frames(z: Tensor, time: int) -> Tensor:
    """(batch, channel, frame) to (batch, channel, time), every frame time / frame times."""
    if z.shape[-1] == 0 or time % z.shape[-1]:
        raise ValueError(f"z has {z.shape[-1]} frames for {time} samples; expected a number of "
                         "frames that divides that of the samples")
    return z.repeat_interleave(time // z.shape[-1], dim=-1)

# %% [markdown]
# A frame of the code is held for its 512 samples. The 1x1 convolution comes *before* the repeating, which gives the same as after it, 512 times cheaper. Loop and class agree:

# %%
torch.manual_seed(0)
layer = WaveNetLayer(6, 5, 4, dilation=2)
x, z_tiny = torch.randn(2, 6, 24), torch.randn(2, 4, 3)
for ours, plain in zip(layer(x, z_tiny), plain_layer(x, z_tiny, layer)):
    assert torch.allclose(ours, plain, atol=1e-6)
late = layer.condition(repeat_frames(z_tiny, 24))
assert torch.allclose(late, repeat_frames(layer.condition(z_tiny), 24), atol=1e-6)

# %% [markdown]
# <details><summary>Quick question: without the gate, what would tanh alone lack?</summary>
#
# A way to say "nothing here": tanh is 0 only where its input is exactly 0, while a shut gate makes 0 of whatever comes. And the product of two functions of $x$ is more than their sum: one half can decide *when* what the other found counts.
# </details>
#
# ## 15.7 The decoder
#
# The symbols come in as one number, $s / 255 - 0.5$, not as a one-hot vector. They are shifted by a sample to the right, so that the prediction of $s_t$ sees $s_{t-1}$ and not $s_t$. Then the layers, and from the sum of all skips (one of them comes from the first convolution, before any layer)
#
# $$ \text{logits} = W_2\, \mathrm{relu}\big( W_1\, \mathrm{relu}(\text{skips}) + V z \big), \qquad p(s_t = s \mid \dots) = \frac{e^{\text{logits}_s}}{\sum_r e^{\text{logits}_r}}. \tag{15.8} $$

# %%
d = Diagram()
symbols_ = d.block("symbols", "T", kind="data")
shifted = d.block("scale,\nshift by 1", "1 x T", after=symbols_)
first_ = d.block("causal", "32 x T", after=shifted, kind="trained")
stack = d.block("gated layers,\nd = 1 ... 256,\ntwice", "skips 64 x T", after=first_,
                kind="trained", repeat=18)
fc_ = d.block("relu, 1x1", "64 x T", after=stack, kind="trained", gap=0.5)
plus = d.join("+", after=fc_)
out = d.block("relu, 1x1", "256 x T", after=plus, kind="trained")
code = d.block("z", "16 x T/512", kind="data", at=(stack.x, 1.7))
told = d.block("1x1, repeat", "64 x T", kind="trained", at=(plus.x, 1.7))
d.arrow(code, stack), d.arrow(code, told), d.arrow(told, plus)
show(d.draw(), "The decoder: a WaveNet that is told a code.", d.in_words())

# %% [markdown]
# Plainly:

# %%
def plain_wavenet(codes, z, net):
    """(15.4) to (15.8): codes (batch, time) and z to logits (batch, 256, time)."""
    x = (codes.float() / 255 - 0.5)[:, None]                        # (batch, 1, time)
    x = torch.cat([torch.zeros_like(x[..., :1]), x[..., :-1]], -1)  # shifted
    x = net.first_conv(x)
    skips = net.skip_conv(x)
    for layer in net.layers:
        added, skip = plain_layer(x, z, layer)
        x, skips = x + added, skips + skip
    told = net.condition(z).repeat_interleave(x.shape[-1] // z.shape[-1], dim=-1)
    return net.logits((net.fc(skips.relu()) + told).relu())

# %% [markdown]
# Three details hide in it, and all three cost those who load official weights an evening. The zero that is shifted in stands for symbol 127.5, which doesn't exist: training begins every piece with it, while the official generator begins with symbol 128. `first_conv` is causal *as well*,
# and pads another zero. And the last layer's residual goes nowhere; its weights are there, and never get a gradient.

# %%
#| export
class WaveNet(nn.Module):
    """The decoder: what the next sample may be, given those before it and a code z (section 15.7).

    latent_d: channels of z. blocks times layers gated layers, dilations 1, 2, ... 2^(layers - 1) in
    every block. kernel_size: taps. forward: codes (batch, time), 0 to 255, and z (batch, latent_d,
    frame), time a multiple of frame, or None, to logits (batch, 256, time); those of time t have
    seen the codes before t alone. ValueError for other shapes and numbers. Source: van den Oord et
    al. 2016; arguments and tensors as in facebookresearch/music-translation, with its defaults.
    """

    def __init__(self, latent_d: int = 128, blocks: int = 4, layers: int = 10,
                 kernel_size: int = 2, residual_channels: int = 128, skip_channels: int = 128):
        super().__init__()
        self.sizes = dict(latent_d=latent_d, blocks=blocks, layers=layers, kernel_size=kernel_size,
                          residual_channels=residual_channels, skip_channels=skip_channels)
        check_sizes(**self.sizes)
        self.layers = nn.ModuleList(
            WaveNetLayer(residual_channels, skip_channels, latent_d, kernel_size, 2 ** i)
            for _ in range(blocks) for i in range(layers))
        self.first_conv = CausalConv1d(1, residual_channels, kernel_size)
        self.skip_conv = nn.Conv1d(residual_channels, skip_channels, 1)
        self.condition = nn.Conv1d(latent_d, skip_channels, 1)
        self.fc = nn.Conv1d(skip_channels, skip_channels, 1)
        self.logits = nn.Conv1d(skip_channels, SYMBOLS, 1)

    @property
    def receptive_field(self) -> int:
        """Samples of the past that a prediction rests on."""
        return receptive_field(*(self.sizes[name] for name in ("blocks", "layers", "kernel_size")))

    def forward(self, codes: Tensor, z: Tensor | None = None) -> Tensor:
        check_sequence(codes)
        check_latents(z, len(codes), self.sizes["latent_d"])
        x = scaled(codes, self.logits.weight.dtype)                # (batch, 1, time)
        x = self.first_conv(F.pad(x, (1, 0))[..., :-1])            # the last sample isn't seen
        skips = self.skip_conv(x)
        for layer in self.layers:
            added, skip = layer(x, z)
            x, skips = x + added, skips + skip
        y = self.fc(skips.relu())
        if z is not None:
            y = y + repeat_frames(self.condition(z), y.shape[-1])
        return self.logits(y.relu())

# %% [markdown]
# What it calls: the scaling, and checks of what is given.

# %%
#| export
def scaled(codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Codes (batch, time) as the networks take them in: (batch, 1, time), from -0.5 to 0.5."""
    return codes[:, None].to(dtype) / 255 - 0.5


def check_sizes(**sizes: int) -> None:
    """ValueError unless all are whole numbers from 1 on."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} is {size!r}; expected a whole number from 1 on")


def check_sequence(codes: Tensor, least: int = 1) -> None:
    """ValueError unless codes are whole numbers (batch, time), 0 to 255, `least` samples long."""
    check_codes(codes)
    if codes.ndim != 2 or codes.shape[-1] < least:
        raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (batch, time) with "
                         f"{least} samples or more")


def check_latents(z: Tensor | None, batch: int, latent_d: int) -> None:
    """ValueError unless z is None or float (batch, latent_d, frame) with a frame at least."""
    if z is not None and (z.ndim != 3 or z.shape[:2] != (batch, latent_d) or not z.shape[-1]
                          or not z.is_floating_point()):
        raise ValueError(f"z is {z.dtype} of shape {tuple(z.shape)}; expected floats ({batch}, "
                         f"{latent_d}, frame)")

# %% [markdown]
# Plain form and class agree, and the published size has the published number of weights. The tests compare it, tensor names, logits and gradients, with a second implementation in NumPy.

# %%
torch.manual_seed(0)
small = WaveNet(latent_d=4, blocks=2, layers=3, residual_channels=6, skip_channels=5)
codes, z_tiny = torch.randint(0, 256, (2, 48)), torch.randn(2, 4, 3)
assert torch.allclose(small(codes, z_tiny), plain_wavenet(codes, z_tiny, small), atol=1e-5)
counted_weights = sum(p.numel() for p in WaveNet().parameters())
print(f"{counted_weights:,} weights by default, "
      f"{sum(p.numel() for p in trained.decoder.parameters()):,} in ours")
assert counted_weights == 5_356_544

# %% [markdown]
# The check that matters most, since a leak of the future makes training look wonderful and generation fail: change symbol 30, and look which predictions move. None up to 30 may, and those after it do, as far as (15.5) says:

# %%
changed = codes.clone()
changed[:, 30] = 255 - changed[:, 30]
with torch.no_grad():
    moved = (small(changed, z_tiny) - small(codes, z_tiny)).abs().amax((0, 1)).nonzero().flatten()
print(f"predictions {int(moved.min())} to {int(moved.max())} move")
assert (int(moved.min()), int(moved.max())) == (31, 30 + small.receptive_field)

# %% [markdown]
# ## 15.8 The encoder
#
# The decoder must not look ahead, because when it generates there is nothing ahead. The encoder has the whole note in front of it: **it need not be causal**, and should not be. Whether a note is a plucked string or a bowed one shows *after* its onset; an encoder that looked back only would know it too late for the frame in which it is needed.
#
# Its block has three taps, one back, one now, one ahead, and two steps with a residual sum. NSynth puts a ReLU first, the music translation doesn't:
#
# $$ x \leftarrow x + W_2\, \mathrm{relu}\big( W_1 *_d \mathrm{relu}(x) \big). \tag{15.9} $$
#
# NSynth has 30 of them, dilations $1, \dots, 512$ three times, then a 1x1 convolution down to 16 channels and the **mean over 512 samples**. For four seconds:

# %%
d = Diagram()
symbols_ = d.block("symbols", "64000", kind="data")
start_ = d.block("scale,\n3 taps", "128 x 64000", after=symbols_, kind="trained")
blocks_ = d.block("residual blocks,\nd = 1 ... 512,\nthree times", "128 x 64000", after=start_,
                  kind="trained", repeat=30)
narrow = d.block("1x1", "16 x 64000", after=blocks_, kind="trained", gap=0.5)
pool_ = d.block("mean of 512", "16 x 125", after=narrow)
d.block("z", "16 x 125", after=pool_, kind="data")
show(d.draw(), "NSynth's encoder for four seconds at 16 kHz.", d.in_words())

# %% [markdown]
# All 64,000 steps are computed in full, and only the mean at the end makes the code slow. That costs more than strides would, and the mean is a low-pass filter that no stride has. The class does both orders, so that chapter 16 can use it:

# %%
#| export
class DilatedResConv(nn.Module):
    """x + W2 relu(W1 x), W1 three dilated taps around the present (eq. 15.9): (batch, channels,
    time) to the same. relu_first: W1 relu(x), as NSynth has it; section 15.8."""

    def __init__(self, channels: int, dilation: int = 1, relu_first: bool = False):
        super().__init__()
        self.relu_first = relu_first
        self.dilated_conv = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv_1x1 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.relu() if self.relu_first else x
        return x + self.conv_1x1(self.dilated_conv(h).relu())

# %% [markdown]
# In one line, against the formula for one channel with all weights 1:

# %%
block = DilatedResConv(1, dilation=2, relu_first=True)
for p in block.parameters():
    nn.init.constant_(p, float(p.ndim > 1))                         # weights 1, biases 0
x_tiny = torch.tensor([1.0, -1, 2, 0, 3, 1])
positive = F.pad(x_tiny.relu(), (2, 2))
by_loop = [float(x_tiny[t] + positive[t] + positive[t + 2] + positive[t + 4]) for t in range(6)]
print(by_loop)
assert block(x_tiny[None, None])[0, 0].tolist() == by_loop

# %% [markdown]
# The encoder, with the official names:

# %%
#| export
class TemporalEncoder(nn.Module):
    """Codes of a sound to a few channels, many times slower (section 15.8).

    encoder_blocks times encoder_layers blocks of `DilatedResConv`, dilations 1, 2, ... in each; to
    latent_d channels; mean over every encoder_pool samples. relu_first: NSynth's order, or the
    music translation's without. forward: codes (batch, time), 0 to 255, to (batch, latent_d, time
    // encoder_pool). ValueError for other input, and for less than one pool. Source: Engel et al.
    2017, section 2.1; names as in facebookresearch/music-translation, with NSynth's sizes.
    """

    def __init__(self, latent_d: int = 16, encoder_channels: int = 128, encoder_blocks: int = 3,
                 encoder_layers: int = 10, encoder_pool: int = 512, relu_first: bool = True):
        super().__init__()
        check_sizes(latent_d=latent_d, encoder_channels=encoder_channels, encoder_pool=encoder_pool,
                    encoder_blocks=encoder_blocks, encoder_layers=encoder_layers)
        self.start = nn.Conv1d(1, encoder_channels, 3, padding=1)
        self.dilated_convs = nn.Sequential(*(
            DilatedResConv(encoder_channels, 2 ** i, relu_first)
            for _ in range(encoder_blocks) for i in range(encoder_layers)))
        self.conv_1x1 = nn.Conv1d(encoder_channels, latent_d, 1)
        self.pool = nn.AvgPool1d(encoder_pool)

    @property
    def hop_length(self) -> int:
        """Samples of a frame of the code."""
        return self.pool.kernel_size[0]

    def forward(self, codes: Tensor) -> Tensor:
        check_sequence(codes, self.hop_length)
        x = self.dilated_convs(self.start(scaled(codes, self.conv_1x1.weight.dtype)))
        return self.pool(self.conv_1x1(x))                         # (batch, latent_d, frame)

# %% [markdown]
# The shape of the paper, with a thin encoder of 30 blocks; and that it looks ahead: a changed symbol moves a frame that was over before it.

# %%
with torch.no_grad():
    thin = TemporalEncoder(encoder_channels=2)
    shape = tuple(thin(torch.randint(0, 256, (1, 64_000))).shape)
    before, after = test_codes[:1], test_codes[:1].clone()
    after[:, 5 * hop + 20] = 255 - after[:, 5 * hop + 20]
    moved = (trained.encoder(after) - trained.encoder(before))[0].abs().amax(0) > 0
print(f"{len(thin.dilated_convs)} blocks, 4 s to {shape[1:]}; a change in frame 5 moves frames",
      moved.nonzero().flatten().tolist())
assert shape == (1, 16, 125) and bool(moved[4])

# %% [markdown]
# <details><summary>Quick question: could the encoder simply write the waveform into the code, so that the decoder has nothing to learn?</summary>
#
# Not this one: a frame has 16 numbers for 512 samples. They are not quantised, so in theory a number could hide many digits, but the mean over 512 samples and a decoder that hears them through noise-like gates make that hard to learn. With a hop of 8 it would happen.
# </details>
#
# ## 15.9 Training
#
# Both halves together: the decoder is told by the encoder what the piece is, and predicts each sample from the *true* samples before it. All samples of a piece are predicted at once, in one pass; that is what makes WaveNet trainable, and it is called *teacher forcing*.

# %%
#| export
class WaveNetAutoencoder(nn.Module):
    """A `TemporalEncoder` and a `WaveNet` that is told its code (section 15.9).

    latent_d, hop_length: of the code. encoder, decoder: the other arguments of the two. forward:
    codes (batch, time), time a multiple of hop_length, to logits (batch, 256, time). Source: Engel
    et al. 2017, section 2.1.
    """

    def __init__(self, latent_d: int = 16, hop_length: int = 512, encoder: dict | None = None,
                 decoder: dict | None = None):
        super().__init__()
        self.encoder = TemporalEncoder(latent_d, encoder_pool=hop_length, **(encoder or {}))
        self.decoder = WaveNet(latent_d, **(decoder or {}))
        self.hop_length = hop_length

    def forward(self, codes: Tensor) -> Tensor:
        return self.decoder(codes, self.encoder(codes))

    def encode(self, x: Tensor) -> Tensor:
        """Audio (batch, time) in [-1, 1] to its code (batch, latent_d, time // hop_length)."""
        return self.encoder(mu_law_encode(x))

    def decode(self, z: Tensor, generator: torch.Generator | None = None,
               temperature: float = 1.0) -> Tensor:
        """A sound drawn for a code: (batch, latent_d, frame) to audio (batch, frame * hop_length),
        see `generate`. generator: of the random numbers, on the CPU."""
        uniforms = torch.rand(len(z), z.shape[-1] * self.hop_length, generator=generator,
                              dtype=torch.float64)
        return mu_law_decode(generate(self.decoder, z, uniforms, self.hop_length, temperature))

# %% [markdown]
# The step is (15.3), and the score the same on notes that aren't trained on:

# %%
#| export
class WaveNetStep:
    """A training step: the cross entropy in bits a sample (eq. 15.3). Called with (model, codes),
    model(codes) giving logits, codes (batch, time). Gives a dict with loss. Section 15.9."""

    def __call__(self, model: nn.Module, codes: Tensor) -> dict[str, Tensor]:
        return {"loss": self.bits(model(codes), codes)}

    @staticmethod
    def bits(logits: Tensor, codes: Tensor) -> Tensor:
        """Mean bits a sample of codes (batch, time) under logits (batch, 256, time)."""
        return F.cross_entropy(logits, codes) / math.log(2)


@torch.no_grad()
def bits_per_sample(model: nn.Module, data: Sequence[Tensor]) -> dict[str, float]:
    """Mean bits a sample over equally large batches of codes (batch, time); section 15.9."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    bits = [float(WaveNetStep()(model, codes.to(device))["loss"]) for codes in data]
    model.train(training)
    return {"bits": sum(bits) / len(bits)}

# %% [markdown]
# A few steps live, with an autoencoder much smaller than the trained one. The pieces are `NotePieces` of the course: here 1024 samples, for the trained one 4096, from anywhere in a note, at a random level.

# %%
torch.manual_seed(0)
tiny = WaveNetAutoencoder(8, 512, dict(encoder_channels=8, encoder_blocks=1, encoder_layers=6),
                          dict(blocks=1, layers=7, residual_channels=12, skip_channels=24))
optimizer = torch.optim.Adam(tiny.parameters(), 1e-2)
pieces, losses = experiment.training_notes(0, 4 * P.steps, samples=1024), []
for step in range(P.steps):
    batch = torch.stack([pieces[4 * step + n] for n in range(4)])    # (batch, time)
    loss = WaveNetStep()(tiny, batch)["loss"]
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(tiny.parameters(), 1.0)
    optimizer.step()
    losses.append(loss.item())
ended = sum(losses[-10:]) / 10
print(f"from 8 bits to less than 6.5 in {P.steps} steps: {ended < 6.5}")
assert ended < 6.5

# %% [markdown]
# The trained one had more. Its curve, and beside it the rules of 15.3:

# %%
log = measured_table("15_wavenet_autoencoder/wavenet_band_log")
axis = plot_losses({"training": (log.step, log.loss)}, smoothing=50, log_loss=False,
                   unit="bits a sample")
validation = measured_table("15_wavenet_autoencoder/wavenet_band_validation")
axis.plot(validation.step, validation.bits, "k.-", linewidth=0.8, label="validation notes")
for (name, bits), style in zip(list(counted.items())[1:], ("--", ":")):
    axis.axhline(bits, color="0.4", linestyle=style, label=name)
axis.legend()
show(axis, "Bits a sample while the autoencoder was trained, and what counting reaches.",
     "A noisy curve that falls from 8 bits, steeply, then slowly, past a dashed and a dotted line; "
     "dots follow it, stop falling two thirds of the way, and rise a little.")
best = validation.loc[validation.bits.idxmin()]
print(f"best on validation notes: step {best.step:.0f} of {log.step.max()}, {best.bits:.1f} bits")
assert best.step < log.step.max()

# %% [markdown]
# The rate falls to nearly nothing, jumps up once and falls again (`restarts` in its configuration): that is the step in the curve. And from some step on the notes that it learns from still get cheaper while others don't: it begins to know its few notes by heart. What comes with the course are the weights of the best step.
#
# On test notes, and what the code is worth: the same decoder, told the code of *another* note, of another pitch and instrument, pays more.

# %%
runs = measured_table("15_wavenet_autoencoder/runs").set_index(["method", "seed"])
by_note = measured_table("15_wavenet_autoencoder/notes")
column = lambda method, name: by_note[(by_note.method == method) & (by_note.seed == 0)][
    name].to_numpy(float)                                            # (note,)
own, others = (column(method, "bits") for method in (experiment.GENERATED, experiment.OTHER))
rows = [[name, bits] for name, bits in counted.items()]
rows += [["the network, its own code", mean_interval(own)],
         ["the network, another note's code", mean_interval(others)]]
show_table(rows, ["who predicts", "bits a sample"], digits=2,
           caption=f"{len(own)} test notes; one trained network; 95% intervals over notes.")
assert own.mean() < counted["and the symbol before"] and own.mean() < others.mean()

# %% [markdown]
# <details><summary>Quick question: the loss falls far when the decoder has learned only that the next sample is near the last one. Why is low loss no proof that it can play a note?</summary>
#
# In training the true past is always there, and from it alone one can guess the next sample well: most bits are about the waveform's fine detail. Which note it is costs a few bits *a second*, lost among sixteen thousand samples a second; only generating shows whether it was learned, since then the decoder's own mistakes become its past.
# </details>
#
# ## 15.10 Generating, the plain way
#
# To draw from the 256 probabilities we use one random number $u$ from $[0, 1)$ a sample: the first symbol at which the running sum exceeds it,
#
# $$ s_t = \min \Big\{ s : \sum_{r \le s} p_r > u_t \Big\}, \qquad p_r \propto e^{\text{logits}_r / \tau}. \tag{15.10} $$
#
# The temperature $\tau < 1$ makes likely symbols likelier. Since all randomness is in the $u_t$, two generators that agree must draw the same symbols: a strict test.

# %%
#| export
def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """One code for each row of logits (batch, 256), by a number (batch,) from [0, 1): the first
    code at which the running sum of the probabilities exceeds it (eq. 15.10). temperature divides
    the logits; 0: the likeliest code. Returns (batch,); section 15.10."""
    if temperature == 0:
        return logits.argmax(1)
    weights = ((logits - logits.amax(1, keepdim=True)) / temperature).exp()
    sums = weights.cumsum(1)
    return (sums <= uniform[:, None].to(sums) * sums[:, -1:]).sum(1).clamp_max(SYMBOLS - 1)


def check_generation(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                     temperature: float) -> None:
    """ValueError unless z and the random numbers (batch, time) fit each other and the model."""
    check_latents(z, len(z), model.sizes["latent_d"])
    longest = z.shape[-1] * hop_length
    if uniforms.ndim != 2 or len(uniforms) != len(z) or not 0 < uniforms.shape[1] <= longest:
        raise ValueError(f"uniforms have shape {tuple(uniforms.shape)}; expected ({len(z)}, time), "
                         f"1 to {longest} samples for {z.shape[-1]} frames of {hop_length}")
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}; expected 0 (the likeliest) or more")

# %% [markdown]
# Does it draw as often as it should? Three symbols with probabilities 0.2, 0.5, 0.3, ten evenly spread numbers:

# %%
logits = torch.full((10, 256), -torch.inf)
logits[:, :3] = torch.tensor([0.2, 0.5, 0.3]).log()
drawn = draw(logits, torch.arange(10) / 10 + 0.05)
print(drawn.tolist())
assert drawn.bincount().tolist() == [2, 5, 3]
assert draw(logits, torch.full((10,), 0.99), temperature=0.01).unique().tolist() == [1]

# %% [markdown]
# And the generator that follows from the definition: run the network over all it sees, keep the last prediction, draw, go on.

# %%
#| export
@torch.no_grad()
def generate_naive(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                   temperature: float = 1.0) -> Tensor:
    """As `generate`, the plain way: for each sample the network runs over all that it sees.
    Section 15.10."""
    check_generation(model, z, uniforms, hop_length, temperature)
    z = z.repeat_interleave(hop_length, dim=-1)                    # (batch, latent_d, time)
    codes = torch.zeros(len(z), uniforms.shape[1], dtype=torch.long)
    for t in range(codes.shape[1]):
        seen = slice(max(0, t - model.receptive_field), t + 1)     # code t is there, but not read
        logits = model(codes[:, seen], z[..., seen])[..., -1]
        codes[:, t] = draw(logits, uniforms[:, t], temperature)
    return codes

# %% [markdown]
# Before we believe it: what training predicts for a drawn sequence, all at once, must be what generating predicted step by step. So drawing from the predictions of *one* pass gives the sequence back.

# %%
small = small.double()                                              # rounding decides nothing
z_tiny = 2 * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
uniforms = torch.rand(2, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
naive = generate_naive(small, z_tiny, uniforms, hop_length=16)
with torch.no_grad():
    at_once = small(naive, z_tiny)                                  # (batch, 256, time)
assert all(torch.equal(draw(at_once[..., t], uniforms[:, t]), naive[:, t]) for t in range(48))
print(naive[0, :12].tolist())

# %% [markdown]
# ## 15.11 With queues
#
# The plain way computes nearly everything again for each sample: a pass of ours goes over 1024 samples times 18 layers to get *one* column. But what a layer needs at time $t$ is its input now, and its input $d$ samples ago, which was computed $d$ samples ago. Keep it. Each layer has a **queue** of its last $(k-1)\,d$ inputs: push the new one, pop the oldest. A sample then costs
#
# $$ \underbrace{B L\, R}_{\text{plain}} \;\to\; \underbrace{B L}_{\text{with queues}} \quad \text{layers} \tag{15.11} $$
#
# and nothing depends on the length of the past. For one channel, two taps of weight 1, $d = 2$, as in 15.4:

# %%
queue, by_queue = deque([0.0, 0.0], maxlen=2), []
for x in [1.0, 2, 3, 4, 5, 6]:
    by_queue.append(x + queue[0])                                   # the oldest, 2 samples back
    queue.append(x)
print(by_queue)
assert by_queue == [1.0, 2, 4, 6, 8, 10]

# %% [markdown]
# The queue begins with zeros: those that (15.4) puts before the beginning. In PyTorch:

# %%
#| export
class QueuedConv:
    """A `CausalConv1d` that is given one sample after the other, (batch, channel) to (batch,
    channel), and keeps what it will need again in a queue (eq. 15.11). Section 15.11."""

    def __init__(self, conv: CausalConv1d, batch: int):
        self.taps = conv.weight.unbind(-1)                         # oldest first, each (out, in)
        self.bias, self.dilation = conv.bias, conv.dilation[0]
        zeros = conv.weight.new_zeros(batch, conv.in_channels)
        self.queue = deque([zeros] * conv.past, maxlen=conv.past)

    def __call__(self, x: Tensor) -> Tensor:
        old = [self.queue[j * self.dilation] for j in range(len(self.taps) - 1)]
        self.queue.append(x)                                       # and the oldest drops out
        return self.bias + sum(y @ tap.T for y, tap in zip([*old, x], self.taps))

# %% [markdown]
# The network with queues, one sample a step. The same weights, the same sums:

# %%
#| export
class QueuedWaveNet:
    """A `WaveNet` that takes one sample at a time: step(x, z) with the scaled sample before, x
    (batch, 1), and z (batch, latent_d), gives logits (batch, 256). Section 15.11."""

    def __init__(self, model: WaveNet, batch: int):
        self.model = model
        self.first = QueuedConv(model.first_conv, batch)
        self.causal = [QueuedConv(layer.causal, batch) for layer in model.layers]

    def step(self, x: Tensor, z: Tensor) -> Tensor:
        once = lambda conv, x: x @ conv.weight[..., 0].T + conv.bias
        x = self.first(x)
        skips = once(self.model.skip_conv, x)
        for layer, causal in zip(self.model.layers, self.causal):
            gate, content = (causal(x) + once(layer.condition, z)).chunk(2, dim=1)
            h = torch.sigmoid(gate) * torch.tanh(content)
            x, skips = x + once(layer.residual, h), skips + once(layer.skip, h)
        y = once(self.model.fc, skips.relu()) + once(self.model.condition, z)
        return once(self.model.logits, y.relu())


@torch.no_grad()
def generate_queued(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                    temperature: float = 1.0) -> Tensor:
    """As `generate`, with a queue a layer, in plain PyTorch. Section 15.11."""
    check_generation(model, z, uniforms, hop_length, temperature)
    queued, x = QueuedWaveNet(model, len(z)), z.new_zeros(len(z), 1)
    codes = torch.zeros(uniforms.shape, dtype=torch.long)
    for t in range(codes.shape[1]):
        logits = queued.step(x, z[..., t // hop_length])
        codes[:, t] = draw(logits, uniforms[:, t], temperature)
        x = scaled(codes[:, t:t + 1], z.dtype)[:, 0]
    return codes

# %% [markdown]
# Sample by sample the same:

# %%
assert torch.equal(generate_queued(small, z_tiny, uniforms, hop_length=16), naive)

# %% [markdown]
# That does away with (15.11)'s $R$. But PyTorch takes some microseconds to *begin* an operation, and ours are tiny: 64 by 64 numbers. Nearly all the time goes into the two hundred beginnings a sample. So we write the step as loops, and let `numba` compile them, as in chapter 8b. First its two smallest parts: a matrix times a vector, and (15.10).

# %%
#| export
LOOSE = {"reassoc", "contract"}     # sums in any order, so that several products are made at once


@numba.njit(nogil=True, fastmath=LOOSE)
def _add_product(weight, x, y):
    """y += weight x."""
    for o in range(weight.shape[0]):
        total = y[o]
        for i in range(weight.shape[1]):
            total += weight[o, i] * x[i]
        y[o] = total


@numba.njit(nogil=True, fastmath=LOOSE)
def _draw(logits, uniform, temperature):
    """`draw` for one row, which it overwrites."""
    if temperature == 0:
        return np.argmax(logits)
    top, total = logits.max(), 0.0
    for s in range(len(logits)):
        logits[s] = math.exp((logits[s] - top) / temperature)
        total += logits[s]
    target, sums = uniform * total, 0.0
    for s in range(len(logits) - 1):
        sums += logits[s]
        if sums > target:
            return s
    return len(logits) - 1

# %% [markdown]
# A layer. Its queue is a ring: an array in which place $t \bmod (k-1)d$ holds the oldest input, and gets the newest once that has been read.

# %%
#| export
@numba.njit(nogil=True, fastmath=LOOSE)
def _layer(x, causal, queue, t, dilation, a, taps, residual, residual_bias, skip, skips):
    """One gated layer at time t: adds to x and skips. a comes with bias and condition in it."""
    width, past = len(x), len(queue)
    for j in range(past // dilation):                              # oldest first
        taps[j * width:(j + 1) * width] = queue[(t + j * dilation) % past]
    taps[past // dilation * width:] = x
    queue[t % past] = x                                            # where the oldest was
    _add_product(causal, taps, a)
    for c in range(width):
        a[c] = math.tanh(a[width + c]) / (1 + math.exp(-a[c]))
    h = a[:width]
    _add_product(skip, h, skips)
    x += residual_bias
    _add_product(residual, h, x)

# %% [markdown]
# And all of it for one sound. What the code adds to each layer changes only once a frame, so it is computed beforehand, biases included:

# %%
#| export
@numba.njit(nogil=True, fastmath=LOOSE)
def _run(first, first_bias, skip_conv, skip_bias, causal, residual, residual_bias, skip, dilations,
         fc, logits_weight, logits_bias, frames, last_frames, hop, uniforms, temperature, codes):
    """Draw all codes of one sound; frames (frame, layer, 2 channel), last_frames (frame, skip):
    bias and condition of every layer and of `fc`."""
    width, taps = first.shape[0], first.shape[1]
    queues = [np.zeros(((taps - 1) * d, width), first.dtype) for d in dilations]
    inputs, x = np.zeros(taps, first.dtype), np.empty(width, first.dtype)
    seen, y = np.empty(taps * width, first.dtype), np.empty(fc.shape[0], first.dtype)
    for t in range(len(uniforms)):
        x[:] = first_bias
        _add_product(first, inputs, x)
        skips = skip_bias.copy()
        _add_product(skip_conv, x, skips)
        for n in range(len(dilations)):
            _layer(x, causal[n], queues[n], t, dilations[n], frames[t // hop, n].copy(), seen,
                   residual[n], residual_bias[n], skip[n], skips)
        y[:] = last_frames[t // hop]
        _add_product(fc, np.maximum(skips, 0), y)
        logits = logits_bias.copy()
        _add_product(logits_weight, np.maximum(y, 0), logits)
        codes[t] = _draw(logits, uniforms[t], temperature)
        inputs[:-1] = inputs[1:]
        inputs[-1] = codes[t] / 255 - 0.5

# %% [markdown]
# What remains is packing. Kernels of one tap have no past and no queue; the compiled loop asks for two at least.

# %%
#| export
def _packed(model: WaveNet) -> tuple[np.ndarray, ...]:
    """The weights as the compiled loop takes them, those of all layers in one array."""
    array = lambda x: np.ascontiguousarray(x.detach().cpu().numpy())
    stack = lambda name, what: torch.stack([getattr(getattr(one, name), what)
                                            for one in model.layers])
    causal = stack("causal", "weight").mT.flatten(2)               # oldest tap first
    skip_bias = model.skip_conv.bias + stack("skip", "bias").sum(0)
    dilations = np.array([one.causal.dilation[0] for one in model.layers])
    return (array(model.first_conv.weight[:, 0]), array(model.first_conv.bias),
            array(model.skip_conv.weight[..., 0]), array(skip_bias), array(causal),
            array(stack("residual", "weight")[..., 0]), array(stack("residual", "bias")),
            array(stack("skip", "weight")[..., 0]), dilations, array(model.fc.weight[..., 0]),
            array(model.logits.weight[..., 0]), array(model.logits.bias))


def _conditions(model: WaveNet, z: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What z and biases add: (batch, frame, layer, 2 channel), (batch, frame, skip) at the end."""
    frames = torch.stack([layer.causal.bias[:, None] + layer.condition(z)
                          for layer in model.layers])             # (layer, batch, 2 channel, frame)
    last = (model.fc.bias[:, None] + model.condition(z)).mT        # (batch, frame, skip)
    return frames.permute(1, 3, 0, 2).contiguous().cpu().numpy(), last.contiguous().cpu().numpy()

# %% [markdown]
# Several sounds are several tasks, a thread each, as many at once as torch uses:

# %%
#| export
@torch.no_grad()
def generate(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
             temperature: float = 1.0) -> Tensor:
    """Draw sounds for codes z (batch, latent_d, frame), hop_length samples a frame.

    uniforms: (batch, time) float64 from [0, 1), one for each sample, time <= frame * hop_length:
    they decide what is drawn. temperature: divides the logits; 0 takes the likeliest. Returns codes
    (batch, time), 0 to 255. Compiled, on the CPU. The first sample is predicted from zeros, as in
    training (the official generator begins with code 128). ValueError for shapes that don't fit and
    for a kernel of one tap. Source: Paine et al. 2016; section 15.11.
    """
    check_generation(model, z, uniforms, hop_length, temperature)
    if model.sizes["kernel_size"] < 2:
        raise ValueError("kernel_size is 1; expected 2 or more: one tap has no past")
    z = z.to(model.logits.weight)
    weights, (frames, last) = _packed(model), _conditions(model, z)
    numbers = np.ascontiguousarray(uniforms.cpu().numpy(), np.float64)
    codes = np.zeros(numbers.shape, np.int64)
    task = lambda n: _run(*weights, frames[n], last[n], hop_length, numbers[n], float(temperature),
                          codes[n])
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(task, range(len(z))))
    return torch.from_numpy(codes)

# %% [markdown]
# Equal again, for the small network and for the trained one, in double precision, so that rounding can decide nothing:

# %%
assert torch.equal(generate(small, z_tiny, uniforms, hop_length=16), naive)
with torch.no_grad():
    exact = load_trained(experiment.WEIGHTS).double()
    z_one = exact.encoder(test_codes[chosen[:1]])
uniforms = torch.rand(1, 400, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
ways = {}
for way in (generate_naive, generate_queued, generate):
    ways[way.__name__] = way(exact.decoder, z_one, uniforms, hop)
same = sum(torch.equal(codes, ways["generate_naive"]) for codes in ways.values())
print(f"{same} of {len(ways)} ways draw the same 400 samples")
assert same == 3

# %% [markdown]
# And how fast? Live, in single precision, 300 samples after 1024 others would be the plain way's true cost; it takes long, so we time the pass over a full window, ten times:

# %%
@torch.no_grad()
def seconds_naive(passes=10):
    """Seconds a sample of the plain way, once its window is full."""
    codes = torch.full((1, trained.decoder.receptive_field + 1), 127)
    began = time.perf_counter()
    for _ in range(passes):
        trained.decoder(codes, z[:1, :, :1])
    return (time.perf_counter() - began) / passes

def seconds_compiled(samples=4096):
    """Seconds a sample of the compiled way."""
    uniforms = torch.rand(1, samples, dtype=torch.float64)
    began = time.perf_counter()
    generate(trained.decoder, z[:1], uniforms, hop)
    return (time.perf_counter() - began) / samples

seconds_compiled(64)                                                # compiles for this precision
faster = min(seconds_naive() / seconds_compiled() for _ in range(3))
print("compiled with queues at least 30 times faster than plain:", faster >= 30)
assert faster >= 30

# %% [markdown]
# Measured at rest, one thread, processor time:

# %%
speed = measured_table("15_wavenet_autoencoder/speed")
show_table([[row.method, row.samples, row.microseconds, row.times_faster, row.real_time]
            for row in speed.itertuples()],
           ["way", "samples timed", "us a sample", "times the plain way", "times real time"],
           digits={"us a sample": 1, "times the plain way": 0, "times real time": 2},
           caption=f"Our decoder at 16 kHz, one thread, median of {speed.turns[0]}; "
                   f"{speed.machine[0]}. The plain way with a full window.")

# %% [markdown]
# The last lines answer two questions: it plays faster than real time, and a sample costs as much at the end of a long sound as at the beginning.

# %%
compiled = speed[speed.method == "compiled"]
flat = float(compiled.microseconds.max() / compiled.microseconds.min())
print(f"real time or better: {bool((compiled.real_time >= 1).all())}; "
      f"dearest length over cheapest: {flat:.1f}")
assert (compiled.real_time >= 1).all() and flat < 1.3
assert compiled.times_faster.min() >= 30

# %% [markdown]
# <details><summary>Quick question: chapter 12's transformer keeps keys and values from step to step. Is its cost a step flat, too?</summary>
#
# No. A key and value are kept for every step of the past, and each new step looks at all of them: cost and memory grow with the past, up to the size of the window. A WaveNet's queues have a fixed length, because a convolution looks at fixed places only.
# </details>
#
# ## 15.12 What it sounds like
#
# For each instrument a test note and what the decoder draws for its code, one pair after the other. All six pitches are new to the network *from that instrument*.

# %%
places = [find(test, name, 85, 1) for name in names]
with torch.no_grad():
    z_six = trained.encode(test.x[places])                           # (instrument, 16, frame)
heard = trained.decode(z_six, torch.Generator().manual_seed(1))
pairs_of_notes = torch.stack([test.x[places], heard], 1)             # (instrument, 2, time)
listen(pairs_of_notes.flatten(), rate, "original, drawn; " + ", ".join(names))

# %% [markdown]
# With $\tau = 0.7$ the decoder takes fewer risks. Hiss is a risk, so there is less of it:

# %%
cool = trained.decode(z_six, torch.Generator().manual_seed(1), temperature=0.7)
listen(torch.stack([test.x[places], cool], 1).flatten(), rate, "the same at temperature 0.7")

# %% [markdown]
# A picture of one pair, the trumpet:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), sharey=True)
for axis, sound, title in zip(axes, (test.x[places[4]], heard[4], cool[4]),
                              ("original", "drawn", "drawn, temperature 0.7")):
    plot_spectrogram(sound, rate, title, n_fft=1024, hop_length=128, axis="linear", top=6000,
                     loudest=-20, colour_bar=False, ax=axis)
show(figure, "A trumpet's note and what was drawn for its code.",
     "Three spectrograms: the original has harmonics as horizontal lines; in the drawn ones "
     "the energy lies in the same band, most of it as noise.")

# %% [markdown]
# How good is that? The waveforms cannot be compared, their phases are invented. We measure the log-spectral distance of chapter 11, and ask a *judge*, as the paper does: linear classifiers, fitted on the original train notes, say which pitch they hear (from the mean spectrum) and which instrument (from its coarse shape, how much that changes, and the course of the level).

# %%
order = [experiment.ORIGINAL, experiment.MU_LAW, experiment.GENERATED, experiment.COOL,
         experiment.OTHER, experiment.SILENCE]
rows = [[method, *(mean_interval(column(method, name)) for name in
                   ("distance_db", "pitch_right", "instrument_right"))] for method in order]
show_table(rows, ["what is heard", "distance, dB", "pitch right", "instrument right"], digits=2,
           caption=f"{len(own)} test notes, first seed of what is drawn; one trained network; 95% "
                   "intervals over notes. Chance: pitch 0.04, instrument 0.17.")

# %% [markdown]
# Bounds above and below: the original itself, the same through 256 symbols; the drawing for another note's code, and silence. Mind the column of distances: *silence* is nearer to the originals than anything that was drawn. A likely reason: between the harmonics an original has next to nothing, and noise there is many decibels off while silence isn't. By the distance alone, then, silence would be the better player, which is why a judge is asked, too. How much does the luck of the draw matter? The means of two seeds:

# %%
drawn_methods = (experiment.GENERATED, experiment.COOL)
rows = [[method, *(runs.loc[(method, seed), name] for name in ("distance_db", "pitch_right")
                   for seed in (0, 1))] for method in drawn_methods]
show_table(rows, ["what is heard", "dB, seed 0", "dB, seed 1", "pitch, seed 0", "pitch, seed 1"],
           digits=2, caption="Means over the same notes for two seeds of the random numbers.")

# %% [markdown]
# A verdict by computation:

# %%
between_ends = {name: (column(experiment.OTHER, name).mean(), column(experiment.GENERATED,
                name).mean(), column(experiment.ORIGINAL, name).mean())
                for name in ("pitch_right", "instrument_right")}
for name, (low, ours, high) in between_ends.items():
    print(f"{name}: with another's code {low:.2f}, drawn {ours:.2f}, original {high:.2f}")
cooler = column(experiment.GENERATED, "distance_db") - column(experiment.COOL, "distance_db")
print("distance at temperature 1, less that at 0.7:",
      difference_in_words(cooler).replace("song", "note"))
assert all(low < high for low, _, high in between_ends.values())

# %% [markdown]
# And something real: a trumpet recording, two seconds of it. It is played in a room, with vibrato and several notes, and none of that was ever heard in training.

# %%
real = recording("trumpet", rate=rate, mono=True, start=0.5, seconds=64 * hop / rate)[0][0]
real = 0.8 * real / real.abs().max()
listen(real, rate, "a real trumpet")

# %%
with torch.no_grad():
    z_real = trained.encode(real[None])
drawn_real = trained.decode(z_real, torch.Generator().manual_seed(2), temperature=0.7)[0]
listen(drawn_real, rate, "what was drawn for its code")

# %% [markdown]
# Listen for what is left: the decoder knows nothing but the six instruments, and single notes of them. In chapter 16 that becomes a virtue: whatever comes in, it comes out on *its* instrument.
#
# ## 15.13 What the code knows
#
# Here are the codes of a note of each instrument, sixteen lines over time, and above them the waveforms.

# %%
figure, axes = plt.subplots(2, 6, figsize=(11.0, 4.0), sharex=True, sharey="row",
                            height_ratios=(1, 2))
seconds = torch.arange(z_six.shape[-1]) * hop / rate
for (top, bottom), place, code, name in zip(axes.T, places, z_six, names):
    top.plot(torch.arange(test.x.shape[1]) / rate, test.x[place], linewidth=0.3, color="0.3")
    top.set_title(name)
    for line, colour in zip(code, plt.cm.hsv(torch.arange(16) / 16)):
        bottom.plot(seconds, line, color=colour, linewidth=0.9)
    bottom.set_xlabel("seconds")
axes[0, 0].set_ylabel("sample")
axes[1, 0].set_ylabel("code")
show(figure, "Waveforms and codes of a test note of each instrument, sixteen channels in colours.",
     "Six columns: on top a waveform, beneath it sixteen coloured lines that jump at the onset, "
     "lie close together while the note sounds, and spread again at its end.")

# %% [markdown]
# The lines jump with the onset, drift while a plucked string dies, stay where a bowed one is held, and return to the same rest after it: above all they tell the level. Nobody asked for that, the code just had to be useful to the decoder. But what exactly is *in* it? A picture can't say. A **probe** can: the simplest classifier there is, fitted on the codes of train notes, tested on test notes. If even a linear one finds the pitch, it is there, plainly.

# %%
#| export
class LinearProbe:
    """Softmax regression, fitted when it is made: which class do features belong to?

    features: (item, feature), standardised by their own mean and spread; labels: (item,), 0, 1, ...
    ridge: weight of the squared weights in the loss. Called with other features it gives their
    likeliest classes (item,). Deterministic. ValueError for shapes that don't fit. Section 15.13.
    """

    def __init__(self, features: Tensor, labels: Tensor, ridge: float = 1e-3, steps: int = 100):
        if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
            raise ValueError(f"features have shape {tuple(features.shape)}, labels "
                             f"{tuple(labels.shape)}; expected (item, feature) and (item,)")
        self.mean, self.spread = features.mean(0), features.std(0).clamp_min(1e-4)
        x = self.standard(features)
        self.weight = torch.zeros(x.shape[1], int(labels.max()) + 1, requires_grad=True)
        optimizer = torch.optim.LBFGS([self.weight], max_iter=steps, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(x @ self.weight, labels) + ridge * self.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)

    def standard(self, features: Tensor) -> Tensor:
        """Features as the weights take them, and a 1: (item, feature + 1)."""
        x = (features.detach() - self.mean) / self.spread
        return torch.cat([x, torch.ones(len(x), 1)], dim=1)

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        return (self.standard(features) @ self.weight).argmax(1)

# %% [markdown]
# A check on what it can do and what it can't: two heaps that a line divides, and labels that are one kind of heap twice, on opposite corners, which no line divides.

# %%
points = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
by_line = (points[:, 0] + points[:, 1] > 0).long()
corners = (points[:, 0] * points[:, 1] > 0).long()
right = [float((LinearProbe(points, labels)(points) == labels).float().mean())
         for labels in (by_line, corners)]
print(f"a line: {right[0]:.2f} right, corners: {right[1]:.2f}")
assert right[0] > 0.97 and right[1] < 0.7

# %% [markdown]
# Which features? The whole code of a note, 512 numbers; its mean over time, 16 numbers; and to compare, the level of every frame, which knows how a note swells and dies and nothing else, and the mean spectrum, which is nearly all that a sound has; and *timbre*, the 32 numbers by which the judge tells instruments.

# %%
probes = measured_table("15_wavenet_autoencoder/probes")
def probed(features, target):
    """Whether a probe was right, (note,)."""
    fit = (probes.features == features) & (probes.target == target)
    return probes[fit].sort_values("note").right.to_numpy(float)

kinds = ("code", "mean of the code", "level of every frame", "mean spectrum", "timbre")
show_table([[kind, mean_interval(probed(kind, "pitch")), mean_interval(probed(kind, "instrument"))]
            for kind in kinds], ["linear probe on", "pitch right", "instrument right"], digits=2,
           caption="72 test notes; each is a pitch that the autoencoder and the probe have not had "
                   "from that instrument. Chance: 0.04 and 0.17. 95% intervals over notes.")

# %% [markdown]
# Read it against the two bounds. What stands above the level alone was *found* by the encoder; what stays below the spectrum was thrown away or is hidden where no linear probe reaches it. Computed:

# %%
found = {target: probed("code", target) - probed("level of every frame", target)
         for target in ("pitch", "instrument")}
for target, gap in found.items():
    print(f"{target}: code less level {difference_in_words(gap, 'right').replace('song', 'note')}")

# %% [markdown]
# Where the intervals of these differences hold zero or lie below it, the paper's finding is *not seen* here: a code that learned the course of the level first, as ours did, tells instruments as well as the level tells them, and pitches hardly at all. Pitch is what the decoder would have to be told to make harmonics, and 15.12 shows that it does not make them. Why doesn't the code say it? In training the decoder has a way round: the true past is in front of it, and whoever sees a few periods of a wave needs nobody to tell its pitch. So there is hardly any gradient that asks for it; the level of what comes next is harder to guess from the past, and that is what the code learned. More steps of the same don't mend it: 15.9's curve had its best long before its end. What the published system has more of are notes (three hundred thousand, from a thousand instruments), longer pieces of them in training, and a larger network.

# %% [markdown]
# ## 15.14 Between two notes
#
# A code can be mixed. Halfway between a cello and a trumpet,
#
# $$ z_w = (1 - w)\, z_0 + w\, z_1, \tag{15.12} $$
#
# the decoder gets sixteen numbers that no note ever had. Mixing the *sounds* in the same way gives two instruments playing at once. What does mixing the codes give?

# %%
#| export
def between(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """The code on the way from one to another of the same shape: weight 0 the first, 1 the second
    (eq. 15.12). ValueError for other weights and shapes. Section 15.14."""
    if first.shape != second.shape:
        raise ValueError(f"first has shape {tuple(first.shape)}, second {tuple(second.shape)}; "
                         "expected the same")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; expected 0 to 1")
    return (1 - weight) * first + weight * second

# %% [markdown]
# A cello and a trumpet on the same pitch; five weights, from one to the other, drawn:

# %%
everything = experiment.all_notes()
a, b = (int(((everything.instrument == names.index(name)) & (everything.pitch == 58)
             & (everything.velocity == 85)).nonzero()[0]) for name in ("cello", "trumpet"))
weights = (0.0, 0.25, 0.5, 0.75, 1.0)
with torch.no_grad():
    z_a, z_b = trained.encode(everything.x[[a, b]])
way = trained.decode(torch.stack([between(z_a, z_b, weight) for weight in weights]),
                     torch.Generator().manual_seed(3), temperature=0.7)
listen(way.flatten(), rate, "from a cello to a trumpet in five steps")

# %% [markdown]
# And the two originals, mixed in the same steps:

# %%
mixed = torch.stack([between(everything.x[a], everything.x[b], weight) for weight in weights])
listen(mixed.flatten(), rate, "the two sounds mixed in five steps")

# %% [markdown]
# Where does each step lie? Take mean spectra in dB, and the line from that of the first to that of the last; a sound's place is where it falls on that line, 0 to 1. For twelve pairs of instruments:

# %%
steps = measured_table("15_wavenet_autoencoder/interpolation")
at = lambda weight, name, seed=0: steps[(steps.weight == weight) & (steps.seed == seed)][
    name].to_numpy(float)                                            # (pair,)
show_table([[weight, mean_interval(at(weight, "position")), mean_interval(at(weight, "mixed"))]
            for weight in weights], ["weight", "codes mixed", "sounds mixed"], digits=2,
           caption="Place between the first spectrum (0) and the last (1): 12 pairs of notes, "
                   "95% intervals over pairs.")
climbs = at(0.75, "position") - at(0.25, "position")                 # (pair,)

# %% [markdown]
# Two things to read off. Does the place climb with the weight? Then the way through the code is a way through timbres, and not a jump from one to the other. Ours climbs, but by little in the middle: most of the way is done in the first and in the last quarter, where a code that was mixed meets one that wasn't. And where do the mixed sounds lie? Levels in dB of a sum follow the louder one; the verdicts below are computed from this table.
#
# ## 15.15 What we built
#
# | name | what | section |
# |---|---|---|
# | `mu_law_encode`, `mu_law_decode` | sound as 256 symbols | 15.2 |
# | `CausalConv1d`, `receptive_field` | the past only, far back | 15.4, 15.5 |
# | `WaveNetLayer`, `WaveNet` | gated layers, the decoder | 15.6, 15.7 |
# | `DilatedResConv`, `TemporalEncoder` | the encoder | 15.8 |
# | `WaveNetAutoencoder`, `WaveNetStep`, `bits_per_sample` | training | 15.9 |
# | `draw`, `generate_naive` | generating, the plain way | 15.10 |
# | `QueuedConv`, `QueuedWaveNet`, `generate_queued`, `generate` | generating, fast | 15.11 |
# | `LinearProbe`, `between` | what a code knows, and mixing two | 15.13, 15.14 |
#
# All of it is in `course_lib.wavenet`; the notes are in `course_lib.experiments.wavenet`.
#
# ## 15.16 Paper claims
#
# NSynth rests on 300,000 notes of a thousand instruments and ten days of 32 GPUs; we have 288 notes and a core. Its numbers can't be compared with ours, its orders can.

# %%
ENGEL, OORD, PAINE = "Engel et al. 2017", "van den Oord et al. 2016", "Paine et al. 2016"
CODE = "music-translation"
notes_ = lambda gap, unit="dB": difference_in_words(gap, unit).replace("song", "note")
claims = [
    Claim("Weights of the default decoder", CODE, "15.7", "5,356,544", f"{counted_weights:,}",
          reproduced(counted_weights, 5_356_544, 0)),
    Claim("Four seconds at 16 kHz become 16 x 125 numbers", ENGEL, "15.8", "16 x 125",
          " x ".join(map(str, shape[1:])), reproduced(shape[1:], (16, 125), 0)),
    Claim("Ten layers, dilations 1 to 512, see 1024 samples", OORD, "15.5", "1024",
          str(receptive_field(1, 10) - 1), reproduced(receptive_field(1, 10) - 1, 1024, 0)),
    Claim("With 256 values the mu-law is ahead of equal steps (notes 20 dB softer)", OORD, "15.2",
          "order only",
          notes_(mu_law_gain), same_trend(mu_law_gain)),
    Claim("Queues draw the samples of the plain way", PAINE, "15.11", "the same",
          f"{same} of {len(ways)} ways", reproduced(same, len(ways), 0))]

# %% [markdown]
# And about the trained network:

# %%
pitch_lost = column(experiment.ORIGINAL, "pitch_right") - column(experiment.GENERATED,
                                                                 "pitch_right")
halfway = at(0.5, "position") - at(0.5, "mixed")
claims += [
    Claim("A linear probe finds the pitch in the code", ENGEL, "15.13", "order only",
          notes_(found["pitch"], "right"), same_trend(found["pitch"])),
    Claim("And the kind of instrument", ENGEL, "15.13", "order only",
          notes_(found["instrument"], "right"), same_trend(found["instrument"])),
    Claim("A judge finds the pitch of what is drawn less often than of originals", ENGEL, "15.12",
          "order only", notes_(pitch_lost, "right"), same_trend(pitch_lost)),
    Claim("The decoder uses the code: another's costs bits", "this chapter", "15.9", None,
          notes_(others - own, "bits"), same_trend(others - own)),
    Claim("On the way between two codes the spectrum moves along", ENGEL, "15.14", "order only",
          notes_(climbs, "of the way").replace("notes", "pairs"), same_trend(climbs))]
show_claims(claims)

# %% [markdown]
# All trained results rest on one network and one seed of its training: they say what *this* network does.
#
# ## 15.17 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/15_wavenet_autoencoder.ipynb) has more tasks, with checks.
#
# **1. By hand.** A WaveNet has one block of three layers with 2 taps. How many samples does its prediction see, and how many does it see after the block is repeated?
#
# <details><summary>Answer</summary>
#
# $1 + (1 + 7) = 9$, and with two blocks $1 + (1 + 14) = 16$.
#
# ```python
# assert (receptive_field(1, 3), receptive_field(2, 3)) == (9, 16)
# ```
# </details>
#
# **2. A fair pair.** Write the mu-law way back that puts each symbol in the middle of the samples that give it. By how much does the SNR of the test notes rise?
#
# <details><summary>Answer</summary>
#
# The samples that give $s$ have $f(x)$ from $2s/255 - 1$ to $2(s+1)/255 - 1$; take $f^{-1}$ of the middle.
#
# ```python
# def fair(codes):
#     y = 2 * (codes.float() + 0.5) / 255 - 1
#     return y.sign() * torch.expm1(y.abs() * math.log(256)) / 255
# from course_lib.experiments import wavenet as experiment
# x = experiment.notes("test").x
# snr = lambda y: 10 * torch.log10(x.square().sum(1) / (x - y).square().sum(1))
# gain = snr(fair(mu_law_encode(x))) - snr(mu_law_decode(mu_law_encode(x)))
# assert gain.mean() > 3
# ```
# </details>
#
# **3. How large are the queues?** How many numbers do all queues of our decoder hold? And those of the published one of the music translation, with 14 layers a block and 128 channels?
#
# <details><summary>Answer</summary>
#
# $C (k-1) B (2^L - 1)$, and one for the first convolution: 32,705, and 8,388,097, which is 34 MB in single precision: most of it is never in the processor's cache, and the loop of 15.11 would wait for memory.
#
# ```python
# held = lambda c, blocks, layers: 1 + c * blocks * (2 ** layers - 1)
# assert held(32, 2, 9) == 32_705 and held(128, 4, 14) == 8_388_097
# ```
# </details>
#
# **4. A leak.** Somebody forgets the shift by one sample. What does training show, and what does generating give?
#
# <details><summary>Answer</summary>
#
# The prediction of $s_t$ sees $s_t$: the loss falls towards 0, since there is only to copy. When generating, symbol $t$ isn't there yet; the network copies whatever stands in its place.
#
# ```python
# net = WaveNet(2, 1, 3, 2, 4, 4)
# codes = torch.randint(0, 256, (1, 20))
# net.forward_leaking = lambda x: net.first_conv(scaled(x))        # no shift
# other = codes.clone(); other[0, 10] = 255 - other[0, 10]
# assert (net.forward_leaking(codes) != net.forward_leaking(other))[0, :, 10].any()
# assert torch.equal(net(codes)[..., :11], net(other)[..., :11])
# ```
# </details>
#
# **5. Two notes at once.** Code two notes, add the codes, and draw. Then code their sum. Do you hear two notes in either? Why should the first not work?
#
# <details><summary>Answer</summary>
#
# Nothing in training asks codes to add up: the decoder was never told two pitches at once, and the sum of two codes need not be the code of anything. The paper reports something similar where notes are mixed outside of what was trained on.
# </details>
#
# **6. Open.** Train an encoder that looks back only (pad on the left), with everything else equal and two seeds. How many bits does it cost, and in which frames of a note?
#
# ## 15.18 Sources
#
# - A. van den Oord et al., *WaveNet: a generative model for raw audio*, 2016, arXiv 1609.03499.
# - J. Engel, C. Resnick, A. Roberts, S. Dieleman, D. Eck, K. Simonyan and M. Norouzi, *Neural audio synthesis of musical notes with WaveNet autoencoders*, ICML 2017, arXiv 1704.01279 (NSynth).
# - T. Le Paine et al., *Fast WaveNet generation algorithm*, 2016, arXiv 1611.09482: the queues.
# - N. Mor, L. Wolf, A. Polyak and Y. Taigman, *A universal music translation network*, ICLR 2019; facebookresearch/music-translation, from which names, defaults and the two mu-law functions' arithmetic are taken as facts.
# - ITU-T Recommendation G.711, *Pulse code modulation of voice frequencies*, 1972: the mu-law.
# - G. Alain and Y. Bengio, *Understanding intermediate layers using linear classifier probes*, 2016.
#
# All code here is the course's own. The recording:

# %%
from IPython.display import Markdown, display
display(Markdown(f"- {attribution('trumpet')}"))
