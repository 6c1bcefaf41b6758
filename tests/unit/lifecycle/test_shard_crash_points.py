"""A shard of `--tier batch`: accidents at every point between two effects, in virtual time.

effects   request to the API · write to the store; each may meet a death of the process, a lost reply, a create
          that is carried out late, or a store that forgets its last writes
"""

from collections.abc import Iterator
from itertools import islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.lifecycle.shard_world import World

KILLS = ("kill_before", "kill")
LOSSES = ("lost", "away", "late")
FORGETS = ("forget1", "forget2", "forget4", "forget8")
SAMPLED = 13
"""The default run plays one of so many accidents of the rarer endings."""
FAULTS = (*KILLS, *LOSSES, *FORGETS)


def check(world: World) -> None:
    """No row is lost, and each line is bought once, or its duplicate is counted."""
    story = "\n".join(world.trace)
    assert set(world.store.done) == set(range(1, world.rows + 1)), story
    for line, times in world.bought().items():
        assert times <= 1 + world.store.doubled[line], f"{line} was bought {times} times\n{story}"


def effects_of(**options: object) -> int:
    return World(**options).play().effects  # type: ignore[arg-type]


def once(every: int = 1, **options: object) -> Iterator[World]:
    """Play one of `every` accidents."""
    accidents = product(range(1, effects_of(**options) + 1), FAULTS)
    for at, fault in islice(accidents, 0, None, every):
        yield World(faults={at: fault}, **options).play()  # type: ignore[arg-type]


def test_without_accidents_a_shard_takes_five_requests() -> None:
    """Upload, list, create, one read, and the lists of its time: no request more."""
    world = World(rows=2).play()
    names = [entry.split()[2] for entry in world.trace]
    assert [names.count(name) for name in ("upload", "create", "read", "delete", "cancel")] == [1, 1, 1, 0, 0]
    assert world.bought() == {(1, 1): 1, (2, 1): 1}
    assert set(world.store.done.values()) == {"completed"}


@pytest.mark.parametrize("hidden_s", [0.0, 45.0])
def test_an_accident_at_any_point_loses_no_row_and_buys_no_line_twice(hidden_s: float) -> None:
    """Each fault at each effect, also where the list shows a new batch 45 s late."""
    for world in once(hidden_s=hidden_s):
        check(world)
        forgotten = any(fault.startswith("forget") for fault in world.faults.values())
        if not forgotten:  # nothing is bought twice at all, not even a counted duplicate
            assert max(world.bought().values()) == 1, "\n".join(world.trace)
            assert set(world.store.done.values()) == {"completed"}, "\n".join(world.trace)


@pytest.mark.parametrize("recut_rows", [2, 1, 3])
def test_a_forgotten_create_is_found_by_listing(recut_rows: int) -> None:
    """After the store went back in time the list's batches are adopted, also when rows are cut otherwise now."""
    for at in range(1, effects_of() + 1):
        for fault in FORGETS:
            world = World(faults={at: fault}, recut_rows=recut_rows).play()
            check(world)
            assert max(world.bought().values()) == 1, "\n".join(world.trace)


def test_a_server_that_runs_deleted_files_shows_its_duplicates() -> None:
    """A create carried out 90 s later, whose file cannot be deleted: its batch is seen, cancelled and counted."""
    for at in range(1, effects_of() + 1):
        world = World(faults={at: "late"}, deletes_files=False).play()
        check(world)


@pytest.mark.parametrize("every", [SAMPLED, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "options",
    [
        {"bad_rows": frozenset({2})},
        {"token_limit": 1},
        {"ending": "expired", "rows": 2},
        {"lost_lines": frozenset({1}), "rows": 2},
        {"null_output_s": 120.0},
        {"cancel_at": 1100.0},
    ],
    ids=["bad line", "token limit", "expired", "missing line", "null ids", "cancelled"],
)
def test_an_accident_during_another_ending_loses_no_row(options: dict[str, object], every: int) -> None:
    """The same at the points of shards that end otherwise. All of them are `long`."""
    for world in once(every, **options):
        check(world)


def test_a_bad_line_fails_its_row_alone() -> None:
    """The validation names line 2: row 2 fails, the others are answered, and no line is bought twice."""
    world = World(rows=6, shard_rows=6, bad_rows=frozenset({2})).play()
    assert world.store.done == {row: "failed" if row == 2 else "completed" for row in range(1, 7)}
    assert set(world.bought().values()) == {1}


def test_the_token_limit_makes_smaller_shards() -> None:
    """A file over the limit runs nothing; its rows travel in shards of the size that the refusal names."""
    world = World(rows=6, shard_rows=6, token_limit=2).play()
    assert set(world.store.done.values()) == {"completed"}
    assert set(world.bought().values()) == {1}


def test_a_completed_batch_without_file_ids_is_read_again() -> None:
    """`completed` with null ids although lines have completed (litellm #37713): asked again, nothing is lost."""
    world = World(null_output_s=200.0).play()
    assert set(world.store.done.values()) == {"completed"}
    assert world.store.counted["unknown_creates"] == 0


def test_a_cancelled_batch_keeps_what_was_answered() -> None:
    """Cancelled while it runs: the answered rows are completed, the others cancelled, at every accident."""
    world = World(cancel_at=1100.0).play()
    assert set(world.store.done.values()) == {"completed", "cancelled"}


@settings(max_examples=100, deadline=None)
@given(
    faults=st.dictionaries(st.integers(1, 40), st.sampled_from(FAULTS), max_size=6),
    hidden_s=st.sampled_from([0.0, 10.0, 45.0]),
    shard_rows=st.integers(1, 4),
    bad_rows=st.frozensets(st.integers(1, 4), max_size=1),
)
def test_random_accidents_lose_no_row(
    faults: dict[int, str], hidden_s: float, shard_rows: int, bad_rows: frozenset[int]
) -> None:
    """Up to six accidents of any kind: 0 rows lost, every line bought once or its duplicate counted."""
    check(World(faults, hidden_s=hidden_s, shard_rows=shard_rows, bad_rows=bad_rows).play())
