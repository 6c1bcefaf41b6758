-- Resumes a paused batch.
-- ARGV: batch
-- Reply: {state before, changed (0|1)}; a state of '' for an unknown batch.
-- include: lib/keys.lua
local batch = ARGV[1]

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'paused' then return {state, 0} end
local started = redis.call('HEXISTS', batch_key(batch), 'started_at') == 1
redis.call('HSET', batch_key(batch), 'state', started and 'running' or 'queued')
redis.call('HDEL', batch_key(batch), 'paused_reason', 'creates_failing_since')
-- Rows with a run in flight that wait because of the pause are due now.
for _, row in ipairs(redis.call('ZRANGE', part_key(batch, 'due_running'), 0, -1)) do
  redis.call('ZADD', part_key(batch, 'due_running'), 0, row)
end
return {state, 1}
