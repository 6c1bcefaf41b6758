"""An estimate of Redis' clock, updated by each heartbeat and carried on by a clock that cannot jump.

sent ─▶ Redis reads its clock ─▶ received   Redis' time minus ours lies within bounds that each reply narrows
a reply outside the predicted bounds        Redis' clock has stepped: it was set by hand, or a failover

Jobs use a time of their own that no step moves (`ahead_s`), so a deadline keeps its length. The store keeps
Redis' time (`to_redis`, `from_redis`), which all workers share. Pure: readings of the clocks are arguments.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

DRIFT = 0.001
"""How fast two machines' clocks may drift apart: twice the rate at which NTP slews one."""
SLACK_S = 0.01
"""Redis reports whole milliseconds, as of the start of a script."""
STEPS_KEPT = 16
NOTICED_WITHIN_S = 15.0
"""All living workers have noticed a step by then: longer than a heartbeat's lifetime."""


@dataclass
class RedisClock:
    """The elapsed clock is `worker.runtime.context.elapsed_clock_s`, which cannot jump."""

    redis_ahead_s: float = 0.0
    """Redis' time, Unix seconds, less the elapsed clock: the middle of the bounds."""
    stepped_s: float = 0.0
    """How far Redis' clock has stepped, in all, since the first reply."""
    ahead_s: float = 0.0
    """The jobs' time less the elapsed clock: Redis' time without the steps since the first reply."""
    _bounds: tuple[float, float] | None = None
    """The bounds of Redis' time less the elapsed clock."""
    _updated_s: float = 0.0
    _steps: list[tuple[float, float]] = field(default_factory=list)
    """For each step: until when (jobs' time) times were stored without it, and `stepped_s` before it."""

    @property
    def uncertainty_s(self) -> float:
        """How wrong the estimate may be."""
        return float("inf") if self._bounds is None else (self._bounds[1] - self._bounds[0]) / 2

    def learn(self, sent_s: float, received_s: float, redis_s: float) -> float:
        """Update the estimate from one reply; returns the step of Redis' clock that it shows, 0 for none.

        A slow reply has wide bounds and does not change what a quick one has shown.

        Args:
            sent_s: when the request was sent, by the elapsed clock.
            received_s: when the reply was received, by the elapsed clock.
            redis_s: Redis' clock in the reply, Unix seconds.
        """
        low, high = redis_s - received_s - SLACK_S, redis_s - sent_s + SLACK_S
        step_s = self._update_bounds(low, high, received_s)
        low, high = self._bounds or (0.0, 0.0)
        self.redis_ahead_s = (low + high) / 2
        self.ahead_s = self.redis_ahead_s - self.stepped_s
        return step_s

    def _update_bounds(self, low: float, high: float, received_s: float) -> float:
        """Narrow the bounds; where the new ones exclude the old, replace them. Returns the step."""
        if self._bounds is None:
            self._bounds, self._updated_s = (low, high), received_s
            return 0.0
        drift_s = DRIFT * max(0.0, received_s - self._updated_s)
        old_low, old_high = self._bounds[0] - drift_s, self._bounds[1] + drift_s
        self._updated_s = received_s
        if low <= old_high and high >= old_low:
            self._bounds = max(low, old_low), min(high, old_high)
            return 0.0
        step_s = (low + high) / 2 - (old_low + old_high) / 2
        until_s = received_s + self.ahead_s + NOTICED_WITHIN_S
        self._steps = [*self._steps, (until_s, self.stepped_s)][-STEPS_KEPT:]
        self._bounds, self.stepped_s = (low, high), self.stepped_s + step_s
        return step_s

    def remember(self, steps: Iterable[tuple[float, float]]) -> None:
        """Take account of steps from before the first reply: other workers stored times before them.

        Args:
            steps: as `Store.clock_steps` returns them; the oldest first.
        """
        by_s, earlier = self.stepped_s, list[tuple[float, float]]()
        for noticed_s, step_s in reversed(list(steps)):
            until_s = noticed_s - by_s + NOTICED_WITHIN_S
            by_s -= step_s
            earlier.insert(0, (until_s, by_s))
        self._steps = [*earlier, *self._steps][-STEPS_KEPT:]

    def to_redis(self, time_s: float) -> float:
        """Convert a time of the jobs to Redis' clock as it is now."""
        return time_s + self.stepped_s

    def from_redis(self, time_s: float, now_s: float) -> float:
        """Convert a past time, stored by Redis' clock, to the jobs' time; `now_s` is the jobs' time now.

        A stored time may be from before or after a step. The latest possible one counts, so that no deadline
        is shortened.
        """
        offsets = [*self._steps, (now_s, self.stepped_s)]
        past = (time_s - by_s for end_s, by_s in offsets if time_s - by_s <= end_s)
        return min(now_s, max(past, default=now_s))
