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
P = setup("14_tagbox", cpu=dict(seconds=3.0, steps=30, real_steps=20),
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
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, reproduced, same_trend, show_claims)
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
d.arrow(loss, emb, route="straight", dashed=True)
show(d.draw(), "TagBox: only the embedding changes; dashed: the gradient.", d.in_words())

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
    """What the steered signal leaves of x (eq. 14.1): x's phase, its level at most.

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
#
# Silence is nothing that a tagger of bands was trained on, and may drive its log-odds far out. There is a trap: in 32 bits $\sigma(a)$ is *exactly* 1 from about $a = 17$ on. Then the loss of an unwanted tag is a constant (torch cuts the logarithm at $-100$), and its gradient is 0 where it should be largest. A loss that stands still near 100 divided by the number of tags is the sign of it. All runs that this chapter scores or plays on excerpts shorter than a tagger asks for use `"repeat"`.

# %%
a = torch.tensor([20.0], requires_grad=True)
stuck = F.binary_cross_entropy(a.sigmoid(), torch.zeros(1))          # unwanted, and wholly sure
stuck.backward()
print(f"loss {stuck.item():.0f}, gradient {a.grad.item():.0f}")
assert stuck.item() == 100 and a.grad.item() == 0

# %% [markdown]
# The losses of all taggers and sizes, every signal going through a tagger at once:

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
        p = tag(tagger, resample(s, rate, 16_000), fill="repeat")    # (1, tag)
        loss = F.binary_cross_entropy(p, target[None])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
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
# And the loop. `early` is called now and then with the step and what is masked so far, so that one may listen while it runs; without a mask (`mask=False`, which section 14.9 tries) the tagger hears the decoder itself.

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
# Does the fast form do what the plain one does? Two songs in a batch; the first must come out as it does alone, but for rounding, which grows from step to step, for a hair decides which of two codes is the nearer one:

# %%
pair = torch.cat([mixture, mixture.flip(-1)])
batched = steer(codec, [tagger], pair, [target], steps=6, lr=1.0, n_fft=[1024], fill="repeat")
both = batched.losses[:, 0, 0, 0].tolist()
print("plain  :", " ".join(f"{one:.1f}" for one in losses))
print("batched:", " ".join(f"{one:.1f}" for one in both))
assert np.allclose(losses[:2], both[:2], rtol=1e-3) and np.allclose(losses, both, rtol=0.1)

# %% [markdown]
# Is it faster, too? `benchmarks/tagbox_speed.py` does the same work on one thread in two ways: all at once, and by plain loops over excerpts, sizes and taggers. Beside them stand *separate* runs, one for each excerpt, tagger and size, that share nothing.

# %%
speed = measured("14_tagbox/speed")
ways = {"together": "all at once", "plain": "plain loops", "separately": "separate runs"}
show_table([[int(row["excerpts"]), *(float(row[f"{way}_steps_per_second"]) for way in ways)]
            for row in speed], ["excerpts", *ways.values()], digits=1,
           caption=f"Steps of one excerpt of {float(speed[0]['seconds']):g} s per second of one "
                   f"thread; {speed[0]['taggers']} taggers, {speed[0]['sizes']} sizes.")

# %%
for way in ("plain", "separately"):
    ratios = [float(row[f"ratio_to_{way}"]) for row in speed]
    print(f"all at once over {ways[way]}: {min(ratios):.1f} to {max(ratios):.1f} times")

# %% [markdown]
# Over plain loops, one thread of a CPU gains next to nothing: the arithmetic is the same, and a second of sound keeps a core busy by itself. (A GPU, where a batch fills what would idle, was not measured.) What pays is the *common loss*: separate runs call the decoder for every tagger and size, the common one once a step.
#
# ## 14.7 Watch it work
#
# Now more steps, and we listen while it runs: every now and then, what the mask lets through.

# %%
heard_early = {}
run = steer(codec, [tagger], mixture, [target], steps=P.steps, lr=2.0, n_fft=[1024], fill="repeat",
            early=lambda step, masked: heard_early.update({step: masked}), every=P.steps // 2)
for step, sound in heard_early.items():
    listen(sound, rate, f"masked, before step {step + 1}")
listen(run.masked, rate, f"masked, after {P.steps} steps: should be the drums")

# %% [markdown]
# The rest, the decoder's own voice, and the true drums:

# %%
drums = track.sources(["drums"])[0]
listen(run.residual, rate, "residual: should be all but the drums")
listen(run.steered, rate, "what the decoder sings")
listen(drums, rate, "the true drums")
probabilities = lambda x: tag(tagger, resample(x, rate, 16_000), fill="repeat")[0].tolist()
show_table([[word, *pair] for word, *pair in zip(tags_of(tagger), probabilities(run.heard),
                                                 probabilities(run.masked))],
           ["tag", "before", "after steering to drums"], digits=1,
           caption="What the tagger hears in the song, and in what the mask leaves.")
assert float(run.losses[-1].mean()) < float(run.losses[0].mean())

# %% [markdown]
# The loss falls fast: the tagger is soon content. Whether the *mask* is good, it can't say. Beside the curve stands the mask that was found, and the ideal one, which only somebody knows who has the drums.

# %%
def levels_of(x, n_fft=1024):
    return stft(x[0], n_fft, n_fft // 2, root_hann(n_fft, x))

figure, axes = plt.subplots(1, 3, figsize=(9.6, 2.8), constrained_layout=True)
axes[0].plot(run.losses[:, 0, 0, 0])
axes[0].set(xlabel="step", ylabel="cross entropy", title="loss")
found = spectral_mask(levels_of(run.steered), levels_of(run.heard))
ideal = spectral_mask(levels_of(drums), levels_of(mixture))
for axis, mask, title in ((axes[1], found, "mask found"),
                          (axes[2], ideal, "mask of the true drums")):
    axis.imshow(mask[:, :130], origin="lower", aspect="auto", vmin=0, vmax=1, cmap="magma",
                extent=(0, P.seconds, 0, rate / 2000))
    axis.set(xlabel="time, s", ylabel="kHz", title=title)
show(figure, "The loss of one song, the mask after the last step, and the one with the true drums "
     "for J (dark 0, bright 1).", "A falling curve; a picture of speckles, mostly bright; and one "
     "with upright bright stripes at the drum's strokes.")

# %% [markdown]
# How alike are they? Their correlation over all points, and that of the mask *before* the first step, when $J$ is the song itself as the codec has it:

# %%
correlation = lambda a, b: float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
known = (codec.decode(codec.bottleneck.level_blocks[0].encode(
    codec.latents(to_hops(run.heard)[None], 0)), 0)[0, :, :run.heard.shape[-1]])
before = spectral_mask(levels_of(known), levels_of(run.heard))
closeness = [correlation(mask, ideal) for mask in (before, found)]
print("correlation with the true mask: before {:.1f}, after {:.1f}".format(*closeness))
assert found.min() >= 0 and found.max() <= 1 + 1e-5

# %% [markdown]
# **Quick question.** The tagger is nearly sure of "drums" and denies the rest. Why doesn't that make the mask the drums' mask?
#
# <details><summary>Answer</summary>Because many masks satisfy it. Nobody asked for *all* drums, nor for *nothing but* drums: only for a sound in which this network finds drums and hardly anything else. Points that it doesn't care about get no gradient, and stay as open as they were.</details>
#
# ## 14.8 Two readings, and no mask
#
# What is the source: the masked signal, which the loss pulls towards the tag, or the residual? The published code returns both. Its author calls the *masked* one the intended source; the file of results calls neither so. A third reading is $J$ itself, *without* a mask: then it isn't separation any more but a kind of **style transfer**, the decoder singing a new song that the tagger calls by the wanted word.
#
# The rows come from `course experiment tagbox`; the card says how they were made.

# %%
songs = measured("14_tagbox/songs")
card = measured_card("14_tagbox/runs")["settings"]
print(f"main runs: {card['songs']} songs of 3 s ({card['more_songs']} more with guitar, and with "
      f"piano), {card['steps']} steps, step size {card['lr']:g}; ablations: "
      f"{card['ablation_songs']} songs")

index = {}
for row in songs:
    part = "main" if row["part"] == "more" else row["part"]          # more songs of the main runs
    key = part, row["sources"], row["instrument"], row["method"], row["change"], row["reading"]
    index.setdefault(key, {})[row["song"]] = row

def values(method, instrument, column="sdri", reading="masked", change="", sources="six",
           part="main"):
    found = index.get((part, sources, instrument, method, change, reading), {})
    return {song: float(row[column]) for song, row in found.items()}

# %% [markdown]
# Of each score the mean over the excerpts in which the instrument sounds. Beside the readings stands *silence*: it has removed every other instrument, and its SDR is 0 dB whatever the song.

# %%
def mean_of(found):
    numbers = [one for one in found.values() if np.isfinite(one)]
    return float(np.mean(numbers)) if numbers else None

COLUMNS = {"sdri": "SDRi, dB", "si_sdri": "SI-SDRi, dB", "sar": "SAR, dB", "l1": "L1"}
instruments = [name for name in ("vocals", "drums", "guitar", "bass", "piano")
               if values("TagBox", name)]
rows = []
for name in instruments:
    for reading in ("masked", "residual", "steered"):
        found = {column: values("TagBox", name, column, reading) for column in COLUMNS}
        rows.append([name, reading, len(found["sdri"]), *map(mean_of, found.values())])
    rows.append([name, "silence", len(values("silence", name)),
                 mean_of(values("silence", name)), None, None,
                 mean_of(values("silence", name, "l1"))])
show_table(rows, ["instrument", "reading", "excerpts", *COLUMNS.values()], digits=1,
           caption="TagBox with the band's codec and tagger; L1: of magnitudes, over the target's "
                   "own sum.")
assert all(0.99 < one < 1.01 for one in values("silence", instruments[0], "l1").values())

# %% [markdown]
# Read SDRi and SI-SDRi side by side. SDRi rewards what is merely *softer*: where a target is soft in the mixture, silence "improves" the SDR by many decibels, so a reading that has thrown nearly everything away can lead a table of SDRi. SI-SDRi, which first finds the best factor, isn't fooled. Does a reading beat silence at all?

# %%
for name in instruments:
    silence = values("silence", name)
    for reading in ("masked", "residual"):
        found = values("TagBox", name, reading=reading)
        difference = np.array([found[song] - silence[song] for song in found if song in silence])
        print(f"{name}, {reading} less silence: {difference_in_words(difference, digits=1)}")

# %% [markdown]
# Only the residual of the bass does, by less than half a decibel, and by SI-SDRi it is far below the mixture, as all residuals are. By SI-SDRi no reading of any instrument is clearly ahead of the mixture itself.
#
# The third reading in earnest: *without* a mask (`mask=False`) the tagger hears the decoder itself, and what it sings is the result. First by ear, towards the drums:

# %%
sung = steer(codec, [tagger], mixture, [target], steps=P.steps // 2, lr=2.0, n_fft=[1024],
             fill="repeat", mask=False)
listen(mixture, rate, "the song")
listen(sung.steered, rate, "the decoder, steered to drums without a mask")
assert float(sung.losses[-1].mean()) < float(sung.losses[0].mean())

# %% [markdown]
# Then measured, for every instrument: what the tagger hears of the wanted word and of the likeliest other word, in the song and in what the decoder made of it, how loud that is, and how far it is from the song's own source.

# %%
heard_rows = measured("14_tagbox/heard")
styles = []
for name in instruments:
    own = [row for row in heard_rows if row["instrument"] == name]
    means = {key: float(np.mean([float(row[key]) for row in own]))
             for key in ("before", "after", "others_before", "others_after", "level")}
    source = values("TagBox", name, "si_sdri", "steered", "mask=off", part="style")
    styles.append([name, len(own), *means.values(), mean_of(source)])
show_table(styles, ["steered to", "songs", "word before", "after", "others before", "after ",
                    "level, dB", "SI-SDRi, dB"], digits=1,
           caption="Style transfer: probabilities by the tagger that steered, mean over songs; "
                   "level against the song.")

# %% [markdown]
# The tagger is won over completely: whatever was asked for, the wanted word is sure, and of the others, all but sure before, little is left in most songs. The *sound* hardly follows. Its level is the song's, and by SI-SDRi it is but a decibel or two further from any source than the song itself: it is the song with a codec's noise in it, and no singer, guitar or drum has come in. Without a mask nothing holds the loss back from the faint changes of section 14.1 that persuade a network, not an ear; the codec, the one fence left, lets them pass.
#
# ## 14.9 One thing at a time
#
# Vocals and drums, the same excerpts, one thing changed. Positive numbers: better than the main run (of L1, worse).
# The changes: `of=mixture` masks the song itself, not the codec's version; `codes=drifting` is what the published run does (it draws at random, so there is a second seed); `codes=free` has no codebook; `level=2` steers the codec's slowest level (hop 128); `taggers=random` has a tagger *that was never trained*, which a method that listens must beat; `mask=off` lets the tagger hear $J$ and makes the mask only at the end.

# %%
def changed(change, column, instrument):
    base = values("TagBox", instrument, column, part="ablation")
    other = values("TagBox", instrument, column, change=change, part="ablation")
    found = np.array([other[song] - base[song] for song in base if song in other])
    return found[np.isfinite(found)]

def interval(differences):
    return paired_interval(differences, 0 * differences) if len(differences) > 1 else None

# %% [markdown]
# `changed` is the difference song by song, `interval` its mean with an interval. All changes, for both instruments:

# %%
changes = [change for change in dict.fromkeys(
    row["change"] for row in songs if row["part"] == "ablation" and row["change"])
    if all(len(changed(change, "sdri", name)) for name in ("vocals", "drums"))]
for name in ("vocals", "drums"):
    first = ["main run", *(mean_of(values("TagBox", name, column, part="ablation"))
                           for column in COLUMNS)]
    show_table([first] + [[change, *(interval(changed(change, column, name))
                                     for column in COLUMNS)] for change in changes],
               ["change", *COLUMNS.values()], digits=2,
               caption=f"{name}: the main run's scores, then differences to it, paired, mean and "
                       "interval over excerpts (L1: lower is better).")

# %% [markdown]
# Which changes are certain, their interval leaving out zero, and is the order the same by every metric? (So many intervals at 95% mean that one in twenty leaves out zero by chance: trust what is far from it, and what both instruments say.)

# %%
ranking = {}
for name in ("vocals", "drums"):
    for column, title in COLUMNS.items():
        found = {change: interval(changed(change, column, name)) for change in changes}
        sign = -1 if column == "l1" else 1
        order = sorted(changes, key=lambda change: -sign * found[change][0])
        ranking[name, column] = order
        clear = [f"{change} {found[change][0]:+.1f}" for change in order
                 if found[change][1] * found[change][2] > 0]
        print(f"{name}, {title}: {'; '.join(clear)}")

# %% [markdown]
# (From best to worst.) The order does depend on the metric, with both instruments: `level=2` comes first by SDRi and L1, and last by SAR. By SI-SDRi it loses far more than any other change with the vocals, while with the drums it can't be told from the main run.

# %%
for name in ("vocals", "drums"):
    assert all(ranking[name, column][0] == "level=2" for column in ("sdri", "l1"))
    assert ranking[name, "sar"][-1] == "level=2"
    print(f"{name}: trained over random tagger", ", ".join(
        difference_in_words(-changed("taggers=random", column, name), unit) for column, unit
        in (("si_sdri", "dB SI-SDRi"), ("sdri", "dB SDRi"), ("sar", "dB SAR"))))
low = {name: interval(-changed("taggers=random", "si_sdri", name))[1]
       for name in ("vocals", "drums")}
assert low["vocals"] < 0 < low["drums"]

# %% [markdown]
# **Does the method listen?** A tagger that was never trained says. By SDRi and L1, which reward whatever takes sound away, the trained one is ahead with both instruments. By SI-SDRi it is clearly ahead with the drums, by a few tenths of a decibel; with the vocals the two can't be told apart. By SAR the untrained one is ahead, as is every change that leaves the song more as it was (few steps, small steps). So it listens, to the drums at least, but not much comes of it.
#
# **More steps** (`steps=100`, as many as the published code takes) gain by SDRi and L1 and lose SAR with both instruments; by SI-SDRi the drums gain a little, the vocals nothing certain. **Masking the song itself** (`of=mixture`) is better by SI-SDRi and SAR with both, and nothing speaks for the codec's version.
#
# Real taggers instead of the band's, for few steps (they cost more): MTAT's FCN and Musicnn, fifty words from real music, and Jamendo's, which have never heard this band.

# %%
tagger_rows = list(dict.fromkeys(row["change"] for row in songs if row["part"] == "taggers"))

def by_tagger(change, column):
    first, other = (values("TagBox", "vocals", column, change=one, part="taggers")
                    for one in ("taggers=tagger_band", change))
    return np.array([other[song] - first[song] for song in first])

# %% [markdown]
# The band's own tagger stands first:

# %%
first = ["tagger_band", *(mean_of(values("TagBox", "vocals", column, part="taggers",
                                         change="taggers=tagger_band")) for column in COLUMNS)]
show_table([first] + [[change.removeprefix("taggers="), *(interval(by_tagger(change, column))
                                                          for column in COLUMNS)]
                      for change in tagger_rows if change != "taggers=tagger_band"],
           ["tagger", *COLUMNS.values()], digits=2,
           caption=f"Vocals, {card['real_songs']} excerpts, {card['real_steps']} steps: scores "
                   "with the band's tagger, then differences to them, paired.")

# %% [markdown]
# None of the published taggers is clearly ahead of the band's by SI-SDRi, and none is behind by more than a tenth of a decibel: who listens matters less here than how far the mask is pulled.
#
# The published weights of the *harmonic* CNN don't come with the course (chapter 13). Where the course's own harmonic network, `harmonic_band`, has been measured in place of `tagger_band`, which is an FCN, it stands in for them: trained on the same songs, alone, and both together.

# %%
HARMONIC = ("taggers=harmonic_band", "taggers=tagger_band+harmonic_band")
for change in HARMONIC:
    for name in ("vocals", "drums"):
        print(f"{change.removeprefix('taggers=')} less FCN, {name}:", ", ".join(
            difference_in_words(changed(change, column, name), unit) for column, unit
            in (("si_sdri", "dB SI-SDRi"), ("sdri", "dB SDRi"), ("sar", "dB SAR"))))
for name in ("vocals", "drums"):
    _, low, high = interval(changed(HARMONIC[0], "si_sdri", name))
    assert low < 0 < high and interval(changed(HARMONIC[0], "sdri", name))[1] > 0
assert interval(changed(HARMONIC[0], "sar", "vocals"))[2] < 0

# %% [markdown]
# The harmonic network tags worse than the FCN (section 13.11), and yet it steers a little further: clearly by SDRi for both instruments, with nothing certain by SI-SDRi. A better tagger is not by itself a better guide. By SAR it is behind, with the vocals clearly: what takes more away leaves more artifacts. So which of the two is the better guide depends on the metric.

# %% [markdown]
# ## 14.10 Beside the others
#
# Methods that learn nothing (chapter 2), five supervised networks of the course, MixIT (`mixit_band`, chapter 14b's network that never saw a stem; its outputs have no names, so an oracle that knows the sources chooses among them), and bounds. Guitar and piano are no stems of the supervised networks: they get the stem "other", in which these instruments are. HPSS and REPET-SIM have the same numbers for drums and bass, because chapter 2's recipes (section 2.11) differ in the voice alone: drums are the percussive part in both, bass is what lies below 180 Hz of the rest. TagBox asks for any word; that is its claim to fame, and the columns of guitar and piano are where it should show.

# %%
def with_interval(found):
    one = np.array([value for value in found.values() if np.isfinite(value)])
    return paired_interval(one, np.zeros(len(one))) if len(one) else None

# %%
def board(column, sources):
    methods = list(dict.fromkeys(row["method"] for row in songs
                                 if row["part"] == "main" and row["sources"] == sources))
    names = [name for name in instruments if values("TagBox", name, sources=sources)]
    counts = [f"{name} ({len(values('TagBox', name, sources=sources))})" for name in names]
    return [[method, *(with_interval(values(method, name, column, sources=sources))
                       for name in names)] for method in methods], ["method", *counts]

rows, head = board("si_sdri", "six")
show_table(rows, head, digits=1, caption="SI-SDRi in dB, mean and interval over excerpts (their "
           "number in brackets) with all sources of the songs.")

# %% [markdown]
# The same excerpts by SDRi, where silence has a number, too:

# %%
rows, head = board("sdri", "six")
show_table(rows, head, digits=1, caption="SDRi in dB, all sources.")

# %% [markdown]
# By SAR and by L1. The untouched *mixture* leads every column of SAR, by more than a hundred decibels: SAR asks only what is neither target nor rest, and a mixture is nothing but these two. It is the bound that makes a fool of SAR, as silence is of SDRi.

# %%
for column, what in (("sar", "SAR in dB"), ("l1", "L1 of magnitudes (lower is better)")):
    rows, head = board(column, "six")
    show_table(rows, head, digits=1, caption=f"{what}, all sources.")

# %% [markdown]
# And in mixtures of four sources only (drums, bass, vocals, guitar), by SI-SDRi and by SDRi:

# %%
for column, what in (("si_sdri", "SI-SDRi"), ("sdri", "SDRi")):
    rows, head = board(column, "four")
    show_table(rows, head, digits=1, caption=f"{what} in dB, mixtures of four sources.")

# %% [markdown]
# Does the order of the methods depend on the metric? Each metric's own order, by the mean over instruments. Left out are what a metric has no number for (silence), and the mixture in SAR, where it is no contestant but the bound.

# %%
def order_by(column):
    scored = {}
    for method in dict.fromkeys(row["method"] for row in songs if row["part"] == "main"):
        means = [mean_of(values(method, name, column)) for name in instruments]
        if None not in means and (method, column) != ("mixture", "sar"):
            scored[method] = float(np.mean(means))
    return sorted(scored, key=scored.get, reverse=column != "l1")

# %%
orders = {title: order_by(column) for column, title in COLUMNS.items()}
longest = max(map(len, orders.values()))
show_table([[place + 1, *(order[place] if place < len(order) else "" for order in orders.values())]
            for place in range(longest)], ["place", *orders],
           caption="Methods from best to worst, by the mean over five instruments, all sources.")
assert orders["SAR, dB"][0] == "TagBox" and orders["L1"].index("silence") == 2
for title, order in orders.items():
    print(f"{title}: TagBox is number {order.index('TagBox') + 1} of {len(order)}")

# %% [markdown]
# It does. By SDRi, SI-SDRi and L1 the ideal mask and the networks that learnt from stems lead. By SAR TagBox is first of all, before the ideal mask, and those networks are last: it leaves the song nearly as it was, and what isn't touched has no artifacts. Silence is third by L1, and ahead of TagBox and NMF by SDRi. And NMF, which is ahead of the untouched mixture by SDRi, is below it by SI-SDRi.
#
# Now TagBox against each rival that learns nothing, pair by pair: two kinds of mixtures, the instruments, three rivals.

# %%
def lead(first, second, name, sources="six", column="si_sdri", part="main"):
    one, two = (values(method, name, column, sources=sources, part=part)
                for method in (first, second))
    return np.array([one[song] - two[song] for song in one if song in two])

# %%
RIVALS = ("HPSS", "REPET-SIM", "NMF")
pairs = [(sources, name) for sources in ("six", "four") for name in instruments
         if values("TagBox", name, sources=sources)]
leads = {(*pair, rival): lead("TagBox", rival, pair[1], pair[0]) for pair in pairs
         for rival in RIVALS}

# %% [markdown]
# `leads` has all pairs of them. As a table:

# %%
show_table([[f"{name}, {sources} sources", *(interval(leads[sources, name, rival])
                                             for rival in RIVALS)] for sources, name in pairs],
           ["TagBox less", *RIVALS], digits=1,
           caption="SI-SDRi in dB, paired, mean and interval over excerpts; positive: TagBox is "
                   "ahead.")

# %% [markdown]
# So many comparisons at once call for care: an interval of 95% leaves out zero in one of twenty cases even where nothing is the matter, and half of those look like wins. So we count twice, with intervals of 95%, and with intervals so wide that *all* comparisons together keep to the 5% (Bonferroni: each gets its share of it).

# %%
def clear_cases(level, sign):
    found = {}
    for key, differences in leads.items():
        mean, low, high = paired_interval(differences, 0 * differences, level=level)
        if (low if sign > 0 else -high) > 0:
            found[key] = f"{key[1]} against {key[2]}, {key[0]} ({mean:+.1f} dB)"
    return found

# %%
levels = {"95% each": 0.95, "95% for all": 1 - 0.05 / len(leads)}
wins, losses = ({name: clear_cases(level, sign) for name, level in levels.items()}
                for sign in (1, -1))
for name in levels:
    print(f"{name}: of {len(leads)} comparisons {len(wins[name])} clear wins, "
          f"{len(losses[name])} clear losses. Wins: {'; '.join(wins[name].values()) or 'none'}")
assert list(wins["95% for all"]) == [("six", "piano", "NMF")] and not any(
    key[2] != "NMF" for key in wins["95% each"])

# %% [markdown]
# One win stays, the piano against NMF, also where all comparisons have to hold at once; the other intervals against NMF hold zero, or are losses (drums). To read it rightly, look back: NMF's piano is well below the untouched mixture. To beat it, it was enough to do little. Against HPSS and REPET-SIM (which for drums and bass are one method, see above) TagBox is nowhere ahead, and with all sources clearly behind for every instrument.
#
# ### Words that are no stems
#
# The band's tagger has four words more that no separator of the course has a stem for: strings, brass, winds and synth. Where one of them plays alone in a song's source "other" (what is left without guitar and piano), that source is the truth, and TagBox can be scored. Rivals get what chapter 2 calls "other".

# %%
tags = [name for name in ("strings", "brass", "winds", "synth")
        if values("TagBox", name, part="tags")]
asked = list(dict.fromkeys(row["method"] for row in songs if row["part"] == "tags"))
for column, what in (("si_sdri", "SI-SDRi"), ("sdri", "SDRi")):
    show_table([[method, *(with_interval(values(method, name, column, part="tags"))
                           for name in tags)] for method in asked],
               ["method", *(f"{name} ({len(values('TagBox', name, part='tags'))})"
                            for name in tags)], digits=1,
               caption=f"{what} in dB, mean and interval over excerpts (their number).")

# %%
for name in tags:
    print(f"{name}: TagBox less", ", ".join(
        f"{rival} {difference_in_words(lead('TagBox', rival, name, part='tags'), digits=1)}"
        for rival in RIVALS))

# %% [markdown]
# So TagBox has the words, but the words don't help it here. By SI-SDRi it is clearly below the untouched mixture for strings, brass and winds, and can't be told from it for synth. What HPSS and REPET-SIM have left over, without knowing what was asked for, is clearly ahead of it for all four. Against NMF only the strings come near to a win, and the interval's end lies at zero. The widest range of sources is true of the questions that one may ask, not of the answers.
#
# ### What to make of it
#
# By SI-SDRi TagBox is clearly ahead of the untouched mixture for no instrument, and ahead of methods without training in one case of all. Every network that learnt from this band's stems is clearly ahead of it, for every instrument; for guitar and piano even a stem that has other instruments in it is. TagBox has only a small codec and a small tagger, and 3 s. The published TagBox has a codec trained on a million songs, taggers trained on tens of thousands, and more steps. So what fails here may work there; what the *scores* do here, they do there, too.
#
# ## 14.11 Real recordings
#
# The published MTAT Musicnn and two recordings: a singer with her guitar, asked for vocals, and a jazz band without a voice, asked for drums. Nobody has their stems: there is nothing but the tagger, the picture and your ears. (Musicnn takes three seconds at a time; our excerpts are a hair shorter, so that they are one chunk.)

# %%
musicnn = load_tagger("mtat_musicnn")
REAL = {"fishin": ("Karissa Hobbs, Let's Go Fishin'", 20.0, "vocals"),
        "vibeace": ("Kevin MacLeod, Vibe Ace", 20.0, "drums")}
length = P.seconds - 0.1

# %% [markdown]
# Both are steered as before, with larger steps, as the published run takes them:

# %%
real, runs = {}, {}
for name, (title, start, word) in REAL.items():
    real[name] = recording(name, start=start, seconds=length, mono=True, rate=rate)[0]
    runs[name] = steer(codec, [musicnn], real[name], [target_of(word, musicnn.tags)], lr=5.0,
                       steps=P.real_steps, n_fft=[1024], of="mixture", fill="repeat")
    listen(real[name], rate, title)
    listen(runs[name].masked, rate, f"masked towards {word}, {P.real_steps} steps")
    listen(runs[name].residual, rate, "residual")

# %% [markdown]
# What does the tagger think of them, of the likeliest wanted word and of the likeliest other one, and how much of the sound is left?

# %%
rows = []
for name, (title, start, word) in REAL.items():
    wanted = target_of(word, musicnn.tags).bool()
    said = [tag(musicnn, resample(x, rate, 16_000), fill="repeat")[0]
            for x in (real[name], runs[name].masked)]
    kept = float(runs[name].masked.square().sum() / real[name].square().sum())
    rows.append([word, *(float(p[wanted].max()) for p in said),
                 *(float(p[~wanted].max()) for p in said), kept])
    assert float(runs[name].losses[-1].mean()) < float(runs[name].losses[0].mean())
    assert 0 < kept <= 1.01 and rows[-1][2] > rows[-1][1]
show_table(rows, ["asked for", "word before", "after", "others before", "after ", "energy kept"],
           digits=1, caption="Musicnn's probabilities, and the mask's share of the energy.")

# %%
figure, axes = plt.subplots(2, 2, figsize=(9.6, 5.2), constrained_layout=True)
for row, (name, (title, _, word)) in zip(axes, REAL.items()):
    for axis, sound, kind in zip(row, (real[name], runs[name].masked), (title, f"towards {word}")):
        level = 20 * levels_of(sound)[:, :130].abs().clamp_min(1e-5).log10()
        axis.imshow(level, origin="lower", aspect="auto", vmin=-60, vmax=20, cmap="magma",
                    extent=(0, length, 0, rate / 2000))
        axis.set(xlabel="time, s", ylabel="kHz", title=kind)
show(figure, "Two real recordings and what the masks leave, the same colours.",
     "Two rows of two spectrograms; each right one is nearly the left one, darker here and there.")

# %% [markdown]
# The tagger is persuaded both times: the wanted word becomes likelier, the others less so. Yet the pictures have hardly changed, and most of the energy is still there. A little taken away at the right points is enough for a network; the guitar goes on under the voice, and the band under the drums. That is section 14.7's answer again, on real music.
#
# The whole song, in pieces that fade into each other, and with more steps, is a command: `course steer SONG --tag vocals --taggers mtat_fcn mtat_musicnn -o DIR` (`--early 20` writes what the mask leaves every twenty steps, to listen meanwhile). And `course experiment tagbox --set data=slakh2100 --folder DIR` measures this chapter's tables on Slakh2100, whose songs lie where `course_lib.data` looks for them (`--set data=musdb18hq` on MUSDB18-HQ); the tables go to DIR.
#
# ## 14.12 With Jukebox itself
#
# `steer` takes any codec with chapter 11's interface. The published VQ-VAE is one: `codec = load_official()`, `steer(codec, taggers, x, targets, rate=44_100)`. Its weights don't come with the course (their licence is non-commercial); what can be shown here is that its *architecture* fits: two steps with random weights, on a tenth of a second.

# %%
from course_lib.jukebox import VQVAE
published_shape = VQVAE().requires_grad_(False).eval()
for level_block in published_shape.bottleneck.level_blocks:
    level_block.k.normal_(generator=P.generator)
short = torch.randn(1, 4410, generator=P.generator)
trial = steer(published_shape, [tagger], short, [target], rate=44_100, steps=2, n_fft=[512])
print("steered:", tuple(trial.steered.shape), "losses:", tuple(trial.losses.shape))
assert trial.steered.shape == short.shape and bool(trial.losses.isfinite().all())

# %% [markdown]
# A trap of the published code, for those who read it. Its function that decodes takes an argument `level=0`, and uses the same name in its loop over levels, so that what it returns is always the *last* level's decoder: the song is put through the codec at hop 8, but what is steered runs at hop 128. The row `level=2` of section 14.9 is that case.
#
# ## 14.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `spectral_mask`, `root_hann`, `masked_audio` | a mask from a signal that sounds like the source | 14.2 |
# | `WORDS`, `tags_of`, `words_for`, `target_of` | which tags stand for an instrument | 14.3 |
# | `tagging_losses`, `tagger_rate` | cross entropy over taggers and sizes | 14.4 |
# | `Quantiser`, `CODES` | frozen, drifting or no codes | 14.5 |
# | `steer`, `Steered`, `Loop`, `peaks_of`, `check_steering` | the loop, for many excerpts at once | 14.6 |
#
# All of it is in `course_lib.tagbox`; the command is `course steer`.
#
# ## 14.14 Paper claims

# %%
PAPER = "Manilow et al. 2022"

NETS = ("open_unmix_band", "demucs_band", "hdemucs_band", "htdemucs_band", "band_split_band")
below = {(*pair, net): lead(net, "TagBox", pair[1], pair[0]) for pair in pairs for net in NETS
         if values(net, pair[1], sources=pair[0])}
behind = [key for key, found in below.items() if interval(found)[1] > 0]
names_known = sum(bool(words_for(name, MTAT_TAGS)) for name in ("sitar", "harp", "choir"))

# %% [markdown]
# Some claims speak of two instruments, or of two seeds:

# %%
def both_words(change, column, sign=1):
    return "; ".join(f"{name} {difference_in_words(sign * changed(change, column, name))}"
                     for name in ("vocals", "drums"))

def two_seeds(name):
    found = np.stack([changed(change, "si_sdri", name)
                      for change in ("codes=drifting", "codes=drifting, seed=1")])
    return difference_in_words(found) + ", 2 seeds", same_trend(found)

# %% [markdown]
# The last one of several metrics: does the one network lead clearly by one of them, the other by another?

# %%
def clear_sign(differences):
    _, low, high = interval(differences)
    return (low > 0) - (high < 0)

def changes_places(change):
    """The FCN's lead over another tagger, in words, and whether two metrics clearly disagree."""
    metrics = {"si_sdri": "SI-SDRi", "sdri": "SDRi", "sar": "SAR"}
    found = {name: {column: -changed(change, column, name) for column in metrics}
             for name in ("vocals", "drums")}
    if not all(len(one) for leads_of in found.values() for one in leads_of.values()):
        return "not run", NEEDS_REAL_DATA
    turned = [{-1, 1} <= set(map(clear_sign, leads_of.values())) for leads_of in found.values()]
    words = "; ".join(f"FCN less harmonic, {name}: " + ", ".join(
        f"{metrics[column]} {difference_in_words(one, '')}" for column, one in leads_of.items())
        for name, leads_of in found.items())
    return words, SAME_TREND if any(turned) else NOT_SEEN

# %% [markdown]
# The claims, one by one. What one instrument says stands beside what the other says.

# %%
one_each, for_all = ((len(wins[name]), len(losses[name])) for name in levels)
harmonic_words, harmonic_verdict = changes_places("taggers=harmonic_band")
trend = lambda change, column, name, sign=1: same_trend(sign * changed(change, column, name))
show_claims([
    Claim("On some sources better than methods without training", PAPER, "14.10", None,
          f"{one_each[0]} clear wins ({'; '.join(wins['95% each'].values())}), {one_each[1]} clear "
          f"losses of {len(leads)} comparisons; with intervals for all of them {for_all[0]} and "
          f"{for_all[1]}",
          SAME_TREND if for_all[0] else NOT_SEEN),
    Claim("Below supervised methods, every instrument", PAPER, "14.10", None,
          f"clearly in {len(behind)} of {len(below)} comparisons with {len(NETS)} networks",
          SAME_TREND if len(behind) == len(below) else NOT_SEEN),
    Claim("Has words for rare sources: sitar, harp, choir (only counted)", PAPER, "14.3", None,
          f"{names_known} of 3", reproduced(names_known, 3, 0)),
    Claim("Several FFT sizes don't raise SDR, but sound better", PAPER, "14.9", None,
          f"SDRi {both_words('n_fft=512, 1024, 2048', 'sdri')}; not judged by ears",
          NEEDS_REAL_DATA),
    Claim("A trained tagger steers better than a random one: vocals", "this chapter", "14.9", None,
          difference_in_words(-changed("taggers=random", "si_sdri", "vocals")),
          trend("taggers=random", "si_sdri", "vocals", -1)),
    Claim("... and drums", "this chapter", "14.9", None,
          difference_in_words(-changed("taggers=random", "si_sdri", "drums")),
          trend("taggers=random", "si_sdri", "drums", -1)),
    Claim("Drifting codes, as published, beat frozen ones: vocals", "this chapter", "14.9", None,
          two_seeds("vocals")[0], two_seeds("vocals")[1]),
    Claim("... and drums", "this chapter", "14.9", None, two_seeds("drums")[0],
          two_seeds("drums")[1]),
    Claim("More steps (100) are better: vocals", "this chapter", "14.9", None,
          difference_in_words(changed("steps=100", "si_sdri", "vocals")),
          trend("steps=100", "si_sdri", "vocals")),
    Claim("... and drums", "this chapter", "14.9", None,
          difference_in_words(changed("steps=100", "si_sdri", "drums")),
          trend("steps=100", "si_sdri", "drums")),
    Claim("FCN and the harmonic CNN change places between metrics", PAPER, "14.9", None,
          harmonic_words, harmonic_verdict)])

# %% [markdown]
# Seeds: steering draws nothing at random with frozen codes, so there is one run a setting; songs are what varies, and the intervals are theirs. Only drifting codes draw, and have two seeds. The claims that rest on the ablation rest on six songs.
#
# ## 14.15 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/14_tagbox.ipynb) has more tasks, with checks.
#
# **1. Both outputs.** Masked and residual add up to what was masked. Whose fault is it, then, if they don't add up to the song?
#
# <details><summary>Answer</summary>
#
# Of `of="reconstruction"`: what was masked is the codec's version of the song. With `of="mixture"` they do.
#
# ```python
# from course_lib.training import load_trained
# codec, tagger = load_trained("jukebox_band"), load_trained("tagger_band")
# mixture = 0.1 * torch.randn(1, 22_050, generator=torch.Generator().manual_seed(0))
# target = target_of("drums", tags_of(tagger))
# two = steer(codec, [tagger], mixture, [target], steps=1, n_fft=[512], of="mixture")
# assert torch.allclose(two.masked + two.residual, mixture, atol=1e-5)
# ```
# </details>
#
# **2. Silence's score.** In a mixture the target's SDR is $-9$ dB. What SDRi has silence?
#
# <details><summary>Answer</summary>
#
# Its SDR is 0 dB, as the error is the target itself: 9 dB better than the mixture.
#
# ```python
# from course_lib.metrics import sdr
# s, n = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
# x = s + n * 10 ** (9 / 20) * s.norm() / n.norm()
# assert abs(float(sdr(0 * s, s) - sdr(x, s)) - 9) < 1e-3
# ```
# </details>
#
# **3. A sure tag.** "drums" has $p = 0.99$, is wanted, and there are nine tags. How large is its pull on the log-odds? And an unwanted tag's with $p = 0.5$?
#
# <details><summary>Answer</summary>
#
# By (14.3) $-0.01/9 = -0.0011$, and $0.5/9 = 0.056$: fifty times as much.
#
# ```python
# a = torch.tensor([4.595, 0.0], requires_grad=True)
# F.binary_cross_entropy(a.sigmoid(), torch.tensor([1.0, 0.0]), reduction="sum").div(9).backward()
# assert 45 < float((a.grad[1] / a.grad[0]).abs()) < 55
# ```
# </details>
#
# **4. Open.** Take the target vector's zeros away, so that only the wanted tags count. Which readings and metrics change?
#
# ## 14.16 Sources
#
# - E. Manilow, P. O'Reilly, P. Seetharaman and B. Pardo, *Source separation by steering pretrained music models*, ICASSP 2022, arXiv 2110.13071; interface and choices of the published run: github.com/ethman/tagbox, MIT licence.
# - P. Dhariwal et al., *Jukebox: a generative model for music*, 2020, arXiv 2005.00341.
# - M. Won et al., *Evaluation of CNN-based automatic music tagging models*, SMC 2020, arXiv 2006.00751.
# - I. Goodfellow, J. Shlens and C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015, arXiv 1412.6572.
# - J. Le Roux et al., *SDR: half-baked or well done?*, ICASSP 2019.
#
# All code here is the course's own. The recordings:

# %%
from IPython.display import Markdown, display
display(Markdown("\n".join(f"- {attribution(name)}" for name in REAL)))
