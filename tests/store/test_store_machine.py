"""The store against its model: random orders of what workers and commands do, and of faults."""

import pytest

from tests.store.store_walk import Walk

WEIGHTS = {
    "submit": 4,
    "take_identity": 4,
    "find_identity": 1,
    "load": 4,
    "renew_lease": 1,
    "expire_lease": 1.5,
    "seal": 2,
    "drop": 0.5,
    "pause": 1,
    "resume": 4,
    "cancel": 1,
    "retry": 4,
    "purge": 0.3,
    "heartbeat": 5,
    "die": 0.8,
    "reap": 2,
    "deregister": 0.5,
    "dispatch": 2,
    "requeue_lost": 1,
    "claim": 3,
    "work": 16,
    "save": 24,
    "finish": 12,
    "release": 7,
    "make_all_due": 1,
}
"""Step → weight. With equal weights, as in Hypothesis' state machines, rows are hardly ever claimed."""


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(n, marks=pytest.mark.long) for n in range(6, 500))]
)
def test_any_order_of_steps_matches_the_model(redis_url: str, seed: int) -> None:
    """Every reply is the model's, every row is in its place, and every batch can be finished."""
    walk = Walk(redis_url, seed)
    try:
        for _ in range(300):
            walk.step(walk.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0])
        walk.finish_all()
    finally:
        print(" ".join(walk.events), walk.batches, sep="\n")
