"""The faults of one batch in this process, gathered into one report a second: a failing API costs no more."""

import secrets
from dataclasses import dataclass

from askmill.jobs.store.waits import Fault
from askmill.worker.lifecycle.api_types import ApiError
from askmill.worker.lifecycle.error_rule import ErrorClass
from askmill.worker.lifecycle.retry import Fault as Meaning

REPORT_INTERVAL_S = 1.0
EXPECTED = frozenset({ErrorClass.LOCKED, ErrorClass.GONE, ErrorClass.ENDED, ErrorClass.ROW})
"""Errors that are no fault of the API: a run's own course, and what the row's result says."""


@dataclass
class FaultLog:
    """Faults of one kind since the last report."""

    kind: str = ""
    words: str = ""
    request: str = ""
    count: int = 0
    reported_s: float = float("-inf")

    def add(self, error: ApiError, meaning: Meaning, now_s: float) -> Fault | None:
        """Count a fault; returns the report when one is due: at a new kind, else once a second."""
        if meaning.error_class in EXPECTED:
            return None
        kind = error.code or error.type or f"http_{error.status}"
        new = kind != self.kind
        self.kind, self.words, self.request = kind, str(error), error.request
        self.count = 1 if new else self.count + 1
        return self.report(now_s) if new or now_s - self.reported_s >= REPORT_INTERVAL_S else None

    def report(self, now_s: float) -> Fault | None:
        """The faults that are not reported yet; None when there are none."""
        if not self.count:
            return None
        fault = Fault(self.kind, self.words, self.request, self.count, secrets.token_hex(8))
        self.count, self.reported_s = 0, now_s
        return fault
