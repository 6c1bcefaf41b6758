-- Adds to a batch's counters without a claim.
-- ARGV: batch, counter, amount, …
-- Reply: 1; 0: no such batch.
-- include: lib/row.lua
local batch = ARGV[1]
if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
add_counters(batch, 2)
return 1
