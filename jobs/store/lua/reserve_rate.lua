-- Reserves requests or tokens of a limit per minute: GCRA (generic cell rate algorithm) with a burst of one
-- second, on Redis' clock. A caller that has to wait has its reservation already and does not ask again.
-- ARGV: request, kind (requests_per_minute | tokens_per_minute), cost (negative: gives back what a reservation had too
--       much)
-- Reply: the ms to wait before going on; 0 where there is no such limit.
-- include: lib/limits.lua
-- include: lib/once.lua
local request, kind, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit = tonumber(redis.call('HGET', LIMITS, kind))
if not limit or limit <= 0 then return 0 end
local earlier = earlier_reply(request)
if earlier then return earlier end

local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local interval_ms, burst_ms = 60000 / limit, math.max(1000, 60000 / limit)
-- The theoretical arrival time (TAT) of the next request, before and after this one.
local before = math.max(tonumber(redis.call('GET', rate_limit_key(kind)) or 0), now)
local after = math.max(before + cost * interval_ms, now)
redis.call('SET', rate_limit_key(kind), string.format('%.3f', after), 'PX', math.ceil(after - now) + 60000)
return keep_reply(request, math.max(0, math.ceil(after - now - burst_ms)), 30000)
