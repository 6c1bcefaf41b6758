"""Grammar rules: from the whole shape of a question to its Problem. Without a rule nothing is computed.

Where English allows two readings ("the square root of 16 plus 9") the rule refuses rather than choose.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from askmill.emulator.tutor.ast import Node, number, variables_of
from askmill.emulator.tutor.parse.lexer import ParseError
from askmill.emulator.tutor.parse.normalize import Shape
from askmill.emulator.tutor.parse.pratt import parse
from askmill.emulator.tutor.parse.sympy_calls import problem_of_call
from askmill.emulator.tutor.problem import Kind, Problem

Build = Callable[[Shape], Problem]

_LONE_LETTERS = (Node("constant", "e"), Node("constant", "i"))
_FUNCTION_HEAD = re.compile(r"^\s*[fghFGH]\s*\(\s*[a-z]\s*\)\s*=(?!=)")
_DIFFERENTIAL = re.compile(r"[\s*]*\bd\s*([a-z])\s*$|(?<=[\w)])d([a-z])\s*$")
_SIDE = re.compile(r"\s*\^?\s*\{?([+-])\}?\s*$")


def whole_number(text: str, most: int) -> int:
    """The number written there, from 1 to `most`; anything else is a ParseError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 0 < int(text) <= most):
        raise ParseError(f"I expected a whole number from 1 to {most} where it says {text[:20]!r}")
    return int(text)


def is_letter(tree: Node) -> bool:
    """Whether a formula is nothing but one letter, so probably one to solve for."""
    return tree.kind == "variable"


def expression(text: str, bound: str = "") -> Node:
    """The tree of an expression; `f(x) = ...` and `y = ...` stand for their right sides."""
    tree = parse(_FUNCTION_HEAD.sub("", text), bound)
    if tree.kind == "=" and is_letter(tree.args[0]) and tree.args[0].text not in variables_of(tree.args[1]):
        return tree.args[1]
    if tree.kind == "=":
        raise ParseError("I expected an expression there, not an equation")
    return tree


def main_letter(*trees: Node) -> str:
    """The letter that a question is about when it names none: x, else t, else the first of the alphabet."""
    letters = sorted({letter for tree in trees for letter in variables_of(tree)})
    return next((letter for letter in ("x", "t") if letter in letters), letters[0] if letters else "x")


def _parse_prefix(text: str) -> Node:
    """An operand that stays one thing in spoken English: `16`, `x^2`, `2/3`, `(1 + 2)`, not `16 + 9`."""
    tree = parse(text)
    is_bracketed = text.startswith("(") and text.endswith(")")
    is_fraction = tree.kind == "/" and all(part.kind == "number" for part in tree.args)
    if tree.kind in {"+", "-", "*", "/", "=", "neg"} and not (
        is_bracketed or is_fraction or _is_negative(tree)
    ):
        raise ParseError(
            f"English leaves open how far the operation reaches in {text!r}; please use brackets"
        )
    return tree


def _is_negative(tree: Node) -> bool:
    return tree.kind == "neg" and tree.args[0].kind == "number"


def _evaluation(tree: Node) -> Problem:
    return Problem(Kind.SIMPLIFY if variables_of(tree) else Kind.EVALUATE, (tree,))


def _bare(shape: Shape) -> Problem:
    """A formula without a word about it: an equation is solved, numbers are worked out."""
    tree = parse(re.sub(r"\s*=\s*$", "", shape.formulas[0]))
    if tree.kind == "=":
        return _solution([tree], [])
    if (
        variables_of(tree)
        and not shape.is_marked
        and not any(part.kind in {"number", "call"} for part in tree.walk())
    ):
        raise ParseError("it may be no formula at all")
    return _worked_number(tree)


def _worked_number(tree: Node) -> Problem:
    if tree.kind in {"number", "variable"} or _is_negative(tree) or tree in _LONE_LETTERS:
        raise ParseError("there is nothing to compute in it")
    return _evaluation(tree)


def _solution(equations: list[Node], letters: list[str]) -> Problem:
    all_letters = sorted({letter for tree in equations for letter in variables_of(tree)})
    if len(equations) == 1:
        unknowns = letters or [main_letter(*equations)]
        if len(unknowns) > 1:
            raise ParseError("one equation is solved for one letter")
        return Problem(Kind.SOLVE, tuple(equations), tuple(unknowns))
    unknowns = letters if len(letters) >= len(equations) else all_letters
    if unknowns == all_letters and len(all_letters) > max(len(equations), len(letters)):
        raise ParseError("there are more letters than equations; please say which ones to solve for")
    return Problem(Kind.SOLVE, tuple(equations), tuple(unknowns))


def _solve(shape: Shape) -> Problem:
    """Equations with or without letters to solve for, or an expression with values for its letters."""
    trees = [parse(_FUNCTION_HEAD.sub("", text)) for text in shape.formulas]
    equations = [tree for tree in trees if tree.kind == "="]
    letters = [tree.text for tree in trees if is_letter(tree)]
    expressions = [tree for tree in trees if tree.kind != "=" and not is_letter(tree)]
    if equations and not expressions:
        return _solution(equations, letters)
    if len(expressions) != 1:
        raise ParseError("please ask one thing at a time")
    if equations and not letters:
        return _at_values(expressions[0], equations)
    if equations or not {"SOLVE", "ROOTS"} & set(shape.words.split()):
        raise ParseError("I do not see what is to be computed")
    if variables_of(expressions[0]):
        return _solution(expressions, letters)
    if shape.words != "SOLVE F":
        raise ParseError("there is no letter in it to solve for")
    return _worked_number(expressions[0])


def _at_values(formula: Node, values: list[Node]) -> Problem:
    if any(not is_letter(value.args[0]) or variables_of(value.args[1]) for value in values):
        raise ParseError("I expected values such as x = 3")
    names = tuple(value.args[0].text for value in values)
    if not set(names) <= set(variables_of(formula)):
        raise ParseError("a value is given for a letter that does not occur")
    return Problem(Kind.EVALUATE, (formula,), names, tuple(value.args[1] for value in values))


def _transform(shape: Shape) -> Problem:
    kind = next(kind for kind in (Kind.SIMPLIFY, Kind.EXPAND, Kind.FACTOR) if kind.name in shape.words)
    tree = expression(shape.formulas[0])
    return _evaluation(tree) if kind is Kind.SIMPLIFY else Problem(kind, (tree,))


def _derivative(shape: Shape) -> Problem:
    texts = list(shape.formulas)
    if shape.words.startswith("DERIVE WRT"):
        texts = [texts[1], texts[0], *texts[2:]]
    tree = expression(texts[0])
    others = [parse(text) for text in texts[1:]]
    letter = next((part.text for part in others if is_letter(part)), main_letter(tree))
    points = [part.args[1] if part.kind == "=" else part for part in others if not is_letter(part)]
    if len(points) > 1 or any(variables_of(point) for point in points):
        raise ParseError("I expected one point, such as x = 2")
    order = 1 + ("SECOND" in shape.words) + 2 * ("THIRD" in shape.words)
    return Problem(Kind.DERIVATIVE, (tree,), (letter,), tuple(points), order=order)


def _integral(shape: Shape) -> Problem:
    texts = list(shape.formulas)
    if shape.words.startswith("INTEGRATE FROM"):
        texts = [texts[2], texts[0], texts[1]]
    found = _DIFFERENTIAL.search(texts[0])
    integrand = texts[0][: found.start()] if found else texts[0]
    tree = expression(integrand or "1")
    others = [_bound_value(text) for text in texts[1:]]
    letters = [part.text for part in others if is_letter(part)] if "WRT" in shape.words else []
    named = (found[1] or found[2]) if found else None
    letter = named or (letters[0] if letters else main_letter(tree))
    bounds = [part for part in others if not (letters and is_letter(part))]
    if len(bounds) not in {0, 2}:
        raise ParseError("an integral has both of its bounds or none")
    return Problem(Kind.INTEGRAL, (tree,), (letter,), tuple(bounds))


def _bound_value(text: str) -> Node:
    """`3` or `x = 3`."""
    tree = parse(text)
    return tree.args[1] if tree.kind == "=" and is_letter(tree.args[0]) else tree


def _limit(shape: Shape) -> Problem:
    texts = list(shape.formulas)
    if not re.match(r"LIMIT(?: OF)? F", shape.words):
        texts = [texts[2], texts[0], texts[1]]
    side = "+" if "RIGHT" in shape.words else "-" if "LEFT" in shape.words else "+-"
    found = _SIDE.search(texts[2])
    if found:
        side, texts[2] = found[1], texts[2][: found.start()]
    letter = parse(texts[1])
    if not is_letter(letter):
        raise ParseError("I expected the letter that approaches the limit")
    return Problem(Kind.LIMIT, (expression(texts[0]),), (letter.text,), (parse(texts[2]),), side=side)


def _series(shape: Shape) -> Problem:
    texts = list(shape.formulas)
    if shape.words.startswith("SUM FROM"):
        texts = [texts[2], texts[0], texts[1]]
    named = re.match(r"\s*([a-z])\s*=", texts[-2])
    letter = named[1] if named else texts[1] if len(texts) == 4 else ""
    tree = expression(texts[0], bound=letter)
    letter = letter or main_letter(tree)
    first = expression(texts[-2], bound=letter)
    return Problem(Kind.SUM, (tree,), (letter,), (first, expression(texts[-1])))


def _sum_of_numbers(shape: Shape) -> Problem:
    texts = ["1", shape.formulas[0]] if "FIRST" in shape.words else list(shape.formulas)
    return Problem(Kind.SUM, (Node("variable", "k"),), ("k",), tuple(parse(text) for text in texts))


def _chain(operator: str, *, reverse: bool = False) -> Build:
    """Two or more operands joined: "the product of 3, 4 and 5"."""

    def to_sympy(shape: Shape) -> Problem:
        trees = [_parse_prefix(text) for text in shape.formulas]
        first, *others = reversed(trees) if reverse else trees
        for other in others:
            first = Node(operator, args=(first, other))
        return _evaluation(first)

    return to_sympy


def _function(name: str) -> Build:
    """A named function of its operands: "the greatest common divisor of 12 and 18"."""

    def to_sympy(shape: Shape) -> Problem:
        operands = tuple(_parse_prefix(text) for text in shape.formulas)
        return _evaluation(Node("!", args=operands) if name == "!" else Node("call", name, operands))

    return to_sympy


def _percent_of(shape: Shape) -> Problem:
    share, whole = (_parse_prefix(text) for text in shape.formulas)
    return _evaluation(Node("*", args=(_hundredths(share), whole)))


def _fraction_of(shape: Shape) -> Problem:
    share, whole = (_parse_prefix(text) for text in shape.formulas)
    if share.kind != "/":
        raise ParseError("I expected a fraction, as in 3/4 of 20")
    return _evaluation(Node("*", args=(share, whole)))


def _as_fraction(shape: Shape) -> Problem:
    return _evaluation(parse(shape.formulas[0]))


def _what_percent(shape: Shape) -> Problem:
    part, whole = (_parse_prefix(text) for text in shape.formulas)
    if shape.words.startswith("WHATPERCENT"):
        part, whole = whole, part
    return _evaluation(Node("*", args=(Node("/", args=(part, whole)), number(100))))


def _changed_by_percent(shape: Shape) -> Problem:
    whole, share = (_parse_prefix(text) for text in shape.formulas)
    sign = "+" if "INCREASE" in shape.words else "-"
    factor = Node(sign, args=(number(1), _hundredths(share)))
    return _evaluation(Node("*", args=(whole, factor)))


def _hundredths(share: Node) -> Node:
    return Node("/", args=(share, number(100)))


def _call(shape: Shape) -> Problem:
    return problem_of_call(shape.formulas[0])


_LIST = r"F(?: F)*(?: AND F)"
_RANGE = r"FROM F (?:TO|AND) F"

RULES: tuple[tuple[re.Pattern[str], Build], ...] = tuple(
    (re.compile(pattern), to_sympy)
    for pattern, to_sympy in (
        ("CALL", _call),
        ("F", _bare),
        ("F OF F", _fraction_of),
        (r"(?=.*F)(?:(?:SOLVE|ROOTS|OF|TO|FOR|IF|AT|AND|F)(?: |$))+", _solve),
        (r"(?:SIMPLIFY|EXPAND|FACTOR)(?: OF| FOR)? F|F (?:SIMPLIFY|EXPAND|FACTOR)", _transform),
        (
            r"(?:(?:FIRST|SECOND|THIRD) )?DERIVE(?: OF| FOR)? F(?: (?:WRT|BY|FOR) F)?(?: (?:AT|IF) F)?",
            _derivative,
        ),
        (r"DERIVE WRT F(?: OF)? F(?: (?:AT|IF) F)?", _derivative),
        (rf"INTEGRATE(?: OF| FOR)? F(?: WRT F)?(?: {_RANGE})?", _integral),
        (rf"INTEGRATE(?: OF)? F {_RANGE} WRT F|INTEGRATE {_RANGE}(?: OF)? F", _integral),
        (r"LIMIT(?: OF| FOR)? F (?:AS|IF|FOR) F APPROACHES F(?: LEFT| RIGHT)?", _limit),
        (r"LIMIT(?: AS| IF| FOR)? F APPROACHES F(?: LEFT| RIGHT)?(?: OF| FOR)? F", _limit),
        (r"SUM(?: OF)? F(?: FOR F)? FROM F TO F|SUM FROM F TO F(?: OF)? F", _series),
        (r"SUM OF NUMBERS FROM F (?:TO|AND) F|SUM OF FIRST F NUMBERS", _sum_of_numbers),
        (rf"SUM OF {_LIST}|ADD F (?:TO|AND) F", _chain("+")),
        (rf"PRODUCT(?: OF)? {_LIST}|PRODUCT F BY F", _chain("*")),
        (r"DIFFERENCE (?:OF|FROM) F AND F", _chain("-")),
        (r"SUBTRACT F FROM F", _chain("-", reverse=True)),
        (r"QUOTIENT OF F AND F|QUOTIENT F BY F", _chain("/")),
        (r"SQRT(?: OF)? F", _function("sqrt")),
        (r"CBRT(?: OF)? F", _function("cbrt")),
        (r"ABS(?: OF)? F", _function("abs")),
        (r"FACTORIAL OF F|F FACTORIAL", _function("!")),
        (rf"GCD OF {_LIST}", _function("gcd")),
        (rf"LCM OF {_LIST}", _function("lcm")),
        (r"F FRACTION", _as_fraction),
        (r"F MOD F", _function("mod")),
        (r"F PERCENT OF F", _percent_of),
        (r"F IS WHATPERCENT OF F|WHATPERCENT OF F IS F", _what_percent),
        (r"(?:INCREASE|DECREASE) F BY F PERCENT|F (?:INCREASE|DECREASE) BY F PERCENT", _changed_by_percent),
    )
)
