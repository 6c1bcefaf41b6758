"""The Python API: questions in, answers out, for a notebook or a program. `askmill.aio` has coroutines.

    import askmill

    rows = askmill.run("questions.csv", model="gpt-5-mini", budget_usd=5)
    print(rows[0].answer)

With workers running (`askmill worker`), you can submit a batch and collect it later:

    batch = askmill.submit("questions.csv", model="gpt-5-mini")
    print(askmill.status(batch).counts)
    rows = askmill.collect(batch, wait=True)

Settings come from the environment and `.env`, as for the command line. `askmill.__version__` is the installed
version. See docs/how-to/library.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from askmill import aio
    from askmill.client import cancel, collect, compare, estimate, retry, run, status, submit
    from askmill.comparison import Comparison
    from askmill.errors import AskmillError, InputFaults, Interrupted, NotFound, Unavailable, UsageError
    from askmill.options import Options
    from askmill.results import Results
    from askmill.types import ComparedBatch, Estimate, Row, Status, Step

    __version__: str

_MODULE_OF = {
    **dict.fromkeys(
        ("cancel", "collect", "compare", "estimate", "retry", "run", "status", "submit"), "client"
    ),
    **dict.fromkeys(
        ("AskmillError", "InputFaults", "Interrupted", "NotFound", "Unavailable", "UsageError"), "errors"
    ),
    "Comparison": "comparison",
    "Options": "options",
    "Results": "results",
    **dict.fromkeys(("ComparedBatch", "Estimate", "Row", "Status", "Step"), "types"),
}
"""Public name → its module. Imported at first use, because every worker and emulator imports this package."""

__all__ = [
    "AskmillError",
    "ComparedBatch",
    "Comparison",
    "Estimate",
    "InputFaults",
    "Interrupted",
    "NotFound",
    "Options",
    "Results",
    "Row",
    "Status",
    "Step",
    "Unavailable",
    "UsageError",
    "__version__",
    "aio",
    "cancel",
    "collect",
    "compare",
    "estimate",
    "retry",
    "run",
    "status",
    "submit",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 -- 15 ms

        value: Any = version("askmill")
    elif name == "aio":
        from importlib import import_module  # noqa: PLC0415 -- most starts need no public name

        value = import_module("askmill.aio")
    elif name in _MODULE_OF:
        from importlib import import_module  # noqa: PLC0415 -- most starts need no public name

        value = getattr(import_module(f"askmill.{_MODULE_OF[name]}"), name)
    else:
        raise AttributeError(f"module 'askmill' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
