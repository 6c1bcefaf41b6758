"""A process reads as many pages of the API's list as may have changed, however many batches there are."""

import time
from typing import Any

from aiohttp import web

from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.batch_jobs import BatchJobs
from askmill.worker.backends.http import before_request
from askmill.worker.runtime.batch_lister import BatchLister
from tests.backends.stub_server import KEY, stub_server

BATCHES, PAGE, DAY_S = 600, 100, 86_400.0
BEGAN = int(time.time()) - 60_000


class Server:
    """Lists batches newest first, a hundred a page; they were created a minute after each other."""

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
    """The first list reads all pages; then one, or back to the oldest running batch; each list names all batches.

    What the server no longer lists is gone, and what it lists anew, also ten minutes late, is there.
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
            assert await pages() == 1
            server.batches.insert(0, entry(BATCHES + 1, "in_progress"))
            assert await pages() == 1
            server.batches.insert(5, entry(BATCHES - 4) | {"id": "batch_late"})
            del server.batches[20]
            assert await pages() == 1
            server.batches = [
                entry(number) for number in range(BATCHES + 250, BATCHES + 1, -1)
            ] + server.batches
            assert await pages() == 3, "back to the one that was running"
            server.batches[249]["status"] = "completed"
            assert await pages() == 3
            assert await pages() == 1
        finally:
            await lister.jobs.close()
            await client.close()


async def nothing() -> None:
    """No limit on requests."""
