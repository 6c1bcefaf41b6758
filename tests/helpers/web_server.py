"""`askmill web` in a process of its own, on the Redis and the emulator of a Stack."""

import http.client
import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from askmill.jobs.local.ports import HOST, free_port
from tests.stack import Child, Stack
from tests.support import wait_until

TOKEN = "token-of-a-server-in-a-process"


@dataclass(frozen=True)
class WebServer:
    """The process, and requests to it with its token."""

    child: Child
    port: int

    def start(self) -> None:
        """Start it, also again after a kill, and wait until it answers."""
        self.child.start()
        wait_until(self._answers, "the web server answers", 60)

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; the caller reads the response and closes the connection."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=120)
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
        return connection, connection.getresponse()

    def read(self, path: str) -> bytes:
        """The content of a page or of a route of the API, which must answer 200."""
        connection, response = self.request("GET", path)
        content = response.read()
        connection.close()
        assert response.status == 200, (path, response.status, content[:500])
        return content

    def submit(self, content: bytes, **options: str) -> str:
        """Submit a CSV; returns the batch's id."""
        boundary = uuid.uuid4().hex
        part = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
        body = (part % ("file", '; filename="questions.csv"')).encode() + content + b"\r\n"
        for name, value in options.items():
            body += (part % (name, "") + value + "\r\n").encode()
        body += f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        connection, response = self.request("POST", "/api/batches", body, **kind)
        reply: dict[str, Any] = json.loads(response.read())
        connection.close()
        assert response.status == 201, reply
        return str(reply["batch"])

    def _answers(self) -> bool:
        try:
            connection, response = self.request("GET", "/healthz")
        except OSError:
            return False
        connection.close()
        return response.status == 204


@contextmanager
def web_server(stack: Stack, *arguments: str) -> Iterator[WebServer]:
    """A running server; killed at the end, after which its worker ends by itself."""
    port = free_port()
    env = {**stack.settings(), "ASKMILL_WEB_TOKEN": TOKEN, "ASKMILL_DATA_DIR": str(stack.folder / "data")}
    command = [str(Path(sys.executable).with_name("askmill")), "web", "--port", str(port), *arguments]
    server = WebServer(Child(command, stack.folder / "web.log", env), port)
    try:
        server.start()
        yield server
    finally:
        server.child.kill()
