"""A process reads as many pages of the API's list as may have changed, however many batches there are."""

import time
from typing import Any

from aiohttp import web

from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.batch_jobs import BatchJobs
from askmill.worker.backends.http import before_request
from askmill.worker.runtime.batch_lister import BatchLister
from tests.backends.stub_server import KEY, stub_server

BATCHES, PAGE, DAY_S = 120, 4, 86_400.0
BEGAN = int(time.time()) - 20_000


class Server:
    """Lists batches newest first, four a page; they were created a minute after each other."""

    def __init__(self) -> None:
        self.batches = [entry(number) for number in range(BATCHES, 0, -1)]

    def page(self, request: web.Request) -> dict[str, Any]:
        ids = [batch["id"] for batch in self.batches]
        first = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        return {"data": self.batches[first : first + PAGE], "has_more": first + PAGE < len(ids)}


def entry(number: int, status: str = "completed") -> dict[str, Any]:
    files = {"input_file_id": f"file-{number}", "output_file_id": f"out-{number}"}
    return {"id": f"batch_{number}", "status": status, "created_at": BEGAN + 60 * number, **files}


async def test_only_what_may_have_changed_is_listed_again() -> None:
    """The first list reads all pages; then those of ten minutes, or back to the oldest running batch.

    Each list names all batches: what the server no longer lists is gone, and what it lists late is there.
    """
    server = Server()
    async with stub_server({"GET /batches": server.page}) as (stub, url):
        client = make_client(KEY, url)
        lister = BatchLister(BatchJobs(client), now_s=iter(range(100, 10_000)).__next__)

        async def pages() -> int:
            before = len(stub.requests)
            _, listed = await lister.list_after(lister.asked_at, DAY_S)
            assert [batch.id for batch in listed.batches] == [batch["id"] for batch in server.batches]
            assert {batch.id: batch.status for batch in listed.batches} == {
                batch["id"]: batch["status"] for batch in server.batches
            }
            return len(stub.requests) - before

        before_request.set(nothing)
        try:
            assert await pages() == BATCHES // PAGE
            assert await pages() == 3, "ten minutes of batches"
            server.batches.insert(0, entry(BATCHES + 1, "in_progress"))
            assert await pages() == 4
            server.batches.insert(10, entry(BATCHES - 8) | {"id": "batch_late"})
            del server.batches[7]
            assert await pages() == 3
            newer = [entry(number) for number in range(BATCHES + 41, BATCHES + 1, -1)]
            server.batches = newer + server.batches
            assert await pages() == 13
            server.batches[40]["status"] = "completed"
            assert await pages() == 11, "back to the one that was running"
            assert await pages() == 3
        finally:
            await lister.jobs.close()
            await client.close()


async def nothing() -> None:
    """No limit on requests."""


async def test_one_shard_looks_for_unknown_batches_in_each_list() -> None:
    """Of each askmill batch; the next list is searched anew, and nothing is kept of the last."""
    server = Server()
    async with stub_server({"GET /batches": server.page}) as (_, url):
        client = make_client(KEY, url)
        lister = BatchLister(BatchJobs(client), now_s=iter(range(100, 10_000)).__next__)
        try:
            for _ in range(2):
                await lister.list_after(lister.asked_at, DAY_S)
                assert [lister.is_to_search(batch) for batch in ("b_1", "b_1", "b_2")] == [True, False, True]
        finally:
            await lister.jobs.close()
            await client.close()
