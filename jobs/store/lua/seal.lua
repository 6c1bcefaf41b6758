-- From here on the batch exists: counted from its status bytes, listed, open for feeding.
-- ARGV: batch, fence   Returns 1; 0: its loading took too long and it is gone; -1: another command loads or has sealed it.
-- include: lib/batch_end.lua
local batch, fence = ARGV[1], ARGV[2]

local state, loader = unpack(redis.call('HMGET', batch_key(batch), 'state', 'loader'))
if not state then return 0 end
if loader ~= fence then return -1 end
-- A repeated call whose reply was lost.
if state ~= 'loading' then return 1 end
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
redis.call('HDEL', batch_key(batch), 'lease_from', 'lease_until', 'before')
redis.call('DEL', part(batch, 'turns'))
redis.call('SREM', LOADING, batch)
-- Of two in one millisecond, or when Redis' clock was set back, the later is the newest all the same.
local last = redis.call('ZREVRANGE', BATCHES, 0, 0, 'WITHSCORES')[2]
redis.call('ZADD', BATCHES, math.max(now, (tonumber(last) or 0) + 1), batch)
redis.call('ZADD', OPEN, 0, batch)
redis.call('SET', identity_key(redis.call('HGET', batch_key(batch), 'identity')), batch)
set_lifetime(batch, nil)
settle(batch)
return 1
