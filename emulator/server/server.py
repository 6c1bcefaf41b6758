"""Serves the application on a port: uvicorn on httptools, its address printed when it is ready."""

import asyncio
import contextlib
import logging
import socket
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from askmill.emulator.server.app import App

BACKLOG = 4096
# Clients keep idle connections between polls; closing them would look like an injected fault.
KEEP_ALIVE_S = 3600
STOP_S = 1


class PortTakenError(Exception):
    """The address cannot be bound; the message says why."""


class _Protocol(HttpToolsProtocol):
    """Puts the transport where the application can close it without an answer."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"emulator.transport": self.transport}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(f"emulator listening on http://{host}:{port}/v1\n")
            sys.stdout.flush()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. PortTakenError if it cannot be bound."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only where the protocol is named; without it every reply waits 40 ms.
        at = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        at.bind((host, port))
        at.listen(BACKLOG)
    except OSError as error:
        raise PortTakenError(f"cannot listen on {host}:{port}: {error.strerror}; try --port 0") from None
    return at


def serve(app: App, at: socket.socket) -> None:
    """Serve until SIGINT (returns) or SIGTERM (ends the process by that signal)."""
    application: Any = app
    config = uvicorn.Config(
        application,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_no_stop)
    # uvicorn raises Ctrl-C again after its clean stop.
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[at])


def _is_no_stop(record: logging.LogRecord) -> bool:
    """Whether a log record is about anything but the calls that the stop of the server gives up."""
    error = record.exc_info[1] if record.exc_info else None
    return not (record.msg.startswith("Cancel ") or isinstance(error, asyncio.CancelledError))
