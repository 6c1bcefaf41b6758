"""The page docs/commands.md, made from the help: `python -m jobs.cli.reference > docs/commands.md`."""

import click

from jobs.cli.root import FAMILIES, MODULE_OF, askmill

WIDTH = 80
HEAD = """# Commands

Made by `python -m jobs.cli.reference > docs/commands.md`; a test holds it equal to the help.
Results go to stdout or to the named file, everything else to stderr. Exit codes: see the
[README](../README.md#exit-codes).
"""
TITLES = {
    "submitting": "From a file to a batch",
    "reading": "How far it is, and what came of it",
    "steering": "Changing a batch",
    "processes": "Processes and their health",
}


def page() -> str:
    """All commands, family by family."""
    parts = [HEAD]
    for family, commands in FAMILIES.items():
        parts.append(f"## {TITLES[family]}\n")
        parts += [f"### `{name}`\n\n```text\n{_help(name)}\n```\n" for name in commands]
    return "\n".join(parts)


def _help(name: str) -> str:
    root = click.Context(askmill, info_name="askmill", terminal_width=WIDTH)
    command = askmill.get_command(root, name)
    assert command is not None, f"{MODULE_OF[name]} has no {name}_command"
    settings = {"help_option_names": ["-h", "--help"]}
    context = click.Context(command, info_name=name, parent=root, terminal_width=WIDTH, **settings)  # type: ignore[arg-type]
    return command.get_help(context)


if __name__ == "__main__":
    click.echo(page(), nl=False)
