"""Messages for errors between askmill and the API: redirects and proxies, each with the next step.

A redirect is never followed, neither to another host nor to another path. The key, the organization and the
question would be sent to any address that a reply names, and a 301, 302 or 303 would turn a POST into a GET.
"""

from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
from openai import APIStatusError, AsyncOpenAI

from askmill.config.proxies import proxy_environment, proxy_for
from askmill.config.text import redact

REDIRECTED, PROXY_REFUSED = "redirected", "proxy_refused"
"""Error codes, used by `worker.lifecycle.retry` and `jobs.display.status_text`."""
PROXY_WANTS_PASSWORD = 407


def is_redirect(status: int) -> bool:
    """Whether the status is a redirect."""
    return 300 <= status < 400


def redirection(
    api_client: AsyncOpenAI, method: str, request_url: str, status: int, location: str | None
) -> str:
    """The message for a redirect, with the base URL to set if it can be derived.

    `POST is redirected (308) to https://host/v2/threads, which is not followed; set OPENAI_BASE_URL to …`

    Args:
        api_client: the client that sent the request.
        method: the request's method.
        request_url: the request's full URL.
        status: the reply's status, 300 to 399.
        location: the reply's Location header, if any.
    """
    if not location:
        return f"{method} is redirected ({status}) without an address; check OPENAI_BASE_URL"
    target = _without_secrets(urljoin(request_url, location))
    moved = _moved_base_url(str(api_client.base_url).rstrip("/"), request_url, target)
    query = urlencode([(name, str(value)) for name, value in api_client.default_query.items()])
    advice = (
        "OPENAI_BASE_URL must be the address where the API itself answers"
        if moved is None
        else f"set OPENAI_BASE_URL to {moved}{'?' if query else ''}{query}"
    )
    return f"{method} is redirected ({status}) to {target}, which is not followed; {advice}"


def redirection_of(error: APIStatusError, api_client: AsyncOpenAI) -> str:
    """The message for a redirect that the SDK received."""
    request, location = error.request, error.response.headers.get("location")
    return redirection(api_client, request.method, str(request.url), error.status_code, location)


def proxy_fault(error: BaseException | None, api_client: AsyncOpenAI) -> str | None:
    """The message for an error at the proxy; None if the proxy did not cause the error."""
    while error is not None:
        match error:
            case APIStatusError(status_code=407) | aiohttp.ClientHttpProxyError(status=407):
                return refused_by_proxy(PROXY_WANTS_PASSWORD, api_client)
            case aiohttp.ClientHttpProxyError():
                return refused_by_proxy(error.status, api_client, error.message)
            case aiohttp.ClientProxyConnectionError():
                proxy, variable = _proxy_and_variable(api_client)
                return f"{proxy} does not answer: {redact(str(error))}. Check {variable} and NO_PROXY."
        error = error.__cause__ or error.__context__
    return None


def refused_by_proxy(status: int, api_client: AsyncOpenAI, message: str = "") -> str:
    """The message for a proxy that refuses to open a tunnel or to forward a request."""
    proxy, variable = _proxy_and_variable(api_client)
    if status == PROXY_WANTS_PASSWORD:
        return (
            f"{proxy} wants a user and a password that it accepts ({status}). "
            f"Put them in front of the host in {variable}."
        )
    details = redact(f"{status} {message}".strip())
    return f"{proxy} refuses to connect ({details}). Check {variable} and NO_PROXY."


def _proxy_and_variable(api_client: AsyncOpenAI) -> tuple[str, str]:
    proxy = proxy_for(str(api_client.base_url), proxy_environment())
    return ("the proxy", "HTTP_PROXY") if proxy is None else (str(proxy), proxy.variable)


def _moved_base_url(base: str, request_url: str, target: str) -> str | None:
    """The base URL of the redirect's target, if its path is the requested one; None if it is unchanged."""
    path = _without_secrets(request_url).removeprefix(base)
    if not path.startswith("/") or not target.endswith(path):
        return None
    moved = target.removesuffix(path)
    return moved if moved != base and urlsplit(moved).netloc else None


def _without_secrets(address: str) -> str:
    """The URL without its user and its query, which may contain secrets."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
