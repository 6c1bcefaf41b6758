"""A run as it is stored, and as the API shows it at a moment."""

from dataclasses import dataclass, field
from typing import Any

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.resources.threads import text_of
from askmill.emulator.simulation.answer import count_tokens
from askmill.emulator.simulation.directives import Outcome
from askmill.emulator.simulation.engine import RunState, error_of
from askmill.emulator.simulation.prompt import Prompt, Turn, current_question, output_format, split_directives


@dataclass(slots=True)
class Run:
    """`fields` are what the API shows from the start, `final_fields` what replaces them at the end."""

    id: str
    thread_id: str
    fields: Json
    state: RunState
    final_fields: Json = field(default_factory=dict)

    @classmethod
    def load(cls, row: Json) -> "Run":
        return cls(
            row["id"], row["thread_id"], row["fields"], RunState.load(row["state"]), row["final_fields"]
        )

    def to_api(self, now: float) -> Json:
        """Return the API object at this moment."""
        status = self.state.status(now)
        changing: Json = {
            "status": status,
            "started_at": _whole_seconds(self.state.plan.passed("in_progress", now)),
        }
        if status == "requires_action":
            calls = [_call_object(call) for call in self.state.calls]
            changing["required_action"] = {
                "type": "submit_tool_outputs",
                "submit_tool_outputs": {"tool_calls": calls},
            }
        return self.fields | changing | self.final_fields


def _call_object(call: Json) -> Json:
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": call["name"], "arguments": call["arguments"]},
    }


def _whole_seconds(at: float | None) -> int | None:
    return None if at is None else int(at)


def initial_fields(thread_id: str, assistant: Json, body: Json, now: float) -> Json:
    """Build the run object at creation; what the request leaves out comes from the assistant."""
    instructions = body.get("instructions") or assistant["instructions"] or ""
    if body.get("additional_instructions"):
        instructions = f"{instructions}\n\n{body['additional_instructions']}".strip()
    return {
        "id": new_id("run_"),
        "object": "thread.run",
        "created_at": int(now),
        "assistant_id": assistant["id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": body.get("model") or assistant["model"],
        "instructions": instructions,
        "tools": assistant["tools"] if body.get("tools") is None else body["tools"],
        "metadata": body.get("metadata") or {},
        "temperature": _own_or_inherited(body, assistant, "temperature"),
        "top_p": _own_or_inherited(body, assistant, "top_p"),
        "max_completion_tokens": body.get("max_completion_tokens"),
        "max_prompt_tokens": body.get("max_prompt_tokens"),
        "truncation_strategy": {"type": "auto", "last_messages": None}
        | (body.get("truncation_strategy") or {}),
        "incomplete_details": None,
        "usage": None,
        "response_format": body.get("response_format") or assistant["response_format"] or "auto",
        "tool_choice": body.get("tool_choice") or "auto",
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
    }


def _own_or_inherited(body: Json, assistant: Json, name: str) -> Any:
    return assistant[name] if body.get(name) is None else body[name]


def prompt_of_run(
    fields: Json, owners: tuple[Json, Json], messages: list[Json]
) -> tuple[Prompt, tuple[Outcome, ...]]:
    """Return the prompt of a run, and the directed outcomes. `owners` are its assistant and thread."""
    texts = [text_of(message) for message in messages]
    turns = [
        Turn(
            message["role"],
            text,
            truncated=message["role"] == "assistant" and message["status"] == "incomplete",
        )
        for message, text in zip(messages, texts, strict=True)
    ]
    directed, answer_so_far = current_question(turns)
    outcomes, question = split_directives(directed)
    schema, json_object = output_format(fields["response_format"])
    prompt = Prompt(
        question=question,
        answer_so_far=answer_so_far,
        tools=tuple(tool["type"] for tool in fields["tools"]),
        vector_store_ids=tuple(store_id for owner in owners for store_id in _store_ids(owner)),
        file_ids=tuple(file_id for message in messages for file_id in _searchable(message)),
        max_tokens=fields["max_completion_tokens"],
        schema=schema,
        json_object=json_object,
        prompt_tokens=sum(map(count_tokens, [fields["instructions"], *texts])),
    )
    return prompt, outcomes


def _store_ids(owner: Json) -> list[str]:
    ids: list[str] = ((owner.get("tool_resources") or {}).get("file_search") or {}).get(
        "vector_store_ids"
    ) or []
    return ids


def _searchable(message: Json) -> list[str]:
    return [
        attachment["file_id"]
        for attachment in message["attachments"] or []
        if any(tool.get("type") == "file_search" for tool in attachment.get("tools") or [])
    ]


def end_fields(run: Run, status: str, usage: Json) -> Json:
    """Return the fields of the run object that its end sets."""
    at = int(run.state.plan.marks[-1][0])
    ended: Json = {"status": status, "usage": usage, "required_action": None, "expires_at": None}
    match status:
        case "completed":
            ended["completed_at"] = at
        case "failed":
            ended |= {"failed_at": at, "last_error": error_of(run.state.outcome)}
        case "cancelled":
            ended["cancelled_at"] = at
        case "expired":
            ended["expires_at"] = int(run.state.plan.expires_at)
        case "incomplete":
            reason = (
                run.state.outcome.arg if run.state.outcome.name == "incomplete" else "max_completion_tokens"
            )
            ended |= {"completed_at": at, "incomplete_details": {"reason": reason}}
    started = run.state.plan.passed("in_progress", at + 1)
    return ended | {"started_at": None if started is None else int(started)}
