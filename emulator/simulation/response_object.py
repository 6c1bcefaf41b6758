"""A response as it is kept, and as the API shows it at a moment."""

from dataclasses import dataclass, field
from typing import Any

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.answer import Answer, Ask
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import Engine, Life, read_tokens
from askmill.emulator.simulation.prompt import current_question, wanted_format
from askmill.emulator.simulation.response_items import shown, text_of, turns_of
from askmill.emulator.simulation.run_output import error_of

REASONING_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """The items before a response and those given with it. `continues`: they answer its function calls."""

    conversation_id: str
    before: list[Json]
    given: list[Json]
    continues: bool


@dataclass(slots=True)
class Response:
    """`fields` are what the API shows from the start, `ended` what replaces them at the end."""

    id: str
    conversation_id: str
    fields: Json
    life: Life
    given: list[Json]
    ended: Json = field(default_factory=dict)

    @classmethod
    def load(cls, row: Json) -> "Response":
        return cls(**(row | {"life": Life.load(row["life"])}))

    @property
    def container_id(self) -> str:
        """The container named for its code; empty: a new one."""
        for tool in self.fields["tools"]:
            if tool["type"] == "code_interpreter" and isinstance(tool.get("container"), str):
                return str(tool["container"])
        return ""

    def shown(self, now: float, include: list[str] | None = None) -> Json:
        """The API's object at this moment."""
        whole = self.fields | {"status": self.life.status(now)} | self.ended
        return whole | {"output": shown(whole["output"], include or [])}


def new_fields(body: Json, conversation_id: str, now: float) -> Json:
    """The response's object at its creation; without `usage`, which OpenAI's description lets not be null."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(now),
        "status": "queued",
        "background": bool(body.get("background")),
        "completed_at": None,
        "conversation": {"id": conversation_id} if conversation_id else None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "metadata": body.get("metadata") or {},
        "model": body["model"],
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None} | (body.get("reasoning") or {}),
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": _or(body.get("temperature"), 1.0),
        "text": {"format": {"type": "text"}} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in body.get("tools") or []],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": _or(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
    }


def ask_of(engine: Engine, fields: Json, asked: Asked) -> tuple[Ask, tuple[Outcome, ...]]:
    """What a response is asked, and the outcomes directed."""
    items = [*asked.before, *asked.given]
    directed, already = current_question(turns_of(items))
    outcomes, question = engine.directions(directed)
    schema, as_object = wanted_format(fields["text"]["format"])
    calls = {item["call_id"]: item for item in items if item["type"] == "function_call"}
    outputs = [item for item in asked.given if item["type"] == "function_call_output"]
    ask = Ask(
        question=question,
        already=already,
        tools=tuple(tool["type"] for tool in fields["tools"]),
        vector_store_ids=tuple(one for tool in fields["tools"] for one in tool.get("vector_store_ids") or []),
        max_tokens=fields["max_output_tokens"],
        schema=schema,
        as_object=as_object,
        outputs=tuple(_output_line(calls.get(item["call_id"]), item) for item in outputs),
        prompt_tokens=read_tokens([fields["instructions"] or "", *map(text_of, items)]),
    )
    return ask, outcomes


def response_ending(row: Response, answer: Answer, status: str, output: list[Json]) -> Json:
    """The fields that the end sets."""
    ended: Json = {"status": status, "output": output, "usage": _usage(row, answer)}
    at = int(row.life.plan.marks[-1][0])
    match status:
        case "completed":
            ended["completed_at"] = at
        case "failed":
            ended["error"] = error_of(row.life.outcome)
        case "incomplete":
            reason = "content_filter" if row.life.outcome.arg == "content_filter" else "max_output_tokens"
            ended["incomplete_details"] = {"reason": reason}
    return ended


def _usage(row: Response, answer: Answer) -> Json:
    read = row.life.ask.prompt_tokens
    reasoned = REASONING_TOKENS if answer.reasoned else 0
    wrote = answer.completion_tokens + reasoned
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": read + wrote,
    }


def _output_line(call: Json | None, output: Json) -> str:
    said = output["output"] if isinstance(output["output"], str) else str(output["output"])
    return f"{call['name']}({call['arguments']}) = {said}" if call else said


def _tool(tool: Json) -> Json:
    return (
        {"strict": True, "parameters": None, "description": None} | tool
        if tool.get("type") == "function"
        else tool
    )


def _or(value: Any, default: float) -> Any:
    return default if value is None else value
