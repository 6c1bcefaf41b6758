"""A worker whose job of one row or shard crashes keeps nothing of it (worker/process/following.py)."""

from pathlib import Path

import pytest
import redis

from askmill.jobs.model.models import JobStatus
from askmill.jobs.model.profile import Profile
from askmill.jobs.store import keys
from tests.chaos.support import rows_held
from tests.stack import QUICK, TUTOR, Stack
from tests.support import wait_until


@pytest.mark.parametrize(
    "profile", [TUTOR, Profile(model="gpt-5-mini", service_tier="batch")], ids=["row", "shard"]
)
async def test_a_row_or_shard_whose_job_crashes_is_released(tmp_path: Path, profile: Profile) -> None:
    """Its batch cannot be read: the living worker holds it no longer, and follows it again once that is mended."""
    with Stack(tmp_path, api="responses") as stack, redis.Redis.from_url(stack.redis_url) as client:
        batch = await stack.submit(["What is 1 + 1?"], profile)
        stored = client.hget(keys.batch(batch), "resources")
        client.hset(keys.batch(batch), "resources", "no JSON")
        worker = stack.worker(4, QUICK, ASKMILL_BATCH_LIST_S="0.3")
        wait_until(lambda: "job.crashed" in worker.log.read_text(), "its job has crashed", 30)
        wait_until(lambda: rows_held(stack) == [0], "the worker holds nothing")
        client.hset(keys.batch(batch), "resources", stored)
        status = await stack.wait_for(batch)

        assert worker.alive
        assert status.counts.by_status[JobStatus.COMPLETED] == 1
        assert "batch.purged" not in worker.log.read_text()
