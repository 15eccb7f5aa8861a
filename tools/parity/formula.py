"""Arrays from the sentences that recorded cases describe them with.

Such as `tensor(name + '/logits.pL', (n, h*w, 256), -5.0, 1.2)`: a call of the recipe, arithmetic
and comparisons. Nothing else of Python can be written in them, and what comes behind the expression
in words ("..., channels first") is for people.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glip.errors import ConfigError
from parity import recipe

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
}
CALLS: dict[str, Callable[..., Any]] = {
    "tensor": recipe.tensor,
    "image": recipe.image,
    "floor": np.floor,
    "clip": np.clip,
}


def evaluate(
    text: str, names: Mapping[str, Any], calls: Mapping[str, Callable[..., Any]] = CALLS
) -> NDArray[Any]:
    """The array that a sentence of a case describes.

    Args:
        text: An expression, perhaps with words behind it after a comma.
        names: What the free names in it stand for, such as `n`, `h` and `w`. If `L` is among them,
            "pL" within a string stands for that level.
        calls: The functions that may be called.

    Raises:
        ConfigError: It is no such expression, or uses a name that is not known.
    """

    def value(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=str() as said) if "L" in names:
                return re.sub(r"\bpL\b", f"p{names['L']}", said)
            case ast.Constant(value=str() | int() | float() as constant):
                return constant
            case ast.Name(id=name) if name in names:
                return names[name]
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                return tuple(value(part) for part in parts)
            case ast.UnaryOp(op=ast.USub(), operand=part):
                return -value(part)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
                return OPERATORS[type(op)](value(left), value(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=options) if name in calls:
                named = {str(option.arg): value(option.value) for option in options}
                return calls[name](*map(value, args), **named)
        raise ConfigError(f"cannot make an array of '{text}': '{ast.unparse(node)}' is not known")

    try:
        return np.asarray(value(_expression(text)))
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cannot make an array of '{text}': {error}") from error


def _expression(text: str) -> ast.expr:
    """The beginning of a text up to the first comma before which it is a whole expression."""
    pieces = text.split(",")
    for count in range(1, len(pieces) + 1):
        try:
            parsed = ast.parse(",".join(pieces[:count]).strip(), mode="eval").body
        except (SyntaxError, ValueError):
            continue
        return parsed
    raise ConfigError(f"cannot make an array of '{text}': it holds no expression")


def margins(text: str) -> tuple[float, float, float, float]:
    """What is added to x1, y1, x2, y2 in a sentence such as "x1-7.3, y1-3.1, x2+2.2, y2+9.9".

    Raises:
        ConfigError: It does not say so for each of them once.
    """
    said = dict(re.findall(r"\b([xy][12])\s*([+-]\s*\d+(?:\.\d+)?)", text))
    if set(said) != {"x1", "y1", "x2", "y2"}:
        raise ConfigError(f"'{text}' does not say how far x1, y1, x2 and y2 are moved")
    x1, y1, x2, y2 = (float(said[side].replace(" ", "")) for side in ("x1", "y1", "x2", "y2"))
    return x1, y1, x2, y2
