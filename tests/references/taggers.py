"""What four taggers give for weights and sounds that a seed determines: makes taggers.npz beside it.

The networks are put together here from torchaudio's transforms and torch's layers, a list of operations a network, with
no line of the course's: another way to the same numbers. What they give is kept, so that the course's classes are held
to numbers that were made once. To make them anew (torch and torchaudio alone are needed):

    uv run python tests/references/taggers.py

The test imports `filled`, `sound`, `shown` and NETWORKS from here.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor

FILE = Path(__file__).with_suffix(".npz")
NETWORKS = ("fcn", "musicnn", "crnn", "hcnn")
SAMPLES = {"fcn": 464_000, "musicnn": 48_000, "crnn": 40_000, "hcnn": 80_000}
SHOWN = 48                                        # values kept of an activation


def filled(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Values for tensors by name, from NumPy's old generator, whose stream never changes.

    Weights are scaled by fan-in; scales and variances of norms are positive; a spectrogram's norm gets dB's mean and
    spread. Buffers of the front end and counters are left out.
    """
    random, values = np.random.RandomState(seed), {}
    for name, shape in sorted(shapes.items()):
        if name.endswith(("window", "fb", "num_batches_tracked")):
            continue
        drawn = random.randn(*shape)
        if "spec_bn" in name or "hstft_bn" in name:
            like_db = {"running_mean": -30 + drawn, "running_var": 400 + 10 * drawn}
            drawn = like_db.get(name.split(".")[-1], 1 + 0.1 * drawn)
        elif name.endswith("bw_Q"):
            drawn = 1.2 + 0 * drawn
        elif "running_var" in name or ("bn" in name and name.endswith("weight")):
            drawn = 0.5 + drawn ** 2
        elif len(shape) > 1:
            drawn = drawn * math.sqrt(2 / np.prod(shape[1:]))
        else:
            drawn = 0.3 * drawn
        values[name] = torch.from_numpy(np.asarray(drawn)).float()
    return values


def sound(samples: int, seed: int) -> Tensor:
    """A batch of two sounds, (2, samples) at 16 kHz: tones with overtones that come and go, and noise."""
    random, time = np.random.RandomState(seed), np.arange(samples) / 16_000
    audio = []
    for _ in range(2):
        x = 0.01 * random.randn(samples)
        for pitch in random.uniform(80, 900, 5):
            level = 0.1 * np.maximum(0, np.sin(2 * np.pi * (random.uniform(0.2, 2) * time + random.rand())))
            x += level * sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 8))
        audio.append(x)
    return torch.from_numpy(np.stack(audio)).float()


def shown(values: Tensor) -> np.ndarray:
    """Evenly spaced values of a tensor, at most SHOWN of them."""
    flat = values.detach().flatten()
    return flat[:: -(-flat.numel() // SHOWN)].numpy()


class Parts:
    """The operations that the networks are lists of, on tensors by name in `w`."""

    def __init__(self, w: dict[str, Tensor]):
        self.w, self.kept = w, {}

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.batch_norm(x, self.w[f"{name}.running_mean"], self.w[f"{name}.running_var"], self.w[f"{name}.weight"],
                            self.w[f"{name}.bias"])

    def conv(self, x: Tensor, name: str, norm: str, padding) -> Tensor:
        weight, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        convolve = F.conv2d if weight.ndim == 4 else F.conv1d
        return self.norm(convolve(x, weight, bias, padding=padding), norm)

    def block(self, x: Tensor, name: str, pool=None) -> Tensor:
        h = F.relu(self.conv(x, f"{name}.conv", f"{name}.bn", self.w[f"{name}.conv.weight"].shape[-1] // 2))
        return self.keep(name, h if pool is None else F.max_pool2d(h, pool))

    def residual(self, x: Tensor, name: str, pool) -> Tensor:
        h = F.relu(self.conv(x, f"{name}.conv_1", f"{name}.bn_1", 1))
        h = self.conv(h, f"{name}.conv_2", f"{name}.bn_2", 1)
        return self.keep(name, F.max_pool2d(F.relu(x + h), pool))

    def keep(self, name: str, x: Tensor) -> Tensor:
        self.kept[name] = x
        return x

    def dense(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def mel(self, x: Tensor) -> Tensor:
        spectrum = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0.0, f_max=8000.0, n_mels=96)(x)
        return self.norm(self.keep("levels", torchaudio.transforms.AmplitudeToDB()(spectrum))[:, None], "spec_bn")

    def fcn(self, x: Tensor) -> Tensor:
        h = self.mel(x)
        for number, pool in enumerate(((2, 4), (2, 4), (2, 4), (3, 5), (4, 4)), 1):
            h = self.block(h, f"layer{number}", pool)
        return self.dense(h.flatten(1), "dense").sigmoid()

    def musicnn(self, x: Tensor) -> Tensor:
        h, heard = self.mel(x), []
        for number in (0, 1):
            tall = F.relu(self.conv(h, f"layers.{number}.conv", f"layers.{number}.bn", (0, 3)))
            heard.append(F.max_pool2d(tall, (tall.shape[2], 1))[:, :, 0])
        for number in (2, 3, 4):
            heard.append(self.block(F.avg_pool2d(h, (96, 1))[:, :, 0], f"layers.{number}"))
        heard = self.keep("heard", torch.cat(heard, 1))
        first = self.block(heard, "layer1")
        second = self.block(first, "layer2") + first
        third = self.block(second, "layer3") + second
        h = torch.cat([heard, first, second, third], 1)
        h = torch.cat([h.max(-1).values, h.mean(-1)], 1)
        return self.dense(F.relu(self.norm(self.dense(h, "dense1"), "bn")), "dense2").sigmoid()

    def crnn(self, x: Tensor) -> Tensor:
        h = self.mel(x)
        for number, pool in enumerate((2, 3, 4, 4), 1):
            h = self.block(h, f"layer{number}", pool)
        gru = torch.nn.GRU(128, 32, 2, batch_first=True)
        gru.load_state_dict({name: self.w[f"layer5.{name}"] for name in gru.state_dict()})
        h = self.keep("layer5", gru(h[:, :, 0].permute(0, 2, 1))[0])
        return self.dense(h[:, -1], "dense").sigmoid()

    def hcnn(self, x: Tensor) -> Tensor:
        power = torchaudio.transforms.Spectrogram(n_fft=512, power=2)(x)
        pitches = 440 * 2 ** ((np.linspace(24, 88, 129)[:-1] - 69) / 12)
        centres = torch.from_numpy(np.concatenate([pitches * h for h in range(1, 7)])).float()
        width = (0.1079 * centres + 24.7) / self.w["hstft.bw_Q"]
        bins = torch.linspace(0, 8000, 257)[:, None]
        rising, falling = 1 + (bins - centres) * (2 / width), 1 - (bins - centres) * (2 / width)
        levels = power.transpose(1, 2) @ torch.minimum(rising, falling).clamp_min(0)
        levels = levels.transpose(1, 2).reshape(len(x), 6, 128, -1)
        h = self.norm(self.keep("levels", torchaudio.transforms.AmplitudeToDB()(levels)), "hstft_bn")
        h = self.block(h, "layer1", 2)
        for number in (2, 3, 4):
            h = self.residual(h, f"layer{number}", 2)
        h = self.block(h, "layer5", 2)
        for number in (6, 7):
            h = self.residual(h, f"layer{number}", (2, 3))
        h = h[:, :, 0].max(-1).values
        return self.dense(F.relu(self.norm(self.dense(h, "dense1"), "bn")), "dense2").sigmoid()


def shapes_of(kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published network's tensors, buffers of the front end left out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name, size):
        shapes.update({f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")})

    def layer(name, *weight, bn=None):
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})
        if bn:
            norm(bn, weight[0])

    if kind == "hcnn":
        shapes["hstft.bw_Q"] = (1,)
        norm("hstft_bn", 6)
        layer("layer1.conv", 128, 6, 3, 3, bn="layer1.bn")
        for number, size in ((2, 128), (3, 128), (4, 128), (6, 256), (7, 256)):
            for place in (1, 2):
                layer(f"layer{number}.conv_{place}", size, size, 3, 3, bn=f"layer{number}.bn_{place}")
        layer("layer5.conv", 256, 128, 3, 3, bn="layer5.bn")
        layer("dense1", 256, 256, bn="bn")
        layer("dense2", 50, 256)
        return shapes
    norm("spec_bn", 1)
    if kind == "musicnn":
        layer("layers.0.conv", 204, 1, 67, 7, bn="layers.0.bn")
        layer("layers.1.conv", 204, 1, 38, 7, bn="layers.1.bn")
        for number, length in ((2, 129), (3, 65), (4, 33)):
            layer(f"layers.{number}.conv", 51, 1, length, bn=f"layers.{number}.bn")
        for number, into in ((1, 561), (2, 64), (3, 64)):
            layer(f"layer{number}.conv", 64, into, 7, bn=f"layer{number}.bn")
        layer("dense1", 200, 1506, bn="bn")
        layer("dense2", 50, 200)
        return shapes
    sizes = (1, 64, 128, 128, 128, 64) if kind == "fcn" else (1, 64, 128, 128, 128)
    for number, (into, out) in enumerate(zip(sizes, sizes[1:]), 1):
        layer(f"layer{number}.conv", out, into, 3, 3, bn=f"layer{number}.bn")
    if kind == "crnn":
        for number, into in ((0, 128), (1, 32)):
            shapes |= {f"layer5.weight_ih_l{number}": (96, into), f"layer5.weight_hh_l{number}": (96, 32),
                       f"layer5.bias_ih_l{number}": (96,), f"layer5.bias_hh_l{number}": (96,)}
    layer("dense", 50, sizes[-1] if kind == "fcn" else 32)
    return shapes


@torch.no_grad()
def main() -> None:
    arrays = {}
    for seed, kind in enumerate(NETWORKS):
        parts = Parts(filled(shapes_of(kind), seed))
        output = getattr(parts, kind)(sound(SAMPLES[kind], seed))
        arrays[f"{kind}/output"] = output.numpy()
        arrays |= {f"{kind}/{name}": shown(value) for name, value in parts.kept.items()}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
