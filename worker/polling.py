"""When to look at a run again: planned from the run times its batch has shown, never a fixed second.

    nothing known   the oldest runs look for all others, each step a tenth later; a server's hint is heeded
    run times seen  the plan: look times t₁ < t₂ < … that cost least in looks and in late noticing
    past the plan   steps of a sixth of the run's age

Pure: times come in, seconds go out. How the plan is found, and how near it is to the best that can be:
docs/decisions/polling.md.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from math import ceil, exp, floor, log, sqrt

BIN = 0.015
"""Run times are counted in steps of 1.5 %."""
WINDOW = 400
"""The latest run times count: a batch whose runs grow slower or faster is followed."""
DELAY_WORTH = 145.0
"""Looks that one whole run's time of delay is worth; THRIFTY_WORTH where requests are limited."""
THRIFTY_WORTH = 52.0
NEAR, BEYOND = 0.1, 0.3
"""A delay counts in full up to a tenth of the run's time, and with 0.3 beyond: half of the answers soon,
rather than none late."""
SHORTEST_S = 0.5
"""What counts as 1 % is never less than of half a second: nobody waits for milliseconds."""
FIRST_LOOK_S = 0.05
SCOUT_STEP, SCOUTS = 1.1, 3
"""Before any run has ended, so many runs look at each age; the others learn from them."""
TAIL_STEP = 1.17
"""How a run is followed that takes longer than all known ones."""
LONGEST_BLIND_S = 60.0
PRIOR_DOWN, PRIOR_UP = 3.0, 4.0
"""Half a run more is imagined somewhere between a third and four times of what was seen."""
KNOTS = 40
"""The distribution is drawn from so many quantiles: single runs do not attract looks."""
NEWS = 6
"""A new plan once a sixth of the known run times is new."""
MOST_PLACES = 200
"""Where a look may be placed; a plan of so many takes a few milliseconds."""
_OWN = 0.02


def step_of(seconds: float) -> int:
    """The number of the 1.5 % step that a time lies in."""
    return floor(log(max(seconds, 0.01)) / BIN)


def _end_of(number: int) -> float:
    return exp((number + 1) * BIN)


@dataclass
class RunTimes:
    """The latest run times of one batch on this worker, and the looks planned from them; all in seconds."""

    delay_worth: float = DELAY_WORTH
    _window: deque[dict[int, float]] = field(default_factory=deque)
    _mass: dict[int, float] = field(default_factory=dict)
    _news: int = 0
    _plan: tuple[float, ...] = ()
    _scouted: list[float] = field(default_factory=list)

    def add(self, at_least_s: float, at_most_s: float) -> None:
        """Another run has ended after more than `at_least_s` and no more than `at_most_s`.

        What lies between is shared out as earlier runs suggest (an estimate by expectation, as Turnbull's):
        that a look came early or late, or that a server tells whole seconds, does not blur what is known.
        """
        low, high = step_of(at_least_s), step_of(at_most_s)
        low = max(min(low, high), high - 300)
        weights = {number: self._mass.get(number, 0.0) + _OWN for number in range(low, high + 1)}
        total = sum(weights.values())
        spread = {number: weight / total for number, weight in weights.items()}
        self._window.append(spread)
        self._count(spread, 1.0)
        if len(self._window) > WINDOW:
            self._count(self._window.popleft(), -1.0)
        self._news += 1

    def next_look_s(self, age_s: float, seen_s: float = 0.0, hint_s: float | None = None) -> float:
        """Seconds until a run of age `age_s`, last seen running at `seen_s`, is to be looked at; 0: now.

        After waiting, ask again: others may have told more meanwhile. An answer of 0 counts as a look.
        """
        if self._window:
            return unless_now(self._planned(seen_s) - age_s)
        scouted = self._scouted[0] if len(self._scouted) == SCOUTS else 0.0
        after = max(seen_s, scouted)
        step_s = max(FIRST_LOOK_S, min(LONGEST_BLIND_S, after * (SCOUT_STEP - 1)))
        if hint_s is not None and seen_s >= scouted:
            step_s = max(step_s, min(hint_s, LONGEST_BLIND_S))
        wait_s = unless_now(after + step_s - age_s)
        if wait_s:
            return wait_s
        self._scouted = sorted([*self._scouted, age_s])[-SCOUTS:]
        return 0.0

    def _planned(self, seen_s: float) -> float:
        """The age of the next look after one at `seen_s`."""
        if not self._plan or self._news * NEWS >= len(self._window):
            self._plan, self._news = best_plan(self._mass, self.delay_worth), 0
        place = bisect_right(self._plan, seen_s * (1 + BIN / 2) + 0.002)
        if place < len(self._plan):
            return self._plan[place]
        return max(self._plan[-1], seen_s * TAIL_STEP, seen_s + FIRST_LOOK_S)

    def _count(self, spread: dict[int, float], sign: float) -> None:
        for number, weight in spread.items():
            left = self._mass.get(number, 0.0) + sign * weight
            if left > 1e-9:
                self._mass[number] = left
            else:
                self._mass.pop(number, None)


def ended_between(seen_s: float, age_s: float, told_s: float | None) -> tuple[float, float]:
    """The ages between which a run ended: seen running, seen ended, and what its server tells.

    Servers tell moments in whole seconds, so `told_s`, the difference of two, is a second wrong either way.
    """
    if told_s is None:
        return seen_s, age_s
    low_s, high_s = max(seen_s, told_s - 1.0), min(age_s, told_s + 1.0)
    return (low_s, high_s) if low_s <= high_s else (seen_s, age_s)


def unless_now(wait_s: float) -> float:
    """A wait of less than a millisecond is none."""
    return wait_s if wait_s >= 0.001 else 0.0


def best_plan(seen: dict[int, float], delay_worth: float) -> tuple[float, ...]:
    """The look times that minimise looks + `delay_worth` x cost of delay, by dynamic programming.

    From the last look backwards: the cost of going on from look i is the least, over the next look j, of
    P(still running at i) + cost of delay of those that end between + cost from j.
    """
    drawn = _Drawn(seen, delay_worth)
    count = len(drawn.ends)
    places = sorted({*range(0, count, ceil(count / MOST_PLACES)), count})
    last = len(places) - 1
    cost, following = [0.0] * (last + 1), [last] * (last + 1)
    for i in range(last - 1, -1, -1):
        running, best = drawn.share[-1] - drawn.share[places[i]], float("inf")
        for j in range(i + 1, last + 1):
            late = drawn.late(places[i], places[j])
            if late >= best:
                break
            if running + late + cost[j] < best:
                best, following[i] = running + late + cost[j], j
        cost[i] = best
    plan, i = [], 0
    while i < last:
        i = following[i]
        plan.append(drawn.ends[places[i] - 1])
    return tuple(plan)


class _Drawn:
    """The distribution as sums over its steps, so that the cost of any interval is one subtraction."""

    def __init__(self, seen: dict[int, float], delay_worth: float) -> None:
        mass = _with_prior(_smoothed(seen))
        numbers = sorted(mass)
        self.ends = [_end_of(number) for number in numbers]
        self.share, self._full, self._slope, self._offset = [0.0], [0.0], [0.0], [0.0]
        typical = _median(seen)
        for number, end in zip(numbers, self.ends, strict=True):
            middle = end * exp(-BIN / 2)
            # Between shares of the run's time and plain seconds: who waits, and the slot, count seconds.
            worth = delay_worth * mass[number] * sqrt(middle / typical)
            scale = worth / max(middle, SHORTEST_S)
            self.share.append(self.share[-1] + mass[number])
            self._full.append(self._full[-1] + worth)
            self._slope.append(self._slope[-1] + scale)
            self._offset.append(self._offset[-1] + scale * middle)

    def late(self, here: int, there: int) -> float:
        """What it costs that runs ending in the steps from `here` on are seen at the end of `there` - 1."""
        end = self.ends[there - 1]
        near = bisect_right(self.ends, end / (1 + NEAR), here, there)
        far = NEAR * (self._full[near] - self._full[here])
        return BEYOND * self._linear(here, there) + (1 - BEYOND) * (far + self._linear(near, there))

    def _linear(self, here: int, there: int) -> float:
        slope = self._slope[there] - self._slope[here]
        return self.ends[there - 1] * slope - (self._offset[there] - self._offset[here])


def _median(seen: dict[int, float]) -> float:
    left = sum(seen.values()) / 2
    for number in sorted(seen):
        left -= seen[number]
        if left <= 0:
            break
    return _end_of(number)


def _smoothed(seen: dict[int, float]) -> dict[int, float]:
    """Equal shares between quantiles, spread evenly within."""
    total = sum(seen.values())
    each = total / min(KNOTS, max(1.0, total / 4))
    mass: dict[int, float] = {}
    numbers = sorted(seen)
    first, gathered = numbers[0], 0.0
    for number in numbers:
        gathered += seen[number]
        if gathered >= each or number == numbers[-1]:
            width = number + 1 - first
            mass.update(dict.fromkeys(range(first, number + 1), gathered / width))
            first, gathered = number + 1, 0.0
    return mass


def _with_prior(mass: dict[int, float]) -> dict[int, float]:
    low, high = min(mass) - ceil(log(PRIOR_DOWN) / BIN), max(mass) + ceil(log(PRIOR_UP) / BIN)
    steps = range(low, high, 4)
    prior = {number: 0.5 / len(steps) for number in steps}
    return {number: mass.get(number, 0.0) + prior.get(number, 0.0) for number in mass.keys() | prior.keys()}
