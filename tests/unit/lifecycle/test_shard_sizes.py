"""How many rows a shard has: smaller after a refusal for the enqueued-token limit, and back after completions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askmill.jobs.store.lua_source import script
from askmill.worker.lifecycle.shard_sizes import (
    MOST_ROWS,
    CutSizes,
    sizes_after_completion,
    sizes_after_refusal,
)

rows = st.integers(1, MOST_ROWS)


def completions(sizes: CutSizes, times: int) -> CutSizes:
    """So many full shards have completed."""
    for _ in range(times):
        sizes = sizes_after_completion(sizes, sizes.shard_rows or MOST_ROWS)
    return sizes


@given(lines=rows)
def test_a_size_grows_back_after_refusals_without_a_named_limit(lines: int) -> None:
    """From one row to 2,000 within 40 full shards; the number of rows in all stays free."""
    refused = sizes_after_refusal(lines, 0, None, alone=True)
    assert refused == CutSizes(max(1, lines // 2))
    assert completions(refused, 40) == CutSizes(MOST_ROWS)


@given(lines=rows, tokens=st.integers(1, 1000), limit=st.integers(1, 3_000_000))
def test_a_named_limit_bounds_the_size(lines: int, tokens: int, limit: int) -> None:
    """Where the refusal names the limit a shard never has more than a third of the rows in all."""
    sizes = sizes_after_refusal(lines, lines * tokens, limit, alone=False)
    for _ in range(20):
        grown = completions(sizes, 1)
        assert grown.shard_rows is not None
        assert grown.rows_in_all is not None
        assert sizes.rows_in_all is not None
        assert grown.shard_rows >= (sizes.shard_rows or 0)
        assert grown.shard_rows <= max(sizes.shard_rows or 0, 1, min(MOST_ROWS, grown.rows_in_all // 3))
        assert (
            sizes.rows_in_all < grown.rows_in_all <= sizes.rows_in_all + max(1, (sizes.shard_rows or 0) // 16)
        )
        sizes = grown


@given(size=rows, in_all=st.none() | st.integers(1, 10**6), lines=rows)
def test_a_completion_never_makes_shards_smaller_and_only_full_ones_larger(
    size: int, in_all: int | None, lines: int
) -> None:
    """A shard that was cut before the refusal, or the few last rows of a batch, leave the size."""
    grown = sizes_after_completion(CutSizes(size, in_all), lines)
    assert grown.shard_rows is not None
    assert size <= grown.shard_rows <= max(size, MOST_ROWS)
    if lines > size or lines * 5 <= size * 4 - 5:
        assert grown.shard_rows == size


@pytest.mark.parametrize(
    ("lines", "tokens", "limit", "alone", "sizes"),
    [
        (100, 0, None, False, (50, None)),
        (100, 5000, None, False, (50, None)),
        (3, 0, 5000, False, (1, None)),
        (1, 0, None, True, (1, None)),
        (100, 1000, 900, False, (30, 90)),
        (100, 1000, 900, True, (30, 90)),
        (31, 310, 900, False, (30, 90)),
        (30, 300, 900, False, (30, 90)),
        (30, 300, 900, True, (15, 90)),
        (1, 100, 1, True, (1, 1)),
        (10, 1000, 1, False, (1, 1)),
        (10, 1000, 250, False, (1, 2)),
        (100, 1000, 1000, False, (33, 100)),
    ],
)
def test_sizes_after_a_refusal(
    lines: int, tokens: int, limit: int | None, alone: bool, sizes: tuple[int, int | None]
) -> None:
    """A third of the limit, or half as many rows where it is not named or the shard was refused alone."""
    assert sizes_after_refusal(lines, tokens, limit, alone=alone) == sizes


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        ((None, 100), 160, (None, 110)),
        ((100, None), 101, (100, None)),
        ((100, None), 100, (125, None)),
        ((100, None), 3, (100, None)),
        ((2, None), 2, (3, None)),
        ((1900, None), 1900, (2000, None)),
        ((100, 300), 100, (102, 306)),
        ((100, 299), 100, (101, 305)),
        ((101, None), 101, (126, None)),
        ((1, 1), 1, (1, 2)),
        ((1, 5), 1, (2, 6)),
        ((100, 9000), 16, (100, 9001)),
        ((100, 9000), 32, (100, 9002)),
        ((1900, 9000), 1900, (2000, 9118)),
        ((100, 30), 100, (100, 36)),
    ],
)
def test_sizes_after_a_completion(
    before: tuple[int | None, int | None], lines: int, after: tuple[int | None, int | None]
) -> None:
    """A quarter more, up to a third of the rows in all, which grow by a sixteenth; one row at least."""
    assert sizes_after_completion(CutSizes(*before), lines) == after


def test_the_script_that_cuts_shards_has_the_same_maximum() -> None:
    """MOST_ROWS is written twice, in Python and in Lua."""
    assert re.findall(r"local MOST_ROWS = (\d+)", script("dispatch").text) == [str(MOST_ROWS)]


def test_without_a_refusal_nothing_is_learned() -> None:
    """No limit, no size."""
    assert sizes_after_completion(CutSizes(), 2000) == CutSizes()
