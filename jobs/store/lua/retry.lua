-- Asks again the rows that ended so; their results stand until new ones come.
-- ARGV: batch, bytes (the statuses chosen)   Returns how many rows, or -1 for an unknown batch.
-- include: lib/batch_end.lua
local batch, bytes = ARGV[1], ARGV[2]
local status, n = part(batch, 'status'), part(batch, 'n')
local first, chosen, changes = nil, 0, {}

local function count(from, to, rows)
  chosen = chosen + rows
  changes[from] = (changes[from] or 0) - rows
  changes[to] = (changes[to] or 0) + rows
end

local function ask_again(chunk)
  for byte in bytes:gmatch('.') do
    local found
    chunk, found = chunk:gsub(byte, 'q')
    count(byte, 'q', found)
  end
  return chunk
end

-- A turn is asked again when it was chosen or an earlier one of its conversation is; it is held until that one
-- has ended. One whose earlier turn has failed and was not chosen cannot be asked. `before` is row → byte of its
-- previous turn, known in time because rows come in file order.
local before = {}
local OPEN_BYTES, ENDED_BYTES = '[qpwhr]', '[cifex]'

local function fate(row, byte)
  local earlier = before[row]
  before[row] = nil
  if not byte:find(ENDED_BYTES) then return byte end
  local wanted = bytes:find(byte, 1, true)
  if earlier == 'again' or (wanted and earlier and earlier:find(OPEN_BYTES)) then return 'h' end
  return wanted and (not earlier or earlier == 'c') and 'q' or byte
end

local function ask_turns_again(chunk, at)
  local names, new = {}, {}
  for i = 1, #chunk do names[i] = at + i end
  local following = redis.call('HMGET', part(batch, 'next'), unpack(names))
  for i = 1, #chunk do
    local byte = chunk:sub(i, i)
    new[i] = fate(at + i, byte)
    if new[i] ~= byte then count(byte, new[i], 1) end
    if following[i] then before[tonumber(following[i])] = new[i] ~= byte and 'again' or byte end
  end
  return table.concat(new)
end

local about = redis.call('HMGET', batch_key(batch), 'state', 'started_at', 'cursor')
if not about[1] or about[1] == 'loading' then return -1 end
local turns = redis.call('EXISTS', part(batch, 'next')) == 1
local step = turns and 1000 or 65536
for at = 0, redis.call('STRLEN', status) - 1, step do
  local chunk = redis.call('GETRANGE', status, at, at + step - 1)
  local new = turns and ask_turns_again(chunk, at) or ask_again(chunk)
  if new ~= chunk then
    first = first or at
    redis.call('SETRANGE', status, at, new)
  end
end
if chosen == 0 then return 0 end

for byte, rows in pairs(changes) do redis.call('HINCRBY', n, byte, rows) end
redis.call('HINCRBY', batch_key(batch), 'generation', 1)
redis.call('HSET', batch_key(batch), 'cursor', math.min(first, tonumber(about[3])))
if about[1] == 'done' or about[1] == 'cancelled' then
  redis.call('HSET', batch_key(batch), 'state', about[2] and 'running' or 'queued')
  redis.call('HDEL', batch_key(batch), 'finished_at')
  redis.call('ZADD', OPEN, 0, batch)
  set_lifetime(batch, nil)
end
return chosen
