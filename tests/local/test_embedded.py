"""The embedded Redis as its users live it: shared, killed, adopted, never started twice, nothing lost."""

import json
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from askmill.jobs.local import embedded_redis
from askmill.jobs.model.errors import LocalFault, UsageError
from tests.helpers.local_commands import Command, kill_all, processes_in
from tests.support import wait_until

Commands = Callable[..., Command]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Start commands; they end with the test, and a keeper or server that outlives them is a failure."""
    with ExitStack() as stack:

        def start(
            data_dir: Path = tmp_path / "data", service: str = "embedded_redis", **options: object
        ) -> Command:
            command = Command(data_dir, service, **options)
            stack.callback(command.end)
            return command

        yield start
    wait_until(lambda: not processes_in(tmp_path), "keepers and servers have ended", 15)


def server_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


def keeper_of(pid: int) -> psutil.Process:
    keeper = psutil.Process(pid).parent()
    assert keeper is not None
    assert any("supervisor.py" in part for part in keeper.cmdline())
    return keeper


def test_commands_share_one_server_which_the_last_one_ends(commands: Commands, tmp_path: Path) -> None:
    """The second command joins the first one's server, keeps it when the first ends, and ends it itself."""
    first, second = commands(), commands()
    first.redis().set("kept", "yes")

    assert server_pid(first.redis()) == server_pid(second.redis())
    assert first.end() == 0
    assert second.redis().get("kept") == "yes"
    assert second.end() == 0
    assert processes_in(tmp_path) == []


def test_data_outlives_the_server(commands: Commands) -> None:
    """What one command stored, the next finds, at the same address."""
    first = commands()
    first.redis().set("kept", "yes")
    first.end()
    second = commands()

    assert second.address == first.address
    assert second.redis().get("kept") == "yes"


def test_ten_commands_at_once_start_exactly_one_server(commands: Commands, tmp_path: Path) -> None:
    """The race for the first start has one winner, and all ten are served by it."""
    racers = [commands() for _ in range(10)]

    assert len({server_pid(racer.redis()) for racer in racers}) == 1
    assert len([p for p in processes_in(tmp_path) if "valkey" in p.name() or "redis" in p.name()]) == 1
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda racer: racer.end(), racers)) == [0] * 10


def test_a_killed_user_does_not_count(commands: Commands, tmp_path: Path) -> None:
    """kill -9 of one user neither takes the server from the other nor keeps it alive afterwards."""
    killed, other = commands(), commands()
    assert killed.address == other.address
    killed.kill()

    assert other.redis().ping()
    other.end()
    assert processes_in(tmp_path) == []


def test_a_server_that_nobody_uses_ends_by_itself(commands: Commands, tmp_path: Path) -> None:
    """All users killed: keeper and server are gone within seconds, the data is there at the next start."""
    users = [commands(), commands()]
    users[0].redis().set("kept", "yes")
    assert users[1].address
    for user in users:
        user.kill()

    wait_until(lambda: not processes_in(tmp_path), "keeper and server ended by themselves")
    assert commands().redis().get("kept") == "yes"


def test_a_killed_server_comes_back_under_its_users(commands: Commands) -> None:
    """kill -9 of the server: the keeper starts it again at the same address with every acknowledged write."""
    user = commands()
    client = user.redis()
    for number in range(1000):
        client.set(f"key {number}", number)
    killed = server_pid(client)
    os.kill(killed, signal.SIGKILL)

    wait_until(user.answers, "the server answers again")
    assert server_pid(client) != killed
    assert client.dbsize() == 1000


def test_everything_killed_at_once_loses_nothing(commands: Commands, tmp_path: Path) -> None:
    """Users, keeper and server killed together: the next command has every acknowledged write."""
    user = commands()
    client = user.redis()
    for number in range(1000):
        client.set(f"key {number}", number)
    kill_all([psutil.Process(user.process.pid), *processes_in(tmp_path)])

    assert commands().redis().dbsize() == 1000


def test_a_server_without_keeper_is_adopted(commands: Commands, tmp_path: Path) -> None:
    """Keeper and users killed: the next command uses the orphan, starts no second one, and ends it."""
    user = commands()
    orphan = server_pid(user.redis())
    kill_all([keeper_of(orphan), psutil.Process(user.process.pid)])
    heir = commands()

    assert server_pid(heir.redis()) == orphan
    heir.end()
    assert processes_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signalled_command_stops_what_it_started(
    commands: Commands, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal leave no process behind."""
    user = commands()
    assert user.address

    assert user.interrupt(number) != 0
    assert processes_in(tmp_path) == []


def test_ctrl_c_in_a_terminal_reaches_its_command_only(commands: Commands) -> None:
    """The signal goes to every process of the terminal, yet another terminal's command keeps its server."""
    first = commands(start_new_session=True)
    first.redis().set("kept", "yes")
    second = commands()
    server = server_pid(second.redis())
    os.killpg(first.process.pid, signal.SIGINT)
    first.end()

    assert server_pid(second.redis()) == server


def test_the_password_is_in_one_private_file_only(commands: Commands, tmp_path: Path) -> None:
    """Not in an argument, environment or log; the server insists on it; files are 0600, folders 0700."""
    user = commands()
    parts = urlsplit(user.address)
    assert parts.password
    assert parts.port
    processes = processes_in(tmp_path)
    seen = [json.dumps([p.cmdline(), p.environ()]) for p in processes]

    assert len(processes) == 2
    assert parts.hostname == "127.0.0.1"
    assert len(parts.password) == 64
    assert not any(parts.password in text for text in seen)
    with (
        pytest.raises(redis.AuthenticationError),
        redis.Redis(port=parts.port, retry=Retry(NoBackoff(), 0)) as stranger,
    ):
        stranger.get("anything")
    user.end()
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert [f.name for f in files if parts.password.encode() in f.read_bytes()] == ["server.conf"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    folders = [tmp_path / "data", *(path for path in (tmp_path / "data").rglob("*") if path.is_dir())]
    assert {stat.S_IMODE(f.stat().st_mode) for f in folders} == {0o700}


def test_the_persons_keys_are_not_handed_to_the_server(commands: Commands, tmp_path: Path) -> None:
    """Keeper and server outlive the command, so they get nothing of its environment that they do not need."""
    user = commands(env={**os.environ, "OPENAI_API_KEY": "sk-secret"})
    assert user.address

    assert not any("sk-secret" in str(p.environ()) for p in processes_in(tmp_path))


@pytest.mark.parametrize("name", ["x" * 200, "with spaces", 'a"quote', "lines\nbroken", "Müller ☃"])
def test_any_data_directory_will_do(commands: Commands, tmp_path: Path, name: str) -> None:
    """Length, spaces, quotes and other alphabets in the path change nothing."""
    user = commands(tmp_path / name)
    user.redis().set("kept", "yes")
    user.end()

    assert (tmp_path / name / "redis" / "server.conf").exists()
    assert commands(tmp_path / name).redis().get("kept") == "yes"


def test_a_taken_port_is_left_to_its_owner(commands: Commands) -> None:
    """The port of the last time is somebody else's now: another is used, with the same data."""
    first = commands()
    first.redis().set("kept", "yes")
    first.end()
    with socket.create_server(("127.0.0.1", urlsplit(first.address).port)):
        second = commands()

        assert second.address != first.address
        assert second.redis().get("kept") == "yes"


def append_only_file(data_dir: Path) -> Path:
    return next(path for path in (data_dir / "redis").rglob("*.aof"))


def test_a_half_written_last_command_is_dropped(commands: Commands, tmp_path: Path) -> None:
    """The append-only file ends within a command, as after a power cut: all before it is there."""
    user = commands()
    for number in range(10):
        user.redis().set(f"key {number}", "x" * 1000)
    user.end()
    file = append_only_file(tmp_path / "data")
    os.truncate(file, file.stat().st_size - 500)

    assert commands().redis().dbsize() == 9


def test_a_damaged_file_is_a_sentence(commands: Commands, tmp_path: Path) -> None:
    """Damage in the middle is not repaired behind anybody's back: exit 3, quoting the server and its log."""
    user = commands()
    for number in range(10):
        user.redis().set(f"key {number}", "x" * 1000)
    user.end()
    file = append_only_file(tmp_path / "data")
    file.write_bytes(b"*" * 500 + file.read_bytes()[500:])

    said = r"Bad file format .*redis\.log.*ASKMILL_REDIS_URL"
    with pytest.raises(LocalFault, match=said) as fault, embedded_redis(tmp_path / "data"):
        pass
    assert fault.value.exit_code == 3


def limit_files() -> None:
    """For a child to be: writing past 300 kB fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def fill(client: redis.Redis) -> int:
    """How many writes of 10 kB are acknowledged before the server refuses one and says why."""
    stored = 0

    def refused() -> bool:
        nonlocal stored
        try:
            client.set(f"key {stored}", "x" * 10_000)
        except redis.ConnectionError:  # it has exited, and is started again
            return False
        except redis.ResponseError as refusal:
            return "MISCONF" in str(refusal)
        stored += 1
        return False

    wait_until(refused, "the server refuses to write")
    return stored


def test_a_full_disk_refuses_writes_and_keeps_what_was_stored(commands: Commands) -> None:
    """Case D14: the server says MISCONF and still reads; joining it still works; with space again all is there."""
    user = commands(preexec_fn=limit_files)
    stored = fill(user.redis())
    other = commands()

    assert other.redis().get("key 0") == "x" * 10_000
    user.end()
    other.end()
    assert stored > 0
    # The first write that the restarted server could not store was acknowledged before it knew.
    assert commands().redis().dbsize() >= stored - 1


def test_changes_are_on_disk_before_the_reply(commands: Commands, tmp_path: Path) -> None:
    """`appendfsync always`; a server that an earlier version has started is told so, and its configuration too."""
    first = commands()
    client = first.redis()
    assert client.config_get("appendfsync") == {"appendfsync": "always"}
    configuration = tmp_path / "data" / "redis" / "server.conf"
    written = configuration.read_text()

    client.config_set("appendfsync", "everysec")
    configuration.write_text(written.replace("appendfsync always", "appendfsync everysec"))
    second = commands()
    assert second.redis().config_get("appendfsync") == {"appendfsync": "always"}
    assert configuration.read_text() == written


def test_a_file_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    """The data directory is a file: exit 2, naming path, fault and variable."""
    (tmp_path / "data").touch()

    said = r"data.*Not a directory.*ASKMILL_DATA_DIR"
    with pytest.raises(UsageError, match=said) as fault, embedded_redis(tmp_path / "data"):
        pass
    assert fault.value.exit_code == 2
