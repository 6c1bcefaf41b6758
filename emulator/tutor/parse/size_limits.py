"""Upper bounds of the size of a formula's result, checked before anything is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from askmill.emulator.tutor.ast import Node, format_tree
from askmill.emulator.tutor.parse.lexer import TooLargeError

MAX_DIGITS = 1000
MAX_FACTORIAL = 450  # 450! has 1,001 digits
MAX_EXPONENT = 1000  # of an expression with letters in it
MAX_TREE_DEPTH = 150

_LOG_MAX_DIGITS = math.log10(MAX_DIGITS)


@dataclass(frozen=True, slots=True)
class _Size:
    """Upper bounds: decimal digits of numerator and denominator together, and log10 of the value."""

    digits: float
    magnitude: float
    has_letters: bool = False


def check_size(node: Node) -> None:
    """Check that the exact result of a formula is small enough to compute.

    Raises:
        TooLargeError: a power or factorial in it is too large, or it is nested too deep.
    """
    if _depth(node) > MAX_TREE_DEPTH:
        raise TooLargeError(f"the formula is nested more than {MAX_TREE_DEPTH} deep")
    size = _size(node)
    if size.digits > 4 * MAX_DIGITS:
        raise TooLargeError(f"the result of {_short(node)} would have more than {4 * MAX_DIGITS} digits")


def _depth(node: Node) -> int:
    deepest, level = 0, [node]
    while level:
        level = [arg for part in level for arg in part.args]
        deepest += 1
    return deepest


def _size(node: Node) -> _Size:
    parts = [_size(arg) for arg in node.args]
    has_letters = node.kind == "variable" or any(part.has_letters for part in parts)
    match node.kind:
        case "number":
            digits = float(len(node.text))
            return _Size(digits, math.log10(max(float(node.text), 1e-300)) if digits < 300 else digits)
        case "^":
            return _power(node, parts[0], parts[1])
        case "!":
            return _factorial(node, parts[0])
        case "/":
            return _Size(
                parts[0].digits + parts[1].digits, parts[0].magnitude + _below(parts[1], node), has_letters
            )
        case "*":
            return _Size(
                parts[0].digits + parts[1].digits, parts[0].magnitude + parts[1].magnitude, has_letters
            )
        case "+" | "-" | "=":
            total = parts[0].digits + parts[1].digits + 1
            return _Size(total, max(parts[0].magnitude, parts[1].magnitude) + 0.31, has_letters)
        case _:
            digits = sum(part.digits for part in parts) + 1
            return _Size(digits, max((part.magnitude for part in parts), default=1.0), has_letters)


def _below(divisor: _Size, node: Node) -> float:
    """log10 of the most that dividing by `divisor` can add; a plain number is known exactly."""
    return -divisor.magnitude if node.args[1].kind == "number" else divisor.digits


def _power(node: Node, base: _Size, exponent: _Size) -> _Size:
    has_letters = base.has_letters or exponent.has_letters
    if exponent.has_letters:
        return _Size(base.digits + exponent.digits, base.magnitude, has_letters)
    if exponent.magnitude > _LOG_MAX_DIGITS + 1 or (base.has_letters and _over(exponent, MAX_EXPONENT)):
        raise TooLargeError(f"the exponent in {_short(node)} is too large to work out")
    times = 10**exponent.magnitude
    if not base.has_letters and _value_digits(base) * times > MAX_DIGITS:
        raise TooLargeError(f"the result of {_short(node)} would have more than {MAX_DIGITS} digits")
    return _Size(base.digits * max(times, 1.0), max(base.magnitude, 0.0) * times, has_letters)


def _value_digits(base: _Size) -> float:
    return max(base.magnitude, base.digits - 1, 0.0)


def _factorial(node: Node, operand: _Size) -> _Size:
    if not operand.has_letters and _over(operand, MAX_FACTORIAL):
        raise TooLargeError(f"{_short(node)} is too large: I go up to {MAX_FACTORIAL}!")
    count = 1.0 if operand.has_letters else 10**operand.magnitude
    digits = count * max(math.log10(max(count, 1.0)), 1.0)
    return _Size(digits, digits, operand.has_letters)


def _over(size: _Size, most: int) -> bool:
    return size.magnitude > math.log10(most) + 1e-9


def _short(node: Node) -> str:
    text = format_tree(node)
    return text if len(text) <= 60 else text[:57] + "..."
