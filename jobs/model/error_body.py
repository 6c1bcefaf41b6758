"""Reads the body of an error reply in every shape that servers send. Pure.

{"error": {message, type, param, code}}                     OpenAI and most others
{"object": "error", message, type, code}                    SGLang, Mistral
[{"error": …}]                                              Gemini's compatible address
{"error": "text"}, {"detail": "text"}, "text"               LM Studio, TGI, FastAPI, a bare string
{"detail": [{"loc": ["body", …], "msg": …}]}                FastAPI's validation: path and words of each fault
{"error": {"message", "details": {"error_code": …}}}        gateways: the code is deeper
<html>…</html>                                              a proxy or a firewall
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import orjson

from askmill.config.text import redacted_start
from askmill.jobs.model.nested_errors import delay_in_details_s, nested_codes

Json = dict[str, Any]

MAX_NESTING = 4
"""Three levels of error objects within one another have been seen."""
MAX_BODY_TEXT = 300
MAX_FAULTS = 5
"""Faults of a validation that are named."""
MAX_CODES = 8
MAX_CODE = 500
"""Characters that are kept of a code, a type and a parameter."""
_HEAD_END = re.compile(r"</head\b", re.IGNORECASE)
_TAGS = re.compile(
    r"<(script|style)\b.*?(?:</\1\b[^<>]*>?|\Z)|<!--.*?(?:-->|\Z)|</?[a-z!?][^<>]*(?:>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
"""Each alternative matches wherever it begins, so that a page of nothing but beginnings is read once."""
_TITLE = re.compile(r"<title\b[^<>]*>([^<]*)", re.IGNORECASE)
_MAX_PAGE = 20_000
"""Characters of a page that are read."""


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The fields of an error reply's body."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    nested_codes: tuple[str, ...] = ()
    wait_s: float | None = None
    """The wait named in the details (Google)."""
    page: bool = False
    """The body is a page for people: a proxy or a firewall sent it, not the API."""


def parse_error_body(body: bytes) -> ErrorBody:
    """The error in the body of a reply; a body that is not JSON is its own message."""
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:_MAX_PAGE].decode("utf-8", "replace")
        page = text.lstrip()[:1] == "<"
        return ErrorBody(_page_text(text) if page else redacted_start(text.strip(), MAX_BODY_TEXT), page=page)
    if isinstance(reply, str):
        return ErrorBody(reply.strip())
    fields = read_error(reply)
    if fields.message:
        return fields
    return replace(fields, message=redacted_start(body[:_MAX_PAGE].decode("utf-8", "replace"), MAX_BODY_TEXT))


def read_error(reply: Any) -> ErrorBody:
    """The error in a parsed reply; its message is empty where the reply has no words."""
    data = innermost_error(reply)
    codes = nested_codes(reply[0] if isinstance(reply, list) and reply else reply)
    own = {str(data.get("code")), str(data.get("type"))}
    message = data.get("message")
    return ErrorBody(
        message="" if message is None else str(message).strip(),
        code=_optional_text(data.get("code")),
        type=_optional_text(data.get("type")),
        param=_optional_text(data.get("param")),
        nested_codes=tuple(code for code in codes if code not in own)[:MAX_CODES],
        wait_s=delay_in_details_s(data),
    )


def innermost_error(reply: Any) -> Json:
    """The innermost error object of a reply; empty where there is none."""
    data: Any = reply[0] if isinstance(reply, list) and reply else reply
    for _ in range(MAX_NESTING):
        if not isinstance(data, dict):
            return {}
        inner = data.get("error") or (None if data.get("message") else data.get("detail"))
        if isinstance(inner, str):
            return {**data, "message": inner}
        if isinstance(inner, list):
            return {**data, **_validation(inner)}
        if not isinstance(inner, dict):
            break
        data = {"code": data.get("code"), "type": data.get("type"), **inner}
    return dict(data)


def _validation(faults: list[Any]) -> Json:
    """FastAPI's faults as one message; the parameter is that of the first."""
    texts, param = [], None
    for fault in faults[:MAX_FAULTS]:
        if isinstance(fault, dict):
            place = fault.get("loc")
            path = ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
            param = param or path or None
            words = str(fault.get("msg") or fault.get("message") or "")
            texts.append(f"{path}: {words}" if path else words)
        else:
            texts.append(str(fault))
    return {"message": "; ".join(text for text in texts if text), "param": param}


def _page_text(page: str) -> str:
    """The words of a page: its title and what a person would read."""
    title, head_end = _TITLE.search(page), _HEAD_END.search(page)
    words = " ".join(_TAGS.sub(" ", page[head_end.start() :] if head_end else page).split())
    heading = " ".join(title[1].split()) if title else ""
    text = words if not heading or words.startswith(heading) else f"{heading}: {words}"
    return redacted_start(text or "a page without words", MAX_BODY_TEXT)


def _optional_text(value: Any) -> str | None:
    return None if value is None else redacted_start(str(value), MAX_CODE)
