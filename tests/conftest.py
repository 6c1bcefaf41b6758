"""A real Redis for every test that asks: the embedded binary on a free port, nothing kept on disk.

A missing binary is a failure, never a skip.
"""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from askmill.jobs.store import Store
from tests.helpers.key_leaks import assert_no_leaks
from tests.stack import Stack
from tests.support import RedisServer

# The same examples in every run, and no verdict by the clock: what a test says does not depend on the machine.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# A shell that starts the tests in the background, or nohup, has signals ignored: no child would ever hear one.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def _redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """The session's Redis, running and empty at the start of the test."""
    _redis_process.clean()
    return _redis_process


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis."""
    return redis_server.url


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An open store; afterwards every key and row must be as the tables say."""
    async with await Store.open(redis_url) as opened:
        yield opened
    assert_no_leaks(redis_url)


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Stack]:
    """Redis and the emulator; a test starts the workers it wants."""
    with Stack(tmp_path) as made:
        yield made
