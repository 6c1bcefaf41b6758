"""Redis' time as a worker knows it: learnt at each heartbeat, carried on by a clock that cannot jump.

sent ─▶ Redis reads its clock ─▶ received   its time less ours lies within bounds that each reply narrows
a reply whose bounds miss the predicted     Redis' clock has stepped: set by hand, or a failover

Jobs live on a time of their own that no step moves (`ahead_s`): a deadline or a window counted on it keeps
its length. What is stored is Redis' time (`to_redis`, `from_redis`): it is what workers have in common.
Pure: readings come in.
"""

from dataclasses import dataclass, field

DRIFT = 0.001
"""How fast two machines' clocks may drift apart: twice what NTP may slew one of them."""
SLACK_S = 0.01
"""Redis tells whole milliseconds, as of when it began a script."""
ERAS_KEPT = 16
NOTICED_WITHIN_S = 15.0
"""All living workers have noticed a step by then: it is longer than a heartbeat's lifetime."""


@dataclass
class RedisClock:
    """`elapsed_s` is always a reading of the clock that cannot jump (worker.runtime.context.elapsed_clock_s)."""

    redis_ahead_s: float = 0.0
    """Redis' time, Unix seconds, less the elapsed clock: the middle of what is known."""
    stepped_s: float = 0.0
    """How far Redis' clock has stepped, in all, since we first heard of it."""
    ahead_s: float = 0.0
    """The jobs' own time less the elapsed clock: Redis' as it was at first, and no step since."""
    _bounds: tuple[float, float] | None = None
    """Between which Redis' time less the elapsed clock lies."""
    _learnt_s: float = 0.0
    _eras: list[tuple[float, float]] = field(default_factory=list)
    """Before each step: until when, of the jobs' time, moments were stored by it, and `stepped_s` then."""

    @property
    def uncertainty_s(self) -> float:
        """How wrong it may be."""
        return float("inf") if self._bounds is None else (self._bounds[1] - self._bounds[0]) / 2

    def learn(self, sent_s: float, received_s: float, redis_s: float) -> float:
        """Redis told `redis_s` between two moments of the elapsed clock. Returns the step noticed; 0: none.

        A slow reply has wide bounds, so it teaches nothing that a quick one has not.
        """
        low, high = redis_s - received_s - SLACK_S, redis_s - sent_s + SLACK_S
        step_s = self._step(low, high, received_s)
        low, high = self._bounds or (0.0, 0.0)
        self.redis_ahead_s = (low + high) / 2
        self.ahead_s = self.redis_ahead_s - self.stepped_s
        return step_s

    def _step(self, low: float, high: float, received_s: float) -> float:
        """Narrow the bounds by these; where they exclude each other, take these. Returns by how much."""
        if self._bounds is None:
            self._bounds, self._learnt_s = (low, high), received_s
            return 0.0
        drift_s = DRIFT * max(0.0, received_s - self._learnt_s)
        known_low, known_high = self._bounds[0] - drift_s, self._bounds[1] + drift_s
        self._learnt_s = received_s
        if low <= known_high and high >= known_low:
            self._bounds = max(low, known_low), min(high, known_high)
            return 0.0
        step_s = (low + high) / 2 - (known_low + known_high) / 2
        until_s = received_s + self.ahead_s + NOTICED_WITHIN_S
        self._eras = [*self._eras, (until_s, self.stepped_s)][-ERAS_KEPT:]
        self._bounds, self.stepped_s = (low, high), self.stepped_s + step_s
        return step_s

    def to_redis(self, moment_s: float) -> float:
        """A moment of the jobs' time as Redis' clock has it now."""
        return moment_s + self.stepped_s

    def from_redis(self, moment_s: float, now_s: float) -> float:
        """A past moment that was stored by Redis' clock, as one of the jobs' time; `now_s` is of that too.

        Of all times it may mean, before this step or after that, the latest: no deadline is shortened.
        """
        eras = [*self._eras, (now_s, self.stepped_s)]
        past = (moment_s - by_s for end_s, by_s in eras if moment_s - by_s <= end_s)
        return min(now_s, max(past, default=now_s))
