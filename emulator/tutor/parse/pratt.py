"""Precedence (Pratt) parser: tokens of a formula to a syntax tree.

    binding power   10 + -   20 * / and implicit product   25 sign   30 ^ (right to left)   40 !

Method: Vaughan Pratt, "Top Down Operator Precedence", 1973. No text ever reaches eval or SymPy's own
parsers, which are built on eval.
"""

from __future__ import annotations

from askmill.emulator.tutor.ast import POWER_POWER, PRODUCT_POWER, SIGN_POWER, SUM_POWER, Node, number
from askmill.emulator.tutor.parse.lexer import FUNCTIONS, ParseError, Token, tokenize

MAX_NESTING = 50

_INFIX_POWER = {"+": SUM_POWER, "-": SUM_POWER, "*": PRODUCT_POWER, "/": PRODUCT_POWER, "^": POWER_POWER}
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}
_TRIG = frozenset({"sin", "cos", "tan"})
_ARGUMENTS = {
    "log": (1, 2),
    "root": (2, 2),
    "gcd": (2, 9),
    "lcm": (2, 9),
    "min": (2, 9),
    "max": (2, 9),
    "mod": (2, 2),
}
_MINUS_ONE = Node("neg", args=(number(1),))


def parse(text: str, bound: str = "") -> Node:
    """The tree of one expression, or of one equation (`=` at its top).

    `bound` is a letter that is a variable here even if it names a constant elsewhere: "sum of i from i=1".

    Raises:
        ParseError: the text is no formula; the message says why.
    """
    return _Parser(tokenize(text), bound).formula()


class _Parser:
    def __init__(self, tokens: list[Token], bound: str) -> None:
        self._tokens = tokens
        self._bound = bound
        self._position = 0
        self._nesting = 0
        self._open_bars = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _advance(self) -> Token:
        token = self._next
        self._position += 1
        return token

    def _is_next(self, *operators: str) -> bool:
        return self._next.kind == "operator" and self._next.text in operators

    def _expect(self, operator: str) -> None:
        if not self._is_next(operator):
            raise ParseError(f"I expected {operator!r} before {self._next.text!r}")
        self._advance()

    def formula(self) -> Node:
        left = self._expression()
        if self._is_next("="):
            self._advance()
            left = Node("=", args=(left, self._expression()))
        if self._next.kind != "end":
            raise ParseError(f"I expected an operator before {self._next.text!r}")
        return left

    def _expression(self, power: int = 0) -> Node:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise ParseError(f"the formula is nested more than {MAX_NESTING} deep")
        left = self._parse_prefix()
        while (extended := self._parse_infix(left, power)) is not None:
            left = extended
        self._nesting -= 1
        return left

    def _parse_infix(self, left: Node, power: int) -> Node | None:
        """`left` with the operator that follows it; None where that operator binds less than `power`."""
        if self._is_next("!"):
            return self._factorial(left)
        if self._starts_implicit_product():
            if power >= PRODUCT_POWER:
                return None
            return Node("*", args=(left, self._expression(PRODUCT_POWER)))
        if not self._is_next(*_INFIX_POWER) or _INFIX_POWER[self._next.text] <= power:
            return None
        operator = self._advance().text
        # One less makes the exponent group to the right: 2^3^2 is 2^(3^2).
        right = self._expression(_INFIX_POWER[operator] - (operator == "^"))
        return Node(operator, args=(left, right))

    def _factorial(self, operand: Node) -> Node:
        self._advance()
        if self._is_next("!"):
            raise ParseError("I do not know the double factorial; write (n!)! for a factorial of a factorial")
        return Node("!", args=(operand,))

    def _starts_implicit_product(self) -> bool:
        """Whether the next token may follow a factor without a sign between: `2x`, `x(x+1)`, never `x 2`."""
        if self._next.kind in {"variable", "constant", "function", "latex"}:
            return True
        return self._is_next("(", "[", "{") or (self._is_next("|") and self._open_bars == 0)

    def _parse_prefix(self) -> Node:
        token = self._advance()
        match token.kind:
            case "number" | "variable":
                return self._letter_or_number(token)
            case "constant":
                return Node("variable" if token.text == self._bound else "constant", token.text)
            case "function":
                return self._call(token.text)
            case "latex":
                return Node("/", args=(self._group("{"), self._group("{")))
        if token.kind == "operator" and token.text in _CLOSING:
            return self._bracketed(token.text)
        if token.kind == "operator" and token.text == "-":
            return Node("neg", args=(self._expression(SIGN_POWER - 1),))
        if token.kind == "operator" and token.text == "+":
            return self._expression(SIGN_POWER - 1)
        raise ParseError(f"I expected a number, a letter or a bracket before {token.text!r}")

    def _letter_or_number(self, token: Token) -> Node:
        if token.text in {"f", "g", "h"} and self._is_next("("):
            raise ParseError(f"I do not know the function {token.text}")
        return Node(token.kind, token.text)

    def _group(self, opening: str) -> Node:
        self._expect(opening)
        return self._bracketed(opening)

    def _bracketed(self, opening: str) -> Node:
        bars, self._open_bars = self._open_bars, int(opening == "|")
        inner = self._expression()
        self._expect(_CLOSING[opening])
        self._open_bars = bars
        return Node("call", "abs", (inner,)) if opening == "|" else inner

    def _call(self, name: str) -> Node:
        r"""A function with its argument: `sin(x)`, `sin x`, `sin^2(x)`, `log_2(8)`, `\sqrt[3]{x}`."""
        base = self._subscript() if name == "log" else None
        if name == "sqrt" and self._is_next("["):
            degree = self._group("[")
            return Node("call", "root", (self._argument(name), degree))
        exponent = self._function_exponent()
        if exponent == _MINUS_ONE and name in _TRIG:
            name, exponent = "a" + name, None
        call = _make_call(name, self._arguments(name), base)
        return call if exponent is None else Node("^", args=(call, exponent))

    def _subscript(self) -> Node | None:
        if not self._is_next("_"):
            return None
        self._advance()
        return self._parse_prefix()

    def _function_exponent(self) -> Node | None:
        if not self._is_next("^"):
            return None
        self._advance()
        exponent = self._parse_prefix()
        if exponent != _MINUS_ONE and exponent.kind != "number":
            raise ParseError("I read only a number as the power of a function, as in sin^2(x)")
        return exponent

    def _arguments(self, name: str) -> tuple[Node, ...]:
        if not self._is_next("(", "{"):
            return (self._argument(name),)
        bars, self._open_bars = self._open_bars, 0
        closing = _CLOSING[self._advance().text]
        arguments = [self._expression()]
        while self._is_next(","):
            self._advance()
            arguments.append(self._expression())
        self._expect(closing)
        self._open_bars = bars
        return tuple(arguments)

    def _argument(self, name: str) -> Node:
        """An argument without brackets: `sin 2x + 1` is sin(2x) + 1, and `sin x cos x` is two functions."""
        if self._is_next("(", "{"):
            return self._group(self._next.text)
        argument = self._expression(SIGN_POWER - 1)
        is_root = name in {"sqrt", "cbrt"}
        while self._starts_implicit_product() and self._next.kind != "function":
            if is_root:
                raise ParseError("I do not see how far the root reaches; please use brackets, as in sqrt(2x)")
            argument = Node("*", args=(argument, self._expression(SIGN_POWER - 1)))
        # sin pi/6 is meant as sin(pi/6) by some; a root sign reaches over one number only.
        if not is_root and self._is_next("/") and self._tokens[self._position + 1].kind == "number":
            raise ParseError(f"I do not see how far {name} reaches; please use brackets, as in {name}(x/2)")
        return argument


def _make_call(name: str, arguments: tuple[Node, ...], base: Node | None) -> Node:
    if name in {"log10", "log2"}:
        name, base = "log", number(name[3:])
    if base is not None:
        arguments = (*arguments, base)
    least, most = _ARGUMENTS.get(name, (1, 1))
    if name not in FUNCTIONS or not least <= len(arguments) <= most:
        raise ParseError(f"the function {name} takes {least} to {most} arguments, not {len(arguments)}")
    if name == "factorial":
        return Node("!", args=arguments)
    return Node("call", "log" if name == "ln" else name, arguments)
