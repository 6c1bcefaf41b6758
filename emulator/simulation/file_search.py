"""File search: rank passages by BM25 against the question, and cite them in an answer."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from askmill.emulator.protocol.routing import Json

# OpenAI's chunks are 800 tokens with 400 overlap; a paragraph reads better as an answer here.
PASSAGE_CHARS = 800
K1 = 1.2
B = 0.75
# fmt: off
_TEXTS = frozenset({
    ".c", ".cpp", ".cs", ".css", ".go", ".html", ".java", ".js", ".json", ".md", ".php", ".py", ".rb", ".sh",
    ".tex", ".ts", ".txt",
})
# fmt: on
_MAGIC = {".pdf": b"%PDF", ".docx": b"PK", ".pptx": b"PK", ".doc": b""}
_ENCODINGS = ("utf-8", "utf-16")
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "i",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "this",
        "to",
        "was",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "you",
    ]
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a file. `score` is between 0 and 1."""

    file_id: str
    filename: str
    text: str
    score: float = 0.0


def split_passages(file_id: str, filename: str, text: str) -> list[Passage]:
    """Paragraphs, long ones in pieces."""
    paragraphs = (paragraph.strip() for paragraph in re.split(r"\n\s*\n", text))
    return [
        Passage(file_id, filename, paragraph[start : start + PASSAGE_CHARS])
        for paragraph in paragraphs
        for start in range(0, len(paragraph), PASSAGE_CHARS)
    ]


def find_passages(question: str, passages: list[Passage], most: int = 20) -> tuple[Passage, ...]:
    """The passages that share a word with the question, best first."""
    query_words = set(_words(question)) - _COMMON
    bags = [Counter(_words(passage.text)) for passage in passages]
    if not query_words or not bags:
        return ()
    mean = sum(bag.total() for bag in bags) / len(bags) or 1.0
    rarity = {word: _rarity(word, bags) for word in query_words}
    scored = [(_score(bag, rarity, mean), passage) for bag, passage in zip(bags, passages, strict=True)]
    best = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])[:most]
    return tuple(Passage(p.file_id, p.filename, p.text, score / (score + 1)) for score, p in best)


def _score(bag: Counter[str], rarity: dict[str, float], mean: float) -> float:
    length = K1 * (1 - B + B * bag.total() / mean)
    return sum(
        weight * bag[word] * (K1 + 1) / (bag[word] + length) for word, weight in rarity.items() if bag[word]
    )


def _rarity(word: str, bags: list[Counter[str]]) -> float:
    holding = sum(1 for bag in bags if word in bag)
    return math.log(1 + (len(bags) - holding + 0.5) / (holding + 0.5))


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def unreadable(filename: str, content: bytes) -> dict[str, str] | None:
    """`last_error` of a file that a vector store cannot index; None where it can (file search guide)."""
    suffix = PurePosixPath(filename).suffix.lower()
    if suffix not in _TEXTS and suffix not in _MAGIC:
        return {"code": "unsupported_file", "message": "The file type is not supported."}
    sound = _is_text(content) if suffix in _TEXTS else content.startswith(_MAGIC[suffix])
    invalid = {"code": "invalid_file", "message": "The file could not be parsed because it is not valid."}
    return None if sound else invalid


def _is_text(content: bytes) -> bool:
    for encoding in _ENCODINGS:
        with suppress(UnicodeDecodeError):
            return bool(content.decode(encoding).strip())
    return False


# --- citations: once behind the answer's end, or, for tests, in several places (dense):
# Grüße, 🐇[a]![b] THE ANSWER[a][b]     multi-byte letters, two sources, repeated, side by side ---

GREETING = "Grüße, 🐇"
Positions = list[tuple[int, Passage]]


def cited_positions(text: str, passages: Sequence[Passage], *, often: bool) -> tuple[str, Positions]:
    """The text, and the passages cited at places of it that count characters."""
    first = passages[0]
    if not often:
        return text, [(len(text), first)]
    other = next((passage for passage in passages if passage.file_id != first.file_id), first)
    greeted, at = f"{GREETING}! {text}", len(GREETING)
    return greeted, [(at, first), (at + 1, other), (len(greeted), first), (len(greeted), other)]


def add_markers(text: str, places: Positions) -> tuple[str, list[Json]]:
    """The text with the Assistants API's markers, and their annotations.

    Of two side by side, a third annotation spans both: spans that overlap.
    """
    written, at, annotations = "", 0, list[Json]()
    files = list(dict.fromkeys(passage.file_id for _, passage in places))
    for place, passage in places:
        written, at = written + text[at:place], place
        marker = f"【4:{files.index(passage.file_id)}†{passage.filename}】"
        annotations.append(_annotation(marker, len(written), passage))
        written += marker
    if len(places) > 1 and places[-1][0] == places[-2][0]:
        both = annotations[-2]["text"] + annotations[-1]["text"]
        annotations.append(_annotation(both, len(written) - len(both), places[-1][1]))
    return written + text[at:], annotations


def _annotation(marker: str, start: int, passage: Passage) -> Json:
    return {
        "type": "file_citation",
        "text": marker,
        "start_index": start,
        "end_index": start + len(marker),
        "file_citation": {"file_id": passage.file_id},
    }
