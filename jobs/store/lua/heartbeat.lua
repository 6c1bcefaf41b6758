-- Keeps a worker and all its claims alive. ARGV: worker, lifetime_ms, number of card values, card field, value, …, then batch, …
-- Returns {alive, now_ms, state, limits, paused_reason of each batch …}; a state of '' means the batch is gone.
-- include: lib/clock_step.lua
local worker, lifetime_ms, card = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now = now_ms()

-- Its rows are with others already: it must drop them and come back under a new id.
if redis.call('HEXISTS', worker_key(worker), 'swept') == 1 then return {0, now} end
follow_clock(now)
-- After a gap it must be heard for a while before it may call others dead (sweep.lua). Redis' clock may have been
-- set ahead, which ends all keys of workers at once, or back.
local last = redis.call('ZSCORE', WORKERS, worker)
local heard_since = tonumber(redis.call('HGET', worker_key(worker), 'heard_since')) or 0
if last and now - last > lifetime_ms / 2 or heard_since > now then redis.call('HSET', worker_key(worker), 'heard_since', now) end
redis.call('HSET', worker_key(worker), unpack(ARGV, 4, 3 + card))
redis.call('PEXPIRE', worker_key(worker), lifetime_ms)
redis.call('ZADD', WORKERS, now, worker)

local reply = {1, now}
for i = 4 + card, #ARGV do
  local about = redis.call('HMGET', batch_key(ARGV[i]), 'state', 'limits', 'paused_reason')
  for field = 1, 3 do reply[#reply + 1] = about[field] or '' end
end
return reply
