"""The command line. `main` prints the root help from a file before anything slow is imported.

askmill ARGS ─▶ main ─┬ no command, --help: help.txt (a test holds it equal to what click would print)
                      └ else root.py ─▶ one module of this folder per command family ─▶ one function of jobs
"""

import sys


def main() -> None:
    """The console script `askmill`."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        sys.stdout.write(_root_help())
        return
    try:
        from askmill.jobs.cli.root import askmill  # noqa: PLC0415 -- the root help does without click
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted before anything was begun: the same command starts it.\n")
        sys.exit(130)
    askmill.main(prog_name="askmill")


def _root_help() -> str:
    with open(__file__.removesuffix("__init__.py") + "help.txt", encoding="utf-8") as file:  # noqa: PTH123
        return file.read()
