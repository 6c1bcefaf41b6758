-- Stores an image that rows of a batch name, for the calls of chat completions, while the batch loads.
-- ARGV: batch, fence, sha of the content, content, lease_ms, unsealed_ms
-- Reply: 1; 0: no such batch; -1: another command loads it.
-- include: lib/loading.lua
local batch, fence, sha, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local ours = check_loader(batch, fence)
if ours ~= 1 then return ours end
redis.call('HSETNX', part_key(batch, 'images'), sha, content)
renew_lease(batch, ARGV[5], ARGV[6], {'images'})
return 1
