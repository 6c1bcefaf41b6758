"""The one place that makes an API client, and the words in which the API's state is told to people.

Both APIs are reached through one `AsyncOpenAI` a process, on aiohttp, which never retries by itself: the SDK
would repeat a POST without any idempotency key and so buy twice (openai-python #1727).
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

from askmill.config.proxies import environment, proxy_for
from askmill.config.text import redact
from askmill.jobs.model.api_refusals import ErrorReport, model_missing, money_refused, next_step
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.redirects_and_proxies import is_redirect, proxy_fault, redirection_of

TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1000
NO_KEY = "askmill-sends-no-key"
"""What the SDK, which insists on a key, is given for a server that needs none."""
KEEP_ALIVE_S = 4.0
"""Below uvicorn's 5 s and aiohttp's 15 s: a POST must not meet a connection that the server is just closing,
since nobody could tell whether it was carried out."""

SHORTEST_SECRET = 8
"""Shorter ones are stand-ins ("any", "k"), and stand in many a word."""
QUOTED_KEY = re.compile(r"(api[ _-]?key[^:]{0,20}: ?)\S+", re.IGNORECASE)
"""The API's own 401 text quotes the key with only its middle masked."""


def make_client(
    api_key: str | None,
    base_url: str,
    organization: str | None = None,
    project: str | None = None,
    timeout_s: float = TIMEOUT_S,
    environ: Mapping[str, str] | None = None,
) -> AsyncOpenAI:
    """A client for the API at `base_url`; make one per process and close it at the end.

    Without `api_key` no request carries an Authorization header, whatever the environment holds for the SDK.
    A query in the address goes along with every request: Microsoft Foundry is reached as
    `https://RES.services.ai.azure.com/api/projects/PROJ?api-version=v1`. The proxy is the one that
    `config.proxies` finds in `environ` (default: the process's variables). Redirects are never followed: the
    key and the questions go to the address that was set, and to no other.

    Raises:
        BadSetting: the variable that names the proxy has an unusable value.
    """
    parts = urlsplit(base_url)
    timeout = Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    proxy = proxy_for(base_url, environment() if environ is None else environ)
    own = {} if proxy is None else proxy.headers
    in_tunnel = parts.scheme == "https"
    return AsyncOpenAI(
        api_key=NO_KEY if api_key is None else api_key,
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
            proxy=None if proxy is None else httpx2.Proxy(proxy.url, headers=own if in_tunnel else None),
            # Without a tunnel the proxy reads the request itself, and takes what is its own.
            headers=None if in_tunnel else own,
            follow_redirects=False,
        ),
    )


async def _without_authorization(request: httpx2.Request) -> None:
    request.headers.pop("Authorization", None)


def sends_key(api_client: AsyncOpenAI) -> bool:
    """Whether the client was given a key; requests made beside it send none either, if not."""
    return api_client.api_key != NO_KEY


def connection_limit() -> int:
    """Connections that one pool may open: a third of what the process may have open, at most 1,000.

    A process has two pools of these (`worker.backends.http` has the other) and needs files for itself.
    """
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(10, min(MAX_CONNECTIONS, open_files // 3))


def redact_api_text(text: str, secret: str = "") -> str:
    """The API's words, without anything that looks like a key."""
    if len(secret) >= SHORTEST_SECRET:
        text = text.replace(secret, "***")
    return redact(QUOTED_KEY.sub(r"\1***", text))


async def probe(api_client: AsyncOpenAI, api: Api) -> None:
    """Ask the API something free. Raises ApiUnavailable with a sentence that says what to do.

    A rate limit counts as alive; a spent quota does not.
    """
    try:
        await (_probe_assistants(api_client) if api == "assistants" else _probe_responses(api_client))
        await _probe_creates(api_client, api)
    except OpenAIError as error:
        if not isinstance(error, RateLimitError) or money_refused(report_of(error)):
            raise ApiUnavailable(error_sentence(error, api_client, api)) from None


async def _probe_assistants(api_client: AsyncOpenAI) -> None:
    await api_client.get(
        "/assistants", cast_to=httpx2.Response, options={"params": {"limit": 1}, "headers": BETA}
    )


async def _probe_responses(api_client: AsyncOpenAI) -> None:
    """There is nothing to list: ask for a response that cannot be, and see who says that it is not there."""
    await api_client.get("/models", cast_to=httpx2.Response)
    try:
        await api_client.get("/responses/resp_askmill_doctor", cast_to=httpx2.Response)
    except NotFoundError as absent:
        if absent.type is None or "invalid url" in absent.message.lower():
            raise
    except APIStatusError as refused:
        # Servers that check the form of an id answer 400: the endpoint is there.
        if refused.status_code != 400:
            raise


async def _probe_creates(api_client: AsyncOpenAI, api: Api) -> None:
    """Whether creates are redirected: servers redirect a POST where they answer a GET.

    The body is a list, from which nobody can create anything; only a redirect among the replies counts.
    """
    options: RequestOptions = {"headers": BETA if api == "assistants" else {}}
    for where in CREATES[api]:
        try:
            await api_client.post(where, cast_to=httpx2.Response, body=[], options=options)
        except APIStatusError as refused:
            if is_redirect(refused.status_code):
                raise


BETA = {"OpenAI-Beta": "assistants=v2"}
CREATES: dict[Api, tuple[str, ...]] = {
    "assistants": ("/threads", "/threads/thread_askmill_doctor/runs"),
    "responses": ("/conversations", "/responses"),
}
"""Where a row's free and paid objects are created."""


def error_sentence(error: OpenAIError, api_client: AsyncOpenAI, api: Api | None = None) -> str:
    """What the error means for the person and what to do. `api` is named where it is the API that lacks."""
    where = f"The API at {str(api_client.base_url).rstrip('/')}"
    if (fault := proxy_fault(error, api_client)) is not None:
        return f"{where} cannot be reached: {fault}"
    words = words_of(error, api_client).rstrip(".")
    report = report_of(error)
    if money_refused(report) or model_missing(report):
        what = "refuses to work for want of money" if money_refused(report) else "does not have this model"
        return f"{where} {what} ({words}). {next_step(report)}"
    if isinstance(error, APIConnectionError) or not isinstance(error, APIStatusError):
        return f"{where} does not answer: {_cause(error)}. Check OPENAI_BASE_URL and the network."
    if is_redirect(error.status_code):
        return f"{where} answers with a redirect: {redact_api_text(redirection_of(error, api_client))}."
    said = f"({error.status_code}: {words})"
    match error.status_code:
        case 401:
            return f"{where} refuses the key {said}. Set OPENAI_API_KEY to a key that is valid there."
        case 403:
            return (
                f"{where} forbids this {said}. Check the key's rights, OPENAI_PROJECT_ID and OPENAI_ORG_ID."
            )
        case 404 if "No assistant found" in said:
            return f"{where} has no such assistant {said}. Check --assistant-id and the key's project."
        case 404 | 405 | 501 if api is not None:
            return f"{where} does not offer the {api.title()} API {said}. {_other(api)}"
        case 400 | 409 | 413 | 415 | 422:
            return f"{where} refuses this {said}."
        case _:
            return f"{where} is in trouble {said}. Try again later; what is stored stays."


def report_of(error: OpenAIError) -> ErrorReport:
    """The SDK's error as `jobs.model.api_refusals` reads it; error objects within others are looked into there."""
    body = error.body if isinstance(error, APIError) else None
    fields = body if isinstance(body, dict) else {}
    told = fields.get("message") or fields.get("detail") or fields.get("error") or body or error
    reply = error.response if isinstance(error, APIStatusError) else None
    wait_s = reply.headers.get("retry-after", "") if reply is not None else ""
    return ErrorReport(
        message=told if isinstance(told, str) else repr(told),
        code=_text(fields.get("code")),
        type=_text(fields.get("type")),
        param=_text(fields.get("param")),
        status=reply.status_code if reply is not None else None,
        retry_after_s=float(wait_s) if wait_s.isdecimal() else None,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _other(api: Api) -> str:
    if api == "assistants":
        advice = "set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it"
        return f"OpenAI ended it on 2026-08-26: {advice}."
    return "Set ASKMILL_API=assistants if it is an Assistants server, or correct OPENAI_BASE_URL."


def words_of(error: OpenAIError, api_client: AsyncOpenAI) -> str:
    """The API's own words, without anything that looks like a key."""
    if isinstance(error, APIStatusError) and is_redirect(error.status_code):
        return redact_api_text(redirection_of(error, api_client), api_client.api_key)
    body = error.body if isinstance(error, APIError) else None
    message = body.get("message") if isinstance(body, dict) else None
    return redact_api_text(str(message or error), api_client.api_key)


def _cause(error: BaseException) -> str:
    """The innermost words: the SDK's own are only "Connection error."."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    words = error.message if isinstance(error, APIError) else str(error)
    return redact_api_text(words or type(error).__name__)
