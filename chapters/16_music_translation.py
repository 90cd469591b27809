# %% [markdown]
# # Chapter 16 · Universal music translation
#
# PROMISE

# %%
#| default_exp translation
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("16_music_translation", cpu=dict(steps=6), gpu=dict(steps=100), threads=1)

# %% [markdown]
# The module begins here.

# %%
#| export
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.losses import mrs
from course_lib.spectral import istft, overlap_add, stft
from course_lib.training import Part, load_trained
from course_lib.training.official import load_strictly
from course_lib.training.weight_files import read_structure
from course_lib.wavenet import (TemporalEncoder, WaveNet, check_sizes, generate, mu_law_decode,
                                mu_law_encode)

# %% [markdown]
# Encoder

# %%
#| export
class Encoder(TemporalEncoder):
    """Chapter 15's `TemporalEncoder` as the music translation has it: no ReLU before the dilated
    convolutions, pooling 800 (20 frames a second at 16 kHz). Arguments, defaults and tensor names
    as in facebookresearch/music-translation; section 16.2."""

    def __init__(self, latent_d: int = 128, encoder_channels: int = 128, encoder_blocks: int = 3,
                 encoder_layers: int = 10, encoder_pool: int = 800):
        super().__init__(latent_d, encoder_channels, encoder_blocks, encoder_layers, encoder_pool,
                         relu_first=False)

# %% [markdown]
# Translator

# %%
#| export
class MusicTranslator(nn.Module):
    """One encoder for all domains, one WaveNet for each (section 16.2).

    domains: names, in the order of the batch's second dimension. latent_d, hop_length: of the code.
    encoder, decoder: the other arguments of `Encoder` and `WaveNet`. forward: what is heard and
    what is to be predicted, both codes (batch, domain, time), to logits (batch, domain, 256, time)
    and z (batch, domain, latent_d, frame). ValueError for other shapes. Source: Mor et al. 2019.
    """

    def __init__(self, domains: Sequence[str], latent_d: int = 16, hop_length: int = 256,
                 encoder: Mapping | None = None, decoder: Mapping | None = None):
        super().__init__()
        check_sizes(latent_d=latent_d, hop_length=hop_length)
        if not domains or len(set(domains)) != len(domains):
            raise ValueError(f"domains are {list(domains)}; expected different names")
        self.domains, self.latent_d, self.hop_length = list(domains), latent_d, hop_length
        self.encoder = Encoder(latent_d, encoder_pool=hop_length, **(encoder or {}))
        self.decoders = nn.ModuleList(WaveNet(latent_d, **(decoder or {})) for _ in domains)

    def forward(self, heard: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        if heard.ndim != 3 or heard.shape != known.shape or heard.shape[1] != len(self.domains):
            raise ValueError(f"heard has shape {tuple(heard.shape)}, known {tuple(known.shape)}; "
                             f"expected (batch, {len(self.domains)}, time) twice")
        z = self.encoder(heard.flatten(0, 1)).unflatten(0, heard.shape[:2])
        logits = [decoder(known[:, k], z[:, k]) for k, decoder in enumerate(self.decoders)]
        return torch.stack(logits, 1), z                           # (batch, domain, 256, time)

    def decoder(self, domain: str) -> WaveNet:
        """The decoder of a domain. ValueError for an unknown one."""
        if domain not in self.domains:
            raise ValueError(f"domain is {domain!r}; expected one of {', '.join(self.domains)}")
        return self.decoders[self.domains.index(domain)]

    def encode(self, x: Tensor) -> Tensor:
        """Audio (batch, time) in [-1, 1] to its code (batch, latent_d, time // hop_length)."""
        return self.encoder(mu_law_encode(x))

    @torch.no_grad()
    def translate(self, x: Tensor, domain: str, generator: torch.Generator | None = None,
                  temperature: float = 1.0) -> Tensor:
        """Audio (batch, time) played by the instrument of `domain`: the same shape, drawn anew.

        What is left beyond the last whole frame becomes silence. generator: of the random numbers,
        on the CPU. temperature: see `course_lib.wavenet.generate`. Section 16.7.
        """
        z = self.encode(x)
        uniforms = torch.rand(len(x), z.shape[-1] * self.hop_length, generator=generator,
                              dtype=torch.float64)
        codes = generate(self.decoder(domain), z, uniforms, self.hop_length, temperature)
        return F.pad(mu_law_decode(codes), (0, x.shape[-1] - codes.shape[-1]))

# %% [markdown]
# Discriminator

# %%
#| export
class ZDiscriminator(nn.Module):
    """Which domain does a code come from? (batch, latent_d, frame) to logits (batch, n_datasets).

    d_layers times a 1x1 convolution to d_channels and ELU, a last one to n_datasets, the mean over
    time of its logits. Arguments, defaults and tensor names as in facebookresearch/
    music-translation. Source: Mor et al. 2019, section 3; section 16.3.
    """

    def __init__(self, latent_d: int = 128, d_layers: int = 3, d_channels: int = 100,
                 n_datasets: int = 6):
        super().__init__()
        check_sizes(latent_d=latent_d, d_layers=d_layers, d_channels=d_channels,
                    n_datasets=n_datasets)
        convs: list[nn.Module] = []
        for i in range(d_layers):
            convs += [nn.Conv1d(d_channels if i else latent_d, d_channels, 1), nn.ELU()]
        self.convs = nn.Sequential(*convs, nn.Conv1d(d_channels, n_datasets, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.convs(z).mean(-1)                              # (batch, domain)

# %% [markdown]
# The two losses

# %%
#| export
def domain_loss(discriminator: nn.Module, z: Tensor) -> Tensor:
    """How surprised a discriminator is by the domains of codes (batch, domain, latent_d, frame), in
    nats (eq. 16.3)."""
    domains = torch.arange(z.shape[1], device=z.device).repeat(len(z))
    return F.cross_entropy(discriminator(z.flatten(0, 1)), domains)


class DiscriminatorStep:
    """The discriminator's own step (eq. 16.4): codes of the clean sound, and no gradient for the
    encoder. Called with (model, batch), batch["clean"] (batch, domain, time); section 16.3."""

    def __init__(self, discriminator: nn.Module, weight: float = 0.01):
        self.discriminator, self.weight = discriminator, weight

    def __call__(self, model: MusicTranslator, batch: Mapping[str, Tensor]) -> Tensor:
        clean = batch["clean"]
        with torch.no_grad():
            z = model.encoder(clean.flatten(0, 1)).unflatten(0, clean.shape[:2])
        return self.weight * domain_loss(self.discriminator, z)


def discriminator_part(model: MusicTranslator, d_layers: int = 3, d_channels: int = 100,
                       weight: float = 0.01, lr: float = 1e-3) -> Part:
    """The discriminator as a part of a training, in turn with the model, before it (16.3)."""
    net = ZDiscriminator(model.latent_d, d_layers, d_channels, len(model.domains))
    return Part("discriminator", net, torch.optim.Adam(net.parameters(), lr=lr),
                DiscriminatorStep(net, weight), clip_value=1.0)

# %% [markdown]
# Augmentation

# %%
#| export
def shift_locally(x: Tensor, rate: int, generator: torch.Generator, most: float = 0.5,
                  seconds: tuple[float, float] = (0.25, 0.5)) -> Tensor:
    """A sound (time,) with a piece of it, 0.25 to 0.5 s long, out of tune by up to `most` semitones
    (eq. 16.6). The piece is read faster or slower, around its middle. Section 16.4."""
    length, place, semitones = torch.rand(3, generator=generator).tolist()
    n = round(rate * (seconds[0] + length * (seconds[1] - seconds[0])))
    if len(x) < n:
        raise ValueError(f"x has {len(x)} samples; expected {n} or more for a piece of "
                         f"{n / rate:.2f} s")
    start = int(place * (len(x) - n + 1))
    ratio = 2 ** (most * (2 * semitones - 1) / 12)
    t = start + n / 2 + ratio * (torch.arange(n, dtype=torch.float64) - n / 2)
    return torch.cat([x[:start], read_at(x, t), x[start + n:]])


def read_at(x: Tensor, t: Tensor) -> Tensor:
    """x (time,) at places t between the samples, by the cubic through the four nearest; beyond the
    ends the last sample counts."""
    whole = t.floor()
    f = (t - whole).to(x)
    a, b, c, d = (x[(whole.long() + k).clamp(0, len(x) - 1)] for k in (-1, 0, 1, 2))
    return (a * (-f * (f - 1) * (f - 2) / 6) + b * ((f + 1) * (f - 1) * (f - 2) / 2)
            + c * (-(f + 1) * f * (f - 2) / 2) + d * ((f + 1) * f * (f - 1) / 6))

# %% [markdown]
# Step

# %%
#| export
class TranslationStep:
    """A training step of encoder and decoders (eq. 16.5): cross entropy in nats, less `confusion`
    times the discriminator's loss, plus `hint` times that of the pitch head.

    parts: by name, "discriminator" and "hint" where they are used. jitter: the most by which the
    decoder's past symbols are moved, drawn anew for each sound. Called with (model, batch) of
    {clean, heard: (batch, domain, time), pitch: (batch, domain, frame)}. Section 16.5.
    """

    def __init__(self, parts: Mapping[str, nn.Module] | None = None, confusion: float = 0.01,
                 hint: float = 0.0, jitter: float = 0.0):
        self.parts, self.confusion, self.hint, self.jitter = parts or {}, confusion, hint, jitter

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        clean = batch["clean"]
        logits, z = model(batch["heard"], jittered(clean, self.jitter))
        nats = F.cross_entropy(logits.flatten(0, 1), clean.flatten(0, 1))
        out = {"loss": nats, "bits": nats / math.log(2)}
        if "discriminator" in self.parts:
            out["confused"] = domain_loss(self.parts["discriminator"], z)
            out["loss"] = out["loss"] - self.confusion * out["confused"]
        if "hint" in self.parts:
            out["hint"] = F.cross_entropy(self.parts["hint"](z.flatten(0, 1)),
                                          batch["pitch"].flatten(0, 1))
            out["loss"] = out["loss"] + self.hint * out["hint"]
        return out


def jittered(codes: Tensor, most: float) -> Tensor:
    """Codes (..., time) plus normal noise; its spread is 0 to `most` symbols, one for each sound."""
    if most <= 0:
        return codes
    spread = most * torch.rand(*codes.shape[:-1], 1, device=codes.device)
    return (codes + spread * torch.randn(codes.shape, device=codes.device)).round().clamp(
        0, 255).long()


def hint_part(model: MusicTranslator, pitches: int = 26, lr: float = 1e-3) -> Part:
    """A 1x1 convolution that reads the pitch of every frame off the code; it moves with the model's
    loss (section 16.5)."""
    head = nn.Conv1d(model.latent_d, pitches, 1)
    return Part("hint", head, torch.optim.Adam(head.parameters(), lr=lr))

# %% [markdown]
# Validation

# %%
#| export
@torch.no_grad()
def translation_bits(model: MusicTranslator, data: Sequence[Tensor]) -> dict[str, float]:
    """Mean bits a sample over equally large batches of codes (batch, domain, time): of all domains,
    and of each."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    rows = []
    for codes in data:
        codes = codes.to(device)
        logits, _ = model(codes, codes)
        rows.append(F.cross_entropy(logits.flatten(0, 1), codes.flatten(0, 1), reduction="none")
                    .mean(-1).view(codes.shape[:2]).mean(0) / math.log(2))
    model.train(training)
    bits = torch.stack(rows).mean(0)                               # (domain,)
    return {"bits": float(bits.mean()),
            **{f"bits_{name}": float(b) for name, b in zip(model.domains, bits)}}
# %% [markdown]
# Reading official

# %%
#| export
def load_official(folder: str | Path, domains: Sequence[str] | None = None,
                  which: str = "lastmodel") -> MusicTranslator:
    """A model that facebookresearch/music-translation has trained, in eval mode (section 16.6).

    folder: with args.pth and `{which}_0.pth`, `{which}_1.pth`, ...; of each the decoder is taken,
    of the first the encoder. domains: their names (default: of the folders it was trained on). No
    code in the files is run. The published weights are CC BY-NC: **not for commercial use**. Raises
    FileNotFoundError where a file is missing, ValueError where one is of another kind.
    """
    folder = Path(folder)
    allowed = {"argparse.Namespace": _Arguments, "pathlib.PosixPath": _path, "pathlib.Path": _path}
    read = read_structure(folder / "args.pth", allowed, "[arguments, epoch] of a training")
    arguments = read[0] if isinstance(read, (list, tuple)) and read else None
    if not isinstance(arguments, _Arguments):
        raise ValueError(f"args.pth holds {type(read).__name__}; expected [arguments, epoch]")
    names = list(domains or (Path(path).name for path in arguments["data"]))
    sizes = {name: arguments[name] for name in _ENCODER + _DECODER + ("latent_d",)}
    model = MusicTranslator(names, sizes["latent_d"], sizes["encoder_pool"],
                            {name: sizes[name] for name in _ENCODER if name != "encoder_pool"},
                            {name: sizes[name] for name in _DECODER})
    for k, decoder in enumerate(model.decoders):
        file = folder / f"{which}_{k}.pth"
        states = read_structure(file, {}, "a checkpoint with encoder_state and decoder_state")
        if k == 0:
            _fill(model.encoder, states, "encoder_state", file.name)
        _fill(decoder, states, "decoder_state", file.name)
    return model.eval()

# %% [markdown]
# What it calls

# %%
#| export
_ENCODER = ("encoder_channels", "encoder_blocks", "encoder_layers", "encoder_pool")
_DECODER = ("blocks", "layers", "kernel_size", "residual_channels", "skip_channels")


class _Arguments(dict):
    """Stands for argparse's Namespace in a file: names and values, and nothing that runs."""

    def __setstate__(self, state: Mapping) -> None:
        self.update(state)


def _path(*parts: str) -> str:
    """Stands for a path in a file."""
    return "/".join(parts)


def _fill(module: nn.Module, states: object, name: str, file: str) -> None:
    """Load one of a checkpoint's dicts; ValueError where it isn't there or doesn't fit."""
    if not isinstance(states, Mapping) or not isinstance(states.get(name), Mapping):
        raise ValueError(f"{file} has no {name}; expected a checkpoint of the music translation")
    load_strictly(module, dict(states[name]), f"{name} of {file}")

# %% [markdown]
# Added domain: frozen encoder

# %%
#| export
def take_encoder(model: MusicTranslator, data: object = None, trained: str = "translation_band"):
    """Give a model the encoder of a trained one, for good: it gets no gradient any more. For
    `prepare` in a configuration of `course train`; section 16.12."""
    model.encoder.load_state_dict(load_trained(trained).encoder.state_dict())
    model.encoder.requires_grad_(False)

# %% [markdown]
# Rivals: envelope

# %%
#| export
def mean_spectrum(x: Tensor, n_fft: int = 512) -> Tensor:
    """Root mean square of every bin over time, smoothed over 9 bins: (..., time) to (bin,)."""
    frames = stft(x.reshape(-1, x.shape[-1]), n_fft).abs()         # (sound, bin, frame)
    power = frames.square().mean((0, 2))
    return F.avg_pool1d(F.pad(power[None, None], (4, 4), "replicate"), 9, 1)[0, 0].sqrt()


def filter_envelope(x: Tensor, target: Tensor, n_fft: int = 512) -> Tensor:
    """x (time,) through the filter that takes its mean spectrum to `target`, the `mean_spectrum` of
    another instrument; at most 30 dB up or down (eq. 16.8). Section 16.8."""
    gain = (target / mean_spectrum(x, n_fft).clamp_min(1e-8)).clamp(10 ** -1.5, 10 ** 1.5)
    return istft(gain[:, None] * stft(x, n_fft), n_fft, length=x.shape[-1])

# %% [markdown]
# Nearest neighbours

# %%
#| export
def concatenate_nearest(features: Tensor, corpus: Tensor, grains: Tensor, hop: int) -> Tensor:
    """A sound out of grains of another: for each frame the grain whose features are nearest, under
    Hann windows hop apart (eq. 16.9).

    features: (frame, feature). corpus: (grain, feature). grains: (grain, 2 hop) of audio. Returns
    (frame * hop,). Section 16.8.
    """
    nearest = torch.cdist(features, corpus).argmin(1)              # (frame,)
    window = torch.hann_window(2 * hop, dtype=grains.dtype)
    y = overlap_add(grains[nearest] * window, hop)                 # (time,)
    return y[hop // 2:hop // 2 + len(features) * hop]

# %% [markdown]
# Harmonics and noise

# %%
#| export
class HarmonicNoise(nn.Module):
    """Harmonics and filtered noise, driven by pitch and level (eq. 16.10, 16.11).

    domains: names. rate, hop_length: of sound and frames. harmonics, bands: how many. forward: f0
    (batch, frame) in Hz, level (batch, frame) root mean square, domain (batch,) numbers, to audio
    (batch, frame * hop_length). Source: Engel et al. 2020 (DDSP), section 3; section 16.8.
    """

    def __init__(self, domains: Sequence[str], rate: int = 8000, hop_length: int = 64,
                 harmonics: int = 16, bands: int = 16, width: int = 48):
        super().__init__()
        self.domains, self.rate, self.hop_length = list(domains), rate, hop_length
        self.harmonics, self.bands = harmonics, bands
        self.net = nn.Sequential(nn.Conv1d(2 + len(domains), width, 9, padding=4), nn.ReLU(),
                                 nn.Conv1d(width, width, 9, padding=4), nn.ReLU(),
                                 nn.Conv1d(width, 1 + harmonics + bands, 1))

    def forward(self, f0: Tensor, level: Tensor, domain: Tensor) -> Tensor:
        loud, shares, noise = self.controls(f0, level, domain)
        long = lambda c: F.interpolate(c, scale_factor=self.hop_length, mode="linear")
        f = long(f0[:, None])                                      # (batch, 1, time)
        order = torch.arange(1, self.harmonics + 1, device=f0.device)[:, None]
        phase = 2 * math.pi * torch.cumsum(f.double() / self.rate, -1) * order
        audible = (f * order < self.rate / 2).float()
        tones = (long(loud * shares) * audible * phase.sin().float()).sum(1)
        return tones + self.filtered_noise(noise)

    def controls(self, f0: Tensor, level: Tensor, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loudness (batch, 1, frame), shares of the harmonics, which sum to 1, and levels of the
        bands of noise."""
        who = F.one_hot(domain, len(self.domains)).float()[:, :, None].expand(-1, -1, f0.shape[1])
        given = torch.stack([(f0 / 440).log2(), (level + 1e-3).log10() + 1.5], 1)
        a = self.net(torch.cat([given, who], 1))
        loud, shares, noise = a.split([1, self.harmonics, self.bands], 1)
        return (level[:, None] * F.softplus(loud + 1), shares.softmax(1),
                level[:, None] * F.softplus(noise - 4))

    def filtered_noise(self, levels: Tensor) -> Tensor:
        """Noise whose spectrum follows (batch, band, frame), the same noise at every call."""
        n_fft, frames = 2 * self.hop_length, levels.shape[-1]
        noise = torch.rand(frames * self.hop_length, generator=torch.Generator().manual_seed(0))
        X = stft((2 * noise - 1).to(levels), n_fft, self.hop_length)[..., :frames]
        gains = F.interpolate(levels.mT, n_fft // 2 + 1, mode="linear").mT
        return istft(F.pad(gains * X, (0, 1)), n_fft, self.hop_length,
                     length=frames * self.hop_length)

# %% [markdown]
# Its training

# %%
#| export
class SynthStep:
    """A training step of `HarmonicNoise`: the multi-resolution spectral loss of chapter 5. Called
    with (model, batch) of {x: (batch, domain, time), f0, level: (batch, domain, frame)}."""

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x, f0, level = (batch[name].flatten(0, 1) for name in ("x", "f0", "level"))
        domain = torch.arange(batch["x"].shape[1], device=x.device).repeat(len(batch["x"]))
        y = model(f0, level, domain)
        sizes = ((512, 128, 512), (256, 64, 256), (1024, 256, 1024))
        return {"loss": mrs(y[:, None, None], x[:, None, None], sizes)}

# %% [markdown]
# A picture translated

# %%
#| export
class PictureTranslator(nn.Module):
    """Log-mel spectrograms from any domain to any other: (batch, 1, band, frame) and the wanted
    domains (batch,) to the same shape. Four convolutions over band and frame, whose result is added
    to what came in; section 16.8."""

    def __init__(self, domains: Sequence[str], width: int = 24):
        super().__init__()
        self.domains = list(domains)
        sizes = [1 + len(domains), width, width, width, 1]
        layers: list[nn.Module] = []
        for inner, outer in zip(sizes, sizes[1:]):
            layers += [nn.Conv2d(inner, outer, (9, 5), padding=(4, 2)), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        return x + self.net(torch.cat([x, planes(domain, len(self.domains), x)], 1))


class PictureCritic(nn.Module):
    """Does a spectrogram come from a domain? (batch, 1, band, frame) to scores (batch, domain)."""

    def __init__(self, domains: int, width: int = 24):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, (9, 5), (4, 2)), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, (5, 3), (3, 2)), nn.LeakyReLU(0.2),
            nn.Conv2d(width, domains, (3, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean((2, 3))


def planes(domain: Tensor, count: int, like: Tensor) -> Tensor:
    """Domains (batch,) as (batch, count, band, frame): ones in the plane of each one's own."""
    return F.one_hot(domain, count).to(like)[:, :, None, None].expand(-1, -1, *like.shape[2:])

# %% [markdown]
# Cycle

# %%
#| export
class CycleStep:
    """A training step of `PictureTranslator` (eq. 16.12): fool the critic, come back unchanged, and
    leave alone what is there already. Called with (model, batch) of {"picture": (batch, domain,
    band, frame)}; needs the part "critic". Source: Zhu et al. 2017, Choi et al. 2018."""

    def __init__(self, parts: Mapping[str, nn.Module], cycle: float = 10.0, same: float = 5.0):
        self.critic, self.cycle, self.same = parts["critic"], cycle, same

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x, own, wanted = pictures(batch)
        fake = model(x, wanted)
        fooled = (self.critic(fake).gather(1, wanted[:, None]) - 1).square().mean()
        back = (model(fake, own) - x).abs().mean()
        kept = (model(x, own) - x).abs().mean()
        return {"loss": fooled + self.cycle * back + self.same * kept, "fooled": fooled,
                "back": back}


def pictures(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Spectrograms (item, 1, band, frame), their domains (item,), and others, each by chance."""
    p = batch["picture"]
    own = torch.arange(p.shape[1], device=p.device).repeat(len(p))
    further = torch.randint(1, p.shape[1], own.shape, device=p.device)
    return p.flatten(0, 1)[:, None], own, (own + further) % p.shape[1]


def critic_part(model: PictureTranslator, lr: float = 5e-4) -> Part:
    """The critic of `CycleStep`, in turn with the model: 1 for its domain's sounds, 0 for made ones
    and for those of other domains."""
    critic = PictureCritic(len(model.domains))

    def step(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        x, own, wanted = pictures(batch)
        with torch.no_grad():
            fake = model(x, wanted)
        made = critic(fake).gather(1, wanted[:, None])
        return (critic(x) - F.one_hot(own)).square().mean() + made.square().mean()

    return Part("critic", critic, torch.optim.Adam(critic.parameters(), lr=lr), step)

# %% [markdown]
# Back to sound

# %%
#| export
def griffin_lim(magnitude: Tensor, phase: Tensor, length: int, n_fft: int = 1024,
                hop_length: int = 128, rounds: int = 30) -> Tensor:
    """A sound (time,) whose STFT has nearly these magnitudes (bin, frame), by going there and back,
    from a first guess of its phases. Source: Griffin and Lim 1984; section 16.8."""
    X = torch.polar(magnitude, phase)
    for _ in range(rounds):
        x = istft(X, n_fft, hop_length, length)
        X = torch.polar(magnitude, stft(x, n_fft, hop_length).angle())
    return istft(X, n_fft, hop_length, length)
