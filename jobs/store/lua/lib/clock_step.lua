-- Redis' clock was set back: what lies ahead of it moves with it, or rows and requests would wait that long. A step
-- ahead cannot be told from a time without workers; it makes waits end early, and ends no worker (see sweep.lua).
-- include: lib/row.lua
local STEP_MS = 1000

-- Members with a score past `now`, moved back.
local function move_scores(key, now, by_ms)
  local ahead = redis.call('ZRANGEBYSCORE', key, '(' .. now, '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do redis.call('ZADD', key, ahead[i + 1] - by_ms, ahead[i]) end
end

local function move_field(key, field, now, by_ms)
  local at = tonumber(redis.call('HGET', key, field))
  if at and at > now then redis.call('HSET', key, field, at - by_ms) end
end

-- The last heartbeat tells how far: once, for the workers' scores move too.
local function follow_clock(now)
  local last = redis.call('ZRANGE', WORKERS, -1, -1, 'WITHSCORES')
  local by_ms = last[2] and last[2] - now or 0
  if by_ms < STEP_MS then return end
  move_scores(WORKERS, now, by_ms)
  move_scores(FED, now, by_ms)
  for _, batch in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
    move_scores(part(batch, 'due'), now, by_ms)
    move_scores(part(batch, 'orphans'), now, by_ms)
    move_field(batch_key(batch), 'probe_at', now, by_ms)
    move_field(batch_key(batch), 'trouble_since', now, by_ms)
  end
  for _, field in ipairs({'hold_until', 'wave_at', 'halved_at'}) do move_field(WINDOW, field, now, by_ms) end
  for _, kind in ipairs({'requests_per_minute', 'tokens_per_minute'}) do
    local due = tonumber(redis.call('GET', TAT .. kind))
    if due and due > now then redis.call('SET', TAT .. kind, string.format('%.3f', due - by_ms), 'KEEPTTL') end
  end
end
