"""/conversations and their items."""

from typing import Protocol

from askmill.emulator.protocol.errors import conversation_locked, no_conversation, no_item
from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.pagination import page
from askmill.emulator.protocol.routing import Call, Json, Route
from askmill.emulator.protocol.validation import METADATA, Rule, Shape, check
from askmill.emulator.simulation.journal import Store
from askmill.emulator.simulation.response_items import shown, stored_input

ITEMS = Rule((list,), high=20)
CREATED: Shape = {"items": ITEMS, "metadata": METADATA}
ADDED: Shape = {"items": Rule((list,), required=True, null=False, high=20)}
MODIFIED: Shape = {"metadata": Rule((dict,), required=True, high=16, inside=METADATA.inside)}


class Locks(Protocol):
    """Who holds a conversation."""

    def active_on(self, conversation_id: str, now: float) -> str | None: ...


class Conversations:
    """Conversations and items; the lock is the responses' business."""

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

    def create(self, call: Call) -> Json:
        body = check(call.json(), CREATED)
        items = stored_input(body.get("items"))
        row: Json = {
            "id": new_id("conv_"),
            "object": "conversation",
            "created_at": int(call.now),
            "metadata": body.get("metadata") or {},
        }
        self._rows.put(row["id"], row)
        self.append(row["id"], items)
        return row

    def retrieve(self, call: Call) -> Json:
        return self.get(call.ids[0])

    def modify(self, call: Call) -> Json:
        row = self.get(call.ids[0]) | check(call.json(), MODIFIED)
        self._rows.put(row["id"], row)
        return row

    def delete(self, call: Call) -> Json:
        """The conversation goes, its items stay, as OpenAI's reference says of this call."""
        row = self.get(call.ids[0])
        self._rows.drop(row["id"])
        return {"id": row["id"], "object": "conversation.deleted", "deleted": True}

    def create_items(self, call: Call) -> Json:
        conversation_id = self.get(call.ids[0])["id"]
        items = stored_input(check(call.json(), ADDED)["items"])
        if self.locks.active_on(conversation_id, call.now):
            raise conversation_locked()
        self.append(conversation_id, items)
        ends = {"first_id": items[0]["id"] if items else "", "last_id": items[-1]["id"] if items else ""}
        return {"object": "list", "data": items, "has_more": False, **ends}

    def list_items(self, call: Call) -> Json:
        conversation_id = self.get(call.ids[0])["id"]
        # A response that has ended writes its items down now.
        self.locks.active_on(conversation_id, call.now)
        listed = page(self.items(conversation_id), call)
        return listed | {"data": shown(listed["data"], call.arguments("include"))}

    def retrieve_item(self, call: Call) -> Json:
        return shown([self._item(call)], call.arguments("include"))[0]

    def delete_item(self, call: Call) -> Json:
        self._item(call)
        self._items.drop(call.ids[1])
        return self.get(call.ids[0])

    def _item(self, call: Call) -> Json:
        conversation_id, item_id = call.ids
        self.locks.active_on(self.get(conversation_id)["id"], call.now)
        row = self._items.get(item_id)
        if row is None or row["conversation_id"] != conversation_id:
            raise no_item(item_id)
        item: Json = row["item"]
        return item
