"""Numbers and expressions: evaluated, simplified, expanded, factored."""

from __future__ import annotations

from typing import Any

import sympy

from .problem import Problem
from .symbolic import Script, UnansweredError, build, decimal, shown
from .tree import Node, format_tree, variables_of
from .worked import Worked

DEFAULT_DIGITS = 10


def evaluate(problem: Problem) -> Worked:
    formula = problem.formulas[0]
    script = Script(*variables_of(formula))
    result = build(formula)
    script.line(f"result = {script.python(formula)}")
    if problem.variables:
        result = _substituted(problem, script, result)
    if not result.is_Rational and result.is_finite is not False:
        result = sympy.simplify(result)
        script.line("result = simplify(result)", "simplify")
    script.show("result", result)
    if result.has(sympy.zoo, sympy.nan):
        return Worked(f"{format_tree(formula)} is not defined: it divides by zero.", script.code, script.logs)
    return Worked(_equality(formula, result, problem, script), script.code, script.logs)


def _substituted(problem: Problem, script: Script, result: Any) -> Any:
    pairs = list(zip(problem.variables, problem.bounds, strict=True))
    listed = ", ".join(f"{name}: {script.python(value)}" for name, value in pairs)
    script.line(f"result = result.subs({{{listed}}})")
    return result.subs({sympy.Symbol(name): build(value) for name, value in pairs})


def _equality(formula: Node, result: Any, problem: Problem, script: Script) -> str:
    where = "".join(
        f" at {name} = {format_tree(value)}"
        for name, value in zip(problem.variables, problem.bounds, strict=True)
    )
    text = f"{format_tree(formula)}{where} = {shown(result)}"
    if result.free_symbols or result.is_infinite or result.is_Integer:
        return f"{text}."
    digits = problem.places or DEFAULT_DIGITS
    script.line(f"decimal = result.evalf({digits})")
    script.show("decimal", result.evalf(digits))
    approximate = decimal(result, digits)
    sign = "=" if result.is_Rational and sympy.Rational(approximate) == result else "≈"
    return f"{text} {sign} {approximate}."


def simplify(problem: Problem) -> Worked:
    return _transformed(problem, "simplify", sympy.simplify, "In its simplest form")


def expand(problem: Problem) -> Worked:
    return _transformed(problem, "expand", sympy.expand, "Multiplied out")


def factor(problem: Problem) -> Worked:
    formula = problem.formulas[0]
    if not variables_of(formula):
        return _factor_integer(formula)
    return _transformed(problem, "factor", sympy.factor, "As a product")


def _transformed(problem: Problem, name: str, function: Any, words: str) -> Worked:
    formula = problem.formulas[0]
    script = Script(*variables_of(formula))
    script.line(f"result = {name}({script.python(formula)})", name)
    result = function(build(formula))
    script.show("result", result)
    return Worked(f"{words}: {format_tree(formula)} = {shown(result)}.", script.code, script.logs)


def _factor_integer(formula: Node) -> Worked:
    value = build(formula)
    if not value.is_Integer or abs(value) < 2:
        raise UnansweredError("Only whole numbers from 2 on have a factorization into primes.")
    script = Script()
    script.line(f"factors = factorint({script.python(formula)})", "factorint")
    factors = sympy.factorint(value)
    script.show("factors", factors)
    product = " * ".join(f"{prime}^{power}" if power > 1 else str(prime) for prime, power in factors.items())
    return Worked(f"The prime factorization is {format_tree(formula)} = {product}.", script.code, script.logs)
