-- Stores the id of a created API object under its content, unless another creator holds the lock by now, and
-- adds it to the batch's ledger in any case.
-- ARGV: batch ('' for none), kind, sha, creator, id, unused_ms (lifetime of an unused id)
-- Reply: 1
-- include: lib/resource_ledger.lua
-- include: lib/resource_lock.lua
local batch, kind, sha, creator, id, unused_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local key = resource_key(kind, sha)

local stored = redis.call('GET', key)
if not stored or read_lock(stored) == creator or stored == id then redis.call('SET', key, id, 'PX', unused_ms) end
add_to_ledger(batch, kind, id, sha)
return 1
