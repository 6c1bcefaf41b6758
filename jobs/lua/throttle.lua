-- The API said 429: hold new runs back as long as told, and halve the runs in flight, once for one wave of refusals.
-- ARGV: wait_ms   Returns the runs that may be in flight now.
-- include: pace.lua
local wait_ms, now = tonumber(ARGV[1]), now_ms()

local halved_at = tonumber(redis.call('HGET', WINDOW, 'halved_at') or 0)
if now - halved_at >= math.max(1000, wait_ms) then
  local runs = math.min(runs_in_flight(), allowed_runs(now))
  redis.call('HSET', WINDOW, 'runs', math.max(1, math.floor(runs / 2)), 'halved_at', now)
end
redis.call('HSET', WINDOW, 'hold_until', math.max(held_until(), now + wait_ms))
-- Forgotten when it has long been recovered: a twentieth a second grows a hundredfold in 95 s.
redis.call('PEXPIRE', WINDOW, math.max(300000, 2 * wait_ms))
return allowed_runs(now)
