-- From here on the batch exists: counted from its status bytes, listed, open for feeding.
-- ARGV: batch   Returns 0 when its loading took too long and it is gone.
-- include: ending.lua
local batch = ARGV[1]

local state = redis.call('HGET', batch_key(batch), 'state')
if state ~= 'loading' then return state and 1 or 0 end
local rows = redis.call('STRLEN', part(batch, 'status'))
for at = 0, rows - 1, 65536 do
  local chunk = redis.call('GETRANGE', part(batch, 'status'), at, at + 65535)
  for _, byte in ipairs({'q', 'h', 'j', 'c'}) do
    local _, found = chunk:gsub(byte, byte)
    redis.call('HINCRBY', part(batch, 'n'), byte, found)
  end
end

local now = now_ms()
redis.call('HSET', batch_key(batch), 'state', 'queued', 'rows', rows, 'submitted_at', now)
redis.call('DEL', part(batch, 'turns'))
redis.call('SREM', LOADING, batch)
redis.call('ZADD', BATCHES, now, batch)
redis.call('ZADD', OPEN, 0, batch)
redis.call('SET', identity_key(redis.call('HGET', batch_key(batch), 'identity')), batch)
set_lifetime(batch, nil)
settle(batch)
return 1
