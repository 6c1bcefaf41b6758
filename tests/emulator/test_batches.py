"""Batches: files, lines of both APIs, result files, states, lists, cancel and the check of a file."""

import asyncio
from typing import Any

import pytest

from tests.emulator.batch_support import (
    CHAT,
    RESPONSES,
    create,
    ledger,
    line_of,
    reached,
    read,
    run_batch,
    text_of,
)
from tests.emulator.emulator_support import Emulator, open_client

BOTH = pytest.mark.parametrize("endpoint", [RESPONSES, CHAT])


def ids(prefix: str, n: int) -> list[str]:
    return [f"{prefix}-{i}" for i in range(1, n + 1)]


@BOTH
def test_lines_are_answered_as_the_endpoint_answers(emulator: Emulator, endpoint: str) -> None:
    """The tutor's answers stand in the output file with status 200, what failed in the error file with the
    endpoint's status and body; counts and usage of the batch are the sums of its lines."""
    asked = {
        "sum": "What is 6 * 7?",
        "limit": "[emulate: failed(rate_limit_exceeded)] 1 + 1",
        "server": "[emulate: failed(server_error)] 1 + 1",
        "filter": "[emulate: refused(content_filter)] 1 + 1",
        "late": "[emulate: expired] 1 + 1",
        "slow": "[emulate: after=0.05] 2 + 2",
    }

    async def go() -> Any:
        async with open_client(emulator.url) as client:
            lines = [line_of(f"{endpoint[-4:]}-{k}", q, endpoint) for k, q in asked.items()]
            return await run_batch(client, lines, endpoint, metadata={"askmill_batch": "b1"})

    batch, answered, failed = asyncio.run(go())
    name = endpoint[-4:]
    assert (batch.status, batch.model, batch.metadata) == ("completed", "gpt-5", {"askmill_batch": "b1"})
    assert {k: text_of(line) for k, line in answered.items()} == {
        f"{name}-sum": "6*7 = 42.",
        f"{name}-slow": "2 + 2 = 4.",
    }
    assert {k: line["response"] and line["response"]["status_code"] for k, line in failed.items()} == {
        f"{name}-limit": 429,
        f"{name}-server": 500,
        f"{name}-filter": 400,
        f"{name}-late": None,
    }
    assert failed[f"{name}-filter"]["error"] is None
    assert failed[f"{name}-filter"]["response"]["body"]["error"]["code"] == "content_filter"
    assert failed[f"{name}-late"]["error"]["code"] == "batch_expired"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (6, 2, 4)
    spent = [line["response"]["body"]["usage"]["total_tokens"] for line in answered.values()]
    assert batch.usage.total_tokens == sum(spent) > 0


def test_a_line_is_counted_by_its_custom_id(emulator: Emulator) -> None:
    """Carried out and paid for are counted apart, over all batches: a double bill shows, a new attempt is none."""

    async def go() -> None:
        async with open_client(emulator.url) as client:
            fails_once = line_of("count-1", "[emulate: failed(server_error), completed] 1 + 1")
            _, _, failed = await run_batch(client, [fails_once, line_of("count-2", "2 + 2")])
            assert list(failed) == ["count-1"]
            _, answered, _ = await run_batch(client, [fails_once, line_of("count-2", "2 + 2")])
            assert set(answered) == {"count-1", "count-2"}

    asyncio.run(go())
    runs = emulator.stats()["runs_by_job"]
    assert (runs["count-1"], runs["count-2"]) == (2, 2)
    assert ledger(emulator)["lines"]["bought_again"] == {"count-2": 2}


@BOTH
def test_attempts_of_a_row_are_counted_by_its_job(emulator: Emulator, endpoint: str) -> None:
    """`BATCH-ROW-ATTEMPT` is an attempt of `BATCH:ROW`: it takes the next directed outcome, and an answer bought
    under two ids shows as a job that was bought twice."""
    name = endpoint[-4:]

    async def go() -> list[Any]:
        async with open_client(emulator.url) as client:
            question = "[emulate: failed(server_error), expired, completed] Who?"
            ended = []
            for attempt in range(1, 5):
                line = line_of(f"{name}-7-{attempt}", question, endpoint)
                _, answered, failed = await run_batch(client, [line], endpoint)
                ended.append(
                    (list(answered), [one["error"] and one["error"]["code"] for one in failed.values()])
                )
            return ended

    assert asyncio.run(go()) == [
        ([], [None]),
        ([], ["batch_expired"]),
        ([f"{name}-7-3"], []),
        ([f"{name}-7-4"], []),
    ]
    lines = ledger(emulator)["lines"]
    assert lines["jobs_bought_again"][f"{name}:7"] == 2
    assert not [one for one in lines["bought_again"] if one.startswith(f"{name}-7-")]
    assert emulator.stats()["runs_by_job"][f"{name}:7"] == 3


def test_results_are_in_no_order_and_complete(emulator: Emulator) -> None:
    """Each of 500 lines comes back once, not in the order of the file."""
    wanted = ids("order", 500)

    async def go() -> list[str]:
        async with open_client(emulator.url) as client:
            batch = await create(client, [line_of(one, "1 + 1", CHAT) for one in wanted], CHAT)
            batch = await reached(client, batch.id)
            return [line["custom_id"] for line in await read(client, batch.output_file_id)]

    got = asyncio.run(go())
    assert sorted(got) == sorted(wanted)
    assert got != wanted


def test_the_list_has_the_newest_first(emulator: Emulator) -> None:
    """Pages of `limit`, with `after`; every object with metadata and input file; new ones late if told."""

    async def go() -> None:
        async with open_client(emulator.url) as client:
            made = [await create(client, [line_of(one, "1")]) for one in ids("list", 3)]
            first = await client.batches.list(limit=2)
            assert [one.id for one in first.data] == [made[2].id, made[1].id]
            assert first.data[0].input_file_id == made[2].input_file_id
            after = await client.batches.list(limit=1, after=made[1].id)
            assert [one.id for one in after.data] == [made[0].id]
            emulator.set_scenario("[batches]\nlist_late_s = 600")
            late = await create(client, [line_of("list-4", "1")])
            assert late.id not in [one.id async for one in client.batches.list()]
            assert (await client.batches.retrieve(late.id)).id == late.id

    asyncio.run(go())
