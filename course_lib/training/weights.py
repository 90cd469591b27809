"""Weight files with a card: safetensors for the numbers, JSON beside it for where they come from."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from course_lib.results import shipped_file
from course_lib.training.checkpoints import sha256, write_tensors, write_text
from course_lib.training.parts import some

CARD_FIELDS = ("what", "trained_on", "steps", "seed", "command", "machine", "score")


def save_weights(path: str | Path, model: nn.Module, card: Mapping[str, object],
                 dtype: torch.dtype | None = None) -> Path:
    """Write a model's weights to PATH.safetensors and its card to PATH.json; return the weights' path.

    card: at least what, trained_on, steps, seed, command, machine and score; the file's SHA-256, its type, the number
    of parameters and `model.facts`, where there are some, are added. With config: {"model": {"use": "module:Class",
    argument: value, ...}} in it, `load_trained` builds the model again. dtype: store floating-point tensors in this
    type (torch.float16 halves the file; loading gives float32 back, rounded to 11 bits). Raises ValueError for a card
    with a field missing, a path that doesn't end in .safetensors, or weights that are NaN, infinite or too large for
    the type.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path is {path.name}; expected NAME.safetensors, the only kind of file written here")
    if absent := [name for name in CARD_FIELDS if name not in card]:
        raise ValueError(f"the card of {path.name} lacks {', '.join(absent)}; add what says where the weights come "
                         "from")
    tensors = {name: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
               for name, tensor in model.state_dict().items()}
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"weights {some(bad)} hold NaN or infinite numbers (as {dtype or 'they are'}); expected "
                         "finite ones. Train again with a smaller learning rate, or store them without dtype")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors)
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()})
    facts = getattr(model, "facts", None)
    full = {**card, **({"facts": facts.as_dict()} if facts is not None else {}), "stored_as": ", ".join(kinds),
            "parameters": sum(p.numel() for p in model.parameters()),
            "sha256": sha256(path)}
    write_text(path.with_suffix(".json"), json.dumps(full, indent=1, ensure_ascii=False) + "\n")
    return path


def read_card(path: str | Path) -> dict:
    """The card beside a weight file. FileNotFoundError where there is none, ValueError where it is damaged."""
    card = Path(path).with_suffix(".json")
    if not card.is_file():
        raise FileNotFoundError(f"{Path(path).name} has no card; expected {card.name} beside it")
    try:
        content = json.loads(card.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{card.name} is not JSON: {error}; fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{card.name} holds {type(content).__name__}; expected a card, names with values; fetch it "
                         "again")
    return content


def load_weights(path: str | Path, model: nn.Module) -> dict:
    """Read PATH.safetensors into `model`, every tensor by its name, and return the card.

    Raises FileNotFoundError where a file is missing, ValueError where the file is not the card's (SHA-256), is
    damaged, or its tensors don't fit the model, which then stays as it was.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path.name}; expected a .safetensors file there")
    card = read_card(path)
    if sha256(path) != card.get("sha256"):
        raise ValueError(f"{path.name} is not the file its card describes (SHA-256 differs); fetch or train it again")
    try:
        tensors = load_file(path)
    except Exception as error:                         # safetensors has its own error types for damaged files
        raise ValueError(f"{path.name} can't be read as safetensors: {error}; fetch or train it again") from error
    own = model.state_dict()
    wrong = [f"{text} {some(names)}" for text, names in (
        ("it lacks", [name for name in own if name not in tensors]),
        ("it has besides", [name for name in tensors if name not in own]),
        ("of another shape are", [f"{name} {tuple(tensor.shape)} for {tuple(own[name].shape)}"
                                  for name, tensor in tensors.items()
                                  if name in own and tensor.shape != own[name].shape]),
    ) if names]
    if wrong:
        raise ValueError(f"{path.name} does not fit {type(model).__name__}: {'; '.join(wrong)}. Build the model as the "
                         "card says")
    model.load_state_dict(tensors)                     # float16 files become the model's own type
    return card


def blend(model: nn.Module, checkpoint: str, share: float) -> None:
    """Move a model's weights towards those of a checkpoint of the course; share is what it keeps of its own.

    A network that went on from the checkpoint on other data lies in the same valley: on the straight line between the
    two it keeps more of what the first knew, and often is better on data that neither saw. Only floating-point tensors
    are mixed; errors as `load_weights`, and ValueError for a share outside 0..1. Source: Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models".
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected what the model keeps of its own weights, between 0 and 1")
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from(model, None, checkpoint)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(torch.lerp(tensor, own[name], share) if tensor.is_floating_point() else own[name])


def start_from(model: nn.Module, tracks: object, checkpoint: str) -> None:
    """For `prepare` in a configuration: begin with the weights of a checkpoint that comes with the course, by its name.

    tracks: not used. Errors as `load_weights`.
    """
    load_weights(shipped_file(f"checkpoints/{checkpoint}.safetensors"), model)
