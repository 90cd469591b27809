# %% [markdown]
# # Chapter 20 · Ask for any sound

# %% [markdown]
# ## 20.0 Set up

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
# target

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
# tags

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
# example

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
# FiLM

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
# query encoder

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

# %% [markdown]
# network

# %%
#| export
WHERE = {"every": ("first", "bottleneck", "last"), "behind": ("bottleneck", "last"),
         "bottleneck": ("bottleneck",), "first": ("first",), "concatenation": ()}


class QueryUnmix(nn.Module):
    """Chapter 4's Open-Unmix, asked: audio (batch, 1, time) and conditions (batch, question,
    condition) to an answer to every question, (batch, question, 1, time).

    tags: that can be asked by name. hidden_size: width, even. nb_layers: of the LSTM. where: at
    which places a condition comes in by FiLM, a key of WHERE; "concatenation": beside the input.
    embedding: numbers of an example's embedding. segment: seconds it learned on. ValueError for
    other shapes and an unknown place. Sources: Stöter et al. 2019, Perez et al. 2018, Watcharasupat
    and Lerch 2024; section 20.5.
    """

    audio_channels = 1

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
# loss

# %%
#| export
def query_loss(estimate: Tensor, target: Tensor, mixture: Tensor, floor: float = 1e-3) -> Tensor:
    """The error's level against the mixture in dB, a number (eq. 20.8): defined for silent targets.

    All (batch, ..., time). floor: what lies that far under the mixture counts as solved: 1e-3 is 30
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
# examples without leakage

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
#| export
class QueryStep:
    """A training step: several questions of both kinds to each mixture; `query_loss` in dB.

    Called with (model, batch): mixture (batch, time); targets (batch, question, time); tags (batch,
    question, tag) of 0 and 1; examples (batch, question, example, feature) with weights (batch,
    question, example); by_example (batch, question), 1 where the examples ask, 0 where the tags do.
    kinds: "both", or "tags" or "examples" for all. ValueError for other words. Section 20.6.
    """

    def __init__(self, floor: float = 1e-3, kinds: str = "both"):
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
# asking

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


def ask(model: QueryUnmix, mixture: Tensor, c: Tensor, overlap: float = 0.25) -> Tensor:
    """What is asked for: mixture (channel, time) or (batch, channel, time) at the model's rate to
    the same shape.

    c: the condition, (condition,). Audio of any length, in pieces that overlap; every channel by
    itself. ValueError as `separate`. Section 20.7.
    """
    return separate(Asked(model, c), mixture, overlap=overlap).squeeze(-3)

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
