"""A reply of the API: one JSON object with its headers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import orjson

from askmill.jobs.openai_client.reply_limits import ReplyTooLarge, check_values
from askmill.worker.backends.coerce import Json, identifier, parse_date, parse_number
from askmill.worker.backends.errors import bad_reply, error_from_reply, error_in_ok_reply
from askmill.worker.lifecycle.api_types import TOO_LARGE, ApiError, Run

MAX_INT_DIGITS = 19
"""Whole numbers with fewer digits fit into 64 bits."""
MAX_POLL_HINT_MS = 86_400_000.0
"""One day. A longer hint is ignored."""


@dataclass(frozen=True)
class Reply:
    """A JSON object of the API with the headers of its reply."""

    data: Json
    headers: Mapping[str, str]
    size: int = 0
    """Bytes of its body."""

    @property
    def poll_after_s(self) -> float | None:
        """The server's hint when to poll again. The SDK reads only the first hint; askmill reads each."""
        hint_ms = parse_number(self.headers.get("openai-poll-after-ms"), MAX_POLL_HINT_MS)
        return None if hint_ms is None else hint_ms / 1000

    def timed(self, run: Run) -> Run:
        """Return the run of this reply with what the headers say: when to poll again, and how old it is."""
        server_time = parse_date(self.headers.get("date"))
        age_s = None if run.created_at is None or server_time is None else server_time - run.created_at
        return replace(run, poll_after_s=self.poll_after_s, age_s=age_s)

    def created_id(self, kind: str) -> str:
        """The id of a created object; `kind` names it in the error. Raises ApiError `bad_reply`."""
        id_ = identifier(self.data.get("id"))
        if id_ is None:
            raise bad_reply(200, f"the created {kind} has no id")
        return id_


def parse_reply(status: int, headers: Mapping[str, str], body: bytes, secret: str = "") -> Reply:
    """Parse a reply that must be a JSON object.

    Raises:
        ApiError: The server's error, also under status 200; `bad_reply` for anything but a JSON object.
    """
    if status >= 400:
        raise error_from_reply(status, headers, body, secret)
    try:
        check_values(body)
        data = parse_json(body)
    except ReplyTooLarge as error:
        raise ApiError(status, code=TOO_LARGE, message=str(error)) from None
    except (ValueError, RecursionError):
        raise bad_reply(status, f"not JSON: {body[:2000].decode('utf-8', 'replace')}", secret) from None
    if not isinstance(data, dict):
        raise bad_reply(status, f"not a JSON object: {type(data).__name__}")
    if (error_in_reply := error_in_ok_reply(data, headers, secret)) is not None:
        raise error_in_reply
    return Reply(data, headers, len(body))


def parse_json(body: bytes) -> Any:
    """Parse JSON; half a surrogate pair becomes U+FFFD, and what is no finite number (NaN) null.

    Servers send half a pair when an answer is cut within an emoji. It is not a character, so it could neither
    be stored nor written to a file. Python servers write NaN and Infinity, for example in logprobs.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = json.dumps(_lenient_json(body.decode("utf-8", "replace")), ensure_ascii=False)
        return orjson.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _lenient_json(text: str) -> Any:
    return json.loads(
        text, parse_constant=lambda _: None, parse_float=_finite_number, parse_int=_finite_number
    )


def _finite_number(digits: str) -> float | None:
    """A number of JSON that orjson reads; None for one that is too large."""
    number = int(digits) if len(digits) < MAX_INT_DIGITS and digits.lstrip("-").isdecimal() else float(digits)
    return number if isfinite(number) else None
