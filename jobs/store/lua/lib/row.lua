-- Changes of one row: its status byte, its place in a queue, the money it holds.
-- include: lib/keys.lua

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- '' when the batch does not exist.
local function status_byte(batch, row)
  return redis.call('GETRANGE', part_key(batch, 'status'), row - 1, row - 1)
end

-- Changes the row's byte, and the counters of both bytes. A shard has none.
local function set_status(batch, row, from, to)
  if shard_number(row) then return end
  redis.call('SETRANGE', part_key(batch, 'status'), row - 1, to)
  redis.call('HINCRBY', part_key(batch, 'counters'), from, -1)
  redis.call('HINCRBY', part_key(batch, 'counters'), to, 1)
end

-- The same for many rows, in ascending order: one write for each range of them.
local function set_status_of_rows(batch, rows, from, to)
  if #rows == 0 then return end
  local first = 1
  for i, row in ipairs(rows) do
    if rows[i + 1] ~= row + 1 then
      redis.call('SETRANGE', part_key(batch, 'status'), rows[first] - 1, string.rep(to, i - first + 1))
      first = i + 1
    end
  end
  redis.call('HINCRBY', part_key(batch, 'counters'), from, -#rows)
  redis.call('HINCRBY', part_key(batch, 'counters'), to, #rows)
end

-- The row waits until `due_ms`. `due_running` is dispatched whatever the state of the batch: it holds the
-- rows that may have a run in flight at the API, and all that a cancelled batch still has to end.
local function set_waiting(batch, row, from, due_ms)
  local in_flight = redis.call('HGET', live_key(batch, row), 'run_in_flight') == '1'
  local cancelled = redis.call('HGET', batch_key(batch), 'state') == 'cancelled'
  redis.call('ZADD', part_key(batch, (in_flight or cancelled) and 'due_running' or 'due'), due_ms, row)
  set_status(batch, row, from, 'w')
end

-- Between its end and the first run after a `retry` a batch is idle: no part of its duration.
local function count_idle(batch, ended_before)
  if not ended_before then return end
  redis.call('HINCRBY', batch_key(batch), 'idle_ms', math.max(0, now_ms() - tonumber(ended_before)))
  redis.call('HDEL', batch_key(batch), 'ended_before')
end

-- Counts runs that the API has accepted. Returns whether they are the first of the batch.
local function count_runs(batch, runs)
  local accepted, batch_state, ended_before =
    unpack(redis.call('HMGET', batch_key(batch), 'accepted', 'state', 'ended_before'))
  count_idle(batch, ended_before)
  redis.call('HINCRBY', part_key(batch, 'counters'), 'runs', runs)
  redis.call('HSET', batch_key(batch), 'accepted', 1)
  redis.call('HSETNX', batch_key(batch), 'started_at', now_ms())
  redis.call('HDEL', batch_key(batch), 'creates_failing_since')
  if batch_state == 'queued' then redis.call('HSET', batch_key(batch), 'state', 'running') end
  return accepted ~= '1'
end

-- Adds the pairs (counter, amount) in ARGV from index `first` on.
local function add_counters(batch, first)
  for i = first, #ARGV, 2 do
    redis.call('HINCRBY', part_key(batch, 'counters'), ARGV[i], ARGV[i + 1])
  end
end

-- Sets an amount of money that the row holds: `reserved_nano`, what its run in flight may cost, or
-- `spent_nano`, what its ended attempts cost, until the row's end counts it. The batch's counters of these
-- names are the sums over its rows.
local function set_money(batch, row, field, nano)
  local before = tonumber(redis.call('HGET', live_key(batch, row), field) or 0)
  if before ~= nano then
    redis.call('HINCRBY', part_key(batch, 'counters'), field, nano - before)
    redis.call('HSET', live_key(batch, row), field, nano)
  end
end
