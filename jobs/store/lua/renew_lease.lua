-- A loader is alive: its lease goes on. ARGV: batch, fence, lease_ms, unsealed_ms
-- Returns 1; 0: the batch is gone; -1: it is sealed, or another command loads it.
-- include: lib/loading.lua
local batch, fence = ARGV[1], ARGV[2]

local ours = loads(batch, fence)
if ours == 1 then renew(batch, ARGV[3], ARGV[4], LOADED_PARTS) end
return ours
