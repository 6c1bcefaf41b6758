-- Ends every row that nothing was begun for; the others go to workers, which end them with what is known of them.
-- ARGV: batch   Returns the state before; '' for an unknown batch.
-- include: lib/batch_end.lua
local batch = ARGV[1]
local kept = {}

-- Looks at the rows that may have a live hash: `from` is their byte, `forget` takes one out of its ZSET.
local function look(rows, from, forget)
  for _, row in ipairs(rows) do
    if redis.call('HEXISTS', live_key(batch, row), 'state') == 1 then
      kept[#kept + 1] = {row, from}
    else
      redis.call('DEL', live_key(batch, row))
      forget(row)
    end
  end
end

local function published()
  local rows = {}
  for _, name in ipairs(redis.call('ZRANGE', FED, 0, -1)) do
    local of, row = split(name)
    if of == batch then rows[#rows + 1] = row end
  end
  return rows
end

local function end_all()
  local n, ended = part(batch, 'n'), 0
  local counts = redis.call('HMGET', n, 'q', 'p', 'w', 'h')
  for i, byte in ipairs({'q', 'p', 'w', 'h'}) do
    ended = ended + (tonumber(counts[i]) or 0)
    redis.call('HSET', n, byte, 0)
  end
  redis.call('HINCRBY', n, 'x', ended)
  local status = part(batch, 'status')
  for at = 0, redis.call('STRLEN', status) - 1, 65536 do
    local chunk, changed = redis.call('GETRANGE', status, at, at + 65535):gsub('[qpwh]+', function(run) return ('x'):rep(#run) end)
    if changed > 0 then redis.call('SETRANGE', status, at, chunk) end
  end
end

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return '' end
if state == 'done' or state == 'cancelled' then return state end

local due, orphans = part(batch, 'due'), part(batch, 'orphans')
look(published(), 'p', function(row) redis.call('ZREM', FED, member(batch, row)) end)
look(redis.call('ZRANGE', due, 0, -1), 'w', function() end)
look(redis.call('ZRANGE', orphans, 0, -1), 'w', function() end)
redis.call('DEL', due, orphans)
end_all()
for _, row in ipairs(kept) do
  move(batch, row[1], 'x', row[2])
  if row[2] == 'w' then redis.call('ZADD', orphans, 0, row[1]) end
end
redis.call('HSET', batch_key(batch), 'state', 'cancelled')
redis.call('HDEL', batch_key(batch), 'paused_reason')
settle(batch)
return state
