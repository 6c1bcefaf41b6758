-- Adds to a batch's counters what no claim can tell. ARGV: batch, counter, amount, …   Returns 0 for a batch that is gone.
-- include: lib/row.lua
local batch = ARGV[1]
if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
add_counters(batch, 2)
return 1
