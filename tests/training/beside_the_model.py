"""Two trainings in which something moves beside the model: an adversary, and a codebook that follows its input."""

from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.data.loaders import chunk_generator
from course_lib.training import FitSettings, Part, fit, gathered, over_processes, process_batches
from course_lib.training.schedules import cosine

STEPS, BATCH = 12, 4


class Pairs:
    """Items (noise, {"real": curve}), a nested structure, item i a function of the seed and i."""

    def __init__(self, seed: int, length: int):
        self.seed, self.length = seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = chunk_generator(self.seed, index)
        phase = torch.rand(1, generator=generator)
        return torch.randn(4, generator=generator), {"real": torch.sin(6.3 * (phase + torch.linspace(0, 1, 16)))}


def generator() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 16))


def critic() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 24), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(24, 1))


def game(critic: nn.Module, when: str = "before", clip: float | None = 1.0, schedule=None) -> tuple:
    """The generator's step, and the part that plays against it: least squares, as in Mao et al. 2017."""
    def step(model, batch):
        return {"loss": (critic(model(batch[0])) - 1).square().mean()}

    def against(model, batch):
        with torch.no_grad():
            fake = model(batch[0])
        real = critic(batch[1]["real"])
        return {"loss": (real - 1).square().mean() + critic(fake).square().mean(), "real": real.mean()}

    optimizer = torch.optim.Adam(critic.parameters(), 0.01, betas=(0.5, 0.999))
    return step, Part("critic", critic, optimizer, against, when, clip, schedule=schedule)


def train_game(folder: Path | None, accelerator=None, batch_size: int = BATCH, seed: int = 0, plain: bool = False,
               when: str = "before", **settings):
    """(history, generator, critic). plain: without dropout and live batch norm, which look at the processes' halves."""
    torch.manual_seed(seed)
    model, opponent = generator(), critic()
    if plain:
        model[1], model[3], opponent[2] = nn.Identity(), nn.Identity(), nn.Identity()
    settings = FitSettings(**{"steps": STEPS, "ema_decay": 0.9, "clip": 1.0, "checkpoint_every": 2, **settings})
    step, part = game(opponent, when, schedule=cosine(settings.steps))
    count = settings.steps * settings.accumulate * (accelerator.num_processes if accelerator else 1)
    batches = process_batches(Pairs(3, count * batch_size), batch_size, accelerator)
    history = fit(model, step, batches, torch.optim.Adam(model.parameters(), 0.01), settings, parts=[part],
                  folder=folder, accelerator=accelerator, progress=False)
    return history, model, opponent


class Codebook(nn.Module):
    """Vectors that follow what is nearest to them, by running means; those that nobody uses start anew from the input.

    Source: van den Oord et al. 2017, appendix A.1; restarts: Dhariwal et al. 2020.
    """

    def __init__(self, codes: int = 6, width: int = 3, decay: float = 0.8, least: float = 0.2):
        super().__init__()
        self.decay, self.least = decay, least
        self.register_buffer("vectors", torch.randn(codes, width))
        self.register_buffer("usage", torch.ones(codes))
        self.register_buffer("sums", self.vectors.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width) to the nearest vectors; the gradient goes straight through."""
        nearest = torch.cdist(x.detach(), self.vectors).argmin(1)
        chosen = self.vectors[nearest]
        if self.training:
            self._follow(x.detach(), nearest)
        return x + (chosen - x).detach()

    def _follow(self, x: Tensor, nearest: Tensor) -> None:
        onehot = torch.nn.functional.one_hot(nearest, len(self.vectors)).to(x.dtype)
        self.usage.lerp_(over_processes(onehot.sum(0)), 1 - self.decay)
        self.sums.lerp_(over_processes(onehot.T @ x), 1 - self.decay)
        vectors = self.sums / self.usage.clamp_min(1e-5).unsqueeze(1)
        unused, everywhere = self.usage < self.least, gathered(x)
        drawn = torch.randint(len(everywhere), (len(vectors),), generator=chunk_generator(7, int(self.updates)))
        self.vectors.copy_(torch.where(unused.unsqueeze(1), everywhere[drawn], vectors))
        self.usage.copy_(torch.where(unused, torch.ones_like(self.usage), self.usage))
        self.sums.copy_(torch.where(unused.unsqueeze(1), self.vectors, self.sums))
        self.updates += 1
        self.restarts += unused.sum()


class Coder(nn.Module):
    """Encoder, codebook (its own, or one that is handed over), decoder."""

    def __init__(self, codebook: Codebook | None):
        super().__init__()
        self.encoder, self.codebook, self.decoder = nn.Linear(16, 3), codebook, nn.Linear(3, 16)

    def forward(self, x: Tensor, codebook: Codebook | None = None) -> Tensor:
        return self.decoder((codebook or self.codebook)(self.encoder(x)))


def train_coder(folder: Path | None, accelerator=None, batch_size: int = 8, seed: int = 0, inside: bool = False,
                **settings):
    """(history, model, codebook): a tiny VQ-VAE; the decoder has an optimizer of its own."""
    torch.manual_seed(seed)
    codebook = Codebook()
    model, beside = Coder(codebook if inside else None), None if inside else codebook
    settings = FitSettings(**{"steps": STEPS, "ema_decay": 0.9, "checkpoint_every": 2, **settings})

    def step(model, batch):
        return (model(batch[1]["real"], beside) - batch[1]["real"]).square().mean()

    count = accelerator.num_processes if accelerator else 1
    parts = [Part("codebook", codebook),
             Part("decoder", model.decoder, torch.optim.SGD(model.decoder.parameters(), 0.05), clip=1.0)]
    history = fit(model, step, process_batches(Pairs(5, settings.steps * batch_size * count), batch_size, accelerator),
                  torch.optim.Adam(model.encoder.parameters(), 0.01), settings, parts=parts, folder=folder,
                  accelerator=accelerator, progress=False)
    return history, model, codebook


class Domains(nn.Module):
    """One encoder, a decoder a domain; those whose domain is not in the batch take no part."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoders = nn.Linear(4, 3), nn.ModuleList([nn.Linear(3, 4) for _ in range(3)])

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        code, decoded = torch.tanh(self.encoder(x)), torch.zeros_like(x)
        for number in domain.unique().tolist():
            decoded[domain == number] = self.decoders[number](code[domain == number])
        return decoded


class InDomains(Pairs):
    """Items (noise, domain): half a batch of eight each from 0 and 1, every third batch from 0 alone, from 2 never."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        step, within = divmod(index, 8)
        return {"x": super().__getitem__(index)[0], "domain": torch.tensor(int(step % 3 < 2 and within >= 4))}


def train_domains(folder: Path | None, accelerator=None, batch_size: int = 8, **settings):
    """(history, model, nothing): an optimizer for the encoder, one for all decoders."""
    torch.manual_seed(0)
    model = Domains()
    settings = FitSettings(**{"steps": STEPS, "ema_decay": 0.9, "clip_value": 0.05, "checkpoint_every": 2, **settings})
    count = accelerator.num_processes if accelerator else 1
    decoders = Part("decoders", model.decoders, torch.optim.Adam(model.decoders.parameters(), 0.02))
    history = fit(model, lambda model, batch: (model(batch["x"], batch["domain"]) - batch["x"]).square().mean(),
                  process_batches(InDomains(9, settings.steps * batch_size * count), batch_size, accelerator),
                  torch.optim.Adam(model.encoder.parameters(), 0.01), settings, parts=[decoders], folder=folder,
                  accelerator=accelerator, progress=False)
    return history, model, nn.Identity()


TRAININGS = {"game": train_game, "coder": train_coder, "domains": train_domains}
