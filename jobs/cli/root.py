"""The root command: which module holds which command, and how every ending becomes an exit code."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from askmill.jobs.cli.exit_codes import exit_code_for

FAMILIES = {
    "run": ("run", "submit"),
    "estimate": ("estimate",),
    "query": ("status", "collect", "show", "list"),
    "report": ("report",),
    "control": ("cancel", "retry", "pause", "resume", "purge"),
    "chat": ("chat",),
    "processes": ("worker", "emulator", "doctor"),
}
"""Module → its commands, in the order of the help."""
MODULE_OF = {command: module for module, commands in FAMILIES.items() for command in commands}
SUMMARIES = {
    "run": "Ask every question of FILE: submit, work, show progress, collect.",
    "submit": "Check FILE, store the batch and print its id.",
    "estimate": "What the batch would cost, without asking anything.",
    "status": "How far a batch is.",
    "collect": "Write the results, complete or partial, at any moment.",
    "show": "Tell the story of one row: question, answer, attempts, steps.",
    "list": "The batches in this Redis.",
    "report": "Write a page with charts: cost, statuses, run times, tokens, errors.",
    "cancel": "End what is queued and running; what is finished stays.",
    "retry": "Ask again the rows that did not complete.",
    "pause": "Start no more runs; those in flight end.",
    "resume": "Go on with a paused batch.",
    "purge": "Delete a batch here, and at the API what it made.",
    "chat": "Talk to the profile's assistant in the terminal.",
    "worker": "Start a Celery worker.",
    "emulator": "Start the offline API server.",
    "doctor": "Check settings, Redis, the API and the workers.",
}


class Root(click.Group):
    """Imports a command's module only when it is called, and ends as the contract's exit codes say."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in MODULE_OF:
            return None
        module = importlib.import_module(f"askmill.jobs.cli.{MODULE_OF[cmd_name]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Without importing them: the summaries stand here, and a test holds them equal."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run and exit; never a traceback but for ASKMILL_LOG_LEVEL=debug."""
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        extra["standalone_mode"] = False
        try:
            code = super().main(args, prog_name, **extra)
            sys.stdout.flush()
        except BaseException as ended:  # noqa: BLE001 -- every ending has its code
            code = exit_code_for(ended)
        if code == BROKEN_PIPE:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(code if isinstance(code, int) else 0)


def run_for_api(words: Sequence[str]) -> int:
    """Do one command for `import askmill`: its exit code, or what ended it as the exception it is."""
    code = click.Group.main(askmill, words, "askmill", standalone_mode=False)
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


BROKEN_PIPE = 141
"""128 and SIGPIPE's number, as any other program that was cut off."""


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- 15 ms

        click.echo(f"askmill {version('askmill')}")
        ctx.exit()


@click.group(
    cls=Root,
    name="askmill",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try it with nothing installed or configured: askmill run examples/questions.csv --offline",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="The version."
)
def askmill() -> None:
    """A CSV of questions in, a CSV of answers out: one assistant run a row.

    Kill it at any time: nothing is lost, nothing is paid twice; the same command goes on. BATCH is an id such
    as b_7hq2m9; without it the newest is meant, but for cancel and purge. `-` is stdin or stdout.
    """


if __name__ == "__main__":
    # `COLUMNS=80 python -m askmill.jobs.cli.root --help > jobs/cli/help.txt`
    askmill.main(prog_name="askmill")
