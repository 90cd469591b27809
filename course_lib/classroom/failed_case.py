"""The case in which a hidden check failed, in words: how the student's function was called, what was expected and
found.

A hidden test's code stays hidden, but whoever loses points by it learns of one case: the sizes, and the two values.
"""

import ast
import math
import operator

import numpy as np
import torch

WITNESS = "__witness__"  # the name by which compiled checks find theirs
COMPARISONS = {ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
FEW_VALUES, LONGEST_TEXT, LONGEST_CASE = 6, 60, 500
NOTHING = object()

# Bound before student code: describing a value calls nothing of the student's.
_type, _len, _repr, _str, _detach, _to = type, len, repr, str, torch.Tensor.detach, torch.Tensor.to
_operators = {name: getattr(operator, name) for name in COMPARISONS.values()}
_tensors, _callable, _function = (torch.Tensor, torch.nn.Parameter), callable, type(lambda: None)


def watched_asserts(source: str) -> ast.Module:
    """The code with every comparison inside an assert seen by the witness; what it does is otherwise the same."""
    return ast.fix_missing_locations(_Asserts().visit(ast.parse(source)))


class _Asserts(ast.NodeTransformer):
    """Each assert begins anew; `a == b` in it becomes `__witness__.compare("eq", a, b)`."""

    def __init__(self):
        self.inside = False

    def visit_Assert(self, node: ast.Assert):
        self.inside = True
        node.test = self.visit(node.test)
        self.inside = False
        begin = ast.parse(f"{WITNESS}.begin()").body[0]
        return [ast.copy_location(begin, node), node]

    def visit_Compare(self, node: ast.Compare):
        self.generic_visit(node)
        if not self.inside or len(node.ops) != 1 or type(node.ops[0]) not in COMPARISONS:
            return node
        call = ast.parse(f"{WITNESS}.compare({COMPARISONS[type(node.ops[0])]!r})", mode="eval").body
        call.args += [node.left, *node.comparators]
        return ast.copy_location(call, node)


class Witness:
    """Remembers the last call of a student's function and the last comparison that came out False."""

    def __init__(self):
        self.forget()

    def forget(self) -> None:
        """Begin a new check."""
        self.call, self.result, self.pair, self.names = None, NOTHING, None, {}

    def begin(self) -> None:
        """Begin a new assert."""
        self.pair = None

    def called(self, name: str, arguments: tuple, options: dict) -> None:
        """A student's function is called."""
        self.call, self.result = (name, arguments, options), NOTHING

    def returned(self, result: object) -> object:
        """It has returned this."""
        self.result = result
        return result

    def compare(self, name: str, left: object, right: object) -> object:
        """What the comparison gives; remembered if that is plainly False."""
        answer = _operators[name](left, right)
        if answer is False or (_type(answer) in (*_tensors, np.bool_) and answer.ndim == 0 and not answer):
            self.pair = left, right, name
        return answer

    def compared(self, actual: object, expected: object) -> None:
        """A comparison of `truth` came out False."""
        self.pair = actual, expected, "eq"

    def case(self, returned: bool = True) -> str:
        """The case in words, or an empty text where nothing is known of it. Never raises."""
        try:
            return self._case(returned)[:LONGEST_CASE]
        except Exception:
            return ""

    def _case(self, returned: bool) -> str:
        if self.call is None:
            return ""
        name, arguments, options = self.call
        given = [described(value) for value in arguments] + [
            f"{key}={described(value)}" for key, value in options.items()
        ]
        call = f"{name}({', '.join(given)})"
        if not returned:
            return call
        if self.pair is None:
            return f"{call} gives {described(self.result)}" if self.result is not NOTHING else call
        found, expected, comparison = self.pair
        if comparison in ("lt", "le", "gt", "ge"):
            sign = {"lt": "below", "le": "at most", "gt": "above", "ge": "at least"}[comparison]
            expected_text = f"{sign} {described(expected)}"
        else:
            expected_text = ("not " if comparison == "ne" else "") + described(expected)
        return f"{call}: expected {expected_text}, found {described(found)}{_where(found, expected)}"


def described(value: object, depth: int = 0) -> str:
    """A value in a few words: numbers and short texts as they are, tensors by type, shape and range;
    no foreign code runs.
    """
    kind = _type(value)
    if kind in _tensors or kind is np.ndarray:
        return _described_tensor(_plain(value))
    if kind in (bool, int, float, complex, _type(None)):
        return f"{value:.6g}" if kind is float else _repr(value)
    if kind is str:
        return _repr(value if _len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT] + "...")
    if kind in (torch.dtype, torch.Size):
        return _str(value).removeprefix("torch.")
    if kind in (list, tuple) and depth < 2:
        inner = [described(one, depth + 1) for one in value[:FEW_VALUES]] + ["..."] * (_len(value) > FEW_VALUES)
        return ("[{}]" if kind is list else "({})").format(", ".join(inner))
    if kind is dict and depth < 2:
        inner = [
            f"{described(key, depth + 1)}: {described(one, depth + 1)}" for key, one in list(value.items())[:FEW_VALUES]
        ]
        return "{" + ", ".join(inner + ["..."] * (_len(value) > FEW_VALUES)) + "}"
    if kind is _function:
        return "a function"
    return f"a value of type {kind.__name__}"


def _plain(value: object) -> torch.Tensor:
    return torch.from_numpy(value.copy()) if _type(value) is np.ndarray else _detach(value)


def _described_tensor(x: torch.Tensor) -> str:
    """Type and shape, and the values where they are few, else their range and what isn't finite among them."""
    name = _str(x.dtype).removeprefix("torch.")
    if x.numel() <= FEW_VALUES:
        return f"{name} {[_number(one) for one in x.flatten().tolist()] if x.ndim else _number(x.item())}".replace(
            "'", ""
        ) + (f" of shape {tuple(x.shape)}" if x.ndim != 1 and x.numel() else "")
    text = f"{name} {tuple(x.shape)}"
    sizes = x.abs() if x.is_complex() else x
    if not (sizes.is_floating_point() or sizes.dtype == torch.bool) or sizes.dtype == torch.bool:
        return text
    finite = sizes[sizes.isfinite()]
    lost = x.numel() - finite.numel()
    if finite.numel():
        text += f" from {_number(float(finite.min()))} to {_number(float(finite.max()))}" + (
            " in size" * x.is_complex()
        )
    return text + (f", {lost} of {x.numel()} not finite" if lost else "")


def _number(value: object) -> str:
    if isinstance(value, complex):
        return f"{value.real:.4g}{value.imag:+.4g}j"
    return f"{value:.5g}" if isinstance(value, float) else _repr(value)


def _where(found: object, expected: object) -> str:
    """Where two tensors of one shape differ most, and by what."""
    kinds = (*_tensors, np.ndarray)
    if _type(found) not in kinds or _type(expected) not in kinds:
        return ""
    found, expected = _plain(found), _plain(expected)
    if found.shape != expected.shape or found.numel() <= FEW_VALUES:
        return ""
    wide = torch.complex128 if found.is_complex() or expected.is_complex() else torch.float64
    distance = (_to(found, wide) - _to(expected, wide)).abs()
    alike = (found.isnan() & expected.isnan()) | (found == expected)
    distance = distance.nan_to_num(math.inf, math.inf).masked_fill(alike, 0.0)
    at = np.unravel_index(int(distance.argmax()), tuple(found.shape))
    place = ", ".join(str(int(index)) for index in at)
    return f"; most at [{place}]: expected {_number(expected[at].item())}, found {_number(found[at].item())}"
