-- Corrects stored times after Redis' clock was set back: times ahead of it move back with it, or rows and
-- requests would wait that long. A clock set forward looks like a time without workers: waits end early, and
-- no worker is declared dead for it (reap_workers.lua).
-- include: lib/row.lua
local SMALLEST_STEP_MS = 1000

-- Moves back the members of a sorted set whose score is ahead of `now`.
local function move_scores(key, now, by_ms)
  local ahead = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do redis.call('ZADD', key, ahead[i + 1] - by_ms, ahead[i]) end
end

local function move_field(key, field, now, by_ms)
  local at = tonumber(redis.call('HGET', key, field))
  if at and at > now then redis.call('HSET', key, field, at - by_ms) end
end

-- The newest heartbeat shows the size of the step, also when its worker has ended since. It moves too, so a step
-- is corrected once.
local function correct_clock_step(now)
  local newest = redis.call('ZRANGE', WORKERS, -1, -1, 'WITHSCORES')[2] or now
  local by_ms = math.max(newest, tonumber(redis.call('GET', LAST_HEARTBEAT)) or now) - now
  redis.call('SET', LAST_HEARTBEAT, string.format('%d', now))
  if by_ms < SMALLEST_STEP_MS then return end
  move_scores(WORKERS, now, by_ms)
  move_scores(DISPATCHED, now, by_ms)
  for _, batch in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
    move_scores(part_key(batch, 'due'), now, by_ms)
    move_scores(part_key(batch, 'due_running'), now, by_ms)
    move_field(batch_key(batch), 'probe_at', now, by_ms)
    move_field(batch_key(batch), 'creates_failing_since', now, by_ms)
    move_field(batch_key(batch), 'paused_until', now, by_ms)
    move_field(batch_key(batch), 'cuts_held_until', now, by_ms)
  end
  for _, field in ipairs({'hold_until', 'refusals_since', 'halved_at'}) do
    move_field(THROTTLE, field, now, by_ms)
  end
  for _, kind in ipairs({'requests_per_minute', 'tokens_per_minute'}) do
    local key = rate_limit_key(kind)
    local at = tonumber(redis.call('GET', key))
    if at and at > now then redis.call('SET', key, string.format('%.3f', at - by_ms), 'KEEPTTL') end
  end
end
