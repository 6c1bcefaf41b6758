-- Renews the lease of a batch's loader.
-- ARGV: batch, fence, lease_ms, unsealed_ms (lifetime without a further step)
-- Reply: 1; 0: no such batch; -1: it is sealed, or another command loads it.
-- include: lib/loading.lua
local batch, fence, lease_ms, unsealed_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local ours = check_loader(batch, fence)
if ours == 1 then renew_lease(batch, lease_ms, unsealed_ms, LOADED_PARTS) end
return ours
