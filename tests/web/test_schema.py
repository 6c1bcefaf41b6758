"""Requests made from the API's own description: none is answered by 500, or in a way that is not described.

schemathesis generates them, also some that break the description; the application runs in this process.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from askmill.config.settings import Settings
from askmill.jobs.model.api_target import Target
from askmill.jobs.store import Store
from askmill.jobs.store.records import NewRow
from askmill.web.app import create_app
from askmill.web.context import Web
from askmill.web.http.options import Options
from tests.helpers.batches import finish_all_rows, submit_batch, worker_info
from tests.web.conftest import ADDRESS, TOKEN

schemathesis = pytest.importorskip("schemathesis")
import requests  # noqa: E402 -- comes with schemathesis
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LONGEST_URL = 60_000
"""Longer ones are refused by the client, and by the server's parser."""
UNFINISHED = ("pause", "resume", "cancel", "retry")
"""Changes that are tried on a batch that is not done; everything else on one that is: its events end."""
OPERATIONS = (
    *("POST /api/batches", "GET /api/batches", "GET /api/batches/{batch}"),
    *(f"GET /api/batches/{{batch}}/{part}" for part in ("rows", "rows/{row}", "results", "events")),
    "GET /api/batches/{batch}/rows/{row}/files/{number}",
    *(f"POST /api/batches/{{batch}}/{action}" for action in UNFINISHED),
    "DELETE /api/batches/{batch}",
)


@dataclass
class Served:
    """The application with a batch that is done and one that is not, and the loop in which it lives."""

    runner: asyncio.Runner
    client: httpx2.AsyncClient
    done: str
    queued: str
    schema: Any

    def send(self, case: Any) -> httpx2.Response:
        """Send a generated request as it would be sent by a program."""
        prepared = requests.Request(**case.as_transport_kwargs(base_url=ADDRESS)).prepare()
        assume(len(str(prepared.url)) < LONGEST_URL)
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        headers = {name: value for name, value in prepared.headers.items() if name.lower() != "authorization"}
        request = self.client.build_request(
            str(prepared.method), str(prepared.url), headers=headers, content=body
        )
        return self.runner.run(self.client.send(request))


@contextmanager
def served(redis_url: str, folder: Path) -> Iterator[Served]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner.run(_start(runner, stack, redis_url, folder))
        runner.run(stack.aclose())


async def _start(runner: asyncio.Runner, stack: AsyncExitStack, redis_url: str, folder: Path) -> Served:
    store = await stack.enter_async_context(await Store.open(redis_url))
    done = await submit_batch(store, [NewRow([f"q{n}"], "bad" if n == 2 else None) for n in range(1, 6)])
    await store.heartbeat(worker_info())
    await finish_all_rows(store)
    queued = await submit_batch(store, 3, identity="1" * 64)
    uploads = folder / "uploads"
    uploads.mkdir()
    target = Target("assistants", "http://127.0.0.1:9/v1", None, offline=False)
    own = Settings(data_dir=folder, redis_url=SecretStr(redis_url))
    web = Web(own, Options(TOKEN, 8765), store, redis_url, target, "", uploads)
    transport = httpx2.ASGITransport(create_app(web))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client = httpx2.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers, trust_env=False)
    await stack.enter_async_context(client)
    description = (await client.get("/api/openapi.json")).json()
    return Served(runner, client, done, queued, schemathesis.openapi.from_dict(description))


def examine(api: Served, name: str, examples: int) -> None:
    """Send requests of one operation, as it is described and otherwise."""
    method, path = name.split()
    operation = api.schema[path][method]
    existing = api.queued if path.rpartition("/")[2] in UNFINISHED else api.done
    cases = st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, batch=st.sampled_from([existing, existing, existing, None]), row=st.integers(-1, 7))
    def check(case: Any, batch: str | None, row: int) -> None:
        if "batch" in (case.path_parameters or {}) and batch is not None:
            case.path_parameters["batch"] = batch
            if "row" in case.path_parameters:
                case.path_parameters["row"] = str(row)
        case.validate_response(api.send(case), checks=CHECKS)

    check()


def test_no_request_is_answered_otherwise_than_described(redis_url: str, tmp_path: Path) -> None:
    """No 500, no undocumented status, content type or object, for each operation of the description."""
    with served(redis_url, tmp_path) as api:
        assert {result.ok().label for result in api.schema.get_all_operations()} == set(OPERATIONS)
        for name in OPERATIONS:
            examine(api, name, examples=8)


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_of_many_is_answered_otherwise(name: str, redis_url: str, tmp_path: Path) -> None:
    """The same with many requests."""
    with served(redis_url, tmp_path) as api:
        examine(api, name, examples=400)
