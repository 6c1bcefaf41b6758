-- A create has failed: pauses the batch once that has gone on too long without one success.
-- ARGV: batch, reason, patience_ms   Returns 1 when this call paused it.
-- include: lib/row.lua
local batch, reason, patience_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()

local about = redis.call('HMGET', batch_key(batch), 'state', 'trouble_since')
if about[1] ~= 'queued' and about[1] ~= 'running' then return 0 end
redis.call('HSETNX', batch_key(batch), 'trouble_since', now)
if now - (tonumber(about[2]) or now) < patience_ms then return 0 end
redis.call('HSET', batch_key(batch), 'state', 'paused', 'paused_reason', reason, 'accepted', 0)
redis.call('HDEL', batch_key(batch), 'trouble_since', 'probe')
return 1
