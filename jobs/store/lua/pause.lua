-- Starts no more runs of a batch. ARGV: batch, reason, fault (1: the next run goes alone again)
-- Returns {state before, changed}; '' for an unknown batch.
-- include: lib/keys.lua
local batch, reason, fault = ARGV[1], ARGV[2], ARGV[3] == '1'

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'queued' and state ~= 'running' then return {state, 0} end
redis.call('HSET', batch_key(batch), 'state', 'paused', 'paused_reason', reason)
redis.call('HDEL', batch_key(batch), 'trouble_since')
if fault then
  redis.call('HSET', batch_key(batch), 'accepted', 0)
  redis.call('HDEL', batch_key(batch), 'probe')
end
return {state, 1}
