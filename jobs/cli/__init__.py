"""The command line. `main` prints the root help from a file before anything slow is imported.

askmill ARGS ─▶ main ─┬ no command, --help: help.txt (a test checks that click would print the same)
                      └ else root.py ─▶ one module of this folder per command family ─▶ one function of jobs
"""

import gc
import os
import sys

from askmill.jobs.cli.broken_pipe import reader_went_away


def open_closed_descriptors() -> None:
    """Open the null device as stdin, stdout or stderr if it is closed.

    Otherwise the next file or socket would take its descriptor, and Python's own objects for it are None.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, so this one
            os.set_inheritable(descriptor, True)
        if getattr(sys, name) is None:
            mode = "w" if descriptor else "r"
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 -- lives as long as the process


def main() -> None:
    """Entry point of the console script `askmill`."""
    gc.disable()  # nothing is garbage while modules load; root.py enables it again
    open_closed_descriptors()
    if sys.argv[1:] in (["--help"], ["-h"]):
        with open(__file__.removesuffix("__init__.py") + "help.txt", encoding="utf-8") as file:  # noqa: PTH123 -- pathlib costs 10 ms
            text = file.read()
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            sys.exit(reader_went_away())
        return
    try:
        from askmill.jobs.cli.root import askmill  # noqa: PLC0415 -- the root help needs no click
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted before anything was started. Run the same command again to start.\n")
        sys.exit(130)
    askmill.main(prog_name="askmill")
