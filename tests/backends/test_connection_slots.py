"""The last check before a create is made with a connection's slot in hand, so nothing delays the write after it."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from askmill.jobs.openai_client import client as openai_client
from askmill.jobs.openai_client.client import make_client
from askmill.worker.backends import http
from askmill.worker.backends.base import NotSent
from askmill.worker.backends.batch_jobs import BatchJobs
from askmill.worker.backends.factory import BACKENDS
from askmill.worker.backends.http import HttpClient
from tests.backends.stub_server import run_request, stub_server
from tests.support import wait_until_async

CREATE = "POST /responses"


async def test_the_check_waits_for_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Case C5: a pool of one connection and a slow create in it. The second create's check comes after the wait.

    Its check fails, so it sends nothing and the third takes the slot.
    """
    for module in (openai_client, http):
        monkeypatch.setattr(module, "connection_limit", lambda: 1)
    answered, checked = asyncio.Event(), list[str]()

    async def slow(_: web.Request) -> dict[str, str]:
        await answered.wait()
        return {"id": "r"}

    def check(name: str, verdict: bool) -> bool:
        checked.append(name)
        return verdict

    async def create(name: str, verdict: bool) -> None:
        await client.post("responses", {}, may_send=lambda: check(name, verdict))

    async with stub_server({CREATE: slow}) as (server, url):
        client = HttpClient(make_client("k", url))
        first = asyncio.create_task(create("first", True))

        async def arrived() -> bool:
            return server.request_names == [CREATE]

        await wait_until_async(arrived, "the first create is at the server")
        later = [asyncio.create_task(create("second", False)), asyncio.create_task(create("third", True))]
        done, _ = await asyncio.wait(later, timeout=0.2)
        assert (done, checked) == (set(), ["first"])

        answered.set()
        await first
        second, third = await asyncio.gather(*later, return_exceptions=True)
        await client.close()
    assert isinstance(second, NotSent)
    assert third is None
    assert checked == ["first", "second", "third"]
    assert server.request_names == [CREATE, CREATE]


@pytest.mark.parametrize("api", ["assistants", "responses", "chat", "batch"])
async def test_every_create_is_checked_before_it_is_sent(api: str) -> None:
    """The request that costs money, on each API: nothing is sent where the claim may be lost."""
    async with stub_server({}) as (server, url):
        client = make_client("k", url)
        backend, jobs = BACKENDS["assistants" if api == "batch" else api](client), BatchJobs(client)
        if api == "batch":
            create: Any = jobs.create("file_1", "chat", {}, lambda: False)
        else:
            create = backend.create_run(run_request(may_send=lambda: False), "t1")
        with pytest.raises(NotSent):
            await create
        await jobs.close()
        await backend.close()
    assert server.request_names == []
