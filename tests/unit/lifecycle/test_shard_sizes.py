"""How many rows a shard has: smaller after a refusal for the enqueued-token limit, and back after completions."""

import re

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


def test_the_script_that_cuts_shards_has_the_same_maximum() -> None:
    """MOST_ROWS is written twice, in Python and in Lua."""
    assert re.findall(r"local MOST_ROWS = (\d+)", script("dispatch").text) == [str(MOST_ROWS)]


def test_without_a_refusal_nothing_is_learned() -> None:
    """No limit, no size."""
    assert sizes_after_completion(CutSizes(), 2000) == CutSizes()
