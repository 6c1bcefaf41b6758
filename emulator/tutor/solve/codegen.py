"""Code generation: a tree as Python source with SymPy, shown with the answer and never run here.

Whole numbers stay plain Python until a division, a root or a letter needs SymPy, which keeps them exact:
`2/3` is `Rational(2, 3)`, and `x/3` is `x/3`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from askmill.emulator.tutor.ast import (
    ATOM_POWER,
    POWER_POWER,
    PRINT_POWER,
    PRODUCT_POWER,
    SIGN_POWER,
    Node,
    variables_of,
)

SYMPY_NAMES = {
    "abs": "Abs",
    "ceil": "ceiling",
    "floor": "floor",
    "min": "Min",
    "max": "Max",
    "mod": "Mod",
}
_CONSTANTS = {"pi": "pi", "e": "E", "i": "I", "oo": "oo"}


def is_real_root(node: Node) -> bool:
    """Whether a root is meant of a number: the cube root of -8 is -2, not SymPy's principal root."""
    return node.text in {"cbrt", "root"} and not variables_of(node)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some Python: its text, how tightly it holds together, and whether its value is a SymPy object."""

    text: str
    power: int
    exact: bool

    def parenthesized(self, power: int) -> str:
        return self.text if self.power >= power else f"({self.text})"


@dataclass(slots=True)
class PythonPrinter:
    """Prints trees as Python; `names` collects what must be imported from SymPy."""

    names: set[str] = field(default_factory=set)

    def python(self, node: Node) -> str:
        return self._piece(node).text

    def exact_python(self, node: Node) -> str:
        """Like `python`, for places that need a SymPy object even of a plain number."""
        return self._exact(self._piece(node)).text

    def _use(self, name: str) -> str:
        self.names.add(name)
        return name

    def _piece(self, node: Node) -> _Piece:
        parts = [self._piece(arg) for arg in node.args]
        match node.kind:
            case "number":
                return self._number(node.text)
            case "variable":
                return _Piece(node.text, ATOM_POWER, exact=True)
            case "constant":
                return _Piece(self._use(_CONSTANTS[node.text]), ATOM_POWER, exact=True)
            case "call":
                return self._call(node, parts)
            case "!":
                return _Piece(f"{self._use('factorial')}({parts[0].text})", ATOM_POWER, exact=True)
            case "=":
                return _Piece(f"{self._use('Eq')}({parts[0].text}, {parts[1].text})", ATOM_POWER, exact=True)
            case "neg":
                return _Piece("-" + parts[0].parenthesized(SIGN_POWER), SIGN_POWER, parts[0].exact)
            case _:
                return self._infix(node.kind, parts[0], parts[1])

    def _number(self, text: str) -> _Piece:
        if "." in text:
            return _Piece(f'{self._use("Rational")}("{text}")', ATOM_POWER, exact=True)
        # Python refuses the leading zeros that people write.
        return _Piece(text.lstrip("0") or "0", ATOM_POWER, exact=False)

    def _call(self, node: Node, parts: list[_Piece]) -> _Piece:
        name = node.text
        if is_real_root(node):
            degree = parts[1].text if name == "root" else "3"
            return _Piece(f"{self._use('real_root')}({parts[0].text}, {degree})", ATOM_POWER, exact=True)
        sympy_name = self._use(SYMPY_NAMES.get(name, name))
        if name in {"gcd", "lcm"}:
            # SymPy's take two; more are nested.
            text = parts[0].text
            for part in parts[1:]:
                text = f"{sympy_name}({text}, {part.text})"
            return _Piece(text, ATOM_POWER, exact=True)
        return _Piece(f"{sympy_name}({', '.join(part.text for part in parts)})", ATOM_POWER, exact=True)

    def _infix(self, operator: str, left: _Piece, right: _Piece) -> _Piece:
        if operator == "/" and not left.exact and not right.exact:
            return _Piece(f"{self._use('Rational')}({left.text}, {right.text})", ATOM_POWER, exact=True)
        if operator == "^":
            # A negative power of a plain Python number would be a float.
            base = left if left.exact or right.text.isdecimal() else self._exact(left)
            text = f"{base.parenthesized(POWER_POWER + 1)}**{right.parenthesized(SIGN_POWER)}"
            return _Piece(text, POWER_POWER, base.exact or right.exact)
        power = PRINT_POWER[operator]
        joint = operator if power == PRODUCT_POWER else f" {operator} "
        return _Piece(
            f"{left.parenthesized(power)}{joint}{right.parenthesized(power + 1)}",
            power,
            left.exact or right.exact,
        )

    def _exact(self, piece: _Piece) -> _Piece:
        if piece.exact:
            return piece
        return _Piece(f"{self._use('Integer')}({piece.text})", ATOM_POWER, exact=True)
