-- Asks again the rows that ended so; their results stand until new ones come.
-- ARGV: batch, bytes (the statuses chosen)   Returns how many rows, or -1 for an unknown batch.
-- include: ending.lua
local batch, bytes = ARGV[1], ARGV[2]
local status, n = part(batch, 'status'), part(batch, 'n')
local first, chosen = nil, 0

local function count(from, to, rows)
  if rows == 0 then return end
  redis.call('HINCRBY', n, from, -rows)
  redis.call('HINCRBY', n, to, rows)
  chosen = chosen + rows
end

local function ask_again(chunk, at)
  local place = chunk:find('[' .. bytes .. ']')
  if not place then return end
  first = first or at + place - 1
  for byte in bytes:gmatch('.') do
    local found
    chunk, found = chunk:gsub(byte, 'q')
    count(byte, 'q', found)
  end
  redis.call('SETRANGE', status, at, chunk)
end

-- A turn is asked again when it was chosen or an earlier one of its conversation is; it is held until that one
-- has ended. One whose earlier turn has failed and was not chosen cannot be asked. `before` is row → byte of its
-- previous turn, known in time because rows come in file order.
local before = {}

local function fate(row, byte)
  local earlier = before[row]
  before[row] = nil
  local open = earlier and earlier:find('[qpwhr]')
  if not byte:find('[cifex]') then return byte end
  if earlier == 'again' or (open and bytes:find(byte, 1, true)) then return 'h' end
  if bytes:find(byte, 1, true) and (not earlier or earlier == 'c') then return 'q' end
  return byte
end

local function ask_turns_again(chunk, at)
  local names = {}
  for i = 1, #chunk do names[i] = at + i end
  local following = redis.call('HMGET', part(batch, 'next'), unpack(names))
  for i = 1, #chunk do
    local row, byte = at + i, chunk:sub(i, i)
    local new = fate(row, byte)
    if new ~= byte then
      first = first or row - 1
      redis.call('SETRANGE', status, row - 1, new)
      count(byte, new, 1)
    end
    if following[i] then before[tonumber(following[i])] = new ~= byte and 'again' or byte end
  end
end

local about = redis.call('HMGET', batch_key(batch), 'state', 'started_at', 'cursor')
if not about[1] or about[1] == 'loading' then return -1 end
local turns = redis.call('EXISTS', part(batch, 'next')) == 1
local step = turns and 1000 or 65536
for at = 0, redis.call('STRLEN', status) - 1, step do
  local chunk = redis.call('GETRANGE', status, at, at + step - 1)
  if turns then ask_turns_again(chunk, at) else ask_again(chunk, at) end
end
if chosen == 0 then return 0 end

redis.call('HINCRBY', batch_key(batch), 'generation', 1)
redis.call('HSET', batch_key(batch), 'cursor', math.min(first, tonumber(about[3])))
if about[1] == 'done' or about[1] == 'cancelled' then
  redis.call('HSET', batch_key(batch), 'state', about[2] and 'running' or 'queued')
  redis.call('HDEL', batch_key(batch), 'finished_at')
  redis.call('ZADD', OPEN, 0, batch)
  set_lifetime(batch, nil)
end
return chosen
