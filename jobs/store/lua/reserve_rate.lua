-- Books requests or tokens a minute for the future: GCRA with a burst of one second, on Redis' clock.
-- A booking is kept: who is told to wait has its place, so thousands of waiters make no storm.
-- ARGV: kind (requests_per_minute | tokens_per_minute), cost (may be negative: a booking settled for less)
-- Returns the ms to wait before going on; 0 where there is no such limit.
-- include: lib/limits.lua
local kind, cost = ARGV[1], tonumber(ARGV[2])
local limit = tonumber(redis.call('HGET', LIMITS, kind))
if not limit or limit <= 0 then return 0 end

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local each_ms, burst_ms = 60000 / limit, math.max(1000, 60000 / limit)
local due = math.max(tonumber(redis.call('GET', TAT .. kind) or 0), now)
local after = math.max(due + cost * each_ms, now)
redis.call('SET', TAT .. kind, string.format('%.3f', after), 'PX', math.ceil(after - now) + 60000)
return math.max(0, math.ceil(after - now - burst_ms))
