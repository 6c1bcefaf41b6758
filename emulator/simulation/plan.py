"""The plan of a run: every status it will show and when, fixed at creation. Pure.

    queued ─▶ in_progress ─▶ completed │ failed │ incomplete │ expired │ cancelled
                  ▲    └───▶ requires_action ─(outputs)─▶ queued …
                  └ stuck: nothing more until expires_at
    any active status ─(cancel)─▶ cancelling ─▶ cancelled
    any active status ─(expires_at)─▶ expired

A plan is a list of marks `(time, status)`; the status at a moment is that of the last mark passed. So a run
needs no timer, costs nothing until it is read, and survives a restart of the emulator.
Times are Unix seconds.
"""

from dataclasses import dataclass, replace

from askmill.emulator.simulation.directives import Outcome

TERMINAL = frozenset({"completed", "failed", "incomplete", "expired", "cancelled"})
ACTIVE = frozenset({"queued", "in_progress", "requires_action", "cancelling"})

# A real run waits a little before it starts; a tenth of its time, at most half a second.
QUEUED_SHARE = 0.1
QUEUED_MAX_S = 0.5
CANCELLING_S = 0.01

Mark = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Marks in the order of time, the first at creation."""

    marks: tuple[Mark, ...]
    expires_at: float

    def status(self, now: float) -> str:
        for at, status in reversed(self.marks):
            if at <= now:
                return status
        return self.marks[0][1]

    def passed(self, status: str, now: float) -> float | None:
        """When the status began, if it has."""
        return next((at for at, name in self.marks if name == status and at <= now), None)

    def ends_at(self) -> float | None:
        """When the run ends if it is not cancelled; None: never."""
        at, status = self.marks[-1]
        return at if status in TERMINAL else None

    def last_work_span(self) -> tuple[float, float]:
        """Return its last working span: to its end or function calls, else to `expires_at`."""
        begin = next(at for at, status in reversed(self.marks) if status == "queued")
        waits = next((at for at, status in self.marks if at >= begin and status == "requires_action"), None)
        return begin, waits or self.ends_at() or self.expires_at

    def over(self, now: float) -> bool:
        at, status = self.marks[-1]
        return at <= now and status in TERMINAL

    def next_change(self, now: float) -> float | None:
        return next((at for at, _ in self.marks if at > now), None)

    def cancelled(self, now: float, cancelling_s: float = CANCELLING_S) -> "Plan":
        """The same run, cancelled now. The caller has checked that it is active or in an unknown status."""
        marks = *self._until(now), (now, "cancelling"), (now + cancelling_s, "cancelled")
        return replace(self, marks=marks)

    def resumed(self, now: float, run_s: float, then: str = "completed") -> "Plan":
        """The same run after its tool outputs came: queued again, and `then` `run_s` later."""
        marks = *self._until(now), *_work(now, run_s), (now + run_s, then)
        return replace(self, marks=_clipped(marks, self.expires_at))

    def _until(self, now: float) -> tuple[Mark, ...]:
        return tuple(mark for mark in self.marks if mark[0] <= now) or self.marks[:1]


def build_plan(outcome: Outcome, created: float, run_s: float, expires_s: float) -> Plan:
    """The plan of a new run that reaches its outcome after `run_s`.

    A run directed to expire has its `expires_at` there; an unknown status is shown for ever.
    """
    expires_at = created + expires_s
    end = created + run_s
    work = _work(created, run_s)
    match outcome.name:
        case "stuck":
            return Plan(_clipped(work, expires_at), expires_at)
        case "unknown":
            return Plan((*work, (end, outcome.arg)), expires_at)
        case "expired":
            return Plan((*work, (min(end, expires_at), "expired")), min(end, expires_at))
        case name:
            return Plan(_clipped((*work, (end, name)), expires_at), expires_at)


def _work(start: float, run_s: float) -> tuple[Mark, Mark]:
    return (start, "queued"), (start + min(run_s * QUEUED_SHARE, QUEUED_MAX_S), "in_progress")


def _clipped(marks: tuple[Mark, ...], expires_at: float) -> tuple[Mark, ...]:
    in_time = tuple(mark for mark in marks if mark[0] < expires_at)
    if in_time and len(in_time) == len(marks) and in_time[-1][1] in TERMINAL:
        return in_time
    return (*(in_time or marks[:1]), (expires_at, "expired"))
