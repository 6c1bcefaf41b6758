"""A server that writes down what it is asked and refuses everything: `with eavesdropper() as server: server.asked`."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from askmill.jobs.local.ports import HOST

REFUSAL = json.dumps({"error": {"message": "This key is not for here.", "code": "invalid_api_key"}}).encode()


@dataclass(frozen=True)
class Asked:
    """One request; the names of headers are in lower case."""

    method: str
    url: str
    headers: dict[str, str]


@dataclass
class Eavesdropper:
    """`proxy` is its address as a proxy, which is asked for any host; `base_url` as an API of its own."""

    proxy: str
    asked: list[Asked] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"{self.proxy}/v1"

    def sent(self, header: str) -> set[str]:
        """Every value of that header that has arrived."""
        return {one.headers[header] for one in self.asked if header in one.headers}

    def saw(self, text: str) -> bool:
        """Whether the text has arrived anywhere in an address or a header."""
        return any(text in str(one) for one in self.asked)


@contextmanager
def eavesdropper() -> Iterator[Eavesdropper]:
    """A server on loopback for as long as the block runs; it answers 401, which pauses a batch at once."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.asked.append(Asked(self.command, self.path, headers))
            self.send_response(401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(REFUSAL)))
            self.end_headers()
            self.wfile.write(REFUSAL)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 -- the standard library's names

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    with ThreadingHTTPServer((HOST, 0), Handler) as listener:
        server = Eavesdropper(f"http://{HOST}:{listener.server_port}")
        thread = threading.Thread(target=listener.serve_forever, name="eavesdropper", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
