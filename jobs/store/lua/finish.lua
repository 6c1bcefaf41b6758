-- Ends a row with its result, if the claim still holds it. Releases the next turn of its conversation, or
-- fails the rest of the conversation; closes the batch after its last row.
-- ARGV: batch, row, worker, fence, status byte, result, state for the next turn, run_created (0|1), counter,
--       amount, …
-- Reply: 1; 0: the claim no longer holds the row.
-- include: lib/batch_end.lua
local batch, row, worker, fence, byte = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local result, turn_state, run_created = ARGV[6], ARGV[7], ARGV[8] == '1'

-- Later turns are not asked. An earlier result of a turn stays behind the mark, because its runs were paid
-- for.
local function fail_rest(turn)
  while turn do
    if status_byte(batch, turn) == 'h' then
      local earlier = redis.call('HGET', part_key(batch, 'results'), turn) or ''
      redis.call('HSET', part_key(batch, 'results'), turn, '!previous_turn\n' .. earlier)
      set_status(batch, turn, 'h', 'f')
    end
    turn = redis.call('HGET', part_key(batch, 'next_turn'), turn)
  end
end

local function release_turn(turn)
  redis.call('HSET', part_key(batch, 'previous_turn'), turn, turn_state)
  if status_byte(batch, turn) == 'h' then
    redis.call('ZADD', part_key(batch, 'due'), 0, turn)
    set_status(batch, turn, 'h', 'w')
  end
end

local claimed_with, run_counted = unpack(redis.call('HMGET', live_key(batch, row), 'fence', 'run_counted'))
if claimed_with ~= fence then
  -- A repeated call, its first reply lost: no other worker has had the same run with the same times.
  local repeated = status_byte(batch, row) == byte and redis.call('HGET', part_key(batch, 'results'), row) == result
  return repeated and 1 or 0
end
add_counters(batch, 9)
-- A call whose reply is its answer (chat completions): nothing was saved between the create and the end.
if run_created and run_counted ~= '1' then count_runs(batch, 1) end
set_money(batch, row, 'reserved_nano', 0)
set_money(batch, row, 'spent_nano', 0)
redis.call('HSET', part_key(batch, 'results'), row, result)
set_status(batch, row, 'r', byte)
redis.call('SREM', claims_key(worker), member(batch, row))
redis.call('DEL', live_key(batch, row))
count_throughput(batch, 1)
local turn = redis.call('HGET', part_key(batch, 'next_turn'), row)
if turn and byte == 'c' then release_turn(turn) elseif turn then fail_rest(turn) end
close_if_done(batch)
return 1
