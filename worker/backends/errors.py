"""Translation of everything that can go wrong with a request into one `ApiError`.

    reply with a status ≥ 400                     status, code, type, message, param, retry_after_s
    reply with 200 that is not JSON               status 200, code bad_reply
    redirect, never followed                      status, code redirected
    proxy that refuses or wants a password        code proxy_refused, sent False
    refused connection, DNS, TLS, connect timeout no status, sent False: nothing can have been carried out
    reset, EOF before or within the reply,
    read timeout                                  no status, sent True: it may have been carried out

The SDK's aiohttp transport reports a lost connection as a *connect* timeout (openai 3.54,
`_vendor/httpx_aiohttp/transport.py`: `ClientConnectionError` → `ConnectTimeout`), so the cause is read from
the aiohttp exception below it.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from json import JSONDecodeError
from typing import Any

import aiohttp
import httpx2
import openai

from askmill.config.text import redacted_start
from askmill.jobs.model.error_body import MAX_BODY_TEXT, ErrorBody, parse_error_body, read_error
from askmill.jobs.openai_client.client import redact_api_text
from askmill.jobs.openai_client.connection_errors import (
    PROXY_REFUSED,
    PROXY_WANTS_PASSWORD,
    REDIRECTED,
    is_redirect,
    proxy_fault,
    redirection,
    redirection_of,
    refused_by_proxy,
)
from askmill.jobs.openai_client.reply_limits import ReplyTooLarge, UnknownEncoding, check_values
from askmill.worker.backends.coerce import MAX_ERROR_CHARACTERS, Json, parse_number
from askmill.worker.lifecycle.api_types import TOO_LARGE, ApiError

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_WAIT_S = 1e9
INVALID_REQUEST = frozenset({"invalid_request_error", "invalid_request", "bad_request", "INVALID_ARGUMENT"})
"""Codes and types that mean under status 200 too that nothing was carried out."""
NOT_CANCELLABLE = frozenset({400, 409})
"""Statuses of a cancel that came too late."""
NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
    aiohttp.ClientHttpProxyError,
)
"""Raised before the first byte of a request is written."""


MAX_BAD_REPLY_CHARACTERS = 300
MAX_SECRET_CHARACTERS = 1_000
"""No key is longer."""


OUT_OF_BOUNDS = (ReplyTooLarge, UnknownEncoding, zlib.error)
"""Raised while a reply is read, by the SDK inside a connection error of its own."""


STREAM_ERRORS = (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError, OSError, *OUT_OF_BOUNDS)
"""Raised while a streamed reply is read."""


@contextmanager
def translated_errors(request: str, api_client: openai.AsyncOpenAI) -> Iterator[None]:
    """Within the block, whatever goes wrong with one request is an ApiError that names it.

    Args:
        request: Such as `POST /conversations`.
        api_client: The client that sends it. Messages name its proxy and its redirect, and hide its key.
    """
    try:
        yield
    except ApiError as error:
        error.request = error.request or request
        raise
    except (openai.OpenAIError, aiohttp.ClientError, OSError, JSONDecodeError, *OUT_OF_BOUNDS) as error:
        failure = _redirect_or_proxy_error(error, api_client) or error_from_exception(
            error, api_client.api_key
        )
        failure.request = request
        # `from None`: the chain below holds the request with its credentials.
        raise failure from None


@contextmanager
def named_errors(request: str) -> Iterator[None]:
    """Within the block, name the request in each ApiError that does not name one."""
    try:
        yield
    except ApiError as error:
        error.request = error.request or request
        raise


def _redirect_or_proxy_error(error: BaseException, api_client: openai.AsyncOpenAI) -> ApiError | None:
    """The error of a redirect or a proxy, which concerns the connection rather than the request."""
    if isinstance(error, openai.APIStatusError) and is_redirect(error.status_code):
        return _redirect_error(error.status_code, redirection_of(error, api_client), api_client)
    message = proxy_fault(error, api_client)
    if message is None:
        return None
    default_status = 407 if isinstance(error, openai.APIStatusError) else None
    status = getattr(_network_error(error), "status", default_status)
    code = PROXY_REFUSED if status is not None and status < 500 else "not_connected"
    return ApiError(None, code=code, message=redact_api_text(message, api_client.api_key), sent=False)


def redirect_or_proxy_error(
    status: int, url: str, location: str | None, api_client: openai.AsyncOpenAI
) -> ApiError | None:
    """The error of a GET that got a redirect or a proxy's refusal; None for a reply of the API itself."""
    if status < 300:
        return None
    if is_redirect(status):
        return _redirect_error(status, redirection(api_client, "GET", url, status, location), api_client)
    if status == PROXY_WANTS_PASSWORD:
        return ApiError(None, code=PROXY_REFUSED, message=refused_by_proxy(status, api_client), sent=False)
    return None


def _redirect_error(status: int, message: str, api_client: openai.AsyncOpenAI) -> ApiError:
    return ApiError(status, code=REDIRECTED, message=redact_api_text(message, api_client.api_key))


def error_from_exception(error: BaseException, secret: str = "") -> ApiError:
    """The error that an exception of the SDK or of aiohttp stands for."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, openai.APIStatusError):
        reply = error.response
        return error_from_reply(reply.status_code, reply.headers, reply.content, secret)
    if isinstance(error, openai.APIResponseValidationError | JSONDecodeError):
        return bad_reply(getattr(error, "status_code", 200), str(error), secret)
    cause = _network_error(error)
    if isinstance(cause, ReplyTooLarge):
        return ApiError(200, code=TOO_LARGE, message=str(cause))
    if isinstance(cause, UnknownEncoding | zlib.error):
        return bad_reply(200, str(cause), secret)
    message = redact_api_text(str(cause) or type(cause).__name__, secret)
    return ApiError(
        status=None, code=_network_code(cause), message=message, sent=not isinstance(cause, NEVER_SENT)
    )


def error_from_reply(status: int, headers: Mapping[str, str], body: bytes, secret: str = "") -> ApiError:
    """The error of a reply with an error status.

    Args:
        status: The HTTP status.
        headers: The reply's headers.
        body: In any shape that `jobs.model.error_body` reads.
        secret: A key to remove from the message.
    """
    try:
        check_values(body)
    except ReplyTooLarge:
        body = body[:MAX_BODY_TEXT]
    return _api_error(status, parse_error_body(body), headers, secret)


def error_in_ok_reply(reply: Json, headers: Mapping[str, str], secret: str = "") -> ApiError | None:
    """The error of a reply with status 200 that holds an error object; None for any other reply.

    A numeric code of the error object is the status of the upstream server; else its words decide.
    """
    if not reply.get("error") or "status" in reply or reply.get("object", "error") != "error":
        return None
    return error_from_object(reply, headers, secret)


def error_from_object(reply: Any, headers: Mapping[str, str], secret: str = "") -> ApiError:
    """The error of an error object, in any shape, that came under status 200."""
    fields = ErrorBody(reply.strip()) if isinstance(reply, str) else read_error(reply)
    status = (
        int(fields.code) if fields.code and fields.code.isdecimal() and 400 <= int(fields.code) < 600 else 200
    )
    if {fields.code, fields.type} & INVALID_REQUEST:
        status = 400
    if not fields.message:
        fields = replace(fields, message=redacted_start(str(reply), MAX_BODY_TEXT))
    return _api_error(status, fields, headers, secret)


def _api_error(status: int, fields: ErrorBody, headers: Mapping[str, str], secret: str) -> ApiError:
    wait_s = retry_after_s(headers, rate_limited=status == 429)
    return ApiError(
        status=status,
        code=fields.code,
        type=fields.type,
        message=redacted_cut(fields.message, MAX_ERROR_CHARACTERS, secret),
        param=fields.param,
        retry_after_s=fields.wait_s if wait_s is None else wait_s,
        nested_codes=fields.nested_codes,
        page=fields.page,
    )


def redacted_cut(text: str, limit: int, secret: str = "") -> str:
    """The beginning of a text of the API without keys. Masked before it is cut: half a key is one too."""
    shown = redact_api_text(text[: limit + MAX_SECRET_CHARACTERS], secret)
    return shown if len(text) <= limit else f"{shown[:limit]} … ({len(text):,} characters)"


def bad_reply(status: int, message: str, secret: str = "") -> ApiError:
    """The error of a reply that cannot be understood although its status is not an error."""
    return ApiError(
        status=status, code="bad_reply", message=redacted_cut(message, MAX_BAD_REPLY_CHARACTERS, secret)
    )


def retry_after_s(headers: Mapping[str, str], *, rate_limited: bool) -> float | None:
    """Read how long the server asks us to wait.

    Retry-After-Ms and Retry-After (seconds, or an HTTP date, counted from the reply's own Date) come first.
    OpenAI sends the x-ratelimit-reset-* headers with every reply; they mean a wait only on a 429.

    Args:
        headers: The reply's headers.
        rate_limited: Whether the status is 429.

    Returns:
        The wait in seconds, or None.
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (wait := parse_number(headers.get(name), MAX_WAIT_S)) is not None:
            return wait * unit_s
    until, now = _http_date(headers.get("retry-after", "")), _http_date(headers.get("date", ""))
    if until is not None and now is not None:
        return max(0.0, until - now)
    return _rate_limit_reset_s(headers) if rate_limited else None


def _rate_limit_reset_s(headers: Mapping[str, str]) -> float | None:
    kinds = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-reset-{kind}")]
    exhausted = [kind for kind in kinds if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    waits = [_duration_s(headers[f"x-ratelimit-reset-{kind}"]) for kind in exhausted or kinds]
    return max((wait for wait in waits if wait is not None), default=None)


def _duration_s(text: str) -> float | None:
    """Seconds of OpenAI's notation: `1s`, `6m0s`, `20ms`, `1h2m3.5s`; plain numbers are seconds."""
    parts = DURATION.findall(text)
    if not parts:
        return parse_number(text, MAX_WAIT_S)
    return float(sum(float(number) * UNIT_S[unit] for number, unit in parts))


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _network_error(error: BaseException) -> BaseException:
    """The aiohttp exception below the SDK's, else a timeout's, else the SDK's own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(
            cause, aiohttp.ClientError | TimeoutError | ReplyTooLarge | UnknownEncoding | zlib.error
        ):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def _network_code(error: BaseException) -> str:
    if isinstance(error, TimeoutError | openai.APITimeoutError):
        return "timeout"
    return "not_connected" if isinstance(error, NEVER_SENT) else "connection_lost"
