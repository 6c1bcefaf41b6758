"""`worker`, `web`, `emulator`, `doctor`: start a process, or check that everything a batch needs works."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.env_file_consent import consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.json_line import json_line
from askmill.jobs.display.stall_text import server_text
from askmill.jobs.local.open_store import open_store
from askmill.jobs.model.api_target import Consent, api_target, has_needed_key, storage_environment
from askmill.jobs.model.errors import UsageError
from askmill.jobs.options.groups import CONCURRENCY, TRUST


def _exec_module(module: str, arguments: list[str], environment: Mapping[str, str] | None = None) -> int:
    """Replace this process by `python -m MODULE`: signals and exit codes are then the module's own."""
    os.environ.update(environment or {})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 -- no shell is wanted


@click.command("worker")
@CONCURRENCY
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 0 if a worker is alive on this machine, else with 1; with 3 if Redis does not answer.",
)
@click.option(
    "--allow-functions",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Module whose functions models may call in this worker; repeatable. [default: none]",
)
@TRUST
def worker_command(
    concurrency: int | None, check: bool, modules: tuple[str, ...], trust_env_file: bool
) -> int:
    """Start a Celery worker.

    The worker serves the batches in its Redis whose address matches its settings, of the API in ASKMILL_API
    or of any, until it is stopped. Batches with functions need a worker that allows their module.
    """
    settings = load_settings()
    if check:
        return asyncio.run(_check(settings))
    target = api_target(settings, consent=consent_of(trust_env_file))
    if target.source_line is not None:
        say(target.source_line)
    arguments = [] if concurrency is None else ["--concurrency", str(concurrency)]
    arguments += [part for module in modules for part in ("--allow-functions", module)]
    # The addresses that the user agreed to, whatever `.env` names by the time the worker reads it.
    environment = {"OPENAI_BASE_URL": target.base_url, **storage_environment(settings)}
    return _exec_module("askmill.worker", arguments, environment)


async def _check(settings: Settings) -> int:
    async with open_store(settings) as store:
        workers = await store.workers()
    local = [worker for worker in workers if worker.host == socket.gethostname()]
    for worker in local:
        scope = f", {worker.batch} only" if worker.batch else ""
        place = f"{server_text(worker.server)}{scope}"
        release = f", askmill {worker.version}" if worker.version else ""
        say(f"{worker.id}: process {worker.pid}, {worker.slots} slots, {place}{release}")
    if not local:
        say(f"No worker is alive on this machine ({len(workers)} elsewhere).")
    return 0 if local else 1


@click.command("web")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    metavar="P",
    help="Port to listen on; 0 takes any free port.",
)
@click.option(
    "--prefix", metavar="PATH", help="Path under which a reverse proxy serves the page, as /askmill."
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Name by which browsers reach it. Repeatable.",
)
@click.option(
    "--max-upload",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="Largest upload. [default: 1000000000]",
)
@click.option(
    "--allow-functions",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Module whose functions batches of the page may use; repeatable. [default: none]",
)
@click.option("--offline", is_flag=True, help="Let the emulator answer, even if an API key is set.")
@TRUST
def web_command(offline: bool, trust_env_file: bool, **values: Any) -> int:
    """Serve the web page and the HTTP API.

    Prints an address with an access token, which ASKMILL_WEB_TOKEN sets. Batches that are submitted there get
    a worker. Needs `pip install 'askmill[web]'`.
    """
    if any(find_spec(module) is None for module in ("fastapi", "jinja2", "markdown_it")):
        raise UsageError("`askmill web` needs more packages: pip install 'askmill[web]'")
    environment = dict[str, str]()
    settings = load_settings()
    if not offline and has_needed_key(settings):
        target = api_target(settings, consent=consent_of(trust_env_file))
        for line in (target.unencrypted_key_warning, target.source_line):
            if line is not None:
                say(line)
        environment = {"OPENAI_BASE_URL": target.base_url, **storage_environment(settings)}
    names = {"hosts": "--allow-host", "modules": "--allow-functions", "max_upload": "--max-upload"}
    arguments = ["--offline"] if offline else []
    for name, value in values.items():
        for part in value if isinstance(value, tuple) else (value,):
            arguments += [] if part is None else [names.get(name, f"--{name}"), str(part)]
    return _exec_module("askmill.web", arguments, environment)


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="P",
    help="Port to listen on; 0 takes any free port.",
)
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="TOML file with latencies, outcomes and faults.",
)
@click.option("--seed", type=int, metavar="N", help="Random seed.")
@click.option(
    "--state",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Folder that keeps the objects between starts.",
)
def emulator_command(**values: str | int | None) -> int:
    """Start the offline API server.

    Set OPENAI_BASE_URL to http://H:P/v1 and OPENAI_API_KEY to any text: the server refuses requests without a
    key.
    """
    pairs = [(f"--{name}", str(value)) for name, value in values.items() if value is not None]
    return _exec_module("askmill.emulator", [part for pair in pairs for part in pair])


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line: check, message, code.")
@TRUST
def doctor_command(as_json: bool, trust_env_file: bool) -> int:
    """Check the settings, Redis, the API and the workers.

    Says how to fix each fault. Exits with 2 for a bad setting, with 3 if something cannot be reached.
    """
    from askmill.jobs.run.doctor import run_checks  # noqa: PLC0415 -- loads the SDK

    findings = asyncio.run(run_checks(Consent(granted=trust_env_file)))
    for finding in findings:
        click.echo(json_line(finding) if as_json else str(finding))
    return max(finding.code for finding in findings)
