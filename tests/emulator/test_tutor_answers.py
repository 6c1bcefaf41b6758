"""The tutor's answers: right, shown with the code that computes them, and with what that code prints."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path

import pytest
import pytest_asyncio
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from askmill.emulator.tutor import Tutor, TutorAnswer
from askmill.emulator.tutor.ast import Node, number
from askmill.emulator.tutor.parse.pratt import parse
from askmill.emulator.tutor.parse.question import read_question
from askmill.emulator.tutor.problem import Kind, Problem
from askmill.emulator.tutor.solve.dispatch import solve
from askmill.emulator.tutor.solve.to_sympy import to_sympy

EXAMPLES = Path(__file__).parents[2] / "examples" / "questions.csv"

# Each question of examples/questions.csv with what its answer must end in, worked out by hand.
EXPECTED = {
    "What is 12 * (3 + 4)?": "= 84.",
    "What is 2/3 + 1/4?": "= 11/12 ≈ 0.9166666667.",
    "What is 15% of 80?": "= 12.",
    "What is 2^10 - 24?": "= 1000.",
    "What is √50 + √8?": "= 7*sqrt(2) ≈ 9.899494937.",
    "What is 10! / 8!?": "= 90.",
    "What is the greatest common divisor of 84, 126 and 210?": "= 42.",
    "What is sin(60°) * cos(30°)?": "= 3/4 = 0.75.",
    "What is 22/7 to 6 decimal places?": "≈ 3.142857.",
    "I need to solve the equation `3x + 11 = 14`. Can you help me?": "So x = 1.",
    "I need to solve the equation `4x^2 - 5x - 12 = 0`. Can you help me?": (
        "So x = 5/8 - sqrt(217)/8 ≈ -1.2164 and x = 5/8 + sqrt(217)/8 ≈ 2.4664."
    ),
    "solve(4*x**2 - 5*x - 12, x)": "So x = 5/8 - sqrt(217)/8 ≈ -1.2164 and x = 5/8 + sqrt(217)/8 ≈ 2.4664.",
    "What are the roots of x³ - 6x² + 11x - 6?": "So x = 1 and x = 2 and x = 3.",
    "Solve 2x + y = 11 and x - y = 1.": "So x = 4 and y = 3.",
    "Factor x^4 - 16.": "= (x - 2)*(x + 2)*(x^2 + 4).",
    "Simplify (x^2 - 9)/(x - 3).": "= x + 3.",
    "What is the derivative of x^3 sin(x)?": "is x^3*cos(x) + 3x^2*sin(x).",
    "What is the integral of x e^x?": "is (x - 1)*exp(x) + C. C is any constant.",
    "Integrate 2x from 0 to 3.": "So the integral of 2x from x = 0 to 3 is 9.",
    "What is the limit of sin(x)/x as x approaches 0?": "is 1.",
    "What is the sum of k^2 for k from 1 to 100?": "is 338350.",
}

# More questions whose code is run: every kind of problem and every branch that writes code of its own.
MORE = {
    "What is 1/0?": "1/0 is not defined: it divides by zero.",
    "What is 0.1 + 0.2?": "= 3/10 = 0.3.",
    "What is 007 + 1?": "= 8.",
    "What is 2^-3 + (1/2)^2?": "= 3/8 = 0.375.",
    "What is (-2)^-3?": "= -1/8 = -0.125.",
    "What is 6/3/4?": "= 1/2 = 0.5.",
    "What is -2^2?": "= -4.",
    "What is the cube root of -8?": "= -2.",
    "What is (2 + sqrt(3))(2 - sqrt(3))?": "= 1.",
    "What is e^(i π)?": "= -1.",
    "What is (1+i)^2?": "= 2i.",
    "What is sin(1)?": "≈ 0.8414709848. The angle is in radians.",
    "What is log(100)?": "log(100) ≈ 4.605170186.\n\nHere log is the natural logarithm.",
    "What is log10(1000)?": "= 3.",
    "What is |3 - 7| + max(2, 9) + floor(7/2) + ceil(7/2) + min(1, 5)?": "= 21.",
    "What is 17 mod 5?": "= 2.",
    "lcm(4, 6, 10)": "= 60.",
    "Evaluate x^2 + 1 at x = 3/2.": "at x = 3/2 = 13/4 = 3.25.",
    "Is 3 + 4 = 7?": "3 + 4 = 7 is true.",
    "Is 3 + 4 = 8?": "3 + 4 = 8 is false.",
    "Factor 360": "360 = 2^3 * 3^2 * 5.",
    "Factor x^2 + 1": "x^2 + 1 cannot be taken further.",
    "Expand (x + 1)^3": "= x^3 + 3x^2 + 3x + 1.",
    "Solve 2x = 3 to 3 decimal places": "So x = 3/2 = 1.500.",
    "Solve x^2 = 2 to 3 decimal places": "So x = -sqrt(2) ≈ -1.414 and x = sqrt(2) ≈ 1.414.",
    "Solve x + 1 = x": "There is no solution.",
    "Solve 2x = x + x": "Both sides are the same, so every value of x is a solution.",
    "Solve a x = b for x": "So x = b/a.",
    "Solve x^2 + x + 1 = 0": "So x = -1/2 - sqrt(3)*i/2 ≈ -0.5 - 0.86602i and x = -1/2 + sqrt(3)*i/2 ≈ -0.5 + 0.86602i.",
    "Solve x^3 - 3x + 1 = 0": "So x ≈ 0.3473 and x ≈ 1.5321 and x ≈ -1.8794.",
    "Solve |x - 3| = 5": "So x = -2 and x = 8.",
    "Solve 2^x = 32": "So x = 5.",
    "Solve sin(x) = 1/2": "These lie within one period; adding whole periods gives the other solutions.",
    "Solve x = cos(x)": "A numeric one is x ≈ 0.7390851332. There may be others.",
    "Solve x^2 + y^2 = 25 and x - y = 1": "So x = -3 and y = -4, or x = 4 and y = 3.",
    "Solve x + y = 1 and x + y = 2": "There is no solution.",
    "Find the second derivative of x^4": "is 12x^2.",
    "What is the derivative of sin(x)/x at x = pi?": "At x = pi it is -1/pi ≈ -0.3183098862.",
    "Integrate 1/x from 1 to e": "is 1.",
    "Integrate 1/x from 0 to 1": "diverges.",
    "Integrate e^(-x^2) from -infinity to infinity": "is sqrt(pi) ≈ 1.772453851.",
    "Limit of 1/x as x approaches 0": "They differ, so the limit does not exist.",
    "Limit of 1/x as x approaches 0 from the right": "from the right is ∞.",
    "limit(1/x, x, 0, '-')": "from the left is -∞.",
    "Limit of sin(1/x) as x approaches 0": "does not exist: it keeps moving between -1 and 1.",
    "Limit of (1 + 1/n)^n as n approaches infinity": "is e ≈ 2.718281828.",
    "sum of 1/k^2 for k from 1 to infinity": "is pi^2/6 ≈ 1.644934067.",
    "sum of k for k from 1 to n": "is n^2/2 + n/2.",
    "sum of k from k = 1 to infinity": "diverges.",
}  # fmt: skip

# Runs each piece of code in a namespace of its own and prints what each one printed, as JSON.
RUNNER = """
import contextlib, io, json, sys
outputs = []
for code in json.load(sys.stdin):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})
    outputs.append(output.getvalue().rstrip("\\n"))
json.dump(outputs, sys.stdout)
"""


one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tutor() -> AsyncIterator[Tutor]:
    tutor = Tutor()
    await tutor.start()
    yield tutor
    await tutor.close()


def printed_by(codes: list[str | None]) -> list[str]:
    """What each piece of code prints when a fresh Python runs it."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(codes), capture_output=True, text=True, check=True
    )
    outputs: list[str] = json.loads(done.stdout)
    return outputs


def wrong(answers: list[TutorAnswer], expected: dict[str, str]) -> dict[str, str]:
    """The answers that do not end as expected, by question."""
    pairs = zip(expected.items(), answers, strict=True)
    return {question: answer.text for (question, ending), answer in pairs if not answer.text.endswith(ending)}


@one_loop
async def test_the_examples_are_answered_rightly_and_their_code_prints_their_logs(tutor: Tutor) -> None:
    """Every question of examples/questions.csv has its expected answer; running its code prints its logs."""
    with EXAMPLES.open(newline="", encoding="utf-8") as file:
        questions = [row["question"] for row in csv.DictReader(file)]
    assert questions == list(EXPECTED)

    answers = [await tutor.answer(question) for question in questions]

    assert wrong(answers, EXPECTED) == {}
    assert [answer.logs for answer in answers] == printed_by([answer.code for answer in answers])


@one_loop
async def test_every_kind_of_answer_is_right_and_its_code_prints_its_logs(tutor: Tutor) -> None:
    """Divergence, complex roots, one-sided limits, radians, decimals: the words and the code hold for them too."""
    answers = [await tutor.answer(question) for question in MORE]

    assert wrong(answers, MORE) == {}
    assert [answer.logs for answer in answers] == printed_by([answer.code for answer in answers])


@one_loop
async def test_what_it_cannot_compute_is_answered_without_code(tutor: Tutor) -> None:
    """To anything but mathematics it says what it is, what it can do, and how to get a real model."""
    answer = await tutor.answer("What is the capital of France?")

    assert answer.text.startswith("I am askmill's offline emulator, not a language model.")
    assert "OPENAI_API_KEY" in answer.text
    assert (answer.code, answer.logs) == (None, None)


@one_loop
async def test_a_marked_formula_with_a_fault_is_answered_with_the_fault(tutor: Tutor) -> None:
    """A marked formula that cannot be read is answered with the reason."""
    answer = await tutor.answer("Solve `3x + = 4`.")

    assert answer.text.startswith("I could not read this formula: I expected a number, a letter or a bracket")


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is 9^9^9^9?", "I did not compute this: the exponent in 9^9^9 is too large to work out."),
        ("1000000!", "I did not compute this: 1000000! is too large: I go up to 450!."),
        ("Integrate x^x", "I found no closed form for the integral of x^x."),
        ("Factor 1", "Only whole numbers from 2 on have a factorization into primes."),
    ],
)
@one_loop
async def test_what_has_no_usable_result_is_answered_in_a_sentence(
    tutor: Tutor, question: str, text: str
) -> None:
    """Too large, or no closed form: the answer says so, without code."""
    assert await tutor.answer(question) == TutorAnswer(text)


def exact(value: Fraction) -> Node:
    whole = Node("/", args=(number(abs(value.numerator)), number(value.denominator)))
    return Node("neg", args=(whole,)) if value < 0 else whole


def arithmetic() -> st.SearchStrategy[tuple[Node, Fraction]]:
    """Trees of whole numbers, each with its value by Python's own fractions."""
    leaves = st.integers(0, 200).map(lambda value: (number(value), Fraction(value)))
    return st.recursive(
        leaves, lambda inner: st.builds(joined, st.sampled_from("+-*/"), inner, inner), max_leaves=12
    )


def joined(operator: str, left: tuple[Node, Fraction], right: tuple[Node, Fraction]) -> tuple[Node, Fraction]:
    if operator == "/" and right[1] == 0:
        operator = "+"
    value = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }[operator](left[1], right[1])
    return Node(operator, args=(left[0], right[0])), value


@given(arithmetic())
@settings(deadline=None)
def test_arithmetic_agrees_with_fractions(example: tuple[Node, Fraction]) -> None:
    """Sums, differences, products and quotients of whole numbers are exactly Python's."""
    tree, value = example
    logs = solve(Problem(Kind.EVALUATE, (tree,))).logs

    assert logs.splitlines()[0] == str(value)


coefficients = st.fractions(min_value=-50, max_value=50, max_denominator=9)


@given(coefficients, coefficients, coefficients, coefficients)
@settings(deadline=None, max_examples=15)
def test_roots_put_into_their_equation_give_zero(a: Fraction, b: Fraction, c: Fraction, d: Fraction) -> None:
    """Each root of an equation up to the second degree solves it exactly; and the short way around SymPy's
    simplification gives the very list that its `solve` prints."""
    assume(a != 0 or b not in {0, d})
    x = Node("variable", "x")
    square = Node("*", args=(exact(a), Node("^", args=(x, number(2)))))
    left = Node("+", args=(Node("+", args=(square, Node("*", args=(exact(b), x)))), exact(c)))
    equation = Node("=", args=(left, Node("*", args=(exact(d), x))))

    logs = solve(Problem(Kind.SOLVE, (equation,), ("x",))).logs.splitlines()[0]

    assert logs == str(sympy.solve(to_sympy(equation), sympy.Symbol("x")))
    roots = [to_sympy(parse(root)) for root in logs.strip("[]").split(", ")]
    assert roots
    difference = to_sympy(left) - to_sympy(equation.args[1])
    assert all(sympy.expand(difference.subs(sympy.Symbol("x"), root)) == 0 for root in roots)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=3))
@settings(deadline=None, max_examples=8)
def test_a_polynomial_made_from_roots_has_these_roots(roots: list[int]) -> None:
    """Multiply (x - r) for some whole numbers: solving finds just these numbers."""
    text = "*".join(f"(x - ({root}))" for root in roots)

    logs = solve(read_question(f"Solve {text} = 0")).logs

    assert sorted(json.loads(logs)) == sorted(set(roots))


def test_the_package_is_light_to_import() -> None:
    """The emulator's own process never imports SymPy."""
    program = "import sys, askmill.emulator.tutor; sys.exit('sympy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
