"""Secrets are in no log, no error message and no Redis key: after a run with faults all of these are searched."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis
from aiohttp import web

from askmill.config.settings import BadSetting, load_settings
from askmill.jobs.local import embedded_redis
from askmill.jobs.local.ports import HOST
from askmill.jobs.store.codec import unpack, unpack_result
from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack

KEY = "Zq7.distinctive.KEY.0123456789"
"""A key without the usual prefix, so that no pattern recognizes it."""
PROFILE = "instructions = 'Be brief.'"


@dataclass
class LeakyProxy:
    """A proxy before an API: error replies that quote the key, and one malformed reply."""

    api: str
    faults: list[tuple[str, str, int, str]] = field(default_factory=list)
    """(method, end of the path, status, body), each once, in order."""

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        for fault in self.faults:
            method, end, status, text = fault
            if request.method == method and re.search(end, request.path):
                self.faults.remove(fault)
                text = text.replace("THE RUN", request.path.rsplit("/", 1)[-1])
                return web.Response(status=status, text=text, content_type="application/json")
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "OpenAI-Beta")
            if name in request.headers
        }
        headers["Content-Type"] = "application/json"
        where = f"{self.api}{request.path_qs.removeprefix('/v1')}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, where, data=body, headers=headers) as reply,
        ):
            return web.Response(status=reply.status, body=await reply.read(), content_type=reply.content_type)


@asynccontextmanager
async def leaky_proxy(api: str, *faults: tuple[str, str, int, str]) -> AsyncIterator[tuple[LeakyProxy, str]]:
    server = LeakyProxy(api, list(faults))
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield server, f"http://{HOST}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


INVALID_KEY = json.dumps(
    {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}
)
SERVER_ERROR = json.dumps({"error": {"message": f"upstream said no to Authorization: Bearer {KEY}"}})
MALFORMED_RUN = json.dumps(
    {
        "id": "THE RUN",
        "status": "requires_action",
        "required_action": {"submit_tool_outputs": {"tool_calls": ["no object"]}},
    }
)


@pytest.mark.parametrize("form", ["console", "json"])
async def test_after_a_run_with_faults_no_secret_is_anywhere(tmp_path: Path, form: str) -> None:
    """A 401 and a 500 that quote the key, a malformed reply; at debug level, with the embedded Redis."""
    user = terminal(tmp_path).with_settings(
        ASKMILL_LOG_LEVEL="debug", ASKMILL_LOG_FORMAT=form, OPENAI_API_KEY=KEY
    )
    user.write("q.csv", "question", *(f"What is {row} + 1?" for row in range(6)))
    data = Path(user.settings["ASKMILL_DATA_DIR"])
    commands = []
    with Stack(tmp_path) as stack:
        faults = [
            ("POST", "/threads$", 401, INVALID_KEY),
            ("POST", "/threads$", 500, SERVER_ERROR),
            ("GET", "/runs/[^/]+$", 500, SERVER_ERROR),
            ("GET", "/runs/[^/]+$", 200, MALFORMED_RUN),
        ]
        async with leaky_proxy(stack.base_url, *faults) as (server, address):
            proxied = user.with_settings(OPENAI_BASE_URL=address)
            refused = await _run(proxied, "run", "q.csv")
            commands.append(refused)
            assert refused.returncode == 3, refused.stderr
            paused, password = _stored(data)
            assert "Incorrect API key provided" in paused
            commands.append(await _run(proxied, "doctor"))
            done = await _run(proxied, "run", "q.csv")
            commands += [done, await _run(proxied, "status"), await _run(proxied, "show", _newest(done), "1")]
            commands += [await _run(proxied, "report", "-o", "r.html"), await _run(proxied, "list", "--json")]
            if form == "json":
                server.faults.append(("POST", "/threads$", 401, INVALID_KEY))
                commands.append(await asyncio.to_thread(_library_exception, proxied))
            assert done.returncode == 0, done.stderr
            assert server.faults == []

    texts = {"Redis": paused + _stored(data)[0], **dict(_files(data, user.folder)), "terminal": str(commands)}
    for secret in (KEY, password):
        leaks = [place for place, text in texts.items() if secret in text]
        assert leaks == []
    assert password in (data / "redis" / "server.conf").read_text(), (
        "the search finds the password where it belongs"
    )


async def _run(user: CommandLine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(user.askmill, *arguments)


LIBRARY = """
import askmill, traceback
try:
    askmill.run("q.csv", new=True)
except askmill.AskmillError as error:
    print("raised", type(error).__name__, error, repr(error), vars(error), traceback.format_exc())
"""


def _library_exception(user: CommandLine) -> "subprocess.CompletedProcess[str]":
    """All of what a program can print of an exception of the library, after a 401 that quotes the key."""
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY],
        cwd=user.folder,
        env=user.env(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "raised" in done.stdout, done.stderr
    assert "Incorrect API key provided" in done.stdout
    return done


def _stored(data: Path) -> tuple[str, str]:
    """All keys and values of the embedded Redis, and its password."""
    with embedded_redis(data) as url, redis.Redis.from_url(url) as client:
        password = re.search(r":([0-9a-f]{64})@", url)
        assert password
        return "\n".join(_keys_and_values(client)), password[1]


def _newest(done: "subprocess.CompletedProcess[str]") -> str:
    found = re.search(r"b_[a-z0-9]+", done.stderr)
    assert found, done.stderr
    return found[0]


def _files(*folders: Path) -> Iterator[tuple[str, str]]:
    """Every file's text, but for the one that holds the password."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "server.conf":
                yield str(path), path.read_bytes().decode("latin-1")


def _keys_and_values(client: "redis.Redis") -> Iterator[str]:
    """Names and values of all keys; compressed values also unpacked."""
    for key in client.scan_iter():
        yield key.decode()
        for value in _values(client, key):
            yield value.decode("latin-1")
            yield _unpacked(value)


def _values(client: "redis.Redis", key: bytes) -> list[bytes]:
    match client.type(key):
        case b"hash":
            return [part for pair in client.hgetall(key).items() for part in pair]
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"set":
            return list(client.smembers(key))
        case b"list":
            return list(client.lrange(key, 0, -1))
        case b"string":
            return [client.get(key)]
        case other:
            raise AssertionError(f"{key!r} is a {other!r}: read it here too")


def _unpacked(value: bytes) -> str:
    """A zstd frame's text: a block of input, or a result with its dictionary."""
    if not value.startswith(b"\x28\xb5\x2f\xfd"):
        return ""
    readers: list[Any] = [unpack, lambda packed: unpack_result(1, packed)]
    for read in readers:
        try:
            return json.dumps(read(value))
        except Exception:  # noqa: BLE001 -- the other form
            continue
    raise AssertionError(f"cannot unpack {value[:40]!r}")


LOGGING = """
import asyncio, structlog
from askmill.config.logs import set_up_logs
from askmill.config.text import mask_from_now_on

set_up_logs({form!r}, "debug")
mask_from_now_on(["a-password"])

async def crash(key):
    raise RuntimeError("boom \\x1b[2J with a-password")

async def main():
    try:
        await crash({key!r})
    except RuntimeError:
        structlog.get_logger().exception("job.crashed", fault="\\x1b]0;title", held={{"k": ["Bearer x.y", b"a-password"]}})

asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_no_variables_and_no_escape_codes(form: str) -> None:
    """The key is one of the frames' variables; a message may quote a password or contain terminal escape codes."""
    program = LOGGING.format(form=form, key=KEY)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    log = done.stderr.decode()
    assert "RuntimeError: boom" in log
    assert "in crash" in log
    for secret in (KEY, "a-password", "x.y", "\x1b", "\\u001b"):
        assert secret not in log.replace(f"crash({KEY!r})", "")


ADDRESSES_WITH_SECRETS = (
    "http://me:pw@host/v1",
    "http://me@host/v1",
    "http://host/v1?api-key=abc",
    "http://host/v1?x=sk-123456789",
)


@pytest.mark.parametrize(
    "address", [*ADDRESSES_WITH_SECRETS, "http://host/v1?sig=abc&api-version=v1", "http://host/v1?code=abc"]
)
def test_an_address_with_a_secret_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be stored with each batch and each worker's heartbeat; the message says where the key belongs."""
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(BadSetting) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith("OPENAI_BASE_URL: must hold no ")
    assert "put the key into OPENAI_API_KEY. A good value: https://api.openai.com/v1." in message
    assert not any(secret in message for secret in ("pw", "abc", "123456789"))


def test_an_address_with_another_query_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Foundry's address has the API version in its query."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://r.services.ai.azure.com/api/projects/p?api-version=v1")
    assert load_settings().base_url.endswith("?api-version=v1")
