"""Any order of starts, ends and kills: commands see one Redis with all that was acknowledged, and leave nothing."""

import os
import signal
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from askmill.jobs.local.supervisor import SHORT_LIVES
from tests.helpers.local_commands import Command, processes_in
from tests.support import wait_until

SOME = st.integers(0, 9)


class EmbeddedRedis(RuleBasedStateMachine):
    """Real processes, killed as they come; the model is the number of acknowledged writes."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._home = Path(self._folder.name)
        self._commands: list[Command] = []
        self._written = 0
        self._server_kills = 0

    @rule()
    @precondition(lambda self: len(self._commands) < 3)
    def start(self) -> None:
        self._commands.append(Command(self._home / "data"))
        self._commands[-1].redis().ping()

    @rule(which=SOME)
    @precondition(lambda self: self._commands)
    def write(self, which: int) -> None:
        self._written = self._commands[which % len(self._commands)].redis().incr("written")

    @rule(which=SOME)
    @precondition(lambda self: self._commands)
    def end(self, which: int) -> None:
        assert self._commands.pop(which % len(self._commands)).end() == 0

    @rule(which=SOME)
    @precondition(lambda self: self._commands)
    def kill(self, which: int) -> None:
        self._commands.pop(which % len(self._commands)).kill()

    # A keeper gives up when its server is killed for the fifth time within a second of its start.
    @rule()
    @precondition(lambda self: self._commands and self._keeper() and self._server_kills < SHORT_LIVES - 1)
    def kill_server(self) -> None:
        self._server_kills += 1
        before = self._server()
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self._server() != before, "the keeper has started the server again")

    @rule()
    @precondition(lambda self: self._commands and self._keeper())
    def kill_keeper(self) -> None:
        keeper = self._keeper()
        assert keeper
        keeper.kill()
        wait_until(lambda: not self._keeper(), "the keeper is gone")

    @invariant()
    def every_command_reads_every_write(self) -> None:
        for command in self._commands:
            wait_until(command.answers, "Redis answers")
            assert int(command.redis().get("written") or 0) == self._written

    @invariant()
    def one_server_at_most(self) -> None:
        servers = [p for p in processes_in(self._home) if not any("supervisor.py" in a for a in p.cmdline())]
        assert len(servers) <= 1

    def teardown(self) -> None:
        for command in self._commands:
            command.end()
        # Only a server whose keeper was killed, and then all its users, waits for the next command.
        Command(self._home / "data").end()
        wait_until(lambda: not processes_in(self._home), "all keepers and servers have ended", 15)
        self._folder.cleanup()

    def _keeper(self) -> psutil.Process | None:
        """None once it was killed: then the server has another parent, and is not started again."""
        keeper = psutil.Process(self._server()).parent()
        return keeper if keeper and any("supervisor.py" in part for part in keeper.cmdline()) else None

    def _server(self) -> int:
        return int((self._home / "data" / "locks" / "redis.server").read_text())


# A failure is told as it came: making it shorter would take minutes of starting processes.
A_FEW = settings(
    max_examples=2,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


class TestEmbeddedRedis(EmbeddedRedis.TestCase):  # type: ignore[misc, valid-type]
    """Two histories, the same ones each time."""

    settings = A_FEW


@pytest.mark.long
class TestEmbeddedRedisLonger(EmbeddedRedis.TestCase):  # type: ignore[misc, valid-type]
    """Twenty longer histories."""

    settings = settings(A_FEW, max_examples=20, stateful_step_count=15)
