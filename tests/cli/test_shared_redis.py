"""One Redis, several terminals: submit on one, work on another, query and control from any."""

import asyncio
import csv
import io
import json
import os
import pty
import re
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import redis

import askmill
from askmill.jobs.local import died_here
from askmill.jobs.store import Store, keys
from askmill.jobs.store.views import WorkerInfo
from tests.chaos.support import wait_for_workers
from tests.helpers.command_line import CommandLine, terminal
from tests.stack import Stack
from tests.support import wait_until

STATUS_KEYS = [
    "batch",
    "name",
    "file",
    "state",
    "rows",
    "counts",
    "runs",
    "requests",
    "tokens",
    "cost_usd",
    "submitted_at",
    "started_at",
    "finished_at",
    "rows_per_s",
    "eta_s",
    "workers",
    "paused_reason",
    "unknown_creates",
    "waiting",
    "last_fault",
    "recovered_writes",
    "cut_contexts",
    "tier",
    "tier_fallbacks",
    "schema_misses",
    "shards",
    "accuracy",
]


@pytest.fixture
def user(tmp_path: Path, stack: Stack) -> CommandLine:
    """A user with the Redis and the API of the stack in their settings, and without a worker."""
    return terminal(tmp_path).with_settings(
        ASKMILL_REDIS_URL=stack.redis_url, OPENAI_BASE_URL=stack.base_url, OPENAI_API_KEY="offline"
    )


def _state(user: CommandLine, batch: str) -> str:
    return str(json.loads(user.askmill("status", batch, "--json").stdout)["state"])


def test_submit_work_status_and_collect_agree(user: CommandLine, stack: Stack) -> None:
    """Only the id is on stdout; a worker that starts later answers; all terminals see the same."""
    file = user.write("sums.csv", "id,question,answer", "a,What is 1 + 1?,two", "b,What is 2 + 3?,five")
    submitted = user.askmill("submit", file, "--id-column", "id", "--tool", "code_interpreter")
    batch = submitted.stdout.strip()

    assert submitted.returncode == 0, submitted.stderr
    assert re.fullmatch(r"b_[a-z0-9]+\n", submitted.stdout)
    assert "No worker is alive" in submitted.stderr
    partial = user.askmill("collect", batch, "-o", "-")
    assert [row["status"] for row in csv.DictReader(io.StringIO(partial.stdout))] == ["queued", "queued"]

    stack.worker()
    collected = user.askmill("collect", "--wait", "-o", "out.csv")

    assert collected.returncode == 0, collected.stderr
    text = (user.folder / "out.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["id"], row["answer"]) for row in rows] == [("a", "two"), ("b", "five")]
    assert ["2" in rows[0]["askmill_answer"], "5" in rows[1]["askmill_answer"]] == [True, True]
    status = json.loads(user.askmill("status", "--json").stdout)
    assert list(status) == STATUS_KEYS
    assert status["state"] == "done"
    assert status["counts"]["completed"] == 2
    assert status["counts"]["rejected"] == 0
    assert status["workers"] == 1
    listed = json.loads(user.askmill("list", "--json").stdout)
    assert {**listed, "rows_per_s": 0} == {**status, "rows_per_s": 0}
    shown = user.askmill("show", batch, "b")
    assert "What is 2 + 3?" in shown.stdout
    assert "Attempt 1: completed" in shown.stdout
    assert "code interpreter" in shown.stdout
    row = json.loads(user.askmill("show", "2", "--json").stdout)
    assert row["input"]["id"] == "b"
    assert row["steps"]


def test_run_uses_a_live_worker(user: CommandLine, stack: Stack) -> None:
    """If a worker is alive, `run` starts none and needs no key of its own."""
    stack.worker()
    wait_for_workers(stack, 1)
    without_key = user.with_settings(OPENAI_API_KEY="")
    file = user.write("sums.csv", "question", "What is 1 + 1?")

    done = without_key.askmill("run", file, "-o", "-")

    assert done.returncode == 0, done.stderr
    assert "2" in done.stdout
    log = Path(user.settings["ASKMILL_DATA_DIR"]) / "logs" / "worker.log"
    assert not log.exists(), "no worker of its own"


def test_pause_resume_cancel_retry_and_purge(user: CommandLine, stack: Stack) -> None:
    """A batch is controlled from any terminal; each command prints its effect."""
    file = user.write("two.csv", "question", "What is 1 + 1?", '"Hm [emulate: failed(x), completed]"')
    batch = user.askmill("submit", file).stdout.strip()

    paused = user.askmill("pause")
    assert f"askmill resume {batch}" in paused.stderr
    assert _state(user, batch) == "paused"
    assert user.askmill("status").stdout.count("Paused: requested by a user") == 1
    assert user.askmill("collect", "--wait", "-o", "-").returncode == 3

    stack.worker()
    assert user.askmill("resume", batch).returncode == 0
    assert user.askmill("status", batch, "--watch").returncode == 1
    failed = user.askmill("collect", batch, "--status", "failed", "-o", "-", "--columns", "row,error")
    assert failed.stdout.splitlines()[1].startswith("2,x")

    assert "1 row" in user.askmill("retry", batch).stderr
    assert user.askmill("collect", batch, "--wait", "-o", "-").returncode == 0
    assert "nothing to retry" in user.askmill("retry", batch).stderr

    threads = stack.stats()["requests"].get("DELETE /threads/{id}", 0)
    purged = user.askmill("purge", batch)
    assert purged.returncode == 0, purged.stderr
    assert "deleted here" in purged.stderr
    assert user.askmill("status", batch).returncode == 2
    assert threads == 0


def _stored_runs(client: redis.Redis, batch: str) -> int:
    """How many rows have the id of a run in Redis; only those can be cancelled when their worker is dead."""
    states = [client.hget(keys.live(batch, row), "state") for row in (1, 2)]
    return sum(state is not None and bool(json.loads(state).get("run_id")) for state in states)


def test_cancel_without_a_worker_cancels_the_runs_at_the_api(user: CommandLine, stack: Stack) -> None:
    """The command cancels the runs of a dead worker, or says why it cannot.

    The same `run` then starts a worker that records how the rows ended.
    """
    file = user.write(
        "two.csv", "question", "Hm [emulate: completed after=120]", "Hm [emulate: completed after=120]"
    )
    batch = user.askmill("submit", file).stdout.strip()
    worker = stack.worker()
    with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        wait_until(lambda: _stored_runs(client, batch) == 2, "both run ids are stored", timeout_s=30)
        worker.kill()
        wait_until(lambda: not client.keys(keys.worker("*")), "its heartbeat has expired", timeout_s=40)
    assert "none is alive" in user.askmill("doctor").stdout

    stack.emulator.kill()
    unreachable = user.askmill("cancel", batch)
    assert unreachable.returncode == 3, unreachable.stderr
    assert "2 runs may go on" in unreachable.stderr
    assert f"`askmill cancel {batch}` tries again" in unreachable.stderr
    stack.emulator.start()
    stack.wait_for_servers()
    cancelled = user.askmill("cancel", batch)

    assert cancelled.returncode == 0, cancelled.stderr
    assert "No worker is alive to record how 2 rows ended" in cancelled.stderr
    wait_until(lambda: stack.stats()["runs_active"] == 0, "the runs have ended")
    assert _state(user, batch) == "cancelled"
    rerun = user.askmill("run", file, "-o", "-")
    assert rerun.returncode == 1, rerun.stderr
    assert [row["status"] for row in csv.DictReader(io.StringIO(rerun.stdout))] == ["cancelled"] * 2
    again = user.askmill("run", file, "-o", "-")
    assert f"{batch} was already cancelled" in again.stderr
    assert user.askmill("cancel", batch).stderr.startswith("Nothing to cancel: ")
    assert f"`askmill retry {batch} --status cancelled`" in again.stderr
    assert stack.stats()["runs_created"] == 2


def test_a_redis_that_goes_away_during_a_run(user: CommandLine, stack: Stack) -> None:
    """Exit code 3; the message says that the batch is stored, and how to resume it."""
    stack.worker()
    process = user.start("run", user.write("slow.csv", "question", "Why? [emulate: completed after=60]"))
    wait_until(lambda: stack.stats()["runs_created"] == 1, "the run is created", timeout_s=30)
    stack.redis.kill()
    _, stderr = process.communicate(timeout=90)
    stack.redis.start()
    stack.wait_for_servers()

    assert process.returncode == 3, stderr
    assert f"{user.batches()[0]} is stored: run the same command again to resume" in " ".join(stderr.split())


@pytest.mark.parametrize("arguments", [["list"], ["doctor"], ["worker", "--check"]], ids=" ".join)
def test_a_database_that_does_not_exist(user: CommandLine, stack: Stack, arguments: list[str]) -> None:
    """Exit code 3 at every command; the message names the setting."""
    beyond = user.with_settings(ASKMILL_REDIS_URL=stack.redis_url.removesuffix("/0") + "/99")
    refused = beyond.askmill(*arguments)

    assert refused.returncode == 3, refused.stderr
    assert "no database of that number" in refused.stdout + refused.stderr
    assert "ASKMILL_REDIS_URL" in refused.stdout + refused.stderr


def test_an_unreachable_redis(user: CommandLine) -> None:
    """Exit code 3; the message has the address, no password, and says how to start Redis."""
    gone = user.with_settings(ASKMILL_REDIS_URL="redis://me:secret-word@127.0.0.1:1/0")

    refused = gone.askmill("status")

    assert refused.returncode == 3
    assert "127.0.0.1:1" in refused.stderr
    assert "secret-word" not in refused.stderr
    assert "start" in refused.stderr


def test_unknown_batches_and_rows_are_named(user: CommandLine) -> None:
    """Exit code 2; the message names the batches that exist."""
    file = user.write("one.csv", "question", "What is 1 + 1?")
    batch = user.askmill("submit", file).stdout.strip()

    unknown = user.askmill("status", "b_nothere")
    no_row = user.askmill("show", batch, "7")

    assert unknown.returncode == no_row.returncode == 2
    assert batch in unknown.stderr
    assert "7" in no_row.stderr


def test_doctor_names_each_fault(user: CommandLine) -> None:
    """A bad setting gives exit code 2 with the variable and a good value, an unreachable API gives 3."""
    healthy = user.askmill("doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "none is alive" in healthy.stdout

    bad = user.with_settings(ASKMILL_CONCURRENCY="many").askmill("doctor")
    assert bad.returncode == 2
    assert "ASKMILL_CONCURRENCY" in bad.stdout
    assert "200" in bad.stdout

    unreachable = user.with_settings(OPENAI_BASE_URL="http://127.0.0.1:1/v1").askmill("doctor")
    assert unreachable.returncode == 3
    assert "127.0.0.1:1" in unreachable.stdout


def test_worker_check_reports_whether_a_worker_is_alive(user: CommandLine, stack: Stack) -> None:
    """Exit code 1 without a worker on this machine, 0 with one."""
    assert user.askmill("worker", "--check").returncode == 1

    stack.worker()
    wait_for_workers(stack, 1)

    check = user.askmill("worker", "--check")
    assert check.returncode == 0
    assert check.stderr.rstrip().endswith(f", askmill {version('askmill')}")


def test_an_exhausted_quota_pauses_and_the_same_command_resumes(user: CommandLine, stack: Stack) -> None:
    """Exit code 3, the reason and what to do; after the fix the same command finishes the batch."""
    file = user.write("sums.csv", "question", *(f"What is {n} + 1?" for n in range(50)))
    stack.scenario('[account]\nerror = "insufficient_quota"\n')

    paused = user.askmill("run", file, "-o", "out.csv")

    assert paused.returncode == 3, paused.stderr
    assert "insufficient_quota" in paused.stderr
    assert "askmill resume" in paused.stderr
    assert not (user.folder / "out.csv").exists()
    assert stack.stats()["runs_created"] == 0
    pilot = user.askmill("estimate", file, "--pilot", "1")
    assert pilot.returncode == 3, pilot.stderr
    assert "insufficient_quota" in pilot.stderr.splitlines()[-1]
    assert "Usage" not in pilot.stderr
    stack.scenario("")
    done = user.askmill("run", file, "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    assert stack.stats()["runs_created"] == 50


def test_many_paid_rows_need_confirmation_on_a_terminal(user: CommandLine, stack: Stack) -> None:
    """The estimate and a question; the answer no submits nothing."""
    file = user.write("many.csv", "question", *(f"What is {n} + 1?" for n in range(101)))
    parent_side, child_side = pty.openpty()
    command = user.script("run", file)
    with subprocess.Popen(
        command, cwd=user.folder, env=user.env(), stdin=child_side, stdout=subprocess.PIPE, stderr=child_side
    ) as process:
        os.close(child_side)
        output = b""
        while b"Continue?" not in output:
            output += os.read(parent_side, 1024)
        os.write(parent_side, b"n\n")
        code = process.wait(30)
    os.close(parent_side)

    assert code == 2
    assert b"101 rows for gpt-6-luna" in output
    assert b"$" in output
    assert user.askmill("list", "--json").stdout == ""
    assert stack.stats()["runs_created"] == 0


def test_run_starts_a_worker_although_a_killed_one_counts_as_alive(user: CommandLine, stack: Stack) -> None:
    """Case E8: its heartbeat is fresh for 12 s, here for ten minutes, but its process is gone."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = WorkerInfo("killed", socket.gethostname(), ended.pid, 10, "assistants", stack.base_url)

    async def register() -> None:
        async with await Store.open(stack.redis_url, lifetime_s=600) as store:
            await store.heartbeat(dead)

    asyncio.run(register())
    done = user.askmill("run", user.write("one.csv", "question", "What is 1 + 1?"), "-o", "-")
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout


def test_a_worker_of_another_machine_counts_by_its_heartbeat() -> None:
    """Only a process of this machine can be seen to have ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert died_here(WorkerInfo("w", socket.gethostname(), ended.pid, 1, "assistants", "http://h/v1"))
    assert not died_here(WorkerInfo("w", "another", ended.pid, 1, "assistants", "http://h/v1"))
    assert not died_here(WorkerInfo("w", socket.gethostname(), os.getpid(), 1, "assistants", "http://h/v1"))


def test_disk_durability_is_refused_where_redis_does_not_write_through(
    user: CommandLine, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `submit`, `run`, `worker`, `doctor` and the library alike: exit 2 and what to set; nothing is stored."""
    strict = user.with_settings(ASKMILL_DURABILITY="disk")
    file = user.write("one.csv", "question", "What is 1 + 1?")
    for command in (["submit", file], ["run", file, "-o", "-"], ["worker"], ["doctor"]):
        refused = strict.askmill(*command)
        assert refused.returncode == 2, (command, refused.stderr)
        assert "Set appendfsync always there" in refused.stderr + refused.stdout, command
    for name, value in {**stack.settings(), "ASKMILL_DURABILITY": "disk"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(askmill.UsageError, match="Set appendfsync always there"):
        askmill.submit(["What is 1 + 1?"])
    with redis.Redis.from_url(stack.redis_url) as client:
        assert not client.exists(keys.BATCHES, keys.LOADING)
        client.config_set("appendfsync", "always")
    assert strict.askmill("submit", file).returncode == 0


def test_a_redis_that_forgets_is_named_before_rows_are_stored(user: CommandLine, stack: Stack) -> None:
    """Case D16: a warning on stderr by `submit` and `run`, and a worker's log; the batch is answered all the same."""
    with redis.Redis.from_url(stack.redis_url) as client:
        client.config_set("maxmemory", "500mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    file = user.write("one.csv", "question", "What is 1 + 1?")
    submitted = user.askmill("submit", file)
    assert "Warning: Redis at redis://127.0.0.1" in submitted.stderr
    assert "may evict batches" in submitted.stderr
    assert "FAULT redis" in user.askmill("doctor").stdout
    worker = stack.worker(5)
    done = user.askmill("run", file, "-o", "-")
    assert (done.returncode, "may evict batches" in done.stderr) == (0, True)
    assert "redis.may_lose_batches" in worker.log.read_text()
