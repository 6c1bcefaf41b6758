"""What a rule of the error table is: which errors of which requests it matches, and what follows."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from askmill.jobs.model.api_errors import ErrorReport
from askmill.jobs.model.fault_table import FaultSubject
from askmill.worker.lifecycle.api_types import ApiError


class RequestKind(StrEnum):
    """Which request failed."""

    SETUP = "setup"
    """A create that all rows share: the assistant, a vector store. Its refusal is no row's fault."""
    THREAD = "thread"
    """A row's create that costs nothing: a thread or a conversation, with the question on it."""
    CREATE = "create"
    """The create of a run, which costs money."""
    READ = "read"
    CANCEL = "cancel"
    SUBMIT = "submit"


class ErrorClass(StrEnum):
    """What follows from an error."""

    THROTTLED = "throttled"
    """Wait as the API asks, slow down all workers; nothing was carried out."""
    NOT_SENT = "unsent"
    """The request never left this machine: repeat it."""
    REPLY_LOST = "lost"
    """No reply: it may have been carried out."""
    RETRY = "again"
    """The request can be repeated as it is."""
    LOCKED = "locked"
    """Another run is active on this thread."""
    GONE = "gone"
    """The server does not have this thread or run."""
    ENDED = "ended"
    """The run has ended meanwhile: poll it."""
    ROW = "row"
    """This row's input is refused."""
    BATCH = "batch"
    """Every row would fail like this: the batch pauses."""
    UNCLEAR = "unclear"
    """Refused, and nothing says whether for this row or for all: other rows show it (`on_refusal`)."""


ANY_REQUEST = frozenset(RequestKind)


@dataclass(frozen=True)
class Rule:
    """One rule of the table. An empty `statuses`, `codes`, `text` or `param` matches anything."""

    error_class: ErrorClass
    subject: FaultSubject
    source: str
    """Where the rule comes from: an issue, a guide, a promise of askmill."""
    requests: frozenset[RequestKind] = ANY_REQUEST
    statuses: frozenset[int | None] = frozenset()
    codes: frozenset[str] = frozenset()
    text: str = ""
    param: str = ""
    sent: bool | None = None
    page: bool | None = None
    matches_report: Callable[[ErrorReport], bool] | None = None
    """A test of the error's words, whatever its status and code (`jobs.model.api_errors`)."""

    def matches(self, error: ApiError, request: RequestKind) -> bool:
        """Whether the rule applies to this error of this request."""
        return (
            request in self.requests
            and (not self.statuses or error.status in self.statuses)
            and (not self.codes or error.code in self.codes or error.type in self.codes)
            and (self.sent is None or error.sent is self.sent)
            and (self.page is None or error.page is self.page)
            and re.search(self.param, error.param or "") is not None
            and re.search(self.text, error.message, re.IGNORECASE) is not None
            and (self.matches_report is None or self.matches_report(report_of(error)))
        )


def report_of(error: ApiError) -> ErrorReport:
    """The error in the form that `jobs.model.api_errors` reads."""
    return ErrorReport(
        error.message,
        error.code,
        error.type,
        error.param,
        error.status,
        error.retry_after_s,
        error.nested_codes,
    )
