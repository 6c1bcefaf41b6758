"""The accuracy of batches with expected answers, measured on a sample of their rows and not at every look."""

import time
from dataclasses import dataclass, replace

from askmill.jobs.model.expected import Accuracy
from askmill.jobs.model.models import JobStatus
from askmill.jobs.results.collect import additions_of
from askmill.jobs.results.expected import measure
from askmill.jobs.store import Store
from askmill.jobs.store.views import StatusView

SAMPLED_ROWS = 5000
"""A larger batch is judged by so many of its rows, spread evenly; the interval says how sure that is."""
EVERY_S = 10.0
"""Interval between two measurements of a batch that runs."""
MAX_BATCHES = 200


@dataclass(frozen=True)
class _Measured:
    completed: int
    at_s: float
    accuracy: Accuracy


class Accuracies:
    """The newest accuracy of each batch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_batch: dict[str, _Measured] = {}

    async def add(self, view: StatusView) -> StatusView:
        """Return the view with the accuracy, where the batch has expected answers that can be judged here."""
        if view.batch.expected is None or (judge := additions_of(view.batch).judge) is None:
            return view
        batch, completed = view.batch.id, view.counts.by_status[JobStatus.COMPLETED]
        measured, now = self._by_batch.get(batch), time.monotonic()
        if measured is None or (completed != measured.completed and self._is_due(view, measured, now)):
            accuracy = await measure(judge, self._store.sample(batch, SAMPLED_ROWS))
            measured = self._by_batch[batch] = _Measured(completed, now, accuracy)
            while len(self._by_batch) > MAX_BATCHES:
                self._by_batch.pop(next(iter(self._by_batch)))
        return replace(view, accuracy=measured.accuracy)

    @staticmethod
    def _is_due(view: StatusView, measured: _Measured, now: float) -> bool:
        return view.batch.finished_at_ms is not None or now - measured.at_s > EVERY_S
