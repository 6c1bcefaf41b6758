"""`estimate`: what a file would cost, from its questions or from a pilot that really asks a few rows."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.options import job_options
from askmill.jobs.cli.result_options import Given
from askmill.jobs.cli.run import asked_target, estimate_text, estimated_of, order_of
from askmill.jobs.display.status_text import stall_reason
from askmill.jobs.model.api_target import target_of
from askmill.jobs.model.errors import Unavailable
from askmill.jobs.openai_client.pilot import Taken, extrapolated
from askmill.jobs.openai_client.pricing import Estimate, Prices
from askmill.jobs.results import Format, ResultOptions, plan_results
from askmill.jobs.run.run import Job, run
from askmill.jobs.submit.submit import SubmitRequest, checked


@click.command("estimate")
@click.argument("file", metavar="FILE")
@click.option(
    "--pilot", type=click.IntRange(min=1), metavar="N", help="Really ask the first N rows, and go by them."
)
@click.option("--json", "in_json", is_flag=True, help="One object instead of sentences.")
@job_options
def estimate_command(file: str, pilot: int | None, in_json: bool, **given: Any) -> int:
    """What the batch would cost, without asking anything.

    Prompt tokens are estimated from the questions; what the model writes is a range. With --pilot a few rows
    are asked and paid for, and `run --reuse-answers` takes them over.
    """
    settings = load_settings()
    if pilot is None:
        target = target_of(settings, asks=False)
    else:
        target = asked_target(settings, trust_env_file=given["trust_env_file"])
    order = order_of(settings, given, target)
    with checked(file, order, settings) as intake:
        rows = intake.rows - intake.rejected
        estimated = estimated_of(Prices.read(settings.prices), order, intake)
    if pilot is not None:
        estimated = extrapolated(rows, _piloted(settings, order, file, min(pilot, rows)))
    click.echo(_json(estimated, given) if in_json else estimate_text(estimated, order))
    return 0


def _piloted(settings: Settings, order: SubmitRequest, file: str, rows: int) -> list[Taken]:
    """Ask the first rows as a batch of their own; what each took that completed. `-` cannot be read twice."""
    if file == "-":
        raise click.UsageError("--pilot reads the file twice, so it cannot be stdin.")
    few = replace(order, intake=replace(order.intake, limit=rows), name=order.name or f"pilot of {file}")
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "pilot.jsonl")
        job = Job(
            settings=settings,
            order=few,
            file=file,
            plan_of=lambda intake: plan_results(out, intake.spec, ResultOptions(Format.JSONL), file),
            agree=lambda _: None,
            say=say,
            tell=lambda outcome: say(f"The pilot is {outcome.view.batch.id}."),
        )
        outcome = run(job)
        if outcome.code == 3:
            raise Unavailable(f"The pilot cannot go on. {stall_reason(outcome.view)}")
        return [_taken(orjson.loads(line)) for line in Path(out).read_bytes().splitlines() if _told(line)]


def _told(line: bytes) -> bool:
    row = orjson.loads(line)
    return row["prompt_tokens"] is not None and row["completion_tokens"] is not None and row["attempts"] > 0


def _taken(row: dict[str, Any]) -> Taken:
    return Taken(row["prompt_tokens"], row["completion_tokens"], row["cost_usd"])


def _json(estimated: Estimate, given: Given) -> str:
    return orjson.dumps(
        {
            "rows": estimated.rows,
            "prompt_tokens": estimated.prompt_tokens,
            "completion_tokens": {"low": estimated.completion_low, "high": estimated.completion_high},
            "cost_usd": {"low": estimated.low_usd, "high": estimated.high_usd},
            "budget_usd": given["budget_usd"],
        }
    ).decode()
