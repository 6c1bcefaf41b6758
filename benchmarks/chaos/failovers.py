"""Failovers by Sentinels: one master, two replicas, three Sentinels on loopback; the workers live."""

import argparse
import asyncio
import tempfile
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from askmill.jobs.model.errors import RedisUnavailable
from askmill.jobs.model.models import Api
from askmill.jobs.store import Store
from benchmarks.chaos.scenes import print_json
from tests.chaos.endings import CHAT_ATTEMPTS
from tests.chaos.measurement import Outcome
from tests.helpers.sentinels import Sentinels
from tests.stack import QUICK, Stack

GUARANTEES = (("process", "0"), ("process", "1"), ("replica", "1"))
"""ASKMILL_DURABILITY and `min-replicas-to-write`."""


async def sentinels(options: argparse.Namespace) -> dict[str, Any]:
    """A planned failover and a killed master, at each guarantee, on each of `--apis`."""
    totals = dict[str, Any]()
    for api, way, (durability, min_replicas) in product(options.apis, ("planned", "killed"), GUARANTEES):
        name = f"{api} {way} {durability} min-replicas-to-write={min_replicas}"
        outcome = await _failover(options, api, way, durability, min_replicas)
        totals[name] = vars(outcome)
        print_json({"what": "sentinels", "case": name, **totals[name]})
    return totals


async def _failover(
    options: argparse.Namespace, api: Api, way: str, durability: str, min_replicas: str
) -> Outcome:
    """One batch, with the failover when a tenth of its rows has ended."""
    random, began_s = Random(options.seed), time.monotonic()
    questions = [
        f"[emulate: completed after={random.uniform(0.3, 3):.2f}] What is {row} + 1?"
        for row in range(options.rows)
    ]
    limits = {"attempts": CHAT_ATTEMPTS} if api == "chat" else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder), api) as stack,
        Sentinels(stack) as nodes,
    ):
        nodes.configure(min_replicas_to_write=min_replicas)
        stack.worker(max(20, options.rows // 10), QUICK, ASKMILL_DURABILITY=durability)
        batch = await stack.submit(questions, **limits)
        await _unfinished_after(stack, batch, options.rows - options.rows // 10, options.stall_s)
        await asyncio.to_thread(nodes.fail_over if way == "planned" else nodes.kill_master)
        hung = await _unfinished_after(stack, batch, 0, options.stall_s)
        runs = stack.stats()["runs_by_job"]
        async with await Store.open(stack.redis_url) as store:
            totals = (await store.counts(batch)).totals
            results = [row.result async for row in store.results(batch)]
    return Outcome(
        accidents=1,
        rows=options.rows,
        lost=options.rows - hung - sum(result is not None for result in results),
        hung=hung,
        paid_twice=sum(count > 1 for count in runs.values()),
        late=totals.get("late_runs", 0),
        unknown=totals.get("unknown_creates", 0),
        recovered_writes=totals.get("recovered_writes", 0),
        seconds=round(time.monotonic() - began_s, 1),
    )


async def _unfinished_after(stack: Stack, batch: str, rows: int, stall_s: float) -> int:
    """Wait until at most so many rows are unfinished, or none has ended for `stall_s`. Returns the rows."""
    last, changed_s = -1, time.monotonic()
    while last != 0 and time.monotonic() - changed_s <= stall_s and not 0 <= last <= rows:
        with suppress(RedisUnavailable):
            counts = (await stack.status(batch)).counts
            if (unfinished := counts.unfinished) != last:
                last, changed_s = unfinished, time.monotonic()
        await asyncio.sleep(0.1)
    return last
