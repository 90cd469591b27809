# %% [markdown]
# # Chapter 11 · Jukebox's codes
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/11_music_vq_vae.ipynb)
#
# *Jukebox* (2020) writes songs the way one writes sentences: it chooses one symbol after another out of a vocabulary of 2048. This chapter
# builds the machine that makes symbols of sound and sound of symbols, at three speeds: 2756, 689 and 172 symbols a second. You will read
# every line of it, load the published weights into it by name, hear what each speed keeps and what it throws away, and put it
# beside Opus, which phones use, and beside residual quantisation, which came after.
#
# **You will be able to**
# - build the three encoders and decoders of Jukebox out of one residual block, and count what they see,
# - keep a codebook alive on music: running means, random restarts, and how to know that it lives,
# - say what a spectral loss sees that a waveform loss doesn't, and why one resolution of it is not enough,
# - count the bits a second of any codec, and compare two at *equal* bits,
# - explain residual vector quantisation, and what it buys.
#
# **You need** chapter 10 (nearest code, straight-through gradient, commitment), chapter 1 (STFT), chapter 5 (losses). Chapter 12 learns to
# write in these symbols, chapter 14 steers them.
#
# **Time** <!-- minutes 11_music_vq_vae -->not measured<!-- /minutes -->. Reading and exercises: about three hours.

# %% [markdown]
# ## 11.0 Set up
#
# The first lines install the course where it is missing, on Colab. The trained codec came out of `course train jukebox_band`, the comparison
# of section 11.11 out of `course experiment jukebox`; both come with the course.

# %%
#| default_exp jukebox
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("11_music_vq_vae", cpu=dict(songs=4, seconds=6.0, steps=60),
          gpu=dict(songs=20, seconds=10.0, steps=300), threads=1)

# %% [markdown]
# Cells marked `#| export` become the module `course_lib/jukebox.py`, word for word. It begins here.

# %%
#| export
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.training.official import fetch_weights, load_strictly
from course_lib.training.parts import Part
from course_lib.training.weight_files import read_structure

# %% [markdown]
# ### The residual block

# %%
#| export
class ResConv1DBlock(nn.Module):
    """x + W2 relu(W1 relu(x)): a dilated convolution of 3 taps to n_state channels, then 1 tap back
    (eq. 11.1).

    dilation: samples between the taps. zero_out: begin as the identity. res_scale: factor of what is
    added. forward: (batch, n_in, time) to the same. Source: openai/jukebox; section 11.2.
    """

    def __init__(self, n_in: int, n_state: int, dilation: int = 1, zero_out: bool = False,
                 res_scale: float = 1.0):
        super().__init__()
        self.model = nn.Sequential(
            nn.ReLU(), nn.Conv1d(n_in, n_state, 3, padding=dilation, dilation=dilation),
            nn.ReLU(), nn.Conv1d(n_state, n_in, 1))
        self.res_scale = res_scale
        if zero_out:
            nn.init.zeros_(self.model[-1].weight)
            nn.init.zeros_(self.model[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.model(x) if self.res_scale == 1 else self.res_scale * self.model(x))

# %%
#| export
class Resnet1D(nn.Module):
    """n_depth residual blocks, block d with dilation growth^d, or growth^(d mod cycle).

    n_in: channels in and out; m_conv: width of a block's inside, in n_in. res_scale: each block
    adds only 1/sqrt(n_depth) of what it makes. reverse_dilation: the widest block first, as in a
    decoder. forward: (batch, n_in, time) to the same. Source: Dhariwal et al. 2020, section 3 and
    appendix B.1; section 11.2.
    """

    def __init__(self, n_in: int, n_depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False, reverse_dilation: bool = False):
        super().__init__()
        powers = [d if dilation_cycle is None else d % dilation_cycle for d in range(n_depth)]
        scale = 1 / math.sqrt(n_depth) if res_scale else 1.0
        blocks = [ResConv1DBlock(n_in, int(m_conv * n_in), dilation_growth_rate ** power,
                                 zero_out, scale) for power in powers]
        self.model = nn.Sequential(*(reversed(blocks) if reverse_dilation else blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %% [markdown]
# ### Down and up

# %%
#| export
class EncoderConvBlock(nn.Module):
    """down_t times: a convolution that strides by stride_t, then residual blocks; then 3 taps to
    output_emb_width channels. forward: (batch, input_emb_width, time) to (batch, output_emb_width,
    time / stride_t^down_t). The rest as in `Resnet1D`; section 11.3."""

    def __init__(self, input_emb_width: int, output_emb_width: int, down_t: int, stride_t: int,
                 width: int, depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False):
        super().__init__()
        strided = lambda channels: nn.Conv1d(channels, width, 2 * stride_t, stride_t, stride_t // 2)
        stages = [nn.Sequential(
            strided(width if stage else input_emb_width),
            Resnet1D(width, depth, m_conv, dilation_growth_rate, dilation_cycle, zero_out,
                     res_scale)) for stage in range(down_t)]
        self.model = nn.Sequential(*stages, nn.Conv1d(width, output_emb_width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %%
#| export
class DecoderConvBlock(nn.Module):
    """The way back of `EncoderConvBlock`: 3 taps to the inner width, then down_t times residual
    blocks and a transposed convolution. forward: (batch, output_emb_width, step) to (batch,
    input_emb_width, step * stride_t^down_t); section 11.3."""

    def __init__(self, input_emb_width: int, output_emb_width: int, down_t: int, stride_t: int,
                 width: int, depth: int, m_conv: float = 1.0, dilation_growth_rate: int = 1,
                 dilation_cycle: int | None = None, zero_out: bool = False,
                 res_scale: bool = False, reverse_decoder_dilation: bool = True):
        super().__init__()
        up = lambda channels: nn.ConvTranspose1d(width, channels, 2 * stride_t, stride_t,
                                                 stride_t // 2)
        stages = [nn.Sequential(
            Resnet1D(width, depth, m_conv, dilation_growth_rate, dilation_cycle, zero_out,
                     res_scale, reverse_decoder_dilation),
            up(width if stage < down_t - 1 else input_emb_width)) for stage in range(down_t)]
        self.model = nn.Sequential(nn.Conv1d(output_emb_width, width, 3, padding=1), *stages)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

# %%
#| export
class Encoder(nn.Module):
    """`levels` blocks on top of each other; block l strides by stride_t[l] for downs_t[l] times.

    forward: (batch, input_emb_width, time) to what each block gives, a list of (batch,
    output_emb_width, steps), the fastest first. **block: see `EncoderConvBlock`. Section 11.3.
    """

    def __init__(self, input_emb_width: int, output_emb_width: int, levels: int,
                 downs_t: Sequence[int], strides_t: Sequence[int], **block):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            EncoderConvBlock(output_emb_width if level else input_emb_width, output_emb_width,
                             downs_t[level], strides_t[level], **block) for level in range(levels))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs = []
        for block in self.level_blocks:
            x = block(x)
            outputs.append(x)
        return outputs

# %%
#| export
class Decoder(nn.Module):
    """The way back of `Encoder`, the slowest block first, then 3 taps to input_emb_width channels.

    forward(xs): with all_levels one tensor a level, the fastest first, and each is added where the
    way up has come to its speed; else one tensor, the slowest. Gives (batch, input_emb_width,
    time). **block: see `DecoderConvBlock`. Section 11.3.
    """

    def __init__(self, input_emb_width: int, output_emb_width: int, levels: int,
                 downs_t: Sequence[int], strides_t: Sequence[int], **block):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            DecoderConvBlock(output_emb_width, output_emb_width, downs_t[level], strides_t[level],
                             **block) for level in range(levels))
        self.out = nn.Conv1d(output_emb_width, input_emb_width, 3, padding=1)

    def forward(self, xs: Sequence[Tensor], all_levels: bool = True) -> Tensor:
        expected = len(self.level_blocks) if all_levels else 1
        if len(xs) != expected:
            raise ValueError(f"xs has {len(xs)} tensors; expected {expected}, with all_levels="
                             f"{all_levels}")
        x = xs[-1]
        for level, block in reversed(list(enumerate(self.level_blocks))):
            x = block(x)
            if level and all_levels:
                x = x + xs[level - 1]
        return self.out(x)

# %% [markdown]
# ### The codebook

# %%
#| export
def nearest(x: Tensor, codes: Tensor, piece: int = 8192) -> tuple[Tensor, Tensor]:
    """The nearest code of every vector, and its squared distance (eq. 11.2), `piece` vectors at a
    time, so that memory stays small. x: (vector, width); codes: (code, width). Returns (vector,)
    whole numbers and (vector,) distances. Section 11.4."""
    found = [((x**2).sum(-1, keepdim=True) - 2 * x @ codes.T + (codes.T**2).sum(0, keepdim=True))
             .min(-1) for x in x.split(piece)]
    return torch.cat([one.indices for one in found]), torch.cat([one.values for one in found])

# %%
#| export
class BottleneckBlock(nn.Module):
    """One codebook: vectors to the nearest of k_bins codes, which follow the vectors in training.

    k: (k_bins, emb_width), the codes. In training mode they begin as vectors of the first batch,
    then are running means (mu) of the vectors that chose them; one whose running count is below
    `threshold` is put where a random vector of the batch is. Codes that were loaded count as
    begun. forward: (batch, emb_width, step) to codes (batch, step), vectors with the
    straight-through gradient, the commitment loss, and statistics: `entropy` of the batch's codes
    in nats, `used_curr` codes with `threshold` choices and more in the batch, `usage` by the
    running count, `dk` how far codes moved, `fit` the squared distance. Restarts draw from the
    global generator. Source: Dhariwal et al. 2020, section 3.1 and 3.3; sections 11.4 and 11.5.
    """

    def __init__(self, k_bins: int, emb_width: int, mu: float, threshold: float = 1.0):
        super().__init__()
        self.k_bins, self.emb_width, self.mu, self.threshold = k_bins, emb_width, mu, threshold
        self.register_buffer("k", torch.zeros(k_bins, emb_width))
        self.k_sum: Tensor | None = None                           # (k_bins, emb_width), running
        self.k_elem: Tensor | None = None                          # (k_bins,), running

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if self.k.any():
            self.restore_k()

    def reset_k(self) -> None:
        """Forget the codes: the next batch in training mode gives new ones."""
        self.k.zero_()
        self.k_sum = self.k_elem = None

    def restore_k(self, expected_usage: float = 1.0) -> None:
        """Let running means begin at the codes, as if each had been chosen so many times."""
        self.k_sum = self.k * expected_usage
        self.k_elem = torch.full_like(self.k[:, 0], expected_usage)

    def encode(self, x: Tensor) -> Tensor:
        """(batch, emb_width, step) to codes (batch, step)."""
        return nearest(self.rows(x), self.k)[0].unflatten(0, (x.shape[0], x.shape[-1]))

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, step) to vectors (batch, emb_width, step)."""
        return F.embedding(codes, self.k).mT

    @staticmethod
    def rows(x: Tensor) -> Tensor:
        """(batch, width, step) to (batch * step, width), in 32 bits."""
        return x.mT.flatten(0, 1).float()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        with torch.autocast(x.device.type, enabled=False):         # distances need their digits
            x = x.float()
            rows = self.rows(x)
            if self.training and self.k_sum is None:
                self.k.copy_(random_rows(rows.detach(), self.k_bins))
                self.restore_k(self.threshold or 1.0)              # who isn't chosen now, restarts
            codes, distance = nearest(rows, self.k)
            codes = codes.unflatten(0, (x.shape[0], x.shape[-1]))   # (batch, step)
            quantised = self.decode(codes)
            statistics = {"fit": distance.detach().mean()}
            if self.training:
                statistics |= self.update_k(rows.detach(), codes.flatten())
            commit = (quantised.detach() - x).square().mean()
            return codes, x + (quantised - x).detach(), commit, statistics

    @torch.no_grad()
    def update_k(self, x: Tensor, codes: Tensor) -> dict[str, Tensor]:
        """Move the codes towards the vectors (vector, emb_width) that chose them (eq. 11.3), and
        restart those that hardly any vector chooses."""
        total = torch.zeros_like(self.k).index_add_(0, codes, x)   # (k_bins, emb_width)
        count = torch.bincount(codes, minlength=self.k_bins).to(x.dtype)
        over_processes(total, count)
        self.k_sum = self.mu * self.k_sum.to(x.device) + (1 - self.mu) * total
        self.k_elem = self.mu * self.k_elem.to(x.device) + (1 - self.mu) * count
        alive = (self.k_elem >= self.threshold)[:, None]
        means = self.k_sum / self.k_elem.clamp_min(1e-20)[:, None]
        old = self.k.clone()
        self.k.copy_(torch.where(alive, means, random_rows(x, self.k_bins)))
        p = count / count.sum()
        return {"entropy": -(p * (p + 1e-8).log()).sum(), "usage": alive.sum().float(),
                "used_curr": (count >= self.threshold).sum().float(),
                "dk": (self.k - old).square().mean().sqrt()}

# %%
#| export
def random_rows(x: Tensor, count: int) -> Tensor:
    """`count` vectors drawn from x (vector, width) without repetition; from copies with a little
    noise (0.01 / sqrt(width)) where there are fewer. Several processes get the first one's."""
    if len(x) < count:
        copies = x.repeat(-(-count // len(x)), 1)
        x = copies + torch.randn_like(copies) * 0.01 / math.sqrt(x.shape[1])
    drawn = x[torch.randperm(len(x), device=x.device)[:count]].contiguous()
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(drawn, 0)
    return drawn


def over_processes(*tensors: Tensor) -> None:
    """Sum tensors in place over all processes of a training; alone, nothing."""
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)

# %%
#| export
class Bottleneck(nn.Module):
    """A codebook a level, the fastest first. forward: a list of latents to a list a level of what
    `BottleneckBlock` gives. Section 11.6."""

    def __init__(self, l_bins: int, emb_width: int, mu: float, levels: int, threshold: float = 1.0):
        super().__init__()
        self.level_blocks = nn.ModuleList(
            BottleneckBlock(l_bins, emb_width, mu, threshold) for _ in range(levels))

    def forward(self, xs: Sequence[Tensor]) -> list[tuple]:
        return [block(x) for block, x in zip(self.level_blocks, xs)]

# %% [markdown]
# ### Three autoencoders

# %%
#| export
@dataclass
class Coded:
    """What a VQ-VAE makes of audio, a list entry a level (one hierarchical: one output): outputs
    (batch, channel, time), codes (batch, step), commit losses, statistics of the codebooks."""

    outputs: list[Tensor]
    codes: list[Tensor]
    commits: list[Tensor]
    statistics: list[dict[str, Tensor]]

# %%
#| export
class VQVAE(nn.Module):
    """Jukebox's codec: `levels` autoencoders with a codebook each, apart from one another, from the
    fastest (hop 8) to the slowest (hop 128). The defaults are the published network.

    levels: how many. downs_t, strides_t: level l strides by strides_t[l], downs_t[l] times, after
    what the levels below it do. emb_width: entries of a code; l_bins: codes of a level. mu: of the
    running means; revival_threshold: running count below which a code is restarted. multipliers:
    factors of `width` and `depth` by level. x_channels: of the audio. The rest as in `Resnet1D`.
    hop_lengths: samples a code, by level. facts and bandwidth may be set by a training.
    forward: (batch, x_channels, time) to `Coded`; in training mode the codebooks move.
    Source: Dhariwal et al. 2020, section 3; names of tensors as in openai/jukebox. Section 11.6.
    """

    def __init__(self, levels: int = 3, downs_t: Sequence[int] = (3, 2, 2),
                 strides_t: Sequence[int] = (2, 2, 2), emb_width: int = 64, l_bins: int = 2048,
                 mu: float = 0.99, multipliers: Sequence[int] | None = (2, 1, 1), width: int = 32,
                 depth: int = 4, m_conv: float = 1.0, dilation_growth_rate: int = 3,
                 dilation_cycle: int | None = None, reverse_decoder_dilation: bool = True,
                 revival_threshold: float = 1.0, x_channels: int = 1):
        super().__init__()
        multipliers = (1,) * levels if multipliers is None else tuple(multipliers)
        for name, given in (("downs_t", downs_t), ("strides_t", strides_t),
                            ("multipliers", multipliers)):
            if len(given) < levels:
                raise ValueError(f"{name} is {tuple(given)}; expected one number for each of "
                                 f"{levels} levels")
        self.levels, self.l_bins, self.emb_width = levels, l_bins, emb_width
        self.x_channels, self.downs_t, self.strides_t = x_channels, downs_t, strides_t
        downsamples = [stride ** down for stride, down in zip(strides_t, downs_t)]
        self.hop_lengths = [math.prod(downsamples[:level + 1]) for level in range(levels)]
        self.bandwidth: dict[str, float] | None = None
        block = dict(m_conv=m_conv, dilation_growth_rate=dilation_growth_rate,
                     dilation_cycle=dilation_cycle)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for level, times in enumerate(multipliers[:levels]):
            sizes = dict(width=times * width, depth=times * depth, **block)
            shape = (x_channels, emb_width, level + 1, downs_t, strides_t)
            self.encoders.append(Encoder(*shape, **sizes))
            self.decoders.append(Decoder(*shape, **sizes,
                                         reverse_decoder_dilation=reverse_decoder_dilation))
        self.bottleneck = Bottleneck(l_bins, emb_width, mu, levels, revival_threshold)

    def latents(self, x: Tensor, level: int) -> Tensor:
        """What the encoder of a level gives, before it is quantised: (batch, x_channels, time) to
        (batch, emb_width, time / hop). ValueError for audio that is not in whole hops."""
        level, x = self._level(level), self._checked(x, self.hop_lengths[level])
        return self.encoders[level](x)[-1]

    def from_latents(self, z: Tensor, level: int) -> Tensor:
        """Vectors (batch, emb_width, step), codes or not, to audio (batch, x_channels, time)."""
        return self.decoders[self._level(level)]([z], all_levels=False)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Audio (batch, x_channels, time) in [-1, 1] to codes, (batch, time / hop) whole numbers a
        level, hop 8 first. ValueError unless time is a multiple of the largest hop (`to_hops`)."""
        x = self._checked(x, self.hop_lengths[-1])
        return [block.encode(self.latents(x, level))
                for level, block in enumerate(self.bottleneck.level_blocks)]

    def decode(self, codes: Tensor, level: int) -> Tensor:
        """Codes (batch, step) of one level to audio (batch, x_channels, step * hop). ValueError for
        codes that are no whole numbers below l_bins."""
        block = self.bottleneck.level_blocks[self._level(level)]
        if codes.ndim != 2 or codes.is_floating_point() or codes.numel() == 0:
            raise ValueError(f"codes are {codes.dtype} of shape {tuple(codes.shape)}; expected whole "
                             "numbers (batch, step), at least one")
        if not 0 <= int(codes.min()) <= int(codes.max()) < self.l_bins:
            raise ValueError(f"codes go from {int(codes.min())} to {int(codes.max())}; level {level} "
                             f"has 0 to {self.l_bins - 1}")
        return self.from_latents(block.decode(codes), level)

    def forward(self, x: Tensor) -> Coded:
        x = self._checked(x, self.hop_lengths[-1])
        latents = [encoder(x)[-1] for encoder in self.encoders]
        codes, quantised, commits, statistics = zip(*self.bottleneck(latents))
        outputs = [decoder([z], all_levels=False) for decoder, z in zip(self.decoders, quantised)]
        return Coded(outputs, list(codes), list(commits), list(statistics))

    def _level(self, level: int) -> int:
        if not 0 <= level < self.levels:
            raise ValueError(f"level is {level}; expected 0 (hop {self.hop_lengths[0]}) to "
                             f"{self.levels - 1} (hop {self.hop_lengths[-1]})")
        return level

    def _checked(self, x: Tensor, hop: int) -> Tensor:
        if x.ndim != 3 or x.shape[1] != self.x_channels or not x.is_floating_point():
            raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}; expected float audio (batch, "
                             f"{self.x_channels}, time)")
        if x.shape[-1] == 0 or x.shape[-1] % hop:
            raise ValueError(f"x has {x.shape[-1]} samples; expected a multiple of {hop} above 0: "
                             "pad it with to_hops")
        return x

# %%
#| export
def to_hops(x: Tensor, hop: int = 128) -> Tensor:
    """Audio (..., time) with zeros behind it, up to a multiple of `hop` samples (section 11.6)."""
    return F.pad(x, (0, -x.shape[-1] % hop))

# %% [markdown]
# ### Losses

# %%
#| export
def magnitudes(x: Tensor, n_fft: int, hop_length: int, window_size: int) -> Tensor:
    """Magnitudes of the STFT as Jukebox takes it: a Hann window of window_size in the middle of
    frames of n_fft, mirrored ends. x: (batch, 1, time). Returns (batch, bin, frame); section 11.7.
    """
    window = torch.hann_window(window_size, device=x.device, dtype=x.dtype)
    return torch.stft(x.mean(1), n_fft, hop_length, window_size, window, return_complex=True).abs()


def spectral_distance(x: Tensor, y: Tensor, n_fft: int, hop_length: int, window_size: int) -> Tensor:
    """The norm of the difference of two signals' magnitudes, (batch,), eq. 11.4; x, y: (batch, 1,
    time)."""
    difference = magnitudes(x, n_fft, hop_length, window_size) - magnitudes(
        y, n_fft, hop_length, window_size)
    return torch.linalg.vector_norm(difference.flatten(1), dim=1)

# %%
#| export
RESOLUTIONS = ((2048, 240, 1200), (1024, 120, 600), (512, 50, 240))     # n_fft, hop, window


def multispectral_loss(x: Tensor, y: Tensor,
                       resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> Tensor:
    """Mean over resolutions (n_fft, hop, window) of the distance of magnitudes, (batch,): eq. 11.5.

    x, y: (batch, 1, time), target and output. Magnitudes are linear, and not divided by the
    target's. Source: Dhariwal et al. 2020, section 3.2; section 11.7.
    """
    return torch.stack([spectral_distance(x, y, *one) for one in resolutions]).mean(0)


def linf_loss(x: Tensor, y: Tensor, linf_k: int = 2048) -> Tensor:
    """Mean of the linf_k largest squared errors of each example, (batch,): eq. 11.6; of all where
    there are fewer. x, y: (batch, channel, time). Section 11.7."""
    errors = (x - y).square().flatten(1)
    return errors.topk(min(linf_k, errors.shape[1]), dim=1).values.mean(1)

# %%
#| export
def spectral_convergence(x: Tensor, y: Tensor, epsilon: float = 2e-3) -> Tensor:
    """|| |X| - |Y| || / || |X| ||, (batch,), with frames of 2048, hop 256, window 1536: eq. 11.7.

    x, y: (batch, 1, time), target and output. 0 where the target's norm is below epsilon, as in
    openai/jukebox. Section 11.7.
    """
    size = torch.linalg.vector_norm(magnitudes(x, 2048, 256, 1536).flatten(1), dim=1)
    return spectral_distance(x, y, 2048, 256, 1536) * (size > epsilon) / size.clamp_min(epsilon)


def log_spectral_distance(x: Tensor, y: Tensor, floor: float = 1e-3) -> Tensor:
    """Root mean square, over bins, of the difference of two log spectra in dB, mean over frames,
    (batch,): eq. 11.9. x, y: (batch, 1, time), target and output. floor: magnitudes below this
    share of the target's largest count as it. Section 11.7."""
    X, Y = (magnitudes(signal, 2048, 256, 1536) for signal in (x, y))
    least = (floor * X.amax((1, 2), keepdim=True)).clamp_min(1e-8)
    difference = in_decibels(torch.maximum(X, least) / torch.maximum(Y, least))
    return difference.square().mean(1).sqrt().mean(-1)


def in_decibels(ratio: Tensor) -> Tensor:
    """20 log10 of a ratio of amplitudes; ratios below 1e-6 count as that."""
    return 20 * ratio.clamp_min(1e-6).log10()

# %%
#| export
def bandwidth_of(x: Tensor) -> dict[str, float]:
    """How large a data set's loss terms are: `l2` its variance, `l1` its mean magnitude, `spec` the
    mean norm of a chunk's spectrogram (frames 2048, hop 256, window 1536).

    x: (chunk, 1, time), chunks as long as those of the training, else ValueError. Losses divided by
    these are of the order of 1, whatever the loudness. Source: openai/jukebox; section 11.7.
    """
    if x.ndim != 3 or not x.any():
        raise ValueError(f"x has shape {tuple(x.shape)} and is "
                         f"{'silent' if x.ndim == 3 else 'no batch'}; expected chunks (chunk, 1, time) of music")
    sizes = torch.linalg.vector_norm(magnitudes(x, 2048, 256, 1536).flatten(1), dim=1)
    return {"l2": float(x.var(unbiased=False)), "l1": float(x.abs().mean()), "spec": float(sizes.mean())}


def measure_bandwidth(model: nn.Module, data, chunks: int = 64) -> None:
    """Before a training: let the model know the bandwidth of the first chunks of its data."""
    batch = [data[number] for number in range(min(chunks, len(data)))]
    model.bandwidth = bandwidth_of(torch.stack(batch))

# %%
#| export
class CodecStep:
    """The training step of Jukebox's VQ-VAE (eq. 11.8): for each level the waveform's error, its
    largest errors, the spectra's, and the commitment.

    linf, spectral, commit: weights of the last three. resolutions: of the spectral term. parts: is
    ignored (the codebooks move in the model's forward). The model's `bandwidth` must be set
    (`measure_bandwidth`), else ValueError. __call__(model, batch (batch, 1, time)) gives a dict:
    loss, and for the log recons, spec, commit (summed over levels), and usage and entropy of each
    level's codebook. Source: Dhariwal et al. 2020, section 3.2; section 11.7.
    """

    def __init__(self, linf: float = 0.02, spectral: float = 1.0, commit: float = 0.02,
                 resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS, parts=None):
        self.linf, self.spectral, self.commit = linf, spectral, commit
        self.resolutions = [tuple(one) for one in resolutions]

    def __call__(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        size = getattr(model, "module", model).bandwidth
        if size is None:
            raise ValueError("bandwidth of the model is not set; call measure_bandwidth(model, data), "
                             "or name it under prepare in the configuration")
        coded = model(batch)
        recons = spec = 0.0
        for y in coded.outputs:
            y = y.float()
            recons += (batch - y).square().mean() / size["l2"]
            recons += self.linf * linf_loss(batch, y).mean() / size["l2"]
            if self.spectral:
                spec += multispectral_loss(batch, y, self.resolutions).mean() / size["spec"]
        commit = sum(coded.commits)
        rows = {f"{name}_{level}": statistics[name] for level, statistics in enumerate(
            coded.statistics) for name in ("usage", "entropy") if name in statistics}
        spec = torch.as_tensor(spec)
        return {"loss": recons + self.spectral * spec + self.commit * commit, "recons": recons,
                "spec": spec, "commit": commit, **rows}

# %%
#| export
class CodebookState:
    """The running sums of a model's codebooks, for checkpoints; the codes themselves are in the
    model."""

    def __init__(self, model: nn.Module):
        self.blocks = list(model.bottleneck.level_blocks)

    def state_dict(self) -> dict[str, object]:
        return {str(level): [block.k_sum, block.k_elem] if block.k_sum is not None else []
                for level, block in enumerate(self.blocks)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        for level, block in enumerate(self.blocks):
            block.k_sum, block.k_elem = state[str(level)] or (None, None)


def codebook_part(model: nn.Module) -> Part:
    """The codebooks of a VQ-VAE as a part of its training: what a checkpoint must hold (11.8)."""
    return Part("codebooks", CodebookState(model))

# %%
#| export
def random_downmix(stereo: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each example's two channels as one, a l + (1 - a) r with a drawn from 0 to 1 (section 11.8).

    stereo: (batch, 2, time), or (batch, 1, time), which stays. Returns (batch, 1, time).
    Source: Dhariwal et al. 2020, section 4; openai/jukebox (aug_blend).
    """
    if stereo.ndim != 3 or stereo.shape[1] not in (1, 2):
        raise ValueError(f"stereo has shape {tuple(stereo.shape)}; expected (batch, 2, time)")
    if stereo.shape[1] == 1:
        return stereo
    a = torch.rand(len(stereo), 1, 1, generator=generator, device=stereo.device, dtype=stereo.dtype)
    return a * stereo[:, :1] + (1 - a) * stereo[:, 1:]

# %% [markdown]
# ### One hierarchical autoencoder

# %%
#| export
class HierarchicalVQVAE(nn.Module):
    """One autoencoder with all levels: the encoder's levels feed each other, each is quantised, and
    one decoder adds them on its way up. What Jukebox tried first and gave up.

    The arguments as in `VQVAE`, without multipliers. forward: as there, with a single output;
    `without`: numbers of levels whose vectors are replaced by zeros. Section 11.11.
    """

    def __init__(self, levels: int = 3, downs_t: Sequence[int] = (3, 2, 2),
                 strides_t: Sequence[int] = (2, 2, 2), emb_width: int = 64, l_bins: int = 2048,
                 mu: float = 0.99, width: int = 32, depth: int = 4, m_conv: float = 1.0,
                 dilation_growth_rate: int = 3, dilation_cycle: int | None = None,
                 revival_threshold: float = 1.0, x_channels: int = 1):
        super().__init__()
        block = dict(width=width, depth=depth, m_conv=m_conv, dilation_cycle=dilation_cycle,
                     dilation_growth_rate=dilation_growth_rate)
        shape = (x_channels, emb_width, levels, downs_t, strides_t)
        self.encoder, self.decoder = Encoder(*shape, **block), Decoder(*shape, **block)
        self.bottleneck = Bottleneck(l_bins, emb_width, mu, levels, revival_threshold)
        self.bandwidth: dict[str, float] | None = None

    def forward(self, x: Tensor, without: Sequence[int] = ()) -> Coded:
        codes, quantised, commits, statistics = zip(*self.bottleneck(self.encoder(x)))
        kept = [torch.zeros_like(z) if level in without else z for level, z in enumerate(quantised)]
        return Coded([self.decoder(kept)], list(codes), list(commits), list(statistics))

# %% [markdown]
# ### Residual quantisation

# %%
#| export
def k_means(x: Tensor, codes: int, steps: int = 10, seed: int = 0) -> Tensor:
    """`codes` means of the vectors x (vector, width): (codes, width). Begins at random vectors;
    a mean that no vector is nearest to begins again at another. Section 11.10."""
    if len(x) < codes:
        raise ValueError(f"x has {len(x)} vectors; expected at least {codes}, one for each mean")
    generator = torch.Generator().manual_seed(seed)
    drawn = lambda: x[torch.randperm(len(x), generator=generator)[:codes]]
    means = drawn().clone()
    for _ in range(steps):
        chosen = nearest(x, means)[0]
        count = torch.bincount(chosen, minlength=codes)[:, None]
        total = torch.zeros_like(means).index_add_(0, chosen, x)
        means = torch.where(count > 0, total / count.clamp_min(1), drawn())
    return means

# %%
#| export
class ResidualQuantiser:
    """Codebooks in a row, each for what the ones before it left (eq. 11.10).

    codebooks: a list of (codes, width). `fit` makes them by k-means. encode: vectors (vector, width)
    to codes (vector, stage); decode: back, with the first `stages` only if that is given.
    Source: Zeghidour et al. 2021, SoundStream, section III C; section 11.10.
    """

    def __init__(self, codebooks: Sequence[Tensor]):
        self.codebooks = list(codebooks)

    @classmethod
    def fit(cls, x: Tensor, stages: int, codes: int, seed: int = 0) -> "ResidualQuantiser":
        codebooks = []
        for stage in range(stages):
            codebooks.append(k_means(x, codes, seed=seed + stage))
            x = x - codebooks[-1][nearest(x, codebooks[-1])[0]]
        return cls(codebooks)

    def encode(self, x: Tensor) -> Tensor:
        codes = []
        for codebook in self.codebooks:
            codes.append(nearest(x, codebook)[0])
            x = x - codebook[codes[-1]]
        return torch.stack(codes, -1)

    def decode(self, codes: Tensor, stages: int | None = None) -> Tensor:
        return sum(codebook[codes[:, stage]]
                   for stage, codebook in enumerate(self.codebooks[:stages]))

# %% [markdown]
# ### The published weights

# %%
#| export
def load_official(path: str | Path | None = None) -> VQVAE:
    """The published VQ-VAE of Jukebox in eval mode, from its checkpoint `vqvae.pth.tar`.

    path: of the file (default: fetched from the publisher, 7.5 MB; no hash of it was published).
    It is a file of torch.save, no tar, that holds a dict with "model"; no code of it is run.
    **Its licence is non-commercial, and so is whatever it decodes.** Raises FileNotFoundError where
    the file can't be had, ValueError for another file. Section 11.12.
    """
    path = Path(path) if path is not None else fetch_weights("jukebox", "vqvae")
    expected = "a checkpoint of Jukebox: a dict with the tensors under 'model'"
    content = read_structure(path, {"jukebox.hparams.Hyperparams": dict}, expected)
    tensors = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path.name} holds {type(content).__name__} without 'model'; expected {expected}")
    model = VQVAE()
    load_strictly(model, {name.removeprefix("module."): tensor for name, tensor in tensors.items()},
                  path.name)
    return model.eval()
