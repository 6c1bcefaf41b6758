"""docker-compose.yml and the systemd unit, checked without containers: structure, names, commands.

That the same commands work is tested where they are told: docs/how-to/docker-compose.md (tests/cli/test_docs.py).
"""

import configparser
import re
import sys
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
import yaml

from askmill.config.settings import Settings, variable_of
from askmill.jobs.cli.root import askmill
from askmill.jobs.local.ports import free_port
from tests.stack import Child, Stack
from tests.support import wait_until, wait_until_async

ROOT = Path(__file__).parents[2]
KNOWN = {variable_of(name) for name in Settings.model_fields}
SERVICE_KEYS = {
    "build",
    "command",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "restart",
    "stop_grace_period",
    "volumes",
}
"""Of the Compose specification, those in use: a misspelt key is none of them."""


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


def _exists(words: list[str]) -> None:
    """The askmill command takes these words."""
    command = askmill.get_command(click.Context(askmill), words[0])
    assert command is not None
    command.make_context(words[0], words[1:])


def test_services_are_whole(compose: dict[str, Any]) -> None:
    """Known keys only; what a service waits for, mounts and builds is there; ports stay on this machine."""
    services = compose["services"]
    targets = set(re.findall(r"^FROM \S+ AS (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))

    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        assert ("image" in service) != ("build" in service)
        assert set(service.get("depends_on", {})) <= set(services)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(compose["volumes"])
        build = service.get("build")
        if isinstance(build, dict):
            assert build["target"] in targets
    for name, waited in services["worker"]["depends_on"].items():
        assert waited["condition"] != "service_healthy" or "healthcheck" in services[name]


def test_settings_and_commands_exist(compose: dict[str, Any]) -> None:
    """Every variable is a setting; the worker's command and health check are commands of ours."""
    services = compose["services"]
    for name in ("worker", "flower"):
        assert set(services[name]["environment"]) <= KNOWN
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used <= KNOWN

    _exists(services["worker"]["command"])
    kind, program, *check = services["worker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "askmill")
    _exists(check)
    assert 'ENTRYPOINT ["askmill"]' in (ROOT / "Dockerfile").read_text()


def test_redis_keeps_what_it_was_told(compose: dict[str, Any]) -> None:
    """An AOF on a volume, and no eviction: `doctor` would object otherwise."""
    redis = compose["services"]["redis"]
    words = redis["command"]

    assert words[words.index("--appendonly") + 1] == "yes"
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    assert redis["volumes"] == ["redis:/data"]


def test_the_systemd_unit_starts_a_worker_and_lets_it_hand_over() -> None:
    """A command and variables of ours, and more time to stop than a worker takes."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    text = (ROOT / "examples" / "systemd" / "askmill-worker@.service").read_text()
    unit.read_string(text)

    program, *words = unit["Service"]["ExecStart"].split()
    assert program.endswith("/bin/askmill")
    _exists(words)
    assert set(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE)) <= KNOWN
    assert int(unit["Service"]["TimeoutStopSec"]) > 5


async def test_flower_shows_the_questions(tmp_path: Path, compose: dict[str, Any]) -> None:
    """The file's own command, without a container: each question is a task, named by batch, row and attempt."""
    port = free_port()
    words = [
        word.replace("0.0.0.0", "127.0.0.1").replace("5555", str(port))
        for word in compose["services"]["flower"]["command"]
    ]
    with Stack(tmp_path) as stack:
        flower = Child(
            [str(Path(sys.executable).with_name("celery")), *words],
            tmp_path / "flower.log",
            {
                "ASKMILL_REDIS_URL": stack.redis_url,
                "OPENAI_API_KEY": "offline",
                "FLOWER_UNAUTHENTICATED_API": "true",
            },
        ).start()
        try:
            address = f"http://127.0.0.1:{port}/api/tasks"
            wait_until(lambda: _answer(address) is not None, "Flower answers", timeout_s=60)
            stack.worker()

            async def shown() -> bool:
                # Workers send events from when Flower has asked them to, within seconds.
                batch = await stack.submit(["What is 6 * 7?"])
                await stack.wait_for(batch)
                return f"{batch}:1:" in (_answer(address) or "")

            await wait_until_async(shown, "Flower shows a task", timeout_s=60)
        finally:
            flower.kill()


def _answer(address: str) -> str | None:
    try:
        return httpx2.get(address).text
    except httpx2.HTTPError:
        return None
