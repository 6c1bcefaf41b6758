"""Derivatives, integrals, limits and sums."""

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

_ORDERS = {1: "derivative", 2: "second derivative", 3: "third derivative"}


def _letters(problem: Problem) -> list[str]:
    """All letters of the problem, the one it is about included even if it does not occur ("integrate 5")."""
    trees = (*problem.formulas, *problem.bounds)
    return sorted({*problem.variables, *(letter for tree in trees for letter in variables_of(tree))})


def derivative(problem: Problem) -> Solution:
    """A derivative of any order, and its value at a point where one is given."""
    formula, name, order = problem.formulas[0], problem.variables[0], problem.order
    letter, function = sympy.Symbol(name), to_sympy(formula)
    script = Script(*_letters(problem))
    script.line(f"result = diff({script.python(formula)}, {name}{f', {order}' if order > 1 else ''})", "diff")
    result = sympy.diff(function, letter, order)
    script.show("result", result)
    what = _ORDERS.get(order, f"derivative of order {order}")
    text = f"{_rule(function, letter)}the {what} of {format_tree(formula)} with respect to {name} is "
    text += f"{format_value(result)}."
    if problem.bounds:
        text += _at_point(problem, script, result, letter)
    return Solution(text[0].upper() + text[1:], script.code, script.logs)


def _rule(function: Any, letter: Any) -> str:
    """The rule that the first step of the derivative uses."""
    moving = [part for part in function.args if part.has(letter)]
    if function.is_Add and len(moving) > 1:
        return "term by term, "
    if function.is_Mul and len(moving) > 1:
        is_quotient = any(part.is_Pow and part.exp.could_extract_minus_sign() for part in moving)
        return f"by the {'quotient' if is_quotient else 'product'} rule, "
    if function.is_Mul and moving:
        return _rule(moving[0], letter)
    if function.is_Pow and function.base == letter:
        return "by the power rule, "
    return "by the chain rule, " if moving and letter not in moving else ""


def _at_point(problem: Problem, script: Script, result: Any, letter: Any) -> str:
    point = problem.bounds[0]
    value = result.subs(letter, to_sympy(point))
    script.line(f"value = result.subs({letter}, {script.python(point)})")
    script.show("value", value)
    decimals = approximation(value, problem.places)
    return f" At {letter} = {format_tree(point)} it is {format_value(value)}{decimals}."


def integral(problem: Problem) -> Solution:
    """An antiderivative, or a definite integral: by a number where no closed form is known."""
    if problem.bounds:
        return _definite(problem)
    formula, name = problem.formulas[0], problem.variables[0]
    script = Script(*_letters(problem))
    script.line(f"result = integrate({script.python(formula)}, {name})", "integrate")
    result = sympy.integrate(to_sympy(formula), sympy.Symbol(name))
    if result.has(sympy.Integral):
        raise UnansweredError(f"I found no closed form for the integral of {format_tree(formula)}.")
    script.show("result", result)
    text = f"The integral of {format_tree(formula)} with respect to {name} is {format_value(result)} + C."
    return Solution(f"{text} C is any constant.", script.code, script.logs)


def _definite(problem: Problem) -> Solution:
    formula, name = problem.formulas[0], problem.variables[0]
    low, high = problem.bounds
    script = Script(*_letters(problem))
    limits = f"({name}, {script.python(low)}, {script.python(high)})"
    script.line(f"result = integrate({script.python(formula)}, {limits})", "integrate")
    result = sympy.integrate(to_sympy(formula), (sympy.Symbol(name), to_sympy(low), to_sympy(high)))
    script.show("result", result)
    what = f"the integral of {format_tree(formula)} from {name} = {format_tree(low)} to {format_tree(high)}"
    if result.has(sympy.Integral):
        return _numeric_integral(what, script, result)
    if not result.is_finite and result.has(sympy.oo, sympy.zoo, sympy.nan):
        return Solution(f"{what[0].upper()}{what[1:]} diverges.", script.code, script.logs)
    steps = _antiderivative_steps(problem)
    script.show_decimal("result", result, problem.places)
    text = f"{what} is {format_value(result)}{approximation(result, problem.places)}."
    return Solution(
        f"{steps}So {text}" if steps else f"{text[0].upper()}{text[1:]}", script.code, script.logs
    )


def _numeric_integral(what: str, script: Script, result: Any) -> Solution:
    if result.free_symbols:
        raise UnansweredError(f"I found no closed form for {what}.")
    script.line("decimal = result.evalf(10)")
    value = result.evalf(10)
    script.show("decimal", value)
    return Solution(
        f"I found no closed form for {what}. Its value is about {value}.", script.code, script.logs
    )


def _antiderivative_steps(problem: Problem) -> str:
    """The steps of F(b) - F(a), where F is a plain polynomial: elsewhere F may jump between the bounds."""
    (formula,), (name,) = problem.formulas, problem.variables
    letter, function = sympy.Symbol(name), to_sympy(formula)
    if not function.is_polynomial(letter) or any(bound.kind == "constant" for bound in problem.bounds):
        return ""
    antiderivative = sympy.integrate(function, letter)
    low, high = (to_sympy(bound) for bound in problem.bounds)
    at_high, at_low = (
        format_value(antiderivative.subs(letter, high)),
        _parenthesized(antiderivative.subs(letter, low)),
    )
    return (
        f"1. An antiderivative is F({name}) = {format_value(antiderivative)}.\n"
        f"2. F({format_value(high)}) - F({format_value(low)}) = {at_high} - {at_low}.\n\n"
    )


def _parenthesized(value: Any) -> str:
    text = format_value(value)
    return f"({text})" if text.startswith("-") or value.is_Add else text


def limit(problem: Problem) -> Solution:
    """A limit from both sides, or from the one that is asked for."""
    formula, name, point = problem.formulas[0], problem.variables[0], problem.bounds[0]
    script = Script(*_letters(problem))
    what = f"{format_tree(formula)} as {name} approaches {format_tree(point)}"
    if Node("constant", "oo") in point.walk():
        return _one_limit(problem, script, f"the limit of {what}", "-")
    if problem.side == "+-":
        left, right = (_limit_value(problem, side) for side in "-+")
        if left != right:
            return _two_limits(problem, script, what, (left, right))
        return _one_limit(problem, script, f"the limit of {what}", "+-")
    from_side = "right" if problem.side == "+" else "left"
    return _one_limit(problem, script, f"the limit of {what} from the {from_side}", problem.side)


def _limit_value(problem: Problem, side: str) -> Any:
    letter, point = sympy.Symbol(problem.variables[0]), to_sympy(problem.bounds[0])
    return sympy.limit(to_sympy(problem.formulas[0]), letter, point, side)


def _limit_code(problem: Problem, script: Script, side: str) -> str:
    formula, point = script.python(problem.formulas[0]), script.python(problem.bounds[0])
    return f'limit({formula}, {problem.variables[0]}, {point}, "{side}")'


def _one_limit(problem: Problem, script: Script, what: str, side: str) -> Solution:
    value = _limit_value(problem, side)
    script.line(f"result = {_limit_code(problem, script, side)}", "limit")
    script.show("result", value)
    if isinstance(value, sympy.AccumBounds):
        low, high = format_value(value.min), format_value(value.max)
        text = f"{what} does not exist: it keeps moving between {low} and {high}."
    elif value.has(sympy.Limit):
        raise UnansweredError(f"I could not find {what}.")
    else:
        text = f"{what} is {format_value(value)}{approximation(value, problem.places)}."
    return Solution(text[0].upper() + text[1:], script.code, script.logs)


def _two_limits(problem: Problem, script: Script, what: str, values: tuple[Any, Any]) -> Solution:
    for name, side, value in zip(("left", "right"), "-+", values, strict=True):
        script.line(f"{name} = {_limit_code(problem, script, side)}", "limit")
        script.show(name, value)
    left, right = (format_value(value) for value in values)
    text = f"From the left, {what} tends to {left}; from the right, to {right}. "
    text += "They differ, so the limit does not exist."
    return Solution(text, script.code, script.logs)


def total(problem: Problem) -> Solution:
    """A sum over a range of whole numbers, in closed form."""
    formula, name = problem.formulas[0], problem.variables[0]
    first, last = problem.bounds
    script = Script(*_letters(problem))
    span = f"({name}, {script.python(first)}, {script.python(last)})"
    script.line(f"result = summation({script.python(formula)}, {span})", "summation")
    result = sympy.summation(to_sympy(formula), (sympy.Symbol(name), to_sympy(first), to_sympy(last)))
    what = f"The sum of {format_tree(formula)} for {name} from {format_tree(first)} to {format_tree(last)}"
    if result.has(sympy.Sum):
        raise UnansweredError(f"I found no closed form for this. {what} is left as it is.")
    script.show("result", result)
    if result.has(sympy.oo, sympy.zoo, sympy.nan):
        return Solution(f"{what} diverges.", script.code, script.logs)
    script.show_decimal("result", result, problem.places)
    return Solution(
        f"{what} is {format_value(result)}{approximation(result, problem.places)}.", script.code, script.logs
    )
