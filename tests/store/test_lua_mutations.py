"""The mutants of Lua texts that `python -m tests.lua_mutants` runs: which there are, and that Redis loads them."""

import redis

from askmill.jobs.store import lua_source
from tests.lua_mutants.__main__ import LUA, SCRIPTS
from tests.lua_mutants.mutations import mutants

TEXT = """\
-- if a == 1 then
local sum = row - 1
if sum <= 2 and not done then redis.call('HSET', key, 'state', '') end
ended = ended + sum
return -1
"""


def test_each_token_condition_and_statement_is_changed_once() -> None:
    """Comments, names of commands, signs and declarations stay as they are."""
    condition = "sum <= 2 and not done"
    assert [tuple(mutant[1:]) for mutant in mutants(TEXT)] == [
        (2, "-", "+"),
        (2, "1", "0"),
        (3, condition, f"not ({condition})"),
        (3, "<=", "<"),
        (3, "<=", ">"),
        (3, "2", "3"),
        (3, "and", "or"),
        (3, "not", ""),
        (3, "redis.call('HSET', key, 'state', '')", ""),
        (3, "'state'", "'XXstate'"),
        (3, "''", "'XX'"),
        (4, "ended = ended + sum", ""),
        (4, "+", "-"),
        (5, "1", "0"),
    ]
    assert mutants(TEXT)[0].text == TEXT.replace("row - 1", "row + 1")


def test_redis_loads_each_mutant(redis_url: str) -> None:
    """One that it does not load would be caught by any test."""
    with redis.Redis.from_url(redis_url) as client, client.pipeline(transaction=False) as pipe:
        for script in SCRIPTS[::3]:
            for mutant in mutants((LUA / f"{script}.lua").read_text("utf-8")):
                pipe.script_load(lua_source._INCLUDE.sub("", mutant.text))
        assert len(pipe.execute()) > 300
        client.script_flush()
