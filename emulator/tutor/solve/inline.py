"""Select the problems that the helper process solves itself, without a child.

A fork costs more than they do: 9 ms of processor time against less than 1 (on 2 cores, Linux 6.18). They are
arithmetic with + - * / and equations up to the second degree in one letter, with few digits; nothing in them
can grow, so they need no limits.
"""

from __future__ import annotations

from askmill.emulator.tutor.ast import Node, variables_of
from askmill.emulator.tutor.problem import Kind, Problem

MAX_DIGITS = 40
MAX_DEGREE = 2


def runs_inline(problem: Problem) -> bool:
    """Whether the time and memory of a problem are bounded by its form alone."""
    if len(problem.formulas) != 1 or problem.bounds or problem.places:
        return False
    (formula,) = problem.formulas
    if sum(len(part.text) for part in formula.walk() if part.kind == "number") > MAX_DIGITS:
        return False
    degree = _degree(formula)
    if problem.kind is Kind.EVALUATE:
        return degree == 0
    is_equation = problem.kind is Kind.SOLVE and variables_of(formula) == list(problem.variables)
    return is_equation and degree is not None and 0 < degree <= MAX_DEGREE


def _degree(node: Node) -> int | None:
    """An upper bound of a polynomial's degree; None for what is no polynomial, or may be none."""
    if node.kind in {"number", "variable"}:
        return int(node.kind == "variable")
    degrees = [degree for degree in map(_degree, node.args) if degree is not None]
    if len(degrees) < len(node.args):
        return None
    match node.kind:
        case "+" | "-" | "neg" | "=":
            return max(degrees)
        case "*":
            return sum(degrees)
        case "/" if degrees[1] == 0:
            return degrees[0]
        case "^" if node.args[1] == Node("number", "2"):
            return 2 * degrees[0]
        case _:
            return None
