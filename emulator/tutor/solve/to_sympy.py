"""Convert a tree to a SymPy object node by node, and SymPy objects to text.

Runs in the helper process only: importing SymPy takes about a second.
"""

from __future__ import annotations

import re
from typing import Any

import sympy

from askmill.emulator.tutor.ast import Node
from askmill.emulator.tutor.solve.codegen import SYMPY_NAMES, PythonPrinter, is_real_root

_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}
_FUNCTIONS = {
    name: getattr(sympy, SYMPY_NAMES.get(name, name))
    for name in "sin cos tan cot sec csc asin acos atan sinh cosh tanh exp log sqrt cbrt root "  # noqa: SIM905
    "abs floor ceil min max mod".split()
}
MAX_TEXT_CHARS = 2000

# How SymPy spells things, and how people do.
_SPELLINGS = (
    (re.compile(r"\bI\b"), "i"),
    (re.compile(r"\bE\b"), "e"),
    (re.compile(r"\boo\b"), "∞"),
    (re.compile(r"(?<![\w*/^.)])(\d+(?:\.\d+)?)\*(?=(?:[A-Za-z]|pi)(?![A-Za-z]))"), r"\1"),
)
DECIMAL_DIGITS = 10


class UnansweredError(Exception):
    """The computation has no usable result; the message tells the user why."""


def to_sympy(node: Node, *, is_real: bool = False) -> Any:
    """The SymPy object of a tree, exact throughout: a decimal becomes the fraction it stands for.

    `is_real` makes its letters real numbers; without it they may be complex.
    """
    parts = [to_sympy(arg, is_real=is_real) for arg in node.args]
    match node.kind:
        case "number":
            return sympy.Rational(node.text)
        case "variable":
            return symbol(node.text, is_real=is_real)
        case "constant":
            return _CONSTANTS[node.text]
        case "call":
            if is_real_root(node):
                return sympy.real_root(parts[0], parts[1] if node.text == "root" else 3)
            return _call(node.text, parts)
        case "neg":
            return -parts[0]
        case "!":
            return sympy.factorial(parts[0])
        case "=":
            return sympy.Eq(parts[0], parts[1])
        case _:
            return _infix(node.kind, parts[0], parts[1])


def symbol(name: str, *, is_real: bool = False) -> Any:
    """The symbol of a letter."""
    return sympy.Symbol(name, real=True) if is_real else sympy.Symbol(name)


def _call(name: str, parts: list[Any]) -> Any:
    if name not in {"gcd", "lcm"}:
        return _FUNCTIONS[name](*parts)
    result = parts[0]
    for part in parts[1:]:
        result = (sympy.gcd if name == "gcd" else sympy.lcm)(result, part)
    return result


def _infix(operator: str, left: Any, right: Any) -> Any:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case _:
            return left**right


def format_value(value: Any) -> str:
    """A SymPy object as a person writes it: `2x^2 - 1`, `3i`.

    Raises:
        UnansweredError: it is too long to show.
    """
    text = str(value).replace("**", "^")
    if len(text) > MAX_TEXT_CHARS:
        raise UnansweredError(f"The exact result has {len(text)} characters, too long to show here.")
    for pattern, spelling in _SPELLINGS:
        text = pattern.sub(spelling, text)
    return text


def decimal(value: Any, digits: int = DECIMAL_DIGITS) -> str:
    """The decimal value without trailing zeros: `2.4664`, `0.5 + 0.86603i`."""
    return re.sub(
        r"(\.\d*?)0+(?=\D|$)",
        lambda found: found[1].rstrip("."),
        format_value(sympy.N(value, digits, chop=True)),
    )


def has_decimal(value: Any) -> bool:
    """Whether a decimal value tells more than the exact form does."""
    return not (value.free_symbols or value.is_Integer or value.is_finite is False or value.is_Float)


def approximation(value: Any, places: int = 0, digits: int = DECIMAL_DIGITS) -> str:
    """` ≈ 0.9166666667` or ` = 3.375` behind an exact form; nothing where a decimal says no more."""
    if not has_decimal(value):
        return ""
    text = format_value(value.round(places)) if places else decimal(value, digits)
    if text == format_value(value):
        return ""
    is_exact = value.is_Rational and sympy.Rational(text) == value
    return f" {'=' if is_exact else '≈'} {text}"


class Script:
    """The Python that a code interpreter would run for this problem, and what it prints, line by line."""

    def __init__(self, *variables: str, is_real: bool = False) -> None:
        self._variables = variables
        self._assumption = ", real=True" if is_real else ""
        self._printer = PythonPrinter()
        self._lines: list[str] = []
        self._logs: list[str] = []

    def python(self, node: Node) -> str:
        return self._printer.python(node)

    def exact_python(self, node: Node) -> str:
        return self._printer.exact_python(node)

    def line(self, text: str, *sympy_names: str) -> None:
        self._printer.names.update(sympy_names)
        self._lines.append(text)

    def show(self, name: str, value: Any) -> None:
        """`print(name)`, which prints `value`."""
        self._lines.append(f"print({name})")
        self._logs.append(str(value))

    def show_decimal(self, name: str, value: Any, places: int = 0) -> None:
        """`print` the decimal value as well, where it tells more than the exact form."""
        if not has_decimal(value):
            return
        self.line(
            f"decimal = {name}.round({places})" if places else f"decimal = {name}.evalf({DECIMAL_DIGITS})"
        )
        self.show("decimal", value.round(places) if places else value.evalf(DECIMAL_DIGITS))

    @property
    def code(self) -> str:
        head = []
        names = self._printer.names | ({"symbols"} if self._variables else set())
        if names:
            head.append(f"from sympy import {', '.join(sorted(names, key=str.lower))}")
        if self._variables:
            left, right = ", ".join(self._variables), " ".join(self._variables)
            head.append(f'{left} = symbols("{right}"{self._assumption})')
        return "\n".join([*head, *([""] if head else []), *self._lines])

    @property
    def logs(self) -> str:
        return "\n".join(self._logs)
