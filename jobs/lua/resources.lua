-- What the API holds for a batch, when it is prepared or made again. ARGV: batch, resources   Returns 0 if it is gone.
-- include: keys.lua
local batch, resources = ARGV[1], ARGV[2]

if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
redis.call('HSET', batch_key(batch), 'resources', resources)
return 1
