"""A question's shape: its keywords in order, with an F wherever a formula stands.

    Integrate 2x from 0 to 3          INTEGRATE F FROM F TO F      2x | 0 | 3
    Please, what is 15% of 80?        F PERCENT OF F               15 | 80

A word that the vocabulary does not have ends the reading at once; so word problems cost microseconds and
nothing is ever computed from a part of one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from askmill.emulator.tutor.parse import vocabulary as words
from askmill.emulator.tutor.parse.latex import Prose, extract_formulas
from askmill.emulator.tutor.parse.lexer import CONSTANTS, FUNCTION_ALIASES, FUNCTIONS, to_ascii, word_set

MAX_QUESTION_CHARS = 2000
CODE_COMMANDS = word_set("solve diff integrate limit factor expand simplify summation")

# Dropped before the first formula and after the last, where they only join courtesies.
_CONNECTORS = frozenset({"OF", "TO", "AND", "FOR", "AS", "AT", "BY", "IF"})
# Names that are functions before a bracket, and keywords in prose.
_WORDY_FUNCTIONS = word_set("gcd lcm GCD LCM factorial mod min max root")
_NAMES = (FUNCTIONS | FUNCTION_ALIASES.keys() | CONSTANTS.keys()) - {"e", "i", "I"}

_LIST_NUMBER = re.compile(r"^\s*(?:[Qq]?\d{1,3}[.):]\s+)(?=[A-Za-z])")
_COMPOUND = re.compile(
    r"\b(twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)[- ]"
    r"(one|two|three|four|five|six|seven|eight|nine)\b",
    re.IGNORECASE,
)
_PIECE = re.compile(
    r"(?P<space>\s+)|(?P<latex>\\[A-Za-z]+|\\[,;! ])|(?P<word>[A-Za-z]+(?:['\u2019][A-Za-z]+)?)"
    r"|(?P<number>[0-9]+(?:,[0-9]{3}(?![0-9]))*(?:\.[0-9]+)?|\.[0-9]+)|(?P<sign>\*\*|[-+*/^=|_(){}\[\]])|(?P<other>.)"
)
_BREAKS = frozenset('.?,;:"“”—')


class NoShapeError(Exception):
    """The question has a word or character that the tutor does not read."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`words` such as `SOLVE F FOR F`, the text of each F, and whether the asker marked a formula."""

    words: str
    formulas: tuple[str, ...]
    is_marked: bool


def read_shape(question: str) -> Shape:
    """The shape of a question.

    Raises:
        NoShapeError: a word or character in it is not the tutor's.
    """
    if len(question) > MAX_QUESTION_CHARS:
        raise NoShapeError
    prose = extract_formulas(_LIST_NUMBER.sub("", question))
    builder = _Builder(prose)
    builder.read(_with_digits(words.PHRASE.sub(_joined, prose_to_ascii(prose.text))))
    return Shape(" ".join(builder.trimmed()), tuple(builder.formulas), bool(prose.marked))


def prose_to_ascii(text: str) -> str:
    """Like `to_ascii`, line breaks kept: in prose they end a formula."""
    return "\n".join(to_ascii(line) for line in text.splitlines())


def _joined(phrase: re.Match[str]) -> str:
    """A phrase becomes one word, so that the pieces see it whole."""
    return re.sub(r"\W+", "QQ", phrase[0].lower())


def _with_digits(text: str) -> str:
    def digits(found: re.Match[str]) -> str:
        tens, ones = (int(words.NUMBER_WORDS[word.lower()]) for word in found.groups())
        return str(tens + ones)

    return _COMPOUND.sub(digits, text)


@dataclass(slots=True)
class _Builder:
    """Reads pieces left to right; `_chunk` is the formula being gathered."""

    prose: Prose
    shape: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    _chunk: str = ""
    _open_brackets: int = 0
    _after_break: bool = True

    def read(self, text: str) -> None:
        position = 0
        while position < len(text):
            found = _PIECE.match(text, position)
            if found is None:
                raise NoShapeError
            position = self._advance(found, text)
        self._end_formula()

    def _advance(self, found: re.Match[str], text: str) -> int:
        """Take one piece in; the position after it."""
        piece = found[0]
        match found.lastgroup:
            case "space":
                self._space(piece)
            case "word":
                return self._word(piece, text, found.end())
            case "sign":
                self._sign(piece, text, found.end())
            case "other":
                self._other(piece)
            case _:
                self._chunk += piece
        return found.end()

    def _space(self, piece: str) -> None:
        if "\n" in piece:
            self._break()
        elif self._chunk:
            self._chunk += " "

    def _sign(self, piece: str, text: str, end: int) -> None:
        # "Solve this - 3x = 4": a dash or a minus? Nobody knows, so it is left alone.
        if piece == "-" and not self._chunk and self.shape and text[end : end + 1] == " ":
            raise NoShapeError
        self._open_brackets += (piece in "([{") - (piece in ")]}")
        self._chunk += piece

    def _other(self, piece: str) -> None:
        if self.prose.is_placeholder(piece):
            self._end_formula()
            self._chunk = self.prose.formula(piece)
            self._end_formula()
        elif piece == "%":
            self._keyword("PERCENT")
        elif piece == "!":
            if self._chunk and not self._chunk.endswith(" "):
                self._chunk += piece
            else:
                self._break()
        elif piece == "," and self._open_brackets > 0:
            self._chunk += piece
        elif piece in _BREAKS:
            self._break()
        else:
            raise NoShapeError

    def _word(self, word: str, text: str, end: int) -> int:
        following = text[end : end + 30]
        lower = word.lower().replace("qq", " ").replace("\u2019", "'")
        if word in CODE_COMMANDS and following.startswith("("):
            return self._code_call(text, end - len(word))
        if self._is_formula_word(word, following):
            self._chunk += word
        elif lower in words.OPERATORS:
            self._chunk += f" {words.OPERATORS[lower]} "
        elif lower in words.NUMBER_WORDS:
            self._chunk += words.NUMBER_WORDS[lower]
        elif lower in words.KEYWORDS:
            self._keyword(words.KEYWORDS[lower])
        elif lower in words.NEUTRAL or lower in words.EMPTY_PHRASES:
            self._end_formula()
        elif lower in words.EDGE:
            self._edge(lower)
        elif len(word) <= 3 and word.islower():
            self._chunk += word  # `xy`; the lexer refuses what is no product of letters
        else:
            raise NoShapeError
        return end

    def _is_formula_word(self, word: str, following: str) -> bool:
        if word in _NAMES and (word not in _WORDY_FUNCTIONS or following.startswith("(")):
            return True
        return len(word) == 1 and not self._is_english(word, following)

    def _is_english(self, letter: str, following: str) -> bool:
        """Whether a single letter is the article or the person, as in "I need a solution"."""
        found = re.match(r"\s([A-Za-z]+)", following)
        if found is None or self._chunk.strip():
            return letter in "aI" and following[1:2] != "" and self.prose.is_placeholder(following[1])
        after = found[1].lower().partition("qq")[0]
        return (letter in "aA" and after in words.AFTER_ARTICLE) or (
            letter == "I" and (after in words.EDGE or after in words.KEYWORDS)
        )

    def _code_call(self, text: str, start: int) -> int:
        """Take a call such as `solve(x - 1, x)` whole; the position after its bracket."""
        depth = 0
        for position in range(start, len(text)):
            depth += (text[position] == "(") - (text[position] == ")")
            if depth == 0 and text[position] == ")":
                self._end_formula()
                self.formulas.append(text[start : position + 1])
                self._add("CALL")
                return position + 1
        raise NoShapeError

    def _keyword(self, keyword: str) -> None:
        self._end_formula()
        if keyword != "DECIMAL":
            self._add(keyword)

    def _edge(self, word: str) -> None:
        self._end_formula()
        if not self._after_break:
            self._add("IS" if word in {"is", "are"} else "X")

    def _break(self) -> None:
        self._end_formula()
        self._after_break = True

    def _end_formula(self) -> None:
        text = self._chunk.strip()
        self._chunk, self._open_brackets = "", 0
        if text:
            self.formulas.append(text)
            self._add("F")

    def _add(self, word: str) -> None:
        if word in _CONNECTORS and not self.shape:
            return
        self.shape.append(word)
        self._after_break = self._after_break and word not in {"F", "CALL"}

    def trimmed(self) -> list[str]:
        """The shape without what follows the last formula only to be polite: "and show me"."""
        end = len(self.shape)
        while end and self.shape[end - 1] in _CONNECTORS | {"IS", "X"}:
            end -= 1
        return self.shape[:end]
