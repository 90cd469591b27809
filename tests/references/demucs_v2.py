"""What demucs 2.0.3 and diffq 0.2.4 give for weights and inputs that a seed determines: makes demucs_v2.npz beside it.

Version 2.0.3 can't be installed beside 4.1.0, whose package has the same name, so its answers are kept. To make them
anew:

    uv venv old --python 3.11
    uv pip install --python old/bin/python torch==2.11.0 numpy tqdm
    uv pip install --python old/bin/python --no-deps demucs==2.0.3 julius==0.2.8 diffq==0.2.4
    old/bin/python tests/references/demucs_v2.py

The tests import the configurations, `filled`, `tiled` and `answers` from here and need neither package.

Outputs and activations are those of 32 bits, gradients of the small configurations of 64: a gradient in 32 bits is a
sum whose terms nearly cancel, so that a comparison must be lenient where it is small, one in 64 bits needn't.
"""

from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).with_suffix(".npz")
SOURCES = ["drums", "bass", "other", "vocals"]
# Every argument differs from its default in at least one of them. length: samples of the mixture, as given, not padded.
CONFIGURATIONS = {
    "small": (dict(channels=4, depth=3), 2000),
    "v1": (dict(channels=6, depth=3, resample=False), 2100),
    "plain": (dict(channels=4, depth=2, rewrite=False, glu=False, lstm_layers=0, rescale=0), 900),
    "relu": (dict(channels=4, depth=3, glu=False, context=1, lstm_layers=1, normalize=True), 1700),
    "mono": (dict(audio_channels=1, channels=5, depth=2, kernel_size=6, stride=3, growth=1.5, context=5, rescale=0.3,
                  samplerate=22050, segment_length=999), 1000),
}
# The published networks, whose weights are 1.1 and 2.6 GB: `tiled` fills them in seconds.
FULL = {"v2": dict(), "v1": dict(channels=100, resample=False)}
LENGTHS = (1, 2, 100, 343_980, 441_000)           # for valid_length
SHOWN = 64                                        # values kept of an activation or gradient


def filled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every tensor from NumPy's old generator, whose stream never changes: weights scaled by fan-in, biases small."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for _, tensor in sorted(model.state_dict().items()):
            values = random.randn(*tensor.shape)
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
            tensor.copy_(torch.from_numpy(values / fan_in ** 0.5))
    return model.eval()


def tiled(network: type, seed: int, **arguments) -> torch.nn.Module:
    """A large network whose tensors hold one long draw again and again, each from another place on, scaled by fan-in.

    The draw's length is prime, so that no two rows of a tensor are equal. No first weights are drawn.
    """
    with torch.device("meta"):
        model = network(SOURCES, **arguments)
    model = model.to_empty(device="cpu")
    draw = torch.from_numpy(np.random.RandomState(seed).randn(999_983)).float()
    with torch.no_grad():
        for place, (_, tensor) in enumerate(sorted(model.state_dict().items())):
            fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
            values = draw.roll(-1009 * place) / fan_in ** 0.5
            for part in tensor.view(-1).split(len(values)):
                part.copy_(values[:len(part)])
    return model.eval()


def mixture(channels: int, length: int, seed: int, count: int = 2) -> torch.Tensor:
    """So many mixtures (batch, channel, time), with a mean that isn't 0."""
    return torch.from_numpy(0.2 * np.random.RandomState(seed).randn(count, channels, length) + 0.05).float()


def shown(values: torch.Tensor) -> np.ndarray:
    """Evenly spaced values of a tensor, at most SHOWN of them."""
    flat = values.detach().flatten()
    return flat[:: -(-flat.numel() // SHOWN)].numpy()


def answers(model: torch.nn.Module, mix: torch.Tensor) -> dict[str, np.ndarray]:
    """Output, activations of every layer of a filled model, as arrays by name; and its gradients where it has any."""
    kept = {}
    layers = {f"encoder.{i}": layer for i, layer in enumerate(model.encoder)}
    layers |= {f"decoder.{i}": layer for i, layer in enumerate(model.decoder)}
    layers |= {"lstm": model.lstm} if model.lstm is not None else {}
    hooks = [layer.register_forward_hook(lambda _layer, _x, y, name=name: kept.update({f"activation {name}": shown(y)}))
             for name, layer in layers.items()]
    output = model(mix)
    kept["output"] = output.detach().numpy()[:, :, :, ::5]
    kept["shape"] = np.array(output.shape)
    for hook in hooks:
        hook.remove()
    return kept | (gradients(model, output) if output.requires_grad else {})


def gradients(model: torch.nn.Module, output: torch.Tensor) -> dict[str, np.ndarray]:
    """Of the mean square of an output, for every parameter."""
    model.zero_grad()
    output.square().mean().backward()
    return {f"gradient {name}": shown(parameter.grad) for name, parameter in model.named_parameters()}


def full_answers(network: type, name: str, **more) -> dict[str, np.ndarray]:
    """Of a published network, on the shortest sound: gradients of v2 only, to save the memory of v1's."""
    model = tiled(network, 2, **FULL[name], **more).requires_grad_(name == "v2")
    return answers(model, mixture(2, model.valid_length(1), 1, count=1))


def main() -> None:
    from demucs.model import Demucs
    from diffq import DiffQuantizer

    arrays = {}
    for name, (arguments, length) in CONFIGURATIONS.items():
        torch.manual_seed(3)
        model = Demucs(SOURCES, **arguments)
        arrays[f"{name}/initial"] = np.array([float(t.std()) for t in model.state_dict().values() if t.ndim > 1])
        arrays[f"{name}/names"] = np.array([f"{key} {tuple(t.shape)}" for key, t in model.state_dict().items()])
        arrays[f"{name}/valid"] = np.array([model.valid_length(n) for n in LENGTHS])
        mix = mixture(arguments.get("audio_channels", 2), length, 1)
        found = answers(filled(model, 2), mix)
        found |= gradients(model.double(), model(mix.double()))
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
    for name, arguments in FULL.items():
        with torch.device("meta"):
            full = Demucs(SOURCES, **arguments)
        arrays[f"full {name}/names"] = np.array([f"{key} {tuple(t.shape)}" for key, t in full.state_dict().items()])
        arrays[f"full {name}/parameters"] = np.array(sum(p.numel() for p in full.parameters()))
        arrays[f"full {name}/valid"] = np.array([full.valid_length(n) for n in LENGTHS])
        arrays |= {f"full {name}/{key}": value for key, value in full_answers(Demucs, name).items()}
    arguments, length = CONFIGURATIONS["small"]
    model = filled(Demucs(SOURCES, **arguments), 2)
    quantizer = DiffQuantizer(model, min_size=0.002, group_size=8)
    quantizer.no_optimizer()
    random = np.random.RandomState(5)
    for parameter in quantizer._qparams:                       # bits from 2 to 15, another number in every group
        parameter.logit.data.copy_(torch.from_numpy(2 * random.randn(*parameter.logit.shape)))
    size = quantizer.model_size()
    size.backward()
    arrays["diffq/quantised"] = np.array([one.name for one in quantizer._qparams])
    arrays["diffq/megabytes"] = np.array(size.item())
    arrays["diffq/gradients"] = np.concatenate([shown(one.logit.grad) for one in quantizer._qparams])
    arrays["diffq/output"] = model(mixture(2, length, 1)).detach().numpy()[:, :, :, ::5]
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB, {len(arrays)} arrays")


if __name__ == "__main__":
    main()
