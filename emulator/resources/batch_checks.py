"""The check of a batch's input file: as a whole, every faulty line named, nothing carried out. Pure."""

from typing import Any

import orjson

from askmill.emulator.protocol.batch_errors import (
    FAULTS_SHOWN,
    bad_json_line,
    duplicate_id,
    empty_file,
    missing_parameter,
    other_method,
    other_model,
    other_url,
    streamed,
    too_many_lines,
    unknown_model,
)
from askmill.emulator.protocol.routing import Json
from askmill.emulator.simulation.answer import count_tokens


class FileCheck:
    """Takes the lines one after the other. `tokens`: what the file enqueues."""

    def __init__(self, endpoint: str, max_lines: int, bad_lines: tuple[str, ...] = ()) -> None:
        self._endpoint = endpoint
        self._bad_lines = [text.encode() for text in bad_lines]
        self._max_lines = max_lines
        self._custom_ids: set[str] = set()
        self._number = 0
        self.faults: list[Json] = []
        self.model: str | None = None
        self.total = 0
        self.tokens = 0

    def take(self, line: bytes) -> bool:
        """Check the next line; False when no more lines need to be read."""
        self._number += 1
        if not line.strip():
            return True
        self.total += 1
        if self.total > self._max_lines:
            self.faults = [too_many_lines(self._max_lines)]
            return False
        if fault := self._fault(line):
            self.faults.append(fault)
        return len(self.faults) < FAULTS_SHOWN

    def end(self) -> list[Json]:
        """The faults of the whole file."""
        if not self.total:
            return [empty_file()]
        return self.faults

    def _fault(self, line: bytes) -> Json | None:
        try:
            request = orjson.loads(line)
        except orjson.JSONDecodeError:
            return bad_json_line(self._number)
        if not isinstance(request, dict):
            return bad_json_line(self._number)
        if any(text in line for text in self._bad_lines):
            return missing_parameter("body.input", self._number)
        return self._fault_of_request(request) or self._fault_of_body(request["body"])

    def _fault_of_request(self, request: Json) -> Json | None:
        for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
            if not isinstance(request.get(name), kind) or not request[name]:
                return missing_parameter(name, self._number)
        custom_id = request["custom_id"]
        if custom_id in self._custom_ids:
            return duplicate_id(custom_id, self._number)
        self._custom_ids.add(custom_id)
        if request["method"] != "POST":
            return other_method(self._number)
        if request["url"] != self._endpoint:
            return other_url(request["url"], self._endpoint, self._number)
        return None

    def _fault_of_body(self, body: Json) -> Json | None:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            return missing_parameter("body.model", self._number)
        if model.startswith("no-such"):
            return unknown_model(model, self._number)
        self.model = self.model or model
        if model != self.model:
            return other_model(model, self._number)
        if body.get("stream"):
            return streamed(self._number)
        self.tokens += tokens_of(body)
        return None


def tokens_of(body: Json) -> int:
    """Tokens that a request enqueues: those of all its texts."""
    question = body.get("input") if "input" in body else body.get("messages")
    texts = [body.get("instructions"), *_texts(question)]
    return sum(count_tokens(text) for text in texts if isinstance(text, str))


def _texts(question: Any) -> list[Any]:
    if not isinstance(question, list):
        return [question]
    contents = [item.get("content") for item in question if isinstance(item, dict)]
    texts: list[Any] = []
    for content in contents:
        parts = content if isinstance(content, list) else [{"text": content}]
        texts.extend(part.get("text") for part in parts if isinstance(part, dict))
    return texts
