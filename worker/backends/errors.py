"""Every way a request can go wrong, as one `ApiError`: what was said, how long to wait, whether it was sent.

    reply with a status ≥ 400                     status, code, type, message, param, retry_after_s
    reply with 200 that is not JSON               status 200, code bad_reply
    redirect, never followed                      status, code redirected
    proxy that refuses or wants a password        code proxy_refused, sent False
    refused connection, DNS, TLS, connect timeout no status, sent False: nothing can have been carried out
    reset, EOF before or within the reply,
    read timeout                                  no status, sent True: it may have been carried out

The SDK's aiohttp transport reports a lost connection as a *connect* timeout (openai 3.54,
`_vendor/httpx_aiohttp/transport.py`: `ClientConnectionError` → `ConnectTimeout`), so what happened is read
from aiohttp's own exception below it.
"""

from collections.abc import Awaitable, Mapping
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from re import compile as regex
from typing import Any, TypeVar

import aiohttp
import openai
import orjson

from askmill.jobs.openai_client.client import redact_api_text
from askmill.jobs.openai_client.redirects_and_proxies import (
    PROXY_REFUSED,
    PROXY_WANTS_PASSWORD,
    REDIRECTED,
    is_redirect,
    proxy_fault,
    redirection,
    redirection_of,
    refused_by_proxy,
)
from askmill.worker.lifecycle.api_types import ApiError

Told = TypeVar("Told")
SPAN = regex(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
NESTED = 4
"""How deep error objects have been seen to lie in one another, and one more."""
NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.ClientHttpProxyError,
)
"""Raised before the first byte of a request is written."""


async def told(call: Awaitable[Told], secret: str = "", api_client: openai.AsyncOpenAI | None = None) -> Told:
    """Await a request of the SDK or of aiohttp; whatever it raises comes out as `ApiError`.

    With `api_client`, the one that asks, faults of its proxy and redirects are told in full.
    """
    try:
        return await call
    except (openai.OpenAIError, aiohttp.ClientError, OSError, JSONDecodeError) as error:
        # The chain below holds the request with its credentials.
        raise (_fault_on_the_way(error, api_client) or fault_of(error, secret)) from None


def _fault_on_the_way(error: BaseException, api_client: openai.AsyncOpenAI | None) -> ApiError | None:
    """A redirect or a fault of the proxy: about the way to the API, not about what was asked."""
    if api_client is None or isinstance(error, ApiError):
        return None
    if isinstance(error, openai.APIStatusError) and is_redirect(error.status_code):
        return _redirected(error.status_code, redirection_of(error, api_client), api_client)
    words = proxy_fault(error, api_client)
    if words is None:
        return None
    refused = getattr(
        _network_error(error), "status", 407 if isinstance(error, openai.APIStatusError) else None
    )
    code = PROXY_REFUSED if refused is not None and refused < 500 else "not_connected"
    return ApiError(None, code=code, message=redact_api_text(words, api_client.api_key), sent=False)


def fault_without_answer(
    status: int, asked: str, location: str | None, api_client: openai.AsyncOpenAI
) -> ApiError | None:
    """The fault of a GET that got a redirect, or a proxy's refusal in the API's place; None for any other."""
    if is_redirect(status):
        return _redirected(status, redirection(api_client, "GET", asked, status, location), api_client)
    if status == PROXY_WANTS_PASSWORD:
        return ApiError(None, code=PROXY_REFUSED, message=refused_by_proxy(status, api_client), sent=False)
    return None


def _redirected(status: int, words: str, api_client: openai.AsyncOpenAI) -> ApiError:
    return ApiError(status, code=REDIRECTED, message=redact_api_text(words, api_client.api_key))


def fault_of(error: BaseException, secret: str = "") -> ApiError:
    """The fault that an exception of the SDK or of aiohttp stands for."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, openai.APIStatusError):
        reply = error.response
        return fault_of_reply(reply.status_code, reply.headers, reply.content, secret)
    if isinstance(error, openai.APIResponseValidationError | JSONDecodeError):
        return bad_reply(getattr(error, "status_code", 200), str(error), secret)
    network = _network_error(error)
    words = redact_api_text(str(network) or type(network).__name__, secret)
    sent = not isinstance(network, NEVER_SENT)
    return ApiError(status=None, code=_network_code(network), message=words, sent=sent)


def fault_of_reply(status: int, headers: Mapping[str, str], body: bytes, secret: str = "") -> ApiError:
    """The fault that a reply with an error status stands for.

    `body` is OpenAI's `{"error": {message, type, param, code}}`, or whatever a proxy or another server sends.
    """
    error = _error_object(body)
    return _fault(
        status, error, error.get("message") or body[:300].decode("utf-8", "replace"), headers, secret
    )


def fault_within(reply: Mapping[str, Any], headers: Mapping[str, str], secret: str = "") -> ApiError | None:
    """The fault that an error object in a reply with status 200 stands for; None where the reply is none.

    A number as its code is the status that the server behind has answered with.
    """
    if not reply.get("error") or "status" in reply or reply.get("object", "error") != "error":
        return None
    error = error_in(reply)
    code = str(error.get("code"))
    status = int(code) if code.isdecimal() and 400 <= int(code) < 600 else 200
    return _fault(status, error, error.get("message") or str(dict(reply))[:300], headers, secret)


def _fault(
    status: int, error: Mapping[str, Any], message: Any, headers: Mapping[str, str], secret: str
) -> ApiError:
    return ApiError(
        status=status,
        code=_text(error.get("code")),
        type=_text(error.get("type")),
        message=redact_api_text(str(message).strip(), secret),
        param=_text(error.get("param")),
        retry_after_s=retry_after_s(headers, limited=status == 429),
    )


def bad_reply(status: int, what: str, secret: str = "") -> ApiError:
    """A reply that cannot be understood although its status says that all is well."""
    return ApiError(status=status, code="bad_reply", message=redact_api_text(what[:300], secret))


def retry_after_s(headers: Mapping[str, str], *, limited: bool) -> float | None:
    """How long the server asks us to wait, or None.

    Retry-After-Ms and Retry-After (seconds, or an HTTP date, counted from the reply's own Date) first; the
    x-ratelimit-reset-* headers stand on every reply of OpenAI's and mean a wait only on a 429 (`limited`).
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value and (wait_s := _number(value)) is not None:
            return max(0.0, wait_s * unit_s)
    until, now = _date(headers.get("retry-after", "")), _date(headers.get("date", ""))
    if until is not None and now is not None:
        return max(0.0, until - now)
    return _reset_s(headers) if limited else None


def _reset_s(headers: Mapping[str, str]) -> float | None:
    kinds = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-reset-{kind}")]
    used_up = [kind for kind in kinds if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    waits = [_span_s(headers[f"x-ratelimit-reset-{kind}"]) for kind in used_up or kinds]
    return max((wait for wait in waits if wait is not None), default=None)


def _span_s(text: str) -> float | None:
    """Seconds of OpenAI's notation: `1s`, `6m0s`, `20ms`, `1h2m3.5s`; plain numbers are seconds."""
    found = SPAN.findall(text)
    if not found:
        return _number(text)
    return float(sum(float(number) * SECONDS[unit] for number, unit in found))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _error_object(body: bytes) -> dict[str, Any]:
    """The error object of a reply; empty where there is none."""
    try:
        return error_in(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def error_in(reply: Any) -> dict[str, Any]:
    """The innermost error object.

    Compatible servers send it bare, as text, in a list, within another one, or under `detail`.
    """
    found: Any = reply[0] if isinstance(reply, list) and reply else reply
    for _ in range(NESTED):
        if not isinstance(found, dict):
            return {}
        inner = found.get("error") or (None if found.get("message") else found.get("detail"))
        if isinstance(inner, str):
            return {**found, "message": inner}
        if not isinstance(inner, dict):
            break
        found = {"code": found.get("code"), "type": found.get("type"), **inner}
    return dict(found)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _network_error(error: BaseException) -> BaseException:
    """The exception of aiohttp below the SDK's, else a timeout's, else the SDK's."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, aiohttp.ClientError | TimeoutError):
            return below
        below = below.__cause__ or below.__context__
    return error


def _network_code(error: BaseException) -> str:
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return "timeout"
    return "not_connected" if isinstance(error, NEVER_SENT) else "connection_lost"
