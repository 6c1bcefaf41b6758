"""Tiers, fixtures with a real Redis, and the template process of all tests.

Redis is the embedded binary on a free port without persistence; a missing binary is a failure, not a skip.
"""

import functools
import gc
import importlib
import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from askmill.jobs.store import Store
from tests.helpers import preloaded
from tests.helpers.cpu_times import CpuTimes
from tests.helpers.key_leaks import assert_no_leaks
from tests.stack import Stack
from tests.support import RedisServer

if TYPE_CHECKING:
    from tests.emulator.emulator_support import Emulator

# The same examples in every run and no time limits: the result does not depend on the machine.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# redis-py looks up its own version among the installed packages at each new connection.
importlib.metadata.version = functools.cache(importlib.metadata.version)

# A shell that runs the tests in the background, or nohup, ignores these signals, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


TESTS = Path(__file__).parent
TIERS = {"chaos": "chaos", **dict.fromkeys(("cli", "local", "packaging", "real", "story"), "story")}
"""Folder → marker; a test of any other folder is a `unit` test. Other markers are set by hand, beside it."""
TEMPLATE = "TESTS_TEMPLATE_PROCESS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fresh-processes",
        action="store_true",
        help="start every program afresh (tests/helpers/preloaded.py)",
    )
    parser.addoption(
        "--cpu", type=int, metavar="N", help="list the N tests that take most CPU, children included"
    )


def pytest_configure(config: pytest.Config) -> None:
    """One template process for all pytest processes of this run."""
    # Compiled files are kept, also where the shell says otherwise: each process here, and each program that tests start,
    # would compile all that it imports.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if config.option.cpu:
        config.pluginmanager.register(CpuTimes(config.option.cpu))
    if config.option.fresh_processes:
        return
    if not hasattr(config, "workerinput"):
        os.environ[TEMPLATE] = f"{os.getpid()} {tempfile.mkdtemp(prefix='askmill-tests-')}"
    owner, folder = os.environ[TEMPLATE].split(maxsplit=1)
    preloaded.use_template(Path(folder), int(owner))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(TESTS).parts[0]
        item.add_marker(TIERS.get(folder, "unit"))
    # Stories first: they wait, and the quick tests of rooms fill the end.
    items.sort(key=lambda item: item.get_closest_marker("story") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    gc.disable()  # nothing is garbage while tests are collected
    try:
        _import_in_turns(session.config)
        return (yield)
    finally:
        gc.freeze()  # what has been collected stays: a search for garbage need not look through it
        gc.enable()


def _import_in_turns(config: pytest.Config) -> None:
    """Import the files of all tests, each process starting with another one: the others load what it has compiled.

    With one order, all processes would compile each file at the same moment.
    """
    process = getattr(config, "workerinput", None)
    if process is None or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    files = sorted(TESTS.rglob("test_*.py"))
    first = int(process["workerid"].removeprefix("gw")) * len(files) // process["workercount"]
    for file in files[first:] + files[:first]:
        with suppress(Exception, pytest.skip.Exception):  # pytest imports it again, and reports
            importlib.import_module(".".join(file.relative_to(TESTS.parent).with_suffix("").parts))


def pytest_unconfigure(config: pytest.Config) -> None:
    if TEMPLATE in os.environ and not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(TEMPLATE).split(maxsplit=1)[1])


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
    """The Redis of this pytest process, running and empty at the start of the test."""
    _redis_process.clean()
    return _redis_process


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    return redis_server.url


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """An open store. After the test, Redis is checked for leaks (tests/helpers/key_leaks.py)."""
    async with await Store.open(redis_url) as opened:
        yield opened
    assert_no_leaks(redis_url)


@pytest.fixture(scope="module")
def shared_emulator() -> "Iterator[Emulator]":
    """An emulator of the tests of a module."""
    from tests.emulator.emulator_support import run_emulator  # noqa: PLC0415 -- most tests need none

    with run_emulator() as started:
        yield started


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Redis and the emulator, running; a test starts its workers."""
    with Stack(tmp_path) as stack:
        yield stack
