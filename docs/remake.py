"""Makes the reference pages from the code: `python docs/remake.py` writes them, `--check` names stale ones.

click's commands ─▶ reference/commands.md      JobStatus, BatchState ─▶ reference/statuses.md
Settings         ─▶ reference/settings.md      FIELDS, to_json       ─▶ reference/columns.md
"""

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from pydantic_core import PydanticUndefined

from askmill.config.settings import GOOD_EXAMPLES, Settings, variable_of
from askmill.jobs.cli.help_groups import GROUPS, RUNNING, GroupedCommand
from askmill.jobs.cli.root import COMMANDS_BY_MODULE, askmill
from askmill.jobs.model.models import BatchState, JobStatus
from askmill.jobs.model.result_fields import FIELDS
from askmill.jobs.store.records import StatusView

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Made by `python docs/remake.py`; a test holds it equal to the code. -->"

STATUSES = {
    JobStatus.QUEUED: "Waiting for a free slot, for the previous row of its conversation, or for the next "
    "attempt.",
    JobStatus.RUNNING: "A worker is processing it.",
    JobStatus.COMPLETED: "The run completed; `answer` is the text of all its messages. `error` is "
    "`refusal` if the model refused.",
    JobStatus.INCOMPLETE: "A token limit or the content filter ended the run; `answer` is the "
    "partial answer. `--on-incomplete` sets what happens next.",
    JobStatus.EXPIRED: "The last attempt's run passed the API's `expires_at`.",
    JobStatus.FAILED: "The run failed and is not retried. `error` begins with the API's code, or "
    "with `deadline`, `no_message`, `schema`, `previous_turn` or `poison_row`.",
    JobStatus.CANCELLED: "Cancelled by `askmill cancel`, or at the API by another program.",
    JobStatus.REJECTED: "A bad row, with `--skip-bad-rows`; it was not submitted.",
}
STATES = {
    BatchState.QUEUED: "Stored; no run has been created yet.",
    BatchState.RUNNING: "At least one run has been created, and at least one row is unfinished.",
    BatchState.PAUSED: "Paused by `askmill pause` or by itself; `paused_reason` says why. "
    "`askmill resume` resumes it.",
    BatchState.CANCELLED: "Cancelled by `askmill cancel`.",
    BatchState.DONE: "Every row is finished.",
}
COLUMNS = {
    "row": "the row's number in the file, from 1",
    "status": "[the row's status](statuses.md)",
    "answer": "the text of all messages of the run, a blank line between; annotations are footnotes",
    "error": "error message if the row did not complete",
    "attempts": "runs created for the row; 0 for a reused answer",
    "thread_id": "the thread or conversation of the last attempt",
    "run_id": "the run or response of the last attempt",
    "model": "the model that answered, as the API names it",
    "prompt_tokens": "input tokens of all attempts",
    "completion_tokens": "output tokens of all attempts",
    "cost_usd": "US dollars, of all attempts; empty for a model without a known price",
    "duration_s": "seconds from the first attempt's start to the last one's end, waits between them included",
    "citations": "a JSON list: what the answer cites",
    "files": "a JSON list: files that the run generated, or why one was not kept",
}
STATUS_FIELDS = {
    "batch": "its id",
    "name": "`--name`, else the file's name",
    "file": "the file name given at submit",
    "state": "[the batch's state](statuses.md#of-a-batch)",
    "rows": "rows of the file",
    "counts": "rows by status; every status, also those at 0",
    "runs": "runs created",
    "requests": "requests sent to the API",
    "tokens": "`prompt` and `completion`; null while unknown",
    "cost_usd": "US dollars so far; null while unknown",
    "submitted_at": "ISO 8601, UTC",
    "started_at": "the first run; null before it",
    "finished_at": "the last row; null before it",
    "rows_per_s": "over the last five minutes",
    "eta_s": "seconds left at that rate",
    "workers": "live workers that use the batch's API",
    "paused_reason": "why it is paused, else null",
    "unknown_creates": "unconfirmed creates: runs that may exist although the API never confirmed "
    "them ([the two APIs](../apis.md))",
}
PROFILE_FIELDS = {
    "batch": "the batch's id",
    "api": "`assistants` or `responses`",
    "base_url": "the API's address",
    "model": "the model; empty for a stored assistant",
    "profile": "the profile, without what is at its default (examples/profile.schema.json)",
    "resources": "ids at the API of the files and vector stores it was given",
}


TRUST = """\
## Trust in a `.env`

A `.env` may have come with the folder, for example with a repository that was cloned. It cannot send what the
environment holds to an address of its choice:

| `OPENAI_BASE_URL` from | `OPENAI_API_KEY` from | what is sent to that address |
|---|---|---|
| default, environment | anywhere | the key |
| `.env`, naming `https://api.openai.com` | anywhere | the key |
| `.env`, naming a loopback address | environment | requests without the key |
| `.env`, naming any other address | environment | nothing: exit 2 |
| `.env` | `.env` | the key of `.env` |

On a terminal askmill asks before it exits with 2, and `--trust-env-file` (in Python `trust_env_file=True`)
says yes beforehand; `doctor` never asks. Where the key of the environment is not sent, `OPENAI_ORG_ID`,
`OPENAI_PROJECT_ID` and `OPENAI_CUSTOM_HEADERS` of the environment are not sent either. `run`, `submit` and
`worker` name on stderr the address that is asked, and where it comes from. A worker started by Celery's own
command line has no such option: set `OPENAI_BASE_URL` in its environment.

Within `.env`, `${NAME}` stands for another line of the file. A setting that refers to a variable of the
environment is refused, except in the paths `ASKMILL_DATA_DIR` and `ASKMILL_PRICES`.

This does not cover `ASKMILL_REDIS_URL`: who names the Redis sees the questions and the answers.
"""


def pages() -> dict[str, str]:
    """Each page by its file name."""
    return {
        "commands.md": _page("Commands", _commands()),
        "settings.md": _page("Settings", _settings()),
        "statuses.md": _page("Statuses", _statuses()),
        "columns.md": _page("Columns and fields", _columns()),
    }


def _page(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"# {title}", "", NOTE, "", *lines]).rstrip() + "\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _commands() -> Iterator[str]:
    yield "Results go to stdout or to the named file, everything else to stderr. Without `BATCH`, a command"
    yield "takes the newest batch. `-` is stdin or stdout. All commands share [the exit"
    yield "codes](statuses.md#exit-codes)."
    yield ""
    context = click.Context(askmill, info_name="askmill")
    for name in (name for names in COMMANDS_BY_MODULE.values() for name in names):
        command = askmill.get_command(context, name)
        assert command is not None
        yield from _command(name, command, click.Context(command, info_name=name, parent=context))


def _command(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## askmill {name}"
    yield ""
    yield f"    {command.get_usage(context).removeprefix('Usage: ')}"
    yield ""
    yield from inspect.cleandoc(command.help or "").splitlines()
    yield ""
    groups: dict[str, list[click.Option]] = {}
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    for option in options:
        group = getattr(option, "group", RUNNING) if isinstance(command, GroupedCommand) else "option"
        groups.setdefault(group, []).append(option)
    for group in ("option", *GROUPS):
        if rows := [(_spelled(option), _meaning(option, context)) for option in groups.get(group, ())]:
            yield from _table((group, "meaning"), rows)


def _spelled(option: click.Option) -> str:
    choices = option.type.choices if isinstance(option.type, click.Choice) else ()
    shown = "" if option.is_flag else f" {'|'.join(map(str, choices)) or option.metavar or ''}"
    return f"`{', '.join(option.opts)}{shown}`"


def _meaning(option: click.Option, context: click.Context) -> str:
    default = option.get_help_extra(context).get("default")
    return f"{option.help} [default: {default}]" if default else str(option.help)


def _settings() -> Iterator[str]:
    yield "In the environment, or in a file `.env` in the working folder; an empty value counts as unset. No"
    yield "secret is ever printed, logged or stored in Redis. `askmill doctor` says what is wrong with them."
    yield "`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` have [their page](../how-to/proxy.md)."
    yield ""
    rows = []
    for name, field in Settings.model_fields.items():
        variable = variable_of(name)
        default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
        good = GOOD_EXAMPLES.get(variable, "")
        rows.append((f"`{variable}`", field.description or "", default, good))
    yield from _table(("variable", "meaning", "default", "a good value"), rows)
    yield from TRUST.splitlines()


def _statuses() -> Iterator[str]:
    yield "## Of a row"
    yield ""
    yield from _table(("status", "meaning"), ((f"`{status}`", STATUSES[status]) for status in JobStatus))
    yield "## Of a batch"
    yield ""
    yield from _table(("state", "meaning"), ((f"`{state}`", STATES[state]) for state in BatchState))
    yield "## Exit codes"
    yield ""
    codes = (
        ("0", "done, every row completed (plain `collect`: the file was written)"),
        ("1", "done or cancelled, some row did not complete"),
        ("2", "bad usage or bad input; nothing was submitted"),
        ("3", "Redis or the API cannot be reached or refuses the request, or the batch has paused itself"),
        ("130", "interrupted; the command to resume is printed"),
    )
    yield from _table(("code", "when"), codes)


def _columns() -> Iterator[str]:
    yield "## Columns of the results"
    yield ""
    yield "First every column of the input, unchanged; then these. A name that the input has already gets the"
    yield "prefix `askmill_`. What is not known is empty, never 0."
    yield ""
    yield from _table(("column", "meaning"), ((f"`{name}`", COLUMNS[name]) for name in FIELDS))
    yield "## Fields of `status --json` and `list --json`"
    yield ""
    names = [name for name in STATUS_FIELDS if f'"{name}"' in inspect.getsource(StatusView.to_json)]
    yield from _table(("field", "meaning"), ((f"`{name}`", STATUS_FIELDS[name]) for name in names))
    yield "## Fields of a step"
    yield ""
    yield "`OUT.steps.jsonl` has a line a row: `row` and `steps`, each with `run_id`, `attempt`, `type`"
    yield "(`message`, `code_interpreter`, `file_search`, `function`, `reasoning`, `web_search` or `other`),"
    yield "`status`, `started_at` and `finished_at` (Unix seconds), `prompt_tokens`, `completion_tokens` and"
    yield "`details`."
    yield ""
    yield "## Fields of `OUT.profile.json`"
    yield ""
    yield "Beside each result file: what was asked with, as it was frozen at submit, so that results can be"
    yield "explained without Redis. No secret is in it."
    yield ""
    yield from _table(("field", "meaning"), ((f"`{name}`", text) for name, text in PROFILE_FIELDS.items()))


def main() -> int:
    """Write the pages, or only say which are not current."""
    made = pages()
    if sys.argv[1:] != ["--check"]:
        for name, text in made.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
        return 0
    old = [name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    sys.stdout.writelines(f"{name} is not current\n" for name in old)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
