-- Changes the limits of a batch, also while it is loading.
-- ARGV: batch, limits, budget_nano ('' for none), limits before ('' for any)
-- Reply: 1; 0: no such batch; -1: its limits are no longer those before.
-- include: lib/keys.lua
local batch, limits, budget_nano, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local stored = redis.call('HGET', batch_key(batch), 'limits')
if not stored then return 0 end
-- Equal to the new ones: a repeated call whose first reply was lost.
if before ~= '' and stored ~= before and stored ~= limits then return -1 end
redis.call('HSET', batch_key(batch), 'limits', limits, 'budget_nano', budget_nano)
return 1
