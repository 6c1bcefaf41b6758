"""What an API error means and how long to wait: one table and one policy. Nothing else in askmill retries.

The SDK's retries are off (it repeats POSTs without an idempotency key, openai-python `_base_client.py`), and
so are Celery's.
"""

from dataclasses import dataclass

from askmill.jobs.model.api_errors import model_missing, requested_wait_s, suggests_retry
from askmill.jobs.model.fault_table import FaultSubject
from askmill.jobs.model.models import OnIncomplete, OnUnknown
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass, RequestKind, report_of
from askmill.worker.lifecycle.error_table import (
    ACTIVE_RUN,
    NO_ASSISTANT,
    NO_STORE,
    TABLE,
    UNCLEAR_STATUSES,
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What an error means: what follows, what it is about, and the rule's source."""

    error_class: ErrorClass
    subject: FaultSubject
    source: str = ""


OWN_MODEL = Fault(ErrorClass.ROW, FaultSubject.CONTENT, "the row itself names the model (`--override model`)")
OWN_SETTING = Fault(ErrorClass.ROW, FaultSubject.CONTENT, "the row itself sets the parameter (`--override`)")
PROFILE_MODEL = Fault(
    ErrorClass.BATCH, FaultSubject.PROFILE, "the profile's model, and words that it is not there"
)


def fault_of(
    error: ApiError,
    request: RequestKind,
    row_overrides: frozenset[str] = frozenset(),
    model: str | None = None,
) -> Fault:
    """What an error of a request means.

    Args:
        error: the API's error.
        request: the request that failed.
        row_overrides: names of the settings that the row itself overrides (`--override`).
        model: the model that was asked for.
    """
    rule = next(rule for rule in TABLE if rule.matches(error, request))
    if rule.subject in {FaultSubject.MONEY, FaultSubject.CONTENT}:
        return Fault(rule.error_class, rule.subject, rule.source)
    if model_missing(report_of(error), None if error.status in UNCLEAR_STATUSES else model):
        return OWN_MODEL if "model" in row_overrides else PROFILE_MODEL
    if rule.error_class in {ErrorClass.BATCH, ErrorClass.UNCLEAR} and error.param in row_overrides:
        return OWN_SETTING
    return Fault(rule.error_class, rule.subject, rule.source)


def classify(
    error: ApiError,
    request: RequestKind,
    row_overrides: frozenset[str] = frozenset(),
    model: str | None = None,
) -> ErrorClass:
    """What follows from an error; arguments as for `fault_of`."""
    return fault_of(error, request, row_overrides, model).error_class


def no_such_api(error: ApiError, request: RequestKind) -> bool:
    """Whether the server does not have the path of a create."""
    return error.status in {404, 405, 501} and fault_of(error, request).subject is FaultSubject.SERVER


LONG_WAIT_S = 600.0
"""A longer wait with which a server refuses a request pauses the batch until then (CONTRACT)."""


def server_wait_s(error: ApiError) -> float:
    """How long a failing server asks to wait, in seconds, at most ten minutes; 0: it names no time."""
    return min(requested_wait_s(report_of(error)) or 0.0, LONG_WAIT_S)


def slows_down(error: ApiError) -> bool:
    """Whether an error whose request may have been carried out asks to come back later all the same."""
    return suggests_retry(report_of(error)) or server_wait_s(error) > 0


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
    on_unknown: OnUnknown = OnUnknown.AGAIN
    stateless: bool = False
    """The server keeps nothing (chat completions): a call's reply is its whole run, and a lost one cannot be
    looked up."""
    server_failures: int = 12
    """How often in a row a server may answer a call with an error of its own before the attempt counts: with
    three attempts longer than it takes an unreachable API to pause the batch."""
    completion_limit: int | None = None
    """The profile's max_completion_tokens, if any, which `raise-limit` can double."""
    prompt_limit: int | None = None
    """The profile's max_prompt_tokens, if any, which `raise-limit` can double."""
    row_overrides: frozenset[str] = frozenset()
    """Names of the settings that the row itself overrides (`--override`)."""
    model: str | None = None
    """The model that is asked for."""
    tier: str | None = None
    """The service tier that is asked for."""
    tier_fallback: bool = False
    """A row for which the flex tier has no capacity is asked in the standard tier (`--tier-fallback`)."""
    tier_tries: int = 2
    """How often a row waits alone for capacity before its whole batch waits."""
    tier_base_s: float = 10.0
    tier_cap_s: float = 300.0
    """The batch's first and longest wait for capacity."""
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
    partial_s: float = 120.0
    """How long the rest of an answer is asked for whose text is read: names of files, steps."""
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
        return backoff_s(self.base_s, self.cap_s, tries, jitter)

    def settle_wait_s(self, elapsed_s: float, jitter: float) -> float:
        """Seconds before the next check of what must be passing, or at a run that is to end."""
        return min(self.cap_s, max(2 * self.base_s, elapsed_s / 4)) * (0.5 + 0.5 * jitter)

    def tier_wait_s(self, tries: int, jitter: float) -> float:
        """Seconds that a batch waits for capacity in its tier, after so many waits of a row."""
        return backoff_s(self.tier_base_s, self.tier_cap_s, tries, jitter)

    def attempt_wait_s(self, attempt: int, jitter: float) -> float:
        """Seconds before the attempt after `attempt`, counted from 1."""
        return backoff_s(self.attempt_base_s, self.attempt_cap_s, attempt - 1, jitter)


def backoff_s(base_s: float, cap_s: float, tries: int, jitter: float) -> float:
    """Seconds: base · 2^tries up to the cap, times 0.5 to 1 by `jitter`."""
    return min(cap_s, base_s * 2.0 ** min(tries, 16)) * (0.5 + 0.5 * jitter)
