"""From a problem to its worked answer: which module works what."""

from __future__ import annotations

from collections.abc import Callable

from . import work_equations, work_expressions
from .problem import Kind, Problem
from .worked import Worked

_WORKERS: dict[Kind, Callable[[Problem], Worked]] = {
    Kind.EVALUATE: work_expressions.evaluate,
    Kind.SOLVE: work_equations.solve_problem,
    Kind.SIMPLIFY: work_expressions.simplify,
    Kind.EXPAND: work_expressions.expand,
    Kind.FACTOR: work_expressions.factor,
}


def work(problem: Problem) -> Worked:
    """Compute a problem, in as long as it takes: the caller sets the limits.

    Raises:
        UnansweredError: it came to no usable end; the message says so.
    """
    return _WORKERS[problem.kind](problem)
