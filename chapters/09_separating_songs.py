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
# - clean a collection of stems with a separator, export a network to other runtimes,
# - begin a network of six sources with one of four, and estimate what a full training costs.
#
# **You need** chapter 6 (`valid_length`, the shift trick) and chapter 1 (overlap-add); chapters 4 and 7 for the networks.
#
# **Time** <!-- minutes 09_separating_songs -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

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
P = setup("09_separating_songs", cpu=dict(songs=6, borders=48), gpu=dict(songs=20, borders=160),
          threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/separating.py`, and the command `course separate` stands on it.

# %%
#| export
import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor, nn
import course_lib.open_unmix as open_unmix
from course_lib.audio import check_audio
from course_lib.data import Track
from course_lib.data.audio_files import AudioHeader, read_blocks, read_header
from course_lib.data.resampling import resampled_blocks, resampled_frames
from course_lib.data.song_folders import read_own_song
from course_lib.demucs import center_trim
from course_lib.hdemucs import HybridEnds, padded_to_hops, standardised
from course_lib.paths import for_libsndfile, shown
from course_lib.progress import progress
from course_lib.spectral import song_sdr
from course_lib.training import load_trained
from course_lib.training.official_packages import RELEASES, fetch_official

# %% [markdown]
# The rest serves the chapter only.

# %%
import tempfile
import matplotlib.pyplot as plt
import numpy as np
import course_lib.training
from course_lib.data import SIX_STEMS, STEMS, open_tracks, recording
from course_lib.data.mono import mono_tracks
from course_lib.demucs import DemucsV2, padded_separation
from course_lib.hdemucs import HDemucs, aligned_istft, aligned_stft, complex_as_channels
from course_lib.notebook import (Diagram, listen, mean_interval, plot_spectrogram, show,
                                 show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
from course_lib.results import measured, published
from course_lib.spectral import hann_window, stft
from course_lib.training.official_packages import weight_licences

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
    """How many numbers the outputs of a network's convolutions are, for some seconds of audio."""
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
with torch.device("meta"), torch.no_grad():
    small = DemucsV2(STEMS, 1, 16, 5, resample=False, lstm_layers=0, rescale=0, samplerate=rate)
    large = DemucsV2(STEMS, lstm_layers=0, rescale=0)
    rows = [[f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds} s",
             *(4 * numbers_held(net, seconds) / 2 ** 30 for net in (small, large))]
            for seconds in (10, 60, 600)]
show_table(rows, ["audio", "small network, GiB", "published size, GiB"], digits=2,
           caption="Outputs of all convolutions. Not all are alive at once; the skips are.")
assert 55 < rows[2][2] / rows[0][2] < 65

# %% [markdown]
# The count grows with the length, and for the published size ten minutes would be tens of gigabytes. With attention (chapter 7) it is worse: its weights are a matrix of steps by steps,
# ten times the length is a hundred times the memory. There is a second reason to keep to short pieces: a network that learned on chunks of a few seconds has never seen more.
# An LSTM or an attention layer may do anything with ten minutes.
#
# So: cut the song into chunks, separate each, put them together.

# %% [markdown]
# ## 9.2 The cut is heard
#
# The obvious way first. Chunks of 1.5 s, the length that the network learned on, each by itself (chapter 6's `padded_separation`), one after the other:

# %%
def cut_and_joined(model, x, length):
    """Separate pieces of x (channel, time), each alone; what comes out, put side by side."""
    with torch.no_grad():
        pieces = [padded_separation(model, piece[None])[0] for piece in x.split(length, dim=-1)]
    return torch.cat(pieces, dim=-1)                                # (source, channel, time)

length = round(1.5 * rate)
hard = cut_and_joined(demucs_net, song.mixture, length)
listen(hard[1, :, :9 * rate], rate, "bass, chunks of 1.5 s side by side")

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
show(figure, "The estimates around one cut (grey line): two chunks that don't know of each other.",
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
           caption=f"RMS over {len(at_cuts)} cuts of {len(songs)} songs, in RMS steps of the stem.")
assert (at_cuts.square().mean(0) > elsewhere.square().mean(0))[:3].all()
assert at_cuts.square().mean() > 4 * elsewhere.square().mean()

# %% [markdown]
# At the cuts drums, bass and other jump several times as far as elsewhere: those are the ticks. (The vocals, of which there is little, hide theirs.) And they are only what is *heard*; a chunk's first and last moments are also separated worse, for there the network
# knows one side only. The cure has two parts: give each moment mostly to the chunk in whose middle it lies (section 9.3), and let the network hear more than the chunk (section 9.4).

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
for share in (both / both.sum(0)).tolist():
    print(*(f"{value:.2f}" for value in share))

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
                         "segment above 0, an overlap from 0 to below 1, chunks of some samples")
    return length, stride

# %% [markdown]
# What the powers look like, for 8 s with a quarter of overlap. Drawn is each chunk's share in the result:

# %%
N, H = chunk_sizes(8.0, 0.25, 100)
print(N, H)

# %% [markdown]
# Three chunks of that size:

# %%
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
    with torch.no_grad():
        y = model(window(x, start - (total - (end - start)) // 2, total))
    return center_trim(y, end - start)

# %% [markdown]
# Is it worth the trouble? Take chunks of 1.5 s from the middle of songs, once with zeros around, once with their neighbours, and give the network half a second more on either side in both cases. Then the error against the true stems, by the
# distance from the chunk's border.

# %%
margin, step = round(0.5 * rate), round(0.05 * rate)

def errors_at(track, start, kind):
    """Error of a chunk's estimate, all sources, in pieces of 50 ms: (piece,)."""
    x, end = track.mixture[None], start + length
    if kind == "zeros":
        x = F.pad(x[..., start:end], (start, x.shape[-1] - end))
    y = separate_chunk(demucs_net, x, start - margin, end + margin)[0, ..., margin:-margin]
    error = y - track.sources(STEMS)[..., start:end]
    return error.square().sum((0, 1)).unfold(0, step, step).sum(-1)

# %% [markdown]
# Averaged over chunks, each counted alike, and over the distance to the nearer border:

# %%
places = [(track, round(second * rate)) for track in songs for second in range(2, 18, 2)]
error = {kind: torch.stack([errors_at(track, start, kind) for track, start in places[:P.borders]])
         for kind in ("zeros", "neighbours")}                              # (chunk, piece)
total = error["neighbours"].sum(1, keepdim=True)
folded = {kind: (e / total + (e / total).flip(1)).sum(0)[:e.shape[1] // 2]
          for kind, e in error.items()}
worse = 10 * torch.log10(folded["zeros"] / folded["neighbours"])           # (distance,), dB
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot((torch.arange(len(worse)) + 0.5) * 50, worse, "o-", ms=4)
axis.axhline(0, color="0.7", lw=0.8)
axis.set(xlabel="distance from the nearer border (ms)", ylabel="more error (dB)")
show(axis, f"Error with zeros around {len(total)} chunks, against error with their neighbours.",
     "A curve that is high at the border and near zero from the next point on.")
print(f"within 50 ms of the border: {float(worse[0]):.1f} dB more error; 0.6 s away: "
      f"{float(worse[12]):.1f} dB")
assert worse[0] > 0.3 and worse[2:].abs().max() < 0.25

# %% [markdown]
# Near the border the neighbours help, far from it they don't matter. How far "far" is depends on the network: its *receptive field*, the samples that one output depends on (section 6.2), and its LSTM.

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
listen(smooth[1, :, :9 * rate], rate, "bass, chunks of 1.5 s with overlap")

# %% [markdown]
# **How long a chunk, how much overlap?** Longer chunks have fewer borders, and let the network hear farther; but ours has learned on 1.5 s. More overlap costs time. Measured on the band's test songs:

# %%
def by_song(table, **wanted):
    """SDR of the rows of a table that have these values: (song, stem)."""
    rows = [row for row in results(table) if all(row[k] == str(v) for k, v in wanted.items())]
    return torch.tensor([[float(row[stem]) for stem in STEMS] for row in rows])

kinds = list(dict.fromkeys((row["segment"], row["overlap"]) for row in results("chunks")))
usual = by_song("chunks", segment="1.5", overlap="0.25")
show_table([[float(segment), float(overlap), 1 / (1 - float(overlap)), float(table.nanmean()),
             None if (segment, overlap) == ("1.5", "0.25")
             else mean_interval((table - usual).nanmean(1))]
            for segment, overlap in kinds
            for table in (by_song("chunks", segment=segment, overlap=overlap),)],
           ["chunk, s", "overlap", "cost", "SDR, dB", "against 1.5 s, 0.25"],
           caption=f"Small Demucs, {len(usual)} songs, means over stems; cost: times the song.")

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

# %% [markdown]
# And back:

# %%
#| export
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
        count, mean, squares = 0, 0.0, 0.0                          # squares: around the mean
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
counts = list(dict.fromkeys(row["shifts"] for row in results("shifts")))
plain = {name: by_song("shifts", model=name, shifts=0) for name in ("demucs_band", "hdemucs_band")}
show_table([[name, int(count), max(1, int(count)), float(by_song("shifts", model=name,
             shifts=count).nanmean()), mean_interval((by_song("shifts", model=name, shifts=count)
                                                      - plain[name]).nanmean(1))]
            for name in plain for count in counts if count != "0"],
           ["network", "shifts", "cost", "SDR, dB", "gain, dB"],
           digits={"SDR, dB": 2, "gain, dB": 3},
           caption=f"{len(plain['demucs_band'])} songs; gain over no shift, paired, 95% interval.")

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

    def __init__(self, models: Sequence[nn.Module],
                 weights: Sequence[Sequence[float]] | None = None, segment: float | None = None):
        super().__init__()
        models = list(models)
        facts = [(tuple(m.sources), m.samplerate, m.audio_channels) for m in models]
        if len(set(facts)) != 1:
            raise ValueError(f"models have (sources, rate, channels) {sorted(set(facts))}; "
                             "expected one or more models, all alike")
        self.sources, self.samplerate, self.audio_channels = facts[0]
        self.models, self.segment = nn.ModuleList(models), segment
        if weights is None:
            weights = [[1.0] * len(self.sources)] * len(models)
        table = torch.as_tensor(weights, dtype=torch.float64)
        if (table.shape != (len(models), len(self.sources)) or not table.isfinite().all()
                or (table < 0).any() or (table.sum(0) == 0).any()):
            raise ValueError(f"weights are {weights}; expected numbers >= 0 for {len(models)} "
                             f"models and {len(self.sources)} sources, none without any")
        self.weights = table.tolist()

    def forward(self, mix: Tensor) -> Tensor:
        raise ValueError("a bag has no forward of its own; call `separate` with it")

# %% [markdown]
# `members` gives a list of (network, its share of every source), of a single network too:

# %%
#| export
def members(model: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """The networks of a bag with their shares by source, which sum to 1; another model itself."""
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
print("weights of Demucs by stem:", ", ".join(grid[int(i)] for i in chosen))

# %% [markdown]
# On the test songs:

# %%
show_table([["Demucs alone", *alone.nanmean(0).tolist(), None],
            ["Hybrid Demucs alone", *other_alone.nanmean(0).tolist(),
             mean_interval((other_alone - alone).nanmean(1))],
            ["bag, equal weights", *equal.nanmean(0).tolist(),
             mean_interval((equal - alone).nanmean(1))],
            ["bag, weights by stem", *picked.nanmean(0).tolist(),
             mean_interval((picked - alone).nanmean(1))]],
           ["network", *STEMS, "less Demucs alone"],
           caption=f"SDR in dB, {len(alone)} test songs; paired difference with 95% interval.")

# %% [markdown]
# With equal weights the weaker network drags the better one down; with weights that were chosen the bag is ahead by little, at more than twice the cost. In the papers the members of a bag are about equally good, and there a plain mean helps.

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
            (("song", "the song as it is"), ("minus", "song minus voice"),
             ("add", "other stems added"))],
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
held = d.block("held audio", "(1, channel, a chunk\nand more)", after=disk, label="blocks")
net = d.block("network", "(1, source, channel, N)", after=held, kind="trained", label="window")
pend = d.block("pending sums", "(1, source, channel, N - H)", after=net, label="x weights")
stems = d.block("stems on disk", "(source, channel,\ntime)", after=pend, kind="data",
                label="finished")
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
            with contextlib.suppress(OSError):                      # other files are there
                folder.rmdir()

# %% [markdown]
# What a format can hold is checked before an hour of work, not after it:

# %%
#| export
FORMATS = {"wav": {16: "PCM_16", 24: "PCM_24", 32: "FLOAT"}, "flac": {16: "PCM_16", 24: "PCM_24"},
           "mp3": {16: "MPEG_LAYER_III"}}                           # format -> bits -> subtype
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


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
            raise ValueError(f"{type(model).__name__} doesn't say its rate; use load_trained")
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
# By its name, one that comes with the course, or a published one:

# %%
#| export
DEFAULT_MODEL = "open_unmix_band"                                   # stereo at 44.1 kHz


def load_separator(name: str | Path = DEFAULT_MODEL, **options) -> SongSeparator:
    """A `SongSeparator` of a trained model, by the name or path that `load_trained` takes, or by
    that of an official release (section 9.16).

    options: fields of `SongSeparator`. Source: section 9.11.
    """
    return SongSeparator(load_official(name) if name in RELEASES else load_trained(name), **options)

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

# %% [markdown]
# With that, a song on disk is a few lines:

# %%
#| export
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
        raise ValueError(f"{shown(song)}: a stem would replace the song itself; choose another "
                         "folder")
    with StemFiles(list(paths.values()), header.rate, header.channels, bits,
                   header.frames) as files:
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
# ## 9.12 Separating live
#
# On a stage nobody can wait for the end of the song. How late may a separator come? Musicians notice from some 20 ms on. A delay has three parts: the network must have *heard* what it needs, a block must be *full* before it can be worked on, and the work takes *time*.
#
# Our networks hear the future: the LSTM of chapter 6 runs backwards through the chunk, too. What if they are denied it? We separate piece by piece, half a second each; the network hears two seconds before the piece and a certain time after it, and zeros beyond.

# %%
ahead = {float(row["ahead"]): None for row in results("ahead")}
ahead = {seconds: by_song("ahead", ahead=f"{seconds:g}") for seconds in ahead}
full = ahead[max(ahead)]
figure, axis = plt.subplots(figsize=(6, 2.6))
for j, stem in enumerate(STEMS):
    axis.plot(list(ahead), [float(table[:, j].nanmean()) for table in ahead.values()], "o-",
              ms=4, label=stem)
axis.set_xscale("symlog", linthresh=0.05)
axis.set(xlabel="heard ahead (s)", ylabel="SDR (dB)", xticks=list(ahead),
         xticklabels=[f"{seconds:g}" for seconds in ahead])
axis.legend(fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.68))
show(axis, f"Demucs of chapter 6, which learned with the future, by how much of it is left; "
     f"{len(full)} songs, means.", "Four curves over the seconds heard ahead.")

# %% [markdown]
# In numbers, against two seconds ahead:

# %%
lost = {seconds: mean_interval((table - full).nanmean(1)) for seconds, table in ahead.items()}
show_table([[f"{1000 * seconds:g} ms", float(table.nanmean()), lost[seconds]
             if seconds < max(ahead) else None] for seconds, table in ahead.items()],
           ["heard ahead", "SDR, dB", "against 2 s ahead"],
           caption=f"Mean over stems, {len(full)} songs, paired with 95% interval.")
assert lost[0.0][2] < 0 < lost[0.25][2]
print("denied the future:", difference_in_words((ahead[0.0] - full).nanmean(1)))

# %% [markdown]
# Less than one might think, once it hears a quarter of a second ahead; a small network listens mostly to what is near. But a network that *learned* with the future isn't a fair judge of how much it is worth: the zeros are nothing that it has ever heard. So train networks that never had it. A small mask network like chapter 4's, on frames of 2048 samples (93 ms at this rate) or of 512 (23 ms), with an LSTM in both directions or in one, all else equal, two seeds each; `course experiment small_masks`:

# %%
mask_runs = {(row["variant"], row["seed"]): row for row in results("mask_runs")}
seeds_of = lambda variant: sorted(seed for name, seed in mask_runs if name == variant)
mask_songs = lambda variant, seed: by_song("mask_songs", variant=variant, seed=seed)

def against_base(variant):
    """Differences to the base, paired by song and seed: (seed, song); none where it isn't run."""
    both = [seed for seed in seeds_of(variant) if seed in seeds_of("base")]
    return torch.stack([(mask_songs(variant, seed) - mask_songs("base", seed)).nanmean(1)
                        for seed in both]) if both else torch.zeros(0, 0)

base_scores = [float(mask_songs("base", seed).nanmean()) for seed in seeds_of("base")]
seeds_apart = max(base_scores) - min(base_scores)
print(f"the base, {len(base_scores)} seeds: {seeds_apart:.2f} dB apart")

# %% [markdown]
# The frame sets the delay of such a network: it can start when a frame is full, and a sample is finished when the last frame that covers it has come.

# %%
names = {"base": "both directions, 93 ms", "one direction": "one direction, 93 ms",
         "short frames": "both directions, 23 ms",
         "one direction, short frames": "one direction, 23 ms"}

def mask_table(names, caption):
    """The runs of small masks beside the base."""
    rows = []
    for name, words in names.items():
        means = [float(mask_songs(name, seed).nanmean()) for seed in seeds_of(name)]
        change = against_base(name)
        rows.append([words, *(means + [None, None])[:2], None if name == "base" or not len(change)
                     else mean_interval(change.mean(0))])
    show_table(rows, ["network", "seed 0", "seed 1", "against the first, paired"], caption=caption)

mask_table(names, "SDR in dB, mean over stems and songs; all with equal steps; a dash: not run.")

# %% [markdown]
# Is a difference one of the kind of network, or one of luck? By the course's rule it counts where the interval over songs excludes zero, both seeds agree, and it is larger than two seeds of one network are apart:

# %%
def counted(change, apart=seeds_apart):
    """Differences (seed, song) in words, and whether they count."""
    if not change.numel():
        return "not run"
    mean, low, high = mean_interval(change.mean(0))
    signs = {bool(value > 0) for value in change.mean(1)}
    counts = (low > 0 or high < 0) and len(signs) == 1 and abs(mean) > apart
    few = "" if len(change) > 1 else ", one seed only"
    return f"{mean:+.2f} dB, " + ("counts" if counts and not few else "does not count") + few

for name in names:
    if name != "base":
        print(f"{names[name]}: {counted(against_base(name))}")
short_frame = torch.stack([(mask_songs("one direction, short frames", seed)
                            - mask_songs("one direction", seed)).nanmean(1)
                           for seed in seeds_of("one direction")])
print("23 ms instead of 93, both in one direction:", counted(short_frame))

# %% [markdown]
# Read the table by its two changes. The *direction* of the LSTM: what looking ahead is worth to such a small network, with frames that stay long. The *frame*: 93 ms tell a bass note from its neighbour, 23 ms don't (chapter 1), but only they make a live separator. One expects both to cost something. Where the lines above say that a difference does not count, it hasn't been seen *here*, and neither has the contrary: a network of this size after 400 steps is far from what it could be, and need not use all that a long frame or the future would tell. What networks that were trained to their end reach with 23 ms, and one that may wait, as their papers report:

# %%
show_table([[row["model"], f"{row['delay_ms']} ms", float(row["sdr_db"])]
            for row in published("real_time_scores")]
           + [["Hybrid Demucs (bag)", "the song", float(row["all"])] for row in
              published("hybrid_demucs_scores") if row["model"] == "Hybrid Demucs"],
           ["network", "delay", "SDR, dB"], caption="On MUSDB18-HQ, as reported.")

# %% [markdown]
# Those that are early are far behind. How much of the distance is the price of being early, these three rows can't tell: the networks differ in everything, and the last one is a bag of several.
#
# Now make it run live. `FrameByFrame` takes a hop, returns a hop. All it remembers are the last frame of input, the LSTM's state, and the tail of the overlap-add.

# %%
d = Diagram()
hop_in = d.block("hop", "(channel, hop)", kind="data")
ring = d.block("last n_fft\nsamples", "(channel, n_fft)", after=hop_in)
spec = d.block("window, FFT", "(channel, bin)", after=ring)
lstm = d.block("LSTM with\nits state", "(2 hidden)", after=spec, kind="trained")
mask = d.block("masks", "(source, channel, bin)", after=lstm, kind="trained")
tail = d.block("inverse, add\nto the tail", "(source, channel, n_fft)", after=mask)
out = d.block("hop", "(source, channel, hop)", kind="data", after=tail, place="below")
show(d.draw(), "One step of a live separator.", d.in_words())

# %% [markdown]
# With a hop of a quarter of the frame, the squares of the Hann windows that lie on a sample sum to $3/2$ (chapter 1), by which we divide.

# %%
#| export
class FrameByFrame:
    """A network of chapter 4's kind that looks back only, fed hop by hop.

    model: a `JointOpenUnmix` with unidirectional=True, in eval mode. push: (channel, hop), hop a
    quarter of its frame, to (source, channel, hop): the sources of the hop that came n_fft - hop
    samples earlier. ValueError for a network that looks ahead. Source: section 9.12.
    """

    def __init__(self, model: nn.Module):
        if model.lstm.bidirectional:
            raise ValueError("the model's LSTM also runs backwards; expected unidirectional=True")
        self.model, (self.n_fft, self.hop) = model, open_unmix.stft_sizes(model)
        self.window = torch.hann_window(self.n_fft)
        self.heard = torch.zeros(model.nb_channels, self.n_fft)
        self.tail, self.state = 0.0, None

    @property
    def delay(self) -> int:
        """Samples from when one comes in to when its sources come out, filling a hop included."""
        return self.n_fft

    @torch.no_grad()
    def push(self, samples: Tensor) -> Tensor:
        model = self.model
        self.heard = torch.cat([self.heard[:, self.hop:], samples], dim=1)
        X = torch.fft.rfft(self.heard * self.window)                # (channel, bin)
        low = X.abs()[:, :model.nb_bins]
        h = torch.tanh(model.bn1(model.fc1(model.scale_input(low).flatten()[None])))
        y, self.state = model.lstm(h[None], self.state)             # (frame 1, batch 1, hidden)
        features = torch.cat([h[None], y], dim=-1)
        masks = torch.stack([head(features)[0, ..., 0] for head in model.heads.values()])
        masks = open_unmix._continued_upwards(masks.unsqueeze(-1), X.shape[-1])[..., 0]
        frames = torch.fft.irfft(masks * X, self.n_fft) * self.window / 1.5
        self.tail = self.tail + frames                              # (source, channel, n_fft)
        done = self.tail[..., :self.hop]
        self.tail = F.pad(self.tail[..., self.hop:], (0, self.hop))
        return done

# %% [markdown]
# Check it against the whole: the same network, here with random weights, on the song with zeros before it, its frames not centred.

# %%
from course_lib.open_unmix import JointOpenUnmix
torch.manual_seed(0)
causal = JointOpenUnmix(257, 1, 32, 2, unidirectional=True, dropout=0.0).eval()
live, hop, x = FrameByFrame(causal), 128, song.mixture[:, :40 * 128]
hops = [live.push(piece) for piece in x.split(hop, dim=-1)]
streamed = torch.cat(hops, dim=-1)                                  # n_fft - hop samples late
X = stft(F.pad(x, (512 - hop, 0)), 512, hop, center=False)
with torch.no_grad():
    Y = causal(X.abs()[None])[0] * X / X.abs().clamp_min(1e-12)
frames = torch.fft.irfft(Y.mT, 512) * hann_window(512) / 1.5        # (source, channel, frame, 512)
slow = sum(F.pad(frames[..., m, :], (m * hop, (39 - m) * hop)) for m in range(40))
assert torch.allclose(streamed, slow[..., :x.shape[-1]], atol=1e-5)
print("hop by hop equals the whole")

# %% [markdown]
# Then turn the second half of the song upside down. The first twenty hops must not know:

# %%
again = FrameByFrame(causal)
other = torch.cat([again.push(piece) for piece in
                   torch.cat([x[:, :20 * hop], -x[:, 20 * hop:]], 1).split(hop, -1)], dim=-1)
assert torch.equal(other[..., :20 * hop], streamed[..., :20 * hop])
print(f"delay: {live.delay} samples, {1000 * live.delay / rate:.0f} ms")

# %% [markdown]
# There remains the third part of the delay, the work: a hop must be done before the next one is full. How long does a hop take the two networks of the table above that look back only? `course experiment separating` fed them four hundred, one by one, and took the processor's time for each:

# %%
live_rows = results("live")
show_table([[f"{float(row['delay_ms']):.0f} ms", *(float(row[name]) for name in
             ("hop_ms", "median_ms", "slowest_ms"))] for row in live_rows],
           ["frame", "a hop lasts, ms", "it takes, ms (median)", "95% take less than, ms"],
           digits=1, caption="Small mask networks in one direction, frame by frame, one thread.")
busy = {row["n_fft"]: float(row["median_ms"]) / float(row["hop_ms"]) for row in live_rows}
print("share of the time that is used:", *(f"{1000 * int(n) / rate:.0f} ms: {100 * part:.0f}%,"
                                           for n, part in busy.items()), "the rest is free")
assert all(float(row["slowest_ms"]) < float(row["hop_ms"]) for row in live_rows)

# %% [markdown]
# Both are fast enough. The short frame leaves a quarter of the time and needs hardly less of it: a hop is a dozen small operations called from Python, and what the calls cost doesn't shrink with the frame. On a stage the sound card's own buffers come on top, and what counts is the slowest hop, not the median: one that comes too late is a gap.

# %% [markdown]
# <details><summary>Quick question: a block of a GPU's network takes 300 ms for 7.8 s of audio, 26 times faster than real time. Why is it no live separator?</summary>
#
# Because the block must be full first: what comes at its beginning waits 7.8 s. Speed isn't delay. One can run the network on overlapping blocks, every 100 ms on the last 7.8 s: then the work is 78 times as much, and the newest samples are those at the block's border, where it is worst (section 9.4).
# </details>

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
off_diagonal = P_ij[~torch.eye(4, dtype=torch.bool)]
assert (P_ij.diagonal() > -10).all() and (off_diagonal > -10).any()

# %% [markdown]
# By the paper's rule this song is not kept, although every label is right: our network isn't good, and lets much through that belongs elsewhere. The rule's numbers belong to *their* separator. Ours needs its own, and those can be learned: on clean songs whose labels we know, and on songs that we spoil. `course experiment separating` did it on the band: every stem alone, every stem with a stranger in it (another stem of the song, 20, 10 or 5 dB softer), and, for nothing, every stem under another's label.

# %%
label_rows = results("labels")
levels_of = lambda row: torch.tensor([float(row[stem]) for stem in STEMS])

def lead_of(row, label):
    """How far the label's own source comes out above the loudest other, in dB."""
    levels, own = levels_of(row), STEMS.index(label)
    return float(levels[own] - torch.cat([levels[:own], levels[own + 1:]]).max())

def margins(split, case):
    """Margins of all stems of a split: as they are, "swapped", or with a stranger at so many dB."""
    rows = [row for row in label_rows if row["split"] == split]
    if case == "swapped":
        return [lead_of(row, label) for row in rows if not row["stranger"]
                for label in STEMS if label != row["stem"]]
    return [lead_of(row, row["stem"]) for row in rows if row["bleed_db"] == case]

# %% [markdown]
# One number instead of four: the **margin** between what the label says and the loudest of the rest. Its distribution:

# %%
cases = {"clean": "", "stranger at -20 dB": "-20", "-10 dB": "-10", "-5 dB": "-5",
         "another's label": "swapped"}
figure, axis = plt.subplots(figsize=(6.5, 2.6))
for place, (name, case) in enumerate(cases.items()):
    values = torch.tensor(margins("valid", case))
    axis.plot(values, place + torch.linspace(-0.25, 0.25, len(values)), ".", ms=4)
axis.set(yticks=range(5), yticklabels=list(cases), xlabel="margin (dB)", ylim=(4.5, -0.5))
axis.axvline(0, color="0.7", lw=0.8)
show(axis, "Margins of the validation songs' stems, a dot a stem.",
     "Five rows of dots; clean stems lie to the right, wrong labels to the left of zero.")

# %% [markdown]
# Stems with the wrong label lie far to the left, those with a faint stranger among the clean ones. A threshold is chosen on the validation songs, so that 90% of the clean stems stay, and tried on the test songs. **Recall** is the share of spoilt stems that are caught, **precision** the share of spoilt ones among those that are thrown out, where clean and spoilt are equally many.

# %%
threshold = float(torch.tensor(margins("valid", "")).quantile(0.1))
thrown = lambda case: float((torch.tensor(margins("test", case)) < threshold).float().mean())
kept_clean = 1 - thrown("")

# %% [markdown]
# The table:

# %%
catches = [[name, len(margins("test", case)), thrown(case),
            thrown(case) / max(1e-9, thrown(case) + thrown(""))]
           for name, case in cases.items() if case]
show_table(catches, ["spoilt by", "stems", "recall", "precision"], digits=2,
           caption=f"Threshold {threshold:.1f} dB from the validation songs; on the test songs "
           f"{100 * kept_clean:.0f}% of {len(margins('test', ''))} clean stems stay.")
by_case = {row[0]: row for row in catches}
assert by_case["another's label"][2] > by_case["stranger at -20 dB"][2]

# %% [markdown]
# A collection is cleaned by songs, not by stems: one spoilt stem spoils the song. What speaks against a song is a list of sentences, by the paper's rule or by a margin; where there are none, it stays. A silent stem has no say, as in a piece without vocals.

# %%
#| export
def doubts(levels: Tensor, sources: Sequence[str], own: float = -10.0, other: float = -10.0,
           margin: float | None = None) -> list[str]:
    """What speaks against the labels of a song's stems, a sentence a stem; see `keeps_song`."""
    if levels.ndim != 2 or levels.shape != (len(sources), len(sources)):
        raise ValueError(f"levels has shape {tuple(levels.shape)}; expected (stem, source), "
                         f"{len(sources)} of either, in the same order")
    found = []
    for j, (label, row) in enumerate(zip(sources, levels)):
        if row.isnan().all():                                       # a silent stem
            continue
        rest = row.clone()
        rest[j] = -math.inf
        right = (row[j] > own and rest.max() < other if margin is None
                 else row[j] - rest.max() > margin)
        if not right:
            stranger = sources[int(rest.argmax())]
            found.append(f"{label} is heard as {label} at {float(row[j]):.0f} dB, as {stranger} "
                         f"at {float(rest.max()):.0f} dB")
    return found

# %% [markdown]
# The rule itself:

# %%
#| export
def keeps_song(levels: Tensor, own: float = -10.0, other: float = -10.0,
               margin: float | None = None) -> bool:
    """Whether all stems of a song hold what their labels say.

    levels: (stem, source) in dB, `label_levels` of each stem, rows and columns in the same order;
    a row of NaN is a silent stem, which has no say. A stem is right if it comes out as its own
    source above `own` dB and as every other one below `other` dB; or, where a margin is given
    instead, more than so many dB louder as its own than as any other. ValueError for another shape.
    Source: Rouard, Massa and Défossez 2023, section 4.1; section 9.13.
    """
    return not doubts(levels, [str(j) for j in range(len(levels))], own, other, margin)

# %% [markdown]
# By the paper's numbers, for the song above, and with a margin of nothing:

# %%
print("kept:", keeps_song(P_ij), "by the paper's rule;", keeps_song(P_ij, margin=0.0),
      "if only the loudest source must be the right one")
print(*doubts(P_ij, STEMS), sep="\n")

# %% [markdown]
# For a whole set: songs come one by one, so that a set of any size passes through. One that can't be read (a broken file, a stem that isn't there) is a finding, too, and must not end a night's work.

# %%
#| export
@dataclass(frozen=True)
class CheckedSong:
    """What `cleaned` found: the song's name, why it goes (nothing: it stays), its levels in dB."""

    song: str
    why: tuple[str, ...]
    levels: Tensor | None = None

    @property
    def keeps(self) -> bool:
        return not self.why


def cleaned(tracks: Iterable[Track | str | Path], model: nn.Module, *, own: float = -10.0,
            other: float = -10.0, margin: float | None = None, **options) -> Iterator[CheckedSong]:
    """Which songs of a set stay, and why the others go: a `CheckedSong` for each, in order.

    tracks: songs with a stem for each of the model's sources, or folders that `read_own_song`
    reads, at any rate. own, other, margin: see `keeps_song`. options: as `separate`. A song that
    can't be read, lacks a stem or is silent goes, and the others go on. Source: section 9.13.
    """
    for track in tracks:
        levels, name = None, track.name if isinstance(track, Track) else Path(track).name
        try:
            track = track if isinstance(track, Track) else read_own_song(track)
            stems = track.resampled(model.samplerate).sources(model.sources)
            if not stems.isfinite().all():
                raise ValueError("its stems hold NaN or infinity")
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            why = [f"it can't be read: {error}"]
        else:
            levels = torch.stack([label_levels(model, stem, **options) for stem in stems])
            why = doubts(levels, model.sources, own, other, margin)
            if levels.isnan().all():
                why = ["all of its stems are silent"]
        yield CheckedSong(name, tuple(why), levels)

# %% [markdown]
# Tried on three: a song as it is, the same with bass and drums exchanged, and a folder that isn't there.

# %%
piece = song.excerpt(4.0, 6.0)
stems = {stem: piece.stem(stem) for stem in STEMS}
swapped = Track.from_tensors(f"{song.name}, swapped", rate,
                             stems | {"bass": stems["drums"], "drums": stems["bass"]})
for one in cleaned([piece, swapped, Path("no such song")], demucs_net, margin=0.0):
    print("stays" if one.keeps else "goes", one.song)
    print(*(f"   {why.partition(': [')[0]}\n" for why in one.why), sep="", end="")

# %% [markdown]
# How many stay, of which kind? From the levels that were measured we make a set whose truth we know: the test songs as they are; each with two of its stems exchanged, in every way; each with a stranger in one stem. Two rules: the paper's, and a margin that keeps 90% of the clean *songs* of the validation split.

# %%
def level_tables(split):
    """{song: (its levels (stem, source), {(stem, bleed_db): the stem's levels with a stranger})}"""
    songs = {}
    for row in (row for row in label_rows if row["split"] == split):
        table, bleeding = songs.setdefault(row["song"], (torch.full((4, 4), math.nan), {}))
        if row["stranger"]:
            bleeding[STEMS.index(row["stem"]), row["bleed_db"]] = levels_of(row)
        else:
            table[STEMS.index(row["stem"])] = levels_of(row)
    return songs

def exchanged(table):
    """The song's levels with two of its labels swapped, for every pair of stems that sound."""
    loud = (~table.isnan().any(1)).nonzero().flatten().tolist()
    for a, b in ((a, b) for a in loud for b in loud if a < b):
        rows = list(range(4))
        rows[a], rows[b] = b, a
        yield table[rows]

# %% [markdown]
# The set, by kind:

# %%
def mixed_set(split):
    """{kind of song: tables of levels (stem, source)}."""
    songs = level_tables(split)
    kinds = {"clean": [table for table, _ in songs.values()],
             "two labels swapped": [new for table, _ in songs.values() for new in exchanged(table)]}
    for decibels in ("-5", "-10", "-20"):
        kinds[f"a stranger at {decibels} dB"] = [
            torch.where(torch.arange(4)[:, None] == stem, row, table)
            for table, bleeding in songs.values()
            for (stem, level), row in bleeding.items() if level == decibels]
    return kinds

# %% [markdown]
# Counted with both rules:

# %%
worst = [min(lead for j, row in enumerate(table) if not row.isnan().any()
             for lead in [float(row[j] - torch.cat([row[:j], row[j + 1:]]).max())])
         for table in mixed_set("valid")["clean"]]
song_margin = float(torch.tensor(worst).quantile(0.1))
rules = {"paper's rule": {}, f"margin {song_margin:.1f} dB": {"margin": song_margin}}
staying = {kind: [sum(keeps_song(table, **rule) for table in tables) / len(tables)
                  for rule in rules.values()] for kind, tables in mixed_set("test").items()}
show_table([[kind, len(mixed_set("test")[kind]), *(f"{100 * share:.0f}%" for share in shares)]
            for kind, shares in staying.items()], ["test songs", "how many", *rules],
           caption="Which share of the songs stays, by either rule.")
passed, kept_by_margin = staying["clean"]
swaps_kept, margin_keeps_swaps = staying["two labels swapped"]
assert 0.3 < passed < 0.7 and swaps_kept < passed and margin_keeps_swaps < 0.5 * kept_by_margin

# %% [markdown]
# What would a collection look like in which clean songs, swapped ones and such with a stranger at -5 dB are equally many? The share of clean ones, before and after:

# %%
for rule, column in zip(rules, range(2)):
    kept = [staying[kind][column] for kind in ("clean", "two labels swapped",
                                               "a stranger at -5 dB")]
    print(f"{rule}: {100 * sum(kept) / 3:.0f}% of the songs stay; clean are "
          f"{100 * kept[0] / sum(kept):.0f}% of them, 33% before")

# %% [markdown]
# Read the table by its rows. *Swapped labels* don't pass by either rule, although the network is weak: what is wrong altogether is easily heard. *A stranger at -5 dB* comes out as what it is, at about -5 dB, above the paper's -10: so its rule finds most of them; and by the same number it throws away more than half of the clean songs, since our network lets much through that belongs elsewhere. The margin keeps most clean songs, and most of those with a stranger as well: the label's own source is still the loudest. The softest strangers pass as often as clean songs do, by either rule.
#
# Which rule is right? It depends on what one can spare. From 3500 songs one keeps a strict 800; from the hundred that one has, hardly. The rule's numbers belong to *their* separator; what carries over is the method: **spoil some stems yourself, and you know what your rule catches.**

# %% [markdown]
# ## 9.14 What training is made of
#
# Two things in every recipe are about neither network nor loss: what is done to the songs, and what is done to the weights.
#
# **Augmentation.** The course's trainings change every stem's gain and sign, and mix stems of different songs (*remix*). (Demucs' authors also swap left and right. In mono songs that changes nothing, so it can't be measured here.) The same small mask network as in 9.12, with parts of that left out:

# %%
mask_table({"base": "gain, sign, half of the groups remixed", "without remix": "no remix",
            "remix always": "all groups remixed", "without gain": "no gain",
            "without sign": "no sign", "without gain and sign": "no gain, no sign",
            "without augmentation": "nothing at all"},
           "SDR in dB, mean over stems and songs, 400 steps on 60 songs; a dash: not run.")
for name in ("without remix", "remix always", "without gain", "without sign",
             "without gain and sign", "without augmentation"):
    print(f"{name}: {counted(against_base(name))}")
for name in ("without gain", "without gain and sign"):
    assert counted(against_base(name)).startswith("+")
    assert counted(against_base(name)).endswith(", counts")
assert "does not count" in counted(against_base("without sign"))

# %% [markdown]
# Beside it what chapter 6 measured of changed pitch and tempo, on its waveform network, and what the papers report. (The line is against one seed of the base. Chapter 6 compares with both, finds the gain no larger than what lies between them, and doesn't count it.)

# %%
repitch_rows = measured("06_demucs/songs")
of_repitch = lambda variant: torch.tensor([[float(row[stem]) for stem in STEMS] for row in
                                           repitch_rows if (row["variant"], row["seed"])
                                           == (variant, "0")])
repitch_gain = (of_repitch("with repitch") - of_repitch("base")).nanmean(1)
print("repitch, chapter 6:", difference_in_words(repitch_gain))
show_table([[row["model"], row["what"], float(row["sdr_db"])] for row in
            published("augmentation_scores")], ["network", "training", "SDR, dB"],
           caption="On MUSDB18 or MUSDB18-HQ, as reported.")

# %% [markdown]
# What augmentation is worth depends on how often the network meets the same song. 400 steps of 8 chunks of 3 s are eight passes over our 60 songs of 20 s; the papers' networks see each song thousands of times. An effect that shows late can't be seen here, and "does not count" means no more than that. What counts goes the other way: *without changed gains* the network is better, with the signs changed or not; changed signs alone make no difference that counts. A likely reason: the test songs have the levels that the band's mixer gave them, and a network with so few passes learns these sooner if it meets no others; of signs its spectrograms tell next to nothing. (A sign changes how two stems add up, not what either looks like.) It says nothing about songs that are mixed in another way, for which the changed gains are meant.
#
# **Averaged weights.** In the last steps the weights jitter round a good place. An **exponential moving average** (EMA) stays there:
#
# $$ \bar\theta_t = \beta\, \bar\theta_{t-1} + (1 - \beta)\, \theta_t . \tag{9.9} $$
#
# With $\beta = 0.99$ it looks back over some $1/(1 - \beta) = 100$ steps. Where it helps is easiest seen on one number: noisy steps towards 0, at a constant rate.

# %%
theta, mean, path = torch.tensor(3.0), torch.tensor(3.0), []
for t in range(600):
    noise = torch.randn((), generator=P.generator)
    theta = theta - 0.1 * (theta + 2 * noise)
    mean = 0.98 * mean + 0.02 * theta
    path.append((float(theta), float(mean)))
path = torch.tensor(path)                                           # (step, plain and averaged)
last = path[300:].square().mean(0).sqrt()
axis = plt.subplots(figsize=(6, 2.2))[1]
axis.plot(path, lw=0.9)
axis.legend(["weight", "its moving average"])
axis.set(xlabel="step", ylabel="value")
show(axis, "Steps towards 0 with a noisy gradient, and their moving average.",
     "A jagged curve round zero and a smooth one inside it.")
print(f"distance from 0 in the second half: averaged {float(last[1] / last[0]):.1f} of plain")
assert last[1] < 0.6 * last[0]

# %% [markdown]
# In training: the small mask network at a rate that stays constant, two seeds; its weights and several averages of them, scored after the last step.

# %%
average_rows = results("averages") if any(name == "constant rate" for name, _ in mask_runs) else []
averaged = lambda decay, seed: torch.tensor([[float(row[stem]) for stem in STEMS] for row in
                                             average_rows if (float(row["decay"]), row["seed"])
                                             == (decay, seed)])
decays = sorted({float(row["decay"]) for row in average_rows})
ema_seeds = sorted({row["seed"] for row in average_rows})
ema_gain = {decay: torch.stack([(averaged(decay, s) - averaged(0.0, s)).nanmean(1)
                                for s in ema_seeds]) for decay in decays if decay}
show_table([[decay or "last weights", float(np.mean([averaged(decay, s).nanmean() for s in
             ema_seeds])), mean_interval(ema_gain[decay].mean(0)) if decay else None]
            for decay in decays] or [["not run", None, None]], ["decay", "SDR, dB", "gain"],
           digits={"decay": 3},
           caption=f"Small mask network at a constant rate, {len(ema_seeds)} seeds.")

# %% [markdown]
# Three of the averages are ahead; the slowest looks back over more than 300 of the 400 steps, to weights that had learned little yet. An average must be short against the training.
#
# Couldn't a rate that falls to almost nothing do the same job, since at its end the jitter is gone by itself? The base of the tables above had such a rate, and all else equal:

# %%
if ema_gain:
    falling = torch.stack([mask_songs("base", seed).nanmean(1) for seed in ema_seeds])
    kept_high = lambda decay: torch.stack([averaged(decay, s).nanmean(1) for s in ema_seeds])
    print("constant rate, last weights, against a falling rate:", counted(kept_high(0.0) - falling))
    print("constant rate, averaged (0.99), against a falling rate:",
          counted(kept_high(0.99) - falling))

# %% [markdown]
# Averages belong where the rate stays high, as in the official trainings of Demucs (a constant $3 \cdot 10^{-4}$). They cost a copy of the weights, and can be had beside any training.

# %% [markdown]
# ## 9.15 Leaving PyTorch: ONNX
#
# Phones, browsers and audio plug-ins have no PyTorch. **ONNX** is a file format for a network's graph that many runtimes read. Chunks come in handy once more: every chunk has the same length, so the graph may have it built in.
#
# There is one obstacle. The networks of chapters 7 and 8 have an STFT inside, and complex numbers have no place in an ONNX graph. But they don't need any: bin $k$ of frame $m$ is two sums of products,
#
# $$ \operatorname{Re} X[k, m] = \sum_{n=0}^{N-1} w[n] \cos\frac{2 \pi k n}{N}\; x[n + mH], \qquad \operatorname{Im} X[k, m] = -\sum_{n=0}^{N-1} w[n] \sin\frac{2 \pi k n}{N}\; x[n + mH], \tag{9.10} $$
#
# and a sum of products that moves on by $H$ samples is a **convolution with stride** $H$. Its $2 \cdot N/2$ filters are cosines and sines under a window. The way back is the transposed convolution with the same waves, doubled but for bin 0 (each stands for a negative frequency, too), divided by the summed squares of the window, $3/2$.

# %%
#| export
def wave_filters(nfft: int) -> tuple[Tensor, Tensor]:
    """The filters of an STFT without complex numbers, and of its inverse: each (nfft, 1, nfft).

    Cosines of bins 0 to nfft/2 - 1, then negative sines, under a Hann window, divided by
    sqrt(nfft), for hops of nfft/4: conv1d with the first, conv_transpose1d with the second (for
    frames that overlap on all sides). Source: eq. 9.10; section 9.15.
    """
    n = torch.arange(nfft)
    angle = 2 * math.pi * (n[:nfft // 2, None] * n % nfft).double() / nfft         # (bin, sample)
    window = 0.5 - 0.5 * torch.cos(2 * math.pi * n.double() / nfft)
    waves = window * torch.stack([angle.cos(), -angle.sin()]) / nfft ** 0.5         # (2, bin, n)
    back = 2 * waves / 1.5
    back[:, 0] /= 2
    return tuple(one.flatten(0, 1).unsqueeze(1).float() for one in (waves, back))

# %% [markdown]
# Eight of them, and the check: the same numbers as chapter 7's transform, without a complex one on the way.

# %%
forward_filters, _ = wave_filters(256)
figure, axes = plt.subplots(2, 4, figsize=(8, 2.4), sharex=True, sharey=True)
for k, (cosine, sine) in enumerate(axes.T):
    cosine.plot(forward_filters[k, 0], lw=0.9)
    sine.plot(forward_filters[128 + k, 0], lw=0.9, color="C1")
    cosine.set_title(f"bin {k}", fontsize=9)
axes[0, 0].set_ylabel("real part")
axes[1, 0].set_ylabel("imaginary")
show(figure, "The filters of four bins, frames of 256 samples.",
     "Cosines above, sines below, all rising and falling under one hill; bin 0 has no sine.")
x = song.mixture[None, :, 3 * rate:4 * rate]
X = F.conv1d(padded_to_hops(x, 64), forward_filters, stride=64)     # (1, 2 * 128, frame)
X = X.unflatten(1, (2, 128))                                        # (1, re and im, bin, frame)
assert torch.allclose(X, complex_as_channels(aligned_stft(x, 256)), atol=1e-6)
print("equal to the STFT:", tuple(X.shape))

# %% [markdown]
# As two functions for whole batches, whose shapes are those of chapter 7's complex numbers as channels. There:

# %%
#| export
def real_stft(mix: Tensor, waves: Tensor) -> Tensor:
    """Chapter 7's `aligned_stft` with complex as channels, by `wave_filters`: (batch, channel,
    time) to (batch, 2 channel, bin, frame). Source: section 9.15."""
    hop = len(waves) // 4
    x = padded_to_hops(mix, hop).flatten(0, 1).unsqueeze(1)
    x = F.conv1d(x, waves, stride=hop).unflatten(1, (2, -1))        # (..., re and im, bin, frame)
    return x.unflatten(0, (len(mix), -1)).flatten(1, 2)

# %% [markdown]
# And back:

# %%
#| export
def real_istft(x: Tensor, back: Tensor, length: int) -> Tensor:
    """The inverse of `real_stft`, by the second of `wave_filters`: (batch, source, 2 channel, bin,
    frame) to (batch, source, channel, length). Source: section 9.15."""
    hop, leading = len(back) // 4, x.shape[:2]
    x = F.pad(x.unflatten(2, (-1, 2)).flatten(0, 2).flatten(1, 2), (2, 2))      # silent frames
    x = F.conv_transpose1d(x, back, stride=hop)                     # (..., 1, time), 3.5 hops early
    early = 7 * hop // 2
    return x[..., early:early + length].unflatten(0, (*leading, -1)).squeeze(3)

# %% [markdown]
# There and back again, beside chapter 7's way (which leaves out the top bin, too):

# %%
ways, length = wave_filters(256), x.shape[-1]
around = real_istft(real_stft(x, ways[0]).unsqueeze(1), ways[1], length)[:, 0]
assert torch.allclose(around, aligned_istft(aligned_stft(x, 256), length), atol=1e-5)
print("there and back:", tuple(around.shape))

# %% [markdown]
# Put before and behind the two U-Nets, they make a network that is all real numbers:

# %%
#| export
class RealSpectra(nn.Module):
    """A hybrid network whose STFT and inverse are convolutions: equal sources, for `export_onnx`.

    model: `HDemucs` or `HTDemucs`, complex as channels, both branches, in eval mode. Calls as the
    model's. ValueError for others. Source: section 9.15.
    """

    def __init__(self, model: HybridEnds):
        super().__init__()
        if not model.cac or not model.hybrid or model.hybrid_old:
            raise ValueError(f"the model has cac={model.cac}, hybrid={model.hybrid}, hybrid_old="
                             f"{model.hybrid_old}; expected True, True, False")
        self.model, self.split = model, (len(model.sources), -1)
        for name, filters in zip(("waves", "back"), wave_filters(model.nfft)):
            self.register_buffer(name, filters)

    def forward(self, mix: Tensor) -> Tensor:
        length = mix.shape[-1]
        mix = F.pad(mix, (0, self.model.valid_length(length) - length))
        x, *size = standardised(real_stft(mix, self.waves))
        xt, *size_t = standardised(mix)
        x, xt = (y.unflatten(1, self.split) * deviation.unsqueeze(1) + mean.unsqueeze(1)
                 for y, (mean, deviation) in zip(self.model.through(x, xt), (size, size_t)))
        return (real_istft(x, self.back, mix.shape[-1]) + xt)[..., :length]

# %% [markdown]
# It gives what it gave, on the committed HT Demucs of chapter 8, and on the hybrid of chapter 7 with its BLSTM and attention:

# %%
ht_net = load_trained("htdemucs_band")
apart = lambda one, other: float((one - other).norm() / other.norm())
chunk = window(song.mixture, 3 * rate, int(segment_of(ht_net) * rate))[None]
for net in (ht_net, hybrid_net):
    with torch.no_grad():
        real = RealSpectra(net)(chunk)
        assert apart(real, net(chunk)) < 1e-5
    print(f"{type(net).__name__}: {tuple(real.shape)}, as before")

# %% [markdown]
# Then the export itself, which is PyTorch's:

# %%
#| export
def export_onnx(model: nn.Module, path: str | Path, segment: float | None = None) -> int:
    """Write a network to an ONNX file, for chunks of one length; returns that length in samples.

    model: from waveform to waveforms, in eval mode, on the CPU; chapters 7's and 8's are written
    with `RealSpectra`. path: of the .onnx file; the weights are inside. segment: seconds, by
    default the model's. The graph takes `mixture` (1, channel, time) and gives `sources` (1,
    source, channel, time), time being what is returned. ModuleNotFoundError without the packages
    onnx and onnxscript. Source: section 9.15.
    """
    length = pass_length(model, int(segment_of(model, segment) * model.samplerate), segment)
    x = torch.zeros(1, model.audio_channels, length)
    model = RealSpectra(model).eval() if isinstance(model, HybridEnds) else model
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)                            # of packages that aren't there
        torch.onnx.export(model, (x,), str(path), dynamo=True, verbose=False, external_data=False,
                          input_names=["mixture"], output_names=["sources"])
        logging.disable(logging.NOTSET)
    return length

# %% [markdown]
# Export the committed Demucs and HT Demucs and run them with ONNX Runtime, which knows nothing of PyTorch. (Not in the course's own needs: `pip install onnx onnxscript onnxruntime`.)

# %%
def through_onnx(net):
    """A row: how a network comes back from its ONNX file, on a chunk of the song."""
    import onnxruntime
    onnxruntime.set_default_logger_severity(3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        length = export_onnx(net, path)
        chunk = window(song.mixture, 3 * rate, length)[None]
        session = onnxruntime.InferenceSession(path)
        theirs = torch.from_numpy(session.run(None, {"mixture": chunk.numpy()})[0])
        size = path.stat().st_size / 1e6
    with torch.no_grad():
        equal = apart(theirs, net(chunk)) < 1e-4
    return [type(net).__name__, length, size, "yes" if equal else "no"]

# %% [markdown]
# How large the files are, in 32 bits, and whether the sources are the same to $10^{-4}$:

# %%
if all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
    exported = [through_onnx(net) for net in (demucs_net, ht_net)]
    show_table(exported, ["network", "samples of a chunk", "MB", "equal to 1e-4"], digits=0,
               caption="Committed networks in ONNX Runtime.")
    assert all(row[-1] == "yes" for row in exported)

# %% [markdown]
# More than half of the second file are cosines. That is the price of a graph that any runtime can read: $N^2$ numbers for either direction, and $2 N$ multiplications for each number of the spectrogram where an FFT takes some $\log_2 N$. On a device that has an FFT, one leaves the transform outside, as a few lines of the host program, and exports `model.through`, which lies between.

# %% [markdown]
# ## 9.16 Official checkpoints
#
# The networks of chapters 6 to 8 have the official tensor names, so the published weights fit. They come as *packages*: a file with the network's class, its arguments and its weights, named by a signature and the first digits of its SHA-256, and *bags* that say which packages belong together, with which weights. A package is a pickle, and a pickle can run code; the course's reader (`course_lib.training.official_packages`) takes the names of classes and the numbers, and runs nothing.

# %%
#| export
def load_official(name: str, folder: str | Path | None = None) -> nn.Module:
    """A published network of the Demucs family, or a `Bag` of several, for `separate`.

    name: such as htdemucs, htdemucs_ft, htdemucs_6s, hdemucs_mmi, repro_mdx_a, or a package's
    signature. folder: of packages on this machine; without it they are downloaded when first asked
    for, their hashes checked. The weights are other people's work: see the licences of section
    9.19. Errors: see `fetch_official` in course_lib.training.official_packages. Source: section
    9.16.
    """
    released = fetch_official(name, folder)
    models = released.models()
    for model in models:
        if getattr(model, "segment", None) is None:                 # Demucs v2 says none
            model.segment = 10.0
    if len(models) == 1 and released.weights is None:
        return models[0]
    return Bag(models, released.weights)

# %% [markdown]
# No weights are on this machine, and a chapter shouldn't download 160 MB unasked. So we write a package ourselves, in the official layout (class by name, arguments, weights in 16 bits), two of them and a bag that gives each its sources, and load it as a reader would load `htdemucs_ft`. Where are official names for classes, we need only the name: a stand-in module called `demucs.hdemucs` is enough to write the pickle.

# %%
import hashlib, sys, types

def write_package(folder, signature, klass, kwargs, model):
    """A file SIGNATURE-DIGITS.th as the package demucs publishes networks."""
    module, _, name = klass.rpartition(".")
    stand_in = type(name, (), {"__module__": module})
    before = {key: sys.modules.get(key) for key in ("demucs", module)}
    sys.modules["demucs"] = types.ModuleType("demucs")
    sys.modules[module] = types.ModuleType(module)
    setattr(sys.modules[module], name, stand_in)
    half = {key: tensor.half() for key, tensor in model.state_dict().items()}
    path = Path(folder) / f"{signature}.th"
    try:
        torch.save({"klass": stand_in, "args": (), "kwargs": kwargs, "state": half}, path)
    finally:
        for key, was in before.items():
            sys.modules.pop(key) if was is None else sys.modules.update({key: was})
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f"{signature}-{digits}.th"))

# %% [markdown]
# Two small hybrids, one of them for drums and bass:

# %%
kwargs = dict(sources=list(STEMS), channels=8, nfft=1024, depth=4, segment=3.0)
with tempfile.TemporaryDirectory() as folder:
    for seed, signature in enumerate(("aaaaaaaa", "bbbbbbbb")):
        torch.manual_seed(seed)
        path = write_package(folder, signature, "demucs.hdemucs.HDemucs", kwargs, HDemucs(**kwargs))
    bag_text = "models: [aaaaaaaa, bbbbbbbb]\nweights: [[1, 1, 0, 0], [0, 0, 1, 1]]\n"
    (Path(folder) / "pair.yaml").write_text(bag_text)
    official = load_official("pair", folder)
    print(path.name.split("-")[0], "...", [type(one).__name__ for one in official.models])
    damaged = path.read_bytes()[:-100]
    path.write_bytes(damaged)
    try:
        load_official("pair", folder)
    except ValueError as error:
        print("cut short, and refused:", "it is damaged or another file" in str(error))
assert official.weights == [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]

# %% [markdown]
# What comes out of the bag is what its members give, and a song separator takes it as any other model. With a network connection the same two lines separate a song with the real ones:
#
# ```
# separator = SongSeparator(load_official("htdemucs"))
# separate_file(separator, "song.flac", "stems")
# ```
#
# or `uv run course separate song.flac -o stems --model htdemucs`.

# %%
x = song.mixture[:, :4 * rate]
y = separate(official, x)
first, second = (separate(one, x) for one in official.models)
assert torch.allclose(y[:2], first[:2], atol=1e-6) and torch.allclose(y[2:], second[2:], atol=1e-6)
print("drums and bass from the first, other and vocals from the second network")

# %% [markdown]
# ## 9.17 Fine-tuning on your own stems
#
# Four stems may not be those that you need: a choir and its organ, guitar and piano apart. Nobody trains for days for that. One begins with a trained network and goes on, on stems of one's own: **fine-tuning**. But how can a network of four sources begin one of six?
#
# Where does it know its sources at all? Build it with four and with six, and compare the shapes of all tensors:

# %%
with torch.device("meta"):
    four, six = (DemucsV2(sources, 1, 16, 5, resample=False, rescale=0).state_dict()
                 for sources in (STEMS, SIX_STEMS))
differ = [name for name in four if four[name].shape != six[name].shape]
show_table([[name, str(tuple(four[name].shape)), str(tuple(six[name].shape))] for name in differ],
           ["tensor", "four sources", "six"],
           caption=f"The other {len(four) - len(differ)} tensors of chapter 6's Demucs have equal "
           "shapes.")
assert len(differ) == 2

# %% [markdown]
# Only in the last layer, a transposed convolution that makes each source from the same 16 channels. Its weights are blocks, one a source. So every block of a known name is copied. And the new ones? Guitar and piano were in *other* until now. If the three of them begin as a third each of its block (and of its bias),
#
# $$ W_{\text{guitar}} = W_{\text{piano}} = W_{\text{rest}} = \tfrac13\, W_{\text{other}} \quad\Rightarrow\quad \hat s_{\text{guitar}} + \hat s_{\text{piano}} + \hat s_{\text{rest}} = \hat s_{\text{other}}, \tag{9.11} $$
#
# then nothing that the network knew is lost at the first step: the layer is linear in its weights.

# %%
d = Diagram()
h = d.block("all layers\nbut one", "(16, time)", kind="trained")
old = d.block("old other", "block (16, 1, 8)", after=h, kind="trained", gap=0.8)
kept = d.block("drums, bass,\nvocals", "blocks (16, 3, 8)", after=old, place="above",
               kind="trained", arrow=False)
d.arrow(h, kept)
third = d.join("×", after=old)
parts = d.block("other, guitar,\npiano", "blocks (16, 3, 8)", after=third, label="1/3 each",
                kind="trained")
show(d.draw(), "Four sources become six: known ones keep their blocks of the last layer, three "
     "share one.", d.in_words())

# %% [markdown]
# By hand, on the committed Demucs:

# %%
def shared_out(tensor, axis):
    """A tensor of the last layer for six sources, from one for four."""
    blocks = dict(zip(STEMS, tensor.split(1, axis)))
    blocks |= {name: blocks["other"] / 3 for name in ("other", "guitar", "piano")}
    return torch.cat([blocks[name] for name in SIX_STEMS], axis)

weight, bias = (demucs_net.state_dict()[name] for name in differ)
wide, long = shared_out(weight, 1), shared_out(bias, 0)
print(*(f"{tuple(old.shape)} -> {tuple(new.shape)}" for old, new in ((weight, wide), (bias, long))))

# %% [markdown]
# Other networks keep their sources elsewhere (a hybrid in both branches). `begin` finds those tensors as we did, by building the network with one source more, and does the same with each. What a new source begins as can also be said: a sum of old ones, shares of them, or weights of its own.

# %%
from course_lib.training.configuration import read_config
from course_lib.training.fine_tuning import begin, described, open_checkpoint

checkpoint = open_checkpoint({"trained": "demucs_band"})
part = {**checkpoint.part, "sources": list(SIX_STEMS)}
six_net = DemucsV2(SIX_STEMS, 1, 16, 5, resample=False, normalize=True, samplerate=rate).eval()
print(described(begin(six_net, part, checkpoint)))
assert all(torch.allclose(six_net.state_dict()[name], one)
           for name, one in zip(differ, (wide, long)))

# %% [markdown]
# What comes out before the first step, in one pass? (Demucs takes the mixture's mean off and gives it back to every source, be it four or six; so that the sums are comparable, we take it off before.)

# %%
x = song.mixture[None, :, :4 * rate]
x = x - x.mean()
with torch.no_grad():
    before, after = (padded_separation(net, x)[0] for net in (demucs_net, six_net))
assert torch.allclose(after[:2], before[:2], atol=1e-5)             # drums and bass
whole = after[[SIX_STEMS.index(name) for name in ("other", "guitar", "piano")]].sum(0)
off = float((whole - before[2]).norm() / before[2].norm())
print("other + guitar + piano is the other of before:", off < 1e-4)
assert off < 1e-4

# %% [markdown]
# <details><summary>Quick question: guitar, piano and rest begin with equal weights. Won't they stay equal?</summary>
#
# No. Units that stay equal are *hidden* ones with equal weights on both sides: their gradients are equal. These are outputs, and each is compared with a stem of its own, so that their gradients differ from the first step on.
# </details>
#
# All of that is the section `start` of a configuration. The course's example, with its comments left out:

# %%
examples = Path(course_lib.training.__file__).parent / "examples"
own = read_config(examples / "own_stems.yaml")
for name in ("start", "data", "optimizer"):
    print(f"{name}: {own[name]}")

# %% [markdown]
# `my_songs` is a folder with a folder for each song, and in it a file for each stem. Like 9.18's training at full size, this is tried out on next to nothing first: four songs of the band of three seconds, written as yours would lie, three steps.

# %%
def write_stems(tracks, root):
    """Songs as a reader's own: ROOT/SONG/STEM.wav, six stems."""
    for track in tracks:
        place = Path(root) / track.name
        place.mkdir(parents=True)
        for stem, y in zip(SIX_STEMS, track.sources(SIX_STEMS)):    # other: without the two
            soundfile.write(place / f"{stem}.wav", y.T.numpy(), track.rate)

def on_few_songs(config, root):
    """The configuration on the songs in `root`, for three steps."""
    few = lambda part: {**part, "tracks": {**part["tracks"], "root": str(root)}}
    return {**config, "data": {**few(config["data"]), "remix": 0.0},
            "validation": few(config["validation"]),
            "schedule": {**config["schedule"], "warmup": 1},
            "training": {**config["training"], "steps": 3, "batch_size": 2, "validate_every": 3}}

# %% [markdown]
# Remix is off, for it wants as many songs as there are stems. `run_config` is what `course train own_stems.yaml` calls:

# %%
from course_lib.training.command import run_config

with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    tracks = open_tracks("band", "train", count=4, seconds=3.0)
    for split, some in (("train", tracks[:3]), ("valid", tracks[3:])):
        write_stems(some, Path(folder) / "my_songs" / split)
    history = run_config(on_few_songs(own, Path(folder) / "my_songs"), Path(folder) / "run",
                         command="chapter 9", keep=False, progress=False)
print(f"{len(history.steps)} steps, validated on:",
      ", ".join(name for name in history.validations[-1] if name != "step"))
assert all(math.isfinite(row["loss"]) for row in history.steps)

# %% [markdown]
# What is it worth? `course experiment fine_tuning` trained the six-source network on the band's 60 train songs for 400 steps of 4 chunks, once from `demucs_band` and once from scratch, at equal rates and with two seeds. Beside them stand the network of four, and that of six as it begins. *All of other* is other, guitar and piano added up, which all of them have.

# %%
PARTS = (*SIX_STEMS, "whole_other")
fine_rows = results("fine_songs")
fine = lambda kind, seed: torch.tensor([[float(row[name]) for name in PARTS] for row in fine_rows
                                        if (row["kind"], row["seed"]) == (kind, str(seed))])
fine_of = {kind: torch.stack([fine(kind, seed) for seed in seeds]) for kind, seeds in (
    ("four stems", (0,)), ("as it begins", (0,)), ("from scratch", (0, 1)),
    ("fine-tuned", (0, 1)))}                                        # (seed, song, part)
shown_as = ["drums", "bass", "rest of other", "vocals", "guitar", "piano", "all of other"]
heard_in = (~fine("fine-tuned", 0).isnan()).sum(0).tolist()
show_table([["songs with it", *heard_in]] + [[kind, *table.nanmean((0, 1)).tolist()]
            for kind, table in fine_of.items()], ["network", *shown_as], digits=1,
           caption="SDR in dB, mean over the test songs in which the stem sounds, and two seeds.")

# %% [markdown]
# And what counts, by the rule of section 9.12, stem by stem:

# %%
def by_stem(kind, rival):
    """How far one kind is ahead of another: a row a stem with a verdict."""
    change = fine_of[kind] - fine_of[rival]                         # (seed, song, part)
    for name, one, runs in zip(shown_as, change.movedim(-1, 0), fine_of[kind].movedim(-1, 0)):
        one = one[:, ~one.isnan().any(0)]                           # songs in which it sounds
        if one.numel():
            apart = runs.nanmean(1).max() - runs.nanmean(1).min()
            yield name, counted(one, float(apart)), one

for kind, rival in (("fine-tuned", "from scratch"), ("fine-tuned", "four stems")):
    print(f"{kind} against {rival}:",
          *(f"  {name}: {words}" for name, words, _ in by_stem(kind, rival)), sep="\n")
known = {name: words for name, words, _ in by_stem("fine-tuned", "from scratch")}
assert all(known[name].startswith("+") and known[name].endswith(", counts")
           for name in ("drums", "bass", "vocals"))
assert fine_of["fine-tuned"].nanmean() > fine_of["from scratch"].nanmean()

# %% [markdown]
# Two things stand there. What the network *knew*, drums, bass and vocals, goes on, at the price of some tenths of a dB: in equal steps a network from scratch is far behind. What it *didn't know* it hasn't learned in 400 steps, by either way: the scores of guitar and piano lie near 0 dB, which is what an estimate of silence scores, and where both are near silence a lead that counts is worth little. Their sum with the rest has lost most of what *other* had. That is no accident. The absolute error is smallest at the median, and as long as a network can't tell which of three instruments it hears, each of them is more often absent than not: so all three go down. (The committed network saw many times as many chunks before its *other* was what it is: its card, in section 9.18, tells.) Fine-tuning saves learning again what one has; what is new costs its own time.
#
# So look at a list of scores stem by stem before you use six stems of a short training, and keep the network of four for the four. In a longer run a step can also count the new stems more: `SourceStep` of `course_lib.training.fine_tuning` weights the sources, as the authors of HT Demucs did when they tuned a network for each.

# %% [markdown]
# ## 9.18 Training at full size
#
# All networks of this course were trained on one CPU core. What would the real thing take? First the work of one forward pass, counted by PyTorch: matrix products and convolutions, 2 operations for each multiplication.

# %%
from torch.utils.flop_counter import FlopCounterMode
from course_lib.htdemucs import HTDemucs

released = HTDemucs(STEMS, bottom_channels=512, dconv_mode=3, segment=7.8, rescale=0).eval()
with FlopCounterMode(display=False) as counter, torch.no_grad():
    released(torch.zeros(1, 2, 343_980))
forward = counter.get_total_flops()
print(f"{sum(p.numel() for p in released.parameters()):,} parameters, "
      f"{forward / 1e9:.0f} GFLOP for 7.8 s")
assert 200e9 < forward < 300e9

# %% [markdown]
# The backward pass costs about twice the forward one. The paper trained for 1200 epochs of 800 batches of 32 chunks, on eight V100 GPUs. How fast such a GPU is in practice, not on its data sheet, depends on the network; we take a range of shares of the peak in mixed precision (125 TFLOP/s for a V100, 989 for an H100).

# %%
steps = 1200 * 800
total = 3 * forward * 32 * steps
gpus = {"8 x V100": (8, 125e12), "8 x H100": (8, 989e12), "1 x H100": (1, 989e12)}
show_table([[name, *(total / (count * peak * share) / 86_400 for share in (0.1, 0.2, 0.4))]
            for name, (count, peak) in gpus.items()],
           ["machine", "days at 10% of peak", "days at 20%", "days at 40%"], digits=1,
           caption=f"{total:.1e} operations: {steps:,} steps of 32 chunks. Computed, not measured.")

# %% [markdown]
# Beside it one core of ours, at the rate at which it gets through its trainings. The committed Demucs of chapter 6 took 3600 steps of 8 chunks of 1.5 s:

# %%
card = demucs_net.card
with torch.device("meta"):
    again = DemucsV2(STEMS, 1, 16, depth=5, resample=False, samplerate=rate, rescale=0)
with FlopCounterMode(display=False) as counter, torch.no_grad():
    again(torch.zeros(1, 1, again.valid_length(round(1.5 * rate)), device="meta"))
ours = 3 * counter.get_total_flops() * 8 * card["steps"]
speed = ours / (60 * card["minutes"])
print(f"ours: {ours:.0e} operations in {card['minutes']:.0f} minutes; the published one is "
      f"{total / ours:,.0f} times as much: {total / speed / 86_400 / 365:,.0f} years of this core")
assert total / ours > 1e4

# %% [markdown]
# The configuration stands in `course_lib/training/configs/htdemucs_musdb18hq.yaml`: the network, 7.8 s, remix, changed pitch and tempo, gains, Adam at $3 \cdot 10^{-4}$, 960,000 steps, moving average. It differs from the paper's in one thing: no 800 further songs, which nobody else has. `course train` is the same loop as for the small ones; what is different is how it is started. On one machine with eight GPUs:
#
# ```
# uv run accelerate launch --multi_gpu --num_processes 8 --mixed_precision bf16 \
#     --dynamo_backend inductor -m course_lib.cli train htdemucs_musdb18hq
# ```
#
# `accelerate` starts a process a GPU, each takes its own chunks and the gradients are averaged; `bf16` computes products in half precision; `inductor` compiles the network's kernels. At full size none of this has been run by the course: it has no such machine. What `course train` does with several processes is tested on the CPU, with two; that the command above runs as it stands, compiled and in `bf16`, on one, with a smaller network.

# %%
config = read_config("htdemucs_musdb18hq")
assert config["training"]["steps"] == steps and config["training"]["batch_size"] * 8 == 32
print({name: config["training"][name] for name in ("steps", "batch_size", "ema_decay")})

# %% [markdown]
# Before one rents eight GPUs for days, one runs the recipe **shrunk**: the same file, the same code, but a network of toy size, songs of three seconds and two steps. What is misspelt or doesn't fit together shows in a second, and not in the first hour that is paid for.

# %%
def shrunk(config):
    """The configuration with a network, songs and steps for one core."""
    songs = {"source": "band", "split": "train", "count": 4, "seconds": 3.0}
    model = dict(channels=8, nfft=512, depth=3, t_layers=2, t_heads=2, bottom_channels=16)
    return {**config, "name": "shrunk", "model": {**config["model"], **model, "segment": 0.5},
            "facts": {**config["facts"], "segment": 0.5},
            "data": {**config["data"], "tracks": [songs], "seconds": 0.5},
            "validation": {**config["validation"], "tracks": songs},
            "training": {**config["training"], "steps": 2, "workers": 0, "precision": "bf16"}}

# %% [markdown]
# `run_config` is what `course train` calls. It trains, averages the weights and validates with them:

# %%
with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
    history = run_config(shrunk(config), Path(folder), command="chapter 9", progress=False)
print(f"{len(history.steps)} steps, {len(history.validations)} validation of",
      ", ".join(name for name in history.validations[0] if name != "step"))
assert all(math.isfinite(row["loss"]) for row in history.steps)

# %% [markdown]
# What it validates with is this chapter's separator, in chunks; a song of four minutes fits through no network of this size at once.

# %%
#| export
def separation_scores(model: nn.Module, tracks: Sequence[Track], **options) -> dict[str, float]:
    """Mean SDR in dB over songs, of each of the model's sources, and their mean (`sdr`, first).

    tracks: whole songs at the model's rate. options: as `separate`. Source: section 9.18.
    """
    table = [song_sdr(separate(model, track.mixture, **options), track.sources(model.sources))
             for track in tracks]
    means = torch.stack(table).nanmean(0)                           # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(model.sources, means.tolist()))}

# %% [markdown]
# On two songs, in chunks:

# %%
scores = separation_scores(demucs_net, songs[:2])
print({name: round(value, 1) for name, value in scores.items()})

# %% [markdown]
# What do small networks reach for small money? Their cards tell what each cost, and its score on whole validation songs:

# %%
cards = {name: load_trained(name).card for name in ("demucs_band", "hdemucs_band", "htdemucs_band")}
show_table([[name, f"{card['parameters'] / 1e6:.1f}", card["steps"],
             card["config"]["training"]["batch_size"], card["minutes"], card["score"]["sdr"]]
            for name, card in cards.items()],
           ["network", "million parameters", "steps", "chunks a step", "minutes", "SDR, dB"],
           digits={"minutes": 0, "SDR, dB": 1},
           caption="The course's networks, mono at 22,050 Hz, each on one CPU core; mean over "
           "stems and the band's validation songs.")

# %% [markdown]
# The networks differ, and so do minutes, songs and lengths of chunks; what each part is worth in *equal* time is what chapter 8 measures. The published HT Demucs is at 9 dB on MUSDB18-HQ, with more songs. That doesn't compare with ours (other songs, another rate, one channel); the distance to the ideal mask of chapter 1 can be told for either.

# %% [markdown]
# ## 9.19 A real recording
#
# Which network does `course separate` take if it isn't told? `DEFAULT_MODEL` is chapter 4's Open-Unmix. Why not chapter 8's HT Demucs, the best of those in section 9.18? On the same test songs, both brought to mono at 22,050 Hz (chapter 8; the one called *longer* comes with the course):

# %%
of_chapter_8 = measured("08_ht_demucs/bounds")
mono_scores = {name: torch.tensor([[float(row[stem]) for stem in STEMS] for row in of_chapter_8
                                   if row["method"] == name])
               for name in ("Open-Unmix", "HT Demucs, longer")}
show_table([[name, *table.nanmean(0).tolist(), float(table.nanmean(0).mean())]
            for name, table in mono_scores.items()], ["network", *STEMS, "mean"], digits=1,
           caption="SDR in dB on the band's test songs, in mono at 22,050 Hz.")
ahead_in_mono = (mono_scores["HT Demucs, longer"] - mono_scores["Open-Unmix"]).nanmean(1)
print("HT Demucs against Open-Unmix:", difference_in_words(ahead_in_mono))
assert mean_interval(ahead_in_mono)[1] <= 0 < ahead_in_mono.mean()  # ahead, but not clearly

# %% [markdown]
# HT Demucs is ahead by a little, and by the interval it may be nothing. That is at *its* rate. It learned at 22,050 Hz and in mono: of a record it gives back next to nothing above 11 kHz, where the cymbals' brilliance is, and it hears each channel alone. Open-Unmix learned in stereo at 44.1 kHz. A default should give back the whole sound; the other one is `--model htdemucs_band`.
#
# Neither has ever heard a record: they learned on the band, whose instruments are sampled and whose singer is a synthesiser. What happens with real music? A guitar, a bass and a human voice, through the default network, from disk to disk. Credit, as the licence asks: *Let's Go Fishin'*, Karissa Hobbs (CC BY 3.0), from the Free Music Archive.

# %%
real, real_rate = recording("fishin", start=30.0, seconds=12.0)
listen(real.mean(0, keepdim=True), real_rate, "the recording")

# %% [markdown]
# From disk to disk:

# %%
with tempfile.TemporaryDirectory() as folder:
    place = Path(folder) / "fishin.flac"
    soundfile.write(place, real.T.numpy(), real_rate)
    on_disk = lambda name: {
        stem: torch.from_numpy(soundfile.read(path, dtype="float32")[0].T) for stem, path in
        separate_file(load_separator(name), place, folder, format="flac", bits=24).stems.items()}
    stems, by_ht = on_disk(DEFAULT_MODEL), on_disk("htdemucs_band")
for stem in ("vocals", "other"):
    listen(stems[stem].mean(0, keepdim=True), real_rate, f"{stem}, by the default network")

# %% [markdown]
# The same stems by HT Demucs:

# %%
for stem in ("vocals", "other"):
    listen(by_ht[stem].mean(0, keepdim=True), real_rate, f"{stem}, by HT Demucs")

# %% [markdown]
# Where did the energy go, and how much is left above 11 kHz?

# %%
share_of = lambda y: float(y.square().sum() / real.square().sum())
above = lambda y: float(stft(y, 2048, 1024)[:, 1025 * 11_025 // 22_050:].abs().square().sum())
show_table([[name, *(f"{100 * share_of(found[stem]):.0f}%" for stem in STEMS),
             f"{100 * share_of(real - sum(found.values())):.0f}%",
             f"{100 * above(sum(found.values())) / above(real):.0f}%"]
            for name, found in (("Open-Unmix", stems), ("HT Demucs", by_ht))],
           ["network", *STEMS, "in no stem", "above 11 kHz, all stems"],
           caption="Energy of each estimate, of what no stem got, and of the treble in the sum of "
           "all stems, against the recording's.")
assert above(sum(by_ht.values())) < 0.1 * above(sum(stems.values()))

# %% [markdown]
# To see:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.4), sharey=True)
for axis, (name, y) in zip(axes, {"recording": real, "vocals, Open-Unmix": stems["vocals"],
                                  "vocals, HT Demucs": by_ht["vocals"]}.items()):
    plot_spectrogram(y[:, :6 * real_rate].mean(0, keepdim=True), real_rate, name, loudest=-20,
                     colour_bar=False, ax=axis)
show(figure, "Six seconds of a real recording, and its vocals by two networks.",
     "Three spectrograms: voice and guitar together, then two estimates of the voice.")

# %% [markdown]
# There is no truth to compare with, so judge by ear: how much of the guitar is in the voice, by either? Networks that learned on real music do this far better; that is what section 9.16 is for. **Whose weights are they?** The code of Demucs is free (MIT), its weights are not: their authors say for scientific purposes only. Look before you publish what a network made:

# %%
show_table([[row["weights"], row["licence"], row["trained_on"]] for row in weight_licences()],
           ["weights", "licence", "trained on"],
           caption="What the course can load, and on whose terms.")

# %% [markdown]
# ## 9.20 What we built
#
# | name | what | section |
# |---|---|---|
# | `transition_weights`, `chunk_sizes` | triangles, lengths and hops of chunks | 9.3 |
# | `window`, `pass_length`, `separate_chunk` | a chunk and what stands around it | 9.4 |
# | `segment_of`, `overlap_add_chunks`, `channel_groups`, `joined_groups`, `SongLevel` | a whole song, any channels, its level | 9.5 |
# | `first_chunks` | shifts | 9.6 |
# | `Bag`, `members`, `separate` | several networks; the function that does it all | 9.7 |
# | `shared_residual`, `two_stems` | stems that add up; karaoke | 9.8, 9.9 |
# | `SlidingAudio`, `SlidingSum`, `separated_blocks` | streaming | 9.10 |
# | `StemFiles`, `check_format`, `SpectrogramModel`, `SongSeparator`, `load_separator`, `separated_file`, `stem_paths`, `separate_file` | from disk to disk | 9.11 |
# | `FrameByFrame` | a live separator | 9.12 |
# | `label_levels`, `doubts`, `keeps_song`, `CheckedSong`, `cleaned` | does a stem hold what its label says; cleaning a set of songs | 9.13 |
# | `wave_filters`, `real_stft`, `real_istft`, `RealSpectra`, `export_onnx` | an STFT as a convolution; out of PyTorch | 9.15 |
# | `load_official` | published weights | 9.16 |
# | (fine-tuning) | a network with any sources begins with a trained one: `begin` of `course_lib.training.fine_tuning` | 9.17 |
# | `separation_scores` | validation on whole songs | 9.18 |
#
# All else is in `course_lib.separating`; the commands are `course separate` and `course train`.

# %% [markdown]
# ## 9.21 Paper claims
#
# Levels on MUSDB18 can't be had from the band. What rests on trainings counts only by the rule of section 9.12.

# %%
def judged(change):
    """A verdict on differences (seed, song) that are positive if the source is right."""
    seen = same_trend(change) if change.numel() else NEEDS_REAL_DATA
    far = change.numel() and abs(float(change.mean())) > seeds_apart and len(change) > 1
    return seen if seen != SAME_TREND or far else NOT_SEEN

shift_gain = (by_song("shifts", model="demucs_band", shifts=3) - plain["demucs_band"]).nanmean(1)
augmented = -against_base("without augmentation")
in_words = lambda change: difference_in_words(change) if change.numel() else "not run"
ablations = {row["variant"]: float(row["sdr_db"]) for row in published("demucs_ablations")}

# %% [markdown]
# The verdicts are computed:

# %%
claims = [
    Claim("Random shifts help", "Défossez et al. 2019", "9.6",
          f"{ablations['base'] - ablations['without shifts']:+.2f} dB (10 shifts)",
          f"{in_words(shift_gain)} (3 shifts, small Demucs)", same_trend(shift_gain)),
    Claim("A bag of different networks beats its best member", "Défossez 2021", "9.7",
          "order only", in_words((picked - alone).nanmean(1)),
          same_trend((picked - alone).nanmean(1))),
    Claim("Sharing the residual lowers the total error by its J-th part", "this chapter", "9.8",
          None, f"off by {abs(fall - residual / 4) / residual:.0e} of the residual"
          if abs(fall - residual / 4) > 1e-6 * residual else "to rounding",
          reproduced(fall / residual, 0.25, 1e-3)),
    Claim("Memory does not grow with the song", "this chapter", "9.11", None,
          f"x {ours_grows:.2f} from 1 to 10 minutes; the package's x {theirs_grows:.2f}",
          reproduced(ours_grows, 1.0, 0.2)),
    Claim("A network that learned with the future needs it", "this chapter", "9.12", None,
          in_words((full - ahead[0.0]).nanmean(1)), same_trend((full - ahead[0.0]).nanmean(1))),
]

# %% [markdown]
# And those that rest on trainings or on spoilt songs. (A verdict of fine-tuning asks the same of the seeds' distance, stem by stem.)

# %%
judged_stems = {name: (words, one) for name, words, one in by_stem("fine-tuned", "from scratch")}
ahead_of_scratch = {name: one for name, (_, one) in judged_stems.items()}

def verdict_of(stem):
    """A verdict of fine-tuning, which counts only by the rule."""
    words, one = judged_stems[stem]
    return same_trend(one) if words.endswith(", counts") else NOT_SEEN

# %% [markdown]
# The claims:

# %%
claims += [
    Claim("Looking ahead helps a mask network (equal frames)", "this chapter", "9.12", None,
          in_words(-against_base("one direction")), judged(-against_base("one direction"))),
    Claim("A separator tells wrong labels of stems", "Rouard, Massa and Défossez 2023", "9.13",
          "800 of 3500 songs kept", f"{100 * catches[-1][2]:.0f}% "
          f"caught, {100 * kept_clean:.0f}% of clean stems kept", NEEDS_REAL_DATA),
    Claim("Augmentation helps", "Défossez et al. 2019", "9.14", "order only",
          in_words(augmented), judged(augmented)),
    Claim("Fine-tuning to guitar beats equal steps from scratch", "this chapter", "9.17", None,
          in_words(ahead_of_scratch["guitar"]), verdict_of("guitar")),
    Claim("Fine-tuning to piano beats equal steps from scratch", "this chapter", "9.17", None,
          in_words(ahead_of_scratch["piano"]), verdict_of("piano")),
    Claim("Averaged weights help at a constant rate", "Polyak and Juditsky 1992", "9.14",
          "order only", in_words(ema_gain[0.99]) if ema_gain else "not run",
          same_trend(ema_gain[0.99]) if ema_gain else NEEDS_REAL_DATA),
]
show_claims(claims)

# %% [markdown]
# *Needs real data* stands at the labels, although their table is there: it is on songs that we spoilt ourselves. How often artists' labels are wrong, and how, only a real collection shows.

# %% [markdown]
# ## 9.22 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/09_separating_songs.ipynb) has more tasks, with checks.
#
# **1. Count chunks.** How many chunks of 7.8 s with an overlap of a quarter does a song of four minutes take, and how many times as much audio goes through the network as the song has?
#
# <details><summary>Answer</summary>
#
# One starts every 5.85 s: 42 (the last ones are short, and padded).
#
# ```python
# length, stride = chunk_sizes(7.8, 0.25, 44_100)
# chunks = len(range(0, 240 * 44_100, stride))
# assert chunks == 42 and 1.36 < chunks * length / (240 * 44_100) < 1.37
# ```
# </details>
#
# **2. No overlap, still no click?** With `overlap=0` the weights don't matter: each sample belongs to one chunk. Show it.
#
# <details><summary>Answer</summary>
#
# (9.2) divides by the only weight there is.
#
# ```python
# net, x = load_trained("demucs_band"), 0.1 * torch.randn(1, 80_000)
# one = separate(net, x, overlap=0.0, transition_power=1.0)
# other = separate(net, x, overlap=0.0, transition_power=6.0)
# assert torch.allclose(one, other, atol=1e-5)
# ```
# </details>
#
# **3. Where to put the residual.** Find shares $a_j$, one set for all songs, that lower the summed squared error most on the first songs. (The best shares for one song solve a line of algebra: what is it?)
#
# <details><summary>Answer</summary>
#
# Each stem alone is a least-squares problem: minimise $\lVert e_j - a_j r \rVert^2$, so $a_j = \langle e_j, r \rangle / \lVert r \rVert^2$. They sum to 1 by themselves, since the errors sum to $r$.
#
# ```python
# true = 0.1 * torch.randn(3, 4, 1, 40_000)                         # (song, source, channel, time)
# estimates = [separate(load_trained("demucs_band"), one.sum(0)) for one in true]
# errors = [one - y for one, y in zip(true, estimates)]
# top = sum((e * e.sum(0)).sum((1, 2)) for e in errors)
# best = top / sum(e.sum(0).square().sum() for e in errors)
# assert abs(float(best.sum()) - 1) < 1e-3
# cost = lambda a: sum(float((e - a[:, None, None] * e.sum(0)).square().sum()) for e in errors)
# assert cost(best) <= cost(torch.full((4,), 0.25)) + 1e-6
# ```
# </details>
#
# **4. A stream that lies.** What does `separated_blocks` do when the blocks hold fewer samples than `length` says? And why does it have to know the length before?
#
# <details><summary>Answer</summary>
#
# It raises: zeros would pass for silence. It needs the length because the last chunk is shorter, and padded with zeros beyond the end.
#
# ```python
# try:
#     list(separated_blocks(load_trained("demucs_band"), [torch.zeros(1, 20_000)], 60_000))
#     raise AssertionError
# except ValueError as error:
#     assert "ends before" in str(error)
# ```
# </details>
#
# **5. Delay.** What delay has `FrameByFrame` at 44.1 kHz with frames of 1024 samples, and how long may a step take on your machine?
#
# <details><summary>Answer</summary>
#
# 1024 samples are 23 ms; a step comes every 256 samples, and must be done in 5.8 ms.
#
# ```python
# assert round(1000 * 1024 / 44_100) == 23 and round(1000 * 256 / 44_100, 1) == 5.8
# ```
# </details>
#
# **6. A band as one stem.** Which `from` makes a network of two sources, *vocals* and *band*, of the committed Demucs, so that *band* begins as the sum of the other three? Check it on a second of noise without a mean (the network takes the mean off, and gives it back to every source).
#
# <details><summary>Answer</summary>
#
# A list of old sources: their blocks are added, and the layer is linear.
#
# ```python
# from course_lib.data import STEMS
# from course_lib.demucs import DemucsV2, padded_separation
# from course_lib.training.fine_tuning import begin, open_checkpoint
#
# old = open_checkpoint({"trained": "demucs_band"})
# part = {**old.part, "sources": ["vocals", "band"]}
# arguments = {name: value for name, value in part.items() if name != "use"}
# net = DemucsV2(**arguments).eval()
# begin(net, part, old, {"band": ["drums", "bass", "other"]})
# x = 0.1 * torch.randn(1, 1, 22_050, generator=torch.Generator().manual_seed(0))
# x -= x.mean()                                     # which is added to every source
# with torch.no_grad():
#     two, four = (padded_separation(one, x)[0] for one in (net, old.model))
# band = four[[STEMS.index(name) for name in ("drums", "bass", "other")]].sum(0)
# assert torch.allclose(two[0], four[STEMS.index("vocals")], atol=1e-5)
# assert torch.allclose(two[1], band, atol=1e-5)
# ```
# </details>
#
# **7. Open.** Does a bag of three small networks, each trained for a third of the time, beat one that was trained for all of it? Use `course train` with three seeds.

# %% [markdown]
# ## 9.23 Sources
#
# - A. Défossez, N. Usunier, L. Bottou and F. Bach, *Music source separation in the waveform domain*, arXiv 1911.13254, 2019/2021: shifts.
# - A. Défossez, *Hybrid spectrogram and waveform source separation*, Music Demixing Workshop, ISMIR 2021: bags.
# - S. Rouard, F. Massa and A. Défossez, *Hybrid transformers for music source separation*, ICASSP 2023: cleaning, fine-tuning by stem, the full training.
# - S. Venkatesh et al., *Real-time low-latency music source separation using hybrid spectrogram-TasNet*, ICASSP 2024: the 23 ms that live separators aim at. (RT-STT's number is from its own paper, see `data/paper/real_time_scores.csv`.)
# - B. Polyak and A. Juditsky, *Acceleration of stochastic approximation by averaging*, SIAM J. Control and Optimization 1992.
# - ONNX, onnx.ai; the packages `demucs` and `openunmix` (MIT), whose behaviour the tests compare with. All code here is the course's own.
