"""A real TLS server in front of a test's Redis: `with encrypted(mill.redis_url, folder) as (url, authority): ...`."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from jobs.local.ports import HOST

PIECE = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _serve(
    context: ssl.SSLContext, behind: int, port: "asyncio.Future[int]", end: asyncio.Event
) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection(HOST, behind)
        except ConnectionError:
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, asks), _pump(answers, writer))
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()
            asks.transport.abort()

    server = await asyncio.start_server(connected, HOST, 0, ssl=context)
    port.set_result(server.sockets[0].getsockname()[1])
    await end.wait()
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def encrypted(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The address `rediss://localhost:…` of the same Redis, and the file of the authority that vouches for it."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = folder / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    loop, end = asyncio.new_event_loop(), asyncio.Event()
    port = loop.create_future()
    behind = urlsplit(url).port or 6379
    serving = threading.Thread(target=loop.run_until_complete, args=[_serve(context, behind, port, end)])
    serving.start()
    try:
        opened = asyncio.run_coroutine_threadsafe(asyncio.wait_for(port, 10), loop).result()
        yield f"rediss://localhost:{opened}/0", trusted
    finally:
        loop.call_soon_threadsafe(end.set)
        serving.join()
        loop.close()
