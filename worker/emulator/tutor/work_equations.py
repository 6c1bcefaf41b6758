"""Equations and systems of equations, solved with their steps."""

from __future__ import annotations

from typing import Any

import sympy

from .problem import Problem
from .symbolic import Script, UnansweredError, build, decimal, shown
from .tree import Node, format_tree, variables_of
from .worked import Worked

MAX_SHOWN_CHARS = 60


def solve_problem(problem: Problem) -> Worked:
    equations = problem.formulas
    if len(equations) > 1:
        return _solve_system(problem)
    if not variables_of(equations[0]):
        return _judge(equations[0])
    return _solve_one(equations[0], problem.variables[0], problem.places or 5)


def _sides(equation: Node) -> tuple[Any, Any]:
    """Left and right; an expression without a sign of equality is meant to be zero."""
    if equation.kind == "=":
        return build(equation.args[0]), build(equation.args[1])
    return build(equation), sympy.Integer(0)


def _judge(equation: Node) -> Worked:
    """An equation without letters is true or false."""
    script = Script()
    left, right = equation.args
    verdict = sympy.Eq(sympy.simplify(build(left) - build(right)), 0)
    script.line(
        f"verdict = Eq(simplify({script.python(left)} - ({script.python(right)})), 0)", "Eq", "simplify"
    )
    script.show("verdict", verdict)
    word = {True: "true", False: "false"}.get(bool(verdict), "undecided")
    return Worked(f"{format_tree(equation)} is {word}.", script.code, script.logs)


def _solve_one(equation: Node, name: str, digits: int) -> Worked:
    left, right = _sides(equation)
    letter = sympy.Symbol(name)
    script = Script(*variables_of(equation))
    script.line(f"solutions = solve({script.python(equation)}, {name})", "solve")
    solutions = sympy.solve(build(equation), letter)
    script.show("solutions", solutions)
    if any(not root.is_rational for root in solutions) and not any(root.free_symbols for root in solutions):
        script.line(f"decimals = [solution.evalf({digits}) for solution in solutions]")
        script.show("decimals", [root.evalf(digits) for root in solutions])
    text = "\n\n".join(
        [
            f"Let us solve {format_tree(_as_equation(equation))} for {name}.",
            *_numbered(_steps(left, right, letter)),
            _result(solutions, name, sympy.simplify(left - right) == 0, digits),
        ]
    )
    return Worked(text, script.code, script.logs)


def _as_equation(formula: Node) -> Node:
    return formula if formula.kind == "=" else Node("=", args=(formula, Node("number", "0")))


def _numbered(steps: list[str]) -> list[str]:
    return ["\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1))] if steps else []


def _result(solutions: list[Any], name: str, always: bool, digits: int) -> str:
    if always:
        return f"Both sides are the same, so every value of {name} is a solution."
    if not solutions:
        return "There is no solution."
    parts = [_value(name, root, digits) for root in solutions]
    return "So " + " and ".join(parts) + "."


def _value(name: str, root: Any, digits: int) -> str:
    if root.is_rational and root.q in {1, 2, 3, 4, 5, 8, 10} and digits == 5:
        return f"{name} = {shown(root)}"
    exact = shown(root)
    if root.free_symbols:
        return f"{name} = {exact}"
    if len(exact) > MAX_SHOWN_CHARS:
        return f"{name} ≈ {decimal(root, digits)}"
    return f"{name} = {exact} ≈ {decimal(root, digits)}"


def _steps(left: Any, right: Any, letter: Any) -> list[str]:
    difference = sympy.expand(left - right)
    if not difference.is_polynomial(letter):
        return []
    polynomial = sympy.Poly(difference, letter)
    match polynomial.degree():
        case 1:
            return _linear_steps(polynomial, letter)
        case 2:
            return _quadratic_steps(polynomial, letter)
        case _:
            return _factor_steps(polynomial)


def _linear_steps(polynomial: Any, letter: Any) -> list[str]:
    slope, constant = polynomial.all_coeffs()
    steps = [
        f"Bring the terms with {letter} to the left and the rest to the right: "
        f"{shown(slope * letter)} = {shown(-constant)}."
    ]
    if slope != 1:
        steps.append(
            f"Divide both sides by {shown(slope)}: {letter} = {shown(sympy.simplify(-constant / slope))}."
        )
    return steps


def _quadratic_steps(polynomial: Any, letter: Any) -> list[str]:
    a, b, c = polynomial.all_coeffs()
    discriminant = sympy.simplify(b**2 - 4 * a * c)
    return [
        f"In standard form it is {shown(polynomial.as_expr())} = 0, with a = {a}, b = {b} and c = {c}.",
        f"The discriminant is b^2 - 4ac = {shown(discriminant)}.",
        f"The quadratic formula gives {letter} = (-b ± sqrt({shown(discriminant)}))/(2a).",
    ]


def _factor_steps(polynomial: Any) -> list[str]:
    factored = sympy.factor(polynomial.as_expr())
    if factored == polynomial.as_expr():
        return []
    return [f"Factor it: {shown(factored)} = 0.", "A product is zero where one of its factors is."]


def _solve_system(problem: Problem) -> Worked:
    equations, names = problem.formulas, problem.variables
    script = Script(*sorted({letter for tree in equations for letter in variables_of(tree)}))
    listed = ", ".join(script.python(tree) for tree in equations)
    script.line(f"solutions = solve([{listed}], [{', '.join(names)}])", "solve")
    solutions = sympy.solve([build(tree) for tree in equations], [sympy.Symbol(name) for name in names])
    script.show("solutions", solutions)
    shown_equations = " and ".join(format_tree(_as_equation(tree)) for tree in equations)
    head = f"Let us solve {shown_equations} for {' and '.join(names)}."
    return Worked(f"{head}\n\n{_system_result(solutions, names)}", script.code, script.logs)


def _system_result(solutions: Any, names: tuple[str, ...]) -> str:
    if not solutions:
        return "There is no solution."
    if isinstance(solutions, dict):
        return "So " + " and ".join(_value(str(name), root, 5) for name, root in solutions.items()) + "."
    if not isinstance(solutions, list):
        raise UnansweredError("I found no closed form of the solutions.")
    lines = [" and ".join(_value(*pair, 5) for pair in zip(names, roots, strict=True)) for roots in solutions]
    return "So " + ", or ".join(lines) + "."
