"""/threads and their messages."""

from typing import Any, Protocol

from askmill.emulator.protocol.errors import not_found, thread_busy_for_messages
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import ApiError, Json, Request, Route
from askmill.emulator.protocol.validation import METADATA, Rule, Shape, bad_field, check, each
from askmill.emulator.resources.assistants import TOOL_RESOURCES
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store

MESSAGE: Shape = {
    "role": Rule((str,), required=True, null=False, values=("user", "assistant")),
    "content": Rule((str, list), required=True, null=False, low=1),
    "attachments": Rule((list,), inside=each(Rule((dict,), null=False))),
    "metadata": METADATA,
}
CONTENT_MAX_CHARS = 256_000
THREAD: Shape = {
    "messages": Rule((list,), null=False, inside=each(Rule((dict,), null=False))),
    "tool_resources": TOOL_RESOURCES,
    "metadata": METADATA,
}
MODIFY_THREAD_BODY: Shape = {"tool_resources": TOOL_RESOURCES, "metadata": METADATA}
MODIFY_MESSAGE_BODY: Shape = {"metadata": METADATA}


class Locks(Protocol):
    """Finds the run that holds a thread's lock."""

    def lock_holder(self, thread_id: str, now: float) -> str | None: ...
    def delete_runs(self, thread_id: str) -> None: ...


class Threads:
    """Threads and messages; `Runs` holds the locks."""

    locks: Locks

    def __init__(self, store: Store, library: FileLibrary) -> None:
        self._rows = store.table("thread", dict)
        self.messages = store.table("message", dict, lambda row: str(row["thread_id"]))
        self._library = library

    def routes(self) -> list[Route]:
        one, messages = "/threads/{thread_id}", "/threads/{thread_id}/messages"
        message = messages + "/{message_id}"
        return [
            Route("POST", "/threads", self.create, beta=True),
            Route("GET", one, self.retrieve, beta=True),
            Route("POST", one, self.modify, beta=True),
            Route("DELETE", one, self.delete, beta=True),
            Route("POST", messages, self.create_message, beta=True),
            Route("GET", messages, self.list_messages, beta=True),
            Route("GET", message, self.retrieve_message, beta=True),
            Route("POST", message, self.modify_message, beta=True),
            Route("DELETE", message, self.delete_message, beta=True),
        ]

    def get(self, thread_id: str) -> Json:
        row = self._rows.get(thread_id)
        if row is None:
            raise not_found("thread", thread_id)
        return row

    def create_thread(self, body: Json, now: float) -> Json:
        """A new thread with its first messages, from a checked or unchecked request body."""
        check(body, THREAD)
        messages = [
            check_message(message, f"messages[{i}].") for i, message in enumerate(body.get("messages") or [])
        ]
        row: Json = {
            "id": new_id("thread_"),
            "object": "thread",
            "created_at": int(now),
            "tool_resources": self._library.resolve_tool_resources(body.get("tool_resources"), now) or {},
            "metadata": body.get("metadata") or {},
        }
        self._rows.put(row["id"], row)
        for message in messages:
            self.add_message(row["id"], message, now)
        return row

    def add_message(self, thread_id: str, body: Json, now: float, **written: Any) -> Json:
        """Append a message; `written` are the fields of one that a run wrote."""
        row = self.new_message(thread_id, body, now) | written
        self.messages.put(row["id"], row)
        return row

    def new_message(self, thread_id: str, body: Json, now: float) -> Json:
        """Build a message that is not yet on the thread."""
        return {
            "id": new_id("msg_"),
            "object": "thread.message",
            "created_at": int(now),
            "assistant_id": None,
            "thread_id": thread_id,
            "run_id": None,
            "role": body["role"],
            "status": "completed",
            "incomplete_details": None,
            "completed_at": int(now),
            "incomplete_at": None,
            "content": _content(body["content"]),
            "attachments": body.get("attachments") or [],
            "metadata": body.get("metadata") or {},
        }

    def create(self, request: Request) -> Json:
        return self.create_thread(request.json(), request.now)

    def retrieve(self, request: Request) -> Json:
        return self.get(request.ids[0])

    def modify(self, request: Request) -> Json:
        row = self.get(request.ids[0]) | check(request.json(), MODIFY_THREAD_BODY)
        row["tool_resources"] = self._library.resolve_tool_resources(row["tool_resources"], request.now) or {}
        self._rows.put(row["id"], row)
        return row

    def delete(self, request: Request) -> Json:
        row = self.get(request.ids[0])
        self.locks.delete_runs(row["id"])
        for message in self.messages.children(row["id"]):
            self.messages.drop(message["id"])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "thread.deleted", "deleted": True}

    def create_message(self, request: Request) -> Json:
        thread_id = self.get(request.ids[0])["id"]
        body = check_message(request.json())
        if run_id := self.locks.lock_holder(thread_id, request.now):
            raise thread_busy_for_messages(thread_id, run_id)
        return self.add_message(thread_id, body, request.now)

    def list_messages(self, request: Request) -> Json:
        thread_id = self.get(request.ids[0])["id"]
        # Writes the messages of a run that has ended.
        self.locks.lock_holder(thread_id, request.now)
        rows = self.messages.children(thread_id)
        if run_id := request.argument("run_id"):
            rows = [row for row in rows if row["run_id"] == run_id]
        return page(rows, request)

    def retrieve_message(self, request: Request) -> Json:
        return self._message(request)

    def modify_message(self, request: Request) -> Json:
        row = self._message(request) | check(request.json(), MODIFY_MESSAGE_BODY)
        self.messages.put(row["id"], row)
        return row

    def delete_message(self, request: Request) -> Json:
        row = self._message(request)
        self.messages.drop(row["id"])
        return {"id": row["id"], "object": "thread.message.deleted", "deleted": True}

    def _message(self, request: Request) -> Json:
        thread_id, message_id = request.ids
        row = self.messages.get(message_id)
        if self.get(thread_id) is None or row is None or row["thread_id"] != thread_id:
            raise not_found("message", message_id)
        return row


def check_message(body: Json, at: str = "") -> Json:
    """Return the message if it is valid; ApiError 400 otherwise."""
    check(body, MESSAGE, at)
    content = body["content"]
    if content in ("", []):
        raise ApiError(400, "Message content must be non-empty.", param=f"{at}content")
    for part in [content] if isinstance(content, str) else content:
        text = part if isinstance(part, str) else part.get("text")
        if isinstance(text, str) and len(text) > CONTENT_MAX_CHARS:
            limits = f"{CONTENT_MAX_CHARS}, but got a string with length {len(text)} instead."
            message = (
                f"Invalid '{at}content': string too long. Expected a string with maximum length {limits}"
            )
            raise bad_field(message, f"{at}content", "string_above_max_length")
    return body


def text_of(message: Json) -> str:
    """All text of a stored message."""
    return "\n".join(part["text"]["value"] for part in message["content"] if part["type"] == "text")


def text_part(value: str, annotations: list[Json] | None = None) -> Json:
    """A text as a content part of a message."""
    return {"type": "text", "text": {"value": value, "annotations": annotations or []}}


def _content(content: str | list[Json]) -> list[Json]:
    if isinstance(content, str):
        return [text_part(content)]
    return [
        text_part(part["text"]) if part.get("type") == "text" and isinstance(part.get("text"), str) else part
        for part in content
    ]
