-- Keeps a worker, and with it all its claims, alive for another lifetime; reports the state of its batches.
-- ARGV: worker, lifetime_ms, number of values that follow for the worker's hash: field, value, …, then batch,
--       …
-- Reply: {alive (0|1), now_ms, id of the server, state, limits, paused_reason of each batch, …}; a state of ''
--        means no such batch.
-- include: lib/clock_step.lua
-- include: lib/recovery.lua
local worker, lifetime_ms, values = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local key, now = worker_key(worker), now_ms()

-- Declared dead: others have its rows. It must drop them and register under a new id.
if redis.call('HEXISTS', key, 'reaped') == 1 then return {0, now, ''} end
correct_clock_step(now)
local server = note_server(lifetime_ms)
-- After a gap in its own heartbeats a worker declares no others dead for a lifetime (reap_workers.lua): the
-- cause may be Redis' clock, set forward, which expires the keys of all workers at once, or set back.
local last = redis.call('ZSCORE', WORKERS, worker)
local heartbeats_since = tonumber(redis.call('HGET', key, 'heartbeats_since')) or 0
if last and now - last > lifetime_ms / 2 or heartbeats_since > now then
  redis.call('HSET', key, 'heartbeats_since', now)
end
redis.call('HSET', key, unpack(ARGV, 4, 3 + values))
redis.call('PEXPIRE', key, lifetime_ms)
redis.call('ZADD', WORKERS, now, worker)

local reply = {1, now, server}
for i = 4 + values, #ARGV do
  local fields = redis.call('HMGET', batch_key(ARGV[i]), 'state', 'limits', 'paused_reason')
  for field = 1, 3 do reply[#reply + 1] = fields[field] or '' end
end
return reply
