-- Records a failed create of a run. Pauses the batch when creates have failed for `patience_ms` without a
-- success.
-- ARGV: batch, reason, patience_ms
-- Reply: 1 when this call paused the batch, else 0.
-- include: lib/row.lua
local batch, reason, patience_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()

local state, failing_since = unpack(redis.call('HMGET', batch_key(batch), 'state', 'creates_failing_since'))
if state ~= 'queued' and state ~= 'running' then return 0 end
redis.call('HSETNX', batch_key(batch), 'creates_failing_since', now)
if now - (tonumber(failing_since) or now) < patience_ms then return 0 end
redis.call('HSET', batch_key(batch), 'state', 'paused', 'paused_reason', reason, 'paused_at', now,
  'accepted', 0)
redis.call('HDEL', batch_key(batch), 'creates_failing_since', 'probe_row')
return 1
