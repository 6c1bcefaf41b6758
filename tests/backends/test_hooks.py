"""A connection outlives the job that has opened it, and keeps the context of that job's task."""

import asyncio
import gc
from weakref import ref

from aiohttp import web

from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends.hooks import before_each_request
from askmill.worker.backends.http import HttpClient
from tests.backends.stub_server import stub_server


class Job:
    """What a job's hooks belong to: in a worker, its question, its state and its batch."""

    requests = checks = 0

    async def before_request(self) -> None:
        self.requests += 1

    def may_send(self) -> bool:
        self.checks += 1
        return True


async def test_an_idle_connection_keeps_no_job() -> None:
    """Of the SDK's connections and of those that read, while they stay open."""

    async def answer(_: web.Request) -> dict[str, str]:
        return {"id": "r"}

    async def run(client: HttpClient) -> "ref[Job]":
        job = Job()
        with before_each_request(job.before_request):
            await client.post("responses", {}, may_send=job.may_send)
            await client.get("responses/r")
        assert (job.requests, job.checks) == (2, 1)
        return ref(job)

    async with stub_server({"POST /responses": answer, "GET /responses/r": answer}) as (_, url):
        client = HttpClient(make_client("k", url))
        job = await asyncio.create_task(run(client))
        gc.collect()
        assert job() is None
        await client.close()
