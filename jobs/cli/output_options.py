"""Options on what a command writes and shows while it waits."""

from collections.abc import Callable

from askmill.jobs.cli.exit_codes import say
from askmill.jobs.display.progress import Progress, Silent
from askmill.jobs.options.groups import OUTPUT, RUNNING, option
from askmill.jobs.options.results import OptionValues
from askmill.jobs.run.notify import notify
from askmill.jobs.store.views import StatusView

OUT = option(
    OUTPUT,
    "-o",
    "--out",
    metavar="OUT",
    default_text="STEM.answers.csv here",
    help="Result file; - writes to stdout.",
)
ON_DONE = option(
    RUNNING,
    "--on-done",
    metavar="COMMAND|URL",
    help="Command to run, or address to POST the status to, when the batch is done, cancelled or paused.",
)
QUIET = option(
    RUNNING,
    "-q",
    "--quiet",
    is_flag=True,
    help="Show no progress and no notes, only errors and what needs attention.",
)
SHOW_ANSWERS = option(
    RUNNING, "--show-answers", is_flag=True, help="Show up to five new answers per refresh while waiting."
)


def display_of(values: OptionValues, **panel: bool) -> Progress | Silent:
    """The panel on stderr; nothing with `--quiet`."""
    return Silent() if values["quiet"] else Progress(**panel)


def notes_of(values: OptionValues) -> Callable[[str], None]:
    """What prints notes on stderr; with `--quiet` they are dropped."""
    return _drop if values["quiet"] else say


def _drop(_: str) -> None:
    pass


def notify_on_done(target: str | None, view: StatusView) -> None:
    """Do what `--on-done` asks. A failure is printed and changes no exit code."""
    if target is not None and (fault := notify(target, view)) is not None:
        say(fault)
