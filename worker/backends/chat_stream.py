"""Reads the body of a chat completion, streamed or not, into one completion object. Pure: bytes in, JSON out.

    data: {"choices":[{"delta":{"content":"4"}}]}     server-sent events: the deltas are merged
    : keep-alive, blank lines                         signs of life, passed over
    {"choices":[{"message":{…}}]}                     a server that does not stream, or was not asked to
    data: {"error":…}                                 an error, in any shape, also in the middle

A stream may end with `[DONE]`, or without. It is whole if it has a `finish_reason`.
Fields that askmill does not know are kept: the assistant's message goes back to the server as it came.
"""

from dataclasses import dataclass, field
from typing import Any

from askmill.jobs.openai_client.reply_limits import ReplyTooLarge, check_values
from askmill.worker.backends.coerce import MAX_DEPTH, Json, json_object, json_objects, shallow
from askmill.worker.backends.reply import parse_json

DONE = b"[DONE]"
KEPT_ONCE = frozenset({"role", "type", "id", "name", "index"})
"""Fields of a delta that servers may repeat in each chunk; all other texts are continued."""
OBJECT_BYTES = 50
"""About what a short text takes."""
MAX_MERGED_ENTRIES = 1_000
"""Entries of a list in one message: function calls, parts of the content. Each is compared with the rest."""
OF_THE_CHUNK = frozenset({"choices", "object", "usage"})


class BrokenChunk(Exception):
    """A part of the stream is not JSON: it was cut, or another program wrote it."""


@dataclass(slots=True)
class ChatReader:
    """Reads pieces of a body. `done`, `finish_reason` and `usage` say how far it is."""

    done: bool = False
    """`[DONE]` has come."""
    error: Any = None
    """The chunk that is an error."""
    _line: list[bytes] = field(default_factory=list)
    """The pieces of a line that has not ended: joined once, because a line may be as long as a reply."""
    _data: list[bytes] = field(default_factory=list)
    _named_error: bool = False
    _streamed: bool | None = None
    _body: list[bytes] = field(default_factory=list)
    _completion: Json = field(default_factory=dict)
    _message: Json = field(default_factory=dict)
    _texts: dict[str, list[str]] = field(default_factory=dict)
    """The texts of the message, in pieces."""
    _choice: Json = field(default_factory=dict)
    _kept_bytes: int = 0

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the body. Raises BrokenChunk."""
        if self._streamed is None:
            piece = (b"".join(self._body) + piece).lstrip()
            self._body = []
            if not piece:
                return
            self._streamed = piece[:1] not in b'{["<'
        self._kept_bytes += len(piece)
        if not self._streamed:
            self._body.append(piece)
            return
        first, *others = piece.split(b"\n")
        self._line.append(first)
        for start_of_next in others:
            line = b"".join(self._line)
            # What is kept of the line is counted where it is kept.
            self._kept_bytes -= len(line) + 1
            self._read_line(line.rstrip(b"\r"))
            self._line = [start_of_next]

    def end(self) -> None:
        """The body has ended. Raises BrokenChunk."""
        if self._streamed:
            self._read_line(b"".join(self._line).rstrip(b"\r"))
            self._line = []
            self._dispatch()
        elif self._body:
            self._completion = self._parse(b"".join(self._body))
            if not isinstance(self._completion, dict) or _is_error(self._completion):
                self.error, self._completion = self._completion, {}

    @property
    def kept_bytes(self) -> int:
        """About how many bytes of memory are taken by what has been read."""
        return self._kept_bytes

    @property
    def streamed(self) -> bool:
        """Whether the body is a stream of events."""
        return bool(self._streamed)

    @property
    def has_started(self) -> bool:
        """Whether any part of the answer has arrived."""
        return bool(self._choice or self._completion.get("choices"))

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended; None while it has not."""
        choice = self._choice if self._streamed else next(iter(self._choices()), {})
        reason = choice.get("finish_reason")
        return reason if isinstance(reason, str) and reason else None

    @property
    def has_usage(self) -> bool:
        """Whether the tokens are known: they come after the `finish_reason`."""
        return bool(self._completion.get("usage"))

    def completion(self) -> Json:
        """What has been read, in the form of a completion that was not streamed."""
        if not self._streamed:
            return self._completion
        message = {"role": "assistant", **_joined(self._message)}
        for name, texts in self._texts.items():
            message[name] = "".join(texts)
        if isinstance(calls := message.get("tool_calls"), list):
            # The index belongs to the stream: servers refuse it when the message comes back.
            message["tool_calls"] = [
                {name: value for name, value in call.items() if name != "index"}
                for call in json_objects(calls)
            ]
        return {**self._completion, "choices": [{**self._choice, "message": message}]}

    def _choices(self) -> list[Json]:
        return json_objects(self._completion.get("choices"))

    # ── events ──

    def _read_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            data = line[5:].strip()
            if data == DONE:
                self._dispatch()
                self.done = True
            elif not self._data and data.startswith(b"{") and data.endswith(b"}"):
                self._read_chunk(data)
            elif data:
                self._keep_data(data)
        elif not line:
            self._dispatch()
        elif line.startswith(b"event:"):
            self._named_error = line[6:].strip() == b"error"
        elif line.startswith(b"{"):
            # An error that was written into the stream without its frame.
            self._keep_data(line)

    def _keep_data(self, data: bytes) -> None:
        self._kept_bytes += len(data)
        self._data.append(data)

    def _dispatch(self) -> None:
        if self._data:
            data, self._data = b"\n".join(self._data), []
            self._kept_bytes -= len(data) + 1
            self._read_chunk(data)
        self._named_error = False

    def _read_chunk(self, data: bytes) -> None:
        chunk = self._parse(data)
        if self.error is not None:
            return
        if not isinstance(chunk, dict) or self._named_error or _is_error(chunk):
            self.error = chunk
            return
        choices = chunk.get("choices")
        if not self._completion or not choices or chunk.get("usage") or "x_groq" in chunk:
            self._read_envelope(chunk)
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and not choice.get("index"):
                self._read_choice(choice)

    def _read_envelope(self, chunk: Json) -> None:
        for name, value in chunk.items():
            if name not in OF_THE_CHUNK and value is not None:
                self._completion.setdefault(name, value)
        # Groq's first streams had it there.
        usage = chunk.get("usage") or json_object(chunk, "x_groq").get("usage")
        if isinstance(usage, dict):
            self._completion["usage"] = usage

    def _read_choice(self, choice: Json) -> None:
        for name, value in choice.items():
            if name not in {"delta", "message", "index", "logprobs"} and value is not None:
                self._choice[name] = value
        # Some servers send the last chunk with the whole message in place of a delta.
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._choice.setdefault("index", 0)
            self._kept_bytes += _memory_of(delta)
            self._read_delta(shallow(delta))

    def _read_delta(self, delta: Json) -> None:
        for name, value in delta.items():
            if isinstance(value, str) and name not in KEPT_ONCE and not self._message.get(name):
                self._texts.setdefault(name, []).append(value)
            elif name in self._texts:
                if value is not None:
                    self._message[name] = _merged("".join(self._texts.pop(name)), value)
            else:
                self._message[name] = _merged(self._message.get(name), value, name)

    @staticmethod
    def _parse(data: bytes) -> Any:
        check_values(data)
        try:
            return parse_json(data)
        except (ValueError, RecursionError):
            raise BrokenChunk(f"not JSON: {data[:2000].decode('utf-8', 'replace')}") from None


@dataclass(slots=True)
class GrowingText:
    """A text inside the message, in pieces: it may come in a hundred thousand of them."""

    pieces: list[str]


def _joined(value: Any) -> Any:
    """The value with its growing texts as texts."""
    if isinstance(value, GrowingText):
        return "".join(value.pieces)
    if isinstance(value, dict):
        return {name: _joined(inner) for name, inner in value.items()}
    return [_joined(inner) for inner in value] if isinstance(value, list) else value


def _memory_of(value: Any, depth: int = MAX_DEPTH) -> int:
    """About how many bytes a value of JSON takes."""
    inner = 0
    if isinstance(value, str):
        inner = len(value)
    elif depth and isinstance(value, dict):
        inner = sum(len(name) + _memory_of(entry, depth - 1) for name, entry in value.items())
    elif depth and isinstance(value, list):
        inner = sum(_memory_of(entry, depth - 1) for entry in value)
    return OBJECT_BYTES + inner


def _is_error(data: Json) -> bool:
    """Whether an object is an error. Its fields may lie flat, and a completion may have `error: null`."""
    return bool(data.get("error")) or data.get("object") == "error" or _is_flat_error(data)


def _is_flat_error(data: Json) -> bool:
    return not data.get("choices") and not data.get("usage") and ("detail" in data or "message" in data)


def _merged(before: Any, value: Any, name: str = "") -> Any:
    """A field of the message with what the next delta adds to it."""
    if value is None or before is None:
        return _with_index(value, name) if before is None else before
    if isinstance(before, GrowingText) and isinstance(value, str):
        before.pieces.append(value)
        return before
    before = _joined(before) if isinstance(before, GrowingText) else before
    if isinstance(before, str) and isinstance(value, str):
        return (before or value) if name in KEPT_ONCE else GrowingText([before, value])
    if isinstance(before, dict) and isinstance(value, dict):
        return {**before, **{key: _merged(before.get(key), inner, key) for key, inner in value.items()}}
    if isinstance(before, list) and isinstance(value, list):
        return _merged_list(before, value, name)
    if isinstance(before, str) and isinstance(value, list):
        return [*([{"type": "text", "text": before}] if before else []), *value]
    if isinstance(before, list) and isinstance(value, str):
        return [*before, {"type": "text", "text": value}]
    # A value of another kind does not replace what has been written.
    return before if isinstance(before, str | list) and before else value


def _with_index(value: Any, name: str) -> Any:
    """The first value of a field; the entries of a first list are merged with one another."""
    return _merged_list([], value, name) if isinstance(value, list) else value


def _merged_list(before: list[Any], added: list[Any], name: str) -> list[Any]:
    """Entries are continued by their index, tool calls also by their id or, without either, the last one."""
    if len(before) + len(added) > MAX_MERGED_ENTRIES:
        raise ReplyTooLarge(
            f"a list of the message has more than {MAX_MERGED_ENTRIES:,} entries (MAX_MERGED_ENTRIES)"
        )
    merged = list(before)
    for entry in added:
        at = _place_of(entry, merged, name)
        if at is None:
            merged.append(entry)
        else:
            merged[at] = _merged(merged[at], entry)
    return merged


def _place_of(entry: Any, entries: list[Any], name: str) -> int | None:
    """The entry that this one continues; None for a new one."""
    if not isinstance(entry, dict):
        return None
    index, id_ = entry.get("index"), entry.get("id")
    for at in reversed(range(len(entries))):
        earlier = entries[at]
        if not isinstance(earlier, dict):
            continue
        if index is not None and earlier.get("index") == index:
            # A server that numbers every call 0 gives each an id of its own.
            return None if id_ and earlier.get("id") not in {None, "", id_} else at
        if index is None and id_ and earlier.get("id") == id_:
            return at
    if index is not None or not entries or not isinstance(entries[-1], dict):
        return None
    if name == "tool_calls":
        return None if id_ or entry.get("type") or json_object(entry, "function").get("name") else -1
    # Mistral: the content is a list of parts, a piece each.
    same = entries[-1].get("type") == entry.get("type") and set(entry) == {"type", "text"}
    return -1 if same and entry.get("type") == "text" and name == "content" else None
