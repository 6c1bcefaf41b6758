"""How a request went wrong decides whether it may be repeated: these tests meet each way over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate

import pytest
from openai import AsyncOpenAI

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.openai_client.client import make_client, redact_api_text
from askmill.worker.backends.errors import fault_of_reply, retry_after_s
from askmill.worker.backends.http import HttpClient
from askmill.worker.lifecycle.api_types import ApiError

KEY = "sk-very-secret-0123456789"
Answering = Callable[[asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def serving(answer: Answering) -> AsyncIterator[str]:
    """A server that reads one request per connection and answers with raw bytes, or not at all."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.readexactly(1)
            if not first.isalpha():
                return  # the hello of a TLS client
            head = first + await reader.readuntil(b"\r\n\r\n")
            if b"ontent-length:" in head.lower():
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            await answer(writer)
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
    """A request that buys something, through the SDK."""
    return await requesting(client, lambda wire: wire.post("conversations", {}))


async def look(client: AsyncOpenAI) -> object:
    """A lean read."""
    return await requesting(client, lambda wire: wire.get("responses/resp_1"))


async def requesting(client: AsyncOpenAI, request: Callable[[HttpClient], Awaitable[object]]) -> object:
    wire = HttpClient(client)
    try:
        return await request(wire)
    finally:
        await wire.close()


async def fault_at(
    url: str, ask: Callable[[AsyncOpenAI], Awaitable[object]], timeout_s: float = 5
) -> ApiError:
    async with make_client(KEY, url, timeout_s=timeout_s) as client:
        with pytest.raises(ApiError) as raised:
            await ask(client)
    return raised.value


both = pytest.mark.parametrize("ask", [create, look])


@both
async def test_a_refused_connection_was_never_sent(ask):
    """Nothing listens: the request certainly was not carried out, and may be repeated without looking."""
    fault = await fault_at(f"http://{HOST}:{free_port()}/v1", ask)
    assert (fault.status, fault.sent, fault.code) == (None, False, "not_connected")
    assert "refused" in fault.message.lower() or "cannot connect" in fault.message.lower()


@both
async def test_an_unknown_host_was_never_sent(ask):
    """A name that no DNS knows: the request did not leave."""
    fault = await fault_at("http://nowhere.invalid/v1", ask)
    assert (fault.status, fault.sent) == (None, False)


@both
async def test_a_failed_tls_handshake_was_never_sent(ask):
    """https to a server that speaks plain http: refused before the first byte of the request."""

    async def nothing(writer):
        writer.close()

    async with serving(nothing) as url:
        fault = await fault_at(url.replace("http:", "https:"), ask)
    assert (fault.status, fault.sent) == (None, False)


@both
async def test_a_connection_closed_without_reply_may_have_been_carried_out(ask):
    """The SDK calls this a connect timeout; it is not: the request was read."""

    async def hang_up(writer):
        writer.close()

    async with serving(hang_up) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.sent, fault.code) == (None, True, "connection_lost")


@both
async def test_a_reset_connection_may_have_been_carried_out(ask):
    """A reset after the request was read."""

    async def reset(writer):
        writer.transport.abort()

    async with serving(reset) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.sent) == (None, True)


@both
async def test_a_reply_that_breaks_off_may_have_been_carried_out(ask):
    """The status said 200, the body never came whole."""

    async def half(writer):
        writer.write(OK + b'Content-Length: 100\r\n\r\n{"id": "conv_')
        await writer.drain()

    async with serving(half) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.sent) == (None, True)


@both
async def test_a_read_timeout_may_have_been_carried_out(ask):
    """The server took the request and says nothing."""
    released = asyncio.Event()

    async def silent(writer):
        await released.wait()

    async with serving(silent) as url:
        fault = await fault_at(url, ask, timeout_s=0.2)
        released.set()
    assert (fault.status, fault.sent, fault.code) == (None, True, "timeout")


@both
@pytest.mark.parametrize("body", [b"<html>welcome to the proxy</html>", b"", b"[1, 2]", b'"ok"'])
async def test_a_reply_that_is_no_json_object_is_a_bad_reply(ask, body):
    """A 200 of a proxy's login page is no answer of the API, whatever its content type says."""

    async def page(writer):
        writer.write(OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    async with serving(page) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.code, fault.sent) == (200, "bad_reply", True)


@both
async def test_an_answer_that_is_not_http_may_have_been_carried_out(ask):
    """Something else listens there: no traceback, a fault."""

    async def noise(writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
        await writer.drain()

    async with serving(noise) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.sent) == (None, True)


@both
async def test_no_fault_tells_the_key(ask):
    """The API's 401 quotes a masked key; ours masks the rest, and the key itself wherever it stands."""
    quoted = f"Incorrect API key provided: sk-ve****6789. You sent Bearer {KEY} or {KEY}.".encode()
    body = b'{"error":{"message":"%b","type":"invalid_request_error","code":"invalid_api_key"}}' % quoted

    async def refuse(writer):
        writer.write(
            b"HTTP/1.1 401 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()

    async with serving(refuse) as url:
        fault = await fault_at(url, ask)
    assert (fault.status, fault.code) == (401, "invalid_api_key")
    assert KEY not in str(fault)
    assert "6789" not in str(fault)
    assert fault.__cause__ is None
    assert fault.__context__ is None or fault.__suppress_context__


def test_a_stand_in_for_a_key_is_no_secret():
    """Servers that take any text are given "k" or "any"; to mask that would spoil every word that has it."""
    assert redact_api_text("The API has no key that can be known, any of them.", "k") == (
        "The API has no key that can be known, any of them."
    )
    assert "12345678" not in redact_api_text("You sent 12345678.", "12345678")


@pytest.mark.parametrize(
    ("headers", "limited", "wait_s"),
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
def test_the_wait_is_as_told(headers, limited, wait_s):
    """Retry-After counts on any status; the reset headers, which stand on every reply, only on a 429."""
    assert retry_after_s(headers, limited=limited) == wait_s


def test_a_wait_may_be_told_as_a_date():
    """Retry-After as an HTTP date, past or to come, counted from the reply's own Date: its clock may be wrong."""
    for wait_s, known_s in ((60, 60.0), (-60, 0.0)):
        told = {
            "retry-after": formatdate(1_000_000_000 + wait_s, usegmt=True),
            "date": formatdate(1_000_000_000, usegmt=True),
        }
        assert retry_after_s(told, limited=True) == known_s
        assert retry_after_s({"retry-after": told["retry-after"]}, limited=True) is None


def test_reset_headers_of_other_refusals_are_no_wait():
    """They stand on every reply: a 400 with them is not to be waited for, a 429 is."""
    headers = {"x-ratelimit-reset-requests": "6m0s"}
    assert fault_of_reply(400, headers, b"").retry_after_s is None
    assert fault_of_reply(429, headers, b"").retry_after_s == 360.0


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"message":"no","type":"t","param":"p","code":"c"}}', "c", "no"),
        (b'{"error":{"message":"no","code":null}}', None, "no"),
        (b'{"error":{"message":"no","code":429}}', "429", "no"),
        (b'{"message":"bare","code":"c"}', "c", "bare"),
        (b'{"error":"only text"}', None, "only text"),
        (b'{"detail":"Not Found"}', None, "Not Found"),
        (b"<html>Bad Gateway</html>", None, "<html>Bad Gateway</html>"),
        (b"[]", None, "[]"),
        (b"", None, ""),
        (b"\xff\xfe", None, "\ufffd\ufffd"),
    ],
)
def test_every_form_of_error_is_read(body, code, message):
    """OpenAI's error object, the forms that other servers use, and what is no JSON at all."""
    fault = fault_of_reply(500, {}, body)
    assert (fault.status, fault.code, fault.message) == (500, code, message)
