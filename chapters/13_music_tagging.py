# %% [markdown]
# # Chapter 13 · Music tagging, networks that say what they hear
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/13_music_tagging.ipynb)
#
# Guitar? Female voice? Slow? A *tagger* hears some seconds of music and gives a probability for each of fifty such words. For
# separation this is a strange and useful thing to have: it knows what an instrument sounds like without ever having heard one
# alone. Chapter 14 will turn that knowledge around and pull instruments out of a mixture. Here you build four taggers as they were
# published, load the weights of three of them, look at what they listen to, and train small ones yourself.
#
# **You will be able to**
# - turn sound into the picture that nearly all taggers see, and say what it leaves out,
# - build FCN, Musicnn, CRNN and the harmonic CNN, and say how far each of them sees,
# - tag a recording of any length, and avoid the trap of the last chunk,
# - ask a network which parts of a sound speak for a word,
# - measure a tagger by ROC-AUC and PR-AUC, built from nothing.
#
# **You need** chapter 1 (STFT, mel) and the idea of a convolution (chapter 6).
#
# **Time** <!-- minutes 13_music_tagging -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 13.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp taggers
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("13_music_tagging", cpu=dict(seconds=29.0), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/taggers.py`. STFT and mel filters are chapter 1's.

# %%
#| export
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.losses import TaggerFeatures
from course_lib.spectral import mel_filterbank, stft
from course_lib.training.official import fetch_weights, load_strictly, read_tensors

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data.recordings import attribution, recording
from course_lib.losses import load_tagger as load_first_layers
from course_lib.notebook import Diagram, listen, show, show_table
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, reproduced,
                                        same_trend, show_claims)
from course_lib.results import measured, published, shipped_file
from course_lib.spectral import hz_to_mel, istft
from course_lib.training import read_card

# %% [markdown]
# ## 13.1 Words for sounds
#
# People write tags: for the data set *MagnaTagATune* (MTAT) thousands of players of an online game typed words for clips of 29 s: two strangers
# read each other's words and had to guess whether both were hearing the same clip. The fifty most frequent words became the task. *MTG-Jamendo* took the tags that musicians give to
# their own songs; there are fifty of them, too, each with its kind.
#
# The *order* of the words is the order of a network's outputs, and nothing in a file of weights says it: a list in another order gives wrong words without any error. MTAT's networks follow the data set's own list. For Jamendo the published
# code holds a list sorted by something else, but puts it through a label encoder that *sorts* it, so the outputs are in alphabetical order. Section 13.7 shows how one notices.

# %%
#| export
MTAT_TAGS = tuple(
    "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, "
    "beat, violin, vocal, synth, female, indian, opera, male, singing, vocals, no vocals, "
    "harpsichord, loud, quiet, flute, woman, male vocal, no vocal, pop, soft, sitar, solo, "
    "man, classic, choir, voice, new age, dance, male voice, female vocal, beats, harp, "
    "cello, no voice, weird, country, metal, female voice, choral".split(", "))
_KINDS = {
    "genre": "alternative ambient atmospheric chillout classical dance downtempo easylistening "
             "electronic experimental folk funk hiphop house indie instrumentalpop jazz lounge "
             "metal newage orchestral pop popfolk poprock reggae rock soundtrack techno trance "
             "triphop world",
    "instrument": "acousticguitar bass computer drummachine drums electricguitar electricpiano "
                  "guitar keyboard piano strings synthesizer violin voice",
    "mood/theme": "emotional energetic film happy relaxing"}
JAMENDO_TAGS = tuple(f"{kind}---{word}" for kind, words in _KINDS.items() for word in words.split())
OFFICIAL_TAGS: Mapping[str, tuple[str, ...]] = {"mtat": MTAT_TAGS, "jamendo": JAMENDO_TAGS}

# %% [markdown]
# Several tags are right at once, which makes this *multi-label* classification: not "which of fifty", but fifty times yes or no. And look at the words: what
# people type isn't tidy.

# %%
said = [tag for tag in MTAT_TAGS if "voc" in tag or "voice" in tag or tag in (
    "female", "male", "woman", "man", "singing", "choir", "choral", "opera")]
print(len(said), "of MTAT's 50 tags are about voices:", ", ".join(said))
assert len(MTAT_TAGS) == len(JAMENDO_TAGS) == 50 and len(set(MTAT_TAGS)) == 50
assert {"no vocals", "no vocal", "no voice"} <= set(said)
assert list(JAMENDO_TAGS) == sorted(JAMENDO_TAGS)

# %% [markdown]
# A clip tagged "female" and not "woman" is not wrong, somebody just stopped typing. Keep this in mind for every number below: the labels are incomplete.
#
# ## 13.2 What a tagger sees
#
# Four recordings will be with us. This is one of them.

# %%
rate = 16_000
names = ("fishin", "vibeace", "nutcracker", "brahms")
songs = {name: recording(name, start=12.0, seconds=P.seconds, mono=True, rate=rate)[0]
         for name in names}
listen(songs["nutcracker"][:, :8 * rate], rate, "Tchaikovsky, Dance of the Sugar Plum Fairy")

# %% [markdown]
# All four networks begin alike: 16,000 samples a second, frames of 512 (32 ms) every 256 samples, the power in each bin, gathered in 96 mel bands (section 1.9, the HTK formula), in decibels:
#
# $$ L[b, m] = 10 \log_{10} \max\Bigl(10^{-10},\; \sum_k T_b[k]\, |X[k, m]|^2 \Bigr),
#    \qquad \text{mel}(f) = 2595 \log_{10}(1 + f / 700). \tag{13.1} $$
#
# $X[k, m]$ is the STFT in bin $k$ and frame $m$; $T_b$, the filter of band $b$, is a triangle of height 1, and the corners of all of them lie equally far apart in mel. Why mel, why decibels? Because a semitone is a ratio: 20 Hz are a step at 300 Hz, and nothing at 6 kHz.

# %%
edges = torch.tensor([100.0, 200.0, 4000.0, 4100.0])
mels = hz_to_mel(edges, "htk")
print(f"100 to 200 Hz: {float(mels[1] - mels[0]):.0f} mel; "
      f"4000 to 4100 Hz: {float(mels[3] - mels[2]):.0f} mel")
assert mels[1] - mels[0] > 4 * (mels[3] - mels[2])

# %% [markdown]
# And decibels turn a quarter of the power into $-6$, whatever the level was: a soft violin looks like a loud one, shifted.
#
# In code, with the names that the published files use: `spec.spectrogram.window`, `spec.mel_scale.fb`.

# %%
#| export
def power_to_db(power: Tensor) -> Tensor:
    """Power to decibels, 10 log10(power), never below -100 dB: silence is finite (eq. 13.1)."""
    return 10 * torch.log10(power.clamp_min(1e-10))


class PowerSpectrogram(nn.Module):
    """|STFT|^2: (..., time) to (..., n_fft/2 + 1, frame), hop n_fft/2; a buffer `window`."""

    def __init__(self, n_fft: int = 512):
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, x: Tensor) -> Tensor:
        n_fft = len(self.window)
        return stft(x, n_fft, n_fft // 2, self.window).abs().square()

# %% [markdown]
# And the triangles:

# %%
#| export
class MelScale(nn.Module):
    """Power in bins to power in HTK mel bands, triangles of height 1; a buffer `fb`, (bin, band).

    ValueError for so many bands that one of them meets no bin.
    """

    def __init__(self, n_mels: int, n_fft: int, rate: int, f_min: float, f_max: float):
        super().__init__()
        bank = mel_filterbank(n_mels, n_fft, rate, f_min, f_max, scale="htk", norm=False)
        self.register_buffer("fb", bank.T.contiguous())

    def forward(self, power: Tensor) -> Tensor:
        return (power.mT @ self.fb).mT

# %% [markdown]
# Both together, in decibels, are what a tagger sees:

# %%
#| export
class MelFrontEnd(nn.Module):
    """What a tagger sees: audio (batch, time) to levels in dB, (batch, band, frame) (eq. 13.1).

    A frame every n_fft/2 samples, 1 + time // (n_fft/2) of them. Equals torchaudio's
    MelSpectrogram and AmplitudeToDB. Source: Won et al. 2020; section 13.2.
    """

    def __init__(self, sample_rate: int = 16_000, n_fft: int = 512, f_min: float = 0.0,
                 f_max: float = 8000.0, n_mels: int = 96):
        super().__init__()
        self.spectrogram = PowerSpectrogram(n_fft)
        self.mel_scale = MelScale(n_mels, n_fft, sample_rate, f_min, f_max)

    def forward(self, x: Tensor) -> Tensor:
        return power_to_db(self.mel_scale(self.spectrogram(x)))

# %% [markdown]
# Check by loops, at one band and one frame, and against torchaudio's transforms on all of it:

# %%
import torchaudio
front = MelFrontEnd()
levels = front(songs["nutcracker"])[0]                                 # (band, frame)
band, m = 40, 100
piece = songs["nutcracker"][0, 256 * m - 256:256 * m + 256] * torch.hann_window(512)
power = [sum(float(piece[n]) * complex(math.cos(-2 * math.pi * k * n / 512),
                                       math.sin(-2 * math.pi * k * n / 512))
             for n in range(512)) for k in range(60)]
by_hand = 10 * math.log10(sum(float(front.mel_scale.fb[k, band]) * abs(power[k]) ** 2
                              for k in range(60)))
theirs = torchaudio.transforms.AmplitudeToDB()(torchaudio.transforms.MelSpectrogram(
    16_000, n_fft=512, f_min=0.0, f_max=8000.0, n_mels=96)(songs["nutcracker"]))[0]
print(f"by hand {by_hand:.1f} dB, ours {float(levels[band, m]):.1f} dB, "
      f"shape {tuple(levels.shape)}")
assert front.mel_scale.fb[60:, band].sum() == 0 and abs(by_hand - float(levels[band, m])) < 1e-3
assert torch.allclose(levels, theirs, atol=0.05)

# %% [markdown]
# The picture, eight seconds of it. It is *all* that the networks get: no phase, nothing above 8 kHz, and two tones within one band are one.

# %%
def plot_levels(levels, axis, seconds, title=""):
    axis.imshow(levels, origin="lower", aspect="auto", extent=(0, seconds, 0, len(levels)),
                vmin=float(levels.max()) - 80, cmap="magma")
    axis.set(xlabel="time, s", ylabel="mel band", title=title)

figure, axis = plt.subplots(figsize=(6.4, 2.6))
plot_levels(levels[:, :500], axis, 8.0)
show(figure, "The Sugar Plum Fairy as a tagger sees her: 96 bands, 62.5 frames a second, 80 dB "
     "from dark to bright.", "A picture of 96 rows in which short bright marks, the celesta's "
     "notes, stand on a dark ground.")

# %% [markdown]
# ## 13.3 FCN: a picture like any other
#
# *Fully convolutional network* (Choi et al. 2016): treat the spectrogram as an image. Five times: convolution with filters of 3 x 3, batch norm, ReLU, and *pooling*, which keeps
# the largest of a few neighbours. After that nothing is left of time and frequency but 64 numbers, from which one linear layer and a sigmoid make fifty probabilities.
#
# **Batch norm** subtracts a channel's mean and divides by its standard deviation, then scales and shifts by two learned numbers. In training mean and variance are those of the batch; later they are the averages kept from training, so it is then a fixed straight line per channel:
#
# $$ y = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + 10^{-5}}} + \beta. \tag{13.2} $$
#
# The smallest example, one layer on a picture of 4 x 4 with one bright point:

# %%
picture = torch.zeros(1, 1, 4, 4)
picture[0, 0, 1, 1] = 1.0
edge = torch.tensor([[0.0, 0, 0], [-1, 0, 1], [0, 0, 0]])            # brighter to the right?
filtered = F.conv2d(picture, edge[None, None], padding=1)
pooled = F.max_pool2d(F.relu(filtered), 2)
print(filtered[0, 0].int().tolist(), "->", pooled[0, 0].int().tolist())
assert filtered[0, 0, 1].tolist() == [1, 0, -1, 0] and pooled[0, 0].tolist() == [[1, 0], [0, 0]]

# %% [markdown]
# The filter found that it gets brighter to the right, and pooling kept *that* it did, and roughly where. The layer, and FCN's sizes for 29 s of sound:

# %%
#| export
class ConvLayer(nn.Module):
    """Convolution of size 3 x 3 that keeps the size, batch norm, ReLU: names `conv`, `bn`."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))

# %% [markdown]
# Each block halves, thirds or quarters the bands, and leaves a fourth or a fifth of the frames:

# %%
d = Diagram()
sound = d.block("sound", "464000", kind="data")
seen = d.block("mel, dB,\nnorm", "1 x 96 x 1813", after=sound)
one = d.block("layer1\npool 2 x 4", "64 x 48 x 453", after=seen, kind="trained")
two = d.block("layer2\npool 2 x 4", "128 x 24 x 113", after=one, kind="trained")
three = d.block("layer3\npool 2 x 4", "128 x 12 x 28", after=two, kind="trained")
four = d.block("layer4\npool 3 x 5", "128 x 4 x 5", after=three, kind="trained", place="below")
five = d.block("layer5\npool 4 x 4", "64 x 1 x 1", after=four, kind="trained", place="left")
out = d.block("dense,\nsigmoid", "50", after=five, kind="trained", place="left")
show(d.draw(), "FCN: channels x bands x frames.", d.in_words())

# %% [markdown]
# Written plainly, as a function of a network's parts:

# %%
def fcn_plain(net, x):
    h = net.spec_bn(net.spec(x)[:, None])                            # (batch, 1, band, frame)
    for layer, pool in zip((net.layer1, net.layer2, net.layer3, net.layer4, net.layer5),
                           ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4))):
        h = F.max_pool2d(layer(h), pool)
    return net.dense(h[:, :, 0, 0]).sigmoid()                        # (batch, tag)

# %% [markdown]
# What all four taggers share goes into a small base class: they turn audio into *levels*, then levels into probabilities. We keep the two steps apart, so that later we can ask for gradients in between.

# %%
#| export
class Tagger(nn.Module):
    """What all taggers share: audio (batch, time) at `rate` Hz to probabilities (batch, tag).

    seconds: of audio that it was made for. tags: the names of its outputs, None where unknown.
    levels(x) gives what it sees, in dB; tagged(levels) the probabilities. ValueError for audio of
    another shape or type. Source: Won et al. 2020; section 13.3.
    """

    rate = 16_000
    seconds: float = 29.0
    tags: tuple[str, ...] | None = None

    @property
    def samples(self) -> int:
        """Samples of audio that it was made for."""
        return round(self.seconds * self.rate)

    def levels(self, x: Tensor) -> Tensor:
        check_audio(x=x)
        if x.ndim != 2 or x.shape[-1] < 512:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, time) at {self.rate} "
                             f"Hz, {self.samples} samples ({self.seconds:g} s) long: `tag` cuts "
                             "longer audio and fills up shorter one")
        return self.spec(x)

    def tagged(self, levels: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.tagged(self.levels(x))


def _too_short(model: Tagger, levels: Tensor) -> ValueError:
    """The error for audio that doesn't fit the pooling."""
    return ValueError(f"the audio makes {levels.shape[-1]} frames; {type(model).__name__} pools "
                      f"them to one place and needs about {model.samples} samples "
                      f"({model.seconds:g} s): `tag` cuts longer audio and fills up shorter one")

# %% [markdown]
# And FCN. `channels` and `pooling` are ours, so that we can build a small one for short chunks later; by default it is the published network.

# %%
#| export
class FCN(Tagger):
    """Five convolutions over the mel picture, pooled to one place: (batch, time) to (batch, tag).

    First arguments, defaults and tensor names as in `sota-music-tagging-models`: 447,732
    parameters. channels, pooling: of the layers, (bands, frames) each; seconds: that they are made
    for. ValueError for audio that the pooling doesn't bring to one place. Source: Choi, Fazekas
    and Sandler 2016, Won et al. 2020; section 13.3.
    """

    def __init__(self, sample_rate: int = 16_000, n_fft: int = 512, f_min: float = 0.0,
                 f_max: float = 8000.0, n_mels: int = 96, n_class: int = 50,
                 channels: Sequence[int] = (64, 128, 128, 128, 64),
                 pooling: Sequence[Sequence[int]] = ((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)),
                 seconds: float = 29.0):
        super().__init__()
        if len(channels) != 5 or len(pooling) != 5:
            raise ValueError(f"channels has {len(channels)} entries, pooling {len(pooling)}; "
                             "FCN has five layers")
        self.rate, self.seconds = sample_rate, seconds
        self.spec = MelFrontEnd(sample_rate, n_fft, f_min, f_max, n_mels)
        self.spec_bn = nn.BatchNorm2d(1)
        self.pooling = [tuple(pool) for pool in pooling]
        for number, (into, out) in enumerate(zip((1, *channels), channels), 1):
            setattr(self, f"layer{number}", ConvLayer(into, out))
        self.dense, self.dropout = nn.Linear(channels[-1], n_class), nn.Dropout(0.5)

    def tagged(self, levels: Tensor) -> Tensor:
        h = self.spec_bn(levels.unsqueeze(1))                          # (batch, 1, band, frame)
        for number, pool in enumerate(self.pooling, 1):
            h = getattr(self, f"layer{number}")(h)
            if h.shape[-1] < pool[1]:
                raise _too_short(self, levels)
            h = F.max_pool2d(h, pool)
        if h.shape[-2:] != (1, 1):
            raise _too_short(self, levels)
        return self.dense(self.dropout(h.flatten(1))).sigmoid()        # (batch, tag)

    def features(self) -> TaggerFeatures:
        """Chapter 5's view of the first three layers: it shares this network's tensors."""
        view = TaggerFeatures()
        view.mel, view.spec_bn = self.spec.mel_scale.fb, self.spec_bn
        view.layer1, view.layer2, view.layer3 = self.layer1, self.layer2, self.layer3
        return view.train(self.training)

# %% [markdown]
# The count must be the published one, and the class must agree with the plain function:

# %%
count = lambda net: sum(p.numel() for p in net.parameters())
torch.manual_seed(0)
fcn = FCN().eval()
with torch.no_grad():
    given = fcn(songs["brahms"])
    assert torch.allclose(given, fcn_plain(fcn, songs["brahms"]), atol=1e-6)
print(f"{count(fcn):,} parameters; output {tuple(given.shape)}, {list(fcn.state_dict())[:4]} ...")
assert count(fcn) == 447_732

# %% [markdown]
# Chapter 5 measured distances in the first three layers of such a network. Its `TaggerFeatures` is now a *view* of FCN: `features()` builds one that holds the very same tensors. (An arrow from chapter 5
# to here would point the wrong way, so the view is made on this side.)
#
# **How far does it see?** A value after a layer depends on a patch of its input, the *receptive field*. Each convolution of size $k$ widens it by $k - 1$ steps, each pooling by $p$ by $p - 1$ steps, and after a pooling steps are $p$ times as long. In frames of the picture, with $j$ for the length of a step, both 1 at first:
#
# $$ r \leftarrow r + (k - 1)\, j, \qquad j \leftarrow j\, p. \tag{13.3} $$

# %%
def receptive_field(layers):
    """Frames that one value depends on; layers: (size, stride) of convolutions and poolings."""
    r, j = 1, 1
    for size, stride in layers:
        r, j = r + (size - 1) * j, j * stride
    return r

pools = (4, 4, 4, 5, 4)
fields = [receptive_field([pair for p in pools[:n] for pair in ((3, 1), (p, p))])
          for n in range(1, 6)]
show_table([[f"layer{n}", r, r * 256 / rate] for n, r in enumerate(fields, 1)],
           ["after", "frames", "seconds"], digits=1, caption="What one value of FCN depends on.")
assert fields[-1] * 256 / rate > 29

# %% [markdown]
# The same, measured: the gradient of one value of the second layer touches as many frames as the formula says. (With all weights positive nothing can cancel; mean instead of maximum, so that every neighbour counts.)

# %%
chain = nn.Sequential(*[part for p in pools[:2] for part in (
    nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d((1, p)))])
for parameter in chain.parameters():
    nn.init.ones_(parameter)
probe = torch.zeros(1, 1, 8, 96, requires_grad=True)
chain(probe)[0, 0, 4, 3].backward()
touched = int((probe.grad[0, 0].abs().sum(0) > 0).sum())
print(f"{touched} frames")
assert touched == fields[1]

# %% [markdown]
# So FCN looks at 29 s as one picture and decides once. What happens if it gets less is section 13.8.
#
# <details><summary>Quick question: an octave is how many mel bands for FCN, at 200 Hz and at 4 kHz? Can the same 3 x 3 filter find a chord in both places?</summary>
#
# A band is $2840 / 97 \approx 29$ mel wide. From 200 to 400 Hz it is 226 mel, about 8 bands; from 4 to 8 kHz 694 mel, about 24. Mel is not logarithmic down there, so a chord has another shape when it is transposed: the network has to learn several.
# </details>
#
# ## 13.4 Musicnn: filters that know music
#
# Pons et al. (2018) asked what a filter should look like if one knows something about music. *Timbre* is how a spectrum looks at one moment: a filter that is tall and narrow, and since the same
# timbre comes at many pitches, it may slide up and down, and only its best fit counts. *Rhythm* is how loudness moves: forget frequency, and use a filter that is long in time.

# %%
d = Diagram()
seen = d.block("mel, dB,\nnorm", "1 x 96 x 188", kind="data")
tall = d.block("67 x 7 and 38 x 7\nmax over bands", "2 x 204 x 188", at=(2.2, 0.6), kind="trained")
long = d.block("mean over bands\n129, 65, 33 frames", "3 x 51 x 188", at=(2.2, -0.6),
               kind="trained")
d.arrow(seen, tall)
d.arrow(seen, long)
both = d.block("beside\neach other", "561 x 188", at=(4.0, 0.0))
d.arrow(tall, both)
d.arrow(long, both)
back = d.block("three\nconvolutions", "3 x 64 x 188", after=both, kind="trained")
pool = d.block("max and mean\nover time", "1506", after=back)
d.arrow(both, pool, route="over")
out = d.block("dense", "50", after=pool, kind="trained")
show(d.draw(), "Musicnn on three seconds: channels x frames.", d.in_words())

# %% [markdown]
# See the idea on a picture: one timbre (three lines at fixed distances) at two heights. A tall filter made of the three lines, slid up and down, finds it both times with the same strength.

# %%
timbre = torch.zeros(20, 1)
timbre[[0, 6, 15]] = torch.tensor([[1.0], [0.7], [0.4]])
notes = torch.zeros(1, 1, 40, 2)                                     # (1, 1, band, frame)
for frame_number, place in enumerate((3, 17)):
    notes[0, 0, place:place + 20, frame_number] = timbre[:, 0]
found = F.conv2d(notes, timbre[None, None])[0, 0]                     # (place, frame)
print("best place", found.argmax(0).tolist(),
      "strength", [round(x, 2) for x in found.amax(0).tolist()])
assert found.argmax(0).tolist() == [3, 17] and torch.allclose(found.amax(0)[0], found.amax(0)[1])

# %% [markdown]
# The two kinds of filter:

# %%
#| export
class VerticalFilters(nn.Module):
    """Timbre: filters of height x width frames, of which the best place in frequency counts.

    (batch, 1, band, frame) to (batch, out, frame). Source: Pons et al. 2018; section 13.4.
    """

    def __init__(self, out: int, height: int, width: int = 7):
        super().__init__()
        self.conv = nn.Conv2d(1, out, (height, width), padding=(0, width // 2))
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x))).amax(2)

# %% [markdown]
# The second kind is a convolution over time, such as the back end also uses, on the mean over bands:

# %%
#| export
class ConvLayer1d(nn.Module):
    """Convolution over time that keeps the length, batch norm, ReLU: names `conv`, `bn`."""

    def __init__(self, into: int, out: int, size: int):
        super().__init__()
        self.conv = nn.Conv1d(into, out, size, padding=size // 2)
        self.bn = nn.BatchNorm1d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class HorizontalFilters(ConvLayer1d):
    """Rhythm: filters along time on the mean over bands, (batch, 1, band, frame) to (batch, out,
    frame). Source: Pons et al. 2018; section 13.4."""

    def __init__(self, out: int, length: int):
        super().__init__(1, out, length)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean(2))

# %% [markdown]
# The network. Its back end adds to the second and the third convolution's output what went in, and at the end takes maximum *and* mean over time: did it ever sound, and how much.

# %%
#| export
class Musicnn(Tagger):
    """Timbre and rhythm filters, then three convolutions over time: (batch, time) to (batch, tag).

    Arguments, defaults and tensor names as in `sota-music-tagging-models`: 784,300 parameters;
    dataset "msd" has the wider back end. Takes any length from 512 samples on; made for 3 s.
    Source: Pons et al. 2018, Won et al. 2020; section 13.4.
    """

    def __init__(self, sample_rate: int = 16_000, n_fft: int = 512, f_min: float = 0.0,
                 f_max: float = 8000.0, n_mels: int = 96, n_class: int = 50,
                 dataset: str = "mtat"):
        super().__init__()
        self.rate, self.seconds = sample_rate, 3.0
        wide, dense = (512, 500) if dataset == "msd" else (64, 200)
        self.spec = MelFrontEnd(sample_rate, n_fft, f_min, f_max, n_mels)
        self.spec_bn = nn.BatchNorm2d(1)
        self.layers = nn.ModuleList(
            [VerticalFilters(204, int(share * n_mels)) for share in (0.7, 0.4)] +
            [HorizontalFilters(51, length) for length in (129, 65, 33)])
        heard = 2 * 204 + 3 * 51
        self.layer1 = ConvLayer1d(heard, wide, 7)
        self.layer2, self.layer3 = ConvLayer1d(wide, wide, 7), ConvLayer1d(wide, wide, 7)
        self.dense1 = nn.Linear(2 * (heard + 3 * wide), dense)
        self.bn, self.dropout = nn.BatchNorm1d(dense), nn.Dropout(0.5)
        self.dense2 = nn.Linear(dense, n_class)

    def tagged(self, levels: Tensor) -> Tensor:
        h = self.spec_bn(levels.unsqueeze(1))                          # (batch, 1, band, frame)
        heard = torch.cat([layer(h) for layer in self.layers], 1)      # (batch, 561, frame)
        first = self.layer1(heard)
        second = self.layer2(first) + first
        third = self.layer3(second) + second
        h = torch.cat([heard, first, second, third], 1)                # (batch, 753, frame)
        h = torch.cat([h.amax(2), h.mean(2)], 1)                       # (batch, 1506)
        h = F.relu(self.bn(self.dense1(h)))
        return self.dense2(self.dropout(h)).sigmoid()

# %% [markdown]
# Its count, and how far one value sees before time is gathered:

# %%
musicnn = Musicnn().eval()
seen_frames = receptive_field([(129, 1), (7, 1), (7, 1), (7, 1)])
print(f"{count(musicnn):,} parameters; {seen_frames} frames, {seen_frames * 256 / rate:.1f} s")
with torch.no_grad():
    assert musicnn(songs["brahms"][:, :3 * rate]).shape == (1, 50) and count(musicnn) == 784_300

# %% [markdown]
# ## 13.5 CRNN: a memory instead of a last layer
#
# Choi et al. (2017) keep FCN's convolutions, but pool time less, and let a recurrent network read what comes out from left to right. Its cell is the **GRU**, a smaller sister of the LSTM (section 4.5): a state $h$, a gate $z$ that says how much of it stays, a gate $r$ that says how much of it the proposal $n$ may see. With what comes in, $x$, weights $W$ and $U$, biases $b$ and $c$, and $\odot$ for products element by element:
#
# $$ \begin{aligned} r &= \sigma(W_r x + b_r + U_r h + c_r), & z &= \sigma(W_z x + b_z + U_z h + c_z), \\
#    n &= \tanh(W_n x + b_n + r \odot (U_n h + c_n)), & h' &= (1 - z) \odot n + z \odot h. \end{aligned} \tag{13.4} $$

# %%
d = Diagram()
seen = d.block("mel, dB,\nnorm", "1 x 96 x 1813", kind="data")
conv = d.block("four convolutions\npools 2, 3, 4, 4", "128 x 1 x 18", after=seen, kind="trained")
gru = d.block("GRU,\ntwo layers", "18 x 32", after=conv, kind="trained")
last = d.block("last step", "32", after=gru)
out = d.block("dense,\nsigmoid", "50", after=last, kind="trained")
show(d.draw(), "CRNN on 29 s: 18 steps of 1.5 s are left for the recurrent part.", d.in_words())

# %% [markdown]
# By hand, with PyTorch's weights, which stand in the order r, z, n:

# %%
def gru_by_hand(cell, xs):
    """Eq. 13.4 over steps xs (step, channel) for a one-layer nn.GRU; the last state."""
    h = torch.zeros(cell.hidden_size)
    for x in xs:
        wr, wz, wn = (cell.weight_ih_l0 @ x + cell.bias_ih_l0).chunk(3)
        ur, uz, un = (cell.weight_hh_l0 @ h + cell.bias_hh_l0).chunk(3)
        r, z = (wr + ur).sigmoid(), (wz + uz).sigmoid()
        h = (1 - z) * (wn + r * un).tanh() + z * h
    return h

cell, xs = nn.GRU(5, 3, batch_first=True), torch.randn(7, 5, generator=P.generator)
with torch.no_grad():
    assert torch.allclose(gru_by_hand(cell, xs), cell(xs[None])[0][0, -1], atol=1e-6)

# %% [markdown]
# The network:

# %%
#| export
class CRNN(Tagger):
    """Four convolutions, then a GRU over what is left of time: (batch, time) to (batch, tag).

    Arguments, defaults and tensor names as in `sota-music-tagging-models`. Takes any length from
    24,320 samples on; made for 29 s. ValueError for shorter audio. Source: Choi et al. 2017, Won
    et al. 2020; section 13.5.
    """

    pooling = ((2, 2), (3, 3), (4, 4), (4, 4))

    def __init__(self, sample_rate: int = 16_000, n_fft: int = 512, f_min: float = 0.0,
                 f_max: float = 8000.0, n_mels: int = 96, n_class: int = 50):
        super().__init__()
        self.rate, self.seconds = sample_rate, 29.0
        self.spec = MelFrontEnd(sample_rate, n_fft, f_min, f_max, n_mels)
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1, self.layer2 = ConvLayer(1, 64), ConvLayer(64, 128)
        self.layer3, self.layer4 = ConvLayer(128, 128), ConvLayer(128, 128)
        self.layer5 = nn.GRU(128, 32, 2, batch_first=True)
        self.dropout, self.dense = nn.Dropout(0.5), nn.Linear(32, n_class)

    def tagged(self, levels: Tensor) -> Tensor:
        if levels.shape[-1] < 96:
            raise _too_short(self, levels)
        h = self.spec_bn(levels.unsqueeze(1))                          # (batch, 1, band, frame)
        for layer, pool in zip((self.layer1, self.layer2, self.layer3, self.layer4), self.pooling):
            h = F.max_pool2d(layer(h), pool)
        h, _ = self.layer5(h.squeeze(2).mT)                            # (batch, step, 32)
        return self.dense(self.dropout(h[:, -1])).sigmoid()

# %% [markdown]
# The answer is read off the *last* step alone. What was heard at the beginning has to survive 17 updates, and what comes last may count most. Section 13.8 tests it with trained weights.

# %%
crnn = CRNN().eval()
with torch.no_grad():
    h = crnn.spec_bn(crnn.levels(songs["brahms"])[:, None])
    for layer, pool in zip((crnn.layer1, crnn.layer2, crnn.layer3, crnn.layer4), crnn.pooling):
        h = F.max_pool2d(layer(h), pool)
steps = h.shape[-1]
print(f"{count(crnn):,} parameters; {tuple(h.shape)}: {steps} steps of "
      f"{96 * 256 / rate:.1f} s")
assert h.shape[2] == 1 and steps == 1813 // 96

# %% [markdown]
# ## 13.6 The harmonic CNN: overtones side by side
#
# A tone of 220 Hz has overtones at 440, 660, 880 Hz, ... In the mel picture they are far apart, at distances that depend on the pitch, and a filter of 3 x 3 never sees two of them. Won et al. (2020) put them *on top of each other*: six pictures, stacked like the colours of a photo; picture $h$ shows at height $p$ what sounds at the $h$-th multiple of $p$'s frequency. What belongs to one tone then stands at one place.
#
# Each point is a triangle on the frequency axis round $h f$, whose width follows what the ear resolves (Glasberg and Moore's ERB, $\alpha = 0.1079$, $\beta = 24.7$), and one number $Q$ which is *learned*:
#
# $$ \Lambda_{h,p}(k) = \Bigl[1 - \frac{2\, |f_k - h f_p|}{w(h f_p)}\Bigr]_+, \qquad w(f) = \frac{\alpha f + \beta}{Q}, \qquad f_p = 440 \cdot 2^{(p - 69)/12}. \tag{13.5} $$
#
# $p$ runs in half semitones from C1 up to the highest note whose sixth multiple is below 8 kHz, which is itself left out: 128 heights. $f_k$ is the frequency of bin $k$, $h$ the harmonic, and $[x]_+$ is $x$ where it is positive and 0 elsewhere.

# %%
#| export
def harmonic_centres(rate: int = 16_000, n_harmonic: int = 6, semitone_scale: int = 2) -> Tensor:
    """Centre frequencies in Hz, (harmonic, height): multiples of pitches from C1 on (eq. 13.5).

    semitone_scale: heights a semitone. The highest pitch is the note nearest to
    rate / (2 n_harmonic) and is itself left out. Source: Won et al. 2020; section 13.6.
    """
    low, high = 24, round(69 + 12 * math.log2(rate / (2 * n_harmonic) / 440))
    steps = (high - low) * semitone_scale
    midi = low + torch.arange(steps, dtype=torch.float64) / semitone_scale
    f = 440 * 2 ** ((midi - 69) / 12)
    return (torch.arange(1, n_harmonic + 1)[:, None] * f).float()


def harmonic_filters(centres: Tensor, Q: Tensor, bins: Tensor) -> Tensor:
    """Triangles round centre frequencies, (bin, harmonic, height), with a gradient for Q (13.5).

    centres: (harmonic, height) and bins: (bin,) in Hz. Q: > 0, a larger one makes them narrower.
    """
    width = (0.1079 * centres + 24.7) / Q
    return (1 - 2 * (bins[:, None, None] - centres).abs() / width).clamp_min(0)

# %% [markdown]
# The smallest case: the tone A4 with its second multiple, and the filters of three neighbouring bins.

# %%
centres = harmonic_centres()
bins = torch.linspace(0, 8000, 257)
filters = harmonic_filters(centres, torch.tensor(1.0), bins)          # (bin, harmonic, height)
A4 = 2 * (69 - 24)
print(tuple(filters.shape), [round(float(f)) for f in centres[:, A4]])
assert filters.shape == (257, 6, 128) and torch.allclose(centres[:, A4], 440 * torch.arange(1.0, 7))
w = 0.1079 * 440 + 24.7
k = 14                                                               # 437.5 Hz
assert abs(float(filters[k, 0, A4]) - (1 - 2 * 2.5 / w)) < 1e-5

# %% [markdown]
# The bins of the STFT lie 31 Hz apart, and the lowest triangles are hardly wider than that. How many bins does a filter meet?

# %%
meets = (filters > 0).sum(0)                                         # (harmonic, height)
print("filters that meet one bin or none, by harmonic:", (meets <= 1).sum(1).tolist(), "of 128")
assert (meets[0] <= 1).sum() > 40 and (meets[5] <= 1).sum() < (meets[0] <= 1).sum()

# %% [markdown]
# Low notes can't be told apart this way: many of the lowest filters are the same single bin with other weights, whatever $Q$ learns. That is the price of a window of 32 ms, not of the idea. Higher up the triangles are wide:

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.6))
for h, p in ((0, A4), (1, A4), (2, A4), (5, A4)):
    axis.plot(bins, filters[:, h, p], ".-", label=f"harmonic {h + 1}")
axis.set(xlabel="frequency, Hz", ylabel="weight", xlim=(300, 3200))
axis.legend()
show(figure, "The filters of A4: one a harmonic, wider as the frequency grows.",
     "Four triangles round 440, 880, 1320 and 2640 Hz, each wider than the one before.")

# %% [markdown]
# The front end, with the tensor names of the published code (`hstft.bw_Q`, `hstft.spec.window`):

# %%
#| export
class HarmonicSTFT(nn.Module):
    """Audio (batch, time) to levels in dB, (batch, harmonic, height, frame), by filters whose width
    is learned (eq. 13.5): a parameter `bw_Q`. Source: Won et al. 2020; section 13.6."""

    def __init__(self, sample_rate: int = 16_000, n_fft: int = 512, n_harmonic: int = 6,
                 semitone_scale: int = 2):
        super().__init__()
        self.spec = PowerSpectrogram(n_fft)
        self.bw_Q = nn.Parameter(torch.ones(1))
        centres = harmonic_centres(sample_rate, n_harmonic, semitone_scale)
        bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("bins", bins, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        filters = harmonic_filters(self.centres, self.bw_Q, self.bins)  # (bin, harmonic, height)
        levels = self.spec(x).mT @ filters.flatten(1)                   # (batch, frame, h * p)
        return power_to_db(levels.mT).unflatten(1, self.centres.shape)

# %% [markdown]
# On a tone with overtones: in the mel picture many lines, in the harmonic picture *one height* where all six layers are bright.

# %%
time = torch.arange(rate) / rate
tone = sum(0.2 / h * torch.sin(2 * math.pi * 440 * h * time) for h in range(1, 7))[None]
hstft = HarmonicSTFT()
with torch.no_grad():
    stack = hstft(tone)[0, :, :, 30]                                 # (harmonic, height)
weakest = stack.amin(0)                                              # the weakest of the six layers
print(f"brightest in all six layers: height {int(weakest.argmax())}; A4 is height {A4}")
assert abs(int(weakest.argmax()) - A4) <= 1

# %% [markdown]
# Behind it stand seven layers of 3 x 3, five of them with a shortcut: they add what they got to what they made.

# %%
#| export
class ResidualLayer(nn.Module):
    """Two convolutions with batch norm, the input added, ReLU: names `conv_1`, `bn_1`, ..."""

    def __init__(self, channels: int):
        super().__init__()
        for place in (1, 2):
            setattr(self, f"conv_{place}", nn.Conv2d(channels, channels, 3, padding=1))
            setattr(self, f"bn_{place}", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn_2(self.conv_2(F.relu(self.bn_1(self.conv_1(x))))))

# %% [markdown]
# Sizes for five seconds:

# %%
d = Diagram()
seen = d.block("harmonic\nlevels, norm", "6 x 128 x 313", kind="data")
one = d.block("layer1", "128 x 64 x 156", after=seen, kind="trained")
res = d.block("layers 2 to 4,\nresidual", "128 x 8 x 19", after=one, kind="trained")
five = d.block("layer5", "256 x 4 x 9", after=res, kind="trained")
res2 = d.block("layers 6 and 7,\npool 2 x 3", "256 x 1 x 1", after=five, kind="trained")
out = d.block("max over time,\ntwo dense", "50", after=res2, kind="trained")
show(d.draw(), "The harmonic CNN: channels x heights x frames; pools are 2 x 2 where nothing is "
     "said.", d.in_words())

# %% [markdown]
# And the class:

# %%
#| export
class HarmonicCNN(Tagger):
    """A stack of harmonics, then seven convolutional layers: (batch, time) to (batch, tag).

    n_channels, sample_rate, n_fft, n_class, n_harmonic, semitone_scale: as in
    `sota-music-tagging-models`, with its defaults and tensor names: 3,631,551 parameters (there
    f_min, f_max and n_mels are never used, and left out here). Takes any length from 73,472
    samples on; made for 5 s. ValueError for shorter audio and for n_harmonic and semitone_scale
    that don't make 128 heights. Source: Won et al. 2020; section 13.6.
    """

    pooling = (*[(2, 2)] * 5, (2, 3), (2, 3))

    def __init__(self, n_channels: int = 128, sample_rate: int = 16_000, n_fft: int = 512,
                 n_class: int = 50, n_harmonic: int = 6, semitone_scale: int = 2):
        super().__init__()
        self.rate, self.seconds = sample_rate, 5.0
        self.hstft = HarmonicSTFT(sample_rate, n_fft, n_harmonic, semitone_scale)
        if not 128 <= (heights := self.hstft.centres.shape[1]) < 256:
            raise ValueError(f"sample_rate, n_harmonic and semitone_scale make {heights} heights; "
                             "the seven poolings take 128 to 255")
        self.hstft_bn = nn.BatchNorm2d(n_harmonic)
        self.layer1 = ConvLayer(n_harmonic, n_channels)
        self.layer2, self.layer3 = ResidualLayer(n_channels), ResidualLayer(n_channels)
        self.layer4, self.layer5 = ResidualLayer(n_channels), ConvLayer(n_channels, 2 * n_channels)
        self.layer6, self.layer7 = ResidualLayer(2 * n_channels), ResidualLayer(2 * n_channels)
        self.dense1 = nn.Linear(2 * n_channels, 2 * n_channels)
        self.bn = nn.BatchNorm1d(2 * n_channels)
        self.dense2, self.dropout = nn.Linear(2 * n_channels, n_class), nn.Dropout(0.5)

    @property
    def spec(self) -> nn.Module:
        """The front end, by the name it has in the others."""
        return self.hstft

    def tagged(self, levels: Tensor) -> Tensor:
        if levels.shape[-1] < 288:
            raise _too_short(self, levels)
        h = self.hstft_bn(levels)                                      # (batch, harmonic, p, frame)
        for number, pool in enumerate(self.pooling, 1):
            h = F.max_pool2d(getattr(self, f"layer{number}")(h), pool)
        h = F.relu(self.bn(self.dense1(h.squeeze(2).amax(-1))))        # (batch, 256)
        return self.dense2(self.dropout(h)).sigmoid()

# %% [markdown]
# The published size:

# %%
harmonic = HarmonicCNN().eval()
with torch.no_grad():
    given = harmonic(songs["brahms"][:, :5 * rate])
print(f"{count(harmonic):,} parameters, output {tuple(given.shape)}")
assert count(harmonic) == 3_631_551 and given.shape == (1, 50)

# %% [markdown]
# ## 13.7 Real weights
#
# The authors' repository holds what they trained: these four networks on both data sets, and others (MIT licence, Music Technology Group of the Universitat Pompeu Fabra). What is checked when you load one?
#
# | weights | the file is the published one | names and shapes | outputs |
# |---|---|---|---|
# | FCN, Musicnn, CRNN, both data sets | by its SHA-256, which the course knows | every tensor fits, none is left over | the tests compare all six with a second construction |
# | the harmonic CNN | **not checked**: no hash is known here | every tensor fits, none is left over | the tests compare the layers with a second construction, with made-up weights |
#
# So for the harmonic CNN you have to say what you want: `path=` to a file that you trust, or `unchecked=True` to fetch it from the authors' repository as it is. Either way no file can run code here: it is read by an unpickler that makes tensors and nothing else.

# %%
#| export
TAGGERS: Mapping[str, type[Tagger]] = {"fcn": FCN, "musicnn": Musicnn, "crnn": CRNN,
                                       "hcnn": HarmonicCNN}


def load_tagger(name: str, path: str | Path | None = None, unchecked: bool = False) -> Tagger:
    """A published tagger with its weights and `tags`, in eval mode, its parameters frozen.

    name: data set and network, "mtat_fcn", "jamendo_musicnn", ...: mtat or jamendo; fcn, musicnn,
    crnn or hcnn. path: a best_model.pth of `sota-music-tagging-models`; default:
    `fetch_weights("taggers", name)`, which checks its SHA-256. No hash is known of hcnn's:
    unchecked=True fetches it without. ValueError for an unknown name, for hcnn with neither path
    nor unchecked, and for a file that doesn't fit or is damaged; FileNotFoundError without the
    file. Source: Won et al. 2020; section 13.7.
    """
    data, _, kind = str(name).partition("_")
    if data not in OFFICIAL_TAGS or kind not in TAGGERS:
        raise ValueError(f"name is {name!r}; expected {' or '.join(OFFICIAL_TAGS)}, an underscore, "
                         f"and one of {', '.join(TAGGERS)}: for example 'mtat_fcn'")
    if path is None and kind == "hcnn" and not unchecked:
        raise ValueError(f"name is {name!r}: no hash of its published weights is known; pass path, "
                         "a best_model.pth that you trust, or unchecked=True to fetch the file of "
                         "the authors' repository as it is")
    path = Path(path or fetch_weights("taggers", name))
    model = TAGGERS[kind]()
    load_strictly(model, read_tensors(path), path.name)
    model.tags = OFFICIAL_TAGS[data]
    return model.requires_grad_(False).eval()

# %% [markdown]
# All six whose hash is known:

# %%
official = {name: load_tagger(name) for data in ("mtat", "jamendo")
            for name in (f"{data}_fcn", f"{data}_musicnn", f"{data}_crnn")}
show_table([[name, f"{count(net):,}", net.seconds] for name, net in official.items()],
           ["tagger", "parameters", "seconds"], digits=0,
           caption="Weights that load strictly, each from a file with the known hash.")

# %% [markdown]
# Chapter 5's first three layers, loaded there from the same file, give the same maps as the view of our FCN:

# %%
with torch.no_grad():
    ours = official["mtat_fcn"].features().feature_maps(songs["brahms"])
    theirs = load_first_layers().feature_maps(songs["brahms"])
assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(ours, theirs))
assert len(ours) == 3 and ours[2].std() > 0

# %% [markdown]
# **Songs of any length.** A network was made for 29, 3 or 5 seconds. A longer song is cut into chunks, end to end, each is tagged, and the probabilities are averaged. The last chunk is too short; the code that TagBox uses fills it up with zeros. We keep that as the default, and add two other ways to compare with: repeat the excerpt, or move the last chunk back so that it ends with the song.

# %%
#| export
FILLS = ("zeros", "repeat", "back")


def in_chunks(x: Tensor, samples: int, fill: str = "zeros") -> Tensor:
    """Audio (batch, time) in pieces of equal length, end to end: (batch, chunk, samples).

    fill: what the last one is completed with: "zeros"; "repeat", the audio from its beginning;
    "back": it begins earlier, to end with the audio (shorter audio is repeated). ValueError for
    another word, no samples and another shape. Source: section 13.7.
    """
    check_audio(x=x)
    if fill not in FILLS:
        raise ValueError(f"fill is {fill!r}; expected one of {', '.join(FILLS)}")
    if x.ndim != 2 or x.shape[-1] < 1 or samples < 1:
        raise ValueError(f"x has shape {tuple(x.shape)} and samples is {samples}; expected (batch, "
                         "time) with at least one sample, in chunks of at least one")
    time = x.shape[-1]
    chunks = -(-time // samples)
    if fill == "zeros":
        x = F.pad(x, (0, chunks * samples - time))
    elif fill == "repeat" or time < samples:
        x = x.repeat(1, -(-chunks * samples // time))[:, :chunks * samples]
    else:
        x = torch.cat([x[:, :(chunks - 1) * samples], x[:, -samples:]], 1)
    return x.unflatten(-1, (chunks, samples))

# %% [markdown]
# All chunks of all excerpts go through the network in batches, and each excerpt gets its mean:

# %%
#| export
def tag(model: Tagger, x: Tensor, batch_size: int = 8, fill: str = "zeros") -> Tensor:
    """Probabilities (batch, tag) of excerpts of any length, (batch, time) at the model's rate.

    Chunks of `model.samples` are tagged, batch_size at a time, whatever excerpt they are from, and
    averaged; the last one is completed by `fill` and counts fully, as in TagBox. Gradients pass.
    ValueError for NaN or infinite samples, and as in `in_chunks`. Source: Manilow et al. 2022;
    section 13.7.
    """
    chunks = in_chunks(x, model.samples, fill)                         # (batch, chunk, samples)
    if not bool(torch.isfinite(x.detach()).all()):
        raise ValueError("x holds samples that are not finite numbers; repair the audio first")
    given = torch.cat([model(part) for part in chunks.flatten(0, 1).split(batch_size)])
    return given.unflatten(0, chunks.shape[:2]).mean(1)                # (batch, tag)

# %% [markdown]
# For reading, the likeliest words:

# %%
#| export
def ranked(probabilities: Tensor, tags: Sequence[str], count: int = 10) -> list[tuple[str, float]]:
    """The `count` likeliest tags of one excerpt with their probabilities, (tag,), best first."""
    if probabilities.shape != (len(tags),):
        raise ValueError(f"probabilities has shape {tuple(probabilities.shape)}; expected one for "
                         f"each of {len(tags)} tags")
    best = probabilities.argsort(descending=True)[:count].tolist()
    return [(tags[n], float(probabilities[n])) for n in best]

# %% [markdown]
# The three ways on five samples, in chunks of three:

# %%
five = torch.tensor([[1.0, 2, 3, 4, 5]])
print({fill: in_chunks(five, 3, fill)[0].int().tolist() for fill in FILLS})
assert in_chunks(five, 3)[0, 1].tolist() == [4, 5, 0]
assert in_chunks(five, 3, "repeat")[0, 1].tolist() == [4, 5, 1]
assert in_chunks(five, 3, "back")[0, 1].tolist() == [3, 4, 5]

# %% [markdown]
# Now listen to eight seconds of each recording and guess five words before you look.

# %%
for name in names:
    if name != "nutcracker":                                         # we have heard that one
        listen(songs[name][:, :8 * rate], rate, name)

# %% [markdown]
# What the three MTAT taggers say to 29 s of each:

# %%
batch = torch.cat([songs[name] for name in names])                   # (song, time)
with torch.no_grad():
    given = {name: tag(net, batch) for name, net in official.items()}    # (song, tag)
best = {(name, song): ranked(p[n], official[name].tags, 6)
        for name, p in given.items() for n, song in enumerate(names)}
show_table([[song, *(", ".join(word for word, _ in best[f"mtat_{kind}", song])
                     for kind in ("fcn", "musicnn", "crnn"))] for song in names],
           ["recording", "FCN", "Musicnn", "CRNN"],
           caption="The six likeliest of MTAT's tags, likeliest first; 29 s of each recording.")

# %% [markdown]
# And in Jamendo's words:

# %%
short = lambda pairs: ", ".join(word.partition("---")[2] for word, _ in pairs)
show_table([[song, *(short(best[f"jamendo_{kind}", song])
                     for kind in ("fcn", "musicnn", "crnn"))] for song in names],
           ["recording", "FCN", "Musicnn", "CRNN"],
           caption="The six likeliest of Jamendo's tags, likeliest first; 29 s of each recording.")

# %% [markdown]
# How many of these words are true is yours to hear. Had we read Jamendo's outputs in the order of the published list, Brahms would be "atmospheric" and "trance": when all answers of a tagger are absurd, suspect the order before the network. Here are some words that nobody would dispute. The two orchestral pieces should be called classical or orchestral, and the song with a singer should get a word for a voice among MTAT's six:

# %%
voices = set(said) - {"no vocals", "no vocal", "no voice"}
words = lambda name, song: [word.partition("---")[2] or word for word, _ in best[name, song]]
right = {name: sum(bool({"classical", "orchestral", "classic"} & set(words(name, song)))
                   for song in ("nutcracker", "brahms")) for name in official}
sung = {name: bool(voices & set(words(name, "fishin"))) for name in official if "mtat" in name}
answer = {True: "yes", False: "no"}
show_table([[name, f"{right[name]} of 2", answer.get(sung.get(name), "no such words")]
            for name in official],
           ["tagger", "orchestras called classical or orchestral", "a voice in the song"],
           caption="Among the six likeliest tags.")
assert sum(right.values()) >= 10 and any(sung.values())

# %% [markdown]
# The picture shows more than a list: bars of MTAT's tags that one of the taggers finds likely. They agree on the kind of music, and differ in how sure they are.

# %%
figure, axes = plt.subplots(1, 4, figsize=(9.6, 3.4), sharex=True)
for n, (song, axis) in enumerate(zip(names, axes)):
    p = torch.stack([given[f"mtat_{kind}"][n] for kind in ("fcn", "musicnn", "crnn")])
    top = p.mean(0).argsort(descending=True)[:7].tolist()[::-1]
    for k, (kind, colour) in enumerate(zip(("FCN", "Musicnn", "CRNN"), ("C0", "C1", "C2"))):
        axis.barh(np.arange(7) + 0.25 * (1 - k), p[k, top], 0.25, color=colour, label=kind)
    axis.set(title=song, yticks=range(7), yticklabels=[MTAT_TAGS[i] for i in top], xlim=(0, 1))
axes[0].legend(fontsize=7)
show(figure, "Probabilities of the seven likeliest MTAT tags of each recording, by three taggers.",
     "Four groups of horizontal bars, one a recording; three bars, one a tagger, for each of "
     "seven words.")

# %% [markdown]
# Do the words fit what you heard? Vibe Ace is jazz with piano, vibraphone, bass and drums; the Sugar Plum Fairy has a celesta, which is no tag of either list. A tagger can only answer in the words it was taught, and an instrument without a word goes to its neighbours.
#
# ## 13.8 The last chunk
#
# FCN and CRNN want 29 s. Give them ten, and `tag` adds 19 s of zeros, as the code does that TagBox uses. Is that harmless? From each recording we take two excerpts of ten seconds, fill them up in both ways, and compare with what the same network says to the 29 s that they are from.

# %%
starts = (0, 19)
pieces = torch.cat([batch[:, start * rate:(start + 10) * rate] for start in starts])   # (8, time)
with torch.no_grad():
    filled = {(kind, fill): tag(official[f"mtat_{kind}"], pieces, fill=fill)
              for kind in ("fcn", "crnn", "musicnn") for fill in ("zeros", "repeat")}
    silent = {kind: tag(official[f"mtat_{kind}"], torch.zeros(1, round(P.seconds * rate)))[0]
              for kind in ("fcn", "crnn", "musicnn")}
whole = {kind: given[f"mtat_{kind}"].repeat(2, 1) for kind in ("fcn", "crnn", "musicnn")}
away = {key: (p - whole[key[0]]).abs().mean(1) for key, p in filled.items()}           # (excerpt,)

# %% [markdown]
# Beside the distance we look at how *different* the recordings still are from each other: the mean distance of the tags of two of them.

# %%
def spread(p):
    """Mean distance of the tags of two recordings, p (recording, tag)."""
    pairs = [(p[i] - p[j]).abs().mean() for i in range(len(p)) for j in range(i)]
    return float(torch.stack(pairs).mean())

rows = [[kind, float(away[kind, "zeros"].mean()), float(away[kind, "repeat"].mean()),
         spread(whole[kind][:4]), *(spread(filled[kind, fill][:4]) for fill in ("zeros", "repeat"))]
        for kind in ("fcn", "crnn", "musicnn")]
show_table(rows, ["tagger", "to 29 s: zeros", "to 29 s: repeated", "apart: 29 s",
                  "apart: 10 s, zeros", "apart: 10 s, repeated"], digits=3,
           caption="Mean absolute difference of 50 probabilities; 8 excerpts of four recordings.")

# %% [markdown]
# The zeros are not harmless. For FCN and CRNN the padded answers lie farther from those to the whole than the repeated ones, and the four recordings have come closer to each other: every one of them sounds, in part, like the same silence. Musicnn, whose chunks are short, has only the last two of its twelve seconds filled. What do the networks say to silence itself, and to ten seconds of Tchaikovsky?

# %%
for kind in ("fcn", "crnn"):
    print(kind, "| silence:", ", ".join(word for word, _ in ranked(silent[kind], MTAT_TAGS, 4)),
          "| Tchaikovsky, zeros:", ", ".join(word for word, _ in ranked(
              filled[kind, "zeros"][2], MTAT_TAGS, 4)))
    assert away[kind, "zeros"].mean() > away[kind, "repeat"].mean()
    assert spread(filled[kind, "zeros"][:4]) < 0.6 * spread(whole[kind][:4])

# %% [markdown]
# CRNN, which hears the silence last, is not hurt more than FCN, so the fear of section 13.5 isn't confirmed by these recordings. For short excerpts prefer networks with short chunks, or `fill="repeat"`; section 14.4 shows the trap that zeros set for steering.

# %% [markdown]
# ## 13.9 What does it listen to?
#
# We can ask a network. Its answer for a tag is a probability $p$, a function of the levels $L[b, m]$. The gradient of the log-odds,
#
# $$ G[b, m] = \frac{\partial}{\partial L[b, m]} \log \frac{p}{1 - p}, \tag{13.6} $$
#
# says how much one decibel more at one point would speak for the word (Simonyan et al. 2014). The log-odds, because $p$ itself hardly moves where the network is sure.

# %%
#| export
def listening_map(model: Tagger, x: Tensor, tag: int) -> tuple[Tensor, Tensor]:
    """What speaks for a tag: levels in dB and the gradient of its log-odds to them (eq. 13.6).

    x: (batch, time). tag: its index. Both are (batch, band, frame), of a HarmonicCNN (batch,
    harmonic, height, frame). The gradient is positive where more sound would make the tag likelier.
    ValueError for an index that is none. Source: Simonyan et al. 2014; section 13.9.
    """
    with torch.no_grad():
        levels = model.levels(x)
    levels.requires_grad_()
    with torch.backends.cudnn.flags(enabled=False):                    # its GRU takes none in eval
        probabilities = model.tagged(levels)
        if not 0 <= tag < probabilities.shape[1]:
            raise ValueError(f"tag is {tag}; the model has tags 0 to {probabilities.shape[1] - 1}")
        odds = probabilities[:, tag].logit(eps=1e-6).sum()
        gradient, = torch.autograd.grad(odds, levels)
    return levels.detach(), gradient

# %% [markdown]
# Three seconds of the song with a singer, and Musicnn, whose chunks are that short. Of the first nine chunks we look at the one in which "female" is likeliest.

# %%
listener, chosen = official["mtat_musicnn"], MTAT_TAGS.index("female")
clips = in_chunks(songs["fishin"], listener.samples)[0, :9]          # (chunk, time)
with torch.no_grad():
    place = int(listener(clips)[:, chosen].argmax())
clip = clips[place:place + 1]
all_levels, all_gradients = listening_map(listener, clips, chosen)
levels, gradient = all_levels[place], all_gradients[place]           # (band, frame)
listen(clip, rate, "three seconds of Let's Go Fishin'")

# %% [markdown]
# A gradient says where *more* would help. For what is *there*, we weigh it with how far each level stands above the floor of the picture, 80 dB under its maximum, and keep what is positive: "this, as loud as it is, speaks for the word". A little smoothing makes it readable.

# %%
above_floor = (levels - (levels.max() - 80)).clamp_min(0)
speaks = F.avg_pool2d((gradient * above_floor).clamp_min(0)[None], 3, 1, 1)[0]      # (band, frame)
figure, axes = plt.subplots(1, 2, figsize=(9.0, 2.8), sharey=True)
plot_levels(levels, axes[0], 3.0, "what it sees")
axes[1].imshow(speaks, origin="lower", aspect="auto", extent=(0, 3, 0, 96), cmap="magma",
               vmax=float(speaks.flatten().quantile(0.995)))
axes[1].set(title=f'what speaks for "{MTAT_TAGS[chosen]}"', xlabel="time, s")
show(figure, "Left: levels. Right: gradient times level above the floor, where positive.",
     "Two pictures of bands over time; the right one is dark but for some patches.")

# %% [markdown]
# Is such a map more than a pretty picture? *Soften and see*: make a tenth of all points softer, those with the largest gradient, or as many of the loudest, or as many at random, and see how much the log-odds of the word fall. If the map is right, the first hurts most.

# %%
def softer(levels, values, by):
    """Levels (chunk, band, frame), the tenth of the points with the largest values `by` dB down,
    not below the floor of each picture."""
    least = values.flatten(1).topk(values[0].numel() // 10).values[:, -1, None, None]
    return (levels - by * (values >= least)).maximum(levels.amax((1, 2), keepdim=True) - 80)

@torch.no_grad()
def odds(levels):
    return listener.tagged(levels)[:, chosen].logit()                # (chunk,)

at_random = torch.rand(all_levels.shape, generator=P.generator)
choices = {"largest gradient": all_gradients, "loudest": all_levels, "at random": at_random}
lost = {(what, by): odds(all_levels) - odds(softer(all_levels, values, by))
        for what, values in choices.items() for by in (6, 80)}
show_table([[what, float(lost[what, 6].mean()), float(lost[what, 80].mean())] for what in choices],
           ["a tenth of the points", "6 dB softer", "gone"], digits=1,
           caption='Fall of the log-odds of "female", mean of nine chunks of three seconds.')
assert (lost["largest gradient", 6] > lost["loudest", 6] + 1).all()
assert (lost["largest gradient", 6] > lost["at random", 6] + 1).all()

# %% [markdown]
# Six decibels at the right points undo the word, at random points they do nothing. But look at the last column: *holes* at random hurt as much as anything. A picture full of holes is like nothing the network ever saw, and a gradient says only what happens near the picture that is there. Maps like ours are often judged by punching holes; that test would have told us more about holes than about voices.
#
# And the sound of it: the map, carried from bands to bins by the mel filters, as a mask on the STFT (section 1.10). This is a first, crude separation by a tagger, without any training for it.

# %%
def as_sound(x, weights, net):
    """Audio (1, time) through a mask that stands in mel bands, (band, frame), 0 to 1."""
    bank = net.spec.mel_scale.fb                                     # (bin, band)
    mask = bank @ weights / bank.sum(1, keepdim=True).clamp_min(1e-3)    # (bin, frame)
    return istft(stft(x, 512, 256) * mask, 512, 256, x.shape[-1])

weights = (speaks / speaks.flatten().quantile(0.95)).clamp(0, 1)
kept = as_sound(clip, weights, listener)
listen(kept, rate, "what speaks for the word", normalize=True)
listen(clip - kept, rate, "the rest", normalize=True)
assert 0 < kept.square().mean() < clip.square().mean()

# %% [markdown]
# It is a sketch at best, torn by gaps: a network that names a voice needs not find all of it. Chapter 14 starts from here, and asks for a whole sound instead of points.
#
# ## 13.10 How good is a tagger?
#
# A threshold would turn probabilities into yes and no, but which? Two measures look at all thresholds at once, that is, only at the *order* in which a tag ranks the clips.
#
# **ROC-AUC**: take a clip that has the tag and one that hasn't, at random. How often does the first get the higher score? With $P$ clips that have it, $N$ that haven't, and scores $s$:
#
# $$ \text{ROC-AUC} = \frac{1}{P N} \sum_{i \text{ has it}} \sum_{j \text{ has not}} \bigl([s_i > s_j] + \tfrac12 [s_i = s_j]\bigr). \tag{13.7} $$
#
# A coin gives 1/2. In this form it is four lines:

# %%
def roc_auc_by_pairs(labels, scores):
    right = [float(a > b) + 0.5 * float(a == b) for a, on in zip(scores, labels) if on
             for b, other in zip(scores, labels) if not other]
    return sum(right) / len(right)

print(roc_auc_by_pairs([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]))
assert roc_auc_by_pairs([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]) == 0.75

# %% [markdown]
# **PR-AUC**, or average precision, walks down the list from the best score and asks at each threshold: of those above it, how many are right (*precision*, $P_n$ at the $n$-th threshold), and how many of all that have the tag are among them (*recall*, $R_n$, with $R_0 = 0$)?
#
# $$ \text{AP} = \sum_n (R_n - R_{n-1})\, P_n. \tag{13.8} $$
#
# A coin gives the share of clips that have the tag. For rare tags the two tell different stories:

# %%
def average_precision_by_steps(labels, scores):
    order = sorted(zip(scores, labels), reverse=True)
    hits, total = 0, 0.0
    for n, (_, on) in enumerate(order, 1):
        hits += on
        total += on * hits / n                                       # recall grows by 1 / P here
    return total / sum(labels)

print(round(average_precision_by_steps([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]), 3))
assert abs(average_precision_by_steps([1, 0, 1, 0], [0.9, 0.8, 0.3, 0.1]) - 5 / 6) < 1e-12

# %% [markdown]
# For the library without loops over pairs: the sum over pairs is the sum of the *ranks* of those that have the tag, less what it would be if they were last. Equal scores share their mean rank, and count as one threshold.

# %%
#| export
def _columns(labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and scores as (item, tag), checked."""
    if labels.shape != scores.shape or labels.ndim not in (1, 2) or not labels.numel():
        raise ValueError(f"labels has shape {tuple(labels.shape)}, scores {tuple(scores.shape)}; "
                         "expected both (item,) or both (item, tag), with at least one item")
    if not bool(torch.isfinite(scores).all()) or not bool(((labels == 0) | (labels == 1)).all()):
        raise ValueError("labels must be 0 or 1 and scores finite numbers")
    shape = (-1, 1) if labels.ndim == 1 else labels.shape
    return labels.reshape(shape).bool(), scores.detach().reshape(shape)

# %% [markdown]
# One tag at a time:

# %%
#| export
def _roc_auc(on: Tensor, scores: Tensor) -> float:
    """Of one tag, (item,): the share of pairs in the right order, ties counted half (eq. 13.7)."""
    _, place, often = scores.unique(return_inverse=True, return_counts=True)
    ranks = (often.cumsum(0) - (often - 1) / 2)[place].double()        # equal scores: mean rank
    P, N = int(on.sum()), int((~on).sum())
    return float((ranks[on].sum() - P * (P + 1) / 2) / (P * N)) if P and N else math.nan


def _average_precision(on: Tensor, scores: Tensor) -> float:
    """Of one tag, (item,): precision, averaged over the steps of recall (eq. 13.8)."""
    values, place = scores.unique(return_inverse=True)
    count_of = lambda amount: torch.zeros(len(values), dtype=torch.float64).index_add_(
        0, place, amount.double()).flip(0)                             # best score first
    hits, all_of = count_of(on), count_of(torch.ones_like(on))
    precision = hits.cumsum(0) / all_of.cumsum(0)
    return float((precision * hits).sum() / hits.sum()) if bool(on.any()) else math.nan

# %% [markdown]
# For all tags at once:

# %%
#| export
def roc_auc(labels: Tensor, scores: Tensor) -> Tensor:
    """The area under the ROC curve of each tag, 0 to 1, chance 1/2 (eq. 13.7).

    labels: 0 or 1, (item, tag) or (item,); scores: any finite numbers of that shape. Returns
    (tag,) or a scalar, float64; NaN where all items or none have the tag. ValueError for other
    shapes and values. Source: Hanley and McNeil 1982; section 13.10.
    """
    on, given = _columns(labels, scores)
    areas = torch.tensor([_roc_auc(*pair) for pair in zip(on.T, given.T)], dtype=torch.float64)
    return areas[0] if labels.ndim == 1 else areas


def average_precision(labels: Tensor, scores: Tensor) -> Tensor:
    """The area under the precision-recall curve of each tag, 0 to 1 (eq. 13.8).

    Chance is the share of items that have the tag. Shapes and errors as `roc_auc`; NaN where no
    item has the tag. Source: Davis and Goadrich 2006; section 13.10.
    """
    on, given = _columns(labels, scores)
    areas = torch.tensor([_average_precision(*pair) for pair in zip(on.T, given.T)],
                         dtype=torch.float64)
    return areas[0] if labels.ndim == 1 else areas

# %% [markdown]
# Against the loops, and against scikit-learn where it is installed (it comes with the course's tests, not with Colab's minimum):

# %%
labels = (torch.rand(60, 3, generator=P.generator) < 0.4).int()
scores = torch.rand(60, 3, generator=P.generator) + 0.4 * labels
scores = scores.mul(10).round() / 10                                 # with ties
for n in range(3):
    pair = labels[:, n].tolist(), scores[:, n].tolist()
    assert abs(float(roc_auc(labels, scores)[n]) - roc_auc_by_pairs(*pair)) < 1e-9
if importlib.util.find_spec("sklearn"):
    from sklearn.metrics import average_precision_score, roc_auc_score
    assert np.allclose(roc_auc(labels, scores), roc_auc_score(labels, scores, average=None))
    assert np.allclose(average_precision(labels, scores),
                       average_precision_score(labels, scores, average=None))

# %% [markdown]
# A rare tag: scores of those that have it lie 2.3 standard deviations higher, for a tag that half of the clips have and for one that a hundredth has.

# %%
rows = []
for share in (0.5, 0.01):
    on = (torch.arange(20_000) < share * 20_000).int()
    s = torch.randn(20_000, generator=P.generator, dtype=torch.float64) + 2.3 * on
    rows.append([f"{share:.0%}", float(roc_auc(on, s)), float(average_precision(on, s))])
show_table(rows, ["clips that have it", "ROC-AUC", "PR-AUC"], digits={"ROC-AUC": 2, "PR-AUC": 1},
           caption="20,000 made clips; the same two distributions of scores.")
assert abs(rows[0][1] - rows[1][1]) < 0.05 and rows[1][2] < rows[0][2] - 0.3

# %% [markdown]
# ROC-AUC doesn't see how rare a tag is, and looks splendid; PR-AUC asks whether the *first* clips of the list are right. The published numbers of Won et al. (2020), means over 50 tags:

# %%
paper = published("tagger_scores")
show_table([[row["model"], *(float(row[column]) for column in (
    "mtat_roc_auc", "mtat_pr_auc", "jamendo_roc_auc", "jamendo_pr_auc"))] for row in paper],
    ["network", "MTAT ROC", "MTAT PR", "Jamendo ROC", "Jamendo PR"], digits=3,
    caption="ROC-AUC and PR-AUC on the test parts of two data sets, as published.")
mtat = {row["model"]: float(row["mtat_roc_auc"]) for row in paper}
assert mtat["CRNN"] < mtat["FCN"] < mtat["Musicnn"] < mtat["Harmonic CNN"]

# %% [markdown]
# Filters that know music help on MTAT, where songs are few; on both sets what wins are networks that hear *short* chunks, harmonic or not. And CRNN, whose answer hangs on its last step, is last on both.

# %% [markdown]
# ## 13.11 Taggers of the band
#
# Now train one. The band's generator has the notes, so it knows which instruments sound when; what takes a thousand listeners for real music comes for nothing. Nine tags: drums, bass, vocals, guitar, piano, strings, brass, winds, synth. An instrument without a tag (an organ, a harp) may sound, too.
#
# A chunk is five seconds of the band, of which some sources are left out by chance, so that there are chunks *without* drums, and chunks in which a piano is alone; in half of them the sources come from different songs. The labels of one song and one chunk of it:

# %%
from course_lib.data.band import compose
from course_lib.experiments import taggers as experiment

song = compose(200, experiment.SONG_SECONDS)
playing = experiment.activity(song)                                  # (source, tag, frame)
figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.imshow(playing.any(0), aspect="auto", extent=(0, 20, 8.5, -0.5), cmap="Blues",
            interpolation="nearest")
axis.set(yticks=range(9), yticklabels=experiment.TAGS, xlabel="time, s")
show(figure, f"What plays when in a test song of the band ({song.style}).",
     "Nine rows, one a tag, filled with blue where an instrument of that tag plays.")

# %% [markdown]
# A tag is on where one of its parts plays for at least 0.3 s of the chunk and its source is left in:

# %%
chunk_playing = playing[:, :, :50]
full = experiment.sounding(chunk_playing, torch.ones(6, dtype=torch.bool))
without_drums = experiment.sounding(chunk_playing, torch.arange(6) > 0)
named = lambda labels: [word for word, on in zip(experiment.TAGS, labels) if on]
print(named(full), "->", named(without_drums))
assert set(named(full)) - set(named(without_drums)) <= {"drums"}

# %% [markdown]
# The loss is the binary cross entropy: for each of $n$ tags yes or no, a label $y_i$ of 1 or 0 against a probability $p_i$:
#
# $$ \ell = -\frac{1}{n} \sum_{i=1}^{n} \bigl[ y_i \log p_i + (1 - y_i) \log (1 - p_i) \bigr]. \tag{13.9} $$

# %%
#| export
class TaggingStep:
    """A training step: binary cross entropy of (audio (batch, time), labels (batch, tag)), the mean
    over tags (eq. 13.9). Section 13.11."""

    def __call__(self, model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        x, labels = batch
        return F.binary_cross_entropy(model(x), labels)

# %% [markdown]
# A wrong answer costs more the surer it was:

# %%
p = torch.tensor([[0.9, 0.1, 0.5]])
y = torch.tensor([[1.0, 1.0, 1.0]])
costs = [-math.log(float(one)) for one in p[0]]
print([round(one, 2) for one in costs])
assert abs(float(F.binary_cross_entropy(p, y)) - sum(costs) / 3) < 1e-6

# %% [markdown]
# `course train tagger_band` trains a small FCN this way: 64 mel bands, 16 to 64 channels, its time pooled to five seconds. `course train harmonic_band` trains a harmonic CNN of an eighth of the channels on the same chunks, for a third of the steps, each of which takes several times as long. `course experiment taggers` scores both on the test songs, each chunk as it was mixed and three times with some sources left out. Beside them stands a linear model, which knows nothing but the mean and the spread of every band's level; and all are scored on the same songs, *played with another soundfont*, which no training heard.

# %%
runs = {(row["songs"], row["method"]): row for row in measured("13_music_tagging/runs")}
show_table([[songs_, method, (float(row["roc_auc"]), float(row["low"]), float(row["high"])),
             float(row["pr_auc"]), float(row["chance_pr_auc"])]
            for (songs_, method), row in runs.items()],
           ["songs", "method", "ROC-AUC", "PR-AUC", "PR-AUC of a coin"], digits=2,
           caption="Mean over nine tags; {chunks} chunks of {test_songs} songs, interval of songs "
                   "drawn anew; one training.".format(**next(iter(runs.values()))))
ours_auc = {songs_: float(runs[songs_, experiment.SMALL]["roc_auc"])
            for songs_ in (experiment.SAME_FONT, experiment.OTHER_FONT)}
assert min(ours_auc.values()) > 0.5

# %% [markdown]
# Tag by tag, first ROC-AUC:

# %%
by_tag = {(row["songs"], row["method"], row["tag"]): row
          for row in measured("13_music_tagging/tags")}
fonts = (experiment.SAME_FONT, experiment.OTHER_FONT)
methods = list(dict.fromkeys(method for _, method in runs))
called = {experiment.LINEAR: "linear", experiment.SMALL: "network", experiment.HARMONIC: "harmonic"}
score = lambda songs_, method, word, of="roc_auc": float(by_tag[songs_, method, word][of])
heads = [called[method] + ", other font" * (songs_ != fonts[0])
         for songs_ in fonts for method in methods]
scores_of = lambda word, of: [score(songs_, method, word, of)
                              for songs_ in fonts for method in methods]
on = {word: int(by_tag[fonts[0], methods[0], word]["on"]) for word in experiment.TAGS}
chunks = int(runs[fonts[0], methods[0]]["chunks"])
show_table([[word, on[word], *scores_of(word, "roc_auc")] for word in experiment.TAGS],
           ["tag", "chunks that have it", *heads], digits=2,
           caption=f"ROC-AUC of each tag, {chunks} chunks; a coin has 0.5. `tagger_band` is the "
                   "network; the other font is the one that no training heard.")

# %% [markdown]
# And PR-AUC, whose chance is another one for each tag, for it is the share of chunks that have it:

# %%
show_table([[word, on[word] / chunks, *scores_of(word, "pr_auc")] for word in experiment.TAGS],
           ["tag", "a coin", *heads], digits=2, caption="PR-AUC of each tag, the same chunks.")
rare = min(on, key=on.get)
rare_roc, rare_pr = (score(fonts[0], experiment.SMALL, rare, of) for of in ("roc_auc", "pr_auc"))
print(f"{rare}, the rarest tag: ROC-AUC {rare_roc:.2f}, PR-AUC {rare_pr:.2f}, "
      f"of a coin {on[rare] / chunks:.2f}")
assert rare_pr < rare_roc - 0.3 and rare_pr > on[rare] / chunks

# %% [markdown]
# That is section 13.10's lesson on our own network. By ROC-AUC it knows the rarest tag well: a chunk that has it mostly ranks above one that hasn't. PR-AUC says that on the way down its list one meets more wrong chunks than right ones, since those without the tag are so many. Both are far above chance. Who searches a collection for a rare sound looks at the head of the list, and should ask for PR-AUC.
#
# Is the network ahead of the linear model, and does it reach 0.95?

# %%
ahead = np.array([score(experiment.SAME_FONT, experiment.SMALL, word) -
                  score(experiment.SAME_FONT, experiment.LINEAR, word) for word in experiment.TAGS])
print(f"network less linear: {difference_in_words(ahead, 'ROC-AUC').replace('songs', 'tags')}")
small_card = read_card(shipped_file("checkpoints/tagger_band.safetensors"))
reached = min(ours_auc.values()) >= 0.95
print(f"{small_card['steps']} steps of 16 chunks; the bar of 0.95 on both: "
      f"{'reached' if reached else 'not reached'}")
weak = [word for word in experiment.TAGS
        if min(score(songs_, experiment.SMALL, word) for songs_ in fonts) < 0.9]
print("below 0.9 on one of them:", ", ".join(weak) or "none")
roc_of = lambda songs_, name: float(runs[songs_, name]["roc_auc"])
fallen = {called[name]: roc_of(fonts[0], name) - roc_of(fonts[1], name) for name in methods}
print("ROC-AUC lost on the other soundfont:",
      ", ".join(f"{name} {value:.2f}" for name, value in fallen.items()))
harmonic_card = read_card(shipped_file("checkpoints/harmonic_band.safetensors"))
for name, card in (("network", small_card), ("harmonic", harmonic_card)):
    print(f"{name}: {card['parameters']:,} weights, {card['steps']} steps")
assert all(roc_of(songs_, experiment.SMALL) > roc_of(songs_, experiment.HARMONIC)
           for songs_ in fonts)

# %% [markdown]
# A mean over tags hides much. What a band nearly always has, and what has a place of its own in the spectrum, is learned first; instruments that share theirs with others, and that few songs have, need more songs and more steps. The weights that come with the course stopped where the printed line says. The harmonic CNN is behind the FCN on both soundfonts; it has fewer weights and learned for a third of the steps, so its filters are neither praised nor blamed by that.
#
# What a tagger of the band learned is the sound of one soundfont, played by a generator that it knows well. Where the second soundfont costs most, the network had learned a sample more than an instrument; MTAT's taggers, which heard thousands of rooms and players, don't have this fault, and have labels that are wrong instead.

# %% [markdown]
# ## 13.12 What we built
#
# | name | what | section |
# |---|---|---|
# | `power_to_db`, `PowerSpectrogram`, `MelScale`, `MelFrontEnd` | what a tagger sees | 13.2 |
# | `Tagger`, `ConvLayer`, `FCN` | a spectrogram as an image | 13.3 |
# | `VerticalFilters`, `HorizontalFilters`, `Musicnn` | timbre and rhythm | 13.4 |
# | `CRNN` | convolutions, then a memory | 13.5 |
# | `harmonic_centres`, `harmonic_filters`, `HarmonicSTFT`, `HarmonicCNN` | overtones on top of each other | 13.6 |
# | `load_tagger`, `in_chunks`, `tag`, `ranked` | published weights, songs of any length | 13.7 |
# | `listening_map` | what speaks for a tag | 13.9 |
# | `roc_auc`, `average_precision` | how good is it | 13.10 |
# | `TaggingStep` | training, with `course_lib.experiments.taggers` for the band | 13.11 |
#
# All of it is in `course_lib.taggers`.
#
# ## 13.13 Paper claims
#
# The published scores rest on tens of thousands of labelled songs, and *need real data*.

# %%
WON = "Won et al. 2020"
CODE = "sota-music-tagging-models"
lead = lambda a, b: f"{mtat[a] - mtat[b]:+.4f} ROC-AUC"
nearer = (away["fcn", "zeros"] - away["fcn", "repeat"]).reshape(2, 4).mean(0)       # (recording,)
sizes = (("FCN", "13.3", 447_732, fcn), ("Musicnn", "13.4", 784_300, musicnn),
         ("the harmonic CNN", "13.6", 3_631_551, harmonic))
published_only = (
    ("On MTAT, Musicnn is ahead of FCN", "Musicnn", "FCN"),
    ("On MTAT, CRNN is behind FCN", "CRNN", "FCN"),
    ("On MTAT, the harmonic CNN is ahead of Musicnn", "Harmonic CNN", "Musicnn"),
    ("Short chunks with small filters are as good as harmonic filters", "Short-chunk CNN",
     "Harmonic CNN"))
claims = [Claim(f"Parameters of {name}", CODE, section, f"{known:,}", f"{count(net):,}",
                reproduced(count(net), known, 0)) for name, section, known, net in sizes]
claims += [Claim(text, WON, "13.10", lead(a, b), "not run", NEEDS_REAL_DATA)
           for text, a, b in published_only]

# %% [markdown]
# And what this chapter found itself:

# %%
OURS = "this chapter"
softened = lost["largest gradient", 6] - lost["loudest", 6]
claims += [
    Claim("Softening the points of largest gradient hurts a tag more than the loudest ones", OURS,
          "13.9", None, difference_in_words(softened, "log-odds").replace(
              "songs", "chunks of one song"), NEEDS_REAL_DATA),
    Claim("FCN's tags of 10 s are nearer to those of 29 s if it is repeated than with zeros", OURS,
          "13.8", None, difference_in_words(nearer, "probability", 3), same_trend(nearer)),
    Claim("On the band a small FCN is ahead of a linear model of levels", OURS, "13.11", None,
          difference_in_words(ahead, "ROC-AUC").replace("songs", "tags"), same_trend(ahead))]
show_claims(claims)

# %% [markdown]
# ## 13.14 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/13_music_tagging.ipynb) has more tasks, with checks.
#
# **1. By hand.** Three clips have a tag, two have not; their scores are 0.9, 0.6, 0.4 and 0.5, 0.4. What is the ROC-AUC?
#
# <details><summary>Answer</summary>
#
# Six pairs: 0.9 and 0.6 win both of theirs, 0.4 loses against 0.5 and ties with 0.4: $(2 + 2 + 0 + \tfrac12) / 6 = 0.75$.
#
# ```python
# labels, scores = torch.tensor([1, 1, 1, 0, 0]), torch.tensor([0.9, 0.6, 0.4, 0.5, 0.4])
# assert float(roc_auc(labels, scores)) == 0.75
# ```
# </details>
#
# **2. Louder.** A song is played 6 dB louder. How do the levels of (13.1) change, and can FCN's first batch norm undo it?
#
# <details><summary>Answer</summary>
#
# All levels above the floor grow by the same 6 dB. In eval mode the norm is a fixed straight line and keeps the difference; a network that was trained on many levels may still ignore it.
#
# ```python
# x = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
# front = MelFrontEnd()
# assert torch.allclose(front(2 * x) - front(x), torch.tensor(20 * math.log10(2)), atol=1e-3)
# ```
# </details>
#
# **3. Far enough?** A network has seven layers of 3 x 3, each followed by pooling of 2. How many frames does one value see, and how many seconds with a hop of 256 at 16 kHz?
#
# <details><summary>Answer</summary>
#
# Layer $n$ adds $2 \cdot 2^{n-1}$ by its convolution and $2^{n-1}$ by pooling: $1 + 3 (2^7 - 1) = 382$ frames, 6.1 s.
#
# ```python
# r, j = 1, 1
# for _ in range(7):
#     r, j = r + 2 * j + j, 2 * j
# assert r == 382
# ```
# </details>
#
# **4. Order.** Shuffle the frames of a spectrogram. Whose answer doesn't change: FCN's, or that of a network which takes the mean of the levels over time first?
#
# <details><summary>Answer</summary>
#
# Only the second's: a mean knows no order. FCN's filters look at neighbours.
#
# ```python
# torch.manual_seed(0)
# net = Musicnn().eval()
# levels = net.levels(0.1 * torch.randn(1, 16_000))
# shuffled = levels[:, :, torch.randperm(levels.shape[-1])]
# with torch.no_grad():
#     assert (net.tagged(levels) - net.tagged(shuffled)).abs().max() > 1e-6
# assert torch.allclose(levels.mean(-1), shuffled.mean(-1), atol=1e-4)
# ```
# </details>
#
# **5. Open.** Score `mtat_musicnn` on the band: which of MTAT's words can stand for its nine tags? Compare with the network that was trained on the band, on both soundfonts.
#
# ## 13.15 Sources
#
# - M. Won, A. Ferraro, D. Bogdanov and X. Serra, *Evaluation of CNN-based automatic music tagging models*, SMC 2020, arXiv 2006.00751; the weights and interfaces: github.com/minzwon/sota-music-tagging-models, MIT licence, Music Technology Group, Universitat Pompeu Fabra.
# - K. Choi, G. Fazekas and M. Sandler, *Automatic tagging using deep convolutional neural networks*, ISMIR 2016; with K. Cho, *Convolutional recurrent neural networks for music classification*, ICASSP 2017.
# - J. Pons et al., *End-to-end learning for music audio tagging at scale*, ISMIR 2018.
# - M. Won, S. Chun, O. Nieto and X. Serra, *Data-driven harmonic filters for audio representation learning*, ICASSP 2020.
# - E. Law et al., *Evaluation of algorithms using games: the case of music tagging*, ISMIR 2009 (MagnaTagATune); D. Bogdanov et al., *The MTG-Jamendo dataset for automatic music tagging*, 2019.
# - K. Simonyan, A. Vedaldi and A. Zisserman, *Deep inside convolutional networks: visualising image classification models and saliency maps*, 2014.
# - J. Davis and M. Goadrich, *The relationship between precision-recall and ROC curves*, ICML 2006; J. Hanley and B. McNeil, *The meaning and use of the area under a ROC curve*, Radiology 1982.
# - E. Manilow, P. O'Reilly, P. Seetharaman and B. Pardo, *Source separation by steering pretrained music models*, ICASSP 2022 (TagBox).
#
# All code here is the course's own. The recordings:

# %%
from IPython.display import Markdown, display
display(Markdown("\n".join(f"- {attribution(name)}" for name in names)))
