-- Gives a batch of the API that no shard knows, after lost writes, a shard with those of its rows that wait or are in
-- a shard that is not sent. Known to a shard by then, or without such rows, it gets none.
-- ARGV: batch, the API's batch id, its input file's id, state, assumed_nano counted for a batch without rows,
--       then the rows of its lines in ascending order
-- Reply: {number of its shard or 0, whether it is counted as a duplicate now (0|1), number of a shard that lost rows, …}
-- include: lib/batch_end.lua
-- include: lib/shard.lua
local batch, api_batch, file, state, assumed_nano = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local shards = part_key(batch, 'shards')

if redis.call('HEXISTS', shards, 'file:' .. file) == 1 then return {0, 0} end
local batch_state = redis.call('HGET', batch_key(batch), 'state')
if not batch_state then return {0, 0} end
local rows, robbed = {}, {}
for i = 6, #ARGV do
  local row = ARGV[i]
  local byte, holder = status_byte(batch, row), redis.call('HGET', part_key(batch, 'shard_rows'), row)
  local free = byte == 'q' or byte == 'w' or (byte == 'p' and holder and not is_sent(batch, holder))
  if free then
    if holder then
      take_from_shard(batch, row, holder)
      robbed[holder] = true
    end
    redis.call('ZREM', part_key(batch, 'due'), row)
    set_status(batch, row, byte, 'r')
    rows[#rows + 1] = tonumber(row)
  end
end
if #rows == 0 then
  local first = redis.call('HSETNX', shards, 'duplicate:' .. api_batch, 1)
  if first == 1 then
    redis.call('HINCRBY', part_key(batch, 'counters'), 'late_runs', 1)
    redis.call('HINCRBY', part_key(batch, 'counters'), 'assumed_nano', assumed_nano)
  end
  return {0, first}
end
local number = new_shard(batch, rows, state)
local lines = {}
for i = 6, #ARGV do lines[#lines + 1] = tonumber(ARGV[i]) end
redis.call('HSET', part_key(batch, 'shard_lines'), number, ranges_of(lines))
redis.call('HSET', shards, 'file:' .. file, number)
redis.call('HSET', live_key(batch, shard_name(number)), 'sent', 1)
redis.call('ZADD', part_key(batch, 'due_running'), 0, shard_name(number))
redis.call('HINCRBY', part_key(batch, 'counters'), 'adopted_batches', 1)
count_runs(batch, 0)
local reply = {number, 0}
for holder in pairs(robbed) do reply[#reply + 1] = tonumber(holder) end
return reply
