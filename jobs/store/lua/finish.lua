-- Ends a row, if its claim still stands: result, byte, counters, pace, the next turn, perhaps the batch.
-- ARGV: batch, row, worker, fence, byte, result, seed for the next turn, counter, amount, …   Returns held (0|1)
-- include: lib/batch_end.lua
local batch, row, worker, fence, byte = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local result, seed = ARGV[6], ARGV[7]

local function count_pace()
  local bucket = math.floor(now_ms() / 10000)
  if redis.call('HINCRBY', part(batch, 'pace'), bucket, 1) > 1 then return end
  for _, old in ipairs(redis.call('HKEYS', part(batch, 'pace'))) do
    if tonumber(old) < bucket - 30 then redis.call('HDEL', part(batch, 'pace'), old) end
  end
end

-- The rest of a conversation is not asked. An older result stays behind the mark: its runs were paid for.
local function fail_rest(turn)
  while turn do
    if byte_of(batch, turn) == 'h' then
      local older = redis.call('HGET', part(batch, 'results'), turn) or ''
      redis.call('HSET', part(batch, 'results'), turn, '!previous_turn\n' .. older)
      move(batch, turn, 'h', 'f')
    end
    turn = redis.call('HGET', part(batch, 'next'), turn)
  end
end

local function next_turn(turn)
  if byte ~= 'c' then return fail_rest(turn) end
  redis.call('HSET', part(batch, 'seeds'), turn, seed)
  if byte_of(batch, turn) == 'h' then
    redis.call('ZADD', part(batch, 'due'), 0, turn)
    move(batch, turn, 'h', 'w')
  end
end

if redis.call('HGET', live_key(batch, row), 'fence') ~= fence then return 0 end
add_counters(batch, 8)
put_by(batch, row, 'reserved', 0)
put_by(batch, row, 'spent', 0)
redis.call('HSET', part(batch, 'results'), row, result)
move(batch, row, 'r', byte)
redis.call('SREM', held_key(worker), member(batch, row))
redis.call('DEL', live_key(batch, row))
count_pace()
local turn = redis.call('HGET', part(batch, 'next'), row)
if turn then next_turn(turn) end
settle(batch)
return 1
