-- What may happen to one row: read its byte, move it, let it wait. Shared by the scripts.
-- include: lib/keys.lua

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

-- Money that a row holds: `reserved`, what its run in flight may cost, and `spent`, what its earlier attempts have
-- cost, until the row's end counts it. The batch's counters are the sums over its rows.
local function put_by(batch, row, kind, nano)
  local before = tonumber(redis.call('HGET', live_key(batch, row), kind) or 0)
  if before ~= nano then
    redis.call('HINCRBY', part(batch, 'n'), kind .. '_nano', nano - before)
    redis.call('HSET', live_key(batch, row), kind, nano)
  end
end
