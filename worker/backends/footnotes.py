"""Footnotes in place of the API's citation markers: `[1]` in the text, `[1] filename` at the end.

    text         Alice was beginning【4:0†alice.txt】 to get very tired【4:1†alice.txt】.
    annotations  (19, 33, "【4:0†alice.txt】") → file-1      (52, 66, "【4:1†alice.txt】") → file-1
    result       Alice was beginning[1] to get very tired[1].        footnote: [1] alice.txt

Positions should count characters, but some servers count UTF-16 units or bytes. A position counts only if the
annotated text is there; otherwise the nearest occurrence of that text is used.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

MARKER = re.compile(r"[ ]?(?:【[^【】\n]{0,40}†[^【】\n]{0,300}】|\ue200[^\ue200\ue201\n]{0,500}\ue201)")
"""What the search tools write into the text: `【4:0†source】`, and `filecite` and `cite` between private
characters. Some arrive without an annotation and are removed."""
CUT_MARKER = re.compile(r"[ ]?(?:【[\d:]*†[^【】\n]{0,300}|\ue200[\w\ue202,.:-]{0,300})\Z|[\ue200-\ue206]")
"""What is left of a marker at the end of a truncated answer."""

MARKER_CHARACTERS = 600
"""No marker is longer."""
MAX_OCCURRENCES = 1_000
"""Places of one annotated text that are considered."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Source:
    """The target of a citation: a file or a web page."""

    file_id: str | None = None
    name: str | None = None
    url: str | None = None
    quote: str | None = None

    @property
    def key(self) -> str:
        """The source's identity: each source has one number."""
        return self.file_id or self.url or self.name or ""


@dataclass(frozen=True)
class Annotation:
    """One annotation: a span of the text, and the source cited there or the name that replaces it.

    `start` and `end` are the API's and may be wrong. `text` is the annotated text according to the API, empty
    when it is not sent. `name` is set for a generated file and replaces its path in the sandbox.
    """

    start: int | None
    end: int | None
    text: str = ""
    source: Source | None = None
    name: str | None = None


@dataclass
class Footnotes:
    """Numbers the sources of one answer across its messages. `shown` False only removes the markers."""

    shown: bool = True
    sources: list[Source] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def insert(self, text: str, annotations: Sequence[Annotation]) -> str:
        """Replace every annotation in the text. One that cannot be located is only listed at the end."""
        replacements: list[tuple[int, int, list[str]]] = []
        for annotation, span in _located(text, annotations):
            replacement = self._replacement(annotation)
            if span is not None:
                _add_replacement(replacements, span, replacement)
        pieces, at = [], 0
        for start, end, parts in replacements:
            pieces += [text[at:start], *dict.fromkeys(parts)]
            at = end
        return without_markers("".join([*pieces, text[at:]]))

    def listing(self) -> str:
        """The list of footnotes, one a line; empty when nothing is cited or shown."""
        shown = self.sources if self.shown else ()
        return "\n".join(_footnote(number, source) for number, source in enumerate(shown, 1))

    def citations(self) -> tuple[dict[str, Any], ...]:
        """The cited sources as data: `{"index", "file_id"?, "filename"?, "url"?, "title"?, "quote"?}`."""
        return tuple(_citation(index, source) for index, source in enumerate(self.sources, 1))

    def _replacement(self, annotation: Annotation) -> str:
        if annotation.source is None:
            return annotation.name or ""
        number = self._number(annotation.source)
        return f"[{number}]" if self.shown else ""

    def _number(self, source: Source) -> int:
        if source.key not in self._numbers:
            self.sources.append(source)
            self._numbers[source.key] = len(self.sources)
        return self._numbers[source.key]


def without_markers(text: str) -> str:
    """The text without the markers of citations."""
    return CUT_MARKER.sub("", MARKER.sub("", text))


def _footnote(number: int, source: Source) -> str:
    parts = [part for part in (source.name or source.file_id, source.url) if part]
    return f"[{number}] {' '.join(parts)}"


def _citation(index: int, source: Source) -> dict[str, Any]:
    fields = {"file_id": source.file_id, "filename": source.name, "url": source.url, "quote": source.quote}
    if source.url is not None:
        fields["title"] = fields.pop("filename")
    return {"index": index, **{name: value for name, value in fields.items() if value is not None}}


def _located(text: str, annotations: Sequence[Annotation]) -> Iterable[tuple[Annotation, Span | None]]:
    """Each annotation with its span, in the order of the text; repeated markers are located each time."""
    located: list[tuple[Annotation, Span | None]] = []
    taken: set[Span] = set()
    for annotation in annotations:
        span = _locate(text, annotation, taken)
        if span is not None and annotation.text:
            taken.add(span)
        located.append((annotation, span))
    for annotation in annotations:
        if MARKER.fullmatch(annotation.text):
            spans = _occurrences(text, annotation.text)
            located += [(annotation, span) for span in spans if span not in taken]
            taken.update(spans)
    return sorted(located, key=lambda pair: pair[1] or (len(text), len(text)))


def _locate(text: str, annotation: Annotation, taken: set[Span]) -> Span | None:
    start, end = annotation.start, annotation.end
    if not annotation.text:
        if start is None or end is None or not 0 <= start <= end <= len(text):
            return None
        return _around_marker(text, start, end)
    if start is not None and start >= 0 and text.startswith(annotation.text, start):
        return start, start + len(annotation.text)
    spans = _occurrences(text, annotation.text)
    free = [span for span in spans if span not in taken] or spans
    return min(free, key=lambda span: abs(span[0] - (start or 0)), default=None)


def _around_marker(text: str, start: int, end: int) -> Span:
    """The span, or the marker that a position points into or at the end of."""
    if start == end:
        for match in MARKER.finditer(text, max(0, start - MARKER_CHARACTERS), start + MARKER_CHARACTERS):
            if match.start() <= start <= match.end():
                return match.span()
    return start, end


def _occurrences(text: str, part: str) -> list[Span]:
    found = islice(re.finditer(re.escape(part), text), MAX_OCCURRENCES)
    return [(match.start(), match.end()) for match in found]


def _add_replacement(replacements: list[tuple[int, int, list[str]]], span: Span, replacement: str) -> None:
    """Append a replacement. One that overlaps the previous is joined to it, so no text is cut twice."""
    start, end = span
    if replacements:
        last_start, last_end, parts = replacements[-1]
        if start < last_end or (start, end) == (last_start, last_end):
            replacements[-1] = (last_start, max(last_end, end), [*parts, replacement])
            return
    replacements.append((start, end, [replacement]))
