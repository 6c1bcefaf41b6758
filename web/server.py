"""Starts what `askmill web` needs (Redis, emulator), serves the application, stops what it has started."""

import argparse
import asyncio
import ipaddress
import secrets
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from types import FrameType

import uvicorn

from askmill.config.local_address import is_loopback
from askmill.config.settings import Settings
from askmill.config.text import mask_from_now_on
from askmill.jobs.functions.registry import describe
from askmill.jobs.local import EmulatorService, RedisService, ServiceLease, interruptible
from askmill.jobs.local.data_dir import ensure_private_dir, oserror_to_fault
from askmill.jobs.model.api_target import Target, api_target
from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import Store
from askmill.web.app import create_app
from askmill.web.context import Web
from askmill.web.http.options import MAX_UPLOAD_BYTES, Options
from askmill.web.uploads.drafts import delete_left_behind

BACKLOG = 512
STOP_S = 2
"""How long open downloads may go on after the server is stopped; event streams end at once."""


def serve(settings: Settings, arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises UsageError, Unavailable."""
    token = _token(settings, arguments.host)
    for module in arguments.allow_functions:
        describe(module)
    with oserror_to_fault(settings.data_dir):
        uploads = ensure_private_dir(settings.data_dir / "web" / "uploads")
        delete_left_behind(uploads)
    tempfile.tempdir = str(uploads)  # large uploads are kept on the disk of the data folder alone
    target, refusal = _target(settings, offline=arguments.offline)
    with interruptible(), ExitStack() as stack:
        listener = stack.enter_context(_listen(arguments.host, arguments.port))
        url, target = _start_services(settings, target, stack)
        host, port = listener.getsockname()[:2]
        options = Options(
            token=token,
            port=port,
            hosts=frozenset(
                name.lower() for name in (*arguments.allow_host, arguments.host, socket.gethostname())
            ),
            prefix=_prefix(arguments.prefix),
            max_upload=arguments.max_upload or MAX_UPLOAD_BYTES,
            functions=tuple(arguments.allow_functions),
        )

        async def run() -> None:
            async with await Store.open(url, durability=settings.durability_in_use) as store:
                web = Web(settings, options, store, url, target, refusal, uploads)
                await _serve(web, listener, _address(host, port, options))

        asyncio.run(run())


def _token(settings: Settings, host: str) -> str:
    """Return the access token. Raises UsageError if others could reach the server with one nobody chose."""
    if settings.web_token is not None:
        return settings.web_token.get_secret_value()
    if not is_loopback(f"http://{f'[{host}]' if ':' in host else host}"):
        raise UsageError(
            f"--host {host} lets other machines reach the page, so it needs a token of yours: set "
            "ASKMILL_WEB_TOKEN, for example to the output of `openssl rand -hex 32`."
        )
    token = secrets.token_urlsafe(24)
    mask_from_now_on([token])
    return token


def _target(settings: Settings, *, offline: bool) -> tuple[Target | None, str]:
    """Return the API to ask, or why nothing can be submitted: batches can be read all the same."""
    try:
        return api_target(settings, offline=offline), ""
    except UsageError as error:
        return None, str(error)


def _start_services(settings: Settings, target: Target | None, stack: ExitStack) -> tuple[str, Target | None]:
    """Start Redis and the emulator where they are needed; returns Redis' address and the API's."""
    redis = None
    if settings.redis_url is None:
        redis = stack.enter_context(ServiceLease(RedisService(settings.data_dir)))
    if target is not None and target.offline:
        emulator = stack.enter_context(ServiceLease(EmulatorService(settings.data_dir)))
        target = replace(target, base_url=emulator.wait_ready())
    if redis is not None:
        return redis.wait_ready(), target
    assert settings.redis_url is not None
    return settings.redis_url.get_secret_value(), target


def _prefix(text: str) -> str:
    """Return the path before every address of the page, without a slash at its end. Raises UsageError."""
    prefix = text.rstrip("/")
    if prefix and (not prefix.startswith("/") or prefix.startswith("//") or set(prefix) & set("\\?#;\"'<> ")):
        raise UsageError(f"--prefix {text!r} is not a path; a good one: /askmill")
    return prefix


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio sets TCP_NODELAY only where the protocol is named.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be used: {error.strerror}. Choose another with --port; 0 takes a free one."
        ) from None
    return listener


def _address(host: str, port: int, options: Options) -> str:
    """The address that a browser opens once; the token in it is changed for a cookie."""
    if ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{options.prefix}/?token={options.token}"


class _Server(uvicorn.Server):
    """Prints the address when it listens, and ends event streams when it is stopped."""

    def __init__(self, config: uvicorn.Config, web: Web, address: str) -> None:
        super().__init__(config)
        self._web, self._address = web, address
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(f"askmill web: {self._address}\n")
            sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._web.live.close)


async def _serve(web: Web, listener: socket.socket, address: str) -> None:
    config = uvicorn.Config(
        create_app(web),
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_S,
    )
    await _Server(config, web, address).serve([listener])
