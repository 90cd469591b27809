# %% [markdown]
# # Chapter 3 · Measuring separation
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/03_metrics.ipynb)
#
# A separator gives us four waveforms, and we want one number that says how good they are. There are many such numbers, and most
# papers report one without saying what it forgives. This chapter builds the ratios that most papers report, from a ratio of two energies to
# the community's tool *BSSEval*, shows what each is blind to, and makes the slow one fast. It ends with the judge that the
# numbers stand in for: your ear, in a blind listening test.
#
# **You will be able to**
# - compute SNR, SDR, SI-SDR, SD-SDR, their improvements and BSSEval's four numbers, and say which question each one answers,
# - tell from a table of scores whether an error was scaled, shifted, turned over, leaked or filtered,
# - recognise the bugs and conventions that raise a score without making anything sound better,
# - run a blind listening test and compare its ratings with a metric, with an interval.
#
# **You need** chapter 1 (the STFT, ideal masks) and least squares from linear algebra.
#
# **Time** <!-- minutes 03_metrics -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 3.0 Set up
#
# As in every chapter: install the course on Colab, seed the generators, choose the sizes.

# %%
#| default_exp metrics
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("03_metrics", cpu=dict(songs=6, seconds=10.0), gpu=dict(songs=20, seconds=20.0))

# %% [markdown]
# ## 3.1 How loud is the error?
#
# Here are four seconds of a recording, and the same four seconds with hiss added, once a little, once a lot. You hear at once which
# of the two is worse. A metric should say the same, and by how much.

# %%
import torch
from course_lib.data import recording
from course_lib.notebook import listen

song, rate = recording("fishin", start=12.0, seconds=4.0, mono=True)
hiss = torch.randn(song.shape, generator=P.generator)
hiss = hiss * (song.pow(2).sum() / hiss.pow(2).sum()).sqrt()   # as much energy as the song
for level in (-30, -10):
    listen(song + hiss * 10 ** (level / 20), rate, f"the song with hiss {-level} dB below it")

# %% [markdown]
# What we write about it becomes the module `course_lib.metrics`, which starts here. All of it is plain PyTorch, so scores can be
# computed for whole batches at once, on a GPU, and differentiated.

# %%
#| export
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from course_lib.audio import check_audio
from course_lib.spectral import istft, stft

# %% [markdown]
# What only this chapter needs: songs, tables, pictures, and the oracle masks of chapter 1.

# %%
import matplotlib.pyplot as plt
from course_lib.data import STEMS, open_tracks
from course_lib.notebook import (STEM_COLOURS, Diagram, mean_interval, median_interval,
                                 plot_scores, progress, show, show_table)
from course_lib.results import measured, published
from course_lib.spectral import apply_mask, ideal_binary_mask, ideal_ratio_mask, song_sdr

# %% [markdown]
# The *reference* $s$ is the true signal, the *estimate* $\hat s$ what a separator gives back, and their difference is the error. The
# *signal-to-noise ratio* compares the energies of the two, on the logarithmic scale of the decibel:
#
# $$ \text{SNR} = 10 \log_{10} \frac{\sum_n s[n]^2}{\sum_n (s[n] - \hat s[n])^2}. \tag{3.1} $$
#
# The smallest example, three samples long. The reference has energy $4 + 1 + 4 = 9$, the error energy 1, so the ratio is nine:

# %%
s, s_hat = torch.tensor([2.0, -1.0, 2.0]), torch.tensor([2.0, -1.0, 1.0])
10 * torch.log10((s ** 2).sum() / ((s - s_hat) ** 2).sum())

# %% [markdown]
# Keep three marks in mind. **0 dB**: the error is as loud as the signal, which is what silence as an estimate gets. **20 dB**: the error
# has a tenth of the amplitude. **Infinity**: the estimate is the reference. And one hole: a silent reference has no ratio. We
# answer NaN there, *not a number*, and never a made-up one.
#
# <details><summary>Quick question: in the second player the hiss has what share of the song's amplitude?</summary>
#
# It lies 10 dB below: a tenth of the *energy*, so $\sqrt{1/10}$, about a third of the amplitude. In the first, 30 dB below, it is a thousandth of
# the energy and about 3% of the amplitude, and still easy to hear where the song is soft.
# </details>
#
# All ratios here take `(estimates, references)` in that order, of one shape, and reduce the last axis, time. What stands before it
# (batch, source, channel) is kept. (One function will have them the other way round, `bss_eval` in section 3.7: it follows the tool
# that it must equal.) Every function first looks at what it is given.

# %%
#| export
def _check_pair(estimates: Tensor, references: Tensor, axes: Sequence[str] = ("time",),
                batch: bool = True) -> None:
    """ValueError unless both are finite float tensors of one shape with those axes.

    batch: whether other axes may stand before them.
    """
    check_audio(estimates=estimates, references=references)
    wanted = ", ".join([*(["..."] if batch else []), *axes])
    fits = references.ndim >= len(axes) if batch else references.ndim == len(axes)
    if estimates.shape != references.shape or not fits or not references.numel():
        raise ValueError(f"estimates {tuple(estimates.shape)} and references "
                         f"{tuple(references.shape)}: expected two equal shapes ({wanted}) "
                         "with at least one sample")
    for name, x in (("estimates", estimates), ("references", references)):
        if not torch.linalg.vector_norm(x.detach(), math.inf).isfinite():
            raise ValueError(f"{name} holds NaN or infinity; no score of it means anything: "
                             "find out where it comes from")

# %% [markdown]
# A second trap lies in the arithmetic. Half precision ends at 65,504, so an energy of a few seconds is infinite in it, and with it the
# score: "a perfect estimate". Very soft signals lose their squares at the other end. So energies are computed in 64 bits, whatever
# comes in, and only the decibels go back.

# %%
#| export
def _in_64_bits(*signals: Tensor) -> list[Tensor]:
    """The signals in 64 bits (32 on MPS, which has no others)."""
    return [x.float() if x.device.type == "mps" else x.double() for x in signals]


def _decibels(signal: Tensor, noise: Tensor, defined: Tensor, like: Tensor) -> Tensor:
    """10 log10(signal / noise) where `defined`, else NaN (and no gradient); noise of 0: infinity.

    Returns the type of `like`, but 32 bits for half precision.
    """
    signal, noise = (torch.where(defined, energy, 1.0) for energy in (signal, noise))
    level = torch.where(defined, 10 * torch.log10(signal / noise), torch.nan)
    return level.to(torch.promote_types(like.dtype, torch.float32))

# %% [markdown]
# With these helpers the metric is its formula.

# %%
#| export
def snr(estimates: Tensor, references: Tensor) -> Tensor:
    """Signal-to-noise ratio in dB over the last axis (eq. 3.1).

    estimates, references: (..., time), floats of one shape. Returns (...): infinity for a perfect
    estimate, 0 for a silent one, NaN where the reference is silent; float64 for float64, else
    float32. ValueError for other shapes, NumPy arrays, integers, NaN. Source: section 3.1.
    """
    _check_pair(estimates, references)
    s, s_hat = _in_64_bits(references, estimates)
    signal, noise = (s ** 2).sum(-1), ((s - s_hat) ** 2).sum(-1)
    return _decibels(signal, noise, signal > 0, estimates)

# %% [markdown]
# The three marks and the hole, the example by hand, the two players from above, and the second player in half precision:

# %%
assert abs(float(snr(s_hat, s)) - 10 * math.log10(9)) < 1e-5
assert snr(s, s) == math.inf and snr(0 * s, s) == 0 and snr(s, 0 * s).isnan()
for level in (-30, -10):
    assert abs(float(snr(song + hiss * 10 ** (level / 20), song)) + level) < 1e-3
worse = song + hiss * 10 ** (-10 / 20)
assert abs(float(snr(worse.half(), song.half())) - 10) < 0.1
assert abs(float(snr(1e-20 * worse, 1e-20 * song)) - 10) < 1e-3

# %% [markdown]
# ## 3.2 Two channels, and the name SDR
#
# In source separation the error isn't hiss but what is left of the other instruments, and what the separator did to the
# wanted one. So the same ratio is called *signal-to-distortion ratio*, SDR. The name is used for at least three things, which came out
# of competitions in which groups separate the same songs and one tool scores them all: *SiSEC*, the Signal Separation
# Evaluation Campaign (until 2018), and after it the music demixing challenges *MDX* (2021) and *SDX* (2023).
#
# | who says SDR | what is meant | here |
# |---|---|---|
# | MDX and SDX challenges, Demucs | (3.1), both channels together, kept finite in silence | `utterance_sdr` |
# | this course's tables | (3.1), both channels together; silence has no score | `song_sdr` of chapter 1; `sdr` of flattened channels |
# | BSSEval v4 (`museval`, SiSEC 2018) | (3.1), both channels together, on frames of one second | `bss_eval(...).sdr` |
# | BSSEval v3 (speech, `mir_eval`) | a filter of 512 samples is forgiven first | `sdr_after_filter`, section 3.8 |
#
# **A table of SDRs without the definition can't be compared with another.** Ours is in the second row.

# %%
#| export
def sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """Signal-to-distortion ratio in dB over the last axis: (3.1), its noise the estimate's error.

    Shapes, NaN and errors as in `snr`, whose value it has. For both channels of a stereo source
    together use `utterance_sdr`, or flatten channel and time. Source: Mitsufuji et al. 2022;
    chapter 3, section 3.2.
    """
    return snr(estimates, references)

# %% [markdown]
# What about stereo? One could score each channel and take the mean, or add up energies over both channels first. These differ.
# Take a guitar on the left, of which the right channel holds only a trace, and an estimate with the same small hiss in
# both:

# %%
stereo = torch.cat([song, 0.01 * song])                        # (channel, time)
estimate = stereo + 0.01 * torch.cat([hiss, hiss.flip(-1)])
each = sdr(estimate, stereo)                                   # (channel)
together = sdr(estimate.flatten(), stereo.flatten())
print(f"left {each[0]:.1f} dB, right {each[1]:.1f} dB, mean {each.mean():.1f} dB, "
      f"together {together:.1f} dB")
assert each[1] < 1 and together > each.mean() + 15

# %% [markdown]
# The mean of the channels punishes a trace that nobody hears. All of music separation adds the energies first, and so shall we
# wherever a function takes `(..., channel, time)`.

# %% [markdown]
# ## 3.3 Forgiving the volume: SI-SDR
#
# Turn a perfect estimate down to half its volume. The error is half the signal, so SDR says 6 dB, hardly better than silence, and yet
# one turn of a knob mends it. Where the volume is arbitrary (speech, microphones) one wants to forgive it.
#
# Think of the signals as vectors with one coordinate per sample. The estimate has a part along the reference, $\alpha s$, and a part at right
# angles to it. The length of the first only says how loud the estimate is. So take the ratio of these two instead:
#
# $$ \text{SI-SDR} = 10 \log_{10} \frac{\lVert \alpha s \rVert^2}{\lVert \alpha s - \hat s \rVert^2}, \qquad
# \alpha = \frac{\langle \hat s, s \rangle}{\lVert s \rVert^2}. \tag{3.2} $$
#
# Two samples make two coordinates, and we can draw it.

# %%
s, s_hat = torch.tensor([2.4, 1.2]), torch.tensor([0.9, 1.7])
along = (s_hat @ s) / (s @ s) * s                              # alpha s
arrows = {"reference s": (s, "black"), "estimate": (s_hat, "#0072B2"), "αs": (along, "#D55E00")}
figure, axis = plt.subplots(figsize=(5.4, 3.2))
for name, (end, colour) in arrows.items():
    x, y = end.tolist()
    axis.annotate("", (x, y), (0, 0), arrowprops=dict(arrowstyle="->", color=colour, lw=1.8))
    axis.text(x + 0.05, y, name, color=colour, va="center")
axis.plot(*torch.stack([s_hat, along]).T, ":", color="#D55E00")
axis.plot(*torch.stack([s_hat, s]).T, "--", color="#606060")
axis.set(xlim=(0, 3.2), ylim=(0, 1.9), aspect="equal", xlabel="sample 0", ylabel="sample 1")
show(figure, "Two ways to split an estimate: dashed the error of SDR, dotted the error of SI-SDR.",
     "Three arrows from the origin: the reference, the estimate above it, "
     "and the estimate's shadow on the reference.")

# %% [markdown]
# The dotted line meets the reference's direction at a right angle, so it is the *shortest* error that any volume could leave: $\alpha$
# is the least-squares gain. In code:

# %%
#| export
def _gain(estimates: Tensor, references: Tensor) -> Tensor:
    """The factor on each reference that comes nearest to its estimate: (..., 1), eq. 3.2.

    In 64 bits. Of a silent reference: 0.
    """
    s_hat, s = _in_64_bits(estimates, references)
    energy = (s ** 2).sum(-1, keepdim=True)
    return (s_hat * s).sum(-1, keepdim=True) / torch.where(energy > 0, energy, 1.0)


def si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """Scale-invariant SDR in dB over the last axis (eq. 3.2).

    Any factor on the estimate, also a negative one, is forgiven. estimates, references: (...,
    time), floats of one shape. Returns (...); NaN where either is silent. The mean is not removed:
    do it before where a constant offset should not count. Types and ValueError as in `snr`.
    Source: Le Roux et al. 2019; chapter 3, section 3.3.
    """
    _check_pair(estimates, references)
    s, s_hat = _in_64_bits(references, estimates)
    target = _gain(s_hat, s) * s
    signal, noise = (target ** 2).sum(-1), ((target - s_hat) ** 2).sum(-1)
    heard = ((s ** 2).sum(-1) > 0) & ((s_hat ** 2).sum(-1) > 0)
    return _decibels(signal, noise, heard, estimates)

# %% [markdown]
# On the drawing: the right angle, and no gain on a fine grid that leaves a shorter error. On the song: any volume scores the same.

# %%
assert abs(float((s_hat - along) @ s)) < 1e-6
gains = torch.linspace(0, 2, 2001)[:, None]
assert ((gains * s - s_hat) ** 2).sum(-1).min() >= ((along - s_hat) ** 2).sum() - 1e-6
noisy = song + 0.1 * hiss
assert torch.allclose(si_sdr(0.03 * noisy, song), si_sdr(noisy, song), atol=1e-3)
print(f"half the volume: SDR {sdr(0.5 * song, song).item():.1f} dB; with hiss as well: "
      f"SI-SDR {si_sdr(0.5 * noisy, song).item():.1f} dB")

# %% [markdown]
# Is it right to forgive the volume? For a mix of four stems no: they must add up again. Le Roux and others propose a compromise
# that counts the whole error, as SNR does, and measures it against $\alpha s$, *SD-SDR* (scale-dependent):
#
# $$ \text{SD-SDR} = 10 \log_{10} \frac{\lVert \alpha s \rVert^2}{\lVert s - \hat s \rVert^2}
# = \text{SNR} + 10 \log_{10} \alpha^2. \tag{3.3} $$
#
# An estimate that is too quiet loses twice: by its error, and by $\alpha^2$. One that is too loud pays by its error and is *paid back*
# by $\alpha^2$, as we are about to see. (So whoever wants to train with it takes the smaller of SNR and SD-SDR: chapter 5.)

# %%
#| export
def sd_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """Scale-dependent SDR in dB over the last axis (eq. 3.3): the whole error, against alpha s.

    estimates, references: (..., time), floats of one shape. Returns (...); NaN where the reference
    is silent, minus infinity for a silent estimate. A too loud estimate can score above its SNR.
    Types and ValueError as in `snr`. Source: Le Roux et al. 2019; chapter 3, section 3.3.
    """
    _check_pair(estimates, references)
    s, s_hat = _in_64_bits(references, estimates)
    target = _gain(s_hat, s) * s
    signal, noise = (target ** 2).sum(-1), ((s - s_hat) ** 2).sum(-1)
    return _decibels(signal, noise, (s ** 2).sum(-1) > 0, estimates)

# %% [markdown]
# The identity in (3.3), and a useful order: for an estimate that isn't too loud ($|\alpha| \le 1$), SD-SDR never exceeds either of the
# others. At twice the volume it does: the error is as loud as the song, and SD-SDR sees 6 dB.

# %%
quiet = 0.7 * noisy
by_hand = snr(quiet, song) + 20 * _gain(quiet, song).abs().log10()[:, 0]
assert torch.allclose(sd_sdr(quiet, song).double(), by_hand, atol=1e-4)
assert sd_sdr(quiet, song) < min(snr(quiet, song), si_sdr(quiet, song))
for factor in (0.5, 2.0):
    print(f"{factor} times the song: SNR {snr(factor * song, song).item():.1f} dB, "
          f"SD-SDR {sd_sdr(factor * song, song).item() + 0.0:.1f} dB")
assert abs(float(sd_sdr(2 * song, song)) - 6.02) < 0.01

# %% [markdown]
# ## 3.4 Three small changes that a score may or may not notice
#
# Scale is the first trap. Here are two more. **Polarity**: turn the waveform upside down. Played alone nobody hears it; added to the other stems it
# cancels instead of adding. **Delay**: shift it by one sample, 23 millionths of a second. Nobody hears that either, but a
# separator whose framing is off by one produces exactly this.

# %%
changes = {"nothing but a little hiss": song + 0.01 * hiss,
           "half the volume": 0.5 * song,
           "turned upside down": -song,
           "one sample late": song.roll(1, -1),
           "ten samples late": song.roll(10, -1)}
trap_scores = {name: [float(metric(x, song)) for metric in (snr, si_sdr, sd_sdr)]
               for name, x in changes.items()}
in_words = lambda value: "over 100" if value > 100 else f"{value + 0.0:.1f}"
show_table([[name, *map(in_words, values)] for name, values in trap_scores.items()],
           ["the estimate", "SNR = SDR", "SI-SDR", "SD-SDR"],
           caption="dB. One recording, four seconds, mono.")

# %% [markdown]
# Read it row by row. Half the volume brings SDR down to 6 dB and SD-SDR to 0, and leaves SI-SDR infinite. **The polarity is worse than silence for SDR ($-6$ dB: the error is
# twice the signal) and perfect for SI-SDR**, whose $\alpha$ may be negative. A delay of one sample, which no ear can find, drops all
# of them. (Above 100 dB we see the rounding of the numbers and no longer the sound: read it as infinite.)

# %%
half, turned = trap_scores["half the volume"], trap_scores["turned upside down"]
assert abs(half[0] - 6.02) < 0.01 and half[1] > 100
assert abs(turned[0] + 6.02) < 0.01 and turned[1] > 100
assert trap_scores["one sample late"][0] < 30 and trap_scores["ten samples late"][0] < 8

# %% [markdown]
# How much a delay costs depends on the pitch. A sine of frequency $f$ that is late by one sample differs from itself by the phase
# $\omega = 2\pi f / \text{rate}$, and the energy of the difference, relative to that of the sine, is $|1 - e^{i\omega}|^2$:
#
# $$ \text{SNR} = -10 \log_{10} \big(2 - 2 \cos \omega \big). \tag{3.4} $$

# %%
pitches = torch.tensor([50.0, 100, 200, 400, 800, 1600, 3200, 6400, 12800])
t = torch.arange(rate + 1, dtype=torch.float64) / rate
sines = torch.sin(2 * math.pi * pitches[:, None] * t)          # (pitch, time)
measured_db = snr(sines[:, :-1], sines[:, 1:])
formula_db = -10 * torch.log10(2 - 2 * torch.cos(2 * math.pi * pitches.double() / rate))
assert torch.allclose(measured_db, formula_db, atol=1e-2)
assert measured_db[0] > 40 and measured_db[-1] < 0
figure, axis = plt.subplots(figsize=(7.6, 2.4))
axis.semilogx(pitches, measured_db, "o-")
axis.axhline(0, color="#606060", lw=1)
axis.set(xlabel="frequency (Hz)", ylabel="SNR (dB)"); axis.grid()
show(axis, "What a delay of one sample costs a sine at 44.1 kHz; grey, the score of silence.",
     "A line that falls by 6 dB per octave, from about 43 dB at 50 Hz to below zero above 8 kHz.")

# %% [markdown]
# A sine at 50 Hz that is one sample late still gets over 40 dB; what lies above 7.4 kHz scores worse than silence.
#
# <details><summary>Quick question: where do the 7.4 kHz come from?</summary>
#
# (3.4) is 0 dB where $2 - 2 \cos \omega = 1$, so $\omega = \pi / 3$: a sixth of a period is one sample, and $f = 44100 / 6 = 7350$ Hz.
# </details>
#
# **Before you blame a model, cross-correlate its output with the reference and look where the peak is.**

# %% [markdown]
# ## 3.5 Compared with doing nothing: improvement
#
# A stem that makes up most of the song scores well if you return the mixture itself. To see what the separator *did*, subtract that:
#
# $$ \text{SDRi} = \text{SDR}(\hat s, s) - \text{SDR}(x, s). \tag{3.5} $$
#
# $x$ is the mixture. The function takes any of our metrics.

# %%
#| export
def improvement(metric: Callable[[Tensor, Tensor], Tensor], estimates: Tensor, references: Tensor,
                mixture: Tensor) -> Tensor:
    """How far the estimates score above the mixture itself, in dB (eq. 3.5): SDRi, SI-SDRi, ...

    metric: function of (estimates, references) such as `si_sdr`. estimates, references: (...,
    source, channel, time). mixture: (..., channel, time), or any shape that broadcasts to the
    references'. Returns what the metric returns. ValueError where the mixture doesn't fit. Source:
    Le Roux et al. 2019; chapter 3, section 3.5.
    """
    check_audio(estimates=estimates, references=references, mixture=mixture)
    fitting = mixture.unsqueeze(-3) if mixture.ndim == references.ndim - 1 >= 2 else mixture
    try:
        fitting = fitting.expand_as(references)
    except RuntimeError:
        raise ValueError(f"mixture {tuple(mixture.shape)} doesn't fit references "
                         f"{tuple(references.shape)}: expected (..., channel, time) for "
                         "references (..., source, channel, time)") from None
    return metric(estimates, references) - metric(fitting, references)

# %% [markdown]
# On a band song, with the ideal ratio mask of chapter 1 as the separator. `estimate_by` stays with us for the chapter.

# %%
tracks = open_tracks("band", "test", count=P.songs)
track = tracks[1].excerpt(4.0, 6.0)
sources = track.sources(STEMS)                                 # (source, channel, time)

def estimate_by(mask, sources):
    """Separate the sum of the sources with an ideal mask: (source, channel, time)."""
    S = stft(sources)
    return istft(apply_mask(mask(S), S.sum(0)), length=sources.shape[-1])

estimates = estimate_by(ideal_ratio_mask, sources)

# %% [markdown]
# Both channels of a stem count together, as section 3.2 asks.

# %%
flat = lambda x: x.flatten(-2)     # (source, channel, time) -> (source, channel * time)
mixture = sources.sum(0)
plain = sdr(flat(estimates), flat(sources))
gained = improvement(lambda e, s: sdr(flat(e), flat(s)), estimates, sources, mixture)
columns = torch.stack([plain, plain - gained, gained], dim=1)  # (stem, column)
show_table([[stem, *row] for stem, row in zip(STEMS, columns.tolist())],
           ["stem", "SDR", "SDR of the mixture", "SDRi"], digits=1,
           caption="dB. Six seconds of one band song, ideal ratio mask.")
of_mixture = sdr(flat(mixture.expand_as(sources)), flat(sources))
assert torch.allclose(plain - gained, of_mixture, atol=1e-4)
assert plain[2] > plain[1] and gained[2] < gained[1]           # other against bass

# %% [markdown]
# The two orders differ: *other* has a higher SDR than the bass, and was improved less. A paper that reports SDRi and one that reports SDR can't be
# compared either, unless they give the mixture's own score.

# %% [markdown]
# ## 3.6 Whole songs, seconds, and silence
#
# Songs change. One number for a whole song weighs the loud parts; a number for each second shows where the separator failed. The two
# music demixing challenges (2021, 2023) rank by the whole song:
#
# $$ \text{SDR}_\text{song} = 10 \log_{10} \frac{\sum_{c,n} s_c[n]^2 + \varepsilon}{\sum_{c,n} (s_c[n] - \hat s_c[n])^2 + \varepsilon},
# \qquad \varepsilon = 10^{-7}. \tag{3.6} $$
#
# The small $\varepsilon$ makes it finite everywhere: silence given back as silence is 0 dB, and a perfect estimate has its own energy
# over $\varepsilon$, a large number but a finite one.
# That's practical for a leaderboard, and a convention rather than a truth. Our own tables leave it out (`song_sdr` of chapter 1): a stem that is silent in a song has no
# score there, NaN, and stays out of the mean.

# %%
#| export
def utterance_sdr(estimates: Tensor, references: Tensor, eps: float = 1e-7) -> Tensor:
    """SDR in dB of whole signals, all channels together (eq. 3.6): the MDX challenge's rule.

    estimates, references: (..., channel, time), floats of one shape. eps: added to both energies,
    so that every value is finite: a silent reference gives 0 dB for silence and far less for
    anything else. Returns (...). Types and ValueError as in `snr`. Source: Mitsufuji et al. 2022;
    Fabbro et al. 2024; chapter 3, section 3.6.
    """
    _check_pair(estimates, references, ("channel", "time"))
    s, s_hat = _in_64_bits(references, estimates)
    signal, noise = (s ** 2).sum((-2, -1)), ((s - s_hat) ** 2).sum((-2, -1))
    return _decibels(signal + eps, noise + eps, signal >= 0, estimates)

# %% [markdown]
# On real energies the $\varepsilon$ changes nothing; on silence it decides everything. We put both rules side by side for four cases of one second.

# %%
noise_second, silence = 0.1 * torch.randn(2, rate, generator=P.generator), torch.zeros(2, rate)
cases = {"a guess that is off by a tenth": (0.9 * noise_second, noise_second),
         "silence for a source that sounds": (silence, noise_second),
         "silence for a silent source": (silence, silence),
         "noise for a silent source": (noise_second, silence)}
both_rules = {name: (float(utterance_sdr(*case)), float(song_sdr(*case)))
              for name, case in cases.items()}
show_table([[name, *values] for name, values in both_rules.items()],
           ["estimate", "the challenges' rule (3.6)", "this course's"], digits=1, caption="dB.")
assert torch.allclose(utterance_sdr(estimates, sources), song_sdr(estimates, sources), atol=1e-2)
assert both_rules["silence for a silent source"][0] == 0
assert math.isnan(both_rules["silence for a silent source"][1])

# %% [markdown]
# A dash is NaN. With the challenges' rule one stem that is silent in one song moves a mean over songs by many decibels, up or down, for something that no ratio can measure. So **whenever a
# table of this course says SDR of a whole song, it is `song_sdr`**, and silent stems stay out.

# %% [markdown]
# The same for pieces of one second, side by side and without overlap. What is left at the end is dropped. Here a silent
# reference is common, as singers pause; such a chunk gets NaN and stays out of the summary.

# %%
#| export
def chunk_sdr(estimates: Tensor, references: Tensor, rate: float, seconds: float = 1.0,
              eps: float = 1e-7) -> Tensor:
    """SDR in dB of each whole chunk of `seconds`, all channels together (eq. 3.6 on chunks).

    estimates, references: (..., channel, time), floats of one shape. rate: Hz. Returns (...,
    chunk), NaN where that chunk of the reference is silent. Its median over chunks is often called
    cSDR. (museval drops a chunk for all sources where one is silent: see `bss_eval`.) Types and
    ValueError as in `snr`, and for a signal shorter than one chunk. Source: section 3.6.
    """
    length = round(rate * seconds)
    _check_pair(estimates, references, ("channel", "time"))
    if not 1 <= length <= references.shape[-1]:
        raise ValueError(f"a chunk of {seconds} s at {rate} Hz has {length} samples; the signals "
                         f"have {references.shape[-1]}: choose seconds so that one chunk fits")
    estimates, references = (x.unfold(-1, length, length).movedim(-2, -3)
                             for x in (estimates, references))   # (..., chunk, channel, time)
    scores = utterance_sdr(estimates, references, eps)           # (..., chunk)
    return torch.where((references != 0).any(-1).any(-1), scores, torch.nan)

# %% [markdown]
# Four seconds by hand: perfect but for a tenth of the amplitude, half the volume, silent, and the reference silent.

# %%
four = torch.randn(2, 4 * 100, generator=P.generator)
four[:, 300:] = 0
guess = four * torch.tensor([0.9, 0.5, 0.0, 1.0]).repeat_interleave(100)
chunk_sdr(guess, four, rate=100)

# %% [markdown]
# Which number stands for the song? The *mean* over its chunks lets a few extreme ones decide: an error near zero is 60 dB, and there is no
# limit downwards. The *median*, the middle value, ignores them. BSSEval and the literature after it take the **median over frames,
# then the median over tracks**. For an even count the median is the mean of the middle two (`torch.median` takes the lower
# one, so we don't use it).

# %%
#| export
def median_over_frames(scores: Tensor) -> Tensor:
    """The median over the last axis without NaN, the mean of the middle two for an even count.

    scores: (..., frame), for example (source, frame). Returns (...), NaN where all are NaN.
    Source: Stoeter, Liutkus and Ito 2018; chapter 3, section 3.6.
    """
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(f"scores has shape {tuple(scores.shape)}; expected (..., frame) with at "
                         "least one frame")
    ordered = scores.sort(-1).values              # NaN comes last, infinities in their places
    count = (~scores.isnan()).sum(-1, keepdim=True)
    low, high = (count - 1).clamp_min(0) // 2, (count // 2).clamp_max(scores.shape[-1] - 1)
    low, high = ordered.gather(-1, low)[..., 0], ordered.gather(-1, high)[..., 0]
    return torch.where(low == high, low, (low + high) / 2)


def median_over_tracks(scores: Tensor | Sequence[Tensor]) -> Tensor:
    """The median over tracks of their medians over frames: the number in tables of BSSEval v4.

    scores: one (source, frame) a track, the frames' number may differ. (A tensor (track, source,
    frame) will do.) Returns (source,); NaN is left out. Source: as in `median_over_frames`.
    """
    if len(scores) == 0:
        raise ValueError("scores is empty; expected one tensor (source, frame) a track")
    return median_over_frames(torch.stack([median_over_frames(track) for track in scores], -1))

# %% [markdown]
# Five values of which one is NaN; a perfect song; nothing but NaN; and three tracks whose medians are 3, 7 and 2.

# %%
assert median_over_frames(torch.tensor([1.0, 9.0, math.nan, 2.0, 4.0])) == 3.0
assert median_over_frames(torch.tensor([math.inf, math.inf, 1.0])) == math.inf
assert median_over_frames(torch.full((2, 3), math.nan)).isnan().all()
three_tracks = [torch.tensor([[1.0, 5.0]]), torch.tensor([[7.0]]), torch.tensor([[2.0]])]
assert median_over_tracks(three_tracks) == 3.0

# %% [markdown]
# Now a song, second by second. The singer's stem is scored in twenty chunks; the summaries differ although each is "the SDR".

# %%
whole = tracks[1].sources(STEMS)
by_mask = estimate_by(ideal_ratio_mask, whole)
scores = chunk_sdr(by_mask, whole, track.rate)                 # (source, chunk)
summaries = {"median of seconds": median_over_frames(scores),
             "mean of seconds": scores.nanmean(-1),
             "whole song": song_sdr(by_mask, whole)}
show_table([[name, *values.tolist()] for name, values in summaries.items()],
           ["SDR in dB", *STEMS], digits=1,
           caption=f"One band song of {tracks[1].seconds:.0f} s, ideal ratio mask.")

# %% [markdown]
# The seconds themselves say more than any summary.

# %%
figure, axis = plt.subplots(figsize=(7.6, 2.6))
for stem, row in zip(STEMS, scores):
    axis.plot(torch.arange(len(row)) + 0.5, row, "o-", ms=3, label=stem, color=STEM_COLOURS[stem])
axis.set(xlabel="time (s)", ylabel="SDR (dB)"); axis.grid(axis="y")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(axis, "One song, second by second: the ratio mask's SDR for each stem.",
     "Four lines over twenty seconds that move by several decibels from one second to the next.")

# %% [markdown]
# The singer's line has two deep dips. Is the mask bad there, or is she hardly singing? We compare the energy of those seconds with
# that of her average second.

# %%
energy = whole[3].unfold(-1, rate, rate).square().sum((0, 2))  # (channel, chunk, time) -> (chunk,)
lowest = scores[3].argsort()[:2]
for second in sorted(lowest.tolist()):
    below = 10 * math.log10(energy.mean() / energy[second])
    print(f"second {second + 1}: SDR {scores[3, second]:.1f} dB, "
          f"vocals {below:.0f} dB below average")
assert (scores[3, lowest] < 2).all() and (energy[lowest] < 0.03 * energy.mean()).all()

# %% [markdown]
# She is nearly silent: what is left of the others in these seconds is soft, and still as loud as she is. The ratio can't tell that from a bad separation.

# %% [markdown]
# ### Mean or median: a choice that can change the winner
#
# Two separators, ten seconds each. The first is good but loses the singer in four seconds; the second is mediocre throughout.

# %%
first, second = torch.tensor([10.0] * 6 + [-8.0] * 4), torch.tensor([6.0] * 10)
print(f"mean:   {first.mean():.1f} against {second.mean():.1f} dB")
print(f"median: {median_over_frames(first):.1f} against {median_over_frames(second):.1f} dB")
assert first.mean() < second.mean() and median_over_frames(first) > median_over_frames(second)

# %% [markdown]
# By the median the first wins, though it fails for four tenths of the time. Neither number is wrong; they answer different questions. So
# **state which, and look at the seconds themselves before you believe it.**
#
# <details><summary>Quick question: a separator gives silence for all stems. Which of the summaries tells?</summary>
#
# All: every second in which the stem sounds has 0 dB, and so have the song, the mean and the median. (BSSEval, next, is the exception: a silent *estimate*
# makes the second NaN, and NaN is left out, so a separator that falls silent where it is unsure is not punished for it.)
# </details>

# %% [markdown]
# ## 3.7 What kind of error? BSSEval
#
# SDR says how large the error is. A listener says more: *I hear the drums through the singer*, *the voice gurgles*, *she sounds muffled*.
# Vincent, Gribonval and Févotte (2006) split the error accordingly. The idea is a projection, as for SI-SDR, but onto more than one
# vector:
#
# $$ \hat s_j = s_j + e_\text{spat} + e_\text{interf} + e_\text{artif}. \tag{3.7} $$
#
# - What can be explained by **the true source, filtered** is not a wrong sound but a wrong *colour or place*: $e_\text{spat}$.
# - What can be explained by **the other sources, filtered** is *interference*: they leak.
# - What no filtered source explains is an *artefact*: gurgling, clicks, noise.
#
# "Filtered" means: any combination of the source's channels, each delayed by $0 \dots K-1$ samples, with $K = 512$ *taps* (12 ms at 44.1 kHz). If
# $P_j$ projects onto all delayed copies of source $j$ and $P$ onto those of all sources, then
#
# $$ e_\text{spat} = P_j \hat s_j - s_j, \qquad e_\text{interf} = P \hat s_j - P_j \hat s_j, \qquad
# e_\text{artif} = \hat s_j - P \hat s_j. \tag{3.8} $$
#
# Three samples and one tap suffice to see all three. The true source lies along one axis, so that $P_j$ projects onto a line; the other
# source spans the floor with it, onto which $P$ projects; and the estimate stands above the floor.

# %%
s, other = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.6, 1.5, 0.0])
s_hat = torch.tensor([2.7, 0.9, 1.1])
onto = lambda columns: columns @ torch.linalg.pinv(columns)    # the matrix of a projection
onto_own, onto_all = onto(s[:, None]), onto(torch.stack([s, other], 1))    # P_j and P
corners = torch.stack([s, onto_own @ s_hat, onto_all @ s_hat, s_hat])      # (corner, sample)
steps = corners.diff(dim=0)                                    # e_spat, e_interf, e_artif
assert torch.allclose(steps @ steps.T, torch.diag((steps ** 2).sum(1)), atol=1e-5)
steps.round(decimals=2) + 0.0

# %% [markdown]
# The rows are the three errors, and the assert says that each stands at a right angle to the others: from $s$ to the estimate in three
# steps, along the line, across the floor, straight up.

# %%
oblique = torch.tensor([[1.0, 0.0], [0.55, 0.42], [0.0, 1.0]])  # where the three axes go on paper
names = ["$e_{spat}$: along its own filtered copies", "$e_{interf}$: what the others' copies add",
         "$e_{artif}$: out of the plane of all"]
figure, axis = plt.subplots(figsize=(7.6, 3.2))
floor = torch.tensor([[-0.2, -0.2, 0], [3.6, -0.2, 0], [3.6, 1.6, 0], [-0.2, 1.6, 0]]) @ oblique
axis.fill(*floor.T, color="#E8E8E8")
for name, start, end, colour in zip(names, corners @ oblique, corners[1:] @ oblique,
                                    ("#009E73", "#D55E00", "#0072B2")):
    axis.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=colour, lw=2.2))
    axis.plot([], [], color=colour, label=name)
for name, place in zip(("s", r"$P_j \hat s$", r"$P \hat s$", r"$\hat s$"), corners @ oblique):
    axis.text(*(place + torch.tensor([0.04, -0.18])), name)
for arrow, colour in ((s, "black"), (other, "#909090"), (s_hat, "black")):
    axis.annotate("", arrow @ oblique, (0, 0), arrowprops=dict(arrowstyle="->", color=colour))
axis.text(*(other @ oblique + torch.tensor([0.12, -0.16])), "the other source", color="#606060")
axis.set(xlim=(-0.4, 4.8), ylim=(-0.35, 1.75), aspect="equal"); axis.axis("off")
axis.legend(loc="upper left", frameon=False)
show(figure, "The three projections of BSSEval, in a space of three samples.",
     "A grey floor with two arrows, the source and the other source. From the tip of the source a "
     "green step goes on along it, an orange one across the floor, a blue one straight up.")

# %% [markdown]
# With $K$ taps the line becomes the space of all delayed copies of the source, the floor that of all sources' copies; nothing else changes.
#
# The smallest case with delays that we can see whole: a source of five samples, and its copies delayed by 0, 1 and 2, as columns of a matrix.
# Five samples become seven, as the last copy ends later.

# %%
def delayed_copies(x, taps):
    """Each channel delayed by 0 .. taps - 1.

    x: (channel, time). Returns (time + taps - 1, channel * taps).
    """
    copies = [F.pad(channel, (delay, taps - 1 - delay)) for channel in x for delay in range(taps)]
    return torch.stack(copies, 1)

delayed_copies(torch.tensor([[1.0, 2, 3, 4, 5]]), 3)

# %% [markdown]
# Projecting an estimate onto the columns is a least-squares problem: find the filter $c$, one number a column, that brings $A c$
# nearest to $\hat s$. For tiny signals that's one call. Two sources, one channel, 300 samples, filters of four taps:

# %%
noise64 = lambda *shape: torch.randn(shape, generator=P.generator, dtype=torch.float64)
tiny, tiny_noise = noise64(2, 1, 300), noise64(1, 300)         # (source, channel, time)
tiny_estimate = tiny[0] + 0.3 * tiny[0].roll(1, -1) + 0.2 * tiny[1] + 0.1 * tiny_noise

def project(x, A):
    """The combination of A's columns nearest to each channel of x: (channel, rows of A)."""
    x = F.pad(x, (0, A.shape[0] - x.shape[-1])).T              # (row, channel)
    return (A @ torch.linalg.lstsq(A, x).solution).T

own, everything = delayed_copies(tiny[0], 4), delayed_copies(tiny.flatten(0, 1), 4)
own_part, all_parts = project(tiny_estimate, own), project(tiny_estimate, everything)

# %% [markdown]
# We made this estimate of the source itself, an echo of it, a fifth of the other source and a tenth of noise. The projections must find
# these three errors again, about: the energies of white signals add up to their squared factors.

# %%
padded = lambda x: F.pad(x, (0, 3))
parts = {"spatial": own_part - padded(tiny[0]), "interference": all_parts - own_part,
         "artefacts": padded(tiny_estimate) - all_parts}
put_in = {"spatial": 0.3 ** 2, "interference": 0.2 ** 2, "artefacts": 0.1 ** 2}
found = {name: float((e ** 2).sum() / (tiny[0] ** 2).sum()) for name, e in parts.items()}
show_table([[name, put_in[name], found[name]] for name in parts],
           ["error", "put in", "found"], digits=3, caption="Energy relative to the source's.")
total = sum(parts.values()) + padded(tiny[0])
assert torch.allclose(total, padded(tiny_estimate), atol=1e-12)      # (3.7) is exact
assert (parts["artefacts"] @ everything).abs().max() < 1e-9          # nothing explainable is left

# %% [markdown]
# From the parts come four ratios. SDR counts every error. **ISR** (image to spatial distortion) counts the wrong colour or place, **SIR** (to
# interference) the leaks, **SAR** (to artefacts) the rest:
#
# $$ \text{SDR} = \frac{\lVert s \rVert^2}{\lVert \hat s - s \rVert^2}, \quad
# \text{ISR} = \frac{\lVert s \rVert^2}{\lVert e_\text{spat} \rVert^2}, \quad
# \text{SIR} = \frac{\lVert s + e_\text{spat} \rVert^2}{\lVert e_\text{interf} \rVert^2}, \quad
# \text{SAR} = \frac{\lVert s + e_\text{spat} + e_\text{interf} \rVert^2}{\lVert e_\text{artif} \rVert^2}, \tag{3.9} $$
#
# each as $10 \log_{10}$, sums over channels and time. **Version 4 (2018) finds the filters once, on the whole song, and
# then scores each second with them.** Version 3 found new ones for every frame, which forgives more and costs more.
#
# <details><summary>Quick question: an estimate is the true source, 100 samples late. Which of the four are low?</summary>
#
# SDR, as in section 3.4, and ISR: a delay of 100 samples is one of the 512 delayed copies, so it counts as the source's own, wrongly placed. Nothing
# leaks and nothing is an artefact, so SIR and SAR are high (the edges of the frames leave a little, as section 3.9 will show).
# </details>
#
# Our slow version for a whole signal, in one function. It is only good for small signals: with four stereo sources and
# 512 taps its matrix has 4096 columns and a row for every sample.

# %%
def bss_eval_slowly(references, estimates, taps):
    """SDR, ISR, SIR, SAR of each source, by least squares on delayed copies: (4, source)."""
    A, results = delayed_copies(references.flatten(0, 1), taps), []
    power = lambda x: (x ** 2).sum()
    for s, s_hat in zip(references, estimates):
        P_j, P_all = project(s_hat, delayed_copies(s, taps)), project(s_hat, A)
        s, s_hat = F.pad(s, (0, taps - 1)), F.pad(s_hat, (0, taps - 1))
        ratios = [power(s) / power(s_hat - s), power(s) / power(P_j - s),
                  power(P_j) / power(P_all - P_j), power(P_all) / power(s_hat - P_all)]
        results.append(10 * torch.stack(ratios).log10())
    return torch.stack(results, 1)

# %% [markdown]
# The reference implementation is the package `museval`. It takes the references **first**, and so will our `bss_eval`, unlike the ratios
# above; write `bss_eval(references=..., estimates=...)` if in doubt, for swapping the two raises no error (section 3.10). It wants arrays
# `(source, time, channel)`; ours stay `(source, channel, time)`. On a stereo case the two must agree to many digits.

# %%
from course_lib.data.without_ffmpeg import import_museval
try:
    museval = import_museval()
except ModuleNotFoundError:                                    # Colab: pip install museval
    museval = None

def by_museval(references, estimates, rate, taps=512):
    """museval's SDR, ISR, SIR, SAR on frames of a second: (4, source, frame); None without it."""
    if museval is None:
        return None
    as_array = lambda x: x.double().movedim(-1, -2).numpy()    # (source, time, channel)
    scores = museval.metrics.bss_eval(as_array(references), as_array(estimates), rate, rate,
                                      filters_len=taps)[:4]
    return torch.stack([torch.from_numpy(score) for score in scores])

# %% [markdown]
# Two stereo sources of 500 samples and filters of eight taps, as one frame:

# %%
small = noise64(2, 2, 500)                                     # (source, channel, time)
small_guess = small + 0.3 * small.flip(0) + 0.1 * noise64(2, 2, 500)
slow = bss_eval_slowly(small, small_guess, taps=8)
theirs = by_museval(small, small_guess, rate=500, taps=8)
assert theirs is None or torch.allclose(slow, theirs[..., 0], atol=1e-9)
print("SDR, ISR, SIR, SAR of the first source:", *(f"{value:.1f}" for value in slow[:, 0]))

# %% [markdown]
# ## 3.8 The same at the size of a song
#
# Thirty seconds of four stereo sources make a matrix $A$ that nobody wants to build:

# %%
rows, columns = 30 * 44100 + 511, 4 * 2 * 512                  # sources, channels, taps
print(f"{rows:,} rows and {columns} columns in 64 bits: {rows * columns * 8 / 1e9:.0f} gigabytes")

# %% [markdown]
# Three observations take us from there to about a second of computing. This is where they lead (white squares are data, blue blocks compute, the dotted one is the
# score; the small print is the shape of what leaves a block; $T = A^T A$ and $D = A^T \hat s$):

# %%
d = Diagram()
s_block = d.block("references", "(source, channel, time)", kind="data")
e_block = d.block("estimates", "(source, channel, time)", kind="data", after=s_block,
                  place="below", arrow=False, gap=0.5)
lags = d.block("lagged products (3.10)\n$T$ and $D$", "(tap, source·channel,\nsource·channel)",
               after=[s_block, e_block])
solve = d.block("solve $T c = D$", "filters (tap, source·channel,\nsource·channel)", after=lags)
errors = d.block("project each second:\n$P_j \\hat s$, $P \\hat s$", "(source·channel, bin)",
                 after=solve)
d.block("energies of the\nthree errors (3.9)", "SDR, ISR, SIR, SAR:\n(source, frame)",
        kind="loss", after=errors)
d.arrow(s_block, errors, "second by second", route="over")
d.arrow(e_block, errors, "second by second", route="under")
show(d.draw(), "BSSEval v4: filters from the whole song, errors second by second.", d.in_words())

# %% [markdown]
# **First: only $A^T A$ and $A^T \hat s$ are needed.** The best filter solves the *normal equations* $A^T A\, c = A^T \hat s$. Their entries are sums
# of products of two signals at some distance $k$, *lagged products*:
#
# $$ r_{ij}[k] = \sum_n x_i[n]\, y_j[n + k]. \tag{3.10} $$
#
# A correlation is a product in the frequency domain. We cut the signals into blocks, give each room for the largest lag, and add up
# the products of the blocks' spectra. One inverse transform at the end gives all lags.

# %%
#| export
def lagged_products(x: Tensor, y: Tensor, lags: int) -> Tensor:
    """r[k, i, j] = sum over n of x_i[n] y_j[n + k] for k = 0 .. lags - 1, by blocks (eq. 3.10).

    x: (i, time), y: (j, time), floats. Returns float64 (lags, i, j). Source: section 3.8.
    """
    n_fft = max(4096, 4 * 2 ** math.ceil(math.log2(lags)))
    size = n_fft - lags + 1                       # of a block, so that no lag wraps round
    total = torch.zeros(len(x), len(y), n_fft // 2 + 1, dtype=torch.complex128, device=x.device)
    for start in range(0, x.shape[-1], size):
        X = torch.fft.rfft(x[:, start:start + size].double(), n=n_fft)
        Y = torch.fft.rfft(y[:, start:start + n_fft].double(), n=n_fft)
        total.addcmul_(X.conj()[:, None], Y)
    return torch.fft.irfft(total, n=n_fft)[..., :lags].permute(2, 0, 1).contiguous()

# %% [markdown]
# The same by the definition, for a few lags of song and hiss:

# %%
x, y = song[:, :9000].double(), hiss[:, :9000].double()
for k in (0, 1, 100, 511):
    by_hand = (x[0, :9000 - k] * y[0, k:]).sum()
    assert abs(lagged_products(x, y, 512)[k, 0, 0] - by_hand) < 1e-8 * x.norm() * y.norm()

# %% [markdown]
# **Second: $A^T A$ repeats itself.** Its entry for delays $a$ and $b$ depends on $a - b$ alone. Look at the matrix of the five-sample source:

# %%
A = delayed_copies(torch.tensor([[1.0, 2, 3, 4, 5]]), 3)
A.T @ A

# %% [markdown]
# Every diagonal holds one number. Such a matrix is called *Toeplitz*; for several channels each "number" is a small block $R[k]$ of lagged
# products between all channels, with $R[-k] = R[k]^T$. So 512 small blocks say everything about a 4096 × 4096 matrix, and there's no need to
# store it, nor to solve it in the $4096^3$ steps of a general one.
#
# <details><summary>Quick question: how many numbers are in that matrix, and how many of them are different?</summary>
#
# $4096^2$, nearly 17 million; and $512 \cdot 8^2 = 32{,}768$, one block of all channel pairs for each lag.
# </details>
#
# (If you only want the scores, go on to `bss_eval`; nothing later needs the inside of the solver.)
#
# *Levinson's recursion* uses the repetition. It solves two special systems, the *predictors*: with $T$ the matrix,
#
# $$ T f = \begin{pmatrix} E_f \\ 0 \\ \vdots \\ 0 \end{pmatrix}, \qquad T b = \begin{pmatrix} 0 \\ \vdots \\ 0 \\ E_b \end{pmatrix}. \tag{3.11} $$
#
# The first entry of $f$ is fixed to 1, and so is the last one of $b$. $f$ is called the forward predictor because its other entries, with
# the sign turned, are the best guess of a sample from the neighbours on one side; $b$, the backward one, uses the other side. $E_f$ and
# $E_b$ are what the guesses leave over: the energies of their errors. They come out of the recursion, nobody puts them in.
#
# Suppose we have them for $n$ taps. Append a zero to $f$, and the larger system is right but for its last row, where some $\Delta$ appears. Put
# a zero before $b$, and it is right but for its first row. So subtract a little of each from the other, just enough to cancel. One tap more,
# for the price of a few small products.
#
# First for plain numbers, on the matrix above. With one channel $b$ is $f$ reversed, and $E_b = E_f$:

# %%
r = torch.tensor([55.0, 40.0, 26.0], dtype=torch.float64)      # the matrix's first column
f_plain, E = torch.ones(1, dtype=torch.float64), r[0]
for n in (1, 2):
    delta = (r[1:n + 1].flip(0) * f_plain).sum()               # what spoils the last row
    longer = F.pad(f_plain, (0, 1))
    f_plain, E = longer - delta / E * longer.flip(0), E - delta ** 2 / E
T = A.T.double() @ A.double()
print("T f =", [round(value, 2) + 0.0 for value in (T @ f_plain).tolist()])
assert torch.equal(T[0], r) and torch.allclose(T @ f_plain, F.pad(E[None], (0, 2)))

# %% [markdown]
# With several channels each number becomes a block, $b$ has to be carried along as well, and a division becomes a small system to solve.
# `solve_ex` is that, without an error where a block is singular; all signals of a batch go at once.

# %%
#| export
def levinson(R: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predictors of a symmetric positive block Toeplitz matrix T[a, b] = R[a - b] (eq. 3.11).

    R: (..., taps, m, m); R[-k] is R[k]^T. Returns f, b: (..., taps, m, m) with identity as first
    and last block, and E_f, E_b: (..., m, m), such that T f = (E_f, 0, ...) and
    T b = (..., 0, E_b). Source: Whittle 1963; chapter 3, section 3.8.
    """
    *batch, taps, m, _ = R.shape
    row = R.flip(-3).movedim(-3, -2).reshape(*batch, m, taps * m)     # [R[taps-1] ... R[1] R[0]]
    f = torch.zeros(*batch, taps * m, m, dtype=R.dtype, device=R.device)
    f[..., :m, :] = torch.eye(m, dtype=R.dtype, device=R.device)
    b, E_f, E_b = f.clone(), R[..., 0, :, :], R[..., 0, :, :]
    for n in range(m, taps * m, m):                                   # n: rows solved so far
        delta = row[..., (taps - 1) * m - n:(taps - 1) * m] @ f[..., :n, :]
        longer_f = F.pad(f[..., :n, :], (0, 0, 0, m))
        longer_b = F.pad(b[..., :n, :], (0, 0, m, 0))
        to_f = torch.linalg.solve_ex(E_b, delta)[0]
        to_b = torch.linalg.solve_ex(E_f, delta.mT)[0]
        f[..., :n + m, :] = longer_f - longer_b @ to_f
        b[..., :n + m, :] = longer_b - longer_f @ to_b
        E_f, E_b = E_f - delta.mT @ to_f, E_b - delta @ to_b
    f, b = (x.unflatten(-2, (taps, m)) for x in (f, b))   # (..., taps * m, m) -> (..., tap, m, m)
    return f, b, E_f, E_b

# %% [markdown]
# We check it on the small stereo case, where the whole matrix, four channels times eight taps, fits on a postage stamp. The columns of
# `delayed_copies` run through the taps of one channel first; the blocks of (3.11) through the channels of one tap.

# %%
channels = small.flatten(0, 1)          # (source, channel, time) -> (source * channel, time)
R = lagged_products(channels, channels, 8)                     # (lag, channel, channel)
A = delayed_copies(channels, 8).unflatten(1, (4, 8))           # (row, channel, tap)
A = A.mT.flatten(1)                                            # (row, tap * channel)
T = A.T @ A
assert torch.allclose(T[8:12, :4], R[2], atol=1e-9)            # two taps below the diagonal
f, b, E_f, E_b = levinson(R)
assert torch.allclose(T @ f.flatten(0, 1), F.pad(E_f, (0, 0, 0, 28)), atol=1e-8)
assert torch.allclose(T @ b.flatten(0, 1), F.pad(E_b, (0, 0, 28, 0)), atol=1e-8)

# %% [markdown]
# The two predictors know the whole inverse (Gohberg and Semencul's formula; the proof is in the source, we take it on trust and check it):
# with $L_f$ the lower triangular Toeplitz matrix whose first column is $f$, and $L_b$ the one whose first column is $b$ moved down by one tap,
#
# $$ T^{-1} = L_f E_f^{-1} L_f^T - L_b E_b^{-1} L_b^T. \tag{3.12} $$
#
# On the 3 × 3 matrix of the five-sample source, with the $f$ and $E$ found above and $b$ as $f$ reversed:

# %%
lower = lambda column: delayed_copies(column[None], 3)[:3]     # (tap, tap), lower triangular
T = torch.stack([r, r[[1, 0, 1]], r[[2, 1, 0]]])
L_f, L_b = lower(f_plain), lower(F.pad(f_plain.flip(0), (1, -1)))
inverse = (L_f @ L_f.T - L_b @ L_b.T) / E
assert torch.allclose(inverse @ T, torch.eye(3, dtype=torch.float64), atol=1e-12)
L_f.round(decimals=2), L_b.round(decimals=2) + 0.0

# %% [markdown]
# ### Products by spectra
#
# To multiply by a Toeplitz matrix is to filter, and filtering is a product of spectra, so neither $T$ nor its inverse need ever be written
# out. One step lies between: the FFT filters *in a circle*, what leaves at the end comes in again at the start. So we put $T$ into the corner of a
# matrix twice as large in which every column is the one before it, moved down by one *with the last entry back on top*, a *circulant*
# matrix. Its first column holds the lags $0 \dots K-1$, one zero, and the negative lags. The vector gets zeros below, and of the product we
# keep the upper half:

# %%
column = torch.cat([r, torch.zeros(1, dtype=r.dtype), r[1:].flip(0)])        # (2 * tap,)
circulant = torch.stack([column.roll(k) for k in range(6)], dim=1)
v = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
by_spectra = torch.fft.irfft(torch.fft.rfft(column) * torch.fft.rfft(v, n=6), n=6)
assert torch.equal(circulant[:3, :3], T)
assert torch.allclose(by_spectra, circulant @ F.pad(v, (0, 3)))
assert torch.allclose(by_spectra[:3], T @ v)
circulant.int()

# %% [markdown]
# The transposed matrices in (3.12) filter backwards in time, and to turn a filter around is to conjugate its spectrum. With blocks the
# transposed product also transposes each block, so the spectrum's matrices are conjugated *and* transposed: `.mH`.

# %%
#| export
def _filtered(spectrum: Tensor, v: Tensor) -> Tensor:
    """The first taps of v filtered by blocks.

    spectrum: (..., taps + 1, m, m), of 2 * taps points. v: (..., taps, m, k), and the result.
    """
    V = torch.fft.rfft(v, n=2 * v.shape[-3], dim=-3)
    return torch.fft.irfft(spectrum @ V, n=2 * v.shape[-3], dim=-3)[..., :v.shape[-3], :, :]


def toeplitz_product(R: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> T v for the block Toeplitz matrix of `levinson`; v: (..., taps, m, k). Section 3.8."""
    before = F.pad(R[..., 1:, :, :].flip(-3).mT, (0, 0, 0, 0, 1, 0))   # R[-taps + 1] ... R[-1]
    spectrum = torch.fft.rfft(torch.cat([R, before], -3), dim=-3)
    return lambda v: _filtered(spectrum, v)


def toeplitz_inverse(R: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> T^-1 v by Levinson's predictors (eq. 3.12); v: (..., taps, m, k).

    Source: Gohberg and Heinig 1974; chapter 3, section 3.8.
    """
    f, b, E_f, E_b = levinson(R)
    b = F.pad(b, (0, 0, 0, 0, 1, 0))[..., :-1, :, :]                   # moved down by one tap
    L_f, L_b = (torch.fft.rfft(z, n=2 * z.shape[-3], dim=-3) for z in (f, b))

    def half(L, E, v):
        """L E^-1 L^T v, by the spectrum of L's first column."""
        return _filtered(L, torch.linalg.solve_ex(E.unsqueeze(-3), _filtered(L.mH, v))[0])

    return lambda v: half(L_f, E_f, v) - half(L_b, E_b, v)

# %% [markdown]
# There and back, on the small stereo case:

# %%
T, v = A.T @ A, noise64(8, 4, 3)                               # v: (tap, channel, column)
Tv = toeplitz_product(R)(v)
assert torch.allclose(Tv.flatten(0, 1), T @ v.flatten(0, 1), atol=1e-9)
assert torch.allclose(toeplitz_inverse(R)(Tv), v, atol=1e-9)

# %% [markdown]
# With random signals we could stop here. Music is harder: a bass has next to no energy at 10 kHz, neighbouring
# samples are nearly equal, so that $E$ shrinks to a sliver of $r[0]$, and the recursion loses digits. How many? We solve $T x = d$ for a
# known right side and look at what is missing, $\lVert T x - d \rVert / \lVert d \rVert$, with 512 taps. 64 bits have sixteen digits.

# %%
def missing(x, solver=None):
    """Relative residual of T^-1 (T v) for one channel x (1, time) and 512 taps."""
    R = lagged_products(x / x.norm(), x / x.norm(), 512)
    d = toeplitz_product(R)(torch.ones(512, 1, 1, dtype=torch.float64))
    inverse = toeplitz_inverse(R)
    solution = inverse(d) if solver is None else solver(toeplitz_product(R), inverse, d)[0]
    return float((toeplitz_product(R)(solution) - d).norm() / d.norm())

# %% [markdown]
# First on white noise, then on the band's bass, whose delayed copies are nearly alike:

# %%
bass = sources[1].double().mean(0, keepdim=True)
for name, x in (("white noise", noise64(1, 100_000)), ("the band's bass", bass)):
    print(f"{name}: about {-math.log10(missing(x)):.0f} digits are right")
assert missing(noise64(1, 100_000)) < 1e-14 and missing(bass) > 1e-12

# %% [markdown]
# So we use the inverse as a *guess* (a *preconditioner*) and improve it by the method of *conjugate gradients*, which asks only for products with $T$:
# each step moves along the best new direction, until what is missing, the residual, is as small as rounding allows. With such a good guess it
# takes a handful of steps.

# %%
#| export
def conjugate_gradients(product: Callable[[Tensor], Tensor], guess: Callable[[Tensor], Tensor],
                        d: Tensor, steps: int = 50, tolerance: float = 1e-13,
                        ) -> tuple[Tensor, Tensor]:
    """Solve T x = d for a symmetric positive T, each column of d on its own.

    product: v -> T v. guess: v -> about T^-1 v. d: (..., taps, m, k). Returns x and the residual
    of the worst column relative to d, (...). Source: Hestenes and Stiefel 1952; section 3.8.
    """
    dot = lambda a, b: (a * b).sum((-3, -2), keepdim=True)
    over = lambda a, b: torch.where(b > 0, a / b, 0.0)
    x, r = torch.zeros_like(d), d
    z = direction = guess(r)
    for _ in range(steps):
        T_direction = product(direction)
        step = over(dot(r, z), dot(direction, T_direction))
        x, smaller = x + step * direction, r - step * T_direction
        residual = over(dot(smaller, smaller), dot(d, d)).sqrt().amax((-3, -2, -1))
        if residual.max() < tolerance:
            break
        new_z = guess(smaller)
        direction = new_z + over(dot(smaller, new_z), dot(r, z)) * direction
        r, z = smaller, new_z
    return x, residual

# %% [markdown]
# The bass again:

# %%
print(f"the band's bass: about {-math.log10(missing(bass, conjugate_gradients)):.0f} digits")
assert missing(bass, conjugate_gradients) < 1e-14

# %% [markdown]
# Two details make it safe on real songs. Every channel is first scaled to unit energy, or a quiet source would drown in a loud one's
# rounding. And the guess is made for $T$ plus a trillionth on the diagonal, as $T$ itself may be singular: a singer panned to the middle has two
# equal channels, and infinitely many filters do equally well. Where even that fails, a part of the spectrum is empty, and
# no honest answer exists: then the diagonal is raised a little more and a warning says so (section 3.9 shows a milder case, without a warning).

# %%
#| export
def projection_filters(R: Tensor, D: Tensor) -> Tensor:
    """The filters c of the best projection, T c = D.

    R: (..., taps, m, m), lagged products of the references. D: (..., taps, m, k), those with the
    estimates. Returns (..., taps, m, k). Warns where the references leave a part of the spectrum
    empty, so that the filters depend on rounding. Source: chapter 3, section 3.8.
    """
    level = R[..., 0, :, :].diagonal(dim1=-2, dim2=-1).sqrt()         # (..., m)
    level = torch.where(level > 0, level, 1.0)[..., None, :, None]
    R, D = R / (level * level.mT), D / level
    safer = R.clone()
    safer[..., 0, :, :] += 1e-12 * torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
    filters, residual = conjugate_gradients(toeplitz_product(R), toeplitz_inverse(safer), D)
    failed = ~(residual < 1e-9)
    if failed.any():
        warnings.warn("the references leave a part of the spectrum (nearly) empty: ISR, SIR and "
                      "SAR depend on rounding there. Round the references to 16 bits, or evaluate "
                      "at a lower rate", stacklevel=3)
        safer[..., 0, :, :] += 1e-9 * torch.eye(R.shape[-1], dtype=R.dtype, device=R.device)
        regular, _ = conjugate_gradients(toeplitz_product(safer), toeplitz_inverse(safer), D)
        filters = torch.where(failed[..., None, None, None], regular, filters)
    return filters / level

# %% [markdown]
# **Third: energies need no waveform.** By Parseval's theorem the energy of a signal can be read off its spectrum. So each second is transformed
# once, multiplied by the filters' spectra, and the three errors are measured where they are. Bins between the first and the
# last stand for two mirror images and count twice.

# %%
#| export
def _energies(Z: Tensor, sources: int) -> Tensor:
    """Energy of each source, up to a factor: spectra (source * channel, bin) -> (source,)."""
    norm = lambda z: torch.linalg.vector_norm(torch.view_as_real(z).reshape(sources, -1), dim=-1)
    return 2 * norm(Z) ** 2 - norm(Z[:, [0, -1]]) ** 2


def _frame_ratios(s: Tensor, s_hat: Tensor, C: Tensor, C_own: Tensor, sources: int,
                  n_fft: int) -> Tensor:
    """SDR, ISR, SIR and SAR of one frame (eq. 3.9): (4, source).

    s, s_hat: (source * channel, time). C: spectra of the filters from all references, (reference,
    estimate, bin). C_own: from a source's own channels, (channel, source, channel, bin).
    """
    s, s_hat = s.double(), s_hat.double()
    S, S_hat = torch.fft.rfft(s, n=n_fft), torch.fft.rfft(s_hat, n=n_fft)
    S_own = S.unflatten(0, (sources, -1))       # (source * channel, bin) -> (source, channel, bin)
    P_all, P_own = C[0] * S[0], C_own[0] * S_own[:, :1]
    for i in range(1, len(C)):
        P_all.addcmul_(C[i], S[i])
    for i in range(1, len(C_own)):
        P_own.addcmul_(C_own[i], S_own[:, i:i + 1])
    P_own = P_own.flatten(0, 1)                 # (source, channel, bin) -> (source * channel, bin)
    power = lambda x: torch.linalg.vector_norm(x.reshape(sources, -1), dim=-1) ** 2
    energy = lambda Z: _energies(Z, sources)
    ratios = [power(s) / power(s - s_hat), energy(S) / energy(P_own - S),
              energy(P_own) / energy(P_all - P_own), energy(P_all) / energy(S_hat - P_all)]
    silent = ((power(s) == 0) | (power(s_hat) == 0)).any()
    return torch.where(silent, torch.nan, 10 * torch.stack(ratios).log10())

# %% [markdown]
# One convention of the community is in the last lines: **a second in which any source, true or estimated, is silent is NaN for all sources.**
#
# Two small things before the whole. The result gets names. And the recursion makes thousands of tiny steps; two threads that wait for
# each other at each of them are slower than one, so we ask for one.

# %%
#| export
class BSSEval(NamedTuple):
    """BSSEval's scores in dB, each (source, frame); NaN where a source is silent in the frame."""

    sdr: Tensor                                                       # all errors
    isr: Tensor                                                       # wrong colour or place
    sir: Tensor                                                       # leaks of the other sources
    sar: Tensor                                                       # artefacts


@contextmanager
def _one_thread():
    """PyTorch computes with one thread within."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

# %% [markdown]
# Now the three observations together. First the filters, found once for the whole signal and turned into spectra. Signals so short that the
# delayed copies span *everything* have no artefacts by construction; we answer NaN where `museval` gives its rounding error in decibels.

# %%
#| export
def _filter_spectra(x: Tensor, y: Tensor, sources: int, taps: int,
                    length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spectra of the filters on all references and on a source's own, for `_frame_ratios`.

    x, y: references and estimates (source * channel, time). length: of a frame. Also returns which
    of SDR, ISR, SIR, SAR are defined for so many samples: (4,), booleans.
    """
    R, D = lagged_products(x, torch.cat([x, y]), taps).split(len(x), -1)
    channels = len(x) // sources
    own = [slice(j * channels, (j + 1) * channels) for j in range(sources)]
    R_own, D_own = (torch.stack([Z[:, j, j] for j in own])      # (source, tap, channel, channel)
                    for Z in (R, D))
    enough = [columns * taps < x.shape[-1] + taps - 1 for columns in (channels, len(x))]
    C_own = projection_filters(R_own, D_own) if enough[0] else torch.zeros_like(D_own)
    C = projection_filters(R, D) if enough[1] else torch.zeros_like(D)  # (tap, ref., est.)
    n_fft = 2 * next_fast_len((length + taps) // 2, real=True)    # a frame and its filter's end
    spectra = (torch.fft.rfft(Z.contiguous(), n=n_fft)
               for Z in (C.permute(1, 2, 0), C_own.permute(2, 0, 3, 1)))
    return *spectra, torch.tensor([True, enough[0], enough[1], enough[1]], device=x.device)

# %% [markdown]
# A mistake that everyone makes once: audio in `museval`'s order of axes, `(source, time, channel)`. A time of half a million samples would
# be taken for as many channels, and the lagged products of all with all would ask for more memory than there is. So we look first.

# %%
#| export
def _check_axes(sources: int, channels: int, time: int) -> None:
    """ValueError where there are more channels or sources than samples (up to 8 are believed)."""
    if max(sources, channels) > max(time, 8):
        order = "time, source, channel" if sources > channels else "source, time, channel"
        fix = "movedim(0, -1)" if sources > channels else "swapaxes(1, 2)"
        raise ValueError(f"references and estimates ({sources}, {channels}, {time}) would be "
                         f"{sources} sources of {channels} channels with {time} samples; expected "
                         f"(source, channel, time). If the axes are ({order}), as in museval, "
                         f"pass x.{fix} of both")

# %% [markdown]
# And the whole. Signals shorter than a frame make one frame.

# %%
#| export
@_one_thread()
@torch.no_grad()
def bss_eval(references: Tensor, estimates: Tensor, rate: float, seconds: float = 1.0,
             taps: int = 512) -> BSSEval:
    """SDR, ISR, SIR and SAR of BSSEval v4 (eq. 3.9), equal to museval's: references come FIRST.

    references, estimates: (source, channel, time), floats of one shape. rate: Hz. seconds: of a
    frame; frames don't overlap, a rest is dropped, a shorter signal is one frame. taps: length of
    the forgiven filters, found once for the whole signal. No permutation is tried: estimate j
    belongs to reference j. Returns four (source, frame) in float64, without gradient: NaN for a
    frame in which any source or estimate is silent; ISR, SIR, SAR also where the signal is too
    short for the filters. ValueError for other shapes, for axes in museval's order, NaN, no
    samples. Source: Vincent et al. 2006; Stoeter et al. 2018; chapter 3, sections 3.7 and 3.8.
    """
    _check_pair(estimates, references, ("source", "channel", "time"), batch=False)
    _check_axes(*references.shape)
    sources, channels, time = references.shape
    length = min(round(rate * seconds), time)
    if length < 1 or taps < 1:
        raise ValueError(f"rate {rate}, seconds {seconds}, taps {taps}: expected a frame and a "
                         "filter of 1 sample or more")
    x, y = (z.flatten(0, 1).double() for z in (references, estimates))   # (source * channel, time)
    C, C_own, defined = _filter_spectra(x, y, sources, taps, length)
    whole = time - time % length
    frames = zip(x[:, :whole].split(length, -1), y[:, :whole].split(length, -1))
    scores = torch.stack([_frame_ratios(s, s_hat, C, C_own, sources, 2 * C.shape[-1] - 2)
                          for s, s_hat in frames], -1)             # (score, source, frame)
    return BSSEval(*scores.where(defined.view(4, 1, 1), torch.nan))

# %% [markdown]
# Equal to the slow version, to `museval` on noise, and to `museval` on the band song: four stereo sources would take it too long here, so here
# are two of them, three seconds, mono. (The tests compare more: four stereo sources, speech, odd lengths, singular cases.)

# %%
ours = torch.stack(bss_eval(small, small_guess, 500, taps=8))  # (score, source, frame)
assert torch.allclose(ours[..., 0], slow, atol=1e-9)
theirs = by_museval(small[:, :, :499], small_guess[:, :, :499], rate=100, taps=8)
ours = torch.stack(bss_eval(small[:, :, :499], small_guess[:, :, :499], rate=100, taps=8))
assert ours.shape == (4, 2, 4) and (theirs is None or torch.allclose(ours, theirs, atol=1e-9))
pair = [z[::3, :, :3 * track.rate].mean(1, keepdim=True)       # drums and vocals, mono
        for z in (sources, estimates)]
theirs, ours = by_museval(*pair, track.rate), torch.stack(bss_eval(*pair, track.rate))
assert theirs is None or (ours - theirs).abs().max() < 1e-3
show_table([[name, *row] for name, row in zip(("SDR", "ISR", "SIR", "SAR"), ours[:, 1].tolist())],
           ["vocals, dB", "second 1", "second 2", "second 3"], digits=1)

# %% [markdown]
# And the speed, on thirty seconds of four stereo sources, measured by `benchmarks/metrics_speed.py`: both on the same
# cores, one after the other, in one run. *Seconds* are what the clock shows, and grow when the machine has other work; *processor
# seconds* count only what the program used: compare those.

# %%
speed = measured("03_metrics/speed")
columns = ("threads", "seconds", "processor_seconds", "times_faster", "times_faster_processor")
show_table([[row["what"], *(float(row[name]) for name in columns)] for row in speed],
           ["four stereo sources, 30 s", "threads", "seconds", "processor seconds", "times faster",
            "by processor time"],
           digits={"threads": 0, "times faster": 1, "by processor time": 1},
           caption=f"Largest difference of any score: {speed[-1]['largest_difference_db']} dB.")

# %% [markdown]
# ### The older SDR, which forgives a filter
#
# With one source, one channel and one tap the projection is SI-SDR's $\alpha$. With 512 taps it is the SDR of BSSEval v3, which speech papers and
# `mir_eval` mean by the name:
#
# $$ \text{SDR}_\text{v3} = 10 \log_{10} \frac{\lVert P_j \hat s \rVert^2}{\lVert \hat s - P_j \hat s \rVert^2}. \tag{3.13} $$
#
# So SI-SDR forgives one number, the volume, and v3 forgives 512 of them: mild equalisers, short echoes, delays up to 511 samples.

# %%
#| export
@_one_thread()
def sdr_after_filter(estimates: Tensor, references: Tensor, taps: int = 512) -> Tensor:
    """SDR of BSSEval v3 in dB over the last axis (eq. 3.13): the best filter is forgiven.

    estimates, references: (..., time), floats of one shape. taps: length of the filter; 1 gives
    `si_sdr`. Returns (...) in float64, exact up to about 100 dB; NaN where either is silent.
    ValueError as in `snr` and for taps < 1. Source: Vincent et al. 2006; chapter 3, section 3.8.
    """
    _check_pair(estimates, references)
    if taps < 1:
        raise ValueError(f"taps is {taps}; expected a filter of 1 sample or more")
    s, s_hat = references.double(), estimates.double()
    n_fft = 2 * next_fast_len((s.shape[-1] + taps) // 2 + 1, real=True)
    S, S_hat = torch.fft.rfft(s, n=n_fft), torch.fft.rfft(s_hat, n=n_fft)
    lags = lambda Z: torch.fft.irfft(Z, n=n_fft)[..., :taps, None, None]   # (..., tap, 1, 1)
    D = lags(S.conj() * S_hat)
    explained = (projection_filters(lags(S.abs() ** 2), D) * D).sum((-3, -2, -1))
    total = (s_hat ** 2).sum(-1)
    heard = ((s ** 2).sum(-1) > 0) & (total > 0)
    return _decibels(explained, (total - explained).clamp_min(0), heard, s)

# %% [markdown]
# One tap is SI-SDR; many taps forgive a delay, and still not the hiss.

# %%
one_tap = sdr_after_filter(noisy, song, taps=1)
assert torch.allclose(one_tap.float(), si_sdr(noisy, song), atol=1e-3)
late = song.roll(10, -1)
print(f"ten samples late: SI-SDR {si_sdr(late, song).item():.1f} dB; forgiving a filter: "
      f"{'over 40' if sdr_after_filter(late, song) > 40 else 'under 40'} dB")
assert sdr_after_filter(late, song) > 40 and sdr_after_filter(noisy, song) < 21

# %% [markdown]
# ## 3.9 What each number hears
#
# Do the four ratios do what they promise? We take the true vocals, damage them in one way at a time, and leave the other stems' estimates
# alone. Four kinds of damage: the drums leak in, white noise is added, the treble is taken away by averaging eight neighbouring samples, and
# the right channel is turned down by half.

# %%
vocals = sources[3]                                                    # (channel, time)
noise = torch.randn(vocals.shape, generator=P.generator)
noise = noise * (vocals.pow(2).sum() / noise.pow(2).sum()).sqrt()

def moving_mean(x, before, after):
    """Each sample of x (channel, time) replaced by the mean of itself and its neighbours."""
    count = before + 1 + after
    return F.conv1d(F.pad(x[:, None], (before, after)), torch.full((1, 1, count), 1 / count))[:, 0]

damage = {"drums leak in": vocals + 0.2 * sources[0], "noise added": vocals + 0.1 * noise,
          "treble taken away": moving_mean(vocals, 7, 0),      # of 8 samples
          "right channel at half": vocals * torch.tensor([[1.0], [0.5]]),
          "ratio mask (nothing else)": estimates[3]}

# %% [markdown]
# Each damaged version takes the place of the vocals' estimate; the table gives the vocals' scores.

# %%
def four_numbers(vocals_estimate):
    """Median over seconds of the vocals' SDR, ISR, SIR, SAR: (4,). Others by the mask."""
    guess = torch.cat([estimates[:3], vocals_estimate[None]])
    return median_over_frames(torch.stack(bss_eval(sources, guess, track.rate))[:, 3])

heard = {name: four_numbers(x) for name, x in damage.items()}
show_table([[name, *map(in_words, row.tolist())] for name, row in heard.items()],
           ["damage to the vocals", "SDR", "ISR", "SIR", "SAR"],
           caption="dB, median over six seconds of one band song.")

# %% [markdown]
# Each damage is met by its own number: the leak by SIR while SAR stays perfect, the noise by SAR most, the wrong
# place by ISR alone. (SIR falls for the noise too: a part of any noise resembles some filtered source.) The dull one is *mostly* ISR's; a bit
# reaches SAR, for the frames are cut out of the song and the filter's edges don't fit. And mind a trap of section 3.4: the mean of eight samples looks
# back only, so it is also 3.5 samples late, and much of its low SDR is that delay. Centred (on seven samples), its SDR is higher but its SAR far lower: the
# filters that are forgiven may delay, never advance. Listen to three of them. Which one is worst **to you**? The SDR of the noisy one is the best of the three.

# %%
assert heard["drums leak in"][2] < heard["drums leak in"][1] and heard["drums leak in"][3] > 100
assert heard["noise added"][3] < heard["noise added"][2] < heard["noise added"][1]
assert heard["right channel at half"][1] < 10 and min(heard["right channel at half"][2:]) > 100
assert heard["treble taken away"].argmin() <= 1                # SDR and ISR, not SIR or SAR
assert heard["noise added"][0] > max(heard["drums leak in"][0], heard["treble taken away"][0])
on_time = four_numbers(moving_mean(vocals, 3, 3))
print(f"treble taken away, without the delay: SDR {on_time[0]:.1f} dB, SAR {on_time[3]:.1f} dB")
assert on_time[0] > heard["treble taken away"][0] + 3
assert on_time[3] < heard["treble taken away"][3] - 10
for name in ("drums leak in", "noise added", "treble taken away"):
    listen(damage[name].mean(0)[:4 * track.rate], track.rate,
           f"vocals, {name}: SDR {heard[name][0]:.1f} dB")

# %% [markdown]
# ### What a forgiven filter hides
#
# Now cut a band out of the vocals, with nothing else wrong, and compare the plain ratios with the older SDR that forgives a filter (3.13).

# %%
def without_band(x, low, high):
    """x without the frequencies between low and high hertz."""
    X, f = torch.fft.rfft(x), torch.fft.rfftfreq(x.shape[-1], 1 / track.rate)
    return torch.fft.irfft(X * ~((f > low) & (f < high)), n=x.shape[-1])

voice = vocals.mean(0)
bands = {(300, 600): None, (1000, 2000): None, (3000, 22050): None}
for band in bands:
    bands[band] = [float(metric(without_band(voice, *band), voice))
                   for metric in (sdr, si_sdr, sdr_after_filter)]
show_table([[f"{low} to {high} Hz missing", *row] for (low, high), row in bands.items()],
           ["vocals", "SDR", "SI-SDR", "SDR after a filter (v3)"], digits=1,
           caption="dB. Six seconds of one band song, mono.")
assert all(row[2] > max(row[0], row[1]) + 2 for row in bands.values())
listen(without_band(voice, 300, 600)[:4 * track.rate], track.rate, "vocals without 300 to 600 Hz")

# %% [markdown]
# With its fundamentals gone the voice is thin and hollow. SDR and SI-SDR say so. The older SDR still gives a respectable value: it filtered *the
# reference* in the same way before comparing. That is the failure which Le Roux and others published in 2019, and why SI-SDR replaced it in speech.
# BSSEval v4 kept the filter out of SDR, and only ISR, SIR and SAR use it.
#
# ### When a part of the spectrum is empty
#
# The filters have another weakness, less known. Take two recordings, both decoded from a lossy file, and score the ratio mask's estimates. Then
# round everything to 16 bits, as on a CD, and score again. The rounding error stays 96 dB below full scale; nobody could hear it.

# %%
pair = torch.stack([recording(name, start=10.0, seconds=3.0)[0] for name in ("brahms", "fishin")])
pair_rate = 44100
pair_guess = estimate_by(lambda S: ideal_ratio_mask(S, 1), pair)
to_cd = lambda x: (x * 32768).round() / 32768

def moved_by_rounding(seconds):
    """The largest change of each score, in dB, with frames of so many seconds: by name."""
    raw = bss_eval(pair, pair_guess, pair_rate, seconds)
    rounded = bss_eval(to_cd(pair), to_cd(pair_guess), pair_rate, seconds)
    return {name: float((one - other).abs().max())
            for name, one, other in zip(BSSEval._fields, raw, rounded)}

moved = moved_by_rounding(1.0)
roughly = lambda value: f"over {10 * (value // 10):.0f} dB" if value > 10 else "under 1 dB"
show_table([[name.upper(), roughly(value)] for name, value in moved.items()],
           ["score", "largest change by rounding to 16 bits"],
           caption="Two recordings, three seconds. Only the size is given: what the filters do in "
                   "an empty band depends on the last bit, and differs from computer to computer.")
assert max(moved["sdr"], moved["isr"]) < 1 and min(moved["sir"], moved["sar"]) > 10

# %% [markdown]
# SDR and ISR hardly move; **SIR and SAR change by many decibels**. Why? The codec left the top of the spectrum all but empty:

# %%
spectrum = lambda x: stft(x.double()).abs().pow(2)[..., 4:-4].mean((1, 3))     # (recording, bin)
above_19_khz = lambda x: 10 * torch.log10(spectrum(x)[:, 883:].mean(1) / spectrum(x).mean(1))
levels = zip(("brahms", "fishin"), above_19_khz(pair), above_19_khz(to_cd(pair)))
for name, before, after in levels:
    print(f"{name}: above 19 kHz {-before:.0f} dB below the mean bin, rounded {-after:.0f} dB")

# %% [markdown]
# There the best filter may amplify by any factor, as there is nothing to amplify, until a frame is cut out of the song: the cut makes a
# click, the click has treble, and the filter blows it up. If that is the reason, a frame that holds *all* three seconds, with no cut inside,
# must be immune:

# %%
uncut = moved_by_rounding(3.0)
print("one frame of three seconds:", {name: roughly(value) for name, value in uncut.items()})
assert max(uncut.values()) < 0.1

# %% [markdown]
# It is: the same filters, the same rounding, and no score moves by a tenth of a decibel. `museval` solves the same equations and has the same
# weakness. Our `bss_eval` warns only where no number is left that deserves the name. So: **score SIR and SAR on references that have a
# noise floor**, such as 16-bit files, and be wary of them after resampling.
#
# <details><summary>Quick question: why can SDR never suffer from this?</summary>
#
# It uses no filter: (3.9) compares the estimate with the reference, sample by sample.
# </details>

# %% [markdown]
# ## 3.10 Bugs and habits that raise a score
#
# Return the mixture itself for every stem: nothing was separated, and the honest score is far below zero. Now watch what some mistakes
# make of it. All have been made.

# %%
def fitted(estimates, references):
    """The estimates at the volume that suits the reference best."""
    e, s = flat(estimates), flat(references)
    return estimates * _gain(s, e).float()[..., None]          # (source, 1) -> (source, 1, 1)

def without_failures(scores):
    """The scores, those below 0 dB replaced by NaN."""
    return scores.where(scores > 0, torch.nan)

score = lambda e, s: chunk_sdr(e, s, track.rate)
bugs = {
    "none (the mixture as estimate)": score,
    "estimates and references swapped": lambda e, s: score(s, e),
    "volume fitted with the reference's help": lambda e, s: score(fitted(e, s), s),
    "seconds below 0 dB left out as 'failed'": lambda e, s: without_failures(score(e, s)),
    "a limiter left in the path (clipped at 0.1)": lambda e, s: score(e.clamp(-0.1, 0.1), s),
    "half of the true other stems subtracted": lambda e, s: score(e - 0.5 * (e - s), s),
}

# %% [markdown]
# Each bug, on all songs:

# %%
def inflated(bug):
    """Mean over stems of the median over seconds, NaN left out, for each song: (song,)."""
    results = []
    for one in tracks:
        s = one.sources(STEMS)
        results.append(median_over_frames(bug(s.sum(0).expand_as(s), s)).nanmean())
    return torch.stack(results)

by_bug = {name: mean_interval(inflated(bug)) for name, bug in bugs.items()}
show_table([[name, interval] for name, interval in by_bug.items()],
           ["bug", "mean SDR (dB)"], digits=1,
           caption=f"Mean and 95% interval over {len(tracks)} band songs of 20 s, four stems.")
honest, *others = [centre for centre, _, _ in by_bug.values()]
assert honest < -3 and all(centre > honest + 4.5 for centre in others)

# %% [markdown]
# Every one of them raises the score by about 5 dB or more, without separating anything. Note two. **The swap** can't be seen in SI-SDR at
# all, which is symmetric (exercise 2). **The last** is a leak: somewhere the truth reached the estimate, for example because the "mixture minus the other
# stems" was taken with the *true* others, or because training songs are among the test songs.
#
# How do you catch such things? With estimates whose score you know beforehand. Silence must get 0 dB, the mixture the value it has in the paper
# you compare with, the reference infinity, and a shuffled list of songs must score like silence or worse. **Run these four before every evaluation.**

# %%
s = sources
shuffled = tracks[2].excerpt(4.0, 6.0).sources(STEMS)          # another song
assert (utterance_sdr(torch.zeros_like(s), s).abs() < 1e-3).all()
assert utterance_sdr(s, s).min() > 80 and (utterance_sdr(mixture.expand_as(s), s) < 0).all()
assert (utterance_sdr(shuffled, s) < 0).all()
perfect = bss_eval(s, s, track.rate).sdr
assert (perfect.isnan() | (perfect == math.inf)).all() and (perfect == math.inf).any()

# %% [markdown]
# ## 3.11 A table of scores, and how to read it
#
# Three ideal masks and two trivial estimates (silence would get 0 dB) on several songs, by BSSEval v4. Does the order of the methods depend on the number you look at?
# (The binary mask gives each point to the loudest source, the ratio masks share it: chapter 1.)

# %%
methods = {
    "the mixture": lambda s: s.sum(0).expand_as(s),
    "a quarter of the mixture": lambda s: 0.25 * s.sum(0).expand_as(s),
    "binary mask": lambda s: estimate_by(ideal_binary_mask, s),
    "ratio mask, p = 1": lambda s: estimate_by(lambda S: ideal_ratio_mask(S, 1), s),
    "ratio mask, p = 2": lambda s: estimate_by(ideal_ratio_mask, s),
}

def all_scores(track):
    """Median over seconds, (method, score, stem), scores in the order of BSSEval."""
    references = track.excerpt(10.0 - P.seconds / 2, P.seconds).sources(STEMS)
    scores = [bss_eval(references, method(references), track.rate) for method in methods.values()]
    return torch.stack([median_over_frames(torch.stack(score)) for score in scores])

by_track = [all_scores(one) for one in progress(tracks, "BSSEval")]
table = torch.stack(by_track)                                  # (track, method, score, stem)

# %% [markdown]
# The median over the tracks, then the mean over the stems:

# %%
middle = median_over_frames(table.movedim(0, -1)).mean(-1)     # (method, score)
show_table([[name, *map(in_words, row.tolist())] for name, row in zip(methods, middle)],
           ["dB, mean over stems", "SDR", "ISR", "SIR", "SAR"],
           caption=f"Median over seconds, then over {len(tracks)} band songs; {P.seconds:.0f} s "
                   "of each.")
row_of = lambda name: middle[list(methods).index(name)]
sharing, choosing = row_of("ratio mask, p = 1"), row_of("binary mask")
assert choosing[2] > sharing[2] and choosing[3] < sharing[3]   # fewer leaks, more artefacts

# %% [markdown]
# It does. Compared with the soft mask, **the binary mask leaks less and gurgles more**: SIR up, SAR down. It is the oldest trade in separation, and
# one number can't show it. And look at SAR alone: the mixture, in which nothing was separated, has no artefacts at all.
# A table with SAR and without SIR is worth nothing.
#
# SDR with intervals, per stem. With a handful of songs the intervals of good methods overlap: seen like this, half a decibel looks like nothing.

# %%
by_method = {name: table[:, i, 0] for i, name in enumerate(methods)}
bounds = {name: by_method.pop(name) for name in ("the mixture", "a quarter of the mixture")}
axis = plot_scores(by_method, STEMS, bounds)
show(axis, f"SDR by BSSEval v4 on {len(tracks)} band songs, median and 95% interval over songs.",
     "Dots with wide, overlapping intervals for three masks per stem, grey lines of the trivial "
     "estimates far below.")

# %% [markdown]
# Songs differ more than methods do, so compare methods *on the same songs*: the interval of the difference, song by song, is far narrower than
# that of either method.

# %%
difference = (table[:, 4, 0] - table[:, 2, 0]).mean(-1)        # ratio p = 2 minus binary, (track,)
apart = [median_interval(table[:, i, 0].mean(-1)) for i in (4, 2)]
paired = median_interval(difference)
width = lambda interval: interval[2] - interval[1]
narrower = width(paired) / max(map(width, apart))
print(f"ratio mask, p = 2, above binary mask: {paired[0]:.1f} dB, "
      f"95% interval {paired[1]:.1f} to {paired[2]:.1f} dB")
print(f"the paired interval is {narrower:.0%} as wide as that of one method")
assert paired[1] > 0 and narrower < 0.5

# %% [markdown]
# ## 3.12 Ask the ears: a blind listening test
#
# All these numbers stand in for a listener. To know which one does it well you have to ask listeners, in a way that keeps hope and habit out. The
# standard for audio of middling quality is **MUSHRA** (ITU-R BS.1534): *multiple stimuli with hidden reference and anchor*.
#
# - The rater hears the open reference, and several *conditions* under letters, in random order.
# - One of the letters **is the reference**: who gives it less than 90 wasn't listening, or can't hear the difference.
# - Others are *anchors*, bad on purpose, so that everyone uses the scale alike.
# - Each gets 0 to 100: bad, poor, fair, good, excellent.
#
# For separation Emiya and others (2011) proposed anchors that are bad in *one* way each. The distortion anchor is the target without treble (3.5 kHz)
# and with a fifth of its points of time and frequency set to zero; the interference anchor is the target with the other sources added, equally loud.

# %%
#| export
def distortion_anchor(target: Tensor, rate: float, generator: torch.Generator, top: float = 3500.0,
                      holes: float = 0.2) -> Tensor:
    """The target as a bad separator would distort it: no treble, and holes.

    target: (..., time). generator: of the holes. top: Hz, where the treble begins. holes: the
    share of points of time and frequency set to zero, 0 to 1. Returns (..., time). ValueError for
    a share outside 0..1. Source: Emiya et al. 2011; chapter 3, section 3.12.
    """
    check_audio(target=target)
    if not 0 <= holes <= 1:
        raise ValueError(f"holes is {holes}; expected a share from 0 to 1")
    S = stft(target)                                               # (..., bin, frame)
    kept = torch.rand(S.shape, generator=generator) >= holes
    below = torch.linspace(0, rate / 2, S.shape[-2]) <= top        # (bin,)
    return istft(S * (kept & below[:, None]).to(S.device), length=target.shape[-1])


def interference_anchor(target: Tensor, others: Tensor) -> Tensor:
    """The target with the other sources added, at the target's own energy.

    target, others: (..., channel, time), others the sum of all other sources. Returns the same
    shape. Where the others are silent it is the target. Source: Emiya et al. 2011; section 3.12.
    """
    check_audio(target=target, others=others)
    one, rest = (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
                 for x in _in_64_bits(target, others))
    return target + others * torch.where(rest > 0, one / rest, 0.0).to(others.dtype)

# %% [markdown]
# The interference anchor has an SDR that we know: 0 dB, its error being as loud as the target. (In the listening test it was balanced in stereo over six
# seconds; the clips there are mono and three seconds long, so that their value is near 0 but not exactly.) And the distortion anchor next to nothing above 5 kHz (a
# masked picture is not quite the picture of a sound: chapter 1, section 1.11).

# %%
others = mixture - vocals
anchor = interference_anchor(vocals, others)
assert abs(float(utterance_sdr(anchor, vocals))) < 0.01        # an error as loud as the target
dull = distortion_anchor(vocals, track.rate, P.generator)
treble = torch.fft.rfft(dull)[:, 5000 * dull.shape[-1] // track.rate:].abs().pow(2).sum()
assert treble < 1e-3 * torch.fft.rfft(dull).abs().pow(2).sum()

# %% [markdown]
# The test itself: vocals and drums of the song, three seconds each, mono. Conditions are two masks and two anchors; the hidden reference is put in by
# the test. **Run the cell, write your name, put on headphones, and move every slider.** Your ratings are added to a CSV file, one
# line a rating. (As stored you see the players of the first page; sliders need a running kernel.)

# %%
from course_lib.notebook.listening import (ListeningTest, available_ratings, correlate,
                                           screen_raters)
from course_lib.paths import data_dir

binary = estimate_by(ideal_binary_mask, sources)
items, clip = {}, slice(0, 3 * track.rate)
for j in (3, 0):
    target, rest = sources[j], mixture - sources[j]
    sounds = {"reference": target, "ratio mask": estimates[j], "binary mask": binary[j],
              "anchor: distortion": distortion_anchor(target, track.rate,
                                                      torch.Generator().manual_seed(j)),
              "anchor: interference": interference_anchor(target, rest)}
    items[STEMS[j]] = {name: x.mean(0, keepdim=True)[:, clip] for name, x in sounds.items()}

# %% [markdown]
# Write your name into the next cell, and run it.

# %%
ratings_file = data_dir() / "listening" / "chapter_03.csv"
test = ListeningTest(items, track.rate, ratings_file, rater="write your name here", seed=0)
test

# %% [markdown]
# While you listen, the metrics have made up their minds. Every condition is scored against its reference; for SIR and SAR the second
# source is the rest of the song, its estimate the mixture minus the condition.

# %%
def metric_scores(item):
    """Metric -> {(item, condition): value} for one page of the test."""
    reference = items[item]["reference"]
    song_mono = mixture.mean(0, keepdim=True)[:, clip]
    scores = {name: {} for name in ("SDR", "SI-SDR", "SIR", "SAR")}
    for condition, x in items[item].items():
        true, found = (torch.stack([z, song_mono - z]) for z in (reference, x))
        parts = bss_eval(references=true, estimates=found, rate=track.rate)
        values = {"SDR": utterance_sdr(x, reference), "SI-SDR": si_sdr(x, reference)[0],
                  "SIR": median_over_frames(parts.sir[0]), "SAR": median_over_frames(parts.sar[0])}
        for name, value in values.items():
            scores[name][item, condition] = float(value) if condition != "reference" else math.inf
    return scores

scores_of = metric_scores("vocals")
for metric, more in metric_scores("drums").items():
    scores_of[metric] |= more
rows = [[*key, *(in_words(scores[key]) for scores in scores_of.values())]
        for key in scores_of["SDR"]]
show_table([row for row in rows if row[1] != "reference"], ["item", "condition", *scores_of],
           caption="dB. Three seconds of one band song, mono.")
broken = "anchor: distortion"
for mask in ("ratio mask", "binary mask"):
    assert all(scores_of["SIR"][item, broken] > scores_of["SIR"][item, mask] for item in items)
    assert scores_of["SAR"]["vocals", broken] > scores_of["SAR"]["vocals", mask]

# %% [markdown]
# Look at the anchors. To SDR the distortion anchor is far better than the interference anchor, to SAR far worse. And SIR puts the distortion
# anchor, which sounds like a broken telephone, *above both masks*, as SAR does for the vocals: of BSSEval's three parts only ISR, which is not in this table, counts missing treble (section 3.9). What do you say? That is the
# question of this section.
#
# ### From ratings to a correlation
#
# A metric is good if it puts sounds in the order in which listeners put them. *Pearson's* coefficient asks whether rating and metric
# lie on one straight line, *Spearman's* whether they rank alike. Both are 1 for perfect agreement and 0 for none. Three cautions are
# built into the functions: raters who put the hidden reference under 90 in more than 15% of the items are left out; the reference
# itself doesn't count (its score is infinite); and the interval resamples *items*: use one per song, since sounds of one song aren't
# independent. (Our two are from one song, enough to try it, not to conclude.)
#
# **No ratings come with the course.** The next cell works on yours, or on any CSV with the columns `rater, item, condition, rating`. Without one it says so.

# %%
ratings = available_ratings(ratings_file)
if not ratings:
    print("no ratings here: run the listening test above, or set ratings_file to another CSV")
else:
    kept, left_out = screen_raters(ratings)
    print(f"{len({rating.rater for rating in kept})} raters kept, left out: {left_out or 'none'}")
    results = {metric: correlate(kept, scores) for metric, scores in scores_of.items()}
    show_table([[metric, result.pearson, result.spearman] for metric, result in results.items()],
               ["metric", "Pearson", "Spearman"],
               caption=f"{results['SDR'].pairs} sounds of {results['SDR'].items} items.")

# %% [markdown]
# How many raters and songs does it take? About twenty raters are often enough, says BS.1534. And songs: with two items the interval covers nearly
# everything. Jaffe and Burgoyne (2025) had about thirty ratings for each of MUSDB18's test songs.
#
# ### Two metrics that we don't build here
#
# - **PEASS** (Emiya and others 2011) splits the error into the same kinds of parts as BSSEval, then passes each through a model of the ear and
#   asks how salient it is; a small network fitted to listeners' ratings turns that into scores. Its authors' code is in MATLAB.
# - **FAD**, the *Fréchet audio distance*, needs no reference for the estimate at hand. A network that was trained on other sounds turns each short piece of audio into a
#   vector, an *embedding*. The embeddings of all estimates form one cloud, those of true stems another; each is summed up by its mean $\mu$ and covariance $\Sigma$, and the
#   distance of the two Gaussians is $\lVert \mu - \mu' \rVert^2 + \operatorname{tr}\big(\Sigma + \Sigma' - 2 (\Sigma \Sigma')^{1/2}\big)$. It depends on the network: *CLAP* is one that learned
#   to put sounds and their descriptions near each other, and `LAION-music` is its version for music. (Chapter 5 builds embeddings of this kind, as losses.)
#
# The claims below speak of *Kendall's tau*. Like Spearman's coefficient it compares two orders: of all pairs of sounds, the share that rating and metric
# put in the same order, minus the share that they put in opposite ones. With tau 0.25 they agree on five pairs of eight, where guessing gets four.

# %% [markdown]
# ## 3.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `snr`, `sdr`, `si_sdr`, `sd_sdr` | ratios over time, per channel | 3.1 to 3.3 |
# | `improvement` | any of them, compared with the mixture | 3.5 |
# | `utterance_sdr`, `chunk_sdr` | both channels together, a whole song or second by second | 3.6 |
# | `median_over_frames`, `median_over_tracks` | the summary of the literature, NaN left out | 3.6 |
# | `bss_eval`, `BSSEval` | SDR, ISR, SIR, SAR as `museval`'s, fast; **references first** | 3.7, 3.8 |
# | `lagged_products`, `levinson`, `toeplitz_product`, `toeplitz_inverse`, `conjugate_gradients`, `projection_filters` | its parts | 3.8 |
# | `sdr_after_filter` | the older SDR of BSSEval v3 | 3.8 |
# | `distortion_anchor`, `interference_anchor` | anchors of a listening test | 3.12 |
#
# All of it is in `course_lib.metrics`; the listening test is `course_lib.notebook.listening`.

# %% [markdown]
# ## 3.14 Paper claims
#
# What the sources say, and what came out here; the verdicts are computed by the rules of chapter 1's table. What listeners said can only be tested with
# listeners, and none were invented.

# %%
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, Claim, difference_in_words,
                                        reproduced, same_trend, show_claims)

scaled = abs(float(si_sdr(0.5 * noisy, song) - si_sdr(noisy, song)))
lost = float(snr(noisy, song) - snr(0.5 * noisy, song))
v4 = bss_eval(sources, estimates, track.rate).sdr
plain_v4 = float((v4 - chunk_sdr(estimates, sources, track.rate)).abs().nan_to_num(0).max())
gap = float(measured("03_metrics/speed")[0]["largest_difference_db"])

# %% [markdown]
# The two orders of section 3.9 were shown on one song. Here they are asked of every song:

# %%
def hidden(track):
    """How far the SDR that forgives a filter is above the plain one, 1 to 2 kHz missing, in dB."""
    x = track.excerpt(4.0, 6.0).sources(["vocals"])[0].mean(0)
    y = without_band(x, 1000, 2000)
    return float(sdr_after_filter(y, x) - sdr(y, x))

def apart(track):
    """SAR minus SIR of a leak, or SIR minus SAR of noise, whichever is less; in dB."""
    s, gaps = track.excerpt(4.0, 6.0).sources(STEMS), []
    hiss = noise * (s[3].pow(2).sum() / noise.pow(2).sum()).sqrt()
    for guess, sign in ((s[3] + 0.2 * s[0], 1), (s[3] + 0.1 * hiss, -1)):
        guesses = torch.cat([estimate_by(ideal_ratio_mask, s)[:3], guess[None]])
        scores = torch.stack(bss_eval(s, guesses, track.rate))[:, 3]   # (metric, second)
        sir, sar = median_over_frames(scores)[2:].clamp_max(100)
        gaps.append(sign * float(sar - sir))
    return min(gaps)

hidden_by, apart_by = [hidden(t) for t in tracks], [apart(t) for t in tracks]

# %% [markdown]
# First what can be tested without listeners, then what can't.

# %%
claims = [
    Claim("SI-SDR ignores the volume, SNR doesn't", "Le Roux et al. 2019", "3.3", "exact",
          f"{scaled:.1f} and {lost:.1f} dB lost at half the volume",
          reproduced(scaled, 0, 1e-3) if lost > 1 else NOT_SEEN),
    Claim("The SDR that forgives a filter stays high where a band is missing",
          "Le Roux et al. 2019", "3.9", "order only",
          f"above the plain SDR: {difference_in_words(hidden_by, digits=1)}",
          same_trend(hidden_by)),
    Claim("SIR answers to other sources, SAR to noise", "Vincent et al. 2006", "3.9", "order only",
          f"at least {difference_in_words(apart_by, digits=1)} between them",
          same_trend(apart_by)),
    Claim("The SDR of BSSEval v4 is the plain ratio per second", "Stöter et al. 2018", "3.8",
          "exact", f"{'below' if plain_v4 < 1e-3 else 'above'} 0.001 dB apart",
          reproduced(plain_v4, 0, 1e-3)),
    Claim("Our scores equal museval's", "museval 0.4.1", "3.8", "equal", f"{gap:.0e} dB apart",
          reproduced(gap, 0, 1e-3)),
]
claims += [Claim(row["claim"], row["source"].split(";")[0], "3.12", row["value"],
                 "no ratings here", NEEDS_REAL_DATA) for row in published("metrics_listeners")]
show_claims(claims)

# %% [markdown]
# The listeners' studies don't agree on one best metric, and the newest finds that it depends on the stem. Report several numbers, say
# which, and let people listen.

# %% [markdown]
# ## 3.15 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded
# [assignment of this chapter](assignments/03_metrics.ipynb) has more tasks, with checks
# ([for teachers](assignments/README.md)).
#
# **1. Two heads.** Two separators make errors of equal energy that have nothing to do with each other. What is the SDR of the mean of their two estimates?
#
# <details><summary>Answer</summary>
#
# The errors add up like independent noises: twice the energy, divided by four for the mean, so half, which is 3 dB more. Blending the outputs of
# models, as challenge entries do, gains up to that; where the models err alike it gains less.
#
# ```python
# s, one, two = torch.randn(3, 200_000)
# apart, blended = snr(s + 0.3 * one, s), snr(s + 0.3 * (one + two) / 2, s)
# assert abs(float(blended - apart) - 3.01) < 0.1
# ```
# </details>
#
# **2. An angle.** Show that SI-SDR depends only on the angle between estimate and reference. What follows for someone who
# swaps the two arguments?
#
# <details><summary>Answer</summary>
#
# In the drawing of section 3.3 the two parts of the estimate are $\lVert\hat s\rVert \cos\theta$ and $\lVert\hat s\rVert \sin\theta$, so SI-SDR is
# $20 \log_{10} \lvert\cot \theta\rvert$. The angle is the same from both sides: swapping changes nothing, and no test on SI-SDR can find the bug.
#
# ```python
# s, s_hat = torch.randn(2, 1000, dtype=torch.float64)
# s_hat = s + 0.5 * s_hat
# theta = torch.acos((s @ s_hat) / (s.norm() * s_hat.norm()))
# assert torch.allclose(si_sdr(s_hat, s), -20 * theta.tan().log10())
# assert torch.allclose(si_sdr(s_hat, s), si_sdr(s, s_hat)) and abs(snr(s_hat, s) - snr(s, s_hat)) > 0.1
# ```
# </details>
#
# **3. The score of doing nothing.** Four stems of equal energy, independent of each other. What SDR has the mixture as the estimate of each, what a
# quarter of it, and which factor on the mixture is best?
#
# <details><summary>Answer</summary>
#
# With the factor $g$ the error is $(1 - g) s$ and $g$ times the three others: energy $(1 - g)^2 + 3 g^2$. For $g = 1$ that is 3, or $-4.8$ dB; for
# $g = 1/4$ it is $3/4$, or $1.2$ dB, and no other factor does better: the derivative $-2 (1 - g) + 6 g$ is zero there.
#
# ```python
# stems = torch.randn(4, 400_000)
# score = lambda g: float(snr(g * stems.sum(0), stems[0]))
# assert abs(score(1.0) + 4.77) < 0.1 and abs(score(0.25) - 1.25) < 0.1
# assert score(0.25) > max(score(0.2), score(0.3))
# ```
# </details>
#
# **4. Find the delay.** Write `delay_of(estimate, reference)` that returns by how many samples a mono estimate is late, at most 511.
#
# <details><summary>Answer</summary>
#
# The lagged product of the reference with the estimate is largest where both lie on top of each other. One `argmax` of a function that we have.
# Its absolute value finds the delay also where the polarity is wrong.
#
# ```python
# def delay_of(estimate, reference):
#     return int(lagged_products(reference, estimate, 512)[:, 0, 0].abs().argmax())
#
# reference = torch.randn(1, 9000)
# assert delay_of(-F.pad(reference, (37, 0)), reference) == 37
# ```
# </details>
#
# **5. Too short.** How many samples must two mono sources at least have, so that `bss_eval` gives a SAR with 512 taps?
#
# <details><summary>Answer</summary>
#
# The copies of both sources are $2 \cdot 512$ vectors in a space of $n + 511$ dimensions. While $n + 511 \le 1024$ they span all of it, and nothing is left to
# call an artefact. So $n \ge 514$.
#
# ```python
# x = torch.randn(2, 1, 514)
# sar = lambda n: bss_eval(x[..., :n], x[..., :n] + 0.1 * torch.randn(2, 1, n), rate=n).sar
# assert sar(513).isnan().all() and not sar(514).isnan().any()
# ```
# </details>
#
# **6. Open.** Run the listening test of section 3.12 with five people on songs of your own (`items` takes any sounds), and compare the metrics. Before you
# look: write down which one you expect to win, and how large an interval would make you change your mind.

# %% [markdown]
# ## 3.16 Sources
#
# - E. Vincent, R. Gribonval and C. Févotte, *Performance measurement in blind audio source separation*, IEEE TASLP 2006.
# - E. Vincent, S. Araki, F. Theis and others, *The signal separation evaluation campaign (2007–2010): achievements and remaining challenges*, Signal Processing 2012 (image-to-spatial distortion ratio).
# - F.-R. Stöter, A. Liutkus and N. Ito, *The 2018 Signal Separation Evaluation Campaign*, LVA/ICA 2018 (BSSEval v4, `museval`).
# - J. Le Roux, S. Wisdom, H. Erdogan and J. R. Hershey, *SDR – half-baked or well done?*, ICASSP 2019.
# - Y. Mitsufuji and others, *Music Demixing Challenge 2021*, Frontiers in Signal Processing 2022; G. Fabbro and others, *The Sound Demixing Challenge 2023 – Music Demixing Track*, TISMIR 2024.
# - P. Whittle, *On the fitting of multivariate autoregressions, and the approximate canonical factorization of a spectral density matrix*, Biometrika 1963; I. Gohberg and G. Heinig, *Inversion of finite Toeplitz matrices*, 1974; M. R. Hestenes and E. Stiefel, *Methods of conjugate gradients for solving linear systems*, 1952.
# - V. Emiya, E. Vincent, N. Harlander and V. Hohmann, *Subjective and objective quality assessment of audio source separation*, IEEE TASLP 2011 (anchors, PEASS).
# - Recommendation ITU-R BS.1534-3, *Method for the subjective assessment of intermediate quality level of audio systems*, 2015 (MUSHRA).
# - E. Gusó, J. Pons, S. Pascual and J. Serrà, *On loss functions and evaluation metrics for music source separation*, ICASSP 2022; D. Ward, H. Wierstorf, R. Mason, E. Grais and M. Plumbley, *BSS Eval or PEASS? Predicting the perception of singing-voice separation*, ICASSP 2018; N. Jaffe and J. A. Burgoyne, *Musical source separation bake-off*, 2025.
#
# Recordings: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive under CC BY 3.0; Johannes Brahms, *Hungarian Dance No. 5*, US Army Strings, from Musopen, public domain; as shipped for `librosa.ex`.
