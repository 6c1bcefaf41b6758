-- The end of a batch: closes it when no row is unfinished, and sets when its keys expire.
-- include: lib/row.lua

-- Every key of the batch expires after `ms`; nil: never.
local function set_lifetime(batch, ms)
  local identity = redis.call('HGET', batch_key(batch), 'identity')
  local names = {batch_key(batch)}
  for _, name in ipairs(PARTS) do names[#names + 1] = part_key(batch, name) end
  if identity and redis.call('GET', identity_key(identity)) == batch then
    names[#names + 1] = identity_key(identity)
  end
  for _, name in ipairs(names) do
    if ms then redis.call('PEXPIRE', name, ms) else redis.call('PERSIST', name) end
  end
end

local function count_unfinished(batch)
  local rows = 0
  for _, count in ipairs(redis.call('HMGET', part_key(batch, 'counters'), 'q', 'p', 'w', 'h', 'r')) do
    rows = rows + (tonumber(count) or 0)
  end
  return rows
end

-- Counts a finished row in its 10 s bucket; the last 5 minutes of buckets stay (jobs/store/eta.py).
local function count_throughput(batch, rows)
  local bucket = math.floor(now_ms() / 10000)
  if redis.call('HINCRBY', part_key(batch, 'throughput'), bucket, rows) > rows then return end
  for _, old in ipairs(redis.call('HKEYS', part_key(batch, 'throughput'))) do
    if tonumber(old) < bucket - 30 then redis.call('HDEL', part_key(batch, 'throughput'), old) end
  end
end

-- The retention of an ended batch begins; without one the batch stays until `purge`.
local function begin_retention(batch)
  local retention_ms = tonumber(redis.call('HGET', batch_key(batch), 'retention_ms')) or 0
  if retention_ms > 0 then set_lifetime(batch, retention_ms) end
end

-- Closes the batch when no row and no shard is unfinished: a shard of a cancelled batch has files to delete.
local function close_if_done(batch)
  if count_unfinished(batch) > 0 then return end
  if (tonumber(redis.call('HGET', part_key(batch, 'counters'), 'open_shards')) or 0) > 0 then return end
  if redis.call('HGET', batch_key(batch), 'state') ~= 'cancelled' then
    redis.call('HSET', batch_key(batch), 'state', 'done')
    redis.call('HDEL', batch_key(batch), 'paused_reason')
  end
  count_idle(batch, redis.call('HGET', batch_key(batch), 'ended_before'))
  redis.call('HSET', batch_key(batch), 'finished_at', now_ms())
  redis.call('ZREM', OPEN, batch)
  begin_retention(batch)
end
