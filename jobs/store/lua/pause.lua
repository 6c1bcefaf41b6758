-- Pauses a batch: no more runs are started.
-- ARGV: batch, reason, after a fault (1: after `resume` one row is dispatched alone until the API accepts its
--       run)
-- Reply: {state before, changed (0|1)}; a state of '' for an unknown batch.
-- include: lib/keys.lua
local batch, reason, after_fault = ARGV[1], ARGV[2], ARGV[3] == '1'

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'queued' and state ~= 'running' then return {state, 0} end
redis.call('HSET', batch_key(batch), 'state', 'paused', 'paused_reason', reason)
redis.call('HDEL', batch_key(batch), 'creates_failing_since')
if after_fault then
  redis.call('HSET', batch_key(batch), 'accepted', 0)
  redis.call('HDEL', batch_key(batch), 'probe_row')
end
return {state, 1}
