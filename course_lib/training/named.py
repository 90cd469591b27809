"""Parts of a configuration or a card that name something to call: {"use": "module:name", argument: value, ...}."""

import importlib
import inspect
from collections.abc import Callable, Mapping


def use(part: Mapping[str, object], **further) -> object:
    """Call what a part of a configuration names, {"use": "module:name", argument: value, ...}.

    Raises ValueError where it does not take these arguments.
    """
    arguments = {name: value for name, value in part.items() if name != "use"}
    function = named(part)
    try:
        inspect.signature(function).bind(**further, **arguments)
    except TypeError as error:
        raise ValueError(f"{part['use']} can't be called with {', '.join([*further, *arguments]) or 'nothing'}: "
                         f"{error}; it takes {inspect.signature(function)}") from error
    return function(**further, **arguments)


def named(part: Mapping[str, object]) -> Callable:
    """The function or class that a part names by "use": "module:name". ValueError where there is none."""
    module, _, name = str(part.get("use", "")).partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"use is {part.get('use')!r}: {error}; expected MODULE:NAME, for example "
                         "torch.optim:Adam") from error
