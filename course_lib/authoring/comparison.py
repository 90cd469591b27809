"""When do the outputs of two executions of a cell say the same?

The tests and `course run --check` share this one rule. Text must be equal except for

* floating-point numbers, which may differ as much as rounding differs between processors (see `tolerance`);
* what differs at every execution and tells a reader nothing: memory addresses, widget and element ids, `%time` lines;
* the bytes of sounds and pictures: a chapter asserts on the arrays behind them, and here only their presence counts.

Whole numbers, words, the kind and the order of outputs must agree exactly.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

RELATIVE_TOLERANCE = 1e-5  # what single precision keeps after a few hundred operations in another order
LAST_PLACE_SHARE = 0.005  # a step of the last printed digit is forgiven where it is at most this share of the number
LARGEST_DIFFERENCE = 0.1  # no number may move further than this, however large: a clock must not pass

# A decimal number: digits with a point, an exponent or both. Not part of a word or of a version such as 2.11.0.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE][-+]?\d))(?:[eE][-+]?\d+)?(?!\d|\.\d)")

# What says nothing, and what stands in its place while two texts are compared.
VOLATILE = (
    (re.compile(r"""(["'(])data:(audio|image|video)/[^"')]*"""), r"\1data:\2"),
    (re.compile(r"\b0x[0-9a-fA-F]{4,}\b"), "0xADDRESS"),
    (re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"^(CPU times|Wall time):.*$", re.MULTILINE), r"\1"),
    (re.compile(r"^\d[^\n]* (per loop|each) \([^\n]*\)$", re.MULTILINE), "TIMING"),
    (re.compile(r"IPY_MODEL_\w+"), "MODEL"),
    (re.compile(r"/?\S*ipykernel_\d+[/\\]\d+\.py"), "CELL"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
)
# Kinds of output of which only the presence is compared.
OPAQUE = ("image/", "audio/", "video/", "application/pdf", "application/vnd.jupyter.widget-view+json")


def tolerance(number: str) -> float:
    """How far a new value may lie from the stored `number` (its printed form, such as '5.61' or '-1.2e-3').

    A hundred-thousandth of it, or one step of its last digit where the number has enough digits that this step is at
    most half a percent: 5.61 may turn into 5.62 because rounding falls the other way, 0.12 may not turn into 0.13.
    """
    mantissa, _, exponent = number.lower().partition("e")
    last_place = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    size = abs(float(number))
    # the spare millionth of a step: 5.62 - 5.61 is a little more than 0.01 in binary
    allowed = last_place * (1 + 1e-6) if last_place <= LAST_PLACE_SHARE * size else 0.0
    return min(max(allowed, RELATIVE_TOLERANCE * size), LARGEST_DIFFERENCE)


def same_text(stored: str, new: str) -> bool:
    """Whether two texts agree but for volatile parts and small differences between decimal numbers."""
    stored, new = steady(stored), steady(new)
    stored_numbers, new_numbers = NUMBER.findall(stored), NUMBER.findall(new)
    if NUMBER.sub("#", stored) != NUMBER.sub("#", new) or len(stored_numbers) != len(new_numbers):
        return False
    return all(abs(float(a) - float(b)) <= tolerance(a) for a, b in zip(stored_numbers, new_numbers))


def steady(text: str) -> str:
    """`text` with every part that differs from execution to execution replaced by a fixed word."""
    for pattern, replacement in VOLATILE:
        text = pattern.sub(replacement, text)
    return text


def differences(stored: Sequence[Mapping], new: Sequence[Mapping]) -> list[str]:
    """What the outputs `new` of a cell say differently from the `stored` ones, one line a finding; empty if nothing.

    Both are lists of outputs as a notebook file holds them (nbformat 4).
    """
    found = []
    for index, (old, now) in enumerate(zip_longest(merge_streams(stored), merge_streams(new)), start=1):
        if old is None or now is None:
            found.append(
                f"output {index}: {'stored' if now is None else 'new'} only: {_shorten(_describe(old or now))}"
            )
        elif _kind(old) != _kind(now):
            found.append(f"output {index}: stored {_describe(old)!r}, new {_describe(now)!r}")
        else:
            found += [f"output {index}: {line}" for line in _different_parts(_parts(old), _parts(now))]
    return found


def merge_streams(outputs: Sequence[Mapping]) -> list[dict]:
    """The outputs with consecutive pieces of one stream joined: a kernel cuts a stream wherever its buffer ends."""
    merged: list[dict] = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output["output_type"] == "stream" == last.get("output_type") and output["name"] == last["name"]:
            merged[-1] = {**last, "text": _joined(last["text"]) + _joined(output["text"])}
        else:
            merged.append(dict(output))
    return merged


def _kind(output: Mapping) -> str:
    kind = output["output_type"]
    # whether a figure is displayed or is the cell's last expression makes no difference to who looks at it
    return {"display_data": "data", "execute_result": "data", "stream": f"stream {output.get('name')}"}.get(kind, kind)


def _parts(output: Mapping) -> dict[str, str]:
    """What there is to compare in an output: text by media type, an empty text where only the presence counts."""
    if output["output_type"] == "stream":
        return {output["name"]: _joined(output["text"])}
    if output["output_type"] == "error":  # not the traceback: it holds paths and line numbers of libraries
        return {"error": f"{output['ename']}: {output['evalue']}"}
    return {kind: "" if kind.startswith(OPAQUE) else _joined(value) for kind, value in output.get("data", {}).items()}


def _different_parts(stored: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    lines = [f"{kind}: stored only" for kind in stored if kind not in new]
    lines += [f"{kind}: new only" for kind in new if kind not in stored]
    for kind in stored:
        if kind in new and not same_text(stored[kind], new[kind]):
            lines.append(f"{kind}: {_first_difference(stored[kind], new[kind])}")
    return lines


def _first_difference(stored: str, new: str) -> str:
    pairs = zip_longest(steady(stored).splitlines(), steady(new).splitlines(), fillvalue="")
    old, now = next(((a, b) for a, b in pairs if not same_text(a, b)), (stored, new))
    return f"stored {_shorten(old)!r}, new {_shorten(now)!r}"


def _describe(output: Mapping) -> str:
    return ", ".join(f"{kind} {text.strip()}".strip() for kind, text in _parts(output).items())


def _joined(value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return json.dumps(value, sort_keys=True)


def _shorten(text: str, length: int = 300) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
