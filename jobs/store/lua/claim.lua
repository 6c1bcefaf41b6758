-- Hands a published row to a worker, once. ARGV: batch, row, worker, fence (random, new for each claim)
-- Returns {refusal}, or {'', state, seed, kills, input block, older result, now_ms, batch state, limits, paused_reason}
-- include: lib/row.lua
local batch, row, worker, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local number = tonumber(row)
local REFUSALS = {q = 'not_published', h = 'not_published', w = 'waiting', r = 'running'}

local now = now_ms()
local about = redis.call('HMGET', batch_key(batch), 'state', 'api', 'base_url', 'limits', 'paused_reason', 'rows')
local live = redis.call('HMGET', live_key(batch, row), 'state', 'kills', 'fence', 'out')

local function put_back(refusal, due_ms)
  redis.call('ZREM', FED, member(batch, row))
  wait(batch, row, 'p', due_ms)
  return {refusal}
end

local function reply()
  local block = redis.call('HGET', part(batch, 'input'), math.floor((row - 1) / 16))
  return {'', live[1] or '', redis.call('HGET', part(batch, 'seeds'), row) or '', tonumber(live[2]) or 0, block,
    redis.call('HGET', part(batch, 'results'), row) or '', now, about[1], about[4], about[5] or ''}
end

if not about[1] then
  redis.call('ZREM', FED, member(batch, row))
  return {'gone'}
end
-- Anybody may write into the queue.
if not number or number % 1 ~= 0 or number < 1 or number > (tonumber(about[6]) or 0) then return {'no_such_row'} end
local byte = byte_of(batch, row)
-- The client repeats a call whose reply was lost.
if byte == 'r' and live[3] == fence then return reply() end
if byte ~= 'p' then return {REFUSALS[byte] or 'finished'} end

local card = redis.call('HMGET', worker_key(worker), 'api', 'base_url')
if not card[1] then return put_back('stranger', 0) end
-- A second's pause, or two kinds of workers would pass the message round as fast as they can.
if card[1] ~= about[2] or card[2] ~= about[3] then return put_back('mismatch', now + 1000) end
if about[1] == 'paused' and live[4] ~= '1' then return put_back('paused', 0) end

redis.call('ZREM', FED, member(batch, row))
redis.call('SADD', held_key(worker), member(batch, row))
redis.call('HSET', live_key(batch, row), 'fence', fence, 'worker', worker)
redis.call('HINCRBY', live_key(batch, row), 'tries', 1)
move(batch, row, 'p', 'r')
return reply()
