"""Threads and runs that another worker created, as this worker's key sees them.

If the server has none of them, although it has what this worker created, the two workers use keys of
different projects: then the runs are not lost, and another attempt would be paid for twice.
"""

from dataclasses import dataclass, field

from askmill.worker.lifecycle.events import Event, RunCreated, RunPolled, TakenOver, ThreadCreated
from askmill.worker.lifecycle.state import JobState

MOST_IDS = 20_000
"""Ids that are remembered; more are in flight in no worker."""


@dataclass
class TakenOverRuns:
    """Of one batch in this process."""

    own: dict[str, None] = field(default_factory=dict)
    """Ids of threads and runs that this process created, the oldest first."""
    unknown: dict[str, None] = field(default_factory=dict)
    """Those of other workers that the server does not have, in the order in which that was found."""
    other_known: bool = False
    own_known: bool = False

    def observe(self, event: Event, state: JobState) -> None:
        """Learn from an event: what was created here, and what the server has."""
        if isinstance(event, ThreadCreated | RunCreated):
            self.own[event.thread_id if isinstance(event, ThreadCreated) else event.run.id] = None
            if len(self.own) > MOST_IDS:
                del self.own[next(iter(self.own))]
        elif isinstance(event, RunPolled):
            own = bool({state.run_id, state.thread_id} & self.own.keys())
            self.own_known, self.other_known = self.own_known or own, self.other_known or not own

    def not_found(self, state: JobState) -> TakenOver | None:
        """How the others fare; None for a run or thread that this process created itself."""
        object_id = state.run_id or state.thread_id
        if object_id is None or {state.run_id, state.thread_id} & self.own.keys():
            return None
        self.unknown.setdefault(object_id)
        first = next(iter(self.unknown)) == object_id
        return TakenOver(len(self.unknown), first, self.other_known, self.own_known)
