"""The table of keys: complete, and the same in Python and in Lua."""

import re

import redis

from askmill.jobs.store import keys
from askmill.jobs.store.scripts import source

TOLD = """
local told = {BATCHES, LOADING, OPEN, TURN, FED, WORKERS, LIMITS, WINDOW, TAT .. 'x', worker_key('w1'), held_key('w1'), identity_key('5a'), resource_key('file', '5a'), batch_key('b_1')}
for _, name in ipairs(PARTS) do told[#told + 1] = part('b_1', name) end
told[#told + 1] = live_key('b_1', '7')
told[#told + 1] = member('b_1', '7')
return told
"""


def test_lua_names_every_key_as_python_does(redis_url: str) -> None:
    """jobs/store/lua/lib/keys.lua and jobs/store/keys.py are twins."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        told = client.eval(source("lib/keys") + TOLD, 0)
    assert told == [
        keys.BATCHES,
        keys.LOADING,
        keys.OPEN,
        keys.TURN,
        keys.FED,
        keys.WORKERS,
        keys.LIMITS,
        keys.WINDOW,
        keys.tat("x"),
        keys.worker("w1"),
        keys.held("w1"),
        keys.identity("5a"),
        keys.resource("file", "5a"),
        keys.batch("b_1"),
        *(keys.part("b_1", name) for name in keys.PARTS),
        keys.live("b_1", 7),
        keys.member("b_1", 7),
    ]


EXAMPLES = {"b": "b_7hq2m9", "row": "12", "w": "w1", "sha": "ab12", "kind": "tokens_per_minute"}


def test_the_tables_type_is_the_type_that_is_checked() -> None:
    """Every line of the docstring's table, and no more, is a key that `type_of` knows, with that type."""
    lines = re.findall(r"^ {4}(askmill:\S+) +([A-Z]+) ", keys.__doc__ or "", re.MULTILINE)
    assert len(lines) == 30
    for pattern, kind in lines:
        key = pattern
        for place, value in EXAMPLES.items():
            key = key.replace(f"{{{place}}}", value)
        assert keys.type_of(key) == kind.lower(), key


def test_a_key_of_somebody_else_is_not_ours() -> None:
    """What the table does not name has no type."""
    for key in ("askmill", "askmill:other", "askmill:b:b_1:live:0", "askmill:b:b_1:status:x", "celery"):
        assert keys.type_of(key) is None, key
