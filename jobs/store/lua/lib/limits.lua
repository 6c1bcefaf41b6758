-- How fast all workers together may go: what the API has told one of them holds for all.
-- include: lib/row.lua

-- Runs in flight: rows that workers hold, a dead one's until they are swept, and rows between two workers.
local function runs_in_flight()
  local runs = 0
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    runs = runs + redis.call('SCARD', held_key(worker))
  end
  for _, batch in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
    runs = runs + redis.call('ZCARD', part(batch, 'orphans'))
  end
  return runs
end

-- ms until which nothing new is started; 0 when the API has not told us to wait.
local function held_until()
  return tonumber(redis.call('HGET', WINDOW, 'hold_until') or 0)
end

-- Runs that may be in flight: what users allow, and what the API bore lately, a twentieth more each second.
local function allowed_runs(now)
  local allowed = tonumber(redis.call('HGET', LIMITS, 'max_runs')) or math.huge
  local about = redis.call('HMGET', WINDOW, 'runs', 'halved_at')
  if not about[1] then return allowed end
  local window = about[1] * 1.05 ^ math.max(0, (now - about[2]) / 1000)
  return math.min(allowed, math.max(1, math.floor(window)))
end
