"""A trained model comes back whole: its class, its arguments and its weights from a card, nothing typed anew.

    model = load_trained("open_unmix_band")              or a path to NAME.safetensors
    model.facts.rate, model.facts.n_fft, model.card["score"]
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from pathlib import Path

import torch
from torch import nn

from course_lib.results import shipped_file
from course_lib.training.named import named, use
from course_lib.training.weights import load_weights, read_card


@dataclass(frozen=True)
class Facts:
    """What audio a model is made for; None where it does not apply.

    rate: in Hz. stems: the names of its sources, in order. n_fft, hop_length: of its STFT, in samples; of a codec the
    hop is the samples of one code. segment: seconds that it was trained on at a time. labels: the names of its outputs.
    Raises ValueError for values that make no sense.
    """

    rate: int | None = None
    stems: tuple[str, ...] | None = None
    n_fft: int | None = None
    hop_length: int | None = None
    segment: float | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self):
        for name in ("rate", "n_fft", "hop_length", "segment"):
            value = getattr(self, name)
            kind, words = (Real, "a number") if name == "segment" else (int, "a whole number")
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or not value > 0):
                raise ValueError(f"{name} is {value!r}; expected {words} above 0, or None")
        for name in ("stems", "labels"):
            value = getattr(self, name)
            if value is not None:
                if isinstance(value, str) or not all(isinstance(one, str) for one in value):
                    raise ValueError(f"{name} is {value!r}; expected a list of names, or None")
                object.__setattr__(self, name, tuple(value))

    @classmethod
    def of(cls, values: Mapping[str, object], where: str) -> "Facts":
        """Facts from names and values. where: what to call them in a ValueError."""
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping) or (unknown := sorted(map(str, set(values) - set(known)))):
            found = ", ".join(unknown) if isinstance(values, Mapping) else repr(values)
            raise ValueError(f"{where}: {found} is not known; expected names among {', '.join(known)}")
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error

    def as_dict(self) -> dict[str, object]:
        """What applies, by name, as JSON holds it."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in asdict(self).items() if value is not None}


def with_facts(model: nn.Module, **facts) -> nn.Module:
    """The model, with `model.facts` set from names and values of `Facts`."""
    model.facts = Facts(**facts)
    return model


def load_trained(name: str | Path) -> nn.Module:
    """A trained model in eval mode, built as its card says, with `model.facts` and `model.card`.

    name: of a model that comes with the course (data/checkpoints/NAME.safetensors, also without a checkout), or a path
    to a .safetensors file with its card beside it. Draws nothing from the global generators.
    Raises FileNotFoundError where there is none, ValueError where the card does not say how to build the model, or the
    file is not the card's (SHA-256), is damaged, or does not fit.
    """
    path = _weight_file(name)
    card = read_card(path)
    part = card.get("config", {}).get("model") if isinstance(card.get("config"), Mapping) else None
    if not isinstance(part, Mapping) or "use" not in part:
        raise ValueError(f"the card of {path.name} does not say how its model is built; expected config with a model, "
                         '{"use": "module:Class", argument: value, ...}')
    if not isinstance(named(part), type) or not issubclass(named(part), nn.Module):
        raise ValueError(f"the card of {path.name} names {part['use']}, which is no torch module; expected the model's "
                         "class")
    with torch.random.fork_rng(devices=[]):              # first weights are drawn, and then overwritten
        model = use(part)
    model.card = load_weights(path, model)
    model.facts = Facts.of(card.get("facts", {}), f"facts in the card of {path.name}")
    return model.eval()


def _weight_file(name: str | Path) -> Path:
    """The file that a name or a path means."""
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" or len(path.parts) > 1:
        return path
    try:
        return shipped_file(f"checkpoints/{name}.safetensors")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no trained model {str(name)!r} comes with the course; expected one of "
                                f"{', '.join(shipped_models()) or 'none'}, or a path to a .safetensors file") from error


def shipped_models() -> list[str]:
    """The names of the trained models that come with the course."""
    try:
        folder = shipped_file("checkpoints/open_unmix_band.json").parent
    except FileNotFoundError:
        return []
    return sorted(path.stem for path in folder.glob("*.safetensors"))
