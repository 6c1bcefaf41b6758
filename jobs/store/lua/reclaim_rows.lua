-- Redoes the lost writes of rows that a worker holds, or held until it ended or released them, which follows
-- (jobs/store/lost_writes.py): each row is claimed and its state saved as its worker knows them.
-- A row that was claimed again after that stays with its holder. What the lost writes counted is added anyway.
-- ARGV: worker, then for each row: {request, batch, row, fence, generation, deliveries, live, runs, writes,
--       counters} in JSON (`request`: these lost writes count once under it; `live`: fields of its hash; `runs`, `writes`, `counters`: of the lost writes), and its state
-- Reply: how many rows the worker has again.
-- include: lib/batch_end.lua
-- include: lib/once.lua
local worker, reclaimed = ARGV[1], 0

-- Whether the row's holder, or its end, is newer than the lost claim. Deliveries count a row's claims.
local function is_newer(row, generation, byte, stored)
  if generation ~= row.generation then return generation > row.generation end
  if byte:find('[cifexj]') then return true end
  local deliveries, holder = tonumber(stored.deliveries) or 0, stored.worker
  if deliveries ~= row.deliveries then return deliveries > row.deliveries end
  -- The claim was given anew on the older state; the holder may have a run by now, if it lives.
  return holder and holder ~= worker and redis.call('HEXISTS', worker_key(holder), 'slots') == 1
end

-- Takes the row from the queues and from its holder.
local function take_out(row, byte, holder)
  local name = member(row.batch, row.row)
  redis.call('ZREM', part_key(row.batch, 'due'), row.row)
  redis.call('ZREM', part_key(row.batch, 'due_running'), row.row)
  redis.call('ZREM', DISPATCHED, name)
  if holder then redis.call('SREM', claims_key(holder), name) end
  redis.call('SADD', claims_key(worker), name)
  if byte ~= 'r' then set_status(row.batch, row.row, byte, 'r') end
end

-- A `retry` was lost: the row is open again, and so is the batch.
local function reopen(row, batch_state)
  redis.call('HSET', batch_key(row.batch), 'generation', row.generation)
  if batch_state == 'done' or batch_state == 'cancelled' then
    redis.call('HSET', batch_key(row.batch), 'state', 'running')
    redis.call('HDEL', batch_key(row.batch), 'finished_at')
    redis.call('ZADD', OPEN, 0, row.batch)
    set_lifetime(row.batch, nil)
  end
end

local function add_lost_counters(row)
  if earlier_reply(row.request) then return end
  keep_reply(row.request, 1, 3600000)
  if row.runs > 0 then count_runs(row.batch, row.runs) end
  for name, amount in pairs(row.counters) do
    redis.call('HINCRBY', part_key(row.batch, 'counters'), name, amount)
  end
  redis.call('HINCRBY', part_key(row.batch, 'counters'), 'recovered_writes', row.writes)
end

local function reclaim(row, state)
  local batch_state, rows, generation =
    unpack(redis.call('HMGET', batch_key(row.batch), 'state', 'rows', 'generation'))
  if not batch_state or batch_state == 'loading' or row.row > tonumber(rows) then return end
  add_lost_counters(row)
  local live, byte = live_key(row.batch, row.row), status_byte(row.batch, row.row)
  local stored = {}
  stored.fence, stored.deliveries, stored.worker = unpack(redis.call('HMGET', live, 'fence', 'deliveries', 'worker'))
  if stored.fence ~= row.fence then
    if is_newer(row, tonumber(generation), byte, stored) then return end
    if tonumber(generation) < row.generation then reopen(row, batch_state) end
    take_out(row, byte, stored.worker)
  end
  redis.call('HSET', live, 'fence', row.fence, 'worker', worker, 'deliveries', row.deliveries)
  if state ~= '' then redis.call('HSET', live, 'state', state) end
  for _, name in ipairs({'reserved_nano', 'spent_nano'}) do
    set_money(row.batch, row.row, name, tonumber(row.live[name]) or 0)
    row.live[name] = nil
  end
  for name, value in pairs(row.live) do
    if value ~= '' then redis.call('HSET', live, name, value) end
  end
  reclaimed = reclaimed + 1
end

if redis.call('HEXISTS', worker_key(worker), 'reaped') == 1 then return 0 end
for i = 2, #ARGV, 2 do reclaim(cjson.decode(ARGV[i]), ARGV[i + 1]) end
return reclaimed
