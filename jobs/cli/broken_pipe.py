"""What the command line does when the reader of its output goes away (`| head`)."""

import os

BROKEN_PIPE = 141
"""128 plus the number of SIGPIPE, as a shell reports a program whose reader went away."""


def reader_went_away() -> int:
    """Return the exit code for a reader of our output that closed it, as a shell reports SIGPIPE.

    What is still buffered goes to the null device; Python would otherwise report it when it exits.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(null, descriptor)
    return BROKEN_PIPE
