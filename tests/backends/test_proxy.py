"""Creates and reads take one way to the API, and no proxy is told the key."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.model.errors import ApiUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.openai_client import client as jobs_api
from askmill.jobs.openai_client.client import probe
from askmill.jobs.openai_client.uploads import purge_objects, still_there, upload_file
from askmill.worker.lifecycle.api_types import ApiError
from tests.backends.api_support import KEY, bench
from tests.helpers.recording_proxy import RecordingProxy, basic, over_tls

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ONLY_BY_PROXY = "api.test"
"""A name that no DNS knows: what reaches it has gone through the proxy."""
CREDENTIALS = "proxy user:p@ss/wörd"
QUOTED = "proxy%20user:p%40ss%2Fw%C3%B6rd"
both_apis = pytest.mark.parametrize("api", ["assistants", "responses"])
both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.fixture(autouse=True)
def no_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *map(str.lower, NAMES)):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Upstream:
    """The emulator, as http and behind TLS, under a name of the test's choice."""

    addresses: dict[str, str]

    def at(self, scheme: str, name: str = ONLY_BY_PROXY) -> str:
        parts = urlsplit(self.addresses[scheme])
        return f"{scheme}://{name}:{parts.port}{parts.path}"


@pytest.fixture
def upstream(emulator_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    with over_tls(emulator_url, tmp_path, ONLY_BY_PROXY, "localhost", HOST) as (https, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        yield Upstream({"http": emulator_url, "https": https})


async def ask_everything(url: str, api: Api, folder: Path) -> None:
    """Each kind of request: creates, reads, a file's content, an upload, a deletion, and doctor's."""
    at = bench(url, api)
    try:
        run, answer = await at.answered("Say hello. [emulate: completed(file)]")
        assert run.status == "completed"
        assert await at.backend.fetch_file(answer.files[0])
    finally:
        await at.backend.close()
    notes = folder / "notes.txt"
    notes.write_text("The heron nests on the island.")
    async with jobs_api.make_client(KEY, url) as client:
        await probe(client, api)
        file_id = await upload_file(client, notes, "assistants")
        assert await still_there(client, "file", file_id)
        assert (await purge_objects(client, [("file", file_id)])).faults == []


def assert_no_key(proxy: RecordingProxy) -> None:
    """Not in CONNECT, nor in Proxy-Authorization; http itself shows the forwarded request to any proxy."""
    tunnels = [head for head in proxy.heads if head.startswith("CONNECT")]
    assert not any(KEY in text for text in [*tunnels, *proxy.headers("proxy-authorization")])
    names = {line.partition(":")[0].lower() for head in tunnels for line in head.split("\r\n")[1:]}
    assert not names & {"authorization", "openai-beta", "openai-organization", "openai-project"}


@both_apis
@both_schemes
@pytest.mark.parametrize("variable", ["own", "ALL_PROXY"])
@pytest.mark.parametrize("spelled", ["upper", "lower", "without scheme"])
async def test_all_requests_take_the_proxy(upstream, api, scheme, variable, spelled, tmp_path, monkeypatch):
    """That of the scheme's own variable or of ALL_PROXY: creates and reads alike, and without the key."""
    name = f"{scheme.upper()}_PROXY" if variable == "own" else variable
    with RecordingProxy() as proxy:
        value = proxy.url.removeprefix("http://") if spelled == "without scheme" else proxy.url
        monkeypatch.setenv(name.lower() if spelled == "lower" else name, value)
        await ask_everything(upstream.at(scheme), api, tmp_path)
    methods = {line.split()[0] for line in proxy.asked}
    assert methods == ({"GET", "POST", "DELETE"} if scheme == "http" else {"CONNECT"})
    assert proxy.headers("proxy-authorization") == set()
    assert_no_key(proxy)


@both_apis
@both_schemes
async def test_a_proxy_gets_its_own_credentials_and_no_others(upstream, api, scheme, tmp_path, monkeypatch):
    """Basic, of the user and password in its variable, which may hold any character."""
    with RecordingProxy(credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url.replace("://", f"://{QUOTED}@"))
        await ask_everything(upstream.at(scheme), api, tmp_path)
    assert proxy.headers("proxy-authorization") == {basic(CREDENTIALS)}
    assert all("proxy-authorization" in head.lower() for head in proxy.heads)
    assert_no_key(proxy)


@both_schemes
async def test_a_proxy_that_is_asked_over_tls(upstream, scheme, tmp_path, monkeypatch):
    """An https:// proxy, with a tunnel through its own TLS for an https address."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    with RecordingProxy(CREDENTIALS) as proxy, over_tls(proxy.url, folder, "localhost") as (url, trusted):
        both = tmp_path / "both.pem"
        both.write_bytes((tmp_path / "authority.pem").read_bytes() + trusted.read_bytes())
        monkeypatch.setenv("SSL_CERT_FILE", str(both))
        monkeypatch.setenv("ALL_PROXY", url.replace("://", f"://{QUOTED}@"))
        await ask_everything(upstream.at(scheme), "responses", tmp_path)
    assert proxy.headers("proxy-authorization") == {basic(CREDENTIALS)}
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
async def test_no_proxy_holds_for_all_requests(upstream, api, scheme, name, exception, tmp_path, monkeypatch):
    """A name, an address or a network in NO_PROXY: neither creates nor reads reach the proxy."""
    with RecordingProxy() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", exception)
        await ask_everything(upstream.at(scheme, name), api, tmp_path)
    assert proxy.asked == []


@both_apis
@both_schemes
async def test_no_proxy_by_suffix_and_port(upstream, api, scheme, tmp_path, monkeypatch):
    """What NO_PROXY does not name goes through the proxy, however near it is."""
    url = upstream.at(scheme)
    near = f".api.test,i.test,xapi.test,api.test:{(urlsplit(url).port or 0) + 1},127.0.0.0/8"
    with RecordingProxy() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", near)
        await ask_everything(url, api, tmp_path)
        assert proxy.asked
        for far in (".test", "test", f"api.test:{urlsplit(url).port}"):
            monkeypatch.setenv("NO_PROXY", far)
            for ask in (create, read):
                with pytest.raises(ApiError, match=r"not_connected: Cannot connect to host api\.test"):
                    await ask(url, api)


async def create(url: str, api: Api) -> None:
    at = bench(url, api)
    try:
        await at.ask("Why?")
        await at.backend.make_thread(await at.ask("Why?"))
    finally:
        await at.backend.close()


async def read(url: str, api: Api) -> None:
    at = bench(url, api)
    try:
        await at.backend.fetch_file({"file_id": "file-1"})
    finally:
        await at.backend.close()


both_ways = pytest.mark.parametrize("ask", [create, read])


@both_ways
@both_schemes
async def test_a_proxy_that_wants_a_password_is_named(upstream, ask, scheme, monkeypatch):
    """The batch pauses with the variable's name: 407 is about the way, and no row fails for it."""
    with RecordingProxy(credentials=CREDENTIALS) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url.replace("://", "://mallory:wrong-word@"))
        with pytest.raises(ApiError) as refused:
            await ask(upstream.at(scheme), "responses")
        async with jobs_api.make_client(KEY, upstream.at(scheme)) as client:
            with pytest.raises(ApiUnavailable) as told:
                await probe(client, "responses")
    fault = refused.value
    assert (fault.code, fault.sent) == ("proxy_refused", False)
    for words in (str(fault), str(told.value)):
        assert f"the proxy {proxy.url} ({scheme.upper()}_PROXY) wants a user and a password" in words
        assert f"Put them in front of the host in {scheme.upper()}_PROXY." in words
        assert "wrong-word" not in words
        assert "mallory" not in words


@both_ways
@pytest.mark.parametrize(("status", "code"), [(403, "proxy_refused"), (503, "not_connected")])
async def test_a_proxy_that_opens_no_tunnel_is_named(upstream, ask, status, code, monkeypatch):
    """Nothing was sent: a refusal is a setting, a proxy in trouble may pass."""
    with RecordingProxy(refuses=status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ApiError) as refused:
            await ask(upstream.at("https"), "responses")
    fault = refused.value
    assert (fault.code, fault.sent, fault.status) == (code, False, None)
    said = f"the proxy {proxy.url} (HTTPS_PROXY) refuses to connect ({status} Refused). Check HTTPS_PROXY"
    assert said in str(fault)


@both_ways
@both_schemes
async def test_a_proxy_that_is_away_is_named(upstream, ask, scheme, monkeypatch):
    """Nothing listens there: the request was never sent, and may be repeated without looking."""
    address = f"http://{HOST}:{free_port()}"
    monkeypatch.setenv("all_proxy", address)
    with pytest.raises(ApiError) as away:
        await ask(upstream.at(scheme), "responses")
    assert (away.value.code, away.value.sent) == ("not_connected", False)
    assert f"the proxy {address} (all_proxy) does not answer" in str(away.value)
