"""/assistants: stored definitions."""

from askmill.emulator.protocol.errors import no_model, not_found
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Request, Route
from askmill.emulator.protocol.validation import (
    ANY_OBJECT,
    EFFORT,
    FORMAT,
    INSTRUCTIONS,
    METADATA,
    TEMPERATURE,
    TOP_P,
    Rule,
    Shape,
    check,
    each,
    object_of,
)
from askmill.emulator.simulation.file_library import FileLibrary
from askmill.emulator.simulation.journal import Store

TOOL_TYPES = ("code_interpreter", "file_search", "function")
TOOL_RESOURCES = Rule(
    (dict,),
    inside=object_of(
        {
            "code_interpreter": Rule(
                (dict,),
                inside=object_of({"file_ids": Rule((list,), high=20, inside=each(Rule((str,), null=False)))}),
            ),
            "file_search": Rule(
                (dict,),
                inside=object_of(
                    {"vector_store_ids": Rule((list,), high=1), "vector_stores": Rule((list,), high=1)}
                ),
            ),
        }
    ),
)
TOOL = Rule(
    (dict,),
    null=False,
    inside=object_of(
        {
            "type": Rule((str,), required=True, values=TOOL_TYPES),
            "function": ANY_OBJECT,
            "file_search": ANY_OBJECT,
        }
    ),
)
MODIFY_BODY: Shape = {
    "model": Rule((str,), null=False),
    "name": Rule((str,), high=256),
    "description": Rule((str,), high=512),
    "instructions": INSTRUCTIONS,
    "tools": Rule((list,), high=128, inside=each(TOOL)),
    "tool_resources": TOOL_RESOURCES,
    "metadata": METADATA,
    "temperature": TEMPERATURE,
    "top_p": TOP_P,
    "response_format": FORMAT,
    "reasoning_effort": EFFORT,
}
CREATE_BODY: Shape = MODIFY_BODY | {"model": Rule((str,), required=True, null=False)}


def check_model(model: str | None) -> None:
    """Names that begin with `no-such` are models that do not exist."""
    if model is not None and model.startswith("no-such"):
        raise no_model(model)


class Assistants:
    """Create, list, get, modify, delete."""

    def __init__(self, store: Store, library: FileLibrary) -> None:
        self._rows = store.table("assistant", dict)
        self._library = library

    def routes(self) -> list[Route]:
        one = "/assistants/{assistant_id}"
        return [
            Route("POST", "/assistants", self.create, beta=True),
            Route("GET", "/assistants", self.list_all, beta=True),
            Route("GET", one, self.retrieve, beta=True),
            Route("POST", one, self.modify, beta=True),
            Route("DELETE", one, self.delete, beta=True),
        ]

    def get(self, assistant_id: str) -> Json:
        row = self._rows.get(assistant_id)
        if row is None:
            raise not_found("assistant", assistant_id)
        return row

    def create(self, request: Request) -> Json:
        body = check(request.json(), CREATE_BODY)
        check_model(body["model"])
        row: Json = {
            "id": new_id("asst_"),
            "object": "assistant",
            "created_at": int(request.now),
            "name": body.get("name"),
            "description": body.get("description"),
            "model": body["model"],
            "instructions": body.get("instructions"),
            "tools": body.get("tools") or [],
            "tool_resources": self._library.resolve_tool_resources(body.get("tool_resources"), request.now),
            "metadata": body.get("metadata") or {},
            "temperature": body.get("temperature", 1.0),
            "top_p": body.get("top_p", 1.0),
            "reasoning_effort": body.get("reasoning_effort"),
            "response_format": body.get("response_format") or "auto",
        }
        self._rows.put(row["id"], row)
        return row

    def list_all(self, request: Request) -> Json:
        return page(list(self._rows.rows.values()), request)

    def retrieve(self, request: Request) -> Json:
        return self.get(request.ids[0])

    def modify(self, request: Request) -> Json:
        body = check(request.json(), MODIFY_BODY)
        check_model(body.get("model"))
        row = self.get(request.ids[0]) | body
        row["tool_resources"] = self._library.resolve_tool_resources(row["tool_resources"], request.now)
        self._rows.put(row["id"], row)
        return row

    def delete(self, request: Request) -> Json:
        row = self.get(request.ids[0])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "assistant.deleted", "deleted": True}
