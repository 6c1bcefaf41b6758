"""Whatever workers, people and accidents do, in any order: the store answers as its model and stays sound."""

import pytest

from tests.store.store_walk import Walk

CHANCES = {
    "submit": 4,
    "come": 4,
    "look": 1,
    "load": 4,
    "keep_lease": 1,
    "lapse": 1.5,
    "seal": 2,
    "drop": 0.5,
    "pause": 1,
    "resume": 4,
    "cancel": 1,
    "retry": 4,
    "purge": 0.3,
    "beat": 5,
    "die": 0.8,
    "sweep": 2,
    "leave": 0.5,
    "feed": 2,
    "lose_messages": 1,
    "claim": 3,
    "work": 16,
    "save": 24,
    "finish": 12,
    "give_back": 7,
    "time_passes": 1,
}
"""What may happen, and how often. Drawn evenly, as Hypothesis' state machines do, rows are hardly ever claimed."""


@pytest.mark.parametrize(
    "seed", [*range(40), *(pytest.param(n, marks=pytest.mark.long) for n in range(40, 500))]
)
def test_any_order_of_events_leaves_the_store_as_its_model(redis_url: str, seed: int) -> None:
    """Random lives of batches and workers: every answer predicted, every row accounted for, all ends reached."""
    walk = Walk(redis_url, seed)
    try:
        for _ in range(300):
            walk.happens(walk.chance.choices(list(CHANCES), list(CHANCES.values()))[0])
        walk.end()
    finally:
        print(" ".join(walk.story), walk.batches, sep="\n")
