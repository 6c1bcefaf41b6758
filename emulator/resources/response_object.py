"""A response as it is kept, and as the API shows it at a moment."""

from dataclasses import dataclass, field
from typing import Any

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.response_items import message_turns, text_of, visible_items
from askmill.emulator.simulation.answer import Answer, count_tokens
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import RunState, error_of
from askmill.emulator.simulation.prompt import Prompt, current_question, output_format, split_directives
from askmill.emulator.simulation.tiers import served_tier

REASONING_TOKENS = 64


@dataclass(frozen=True, slots=True)
class ResponseInput:
    """What a response starts from. `continues`: `new_items` hold the outputs of function calls."""

    conversation_id: str
    history: list[Json]
    new_items: list[Json]
    continues: bool


@dataclass(slots=True)
class Response:
    """`fields` are what the API shows from the start, `final_fields` what replaces them at the end."""

    id: str
    conversation_id: str
    fields: Json
    state: RunState
    input_items: list[Json]
    final_fields: Json = field(default_factory=dict)

    @classmethod
    def load(cls, row: Json) -> "Response":
        return cls(**(row | {"state": RunState.load(row["state"])}))

    @property
    def container_id(self) -> str:
        """The container named for its code; empty: a new one."""
        for tool in self.fields["tools"]:
            if tool["type"] == "code_interpreter" and isinstance(tool.get("container"), str):
                return str(tool["container"])
        return ""

    def to_api(self, now: float, include: list[str] | None = None) -> Json:
        """The API's object at this moment."""
        response = self.fields | {"status": self.state.status(now)} | self.final_fields
        return response | {"output": visible_items(response["output"], include or [])}


def initial_fields(body: Json, conversation_id: str, now: float) -> Json:
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
        "service_tier": served_tier(body.get("service_tier")),
        "store": body.get("store") is not False,
        "temperature": _or_default(body.get("temperature"), 1.0),
        "text": {"format": {"type": "text"}} | (body.get("text") or {}),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [_tool(tool) for tool in body.get("tools") or []],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": _or_default(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
    }


def prompt_of_response(fields: Json, inputs: ResponseInput) -> tuple[Prompt, tuple[Outcome, ...]]:
    """Return the prompt of a response, and the directed outcomes."""
    items = [*inputs.history, *inputs.new_items]
    directed, answer_so_far = current_question(message_turns(items))
    outcomes, question = split_directives(directed)
    schema, json_object = output_format(fields["text"]["format"])
    calls = {item["call_id"]: item for item in items if item["type"] == "function_call"}
    outputs = [item for item in inputs.new_items if item["type"] == "function_call_output"]
    prompt = Prompt(
        question=question,
        answer_so_far=answer_so_far,
        tools=tuple(tool["type"] for tool in fields["tools"]),
        vector_store_ids=tuple(one for tool in fields["tools"] for one in tool.get("vector_store_ids") or []),
        max_tokens=fields["max_output_tokens"],
        schema=schema,
        json_object=json_object,
        outputs=tuple(_output_line(calls.get(item["call_id"]), item) for item in outputs),
        prompt_tokens=sum(map(count_tokens, [fields["instructions"] or "", *map(text_of, items)])),
    )
    return prompt, outcomes


def end_fields(row: Response, answer: Answer, status: str, output: list[Json]) -> Json:
    """The fields that the end sets."""
    ended: Json = {"status": status, "output": output, "usage": _usage(row, answer)}
    at = int(row.state.plan.marks[-1][0])
    match status:
        case "completed":
            ended["completed_at"] = at
        case "failed":
            ended["error"] = error_of(row.state.outcome)
        case "incomplete":
            reason = "content_filter" if row.state.outcome.arg == "content_filter" else "max_output_tokens"
            ended["incomplete_details"] = {"reason": reason}
    return ended


def _usage(row: Response, answer: Answer) -> Json:
    read = row.state.prompt.prompt_tokens
    used_reasoning = REASONING_TOKENS if answer.used_reasoning else 0
    wrote = answer.completion_tokens + used_reasoning
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": wrote,
        "output_tokens_details": {"reasoning_tokens": used_reasoning},
        "total_tokens": read + wrote,
    }


def _output_line(call: Json | None, output: Json) -> str:
    text = output["output"] if isinstance(output["output"], str) else str(output["output"])
    return f"{call['name']}({call['arguments']}) = {text}" if call else text


def _tool(tool: Json) -> Json:
    return (
        {"strict": True, "parameters": None, "description": None} | tool
        if tool.get("type") == "function"
        else tool
    )


def _or_default(value: Any, default: float) -> Any:
    return default if value is None else value
