-- Pauses a batch: no more runs are started. A pause that ends by itself gives way to one that does not.
-- ARGV: request, batch, reason, after a fault (1: after `resume` one row is dispatched alone until the API accepts its
--       run), ms after which the batch resumes by itself ('': never)
-- Reply: {state before, changed (0|1)}; a state of '' for an unknown batch.
-- include: lib/row.lua
-- include: lib/once.lua
local request, batch, reason, after_fault = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local resume_after_ms = tonumber(ARGV[5])

local earlier = earlier_reply(request)
if earlier then return earlier end
local state, paused_until = unpack(redis.call('HMGET', batch_key(batch), 'state', 'paused_until'))
if not state or state == 'loading' then return {'', 0} end
local replaces = state == 'paused' and paused_until and not resume_after_ms
if state ~= 'queued' and state ~= 'running' and not replaces then return {state, 0} end
local now = now_ms()
redis.call('HSET', batch_key(batch), 'state', 'paused', 'paused_reason', reason, 'paused_at', now)
redis.call('HDEL', batch_key(batch), 'creates_failing_since', 'paused_until')
if resume_after_ms then redis.call('HSET', batch_key(batch), 'paused_until', now + resume_after_ms) end
if after_fault then
  redis.call('HSET', batch_key(batch), 'accepted', 0)
  redis.call('HDEL', batch_key(batch), 'probe_row')
end
return keep_reply(request, {state, 1}, 3600000)
