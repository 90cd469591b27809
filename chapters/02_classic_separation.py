# %% [markdown]
# # Chapter 2 · Separation without learning
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/02_classic_separation.ipynb)
#
# Chapter 1 ended with masks that were computed from the answer. Now we guess them from the mixture alone, without
# training a network, as the field did for decades: from the *shape* of a sound (a line or a stroke), from its *repetition*, and from
# the idea that a song is made of *few building blocks*. These methods are short enough to understand completely, some
# are still in daily use, and together they set the bar that a learned separator has to clear.
#
# **You will be able to**
# - split a recording into harmonic and percussive sound with two median filters, and say what goes wrong with voices,
# - find the period at which a song repeats, and take the repeating background away, also where it repeats irregularly,
# - derive the multiplicative updates of nonnegative matrix factorisation (NMF) for three divergences and write them down in ten lines,
# - group components into instruments, see why that is the hard part, and measure how far all this gets on four stems.
#
# **You need** chapter 1: STFT, masks, SDR. Gradients of simple functions.
#
# **Time** <!-- minutes 02_classic_separation -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 2.0 Set up

# %%
#| default_exp classic
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("02_classic_separation", cpu=dict(songs=4, seconds=6.0), gpu=dict(songs=20, seconds=20.0))

# %% [markdown]
# ## 2.1 Lines and strokes
#
# Listen to four seconds of a real recording, and look at its spectrogram. A note that is held keeps its frequencies while
# time passes: it draws **horizontal lines**. A drum or a plucked attack holds all frequencies for a moment: it draws
# **vertical strokes**. If that were the whole truth, we could tell them apart by their direction alone.

# %%
from course_lib.data import STEMS, open_tracks, recording
from course_lib.notebook import (Diagram, listen, plot_masks, plot_scores, plot_spectrogram,
                                 progress, show, show_table)

song, rate = recording("fishin", start=12.0, seconds=6.0)
listen(song[:1, :4 * rate], rate, "Karissa Hobbs, Let's Go Fishin'")
axis = plot_spectrogram(song[0], rate, "Let's Go Fishin'", axis="linear", top=5000)
show(axis, "Six seconds of the recording: held notes are lines, attacks are strokes.",
     "A spectrogram up to 5 kHz with horizontal ladders of harmonics, crossed by vertical strokes "
     "several times a second.")

# %% [markdown]
# Cells marked `#| export` become `course_lib/classic.py`. They stand on chapter 1's module.

# %%
#| export
import math
import torch
import torch.nn.functional as F
from torch import Tensor
from course_lib.audio import check_audio, check_tensors
from course_lib.spectral import apply_mask, fft_frequencies, istft, stft

# %%
X = stft(song)  # (channel, bin, frame)
print(tuple(X.shape))

# %% [markdown]
# Before we trust the idea with music, here is a sound of which we know the answer: three steady tones, and four bursts of
# noise that die away within a few milliseconds. We keep both parts, so that we can score what we get.

# %%
t = torch.arange(2 * rate) / rate
tones = sum(0.1 * torch.sin(2 * math.pi * f * t) for f in (440.0, 660.0, 1100.0))
decay = sum(torch.exp(-(t - start).clamp_min(0) / 0.004) * (t >= start)
            for start in (0.3, 0.75, 1.2, 1.65))
bursts = 0.8 * decay * torch.randn(len(t), generator=P.generator)
toy = torch.stack([tones, bursts])[:, None]                        # (source, channel, time)
listen(toy.sum(0), rate, "three tones and four bursts")

# %% [markdown]
# ## 2.2 The median, a filter that forgets outliers
#
# To keep lines and remove strokes we need to smooth along time. An average won't do: a loud stroke would be smeared, not
# removed. The **median**, the middle value of a sorted list, simply doesn't see a few outliers. With a window of $L$
# values (odd), the *median filter* of a row $v$ is
#
# $$ y[m] = \operatorname{median}\{\, v[m - \tfrac{L-1}{2}], \dots, v[m + \tfrac{L-1}{2}] \,\}. \tag{2.1} $$
#
# The smallest example: a held level of 2 with one hit of 9 in it. Averages and medians of three neighbours:

# %%
row = torch.tensor([2., 2., 2., 9., 2., 2., 2.])
windows = torch.stack([row[m - 1:m + 2] for m in range(1, 6)])     # (frame, window)
print("means  ", [round(value, 2) for value in windows.mean(1).tolist()])
print("medians", windows.median(1).values.tolist())

# %% [markdown]
# The hit is gone without a trace.
#
# **Question.** The held level rises from 2 to 5 in the middle of the row and stays there. What does the median of three make of that step, and what the mean?
#
# <details><summary>Answer</summary>
#
# The median keeps the step as it is: left of it two of three values are 2, right of it two of three are 5. The mean makes a ramp of it. Medians
# forget what is rare and keep what is sudden, as long as it stays.
# </details>
#
# At the ends a window sticks out of the row; we mirror the row there, its end value
# included: $c\,b\,a \mid a\,b\,c\,d \mid d\,c\,b$. As a loop:

# %%
def median_loop(row, size):
    half, count = size // 2, len(row)
    mirrored = [m % (2 * count) for m in range(-half, count + half)]
    mirrored = [min(m, 2 * count - 1 - m) for m in mirrored]
    return torch.stack([row[mirrored[m:m + size]].median() for m in range(count)])

median_loop(torch.tensor([5., 1., 1., 9., 1.]), 3)

# %% [markdown]
# For a spectrogram with a million points, the same with `unfold`: it lays the windows out along a new axis, and the median is
# taken over that. Windows overlap, so the copy is $L$ times as large as the picture; we go through it in pieces.

# %%
#| export
def median_filter(S: Tensor, size: int, dim: int = -1) -> Tensor:
    """Running median along one axis (eq. 2.1), the ends mirrored with the end values repeated.

    S: real (...), of any shape. size: values in a window, odd. dim: the axis, -1 for frames, -2 for
    bins of a spectrogram. Returns S's shape. ValueError for an even size, complex or empty S.
    Equal to scipy.ndimage.median_filter, mode "reflect". Source: FitzGerald 2010; section 2.2.
    """
    check_tensors(S=S)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size is {size}; a window needs a middle: take an odd number of values")
    if S.is_complex() or S.numel() == 0 or S.ndim == 0:
        raise ValueError(f"S is {S.dtype} {tuple(S.shape)}; expected real values: take .abs() of a "
                         "spectrogram first")
    count = S.shape[dim]
    mirrored = torch.arange(-(size // 2), count + size // 2, device=S.device) % (2 * count)
    mirrored = torch.minimum(mirrored, 2 * count - 1 - mirrored)
    rows = S.movedim(dim, -1)                                        # (..., count)
    padded = rows.index_select(-1, mirrored).reshape(-1, len(mirrored))  # (row, count + size - 1)
    pieces = padded.split(max(1, 2 ** 22 // (count * size)))         # what fits into the cache
    medians = [piece.unfold(-1, size, 1).median(-1).values for piece in pieces]
    return torch.cat(medians).reshape(rows.shape).movedim(-1, dim)

# %% [markdown]
# It must agree with the loop, along either axis, and along frames of a picture with one line and one stroke it must keep the line.

# %%
noise = torch.rand(4, 30, generator=P.generator)
assert torch.equal(median_filter(noise, 7), torch.stack([median_loop(row, 7) for row in noise]))
assert torch.equal(median_filter(noise, 5, dim=0), median_filter(noise.T, 5).T)
picture = torch.zeros(5, 5)
picture[1, :], picture[:, 3] = 2.0, 3.0  # a line in row 1, a stroke in column 3
print("along time\n", median_filter(picture, 3, -1), "\nalong frequency\n",
      median_filter(picture, 3, -2))
assert torch.equal(median_filter(picture, 3, -1),
                   torch.tensor([0., 2., 0., 0., 0.])[:, None].expand(5, 5))

# %% [markdown]
# ## 2.3 Harmonic and percussive: HPSS
#
# That is the whole of FitzGerald's method (2010), *harmonic-percussive source separation*: filter the magnitude $V = |X|$ along time for the lines
# $H$, and along frequency for the strokes $Q$,
#
# $$ H = \operatorname{median}_{\text{time}} V, \qquad Q = \operatorname{median}_{\text{frequency}} V, \tag{2.2} $$
#
# and compare the two at each point. Whoever is larger takes all, or both share as in chapter 1:
#
# $$ M_H = \frac{H^p}{H^p + Q^p}, \qquad M_Q = \frac{Q^p}{H^p + Q^p}. \tag{2.3} $$
#
# As a diagram (white is data, blue a computation, small print the shape of what leaves a box):

# %%
d = Diagram()
song_in = d.block("STFT $X$", "(channel, bin, frame)", kind="data")
V_block = d.block("magnitude $V$", after=song_in)
H_block = d.block("median over\n31 frames", "$H$", after=V_block, shift=0.5)
Q_block = d.block("median over\n31 bins", "$Q$", after=V_block, shift=-0.5)
compare = d.block("compare (2.3)", "$M_H$, $M_Q$", after=[H_block, Q_block])
product = d.join("×", after=compare)
d.arrow(song_in, product, "the mixture, with its phase", route="under", reach=0.75)
d.block("two parts", "(channel, bin, frame)", after=product, kind="data")
show(d.draw(), "HPSS: two medians, one comparison, two masks.", d.in_words())

# %% [markdown]
# Why not use $H$ itself as the answer? It is smoothed and has no phase. As a mask it only *decides*; the detail comes from $X$.
# By hand: where $H = 3$ and $Q = 1$, the shares for $p = 2$ are 0.9 and 0.1.

# %%
#| export
def soft_mask(S: Tensor, rival: Tensor, power: float = 2.0, split_silence: bool = False) -> Tensor:
    """The share of S beside a rival, S^p / (S^p + rival^p) (eq. 2.3).

    S, rival: real, >= 0, of one shape. power > 0; inf gives 1 where S is larger and 0 elsewhere.
    split_silence: where both are zero, give 0.5 instead of 0. Returns values in [0, 1]. ValueError
    for shapes that differ or a power that isn't positive. Source: FitzGerald 2010; section 2.3.
    """
    check_tensors(S=S, rival=rival)
    if S.shape != rival.shape or not power > 0:
        raise ValueError(f"S {tuple(S.shape)}, rival {tuple(rival.shape)}, power {power}: expected "
                         "equal shapes, power > 0")
    if power == math.inf:
        return (S > rival).to(S.dtype)
    larger = torch.maximum(S, rival)
    silent = larger < torch.finfo(S.dtype).tiny
    larger = larger.masked_fill(silent, 1.0)  # the larger becomes 1: no power over- or underflows
    ours, theirs = (S / larger) ** power, (rival / larger) ** power
    share = ours / (ours + theirs).masked_fill(silent, 1.0)
    return share.masked_fill(silent, 0.5 if split_silence else 0.0)

# %% [markdown]
# The numbers from above, and a pair so quiet that its squares would vanish in 32 bits: the mask must not see the level.

# %%
share = soft_mask(torch.tensor([3.0, 1.0, 0.0]), torch.tensor([1.0, 3.0, 0.0]))
assert torch.allclose(share, torch.tensor([0.9, 0.1, 0.0]))
assert abs(float(soft_mask(torch.tensor([1e-30]), torch.tensor([3e-30]))) - 0.1) < 1e-6

# %% [markdown]
# One more knob. A point where $H$ and $Q$ are about equal is neither line nor stroke: a voice, a noisy guitar. Driedger,
# Müller and Disch (2014) ask for a clear margin $\beta \ge 1$ before a point counts, $M_H$ comparing $H$ with $\beta Q$ and $M_Q$ comparing $Q$ with
# $\beta H$:
#
# $$ M_H = \frac{H^p}{H^p + (\beta Q)^p}, \qquad M_Q = \frac{Q^p}{Q^p + (\beta H)^p}, \qquad M_R = 1 - M_H - M_Q. \tag{2.4} $$
#
# With $\beta = 1$ and a finite $p$ nothing is left over; with more, a *residual* $M_R$ takes what is undecided. (The paper's masks are all or
# nothing, $p \to \infty$; the soft form is librosa's.)

# %%
#| export
def hpss(S: Tensor, kernel: int | tuple[int, int] = 31, power: float = 2.0,
         margin: float | tuple[float, float] = 1.0, mask: bool = False) -> tuple[Tensor, Tensor]:
    """Harmonic and percussive part of a spectrogram by two median filters (eq. 2.2 to 2.4).

    S: complex or magnitude (..., bin, frame). kernel: odd window in frames for the harmonic, in
    bins for the percussive part, or both as a pair. power: exponent of the masks, inf for all or
    nothing. margin: factor >= 1 by which each part must win, or a pair; above 1 the parts don't add
    up to S. mask: return the two masks instead of the two parts. Equal to librosa.decompose.hpss.
    ValueError for wrong sizes. Source: FitzGerald 2010; Driedger, Mueller and Disch 2014; section
    2.3.
    """
    check_tensors(S=S)
    kernels = (kernel, kernel) if isinstance(kernel, int) else kernel
    margins = (margin, margin) if isinstance(margin, (int, float)) else margin
    if S.ndim < 2 or min(margins) < 1:
        raise ValueError(f"S {tuple(S.shape)}, margin {margin}: expected (..., bin, frame) and "
                         "margins of 1 or more")
    V = S.abs()
    H, Q = median_filter(V, kernels[0], -1), median_filter(V, kernels[1], -2)
    split = max(margins) == 1
    M_H = soft_mask(H, Q * margins[0], power, split)
    M_Q = soft_mask(Q, H * margins[1], power, split)
    return (M_H, M_Q) if mask else (S * M_H, S * M_Q)

# %% [markdown]
# The check with the known answer: tones and bursts must each come back well above 10 dB.

# %%
from course_lib.spectral import song_sdr

# (part, channel, time)
toy_parts = istft(torch.stack(hpss(stft(toy.sum(0)))), length=toy.shape[-1])
print("tones and bursts:", [f"{value:.0f} dB" for value in song_sdr(toy_parts, toy)])
assert song_sdr(toy_parts, toy).min() > 10 > song_sdr(toy.sum(0).expand_as(toy), toy).max()

# %% [markdown]
# And `librosa` must give the same to five digits on the real recording, with and without a margin.

# %%
import librosa

piece = X[0, :, :80]  # (bin, frame)
for options in (dict(), dict(margin=(1.0, 4.0)), dict(power=math.inf)):
    for ours, theirs in zip(hpss(piece, **options),
                            librosa.decompose.hpss(piece.numpy(), **options)):
        assert (ours - torch.from_numpy(theirs)).abs().max() < 1e-5 * piece.abs().max()

# %% [markdown]
# Now the recording. First what is harmonic, then what is percussive. The low thumps are percussive by this definition, and so are
# the strum of the guitar and the singer's consonants: it sorts *sounds*, not instruments.

# %%
harmonic, percussive = istft(torch.stack(hpss(X)), length=song.shape[-1])  # (channel, time) each
assert torch.allclose(harmonic + percussive, song, atol=1e-5)
listen(harmonic[:1, :4 * rate], rate, "harmonic part")
listen(percussive[:1, :4 * rate], rate, "percussive part")

# %% [markdown]
# The three masks with a margin of 2. Lines and strokes stand out where one is clearly stronger. But look at the
# residual: a point with $H = Q$ gets 0.6 of it, its largest value here, and **much of the area is that undecided**, though a far smaller part of the energy; a mask
# without a margin decides about it all the same. The first two masks also show the opposite pattern: in a valley between two lines the
# neighbours in frequency are louder ($Q > H$), and in a pause those in time ($H > Q$).

# %%
M_H, M_Q = hpss(X, margin=2.0, mask=True)
detail = (0, slice(None), slice(0, 260))
figure = plot_masks({"harmonic": M_H[detail], "percussive": M_Q[detail],
                     "residual": (1 - M_H - M_Q)[detail]},
                    rate, axis="linear", top=4000, columns=3)
show(figure, "Masks with margin 2: lines, strokes, and what is neither.",
     "Three panels up to 4 kHz. Left, bright horizontal lines along the notes; middle, bright "
     "patches, tall where attacks are; right, a medium grey nearly everywhere. The first two also "
     "show fainter bars in the opposite direction.")
residual = 1 - M_H - M_Q
undecided = residual > 0.5
energy = X.abs().pow(2)
print(f"more than half is residual at {undecided.float().mean():.0%} of the points, with "
      f"{energy[undecided].sum() / energy.sum():.0%} of the energy")
assert 0.59 < residual.max() < 0.601

# %% [markdown]
# What does the margin buy? On band songs, whose stems are known, we ask two things for several margins: which share of the percussive part's
# energy really comes from the drums, its *purity*, and how much energy is left in the residual.

# %%
tracks = open_tracks("band", "test", count=P.songs)
energies = lambda Z: Z.abs().pow(2).flatten(1).sum(1)              # (source, ...) -> (source,)

def purity_and_residual(S, margins):
    """Share of drums in the percussive part, of the residual in the mixture: a pair a margin."""
    V = S.sum(0).abs()
    H, Q, found = median_filter(V, 31, -1), median_filter(V, 31, -2), []  # once for all margins
    for margin in margins:
        M_H = soft_mask(H, margin * Q, split_silence=margin == 1)
        M_Q = soft_mask(Q, margin * H, split_silence=margin == 1)
        taken = energies(M_Q * S)
        left = ((1 - M_H - M_Q) * V).pow(2).sum() / V.pow(2).sum()
        found.append([float(taken[0] / taken.sum()), float(left)])
    return found

# %% [markdown]
# Four seconds of the left channel of each song, three margins:

# %%
margins = (1.0, 2.0, 4.0)
spectra = [stft(track.excerpt(4.0, 4.0).sources(STEMS)[:, :1]) for track in tracks[:4]]
by_margin = torch.tensor([purity_and_residual(Z, margins) for Z in spectra])  # (song, margin, 2)
purities, residuals = by_margin.mean(0).T.tolist()
show_table([[f"{margin:g}", *(f"{purity:.0%}" for purity in by_margin[:, i, 0]), f"{residual:.0%}"]
            for i, (margin, residual) in enumerate(zip(margins, residuals))],
           ["margin", *(track.name.split(" - ")[0] for track in tracks[:4]), "residual, mean"],
           caption="Share of drums in the percussive part, a column a song; energy left in the "
                   "residual.")
assert purities[0] < purities[1] < purities[2]
assert residuals[0] < 1e-6 < residuals[1] < residuals[2]

# %% [markdown]
# A larger margin leaves a larger heap of undecided sound. What is left as percussive is purer on average, but not in
# every song: clearly in some, hardly or not at all in others. Bass attacks that coincide with the kick drum are a likely reason. Which margin you want depends on what comes next: for a
# remix 1, where everything adds up; to *find* drum hits, a large one.

# %% [markdown]
# ### How long is a frame? Where voices go
#
# A median keeps what fills more than half of its window. So "line" means: *holds its pitch for longer than half the window*, and how many
# seconds that is depends on the hop. With 31 frames of 512 samples each a line needs 0.18 s; with hops four times as long, 0.7 s,
# which singers rarely grant. We measure it on one of the band songs: the share of each stem's energy that the
# *mixture's* percussive mask takes.

# %%
track = tracks[1].excerpt(4.0, 6.0)
sources = track.sources(STEMS)                                     # (source, channel, time)

def percussive_share(sources, n_fft):
    """Share of each stem's energy in the mixture's percussive mask: (source,)."""
    S = stft(sources, n_fft)
    M_Q = hpss(S.sum(0), mask=True)[1]
    return energies(M_Q * S) / energies(S)

# %% [markdown]
# Four frame lengths, the same song:

# %%
shares = {n_fft: percussive_share(sources[:, :1], n_fft) for n_fft in (1024, 2048, 4096, 8192)}
show_table([[f"{n_fft} samples, a line lasts {15.5 * n_fft / 4 / track.rate:.2f} s",
             *(f"{value:.0%}" for value in row)]
            for n_fft, row in shares.items()], ["frame", *STEMS],
           caption="Share of each stem's energy taken by the percussive mask; one band song, 6 s, "
                   "left channel.")
vocal_share = [float(row[3]) for row in shares.values()]
assert vocal_share[-1] > 1.3 * vocal_share[0] and shares[8192][2] < shares[1024][2]

# %% [markdown]
# In this song, the longer the frame, the more of the voice is called percussive, while the held chords of *other* go the opposite way.
# (Section 2.15 asks it of six songs.) FitzGerald and
# Gainza (2010) build a singer separator on that: split once with short and once with long frames, and keep what changed sides. (The
# drums' share is low in this song, likely because the mask must share low drums with the bass, which lies in the same bins.)

# %% [markdown]
# ## 2.4 The beat spectrum: when does it repeat?
#
# Pop music repeats: the band plays a bar again and again, and a voice that doesn't repeat lies on top. If we knew the period,
# we could learn the background from its repetitions. To find it, compare the spectrogram with itself, shifted by $l$
# frames, multiplied and averaged over all $K$ bins and the $T - l$ frames that overlap:
#
# $$ b[l] = \frac{1}{b_0} \sum_{k} \frac{1}{T - l} \sum_{m=0}^{T-l-1} V^2[k, m]\, V^2[k, m + l], \tag{2.5} $$
#
# with $b_0$ chosen so that $b[0] = 1$. This *autocorrelation*, the *beat spectrum* (Foote and Uchihashi 2001; in this form Rafii and Pardo 2013), has a peak
# wherever a shift matches. The smallest example: one bin with a hit in every third frame. We expect peaks at 3 and 6.

# %%
hits = torch.tensor([[1., 0., 0., 1., 0., 0., 1., 0., 0.]])         # (bin, frame)
by_loop = torch.stack([(hits[:, :9 - l] ** 2 * hits[:, l:] ** 2).sum() / (9 - l) for l in range(9)])
print((by_loop / by_loop[0]).round(decimals=2).tolist())

# %% [markdown]
# The loop costs $T^2$ products a bin. An autocorrelation is also the inverse Fourier transform of the energy spectrum (that is the
# theorem of Wiener and Khinchin), which costs $T \log T$; zeros behind the row keep its end from meeting its beginning.

# %%
#| export
def beat_spectrum(V: Tensor) -> Tensor:
    """How well a spectrogram matches itself after a shift, for every shift (eq. 2.5).

    V: magnitude (..., bin, frame); leading axes, such as channels, are averaged too. Returns
    (frame,), from shift 0, where it is 1, in frames; all zeros for silence. Source: Rafii and Pardo
    2013, section II.A; chapter 2, section 2.4.
    """
    _check_magnitude(V)
    count = V.shape[-1]
    power = V.double() ** 2
    energy = torch.fft.rfft(power, 2 * count).abs() ** 2             # (..., bin, 2 count / 2 + 1)
    products = torch.fft.irfft(energy.reshape(-1, energy.shape[-1]).sum(0), 2 * count)[:count]
    beats = products / torch.arange(count, 0, -1, device=V.device)
    return (beats / beats[0].clamp_min(torch.finfo(torch.float64).tiny)).to(V.dtype)


def _check_magnitude(V: Tensor) -> None:
    if V.is_complex() or V.ndim < 2 or V.numel() == 0:
        raise ValueError(f"V is {V.dtype} {tuple(V.shape)}; expected magnitudes (..., bin, frame): "
                         "take .abs() first")

# %% [markdown]
# It must equal the loop on the tiny example, and not depend on how loud the song is.

# %%
assert torch.allclose(beat_spectrum(hits), by_loop / by_loop[0], atol=1e-6)
# the level of the song doesn't matter
assert torch.allclose(beat_spectrum(5 * hits), beat_spectrum(hits))

# %% [markdown]
# On twelve seconds of a band song. The song's bars are known, as the band writes down what it plays; they are the grey lines.

# %%
import matplotlib.pyplot as plt

groove = open_tracks("band", "test", count=2)[1].excerpt(4.0, 12.0)
groove_sources = groove.sources(STEMS)
G = stft(groove_sources.sum(0))                                    # (channel, bin, frame)
hop_seconds = 512 / groove.rate
beats = beat_spectrum(G.abs())
bar = 4 * 60 / groove.info["bpm"]                                   # seconds, four beats
figure, axis = plt.subplots(figsize=(9, 2.6))
axis.plot(torch.arange(len(beats))[1:700] * hop_seconds, beats[1:700])
for number in (1, 2, 3):
    axis.axvline(number * bar, color="grey", linewidth=0.8)
axis.set(xlabel="shift (s)", ylabel="match")
show(figure, f"Beat spectrum of {groove.name}; grey: one, two and three bars.",
     "A curve that falls steeply from one and then has a peak every half second, also at each grey "
     "line.")

# %% [markdown]
# Which peak is *the* period? A true period has peaks at all its multiples. So each candidate $j$ visits its multiples
# $i = j, 2j, \dots$ (up to three quarters of the way, where few frames are left to average) and asks whether the largest
# value in a wide neighbourhood, $\pm \tfrac34 j$, lies within 2 frames of $i$. If so it scores by how far the peak stands above the
# neighbourhood's mean. The best mean score wins; candidates reach to a third of the curve, so that even the longest has two or three multiples to vote.

# %%
#| export
def repeating_period(beats: Tensor, shortest: int = 1) -> int:
    """The period at which a song repeats, in frames, from its beat spectrum.

    beats: (frame,). shortest: frames, the smallest period to consider. Returns a period between
    shortest and a quarter of the frames. ValueError where that range is empty. Source: Rafii and
    Pardo 2013, section II.A and its algorithm 1; chapter 2, section 2.4.
    """
    beats = beats[:3 * len(beats) // 4]
    longest = len(beats) // 3
    if not 1 <= shortest <= longest:
        raise ValueError(f"shortest is {shortest}; a beat spectrum with {len(beats)} usable shifts "
                         "allows periods "
                         f"of 1..{longest} frames: take a longer piece of the song")
    scores = [_period_score(beats, period) for period in range(shortest, longest + 1)]
    return shortest + max(range(len(scores)), key=scores.__getitem__)


def _period_score(beats: Tensor, period: int) -> float:
    """How far the multiples of a period stand out in a beat spectrum, on average."""
    total, multiples = 0.0, range(period, len(beats), period)
    for i in multiples:
        start = max(0, i - 3 * period // 4)
        around = beats[start:i + 3 * period // 4 + 1]
        peak = int(around.argmax())
        if abs(start + peak - i) <= 2:
            total += float(around[peak] - around.mean())
    return total / len(multiples)

# %% [markdown]
# First a made case: hits every 12, 24 and 48 frames in three bins, the rarest the loudest. Only after 48 frames does *everything* come
# back.

# %%
clicks = torch.zeros(3, 400)
clicks[0, ::48], clicks[1, ::24], clicks[2, ::12] = 2.0, 1.0, 0.5
clicks += 0.1 * torch.rand(3, 400, generator=P.generator)
assert repeating_period(beat_spectrum(clicks)) == 48

# %% [markdown]
# On the groove, with the length of a bar and of a beat to compare:

# %%
period = repeating_period(beats, shortest=round(0.8 / hop_seconds))
print(f"period {period * hop_seconds:.2f} s; a bar lasts {bar:.2f} s, a beat {bar / 4:.2f} s")
tallest = period + int(beats[period:700].argmax())
print(f"the tallest peak beyond it: {4 * tallest * hop_seconds / bar:.0f} beats, "
      f"{tallest / len(beats):.0%} of the excerpt")
assert tallest > len(beats) / 4
assert abs(period * hop_seconds / (bar / 2) - round(period * hop_seconds / (bar / 2))) < 0.05

# %% [markdown]
# The tallest peak of the figure is no candidate: they end at a quarter of the excerpt (a third of three quarters), so that
# a period comes often enough to be compared. The method hears half bars here, which is a period of this groove: every second one of its multiples is a bar. (We leave out periods
# under 0.8 s: single beats repeat as well, but a background learned from them would hold the drums alone.)

# %% [markdown]
# ## 2.5 REPET: take the repeating away
#
# Now the separation (Rafii and Pardo 2013). Cut the spectrogram into segments of one period $p$ and lay them on top of each other. What
# repeats is there every time; what is sung is there once. So the median over the segments is a model of the
# background, for frame $m$ of the period:
#
# $$ S[k, m] = \operatorname{median}_{r}\, V[k, m + r p]. \tag{2.6} $$
#
# If magnitudes simply added up, the background couldn't be louder than the mixture. Phases break this at single points, where two sounds
# cancel, but as a model it serves. So where the model is louder we cap it, and make a mask of the ratio:
#
# $$ M[k, m + r p] = \frac{\min(S[k, m],\; V[k, m + r p])}{V[k, m + r p]}. \tag{2.7} $$
#
# The whole method, with $p$ from the beat spectrum of section 2.4:

# %%
d = Diagram()
V_block = d.block("magnitude $V$", "(bin, frame)", kind="data")
beat_block = d.block("beat spectrum\n(2.5)", "(frame,)", after=V_block, shift=0.45)
p_block = d.block("period $p$", "one number", after=beat_block)
cut = d.block("cut into\nsegments", "(bin, repetition, $p$)", after=p_block, shift=-0.45)
d.arrow(V_block, cut)
model_block = d.block("median over\nrepetitions (2.6)", "$S$: (bin, $p$)", after=cut)
mask_block = d.block("cap and divide\n(2.7)", "$M$: (bin, frame)", after=model_block)
d.arrow(V_block, mask_block, "$V$", route="under", reach=0.2)
show(d.draw(), "REPET: find the period, fold, take the median, make a mask of it.", d.in_words())

# %% [markdown]
# By hand, one bin with period 2: a background of 3, 1, 3, 1, 3, 1, on which somebody sings 4 in the third frame.

# %%
sung = torch.tensor([3., 1., 7., 1., 3., 1.])
folded = sung.view(3, 2)  # (repetition, frame of the period)
model = folded.median(0).values
print("model", model.tolist())
kept = (torch.minimum(model, folded) / folded).flatten()  # (frame,)
print("mask ", [round(value, 2) for value in kept.tolist()])

# %% [markdown]
# The mask keeps 3/7 of the third frame and everything else: just the background. In general the last segment is
# incomplete, and with an even number of repetitions the median is the mean of the middle two.

# %%
#| export
def repet_mask(V: Tensor, period: int) -> Tensor:
    """Mask of the background that repeats with a fixed period (eq. 2.6, 2.7); the rest is 1 - mask.

    V: magnitude (..., bin, frame). period: frames, at most half of them. Returns V's shape, in [0,
    1]; 0 where V is silent. ValueError for a period outside 1..frames/2. Source: Rafii and Pardo
    2013, section II.B and C; chapter 2, section 2.5.
    """
    _check_magnitude(V)
    count = V.shape[-1]
    if not 1 <= period <= count // 2:
        raise ValueError(f"period is {period} frames; {count} frames can show a repetition of "
                         f"1..{count // 2}: "
                         "give a shorter period or a longer piece")
    whole, rest = divmod(count, period)
    padded = F.pad(V, (0, period - rest))
    # (..., bin, repetition, frame of the period)
    segments = padded.unflatten(-1, (whole + 1, period))
    model = torch.cat([_median(segments[..., :rest], -2),
                       _median(segments[..., :whole, rest:], -2)], -1)
    model = model.repeat(*[1] * (V.ndim - 1), whole + 1)[..., :count]
    return _capped_share(model, V)


def _median(x: Tensor, dim: int) -> Tensor:
    """The median along an axis, of an even number the mean of the middle two."""
    ordered, count = x.sort(dim).values, x.shape[dim]
    return (ordered.select(dim, (count - 1) // 2) + ordered.select(dim, count // 2)) / 2


def _capped_share(model: Tensor, V: Tensor) -> Tensor:
    """min(model, V) / V (eq. 2.7), zero where V is."""
    return torch.minimum(model, V) / V.clamp_min(torch.finfo(V.dtype).tiny)

# %% [markdown]
# The example by hand; a pattern that repeats exactly, which must be kept whole; and the same with a wrong period.

# %%
assert torch.allclose(repet_mask(sung[None], 2)[0], torch.tensor([1, 1, 3 / 7, 1, 1, 1]))
# (bin, frame), the last segment incomplete
repeated = torch.rand(5, 7, generator=P.generator).repeat(1, 4)[:, :26]
assert torch.allclose(repet_mask(repeated, 7), torch.ones(5, 26))
assert repet_mask(repeated, 6).mean() < 0.95  # a wrong period finds less that repeats

# %% [markdown]
# **Question.** The true period of a groove is one bar. What happens to the voice and to the drums when REPET is given two bars instead, and when it is given one beat?
#
# <details><summary>Answer</summary>
#
# Two bars repeat as well, so the model is right, but it rests on half as many repetitions: a voice that sings in two of four is no longer an outlier. One beat is too short: what
# comes in one beat of a bar only, a cymbal on the first, say, is in the minority and lands in the foreground with the voice; of a snare on two and four, which is in half of
# the beats, the median keeps half.
# </details>

# %% [markdown]
# And the groove. What doesn't repeat should be the singer. The paper keeps everything under 100 Hz in the background, as
# nobody sings there; so do we.

# %%
def foreground(X, background_mask, rate, n_fft=2048):
    """What is left without the background, from 100 Hz on: complex (channel, bin, frame)."""
    sings = (fft_frequencies(n_fft, rate) > 100).float()[:, None]     # (bin, 1)
    return X * (1 - background_mask) * sings

repet = istft(foreground(G, repet_mask(G.abs(), period), groove.rate),
              length=groove_sources.shape[-1])
listen(groove_sources.sum(0)[:1, :4 * groove.rate], groove.rate, f"{groove.name}: the mixture")
listen(repet[:1, :4 * groove.rate], groove.rate, "REPET: what does not repeat")
repet_sdr = float(song_sdr(repet, groove_sources[3]))
print(f"vocals: {repet_sdr:.1f} dB; silence gets 0.0, the mixture "
      f"{float(song_sdr(groove_sources.sum(0), groove_sources[3])):.1f}")
assert repet_sdr > 2

# %% [markdown]
# The voice has come forward. What also sounds through is what the band varies: fills, chord changes. For REPET they are "not repeated"
# too.

# %% [markdown]
# ## 2.6 REPET-SIM: ask the most similar frames
#
# A fixed period breaks when the tempo wanders or the verse is followed by a chorus. Rafii and Pardo (2012) drop it: for each frame,
# look through the *whole* song for the $n$ frames most similar to it, wherever they are, and take the median over those. Similar means: a
# small angle between the two spectra, measured by the *cosine*
#
# $$ C[m, m'] = \frac{\sum_k V[k, m]\, V[k, m']}{\lVert V[:, m]\rVert\; \lVert V[:, m']\rVert}, \tag{2.8} $$
#
# which is 1 for the same spectrum at any level, and 0 for spectra without a common bin. Three frames of two bins:

# %%
tiny = torch.tensor([[3., 6., 0.], [4., 8., 2.]])  # (bin, frame)
unit = tiny / tiny.norm(dim=0)
unit.T @ unit

# %% [markdown]
# Frames 0 and 1 differ only in level: 1. A frame's direct neighbours are always similar, as they overlap; they know the voice
# as well as the frame itself. So those closer than `width` frames are left out.

# %%
#| export
def similarity_matrix(V: Tensor) -> Tensor:
    """Cosine between the spectra of all pairs of frames (eq. 2.8); 0 where a frame is silent.

    V: magnitude (..., bin, frame); channels count as further bins. Returns (frame, frame) in
    [0, 1]. Source: Rafii and Pardo 2012; chapter 2, section 2.6.
    """
    _check_magnitude(V)
    spectra = V.reshape(-1, V.shape[-1])  # (bins of all channels, frame)
    unit = spectra / spectra.norm(dim=0).clamp_min(torch.finfo(V.dtype).tiny)
    return unit.T @ unit


def nearest_frames(similarity: Tensor, neighbours: int, width: int = 1) -> Tensor:
    """The most similar frames of each frame, those less than `width` frames away left out.

    similarity: (frame, frame). Returns indices (frame, neighbours), the most similar first; fewer
    where a song has fewer. ValueError where no frame is left. Source: section 2.6.
    """
    count = len(similarity)
    available = count - 2 * width + 1                                 # for a frame in the middle
    if neighbours < 1 or width < 1 or available < 1:
        raise ValueError(f"neighbours is {neighbours}, width {width}; with {count} frames expected "
                         "neighbours >= 1 and "
                         f"width 1..{count // 2}")
    frames = torch.arange(count, device=similarity.device)
    close = (frames[:, None] - frames[None, :]).abs() < width
    return similarity.masked_fill(close, -math.inf).topk(min(neighbours, available), dim=-1).indices


def repet_sim_mask(V: Tensor, neighbours: int = 20, width: int = 1) -> Tensor:
    """Mask of what also sounds in the most similar frames (eq. 2.7 with the median over those).

    V: magnitude (..., bin, frame). neighbours: how many frames. width: frames closer than this are
    left out. Returns V's shape, in [0, 1]; the rest is 1 - mask. ValueError as in `nearest_frames`.
    Source: Rafii and Pardo 2012; chapter 2, section 2.6.
    """
    nearest = nearest_frames(similarity_matrix(V), neighbours, width)  # (frame, neighbour)
    spectra = V.reshape(-1, V.shape[-1])
    # (bin, frame, neighbour) -> (bin, frame)
    models = [_median(spectra[:, some], -1) for some in nearest.split(64)]
    return _capped_share(torch.cat(models, -1).reshape(V.shape), V)

# %% [markdown]
# `librosa` has the median over nearest frames as `nn_filter`. Ours must give the same model of the background, on the groove.

# %%
import numpy as np

V = G[0, :, ::2].abs()  # (bin, frame), every second frame
graph = librosa.segment.recurrence_matrix(V.numpy(), k=20, width=40, metric="cosine",
                                          mode="distance", sparse=True)
theirs = librosa.decompose.nn_filter(V.numpy(), rec=graph, aggregate=np.median)
ours = repet_sim_mask(V, 20, 40) * V
assert (ours - torch.minimum(torch.from_numpy(theirs), V)).abs().max() < 1e-5 * V.max()
by_hand = torch.tensor([[1, 1, 0.8], [1, 1, 0.8], [0.8, 0.8, 1]])
assert torch.allclose(similarity_matrix(tiny), by_hand)

# %% [markdown]
# (We built its graph with `mode="distance"`: in `nn_filter`'s default mode, librosa 0.11 keeps the first of the candidates in time and not the
# nearest.)
#
# When is it better than REPET? Take a background of eight different frames that come in random order, so without a period, and a
# voice that never says the same thing twice. Then the same with the voice four times as loud: now the voice decides which frames look alike.

# %%
chords = torch.rand(60, 8, generator=P.generator) ** 4                # (bin, chord)
order = torch.randint(8, (240,), generator=P.generator)
background = chords[:, order]                                         # (bin, frame)
voice = 2 * (torch.rand(60, 240, generator=P.generator) > 0.97).float()
both = background + voice                                            # (bin, frame)

def error_of(mask, mixture=both):
    """Energy of what the mask gets wrong of the background, relative to it."""
    return float(((mask * mixture - background) ** 2).sum() / (background ** 2).sum())

left_over = {"REPET, its best period": min(error_of(repet_mask(both, p)) for p in range(2, 80)),
             "REPET-SIM": error_of(repet_sim_mask(both, 20))}
print({name: f"{error:.0%} error" for name, error in left_over.items()})
assert left_over["REPET-SIM"] < 0.2 * left_over["REPET, its best period"]
loud = background + 4 * voice
loud_repet = min(error_of(repet_mask(loud, p), loud) for p in range(2, 80))
loud_sim = error_of(repet_sim_mask(loud, 20), loud)
print(f"voice four times as loud: REPET {loud_repet:.0%}, REPET-SIM {loud_sim:.0%} error")
assert loud_sim > loud_repet

# %% [markdown]
# On the groove, which does have a period, it is the other way round. A likely reason: its frames are matched with the voice still in them, as we saw above for a loud voice, while REPET's period comes from the whole song.

# %%
sim_mask = repet_sim_mask(G.abs(), 20, round(1 / hop_seconds))
repet_sim = istft(foreground(G, sim_mask, groove.rate), length=groove_sources.shape[-1])
listen(repet_sim[:1, :4 * groove.rate], groove.rate, "REPET-SIM: what is found nowhere else")
print(f"vocals: REPET {song_sdr(repet, groove_sources[3]):.1f} dB, REPET-SIM "
      f"{song_sdr(repet_sim, groove_sources[3]):.1f} dB")
assert song_sdr(repet, groove_sources[3]) > song_sdr(repet_sim, groove_sources[3])

# %% [markdown]
# The matrix shows what REPET-SIM has to choose from: bright patches off the diagonal.

# %%
figure, axis = plt.subplots(figsize=(4.9, 3.8))
seconds = G.shape[-1] * hop_seconds
picture = axis.imshow(similarity_matrix(G.abs()[..., ::3]), origin="lower", cmap="magma",
                      aspect="auto", extent=(0, seconds, 0, seconds))
axis.set(xlabel="time (s)", ylabel="time (s)")
figure.colorbar(picture, label="cosine")
show(figure, f"Similarity of all pairs of frames of {groove.name}.",
     "A square picture with a bright diagonal and a plaid of bright patches that repeats with the "
     "beats; a dark cross where the music is different.")

# %% [markdown]
# A band out of the box plays in exact time, from the same samples in every bar: REPET's ideal case. Expect less on records (exercise 6).

# %% [markdown]
# ## 2.7 A song from few building blocks
#
# Repetition in another sense: a piano has 88 keys, a drum kit a dozen sounds, a song uses some of them. Suppose each has *one*
# spectrum, a column $w_r$ of $K$ bins, and a row $h_r$ that says how loud it is in each of $T$ frames. Levels are never negative, and so nothing can be
# taken back, only added:
#
# $$ V \approx W H = \sum_{r=1}^{R} w_r h_r, \qquad W \in \mathbb{R}_{\ge 0}^{K \times R}, \quad H \in \mathbb{R}_{\ge 0}^{R \times T}. \tag{2.9} $$
#
# That is *nonnegative matrix factorisation*, NMF. (In sections 2.7 to 2.10 $H$ is this matrix, not the harmonic part of section 2.3.) Two notes on three bins and four frames: the first plays in frames 0 and 1, the second in
# 1 to 3, fading.

# %%
W_true = torch.tensor([[4., 0.], [2., 1.], [0., 3.]])                 # (bin, component)
H_true = torch.tensor([[1., 1., 0., 0.], [0., 1., 0.5, 0.25]])        # (component, frame)
V_tiny = W_true @ H_true
print(V_tiny)

# %% [markdown]
# Twelve numbers from 6 + 8: no gain here, but with 1025 bins, 500 frames and 20 components it is 512,500 from 30,500, so the components
# *must* be things that come back. The picture shows such a $V$, $W$ and $H$; a column of $W$ and the row of $H$ that belongs to it make one component.

# %%
d = Diagram()
V_block = d.block("$V$", "(1025 bins, 500 frames)", kind="data", size=(1.9, 1.6))
about = d.block("≈", after=V_block, kind="text", arrow=False, gap=0.15)
W_block = d.block("$W$", "20", after=about, kind="data", size=(0.42, 1.6), arrow=False, gap=0.15)
times_sign = d.block("×", after=W_block, kind="text", arrow=False, gap=0.15)
H_block = d.block("$H$: (20, 500 frames)", after=times_sign, kind="data", size=(1.9, 0.42),
                  arrow=False, gap=0.15)
equals = d.block("=", after=H_block, kind="text", arrow=False, gap=0.15)
d.block("$w_1 h_1 + \\dots + w_{20}\\, h_{20}$", "each (1025, 500): a component", after=equals,
        kind="data", size=(2.3, 1.6), arrow=False, gap=0.15)
show(d.draw(), "NMF: a tall thin matrix of spectra times a flat one of levels.", d.in_words())

# %% [markdown]
# NMF goes the other way: from $V$ find $W$ and $H$. Nobody tells it what a note is.

# %% [markdown]
# ## 2.8 Three ways to be wrong
#
# $WH$ will not equal $V$ exactly. What counts as close? Three *divergences* are in use, each a sum over all points of a function
# $d(v \mid y)$ of the value $v$ and its model $y$ that is zero only for $y = v$:
#
# $$ d_{EU} = \tfrac12 (v - y)^2, \qquad d_{KL} = v \log\frac{v}{y} - v + y, \qquad d_{IS} = \frac{v}{y} - \log\frac{v}{y} - 1, \tag{2.10} $$
#
# the squared *Euclidean* distance, the (generalised) *Kullback-Leibler* and the *Itakura-Saito* divergence. They are the cases $\beta = 2, 1, 0$
# of one family, which is why a single algorithm will do for all (this $\beta$ has nothing to do with the margin of (2.4)). By hand, for a value of 2 that the model takes for 1, and
# the same ten times as loud:

# %%
#| export
BETA = {"euclidean": 2, "kl": 1, "itakura-saito": 0}


def beta_divergence(V: Tensor, Y: Tensor, kind: str = "kl") -> Tensor:
    """How far a model Y is from V, summed over all points (eq. 2.10); 0 only for Y = V.

    V, Y: real, >= 0 (itakura-saito: > 0; kl: Y > 0), of one shape. kind: "euclidean", "kl" or
    "itakura-saito". Returns a scalar. ValueError for other kinds or shapes that differ. Source: Lee
    and Seung 2001; Fevotte, Bertin and Durrieu 2009; chapter 2, section 2.8.
    """
    _beta(kind)
    if V.shape != Y.shape:
        raise ValueError(f"V is {tuple(V.shape)}, its model Y {tuple(Y.shape)}; expected one shape")
    if kind == "euclidean":
        return ((V - Y) ** 2).sum() / 2
    if kind == "kl":
        return (torch.xlogy(V, V / Y) - V + Y).sum()  # xlogy(0, ...) is 0, its limit
    return (V / Y - torch.log(V / Y) - 1).sum()


def _beta(kind: str) -> int:
    if kind not in BETA:
        raise ValueError(f'divergence is "{kind}"; expected one of {", ".join(BETA)}')
    return BETA[kind]

# %%
two, one = torch.tensor(2.0), torch.tensor(1.0)
for kind in BETA:
    quiet, loud = beta_divergence(two, one, kind), beta_divergence(10 * two, 10 * one, kind)
    print(f"{kind:14} 2 for 1: {quiet:.3f}    20 for 10: {loud:.3f}   ratio {loud / quiet:.0f}")
    assert abs(loud / quiet - 10.0 ** BETA[kind]) < 1e-3

# %% [markdown]
# The same relative error costs a hundred times as much at ten times the level for Euclid, ten times for KL, and **the same for
# Itakura-Saito**: it is blind to scale (Févotte, Bertin and Durrieu 2009). Music spans many tens of decibels from bass to cymbals, so the first
# explains the loud bass notes and little else, while the last cares for reverberation and hiss as much. KL on magnitudes is the
# usual compromise. A picture of the price for $v = 1$: too small a model is punished harder than too large a one by KL and IS, and not by Euclid.

# %%
y = torch.linspace(0.1, 3, 200)
figure, axis = plt.subplots(figsize=(7, 2.8))
for kind in BETA:
    axis.plot(y, torch.stack([beta_divergence(one, value, kind) for value in y]), label=kind)
axis.set(xlabel="model y, for v = 1", ylabel="d(1 | y)", ylim=(0, 2.5))
axis.legend()
show(figure, "Three divergences around v = 1.",
     "Three curves with their minimum of zero at y = 1: a parabola; KL and IS rise steeply to the "
     "left and gently to the right.")

# %% [markdown]
# ## 2.9 Multiplicative updates
#
# Hold $W$ fixed and look for a better $H$. Write $Y = WH$, and $\odot$ and fractions for elementwise products and ratios. For all
# three divergences the gradient is a difference of two parts that are never negative:
#
# $$ \nabla_H D = \underbrace{W^\top Y^{\beta-1}}_{\nabla^+} - \underbrace{W^\top \big(V \odot Y^{\beta-2}\big)}_{\nabla^-}. \tag{2.11} $$
#
# Gradient descent, $H - \eta(\nabla^+ - \nabla^-)$, could step below zero. Lee and Seung (2001) choose a step for every entry,
# $\eta = H / \nabla^+$, and the subtraction turns into a product:
#
# $$ H \leftarrow H \odot \frac{\nabla^-}{\nabla^+} = H \odot \frac{W^\top (V \odot Y^{\beta-2})}{W^\top Y^{\beta-1}}. \tag{2.12} $$
#
# What was positive stays positive, and where the gradient is zero the factor is one. For $W$ it is the same with $H^\top$ from the right. First we
# check (2.11) against automatic differentiation.

# %%
W0 = torch.rand(3, 2, generator=P.generator) + 0.1
H0 = (torch.rand(2, 4, generator=P.generator) + 0.1).requires_grad_()
for kind, beta in BETA.items():
    Y, V_safe = W0 @ H0, V_tiny + 0.1  # 0.1: Itakura-Saito knows no zeros
    by_autograd, = torch.autograd.grad(beta_divergence(V_safe, Y, kind), H0)
    plus, minus = W0.T @ Y ** (beta - 1), W0.T @ (V_safe * Y ** (beta - 2))
    assert torch.allclose(by_autograd, plus - minus, atol=1e-4)
print("plus - minus is the gradient, for all three")

# %% [markdown]
# One step by hand for Euclid, where $Y^0 = 1$ makes it shortest: $H \odot (W^\top V) / (W^\top W H)$. Start with the right $W$ and a flat $H$:

# %%
H_flat = torch.ones(2, 4)
H_next = H_flat * (W_true.T @ V_tiny) / (W_true.T @ (W_true @ H_flat))
print(H_next)
for some_H in (H_flat, H_next):
    print(f"divergence {beta_divergence(V_tiny, W_true @ some_H, 'euclidean'):.2f}")

# %% [markdown]
# After one step the first note has all but left the last two frames.
#
# **Question.** Suppose an entry of $H$ starts at exactly zero. Where will it be after a hundred updates, and what does that mean for the start?
#
# <details><summary>Answer</summary>
#
# At zero: a product with zero stays zero. So one starts from positive random numbers. It can also be of use: whoever knows that a note doesn't sound in some
# frames sets zeros there, and the algorithm respects them.
# </details>
#
# Alternate the two updates and you have NMF. One detail for
# Itakura-Saito: with (2.12) the divergence is not *proven* to go down; with the square root of the ratio it is (Févotte and Idier
# 2011), and so we, like scikit-learn, take the root.

# %%
#| export
def nmf(V: Tensor, components: int, divergence: str = "kl", iterations: int = 100,
        generator: torch.Generator | None = None,
        W: Tensor | None = None, H: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Nonnegative matrix factorisation V = W H by multiplicative updates (eq. 2.9 to 2.12).

    V: real (bin, frame), >= 0; zeros count as a tiny value for itakura-saito. components: columns
    of W, which is updated first. divergence: "euclidean", "kl" or "itakura-saito". generator: draws
    the start, unless W (bin, component) or H (component, frame) are given. Returns W, H and the
    divergence before the first and after each iteration, (iterations + 1,), which never rises.
    ValueError for negative or non-finite V and wrong sizes. Source: Lee and Seung 2001; Fevotte and
    Idier 2011; chapter 2, section 2.9.
    """
    _check_nonnegative(V, components, iterations)
    beta, eps = _beta(divergence), torch.finfo(V.dtype).eps
    power = 0.5 if beta == 0 else 1.0
    if beta == 0:
        V = V.clamp_min(eps * max(float(V.max()), eps))
    scale = math.sqrt(float(V.mean()) / components)  # the start is about as loud as V
    draw = lambda *shape: scale * torch.rand(shape, generator=generator, dtype=V.dtype).to(V.device)
    W = draw(V.shape[0], components) if W is None else W.clone()
    H = draw(components, V.shape[1]) if H is None else H.clone()
    if W.shape != (V.shape[0], components) or H.shape != (components, V.shape[1]):
        raise ValueError(f"W {tuple(W.shape)}, H {tuple(H.shape)}: for V {tuple(V.shape)} and "
                         f"{components} components "
                         f"expected ({V.shape[0]}, {components}) and ({components}, {V.shape[1]})")
    model = lambda: (W @ H).clamp_min(eps * scale ** 2 if scale else eps)
    losses = [beta_divergence(V, model(), divergence)]
    for _ in range(iterations):
        Y = model()
        W = W * (((V * Y ** (beta - 2)) @ H.T) / (Y ** (beta - 1) @ H.T).clamp_min(eps)) ** power
        Y = model()
        H = H * ((W.T @ (V * Y ** (beta - 2))) / (W.T @ Y ** (beta - 1)).clamp_min(eps)) ** power
        losses.append(beta_divergence(V, model(), divergence))
    return W, H, torch.stack(losses)


def _check_nonnegative(V: Tensor, components: int, iterations: int) -> None:
    check_tensors(V=V)
    fits = not V.is_complex() and V.ndim == 2 and V.numel() > 0
    if not fits or not torch.isfinite(V).all() or V.min() < 0:
        raise ValueError(f"V is {V.dtype} {tuple(V.shape)}; expected finite values >= 0 of shape "
                         "(bin, frame): "
                         "take .abs(), and one channel or the mean of them")
    if components < 1 or iterations < 0:
        raise ValueError(f"components is {components}, iterations {iterations}; expected at least "
                         "1 and 0")

# %% [markdown]
# Three checks. It finds the two notes of the tiny example (up to order and scale, which a product can't know). From the same start it equals
# scikit-learn. And no step ever makes the divergence larger.

# %%
from sklearn.decomposition import non_negative_factorization

W_found, _, _ = nmf(V_tiny, 2, "kl", 2000, P.generator)
notes = (W_found / W_found.sum(0)).T  # (component, bin)
notes = notes[notes[:, 0].argsort(descending=True)]
assert torch.allclose(notes, (W_true / W_true.sum(0)).T, atol=0.05)
V_random = torch.rand(40, 60, generator=P.generator) + 0.01
start = torch.rand(40, 4, generator=P.generator), torch.rand(4, 60, generator=P.generator)
for kind, name in (("euclidean", "frobenius"), ("kl", "kullback-leibler"),
                   ("itakura-saito", "itakura-saito")):
    W_ours, H_ours, losses = nmf(V_random, 4, kind, 30, W=start[0], H=start[1])
    W_theirs, H_theirs, _ = non_negative_factorization(
        V_random.numpy(), W=start[0].numpy().copy(), H=start[1].numpy().copy(), n_components=4,
        init="custom",
        solver="mu", beta_loss=name, max_iter=30, tol=0)
    theirs = torch.from_numpy(W_theirs @ H_theirs)
    assert torch.allclose(W_ours @ H_ours, theirs, rtol=1e-4, atol=1e-4)
    assert (losses.diff() <= 1e-5 * losses[:-1]).all() and losses[-1] < 0.95 * losses[0]

# %% [markdown]
# How fast does it go down? On the magnitudes of a real trumpet, eight components. And out of curiosity also with the full step for Itakura-Saito,
# the one without proof: we write the step with an exponent and try both.

# %%
trumpet, rate_t = recording("trumpet", seconds=3.2, mono=True)
Z = stft(trumpet)[0]                                                  # (bin, frame)
curves = {kind: nmf(Z.abs(), 8, kind, 60, torch.Generator().manual_seed(0))[2] for kind in BETA}
V_power = Z.abs() ** 2 + 1e-4

def itakura_saito_losses(power, steps=60):
    """Divergence after each step with the update's ratio to a power: (steps,)."""
    g = torch.Generator().manual_seed(0)
    W = torch.rand(V_power.shape[0], 8, generator=g) + 0.1
    H = torch.rand(8, V_power.shape[1], generator=g) + 0.1
    losses = []
    for _ in range(steps):
        W = W * (((V_power / (W @ H) ** 2) @ H.T) / ((1 / (W @ H)) @ H.T)) ** power
        H = H * ((W.T @ (V_power / (W @ H) ** 2)) / (W.T @ (1 / (W @ H)))) ** power
        losses.append(beta_divergence(V_power, W @ H, "itakura-saito"))
    return torch.stack(losses)

half_step, full_step = itakura_saito_losses(0.5), itakura_saito_losses(1.0)

# %% [markdown]
# Both as pictures, with the number of steps in which the full step went up:

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8))
for kind, losses in curves.items():
    axes[0].plot(losses / losses[0], label=kind)
axes[0].set(xlabel="iteration", ylabel="divergence / start", yscale="log")
axes[0].legend()
for losses, label in ((half_step, "square root (proven)"), (full_step, "full step")):
    steps = range(1, len(losses) + 1)
    axes[1].plot(steps, losses / len(V_power) / V_power.shape[1], label=label)
axes[1].set(xlabel="iteration", ylabel="IS divergence per point", yscale="log")
axes[1].legend()
axes[1].set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
show(figure, "Left, the three divergences fall at every step. Right, Itakura-Saito with and "
             "without the square root.",
     "Two panels of falling curves; on the right the full step falls faster than the square root.")
rises = int((full_step.diff() > 0).sum())
print(f"with the full step the divergence rose in {rises} of {len(full_step) - 1} steps")
assert all((losses.diff() <= 1e-5 * losses[:-1]).all() for losses in curves.values())
assert full_step[20] < half_step[20]

# %% [markdown]
# ### What the components are
#
# Here is what NMF with KL found in the trumpet. Each column of $W$ is a spectrum, each row of $H$ says when it sounds. Nobody told it about notes;
# compare the rows with the phrase that you hear.

# %%
from course_lib.spectral import amplitude_to_db

W, H, _ = nmf(Z.abs(), 8, "kl", 100, torch.Generator().manual_seed(0))
W, H = W / W.sum(0), H * W.sum(0)[:, None]  # every spectrum sums to one, H has the level
# sort by the middle of their time
by_entry = (H * torch.arange(H.shape[1])).sum(1).div(H.sum(1)).argsort()
W, H = W[:, by_entry], H[by_entry]
figure, axes = plt.subplots(1, 2, figsize=(10, 3), width_ratios=(1, 2))
axes[0].imshow(amplitude_to_db(W[:160], floor_db=-50), origin="lower", aspect="auto", cmap="magma",
               interpolation="nearest", extent=(-0.5, 7.5, 0, 160 * rate_t / 2048))
axes[0].set(xlabel="component", ylabel="frequency (Hz)", title="W")
axes[1].imshow(H, aspect="auto", cmap="magma", interpolation="nearest", extent=(0, 3.2, 7.5, -0.5))
axes[1].set(xlabel="time (s)", ylabel="component", title="H")
show(figure, "Eight components of a solo trumpet: spectra and activations.",
     "Left, eight columns with ladders of harmonics at different spacings. Right, eight rows, each "
     "bright for some of the time.")
listen(trumpet, rate_t, "the trumpet")

# %% [markdown]
# Are they notes? We estimate the pitch of each spectrum as the fundamental whose harmonics hold the most of it, and ask an independent
# pitch tracker, pYIN in librosa, which note sounds in each frame. (Notes are counted in semitones as MIDI does: 69 is A4, 440 Hz; 12 are an octave.) Where one component dominates, do they agree within a semitone?

# %%
def pitch_of(spectrum, candidates, rate, n_fft=2048):
    """The candidate fundamental (Hz) with the most energy at its first eight harmonics."""
    # (candidate, harmonic)
    bins = (candidates[:, None] * torch.arange(1, 9) * n_fft / rate).round().long()
    return float(candidates[spectrum[bins].sum(1).argmax()])

semitones = torch.arange(57, 78)                                      # A3 to F5, as MIDI numbers
candidates = 440 * 2 ** ((semitones - 69) / 12)
pitches = torch.tensor([12 * math.log2(pitch_of(w, candidates, rate_t) / 440) + 69 for w in W.T])
tracked = librosa.pyin(trumpet[0].numpy(), fmin=200, fmax=800, sr=rate_t, frame_length=4096,
                       hop_length=512)[0]
# NaN where nothing is voiced
tracked = 12 * torch.log2(torch.from_numpy(tracked).float() / 440) + 69

# %%
# one component has most, and there is a pitch
clear = (H.max(0).values > 0.5 * H.sum(0)) & ~tracked.isnan()
agree = float(((pitches[H.argmax(0)] - tracked).abs() < 1.0)[clear].float().mean())
print(f"notes of the components: {sorted(set(round(float(p)) for p in pitches))}")
print(f"they agree with the pitch tracker in {agree:.0%} of {clear.float().mean():.0%} of the "
      "frames")
assert agree > 0.7

# %% [markdown]
# So without being told that notes exist, NMF found the notes of the phrase. Listen to two of them. A component becomes sound
# by a mask, its share of the model: $M_r = w_r h_r / WH$, times the STFT. The shares sum to one, so the components sum to the recording.

# %%
#| export
def component_masks(W: Tensor, H: Tensor) -> Tensor:
    """Each component's share of the model, w_r h_r / (W H), as a mask; the masks sum to one.

    W: (bin, component), H: (component, frame), both >= 0. Returns (component, bin, frame); where
    the model is silent all get the same share. ValueError where W and H don't fit. Source: chapter
    2, section 2.9.
    """
    if W.ndim != 2 or H.ndim != 2 or W.shape[1] != H.shape[0]:
        raise ValueError(f"W {tuple(W.shape)}, H {tuple(H.shape)}: expected (bin, component) and "
                         "(component, frame)")
    tiny = torch.finfo(W.dtype).tiny
    parts = W.T[:, :, None] * H[:, None, :] + tiny                    # (component, bin, frame)
    return parts / parts.sum(0)

# %% [markdown]
# The shares sum to one at every point. The two loudest components:

# %%
masks = component_masks(W, H)                                         # (component, bin, frame)
assert torch.allclose(masks.sum(0), torch.ones_like(masks[0]), atol=1e-5)
for r in (H.sum(1).argsort(descending=True)[:2]).tolist():
    listen(istft(masks[r] * Z, length=trumpet.shape[-1]), rate_t,
           f"component {r}, note {pitches[r]:.0f}")

# %% [markdown]
# ## 2.10 From components to instruments
#
# For a trumpet alone that is a transcription. For a song we want *instruments*, and one instrument is many components: all its notes. So
# components must be **grouped**, and here is the catch: **nothing in (2.9) says which belong together.** We can only compare them.
# What could we look at? Three numbers for each component:
#
# - how *high* its spectrum lies: the centre of mass, in octaves,
# - how *flat* it is: the geometric over the arithmetic mean of its bins, near 1 for noise and far below for a ladder of harmonics, of which we take
#   $\log_{10}$: 0 when flat,
# - how *sudden* its activation is: the share that arrives in jumps upwards, $\sum_m \max(0, h[m] - h[m-1]) / \sum_m h[m]$.
#
# By hand for the last: an activation of 0, 4, 0, 0 gives 4/4 = 1; 1, 1, 1, 1 gives 0.

# %%
#| export
def component_features(W: Tensor, H: Tensor) -> Tensor:
    """Height in octaves, flatness in decades (0 for noise) and suddenness of each component.

    W: (bin, component), H: (component, frame), both >= 0. Returns (component, 3), free of level.
    Source: after the features of Helen and Virtanen 2005; chapter 2, section 2.10.
    """
    eps = 1e-6
    share = W / W.sum(0).clamp_min(torch.finfo(W.dtype).tiny)         # (bin, component)
    bins = torch.arange(1, len(W) + 1, dtype=W.dtype, device=W.device)
    height = torch.log2((bins @ share).clamp_min(1.0))
    flatness = torch.log10(share * len(W) + eps).mean(0)
    jumps = H.diff(dim=1).clamp_min(0).sum(1) / H.sum(1).clamp_min(torch.finfo(H.dtype).tiny)
    return torch.stack([height, flatness, jumps], 1)

# %% [markdown]
# The example by hand, with flat spectra; and no feature may change when level moves from $W$ to $H$, as a product can't tell.

# %%
features = component_features(torch.ones(4, 2), torch.tensor([[0., 4., 0., 0.], [1., 1., 1., 1.]]))
assert torch.allclose(features[:, 1], torch.zeros(2), atol=1e-5)
assert features[:, 2].tolist() == [1.0, 0.0]
assert torch.allclose(component_features(9 * W, H / 2), component_features(W, H), atol=1e-4)

# %% [markdown]
# Grouping points by nearness is *k-means*: choose $g$ centres, give each point to the nearest one, move every centre to the mean of its
# points, repeat. Each of the two steps can only shorten the distances, as each multiplicative update could only lower the
# divergence. It ends in a local optimum, so one starts several times, from points drawn far apart, and keeps the best. The
# features have different units; we divide each by its spread first.

# %%
#| export
def cluster_components(W: Tensor, H: Tensor, groups: int, generator: torch.Generator | None = None,
                       starts: int = 8) -> Tensor:
    """Group the components of an NMF by their features, with k-means.

    W: (bin, component), H: (component, frame). groups: 1..components, else ValueError. generator:
    draws the starts; the one with the shortest distances wins. Returns labels (component,) in
    0..groups - 1. Source: k-means after Lloyd 1982,
    started as Arthur and Vassilvitskii 2007; chapter 2, section 2.10.
    """
    points = component_features(W, H)
    if not 1 <= groups <= len(points):
        raise ValueError(f"groups is {groups}; {len(points)} components can make 1..{len(points)} "
                         "groups")
    points = (points - points.mean(0)) / points.std(0, unbiased=False).clamp_min(1e-6)
    results = [_k_means(points, groups, generator) for _ in range(starts)]
    return min(results, key=lambda result: result[0])[1]


def _k_means(points: Tensor, groups: int,
             generator: torch.Generator | None) -> tuple[float, Tensor]:
    """Sum of squared distances and labels of one k-means run."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < groups:  # the farther from all centres, the likelier
        squared = torch.cdist(points, centres).min(1).values ** 2 + 1e-12
        centres = torch.cat([centres,
                             points[torch.multinomial(squared.cpu(), 1, generator=generator)]])
    for _ in range(50):
        labels = torch.cdist(points, centres).argmin(1)
        centres = torch.stack([points[labels == g].mean(0) if (labels == g).any() else centres[g]
                               for g in range(groups)])
    distances, labels = torch.cdist(points, centres).min(1)
    return float((distances ** 2).sum()), labels

# %% [markdown]
# The check: components made to be of two kinds, ladders that hold and noises that jump, must fall into those two.

# %%
every = lambda spacing: (torch.arange(400) % spacing == 0).float()
ladders = torch.stack([every(20), every(24), every(31)], 1) + 1e-3   # (bin, component)
noises = torch.rand(400, 3, generator=P.generator)
held = torch.ones(3, 50)
struck = (torch.rand(3, 50, generator=P.generator) > 0.8).float()
kinds = cluster_components(torch.cat([ladders, noises], 1), torch.cat([held, struck]), 2,
                           P.generator)
assert (kinds[:3] == kinds[0]).all() and (kinds[3:] == kinds[3]).all() and kinds[0] != kinds[3]

# %% [markdown]
# Now a real test of the idea, on the band song of section 2.3. We factorise the mixture into 24 components and group them twice: by their
# features, blindly, and, cheating, each by the stem that it helps most. If the second is good and the first is
# not, the grouping is at fault; the ideal mask beside them shows what the components themselves cost.
#
# How much does component $r$ help stem $j$? Its share of the mixture is $M_r X$. Given to the stem, it lowers the energy of the stem's error by
# $|S_j|^2 - |S_j - M_r X|^2 = 2 M_r \operatorname{Re}(S_j X^*) - M_r^2 |X|^2$, summed over all points; the stem with the largest sum gets it. ($V^2$ is the
# mean over two channels, hence the second 2 in the code.)

# %%
from course_lib.spectral import ideal_ratio_mask

S_band = stft(sources, 2048, 1024)  # (source, channel, bin, frame)
mix = S_band.sum(0)
V_mix = mix.abs().pow(2).mean(0).sqrt()  # (bin, frame)
W_mix, H_mix, _ = nmf(V_mix, 24, "kl", 80, torch.Generator().manual_seed(0))
shares_of = component_masks(W_mix, H_mix)  # (component, bin, frame)
common = (S_band * mix.conj()).real.sum(1)[:, None]  # (source, 1, bin, frame)
help_of = (2 * common * shares_of - 2 * (V_mix * shares_of) ** 2).sum((2, 3))
by_truth = help_of.argmax(0)  # help_of: (source, component)
by_features = cluster_components(W_mix, H_mix, 4, torch.Generator().manual_seed(0))

# %% [markdown]
# To be fair to the blind grouping we let it off the question which group is which stem, and take the best of the 24 ways to name them.
# So we score each group as each stem.

# %%
import itertools


def group_scores(labels):
    """SDR of every group of components taken for every stem: (group, source)."""
    masks = torch.stack([shares_of[labels == g].sum(0) for g in range(4)])  # (group, bin, frame)
    estimates = istft(masks[:, None] * mix, 2048, 1024, sources.shape[-1])  # (group, channel, time)
    shape = (4, 4, *sources.shape[1:])  # every group taken for every stem
    return song_sdr(estimates[:, None].expand(shape), sources.expand(shape))

def best_naming(scores):
    """The scores (source,) under the naming of groups with the highest mean."""
    namings = [scores[list(order), range(4)] for order in itertools.permutations(range(4))]
    return max(namings, key=lambda named: float(named.mean()))

# %% [markdown]
# Both groupings between their bounds:

# %%
blind, told = best_naming(group_scores(by_features)), group_scores(by_truth).diagonal()
quarter = song_sdr(sources.sum(0).expand_as(sources) / 4, sources)  # (source,)
masked = apply_mask(ideal_ratio_mask(S_band), mix)
ideal = song_sdr(istft(masked, 2048, 1024, sources.shape[-1]), sources)
show_table([[name, *(f"{value:.1f}" for value in [*scores, scores.mean()])]
            for name, scores in (("a quarter of the mixture", quarter),
                                 ("by features, named by the truth", blind),
                                 ("by the truth", told), ("ideal ratio mask", ideal))],
           ["24 components, SDR in dB", *STEMS, "mean"],
           caption="One band song, 6 s, whole-excerpt SDR.")
assert told.mean() > blind.mean() + 1.5 and ideal.mean() > told.mean() + 3
assert abs(blind.mean() - quarter.mean()) < 1

# %% [markdown]
# **Grouped blindly, the components are worth no more than a quarter of the mixture; grouped by the truth, much more.** Knowing whose a component
# is, is a place where learning will come in: a network has heard many basses. But the ideal mask stays far above: 24 fixed spectra are a
# limit too. (The score by truth is an oracle, like the ideal mask.)

# %% [markdown]
# ## 2.11 Four stems by rules
#
# Now a complete separator for four stems that never sees a reference of the song. First the simplest rules, each a sentence (all masks
# together sum to one, so the estimates sum to the mixture):
#
# - *drums*: the percussive mask of HPSS,
# - *bass*: of the rest, what lies under 180 Hz,
# - *vocals*: of what then remains, a share that depends on the method (below),
# - *other*: whatever is left.
#
# Edges in frequency should not be knives. We use a smooth step in octaves, with the logistic function $\sigma(z) = 1 / (1 + e^{-z})$:
#
# $$ \operatorname{above}(f; f_0, s) = \sigma\big(s \log_2 (f / f_0)\big). \tag{2.13} $$
#
# It is one half at $f_0$, and two octaves higher, with $s = 2$, it is $\sigma(4) = 0.98$.

# %%
#| export
def above(frequencies: Tensor, edge: float, slope: float = 2.0) -> Tensor:
    """A smooth step in frequency, 0.5 at the edge (eq. 2.13).

    frequencies: Hz, (bin,). edge: Hz. slope: per octave. Returns (bin, 1), to multiply spectrograms
    with. Source: chapter 2, section 2.11.
    """
    return torch.sigmoid(slope * torch.log2(frequencies.clamp_min(1.0) / edge))[:, None]


def stem_masks(percussive: Tensor, voice: Tensor, frequencies: Tensor,
               bass_edge: float = 180.0) -> Tensor:
    """Masks of drums, bass, other and vocals from three decisions; they sum to one.

    percussive, voice: (bin, frame) in [0, 1], the share of drums, and that of vocals in what
    neither drums nor bass take. frequencies: Hz, (bin,). bass_edge: Hz. Returns (4, bin, frame).
    Source: chapter 2, section 2.11.
    """
    bass = (1 - percussive) * (1 - above(frequencies, bass_edge))
    rest = 1 - percussive - bass
    return torch.stack([percussive, bass, rest * (1 - voice), rest * voice])

# %% [markdown]
# Two octaves below, at, and above the edge; and masks that sum to one, with the bass winning at 45 Hz and the voice at 720.

# %%
f = torch.tensor([45.0, 180.0, 720.0])
assert torch.allclose(above(f, 180.0)[:, 0], torch.tensor([0.018, 0.5, 0.982]), atol=1e-3)
four = stem_masks(torch.full((3, 1), 0.2), torch.full((3, 1), 0.5), f)
assert torch.allclose(four.sum(0), torch.ones(3, 1)) and four[1, 0] > 0.75 and four[3, 2] > 0.39

# %% [markdown]
# Where is the voice? Three answers:
#
# - **HPSS and rules**: singers stand in the middle of the stereo picture. The share of the sum of the channels in the energy,
#   $|L+R|^2 / (|L+R|^2 + |L-R|^2)$, between 250 Hz and 5 kHz, halved, as chords have parts in the middle too.
# - **REPET and rules**: what doesn't repeat, above 100 Hz.
# - **REPET-SIM and rules**: what is found in no similar frame, above 100 Hz.

# %%
#| export
def centre_share(X: Tensor) -> Tensor:
    """Share of the sum of two channels in their energy; 1 for mono, 0.5 for silence.

    X: complex (channel, bin, frame). Returns (bin, frame) in [0, 1]. Source: chapter 2, section
    2.11.
    """
    if X.shape[0] != 2:
        return torch.ones_like(X[0].abs())
    middle, side = (X[0] + X[1]).abs() ** 2, (X[0] - X[1]).abs() ** 2
    return soft_mask(middle, side, 1.0, split_silence=True)


def repeating_share(X: Tensor, hop_seconds: float, similar: bool) -> Tensor:
    """What repeats, by REPET-SIM (similar) or REPET.

    X: complex (channel, bin, frame). Returns (bin, frame) in [0, 1]. hop_seconds: between frames.
    Similar frames are a second apart, periods 0.8 s or longer; a piece too short to repeat gives
    0.5. Source: sections 2.4 to 2.6.
    """
    V = _level(X)
    shortest, width = max(1, round(0.8 / hop_seconds)), max(1, round(1 / hop_seconds))
    if V.shape[-1] < 5 * max(shortest, width):
        return torch.full_like(V, 0.5)
    if similar:
        return repet_sim_mask(V, 20, width)
    return repet_mask(V, repeating_period(beat_spectrum(V), shortest))


def _level(X: Tensor) -> Tensor:
    """Root mean square over channels: (channel, bin, frame) -> (bin, frame)."""
    return X.abs().pow(2).mean(0).sqrt()

# %% [markdown]
# With left and right equal the centre share is one, with opposite signs zero, and a voice on one side only counts half.

# %%
stereo = torch.tensor([[1 + 0j, 1, 1], [1, -1, 0]])[:, None]           # (channel, bin, frame)
assert torch.allclose(centre_share(stereo)[0], torch.tensor([1.0, 0.0, 0.5]))

# %% [markdown]
# ### All the evidence at once
#
# Each rule looks at one thing. Evidence of several kinds adds up as *log-odds*: $z = \log\frac{p}{1-p}$, with $p = \sigma(z)$ the
# way back. With the two medians $Q$ and $H$ of (2.2), let $q = \log(Q/H)$ be how much more percussive than harmonic a point is (that is the log-odds of (2.3) for $p = 1$), $u$ and $u'$ what repeats by
# REPET and REPET-SIM, between -1 and 1. Then
#
# $$ \text{drums} = \sigma\big(1.4\,q - 2.8 + 4.3\,[f < 180] + 1.8\,[f > 4000]\big), \qquad
#    \text{voice} = \sigma\big(-1.5 - 1.3\,u - 1.2\,u' - 0.9\,q\big), \tag{2.14} $$
#
# where the brackets are the smooth steps, and the voice is also held between about 110 Hz and 1 kHz, where it is strongest. In words: a point must be clearly
# percussive to be drums, less so in the highest octaves, and very little in the lowest, where a kick drum is as long as its filter.
# A voice is what doesn't repeat and isn't a stroke.
#
# By hand, for a point with $q = 1$ (a stroke, $Q = 2.7\,H$): in the middle, where no bracket counts, $z = 1.4 - 2.8 = -1.4$ and the mask of the
# drums is $\sigma(-1.4) = 0.2$. Far below 180 Hz it is $z = -1.4 + 4.3 = 2.9$, and $\sigma(2.9) = 0.95$: the same stroke is taken for a kick drum.
#
# Two more ideas. The bass stands in the middle: what the channels do *not* share, their difference, has no bass. And who is unsure should say so:
# **nine hundredths of every mask are replaced by an even share**, a quarter for each stem. A wrong decision at full level costs four times the error energy
# of one at half level.
#
# Here is the separator as a whole:

# %%
d = Diagram()
song_in = d.block("STFT $X$", "(channel, bin, frame)", kind="data")
q_block = d.block("HPSS: $q$", "(bin, frame)", after=song_in, shift=0.6)
u_block = d.block("REPET: $u$", "(bin, frame)", after=song_in)
s_block = d.block("REPET-SIM: $u'$", "(bin, frame)", after=song_in, shift=-0.6)
odds = d.block("add up, $\\sigma$\n(2.14)", "drums, voice", after=[q_block, u_block, s_block])
rules = d.block("the rest by\nrules (2.13)", "(4, middle and side,\nbin, frame)", after=odds)
even = d.block("a bit of\nan even share", after=rules)
product = d.join("×", after=even)
d.arrow(song_in, product, "$X$, as middle and side", route="under", reach=0.75)
d.block("inverse\nSTFT", "(4, channel, time)", after=product)
show(d.draw(), "All the evidence: three measurements of every point, weighed, and four masks.",
     d.in_words())

# %% [markdown]
# The fourteen constants were fitted with the help of the band's *training* songs. So this method has used references, of other songs; the constants of the
# other methods were set by hand. A network does the same with millions of numbers.

# %%
#| export
EVIDENCE = dict(drums_slope=1.4, drums_start=-2.8, drums_low=4.3, drums_high=1.8, low=180.0,
                high=4000.0,
                voice_start=-1.5, voice_repeats=-1.3, voice_similar=-1.2, voice_percussive=-0.9,
                voice_from=110.0, voice_to=1000.0, voice_edges=2.6)


def evidence_of(X: Tensor, hop_seconds: float) -> dict[str, Tensor]:
    """What the rules look at: how percussive a point is, and whether it repeats (section 2.11).

    X: complex (channel, bin, frame). hop_seconds: between frames. Returns (bin, frame) each:
    "percussive", log(Q/H) within -6..6, and "repeats" and "similar" from -1 to 1.
    """
    V = _level(X)
    Q, H = median_filter(V, 31, -2), median_filter(V, 31, -1)
    return {"percussive": torch.log((Q + 1e-9) / (H + 1e-9)).clamp(-6, 6),
            "repeats": 2 * repeating_share(X, hop_seconds, similar=False) - 1,
            "similar": 2 * repeating_share(X, hop_seconds, similar=True) - 1}


def evidence_masks(evidence: dict[str, Tensor], frequencies: Tensor, c: dict = EVIDENCE) -> Tensor:
    """Masks of drums, bass, other, vocals from all the evidence (eq. 2.14).

    evidence: as `evidence_of` returns it. frequencies: Hz, (bin,). c: the constants. Returns (4, 2,
    bin, frame): the second axis is for the mean of two channels and for the rest of each channel.
    Source: chapter 2, section 2.11.
    """
    q = evidence["percussive"]                                        # (bin, frame)
    low, high = 1 - above(frequencies, c["low"]), above(frequencies, c["high"])
    drums = torch.sigmoid(c["drums_slope"] * q + c["drums_start"]
                          + c["drums_low"] * low + c["drums_high"] * high)
    voice = torch.sigmoid(c["voice_start"] + c["voice_repeats"] * evidence["repeats"]
                          + c["voice_similar"] * evidence["similar"] + c["voice_percussive"] * q)
    voice = voice * above(frequencies, c["voice_from"], c["voice_edges"])
    voice = voice * (1 - above(frequencies, c["voice_to"], c["voice_edges"]))
    middle = stem_masks(drums, voice, frequencies, c["low"])
    side = stem_masks(drums, voice, frequencies, bass_edge=1e-3)      # no bass
    return torch.stack([middle, side], 1)

# %% [markdown]
# How well are they determined? `course experiment classic_constants` searches anew, by gradient descent on 20 training songs, and writes down what it found
# beside what we ship. (No log was kept of the search that gave the shipped ones.)

# %%
from course_lib.results import measured

found, shipped = measured("02_classic_separation/constants")
columns = {"train_db": "train, dB", "valid_db": "validation, dB", "drums_slope": "slope of q",
           "drums_high": "weight of [f > high]", "high": "high (Hz)"}
show_table([[name, *(float(row[c]) for c in columns)]
            for name, row in (("searched anew", found), ("shipped", shipped))],
           ["constants", *columns.values()],
           digits=dict(zip(columns.values(), (2, 2, 1, 1, 0))),
           caption=f"SDR of spectrograms, {found['train_songs']} and {found['valid_songs']} songs, "
                   "10 s each.")
assert abs(float(found["valid_db"]) - float(shipped["valid_db"])) < 0.05
assert all(math.isclose(float(shipped[name]), value, rel_tol=1e-3)
           for name, value in EVIDENCE.items())

# %% [markdown]
# Other values, one of them very different, and the same score: the bracket for the highest octaves hardly matters. Where two settings are equally good on songs
# that neither has seen, don't read a meaning into each number.
#
# The stroke from above at 20 and at 700 Hz, with the smooth steps themselves:

# %%
low_step = 1 - above(torch.tensor([20.0, 700.0]), EVIDENCE["low"])[:, 0]
z = EVIDENCE["drums_slope"] + EVIDENCE["drums_start"] + EVIDENCE["drums_low"] * low_step
print("drums:", [round(value, 2) for value in torch.sigmoid(z).tolist()])
assert torch.allclose(torch.sigmoid(z), torch.tensor([0.95, 0.21]), atol=0.01)

# %% [markdown]
# The components of NMF take part too. Blindly grouped into four, the groups need names, by rules again: the most sudden and flat group is
# the drums, the lowest of the others the bass, the one nearest to the middle the vocals. As the grouping is often wrong, half of each mask
# is an even share.

# %%
#| export
def nmf_cluster_masks(X: Tensor, components: int = 24, iterations: int = 60,
                      generator: torch.Generator | None = None) -> Tensor:
    """Masks of drums, bass, other, vocals from four groups of NMF components, named by rules.

    X: complex (channel, bin, frame). generator: for the start of NMF and k-means, default seed 0.
    Returns (4, bin, frame), which sum to one. Source: chapter 2, sections 2.9 to 2.11.
    """
    generator = generator or torch.Generator().manual_seed(0)
    V = _level(X)
    W, H, _ = nmf(V, components, "kl", iterations, generator)
    labels = cluster_components(W, H, 4, generator)
    masks = component_masks(W, H)                                     # (component, bin, frame)
    groups = torch.stack([masks[labels == g].sum(0) for g in range(4)])  # (group, bin, frame)
    features = component_features(W, H)
    features = (features - features.mean(0)) / features.std(0, unbiased=False).clamp_min(1e-6)
    of_group = lambda g: features[labels == g].mean(0) if (labels == g).any() else torch.zeros(3)
    height, flat, sudden = torch.stack([of_group(g) for g in range(4)]).T
    energy = groups * V ** 2                                          # (group, bin, frame)
    central = (energy * centre_share(X)).sum((1, 2)) / energy.sum((1, 2)).clamp_min(1e-20)
    left, order = list(range(4)), []
    for rank in (flat + sudden, -height, central):                    # drums, bass, vocals
        order.append(max(left, key=lambda g: float(rank[g])))
        left.remove(order[-1])
    return groups[[order[0], order[1], left[0], order[2]]]

# %% [markdown]
# One function for all of them. Frames are 93 ms long, as this suits the bass, whatever the sample rate. A signal shorter than a frame is
# padded with silence.

# %%
#| export
METHODS = ("mixture", "hpss_rules", "repet_rules", "repet_sim_rules", "nmf_clusters", "evidence")
SHRINK = {"nmf_clusters": 0.5, "evidence": 0.09}  # share of each mask that is an even share


def separate_unsupervised(mixture: Tensor, rate: float, method: str = "evidence",
                          generator: torch.Generator | None = None) -> Tensor:
    """Separate a song into drums, bass, other and vocals without training.

    mixture: (channels, time), float, 1 or 2 channels; a batch is a loop over songs. rate: Hz.
    method: one of METHODS; "mixture" gives each stem a quarter of the mixture. generator: for
    nmf_clusters only. Returns (4, channels, time); the estimates sum to the mixture. ValueError for
    unknown methods and other shapes. Source: chapter 2, section 2.11.
    """
    check_audio(mixture=mixture)
    if method not in METHODS:
        raise ValueError(f'method is "{method}"; expected one of {", ".join(METHODS)}')
    if mixture.ndim != 2 or mixture.shape[0] not in (1, 2) or mixture.shape[1] < 1:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (channels, time) "
                         "with 1 or 2 channels")
    if method == "mixture":
        return mixture.expand(4, -1, -1) / 4
    length, n_fft = mixture.shape[1], 2 ** max(4, round(math.log2(0.093 * rate)))
    X = stft(F.pad(mixture, (0, max(0, n_fft - length))), n_fft)      # (channel, bin, frame)
    masks = _method_masks(X, fft_frequencies(n_fft, rate).to(X.device), n_fft / 4 / rate, method,
                          generator)
    shrink = SHRINK.get(method, 0.0)
    masks = (1 - shrink) * masks + shrink / 4  # (source, middle and side, bin, frame)
    middle = X.mean(0, keepdim=True)
    estimates = masks[:, :1] * middle + masks[:, 1:] * (X - middle)  # (source, channel, bin, frame)
    return istft(estimates, n_fft, length=max(length, n_fft))[..., :length]


def _method_masks(X: Tensor, frequencies: Tensor, hop_seconds: float, method: str,
                  generator: torch.Generator | None) -> Tensor:
    """Masks (4, 2, bin, frame): for the mean of the channels, and for the rest of each channel."""
    if method == "evidence":
        return evidence_masks(evidence_of(X, hop_seconds), frequencies)
    if method == "nmf_clusters":
        masks = nmf_cluster_masks(X, generator=generator)
    else:
        if method == "hpss_rules":
            sung = above(frequencies, 250.0) * (1 - above(frequencies, 5000.0))
            voice = 0.5 * centre_share(X) * sung
        else:
            repeats = repeating_share(X, hop_seconds, method == "repet_sim_rules")
            voice = (1 - repeats) * above(frequencies, 100.0)
        masks = stem_masks(hpss(_level(X), mask=True)[1], voice, frequencies)
    return masks[:, None].expand(-1, 2, -1, -1)

# %% [markdown]
# Every method must return the mixture when its estimates are added up, and must survive silence and a signal of a few samples.

# %%
probe = sources.sum(0)[:, :230_000]  # 5.2 s, just long enough for REPET
for method in METHODS:
    assert torch.allclose(separate_unsupervised(probe, track.rate, method).sum(0), probe, atol=1e-5)
    for odd in (torch.zeros(2, 5000), torch.rand(1, 50, generator=P.generator)):
        estimates = separate_unsupervised(odd, 44100, method)
        assert estimates.shape == (4, *odd.shape)
        assert torch.allclose(estimates.sum(0), odd, atol=1e-5)

# %% [markdown]
# ## 2.12 The scoreboard
#
# All methods on one band song, a few seconds of it, median SDR over one-second frames as in chapter 1. (Another song: change the
# `open_tracks` line of section 2.3, for example to `"musdb18hq"` with your `root`.) Beside them the two bounds: a quarter of the
# mixture for each stem, and the ideal ratio mask.

# %%
from course_lib.spectral import framewise_sdr


def song_scores(track):
    """Median over one-second frames of the SDR, the oracle last: (method, stem)."""
    references = track.excerpt((track.seconds - P.seconds) / 2, P.seconds).sources(STEMS)
    S = stft(references)
    oracle = istft(apply_mask(ideal_ratio_mask(S, 2.0), S.sum(0)), length=references.shape[-1])
    estimates = [separate_unsupervised(references.sum(0), track.rate, method)
                 for method in progress(METHODS, "methods")]
    by_second = [framewise_sdr(e, references, track.rate) for e in (*estimates, oracle)]
    return torch.stack([values.nanquantile(0.5, dim=-1) for values in by_second])

# %%
titles = ("a quarter of the mixture", "HPSS and rules", "REPET and rules", "REPET-SIM and rules",
          "NMF, clustered", "all the evidence (fitted)", "ideal ratio mask")
one_song = song_scores(tracks[0])  # (method, stem)
show_table([[title, *row.tolist(), float(row.mean())] for title, row in zip(titles, one_song)],
           ["SDR in dB", *STEMS, "mean"], digits=1,
           caption=f"One band song, {P.seconds:.0f} s: {tracks[0].name}.")
assert one_song[-1].mean() > one_song[:-1].mean(1).max() + 3

# %% [markdown]
# One song can't tell neighbours apart. So `course experiment classic` has scored all test songs at full
# length, and the course ships what it measured. Two scores are in use, and they are not the same number: the *framewise* one, the
# median over seconds, and the SDR of the *whole song* at once, in which loud passages count for more. When chapter 4 has
# to beat this chapter, it is by the second, averaged over songs.

# %%
from course_lib.experiments.scoreboard import song_names, stem_scores
from course_lib.notebook import mean_interval, paired_interval
from course_lib.results import measured_card

rows = measured("02_classic_separation/scores")

def by_song(name, stem="mean", kind="song"):
    """Stored scores of a method for each song: (song,), of a stem or the mean of all four."""
    table = stem_scores(rows, name, kind)  # (song, stem)
    return table.nanmean(1) if stem == "mean" else table[:, STEMS.index(stem)]

def stored(name, kind, stem):
    """Mean over songs with its interval, from the stored measurement."""
    return mean_interval(by_song(name, stem, kind))

names = (*METHODS, "ideal ratio mask")
songs, length = len(song_names(rows)), measured_card("02_classic_separation/scores")["seconds"]
show_table([[title, *(f"{stored(name, 'song', stem)[0]:.1f}" for stem in STEMS),
             stored(name, "song", "mean"),
             stored(name, "frames, median", "mean")] for title, name in zip(titles, names)],
           ["SDR in dB", *STEMS, "mean, whole song", "mean, framewise"], digits=1,
           caption=f"Mean over the {songs} test songs of {length:g} s, with 95% intervals of the "
                   "mean.")

# %% [markdown]
# The whole songs as a picture, stem by stem:

# %%
by_method = {title: stem_scores(rows, name, "song") for title, name in zip(titles, names)}
bounds = {title: by_method.pop(title) for title in (titles[0], titles[-1])}
axis = plot_scores(by_method, STEMS, bounds, centre="mean")
show(axis, f"Separation by rules of {songs} band songs: mean SDR of the whole song, with 95% "
           "intervals.",
     "Dots with intervals per stem and two grey lines. Most lie within two decibels of the lower "
     "line, a quarter of the mixture, clustered NMF beneath it for three stems; the upper line, "
     "the ideal mask, is far above all.")

# %% [markdown]
# Read it from the worst up again. On average all the evidence is ahead, but look closer: REPET alone is better on *other*, the lead over it is small beside the way that is left
# (song by song it is printed below), and part of the lead may come from the constants, which only this method has fitted. Clustered NMF is worse than a quarter of the
# mixture: a wrong group costs more than no decision.
# And yet the best of them covers only a part of the way from a quarter of the mixture to the ideal mask, which is a mask too.
# The masks are there; **the knowledge which one to choose is missing.**

# %%
whole = {name: stored(name, "song", "mean")[0] for name in names}
covered = (whole["evidence"] - whole["mixture"]) / (whole["ideal ratio mask"] - whole["mixture"])
print(f"the best method covers {covered:.0%} of the way to the ideal ratio mask")
lead = paired_interval(by_song("evidence"), by_song("repet_rules"))
print("all the evidence over REPET, song by song: {:+.1f} dB [{:.1f}, {:.1f}]".format(*lead))
assert sorted(whole, key=whole.get)[-2:] == ["evidence", "ideal ratio mask"]
on_other = [stored(name, "song", "other")[0] for name in ("repet_rules", "evidence")]
assert on_other[0] > on_other[1]
assert whole["nmf_clusters"] < whole["mixture"]
assert 0.1 < covered < 0.5

# %% [markdown]
# ## 2.13 Where each fails, by ear
#
# Numbers say that they fail; ears say how.
#
# **HPSS.** Of a singer, HPSS gives the consonants and the glides to the drums. We send the vocals stem alone through the mixture's
# percussive mask: this is what the drum track will hold of the singer.

# %%
opening = groove_sources[..., :6 * groove.rate]  # (source, channel, time): its first six seconds
S_opening = stft(opening[:, :1])  # (source, left channel, bin, frame)
percussive_mask = hpss(S_opening.sum(0), mask=True)[1]
lost = istft(percussive_mask * S_opening[3], length=opening.shape[-1])
listen(lost[:, :4 * groove.rate], groove.rate, "the part of the singer that HPSS calls drums")
voice_lost = float(energies(percussive_mask * S_opening)[3] / energies(S_opening)[3])
print(f"it holds {voice_lost:.0%} of the singer's energy")
assert 0.01 < voice_lost < 0.5

# %% [markdown]
# **REPET.** It takes what repeats for background, *whoever* makes it. We let the singer repeat the loudest phrase with the period of the groove,
# as in many a chorus or sampled hook, and ask which share of the singer's energy passes through the foreground's mask: first of
# the song as it is, then of the song with the hook.

# %%
n = period * 512                                                     # samples in a period
loudest = int(groove_sources[3].pow(2).sum(0).unfold(0, n, n).sum(-1).argmax())
phrase = groove_sources[3][:, loudest * n:(loudest + 1) * n]
hook = phrase.repeat(1, 99)[:, :groove_sources.shape[-1]]            # (channel, time)

def passed(voice):
    """Share of the voice's energy in REPET's foreground, and that foreground."""
    Y, sung = stft(groove_sources[:3].sum(0) + voice), stft(voice)   # (channel, bin, frame)
    mask = repet_mask(Y.abs(), period)
    share = foreground(sung, mask, groove.rate).abs().pow(2).sum() / sung.abs().pow(2).sum()
    return float(share), istft(foreground(Y, mask, groove.rate), length=voice.shape[-1])

# %%
as_sung, _ = passed(groove_sources[3])
repeated, eaten = passed(hook)
print(f"of the singer passes {as_sung:.0%}, of the repeating singer {repeated:.0%}")
listen((groove_sources[:3].sum(0) + hook)[:1, :4 * groove.rate] / 2, groove.rate,
       "the singer repeats one phrase (half level)")
listen(eaten[:1, :4 * groove.rate], groove.rate, "REPET's foreground: the singer is gone")
assert as_sung > 0.4 > 0.1 > repeated

# %% [markdown]
# **NMF and clustering.** One group is called vocals. Whoever is in it depends on which components happened to be near each other. Here is
# that track for the same song.

# %%
clustered = separate_unsupervised(opening.sum(0), groove.rate, "nmf_clusters")
listen(clustered[3, :1, :4 * groove.rate], groove.rate, "NMF and clustering: “vocals”")
combined = separate_unsupervised(opening.sum(0), groove.rate, "evidence")
listen(combined[3, :1, :4 * groove.rate], groove.rate, "all the evidence: vocals")
print(f"vocals: clustered {song_sdr(clustered[3], opening[3]):.1f} dB, evidence "
      f"{song_sdr(combined[3], opening[3]):.1f} dB")

# %% [markdown]
# **A real recording.** The same method on the song that began this chapter, for which nothing was tuned. There is no truth to score
# against; judge for yourself. Much of the bass sits on the drum track, as (2.14) takes nearly everything low for a kick drum, and so do the strums
# of the guitar; the voice shares its track with whatever else doesn't repeat.

# %%
real = separate_unsupervised(song, rate)
assert torch.allclose(real.sum(0), song, atol=1e-5)
for stem, estimate in zip(STEMS, real):
    listen(estimate[:1, :4 * rate], rate, f"{stem}, all the evidence")

# %% [markdown]
# What would it take to do better? To know that *this* ladder of harmonics is a singer and that one a guitar. No rule that we can write down in a line says so,
# but examples do: from chapter 4 on we learn the masks.

# %% [markdown]
# ## 2.14 What we built
#
# | name | what | section |
# |---|---|---|
# | `median_filter`, `soft_mask`, `hpss` | lines and strokes, and who wins | 2.2, 2.3 |
# | `beat_spectrum`, `repeating_period`, `repet_mask` | the period of a song, and what repeats with it | 2.4, 2.5 |
# | `similarity_matrix`, `nearest_frames`, `repet_sim_mask` | what repeats without a period | 2.6 |
# | `beta_divergence`, `nmf`, `component_masks` | few building blocks, three divergences | 2.8, 2.9 |
# | `component_features`, `cluster_components` | which components resemble each other | 2.10 |
# | `above`, `stem_masks`, `centre_share`, `repeating_share`, `evidence_of`, `evidence_masks`, `nmf_cluster_masks` | rules for four stems | 2.11 |
# | `separate_unsupervised` | all methods by name | 2.11 |
#
# All of it is in `course_lib.classic`.

# %% [markdown]
# ## 2.15 Paper claims
#
# What the sources say, and what came out here. These papers report on recordings that we don't have, so most claims are tested for their direction
# alone, song by song, by the rules of chapter 1's table. The verdicts are computed.

# %%
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, reproduced,
                                        same_trend, show_claims)

drums_gain = by_song("hpss_rules", "drums") - by_song("mixture", "drums")
voice_gain = by_song("repet_rules", "vocals") - by_song("mixture", "vocals")
largest_rise = lambda losses: max(float((losses.diff() / losses[:-1]).max()), 0.0)
rise = {kind: largest_rise(losses) for kind, losses in curves.items()}  # itakura-saito: the root
scale_ratio = float(beta_divergence(1000 * V_power, 1000 * V_power.mean() + 0 * V_power,
                                    "itakura-saito")
                    / beta_divergence(V_power, V_power.mean() + 0 * V_power, "itakura-saito"))
irregular = left_over["REPET-SIM"] / left_over["REPET, its best period"]

# %% [markdown]
# Two claims of section 2.3 were shown on one song and on four. Here each is asked of six.

# %%
six = [t.excerpt(8.0, 4.0).sources(STEMS)[:, :1] for t in open_tracks("band", "test", count=6)]
turned = torch.stack([percussive_share(z, 8192)[3] - percussive_share(z, 1024)[3] for z in six])
pairs = torch.tensor([purity_and_residual(stft(z), (1.0, 4.0)) for z in six])  # (song, margin, 2)
purer, more_left = (pairs[:, 1] - pairs[:, 0]).T

# %%
claims = [
    Claim("Two median filters tell drums from the rest", "FitzGerald 2010", "2.12", "by ear",
          f"drums over mixture/4: {difference_in_words(drums_gain)}", same_trend(drums_gain)),
    Claim("With long frames, voices turn percussive", "FitzGerald & Gainza 2010", "2.3", "by ear",
          f"{difference_in_words(turned, 'of the voice')}", same_trend(turned)),
    Claim("A larger margin: purer parts, larger residual", "Driedger et al. 2014", "2.3", "by ear",
          f"purity {difference_in_words(purer, 'of the part')}; residual {more_left.mean():+.2f}",
          same_trend(torch.minimum(purer, more_left))),
    Claim("What doesn't repeat with the period is the voice", "Rafii & Pardo 2013", "2.12",
          "not comparable", f"vocals over mixture/4: {difference_in_words(voice_gain)}",
          same_trend(voice_gain)),
    Claim("Similar frames replace the period where there is none", "Rafii & Pardo 2012", "2.6",
          "not comparable", f"error {irregular:.0%} of REPET's (made example)", NEEDS_REAL_DATA),
]

# %% [markdown]
# Then those on NMF, of which most are theorems, and what only records can say.

# %%
rises_in_words = lambda worst: "no rise in 60 steps" if worst <= 1e-5 else "rises"
claims += [
    Claim("Multiplicative updates never raise EU and KL", "Lee & Seung 2001", "2.9", "theorem",
          rises_in_words(max(rise["euclidean"], rise["kl"])),
          reproduced([rise["euclidean"], rise["kl"]], 0, 1e-5)),
    Claim("Nor IS, with the square root", "Févotte & Idier 2011", "2.9", "theorem",
          rises_in_words(rise["itakura-saito"]), reproduced(rise["itakura-saito"], 0, 1e-5)),
    Claim("In practice nor IS with the full step", "Févotte et al. 2009", "2.9", "observed",
          f"{rises} rises in 59 steps", reproduced(rises, 0, 0)),
    Claim("IS does not see scale", "Févotte et al. 2009", "2.8", "theorem",
          f"ratio {scale_ratio:.3f} at 1000 times the level", reproduced(scale_ratio, 1, 1e-3)),
    Claim("REPET and REPET-SIM take voices out of records", "Rafii & Pardo 2012, 2013", "2.5, 2.6",
          "not comparable", f"band: {stored('repet_rules', 'song', 'vocals')[0]:.1f} and "
          f"{stored('repet_sim_rules', 'song', 'vocals')[0]:.1f} dB", NEEDS_REAL_DATA),
]
show_claims(claims)

# %% [markdown]
# What section 2.3 showed of voices and long frames holds for its song; over six songs the difference can't be told from zero.
#
# Where the band is kinder than records: its tempo is exact and its samples are the same in every bar, so REPET probably finds more here than it would in a live
# recording. Where it is harder: drums and bass share the low bins. Bass is the lowest stem of the evidence and of the ideal mask.

# %% [markdown]
# ## 2.16 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded
# [assignment of this chapter](assignments/02_classic_separation.ipynb) has more tasks, with checks.
#
# **1. What a median forgets.** A level of 1 is hit by a burst that lasts two frames. Which window sizes remove it completely? And one
# that lasts five?
#
# <details><summary>Answer</summary>
#
# A burst of $n$ frames is in the minority in every window of at least $2n + 1$: five for two frames, eleven for five. One size smaller and the middle of the burst stays.
#
# ```python
# row = torch.ones(40)
# row[20:22] = 9.0
# assert median_filter(row, 5).max() == 1 and median_filter(row, 3).max() == 9
# row[20:25] = 9.0
# assert median_filter(row, 11).max() == 1 and median_filter(row, 9).max() == 9
# ```
# </details>
#
# **2. The undecided.** At a point $H = Q$. Which share goes to the residual for margin $\beta$ and power $p$? What happens for $p \to \infty$?
#
# <details><summary>Answer</summary>
#
# Both masks are $1 / (1 + \beta^p)$, so the residual gets $1 - 2 / (1 + \beta^p)$: nothing for $\beta = 1$, six tenths for $\beta = p = 2$, and everything in
# the limit, for any margin above one.
#
# ```python
# H = Q = torch.ones(1)
# residual = lambda beta, p: float(1 - soft_mask(H, beta * Q, p) - soft_mask(Q, beta * H, p))
# assert abs(residual(1.0, 2.0)) < 1e-6 and abs(residual(2.0, 2.0) - 0.6) < 1e-6
# assert residual(1.1, math.inf) == 1.0
# ```
# </details>
#
# **3. Too few repetitions.** With how many repetitions can REPET remove a voice that sings in *one* of them? And in two of them, at the same place?
#
# <details><summary>Answer</summary>
#
# The sung frame must be in the minority: three repetitions for one, five for two. With two repetitions the median is the mean of both, and half
# of the voice stays in the model.
#
# ```python
# band = torch.rand(4, 6)
# song = lambda repetitions: band.repeat(1, repetitions)
# V = song(3)
# V[:, 2] += 5.0                                   # sung in the first repetition
# assert torch.allclose(repet_mask(V, 6) * V, song(3), atol=1e-5)
# V[:, 8] += 5.0                                   # and in the second
# assert not torch.allclose(repet_mask(V, 6) * V, song(3), atol=0.1)
# ```
# </details>
#
# **4. KL keeps the books.** Show that after an update of $H$ with KL, every column of $WH$ has the same sum as that column of $V$. Does it hold for
# Euclid?
#
# <details><summary>Answer</summary>
#
# Sum $w_{kr} h_{rm}$ over $k$ and $r$ with (2.12) put in: $\sum_r h_{rm} \sum_k w_{kr} v_{km} / y_{km} = \sum_k v_{km}$, as the sum over $k$ of $w_{kr}$ cancels the
# denominator. Euclid has no such law.
#
# ```python
# V = torch.rand(30, 20) + 0.1
# W, H, _ = nmf(V, 3, "kl", 5)                     # the last update is of H
# assert torch.allclose((W @ H).sum(0), V.sum(0), rtol=1e-4)
# W, H, _ = nmf(V, 3, "euclidean", 5)
# assert not torch.allclose((W @ H).sum(0), V.sum(0), rtol=1e-4)
# ```
# </details>
#
# **5. If somebody tells you the notes.** Suppose $W$ is known, from recordings of single notes. Write `activations(V, W)` that finds $H$ alone, with KL,
# and test it on a mixture that you made.
#
# <details><summary>Answer</summary>
#
# Only the update (2.12) of $H$, again and again. The divergence is convex in $H$ alone, so the start doesn't matter. This is *supervised* NMF: the question whose
# component it is has been answered beforehand.
#
# ```python
# def activations(V, W, steps=2000):
#     H = torch.ones(W.shape[1], V.shape[1])
#     for _ in range(steps):
#         H = H * (W.T @ (V / (W @ H).clamp_min(1e-9))) / W.sum(0)[:, None]
#     return H
#
# W, H = torch.rand(40, 3) ** 3, torch.rand(3, 25)
# assert torch.allclose(activations(W @ H, W), H, atol=0.02)
# ```
# </details>
#
# **6. Open.** A drummer speeds up. Stretch the groove of section 2.4 so that its tempo rises by 5% from start to end (resample it piece by piece, or read it at
# growing steps), and compare REPET with REPET-SIM. At which drift does REPET lose? Then try both on two recordings of your own, one live, one
# programmed.

# %% [markdown]
# ## 2.17 Sources
#
# - J. Foote and S. Uchihashi, *The beat spectrum: a new approach to rhythm analysis*, ICME 2001.
# - D. FitzGerald, *Harmonic/percussive separation using median filtering*, DAFx 2010.
# - D. FitzGerald and M. Gainza, *Single channel vocal separation using median filtering and factorisation techniques*, ISAST Transactions on Electronic and Signal Processing 2010.
# - J. Driedger, M. Müller and S. Disch, *Extending harmonic-percussive separation of audio signals*, ISMIR 2014.
# - Z. Rafii and B. Pardo, *REpeating Pattern Extraction Technique (REPET): a simple method for music/voice separation*, IEEE TASLP 2013.
# - Z. Rafii and B. Pardo, *Music/voice separation using the similarity matrix*, ISMIR 2012.
# - D. D. Lee and H. S. Seung, *Algorithms for non-negative matrix factorization*, NIPS 2000 (published 2001).
# - C. Févotte, N. Bertin and J.-L. Durrieu, *Nonnegative matrix factorization with the Itakura-Saito divergence*, Neural Computation 2009.
# - C. Févotte and J. Idier, *Algorithms for nonnegative matrix factorization with the β-divergence*, Neural Computation 2011.
# - M. Helén and T. Virtanen, *Separation of drums from polyphonic music using non-negative matrix factorization and support vector machine*, EUSIPCO 2005.
# - S. P. Lloyd, *Least squares quantization in PCM*, IEEE TIT 1982; D. Arthur and S. Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007.
#
# Recordings: Karissa Hobbs, *Let's Go Fishin'*, from the Free Music Archive, and Mihai Sorohan's trumpet phrase, from Freesound, both under CC BY 3.0, as shipped for `librosa.ex`.
