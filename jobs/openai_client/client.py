"""Creates the API client, and turns the API's errors into messages for users.

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
    OpenAIError,
    Timeout,
)

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.text import MIN_SECRET_LENGTH, redact
from askmill.config.tls import tls_context, uses_tls
from askmill.jobs.model.api_errors import ErrorReport, model_missing, money_refused, next_step
from askmill.jobs.model.error_body import parse_error_body
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.connection_errors import is_redirect, proxy_fault, redirection_of
from askmill.jobs.openai_client.reply_limits import ACCEPT_ENCODING, LargeReplies

TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 1000
PLACEHOLDER_KEY = "askmill-sends-no-key"
"""Passed to the SDK, which requires a key, for a server that needs none."""
KEEP_ALIVE_S = 4.0
"""Below uvicorn's 5 s and aiohttp's 15 s: a POST on a connection that the server is closing may or may not be
carried out, and askmill could not tell."""

API_NAMES: dict[Api, str] = {
    "assistants": "the Assistants API",
    "responses": "the Responses API",
    "chat": "chat completions",
}
QUOTED_KEY = re.compile(r"(api[ _-]?key[^:]{0,20}(?<!http)(?<!https): ?)\S+", re.IGNORECASE)
"""OpenAI's 401 message quotes the key with only its middle masked, and says where keys are made."""


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
        BadSetting: the variable that names the proxy, or the certificates, has an invalid value.
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
            event_hooks={
                "request": [_without_authorization] if api_key is None else [],
                "response": [LargeReplies().bound_response],
            },
            limits=httpx2.Limits(max_connections=connection_limit(), keepalive_expiry=KEEP_ALIVE_S),
            verify=tls_context() if uses_tls(base_url, proxy) else False,
            trust_env=False,
            proxy=None
            if proxy is None
            else httpx2.Proxy(proxy.url, headers=proxy_headers if in_tunnel else None),
            # Without a tunnel the proxy reads the request's headers and removes its own.
            headers={"Accept-Encoding": ACCEPT_ENCODING, **({} if in_tunnel else proxy_headers)},
            follow_redirects=False,
        ),
    )


async def _without_authorization(request: httpx2.Request) -> None:
    request.headers.pop("Authorization", None)


def sdk_headers(api_client: AsyncOpenAI) -> dict[str, str]:
    """What the SDK sends with each request of this client, by names in lower case.

    Of two headers with one name the later counts, as in the SDK. What the SDK omits is no text. Without a key
    there is no Authorization.
    """
    headers = dict[str, str]()
    for name, value in (*api_client.auth_headers.items(), *api_client.default_headers.items()):
        if isinstance(value, str):
            headers[name.lower()] = value
        else:
            headers.pop(name.lower(), None)
    if api_client.api_key == PLACEHOLDER_KEY:
        headers.pop("authorization", None)
    return headers


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
    request = f"{error.request.method} {error.request.url.path}"
    details = f"({request}: {error.status_code}: {words})"
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
            return f"{path} does not offer {API_NAMES[api]} {details}. {_other_api_advice(api)}"
        case 400 | 409 | 413 | 415 | 422:
            return f"{path} refuses this {details}."
        case _:
            return f"{path} is in trouble {details}. Try again later; what is stored stays."


def to_error_report(error: OpenAIError) -> ErrorReport:
    """The SDK's error as an ErrorReport, whatever shape the reply has."""
    reply = error.response if isinstance(error, APIStatusError) else None
    if reply is None:
        return ErrorReport(_sdk_message(error))
    fields, wait_s = parse_error_body(reply.content), reply.headers.get("retry-after", "")
    return ErrorReport(
        message=fields.message,
        code=fields.code,
        type=fields.type,
        param=fields.param,
        status=reply.status_code,
        retry_after_s=float(wait_s) if wait_s.isdecimal() else fields.wait_s,
        nested_codes=fields.nested_codes,
    )


def _other_api_advice(api: Api) -> str:
    if api == "assistants":
        advice = "set ASKMILL_API=responses, or OPENAI_BASE_URL to a server that has it"
        return f"OpenAI ended it on 2026-08-26: {advice}."
    other = "chat" if api == "responses" else "responses"
    return f"Set ASKMILL_API to the API that it has (assistants or {other}), or correct OPENAI_BASE_URL."


def error_message(error: OpenAIError, api_client: AsyncOpenAI) -> str:
    """The API's own message, without anything that looks like a key."""
    if isinstance(error, APIStatusError) and is_redirect(error.status_code):
        return redact_api_text(redirection_of(error, api_client), api_client.api_key)
    message = to_error_report(error).message or _sdk_message(error)
    return redact_api_text(message, api_client.api_key)


def _sdk_message(error: OpenAIError) -> str:
    body = error.body if isinstance(error, APIError) else None
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error)


def _root_cause(error: BaseException) -> str:
    """The message of the innermost exception: the SDK's own is only "Connection error."."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    words = error.message if isinstance(error, APIError) else str(error)
    return redact_api_text(words or type(error).__name__)
