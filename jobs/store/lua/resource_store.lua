-- It is made: found under its key from now on, unless the maker's turn had run out and another has it.
-- ARGV: batch ('' for none), kind, sha, maker, id, unused_ms   Returns 1.
-- include: lib/resource_ledger.lua
local batch, kind, sha, maker, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = resource_key(kind, sha)

local known = redis.call('GET', key)
if not known or known == '?' .. maker or known == id then redis.call('SET', key, id, 'PX', ARGV[6]) end
enter(batch, kind, id, sha)
return 1
