"""`askmill web` behind nginx and Caddy, with the configurations of docs/how-to/web.md. Issue 18, 6.

Debian has both: `apt-get install nginx-light caddy`. Without them these tests fail. Run them with `pytest -m browser`.
"""

import http.client
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from askmill.jobs.local.ports import HOST, free_port
from tests.helpers.web_server import TOKEN, WebServer, web_server
from tests.stack import Child, Stack
from tests.support import wait_until

pytestmark = pytest.mark.browser
HOW_TO = (Path(__file__).parents[2] / "docs" / "how-to" / "web.md").read_text("utf-8")
NAME, PREFIX = "intranet.example", "/askmill"
UPLOAD_BYTES = 3_000_000
"""More than nginx takes by default."""
NGINX = """
user root;
daemon off;
pid %(folder)s/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path %(folder)s/body;
    proxy_temp_path %(folder)s/proxy;
    fastcgi_temp_path %(folder)s/fastcgi;
    uwsgi_temp_path %(folder)s/uwsgi;
    scgi_temp_path %(folder)s/scgi;
    server {
        listen 127.0.0.1:%(port)d;
        server_name intranet.example;
        %(location)s
    }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with (
        Stack(tmp_path_factory.mktemp("proxied")) as stack,
        web_server(stack, "--prefix", PREFIX, "--allow-host", NAME) as server,
    ):
        yield server


def documented(language: str, start: str) -> str:
    """The code block of the how-to that begins so."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", HOW_TO, re.DOTALL)
    return next(block for block in blocks if block.startswith(start))


@contextmanager
def proxied(program: str, config: str, server: WebServer, folder: Path) -> Iterator[int]:
    """Run the proxy with the configuration; yields its port."""
    binary = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    assert binary is not None, f"{program} is not installed: apt-get install nginx-light caddy"
    port, path = free_port(), folder / "config"
    config = config.replace("127.0.0.1:8765", f"{HOST}:{server.port}")
    if program == "nginx":
        path.write_text(NGINX % {"folder": folder, "port": port, "location": config})
        command = [binary, "-c", str(path)]
    else:
        site = config.replace(f"{NAME} {{", f"http://{NAME}:{port} {{", 1)
        path.write_text("{\n    admin off\n    auto_https off\n}\n" + site)
        command = [binary, "run", "--config", str(path), "--adapter", "caddyfile"]
    child = Child(command, folder / "proxy.log", {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}).start()
    try:
        wait_until(lambda: _answers(port), "the proxy answers", 30)
        yield port
    finally:
        child.kill()


def _answers(port: int) -> bool:
    try:
        status, _, _ = ask(port, "GET", "/healthz")
    except OSError:
        return False
    return status == 204


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    """A request through the proxy, to the public name; returns status, headers and content."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, PREFIX + path, body, {"Host": NAME, **named})
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


@pytest.mark.parametrize(
    ("program", "language", "start"), [("nginx", "nginx", "location"), ("caddy", "text", NAME)]
)
def test_the_documented_configuration_serves_the_page_under_a_prefix(
    program: str, language: str, start: str, server: WebServer, tmp_path: Path
) -> None:
    """Sign-in, links, an upload of some megabytes with the page's Origin, and events as they happen."""
    with proxied(program, documented(language, start), server, tmp_path) as port:
        status, headers, _ = ask(port, "GET", f"/?token={TOKEN}")
        assert (status, headers["location"]) == (303, f"{PREFIX}/")
        session = headers["set-cookie"].partition(";")[0]
        status, _, page = ask(port, "GET", "/", Cookie=session)
        links = set(re.findall(r'(?:href|src|action)="(/[^"]*)"', page))
        assert status == 200
        assert all(link.startswith(f"{PREFIX}/") for link in links), links
        answers = {link: ask(port, "GET", link.removeprefix(PREFIX), Cookie=session)[0] for link in links}
        assert set(answers.values()) <= {200, 303}, answers

        rows = b"[emulate: completed after=600] " + b"x" * 1000 + b"\n"
        content = b"question,program\n" + (rows.replace(b"\n", b",%s\n" % program.encode())) * (
            UPLOAD_BYTES // 1030
        )
        form = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="q.csv"\r\n\r\n'
            + content
            + b"\r\n--b--\r\n"
        )
        kind = "multipart/form-data; boundary=b"
        # A small body: nginx answers 502 if its server refuses a big one before it has been sent.
        refused = ask(
            port,
            "POST",
            "/api/batches",
            b"--b--\r\n",
            Cookie=session,
            Content_Type=kind,
            Origin="http://evil.example",
        )
        assert refused[0] == 403
        own = f"http://{NAME}"
        status, headers, reply = ask(
            port, "POST", "/api/batches", form, Cookie=session, Content_Type=kind, Origin=own
        )
        assert status == 201, reply
        assert headers["location"] == f"{PREFIX}/api/batches/{json.loads(reply)['batch']}"

        connection = http.client.HTTPConnection(HOST, port, timeout=20)
        connection.request("GET", f"{headers['location']}/events", headers={"Host": NAME, "Cookie": session})
        events = connection.getresponse()
        while not (line := events.readline()).startswith(b"data: "):
            assert line  # the batch has not ended
        assert json.loads(line.removeprefix(b"data: "))["state"] in {"queued", "running"}
        events.close()
        connection.close()
        path = headers["location"].removeprefix(PREFIX)
        assert ask(port, "POST", f"{path}/cancel", b"", Cookie=session, Origin=own)[0] == 200
        wait_until(lambda: _ended(server, path), "no row runs any more", 60)


def _ended(server: WebServer, path: str) -> bool:
    counts = json.loads(server.read(path))["counts"]
    return not counts["queued"] + counts["running"]


def test_a_sign_on_in_front_adds_the_token(server: WebServer, tmp_path: Path) -> None:
    """nginx sends the token for whom it has admitted: nobody sees the sign-in page."""
    token = next(line for line in documented("nginx", "    auth_request").splitlines() if "Bearer" in line)
    location = documented("nginx", "location").replace("}", token.replace("TOKEN", TOKEN) + "\n}")
    with proxied("nginx", location, server, tmp_path) as port:
        status, _, page = ask(port, "GET", "/")
        assert (status, "Sign in" in page) == (200, False)
