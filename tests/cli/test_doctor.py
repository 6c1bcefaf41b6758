"""`doctor`, `status` and `resume` about workers: whom a batch waits for, and which version they run."""

from importlib.metadata import version

import pytest

from askmill.jobs.display.worker_versions import other_versions_line
from askmill.jobs.run.doctor import run_checks
from askmill.jobs.store import Store
from askmill.jobs.submit import control
from tests.helpers.batches import BASE_URL, submit_batch, worker_info

OWN = version("askmill")


@pytest.fixture
def settings(redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Settings of the tests' Redis and of an API that nobody serves."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "ASKMILL_REDIS_URL": redis_url,
        "ASKMILL_DATA_DIR": str(tmp_path),
        "ASKMILL_API": "chat",
        "OPENAI_BASE_URL": BASE_URL,
    }.items():
        monkeypatch.setenv(name, value)


async def findings(check: str) -> list[str]:
    return [str(finding) for finding in await run_checks() if finding.check == check]


@pytest.mark.usefixtures("settings")
async def test_doctor_names_a_batch_that_waits_for_another_worker(store: Store) -> None:
    """Workers are alive, but of another address, API or account: the batch would wait without a word."""
    await store.heartbeat(worker_info("w1", version=OWN))
    served, other = await submit_batch(store, 1), await submit_batch(store, 1, base_url="http://other/v1")
    billed = await submit_batch(store, 1, project="proj_b")
    paused = await submit_batch(store, 1, base_url="http://other/v1")
    await store.pause(paused, "requested by a user")

    waits = await findings("waits")

    assert [wait.split(": ")[1] for wait in waits] == [paused, billed, other]
    assert waits.pop(0) == (
        f"WARN  waits: {paused}: Paused: requested by a user. Run `askmill resume {paused}` to resume."
    )
    assert f"WARN  waits: {other}: No worker uses assistants at http://other/v1; one on here uses" in waits[1]
    assert "OPENAI_BASE_URL=http://other/v1" in waits[1]
    assert "OPENAI_PROJECT_ID=proj_b" in waits[0]
    assert served not in "".join(waits)
    await store.heartbeat(worker_info("w2", base_url="http://other/v1"))
    await store.heartbeat(worker_info("w3", project="proj_b"))
    assert [wait.split(": ")[1] for wait in await findings("waits")] == [paused]


@pytest.mark.usefixtures("settings")
async def test_doctor_names_workers_of_another_version(store: Store) -> None:
    """Also those that say none, which are older; workers of the same version are not mentioned."""
    await store.heartbeat(worker_info("w1", version=OWN))
    assert "version" not in "".join(await findings("workers"))
    assert not any("this command" in line for line in await findings("workers"))
    await store.heartbeat(worker_info("w2", version="9.9"))
    await store.heartbeat(worker_info("w3"))

    assert (await findings("workers"))[-1] == (
        f"WARN  workers: 2 of 3 workers run askmill 9.9 and a build before 1.0.0, this command {OWN}. Upgrade "
        "and restart workers before commands."
    )
    assert other_versions_line([], OWN) == ""


async def test_resume_says_what_goes_on(store: Store, redis_url: str) -> None:
    """With a worker: how far the batch is. Without one it does not call the batch resumed."""
    batch = await submit_batch(store, 3)
    await store.pause(batch, "requested by a user")
    alone = await control.resume(store, await store.batch(batch), redis_url)
    assert alone.message.startswith(f"{batch} is no longer paused (0 of 3 rows ended). No worker is alive: ")

    await store.pause(batch, "requested by a user")
    await store.heartbeat(worker_info())
    served = await control.resume(store, await store.batch(batch), redis_url)

    assert served.message == (
        f"{batch} is resumed: 0 of 3 rows ended, 1 worker. `askmill status {batch} --watch` follows it."
    )
    again = await control.resume(store, await store.batch(batch), redis_url)
    assert not again.changed
