"""A server in front of an API that needs no key: it records every request and adds a key before it passes it on."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import httpx2

from askmill.jobs.local.ports import HOST

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host"}
TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived. Header names are lower-case."""

    method: str
    path: str
    headers: Mapping[str, str]


class Recording:
    """`with Recording("http://127.0.0.1:8080/v1") as server:` serves `server.base_url` with the same path."""

    def __init__(self, upstream: str) -> None:
        self.requests: list[Recorded] = []
        recorder, self._upstream = self, httpx2.URL(upstream)
        client = self._client = httpx2.Client(timeout=TIMEOUT_S)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recorder.requests.append(Recorded(self.command, self.path, headers))
                kept = {name: value for name, value in headers.items() if name not in HOP_BY_HOP}
                url = recorder._upstream.copy_with(raw_path=self.path.encode())
                sent = kept | {"authorization": "Bearer any"}
                reply = client.request(self.command, url, content=body, headers=sent)
                self.send_response(reply.status_code)
                for name, value in reply.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

            do_GET = do_POST = do_DELETE = pass_on  # noqa: N815 -- the names that http.server looks up

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}{self._upstream.path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()
