-- What the API holds for a batch, when it is prepared or made again. ARGV: batch, resources, fence ('' for a worker)
-- Returns 1; 0: the batch is gone; -1: another command loads it.
-- include: lib/loading.lua
local batch, resources, fence = ARGV[1], ARGV[2], ARGV[3]

local ours = loads(batch, fence)
if ours == 0 or (fence ~= '' and ours ~= 1) then return ours end
redis.call('HSET', batch_key(batch), 'resources', resources)
return 1
