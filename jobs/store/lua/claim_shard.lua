-- Claims a dispatched shard for a worker. Only one claim succeeds.
-- ARGV: batch, "shard:number", worker, fence (random, new for each claim)
-- Reply: {refusal}, or {'', state, now_ms, batch state, limits, paused_reason, rows in the order of its lines,
--        rows still in it, ms of its cut, crashes}
-- include: lib/recovery.lua
-- include: lib/shard.lua
local batch, name, worker, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local live = live_key(batch, name)
local now = now_ms()
local batch_state, limits, paused_reason =
  unpack(redis.call('HMGET', batch_key(batch), 'state', 'limits', 'paused_reason'))
local state, claimed_with, rows, cut_at, crashes =
  unpack(redis.call('HMGET', live, 'state', 'fence', 'rows', 'cut_at', 'crashes'))

local function put_back(refusal, due_ms)
  redis.call('ZREM', DISPATCHED, member(batch, name))
  redis.call('ZADD', part_key(batch, 'due_running'), due_ms, name)
  return {refusal}
end

local function reply()
  local lines = redis.call('HGET', part_key(batch, 'shard_lines'), shard_number(name)) or ''
  return {'', state, now, batch_state, limits, paused_reason or '', lines, tonumber(rows) or 0, tonumber(cut_at) or now,
    tonumber(crashes) or 0}
end

if not batch_state or not state then
  redis.call('ZREM', DISPATCHED, member(batch, name))
  return {'gone'}
end
if claimed_with == fence then return reply() end
if claimed_with then return {'running'} end
if not redis.call('ZSCORE', DISPATCHED, member(batch, name)) then return {'waiting'} end
if is_recovering() then return put_back('recovering', now + 1000) end
local server = server_of(worker_key(worker))
if not server then return put_back('stranger', 0) end
local only_batch = redis.call('HGET', worker_key(worker), 'batch') or ''
if not serves_server(server, server_of(batch_key(batch))) or (only_batch ~= '' and only_batch ~= batch) then
  return put_back('mismatch', now + 1000)
end
redis.call('ZREM', DISPATCHED, member(batch, name))
redis.call('SADD', claims_key(worker), member(batch, name))
redis.call('HSET', live, 'fence', fence, 'worker', worker)
redis.call('HINCRBY', live, 'deliveries', 1)
return reply()
