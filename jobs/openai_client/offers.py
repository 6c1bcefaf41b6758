"""Checks with free requests that a server offers the API of the settings: for `doctor`."""

from collections.abc import Awaitable, Callable

import httpx2
from openai import APIStatusError, AsyncOpenAI, NotFoundError, OpenAIError, RateLimitError
from openai._types import RequestOptions

from askmill.jobs.model.api_errors import money_refused
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.client import describe_error, to_error_report
from askmill.jobs.openai_client.connection_errors import is_redirect
from askmill.jobs.openai_client.find_offer import (
    BETA,
    CONVERSATION,
    RESPONSE,
    names_missing_object,
    what_is_offered,
)

CREATES: dict[Api, tuple[str, ...]] = {
    "assistants": ("/threads", "/threads/thread_askmill_doctor/runs"),
    "responses": ("/conversations", "/responses"),
    "chat": ("/chat/completions",),
}
"""The paths where a row's free and paid objects are created."""
ABSENT = frozenset({404, 405, 501})
"""Statuses of a path that a server does not have."""


async def probe(api_client: AsyncOpenAI, api: Api) -> None:
    """Check with free requests that the API answers. Raises ApiUnavailable with the next step.

    A rate limit counts as available; an exhausted quota does not.
    """
    try:
        await PROBES[api](api_client)
        await _probe_creates(api_client, api)
    except OpenAIError as error:
        if isinstance(error, RateLimitError) and not money_refused(to_error_report(error)):
            return
        message = describe_error(error, api_client, api)
        if isinstance(error, APIStatusError) and error.status_code in ABSENT:
            message = f"{message} {await what_is_offered(api_client, api)}".rstrip()
        raise ApiUnavailable(message) from None


async def _probe_chat(api_client: AsyncOpenAI) -> None:
    """The body is a list, which no server answers; a server without the path says so."""
    try:
        await api_client.post("/chat/completions", cast_to=httpx2.Response, body=[])
    except APIStatusError as refused:
        if refused.status_code not in {400, 413, 415, 422, 429, 500}:
            raise


async def _probe_assistants(api_client: AsyncOpenAI) -> None:
    await api_client.get(
        "/assistants", cast_to=httpx2.Response, options={"params": {"limit": 1}, "headers": BETA}
    )


async def _probe_responses(api_client: AsyncOpenAI) -> None:
    """Neither can be listed: request one that does not exist and check who answers 404."""
    await api_client.get("/models", cast_to=httpx2.Response)
    await _probe_path(api_client, f"/responses/{RESPONSE}", RESPONSE)
    await _probe_path(api_client, f"/conversations/{CONVERSATION}", CONVERSATION)


PROBES: dict[Api, Callable[[AsyncOpenAI], Awaitable[None]]] = {
    "assistants": _probe_assistants,
    "responses": _probe_responses,
    "chat": _probe_chat,
}


async def _probe_path(api_client: AsyncOpenAI, path: str, object_id: str) -> None:
    """Raises the server's error unless it shows that the path exists."""
    try:
        await api_client.get(path, cast_to=httpx2.Response)
    except NotFoundError as absent:
        if not names_missing_object(to_error_report(absent), object_id):
            raise
    except APIStatusError as refused:
        # Servers that validate ids answer 400: the endpoint exists.
        if refused.status_code not in {400, 422}:
            raise


async def _probe_creates(api_client: AsyncOpenAI, api: Api) -> None:
    """Check that creates are not redirected: some servers redirect a POST but answer a GET.

    The body is a list, from which no server creates anything. Every reply except a redirect is ignored.
    """
    options: RequestOptions = {"headers": BETA if api == "assistants" else {}}
    for path in CREATES[api]:
        try:
            await api_client.post(path, cast_to=httpx2.Response, body=[], options=options)
        except APIStatusError as refused:
            if is_redirect(refused.status_code):
                raise
