"""Polls per run against the delay of noticing its end, simulated: ours, fixed 1 s, the SDK's, the optimum.

A batch of runs goes through a pool of slots; run times come from a distribution, and the server reports times
in whole seconds, as the API does. After each wait the schedule is asked again, as in the worker (`asks`).
`best` knows the distribution and weighs polls against delay as we do, so it is the optimum. Twenty waves show
what is learnt, one or two waves what learning costs. Scenes with few runs are played several times.
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
"""Draws the next run's time in seconds; the number is the share of the batch that has started."""

SHAPES: dict[str, Draw] = {
    "fixed 30 s": lambda _chance, _share: 30.0,
    "fixed 28 s": lambda _chance, _share: 28.0,
    "lognormal, median 30 s, sigma 0.5": lambda chance, _share: chance.lognormvariate(3.4012, 0.5),
    "bimodal, 5 s and 60 s": lambda chance, _share: chance.lognormvariate(
        1.609 if chance.random() < 0.5 else 4.094, 0.1
    ),
    "heavy tail, Pareto 1.5 from 10 s": lambda chance, _share: 10 * chance.paretovariate(1.5),
    "shift, 20 s to 60 s in mid-batch": lambda chance, share: chance.lognormvariate(
        2.9957 if share < 0.5 else 4.0943, 0.2
    ),
}


@dataclass(frozen=True)
class Scene:
    """Number of runs, slots, and batches played."""

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
START_EVERY_S = 0.01
"""Time between the starts of two runs when a worker starts many at once."""


@dataclass(frozen=True)
class Cost:
    """The cost of a schedule: polls and asks per run, delays as shares of the run's time."""

    polls: float
    asks: float
    delay_median: float
    delay_mean: float

    @property
    def requests(self) -> float:
        """API requests per job: two creates, the polls, two reads."""
        return 4 + self.polls


class Schedule(Protocol):
    """Decides when to poll and learns from the replies, as `RunTimes` does."""

    def next_poll_s(self, age_s: float, seen_s: float) -> float: ...

    def running(self, seen_s: float, age_s: float) -> None: ...

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None: ...


@dataclass(frozen=True)
class Planned:
    """Polls at fixed ages and learns nothing."""

    following: Callable[[float], float]
    """Age of the last poll → age of the next one."""

    def next_poll_s(self, age_s: float, seen_s: float) -> float:
        """Seconds to the next look."""
        wait_s = self.following(seen_s) - age_s
        return wait_s if wait_s >= polling.SHORTEST_WAIT_S else 0.0

    def running(self, seen_s: float, age_s: float) -> None:
        """Nothing is learnt."""

    def ended(self, seen_s: float, at_least_s: float, at_most_s: float) -> None:
        """Nothing is learnt."""


def simulate(draw: Draw, schedule: Callable[[], Schedule], scene: Scene = MANY, seed: int = 7) -> Cost:
    """Play the scene's batches, each with a new schedule, and return the mean cost."""
    played = [_play(draw, schedule(), scene, seed + batch) for batch in range(scene.batches)]
    return Cost(*(mean(figures) for figures in zip(*map(astuple, played), strict=True)))


def _play(draw: Draw, schedule: Schedule, scene: Scene, seed: int) -> Cost:
    chance = random.Random(seed)
    due: list[tuple[float, int, float, float, float]] = []
    delays = list[float]()
    polls = asks = started = 0

    def start(now: float) -> None:
        nonlocal started
        if started < scene.runs:
            heapq.heappush(due, (now, started, now, draw(chance, started / scene.runs), 0.0))
            started += 1

    for slot in range(scene.slots):
        start(slot * START_EVERY_S)
    while due:
        now, number, began, length, seen = heapq.heappop(due)
        age, asks = now - began, asks + 1
        wait_s = schedule.next_poll_s(age, seen)
        if wait_s > 0:
            heapq.heappush(due, (now + wait_s, number, began, length, seen))
            continue
        polls += 1
        if age < length:
            schedule.running(seen, age)
            heapq.heappush(due, (now + 1e-6, number, began, length, age))
            continue
        delays.append((age - length) / length)
        schedule.ended(seen, *polling.ended_between(seen, age, floor(began + length) - floor(began)))
        start(now)
    return Cost(polls / scene.runs, asks / scene.runs, median(delays), mean(delays))


def askmill(draw: Draw, worth: float = polling.DELAY_WORTH, scene: Scene = MANY) -> Cost:
    return simulate(draw, lambda: RunTimes(worth), scene)


def fixed(draw: Draw, every_s: float, scene: Scene = MANY) -> Cost:
    return simulate(draw, lambda: Planned(lambda seen: seen + every_s), scene)


def best(draw: Draw, worth: float = polling.DELAY_WORTH, scene: Scene = MANY) -> Cost:
    """The optimum: askmill's dynamic programme with the distribution itself (20,000 draws)."""
    chance, draws = random.Random(1), 20_000
    mass: dict[int, float] = {}
    for number in range(draws):
        place = polling.step_of(draw(chance, number / draws))
        mass[place] = mass.get(place, 0.0) + 1 / draws
    plan = polling.best_plan(mass, worth)

    def following(seen: float) -> float:
        place = bisect_right(plan, seen * 1.0001)
        return plan[place] if place < len(plan) else seen * 1.17

    return simulate(draw, lambda: Planned(following), scene)


def table() -> Iterator[tuple[str, str, str, Cost]]:
    """Every scene and shape with every schedule. The SDK polls every second by default."""
    for name, scene in SCENES.items():
        for shape, draw in SHAPES.items():
            yield name, shape, "askmill", askmill(draw, scene=scene)
            yield name, shape, "best for known times", best(draw, scene=scene)
            yield name, shape, "askmill, requests limited", askmill(draw, polling.THRIFTY_WORTH, scene)
            yield name, shape, "best, requests limited", best(draw, polling.THRIFTY_WORTH, scene)
            if scene is MANY:
                yield name, shape, "fixed 1 s, as the SDK", fixed(draw, 1.0)


def main() -> list[dict[str, object]]:
    """Print the table and return its rows."""
    heads = f"{'polls':>7}{'requests':>10}{'delay median':>14}{'mean':>8}{'asks':>7}"
    print(f"{'batch':10}{'run times':36}{'schedule':24}{heads}")
    rows: list[dict[str, object]] = []
    for name, shape, schedule, cost in table():
        figures = f"{cost.polls:7.2f}{cost.requests:10.2f}{cost.delay_median:14.1%}{cost.delay_mean:8.1%}"
        print(f"{name:10}{shape:36}{schedule:24}{figures}{cost.asks:7.1f}")
        rows.append({"batch": name, "times": shape, "schedule": schedule, **asdict(cost)})
    return rows


if __name__ == "__main__":
    main()
