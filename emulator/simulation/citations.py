"""Where an answer cites what it found: once behind its end, or, for tests, in every awkward place.

often    Grüße, 🐇[a]![b] THE ANSWER[a][b]     letters of several bytes, two sources, repeated, side by side
"""

from collections.abc import Sequence

from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.bm25 import Passage

GREETING = "Grüße, 🐇"
Places = list[tuple[int, Passage]]


def places_of(text: str, passages: Sequence[Passage], *, often: bool) -> tuple[str, Places]:
    """The text, and the passages cited at places of it that count characters."""
    first = passages[0]
    if not often:
        return text, [(len(text), first)]
    other = next((passage for passage in passages if passage.file_id != first.file_id), first)
    greeted, at = f"{GREETING}! {text}", len(GREETING)
    return greeted, [(at, first), (at + 1, other), (len(greeted), first), (len(greeted), other)]


def with_markers(text: str, places: Places) -> tuple[str, list[Json]]:
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
