"""Equations and systems of equations, solved with their steps."""

from __future__ import annotations

from typing import Any

import sympy

from askmill.emulator.tutor.ast import Node, format_tree, variables_of
from askmill.emulator.tutor.problem import Problem, Solution
from askmill.emulator.tutor.solve.to_sympy import (
    Script,
    UnansweredError,
    approximation,
    decimal,
    format_value,
    has_decimal,
    symbol,
    to_sympy,
)

MAX_EXACT_CHARS = 60
SHORT_DIGITS = 5
_EASY_DENOMINATORS = frozenset({1, 2, 3, 4, 5, 8, 10})
_PERIODIC = "These lie within one period; adding whole periods gives the other solutions."


def solve_problem(problem: Problem) -> Solution:
    """One equation for one letter, a system for several, or the truth of an equation without letters."""
    equations = problem.formulas
    if len(equations) > 1:
        return _solve_system(problem)
    if not variables_of(equations[0]):
        return _check_equality(equations[0])
    return _solve_one(problem)


def _sides(equation: Node, *, is_real: bool = False) -> tuple[Any, Any]:
    """Left and right; an expression without a sign of equality is meant to be zero."""
    left, *right = equation.args if equation.kind == "=" else (equation,)
    return to_sympy(left, is_real=is_real), to_sympy(right[0], is_real=is_real) if right else sympy.Integer(0)


def _check_equality(equation: Node) -> Solution:
    """An equation without letters is true or false."""
    script = Script()
    difference = Node("-", args=equation.args)
    script.line(f"verdict = Eq(simplify({script.python(difference)}), 0)", "Eq", "simplify")
    verdict = sympy.Eq(sympy.simplify(to_sympy(difference)), 0)
    if verdict not in {sympy.true, sympy.false}:
        raise UnansweredError(f"I could not decide whether {format_tree(equation)}.")
    script.show("verdict", verdict)
    return Solution(f"{format_tree(equation)} is {str(verdict).lower()}.", script.code, script.logs)


def _solve_one(problem: Problem) -> Solution:
    equation, name = problem.formulas[0], problem.variables[0]
    # SymPy takes absolute values apart only where the letters are real.
    is_real = any(part.text == "abs" for part in equation.walk())
    letter = symbol(name, is_real=is_real)
    left, right = _sides(equation, is_real=is_real)
    script = Script(*sorted({*variables_of(equation), name}), is_real=is_real)
    script.line(f"solutions = solve({script.python(equation)}, {name})", "solve")
    try:
        solutions = _solutions(left, right, letter)
    except NotImplementedError:
        return _solve_numerically(equation, letter)
    script.show("solutions", solutions)
    _show_decimals(script, solutions, problem.places)
    paragraphs = [
        f"Let us solve {format_tree(_as_equation(equation))} for {name}.",
        "\n".join(f"{n}. {step}" for n, step in enumerate(_steps(left, right, letter), 1)),
        _result(solutions, name, problem.places) if solutions else _no_result(left - right, name),
        _PERIODIC if solutions and _is_periodic(left - right, letter) else "",
    ]
    return Solution("\n\n".join(part for part in paragraphs if part), script.code, script.logs)


def _solutions(left: Any, right: Any, letter: Any) -> Any:
    """What `solve(Eq(left, right), letter)` returns, on a shorter way where that is known to be the same.

    For degrees 1 and 2 with rational coefficients, `roots` finds the same list, sorted, in a tenth of the
    time; a test compares the two.
    """
    polynomial = (left - right).as_poly(letter)
    if polynomial is not None and polynomial.degree() in {1, 2} and polynomial.domain in {sympy.ZZ, sympy.QQ}:
        return sorted(sympy.roots(polynomial), key=sympy.default_sort_key)
    return sympy.solve(sympy.Eq(left, right), letter)


def _show_decimals(script: Script, solutions: list[Any], places: int) -> None:
    if not any(has_decimal(root) and not root.is_rational for root in solutions):
        return
    rounded = f"round({places})" if places else f"evalf({SHORT_DIGITS})"
    script.line(f"decimals = [solution.{rounded} for solution in solutions]")
    values = [root.round(places) if places else root.evalf(SHORT_DIGITS) for root in solutions]
    script.show("decimals", values)


def _solve_numerically(equation: Node, letter: Any) -> Solution:
    """One solution near 1, by Newton's method, of an equation without a closed solution."""
    if len(variables_of(equation)) > 1:
        raise UnansweredError(f"I found no closed form for the solution of {format_tree(equation)}.")
    script = Script(letter.name)
    script.line(f"solution = nsolve({script.python(equation)}, {letter}, 1)", "nsolve")
    try:
        root = sympy.nsolve(to_sympy(equation), letter, 1)
    except (ValueError, TypeError, ZeroDivisionError):
        raise UnansweredError(f"I found no solution of {format_tree(equation)}.") from None
    script.show("solution", root)
    text = f"I found no closed form for the solutions of {format_tree(_as_equation(equation))}."
    text += f" A numeric one is {letter} ≈ {decimal(root)}. There may be others."
    return Solution(text, script.code, script.logs)


def _is_periodic(difference: Any, letter: Any) -> bool:
    functions = difference.atoms(sympy.functions.elementary.trigonometric.TrigonometricFunction)
    return any(function.has(letter) for function in functions)


def _as_equation(formula: Node) -> Node:
    return formula if formula.kind == "=" else Node("=", args=(formula, Node("number", "0")))


def _no_result(difference: Any, name: str) -> str:
    if sympy.simplify(difference) == 0:
        return f"Both sides are the same, so every value of {name} is a solution."
    return _none(difference.free_symbols, {name})


def _none(letters: set[Any], names: set[str]) -> str:
    if {letter.name for letter in letters} <= names:
        return "There is no solution."
    return "There is no solution that holds for all values of the other letters."


def _result(solutions: list[Any], name: str, places: int) -> str:
    return "So " + " and ".join(_value(name, root, places) for root in solutions) + "."


def _value(name: str, root: Any, places: int = 0) -> str:
    exact = format_value(root)
    if root.is_rational and root.q in _EASY_DENOMINATORS and not places:
        return f"{name} = {exact}"
    approximate = approximation(root, places, SHORT_DIGITS)
    is_readable = len(exact) <= MAX_EXACT_CHARS and not root.has(sympy.CRootOf)
    return f"{name} = {exact}{approximate}" if is_readable or not approximate else name + approximate


def _steps(left: Any, right: Any, letter: Any) -> list[str]:
    difference = sympy.expand(left - right)
    if not difference.is_polynomial(letter) or difference.free_symbols != {letter}:
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
    moved = f"{format_value(slope * letter)} = {format_value(-constant)}"
    steps = [f"Bring the terms with {letter} to the left and the rest to the right: {moved}."]
    if slope != 1:
        steps.append(
            f"Divide both sides by {format_value(slope)}: {letter} = {format_value(-constant / slope)}."
        )
    return steps


def _quadratic_steps(polynomial: Any, letter: Any) -> list[str]:
    a, b, c = polynomial.all_coeffs()
    named = f"a = {format_value(a)}, b = {format_value(b)} and c = {format_value(c)}"
    discriminant = sympy.expand(b**2 - 4 * a * c)
    return [
        f"In standard form it is {format_value(polynomial.as_expr())} = 0, with {named}.",
        f"The discriminant is b^2 - 4ac = {format_value(discriminant)}.",
        f"The quadratic formula gives {letter} = (-b ± sqrt({format_value(discriminant)}))/(2a).",
    ]


def _factor_steps(polynomial: Any) -> list[str]:
    factored = sympy.factor(polynomial.as_expr())
    if factored == polynomial.as_expr():
        return []
    return [f"Factor it: {format_value(factored)} = 0.", "A product is zero where one of its factors is."]


def _solve_system(problem: Problem) -> Solution:
    equations, names = problem.formulas, problem.variables
    letters = {letter for tree in equations for side in _sides(tree) for letter in side.free_symbols}
    script = Script(*sorted({*names, *(letter for tree in equations for letter in variables_of(tree))}))
    listed = ", ".join(script.python(tree) for tree in equations)
    script.line(f"solutions = solve([{listed}], [{', '.join(names)}])", "solve")
    solutions = sympy.solve([to_sympy(tree) for tree in equations], [sympy.Symbol(name) for name in names])
    script.show("solutions", solutions)
    shown_equations = " and ".join(format_tree(_as_equation(tree)) for tree in equations)
    head = f"Let us solve {shown_equations} for {' and '.join(names)}."
    return Solution(f"{head}\n\n{_system_result(solutions, names, letters)}", script.code, script.logs)


def _system_result(solutions: Any, names: tuple[str, ...], letters: set[Any]) -> str:
    if not solutions:
        return _none(letters, set(names))
    if isinstance(solutions, dict):
        return "So " + " and ".join(_value(str(name), root) for name, root in solutions.items()) + "."
    if not isinstance(solutions, list):
        raise UnansweredError("I found no closed form of the solutions.")
    lines = [" and ".join(_value(*pair) for pair in zip(names, roots, strict=True)) for roots in solutions]
    return "So " + ", or ".join(lines) + "."
