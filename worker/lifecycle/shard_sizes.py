"""How many rows the next shards have, within the API's limit of enqueued tokens. Pure.

refused for the limit    a third of what the refusal names as the limit; half as many rows where it names none
completed                a quarter more than it had, until the size is that third again, or MOST_ROWS
"""

from typing import NamedTuple

MOST_ROWS = 2000
"""jobs/store/lua/lib/shard.lua, which cuts the shards, has the same number."""
SHARE_OF_LIMIT = 3
"""A shard has at most a third of the enqueued-token limit: the server's queue is never empty."""


class CutSizes(NamedTuple):
    """Rows that one shard, and all of them together, may have. None: MOST_ROWS, and any number."""

    shard_rows: int | None = None
    rows_in_all: int | None = None


def sizes_after_refusal(lines: int, prompt_tokens: int, token_limit: int | None, *, alone: bool) -> CutSizes:
    """The sizes after a shard was refused for the limit.

    A shard within its share was refused for what else is enqueued: the next one is as large. If nothing else
    of the batch is, its tokens are more than estimated.

    Args:
        lines: of the shard.
        prompt_tokens: estimated, of all its lines.
        token_limit: that the refusal names.
        alone: whether no other shard of the batch is open.
    """
    half = max(1, lines // 2)
    if token_limit is None or not prompt_tokens:
        return CutSizes(half)
    in_all = max(1, token_limit * lines // prompt_tokens)
    share = max(1, in_all // SHARE_OF_LIMIT)
    if lines > share:
        return CutSizes(share, in_all)
    return CutSizes(half if alone else lines, in_all)


def sizes_after_completion(sizes: CutSizes, lines: int) -> CutSizes:
    """The sizes after a shard of so many lines has completed.

    A shard that was cut before the size became smaller says nothing of it. The number of rows in all grows
    slowly: each refusal costs an upload.
    """
    size, in_all = sizes
    if in_all is not None:
        in_all += max(1, lines // 16)
    if size is None or lines > size:
        return CutSizes(size, in_all)
    most = MOST_ROWS if in_all is None else min(MOST_ROWS, max(1, in_all // SHARE_OF_LIMIT))
    return CutSizes(max(size, min(most, lines + max(1, lines // 4))), in_all)
