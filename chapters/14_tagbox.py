# %% [markdown]
# # Chapter 14 · TagBox, separation by steering
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/14_tagbox.ipynb)
#
# Two networks that know nothing about separation: chapter 11's codec, which turns codes into music, and chapter 13's tagger, which says what it hears. TagBox puts
# one behind the other and asks: *what would have to change in the codes so that the tagger hears a guitar, and only a guitar?* No network is trained. For each song anew,
# gradients flow from the tagger's answer back into the codes, and what comes out is used as a mask. It separates any instrument that the tagger has a word for. How well? That is what this chapter measures.
#
# **You will be able to**
# - optimise an *input* instead of weights, through a decoder, a mask and a tagger,
# - build the steering loop from nothing: one song in a plain loop, then many songs and taggers at once,
# - say which of its two outputs is the source, and why the answer isn't obvious,
# - find out which of its many choices matter (sizes, steps, taggers, codes), and with which metric,
# - place it fairly among methods that learn and methods that don't, with the bounds that make fools of scores.
#
# **You need** chapter 11 (codec, codes), chapter 13 (taggers), chapter 3 (scores) and masks (chapter 1).
#
# **Time** <!-- minutes 14_tagbox -->1 minute on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about two hours and a half.

# %% [markdown]
# ## 14.0 Set up
#
# The first lines install the course where it is missing, on Colab. The tables of later sections came out of `course experiment tagbox`, and come with the course.

# %%
#| default_exp tagbox
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("14_tagbox", cpu=dict(seconds=3.0, steps=40, real_steps=12),
          gpu=dict(seconds=10.0, steps=100, real_steps=100), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/tagbox.py`.

# %%
#| export
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.data.resampling import resample
from course_lib.jukebox import to_hops
from course_lib.progress import progress
from course_lib.spectral import hann_window, istft, stft
from course_lib.taggers import tag

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import open_tracks
from course_lib.data.recordings import attribution, recording
from course_lib.notebook import Diagram, listen, paired_interval, show, show_table
from course_lib.notebook.claims import (NEEDS_REAL_DATA, Claim, difference_in_words, reproduced,
                                        same_trend, show_claims)
from course_lib.results import measured, measured_card
from course_lib.training import load_trained

# %% [markdown]
# ## 14.1 Turning a question around
#
# Training asks: which *weights* make the output right for these inputs? But a gradient exists for everything that a number depends on, and an input is a number, too. Keep the weights, and ask which *input* makes the output right.
#
# The smallest example: a "tagger" of one line that likes a sample when it is high, $p = \sigma(3x - 2)$, and a sample of 0, which it doesn't like. Minimise $-\log p$ over $x$:

# %%
x = torch.tensor(0.0, requires_grad=True)
optimiser = torch.optim.Adam([x], lr=0.2)
for step in range(21):
    p = torch.sigmoid(3 * x - 2)
    if step % 10 == 0:
        print(f"step {step:2}: x {x.item():.1f}, p {p.item():.1f}")
    optimiser.zero_grad()
    (-p.log()).backward()
    optimiser.step()
assert p > 0.9 and x > 1

# %% [markdown]
# Now let $x$ be the samples of a song and $p$ the tagger's "guitar". This works too well. Networks have blind spots: there is always a faint noise that makes a tagger shout "guitar" and in which nobody hears one. (Such inputs are called *adversarial examples*.)
#
# TagBox forbids them by two fences:
# 1. It doesn't change samples, but the *codes of a codec*. Whatever the codes are, the decoder makes sound that resembles music, for it has never made anything else.
# 2. The result isn't taken as it is, but as a **mask** on the mixture. A mask can only take away; it can't invent.
#
# The whole loop for one second of sound at 22,050 Hz, dashed the way back:

# %%
d = Diagram()
mix = d.block("mixture x", "22050", kind="data")
enc = d.block("encoder", "32 x 2757", after=mix, kind="frozen")
emb = d.block("embedding z", "32 x 2757", after=enc, kind="trained")
code = d.block("nearest\ncodes", "32 x 2757", after=emb, kind="frozen")
dec = d.block("decoder", "J: 22050", after=code, kind="frozen")
mask = d.block("mask on x", "22050", after=dec, place="below")
rate16 = d.block("resample", "16000", after=mask, place="left")
tagger = d.block("tagger", "50", after=rate16, kind="frozen", place="left")
loss = d.block("cross\nentropy", "1", after=tagger, kind="loss", place="left")
d.arrow(loss, emb, "gradient", route="straight", dashed=True)
show(d.draw(), "TagBox: only the embedding changes.", d.in_words())

# %% [markdown]
# ## 14.2 A mask from a song that isn't there
#
# The decoder gives a signal $J$ (for *Jukebox*) that should sound like the guitar of the song. Point by point of the spectrogram, its level says how much of the mixture $X$ may stay:
#
# $$ M = \frac{|J|}{\max(|J|, |X|) + \varepsilon}, \qquad \hat{S} = M X, \tag{14.1} $$
#
# with $\varepsilon = 10^{-8}$. If $J$ is softer than the mixture, then $|\hat S| = |J|$, up to $\varepsilon$: the level is the decoder's, the phase is the mixture's. Where $J$ is louder, all of the mixture stays. By hand, for three points:

# %%
J, X = torch.tensor([0.5, 2.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
by_hand = [float(j) / (max(float(j), float(x)) + 1e-8) for j, x in zip(J, X)]
print(by_hand)
assert by_hand[0] < 0.51 and by_hand[1] > 0.99 and by_hand[2] == 0

# %%
#| export
def spectral_mask(J: Tensor, X: Tensor, eps: float = 1e-8) -> Tensor:
    """|J| / (max(|J|, |X|) + eps), real or complex spectra of one shape (eq. 14.1).

    Where J is as loud as X or louder it is 1, where J is silent 0. Source: Manilow et al. 2022;
    section 14.2.
    """
    J, X = J.abs(), X.abs()
    return J / (torch.maximum(J, X) + eps)

# %% [markdown]
# **Quick question.** Along which points does the loss have no gradient?
#
# <details><summary>Answer</summary>Where $|J| > |X|$: the mask is 1 there, and stays 1 if $J$ moves a little. What is fully open can't be closed by one step, unless a neighbouring sample of $J$, which touches many points at once, is pulled down for another point's sake.</details>

# %%
j = torch.tensor([0.5, 2.0], requires_grad=True)
spectral_mask(j, torch.ones(2)).sum().backward()
print(j.grad.tolist())
assert abs(float(j.grad[0]) - 1) < 1e-6 and abs(float(j.grad[1])) < 1e-6
assert torch.allclose(spectral_mask(J, X), torch.tensor(by_hand))

# %% [markdown]
# TagBox takes Hann's *square root* as window and steps by half a frame: multiplied twice, before and after, it is Hann's window itself, whose halves add up to 1.

# %%
#| export
def root_hann(n_fft: int, like: Tensor) -> Tensor:
    """The square root of the periodic Hann window, (n_fft,), of a tensor's type and device."""
    return hann_window(n_fft, dtype=like.dtype, device=like.device).sqrt()


def masked_audio(x: Tensor, steered: Tensor, n_fft: int) -> Tensor:
    """What is left of x where the steered signal is softer (eq. 14.1): x's phase, its level at most.

    x, steered: (..., time), of one shape, longer than n_fft/2. n_fft: of the STFT, hop n_fft/2,
    square-root Hann. Returns (..., time). ValueError for two shapes. Source: Manilow et al. 2022;
    section 14.2.
    """
    check_audio(x=x, steered=steered)
    if x.shape != steered.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}, steered {tuple(steered.shape)}; expected "
                         "the same")
    window = root_hann(n_fft, x)
    X, J = (stft(signal, n_fft, n_fft // 2, window) for signal in (x, steered))
    return istft(spectral_mask(J, X) * X, n_fft, n_fft // 2, x.shape[-1], window)

# %% [markdown]
# Four checks. With the song itself as $J$ nothing is lost; with silence nothing is left; and however loud a noise we put in, no point gets louder than it was. In the published code the phase is taken out and put back by an exponential; multiplying is the same.

# %%
noise = torch.randn(2, 4000, generator=P.generator)
song = torch.randn(2, 4000, generator=P.generator)
window = root_hann(512, song)
X, J = (stft(signal, 512, 256, window) for signal in (song, noise))
with_phase = istft(spectral_mask(J, X) * X.abs() * torch.exp(1j * X.angle()), 512, 256, 4000,
                   window)
assert torch.allclose(masked_audio(song, song, 512), song, atol=1e-4)
assert masked_audio(song, torch.zeros_like(song), 512).abs().max() < 1e-6
assert bool(((spectral_mask(100 * J, X) * X).abs() <= X.abs() * 1.0001).all())
assert torch.allclose(masked_audio(song, noise, 512), with_phase, atol=1e-4)

# %% [markdown]
# ## 14.3 Which words stand for an instrument
#
# A tagger has fifty words. For vocals MTAT has fourteen of them, for drums three; the band's tagger has one a kind. The target is a vector of ones and zeros, *one for each word of the instrument, zero for all others*.

# %%
#| export
WORDS: Mapping[str, tuple[str, ...]] = {
    "vocals": ("vocals", "vocal", "female", "male", "singing", "woman", "male vocal", "man",
               "choir", "voice", "male voice", "female vocal", "female voice", "choral"),
    "drums": ("drums", "beat", "beats", "drummachine"),
    "guitar": ("guitar", "acousticguitar", "electricguitar"),
    "piano": ("piano", "electricpiano"),
    "strings": ("strings", "violin", "cello"),
    "winds": ("winds", "flute"),
    "synth": ("synth", "synthesizer")}


def tags_of(tagger: nn.Module) -> tuple[str, ...]:
    """The names of a tagger's outputs: its `tags`, or the labels that a trained model comes with.

    ValueError where neither is known. Section 14.3.
    """
    facts = getattr(tagger, "facts", None)
    names = getattr(tagger, "tags", None) or getattr(facts, "labels", None)
    if not names:
        raise ValueError(f"tags of {type(tagger).__name__} are not known; set tagger.tags to the "
                         "names of its outputs, in order")
    return tuple(names)

# %% [markdown]
# Jamendo's tags carry their kind (`instrument---guitar`); of those we compare what comes behind the dashes.

# %%
#| export
def words_for(name: str, tags: Sequence[str]) -> list[str]:
    """Which of a tagger's tags stand for an instrument, or for any other word; as in the list.

    name: a key of WORDS, or any tag, in full or without its kind. ValueError where there are none.
    Section 14.3.
    """
    wanted = {name, *WORDS.get(name, ())}
    found = [one for one in tags if one in wanted or one.rpartition("---")[2] in wanted]
    if not found:
        raise ValueError(f"no tag stands for {name!r}; expected {', '.join(WORDS)}, or one of "
                         f"{', '.join(tags)}")
    return found


def target_of(name: str, tags: Sequence[str]) -> Tensor:
    """What a tagger should say, (tag,): 1 for the words of an instrument, 0 for all others."""
    words = words_for(name, tags)
    return torch.tensor([float(one in words) for one in tags])

# %%
from course_lib.taggers import JAMENDO_TAGS, MTAT_TAGS, load_tagger
for name in ("vocals", "drums", "guitar", "bass"):
    in_jamendo = ", ".join(words_for(name, JAMENDO_TAGS)).replace("instrument---", "")
    in_mtat = [word for word in MTAT_TAGS if word in (name, *WORDS.get(name, ()))]
    print(f"{name}: MTAT {len(in_mtat)} words; Jamendo {in_jamendo}")
assert len(words_for("vocals", MTAT_TAGS)) == 14 and len(words_for("drums", MTAT_TAGS)) == 3
assert target_of("harp", MTAT_TAGS).sum() == 1 and "bass" not in MTAT_TAGS

# %% [markdown]
# MTAT has no word for the bass: its taggers can't be asked for one. That is TagBox's limit and its charm: it takes apart whatever has a word, a harp, a sitar or a choir, and nothing else.
#
# ## 14.4 What the tagger should say
#
# Binary cross entropy of chapter 13 between what the tagger says, $p$, and the target $y$, with $I$ tags:
#
# $$ \ell(p, y) = -\frac{1}{I} \sum_{i=1}^{I} \bigl[ y_i \log p_i + (1 - y_i) \log (1 - p_i) \bigr],
#    \qquad
#    \mathcal{L} = \frac{1}{T F} \sum_{t=1}^{T} \sum_{f=1}^{F} \ell\bigl( p_t(\hat s_f),\, y_t \bigr). \tag{14.2} $$
#
# $\hat s_f$ is the masked signal with the $f$-th of $F$ FFT sizes, $p_t$ the $t$-th of $T$ taggers. The loss is the *average* of all of them, so that a second tagger doesn't change the step size.
#
# What does it pull at? For the tagger's log-odds $a_i$, with $p_i = \sigma(a_i)$, the gradient is simply
#
# $$ \frac{\partial \ell}{\partial a_i} = \frac{p_i - y_i}{I}. \tag{14.3} $$
#
# So a wanted tag that is already likely pulls hardly at all. In a song full of guitars, "guitar" is satisfied from the start, and the whole pull comes from the *others*: drums, voice, fast, loud. The mask learns to take away what has another word.

# %%
a = torch.tensor([3.0, 2.0, -4.0], requires_grad=True)               # guitar, drums, harp
y = torch.tensor([1.0, 0.0, 0.0])
F.binary_cross_entropy(a.sigmoid(), y).backward()
print("pull of guitar, drums, harp:", [round(one.item(), 2) for one in a.grad])
assert torch.allclose(a.grad, (a.detach().sigmoid() - y) / 3, atol=1e-6)
assert a.grad[1].abs() > 10 * a.grad[0].abs()

# %% [markdown]
# A tagger of the course's takes audio of any length by `tag` (section 13.7): chunks, the last one completed. The published code fills it with zeros, and lets it count fully. Ten seconds for FCN, which takes 29, are nineteen seconds of silence, and the tagger's answer is about those, too. Our default is the published one; `fill="repeat"` plays the excerpt again.

# %%
#| export
def tagging_losses(taggers: Sequence[nn.Module], targets: Sequence[Tensor], signals: Tensor,
                   rate: int, fill: str = "zeros") -> Tensor:
    """Binary cross entropy of every tagger for every signal: (size, batch, time) at `rate` to
    (batch, tagger, size), each the mean over tags (eq. 14.2). All signals go through a tagger at
    once. targets: a (tag,) for each tagger. Section 14.4."""
    losses = []
    for tagger, target in zip(taggers, targets):
        heard = resample(signals.flatten(0, 1), rate, tagger_rate(tagger))
        given = tag(tagger, heard, len(heard), fill)                   # (size * batch, tag)
        loss = F.binary_cross_entropy(given, target.expand_as(given), reduction="none").mean(-1)
        losses.append(loss.unflatten(0, signals.shape[:2]))            # (size, batch)
    return torch.stack(losses).permute(2, 0, 1)                        # (batch, tagger, size)


def tagger_rate(tagger: nn.Module) -> int:
    """The sampling rate that a tagger takes, in Hz; 16,000 where it doesn't say."""
    return getattr(tagger, "rate", None) or 16_000

# %% [markdown]
# ## 14.5 What moves
#
# The encoder gives an *embedding* $z$, 32 numbers (Jukebox: 64) every 8 samples. The codec would replace each by the nearest code; TagBox does this in every step, and lets the gradient pass straight through (chapter 10), so that $z$ moves although codes jump:
#
# $$ e = \operatorname{nearest}(z), \qquad J = D(e), \qquad \frac{\partial \mathcal{L}}{\partial z} := \frac{\partial \mathcal{L}}{\partial e}. \tag{14.4} $$
#
# Three ways to do this are worth a comparison:
# - **frozen**: the codes are the trained ones. What is steered stays within what the codec knows.
# - **drifting**: what the published run does, by accident or not. It puts the codebook into training mode before it has been *begun* (section 11.5), so in the first step all codes are overwritten by vectors of this very excerpt, and in every step they follow the running mean.
# - **free**: no codebook; the decoder gets $z$ itself.

# %%
#| export
CODES = ("frozen", "drifting", "free")


class Quantiser:
    """What stands between embedding and decoder: (batch, width, step) to the same (section 14.5).

    block: a `BottleneckBlock` of a codec; it isn't changed. codes: one of CODES; "drifting" has a
    codebook for each of `batch` excerpts, which begins as vectors of its own and follows them.
    seed: of what "drifting" draws. ValueError for another word.
    """

    def __init__(self, block: nn.Module, codes: str = "frozen", batch: int = 1, seed: int = 0):
        if codes not in CODES:
            raise ValueError(f"codes is {codes!r}; expected one of {', '.join(CODES)}")
        self.codes, self.seed, self.calls = codes, seed, 0
        self.blocks = [copy.deepcopy(block) for _ in range(batch if codes == "drifting" else 1)]
        for own in self.blocks:
            own.train(codes == "drifting")
            if codes == "drifting":
                own.reset_k()

    def __call__(self, z: Tensor) -> Tensor:
        if self.codes == "free":
            return z
        if self.codes == "frozen":
            return self.blocks[0](z)[1]
        self.calls += 1
        given = []
        for number, own in enumerate(self.blocks):
            with torch.random.fork_rng(devices=[]):                    # each excerpt's own draws
                torch.manual_seed(self.seed + self.calls)
                given.append(own(z[number:number + 1])[1])
        return torch.cat(given)                                        # (batch, width, step)

# %% [markdown]
# Check: after one call the drifting codebook holds vectors of the excerpt, while the codec's own is untouched.

# %%
codec = load_trained("jukebox_band").requires_grad_(False)
block = codec.bottleneck.level_blocks[0]
known = block.k.clone()
z = 5 * torch.randn(1, 32, 600, generator=P.generator)
for codes in CODES:
    error = float((Quantiser(block, codes)(z) - z).square().mean() / z.square().mean())
    print(f"{codes}: share of the energy lost {error:.1f}")
assert torch.equal(block.k, known) and torch.equal(Quantiser(block, "free")(z), z)
drifting = Quantiser(block, "drifting")
drifting(z)
distance = torch.cdist(drifting.blocks[0].k, z[0].T).amin(-1)         # to the nearest vector
assert float(distance.median()) < 0.5 * float(torch.cdist(known, z[0].T).amin(-1).median())

# %% [markdown]
# ## 14.6 The loop
#
# All parts are there. A song of the band, three seconds, as the codec takes it: mono, divided by its largest sample. The band's tagger knows nine words.

# %%
rate = codec.facts.rate
tagger = load_trained("tagger_band").requires_grad_(False)
track = open_tracks("band", "test", count=1)[0].mono().resampled(rate).excerpt(6.0, P.seconds)
mixture = track.mixture                                              # (1, time)
listen(mixture, rate, f"{track.name}: the mixture")

# %% [markdown]
# Now the loop, whole and plain: one song, one tagger, one FFT size. Adam moves the embedding by about `lr` a step in every entry, so the step size has the unit of the embedding, whose entries spread by several units here; the published run uses 5 to 10.
#
# One more thing is as published: the song goes through the codec *before* everything else, and what is masked, encoded and compared is $D(\operatorname{nearest}(E(x)))$, not $x$. Section 14.9 asks whether that is wise.

# %%
def steer_plain(codec, tagger, x, target, n_fft, steps, lr):
    rate, block = codec.facts.rate, codec.bottleneck.level_blocks[0]
    with torch.no_grad():
        through = lambda z: codec.from_latents(block(z)[1], 0)       # codes, then the decoder
        x = through(codec.latents(x[None], 0))[0]                    # once through the codec
        z = codec.latents(x[None], 0)                                # (1, width, step)
    z.requires_grad_()
    adam, losses = torch.optim.Adam([z], lr=lr), []
    for _ in range(steps):
        J = through(z)[0]                                            # (1, time)
        s = masked_audio(x, J, n_fft)
        loss = F.binary_cross_entropy(tag(tagger, resample(s, rate, 16_000)), target[None])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss))
    return x, s.detach(), losses

# %% [markdown]
# Six steps towards "drums", to see that it goes down:

# %%
target = target_of("drums", tags_of(tagger))
x = to_hops(mixture / mixture.abs().max(), 8)
x_coded, s_plain, losses = steer_plain(codec, tagger, x, target, 1024, 6, lr=1.0)
print("loss:", " ".join(f"{one:.1f}" for one in losses))
assert losses[-1] < losses[0]

# %% [markdown]
# The reusable form does this for a batch of excerpts, several taggers and several sizes at once. Nothing is shared between excerpts: the sum of their losses has, for each embedding, the gradient of its own loss, and Adam treats every entry alone.
#
# What it gives:

# %%
#| export
@dataclass
class Steered:
    """What steering gave, everything (batch, time) at the codec's rate and the level of what came.

    steered: what the decoder made, J. masked: what J's mask leaves of `heard` (the last FFT size).
    residual: heard - masked. heard: what was masked, the mixture or the codec's version of it.
    losses: (step, batch, tagger, size), before each step. Section 14.6.
    """

    steered: Tensor
    masked: Tensor
    residual: Tensor
    heard: Tensor
    losses: Tensor

# %% [markdown]
# The excerpts' peaks are set to one first, and given back at the end:

# %%
#| export
def peaks_of(x: Tensor) -> Tensor:
    """The largest magnitude of each signal, (..., 1), 1 for silence. Section 14.6."""
    peak = x.abs().amax(-1, keepdim=True)
    return torch.where(peak > 0, peak, 1.0)


class Loop:
    """The parts of steering between an embedding and what is heard of it; see `steer`."""

    def __init__(self, codec: nn.Module, level: int, quantiser: Quantiser):
        self.codec, self.level, self.quantiser = codec, level, quantiser

    def embed(self, x: Tensor) -> Tensor:
        """(batch, time) to embeddings (batch, width, step)."""
        return self.codec.latents(x[:, None], self.level)

    def sound(self, z: Tensor) -> Tensor:
        """Embeddings to what the decoder makes of their codes, (batch, time)."""
        return self.codec.from_latents(self.quantiser(z), self.level)[:, 0]

    def through(self, x: Tensor) -> Tensor:
        """x as the codec's own codes have it, (batch, time)."""
        codes = self.codec.bottleneck.level_blocks[self.level].encode(self.embed(x))
        return self.codec.decode(codes, self.level)[:, 0]

# %% [markdown]
# And the loop. `early` is called now and then with the step and what is masked so far, so that one may listen while it runs; without a mask (section 14.8), the tagger hears the decoder itself.

# %%
#| export
def steer(codec: nn.Module, taggers: Sequence[nn.Module], x: Tensor, targets: Sequence[Tensor], *,
          rate: int | None = None, steps: int = 100, lr: float = 5.0,
          n_fft: Sequence[int] = (2048, 1024, 512), mask: bool = True, codes: str = "frozen",
          level: int = 0, start: str = "reconstruction", of: str = "reconstruction",
          fill: str = "zeros", seed: int = 0, text: str = "steering",
          early: Callable[[int, Tensor], None] | None = None, every: int = 20) -> Steered:
    """TagBox: move each excerpt's embedding until what its mask leaves has the wanted tags.

    codec: as `course_lib.jukebox.VQVAE`, frozen, in eval mode. taggers, targets: frozen networks,
    and a (tag,) of ones and zeros for each (`target_of`). x: mono (batch, time) at `rate` (default:
    the codec's own), longer than half the largest of `n_fft`. steps, lr: of Adam on the embedding.
    mask: False lets the taggers hear the decoder itself, and `masked` is only made at the end.
    codes: see `Quantiser`. level: of the codec. start: whose embedding is moved, "reconstruction",
    x once through the codec, or "mixture"; of: what is masked, by the same words. fill: see `tag`.
    early: called with a step's number and what is masked then, (batch, time), every `every` steps.
    ValueError for other shapes, words and counts. Source: Manilow et al. 2022; section 14.6.
    """
    rate = check_steering(codec, taggers, x, targets, rate, steps, n_fft, start, of)
    time, peaks = x.shape[-1], peaks_of(x)
    x = to_hops(x / peaks, codec.hop_lengths[level])
    loop = Loop(codec, level, Quantiser(codec.bottleneck.level_blocks[level], codes, len(x), seed))
    with torch.no_grad():
        versions = {"mixture": x, "reconstruction": loop.through(x)}
        heard, z = versions[of], loop.embed(versions[start])
    z.requires_grad_()
    adam, losses = torch.optim.Adam([z], lr=lr), []
    for step in progress(range(steps), text):
        J = loop.sound(z)                                              # (batch, time)
        signals = [masked_audio(heard, J, n) for n in n_fft] if mask else [J]
        loss = tagging_losses(taggers, targets, torch.stack(signals), rate, fill)
        if early is not None and step % every == 0:
            early(step, (signals[-1].detach() * peaks)[:, :time])
        adam.zero_grad()
        loss.mean((1, 2)).sum().backward()
        adam.step()
        losses.append(loss.detach())
    with torch.no_grad():
        J = loop.sound(z) * peaks
        heard = heard * peaks
        masked = masked_audio(heard, J, n_fft[-1])
    ends = (one[:, :time] for one in (J, masked, heard - masked, heard))
    return Steered(*ends, torch.stack(losses))

# %% [markdown]
# Bad input is refused before anything is computed, in words that say what to do:

# %%
#| export
def check_steering(codec: nn.Module, taggers: Sequence[nn.Module], x: Tensor,
                   targets: Sequence[Tensor], rate: int | None, steps: int, n_fft: Sequence[int],
                   start: str, of: str) -> int:
    """The rate, or ValueError for what `steer` can't do. Section 14.6."""
    rate = rate or getattr(getattr(codec, "facts", None), "rate", None)
    if rate is None:
        raise ValueError("rate of the codec is not known; pass rate= in Hz (Jukebox: 44100)")
    check_audio(x=x)
    if x.ndim != 2 or not x.numel() or not bool(torch.isfinite(x).all()):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected finite mono audio (batch, time)")
    if steps < 1 or not n_fft or x.shape[-1] <= max(n_fft) // 2:
        raise ValueError(f"steps is {steps}, n_fft {tuple(n_fft)}, x has {x.shape[-1]} samples; "
                         "expected a step, a size, and more samples than half the largest size")
    if not taggers or len(taggers) != len(targets):
        raise ValueError(f"{len(taggers)} taggers and {len(targets)} targets; expected one each, "
                         "and a tagger at least")
    for word, given in (("start", start), ("of", of)):
        if given not in ("mixture", "reconstruction"):
            raise ValueError(f"{word} is {given!r}; expected 'mixture' or 'reconstruction'")
    return rate

# %% [markdown]
# Does the fast form do what the plain one does? Two songs in a batch; the first must come out as it does alone, but for rounding, which steps of Adam enlarge:

# %%
pair = torch.cat([mixture, mixture.flip(-1)])
batched = steer(codec, [tagger], pair, [target], steps=6, lr=1.0, n_fft=[1024])
both = batched.losses[:, 0, 0, 0].tolist()
print("plain  :", " ".join(f"{one:.1f}" for one in losses))
print("batched:", " ".join(f"{one:.1f}" for one in both))
assert np.allclose(losses, both, rtol=0.02, atol=1e-3)
