"""Creates the API client, probes the API, and turns its errors into messages for users.

Each process has one `AsyncOpenAI` client on aiohttp for both APIs. It never retries: the SDK would repeat a
POST without an idempotency key and so pay twice (openai-python #1727).
"""

import re
import resource
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    DefaultAioHttpClient,
    NotFoundError,
    OpenAIError,
    RateLimitError,
    Timeout,
)
from openai._types import RequestOptions

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.text import redact
from askmill.jobs.model.api_errors import ErrorReport, model_missing, money_refused, next_step
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.connection_errors import is_redirect, proxy_fault, redirection_of

TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1000
PLACEHOLDER_KEY = "askmill-sends-no-key"
"""Passed to the SDK, which requires a key, for a server that needs none."""
KEEP_ALIVE_S = 4.0
"""Below uvicorn's 5 s and aiohttp's 15 s: a POST on a connection that the server is closing may or may not be
carried out, and askmill could not tell."""

MIN_SECRET_LENGTH = 8
"""Shorter keys are placeholders ("any", "k"), which occur inside words."""
QUOTED_KEY = re.compile(r"(api[ _-]?key[^:]{0,20}: ?)\S+", re.IGNORECASE)
"""OpenAI's 401 message quotes the key with only its middle masked."""


def make_client(
    api_key: str | None,
    base_url: str,
    organization: str | None = None,
    project: str | None = None,
    timeout_s: float = TIMEOUT_S,
    environ: Mapping[str, str] | None = None,
) -> AsyncOpenAI:
    """Create a client for the API at `base_url`. Create one per process, and close it at the end.

    Redirects are never followed: the key and the questions are sent only to `base_url`.

    Args:
        api_key: the key; None sends no Authorization header, whatever the environment contains.
        base_url: the server. Its query is sent with every request: Microsoft Foundry needs
            `https://RES.services.ai.azure.com/api/projects/PROJ?api-version=v1`.
        organization: the organization to bill.
        project: the project to bill.
        timeout_s: seconds for a request.
        environ: where `config.proxies` finds the proxy; None is the process's environment.

    Raises:
        BadSetting: the variable that names the proxy has an invalid value.
    """
    parts = urlsplit(base_url)
    timeout = Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    proxy = proxy_for(base_url, proxy_environment() if environ is None else environ)
    proxy_headers = {} if proxy is None else proxy.headers
    in_tunnel = parts.scheme == "https"
    return AsyncOpenAI(
        api_key=PLACEHOLDER_KEY if api_key is None else api_key,
        base_url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        default_query=dict(parse_qsl(parts.query)),
        organization=organization,
        project=project,
        timeout=timeout,
        max_retries=0,
        http_client=DefaultAioHttpClient(
            timeout=timeout,
            event_hooks={"request": [_without_authorization] if api_key is None else []},
            limits=httpx2.Limits(max_connections=connection_limit(), keepalive_expiry=KEEP_ALIVE_S),
            verify=httpx2.create_ssl_context(),
            trust_env=False,
            proxy=None
            if proxy is None
            else httpx2.Proxy(proxy.url, headers=proxy_headers if in_tunnel else None),
            # Without a tunnel the proxy reads the request's headers and removes its own.
            headers=None if in_tunnel else proxy_headers,
            follow_redirects=False,
        ),
    )


async def _without_authorization(request: httpx2.Request) -> None:
    request.headers.pop("Authorization", None)


def has_key(api_client: AsyncOpenAI) -> bool:
    """Whether the client has a key. If not, requests outside the SDK must not send one either."""
    return api_client.api_key != PLACEHOLDER_KEY


def connection_limit() -> int:
    """Maximum connections of one pool: a third of the process's limit of open files, at most 1,000.

    A process has two pools (the other is in `worker.backends.http`) and needs open files for itself.
    """
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(10, min(MAX_CONNECTIONS, open_files // 3))


def redact_api_text(text: str, secret: str = "") -> str:
    """Mask everything that looks like a key, and `secret`, in a text of the API."""
    if len(secret) >= MIN_SECRET_LENGTH:
        text = text.replace(secret, "***")
    return redact(QUOTED_KEY.sub(r"\1***", text))


async def probe(api_client: AsyncOpenAI, api: Api) -> None:
    """Check with free requests that the API answers. Raises ApiUnavailable with the next step.

    A rate limit counts as available; an exhausted quota does not.
    """
    try:
        await (_probe_assistants(api_client) if api == "assistants" else _probe_responses(api_client))
        await _probe_creates(api_client, api)
    except OpenAIError as error:
        if not isinstance(error, RateLimitError) or money_refused(to_error_report(error)):
            raise ApiUnavailable(describe_error(error, api_client, api)) from None


async def _probe_assistants(api_client: AsyncOpenAI) -> None:
    await api_client.get(
        "/assistants", cast_to=httpx2.Response, options={"params": {"limit": 1}, "headers": BETA}
    )


async def _probe_responses(api_client: AsyncOpenAI) -> None:
    """Responses cannot be listed: request one that does not exist and check who answers 404."""
    await api_client.get("/models", cast_to=httpx2.Response)
    try:
        await api_client.get("/responses/resp_askmill_doctor", cast_to=httpx2.Response)
    except NotFoundError as absent:
        if absent.type is None or "invalid url" in absent.message.lower():
            raise
    except APIStatusError as refused:
        # Servers that validate ids answer 400: the endpoint exists.
        if refused.status_code != 400:
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


BETA = {"OpenAI-Beta": "assistants=v2"}
CREATES: dict[Api, tuple[str, ...]] = {
    "assistants": ("/threads", "/threads/thread_askmill_doctor/runs"),
    "responses": ("/conversations", "/responses"),
}
"""The paths where a row's free and paid objects are created."""


def describe_error(error: OpenAIError, api_client: AsyncOpenAI, api: Api | None = None) -> str:
    """Describe the error and the next step. `api` is the API to name if the server does not offer it."""
    path = f"The API at {str(api_client.base_url).rstrip('/')}"
    if (fault := proxy_fault(error, api_client)) is not None:
        return f"{path} cannot be reached: {fault}"
    words = error_message(error, api_client).rstrip(".")
    report = to_error_report(error)
    if money_refused(report) or model_missing(report):
        what = "refuses to work for want of money" if money_refused(report) else "does not have this model"
        return f"{path} {what} ({words}). {next_step(report)}"
    if isinstance(error, APIConnectionError) or not isinstance(error, APIStatusError):
        return f"{path} does not answer: {_root_cause(error)}. Check OPENAI_BASE_URL and the network."
    if is_redirect(error.status_code):
        return f"{path} answers with a redirect: {redact_api_text(redirection_of(error, api_client))}."
    details = f"({error.status_code}: {words})"
    match error.status_code:
        case 401:
            return f"{path} refuses the key {details}. Set OPENAI_API_KEY to a key that is valid there."
        case 403:
            return (
                f"{path} forbids this {details}. Check the key's rights, OPENAI_PROJECT_ID and OPENAI_ORG_ID."
            )
        case 404 if "No assistant found" in details:
            return f"{path} has no such assistant {details}. Check --assistant-id and the key's project."
        case 404 | 405 | 501 if api is not None:
            return f"{path} does not offer the {api.title()} API {details}. {_other_api_advice(api)}"
        case 400 | 409 | 413 | 415 | 422:
            return f"{path} refuses this {details}."
        case _:
            return f"{path} is in trouble {details}. Try again later; what is stored stays."


def to_error_report(error: OpenAIError) -> ErrorReport:
    """The SDK's error as an ErrorReport; `jobs.model.api_errors` searches nested error objects."""
    body = error.body if isinstance(error, APIError) else None
    fields = body if isinstance(body, dict) else {}
    message = fields.get("message") or fields.get("detail") or fields.get("error") or body or error
    reply = error.response if isinstance(error, APIStatusError) else None
    wait_s = reply.headers.get("retry-after", "") if reply is not None else ""
    return ErrorReport(
        message=message if isinstance(message, str) else repr(message),
        code=_optional_text(fields.get("code")),
        type=_optional_text(fields.get("type")),
        param=_optional_text(fields.get("param")),
        status=reply.status_code if reply is not None else None,
        retry_after_s=float(wait_s) if wait_s.isdecimal() else None,
    )


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


def _other_api_advice(api: Api) -> str:
    if api == "assistants":
        advice = "set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it"
        return f"OpenAI ended it on 2026-08-26: {advice}."
    return "Set ASKMILL_API=assistants if it is an Assistants server, or correct OPENAI_BASE_URL."


def error_message(error: OpenAIError, api_client: AsyncOpenAI) -> str:
    """The API's own message, without anything that looks like a key."""
    if isinstance(error, APIStatusError) and is_redirect(error.status_code):
        return redact_api_text(redirection_of(error, api_client), api_client.api_key)
    body = error.body if isinstance(error, APIError) else None
    message = body.get("message") if isinstance(body, dict) else None
    return redact_api_text(str(message or error), api_client.api_key)


def _root_cause(error: BaseException) -> str:
    """The message of the innermost exception: the SDK's own is only "Connection error."."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    words = error.message if isinstance(error, APIError) else str(error)
    return redact_api_text(words or type(error).__name__)
