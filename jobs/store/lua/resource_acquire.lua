-- Finds an API object by its content, or decides who creates it: one creator at a time, all others wait for
-- its id. A loader's name as a creator is batch/fence/nonce.
-- ARGV: batch ('' for none), kind, sha, creator, renewal (its number; 0: none), note (for the successor of this
--       creator, if it dies), lock that is to be taken over ('' for none), lock_ms (lifetime of the lock),
--       unused_ms (lifetime of an unused id), unsealed_ms, fence ('' for who does not load the batch), id that
--       no longer exists, …
-- Reply: {'found', id}; {'create', note}: the caller creates it, and has the note of a dead creator, or its own;
--        {'wait', lock}: another creates it; {'lost'}: another command loads the batch, or it is gone.
-- include: lib/resource_ledger.lua
-- include: lib/resource_lock.lua
local batch, kind, sha, creator = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local renewal, note, silent_lock = ARGV[5], ARGV[6], ARGV[7]
local lock_ms, unused_ms, unsealed_ms = ARGV[8], ARGV[9], ARGV[10]
local fence, key = ARGV[11], resource_key(kind, sha)

if fence ~= '' and check_loader(batch, fence) ~= 1 then return {'lost'} end
local stored = redis.call('GET', key)
for at = 12, #ARGV do
  if stored == ARGV[at] then stored = false end
end
local holder, earlier_note = read_lock(stored)
-- The lock of an earlier loader of this batch, which has lost its lease, does not count.
local lock_batch, lock_fence = (holder or ''):match('^([^/]*)/([^/]*)/')
local is_replaced = fence ~= '' and lock_batch == batch and lock_fence ~= fence
-- A creator calls again when its reply was lost, and to renew its lock.
if not stored or holder == creator or holder == '' or is_replaced or stored == silent_lock then
  if earlier_note and earlier_note ~= '' then note = earlier_note end
  redis.call('SET', key, string.format('?%s %s %s', creator, renewal, note), 'PX', lock_ms)
  extend_unsealed(batch, unsealed_ms)
  return {'create', note}
end
if holder then return {'wait', stored} end
redis.call('PEXPIRE', key, unused_ms)
add_to_ledger(batch, kind, stored, sha)
return {'found', stored}
