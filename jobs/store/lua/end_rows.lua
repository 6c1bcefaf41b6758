-- Ends rows of a shard, or puts them back into the queue, if the claim still holds the shard. All rows of a call
-- are in it, or none: then the call is repeated, its first reply lost, and changes nothing.
-- ARGV: batch, number, fence, number of values that follow: counter, amount, …;
--       then for each row: row, status byte, result (ended) or state ('w': another attempt; '' keeps it), spent_nano
--       (''|nano), due_ms
-- Reply: how many rows were in the shard; -1: the claim no longer holds it.
-- include: lib/batch_end.lua
-- include: lib/shard.lua
local batch, number, fence, counters = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local name, changed, ended = shard_name(number), 0, 0

local cancelled = redis.call('HGET', batch_key(batch), 'state') == 'cancelled'

-- In a cancelled batch a row with earlier attempts goes to a worker, which stores them with its end; any other ends.
local function wait(row, byte, state, spent_nano, due_ms)
  local live = live_key(batch, row)
  if state ~= '' then redis.call('HSET', live, 'state', state) end
  if spent_nano then set_money(batch, row, 'spent_nano', spent_nano) end
  if cancelled and redis.call('HEXISTS', live, 'state') == 0 then
    redis.call('DEL', live)
    set_status(batch, row, byte, 'x')
    return
  end
  redis.call('ZADD', part_key(batch, cancelled and 'due_running' or 'due'), cancelled and 0 or due_ms, row)
  set_status(batch, row, byte, 'w')
end

local function finish(row, byte, new_byte, result)
  set_money(batch, row, 'spent_nano', 0)
  redis.call('HSET', part_key(batch, 'results'), row, result)
  redis.call('DEL', live_key(batch, row))
  set_status(batch, row, byte, new_byte)
  ended = ended + 1
end

if redis.call('HGET', live_key(batch, name), 'fence') ~= fence then return -1 end
for i = 5 + counters, #ARGV, 5 do
  local row, new_byte = ARGV[i], ARGV[i + 1]
  if take_from_shard(batch, row, number) then
    changed = changed + 1
    local byte = status_byte(batch, row)
    if byte == 'p' or byte == 'r' then
      if new_byte == 'w' then wait(row, byte, ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4])
      else finish(row, byte, new_byte, ARGV[i + 2]) end
    end
  end
end
if changed > 0 then
  for i = 5, 4 + counters, 2 do
    redis.call('HINCRBY', part_key(batch, 'counters'), ARGV[i], ARGV[i + 1])
  end
  if ended > 0 then count_throughput(batch, ended) end
end
return changed
