-- Queues finished rows again; their results stand until new ones replace them.
-- ARGV: request, batch, bytes of the chosen statuses
-- Reply: how many rows; -1 for an unknown batch.
-- include: lib/batch_end.lua
-- include: lib/once.lua
local request, batch, bytes = ARGV[1], ARGV[2], ARGV[3]
local status, counters = part_key(batch, 'status'), part_key(batch, 'counters')
local first, retried, changes = nil, 0, {}

local function count(from, to, rows)
  retried = retried + rows
  changes[from] = (changes[from] or 0) - rows
  changes[to] = (changes[to] or 0) + rows
end

local function retry_chunk(chunk)
  for byte in bytes:gmatch('.') do
    local found
    chunk, found = chunk:gsub(byte, 'q')
    count(byte, 'q', found)
  end
  return chunk
end

-- In conversations a turn is retried when it was chosen or an earlier turn is retried, and is held until that
-- one has ended. A turn whose earlier turn has failed and was not chosen cannot be asked. `earlier_turn` is
-- row → byte of the previous turn; rows come in file order, so it is complete when a row is reached.
local earlier_turn = {}
local OPEN_BYTES, ENDED_BYTES = '[qpwhr]', '[cifex]'

local function new_byte(row, byte)
  local earlier = earlier_turn[row]
  earlier_turn[row] = nil
  if not byte:find(ENDED_BYTES) then return byte end
  local chosen = bytes:find(byte, 1, true)
  if earlier == 'retried' or (chosen and earlier and earlier:find(OPEN_BYTES)) then return 'h' end
  return chosen and (not earlier or earlier == 'c') and 'q' or byte
end

local function retry_chunk_of_turns(chunk, at)
  local rows, new = {}, {}
  for i = 1, #chunk do rows[i] = at + i end
  local next_turns = redis.call('HMGET', part_key(batch, 'next_turn'), unpack(rows))
  for i = 1, #chunk do
    local byte = chunk:sub(i, i)
    new[i] = new_byte(at + i, byte)
    if new[i] ~= byte then count(byte, new[i], 1) end
    if next_turns[i] then
      earlier_turn[tonumber(next_turns[i])] = new[i] ~= byte and 'retried' or byte
    end
  end
  return table.concat(new)
end

local earlier = earlier_reply(request)
if earlier then return earlier end
local state, started_at, finished_at, cursor =
  unpack(redis.call('HMGET', batch_key(batch), 'state', 'started_at', 'finished_at', 'cursor'))
if not state or state == 'loading' then return -1 end
local has_turns = redis.call('EXISTS', part_key(batch, 'next_turn')) == 1
local step = has_turns and 1000 or 65536
for at = 0, redis.call('STRLEN', status) - 1, step do
  local chunk = redis.call('GETRANGE', status, at, at + step - 1)
  local new = has_turns and retry_chunk_of_turns(chunk, at) or retry_chunk(chunk)
  if new ~= chunk then
    first = first or at
    redis.call('SETRANGE', status, at, new)
  end
end
if retried == 0 then return 0 end

for byte, rows in pairs(changes) do redis.call('HINCRBY', counters, byte, rows) end
redis.call('HINCRBY', batch_key(batch), 'generation', 1)
redis.call('HSET', batch_key(batch), 'cursor', math.min(first, tonumber(cursor)))
if state == 'done' or state == 'cancelled' then
  redis.call('HSET', batch_key(batch), 'state', started_at and 'running' or 'queued')
  if started_at and finished_at then redis.call('HSET', batch_key(batch), 'ended_before', finished_at) end
  redis.call('HDEL', batch_key(batch), 'finished_at')
  redis.call('ZADD', OPEN, 0, batch)
  set_lifetime(batch, nil)
end
return keep_reply(request, retried, 3600000)
