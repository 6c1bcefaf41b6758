"""When to look at a run again: planned from what its batch's runs have shown, never a fixed second.

    nothing known   the oldest runs look for all others, each step a tenth later; a server's hint is heeded
    some have ended the plan: look times t₁ < t₂ < … that cost least in looks and in late noticing
    past the plan   steps as wide as the ends seen last suggest; where nobody has looked, no wider than above

Runs that are still running count as well as those that have ended. Pure: times come in, seconds go out.
How the plan is found, and how near it is to the best that can be: docs/decisions/polling.md.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil, exp, floor, inf, log, sqrt

BIN = 0.015
"""Ages are counted in steps of 1.5 %."""
MEMORY = 200
"""Runs that end until what was seen counts a third: a batch whose runs grow slower or faster is followed."""
DELAY_WORTH = 140.0
"""Looks that one whole run's time of delay is worth; THRIFTY_WORTH where requests are limited."""
THRIFTY_WORTH = 50.0
NEAR, BEYOND = 0.1, 0.3
"""A delay counts in full up to a tenth of the run's time, and with 0.3 beyond: half of the answers soon,
rather than none late."""
SHORTEST_S = 0.5
"""What counts as 1 % is never less than of half a second: nobody waits for milliseconds."""
FIRST_LOOK_S = 0.05
SCOUT_STEP, SCOUTS, WATCHER = 0.1, 2, 50
"""Where nobody has looked yet, so many runs look at each age, and of those that wait every WATCHER-th;
the others learn from them."""
LONGEST_BLIND_S = 60.0
IMAGINED = 0.5
"""Half a run is imagined beside those seen, of which one would end in each factor e of its age."""
RECENT, ENDS = 0.3, 4.0
"""What comes beyond the highest age seen is taken from so many ends below it, or from so much of the age."""
FAR = 4.0
"""The plan reaches beyond the highest age seen by this factor."""
FEW = 0.005
"""Where so small a share of the runs ends, or is left, no look is placed for it."""
KNOTS = 40
"""The share that ends is held constant over so many stretches: single runs do not attract looks."""
NEWS, RUNNING_NEWS = 6, 8
"""A new plan once a sixth of what is known is new; eight runs seen running are as much news as one end."""
MOST_PLACES = 80
"""Where a look may be placed; a plan of so many takes two milliseconds."""


def step_of(seconds: float) -> int:
    """The number of the 1.5 % step that a time lies in."""
    return floor(log(max(seconds, 0.01)) / BIN)


def _end_of(number: int) -> float:
    return exp((number + 1) * BIN)


@dataclass
class RunTimes:
    """What one batch's runs on this worker have shown, and the looks planned from it; all in seconds.

    Of each step of age is known how many runs came into it and how many ended in it: the runs that are still
    running, were handed away or cancelled count for the ages that they were seen to pass, and no more.
    """

    delay_worth: float = DELAY_WORTH
    _ended: dict[int, float] = field(default_factory=dict)
    _came: dict[int, float] = field(default_factory=dict)
    """By step: runs that come in there, less runs that are not followed beyond the step before."""
    _mass: dict[int, float] = field(default_factory=dict)
    _known: float = 0.0
    _news: float = 0.0
    _new_ends: int = 0
    _reach: int = 0
    """The highest step that the plan knows: a few ends there are news."""
    _plan: tuple[float, ...] = ()
    _tail_step: float = 0.0
    _scouted: list[float] = field(default_factory=list)
    _waiting: int = 0

    def running(self, seen_s: float, age_s: float) -> None:
        """A run last seen running at `seen_s` still runs at `age_s`."""
        _add(self._came, step_of(seen_s), 1.0)
        _add(self._came, step_of(age_s), -1.0)
        self._news += 1 / RUNNING_NEWS

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None:
        """A run last seen running at `seen_s` has ended after more than `at_least_s`, at most `at_most_s`.

        What lies between is shared out as earlier runs suggest (an estimate by expectation, as Turnbull's):
        that a look came early or late, or that a server tells whole seconds, does not blur what is known.
        """
        low, high = step_of(at_least_s), step_of(at_most_s)
        low = max(min(low, high), high - 300)
        weights = {number: self._mass.get(number, 0.0) + 1e-4 for number in range(low, high + 1)}
        total = sum(weights.values())
        _add(self._came, min(step_of(seen_s), low), 1.0)
        for number, weight in weights.items():
            _add(self._ended, number, weight / total)
            _add(self._came, number + 1, -weight / total)
        self._known, self._new_ends = self._known + 1, self._new_ends + 1
        self._news += 1 if low < self._reach else max(1, self._known / NEWS / ENDS)

    def next_look_s(self, age_s: float, seen_s: float = 0.0, hint_s: float | None = None) -> float:
        """Seconds until a run of age `age_s`, last seen running at `seen_s`, is to be looked at; 0: now.

        After waiting, ask again: others may have told more meanwhile. An answer of 0 counts as a look.
        """
        scouted = self._scouted[0] if len(self._scouted) == SCOUTS else 0.0
        after = max(seen_s, scouted)
        step_s = max(FIRST_LOOK_S, min(LONGEST_BLIND_S, after * SCOUT_STEP))
        if hint_s is not None and seen_s >= scouted and not self._ended:
            step_s = max(step_s, min(hint_s, LONGEST_BLIND_S))
        planned = self._planned(seen_s) if self._ended else inf
        wait_s = unless_now(min(planned, after + step_s) - age_s)
        if wait_s and planned > after + step_s and seen_s < min(age_s, scouted):
            self._waiting = (self._waiting + 1) % WATCHER
            wait_s = wait_s if self._waiting else 0.0
        if not wait_s:
            self._scouted = sorted([*self._scouted, age_s])[-SCOUTS:]
        return wait_s

    def _step(self, hazard: float) -> float:
        """The best step, as a share of the age, where so many of the runs end in a factor e of their age."""
        return sqrt(2 / (self.delay_worth * hazard))

    def _planned(self, seen_s: float) -> float:
        """The age of the next look after one at `seen_s`."""
        if not self._plan or self._news * NEWS >= self._known:
            self._make_plan()
        place = bisect_right(self._plan, seen_s * (1 + BIN / 2) + 0.002)
        if place < len(self._plan):
            return self._plan[place]
        return max(self._plan[-1], seen_s * (1 + self._tail_step), seen_s + FIRST_LOOK_S)

    def _make_plan(self) -> None:
        kept = exp(-self._new_ends / MEMORY)
        self._ended = {number: weight * kept for number, weight in self._ended.items()}
        self._came = {number: weight * kept for number, weight in self._came.items()}
        self._known, self._news, self._new_ends = self._known * kept, 0.0, 0
        self._reach = max(*self._ended, *self._came)
        self._mass, hazard = estimated(self._ended, self._came)
        self._tail_step = min(1.0, self._step(hazard))
        self._plan = best_plan(self._mass, self.delay_worth)


def _add(counts: dict[int, float], number: int, weight: float) -> None:
    counts[number] = counts.get(number, 0.0) + weight


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


def estimated(ended: dict[int, float], came: dict[int, float]) -> tuple[dict[int, float], float]:
    """The share of all runs that ends in each step; and of those left, how many end in a factor e of age.

    The share of those that came into a step that ended there tells how many of all are left behind it: the
    product-limit estimate of Kaplan and Meier, with that share held constant over stretches.
    """
    few, first = FEW * sum(ended.values()), min(ended)
    for first in sorted(ended):
        few -= ended[first]
        if few < 0:
            break
    lowest, beyond = first - ceil(log(3) / BIN), max(*ended, *came) + 1
    before = sum(weight for number, weight in came.items() if number < lowest)
    at_risk = list(accumulate((came.get(number, 0.0) for number in range(lowest, beyond)), initial=before))[
        1:
    ]
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
    """Of the runs that came into each step the share that ended there, constant over stretches of equal ends.

    The wait before a stretch's first end belongs to it, unless it is much longer than the stretch: a gap
    between two kinds of runs stays one.
    """
    shares, enough = list[float](), max(ENDS, sum(ends) / KNOTS)
    start = first = 0
    gathered = 0.0

    def close(stop: int, ended: float) -> None:
        nonlocal start
        steps = stop - start
        passed = sum(at_risk[start:stop]) + IMAGINED * steps
        shares.extend([min(1.0, (ended + IMAGINED * BIN * steps) / passed)] * steps)
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
    """Ends in a factor e of age, of each run that gets there: as the last ends below suggest."""
    ended = passed = IMAGINED
    for step in range(1, min(len(ends), ceil(RECENT / BIN)) + 1):
        ended, passed = ended + ends[-step], passed + at_risk[-step] * BIN
        if ended >= ENDS + IMAGINED:
            break
    return ended / passed


def best_plan(mass: dict[int, float], delay_worth: float) -> tuple[float, ...]:
    """The look times that minimise looks + `delay_worth` x cost of delay, by dynamic programming.

    `mass`: the share of the runs that ends in each step. From the last look backwards: the cost of going on
    from look i is the least, over the next look j, of P(still running at i) + cost of delay of those that end
    between + cost from j.
    """
    drawn = _Drawn(mass, delay_worth)
    places = _places([mass[number] for number in sorted(mass)])
    last = len(places) - 1
    cost, following = [0.0] * (last + 1), [last] * (last + 1)
    for i in range(last - 1, -1, -1):
        running, best = 1 - drawn.share[places[i]], inf
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


def _places(mass: list[float]) -> list[int]:
    """Where looks may be placed: closer together where more runs end, as the best ones are (by the root)."""
    so_far = list(accumulate(map(sqrt, mass)))
    wanted = [floor(MOST_PLACES * value / so_far[-1]) for value in so_far]
    return [0, *(place for place in range(1, len(mass)) if wanted[place] > wanted[place - 1]), len(mass)]


class _Drawn:
    """The distribution as sums over its steps, so that the cost of any interval is one subtraction."""

    def __init__(self, mass: dict[int, float], delay_worth: float) -> None:
        numbers = sorted(mass)
        self.ends = [_end_of(number) for number in numbers]
        self.share, self._full, self._slope, self._offset = [0.0], [0.0], [0.0], [0.0]
        typical = _median(mass)
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


def _median(mass: dict[int, float]) -> float:
    left = 0.5
    for number in sorted(mass):
        left -= mass[number]
        if left <= 0:
            break
    return _end_of(number)
