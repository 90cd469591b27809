"""Chapter 16's ablations: small translators trained alike but for one thing, and what a fresh probe reads off the code.

`course experiment translation_code` trains each with two seeds and fills data/results/16_music_translation: models (a
row a model) and probes (a row a piece of a melody). A gap between `cross_bits` and `own_bits` says what a code still
knows of its domain: the same notes' codes, from another instrument and from its own, tell a decoder equally much where
the code is free of it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.translation import (
    DOMAINS,
    HEARD,
    HOP,
    RATE,
    TOPIC,
    WEIGHTS,
    pitch_classes,
    same_melodies,
    trained,
    training_melodies,
    training_pieces,
)
from course_lib.results import machine
from course_lib.training import FitSettings, fit
from course_lib.training.loop import process_batches
from course_lib.translation import (
    MusicTranslator,
    TranslationStep,
    ZDiscriminator,
    discriminator_part,
    hint_part,
)
from course_lib.wavenet import LinearProbe, mu_law_encode

FULL, NO_CONFUSION, STRONG, NO_AUGMENTATION, NO_HINT, SHIPPED = (
    "full", "without confusion", "ten times the confusion", "without augmentation", "without hint", "shipped")
CHANGES: dict[str, dict] = {FULL: {}, NO_CONFUSION: {"confusion": 0.0}, STRONG: {"confusion": 0.1},
                            NO_AUGMENTATION: {"augment": False}, NO_HINT: {"hint": 0.0}}
FRAMES = 8                            # of the code in a piece that the probe judges, a quarter of a second


@dataclass(frozen=True)
class Sizes:
    """What all models share."""

    steps: int = 400
    samples: int = 1024
    lr: float = 0.003
    encoder_channels: int = 16
    residual_channels: int = 16
    probe_steps: int = 300
    melodies: int = 8                 # of the test
    fitted: int = 16                  # training melodies of each domain that the probes are fitted to


@dataclass(frozen=True)
class Run:
    """What is changed, and the seed of weights and data."""

    variant: str
    seed: int


def all_runs(work: Work) -> list[Run]:
    """Every variant with two seeds, and the shipped model."""
    return [Run(variant, seed) for seed in (0, 1) for variant in CHANGES] + [Run(SHIPPED, 0)]


def train(run: Run, sizes: Sizes) -> MusicTranslator:
    """A small translator."""
    change = {"confusion": 0.01, "hint": 0.3, "augment": True} | CHANGES[run.variant]
    torch.manual_seed(run.seed)
    model = MusicTranslator(list(DOMAINS), 16, HOP, dict(encoder_channels=sizes.encoder_channels, encoder_blocks=2,
                                                         encoder_layers=6),
                            dict(blocks=1, layers=8, residual_channels=sizes.residual_channels, skip_channels=32))
    parts = [discriminator_part(model)] + ([hint_part(model)] if change["hint"] else [])
    step = TranslationStep({part.name: part.module for part in parts}, change["confusion"], change["hint"], 4.0)
    data = training_pieces(run.seed, sizes.steps, sizes.samples, change["augment"])
    schedule = lambda number: 0.5 * (1 + math.cos(math.pi * number / sizes.steps))
    fit(model, step, process_batches(data, 1), torch.optim.Adam(model.parameters(), lr=sizes.lr),
        FitSettings(sizes.steps, clip=1.0), parts=parts, schedule=schedule, progress=False)
    return model.eval()


@torch.no_grad()
def codes_of(model: MusicTranslator, x: Tensor) -> Tensor:
    """Codes of pieces of FRAMES frames, (piece, latent_d, FRAMES), of sounds (sound, time)."""
    z = torch.cat([model.encode(one[None]) for one in x])                        # (sound, latent_d, frame)
    return z.unfold(2, FRAMES, FRAMES).permute(0, 2, 1, 3).flatten(0, 1)


def probe(z: Tensor, labels: Tensor, steps: int, seed: int = 0) -> ZDiscriminator:
    """A fresh discriminator, trained on codes (piece, latent_d, frame) that stay as they are."""
    torch.manual_seed(seed)
    net = ZDiscriminator(z.shape[1], 2, 64, int(labels.max()) + 1)
    scale = z.std((0, 2), keepdim=True).clamp_min(1e-4)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(z), (128,))
        optimizer.zero_grad()
        F.cross_entropy(net((z / scale)[chosen]), labels[chosen]).backward()
        optimizer.step()
    net.convs[0].weight.data /= scale[0]
    return net.eval()


@torch.no_grad()
def teacher_bits(model: MusicTranslator, x: Tensor) -> Tensor:
    """Bits a sample of melodies (melody, domain, time), a decoder each, given every domain's code of the same melody
    and, last, its own domain's code of the next one: (melody, decoder, domain + 1)."""
    codes, rows = mu_law_encode(x), []
    z = torch.stack([model.encoder(one) for one in codes])                       # (melody, domain, latent_d, frame)
    for k, decoder in enumerate(model.decoders):
        given = torch.cat([z, z.roll(-1, 0)[:, k:k + 1]], 1)                     # (melody, domain + 1, ...)
        rows.append(torch.stack([F.cross_entropy(
            decoder(target[None].expand(len(one), -1), one), target[None].expand(len(one), -1),
            reduction="none").mean(1) for target, one in zip(codes[:, k], given)]) / math.log(2))
    return torch.stack(rows, 1)


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a model, by table."""
    began, sizes = time.process_time(), work.settings
    model = trained(WEIGHTS) if run.variant == SHIPPED else train(run, sizes)
    length = 8 * HOP * FRAMES
    own = {name: training_melodies(name)[0][:sizes.fitted, :length] for name in DOMAINS}
    z = [codes_of(model, x) for x in own.values()]
    net = probe(torch.cat(z), torch.arange(len(z)).repeat_interleave(len(z[0])), sizes.probe_steps)
    x = same_melodies("test", sizes.melodies, 2 * HOP * FRAMES * 4 / RATE)       # (melody, domain, time)
    rows, right = [], []
    for k, name in enumerate(DOMAINS):
        with torch.no_grad():
            heard = net(codes_of(model, x[:, k])).argmax(1).view(len(x), -1)     # (melody, piece)
        right.append((heard == k).float())
        rows += [{"domain": name, "melody": n, "right": f"{float(r):.4f}"} for n, r in enumerate(right[-1].mean(1))]
    bits = teacher_bits(model, x[:sizes.melodies // 2])
    count = len(DOMAINS)
    same = torch.eye(count, count + 1, dtype=torch.bool)
    cross = ~same
    cross[:, -1] = False
    means = {"own_bits": bits[:, same].mean(), "cross_bits": bits[:, cross].mean(), "other_bits": bits[..., -1].mean(),
             "probe_right": torch.stack(right).mean(), "pitch_read": pitch_read(model, own, x)}
    return {"probes": rows, "models": [{
        **{name: f"{float(value):.4f}" for name, value in means.items()},
        "cpu_seconds": round(time.process_time() - began), "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def pitch_read(model: MusicTranslator, own: Mapping[str, Tensor], x: Tensor) -> float:
    """How often a linear probe, fitted on the training melodies' codes, reads the pitch of a test frame."""
    def frames(sounds: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            z = torch.stack([model.encode(one[None])[0] for one in sounds])      # (sound, latent_d, frame)
        pitch = torch.stack([pitch_classes(F.pad(one[HOP // 2:], (0, HOP)))[:z.shape[2]] for one in sounds])
        return z.mT.flatten(0, 1), pitch.flatten()

    z, pitch = frames(torch.cat(list(own.values())))
    z_test, there = frames(x.flatten(0, 1))
    voiced, there_too = pitch < len(HEARD), there < len(HEARD)
    probe_ = LinearProbe(z[voiced], pitch[voiced])
    return float((probe_(z_test[there_too]) == there[there_too]).float().mean())


def facts(work: Work) -> Mapping:
    return {"trained_on": "the training melodies of translation_band", "probes": "a fresh network on pieces of the "
            "code of a quarter of a second: which of four domains; chance 0.25; bits: teacher-forced, of test melodies"}


EXPERIMENT = Experiment(name="translation_code", what="chapter 16's ablations: what does the code know?", topic=TOPIC,
                        stages=[all_runs], run=one_run, table="models", settings=Sizes(), names=[*CHANGES, SHIPPED],
                        facts=facts)
