-- What a worker that is gone still held goes back to waiting. Shared by `leave` and `sweep`.
-- include: lib/row.lua

-- Only a death while a function ran or a result was processed counts against the row.
local function release(worker, name)
  redis.call('SREM', held_key(worker), name)
  local batch, row = split(name)
  local live = live_key(batch, row)
  if redis.call('HGET', live, 'worker') ~= worker then return end
  if redis.call('HGET', live, 'danger') == '1' then redis.call('HINCRBY', live, 'kills', 1) end
  if redis.call('HGET', live, 'out') ~= '1' then put_by(batch, row, 'reserved', 0) end
  redis.call('HDEL', live, 'fence', 'worker', 'danger', 'nonce')
  wait(batch, row, 'r', 0)
end
