"""All errors that askmill raises, as one tree. Each message says what happened, where, and what to do next.

AskmillError                exit code
├── UsageError              2   an option, a setting or an argument is wrong
│   ├── ProfileError        2   the assistant's definition is wrong; names the field
│   ├── InputFaults         2   the faults of a file, each with its line
│   └── NotFound            2   a batch or row that is not in this Redis
└── Unavailable             3   a service does not answer or refuses the request
    ├── RedisUnavailable    3   names the address and how to start a server
    ├── ApiUnavailable      3   names the address and quotes the API
    │   └── KeyRefused      3   the key is missing, wrong or without the right
    ├── LocalFault          3   the embedded Redis, emulator or worker did not start
    └── WriteFault          3   a result file could not be written; the answers stay in Redis
"""

from collections.abc import Sequence
from dataclasses import dataclass


class AskmillError(Exception):
    """Base class. The command line prints the message as `Error: …`, without a traceback."""

    exit_code = 1


class UsageError(AskmillError):
    """A mistake in the command, a setting or the file; nothing was submitted."""

    exit_code = 2


class ProfileError(UsageError):
    """The profile cannot be read or the API would refuse it; the message names the field."""


class NotFound(UsageError):
    """There is no such batch or row in this Redis."""


class Unavailable(AskmillError):
    """Redis or the API cannot be reached or refuses the request; stored data stays."""

    exit_code = 3


class RedisUnavailable(Unavailable):
    """Redis does not answer or refuses the request."""


class ApiUnavailable(Unavailable):
    """The API does not answer or refuses the request."""


class KeyRefused(ApiUnavailable):
    """The API refuses the key, or wants one that is not set."""


class LocalFault(Unavailable):
    """A local process (embedded Redis, emulator or worker) did not start or has died."""


class WriteFault(Unavailable):
    """A file cannot be written. Answers that exist stay in Redis."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM (exit code 130). `batch` is the id of the stored batch, None if there is none yet."""

    def __init__(self, batch: str | None) -> None:
        super().__init__()
        self.batch = batch


@dataclass(frozen=True)
class Fault:
    """One fault of an input file. `line` counts from 1; None stands for the whole file."""

    line: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


class InputFaults(UsageError):
    """All faults of a file: the first 20 in `faults`, their number in `total`."""

    SHOWN = 20

    def __init__(self, file: str, faults: Sequence[Fault], total: int | None = None) -> None:
        self.file, self.faults = file, tuple(faults[: self.SHOWN])
        self.total = len(faults) if total is None else total
        super().__init__(self._message())

    def _message(self) -> str:
        if self.total == 1:
            return f"{self.file}: {self.faults[0]}"
        lines = [f"{self.file} has {self.total} faults; nothing was submitted:"]
        lines += [f"  {fault}" for fault in self.faults]
        if self.total > len(self.faults):
            lines.append(f"  … and {self.total - len(self.faults)} more")
        return "\n".join(lines)
