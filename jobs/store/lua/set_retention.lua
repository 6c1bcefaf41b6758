-- Changes a batch's retention; for a batch that has ended it begins now.
-- ARGV: batch, retention_ms
-- Reply: 1; 0: no such batch.
-- include: lib/batch_end.lua
local batch, retention_ms = ARGV[1], ARGV[2]

if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
redis.call('HSET', batch_key(batch), 'retention_ms', retention_ms)
if redis.call('HEXISTS', batch_key(batch), 'finished_at') == 1 then begin_retention(batch) end
return 1
