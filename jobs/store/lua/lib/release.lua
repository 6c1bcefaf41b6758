-- Releases a row that a dead or deregistered worker still held.
-- include: lib/crash.lua

-- `name` is "batch:row"; any other is only removed.
local function release_claim(worker, name)
  redis.call('SREM', claims_key(worker), name)
  local batch, row = split_member(name)
  if not batch then return end
  local live = live_key(batch, row)
  if redis.call('HGET', live, 'worker') ~= worker then return end
  count_crash(batch, row)
  if redis.call('HGET', live, 'run_in_flight') ~= '1' then set_money(batch, row, 'reserved_nano', 0) end
  redis.call('HDEL', live, 'fence', 'worker', 'crash_mark', 'crash_row', 'last_save')
  set_waiting(batch, row, 'r', 0)
end
