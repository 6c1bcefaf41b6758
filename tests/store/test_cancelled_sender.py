"""No cancellation is lost on the way to Redis: by it Ctrl-C and SIGTERM end a command, and a worker its loops."""

import asyncio

import pytest

from askmill.jobs.store import Store


@pytest.mark.parametrize("turns", range(8))
async def test_a_command_is_cancelled_at_each_moment(store: Store, turns: int) -> None:
    """Also at the moment when it has been written, where `asyncio.wait_for` of Python 3.11 returns instead."""
    redis = store._connection.redis
    await redis.ping()
    waiting = asyncio.create_task(redis.execute_command("BLPOP", "no-such-key", 60))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await waiting
    assert await redis.ping()


async def test_a_cancellation_that_a_signal_handler_asks_for_is_not_lost(store: Store) -> None:
    """Ctrl-C that comes while the task itself runs; asyncio delivers it where the task next waits."""
    redis = store._connection.redis
    await redis.ping()

    async def interrupted() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await redis.ping()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(interrupted())
    assert await redis.ping()


async def test_a_call_made_while_the_sender_is_being_cancelled_gets_its_reply(store: Store) -> None:
    """The end of a worker's loop cancels every task, that of a script in flight too; then it deregisters."""
    pipeline = store._connection.scripts._pipeline
    first = asyncio.create_task(pipeline.run("nothing"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the sender waits for the reply
    assert pipeline._sender is not None
    pipeline._sender.cancel()
    first.cancel()

    async with asyncio.timeout(10):
        await pipeline.run("nothing")
