"""The web page: a batch of a million rows, and twenty viewers of a batch that runs.

The rows are filled straight into Redis by the store's own calls. Times are those that a client on the same
machine sees; CPU is that of the server's process.
"""

import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import redis

from askmill.jobs.model.models import InputSpec, JobStatus
from askmill.jobs.store import Store, keys
from askmill.jobs.store.codec import pack_result
from askmill.jobs.store.records import NewRow
from benchmarks.measure import cpu_of, peak_of, pid_of
from benchmarks.samples import computed
from tests.helpers.batches import new_batch
from tests.helpers.web_server import WebServer, web_server
from tests.stack import Stack
from tests.support import wait_until

ASKMILL = str(Path(sys.executable).with_name("askmill"))
DISTINCT = 20_000
"""Results that differ from each other; a bigger batch has each several times."""
ENDINGS = "ccccccccccccccccccccccccccccccccccccfffexiqq"
"""Status bytes of the rows in turn, as jobs/model/models.py names them."""
RARE = "the only row with these words"
VIEWERS, LIVE_ROWS = 20, 3000
LATENCY = "[latency]\nmedian_s = 5\nsigma = 0.5\n"


def main(rows: int, rounds: int) -> dict[str, float]:
    """Both parts; returns seconds, and CPU seconds."""
    return {**big_batch(rows, rounds), **viewers()}


# --- a big batch -----------------------------------------------------------------------------------------
def big_batch(rows: int, rounds: int) -> dict[str, float]:
    """Seconds of pages of rows, of the first progress of a search, and of a whole one; each the slowest."""
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        start = time.perf_counter()
        batch = asyncio.run(_fill(stack.redis_url, rows))
        print(f"{rows:,} rows stored in {time.perf_counter() - start:.0f} s; Redis: {_redis_mb(stack)} MB")
        with web_server(stack) as server:
            figures: dict[str, float] = {}
            for part in (_pages, _searches, _beside):
                measured = part(server, batch, rows, rounds)
                for what, seconds in measured.items():
                    print(f"{what:48}{seconds:9.3f} s", flush=True)
                figures |= measured
            figures["server's peak MB"] = peak_of(pid_of(server.child)) / 1024
            print(f"the server's peak: {peak_of(pid_of(server.child)) / 1024:.0f} MB")
    return figures


async def _fill(redis_url: str, rows: int) -> str:
    """Store a batch with every ending; the last row alone has the rare words. Returns its id."""
    chance, packed = random.Random(7), list[bytes]()
    for row in range(1, min(rows, DISTINCT) + 1):
        packed.append(pack_result(computed(row, chance)))
    async with await Store.open(redis_url) as store:
        spec = InputSpec(columns=("id", "question", "note"), question_column="question")
        batch = await store.create_batch(new_batch(spec=spec))
        for first in range(1, rows + 1, 4096):
            numbers = range(first, min(first + 4096, rows + 1))
            await store.add_rows(batch, first, [_row(row, rows, packed) for row in numbers])
        await store.seal_batch(batch)
    _set_endings(redis_url, batch, rows)
    return batch


def _row(row: int, rows: int, packed: list[bytes]) -> NewRow:
    words = RARE if row == rows else "Show your reasoning in one short sentence please"
    cells = [f"{row:07}", f"What is {row:07} * 34? {words}", f"n{row % 1000:08}"]
    return NewRow(cells, reused_result=None if _ending(row) == "q" else packed[row % len(packed)])


def _ending(row: int) -> str:
    return ENDINGS[row % len(ENDINGS)]


def _set_endings(redis_url: str, batch: str, rows: int) -> None:
    """Give some of the completed rows another ending, with a result that has an error."""
    failed = pack_result(
        replace(
            computed(1, random.Random(1)), status=JobStatus.FAILED, answer="", error="server_error: no reply"
        )
    )
    with redis.Redis.from_url(redis_url) as client:
        client.set(keys.part(batch, "status"), "".join(_ending(row) for row in range(1, rows + 1)))
        others = [row for row in range(1, rows + 1) if _ending(row) not in "cq"]
        for some in _chunks(others, 5000):
            client.hset(keys.part(batch, "results"), mapping={str(row): failed for row in some})
        counts = dict.fromkeys("cfexiq", 0)
        for row in range(1, rows + 1):
            counts[_ending(row)] += 1
        client.hset(keys.part(batch, "counters"), mapping=counts)


def _chunks(numbers: list[int], size: int) -> Iterator[list[int]]:
    for first in range(0, len(numbers), size):
        yield numbers[first : first + size]


def _redis_mb(stack: Stack) -> int:
    with redis.Redis.from_url(stack.redis_url) as client:
        return int(client.info("memory")["used_memory"]) // 2**20


def _pages(server: WebServer, batch: str, rows: int, rounds: int) -> dict[str, float]:
    base = f"/batches/{batch}"
    pages = {
        "page: first": base,
        "page: in the middle": f"{base}?after={rows // 2}",
        "page: last, backwards": f"{base}?before={rows + 1}",
        "page: one row's panel": f"{base}?row={rows}",
        "page: charts": f"{base}?view=charts",
        "page: all batches": "/",
        "API: in the middle, 500 rows": f"/api{base}/rows?after={rows // 2}&limit=500",
        "API: one row": f"/api{base}/rows/{rows}",
    }
    for status in (
        "completed",
        "failed",
        "expired",
        "incomplete",
        "cancelled",
        "queued",
        "running",
        "rejected",
    ):
        pages |= {f"page: {status}, first": f"{base}?status={status}"}
        pages |= {f"page: {status}, last, backwards": f"{base}?status={status}&before={rows + 1}"}
    return {name: max(_seconds(server, path) for _ in range(rounds)) for name, path in pages.items()}


def _seconds(server: WebServer, path: str) -> float:
    """Seconds from the request to the last byte of its response."""
    start = time.perf_counter()
    server.read(path)
    return time.perf_counter() - start


def _searches(server: WebServer, batch: str, _rows: int, rounds: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    texts = {
        "rare": RARE.upper(),
        "nowhere": "no row has this",
        "not ASCII": "größer als",
        "by id": "0999983",
    }
    for name, text in texts.items():
        before = cpu_of(pid_of(server.child))
        times = [_search(server, batch, text) for _ in range(rounds)]
        figures[f"search: {name}, CPU"] = (cpu_of(pid_of(server.child)) - before) / rounds
        figures[f"search: {name}, first progress"] = max(first for first, _ in times)
        figures[f"search: {name}, all rows"] = max(whole for _, whole in times)
    return figures


def _search(server: WebServer, batch: str, text: str) -> tuple[float, float]:
    """Seconds to the first line and to the last one."""
    start = time.perf_counter()
    connection, response = server.request("GET", f"/batches/{batch}/search?search={quote(text)}")
    assert response.status == 200
    response.readline()
    first = time.perf_counter() - start
    while line := response.readline():
        last = json.loads(line)
    assert last["searched"] == last["of"]
    connection.close()
    return first, time.perf_counter() - start


def _beside(server: WebServer, batch: str, _rows: int, _rounds: int) -> dict[str, float]:
    """The slowest page while others search, and while the results are downloaded."""

    def download() -> None:
        _seconds(server, f"/api/batches/{batch}/results?format=csv")

    jobs: dict[str, list[Callable[[], object]]] = {
        "page beside three searches": [lambda: _search(server, batch, "no row has this")] * 3,
        "page beside a download": [download],
    }
    figures: dict[str, float] = {}
    for name, work in jobs.items():
        threads = [threading.Thread(target=each) for each in work]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        slowest = 0.0
        while any(thread.is_alive() for thread in threads):
            slowest = max(slowest, _seconds(server, f"/batches/{batch}?after=1000"))
            time.sleep(0.1)
        figures[name] = slowest
        figures[name.replace("page beside", "until the end of")] = time.perf_counter() - start
    return figures


# --- viewers ---------------------------------------------------------------------------------------------
def viewers() -> dict[str, float]:
    """CPU seconds beside one batch: of the web server with viewers, of `status --watch`, and of Redis."""
    figures: dict[str, float] = {}
    watched = {
        "nobody": _nobody,
        f"{VIEWERS} viewers of the page": _page_viewers,
        "status --watch": _terminal,
    }
    for name, watch in watched.items():
        with tempfile.TemporaryDirectory() as folder, Stack(Path(folder), scenario=LATENCY) as stack:
            own_s, redis_s, wall_s = _watch(stack, watch)
        figures |= {f"{name}: CPU s": own_s, f"{name}: Redis CPU s": redis_s, f"{name}: batch s": wall_s}
        print(f"{name:28}{own_s:8.2f} s of CPU, Redis {redis_s:6.2f} s, the batch took {wall_s:.0f} s")
    return figures


def _watch(
    stack: Stack, watch: Callable[[Stack, str, ExitStack], Callable[[], float]]
) -> tuple[float, float, float]:
    """Run the batch while it is watched; returns CPU seconds of the watcher, of Redis, and the time."""
    batch = asyncio.run(stack.submit([f"What is {row} * 34?" for row in range(LIVE_ROWS)]))
    with ExitStack() as open_until_the_end:
        cpu = watch(stack, batch, open_until_the_end)
        redis_before, own_before, start = cpu_of(pid_of(stack.redis)), cpu(), time.perf_counter()
        stack.worker(500)
        own_s = own_before

        def done() -> bool:
            nonlocal own_s
            own_s = max(own_s, cpu())
            with redis.Redis.from_url(stack.redis_url) as client:
                return client.hget(keys.batch(batch), "state") == b"done"

        wait_until(done, "the batch is done", 280)
        return own_s - own_before, cpu_of(pid_of(stack.redis)) - redis_before, time.perf_counter() - start


def _nobody(_stack: Stack, _batch: str, _until: ExitStack) -> Callable[[], float]:
    return lambda: 0.0


def _page_viewers(stack: Stack, batch: str, until: ExitStack) -> Callable[[], float]:
    server = until.enter_context(web_server(stack))
    for _ in range(VIEWERS):
        connection, response = server.request("GET", f"/batches/{batch}/live")
        until.callback(connection.close)
        assert response.readline() == b"retry: 2000\n"
        threading.Thread(target=_read_all, args=(response,), daemon=True).start()
    return lambda: cpu_of(pid_of(server.child))


def _read_all(response: http.client.HTTPResponse) -> None:
    try:
        while response.readline():
            pass
    except (OSError, ValueError, AttributeError):
        pass  # closed at the end, perhaps while it reads


def _terminal(stack: Stack, batch: str, until: ExitStack) -> Callable[[], float]:
    env = {**os.environ, **stack.settings(), "ASKMILL_DATA_DIR": str(stack.folder / "data")}
    command = [ASKMILL, "status", batch, "--watch"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until.callback(process.wait)
    until.callback(process.terminate)
    time.sleep(3)  # its imports are no part of the watching
    return lambda: cpu_of(process.pid) if process.poll() is None else 0.0
