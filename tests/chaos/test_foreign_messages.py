"""Messages of other programs in askmill's queue: none ends a worker or costs a row."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import redis

from askmill.jobs.model.models import Attempt, JobStatus, Usage
from askmill.jobs.store import Store, keys
from askmill.jobs.store.broker import QUEUE, TASK
from askmill.jobs.store.claim_records import MAX_CRASHES
from askmill.worker.execution.stored_state import STATE_JSON
from askmill.worker.lifecycle.state import JobState
from tests.chaos.support import assert_each_paid_once, questions_lasting, wait_for_runs, wait_for_workers
from tests.helpers.batches import worker_info
from tests.stack import QUICK, Stack
from tests.support import wait_until, wait_until_async

SLOTS = 6
KEY = "sk-proj-foreign0123456789abcdef"
NOT_MESSAGES = [
    b"garbage " + KEY.encode(),
    b"",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"17",
    b'"text"',
    b"{}",
    b'{"headers": {"task": "askmill.answer"}}',
    b'{"properties": null}',
    b'{"properties": {}, "headers": {"id": "x"}}',
]
"""Text that is not JSON, and JSON that is not a message of kombu's: what any other program may write."""


def message(body: Any, *, raw_body: str | None = None, **fields: Any) -> bytes:
    """A message as Celery's client writes it, with `fields` changed and `headers` merged."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"lang": "py", "task": TASK, "id": "an-id", "retries": 0, "timelimit": [None, None]}
    default = {
        "body": b64encode(encoded).decode() if raw_body is None else raw_body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {**headers, **fields.pop("headers", {})},
        "properties": {
            "correlation_id": "an-id",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": "a-tag",
        },
    }
    return json.dumps({**default, **fields}).encode()


PICKLED = {"content-type": "application/x-python-serialize", "content-encoding": "binary"}
OTHER_CELERY_APPS = [
    message([[], {}, {}], headers={"task": "another.task"}),
    message({"task": TASK, "id": 7}),
    message("not a body of Celery's"),
    message(b"{not json"),
    message(b"\x80\x04K\x01.", **PICKLED),
    message([[], {}, {}], **{"content-type": "application/x-unknown"}),
    message(raw_body="%%% not base64", body=None),
    message([[], {}, {}], headers={"eta": "never"}),
]
"""Messages of other Celery applications, with other tasks, serializers and protocols."""


def other_versions(batch: str) -> list[bytes]:
    """Messages for an existing batch with arguments of another askmill version, or of a batch that is gone."""
    arguments: list[list[Any]] = [
        [batch, "1"],
        [batch, 0],
        [batch, -1],
        [batch, 10**6],
        [batch, 1.5],
        [batch, None],
    ]
    arguments += [[batch, [1]], ["", 1], [f"{batch}:n", 1], [None, 1], [], [batch], [batch, 1, 1]]
    keywords = {"batch": batch, "row": 1, "x": 1}
    return [*(message([list(each), {}, {}]) for each in arguments), message([[], keywords, {}])]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_no_message_ends_a_worker_or_costs_a_row(tmp_path: Path, busy: bool) -> None:
    """Each of them several times, before and amid the rows of a batch: dropped, and every row paid once."""
    rows = 12
    with Stack(tmp_path) as stack, redis.Redis.from_url(stack.redis_url) as client:
        workers = [stack.worker(SLOTS, QUICK), stack.worker(SLOTS, QUICK)]
        wait_for_workers(stack, 2)
        if not busy:
            enqueue(client, [*NOT_MESSAGES, *OTHER_CELERY_APPS] * 3)
        batch = await stack.submit(questions_lasting(1.0, rows))
        if busy:
            wait_for_runs(stack, 2)
        enqueue(client, [*NOT_MESSAGES, *OTHER_CELERY_APPS, *other_versions(batch)] * 3)
        status = await stack.wait_for(batch, timeout_s=60)

        wait_until(lambda: client.llen(QUEUE) == 0, "the queue is empty")
        log = "".join(worker.log.read_text() for worker in workers)
        assert [worker.alive for worker in workers] == [True, True], log[-3000:]
        await assert_each_paid_once(stack, batch, status, rows)
        assert all(worker.leave() == 0 for worker in workers)
        assert client.llen(QUEUE) == 0, "a dropped message came back"
    assert KEY not in log
    for reason in ("JSONDecodeError", "not a Celery message", "it names no row"):
        assert any("message.dropped" in line and reason in line for line in log.splitlines()), reason
    dropped = [line for line in log.splitlines() if "message.dropped" in line]
    assert max(len(line) for line in dropped) < 1000
    assert "worker.loop_failed" not in log
    assert "job.crashed" not in log


def enqueue(client: "redis.Redis", messages: list[bytes]) -> None:
    for raw in messages:
        client.lpush(QUEUE, raw)


async def test_what_a_loop_reads_from_redis_does_not_end_the_worker(tmp_path: Path) -> None:
    """A queue of another type fails each round of maintenance: logged, with pauses, and the rows complete."""
    other = worker_info("w_other", batch="b_other0")
    with Stack(tmp_path) as stack, redis.Redis.from_url(stack.redis_url) as client:
        worker = stack.worker(SLOTS, QUICK)
        client.set(keys.part(other.batch, "queue"), "no list")
        async with await Store.open(stack.redis_url) as store:

            async def has_failed_twice() -> bool:
                await store.heartbeat(other, ())
                return worker.log.read_text().count("worker.loop_failed") > 1

            await wait_until_async(has_failed_twice, "two rounds have failed", 30)
            await store.deregister_worker(other.id)
        batch = await stack.submit(questions_lasting(0.2, 4))
        status = await stack.wait_for(batch)

        assert worker.alive
        client.delete(keys.part(other.batch, "queue"))
        await assert_each_paid_once(stack, batch, status, 4)
        assert worker.leave() == 0


async def test_a_row_whose_result_cannot_be_counted_ends(tmp_path: Path) -> None:
    """Redis refuses its counters at every finish: after the third crash the row fails with the reason."""
    usage = Usage(prompt_tokens=2**62)
    past = tuple(Attempt(number, "t", f"run_{number}", "failed", usage=usage) for number in (1, 2, 3))
    state = STATE_JSON.dump_json(JobState(crashes=MAX_CRASHES - 1, attempt=4, past_attempts=past))
    with Stack(tmp_path) as stack, redis.Redis.from_url(stack.redis_url) as client:
        batch = await stack.submit(["What is 1 + 1?"])
        client.hset(keys.live(batch, 1), mapping={"state": state, "crashes": MAX_CRASHES})
        worker = stack.worker(1, QUICK)
        status = await stack.wait_for(batch)

        (row,) = await stack.rows(batch)
        assert row.result is not None
        assert row.result.status is JobStatus.FAILED
        assert "internal: ResponseError" in str(row.result.error)
        assert status.counts.by_status[JobStatus.FAILED] == 1
        assert worker.alive
