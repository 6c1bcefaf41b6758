-- What may happen to one row: read its byte, move it, let it wait. Shared by the scripts.
-- include: keys.lua

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- '' for a batch that is gone.
local function byte_of(batch, row)
  return redis.call('GETRANGE', part(batch, 'status'), row - 1, row - 1)
end

local function move(batch, row, from, to)
  redis.call('SETRANGE', part(batch, 'status'), row - 1, to)
  redis.call('HINCRBY', part(batch, 'n'), from, -1)
  redis.call('HINCRBY', part(batch, 'n'), to, 1)
end

-- A row whose run may be out at the API, or that a cancelled batch still has to end, waits among the orphans:
-- those are fed whatever the state of the batch.
local function wait(batch, row, from, due_ms)
  local out = redis.call('HGET', live_key(batch, row), 'out') == '1'
  local cancelled = redis.call('HGET', batch_key(batch), 'state') == 'cancelled'
  redis.call('ZADD', part(batch, (out or cancelled) and 'orphans' or 'due'), due_ms, row)
  move(batch, row, from, 'w')
end

-- Adds the pairs (counter, amount) that stand in ARGV from `first` on.
local function add_counters(batch, first)
  for i = first, #ARGV, 2 do
    redis.call('HINCRBY', part(batch, 'n'), ARGV[i], ARGV[i + 1])
  end
end

-- Puts by what a row's run in flight may cost; 0 releases it.
local function reserve(batch, row, nano)
  local before = tonumber(redis.call('HGET', live_key(batch, row), 'reserved') or 0)
  if before ~= nano then
    redis.call('HINCRBY', part(batch, 'n'), 'reserved_nano', nano - before)
    redis.call('HSET', live_key(batch, row), 'reserved', nano)
  end
end
