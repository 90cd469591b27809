# %% [markdown]
# # Chapter 6 · Demucs, from waveform to waveforms

# %%
#| default_exp demucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("06_demucs", cpu=dict(songs=2, steps=30), gpu=dict(songs=20, steps=300), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/demucs.py`.

# %%
#| export
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.data import Track
from course_lib.spectral import song_sdr

# %% [markdown]
# ## Resampling

# %%
#| export
@functools.lru_cache(maxsize=16)
def sinc_filters(old: int, new: int, zeros: int = 24, rolloff: float = 0.945) -> Tensor:
    """The filters that resample by the ratio new / old, one for each of the `new` phases (eq. 6.1).

    zeros: zero crossings of the sinc kept on either side. rolloff: the cutoff, as a share of the
    lower of the two Nyquist frequencies. Returns (new, 1, 2 width + old) in double precision,
    width = ceil(zeros old / (rolloff min(old, new))); each filter adds up to 1. old and new are
    whole numbers without a common divisor, else ValueError. Source: J. O. Smith, Digital audio
    resampling, 2002; the window is the square of a cosine, as in the package julius; section 6.4.
    """
    if old < 1 or new < 1 or math.gcd(old, new) != 1:
        raise ValueError(f"old is {old} and new {new}; expected whole numbers from 1 on without a "
                         "common divisor, such as 1 and 2")
    cutoff = rolloff * min(old, new)
    width = math.ceil(zeros * old / cutoff)
    samples = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64)[:, None] / new         # (phase, 1)
    t = (cutoff * (samples - phases)).clamp(-zeros, zeros)                 # (phase, tap)
    filters = torch.sinc(t) * torch.cos(math.pi * t / (2 * zeros)) ** 2
    return (filters / filters.sum(1, keepdim=True)).unsqueeze(1)           # (phase, 1, tap)


@functools.lru_cache(maxsize=16)
def resampling_matrix(old: int, new: int, steps: int = 64) -> Tensor:
    """`steps` steps of resampling as one matrix: (input samples, steps new), section 6.4.

    A step reads `old` samples further on than the last and gives `new` samples; its columns hold
    the filters of `sinc_filters`, its neighbours' the same ones, `old` rows lower.
    """
    filters = sinc_filters(old, new)[:, 0].T                               # (tap, phase)
    matrix = torch.zeros(old * (steps - 1) + len(filters), steps, new, dtype=torch.float64)
    for step in range(steps):
        matrix[old * step:old * step + len(filters), step] = filters
    return matrix.flatten(1)


def resample_by(x: Tensor, old: int, new: int, steps: int = 64) -> Tensor:
    """Audio at new / old times the rate: float (..., time) -> (..., floor(time new / old)).

    Beyond its ends the signal is taken to stay at its first and last value. steps: computed at
    once. ValueError for audio without samples and for ratios as in `sinc_filters`. Equal to
    julius.resample_frac, and faster where there are few channels; section 6.4.
    """
    check_audio(x=x)
    if x.ndim < 1 or 0 in x.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one sample along time")
    matrix = resampling_matrix(old, new, steps).to(x)                      # (sample, step * phase)
    width, time, hop = (sinc_filters(old, new).shape[-1] - old) // 2, x.shape[-1], old * steps
    blocks = math.ceil(time / hop)
    rest = hop * (blocks - 1) + len(matrix) - width - time
    padded = F.pad(x.reshape(1, -1, time), (width, rest), mode="replicate")
    frames = padded[0].unfold(-1, len(matrix), hop)                        # (line, block, sample)
    y = (frames @ matrix).reshape(*x.shape[:-1], -1)                       # (..., all phases)
    return y[..., :time * new // old]

# %% [markdown]
# ## Trimming

# %%
#| export
def center_trim(x: Tensor, length: int) -> Tensor:
    """The middle `length` samples of x (..., time); of an odd surplus the right end loses more.

    ValueError where x is shorter. Source: section 6.5.
    """
    surplus = x.shape[-1] - length
    if surplus < 0:
        raise ValueError(f"x has {x.shape[-1]} samples; expected at least {length} to trim to")
    return x[..., surplus // 2:x.shape[-1] - (surplus - surplus // 2)]

# %% [markdown]
# ## Rescaling

# %%
#| export
def rescale_module(module: nn.Module, reference: float) -> None:
    """Bring the deviation of every convolution's weights nearer to `reference`, in place (eq. 6.6).

    Weights and bias are divided by sqrt(deviation / reference): the deviation becomes the
    geometric mean of both. reference: > 0, else ValueError. Source: Défossez et al. 2019;
    section 6.7.
    """
    if not reference > 0:
        raise ValueError(f"reference is {reference}; expected a deviation above 0, such as 0.1")
    kinds = (nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.ConvTranspose2d)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, kinds):
                alpha = (layer.weight.std() / reference) ** 0.5
                for tensor in (layer.weight, layer.bias):
                    if tensor is not None:
                        tensor /= alpha

# %% [markdown]
# ## BLSTM

# %%
#| export
class BLSTM(nn.Module):
    """A BLSTM over time that keeps the channels: (batch, channel, time) to the same shape.

    dim: channels, and hidden size of each direction; a linear layer brings both back to dim.
    layers: one above the other. max_steps: longer signals are cut into frames of so many steps
    that overlap by half, each read on its own (a multiple of 4, else ValueError; None: never).
    skip: add the input. Source: Défossez et al. 2019, 2021; sections 6.6 and 6.12.
    """

    def __init__(self, dim: int, layers: int = 1, max_steps: int | None = None,
                 skip: bool = False):
        super().__init__()
        if max_steps is not None and (max_steps < 4 or max_steps % 4):
            raise ValueError(f"max_steps is {max_steps}; expected a multiple of 4, or None")
        self.max_steps, self.skip = max_steps, skip
        self.lstm = nn.LSTM(dim, dim, num_layers=layers, bidirectional=True)
        self.linear = nn.Linear(2 * dim, dim)

    def read(self, x: Tensor) -> Tensor:
        """One pass over the whole of x (batch, channel, time)."""
        return self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.max_steps is None or x.shape[-1] <= self.max_steps:
            y = self.read(x)
        else:
            frames = overlapping_frames(x, self.max_steps)      # (batch, channel, frame, step)
            batch, channels, count, width = frames.shape
            y = self.read(frames.transpose(1, 2).reshape(-1, channels, width))
            y = y.reshape(batch, count, channels, width).transpose(1, 2)
            y = joined_middles(y, x.shape[-1])                  # (batch, channel, time)
        return x + y if self.skip else y


def overlapping_frames(x: Tensor, width: int) -> Tensor:
    """x (..., time), zeros after its end, as frames that overlap by half: (..., frame, width)."""
    stride = width // 2
    count = math.ceil(x.shape[-1] / stride)
    return F.pad(x, (0, (count - 1) * stride + width - x.shape[-1])).unfold(-1, width, stride)


def joined_middles(frames: Tensor, time: int) -> Tensor:
    """The reverse: of each frame (..., frame, width) its middle half, and the two outer ends."""
    edge = frames.shape[-1] // 4
    middles = frames[..., edge:-edge].flatten(-2)               # (..., frame * width / 2)
    return torch.cat([frames[..., 0, :edge], middles, frames[..., -1, -edge:]], -1)[..., :time]

# %% [markdown]
# ## DemucsV2

# %%
#| export
def _rewrite(channels: int, kernel_size: int, glu: bool, padding: int = 0) -> list[nn.Module]:
    """A convolution that keeps the channels, and its gate (or ReLU)."""
    wide = 2 * channels if glu else channels
    return [nn.Conv1d(channels, wide, kernel_size, padding=padding),
            nn.GLU(dim=1) if glu else nn.ReLU()]


def _encoder_v2(inputs: int, channels: int, kernel_size: int, stride: int, rewrite: bool,
                glu: bool) -> nn.Sequential:
    conv = nn.Conv1d(inputs, channels, kernel_size, stride)
    after = _rewrite(channels, 1, glu) if rewrite else []
    return nn.Sequential(conv, nn.ReLU(), *after)


def _decoder_v2(channels: int, outputs: int, kernel_size: int, stride: int, rewrite: bool,
                glu: bool, context: int, last: bool) -> nn.Sequential:
    before = _rewrite(channels, context, glu) if rewrite else []
    after = [] if last else [nn.ReLU()]
    return nn.Sequential(*before, nn.ConvTranspose1d(channels, outputs, kernel_size, stride),
                         *after)


def _check_mixture(mix: Tensor, channels: int) -> None:
    check_audio(mix=mix)
    if mix.ndim != 3 or mix.shape[1] != channels or 0 in mix.shape:
        raise ValueError(f"mix has shape {tuple(mix.shape)}; expected (batch, channel, time) with "
                         f"{channels} channels and at least one sample")


def mono_statistics(mix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (unbiased) deviation of the mean of the channels: (batch, channel, time) to two
    (batch, 1, 1). A single sample has deviation 0. Source: section 6.8."""
    mono = mix.mean(1, keepdim=True)
    deviation = mono.std(-1, keepdim=True) if mix.shape[-1] > 1 else torch.zeros_like(mono)
    return mono.mean(-1, keepdim=True), deviation

# %%
#| export
class DemucsV2(nn.Module):
    """Demucs of 2019 to 2021 (v1 and v2): mixture (batch, channel, time) to its sources
    (batch, source, channel, time).

    sources: their names. audio_channels: of the mixture and of each source. channels: of the first
    layer; growth: their factor from layer to layer. depth: layers. rewrite: a 1x1 convolution in
    each encoder layer and one of `context` steps in each decoder layer, gated if glu.
    rescale: see `rescale_module`; 0 leaves the weights alone. resample: work at twice the rate.
    kernel_size, stride: of the outer convolutions. lstm_layers: in the middle; 0: none.
    normalize: by mean and deviation of the mixture. samplerate, segment_length: kept as they are.
    Version 1 is DemucsV2(sources, channels=100, resample=False).

    With audio of `valid_length` samples no step is left over; the output has as many samples with
    context 1, and fewer with more, so that what it should equal is trimmed (`center_trim`);
    `separate` sees to both. ValueError for other shapes and for audio too short for the network.
    Arguments, defaults and tensor names are those of the package demucs 2.0.3. Source: Défossez
    et al. 2019; section 6.8.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 64,
                 depth: int = 6, rewrite: bool = True, glu: bool = True, rescale: float = 0.1,
                 resample: bool = True, kernel_size: int = 8, stride: int = 4, growth: float = 2.0,
                 lstm_layers: int = 2, context: int = 3, normalize: bool = False,
                 samplerate: int = 44100, segment_length: int = 4 * 10 * 44100):
        super().__init__()
        self.sources, self.audio_channels, self.channels = list(sources), audio_channels, channels
        self.depth, self.kernel_size, self.stride = depth, kernel_size, stride
        self.context, self.resample, self.normalize = context, resample, normalize
        self.samplerate, self.segment_length = samplerate, segment_length
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, outputs = audio_channels, len(self.sources) * audio_channels
        for index in range(depth):
            self.encoder.append(
                _encoder_v2(inputs, channels, kernel_size, stride, rewrite, glu))
            self.decoder.insert(0, _decoder_v2(channels, outputs, kernel_size, stride, rewrite,
                                               glu, context, last=index == 0))
            inputs, outputs, channels = channels, channels, int(growth * channels)
        self.lstm = BLSTM(inputs, lstm_layers) if lstm_layers else None
        if rescale:
            rescale_module(self, rescale)

    def valid_length(self, length: int) -> int:
        """The next number of samples, about `length`, at which no convolution has a rest."""
        return valid_length(length, self.depth, self.kernel_size, self.stride, self.context,
                            self.resample)

    def forward(self, mix: Tensor) -> Tensor:
        _check_mixture(mix, self.audio_channels)
        if mix.shape[-1] < (shortest := self.valid_length(1)):
            raise ValueError(f"mix has {mix.shape[-1]} samples; this network takes at least "
                             f"{shortest}: pad to valid_length(), or use `separate`")
        mean, deviation = mono_statistics(mix) if self.normalize else (0.0, 1.0)
        x = (mix - mean) / (1e-5 + deviation)
        x = resample_by(x, 1, 2) if self.resample else x
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = x if self.lstm is None else self.lstm(x)
        for layer in self.decoder:
            x = layer(x + center_trim(skips.pop(), x.shape[-1]))
        x = resample_by(x, 2, 1) if self.resample else x
        x = x * deviation + mean                             # (batch, source * channel, time)
        return x.unflatten(1, (len(self.sources), self.audio_channels))


def valid_length(length: int, depth: int, kernel_size: int, stride: int, context: int = 1,
                 resample: bool = False) -> int:
    """The number of samples, about `length`, at which no convolution of a U-Net has a rest.

    depth: layers of kernel_size and stride. context: steps that a decoder layer's first
    convolution reads. resample: whether the network works at twice the rate. length: >= 1, else
    ValueError. Source: section 6.5.
    """
    if length < 1:
        raise ValueError(f"length is {length}; expected at least one sample")
    length *= 2 if resample else 1
    for _ in range(depth):
        length = max(1, math.ceil((length - kernel_size) / stride) + 1) + context - 1
    for _ in range(depth):
        length = (length - 1) * stride + kernel_size
    return math.ceil(length / 2) if resample else length

# %% [markdown]
# ## DConv, LocalState, LayerScale

# %%
#| export
class LayerScale(nn.Module):
    """A learned factor for each channel, small at first: (batch, channel, time) to the same shape.

    init: its first value. channel_last: for (..., channel) instead. Source: Touvron et al. 2021;
    section 6.12.
    """

    def __init__(self, channels: int, init: float = 0.0, channel_last: bool = False):
        super().__init__()
        self.channel_last = channel_last
        self.scale = nn.Parameter(torch.full((channels,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.scale if self.channel_last else self.scale[:, None])


class LocalState(nn.Module):
    """Attention with a learned penalty on distance, its input added: (batch, channel, time).

    heads: that the channels are divided among, else ValueError. ndecay: penalties to mix, each
    query for itself; 0: none. Time and memory grow with the square of the steps. Source: Défossez
    2021, section 3; chapter 6, section 6.12.
    """

    def __init__(self, channels: int, heads: int = 4, ndecay: int = 4):
        super().__init__()
        if channels % heads:
            raise ValueError(f"channels is {channels} and heads {heads}; expected a multiple")
        self.heads, self.ndecay = heads, ndecay
        self.content, self.query, self.key = (nn.Conv1d(channels, channels, 1) for _ in range(3))
        if ndecay:
            self.query_decay = nn.Conv1d(channels, heads * ndecay, 1)
            with torch.no_grad():
                self.query_decay.weight *= 0.01                 # hardly any penalty at first
                self.query_decay.bias.fill_(-2.0)
        self.proj = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        split = lambda y: y.unflatten(1, (self.heads, -1))      # (batch, head, channel, time)
        q, k, v = split(self.query(x)), split(self.key(x)), split(self.content(x))
        scores = q.mT @ k / q.shape[2] ** 0.5                   # (batch, head, query, key)
        steps = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)
        distance = (steps[:, None] - steps).abs()               # (query, key)
        if self.ndecay:
            share = torch.sigmoid(split(self.query_decay(x))) / 2    # (batch, head, decay, query)
            rates = torch.arange(1, self.ndecay + 1, device=x.device, dtype=x.dtype)
            slope = (rates[:, None] * share).sum(2) / self.ndecay ** 0.5  # (batch, head, query)
            scores = scores - slope.unsqueeze(-1) * distance
        scores = scores.masked_fill(distance == 0, -100.0)      # nobody looks at itself
        heard = v @ scores.softmax(-1).mT                       # (batch, head, channel, query)
        return x + self.proj(heard.flatten(1, 2))


class DConv(nn.Module):
    """Compressed residual branches, one after the other: (batch, channel, time) to the same shape.

    channels: in and out. compress: how many times fewer the branch has inside. depth: branches;
    branch d has dilation 2^d, or none of them where depth is negative. init: of `LayerScale`.
    norm: GroupNorm with one group. attn: `LocalState` of `heads` and `ndecay`. lstm: a `BLSTM`
    over frames of 200 steps. gelu: else ReLU. kernel: odd, else ValueError. Source: Défossez 2021,
    section 3; chapter 6, section 6.12, and chapter 7 in depth.
    """

    def __init__(self, channels: int, compress: float = 4, depth: int = 2, init: float = 1e-4,
                 norm: bool = True, attn: bool = False, heads: int = 4, ndecay: int = 4,
                 lstm: bool = False, gelu: bool = True, kernel: int = 3, dilate: bool = True):
        super().__init__()
        if kernel % 2 != 1:
            raise ValueError(f"kernel is {kernel}; expected an odd number of steps")
        hidden = int(channels / compress)
        self.layers = nn.ModuleList()
        for d in range(abs(depth)):
            dilation = 2 ** d if depth > 0 and dilate else 1
            first = nn.Conv1d(channels, hidden, kernel, dilation=dilation,
                              padding=dilation * (kernel // 2))
            second = nn.Conv1d(hidden, 2 * channels, 1)
            far = [LocalState(hidden, heads, ndecay)] if attn else []
            far = [BLSTM(hidden, 2, max_steps=200, skip=True), *far] if lstm else far
            scale = nn.GroupNorm if norm else lambda groups, size: nn.Identity()
            self.layers.append(nn.Sequential(
                first, scale(1, hidden), nn.GELU() if gelu else nn.ReLU(), *far,
                second, scale(1, 2 * channels), nn.GLU(1), LayerScale(channels, init)))

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.layers:
            x = x + branch(x)
        return x

# %% [markdown]
# ## Demucs

# %%
#| export
@dataclass(frozen=True)
class _Layers:
    """What the layers of one depth of `Demucs` are made of: norm of a size, activation, gate."""

    norm: Callable[[int], nn.Module]
    activation: Callable[[], nn.Module]
    rewrite: bool
    glu: bool

    def gate(self, channels: int, context: int) -> list[nn.Module]:
        """The convolution that keeps the channels, norm and gate; [] without rewrite."""
        if not self.rewrite:
            return []
        wide = 2 * channels if self.glu else channels
        return [nn.Conv1d(channels, wide, 2 * context + 1, padding=context), self.norm(wide),
                nn.GLU(dim=1) if self.glu else nn.ReLU()]

    def encoder(self, conv: nn.Conv1d, branch: Callable[[], nn.Module] | None) -> nn.Sequential:
        """conv, norm, activation, residual branch, gate."""
        channels, branches = conv.out_channels, [branch()] if branch else []
        return nn.Sequential(conv, self.norm(channels), self.activation(), *branches,
                             *self.gate(channels, 0))

    def decoder(self, channels: int, outputs: int, kernel_size: int, stride: int, context: int,
                branch: Callable[[], nn.Module] | None, last: bool) -> nn.Sequential:
        """Gate, residual branch, transposed convolution, and, but in the last, norm, activation."""
        gate, branches = self.gate(channels, context), [branch()] if branch else []
        after = [] if last else [self.norm(outputs), self.activation()]
        return nn.Sequential(*gate, *branches,
                             nn.ConvTranspose1d(channels, outputs, kernel_size, stride), *after)

# %%
#| export
class Demucs(nn.Module):
    """Demucs v3, the waveform model of 2021: mixture (batch, channel, time) to its sources
    (batch, source, channel, time), as long as the mixture.

    As `DemucsV2`, with these differences. context: steps on *either side* that a decoder layer's
    first convolution reads; it pads. gelu: GELU instead of ReLU. norm_starts, norm_groups:
    GroupNorm from this layer on. dconv_mode: `DConv` in the encoder (1), the decoder (2), both (3)
    or neither (0); dconv_depth, dconv_comp, dconv_init: its depth, compress, init;
    dconv_attn, dconv_lstm: attention and BLSTM in it from this layer on. segment: seconds, kept as
    it is. The mixture is padded to a valid length and what comes out is trimmed, so that any
    length from 1 on is taken. ValueError for other shapes. Arguments, defaults and tensor names
    are those of demucs.demucs.Demucs 4.1.0. Source: Défossez 2021; section 6.13.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 64,
                 growth: float = 2.0, depth: int = 6, rewrite: bool = True, lstm_layers: int = 0,
                 kernel_size: int = 8, stride: int = 4, context: int = 1, gelu: bool = True,
                 glu: bool = True, norm_starts: int = 4, norm_groups: int = 4,
                 dconv_mode: int = 1, dconv_depth: int = 2, dconv_comp: float = 4,
                 dconv_attn: int = 4, dconv_lstm: int = 4, dconv_init: float = 1e-4,
                 normalize: bool = True, resample: bool = True, rescale: float = 0.1,
                 samplerate: int = 44100, segment: float = 4 * 10):
        super().__init__()
        self.sources, self.audio_channels, self.channels = list(sources), audio_channels, channels
        self.depth, self.kernel_size, self.stride = depth, kernel_size, stride
        self.context, self.resample, self.normalize = context, resample, normalize
        self.samplerate, self.segment = samplerate, segment
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, outputs = audio_channels, len(self.sources) * audio_channels
        for index in range(depth):
            norm = functools.partial(nn.GroupNorm, norm_groups)
            layers = _Layers(norm if index >= norm_starts else lambda size: nn.Identity(),
                             nn.GELU if gelu else nn.ReLU, rewrite, glu)
            branch = functools.partial(
                DConv, channels, dconv_comp, dconv_depth, dconv_init, attn=index >= dconv_attn,
                lstm=index >= dconv_lstm)
            self.encoder.append(layers.encoder(
                nn.Conv1d(inputs, channels, kernel_size, stride),
                branch if dconv_mode & 1 else None))
            self.decoder.insert(0, layers.decoder(
                channels, outputs, kernel_size, stride, context,
                branch if dconv_mode & 2 else None, last=index == 0))
            inputs, outputs, channels = channels, channels, int(growth * channels)
        self.lstm = BLSTM(inputs, lstm_layers) if lstm_layers else None
        if rescale:
            rescale_module(self, rescale)

    def valid_length(self, length: int) -> int:
        """The next number of samples from `length` on at which no convolution has a rest."""
        return valid_length(length, self.depth, self.kernel_size, self.stride,
                            resample=self.resample)

    def forward(self, mix: Tensor) -> Tensor:
        _check_mixture(mix, self.audio_channels)
        length = mix.shape[-1]
        mean, deviation = 0.0, 1.0
        if self.normalize:
            mean, deviation = mono_statistics(mix)
            mix = (mix - mean) / (1e-5 + deviation)
        rest = self.valid_length(length) - length
        x = F.pad(mix, (rest // 2, rest - rest // 2))
        x = resample_by(x, 1, 2) if self.resample else x
        skips = []
        for layer in self.encoder:
            x = layer(x)
            skips.append(x)
        x = x if self.lstm is None else self.lstm(x)
        for layer in self.decoder:
            x = layer(x + center_trim(skips.pop(), x.shape[-1]))
        x = resample_by(x, 2, 1) if self.resample else x
        x = center_trim(x * deviation + mean, length)        # (batch, source * channel, time)
        return x.unflatten(1, (len(self.sources), self.audio_channels))

# %% [markdown]
# ## Linear interpolation

# %%
#| export
class LinearUpsampling(nn.Module):
    """Wave-U-Net's way up: linear interpolation, then a convolution at the higher rate.

    Takes the place of a transposed convolution of the same channels, kernel_size and stride, and
    gives as many samples: (batch, channel, time) to (batch, outputs, (time - 1) stride +
    kernel_size). Source: Stoller et al. 2018; section 6.9.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int, stride: int):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.conv = nn.Conv1d(channels, outputs, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        length = (x.shape[-1] - 1) * self.stride + self.kernel_size
        wide = F.interpolate(x, length + self.kernel_size - 1, mode="linear", align_corners=True)
        return self.conv(wide)


def with_linear_upsampling(model: nn.Module) -> nn.Module:
    """The model, its transposed convolutions replaced by new `LinearUpsampling` of their sizes."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.ConvTranspose1d):
                setattr(parent, name, LinearUpsampling(layer.in_channels, layer.out_channels,
                                                       layer.kernel_size[0], layer.stride[0]))
    return model

# %% [markdown]
# ## Shift trick

# %%
#| export
def padded_separation(model: nn.Module, mixture: Tensor) -> Tensor:
    """One pass over audio of any length: (batch, channel, time) to (batch, source, channel, time).

    Zeros are put around it up to the model's `valid_length`, and the output is trimmed. A network
    whose output is longer or as long needs no more. Source: section 6.5.
    """
    length = mixture.shape[-1]
    rest = model.valid_length(length) - length
    return center_trim(model(F.pad(mixture, (rest // 2, rest - rest // 2))), length)


def separate(model: nn.Module, mixture: Tensor, shifts: int = 0, max_shift: int | None = None,
             generator: torch.Generator | None = None) -> Tensor:
    """Separate audio with `DemucsV2`, `Demucs` or another network from waveform to waveforms.

    mixture: (batch, channel, time) or (channel, time), any float type; computed in the model's
    type, given back in the mixture's. Mono and stereo are what the model was built for, but a
    model of one channel takes any number, each on its own. shifts: 0, or the number of randomly
    shifted copies whose estimates are averaged. max_shift: samples, by default half a second.
    Returns (batch, source, channel, time), or without batch. ValueError for other shapes, no
    samples, NaN and negative shifts. Source: Défossez et al. 2019; section 6.10.
    """
    check_audio(mixture=mixture)
    if mixture.ndim == 2:
        return separate(model, mixture[None], shifts, max_shift, generator)[0]
    if mixture.ndim != 3 or 0 in mixture.shape:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}; expected (batch, channel, "
                         "time) or (channel, time) with at least one sample")
    if not mixture.isfinite().all():
        raise ValueError("mixture holds NaN or infinity; expected finite samples in [-1, 1]")
    if model.audio_channels == 1 and mixture.shape[1] > 1:
        alone = separate(model, mixture.flatten(0, 1)[:, None], shifts, max_shift, generator)
        return alone[:, :, 0].unflatten(0, mixture.shape[:2]).transpose(1, 2)
    x = mixture.to(next(model.parameters()).dtype)
    if shifts == 0:
        return padded_separation(model, x).to(mixture.dtype)
    return _shifted_average(model, x, shifts, max_shift, generator).to(mixture.dtype)


def _shifted_average(model: nn.Module, x: Tensor, shifts: int, max_shift: int | None,
                     generator: torch.Generator | None) -> Tensor:
    """The mean of the estimates of `shifts` copies that begin 0 to max_shift samples earlier."""
    max_shift = model.samplerate // 2 if max_shift is None else max_shift
    if shifts < 0 or max_shift < 0:
        raise ValueError(f"shifts is {shifts} and max_shift {max_shift}; expected both >= 0")
    padded, total = F.pad(x, (max_shift, max_shift)), 0.0
    for _ in range(shifts):
        early = int(torch.randint(max_shift + 1, (), generator=generator))
        copy = padded[..., max_shift - early:x.shape[-1] + 2 * max_shift - early]
        total = total + padded_separation(model, copy)[..., early:early + x.shape[-1]]
    return total / shifts

# %% [markdown]
# ## Repitch

# %%
#| export
def stretch(x: Tensor, speed: float, frame: int = 2048, search: int = 512) -> Tensor:
    """Audio `speed` times as fast at the same pitch: (..., time) -> (..., about time / speed).

    Frames of `frame` samples overlap by half. Each is taken at most `search` samples from where
    the speed puts it, where it goes on best from the frame before: the same place for all signals
    of x, found on their sum. ValueError for no samples and speeds that aren't above 0. Source:
    Verhelst and Roelands 1993 (WSOLA); section 6.11.
    """
    check_audio(x=x)
    if not speed > 0 or 0 in x.shape:
        raise ValueError(f"speed is {speed} and x {tuple(x.shape)}; expected both above 0")
    hop, window = frame // 2, torch.hann_window(frame, dtype=x.dtype, device=x.device)
    count = math.ceil(x.shape[-1] / speed / hop) + 1
    padded = F.pad(x, (hop + search, 2 * frame + 2 * search + math.ceil(hop * speed)))
    guide = padded.flatten(0, -2).sum(0) if x.ndim > 1 else padded
    y, place = x.new_zeros(*x.shape[:-1], (count + 1) * hop), search
    for m in range(count):
        first = round(m * hop * speed)                              # of the places to choose from
        if m:
            region, before = guide[first:first + 2 * search + frame], guide[place + hop:]
            place = first + int(F.conv1d(region[None, None], before[None, None, :frame]).argmax())
        y[..., m * hop:m * hop + frame] += window * padded[..., place:place + frame]
    return y[..., hop:hop + round(x.shape[-1] / speed)]


INTERVALS = {0: (1, 1), 1: (18, 17), 2: (9, 8), 3: (6, 5), 4: (5, 4), 5: (4, 3)}


def repitch(x: Tensor, semitones: int, tempo: float = 1.0) -> Tensor:
    """Audio at another pitch and tempo: (..., time) -> (..., about time / tempo).

    All signals of x move alike. semitones: a whole number from -5 to 5, taken as a just interval.
    tempo: > 0, 1.1 is a tenth faster. ValueError for others. Source: used for separation by
    Cohen-Hadria, Roebel and Peeters 2019; section 6.11.
    """
    if abs(semitones) not in INTERVALS or not tempo > 0:
        raise ValueError(f"semitones is {semitones} and tempo {tempo}; expected a whole number "
                         "from -5 to 5 and a factor above 0")
    up, down = INTERVALS[abs(semitones)][:: 1 if semitones >= 0 else -1]
    stretched = stretch(x, tempo * down / up)
    return stretched if semitones == 0 else resample_by(stretched, up, down)

# %% [markdown]
# ## Training step and scores

# %%
#| export
LOSSES = {"l1": F.l1_loss, "l2": F.mse_loss}


class WaveformStep:
    """A training step on waveforms: the mean absolute error of the estimates (eq. 6.9).

    Called with (model, sources): sources (batch, source, channel, time); the model is given their
    sum, and what it gives is compared with their middle, as long as its output. loss: "l1" or
    "l2". ValueError for another loss and for an output of another shape.
    Source: Défossez et al. 2019; section 6.11.
    """

    def __init__(self, loss: str = "l1"):
        if loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}; expected one of {', '.join(LOSSES)}")
        self.loss = loss

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        estimates = model(sources.sum(1))
        length = min(estimates.shape[-1], sources.shape[-1])
        estimates, sources = center_trim(estimates, length), center_trim(sources, length)
        if estimates.shape != sources.shape:
            raise ValueError(f"the model gives {tuple(estimates.shape)}, the targets have "
                             f"{tuple(sources.shape)}; expected the same (batch, source, channel, "
                             "time)")
        return LOSSES[self.loss](estimates, sources)


def separation_scores(model: nn.Module, data: Sequence[Track], shifts: int = 0,
                      seed: int = 0) -> dict[str, float]:
    """Mean SDR in dB over songs, of each of the model's sources, and their mean (`sdr`, first).

    data: tracks. shifts: see `separate`, by a generator of this seed. A song's score is chapter
    1's `song_sdr`; songs in which a source is silent don't count for it. Source: section 6.11.
    """
    generator, table = torch.Generator().manual_seed(seed), []
    device = next(model.parameters()).device
    with torch.no_grad():
        for track in data:
            estimates = separate(model, track.mixture.to(device), shifts, generator=generator)
            table.append(song_sdr(estimates, track.sources(model.sources).to(device)))
    means = torch.stack(table).nanmean(0)                          # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(model.sources, means.tolist()))}

# %% [markdown]
# ## Quantisation

# %%
#| export
def quantise(p: Tensor, bits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Values rounded to 2^bits levels, evenly spaced from low to high (eq. 6.11).

    p: (group, value). bits: whole numbers, (group, 1). low, high: of all values. Section 6.15.
    """
    unit = (high - low) / (2.0 ** bits - 1)
    return ((p - low) / unit).round() * unit + low


class DiffQ(nn.Module):
    """A network whose weights learn with how many bits they are stored.

    model: whose weight tensors of at least `min_values` numbers are quantised, in groups of
    `group` numbers with one number of bits each, from min_bits to max_bits, init_bits at first.
    In training their rounding is imitated by noise, through which gradients reach the bits; in
    eval mode they are rounded. The first weights are moved into it; `model.facts`, sources etc.
    are found under `inner`. ValueError for bits out of order. Source: Défossez, Adi and Synnaeve
    2021; as the package diffq (Gaussian noise); section 6.15.
    """

    def __init__(self, model: nn.Module, group: int = 8, min_values: int = 2622,
                 min_bits: float = 2.0, max_bits: float = 15.0, init_bits: float = 8.0):
        super().__init__()
        if not min_bits < init_bits < max_bits:
            raise ValueError(f"bits are {min_bits}, {init_bits}, {max_bits}; expected min_bits < "
                             "init_bits < max_bits")
        self.inner, self.group, self.min_bits, self.max_bits = model, group, min_bits, max_bits
        self.names = [name for name, p in model.named_parameters()
                      if p.numel() >= min_values and p.numel() % group == 0]
        start = torch.logit(torch.tensor((init_bits - min_bits) / (max_bits - min_bits)))
        tensors = dict(model.named_parameters())
        self.logits = nn.ParameterList(
            torch.full((tensors[name].numel() // group, 1), float(start)) for name in self.names)

    def bits(self) -> list[Tensor]:
        """Bits of every group, real numbers: one (group, 1) a tensor."""
        span = self.max_bits - self.min_bits
        return [self.min_bits + span * torch.sigmoid(logit) for logit in self.logits]

    def weights(self) -> dict[str, Tensor]:
        """The quantised tensors by name: with noise in training, else rounded."""
        tensors, found = dict(self.inner.named_parameters()), {}
        for name, bits in zip(self.names, self.bits()):
            p = tensors[name].reshape(-1, self.group)
            low, high = p.min(), p.max()
            if self.training:
                noise = torch.randn_like(p) / 2
                found[name] = (p + (high - low) / (2 ** bits - 1) * noise).view_as(tensors[name])
            else:
                found[name] = quantise(p, bits.round(), low, high).view_as(tensors[name])
        return found

    def forward(self, mix: Tensor) -> Tensor:
        return torch.func.functional_call(self.inner, self.weights(), (mix,))

    def megabytes(self) -> Tensor:
        """Size of the stored network, with a gradient for the bits: 2^20 bytes (eq. 6.13)."""
        tensors = dict(self.inner.named_parameters())
        total = sum(32.0 * p.numel() for name, p in tensors.items() if name not in self.names)
        for bits in self.bits():
            most = float(bits.detach().max().round())
            index = math.ceil(math.log2(1 + most - self.min_bits))     # to store a group's bits
            total = total + self.group * bits.sum() + 2 * 32 + 8 + index * bits.numel()
        return total / (8 * 2 ** 20)

# %% [markdown]
# Step

# %%
#| export
class DiffQStep:
    """The training step of a `DiffQ` network: another step's loss and a penalty on the size.

    step: the loss, (model, batch) -> scalar. penalty: per 2^20 bytes. Logs both. Section 6.15.
    """

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor], penalty: float):
        self.step, self.penalty = step, penalty

    def __call__(self, model: nn.Module, sources: Tensor) -> dict[str, Tensor]:
        error, size = self.step(model, sources), model.megabytes()
        return {"loss": error + self.penalty * size, "error": error, "megabytes": size}
