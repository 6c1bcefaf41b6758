"""`run` and `submit`: a file becomes a batch."""

import asyncio
import sys
from typing import Any

import click

from askmill.config.local_address import is_local
from askmill.config.settings import Durability, Settings, load_settings
from askmill.config.text import about_usd, count_of, format_usd, round_estimate
from askmill.jobs.cli.env_file_consent import consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.output_options import (
    ON_DONE,
    OUT,
    QUIET,
    SHOW_ANSWERS,
    display_of,
    notes_of,
    notify_on_done,
)
from askmill.jobs.display.stall_text import stall_reason
from askmill.jobs.display.status_text import (
    commands_of_finished,
    retry_command,
    retryable_statuses,
    summary_line,
)
from askmill.jobs.intake import Intake
from askmill.jobs.local import interruptible
from askmill.jobs.local.open_store import redis_url
from askmill.jobs.model.api_target import Target, api_target
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import UNSUCCESSFUL, JobStatus
from askmill.jobs.openai_client.price import similar_model
from askmill.jobs.openai_client.pricing import Estimate, Prices
from askmill.jobs.options.batch import FILE, batch_options
from askmill.jobs.options.groups import CONCURRENCY, RUNNING, GroupedCommand, add_options, option
from askmill.jobs.options.request import estimates_of, submit_request
from askmill.jobs.options.results import RESULTS, OptionValues, result_options
from askmill.jobs.results.collect import default_out, plan_new
from askmill.jobs.run.run import RunOutcome, RunSpec, run
from askmill.jobs.store import Store
from askmill.jobs.submit.check import checked
from askmill.jobs.submit.request import Say, SubmitRequest
from askmill.jobs.submit.submit import Submitted, existing_text, submit

CONFIRM_ABOVE_ROWS = 100
OFFLINE = option(
    RUNNING,
    "--offline",
    is_flag=True,
    help="Let the emulator answer, even if an API key is set: no model, no cost.",
)


def resolve_target(settings: Settings, *, offline: bool = False, trust_env_file: bool = False) -> Target:
    """The API that the command will use. Warns if its key would travel in plain text.

    Raises:
        UsageError: the key is missing or may not go there; nothing has been started or stored.
    """
    target = api_target(settings, offline=offline, consent=consent_of(trust_env_file))
    if target.unencrypted_key_warning is not None:
        say(target.unencrypted_key_warning)
    return target


@click.command("run", cls=GroupedCommand)
@FILE
@OUT
@add_options(RESULTS)
@OFFLINE
@CONCURRENCY
@option(
    RUNNING,
    "--yes",
    is_flag=True,
    help="Do not ask for confirmation before a paid run of more than 100 rows.",
)
@SHOW_ANSWERS
@ON_DONE
@QUIET
@batch_options
def run_command(file: str, out: str | None, offline: bool, concurrency: int | None, **values: Any) -> int:
    """Run a batch from start to end: submit, work, show progress, collect.

    FILE is CSV, TSV, JSON, JSONL, text (a question per line), Parquet, .xlsx or .ods; - is stdin. If the
    command is interrupted or killed, run the same command again to resume: it follows the same runs.
    """
    settings = load_settings()
    target = resolve_target(settings, offline=offline, trust_env_file=values["trust_env_file"])
    note = notes_of(values)
    request = submit_request(settings, values, target, note)
    out = out or default_out(file if file != "-" else "stdin")
    results = result_options(values)
    outcome = run(
        RunSpec(
            settings=settings,
            submit=request,
            file=file,
            plan_of=lambda intake: plan_new(out, intake, request.profile, results, file),
            confirm=lambda intake: _confirm(settings, request, intake, values["yes"]),
            say=note,
            on_outcome=lambda outcome: _print_outcome(outcome, values, note, offline=offline),
            concurrency=concurrency,
            show_answers=values["show_answers"],
            progress=lambda: display_of(values, worker_starting=True),
        )
    )
    return outcome.code


def _confirm(settings: Settings, request: SubmitRequest, intake: Intake, confirmed: bool) -> None:
    """On a terminal, before a paid run of many rows: show the estimate and ask."""
    paid = not request.target.offline and intake.rows > CONFIRM_ABOVE_ROWS
    if confirmed or not paid or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    say(estimate_text(estimates_of(Prices.read(settings.prices), intake, request)(request.profile), request))
    if not click.confirm("Continue?", err=True):
        raise UsageError("Nothing was submitted.")


def _print_outcome(outcome: RunOutcome, values: OptionValues, note: Say, *, offline: bool) -> None:
    view = outcome.view
    batch, retry = view.batch.id, retry_command(view.batch, view.counts)
    was_finished = outcome.existing is not None and outcome.existing.finished
    if was_finished:
        note(
            f"{batch} was already {view.batch.state}; no run was started. "
            f"{commands_of_finished(view.batch, view.counts)}"
        )
    note(summary_line(view) + (f" → {outcome.written}" if outcome.written else ""))
    if outcome.code == 1 and not was_finished:
        counts = view.counts.by_status
        bad = ",".join(status for status in JobStatus if status in UNSUCCESSFUL and counts[status])
        hint = f"`askmill collect {batch} --status {bad} -o -` shows why"
        if retryable_statuses(view.counts):
            hint += f", `{retry}` retries them"
        say(f"Some rows did not complete: {hint}.")
    if outcome.code == 3:
        say(stall_reason(view))
        say(f"`askmill collect {batch}` writes the results so far.")
    notify_on_done(values["on_done"], view)
    if offline and outcome.code != 3:
        note(
            "The offline emulator answered, not a model. To ask a model, set OPENAI_API_KEY (or "
            "OPENAI_BASE_URL) and omit --offline."
        )


@click.command("submit", cls=GroupedCommand)
@FILE
@QUIET
@batch_options
def submit_command(file: str, **values: Any) -> int:
    """Check FILE, store the batch and print its id.

    Only the id goes to stdout. Workers process the batch: start one with `askmill worker`.
    """
    settings = load_settings()
    target = resolve_target(settings, trust_env_file=values["trust_env_file"])
    note = notes_of(values)
    request = submit_request(settings, values, target, note)
    # However it is interrupted, the identity is free at once.
    with interruptible(), checked(file, request, settings) as intake, redis_url(settings) as url:
        submitted = asyncio.run(_submit(url, settings.durability_in_use, intake, request, note))
    if submitted.existing is not None:
        note(existing_text(submitted.existing))
    if submitted.stall:
        note(submitted.stall)
    click.echo(submitted.batch)
    return 0


async def _submit(
    url: str, durability: Durability, intake: Intake, request: SubmitRequest, note: Say
) -> Submitted:
    async with await Store.open(url, durability=durability) as store:
        return await submit(store, url, intake, request, note)


def estimate_text(estimated: Estimate, request: SubmitRequest) -> str:
    """The estimate in sentences, compared with the budget if there is one."""
    model = request.profile.model or "the stored assistant's model"
    tokens_in, least, most = (
        f"{round_estimate(tokens):,.0f}"
        for tokens in (estimated.prompt_tokens, estimated.completion_low, estimated.completion_high)
    )
    output = least if least == most else f"{least} to {most}"
    lines = [
        f"{count_of(estimated.rows, 'row')} for {model}: about {tokens_in} tokens in, {output} tokens out."
    ]
    if request.target.offline:
        lines.append(
            "No cost: the offline emulator answers. Without --offline, name a model to see its cost."
        )
        return "\n".join(lines)
    if estimated.low_usd is None or estimated.high_usd is None:
        similar = similar_model(request.profile.model or "")
        advice = "put its price into a file and set ASKMILL_PRICES to that file."
        if similar:
            lines.append(f"The price of {model} is unknown; did you mean {similar!r}? If not, {advice}")
        elif is_local(request.target.base_url):
            lines.append(f"The price of {model} is unknown. If this local server costs anything, {advice}")
        else:
            lines.append(f"The price of {model} is unknown: {advice}")
        return "\n".join(lines)
    low, high = about_usd(estimated.low_usd), about_usd(estimated.high_usd)
    cost = low if low == high else f"{low} to {high.removeprefix('about ')}"
    lines.append(f"{cost[:1].upper()}{cost[1:]}.")
    if request.limits.get("tier_fallback") is not None:
        lines.append("The upper end is the cost if every row falls back to the standard tier.")
    budget = request.limits.get("budget_usd")
    if budget is not None:
        verdict = "is enough" if budget >= estimated.high_usd else "may not be enough"
        lines.append(f"The budget of {format_usd(budget)} {verdict}.")
    if request.profile.tools:
        tools = " and ".join(request.profile.tools)
        lines.append(f"Fees of the API for calls of {tools} are not included.")
    return "\n".join(lines)
