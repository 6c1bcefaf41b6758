"""What goes wrong on the way to the API, in words with the next step: redirects and proxies.

A redirect is never followed, whether it leads to another host or another path: the key, the organization and
the question would go to whatever address the reply names, and a 301, 302 or 303 would make a create a read.
"""

from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
from openai import APIStatusError, AsyncOpenAI

from askmill.config.proxies import environment, proxy_for
from askmill.config.text import redact

REDIRECTED, PROXY_REFUSED = "redirected", "proxy_refused"
"""The codes of these faults; `worker.lifecycle.retry` and `jobs.display.status_text` know them."""
PROXY_WANTS_PASSWORD = 407


def is_redirect(status: int) -> bool:
    """Whether a reply has no answer, but names another address."""
    return 300 <= status < 400


def redirection(api_client: AsyncOpenAI, method: str, asked: str, status: int, location: str | None) -> str:
    """`POST is redirected (308) to https://host/v2/threads, which is not followed; set OPENAI_BASE_URL to …`.

    Args:
        api_client: the client whose request it was.
        method: the request's method.
        asked: the request's whole URL.
        status: the reply's status, 300 to 399.
        location: the reply's header Location, if it has one.
    """
    if not location:
        return f"{method} is redirected ({status}) without an address; check OPENAI_BASE_URL"
    to = _without_secrets(urljoin(asked, location))
    moved = _moved(str(api_client.base_url).rstrip("/"), asked, to)
    query = urlencode([(name, str(value)) for name, value in api_client.default_query.items()])
    advice = (
        "OPENAI_BASE_URL must be the address where the API itself answers"
        if moved is None
        else f"set OPENAI_BASE_URL to {moved}{'?' if query else ''}{query}"
    )
    return f"{method} is redirected ({status}) to {to}, which is not followed; {advice}"


def redirection_of(error: APIStatusError, api_client: AsyncOpenAI) -> str:
    """The same of a redirect that the SDK was answered with."""
    request, location = error.request, error.response.headers.get("location")
    return redirection(api_client, request.method, str(request.url), error.status_code, location)


def proxy_fault(error: BaseException | None, api_client: AsyncOpenAI) -> str | None:
    """What went wrong at the proxy, and what to do; None when it was not the proxy."""
    while error is not None:
        match error:
            case APIStatusError(status_code=407) | aiohttp.ClientHttpProxyError(status=407):
                return refused_by_proxy(PROXY_WANTS_PASSWORD, api_client)
            case aiohttp.ClientHttpProxyError():
                return refused_by_proxy(error.status, api_client, error.message)
            case aiohttp.ClientProxyConnectionError():
                proxy, variable = _proxy_of(api_client)
                return f"{proxy} does not answer: {redact(str(error))}. Check {variable} and NO_PROXY."
        error = error.__cause__ or error.__context__
    return None


def refused_by_proxy(status: int, api_client: AsyncOpenAI, words: str = "") -> str:
    """A proxy's own refusal, to open a tunnel or to forward a request, and what to do about it."""
    proxy, variable = _proxy_of(api_client)
    if status == PROXY_WANTS_PASSWORD:
        return (
            f"{proxy} wants a user and a password that it knows ({status}). Put them in front of the host in "
            f"{variable}."
        )
    said = redact(f"{status} {words}".strip())
    return f"{proxy} refuses to connect ({said}). Check {variable} and NO_PROXY."


def _proxy_of(api_client: AsyncOpenAI) -> tuple[str, str]:
    proxy = proxy_for(str(api_client.base_url), environment())
    return ("the proxy", "HTTP_PROXY") if proxy is None else (str(proxy), proxy.variable)


def _moved(base: str, asked: str, to: str) -> str | None:
    """The base address below which the same path was named, unless it is the present one."""
    where = _without_secrets(asked).removeprefix(base)
    if not where.startswith("/") or not to.endswith(where):
        return None
    moved = to.removesuffix(where)
    return moved if moved != base and urlsplit(moved).netloc else None


def _without_secrets(address: str) -> str:
    """The address without what may be secret in it: a user, a query such as a login's state."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
