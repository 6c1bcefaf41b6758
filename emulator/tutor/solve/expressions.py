"""Numbers and expressions: evaluated, simplified, expanded, factored."""

from __future__ import annotations

from typing import Any

import sympy

from askmill.emulator.tutor.ast import Node, format_tree, variables_of
from askmill.emulator.tutor.problem import Problem, Solution
from askmill.emulator.tutor.solve.to_sympy import (
    Script,
    UnansweredError,
    approximation,
    format_value,
    to_sympy,
)


def evaluate(problem: Problem) -> Solution:
    """A number in exact form, with its decimal value; or an expression's value for given letters."""
    formula = problem.formulas[0]
    script = Script(*variables_of(formula))
    result = to_sympy(formula)
    script.line(f"result = {script.python(formula)}")
    if problem.variables:
        result = _substituted(problem, script, result)
    if result.has(sympy.Add) and result.is_finite is not False:
        result = sympy.simplify(result)
        script.line("result = simplify(result)", "simplify")
    script.show("result", result)
    if result.has(sympy.zoo, sympy.nan):
        return Solution(
            f"{format_tree(formula)} is not defined: it divides by zero.", script.code, script.logs
        )
    script.show_decimal("result", result, problem.places)
    where = "".join(
        f" at {name} = {format_tree(value)}"
        for name, value in zip(problem.variables, problem.bounds, strict=True)
    )
    question, exact = f"{format_tree(formula)}{where}", format_value(result)
    head = question if question == exact else f"{question} = {exact}"
    text = f"{head}{approximation(result, problem.places)}."
    if any(_is_angle_without_pi(part) for part in formula.walk()):
        text += " The angle is in radians."
    return Solution(text, script.code, script.logs)


def _is_angle_without_pi(part: Node) -> bool:
    if part.kind != "call" or part.text not in {"sin", "cos", "tan", "cot", "sec", "csc"}:
        return False
    return all(
        inner.kind not in {"constant", "variable", "call"} for inner in part.walk() if inner is not part
    )


def _substituted(problem: Problem, script: Script, result: Any) -> Any:
    pairs = list(zip(problem.variables, problem.bounds, strict=True))
    listed = ", ".join(f"{name}: {script.python(value)}" for name, value in pairs)
    script.line(f"result = result.subs({{{listed}}})")
    return result.subs({sympy.Symbol(name): to_sympy(value) for name, value in pairs})


def simplify(problem: Problem) -> Solution:
    """An expression with letters in its simplest form."""
    return _transformed(problem, "simplify", sympy.simplify, "In its simplest form")


def expand(problem: Problem) -> Solution:
    """An expression multiplied out."""
    return _transformed(problem, "expand", sympy.expand, "Multiplied out")


def factor(problem: Problem) -> Solution:
    """A polynomial as a product, or a whole number as a product of primes."""
    formula = problem.formulas[0]
    if not variables_of(formula):
        return _factor_integer(formula)
    return _transformed(problem, "factor", sympy.factor, "As a product")


def _transformed(problem: Problem, name: str, function: Any, words: str) -> Solution:
    formula = problem.formulas[0]
    script = Script(*variables_of(formula))
    script.line(f"result = {name}({script.exact_python(formula)})", name)
    result = function(to_sympy(formula))
    script.show("result", result)
    before, after = format_tree(formula), format_value(result)
    text = f"{before} cannot be taken further." if before == after else f"{words}: {before} = {after}."
    return Solution(text, script.code, script.logs)


def _factor_integer(formula: Node) -> Solution:
    value = to_sympy(formula)
    if not value.is_Integer or abs(value) < 2:
        raise UnansweredError("Only whole numbers from 2 on have a factorization into primes.")
    script = Script()
    script.line(f"factors = factorint({script.python(formula)})", "factorint")
    factors = sympy.factorint(value)
    script.show("factors", factors)
    product = " * ".join(f"{prime}^{power}" if power > 1 else str(prime) for prime, power in factors.items())
    return Solution(
        f"The prime factorization is {format_tree(formula)} = {product}.", script.code, script.logs
    )
