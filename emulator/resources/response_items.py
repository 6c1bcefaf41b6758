"""Items of the Responses API: parse input to its stored form, and write an answer as output items."""

import base64
from dataclasses import dataclass
from typing import Any

from askmill.emulator.protocol.ids import new_id
from askmill.emulator.protocol.routing import Json
from askmill.emulator.protocol.validation import bad_field
from askmill.emulator.resources.containers import Containers
from askmill.emulator.simulation.answer import Answer
from askmill.emulator.simulation.file_search import Passage, cited_positions
from askmill.emulator.simulation.prompt import Prompt, Turn

_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
    "file_search_call": "fs_",
    "web_search_call": "ws_",
    "code_interpreter_call": "ci_",
}
_TEXTS = frozenset({"input_text", "output_text", "text"})


def parse_input(value: Any) -> list[Json]:
    """`input` or `items` of a request as items with ids; 400 for what is no item."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    return [_stored(item, i) for i, item in enumerate(value)]


def _stored(item: Any, i: int) -> Json:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind not in _PREFIXES:
        supported = ", ".join(f"'{name}'" for name in _PREFIXES)
        message = f"Invalid value: '{kind}'. Supported values are: {supported}."
        raise bad_field(message, f"input[{i}].type", "invalid_value")
    stored: Json = {"id": new_id(_PREFIXES[kind]), "type": kind, "status": "completed"} | item
    if kind == "message":
        for name in ("role", "content"):
            if name not in item:
                param = f"input[{i}].{name}"
                raise bad_field(
                    f"Missing required parameter: '{param}'.", param, "missing_required_parameter"
                )
        stored["content"] = _contents(item["content"], item["role"])
    return stored


def _contents(content: Any, role: str) -> list[Json]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [_part(part, role) for part in parts]


def _part(part: Json, role: str) -> Json:
    if part.get("type") not in _TEXTS:
        return {"detail": "auto", **part} if part.get("type") == "input_image" else part
    if role == "assistant":
        return {"annotations": [], "logprobs": []} | part | {"type": "output_text"}
    return {"type": "input_text", "text": part.get("text", "")}


def text_of(item: Json) -> str:
    """All text of a message item; of other items nothing."""
    if item["type"] != "message":
        return ""
    return "\n".join(part.get("text", "") for part in item["content"] if part["type"] in _TEXTS)


def message_turns(items: list[Json]) -> list[Turn]:
    """The messages among the items."""
    return [
        Turn(
            item["role"],
            text_of(item),
            truncated=item["role"] == "assistant" and item["status"] == "incomplete",
        )
        for item in items
        if item["type"] == "message"
    ]


def open_call_ids(items: list[Json]) -> list[str]:
    """The call ids of function calls without an output."""
    answered = {item["call_id"] for item in items if item["type"] == "function_call_output"}
    return [i["call_id"] for i in items if i["type"] == "function_call" and i["call_id"] not in answered]


def count_turn_outputs(items: list[Json]) -> int:
    """Count the function outputs since the last user message."""
    kinds = ["user" if item.get("role") == "user" else item["type"] for item in items]
    since = len(kinds) - kinds[::-1].index("user") if "user" in kinds else 0
    return kinds[since:].count("function_call_output")


@dataclass(frozen=True, slots=True)
class ItemWriter:
    """Writes the output items of one response. `container_id`: where its code ran; empty if none did."""

    prompt: Prompt
    answer: Answer
    calls: list[Json]
    containers: Containers
    container_id: str
    at: float

    def items(self) -> list[Json]:
        """In the order in which they were items."""
        items = [*self._tools(), *self._calls()]
        if self.answer.refusal:
            return [*items, _message([{"type": "refusal", "refusal": self.answer.refusal}], "completed")]
        status = "incomplete" if self.answer.truncated else "completed"
        last = len(self.answer.messages) - 1
        return [
            *items,
            *(
                _message([self._text_part(text, i == last)], status)
                for i, text in enumerate(self.answer.messages)
            ),
        ]

    def _tools(self) -> list[Json]:
        answer = self.answer
        items: list[Json] = []
        if answer.used_reasoning:
            items.append({"id": new_id("rs_"), "type": "reasoning", "summary": []})
        if answer.passages is not None:
            results = [_result(passage) for passage in answer.passages]
            items.append(_tool("fs_", "file_search_call", queries=[self.prompt.question], results=results))
        if answer.used_web_search:
            action = {
                "type": "search",
                "query": self.prompt.question,
                "queries": [self.prompt.question],
                "sources": [{"type": "url", "url": "https://example.org/"}],
            }
            items.append(_tool("ws_", "web_search_call", action=action))
        if answer.unlinked_file is not None:
            self.containers.add_file(
                self.container_id, answer.unlinked_file.name, answer.unlinked_file.content, self.at
            )
        if answer.code is not None:
            items.append(
                _tool(
                    "ci_",
                    "code_interpreter_call",
                    container_id=self.container_id,
                    code=answer.code,
                    outputs=_outputs(answer),
                )
            )
        return items

    def _calls(self) -> list[Json]:
        return [
            _tool("fc_", "function_call", call_id=call["id"], name=call["name"], arguments=call["arguments"])
            for call in self.calls
        ]

    def _text_part(self, text: str, last: bool) -> Json:
        annotations: list[Json] = []
        answer = self.answer
        if last and answer.passages:
            text, places = cited_positions(text, answer.passages, often=answer.dense_citations)
            annotations += [
                {"type": "file_citation", "index": at, "file_id": best.file_id, "filename": best.filename}
                for at, best in places
            ]
        if last and answer.used_web_search:
            annotations.append(
                {
                    "type": "url_citation",
                    "url": "https://example.org/",
                    "title": "Example",
                    "start_index": 0,
                    "end_index": len(text),
                }
            )
        for file in (answer.linked_file, answer.image):
            if last and file is not None:
                before = f"{text}\n\n[Download {file.name}]("
                link = f"sandbox:/mnt/data/{file.name}"
                text = f"{before}{link})"
                stored = self.containers.add_file(self.container_id, file.name, file.content, self.at)
                annotations.append(
                    {
                        "type": "container_file_citation",
                        "container_id": self.container_id,
                        "file_id": stored["id"],
                        "filename": file.name,
                        "start_index": len(before),
                        "end_index": len(before) + len(link),
                    }
                )
        return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def visible_items(items: list[Json], include: list[str]) -> list[Json]:
    """Items as the API shows them: results and outputs of tools only when `include` asks."""
    if "web_search_call.action.sources" not in include:
        items = [_without_sources(item) if item["type"] == "web_search_call" else item for item in items]
    hidden = []
    if "file_search_call.results" not in include:
        hidden.append(("file_search_call", "results"))
    if "code_interpreter_call.outputs" not in include:
        hidden.append(("code_interpreter_call", "outputs"))
    return [
        item | {name: None for kind, name in hidden if item["type"] == kind} if _is_tool(item) else item
        for item in items
    ]


def _without_sources(item: Json) -> Json:
    return item | {"action": {name: value for name, value in item["action"].items() if name != "sources"}}


def _is_tool(item: Json) -> bool:
    return item["type"] in {"file_search_call", "code_interpreter_call"}


def _message(content: list[Json], status: str) -> Json:
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def _tool(prefix: str, kind: str, **fields: Any) -> Json:
    return {"id": new_id(prefix), "type": kind, "status": "completed", **fields}


def _result(passage: Passage) -> Json:
    return {
        "file_id": passage.file_id,
        "filename": passage.filename,
        "score": passage.score,
        "text": passage.text,
        "attributes": {},
    }


def _outputs(answer: Answer) -> list[Json]:
    outputs: list[Json] = [{"type": "logs", "logs": answer.logs or ""}]
    if answer.image is not None:
        picture = base64.b64encode(answer.image.content).decode()
        outputs.append({"type": "image", "url": f"data:image/png;base64,{picture}"})
    return outputs
