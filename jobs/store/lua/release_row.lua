-- Releases a claimed row: it waits until `due_ms`, and then any worker may claim it.
-- ARGV: batch, row, worker, fence, state ('' keeps it), due_ms, run_in_flight (''|0|1), spent_nano (''|nano),
--       counter, amount, …
-- Reply: 1; 0: the claim no longer holds the row.
-- include: lib/row.lua
local batch, row, worker, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local state, due_ms, run_in_flight, spent_nano = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])

local live = live_key(batch, row)
if redis.call('HGET', live, 'fence') ~= fence then return 0 end
if state ~= '' then redis.call('HSET', live, 'state', state) end
if run_in_flight ~= '' then redis.call('HSET', live, 'run_in_flight', run_in_flight) end
if redis.call('HGET', live, 'run_in_flight') ~= '1' then set_money(batch, row, 'reserved_nano', 0) end
if spent_nano then set_money(batch, row, 'spent_nano', spent_nano) end
add_counters(batch, 9)
redis.call('HDEL', live, 'fence', 'worker', 'crash_mark', 'crash_row', 'last_save')
redis.call('SREM', claims_key(worker), member(batch, row))
set_waiting(batch, row, 'r', due_ms)
return 1
