"""The vocabulary of questions. A question with any other word is not parsed.

This rule excludes word problems: "Janet's ducks lay 16 eggs" has unknown words, so nothing
is computed from the 16.

    keyword    names a computation or a part of one; it becomes a word of the question's shape
    neutral    means nothing wherever it stands: "the", "equation"
    edge       means nothing before the first formula and after the last: "please", "can you help me"
    operator   becomes a sign: "plus"
"""

from __future__ import annotations

import re

from askmill.emulator.tutor.parse.lexer import word_set


def _phrases(table: dict[str, str]) -> dict[str, str]:
    return {phrase: meaning for meaning, phrases in table.items() for phrase in phrases.split(", ")}


KEYWORDS = _phrases(
    {
        "SOLVE": "solve, solving, solves",
        "ROOTS": "solution, solutions, roots, root, zeros, zeroes",
        "SIMPLIFY": "simplify, simplified, simplification, simplest",
        "EXPAND": "expand, expanded, expansion, multiply out",
        "FACTOR": "factor, factors, factorise, factorize, factored, factorisation, factorization, factoring, "
        "prime factors, prime factorization, prime factorisation",
        "DERIVE": "derivative, differentiate, derive, differentiation",
        "INTEGRATE": "integrate, integral, antiderivative, definite integral, indefinite integral",
        "LIMIT": "limit, lim",
        "SUM": "sum",
        "ADD": "add",
        "SUBTRACT": "subtract",
        "PRODUCT": "product, multiply",
        "DIFFERENCE": "difference",
        "QUOTIENT": "quotient, divide",
        "MOD": "modulo, mod",
        "INCREASE": "increase, increased",
        "DECREASE": "decrease, decreased",
        "SQRT": "square root, square roots",
        "CBRT": "cube root",
        "FACTORIAL": "factorial",
        "GCD": "greatest common divisor, greatest common factor, highest common factor, gcd, gcf, hcf",
        "LCM": "least common multiple, lowest common multiple, lcm",
        "ABS": "absolute value",
        "WHATPERCENT": "what percent, what percentage",
        "PERCENT": "percent, per cent",
        "SECOND": "second, 2nd",
        "THIRD": "third, 3rd",
        "FIRST": "first, 1st",
        "NUMBERS": "natural numbers, positive integers, integers, whole numbers, numbers, counting numbers",
        "WRT": "with respect to, wrt",
        "APPROACHES": "approaches, goes to, tends to, approaching",
        "RIGHT": "from the right, from above",
        "LEFT": "from the left, from below",
        "FRACTION": "as a fraction",
        "DECIMAL": "as a decimal, numerically, approximately, approximate, in decimal form, decimal",
        "PLACES": "decimal places, decimals",
        "OF": "of",
        "FROM": "from, between",
        "TO": "to, through",
        "AND": "and",
        "FOR": "for",
        "AS": "as",
        "AT": "at",
        "BY": "by",
        "IF": "if, when, where, given that, given, such that, for which, in",
    }
)

OPERATORS = {
    "plus": "+",
    "minus": "-",
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "over": "/",
    "to the power of": "^",
    "raised to the power of": "^",
    "squared": "^2",
    "cubed": "^3",
    "equals": "=",
    "equal to": "=",
    "is equal to": "=",
}

NEUTRAL = word_set(
    "the a an following equation equations expression expressions function polynomial formula term "
    "number value values exact simultaneous linear quadratic cubic system variable fraction exactly "
    "all this these"
)

EDGE = word_set(
    "what whats what's is are can could would will u your we us i i'd i'm me my mine it its let let's "
    "lets please pls kindly help need want like have got trying try struggling do does did how much "
    "calculate compute computing calculating evaluate evaluating determine find finding figure out work "
    "working get give tell show explain hi hello hey dear tutor thanks thank cheers homework question "
    "problem exercise math maths mathematics step steps detail details detailed answer answers result "
    "with be equal equals that just using know understand then also here so now ok okay on up way "
    "method good morning sir too asap there some any am stuck assistance again you"
)

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {
    **{word: str(value) for value, word in enumerate(f"{_ONES} seventeen eighteen nineteen".split())},
    **{word: str(10 * value) for value, word in enumerate(_TENS.split(), 1)},
}

# "a" before one of these is the article; anywhere else it is a letter.
AFTER_ARTICLE = NEUTRAL | word_set(
    "solution root derivative integral limit sum product difference decimal square question problem exercise "
    "homework math maths step good method way tutor"
)

# Phrases without a meaning that would otherwise be cut into words that have one.
EMPTY_PHRASES = (
    "step by step",
    "in advance",
    "this one",
    "two equations",
    "two unknowns",
    "by factoring",
    "by completing the square",
    "using the quadratic formula",
    "with the quadratic formula",
)

_LONGEST_FIRST = sorted(
    [*(phrase for phrase in KEYWORDS if " " in phrase), *(p for p in OPERATORS if " " in p), *EMPTY_PHRASES],
    key=len,
    reverse=True,
)
PHRASE = re.compile(
    r"\b(?:" + "|".join(re.escape(phrase) for phrase in _LONGEST_FIRST) + r")\b", re.IGNORECASE
)
