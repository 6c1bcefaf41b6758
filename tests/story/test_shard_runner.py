"""A shard of `--tier batch` at exact moments: rows that kill their workers, refused creates, commands on the way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from askmill.jobs.model.models import JobStatus
from askmill.jobs.store import Store
from askmill.worker.execution import shard_file, shard_results
from askmill.worker.lifecycle.shard_state import ShardPhase
from tests.emulator.emulator_support import Emulator
from tests.helpers.shards import ShardScene, WorkerDies, dump_redis, restore_redis
from tests.support import wait_until_async

QUESTIONS = [f"What is {n} + {n}?" for n in range(1, 31)]


@pytest.fixture
async def scene(store: Store, redis_url: str, shared_emulator: Emulator) -> AsyncIterator[ShardScene]:
    opened = ShardScene(store, redis_url, shared_emulator)
    yield opened
    shared_emulator.set_scenario("")
    if opened.workers:
        await store.deregister_worker(opened.workers[-1])


def own_batches(scene: ShardScene) -> list[dict[str, Any]]:
    """The API's batches of this scene."""
    return [one for one in scene.ledger()["batches"] if one["metadata"]["askmill_batch"] == scene.batch]


def bought(scene: ShardScene) -> list[int]:
    """Lines bought, batch by batch."""
    return [one["bought"] for one in own_batches(scene) if one["bought"]]


@pytest.mark.parametrize(
    ("module", "function", "bought_lines"), [("read", "read_line", 30), ("build", "request_line", 29)]
)
@pytest.mark.parametrize("crash", [WorkerDies, ZeroDivisionError])
async def test_a_row_that_kills_its_worker_fails_alone(
    scene: ShardScene,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    function: str,
    bought_lines: int,
    crash: type[BaseException],
) -> None:
    """While its line is built or read: the third death fails row 7, the others are answered, each bought once."""
    room: Any = {"read": shard_results, "build": shard_file}[module]
    original = getattr(room, function)

    def deadly(line: Any, *arguments: Any) -> Any:
        if f"{scene.batch}-7-1" in str(line):
            raise crash
        return original(line, *arguments)

    batch = await scene.submit(QUESTIONS)
    monkeypatch.setattr(room, function, deadly)
    deaths = await scene.follow_all()
    view = await scene.status()
    assert (deaths, view.batch.state) == (3 if crash is WorkerDies else 0, "done")
    assert (view.counts.by_status[JobStatus.COMPLETED], bought(scene)) == (29, [bought_lines])
    failed = (await scene.store.row(batch, 7)).view.result
    assert failed is not None
    error = "poison_row" if crash is WorkerDies else "internal: ZeroDivisionError"
    assert (failed.status, (failed.error or "")[: len(error)]) == (JobStatus.FAILED, error)
    assert (view.counts.totals.get("assumed_nano", 0) > 0) is (module == "read")  # its line is paid


NO_ENDPOINT = '[batches]\nendpoints = ["/v1/chat/completions"]\n'
LONG_WAIT = '[http]\nonly = ["POST /batches"]\nrate_429 = 1.0\nretry_after_s = 700\n'
SHORT_WAIT = LONG_WAIT.replace("700", "2")


@pytest.mark.parametrize(
    "scenario", [NO_ENDPOINT, LONG_WAIT, SHORT_WAIT], ids=["refused", "long wait", "429"]
)
async def test_a_refused_create_returns_its_money_and_its_rows_are_queued(
    scene: ShardScene, scenario: str
) -> None:
    """Paused or waiting, `status` is right: nothing runs, nothing is reserved; later each is bought once."""
    scene.emulator.set_scenario(scenario)
    await scene.submit(QUESTIONS, budget_usd=5.0)

    async def unsent() -> bool:
        view = await scene.status()
        running, reserved = view.counts.by_status[JobStatus.RUNNING], view.counts.totals.get("reserved_nano")
        return refused() and (running, reserved) == (0, 0)

    def refused() -> bool:
        return scene.emulator.stats()["requests"].get("POST /batches", 0) > before

    before = scene.emulator.stats()["requests"].get("POST /batches", 0)
    following = asyncio.create_task(scene.follow())
    await wait_until_async(unsent, "the refused create is taken back", 3)
    assert (await scene.status()).counts.by_status[JobStatus.QUEUED] == 30
    scene.emulator.set_scenario("")
    await following
    if scenario != SHORT_WAIT:
        assert (await scene.status()).batch.state == "paused"
        await scene.store.resume(scene.batch)
    await scene.follow_all()
    view = await scene.status()
    assert (view.batch.state, view.counts.by_status[JobStatus.COMPLETED], bought(scene)) == ("done", 30, [30])
    assert view.counts.totals["reserved_nano"] == 0


async def test_one_bad_line_fails_its_row_alone(scene: ShardScene) -> None:
    """A line that the check of the file names, and one that is refused with 400 as it runs: 198 of 200 are answered.

    The first file runs nothing; the second one has the rows of the first without the named one.
    """
    scene.emulator.set_scenario('[batches]\nbad_lines = ["one bad line"]\n')
    questions = [f"What is {n} + {n}?" for n in range(1, 201)]
    questions[76], questions[149] = "one bad line", "[emulate: refused(image_url)] another"
    batch = await scene.submit(questions)
    await scene.follow_all()
    view = await scene.status()
    counts = view.counts.by_status
    assert (view.batch.state, counts[JobStatus.COMPLETED], counts[JobStatus.FAILED]) == ("done", 198, 2)
    assert [(one["status"], one["total"], one["bought"]) for one in own_batches(scene)] == [
        ("failed", 200, 0),
        ("completed", 199, 198),
    ]
    named, refused = [(await scene.store.row(batch, row)).view.result for row in (77, 150)]
    assert named is not None
    assert refused is not None
    assert (named.error or "").startswith("missing_required_parameter")
    assert (named.attempt_count, named.cost_usd, refused.attempt_count) == (0, None, 0)
    assert view.counts.totals.get("assumed_nano", 0) == 0


LISTED_LATE = "[batches]\nlist_late_s = 1.5\n"


@pytest.mark.parametrize(
    ("manners", "paid_lines"), [("validate_s = 4.0", [30]), ("run_s = 4.0", [30, None])], ids=["free", "paid"]
)
async def test_a_forgotten_create_that_is_listed_late_is_cancelled_and_counted(
    scene: ShardScene, manners: str, paid_lines: list[int | None]
) -> None:
    """Redis forgets a shard whose batch no list shows yet: it is created again, and one of both is cancelled.

    While it is validated that costs nothing; later what has run is counted in `assumed_nano`.
    """
    scene.emulator.set_scenario(f"{LISTED_LATE}{manners}\n")
    await scene.submit(QUESTIONS)
    snapshot = dump_redis(scene.redis_url)
    claim = await scene.claim_shard()
    async with scene.runner(claim) as runner:
        following = asyncio.create_task(runner.run())
        await wait_until_async(lambda: followed(scene), "the API has the shard")
        runner.interrupts.claim_lost = True  # it dies: nothing is released
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    restore_redis(scene.redis_url, snapshot)
    scene.workers.append("w2")
    await scene.follow_all()
    view = await scene.status()
    assert (view.batch.state, view.counts.by_status[JobStatus.COMPLETED]) == ("done", 30)
    assert view.counts.totals["late_runs"] == 1
    assert sorted(one["status"] for one in own_batches(scene)) == ["cancelled", "completed"]
    assert (view.counts.totals.get("assumed_nano", 0) > 0) is (len(paid_lines) > 1)
    assert len(bought(scene)) == len(paid_lines)


async def followed(scene: ShardScene) -> bool:
    return {view.phase for view in await scene.store.list_shards(scene.batch)} == {"followed"}


TOGETHER = '[batches]\nstyle = "together"\nendpoints = ["/v1/chat/completions"]\nrun_s = 0.5\n'


@pytest.mark.parametrize("phase", [ShardPhase.SENT, ShardPhase.FOLLOWED, ShardPhase.READING])
async def test_a_server_with_other_manners_answers_each_row_once(
    scene: ShardScene, phase: ShardPhase
) -> None:
    """Chat lines, upper-case states, a bare list and no metadata, with a death at this phase."""
    scene.api = "chat"
    scene.emulator.set_scenario(TOGETHER)
    batch = await scene.submit(QUESTIONS)
    claim = await scene.claim_shard()
    async with scene.runner(claim) as runner:
        while runner.state.phase is not phase:
            await runner._step()
    await scene.bury_worker()
    await scene.follow_all()
    view = await scene.status()
    assert (view.batch.state, view.counts.by_status[JobStatus.COMPLETED]) == ("done", 30)
    runs = scene.emulator.stats()["runs_by_job"]
    assert [runs.get(f"{batch}:{row}") for row in range(1, 31)] == [1] * 30
