"""Every command at every phase of a shard of `--tier batch`: no row is lost or bought twice, and the batch ends."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from askmill.jobs.model.models import JobStatus, OnIncomplete
from askmill.jobs.store import Store
from askmill.worker.execution.shard_runner import ShardRunner
from askmill.worker.lifecycle.shard_state import ShardPhase
from tests.emulator.emulator_support import Emulator
from tests.helpers.shards import PROFILE, ShardScene

ROWS = 12
PHASES = [phase for phase in ShardPhase if phase is not ShardPhase.DONE]
SENT = {ShardPhase.SENT, ShardPhase.FOLLOWED, ShardPhase.READING}
"""Phases in which the API has the lines: a command changes nothing of what is paid."""
OUTCOMES = "[emulate: failed(server_error), completed] What is 1 + 1?"


@pytest.fixture
async def scene(store: Store, redis_url: str, shared_emulator: Emulator) -> AsyncIterator[ShardScene]:
    opened = ShardScene(store, redis_url, shared_emulator)
    yield opened
    await store.deregister_worker(opened.workers[-1])


async def reach(runner: ShardRunner, phase: ShardPhase) -> None:
    """Follow the shard until its phase is stored, and what it does there is done."""
    while runner.state.phase is not phase:
        assert await runner._step()


async def play(scene: ShardScene, phase: ShardPhase, *commands: str, dies: bool) -> None:
    """The commands come at this phase; then the same worker goes on, or another one after its death."""
    await scene.submit([f"What is {n} + {n}?" for n in range(1, ROWS)] + [OUTCOMES])
    claim = await scene.claim_shard()
    async with scene.runner(claim) as runner:
        await reach(runner, phase)
        for command in commands:
            if command == "retry":
                await scene.store.retry(scene.batch, [JobStatus.CANCELLED])
            else:
                await getattr(scene.store, command)(scene.batch, *(["by hand"] if command == "pause" else []))
            if command != "purge":
                assert len(await scene.rows()) == ROWS  # `collect` at any moment
        if dies:
            await scene.bury_worker()
        elif commands[-1] == "purge":
            await runner.run()
        else:
            runner.batch.current = replace(
                runner.batch.current, state=(await scene.store.batch(scene.batch)).state
            )
            await runner.run()
    await scene.follow_all()


def times_bought(scene: ShardScene) -> int:
    """How often a line was bought, over all batches of the scene's batch."""
    bought = [one for one in scene.ledger()["batches"] if one["metadata"]["askmill_batch"] == scene.batch]
    return sum(one["bought"] for one in bought)


async def counts(scene: ShardScene) -> tuple[str, int, int]:
    """State of the batch, completed rows, cancelled rows."""
    view = await scene.status()
    assert view.counts.totals.get("reserved_nano", 0) == 0
    by_status = view.counts.by_status
    return view.batch.state.value, by_status[JobStatus.COMPLETED], by_status[JobStatus.CANCELLED]


@pytest.mark.parametrize("dies", [False, True], ids=["alive", "dies"])
@pytest.mark.parametrize("phase", PHASES)
async def test_cancel(scene: ShardScene, phase: ShardPhase, dies: bool) -> None:
    """What is not sent is cancelled; what is bought is kept; the row to be asked again keeps its attempt."""
    await play(scene, phase, "cancel", dies=dies)
    state, completed, cancelled = await counts(scene)
    assert (state, completed + cancelled, completed) == ("cancelled", ROWS, times_bought(scene))
    assert (await scene.status()).batch.finished_at_ms is not None
    assert completed == (ROWS - 1 if phase in SENT else 0)


@pytest.mark.parametrize("dies", [False, True], ids=["alive", "dies"])
@pytest.mark.parametrize("phase", PHASES)
async def test_pause_and_resume(scene: ShardScene, phase: ShardPhase, dies: bool) -> None:
    """A pause sends nothing, and what is sent ends; after `resume` every row is answered once."""
    await play(scene, phase, "pause", dies=dies)
    state, completed, _ = await counts(scene)
    assert (state, completed) == ("paused", ROWS - 1 if phase in SENT else 0)
    assert (await scene.status()).counts.by_status[JobStatus.RUNNING] == 0
    await scene.store.resume(scene.batch)
    await scene.finish()
    assert (await counts(scene), times_bought(scene)) == (("done", ROWS, 0), ROWS)


@pytest.mark.parametrize("dies", [False, True], ids=["alive", "dies"])
@pytest.mark.parametrize("phase", PHASES)
async def test_cancel_and_retry(scene: ShardScene, phase: ShardPhase, dies: bool) -> None:
    """Asked again at once: rows that were not sent travel in another shard, and none in two."""
    await play(scene, phase, "cancel", "retry", dies=dies)
    if phase in SENT:  # nothing was cancelled yet: the rows are with the API
        await scene.store.retry(scene.batch, [JobStatus.CANCELLED])
    await scene.finish()
    assert (await counts(scene), times_bought(scene)) == (("done", ROWS, 0), ROWS)


@pytest.mark.parametrize("dies", [False, True], ids=["alive", "dies"])
@pytest.mark.parametrize("phase", PHASES)
async def test_purge(scene: ShardScene, phase: ShardPhase, dies: bool) -> None:
    """Nothing of the batch is left, and whoever follows its shard leaves it."""
    await play(scene, phase, "cancel", "purge", dies=dies)
    assert await scene.store.list_batches() == []


async def test_raise_limit_asks_again_in_the_next_shard(scene: ShardScene) -> None:
    """A row that its limit cut off travels once more, with the limit doubled; the others travel once."""
    cut_off = "[emulate: incomplete(max_completion_tokens), completed] What is 2 + 3?"
    profile = PROFILE.model_copy(update={"max_completion_tokens": 100})
    await scene.submit(["What is 1 + 1?", cut_off], profile=profile, on_incomplete=OnIncomplete.RAISE_LIMIT)
    await scene.finish()
    results = [row.result for row in await scene.rows()]
    assert [(row.status, row.attempt_count) for row in results if row] == [
        (JobStatus.COMPLETED, 1),
        (JobStatus.COMPLETED, 2),
    ]
    assert [view.phase for view in await scene.store.list_shards(scene.batch)] == ["done", "done"]


async def test_a_row_that_waits_for_its_end_starts_no_run_of_its_own(scene: ShardScene) -> None:
    """A cancelled batch ends a row with attempts alone; asked again before that, the row waits for a shard."""
    await scene.submit(["What is 1 + 1?", OUTCOMES])
    assert await scene.follow()
    await scene.store.cancel(scene.batch)
    assert await scene.store.retry(scene.batch, [JobStatus.COMPLETED]) == 1
    before = scene.emulator.stats()["requests"].get("POST /responses", 0)
    await scene.finish()
    assert scene.emulator.stats()["requests"].get("POST /responses", 0) == before
    assert (await counts(scene))[:2] == ("done", 2)
