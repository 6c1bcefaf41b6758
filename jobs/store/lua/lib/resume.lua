-- Ends the pause of a batch.
-- include: lib/keys.lua

-- Returns the new state.
local function resume_batch(batch)
  local started = redis.call('HEXISTS', batch_key(batch), 'started_at') == 1
  local state = started and 'running' or 'queued'
  redis.call('HSET', batch_key(batch), 'state', state)
  redis.call('HDEL', batch_key(batch), 'paused_reason', 'paused_at', 'paused_until', 'creates_failing_since',
    'refused_at_run', 'refused_rows', 'refused_alone')
  -- Rows with a run in flight that wait because of the pause are due now.
  for _, row in ipairs(redis.call('ZRANGE', part_key(batch, 'due_running'), 0, -1)) do
    redis.call('ZADD', part_key(batch, 'due_running'), 0, row)
  end
  return state
end
