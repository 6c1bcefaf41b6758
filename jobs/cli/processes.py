"""`worker`, `emulator`, `doctor`: the processes, and whether everything is well."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping

import click
import orjson

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.env_file_consent import TRUST, consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.local.open_store import open_store
from askmill.jobs.model.api_target import Consent, target_of


def _become(module: str, arguments: list[str], environment: Mapping[str, str] | None = None) -> int:
    """Put `python -m MODULE` in our place: signals and exit codes are then its own."""
    os.environ.update(environment or {})
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 -- no shell is wanted


@click.command("worker")
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Runs in flight (ASKMILL_CONCURRENCY)."
)
@click.option("--check", is_flag=True, help="Exit 0 if a worker is alive on this machine, else 1.")
@TRUST
def worker_command(concurrency: int | None, check: bool, trust_env_file: bool) -> int:
    """Start a Celery worker.

    It answers the batches of its Redis that match its API and address, until it is told to end.
    """
    settings = load_settings()
    if check:
        return asyncio.run(_check(settings))
    target = target_of(settings, consent=consent_of(trust_env_file))
    if target.asked is not None:
        say(target.asked)
    arguments = [] if concurrency is None else ["--concurrency", str(concurrency)]
    # The address that was agreed to, whatever `.env` names by the time the worker reads it.
    return _become("askmill.worker", arguments, {"OPENAI_BASE_URL": target.base_url})


async def _check(settings: Settings) -> int:
    async with open_store(settings) as store:
        workers = await store.workers()
    here = [card for card in workers if card.host == socket.gethostname()]
    for card in here:
        say(f"{card.id}: process {card.pid}, {card.slots} slots, {card.api} at {card.base_url}")
    if not here:
        say(f"No worker is alive on this machine ({len(workers)} elsewhere).")
    return 0 if here else 1


@click.command("emulator")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="H", help="Where it listens.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="P", help="0: any free."
)
@click.option(
    "--scenario", type=click.Path(exists=True, dir_okay=False), metavar="FILE", help="Faults, as TOML."
)
@click.option("--seed", type=int, metavar="N", help="Makes chance repeatable.")
@click.option("--state", type=click.Path(file_okay=False), metavar="DIR", help="Keep objects there.")
def emulator_command(**given: str | int | None) -> int:
    """Start the offline API server.

    Set OPENAI_BASE_URL to http://H:P/v1 and OPENAI_API_KEY to any text: it refuses requests without a key.
    """
    pairs = [(f"--{name}", str(value)) for name, value in given.items() if value is not None]
    return _become("askmill.emulator", [part for pair in pairs for part in pair])


@click.command("doctor")
@click.option("--json", "in_json", is_flag=True, help="An object a line: what, said, code.")
@TRUST
def doctor_command(in_json: bool, trust_env_file: bool) -> int:
    """Check settings, Redis, the API and the workers.

    Says what to do about each fault; exits 2 for a setting, 3 for something unreachable.
    """
    from askmill.jobs.run.doctor import examine  # noqa: PLC0415 -- loads the SDK

    findings = asyncio.run(examine(Consent(given=trust_env_file)))
    for finding in findings:
        click.echo(orjson.dumps(finding) if in_json else str(finding))
    return max(finding.code for finding in findings)
