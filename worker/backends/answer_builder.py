"""What a run wrote, put together the same way for both APIs: passages in, one `Answer` out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from askmill.worker.backends.footnotes import Footnotes, Mark, Source
from askmill.worker.lifecycle.api_types import Answer


@dataclass(frozen=True)
class Passage:
    """A piece of a message's text with its annotations."""

    text: str
    marks: tuple[Mark, ...] = ()


@dataclass
class Draft:
    """What messages hold, in order, before all file names are known. `files`: by id, as they appear."""

    messages: list[list[Passage]] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: bool = False
    unknown: list[str] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)

    def add_file(self, file_id: str | None, name: str | None = None, container_id: str | None = None) -> None:
        """Note a generated file, once."""
        if not file_id:
            return
        known = self.files.setdefault(file_id, {"file_id": file_id, "name": None})
        known["name"] = known["name"] or name
        if container_id:
            known["container_id"] = container_id

    def unnamed(self) -> list[str]:
        """Files whose name only the API can tell."""
        cited = [
            mark.source.file_id
            for passages in self.messages
            for passage in passages
            for mark in passage.marks
            if mark.source and mark.source.file_id and not mark.source.name
        ]
        generated = [file_id for file_id, file in self.files.items() if not file["name"]]
        return list(dict.fromkeys([*cited, *generated]))


def finished(draft: Draft, names: Mapping[str, str], *, footnotes: bool) -> tuple[Answer, dict[str, str]]:
    """The answer of a draft, and the text of each message by its id.

    `names` tells the unnamed files; `footnotes` False is for JSON, which they would break.
    """
    notes = Footnotes(shown=footnotes)
    texts = [_text(passages, notes, names) for passages in draft.messages]
    said = "\n\n".join(text for text in texts if text)
    listing = notes.listing()
    files = tuple({**file, "name": file["name"] or names.get(id_, id_)} for id_, file in draft.files.items())
    answer = Answer(
        text=f"{said}\n\n{listing}" if listing else said,
        messages=len(draft.messages),
        refusal=draft.refusal,
        note=_note(draft, said),
        citations=notes.citations(),
        files=files,
        last_message_id=draft.message_ids[-1] if draft.message_ids else None,
    )
    return answer, dict(zip(draft.message_ids, texts, strict=True))


def _text(passages: Sequence[Passage], notes: Footnotes, names: Mapping[str, str]) -> str:
    written = []
    for passage in passages:
        marks = [_named(mark, names) for mark in passage.marks]
        written.append(notes.put_in(passage.text, marks))
    return "\n".join(text for text in written if text)


def _named(mark: Mark, names: Mapping[str, str]) -> Mark:
    source = mark.source
    if source is None or source.name or not source.file_id:
        return mark
    return replace(mark, source=replace(source, name=names.get(source.file_id)))


def _note(draft: Draft, said: str) -> str | None:
    """What a reader of the text alone would miss."""
    notes = []
    if draft.messages and not said:
        notes.append(f"files only: {len(draft.files)}" if draft.files else "the messages hold no text")
    if draft.unknown:
        notes.append(f"left out content of unknown kind: {', '.join(dict.fromkeys(draft.unknown))}")
    return "; ".join(notes) or None


def marks_of(annotations: Any, draft: Draft, text: str) -> tuple[Mark, ...]:
    """The marks of a text's annotations, in either API's form; generated files are noted in the draft.

    Assistants: `file_citation` and `file_path` with the marked text and its span. Responses: `file_citation`
    with the place to cite at, `url_citation` and `container_file_citation` with a span, `file_path` none.
    """
    said = [annotation for annotation in annotations or () if isinstance(annotation, dict)]
    return tuple(mark for annotation in said if (mark := _mark(annotation, draft, text)) is not None)


def _mark(said: dict[str, Any], draft: Draft, text: str) -> Mark | None:
    kind = str(said.get("type"))
    start, end = _position(said.get("start_index")), _position(said.get("end_index"))
    marked = str(said.get("text") or "")
    inner = {**said, **(said.get(kind) or {})} if isinstance(said.get(kind), dict) else said
    file_id, name = inner.get("file_id"), inner.get("filename")
    if kind == "file_citation":
        if not marked and start is None:
            start = end = _position(said.get("index"))
        source = Source(file_id=file_id, name=name, quote=inner.get("quote") or None)
        return Mark(start, end, marked, source)
    if kind == "url_citation":
        source = Source(url=inner.get("url"), name=inner.get("title") or None)
        return _link(text, Mark(start, end, marked, source))
    if kind in {"file_path", "container_file_citation"}:
        shown = marked or _sandbox_path(text, start, end)
        name = name or (PurePosixPath(shown).name if shown else None)
        draft.add_file(file_id, name, inner.get("container_id"))
        return Mark(start, end, shown, name=name) if shown and name else None
    draft.unknown.append(f"annotation {kind}")
    return None


def _position(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _link(text: str, mark: Mark) -> Mark:
    """A cited page: its link is replaced, but a span that is not a link is somebody's words, cited behind."""
    url = mark.source.url if mark.source else None
    if mark.text or mark.start is None or mark.end is None or (url and url in text[mark.start : mark.end]):
        return mark
    return replace(mark, start=mark.end)


def _sandbox_path(text: str, start: int | None, end: int | None) -> str:
    """The path of a generated file, if the span is one: Responses may mark nothing, or a link's words."""
    span = "" if start is None or end is None else text[start:end]
    return span if span.startswith("sandbox:") else ""
