-- Another retention for a batch; for one that has ended it begins now. ARGV: batch, retention_ms   Returns 0 if it is gone.
-- include: lib/batch_end.lua
local batch, retention_ms = ARGV[1], ARGV[2]

if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
redis.call('HSET', batch_key(batch), 'retention_ms', retention_ms)
if redis.call('HEXISTS', batch_key(batch), 'finished_at') == 1 then set_retention(batch) end
return 1
