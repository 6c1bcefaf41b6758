"""From a problem to its worked answer: which module works what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from . import work_calculus, work_equations, work_expressions
from .problem import Kind, Problem
from .worked import Worked

_WORKERS: dict[Kind, Callable[[Problem], Worked]] = {
    Kind.EVALUATE: work_expressions.evaluate,
    Kind.SOLVE: work_equations.solve_problem,
    Kind.SIMPLIFY: work_expressions.simplify,
    Kind.EXPAND: work_expressions.expand,
    Kind.FACTOR: work_expressions.factor,
    Kind.DERIVATIVE: work_calculus.derivative,
    Kind.INTEGRAL: work_calculus.integral,
    Kind.LIMIT: work_calculus.limit,
    Kind.SUM: work_calculus.total,
}


def work(problem: Problem) -> Worked:
    """Compute a problem, in as long as it takes: the caller sets the limits.

    Raises:
        UnansweredError: it came to no usable end; the message says so.
    """
    worked = _WORKERS[problem.kind](problem)
    if any(_is_plain_log(problem)):
        return replace(worked, text=f"{worked.text}\n\nHere log is the natural logarithm.")
    return worked


def _is_plain_log(problem: Problem) -> list[bool]:
    parts = (part for tree in problem.formulas for part in tree.walk())
    return [part.kind == "call" and part.text == "log" and len(part.args) == 1 for part in parts]
