"""Dispatch a Problem to the function that solves its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from askmill.emulator.tutor.problem import Kind, Problem, Solution
from askmill.emulator.tutor.solve import calculus, equations, expressions

_SOLVERS: dict[Kind, Callable[[Problem], Solution]] = {
    Kind.EVALUATE: expressions.evaluate,
    Kind.SOLVE: equations.solve_problem,
    Kind.SIMPLIFY: expressions.simplify,
    Kind.EXPAND: expressions.expand,
    Kind.FACTOR: expressions.factor,
    Kind.DERIVATIVE: calculus.derivative,
    Kind.INTEGRAL: calculus.integral,
    Kind.LIMIT: calculus.limit,
    Kind.SUM: calculus.total,
}


def solve(problem: Problem) -> Solution:
    """Compute a problem, in as long as it takes: the caller sets the limits.

    Raises:
        UnansweredError: it came to no usable end; the message says so.
    """
    worked = _SOLVERS[problem.kind](problem)
    if any(_is_plain_log(problem)):
        return replace(worked, text=f"{worked.text}\n\nHere log is the natural logarithm.")
    return worked


def _is_plain_log(problem: Problem) -> list[bool]:
    parts = (part for tree in problem.formulas for part in tree.walk())
    return [part.kind == "call" and part.text == "log" and len(part.args) == 1 for part in parts]
