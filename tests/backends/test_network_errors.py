"""Each way a request can fail, over real HTTP: its error says whether the request may have been carried out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
from openai import AsyncOpenAI

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.openai_client.client import make_client, redact_api_text
from askmill.worker.backends.errors import error_from_reply, retry_after_s
from askmill.worker.backends.http import HttpClient
from askmill.worker.lifecycle.api_types import ApiError

KEY = "sk-very-secret-0123456789"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[str]:
    """A server that reads one request per connection; `reply` writes raw bytes or nothing. Yields the base URL."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if not first.isalpha():
                return  # the hello of a TLS client
            head = first + await reader.readuntil(b"\r\n\r\n")
            if b"ontent-length:" in head.lower():
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            await reply(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(on_connection, HOST, 0)
    try:
        yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def create(client: AsyncOpenAI) -> object:
    """A POST through the SDK."""
    return await requesting(client, lambda http: http.post("conversations", {}))


async def read(client: AsyncOpenAI) -> object:
    """A GET through aiohttp."""
    return await requesting(client, lambda http: http.get("responses/resp_1"))


async def requesting(client: AsyncOpenAI, request: Callable[[HttpClient], Awaitable[object]]) -> object:
    http = HttpClient(client)
    try:
        return await request(http)
    finally:
        await http.close()


async def error_at(
    url: str, send: Callable[[AsyncOpenAI], Awaitable[object]], timeout_s: float = 5
) -> ApiError:
    async with make_client(KEY, url, timeout_s=timeout_s) as client:
        with pytest.raises(ApiError) as raised:
            await send(client)
    return raised.value


both = pytest.mark.parametrize("send", [create, read])


@both
async def test_a_refused_connection_was_never_sent(send):
    """The request was certainly not carried out and may be repeated at once."""
    error = await error_at(f"http://{HOST}:{free_port()}/v1", send)
    assert (error.status, error.sent, error.code) == (None, False, "not_connected")
    assert "refused" in error.message.lower() or "cannot connect" in error.message.lower()


@both
async def test_an_unknown_host_was_never_sent(send):
    """A name that DNS does not know."""
    error = await error_at("http://nowhere.invalid/v1", send)
    assert (error.status, error.sent) == (None, False)


@both
async def test_a_failed_tls_handshake_was_never_sent(send):
    """https to a server that speaks plain http."""

    async def nothing(writer):
        writer.close()

    async with serving(nothing) as url:
        error = await error_at(url.replace("http:", "https:"), send)
    assert (error.status, error.sent) == (None, False)


@both
async def test_a_connection_closed_without_reply_may_have_been_carried_out(send):
    """The SDK calls this a connect timeout, although the request was read."""

    async def hang_up(writer):
        writer.close()

    async with serving(hang_up) as url:
        error = await error_at(url, send)
    assert (error.status, error.sent, error.code) == (None, True, "connection_lost")


@both
async def test_a_reset_connection_may_have_been_carried_out(send):
    """A reset after the request was read."""

    async def reset(writer):
        writer.transport.abort()

    async with serving(reset) as url:
        error = await error_at(url, send)
    assert (error.status, error.sent) == (None, True)


@both
async def test_a_reply_that_breaks_off_may_have_been_carried_out(send):
    """Status 200 with an incomplete body."""

    async def half(writer):
        writer.write(OK + b'Content-Length: 100\r\n\r\n{"id": "conv_')
        await writer.drain()

    async with serving(half) as url:
        error = await error_at(url, send)
    assert (error.status, error.sent) == (None, True)


@both
async def test_a_read_timeout_may_have_been_carried_out(send):
    """The server reads the request and does not reply."""
    released = asyncio.Event()

    async def silent(writer):
        await released.wait()

    async with serving(silent) as url:
        error = await error_at(url, send, timeout_s=0.2)
        released.set()
    assert (error.status, error.sent, error.code) == (None, True, "timeout")


@both
@pytest.mark.parametrize("body", [b"<html>welcome to the proxy</html>", b"", b"[1, 2]", b'"ok"'])
async def test_a_reply_that_is_no_json_object_is_a_bad_reply(send, body):
    """Such as a proxy's login page, whatever its content type."""

    async def page(writer):
        writer.write(OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with serving(page) as url:
        error = await error_at(url, send)
    assert (error.status, error.code, error.sent) == (200, "bad_reply", True)


@both
async def test_a_reply_that_is_not_http_may_have_been_carried_out(send):
    """Another service listens there."""

    async def noise(writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()

    async with serving(noise) as url:
        error = await error_at(url, send)
    assert (error.status, error.sent) == (None, True)


@both
async def test_no_error_contains_the_key(send):
    """The API's 401 quotes a masked key. The rest is masked too, and the key wherever it appears."""
    quoted = f"Incorrect API key provided: sk-ve****6789. You sent Bearer {KEY} or {KEY}.".encode()
    body = b'{"error":{"message":"%b","type":"invalid_request_error","code":"invalid_api_key"}}' % quoted

    async def refuse(writer):
        writer.write(
            b"HTTP/1.1 401 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()

    async with serving(refuse) as url:
        error = await error_at(url, send)
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert KEY not in str(error)
    assert "6789" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_a_placeholder_key_is_not_redacted():
    """Servers without keys get "k" or "any": redacting that would damage ordinary words."""
    assert redact_api_text("The API has no key that can be known, any of them.", "k") == (
        "The API has no key that can be known, any of them."
    )
    assert "12345678" not in redact_api_text("You sent 12345678.", "12345678")


def test_the_address_where_keys_are_made_stays_readable():
    """OpenAI's 401 says where to find a key; that address is no key."""
    advice = "You can find your API key at https://host.example/api-keys."
    assert redact_api_text(f"Incorrect API key provided: sk-ve****6789. {advice}") == (
        f"Incorrect API key provided: *** {advice}"
    )
    assert redact_api_text("Incorrect API key provided: //secret") == "Incorrect API key provided: ***"


@pytest.mark.parametrize(
    ("headers", "rate_limited", "wait_s"),
    [
        ({"retry-after": "7"}, True, 7.0),
        ({"retry-after": "0.5"}, True, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, True, 0.25),
        ({"retry-after": "3"}, False, 3.0),
        ({"retry-after": "soon"}, True, None),
        ({"retry-after": "-5"}, True, None),
        ({"x-ratelimit-reset-requests": "1s"}, True, 1.0),
        ({"x-ratelimit-reset-tokens": "6m0s"}, True, 360.0),
        ({"x-ratelimit-reset-requests": "20ms"}, True, 0.02),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, True, 3723.5),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "2s"}, True, 2.0),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "90",
            },
            True,
            1.0,
        ),
        ({"x-ratelimit-reset-requests": "1s"}, False, None),
        ({"x-ratelimit-reset-requests": "whenever"}, True, None),
        ({}, True, None),
    ],
)
def test_the_wait_is_read_from_the_headers(headers, rate_limited, wait_s):
    """Retry-After counts with any status, the reset headers only with a 429."""
    assert retry_after_s(headers, rate_limited=rate_limited) == wait_s


def test_retry_after_may_be_a_date():
    """Counted from the reply's own Date, because the server's clock may be wrong."""
    for wait_s, expected_s in ((60, 60.0), (-60, 0.0)):
        headers = {
            "retry-after": formatdate(1_000_000_000 + wait_s, usegmt=True),
            "date": formatdate(1_000_000_000, usegmt=True),
        }
        assert retry_after_s(headers, rate_limited=True) == expected_s
        assert retry_after_s({"retry-after": headers["retry-after"]}, rate_limited=True) is None


def test_reset_headers_count_only_for_a_429():
    """OpenAI sends them with every reply."""
    headers = {"x-ratelimit-reset-requests": "6m0s"}
    assert error_from_reply(400, headers, b"").retry_after_s is None
    assert error_from_reply(429, headers, b"").retry_after_s == 360.0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"message":"no","type":"t","param":"p","code":"c"}}', "c", "no"),
        (b'{"error":{"message":"no","code":null}}', None, "no"),
        (b'{"error":{"message":"no","code":429}}', "429", "no"),
        (b'{"message":"bare","code":"c"}', "c", "bare"),
        (b'{"error":"only text"}', None, "only text"),
        (b'{"detail":"Not Found"}', None, "Not Found"),
        (b'{"detail":[{"loc":["body","messages",0],"msg":"too long"}]}', None, "messages.0: too long"),
        (b'"a bare string"', None, "a bare string"),
        (b"<html>Bad Gateway</html>", None, "Bad Gateway"),
        (b"<html><head><title>403</title></head><p>No <b>entry</b></html>", None, "403: No entry"),
        (b"[]", None, "[]"),
        (b"", None, ""),
        (b"\xff\xfe", None, "\ufffd\ufffd"),
    ],
)
def test_every_form_of_error_is_read(body, code, message):
    """OpenAI's error object, the forms of other servers, and text that is not JSON."""
    error = error_from_reply(500, {}, body)
    assert (error.status, error.code, error.message) == (500, code, message)
