"""/conversations and their items."""

from typing import Protocol

from askmill.emulator.protocol.errors import conversation_locked, no_conversation, no_item
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Json, Request, Route
from askmill.emulator.protocol.validation import METADATA, Rule, Shape, check
from askmill.emulator.resources.response_items import parse_input, visible_items
from askmill.emulator.simulation.journal import Store

ITEMS = Rule((list,), high=20)
CREATE_BODY: Shape = {"items": ITEMS, "metadata": METADATA}
ADD_BODY: Shape = {"items": Rule((list,), required=True, null=False, high=20)}
MODIFY_BODY: Shape = {"metadata": Rule((dict,), required=True, high=16, inside=METADATA.inside)}


class Locks(Protocol):
    """Finds the response that holds a conversation's lock."""

    def lock_holder(self, conversation_id: str, now: float) -> str | None: ...


class Conversations:
    """Conversations and items; `Responses` holds the locks."""

    locks: Locks

    def __init__(self, store: Store) -> None:
        self._rows = store.table("conversation", dict)
        # An item as the API shows it, with the conversation it is in.
        self._items = store.table("item", dict, lambda row: str(row["conversation_id"]))

    def routes(self) -> list[Route]:
        one = "/conversations/{conversation_id}"
        item = one + "/items/{item_id}"
        return [
            Route("POST", "/conversations", self.create),
            Route("GET", one, self.retrieve),
            Route("POST", one, self.modify),
            Route("DELETE", one, self.delete),
            Route("POST", one + "/items", self.create_items),
            Route("GET", one + "/items", self.list_items),
            Route("GET", item, self.retrieve_item),
            Route("DELETE", item, self.delete_item),
        ]

    def get(self, conversation_id: str) -> Json:
        row = self._rows.get(conversation_id)
        if row is None:
            raise no_conversation(conversation_id)
        return row

    def items(self, conversation_id: str) -> list[Json]:
        """All items, oldest first."""
        return [row["item"] for row in self._items.children(conversation_id)]

    def append(self, conversation_id: str, items: list[Json]) -> None:
        for item in items:
            # The same item may be in several conversations, or twice in one.
            key = item["id"] if item["id"] not in self._items.rows else new_id("again_")
            self._items.put(key, {"conversation_id": conversation_id, "item": item})

    def create(self, request: Request) -> Json:
        body = check(request.json(), CREATE_BODY)
        items = parse_input(body.get("items"))
        row: Json = {
            "id": new_id("conv_"),
            "object": "conversation",
            "created_at": int(request.now),
            "metadata": body.get("metadata") or {},
        }
        self._rows.put(row["id"], row)
        self.append(row["id"], items)
        return row

    def retrieve(self, request: Request) -> Json:
        return self.get(request.ids[0])

    def modify(self, request: Request) -> Json:
        row = self.get(request.ids[0]) | check(request.json(), MODIFY_BODY)
        self._rows.put(row["id"], row)
        return row

    def delete(self, request: Request) -> Json:
        """Delete the conversation but not its items, as OpenAI's reference specifies."""
        row = self.get(request.ids[0])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "conversation.deleted", "deleted": True}

    def create_items(self, request: Request) -> Json:
        conversation_id = self.get(request.ids[0])["id"]
        items = parse_input(check(request.json(), ADD_BODY)["items"])
        if self.locks.lock_holder(conversation_id, request.now):
            raise conversation_locked()
        self.append(conversation_id, items)
        ends = {"first_id": items[0]["id"] if items else "", "last_id": items[-1]["id"] if items else ""}
        return {"object": "list", "data": items, "has_more": False, **ends}

    def list_items(self, request: Request) -> Json:
        conversation_id = self.get(request.ids[0])["id"]
        # Writes the items of a response that has ended.
        self.locks.lock_holder(conversation_id, request.now)
        listed = page(self.items(conversation_id), request)
        return listed | {"data": visible_items(listed["data"], request.arguments("include"))}

    def retrieve_item(self, request: Request) -> Json:
        return visible_items([self._item(request)], request.arguments("include"))[0]

    def delete_item(self, request: Request) -> Json:
        self._item(request)
        self._items.drop(request.ids[1])
        return self.get(request.ids[0])

    def _item(self, request: Request) -> Json:
        conversation_id, item_id = request.ids
        self.locks.lock_holder(self.get(conversation_id)["id"], request.now)
        row = self._items.get(item_id)
        if row is None or row["conversation_id"] != conversation_id:
            raise no_item(item_id)
        item: Json = row["item"]
        return item
