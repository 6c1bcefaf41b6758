-- What follows when a row has ended, or a whole batch. Shared by the scripts that end rows.
-- include: lib/row.lua

-- ms nil: the keys stay.
local function set_lifetime(batch, ms)
  local identity = redis.call('HGET', batch_key(batch), 'identity')
  local names = {batch_key(batch)}
  for _, name in ipairs(PARTS) do names[#names + 1] = part(batch, name) end
  if identity and redis.call('GET', identity_key(identity)) == batch then
    names[#names + 1] = identity_key(identity)
  end
  for _, name in ipairs(names) do
    if ms then redis.call('PEXPIRE', name, ms) else redis.call('PERSIST', name) end
  end
end

local function unfinished(batch)
  local left = 0
  for _, count in ipairs(redis.call('HMGET', part(batch, 'n'), 'q', 'p', 'w', 'h', 'r')) do
    left = left + (tonumber(count) or 0)
  end
  return left
end

-- An ended batch goes when the retention of whoever submitted it is over; without one it stays.
local function set_retention(batch)
  local retention_ms = tonumber(redis.call('HGET', batch_key(batch), 'retention_ms')) or 0
  if retention_ms > 0 then set_lifetime(batch, retention_ms) end
end

-- Closes the batch when nothing of it is left to do.
local function settle(batch)
  if unfinished(batch) > 0 then return end
  if redis.call('HGET', batch_key(batch), 'state') ~= 'cancelled' then
    redis.call('HSET', batch_key(batch), 'state', 'done')
    redis.call('HDEL', batch_key(batch), 'paused_reason')
  end
  redis.call('HSET', batch_key(batch), 'finished_at', now_ms())
  redis.call('ZREM', OPEN, batch)
  set_retention(batch)
end
