-- Stores how far a row is, if its claim still stands.
-- ARGV: batch, row, fence, nonce (names the content), state, run_made (0|1), out, danger (''|0|1), reserve (''|nano),
--       spent (''|nano), counter, amount, …
-- Returns {held, first run of the batch, affordable, may start, affordable once the runs in flight have ended}
-- include: lib/row.lua
local batch, row, fence, nonce, state = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local run_made, out, danger, nano, spent = ARGV[6] == '1', ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])

local live = redis.call('HMGET', live_key(batch, row), 'fence', 'nonce', 'reserved', 'made')
if live[1] ~= fence then return {0, 0, 1, 1, 1} end
-- The client repeats a call whose reply was lost: nothing is counted twice.
if live[2] == nonce then return {1, 0, 1, 1, 1} end

-- Whether the batch can pay for this run, now and when all other runs should turn out to cost nothing.
-- Gone is what ended rows have cost, or are assumed to where nobody told, and what open rows' earlier attempts have.
local function affordable()
  local budget = tonumber(redis.call('HGET', batch_key(batch), 'budget_nano'))
  local own = tonumber(live[3]) or 0
  if not budget or nano <= own then return true, true end
  local money = redis.call('HMGET', part(batch, 'n'), 'cost_nano', 'assumed_nano', 'spent_nano', 'reserved_nano')
  for i = 1, 4 do money[i] = tonumber(money[i]) or 0 end
  local gone, others = money[1] + money[2] + money[3], money[4] - own
  return gone + others + nano <= budget, others > 0 and gone + nano <= budget
end

local function first_run()
  local about = redis.call('HMGET', batch_key(batch), 'accepted', 'state')
  redis.call('HINCRBY', part(batch, 'n'), 'runs', 1)
  redis.call('HSET', batch_key(batch), 'accepted', 1)
  redis.call('HSETNX', batch_key(batch), 'started_at', now_ms())
  redis.call('HDEL', batch_key(batch), 'trouble_since')
  if about[2] == 'queued' then redis.call('HSET', batch_key(batch), 'state', 'running') end
  return about[1] ~= '1'
end

-- The last word before a create: nothing is spent once the batch is paused or cancelled.
if out == '1' and not run_made then
  local state = redis.call('HGET', batch_key(batch), 'state')
  if state == 'paused' or state == 'cancelled' then return {1, 0, 1, 0, 1} end
end
if nano then
  local now, later = affordable()
  if not now then return {1, 0, 0, 1, later and 1 or 0} end
end
redis.call('HSET', live_key(batch, row), 'state', state, 'nonce', nonce)
-- A run is told with every save, by whoever holds the row, and counted once: until the next create.
if out ~= '' then redis.call('HSET', live_key(batch, row), 'out', out, 'made', run_made and 1 or 0) end
if danger ~= '' then redis.call('HSET', live_key(batch, row), 'danger', danger) end
if nano then put_by(batch, row, 'reserved', nano) end
if spent then put_by(batch, row, 'spent', spent) end
add_counters(batch, 11)
return {1, run_made and live[4] ~= '1' and first_run() and 1 or 0, 1, 1, 1}
