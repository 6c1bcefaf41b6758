"""A run as it is kept, and as the API shows it at a moment."""

from dataclasses import dataclass, field

from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.engine import Life


@dataclass(slots=True)
class Run:
    """`fields` are what the API shows from the start, `ended` what replaces them at the end."""

    id: str
    thread_id: str
    fields: Json
    life: Life
    ended: Json = field(default_factory=dict)

    @classmethod
    def load(cls, row: Json) -> "Run":
        return cls(row["id"], row["thread_id"], row["fields"], Life.load(row["life"]), row["ended"])

    def shown(self, now: float) -> Json:
        """The API's object at this moment."""
        status = self.life.status(now)
        changing: Json = {"status": status, "started_at": _seconds(self.life.plan.passed("in_progress", now))}
        if status == "requires_action":
            calls = [_call_object(call) for call in self.life.calls]
            changing["required_action"] = {
                "type": "submit_tool_outputs",
                "submit_tool_outputs": {"tool_calls": calls},
            }
        return self.fields | changing | self.ended


def _call_object(call: Json) -> Json:
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }


def _seconds(at: float | None) -> int | None:
    return None if at is None else int(at)
