"""`estimate`: what a file would cost, from its questions or from a pilot that asks a few rows."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import orjson

from askmill.config.settings import Settings, load_settings
from askmill.jobs.cli.output_options import QUIET, display_of, notes_of
from askmill.jobs.cli.run import OFFLINE, estimate_text, resolve_target
from askmill.jobs.display.input_preview import left_out_line, preview_json, preview_text
from askmill.jobs.display.json_line import json_line
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.intake.preview import Preview, preview_of
from askmill.jobs.intake.reader import PassFactory
from askmill.jobs.model.api_target import api_target
from askmill.jobs.model.errors import InputFaults, Unavailable
from askmill.jobs.model.models import Usage
from askmill.jobs.model.profile import Profile
from askmill.jobs.openai_client.pilot import RowUsage, extrapolate
from askmill.jobs.openai_client.pricing import Estimate, Prices
from askmill.jobs.options.batch import FILE, batch_options
from askmill.jobs.options.groups import LIMITS, OUTPUT, GroupedCommand, option
from askmill.jobs.options.request import estimates_of, submit_request
from askmill.jobs.options.results import OptionValues
from askmill.jobs.results import Format, ResultOptions, plan_results
from askmill.jobs.run.run import RunSpec, run
from askmill.jobs.submit.check import checked
from askmill.jobs.submit.request import Say, SubmitRequest
from askmill.jobs.submit.tier_estimates import TierEstimate, tier_estimates, tier_lines, with_fallback


@click.command("estimate", cls=GroupedCommand)
@FILE
@option(
    LIMITS,
    "--pilot",
    type=click.IntRange(min=1),
    metavar="N",
    help="Ask and pay for the first N rows, and estimate from their usage.",
)
@OFFLINE
@option(OUTPUT, "--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
@QUIET
@batch_options
def estimate_command(file: str, pilot: int | None, offline: bool, as_json: bool, **values: Any) -> int:
    """Show what is read of FILE and estimate the cost, without sending a request.

    Prints the format, the columns with their first values, the first questions as they are asked, and all
    faults. Input tokens are estimated from the questions. Output length is unknown in advance, so it is a
    range. With --pilot a few rows are asked and paid for; `run --reuse-answers` reuses their answers.
    """
    settings = load_settings()
    if pilot is not None and offline:
        raise click.UsageError(
            "--pilot asks a model, and with --offline there is none. Leave one of them out."
        )
    if pilot is None:
        target = api_target(settings, offline=offline, needs_key=False)
    else:
        target = resolve_target(settings, trust_env_file=values["trust_env_file"])
    request = submit_request(settings, values, target, notes_of(values))
    previews, prices = list[Preview](), Prices.read(settings.prices)

    def show(passes: PassFactory) -> None:
        previews.append(preview_of(passes))
        if not as_json:
            click.echo(preview_text(previews[0]))

    try:
        with checked(file, request, settings, show) as intake:
            rows, rejected, blank_lines = intake.rows - intake.rejected, intake.rejected, intake.blank_lines
            estimate_of = estimates_of(prices, intake, request)
    except InputFaults as faults:
        if as_json and previews:
            reasons = [{"line": fault.line, "reason": fault.reason} for fault in faults.faults]
            report = {"input": preview_json(previews[0]), "faults": reasons, "fault_count": faults.total}
            click.echo(json_line(report))
        raise
    if pilot is not None:
        piloted = pilot_request(request, min(pilot, rows), file, notes_of(values))
        usages = _run_pilot(settings, piloted, file, values)
        of_pilot = _estimates_of_pilot(prices, rows, usages, piloted.profile)
        estimate_of = with_fallback(of_pilot, request.limits.get("tier_fallback"))
    estimated, tiers = estimate_of(request.profile), list(tier_estimates(request, estimate_of))
    if as_json:
        counts = {"rejected": rejected, "blank_lines": blank_lines}
        click.echo(json_line({**_fields(estimated, tiers, values, previews[0]), **counts}))
        return 0
    lines = [left_out_line(rows + rejected, rejected, blank_lines), estimate_text(estimated, request)]
    lines += [] if estimated.low_usd is None else tier_lines(tiers)
    click.echo("\n".join(line for line in lines if line))
    return 0


def _estimates_of_pilot(
    prices: Prices, rows: int, usages: list[RowUsage], selected: Profile
) -> Callable[[Profile], Estimate]:
    """The estimate with a profile, from the tokens of a pilot that was asked and billed with another."""

    def estimate_of(profile: Profile) -> Estimate:
        if profile.tier_name == selected.tier_name:
            return extrapolate(rows, usages)
        return extrapolate(
            rows, [usage._replace(cost_usd=_cost_usd(prices, profile, usage)) for usage in usages]
        )

    return estimate_of


def _cost_usd(prices: Prices, profile: Profile, usage: RowUsage) -> float | None:
    price = prices.price_of(profile.model)
    if price is None:
        return None
    tokens = Usage(usage.prompt, usage.completion)
    return price.run_usd(tokens, profile.service_tier, profile.completion_window)


def pilot_request(request: SubmitRequest, rows: int, file: str, say: Say) -> SubmitRequest:
    """The first rows as a batch of their own. Nobody waits a day for an estimate: no pilot is a batch job."""
    if file == "-":
        raise click.UsageError(
            "--pilot reads the file twice, so FILE cannot be stdin. Write it to a file first."
        )
    profile = request.profile
    if profile.service_tier == "batch":
        say("Note: the pilot is asked and paid in the standard tier; a batch job may take 24 hours.")
        profile = profile.model_copy(update={"service_tier": None})
    name = request.name or f"pilot of {file}"
    return replace(request, profile=profile, intake=replace(request.intake, limit=rows), name=name)


def _run_pilot(settings: Settings, request: SubmitRequest, file: str, values: OptionValues) -> list[RowUsage]:
    """Run the pilot; returns the usage of each row that completed."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "pilot.jsonl")
        outcome = run(
            RunSpec(
                settings=settings,
                submit=request,
                file=file,
                plan_of=lambda intake: plan_results(out, intake.spec, ResultOptions(Format.JSONL), file),
                confirm=lambda _: None,
                say=notes_of(values),
                on_outcome=lambda outcome: notes_of(values)(f"The pilot is {outcome.view.batch.id}."),
                progress=lambda: display_of(values, worker_starting=True),
            )
        )
        if outcome.code == 3:
            raise Unavailable(f"The pilot has stopped. {stall_reason(outcome.view)}")
        return list(_usage(Path(out)))


def _usage(results: Path) -> Iterator[RowUsage]:
    """The usage of the rows that were asked; a run without usage data says nothing about the others."""
    for line in results.read_bytes().splitlines():
        row = orjson.loads(line)
        prompt, completion = row["prompt_tokens"], row["completion_tokens"]
        if prompt is not None and completion is not None and row["attempts"] > 0:
            yield RowUsage(prompt, completion, row["cost_usd"])


def _fields(
    estimated: Estimate, tiers: list[TierEstimate], values: OptionValues, preview: Preview
) -> dict[str, Any]:
    return {
        "input": preview_json(preview),
        "rows": estimated.rows,
        "prompt_tokens": estimated.prompt_tokens,
        "completion_tokens": {"low": estimated.completion_low, "high": estimated.completion_high},
        "cost_usd": {"low": estimated.low_usd, "high": estimated.high_usd},
        "budget_usd": values["budget_usd"],
        "tiers": [tier.to_json() for tier in tiers],
    }
