"""A network that carries packets one way only: Redis is in a network namespace of its own, as on another machine.

tests/chaos/test_machines.py has the same by relays, for machines where these tests are skipped.
"""

from pathlib import Path

import pytest

from tests.chaos.support import assert_each_paid_once, outage, questions_lasting, wait_for_finished
from tests.helpers.network_namespace import NetworkNamespace, missing
from tests.stack import QUICK, Stack

PARTITION_S = 4.5
"""Longer than a worker lives without a heartbeat."""


@pytest.mark.parametrize("direction", ["requests", "replies"])
async def test_a_partition_one_way_costs_neither_a_row_nor_a_run(tmp_path: Path, direction: str) -> None:
    """Two workers; no packet to Redis, or none from it, for longer than a worker lives. No connection is closed."""
    if reason := missing():
        pytest.skip(reason)
    rows = 60
    stack = Stack(tmp_path)
    with NetworkNamespace() as other:
        bind = stack.redis.command.index("--bind")
        stack.redis.command[bind + 1] = other.address
        stack.redis.command = [*other.enter, *stack.redis.command, "--protected-mode", "no"]
        stack.redis_url = stack.redis_url.replace("127.0.0.1", other.address)
        with stack:
            for _ in range(2):
                stack.worker(10, QUICK)
            batch = await stack.submit(questions_lasting(1, rows))
            wait_for_finished(stack, batch, 5)
            other.drop_requests() if direction == "requests" else other.drop_replies()
            outage(PARTITION_S)
            other.restore()
            status = await stack.wait_for(batch, timeout_s=90)

            await assert_each_paid_once(stack, batch, status, rows)
