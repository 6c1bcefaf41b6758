-- Limits that all workers share: what the API replied to one of them holds for all.
-- include: lib/row.lua

-- Runs in flight: rows that workers hold, a dead one's until they are released, and rows between two workers.
local function count_runs_in_flight()
  local runs = 0
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    runs = runs + redis.call('SCARD', claims_key(worker))
  end
  for _, batch in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
    runs = runs + redis.call('ZCARD', part_key(batch, 'due_running'))
  end
  return runs
end

-- The time in ms until which no run is started; 0 when the API has asked for no wait.
local function hold_until()
  return tonumber(redis.call('HGET', THROTTLE, 'hold_until') or 0)
end

-- Runs that may be in flight: the users' limit, and the limit set at the last 429s, which grows by 5 % a
-- second.
local function max_runs(now)
  local limit = tonumber(redis.call('HGET', LIMITS, 'max_runs')) or math.huge
  local throttle = redis.call('HMGET', THROTTLE, 'max_runs', 'halved_at')
  if not throttle[1] then return limit end
  local grown = throttle[1] * 1.05 ^ math.max(0, (now - throttle[2]) / 1000)
  return math.min(limit, math.max(1, math.floor(grown)))
end
