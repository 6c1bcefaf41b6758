-- Saves how far a row is, if the claim still holds it. Before a create it also decides whether the run may
-- start.
-- ARGV: batch, row, fence, hash of the content, state, run_created (0|1), run_in_flight (''|0|1), crash_mark
--       (''|0|1), reserved_nano (''|nano), spent_nano (''|nano), counter, amount, …
-- Reply: {held, first run of the batch, affordable, may start, affordable once the runs in flight have
--        ended}, each 0|1; after a save also whether it has counted a run
-- include: lib/budget.lua
local batch, row, fence, content_hash, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local run_created, run_in_flight, crash_mark = ARGV[6] == '1', ARGV[7], ARGV[8]
local reserve_nano, spent_nano = tonumber(ARGV[9]), tonumber(ARGV[10])

local live = live_key(batch, row)
local claimed_with, last_save, reserved_nano, run_counted =
  unpack(redis.call('HMGET', live, 'fence', 'last_save', 'reserved_nano', 'run_counted'))
if claimed_with ~= fence then return {0, 0, 1, 1, 1} end
-- A repeated call: the client got no reply to the first. Nothing is counted twice.
if last_save == content_hash then return {1, 0, 1, 1, 1} end

-- The last check before a create: a paused or cancelled batch spends nothing more.
if run_in_flight == '1' and not run_created then
  local batch_state = redis.call('HGET', batch_key(batch), 'state')
  if batch_state == 'paused' or batch_state == 'cancelled' then return {1, 0, 1, 0, 1} end
end
if reserve_nano then
  local now, later = affordable(batch, reserve_nano, tonumber(reserved_nano) or 0)
  if not now then return {1, 0, 0, 1, later and 1 or 0} end
end
redis.call('HSET', live, 'state', state, 'last_save', content_hash)
-- Every save while a run exists says so; `run_counted` keeps it from being counted again until the next
-- create.
if run_in_flight ~= '' then
  redis.call('HSET', live, 'run_in_flight', run_in_flight, 'run_counted', run_created and 1 or 0)
end
if crash_mark ~= '' then redis.call('HSET', live, 'crash_mark', crash_mark) end
if reserve_nano then set_money(batch, row, 'reserved_nano', reserve_nano) end
if spent_nano then set_money(batch, row, 'spent_nano', spent_nano) end
add_counters(batch, 11)
local counted = run_created and run_counted ~= '1'
local is_first = counted and count_runs(batch, 1)
return {1, is_first and 1 or 0, 1, 1, 1, counted and 1 or 0}
