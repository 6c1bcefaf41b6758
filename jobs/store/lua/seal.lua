-- Seals a loaded batch: its rows are counted from the status bytes, it is listed, and its rows may be
-- dispatched.
-- ARGV: batch, fence, rows that were stored
-- Reply: 1; -2: rows are missing, because Redis has gone back in time; 0: it was not sealed in time and has expired; -1: another command loads or has sealed it.
-- include: lib/batch_end.lua
local batch, fence, stored_rows = ARGV[1], ARGV[2], tonumber(ARGV[3])

local state, loader_fence, identity =
  unpack(redis.call('HMGET', batch_key(batch), 'state', 'loader_fence', 'identity'))
if not state then return 0 end
if loader_fence ~= fence then return -1 end
-- A repeated call: the client got no reply to the first.
if state ~= 'loading' then return 1 end
local rows = redis.call('STRLEN', part_key(batch, 'status'))
if rows ~= stored_rows or redis.call('HLEN', part_key(batch, 'input')) ~= math.ceil(rows / 16) then return -2 end
for at = 0, rows - 1, 65536 do
  local chunk = redis.call('GETRANGE', part_key(batch, 'status'), at, at + 65535)
  for _, byte in ipairs({'q', 'h', 'j', 'c'}) do
    local _, count = chunk:gsub(byte, byte)
    redis.call('HINCRBY', part_key(batch, 'counters'), byte, count)
  end
end

local now = now_ms()
redis.call('HSET', batch_key(batch), 'state', 'queued', 'rows', rows, 'submitted_at', now)
redis.call('HDEL', batch_key(batch), 'lease_from', 'lease_until', 'replaces')
redis.call('DEL', part_key(batch, 'last_turns'))
redis.call('SREM', LOADING, batch)
-- The batch sealed last is the newest, also within a millisecond or after Redis' clock was set back.
local newest_ms = redis.call('ZREVRANGE', BATCHES, 0, 0, 'WITHSCORES')[2]
redis.call('ZADD', BATCHES, math.max(now, (tonumber(newest_ms) or 0) + 1), batch)
redis.call('ZADD', OPEN, 0, batch)
redis.call('SET', identity_key(identity), batch)
set_lifetime(batch, nil)
close_if_done(batch)
return 1
