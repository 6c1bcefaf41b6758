-- Releases a row that a dead or deregistered worker still held.
-- include: lib/row.lua

-- `name` is "batch:row". A death counts against the row only while the row's crash mark is set.
local function release_claim(worker, name)
  redis.call('SREM', claims_key(worker), name)
  local batch, row = split_member(name)
  local live = live_key(batch, row)
  if redis.call('HGET', live, 'worker') ~= worker then return end
  if redis.call('HGET', live, 'crash_mark') == '1' then redis.call('HINCRBY', live, 'crashes', 1) end
  if redis.call('HGET', live, 'run_in_flight') ~= '1' then set_money(batch, row, 'reserved_nano', 0) end
  redis.call('HDEL', live, 'fence', 'worker', 'crash_mark', 'last_save')
  set_waiting(batch, row, 'r', 0)
end
