"""Finds out which of the APIs a server offers, with reads alone: nothing is created, nothing is paid.

An API counts only by its own shape, because servers of chat completions answer the other paths as well:

Assistants   `GET /assistants` returns a list of assistants
Responses    `GET /responses/ID` and `GET /conversations/ID` both answer 404 and name the made-up id
chat         `GET /models` returns a list, or `GET /chat/completions` is refused for its method

A server that shows none of them may still have one: chat completions are assumed: gateways and small servers
often have that one path only. A redirect, an error, a web page or an API below /v1 is a fault instead.

vLLM without its store answers `GET /responses/ID` with a 404 that names the id, and has no conversations;
Ollama, llama.cpp and FastAPI answer paths that they do not have with a 404, LM Studio with a 200.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
from openai import APIStatusError, AsyncOpenAI, OpenAIError
from openai._types import RequestOptions

from askmill.config.text import one_line
from askmill.jobs.model.api_errors import ErrorReport, overloaded
from askmill.jobs.model.errors import ApiUnavailable, KeyRefused
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.client import (
    API_NAMES,
    describe_error,
    error_message,
    redact_api_text,
    to_error_report,
)

BETA = {"OpenAI-Beta": "assistants=v2"}
CONVERSATION, RESPONSE = "conv_askmill_doctor", "resp_askmill_doctor"
"""Ids that no server has."""
NO_ROUTE = re.compile(r"invalid url|unknown request url", re.IGNORECASE)
WRONG_METHOD = frozenset({400, 405, 415, 422})
"""Replies to GET of a path that takes only POST."""
BUSY = frozenset({408, 429, 502, 503, 504})
BUSY_WAITS_S = (0.5, 1.0)
"""A busy server's reply does not show what it offers: the request is repeated after these waits."""
SHOWN_MODELS = 5


@dataclass(frozen=True)
class Offer:
    """What a server offers. `apis` is in the order in which askmill prefers them.

    `replies` has each request with what came. `refusal` is the first reply that is no 404, such as a 401.
    `web_page`: a path of the API answered with something else than JSON. `assumed`: no API has shown itself,
    and `apis` is what `require_offer` assumes.
    """

    apis: tuple[Api, ...]
    models: tuple[str, ...]
    replies: tuple[str, ...]
    refusal: APIStatusError | None
    web_page: bool = False
    assumed: bool = False


async def find_offer(api_client: AsyncOpenAI, *, first: bool = False) -> Offer:
    """Ask which APIs the server offers; with `first`, stop at the first one.

    Raises OpenAIError if the server cannot be reached.
    """
    survey = _Survey(api_client)
    apis = list[Api]()
    if await survey.shows_assistants():
        apis.append("assistants")
    if not (first and apis) and await survey.shows_responses():
        apis.append("responses")
    if not (first and apis) and await survey.shows_chat():
        apis.append("chat")
    return Offer(tuple(apis), survey.models, tuple(survey.replies), survey.refusal, survey.web_page)


async def require_offer(api_client: AsyncOpenAI, *, first: bool = False) -> Offer:
    """`find_offer`, with at least one API: chat completions if none is found.

    Raises ApiUnavailable: the server cannot be reached, or is certainly no API at this address; KeyRefused.
    """
    try:
        offer = await find_offer(api_client, first=first)
        if offer.apis:
            return offer
        if offer.refusal is not None:
            kind = KeyRefused if offer.refusal.status_code in {401, 403} else ApiUnavailable
            raise kind(describe_error(offer.refusal, api_client))
        if (advice := await _address_advice(offer, api_client)) is not None:
            raise ApiUnavailable(f"{nothing_found(offer, api_client)} {advice}")
        return replace(offer, apis=("chat",), assumed=True)
    except OpenAIError as error:
        raise ApiUnavailable(describe_error(error, api_client)) from None


async def listed_models(api_client: AsyncOpenAI) -> tuple[str, ...]:
    """The models that the server lists, if any. Raises OpenAIError if it cannot be reached."""
    survey = _Survey(api_client)
    await survey.shows_chat()
    return survey.models


async def what_is_offered(api_client: AsyncOpenAI, api: Api) -> str:
    """A sentence on what the server has in place of `api`; empty where nothing is found."""
    try:
        offer = await find_offer(api_client)
    except OpenAIError:
        return ""
    others = [f"{API_NAMES[other]} (ASKMILL_API={other})" for other in offer.apis if other != api]
    return f"This server offers {' and '.join(others)}." if others else ""


def names_missing_object(report: ErrorReport, object_id: str) -> bool:
    """Whether a 404 is about the object, not about the path: it names the id, and not within a path."""
    if NO_ROUTE.search(report.message):
        return False
    return re.search(rf"(?<![/\w]){object_id}", report.message) is not None


def models_text(models: Sequence[str]) -> str:
    """The first models of a list, as `a, b and 7 more`."""
    shown = [one_line(name, 60) for name in models[:SHOWN_MODELS]]
    more = len(models) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


class _Survey:
    """The requests to one server, and what they have shown."""

    def __init__(self, api_client: AsyncOpenAI) -> None:
        self._client = api_client
        self.models: tuple[str, ...] = ()
        self.replies: list[str] = []
        self.refusal: APIStatusError | None = None
        self.web_page = False

    async def shows_assistants(self) -> bool:
        reply = await self._get("/assistants", {"limit": 1}, BETA)
        listed = _field(reply, "data")
        named = _field(reply, "object") == "list" or bool(listed)
        return (
            named and isinstance(listed, list) and all(_field(one, "object") == "assistant" for one in listed)
        )

    async def shows_responses(self) -> bool:
        for path, object_id in (
            (f"/responses/{RESPONSE}", RESPONSE),
            (f"/conversations/{CONVERSATION}", CONVERSATION),
        ):
            reply = await self._get(path)
            absent = isinstance(reply, APIStatusError) and reply.status_code == 404
            if not absent or not names_missing_object(to_error_report(reply), object_id):
                return False
        return True

    async def shows_chat(self) -> bool:
        reply = await self._get("/models")
        if isinstance(reply, APIStatusError) and overloaded(to_error_report(reply)):
            return True  # a model that is being loaded: llama.cpp
        models = _models_in(reply)
        if models is not None:
            self.models = models
            return True
        reply = await self._get("/chat/completions")
        return isinstance(reply, APIStatusError) and reply.status_code in WRONG_METHOD

    async def _get(
        self, path: str, params: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON of the reply, the error of a refusal, or None for what is no JSON. Notes what came."""
        options: RequestOptions = {"params": dict(params or {}), "headers": dict(headers or {})}
        request = f"GET {urlsplit(str(self._client.base_url)).path.rstrip('/')}{path}"
        for wait_s in (*BUSY_WAITS_S, None):
            try:
                reply = await self._client.get(path, cast_to=httpx2.Response, options=options)
            except APIStatusError as refused:
                if (
                    wait_s is not None
                    and refused.status_code in BUSY
                    and not overloaded(to_error_report(refused))
                ):
                    await asyncio.sleep(wait_s)
                    continue
                words = one_line(error_message(refused, self._client), 100)
                self.replies.append(f"{request}: {refused.status_code} {words}")
                if refused.status_code not in {404, *WRONG_METHOD} and self.refusal is None:
                    self.refusal = refused
                return refused
            data = _json(reply.content)
            self.web_page |= data is None
            text = redact_api_text(reply.text, self._client.api_key)
            self.replies.append(f"{request}: {reply.status_code} {one_line(text, 60)}")
            return data
        raise AssertionError("the last try returns")


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _models_in(reply: Any) -> tuple[str, ...] | None:
    """The names in a list of models; None if it is no such list.

    Together sends a bare list, Ollama without a model `"data": null`.
    """
    if isinstance(reply, dict) and "data" in reply:
        reply = reply["data"] or [] if reply.get("object", "list") == "list" else None
    if not isinstance(reply, list) or not all(isinstance(_field(one, "id"), str) for one in reply):
        return None
    return tuple(one["id"] for one in reply)


def nothing_found(offer: Offer, api_client: AsyncOpenAI) -> str:
    """What was asked of a server that shows no API, and what came."""
    base_url = str(api_client.base_url).rstrip("/")
    return (
        f"The server at {base_url} shows none of the APIs that askmill uses. Asked and answered: "
        f"{'; '.join(offer.replies)}."
    )


async def _address_advice(offer: Offer, api_client: AsyncOpenAI) -> str | None:
    """What to set where the address is certainly wrong, else None."""
    base_url = str(api_client.base_url).rstrip("/")
    if not base_url.endswith("/v1"):
        there = api_client.with_options(base_url=f"{base_url}/v1")
        if await _Survey(there).shows_chat():
            return f"It answers below /v1: set OPENAI_BASE_URL={base_url}/v1."
    if offer.web_page:
        return "Check OPENAI_BASE_URL, which often ends in /v1; or set ASKMILL_API if you know the API."
    return None
