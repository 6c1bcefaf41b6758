"""docker-compose.yml and the systemd unit, checked without containers: structure, names, commands.

That the same commands work is tested with the page that shows them, docs/how-to/docker-compose.md
(tests/cli/test_docs.py).
"""

import configparser
import re
import shlex
import shutil
import subprocess
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
SETTINGS = {variable_of(name) for name in Settings.model_fields}
SERVICE_KEYS = {
    "build",
    "command",
    "depends_on",
    "entrypoint",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "profiles",
    "restart",
    "stop_grace_period",
    "volumes",
}
"""The keys of the Compose specification that the file uses, so that a misspelt key is found."""


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))


def _assert_command_exists(arguments: list[str]) -> None:
    """`askmill` accepts these arguments."""
    command = askmill.get_command(click.Context(askmill), arguments[0])
    assert command is not None
    command.make_context(arguments[0], arguments[1:])


def test_services_are_complete(compose: dict[str, Any]) -> None:
    """Only valid keys; each dependency, volume and build target exists; ports are published on loopback only."""
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
    for name, dependency in services["worker"]["depends_on"].items():
        assert dependency["condition"] != "service_healthy" or "healthcheck" in services[name]


def test_settings_and_commands_exist(compose: dict[str, Any]) -> None:
    """Every variable is a setting; the worker's command and health check are askmill commands."""
    services = compose["services"]
    for name in ("worker", "flower", "web"):
        assert set(services[name]["environment"]) <= SETTINGS
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used <= SETTINGS

    _assert_command_exists(services["worker"]["command"])
    _assert_command_exists(services["web"]["command"])
    kind, program, *check = services["worker"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "askmill")
    _assert_command_exists(check)
    assert 'ENTRYPOINT ["askmill"]' in (ROOT / "Dockerfile").read_text()


def test_redis_is_durable(compose: dict[str, Any]) -> None:
    """An append-only file on a volume, and no eviction: `doctor` would object otherwise."""
    redis = compose["services"]["redis"]
    command = redis["command"]

    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert redis["volumes"] == ["redis:/data"]


def test_the_systemd_unit_starts_a_worker_and_lets_it_hand_over() -> None:
    """It uses an askmill command and askmill's variables, and allows more time to stop than a worker takes."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    text = (ROOT / "examples" / "systemd" / "askmill-worker@.service").read_text()
    unit.read_string(text)

    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("/bin/askmill")
    _assert_command_exists(arguments)
    assert set(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE)) <= SETTINGS
    assert int(unit["Service"]["TimeoutStopSec"]) > 5


def test_the_nightly_unit_repeats_only_what_a_repeat_can_change(tmp_path: Path) -> None:
    """systemd reads unit and timer without a complaint; exit codes 1 and 2 end the night, 3 is tried again."""
    folder = ROOT / "examples" / "systemd"
    text = (folder / "askmill-nightly.service").read_text()
    command = re.search(r"askmill (run .*)'$", text, re.MULTILINE)[1]
    _assert_command_exists(shlex.split(command.replace("$$night", "2026-11-29")))
    assert set(re.findall(r"^Environment=(\w+)=", text, re.MULTILINE)) <= SETTINGS
    assert "\nRestart=on-failure\n" in text
    assert "\nRestartPreventExitStatus=1 2\n" in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "askmill-nightly.service").write_text(text.replace("/opt/askmill/bin/askmill", "/bin/true"))
    shutil.copy(folder / "askmill-nightly.timer", tmp_path)

    units = [str(path) for path in sorted(tmp_path.iterdir())]
    checked = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, "")


async def test_flower_shows_the_questions(tmp_path: Path, compose: dict[str, Any]) -> None:
    """The file's own command, without a container: each question is a task, named by batch, row and attempt."""
    port = free_port()
    arguments = [
        argument.replace("0.0.0.0", "127.0.0.1").replace("5555", str(port))
        for argument in compose["services"]["flower"]["command"]
    ]
    with Stack(tmp_path) as stack:
        flower = Child(
            [str(Path(sys.executable).with_name("celery")), *arguments],
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
                # Workers send events only after Flower has enabled them, which takes seconds.
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
