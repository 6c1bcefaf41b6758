"""What the tutor takes for a mathematical question, and what it leaves alone."""

from __future__ import annotations

import contextlib
import csv
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askmill.emulator.tutor.ast import format_tree
from askmill.emulator.tutor.parse.lexer import TooLargeError
from askmill.emulator.tutor.parse.question import NotMathematicsError, read_question
from askmill.emulator.tutor.problem import Problem

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_test.csv"
WORDS = (
    "what is the of and from to for solve 15% sum x = 3 `x^2` derivative integrate limit as approaches percent "
    "2/3 roots . ? , : please factor - ! square root $ 1 find if when at"
)


def describe(problem: Problem) -> str:
    """A problem on one line: `integral 2x [x] 0|3`."""
    parts = [problem.kind.value, " & ".join(format_tree(tree) for tree in problem.formulas)]
    parts.append(f"[{','.join(problem.variables)}]")
    parts.append("|".join(format_tree(tree) for tree in problem.bounds))
    return " ".join(parts).strip()


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        ("What is 12 * (3 + 4)?", "evaluate 12*(3 + 4) []"),
        ("3 + 4 =", "evaluate 3 + 4 []"),
        ("what's two plus twenty-one?", "evaluate 2 + 21 []"),
        ("Hello! Could you please tell me how much is 7 times 8? Thanks in advance!", "evaluate 7*8 []"),
        ("What is 5!?", "evaluate 5! []"),
        ("What is 1,000 + 2,000?", "evaluate 1000 + 2000 []"),
        ("What is 5 squared minus 2 cubed?", "evaluate 5^2 - 2^3 []"),
        ("What is 17 mod 5?", "evaluate mod(17, 5) []"),
        ("What is 15% of 80?", "evaluate 15/100*80 []"),
        ("80 is what percent of 120?", "evaluate 80/120*100 []"),
        ("What percentage of 120 is 80?", "evaluate 80/120*100 []"),
        ("Increase 80 by 15%", "evaluate 80*(1 + 15/100) []"),
        ("What is the square root of 144?", "evaluate sqrt(144) []"),
        ("What is the product of 3, 4 and 5?", "evaluate 3*4*5 []"),
        ("Divide 10 by 4.", "evaluate 10/4 []"),
        ("Subtract 3 from 10.", "evaluate 10 - 3 []"),
        ("What is the least common multiple of 4 and 6?", "evaluate lcm(4, 6) []"),
        ("Find the prime factorization of 360.", "factor 360 []"),
        ("Evaluate x^2 + 1 when x = 3.", "evaluate x^2 + 1 [x] 3"),
        ("I need to solve the equation `3x + 11 = 14`. Can you help me?", "solve 3x + 11 = 14 [x]"),
        ("`4x^2 - 5x - 12 = 0`", "solve 4x^2 - 5x - 12 = 0 [x]"),
        ("solve(4*x**2 - 5*x - 12, x)", "solve 4x^2 - 5x - 12 [x]"),
        ("solve(Eq(x**2, 2), x)", "solve x^2 = 2 [x]"),
        ("solve([x + y - 3, x - y], [x, y])", "solve x + y - 3 & x - y [x,y]"),
        ("Solve for y: 2y = x", "solve 2y = x [y]"),
        ("Given 3x + 1 = 4, find x.", "solve 3x + 1 = 4 [x]"),
        ("What is the value of x if 3x + 1 = 4?", "solve 3x + 1 = 4 [x]"),
        ("What are the solutions to x^2 = 2?", "solve x^2 = 2 [x]"),
        ("Solve the system of equations: x + y = 10, x - y = 2", "solve x + y = 10 & x - y = 2 [x,y]"),
        ("1. Solve 3x = 4", "solve 3x = 4 [x]"),
        ("How do I solve 2x + 1 = 7 using the quadratic formula?", "solve 2x + 1 = 7 [x]"),
        ("Solve a x = b for x", "solve a*x = b [x]"),
        ("Solve for a in a x = 2", "solve a*x = 2 [a]"),
        ("I need a solution of x^2 = 4", "solve x^2 = 4 [x]"),
        ("Solve for x and y:\n  x + y = 5\n  x - y = 1", "solve x + y = 5 & x - y = 1 [x,y]"),
        ("Solve x = 3 and x + y = 5 for y", "solve x = 3 & x + y = 5 [x,y]"),
        ("What is 3/4 of 20?", "evaluate 3/4*20 []"),
        ("What is 0.75 as a fraction?", "evaluate 0.75 []"),
        ("Factor x^2 - 9", "factor x^2 - 9 []"),
        ("Expand $(x+1)^3$.", "expand (x + 1)^3 []"),
        ("Differentiate f(x) = x^2 + 3x", "derivative x^2 + 3x [x]"),
        ("What is d/dx x^2?", "derivative x^2 [x]"),
        ("Find the derivative of `t^2` with respect to `t` at t = 2.", "derivative t^2 [t] 2"),
        ("diff(x**2, x)", "derivative x^2 [x]"),
        ("Integrate 2x from 0 to 3", "integral 2x [x] 0|3"),
        (r"Evaluate $\int_{0}^{3} 2x \, dx$.", "integral 2x [x] 0|3"),
        ("What is ∫ 2x dx?", "integral 2x [x]"),
        ("integrate(x**2, (x, 0, 1))", "integral x^2 [x] 0|1"),
        ("limit of sin(x)/x as x approaches 0", "limit sin(x)/x [x] 0"),
        (r"$\lim_{x \to 0} \frac{\sin x}{x}$", "limit sin(x)/x [x] 0"),
        ("What is the limit of 1/x as x → ∞?", "limit 1/x [x] ∞"),
        ("sum of i^2 from i=1 to 10", "sum i^2 [i] 1|10"),
        ("What is the sum of the first 100 natural numbers?", "sum k [k] 1|100"),
    ],
)
def test_a_question_is_read_as_the_problem_it_poses(question: str, problem: str) -> None:
    """English, code, LaTeX and bare formulas pose the same problems."""
    assert describe(read_question(question)) == problem


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "Hello",
        "I",
        "a",
        "42",
        "What is 5?",
        "What is the area of 3 + 4?",
        "20% of what number is 30?",
        "Is 7 + 3 even?",
        "Tell me a joke about pi.",
        "I have 3 apples and 4 pears. How many fruits do I have?",
        "It cost $3 and $4.",
        "What is 3 + 4? And what is 5 + 6?",
        "and/or",
        "What is the sum of prime numbers from 1 to 10?",
        "Find all real solutions of x^2 + 1 = 0",
        "Solve x^2 = 4 for positive x",
        "What is the root of 16?",
        "Solve 5",
        "What is 2 of 10?",
        "What is 2 1/2 + 3?",
        "٣ + ٤",
        "",
        "\x00",
        "x" * 3000,
        "What is 1 + 1" + " please" * 400 + "?",
    ],
)
def test_what_is_no_mathematics_is_left_alone(question: str) -> None:
    """No number is picked out of a question that is not understood whole."""
    with pytest.raises(NotMathematicsError) as caught:
        read_question(question)

    assert caught.value.reason == ""


@pytest.mark.parametrize(
    "question",
    ["What is the square root of 16 plus 9?", "Solve this - 3x = 4", "What is sin pi/6?", "What is √2π?", "What is 15% of 80 plus 3?",
     "What is the product of 3 and 4 + 5?"],
)  # fmt: skip
def test_what_english_leaves_open_is_not_decided(question: str) -> None:
    """Where a sentence has two readings with two results, neither is computed."""
    with pytest.raises(NotMathematicsError):
        read_question(question)


def test_a_marked_formula_that_cannot_be_read_is_told_why() -> None:
    """Who marks a formula hears what is wrong with it."""
    with pytest.raises(NotMathematicsError) as caught:
        read_question("Solve `3x + = 4`.")

    assert "before '='" in caught.value.reason


@pytest.mark.shared
@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.long)])
def test_no_word_problem_is_computed(step: int) -> None:
    """None of GSM8K's 1,319 word problems gets a computed answer, and reading one takes well under 2 ms.

    By default every tenth problem, under the marker `long` all.
    """
    if not GSM8K.exists():
        pytest.skip("../shared is missing")
    with GSM8K.open(newline="", encoding="utf-8") as file:
        questions = [row["question"] for row in csv.DictReader(file)]
    assert len(questions) == 1319
    sample = questions[::step]
    began = time.process_time()
    for question in sample:
        with pytest.raises(NotMathematicsError):
            read_question(question)
    assert (time.process_time() - began) / len(sample) < 0.002


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=300),
        st.lists(st.sampled_from(WORDS.split()), max_size=25).map(" ".join),
        st.text("0123456789xyz+-*/^()=|., \n`$%!√²\\{}[]sincolimtdr", max_size=300),
    )
)
@example("__import__('os').system('x')")
@example("solve(" * 300)
@example("solve(__import__('os'), x)")
@example("diff(x, x, 99999999999999999999)")
@example("integrate(x, (x, 0))")
@example("Solve x = 1 at x")
@example("what is 2 to 99999999999 decimal places")
@example("`" * 1000)
@example("$" * 1000)
@example("\\int_" * 300)
@example("\ue000 + \ue001")
def test_any_question_is_read_or_refused(question: str) -> None:
    """Whatever is asked, reading it ends soon in a problem or in one of two refusals."""
    began = time.process_time()
    with contextlib.suppress(NotMathematicsError, TooLargeError):
        read_question(question)
    assert time.process_time() - began < 0.5
