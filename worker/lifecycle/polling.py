"""When to poll a run: planned from the run times that its batch has shown, not at a fixed interval.

    no run has ended   the oldest runs are polled for all others, a tenth later each time; or by a server's
    hint some have ended    the plan: poll times t₁ < t₂ < … that cost least in polls and in delay past the
    plan      intervals from the last ends; at ages never polled, no wider than before the first end

Runs that are still running count as well as those that have ended. Pure: times come in, seconds go out.
How the plan is found, and how near it is to the optimum: docs/decisions/polling.md.
"""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from math import ceil, exp, floor, inf, log, sqrt

BIN = 0.015
"""Width of a bin of run ages: 1.5 %."""
MEMORY = 200
"""After so many ended runs, earlier observations count a third: the plan follows a batch that changes
speed."""
DELAY_WORTH = 140.0
"""Polls that a delay of one whole run time is worth; THRIFTY_WORTH where requests are limited."""
THRIFTY_WORTH = 50.0
NEAR, BEYOND = 0.1, 0.3
"""A delay counts in full up to a tenth of the run time and with 0.3 beyond it: half of the answers early is
better than none late."""
SHORTEST_S = 0.5
"""Shares of a run time are shares of at least half a second: nobody waits for milliseconds."""
FIRST_POLL_S, SHORTEST_WAIT_S = 0.05, 0.001
SCOUT_INTERVAL, SCOUTS, WATCHER = 0.1, 2, 50
"""At an age never polled before, so many runs are polled, and of those that wait every WATCHER-th; the others
learn from them."""
LONGEST_INTERVAL_S = 60.0
PRIOR_RUNS = 0.5
"""A prior of half a run, of which one would end in each factor e of its age."""
RECENT, ENDS = 0.3, 4.0
"""The hazard beyond the highest age seen comes from so many ends below it, or from so much of the age."""
FAR = 4.0
"""The plan reaches beyond the highest age seen by this factor."""
FEW = 0.005
"""No poll is placed for a smaller share of runs."""
KNOTS = 40
"""The share that ends is constant over so many stretches: single runs do not attract polls."""
NEW_PLAN_SHARE, RUNNING_PER_END = 6, 8
"""A new plan once a sixth of the observations are new; eight runs seen running count as one end."""
MOST_PLACES = 80
"""How many places for a poll a plan has; such a plan takes two milliseconds."""


def step_of(seconds: float) -> int:
    """The number of the 1.5 % bin that a time lies in."""
    return floor(log(max(seconds, 0.01)) / BIN)


def _end_of(number: int) -> float:
    return exp((number + 1) * BIN)


@dataclass
class RunTimes:
    """Run times of one batch on this worker, and the polls planned from them; all in seconds.

    For each bin of ages: how many runs reached it and how many ended in it. Runs that are still running, were
    released or cancelled count for the ages that they were seen to pass, and no more.
    """

    delay_worth: float = DELAY_WORTH
    _ended: defaultdict[int, float] = field(default_factory=partial(defaultdict, float))
    _entered: defaultdict[int, float] = field(default_factory=partial(defaultdict, float))
    """By bin: runs that enter there, less runs that are not followed beyond the bin before."""
    _mass: dict[int, float] = field(default_factory=dict)
    _observed_ends: float = 0.0
    _new_observations: float = 0.0
    _new_ends: int = 0
    _highest_bin: int = 0
    """The highest bin of the plan: a few ends beyond it require a new one."""
    _plan: tuple[float, ...] = ()
    _tail_interval: float = 0.0
    _scouted: list[float] = field(default_factory=list)
    _waiting: int = 0

    def running(self, seen_s: float, age_s: float) -> None:
        """A run last seen running at age `seen_s` is still running at `age_s`."""
        self._entered[step_of(seen_s)] += 1.0
        self._entered[step_of(age_s)] -= 1.0
        self._new_observations += 1 / RUNNING_PER_END

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None:
        """A run last seen running at `seen_s` has ended after more than `at_least_s`, at most `at_most_s`.

        The end is distributed over that interval as earlier runs suggest (expectation, as Turnbull's
        estimator): early or late polls, and a server's whole seconds, do not blur the estimate.
        """
        low, high = step_of(at_least_s), step_of(at_most_s)
        low = max(min(low, high), high - 300)
        weights = {number: self._mass.get(number, 0.0) + 1e-4 for number in range(low, high + 1)}
        total = sum(weights.values())
        self._entered[min(step_of(seen_s), low)] += 1.0
        for number, weight in weights.items():
            self._ended[number] += weight / total
            self._entered[number + 1] -= weight / total
        self._observed_ends, self._new_ends = self._observed_ends + 1, self._new_ends + 1
        self._new_observations += (
            1 if low < self._highest_bin else max(1, self._observed_ends / NEW_PLAN_SHARE / ENDS)
        )

    def next_poll_s(self, age_s: float, seen_s: float = 0.0, hint_s: float | None = None) -> float:
        """Seconds until the next poll of a run of age `age_s`, last seen running at `seen_s`; 0: now.

        Call it again after waiting: other runs may have ended meanwhile. A return of 0 counts as a poll.

        Args:
            age_s: the run's age now.
            seen_s: its age when it was last seen running.
            hint_s: the server's hint, from the reply to the last poll.
        """
        scouted = self._scouted[0] if len(self._scouted) == SCOUTS else 0.0
        after = max(seen_s, scouted)
        interval_s = max(FIRST_POLL_S, min(LONGEST_INTERVAL_S, after * SCOUT_INTERVAL))
        if hint_s is not None and seen_s >= scouted and not self._ended:
            interval_s = max(interval_s, min(hint_s, LONGEST_INTERVAL_S))
        planned = self._next_planned(seen_s) if self._ended else inf
        wait_s = min(planned, after + interval_s) - age_s
        wait_s = wait_s if wait_s >= SHORTEST_WAIT_S else 0.0
        if wait_s and planned > after + interval_s and seen_s < min(age_s, scouted):
            self._waiting = (self._waiting + 1) % WATCHER
            wait_s = wait_s if self._waiting else 0.0
        if not wait_s:
            self._scouted = sorted([*self._scouted, age_s])[-SCOUTS:]
        return wait_s

    def _best_interval(self, hazard: float) -> float:
        """The best interval, as a share of the age, at this hazard (ends in a factor e of age)."""
        return sqrt(2 / (self.delay_worth * hazard))

    def _next_planned(self, seen_s: float) -> float:
        """The age of the next poll after one at `seen_s`."""
        if not self._plan or self._new_observations * NEW_PLAN_SHARE >= self._observed_ends:
            self._plan_polls()
        place = bisect_right(self._plan, seen_s * (1 + BIN / 2) + 0.002)
        if place < len(self._plan):
            return self._plan[place]
        return max(self._plan[-1], seen_s * (1 + self._tail_interval), seen_s + FIRST_POLL_S)

    def _plan_polls(self) -> None:
        decay = exp(-self._new_ends / MEMORY)
        for counts in (self._ended, self._entered):
            for number in counts:
                counts[number] *= decay
        self._observed_ends, self._new_observations, self._new_ends = self._observed_ends * decay, 0.0, 0
        self._highest_bin = max(*self._ended, *self._entered)
        self._mass, hazard = estimated(self._ended, self._entered)
        self._tail_interval = min(1.0, self._best_interval(hazard))
        self._plan = best_plan(self._mass, self.delay_worth)


def ended_between(seen_s: float, age_s: float, reported_s: float | None) -> tuple[float, float]:
    """The ages between which a run ended: seen running, seen ended, and its duration as the server reports
    it.

    Servers report times in whole seconds, so `reported_s`, a difference of two, may be a second off either
    way.
    """
    if reported_s is None:
        return seen_s, age_s
    low_s, high_s = max(seen_s, reported_s - 1.0), min(age_s, reported_s + 1.0)
    return (low_s, high_s) if low_s <= high_s else (seen_s, age_s)


def estimated(ended: dict[int, float], entered: dict[int, float]) -> tuple[dict[int, float], float]:
    """The share of all runs that ends in each bin, and the hazard beyond them (ends in a factor e of age).

    The product-limit estimate of Kaplan and Meier, with the share that ends held constant over stretches.
    """
    few, first = FEW * sum(ended.values()), min(ended)
    for first in sorted(ended):
        few -= ended[first]
        if few < 0:
            break
    lowest, beyond = first - ceil(log(3) / BIN), max(*ended, *entered) + 1
    before = sum(weight for number, weight in entered.items() if number < lowest)
    at_risk = list(
        accumulate((entered.get(number, 0.0) for number in range(lowest, beyond)), initial=before)
    )[1:]
    ends = [ended.get(number, 0.0) for number in range(lowest, beyond)]
    hazard = _hazard_beyond(ends, at_risk)
    shares = [*_shares(ends, at_risk), *[1 - exp(-hazard * BIN)] * ceil(log(FAR) / BIN)]
    mass, left = dict[int, float](), 1.0
    for number, share in enumerate(shares, lowest):
        mass[number] = left * share
        left -= mass[number]
        if left < FEW:
            break
    return mass, hazard


def _shares(ends: list[float], at_risk: list[float]) -> list[float]:
    """Of the runs that reached each bin the share that ended there, constant over stretches of equal ends.

    The gap before a stretch's first end belongs to the stretch, unless it is much longer: then it separates
    two kinds of runs.
    """
    shares, enough = list[float](), max(ENDS, sum(ends) / KNOTS)
    start = first = 0
    gathered = 0.0

    def close(stop: int, ended: float) -> None:
        nonlocal start
        steps = stop - start
        passed = sum(at_risk[start:stop]) + PRIOR_RUNS * steps
        shares.extend([min(1.0, (ended + PRIOR_RUNS * BIN * steps) / passed)] * steps)
        start = stop

    for place, ended in enumerate(ends):
        if ended and not gathered:
            first = place
        gathered += ended
        last = place == len(ends) - 1
        if gathered >= enough or last:
            if first > start and sum(at_risk[start:first]) > 2 * sum(at_risk[first : place + 1]):
                close(first, 0.0)
            close(place + 1, gathered)
            gathered = 0.0
    return shares


def _hazard_beyond(ends: list[float], at_risk: list[float]) -> float:
    """The hazard beyond the last bin, from the last ends below it."""
    ended = passed = PRIOR_RUNS
    for step in range(1, min(len(ends), ceil(RECENT / BIN)) + 1):
        ended, passed = ended + ends[-step], passed + at_risk[-step] * BIN
        if ended >= ENDS + PRIOR_RUNS:
            break
    return ended / passed


def best_plan(mass: dict[int, float], delay_worth: float) -> tuple[float, ...]:
    """The poll times that minimise polls + `delay_worth` x cost of delay, by dynamic programming.

    `mass`: the share of the runs that ends in each bin. From the last poll backwards: the cost from poll i on
    is the least, over the next poll j, of P(still running at i) + cost of delay of those that end between +
    cost from j.
    """
    sums = _CumulativeSums(mass, delay_worth)
    places = _places([mass[number] for number in sorted(mass)])
    last = len(places) - 1
    cost, following = [0.0] * (last + 1), [last] * (last + 1)
    for i in range(last - 1, -1, -1):
        running, best = 1 - sums.share[places[i]], inf
        for j in range(i + 1, last + 1):
            late = sums.late(places[i], places[j])
            if late >= best:
                break
            if running + late + cost[j] < best:
                best, following[i] = running + late + cost[j], j
        cost[i] = best
    plan, i = [], 0
    while i < last:
        i = following[i]
        plan.append(sums.ends[places[i] - 1])
    return tuple(plan)


def _places(mass: list[float]) -> list[int]:
    """Where polls may be placed: closer together where more runs end (by the square root)."""
    so_far = list(accumulate(map(sqrt, mass)))
    ranks = [floor(MOST_PLACES * value / so_far[-1]) for value in so_far]
    return [0, *(place for place in range(1, len(mass)) if ranks[place] > ranks[place - 1]), len(mass)]


class _CumulativeSums:
    """The distribution as sums over its bins, so that the cost of any interval is one subtraction."""

    def __init__(self, mass: dict[int, float], delay_worth: float) -> None:
        numbers = sorted(mass)
        self.ends = [_end_of(number) for number in numbers]
        self.share, self._full, self._slope, self._offset = [0.0], [0.0], [0.0], [0.0]
        typical = _median(mass)
        for number, end in zip(numbers, self.ends, strict=True):
            middle = end * exp(-BIN / 2)
            # A compromise between shares of the run time and plain seconds, which the user and the slot
            # count.
            worth = delay_worth * mass[number] * sqrt(middle / typical)
            scale = worth / max(middle, SHORTEST_S)
            self.share.append(self.share[-1] + mass[number])
            self._full.append(self._full[-1] + worth)
            self._slope.append(self._slope[-1] + scale)
            self._offset.append(self._offset[-1] + scale * middle)

    def late(self, here: int, there: int) -> float:
        """The cost of noticing, at the end of bin `there` - 1, the runs that end from bin `here` on."""
        end = self.ends[there - 1]
        near = bisect_right(self.ends, end / (1 + NEAR), here, there)
        far = NEAR * (self._full[near] - self._full[here])
        return BEYOND * self._linear(here, there) + (1 - BEYOND) * (far + self._linear(near, there))

    def _linear(self, here: int, there: int) -> float:
        slope = self._slope[there] - self._slope[here]
        return self.ends[there - 1] * slope - (self._offset[there] - self._offset[here])


def _median(mass: dict[int, float]) -> float:
    left = 0.5
    for number in sorted(mass):
        left -= mass[number]
        if left <= 0:
            break
    return _end_of(number)
