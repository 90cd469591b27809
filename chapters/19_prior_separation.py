# %% [markdown]
# # Chapter 19 · Separating with a prior
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/19_prior_separation.ipynb)

# %%
#| default_exp prior_separation
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("19_prior_separation", cpu=dict(steps=40), threads=1)

# %%
#| export
import math
from collections.abc import Callable, Mapping, Sequence
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.priors import attend

# %%
#| export
def preconditioning(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of what passes a denoiser by, goes in and comes out (eq. 19.12): c_skip, c_in, c_out.

    sigma: the noise's deviation, any shape, above 0. sigma_data: the data's, above 0.
    ValueError for others. Source: Karras et al. 2022, table 1; section 19.7.
    """
    if not sigma_data > 0 or not bool((sigma > 0).all()):
        raise ValueError(f"sigma_data is {sigma_data} and the least sigma {float(sigma.min())}; "
                         "expected numbers above 0")
    total = sigma.square() + sigma_data ** 2
    return sigma_data ** 2 / total, total.rsqrt(), sigma * sigma_data * total.rsqrt()

# %%
#| export
class Denoiser(nn.Module):
    """The expected clean sources of noisy ones (eq. 19.12), by a network.

    sources, patch, widths, factor, told: of `SourceUNet`. sigma_data: deviation of the sources.
    forward: x (batch, source, time), sigma a number or (batch,), to the same shape as x.
    Source: Karras et al. 2022, section 5; section 19.7.
    """

    def __init__(self, sigma_data: float = 0.1, **sizes):
        super().__init__()
        self.sigma_data, self.network = sigma_data, SourceUNet(**sizes)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        skip, into, out = (c[:, None, None] for c in preconditioning(sigma, self.sigma_data))
        return skip * x + out * self.network(into * x, sigma)

# %%
#| export
def denoising_loss(denoiser: Callable, sources: Tensor, sigma: Tensor, noise: Tensor,
                   sigma_data: float) -> Tensor:
    """Weighted squared error of sources that were hidden in noise (eq. 19.13): (batch,).

    denoiser: (x, sigma) to sources. sources: (batch, source, time). sigma: (batch,). noise: of
    deviation 1, shaped as the sources. sigma_data: the sources' deviation. A denoiser that knows
    nothing but `sigma_data` costs 1 at every sigma. ValueError for shapes that don't fit.
    Source: Karras et al. 2022, eq. 108; section 19.7.
    """
    if sources.ndim != 3 or noise.shape != sources.shape or sigma.shape != sources.shape[:1]:
        raise ValueError(f"sources has shape {tuple(sources.shape)}, noise {tuple(noise.shape)}, "
                         f"sigma {tuple(sigma.shape)}; expected (batch, source, time) twice, and "
                         "(batch,)")
    guess = denoiser(sources + sigma[:, None, None] * noise, sigma)
    weight = 1 / preconditioning(sigma, sigma_data)[2].square()         # 1 / c_out^2
    return weight * (guess - sources).square().mean((1, 2))

# %%
#| export
class DenoisingStep:
    """A training step of `course train`: (model, sources (batch, source, time)) to a loss.

    mean, deviation: of ln(sigma), which is drawn anew for every item. generator: of all that is
    drawn; None takes torch's global one. Source: Karras et al. 2022, section 5; section 19.7.
    """

    def __init__(self, mean: float = -3.0, deviation: float = 1.2,
                 generator: torch.Generator | None = None):
        self.mean, self.deviation, self.generator = mean, deviation, generator

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        draw = lambda shape: torch.randn(shape, generator=self.generator).to(sources)
        sigma = (self.mean + self.deviation * draw(len(sources))).exp()
        noise = draw(sources.shape)
        return denoising_loss(model, sources, sigma, noise, model.sigma_data).mean()

# %%
#| export
def noise_features(sigma: Tensor, channels: int) -> Tensor:
    """What a network hears of the noise's level: sigma (batch,) to cosines and sines (batch,
    channels) of ln(sigma) / 4 at frequencies from 1/2 to 32 turns.

    channels: even, else ValueError. Source: Karras et al. 2022, table 1 (c_noise); section 19.8.
    """
    if channels < 2 or channels % 2:
        raise ValueError(f"channels is {channels}; expected an even number of at least 2")
    turns = 2 ** torch.linspace(-1, 5, channels // 2, device=sigma.device)
    angle = 2 * math.pi * (sigma.log() / 4)[:, None] * turns
    return torch.cat([angle.cos(), angle.sin()], 1)

# %%
#| export
class NoiseBlock(nn.Module):
    """Two convolutions added to their input; the noise's level scales and shifts in between.

    channels: in and out, a multiple of 8. told: numbers that describe the noise. forward: x (batch,
    channels, frame), e (batch, told) to the same shape as x. The last convolution begins at zero.
    Source: after Karras et al. 2022, appendix F, and Schneider et al. 2023; section 19.8.
    """

    def __init__(self, channels: int, told: int):
        super().__init__()
        self.first_norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv1d(channels, channels, 3, padding=1)
        self.film = nn.Linear(told, 2 * channels)
        self.second_norm = nn.GroupNorm(8, channels)
        self.second = nn.Conv1d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        y = self.first(F.silu(self.first_norm(x)))
        scale, shift = self.film(e)[..., None].chunk(2, 1)             # (batch, channel, 1) each
        y = self.second_norm(y) * (1 + scale) + shift
        return x + self.second(F.silu(y))

# %%
#| export
class GlobalBlock(nn.Module):
    """Every frame looks at all others: attention, added to its input (eq. 8.1).

    channels: a multiple of 8 and of heads. (batch, channels, frame) to the same.
    Source: section 19.8.
    """

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.qkv, self.out = (nn.Conv1d(channels, n * channels, 1) for n in (3, 1))
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).mT.chunk(3, -1)               # (batch, frame, channel)
        return x + self.out(attend(q, k, v, self.heads).mT)

# %%
#| export
class SourceUNet(nn.Module):
    """A small U-Net over the stacked sources: (batch, source, time) to the same.

    sources: how many. patch: samples folded into channels at once. widths: channels of the levels,
    multiples of 8; factor: frames of a level for one of the next; told: numbers that describe the
    noise. forward: x, sigma (batch,). Any length: it is filled up with zeros to a multiple of
    `hop`. ValueError for other shapes. Source: after Mariani et al. 2024, section 4, and Schneider
    et al. 2023; section 19.8.
    """

    def __init__(self, sources: int = 4, patch: int = 8, widths: Sequence[int] = (64, 128, 192),
                 factor: int = 4, told: int = 128):
        super().__init__()
        self.sources, self.patch, self.told = sources, patch, told
        self.hop = patch * factor ** (len(widths) - 1)
        pairs = list(zip(widths, widths[1:]))
        self.describe = nn.Sequential(nn.Linear(told, told), nn.SiLU(), nn.Linear(told, told),
                                      nn.SiLU())
        self.first = nn.Conv1d(sources * patch, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(NoiseBlock(width, told) for width in widths)
        self.down = nn.ModuleList(nn.Conv1d(a, b, factor, factor) for a, b in pairs)
        self.look = GlobalBlock(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose1d(b, a, factor, factor) for a, b in pairs)
        self.decoder = nn.ModuleList(NoiseBlock(width, told) for width in widths)
        self.last = nn.Conv1d(widths[0], sources * patch, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[1] != self.sources or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sources}, "
                             "time), not empty")
        time, e = x.shape[-1], self.describe(noise_features(sigma, self.told))
        y = self.first(self.folded(F.pad(x, (0, -time % self.hop))))
        seen = []
        for level, block in enumerate(self.encoder):
            y = block(self.down[level - 1](y) if level else y, e)
            seen.append(y)
        y = self.decoder[-1](self.look(y), e)
        for level in reversed(range(len(self.up))):
            y = self.decoder[level](self.up[level](y) + seen[level], e)
        return self.unfolded(self.last(y))[..., :time]

    def folded(self, x: Tensor) -> Tensor:
        """(batch, source, time) to (batch, source * patch, frame)."""
        return x.unflatten(-1, (-1, self.patch)).mT.flatten(1, 2)

    def unfolded(self, y: Tensor) -> Tensor:
        """The way back of `folded`."""
        return y.unflatten(1, (self.sources, self.patch)).mT.flatten(2)
