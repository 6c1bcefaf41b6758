-- Finds an API object by its content, or decides who creates it: one creator at a time, all others wait for
-- its id. While it is being created, the key holds '?' and the creator's name; a loader's name is
-- batch/fence/nonce.
-- ARGV: batch ('' for none), kind, sha, creator, creating_ms (lifetime of the creator's lock), unused_ms
--       (lifetime of an unused id), unsealed_ms, fence ('' for who does not load the batch), id that no
--       longer exists, …
-- Reply: the id; 1: the caller creates it; 0: another creates it; -1: another command loads the batch, or it
--        is gone.
-- include: lib/resource_ledger.lua
local batch, kind, sha, creator = ARGV[1], ARGV[2], ARGV[3], '?' .. ARGV[4]
local creating_ms, unused_ms, unsealed_ms = ARGV[5], ARGV[6], ARGV[7]
local fence, key = ARGV[8], resource_key(kind, sha)

if fence ~= '' and check_loader(batch, fence) ~= 1 then return -1 end
local stored = redis.call('GET', key)
for at = 9, #ARGV do
  if stored == ARGV[at] then stored = false end
end
-- The lock of an earlier loader of this batch, which has lost its lease, does not count.
local lock_batch, lock_fence = (stored or ''):match('^%?([^/]*)/([^/]*)/')
if fence ~= '' and lock_batch == batch and lock_fence ~= fence then stored = false end
-- A creator calls again when its reply was lost, and to renew its lock.
if not stored or stored == creator then
  redis.call('SET', key, creator, 'PX', creating_ms)
  extend_unsealed(batch, unsealed_ms)
  return 1
end
if stored:sub(1, 1) == '?' then return 0 end
redis.call('PEXPIRE', key, unused_ms)
add_to_ledger(batch, kind, stored, sha)
return stored
