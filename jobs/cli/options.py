"""The options that `run`, `submit` and `estimate` share, and the dataclasses they fill."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import click

from askmill.jobs.cli.env_file_consent import TRUST
from askmill.jobs.cli.result_options import Command, Given
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.model.models import Limits, OnIncomplete
from askmill.jobs.submit.profile_loader import ProfileOptions


def _finite(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter("must be a number above 0", param=parameter)
    return value


INTAKE = (
    click.option("--question-column", metavar="NAME", help="Default: question, prompt, query or input."),
    click.option("--template", metavar="TEXT", help='The question from several columns: "Translate {text}".'),
    click.option("--id-column", metavar="NAME", help="The row's own id; duplicates are an error."),
    click.option(
        "--conversation-column", metavar="NAME", help="Rows with one value share a thread, in order."
    ),
    click.option(
        "--override",
        "overrides",
        metavar="COLUMN",
        multiple=True,
        help="Per row: model, instructions, max_completion_tokens, temperature, image or file.",
    ),
    click.option("--delimiter", metavar="CHAR", help="Instead of the detected one."),
    click.option("--encoding", metavar="NAME", help="Of files that are neither UTF-8 nor UTF-16 with BOM."),
    click.option("--skip-bad-rows", is_flag=True, help="Submit the good rows; the others end as rejected."),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows."),
)
PROFILE = (
    click.option("--profile", type=click.Path(path_type=Path), metavar="FILE.toml", help="The assistant."),
    click.option("--assistant-id", metavar="ID", help="A stored assistant (Assistants API only)."),
    click.option("--model", metavar="NAME", help="Default: ASKMILL_MODEL."),
    click.option("--instructions", metavar="TEXT", help="What the assistant is told before the question."),
    click.option("--temperature", type=float, metavar="T", help="0 to 2."),
    click.option("--top-p", type=float, metavar="P", help="0 to 1."),
    click.option("--reasoning-effort", metavar="LEVEL", help="none, minimal, low, medium, high or xhigh."),
    click.option(
        "--tool",
        "tools",
        type=click.Choice(["code_interpreter", "file_search", "web_search"]),
        multiple=True,
        help="Repeatable.",
    ),
    click.option("--functions", metavar="MODULE.py", help="Python functions that the model may call."),
    click.option(
        "--file",
        "files",
        metavar="PATH",
        multiple=True,
        help="A file or a folder for the tools. Repeatable.",
    ),
    click.option("--max-prompt-tokens", type=int, metavar="N", help="Most tokens that a run may read."),
    click.option("--max-completion-tokens", type=int, metavar="N", help="Most that it may write."),
    click.option("--truncation", metavar="HOW", help="auto or last_messages:N."),
    click.option(
        "--response-schema",
        type=click.Path(path_type=Path),
        metavar="FILE.json",
        help="The answer's JSON schema.",
    ),
)
LIMITS = (
    click.option(
        "--on-incomplete",
        type=click.Choice([how.value for how in OnIncomplete]),
        help="After a token limit: keep what there is (default), raise it, or go on.",
    ),
    click.option("--attempts", type=click.IntRange(min=1), metavar="N", help="Most runs a row may use (3)."),
    click.option(
        "--deadline",
        "deadline_s",
        type=float,
        callback=_finite,
        metavar="SECONDS",
        help="Most time of one run.",
    ),
    click.option(
        "--budget", "budget_usd", type=float, callback=_finite, metavar="USD", help="Start no run beyond it."
    ),
)
BATCH = (
    click.option("--name", metavar="TEXT", help="A name for the batch."),
    click.option("--new", is_flag=True, help="A new batch, whatever exists."),
    click.option("--reuse-answers", is_flag=True, help="Rows already answered here take that answer."),
)


def job_options(command: Command) -> Command:
    """All options of a batch, in the order above."""
    for option in reversed((*INTAKE, *PROFILE, *LIMITS, *BATCH, TRUST)):
        command = option(command)
    return command


def intake_options(given: Given) -> IntakeOptions:
    """What `INTAKE` filled."""
    return IntakeOptions(**_fields(IntakeOptions, given))


def profile_options(given: Given) -> ProfileOptions:
    """What `PROFILE` filled."""
    return ProfileOptions(**_fields(ProfileOptions, given))


def limits_given(given: Given) -> dict[str, Any]:
    """Only what was said: it also changes a batch that is under way."""
    said = {name: value for name, value in _fields(Limits, given).items() if value is not None}
    if "on_incomplete" in said:
        said["on_incomplete"] = OnIncomplete(said["on_incomplete"])
    return said


def _fields(kind: type, given: Given) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: given[name] for name in names if name in given}
