# ruff: noqa: RUF001 (look-alike characters are what is tested)
"""The tutor's formula parser: what it reads, what it refuses, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from askmill.emulator.tutor.ast import Node, format_tree, from_json, to_json
from askmill.emulator.tutor.parse.lexer import MAX_FORMULA_CHARS, ParseError, TooLargeError
from askmill.emulator.tutor.parse.pratt import parse
from askmill.emulator.tutor.parse.size_limits import check_size

FORMULA_CHARACTERS = "0123456789.xyzabei+-*/^()[]{}!|=_, \\%²³½√π°∞sincoqrtlgfapm"


def formulas() -> st.SearchStrategy[Node]:
    """Trees that a person could have written."""
    leaves = st.one_of(
        st.integers(0, 999).map(lambda value: Node("number", str(value))),
        st.sampled_from(["0.5", "12.25"]).map(lambda text: Node("number", text)),
        st.sampled_from("abcdnxyz").map(lambda letter: Node("variable", letter)),
        st.sampled_from(["pi", "e", "i", "oo"]).map(lambda name: Node("constant", name)),
    )
    return st.recursive(leaves, extended, max_leaves=20)


def extended(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.one_of(
        st.builds(lambda op, a, b: Node(op, args=(a, b)), st.sampled_from("+-*/^"), inner, inner),
        st.builds(lambda op, a: Node(op, args=(a,)), st.sampled_from(["neg", "!"]), inner),
        st.builds(
            lambda name, a: Node("call", name, (a,)), st.sampled_from(["sin", "sqrt", "abs", "exp"]), inner
        ),
        st.builds(
            lambda name, a, b: Node("call", name, (a, b)),
            st.sampled_from(["gcd", "log", "root"]),
            inner,
            inner,
        ),
    )


def nested(outer: str, inner: str) -> Node:
    """One operator in both operands of another, which is where brackets are needed or not."""
    leaf = Node("variable", "x")
    part = Node(inner, args=(leaf,) * (1 if inner in {"neg", "!"} else 2))
    return Node(outer, args=(part,) * (1 if outer in {"neg", "!"} else 2))


OPERATORS = ["+", "-", "*", "/", "^", "neg", "!"]


@pytest.mark.parametrize("inner", OPERATORS)
@pytest.mark.parametrize("outer", OPERATORS)
def test_brackets_are_printed_where_they_are_needed(outer: str, inner: str) -> None:
    """Every operator inside every other prints so that it is read as it was."""
    assert parse(format_tree(nested(outer, inner))) == nested(outer, inner)


@given(formulas())
@settings(deadline=None)
def test_what_is_printed_is_read_as_the_same_tree(tree: Node) -> None:
    """A printed tree parses to itself, so an answer always names the formula that was computed."""
    assert parse(format_tree(tree)) == tree


@given(formulas())
@settings(deadline=None)
def test_a_tree_survives_its_journey_as_json(tree: Node) -> None:
    """The helper process receives exactly the tree that was read."""
    assert from_json(to_json(tree)) == tree


@settings(deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(FORMULA_CHARACTERS, max_size=200)))
@example("__import__('os').system('x')")
@example("(" * 100_000)
@example("-" * 100_000)
@example("2^" * 400 + "2")
@example("((((((((((" * 5 + "1" + "))))))))))" * 5)
@example("1" * 100_000)
@example("1+" * 140 + "1")
@example("٣ + ٤")
@example("x.__class__")
@example("\\frac{1}{")
@example("\x00")
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, the parser returns a tree or raises its own error, quickly."""
    began = time.process_time()
    with contextlib.suppress(ParseError):
        check_size(parse(text))
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("3x + 11 = 14", "3x + 11 = 14"),
        ("-x^2", "-(x^2)"),
        ("2^3^2", "2^(3^2)"),
        ("2^-3x", "(2^(-3))*x"),
        ("a - b - c", "(a - b) - c"),
        ("6/2(1+2)", "(6/2)*(1+2)"),
        ("2x!", "2*(x!)"),
        ("x(x+1)", "x*(x+1)"),
        ("3xy", "3*x*y"),
        ("sin 2x + 1", "sin(2x) + 1"),
        ("sin x cos x", "sin(x)*cos(x)"),
        ("sin^2(x)", "(sin(x))^2"),
        ("sin^{-1} x", "asin(x)"),
        ("log_2(8)", "log(8, 2)"),
        ("log10 5", "log(5, 10)"),
        ("ln x", "log(x)"),
        ("|x - 3| + |y|", "abs(x-3) + abs(y)"),
        ("x² + x³", "x^2 + x^3"),
        ("x⁻¹", "x^(-1)"),
        ("√2 × √8 ÷ 2", "sqrt(2)*sqrt(8)/2"),
        ("3½ − ¼", "(3+1/2) - 1/4"),
        ("2π", "2*pi"),
        ("sin(60°)", "sin(60 pi/180)"),
        ("1,000 + 2,500.5", "1000 + 2500.5"),
        ("gcd(12,345)", "gcd(12, 345)"),
        (r"\frac{1}{2} \cdot \sqrt[3]{8}", "(1/2)*root(8, 3)"),
        (r"\left(x + 1\right)^{10}", "(x+1)^10"),
        ("4*x**2", "4x^2"),
        ("Abs(-3) + arctan(1)", "abs(-3) + atan(1)"),
    ],
)
def test_usual_spellings_are_understood(text: str, meaning: str) -> None:
    """Precedence, implicit products, Unicode, LaTeX and code spell the formulas that people mean by them."""
    assert parse(text) == parse(meaning)


@pytest.mark.parametrize(
    "text",
    ["", "2 3", "x 2", "2 +", "* 2", "(1", "1)", "(1]", "f(x)", "sin", "a = b = c", "cat", "hello", "3!!", "1.2.3",
     "x_1", "E + 1", "x < 3", "2 % 3", "gcd(4)", "sin(1, 2)", r"\input{x}", "sin^n(x)"],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text: str) -> None:
    """Half formulas, words and ambiguous notations are refused rather than guessed at."""
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["9^9^9^9", "10**10**10", "1000000!", "2^100000", "(x+1)^10001", "1000!",
     "2^(1/0.0000001)", "(450!)!", "9999999^999", "(10^900)^(10^900)", "*".join(["9^900"] * 20)],
)  # fmt: skip
def test_results_too_large_to_bear_are_refused_unworked(text: str) -> None:
    """A power or factorial beyond all bounds costs no computation, only a sentence that names it."""
    with pytest.raises(TooLargeError):
        check_size(parse(text))


@pytest.mark.parametrize(
    "text", ["450!", "2^1000", "1.05^30", "(1/2)^10", "2^3.14159", "x^100", "(x+1)^20", "e^100"]
)
def test_results_of_bearable_size_pass(text: str) -> None:
    """What a pupil would ask is within the limits."""
    check_size(parse(text))


def test_the_length_limit_is_named() -> None:
    """A formula that is too long is told the limit."""
    with pytest.raises(ParseError, match=str(MAX_FORMULA_CHARS)):
        parse("1+" * MAX_FORMULA_CHARS)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60))
def test_nesting_is_read_up_to_its_limit(depth: int) -> None:
    """Brackets nest up to a limit that Python's own stack never reaches."""
    text = "(" * depth + "1" + ")" * depth
    if depth < 50:
        assert parse(text) == Node("number", "1")
    else:
        with pytest.raises(ParseError, match="nested"):
            parse(text)
