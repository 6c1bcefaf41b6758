"""Formula marks in prose (`...`, $...$), and calculus notation (∫, lim, d/dx, Σ), which becomes words."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A marked formula is replaced by one of these characters, so that no prose rule reads its inside.
FIRST_PLACEHOLDER = 0xE000
MAX_MARKED = 16

_MARKED = re.compile(
    r"```(?:python|math|latex)?\s*(?P<fence>[^`]+?)\s*```|`(?P<tick>[^`\n]+)`|\$\$(?P<display>[^$]+)\$\$"
    r"|\$(?P<dollar>[^\s$](?:[^$\n]*[^\s$])?)\$|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]",
    re.DOTALL,
)
_LIMIT_POINT = r"([a-z])\s*(?:->|→|\\to\b|\\rightarrow\b)\s*"
_BOUNDS = r"_\s*(?:\{([^{}]*)\}|(-?[\w∞]+))\s*\^\s*(?:\{([^{}]*)\}|(-?[\w∞]+))"
_CALCULUS = (
    (re.compile(rf"(?:∫|\\int)\s*{_BOUNDS}"), r" integrate from \1\2 to \3\4 ; "),
    (re.compile(r"∫|\\int(?![a-z])"), " integrate "),
    (re.compile(rf"\\lim\s*_\s*\{{\s*{_LIMIT_POINT}([^{{}}]+)\}}"), r" limit as \1 approaches \2 ; "),
    (
        re.compile(rf"\\?\blim(?:it)?[\s_(]*{_LIMIT_POINT}([^\s(){{}},]+)\)?(?:\s+of\b)?"),
        r" limit as \1 approaches \2 ; ",
    ),
    (re.compile(rf"(?:∑|Σ|\\sum)\s*{_BOUNDS}"), r" sum from \1\2 to \3\4 ; "),
    (re.compile(r"\\frac\s*\{d\}\s*\{d([a-z])\}|\bd/d([a-z])\b"), r" derivative wrt \1\2 ; "),
)
_ARROW = re.compile(r"->|→")
_CODE_CALL = re.compile(r"\b(?:solve|diff|integrate|limit|factor|expand|simplify|summation|Eq)\(")


@dataclass(frozen=True, slots=True)
class Prose:
    """The question with a placeholder for each marked formula, and those formulas in order."""

    text: str
    marked: tuple[str, ...]

    def formula(self, placeholder: str) -> str:
        return self.marked[ord(placeholder) - FIRST_PLACEHOLDER]

    def is_placeholder(self, character: str) -> bool:
        return 0 <= ord(character[0]) - FIRST_PLACEHOLDER < len(self.marked)


def extract_formulas(question: str) -> Prose:
    """The question's prose; marked calculus such as `∫ 2x dx` is put into words in its place."""
    marked: list[str] = []

    def replace(found: re.Match[str]) -> str:
        content = str(found[str(found.lastgroup)]).strip()
        if _worded(content) != content or _CODE_CALL.match(content) or len(marked) == MAX_MARKED:
            return f" {content} "
        marked.append(content)
        return chr(FIRST_PLACEHOLDER + len(marked) - 1)

    text = _MARKED.sub(replace, question)
    return Prose(_worded(text), tuple(marked))


def _worded(text: str) -> str:
    for pattern, words in _CALCULUS:
        text = pattern.sub(words, text)
    return _ARROW.sub(" approaches ", text)
