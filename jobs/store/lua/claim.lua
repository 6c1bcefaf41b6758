-- Claims a dispatched row for a worker. Only one claim succeeds.
-- ARGV: batch, row, worker, fence (random, new for each claim)
-- Reply: {refusal}, or {'', state, state of the previous turn, crashes, input block, earlier result, now_ms,
--        batch state, limits, paused_reason, generation, deliveries, run_in_flight, run_counted, reserved_nano,
--        spent_nano}
-- include: lib/recovery.lua
local batch, row, worker, fence = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local number = tonumber(row)
local REFUSALS = {q = 'not_published', h = 'not_published', w = 'waiting', r = 'running'}

local now = now_ms()
local batch_state, limits, paused_reason, rows, generation, functions = unpack(redis.call('HMGET',
  batch_key(batch), 'state', 'limits', 'paused_reason', 'rows', 'generation', 'functions'))
local state, crashes, claimed_with, run_in_flight =
  unpack(redis.call('HMGET', live_key(batch, row), 'state', 'crashes', 'fence', 'run_in_flight'))

local function put_back(refusal, due_ms)
  redis.call('ZREM', DISPATCHED, member(batch, row))
  set_waiting(batch, row, 'p', due_ms)
  return {refusal}
end

local function reply()
  local block = redis.call('HGET', part_key(batch, 'input'), math.floor((row - 1) / 16))
  local turn_state = redis.call('HGET', part_key(batch, 'previous_turn'), row) or ''
  local earlier = redis.call('HGET', part_key(batch, 'results'), row) or ''
  local stored = redis.call('HMGET', live_key(batch, row), 'deliveries', 'run_in_flight', 'run_counted',
    'reserved_nano', 'spent_nano')
  for i = 1, 5 do stored[i] = stored[i] or '' end
  return {'', state or '', turn_state, tonumber(crashes) or 0, block, earlier, now, batch_state, limits,
    paused_reason or '', generation, unpack(stored)}
end

if not batch_state then
  redis.call('ZREM', DISPATCHED, member(batch, row))
  return {'gone'}
end
-- Anybody who reaches this Redis may write into the queue.
if not number or number % 1 ~= 0 or number < 1 or number > (tonumber(rows) or 0) then
  return {'no_such_row'}
end
local byte = status_byte(batch, row)
-- A repeated call: the client got no reply to the first.
if byte == 'r' and claimed_with == fence then return reply() end
if byte ~= 'p' then return {REFUSALS[byte] or 'finished'} end
if is_recovering() then return put_back('recovering', now + 1000) end

local workers_server = server_of(worker_key(worker))
if not workers_server then return put_back('stranger', 0) end
local only_batch, allowed = unpack(redis.call('HMGET', worker_key(worker), 'batch', 'functions'))
local serves = serves_server(workers_server, server_of(batch_key(batch)))
  and (not only_batch or only_batch == '' or only_batch == batch)
  and (not functions or (',' .. (allowed or '') .. ','):find(',' .. functions .. ',', 1, true))
-- Due in a second: without a pause, workers of two APIs would pass the message to each other without end.
if not serves then return put_back('mismatch', now + 1000) end
if batch_state == 'paused' and run_in_flight ~= '1' then return put_back('paused', 0) end

redis.call('ZREM', DISPATCHED, member(batch, row))
redis.call('SADD', claims_key(worker), member(batch, row))
redis.call('HSET', live_key(batch, row), 'fence', fence, 'worker', worker)
redis.call('HINCRBY', live_key(batch, row), 'deliveries', 1)
set_status(batch, row, 'p', 'r')
return reply()
