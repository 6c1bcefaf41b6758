"""Looks a run against delay in noticing, simulated: ours, fixed 1 s, the SDK's, and the best there can be.

A pool of slots, a batch of runs, times from a distribution; the server tells times in whole seconds, as the
API does. `best` knows the distribution exactly and weighs looks and delay as we do: the frontier.
"""

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import floor
from statistics import mean, median

from worker import polling
from worker.polling import RunTimes

RUNS, SLOTS = 2000, 100
Draw = Callable[[random.Random, int], float]

SHAPES: dict[str, Draw] = {
    "fixed 30 s": lambda _lot, _n: 30.0,
    "lognormal, median 30 s, sigma 0.5": lambda lot, _n: lot.lognormvariate(3.4012, 0.5),
    "bimodal, 5 s and 60 s": lambda lot, _n: lot.lognormvariate(1.609 if lot.random() < 0.5 else 4.094, 0.1),
    "heavy tail, Pareto 1.5 from 10 s": lambda lot, _n: 10 * lot.paretovariate(1.5),
    "shift, 20 s to 60 s in mid-batch": lambda lot, n: lot.lognormvariate(
        2.9957 if n < RUNS // 2 else 4.0943, 0.2
    ),
}


@dataclass(frozen=True)
class Seen:
    """What a schedule cost: looks a run, and delays as shares of the run's time."""

    looks: float
    delay_median: float
    delay_mean: float

    @property
    def requests(self) -> float:
        """API requests a job: two creates, the looks, two reads."""
        return 4 + self.looks


def simulate(
    draw: Draw,
    step: Callable[[float, float], float],
    ended: Callable[[float, float, float], None],
    seed: int = 7,
) -> Seen:
    """Play a batch. `step(age, seen)` gives seconds to the next look (0: look now)."""
    lot = random.Random(seed)
    due: list[tuple[float, int, float, float, float]] = []
    looks, delays, begun = 0, [], 0

    def begin(now: float) -> None:
        nonlocal begun
        if begun < RUNS:
            heapq.heappush(due, (now, begun, now, draw(lot, begun), 0.0))
            begun += 1

    for slot in range(SLOTS):
        begin(slot * 0.01)
    while due:
        now, number, began, length, seen = heapq.heappop(due)
        wait_s = step(now - began, seen)
        if wait_s > 0:
            heapq.heappush(due, (now + wait_s, number, began, length, seen))
            continue
        looks += 1
        age = now - began
        if age < length:
            heapq.heappush(due, (now + 1e-6, number, began, length, age))
            continue
        delays.append((age - length) / length)
        told = floor(began + length) - floor(began)
        ended(max(seen, told - 1.0), min(age, told + 1.0), length)
        begin(now)
    return Seen(looks / RUNS, median(delays), mean(delays))


def ours(draw: Draw, worth: float = polling.DELAY_WORTH) -> Seen:
    times = RunTimes(worth)
    return simulate(draw, times.next_look_s, lambda low, high, _length: times.add(low, max(low, high)))


def fixed(draw: Draw, every_s: float) -> Seen:
    return simulate(draw, lambda age, seen: polling.unless_now(seen + every_s - age), lambda *_: None)


def best(draw: Draw, worth: float = polling.DELAY_WORTH) -> Seen:
    """The dynamic programme fed with 20,000 exact draws."""
    lot = random.Random(1)
    mass: dict[int, float] = {}
    for number in range(20_000):
        place = polling.step_of(draw(lot, number * RUNS // 20_000))
        mass[place] = mass.get(place, 0.0) + 1
    plan = polling.best_plan(mass, worth)

    def step(age: float, seen: float) -> float:
        later = [at for at in plan if at > seen * 1.0001]
        return polling.unless_now((later[0] if later else seen * 1.17) - age)

    return simulate(draw, step, lambda *_: None)


def table() -> Iterator[tuple[str, str, Seen]]:
    """Every shape with every schedule. The SDK polls each 1 s unless told."""
    for shape, draw in SHAPES.items():
        yield shape, "ours", ours(draw)
        yield shape, "ours, requests limited", ours(draw, polling.THRIFTY_WORTH)
        yield shape, "best for known times", best(draw)
        yield shape, "best, requests limited", best(draw, polling.THRIFTY_WORTH)
        yield shape, "fixed 1 s, as the SDK", fixed(draw, 1.0)


def main() -> list[dict[str, object]]:
    """Print the table; returns its rows."""
    print(f"{'run times':36}{'schedule':24}{'looks':>7}{'requests':>10}{'delay median':>14}{'mean':>8}")
    rows: list[dict[str, object]] = []
    for shape, who, seen in table():
        delays = f"{seen.delay_median:14.1%}{seen.delay_mean:8.1%}"
        print(f"{shape:36}{who:24}{seen.looks:7.2f}{seen.requests:10.2f}{delays}")
        rows.append({"times": shape, "schedule": who, **asdict(seen)})
    return rows


if __name__ == "__main__":
    main()
