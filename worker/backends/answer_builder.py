"""Assembly of an `Answer` from the messages of a run, the same for both APIs."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from askmill.worker.backends.coerce import (
    MAX_ERROR_CHARACTERS,
    MAX_WORD_CHARACTERS,
    Json,
    cut_text,
    identifier,
    json_objects,
    json_text,
    optional_text,
    plain_text,
)
from askmill.worker.backends.errors import redacted_cut
from askmill.worker.backends.footnotes import MARKER, Annotation, Footnotes, Source
from askmill.worker.lifecycle.api_types import TOO_LARGE, Answer, ApiError, ToolCall

MAX_ANNOTATIONS, LEAST_ANNOTATIONS, MAX_SEARCHED_CHARACTERS = 1_000, 20, 100_000_000
"""Annotations of one text that are read: fewer where the text is long, because each is looked for in it."""
MAX_UNKNOWN_KINDS = 20
"""Kinds of content that are named where they are left out."""
MAX_TOOL_CALLS = 128
"""Function calls of one reply."""
INPUT_ROLES = frozenset({"user", "system", "developer"})
CITED_MARKER = re.compile(r"[^\w\s]*[\[(【†\ue200-\ue20f].*|.*[\])】†\ue200-\ue20f]", re.DOTALL)
"""What an annotation may name as its marker: text with a bracket or a private character at an end."""


@dataclass(frozen=True)
class TextPart:
    """A part of a message's text with its annotations."""

    text: str
    annotations: tuple[Annotation, ...] = ()


@dataclass
class Draft:
    """The content of a run's messages, in order, before all file names are known."""

    messages: list[list[TextPart]] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Generated files by id, in order of appearance."""
    refusal: bool = False
    unknown: list[str] = field(default_factory=list)
    """Kinds of content that askmill does not know."""
    message_ids: list[str] = field(default_factory=list)

    def add_file(self, file_id: str | None, name: str | None = None, container_id: str | None = None) -> None:
        """Add a generated file; a file that is already there gets what was missing."""
        if not file_id:
            return
        file = self.files.setdefault(file_id, {"file_id": file_id, "name": None})
        file["name"] = file["name"] or name
        if container_id:
            file["container_id"] = container_id

    def unnamed_file_ids(self) -> list[str]:
        """Ids of cited and generated files whose names must be read from the API."""
        cited = [
            annotation.source.file_id
            for parts in self.messages
            for part in parts
            for annotation in part.annotations
            if annotation.source and annotation.source.file_id and not annotation.source.name
        ]
        generated = [file_id for file_id, file in self.files.items() if not file["name"]]
        return list(dict.fromkeys([*cited, *generated]))


def build_answer(draft: Draft, names: Mapping[str, str], *, footnotes: bool) -> tuple[Answer, dict[str, str]]:
    """Build the answer of a draft.

    Args:
        draft: The content of the run's messages.
        names: File names by id, for the files that the draft does not name.
        footnotes: False for a JSON answer, which footnotes would break.

    Returns:
        The answer, and the text of each message by its id.
    """
    notes = Footnotes(shown=footnotes)
    texts = [_message_text(parts, notes, names) for parts in draft.messages]
    text = "\n\n".join(text for text in texts if text)
    listing = notes.listing()
    files = tuple({**file, "name": file["name"] or names.get(id_, id_)} for id_, file in draft.files.items())
    answer = Answer(
        text=f"{text}\n\n{listing}" if listing else text,
        messages=len(draft.messages),
        refusal=draft.refusal,
        note=_note(draft, text),
        citations=notes.citations(),
        files=files,
        last_message_id=draft.message_ids[-1] if draft.message_ids else None,
    )
    return answer, dict(zip(draft.message_ids, texts, strict=True))


@contextmanager
def partial_answer(build: Callable[[], Answer]) -> Iterator[None]:
    """Within the block, an ApiError carries the answer as far as it is read: without names and steps."""
    try:
        yield
    except ApiError as error:
        error.partial = build()
        raise


def _message_text(parts: Sequence[TextPart], notes: Footnotes, names: Mapping[str, str]) -> str:
    texts = []
    for part in parts:
        annotations = [_with_file_name(annotation, names) for annotation in part.annotations]
        texts.append(notes.insert(part.text, annotations))
    return "\n".join(text for text in texts if text)


def _with_file_name(annotation: Annotation, names: Mapping[str, str]) -> Annotation:
    source = annotation.source
    if source is None or source.name or not source.file_id:
        return annotation
    return replace(annotation, source=replace(source, name=names.get(source.file_id)))


def _note(draft: Draft, text: str) -> str | None:
    """What the text alone does not show: files without text, and content left out."""
    notes = []
    if draft.messages and not text:
        notes.append(f"files only: {len(draft.files)}" if draft.files else "the messages hold no text")
    if draft.unknown:
        kinds = islice(dict.fromkeys(draft.unknown), MAX_UNKNOWN_KINDS)
        notes.append(f"left out content of unknown kind: {', '.join(kinds)}")
    return "; ".join(notes) or None


def text_parts(content: Any, draft: Draft, parse: Callable[[Json, Draft], TextPart | None]) -> list[TextPart]:
    """The text of a message's content: a list of parts, one part, or plain text."""
    contents = content if isinstance(content, list) else [content]
    parts = (
        TextPart(part) if isinstance(part, str) else parse(part, draft)
        for part in contents
        if isinstance(part, str | dict)
    )
    return [part for part in parts if part is not None]


def part_kind(part: Json) -> str:
    """The type of a content part; without one, whatever it holds the text of."""
    if isinstance(part.get("type"), str):
        return str(part["type"])
    return next(
        (name for name in ("text", "refusal") if part.get(name)), str(optional_text(part.get("type")))
    )


def parse_arguments(arguments: Any) -> str:
    """A function's arguments as JSON text. Some servers send them parsed."""
    return (arguments if isinstance(arguments, str) else json_text(arguments or {})) or "{}"


def tool_call(id_: str, function: Json) -> ToolCall:
    """A function call of a reply: `name` and `arguments`."""
    name = cut_text(plain_text(function.get("name")), MAX_WORD_CHARACTERS)
    return ToolCall(id_, name, parse_arguments(function.get("arguments")))


def bounded_calls(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """The function calls of a reply. Raises ApiError `reply_too_large` for too many: each takes a thread."""
    found = tuple(islice(calls, MAX_TOOL_CALLS + 1))
    if len(found) > MAX_TOOL_CALLS:
        words = f"the reply asks for more than {MAX_TOOL_CALLS} function calls at once (MAX_TOOL_CALLS)"
        raise ApiError(200, code=TOO_LARGE, message=words)
    return found


def api_text(message: Any) -> str | None:
    """An error message of the API, without keys and cut; None where there is none."""
    text = plain_text(message)
    return redacted_cut(text, MAX_ERROR_CHARACTERS) if text else None


def parse_annotations(annotations: Any, draft: Draft, text: str) -> tuple[Annotation, ...]:
    """Parse the annotations of a text, in either API's form, and add the generated files to the draft.

    Assistants sends `file_citation` and `file_path` with the annotated text and its span. Responses sends
    `file_citation` with a position, `url_citation` and `container_file_citation` with a span, and `file_path`
    with neither.
    """
    found = json_objects(annotations)
    most = min(MAX_ANNOTATIONS, max(LEAST_ANNOTATIONS, MAX_SEARCHED_CHARACTERS // (len(text) + 1)))
    if len(found) > most:
        draft.unknown.append(f"{len(found) - most:,} more annotations (MAX_ANNOTATIONS)")
    parsed = (_parse_annotation(data, draft, text) for data in found[:most])
    return tuple(annotation for annotation in parsed if annotation is not None)


def _parse_annotation(data: Json, draft: Draft, text: str) -> Annotation | None:
    kind = str(optional_text(data.get("type")))
    start, end = _position(data.get("start_index")), _position(data.get("end_index"))
    annotated = data["text"] if isinstance(data.get("text"), str) else ""
    inner = {**data, **data[kind]} if isinstance(data.get(kind), dict) else data
    file_id, name = identifier(inner.get("file_id")), optional_text(inner.get("filename") or None)
    if kind == "file_citation":
        if not annotated and start is None:
            start = end = _position(data.get("index"))
        source = Source(file_id=file_id, name=name, quote=plain_text(inner.get("quote")) or None)
        return _marker_citation(text, Annotation(start, end, annotated, source))
    if kind == "url_citation":
        url, title = plain_text(inner.get("url")) or None, optional_text(inner.get("title") or None)
        return _page_citation(text, Annotation(start, end, annotated, Source(url=url, name=title)))
    if kind in {"file_path", "container_file_citation"}:
        path = annotated or _sandbox_path(text, start, end)
        name = name or (PurePosixPath(path).name if path else None)
        draft.add_file(file_id, name, identifier(inner.get("container_id")))
        return Annotation(start, end, path, name=name) if path and name else None
    draft.unknown.append(f"annotation {kind}")
    return None


def _position(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _marker_citation(text: str, annotation: Annotation) -> Annotation:
    """A citation of a file: its marker is replaced. Text that is no marker is kept and cited after it."""
    start, end, annotated = annotation.start, annotation.end, annotation.text
    if annotated and not CITED_MARKER.fullmatch(annotated):
        at = text.find(annotated, start or 0)
        at = at if at >= 0 else text.find(annotated)
        end = at + len(annotated) if at >= 0 else None
        return replace(annotation, start=end, end=end, text="")
    if not annotated and start is not None and end is not None and not MARKER.fullmatch(text[start:end]):
        return replace(annotation, start=end)
    return annotation


def _page_citation(text: str, annotation: Annotation) -> Annotation:
    """A citation of a web page: a span that holds the link is replaced, any other is kept and cited after."""
    url, start, end = annotation.source and annotation.source.url, annotation.start, annotation.end
    if annotation.text or start is None or end is None or (url and url in text[start:end]):
        return annotation
    return replace(annotation, start=end)


def _sandbox_path(text: str, start: int | None, end: int | None) -> str:
    """The path of a generated file, if the span is one. Responses may annotate nothing or a link's words."""
    span = "" if start is None or end is None else text[start:end]
    return span if span.startswith("sandbox:") else ""
