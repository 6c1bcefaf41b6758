"""Every Redis key of askmill: type, lifetime, content and writers. jobs/store/lua/lib/keys.lua has the same.

    key                              type    lifetime             content; written by
    ───────────────────────────────  ──────  ───────────────────  ──────────────────────────────────────────
    askmill:schema                   STRING  permanent            layout version; the first Store.open
    askmill:replicated               STRING  2 s                  written to see whether Redis takes changes,
                                                                  and before each WAIT for a replica
    askmill:batches                  ZSET    permanent            batch → submitted ms; seal, purge, reap
    askmill:loading                  SET     permanent            batches not sealed yet; take_identity, seal
    askmill:open                     ZSET    permanent            unfinished batch → its last dispatch round
    askmill:dispatch_round           STRING  permanent            counts dispatch rounds; dispatch
    askmill:dispatched               ZSET    permanent            "batch:row" → ms it was published; dispatch,
                                                                  claim
    askmill:workers                  ZSET    permanent            worker → ms of its last heartbeat
    askmill:worker:{w}               HASH    claim lifetime       its description; heartbeat. `reaped`: found
                                                                  dead; `heartbeats_since`: ms, after a gap;
                                                                  `server`: its writes are known to be there
    askmill:claims:{w}               SET     until released       "batch:row" of its rows; claim, finish, reap
    askmill:identity:{sha}           STRING  as its newest batch  batch of this file, profile and address, a
                                                                  loading one too; take_identity, seal
    askmill:assistant:{sha}          STRING  90 days unused       an assistant's id by its content; or "?" and
                                                                  who is creating it, renewal, note (a day);
                                                                  resource_acquire, resource_store
    askmill:file:{sha}               STRING  90 days unused       the same of an uploaded file
    askmill:vector_store:{sha}       STRING  90 days unused       the same, by the ids of its files
    askmill:limits                   HASH    permanent            limits of all workers together; set_limits
    askmill:throttle                 HASH    minutes after a 429  `max_runs` that the API bears; `held_since`,
                                                                  `hold_until`, `words` of its last wait;
                                                                  `refusals` since `refusals_since`; throttle
    askmill:clock_steps              LIST    permanent            "ms step_ms" of the last steps of Redis'
                                                                  clock; record_clock_step
    askmill:last_heartbeat           STRING  permanent            ms of any worker's last heartbeat
    askmill:rate_limit:{kind}        STRING  a minute past due    theoretical arrival time of the next request
                                                                  (GCRA), ms; reserve_rate
    askmill:reply:{request}          STRING  seconds to an hour   reply to a request, for its repetition:
                                                                  dispatch, requeue, retry, throttle, …
    askmill:writes:{session}         STRING  a day                number of a worker's last pipeline
    askmill:server                   STRING  permanent            ids of the Redis that runs; heartbeat
    askmill:recovery                 STRING  claim lifetime       when it may end, and the lifetime, ms: Redis
                                                                  has gone back in time, and workers redo what
                                                                  was lost
    askmill:batch:{b}                HASH    purge or retention   the batch itself, see below
    askmill:batch:{b}:counters       HASH    as the batch         rows per status byte; runs, tokens, money, …
    askmill:batch:{b}:status         STRING  as the batch         a byte per row (jobs/model/models.py)
    askmill:batch:{b}:input          HASH    as the batch         block number → 16 rows, packed; add_rows
    askmill:batch:{b}:results        HASH    as the batch         row → result, packed; finish, add_rows
    askmill:batch:{b}:due            ZSET    while rows wait      row → ms it may be dispatched; release_row
    askmill:batch:{b}:due_running    ZSET    while rows wait      the same; a run of the row may be in flight
    askmill:batch:{b}:next_turn      HASH    as the batch         row → next row of its conversation; add_rows
    askmill:batch:{b}:previous_turn  HASH    as the batch         row → state its previous turn left; finish
    askmill:batch:{b}:last_turns     HASH    while loading        conversation → its last rows; add_rows
    askmill:batch:{b}:resources      HASH    as the batch         "kind:id" it uses at the API → sha of the
                                                                  key above; resource_acquire, resource_store
    askmill:batch:{b}:throughput     HASH    as the batch         10 s bucket → rows finished lately; finish
    askmill:batch:{b}:files          HASH    as the batch         "row:number" → generated file; store_file
    askmill:batch:{b}:images         HASH    as the batch         sha → image that rows name; store_image
    askmill:batch:{b}:queue          LIST    as the batch         messages for its own workers; publish
    askmill:batch:{b}:shards         HASH    as the batch         number → state of an ended shard;
                                                                  `next`: its next number; `file:{id}` → shard
                                                                  of an input file; `duplicate:{id}`: counted
    askmill:batch:{b}:shard_rows     HASH    as the batch         row → shard that it is in; dispatch
    askmill:batch:{b}:shard_lines    HASH    as the batch         shard → rows of its file, as "1-2000,2005"
    askmill:batch:{b}:live:{row}     HASH    claim to finish      a row or "shard:{n}" in progress, see below

Fields of `askmill:batch:{b}` beside what `NewBatch` has: `state`, `paused_reason`, `rows`, `submitted_at`,
`started_at`, `finished_at` (ms); `ended_before`: when it ended, after a retry that no run has followed yet;
`idle_ms`: time between such ends and the first run after them; `paused_at`, `paused_until` (ms): when a pause
began, and when it ends by itself; `refused_rows`, `refused_alone`: rows refused without a reason since run
number `refused_at_run`;
`last_fault`: what workers last met at the API (waits.py); `cursor`: status bytes before it hold no queued
row; `generation`: counts retries; `functions`: sha256 of the module that its workers must allow; `accepted`:
1 once the API has accepted a run, else one row is dispatched alone: `probe_row`, at `probe_at`;
`creates_failing_since`: ms. While loading: `loader_fence`; `lease_from`, `lease_until` (ms); `replaces`: the
batch that a `--new` takes the place of. `budget_nano` and `retention_ms`: the limits that scripts go by,
empty or 0 without. `expected`: column of expected answers, and how they are compared.
`tier`: `batch` where rows travel in shards; `cuts_held_until` (ms): no shard is cut before; `shard_size`,
`shard_total`: rows that a shard, and all shards together, may have within the API's limit of tokens.

Fields of `live:{row}`: `worker` and `fence` of its claim; `state` in the lifecycle's JSON; `last_save`: hash
of the last save's content; `run_in_flight`: a run may exist at the API; `run_counted`: it is in the counters;
`crash_mark`: a risky step goes on, a death now adds to `crashes`; `deliveries`: how often it was claimed;
`requeues`: messages published again for it;
`reserved_nano`, `spent_nano`: nano-dollars; `refused_at_run`: the batch's runs when the row was last refused
without a reason, under the fence `refused_with`, `accepted_since` an earlier such refusal; `server_status` at
the last poll of a run of some seconds, `next_poll` (ms).

Tier batch: a shard stands in the place of a row as "shard:{n}" in `dispatched`, `claims`, `due_running` and
`live`. Fields of its `live` hash beside those: `rows` that are still in it; `sent`: the API may have them;
`cut_at` (ms); `crash_row`: the row whose line the crash mark is about.

A batch that is not sealed expires after an hour; with retention set, a finished batch's keys expire.
`purge` deletes at the API what a batch created and no other uses: it goes by `resources` and by the rows.
"""

import re
from typing import Any

SCHEMA_VERSION = 4
"""4: a claim is known by `deliveries`, and a server by `server`: lost writes are redone by them.

3: keys and fields have plain names, and a result is stored as JSON alone, without its CSV record.

2: results as three texts, with another `result.zdict`. 1 was in no release."""

BATCH_ID = r"[a-z0-9_]{1,64}"
"""What a batch's id looks like."""
_NEW_ID = re.compile(r"b_[a-z0-9]+")
"""What the id of a batch of this version looks like."""
SCHEMA = "askmill:schema"
REPLICATED = "askmill:replicated"
BATCHES = "askmill:batches"
LOADING = "askmill:loading"
OPEN = "askmill:open"
DISPATCH_ROUND = "askmill:dispatch_round"
DISPATCHED = "askmill:dispatched"
WORKERS = "askmill:workers"
LIMITS = "askmill:limits"
THROTTLE = "askmill:throttle"
CLOCK_STEPS = "askmill:clock_steps"
LAST_HEARTBEAT = "askmill:last_heartbeat"
SERVER = "askmill:server"
RECOVERY = "askmill:recovery"

PARTS = (
    "counters",
    "status",
    "input",
    "results",
    "due",
    "due_running",
    "next_turn",
    "previous_turn",
    "last_turns",
    "resources",
    "throughput",
    "files",
    "images",
    "queue",
    "shards",
    "shard_rows",
    "shard_lines",
)
"""The keys of a batch beside its own hash and its live rows."""


def worker(worker_id: str) -> str:
    """Return the key of a worker's description."""
    return f"askmill:worker:{worker_id}"


def claims(worker_id: str) -> str:
    """Return the key of the rows that a worker has claimed."""
    return f"askmill:claims:{worker_id}"


def identity(sha256: str) -> str:
    """Return the key that finds the batch of the same file, profile and address."""
    return f"askmill:identity:{sha256}"


def resource(kind: str, sha256: str) -> str:
    """Return the key that finds an API object by its content; `kind`: `assistant`, `file`, `vector_store`."""
    return f"askmill:{kind}:{sha256}"


def rate_limit(kind: str) -> str:
    """Return the key of a rate limit's theoretical arrival time."""
    return f"askmill:rate_limit:{kind}"


def reply(request: str) -> str:
    """Return the key of the reply to a request."""
    return f"askmill:reply:{request}"


def writes(session: str) -> str:
    """Return the key of the number of a session's last pipeline."""
    return f"askmill:writes:{session}"


def batch(batch_id: str) -> str:
    """Return the key of the batch itself."""
    return f"askmill:batch:{batch_id}"


def part(batch_id: str, name: str) -> str:
    """Return the key of one of the batch's `PARTS`."""
    return f"askmill:batch:{batch_id}:{name}"


def live(batch_id: str, row: int | str) -> str:
    """Return the key of a row, or of "shard:{n}", in progress."""
    return f"askmill:batch:{batch_id}:live:{row}"


def member(batch_id: str, row: int | str) -> str:
    """Return the name of a row, or of "shard:{n}", in `askmill:dispatched` and `askmill:claims`."""
    return f"{batch_id}:{row}"


def shard(number: int) -> str:
    """Return the name of a shard where the name of a row may stand."""
    return f"shard:{number}"


def shard_number(name: str) -> int | None:
    """Return the number of a shard by its name; None for a row."""
    number = name.removeprefix("shard:")
    return int(number) if number != name and number.isdigit() else None


def names_a_row(batch: Any, row: Any) -> bool:
    """Return whether these are a batch's id and a number: anybody may write messages into Celery's queue."""
    return isinstance(batch, str) and bool(_NEW_ID.fullmatch(batch)) and type(row) is int and row >= 1


_TYPES = (
    (r"askmill:(schema|replicated|dispatch_round|server|recovery|last_heartbeat)", "string"),
    (r"askmill:(batches|open|dispatched|workers)", "zset"),
    (r"askmill:loading", "set"),
    (r"askmill:worker:[^:]+", "hash"),
    (r"askmill:claims:[^:]+", "set"),
    (r"askmill:(reply|writes):[0-9a-f]+", "string"),
    (r"askmill:(identity|assistant|file|vector_store):[^:]+", "string"),
    (r"askmill:(limits|throttle)", "hash"),
    (r"askmill:clock_steps", "list"),
    (r"askmill:rate_limit:[^:]+", "string"),
    (r"askmill:batch:[a-z0-9_]+", "hash"),
    (r"askmill:batch:[a-z0-9_]+:status", "string"),
    (r"askmill:batch:[a-z0-9_]+:(due|due_running)", "zset"),
    (r"askmill:batch:[a-z0-9_]+:(counters|input|results|resources|throughput|files|images)", "hash"),
    (r"askmill:batch:[a-z0-9_]+:queue", "list"),
    (r"askmill:batch:[a-z0-9_]+:(next_turn|previous_turn|last_turns|live:(shard:)?[1-9]\d*)", "hash"),
    (r"askmill:batch:[a-z0-9_]+:(shards|shard_rows|shard_lines)", "hash"),
)


def type_of(key: str) -> str | None:
    """Return the Redis type that the table gives a key; None for a key that is not askmill's."""
    return next((kind for pattern, kind in _TYPES if re.fullmatch(pattern, key)), None)
