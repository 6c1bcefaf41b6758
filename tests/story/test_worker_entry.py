"""`python -P -m askmill.worker`, as `askmill` starts it: isolated from its folder, and ended with its terminal."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.support import wait_until


@contextmanager
def worker(
    redis_url: str, folder: Path, *, until: str = "worker.ready", **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is ready, or has logged something else; killed in the end."""
    log = folder / "worker.log"
    settings = {
        "ASKMILL_REDIS_URL": redis_url,
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "askmill.worker", "--concurrency", "3"],
            cwd=folder,
            env={**os.environ, **settings, **env},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        wait_until(lambda: until in log.read_text() or process.poll() is not None, "it is ready", 30)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_users_files_shadow_nothing(redis_url: str, tmp_path: Path) -> None:
    """Modules in the working folder with our names, or those of our libraries, are not imported."""
    for name in ("config", "jobs", "worker", "celery", "kombu", "celeryconfig", "redis", "openai", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user\\'s own file was imported')\n")
    with worker(redis_url, tmp_path) as process:
        process.terminate()

        assert process.wait(20) == 0


def test_another_projects_celery_settings_are_ignored(redis_url: str, tmp_path: Path) -> None:
    """CELERY_BROKER_URL and similar variables, which Celery prefers to settings, do not change the broker."""
    other_broker = "redis://127.0.0.1:9/0"
    with worker(
        redis_url, tmp_path, CELERY_BROKER_URL=other_broker, CELERY_BROKER_READ_URL=other_broker
    ) as process:
        assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT], ids=str)
def test_a_closed_terminal_or_ctrl_c_ends_the_worker(
    redis_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """It releases its rows and exits with 0; Celery itself would restart the program or exit with a failure."""
    with worker(redis_url, tmp_path) as process:
        process.send_signal(number)

        assert process.wait(20) == 0


def test_a_cold_stop_logs_no_error(redis_url: str, tmp_path: Path) -> None:
    """SIGQUIT ends the pool before askmill hears of it: there is nothing left to hand over."""
    with worker(redis_url, tmp_path) as process:
        process.send_signal(signal.SIGQUIT)
        process.wait(20)

        log = (tmp_path / "worker.log").read_text()
        assert "cold shutdown" in log.lower()
        assert "Traceback" not in log


NO_HEARTBEAT_KEY = [
    "resetkeys",
    "~_kombu*",
    "~*pidbox*",
    "~askmill",
    "~askmill[^:]*",
    "~askmill:schema",
    "~askmill:limits",
]


@pytest.mark.parametrize(
    "rules", [["-zrange"], [*NO_HEARTBEAT_KEY, "~askmill:workers"]], ids=["opening", "first heartbeat"]
)
def test_a_worker_waits_for_a_redis_that_is_not_ready(
    redis_url: str, tmp_path: Path, rules: list[str]
) -> None:
    """Between its first connection and its first heartbeat too: the worker starts when Redis is ready."""
    log = tmp_path / "worker.log"
    with redis.Redis.from_url(redis_url) as client:
        all_rights = ("ACL", "SETUSER", "early", "on", ">word", "~*", "&*", "+@all")
        client.execute_command(*all_rights, *rules)
        try:
            url = redis_url.replace("://", "://early:word@")
            with worker(url, tmp_path, until="redis.unavailable") as process:
                client.execute_command(*all_rights)
                wait_until(lambda: "worker.ready" in log.read_text(), "it is ready", 30)

                assert process.poll() is None
        finally:
            client.execute_command("ACL", "DELUSER", "early")
