-- Whose turn it is to make what is remembered under a key: one maker at a time, all others wait for its id.
-- ARGV: batch ('' for none), kind, sha, maker, making_ms, unused_ms, unsealed_ms, id that is gone, …
-- Returns the id; 1: make it; 0: somebody is making it.
-- include: making.lua
local batch, kind, sha, maker = ARGV[1], ARGV[2], ARGV[3], '?' .. ARGV[4]
local making_ms, unused_ms, unsealed_ms = ARGV[5], ARGV[6], ARGV[7]
local key = resource_key(kind, sha)

local known = redis.call('GET', key)
for at = 8, #ARGV do
  if known == ARGV[at] then known = false end
end
-- A maker whose reply was lost, or that takes long, asks again, and it is still its turn.
if not known or known == maker then
  redis.call('SET', key, maker, 'PX', making_ms)
  keep_loading(batch, unsealed_ms)
  return 1
end
if known:sub(1, 1) == '?' then return 0 end
redis.call('PEXPIRE', key, unused_ms)
enter(batch, kind, known, sha)
return known
