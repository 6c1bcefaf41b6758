"""The options of a batch, as `run`, `submit`, the web page and the library have them, and what they fill."""

import dataclasses
import math
import shlex
from pathlib import Path
from typing import Any

import click

from askmill.jobs.intake.header import QUESTION_COLUMNS
from askmill.jobs.intake.options import IntakeOptions
from askmill.jobs.model.models import Limits, OnIncomplete, OnUnknown
from askmill.jobs.model.tiers import TIERS
from askmill.jobs.options.groups import (
    ASSISTANT,
    INPUT,
    LIMITS,
    QUESTIONS,
    RUNNING,
    TRUST,
    add_options,
    option,
)
from askmill.jobs.options.results import EXPECTED, OptionValues
from askmill.jobs.submit.profile_loader import ProfileOptions


def _finite(_: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter("must be a number above 0", param=parameter)
    return value


def _one_model(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    names = [name.strip() for value in values for name in value.split(",")]
    if len(names) > 1:
        raise click.BadParameter(
            f"a batch asks one model, not {len(names)}. Submit the file once for each of "
            f"{', '.join(names)}, then `askmill compare BATCH BATCH` shows their answers side by side.",
            param=parameter,
        )
    return values[0] if values else None


def _one_file(_: click.Context, __: click.Parameter, files: tuple[str, ...]) -> str:
    """One FILE is one batch; several are refused with advice."""
    if len(files) > 1:
        raise click.UsageError(
            f"{len(files)} files were given, but a batch has one. Run the command once for each, such as "
            f'`for file in {shlex.join(files[:2])}{" …" if len(files) > 2 else ""}; do askmill run "$file"; '
            "done`, or write them into one file."
        )
    return files[0]


FILE = click.argument("file", metavar="FILE", nargs=-1, required=True, callback=_one_file)

INTAKE = (
    option(
        INPUT,
        "--delimiter",
        metavar="CHAR",
        default_text="detected",
        help="Cell delimiter of the file.",
    ),
    option(
        INPUT,
        "--encoding",
        metavar="NAME",
        help="Encoding of a file that is neither UTF-8 nor UTF-16 with BOM.",
    ),
    option(
        INPUT,
        "--quoting",
        type=click.Choice(["csv", "none", "backslash"]),
        default_text="csv",
        help='What a quote is: csv quotes a cell and is doubled in it; none is text; backslash writes \\" '
        "in a cell.",
    ),
    option(
        INPUT,
        "--sheet",
        metavar="NAME",
        default_text="the first",
        help="Sheet of an .xlsx or .ods workbook.",
    ),
    option(
        INPUT,
        "--skip-bad-rows",
        is_flag=True,
        help="Submit the good rows; bad rows get the status rejected.",
    ),
    option(INPUT, "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows."),
    option(
        QUESTIONS,
        "--question-column",
        metavar="NAME",
        default_text="the first of " + ", ".join(QUESTION_COLUMNS),
        help="Column that holds the question.",
    ),
    option(
        QUESTIONS,
        "--template",
        metavar="TEXT",
        help='Question built from several columns: "Translate {text} to {language}".',
    ),
    option(
        QUESTIONS, "--id-column", metavar="NAME", help="Column with your row ids; duplicates are an error."
    ),
    option(
        QUESTIONS,
        "--conversation-column",
        metavar="NAME",
        help="Column that groups rows into conversations: rows with the same value share a thread, in order.",
    ),
    option(
        QUESTIONS,
        "--override",
        "overrides",
        metavar="COLUMN",
        multiple=True,
        help="Column with a setting per row: model, instructions, max_completion_tokens, temperature, image "
        "or file. Repeatable.",
    ),
)
PROFILE = (
    option(
        ASSISTANT,
        "--profile",
        type=click.Path(path_type=Path),
        metavar="FILE.toml",
        help="Definition of the assistant; the options below override it.",
    ),
    option(ASSISTANT, "--assistant-id", metavar="ID", help="Id of a stored assistant (Assistants API only)."),
    option(
        ASSISTANT,
        "--model",
        metavar="NAME",
        multiple=True,
        callback=_one_model,
        default_text="ASKMILL_MODEL",
        help="Model to ask.",
    ),
    option(ASSISTANT, "--instructions", metavar="TEXT", help="Instructions for the assistant."),
    option(ASSISTANT, "--temperature", type=float, metavar="T", help="Sampling temperature, 0 to 2."),
    option(ASSISTANT, "--top-p", type=float, metavar="P", help="Nucleus sampling, 0 to 1."),
    option(
        ASSISTANT,
        "--reasoning-effort",
        metavar="LEVEL",
        help="Reasoning effort: none, minimal, low, medium, high or xhigh.",
    ),
    option(
        ASSISTANT,
        "--tool",
        "tools",
        type=click.Choice(["code_interpreter", "file_search", "web_search"]),
        multiple=True,
        help="Tool that the model may use. Repeatable.",
    ),
    option(
        ASSISTANT,
        "--functions",
        metavar="MODULE.py",
        help="Module with Python functions that the model may call.",
    ),
    option(
        ASSISTANT,
        "--file",
        "files",
        metavar="PATH",
        multiple=True,
        help="File or folder to upload for the tools. Repeatable.",
    ),
    option(
        ASSISTANT,
        "--truncation",
        metavar="HOW",
        help="Truncation of long threads: auto or last_messages:N.",
    ),
    option(
        ASSISTANT,
        "--response-schema",
        metavar="FILE.json|FIELDS",
        help='JSON schema of the answer, or its fields: "tone: good|bad, score: float, topics: [str]". The '
        "results get a column per field.",
    ),
    option(
        ASSISTANT,
        "--tier",
        type=click.Choice(TIERS),
        default_text="the profile's service_tier",
        help="Price and wait: flex and batch cost half, batch answers within 24 hours, priority is faster "
        "and dearer. `askmill estimate` shows each.",
    ),
    option(LIMITS, "--max-prompt-tokens", type=int, metavar="N", help="Maximum input tokens per run."),
    option(LIMITS, "--max-completion-tokens", type=int, metavar="N", help="Maximum output tokens per run."),
)


def _check_idempotency_key(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """An empty key, as from an unset shell variable, would silently be the batch without a key."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty. Give a text such as a date, or leave the option out.")
    return value


LIMIT_OPTIONS = (
    option(
        LIMITS,
        "--on-incomplete",
        type=click.Choice([policy.value for policy in OnIncomplete]),
        default_text=Limits().on_incomplete.value,
        help="What to do when a token limit ends a run: keep the partial answer, run again with a higher "
        "limit, or continue on the same thread.",
    ),
    option(
        LIMITS,
        "--on-unknown",
        type=click.Choice([policy.value for policy in OnUnknown]),
        default_text=Limits().on_unknown.value,
        help="What to do after a call whose answer was lost and cannot be looked up (chat completions): ask "
        "again, which may be paid twice, or fail the row.",
    ),
    option(
        LIMITS,
        "--tier-fallback",
        type=click.Choice(["standard"]),
        default_text="wait",
        help="With --tier flex: ask a row in this tier if flex has no capacity, instead of waiting.",
    ),
    option(
        LIMITS,
        "--attempts",
        type=click.IntRange(min=1),
        metavar="N",
        default_text=str(Limits().attempts),
        help="Maximum runs per row.",
    ),
    option(
        LIMITS,
        "--deadline",
        "deadline_s",
        type=float,
        callback=_finite,
        metavar="SECONDS",
        help="Maximum duration of a run.",
    ),
    option(
        LIMITS,
        "--budget",
        "budget_usd",
        type=float,
        callback=_finite,
        metavar="USD",
        help="Maximum cost of the batch: no run starts that could exceed it.",
    ),
)
BATCH = (
    option(RUNNING, "--name", metavar="TEXT", default_text="the file's name", help="Name of the batch."),
    option(
        RUNNING,
        "--new",
        is_flag=True,
        help="Create a new batch even if the same one exists; a repeat creates yet another. For recurring "
        "jobs see --idempotency-key.",
    ),
    option(
        RUNNING,
        "--idempotency-key",
        metavar="KEY",
        callback=_check_idempotency_key,
        help="For recurring jobs: a new KEY, such as a date, is a new batch; the same KEY resumes its batch.",
    ),
    option(
        RUNNING,
        "--reuse-answers",
        is_flag=True,
        help="Reuse stored answers of rows that were already answered.",
    ),
)
batch_options = add_options((*INTAKE, *PROFILE, *LIMIT_OPTIONS, *BATCH, *EXPECTED, TRUST))
"""Decorator: all options of a batch."""


@click.command("submit")
@FILE
@batch_options
def batch_parser(**_: Any) -> None:
    """Parse the options of a batch as `submit` does; never called."""


def intake_options(values: OptionValues) -> IntakeOptions:
    """The values of `INTAKE`."""
    return IntakeOptions(**_fields(IntakeOptions, values))


def profile_options(values: OptionValues) -> ProfileOptions:
    """The values of `PROFILE`."""
    return ProfileOptions(**_fields(ProfileOptions, values))


def changed_limits(values: OptionValues) -> dict[str, Any]:
    """Only the limits that the command line names: they also change an unfinished batch."""
    limits = {name: value for name, value in _fields(Limits, values).items() if value is not None}
    if "on_incomplete" in limits:
        limits["on_incomplete"] = OnIncomplete(limits["on_incomplete"])
    if "on_unknown" in limits:
        limits["on_unknown"] = OnUnknown(limits["on_unknown"])
    return limits


def _fields(kind: type, values: OptionValues) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: values[name] for name in names if name in values}
