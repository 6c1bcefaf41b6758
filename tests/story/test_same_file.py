"""Several commands with one file at one moment are one batch, whatever becomes of the one that stores it."""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
import redis

from askmill.jobs.store import keys
from tests.helpers.command_line import CommandLine
from tests.helpers.key_leaks import assert_no_leaks
from tests.helpers.requests import StackUser
from tests.helpers.tcp_relay import TcpRelay
from tests.stack import QUICK, Stack
from tests.support import RedisServer, wait_until

ROWS = 20_000
Command = subprocess.Popen[str]
WAITS = "is being stored by another command"
HELD = 1 << 20
"""Bytes to Redis: three to four of the five calls that store `ROWS` rows of 170 bytes that hardly compress."""


@pytest.fixture
def user(tmp_path: Path, redis_server: RedisServer) -> CommandLine:
    """A Redis, an address that nobody asks, and a file of `ROWS` rows."""
    settings = {
        "ASKMILL_REDIS_URL": redis_server.url,
        "ASKMILL_DATA_DIR": str(tmp_path / "data"),
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "ASKMILL_API": "assistants",
        "OPENAI_API_KEY": "offline",
    }
    (tmp_path / "work").mkdir()
    made = CommandLine(tmp_path / "work", settings)
    # Digits that zstd cannot pack well, so that the size on the wire is that of the file.
    numbers = (str(pow(3, row + 10_000, 1 << 521))[:150] for row in range(ROWS))
    made.write("in.csv", "question", *(f"{row}: {number}" for row, number in enumerate(numbers)))
    return made


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as opened:
        yield opened
    assert_no_leaks(redis_server.url)


def _ended(command: Command, code: int = 0) -> tuple[str, str]:
    """What it printed: stdout, stripped, and stderr."""
    out, err = command.communicate(timeout=200)
    assert command.returncode == code, err
    return out.strip(), err


def _end_lease(client: redis.Redis, batch: str) -> None:
    """As if the command that stores the batch had renewed its lease for the last time 10 s ago."""
    client.hset(keys.batch(batch), "lease_until", 0)


def _whole(user: CommandLine, batch: str) -> None:
    """It is the only batch, and has every row once, in order."""
    listed = user.askmill("list").stdout.split("\n")
    assert [line.split()[0] for line in listed if line.startswith("b_")] == [batch]
    collected = user.askmill("collect", batch, "-o", "-", "--columns", "row,question")
    assert collected.returncode == 0, collected.stderr
    rows = collected.stdout.splitlines()[1:]
    asked = (user.folder / "in.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert rows == [f"{number},{question}" for number, question in enumerate(asked, 1)]


def _half_stored(relay: TcpRelay, client: redis.Redis) -> str:
    """The batch whose loader the relay holds in the midst of its rows."""
    assert relay.is_holding.wait(120)
    (batch,) = client.smembers(keys.LOADING)

    def stored() -> int:
        return client.strlen(keys.part(batch, "status"))

    assert 0 < wait_until(stored, "rows are stored") < ROWS
    return str(batch)


def test_three_submits_at_once_are_one_batch(user: CommandLine, client: redis.Redis) -> None:
    """Each prints the same id; two wait, say so in one line, and follow."""
    commands = [user.start("submit", "in.csv") for _ in range(3)]
    ended = [_ended(command) for command in commands]
    (batch,) = {out for out, _ in ended}
    assert re.fullmatch(r"b_[a-z0-9]+", batch)
    followers = [err for _, err in ended if f"{batch} has the same file and profile" in err]
    assert len(followers) == 2
    assert all(err.count(WAITS) <= 1 for _, err in ended)
    _whole(user, batch)


def test_two_commands_with_new_are_two_batches(user: CommandLine, client: redis.Redis) -> None:
    """That is what was asked for. A later command without it follows one of them."""
    commands = [user.start("submit", "in.csv", "--new", "--limit", "20") for _ in range(2)]
    batches = {_ended(command)[0] for command in commands}
    assert len(batches) == 2
    assert user.askmill("submit", "in.csv", "--limit", "20").stdout.strip() in batches


def test_a_killed_loader_is_replaced(
    user: CommandLine, client: redis.Redis, redis_server: RedisServer
) -> None:
    """kill -9 in the midst of the rows: the command that waits completes the same batch, each row once."""
    with TcpRelay(redis_server.url) as relay:
        relay.hold_after(HELD)
        first = user.with_settings(ASKMILL_REDIS_URL=relay.url).start("submit", "in.csv")
        batch = _half_stored(relay, client)
        second = user.start("submit", "in.csv", "--attempts", "5")
        first.kill()
        first.communicate()
        _end_lease(client, batch)
    out, err = _ended(second)
    assert out == batch, err
    assert err.count(WAITS) <= 1, err
    assert f"The command that was storing {batch} has stopped" in err
    _whole(user, batch)


@pytest.mark.parametrize("stopped", [True, False], ids=["SIGSTOP", "no way to Redis"])
def test_a_loader_that_stood_still_follows_its_successor(
    user: CommandLine, client: redis.Redis, redis_server: RedisServer, stopped: bool
) -> None:
    """Longer than its lease: it stores nothing after that, neither rows nor seal, and prints the same id."""
    with TcpRelay(redis_server.url) as relay:
        relay.hold_after(HELD)
        first = user.with_settings(ASKMILL_REDIS_URL=relay.url).start("submit", "in.csv")
        batch = _half_stored(relay, client)
        if stopped:
            first.send_signal(signal.SIGSTOP)
        _end_lease(client, batch)
        assert _ended(user.start("submit", "in.csv"))[0] == batch
        before = client.dump(keys.part(batch, "input")), client.hgetall(keys.batch(batch))
        relay.release()
        first.send_signal(signal.SIGCONT)
        out, err = _ended(first)
    assert out == batch
    assert f"This command was suspended while it stored {batch}" in err
    assert before == (client.dump(keys.part(batch, "input")), client.hgetall(keys.batch(batch)))
    _whole(user, batch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_loader_keeps_nobody_waiting(
    user: CommandLine, client: redis.Redis, redis_server: RedisServer, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM, a closed terminal: nothing of its batch stays, and the identity is free before its lease has run out."""
    with TcpRelay(redis_server.url) as relay:
        relay.hold_after(HELD)
        first = user.with_settings(ASKMILL_REDIS_URL=relay.url).start("submit", "in.csv")
        batch = _half_stored(relay, client)
        first.send_signal(number)
        relay.release()
        _ended(first, 130)
    assert client.smembers(keys.LOADING) == set()
    assert list(client.scan_iter(f"*{batch}*")) == []
    out, err = _ended(user.start("submit", "in.csv"))
    assert WAITS not in err
    _whole(user, out)


def test_options_of_a_command_that_waits_are_the_batchs(
    user: CommandLine, client: redis.Redis, redis_server: RedisServer
) -> None:
    """Attempts of the one, deadline of the other: both hold, from before the first row can be asked."""
    with TcpRelay(redis_server.url) as relay:
        relay.hold_after(HELD)
        first = user.with_settings(ASKMILL_REDIS_URL=relay.url).start("submit", "in.csv", "--attempts", "7")
        batch = _half_stored(relay, client)
        second = user.start("submit", "in.csv", "--deadline", "33")
        wait_until(
            lambda: '"deadline_s":33' in (client.hget(keys.batch(batch), "limits") or ""),
            "it is changed",
            timeout_s=60,
        )
        assert '"attempts":7' in str(client.hget(keys.batch(batch), "limits"))
        relay.release()
        assert [_ended(command)[0] for command in (first, second)] == [batch, batch]
    assert '"attempts":7,"deadline_s":33' in str(client.hget(keys.batch(batch), "limits"))


def test_two_runs_at_once_ask_each_row_once(tmp_path: Path) -> None:
    """Both write all results; the API was asked for each row once, and was given one upload."""
    with Stack(tmp_path, api="responses") as stack:
        stack.worker(times=QUICK)
        stack_user = StackUser.of(stack, tmp_path / "work")
        stack_user.cli.write("notes.txt", "In Bergen it rains on 230 days of the year.")
        file = stack_user.table("in.csv", ("question",), *((f"What is {n} + 1?",) for n in range(40)))
        options = ("--tool", "file_search", "--file", "notes.txt")
        commands = [stack_user.cli.start("run", file, *options, "-o", f"{n}.jsonl") for n in range(2)]
        for command in commands:
            _ended(command)
        assert len(stack_user.cli.askmill("list", "--json").stdout.splitlines()) == 1
        assert stack_user.results("0.jsonl") == stack_user.results("1.jsonl")
        assert stack.stats()["runs_created"] == 40
        assert (stack_user.requests("POST /files"), stack_user.requests("POST /vector_stores")) == (1, 1)


def test_uploads_of_a_killed_loader_are_used_and_purged(tmp_path: Path) -> None:
    """Killed while it uploads: its successor uses what is known, waits for no turn of a dead command, and `purge`
    deletes all of it."""
    with Stack(tmp_path, api="responses") as stack:
        stack_user = StackUser.of(stack, tmp_path / "work")
        stack_user.cli.write("notes.txt", "In Bergen it rains on 230 days of the year.")
        file = stack_user.table("in.csv", ("question",), ("Does it rain? [emulate: completed]",))
        options = ("--tool", "file_search", "--file", "notes.txt")
        stack.scenario('[http]\nslow_s = 300.0\nonly = ["POST /vector_stores"]')
        first = stack_user.cli.start("submit", file, *options)
        wait_until(
            lambda: stack_user.requests("POST /vector_stores"), "it makes the vector store", timeout_s=60
        )
        assert stack_user.requests("POST /files") == 1
        first.kill()
        first.communicate()
        with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
            (batch,) = client.smembers(keys.LOADING)
            _end_lease(client, str(batch))
        stack.scenario("")
        batch, err = _ended(stack_user.cli.start("submit", file, *options))
        assert "has stopped" in err
        assert stack_user.requests("POST /files") == 1
        stack_user.cli.askmill("cancel", batch)
        purged = stack_user.cli.askmill("purge", batch)
        assert purged.returncode == 0, purged.stderr
        assert stack_user.get("files")["data"] == stack_user.get("vector_stores")["data"] == []


def test_an_upload_whose_command_was_killed_is_found_again(tmp_path: Path) -> None:
    """kill -9 between the API's side of an upload and its reply: the next command uses that file and uploads no second,
    and `purge` deletes it. A file of another program with the same name and size is left alone."""
    with Stack(tmp_path, api="responses") as stack:
        stack_user = StackUser.of(stack, tmp_path / "work")
        stack_user.cli.write("notes.txt", "In Bergen it rains on 230 days of the year.")
        file = stack_user.table("in.csv", ("question", "file"), ("Does it rain?", "notes.txt"))
        stack.scenario('[http]\nslow_s = 300.0\nonly = ["POST /files"]')
        first = stack_user.cli.start("submit", file, "--override", "file")
        wait_until(lambda: stack_user.requests("POST /files"), "the API has the file", timeout_s=60)
        first.kill()
        first.communicate()
        stack.scenario("")
        size = (stack_user.cli.folder / "notes.txt").stat().st_size
        with openai.OpenAI(api_key="offline", base_url=stack.base_url) as api:
            foreign = api.files.create(file=("notes.txt", b"x" * size), purpose="user_data").id
        with redis.Redis.from_url(stack.redis_url, decode_responses=True) as client:
            (batch,) = client.smembers(keys.LOADING)
            _end_lease(client, str(batch))
        batch, _ = _ended(stack_user.cli.start("submit", file, "--override", "file"))
        assert len(stack_user.get("files")["data"]) == 2
        stack_user.cli.askmill("cancel", batch)
        purged = stack_user.cli.askmill("purge", batch)
        assert purged.returncode == 0, purged.stderr
        assert [found["id"] for found in stack_user.get("files")["data"]] == [foreign]
