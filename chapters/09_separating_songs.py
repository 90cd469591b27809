# %% [markdown]
# # Chapter 9 · Separating songs
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/09_separating_songs.ipynb)
#
# So far we separated excerpts of ten seconds. A song lasts four minutes, an opera three hours, and on a laptop neither fits
# through a network at once. This chapter turns a trained network into a tool: songs of any length, rate and number of channels, from
# disk to disk, with a memory that doesn't grow. On the way it answers what is usually left to a library's defaults: where
# chunks may be cut, what shifting and several networks are worth, whether stems must add up, how late a live
# separator comes, and how one finds out that a stem holds what its label says.
#
# **You will be able to**
# - cut a song into chunks and join them without a click, and say what the overlap costs,
# - average over shifts and over networks, with the official packages' numbers,
# - write a separator that streams, and show that it gives what the plain one gives,
# - make stems add up to the song, and prove that this can't hurt on the whole,
# - say what a network pays for not hearing the future,
# - clean a collection of stems with a separator, export a network, and estimate what a full training costs.
#
# **You need** chapter 6 (`valid_length`, the shift trick) and chapter 1 (overlap-add); chapters 4 and 7 for the networks.
#
# **Time** <!-- minutes 09_separating_songs -->not measured yet<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 9.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp separating
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("09_separating_songs", cpu=dict(songs=6, borders=12), gpu=dict(songs=20, borders=40),
          threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/separating.py`, and the command `course separate` stands on it.

# %%
#| export
import contextlib
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
import course_lib.open_unmix as open_unmix
from course_lib.audio import check_audio
from course_lib.data.audio_files import AudioHeader, read_blocks, read_header
from course_lib.data.resampling import resample, resampled_blocks, resampled_frames
from course_lib.demucs import center_trim
from course_lib.paths import for_libsndfile, shown
from course_lib.progress import progress
from course_lib.training import load_trained

# %% [markdown]
# The rest serves the chapter only.

# %%
import copy
import tempfile
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import STEMS, open_tracks, recording
from course_lib.data.mono import mono_tracks
from course_lib.demucs import DemucsV2
from course_lib.notebook import (Diagram, listen, mean_interval, plot_level, plot_losses,
                                 plot_spectrogram, plot_waveform, show, show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.results import measured, measured_card, published
from course_lib.spectral import hann_window, song_sdr, stft

# %% [markdown]
# The songs of this chapter are the band's, mono at 22,050 Hz, the networks those of chapters 6 and 7.

# %%
songs = mono_tracks(lambda: open_tracks("band", "test", count=P.songs), 22_050, 20.0)
song, rate = songs[0], songs[0].rate
demucs_net, hybrid_net = load_trained("demucs_band"), load_trained("hdemucs_band")
results = lambda table: measured(f"09_separating_songs/{table}")
print(f"{len(songs)} songs, the first: {song.name}, {song.seconds:.0f} s at {rate} Hz")

# %% [markdown]
# ## 9.1 Why not all at once?
#
# A convolutional network would take a song of any length. What it can't do is *remember* cheaply: while it goes down, the output of each layer waits
# for the way up, as a skip. How many numbers are that? PyTorch can tell without computing anything: on the device `meta`, tensors
# have shapes and no values. We count what all convolutions give, for chapter 6's small network and for the published one (64 channels, stereo, 44.1 kHz, depth 6).

# %%
def numbers_held(model, seconds):
    """How many numbers the outputs of a network's convolutions are, for so many seconds of audio."""
    total, length = 0, model.valid_length(round(seconds * model.samplerate))

    def count(module, inputs, output):
        nonlocal total
        total += output.numel()

    hooks = [m.register_forward_hook(count) for m in model.modules()
             if isinstance(m, (nn.Conv1d, nn.ConvTranspose1d))]
    model(torch.zeros(1, model.audio_channels, length, device="meta"))
    for hook in hooks:
        hook.remove()
    return total

# %% [markdown]
# Four bytes a number:

# %%
small = copy.deepcopy(demucs_net).to("meta")
with torch.device("meta"), torch.no_grad():
    large = DemucsV2(STEMS, rescale=0).eval()
    rows = [[f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds} s",
             *(4 * numbers_held(net, seconds) / 2 ** 30 for net in (small, large))]
            for seconds in (10, 60, 600)]
show_table(rows, ["audio", "small network, GiB", "published size, GiB"], digits=1,
           caption="Outputs of all convolutions. Not all are alive at the same time; the skips are.")
assert 55 < rows[2][2] / rows[0][2] < 65

# %% [markdown]
# The count grows with the length, and for the published size ten minutes would be hundreds of gigabytes. With attention (chapter 7) it is worse: its weights are a matrix of steps by steps,
# ten times the length is a hundred times the memory. There is a second reason to keep to short pieces: a network that learned on chunks of a few seconds has never seen more.
# An LSTM or an attention layer may do anything with ten minutes.
#
# So: cut the song into chunks, separate each, put them together.

# %% [markdown]
# ## 9.2 The cut is heard
#
# The obvious way first. Chunks of 1.5 s, the length that the network learned on, one after the other:

# %%
@torch.no_grad()
def cut_and_joined(model, x, length):
    """Separate pieces of x (channel, time), each alone; what comes out, put side by side."""
    pieces = [model(F.pad(piece, (0, model.valid_length(length) - piece.shape[-1]))[None])[0]
              for piece in x.split(length, dim=-1)]
    joined = torch.cat([y[..., :length] for y in pieces], dim=-1)       # (source, channel, time)
    return joined[..., :x.shape[-1]]

length = round(1.5 * rate)
hard = cut_and_joined(demucs_net, song.mixture, length)
listen(hard[3, :, :9 * rate], rate, "vocals, chunks of 1.5 s side by side")

# %% [markdown]
# Listen for a tick every one and a half seconds. To see one, zoom in to 10 ms around a cut:

# %%
cut = 5 * length
reach = round(0.005 * rate)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.2), sharex=True)
milliseconds = (torch.arange(2 * reach) - reach) * 1000 / rate
for axis, stem, y in zip(axes, STEMS, hard[:, 0, cut - reach:cut + reach]):
    axis.plot(milliseconds, y)
    axis.axvline(0, color="0.7", lw=0.8)
    axis.set(title=stem, xlabel="ms from the cut", yticks=[])
show(figure, "The four estimates around one cut (grey line): two chunks that don't know of each other meet.",
     "Four short waveforms with a vertical line in the middle; some jump or bend there.")

# %% [markdown]
# A picture of one cut proves nothing; count. At each cut we take the step from the last sample of one chunk to the first of the next, and compare it with the typical step (root mean
# square) in the same stem, over all cuts of the songs.

# %%
def jumps(estimate, length):
    """Step at the cuts, as a multiple of the RMS step: (cut, source)."""
    steps = estimate[:, 0].diff(dim=-1).abs()                       # (source, time - 1)
    cuts = torch.arange(length, estimate.shape[-1], length)
    return (steps[:, cuts - 1] / steps.square().mean(-1, keepdim=True).sqrt()).T

at_cuts = torch.cat([jumps(cut_and_joined(demucs_net, one.mixture, length), length)
                     for one in songs])
elsewhere = torch.cat([jumps(cut_and_joined(demucs_net, one.mixture, length).roll(777, -1), length)
                       for one in songs])
show_table([[stem, float(a), float(b)] for stem, a, b in
            zip(STEMS, at_cuts.square().mean(0).sqrt(), elsewhere.square().mean(0).sqrt())],
           ["stem", "at the cuts", "elsewhere"], digits=1,
           caption=f"RMS step over {len(at_cuts)} cuts of {len(songs)} songs, in RMS steps of the stem.")
assert at_cuts.square().mean() > 4 * elsewhere.square().mean()

# %% [markdown]
# The steps at the cuts are several times as large as elsewhere: those are the ticks. And they are only what is *heard*; a chunk's first and last moments are also separated worse, for there the network
# knows one side only. The cure has two parts: give each moment mostly to the chunk in whose middle it lies (9.3), and let the network hear more than the chunk (9.4).

# %% [markdown]
# ## 9.3 Chunks that fade into each other
#
# Chunk $k$ begins at $kH$ and has $N$ samples. With **overlap** $o$ the hop is $H = \lfloor (1 - o) N \rfloor$; the official default is $o = 1/4$. Each chunk's estimate $\hat s_k$ is
# weighted by a triangle
#
# $$ w[n] = \left(\frac{\min(n + 1,\; N - n)}{\lceil N/2 \rceil}\right)^{p}, \qquad n = 0 \dots N - 1, \tag{9.1} $$
#
# and the sum is divided by the sum of the weights that fell on each sample:
#
# $$ \hat s[n] = \frac{\sum_k w[n - kH]\, \hat s_k[n - kH]}{\sum_k w[n - kH]}. \tag{9.2} $$
#
# This is chapter 1's overlap-add with one difference: the weights need not add up to a constant, for we divide. $p$ is the *transition power*: 1 fades, larger values switch. The smallest example, $N = 8$, $o = 1/4$, so $H = 6$:

# %%
triangle = torch.tensor([1.0, 2, 3, 4, 4, 3, 2, 1]) / 4
both = torch.stack([F.pad(triangle, (0, 6)), F.pad(triangle, (6, 0))])  # (chunk, time)
print((both / both.sum(0)).round(decimals=2).tolist())

# %% [markdown]
# The first chunk alone up to sample 5; then two samples in which it fades out while the next fades in; then the second alone. In code:

# %%
#| export
def transition_weights(length: int, power: float = 1.0) -> Tensor:
    """The weight of every sample of a chunk: a triangle to a power, (length,), at most 1 (eq. 9.1).

    ValueError for no samples and a power below 1, with which the edges would weigh more, not less.
    Source: section 9.3; as in the package demucs.
    """
    if length < 1 or not power >= 1:
        raise ValueError(f"length is {length} and power {power}; expected both at least 1")
    n = torch.arange(length)
    triangle = torch.minimum(n + 1, length - n)
    return (triangle / triangle.max()) ** power

# %% [markdown]
# And where chunks begin:

# %%
#| export
def chunk_sizes(segment: float, overlap: float, rate: int) -> tuple[int, int]:
    """(samples of a chunk, samples from one to the next), rounded down as in the package demucs.

    segment: seconds. overlap: share of a chunk that the next one covers, from 0 to below 1.
    ValueError for others, and for chunks of no samples. Source: section 9.3.
    """
    length = int(segment * rate) if segment > 0 else 0
    stride = int((1 - overlap) * length) if 0 <= overlap < 1 else 0
    if stride < 1:
        raise ValueError(f"segment is {segment} s and overlap {overlap} at {rate} Hz; expected a "
                         "segment above 0, an overlap from 0 to below 1, and chunks of some samples")
    return length, stride

# %% [markdown]
# What the powers look like, for 8 s with a quarter of overlap. Drawn is each chunk's share in the result:

# %%
N, H = chunk_sizes(8.0, 0.25, 100)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.1), sharey=True)
for axis, power in zip(axes, (1, 2, 8)):
    w = torch.stack([F.pad(transition_weights(N, power), (k * H, (2 - k) * H)) for k in range(3)])
    shares = w / w.sum(0)                                           # (chunk, time)
    assert torch.allclose(shares.sum(0), torch.ones(N + 2 * H))
    axis.plot(torch.arange(N + 2 * H) / 100, shares.T)
    axis.set(title=f"power {power}", xlabel="time (s)")
axes[0].set(ylabel="share")
show(figure, "Shares of three chunks of 8 s: where two overlap they fade, and always sum to 1.",
     "Three panels of trapezoids that cross; with higher power the crossings get steeper.")

# %% [markdown]
# <details><summary>Quick question: with which overlap is every moment heard by at least two chunks, and what does it cost?</summary>
#
# With one half: $H = N/2$. The network then runs twice over everything; with a quarter it runs $1/(1 - 1/4) = 4/3$ times, with three quarters four times.
# </details>

# %% [markdown]
# ## 9.4 What stands around a chunk
#
# Networks like Demucs want lengths of their own (chapter 6's `valid_length`), so that a chunk has to be padded anyway. With what? With zeros, the network hears silence, then music that begins out of nothing.
# But the neighbours are known! Pad with the **audio around the chunk**, and zeros only where the song itself ends.

# %%
#| export
def window(x: Tensor, first: int, length: int) -> Tensor:
    """Samples first to first + length of x (..., time), with zeros before and after its ends."""
    begin, end = max(0, first), min(x.shape[-1], first + length)
    if begin >= end:
        return x.new_zeros(*x.shape[:-1], length)
    return F.pad(x[..., begin:end], (begin - first, first + length - end))

# %% [markdown]
# On five samples:

# %%
five = torch.arange(1.0, 6)
print(window(five, -2, 4).tolist(), window(five, 1, 3).tolist(), window(five, 4, 3).tolist())
assert window(five, 7, 2).tolist() == [0, 0]

# %% [markdown]
# A chunk goes into the middle of what the network gets, and the middle of what it gives is kept:

# %%
#| export
def pass_length(model: nn.Module, length: int, segment: float | None = None) -> int:
    """How many samples a network is given to separate `length` of them.

    Its `valid_length`, where it has one. segment: seconds of a chunk, for a network that always
    gets its training length (`use_train_segment`, HT Demucs): another one, not longer. ValueError
    for a longer one. Source: section 9.4; as in the package demucs.
    """
    if segment is not None and getattr(model, "use_train_segment", False):
        if segment > float(model.segment):
            raise ValueError(f"segment is {segment:g} s; this network learned on chunks of "
                             f"{float(model.segment):g} s and can't take longer ones")
        return max(length, int(segment * model.samplerate))
    return model.valid_length(length) if hasattr(model, "valid_length") else length

# %% [markdown]
# The chunk itself:

# %%
#| export
def separate_chunk(model: nn.Module, x: Tensor, start: int, end: int,
                   segment: float | None = None) -> Tensor:
    """Sources of samples start to end of x (batch, channel, time): (batch, source, channel, time).

    The network hears as much of what is around as `pass_length` says. Source: section 9.4.
    """
    total = pass_length(model, end - start, segment)
    heard = window(x, start - (total - (end - start)) // 2, total)
    with torch.no_grad():
        return center_trim(model(heard), end - start)

# %% [markdown]
# Is it worth the trouble? Take chunks of 1.5 s from the middle of songs, once with zeros around, once with their neighbours, and give the network half a second more on either side in both cases. Then the error against the true stems, by the
# distance from the chunk's border. As a yardstick the error of the same moments in the middle of a long excerpt.

# %%
margin, step = round(0.5 * rate), round(0.05 * rate)
more = lambda x, first: demucs_net(window(x, first, demucs_net.valid_length(length + 2 * margin)))

@torch.no_grad()
def errors_at(track, start, kind):
    """Error of a chunk's estimate, all sources, in pieces of 50 ms: (piece,)."""
    x, s = track.mixture[None], track.sources(STEMS)[..., start:start + length]
    if kind == "zeros":
        y = more(window(x, start, length), -margin)
    elif kind == "neighbours":
        y = more(x, start - margin)
    else:
        y = more(x, start - margin - length // 2)[..., length // 2:]       # not from the border
    y = y[0, ..., margin:margin + length]
    return (y - s).square().sum((0, 1)).unfold(0, step, step).sum(-1)

# %% [markdown]
# Averaged over chunks, and over the distance to the nearer border:

# %%
places = [(track, round(second * rate)) for track in songs for second in (4.0, 9.0)][:P.borders]
error = {kind: torch.stack([errors_at(track, start, kind) for track, start in places]).sum(0)
         for kind in ("zeros", "neighbours")}
folded = {kind: (e + e.flip(0))[:len(e) // 2] for kind, e in error.items()}
worse = 10 * torch.log10(folded["zeros"] / folded["neighbours"])           # (distance,), dB
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot((torch.arange(len(worse)) + 0.5) * 50, worse, "o-", ms=4)
axis.axhline(0, color="0.7", lw=0.8)
axis.set(xlabel="distance from the nearer border (ms)", ylabel="more error (dB)")
show(axis, f"Error with zeros around a chunk, against error with its real neighbours; {len(places)} chunks.",
     "A curve that is highest at the border and falls towards zero.")
print(f"within 50 ms of the border: {float(worse[0]):.1f} dB more error; 0.6 s away: "
      f"{float(worse[12]):.1f} dB")
assert worse[0] > 0.3 and worse[0] > worse[12]

# %% [markdown]
# Near the border the neighbours help, far from it they don't matter. How far "far" is depends on the network: its receptive field, and its LSTM.

# %% [markdown]
# ## 9.5 Any length, any number of channels
#
# First, how long a chunk is if nobody says: what the network was made for.

# %%
#| export
def segment_of(model: nn.Module, segment: float | None = None) -> float:
    """Seconds of a chunk: as asked, else the model's `segment`, else that of its facts.

    ValueError where none of them says, and for one that isn't above 0. Source: section 9.5.
    """
    facts = getattr(model, "facts", None)
    found = next((float(s) for s in (segment, getattr(model, "segment", None),
                                     getattr(facts, "segment", None)) if s is not None), None)
    if found is None or not 0 < found < math.inf:
        raise ValueError(f"segment is {found}; expected seconds above 0: pass segment=, "
                         f"{type(model).__name__} doesn't say how long its chunks are")
    return found

# %% [markdown]
# Now (9.2) for a whole song, as a loop. `begin` is where the first chunk starts: 0 here, and a little earlier with the shifts of section 9.6.

# %%
#| export
def overlap_add_chunks(model: nn.Module, x: Tensor, begin: int = 0, overlap: float = 0.25,
                       power: float = 1.0, segment: float | None = None) -> Tensor:
    """Separate in chunks and join them (eq. 9.2): (batch, channel, time) to its sources.

    begin: where the first chunk starts, 0 or before the audio. segment: seconds of a chunk, by
    default `segment_of` the model. Source: section 9.5.
    """
    length, stride = chunk_sizes(segment_of(model, segment), overlap, model.samplerate)
    weights = transition_weights(length, power).to(x)
    total = x.new_zeros(len(x), len(model.sources), x.shape[1], x.shape[-1] - begin)
    sums = x.new_zeros(x.shape[-1] - begin)
    for start in range(begin, x.shape[-1], stride):
        end = min(start + length, x.shape[-1])
        y = separate_chunk(model, x, start, end, segment)           # (batch, source, channel, time)
        total[..., start - begin:end - begin] += weights[:end - start] * y
        sums[start - begin:end - begin] += weights[:end - start]
    return (total / sums)[..., -begin:]

# %% [markdown]
# The ticks should be gone. The same count as in 9.2, at the same places and at those where the chunks now begin:

# %%
smooth = overlap_add_chunks(demucs_net, song.mixture[None])[0]
joined = torch.cat([torch.cat([jumps(y, length), jumps(y, chunk_sizes(1.5, 0.25, rate)[1])])
                    for y in (overlap_add_chunks(demucs_net, one.mixture[None])[0]
                              for one in songs)])
print(f"RMS step, in RMS steps of the stem: {float(at_cuts.square().mean().sqrt()):.1f} side by "
      f"side, {float(joined.square().mean().sqrt()):.1f} with overlap")
assert joined.square().mean().sqrt() < 0.5 * at_cuts.square().mean().sqrt()
listen(smooth[3, :, :9 * rate], rate, "vocals, chunks of 1.5 s with overlap")

# %% [markdown]
# **Channels.** A network has one or two; a song may have one, two or six. What fits is taken in groups: a network of one channel takes every channel alone, one of two takes pairs, and if a channel is left over it
# stands in for its missing partner, and what comes out twice is averaged. So a mono song can go through a stereo network, and comes out mono.

# %%
#| export
def channel_groups(x: Tensor, size: int) -> Tensor:
    """Audio (batch, channel, time) as groups of `size` channels: (batch * group, size, time).

    The last channel is repeated to fill the last group. Source: section 9.5.
    """
    x = torch.cat([x, x[:, -1:].expand(-1, -x.shape[1] % size, -1)], dim=1)
    return x.unflatten(1, (-1, size)).flatten(0, 1)


def joined_groups(y: Tensor, channels: int) -> Tensor:
    """Sources of groups (batch * group, source, size, time) as (batch, source, channels, time).

    The copies of a repeated channel are averaged. Source: section 9.5.
    """
    groups = -(-channels // y.shape[2])
    y = y.unflatten(0, (-1, groups)).transpose(1, 2).flatten(2, 3)  # (batch, source, all, time)
    return torch.cat([y[:, :, :channels - 1], y[:, :, channels - 1:].mean(2, keepdim=True)], dim=2)

# %% [markdown]
# Three channels through pairs: the third is paired with itself.

# %%
x = torch.arange(3.0).reshape(1, 3, 1)
print(channel_groups(x, 2)[..., 0].tolist())
doubled = torch.stack([channel_groups(x, 2), 10 * channel_groups(x, 2)], dim=1)  # two "sources"
assert joined_groups(doubled, 3).flatten().tolist() == [0, 1, 2, 0, 10, 20]

# %% [markdown]
# **Level.** Networks of the Demucs family bring every chunk they get to the same level. Official tools bring the *whole song* to deviation 1 first, from the mean of its channels, so that a soft chunk is also soft to the network; what comes out is brought back. For
# networks that normalise by themselves this changes nothing, for others it may:

# %%
#| export
@dataclass(frozen=True)
class SongLevel:
    """Mean and deviation of a song's mono mix, by which it is standardised."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, blocks: Iterable[Tensor]) -> "SongLevel":
        """The level of audio that comes in blocks (..., channel, time), deviation unbiased."""
        count, mean, squares = 0, 0.0, 0.0                          # squares: of what differs from mean
        for block in blocks:
            mono = block.double().mean(-2).flatten()
            n, centre = len(mono), float(mono.mean())
            squares += float((mono - centre).square().sum())
            squares += (centre - mean) ** 2 * count * n / (count + n)
            mean += (centre - mean) * n / (count + n)
            count += n
        return cls(mean, math.sqrt(squares / max(1, count - 1)) + 1e-8)

    def standardise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation

    def undo(self, y: Tensor) -> Tensor:
        return y * self.deviation + self.mean

# %% [markdown]
# The sums are put together block by block: for two parts with $n_1, n_2$ samples and means $\mu_1, \mu_2$, the squared differences add up to $S_1 + S_2 + (\mu_1 - \mu_2)^2\, n_1 n_2 / (n_1 + n_2)$. So nobody needs the whole song at once, which section 9.10 will use.

# %%
whole = SongLevel.of([song.mixture])
pieces = SongLevel.of(song.mixture.split(1000, dim=-1))
mono = song.mixture.mean(0)
assert abs(whole.deviation - pieces.deviation) < 1e-9 and abs(whole.mean - pieces.mean) < 1e-9
assert abs(whole.deviation / float(mono.double().std()) - 1) < 1e-5

# %% [markdown]
# ## 9.6 Shifts
#
# Chapter 6 shifted the song by up to half a second, separated, shifted back, and averaged. With chunks a shift does one more thing: the borders fall elsewhere each time. We start the first chunk $e$ samples before the song,
#
# $$ \hat s = \frac1M \sum_{m=1}^{M} \text{separate}\big(x \text{ from } -e_m\big), \qquad e_m \text{ uniform in } 0 \dots 0.5\,\text{s}. \tag{9.3} $$

# %%
#| export
def first_chunks(model: nn.Module, shifts: int, generator: torch.Generator | None = None,
                 max_shift: int | None = None) -> list[int]:
    """Where the first chunk of each pass begins: [0] without shifts, else `shifts` of them from
    -max_shift to 0 samples, max_shift by default half a second. ValueError for negative numbers.
    Source: section 9.6.
    """
    if max_shift is None:
        max_shift = model.samplerate // 2
    if shifts < 0 or max_shift < 0:
        raise ValueError(f"shifts is {shifts} and max_shift {max_shift}; expected both >= 0")
    draw = lambda: -int(torch.randint(max_shift + 1, (), generator=generator))
    return [draw() for _ in range(shifts)] or [0]

# %% [markdown]
# What that is worth, and what it costs, `course experiment separating` has measured on the band's test songs; cost counts network passes.

# %%
def by_song(table, **wanted):
    """SDR of the rows of a table that have these values: (song, stem)."""
    rows = [row for row in results(table) if all(row[k] == str(v) for k, v in wanted.items())]
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in rows])

counts = list(dict.fromkeys(row["shifts"] for row in results("shifts")))
plain = {name: by_song("shifts", model=name, shifts=0) for name in ("demucs_band", "hdemucs_band")}
show_table([[name, int(count), max(1, int(count)), float(by_song("shifts", model=name,
             shifts=count).nanmean()), mean_interval((by_song("shifts", model=name, shifts=count)
                                                      - plain[name]).nanmean(1))]
            for name in plain for count in counts if count != "0"],
           ["network", "shifts", "cost", "SDR, dB", "gain, dB"],
           digits={"SDR, dB": 2, "gain, dB": 3},
           caption=f"{len(plain['demucs_band'])} songs; gain over no shift, paired, with 95% interval.")

# %% [markdown]
# ## 9.7 Bags
#
# Several networks that learned apart make different mistakes, and the mean of their estimates has less of each. A **bag** weights its networks by source: if $\hat s_{ij}$ is source $j$ by network $i$,
#
# $$ \hat s_j = \frac{\sum_i a_{ij}\, \hat s_{ij}}{\sum_i a_{ij}}. \tag{9.4} $$
#
# With equal weights that is the mean (`repro_mdx_a` of the official packages); with $a_{ij}$ the identity every network does the source that it was tuned for (`htdemucs_ft`).

# %%
#| export
class Bag(nn.Module):
    """Networks whose estimates are averaged with weights by source (eq. 9.4); see `separate`.

    models: with equal sources, rate and channels. weights: (model, source), >= 0, by default 1;
    every source needs one above 0. segment: seconds of a chunk for all of them, by default each
    has its own. ValueError where something doesn't fit. Source: section 9.7.
    """

    def __init__(self, models: Sequence[nn.Module], weights: Sequence[Sequence[float]] | None = None,
                 segment: float | None = None):
        super().__init__()
        models = list(models)
        facts = [(tuple(m.sources), m.samplerate, m.audio_channels) for m in models]
        if len(set(facts)) != 1:
            raise ValueError(f"models have (sources, rate, channels) {sorted(set(facts)) or 'none'};"
                             " expected one or more models, all alike")
        self.sources, self.samplerate, self.audio_channels = facts[0]
        self.models, self.segment = nn.ModuleList(models), segment
        if weights is None:
            weights = [[1.0] * len(self.sources)] * len(models)
        table = torch.as_tensor(weights, dtype=torch.float64)
        if (table.shape != (len(models), len(self.sources)) or not table.isfinite().all()
                or (table < 0).any() or (table.sum(0) == 0).any()):
            raise ValueError(f"weights are {weights}; expected numbers >= 0 for {len(models)} models"
                             f" and {len(self.sources)} sources, none of them without any")
        self.weights = table.tolist()

    def forward(self, mix: Tensor) -> Tensor:
        raise ValueError("a bag has no forward of its own; call `separate` with it")

# %% [markdown]
# `members` gives a list of (network, its share of every source), of a single network too:

# %%
#| export
def members(model: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """The networks of a bag with their shares by source, which sum to 1; of another model itself."""
    if not isinstance(model, Bag):
        return [(model, torch.ones(len(model.sources)))]
    weights = torch.tensor(model.weights, dtype=torch.float64)
    return list(zip(model.models, (weights / weights.sum(0)).float()))

# %% [markdown]
# Now everything is there for the function that the rest of the course calls. Networks, shifts, chunks: three loops, the last of which is `overlap_add_chunks`.

# %%
#| export
def separate(model: nn.Module, mixture: Tensor, *, shifts: int = 0, split: bool = True,
             overlap: float = 0.25, transition_power: float = 1.0, segment: float | None = None,
             standardise: bool = False, max_shift: int | None = None,
             generator: torch.Generator | None = None) -> Tensor:
    """Separate audio of any length with a network from waveform to waveforms, or a `Bag`.

    mixture: (batch, channel, time) or (channel, time), any float type, rate and channels: see
    `channel_groups`. shifts: 0, or how many shifted passes are averaged, of at most max_shift
    samples (half a second). split: in chunks of `segment` seconds (default: the model's) with
    overlap and transition_power; else all at once. standardise: bring each song to its own
    `SongLevel` first. Returns (batch, source, channel, time), or without batch, computed in the
    model's type, given in the mixture's. ValueError for other shapes, no samples and NaN. Equals
    apply_model of the package demucs with equal shifts. Source: section 9.7.
    """
    check_audio(mixture=mixture)
    if mixture.ndim == 2:
        mixture = mixture[None]
        return separate(model, mixture, shifts=shifts, split=split, overlap=overlap,
                        transition_power=transition_power, segment=segment,
                        standardise=standardise, max_shift=max_shift, generator=generator)[0]
    _check_mixture(mixture)
    if standardise:
        levels = [SongLevel.of([one]) for one in mixture]
        mixture = torch.stack([level.standardise(one) for level, one in zip(levels, mixture)])
    first = next(model.parameters())
    x = channel_groups(mixture.to(first), model.audio_channels)
    total = 0.0
    for one, share in members(model):
        seconds = segment or getattr(model, "segment", None) if isinstance(model, Bag) else segment
        begins = first_chunks(one, shifts, generator, max_shift)
        passes = [overlap_add_chunks(one, x, begin, overlap, transition_power, seconds) if split
                  else separate_chunk(one, x, begin, x.shape[-1], seconds)[..., -begin:]
                  for begin in begins]
        total = total + share[:, None, None].to(x) * (sum(passes) / len(passes))
    y = joined_groups(total, mixture.shape[1]).to(mixture)
    return torch.stack([level.undo(one) for level, one in zip(levels, y)]) if standardise else y

# %% [markdown]
# It refuses what can't be separated by name:

# %%
#| export
def _check_mixture(mixture: Tensor) -> None:
    if mixture.ndim != 3 or 0 in mixture.shape:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (batch, channel, "
                         "time) or (channel, time) with at least one sample")
    if not mixture.isfinite().all():
        raise ValueError("mixture holds NaN or infinity; expected finite samples in [-1, 1]")

# %% [markdown]
# Chunks of the whole length, no overlap to speak of: that must be one pass. And two equal networks in a bag are one:

# %%
with torch.no_grad():
    one_pass = separate(demucs_net, song.mixture, split=False)
    long_chunk = separate(demucs_net, song.mixture, segment=2 * song.seconds)
twice = separate(Bag([demucs_net, demucs_net], [[1, 2, 0, 1], [3, 1, 1, 0]]), song.mixture)
assert torch.allclose(one_pass, long_chunk, atol=1e-6)
assert torch.allclose(twice, separate(demucs_net, song.mixture), atol=1e-6)
print("one pass of", one_pass.shape[-1], "samples, and a bag of twins:", tuple(twice.shape))

# %% [markdown]
# The tests compare `separate` with the package's `apply_model`: small networks of both packages with equal weights, in chunks and at once, with overlaps and powers, equal shifts, bags with weights, many lengths; they agree to five digits. Now the bag of our two networks. Which weights?
# Chapter 7's hybrid is the weaker one, so equal weights may well be worse than the better network alone. For each stem, the best of eleven weights on the *validation* songs, then scored on the test songs:

# %%
bag_rows = results("bags")
bag_of = lambda split, weight: by_song("bags", split=split, weight=weight)
grid = sorted({row["weight"] for row in bag_rows}, key=float)
valid_scores = torch.stack([bag_of("valid", w).nanmean(0) for w in grid])   # (weight, stem)
chosen = valid_scores.argmax(0)                                             # (stem,)
picked = torch.stack([bag_of("test", grid[int(i)])[:, j] for j, i in enumerate(chosen)], 1)
alone, other_alone, equal = (bag_of("test", w) for w in ("1", "0", "0.5"))
show_table([["Demucs alone", *alone.nanmean(0).tolist(), None],
            ["Hybrid Demucs alone", *other_alone.nanmean(0).tolist(),
             mean_interval((other_alone - alone).nanmean(1))],
            ["bag, equal weights", *equal.nanmean(0).tolist(),
             mean_interval((equal - alone).nanmean(1))],
            ["bag, weights by stem", *picked.nanmean(0).tolist(),
             mean_interval((picked - alone).nanmean(1))]],
           ["network", *STEMS, "less Demucs alone"],
           caption=f"SDR in dB, {len(alone)} test songs; paired difference with 95% interval. "
           f"Weights of Demucs by stem: {', '.join(grid[int(i)] for i in chosen)}.")

# %% [markdown]
# Two weak networks of different kinds make a better one, at the cost of running both.

# %% [markdown]
# ## 9.8 Stems that add up
#
# The song is the sum of its stems; the estimates of a network need not be. What is left,
#
# $$ r = x - \sum_j \hat s_j, \tag{9.5} $$
#
# is music that nobody got. Whoever will mix the stems again wants none to be lost. Share it out: $\hat s_j' = \hat s_j + a_j r$ with $\sum_j a_j = 1$. Which shares? With $e_j = s_j - \hat s_j$ the errors of all stems sum to $r$, since the true stems add up. With equal shares $a_j = 1/J$,
#
# $$ \sum_j \lVert e_j - r/J \rVert^2 = \sum_j \lVert e_j \rVert^2 - \frac2J \Big\langle \sum_j e_j, r \Big\rangle + \frac{\lVert r \rVert^2}{J}
#    = \sum_j \lVert e_j \rVert^2 - \frac{\lVert r \rVert^2}{J}. \tag{9.6} $$
#
# The error of all stems together **falls, always**, by exactly a $J$-th of the residual's energy. Geometry says why: we project onto the estimates that add up, and the truth is one of them. A single stem may lose, though.

# %%
#| export
def shared_residual(sources: Tensor, mixture: Tensor, shares: Tensor | None = None) -> Tensor:
    """Sources (..., source, channel, time) that sum to the mixture (..., channel, time) (eq. 9.5).

    shares: of the residual that each source gets, (source,), summing to 1; by default equal.
    ValueError for others. Source: section 9.8.
    """
    count = sources.shape[-3]
    shares = torch.full((count,), 1 / count) if shares is None else torch.as_tensor(shares)
    if shares.shape != (count,) or abs(float(shares.sum()) - 1) > 1e-5:
        raise ValueError(f"shares is {shares.tolist()}; expected {count} numbers that sum to 1")
    residual = (mixture - sources.sum(-3)).unsqueeze(-3)            # (..., 1, channel, time)
    return sources + shares.to(sources)[:, None, None] * residual

# %% [markdown]
# The theorem, on the first song:

# %%
estimate, truth = smooth, song.sources(STEMS)
shared = shared_residual(estimate, song.mixture)
energy = lambda y: float(y.double().square().sum())
residual = energy(song.mixture - estimate.sum(0))
assert torch.allclose(shared.sum(0), song.mixture, atol=1e-5)
fall = energy(estimate - truth) - energy(shared - truth)
print(f"the error falls by {fall:.2f}, a quarter of the residual is {residual / 4:.2f}")
assert abs(fall - residual / 4) < 1e-3 * residual

# %% [markdown]
# And stem by stem, over the test songs:

# %%
before, after = (by_song("sum_to_mix", kind=kind) for kind in ("as they are", "shared"))
show_table([[stem, float(before[:, j].nanmean()), float(after[:, j].nanmean()),
             mean_interval(after[:, j] - before[:, j])] for j, stem in enumerate(STEMS)],
           ["stem", "as they are, dB", "shared, dB", "difference, dB"], digits=2,
           caption=f"SDR of Demucs on {len(before)} songs, paired difference with 95% interval.")

# %% [markdown]
# <details><summary>Quick question: a network works at 22 kHz, the song has 44.1 kHz. What is in the residual, and where does it go?</summary>
#
# Everything above 11 kHz, which the network never saw. Equal shares put a quarter of the cymbals' treble into the vocals. It is added up rightly and sounds odd; for such networks the option is off unless asked for.
# </details>

# %% [markdown]
# ## 9.9 Two stems
#
# For karaoke one wants two: the voice, and all else. There are two ways to make the rest: **add** the other stems, or **subtract** the voice from the song. Subtracting leaves what nobody got in the accompaniment; with stems that add up both are the same.

# %%
#| export
def two_stems(sources: Tensor, mixture: Tensor, index: int, method: str = "minus") -> Tensor:
    """One source and everything else: (..., 2, channel, time).

    sources: (..., source, channel, time). mixture: (..., channel, time). index: of the source.
    method: "minus", the rest is the mixture less the source; "add": it is the sum of the others.
    ValueError for another method. Source: section 9.9.
    """
    if method not in ("minus", "add"):
        raise ValueError(f'method is {method!r}; expected "minus" or "add"')
    one = sources[..., index, :, :]
    rest = mixture - one if method == "minus" else sources.sum(-3) - one
    return torch.stack([one, rest], dim=-3)

# %% [markdown]
# Which is better, measured on the accompaniment of the test songs:

# %%
rest = {method: torch.tensor([float(row["accompaniment"]) for row in results("two_stems")
                              if row["method"] == method]) for method in ("minus", "add", "song")}
show_table([[name, float(rest[key].nanmean()), None if key == "song" else
             mean_interval(rest[key] - rest["song"])] for key, name in
            (("song", "the song as it is"), ("minus", "song minus voice"), ("add", "other stems added"))],
           ["accompaniment", "SDR, dB", "over the song"], digits=2,
           caption=f"{len(rest['minus'])} songs, Demucs; paired with 95% interval.")
pair = two_stems(smooth, song.mixture, STEMS.index("vocals"))
listen(pair[1, :, :9 * rate], rate, "accompaniment: song minus voice")

# %% [markdown]
# ## 9.10 A separator that streams
#
# `separate` keeps the whole song, four times as much of stems, and sums. An hour in stereo is 1.3 GB of song and 5 GB of stems in floats. But a chunk needs only what is around it, and as soon as the next chunk has begun, everything before it is finished. So: read blocks as they are needed, keep the overlap, give away what is done.

# %%
d = Diagram()
disk = d.block("song on disk", "(channel, time)", kind="data")
held = d.block("held audio", "(1, channel, a chunk and\nits surroundings)", after=disk, label="blocks")
net = d.block("network", "(1, source, channel, N)", after=held, kind="trained", label="window")
pend = d.block("pending sums", "(1, source, channel, N - H)", after=net, label="x weights")
stems = d.block("stems on disk", "(source, channel, time)", after=pend, kind="data", label="finished")
show(d.draw(), "What a streaming separator holds: nothing grows with the song.", d.in_words())

# %% [markdown]
# The left side first: audio of which a window is asked for, further and further on.

# %%
#| export
class SlidingAudio:
    """Audio that comes in blocks, of which only the part that is still needed is held.

    blocks: of (..., time), in order. length: of all together. window(first, length): as `window`
    of the whole; first must not lie before what was forgotten. ValueError where the blocks end
    early. Source: section 9.10.
    """

    def __init__(self, blocks: Iterable[Tensor], length: int):
        self.blocks, self.length = iter(blocks), length
        self.first, self.held = 0, None                             # held: samples from first on

    def window(self, first: int, length: int) -> Tensor:
        end = min(first + length, self.length)
        while self.held is None or self.first + self.held.shape[-1] < end:
            block = next(self.blocks, None)
            if block is None:
                raise ValueError(f"the audio ends before its sample {end} of {self.length}")
            self.held = block if self.held is None else torch.cat([self.held, block], dim=-1)
        return window(self.held, first - self.first, length)

    def forget(self, before: int) -> None:
        """Let go of the samples before this one."""
        if self.held is not None and before > self.first:
            self.held = self.held[..., before - self.first:].clone()
            self.first = before

# %% [markdown]
# (`clone`, or the whole old block would stay alive behind the view.) The same windows as from the whole:

# %%
audio = SlidingAudio(torch.arange(100.0).split(7), 100)
for first in (-3, 5, 40, 96):
    assert torch.equal(audio.window(first, 8), window(torch.arange(100.0), first, 8))
    audio.forget(first)
print("held at the end:", audio.held.tolist())

# %% [markdown]
# The right side: pieces overlap, are added, and what is complete is taken from the front.

# %%
#| export
class SlidingSum:
    """A sum of pieces (..., time) that lie anywhere from sample 0 on; its front is taken away.

    add(at, piece): what lies before sample 0, or before what was taken, is left out. take(until):
    everything up to that sample. Source: section 9.10.
    """

    def __init__(self):
        self.first, self.total = 0, None

    def add(self, at: int, piece: Tensor) -> None:
        piece, at = piece[..., max(0, self.first - at):], max(0, at - self.first)
        if self.total is None:
            self.total = piece[..., :0]
        more = at + piece.shape[-1] - self.total.shape[-1]
        self.total = F.pad(self.total, (0, max(0, more)))
        self.total[..., at:at + piece.shape[-1]] += piece

    def take(self, until: int) -> Tensor:
        count = max(0, until - self.first)
        done, self.total = self.total[..., :count], self.total[..., count:].clone()
        self.first += count
        return done

# %% [markdown]
# Two pieces that share a sample:

# %%
sums = SlidingSum()
sums.add(-1, torch.tensor([9.0, 1, 2, 3]))
front = sums.take(2)
sums.add(2, torch.tensor([10.0, 4]))
print(front.tolist(), sums.take(4).tolist())
assert front.tolist() == [1, 2]

# %% [markdown]
# In between, one **pass** is one network with one shift. It knows where its next chunk begins, and what earlier chunks have left behind there:

# %%
#| export
class _Pass:
    """One network, one shift: gives one finished piece after the other (section 9.10)."""

    def __init__(self, model, share, begin, length, overlap, power, segment):
        self.model, self.share, self.segment = model, share, segment
        self.at, self.end, self.pending = begin, length, None
        self.size, self.stride = chunk_sizes(segment_of(model, segment), overlap, model.samplerate)
        self.weights = transition_weights(self.size, power)
        self.longest = pass_length(model, self.size, segment)       # that the network ever hears
        self.chunks = -(-(length - begin) // self.stride)

    @torch.no_grad()
    def step(self, audio: SlidingAudio) -> tuple[int, Tensor]:
        """Separate the next chunk: where the finished piece begins, and the piece."""
        size, at = min(self.size, self.end - self.at), self.at
        total = pass_length(self.model, size, self.segment)
        y = center_trim(self.model(audio.window(at - (total - size) // 2, total)), size)
        sums = self.weights[:size].to(y)
        y = sums * y
        if self.pending is not None:
            left, left_sums = self.pending
            y = y + F.pad(left, (0, size - left.shape[-1]))
            sums = sums + F.pad(left_sums, (0, size - len(left_sums)))
        done = min(self.stride, size)
        self.pending, self.at = (y[..., done:].clone(), sums[done:]), at + done
        return at, self.share.to(y)[:, None, None] * y[..., :done] / sums[:done]

# %% [markdown]
# Several passes run side by side: always the one that is farthest behind takes the next step. What all of them have passed is finished.

# %%
#| export
def separated_blocks(model: nn.Module, blocks: Iterable[Tensor], length: int, *, shifts: int = 0,
                     overlap: float = 0.25, transition_power: float = 1.0,
                     segment: float | None = None, max_shift: int | None = None,
                     generator: torch.Generator | None = None,
                     text: str | None = None) -> Iterator[Tensor]:
    """`separate` of one song that comes in blocks: pieces (source, channel, time) of any lengths.

    blocks: (channel, time), in order. length: samples of all. text: show progress under this name.
    What is given, joined, equals `separate` up to rounding; memory doesn't grow with the length.
    ValueError as `separate`, and where the blocks end early. Source: section 9.10.
    """
    first, passes, channels = next(model.parameters()), [], [0]
    for one, share in members(model):
        seconds = segment or model.segment if isinstance(model, Bag) else segment
        begins = first_chunks(one, shifts, generator, max_shift)
        passes += [_Pass(one, share / len(begins), begin, length, overlap, transition_power,
                         seconds) for begin in begins]

    def grouped() -> Iterator[Tensor]:
        for block in blocks:
            _check_mixture(block[None])
            channels[0] = len(block)
            yield channel_groups(block[None].to(first), model.audio_channels)

    audio, sums = SlidingAudio(grouped(), length), SlidingSum()
    steps = range(sum(one.chunks for one in passes))
    for _ in progress(steps, text) if text else steps:
        behind = min((one for one in passes if one.at < length), key=lambda one: one.at)
        sums.add(*behind.step(audio))
        audio.forget(min(one.at - one.longest for one in passes))
        yield joined_groups(sums.take(min(one.at for one in passes)), channels[0])[0]

# %% [markdown]
# The check that matters: streaming, from blocks of odd sizes, is `separate`, with shifts and a bag as well. Each draws its shifts from a generator of the same seed.

# %%
bag = Bag([demucs_net, hybrid_net], [[2, 2, 1, 1], [1, 1, 1, 1]])
options = dict(shifts=2, overlap=0.4, transition_power=2.0, segment=2.0)
seeded = lambda: torch.Generator().manual_seed(3)
x = song.mixture[:, :8 * rate + 17].repeat(2, 1) * torch.tensor([[1.0], [-0.5]])
at_once = separate(bag, x, generator=seeded(), **options)
streamed = torch.cat(list(separated_blocks(bag, x.split(4567, -1), x.shape[-1],
                                           generator=seeded(), **options)), dim=-1)
print("largest difference below 1e-6:", bool((streamed - at_once).abs().max() < 1e-6))
assert streamed.shape == at_once.shape and (streamed - at_once).abs().max() < 1e-6

# %% [markdown]
# ## 9.11 From disk to disk
#
# A song on disk has its own rate and its own number of channels. Blocks are read, resampled as they come (`resampled_blocks`: each block waits for the few samples that the filter needs from the next), standardised with the level of the whole song, which takes a first pass over the file, separated, and brought back.
#
# What about the files that are written? If the run is stopped half way, there must be no `vocals.wav` that ends in the middle of a line. So each stem is written to a file that nobody takes for a result, and all get their names at the very end.

# %%
#| export
FORMATS = {"wav": {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}, "flac": {16: "PCM_16", 24: "PCM_24"},
           "mp3": {16: "MPEG_LAYER_III"}}                           # format -> bits -> subtype
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class StemFiles:
    """Audio files written block by block, which get their names when all are whole.

    paths: where they go, one a source, in one folder; their suffix, wav, flac or mp3, is the
    format. bits: 16, 24 or 32 (float). Use with `with`: after an error, or an interruption,
    nothing is left. write: (source, channel, time); values beyond [-1, 1] are clipped unless bits
    is 32, and counted in `clipped`. ValueError for what a format can't hold; OSError where the
    folder can't be written to. Source: section 9.11.
    """

    def __init__(self, paths: Sequence[Path], rate: int, channels: int, bits: int = 16,
                 frames: int = 0):
        self.paths, self.bits, self.clipped, self.files = list(paths), bits, 0, []
        kind = check_format(self.paths[0].suffix[1:], bits, rate, channels)
        large = kind[0] == "WAV" and frames * channels * bits // 8 > 2 ** 32 - 2 ** 16
        self.kind = dict(format="RF64" if large else kind[0], subtype=kind[1], samplerate=rate,
                         channels=channels)
        self.unfinished = [p.with_name(f".{p.name}.unfinished") for p in self.paths]

    def __enter__(self) -> "StemFiles":
        self.made = [folder for folder in (self.paths[0].parent, *self.paths[0].parent.parents)
                     if not folder.exists()]
        try:
            self.paths[0].parent.mkdir(parents=True, exist_ok=True)
            for path in self.unfinished:
                self.files.append(soundfile.SoundFile(for_libsndfile(path), "w", **self.kind))
        except (OSError, soundfile.LibsndfileError) as error:
            self.__exit__(type(error), error, None)
            raise OSError(f"{shown(self.paths[0].parent)}: can't write there ({error})") from error
        return self

    def write(self, sources: Tensor) -> None:
        if not sources.isfinite().all():
            raise ValueError("the separator gave NaN or infinity; nothing is kept")
        self.clipped += 0 if self.bits == 32 else int((sources.abs() > 1).sum())
        for file, one in zip(self.files, sources):
            try:
                file.write(one.T.cpu().numpy())                     # (time, channel)
            except (OSError, soundfile.LibsndfileError) as error:
                raise OSError(f"{shown(self.paths[0].parent)}: writing failed ({error}); is the "
                              "disk full?") from error

    def __exit__(self, kind, error, trace) -> None:
        for file in self.files:
            with contextlib.suppress(Exception if kind else ()):    # a full disk shows here, too
                file.close()
        if kind is None:
            for unfinished, path in zip(self.unfinished, self.paths):
                os.replace(unfinished, path)
            return
        for path in self.unfinished:
            with contextlib.suppress(OSError):
                path.unlink()
        for folder in self.made:
            with contextlib.suppress(OSError):                      # somebody else's files are there
                folder.rmdir()

# %% [markdown]
# What a format can hold is checked before an hour of work, not after it:

# %%
#| export
def check_format(name: str, bits: int, rate: int, channels: int) -> tuple[str, str]:
    """libsndfile's names of format and subtype; ValueError for what a format can't hold.

    name: wav, flac or mp3. bits: 16, 24 or 32 (float). Source: section 9.11.
    """
    if name not in FORMATS or bits not in FORMATS[name]:
        known = "; ".join(f"{key}: {', '.join(map(str, kinds))}" for key, kinds in FORMATS.items())
        raise ValueError(f"format is {name!r} with {bits} bits; expected one of {known}")
    if name == "mp3" and (channels > 2 or rate not in MP3_RATES):
        raise ValueError(f"MP3 holds one or two channels at {', '.join(map(str, MP3_RATES))} Hz; "
                         f"the song has {channels} at {rate} Hz: choose wav or flac")
    if name == "flac" and (channels > 8 or rate > 655_350):
        raise ValueError(f"FLAC holds up to 8 channels and 655350 Hz; the song has {channels} at "
                         f"{rate} Hz: choose wav")
    return name.upper(), FORMATS[name][bits]

# %% [markdown]
# An interruption, tried: after two blocks something goes wrong, and nothing is left.

# %%
with tempfile.TemporaryDirectory() as folder:
    paths = [Path(folder) / "song" / f"{stem}.wav" for stem in ("vocals", "drums")]
    try:
        with StemFiles(paths, 8000, 1) as files:
            files.write(torch.zeros(2, 1, 500))
            files.write(torch.full((2, 1, 500), math.nan))
    except ValueError as error:
        print(error, "| files left:", len(list(Path(folder).rglob("*"))))
    assert not list(Path(folder).iterdir())
    with StemFiles(paths, 8000, 1) as files:
        files.write(torch.full((2, 1, 500), 1.5))
    print(sorted(path.name for path in paths[0].parent.iterdir()), files.clipped, "samples clipped")

# %% [markdown]
# Not every network is one from waveform to waveform. Open-Unmix (chapter 4) goes by way of a spectrogram; a thin wrapper makes it look like the others:

# %%
#| export
class SpectrogramModel(nn.Module):
    """A network of chapter 4's kind as one from waveform to waveforms, for `separate`.

    model: with facts (`load_trained`), as `course_lib.open_unmix.separate` takes it. segment:
    seconds of a chunk; None: four times what it learned on. ValueError without facts. Source:
    section 9.11.
    """

    def __init__(self, model: nn.Module, segment: float | None = None):
        super().__init__()
        facts = getattr(model, "facts", None)
        if facts is None or facts.rate is None:
            raise ValueError(f"{type(model).__name__} doesn't say its rate; load it by load_trained")
        self.model, self.sources, self.samplerate = model, facts.stems or model.sources, facts.rate
        self.audio_channels, self.facts = model.nb_channels, facts
        self.segment = segment or 4 * (facts.segment or 5.0)

    def valid_length(self, length: int) -> int:
        return max(length, open_unmix.stft_sizes(self.model)[0])

    def forward(self, mix: Tensor) -> Tensor:
        return open_unmix.separate(self.model, mix)

# %% [markdown]
# A **song separator** is a model with the way it is applied. It is also what the course's scoreboard calls a separator: called with audio and its rate, it gives sources.

# %%
#| export
DEFAULT_MODEL = "open_unmix_band"                                   # the best that comes with the course


@dataclass
class SongSeparator:
    """A model and how it is applied to songs: a separator for the course's scoreboard, and files.

    model: as `separate` takes it, a `Bag` or a spectrogram model too. Other fields as in
    `separate`; shifts are drawn anew for every song, from the seed. Source: section 9.11.
    """

    model: nn.Module
    shifts: int = 0
    overlap: float = 0.25
    transition_power: float = 1.0
    segment: float | None = None
    standardise: bool = True
    seed: int = 0

    def __post_init__(self):
        if not hasattr(self.model, "audio_channels"):
            self.model = SpectrogramModel(self.model)
        for one, _ in members(self.model):                          # what is asked can be done
            size, _ = chunk_sizes(segment_of(one, self.segment), self.overlap, one.samplerate)
            pass_length(one, size, self.segment)
        transition_weights(1, self.transition_power)
        first_chunks(self.model, self.shifts, torch.Generator())

    @property
    def stems(self) -> tuple[str, ...]:
        return tuple(self.model.sources)

    @property
    def rate(self) -> int:
        return int(self.model.samplerate)

    def options(self) -> dict:
        """What `separate` and `separated_blocks` are called with."""
        return dict(shifts=self.shifts, overlap=self.overlap, segment=self.segment,
                    transition_power=self.transition_power,
                    generator=torch.Generator().manual_seed(self.seed))

    def __call__(self, mixture: Tensor, rate: int) -> Tensor:
        if rate != self.rate:
            raise ValueError(f"rate is {rate} Hz; this model works at {self.rate}: resample first")
        return separate(self.model, mixture, standardise=self.standardise, **self.options())

# %% [markdown]
# By its name, one that comes with the course:

# %%
#| export
def load_separator(name: str | Path | Sequence[str] = DEFAULT_MODEL, **options) -> SongSeparator:
    """A `SongSeparator` of a trained model, by the name or path that `load_trained` takes.

    options: fields of `SongSeparator`. Source: section 9.11.
    """
    return SongSeparator(load_trained(name), **options)

# %% [markdown]
# And the pipeline itself, a chain of generators. None of them does anything until the last one is asked for the next block.

# %%
#| export
def separated_file(separator: SongSeparator, header: AudioHeader,
                   text: str | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """A song on disk in pieces: (sources (source, channel, time), mixture (channel, time)).

    Both at the song's rate, with its channels; all pieces together are as long as the song.
    ValueError where the file is damaged. Source: section 9.11.
    """
    own, rate, frames = separator.rate, header.rate, header.frames
    resampled = lambda: resampled_blocks(read_blocks(header), rate, own)
    level = SongLevel.of(resampled()) if separator.standardise else SongLevel()
    found = separated_blocks(separator.model, map(level.standardise, resampled()),
                             resampled_frames(frames, rate, own), text=text, **separator.options())
    song, done = SlidingAudio(read_blocks(header), frames), 0
    for y in resampled_blocks(map(level.undo, found), own, rate):
        y = y[..., :frames - done]
        if y.shape[-1]:
            yield y, song.window(done, y.shape[-1])
            done += y.shape[-1]
            song.forget(done)

# %% [markdown]
# Last, the stems of a song go to `FOLDER/SONG/STEM.wav`: a folder that `open_tracks("folder", ...)` reads.

# %%
#| export
@dataclass(frozen=True)
class SeparatedSong:
    """Where the stems of a song lie, and how many of their samples were clipped."""

    stems: Mapping[str, Path]
    clipped: int


def stem_paths(song: Path, folder: Path, stems: Sequence[str], format: str = "wav",
               only: str | None = None) -> dict[str, Path]:
    """Where the stems of a song go: FOLDER/SONG/STEM.FORMAT; with `only` that and accompaniment."""
    if only is not None and only not in stems:
        raise ValueError(f"stem is {only!r}; this model gives {', '.join(stems)}")
    names = stems if only is None else (only, "accompaniment" if only == "vocals" else f"no_{only}")
    return {name: Path(folder) / song.stem / f"{name}.{format}" for name in names}


def separate_file(separator: SongSeparator, song: str | Path, folder: str | Path, *,
                  format: str = "wav", bits: int = 16, only: str | None = None,
                  method: str = "minus", sum_to_mix: bool = False,
                  text: str | None = None) -> SeparatedSong:
    """Separate a song on disk; its stems appear in FOLDER/SONG when all are whole.

    song: a file that soundfile reads, any rate, channels, length. format, bits: see `StemFiles`.
    only: two stems, this one and the rest, by method (`two_stems`). sum_to_mix: share the residual
    out (`shared_residual`). Stems have the song's rate, channels and length; existing ones are
    replaced. Memory doesn't grow with the song. Raises FileNotFoundError for no such file,
    ValueError for one that isn't audio or is damaged, and for what a format can't hold; OSError
    where the folder can't be written to. Source: section 9.11.
    """
    header = read_header(song)
    paths = stem_paths(Path(song), Path(folder), separator.stems, format, only)
    if header.path.resolve() in {path.resolve() for path in paths.values()}:
        raise ValueError(f"{shown(song)}: a stem would replace the song itself; choose another folder")
    with StemFiles(list(paths.values()), header.rate, header.channels, bits, header.frames) as files:
        for y, x in separated_file(separator, header, text):
            y = shared_residual(y, x) if sum_to_mix else y
            if only is not None:
                y = two_stems(y, x, separator.stems.index(only), method)
            files.write(y)
    return SeparatedSong(paths, files.clipped)

# %% [markdown]
# The whole chain, tried on a stereo song at 44.1 kHz on disk, with the network that works at 22,050 Hz in mono. Each channel goes on its own; above 11 kHz nothing comes back.

# %%
with tempfile.TemporaryDirectory() as folder:
    place = Path(folder) / "a song.wav"
    stereo = open_tracks("band", "test", count=1)[0].excerpt(4.0, 6.0)
    soundfile.write(place, stereo.mixture.T.numpy(), stereo.rate)
    found = separate_file(load_separator("demucs_band"), place, folder, sum_to_mix=True)
    for stem, path in found.stems.items():
        info = soundfile.info(path)
        print(f"{path.parent.name}/{path.name}: {info.channels} channels, {info.samplerate} Hz, "
              f"{info.frames} of {stereo.frames} samples")
        assert info.frames == stereo.frames and info.samplerate == stereo.rate

# %% [markdown]
# On the command line that is
#
# ```
# uv run course separate "my songs/" one_more.mp3 -o stems
# uv run course separate song.flac -o karaoke --two-stems vocals --format mp3 --shifts 2
# ```
#
# with `--model` for another network, `--sum-to-mix`, `--overlap`, `--segment`, `--bits 32` for stems that never clip. A song that can't be read costs only itself: the others go on, and the command's exit status says that something failed.
#
# **What it costs.** `benchmarks/separating_memory.py` separates songs of one and of ten minutes with a small Demucs and equal weights, once with `separate_file`, once as the package does it, each in a process of its own:

# %%
memory = results("memory")
show_table([[row["what"], row["minutes"], float(row["peak_mb"]), float(row["cpu_seconds"])]
            for row in memory], ["", "minutes", "peak memory, MB", "processor seconds"], digits=0,
           caption="Stereo at 44.1 kHz, one thread; peak memory of the whole process, libraries "
           "included.")
peak = {(row["what"], row["minutes"]): float(row["peak_mb"]) for row in memory}
ours_grows = peak["separate_file", "10"] / peak["separate_file", "1"]
theirs_grows = peak["apply_model", "10"] / peak["apply_model", "1"]
print(f"from one to ten minutes: ours x {ours_grows:.2f}, the package's x {theirs_grows:.2f}")
assert ours_grows < 1.2 < theirs_grows

# %% [markdown]
# ## 9.13 Does a stem hold what its label says?
#
# Rouard, Massa and Défossez had 3500 songs in stems from artists, and labels of all kinds: a *bass* that is a bass drum, a *vocals* with the whole band in it. They kept 800 songs by letting a separator listen. The idea: a stem that holds only bass, given to the separator **as if it were a song**, must come out as bass. With stem $x_i$ and the separator's output $y_{ij}$ for source $j$,
#
# $$ P_{ij} = 10 \log_{10} \frac{\lVert y_{ij} \rVert^2}{\lVert x_i \rVert^2}, \tag{9.8} $$
#
# a clean stem has $P_{ii}$ near 0 dB and all others far below. Their rule: keep a song if every $P_{ii} > -10$ dB and every other $P_{ij} < -10$ dB.

# %%
#| export
def label_levels(model: nn.Module, stem: Tensor, **options) -> Tensor:
    """How loud each source comes out when a stem alone is separated: (source,) in dB (eq. 9.8).

    stem: (channel, time). options: as `separate`. 0 dB is the stem's own level; a silent stem gives
    NaN. Source: Rouard, Massa and Défossez 2023, section 4.1; section 9.13.
    """
    power = stem.square().sum()
    found = separate(model, stem, **options).square().sum((1, 2))   # (source,)
    return 10 * torch.log10(found / power) if power > 0 else torch.full_like(found, math.nan)

# %% [markdown]
# One song, its four stems, each alone:

# %%
P_ij = torch.stack([label_levels(demucs_net, song.stem(stem)) for stem in STEMS])
show_table([[stem, *row] for stem, row in zip(STEMS, P_ij.tolist())],
           ["stem", *(f"heard as {name}" for name in STEMS)], digits=0,
           caption="Levels in dB (9.8) of one song's stems by the committed Demucs.")
