-- Lets a claimed row wait for whoever takes it next.
-- ARGV: batch, row, worker, fence, state ('' keeps it), due_ms, out (''|0|1), spent (''|nano), counter, amount, …
-- Returns held (0|1)
-- include: lib/row.lua
local batch, row, worker, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state, due_ms, out, spent = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])

local live = live_key(batch, row)
if redis.call('HGET', live, 'fence') ~= fence then return 0 end
if state ~= '' then redis.call('HSET', live, 'state', state) end
if out ~= '' then redis.call('HSET', live, 'out', out) end
if redis.call('HGET', live, 'out') ~= '1' then put_by(batch, row, 'reserved', 0) end
if spent then put_by(batch, row, 'spent', spent) end
add_counters(batch, 9)
redis.call('HDEL', live, 'fence', 'worker', 'danger', 'nonce')
redis.call('SREM', held_key(worker), member(batch, row))
wait(batch, row, 'r', due_ms)
return 1
