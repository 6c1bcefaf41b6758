-- Stores the ids of a batch's files and vector store at the API, when they are created or created again.
-- ARGV: batch, resources, fence ('' for a worker)
-- Reply: 1; 0: no such batch; -1: another command loads it.
-- include: lib/loading.lua
local batch, resources, fence = ARGV[1], ARGV[2], ARGV[3]

local ours = check_loader(batch, fence)
if ours == 0 or (fence ~= '' and ours ~= 1) then return ours end
redis.call('HSET', batch_key(batch), 'resources', resources)
return 1
