# %% [markdown]
# # Chapter 20 · Ask for any sound
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/20_query.ipynb)
#
# Every separator so far decided for you what a song consists of: drums, bass, other, vocals. But somebody wants the piano, somebody the strings, somebody "the thing that sounds like this". In this chapter a separator gets a second input, a **question**, and has a single output, the answer. You ask by a word, by several words, or by playing an example.
#
# **You will be able to**
# - say what the target of a question is, also when what is asked for isn't there,
# - turn tags and examples into vectors of one space,
# - write FiLM, prove that concatenation is a special case of it, and decide where to put it,
# - train one network for all questions, without an example that gives the answer away,
# - measure whether a network listens to its question at all,
# - ask for an instrument that the network has never heard, and judge the answer.
#
# **You need** chapter 4 (Open-Unmix), chapter 9 (long songs in pieces) and chapter 13 (the tagger); chapter 14 asked a codec the same questions without training.
#
# **Time** <!-- minutes 20_query -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 20.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp query
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("20_query", cpu=dict(seconds=6.0), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/query.py`.

# %%
#| export
from collections.abc import Iterable, Sequence
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.separating import separate
from course_lib.spectral import istft, stft
from course_lib.taggers import Tagger, in_chunks

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import open_tracks
from course_lib.data.mono import mono_tracks
from course_lib.data.recordings import recording
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments import query as experiment
from course_lib.notebook import Diagram, listen, mean_interval, show, show_table
from course_lib.notebook.claims import (NEEDS_REAL_DATA, NOT_SEEN, SAME_TREND, Claim,
                                        difference_in_words, same_trend, show_claims)
from course_lib.results import measured, measured_card, published, shipped_file
from course_lib.training import load_trained, read_card

# %% [markdown]
# ## 20.1 From fixed stems to a question
#
# Three songs of the band, from its test songs, mono at 16 kHz, which is the rate of chapter 13's tagger:

# %%
rate = 16_000
wanted_songs = {"a": 5, "b": 3, "c": 0}                              # places among the test songs
songs = dict(zip(wanted_songs, mono_tracks(
    lambda: [open_tracks("band", "test", count=6)[n] for n in wanted_songs.values()],
    rate, 20.0, stems=SIX_STEMS)))

def piece(song, stem, start=8.0, seconds=P.seconds):
    """A few seconds of a stem of a song, (time,)."""
    return songs[song].read(stem, round(start * rate), round(seconds * rate))[0]

# %% [markdown]
# What plays in the first of them? The generator knows:

# %%
parts = {name: piece("a", name) for name in SIX_STEMS}
here = experiment.sources_of(205)                                    # of the same song
show_table([[stem, ", ".join(sorted(one.tags)), float(20 * rms_db)] for stem, one, rms_db in zip(
    SIX_STEMS, here, [parts[stem].square().mean().sqrt().log10() for stem in SIX_STEMS])],
    ["source", "tags", "level, dB"], digits=0, caption="Song a: its sources.")
mixture = sum(parts.values())
listen(mixture, rate, "song a, the mixture")

# %% [markdown]
# A separator with fixed stems is one function with $N$ outputs. A separator that is **asked** is a function of two arguments with one output:
#
# $$ (\hat s_1, \dots, \hat s_N) = f(x), \qquad\qquad \hat y = f(x, c). \tag{20.1} $$
#
# $x$ is the mixture and $c$ the **condition**, a vector made of the question. The left one has to know all its stems when it is built; each further stem is one more output. The right one has one output however many questions there are. What should it give? If $Q$ is the set of sources that answer the question,
#
# $$ x = \sum_i s_i, \qquad y = \sum_{i \in Q} s_i, \tag{20.2} $$
#
# and that is also right where $Q$ holds several sources, or none: then the target is **silence**.

# %%
#| export
def mixture_and_target(sources: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """What is heard and what is wanted (eq. 20.2): sources (..., source, time), asked (..., source)
    of True and False, to mixture and target, (..., time) each.

    Nothing asked, or nothing of it in the song: the target is silence. ValueError for shapes that
    don't fit, and for `asked` that isn't bool. Source: section 20.1.
    """
    check_audio(sources=sources)
    if sources.ndim < 2 or asked.shape != sources.shape[:-1] or asked.dtype != torch.bool:
        raise ValueError(f"sources has shape {tuple(sources.shape)}, asked {tuple(asked.shape)} of "
                         f"{asked.dtype}; expected (..., source, time) and (..., source) of bool")
    return sources.sum(-2), torch.where(asked.unsqueeze(-1), sources, 0.0).sum(-2)

# %% [markdown]
# "Guitar", "guitar and piano", and "brass", which this song hasn't got:

# %%
sources = torch.stack([parts[stem] for stem in SIX_STEMS])           # (source, time)
questions = {"guitar": ("guitar",), "guitar and piano": ("guitar", "piano"), "brass": ()}
for words, stems in questions.items():
    asked = torch.tensor([stem in stems for stem in SIX_STEMS])
    x, y = mixture_and_target(sources, asked)
    level = 20 * torch.log10(y.square().mean().sqrt() / x.square().mean().sqrt() + 1e-6)
    print(f"{words}: {level:.0f} dB against the mixture")
    if stems:
        listen(y, rate, f"the answer to: {words}")
assert not y.any()

# %% [markdown]
# How many different answers does a song of six sources have?
#
# <details><summary>Quick question</summary>
#
# Each source is in the answer or not: $2^6 = 64$, silence and the whole mixture among them. A network with one output for each of them would be absurd; with a question it is one network.
# </details>

# %% [markdown]
# ## 20.2 Three ways to ask
#
# **By a tag.** Number the tags that may be asked, and write 1 at the place of the tag, 0 elsewhere (*one-hot*). A matrix $W$ with a learned column for each tag makes the condition of it. Several tags are several ones, and their columns are added:
#
# $$ c = W t = \sum_{k : t_k = 1} W_{:,k}. \tag{20.3} $$
#
# A tag that is asked twice is asked once: a question is a set.

# %%
#| export
def tag_vector(tags: str | Iterable[str], known: Sequence[str]) -> Tensor:
    """A query by tags (eq. 20.3): (tag,) with 1 at each tag that is asked, 0 elsewhere.

    tags: one or more of `known`; a tag that is asked twice counts once. ValueError for none at all
    and for an unknown one, naming the known ones. Source: section 20.2.
    """
    asked = [tags] if isinstance(tags, str) else list(tags)
    unknown = [tag for tag in asked if tag not in known]
    if unknown or not asked:
        raise ValueError(f"tags is {', '.join(map(repr, unknown)) or 'empty'}; expected one or "
                         f"more of {', '.join(known)}; ask for another sound by an example of it")
    return torch.tensor([float(tag in asked) for tag in known])

# %% [markdown]
# The tags of this chapter's network, three questions, and one that it has no name for:

# %%
known = experiment.KNOWN
print(known)
for tags in ("piano", ["piano", "guitar"], ["piano", "guitar", "piano"]):
    print(tags, tag_vector(tags, known).int().tolist())
try:
    tag_vector("theremin", known)
except ValueError as error:
    print(error)

# %% [markdown]
# **By an example.** Somebody plays what is meant. Chapter 13's tagger listens to five seconds and says which instruments it hears; what its *last layer is given* is a vector that knows more than the nine tags: it is the tagger's description of the sound. We take the tagger as it is, **frozen**, and cut it open before the last layer.

# %%
tagger = load_trained("tagger_band").requires_grad_(False)

d = Diagram()
audio = d.block("example", f"{tagger.samples}", kind="data")
levels = d.block("mel levels", "64 x 157", after=audio)
convs = d.block("five layers of\nconvolutions", f"{tagger.dense.in_features}", after=levels,
                kind="frozen")
dense = d.block("last layer", f"{tagger.dense.out_features} tags", after=convs, kind="frozen")
emb = d.block("embedding", f"{tagger.dense.in_features}", after=convs, place="below", kind="data")
show(d.draw(), "An example becomes the vector that the tagger's last layer is given.", d.in_words())
assert tuple(tagger.levels(torch.zeros(1, tagger.samples)).shape) == (1, 64, 157)

# %% [markdown]
# A hook catches what the layer is given:

# %%
#| export
def penultimate(tagger: Tagger, x: Tensor) -> Tensor:
    """What a tagger's last layer hears: audio (batch, time) to (batch, feature).

    tagger: chapter 13's, with a last layer `dense`; its parameters get no gradients. ValueError for
    another network, and as the tagger. Source: section 20.2.
    """
    if not isinstance(getattr(tagger, "dense", None), nn.Linear):
        raise ValueError(f"tagger is {type(tagger).__name__}; expected a network of chapter 13 "
                         "whose last layer is called dense, for example tagger_band")
    kept = []
    hook = tagger.dense.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        with torch.no_grad():
            tagger(x)
    finally:
        hook.remove()
    return kept[0]

# %% [markdown]
# A check that it is the right vector: the last layer and a sigmoid make the tagger's output of it.

# %%
heard = torch.stack([piece("a", "guitar", seconds=5.0), piece("a", "drums", seconds=5.0)])
e = penultimate(tagger, heard)                                       # (batch, feature)
assert torch.allclose(tagger.dense(e).sigmoid(), tagger(heard), atol=1e-6)
print(tuple(e.shape))

# %% [markdown]
# What may be an example? Half a second at least. And not silence: it is valid audio everywhere in this course, but as a question it says nothing, and an answer to it would be made up. So it is refused, with a message:

# %%
#| export
LEAST_EXAMPLE, SILENT = 0.5, 1e-5                     # seconds; RMS


def check_example(x: Tensor, rate: int) -> None:
    """ValueError for audio that can't be an example: not (time,), shorter than half a second, not
    finite, or silent: silence is valid audio, but it says nothing of an instrument."""
    check_audio(example=x)
    if x.ndim != 1 or x.shape[0] < LEAST_EXAMPLE * rate:
        raise ValueError(f"example has shape {tuple(x.shape)}; expected (time,), mono, with at "
                         f"least {LEAST_EXAMPLE:g} s, {round(LEAST_EXAMPLE * rate)} samples at "
                         f"{rate} Hz")
    if not bool(x.isfinite().all()):
        raise ValueError("example holds NaN or infinity; expected finite samples")
    if rms(x) < SILENT:
        raise ValueError(f"example is silent (RMS {float(rms(x)):.1g}); expected the sound that is "
                         "asked for: silence says nothing of an instrument")


def rms(x: Tensor) -> Tensor:
    """Root mean square over time: (..., time) to (...)."""
    return x.square().mean(-1).sqrt()

# %% [markdown]
# The embedding should say *what* sounds, not how loud it was recorded. So the audio is brought to one level first, chunk by chunk, and chunks in which the instrument pauses are left out:
#
# $$ e = \frac{1}{|K|} \sum_{k \in K} \text{tagger}\Big(\ell \frac{a_k}{\text{rms}(a_k)}\Big), \qquad K = \{k : \text{rms}(a_k) \ge \tfrac{1}{20} \max_j \text{rms}(a_j)\}. \tag{20.4} $$

# %%
#| export
def embed_example(tagger: Tagger, x: Tensor, level: float = 0.1) -> Tensor:
    """A query by example (eq. 20.4): audio (time,) at the tagger's rate to its embedding,
    (feature,).

    Chunks of the tagger's length, each brought to the RMS `level`, are averaged; silent ones don't
    count, a short last one is repeated. So an example says what sounds, not how loud. ValueError as
    `check_example`. Source: section 20.2.
    """
    check_example(x, tagger.rate)
    chunks = in_chunks(x[None], tagger.samples, "repeat")[0]                   # (chunk, samples)
    levels = rms(chunks)
    heard = levels >= 0.05 * levels.max()
    return penultimate(tagger, chunks[heard] * (level / levels[heard])[:, None]).mean(0)

# %% [markdown]
# So the level doesn't matter, nor a pause; and silence is refused:

# %%
guitar = piece("b", "guitar", seconds=8.0)
e = embed_example(tagger, guitar)
softly = embed_example(tagger, 1e-3 * guitar)
paused = embed_example(tagger, torch.cat([guitar[:5 * rate], torch.zeros(5 * rate)]))
assert torch.allclose(e, softly, rtol=1e-3, atol=1e-3)
assert torch.allclose(paused, embed_example(tagger, guitar[:5 * rate]), rtol=1e-4, atol=1e-4)
try:
    embed_example(tagger, torch.zeros(rate))
except ValueError as error:
    print(error)

# %% [markdown]
# Do examples of one instrument lie together, in songs that the separator of this chapter never learns from? Here are examples of test songs, and of songs with instruments that it will never hear, in the plane in which the training examples spread most:

# %%
results = lambda table: measured(f"20_query/{table}")
dots = results("embeddings")
kinds = [*known, *experiment.UNSEEN]
colours = plt.get_cmap("tab10")
figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
for n, kind in enumerate(kinds):
    at = np.array([(float(row["first"]), float(row["second"])) for row in dots
                   if row["instrument"] == kind])
    marker = "x" if kind in experiment.UNSEEN else "o"
    axis.scatter(*at.T, s=14, color=colours(n), marker=marker, label=f"{kind} ({len(at)})")
axis.set(xlabel="first direction", ylabel="second direction")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(figure, "Embeddings of examples; crosses: instruments that the separator never hears.",
     "Dots in ten colours: drums and bass make clouds of their own far from the rest; the others "
     "lie along a slanted band, piano and guitar at its lower end, and overlap.")

# %% [markdown]
# The plane shows two of 64 directions. In all of them: how often has the *nearest* training example the same tag? And which tags are nearest to what was never heard?

# %%
rows = []
for kind in kinds:
    near = [row["nearest"] for row in dots if row["instrument"] == kind]
    often = sorted(set(near), key=lambda tag: (-near.count(tag), tag))[:3]
    rows.append([kind, len(near), near.count(kind) / len(near) if kind in known else None,
                 ", ".join(f"{tag} {near.count(tag) / len(near):.0%}" for tag in often)])
show_table(rows, ["examples of", "how many", "nearest is the same", "nearest are"], digits=2,
           caption="Nearest training example by the angle between standardised embeddings.")
same = np.mean([row["nearest"] == row["instrument"] for row in dots if row["instrument"] in known])
print(f"same tag, of all known: {same:.0%}")
assert same > 2 / len(known)

# %% [markdown]
# **By both.** Conditions are vectors, so a tag and an example, or two examples, can be added, as in (20.3). And there are more forms, which we don't build: a sentence (AudioSep, whose text and audio share a space), a mel picture, a hummed melody.

# %% [markdown]
# ## 20.3 FiLM
#
# How does a vector get into a network? *Feature-wise linear modulation* (Perez et al. 2018) gives every channel of a layer a factor and an offset that depend on the condition:
#
# $$ \text{FiLM}(h)_{b, \dots, k} = \gamma_k(c_b)\, h_{b, \dots, k} + \beta_k(c_b). \tag{20.5} $$
#
# The same $\gamma_k, \beta_k$ at all frames. A factor near 0 switches a channel off, a negative one turns it round, an offset in front of a ReLU decides how much of it passes.

# %%
#| export
def modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """FiLM (eq. 20.5): x (batch, ..., channel) times gamma plus beta, (batch, channel) each.

    What is between batch and channel is treated alike. ValueError for shapes that don't fit.
    Source: Perez et al. 2018; section 20.3.
    """
    if x.ndim < 2 or not (gamma.shape == beta.shape == (x.shape[0], x.shape[-1])):
        raise ValueError(f"x has shape {tuple(x.shape)}, gamma {tuple(gamma.shape)}, beta "
                         f"{tuple(beta.shape)}; expected (batch, ..., channel), (batch, channel) "
                         "and (batch, channel)")
    between = (len(gamma), *[1] * (x.ndim - 2), gamma.shape[-1])
    return x * gamma.reshape(between) + beta.reshape(between)

# %% [markdown]
# By hand, one number at a time:

# %%
g = torch.Generator().manual_seed(0)
h = torch.randn(2, 5, 3, generator=g)                                # (batch, frame, channel)
gamma, beta = torch.randn(2, 3, generator=g), torch.randn(2, 3, generator=g)
by_hand = torch.empty_like(h)
for b in range(2):
    for m in range(5):
        for k in range(3):
            by_hand[b, m, k] = gamma[b, k] * h[b, m, k] + beta[b, k]
assert torch.allclose(modulate(h, gamma, beta), by_hand, atol=1e-6)

# %% [markdown]
# $\gamma$ and $\beta$ come from a linear layer of the condition. It gives $\gamma - 1$, and begins at zero: **a new FiLM changes nothing**, whatever is asked, and the network learns to listen to the question step by step.
#
# $$ \gamma(c) = 1 + A c + a, \qquad \beta(c) = B c + b, \qquad \text{at first } A = B = 0,\ a = b = 0. \tag{20.6} $$

# %%
#| export
class FiLM(nn.Module):
    """Feature-wise linear modulation: x (batch, ..., channel) and a condition (batch, entry) to x's
    shape, by a linear layer that gives gamma - 1 and beta.

    A new one changes nothing, whatever the condition. scale: False leaves gamma at 1, a bias.
    Source: Perez et al. 2018, section 2; section 20.3.
    """

    def __init__(self, condition: int, channels: int, scale: bool = True):
        super().__init__()
        self.scale = scale
        self.to_film = nn.Linear(condition, (2 if scale else 1) * channels)
        nn.init.zeros_(self.to_film.weight)
        nn.init.zeros_(self.to_film.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        if self.scale:
            change, beta = self.to_film(c).chunk(2, dim=-1)
        else:
            beta = self.to_film(c)
            change = torch.zeros_like(beta)
        return modulate(x, 1 + change, beta)

# %% [markdown]
# A new one is the identity; with other weights it is (20.6):

# %%
film, c = FiLM(4, 3), torch.randn(2, 4, generator=g)
assert torch.equal(film(h, c), h)                                    # identity at first
torch.nn.init.normal_(film.to_film.weight, generator=g)
assert not torch.allclose(film(h, c), h)
change, beta = film.to_film(c).chunk(2, dim=-1)
assert torch.allclose(film(h, c), (1 + change)[:, None] * h + beta[:, None], atol=1e-6)

# %% [markdown]
# **Concatenation is FiLM without the factor.** The obvious way to give a network a vector is to append it to the input of a layer. But a linear layer of $[h; c]$ is a linear layer of $h$ plus a linear layer of $c$:
#
# $$ [\,U \;\; V\,] \begin{bmatrix} h \\ c \end{bmatrix} = U h + V c, \tag{20.7} $$
#
# an offset $\beta = Vc$ behind the layer, and $\gamma = 1$. With offsets alone a question can shift channels, but not multiply them.

# %%
joint = torch.nn.Linear(3 + 4, 6, bias=False)
appended = joint(torch.cat([h, c[:, None].expand(-1, 5, -1)], dim=-1))
bias_only = FiLM(4, 6, scale=False)
with torch.no_grad():
    bias_only.to_film.weight.copy_(joint.weight[:, 3:])              # V
assert torch.allclose(bias_only(h @ joint.weight[:, :3].T, c), appended, atol=1e-6)

# %% [markdown]
# And what is more general than FiLM? A network whose *weights* are computed from the condition, a **hypernetwork**. A layer of $n$ by $m$ numbers then needs $nm$ outputs of the network that makes them; FiLM needs $2n$. FiLM is the hypernetwork that may only scale rows and set biases:

# %%
U, one = torch.randn(6, 3, generator=g), c[0]
film6 = FiLM(4, 6)
torch.nn.init.normal_(film6.to_film.weight, generator=g)
change, beta = film6.to_film(one).chunk(2)
made = torch.diag(1 + change) @ U                                    # a weight matrix for this c
assert torch.allclose(film6(h[:1] @ U.T, one[None]), h[:1] @ made.T + beta, atol=1e-5)
print(f"numbers to make for a layer of 192 by 384: {192 * 384:,} or {2 * 192}")

# %% [markdown]
# <details><summary>Quick question: batch norm has a factor and an offset for each channel, too. What is FiLM behind a batch norm?</summary>
#
# Batch norm whose factor and offset depend on the condition: *conditional batch norm*, FiLM's forerunner. In our network FiLM stands behind batch norms.
# </details>

# %% [markdown]
# ## 20.4 Both kinds of question in one space
#
# A tag's vector has as many entries as there are tags, an embedding 64. Two small networks bring both into one space, so that the rest needn't know how it was asked. Embeddings are standardised with the mean and deviation of the training examples, which stay with the weights.

# %%
#| export
class QueryEncoder(nn.Module):
    """Queries of both kinds in one space, (batch, dim): by tags and by the embedding of an example.

    tags: their names. embedding: numbers of an embedding. `mean` and `deviation` of embeddings are
    kept with the weights. Section 20.4.
    """

    def __init__(self, tags: Sequence[str], embedding: int, dim: int):
        super().__init__()
        self.tags = tuple(tags)
        self.tag_table = nn.Linear(len(self.tags), dim, bias=False)
        self.from_example = nn.Sequential(nn.Linear(embedding, dim), nn.ReLU(), nn.Linear(dim, dim))
        nn.init.normal_(self.tag_table.weight, std=0.5)
        self.register_buffer("mean", torch.zeros(embedding))
        self.register_buffer("deviation", torch.ones(embedding))

    def of_tags(self, on: Tensor) -> Tensor:
        """Vectors of 0 and 1, (batch, tag), to the sums of their tags' vectors."""
        return self.tag_table(on)

    def of_example(self, embedding: Tensor) -> Tensor:
        """Embeddings (..., feature) to conditions (..., dim)."""
        return self.from_example((embedding - self.mean) / self.deviation)

# %%
torch.manual_seed(0)
encoder = QueryEncoder(known, tagger.dense.in_features, 32)
both = encoder.of_tags(tag_vector(["piano", "guitar"], known))
apart = encoder.of_tags(tag_vector("piano", known)) + encoder.of_tags(tag_vector("guitar", known))
assert torch.allclose(both, apart, atol=1e-6) and encoder.of_example(e).shape == both.shape

# %% [markdown]
# ## 20.5 The network
#
# Conditioned U-Net (2019) put FiLM into the encoder of a U-Net, with a one-hot question for each of four stems. Banquet (2024) takes Band-Split RNN of chapter 18, lets the encoder hear the mixture *without* the question, modulates at the **bottleneck** and has one decoder for all questions. Its question is an example, embedded by a large instrument recogniser. The second way has a charm: what is heard of the mixture needn't be computed again for the next question.
#
# We do the same with chapter 4's Open-Unmix, which chapter 18 found to learn fastest in little time:

# %%
H, Q = 192, 4
d = Diagram()
mix_in = d.block("mixture", "48000", kind="data")
X_in = d.block("STFT", "513 x 94", after=mix_in)
front = d.block("fc1, norm,\ntanh", f"94 x {H}", after=X_in, kind="trained")
middle = d.block("BLSTM\nand skip", f"94 x {2 * H}", after=front, kind="trained")
film_1 = d.block("FiLM", f"{Q} x 94 x {2 * H}", after=middle, kind="trained")
back = d.block("fc2, norm,\nFiLM, ReLU", f"{Q} x 94 x {H}", after=film_1, kind="trained")
mask = d.block("fc3", f"{Q} x 513 x 94", after=back, kind="trained")
times = d.join("×", after=mask)
d.arrow(X_in, times, route="under", reach=0.4)
out = d.block("inverse\nSTFT", f"{Q} x 48000", after=times, kind="data", gap=0.25)
ask_in = d.block("questions", f"{Q} x 32", after=film_1, place="above", kind="data", arrow=False)
d.arrow(ask_in, film_1)
d.arrow(ask_in, back, route="corner")
show(d.draw(), f"Three seconds of a mixture, {Q} questions: bins x frames, frames x channels. Left "
     "of the first FiLM everything is computed once.", d.in_words())

# %% [markdown]
# In plain words, for one mixture and one question, before the class:

# %%
def plain_answer(net, x, c):
    """Audio (time,) and a condition (condition,) to the answer, (time,); net: its layers."""
    X = stft(x, net.n_fft, net.hop_length)                           # (bin, frame)
    level = X.abs().square().mean().sqrt()
    v = ((X.abs() / level) ** 0.3).T                                 # (frame, bin), soft parts up
    v = (v - net.input_mean) * net.input_scale
    h = torch.tanh(net.bn1(net.fc1(v)))                              # (frame, hidden)
    h = torch.cat([h, net.lstm(h[None])[0][0]], dim=-1)              # (frame, 2 hidden)
    h = net.films["bottleneck"](h[None], c[None])[0]
    h = net.bn2(net.fc2(h))
    h = torch.relu(net.films["last"](h[None], c[None])[0])
    return istft(net.fc3(h).T * X, net.n_fft, net.hop_length, length=len(x))

# %% [markdown]
# The mask is any real number, where chapter 4 had a ReLU. Why not a sigmoid, which keeps it between 0 and 1? Many answers are nearly silent, and a mask that a sigmoid has once pushed towards 0 hardly gets back, for there its derivative is nearly 0, too:

# %%
z = torch.tensor([0.0, -4.0, -8.0], requires_grad=True)
z.sigmoid().sum().backward()
print([f"mask {float(m):.4f}, derivative {float(slope):.4f}"
       for m, slope in zip(z.detach().sigmoid(), z.grad)])
assert z.grad[2] < 0.001

# %% [markdown]
# The class takes batches and several questions to each mixture. `where` says at which places FiLM stands, for the comparison of section 20.8; where the question comes in before the LSTM, every question is a pass of its own.

# %%
#| export
WHERE = {"every": ("first", "bottleneck", "last"), "behind": ("bottleneck", "last"),
         "bottleneck": ("bottleneck",), "first": ("first",), "concatenation": ()}


class QueryLayers(nn.Module):
    """The layers of `QueryUnmix`, which says what its arguments are. Section 20.5."""

    def __init__(self, tags: Sequence[str], hidden_size: int = 192, condition: int = 32,
                 embedding: int = 64, nb_layers: int = 2, n_fft: int = 1024, hop_length: int = 512,
                 samplerate: int = 16_000, segment: float = 3.0, where: str = "behind"):
        super().__init__()
        if where not in WHERE:
            raise ValueError(f"where is {where!r}; expected one of {', '.join(WHERE)}")
        self.n_fft, self.hop_length, self.where = n_fft, hop_length, where
        self.samplerate, self.segment, bins = samplerate, segment, n_fft // 2 + 1
        self.query = QueryEncoder(tags, embedding, condition)
        more = condition if where == "concatenation" else 0
        self.fc1 = nn.Linear(bins + more, hidden_size, bias=False)
        self.lstm = nn.LSTM(hidden_size, hidden_size // 2, nb_layers, batch_first=True,
                            bidirectional=True)
        self.fc2 = nn.Linear(2 * hidden_size, hidden_size, bias=False)
        self.fc3 = nn.Linear(hidden_size, bins)
        self.bn1, self.bn2 = nn.BatchNorm1d(hidden_size), nn.BatchNorm1d(hidden_size)
        sizes = {"first": hidden_size, "bottleneck": 2 * hidden_size, "last": hidden_size}
        self.films = nn.ModuleDict({name: FiLM(condition, sizes[name]) for name in WHERE[where]})
        self.register_buffer("input_mean", torch.zeros(bins))
        self.register_buffer("input_scale", torch.ones(bins))

    @property
    def tags(self) -> tuple[str, ...]:
        return self.query.tags

# %% [markdown]
# What it does with them: look at the spectra, hear them, and make a mask for each question.

# %%
#| export
class QueryUnmix(QueryLayers):
    """Chapter 4's Open-Unmix, asked: audio (batch, 1, time) and conditions (batch, question,
    condition) to an answer to every question, (batch, question, 1, time).

    tags: that can be asked by name. hidden_size: width, even. nb_layers: of the LSTM. where: at
    which places a condition comes in by FiLM, a key of WHERE; "concatenation": beside the input.
    embedding: numbers of an example's embedding. segment: seconds it learned on. ValueError for
    other shapes and an unknown place. Sources: Stöter et al. 2019, Perez et al. 2018, Watcharasupat
    and Lerch 2024; section 20.5.
    """

    audio_channels = 1

    def seen(self, X: Tensor) -> Tensor:
        """Spectra (batch, bin, frame) as the network sees them, whatever their level: (batch,
        frame, bin)."""
        level = X.abs().square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-8)
        return ((X.abs() / level) ** 0.3).mT.sub(self.input_mean).mul(self.input_scale)

    def film(self, name: str, x: Tensor, c: Tensor) -> Tensor:
        return self.films[name](x, c) if name in self.films else x

    def encode(self, x: Tensor, c: Tensor) -> Tensor:
        """What the LSTM has heard: (batch, frame, bin) to (batch, frame, 2 hidden). c: a condition
        for each of the batch; it counts only where it comes in that early."""
        if self.where == "concatenation":
            x = torch.cat([x, c.unsqueeze(1).expand(-1, x.shape[1], -1)], dim=-1)
        x = self.bn1(self.fc1(x).mT).mT                                  # (batch, frame, hidden)
        x = torch.tanh(self.film("first", x, c))
        return torch.cat([x, self.lstm(x)[0]], dim=-1)

    def masks(self, X: Tensor, c: Tensor) -> Tensor:
        """The masks alone, real numbers of any sign: spectra (batch, bin, frame) and conditions
        (batch, question, condition) to (batch, question, bin, frame)."""
        batch, questions = c.shape[:2]
        x, c = self.seen(X), c.flatten(0, 1)
        early = self.where in ("every", "first", "concatenation")        # a pass a question
        repeat = lambda y: y.repeat_interleave(questions, dim=0)
        x = self.encode(repeat(x), c) if early else repeat(self.encode(x, c))
        x = self.film("bottleneck", x, c)                    # (batch * question, frame, 2 hidden)
        x = self.bn2(self.fc2(x).mT).mT
        x = F.relu(self.film("last", x, c))
        return self.fc3(x).mT.unflatten(0, (batch, questions))

    def forward(self, mix: Tensor, c: Tensor) -> Tensor:
        check_audio(mix=mix)
        if mix.ndim != 3 or mix.shape[1] != 1 or mix.shape[2] < self.n_fft:
            raise ValueError(f"mix has shape {tuple(mix.shape)}; expected (batch, 1, time), mono, "
                             f"with at least {self.n_fft} samples: `ask` takes any length")
        numbers = self.query.tag_table.out_features
        if c.ndim != 3 or len(c) != len(mix) or c.shape[2] != numbers:
            raise ValueError(f"c has shape {tuple(c.shape)}; expected (batch, question, condition):"
                             f" {len(mix)} mixtures, conditions of {numbers} numbers")
        X = stft(mix[:, 0], self.n_fft, self.hop_length)
        S = self.masks(X, c) * X.unsqueeze(1)                            # (batch, question, bin, m)
        return istft(S, self.n_fft, self.hop_length, length=mix.shape[-1]).unsqueeze(2)

# %% [markdown]
# It equals the plain version, a new one answers every question alike, and it is small:

# %%
torch.manual_seed(0)
net = QueryUnmix(known).eval()
c = torch.randn(1, 3, 32, generator=g)
with torch.no_grad():
    x = mixture[None, None, :3 * rate]
    new = net(x, c)                                                  # (1, question, 1, time)
    assert torch.allclose(new[0, 0], new[0, 2], atol=1e-6)
    for one in net.films.values():
        torch.nn.init.normal_(one.to_film.weight, std=0.1, generator=g)
    answers = net(x, c)
    for n in range(3):
        assert torch.allclose(answers[0, n, 0], plain_answer(net, x[0, 0], c[0, n]), atol=1e-5)
print(f"{sum(p.numel() for p in net.parameters()):,} weights")

# %% [markdown]
# What do questions cost? Multiplications of the matrices, for one frame: what lies left of the first FiLM, and what every question adds.

# %%
bins, lstm = 513, sum(p.numel() for name, p in net.lstm.named_parameters() if "weight" in name)
once = bins * H + lstm
each = 2 * H * H + H * bins
print(f"once: {once:,}; a question: {each:,}; eight questions instead of one: "
      f"{(once + 8 * each) / (once + each):.1f} times as much")
assert once == net.fc1.weight.numel() + lstm
assert each == net.fc2.weight.numel() + net.fc3.weight.numel()

# %% [markdown]
# ## 20.6 Learning to listen to a question
#
# **A loss that survives silence.** The SDR of a silent target is minus infinity whatever the answer is. Chapter 4's loss (4.9) isn't relative to the target, but to the *mixture*, with a floor:
#
# $$ L = 10 \log_{10}\left( \frac{\lVert \hat y - y \rVert^2}{\lVert x \rVert^2} + \tau \right). \tag{20.8} $$
#
# With $y = 0$ it is the level of what comes out although nothing should, and what lies $\tau$ under the mixture, here 15 dB, counts as solved.

# %%
#| export
def query_loss(estimate: Tensor, target: Tensor, mixture: Tensor, floor: float = 0.03) -> Tensor:
    """The error's level against the mixture in dB, a number (eq. 20.8): defined for silent targets.

    All (batch, ..., time). floor: what lies that far under the mixture counts as solved: 0.03 is 15
    dB. A silent mixture gives the floor's level where the estimate is silent too. ValueError for
    shapes that differ. Source: section 20.6; the floor: Wisdom et al. 2020.
    """
    if not estimate.shape == target.shape == mixture.shape or estimate.ndim < 2:
        raise ValueError(f"estimate has shape {tuple(estimate.shape)}, target "
                         f"{tuple(target.shape)}, mixture {tuple(mixture.shape)}; expected the "
                         "same, (batch, ..., time)")
    error = (estimate - target).square().flatten(1).sum(1)
    level = mixture.square().flatten(1).sum(1).clamp_min(1e-8)
    return (10 * torch.log10(error / level + floor)).mean()

# %% [markdown]
# Four answers and what they cost:

# %%
x, silent = mixture[None], torch.zeros_like(mixture[None])
for words, answer, target in (("silence for silence", silent, silent),
                              ("a tenth of the mixture for silence", 0.1 * x, silent),
                              ("the mixture for silence", x, silent),
                              ("silence for the guitar", silent, parts["guitar"][None])):
    print(f"{words}: {float(query_loss(answer, target, x)):.1f} dB")
assert abs(float(query_loss(silent, silent, x)) - 10 * np.log10(0.03)) < 1e-3
assert torch.isfinite(query_loss(silent, silent, silent))

# %% [markdown]
# **The floor is a price.** Chapter 4 had it 30 dB under the mixture. Take a network that isn't sure yet whether a guitar plays, and the simplest thing that it can do: pass the mixture on at a constant gain. That helps a little where the guitar is there, and hurts where it isn't. By how much, with either floor?

# %%
target = 0.5 ** 0.5 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
rest = 0.5 ** 0.5 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
both = target + rest                                                 # half of it is guitar
for floor in (1e-3, 0.03):
    change = lambda y, gain: float(query_loss(gain * both, y, both, floor)
                                   - query_loss(0 * both, y, both, floor))
    print(f"floor {10 * np.log10(floor):.0f} dB: where it plays {change(target, 0.3):+.1f} dB, "
          f"where nothing of it plays {change(0 * target, 0.3):+.1f} dB")

# %% [markdown]
# With the low floor a false alarm costs far more than a hit brings, and a network that isn't sure does best to say *nothing*. With $\tau$ at 15 dB a false alarm is dear, but not that dear; the price is that nobody pays for making silence more silent than that. That is what the formula says; whether it matters in training, section 20.8 measures.

# %% [markdown]
# Without questions for what isn't there, a network learns that something is *always* there, and gives the most similar sound it can find. So now and then one of a mixture's questions is for a missing tag.
#
# **An example must not give the answer away.** If the example were cut from the target itself, the network could learn to look for *this* recording: this melody, this reverberation. In use the example is always another recording. So it is drawn from **another song**:
#
# $$ \text{example} \sim \{\, j : \text{tag}_j = \text{tag}, \ \text{song}_j \ne \text{song} \,\}, \text{ all equally likely}. \tag{20.9} $$

# %%
#| export
def draw_example(tags: Sequence[str], songs: Sequence[object], tag: str, song: object,
                 generator: torch.Generator) -> int:
    """The index of an example of a tag from any song but `song`, all equally likely (eq. 20.9).

    tags, songs: of every example there is. ValueError for lists of different lengths, and where no
    other song has one. Source: section 20.6.
    """
    if len(tags) != len(songs):
        raise ValueError(f"there are {len(tags)} tags and {len(songs)} songs; expected one of each "
                         "for every example")
    fit = [n for n, (one, of) in enumerate(zip(tags, songs)) if one == tag and of != song]
    if not fit:
        raise ValueError(f"no song but {song!r} has an example of {tag!r}; add songs, or ask by "
                         "its tag")
    return fit[int(torch.randint(len(fit), (), generator=generator))]

# %%
example_tags, example_songs = ["piano", "guitar", "piano", "piano"], ["a", "a", "b", "c"]
drawn = [draw_example(example_tags, example_songs, "piano", "a", g) for _ in range(200)]
print({example_songs[n]: drawn.count(n) for n in sorted(set(drawn))})
assert set(drawn) == {2, 3}

# %% [markdown]
# A training step: mixtures with several questions each, some asked by tags, some by examples. (`weights` says which of two examples count: a question for two instruments by example adds the conditions of two.)

# %%
#| export
class QueryStep:
    """A training step: several questions of both kinds to each mixture; `query_loss` in dB.

    Called with (model, batch): mixture (batch, time); targets (batch, question, time); tags (batch,
    question, tag) of 0 and 1; examples (batch, question, example, feature) with weights (batch,
    question, example); by_example (batch, question), 1 where the examples ask, 0 where the tags do.
    kinds: "both", or "tags" or "examples" for all. ValueError for other words. Section 20.6.
    """

    def __init__(self, floor: float = 0.03, kinds: str = "both"):
        if kinds not in ("both", "tags", "examples"):
            raise ValueError(f"kinds is {kinds!r}; expected both, tags or examples")
        self.floor, self.kinds = floor, kinds

    def __call__(self, model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        mixture, targets, tags, examples, weights, by_example = batch
        query = getattr(model, "module", model).query                # beneath accelerate's wrapper
        by_tag = query.of_tags(tags)                                 # (batch, question, condition)
        heard = (query.of_example(examples) * weights.unsqueeze(-1)).sum(2)
        share = {"tags": 0.0, "examples": 1.0}.get(self.kinds, by_example.unsqueeze(-1))
        answers = model(mixture.unsqueeze(1), by_tag + share * (heard - by_tag))
        mixture = mixture.unsqueeze(1).expand_as(targets)
        pairs = (one.flatten(0, 1) for one in (answers[:, :, 0], targets, mixture))
        return query_loss(*pairs, self.floor)

# %% [markdown]
# **In small.** Three made-up instruments: a hum, a beep, and ticks; every mixture holds all three, with other pitches and rhythms each time. There is nothing to learn but to listen to the question.

# %%
def toy_sources(g, samples=4096):
    """A hum of 12 partials, a sine that beeps, ticks: (3, time) at 8 kHz."""
    t, draw = torch.arange(samples) / 8000, lambda: float(torch.rand((), generator=g))
    f = 80 + 60 * draw()
    hum = sum(torch.sin(2 * torch.pi * k * f * t + 6 * draw()) / k for k in range(1, 13))
    beep = torch.sin(2 * torch.pi * (1800 + 1400 * draw()) * t)
    beep = beep * (torch.sin(2 * torch.pi * (3 + 3 * draw()) * t + 6 * draw()) > 0)
    ticks = torch.randn(samples, generator=g) * torch.exp(-((t * (8 + 6 * draw())) % 1) * 12)
    return torch.stack([0.5 * hum, beep, ticks])

toys = ("hum", "beep", "ticks")
example_toy = toy_sources(torch.Generator().manual_seed(1))
for name, sound in zip(toys, example_toy):
    listen(0.3 * sound, 8000, name)

# %% [markdown]
# Batches as the step takes them: three questions, one for each tag; no examples here.

# %%
def toy_batch(g, size=3):
    s = torch.stack([toy_sources(g) for _ in range(size)])           # (batch, source, time)
    tags = torch.eye(3).expand(size, 3, 3)
    nothing = torch.zeros(size, 3, 1, 8), torch.zeros(size, 3, 1), torch.zeros(size, 3)
    return s.sum(1), s, tags, *nothing

torch.manual_seed(0)
small = QueryUnmix(toys, hidden_size=32, condition=8, embedding=8, nb_layers=1, n_fft=256,
                   hop_length=128, samplerate=8000)
step, g = QueryStep(), torch.Generator().manual_seed(0)
optimizer, losses = torch.optim.Adam(small.parameters(), 1e-2), []
for _ in range(70):
    loss = step(small, toy_batch(g))
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(float(loss.detach()))
print(f"loss: {losses[0]:.0f} dB at first, {np.mean(losses[-10:]):.0f} dB in the end")
assert np.mean(losses[-10:]) < losses[0] - 4

# %% [markdown]
# Does it listen? Ask a new mixture for each, and compare each answer with each source, by the share of the answer's energy that lies in the source's direction:

# %%
small.eval()
s = toy_sources(torch.Generator().manual_seed(2))
with torch.no_grad():
    c = small.query.of_tags(torch.eye(3))[None]                      # (1, question, condition)
    found = small(s.sum(0)[None, None], c)[0, :, 0]                  # (question, time)
likeness = (F.normalize(found, dim=1) @ F.normalize(s, dim=1).T).square()
show_table([[f"asked for {name}", *row] for name, row in zip(toys, likeness.tolist())],
           ["", *toys], digits=2, caption="Squared cosine of answers (rows) and sources (columns).")
assert likeness.argmax(1).tolist() == [0, 1, 2] and likeness.diagonal().min() > 0.2

# %% [markdown]
# ## 20.7 Asking
#
# `course train query_band` trained the network of section 20.5 on the band. It can be asked by seven tags. Three kinds of instruments it **never heard**, neither as targets or examples nor in the background of a mixture: brass, winds, and what has no tag in chapter 13 (organ, mallets, banjo and others). Songs where one of them plays alone in its source were set aside for section 20.8; in all others that source was left out of the mixtures. (The *tagger* has heard brass and winds with their names, but has no name for the third kind.)

# %%
model = load_trained("query_band")
card = read_card(shipped_file("checkpoints/query_band.safetensors"))
weights = WHERE[model.where]
show_table([["weights", f"{card['parameters']:,}"], ["steps", f"{card['steps']:,}"],
            ["minutes on the clock, shared machine", f"{card['minutes']:.0f}"],
            ["questions to a mixture", str(card["config"]["data"]["questions"])],
            ["FiLM at", ", ".join(weights)], ["known by name", ", ".join(model.tags)],
            ["never heard", ", ".join(experiment.UNSEEN)]], ["query_band", ""],
           caption=card["command"])
assert card["parameters"] <= 1_000_000 and model.tags == known

# %% [markdown]
# A network and one question together are a separator with one source; so chapter 9's `separate` cuts songs of any length into pieces for us:

# %%
#| export
class Asked(nn.Module):
    """A network and one question as a separator of one source, for chapter 9's `separate`.

    c: the condition, (condition,). name: of the source. segment: seconds of a piece. forward:
    (batch, 1, time) to (batch, 1, 1, time). Section 20.7.
    """

    audio_channels = 1

    def __init__(self, model: QueryUnmix, c: Tensor, name: str = "asked", segment: float = 12.0):
        super().__init__()
        self.sources, self.samplerate, self.segment = (name,), model.samplerate, segment
        self.model = model
        self.register_buffer("c", c)

    def valid_length(self, length: int) -> int:
        return max(length, self.model.n_fft)

    def forward(self, mix: Tensor) -> Tensor:
        return self.model(mix, self.c.expand(len(mix), 1, -1))

# %% [markdown]
# A condition from whatever is at hand, and the answer:

# %%
#| export
@torch.no_grad()
def condition_of(model: QueryUnmix, tags: str | Iterable[str] = (), example: Tensor | None = None,
                 tagger: Tagger | None = None) -> Tensor:
    """The condition of a question, (condition,): by tags, or by an example's embedding (feature,).

    example: an embedding, or audio (time,) at the tagger's rate, with tagger. Tags and example
    together are added. ValueError where nothing is asked, and as `tag_vector`, `embed_example`.
    Section 20.7.
    """
    if not tags and example is None:
        raise ValueError("neither tags nor an example; expected one of them, or both")
    c = torch.zeros(model.query.tag_table.out_features)
    if tags:
        c = c + model.query.of_tags(tag_vector(tags, model.tags)[None])[0]
    if example is not None:
        embedding = example if tagger is None else embed_example(tagger, example)
        if embedding.shape != model.query.mean.shape:
            raise ValueError(f"example has shape {tuple(embedding.shape)}; expected an embedding, "
                             f"{tuple(model.query.mean.shape)}, or audio and a tagger")
        c = c + model.query.of_example(embedding)
    return c

# %% [markdown]
# And the answer, through `separate`:

# %%
#| export
def ask(model: QueryUnmix, mixture: Tensor, c: Tensor, overlap: float = 0.25) -> Tensor:
    """What is asked for: mixture (channel, time) or (batch, channel, time) at the model's rate to
    the same shape.

    c: the condition, (condition,). Audio of any length, in pieces that overlap; every channel by
    itself. ValueError as `separate`. Section 20.7.
    """
    return separate(Asked(model, c), mixture, overlap=overlap).squeeze(-3)

# %% [markdown]
# Song a, asked for everything it has, by name:

# %%
for tag in ("drums", "bass", "vocals", "guitar", "piano", "strings"):
    answer = ask(model, mixture[None], condition_of(model, tag))[0]
    target = parts["other" if tag == "strings" else tag]
    print(f"{tag}: SDR {experiment.sdr(answer, target) - experiment.sdr(mixture, target):+.1f} dB "
          f"above the mixture; silence: {-experiment.sdr(mixture, target):+.1f}")
    listen(answer, rate, f"asked for: {tag}")

# %% [markdown]
# By example: the guitar of song b asks for the guitar of song a. And two tags at once:

# %%
by_example = condition_of(model, example=guitar, tagger=tagger)
two = condition_of(model, ["drums", "bass"])
for name, c, stems in (("guitar, by example", by_example, ("guitar",)),
                       ("drums and bass", two, ("drums", "bass"))):
    answer, target = ask(model, mixture[None], c)[0], sum(parts[stem] for stem in stems)
    gain = experiment.sdr(answer, target) - experiment.sdr(mixture, target)
    print(f"{name}: {gain:+.1f} dB")
    listen(answer, rate, f"asked for: {name}")

# %% [markdown]
# Edges: silence is answered by silence, loudness doesn't matter, any length will do.

# %%
c = condition_of(model, "drums")
assert not ask(model, torch.zeros(1, 8000), c).any()
quiet, loud = ask(model, 1e-4 * mixture[None], c), ask(model, mixture[None], c)
assert torch.allclose(1e4 * quiet, loud, atol=1e-3)
assert ask(model, mixture[None, :1], c).shape == (1, 1)

# %% [markdown]
# An instrument it never heard: the **brass** of song b, asked for by the brass of song c.

# %%
brass, mixture_b = piece("c", "other", 0.0, 10.0), sum(piece("b", stem) for stem in SIX_STEMS)
target = piece("b", "other")
answer = ask(model, mixture_b[None], condition_of(model, example=brass, tagger=tagger))[0]
for name, sound in (("song b", mixture_b), ("the example, brass of song c", brass[:6 * rate]),
                    ("the answer", answer), ("the brass of song b", target)):
    listen(sound, rate, name)
gain = experiment.sdr(answer, target) - experiment.sdr(mixture_b, target)
print(f"{gain:+.1f} dB; silence: {-experiment.sdr(mixture_b, target):+.1f} dB")

# %% [markdown]
# And a **real recording**, from another world than the band:

# %%
real, _ = recording("fishin", start=12.0, seconds=P.seconds, mono=True, rate=rate)
listen(real, rate, "Karissa Hobbs, Let's Go Fishin'")
levels = {}
for tag in known:
    answer = ask(model, real, condition_of(model, tag))
    levels[tag] = float(20 * torch.log10(rms(answer[0]) / rms(real[0])))
    if tag in ("vocals", "guitar", "bass"):
        listen(answer, rate, f"asked for: {tag}")
print("level against the recording, dB:", {tag: round(level) for tag, level in levels.items()})

# %%
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), sharey=True, layout="constrained")
pictures = {"the recording": real[0]} | {
    f"asked for {tag}": ask(model, real, condition_of(model, tag))[0]
    for tag in ("vocals", "guitar", "bass")}
for axis, (name, sound) in zip(axes, pictures.items()):
    db = 20 * torch.log10(stft(sound, 1024, 512).abs().clamp_min(1e-4))[:257]
    picture = axis.imshow(db, origin="lower", aspect="auto", vmin=-50, vmax=30, cmap="magma",
                          extent=(0, P.seconds, 0, 4))
    axis.set(title=name, xlabel="time, s")
axes[0].set_ylabel("frequency, kHz")
figure.colorbar(picture, ax=axes, label="dB")
show(figure, "A real song and three answers, below 4 kHz.",
     "Four spectrograms: the recording, and three answers that show most of its lines more "
     "darkly; the one for bass keeps the lowest lines bright.")

# %% [markdown]
# Different questions, different answers? The squared cosine of two answers is 1 if they are the same sound:

# %%
tones = F.normalize(torch.stack(list(pictures.values())), dim=1)
likeness = (tones @ tones.T).square()
show_table([[name, *row] for name, row in zip(pictures, likeness.tolist())], ["", *pictures],
           digits=2, caption="Squared cosine of the recording and the answers.")

# %% [markdown]
# The network has never heard a voice like this, nor a guitar that was played by hand in a room: its voices are synthesised and its guitars are samples. Listen to how much of the guitar is in the answer to "vocals". This is the band's limit, not the question's.

# %% [markdown]
# ## 20.8 Measured
#
# `course experiment query` asked the network about excerpts of songs that it hasn't learned from, each scored whole, in dB **above the mixture** (SDRi). An improvement flatters a target that is soft in its mixture: *silence* improves it, too, by as much as the mixture is louder than the target. So silence stands beside, as in chapter 14; what isn't above it has separated nothing.

# %%
experiment_card = measured_card("20_query/runs")
used = experiment_card["settings"]
excerpts = results("excerpts")

def table_of(part, score="sdri"):
    """Method -> instrument -> song -> mean over its excerpts."""
    found = {}
    for row in excerpts:
        if row["part"] == part and row[score]:
            found.setdefault(row["method"], {}).setdefault(row["instrument"], {}).setdefault(
                row["song"], []).append(float(row[score]))
    return {method: {tag: {song: float(np.mean(values)) for song, values in by_song.items()}
                     for tag, by_song in tags.items()} for method, tags in found.items()}

# %%
test = table_of(experiment.TEST)
count = {tag: sum(row["part"] == experiment.TEST and row["method"] == "tag"
                  and row["instrument"] == tag for row in excerpts) for tag in known}
tags = [tag for tag in known if tag in test["tag"]]
cell = lambda table, method, tag: mean_interval(list(table[method][tag].values()))
methods = ("tag", "example", "wrong tag", "example of another", "silence", "HT Demucs",
           "Open-Unmix", "ideal ratio mask")
show_table([[f"{tag}, {len(test['tag'][tag])} songs, {count[tag]} excerpts",
             *(cell(test, method, tag) for method in methods)] for tag in tags],
           ["SDRi in dB", *methods], digits=1,
           caption=f"Test songs, excerpts of {used['seconds']:g} s; means over songs with 95% "
                   "intervals. The mixture itself is 0. Fixed stems: the stem that holds the "
                   "instrument, of guitar and all that follow 'other'.")

# %% [markdown]
# The same as SI-SDRi, which silence doesn't have (its direction is undefined):

# %%
si = table_of(experiment.TEST, "si_sdri")
show_table([[tag, *(cell(si, method, tag) for method in methods if method != "silence")]
            for tag in tags], ["SI-SDRi in dB", *(m for m in methods if m != "silence")], digits=1,
           caption="The same excerpts.")

# %% [markdown]
# Differences count by the interval of the pairs, song by song, over all instruments:

# %%
def paired(table, one, other, only=None):
    """Differences of two methods, one a song: the mean over the song's instruments."""
    songs = {}
    for tag, by_song in table[one].items():
        for song, value in by_song.items():
            if only is None or tag in only:
                songs.setdefault(song, []).append(value - table[other][tag][song])
    return np.array([np.mean(values) for values in songs.values()])

comparisons = [("tag", "wrong tag"), ("example", "example of another"), ("tag", "example"),
               ("tag", "silence"), ("example", "silence"), ("tag", "HT Demucs"),
               ("tag", "Open-Unmix")]
for one, other in comparisons:
    print(f"{one} less {other}: {difference_in_words(paired(test, one, other))}")

# %% [markdown]
# By instrument, the question by its tag less silence, and less the fixed stem that holds it:

# %%
for tag in tags:
    print(f"{tag}: less silence {difference_in_words(paired(test, 'tag', 'silence', [tag]))}; less "
          f"HT Demucs {difference_in_words(paired(test, 'tag', 'HT Demucs', [tag]))}")

# %% [markdown]
# **It listens.** A wrong question costs more than three decibels, and tag and example are worth the same. **It separates** drums, bass, vocals and piano: it is above silence there. Guitar and strings it isn't told apart from silence by SDR, though the positive SI-SDRi says that the answers point the right way. **Against fixed stems** it is behind on what they have a stem for, and its mean is ahead where their stem is "other", which holds the other instruments of the song, too. Is that lead told from zero?

# %%
assert same_trend(paired(test, "tag", "wrong tag")) == SAME_TREND
for names in (("drums", "bass", "vocals"), ("guitar", "piano"), ("strings",)):
    for rival in ("HT Demucs", "Open-Unmix"):
        print(f"{', '.join(names)}: tag less {rival}: "
              f"{difference_in_words(paired(test, 'tag', rival, names))}")
for tag in ("drums", "bass", "vocals", "piano"):
    assert same_trend(paired(test, "tag", "silence", [tag])) == SAME_TREND

# %% [markdown]
# (Strings and synth are rare in the band: few songs, few excerpts, and no verdict.) The gap to HT Demucs on drums, bass and vocals is also one of training:

# %%
rival = read_card(shipped_file("checkpoints/htdemucs_band.safetensors"))
show_table([[name, one["minutes"], one["parameters"] / 1e6] for name, one in (
    ("query_band", card), ("htdemucs_band", rival))],
    ["network", "minutes on the clock", "million weights"], digits=1,
    caption="On a shared machine, on which minutes are longer than elsewhere.")

# %% [markdown]
# **Is it silent when it should be?** Tags that no source of a song has, asked all the same:

# %%
absent = {kind: {} for kind in ("tag", "example")}
for row in results("absent"):
    absent[row["method"]].setdefault(row["instrument"], []).append(float(row["level"]))
missing = sorted(absent["tag"], key=known.index)
show_table([[tag, len(absent["tag"][tag]), *(float(np.median(absent[kind][tag]))
                                             for kind in ("tag", "example"))] for tag in missing],
           ["what isn't there", "songs", "asked by tag", "asked by example"], digits=0,
           caption="Median level of the answer against the mixture, dB.")

# %% [markdown]
# **Instruments never heard**, asked by an example from another song:

# %%
aside = table_of(experiment.ASIDE)
aside_methods = ("example", "example of another", "silence", "HT Demucs", "Open-Unmix",
                 "ideal ratio mask")
seen_kinds = [kind for kind in experiment.UNSEEN if kind in aside["example"]]
show_table([[f"{kind}, {len(aside['example'][kind])} songs",
             *(cell(aside, method, kind) for method in aside_methods)] for kind in seen_kinds],
           ["SDRi in dB", *aside_methods], digits=1,
           caption="Songs set aside. The fixed-stem models learned from many of these very songs, "
                   "for their training sets nothing aside; their stem is 'other'.")
for other in ("example of another", "silence"):
    for kind in (None, *seen_kinds):
        gap = paired(aside, "example", other, kind and [kind])
        print(f"example less {other}, {kind or 'all'}: {difference_in_words(gap)}")

# %% [markdown]
# The direction of the answers, whatever their level, as SI-SDRi: above 0 there is more of the instrument in the answer than in the mixture.

# %%
aside_si = table_of(experiment.ASIDE, "si_sdri")
for kind in seen_kinds:
    print(f"{kind}: by example {difference_in_words(list(aside_si['example'][kind].values()))}; "
          f"by an example of another instrument "
          f"{difference_in_words(list(aside_si['example of another'][kind].values()))}")

# %% [markdown]
# The example **matters**: it is better than an example of something else, and it turns the answer towards the instrument. But it is **not enough** here to be better than silence by SDR. What an example can do is to choose among what the network has learned: section 20.2 says which known instruments lie nearest, and with seven instruments to learn from, nothing made the network learn what lies between them. Banquet learned from many more.

# %%
assert same_trend(paired(aside, "example", "example of another")) == SAME_TREND
assert same_trend(paired(aside, "silence", "example")) == SAME_TREND

# %% [markdown]
# **With other sounds.** The same test songs, played by a soundfont that nothing in the course learned from:

# %%
font = table_of(experiment.FONT)
if font:
    show_table([[tag, *(cell(font, method, tag) for method in methods)] for tag in tags
                if tag in font["tag"]], ["SDRi in dB", *methods], digits=1,
               caption="Test songs with another soundfont.")
    for one, other in comparisons[:5]:
        print(f"{one} less {other}: {difference_in_words(paired(font, one, other))}")

# %% [markdown]
# **Beside TagBox.** Chapter 14 asked for tags, too, with no separator trained at all. Its own excerpts and its own score, at 22,050 Hz; our network hears them at 16,000 Hz, so everything above 8 kHz is missing from its answers:

# %%
theirs, ours = {}, {}
for row in measured("14_tagbox/songs"):
    if row["part"] == "main" and row["sources"] == "six" and row["reading"] == "masked":
        theirs.setdefault(row["method"], {}).setdefault(row["instrument"], {})[
            row["song"]] = float(row["sdri"])
for row in results("tagbox"):
    ours.setdefault(f"asked by {row['method']}", {}).setdefault(row["instrument"], {})[
        row["song"]] = float(row["sdri"])
any_tag = {**ours, **{name: theirs[name] for name in ("TagBox", "mixit_band", "htdemucs_band",
                                                      "silence") if name in theirs}}
show_table([[tag, *(cell(any_tag, method, tag) for method in any_tag)]
            for tag in any_tag["TagBox"]], ["SDRi in dB", *any_tag], digits=1,
           caption="Chapter 14's excerpts of three seconds. mixit_band names no outputs: its "
                   "pairing with instruments is an oracle's.")
shared = paired(any_tag, "asked by tag", "TagBox")
print(f"asked by tag less TagBox: {difference_in_words(shared)}")

# %% [markdown]
# **Where should the condition come in, and what should it learn from?** Small networks with equal steps, two seeds each, one thing changed:

# %%
runs = {}
for row in results("ablations"):
    for kind in ("tag", "example"):
        runs.setdefault((row["method"], kind), {}).setdefault(int(row["seed"]), []).append(
            float(row[kind]))
changes = [name for name in experiment.CHANGES if (name, "tag") in runs]
runs = {key: np.array([seeds[seed] for seed in sorted(seeds)]) for key, seeds in runs.items()}
loss_of = {name: np.mean([float(row["loss"]) for row in results("ablations")
                          if row["method"] == name]) for name in changes}
apart = {key: float(np.ptp(table.mean(1))) for key, table in runs.items()}
show_table([[name, *(float(runs[name, kind].mean()) for kind in ("tag", "example")),
             max(apart[name, kind] for kind in ("tag", "example")), loss_of[name]]
            for name in changes], ["condition", "by tag", "by example", "seeds apart", "last loss"],
           digits={"by tag": 2, "by example": 2, "seeds apart": 2, "last loss": 2},
           caption=f"SDRi in dB, means over {runs[changes[0], 'tag'].shape[1]} test songs and "
                   f"{len(experiment.SEEDS)} seeds; {used['steps']} steps each.")

# %% [markdown]
# A lead counts if the interval over songs excludes zero, both seeds agree, and it exceeds what two seeds of either are apart:

# %%
def lead(one, other, kind="tag"):
    """Differences (seed, song) of two ablations, and a verdict."""
    if any(len(runs.get((name, kind), ())) < len(experiment.SEEDS) for name in (one, other)):
        return np.zeros((0, 0)), "too few seeds"
    gap = runs[one, kind] - runs[other, kind]
    far = max(apart[one, kind], apart[other, kind])
    for sign, name in ((1, one), (-1, other)):
        if same_trend(sign * gap) == SAME_TREND and sign * gap.mean() > far:
            return gap, f"{name} ahead"
    return gap, "not told apart"

base = "FiLM behind the LSTM"
for name in changes:
    if name != base:
        for kind in ("tag", "example"):
            gap, verdict = lead(name, base, kind)
            print(f"{name} less {base}, by {kind}: {difference_in_words(gap)}; {verdict}")

# %% [markdown]
# Only what is called "ahead" counts. Where the condition comes in makes little or no difference here; what a network was never *asked by* makes a large one, for that part of it has learned nothing, and being asked both ways costs little. So few steps say nothing about the end of a long training, and mind what is *not* in this table: time. Where the question comes in before the LSTM, every question is a pass of its own through it.

# %% [markdown]
# ## 20.9 Between two questions
#
# Conditions are vectors, and vectors have a middle:
#
# $$ c(\lambda) = (1 - \lambda)\, c_1 + \lambda\, c_2, \qquad 0 \le \lambda \le 1. \tag{20.10} $$

# %%
#| export
def between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """A question between two (eq. 20.10): conditions of one shape, share from 0, the first, to 1.

    ValueError for other shares and shapes that differ. Section 20.9.
    """
    if first.shape != second.shape or not 0 <= share <= 1:
        raise ValueError(f"first has shape {tuple(first.shape)}, second {tuple(second.shape)}, "
                         f"share is {share}; expected equal shapes and a share from 0 to 1")
    return (1 - share) * first + share * second

# %% [markdown]
# What is heard on the way from one instrument to another? The answer is fitted by the true sources of the song (least squares); a source's coefficient is the gain that it has in the answer.

# %%
way = {}
for row in results("between"):
    way.setdefault(row["method"], {}).setdefault(float(row["share"]), []).append(
        (float(row["first"]), float(row["second"])))
figure, axes = plt.subplots(1, len(way), figsize=(9, 2.8), sharey=True, layout="constrained")
for axis, (name, points) in zip(axes, way.items()):
    shares = sorted(points)
    gains = np.array([np.mean(points[share], 0) for share in shares])
    for label, values, style in zip(name.split(" to "), gains.T, ("o-", "s--")):
        axis.plot(shares, values, style, label=label)
    axis.set(title=f"{name}, {len(points[0.0])} songs", xlabel="share")
    axis.legend()
axes[0].set_ylabel("gain in the answer")
show(figure, "Gains of the two instruments on the way from one question to the other.",
     "Three panels with two curves each: one falls from left to right, the other rises.")

# %% [markdown]
# How much of each of the two is left in the middle, against the ends?

# %%
for name, points in way.items():
    first, middle, last = (np.mean(points[share], 0) for share in (0.0, 0.5, 1.0))
    print(f"{name}: first {first[0]:.2f}, {middle[0]:.2f}, {last[0]:.2f}; "
          f"second {first[1]:.2f}, {middle[1]:.2f}, {last[1]:.2f}")

# %% [markdown]
# Hear the way from drums to bass, in three steps:

# %%
ends = condition_of(model, "drums"), condition_of(model, "bass")
for share in (0.0, 0.5, 1.0):
    answer = ask(model, mixture[None], between(*ends, share))[0]
    listen(answer, rate, f"drums to bass, share {share:g}")

# %% [markdown]
# A *sum* of conditions is another thing than their middle: in training only sums were questions for two instruments. Gains of drums and bass in the answers:

# %%
def gain_of(answer, names):
    """Least-squares coefficients of sources in an answer, when all sources of song a are fitted."""
    fit = torch.linalg.lstsq(sources.T, answer[:, None]).solution[:, 0]
    return [round(float(fit[SIX_STEMS.index(name)]), 2) for name in names]

for name, c in (("middle", between(*ends, 0.5)), ("sum", ends[0] + ends[1])):
    print(name, gain_of(ask(model, mixture[None], c)[0], ("drums", "bass")))

# %% [markdown]
# ## 20.10 On your own songs
#
# `course ask SONG.wav --tag vocals -o DIR` writes DIR/SONG/vocals.wav at the song's rate and channels, `--example FILE` asks by a recording of the sound, `--rest` also writes the song without it. It is the function `ask` in pieces of 12 s, each channel by itself; what lies above 8 kHz stays in the rest.
#
# ## 20.11 What has been reported

# %%
paper = {(row["model"], row["what"]): row for row in published("query_claims")}
for (name, what), row in paper.items():
    print(f"{name}: {what} {row['value']} {row['unit']}")

# %% [markdown]
# - *Conditioned U-Net* (2019): one network for four stems, asked one-hot, as good as four dedicated ones.
# - *Banquet* (2024): with an example as the question, one decoder comes near the six-stem HT Demucs on vocals, drums and bass, and is better on guitar and piano; it also gives reeds and organs, which have no stem elsewhere. On MoisesDB.
# - *QSCNet* (2025): a conditioned U-Net on chapter 18's SCNet is better than Banquet, with less than half its weights.
# - *AudioSep* (2023): sentences as questions, for any sound; *zero-shot* separation by query (2022): trained on weakly labelled sounds, asked for music.
# - *Few-shot* (2022): a few examples of an instrument instead of one, embedded by a network that learns together with the separator.
#
# ## 20.12 What we built
#
# | name | what | section |
# |---|---|---|
# | `mixture_and_target` | what is heard, and what is wanted | 20.1 |
# | `tag_vector`, `penultimate`, `check_example`, `embed_example`, `rms` | questions by tags and by examples | 20.2 |
# | `modulate`, `FiLM` | a condition for a layer | 20.3 |
# | `QueryEncoder` | both kinds of question in one space | 20.4 |
# | `QueryUnmix` | the network that is asked | 20.5 |
# | `query_loss`, `draw_example`, `QueryStep` | learning to listen | 20.6 |
# | `Asked`, `condition_of`, `ask` | asking | 20.7 |
# | `between` | between two questions | 20.9 |
#
# All of it is in `course_lib.query`.
#
# ## 20.13 Paper claims
#
# Published comparisons rest on real multitracks and on networks of tens of millions of weights. Here are their trends on the band:

# %%
def by_song_claim(text, source, section, paper_says, differences):
    """A claim that is right if the differences, one a song, are positive."""
    return Claim(text, source, section, paper_says, difference_in_words(differences),
                 same_trend(differences))

def ablation_claim(text, source, one, other, kind="tag"):
    """A claim that is right if ablation `one` is ahead of `other` by the three rules."""
    gap, verdict = lead(one, other, kind)
    seen = SAME_TREND if verdict == f"{one} ahead" else NOT_SEEN
    return Claim(text, source, "20.8", "order only", difference_in_words(gap), seen)

# %%
WL, MB = "Watcharasupat and Lerch 2024", "Meseguer-Brocal and Peeters 2019"
PEREZ = "Perez et al. 2018"
four = ("drums", "bass", "vocals")
claims = [
    by_song_claim("The answer depends on the question: tag against a wrong tag", MB, "20.8",
                  "implied", paired(test, "tag", "wrong tag")),
    by_song_claim("One decoder beats HT Demucs on guitar and piano", WL, "20.8", "order only",
                  paired(test, "example", "HT Demucs", ("guitar", "piano"))),
    by_song_claim("... and does so better than silence", "this chapter", "20.8", None,
                  paired(test, "example", "silence", ("guitar", "piano"))),
    by_song_claim("HT Demucs is better on drums, bass and vocals", WL, "20.8", "order only",
                  paired(test, "HT Demucs", "example", four)),
    by_song_claim("Instruments never heard can be asked for by example", WL, "20.8",
                  "reeds, organs", paired(aside, "example", "silence"))]

# %%
claims += [
    by_song_claim("A trained question beats steering without training", "this chapter", "20.8",
                  None, shared),
    ablation_claim("FiLM beats concatenation", PEREZ, "FiLM in front of the LSTM", "concatenation"),
    ablation_claim("FiLM at every place beats the bottleneck alone", MB, "FiLM at every place",
                   "FiLM at the bottleneck only"),
    Claim("One network is as good as four dedicated ones", MB, "20.8", "equal", "not run",
          NEEDS_REAL_DATA),
    Claim("Banquet comes near HT Demucs on MoisesDB", WL, "20.11", "with 24.9 M weights", "not run",
          NEEDS_REAL_DATA)]
show_claims(claims)

# %% [markdown]
# ## 20.14 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/20_query.ipynb) has more tasks, with checks.
#
# **1. By hand.** A channel has the values $(1, -2, 3)$ in three frames; the question gives $\gamma = -1$ and $\beta = 2$. What does FiLM give, and what a ReLU behind it? Which frames does the question let pass?
#
# <details><summary>Answer</summary>
#
# $(1, 4, -1)$, and behind the ReLU $(1, 4, 0)$: a negative factor lets pass what was small.
#
# ```python
# import torch
# from course_lib.query import modulate
# y = modulate(torch.tensor([[[1.0], [-2.0], [3.0]]]), torch.tensor([[-1.0]]), torch.tensor([[2.0]]))
# assert y.flatten().tolist() == [1.0, 4.0, -1.0] and y.relu().flatten().tolist() == [1.0, 4.0, 0.0]
# ```
# </details>
#
# **2. Everything.** Which question makes the target the mixture itself, and what is `query_loss` of an answer that is the mixture?
#
# <details><summary>Answer</summary>
#
# The question for all sources. Then the error is zero, and the loss is the floor's level, 15.2 dB under 0: a network that always answers with the mixture is right once.
#
# ```python
# import torch
# from course_lib.query import mixture_and_target, query_loss
# s = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
# x, y = mixture_and_target(s, torch.ones(3, dtype=torch.bool))
# assert torch.allclose(x, y) and abs(float(query_loss(x[None], y[None], x[None])) + 15.2) < 0.1
# ```
# </details>
#
# **3. Leakage.** Draw 1000 examples of a tag for a song with `draw_example`, and without its rule, from all songs. How often does the second come from the song itself, if each of 5 songs has one example?
#
# <details><summary>Answer</summary>
#
# Never with the rule, every fifth time without.
#
# ```python
# import torch
# from course_lib.query import draw_example
# g, songs = torch.Generator().manual_seed(0), list("abcde")
# kept = [songs[draw_example(["piano"] * 5, songs, "piano", "a", g)] for _ in range(1000)]
# free = [songs[int(torch.randint(5, (), generator=g))] for _ in range(1000)]
# assert kept.count("a") == 0 and 150 < free.count("a") < 250
# ```
# </details>
#
# **4. Two FiLMs.** A FiLM follows a FiLM directly, both of the same condition. Show that one FiLM could do the same to the features, and give its $\gamma$ and $\beta$.
#
# <details><summary>Answer</summary>
#
# $\gamma_2(\gamma_1 h + \beta_1) + \beta_2 = (\gamma_2\gamma_1) h + (\gamma_2 \beta_1 + \beta_2)$. But its $\gamma$ is quadratic in $c$ where both are linear; a linear layer can't make it.
#
# ```python
# import torch
# from course_lib.query import modulate
# g = torch.Generator().manual_seed(0)
# h, g1, b1, g2, b2 = torch.randn(2, 4, 3, generator=g), *torch.randn(4, 2, 3, generator=g)
# one = modulate(h, g2 * g1, g2 * b1 + b2)
# assert torch.allclose(modulate(modulate(h, g1, b1), g2, b2), one, atol=1e-5)
# ```
# </details>
#
# **5. An example with a pause.** An example consists of 5 s of guitar, 5 s of silence and 5 s of the same guitar at half the level. What is its embedding?
#
# <details><summary>Answer</summary>
#
# That of the 5 s of guitar: the silent chunk doesn't count, and level doesn't matter.
#
# ```python
# import torch
# from course_lib.query import embed_example
# from course_lib.training import load_trained
# tagger = load_trained("tagger_band").requires_grad_(False)
# x = 0.1 * torch.randn(tagger.samples, generator=torch.Generator().manual_seed(0))
# long = embed_example(tagger, torch.cat([x, torch.zeros_like(x), x / 2]))
# assert torch.allclose(long, embed_example(tagger, x), rtol=1e-3, atol=1e-3)
# ```
# </details>
#
# **6. Open.** Ask for "everything but the vocals" by a condition of minus one vocals: $c = \sum_k W_{:,k} - 2 W_{:,\text{vocals}}$ and other ideas. Measure it against the mixture less the answer to "vocals". Why is the second so much better?
#
# ## 20.15 Sources
#
# - E. Perez, F. Strub, H. de Vries, V. Dumoulin and A. Courville, *FiLM: visual reasoning with a general conditioning layer*, AAAI 2018, arXiv 1709.07871. D. Ha, A. Dai and Q. V. Le, *HyperNetworks*, ICLR 2017, arXiv 1609.09106.
# - G. Meseguer-Brocal and G. Peeters, *Conditioned-U-Net: introducing a control mechanism in the U-Net for multiple source separations*, ISMIR 2019, arXiv 1907.01277.
# - J. H. Lee, H.-S. Choi and K. Lee, *Audio query-based music source separation*, ISMIR 2019, arXiv 1908.06593.
# - Y. Wang, D. Stoller, R. M. Bittner and J. P. Bello, *Few-shot musical source separation*, ICASSP 2022, arXiv 2205.01273.
# - K. Chen et al., *Zero-shot audio source separation through query-based learning from weakly-labeled data*, AAAI 2022, arXiv 2112.07891. X. Liu et al., *Separate anything you describe* (AudioSep), 2023, arXiv 2308.05037.
# - K. N. Watcharasupat and A. Lerch, *A stem-agnostic single-decoder system for music source separation beyond four stems* (Banquet), ISMIR 2024, arXiv 2406.18747.
# - K. O'Hanlon, B. Woods, L. Wang and M. Sandler, *A conditioned UNet for music source separation* (QSCNet), 2025, arXiv 2512.15532.
# - F.-R. Stöter, S. Uhlich, A. Liutkus and Y. Mitsufuji, *Open-Unmix*, JOSS 2019. S. Wisdom et al., *Unsupervised sound separation using mixture invariant training*, NeurIPS 2020 (the loss's floor).
