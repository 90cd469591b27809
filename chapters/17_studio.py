# %% [markdown]
# # Chapter 17 · The studio
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/17_studio.ipynb)
#
# Sixteen chapters have built tools, each on its own desk. This one puts them into one room: take a song of your own, separate it, let a tagger say what is where, split a stem further by steering, have another
# instrument play one, mix everything anew, and write it to disk, with a file from which anybody makes the same again. You build the room, too: steps that can be taken back, files that are never half written, an app with the
# mixer. Then the chain is measured as a whole, for a chain has errors that none of its links shows.
#
# **You will be able to**
# - hold a program's state as values that never change, and get undo, redo and replay for nothing,
# - join networks that want different rates and channels, without losing a sample,
# - say how large the error of a remix is, before hearing it, from the errors of the stems,
# - tell whether a tagger hears more in stems than in the song,
# - write results so that neither a crash nor a full disk leaves a broken file, and so that they can be made again,
# - plan, carry out and defend a project of your own.
#
# **You need** chapters 9, 13 and 14 (separating songs, tagging, TagBox), and chapter 16 for translation.
#
# **Time** <!-- minutes 17_studio -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours; the project: two to four weeks.

# %% [markdown]
# ## 17.0 Set up
#
# The first lines install the course where it is missing, on Colab. Every network of this chapter comes with the course. The scores of section 17.10 came out of `course experiment studio`.

# %%
#| default_exp studio
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("17_studio", cpu=dict(seconds=8.0, steps=8), gpu=dict(seconds=20.0, steps=60), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/studio.py`; the command `course studio` stands on it.

# %%
#| export
import contextlib
import csv
import dataclasses
import hashlib
import inspect
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor
import course_lib
from course_lib.audio import check_audio
from course_lib.data.audio_files import read_audio, read_header
from course_lib.data.resampling import check_rate, resample
from course_lib.notebook.players import playback_scale
from course_lib.paths import data_dir, for_libsndfile, shown
from course_lib.progress import executing
from course_lib.separating import (DEFAULT_MODEL, SongSeparator, check_format, load_separator,
                                   shared_residual)
from course_lib.spectral import istft, stft
from course_lib.steering_command import CODEC, codec_named, steer_song, tagger_named
from course_lib.tagbox import root_hann, spectral_mask, tagger_rate, tags_of
from course_lib.taggers import tag
from course_lib.training import load_trained

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import STEMS, open_tracks
from course_lib.data.recordings import attribution, recording
from course_lib.experiments import studio as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, mix_stems, paired_interval, show,
                                 show_table)
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words,
                                        reproduced, same_trend, show_claims)
from course_lib.results import measured_table

# %% [markdown]
# ## 17.1 The room
#
# Everything the studio does, and the chapter each box is from. Dashed: what may be done, and need not be.

# %%
d = Diagram()
song = d.block("song", "channel, time\nany rate", kind="data")
separate_ = d.block("separate\n(9; 4-8)", "stem, channel, time", after=song, kind="frozen")
steer_ = d.block("steer\n(14; 11)", "stem -> two", after=separate_, kind="frozen", arrow=False)
translate_ = d.block("translate\n(16; 15)", "stem -> stem", after=steer_, kind="frozen",
                     arrow=False)
remix_ = d.block("remix\n(17.6)", "channel, time", after=translate_, arrow=False)
d.arrow(separate_, steer_, dashed=True)
d.arrow(steer_, translate_, dashed=True)
d.arrow(translate_, remix_)
d.arrow(separate_, remix_, route="over")
tag_ = d.block("tag\n(13)", "tag -> 0 to 1", after=separate_, kind="frozen", place="below",
               gap=0.5)
score_ = d.block("score\n(3)", "dB", after=remix_, place="below", kind="loss", arrow=False,
                 gap=0.5)
d.arrow(remix_, score_, dashed=True)
export_ = d.block("export\n(17.8)", "files, session", after=remix_, kind="data")
d.arrow(export_, song, "replay: the same again", route="under", reach=1.5)
show(d.draw(), "The studio. Numbers: the chapter whose network or function a box calls; the "
     "session leads from the files back to the song.", d.in_words())

# %% [markdown]
# Here is the room in use, before we build it. `Studio` is the class of section 17.7. The song is one of the band's test songs, which no network has learned on; put the path of your own into `Studio.open("my_song.mp3")` and the rest stays as it is.

# %%
from course_lib.studio import Studio
track = open_tracks("band", "test", count=1)[0].excerpt(4.0, P.seconds)
studio = Studio(track.mixture, track.rate, track.name)
studio.do("separate")
studio.do("tag")
studio.do("remix", gains={"vocals": 6.0, "drums": -6.0})
listen(track.mixture, track.rate, f"{track.name}: as it is")
listen(studio.audio(), track.rate, "voice 6 dB up, drums 6 dB down")
show_table([[step.name, ", ".join(f"{k}={v}" for k, v in step.settings.items() if v)]
            for step in studio.steps], ["step", "settings"], caption="What was done.")

# %% [markdown]
# And its stems, in the mixer of chapter 1:

# %%
mix_stems({name: x for name, x in studio.stems.items()}, track.rate, "the stems")
assert all(x.shape == track.mixture.shape for x in studio.stems.values())

# %% [markdown]
# ## 17.2 Stems of a song at any rate
#
# A network is trained at one rate, and a song has another. Resample to the network's, separate, resample back. Two things go wrong if one isn't careful. **Length**: 1 s at 44,101 Hz isn't a whole number of samples at 22,050 Hz; rounding up both ways (chapter 9) gives at least as many samples as the song has, and the rest is cut off.
# **What gets lost**: a network at 22,050 Hz hears nothing above 11,025 Hz, so its stems don't sum to the song. Whatever is lost would be missing in every remix. So we share it out (9.5): each of the $J$ stems gets
#
# $$ s_j = \hat s_j + \frac{1}{J} \Big( x - \sum_{i} \hat s_i \Big), \qquad \sum_j s_j = x. \tag{17.1} $$

# %%
#| export
def stems_of(separator: SongSeparator, audio: Tensor, rate: int,
             complete: bool = True) -> dict[str, Tensor]:
    """The stems of a song at any rate, by name, (channel, time) each, as long as the song.

    separator: as chapter 9's `load_separator` gives it. audio: (channel, time) at rate. complete:
    they sum to the song (eq. 17.1); above half of the separator's rate each stem then holds an
    equal share of it. ValueError for other shapes, no samples, NaN. Section 17.2.
    """
    check_song(audio, rate)
    y = separator(resample(audio, rate, separator.rate), separator.rate)
    y = resample(y, separator.rate, rate)[..., :audio.shape[-1]]     # (source, channel, time)
    y = shared_residual(y, audio) if complete else y
    return dict(zip(separator.stems, y))

# %% [markdown]
# What isn't a song is refused in words, here and in every step that follows:

# %%
#| export
def check_song(audio: Tensor, rate: int) -> None:
    """ValueError unless audio is finite (channel, time) of floats with a sample, rate a rate."""
    check_audio(audio=audio)
    check_rate(rate)
    if audio.ndim != 2 or not audio.numel() or not bool(audio.isfinite().all()):
        raise ValueError(f"audio has shape {tuple(audio.shape)}"
                         f"{'' if bool(audio.isfinite().all()) else ' and holds NaN or infinity'};"
                         " expected finite floats (channel, time), at least one sample")

# %% [markdown]
# A check with the smallest network and odd rates, on silence, and on a song of three samples:

# %%
small = load_separator("demucs_band")
for sounds, its_rate in ((track.mixture[:1, :20_000], 44_101), (torch.zeros(2, 9000), 8000),
                         (track.mixture[:, :3], 48_000)):
    stems = stems_of(small, sounds, its_rate)
    total = sum(stems.values())
    print(tuple(sounds.shape), its_rate, "largest gap below 1e-5:",
          bool((total - sounds).abs().max() < 1e-5))
    assert all(x.shape == sounds.shape for x in stems.values())
    assert torch.allclose(total, sounds, atol=1e-5)

# %% [markdown]
# **Quick question.** A song at 44.1 kHz has cymbals up to 20 kHz. What do you hear above 11 kHz in the stem *bass* of a 22 kHz network?
#
# <details><summary>Answer</summary>A quarter of the cymbals' treble, 12 dB softer than they are. That is the price of (17.1) for a soloed stem; without it, every remix would be dull. The default separator works at 44.1 kHz and has no such gap.</details>
#
# ## 17.3 What is where: tags of a stem
#
# Chapter 13's tagger says of five seconds which of nine instruments sound. It may be asked about the song, and about each stem. One case needs a rule of its own. In silence nothing sounds; the tagger, asked, gives a number all the same, for it has no way of saying "nothing":

# %%
tagger = tagger_named("tagger_band")
with torch.no_grad():
    given = tag(tagger, torch.zeros(1, 80_000))[0]
print(f"of silence the tagger says: {tags_of(tagger)[int(given.argmax())]} {given.max():.2f}")
assert 0.01 < float(given.max()) < 0.5

# %% [markdown]
# Small, but a number, and it rises with the noise that a separator leaves in a stem that should be silent. So what stays below -80 dB of full scale gets no tags at all, and tables say *silent*:

# %%
#| export
SILENCE = 1e-4                      # of full scale: what stays below has no tags


def tags_of_sound(tagger: torch.nn.Module, audio: Tensor, rate: int) -> dict[str, float]:
    """How likely each of a tagger's tags is in a sound, 0 to 1 by name; {} for silence.

    audio: (channel, time) at any rate; the mean of its channels is heard, in chunks whose last is
    filled by repeating. ValueError as `check_song`. Source: chapter 13; section 17.3.
    """
    check_song(audio, rate)
    if float(audio.abs().max()) < SILENCE:
        return {}
    mono = resample(audio.mean(0, keepdim=True), rate, tagger_rate(tagger))
    with torch.no_grad():
        given = tag(tagger, mono, fill="repeat")[0]                  # (tag,)
    return dict(zip(tags_of(tagger), given.tolist()))

# %% [markdown]
# The song and its stems as a picture, dark where the tagger is sure:

# %%
tags, names = studio.tags, tags_of(tagger)
table = np.array([[tags[sound].get(name, 0.0) for name in names] for sound in tags])
figure, axis = plt.subplots(figsize=(7.2, 2.6))
image = axis.imshow(table, cmap="Greys", vmin=0, vmax=1, aspect="auto")
axis.set_xticks(range(len(names)), names)
axis.set_yticks(range(len(tags)), list(tags))
figure.colorbar(image, label="probability")
show(figure, f"Tags of {track.name} and of its stems.",
     "A table of grey squares: rows are the song and its stems, columns nine instruments. Drums, "
     "bass and vocals are black in the column of their own name, other in that of the guitar, the "
     "song in drums, bass and guitar; the stem of the drums is also grey at vocals.")
sure = {sound: names[int(row.argmax())] for sound, row in zip(tags, table)}
print({sound: name for sound, name in sure.items() if sound != "song"})
assert tags_of_sound(tagger, torch.zeros(1, 9000), 44_100) == {}
assert 0.3 < tags["drums"]["vocals"] < tags["vocals"]["vocals"]

# %% [markdown]
# In the stem of the drums it half believes in a voice: what leaks into a stem, machines hear, too. Does a tagger hear more in stems than in the song? One picture of one song decides nothing; section 17.10 asks many.
#
# ## 17.4 Split a stem by a tag
#
# Four stems are few: guitar, piano and strings are all in *other*. TagBox (chapter 14) steers a codec until what its mask leaves sounds like a tag, so it can split a stem in two, the tag and the rest. The codec is mono at 22,050 Hz, the stem perhaps stereo at 44,100. We take from TagBox what the *decoder sings*, $J$,
# bring it to the song's rate, and make the mask (14.1) there, one for all channels:
#
# $$ M = \frac{|J|}{\max(|J|, |\bar X|) + \varepsilon}, \qquad \hat g_c = \operatorname{ISTFT}(M \, X_c), \qquad r_c = x_c - \hat g_c, \tag{17.2} $$
#
# where $X_c$ is the STFT of channel $c$ and $\bar X$ that of the mean of the channels (`M` in the code is the latter; the mask has no name there). One mask for all channels keeps every sound where it was between the speakers. Rest and part sum to the stem by construction.

# %%
#| export
WINDOW = 512 / 22_050               # seconds of the mask's STFT, TagBox's last size


def split_by_mask(audio: Tensor, sung: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """What a sung sound's mask leaves of a stem, and the rest: (channel, time) each (eq. 17.2).

    audio: (channel, time) at rate. sung: (time,) at rate, cut or filled with zeros to fit. They
    sum to audio. Section 17.4.
    """
    time_, n_fft = audio.shape[-1], 2 * max(8, round(WINDOW * rate / 2))
    sung = F.pad(sung, (0, max(0, time_ - len(sung))))[:time_]
    window = root_hann(n_fft, audio)
    X, M, J = (stft(x, n_fft, n_fft // 2, window) for x in (audio, audio.mean(0), sung))
    part = istft(spectral_mask(J, M) * X, n_fft, n_fft // 2, time_, window)
    return part, audio - part

# %% [markdown]
# Two extremes that need no network: a sung sound that is the stem's own mean opens the mask everywhere, so everything is part; silence closes it.

# %%
x = track["other"][:, :30_000]
part, rest = split_by_mask(x, x.mean(0), track.rate)
assert torch.allclose(part, x, atol=1e-3) and float(rest.abs().max()) < 1e-3
part, rest = split_by_mask(x, torch.zeros(30_000), track.rate)
assert float(part.abs().max()) == 0 and torch.equal(rest, x)

# %% [markdown]
# And with the codec. `steer_song` is what `course steer` calls: pieces of ten seconds, joined by cross-fades.

# %%
#| export
def split_by_tag(codec: torch.nn.Module, codec_rate: int, taggers: Sequence[torch.nn.Module],
                 audio: Tensor, rate: int, name: str, **options) -> tuple[Tensor, Tensor]:
    """A stem as (what sounds like a tag, the rest), (channel, time) each, by TagBox.

    codec, codec_rate: as chapter 14's `steer` takes it. name: a tag that the taggers know. options:
    of `steer_song`. Silence is split into silence twice. ValueError as `check_song`, for unknown
    tags and for stems that are too short for the masks. Source: Manilow et al. 2022; section 17.4.
    """
    check_song(audio, rate)
    if float(audio.abs().max()) < SILENCE:
        return torch.zeros_like(audio), audio
    mono = resample(audio.mean(0), rate, codec_rate)
    sung = steer_song(codec, taggers, mono, codec_rate, name, **options)["steered"]
    return split_by_mask(audio, resample(sung, codec_rate, rate), rate)

# %% [markdown]
# Steering takes a gradient through codec and tagger for every step, a second of computing for a second of sound every ten steps or so. Here a few steps for three seconds of *other*; chapter 14 says what more of them give.

# %%
codec, codec_rate = codec_named(CODEC)
other = studio.stems["other"][:, :3 * track.rate]
guitar, rest = split_by_tag(codec, codec_rate, [tagger], other, track.rate, "guitar",
                            steps=P.steps)
before, after, left = (tags_of_sound(tagger, x, track.rate)["guitar"]
                       for x in (other, guitar, rest))
print(f"the tagger's guitar grows: {after > before}; sums to the stem: "
      f"{torch.allclose(guitar + rest, other, atol=1e-5)}")
listen(torch.cat([other, guitar, rest], 1), track.rate, "other; its guitar by TagBox; the rest")
assert torch.allclose(guitar + rest, other, atol=1e-5)

# %% [markdown]
# Above 11 kHz the codec sings nothing, so the treble stays in the rest. That is TagBox's limit, and why its result sounds dull.
#
# ## 17.5 Another instrument plays a stem
#
# Chapter 16's translator takes mono at 8 kHz and one of its instruments' names, and gives what that instrument would play. To the studio it is any function from (audio, rate, name) to audio. Around it stand three things: the mean of the channels goes in, the length is made to fit, and the level, which the network doesn't keep, is that of the stem:
#
# $$ y \leftarrow y \, \sqrt{\frac{\sum_{c,n} x_c[n]^2}{C \sum_n y[n]^2}} . \tag{17.3} $$

# %%
#| export
Translator = Callable[[Tensor, int, str], Tensor]     # mono (time,), rate, to -> (time,)


def translated(translator: Translator, audio: Tensor, rate: int, to: str, **options) -> Tensor:
    """A stem played by another instrument, (channel, time), at the stem's level (eq. 17.3).

    translator: gets the mean of the channels, (time,) at rate, `to` and options. Its answer is cut
    or filled with zeros to the stem's length, equal in all channels. Silence stays silence.
    ValueError as `check_song`, and where the translator gives another shape or NaN. Section 17.5.
    """
    check_song(audio, rate)
    if float(audio.abs().max()) < SILENCE:
        return torch.zeros_like(audio)
    y = translator(audio.mean(0), rate, to, **options)
    if y.ndim != 1 or not bool(y.isfinite().all()):
        raise ValueError(f"the translator gave shape {tuple(y.shape)}, or NaN; expected (time,)")
    y = F.pad(y, (0, max(0, audio.shape[-1] - len(y))))[:audio.shape[-1]]
    level = audio.square().mean().sqrt() / y.square().mean().sqrt().clamp_min(1e-9)
    return (y * level).expand_as(audio).clone()

# %% [markdown]
# Chapter 16's network works at a rate of its own, on melodies near full scale, and draws its samples. This makes it a function as we want it:

# %%
#| export
TRANSLATOR = "translation_band"


class TrainedTranslator:
    """A trained `MusicTranslator` as a `Translator`: mono (time,) at any rate to the same length.

    temperature: of what it draws. level: the peak that a sound is brought to before. Called with a
    seed, too. ValueError for an instrument not among `instruments`, and for less than a frame of
    the code. Section 17.5.
    """

    def __init__(self, net: torch.nn.Module, temperature: float = 0.3, level: float = 0.7):
        self.net, self.temperature, self.level = net, temperature, level
        self.instruments = tuple(net.domains)

    def __call__(self, x: Tensor, rate: int, to: str, seed: int = 0) -> Tensor:
        if to not in self.instruments:
            raise ValueError(f"to is {to!r}; this translator plays {', '.join(self.instruments)}")
        own, hop = self.net.facts.rate, self.net.hop_length
        heard = resample(x * (self.level / max(float(x.abs().max()), 1e-9)), rate, own)
        if len(heard) < hop:
            raise ValueError(f"the sound lasts {len(x) / rate:.3f} s; translating takes at least "
                             f"{hop / own:.3f} s")
        generator = torch.Generator().manual_seed(seed)
        y = self.net.translate(heard[None], to, generator, self.temperature)[0]
        return resample(y, own, rate)

# %% [markdown]
# By name:

# %%
#| export
def find_translator(name: str) -> TrainedTranslator:
    """The translator of that name; errors as `load_trained`. Section 17.5."""
    return TrainedTranslator(load_trained(name))

# %% [markdown]
# A translator for trying things out, which hums every note an octave lower (it halves the rate), shows the frame around the network at work:

# %%
def octave_lower(x, rate, to):
    return resample(x, rate, 2 * rate)[:len(x)]

low = translated(octave_lower, studio.stems["bass"], track.rate, "tuba")
rms = lambda x: float(x.square().mean().sqrt())
ratio = rms(low) / rms(studio.stems["bass"])
print(tuple(low.shape), f"levels differ by {abs(20 * math.log10(ratio)):.1f} dB")
assert low.shape == track.mixture.shape and abs(ratio - 1) < 1e-3

# %% [markdown]
# The singer of the song, played by a flute. No voice was among the instruments that the network learned from, and a stem isn't clean; chapter 16 says what it can do with sounds of its own kind.

# %%
singer = studio.stems["vocals"][:, 2 * track.rate:4 * track.rate]
flute = translated(find_translator(TRANSLATOR), singer, track.rate, "flute")
listen(torch.cat([singer, flute], 1), track.rate, "the separated voice; a flute")
assert flute.shape == singer.shape and float(flute[:, :track.rate].abs().max()) > 1e-3

# %% [markdown]
# ## 17.6 The remix, and how wrong it is
#
# Every stem gets a gain $g_j$ in dB, and may be muted; where stems are soloed, only those are heard:
#
# $$ y = \sum_j a_j s_j, \qquad a_j = h_j \, 10^{g_j / 20}, \qquad h_j \in \{0, 1\}. \tag{17.4} $$
#
# What is asked for fits into one small value that never changes. It also holds two effects on the result: stems may be transposed by semitones, and the whole played at another tempo.

# %%
#| export
LOWEST, HIGHEST = -60.0, 12.0       # dB of a gain


@dataclass(frozen=True)
class Mix:
    """What a remix asks for (eq. 17.4); stems that aren't named are left as they are.

    gains: stem -> dB, LOWEST to HIGHEST. mutes, solos: names of stems. transpose: stem ->
    semitones, -12 to 12. tempo: 0.5 to 2, above 1 is faster and shorter. ValueError for others.
    Section 17.6.
    """

    gains: Mapping[str, float] = field(default_factory=dict)
    mutes: Sequence[str] = ()
    solos: Sequence[str] = ()
    transpose: Mapping[str, float] = field(default_factory=dict)
    tempo: float = 1.0

    def __post_init__(self):
        check_values("gain", self.gains, LOWEST, HIGHEST, "dB")
        check_values("transpose", self.transpose, -12, 12, "semitones")
        check_values("tempo", {"": self.tempo}, 0.5, 2.0, "times as fast")

    def factor(self, stem: str) -> float:
        """By what a stem is multiplied."""
        heard = stem not in self.mutes and (not self.solos or stem in self.solos)
        return 10 ** (self.gains.get(stem, 0.0) / 20) if heard else 0.0

# %% [markdown]
# Its check, which says what was wrong and what would be right:

# %%
#| export
def check_values(what: str, values: Mapping[str, float], low: float, high: float,
                 unit: str) -> None:
    """ValueError unless all values (by stem, "" for the whole) are numbers from low to high."""
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise ValueError(f"{what}{f' of {name}' if name else ''} is {value!r}; expected "
                             f"{low:g} to {high:g} {unit}")

# %% [markdown]
# The sum. Where it goes beyond full scale it is turned down as a whole, and the factor is told: chapter 1's rule for players.

# %%
#| export
def remixed(stems: Mapping[str, Tensor], rate: int, mix: Mix) -> tuple[Tensor, float]:
    """The remix (channel, time) of stems of one shape (eq. 17.4), and the factor it was scaled by.

    The factor is 1 unless the sum exceeds full scale. Transposing and tempo are librosa's phase
    vocoder; tempo changes the length to about time / tempo. ValueError where the mix names stems
    that aren't there. Section 17.6.
    """
    asked = {*mix.gains, *mix.mutes, *mix.solos, *mix.transpose}
    if unknown := sorted(asked - set(stems)):
        raise ValueError(f"the mix names {', '.join(unknown)}; there are the stems "
                         f"{', '.join(stems)}")
    y = sum(mix.factor(name) * transposed(x, rate, mix.transpose.get(name, 0.0))
            for name, x in stems.items())
    y = in_tempo(y, mix.tempo)
    scale = playback_scale(float(y.abs().max()), False)
    return y * scale, scale

# %% [markdown]
# And the two effects, by `librosa`'s phase vocoder. Other pitch, the same length:

# %%
#| export
def transposed(audio: Tensor, rate: int, semitones: float) -> Tensor:
    """Audio (channel, time) higher by semitones, as long as before. Section 17.6."""
    if semitones == 0 or not bool(audio.any()):
        return audio
    check_vocoder(audio)
    import librosa
    y = librosa.effects.pitch_shift(audio.numpy(), sr=rate, n_steps=float(semitones))
    return torch.from_numpy(y).to(audio)

# %% [markdown]
# Another tempo at the same pitch:

# %%
#| export
def in_tempo(audio: Tensor, tempo: float) -> Tensor:
    """Audio (channel, time) `tempo` times as fast, at its pitch. Section 17.6."""
    if tempo == 1:
        return audio
    check_vocoder(audio)
    import librosa
    return torch.from_numpy(librosa.effects.time_stretch(audio.numpy(), rate=tempo)).to(audio)

# %% [markdown]
# Both need a frame at least:

# %%
#| export
def check_vocoder(audio: Tensor, n_fft: int = 2048) -> None:
    """ValueError where audio is shorter than a frame of the phase vocoder."""
    if audio.shape[-1] < n_fft:
        raise ValueError(f"the sound has {audio.shape[-1]} samples; transposing and tempo need at "
                         f"least {n_fft}")

# %% [markdown]
# Without any wish the remix is the song itself, to rounding, thanks to (17.1). With one, it is wrong by what the stems are wrong. Let $e_j = s_j - s_j^{\ast}$ be the error of stem $j$ against the true one $s_j^{\ast}$. Stems and true stems have the same sum, so the errors cancel, $\sum_j e_j = 0$, and for *any* number $a$
#
# $$ y - y^{\ast} = \sum_j a_j e_j = \sum_j (a_j - a)\, e_j . \tag{17.5} $$
#
# Only gains that *differ* make errors audible. With one stem changed, all others left ($a = 1$), the remix errs by exactly $(a_v - 1)\, e_v$. Three gains by hand, in dB relative to the error of the stem itself:

# %%
show_table([[f"{gain:+.0f} dB" if gain > -60 else "muted",
             20 * math.log10(abs((10 ** (gain / 20) if gain > -60 else 0.0) - 1))]
            for gain in (1, 3, 6, -3, -6, -60)], ["the voice", "error, dB"], digits=1,
           caption="Error of a remix against the error of the separated voice.")

# %% [markdown]
# A voice that is 3 dB up costs 8 dB less error than a voice alone; 6 dB up costs as much as the voice alone; a karaoke version, too. Measured, against the true stems:

# %%
soft = 0.25                                      # so that no remix is turned down
true = {name: soft * track[name] for name in STEMS}
own = {name: soft * x for name, x in studio.stems.items()}
error = lambda mix: remixed(own, track.rate, mix)[0] - remixed(true, track.rate, mix)[0]
power = lambda x: float(x.square().sum())
alone = power(error(Mix(solos=("vocals",))))
for gain in (3.0, 6.0, -6.0):
    found = 10 * math.log10(power(error(Mix(gains={"vocals": gain}))) / alone)
    told = 20 * math.log10(abs(10 ** (gain / 20) - 1))
    print(f"voice {gain:+.0f} dB: error {round(found, 1) + 0.0} dB,"
          f" (17.5) says {round(told, 1) + 0.0}")
    assert abs(found - told) < 0.1
assert torch.allclose(remixed(own, track.rate, Mix())[0], soft * track.mixture, atol=1e-5)

# %% [markdown]
# **Quick question.** All stems 6 dB down but the voice: is that as good as the voice 6 dB up?
#
# <details><summary>Answer</summary>Yes: in (17.5) only differences count. It is the same remix at half the level, and so is its error; the SDR is the same.</details>
#
# ## 17.7 Steps that can be taken back
#
# A program that changes things in place can't go back. The studio's state is a value instead: stems, tags and the mix, none of which is ever changed. A step is a function from one state to the next. Then *undo* is to look at the state before, and what was done is a list.

# %%
#| export
@dataclass(frozen=True)
class State:
    """What the studio holds at a moment; nothing in it is ever changed in place.

    stems: name -> (channel, time), all as long as the song; before separation {"song": it}. tags:
    sound ("song" or a stem) -> tag -> probability. mix: see `Mix`. Section 17.7.
    """

    stems: Mapping[str, Tensor]
    tags: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    mix: Mix = field(default_factory=Mix)

    def with_stems(self, stems: Mapping[str, Tensor]) -> "State":
        """The state with other stems of the same sum; what speaks of stems that are gone, goes."""
        kept = {name for name, x in stems.items() if x is self.stems.get(name)} | {"song"}
        names = set(stems)
        mix = Mix({k: v for k, v in self.mix.gains.items() if k in names},
                  tuple(k for k in self.mix.mutes if k in names),
                  tuple(k for k in self.mix.solos if k in names),
                  {k: v for k, v in self.mix.transpose.items() if k in names}, self.mix.tempo)
        return State(dict(stems), {k: v for k, v in self.tags.items() if k in kept}, mix)

# %% [markdown]
# A step in words: what the history shows and a session keeps.

# %%
#| export
@dataclass(frozen=True)
class Step:
    """One thing that was done: its name, all its settings, and how many seconds it took."""

    name: str
    settings: Mapping[str, object]
    seconds: float

# %% [markdown]
# The networks come by name, so that a list of steps can be written down and read again. They are loaded when first asked for. Whoever has other networks gives the studio other `Models`; the tests do.

# %%
#| export
class Models:
    """The networks that the studio calls, by name, each loaded once. Section 17.7."""

    def __init__(self):
        self.loaded: dict[tuple[str, str], object] = {}

    def _once(self, kind: str, name: str, load: Callable[[str], object]):
        if (kind, name) not in self.loaded:
            self.loaded[kind, name] = load(name)
        return self.loaded[kind, name]

    def separator(self, name: str) -> SongSeparator:
        return self._once("separator", name, load_separator)

    def tagger(self, name: str) -> torch.nn.Module:
        return self._once("tagger", name, tagger_named)

    def codec(self, name: str) -> tuple[torch.nn.Module, int]:
        """A codec and its rate."""
        return self._once("codec", name, codec_named)

    def translator(self, name: str) -> Translator:
        return self._once("translator", name, find_translator)

# %% [markdown]
# Now the steps, each a function of the state, the song's rate, the models and its settings. Separating:

# %%
#| export
def separate_step(state: State, rate: int, models: Models, *, model: str = DEFAULT_MODEL,
                  shifts: int = 0, seed: int = 0) -> State:
    """The song's stems by a trained separator, which sum to it (section 17.2)."""
    separator = dataclasses.replace(models.separator(model), shifts=shifts, seed=seed)
    return state.with_stems(stems_of(separator, state.stems["song"], rate))

# %% [markdown]
# Tagging asks only about what has no tags yet:

# %%
#| export
def tag_step(state: State, rate: int, models: Models, *, tagger: str = "tagger_band") -> State:
    """Tags of every sound that has none yet, the song among them (section 17.3)."""
    network, sounds = models.tagger(tagger), {"song": song_of(state), **state.stems}
    new = {name: tags_of_sound(network, x, rate) for name, x in sounds.items()
           if name not in state.tags}
    return dataclasses.replace(state, tags={**state.tags, **new})

# %% [markdown]
# The song of a state is the sum of its stems, whatever has become of them:

# %%
#| export
def song_of(state: State) -> Tensor:
    """The song as the state has it: the sum of its stems."""
    return sum(state.stems.values())

# %% [markdown]
# Steering and translating change one stem; its name says what became of it:

# %%
#| export
def steer_step(state: State, rate: int, models: Models, *, name: str, of: str = "other",
               steps: int = 40, lr: float = 5.0, codec: str = CODEC,
               tagger: str = "tagger_band") -> State:
    """Split the stem `of` into the tag `name` and what is left of it (section 17.4)."""
    audio = stem_of(state, of)
    new = free_name(name, [stem for stem in state.stems if stem != of])
    network, codec_rate = models.codec(codec)
    part, rest = split_by_tag(network, codec_rate, [models.tagger(tagger)], audio, rate, name,
                              steps=steps, lr=lr)
    left = f"{of} less {name}" if of != "song" else "rest"
    return state.with_stems(replaced(state.stems, of, {new: part, left: rest}))

# %% [markdown]
# Translating changes the sum, so the song's tags no longer hold:

# %%
#| export
def translate_step(state: State, rate: int, models: Models, *, stem: str, to: str,
                   translator: str = TRANSLATOR, seed: int = 0) -> State:
    """Have a stem played by another instrument, in its place (section 17.5)."""
    audio = stem_of(state, stem)
    new = free_name(f"{stem} as {to}", state.stems)
    y = translated(models.translator(translator), audio, rate, to, seed=seed)
    state = state.with_stems(replaced(state.stems, stem, {new: y}))
    return dataclasses.replace(state, tags={k: v for k, v in state.tags.items() if k != "song"})

# %% [markdown]
# With three little helpers:

# %%
#| export
def stem_of(state: State, name: str) -> Tensor:
    """A stem; ValueError, with those there are, where it isn't among them."""
    if name not in state.stems:
        raise ValueError(f"there is no stem {name!r}; there: {', '.join(state.stems)}")
    return state.stems[name]

# %% [markdown]
# A name that is taken gets a number:

# %%
#| export
def free_name(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where it is taken."""
    number = next(n for n in range(1, len(list(taken)) + 2)
                  if (name if n == 1 else f"{name} {n}") not in taken)
    return name if number == 1 else f"{name} {number}"

# %% [markdown]
# And new stems stand where the old one stood:

# %%
#| export
def replaced(stems: Mapping[str, Tensor], old: str, new: Mapping[str, Tensor]) -> dict:
    """The stems with `new` ones in the place of the `old` one."""
    return {k: v for name, x in stems.items() for k, v in (new.items() if name == old
                                                           else [(name, x)])}

# %% [markdown]
# A remix changes no sound, only what is asked for. It is tried on the first sample of each stem, to find out early what can't be:

# %%
#| export
def remix_step(state: State, rate: int, models: Models, *, gains: Mapping[str, float] | None = None,
               mutes: Sequence[str] = (), solos: Sequence[str] = (),
               transpose: Mapping[str, float] | None = None, tempo: float = 1.0) -> State:
    """What the mix is to be, instead of what it was (section 17.6)."""
    mix = Mix(dict(gains or {}), tuple(mutes), tuple(solos), dict(transpose or {}), tempo)
    remixed({name: x[:, :1] for name, x in state.stems.items()}, rate, dataclasses.replace(
        mix, transpose={}, tempo=1.0))                               # are all stems there
    return dataclasses.replace(state, mix=mix)

# %% [markdown]
# A table says which steps there are; what is not in it can't be done, whoever wrote the list of steps.

# %%
#| export
STEPS = {"separate": separate_step, "tag": tag_step, "steer": steer_step,
         "translate": translate_step, "remix": remix_step}

# %% [markdown]
# A second one says when a step makes no sense; the app's buttons go by it:

# %%
#| export
def why_not(state: State, step: str) -> str | None:
    """Why a step makes no sense now, in words for the user; None where it does. Section 17.7."""
    if step not in STEPS:
        raise ValueError(f"step is {step!r}; expected one of {', '.join(STEPS)}")
    whole = "song" in state.stems
    if step == "separate" and not whole:
        return "the song is in stems already; undo first"
    if step == "tag" and {"song", *state.stems} <= set(state.tags):
        return "everything has its tags already"
    if step in ("translate", "remix") and whole:
        return "there is only the whole song; separate it first"
    return None

# %% [markdown]
# Defaults are filled in before a step is done, so that a session holds *all* settings and outlives a change of defaults:

# %%
#| export
def settings_of(step: str, given: Mapping[str, object]) -> dict[str, object]:
    """All settings of a step, by name, defaults among them; ValueError for unknown or missing."""
    wanted = {name: one for name, one in inspect.signature(STEPS[step]).parameters.items()
              if one.kind is one.KEYWORD_ONLY}
    missing = [name for name, one in wanted.items()
               if one.default is one.empty and name not in given]
    if missing or set(given) - set(wanted):
        needed = f", {', '.join(missing)} not left out" if missing else ""
        raise ValueError(f"{step} got {', '.join(given) or 'no settings'}; expected "
                         f"{', '.join(wanted)}{needed}")
    return {name: given.get(name, one.default) for name, one in wanted.items()}

# %% [markdown]
# Undo and redo are two stacks, whatever the states are:

# %%
#| export
class History:
    """States one after the other, with the step that led to each; steps can be taken back.

    past: what was done, and what it gave. undone: what was taken back, the last one at the end;
    a new step forgets it. Section 17.7.
    """

    def __init__(self):
        self.past: list[tuple[Step, State]] = []
        self.undone: list[tuple[Step, State]] = []

    @property
    def steps(self) -> list[Step]:
        return [step for step, _ in self.past]

    def push(self, step: Step, state: State) -> None:
        self.past.append((step, state))
        self.undone.clear()

    def undo(self) -> Step:
        """Take the last step back; ValueError where there is none."""
        if not self.past:
            raise ValueError("nothing has been done yet; there is nothing to undo")
        self.undone.append(self.past.pop())
        return self.undone[-1][0]

    def redo(self) -> Step:
        """Do again what was undone last; ValueError where there is nothing."""
        if not self.undone:
            raise ValueError("nothing was undone; there is nothing to do again")
        self.past.append(self.undone.pop())
        return self.past[-1][0]

# %% [markdown]
# The studio itself has little left to do. A step that fails raises before anything is kept, so the studio is as it was:

# %%
#| export
class Studio(History):
    """A song and what is done with it, step by step; every step can be taken back.

    audio: (channel, time) of floats in [-1, 1], at rate in Hz. name: of the song. models: see
    `Models`. sha256: of the file it is from, by default of the samples. `state` is where we are,
    `steps` how we came here. ValueError as `check_song`. Section 17.7.
    """

    def __init__(self, audio: Tensor, rate: int, name: str = "song", models: Models | None = None,
                 sha256: str | None = None, excerpt: Sequence[float | None] = (0.0, None)):
        check_song(audio, rate)
        super().__init__()
        self.song, self.rate, self.name = audio, int(rate), name
        self.models, self.excerpt = models or Models(), tuple(excerpt)
        self.first = State({"song": audio})
        self.sha256 = sha256 or hashlib.sha256(audio.contiguous().numpy().tobytes()).hexdigest()

    @classmethod
    def open(cls, path: str | Path, start: float = 0.0, seconds: float | None = None,
             models: Models | None = None) -> "Studio":
        """A song on disk, or `seconds` of it from `start` s on; errors as `read_piece`."""
        audio, rate = read_piece(path, start, seconds)
        return cls(audio, rate, Path(path).stem, models, file_sha256(path), (start, seconds))

    @property
    def state(self) -> State:
        return self.past[-1][1] if self.past else self.first

    @property
    def stems(self) -> Mapping[str, Tensor]:
        return self.state.stems

    @property
    def tags(self) -> Mapping[str, Mapping[str, float]]:
        return self.state.tags

    def do(self, step: str, **settings) -> State:
        """Do a step of STEPS; ValueError where it makes no sense, and nothing is changed then."""
        if reason := why_not(self.state, step):
            raise ValueError(f"{step}: {reason}")
        settings, began = settings_of(step, settings), time.monotonic()
        with torch.random.fork_rng(devices=[]):                      # for what draws globally
            torch.manual_seed(int(settings.get("seed", 0)))
            state = STEPS[step](self.state, self.rate, self.models, **settings)
        self.push(Step(step, settings, time.monotonic() - began), state)
        return state

    def audio(self) -> Tensor:
        """The remix, (channel, time), as the mix of the moment asks for."""
        return remixed(self.stems, self.rate, self.state.mix)[0]

# %% [markdown]
# Reading a song, or a piece of one, with chapter 9's careful headers:

# %%
#| export
def read_piece(path: str | Path, start: float = 0.0,
               seconds: float | None = None) -> tuple[Tensor, int]:
    """`seconds` of an audio file from `start` s on, (channel, time) and its rate.

    FileNotFoundError for no such file; ValueError for no audio, a damaged file, a piece outside.
    Section 17.7.
    """
    header = read_header(path)
    first = round(start * header.rate) if math.isfinite(start) else -1
    frames = header.frames - first if seconds is None else round(seconds * header.rate)
    if first < 0 or frames < 1 or first >= header.frames:
        raise ValueError(f"{shown(path)} lasts {header.frames / header.rate:.2f} s; a piece from "
                         f"{start} s, of {seconds} s, isn't inside it")
    return read_audio(header, first, min(frames, header.frames - first)), header.rate

# %% [markdown]
# A file's fingerprint, by which a session knows its song:

# %%
#| export
def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

# %% [markdown]
# There and back, on the song of 17.1. States share their tensors, so a long history costs little memory. The same steps give the same samples:

# %%
before = studio.audio()
studio.undo()
without = studio.audio()
studio.redo()
print([step.name for step in studio.steps], "undo gives the song back:",
      torch.allclose(without, track.mixture, atol=1e-5))
again = Studio(track.mixture, track.rate, models=studio.models)
for step in studio.steps:
    again.do(step.name, **step.settings)
assert torch.equal(again.audio(), before) and torch.equal(studio.audio(), before)

# %% [markdown]
# And what makes no sense is refused, in words:

# %%
for call in (lambda: studio.do("separate"), lambda: studio.do("steer", name="guitar", of="organ"),
             lambda: studio.do("remix", gains={"vocals": 40.0}),
             lambda: Studio(track.mixture, track.rate).do("remix")):
    try:
        call()
        raise AssertionError("not refused")
    except ValueError as error:
        print(error)
assert len(studio.steps) == 3

# %% [markdown]
# ## 17.8 Files that are never half written, and made again by anybody
#
# What a studio gives away is a folder:
#
# ```text
# My song/
#   remix.wav          what the mix asks for
#   stems/drums.wav    every stem, as long as the song
#   tags.csv           sound, tag, probability
#   session.json       the song's hash, every step with its settings, every file's hash
# ```
#
# Programs crash and disks get full; then a folder with half a file in it looks like a result. So everything is written into a hidden folder beside the goal, which gets its name when all is whole: renaming is one act of the file system. An older export is replaced only if all in it is the studio's own; a stranger's file stops everything.
#
# First the session, a value that JSON can hold:

# %%
#| export
FORMAT = "studio session 1"


def session_of(studio: Studio, files: Mapping[str, str] | None = None) -> dict:
    """The session: from what, by which steps, with which files (name -> SHA-256). Section 17.8."""
    header = {"name": studio.name, "sha256": studio.sha256, "rate": studio.rate,
              "channels": studio.song.shape[0], "frames": studio.song.shape[1],
              "start": studio.excerpt[0], "seconds": studio.excerpt[1]}
    return {"format": FORMAT, "course": course_lib.__version__, "torch": torch.__version__,
            "song": header, "steps": [dataclasses.asdict(step) | {"seconds": round(step.seconds, 2)}
                                      for step in studio.steps], "files": dict(files or {})}

# %% [markdown]
# Then the files. 16 bits hold values up to full scale; a stem that goes beyond is clipped and counted (`bits=32` holds everything).

# %%
#| export
def write_sound(path: Path, audio: Tensor, rate: int, bits: int = 16) -> int:
    """Write (channel, time) to a new .wav or .flac; how many samples were clipped. Section 17.8."""
    kind, subtype = check_format(path.suffix[1:], bits, rate, audio.shape[0])
    if not bool(audio.isfinite().all()):
        raise ValueError(f"{path.name} would hold NaN or infinity; nothing is kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(for_libsndfile(path), audio.T.numpy(), rate, subtype, format=kind)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path.name}: writing failed ({error}); is the disk full?") from error
    return 0 if bits == 32 else int((audio.abs() > 1).sum())

# %% [markdown]
# Tags as a table:

# %%
#| export
def write_tags(path: Path, tags: Mapping[str, Mapping[str, float]]) -> None:
    """Tags as a table: sound, tag, probability. A silent sound has no row. Section 17.8."""
    with open(path, "w", newline="", encoding="utf8") as file:
        table = csv.writer(file)
        table.writerow(["sound", "tag", "probability"])
        table.writerows([sound, name, f"{value:.4f}"] for sound, found in tags.items()
                        for name, value in found.items())

# %% [markdown]
# The whole folder. `os.replace` either renames or raises; there is nothing between.

# %%
#| export
@dataclass(frozen=True)
class Exported:
    """Where an export lies, its files by name in it, and how many samples were clipped."""

    folder: Path
    files: Mapping[str, str]
    clipped: int

# %% [markdown]
# Everything at once:

# %%
#| export
def export(studio: Studio, folder: str | Path, format: str = "wav", bits: int = 16,
           overwrite: bool = False) -> Exported:
    """Write remix, stems, tags and session into a folder, which appears when all is whole.

    format, bits: "wav" with 16, 24, 32, "flac" with 16, 24. overwrite: replace an earlier export;
    ValueError where the folder is there without it, or holds other files; for what the format
    can't hold; OSError where it can't be written. Section 17.8.
    """
    folder = Path(folder)
    check_format(format, bits, studio.rate, studio.song.shape[0])
    check_replaceable(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".unfinished",
                                     dir=folder.parent) as made:
        new, old = Path(made) / "new", Path(made) / "old"
        clipped = write_sound(new / f"remix.{format}", studio.audio(), studio.rate, bits)
        for name, x in studio.stems.items():
            clipped += write_sound(new / "stems" / f"{file_name(name)}.{format}", x, studio.rate,
                                   bits)
        if studio.tags:
            write_tags(new / "tags.csv", studio.tags)
        files = {path.relative_to(new).as_posix(): file_sha256(path)
                 for path in sorted(new.rglob("*")) if path.is_file()}
        text = json.dumps(session_of(studio, files), indent=1, ensure_ascii=False)
        (new / "session.json").write_text(text + "\n", encoding="utf8")
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
    return Exported(folder, files, clipped)

# %% [markdown]
# What a stem's file may be called:

# %%
#| export
def file_name(stem: str) -> str:
    """A stem's name as a file's: letters, digits, spaces, dashes, others become dashes."""
    return re.sub(r"[^\w -]+", "-", stem).strip() or "stem"

# %% [markdown]
# And what may be replaced:

# %%
#| export
def check_replaceable(folder: Path, overwrite: bool) -> None:
    """ValueError unless the folder isn't there, or is an export without anything else in it."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{shown(folder)} is a file; expected the name of a folder")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {"session.json", *read_session(folder)["files"]} if "session.json" in found else set()
    if others := sorted(found - own):
        raise ValueError(f"{shown(folder)} holds {shown(others[0])}, which no export has written; "
                         "choose another folder")
    if found and not overwrite:
        raise ValueError(f"{shown(folder)} is there already; allow overwriting to replace it")

# %% [markdown]
# Reading a session means reading a stranger's file. It is taken for words, never for code: a step must be in STEPS, its settings among the step's, a file's name a plain one.

# %%
#| export
PLAIN = re.compile(r"(stems/)?[\w][\w -]*\.(wav|flac|csv)")


def read_session(path: str | Path) -> dict:
    """A session from session.json or the folder that holds it, checked.

    FileNotFoundError where there is none; ValueError, saying what is wrong, for one that isn't as
    `session_of` writes it. Section 17.8.
    """
    path = Path(path) / "session.json" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{shown(path)}: no such file; expected a session.json")
    try:
        session = json.loads(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{shown(path)}: not JSON ({error})") from error
    try:
        check_session(session)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{shown(path)}: not a session that the studio wrote: {error}") from error
    return session

# %% [markdown]
# What is wrong with it is said where it is found:

# %%
#| export
def check_session(session: dict) -> None:
    """Raises, mostly ValueError, where a session isn't as `session_of` writes it."""
    if session["format"] != FORMAT:
        raise ValueError(f"format is {session['format']!r}; expected {FORMAT!r}")
    for name in ("sha256", "rate", "frames", "channels", "start", "seconds"):
        session["song"][name]
    for step in session["steps"]:
        if step["name"] not in STEPS:
            raise ValueError(f"step {step['name']!r}; expected one of {', '.join(STEPS)}")
        settings_of(step["name"], dict(step["settings"]))
    if odd := [name for name in session["files"] if not PLAIN.fullmatch(name)]:
        raise ValueError(f"a file is called {odd[0]!r}; expected such as stems/drums.wav")

# %% [markdown]
# Replaying is a loop. The song must be the one that the session speaks of, to the bit:

# %%
#| export
def replay(session: Mapping, song: str | Path, models: Models | None = None) -> Studio:
    """A studio in which all of a session's steps have been done again, on the song it was made of.

    session: as `read_session` gives it. song: a path. ValueError where the file's hash differs,
    and whatever the steps raise. On one machine samples are equal, between machines they agree to
    rounding. Section 17.8.
    """
    about = session["song"]
    studio = Studio.open(song, about["start"], about["seconds"], models)
    if studio.sha256 != about["sha256"]:
        raise ValueError(f"{shown(song)} isn't the song of this session: its SHA-256 begins with "
                         f"{studio.sha256[:8]}, that of the session with {about['sha256'][:8]}")
    for step in session["steps"]:
        studio.do(step["name"], **step["settings"])
    return studio

# %% [markdown]
# Are the sounds the same? File by file:

# %%
#| export
def deviation(studio: Studio, folder: str | Path) -> dict[str, float]:
    """How far the sounds of an export are from a studio's: level of the difference over the
    sound's, in dB, by file; -inf where they are equal, inf where it misses or differs in shape.
    Rounding to 16 bits gives about -80 dB for a loud sound. Section 17.8."""
    session, found = read_session(folder), {}
    sounds = {"remix": studio.audio(), **{f"stems/{file_name(k)}": x
                                          for k, x in studio.stems.items()}}
    for name, x in sounds.items():
        path = next((Path(folder) / f"{name}.{kind}" for kind in ("wav", "flac")
                     if f"{name}.{kind}" in session["files"]), Path(folder) / name)
        y = read_audio(path) if path.is_file() else torch.zeros(0)
        found[name] = level_of_difference(x, y)
    return found

# %% [markdown]
# In decibels:

# %%
#| export
def level_of_difference(x: Tensor, y: Tensor) -> float:
    """10 lg of the energy of x - y over that of x, in dB; inf for two shapes."""
    if x.shape != y.shape:
        return math.inf
    error, power = float((x - y).double().square().sum()), float(x.double().square().sum())
    return -math.inf if error == 0 else 10 * math.log10(error / power) if power else math.inf

# %% [markdown]
# A round trip: write, read, replay, compare. The first file is the song itself, as a reader would have it.

# %%
with tempfile.TemporaryDirectory() as folder:
    write_sound(Path(folder) / "song.wav", track.mixture, track.rate)
    mine = Studio.open(Path(folder) / "song.wav", models=studio.models)
    for step in studio.steps:
        mine.do(step.name, **step.settings)
    done = export(mine, Path(folder) / "out")
    print("\n".join(sorted(done.files)))
    session = read_session(done.folder)
    far = deviation(replay(session, Path(folder) / "song.wav", studio.models), done.folder)
    left = sorted(path.name for path in Path(folder).iterdir())
print({name: level < -50 for name, level in far.items()}, left)
assert max(far.values()) < -50 and left == ["out", "song.wav"]

# %% [markdown]
# And a crash in the middle, which we stage by a stem that holds NaN:

# %%
with tempfile.TemporaryDirectory() as folder:
    broken = Studio(track.mixture[:, :4000], track.rate)
    broken.push(Step("tag", {}, 0.0), State({"a": broken.song, "b": broken.song * math.nan}))
    try:
        export(broken, Path(folder) / "out")
        raise AssertionError("NaN was written")
    except ValueError as error:
        print(error)
    assert list(Path(folder).iterdir()) == []

# %% [markdown]
# ## 17.9 The app
#
# An app is the same studio with buttons. Two rules keep it honest. It holds *no state of its own*: after everything that happens, `refresh` draws all of it from the studio's state, so what one sees can't differ from what there is. And a button that makes no sense now is disabled, with the reason as its tooltip; `why_not` knows.
#
# First the widgets, made in one place. `ipywidgets` draws them in the browser:

# %%
#| export
ACTIONS = ("open", "separate", "tag", "steer", "translate", "remix", "undo", "redo", "export")


def app_widgets(path: str = "", folder: str = "") -> dict:
    """Every widget of the app, by name; buttons are called like ACTIONS. Section 17.9."""
    import ipywidgets as w
    wide = w.Layout(width="28em")
    buttons = {name: w.Button(description=name.capitalize(), tooltip=name) for name in ACTIONS}
    choice = lambda options, what: w.Dropdown(options=list(options), description=what,
                                              layout=w.Layout(width="15em"))
    return {**buttons,
            "path": w.Text(path, placeholder="path of a song", description="song", layout=wide),
            "upload": w.FileUpload(accept="audio/*", multiple=False, description="Upload"),
            "of": choice(["song"], "stem"), "name": choice(["guitar"], "tag"),
            "to": choice([], "to"),
            "steps": w.IntSlider(20, 5, 200, 5, description="steps"),
            "folder": w.Text(folder, description="folder", layout=wide),
            "format": choice(["wav", "flac"], "format"),
            "status": w.HTML(), "history": w.HTML(), "tags": w.HTML(),
            "progress": w.Output(), "mixer": w.VBox()}

# %% [markdown]
# They are laid out in rows, one for each thing to do:

# %%
#| export
def app_layout(w: Mapping[str, object]):
    """The widgets of `app_widgets` in rows, top to bottom in the order of work."""
    import ipywidgets
    rows = [("path", "open", "upload"), ("separate", "tag"), ("of",), ("name", "steps", "steer"),
            ("to", "translate"), ("mixer",), ("remix", "undo", "redo"),
            ("folder", "format", "export"), ("status",), ("progress",), ("history",), ("tags",)]
    box = ipywidgets.VBox([ipywidgets.HBox([w[name] for name in row]) if len(row) > 1
                           else w[row[0]] for row in rows])
    box.add_class("course-studio")
    for name in ACTIONS:
        w[name].add_class(f"course-studio-{name}")
    for name in ("status", "history", "tags"):
        w[name].add_class(f"course-studio-{name}")
    return box

# %% [markdown]
# What is uploaded comes as bytes, in another form in each version of `ipywidgets`:

# %%
#| export
def uploaded(value) -> tuple[str, bytes] | None:
    """(file's name, bytes) of a FileUpload's value in ipywidgets 7 (dict) or 8; or None."""
    files = list(value.values() if isinstance(value, Mapping) else value)
    if not files:
        return None
    name = files[-1].get("name") or files[-1].get("metadata", {}).get("name", "song.wav")
    return Path(name).name, bytes(files[-1]["content"])

# %% [markdown]
# And texts that come from files must not become HTML:

# %%
#| export
def in_html(text: str) -> str:
    """Text as HTML shows it, line by line."""
    import html
    return "<br>".join(html.escape(line) for line in text.splitlines())

# %% [markdown]
# The history in words, for the app and for the command:

# %%
#| export
def history_in_words(studio: Studio) -> str:
    """A line a step: its number, name, settings, seconds. Section 17.9."""
    lines = [f"{number}. {step.name} ("
             + ", ".join(f"{name} {value}" for name, value in step.settings.items()
                         if value not in (None, {}, (), [])) + f"), {step.seconds:.1f} s"
             for number, step in enumerate(studio.steps, 1)]
    return "\n".join(lines) or "nothing done yet"

# %% [markdown]
# And what the tagger is sure of:

# %%
#| export
def tags_in_words(studio: Studio, least: float = 0.5) -> str:
    """A line a sound with what the tagger is sure of, loudest first. Section 17.9."""
    found = {sound: sorted(tags.items(), key=lambda pair: -pair[1])
             for sound, tags in studio.tags.items()}
    return "\n".join(f"{sound}: " + (", ".join(f"{name} {value:.2f}" for name, value in tags
                                                if value >= least) or "nothing for sure")
                     if tags else f"{sound}: silent" for sound, tags in found.items())

# %% [markdown]
# And the app. `act` is the one place where things happen: it disables everything, does the thing, catches what a user can put right, and draws anew.

# %%
#| export
class StudioApp:
    """The studio with buttons, for a running notebook: `StudioApp("my_song.mp3").show()`.

    path: of a song to begin with. folder: where exports go, by default data/studio. models: see
    `Models`. `studio` is the `Studio` behind it, None before a song is open; `error` what went
    wrong last, "" where nothing did. Section 17.9.
    """

    def __init__(self, path: str = "", folder: str | Path | None = None,
                 models: Models | None = None):
        self.models, self.studio = models or Models(), None
        self.error, self.note, self.mixer, self.mixed = "", "", None, None
        self.folder = Path(folder) if folder else data_dir() / "studio"
        self.w = app_widgets(str(path), "")
        self.box = app_layout(self.w)
        for name in ACTIONS:
            self.w[name].on_click(lambda _, name=name: self.act(name))
        self.w["upload"].observe(lambda change: self.act("upload"), "value")
        self.w["of"].observe(lambda change: self.refresh(), "value")
        if path:
            self.act("open")
        self.refresh()

    def act(self, name: str) -> None:
        """Do what a button says; what goes wrong is shown, and changes nothing."""
        for action in ACTIONS:
            self.w[action].disabled = True
        self.error, self.note, finished = "", f"{name} ...", False
        self.w["status"].value, self.w["progress"].outputs = in_html(self.note), ()
        try:
            with progress_of(self.w):
                try:
                    self.note = DOINGS[name](self) or f"{name}: done"
                except (ValueError, OSError) as error:
                    self.error = self.note = str(error)
                finished = True
        finally:
            if not finished:
                self.error = self.note = f"{name}: went wrong in a way that nobody expected"
            self.refresh()

    def refresh(self) -> None:
        """Draw everything from the studio's state."""
        for name, reason in reasons(self).items():
            self.w[name].disabled, self.w[name].tooltip = bool(reason), reason or name
        refresh_choices(self)
        self.w["status"].value = f"<b>{in_html(self.note)}</b>"
        if self.studio:
            self.w["history"].value = in_html(history_in_words(self.studio))
            self.w["tags"].value = in_html(tags_in_words(self.studio))

    def show(self) -> None:
        """Show the app; where a notebook is executed to be stored, a line that says so."""
        show_app(self.box)

# %% [markdown]
# While something is done, bars and whatever nobody expected (a traceback) are shown in a widget of their own; where a notebook is executed with nobody watching, there is none:

# %%
#| export
def progress_of(w: Mapping[str, object]):
    """A context in which bars and tracebacks go to the app's own output."""
    return contextlib.nullcontext() if executing() else w["progress"]

# %% [markdown]
# When is what allowed? Before a song is open nothing is, but opening one:

# %%
#| export
def reasons(app: StudioApp) -> dict[str, str | None]:
    """Why each action makes no sense now, None where it does, for the app's buttons."""
    if app.studio is None:
        return {name: None if name == "open" else "open a song first" for name in ACTIONS}
    state = app.studio.state
    found = {name: why_not(state, name) for name in STEPS}
    found["undo"] = None if app.studio.past else "nothing has been done yet"
    found["redo"] = None if app.studio.undone else "nothing was undone"
    found["export"] = None if app.studio.past else "nothing has been done yet"
    if not app.w["to"].options:
        found["translate"] = f"no weights of {TRANSLATOR} are here; `course train` makes them"
    return {**found, "open": None}


# %% [markdown]
# Choices follow the state: which stems there are, which tags the tagger knows. The mixer is made anew only when the stems are others; its gains are what *Remix* takes.

# %%
#| export
def refresh_choices(app: StudioApp) -> None:
    """Bring the app's choices and its mixer into step with the stems there are."""
    stems = {} if app.studio is None else app.studio.stems
    if list(app.w["of"].options) != (list(stems) or ["song"]):
        app.w["of"].options = list(stems) or ["song"]
    if app.studio is None or app.mixed is stems:
        return
    app.mixed = stems
    from course_lib.notebook.mixer import StemMixer
    app.mixer = StemMixer(stems, app.studio.rate, app.studio.name)
    mix = app.studio.state.mix
    app.mixer.gains = {name: mix.gains.get(name, 0.0) for name in stems}
    app.mixer.mutes = {name: name in mix.mutes for name in stems}
    app.mixer.solos = {name: name in mix.solos for name in stems}
    app.w["mixer"].children = (app.mixer,)

# %% [markdown]
# What the buttons do:

# %%
#| export
def open_in(app: StudioApp, path: Path) -> str:
    """Open a song in the app, in place of the one that was there."""
    app.studio = Studio.open(path, models=app.models)
    tags_ = tags_of(app.models.tagger("tagger_band"))
    app.w["name"].options, app.w["folder"].value = list(tags_), app.studio.name
    app.w["to"].options = instruments_of(app.models)
    seconds = app.studio.song.shape[-1] / app.studio.rate
    return f"{app.studio.name}: {seconds:.1f} s, {app.studio.rate} Hz"

# %% [markdown]
# Which instruments there are to choose from, the translator says:

# %%
#| export
def instruments_of(models: Models) -> list[str]:
    """What the translator can play; nothing where its weights aren't there."""
    try:
        return list(models.translator(TRANSLATOR).instruments)
    except FileNotFoundError:
        return []

# %% [markdown]
# An upload is kept as a file first, so that a session can name it:

# %%
#| export
def upload_in(app: StudioApp) -> str | None:
    """Keep what was uploaded in the app's folder, and open it."""
    found = uploaded(app.w["upload"].value)
    if found is None:
        return None
    app.folder.mkdir(parents=True, exist_ok=True)
    path = app.folder / found[0]
    path.write_bytes(found[1])
    app.w["path"].value = str(path)
    return open_in(app, path)

# %% [markdown]
# The mixer's traits follow the browser; *Remix* reads them:

# %%
#| export
def remix_in(app: StudioApp) -> None:
    """Take what the mixer shows for the mix."""
    m = app.mixer
    app.studio.do("remix", gains={k: round(v, 1) for k, v in m.gains.items() if v},
                  mutes=[k for k, on in m.mutes.items() if on],
                  solos=[k for k, on in m.solos.items() if on])

# %% [markdown]
# Exports go into one folder, whatever name is typed:

# %%
#| export
def export_in(app: StudioApp) -> str:
    """Write everything into the folder that the app names."""
    folder = app.folder / (file_name(app.w["folder"].value))
    done = export(app.studio, folder, app.w["format"].value, overwrite=True)
    return f"{len(done.files) + 1} files in {shown(done.folder)}"

# %% [markdown]
# In a table, as the steps are:

# %%
#| export
DOINGS: dict[str, Callable[[StudioApp], str | None]] = {
    "open": lambda app: open_in(app, Path(app.w["path"].value).expanduser()),
    "upload": upload_in,
    "separate": lambda app: app.studio.do("separate") and None,
    "tag": lambda app: app.studio.do("tag") and None,
    "steer": lambda app: app.studio.do("steer", name=app.w["name"].value, of=app.w["of"].value,
                                       steps=app.w["steps"].value) and None,
    "translate": lambda app: app.studio.do("translate", stem=app.w["of"].value,
                                           to=app.w["to"].value) and None,
    "remix": remix_in, "export": export_in,
    "undo": lambda app: f"took back: {app.studio.undo().name}",
    "redo": lambda app: f"did again: {app.studio.redo().name}"}

# %% [markdown]
# And the last line of `show`:

# %%
#| export
def show_app(box) -> None:
    """Show widgets, or a line in their place where nobody watches."""
    from IPython.display import display

    note = "Run this cell to get the studio."
    display({"text/markdown": f"*{note}*", "text/plain": note}, raw=True) if executing() \
        else display(box)

# %% [markdown]
# Here it is. Run the cell, and work with a song of yours: type its path, or upload it.

# %%
app = StudioApp()
app.show()

# %% [markdown]
# Buttons can be pressed by a program as well. That is how one tests an app without a browser (the course's tests also press them in one):

# %%
with tempfile.TemporaryDirectory() as folder:
    write_sound(Path(folder) / "song.wav", track.mixture[:, :track.rate], track.rate)
    app = StudioApp(Path(folder) / "song.wav", folder, studio.models)
    enabled = lambda: [name for name in ACTIONS if not app.w[name].disabled]
    print("opened:   ", enabled())
    app.w["separate"].click()
    print("separated:", enabled())
    app.mixer.mutes = {**app.mixer.mutes, "vocals": True}
    app.w["remix"].click()
    app.w["export"].click()
    kept = sorted(path.name for path in (Path(folder) / "song").rglob("*"))
print(kept)
assert "separate" not in enabled() and "remix.wav" in kept and app.error == ""

# %% [markdown]
# ## 17.10 How good is the chain?
#
# Test songs of the band, 20 s each, and every number beside its bounds. First the links and the chain: SDR of the stems, and SDR of remixes made from them, against the remix of the true stems.

# %%
stems_table = measured_table("17_studio/stems")
count = stems_table["song"].nunique()
of = lambda method, column: stems_table.loc[stems_table["method"] == method, column].to_numpy()
methods = [m for m in (experiment.IDEAL, *experiment.SEPARATORS, experiment.QUARTER)
           if len(of(m, "drums"))]
show_table([[m, *(mean_interval(of(m, stem)) for stem in STEMS)] for m in methods],
           ["method", *STEMS], digits=1,
           caption=f"SDR of stems in dB, {count} songs, 95% intervals over songs.")

# %% [markdown]
# And what is made of them. The last row leaves the song as it is: whoever asks for a change of 3 dB and gets none is wrong, but not by much.

# %%
mixes = list(experiment.MIXES)
rows = [[m, *(mean_interval(of(m, name)) for name in mixes)] for m in methods[:-1]]
rows.append(["the song as it is", *(mean_interval(of(methods[0], f"{name}, song"))
                                    for name in mixes)])
show_table(rows, ["method", *mixes], digits=1,
           caption=f"SDR of remixes in dB against those of the true stems, {count} songs.")

# %% [markdown]
# The columns differ by many decibels, and the separator is the same in all of them. (17.5) says why: with one gain changed, remix and song err by $(a_v - 1)\, e_v$ and $(a_v - 1)\, s_v^{\ast}$. Their ratio is free of the gain, so for *every* change of one stem
#
# $$ \mathrm{SDR}(\text{remix}) - \mathrm{SDR}(\text{song as it is}) = \mathrm{SDR}(\text{that stem}). \tag{17.6} $$
#
# A small change sounds clean not because the separator works better on it, but because there was little to do.

# %%
voices = [name for name in mixes if "voice" in name]
model = experiment.SEPARATORS[0]
gaps = [of(model, name) - of(model, f"{name}, song") - of(model, "vocals") for name in voices]
print("largest gap in (17.6):", f"{max(np.abs(gap).max() for gap in gaps):.1f} dB")
assert max(np.abs(gap).max() for gap in gaps) < 0.05

# %% [markdown]
# Next, the tagger. A chunk's tag may be asked of the song; of the stem in which the instrument must be (guitar: *other*); of the loudest answer of all four; and, as a bound, of the *true* stem. Half of the chunks have sources left out by chance, or there would be hardly a chunk without drums. The score of a song is the area under the ROC curve over all its chunks and tags.

# %%
areas = measured_table("17_studio/areas").pivot(index="song", columns="way", values="roc_auc")
ways = [experiment.FROM_SONG, experiment.OWN, experiment.LOUDEST, experiment.TRUE]
show_table([[way, mean_interval(areas[way].to_numpy()),
             paired_interval(areas[way], areas[experiment.FROM_SONG])
             if way != experiment.FROM_SONG else None] for way in ways],
           ["asked of", "ROC-AUC", "above the song's"], digits=3,
           caption=f"Tagging through stems, {len(areas)} songs, 95% intervals over songs, paired.")

# %% [markdown]
# Tag by tag, over all chunks of all songs:

# %%
from course_lib.experiments.taggers import TAGS
from course_lib.taggers import roc_auc
chunks = measured_table("17_studio/chunks")
def area_by_tag(way):
    rows = chunks[chunks["way"] == way]
    return [float(roc_auc(torch.tensor(rows[f"{name} sounds"].to_numpy()),
                          torch.tensor(rows[name].to_numpy()))) for name in TAGS]

by_way = {way: area_by_tag(way) for way in ways}
often = {name: int(chunks[f"{name} sounds"].sum()) // len(ways) for name in TAGS}
show_table([[name, often[name], *(by_way[way][n] for way in ways)]
            for n, name in enumerate(TAGS)], ["tag", "chunks with it", *ways], digits=2,
           caption=f"ROC-AUC of every tag over {len(chunks) // len(ways)} chunks.")

# %% [markdown]
# Two forces pull against each other. A stem holds less of what isn't asked for, so a weak instrument is easier to hear in it. But the tagger has learned on clean sounds, and a separated stem is full of what it never heard: leaks of the others, holes where the mask was shut. Which force wins, the paired column of the first table says, and the true stems show how much of it is the separator's fault. `LOUDEST` has a weakness of its own: of four answers the largest is taken, so every leak gets a chance.

# %%
gain = {way: (areas[way] - areas[experiment.FROM_SONG]).to_numpy() for way in ways[1:]}
for way in ways[1:]:
    mean, low, high = mean_interval(gain[way])
    verdict = "ahead of" if low > 0 else "behind" if high < 0 else "not told apart from"
    print(f"{way}: {verdict} the song")
assert set(gain) == {experiment.OWN, experiment.LOUDEST, experiment.TRUE}

# %% [markdown]
# Third, the steering of 17.4. Is a guitar easier to find in *other* than in the whole song? What is compared is the SDR above that of the song; the middle column says what one has before any steering.

# %%
steered = measured_table("17_studio/steered")
at = lambda start, column: steered.loc[steered["start"] == start, column].to_numpy()
starts = list(dict.fromkeys(steered["start"]))
show_table([[start, mean_interval(at(start, "start_sdri")), mean_interval(at(start, "sdri")),
             paired_interval(at(start, "sdri"), at(start, "start_sdri"))] for start in starts],
           ["steered in", "before steering", "after", "what steering adds"], digits=1,
           caption=f"SDR of the guitar above that of the song in dB, {len(at(starts[0], 'sdri'))} "
                   "songs of 3 s, 10 steps.")
after_separation = at("separated other", "sdri") - at("song", "sdri")
added = at("separated other", "sdri") - at("separated other", "start_sdri")
assert at("separated other", "start_sdri").mean() > 3 * added.mean()

# %% [markdown]
# Separation does most of it; what ten steps of steering add is small beside that, and chapter 14 has the long runs. So the order of the chain matters: first the network that knows four stems, then the search that costs a gradient a step.
#
# Fourth, the translation of 17.5. Of each song four seconds in which one voice sings alone over the band: the voice is separated and played by a flute and by a cello. What is right is known, for the band can play the voice's notes on these instruments. Two of chapter 16's measures: agreement of **chroma**, and the share of frames with the right **pitch**. Beside it the *true* voice, translated (what does the separation cost?), both voices left as they are, and another song's notes on the right instrument (what can one have for nothing?).

# %%
tunes = measured_table("17_studio/translated").fillna({"start": ""})
def melody_score(measure, way, start="", separator=experiment.SEPARATORS[0]):
    """A score of every song, mean of both targets: (song,)."""
    rows = tunes[(tunes.method == separator) & (tunes.way == way) & (tunes.start == start)]
    return rows.groupby("song")[measure].mean().to_numpy()

singers = ["true voice", "separated voice"]
sung = [(way, start) for way in (experiment.PLAYED, experiment.LEFT) for start in singers]
show_table([[f"{start}, {way}", *(mean_interval(melody_score(m, way, start))
                                  for m in ("chroma", "pitch"))] for way, start in sung]
           + [[experiment.ANOTHER, *(mean_interval(melody_score(m, experiment.ANOTHER))
                                     for m in ("chroma", "pitch"))]],
           ["sound", "chroma", "right pitch"], digits=2,
           caption=f"Against the voice's notes on the target, {tunes.song.nunique()} songs, mean "
                   f"of {' and '.join(experiment.TARGETS)}, 95% intervals over songs; separated by "
                   f"{experiment.SEPARATORS[0]}.")

# %% [markdown]
# What each link costs, song by song: separating before translating, and translating a voice that is clean.

# %%
def cost(measure, better, worse, separator=experiment.SEPARATORS[0]):
    """What is lost from one (way, start) to another, (song,)."""
    return melody_score(measure, *better, separator) - melody_score(measure, *worse, separator)

clean, parted = (experiment.PLAYED, singers[0]), (experiment.PLAYED, singers[1])
as_sung = (experiment.LEFT, singers[0])
show_table([[f"separating, by {separator}", *(mean_interval(cost(m, clean, parted, separator))
                                              for m in ("chroma", "pitch"))]
            for separator in experiment.SEPARATORS]
           + [["translating the true voice", *(mean_interval(cost(m, as_sung, clean))
                                               for m in ("chroma", "pitch"))]],
           ["what it costs", "chroma", "right pitch"], digits=2,
           caption="Differences, paired over songs, 95% intervals; above 0: it costs something.")

# %% [markdown]
# The translator is the weak link, not the separator. It loses most of the pitches even of a true voice; what separating costs beside that is small, and with the first separator it doesn't show at all once a voice is translated, though the two voices do differ as long as they are left as they are. Still, a part of the melody comes through: both translations are far ahead of another song's notes. Chapter 16's network learned from four instruments and never from a voice, which glides from note to note and changes its colour with every vowel, and it knows the notes from G3 to C5, which low voices leave. (The chapter's own test melodies, of its own kind of sounds, keep about three quarters of their pitches.)

# %%
apart = lambda gap: mean_interval(gap)[1] > 0 or mean_interval(gap)[2] < 0
for m in ("chroma", "pitch"):
    assert not apart(cost(m, clean, parted)) and apart(cost(m, as_sung, clean))
    assert max(cost(m, clean, parted, one).mean() for one in experiment.SEPARATORS
               ) < 0.2 * cost(m, as_sung, clean).mean()
    assert apart(cost(m, parted, (experiment.ANOTHER, ""))), "a part of the melody comes through"
assert apart(cost("pitch", as_sung, (experiment.LEFT, singers[1])))
own_kind = measured_table("16_music_translation/translations")
own_kind = own_kind[(own_kind.method == "translation, cool")].pitch.mean()
low_voice = melody_score("pitch", *clean).min()
print(f"pitches kept: {own_kind:.2f} of chapter 16's melodies; of the lowest-scored voice "
      f"{low_voice:.2f}")
assert 0.65 < own_kind < 0.8 and low_voice < 0.05

# %% [markdown]
# Last, time. On one thread, processor seconds per second of song:

# %%
seconds = measured_table("17_studio/seconds")
steps = ["separate", "tag", "steer", "remix"]
show_table([[step, mean_interval(seconds[step].to_numpy())] for step in steps],
           ["step", "seconds per second"], digits=3,
           caption=f"Processor time of each step, one thread, {len(seconds)} songs; steer: ten "
                   "steps of one stem.")
assert seconds["steer"].mean() > 5 * seconds["separate"].mean()

# %% [markdown]
# ## 17.11 A song that nobody prepared
#
# The band is our own; a studio is for other people's songs. Here are a few seconds of a real recording, through the same steps. There are no true stems, so there is no SDR: listen, and read what the tagger says.

# %%
audio, its_rate = recording("fishin", start=20.0, seconds=4.0)
real = Studio(audio, its_rate, "Let's Go Fishin'", studio.models)
real.do("separate")
real.do("tag")
print("\n".join(line for line in tags_in_words(real, 0.7).splitlines()))
listen(torch.cat([audio, real.stems["vocals"], audio - real.stems["vocals"]], 1), its_rate,
       "the recording; its voice; everything else")

# %% [markdown]
# What you hear says more than any table of this chapter about where the course's small networks stand: they learned from a band of sampled instruments and have never met a real room or a real throat. Listen for what of the guitar is left in the voice, and what of the voice in the rest. Put `model="htdemucs"` into the step, an official release (chapter 9), and compare. In numbers, we can say how loud each stem is, and that nothing got lost:

# %%
level = lambda x: 20 * math.log10(max(rms(x), 1e-9))
show_table([[name, level(x) - level(audio)] for name, x in real.stems.items()],
           ["stem", "level, dB"], digits=0, caption="Levels of the stems against the recording's.")
assert torch.allclose(sum(real.stems.values()), audio, atol=1e-5)

# %% [markdown]
# ## 17.12 The final project
#
# The studio is also what a class ends with. [The brief](assignments/17_project.md) asks for one question about music that the course's tools can answer, an answer with an interval, something to listen to, and an honest account of what failed. Groups hand in a folder:
#
# ```text
# NAME/
#   song.wav            a song that you may use (or .flac, .ogg, .mp3), 10 s to 10 min
#   export/             what the studio exported: session.json, remix, stems
#   scores.csv          measure, method, song, value: two methods or more on the same six songs or more
#   report.md           question, method, result, listening, failures, sources
# ```
#
# Part of the marking is a machine's: `course project SUBMISSIONS -o GRADES` checks that the folder is whole, that the files are those of the session, and, by replaying it, that anyone can make them again. The rest is judged by people, with a rubric of criteria and levels. Both are here:

# %%
from course_lib.classroom.project import CHECKS, read_rubric
show_table([[check.name, check.points, check.asks] for check in CHECKS],
           ["checked by the machine", "points", "asks for"])
show_table([[row.criterion, row.points, row.levels[2]] for row in read_rubric()],
           ["judged by people", "points", "level 'good'"])
total = sum(check.points for check in CHECKS) + sum(row.points for row in read_rubric())
print(f"{total} points")
assert total == 60

# %% [markdown]
# Why check a session, and not only listen? Because "it sounded good at home" is no result. Whoever changes one sample of a stem by hand, or forgets to hand in the song, fails the replay, and should.

# %%
from course_lib.classroom.project import check_project
with tempfile.TemporaryDirectory() as folder:
    group = Path(folder) / "group 1"
    write_sound(group / "song.wav", track.mixture[:, :2 * track.rate], track.rate)
    mine = Studio.open(group / "song.wav", models=studio.models)
    mine.do("separate")
    mine.do("remix", gains={"vocals": 3.0})
    export(mine, group / "export")
    sound = group / "export" / "stems" / "vocals.wav"
    sound.unlink()
    write_sound(sound, 0.5 * mine.stems["vocals"], track.rate)       # "mended" by hand
    found = {one.name: (one.got, one.why) for one in check_project(group, studio.models)}
for name in ("session", "files", "replay"):
    print(f"{name}: {found[name][0]} points. {found[name][1]}".strip())
assert found["session"][0] > 0 and found["files"][0] == found["replay"][0] == 0

# %% [markdown]
# ## 17.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `stems_of` | stems at any rate that sum to the song | 17.2 |
# | `tags_of_sound` | tags, and none of silence | 17.3 |
# | `split_by_mask`, `split_by_tag` | a stem in two, by TagBox | 17.4 |
# | `translated`, `TrainedTranslator`, `find_translator` | another instrument, at the stem's level | 17.5 |
# | `Mix`, `remixed` | gains, mute, solo, pitch, tempo | 17.6 |
# | `State`, `Step`, `STEPS`, `Models`, `why_not`, `History`, `Studio` | steps that can be taken back | 17.7 |
# | `export`, `read_session`, `replay`, `deviation` | whole files, made again | 17.8 |
# | `StudioApp` | the app | 17.9 |
#
# All of it is in `course_lib.studio`. Without a notebook:
#
# ```sh
# uv run course studio my_song.mp3                                      # opens the app on it
# uv run course studio my_song.mp3 -o out --gain vocals=6 --mute drums  # does it, and writes out/my_song
# uv run course studio my_song.mp3 -o again --session out/my_song       # the same again
# ```
#
# ## 17.14 Claims

# %%
SIMPSON, YANG = "Simpson, Roma and Plumbley 2015", "Yang et al. 2022"
small_, large_ = of(model, "voice +3 dB"), of(model, "voice +6 dB")
claims = [
    Claim("A small change of the voice's gain distorts the remix less than a larger one", SIMPSON,
          "17.10", "order only", difference_in_words(small_ - large_), same_trend(small_ - large_)),
    Claim("And less than the voice's stem is distorted", SIMPSON, "17.10", "order only",
          difference_in_words(small_ - of(model, "vocals")),
          same_trend(small_ - of(model, "vocals"))),
    Claim("Separating, then remixing beats leaving the song as it is, at +3 dB", "this chapter",
          "17.10", None, difference_in_words(small_ - of(model, "voice +3 dB, song")),
          same_trend(small_ - of(model, "voice +3 dB, song"))),
    Claim("A network that learned to remix beats separating and remixing", YANG, "17.10",
          "order only", "not trained here", NEEDS_REAL_DATA),
    Claim("With one gain changed, the gain in SDR is the stem's SDR", "this chapter", "17.10",
          None, f"off by at most {max(np.abs(gap).max() for gap in gaps):.1f} dB",
          reproduced(np.concatenate(gaps), 0.0, 0.05))]

# %% [markdown]
# And about the chain:

# %%
points = lambda gap: difference_in_words(gap, "of the area", 3)
claims += [
    Claim("A tagger asked of separated stems beats the tagger asked of the song", "this chapter",
          "17.10", None, points(gain[experiment.OWN]), same_trend(gain[experiment.OWN])),
    Claim("Of true stems it does", "this chapter", "17.10", None, points(gain[experiment.TRUE]),
          same_trend(gain[experiment.TRUE])),
    Claim("A voice loses some of its melody by being separated before it is translated",
          "this chapter", "17.10", None,
          difference_in_words(cost("pitch", clean, parted), "of the pitches", 2),
          same_trend(cost("pitch", clean, parted))),
    Claim("Steering after separation finds more guitar than steering the song", "this chapter",
          "17.10", None, difference_in_words(after_separation), same_trend(after_separation))]
show_claims(claims)

# %% [markdown]
# All of this rests on one separator and one tagger, trained once each: it says what *these* networks do. Yang et al. train one network for both steps, and report that it helps most where changes are small; that is a training of its own, which we have not made. By (17.6) doing nothing is the better remix only where a stem's SDR is below 0 dB.
#
# ## 17.15 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests.
#
# **1. By hand.** A separated voice has an SDR of 5 dB, and the true voice is as loud as all the rest together, which is independent of it. What SDR has a remix with the voice 6 dB up, and what the song left as it is? Check with (17.6).
#
# <details><summary>Answer</summary>
#
# With $a = 2$ the remix has the energy $4 + 1 = 5$ (in units of the voice's) and the error $(a - 1)^2 \cdot 10^{-0.5} = 0.316$: 12.0 dB. The song as it is errs by 1: 7.0 dB, 5 dB less.
#
# ```python
# a = 10 ** (6.0206 / 20)
# made = 10 * math.log10((a * a + 1) / ((a - 1) ** 2 * 10 ** -0.5))
# left = 10 * math.log10((a * a + 1) / (a - 1) ** 2)
# assert abs(made - 12.0) < 0.05 and abs(made - left - 5) < 1e-9
# ```
# </details>
#
# **2. What does sharing cost?** (17.1) adds a part of the residual to every stem. Show that it makes the summed squared error of all stems smaller, or leaves it, whatever the stems are. (Chapter 9 has the proof.)
#
# <details><summary>Answer</summary>
#
# The errors' mean is taken off each: the sum of squares falls by $J$ times the square of the mean.
#
# ```python
# true, found = torch.randn(4, 2, 500), torch.randn(4, 2, 500)
# shared = shared_residual(found, true.sum(0))
# before, after = ((x - true).square().sum() for x in (found, shared))
# mean = (found - true).mean(0)
# assert torch.allclose(before - after, 4 * mean.square().sum(), rtol=1e-3) and after <= before
# ```
# </details>
#
# **3. Solo and mute.** A stem is soloed and muted. What is heard, in our studio and in the mixer? Is there another sensible rule?
#
# <details><summary>Answer</summary>
#
# Nothing: a stem is heard if it isn't muted *and*, where any is soloed, is soloed. Some desks let solo win over mute; then a muted stem could be checked without unmuting it.
#
# ```python
# mix = Mix(mutes=("vocals",), solos=("vocals",))
# assert [mix.factor(name) for name in ("drums", "vocals")] == [0.0, 0.0]
# ```
# </details>
#
# **4. A session from a stranger.** Somebody sends you a session with the step `{"name": "__import__", ...}`, another with a stem that lies in `../../secrets.wav`. What happens?
#
# <details><summary>Answer</summary>
#
# Both are refused before anything is done: a step must be in the table, a file's name a plain one.
#
# ```python
# song = dict(sha256="0", rate=1, frames=1, channels=1, start=0.0, seconds=None)
# for bad in (dict(steps=[dict(name="__import__", settings={})], files={}),
#             dict(steps=[], files={"../../secrets.wav": "0"})):
#     try:
#         check_session(dict(format=FORMAT, song=song, **bad))
#         raise AssertionError("taken")
#     except ValueError as error:
#         assert "expected" in str(error)
# ```
# </details>
#
# **5. Undo for ever.** Every state keeps its stems. How many bytes does a song of four minutes, stereo at 44.1 kHz, take after separating, three steerings and ten remixes? Which steps cost nothing?
#
# <details><summary>Answer</summary>
#
# A sound is 85 MB. The song, four stems, and two new ones for each steering: 11 sounds, 0.93 GB. Tags and remixes share the stems: nothing.
#
# ```python
# sound = 4 * 2 * 44_100 * 240
# assert round(11 * sound / 1e9, 2) == 0.93
# x = torch.zeros(1, 5000)
# studio = Studio(x, 8000)
# studio.push(Step("separate", {}, 0.0), State({"a": x, "b": x}))
# studio.do("remix", gains={"a": 3.0})
# assert studio.past[0][1].stems is studio.past[1][1].stems
# ```
# </details>
#
# **6. Open.** The mask of 17.4 gives all treble above 11 kHz to the rest. Continue the mask upwards with the mean of its highest bins, as chapter 4 does for Open-Unmix (section 4.9), and measure on six songs whether the guitar's SDR rises.
#
# ## 17.16 Sources
#
# - A. Simpson, G. Roma and M. Plumbley, *Deep remix: remixing musical mixtures using a convolutional deep neural network*, 2015, arXiv 1505.00289.
# - H. Yang, S. Firodiya, N. Bryan and M. Kim, *Don't separate, learn to remix: end-to-end neural remixing with joint optimization*, ICASSP 2022, arXiv 2107.13634.
# - E. Manilow et al., *Source separation by steering pretrained music models*, ICASSP 2022 (TagBox); N. Mor et al., *A universal music translation network*, ICLR 2019.
# - J. Hughes, *Why functional programming matters*, The Computer Journal 32, 1989: programs from values that don't change.
#
# All code here is the course's own. The recording:

# %%
from IPython.display import Markdown, display
display(Markdown(f"- {attribution('fishin')}"))
