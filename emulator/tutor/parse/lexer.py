# ruff: noqa: RUF001 (look-alike characters are this file's business)
"""Lexer: formula text to tokens; Unicode and LaTeX spellings become ASCII."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_FORMULA_CHARS = 1000
MAX_TOKENS = 300


class ParseError(ValueError):
    """The text is not a formula that the tutor can parse; the message tells the user why."""


class TooLargeError(ParseError):
    """The formula was read, but its result would be too large to compute here."""


def word_set(text: str) -> frozenset[str]:
    """Split a text into a set of words."""
    return frozenset(text.split())


FUNCTIONS = word_set(
    "sin cos tan cot sec csc asin acos atan sinh cosh tanh exp log ln sqrt cbrt root abs factorial gcd lcm "
    "floor ceil min max mod"
)
# Other spellings of the same.
FUNCTION_ALIASES = {
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "Abs": "abs",
    "GCD": "gcd",
    "LCM": "lcm",
    "ceiling": "ceil",
    "Min": "min",
    "Max": "max",
    "Mod": "mod",
    "lg": "log10",
    "log10": "log10",
    "log2": "log2",
}
CONSTANTS = {"pi": "pi", "e": "e", "i": "i", "I": "i", "oo": "oo", "inf": "oo", "infinity": "oo"}

# Letters that stand side by side as a product (`xy`, `abc`); a word made of them is still a word.
_PRODUCT_LETTERS = frozenset("abckmnpqrstuvwxyz")
_ENGLISH = word_set("an as at by my am us can cat man any but buy was way say per cm km mm kg ms sum")

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾", "0123456789+-nx()")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ⁽⁾]+")
_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8", "⅜": "3/8"}
_VULGAR_RUN = re.compile(rf"(?:(?<![\w.)])([0-9]+)\s?)?([{''.join(_VULGAR)}])")
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:°|degrees?\b)")
_SPELLINGS = str.maketrans(
    {
        "×": "*",
        "·": "*",
        "⋅": "*",
        "∗": "*",
        "÷": "/",
        "∕": "/",
        "⁄": "/",
        "−": "-",
        "–": "-",
        "π": " pi ",
        "∞": " oo ",
        "√": " sqrt ",
        "∛": " cbrt ",
        "\u00a0": " ",
        "\u202f": " ",
        "\u2009": " ",
        "\n": " ",
        "\t": " ",
    }
)
_LATEX = {
    "cdot": "*",
    "times": "*",
    "ast": "*",
    "div": "/",
    "left": "",
    "right": "",
    "pi": "pi",
    "infty": "oo",
    "lvert": "|",
    "rvert": "|",
    "operatorname": "",
}

_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(?P<name>log(?:10|2)(?=\s*\(|\s+\w)|[A-Za-z]+)"
    r"|\\(?P<latex>[A-Za-z]+|[,;!: ])|(?P<operator>\*\*|[-+*/^!=|_,(){}\[\]])|(?P<space> +)"
)
_THOUSANDS = re.compile(r"(?<![\w.,])([0-9]{1,3}(?:,[0-9]{3})+)(?![\w,])")


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is `number`, `variable`, `constant`, `function`, `latex`, `operator` or `end`."""

    kind: str
    text: str


def to_ascii(text: str) -> str:
    """The text with mathematical Unicode spelled in ASCII: `x²` becomes `x^(2)`, `½` becomes `(1/2)`."""
    text = _DEGREES.sub(r"(\1 pi/180)", text)
    text = _VULGAR_RUN.sub(lambda m: f"({m[1]}+{_VULGAR[m[2]]})" if m[1] else f"({_VULGAR[m[2]]})", text)
    text = _SUPERSCRIPT_RUN.sub(lambda m: f"^({m[0].translate(_SUPERSCRIPTS)})", text)
    return text.translate(_SPELLINGS)


def tokenize(text: str) -> list[Token]:
    """The formula's tokens, an `end` last.

    Raises:
        ParseError: a character or word that no formula has, or too much of it.
    """
    if len(text) > MAX_FORMULA_CHARS:
        raise ParseError(f"the formula is longer than {MAX_FORMULA_CHARS} characters")
    text = _without_thousands(to_ascii(text))
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ParseError(f"I do not know the character {text[position]!r} in a formula")
        tokens.extend(_tokens_of_match(found))
        position = found.end()
        if len(tokens) > MAX_TOKENS:
            raise ParseError(f"the formula has more than {MAX_TOKENS} parts")
    return [*tokens, Token("end", "the end")]


def _without_thousands(text: str) -> str:
    """`1,000 + 2,500` loses its commas; a function's arguments, `gcd(12,345)`, keep theirs."""
    if re.search(r"[A-Za-z]\s*\(", text):
        return text
    return _THOUSANDS.sub(lambda found: found[1].replace(",", ""), text)


def _tokens_of_match(found: re.Match[str]) -> list[Token]:
    kind, text = str(found.lastgroup), str(found[str(found.lastgroup)])
    if kind == "space":
        return []
    if kind == "name":
        return _tokens_of_name(text)
    if kind == "latex":
        return _tokens_of_latex(text)
    if kind == "number" and text.startswith("."):
        text = "0" + text
    return [Token(kind, "^" if text == "**" else text)]


def _tokens_of_latex(word: str) -> list[Token]:
    if not word.isalpha():
        return []
    if word in {"frac", "dfrac", "tfrac"}:
        return [Token("latex", "frac")]
    if word in _LATEX:
        plain_text = _LATEX[word]
        if plain_text.isalpha():
            return [Token("constant", plain_text)]
        return [Token("operator", plain_text)] if plain_text else []
    if word in FUNCTIONS or word in FUNCTION_ALIASES:
        return [Token("function", FUNCTION_ALIASES.get(word, word))]
    raise ParseError(f"I do not know the LaTeX command \\{word}")


def _tokens_of_name(word: str) -> list[Token]:
    token = _named_token(word)
    if token:
        return [token]
    if len(word) == 1:
        return [_variable(word)]
    # `sinx` and `2pix` are written often enough; anything longer after the name is a word, not a formula.
    head = _named_token(word[:-1])
    if head and len(word) > 2:
        return [head, *_tokens_of_name(word[-1])]
    if len(word) <= 3 and set(word) <= _PRODUCT_LETTERS and word not in _ENGLISH:
        return [Token("variable", letter) for letter in word]
    raise ParseError(f"I do not know the name {word!r} in a formula")


def _named_token(word: str) -> Token | None:
    if word in CONSTANTS:
        return Token("constant", CONSTANTS[word])
    name = FUNCTION_ALIASES.get(word, word)
    return Token("function", name) if name in FUNCTIONS or word in FUNCTION_ALIASES else None


def _variable(letter: str) -> Token:
    if letter in "EIO":
        raise ParseError(f"the capital letter {letter} could be a constant; please use another letter")
    return Token("variable", letter)
