# %% [markdown]
# # Chapter 15 · The WaveNet autoencoder
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/15_wavenet_autoencoder.ipynb)
#
# Draft.

# %%
#| default_exp wavenet
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("15_wavenet_autoencoder", cpu=dict(steps=30), gpu=dict(steps=200), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module.

# %%
#| export
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %% [markdown]
# mu-law.

# %%
#| export
SYMBOLS = 256                       # of the mu-law code


def mu_law_encode(x: Tensor, mu: int = 255) -> Tensor:
    """Audio in [-1, 1], any shape, to whole numbers 0 to mu, finer near silence (eq. 15.1).

    Beyond [-1, 1] it is clipped. Silence gives 127. As the official code it cuts off and does not
    round, see `mu_law_decode`. ValueError for whole numbers and NaN. Source: ITU-T G.711, van den
    Oord et al. 2016, section 2.2; facebookresearch/music-translation; section 15.2.
    """
    if not x.is_floating_point() or torch.isnan(x).any():
        raise ValueError(f"x is {x.dtype}{' with NaN' if x.is_floating_point() else ''}; expected "
                         "audio in [-1, 1] without NaN")
    x = x.clamp(-1, 1)
    y = x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)      # in [-1, 1]
    return ((y + 1) / 2 * mu).long()


def mu_law_decode(codes: Tensor, mu: int = 255) -> Tensor:
    """Whole numbers 0 to mu to float32 audio (eq. 15.2): code 128 is silence, 127 a little below.

    Not quite the inverse of `mu_law_encode`, as in the official code: it divides by 256 where that
    multiplies by 255. ValueError for other numbers. Section 15.2.
    """
    check_codes(codes, mu)
    y = 2 * (codes.float() - (mu + 1) / 2) / (mu + 1)
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def check_codes(codes: Tensor, mu: int = 255) -> None:
    """ValueError unless codes are whole numbers from 0 to mu, at least one."""
    if codes.is_floating_point() or codes.dtype == torch.bool or codes.numel() == 0:
        raise ValueError(f"codes are {codes.dtype} of shape {tuple(codes.shape)}; expected whole "
                         "numbers, at least one: see mu_law_encode")
    if not 0 <= int(codes.min()) <= int(codes.max()) <= mu:
        raise ValueError(f"codes go from {int(codes.min())} to {int(codes.max())}; expected 0 to "
                         f"{mu}")

# %% [markdown]
# Causal.

# %%
#| export
class CausalConv1d(nn.Conv1d):
    """A convolution that sees the present and the past (eq. 15.4): (batch, in_channels, time) to
    (batch, out_channels, time), zeros before the beginning. Section 15.4."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 2,
                 dilation: int = 1):
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation)

    @property
    def past(self) -> int:
        """How many samples back the first tap lies."""
        return (self.kernel_size[0] - 1) * self.dilation[0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.past, 0)))

# %%
#| export
def receptive_field(blocks: int, layers: int, kernel_size: int = 2) -> int:
    """Samples of the past that a WaveNet's prediction rests on (eq. 15.5; section 15.5)."""
    return 1 + (kernel_size - 1) * (1 + blocks * (2 ** layers - 1))

# %%
#| export
class WaveNetLayer(nn.Module):
    """A gated residual layer (eq. 15.6, 15.7).

    forward: x (batch, residual_channels, time) and, unless None, z (batch, cond_channels, frame),
    time a multiple of frame, to what is added to x (the same shape) and to the skips (batch,
    skip_channels, time). The first half of `causal` is the gate. Source: van den Oord et al. 2016,
    section 2.3 and eq. 2; names as in facebookresearch/music-translation; section 15.6.
    """

    def __init__(self, residual_channels: int, skip_channels: int, cond_channels: int,
                 kernel_size: int = 2, dilation: int = 1):
        super().__init__()
        self.causal = CausalConv1d(residual_channels, 2 * residual_channels, kernel_size, dilation)
        self.condition = nn.Conv1d(cond_channels, 2 * residual_channels, 1)
        self.residual = nn.Conv1d(residual_channels, residual_channels, 1)
        self.skip = nn.Conv1d(residual_channels, skip_channels, 1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a = self.causal(x)                                         # (batch, 2 channel, time)
        if z is not None:
            a = a + repeat_frames(self.condition(z), x.shape[-1])
        gate, content = a.chunk(2, dim=1)
        h = torch.sigmoid(gate) * torch.tanh(content)              # (batch, channel, time)
        return self.residual(h), self.skip(h)


def repeat_frames(z: Tensor, time: int) -> Tensor:
    """(batch, channel, frame) to (batch, channel, time), every frame time / frame times."""
    if z.shape[-1] == 0 or time % z.shape[-1]:
        raise ValueError(f"z has {z.shape[-1]} frames for {time} samples; expected a number of "
                         "frames that divides that of the samples")
    return z.repeat_interleave(time // z.shape[-1], dim=-1)

# %%
#| export
class WaveNet(nn.Module):
    """The decoder: what the next sample may be, given those before it and a code z (section 15.7).

    latent_d: channels of z. blocks times layers gated layers, dilations 1, 2, ... 2^(layers - 1) in
    every block. kernel_size: taps. forward: codes (batch, time), 0 to 255, and z (batch, latent_d,
    frame), time a multiple of frame, or None, to logits (batch, 256, time); those of time t have
    seen the codes before t alone. ValueError for other shapes and numbers. Source: van den Oord et
    al. 2016; arguments and tensors as in facebookresearch/music-translation, with its defaults.
    """

    def __init__(self, latent_d: int = 128, blocks: int = 4, layers: int = 10,
                 kernel_size: int = 2, residual_channels: int = 128, skip_channels: int = 128):
        super().__init__()
        sizes = dict(latent_d=latent_d, blocks=blocks, layers=layers, kernel_size=kernel_size,
                     residual_channels=residual_channels, skip_channels=skip_channels)
        check_sizes(**sizes)
        self.sizes = sizes
        self.layers = nn.ModuleList(
            WaveNetLayer(residual_channels, skip_channels, latent_d, kernel_size, 2 ** i)
            for _ in range(blocks) for i in range(layers))
        self.first_conv = CausalConv1d(1, residual_channels, kernel_size)
        self.skip_conv = nn.Conv1d(residual_channels, skip_channels, 1)
        self.condition = nn.Conv1d(latent_d, skip_channels, 1)
        self.fc = nn.Conv1d(skip_channels, skip_channels, 1)
        self.logits = nn.Conv1d(skip_channels, SYMBOLS, 1)

    @property
    def receptive_field(self) -> int:
        """Samples of the past that a prediction rests on."""
        return receptive_field(*(self.sizes[name] for name in ("blocks", "layers", "kernel_size")))

    def forward(self, codes: Tensor, z: Tensor | None = None) -> Tensor:
        check_codes(codes)
        if codes.ndim != 2:
            raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (batch, time)")
        check_latents(z, len(codes), self.sizes["latent_d"])
        x = scaled(codes, self.logits.weight.dtype)                # (batch, 1, time)
        x = self.first_conv(F.pad(x, (1, 0))[..., :-1])            # the last sample isn't seen
        skips = self.skip_conv(x)
        for layer in self.layers:
            added, skip = layer(x, z)
            x, skips = x + added, skips + skip
        y = self.fc(skips.relu())
        if z is not None:
            y = y + repeat_frames(self.condition(z), y.shape[-1])
        return self.logits(y.relu())


def scaled(codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Codes (batch, time) as the networks take them in: (batch, 1, time), from -0.5 to 0.5."""
    return codes[:, None].to(dtype) / 255 - 0.5


def check_sizes(**sizes: int) -> None:
    """ValueError unless all are whole numbers from 1 on."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} is {size!r}; expected a whole number from 1 on")


def check_latents(z: Tensor | None, batch: int, latent_d: int) -> None:
    """ValueError unless z is None or float (batch, latent_d, frame) with a frame at least."""
    if z is None:
        return
    if (z.ndim != 3 or z.shape[:2] != (batch, latent_d) or not z.shape[-1]
            or not z.is_floating_point()):
        raise ValueError(f"z is {z.dtype} of shape {tuple(z.shape)}; expected floats ({batch}, "
                         f"{latent_d}, frame)")

# %%
#| export
class DilatedResConv(nn.Module):
    """x + W2 relu(W1 x), W1 three dilated taps around the present (eq. 15.9): (batch, channels,
    time) to the same. relu_first: W1 relu(x), as NSynth has it; section 15.8."""

    def __init__(self, channels: int, dilation: int = 1, relu_first: bool = False):
        super().__init__()
        self.relu_first = relu_first
        self.dilated_conv = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv_1x1 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.relu() if self.relu_first else x
        return x + self.conv_1x1(self.dilated_conv(h).relu())


class TemporalEncoder(nn.Module):
    """Codes of a sound to a few channels, many times slower (section 15.8).

    encoder_blocks times encoder_layers blocks of `DilatedResConv`, dilations 1, 2, ... in each; to
    latent_d channels; mean over every encoder_pool samples. relu_first: NSynth's order, or the
    music translation's without. forward: codes (batch, time), 0 to 255, to (batch, latent_d, time
    // encoder_pool). ValueError for other input, and for less than one pool. Source: Engel et al.
    2017, section 2.1; names as in facebookresearch/music-translation, with NSynth's sizes.
    """

    def __init__(self, latent_d: int = 16, encoder_channels: int = 128, encoder_blocks: int = 3,
                 encoder_layers: int = 10, encoder_pool: int = 512, relu_first: bool = True):
        super().__init__()
        check_sizes(latent_d=latent_d, encoder_channels=encoder_channels, encoder_pool=encoder_pool,
                    encoder_blocks=encoder_blocks, encoder_layers=encoder_layers)
        self.start = nn.Conv1d(1, encoder_channels, 3, padding=1)
        self.dilated_convs = nn.Sequential(*(
            DilatedResConv(encoder_channels, 2 ** i, relu_first)
            for _ in range(encoder_blocks) for i in range(encoder_layers)))
        self.conv_1x1 = nn.Conv1d(encoder_channels, latent_d, 1)
        self.pool = nn.AvgPool1d(encoder_pool)

    @property
    def hop_length(self) -> int:
        """Samples of a frame of the code."""
        return self.pool.kernel_size[0]

    def forward(self, codes: Tensor) -> Tensor:
        check_codes(codes)
        if codes.ndim != 2 or codes.shape[-1] < self.hop_length:
            raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (batch, time) with "
                             f"at least {self.hop_length} samples, a frame")
        x = self.dilated_convs(self.start(scaled(codes, self.conv_1x1.weight.dtype)))
        return self.pool(self.conv_1x1(x))                         # (batch, latent_d, frame)

# %%
#| export
class WaveNetAutoencoder(nn.Module):
    """A `TemporalEncoder` and a `WaveNet` that is told its code (section 15.9).

    latent_d, hop_length: of the code. encoder, decoder: the other arguments of the two. forward:
    codes (batch, time), time a multiple of hop_length, to logits (batch, 256, time). encode: audio
    (batch, time) in [-1, 1], whole hops, to z (batch, latent_d, frame). decode: z to audio, see
    `generate`. Source: Engel et al. 2017, section 2.1.
    """

    def __init__(self, latent_d: int = 16, hop_length: int = 512, encoder: dict | None = None,
                 decoder: dict | None = None):
        super().__init__()
        self.encoder = TemporalEncoder(latent_d, encoder_pool=hop_length, **(encoder or {}))
        self.decoder = WaveNet(latent_d, **(decoder or {}))
        self.hop_length = hop_length

    def forward(self, codes: Tensor) -> Tensor:
        return self.decoder(codes, self.encoder(codes))

    def encode(self, x: Tensor) -> Tensor:
        """Audio (batch, time) in [-1, 1], whole hops, to its code (batch, latent_d, frame)."""
        return self.encoder(mu_law_encode(x))

    def decode(self, z: Tensor, generator: torch.Generator | None = None,
               temperature: float = 1.0) -> Tensor:
        """A sound drawn for a code: (batch, latent_d, frame) to (batch, frame * hop_length)."""
        uniforms = torch.rand(len(z), z.shape[-1] * self.hop_length, generator=generator,
                              dtype=torch.float64)
        return mu_law_decode(generate(self.decoder, z, uniforms, self.hop_length, temperature))

# %%
#| export
class WaveNetStep:
    """A training step: cross entropy of every sample's code in bits (eq. 15.3). Called with (model,
    codes), model(codes) giving logits, codes (batch, time). Gives a dict with loss; section 15.9.
    """

    def __call__(self, model: nn.Module, codes: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(model(codes), codes) / math.log(2)}


@torch.no_grad()
def bits_per_sample(model: nn.Module, data: Sequence[Tensor]) -> dict[str, float]:
    """Mean cross entropy in bits a sample over batches of codes (batch, time); section 15.9."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    bits = [float(WaveNetStep()(model, codes.to(device))["loss"]) for codes in data]
    model.train(training)
    return {"bits": sum(bits) / len(bits)}

# %%
#| export
def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """One code for each row of logits (batch, 256), by a number (batch,) from [0, 1): the first
    code at which the running sum of the probabilities exceeds it (eq. 15.10). temperature divides
    the logits; 0: the likeliest code. Returns (batch,); section 15.10."""
    if temperature == 0:
        return logits.argmax(1)
    weights = ((logits - logits.amax(1, keepdim=True)) / temperature).exp()
    sums = weights.cumsum(1)
    return (sums <= uniform[:, None].to(sums) * sums[:, -1:]).sum(1).clamp_max(SYMBOLS - 1)


def check_generation(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                     temperature: float) -> None:
    """ValueError unless z and the random numbers (batch, time) fit each other and the model."""
    check_latents(z, len(z), model.sizes["latent_d"])
    longest = z.shape[-1] * hop_length
    if uniforms.ndim != 2 or len(uniforms) != len(z) or not 0 < uniforms.shape[1] <= longest:
        raise ValueError(f"uniforms have shape {tuple(uniforms.shape)}; expected ({len(z)}, time), "
                         f"1 to {longest} samples for {z.shape[-1]} frames of {hop_length}")
    if not temperature >= 0:
        raise ValueError(f"temperature is {temperature}; expected 0 (the likeliest) or more")

# %%
#| export
@torch.no_grad()
def generate_naive(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                   temperature: float = 1.0) -> Tensor:
    """As `generate`, the plain way: for each sample the network runs over all that it sees.
    Section 15.10."""
    check_generation(model, z, uniforms, hop_length, temperature)
    z = z.repeat_interleave(hop_length, dim=-1)                    # (batch, latent_d, time)
    codes = torch.zeros(len(z), uniforms.shape[1], dtype=torch.long)
    for t in range(codes.shape[1]):
        seen = slice(max(0, t - model.receptive_field), t + 1)     # code t is there, but not read
        logits = model(codes[:, seen], z[..., seen])[..., -1]
        codes[:, t] = draw(logits, uniforms[:, t], temperature)
    return codes

# %%
#| export
class QueuedConv:
    """A `CausalConv1d` that is given one sample after the other, (batch, channel) to (batch,
    channel), and keeps what it will need again in a queue (eq. 15.11). Section 15.11."""

    def __init__(self, conv: CausalConv1d, batch: int):
        self.taps = conv.weight.unbind(-1)                         # oldest first, each (out, in)
        self.bias, self.dilation = conv.bias, conv.dilation[0]
        zeros = conv.weight.new_zeros(batch, conv.in_channels)
        self.queue = deque([zeros] * conv.past, maxlen=conv.past)

    def __call__(self, x: Tensor) -> Tensor:
        old = [self.queue[j * self.dilation] for j in range(len(self.taps) - 1)]
        self.queue.append(x)                                       # and the oldest drops out
        return self.bias + sum(y @ tap.T for y, tap in zip([*old, x], self.taps))


class QueuedWaveNet:
    """A `WaveNet` that takes one sample at a time: step(x, z) with the scaled sample before, x
    (batch, 1), and z (batch, latent_d), gives logits (batch, 256). Section 15.11."""

    def __init__(self, model: WaveNet, batch: int):
        self.model = model
        self.first = QueuedConv(model.first_conv, batch)
        self.causal = [QueuedConv(layer.causal, batch) for layer in model.layers]

    def step(self, x: Tensor, z: Tensor) -> Tensor:
        once = lambda conv, x: x @ conv.weight[..., 0].T + conv.bias
        x = self.first(x)
        skips = once(self.model.skip_conv, x)
        for layer, causal in zip(self.model.layers, self.causal):
            gate, content = (causal(x) + once(layer.condition, z)).chunk(2, dim=1)
            h = torch.sigmoid(gate) * torch.tanh(content)
            x, skips = x + once(layer.residual, h), skips + once(layer.skip, h)
        y = once(self.model.fc, skips.relu()) + once(self.model.condition, z)
        return once(self.model.logits, y.relu())


@torch.no_grad()
def generate_queued(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
                    temperature: float = 1.0) -> Tensor:
    """As `generate`, with a queue a layer, in plain PyTorch. Section 15.11."""
    check_generation(model, z, uniforms, hop_length, temperature)
    queued, x = QueuedWaveNet(model, len(z)), z.new_zeros(len(z), 1)
    codes = torch.zeros(uniforms.shape, dtype=torch.long)
    for t in range(codes.shape[1]):
        logits = queued.step(x, z[..., t // hop_length])
        codes[:, t] = draw(logits, uniforms[:, t], temperature)
        x = scaled(codes[:, t:t + 1], z.dtype)[:, 0]
    return codes

# %%
#| export
LOOSE = {"reassoc", "contract"}     # sums in any order, so that several products are made at once


@numba.njit(nogil=True, fastmath=LOOSE)
def _add_product(weight, x, y):
    """y += weight x."""
    for o in range(weight.shape[0]):
        total = y[o]
        for i in range(weight.shape[1]):
            total += weight[o, i] * x[i]
        y[o] = total


@numba.njit(nogil=True, fastmath=LOOSE)
def _draw(logits, uniform, temperature):
    """`draw` for one row."""
    if temperature == 0:
        return np.argmax(logits)
    top, total = logits.max(), 0.0
    for s in range(len(logits)):
        logits[s] = math.exp((logits[s] - top) / temperature)
        total += logits[s]
    target, sums = uniform * total, 0.0
    for s in range(len(logits) - 1):
        sums += logits[s]
        if sums > target:
            return s
    return len(logits) - 1

# %%
#| export
@numba.njit(nogil=True, fastmath=LOOSE)
def _layer(x, causal, queue, t, dilation, a, taps, residual, residual_bias, skip, skips):
    """One gated layer at time t: adds to x and skips. a comes with bias and condition in it."""
    width, past = len(x), len(queue)
    for j in range(past // dilation):                              # oldest first
        taps[j * width:(j + 1) * width] = queue[(t + j * dilation) % past]
    taps[past // dilation * width:] = x
    queue[t % past] = x                                            # where the oldest was
    _add_product(causal, taps, a)
    for c in range(width):
        a[c] = math.tanh(a[width + c]) / (1 + math.exp(-a[c]))
    h = a[:width]
    _add_product(skip, h, skips)
    x += residual_bias
    _add_product(residual, h, x)


@numba.njit(nogil=True, fastmath=LOOSE)
def _run(first, first_bias, skip_conv, skip_bias, causal, residual, residual_bias, skip, dilations,
         fc, logits_weight, logits_bias, frames, last_frames, hop, uniforms, temperature, codes):
    """Draw all codes of one sound; frames (frame, layer, 2 channel), last_frames (frame, skip):
    bias and condition of every layer and of `fc`."""
    width, taps = first.shape[0], first.shape[1]
    queues = [np.zeros(((taps - 1) * d, width), first.dtype) for d in dilations]
    inputs, x = np.zeros(taps, first.dtype), np.empty(width, first.dtype)
    seen, y = np.empty(taps * width, first.dtype), np.empty(fc.shape[0], first.dtype)
    for t in range(len(uniforms)):
        x[:] = first_bias
        _add_product(first, inputs, x)
        skips = skip_bias.copy()
        _add_product(skip_conv, x, skips)
        for n in range(len(dilations)):
            _layer(x, causal[n], queues[n], t, dilations[n], frames[t // hop, n].copy(), seen,
                   residual[n], residual_bias[n], skip[n], skips)
        y[:] = last_frames[t // hop]
        _add_product(fc, np.maximum(skips, 0), y)
        logits = logits_bias.copy()
        _add_product(logits_weight, np.maximum(y, 0), logits)
        codes[t] = _draw(logits, uniforms[t], temperature)
        inputs[:-1] = inputs[1:]
        inputs[-1] = codes[t] / 255 - 0.5

# %%
#| export
@torch.no_grad()
def _packed(model: WaveNet) -> tuple[np.ndarray, ...]:
    """The weights as the compiled loop takes them: of all layers in one array."""
    array = lambda x: np.ascontiguousarray(x.detach().cpu().numpy())
    stack = lambda name, what: torch.stack([getattr(getattr(one, name), what)
                                            for one in model.layers])
    causal = stack("causal", "weight").mT.flatten(2)               # oldest tap first
    skip_bias = model.skip_conv.bias + stack("skip", "bias").sum(0)
    dilations = np.array([one.causal.dilation[0] for one in model.layers])
    return (array(model.first_conv.weight[:, 0]), array(model.first_conv.bias),
            array(model.skip_conv.weight[..., 0]), array(skip_bias), array(causal),
            array(stack("residual", "weight")[..., 0]), array(stack("residual", "bias")),
            array(stack("skip", "weight")[..., 0]), dilations, array(model.fc.weight[..., 0]),
            array(model.logits.weight[..., 0]), array(model.logits.bias))


@torch.no_grad()
def generate(model: WaveNet, z: Tensor, uniforms: Tensor, hop_length: int,
             temperature: float = 1.0) -> Tensor:
    """Draw sounds for codes z (batch, latent_d, frame), hop_length samples a frame.

    uniforms: (batch, time) float64 from [0, 1), one for each sample, time <= frame * hop_length:
    they decide what is drawn. temperature: divides the logits; 0 takes the likeliest. Returns codes
    (batch, time), 0 to 255. Compiled, on the CPU, a thread a sound, as many as torch uses. The
    first sample is predicted from zeros, as in training. ValueError for shapes that don't fit.
    Source: Paine et al. 2016; section 15.11.
    """
    check_generation(model, z, uniforms, hop_length, temperature)
    weights, codes = _packed(model), torch.zeros(uniforms.shape, dtype=torch.long)
    frames = torch.stack([layer.causal.bias[:, None] + layer.condition(z)
                          for layer in model.layers])              # (layer, batch, 2 channel, frame)
    frames = frames.permute(1, 3, 0, 2).contiguous().cpu().numpy()
    last = (model.fc.bias[:, None] + model.condition(z)).mT.contiguous().cpu().numpy()
    numbers = np.ascontiguousarray(uniforms.cpu().numpy(), np.float64)
    task = lambda n: _run(*weights, frames[n], last[n], hop_length, numbers[n], float(temperature),
                          codes.numpy()[n])
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(task, range(len(z))))
    return codes
