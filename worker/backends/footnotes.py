"""Annotations become footnotes: the API's markers go, `[1]` stands in their place, `[1] filename` at the end.

    text     Alice was beginning【4:0†alice.txt】 to get very tired【4:1†alice.txt】.
    marks    (19, 33, "【4:0†alice.txt】") → file-1      (52, 66, "【4:1†alice.txt】") → file-1
    out      Alice was beginning[1] to get very tired[1].        footnote: [1] alice.txt

Positions are said to count characters, and servers in the wild count UTF-16 units or bytes: a position is
believed only where the marked text really stands there; else the nearest such text is taken.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

MARKER = re.compile(r"[ ]?【\d+(?::\d+)?†[^】]*】")
"""What file_search writes into the text. Some arrive with no annotation at all: nobody can follow those."""


@dataclass(frozen=True)
class Source:
    """What a citation points to: a file, or a page of the web."""

    file_id: str | None = None
    name: str | None = None
    url: str | None = None
    quote: str | None = None

    @property
    def key(self) -> str:
        """Equal for the same source, which is numbered once."""
        return self.file_id or self.url or self.name or ""


@dataclass(frozen=True)
class Mark:
    """One annotation: the span of a text, and the source cited there or the name that replaces it.

    `start` and `end` are as the API says and may be wrong; `text` is what it says stands there, "" when it
    does not say. `name` is set for a generated file, whose path in the sandbox means nothing to a reader.
    """

    start: int | None
    end: int | None
    text: str = ""
    source: Source | None = None
    name: str | None = None


@dataclass
class Footnotes:
    """Numbers the sources of one answer, message after message. `shown` False: take the markers out only."""

    shown: bool = True
    sources: list[Source] = field(default_factory=list)

    def put_in(self, text: str, marks: Sequence[Mark]) -> str:
        """The text with every mark replaced; one whose place cannot be found is only listed at the end."""
        spans: list[tuple[int, int, list[str]]] = []
        for mark, place in _placed(text, marks):
            word = self._word(mark)
            if place is not None:
                _add(spans, place, word)
        for start, end, words in reversed(spans):
            text = text[:start] + "".join(dict.fromkeys(words)) + text[end:]
        return MARKER.sub("", text)

    def listing(self) -> str:
        """The footnotes, one a line; empty when nothing is cited or shown."""
        shown = self.sources if self.shown else ()
        return "\n".join(_line(number, source) for number, source in enumerate(shown, 1))

    def citations(self) -> tuple[dict[str, Any], ...]:
        """What is cited, as data: {"index", "file_id"?, "filename"?, "url"?, "quote"?}."""
        return tuple(_citation(index, source) for index, source in enumerate(self.sources, 1))

    def _word(self, mark: Mark) -> str:
        if mark.source is None:
            return mark.name or ""
        number = self._number(mark.source)
        return f"[{number}]" if self.shown else ""

    def _number(self, source: Source) -> int:
        for number, known in enumerate(self.sources, 1):
            if known.key == source.key:
                return number
        self.sources.append(source)
        return len(self.sources)


def _line(number: int, source: Source) -> str:
    words = [word for word in (source.name or source.file_id, source.url) if word]
    return f"[{number}] {' '.join(words)}"


def _citation(index: int, source: Source) -> dict[str, Any]:
    said = {"file_id": source.file_id, "filename": source.name, "url": source.url, "quote": source.quote}
    if source.url is not None:
        said["title"] = said.pop("filename")
    return {"index": index, **{name: value for name, value in said.items() if value is not None}}


Place = tuple[int, int]


def _placed(text: str, marks: Sequence[Mark]) -> Iterable[tuple[Mark, Place | None]]:
    """Each mark with its place, in order of the text; where a marker is repeated, the repetitions too."""
    found: list[tuple[Mark, Place | None]] = []
    taken: set[Place] = set()
    for mark in marks:
        place = _place(text, mark, taken)
        if place is not None and mark.text:
            taken.add(place)
        found.append((mark, place))
    for mark in marks:
        if MARKER.fullmatch(mark.text):
            found += [(mark, place) for place in _all_places(text, mark.text) if place not in taken]
            taken.update(_all_places(text, mark.text))
    return sorted(found, key=lambda pair: pair[1] or (len(text), len(text)))


def _place(text: str, mark: Mark, taken: set[Place]) -> Place | None:
    start, end = mark.start, mark.end
    if not mark.text:
        told = start is not None and end is not None and 0 <= start <= end <= len(text)
        return (start, end) if told else None  # type: ignore[return-value] # both are known where told
    if start is not None and start >= 0 and text.startswith(mark.text, start):
        return start, start + len(mark.text)
    places = _all_places(text, mark.text)
    free = [place for place in places if place not in taken] or places
    return min(free, key=lambda place: abs(place[0] - (start or 0)), default=None)


def _all_places(text: str, part: str) -> list[Place]:
    return [(found.start(), found.end()) for found in re.finditer(re.escape(part), text)]


def _add(spans: list[tuple[int, int, list[str]]], place: Place, word: str) -> None:
    """Add a span behind the others; one that overlaps its neighbour is joined to it: no text is cut twice."""
    start, end = place
    if spans:
        last_start, last_end, words = spans[-1]
        if start < last_end or (start, end) == (last_start, last_end):
            spans[-1] = (last_start, max(last_end, end), [*words, word])
            return
    spans.append((start, end, [word]))
