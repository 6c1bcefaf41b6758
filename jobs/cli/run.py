"""`run` and `submit`: a file becomes a batch."""

import asyncio
import sys
from typing import Any

import click

from askmill.config.settings import Settings, load_settings
from askmill.config.text import format_usd
from askmill.jobs.cli.env_file_consent import consent_of
from askmill.jobs.cli.exit_codes import say
from askmill.jobs.cli.options import intake_options, job_options, limits_given, profile_options
from askmill.jobs.cli.result_options import (
    ON_DONE,
    SHOW_ANSWERS,
    Given,
    result_options,
    tell_on_done,
    with_result_options,
)
from askmill.jobs.display.status_text import retry_command, stall_reason, summary_line
from askmill.jobs.intake import Intake
from askmill.jobs.local.open_store import redis_url
from askmill.jobs.model.api_target import Target, target_of
from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.models import EMULATOR_MODEL, UNSUCCESSFUL, JobStatus
from askmill.jobs.openai_client.pricing import Estimate, Prices, estimate
from askmill.jobs.results import plan_results
from askmill.jobs.results.collect import default_out
from askmill.jobs.run.run import Job, Outcome, run
from askmill.jobs.store import Store
from askmill.jobs.submit.profile_loader import build_profile, refuse_unsupported, warnings
from askmill.jobs.submit.submit import (
    ExistingBatch,
    SubmitRequest,
    checked,
    dispatch_first_rows,
    find_existing,
    find_or_store,
    identity_of,
    refuse_unpriced,
)

ASK_ABOVE_ROWS = 100


OFFLINE_IGNORES = "Note: with --offline the emulator answers as {}, which costs nothing; {} ignored."


def asked_target(settings: Settings, *, offline: bool = False, trust_env_file: bool = False) -> Target:
    """The API that the command will ask, with a warning where its key would travel in plain text.

    Raises UsageError when a key is missing or may not go there, before anything is started or stored.
    """
    target = target_of(settings, offline=offline, consent=consent_of(trust_env_file))
    if target.exposed_key is not None:
        say(target.exposed_key)
    return target


def without_paid(given: Given) -> Given:
    """The options as they count with `--offline`: no model and no budget. Says which were left out."""
    named = ["--model"] if given.get("model") else []
    named += ["--override model"] if "model" in given.get("overrides", ()) else []
    named += ["--budget"] if given.get("budget_usd") is not None else []
    if named:
        are = " and ".join(named) + (" is" if len(named) == 1 else " are")
        say(OFFLINE_IGNORES.format(EMULATOR_MODEL, are))
    return {**given, "model": None, "budget_usd": None}


def order_of(settings: Settings, given: Given, target: Target) -> SubmitRequest:
    """What the options ask for, checked before the file is read."""
    given = without_paid(given) if target.offline else given
    profile = build_profile(given["profile"], profile_options(given), settings.model, offline=target.offline)
    refuse_unsupported(profile, target.api)
    order = SubmitRequest(
        intake=intake_options(given),
        profile=profile,
        target=target,
        limits=limits_given(given),
        name=given["name"],
        new=given["new"],
        reuse_answers=given["reuse_answers"],
        retention_days=settings.retention_days,
    )
    refuse_unpriced(order, Prices.read(settings.prices))
    for warning in warnings(profile):
        say(f"Note: {warning}")
    return order


@click.command("run")
@click.argument("file", metavar="FILE")
@click.option("-o", "--out", metavar="OUT", help="Default: STEM.answers.csv here; - is stdout.")
@click.option(
    "--offline", is_flag=True, help="Let the emulator answer, even when a key is set: no model, no cost."
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Runs in flight of its own worker."
)
@click.option("--yes", is_flag=True, help="Do not ask before a paid run of more than 100 rows.")
@SHOW_ANSWERS
@ON_DONE
@with_result_options
@job_options
def run_command(file: str, out: str | None, offline: bool, concurrency: int | None, **given: Any) -> int:
    """Ask every question of FILE: submit, work, show progress, collect.

    The whole job in one command. Killed half-way, the same command goes on with the same runs. FILE is CSV,
    JSONL or Parquet; - is stdin.
    """
    settings = load_settings()
    target = asked_target(settings, offline=offline, trust_env_file=given["trust_env_file"])
    order = order_of(settings, given, target)
    out = out or default_out(file if file != "-" else "stdin")
    chosen = result_options(given)
    job = Job(
        settings=settings,
        order=order,
        file=file,
        plan_of=lambda intake: plan_results(out, intake.spec, chosen, file),
        agree=lambda intake: _agree(settings, order, intake, given["yes"]),
        say=say,
        tell=lambda outcome: _tell(outcome, offline, given["on_done"]),
        concurrency=concurrency,
        show_answers=given["show_answers"],
    )
    return run(job).code


def _agree(settings: Settings, order: SubmitRequest, intake: Intake, agreed: bool) -> None:
    """Before a paid run of many rows on a terminal: the estimate, and a question."""
    paid = not order.target.offline and intake.rows > ASK_ABOVE_ROWS
    if agreed or not paid or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    say(estimate_text(estimated_of(Prices.read(settings.prices), order, intake), order))
    if not click.confirm("Go on?", err=True):
        raise UsageError("Nothing was submitted.")


def _tell(outcome: Outcome, offline: bool, on_done: str | None) -> None:
    view, known = outcome.view, outcome.known
    batch = view.batch.id
    if known is not None and known.finished:
        again = f"`{retry_command(view.batch, view.counts)}` asks again what did not complete, --new starts afresh"
        say(f"{batch} was {view.batch.state} already: nothing was asked ({again}).")
    say(summary_line(view) + (f" → {outcome.written}" if outcome.written else ""))
    if outcome.code == 1 and not (known is not None and known.finished):
        counts = view.counts.by_status
        bad = ",".join(status for status in JobStatus if status in UNSUCCESSFUL and counts[status])
        hint = f"`askmill collect {batch} --status {bad} -o -` shows why"
        if bad != JobStatus.REJECTED:
            hint += f", `{retry_command(view.batch, view.counts)}` asks again"
        say(f"Not every row completed: {hint}.")
    if outcome.code == 3:
        say(stall_reason(view))
        say(f"What there is so far: askmill collect {batch}")
    if known is None or not known.finished:
        tell_on_done(on_done, view)
    if offline and outcome.code != 3:
        click.echo(
            "The offline emulator answered, not a model. "
            "For a real one: set OPENAI_API_KEY (or OPENAI_BASE_URL) and leave --offline out.",
            err=True,
        )


@click.command("submit")
@click.argument("file", metavar="FILE")
@job_options
def submit_command(file: str, **given: Any) -> int:
    """Check FILE, store the batch and print its id.

    Only the id goes to stdout. Workers answer it: `askmill worker`.
    """
    settings = load_settings()
    target = asked_target(settings, trust_env_file=given["trust_env_file"])
    order = order_of(settings, given, target)
    with checked(file, order, settings) as intake, redis_url(settings) as url:
        batch, known, hint = asyncio.run(_submit(url, intake, order))
    if known is not None:
        say(_known_text(known))
    if hint:
        say(hint)
    click.echo(batch)
    return 0


async def _submit(url: str, intake: Intake, order: SubmitRequest) -> tuple[str, ExistingBatch | None, str]:
    """The batch, whether it was known, and why nothing moves, if so."""
    async with await Store.open(url) as store:
        identity = identity_of(intake, order)
        known = await find_existing(store, identity, order, say)
        if order.target.asked is not None and not (known is not None and known.finished):
            say(order.target.asked)
        if known is None:
            batch, known = await find_or_store(store, intake, order, identity, say)
        else:
            batch = known.batch.id
        if known is None or not known.finished:
            await dispatch_first_rows(store, url)
        view = await store.status(batch)
        return batch, known, stall_reason(view)


def _known_text(known: ExistingBatch) -> str:
    batch = known.batch
    if known.finished:
        return (
            f"{batch.id} has this file and profile and is {batch.state}: nothing was submitted. "
            f"`{retry_command(batch, known.counts)}` asks again what did not complete, --new starts afresh."
        )
    resumed = "; it was paused and has been resumed" if known.resumed else ""
    return f"{batch.id} has this file and profile and goes on{resumed}."


def estimated_of(prices: Prices, order: SubmitRequest, intake: Intake) -> Estimate:
    """From the questions alone."""
    characters = sum(len(intake.spec.question(row.cells)) for row in intake.rows_iter() if row.reject is None)
    return estimate(prices, order.profile, intake.rows - intake.rejected, characters)


def estimate_text(estimated: Estimate, order: SubmitRequest) -> str:
    """For a person, with what it means for the budget."""
    model = order.profile.model or "the stored assistant's model"
    written = f"{estimated.completion_low:,} to {estimated.completion_high:,} out"
    lines = [f"{estimated.rows:,} rows for {model}: about {estimated.prompt_tokens:,} tokens in, {written}."]
    if estimated.low_usd is None or estimated.high_usd is None:
        lines.append(
            f"The price of {model} is not known; put it into a file and name that in ASKMILL_PRICES."
        )
        return "\n".join(lines)
    lines.append(f"About {format_usd(estimated.low_usd)} to {format_usd(estimated.high_usd)}.")
    budget = order.limits.get("budget_usd")
    if budget is not None:
        kept = "is enough" if budget >= estimated.high_usd else "may not be enough"
        lines.append(f"The budget of {format_usd(budget)} {kept}.")
    return "\n".join(lines)
