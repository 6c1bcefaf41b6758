"""The command line. `main` prints the root help from a file before anything slow is imported.

askmill ARGS ─▶ main ─┬ no command, --help: help.txt (a test checks that click would print the same)
                      └ else root.py ─▶ one module of this folder per command family ─▶ one function of jobs
"""

import sys


def main() -> None:
    """Entry point of the console script `askmill`."""
    if sys.argv[1:] in (["--help"], ["-h"]):
        with open(__file__.removesuffix("__init__.py") + "help.txt", encoding="utf-8") as file:  # noqa: PTH123 -- pathlib costs 10 ms
            sys.stdout.write(file.read())
        return
    try:
        from askmill.jobs.cli.root import askmill  # noqa: PLC0415 -- the root help needs no click
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted before anything was started. Run the same command again to start.\n")
        sys.exit(130)
    askmill.main(prog_name="askmill")
