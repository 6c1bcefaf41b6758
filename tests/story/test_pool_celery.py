"""The pool in a real Celery worker on a real Redis: it behaves as operators of Celery expect."""

import signal
import sys
import time
from pathlib import Path

import pytest
import redis

from tests.helpers.workers.pool_process import TESTS, PoolProcess, pool_process
from tests.support import wait_until

__all__ = ["pool_process"]  # a fixture

CELERY = [
    sys.executable,
    "-m",
    "celery",
    "-A",
    "pool_worker",
    "worker",
    "--without-gossip",
    "--without-mingle",
]


def queued(process: PoolProcess) -> int:
    with redis.Redis.from_url(process.broker) as client:
        return int(client.llen("celery"))


def test_each_task_keeps_its_own_request(pool_process: PoolProcess) -> None:
    """`self.request` and `current_task` are correct after every await, though hundreds of tasks share one thread."""
    worker = pool_process.start(50)
    sent = [worker.client.send_task("who_am_i").id for _ in range(200)]
    wait_until(lambda: len(worker.records("ends")) == 200, "all have ended")

    ids_by_task = worker.records("ends")
    assert all(len(set(ids)) == 1 for ids in ids_by_task)
    assert sorted(ids[0] for ids in ids_by_task) == sorted(sent)


def test_a_slot_that_comes_free_is_filled_at_once(pool_process: PoolProcess) -> None:
    """The pool wakes Celery's hub; otherwise each task would wait for the hub's next poll, up to a second."""
    worker = pool_process.start(1)
    start = time.monotonic()
    worker.send(*(f"nap {n}" for n in range(40)), seconds=0.01)
    wait_until(lambda: len(worker.records("ends")) == 40, "all have ended", 20)

    assert time.monotonic() - start < 20, "each has waited for the hub's poll"


def test_messages_are_acknowledged_before_the_body_ends(pool_process: PoolProcess) -> None:
    """The early ack is sent at once: when Redis or the worker is killed, hardly any message is unacknowledged."""
    worker = pool_process.start()
    worker.send("long", seconds=60)
    wait_until(lambda: worker.records("begins"), "it runs")

    with redis.Redis.from_url(worker.broker) as client:
        wait_until(lambda: not client.hlen("unacked"), "no message is unacknowledged", 0.5)


@pytest.mark.parametrize("prefetch", [False, True])
def test_concurrency_is_a_bound(pool_process: PoolProcess, prefetch: bool) -> None:
    """`-c 3` runs three at once and no more, also when Celery prefetches."""
    worker = pool_process.start(3, worker_disable_prefetch=not prefetch, worker_prefetch_multiplier=4)
    worker.send(*"abcdefghijkl", seconds=0.1)
    wait_until(lambda: len(worker.records("ends")) == 12, "all have ended")

    assert worker.max_concurrent() == 3


def test_inspect_shows_running_tasks(pool_process: PoolProcess) -> None:
    """`celery inspect` and Flower see the tasks, the pool and its slots."""
    worker = pool_process.start(5)
    sent = worker.send("a", "b", seconds=60)
    wait_until(lambda: len(worker.records("begins")) == 2, "both run")

    assert {task["id"] for task in worker.inspect("active")} == {result.id for result in sent}
    assert worker.inspect("ping") == {"ok": "pong"}
    stats = worker.inspect("stats")["pool"]
    assert stats == {
        "implementation": "askmill.worker.celery.greenlet_pool:TaskPool",
        "max-concurrency": 5,
        "running": 2,
        "waiting": 0,
    }


def test_revoke_with_terminate_cancels_the_coroutine(pool_process: PoolProcess) -> None:
    """The coroutine gets CancelledError, and its slot goes to the next task."""
    worker = pool_process.start(1)
    revoked, _ = worker.send("revoked", "next", seconds=60)
    wait_until(lambda: worker.records("begins"), "it runs")
    worker.client.control.revoke(revoked.id, terminate=True)
    wait_until(lambda: worker.task_names("begins")["next"], "the next runs")

    assert worker.records("cancelled") == [["revoked"]]
    assert [task["args"][0] for task in worker.inspect("active")] == ["next"]


def test_pool_grow_and_shrink_move_the_bound(pool_process: PoolProcess) -> None:
    """An operator changes a living worker's concurrency."""
    worker = pool_process.start(1)
    worker.send("a", "b", "c", seconds=60)
    wait_until(lambda: worker.records("begins"), "the first runs")
    worker.client.control.pool_grow(1)
    wait_until(lambda: len(worker.records("begins")) == 2, "the second runs")
    worker.client.control.pool_shrink(1)
    wait_until(lambda: worker.inspect("stats")["pool"]["max-concurrency"] == 1, "the pool has shrunk")

    assert worker.max_concurrent() == 2


def test_task_events_are_sent(pool_process: PoolProcess) -> None:
    """With `-E`, monitors get the events received, started and succeeded."""
    worker = pool_process.start(options={"task_events": True})
    event_types: list[str] = []
    with worker.client.connection_for_read() as connection:
        receiver = worker.client.events.Receiver(
            connection, {"*": lambda event: event_types.append(event["type"])}
        )
        capture = receiver.itercapture(timeout=10)
        next(capture)  # subscribed
        worker.send("a")
        wait_until(
            lambda: next(capture) is None and "task-succeeded" in event_types, "the task has succeeded"
        )

    assert [kind for kind in event_types if kind.startswith("task-")] == [
        "task-received",
        "task-started",
        "task-succeeded",
    ]


def test_a_warm_shutdown_waits_for_running_tasks(pool_process: PoolProcess) -> None:
    """SIGTERM: running tasks end, the rest stays in the queue, exit code 0."""
    worker = pool_process.start(2)
    worker.send(*"abcde", seconds=0.5)
    wait_until(lambda: len(worker.records("begins")) == 2, "two run")

    assert worker.stop(signal.SIGTERM) == 0
    assert len(worker.records("ends")) == 2
    assert queued(worker) == 3


def test_a_warm_shutdown_requeues_prefetched_messages(pool_process: PoolProcess) -> None:
    """Messages that waited in the pool are in the queue again: nothing is lost, nothing runs twice."""
    worker = pool_process.start(2, worker_disable_prefetch=False, worker_prefetch_multiplier=4)
    worker.send(*"abcdefghij", seconds=0.5)
    wait_until(lambda: worker.inspect("stats")["pool"]["waiting"] > 0, "some wait")
    worker.stop(signal.SIGTERM)

    assert len(worker.records("ends")) + queued(worker) == 10
    assert max(worker.task_names("begins").values()) == 1


def test_a_cold_shutdown_cancels_and_requeues(pool_process: PoolProcess) -> None:
    """SIGQUIT: coroutines are cancelled, late-acknowledged tasks go back to the queue, all within seconds."""
    worker = pool_process.start(5, task_acks_late=True)
    worker.send(*"abcde", seconds=60)
    wait_until(lambda: len(worker.records("begins")) == 5, "all run")
    worker.stop(signal.SIGQUIT, within_s=10)

    assert sorted(worker.task_names("cancelled")) == list("abcde")
    assert queued(worker) == 5


def test_a_cold_shutdown_overrides_a_warm_one(pool_process: PoolProcess) -> None:
    """SIGTERM, then SIGQUIT while the pool waits for its tasks: they are cancelled and the worker ends."""
    worker = pool_process.start(5)
    worker.send("a", seconds=60)
    wait_until(lambda: worker.records("begins"), "it runs")
    worker.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.output, "the warm shutdown has begun")
    worker.stop(signal.SIGQUIT, within_s=10)

    assert worker.records("cancelled") == [["a"]]


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ([], {}),
        (["-P", "custom"], {"CELERY_CUSTOM_WORKER_POOL": "askmill.worker.celery.greenlet_pool:TaskPool"}),
    ],
)
def test_celerys_own_command_line_works(
    pool_process: PoolProcess, flags: list[str], env: dict[str, str]
) -> None:
    """`celery -A APP worker` needs no flags where `worker_pool` is set; `-P custom` is the other way."""
    worker = pool_process.start(3, program=[*CELERY, *flags], cwd=TESTS, env=env)
    worker.send("a")
    wait_until(lambda: worker.records("ends"), "the task has ended")

    assert worker.inspect("stats")["pool"]["implementation"] == "askmill.worker.celery.greenlet_pool:TaskPool"


def test_files_in_the_working_folder_shadow_nothing(pool_process: PoolProcess) -> None:
    """A user's folder may contain modules with our names, or Celery's: our own entry point never imports them."""
    folder: Path = pool_process.folder / "users"
    folder.mkdir()
    for name in ("config", "jobs", "worker", "celery", "kombu", "tasks", "celeryconfig", "json", "redis"):
        (folder / f"{name}.py").write_text("raise SystemExit('the user\\'s own file was imported')\n")
    worker = pool_process.start(cwd=folder)
    worker.send("a")
    wait_until(lambda: worker.records("ends"), "the task has ended")

    assert worker.stop(signal.SIGTERM) == 0
