-- Cancels a batch. Rows without a stored state end now; the others go to workers, which end them at the API. Rows of
-- shards that are not sent leave them, so that a retry may put them into others.
-- ARGV: batch
-- Reply: the state before; '' for an unknown batch.
-- include: lib/batch_end.lua
-- include: lib/shard.lua
local batch = ARGV[1]
local begun = {}

-- Sorts rows that may have a live hash: those with a stored state go to `begun`, the others lose their hash.
local function sort_rows(rows, byte, on_ended)
  for _, row in ipairs(rows) do
    if redis.call('HEXISTS', live_key(batch, row), 'state') == 1 then
      begun[#begun + 1] = {row, byte}
    else
      redis.call('DEL', live_key(batch, row))
      if on_ended then on_ended(row) end
    end
  end
end

local function dispatched_rows()
  local rows = {}
  for _, name in ipairs(redis.call('ZRANGE', DISPATCHED, 0, -1)) do
    local owner, row = split_member(name)
    if owner == batch then rows[#rows + 1] = row end
  end
  return rows
end

local function rows_of_unsent_shards()
  local rows = {}
  for number = 1, tonumber(redis.call('HGET', part_key(batch, 'shards'), 'next') or 1) - 1 do
    if redis.call('EXISTS', live_key(batch, shard_name(number))) == 1 and not is_sent(batch, number) then
      for _, row in ipairs(rows_of(batch, number)) do
        if take_from_shard(batch, row, number) then rows[#rows + 1] = row end
      end
    end
  end
  return rows
end

-- Sets every queued, dispatched, waiting or held row to `x`, 64 KB of status bytes at a time.
local function end_all_unclaimed()
  local counters, ended = part_key(batch, 'counters'), 0
  local counts = redis.call('HMGET', counters, 'q', 'p', 'w', 'h')
  for i, byte in ipairs({'q', 'p', 'w', 'h'}) do
    ended = ended + (tonumber(counts[i]) or 0)
    redis.call('HSET', counters, byte, 0)
  end
  redis.call('HINCRBY', counters, 'x', ended)
  local status = part_key(batch, 'status')
  for at = 0, redis.call('STRLEN', status) - 1, 65536 do
    local chunk = redis.call('GETRANGE', status, at, at + 65535)
    local replaced, count = chunk:gsub('[qpwh]+', function(bytes) return ('x'):rep(#bytes) end)
    if count > 0 then redis.call('SETRANGE', status, at, replaced) end
  end
end

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return '' end
if state == 'done' or state == 'cancelled' then return state end

local due, due_running = part_key(batch, 'due'), part_key(batch, 'due_running')
sort_rows(dispatched_rows(), 'p', function(row) redis.call('ZREM', DISPATCHED, member(batch, row)) end)
sort_rows(rows_of_unsent_shards(), 'w')
sort_rows(redis.call('ZRANGE', due, 0, -1), 'w')
sort_rows(redis.call('ZRANGE', due_running, 0, -1), 'w')
redis.call('DEL', due, due_running)
end_all_unclaimed()
for _, pair in ipairs(begun) do
  local row, byte = pair[1], pair[2]
  set_status(batch, row, 'x', byte)
  if byte == 'w' then redis.call('ZADD', due_running, 0, row) end
end
redis.call('HSET', batch_key(batch), 'state', 'cancelled')
redis.call('HDEL', batch_key(batch), 'paused_reason')
close_if_done(batch)
return state
