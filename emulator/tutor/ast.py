"""The formula as a tree: plain data that travels as JSON and prints back as text.

    3x + 11 = 14   ->   (= (+ (* 3 x) 11) 14)

What `format_tree` prints, the parser reads as the same tree again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# How tightly each kind of node holds together in print; the parser's binding powers are the same numbers.
SUM_POWER, PRODUCT_POWER, SIGN_POWER, POWER_POWER, FACTORIAL_POWER, ATOM_POWER = 10, 20, 25, 30, 40, 50

PRINT_POWER = {
    "=": 0,
    "+": SUM_POWER,
    "-": SUM_POWER,
    "*": PRODUCT_POWER,
    "/": PRODUCT_POWER,
    "neg": SIGN_POWER,
    "^": POWER_POWER,
    "!": FACTORIAL_POWER,
}

Json = list["str | list[Json]"]


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `kind` is `number`, `variable`, `constant`, `call` or an operator of `PRINT_POWER`.

    `text` is the number as written, the letter, or the function's name; empty for operators.
    """

    kind: str
    text: str = ""
    args: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """This node and all below it, without recursion."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.args))


def number(value: int | str) -> Node:
    """The leaf of a number that is not negative."""
    return Node("number", str(value))


def variables_of(node: Node) -> list[str]:
    """The letters in the tree, each once, in alphabetical order."""
    return sorted({part.text for part in node.walk() if part.kind == "variable"})


def to_json(node: Node) -> Json:
    """`["+", "", [["number", "1", []], ["variable", "x", []]]]`."""
    return [node.kind, node.text, [to_json(arg) for arg in node.args]]


def from_json(data: Json) -> Node:
    """Read the output of `to_json` back into a tree."""
    kind, text, args = data
    if not (isinstance(kind, str) and isinstance(text, str) and isinstance(args, list)):
        raise TypeError(f"not a tree: {data!r}")
    return Node(kind, text, tuple(from_json(arg) for arg in args if isinstance(arg, list)))


def format_tree(node: Node) -> str:
    """The formula as a person writes it: `4x^2 - 5x - 12 = 0`."""
    match node.kind:
        case "number" | "variable" | "constant":
            return "∞" if node.text == "oo" else node.text
        case "call":
            return f"{node.text}({', '.join(format_tree(arg) for arg in node.args)})"
        case "neg":
            return "-" + _parenthesized(node.args[0], SIGN_POWER)
        case "!":
            return _parenthesized(node.args[0], FACTORIAL_POWER + 1) + "!"
        case "^":
            # The exponent may carry a sign without brackets: 2^-3.
            return (
                f"{_parenthesized(node.args[0], POWER_POWER + 1)}^{_parenthesized(node.args[1], SIGN_POWER)}"
            )
        case _:
            return _format_infix(node)


def _format_infix(node: Node) -> str:
    power = PRINT_POWER[node.kind]
    left, right = _parenthesized(node.args[0], power), _parenthesized(node.args[1], power + 1)
    if node.kind == "*" and node.args[0].kind == "number" and right[0].isalpha():
        return left + right
    return f"{left}{node.kind}{right}" if power == PRODUCT_POWER else f"{left} {node.kind} {right}"


def _parenthesized(node: Node, power: int) -> str:
    text = format_tree(node)
    return text if PRINT_POWER.get(node.kind, ATOM_POWER) >= power else f"({text})"
