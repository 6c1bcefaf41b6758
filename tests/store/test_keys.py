"""The table of keys is complete, and the same in Python and in Lua."""

import re

import redis

from askmill.jobs.store import keys
from askmill.jobs.store.lua_source import script

RETURN_ALL_NAMES = """
local names = {BATCHES, LOADING, OPEN, DISPATCH_ROUND, DISPATCHED, WORKERS, LIMITS, THROTTLE, CLOCK_STEPS, LAST_HEARTBEAT,
  rate_limit_key('x'), worker_key('w1'), claims_key('w1'), identity_key('5a'), resource_key('file', '5a'),
  batch_key('b_1')}
for _, name in ipairs(PARTS) do names[#names + 1] = part_key('b_1', name) end
names[#names + 1] = live_key('b_1', '7')
names[#names + 1] = member('b_1', '7')
return names
"""


def test_lua_names_every_key_as_python_does(redis_url: str) -> None:
    """jobs/store/lua/lib/keys.lua and jobs/store/keys.py name the same keys."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        names = client.eval(script("lib/keys").text + RETURN_ALL_NAMES, 0)
    assert names == [
        keys.BATCHES,
        keys.LOADING,
        keys.OPEN,
        keys.DISPATCH_ROUND,
        keys.DISPATCHED,
        keys.WORKERS,
        keys.LIMITS,
        keys.THROTTLE,
        keys.CLOCK_STEPS,
        keys.LAST_HEARTBEAT,
        keys.rate_limit("x"),
        keys.worker("w1"),
        keys.claims("w1"),
        keys.identity("5a"),
        keys.resource("file", "5a"),
        keys.batch("b_1"),
        *(keys.part("b_1", name) for name in keys.PARTS),
        keys.live("b_1", 7),
        keys.member("b_1", 7),
    ]


EXAMPLES = {
    "b": "b_7hq2m9",
    "row": "12",
    "w": "w1",
    "sha": "ab12",
    "kind": "tokens_per_minute",
    "request": "0a",
    "session": "0a",
}


def test_every_key_in_the_table_has_the_type_that_is_checked() -> None:
    """Every line of the docstring's table, and no more, is a key that `type_of` knows, with that type."""
    lines = re.findall(r"^ {4}(askmill:\S+) +([A-Z]+) ", keys.__doc__ or "", re.MULTILINE)
    assert len(lines) == 42
    for pattern, kind in lines:
        key = pattern
        for place, value in EXAMPLES.items():
            key = key.replace(f"{{{place}}}", value)
        assert keys.type_of(key) == kind.lower(), key


def test_an_unknown_key_has_no_type() -> None:
    """A key that the table does not name is not askmill's."""
    for key in (
        "askmill",
        "askmill:other",
        "askmill:batch:b_1:live:0",
        "askmill:batch:b_1:status:x",
        "celery",
    ):
        assert keys.type_of(key) is None, key
