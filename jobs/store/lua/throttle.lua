-- Records a 429 of the API: no run is started for `wait_ms`. Many refusals at a time, at least three and a
-- quarter of the runs in flight, halve the runs in flight, once. Fewer are chance: halving at each of them
-- ends at one run (measured with 4 % of refusals).
-- ARGV: request, wait_ms, words of the API
-- Reply: the runs that may be in flight now; nil when nothing limits them.
-- include: lib/limits.lua
-- include: lib/once.lua
local request, wait_ms, words, now = ARGV[1], tonumber(ARGV[2]), ARGV[3], now_ms()

-- Redis would turn infinity into a negative integer.
local function reply()
  local limit = max_runs(now)
  return limit < math.huge and limit or nil
end

if earlier_reply(request) then return reply() end

local refusals_since = tonumber(redis.call('HGET', THROTTLE, 'refusals_since') or 0)
if now - refusals_since >= math.max(1000, wait_ms) then
  redis.call('HSET', THROTTLE, 'refusals_since', now, 'refusals', 0)
  refusals_since = now
end
local refusals = redis.call('HINCRBY', THROTTLE, 'refusals', 1)
local halved_at = tonumber(redis.call('HGET', THROTTLE, 'halved_at') or 0)
local runs = math.min(count_runs_in_flight(), max_runs(now))
if halved_at < refusals_since and refusals >= math.max(3, runs / 4) then
  redis.call('HSET', THROTTLE, 'max_runs', math.max(1, math.floor(runs / 2)), 'halved_at', now)
end
if hold_until() < now then redis.call('HSET', THROTTLE, 'held_since', now) end
redis.call('HSET', THROTTLE, 'hold_until', math.max(hold_until(), now + wait_ms), 'words', words)
-- Expires long after recovery: 5 % a second is a hundredfold in 95 s.
redis.call('PEXPIRE', THROTTLE, math.max(300000, 2 * wait_ms))
keep_reply(request, 1, 3600000)
return reply()
