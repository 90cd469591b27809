# %% [markdown]
# # Chapter 1 · The short-time Fourier transform and masks
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/01_stft_and_masks.ipynb)
#
# A song is one waveform in which drums, bass, voice and everything else lie on top of each other. This chapter builds the
# picture in which they come apart again, the *short-time Fourier transform*, and the simplest tool that works on that
# picture, the *mask*: a number between zero and one for every point of time and frequency that says how much of the
# mixture to keep. At the end we know how well a mask can do at best, which is a yardstick for every model of this course.
#
# **You will be able to**
# - cut a signal into frames, take each apart into frequencies, and put it back together without losing a bit you could hear,
# - say when that is possible at all, and what time and frequency resolution cost each other,
# - compute the ideal masks (binary, ratio, phase-sensitive, complex, multichannel Wiener) and say what each can't do,
# - score a separation in decibels and read an oracle table.
#
# **You need** Python, NumPy-like indexing, complex numbers and matrix products. No audio, no deep learning.
#
# **Time** <!-- minutes 01_stft_and_masks -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 1.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing. `setup` seeds the
# random generators and chooses a *profile*, a table of sizes: small ones for a CPU, which the stored outputs show, larger ones for a GPU.

# %%
#| default_exp spectral
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("01_stft_and_masks", cpu=dict(songs=8, seconds=6.0), gpu=dict(songs=20, seconds=20.0))

# %% [markdown]
# ## 1.1 Four instruments in one line
#
# Here are six seconds of a real recording: guitar, bass, a little percussion and a singer. Listen, and try to follow
# the bass alone. You can. Your ear takes the sound apart, though what arrives at it is one curve.

# %%
from course_lib.data import STEMS, open_tracks, recording
from course_lib.notebook import (Diagram, draw_frames, explore, listen, mix_stems, plot_masks,
                                 plot_scores, plot_spectrogram, plot_waveform, progress, show,
                                 show_table)

song, rate = recording("fishin", start=12.0, seconds=6.0)
print(tuple(song.shape), rate)
listen(song, rate, "Karissa Hobbs, Let's Go Fishin'")

# %% [markdown]
# The tensor has the shape that audio has all through this course: `(channels, time)`, values between -1 and 1, and a
# sample rate that says how many samples make a second. Drawn as it is, the waveform shows loud and soft, and nothing of
# who plays.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(2, 1, figsize=(9, 3.6))
plot_waveform(song[0], rate, ax=axes[0])
plot_waveform(song[0, int(3 * rate):int(3.02 * rate)], rate, ax=axes[1])
show(figure, "Above, six seconds; below, twenty milliseconds of the same channel.",
     "Two waveforms. The upper one shows only the loudness over six seconds, the lower one a wave "
     "that nearly repeats.")

# %% [markdown]
# The lower curve nearly repeats: that is a *pitch*, in fact several at once. What we need is a way to ask, for a short
# stretch of time, **how much of each pitch is in it**. That takes two steps, cutting and asking; sections 1.2 to 1.5
# build them, one at a time.
#
# Everything we build is plain PyTorch, so that later chapters can differentiate through it and run it on a GPU. The cell
# below starts the library module: cells marked `#| export` become `course_lib/spectral.py`, word for word.

# %%
#| export
import math
import torch
import torch.nn.functional as F
from torch import Tensor
from course_lib.audio import check_audio, check_tensors

# %% [markdown]
# To know how well we separate, we also need songs whose parts are known. The course brings a *band*: a seeded generator
# that composes, plays, sings and mixes songs. Each comes as the mixture and its four *stems*, and they add up exactly.

# %%
tracks = open_tracks("band", "test", count=P.songs)
track = tracks[1].excerpt(4.0, 6.0)
sources = track.sources(STEMS)                      # (source, channel, time)
mixture = sources.sum(0)                            # (channel, time)
assert torch.allclose(mixture, track.mixture, atol=1e-6)  # the stems add up to the song
print(track.name, tuple(sources.shape), STEMS)

# %% [markdown]
# Solo each stem in the mixer (run the cell to get it; until then the plain players below it work). This is what a
# separator must give back from the sum alone.

# %%
mix_stems(dict(zip(STEMS, sources[..., :4 * track.rate])), track.rate, track.name)

# %% [markdown]
# ## 1.2 Frames
#
# A Fourier transform of a whole song would tell which frequencies occur, but not when. So we cut the signal $x$ into short
# overlapping pieces, *frames* of $N$ samples, each starting $H$ samples, one *hop*, after the one before:
#
# $$ x_m[n] = x[n + mH], \qquad n = 0, \dots, N-1. \tag{1.1} $$
#
# The smallest case that we can see whole: ten samples, frames of four, hop two.

# %%
x = torch.arange(10.0)
torch.stack([x[start:start + 4] for start in range(0, 10 - 4 + 1, 2)])

# %% [markdown]
# The same as a picture, every frame at its place under the signal:

# %%
axis = draw_frames(x.unfold(0, 4, 2), 2, signal=x, names=("x", ""))
show(axis, "Frames of four samples, hop two: each frame is a piece of the signal above it.",
     "Ten cells numbered 0 to 9; beneath, four rows of four cells, each row two cells further to "
     "the right than the one above: 0 to 3, 2 to 5, 4 to 7, 6 to 9.")

# %% [markdown]
# Every sample but the outermost stands in two frames. `Tensor.unfold` gives the same rows as a view, without copying, for
# any number of leading dimensions (channels, batch). What it does not do is say clearly what is wrong when something is.

# %%
#| export
def check_sizes(n_fft: int, hop_length: int = 1) -> None:
    """Raise ValueError unless n_fft is an even number of samples >= 2 and 1 <= hop <= n_fft."""
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"n_fft is {n_fft}; it must be an even number of samples, 2 or more")
    check_hop(n_fft, hop_length)


def check_hop(n_fft: int, hop_length: int) -> None:
    """Raise ValueError unless frames of n_fft samples can be hop_length apart without gaps."""
    if not 1 <= hop_length <= n_fft:
        raise ValueError(f"hop_length is {hop_length}; with frames of {n_fft} samples it must lie "
                         f"in 1..{n_fft}")


def frame(x: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Cut a signal into overlapping frames (eq. 1.1).

    x: (..., time). Returns a view (..., frames, n_fft) with 1 + (time - n_fft) // hop_length
    frames; samples after the last whole frame are left out. ValueError for wrong sizes or fewer
    than n_fft samples. Source: chapter 1, section 1.2.
    """
    check_tensors(x=x)
    check_hop(n_fft, hop_length)
    if x.ndim == 0 or x.shape[-1] < n_fft:
        raise ValueError(f"x has shape {tuple(x.shape)}; one frame takes {n_fft} samples: pad x or "
                         "choose a smaller n_fft")
    return x.unfold(-1, n_fft, hop_length)

# %% [markdown]
# It must agree with the loop, for one signal and for a batch of stereo ones, and refuse a signal that is too short.

# %%
loop = torch.stack([x[start:start + 4] for start in range(0, 7, 2)])
assert torch.equal(frame(x, 4, 2), loop)
# (batch, channel, frame, n_fft)
assert frame(torch.zeros(3, 2, 1000), 256, 64).shape == (3, 2, 12, 256)
try:
    frame(x, 16, 4)
except ValueError as error:
    print(error)
else:
    raise AssertionError("ten samples can't make a frame of sixteen")

# %% [markdown]
# ## 1.3 Which frequencies are in a frame?
#
# To ask a frame how much of a frequency it holds, multiply it with a wave of that frequency and add up. Where both swing
# together the products are positive and the sum grows; where they don't, they cancel. A cosine alone could miss a wave
# that is shifted by a quarter of a period, so we ask with a cosine and a sine at once, as one complex number:
#
# $$ X[k] = \sum_{n=0}^{N-1} x[n]\, e^{-2\pi i k n / N}, \qquad k = 0, \dots, N/2. \tag{1.2} $$
#
# First the picture, for a frame that holds a wave of three periods, asked with cosines of two, three and four:

# %%
frame_of_tone = torch.cos(2 * math.pi * 3 * torch.arange(64) / 64)
figure, axes = plt.subplots(3, 3, figsize=(9, 3.8), sharex=True, sharey=True)
for column, periods in zip(axes.T, (2, 3, 4)):
    question = torch.cos(2 * math.pi * periods * torch.arange(64) / 64)
    product = frame_of_tone * question
    for axis, curve in zip(column, (frame_of_tone, question, product)):
        axis.plot(curve, color="#0072B2" if curve is frame_of_tone else "#404040")
    column[2].fill_between(range(64), product, color="#E69F00", alpha=0.6)
    column[0].set_title(f"asked with {periods} periods: the sum is {abs(product.sum()):.0f}")
for axis, name in zip(axes[:, 0], ("frame", "wave", "product")):
    axis.set_ylabel(name)
show(figure, "Wave times frame. Only where both swing together is the product positive throughout.",
     "Three columns. On top the same wave of three periods, below it a wave of two, three and "
     "four periods, at the bottom their product. In the middle column the product never goes "
     "below zero and its sum is 32; in the others positive and negative parts cancel to 0.")

# %% [markdown]
# (1.2) is the *discrete Fourier transform*, DFT. Row $k$, its *bin* $k$, asks for the wave that fits $k$ times into the frame. For a real
# signal the rows beyond $N/2$ are mirror images, so we leave them out. As a matrix, for $N = 8$:

# %%
N = 8
k, n = torch.arange(N // 2 + 1)[:, None], torch.arange(N)[None, :]
dft_matrix = torch.exp(-2j * math.pi * k * n / N)  # (bin, sample)
wave = torch.cos(2 * math.pi * 2 * torch.arange(N) / N)         # fits twice into the frame
(dft_matrix @ wave.to(torch.complex64)).abs().round(decimals=3)

# %% [markdown]
# Of the bins that we keep only bin 2 answers, with $N/2 = 4$: the sum of eight squares of a cosine, which average
# one half. (The mirror image, bin 6, would answer 4 as well.) Computing (1.2)
# as a matrix takes $N^2/2$ products a frame; the *fast* Fourier transform needs about $N \log N$ and gives the same.

# %%
frames_of_song = frame(song, 1024, 256)                          # (channel, frame, n_fft)
k, n = torch.arange(513)[:, None], torch.arange(1024)[None, :]
slow_matrix = torch.exp(-2j * math.pi * (k * n % 1024) / 1024).to(torch.complex64)
slow = frames_of_song[0, :50].to(torch.complex64) @ slow_matrix.T
fast = torch.fft.rfft(frames_of_song[0, :50])
assert (slow - fast).abs().max() < 1e-4 * fast.abs().max()

# %% [markdown]
# Bin $k$ stands for a frequency in hertz: $k$ periods in $N$ samples, of which there are `rate` in a second, so
# $f_k = k \cdot \text{rate} / N$. The last bin is half the sample rate, the highest frequency that samples can carry.

# %%
#| export
def fft_frequencies(n_fft: int, rate: float) -> Tensor:
    """The frequency of each bin in hertz: (n_fft/2 + 1,), from 0 to rate/2. Source: section 1.3."""
    check_sizes(n_fft)
    return torch.arange(n_fft // 2 + 1) * (rate / n_fft)

# %% [markdown]
# A check with a sound we know: the standard pitch A4 is 440 Hz, so its largest bin must be the nearest one to 440.

# %%
tone = torch.sin(2 * math.pi * 440 * torch.arange(2048) / rate)
strongest = torch.fft.rfft(tone).abs().argmax()
found_at = fft_frequencies(2048, rate)[strongest]
print(f"largest bin: {found_at:.1f} Hz, bins are {rate / 2048:.1f} Hz apart")
assert abs(found_at - 440) <= rate / 2048 / 2

# %% [markdown]
# **Question.** A frame of 2048 samples at 44,100 Hz holds a tone of 1000 Hz. In which bin is it strongest, and would a tone of 1010 Hz
# be strongest in another one?
#
# <details><summary>Answer</summary>
#
# Bins are 21.5 Hz apart, and 1000 / 21.5 = 46.4: bin 46, which stands for 990.5 Hz. 1010 / 21.5 = 46.9 is nearest to bin 47. Two tones
# *at once* that are so close blur into one peak: telling them apart takes a longer frame (section 1.8).
# </details>

# %% [markdown]
# ## 1.4 Windows: how to cut without hurting
#
# The wave above fitted exactly into the frame. A wave that doesn't is cut in mid-swing, and the DFT, which treats a frame
# as if it repeated forever, sees a jump at every seam. A jump holds all frequencies: one pure tone *leaks* over the whole
# spectrum. The cure is to fade every frame in and out, with a *window* $w$. The usual one is Hann's raised cosine,
#
# $$ w[n] = \tfrac12 - \tfrac12 \cos\!\left(\frac{2\pi n}{N}\right). \tag{1.3} $$

# %%
#| export
def hann_window(n_fft: int, dtype: torch.dtype = torch.float32,
                device: torch.device | str | None = None) -> Tensor:
    """The periodic Hann window (eq. 1.3): (n_fft,), from 0 up to 1 at n_fft/2 and down again.

    Periodic, not symmetric (the next period would start with the 0): shifted copies then add up to
    a constant (section 1.7). Source: chapter 1, section 1.4.
    """
    n = torch.arange(n_fft, dtype=torch.float64)
    return (0.5 - 0.5 * torch.cos(2 * math.pi * n / n_fft)).to(dtype=dtype, device=device)

# %% [markdown]
# PyTorch's own window must be the same, and the symmetric variant, one sample longer in spirit, must not.

# %%
assert torch.allclose(hann_window(16), torch.hann_window(16), atol=1e-7)
assert not torch.allclose(hann_window(16), torch.hann_window(16, periodic=False), atol=1e-2)
hann_window(8)

# %% [markdown]
# Now look at the leak. Two tones, the second a thousand times weaker and 60 bins away. To see both, the level is drawn on a
# logarithmic scale, in *decibels*: $20 \log_{10}$ of the amplitude, so that a factor of 10 is 20 dB and a thousand 60 dB. Without a window the
# skirt of the first covers the second; with the window it stands free.

# %%
t = torch.arange(1024)
tones = torch.sin(2 * math.pi * 50.5 * t / 1024)
tones = tones + 1e-3 * torch.sin(2 * math.pi * 110.5 * t / 1024)
cut, faded = torch.fft.rfft(tones).abs(), torch.fft.rfft(tones * hann_window(1024)).abs()
figure, axis = plt.subplots(figsize=(9, 2.8))
for spectrum, label in ((cut, "no window"), (faded, "Hann window")):
    axis.plot(20 * torch.log10(spectrum / spectrum.max())[:160], label=label)
axis.set(xlabel="bin", ylabel="level (dB)", ylim=(-100, 3))
axis.legend()
show(figure, "One strong and one weak tone between two bins.",
     "Two spectra. Without a window a broad skirt hides the weak tone at bin 110; with a Hann "
     "window it is a clear peak.")

# %% [markdown]
# In numbers: how far the level at the weak tone stands above the valley between the two tones. The price is also
# visible: the peaks themselves are wider. Section 1.8 comes back to it.

# %%
def above_valley(spectrum):
    level = 20 * torch.log10(spectrum)
    return float(level[110:112].max() - level[85:105].max())

print(f"no window: {above_valley(cut):.1f} dB, Hann: {above_valley(faded):.1f} dB")
assert above_valley(faded) > 20 > 3 > above_valley(cut)

# %% [markdown]
# ## 1.5 The short-time Fourier transform
#
# Cut, fade, transform: that is the *short-time Fourier transform*, STFT,
#
# $$ X[k, m] = \sum_{n=0}^{N-1} w[n]\, x[n + mH]\, e^{-2\pi i k n / N}. \tag{1.4} $$
#
# (Each column of the result is one frame's spectrum.) One question is left: the first samples stand only in the faded start of the first frame. We want every frame
# *centred* on its time $mH$, the first one on sample 0, so we put $N/2$ samples in front and behind. Zeros would make a
# jump; a mirror image of the signal does not. In (1.4), $x$ is then the padded signal.

# %%
F.pad(torch.tensor([[1., 2., 3., 4., 5.]]), (3, 3), mode="reflect")

# %% [markdown]
# The mirror can show at most what there is, so a signal must be longer than $N/2$ samples.

# %%
#| export
def reflect_pad(x: Tensor, amount: int) -> Tensor:
    """Mirror `amount` samples at both ends, the end samples themselves not repeated.

    x: (..., time) with time > amount >= 0, else ValueError. Returns (..., time + 2 amount). Source:
    chapter 1, section 1.5.
    """
    if x.ndim == 0 or x.numel() == 0 or not 0 <= amount < x.shape[-1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; centred frames mirror {amount} at each "
                         "end and need more: pad x with zeros or choose a smaller n_fft")
    rows = x.reshape(-1, 1, x.shape[-1])  # (row, 1, time): what F.pad's mirror takes
    return F.pad(rows, (amount, amount), mode="reflect").reshape(*x.shape[:-1], -1)

# %% [markdown]
# Now the transform itself is one line, the formula read from the inside out. Frames go to the last axis, frequencies
# before it: a picture with time to the right. As a block diagram, for our recording: white boxes are data, blue ones
# computations, and the small print is the shape of what leaves a box.

# %%
d = Diagram()
step = d.block("signal $x$", "(2, 264600)", kind="data")
for name, shape in (("mirror\nthe ends", "(2, 266648)"), ("frame\n(1.1)", "(2, 517, 2048)"),
                    ("× window\n$w$ (1.3)", "(2, 517, 2048)"), ("DFT\n(1.2)", "(2, 517, 1025)"),
                    ("swap\naxes", "(2, 1025, 517)")):
    step = d.block(name, shape, after=step, gap=0.25)
d.block("STFT $X$", "(channel, bin, frame)", after=step, kind="data", gap=0.25)
show(d.draw(), "The STFT with frames of 2048 samples and a hop of 512.", d.in_words())

# %%
#| export
def stft(x: Tensor, n_fft: int = 2048, hop_length: int | None = None, window: Tensor | None = None,
         center: bool = True) -> Tensor:
    """Short-time Fourier transform (eq. 1.4).

    x: real (..., time). hop_length: samples between frames, default n_fft/4. window: (n_fft,),
    default periodic Hann. center: frame m is centred on sample m * hop_length, the ends mirrored.
    Returns complex (..., n_fft/2 + 1, frames), with 1 + time // hop_length frames when centred.
    ValueError: empty or too short x, anything but float32 or float64, wrong sizes. Source: Allen
    1977; section 1.5.
    """
    hop_length = max(1, n_fft // 4) if hop_length is None else hop_length
    check_tensors(x=x)
    check_sizes(n_fft, hop_length)
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}; the STFT takes float32 or float64 audio in [-1, 1] "
                         "(16-bit integers: divide by 32768)")
    window = _window_for(window, n_fft, x)
    frames = frame(reflect_pad(x, n_fft // 2) if center else x, n_fft, hop_length)
    spectra = torch.fft.rfft(frames * window)  # (..., frame, bin)
    return spectra.transpose(-1, -2)  # (..., bin, frame)


def _window_for(window: Tensor | None, n_fft: int, like: Tensor) -> Tensor:
    """The given window, its length checked, or the Hann window, like a real tensor in all else."""
    if window is None:
        return hann_window(n_fft, dtype=like.dtype, device=like.device)
    if window.shape != (n_fft,):
        raise ValueError(f"window has shape {tuple(window.shape)}; it must have n_fft = {n_fft} "
                         "values")
    return window.to(dtype=like.dtype, device=like.device)

# %% [markdown]
# Two independent implementations must agree with ours to five digits, on the real recording. And the shapes must be
# those of the diagram.

# %%
import librosa

X_song = stft(song, 2048, 512)  # (channel, bin, frame)
by_torch = torch.stft(song, 2048, 512, window=torch.hann_window(2048), return_complex=True)
by_librosa = torch.from_numpy(librosa.stft(song.numpy(), n_fft=2048, hop_length=512,
                                           pad_mode="reflect"))
for theirs in (by_torch, by_librosa):
    assert X_song.shape == theirs.shape
    assert (X_song - theirs).abs().max() < 1e-5 * theirs.abs().max()
assert reflect_pad(song, 1024).shape == (2, 266648)
assert frame(reflect_pad(song, 1024), 2048, 512).shape == (2, 517, 2048)
print(tuple(X_song.shape), X_song.dtype)

# %% [markdown]
# **Question.** The recording has 264,600 samples, and a hop is 512. Why are there 517 frames and not 516?
#
# <details><summary>Answer</summary>
#
# Frames are centred on samples 0, 512, 1024, ... and 264,600 / 512 = 516.8, so the last centre is 516 · 512: with the one at
# sample 0 that makes 517.
# </details>

# %% [markdown]
# ## 1.6 Magnitude and phase
#
# Each number of the STFT has a length, the *magnitude* $|X|$: how strong that frequency is there; and an angle, the
# *phase* $\angle X$: where in its swing the wave stands at that moment. We hear level on a logarithmic scale, and so the
# magnitude is shown in decibels relative to a reference, often the largest one: -20 dB is a tenth of its amplitude, -6 dB about half.
# (In the course's spectrograms 0 dB is the loudest sine that fits between -1 and 1.)

# %%
#| export
def amplitude_to_db(magnitude: Tensor, reference: float | None = None,
                    floor_db: float = -100.0) -> Tensor:
    """Level in decibels, 20 log10(magnitude / reference), never below floor_db: silence is finite.

    magnitude: real, >= 0, any shape. reference: the magnitude of 0 dB, > 0, default the largest one
    (1 where all is silent). ValueError for complex values (take .abs() first) or a reference that
    isn't positive. Source: section 1.6.
    """
    check_tensors(magnitude=magnitude)
    if magnitude.is_complex() or not (reference is None or reference > 0):
        raise ValueError(f"magnitude is {magnitude.dtype}, reference {reference}; expected real "
                         "values, a reference above 0")
    if reference is None:
        reference = float(magnitude.detach().amax()) or 1.0 if magnitude.numel() else 1.0
    return 20 * torch.log10((magnitude / reference).clamp_min(10 ** (floor_db / 20)))

# %%
levels = amplitude_to_db(torch.tensor([1.0, 0.1, 0.0]), 1.0)
assert torch.allclose(levels, torch.tensor([0.0, -20.0, -100.0]))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
plot_spectrogram(X_song[0], rate, "magnitude", ax=axes[0])
axes[1].imshow(X_song[0, 40:90, 100:180].angle(), origin="lower", aspect="auto", cmap="twilight")
axes[1].set(title="phase, a small detail", xlabel="frame", ylabel="bin (from 40)")
show(figure, "Magnitude of the recording, and a detail of its phase.",
     "Left, a spectrogram with horizontal lines (harmonics) and vertical ones (drum hits). Right, "
     "phase: it looks like noise.")

# %% [markdown]
# On the left you can read the music: horizontal ladders are notes: a pitch and its *harmonics*, the multiples of its frequency; the curved ones are the voice, and vertical
# strokes are plucks and drums. On the right there is nothing to read. So is the phase unimportant? Section 1.7 gives us
# the way back to sound, and the answer.

# %% [markdown]
# ## 1.7 The way back: overlap-add
#
# The way back is the way there in reverse. First each column of the STFT becomes a frame again. Where (1.2) *asked* for every wave,
# the *inverse DFT* adds all waves up, each as strong and as shifted as the answer says:
#
# $$ x[n] = \frac1N \sum_{k=0}^{N-1} X[k]\, e^{2\pi i k n / N}
#    = \frac1N \Big( X[0] + (-1)^n X[\tfrac N2] + 2 \operatorname{Re} \sum_{k=1}^{N/2-1} X[k]\, e^{2\pi i k n / N} \Big). \tag{1.2'} $$
#
# The second form needs only the bins that we kept: a mirror image is the complex conjugate, and a number plus its conjugate is twice
# its real part. As a matrix, for eight numbers of which we know the answer:

# %%
x8 = torch.tensor([1., 5., 2., 0., -3., 1., 4., 2.])
X8 = dft_matrix @ x8.to(torch.complex64)  # (bin,), five of them
times = torch.tensor([1., 2., 2., 2., 1.])[:, None]  # bins with a mirror image count twice
waves = dft_matrix.conj()  # (bin, sample): exp(+2 pi i k n / N)
back = (times * X8[:, None] * waves).real.sum(0) / 8
assert torch.allclose(back, x8, atol=1e-5) and torch.allclose(back, torch.fft.irfft(X8), atol=1e-5)
back.round(decimals=3)

# %% [markdown]
# Why does it work? Two different waves that both fit into the frame cancel when multiplied and summed, as in the picture of section 1.3, and a wave with its
# own conjugate gives $N$. So in (1.2') put into (1.2) all waves drop out but one. The fast way is `torch.fft.irfft`.
#
# Then we add the frames up where they were cut. First the loop.

# %%
def overlap_add_loop(frames, hop_length):
    out = torch.zeros((len(frames) - 1) * hop_length + frames.shape[-1])
    for m, piece in enumerate(frames):
        out[m * hop_length:m * hop_length + len(piece)] += piece
    return out

overlap_add_loop(frame(torch.ones(10), 4, 2), 2)

# %% [markdown]
# The ones of the signal came back as twos wherever two frames overlap, and as ones at the ends. The same with the frames of 0 to 9 from
# section 1.2, drawn:

# %%
ten = torch.arange(10.0)
ten_frames = frame(ten, 4, 2)
axis = draw_frames(ten_frames, 2, total=overlap_add_loop(ten_frames, 2), names=("", "sum"))
for hop_start in range(0, 11, 2):
    axis.axvline(hop_start, color="#D55E00", linewidth=1.4, linestyle="--")
show(axis, "Overlap-add: every column is added up. The dashed lines cut the output into hops.",
     "Four rows of four cells, each two cells further right, and their sum beneath: 0, 1, then "
     "4, 6, 8, 10, 12, 14, twice the signal, then 8, 9. Dashed lines every two cells: each frame "
     "has two pieces of one hop.")

# %% [markdown]
# A loop over thousands of frames is slow. But frames overlap in a regular way. Cut every frame into pieces of one hop, as the dashed lines
# do: piece $i$ of frame $m$ lands in hop $m + i$ of the output. (Piece 1 of frame 2, the numbers 6 and 7, lands in hop 3.) So it is enough to loop over the
# few pieces, and add each for all frames at once.

# %%
#| export
def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Add frames up where they were cut, the transpose of `frame`.

    frames: (..., frames, n_fft). hop_length: 1..n_fft, else ValueError. Returns (..., (frames - 1)
    * hop_length + n_fft). Source: Allen and Rabiner 1977; chapter 1, section 1.7.
    """
    *leading, count, n_fft = frames.shape
    check_hop(n_fft, hop_length)
    time = (count - 1) * hop_length + n_fft
    padded = F.pad(frames, (0, -n_fft % hop_length))
    pieces = padded.unflatten(-1, (-1, hop_length))  # (..., frame, piece, hop)
    hops = frames.new_zeros(*leading, count + pieces.shape[-2] - 1, hop_length)
    for i in range(pieces.shape[-2]):
        hops[..., i:i + count, :] += pieces[..., i, :]
    return hops.flatten(-2)[..., :time]

# %% [markdown]
# It must agree with the loop, also where the hop doesn't divide the frame. (Random numbers here and below come from `P.generator`, which
# `setup` has seeded, so that they are the same each time.)

# %%
some = torch.randn(7, 16, generator=P.generator)  # (frame, n_fft)
assert torch.allclose(overlap_add(some, 5), overlap_add_loop(some, 5), atol=1e-6)
assert torch.equal(overlap_add(some.expand(3, 2, 7, 16), 5)[2, 1], overlap_add(some, 5))

# %% [markdown]
# ### When do the windows add up?
#
# Each sample is counted once per frame that covers it, weighted by the window. If we only cut and add, the weights must
# add up to the same number everywhere, or the level will swing with every hop:
#
# $$ \sum_m w[n - mH] = C \quad\text{for every } n. \tag{1.5} $$
#
# This is the *constant overlap-add* condition, COLA. Look at Hann windows of 8 samples, moved by 4:

# %%
shifted = overlap_add(hann_window(8).expand(5, 8), 4)
shifted[8:16]  # where the frames overlap fully

# %% [markdown]
# A row of ones. Larger, with windows of 64 samples moved by half of it; beneath, the sum of the windows and the sum of their squares:

# %%
window = hann_window(64)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), sharey=True)
for axis, weight, name in zip(axes, (window, window ** 2), ("windows", "squared windows")):
    rows = weight.expand(6, 64)  # (frame, n_fft)
    draw_frames(rows, 32, total=overlap_add(rows, 32), title=f"{name}, hop N/2", ax=axis)
show(figure, "Hann windows half a window apart add up to one; their squares don't.",
     "Two panels, each with six bell curves, each half its width further right. On the left the "
     "sum is flat but for its ends; on the right it swings up and down.")

# %% [markdown]
# Moved by a number that doesn't fit, the sum of the windows themselves would wobble too. One period of the sum is enough to see by how much: fold the window
# onto itself with period $H$.

# %%
#| export
def cola_deviation(window: Tensor, hop_length: int) -> float:
    """How far a window and hop are from constant overlap-add (eq. 1.5), relative to the mean sum.

    window: (n_fft,). hop_length: 1..n_fft, else ValueError. Returns max |sum - mean| / mean over
    one hop: 0 for COLA, 0.01 when the level swings by 1%. Source: Allen and Rabiner 1977; chapter
    1, section 1.7.
    """
    check_hop(len(window), hop_length)
    padded = F.pad(window, (0, -len(window) % hop_length))
    weights = padded.view(-1, hop_length).sum(0)  # (shift, hop) -> (hop)
    return float((weights - weights.mean()).abs().max() / weights.mean())

# %%
slow_sum = overlap_add_loop(hann_window(8).expand(20, 8), 3)[24:36]
slow_deviation = float((slow_sum - slow_sum.mean()).abs().max() / slow_sum.mean())
assert abs(cola_deviation(hann_window(8), 3) - slow_deviation) < 1e-6 and slow_deviation > 0.02
window = hann_window(1200)
for hop in (600, 500, 400, 300):
    once, twice = cola_deviation(window, hop), cola_deviation(window ** 2, hop)
    print(f"hop N/{1200 / hop:g}: w swings by {once:.1%}, w squared by {twice:.1%}")
assert cola_deviation(window, 600) < 1e-5 and cola_deviation(window ** 2, 400) < 1e-5
assert cola_deviation(window ** 2, 600) > 0.3

# %% [markdown]
# For cutting and adding once, half a window is a small enough hop. The *squared* window swings by a third there and needs a hop of a
# third of the window, or a quarter, or a fifth; why that matters comes in a moment.
#
# What does a violation *sound* like? Below, the recording is cut with a Hann window of 1024 samples and added up again,
# first with hop 512, then with hop 900. Nothing else is changed. The second one buzzes: its level swings with every hop.

# %%
good = overlap_add(frame(song, 1024, 512) * hann_window(1024), 512)
bad = overlap_add(frame(song, 1024, 900) * hann_window(1024), 900)
listen(good[:1, :2 * rate], rate, "hop 512: the windows add up")
listen(bad[:1, :2 * rate], rate, "hop 900: they don't")
print(f"with hop 900 the level swings {rate / 900:.0f} times a second")
assert cola_deviation(hann_window(1024), 512) < 1e-6 < 0.5 < cola_deviation(hann_window(1024), 900)

# %% [markdown]
# ### Windowing twice, and dividing
#
# A mask will change the frames between cutting and adding, and then their ends need not fit any more. So we window a
# second time, on the way out, and divide by the weights that have gathered:
#
# $$ \hat{x}[n] = \frac{\sum_m w[n - mH]\, y_m[n - mH]}{\sum_m w^2[n - mH]}. \tag{1.6} $$
#
# Here $y_m$ is the inverse DFT of column $m$. If nothing was changed it is the windowed frame $w[n]\,x[n + mH]$, and each sample comes back as $x \sum w^2 / \sum w^2$: **exactly**, and for any hop, so long
# as the denominator is nowhere zero. That weaker demand is called NOLA, *nonzero overlap-add*. And if they were changed, (1.6) is the
# signal whose STFT comes nearest to them in the least-squares sense (Griffin and Lim 1984).
#
# Nearly zero is no good either: there the division blows up whatever a mask has left. We refuse weights under one
# hundredth of the largest. The diagram is that of section 1.5, from right to left:

# %%
d = Diagram()
step = d.block("STFT $X$", "(2, 1025, 517)", kind="data")
for name, shape in (("inverse DFT\n(1.2')", "(2, 517, 2048)"),
                    ("× window\n$w$ again", "(2, 517, 2048)"), ("overlap-add", "(2, 266240)"),
                    ("÷ summed $w^2$\n(1.6)", "(2, 266240)"),
                    ("cut off the\nmirrored ends", "(2, 264600)")):
    step = d.block(name, shape, after=step, gap=0.25)
d.block("signal $x$", "(channel, time)", after=step, kind="data", gap=0.25)
show(d.draw(), "The inverse STFT: every step of the way there, undone.", d.in_words())

# %%
#| export
def istft(X: Tensor, n_fft: int = 2048, hop_length: int | None = None, length: int | None = None,
          window: Tensor | None = None, center: bool = True) -> Tensor:
    """Inverse STFT by weighted overlap-add (eq. 1.6), the least-squares inverse of `stft`.

    X: complex (..., n_fft/2 + 1, frames), made with the same settings. length: samples to return,
    default all that the frames are centred on, (frames - 1) * hop_length, or all they cover when
    not centred (then the window must not begin with zeros, as Hann's does: nothing is known of
    those samples). Returns real (..., length). ValueError: wrong shape; the frames don't cover
    `length`; the summed squared window falls under 1% of its maximum within it (NOLA). The
    imaginary parts of the first and last bin carry no signal and are dropped. Source: Griffin and
    Lim 1984; chapter 1, section 1.7.
    """
    hop_length = max(1, n_fft // 4) if hop_length is None else hop_length
    check_tensors(X=X)
    check_sizes(n_fft, hop_length)
    if not X.is_complex() or X.ndim < 2 or X.shape[-2] != n_fft // 2 + 1 or X.numel() == 0:
        raise ValueError(f"X is {X.dtype} {tuple(X.shape)}; expected complex "
                         f"(..., {n_fft // 2 + 1}, frames) for n_fft {n_fft}")
    frames = torch.fft.irfft(X.transpose(-1, -2), n=n_fft)  # (..., frame, n_fft)
    window = _window_for(window, n_fft, frames)
    weights = overlap_add((window ** 2).expand(X.shape[-1], n_fft), hop_length)
    start = n_fft // 2 if center else 0
    length = (X.shape[-1] - 1) * hop_length + n_fft - 2 * start if length is None else length
    weights = _checked_weights(weights, start, length)
    return overlap_add(frames * window, hop_length)[..., start:start + length] / weights


def _checked_weights(weights: Tensor, start: int, length: int) -> Tensor:
    """weights[start : start + length], or a ValueError that says why there is no way back there."""
    if length < 1 or start + length > len(weights):
        raise ValueError(f"length is {length}; these frames cover 1..{len(weights) - start} "
                         "samples: give the signal's length")
    part = weights[start:start + length]
    if part.min() < 0.01 * weights.max():
        raise ValueError("the summed squared window falls to "
                         f"{float(part.min() / weights.max()):.1e} of its maximum at "
                         f"sample {int(part.argmin())}, under the 1% that dividing by it takes "
                         "(NOLA): use a smaller hop_length (n_fft/4), pad the end, or centre the "
                         "frames")
    return part

# %% [markdown]
# The proof is in the round trip. On the recording, for several sizes and hops (some of them not COLA), the error must stay
# within a millionth of full scale, which is an amplitude of one. And the gradient of a round trip must be the gradient of doing nothing: one.

# %%
for n_fft, hop in ((2048, 512), (1024, 300), (4096, 1024), (512, 77)):
    back = istft(stft(song, n_fft, hop), n_fft, hop, song.shape[-1])
    assert (back - song).abs().max() < 1e-6
probe = song[:, :4000].clone().requires_grad_()
istft(stft(probe, 512, 128), 512, 128, 4000).sum().backward()
assert (probe.grad - 1).abs().max() < 1e-4

# %% [markdown]
# And where it can't work it says so. With hop $N/2$ the last samples may lie under the far end of the last window only:
# libraries that divide anyway put a click there, once a mask has touched the frames.
#
# Here, 16,384 samples are a whole number of hops and come back; one sample less, and the end can't be rebuilt.

# %%
whole = song[:, :16384]
assert (istft(stft(whole, 1024, 512), 1024, 512, 16384) - whole).abs().max() < 1e-6
try:
    istft(stft(whole[:, :-1], 1024, 512), 1024, 512, 16383)
except ValueError as error:
    print(error)
else:
    raise AssertionError("the last sample lies under the last zero of the last window alone")

# %% [markdown]
# ### So, is phase important?
#
# Now we can hear it. First the recording with its magnitudes kept and every phase replaced by a random one; then with
# the phases kept and every magnitude set to one and the same spectrum, the average over time.

# %%
magnitude, phase_of_song = X_song.abs(), X_song.angle()
random_angle = 2 * math.pi * torch.rand(magnitude.shape, generator=P.generator)
average_spectrum = magnitude.mean(-1, keepdim=True).expand_as(magnitude)
for title, Y in (("magnitude kept, phase random", torch.polar(magnitude, random_angle)),
                 ("phase kept, magnitude averaged", torch.polar(average_spectrum, phase_of_song))):
    listen(istft(Y, 2048, 512, song.shape[-1])[:1, :4 * rate], rate, title)

# %% [markdown]
# (`torch.polar` makes complex numbers from lengths and angles.) Both are recognisable and neither is good. With random phase every note is there, but drums and consonants are smeared
# over the frame: *when* within a frame something happens is written in the phase. With the phase alone one still
# follows the words. We will need both, and a mask changes only one. Section 1.11 measures what that costs.

# %% [markdown]
# ## 1.8 Sharp in time or sharp in frequency
#
# How long should a frame be? Take a sound that asks for both: two tones 30 Hz apart, and two clicks 12 ms apart.

# %%
low_rate = 8000
t = torch.arange(int(0.6 * low_rate)) / low_rate
puzzle = 0.3 * (torch.sin(2 * math.pi * 1000 * t) + torch.sin(2 * math.pi * 1030 * t))
puzzle[int(0.3 * low_rate)], puzzle[int(0.312 * low_rate)] = 8.0, 8.0
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), sharey=True)
for axis, n_fft in zip(axes, (64, 256, 2048)):
    hop = max(4, n_fft // 32)
    plot_spectrogram(stft(puzzle, n_fft, hop), low_rate, f"{1000 * n_fft / low_rate:.0f} ms",
                     hop_length=hop, axis="linear", db_range=40, bottom=800, top=1230,
                     colour_bar=False, ax=axis)
    axis.set(xlim=(0.2, 0.4))
show(figure, "The same two tones and two clicks, seen through frames of three lengths.",
     "Frames of 8 ms: two bright strokes and one thick band that pulses. 32 ms: one band, one "
     "stroke, both blurred. 256 ms: two thin lines, and the clicks smeared over the whole width "
     "in stripes.")

# %% [markdown]
# Short frames see two clicks and one thick tone, which pulses 30 times a second as the two tones beat. Long frames see two
# tones; the clicks are smeared over a quarter of a second, in stripes where they cancel. In between, both are blurred; no length sees all. That's no fault
# of the window. If $\sigma_t$ is the spread of the window's energy around its middle in seconds and $\sigma_f$ that of
# its spectrum in hertz, then for **every** window
#
# $$ \sigma_t\, \sigma_f \;\ge\; \frac{1}{4\pi}, \tag{1.7} $$
#
# with equality for the bell curve alone (Gabor 1946). We measure it, for windows of the same length.

# %%
def spread(density, positions):
    """Standard deviation of a density given at positions."""
    density = density / density.sum()
    mean = (density * positions).sum()
    return float(((density * (positions - mean) ** 2).sum()) ** 0.5)

def gabor_product(window, padding=16):
    """sigma_t * sigma_f of a window, in units of the limit 1/(4 pi)."""
    n = torch.arange(len(window), dtype=torch.float64)
    padded = F.pad(window, (0, (padding - 1) * len(window)))
    spectrum = torch.fft.fftshift(torch.fft.fft(padded).abs() ** 2)
    f = torch.fft.fftshift(torch.fft.fftfreq(len(spectrum), dtype=torch.float64))
    return spread(window ** 2, n) * spread(spectrum, f) * 4 * math.pi

# %% [markdown]
# The rectangle's spectrum falls so slowly that its spread keeps growing with the width we measure over; the Hann window
# comes within a few per cent of the bound.

# %%
n = torch.arange(1024, dtype=torch.float64)
windows = {"Gauss": torch.exp(-0.5 * ((n - 512) / 100) ** 2),
           "Hann": hann_window(1024, torch.float64), "rectangle": torch.ones_like(n)}
products = {name: gabor_product(window) for name, window in windows.items()}
show_table([[name, f"{product:.3f}"] for name, product in products.items()],
           ["window", "spread in time x frequency, 1 = the bound"])
assert abs(products["Gauss"] - 1) < 1e-3
assert 1 < products["Hann"] < 1.05 and products["rectangle"] > 5

# %% [markdown]
# **Question.** A kick drum and a bass note sound together at 60 Hz. The note lasts half a second, the drum a twentieth. Which frame
# length shows that there are two?
#
# <details><summary>Answer</summary>
#
# A frame of about the drum's length, 50 ms, sees the drum come and go while the note stays. A longer one would resolve the pitch of the note better, and
# smear the drum over it. No single picture shows both well, which is why later chapters use several, or none.
# </details>
#
# **Usual lengths for music at 44.1 kHz** are 2048 samples (46 ms), which keep attacks short, and 4096 (93 ms), where bass notes come apart,
# with a hop of a quarter of that. You will meet these numbers again in every model with an STFT. Which of the two is better for masks is not a matter
# of taste: section 1.13 measures it.

# %% [markdown]
# ## 1.9 Mel: frequency as we hear it
#
# The bins of the STFT are equally spaced in hertz. Our ear is not: the step from 100 to 200 Hz is an octave, that from
# 10,000 to 10,100 can hardly be heard. The *mel* scale follows the ear, nearly linear below about 1 kHz and logarithmic
# above. Two versions are in use, and a model must be fed with the one it was trained on. One is a single formula (O'Shaughnessy 1987; called *htk* after a speech
# toolkit that uses it),
#
# $$ \text{mel}(f) = 2595 \log_{10}\!\left(1 + \frac{f}{700}\right); \tag{1.8} $$
#
# the other, from Slaney's Auditory Toolbox, is linear up to 1 kHz, 15 mel there, then 27 steps for each factor of 6.4.

# %%
#| export
def hz_to_mel(frequency: Tensor, scale: str = "slaney") -> Tensor:
    """Hertz to mel, elementwise on a tensor.

    scale: "slaney" (librosa's default) or "htk" (eq. 1.8), else ValueError. Source: chapter 1,
    section 1.9.
    """
    if scale == "htk":
        return 2595 * torch.log10(1 + frequency / 700)
    _check_mel_scale(scale)
    above = 15 + 27 * torch.log(frequency.clamp_min(1000) / 1000) / math.log(6.4)
    return torch.where(frequency < 1000, frequency * 3 / 200, above)


def mel_to_hz(mel: Tensor, scale: str = "slaney") -> Tensor:
    """Mel to hertz, the inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    _check_mel_scale(scale)
    above = 1000 * torch.exp((mel.clamp_min(15) - 15) * math.log(6.4) / 27)
    return torch.where(mel < 15, mel * 200 / 3, above)


def _check_mel_scale(scale: str) -> None:
    if scale not in ("slaney", "htk"):
        raise ValueError(f'scale is "{scale}"; expected "slaney" or "htk"')

# %%
f = torch.tensor([0., 60., 440., 1000., 8000., 20000.], dtype=torch.float64)
for scale in ("slaney", "htk"):
    assert torch.allclose(mel_to_hz(hz_to_mel(f, scale), scale), f, atol=1e-6)
    theirs = torch.from_numpy(librosa.hz_to_mel(f.numpy(), htk=scale == "htk"))
    assert torch.allclose(hz_to_mel(f, scale), theirs)
hz_to_mel(f, "htk").round()

# %% [markdown]
# A *mel filterbank* is a matrix of overlapping triangles, equally wide in mel, that adds the bins of the STFT up into a
# few dozen bands. Band $b$ rises from $f_b$ to its peak at $f_{b+1}$ and falls to $f_{b+2}$.

# %%
#| export
def mel_filterbank(n_mels: int, n_fft: int, rate: float, f_min: float = 0.0,
                   f_max: float | None = None, scale: str = "slaney", norm: bool = True) -> Tensor:
    """Triangles from STFT bins to mel bands: (n_mels, n_fft/2 + 1).

    f_min, f_max: the edges in hertz, default 0 and rate/2. norm: each triangle has unit area in
    hertz ("slaney" norm), else unit height. ValueError where the edges don't satisfy 0 <= f_min <
    f_max <= rate/2, and where a triangle is so narrow that it meets no bin (fewer bands or a larger
    n_fft help). Source: chapter 1, section 1.9.
    """
    check_sizes(n_fft)
    f_max = rate / 2 if f_max is None else f_max
    if n_mels < 1:
        raise ValueError(f"n_mels is {n_mels}; expected at least one band")
    if not 0 <= f_min < f_max <= rate / 2:
        raise ValueError(f"f_min, f_max are {f_min}, {f_max} Hz; expected 0 <= f_min < f_max "
                         f"<= {rate / 2}")
    start, end = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), scale).tolist()
    edges = mel_to_hz(torch.linspace(start, end, n_mels + 2, dtype=torch.float64), scale)
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]  # (band, 1)
    bins = fft_frequencies(n_fft, rate).to(torch.float64)  # (bin,)
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    triangles = torch.minimum(rising, falling).clamp_min(0)
    if empty := int((triangles.sum(1) == 0).sum()):
        raise ValueError(f"{empty} of {n_mels} mel bands meet no bin of n_fft {n_fft} at {rate} "
                         "Hz: use fewer bands or a larger n_fft")
    return (triangles * (2 / (high - low)) if norm else triangles).float()


def mel_spectrogram(x: Tensor, rate: float, n_mels: int = 128, n_fft: int = 2048,
                    hop_length: int | None = None, **filterbank) -> Tensor:
    """Power in mel bands: real (..., time) -> (..., n_mels, frames).

    rate: Hz. filterbank: keywords of `mel_filterbank`. ValueError as in `stft` and there. Source:
    chapter 1, section 1.9.
    """
    check_tensors(x=x)
    bank = mel_filterbank(n_mels, n_fft, rate, **filterbank).to(dtype=x.dtype, device=x.device)
    return bank @ stft(x, n_fft, hop_length).abs() ** 2

# %%
theirs = librosa.feature.melspectrogram(y=song.numpy(), sr=rate, n_fft=2048, hop_length=512,
                                        n_mels=128, pad_mode="reflect")
ours = mel_spectrogram(song, rate, 128, 2048, 512)
assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-5 * theirs.max()
flat_top = mel_filterbank(40, 2048, rate, norm=False).sum(0)[20:900]  # neighbours add up to one
assert (flat_top - 1).abs().max() < 1e-5

# %% [markdown]
# Twenty of the triangles, the lowest of them again on a wider axis, and the recording in 128 mel bands. Voice and guitar now fill the
# picture; on an axis in plain hertz they would be squeezed into its bottom.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(1, 1, 1.5))
fine = mel_filterbank(20, 16384, rate, norm=False)  # many bins: the lowest triangles come out sharp
for axis, top, name in zip(axes, (rate / 2, 2500), ("20 mel bands", "the lowest of them")):
    for b, triangle in enumerate(fine):
        axis.plot(fft_frequencies(16384, rate), triangle, color=("#0072B2", "#D55E00")[b % 2])
    axis.set(xlabel="frequency (Hz)", xlim=(0, top), ylim=(0, 1.05), title=name)
axes[0].set_ylabel("weight")
axes[2].imshow(amplitude_to_db(ours[0] ** 0.5, floor_db=-80), origin="lower", aspect="auto",
               cmap="magma", extent=(0, song.shape[-1] / rate, 0, 128))
axes[2].set(xlabel="time (s)", ylabel="mel band", title="128 mel bands, 80 dB")
show(figure, "A mel filterbank and what it makes of the recording.",
     "Left, twenty triangles up to 22 kHz, crowded at low and wide at high frequencies. Middle, "
     "the same up to 2.5 kHz: the lowest ones equally wide, then wider and wider. Right, a mel "
     "spectrogram with clear harmonics.")

# %% [markdown]
# Mel bands can't be turned back into sound without guessing, as many bins share a band. So separators work on the STFT,
# while models that only listen, such as the taggers of chapter 13, work on mel.

# %% [markdown]
# ## 1.10 Masks
#
# Here are the four stems of the song from section 1.1 in the same picture. Where one is dark another is bright: **most of the energy
# lies at points of time and frequency where one source is much louder than the rest**. That is why separation is possible at all.

# %%
S = stft(sources)  # (source, channel, bin, frame)
X = S.sum(0)  # the mixture's: (channel, bin, frame)
figure, axes = plt.subplots(1, 4, figsize=(10, 2.6), sharey=True)
for axis, stem, spectrum in zip(axes, STEMS, S):
    plot_spectrogram(spectrum[0], track.rate, stem, colour_bar=False, ax=axis)
show(figure, "The four stems of one band song.",
     "Four spectrograms: drums with vertical strokes, bass low down, other with steady lines, "
     "vocals with ladders of short notes.")

# %% [markdown]
# How often is it so? We look for the points where the loudest source has at least nine tenths of the energy, and ask which
# share of all points they are, and which share of all energy they hold.

# %%
energy = S.abs() ** 2
owned = energy.max(0).values > 0.9 * energy.sum(0)  # (channel, bin, frame)
of_energy = float((energy.sum(0) * owned).sum() / energy.sum())
print(f"{owned.float().mean():.0%} of the points have one clear owner, "
      f"and they hold {of_energy:.0%} of the energy")
assert of_energy > 0.6 > owned.float().mean()

# %% [markdown]
# A *mask* $M_j[k, m]$ for source $j$ multiplies the mixture's STFT, point by point:
#
# $$ \hat S_j[k, m] = M_j[k, m]\; X[k, m]. \tag{1.9} $$
#
# In this chapter we cheat: we know the sources and ask for the best mask there could be. Such a mask is called *ideal* or
# an *oracle*. A model, later, must guess the mask from $X$ alone; the oracle says how far guessing masks could ever get.
#
# Here is the whole machine. What is drawn as one box, "mask", is all that differs between the methods of this section and, later, between models.

# %%
d = Diagram()
wave_in = d.block("mixture", "(channel, time)", kind="data")
picture = d.block("STFT $X$", "(channel, bin, frame)", after=wave_in)
guess = d.block("mask $M$", "(source, channel, bin, frame)", after=picture, shift=0.55)
truth = d.block("sources $S$", "only the oracle sees them", kind="data",
                at=(guess.x, guess.y + 0.75))
d.arrow(truth, guess, dashed=True)
product = d.join("×", after=guess, shift=-0.55)
d.arrow(picture, product)
result = d.block("inverse\nSTFT", after=product, label="$\\hat S_j = M_j X$")
d.block("estimates", "(source, channel, time)", after=result, kind="data")
show(d.draw(), "Separation by masks. The dashed arrow is the cheat.", d.in_words())

# %% [markdown]
# The smallest example: two sources on two bins and two frames, as complex numbers.

# %%
tiny = torch.tensor([[[3 + 0j, 1j], [0, 1 + 1j]], [[1 + 0j, 2j], [2j, -1 + 0j]]])
tiny = tiny[:, None]  # (source, channel, bin, frame)
tiny_mixture = tiny.sum(0)
print(tiny_mixture[0])

# %% [markdown]
# Sources come with shape `(..., source, channel, bin, frame)`, and so do masks. Applying one is a product; the function
# exists to say what went wrong when shapes don't fit, instead of silently broadcasting.

# %%
#| export
def apply_mask(mask: Tensor, X: Tensor) -> Tensor:
    """Masks times the mixture (eq. 1.9).

    mask: real or complex (..., source, channel, bin, frame); channel, bin or frame may be 1 (the
    same mask for all). X: complex (..., channel, bin, frame). Returns (..., source, channel, bin,
    frame). ValueError where the shapes don't match. Source: chapter 1, section 1.10.
    """
    check_tensors(mask=mask, X=X)
    fits = all(m in (1, x) for m, x in zip(mask.shape[-3:], X.shape[-3:]))
    if mask.ndim != X.ndim + 1 or not fits:
        raise ValueError(f"mask {tuple(mask.shape)} doesn't fit the mixture {tuple(X.shape)}: "
                         "expected (..., source, channel, bin, frame) and (..., channel, bin, "
                         "frame)")
    return mask * X.unsqueeze(-4)


def _check_sources(S: Tensor) -> None:
    check_tensors(S=S)
    if S.ndim < 4:
        raise ValueError(f"sources have shape {tuple(S.shape)}; expected (..., source, channel, "
                         "bin, frame)")

# %% [markdown]
# ### All or nothing: the ideal binary mask
#
# Give each point to the source that is loudest there:
#
# $$ M_j = \begin{cases} 1 & |S_j| > |S_i| \text{ for all } i \ne j \\ 0 & \text{otherwise.} \end{cases} \tag{1.10} $$
#
# (Wang 2005 compares the target with *all the rest together*. With two sources that is the same; with four, a point may then
# belong to nobody. "The loudest wins" always hands out everything.)

# %%
#| export
def ideal_binary_mask(S: Tensor) -> Tensor:
    """One where a source is the loudest, zero elsewhere (eq. 1.10).

    S: complex or magnitude (..., source, channel, bin, frame). Returns real masks of that shape,
    which sum to one, as the first wins a tie. No gradient: a choice has none. Source: after Wang
    2005 (who compares with all the rest); chapter 1, section 1.10.
    """
    _check_sources(S)
    level = S.abs()
    loudest = level == level.amax(-4, keepdim=True)
    first = loudest.cumsum(-4, dtype=torch.int16) == 1  # of several equally loud ones
    return (loudest & first).to(level.dtype)

# %%
all_or_nothing = ideal_binary_mask(tiny)
assert torch.equal(all_or_nothing.sum(-4), torch.ones(1, 2, 2))
print(all_or_nothing[:, 0])

# %% [markdown]
# ### Sharing: the ideal ratio mask
#
# Where two sources are about equally loud, a fair share does better than all or nothing:
#
# $$ M_j = \frac{|S_j|^p}{\sum_i |S_i|^p}. \tag{1.11} $$
#
# $p = 2$ shares the energy and is what Wiener's theory of optimal filters gives for independent sources; $p = 1$ shares magnitudes; the larger
# $p$, the closer to the binary mask. Where every source is silent the fraction is 0/0. We give each the same share there,
# so that the masks always sum to one: **what is taken apart adds up to the mixture again.**

# %%
#| export
def ideal_ratio_mask(S: Tensor, exponent: float = 2.0, eps: float = 1e-8) -> Tensor:
    """Each source's share of the summed magnitudes to a power (eq. 1.11); the masks sum to one.

    S: complex or magnitude (..., source, channel, bin, frame). exponent > 0: 1 magnitudes, 2
    energies (Wiener). eps: magnitudes under it count as eps, so that silence is shared equally and
    gradients stay finite. Returns real masks of the same shape in [0, 1]. Source: Liutkus and
    Badeau 2015; chapter 1, section 1.10.
    """
    _check_sources(S)
    if not 0 < exponent < math.inf:
        raise ValueError(f"exponent is {exponent}; it must be positive")
    level = S.abs().clamp_min(eps)
    level = level / level.amax(-4, keepdim=True).detach()  # the loudest is 1: no power overflows
    share = level ** exponent
    return share / share.sum(-4, keepdim=True)

# %% [markdown]
# By hand for the first point of the tiny example: magnitudes 3 and 1, so the shares are 3/4 and 1/4 for $p = 1$, and 9/10
# and 1/10 for $p = 2$. A large exponent gives the binary mask.

# %%
for p, expected in ((1, [0.75, 0.25]), (2, [0.9, 0.1])):
    assert torch.allclose(ideal_ratio_mask(tiny, p)[:, 0, 0, 0], torch.tensor(expected))
assert torch.allclose(ideal_ratio_mask(tiny, 200), ideal_binary_mask(tiny), atol=1e-6)
assert torch.allclose(ideal_ratio_mask(torch.zeros_like(tiny)), torch.full((2, 1, 2, 2), 0.5))
assert torch.allclose(ideal_ratio_mask(S[..., :50], 1.3).sum(0), torch.ones(2, 1025, 50), atol=1e-5)

# %% [markdown]
# **Question.** Two sources have magnitudes 2 and 1 at a point, and their sum has magnitude 1, not 3. What happened there, and does the ratio mask get the magnitude of the
# first source right?
#
# <details><summary>Answer</summary>
#
# They have opposite phase and cancel. The mask for $p = 2$ is 4/5, so the estimate has magnitude 0.8 where the truth has 2: no mask that
# only shares out can turn a point *up*. The next mask can.
# </details>

# %% [markdown]
# ### Minding the angle: the phase-sensitive mask
#
# A ratio mask asks how loud each source is. But the mixture is a *complex* sum: two sources in opposite phase cancel,
# and the mixture is then smaller than either. The real number that brings $M X$ closest to $S_j$ is the projection of $S_j$
# onto the direction of $X$ (differentiate $|S_j - M X|^2$ by $M$ and set it to zero):
#
# $$ M_j = \frac{\operatorname{Re}(S_j X^*)}{|X|^2} = \frac{|S_j|}{|X|} \cos(\angle S_j - \angle X). \tag{1.12} $$
#
# It may be negative or above one. A network's output is usually held within $[0, 1]$, so the truncated form is common.

# %%
#| export
def phase_sensitive_mask(S: Tensor, X: Tensor | None = None,
                         limits: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
    """The best real mask for each source (eq. 1.12), truncated to `limits`.

    S: complex (..., source, channel, bin, frame). X: complex (..., channel, bin, frame), default
    the sum of S. limits: None truncates nothing, and the masks then sum to one. Returns real masks;
    where X is zero every source gets an equal share. Source: Erdogan et al. 2015; chapter 1,
    section 1.10.
    """
    mask = complex_mask(S, X).real                                  # checks the shapes
    return mask if limits is None else mask.clamp(*limits)


def complex_mask(S: Tensor, X: Tensor | None = None) -> Tensor:
    """S_j / X, the mask that gives each source back exactly (eq. 1.13); the masks sum to one.

    S: complex (..., source, channel, bin, frame). X: complex (..., channel, bin, frame), default
    the sum of S. Returns complex masks of S's shape; where X is zero every source gets an equal
    share. ValueError where the shapes don't match. Source: Williamson et al. 2016.
    """
    _check_sources(S)
    X = S.sum(-4) if X is None else X
    if X.shape != S.shape[:-4] + S.shape[-3:]:
        raise ValueError(f"the mixture has shape {tuple(X.shape)}; for sources {tuple(S.shape)} it "
                         f"must be {tuple(S.shape[:-4] + S.shape[-3:])}, (..., channel, bin, "
                         "frame)")
    silent = (X.abs() == 0).unsqueeze(-4)
    one = torch.ones((), dtype=X.dtype, device=X.device)
    mask = S / torch.where(silent, one, X.unsqueeze(-4))
    return torch.where(silent, one / S.shape[-4], mask)

# %% [markdown]
# ### Everything: the complex mask
#
# With a complex factor, size and angle can both be put right:
#
# $$ M_j = S_j / X. \tag{1.13} $$
#
# This one gives the source back exactly, so as an oracle it is no bound at all. It is the target of models that estimate
# complex numbers, and a reminder that "ideal mask" bounds a *kind* of mask. The check below also looks at a point by
# hand: bin 0, frame 1 of the tiny example holds $i$ and $2i$, which share one direction.

# %%
by_hand = torch.tensor([1 / 3, 2 / 3])
assert torch.allclose(phase_sensitive_mask(tiny, limits=None)[:, 0, 0, 1], by_hand)
second = S[..., 200:290]  # about a second of the song is enough for the checks
error_of = lambda mask: float((second - apply_mask(mask, second.sum(0))).abs().pow(2).sum())
assert error_of(complex_mask(second)) < 1e-9 * float((second.abs() ** 2).sum())
best_real = phase_sensitive_mask(second, limits=None)
assert torch.allclose(best_real.sum(0), torch.ones(second.shape[1:]), atol=1e-3)
assert error_of(best_real) < min(error_of(best_real + 0.01), error_of(best_real - 0.01))
assert error_of(best_real) < error_of(ideal_ratio_mask(second))

# %% [markdown]
# Side by side, the masks of the vocals in a detail of half a second, so that single points can be seen. The ratio mask is a soft version of the binary one; the
# phase-sensitive one is grainier, as it knows about every cancellation: along the edges of the lines, points of 0 lie beside points of 1.

# %%
syllable = S[:, :1, :, 345:390]  # (source, left channel, bin, half a second)
mask_set = {"binary": ideal_binary_mask(syllable), "ratio, p = 1": ideal_ratio_mask(syllable, 1),
            "ratio, p = 2": ideal_ratio_mask(syllable, 2),
            "phase-sensitive": phase_sensitive_mask(syllable)}
figure = plot_masks({name: masks[3, 0] for name, masks in mask_set.items()}, track.rate,
                    axis="linear", bottom=250, top=1250)
show(figure, "Four ideal masks of the vocals, left channel, half a second between 250 and 1250 Hz.",
     "Four panels of about fifty by forty points with horizontal lines, the harmonics of a voice: "
     "only two colours for the binary mask, soft edges for the ratio masks, single bright and dark "
     "points along the edges for the phase-sensitive one.")

# %% [markdown]
# ### Two ears: the multichannel Wiener filter
#
# So far each channel had a mask of its own. But a stereo mix says more: an instrument that is *panned* to the left is louder in
# the left channel **at every point**. A filter may use both channels of the mixture for each channel of the estimate.
#
# Two noises show it, one towards the left and one towards the right. They overlap at every point. Each dot below is one sample, its place given by what
# the two channels hold:

# %%
panning = torch.tensor([[[1.0], [0.4]], [[0.4], [1.0]]])  # (source, channel, 1)
two_noises = torch.randn(2, 1, 2 * rate, generator=P.generator) * panning  # (source, channel, time)
dots = two_noises[..., :400]
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.3), sharex=True, sharey=True)
for name, source, colour in zip(("source 1", "source 2"), dots, ("#0072B2", "#D55E00")):
    axes[0].plot(*source, ".", color=colour, markersize=3, label=name)
axes[1].plot(*dots.sum(0), ".", color="#404040", markersize=3, label="mixture")
for axis in axes:
    axis.set(xlabel="left channel", ylabel="right channel", aspect="equal")
    axis.legend()
show(figure, "Each source keeps to its own line. In the mixture every dot is one step along each.",
     "Left, two straight clouds of dots through the middle, one nearly flat, one steep. Right, "
     "the mixture's dots fill an ellipse along the diagonal.")

# %% [markdown]
# A mask can only scale what the mixture holds: make a dot's left number smaller, or its right one. But whoever knows the two lines can *solve*:
# each dot is so much of the one direction plus so much of the other, two equations with two unknowns.
#
# To say this for real sources, which keep to their line only roughly, write the channels of source $j$ at one point of time and frequency
# as a vector $S_j[k, m]$ of $C$ complex numbers. From frame to frame it changes, as notes swell and phases turn. We don't model each value but how such values *spread*, with the
# simplest spread there is, the **complex Gaussian** with mean zero: real and imaginary parts follow a bell curve (small values are common, large ones rare), every angle is equally likely, and one
# matrix says everything else, the mean of the products of the channels, or *covariance*:
#
# $$ \operatorname{E}\big[ S_j[k, m]\, S_j[k, m]^H \big] = v_j[k, m]\, R_j[k] \tag{1.14a} $$
#
# ($H$: transposed and conjugated). The number $v_j$ is the *power* that the source has at this point, and the $C \times C$ matrix $R_j$ says where it sits
# between the channels, at this frequency, all through the song. To make clear who holds the level, the diagonal of $R_j$ sums to $C$. The
# smallest example is a source that plays at full level on the left and at four tenths on the right:

# %%
gains = torch.tensor([1.0, 0.4])
R_left = torch.outer(gains, gains) * 2 / (gains @ gains)  # the diagonal sums to C = 2
R_right = R_left.flip(0, 1)  # the same, left and right swapped
print(R_left)

# %% [markdown]
# The diagonal says how the power is shared between the channels, the other two numbers how far the channels move together
# (fully, here; *reverberation*, the echo of a room, arrives differently at each side and makes them smaller). Given all $v$ and $R$, the best linear estimate is
#
# $$ \hat S_j = v_j R_j \Big(\sum_i v_i R_i\Big)^{-1} X. \tag{1.14} $$
#
# Read it as (1.11) with matrices: source $j$'s share of the sum. With one channel it *is* the ratio mask with $p = 2$. (For Gaussians it is also the mean of $S_j$ among
# all the ways in which sources of these covariances could have made this $X$; chapter 4 comes back to that.)
#
# **One point by hand.** The source above has the value 1 here, so its channels hold $(1, 0.4)$, and its mirror image holds $(0.4, 1)$. Both are
# equally powerful, $v = 1$. The mixture is $X = (1.4, 1.4)$, and
#
# $$ R_1 + R_2 = \begin{pmatrix} 1.72 & 0.69 \\ 0.69 & 0.28 \end{pmatrix} + \begin{pmatrix} 0.28 & 0.69 \\ 0.69 & 1.72 \end{pmatrix}
#    = \begin{pmatrix} 2 & 1.38 \\ 1.38 & 2 \end{pmatrix}. $$
#
# As both entries of $X$ are equal, the inverse just divides by $2 + 1.38$: $(R_1 + R_2)^{-1} X = (0.414, 0.414)$. Times $R_1$ that is
# $0.414 \cdot (1.72 + 0.69,\; 0.69 + 0.28) = (1, 0.4)$: **the first source, exactly.** The ratio mask, which shares out each channel on its own, gives
# $1.4 \cdot 1 / 1.16 = 1.21$ and $1.4 \cdot 0.16 / 1.16 = 0.19$.

# %%
point = torch.tensor([1.4, 1.4])
solved = torch.linalg.solve(R_left + R_right, point)
print("filter:    ", [round(value, 2) for value in (R_left @ solved).tolist()])
shared = torch.tensor([1 / 1.16, 0.16 / 1.16]) * point
print("ratio mask:", [round(value, 2) for value in shared.tolist()])
print("truth:      [1.0, 0.4]")
assert torch.allclose(R_left @ solved, gains, atol=1e-5) and abs(solved[0] - 0.414) < 1e-3

# %% [markdown]
# As an oracle we measure $v_j$ and $R_j$ on the true source, so that what we saw is as likely as possible. For fixed $v$, the likeliest $R_j$ is the mean of the products
# over the $T$ frames at equal loudness, each frame divided by its own power; for fixed $R$, the likeliest $v_j$ is a squared length:
#
# $$ R_j[k] = \frac1T \sum_{m=1}^{T} \frac{S_j[k, m]\, S_j[k, m]^H}{v_j[k, m]}, \qquad v_j[k, m] = \frac1C\, S_j[k, m]^H R_j[k]^{-1} S_j[k, m]. \tag{1.14b} $$
#
# Where does the second come from? The density of a complex Gaussian with covariance $v R$ is, up to a constant, $v^{-C} \exp(-S^H R^{-1} S / v)$. Its logarithm is
# $-C \log v - S^H R^{-1} S / v$, and the derivative by $v$ vanishes at $v = S^H R^{-1} S / C$. In words: $R^{-1}$ measures each direction in units of what is usual for this source, so
# a value in an unusual direction counts for more power. If both channels are alike and independent, $R$ is the identity and $v$ the mean power of the channels.
#
# The two lean on each other, so one would alternate. As the field's reference oracle does (SiSEC, section 1.13), we start from the mean power of the channels, compute $R$, and then $v$. (A thousandth of the identity is
# added to $R_j$, or a source panned hard could not be inverted.)

# %%
#| export
def spatial_model(S: Tensor, eps: float = 1e-10) -> tuple[Tensor, Tensor]:
    """The power of each source at a point and where it sits between the channels (eq. 1.14b).

    S: complex (..., source, channel, bin, frame). Returns v: real (..., source, bin, frame), power;
    and R: complex (..., source, bin, channel, channel), Hermitian with trace = channels: the mean
    over frames at equal loudness, then v once more, given R. eps: power that counts as silence; R
    gets a small multiple of the identity, so that it can be inverted. Source: Duong, Vincent and
    Gribonval 2010; chapter 1, section 1.10.
    """
    _check_sources(S)
    channels = S.shape[-3]
    Y = S.movedim(-3, -1).contiguous()  # (..., source, bin, frame, channel)
    v = (Y.abs() ** 2).mean(-1)  # (..., source, bin, frame)
    # summed over frames: (..., source, bin, channel, channel)
    R = (Y / (v + eps).unsqueeze(-1)).mT @ Y.conj()
    eye = torch.eye(channels, dtype=S.dtype, device=S.device)
    trace = R.diagonal(dim1=-2, dim2=-1).sum(-1).real[..., None, None]
    # silent all through: no direction
    R = torch.where(trace > eps, R * (channels / trace.clamp_min(eps)), eye)
    R = (R + 1e-3 * eye) / (1 + 1e-3)
    v = ((Y @ torch.linalg.inv(R).mT) * Y.conj()).sum(-1).real / channels
    return v.clamp_min(0), R


def multichannel_wiener(v: Tensor, R: Tensor, X: Tensor, eps: float = 1e-10) -> Tensor:
    """Estimate sources from a mixture and a spatial model of them (eq. 1.14).

    v: (..., source, bin, frame). R: (..., source, bin, channel, channel). X: complex (..., channel,
    bin, frame). Returns complex (..., source, channel, bin, frame); the estimates add up to X.
    ValueError where the shapes don't match. Source: Duong, Vincent and Gribonval 2010; chapter 1,
    section 1.10.
    """
    if X.shape != v.shape[:-3] + (R.shape[-1],) + v.shape[-2:] or R.shape[:-2] != v.shape[:-1]:
        raise ValueError(f"v {tuple(v.shape)}, R {tuple(R.shape)}, X {tuple(X.shape)}: expected "
                         "(..., source, bin, frame), (..., source, bin, channel, channel) and "
                         "(..., channel, bin, frame)")
    v = (v + eps).to(R.dtype)  # never zero, so the estimates always add up to X
    total = torch.einsum("...jft,...jfcd->...ftcd", v, R)  # covariance of the mixture
    columns = X.movedim(-3, -1).unsqueeze(-1)  # (..., bin, frame, channel, 1)
    whitened = torch.linalg.solve(total, columns).squeeze(-1)  # (..., bin, frame, channel)
    estimates = torch.einsum("...jfcd,...ftd->...jftc", R, whitened) * v.unsqueeze(-1)
    return estimates.movedim(-1, -3)

# %% [markdown]
# Four checks. The likeliest $v$ is that of (1.14b), tried on a grid. The estimates add up to the mixture, and one channel gives the ratio mask.
# And the two noises, of which a mask can only share out every point, come apart.

# %%
R_true = R_left + 0.5 * torch.eye(2)
value = torch.tensor([0.8, -0.5])
grid = torch.linspace(0.05, 2.0, 400)
squared_length = value @ torch.linalg.solve(R_true, value)
log_likelihood = -2 * torch.log(grid) - squared_length / grid  # C = 2
assert abs(grid[log_likelihood.argmax()] - squared_length / 2) < 0.01

# %%
v, R = spatial_model(second)
estimates = multichannel_wiener(v, R, second.sum(0))
assert (estimates.sum(0) - second.sum(0)).abs().max() < 1e-3
mono = second[:, :1]
as_mask = apply_mask(ideal_ratio_mask(mono, 2), mono.sum(0))
assert (multichannel_wiener(*spatial_model(mono), mono.sum(0)) - as_mask).abs().max() < 1e-2

# %%
N_two = stft(two_noises, 1024, 256)  # (source, channel, bin, frame)
estimates_two = {"mask": apply_mask(ideal_ratio_mask(N_two, 2), N_two.sum(0)),
                 "filter": multichannel_wiener(*spatial_model(N_two), N_two.sum(0))}
errors = {name: float((Y - N_two).abs().pow(2).sum()) for name, Y in estimates_two.items()}
better_db = 10 * math.log10(errors["mask"] / errors["filter"])
print(f"the filter's error is {better_db:.0f} dB below the mask's")
assert better_db > 20

# %% [markdown]
# Does it pay to compute $v$ a second time? We compare with the mean power of the channels, on the song.

# %%
def filter_error(S, v=None):
    """Error energy of the filter relative to the sources'; v: power, default that of (1.14b)."""
    likeliest, R = spatial_model(S)
    estimates = multichannel_wiener(likeliest if v is None else v, R, S.sum(0))
    return float((estimates - S).abs().pow(2).sum() / S.abs().pow(2).sum())

loss_db = 10 * math.log10(filter_error(S) / filter_error(S, S.abs().pow(2).mean(1)))
print(f"with the likeliest v the error is {abs(loss_db):.1f} dB "
      f"{'larger' if loss_db > 0 else 'smaller'} than with the mean power of the channels")
assert loss_db > 0

# %% [markdown]
# The likeliest power is not the one with the smallest error: it is what the *model* makes of a point, and no source is quite Gaussian. We keep it all the same,
# so that section 1.13 can stand beside the published numbers.

# %% [markdown]
# ## 1.11 What the mixture's phase costs
#
# A real mask keeps the mixture's phase for every source. To see what that costs we need a score. The *signal-to-distortion
# ratio*, SDR, compares the energy of the true source with the energy of the error, in decibels:
#
# $$ \text{SDR} = 10 \log_{10} \frac{\sum_n s[n]^2}{\sum_n (s[n] - \hat s[n])^2}. \tag{1.15} $$
#
# The sums run over both channels as well. 0 dB is as good as silence, every 6 dB more halve the error's amplitude, infinity is perfect. A source that is
# silent has no ratio: its SDR is *not a number*, NaN, and a mean leaves it out. Every score of a whole signal in this course is this one:

# %%
#| export
def song_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """SDR in dB of whole signals, all channels together (eq. 1.15): the rule of all our tables.

    estimates, references: (..., channel, time), floats of one shape. Returns (...): NaN where the
    reference is silent, 0 for a silent estimate, infinite for a perfect one; computed in 64 bits.
    ValueError where shapes differ or a value is NaN or infinite. Source: chapter 1, section 1.11.
    """
    check_audio(estimates=estimates, references=references)
    if estimates.shape != references.shape or references.ndim < 2 or not references.numel():
        raise ValueError(f"estimates {tuple(estimates.shape)} and references "
                         f"{tuple(references.shape)}: expected two equal shapes (..., channel, "
                         "time)")
    s, guess = references.double(), estimates.double()
    signal, error = (s ** 2).sum((-2, -1)), ((s - guess) ** 2).sum((-2, -1))
    if not (signal + error).isfinite().all():
        raise ValueError("estimates or references hold NaN or infinity; find out where it comes "
                         "from")
    decibels = 10 * torch.log10(signal / error)
    return torch.where(signal > 0, decibels, torch.nan).to(references.dtype)

# %% [markdown]
# By hand: a source of two samples and a silent one, and an estimate that is a tenth too soft, so that the error has a
# hundredth of the energy.

# %%
two = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])  # (source, channel, time)
print("SDR in dB:", [round(value, 1) for value in song_sdr(0.9 * two, two).tolist()])
assert abs(song_sdr(0.9 * two, two)[0] - 20) < 1e-4 and song_sdr(0.9 * two, two)[1].isnan()
assert song_sdr(0 * two, two)[0] == 0 and song_sdr(two, two)[0] == math.inf

# %% [markdown]
# One number for a whole song hides that songs change from second to second, so the
# community's tool, `museval`, takes frames of one second and reports their median. Frames in which a source is
# silent have no ratio; they give NaN and are left out.

# %%
#| export
def framewise_sdr(estimates: Tensor, references: Tensor, rate: float,
                  seconds: float = 1.0) -> Tensor:
    """SDR in dB of each whole frame of `seconds` (eq. 1.15), all channels together, as museval's.

    estimates, references: (..., source, channel, time). Returns (..., source, frame). A frame in
    which any source's reference or estimate is silent is NaN for all sources. ValueError where
    shapes differ or there is no whole frame. Source: Stoeter, Liutkus and Ito 2018; chapter 1,
    section 1.11.
    """
    check_audio(estimates=estimates, references=references)
    length = round(rate * seconds)
    fits = estimates.shape == references.shape and references.ndim >= 3
    if length < 1 or not fits or references.shape[-1] < length:
        raise ValueError(f"estimates {tuple(estimates.shape)} and references "
                         f"{tuple(references.shape)}: expected two equal shapes (..., source, "
                         f"channel, time) of at least one frame, here {length} samples")
    energy = lambda z: (z.unfold(-1, length, length) ** 2).sum((-3, -1))  # (..., source, frame)
    signal, guess, error = map(energy, (references, estimates, references - estimates))
    silent = ((signal == 0) | (guess == 0)).any(-2, keepdim=True)
    return torch.where(silent, torch.nan, 10 * torch.log10(signal / error))

# %% [markdown]
# Numbers that can be worked out by hand: an error of a tenth of the amplitude is 20 dB; half the source as estimate is
# 6.02 dB; and silence, where it is the *estimate*, is NaN by the community's convention, not 0. (That the score
# equals `museval`'s to a thousandth of a decibel is held by one of the course's tests.)

# %%
toy = torch.randn(2, 2, 3 * rate, generator=P.generator)  # (source, channel, time)
assert torch.allclose(framewise_sdr(0.9 * toy, toy, rate), torch.tensor(20.0), atol=1e-3)
assert torch.allclose(framewise_sdr(0.5 * toy, toy, rate), torch.tensor(6.0206), atol=1e-3)
assert framewise_sdr(0 * toy, toy, rate).isnan().all()

# %% [markdown]
# Now we give back, one at a time, what a mask doesn't have: the right phase, or the right magnitude. One band song, median over
# seconds, mean over the stems. (For an even number of seconds the median is the mean of the middle two, as museval's; torch's own
# `median` takes the lower one, so we ask for the quantile.)

# %%
def median_sdr(spectra, references, rate):
    """Median over frames of the SDR of each source: (source,)."""
    estimates = istft(spectra, length=references.shape[-1])
    return framewise_sdr(estimates, references, rate).nanquantile(0.5, dim=-1)

direction = lambda Z: torch.polar(torch.ones_like(Z.abs()), Z.angle())  # length one, angle of Z
share = ideal_ratio_mask(S, 2)
given_back = {"ratio mask, mixture's phase": apply_mask(share, X),
              "ratio mask, true phase": share * X.abs() * direction(S),
              "true magnitude, mixture's phase": S.abs() * direction(X),
              "phase-sensitive mask": apply_mask(phase_sensitive_mask(S), X)}
phase_cost = {name: median_sdr(Y, sources, track.rate) for name, Y in given_back.items()}
show_table([[name, *(f"{value:.1f}" for value in [*row, row.mean()])]
            for name, row in phase_cost.items()], ["one song, SDR in dB", *STEMS, "mean"])

# %% [markdown]
# Two lessons. **On average, the true magnitude with the mixture's phase scores below the ratio mask**: if the angle is wrong,
# the right length is too long, and a smaller step in the wrong direction does less harm. That is precisely what the
# phase-sensitive mask knows. And with the true phase the same mask gains several decibels: that is the price of a real mask.

# %%
mean_of = {name: float(row.mean()) for name, row in phase_cost.items()}
with_mixture = mean_of["ratio mask, mixture's phase"]
assert mean_of["true magnitude, mixture's phase"] < with_mixture < mean_of["phase-sensitive mask"]
assert mean_of["ratio mask, true phase"] > with_mixture + 1

# %% [markdown]
# How wrong is the angle? Where a source dominates, the mixture is nearly that source and the phase nearly right. The smaller its
# share, the closer the angle comes to a random one, of which half would lie beyond a right angle.

# %%
angle = (S * X.conj()).angle().abs()  # (source, channel, bin, frame), 0 to pi
figure, axis = plt.subplots(figsize=(8, 2.8))
beyond = {}
for low, high in ((0.9, 1.01), (0.5, 0.9), (0.1, 0.5), (0.0, 0.1)):
    chosen = (share >= low) & (share < high)
    angles, order = angle[chosen][::5].sort()
    weights = energy[chosen][::5][order]
    below = weights.cumsum(0) / weights.sum()  # share of the energy up to each angle
    beyond[low] = abs(1 - float(below[(angles <= math.pi / 2).sum() - 1]))
    axis.plot(angles[::50] * 180 / math.pi, below[::50],
              label=f"share {low:.1f} to {min(high, 1):.1f}")
axis.axvline(90, color="grey", linewidth=0.8)
axis.set(xlabel="angle between source and mixture (degrees)", xticks=range(0, 181, 30),
         ylabel="energy up to this angle", ylim=(0, 1.02), xlim=(0, 180))
axis.legend(loc="lower right")
show(figure, "The mixture's phase is right where a source has most of the energy.",
     "Four rising curves from 0 to 180 degrees. For the largest shares nearly all energy lies "
     "under 20 degrees; the smaller the share, the later the curve rises, and for the smallest it "
     "is close to a straight line.")
print(f"energy beyond a right angle: {beyond[0.9]:.0%} for the largest shares, "
      f"about {round(20 * beyond[0.0]) / 20:.0%} for the smallest")
assert beyond[0.9] < 0.01 < 0.1 < beyond[0.1] < beyond[0.0] < 0.5

# %% [markdown]
# ### A masked picture is not a picture of any sound
#
# Frames overlap, so the numbers of an STFT depend on each other. A mask pays no heed to that: the product is usually
# *inconsistent*, the STFT of no signal at all. The inverse returns the nearest signal, and what can't be kept is lost.

# %%
def inconsistent_share(Y, length):
    """Energy of Y that does not survive a round trip through the time domain."""
    again = stft(istft(Y, length=length))
    return float((Y - again).abs().pow(2).sum() / Y.abs().pow(2).sum())

length = sources.shape[-1]
lost = {"stems themselves": inconsistent_share(S, length),
        "ratio mask": inconsistent_share(given_back["ratio mask, mixture's phase"], length),
        "binary mask": inconsistent_share(apply_mask(ideal_binary_mask(S), X), length)}
show_table([[name, f"{value:.2%}"] for name, value in lost.items()], ["spectrogram", "energy lost"])
assert lost["stems themselves"] < 1e-9 < lost["ratio mask"] < lost["binary mask"]

# %% [markdown]
# ## 1.12 Masks by hand
#
# The oldest mask has no time axis: an equaliser. Here is a *band-stop* on the real recording, which takes out everything
# between two frequencies; its complement keeps just that. Move the sliders and try to remove the singer. (Before the cell
# has run you see the first setting.)

# %%
frequencies = fft_frequencies(2048, rate)

def band_stop(low, high):
    """Play and show the recording without the band between two frequencies in hertz."""
    low, high = min(low, high), max(low, high)
    stop = ((frequencies >= low) & (frequencies <= high)).float()[:, None]  # (bin, 1)
    kept = X_song * (1 - stop)
    left = float(kept.abs().pow(2).sum() / X_song.abs().pow(2).sum())
    print(f"{left:.0%} of the energy is left")
    axis = plot_spectrogram(kept[0], rate, f"without {low} to {high} Hz")
    show(axis, "The recording without a band.",
         f"A spectrogram with an empty band between {low} and {high} hertz.")
    listen(istft(kept, length=song.shape[-1])[:1, :4 * rate], rate,
           f"without {low} to {high} Hz")

explore(band_stop, low=(100, 4000, 100, 300), high=(200, 12000, 200, 3000))

# %% [markdown]
# You can't. Take enough to lose the voice and the guitar is gone as well: **they share the band**. With band songs, where
# the truth is known, we can put a number on it: for each stem, the one band between two edges of a grid that scores best,
# chosen with the truth in hand.

# %%
edges = (0, 100, 200, 400, 800, 1600, 3200, 6400, 22051)  # the last just above the highest bin
bins = fft_frequencies(2048, track.rate)
per_bin = lambda Z: Z.abs().pow(2).sum((1, 3))  # (source, bin)
inside_error, outside_error = per_bin(S - X), per_bin(S)  # the band passes X, and nothing outside

def band_sdr(low, high):
    """SDR in dB of each source, estimated by the mixture from low to high hertz: (source,)."""
    error = torch.where((bins >= low) & (bins < high), inside_error, outside_error)
    return 10 * torch.log10(outside_error.sum(-1) / error.sum(-1))

tried = {(low, high): band_sdr(low, high)  # (low, low): nothing
         for a, low in enumerate(edges) for high in edges[a:]}

# %% [markdown]
# (We read the energy of an error off the STFT and not off the waveform. A DFT keeps energy up to a constant factor, $\sum_n x^2 = \frac1N \sum_k |X|^2$, which is
# *Parseval's theorem*; the factor cancels in the ratio. What remains different is what the mask made inconsistent.) "Nothing" is among the candidates: silence, with 0 dB. Beside it
# stands the ideal ratio mask, scored in the same way.

# %%
energies = lambda Z: Z.abs().pow(2).sum((1, 2, 3))  # (source,)
ratio_masked = given_back["ratio mask, mixture's phase"]
masked_sdr = 10 * torch.log10(energies(S) / energies(S - ratio_masked))
best_band = {stem: max(tried, key=lambda band: tried[band][j]) for j, stem in enumerate(STEMS)}
band_name = lambda low, high: f"{low} to {min(high, 22050)} Hz" if low < high else "nothing"
show_table([[stem, band_name(*band), f"{tried[band][j]:.1f}", f"{masked_sdr[j]:.1f}"]
            for j, (stem, band) in enumerate(best_band.items())],
           ["stem", "best band", "SDR (dB)", "ratio mask (dB)"])
assert all(masked_sdr[j] > tried[band][j] + 2 for j, band in enumerate(best_band.values()))

# %% [markdown]
# Where "nothing" or next to nothing wins, every band that holds the stem holds something louder too. Even the best band stays far
# below the mask.

# %% [markdown]
# The next step is a mask drawn by hand: boxes in time *and* frequency, as in an audio editor. In this jazz recording a short
# figure near 430 Hz comes three times, and in the picture it stands alone. Each box is (start, end in seconds; low, high in
# hertz). Edit them and run the cell again: what does `(0, 5, 0, 150)` give?

# %%
vibes, rate_v = recording("vibeace", start=20.0, seconds=5.0, mono=True)
V = stft(vibes)

def box_mask(boxes, n_fft=2048, hop_length=512):
    """(bin, frame) mask that is one inside any of the boxes."""
    seconds = torch.arange(V.shape[-1])[None, :] * hop_length / rate_v
    hertz = fft_frequencies(n_fft, rate_v)[:, None]
    inside = [(seconds >= t0) & (seconds < t1) & (hertz >= f0) & (hertz < f1)
              for t0, t1, f0, f1 in boxes]
    return torch.stack(inside).any(0).float()

drawn = box_mask([(0.05, 0.40, 380, 520), (1.90, 2.25, 380, 500), (3.75, 4.10, 380, 520)])

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.6, 2.6), sharey=True)
for axis, kept, title in zip(axes, (drawn, 1 - drawn), ("inside the boxes", "outside")):
    plot_spectrogram(V[0] * kept, rate_v, title, axis="linear", top=1500, colour_bar=False, ax=axis)
show(figure, "Kevin MacLeod, Vibe Ace: a drawn mask and its complement.",
     "Left, three small bright boxes on black near 430 hertz; right, the rest of the music with "
     "three dark holes.")
inside, outside = (istft(V * m, length=vibes.shape[-1]) for m in (drawn, 1 - drawn))
assert torch.allclose(inside + outside, vibes, atol=1e-5)
listen(inside / inside.abs().max() / 2, rate_v, "inside the boxes (turned up)")
listen(outside, rate_v, "outside")

# %% [markdown]
# Three boxes catch three fundamentals, and no more. What makes the notes an instrument, their attack and their harmonics, lies
# outside, among everyone else's. To take it along you would have to draw a ladder of thin boxes for every note, and a curved one
# for every vibrato. That is just what the ideal masks of section 1.10 are, and what a model must learn to draw.

# %% [markdown]
# ## 1.13 How good can a mask be? The oracle table
#
# Now all masks on all stems of several songs, a few seconds from the middle of each. Beside them stand the bounds on the other side:
# the mixture itself as the estimate of each stem, a quarter of it, and the simplest method worth the name, **one equaliser for
# all songs**, which shares each frequency as the stems do on average in *other* songs. (Silence is the other trivial
# estimate: 0 dB by (1.15).) Anything that learns must beat those.
#
# Which other songs? The band's songs come in three sets, as in all of machine learning: *training* songs to learn from, *validation* songs to choose with, and
# *test* songs, which give the scores and nothing else. The equaliser is measured on validation songs.

# %%
others = [t.excerpt(5.0, 6.0).sources(STEMS) for t in open_tracks("band", "valid", count=4)]
average_energy = sum((stft(other).abs() ** 2).mean((1, 3)) for other in others)  # (source, bin)
equaliser = (average_energy / average_energy.sum(0))[:, None, :, None]  # (source, 1, bin, 1)

def sisec_binary(S, X):
    """The rule of SiSEC's oracles: keep points in which the source has half of the energy."""
    return (S.abs() ** 2 >= 0.5 * X.abs() ** 2).float()

# %% [markdown]
# (SiSEC is the *signal separation evaluation campaign*, in which the field compared its methods for years; its oracle masks stand beside ours
# below.) Each method is one line from the sources' STFT to the estimates' STFT.

# %%
methods = {
    "the mixture": lambda S, X: X.expand_as(S),
    "a quarter of the mixture": lambda S, X: 0.25 * X.expand_as(S),
    "one equaliser for all songs": lambda S, X: apply_mask(equaliser, X),
    "binary, loudest wins": lambda S, X: apply_mask(ideal_binary_mask(S), X),
    "binary, SiSEC's rule": lambda S, X: apply_mask(sisec_binary(S, X), X),
    "ratio, p = 1": lambda S, X: apply_mask(ideal_ratio_mask(S, 1), X),
    "ratio, p = 2": lambda S, X: apply_mask(ideal_ratio_mask(S, 2), X),
    "multichannel Wiener": lambda S, X: multichannel_wiener(*spatial_model(S), X),
    "phase-sensitive": lambda S, X: apply_mask(phase_sensitive_mask(S), X),
    "best real mask": lambda S, X: apply_mask(phase_sensitive_mask(S, limits=None), X),
}

# %%
def oracle_scores(track):
    """Median SDR over one-second frames of each method and stem: (method, stem)."""
    references = track.excerpt(10.0 - P.seconds / 2, P.seconds).sources(STEMS)
    S = stft(references)
    X = S.sum(0)
    return torch.stack([median_sdr(method(S, X), references, track.rate)
                        for method in methods.values()])

# (track, method, stem)
scores = torch.stack([oracle_scores(track) for track in progress(tracks, "oracles")])
assert not scores.isnan().any()

# %% [markdown]
# The table gives the median over songs. Beside it, where they were published, stand the values for MUSDB18, the data set of real
# songs on which the field compares itself, from the 2018 evaluation campaign (SiSEC). Its oracles use the same masks and score,
# and frames of 2048 samples as we do, but twice our hop.

# %%
from course_lib.results import published

table = scores.quantile(0.5, dim=0)  # (method, stem)
sisec = {row["method"]: [float(row[stem]) for stem in STEMS]
         for row in published("sisec2018_oracles")}
paper_name = {"binary, SiSEC's rule": "IBM", "ratio, p = 2": "IRM", "multichannel Wiener": "MWF"}
rows = []
for name, row in zip(methods, table):
    cells, real = [f"{value:.1f}" for value in [*row, row.mean()]], sisec.get(paper_name.get(name))
    if real:
        cells = [f"{a} / {b:.1f}" for a, b in zip(cells, [*real, sum(real) / 4])]
    rows.append([name, *cells])
show_table(rows, ["SDR in dB, ours / MUSDB18", *STEMS, "mean"],
           caption=f"{P.seconds:.0f} s of each of {len(tracks)} band songs; MUSDB18: its 50 test "
                   "songs, whole (SiSEC 2018).")

# %% [markdown]
# How sure are the differences? Songs differ far more than masks do, but every mask has met the same songs. So we look at each song's *difference* from the ratio mask with
# $p = 2$, and draw its median over songs with a 95% interval, by the *bootstrap*: draw as many songs with replacement, take the median again, many times; the
# middle 95% of those medians are the interval.

# %%
ratio_2 = scores[:, list(methods).index("ratio, p = 2")]  # (track, stem)
masks_only = [name for name in list(methods)[3:] if name != "ratio, p = 2"]
differences = {name: scores[:, list(methods).index(name)] - ratio_2 for name in masks_only}
axis = plot_scores(differences, STEMS, unit="SDR difference (dB)")
axis.axhline(0, color="#404040", linewidth=1.0)
show(axis, f"Oracle masks against the ratio mask with p = 2, song by song: median difference over "
           f"{len(tracks)} band songs with 95% intervals.",
     "Dots with intervals per stem around a line at zero. Binary masks and the ratio mask with "
     "p = 1 lie below it for every stem, the phase-sensitive mask above, the best real mask far "
     "above; the multichannel Wiener filter lies near zero.")

# %% [markdown]
# Read the table from its top, where the worst stand. The mixture itself is worse than silence, as all the other stems count as error; a quarter of it is a little
# better than silence. The equaliser helps the drums most. The ideal masks between
# 0 and 1 stand several decibels higher: this is the room in which most mask models of the course live. The best real mask,
# which may turn up and turn over, adds more; beyond it lie complex masks and models that, like Demucs, use no mask at all.

# %%
gain = {name: float(table[i].mean()) for i, name in enumerate(methods)}
quarter, equalised = gain["a quarter of the mixture"], gain["one equaliser for all songs"]
assert gain["the mixture"] < 0 < quarter < equalised
assert equalised + 2 < gain["binary, loudest wins"] < gain["ratio, p = 2"]
assert gain["ratio, p = 2"] < gain["phase-sensitive"] < gain["best real mask"]
assert STEMS[int((table[2] - table[1]).argmax())] == "drums"  # equaliser minus quarter
for name, better in (("binary, loudest wins", False), ("binary, SiSEC's rule", False),
                     ("ratio, p = 1", False), ("phase-sensitive", True), ("best real mask", True)):
    assert ((differences[name].quantile(0.5, dim=0) > 0) == better).all()

# %% [markdown]
# Why the drums? One could guess: cymbals have the top octaves to themselves. We look at bands of frequency: which share of their energy is the drums' (in the validation songs, which made the
# equaliser), and what the drums' error is on the song of section 1.10, with a quarter of the mixture and with the equaliser.

# %%
drum_energy, drum_share = per_bin(S)[0], []
drum_errors = [per_bin(S - Y)[0] for Y in (0.25 * X.expand_as(S), apply_mask(equaliser, X))]
rows, removed = [], []
for low, high in ((0, 200), (200, 800), (800, 5500), (5500, 22051)):
    band = (bins >= low) & (bins < high)
    before, after = (float(error[band].sum() / drum_energy.sum()) for error in drum_errors)
    removed.append(before - after)
    drum_share.append(float(average_energy[0, band].sum() / average_energy[:, band].sum()))
    rows.append([band_name(low, high), f"{drum_share[-1]:.0%}", f"{before:.1%}", f"{after:.1%}"])
show_table(rows, ["band", "drums' share of the energy", "error, mixture/4", "error, equaliser"],
           caption=f"Share: {len(others)} validation songs. Errors: relative to the drums' energy, "
                   "one band song, 6 s.")
assert drum_share[3] < 0.6 and removed[0] + removed[1] > 20 * abs(removed[3])

# %% [markdown]
# The guess is wrong twice. The drums do not own the top: cymbals share it with the voice's consonants and with synthesisers. And what happens there hardly matters, as there is little energy. The
# equaliser gains where the energy is: below 200 Hz, where it passes more of the kick drum, and from 200 to 800 Hz, where the other stems are loud and it keeps them out of the drums.

# %% [markdown]
# ### Which exponent?
#
# Wiener's theory says 2, and its reason is that the *energies* of independent sources add up. Do they, at single points of music?
# Liutkus and Badeau (2015) argue that a smaller power of the magnitudes adds up better, $|X|^p \approx \sum_j |S_j|^p$, so that
# it suits models of sources better. We measure how far the two sides are apart, as a share of the left one.

# %%
exponents = (1.0, 1.25, 1.5, 2.0, 3.0)

def additivity_error(S, p):
    """Mean distance between |X|^p and the sum of the sources' |S|^p, relative to mean |X|^p."""
    mixture_power = S.sum(0).abs() ** p
    return float((mixture_power - (S.abs() ** p).sum(0)).abs().sum() / mixture_power.sum())

def exponent_scores(S, references, rate):
    """Mean over stems of the ratio mask's SDR for each exponent."""
    masked = [apply_mask(ideal_ratio_mask(S, p), S.sum(0)) for p in exponents]
    return [float(median_sdr(Y, references, rate).mean()) for Y in masked]

# %%
few = [t.excerpt(5.0, 6.0).sources(STEMS) for t in tracks[:2]]
spectra = [stft(z) for z in few]
apart = torch.tensor([[additivity_error(Z, p) for p in exponents] for Z in spectra]).mean(0)
scored = [exponent_scores(Z, z, track.rate) for Z, z in zip(spectra, few)]
by_exponent = torch.tensor(scored).mean(0)
show_table([[f"{p}", f"{error:.2f}", f"{sdr:.1f}"]
            for p, error, sdr in zip(exponents, apart, by_exponent)],
           ["exponent p", "distance from adding up", "oracle ratio mask, mean SDR (dB)"],
           caption="Two band songs, six seconds of each.")
most_additive = exponents[int(apart.argmin())]
assert by_exponent[3] > by_exponent[0] + 0.5 and abs(by_exponent[4] - by_exponent[3]) < 0.5

# %% [markdown]
# The powers add up best for an exponent below 2, as the paper argues. The *oracle* does not care: from 2 to 3 its score hardly
# changes, and at 1 it is clearly worse. A likely reason: SDR is dominated by the strongest points, and where one source owns
# nearly all of the energy (section 1.10), a mask that leans towards "winner takes all" errs least.

# %% [markdown]
# ### 2048 or 4096?
#
# Section 1.8 left a question open: short frames for attacks, long frames for bass notes, so which length suits which stem? With the ratio mask of each
# song at both lengths the answer is a subtraction.

# %%
def length_scores(track, n_fft):
    """Median SDR of the ideal ratio mask with frames of n_fft samples: (stem,)."""
    references = track.excerpt(10.0 - P.seconds / 2, P.seconds).sources(STEMS)
    Z = stft(references, n_fft)
    masked = apply_mask(ideal_ratio_mask(Z, 2), Z.sum(0))
    estimates = istft(masked, n_fft, length=references.shape[-1])
    return framewise_sdr(estimates, references, track.rate).nanquantile(0.5, dim=-1)

long_frames = torch.stack([length_scores(t, 4096) for t in progress(tracks, "lengths")])
longer = long_frames - ratio_2  # (track, stem): 4096 minus 2048, song by song
show_table([["4096 minus 2048 samples", *(f"{x:+.1f}" for x in longer.quantile(0.5, dim=0))],
            ["songs in which 4096 is better", *(longer > 0).sum(0).tolist()]],
           ["ideal ratio mask, SDR in dB", *STEMS],
           caption=f"Median difference over {len(tracks)} band songs, {P.seconds:.0f} s of each.")
assert (longer.quantile(0.5, dim=0) > 0).all()

# %% [markdown]
# The longer frame is better for every stem, **even for the drums**. A likely reason is in section 1.10: a mask is right where one source owns a point. We ask again
# which share of the energy lies at such points, with both lengths.

# %%
def owned_energy(track, n_fft):
    """Share of the energy at points where one source has over nine tenths of it."""
    Z = stft(track.excerpt(10.0 - P.seconds / 2, P.seconds).sources(STEMS), n_fft)
    energy = Z.abs() ** 2  # (source, channel, bin, frame)
    owned = energy.max(0).values > 0.9 * energy.sum(0)
    return float((energy.sum(0) * owned).sum() / energy.sum())

with_owner = torch.tensor([[owned_energy(t, n_fft) for n_fft in (2048, 4096)] for t in tracks])
mean_2048, mean_4096 = with_owner.mean(0)
print(f"energy at points with one owner, mean over songs: {mean_2048:.0%} with 2048 samples, "
      f"{mean_4096:.0%} with 4096")
assert mean_4096 > mean_2048

# %% [markdown]
# Finer bins pull the partials apart, and more of the energy has one owner. What a longer frame blurs in time costs an *oracle* little,
# as its mask knows when each drum begins. A model that has to guess may choose otherwise. Where this ends as frames grow further is a task of the
# assignment.

# %% [markdown]
# Hear the difference on the song of section 1.10: the vocals by the binary mask, by the ratio mask, and the truth. The
# binary mask chirps ("musical noise": single points switched on and off); what the ratio mask leaves of the others is
# smoother, like a quieter mixture.

# %%
clip = slice(0, 3 * track.rate)
for title, masks in (("binary mask", ideal_binary_mask(S)), ("ratio mask, p = 2", share)):
    listen(istft(apply_mask(masks, X)[3], length=length)[:1, clip], track.rate, f"vocals, {title}")
listen(sources[3][:1, clip], track.rate, "vocals, the truth")

# %% [markdown]
# ## 1.14 What we built
#
# | name | what | section |
# |---|---|---|
# | `frame`, `overlap_add`, `reflect_pad` | cut a signal into frames and add frames up | 1.2, 1.5, 1.7 |
# | `hann_window`, `cola_deviation` | the window, and whether it fits a hop | 1.4, 1.7 |
# | `stft`, `istft`, `fft_frequencies`, `amplitude_to_db` | there and back, axes and levels | 1.3, 1.5 to 1.7 |
# | `hz_to_mel`, `mel_to_hz`, `mel_filterbank`, `mel_spectrogram` | frequency as we hear it | 1.9 |
# | `ideal_binary_mask`, `ideal_ratio_mask`, `phase_sensitive_mask`, `complex_mask`, `apply_mask` | masks | 1.10 |
# | `spatial_model`, `multichannel_wiener` | a filter that uses both channels | 1.10 |
# | `song_sdr`, `framewise_sdr` | the score, of a whole signal and second by second | 1.11 |
#
# All of it is in `course_lib.spectral`; the next chapters import it from there.

# %% [markdown]
# ## 1.15 Paper claims
#
# What the sources say, and what came out here. The verdicts are computed, by the same two rules in every chapter: `reproduced` compares a number with the source's,
# `same_trend` asks whether a difference, song by song, has the source's sign with an interval that excludes zero. The levels of SiSEC's oracles can't be tested here: **the band was tuned until its oracles came
# near MUSDB18's**, so agreement would prove nothing; they *need real data* (`open_tracks("musdb18hq", root=...)` in section 1.1).

# %%
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, Claim, difference_in_words,
                                        reproduced, same_trend, show_claims)

round_trip = float((istft(stft(song), length=song.shape[-1]) - song).abs().max())
rebuilt = apply_mask(complex_mask(S), X)
exact = float(energies(rebuilt - S).sum() / energies(S).sum())
sisec_mean = {name: sum(values) / 4 for name, values in sisec.items()}
by_song = dict(zip(methods, scores.mean(2).T))  # method -> (track,), mean over stems
best_other = torch.maximum(by_song["ratio, p = 2"], by_song["binary, loudest wins"])
phase_gain = by_song["phase-sensitive"] - best_other
new_songs = [stft(t.excerpt(5.0, 6.0).sources(STEMS)) for t in tracks[2:]]  # p was found on two
fit = [additivity_error(Z, 2.0) - additivity_error(Z, most_additive) for Z in new_songs]

# %% [markdown]
# First the claims that hold by mathematics, checked in 32-bit arithmetic; then those about music.

# %%
compared = lambda value, limit: f"error {'below' if value < limit else 'above'} {limit:g}"
others_above = min(products["Hann"], products["rectangle"]) > 1.01
claims = [
    Claim("Weighted overlap-add gives an unchanged signal back", "Griffin & Lim 1984", "1.7",
          "exact", compared(round_trip, 1e-6), reproduced(round_trip, 0, 1e-6)),
    Claim("The bell curve reaches the bound of spread in time times frequency, others don't",
          "Gabor 1946", "1.8", "1", f"{products['Gauss']:.3f}, Hann {products['Hann']:.3f}",
          reproduced(products["Gauss"], 1, 1e-3) if others_above else NOT_SEEN),
    Claim("A complex mask gives the source back", "Williamson et al. 2016", "1.10", "exact",
          compared(exact, 1e-9), reproduced(exact, 0, 1e-9)),
    Claim("The phase-sensitive mask beats ratio and binary masks", "Erdogan et al. 2015", "1.13",
          "order only", difference_in_words(phase_gain, digits=1), same_trend(phase_gain)),
    Claim("Powers of magnitudes add up better with an exponent below 2", "Liutkus & Badeau 2015",
          "1.13", "order only", f"p = {most_additive:g}: {difference_in_words(fit, 'of all')}",
          same_trend(fit) if most_additive < 2 else NOT_SEEN),
]

# %%
for name, short in paper_name.items():
    claims.append(Claim(f"Oracle {short} on music, mean over stems", "SiSEC 2018", "1.13",
                        f"{sisec_mean[short]:.1f} dB", f"{gain[name]:.1f} dB", NEEDS_REAL_DATA))
names = {short: name for name, short in paper_name.items()}
for better, worse in (("IRM", "IBM"), ("IRM", "MWF")):
    paper_step = sisec_mean[better] - sisec_mean[worse]
    step = by_song[names[better]] - by_song[names[worse]]
    claims.append(Claim(f"Oracle {better} scores above {worse}", "SiSEC 2018", "1.13",
                        f"{paper_step:+.1f} dB", difference_in_words(step, digits=1),
                        same_trend(step * math.copysign(1, paper_step))))
show_claims(claims)

# %% [markdown]
# Where SiSEC's order between the ratio mask and the multichannel Wiener filter is not seen, the likely reason is the band: its
# instruments keep one place in the stereo picture, which is just what the filter's $R_j$ assumes, while on records rooms,
# doubled takes and effects spread a stem over the whole picture.

# %% [markdown]
# ## 1.16 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded
# [assignment of this chapter](assignments/01_stft_and_masks.ipynb) has seven more tasks, with checks
# ([for teachers](assignments/README.md)).
#
# **1. Hop and length.** A signal has 10,000 samples. How many frames does `stft(x, 1024, 256)` return, and how many
# `stft(x, 1024, 256, center=False)`? Which samples does the second one lose?
#
# <details><summary>Answer</summary>
#
# Centred frames stand on every multiple of the hop: 1 + 10000 // 256 = 40. Without centring a frame must fit whole:
# 1 + (10000 - 1024) // 256 = 36, which cover 35 · 256 + 1024 = 9984 samples; the last 16 are lost.
#
# ```python
# x = torch.randn(10_000)
# assert stft(x, 1024, 256).shape[-1] == 40
# assert stft(x, 1024, 256, center=False).shape[-1] == 36
# ```
# </details>
#
# **2. A window that fits.** The *sine window* is $w[n] = \sin(\pi (n + 1/2) / N)$. With which hop is it COLA, for cutting
# and adding once? And if you window twice?
#
# <details><summary>Answer</summary>
#
# Once: with no useful hop; at $N/2$ it swings by about a fifth. Twice: $\sin^2$ is a Hann window shifted by half a sample, so
# $N/2$, $N/4$ and so on all fit, and with $N/2$ the squares add up to one. That is why codecs use it on both sides.
#
# ```python
# sine = torch.sin(math.pi * (torch.arange(1024) + 0.5) / 1024)
# assert 0.15 < cola_deviation(sine, 512) < 0.25 and cola_deviation(sine ** 2, 512) < 1e-5
# ```
# </details>
#
# **3. Remove the centre.** In many stereo songs the singer stands exactly in the middle: both channels hold the same voice.
# Write `side(x)` that removes it, and say what else goes.
#
# <details><summary>Answer</summary>
#
# The difference of the channels removes all that is equal in both, which usually means bass, kick drum and snare too, and
# what is left is mono. Reverberation, which differs between the channels, stays.
#
# ```python
# def side(x):
#     return (x[..., 0, :] - x[..., 1, :]).unsqueeze(-2) / 2          # (..., 1, time)
#
# voice, guitar = torch.randn(1, 500).expand(2, 500), torch.randn(2, 500)
# assert torch.allclose(side(voice + guitar), side(guitar), atol=1e-6)
# ```
# </details>
#
# **4. A mask above one.** Find two complex numbers $S_1, S_2$ for which the phase-sensitive mask of the first is larger than one, and
# explain what the mixture looks like there. What does truncation to $[0, 1]$ lose?
#
# <details><summary>Answer</summary>
#
# When the second partly cancels the first, the mixture is smaller than the source and must be turned *up*: $S_1 = 2$, $S_2 = -1$ gives
# $X = 1$ and a mask of 2 (and of -1 for the other, which must be turned over). Truncation leaves at most the mixture's own size.
#
# ```python
# pair = torch.tensor([2 + 0j, -1 + 0j]).reshape(2, 1, 1, 1)
# assert phase_sensitive_mask(pair, limits=None).flatten().tolist() == [2.0, -1.0]
# assert phase_sensitive_mask(pair).flatten().tolist() == [1.0, 0.0]
# ```
# </details>
#
# **5. What adds up to what.** The ratio masks of all sources sum to one. So do the estimates sum to the mixture? And does it follow that the four
# errors sum to zero? Check it on random sources.
#
# <details><summary>Answer</summary>
#
# Yes, twice: the inverse STFT is linear, so the estimates add up to the mixture, which is the sum of the references; the
# errors therefore add up to zero. One stem's error is the others' together: what is missing in the vocals sounds in the rest.
#
# ```python
# references = torch.randn(3, 2, 8000)
# S = stft(references, 512)
# estimates = istft(apply_mask(ideal_ratio_mask(S), S.sum(0)), 512, length=8000)
# assert (estimates - references).sum(0).abs().max() < 1e-4
# ```
# </details>
#
# **6. Open.** Which hop gives the best oracle ratio mask? Keep 4096 samples, take hops of 1/2, 1/4, 1/8 and 1/16 of that, and give each setting its time as well as its SDR. Does
# what you gain have to do with section 1.11's inconsistency? There is no single answer to copy; the assignment's last task asks the same of the frame length.

# %% [markdown]
# ## 1.17 Sources
#
# - J. B. Allen, *Short term spectral analysis, synthesis, and modification by discrete Fourier transform*, IEEE TASSP 1977; J. B. Allen and L. R. Rabiner, *A unified approach to short-time Fourier analysis and synthesis*, Proc. IEEE 1977.
# - D. Gabor, *Theory of communication*, Journal of the IEE 1946.
# - D. W. Griffin and J. S. Lim, *Signal estimation from modified short-time Fourier transform*, IEEE TASSP 1984.
# - D. O'Shaughnessy, *Speech communication*, 1987; M. Slaney, *Auditory toolbox*, Interval Research 1998.
# - D. Wang, *On ideal binary mask as the computational goal of auditory scene analysis*, 2005.
# - N. Q. K. Duong, E. Vincent and R. Gribonval, *Under-determined reverberant audio source separation using a full-rank spatial covariance model*, IEEE TASLP 2010.
# - A. Liutkus and R. Badeau, *Generalized Wiener filtering with fractional power spectrograms*, ICASSP 2015.
# - H. Erdogan, J. R. Hershey, S. Watanabe and J. Le Roux, *Phase-sensitive and recognition-boosted speech separation using deep recurrent neural networks*, ICASSP 2015.
# - D. S. Williamson, Y. Wang and D. Wang, *Complex ratio masking for monaural speech separation*, IEEE/ACM TASLP 2016.
# - F.-R. Stöter, A. Liutkus and N. Ito, *The 2018 Signal Separation Evaluation Campaign*, LVA/ICA 2018 (oracle scores: median over frames, then tracks, of the submissions IBM2, IRM2 and MWF).
#
# Recordings: Karissa Hobbs, *Let's Go Fishin'* and Kevin MacLeod, *Vibe Ace*, both from the Free Music Archive under CC BY 3.0, as shipped for `librosa.ex`.
