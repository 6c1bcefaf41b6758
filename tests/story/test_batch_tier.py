"""`--tier batch` end to end: rows travel in shards through the emulator's Batch API, and each is bought once."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from askmill.jobs.model.models import Api, JobStatus
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import Store
from tests.helpers.shards import dump_redis, restore_redis
from tests.stack import QUICK, Child, Stack
from tests.support import wait_until, wait_until_async

PROFILE = Profile(model="gpt-5-mini", service_tier="batch")
QUESTIONS = [f"What is {n} + {n}?" for n in range(1, 41)]
LONG_RUNS = "[batches]\nrun_s = 600.0\n"


@pytest.fixture
def api() -> Api:
    return "responses"


@pytest.fixture
def stack(api: Api, tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path, api=api) as started:
        yield started


def worker(stack: Stack) -> Child:
    return stack.worker(concurrency=4, times=QUICK, ASKMILL_BATCH_LIST_S="0.3")


def bought_once(stack: Stack, lines: int) -> bool:
    """Whether the emulator has carried out each of so many lines once."""
    counted = stack.ledger()["lines"]
    return (counted["ran"], counted["bought_again"]) == (lines, {})


async def wait_until_followed(stack: Stack, batch: str) -> None:
    async def followed() -> bool:
        async with await Store.open(stack.redis_url) as store:
            return {view.phase for view in await store.list_shards(batch)} == {"followed"}

    await wait_until_async(followed, "the API has the shard", 20)


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_a_batch_is_answered_through_one_shard(stack: Stack) -> None:
    """40 rows: one create, every line bought once, all rows completed in the tier; few requests."""
    worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    assert bought_once(stack, 40)
    assert (stack.ledger()["creates"], view.counts.totals["runs"]) == (1, 40)
    requests = stack.stats()["requests"]
    assert sum(requests.values()) - requests["GET /batches"] == 3  # upload, create, results
    rows = await stack.rows(batch)
    assert [row.result.answer for row in rows if row.result][:2] == ["1 + 1 = 2.", "2 + 2 = 4."]
    assert {row.result.attempts[0].tier for row in rows if row.result} == {"batch"}
    async with await Store.open(stack.redis_url) as store:
        ((shard, line),) = (await store.row(batch, 7)).shards
    assert (shard.phase, shard.api_status, line) == ("done", "completed", 7)


async def test_endings_of_lines_are_those_of_runs(stack: Stack) -> None:
    """Refused, asked again, expired, cut off: as the same outcomes of live runs, in the next shard."""
    worker(stack)
    questions = [
        "[emulate: failed(invalid_prompt)] a",
        "[emulate: failed(server_error), completed] b",
        "[emulate: expired, completed] c",
        "[emulate: incomplete(max_completion_tokens)] d",
        "What is 2 + 3?",
    ]
    batch = await stack.submit(questions, PROFILE)
    view = await stack.wait_for(batch)
    rows = [row.result for row in await stack.rows(batch)]
    statuses = [row.status.value for row in rows if row]
    assert statuses == ["failed", "completed", "completed", "incomplete", "completed"]
    assert [row.attempt_count for row in rows if row] == [0, 2, 2, 1, 1]
    assert view.counts.totals.get("assumed_nano", 0) == 0  # what did not run costs nothing


async def assert_another_worker_follows(stack: Stack) -> None:
    """kill -9 once the API has the shard: each row is answered, bought once, with one create."""
    first = worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    await wait_until_followed(stack, batch)
    first.kill()
    worker(stack)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    assert (bought_once(stack, 40), stack.ledger()["creates"]) == (True, 1)


@pytest.mark.chaos
async def test_a_killed_worker_s_shard_is_followed_by_another(stack: Stack) -> None:
    """kill -9 while the batch runs: the next worker reads its answers, and nothing is created again."""
    stack.scenario("[batches]\nrun_s = 4.0\n")
    await assert_another_worker_follows(stack)


@pytest.mark.chaos
@pytest.mark.parametrize("api", ["chat"])
async def test_a_server_without_metadata_answers_each_row_once_after_a_kill(stack: Stack) -> None:
    """As at Groq and Together: chat lines, upper-case states, a bare list, no metadata; kill -9 while it runs."""
    stack.scenario('[batches]\nstyle = "together"\nrun_s = 4.0\nlist_late_s = 0.5\n')
    await assert_another_worker_follows(stack)


@pytest.mark.chaos
async def test_lost_replies_of_creates_buy_nothing_twice(stack: Stack) -> None:
    """Half of all replies are lost: a batch is found in the list by its input file."""
    stack.scenario("[http]\ndrop_after = 0.5\n")
    worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    assert bought_once(stack, 40)


@pytest.mark.chaos
async def test_a_redis_that_went_back_in_time_adopts_the_batch(stack: Stack) -> None:
    """All writes since the submit are lost, and with them the shard: the list shows its batch, with its content."""
    stack.scenario("[batches]\nrun_s = 5.0\n")
    batch = await stack.submit(QUESTIONS, PROFILE)
    snapshot = dump_redis(stack.redis_url)
    first = worker(stack)
    await wait_until_followed(stack, batch)
    first.kill()
    restore_redis(stack.redis_url, snapshot)
    worker(stack)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    assert (bought_once(stack, 40), stack.ledger()["creates"]) == (True, 1)


@pytest.mark.chaos
async def test_missing_and_repeated_lines_are_counted_and_asked_again(stack: Stack) -> None:
    """A line that stands in no file may be paid: counted, and asked again; of two lines the first counts."""
    stack.scenario("[batches]\nmissing_lines = 0.1\nrepeated_lines = 0.2\n")
    worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    asked = stack.ledger()["lines"]["ran"]
    assert asked - 40 == view.counts.totals["unknown_creates"] > 0
    assert view.counts.totals["repeated_lines"] > 0


@pytest.mark.chaos
async def test_the_enqueued_token_limit_makes_shards_that_fit(stack: Stack) -> None:
    """A file over the limit runs nothing; its rows travel in smaller shards, and no attempt is used."""
    stack.scenario("[batches]\nenqueued_limit = 100\n")
    worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 40
    assert bought_once(stack, 40)
    assert len([one for one in stack.ledger()["batches"] if one["status"] == "completed"]) > 1


async def test_cancel_ends_the_batch_at_the_api(stack: Stack) -> None:
    """A running batch is cancelled there; every row ends, and `purge` deletes its files."""
    stack.scenario(LONG_RUNS)
    worker(stack)
    batch = await stack.submit(QUESTIONS, PROFILE)
    await wait_until_followed(stack, batch)
    assert (await stack.status(batch)).counts.by_status[JobStatus.RUNNING] == 40
    async with await Store.open(stack.redis_url) as store:
        await store.cancel(batch)

    async def ended() -> bool:
        view = await stack.status(batch)
        return view.counts.unfinished == 0 and view.batch.finished_at_ms is not None

    await wait_until_async(ended, "every row has ended", 20)
    assert {one["status"] for one in stack.ledger()["batches"]} == {"cancelled"}


@pytest.mark.chaos
async def test_cancel_keeps_an_attempt_that_would_be_repeated(stack: Stack) -> None:
    """A line that ended with a server's error before the cancel: its row is cancelled, with its attempt."""
    stack.scenario("[batches]\nrun_s = 20.0\n")
    worker(stack)
    batch = await stack.submit(["[emulate: failed(server_error), completed] a", *QUESTIONS], PROFILE)
    wait_until(lambda: stack.ledger()["lines"]["ran"] >= 3, "the first lines have run", 20)
    async with await Store.open(stack.redis_url) as store:
        await store.cancel(batch)

    async def ended() -> bool:
        return (await stack.status(batch)).batch.finished_at_ms is not None

    await wait_until_async(ended, "the batch has ended", 20)
    rows = [row.result for row in await stack.rows(batch)]
    assert rows[0] is not None
    assert rows[1] is not None
    assert (rows[0].status, rows[0].attempt_count) == (JobStatus.CANCELLED, 1)
    assert rows[1].status is JobStatus.COMPLETED


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_kills_at_random_moments_buy_nothing_twice(stack: Stack, seed: int) -> None:
    """kill -9 of the worker, again and again: every row is answered, and every line bought once."""
    chance = random.Random(seed)
    stack.scenario("[batches]\nvalidate_s = 0.5\nrun_s = 2.0\nlist_late_s = 0.5\n")
    batch = await stack.submit(QUESTIONS * 5, PROFILE)
    started = 0.0
    for _ in range(6):
        killed = worker(stack)
        started = chance.uniform(1.0, 6.0)

        async def done() -> bool:
            return (await stack.status(batch)).counts.unfinished == 0

        try:
            await wait_until_async(done, "the batch is done", started / 3)
        except AssertionError:
            killed.kill()
    worker(stack)
    view = await stack.wait_for(batch)
    assert view.counts.by_status[JobStatus.COMPLETED] == 200
    assert bought_once(stack, 200)


SMALL_SHARDS = """
[http]
slow_s = 0.05
[batches]
enqueued_limit = 700
validate_s = 0.3
run_s = 2.0
list_late_s = 0.5
"""
STEPS = ["POST /files", "POST /batches", "GET /batches", "GET /files/{file_id}/content"]
"""Requests on a shard's way: upload, create, list, results."""


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2])
async def test_everything_killed_at_five_random_moments(tmp_path: Path, seed: int) -> None:
    """kill -9 of worker, Redis and emulator at once, five times in one batch: every row once, none is lost.

    A moment is the next, or next but one, request of a random step (or the twelfth list, where that step comes no
    more), so each kill meets shards on their way.
    """
    chance = random.Random(seed)
    with Stack(tmp_path, "responses", SMALL_SHARDS) as stack:
        batch = await stack.submit([f"What is {n} + {n}?" for n in range(1, 401)], PROFILE)
        for kill in range(1, 6):
            worker(stack)
            step = chance.choice(STEPS)
            due = {step: _requests(stack, step) + chance.randint(1, 2)}
            due.setdefault("GET /batches", _requests(stack, "GET /batches") + 12)
            wait_until(partial(_has_come, stack, due), f"kill {kill} is due at {step}", 30)
            assert (await stack.status(batch)).batch.state != "done", f"kill {kill} came after the batch"
            stack.crash()
        worker(stack)
        view = await stack.wait_for(batch, timeout_s=80)
        ledger = stack.ledger()
        assert view.counts.by_status[JobStatus.COMPLETED] == 400
        assert (ledger["lines"]["bought"], ledger["lines"]["bought_again"]) == (400, {})
        assert ledger["lines"]["jobs_bought_again"] == {}
        assert len([one for one in ledger["batches"] if one["status"] == "completed"]) > 5


def _has_come(stack: Stack, due: dict[str, int]) -> bool:
    return any(_requests(stack, step) >= requests for step, requests in due.items())


def _requests(stack: Stack, step: str) -> int:
    """How many requests of this kind the emulator has served, in all its lives."""
    return int(stack.stats()["requests"].get(step, 0))


@pytest.mark.long
@pytest.mark.chaos
async def test_one_bad_line_in_10000_fails_alone(stack: Stack) -> None:
    """The check names the line: its row fails, 9,999 are answered, and no line is bought twice."""
    stack.scenario('[batches]\nvalidate_s = 0.5\nbad_lines = ["one bad line"]\necho = true\n')
    worker(stack)
    questions = [f"question {n}" for n in range(1, 10_001)]
    questions[7_776] = "one bad line"
    batch = await stack.submit(questions, PROFILE)
    view = await stack.wait_for(batch, timeout_s=90)
    counts = view.counts.by_status
    assert (counts[JobStatus.COMPLETED], counts[JobStatus.FAILED]) == (9_999, 1)
    assert bought_once(stack, 9_999)
    async with await Store.open(stack.redis_url) as store:
        failed = (await store.row(batch, 7_777)).view.result
    assert failed is not None
    assert (failed.error or "").startswith("missing_required_parameter")
