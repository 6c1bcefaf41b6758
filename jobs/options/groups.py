"""Help texts with options under headings: a click command and a click option that know their groups."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

INPUT, QUESTIONS, ASSISTANT = "Input", "Questions", "Assistant"
OUTPUT, LIMITS, RUNNING = "Output", "Limits and money", "Running"
GROUPS = (INPUT, QUESTIONS, ASSISTANT, OUTPUT, LIMITS, RUNNING)
"""The headings, in the order of the help."""

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class GroupedOption(click.Option):
    """An option with the heading it stands under, and its default as text where click does not know it.

    An option whose default is None leaves a limit as it is when a batch is resumed; `default_text` says what
    a new batch gets.
    """

    def __init__(self, *args: Any, group: str, default_text: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group, self.default_text = group, default_text

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        if self.default_text:
            extra["default"] = self.default_text
        return extra


class GroupedCommand(click.Command):
    """A command whose help lists its options under `GROUPS`; options without a group are under Running."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                records[getattr(parameter, "group", RUNNING)].append(record)
        for group, lines in records.items():
            if lines:
                with formatter.section(group):
                    formatter.write_dl(lines)


def option(group: str, *declarations: str, **attributes: Any) -> Decorator[Any]:
    """`click.option` with a heading."""
    return click.option(*declarations, cls=GroupedOption, group=group, **attributes)


def add_options(options: Iterable[Decorator[Any]]) -> Decorator[Any]:
    """One decorator for several options, listed in the help in their order."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(tuple(options)):
            command = decorator(command)
        return command

    return decorate


CONCURRENCY = option(
    LIMITS,
    "--concurrency",
    type=click.IntRange(min=1),
    metavar="N",
    default_text="ASKMILL_CONCURRENCY",
    help="Maximum runs in flight of the worker.",
)
"""Of the worker that `run` or `worker` starts."""
TRUST = option(
    RUNNING,
    "--trust-env-file",
    is_flag=True,
    help="Send the environment's API key to the address, and use it for the Redis, that .env names.",
)
