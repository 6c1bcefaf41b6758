"""All requests use the same proxy (case A2), and no proxy gets the key (case A1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client.client import make_client
from askmill.jobs.openai_client.offers import probe
from askmill.jobs.openai_client.uploads import object_exists, purge_objects, upload_file
from askmill.worker.backends.factory import BACKENDS
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.backend_session import KEY, open_session
from tests.backends.stub_server import run_request
from tests.helpers.recording_server import RecordingServer, basic_auth
from tests.helpers.tcp_relay import over_tls

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PROXY_ONLY_HOST = "api.test"
"""DNS does not know this host, so it can be reached only through the proxy."""
CREDENTIALS = "proxy user:p@ss/wörd"
QUOTED = "proxy%20user:p%40ss%2Fw%C3%B6rd"
both_apis = pytest.mark.parametrize("api", ["assistants", "responses"])
both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.fixture(autouse=True)
def no_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, *map(str.lower, PROXY_VARIABLES)):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Upstream:
    """The emulator over http and https, under any host name."""

    addresses: dict[str, str]

    def url(self, scheme: str, name: str = PROXY_ONLY_HOST) -> str:
        parts = urlsplit(self.addresses[scheme])
        return f"{scheme}://{name}:{parts.port}{parts.path}"


@pytest.fixture
def upstream(emulator_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    with over_tls(emulator_url, tmp_path, PROXY_ONLY_HOST, "localhost", HOST) as (https, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        yield Upstream({"http": emulator_url, "https": https})


async def send_every_request(url: str, api: Api, folder: Path) -> None:
    """Every kind of request: creates, reads, a download, an upload, a deletion, and the probe."""
    session = open_session(url, api)
    try:
        run, answer = await session.answer("Say hello. [emulate: completed(file)]")
        assert run.status == "completed"
        assert await session.backend.download_file(answer.files[0])
    finally:
        await session.backend.close()
    notes = folder / "notes.txt"
    notes.write_text("The heron nests on the island.")
    async with make_client(KEY, url) as client:
        await probe(client, api)
        file_id = await upload_file(client, notes, "assistants")
        assert await object_exists(client, "file", file_id)
        assert (await purge_objects(client, [("file", file_id)])).faults == []


def assert_no_key(proxy: RecordingServer) -> None:
    """Neither in CONNECT nor in Proxy-Authorization. A request over http is forwarded with its own key."""
    tunnels = [head for head in proxy.heads if head.startswith("CONNECT")]
    assert not any(KEY in text for text in [*tunnels, *proxy.headers("proxy-authorization")])
    names = {line.partition(":")[0].lower() for head in tunnels for line in head.split("\r\n")[1:]}
    assert not names & {"authorization", "openai-beta", "openai-organization", "openai-project"}


@both_apis
@both_schemes
@pytest.mark.parametrize("variable", ["own", "ALL_PROXY"])
@pytest.mark.parametrize("spelling", ["upper", "lower", "without scheme"])
async def test_all_requests_use_the_proxy(
    upstream: Upstream,
    api: Api,
    scheme: str,
    variable: str,
    spelling: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of the scheme's own variable or of ALL_PROXY, for creates and reads, without the key."""
    name = f"{scheme.upper()}_PROXY" if variable == "own" else variable
    with RecordingServer() as proxy:
        value = proxy.url.removeprefix("http://") if spelling == "without scheme" else proxy.url
        monkeypatch.setenv(name.lower() if spelling == "lower" else name, value)
        await send_every_request(upstream.url(scheme), api, tmp_path)
    methods = {line.split()[0] for line in proxy.request_lines}
    assert methods == ({"GET", "POST", "DELETE"} if scheme == "http" else {"CONNECT"})
    assert proxy.headers("proxy-authorization") == set()
    assert_no_key(proxy)


@both_apis
@both_schemes
async def test_a_proxy_gets_its_own_credentials_and_no_others(
    upstream: Upstream, api: Api, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Basic auth with the variable's user and password, which may hold any character."""
    with RecordingServer(credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url.replace("://", f"://{QUOTED}@"))
        await send_every_request(upstream.url(scheme), api, tmp_path)
    assert proxy.headers("proxy-authorization") == {basic_auth(CREDENTIALS)}
    assert all("proxy-authorization" in head.lower() for head in proxy.heads)
    assert_no_key(proxy)


@both_schemes
async def test_calls_of_chat_completions_use_the_proxy(
    upstream: Upstream, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamed calls too: with the proxy's credentials and without the key."""
    with RecordingServer(credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", f"://{QUOTED}@"))
        url = upstream.url(scheme)
        backend = BACKENDS["chat"](make_client(KEY, url))
        try:
            run = await backend.create_run(run_request(question="What is 1 + 1?"), "t_1")
        finally:
            await backend.close()
        async with make_client(KEY, url) as client:
            await probe(client, "chat")
    assert run.status == "completed"
    assert proxy.headers("proxy-authorization") == {basic_auth(CREDENTIALS)}
    assert_no_key(proxy)


@both_schemes
async def test_a_proxy_over_tls(
    upstream: Upstream, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An https:// proxy, with a tunnel inside its TLS for an https address."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    with RecordingServer(CREDENTIALS) as proxy, over_tls(proxy.url, folder, "localhost") as (url, trusted):
        authorities = tmp_path / "both.pem"
        authorities.write_bytes((tmp_path / "authority.pem").read_bytes() + trusted.read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
        monkeypatch.setenv("ALL_PROXY", url.replace("://", f"://{QUOTED}@"))
        await send_every_request(upstream.url(scheme), "responses", tmp_path)
    assert proxy.headers("proxy-authorization") == {basic_auth(CREDENTIALS)}
    assert_no_key(proxy)


@both_apis
@both_schemes
@pytest.mark.parametrize(
    ("name", "exception"),
    [
        ("localhost", "other.test, LOCALHOST"),
        (HOST, "10.0.0.0/8,127.0.0.0/8"),
    ],
)
async def test_no_proxy_applies_to_all_requests(
    upstream: Upstream,
    api: Api,
    scheme: str,
    name: str,
    exception: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name, an address or a network: neither creates nor reads reach the proxy."""
    with RecordingServer() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exception)
        await send_every_request(upstream.url(scheme, name), api, tmp_path)
    assert proxy.request_lines == []


@both_apis
@both_schemes
async def test_no_proxy_by_suffix_and_port(
    upstream: Upstream, api: Api, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Similar hosts that NO_PROXY does not name still use the proxy."""
    url = upstream.url(scheme)
    near = f".api.test,i.test,xapi.test,api.test:{(urlsplit(url).port or 0) + 1},127.0.0.0/8"
    with RecordingServer() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", near)
        await send_every_request(url, api, tmp_path)
        assert proxy.request_lines
        for far in (".test", "test", f"api.test:{urlsplit(url).port}"):
            monkeypatch.setenv("NO_PROXY", far)
            for send in (create, read):
                with pytest.raises(ApiError, match=r"not_connected: Cannot connect to host api\.test"):
                    await send(url, api)


async def create(url: str, api: Api) -> None:
    session = open_session(url, api)
    try:
        await session.new_request("Why?")
        await session.backend.create_thread(await session.new_request("Why?"))
    finally:
        await session.backend.close()


async def read(url: str, api: Api) -> None:
    session = open_session(url, api)
    try:
        await session.backend.download_file({"file_id": "file-1"})
    finally:
        await session.backend.close()


creates_and_reads = pytest.mark.parametrize("send", [create, read])


@creates_and_reads
@both_schemes
async def test_a_proxy_that_wants_a_password_is_named(
    upstream: Upstream, send, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch pauses with the variable's name, and no row fails."""
    with RecordingServer(credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url.replace("://", "://mallory:wrong-word@"))
        with pytest.raises(ApiError) as error:
            await send(upstream.url(scheme), "responses")
        async with make_client(KEY, upstream.url(scheme)) as client:
            with pytest.raises(ApiUnavailable) as probe_error:
                await probe(client, "responses")
    refused = error.value
    assert (refused.code, refused.sent) == ("proxy_refused", False)
    for message in (str(refused), str(probe_error.value)):
        assert f"the proxy {proxy.url} ({scheme.upper()}_PROXY) wants a user and a password" in message
        assert f"Put them in front of the host in {scheme.upper()}_PROXY." in message
        assert "wrong-word" not in message
        assert "mallory" not in message


@creates_and_reads
@pytest.mark.parametrize(("status", "code"), [(403, "proxy_refused"), (503, "not_connected")])
async def test_a_proxy_that_opens_no_tunnel_is_named(
    upstream: Upstream, send, status: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent: a 403 needs another setting, a 503 may pass."""
    with RecordingServer(refuse_connect=status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ApiError) as error:
            await send(upstream.url("https"), "responses")
    refused = error.value
    assert (refused.code, refused.sent, refused.status) == (code, False, None)
    reason = f"the proxy {proxy.url} (HTTPS_PROXY) refuses to connect ({status} Refused). Check HTTPS_PROXY"
    assert reason in str(refused)


@creates_and_reads
@both_schemes
async def test_an_unreachable_proxy_is_named(
    upstream: Upstream, send, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request was never sent and may be repeated at once."""
    address = f"http://{HOST}:{free_port()}"
    monkeypatch.setenv("all_proxy", address)
    with pytest.raises(ApiError) as error:
        await send(upstream.url(scheme), "responses")
    assert (error.value.code, error.value.sent) == ("not_connected", False)
    assert f"the proxy {address} (all_proxy) does not answer" in str(error.value)
