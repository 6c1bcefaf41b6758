"""Expected answers: whether an answer is the expected one, and the accuracy of many. Pure.

`--expected COLUMN` names the column with the expected answer, `--match` how the two are compared.
"""

import math
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from askmill.jobs.model.answer_fields import without_fence

Z_95 = 1.959963984540054
"""The normal distribution's quantile of 97.5 %."""
RELATIVE_TOLERANCE = 1e-9
_NUMBER = re.compile(
    r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?(?!\w)|(?<![\w.])-?\.\d+"
)


class Match(StrEnum):
    """How an answer is compared with the expected one."""

    EXACT = "exact"
    NUMBER = "number"
    CONTAINS = "contains"
    REGEX = "regex"
    JSON = "json"


@dataclass(frozen=True)
class Expectation:
    """The column with the expected answers, and a `Match` or `MODULE.py:FUNCTION`."""

    column: str
    match: str = Match.EXACT.value

    @property
    def function(self) -> tuple[str, str] | None:
        """The module and the function that compare; None for a `Match`."""
        module, colon, name = self.match.rpartition(":")
        return (module, name) if colon else None


@dataclass(frozen=True)
class Accuracy:
    """How many of the judged answers are the expected ones."""

    judged: int
    correct: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None where nothing was judged."""
        return self.correct / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share after Wilson (1927), from 0 to 1."""
        if not self.judged:
            return 0.0, 1.0
        n, p, z2 = self.judged, self.correct / self.judged, Z_95**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_json(self) -> dict[str, Any]:
        """Return `accuracy` of `status --json`."""
        low, high = self.interval
        return {"judged": self.judged, "correct": self.correct, "share": self.share, "low": low, "high": high}

    def share_text(self) -> str:
        """`93.1 %`; `unknown` where nothing was judged."""
        return "unknown" if self.share is None else f"{100 * self.share:.1f} %"

    def text(self) -> str:
        """`accuracy 93.1 % (95 %: 91.2 to 94.7 %), 1,200 judged`."""
        if self.share is None:
            return "accuracy unknown: no completed row has an expected answer"
        return f"accuracy {self.share_text()} ({self.interval_text()}), {self.judged:,} judged"

    def interval_text(self) -> str:
        """`95 %: 91.2 to 94.7 %`."""
        low, high = self.interval
        return f"95 %: {100 * low:.1f} to {100 * high:.1f} %"


def is_correct(match: Match, expected: str, answer: str) -> bool | None:
    """Whether the answer is the expected one; None where the expected text cannot be used so.

    - exact: the same text, apart from blanks around it.
    - number: the last number of each is the same.
    - contains: the answer contains the text, whatever the case and the blanks.
    - regex: the pattern is found in the answer.
    - json: the same JSON value, whatever the order of keys.
    """
    match match:
        case Match.EXACT:
            return expected.strip() == answer.strip()
        case Match.CONTAINS:
            return _folded(expected) in _folded(answer)
        case Match.NUMBER:
            return _same_number(last_number(expected), last_number(answer))
        case Match.REGEX:
            return _found(expected.strip(), answer)
        case Match.JSON:
            return _same_json(expected, answer)


def last_number(text: str) -> float | None:
    """The last number in a text, `1,234.5` too: a model explains first and answers last."""
    numbers = _NUMBER.findall(text.replace("\u2212", "-"))
    return float(numbers[-1].replace(",", "")) if numbers else None


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _same_number(expected: float | None, answer: float | None) -> bool | None:
    if expected is None:
        return None
    return answer is not None and math.isclose(expected, answer, rel_tol=RELATIVE_TOLERANCE)


def _found(pattern: str, answer: str) -> bool | None:
    try:
        return re.search(pattern, answer) is not None
    except re.error:
        return None


def _same_json(expected: str, answer: str) -> bool | None:
    try:
        wanted = orjson.loads(expected)
    except orjson.JSONDecodeError:
        return None
    try:
        return bool(wanted == orjson.loads(without_fence(answer)))
    except orjson.JSONDecodeError:
        return False
