-- Adds to a batch's counters without a claim.
-- ARGV: request, batch, counter, amount, …
-- Reply: 1; 0: no such batch.
-- include: lib/row.lua
-- include: lib/once.lua
local request, batch = ARGV[1], ARGV[2]
if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
if earlier_reply(request) then return 1 end
add_counters(batch, 3)
return keep_reply(request, 1, 3600000)
