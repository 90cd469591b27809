"""Weight files with a card: safetensors for the numbers, JSON beside it for where they come from."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from course_lib.training.checkpoints import flush_file, sha256, write_text

CARD_FIELDS = ("what", "trained_on", "steps", "seed", "command", "machine", "score")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, in one step that can't be interrupted halfway."""
    unfinished = path.with_name(path.name + ".unfinished")
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, unfinished)
    flush_file(unfinished)
    os.replace(unfinished, path)


def save_weights(path: str | Path, model: nn.Module, card: Mapping[str, object],
                 dtype: torch.dtype | None = None) -> Path:
    """Write a model's weights to PATH.safetensors and its card to PATH.json; return the weights' path.

    card: at least what, trained_on, steps, seed, command, machine and score; the file's SHA-256, its type and the
    number of parameters are added. dtype: store floating-point tensors in this type (torch.float16 halves the file;
    loading gives float32 back, rounded to 11 bits). Raises ValueError for a card with a field missing, a path that
    doesn't end in .safetensors, or weights that are NaN, infinite or too large for the type.
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
    full = {**card, "stored_as": ", ".join(kinds), "parameters": sum(p.numel() for p in model.parameters()),
            "sha256": sha256(path)}
    write_text(path.with_suffix(".json"), json.dumps(full, indent=1, ensure_ascii=False) + "\n")
    return path


def read_card(path: str | Path) -> dict:
    """The card beside a weight file. FileNotFoundError where there is none, ValueError where it is not JSON."""
    card = Path(path).with_suffix(".json")
    if not card.is_file():
        raise FileNotFoundError(f"{Path(path).name} has no card; expected {card.name} beside it")
    try:
        return json.loads(card.read_text(encoding="utf8"))
    except ValueError as error:
        raise ValueError(f"{card.name} is not JSON: {error}; fetch it again") from error


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


def some(names: list[str]) -> str:
    """The first names of a list in words, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
