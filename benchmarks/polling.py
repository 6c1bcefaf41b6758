"""Looks a run against delay in noticing, simulated: ours, fixed 1 s, the SDK's, and the best there can be.

A pool of slots, a batch of runs, times from a distribution; the server tells times in whole seconds, as the
API does. A wait is asked for again after it, as the worker does (`asks`). `best` knows the distribution
exactly and weighs looks and delay as we do: the frontier. Twenty waves show what is learnt, one or two what
learning costs; where so few runs decide by chance, several batches are played.
"""

import heapq
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from math import floor
from statistics import mean, median
from typing import Protocol

from askmill.worker.lifecycle import polling
from askmill.worker.lifecycle.polling import RunTimes

Draw = Callable[[random.Random, float], float]
"""The next run's time; the number is the share of the batch that has begun."""

SHAPES: dict[str, Draw] = {
    "fixed 30 s": lambda _lot, _share: 30.0,
    "fixed 28 s": lambda _lot, _share: 28.0,
    "lognormal, median 30 s, sigma 0.5": lambda lot, _share: lot.lognormvariate(3.4012, 0.5),
    "bimodal, 5 s and 60 s": lambda lot, _share: lot.lognormvariate(
        1.609 if lot.random() < 0.5 else 4.094, 0.1
    ),
    "heavy tail, Pareto 1.5 from 10 s": lambda lot, _share: 10 * lot.paretovariate(1.5),
    "shift, 20 s to 60 s in mid-batch": lambda lot, share: lot.lognormvariate(
        2.9957 if share < 0.5 else 4.0943, 0.2
    ),
}


@dataclass(frozen=True)
class Scene:
    """How many runs go through how many slots; `batches`: how often it is played."""

    runs: int
    slots: int
    batches: int = 1


SCENES = {
    "20 waves": Scene(2000, 100),
    "2 waves": Scene(1000, 500, 5),
    "1 wave": Scene(1000, 1000, 5),
    "1 small": Scene(50, 50, 20),
}
MANY = SCENES["20 waves"]
BEGIN_EVERY_S = 0.01
"""A worker begins so many runs at once that one follows the other by about this."""


@dataclass(frozen=True)
class Seen:
    """What a schedule cost: looks and asks a run, and delays as shares of the run's time."""

    looks: float
    asks: float
    delay_median: float
    delay_mean: float

    @property
    def requests(self) -> float:
        """API requests a job: two creates, the looks, two reads."""
        return 4 + self.looks


class Schedule(Protocol):
    """When to look, and what is told to it; as `RunTimes`."""

    def next_look_s(self, age_s: float, seen_s: float) -> float: ...

    def running(self, seen_s: float, age_s: float) -> None: ...

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None: ...


@dataclass(frozen=True)
class Planned:
    """Looks at given ages, whatever is seen."""

    following: Callable[[float], float]
    """The age of the look after one at this age."""

    def next_look_s(self, age_s: float, seen_s: float) -> float:
        """Seconds to the next look."""
        return polling.unless_now(self.following(seen_s) - age_s)

    def running(self, seen_s: float, age_s: float) -> None:
        """Nothing is learnt."""

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None:
        """Nothing is learnt."""


def simulate(draw: Draw, schedule: Callable[[], Schedule], scene: Scene = MANY, seed: int = 7) -> Seen:
    """Play the scene's batches, each with a new schedule."""
    played = [_play(draw, schedule(), scene, seed + batch) for batch in range(scene.batches)]
    return Seen(*(mean(figures) for figures in zip(*map(astuple, played), strict=True)))


def _play(draw: Draw, schedule: Schedule, scene: Scene, seed: int) -> Seen:
    lot = random.Random(seed)
    due: list[tuple[float, int, float, float, float]] = []
    delays = list[float]()
    looks = asks = begun = 0

    def begin(now: float) -> None:
        nonlocal begun
        if begun < scene.runs:
            heapq.heappush(due, (now, begun, now, draw(lot, begun / scene.runs), 0.0))
            begun += 1

    for slot in range(scene.slots):
        begin(slot * BEGIN_EVERY_S)
    while due:
        now, number, began, length, seen = heapq.heappop(due)
        age, asks = now - began, asks + 1
        wait_s = schedule.next_look_s(age, seen)
        if wait_s > 0:
            heapq.heappush(due, (now + wait_s, number, began, length, seen))
            continue
        looks += 1
        if age < length:
            schedule.running(seen, age)
            heapq.heappush(due, (now + 1e-6, number, began, length, age))
            continue
        delays.append((age - length) / length)
        schedule.ended(seen, *polling.ended_between(seen, age, floor(began + length) - floor(began)))
        begin(now)
    return Seen(looks / scene.runs, asks / scene.runs, median(delays), mean(delays))


def ours(draw: Draw, worth: float = polling.DELAY_WORTH, scene: Scene = MANY) -> Seen:
    return simulate(draw, lambda: RunTimes(worth), scene)


def fixed(draw: Draw, every_s: float, scene: Scene = MANY) -> Seen:
    return simulate(draw, lambda: Planned(lambda seen: seen + every_s), scene)


def best(draw: Draw, worth: float = polling.DELAY_WORTH, scene: Scene = MANY) -> Seen:
    """The dynamic programme fed with 20,000 exact draws."""
    lot, draws = random.Random(1), 20_000
    mass: dict[int, float] = {}
    for number in range(draws):
        place = polling.step_of(draw(lot, number / draws))
        mass[place] = mass.get(place, 0.0) + 1 / draws
    plan = polling.best_plan(mass, worth)

    def following(seen: float) -> float:
        place = bisect_right(plan, seen * 1.0001)
        return plan[place] if place < len(plan) else seen * 1.17

    return simulate(draw, lambda: Planned(following), scene)


def table() -> Iterator[tuple[str, str, str, Seen]]:
    """Every scene and shape with every schedule. The SDK polls each 1 s unless told."""
    for name, scene in SCENES.items():
        for shape, draw in SHAPES.items():
            yield name, shape, "ours", ours(draw, scene=scene)
            yield name, shape, "best for known times", best(draw, scene=scene)
            yield name, shape, "ours, requests limited", ours(draw, polling.THRIFTY_WORTH, scene)
            yield name, shape, "best, requests limited", best(draw, polling.THRIFTY_WORTH, scene)
            if scene is MANY:
                yield name, shape, "fixed 1 s, as the SDK", fixed(draw, 1.0)


def main() -> list[dict[str, object]]:
    """Print the table; returns its rows."""
    heads = f"{'looks':>7}{'requests':>10}{'delay median':>14}{'mean':>8}{'asks':>7}"
    print(f"{'batch':10}{'run times':36}{'schedule':24}{heads}")
    rows: list[dict[str, object]] = []
    for name, shape, who, seen in table():
        figures = f"{seen.looks:7.2f}{seen.requests:10.2f}{seen.delay_median:14.1%}{seen.delay_mean:8.1%}"
        print(f"{name:10}{shape:36}{who:24}{figures}{seen.asks:7.1f}")
        rows.append({"batch": name, "times": shape, "schedule": who, **asdict(seen)})
    return rows


if __name__ == "__main__":
    main()
