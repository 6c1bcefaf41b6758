-- Goes on with a paused batch. ARGV: batch   Returns {state before, changed}; '' for an unknown batch.
-- include: lib/keys.lua
local batch = ARGV[1]

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'paused' then return {state, 0} end
local begun = redis.call('HEXISTS', batch_key(batch), 'started_at') == 1
redis.call('HSET', batch_key(batch), 'state', begun and 'running' or 'queued')
redis.call('HDEL', batch_key(batch), 'paused_reason', 'trouble_since')
-- What the pause made wait is looked at now.
for _, row in ipairs(redis.call('ZRANGE', part(batch, 'orphans'), 0, -1)) do
  redis.call('ZADD', part(batch, 'orphans'), 0, row)
end
return {state, 1}
