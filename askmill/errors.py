"""The errors a person can meet, as one tree; each message says what happened, where, and what to do next.

AskmillError                exit code
├── UsageError              2   an option, a setting or an argument that cannot be right
│   ├── ProfileError        2   the assistant's definition, with the field
│   ├── InputFaults         2   the faults of a file, each with its line
│   └── NotFound            2   a batch or row that is not in this Redis
└── Unavailable             3   something we need does not answer or refuses us
    ├── RedisUnavailable    3   the address tried and how to start one
    ├── ApiUnavailable      3   the API's address and its words
    ├── LocalFault          3   the embedded Redis, emulator or worker could not be started
    └── WriteFault          3   a file of results could not be written; the answers stay in Redis
"""

from collections.abc import Sequence
from dataclasses import dataclass


class AskmillError(Exception):
    """What the command line prints as `Error: …`; never a traceback."""

    exit_code = 1


class UsageError(AskmillError):
    """The person can mend it in the command or the file; nothing was submitted."""

    exit_code = 2


class ProfileError(UsageError):
    """A profile that the API would refuse or that cannot be read: names the field."""


class NotFound(UsageError):
    """No such batch or row in this Redis."""


class Unavailable(AskmillError):
    """Redis or the API cannot be reached or refuses us; what is stored stays."""

    exit_code = 3


class RedisUnavailable(Unavailable):
    """Redis at the named address does not answer."""


class ApiUnavailable(Unavailable):
    """The API at the named address does not answer or refuses us."""


class LocalFault(Unavailable):
    """A process of the embedded default could not be started or has died."""


class WriteFault(Unavailable):
    """The file system refuses what was to be written; rows may have been asked, and their answers stay."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or what counts as one (exit 130); `batch` is what had been stored by then."""

    def __init__(self, batch: str | None) -> None:
        super().__init__()
        self.batch = batch


@dataclass(frozen=True)
class Fault:
    """One fault of an input file. `line` counts from 1; None means the file as a whole."""

    line: int | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.line is None else f"line {self.line}: {self.reason}"


class InputFaults(UsageError):
    """All faults of a file, reported together: the first 20 and a count."""

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
