"""Anybody who reaches the Redis can write into the queue: whatever stands there ends no worker and costs no row."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import redis

from askmill.jobs.model.models import Attempt, JobStatus, Usage
from askmill.jobs.store import keys
from askmill.jobs.store.broker import QUEUE, TASK
from askmill.jobs.store.records import POISON_KILLS
from askmill.worker.execution.request_builder import KNOWN
from askmill.worker.lifecycle.state import JobState
from tests.chaos.support import assert_each_paid_once, lasting, wait_for_runs, wait_for_workers
from tests.stack import QUICK, Stack
from tests.support import wait_until

SLOTS = 6
KEY = "sk-proj-hostile0123456789abcdef"
UNREADABLE = [
    b"garbage " + KEY.encode(),
    b"",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"9" * 5_000,
    b"null",
    b"[]",
    b"17",
    b'"text"',
    b"{}",
    b'{"headers": {"task": "askmill.answer"}}',
    b'{"properties": null}',
    b'{"properties": {}, "headers": {"id": "x"}}',
    b'{"__type__": "datetime", "__value__": "never"}',
]
"""Raises in kombu: what is no JSON, or no message of kombu's."""


def message(body: Any = None, *, raw_body: str | None = None, **changed: Any) -> bytes:
    """A message as Celery's client writes it, but for what is `changed`."""
    text = json.dumps(body).encode() if not isinstance(body, bytes) else body
    headers = {"lang": "py", "task": TASK, "id": "an-id", "retries": 0, "timelimit": [None, None]}
    known = {
        "body": b64encode(text).decode() if raw_body is None else raw_body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {**headers, **changed.pop("headers", {})},
        "properties": {
            "correlation_id": "an-id",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "a-tag",
        },
    }
    return json.dumps({**known, **changed}).encode()


def asking(*arguments: Any, **changed: Any) -> bytes:
    return message([list(arguments), {}, {}], **changed)


MISSHAPEN = [
    message([[], {}, {}], headers={"task": "another.task"}),
    message([[], {}, {}], headers={"task": [1]}),
    message({"task": TASK, "id": 7}),
    message("no body of Celery's"),
    message(b"{not json"),
    message(
        b"\x80\x04K\x01.", **{"content-type": "application/x-python-serialize", "content-encoding": "binary"}
    ),
    message([[], {}, {}], **{"content-type": "application/x-unknown"}),
    message(raw_body="%%% no base64"),
    message([[], {}, {}], headers={"eta": "never"}),
    message([[], {}, {}], headers={"expires": [1]}),
    message([[], {}, {}], headers={"compression": "zip of ours"}),
]
"""Messages of kombu's, at which Celery fails, or which it refuses by itself."""


def of_batch(batch: str) -> list[bytes]:
    """Messages that name a batch that is there, with arguments that are none of its rows, or a strange limit."""
    rows: list[Any] = ["1", "abc", "", 0, -1, 10**6, 10**300, 1.0, 1.5, True, None, [], {}, [1]]
    strange = [asking(batch, row) for row in rows]
    strange += [
        asking(other, 1) for other in (None, 7, [], {}, "", f"{batch}:n", "b_\ud800", "b_" + "x" * 10**5)
    ]
    strange += [
        asking(),
        asking(batch),
        asking(batch, 1, 1),
        message([[], {"batch": batch, "row": 1, "x": 1}, {}]),
    ]
    for limit in ("x", 5, [], ["x", None], [float("nan"), None], [-1, None], [[], None]):
        strange.append(asking(batch, 1, headers={"timelimit": limit}))
    no_id = json.loads(asking(batch, 1))
    del no_id["headers"]["id"]
    no_headers = {**no_id, "headers": None}
    return [*strange, json.dumps(no_id).encode(), json.dumps(no_headers).encode()]


@pytest.mark.parametrize("full", [False, True], ids=["idle", "at work"])
async def test_no_message_ends_a_worker_or_costs_a_row(tmp_path: Path, full: bool) -> None:
    """Each of them many times over, before and amid the rows of a batch: dropped, and every row paid once."""
    rows = 12
    with Stack(tmp_path) as mill, redis.Redis.from_url(mill.redis_url) as client:
        workers = [mill.worker(SLOTS, QUICK), mill.worker(SLOTS, QUICK)]
        wait_for_workers(mill, 2)
        if not full:
            write(client, [*UNREADABLE, *MISSHAPEN] * 3)
        batch = await mill.submit(lasting(1.0, rows))
        if full:
            wait_for_runs(mill, 2)
        write(client, [*UNREADABLE, *MISSHAPEN, *of_batch(batch)] * 3)
        status = await mill.wait_for(batch, timeout_s=60)

        wait_until(lambda: client.llen(QUEUE) == 0, "all are taken")
        told = "".join(worker.log.read_text() for worker in workers)
        assert [worker.alive for worker in workers] == [True, True], told[-3000:]
        await assert_each_paid_once(mill, batch, status, rows)
        assert all(worker.leave() == 0 for worker in workers)
        assert client.llen(QUEUE) == 0, "a dropped message came back"
    assert KEY not in told
    for reason in ("JSONDecodeError", "RecursionError", "KeyError", "TypeError", "it names no row"):
        assert any("message.dropped" in line and reason in line for line in told.splitlines()), reason
    dropped = [line for line in told.splitlines() if "message.dropped" in line]
    assert max(len(line) for line in dropped) < 1000
    assert "worker.fault" not in told
    assert "job.crashed" not in told


def write(client: "redis.Redis", messages: list[bytes]) -> None:
    for raw in messages:
        client.lpush(QUEUE, raw)


async def test_what_a_loop_meets_in_redis_does_not_end_the_worker(tmp_path: Path) -> None:
    """A name among the fed rows that is no text fails each sweep: told, without haste, and the rows go on."""
    with Stack(tmp_path) as mill, redis.Redis.from_url(mill.redis_url) as client:
        client.zadd(keys.FED, {b"\xff\xff": 1})
        worker = mill.worker(SLOTS, QUICK)
        batch = await mill.submit(lasting(0.2, 4))
        wait_until(lambda: worker.log.read_text().count("worker.fault") > 1, "two sweeps have failed", 30)
        status = await mill.wait_for(batch)

        assert worker.alive
        await assert_each_paid_once(mill, batch, status, 4)
        client.zrem(keys.FED, b"\xff\xff")


async def test_a_row_whose_result_cannot_be_counted_ends_all_the_same(tmp_path: Path) -> None:
    """Redis refuses its counters whenever it is finished: at the third crash it fails, bare, and says why."""
    spent = Usage(prompt_tokens=2**62)
    past = tuple(Attempt(number, "t", f"run_{number}", "failed", usage=spent) for number in (1, 2, 3))
    state = KNOWN.dump_json(JobState(crashes=POISON_KILLS - 1, attempt=4, past_attempts=past))
    with Stack(tmp_path) as mill, redis.Redis.from_url(mill.redis_url) as client:
        batch = await mill.submit(["What is 1 + 1?"])
        client.hset(keys.live(batch, 1), mapping={"state": state, "crashes": POISON_KILLS})
        worker = mill.worker(1, QUICK)
        status = await mill.wait_for(batch)

        (row,) = await mill.rows(batch)
        assert row.result is not None
        assert row.result.status is JobStatus.FAILED
        assert "internal: ResponseError" in str(row.result.error)
        assert status.counts.by_status[JobStatus.FAILED] == 1
        assert worker.alive
