# %% [markdown]
# # Chapter 7 · Hybrid Demucs, two U-Nets that meet
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/07_hybrid_demucs.ipynb)
#
# Open-Unmix (chapter 4) sees pictures of sound, Demucs (chapter 6) the sound itself. Each hears something that the other
# misses. This chapter builds the network that does both at once: a U-Net on the waveform and a U-Net on the spectrogram,
# side by side, which meet in the middle, part again, and whose outputs are *added*. Hybrid Demucs won the Music Demixing
# Challenge of 2021. What you build is the real thing: it has the tensor names of the package `demucs`, and gives the same
# output to five digits.
#
# **You will be able to**
# - line up two ways of looking at a sound so that step *m* of one is step *m* of the other,
# - give a network complex spectra as channels, and say what a mask on magnitudes can't do,
# - take a residual branch apart: dilation, a BLSTM on frames, attention that is paid for by distance,
# - assemble Hybrid Demucs from its layers and count the parameters of the published networks,
# - hold a deep network together with group normalisation or a penalty on singular values, and say what either costs,
# - make new training songs out of old ones, with beats and keys that fit.
#
# **You need** chapter 6 (U-Net, GLU, transposed convolution, rescaling) and chapters 1 and 4 (STFT, BLSTM, Wiener filter).
#
# **Time** <!-- minutes 07_hybrid_demucs -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 7.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp hdemucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("07_hybrid_demucs", cpu=dict(songs=2, mix_songs=12), gpu=dict(songs=6, mix_songs=20),
          threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/hdemucs.py`. It stands on chapter 6's residual branch, chapter 4's Wiener
# filter and chapter 1's transform.

# %%
#| export
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.demucs import DConv, repitch, rescale_module
from course_lib.open_unmix import wiener
from course_lib.spectral import istft, stft

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import torchaudio
from course_lib.data import STEMS, open_tracks
from course_lib.data.mono import mono_tracks
from course_lib.demucs import BLSTM, LayerScale, LocalState, joined_middles, overlapping_frames
from course_lib.demucs import separate
from course_lib.experiments import hdemucs as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_losses, plot_spectrogram,
                                 show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.results import measured, measured_card, published, shipped_file
from course_lib.spectral import song_sdr
from course_lib.training import load_trained, read_card

# %% [markdown]
# ## 7.1 What a waveform network leaves behind
#
# First listen. Chapter 6's small Demucs takes a song apart that it has never heard. You hear the true vocals, then what it
# makes of them. Don't listen to the voice: listen to what lies *under* it.

# %%
songs = mono_tracks(lambda: open_tracks("band", "test", count=P.songs), 22_050, 20.0)
song, rate = songs[0], songs[0].rate
waveform_net = load_trained("demucs_band")
with torch.no_grad():
    waveform_stems = separate(waveform_net, song.mixture)          # (source, channel, time)
piece = slice(8 * rate, 12 * rate)
listen(song.sources(["vocals"])[0, :, piece], rate, "vocals, the truth")
listen(waveform_stems[3, :, piece], rate, "vocals, Demucs on the waveform")

# %% [markdown]
# The voice is there, and with it a hiss and crackle that comes and goes with everything else. The author of Demucs says
# the same of the large version 2: on vocals it adds *static noise*. To hear it alone, we keep what lies above 5 kHz, and play
# it as loud as it can be.

# %%
def treble(x, lowest=5000.0):
    """The part of x (channel, time) above a frequency in Hz."""
    X = torch.fft.rfft(x)
    X[..., torch.fft.rfftfreq(x.shape[-1], 1 / rate) < lowest] = 0
    return torch.fft.irfft(X, x.shape[-1])

listen(treble(waveform_stems[3])[:, piece], rate, "above 5 kHz: Demucs", normalize=True)
listen(treble(song.sources(["vocals"])[0])[:, piece], rate, "above 5 kHz: the truth",
       normalize=True)

# %% [markdown]
# A number for it: where the singer pauses, the estimate should be silent. We take the frames in which the true stem is more
# than 60 dB below its loudest frame, and measure two things in a band of frequencies: the level of the estimate, against the
# mixture's, and its **flatness**, the geometric mean of its power over the bins divided by the arithmetic mean,
#
# $$ \text{flatness} = \frac{\exp\big(\tfrac1K \sum_k \log P_k\big)}{\tfrac1K \sum_k P_k}. \tag{7.1} $$
#
# It is 1 where all bins are equally loud and near 0 where one stands out. A tone and noise, as the extremes:

# %%
flatness = lambda P: float(P.log().mean().exp() / P.mean())
tone = torch.full((200,), 1e-6)
tone[50] = 1.0
noise = torch.fft.rfft(torch.randn(400, generator=P.generator)).abs().square()
print(f"a tone {flatness(tone):.2f}, equal bins {flatness(torch.ones(200)):.2f}, "
      f"white noise about {flatness(noise):.1f}")
assert flatness(tone) < 0.01 and abs(flatness(torch.ones(200)) - 1) < 1e-5
assert 0.4 < flatness(noise) < 0.75

# %% [markdown]
# (White noise stays at about a half, because the power of a single frame scatters round its mean.) Now the network:

# %%
def in_pauses(stems):
    """Level and flatness of the vocals' estimate where the singer pauses, by band."""
    return experiment.noise_of(stems[3], song.sources(["vocals"])[0], song.mixture)

rows = in_pauses(waveform_stems)
show_table([[row["band"], float(row["level_db"]),
             float(row["flatness"])]
            for row in rows], ["band", "level in pauses, dB", "flatness"],
           digits={"flatness": 2, "level in pauses, dB": 0},
           caption=f"Vocals of one song, {rows[0]['pauses']} frames in which the singer pauses; "
           "0 dB is the mixture's mean level in that band.")

# %% [markdown]
# What is left in the pauses is partly the other stems, which leak, and partly something without a pitch. A likely reason:
# the last layer draws the wave from a few learned shapes, and to write *nothing* above 5 kHz they must cancel each other
# there to the last digit. A network that writes spectra has it easier: it writes zeros. It has other weaknesses: a drum hit
# is sharp in the waveform and smeared over a whole window in the spectrogram. So take both. For that they need a common
# clock. Whether it helps is measured in section 7.14.

# %% [markdown]
# ## 7.2 Two clocks in step
#
# A convolution with kernel $K$ and stride $S$ turns $L$ samples, with $p$ zeros put around either end, into
# $\lfloor (L + 2p - K)/S \rfloor + 1$ steps. We want $L/S$ of them, so that steps can be counted in samples:
#
# $$ p = \frac{K - S}{2} \quad\Longrightarrow\quad \Big\lfloor \frac{L - S}{S} \Big\rfloor + 1 = \frac{L}{S}
#    \qquad\text{for every } L \text{ that } S \text{ divides.} \tag{7.2} $$
#
# Then step $m$ is centred on the middle of the samples $mS \dots (m+1)S - 1$. The smallest case, $K = 8$, $S = 4$:

# %%
x = torch.zeros(1, 1, 16)
kernel = torch.ones(1, 1, 8)
for p in (0, 2, 4):
    print(f"padding {p}: {F.conv1d(x, kernel, stride=4, padding=p).shape[-1]} steps of 16 / 4")
assert F.conv1d(x, kernel, stride=4, padding=2).shape[-1] == 4

# %% [markdown]
# **The STFT is such a convolution, too**: its kernel is the window, `nfft` samples long, its stride the hop. With a hop of a
# quarter of the window, (7.2) asks for $p = (4 - 1)/2 = 3/2$ hops. `torch.stft` pads by half a window, 2 hops, so that
# its frames lie on the *edges* of the hops, one more frame than hops. We therefore pad by ourselves, and switch its padding
# off. In place of zeros we mirror the sound, so that no frame sees an edge.

# %%
figure, axis = plt.subplots(figsize=(8, 2.4))
for m in range(4):
    axis.plot([16 * m - 24, 16 * m + 40], [m, m], color="C0", lw=3)  # a window of 64
    axis.plot(16 * m + 8, m, "o", color="C0")
    axis.plot([16 * m, 16 * m + 16], [m - 0.3, m - 0.3], color="C1", lw=3)  # a hop of 16
for edge in range(0, 65, 16):
    axis.axvline(edge, color="0.8", lw=0.8)
axis.axvspan(-24, 0, color="0.93")
axis.axvspan(64, 88, color="0.93")
axis.set(xlabel="sample", ylabel="frame", yticks=range(4), xticks=range(-16, 97, 16),
         ylim=(-0.8, 3.5))
show(
    figure,
    "Four windows of 64 samples (blue) over four hops of 16 (orange): with 3/2 hops of padding, "
    "grey, each window is centred on its hop.",
    "Four staggered long bars with a dot in the middle, each above a short bar of a quarter of "
    "its length; the outer bars reach into grey margins.")

# %% [markdown]
# A sound that isn't a whole number of hops is filled up. And a sound shorter than what the mirror needs gets zeros first:

# %%
#| export
def padded_to_hops(x: Tensor, hop_length: int, reflect: bool = True) -> Tensor:
    """Audio with 3/2 hops more before it, and after it as much and what fills up its last hop.

    x: (batch, channel, time). hop_length: even. Frames of 4 hops then number ceil(time / hop),
    and frame m is centred on the middle of hop m (eq. 7.2). reflect: mirror the ends; where the
    sound is too short for that, zeros follow it first. Else zeros. Source: section 7.2.
    """
    before = 3 * hop_length // 2
    after = before + -x.shape[-1] % hop_length
    if not reflect:
        return F.pad(x, (before, after))
    zeros = max(0, after + 1 - x.shape[-1])
    return F.pad(F.pad(x, (0, zeros)), (before, after - zeros), mode="reflect")

# %% [markdown]
# See it on five samples, hops of 4, so 6 samples before, 6 and a rest of 3 after them:

# %%
print(padded_to_hops(torch.tensor([[[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]]]), 4).int().tolist()[0][0])
print(padded_to_hops(torch.tensor([[[1.0, 2, 3, 4, 5]]]), 4).int().tolist()[0][0])

# %% [markdown]
# The first, ten samples, is mirrored at both ends; the second is too short, and zeros came first. Now transform and inverse. Two
# customs come with the official networks: the spectra are divided by $\sqrt{\text{nfft}}$, and the top bin is dropped, so that
# 2048 of 2049 bins remain and can be halved again and again. The inverse puts silent frames around and a zero on top.

# %%
#| export
def aligned_stft(x: Tensor, nfft: int, reflect: bool = True) -> Tensor:
    """The spectrogram whose frames lie on hops of nfft / 4 samples, without its top bin.

    x: (batch, channel, time), at least one sample. Returns complex (batch, channel, nfft/2,
    ceil(time / hop)), divided by sqrt(nfft). reflect: see `padded_to_hops`. Source: Défossez 2021;
    section 7.2.
    """
    padded = padded_to_hops(x, nfft // 4, reflect)
    return stft(padded, nfft, nfft // 4, center=False)[..., :-1, :] / nfft ** 0.5

# %% [markdown]
# The way back:

# %%
#| export
def aligned_istft(X: Tensor, length: int, shifted: bool = False) -> Tensor:
    """The inverse of `aligned_stft`: complex (..., bin, frame) to (..., length).

    shifted: leave out the shift by 3/2 hops, as networks with `hybrid_old` do. Section 7.2.
    """
    nfft = 2 * X.shape[-2]
    hop = nfft // 4
    before = 0 if shifted else 3 * hop // 2
    around = F.pad(X, (2, 2, 0, 1))                    # silent frames, and the top bin
    whole = hop * math.ceil(length / hop) + 2 * before
    return istft(around, nfft, hop, whole)[..., before:before + length] * nfft ** 0.5

# %% [markdown]
# Three checks. A click in hop $m$ is strongest in frame $m$. Two convolutions of kernel 8 and stride 4, padded by (7.2), put it at
# the same place, for $4 \cdot 4 = 16$ samples are a hop of `nfft` 64. And back again, the song is there.

# %%
two_layers = lambda x: F.conv1d(F.conv1d(x, kernel, stride=4, padding=2), kernel, stride=4,
                                padding=2)
for m in range(8):
    click = torch.zeros(1, 1, 128)
    click[..., 16 * m + 8] = 1.0
    assert aligned_stft(click, 64).abs().square().sum(2).argmax() == m
    assert two_layers(click)[..., m] == two_layers(click).max()

# %% [markdown]
# And back:

# %%
mix = song.mixture[None, :, :5 * rate]  # (batch, channel, time)
lost = (aligned_istft(aligned_stft(mix, 1024), mix.shape[-1]) -
        mix).square().sum() / mix.square().sum()
print(f"lost with the top bin: {10 * float(lost.log10()):.0f} dB of the song")
assert lost < 1e-4 and aligned_stft(mix, 1024).shape[-1] == -(-mix.shape[-1] // 256)

# %% [markdown]
# <details><summary>Quick question: both branches must have one step a hop where they meet. The waveform branch has five layers
# with stride 4. What must <code>nfft</code> be?</summary>
#
# $4^5 = 1024$ samples a step, so the hop is 1024 and `nfft` 4096, the published network's. With `nfft` 2048 the hop is 512, and
# the fifth layer must have stride 2: so it is in torchaudio's middle-sized network. Chapter 8 does away with the condition.
# </details>

# %% [markdown]
# ## 7.3 Complex numbers as channels
#
# What does the spectrogram branch get, and what does it give? Chapter 4's network got magnitudes and gave masks: the phase
# was the mixture's. How much is lost with that, even if the magnitudes were perfect? Try it with the true ones:

# %%
S = aligned_stft(song.sources(STEMS).movedim(1, 0), 1024)[0]        # (source, bin, frame)
X = S.sum(0)
guess = S.abs() * X / X.abs().clamp_min(1e-8)                       # true size, the mixture's phase
sdr = lambda Y: song_sdr(aligned_istft(Y[:, None], song.frames), song.sources(STEMS))
bound = sdr(guess)
show_table([["true magnitude, mixture's phase", *bound.tolist()], ["true complex spectra",
            *sdr(S).clamp_max(99).tolist()]], ["SDR, dB", *STEMS], digits=0,
           caption="What a perfect network could reach on one song (1024 samples a window).")
assert bound.max() < sdr(S).min() - 10

# %% [markdown]
# With the mixture's phase even a perfect network is stuck well below what complex spectra allow. So let it write
# **complex spectra**. A network computes with real numbers; a complex number is two of them, hence two channels: the
# real part of the left channel, its imaginary part, then the right channel's (*complex as channels*, Choi et al. 2020).
# And the mixture comes in the same way, because its phase tells where an attack is.

# %%
#| export
def complex_as_channels(X: Tensor) -> Tensor:
    """Complex (batch, channel, bin, frame) to real (batch, 2 channel, bin, frame): re, im of each
    channel. Source: Choi et al. 2020; section 7.3."""
    return torch.view_as_real(X).movedim(-1, 2).flatten(1, 2)

# %% [markdown]
# The reverse takes any axes in front, so that sources may stand there:

# %%
#| export
def channels_as_complex(x: Tensor) -> Tensor:
    """The reverse: real (..., 2 channel, bin, frame) to complex (..., channel, bin, frame)."""
    return torch.view_as_complex(x.unflatten(-3, (-1, 2)).movedim(-3, -1).contiguous())

# %% [markdown]
# One bin, one frame, two channels:

# %%
tiny = torch.tensor([1 + 2j, 3 + 4j]).reshape(1, 2, 1, 1)
print(complex_as_channels(tiny).flatten().tolist())
assert torch.equal(channels_as_complex(complex_as_channels(tiny)), tiny)

# %% [markdown]
# Both branches want their input at a common level. Each standardises its own: the spectrum over channels, bins and frames,
# the waveform over channels and time. What was taken off is put back at the end.

# %%
#| export
def standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each item of a batch less its mean, divided by its (unbiased) deviation; and both.

    x: (batch, ...). A single number has deviation 0. Source: section 7.3.
    """
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdim=True)
    several = x[0].numel() > 1
    deviation = x.std(axes, keepdim=True) if several else torch.zeros_like(mean)
    return (x - mean) / (1e-5 + deviation), mean, deviation

# %% [markdown]
# A check, that a louder song gives the network the same input:

# %%
quiet, _, _ = standardised(0.1 * mix)
loud, mean, deviation = standardised(mix)
assert (quiet - loud).abs().max() < 1e-2 and abs(float(loud.std()) - 1) < 1e-3
assert (loud * deviation + mean - mix).abs().max() < 1e-4

# %% [markdown]
# ## 7.4 A convolution along frequency
#
# The waveform branch halves and halves again along *time*. The spectrogram branch has few frames already, a hop apart, and
# many bins. So it works along *frequency*: kernels of 8 bins and **one** frame, with a stride of 4 bins. Frames don't
# touch each other in it; that is left to the residual branches of section 7.6.

# %%
along_frequency = nn.Conv2d(2, 3, (8, 1), (4, 1), (2, 0))  # kernel, stride, padding
x = torch.zeros(1, 2, 32, 5)  # (batch, channel, bin, frame)
x[:, :, 10:14, 2] = 1.0  # a sound in frame 2
with torch.no_grad():
    change = (along_frequency(x) - along_frequency(0 * x)).abs().sum(1)[0]  # (bin, frame)
print(f"{tuple(along_frequency(x).shape)}: changed frames "
      f"{change.sum(0).nonzero().flatten().tolist()}, "
      f"rows {change.sum(1).nonzero().flatten().tolist()}")
assert change.sum(0).nonzero().flatten().tolist() == [2]

# %% [markdown]
# Like any convolution it is *equivariant*: move the sound up by one stride, and what it gives moves up by one row.

# %%
with torch.no_grad():
    higher = along_frequency(x.roll(4, 2))
    assert torch.allclose(higher[:, :, 4:7], along_frequency(x)[:, :, 3:6], atol=1e-6)

# %% [markdown]
# Layer by layer the bins go down by 4, until 8 are left. The next layer takes all of them in one kernel, without padding: **one bin
# is left**, and a spectrogram with one bin is a sequence over time, like what the waveform branch has become. There they are
# added, and the layers that follow, the *inner* layers, are shared.

# %%
#| export
@dataclass(frozen=True)
class LayerSizes:
    """One depth of a hybrid network. bins: that go in. freq: along frequency, or shared, along
    time. kernel_size, stride, pad: of the frequency branch or the shared layer; merges: the branch
    comes down to one bin here. time_kernel, time_stride: of the time branch."""

    bins: int
    freq: bool
    kernel_size: int
    stride: int
    pad: bool
    merges: bool
    time_kernel: int
    time_stride: int

    @property
    def bins_out(self) -> int:
        return 1 if self.merges or not self.freq else self.bins // self.stride

# %% [markdown]
# The rule that makes them. Where the branches meet, the time branch must have arrived at one step a hop: its last stride makes up what is missing.

# %%
#| export
def layer_sizes(nfft: int = 4096, depth: int = 6, kernel_size: int = 8, stride: int = 4,
                time_stride: int = 2) -> list[LayerSizes]:
    """The convolutions of `HDemucs`, layer by layer (section 7.4).

    Where both branches meet, the time branch must have one step a hop: its last stride makes up
    for what is missing, as in torchaudio's networks of other nfft (demucs takes the stride of the
    other layers, and fails). ValueError where no whole stride does, and where bins don't divide.
    """
    if nfft < 8 or nfft % 4 or min(depth, kernel_size, stride, time_stride) < 1:
        raise ValueError(f"nfft is {nfft}, depth {depth}, kernel_size {kernel_size}, stride "
                         f"{stride}, time_stride {time_stride}; expected all above 0, and nfft a "
                         "multiple of 4, such as 4096")
    sizes, bins = [], nfft // 2
    for index in range(depth):
        if bins == 1:
            sizes.append(LayerSizes(1, False, 2 * time_stride, time_stride, True, False, 0, 0))
            continue
        merges = bins <= kernel_size
        step, rest = divmod(nfft // 4, stride ** index) if merges else (stride, 0)
        if rest or step < 1 or (not merges and bins % stride):
            raise ValueError(f"nfft is {nfft}, stride {stride}; at layer {index} {bins} bins are "
                             "left, and the branches don't meet: choose a power of two, such as "
                             "4096 with stride 4")
        sizes.append(LayerSizes(
            bins, True, bins if merges else kernel_size, stride, not merges, merges,
            kernel_size if step == stride else kernel_size * step // stride, step))
        bins = sizes[-1].bins_out
    return sizes

# %% [markdown]
# The published network, read from top to bottom; 7.8 seconds have 343,980 samples and 336 frames.

# %%
frames, samples, rows = 336, 343_980, []
for index, size in enumerate(layer_sizes()):
    samples = -(-samples // size.time_stride) if size.freq else None
    frames = frames if size.freq else -(-frames // size.stride)
    kind = "meet here" if size.merges else "branches" if size.freq else "shared"
    rows.append([index, kind, f"{size.kernel_size} / {size.stride}", f"{size.bins_out} x {frames}",
                 f"{size.time_kernel} / {size.time_stride}" if size.freq else None, samples])
show_table(rows, ["layer", "", "kernel / stride", "bins x frames", "time kernel / stride", "steps"])
assert rows[4][3] == "1 x 336" and rows[4][5] == 336 and rows[5][3] == "1 x 168"

# %% [markdown]
# Both branches stand at 336 when they meet. With another `nfft` they might not: ask for one that can't work.

# %%
try:
    layer_sizes(nfft=1000)
except ValueError as error:
    print(error)
assert layer_sizes(nfft=2048)[4].time_stride == 2                   # the quick question's answer

# %% [markdown]
# ## 7.5 An address for every frequency
#
# Equivariance along *time* is a blessing: a word means the same a second later. Along *frequency* it is not: a bright noise
# at 8 kHz is a hi-hat, the same shape at 100 Hz a kick. A kernel that slides over frequencies can't tell. So after the first
# layer each row gets an address added, a learned vector $e_n$ for row $n$ (Isik et al. 2020),
#
# $$ x[c, n, m] \leftarrow x[c, n, m] + 0.2\; e_n[c], \qquad e_n = 10\, w_n . \tag{7.3} $$
#
# $w_n$ is what is stored. Why the factor 10? Adam moves every stored number by about the learning rate a step, whatever its
# gradient. With the factor, the address moves ten times as far. One step shows it:

# %%
def distance_of_one_step(scale):
    """How far Adam's first step moves the embedding that is used."""
    w = torch.full((4,), 0.5 / scale, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=1e-3)
    ((w * scale - 1.0) ** 2).sum().backward()
    optimizer.step()
    return float((w.detach() * scale - 0.5).abs().max())

print(f"without the factor {distance_of_one_step(1):.4f}, with it {distance_of_one_step(10):.4f}")
assert abs(distance_of_one_step(10) / distance_of_one_step(1) - 10) < 0.1

# %% [markdown]
# **A smooth start.** Neighbouring rows do nearly the same job, but vectors drawn at random have nothing to do with
# each other. So draw $g_i$ at random and add them up as one walks along the rows,
#
# $$ e_n = \frac{1}{\sqrt n} \sum_{i=1}^{n} g_i . \tag{7.4} $$
#
# The sum of $n$ independent numbers of variance 1 has variance $n$; the root brings it back to 1. Neighbours share $n$ of their
# $n + 1$ terms, so their correlation is $n / \sqrt{n (n+1)} = \sqrt{n/(n+1)}$: rows further up are ever more alike. Check both with many draws:

# %%
g = torch.randn(30, 4000, generator=P.generator)  # (row, draw)
e = g.cumsum(0) / torch.arange(1, 31)[:, None].sqrt()
for n in (1, 4, 25):
    correlation = float(torch.corrcoef(e[n - 1:n + 1])[0, 1])
    print(f"row {n}: correlation with the next {correlation:.1f}, "
          f"by the formula {(n / (n + 1)) ** 0.5:.1f}")
    assert (abs(correlation - (n / (n + 1))**0.5) < 0.05
            and abs(float(e[n - 1].std()) - 1) < 0.05)

# %% [markdown]
# As a module:

# %%
#| export
class ScaledEmbedding(nn.Module):
    """A vector for each place, learned faster than other weights: whole numbers (...) to
    (..., embedding_dim).

    scale: the weights are kept divided by it, and multiplied when used. smooth: neighbours start
    alike (eq. 7.4). Source: Isik et al. 2020; Défossez 2021; section 7.5.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, scale: float = 10.0,
                 smooth: bool = False):
        super().__init__()
        self.embedding, self.scale = nn.Embedding(num_embeddings, embedding_dim), scale
        with torch.no_grad():
            weight = self.embedding.weight
            if smooth:
                count = torch.arange(1, num_embeddings + 1)[:, None]
                weight.copy_(weight.cumsum(0) / count.sqrt())
            weight /= scale

    @property
    def weight(self) -> Tensor:
        """All vectors, as they are used: (num_embeddings, embedding_dim)."""
        return self.embedding.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) * self.scale

# %% [markdown]
# How alike are rows, without and with the smooth start?

# %%
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.9))
for axis, smooth in zip(axes, (False, True)):
    torch.manual_seed(0)
    vectors = ScaledEmbedding(64, 48, smooth=smooth).weight.detach()  # (row, channel)
    image = axis.imshow(
        F.normalize(vectors, dim=1) @ F.normalize(vectors, dim=1).T, vmin=-1, vmax=1, cmap="RdBu")
    axis.set(title="smooth start" if smooth else "drawn at random", xlabel="row", ylabel="row")
figure.colorbar(image, ax=axes)
show(
    figure, "Similarity (cosine) of the addresses of 64 rows, before any training.",
    "Two squares. Left only the diagonal is dark blue; right a broad blue band along the diagonal, "
    "wider towards high rows.")

# %% [markdown]
# ## 7.6 Residual branches
#
# A layer along frequency sees one frame at a time, a layer along time eight samples. What gives them a view of what
# came before and after? In every encoder layer sits a **residual branch**, chapter 6's `DConv`, which looks along time and
# *adds* what it finds. We take it apart now.

# %%
d = Diagram()
y = d.block("y", "(batch, C, time)", kind="data")
conv = d.block("conv 3\ndilation $2^d$", "(batch, C/4, time)", after=y, kind="trained")
norm = d.block("GroupNorm,\nGELU", "(batch, C/4, time)", after=conv, kind="trained")
far = d.block("BLSTM,\nattention", "(batch, C/4, time)", after=norm, kind="trained",
              label="inner layers")
wide = d.block("conv 1,\nGroupNorm", "(batch, 2C, time)", after=far, place="below",
               kind="trained", gap=0.5)
gate = d.block("GLU", "(batch, C, time)", after=wide, place="left", gap=0.5)
scale = d.block("LayerScale", "(batch, C, time)", after=gate, place="left", kind="trained",
                gap=0.5)
plus = d.join("+", after=scale, place="left")
out = d.block("y + branch(y)", "(batch, C, time)", after=plus, place="left", kind="data",
              gap=0.42)
d.arrow(y, plus, route="corner")
show(d.draw(), "One residual branch; two of them follow each other in a layer, with d = 0 and 1.",
     d.in_words())

# %% [markdown]
# ### Compressed
#
# A branch works with a quarter of the channels. What does that save? Count, for 48 channels, the weights of the two convolutions
# against one convolution of three steps that keeps the channels:

# %%
numbers = lambda module: sum(p.numel() for p in module.parameters())
inside = numbers(nn.Conv1d(48, 12, 3)) + numbers(nn.Conv1d(12, 96, 1))
print(f"compressed branch {inside}, one full convolution {numbers(nn.Conv1d(48, 48, 3))} weights")
assert inside < numbers(nn.Conv1d(48, 48, 3)) / 2

# %% [markdown]
# ### Dilated
#
# The first branch looks at neighbours, the second at those two steps away. Together: $1 + 2 \cdot 1 + 2 \cdot 2 = 7$ steps. With a
# third branch it would be 15; each doubles the reach for the same price. The gradient shows whom an output hears:

# %%
def heard_by(module, channels, time, at):
    """Which input steps move the output of step `at`: (time,) of True and False."""
    x = torch.randn(1, channels, time, generator=torch.Generator().manual_seed(0)).requires_grad_()
    module(x)[0, :, at].sum().backward()
    return x.grad[0].abs().sum(0) > 0

torch.manual_seed(0)
for depth in (1, 2, 3):
    branch = DConv(8, depth=depth, init=1.0, norm=False)
    steps = heard_by(branch, 8, 41, 20).nonzero().flatten()
    print(f"{depth} branches: steps {steps.min() - 20} to {steps.max() - 20:+d}")
    assert len(steps) == 2 * (2 ** depth - 1) + 1

# %% [markdown]
# ### Nearly nothing at first
#
# `LayerScale` multiplies each channel by a learned number that starts at $10^{-3}$ in the published networks. So a new branch
# changes its input by about a thousandth, and a deep stack of them begins as the identity, through which gradients pass
# unhindered. As it learns, it grows where it helps.

# %%
torch.manual_seed(0)
x = torch.randn(1, 16, 300, generator=P.generator)
for init in (1.0, 1e-3):
    with torch.no_grad():
        change = float((DConv(16, init=init)(x) - x).norm() / x.norm())
    print(f"LayerScale {init:g}: the branches change their input by {change:.0e} of its size")
assert change < 5e-3 and (LayerScale(3, 0.5)(torch.ones(1, 3, 2)) == 0.5).all()

# %% [markdown]
# ### A BLSTM on frames of 200 steps
#
# From layer 4 on, a BLSTM stands in the branch (chapter 4, section 4.5). It must read one step after the other, so on a whole
# song it would be slow, and it would meet lengths that no training showed it. So a signal of more than 200 steps is cut into frames of 200
# that overlap by half; the BLSTM reads each on its own; and of each only the **middle half** is kept, where it has heard 50
# steps at least on either side. In small, with frames of 8 over 20 steps:

# %%
x = torch.arange(20.0).reshape(1, 1, 20)
cut = overlapping_frames(x, 8)                                      # (batch, channel, frame, step)
for frame_number, steps in enumerate(cut[0, 0].int().tolist()):
    print(frame_number, steps, "keeps", steps[2:6])
assert torch.equal(joined_middles(cut, 20), x)

# %% [markdown]
# (The first frame keeps its beginning, too.) The effect, asked by gradient: with frames, step 100 of 400 hears its own frame only.

# %%
torch.manual_seed(0)
for name, most in (("whole", None), ("frames", 80)):
    steps = heard_by(BLSTM(4, max_steps=most).double().float(), 4, 400, 100).nonzero().flatten()
    print(f"{name}: step 100 hears steps {int(steps.min())} to {int(steps.max())}")
assert len(steps) <= 80 and steps.min() >= 60

# %% [markdown]
# ### Attention that pays for distance
#
# An LSTM passes a message from step to step. **Attention** asks directly: step $t$ forms a *query* $q_t$, every step $s$ offers a *key*
# $k_s$ and a *content* $v_s$, and $t$ hears the contents, weighted by how well the keys fit its query. *Local* attention
# adds a price for distance, and the query itself sets it:
#
# $$ w_{ts} = \operatorname{softmax}_s\Big( \frac{q_t \cdot k_s}{\sqrt{d}} - \delta_t\, |t - s| \Big), \qquad
#    \delta_t = \frac{1}{\sqrt 4} \sum_{f=1}^{4} f\, \frac{\sigma(p_{tf})}{2}. \tag{7.5} $$
#
# This is (6.13) in other letters: here $t$ listens and $s$ is heard, and $p$ is the $r$ of there.
# $d$ is the number of channels of a head, $p_{tf}$ four numbers computed from step $t$, $\sigma$ the sigmoid. With all $p$ very
# negative a step listens to everybody, with all $p$ large only to its neighbours. What is its steepest price?

# %%
price = lambda p: float(sum(f * torch.sigmoid(torch.tensor(p)) / 2 for f in range(1, 5)) / 4 ** 0.5)
print(f"p = -9: {price(-9.0):.3f} a step, p = 0: {price(0.0):.2f}, p = 9: {price(9.0):.2f}")
assert abs(price(99.0) - 2.5) < 1e-4

# %% [markdown]
# A step may not listen to *itself*: its own place gets a score of $-100$, since what it knows it has already, by the residual. By hand, for
# one head, with plain loops:

# %%
def local_attention_by_hand(q, k, v, delta):
    """(7.5) for one head. q, k, v, what it gives: (step, channel); delta: (step,)."""
    heard = torch.zeros_like(v)
    for t in range(len(q)):
        scores = torch.tensor([
            float(q[t] @ k[s]) / q.shape[1]**0.5 -
            float(delta[t]) * abs(t - s) if s != t else -100.0 for s in range(len(k))
        ])
        heard[t] = torch.softmax(scores, 0) @ v
    return heard

# %% [markdown]
# It must equal chapter 6's `LocalState`, whose weights we read out; it projects what was heard once more and adds its input:

# %%
torch.manual_seed(0)
attention = LocalState(4, heads=1)
x = torch.randn(1, 4, 7, generator=P.generator)
with torch.no_grad():
    q, k, v = (part(x)[0].T for part in (attention.query, attention.key, attention.content))
    p = attention.query_decay(x)[0]                                 # (decay, step)
    delta = (torch.arange(1, 5)[:, None] * torch.sigmoid(p) / 2).sum(0) / 2
    heard = local_attention_by_hand(q, k, v, delta)                 # (step, channel)
    assert torch.allclose(attention(x), x + attention.proj(heard.T[None]), atol=1e-6)
print("loops equal LocalState")

# %% [markdown]
# What a price does is best seen where all keys fit equally well: then distance alone decides.

# %%
figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.9))
for axis, delta in zip(axes, (0.05, 0.6)):
    distance = (torch.arange(24)[:, None] - torch.arange(24)).abs()
    weights = (-delta * distance).masked_fill(distance == 0, -100).softmax(-1)  # (query, key)
    image = axis.imshow(weights, vmin=0, vmax=0.3, cmap="Blues")
    axis.set(title=f"price {delta:g} a step", xlabel="heard step s", ylabel="listening step t")
figure.colorbar(image, ax=axes)
show(figure, "Weights of (7.5) where all keys are alike.",
     "Two squares with a white diagonal: left pale everywhere, right dark next to the diagonal.")
assert (weights.diagonal() < 1e-6).all() and abs(float(weights.sum()) - 24) < 1e-4

# %% [markdown]
# <details><summary>Quick question: a song of 3 minutes has about 7,750 frames of 1024 samples. Which of the three, dilated convolution, BLSTM
# and attention, becomes a problem?</summary>
#
# Attention: its weights are a matrix of steps by steps, sixty million numbers for a head. The convolution costs the same for each
# step, and so does the BLSTM on frames. That is a reason to separate songs in pieces (chapter 9).
# </details>

# %% [markdown]
# ## 7.7 Group normalisation
#
# `GroupNorm` takes, for every item of a batch on its own, groups of channels, and brings each group to mean 0 and deviation 1 over its channels
# *and* all its places; then each channel gets a scale $\gamma_c$ and a shift $\beta_c$, both learned:
#
# $$ y_c = \gamma_c\, \frac{x_c - \mu_{g(c)}}{\sqrt{\sigma^2_{g(c)} + \epsilon}} + \beta_c . \tag{7.6} $$
#
# Chapter 4's batch normalisation took the statistics over the batch, and used running means later. Here nothing is remembered:
# training and use do the same, and a batch of four is as good as one of four hundred. Four channels in two groups:

# %%
x = torch.tensor([[[1.0, 3], [5, 7], [0, 0], [10, 10]]])            # (batch, channel, time)
groups = x.reshape(2, -1)                                           # (group, channel and time)
by_hand = (groups - groups.mean(1, keepdim=True)) / groups.var(1, correction=0, keepdim=True).sqrt()
by_hand = by_hand.reshape(x.shape)
assert torch.allclose(nn.GroupNorm(2, 4)(x), by_hand, atol=1e-4)
print([[round(value, 1) for value in channel] for channel in by_hand[0].tolist()])

# %% [markdown]
# The residual branches have one group; the layers themselves have four, from layer 4 on: in the inner layers, which are
# the widest. Section 7.12 shows what happens without.

# %% [markdown]
# ## 7.8 A layer of either kind
#
# Now the layers. What both have in common: a convolution along frequency or along time, and a residual branch that always goes along
# **time**. In a layer along frequency every row is a sequence of its own; the branch treats rows like items of a batch.

# %%
#| export
class _HybridLayer(nn.Module):
    """What the layers of both encoders and decoders share: along frequency, or along time."""

    freq: bool
    dconv: nn.Module | None

    def along(self, size: int, other: int) -> int | tuple[int, int]:
        """A size along frequency and `other` along time; of a layer along time the size alone."""
        return (size, other) if self.freq else size

    def branch(self, y: Tensor) -> Tensor:
        """The residual branch along time; every bin is an item of the batch to it."""
        if self.dconv is None or not self.freq:
            return y if self.dconv is None else self.dconv(y)
        rows = y.transpose(1, 2).flatten(0, 1)                      # (batch * bin, channel, frame)
        return self.dconv(rows).unflatten(0, (len(y), -1)).transpose(1, 2)

# %% [markdown]
# The norm, or nothing in its place:

# %%
#| export
def _norm(norm: bool, groups: int, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels) if norm else nn.Identity()

# %% [markdown]
# Most of a layer treats every row alike, and its intermediate results are large: 96 channels of 512 rows. Where no gradients are wanted, we take a
# few rows at a time, so that what comes in between stays in the processor's cache. The numbers are the same; the time is not (chapter 8, section 8.11).

# %%
#| export
def in_blocks(f: Callable[[Tensor], Tensor], y: Tensor, numbers: int = 2 ** 18) -> Tensor:
    """f(y), a few rows at a time on a CPU without gradients; f treats every row (bin) alike.

    y: (batch, channel, bin, frame). numbers: of a block, or one row where that is more.
    Source: section 7.8.
    """
    rows = max(1, numbers * y.shape[2] // max(1, y.numel()))
    if torch.is_grad_enabled() or y.is_cuda or rows >= y.shape[2] or torch.compiler.is_compiling():
        return f(y)
    return torch.cat([f(block) for block in y.split(rows, 2)], 2)

# %% [markdown]
# A few rows, or all of them at once:

# %%
rows = torch.randn(2, 3, 10, 4, generator=P.generator)
with torch.no_grad():
    assert torch.equal(in_blocks(torch.tanh, rows, numbers=50), torch.tanh(rows))
    seen = []
    in_blocks(lambda block: seen.append(block.shape[2]) or block, rows, numbers=50)
print(seen)
assert sum(seen) == 10 and max(seen) == 50 // (2 * 3 * 4)

# %% [markdown]
# **The encoder layer**: convolution; what comes from the other branch is added, in the layer where they meet; norm, GELU, residual branch; a
# convolution of one step that *rewrites* the channels to twice as many, and a GLU, in which one half of them decides what passes of the other.

# %%
d = Diagram()
x_in = d.block("x", "(batch, C, bin, frame)", kind="data")
conv = d.block("conv 8, stride 4", "(batch, D, bin/4, frame)", after=x_in, kind="trained")
plus = d.join("+", after=conv)
act = d.block("norm1,\nGELU", after=plus, kind="trained")
res = d.block("residual\nbranch", after=act, kind="trained")
rew = d.block("rewrite 1x1,\nnorm2, GLU", "(batch, D, bin/4, frame)", after=res, kind="trained")
inject = d.block("from the time branch", "(batch, D, 1, frame)", kind="data", at=(plus.x, -0.95))
d.arrow(inject, plus, "only where they meet")
show(d.draw(),
     "A layer of the frequency encoder. norm1 and norm2 do nothing in the outer layers.",
     d.in_words())

# %% [markdown]
# The arguments have the official names; so do the tensors.

# %%
#| export
class HEncLayer(_HybridLayer):
    """A layer of an encoder: (batch, chin, bin, frame), or with freq=False (batch, chin, time), to
    chout channels and `stride` times fewer bins, or steps.

    kernel_size, stride: of the convolution; pad: a quarter of the kernel at both ends. norm: with
    GroupNorm of norm_groups. empty: the convolution alone. dconv: with a residual branch along
    time, `DConv` with dconv_kw. rewrite: a convolution of 1 + 2 context with a gate. forward:
    inject, (batch, chout, time), is added after the convolution. A time layer takes spectra of one
    bin, too, and pads its input to a multiple of the stride. Arguments and tensor names as
    demucs.hdemucs.HEncLayer. Source: Défossez 2021; section 7.8.
    """

    def __init__(self, chin: int, chout: int, kernel_size: int = 8, stride: int = 4,
                 norm_groups: int = 1, empty: bool = False, freq: bool = True, dconv: bool = True,
                 norm: bool = True, context: int = 0, dconv_kw: Mapping | None = None,
                 pad: bool = True, rewrite: bool = True):
        super().__init__()
        self.freq, self.empty, self.kernel_size, self.stride = freq, empty, kernel_size, stride
        Conv = nn.Conv2d if freq else nn.Conv1d
        margin = kernel_size // 4 if pad else 0
        self.conv = Conv(chin, chout, self.along(kernel_size, 1), self.along(stride, 1),
                         self.along(margin, 0))
        if empty:
            return
        self.norm1 = _norm(norm, norm_groups, chout)
        self.alike = freq and not norm and not context              # `refine` treats all bins alike
        self.rewrite = None
        if rewrite:
            self.rewrite = Conv(chout, 2 * chout, 1 + 2 * context, 1, context)
            self.norm2 = _norm(norm, norm_groups, 2 * chout)
        self.dconv = DConv(chout, **(dconv_kw or {})) if dconv else None

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        if not self.freq:
            x = x.flatten(1, -2)                                    # one bin: (batch, chin, time)
            x = F.pad(x, (0, -x.shape[-1] % self.stride))
        y = self.conv(x)
        if self.empty:
            return y
        if inject is not None:
            y = y + inject.unsqueeze(2)                             # (batch, chout, 1, time)
        return in_blocks(self.refine, y) if self.alike else self.refine(y)

    def refine(self, y: Tensor) -> Tensor:
        """What comes after the convolution: norms, residual branch and gate."""
        y = self.branch(F.gelu(self.norm1(y)))
        if self.rewrite is None:
            return y
        return F.glu(self.norm2(self.rewrite(y)), dim=1)

# %% [markdown]
# The shapes of the first layers of either branch, and whom a frame hears: with its two residual branches a frequency layer reaches three frames
# to either side, without them none.

# %%
torch.manual_seed(0)
spectral, timed = HEncLayer(4, 48), HEncLayer(2, 48, freq=False)
print(tuple(spectral(torch.zeros(1, 4, 2048, 5)).shape),
      tuple(timed(torch.zeros(1, 2, 4001)).shape))
for dconv, expected in ((True, 7), (False, 1)):
    layer = HEncLayer(1, 4, dconv=dconv, norm=False, dconv_kw=dict(init=1.0, norm=False))
    x = torch.randn(1, 1, 32, 15, generator=P.generator).requires_grad_()
    layer(x)[..., 7].sum().backward()
    assert int((x.grad.abs().sum((0, 1, 2)) > 0).sum()) == expected

# %% [markdown]
# **The decoder layer** is its mirror image: the skip is added, a gated convolution of $3 \times 3$ looks around, then the transposed convolution
# goes up by 4, and what sticks out is cut away. It also returns what went *into* the transposed convolution: the time branch starts from there.

# %%
d = Diagram()
x_in = d.block("x", "(batch, D, bin, frame)", kind="data")
plus = d.join("+", after=x_in)
rew = d.block("rewrite 3x3,\nnorm1, GLU", "(batch, D, bin, frame)", after=plus, kind="trained")
up = d.block("transposed conv 8,\nstride 4, norm2", "(batch, C, 4 bin + 4, frame)", after=rew,
             kind="trained")
cut = d.block("cut, GELU\n(not in the last)", "(batch, C, 4 bin, frame)", after=up)
skip = d.block("skip", "(batch, D, bin, frame)", kind="data", at=(plus.x, 0.95))
d.arrow(skip, plus)
before = d.block("to the time branch", "(batch, D, bin, frame)", kind="data", at=(rew.x, -1.0))
d.arrow(rew, before, "where they part")
show(d.draw(), "A layer of the frequency decoder.", d.in_words())

# %% [markdown]
# In code:

# %%
#| export
class HDecLayer(_HybridLayer):
    """A layer of a decoder, the mirror image of `HEncLayer`: chin channels to chout.

    context_freq: the gated convolution looks at neighbouring bins as well as frames. last: without
    GELU at the end. forward(x, skip, length): skip is added first; a time layer's output is cut to
    `length`. Returns the output, and what went into the transposed convolution. Arguments and
    tensor names as demucs.hdemucs.HDecLayer. Source: Défossez 2021; section 7.8.
    """

    def __init__(self, chin: int, chout: int, last: bool = False, kernel_size: int = 8,
                 stride: int = 4, norm_groups: int = 1, empty: bool = False, freq: bool = True,
                 dconv: bool = True, norm: bool = True, context: int = 1,
                 dconv_kw: Mapping | None = None, pad: bool = True, context_freq: bool = True,
                 rewrite: bool = True):
        super().__init__()
        self.freq, self.empty, self.last, self.chin = freq, empty, last, chin
        self.kernel_size, self.stride = kernel_size, stride
        self.pad = kernel_size // 4 if pad else 0
        Conv, Transposed = ((nn.Conv2d, nn.ConvTranspose2d) if freq
                            else (nn.Conv1d, nn.ConvTranspose1d))
        # the convolution leaves out the margin itself, where no norm sees it and enough remains
        cut = 0 if norm or kernel_size - 2 * self.pad < stride else self.pad
        self.conv_tr = Transposed(chin, chout, self.along(kernel_size, 1), self.along(stride, 1),
                                  self.along(cut, 0))
        self.norm2, self.margin = _norm(norm, norm_groups, chout), self.pad - cut
        if empty:
            return
        self.rewrite = None
        if rewrite:
            size, margin = 1 + 2 * context, context
            if not context_freq:
                size, margin = self.along(1, size), self.along(0, margin)
            self.rewrite = Conv(chin, 2 * chin, size, 1, margin)
            self.norm1 = _norm(norm, norm_groups, 2 * chin)
        self.dconv = DConv(chin, **(dconv_kw or {})) if dconv else None

    def refine(self, x: Tensor) -> Tensor:
        """What comes before the transposed convolution: gate and residual branch."""
        if self.rewrite is None:
            return self.branch(x)
        x = self.norm1(self.rewrite(x))
        after = lambda y: self.branch(F.glu(y, dim=1))
        return in_blocks(after, x) if self.freq else after(x)

    def forward(self, x: Tensor, skip: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        if self.freq and x.ndim == 3:
            x = x.unflatten(1, (self.chin, -1))                     # (batch, chin, 1, frame)
        y = x if self.empty else self.refine(x + skip)
        z = self.norm2(self.conv_tr(y))
        if self.freq:
            z = z[..., self.margin:z.shape[-2] - self.margin, :]
        else:
            z = z[..., self.margin:self.margin + length]
        return z if self.last else F.gelu(z), y

# %% [markdown]
# Up again to the sizes that the encoder came from:

# %%
up, before = HDecLayer(48, 16)(torch.zeros(1, 48, 512, 5), torch.zeros(1, 48, 512, 5), 5)
up_t, _ = HDecLayer(48, 8, freq=False)(torch.zeros(1, 48, 1001), torch.zeros(1, 48, 1001), 4001)
print(tuple(up.shape), tuple(before.shape), tuple(up_t.shape))
assert up.shape == (1, 16, 2048, 5) and up_t.shape == (1, 8, 4001)

# %% [markdown]
# ## 7.9 Two U-Nets that meet
#
# The whole network in one picture, in the published size: on top the frequency branch, below the time branch. Numbers are
# channels x bins x frames, or channels x steps, for 7.8 s of stereo at 44.1 kHz.

# %%
d = Diagram()
mix_in = d.block("mixture", "2 x 343980", kind="data")
X_in = d.block("STFT, complex\nas channels", "4 x 2048 x 336", after=mix_in, shift=0.9)
enc = d.block("frequency\nencoder", "384 x 8 x 336", after=X_in, kind="trained", repeat=4)
meet = d.block("last\nfrequency layer", "768 x 1 x 336", after=enc, kind="trained", gap=0.6)
plus = d.join("+", after=meet)
inner = d.block("inner layer,\nshared", "1536 x 168", after=plus, kind="trained")
tenc = d.block("time encoder", "384 x 1344", kind="trained", repeat=4, at=(enc.x, -0.9))
tconv = d.block("conv alone", "768 x 336", kind="trained", at=(meet.x, -0.9))
d.arrow(mix_in, tenc)
d.arrow(tenc, tconv)
d.arrow(tconv, plus, route="corner")
show(d.draw(), "Down: the encoders. All outputs but the last convolution's are kept as skips.",
     d.in_words())

# %% [markdown]
# And up again. The decoders begin with **zeros**: all they know comes through the skips.

# %%
d = Diagram()
zero = d.block("zeros", "1536 x 168", kind="data")
inner = d.block("inner decoder\nlayer", "768 x 336", after=zero, kind="trained")
part = d.block("first frequency\nlayer", "384 x 8 x 336", after=inner, kind="trained", gap=0.5)
dec = d.block("frequency\ndecoder", "16 x 2048 x 336", after=part, kind="trained", repeat=4,
              gap=0.5)
inv = d.block("inverse STFT", "4 x 2 x 343980", after=dec, gap=0.6)
plus = d.join("+", after=inv)
out = d.block("sources", "4 x 2 x 343980", after=plus, kind="data")
tconv = d.block("transposed\nconv alone", "384 x 1344", kind="trained", at=(part.x, -1.2))
tdec = d.block("time\ndecoder", "8 x 343980", kind="trained", repeat=4, at=(dec.x, -1.2))
d.arrow(part, tconv, "what goes into its\ntransposed conv")
d.arrow(tconv, tdec)
d.arrow(tdec, plus, route="corner")
show(
    d.draw(),
    "Up: the decoders; skips from the encoder layer of the same size enter every layer but the "
    "time branch's first.", d.in_words())

# %% [markdown]
# ### A plain one first
#
# The same with two layers a branch and one inner layer, written out. `nfft` is 64, so 32 bins go to 8 and to 1, and two strides
# of 4 make the hop of 16. Follow the names: `z` is the frequency branch, `t` the time branch.

# %%
class PlainHybrid(nn.Module):
    """Mono mixture (batch, 1, time) to four sources (batch, 4, 1, time); c: first channels."""
    def __init__(self, c=8):
        super().__init__()
        time = dict(freq=False, norm=False, dconv=False)
        self.encoder = nn.ModuleList([
            HEncLayer(2, c, norm=False),
            HEncLayer(c, 2 * c, pad=False, norm=False),
            HEncLayer(2 * c, 4 * c, 4, 2, freq=False, norm=False)
        ])
        self.tencoder = nn.ModuleList([
            HEncLayer(1, c, freq=False, norm=False),
            HEncLayer(c, 2 * c, freq=False, empty=True)
        ])
        self.decoder = nn.ModuleList([
            HDecLayer(4 * c, 2 * c, False, 4, 2, **time),
            HDecLayer(2 * c, c, pad=False, norm=False, dconv=False),
            HDecLayer(c, 8, last=True, norm=False, dconv=False)
        ])
        self.tdecoder = nn.ModuleList([
            HDecLayer(2 * c, c, freq=False, empty=True, norm=False),
            HDecLayer(c, 4, last=True, **time)
        ])
        self.freq_emb = ScaledEmbedding(8, c, smooth=True)

    def forward(self, mix):
        X = aligned_stft(mix, 64)  # (batch, 1, bin, frame)
        z0, mean, deviation = standardised(complex_as_channels(X))
        t0, mean_t, deviation_t = standardised(mix)
        z1 = self.encoder[0](z0) + 0.2 * self.freq_emb.weight.T.unsqueeze(-1)  # eq. 7.3
        t1 = self.tencoder[0](t0)
        t2 = self.tencoder[1](t1)  # the convolution alone
        z2 = self.encoder[1](z1, t2)  # the branches meet
        z3 = self.encoder[2](z2)  # shared
        y, _ = self.decoder[0](0 * z3, z3, z2.shape[-1])
        y, before = self.decoder[1](y, z2, z1.shape[-1])
        s, _ = self.tdecoder[0](before.squeeze(2), None, t1.shape[-1])  # and part
        y, _ = self.decoder[2](y, z1, z0.shape[-1])
        s, _ = self.tdecoder[1](s, t1, mix.shape[-1])
        Y = y.unflatten(1, (4, 2)) * deviation.unsqueeze(1) + mean.unsqueeze(1)
        spectral = aligned_istft(channels_as_complex(Y), mix.shape[-1])
        return spectral + s.unflatten(1, (4, 1)) * deviation_t.unsqueeze(1) + mean_t.unsqueeze(1)

# %% [markdown]
# Any length comes back as it went in, one sample too:

# %%
torch.manual_seed(0)
plain = PlainHybrid().eval()
with torch.no_grad():
    for time in (1, 15, 16, 1000):
        assert plain(torch.ones(1, 1, time)).shape == (1, 4, 1, time)
    print(tuple(plain(0.1 * mix[..., :1000]).shape))

# %% [markdown]
# ### The reusable form
#
# The class for all sizes does the same with lists of layers. We write it in four pieces, each a page: what makes the layers, the two U-Nets, the way
# through them, and the transforms at both ends. First a few arguments that can't go together, and a mixture of the wrong shape, should be refused by name:

# %%
#| export
def _check_options(hybrid, hybrid_old, wiener_iters, end_iters, multi_freqs, multi_freqs_depth,
                   norm_starts) -> None:
    if hybrid_old and not hybrid:
        raise ValueError("hybrid_old is True and hybrid False; expected hybrid=True with it")
    if hybrid and wiener_iters != end_iters:
        raise ValueError(f"wiener_iters is {wiener_iters} and end_iters {end_iters}; a hybrid "
                         "network adds both branches in training and after: expected them equal")
    if multi_freqs and norm_starts < multi_freqs_depth:
        raise ValueError(f"norm_starts is {norm_starts} and multi_freqs_depth {multi_freqs_depth}; "
                         "layers split into bands have no norm: expected norm_starts >= it")

# %% [markdown]
# And the mixture:

# %%
#| export
def check_mixture(mix: Tensor, channels: int) -> None:
    check_audio(mix=mix)
    if mix.ndim != 3 or mix.shape[1] != channels or 0 in mix.shape:
        raise ValueError(f"mix has shape {tuple(mix.shape)}; expected (batch, channel, time) with "
                         f"{channels} channels and at least one sample")

# %% [markdown]
# **Bands.** An early form of the network (2021) splits the outer layers: each band of frequencies gets a layer of its own. The padded
# spectrogram is cut so that every row is made by one band, from all the bins it needs. Skip the two classes at first reading.

# %%
#| export
class EncoderBands(nn.Module):
    """Several `HEncLayer` side by side, each with its own band of frequencies, as one layer.

    make: makes a layer along frequency without norm. ratios: where a band ends, as shares of all
    bins; the last band ends with them. With equal weights it is one layer. Tensor names as
    demucs.hdemucs.MultiWrap. Source: section 7.9.
    """

    def __init__(self, make: Callable[[], HEncLayer], ratios: Sequence[float]):
        super().__init__()
        self.ratios = tuple(ratios)
        self.layers = nn.ModuleList(make() for _ in range(len(self.ratios) + 1))
        for layer in self.layers:
            layer.conv.padding = (0, 0)                             # forward pads around all bands

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        kernel, stride = self.layers[0].kernel_size, self.layers[0].stride
        margin = kernel // 4
        padded = F.pad(x, (0, 0, margin, margin))                   # (batch, chin, bin, frame)
        rows, start, outputs = (padded.shape[2] - kernel) // stride + 1, 0, []
        for layer, ratio in zip(self.layers, (*self.ratios, 1)):
            limit = round(x.shape[2] * ratio) + margin              # the band's end, in `padded`
            count = round((limit - start * stride - kernel) / stride + 1)
            end = rows if ratio == 1 else start + count
            outputs.append(layer(padded[:, :, start * stride:(end - 1) * stride + kernel]))
            start = end
        return torch.cat(outputs, 2)

# %% [markdown]
# On the way up, what two neighbouring bands write overlaps and is added, its bias counted once:

# %%
#| export
class DecoderBands(nn.Module):
    """Several `HDecLayer` side by side, as `EncoderBands`; neighbours' outputs overlap and add."""

    def __init__(self, make: Callable[[], HDecLayer], ratios: Sequence[float]):
        super().__init__()
        self.ratios = tuple(ratios)
        self.layers = nn.ModuleList(make() for _ in range(len(self.ratios) + 1))
        for layer in self.layers:
            layer.conv_tr.padding = (0, 0)                          # forward cuts all bands at once

    def forward(self, x: Tensor, skip: Tensor, length: int) -> tuple[Tensor, None]:
        kernel, stride = self.layers[0].kernel_size, self.layers[0].stride
        bins, start, outputs = x.shape[2], 0, 0.0
        rows = (bins - 1) * stride + kernel
        for layer, ratio in zip(self.layers, (*self.ratios, 1)):
            end = bins if ratio == 1 else round(bins * ratio)
            y = layer.conv_tr(layer.refine(x[:, :, start:end] + skip[:, :, start:end]))
            if start:                                               # the overlap has a bias already
                bias = layer.conv_tr.bias[:, None, None]
                y = torch.cat([y[:, :, :kernel - stride] - bias, y[:, :, kernel - stride:]], 2)
            first, last = start * stride, (end - 1) * stride + kernel
            outputs = outputs + F.pad(y, (0, 0, first, rows - last))
            start = end
        outputs = outputs[:, :, stride // 2:rows - stride // 2]     # (batch, chout, bin, frame)
        return outputs if self.layers[0].last else F.gelu(outputs), None

# %% [markdown]
# Three bands with the same weights must be one layer:

# %%
def with_equal_weights(bands, layer):
    """The bands, each with the weights of `layer`."""
    for band in bands.layers:
        band.load_state_dict(layer.state_dict())
    return bands

torch.manual_seed(0)
x, y = torch.randn(1, 2, 64, 5), torch.randn(1, 4, 16, 5)
one = HEncLayer(2, 4, norm=False, dconv_kw=dict(init=0.5))

# %% [markdown]
# First the encoder's:

# %%
bands = EncoderBands(lambda: HEncLayer(2, 4, norm=False, dconv_kw=dict(init=0.5)), [0.3, 0.6])
assert torch.allclose(with_equal_weights(bands, one)(x), one(x), atol=1e-5)

# %% [markdown]
# Then the decoder's:

# %%
one = HDecLayer(4, 2, norm=False, dconv=False, context_freq=False)
bands = DecoderBands(lambda: HDecLayer(4, 2, norm=False, dconv=False, context_freq=False),
                     [0.3, 0.6])
assert torch.allclose(with_equal_weights(bands, one)(y, y, 5)[0], one(y, y, 5)[0], atol=1e-5)

# %% [markdown]
# **What makes the layers.** For a depth and its sizes, the encoder layer and the decoder layer of one branch:

# %%
#| export
@dataclass(frozen=True)
class LayerMaker:
    """Makes the layers of `HDemucs` from its arguments, which its fields are called after."""

    rewrite: bool
    context: int
    context_enc: int
    norm_starts: int
    norm_groups: int
    dconv_mode: int
    branch: Mapping[str, object]                # depth, compress, init of the residual branches
    attention_from: int
    lstm_from: int
    bands: Sequence[float] | None
    bands_depth: int

    def pair(self, index: int, inputs: int, wide: int, outputs: int, bands: Sequence[float] | None,
             **sizes) -> tuple[nn.Module, nn.Module]:
        """Encoder layer inputs -> wide and decoder layer wide -> outputs of depth `index`."""
        branch = dict(self.branch, lstm=index >= self.lstm_from, attn=index >= self.attention_from)
        same = dict(sizes, norm=index >= self.norm_starts, norm_groups=self.norm_groups,
                    dconv_kw=branch, rewrite=self.rewrite)
        encoder = partial(HEncLayer, inputs, wide, dconv=bool(self.dconv_mode & 1),
                          context=self.context_enc, **same)
        decoder = partial(HDecLayer, wide, outputs, dconv=bool(self.dconv_mode & 2),
                          context=self.context, last=index == 0, context_freq=not bands, **same)
        if bands:
            return EncoderBands(encoder, bands), DecoderBands(decoder, bands)
        return encoder(), decoder()

    def spectral(self, index: int, size: LayerSizes, *channels: int) -> tuple[nn.Module, nn.Module]:
        """Of the frequency branch, or shared."""
        bands = self.bands if self.bands and index < self.bands_depth else None
        return self.pair(index, *channels, bands, freq=size.freq, kernel_size=size.kernel_size,
                         stride=size.stride, pad=size.pad)

    def timed(self, index: int, size: LayerSizes, *channels: int) -> tuple[nn.Module, nn.Module]:
        """Of the time branch; the last encoder layer and the first decoder layer are empty."""
        return self.pair(index, *channels, None, freq=False, kernel_size=size.time_kernel,
                         stride=size.time_stride, empty=size.merges)

# %% [markdown]
# **The two U-Nets.** Channels double from layer to layer; where the branches meet, both have the larger number.

# %%
#| export
class TwoUNets(nn.Module):
    """The layers of both branches, as lists: encoder, decoder, tencoder, tdecoder (time).

    sizes: of the layers; make: their maker. channels: of the mixture, of all sources together and
    of the first layer, of the frequency branch (first) and the time branch. growth: factor of the
    channels. timed: with a time branch. Source: Défossez 2021; section 7.9.
    """

    def __init__(self, sizes: Sequence[LayerSizes], make: LayerMaker, channels_z: Sequence[int],
                 channels_t: Sequence[int], growth: float, timed: bool):
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.tencoder, self.tdecoder = nn.ModuleList(), nn.ModuleList()
        (inputs_z, outputs_z, wide_z), (inputs, outputs, wide) = channels_z, channels_t
        for index, size in enumerate(sizes):
            if size.merges:
                wide = wide_z = max(wide, wide_z)
            encoder, decoder = make.spectral(index, size, inputs_z, wide_z, outputs_z)
            self.encoder.append(encoder)
            self.decoder.insert(0, decoder)
            if timed and size.freq:
                encoder, decoder = make.timed(index, size, inputs, wide, outputs)
                self.tencoder.append(encoder)
                self.tdecoder.insert(0, decoder)
            inputs, outputs, inputs_z, outputs_z = wide, wide, wide_z, wide_z
            wide, wide_z = int(growth * wide), int(growth * wide_z)

# %% [markdown]
# **The way through them**, as in the plain form, in loops:

# %%
#| export
class HybridPasses:
    """The way through both U-Nets."""

    def encode(self, x: Tensor, xt: Tensor) -> tuple[list, list, list[int], list[int]]:
        """Both encoders: the skips of either, and the lengths that went into each layer."""
        skips, skips_t, lengths, lengths_t = [], [], [], []
        for index, layer in enumerate(self.encoder):
            inject = None
            lengths.append(x.shape[-1])
            if index < len(self.tencoder):                          # still two branches
                lengths_t.append(xt.shape[-1])
                xt = self.tencoder[index](xt)
                if self.tencoder[index].empty:                      # here they meet
                    inject = xt
                else:
                    skips_t.append(xt)
            x = layer(x, inject)
            if index == 0 and self.freq_emb is not None:            # eq. 7.3
                bins = torch.arange(x.shape[2], device=x.device)
                x = x + self.freq_emb_scale * self.freq_emb(bins).T.unsqueeze(-1)
            skips.append(x)
        return skips, skips_t, lengths, lengths_t

    def decode(self, skips: list, skips_t: list, lengths: list[int], lengths_t: list[int],
               x: Tensor | None = None, xt: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Both decoders. They begin with zeros, x and xt: all they know comes through the skips."""
        x = torch.zeros_like(skips[-1]) if x is None else x
        shared = len(self.decoder) - len(self.tdecoder)
        for index, layer in enumerate(self.decoder):
            x, before = layer(x, skips.pop(), lengths.pop())
            if len(self.tdecoder) and index >= shared:
                time_layer = self.tdecoder[index - shared]
                if time_layer.empty:                                # here they part
                    xt, _ = time_layer(before.squeeze(2), None, lengths_t.pop())
                else:
                    xt, _ = time_layer(xt, skips_t.pop(), lengths_t.pop())
        return x, xt

    def through(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Down and up again: what goes into both branches, and what comes out of them."""
        return self.decode(*self.encode(x, xt))

# %% [markdown]
# **Both ends.** Besides complex channels there is the older way: *magnitudes* in and out (`cac=False`), and chapter 4's Wiener filter, in windows of 300
# frames, makes spectra of them; with fewer than 0 rounds, the mixture's phase alone. Without time branch (`hybrid=False`) chapter 1's centred transform is used, as nothing needs to be aligned.

# %%
#| export
class HybridEnds:
    """From the mixture to what the U-Nets get, and from what they give to sources."""

    def spectrogram(self, mix: Tensor) -> Tensor:
        """The mixture's complex spectrogram (batch, channel, nfft/2, frame)."""
        if self.hybrid:
            return aligned_stft(mix, self.nfft, reflect=not self.hybrid_old)
        enough = F.pad(mix, (0, max(0, self.nfft // 2 + 1 - mix.shape[-1])))
        return stft(enough, self.nfft, self.hop_length)[..., :-1, :] / self.nfft ** 0.5

    def waveform(self, X: Tensor, length: int) -> Tensor:
        """Complex spectrograms (..., nfft/2, frame) to audio (..., length)."""
        if self.hybrid:
            return aligned_istft(X, length, shifted=self.hybrid_old)
        return istft(F.pad(X, (0, 0, 0, 1)) * self.nfft ** 0.5, self.nfft, self.hop_length, length)

    def spectra(self, x: Tensor, X: Tensor) -> Tensor:
        """What the frequency branch gives, (batch, source, channel or 2 channel, bin, frame), as
        complex spectra; X: the mixture's."""
        if self.cac:
            return channels_as_complex(x)
        rounds = self.end_iters if self.training else self.wiener_iters
        if rounds < 0:
            return (X / (1e-8 + X.abs())).unsqueeze(1) * x
        pieces = [wiener(magnitudes, piece, rounds, residual=self.wiener_residual)
                  for magnitudes, piece in zip(x.split(300, -1), X.split(300, -1))]
        return torch.cat(pieces, -1)[:, :len(self.sources)]

    def branches(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """What the frequency branch and the time branch give, whose sum is the estimate: two
        (batch, source, channel, time), the second 0 without time branch."""
        check_mixture(mix, self.audio_channels)
        X = self.spectrogram(mix)
        x, mean, deviation = standardised(complex_as_channels(X) if self.cac else X.abs())
        xt, mean_t, deviation_t = standardised(mix)
        x, xt = self.through(x, xt)
        split = (len(self.sources), -1)
        rescaled = lambda y, mean, deviation: torch.addcmul(
            mean.unsqueeze(1), y.unflatten(1, split), deviation.unsqueeze(1))
        x = rescaled(x, mean, deviation)
        spectral = self.waveform(self.spectra(x, X), mix.shape[-1])
        if not self.hybrid:
            return spectral, torch.zeros_like(spectral)
        return spectral, rescaled(xt, mean_t, deviation_t)

# %% [markdown]
# And the network, whose arguments are those of the package `demucs`:

# %%
#| export
class HDemucs(TwoUNets, HybridPasses, HybridEnds):
    """Hybrid Demucs (v3): mixture (batch, channel, time) to its sources (batch, source, channel,
    time), as long as the mixture; any length from 1 on.

    sources: names. audio_channels: of the mixture, of each source. channels, channels_time: of the
    first layer, of the time branch's (None: as many); growth: their factor. nfft: of the STFT. cac:
    complex as channels; else magnitudes and wiener_iters rounds of EM (end_iters in training; < 0:
    the mixture's phase), wiener_residual: with a source for the rest. depth: layers, shared ones
    included. hybrid: with time branch; hybrid_old: zeros around the sound, output 3/2 hops late,
    as the first models had it. multi_freqs: shares of the bins at which the outer
    multi_freqs_depth layers are cut into bands. freq_emb: weight of the address, emb_scale,
    emb_smooth: see `ScaledEmbedding`. time_stride: of shared layers. context, context_enc: steps on
    either side that decoders' and encoders' rewrite sees. norm_starts, norm_groups: GroupNorm from
    this layer on. dconv_mode: residual branches in encoders (1), decoders (2), both (3); dconv_...:
    as `DConv`, attention and BLSTM from a layer on. rescale: 0: not. samplerate, segment: kept.

    ValueError for other shapes, and arguments that don't go together. Arguments, defaults, tensor
    names: demucs.hdemucs.HDemucs 4.1.0. Source: Défossez 2021; section 7.9.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 48,
                 channels_time: int | None = None, growth: float = 2, nfft: int = 4096,
                 wiener_iters: int = 0, end_iters: int = 0, wiener_residual: bool = False,
                 cac: bool = True, depth: int = 6, rewrite: bool = True, hybrid: bool = True,
                 hybrid_old: bool = False, multi_freqs: Sequence[float] | None = None,
                 multi_freqs_depth: int = 2, freq_emb: float = 0.2, emb_scale: float = 10,
                 emb_smooth: bool = True, kernel_size: int = 8, time_stride: int = 2,
                 stride: int = 4, context: int = 1, context_enc: int = 0, norm_starts: int = 4,
                 norm_groups: int = 4, dconv_mode: int = 1, dconv_depth: int = 2,
                 dconv_comp: float = 4, dconv_attn: int = 4, dconv_lstm: int = 4,
                 dconv_init: float = 1e-4, rescale: float = 0.1, samplerate: int = 44100,
                 segment: float = 4 * 10):
        _check_options(hybrid, hybrid_old, wiener_iters, end_iters, multi_freqs,
                       multi_freqs_depth, norm_starts)
        sizes = layer_sizes(nfft, depth, kernel_size, stride, time_stride)
        branch = dict(depth=dconv_depth, compress=dconv_comp, init=dconv_init)
        make = LayerMaker(rewrite, context, context_enc, norm_starts, norm_groups, dconv_mode,
                           branch, dconv_attn, dconv_lstm, multi_freqs, multi_freqs_depth)
        parts, outputs = 2 if cac else 1, audio_channels * len(sources)
        super().__init__(sizes, make, (parts * audio_channels, parts * outputs, channels),
                         (audio_channels, outputs, channels_time or channels), growth, hybrid)
        self.sources, self.audio_channels = list(sources), audio_channels
        self.nfft, self.hop_length = nfft, nfft // 4
        self.samplerate, self.segment = samplerate, segment
        self.cac, self.hybrid, self.hybrid_old = cac, hybrid, hybrid_old
        self.wiener_iters, self.end_iters = wiener_iters, end_iters
        self.wiener_residual, self.freq_emb_scale = wiener_residual, freq_emb
        self.freq_emb = (ScaledEmbedding(sizes[0].bins_out, channels, emb_scale, emb_smooth)
                         if freq_emb else None)
        if rescale:
            rescale_module(self, rescale)

    def forward(self, mix: Tensor) -> Tensor:
        return sum(self.branches(mix))

    def valid_length(self, length: int) -> int:
        """Every length is valid: `course_lib.demucs.separate` pads nothing."""
        return length

# %% [markdown]
# It must be the plain network, for its sizes. The names of the tensors are the same, so the weights can be handed over:

# %%
torch.manual_seed(0)
small = HDemucs(STEMS, audio_channels=1, channels=8, nfft=64, depth=3).eval()
plain.load_state_dict(small.state_dict())
with torch.no_grad():
    x = 0.1 * torch.randn(2, 1, 777, generator=P.generator)
    assert torch.allclose(small(x), plain(x), atol=1e-6)
    assert small(x[..., :1]).shape == (2, 4, 1, 1) and small(0 * x).abs().max() < 1e-3
print(f"{len(small.state_dict())} tensors fit, and both give the same")

# %% [markdown]
# The options, each on the same input: shapes are right, and they really do something else.

# %%
options = {"magnitudes, phase of the mixture": dict(cac=False, wiener_iters=-1, end_iters=-1),
           "magnitudes, one round of EM": dict(cac=False, wiener_iters=1, end_iters=1),
           "spectrogram only": dict(hybrid=False), "old alignment": dict(hybrid_old=True),
           "two bands": dict(multi_freqs=[0.5], multi_freqs_depth=1)}

# %% [markdown]
# The same input through all of them:

# %%
found = {}
for name, arguments in options.items():
    torch.manual_seed(0)
    with torch.no_grad():
        found[name] = HDemucs(STEMS, 1, 8, nfft=64, depth=3, **arguments).eval()(x)
assert all(y.shape == (2, 4, 1, 777) and y.isfinite().all() for y in found.values())
assert all((a - b).abs().max() > 1e-6 for a in found.values() for b in found.values() if a is not b)

# %% [markdown]
# <details><summary>Quick question: "old alignment" puts the spectrogram branch 3/2 hops late, a bug in the first models that won a competition. Why did
# nobody hear it?</summary>
#
# The loss is computed on the sum of the branches, so the network learns to write its spectra 3/2 hops early. What it pays is context at the end: it must write
# a frame before it has come.
# </details>

# %% [markdown]
# ## 7.10 The published networks
#
# How large are they? On the device `meta` tensors have shapes but no numbers, so that counting costs nothing.

# %%
def size_of(**arguments):
    """Number of parameters of a network with these arguments, nothing computed."""
    with torch.device("meta"):
        return sum(p.numel() for p in HDemucs(STEMS, rescale=0, **arguments).parameters())

counts = {"HDemucs": size_of(), "low": size_of(nfft=1024, depth=5),
          "medium": size_of(nfft=2048), "high": size_of()}
named = {row["model"]: int(row["parameters"]) for row in published("hybrid_demucs_sizes")}
show_table([[name, count, named[name]] for name, count in counts.items()],
           ["network", "parameters, ours", "published"],
           caption="low, medium, high: torchaudio's; medium and high hold a norm besides "
                   "that no computation uses.")
assert counts["HDemucs"] == named["HDemucs"]

# %% [markdown]
# Where do they sit? Layer by layer, in the published size:

# %%
with torch.device("meta"):
    full = HDemucs(STEMS, rescale=0)
rows = [[name, *(f"{sum(p.numel() for p in layer.parameters()) / 1e6:.2f}" for layer in layers)]
        for name, layers in (("encoder", full.encoder), ("decoder", full.decoder[::-1]))]
rows += [[
    name, *(f"{sum(p.numel() for p in layer.parameters()) / 1e6:.2f}" for layer in layers), ""
] for name, layers in (("tencoder", full.tencoder), ("tdecoder", full.tdecoder[::-1]))]
show_table(rows, ["millions of parameters", *(f"layer {n}" for n in range(6))])
inner_share = sum(p.numel() for layers in (full.encoder[4:], full.decoder[:2])
                  for p in layers.parameters())
assert inner_share > 0.8 * counts["HDemucs"]

# %% [markdown]
# Nearly all of it sits in the inner two layers. torchaudio has the same network under other names; a small function hands its weights over.

# %%
#| export
TORCHAUDIO_NAMES = {"freq_encoder": "encoder", "freq_decoder": "decoder",
                    "time_encoder": "tencoder", "time_decoder": "tdecoder"}
TORCHAUDIO_SIZES = {"low": dict(nfft=1024, depth=5), "medium": dict(nfft=2048, depth=6),
                    "high": dict(nfft=4096, depth=6)}


def from_torchaudio(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a torchaudio.models.HDemucs under the names of `HDemucs`.

    Its last time encoder layer holds a norm that it never uses; that is left out. Section 7.10.
    """
    named = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        named[f"{TORCHAUDIO_NAMES.get(part, part)}.{rest}"] = tensor
    last = max(int(name.split(".")[1]) for name in named if name.startswith("tencoder."))
    return {name: tensor for name, tensor in named.items()
            if not name.startswith(f"tencoder.{last}.norm1")}

# %% [markdown]
# And the sizes of its three networks:

# %%
#| export
def torchaudio_hdemucs(size: str, sources: Sequence[str]) -> HDemucs:
    """The network of torchaudio.models.hdemucs_low, _medium or _high: size is its last word."""
    if size not in TORCHAUDIO_SIZES:
        raise ValueError(f"size is {size!r}; expected one of {', '.join(TORCHAUDIO_SIZES)}")
    return HDemucs(sources, **TORCHAUDIO_SIZES[size])

# %% [markdown]
# Here with a narrow one, its norms and scales drawn at random, since at their first values they would hide mistakes (`LayerScale` starts
# near 0, and what lies behind it could be anything):

# %%
torch.manual_seed(0)
theirs = torchaudio.models.HDemucs(STEMS, channels=8, nfft=256, depth=5, norm_starts=3).eval()
with torch.no_grad():
    for name, p in theirs.named_parameters():
        if p.ndim == 1:
            p.copy_(
                torch.rand_like(p) if "scale" in name or "weight" in name else 0.1 *
                torch.randn_like(p))

# %% [markdown]
# The same tensors in ours:

# %%
ours = HDemucs(STEMS, channels=8, nfft=256, depth=5, norm_starts=3).eval()
ours.load_state_dict(from_torchaudio(theirs.state_dict()))
with torch.no_grad():
    x = 0.1 * torch.randn(1, 2, 5000, generator=P.generator)
    difference = float((ours(x) - theirs(x)).abs().max() / theirs(x).abs().max())
print("ours and torchaudio's differ by less than a hundred-thousandth:", difference < 1e-5)
assert difference < 1e-5

# %% [markdown]
# The course's tests do the same for the package `demucs`, with every argument, in the full published size, and look at all
# intermediate results and gradients. Which weights may be used for what is said in chapter 9, where they are read.

# %% [markdown]
# ## 7.11 A penalty on singular values
#
# A matrix stretches vectors. By how much at most says its largest *singular value*
#
# $$ \sigma_1(A) = \max_{x \neq 0} \frac{\|A x\|}{\|x\|} . \tag{7.7} $$
#
# In a deep network the stretches multiply. To hold them, one adds to the loss what is large, for every weight tensor of a megabyte and more, taken as a matrix $A_l$ of outputs by inputs:
#
# $$ L + \lambda \sum_l \sigma_1(A_l)^2, \qquad \lambda = 10^{-5} . \tag{7.8} $$
#
# The smallest example: a matrix that stretches one direction by 3 and another by 1.

# %%
A = torch.diag(torch.tensor([3.0, 1.0]))
angles = torch.linspace(0, torch.pi, 181)
stretch = (A @ torch.stack([angles.cos(), angles.sin()])).norm(dim=0)
print(f"stretched by {stretch.min():.0f} to {stretch.max():.0f}; "
      f"twelve layers of 1.5 in a row: {1.5 ** 12:.0f}")
assert abs(float(stretch.max()) - float(torch.linalg.matrix_norm(A, 2))) < 1e-5

# %% [markdown]
# ### Power iteration
#
# How to find $\sigma_1$ without taking the matrix apart? Multiply some vector by $A^\top A$ again and again. In each round its part along the longest
# stretch grows by $\sigma_1^2$, the next one by $\sigma_2^2$, so the others fade as
#
# $$ \Big(\frac{\sigma_2}{\sigma_1}\Big)^{2n} \quad\text{after } n \text{ rounds.} \tag{7.9} $$

# %%
b = torch.tensor([1.0, 1.0])
for n in range(1, 5):
    b = F.normalize(A.T @ (A @ b), dim=0)
    print(f"after {n}: stretch {float((A @ b).norm()):.4f}, "
          f"other direction {float(b[1] / b[0]):.5f}, "
          f"by the formula {(1 / 3) ** (2 * n):.5f}")
    assert abs(float(b[1] / b[0]) - (1 / 3)**(2 * n)) < 1e-5

# %% [markdown]
# With 3 and 1 that is fast. But large random matrices have singular values that crowd just under the largest one, and
# then it crawls. **Low rank**: take 50 random vectors at once, iterate them together, and take apart the small matrix that is
# left (Halko, Martinsson and Tropp 2011). The best direction *within* their span is found at once, and 50 directions contain it nearly.
# `torch.svd_lowrank` does it. We need the large matrices of a model:

# %%
#| export
def weight_matrices(model: nn.Module, min_megabytes: float = 1.0) -> Iterator[tuple[str, Tensor]]:
    """Every large weight tensor as a matrix (outputs, all that an output reads), with its name.

    min_megabytes: at 4 bytes a number, in 2^20. Source: Défossez 2021; section 7.11.
    """
    for owner, layer in model.named_modules():
        turned = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d))
        for name, p in layer.named_parameters(recurse=False):
            if p.ndim >= 2 and p.numel() * 4 >= min_megabytes * 2 ** 20:
                yield f"{owner}.{name}", (p.transpose(0, 1) if turned else p).flatten(1)

# %% [markdown]
# The value with a gradient. For the power method the vector is found without gradient; that of $\|A b\|$ is right then, because at the maximum
# a small turn of $b$ changes nothing.

# %%
#| export
def largest_singular_value(A: Tensor, method: str = "lowrank", rank: int = 50,
                           iterations: int = 4) -> Tensor:
    """The largest singular value of A (row, column), with a gradient.

    method: "exact"; "lowrank", of a random projection to `rank` dimensions (torch.svd_lowrank);
    "power", by iterating with one vector. Both draw from torch's global generator. ValueError for
    another word. Source: Halko, Martinsson and Tropp 2011; section 7.11.
    """
    if method == "exact":
        return torch.linalg.matrix_norm(A, 2)
    if method == "lowrank":
        return torch.svd_lowrank(A, min(rank, *A.shape), iterations)[1][0]
    if method != "power":
        raise ValueError(f"method is {method!r}; expected exact, lowrank or power")
    with torch.no_grad():
        b = F.normalize(torch.randn(A.shape[1], dtype=A.dtype, device=A.device), dim=0)
        for _ in range(iterations):
            b = F.normalize(A.mT @ (A @ b), dim=0)                  # eq. 7.9
    return (A @ b).norm()

# %% [markdown]
# Both on a random matrix of 384 x 1536, beside the exact value:

# %%
torch.manual_seed(0)
A = torch.randn(384, 1536) / 1536**0.5
exact = float(largest_singular_value(A, "exact"))
rows_svd = []
for method, rank, rounds in (("power", 1, 2), ("power", 1, 4), ("power", 1, 32),
                             ("lowrank", 50, 2), ("lowrank", 50, 4)):
    values = [float(largest_singular_value(A, method, rank, rounds)) / exact for _ in range(5)]
    rows_svd.append([method, rank, rounds, sum(values) / 5, max(values) - min(values)])
show_table(rows_svd,
           ["method", "vectors", "rounds", "share of the exact value", "spread of five draws"],
           digits={"share of the exact value": 2, "spread of five draws": 2})
assert rows_svd[4][3] > rows_svd[1][3] + 0.02 and rows_svd[4][3] > 0.97

# %% [markdown]
# With equal rounds the power method is some percent short, and how much depends on the vector it starts from; fifty vectors come closer. Is that so for
# every matrix? Eight of them, the same number of rounds:

# %%
closer = []
for seed in range(8):
    torch.manual_seed(seed)
    A = torch.randn(192, 768)
    power, low = (float(largest_singular_value(A, method)) for method in ("power", "lowrank"))
    closer.append((low - power) / float(largest_singular_value(A, "exact")))
print(f"low rank is closer in {sum(value > 0 for value in closer)} of {len(closer)}")

# %% [markdown]
# What does either cost? A round is two products, with one vector or with fifty. Measured once, on a matrix as large as the inner layers have, by `course experiment hdemucs_depth`:

# %%
def results(name):
    """Rows of a table of this chapter's experiments, none where it has not been run."""
    try:
        return measured(f"07_hybrid_demucs/{name}")
    except FileNotFoundError:
        return []

if results("singular_values"):
    show_table([[
        row["method"], row["rank"], row["iterations"],
        float(row["share"]),
        float(row["milliseconds"])
    ] for row in results("singular_values")],
               ["method", "vectors", "rounds", "share of the exact value", "milliseconds"],
               digits={"share of the exact value": 3, "milliseconds": 0},
               caption="A random matrix of 768 x 3072, means of five draws, one core.")

# %% [markdown]
# Look for two rows of about equal closeness, such as 16 rounds with one vector and 4 with fifty:

# %%
costs = {(row["method"], row["rank"], row["iterations"]): row
         for row in results("singular_values")}
near_equal = [costs.get(key) for key in (("power", "1", "16"), ("lowrank", "50", "4"))]
if all(near_equal):
    one, fifty = (float(row["milliseconds"]) for row in near_equal)
    print(f"closeness {near_equal[0]['share']} and {near_equal[1]['share']}; "
          f"fifty vectors take {fifty / one:.0f} times as long")
    first, second = (float(row["share"]) for row in near_equal)
    assert abs(first - second) < 0.01 and fifty > one

# %% [markdown]
# So here, on one core, the power method is the cheaper one. The author of Demucs found it slower and less stable; a likely reason is the GPU, on which a product with one
# vector leaves most of the processor idle. The penalty adds the squares up:

# %%
#| export
def svd_penalty(model: nn.Module, min_megabytes: float = 1.0, method: str = "lowrank",
                rank: int = 50, iterations: int = 4) -> Tensor:
    """Squared largest singular values, added up over a model's large matrices (eq. 7.8)."""
    values = [largest_singular_value(A, method, rank, iterations).square()
              for _, A in weight_matrices(model, min_megabytes)]
    return torch.stack(values).sum() if values else next(model.parameters()).new_zeros(())

# %% [markdown]
# As part of a training step, which logs both:

# %%
#| export
class PenalisedStep:
    """A training step with the penalty on singular values: (model, batch) -> loss, and its parts.

    step: whose loss is penalised, a scalar. weight: of the penalty. options: as `svd_penalty`.
    Source: Défossez 2021; section 7.11.
    """

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor], weight: float = 1e-5,
                 **options):
        self.step, self.weight, self.options = step, weight, options

    def __call__(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        error, penalty = self.step(model, batch), svd_penalty(model, **self.options)
        return {"loss": error + self.weight * penalty, "error": error, "penalty": penalty}

# %% [markdown]
# Does it push where it should? One step down its gradient must shorten the longest stretch, and leave the others of the same matrix alone.

# %%
torch.manual_seed(0)
layer = nn.Linear(60, 40)
before = torch.linalg.svdvals(layer.weight.detach())
svd_penalty(layer, min_megabytes=0, method="exact").backward()
after = torch.linalg.svdvals(layer.weight.detach() - 0.005 * layer.weight.grad)
print("change of the first three:",
      [f"{value + 0.0:.3f}" for value in (after - before)[:3].tolist()])
assert after[0] < 0.995 * before[0] and (after - before)[1:].abs().max() < 1e-4

# %% [markdown]
# ## 7.12 A deep network that falls apart
#
# Does it matter? We train a network with four layers and one with eight, narrow ones, at a learning rate of 0.03, a hundred times that of the published network,
# for a few steps: `course experiment hdemucs_depth`, three seeds each. The deep one also with GroupNorm in the inner layers, with the penalty, and with both.

# %%
depth_rows = results("depth")
KINDS = {"4 layers": ("4", "plain"), "8 layers": ("8", "plain"), "8, GroupNorm": ("8", "GroupNorm"),
         "8, penalty": ("8", "penalty"), "8, both": ("8", "both")}
of_kind = lambda name, rows: [row for row in rows if (row["depth"], row["kind"]) == KINDS[name]]
seeds_run = {name: len(of_kind(name, depth_rows)) for name in KINDS}
print("seeds run:", seeds_run)

# %% [markdown]
# The loss over the steps, one line a seed:

# %%
if depth_rows:
    figure, axes = plt.subplots(1, len(KINDS), figsize=(10, 2.6), sharey=True)
    for axis, name in zip(axes, KINDS):
        log = of_kind(name, results("depth_logs"))
        for seed in sorted({row["seed"] for row in log}):
            line = [(int(row["step"]), float(row["loss"])) for row in log if row["seed"] == seed]
            axis.semilogy(*zip(*line), lw=1)
        axis.set(title=name, xlabel="step")
    axes[0].set_ylabel("L1 loss")
    show(figure, "Training loss at a rate of 0.03, no clipping; a line a seed, logarithmic.",
         "Five small plots with a common axis; see the table below for the peaks.")

# %% [markdown]
# And in numbers. The last column is what a step costs, in seconds of one core, as long as the first row's.

# %%
if depth_rows:
    mean_of = lambda name, column: (sum(float(row[column])
                                        for row in of_kind(name, depth_rows)) / seeds_run[name])
    base = mean_of("8 layers", "seconds_a_step")
    worst = lambda name: max(
        float(row["peak_loss"]) / float(row["first_loss"]) for row in of_kind(name, depth_rows))
    show_table(
        [[
            name, f"{worst(name):.3g}",
            mean_of(name, "largest_singular_value"),
            mean_of(name, "seconds_a_step") / base
        ] for name in KINDS if seeds_run[name]],
        ["network", "worst peak / first loss", "largest singular value", "time of a step"],
        digits={"largest singular value": 1, "time of a step": 2},
        caption=f"{seeds_run['8 layers']} seeds, {depth_rows[0]['steps']} steps; the peak after "
        "the fifth step, worst seed; the rest are means over seeds. Time: 1 is the deep network "
        "without remedy.")

# %% [markdown]
# Read it row by row. The verdict, by the rule that a run *falls apart* if its loss ever exceeds ten times its first:

# %%
apart = {
    name: sum(
        float(row["peak_loss"]) > 10 * float(row["first_loss"]) or row["peak_loss"] == "nan"
        for row in of_kind(name, depth_rows))
    for name in KINDS if seeds_run[name]
}
for name, count in apart.items():
    print(f"{name}: {count} of {seeds_run[name]} runs fall apart")
if depth_rows:
    slower = {
        name: mean_of(name, "seconds_a_step") / base
        for name in ("8, GroupNorm", "8, penalty")
    }
    assert (apart["8, GroupNorm"] == 0 < apart["8 layers"]
            and apart["8, penalty"] < apart["8 layers"])
    assert slower["8, GroupNorm"] < 1.3 and slower["8, penalty"] > 2

# %% [markdown]
# GroupNorm holds every run, and costs next to nothing. The penalty makes a step of this narrow network several times as long, and at so high a rate it is no guarantee: where a run
# falls apart with it, the singular values had grown faster than a weight of 0.0001, ten times that of (7.8), could hold them. (In the published network, whose steps take far longer, the penalty's share is smaller.)
# The published network has both, GroupNorm in its inner layers only. A caution: the rate was made too high to provoke what a large network meets at an ordinary rate after days. What the two remedies cost is real; how often
# one needs them is not answered by so small a network.
#
# <details><summary>Quick question: GroupNorm undoes any factor on a layer's weights. Why then does the largest singular value of the network with GroupNorm grow all the same?</summary>
#
# Because nothing stops it: the loss doesn't feel the factor, and Adam's steps add up. The penalty does stop it.
# </details>

# %% [markdown]
# ## 7.13 New songs from old ones
#
# Songs with stems are rare. Chapter 6 made new mixtures by *remixing*: drums of one song, the voice of another. They fit neither in beat nor in key, and a
# network that has learned from such mixtures may rely on that. For the last polish, *fine-tuning*, the authors of HT Demucs made a set in which
# stems of different songs **do** fit: same tempo, first beat together, keys matched. We build it from what can be heard of a song.
#
# ### Which notes does it use?
#
# A *chroma* vector says how much each of the twelve pitch classes C, C sharp, D ... sounds. The bass tells the harmony best. librosa's constant-Q transform has
# bins a semitone apart, folded into one octave; frames under 5% of the loudest level don't count.

# %%
#| export
def chroma_of(bass: Tensor, rate: int) -> Tensor:
    """How much each pitch class sounds in a bass, (12,) from C on, adding up to 1.

    bass: (channel, time). Frames under 5% of the loudest frame's level don't count; a silent bass
    gives 1/12 each. Source: Rouard, Massa and Défossez' training code; section 7.13.
    """
    import librosa
    y = bass.mean(0).numpy()
    if not y.any():
        return torch.full((12,), 1 / 12)
    chroma = torch.from_numpy(librosa.feature.chroma_cqt(y=y, sr=rate)).float()    # (12, frame)
    level = torch.from_numpy(librosa.feature.rms(y=y, hop_length=512)[0])
    n = min(chroma.shape[1], len(level))
    mean = chroma[:, :n][:, level[:n] >= 0.05 * level.max()].mean(1)
    return mean / mean.sum()

# %% [markdown]
# Moving a song up by $k$ semitones rolls its chroma by $k$ places. The best shift is the one after which two songs differ least,
#
# $$ k^\star = \arg\min_{-6 \le k \le 5}\; \frac{1}{12} \sum_{i=0}^{11} \big|\, c_{(i - k) \bmod 12} - t_i \,\big| . \tag{7.10} $$

# %%
#| export
def shift_distances(chroma: Tensor, target: Tensor) -> dict[int, float]:
    """Mean absolute difference of two chroma vectors for each shift, -6 to 5 semitones (7.10)."""
    return {k: float((chroma.roll(k) - target).abs().mean()) for k in range(-6, 6)}

# %% [markdown]
# A song in C whose bass plays C, F and G, and one that plays D, G and A: two semitones.

# %%
in_c, in_d = torch.zeros(12), torch.zeros(12)
in_c[[0, 5, 7]] = torch.tensor([0.5, 0.25, 0.25])
in_d[[2, 7, 9]] = torch.tensor([0.5, 0.25, 0.25])
distances = shift_distances(in_c, in_d)
print({k: round(value, 2) for k, value in distances.items()})
assert min(distances, key=distances.get) == 2

# %% [markdown]
# ### How fast, and when?
#
# Tempo and beats come from the drums. A tracker may hear beats at half or double the speed, so a song of tempo $a$ may be fitted to tempo $b$ at any of
#
# $$ f = \frac{r\, b}{a}, \qquad r \in \{\tfrac14, \tfrac12, 1, 2, 4\}, \tag{7.11} $$
#
# and we take the factor nearest to 1, counted in ratios.

# %%
#| export
TEMPO_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)


def tempo_factor(tempo: float, target: float) -> float:
    """How much faster a song must be for its beats to fall on another's (eq. 7.11).

    Beats of one may be halves or doubles of the other's: the ratio that changes least is taken.
    """
    factors = [target * ratio / tempo for ratio in TEMPO_RATIOS]
    return min(factors, key=lambda factor: abs(math.log(factor)))

# %% [markdown]
# A song of 60 beats a minute under one of 110: not 1.83 times as fast, but a little slower, with two of the other's beats to each of its own.

# %%
print(f"{tempo_factor(60, 110):.2f}, {tempo_factor(100, 110):.2f}")
assert abs(tempo_factor(60, 110) - 55 / 60) < 1e-9

# %% [markdown]
# Then the first beat. Put each song's beats on a grid of 5 ms, a small hill for each, and slide one curve along the other, up to 4 seconds either way. Where the sum
# of products is largest, they meet best. Hills, not single points: beats that miss each other by 10 ms still count.

# %%
#| export
def beat_curve(beats: Tensor, seconds: float, step: float = 0.005, width: float = 0.02) -> Tensor:
    """Beats (count,) in seconds as a curve on a grid, a small hill a beat: (seconds / step,)."""
    grid = torch.arange(round(seconds / step)) * step
    return torch.exp(-0.5 * ((grid - beats[:, None]) / width) ** 2).sum(0)

# %% [markdown]
# The offset is the best place on the grid:

# %%
#| export
def beat_offset(beats: Tensor, target: Tensor, seconds: float, step: float = 0.005,
                most: float = 4.0) -> float:
    """By how many seconds beats must come later to fall best on others': -most to most.

    Both (count,) in seconds. Source: section 7.13.
    """
    reach = round(most / step)
    ours, theirs = (beat_curve(times, seconds, step) for times in (beats, target))
    scores = F.conv1d(F.pad(theirs, (reach, reach))[None, None], ours[None, None]).flatten()
    return (int(scores.argmax()) - reach) * step

# %% [markdown]
# Beats that come 0.3 s early must come 0.3 s later, even if one of them is missing and another is off:

# %%
beats = torch.tensor([0.5, 1.0, 1.51, 2.0, 2.5, 3.5])
target = torch.arange(0.8, 5.0, 0.5)
print(f"{beat_offset(beats, target, 6.0):.2f} s")
assert abs(beat_offset(beats, target, 6.0) % 0.5 - 0.3) < 0.011

# %% [markdown]
# All that together says how a song's stems must be moved. What would sound treated, more than 3 semitones or 15% of tempo, is not allowed.

# %%
#| export
@dataclass(frozen=True)
class Fit:
    """What makes one song's stems fit another song: semitones up, times as fast, seconds later."""

    semitones: int
    factor: float
    later: float

    @property
    def allowed(self) -> bool:
        """At most 3 semitones and 15%: beyond that, stems sound treated."""
        return abs(self.semitones) <= 3 and abs(self.factor - 1) <= 0.15

# %% [markdown]
# What is listened to is kept with the song, so that each is heard once:

# %%
#| export
class Listened:
    """What is heard of a song for `automix`: tempo (a minute), beats (seconds), chroma (12,).

    track: with drums and bass. Tempo and beats come from the drums, by librosa's beat tracker.
    """

    def __init__(self, track):
        import librosa
        self.track = track
        drums, bass = track.sources(["drums", "bass"])              # (channel, time)
        tempo, beats = librosa.beat.beat_track(y=drums.mean(0).numpy(), sr=track.rate, units="time")
        self.tempo, self.beats = float(np.atleast_1d(tempo)[0]), torch.from_numpy(beats).float()
        self.chroma = chroma_of(bass, track.rate)

    def fit_to(self, other: "Listened") -> Fit | None:
        """How this song's stems would have to be moved to fit the other; None without beats."""
        if not len(self.beats) or not len(other.beats) or not self.tempo > 0 or not other.tempo > 0:
            return None
        distances = shift_distances(self.chroma, other.chroma)
        factor = tempo_factor(self.tempo, other.tempo)
        later = beat_offset(self.beats / factor, other.beats, other.track.seconds)
        return Fit(min(distances, key=distances.get), factor, later)

# %% [markdown]
# Listen to a few of the band's songs with it. Which pairs fit?

# %%
band = mono_tracks(lambda: open_tracks("band", "train", count=P.mix_songs), 22_050, 20.0)
listened = [Listened(track) for track in band]
fits = {(i, j): listened[i].fit_to(listened[j])
        for i in range(len(band))
        for j in range(len(band)) if i != j}
show_table([[
    one.track.name,
    round(one.tempo),
    len(one.beats),
    sum(fits[j, i] is not None and fits[j, i].allowed for j in range(len(band)) if j != i)
] for i, one in enumerate(listened)], [
    "song", "tempo heard", "beats", "songs that fit it"
], caption=f"{len(band)} songs of the band; a song fits if it moves by at most 3 semitones, 15%.")
allowed = [pair for pair, fit in fits.items() if fit is not None and fit.allowed]
assert allowed

# %% [markdown]
# The stems of a song are moved together, by chapter 6's `repitch`, and the remix takes drums from one song and each other stem from the first that fits:

# %%
#| export
def moved(stem: Tensor, fit: Fit, rate: int, length: int) -> Tensor:
    """A stem (channel, time) at another pitch, tempo and place, `length` samples of it."""
    x = repitch(stem, fit.semitones, fit.factor)
    late = round(fit.later * rate)
    x = F.pad(x, (late, 0)) if late >= 0 else x[..., -late:]
    return F.pad(x, (0, max(0, length - x.shape[-1])))[..., :length]

# %% [markdown]
# The drums stay; for each other stem the songs are tried in random order.

# %%
#| export
def automix(songs: Sequence[Listened], base: int, generator: torch.Generator,
            stems: Sequence[str] = ("bass", "other", "vocals")) -> dict[str, tuple[str, Tensor]]:
    """A new song: one song's drums, and each other stem from another song that fits it.

    songs: all at one rate. base: whose drums. stems: to be found elsewhere, each in the first
    song, in random order, that fits within `Fit.allowed`. Returns stem -> (name of its song, audio
    (channel, time)), only of those that were found. Source: Rouard, Massa and Défossez' training
    code; section 7.13.
    """
    home = songs[base].track
    found = {"drums": (home.name, home.sources(["drums"])[0])}
    for stem in stems:
        for index in torch.randperm(len(songs), generator=generator).tolist():
            fit = songs[index].fit_to(songs[base]) if index != base else None
            if fit is not None and fit.allowed:
                audio = songs[index].track.sources([stem])[0]
                found[stem] = songs[index].track.name, moved(audio, fit, home.rate, home.frames)
                break
    return found

# %% [markdown]
# One new song. First the same stems without any fitting, as chapter 6's remix would have them, then fitted.

# %%
base = max(range(len(band)), key=lambda j: sum(pair[1] == j for pair in allowed))
new = automix(listened, base, torch.Generator().manual_seed(1))
by_name = {track.name: track for track in band}
plain_mix = sum(by_name[name].sources([stem])[0] for stem, (name, _) in new.items())
fitted_mix = sum(audio for _, audio in new.values())
print(", ".join(f"{stem} of {name}" for stem, (name, _) in new.items()))
assert len({name for name, _ in new.values()}) >= 3, "a song of one or two songs is no new song"
listen(0.7 * plain_mix[:, 4 * rate:11 * rate], rate, "put together as they are")
listen(0.7 * fitted_mix[:, 4 * rate:11 * rate], rate, "fitted")

# %% [markdown]
# Do the beats really fall together? Measure it on what the fitting did not use: the *onsets* of the fitted bass, other and voice, against the beats of the drums. What share of
# the onset strength lies within 50 ms of a beat or half-beat of the drums?

# %%
def near_the_beat(audio, beats):
    """Share of the onset strength of audio (channel, time) within 50 ms of (half-)beats."""
    import librosa

    strength = torch.from_numpy(librosa.onset.onset_strength(y=audio.mean(0).numpy(), sr=rate))
    times = torch.arange(len(strength)) * 512 / rate
    grid = torch.cat([beats, (beats[1:] + beats[:-1]) / 2])
    close = (times[:, None] - grid).abs().min(1).values < 0.05
    return float(strength[close].sum() / strength.sum())

# %% [markdown]
# For each stem, before and after:

# %%
rows = []
for stem in ("bass", "other", "vocals"):
    if stem in new:
        name, audio = new[stem]
        rows.append([
            stem,
            near_the_beat(by_name[name].sources([stem])[0], listened[base].beats),
            near_the_beat(audio, listened[base].beats)
        ])
show_table(
    rows, ["stem", "as it is", "fitted"], digits=2,
    caption="Share of a stem's onset strength within 50 ms of the drums' beats and half-beats; "
    "one new song.")

# %% [markdown]
# One song is an example and no proof. Over all pairs of the songs above that are allowed to fit, each song's own drums, moved, against the other's beats:

# %%
gains = []
for i, j in allowed[:12]:
    drums = band[i].sources(["drums"])[0]
    gains.append(
        near_the_beat(moved(drums, fits[i, j], rate, band[j].frames), listened[j].beats) -
        near_the_beat(drums, listened[j].beats))
print(f"{len(gains)} pairs: more of the drums' onsets on the other's beats in "
      f"{sum(g > 0 for g in gains)}")
assert sum(gains) > 0

# %% [markdown]
# ### What is it worth?
#
# The authors made six new songs from each old one, and used them for fine-tuning only. So does `course experiment hdemucs_remixed`: it takes the committed network of 7.14 and goes on at a third of its rate, with equal steps, on the train songs *as they are*; on stems put together *by chance* (chapter 6's remix, in every group of chunks); and on *fitted* songs. The first row is the network before:

# %%
remixed_card = measured_card("07_hybrid_demucs/remixed")
remixed_rows, remixed_songs = results("remixed"), results("remixed_songs")
def of_stems(kind):
    """SDR after fine-tuning on one kind of songs: (seed, song, stem)."""
    seeds = sorted({row["seed"] for row in remixed_rows if row["kind"] == kind})
    return torch.tensor([[[float(row[stem]) for stem in STEMS] for row in remixed_songs
                          if (row["kind"], row["seed"]) == (kind, seed)] for seed in seeds])

def fine_tuned(kind):
    """The mean over stems: (seed, song)."""
    return of_stems(kind).nanmean(-1)

kinds = list(dict.fromkeys(row["kind"] for row in remixed_rows))
show_table([[kind, int(next(row for row in remixed_rows if row["kind"] == kind)["songs_to_learn"]),
             *of_stems(kind).nanmean((0, 1)).tolist(), mean_interval(fine_tuned(kind).mean(0)),
             ", ".join(f"{float(mean):.2f}" for mean in fine_tuned(kind).mean(1))]
            for kind in kinds], ["learned from songs", "how many", *STEMS, "mean", "mean, by seed"],
           digits=2,
           caption="{steps} steps of {batch_size} chunks of {seconds:g} s, rate {rate:g}; the "
           "middles of {test_songs} test songs, 95% interval over songs.".format(
               **remixed_card["settings"]))

# %% [markdown]
# Pair by pair, over songs, the mean of the seeds, and by the rule of 7.14 (interval without zero, both seeds agree, more than two seeds of either differ):

# %%
def tuned_apart(first, second):
    """Print the difference of two kinds; how far two seeds lie apart, and whether it counts."""
    gap = fine_tuned(first) - fine_tuned(second)                             # (seed, song)
    seeds = max(float(x.mean(1).max() - x.mean(1).min()) for x in map(fine_tuned, (first, second)))
    enough = SAME_TREND in (same_trend(gap), same_trend(-gap)) and abs(float(gap.mean())) > seeds
    print(f"{first}, less {second}: {difference_in_words(gap.mean(0), digits=2)}; "
          f"{'counts' if enough else 'does not count'}")
    return seeds, enough

tuned = {pair: tuned_apart(*pair) for pair in (
    ("fitted", "as they are"), ("fitted", "by chance"), ("by chance", "as they are"),
    *((kind, "not fine-tuned") for kind in kinds[1:]))}
print(f"{remixed_card['new_songs']} fitted songs; "
      f"{remixed_card['songs_that_none_fits']} of {remixed_card['settings']['train_songs']} songs "
      "found no partners")
assert not any(enough for _, enough in tuned.values()), "the text below says that nothing counts"

# %% [markdown]
# So nothing counts. Fitted or thrown together, from six times as many songs or from sixty: after these steps the three can't be told apart, and none is ahead of the network that wasn't fine-tuned at all. They only trade: all three give a little up on drums and bass and win it back on vocals. Two reasons are at hand. The network before is an average over its last steps, at the end of a falling rate; a few hundred steps from there are hardly learning. And the band is the wrong place to need this: it is composed by a program from few instruments, so that a chance remix of it sounds little stranger than a song. The authors fine-tuned a network that had learned from 800 real songs; what we measured says nothing against that, and nothing for it.

# %% [markdown]
# ## 7.14 What the hybrid does
#
# Everything is there; now train. As always in this course the training that matters is one command, whose results come with it. `course experiment hdemucs` trains a small network
# and its relatives, on the songs, steps and scores of chapter 6's table; `course train hdemucs_band` the committed one. How small that is, and what has been run so far:

# %%
card = measured_card("07_hybrid_demucs/runs")
used = card["settings"]
runs = {(row["variant"], int(row["seed"])): row for row in results("runs")}
missing = [f"{name}, seed {seed}" for name, seeds in experiment.SEEDS.items() for seed in seeds
           if (name, seed) not in runs]
show_table(
    [[
        "songs to learn from",
        f"{used['train_songs']} of {used['song_seconds']:g} s, mono, {card['rate_hz']} Hz"
    ], ["songs to score on", f"{used['test_songs']}, the middle {used['score_seconds']:g} s"],
     [
         "steps, batch, seconds of a chunk",
         f"{used['steps']}, {used['batch_size']}, {used['seconds']:g}"
     ], ["network", f"{used['channels']} channels, nfft {used['nfft']}, depth {used['depth']}"],
     ["not run yet", "; ".join(missing) or "nothing"]], ["what", "how much"],
    caption=f"{card['command']}, on {card['machine']}.")

# %% [markdown]
# With so few steps a table shows what *learns faster*, not what is better in the end. Every run was made with two seeds, which draw the first weights and the chunks:

# %%
def by_song(variant):
    """SDR of a variant's runs: (seed, song, stem), songs in their order; empty if there is none."""
    return torch.tensor([[[float(row[stem]) for stem in STEMS] for row in results("songs")
                          if (row["variant"], int(row["seed"])) == (variant, seed)]
                         for seed in experiment.SEEDS[variant] if (variant, seed) in runs])

def lead(one, other):
    """Differences (seed, song) of the seeds that both have, and how far two seeds are apart."""
    pairs = [by_song(name) for name in (one, other)]
    both = min(map(len, pairs))
    if not both:
        return torch.zeros(0, 0), 0.0
    means = [scores.nanmean(1).mean(-1) for scores in pairs]                   # (seed) each
    apart = max(float(mean.max() - mean.min()) for mean in means)
    return pairs[0][:both].nanmean(-1) - pairs[1][:both].nanmean(-1), apart

# %% [markdown]
# A row a variant, means over its seeds; beside the scores what it cost:

# %%
def row_of(name):
    """A row of the table: stems, mean, seeds apart, size and seconds of a run."""
    scores = by_song(name)
    means = scores.nanmean(1).mean(-1)
    rows = [row for (variant, _), row in runs.items() if variant == name]
    seconds = np.median([float(row["cpu_seconds"]) for row in rows])
    return [name, *scores.nanmean(1).mean(0).tolist(), float(means.mean()),
            float(means.max() - means.min()) if len(means) > 1 else None,
            int(rows[0]["parameters"]) / 1e6, float(seconds)]

hybrid = by_song("hybrid")
order = [name for name in experiment.VARIANTS if (name, 0) in runs]
show_table(
    [row_of(name) for name in order],
    ["run", *STEMS, "mean", "seeds apart", "million weights", "seconds of one core"],
    digits={
        "million weights": 1, "seconds of one core": 0, "seeds apart": 2,
        **dict.fromkeys([*STEMS, "mean"], 1)
    }, caption=f"SDR in dB, {hybrid.shape[1]} songs, means over seeds.")
assert hybrid.shape[1] == used["test_songs"]

# %% [markdown]
# A hybrid step takes longer than a step of the waveform network, so equal steps are not equal time. `hybrid, equal time` has fewer steps, about as many as fit into the time of `waveform only`; compare these two for
# what a minute buys. A variant is *ahead* only if the interval of the paired difference over songs excludes zero, both seeds agree, and the lead exceeds what two seeds of either are apart:

# %%
def told_apart(one, other):
    """Which of two variants is ahead, in words."""
    differences, apart = lead(one, other)
    if len(differences) < 2:
        return "too few seeds"
    for first, sign in ((one, 1), (other, -1)):
        ahead = sign * differences
        if same_trend(ahead) == SAME_TREND and float(ahead.mean()) > apart:
            return f"{first} ahead"
    return "not told apart"


for pair in (
    ("hybrid", "spectrogram only"),
    ("hybrid", "waveform only"),
    ("hybrid, equal time", "waveform only"),
    ("hybrid", "magnitudes"),
    ("hybrid", "without residual branches"),
    ("hybrid", "without frequency embedding"),
    ("hybrid", "with penalty"),
):
    differences = difference_in_words(lead(*pair)[0])
    print(" less ".join(pair) + f": {differences}; {told_apart(*pair)}")

# %% [markdown]
# The losses on the way:

# %%
logs = {
    name: [(int(row["step"]), float(row["loss"])) for row in results("logs")
           if (row["variant"], row["seed"]) == (name, "0")]
    for name in order
}
axis = plot_losses({name: tuple(np.array(log).T) for name, log in logs.items()}, smoothing=60)
show(axis, "L1 loss while learning, smoothed over 60 steps: equal songs, seed 0.",
     "Falling curves on a logarithmic axis, a line a run.")

# %% [markdown]
# ### Where it stands
#
# The committed networks beside the bounds, on the same songs. Chapter 6's trained on more batches than ours; Open-Unmix in stereo, at twice the rate, for an hour. The cards say how long each took.

# %%
trained = {name: load_trained(name) for name in ("demucs_band", "hdemucs_band")}
cards = {name: read_card(shipped_file(f"checkpoints/{name}.safetensors")) for name in trained}
show_table(
    [[
        name, cards[name]["parameters"] / 1e6, cards[name]["steps"],
        cards[name]["config"]["training"]["batch_size"], cards[name]["minutes"]
    ] for name in trained], ["committed network", "million weights", "steps", "batch", "minutes"],
    digits=1,
    caption="Minutes of wall time on a machine that was shared with other work, so not comparable."
)

# %% [markdown]
# Their scores:

# %%
bound_rows = results("bounds")
by_method = lambda method: torch.tensor([[float(row[stem]) for stem in STEMS]
                                         for row in bound_rows if row["method"] == method])
methods = {
    method: by_method(method)
    for method in dict.fromkeys(row["method"] for row in bound_rows)
}
methods["Hybrid Demucs, 400 steps"] = hybrid[0]
methods["Demucs v2, 400 steps"] = torch.tensor(
    [[float(row[stem]) for stem in STEMS] for row in measured("06_demucs/songs")
     if (row["variant"], row["seed"]) == ("base", "0")])
ranking = sorted(methods, key=lambda method: float(methods[method].nanmean()))
show_table(
    [[method, *methods[method].nanmean(0).tolist(),
      mean_interval(methods[method].nanmean(1))]
     for method in ranking], ["SDR in dB", *STEMS, "mean of stems"], digits=1,
    caption=f"The middle {used['score_seconds']:g} s of {hybrid.shape[1]} band test songs; "
    "last column with 95% interval.")
if bound_rows:
    assert ranking[0] == "mixture / 4" and ranking[-1] == "ideal ratio mask"

# %% [markdown]
# ### Which branch wins which stem?
#
# The estimate is a sum. Leave out one addend and score the other:

# %%
def branch(part):
    """A column of the committed hybrid's branches: (song, stem)."""
    return torch.tensor([[float(row[stem]) for stem in STEMS]
                         for row in results("trained_branches") if row["part"] == part])

# %% [markdown]
# Both addends, and the share of the energy that the waveform branch writes:

# %%
parts = {part: branch(part) for part in ("both", "spectrogram", "waveform")}
share = branch("waveform's share of the energy")
if len(share):
    show_table(
        [
            *[[part, *scores.nanmean(0).tolist()] for part, scores in parts.items()],
            ["waveform's share of the energy", *share.nanmean(0).tolist()]
        ], ["branch left in", *STEMS], digits=2,
        caption=f"SDR in dB, hdemucs_band, {len(share)} songs; last row: of both energies.")

# %% [markdown]
# Don't read the scores of a single branch as what it could do alone: it was never asked to. Each learned to *complete* the other, and may even write what the other takes away. What the
# table shows is who carries a stem. In words, stem by stem, from the paired difference over songs:

# %%
carries = {}
for place, stem in enumerate(STEMS):
    if len(share):
        above = parts["spectrogram"][:, place] - parts["waveform"][:, place]
        _, low, high = mean_interval(above)
        carries[stem] = "spectrogram" if low > 0 else "waveform" if high < 0 else "neither clearly"
print(carries or "not run yet")

# %% [markdown]
# See it on one song, for the drums: what each branch writes, and their sum.

# %%
with torch.no_grad():
    spectral, timed = (part[0] for part in trained["hdemucs_band"].branches(song.mixture[None]))
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharey=True, sharex=True)
shown = {
    "spectrogram branch": spectral, "waveform branch": timed, "sum": spectral + timed,
    "the truth": song.sources(STEMS)
}
for axis, (title, x) in zip(axes, shown.items()):
    plot_spectrogram(x[0, :, piece], rate, title, colour_bar=False, db_range=70, loudest=-15,
                     ax=axis)
show(
    figure,
    "Four seconds of the drums in one song: either branch of the committed network, their sum, "
    "the truth.", "Four spectrograms side by side with upright strokes.")

# %% [markdown]
# ### And the noise?
#
# Back to section 7.1. The same measure in the pauses, over all test songs, of both committed networks:

# %%
def noise(method, stem="vocals", column="level_db"):
    """A column of the noise in pauses: band -> (song,), NaN where the stem never pauses."""
    rows = [
        row for row in results("trained_noise") if row["method"] == method and row["stem"] == stem
    ]
    return {
        band: torch.tensor([float(row[column]) for row in rows if row["band"] == band])
        for band in dict.fromkeys(row["band"] for row in rows)
    }

# %% [markdown]
# Level and flatness, band by band:

# %%
labels = {"Demucs, longer": "Demucs", "Hybrid Demucs, longer": "Hybrid Demucs"}
levels = {name: noise(method) for method, name in labels.items()}
flat = {name: noise(method, column="flatness") for method, name in labels.items()}
if levels["Hybrid Demucs"]:
    show_table(
        [[
            band, *(mean_interval(levels[name][band])
                    for name in levels), *(float(flat[name][band].nanmean()) for name in flat)
        ] for band in levels["Demucs"]],
        ["vocals in pauses", "Demucs, dB", "Hybrid, dB", "flatness, Demucs", "flatness, Hybrid"],
        digits={"Demucs, dB": 0, "Hybrid, dB": 0, "flatness, Demucs": 2, "flatness, Hybrid": 2},
        caption="Level against the mixture's in that band, mean over songs and 95% interval.")

# %% [markdown]
# The difference, song by song; negative means that the hybrid leaves less:

# %%
noise_change = {
    band: levels["Hybrid Demucs"][band] - levels["Demucs"][band]
    for band in levels["Demucs"] if levels["Hybrid Demucs"]
}
for band, change in noise_change.items():
    print(f"{band}: {difference_in_words(change, digits=1)}")

# %% [markdown]
# So here the hybrid leaves *more*, in every band. Two reasons are at hand. It learned for fewer steps (see the cards above), and a network that has learned less leaves more of everything. And in so young a hybrid most of
# the energy of drums, bass and other comes from the waveform branch, with all that such a branch leaves behind:

# %%
if noise_change:
    assert min(float(change.nanmean()) for change in noise_change.values()) > 0
    print("share of the waveform branch:", {stem: round(value, 1) for stem, value
                                            in zip(STEMS, share.nanmean(0).tolist())})

# %% [markdown]
# Listen to it. First the whole voice, then what lies above 5 kHz, each as loud as it can be.

# %%
with torch.no_grad():
    hybrid_stems = separate(trained["hdemucs_band"], song.mixture)
listen(hybrid_stems[3, :, piece], rate, "vocals, Hybrid Demucs")
listen(treble(hybrid_stems[3])[:, piece], rate, "above 5 kHz: Hybrid Demucs", normalize=True)

# %% [markdown]
# The runs with equal steps say more about the kind of network. For them, in the highest band:

# %%
def run_noise(variant, column):
    """A column of the vocals' noise in the highest band, of a variant's runs: (seed, song)."""
    rows = [row for row in results("noise") if row["stem"] == "vocals"
            and row["variant"] == variant and row["band"].startswith("5000")]
    return torch.tensor([[float(row[column]) for row in rows if int(row["seed"]) == seed]
                         for seed in experiment.SEEDS[variant] if (variant, seed) in runs])

# %% [markdown]
# A row a run:

# %%
top = [
    name for name in ("waveform only", "spectrogram only", "hybrid", "magnitudes") if name in order
]
show_table([[
    name,
    mean_interval(run_noise(name, "level_db").mean(0)),
    float(run_noise(name, "flatness").nanmean()),
    mean_interval(run_noise(name, "error_db").mean(0))
] for name in top], ["run", "level in pauses, dB", "flatness", "error / stem, dB"], digits={
    "flatness": 2, "level in pauses, dB": 1, "error / stem, dB": 1
}, caption="Vocals above 5 kHz, equal steps; the last column in all frames, against the true "
           "stem in that band.")
static, static_apart = torch.zeros(0, 0), 0.0
if {"waveform only", "hybrid"} <= set(order):
    levels_of = [run_noise(name, "level_db") for name in ("waveform only", "hybrid")]
    seeds = min(map(len, levels_of))
    static = levels_of[0][:seeds] - levels_of[1][:seeds]
    static_apart = max(float(level.nanmean(1).max() - level.nanmean(1).min())
                       for level in levels_of)

# %% [markdown]
# Read the last column with it: an error of about 0 dB against the stem means that in this band the network writes *nothing* yet, and who writes nothing is silent in pauses, too. So a low level is no merit by itself. In words, for the claim:

# %%
if len(static):
    print("the waveform network's level in pauses, less the hybrid's:",
          difference_in_words(static, digits=1))

# %% [markdown]
# ### The rest of the song
#
# Last, all four stems of the song from the committed hybrid.

# %%
for place, stem in enumerate(STEMS[:3]):
    listen(hybrid_stems[place, :, piece], rate, f"{stem}, Hybrid Demucs")

# %% [markdown]
# ## 7.15 What we built
#
# | name | what | section |
# |---|---|---|
# | `padded_to_hops`, `aligned_stft`, `aligned_istft` | a transform whose frames lie on hops | 7.2 |
# | `complex_as_channels`, `channels_as_complex`, `standardised` | what goes into the branches | 7.3 |
# | `LayerSizes`, `layer_sizes` | the convolutions, layer by layer | 7.4 |
# | `ScaledEmbedding` | an address for every frequency | 7.5 |
# | `HEncLayer`, `HDecLayer`, `EncoderBands`, `DecoderBands` | the layers of either branch | 7.8, 7.9 |
# | `TwoUNets`, `HDemucs` | the network | 7.9 |
# | `from_torchaudio`, `torchaudio_hdemucs` | torchaudio's weights and sizes | 7.10 |
# | `weight_matrices`, `largest_singular_value`, `svd_penalty`, `PenalisedStep` | the penalty | 7.11 |
# | `chroma_of`, `shift_distances`, `tempo_factor`, `beat_curve`, `beat_offset`, `Fit`, `Listened`, `moved`, `automix` | new songs from old ones | 7.13 |
#
# All of it is in `course_lib.hdemucs`.

# %% [markdown]
# ## 7.16 Paper claims
#
# Scores on MUSDB18 can't be had from the band, so the published levels *need real data*. Differences between our runs rest on few steps: one counts as seen only by the three rules of section 7.14.

# %%
scores = {row["model"]: row for row in published("hybrid_demucs_scores")}
listeners = {row["model"]: row for row in published("hybrid_demucs_listeners")}
paper_gain = float(scores["Hybrid Demucs"]["all"]) - float(scores["Demucs v2"]["all"])

def claim(text, source, section, paper, differences, apart):
    """A claim that is right if the differences (seed, song) are positive and exceed `apart`."""
    seen = same_trend(differences) if len(differences) > 1 else NOT_SEEN
    if seen == SAME_TREND and float(differences.nanmean()) <= apart:
        seen = NOT_SEEN
    return Claim(text, source, section, paper, difference_in_words(differences), seen)

# %% [markdown]
# The verdicts are computed:

# %%
claims = [
    Claim("Parameters of the published network", "package demucs 4.1.0", "7.10",
          f"{named['HDemucs']:,}", f"{counts['HDemucs']:,}",
          reproduced(counts["HDemucs"], named["HDemucs"], 0)),
    claim("Both branches beat the waveform alone, equal steps", "Défossez 2021", "7.14",
          f"{paper_gain:+.1f} dB over v2", *lead("hybrid", "waveform only")),
    claim("The same in equal time", "this chapter", "7.14", None,
          *lead("hybrid, equal time", "waveform only")),
    claim("Both branches beat the spectrogram alone", "Défossez 2021", "7.14", "order only",
          *lead("hybrid", "spectrogram only")),
    claim("Complex as channels beats magnitudes in a hybrid", "Défossez 2021", "7.14",
          "order only", *lead("hybrid", "magnitudes")),
    claim("Residual branches help", "Défossez 2021", "7.14", "order only",
          *lead("hybrid", "without residual branches")),
    claim("The frequency embedding helps", "Isik et al. 2020", "7.14", "order only",
          *lead("hybrid", "without frequency embedding")),
    claim("The penalty helps", "Défossez 2021", "7.14", "order only",
          *lead("with penalty", "hybrid"))
]

# %% [markdown]
# The others: noise, depth, the cost of the penalty, and listeners, whom we don't have.

# %%
falls = lambda name: f"{apart.get(name, 0)} of {seeds_run[name]} runs fall apart"
dearer = (mean_of("8, penalty", "seconds_a_step") /
          mean_of("8 layers", "seconds_a_step") if depth_rows else math.nan)

# %% [markdown]
# Their rows:

# %%
claims += [
    claim("The hybrid leaves less noise in the vocals' treble than the waveform network",
          "Défossez 2021", "7.14", "order only", static, static_apart),
    claim("Fine-tuning on fitted songs is worth more than on songs put together by chance",
          "Rouard et al. 2022", "7.13", "order only",
          fine_tuned("fitted") - fine_tuned("by chance"), tuned["fitted", "by chance"][0]),
    Claim("Deep networks can diverge; GroupNorm in the inner layers holds them", "Défossez 2021",
          "7.12", "order only",
          f"without: {falls('8 layers')}; with: {falls('8, GroupNorm')} (a high rate, 3 seeds)",
          NEEDS_REAL_DATA),
    Claim(
        "The penalty on singular values holds them, too", "this chapter", "7.12", None,
        f"{falls('8, penalty')}; a step takes {dearer:.1f} times as long"
        if depth_rows else "not run", NEEDS_REAL_DATA),
    Claim(
        "The power method is less exact than low rank at equal rounds", "package demucs 4.1.0",
        "7.11", "order only",
        f"{rows_svd[1][3]:.2f} against {rows_svd[4][3]:.2f} of the exact value, "
        f"{len(closer)} matrices", same_trend(closer)),
    Claim("It is slower", "package demucs 4.1.0", "7.11", "order only",
          f"at equal closeness {fifty / one:.0f} times faster here (one matrix, one core, no GPU)"
          if all(near_equal) else "not run", NEEDS_REAL_DATA),
    Claim(
        "Listeners hear less contamination", "Défossez 2021", "7.14",
        " against ".join(listeners[name]["contamination"]
                         for name in ("Hybrid Demucs", "Demucs")), "no listeners",
        NEEDS_REAL_DATA),
    Claim("SDR on MUSDB18-HQ", "Défossez 2021", "7.14", f"{scores['Hybrid Demucs']['all']} dB",
          "not run", NEEDS_REAL_DATA)
]
show_claims(claims)

# %% [markdown]
# An interval over songs says nothing about another seed; that is why a lead of less than two seeds' distance (section 7.14) doesn't count. *Not seen* may mean that the claim is wrong for small networks, that a small lead is hidden by the seeds, or that 400 steps are too few: a part that costs time to learn, like the inner layers' attention, has no chance to show what it is worth.
# What the table calls *not run* has not been run; `course experiment hdemucs` will. The claim about GroupNorm is shown on a network that was provoked; that is why it isn't called a trend.

# %% [markdown]
# ## 7.17 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/07_hybrid_demucs.ipynb) has more tasks, with checks.
#
# **1. Count frames.** How many frames has `aligned_stft` for 7.8 s at 44.1 kHz with `nfft` 4096, and how many has chapter 1's centred transform?
#
# <details><summary>Answer</summary>
#
# $343980 / 1024 = 335.9$, rounded up 336; centred, there is one at each edge of a hop: $1 + 335 = 336$. The numbers agree by chance; the places differ by half a hop.
#
# ```python
# x = torch.zeros(1, 1, 343_980)
# assert aligned_stft(x, 4096).shape[-1] == 336 and stft(x, 4096, 1024).shape[-1] == 336
# assert aligned_stft(x[..., :4096], 4096).shape[-1] == 4 and stft(x[..., :4096], 4096, 1024).shape[-1] == 5
# ```
# </details>
#
# **2. Who hears whom?** Without residual branches, which frames of the mixture can frame 20 of the frequency branch's output depend on, before the branches have met? And which after?
#
# <details><summary>Answer</summary>
#
# In the encoder only itself. The gated convolutions of the decoder look one frame to either side, in each layer; the shared layers, whose stride is along time, and the time branch look further.
#
# ```python
# torch.manual_seed(0)
# layer = HEncLayer(1, 4, dconv=False, norm=False)
# x = torch.randn(1, 1, 32, 41, requires_grad=True)
# layer(x)[..., 20].sum().backward()
# assert (x.grad.abs().sum((0, 1, 2)) > 0).nonzero().flatten().tolist() == [20]
# ```
# </details>
#
# **3. The price of distance.** A head's four numbers $p$ are all 0. How many steps away is a key heard $e$ times less than an equal one next to the query?
#
# <details><summary>Answer</summary>
#
# The price is $\frac{1}{2} (1 + 2 + 3 + 4) \cdot \frac14 = 1.25$ a step, so 0.8 steps: hardly anybody but the neighbours is heard.
#
# ```python
# price = sum(f * 0.5 / 2 for f in (1, 2, 3, 4)) / 4 ** 0.5
# assert abs(price - 1.25) < 1e-9 and abs(1 / price - 0.8) < 1e-9
# ```
# </details>
#
# **4. A zero at the start.** What happens if `LayerScale` starts at exactly 0 instead of $10^{-3}$? Which weights of the branch get a gradient in the first step?
#
# <details><summary>Answer</summary>
#
# Only the scale itself: everything before it is multiplied by 0 on the way back. After one step the scale is no longer 0, and the others follow.
#
# ```python
# torch.manual_seed(0)
# branch = DConv(8, depth=1, init=0.0)
# branch(torch.randn(2, 8, 50)).square().mean().backward()
# moving = {name for name, p in branch.named_parameters() if p.grad.abs().max() > 0}
# assert moving == {name for name, _ in branch.named_parameters() if name.endswith("scale")}
# ```
# </details>
#
# **5. Two in a row.** Two layers $A$ and $B$ are multiplied. Is $\sigma_1(BA) = \sigma_1(B)\, \sigma_1(A)$?
#
# <details><summary>Answer</summary>
#
# At most that, and equal only if what $A$ stretches most is what $B$ stretches most. The penalty counts the layers one by one, and so bounds the product.
#
# ```python
# torch.manual_seed(0)
# A, B = torch.randn(20, 30), torch.randn(10, 20)
# value = lambda M: float(largest_singular_value(M, "exact"))
# assert value(B @ A) < value(B) * value(A)
# ```
# </details>
#
# **6. Open.** Section 7.13 fine-tuned a young network for a few hundred steps. Does its answer hold for one that has learned all it can from whole songs? Take chapter 8's `htdemucs_band`, fine-tune it on the three kinds of songs, and compare on the test songs, paired. How many seeds will you need, and how many steps until *as they are* begins to learn its sixty songs by heart?

# %% [markdown]
# ## 7.18 Sources
#
# - A. Défossez, *Hybrid spectrogram and waveform source separation*, Music Demixing Workshop, ISMIR 2021, arXiv 2111.03600.
# - S. Rouard, F. Massa and A. Défossez, *Hybrid transformers for music source separation*, ICASSP 2023: the set of fitted remixes.
# - W. Choi, M. Kim, J. Chung, D. Lee and S. Jung, *Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice separation*, ISMIR 2020: complex as channels.
# - U. Isik et al., *PoCoNet: better speech enhancement with frequency-positional embeddings*, Interspeech 2020.
# - Y. Wu and K. He, *Group normalization*, ECCV 2018; H. Touvron et al., *Going deeper with image transformers*, ICCV 2021: LayerScale.
# - N. Halko, P.-G. Martinsson and J. Tropp, *Finding structure with randomness*, SIAM Review 2011; Y. Yoshida and T. Miyato, *Spectral norm regularization*, 2017.
# - B. McFee et al., *librosa*: beat tracking and chroma.
#
# The network's design is that of the package `demucs` (MIT). All code here is the course's own.
