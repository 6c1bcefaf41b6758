"""Questions written as SymPy code: `solve(4*x**2 - 5*x - 12, x)`, read as text and never run."""

from __future__ import annotations

import re
from collections.abc import Callable

from askmill.emulator.tutor.ast import Node, variables_of
from askmill.emulator.tutor.parse.lexer import ParseError
from askmill.emulator.tutor.parse.pratt import parse
from askmill.emulator.tutor.problem import Kind, Problem

_HEAD = re.compile(r"([A-Za-z]+)\((.*)\)", re.DOTALL)
MAX_ORDER = 10


def problem_of_call(text: str) -> Problem:
    """The problem of one call such as `integrate(x**2, (x, 0, 1))`.

    Raises:
        ParseError: it is no call of the tutor's commands with the arguments they take.
    """
    found = _HEAD.fullmatch(text)
    if found is None or found[1] not in _READERS:
        raise ParseError("I do not know this command")
    arguments = _split(found[2])
    try:
        return _READERS[found[1]](arguments)
    except (IndexError, ValueError) as error:
        if isinstance(error, ParseError):
            raise
        raise ParseError(f"I do not know {found[1]} with these arguments") from None


def _split(text: str) -> list[str]:
    """The text between top-level commas."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()]


def _list(text: str, brackets: str) -> list[str]:
    """The parts of `[a, b]` or `(a, b)`; the text itself when it is no list."""
    if text[:1] in brackets and text[-1:] in brackets:
        return _split(text[1:-1])
    return [text]


def _equation(text: str) -> Node:
    found = _HEAD.fullmatch(text)
    if found is not None and found[1] == "Eq":
        left, right = _split(found[2])
        return Node("=", args=(parse(left), parse(right)))
    return parse(text)


def _letter(text: str) -> str:
    tree = parse(text, bound=text)
    if tree.kind != "variable":
        raise ParseError(f"I expected a letter instead of {text[:20]!r}")
    return tree.text


def _only_letter(tree: Node) -> str:
    letters = variables_of(tree) or ["x"]
    if len(letters) > 1:
        raise ParseError("please name the letter, as in diff(x*y, x)")
    return letters[0]


def _solve(arguments: list[str]) -> Problem:
    equations = tuple(_equation(text) for text in _list(arguments[0], "[]()"))
    if len(arguments) == 1:
        letters = sorted({letter for tree in equations for letter in variables_of(tree)})
        if len(letters) != len(equations):
            raise ParseError("please name the letters to solve for, as in solve(x + y - 1, x)")
    else:
        letters = [_letter(name) for text in arguments[1:] for name in _list(text, "[]()")]
    return Problem(Kind.SOLVE, equations, tuple(letters))


def _diff(arguments: list[str]) -> Problem:
    tree = parse(arguments[0])
    letters = [_letter(text) for text in arguments[1:] if not text.isdecimal()] or [_only_letter(tree)]
    orders = [int(text) for text in arguments[1:] if text.isdecimal()]
    order = orders[0] if orders else len(letters)
    if len(set(letters)) > 1 or len(orders) > 1 or not 1 <= order <= MAX_ORDER:
        raise ParseError(f"I read diff with one letter and an order up to {MAX_ORDER}")
    return Problem(Kind.DERIVATIVE, (tree,), (letters[0],), order=order)


def _integrate(arguments: list[str]) -> Problem:
    tree = parse(arguments[0])
    if len(arguments) == 1:
        return Problem(Kind.INTEGRAL, (tree,), (_only_letter(tree),))
    (integration_range,) = arguments[1:]
    letter, *bounds = _list(integration_range, "()")
    if len(bounds) not in {0, 2}:
        raise ParseError("an integral has both of its bounds or none, as in integrate(x**2, (x, 0, 1))")
    return Problem(Kind.INTEGRAL, (tree,), (_letter(letter),), tuple(parse(text) for text in bounds))


def _limit(arguments: list[str]) -> Problem:
    text, letter, point, *sides = arguments
    side = sides[0].strip("'\"") if sides else "+"
    if side not in {"+", "-", "+-"}:
        raise ParseError("a limit comes from the side '+', '-' or '+-'")
    return Problem(Kind.LIMIT, (parse(text),), (_letter(letter),), (parse(point),), side=side)


def _summation(arguments: list[str]) -> Problem:
    text, index_range = arguments
    letter, first, last = _list(index_range, "()")
    return Problem(Kind.SUM, (parse(text, bound=letter),), (_letter(letter),), (parse(first), parse(last)))


def _one_formula(kind: Kind) -> Callable[[list[str]], Problem]:
    def read(arguments: list[str]) -> Problem:
        (text,) = arguments
        tree = parse(text)
        if tree.kind == "=":
            raise ParseError("I expected an expression there, not an equation")
        return Problem(kind, (tree,))

    return read


_READERS: dict[str, Callable[[list[str]], Problem]] = {
    "solve": _solve,
    "diff": _diff,
    "integrate": _integrate,
    "limit": _limit,
    "summation": _summation,
    "factor": _one_formula(Kind.FACTOR),
    "expand": _one_formula(Kind.EXPAND),
    "simplify": _one_formula(Kind.SIMPLIFY),
}
