-- Whose turn it is to make what is remembered under a key: one maker at a time, all others wait for its id.
-- ARGV: batch ('' for none), kind, sha, maker, making_ms, unused_ms, unsealed_ms, fence ('' for who does not load the
-- batch), id that is gone, …   A loader's maker is batch/fence/nonce.
-- Returns the id; 1: make it; 0: somebody is making it; -1: the batch is another loader's, or gone.
-- include: lib/resource_ledger.lua
local batch, kind, sha, maker = ARGV[1], ARGV[2], ARGV[3], '?' .. ARGV[4]
local making_ms, unused_ms, unsealed_ms = ARGV[5], ARGV[6], ARGV[7]
local fence, key = ARGV[8], resource_key(kind, sha)

if fence ~= '' and loads(batch, fence) ~= 1 then return -1 end
local known = redis.call('GET', key)
for at = 9, #ARGV do
  if known == ARGV[at] then known = false end
end
-- The turn of an earlier loader of this batch, which has lost its lease.
local of, turn = (known or ''):match('^%?([^/]*)/([^/]*)/')
if fence ~= '' and of == batch and turn ~= fence then known = false end
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
