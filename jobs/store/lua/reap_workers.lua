-- Gives back what dead workers held, and forgets batches whose retention is over.
-- ARGV: worker that sweeps, lifetime_ms, limit (rows a call), tombstone_ms   Returns {rows given back, dead worker, …}
-- include: lib/release.lua
local sweeper, lifetime_ms, limit, tombstone_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local reply = {0}

-- After an outage of Redis all keys are gone, the sweeper's too: the living have a lifetime in which to be heard.
local function has_been_away()
  if not redis.call('ZSCORE', WORKERS, sweeper) then return false end
  local about = redis.call('HMGET', worker_key(sweeper), 'slots', 'heard_since')
  return not about[1] or (about[2] and now_ms() - about[2] < lifetime_ms)
end

if has_been_away() then return reply end

local function bury(worker)
  -- First the stone: a worker that was only slow must not come back half-swept.
  redis.call('HSET', worker_key(worker), 'swept', 1)
  redis.call('PEXPIRE', worker_key(worker), tombstone_ms)
  local names = redis.call('SRANDMEMBER', held_key(worker), limit - reply[1])
  for _, name in ipairs(names) do release(worker, name) end
  reply[1] = reply[1] + #names
  reply[#reply + 1] = worker
  if redis.call('SCARD', held_key(worker)) == 0 then redis.call('ZREM', WORKERS, worker) end
end

for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  local alive = redis.call('HEXISTS', worker_key(worker), 'slots') == 1
  -- Redis' clock was set back: a key that lives longer than it should would keep a dead worker's rows so long.
  if alive and redis.call('PTTL', worker_key(worker)) > lifetime_ms then
    redis.call('PEXPIRE', worker_key(worker), lifetime_ms)
  end
  if not alive and reply[1] < limit then bury(worker) end
end
-- Any hundred, so that none is passed over for ever; who reads the list looks for itself.
for _, batch in ipairs(redis.call('ZRANDMEMBER', BATCHES, 100)) do
  if redis.call('EXISTS', batch_key(batch)) == 0 then redis.call('ZREM', BATCHES, batch) end
end
for _, batch in ipairs(redis.call('SMEMBERS', LOADING)) do
  if redis.call('EXISTS', batch_key(batch)) == 0 then redis.call('SREM', LOADING, batch) end
end
return reply
