-- Counts the deaths of workers in risky steps.
-- include: lib/row.lua

-- A death counts against a row or a shard only while its crash mark is set; that of a shard also against the row whose
-- line went on, while the row is in the shard.
local function count_crash(batch, row)
  local live, number = live_key(batch, row), shard_number(row)
  local crash_mark, crash_row = unpack(redis.call('HMGET', live, 'crash_mark', 'crash_row'))
  if crash_mark ~= '1' then return end
  redis.call('HINCRBY', live, 'crashes', 1)
  if crash_row and redis.call('HGET', part_key(batch, 'shard_rows'), crash_row) == tostring(number) then
    redis.call('HINCRBY', live_key(batch, crash_row), 'crashes', 1)
  end
end
