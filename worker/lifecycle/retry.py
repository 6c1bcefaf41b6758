"""What a fault means and how long to wait: one table, one policy, the only place that owns retries.

The SDK's own retries are off (it repeats POSTs without an idempotency key, openai-python `_base_client.py`),
and so are Celery's. `classify` reads the table from the top; the first row that fits decides.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from askmill.jobs.model.api_refusals import ErrorReport, clears_by_itself, model_missing, money_refused
from askmill.jobs.model.models import OnIncomplete
from askmill.worker.lifecycle.api_types import ApiError


class RequestKind(StrEnum):
    """Which request met the fault."""

    THREAD = "thread"
    """A free create: a thread, a conversation, an assistant."""
    CREATE = "create"
    """The create that is paid for."""
    READ = "read"
    CANCEL = "cancel"
    SUBMIT = "submit"


class ErrorClass(StrEnum):
    """What a fault means."""

    THROTTLED = "throttled"
    """Wait as told, slow all workers; nothing was done."""
    NOT_SENT = "unsent"
    """The request never left: repeat it."""
    REPLY_LOST = "lost"
    """No reply: it may have been carried out."""
    RETRY = "again"
    """Reading went wrong: read again."""
    LOCKED = "locked"
    """Another run is active on this thread."""
    GONE = "gone"
    """The server does not have this thread or run."""
    ENDED = "ended"
    """The run has ended meanwhile: look at it."""
    ROW = "row"
    """This row's input is refused."""
    BATCH = "batch"
    """A setting is refused: every row would meet the same."""


ROW_PARAMS = re.compile(r"^(input|messages|content|additional_messages|thread|attachments|file|image|items)")
"""Parameters that carry a row's own input; any other parameter is the profile's."""

NO_ASSISTANT = re.compile(r"No assistant found with id")
"""What the API says of one that was deleted, with status 404."""

NO_STORE = re.compile(r"vector store[^.]*not found|No vector store found", re.IGNORECASE)
"""What the API says of a deleted vector store that a create names (Azure: with status 400)."""

ACTIVE_RUN = re.compile(r"(?:already has an active run|while a run) (run_\w+|[\w-]+)?")
"""FORUM 511382, openai-python #1023: status 400, code null, the run's id in the text."""

MAKING = frozenset({RequestKind.THREAD, RequestKind.CREATE})
ANY = frozenset(RequestKind)


@dataclass(frozen=True)
class Rule:
    """One row of the table. Empty `codes`, `statuses`, `text`, `param` and `about` fit anything."""

    verdict: ErrorClass
    source: str
    on: frozenset[RequestKind] = ANY
    statuses: frozenset[int | None] = frozenset()
    codes: frozenset[str] = frozenset()
    text: str = ""
    param: str = ""
    sent: bool | None = None
    about: Callable[[ErrorReport], bool] | None = None
    """What the error is about, whatever its status and code (`jobs.model.api_refusals`)."""

    def fits(self, fault: ApiError, on: RequestKind) -> bool:
        """Whether this row of the table is about that fault."""
        return (
            on in self.on
            and (not self.statuses or fault.status in self.statuses)
            and (not self.codes or fault.code in self.codes or fault.type in self.codes)
            and (self.sent is None or fault.sent is self.sent)
            and re.search(self.param, fault.param or "") is not None
            and re.search(self.text, fault.message, re.IGNORECASE) is not None
            and (self.about is None or self.about(report_of(fault)))
        )


def report_of(fault: ApiError) -> ErrorReport:
    """The fault as `jobs.model.api_refusals` reads it."""
    return ErrorReport(fault.message, fault.code, fault.type, fault.param, fault.status, fault.retry_after_s)


def _statuses(*statuses: int | None) -> frozenset[int | None]:
    return frozenset(statuses)


UNCLEAR = _statuses(None, 200, 408, 409, *(status for status in range(500, 600) if status != 501))
"""No reply, a reply that is not the API's (200 without JSON), or a server in trouble."""

TABLE: tuple[Rule, ...] = (
    Rule(
        ErrorClass.BATCH,
        "a redirect or a proxy's refusal: about the way to the API, which every row takes",
        codes=frozenset({"redirected", "proxy_refused"}),
    ),
    Rule(ErrorClass.BATCH, "anchors.md pain 4: money, whatever the status or code", about=money_refused),
    Rule(
        ErrorClass.THROTTLED,
        "OpenRouter: a budget of requests in flight, told to wait",
        about=clears_by_itself,
    ),
    Rule(ErrorClass.BATCH, "OpenAI error guide: key, permission, region", statuses=_statuses(401, 403)),
    Rule(ErrorClass.BATCH, "every server's words for an unknown model: the profile's", about=model_missing),
    Rule(ErrorClass.BATCH, "issues: the stored assistant is unknown", text=NO_ASSISTANT.pattern),
    Rule(ErrorClass.BATCH, "a create that names a deleted vector store", text=NO_STORE.pattern),
    Rule(
        ErrorClass.BATCH,
        "and that cannot be made again (worker/backends/files.py)",
        codes=frozenset({"vector_store"}),
    ),
    Rule(ErrorClass.BATCH, "Assistants v2 guide: beta header refused", text=r"OpenAI-Beta"),
    Rule(
        ErrorClass.LOCKED,
        "careme #379, FORUM 1367791: a conversation's lock",
        codes=frozenset({"conversation_locked"}),
    ),
    Rule(ErrorClass.LOCKED, "FORUM 511382, openai-python #1023", text=ACTIVE_RUN.pattern),
    Rule(ErrorClass.THROTTLED, "FORUM 1366574: rate limit", statuses=_statuses(429)),
    Rule(
        ErrorClass.ENDED,
        'Azure reports: Runs in status "expired" do not accept tool outputs',
        text=r"do not accept tool outputs",
    ),
    Rule(
        ErrorClass.ENDED,
        "issues: Cannot cancel run with status 'completed'; a 2nd cancel answered 409 by compatible servers",
        on=frozenset({RequestKind.CANCEL}),
        statuses=_statuses(400, 404, 409, 422),
    ),
    Rule(ErrorClass.NOT_SENT, "refused connection, DNS: nothing left this machine", sent=False),
    Rule(
        ErrorClass.GONE,
        "a 404 right after a create has been seen (dotnet/extensions #7704): grace first",
        on=frozenset({RequestKind.READ, RequestKind.SUBMIT}),
        statuses=_statuses(404),
    ),
    Rule(
        ErrorClass.GONE,
        "api-semantics A3: the thread is gone",
        on=frozenset({RequestKind.CREATE}),
        statuses=_statuses(404),
        text=r"No (thread|conversation) found|(thread|conversation)[^.]* not found",
    ),
    Rule(
        ErrorClass.ROW,
        "CONTRACT: HTTP 404 that names this row's input, such as a file that the API no longer has",
        on=MAKING,
        statuses=_statuses(404),
        param=ROW_PARAMS.pattern,
    ),
    Rule(
        ErrorClass.BATCH,
        "langroid 0.68.0: 404 on every endpoint, a server without this API",
        on=MAKING,
        statuses=_statuses(404, 405, 501),
    ),
    Rule(
        ErrorClass.REPLY_LOST,
        "openai-python #1727: a create without a reply may have been carried out",
        on=frozenset({RequestKind.CREATE, RequestKind.SUBMIT}),
        statuses=UNCLEAR,
    ),
    Rule(
        ErrorClass.RETRY,
        "reading, cancelling and free creates can be repeated",
        statuses=UNCLEAR,
    ),
    Rule(
        ErrorClass.RETRY,
        "a read that is refused says nothing about the run",
        on=frozenset({RequestKind.READ, RequestKind.CANCEL}),
    ),
    Rule(ErrorClass.ROW, "OpenAI error guide: invalid_request_error about this input"),
)


def classify(fault: ApiError, on: RequestKind, row_fields: frozenset[str] = frozenset()) -> ErrorClass:
    """What `fault` means when request `on` met it. `row_fields`: what the row chose itself (`--override`)."""
    if "model" in row_fields and model_missing(report_of(fault)) and not money_refused(report_of(fault)):
        return ErrorClass.ROW
    verdict = next(rule.verdict for rule in TABLE if rule.fits(fault, on))
    if verdict is ErrorClass.ROW and _names_profile(fault.param, row_fields):
        return ErrorClass.BATCH
    return verdict


def _names_profile(param: str | None, row_fields: frozenset[str]) -> bool:
    return bool(param and not ROW_PARAMS.match(param) and param not in row_fields)


def assistant_gone(fault: ApiError) -> bool:
    """Whether the create was refused because its assistant is not there any more."""
    return fault.status == 404 and NO_ASSISTANT.search(fault.message) is not None


def store_gone(fault: ApiError, store_id: str | None) -> bool:
    """Whether it was refused because just this vector store is not there any more."""
    named = store_id is not None and store_id in fault.message
    return named and fault.status in {400, 404} and NO_STORE.search(fault.message) is not None


def may_pass(fault: ApiError) -> bool:
    """Whether reading again may help: no reply, too many requests, or a server in trouble."""
    return fault.code != "too_large" and fault.status in UNCLEAR | {429}


def blocking_run(fault: ApiError) -> str | None:
    """The id of the run that a lock's text names, if it does."""
    found = ACTIVE_RUN.search(fault.message)
    return found[1] if found else None


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently. Waits double from their base up to their cap, with jitter."""

    attempts: int = 3
    deadline_s: float | None = None
    on_incomplete: OnIncomplete = OnIncomplete.KEEP
    completion_limit: int | None = None
    """The attempt's max_completion_tokens, if any: what `raise-limit` can double."""
    prompt_limit: int | None = None
    row_fields: frozenset[str] = frozenset()
    """What the row chose itself (`--override`)."""
    create_limit_s: float = 60.0
    """The create's own time limit: until then, one without a reply may still be carried out."""
    gone_grace_s: float = 30.0
    """CONTRACT: a run the server no longer has, 404 after 30 s of grace."""
    cancel_grace_s: float = 30.0
    unreadable_s: float = 3600.0
    """How long past its deadline a run may be unreadable before it counts as failed."""
    tool_rounds: int = 64
    slot_wait_s: float = 5.0
    """A longer wait gives the slot back to other rows."""
    base_s: float = 0.5
    cap_s: float = 30.0
    attempt_base_s: float = 1.0
    attempt_cap_s: float = 60.0

    def wait_s(self, tries: int, draw: float) -> float:
        """Seconds before repeating a request: base · 2^tries up to the cap, times 0.5 to 1 by `draw`."""
        return _backoff_s(self.base_s, self.cap_s, tries, draw)

    def attempt_wait_s(self, attempt: int, draw: float) -> float:
        """Seconds before a new attempt."""
        return _backoff_s(self.attempt_base_s, self.attempt_cap_s, attempt - 1, draw)


def _backoff_s(base_s: float, cap_s: float, tries: int, draw: float) -> float:
    return min(cap_s, base_s * 2.0 ** min(tries, 16)) * (0.5 + 0.5 * draw)
