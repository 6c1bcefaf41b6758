"""Every key that askmill keeps in Redis: type, lifetime, who writes it. jobs/store/lua/lib/keys.lua is its twin.

    key                        type    lives                  holds; written by
    ─────────────────────────  ──────  ─────────────────────  ──────────────────────────────────────────
    askmill:schema             STRING  for ever               layout version; the first Store.open
    askmill:batches            ZSET    for ever               batch → submitted ms; seal, purge, sweep
    askmill:loading            SET     for ever               batches on their way in; take, seal, drop, sweep
    askmill:open               ZSET    for ever               unfinished batch → turn last fed; seal, feed
    askmill:turn               STRING  for ever               counts the turns of feeding; feed
    askmill:fed                ZSET    for ever               "b:row" → ms handed to the broker; feed, claim
    askmill:workers            ZSET    for ever               worker → ms of its last beat; beat, sweep
    askmill:worker:{w}         HASH    claim lifetime         its card; beat. `swept`: dead; `heard_since`: ms
    askmill:held:{w}           SET     until given back       "b:row" it holds; claim, finish, sweep
    askmill:identity:{sha}     STRING  as its newest batch    batch of this file, profile, address, also while
                                                             it loads; take, seal, drop
    askmill:assistant:{sha}    STRING  90 days unused         id of an assistant by its content, or who
                                                             is making it (a minute); reserve, remember
    askmill:file:{sha}         STRING  90 days unused         the same of an uploaded file
    askmill:vector_store:{sha} STRING  90 days unused         the same of one, by its files' ids
    askmill:limits             HASH    for ever               limits of all workers together; set_limits
    askmill:window             HASH    minutes after a 429    runs the API bears, hold_until; throttle
    askmill:tat:{kind}         STRING  a minute past its end  when the next booking is due, ms; book
    askmill:b:{b}              HASH    to purge or retention  the batch itself; every change of its state.
                                                             While it loads: `loader`, a fence; `lease_from`,
                                                             `lease_until`, ms; `before`: the batch that a
                                                             --new replaces
    askmill:b:{b}:n            HASH    as the batch           rows a status byte, runs, tokens, money, …
    askmill:b:{b}:status       STRING  as the batch           one byte a row (jobs/model/models.py), row 1 first
    askmill:b:{b}:input        HASH    as the batch           block number → 16 rows, packed; add_rows
    askmill:b:{b}:results      HASH    as the batch           row → result, packed; finish, add_rows
    askmill:b:{b}:due          ZSET    while rows wait        row → ms it may be fed; give_back, claim
    askmill:b:{b}:orphans      ZSET    while rows wait        the same, its run may be out at the API
    askmill:b:{b}:next         HASH    as the batch           row → next turn of its conversation; add_rows
    askmill:b:{b}:seeds        HASH    as the batch           row → what its previous turn left it; finish
    askmill:b:{b}:turns        HASH    while loading          conversation → its last rows so far; add_rows
    askmill:b:{b}:made         HASH    as the batch           "kind:id" it uses at the API → sha of its key
                                                             above; reserve, remember
    askmill:b:{b}:pace         HASH    as the batch           10 s bucket → rows finished lately; finish
    askmill:b:{b}:files        HASH    as the batch           "row:number" → generated file; keep_file
    askmill:b:{b}:live:{row}   HASH    claim to finish        fence, worker, state, marks of the row

A batch that was never sealed vanishes after an hour; with retention set, a finished batch's keys expire.
`purge` deletes at the API what a batch made and no other uses: it goes by `made` and by the rows.
"""

import re

SCHEMA_VERSION = 2
"""2: results as three texts (jobs/store/codec.py), with another `result.zdict`. 1 was in no release."""

SCHEMA = "askmill:schema"
BATCHES = "askmill:batches"
LOADING = "askmill:loading"
OPEN = "askmill:open"
TURN = "askmill:turn"
FED = "askmill:fed"
WORKERS = "askmill:workers"
LIMITS = "askmill:limits"
WINDOW = "askmill:window"

PARTS = (
    "n",
    "status",
    "input",
    "results",
    "due",
    "orphans",
    "next",
    "seeds",
    "turns",
    "made",
    "pace",
    "files",
)
"""The keys of a batch beside its own hash and its live rows."""


def worker(worker_id: str) -> str:
    """Where a worker presents itself."""
    return f"askmill:worker:{worker_id}"


def held(worker_id: str) -> str:
    """What a worker holds."""
    return f"askmill:held:{worker_id}"


def identity(sha256: str) -> str:
    """Finds the same submission again."""
    return f"askmill:identity:{sha256}"


def resource(kind: str, sha256: str) -> str:
    """An id at the API found again by content; `kind`: `assistant`, `file`, `vector_store`."""
    return f"askmill:{kind}:{sha256}"


def tat(kind: str) -> str:
    """When the next booking of a limit is due (GCRA's theoretical arrival time)."""
    return f"askmill:tat:{kind}"


def batch(batch_id: str) -> str:
    """The batch itself."""
    return f"askmill:b:{batch_id}"


def part(batch_id: str, name: str) -> str:
    """One of `PARTS`."""
    return f"askmill:b:{batch_id}:{name}"


def live(batch_id: str, row: int) -> str:
    """What is known of an unfinished row."""
    return f"askmill:b:{batch_id}:live:{row}"


def member(batch_id: str, row: int) -> str:
    """How a row is named in `fed` and `held`."""
    return f"{batch_id}:{row}"


_TYPES = (
    (r"askmill:(schema|turn)", "string"),
    (r"askmill:(batches|open|fed|workers)", "zset"),
    (r"askmill:loading", "set"),
    (r"askmill:worker:[^:]+", "hash"),
    (r"askmill:held:[^:]+", "set"),
    (r"askmill:(identity|assistant|file|vector_store):[^:]+", "string"),
    (r"askmill:(limits|window)", "hash"),
    (r"askmill:tat:[^:]+", "string"),
    (r"askmill:b:[a-z0-9_]+", "hash"),
    (r"askmill:b:[a-z0-9_]+:status", "string"),
    (r"askmill:b:[a-z0-9_]+:(due|orphans)", "zset"),
    (r"askmill:b:[a-z0-9_]+:(n|input|results|next|seeds|turns|made|pace|files|live:[1-9]\d*)", "hash"),
)


def type_of(key: str) -> str | None:
    """The Redis type that the table gives a key; None for a key that is not ours."""
    return next((kind for pattern, kind in _TYPES if re.fullmatch(pattern, key)), None)
