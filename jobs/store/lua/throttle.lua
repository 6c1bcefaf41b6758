-- The API said 429: hold new runs back as long as told. A wave of refusals, three and a quarter of the runs in
-- flight, halves the runs in flight, once: fewer are chance, and halving at each ends at one run (measured, 4 %).
-- ARGV: wait_ms   Returns the runs that may be in flight now; nil when nothing limits them.
-- include: lib/limits.lua
local wait_ms, now = tonumber(ARGV[1]), now_ms()

local wave_at = tonumber(redis.call('HGET', WINDOW, 'wave_at') or 0)
if now - wave_at >= math.max(1000, wait_ms) then
  redis.call('HSET', WINDOW, 'wave_at', now, 'refused', 0)
  wave_at = now
end
local refused = redis.call('HINCRBY', WINDOW, 'refused', 1)
local halved_at = tonumber(redis.call('HGET', WINDOW, 'halved_at') or 0)
local runs = math.min(runs_in_flight(), allowed_runs(now))
if halved_at < wave_at and refused >= math.max(3, runs / 4) then
  redis.call('HSET', WINDOW, 'runs', math.max(1, math.floor(runs / 2)), 'halved_at', now)
end
redis.call('HSET', WINDOW, 'hold_until', math.max(held_until(), now + wait_ms))
-- Forgotten when it has long been recovered: a twentieth a second grows a hundredfold in 95 s.
redis.call('PEXPIRE', WINDOW, math.max(300000, 2 * wait_ms))
-- Infinity as an integer reply would be a negative number.
local allowed = allowed_runs(now)
return allowed < math.huge and allowed or nil
