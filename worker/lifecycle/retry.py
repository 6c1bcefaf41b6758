"""What an API error means and how long to wait: one table and one policy. Nothing else in askmill retries.

The SDK's retries are off (it repeats POSTs without an idempotency key, openai-python `_base_client.py`), and
so are Celery's. `classify` reads the table from the top; the first rule that matches decides.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from askmill.jobs.model.api_errors import ErrorReport, clears_by_itself, model_missing, money_refused
from askmill.jobs.model.models import OnIncomplete
from askmill.worker.lifecycle.api_types import ApiError


class RequestKind(StrEnum):
    """Which request failed."""

    THREAD = "thread"
    """A create that costs nothing: a thread, a conversation, an assistant."""
    CREATE = "create"
    """The create of a run, which costs money."""
    READ = "read"
    CANCEL = "cancel"
    SUBMIT = "submit"


class ErrorClass(StrEnum):
    """What an error means."""

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
    """A setting is refused: every row would fail like this."""


ROW_PARAMS = re.compile(r"^(input|messages|content|additional_messages|thread|attachments|file|image|items)")
"""Parameters that carry a row's own input; any other parameter is the profile's."""

NO_ASSISTANT = re.compile(r"No assistant found with id")
"""What the API says of one that was deleted, with status 404."""

NO_STORE = re.compile(r"vector store[^.]*not found|No vector store found", re.IGNORECASE)
"""What the API says of a deleted vector store that a create names (Azure: with status 400)."""

ACTIVE_RUN = re.compile(
    r"(?:already has an active run|while a run\b)(?:[ :'\"`(]+((?=[\w-]*[\d_])[\w-]+))?", re.IGNORECASE
)
"""FORUM 511382, openai-python #1023: status 400, code null, mostly with the run's id in the text. An id has a
digit or an underscore; a word that follows, as in "while a run is active", has neither."""

CREATES = frozenset({RequestKind.THREAD, RequestKind.CREATE})
ANY_REQUEST = frozenset(RequestKind)


@dataclass(frozen=True)
class Rule:
    """One rule of the table. An empty `statuses`, `codes`, `text` or `param` matches anything."""

    error_class: ErrorClass
    source: str
    """Where the rule comes from: an issue, a guide, a promise of askmill."""
    requests: frozenset[RequestKind] = ANY_REQUEST
    statuses: frozenset[int | None] = frozenset()
    codes: frozenset[str] = frozenset()
    text: str = ""
    param: str = ""
    sent: bool | None = None
    matches_report: Callable[[ErrorReport], bool] | None = None
    """A test of the error's words, whatever its status and code (`jobs.model.api_errors`)."""

    def matches(self, error: ApiError, request: RequestKind) -> bool:
        """Whether the rule applies to this error of this request."""
        return (
            request in self.requests
            and (not self.statuses or error.status in self.statuses)
            and (not self.codes or error.code in self.codes or error.type in self.codes)
            and (self.sent is None or error.sent is self.sent)
            and re.search(self.param, error.param or "") is not None
            and re.search(self.text, error.message, re.IGNORECASE) is not None
            and (self.matches_report is None or self.matches_report(report_of(error)))
        )


def report_of(error: ApiError) -> ErrorReport:
    """The error in the form that `jobs.model.api_errors` reads."""
    return ErrorReport(error.message, error.code, error.type, error.param, error.status, error.retry_after_s)


def _statuses(*statuses: int | None) -> frozenset[int | None]:
    return frozenset(statuses)


UNCLEAR_STATUSES = _statuses(None, 200, 408, 409, *(status for status in range(500, 600) if status != 501))
"""No reply, a reply that is not the API's (200 without JSON), or a failing server."""

TABLE: tuple[Rule, ...] = (
    Rule(
        ErrorClass.BATCH,
        "a redirect or a proxy's refusal concerns the way to the API, which every row takes",
        codes=frozenset({"redirected", "proxy_refused"}),
    ),
    Rule(
        ErrorClass.BATCH,
        "anchors.md pain 4: money, whatever the status or code",
        matches_report=money_refused,
    ),
    Rule(
        ErrorClass.THROTTLED,
        "OpenRouter: a limit of requests in flight, with a Retry-After",
        matches_report=clears_by_itself,
    ),
    Rule(ErrorClass.BATCH, "OpenAI error guide: key, permission, region", statuses=_statuses(401, 403)),
    Rule(
        ErrorClass.BATCH,
        "an unknown model, in every server's words: the profile names it",
        matches_report=model_missing,
    ),
    Rule(ErrorClass.BATCH, "issues: the stored assistant is unknown", text=NO_ASSISTANT.pattern),
    Rule(ErrorClass.BATCH, "a create that names a deleted vector store", text=NO_STORE.pattern),
    Rule(
        ErrorClass.BATCH,
        "a vector store that cannot be created again (worker/backends/files.py)",
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
        requests=frozenset({RequestKind.CANCEL}),
        statuses=_statuses(400, 404, 409, 422),
    ),
    Rule(ErrorClass.NOT_SENT, "refused connection, DNS: nothing left this machine", sent=False),
    Rule(
        ErrorClass.GONE,
        "a 404 right after a create has been seen (dotnet/extensions #7704): grace first",
        requests=frozenset({RequestKind.READ, RequestKind.SUBMIT}),
        statuses=_statuses(404),
    ),
    Rule(
        ErrorClass.GONE,
        "api-semantics A3: the thread is gone",
        requests=frozenset({RequestKind.CREATE}),
        statuses=_statuses(404),
        text=r"No (thread|conversation) found|(thread|conversation)[^.]* not found",
    ),
    Rule(
        ErrorClass.ROW,
        "CONTRACT: HTTP 404 that names this row's input, such as a file that the API no longer has",
        requests=CREATES,
        statuses=_statuses(404),
        param=ROW_PARAMS.pattern,
    ),
    Rule(
        ErrorClass.BATCH,
        "langroid 0.68.0: 404 on every endpoint, a server without this API",
        requests=CREATES,
        statuses=_statuses(404, 405, 501),
    ),
    Rule(
        ErrorClass.REPLY_LOST,
        "openai-python #1727: a create without a reply may have been carried out",
        requests=frozenset({RequestKind.CREATE, RequestKind.SUBMIT}),
        statuses=UNCLEAR_STATUSES,
    ),
    Rule(
        ErrorClass.RETRY,
        "reading, cancelling and free creates can be repeated",
        statuses=UNCLEAR_STATUSES,
    ),
    Rule(
        ErrorClass.RETRY,
        "a read that is refused says nothing about the run",
        requests=frozenset({RequestKind.READ, RequestKind.CANCEL}),
    ),
    Rule(ErrorClass.ROW, "OpenAI error guide: invalid_request_error about this input"),
)


def classify(
    error: ApiError, request: RequestKind, row_overrides: frozenset[str] = frozenset()
) -> ErrorClass:
    """What an error of a request means.

    Args:
        error: the API's error.
        request: the request that failed.
        row_overrides: names of the settings that the row itself overrides (`--override`).
    """
    if "model" in row_overrides and model_missing(report_of(error)) and not money_refused(report_of(error)):
        return ErrorClass.ROW
    error_class = next(rule.error_class for rule in TABLE if rule.matches(error, request))
    of_profile = error.param and not ROW_PARAMS.match(error.param) and error.param not in row_overrides
    return ErrorClass.BATCH if error_class is ErrorClass.ROW and of_profile else error_class


def assistant_missing(error: ApiError) -> bool:
    """Whether the create was refused because its assistant no longer exists."""
    return error.status == 404 and NO_ASSISTANT.search(error.message) is not None


def vector_store_missing(error: ApiError, store_id: str | None) -> bool:
    """Whether the request was refused because this vector store no longer exists."""
    named = store_id is not None and store_id in error.message
    return named and error.status in {400, 404} and NO_STORE.search(error.message) is not None


def is_transient(error: ApiError) -> bool:
    """Whether repeating a read may help: no reply, too many requests, or a failing server."""
    return error.code != "too_large" and error.status in UNCLEAR_STATUSES | {429}


def blocking_run(error: ApiError) -> str | None:
    """The id of the run that a lock's message names, if it names one."""
    match = ACTIVE_RUN.search(error.message)
    return match[1] if match else None


@dataclass(frozen=True)
class RetryPolicy:
    """Limits, deadlines and backoff. Waits double from their base up to their cap, with jitter."""

    attempts: int = 3
    deadline_s: float | None = None
    on_incomplete: OnIncomplete = OnIncomplete.KEEP
    completion_limit: int | None = None
    """The profile's max_completion_tokens, if any, which `raise-limit` can double."""
    prompt_limit: int | None = None
    """The profile's max_prompt_tokens, if any, which `raise-limit` can double."""
    row_overrides: frozenset[str] = frozenset()
    """Names of the settings that the row itself overrides (`--override`)."""
    create_limit_s: float = 60.0
    """Until then, a create without a reply may still be carried out."""
    not_found_grace_s: float = 30.0
    """How long a server may answer 404 for a run before the run counts as gone (CONTRACT)."""
    cancel_grace_s: float = 30.0
    """How long a cancelled run may take to end."""
    uncancelled_s: float = 600.0
    """How long, from the cancel on, a run past its deadline is followed that the server does not end."""
    never_started_s: float = 120.0
    """How long a run may stay queued whose create failed at the server."""
    late_message_s: float = 10.0
    """How long the message of an ended run that wrote tokens may take to appear."""
    unreadable_s: float = 3600.0
    """How long requests may fail, beyond the run's own life, before the row fails."""
    tool_rounds: int = 64
    """How often a run may ask for functions."""
    slot_wait_s: float = 5.0
    """A longer wait releases the slot for other rows."""
    base_s: float = 0.5
    cap_s: float = 30.0
    attempt_base_s: float = 1.0
    attempt_cap_s: float = 60.0

    def wait_s(self, tries: int, jitter: float) -> float:
        """Seconds before repeating a request: base · 2^tries up to the cap, times 0.5 to 1 by `jitter`."""
        return _backoff_s(self.base_s, self.cap_s, tries, jitter)

    def settle_wait_s(self, elapsed_s: float, jitter: float) -> float:
        """Seconds before the next look at what must be passing, or at a run that is to end."""
        return min(self.cap_s, max(2 * self.base_s, elapsed_s / 4)) * (0.5 + 0.5 * jitter)

    def attempt_wait_s(self, attempt: int, jitter: float) -> float:
        """Seconds before the attempt after `attempt`, counted from 1."""
        return _backoff_s(self.attempt_base_s, self.attempt_cap_s, attempt - 1, jitter)


def _backoff_s(base_s: float, cap_s: float, tries: int, jitter: float) -> float:
    return min(cap_s, base_s * 2.0 ** min(tries, 16)) * (0.5 + 0.5 * jitter)
