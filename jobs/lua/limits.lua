-- Changes what a batch may spend. ARGV: batch, limits, budget_nano ('' for none)   Returns 0 for an unknown batch.
-- include: keys.lua
local batch, limits, budget_nano = ARGV[1], ARGV[2], ARGV[3]

if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
redis.call('HSET', batch_key(batch), 'limits', limits, 'budget_nano', budget_nano)
return 1
