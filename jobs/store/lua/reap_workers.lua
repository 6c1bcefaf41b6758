-- Releases the rows of dead workers, and removes batches from the lists whose keys have expired.
-- ARGV: worker that calls, lifetime_ms, most rows per call, tombstone_ms (lifetime of the mark of a dead
--       worker)
-- Reply: {rows released, {dead worker, …}, {odd entry that was removed, …}}
-- include: lib/release.lua
-- include: lib/recovery.lua
-- include: lib/kinds.lua
local caller, lifetime_ms, limit, tombstone_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local reply = {0, {}, {}}

-- After an outage of Redis the keys of all workers have expired, the caller's too. For a lifetime after its
-- own gap the caller declares nobody dead, so that the living can send a heartbeat.
local function caller_had_a_gap()
  if not redis.call('ZSCORE', WORKERS, caller) then return false end
  local slots, heartbeats_since = unpack(redis.call('HMGET', worker_key(caller), 'slots', 'heartbeats_since'))
  return not slots or (heartbeats_since and now_ms() - heartbeats_since < lifetime_ms)
end

if caller_had_a_gap() or is_recovering() then return reply end

local function reap(worker)
  -- The mark comes first: a worker that was only slow must not register again with half of its rows released.
  redis.call('HSET', worker_key(worker), 'reaped', 1)
  redis.call('PEXPIRE', worker_key(worker), tombstone_ms)
  local names = redis.call('SRANDMEMBER', claims_key(worker), limit - reply[1])
  for _, name in ipairs(names) do release_claim(worker, name) end
  reply[1] = reply[1] + #names
  table.insert(reply[2], worker)
  if redis.call('SCARD', claims_key(worker)) == 0 then redis.call('ZREM', WORKERS, worker) end
end

for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  if redis.call('TYPE', worker_key(worker)).ok ~= 'none' and not is_hash(worker_key(worker)) then
    redis.call('ZREM', WORKERS, worker)
    table.insert(reply[3], WORKERS .. ' ' .. worker)
  end
end
for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  local alive = redis.call('HEXISTS', worker_key(worker), 'slots') == 1
  -- Redis' clock was set back: a key with a longer lifetime would hold a dead worker's rows for that long.
  if alive and redis.call('PTTL', worker_key(worker)) > lifetime_ms then
    redis.call('PEXPIRE', worker_key(worker), lifetime_ms)
  end
  if not alive and reply[1] < limit then reap(worker) end
end
-- A random hundred a call reaches all of a long list in time; readers of the list skip expired batches
-- themselves.
for _, batch in ipairs(redis.call('ZRANDMEMBER', BATCHES, 100)) do
  if not is_hash(batch_key(batch)) then redis.call('ZREM', BATCHES, batch) end
end
-- Their batch is gone, or they are not ours.
for key, names in pairs({[OPEN] = redis.call('ZRANGE', OPEN, 0, -1),
  [DISPATCHED] = redis.call('ZRANDMEMBER', DISPATCHED, 100)}) do
  for _, name in ipairs(names) do
    local known = key == OPEN and is_hash(batch_key(name)) or key == DISPATCHED and names_a_row(name)
    if not known then
      redis.call('ZREM', key, name)
      table.insert(reply[3], key .. ' ' .. name)
    end
  end
end
for _, batch in ipairs(redis.call('SMEMBERS', LOADING)) do
  if redis.call('EXISTS', batch_key(batch)) == 0 then redis.call('SREM', LOADING, batch) end
end
return reply
