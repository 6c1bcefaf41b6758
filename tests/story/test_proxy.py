"""Batches behind a proxy, and at an address that redirects: the messages, and that no secret is sent elsewhere."""

import asyncio
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from askmill.jobs.local.ports import HOST
from tests.backends.backend_session import emulator_running
from tests.backends.stub_server import redirecting
from tests.helpers.command_line import CommandLine, terminal
from tests.helpers.recording_server import RecordingServer, basic_auth
from tests.helpers.tcp_relay import over_tls
from tests.stack import Stack
from tests.story.test_secrets import leaky_proxy

KEY = "sk-Zq7.distinctive.KEY.0123456789"
PASSWORD = "distinctive-password-of-the-proxy"
ROWS = [f"What is {row} + 1?" for row in range(5)]
APIS = ["assistants", "responses"]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in (*PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    user = terminal(tmp_path).with_settings(OPENAI_API_KEY=KEY, ASKMILL_LOG_LEVEL="debug")
    user.write("q.csv", "question", *ROWS)
    return user


@pytest.fixture
def api_url(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "emulator"
    folder.mkdir()
    with emulator_running(folder) as url:
        yield url


def all_file_text(user: CommandLine) -> str:
    """All files of the working folder and the data directory, logs included."""
    folders = (user.folder, Path(user.settings["ASKMILL_DATA_DIR"]))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


@pytest.mark.parametrize("api", APIS)
def test_a_batch_through_a_proxy(user: CommandLine, api_url: str, tmp_path: Path, api: str) -> None:
    """A TLS host that only the proxy reaches: the proxy never gets the key, and its password is in no text."""
    with (
        over_tls(api_url, tmp_path, "api.test") as (url, trusted),
        RecordingServer(f"me:{PASSWORD}") as proxy,
    ):
        proxied = user.with_settings(
            ASKMILL_API=api,
            OPENAI_BASE_URL=url,
            SSL_CERT_FILE=str(trusted),
            HTTPS_PROXY=proxy.url.replace("://", f"://me:{PASSWORD}@"),
        )
        doctor = proxied.askmill("doctor")
        done = proxied.askmill("run", "q.csv")
    assert done.returncode == 0, done.stderr
    assert "5 completed" in done.stderr
    assert f"ok    proxy: requests to {url} go through the proxy {proxy.url} (HTTPS_PROXY)" in doctor.stdout
    assert {line.split(":")[0] for line in proxy.request_lines} == {"CONNECT api.test"}
    assert proxy.headers("proxy-authorization") == {basic_auth(f"me:{PASSWORD}")}
    assert not any(KEY in head for head in proxy.heads)
    output = doctor.stdout + doctor.stderr + done.stdout + done.stderr + all_file_text(user)
    assert "CONNECT" not in output
    for secret in (PASSWORD, KEY, basic_auth(f"me:{PASSWORD}")):
        assert secret not in output


@pytest.mark.parametrize(
    ("environ", "route"),
    [
        ({}, "go directly, without a proxy"),
        ({"HTTPS_PROXY": "proxy.test:3128"}, "go directly, without a proxy"),
        ({"ALL_PROXY": "proxy.test:3128", "NO_PROXY": "127.0.0.0/8"}, "without a proxy (NO_PROXY names it)"),
    ],
)
def test_doctor_shows_the_route_to_the_api(
    user: CommandLine, api_url: str, environ: dict[str, str], route: str
) -> None:
    """Also a direct connection, with the variable that is the reason."""
    doctor = user.with_settings(OPENAI_BASE_URL=api_url, **environ).askmill("doctor")
    assert doctor.returncode == 0, doctor.stdout
    assert f"ok    proxy: requests to {api_url} go directly" in doctor.stdout
    assert route in doctor.stdout


@pytest.mark.parametrize("command", [["run", "q.csv"], ["doctor"], ["worker"]])
@pytest.mark.parametrize(
    "value", [f"socks5://me:{PASSWORD}@proxy.test:1080", f"me:{PASSWORD}#1@proxy.test:3128"]
)
def test_an_unusable_proxy_is_an_error_before_anything_is_stored(
    user: CommandLine, api_url: str, command: list[str], value: str
) -> None:
    """A setting: exit 2, with the variable's name and a good value, and without the password."""
    ended = user.with_settings(OPENAI_BASE_URL=api_url, ALL_PROXY=value).askmill(*command)
    output = ended.stdout + ended.stderr
    assert ended.returncode == 2, output
    assert "ALL_PROXY: " in output
    assert "A good value: http://proxy.example.com:3128." in output
    assert "Traceback" not in output
    assert PASSWORD not in output
    assert "b_" not in user.askmill("list").stdout


def test_offline_uses_no_proxy(user: CommandLine) -> None:
    """The connection to the local emulator is direct, whatever the variables say."""
    with RecordingServer(refuse_connect=403) as proxy:
        proxied = user.with_settings(HTTP_PROXY=proxy.url, ALL_PROXY="socks5://proxy.test")
        done = proxied.askmill("run", "q.csv", "--offline")
        chat = proxied.askmill("chat", "--offline", stdin="What is 1 + 1?\nexit\n")
    assert done.returncode == 0, done.stderr
    assert chat.returncode == 0, chat.stderr
    assert proxy.request_lines == []


async def run(user: CommandLine, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(user.askmill, *arguments)


@pytest.mark.parametrize("api", APIS)
async def test_an_address_that_redirects_pauses_the_batch(user: CommandLine, api: str) -> None:
    """`run` ends at once with the address to set; no row has failed, and status and doctor say the same."""
    moved = "https://moved.test/api/v1"
    async with redirecting(lambda request: moved + request.path_qs.removeprefix("/v1"), 301, ("POST",)) as (
        server,
        url,
    ):
        redirected = user.with_settings(ASKMILL_API=api, OPENAI_BASE_URL=url)
        ended = await run(redirected, "run", "q.csv")
        status, doctor = await run(redirected, "status"), await run(redirected, "doctor")
    assert ended.returncode == 3, ended.stderr
    assert doctor.returncode == 3, doctor.stdout
    for output in (ended.stderr, status.stdout, doctor.stdout):
        assert "POST is redirected (301) to https://moved.test/api/v1/" in output
        assert f"set OPENAI_BASE_URL to {moved}" in " ".join(output.split())
    assert "5 queued" in status.stdout
    assert "askmill purge" in status.stdout
    assert not [name for name, _ in server.requests if name.startswith("GET") and name.endswith("/threads")]


async def test_a_redirect_during_a_run_costs_no_row(user: CommandLine, tmp_path: Path) -> None:
    """A redirected poll pauses the batch; the same command then polls the same runs to their end."""
    with Stack(tmp_path) as stack:
        async with leaky_proxy(stack.base_url, ("GET", "/runs/[^/]+$", 302, "moved")) as (_, url):
            redirected = user.with_settings(OPENAI_BASE_URL=url)
            paused = await run(redirected, "run", "q.csv")
            assert paused.returncode == 3, paused.stderr
            assert "GET is redirected (302)" in paused.stderr
            done = await run(redirected, "run", "q.csv")
        assert done.returncode == 0, done.stderr
        assert "5 completed" in done.stderr
        assert stack.stats()["runs_created"] == 5


def test_the_on_done_notification_uses_the_proxy(user: CommandLine, api_url: str) -> None:
    """`--on-done` with an address: sent through the proxy, without the key; the proxy's password is in no text."""
    with RecordingServer(f"me:{PASSWORD}") as proxy:
        proxied = user.with_settings(HTTP_PROXY=proxy.url.replace("://", f"://me:{PASSWORD}@"))
        emulator = api_url.replace("/v1", "/emulator/nothing").replace(HOST, "notice.test")
        done = proxied.askmill("run", "q.csv", "--offline", "--on-done", emulator)
    assert done.returncode == 0, done.stderr
    (notice,) = proxy.heads
    assert re.match(r"POST http://notice\.test:\d+/emulator/nothing ", notice)
    assert proxy.headers("proxy-authorization") == {basic_auth(f"me:{PASSWORD}")}
    assert KEY not in notice
    assert "--on-done: notice.test answered 404" in done.stderr
    assert PASSWORD not in done.stderr + all_file_text(user)
