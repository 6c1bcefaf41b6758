"""askmill for a notebook or a program: questions in, answers out, sync.

    import askmill

    rows = askmill.run("questions.csv", model="gpt-6-luna", budget_usd=5)
    print(rows[0].answer)

With workers running (`askmill worker`), a batch of any size need not be waited for:

    batch = askmill.submit("questions.csv", model="gpt-6-luna")
    print(askmill.status(batch).counts)
    rows = askmill.collect(batch, wait=True)

Settings come from the environment and `.env`, as for the commands. docs/how-to/library.md says more.
"""

from askmill.answers import Row, Status, Step
from askmill.calls import collect, run, status, submit
from askmill.errors import (
    AskmillError,
    InputFaults,
    Interrupted,
    NotFound,
    Unavailable,
    UsageError,
)
from askmill.options import Options

__all__ = [
    "AskmillError",
    "InputFaults",
    "Interrupted",
    "NotFound",
    "Options",
    "Row",
    "Status",
    "Step",
    "Unavailable",
    "UsageError",
    "collect",
    "run",
    "status",
    "submit",
]
