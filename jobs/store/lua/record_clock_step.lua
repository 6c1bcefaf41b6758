-- Records a step of Redis' clock for workers that start later: times stored before it are off by it.
-- Several workers notice the same step, and the call may be repeated: it is recorded once.
-- ARGV: step_ms (ahead: positive), within_ms (by when after a step all workers have noticed it)
-- Reply: recorded (0|1)
-- include: lib/row.lua
local SAME_STEP_MS, KEPT = 1000, 16
local step_ms, within_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = now_ms()

local last = redis.call('LINDEX', CLOCK_STEPS, -1)
local last_at, last_step = (last or ''):match('^(%d+) (-?%d+)$')
local same = last and math.abs(now - last_at) < within_ms and math.abs(step_ms - last_step) < SAME_STEP_MS
if same then return 0 end
redis.call('RPUSH', CLOCK_STEPS, string.format('%d %d', now, step_ms))
redis.call('LTRIM', CLOCK_STEPS, -KEPT, -1)
return 1
