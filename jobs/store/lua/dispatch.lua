-- Chooses the rows to publish now: as many as the living workers have free slots, and `floor` more.
-- Open batches get equal shares, the least recently served batch first.
-- ARGV: request, floor, lifetime_ms
-- Reply: {batch, row or "shard:number", delivery, whether into the batch's own queue (0|1), …} of what to
--        publish
-- include: lib/workers.lua
-- include: lib/resume.lua
-- include: lib/kinds.lua
-- include: lib/once.lua
-- include: lib/recovery.lua
-- include: lib/shard.lua
local request, floor, lifetime_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local now, dispatched = now_ms(), {}

local earlier = earlier_reply(request)
if earlier then return earlier end
note_server(lifetime_ms)
if is_recovering() then return {} end
local free, allowed = read_groups(floor)
local groups, only_group = 0, nil
for group in pairs(free) do groups, only_group = groups + 1, group end

-- Takes the rows that are on their way to the workers off the free slots of their group. Returns how many
-- there are; rows of a batch that no living worker may serve do not count.
local function subtract_dispatched()
  -- With one group, for all batches of an API, every message goes to it.
  if groups == 1 and not only_group:find('^b_') then
    local count = redis.call('ZCARD', DISPATCHED)
    free[only_group] = free[only_group] - count
    return count
  end
  local count, group_by_batch = 0, {}
  for _, name in ipairs(redis.call('ZRANGE', DISPATCHED, 0, -1)) do
    local batch = names_a_row(name) and split_member(name)
    if batch and group_by_batch[batch] == nil then
      group_by_batch[batch] = group_of_batch(batch, free, allowed) or false
    end
    local group = batch and group_by_batch[batch]
    if group then free[group], count = free[group] - 1, count + 1 end
  end
  return count
end

local function count_messages(batch, row)
  local counts = redis.call('HMGET', live_key(batch.id, row), 'deliveries', 'requeues')
  return (counts[1] or 0) + (counts[2] or 0)
end

local function dispatch_row(batch, row, from)
  local deliveries = from ~= 'q' and count_messages(batch, row) or 0
  set_status(batch.id, row, from, 'p')
  redis.call('ZADD', DISPATCHED, now, member(batch.id, row))
  batch.last_dispatched = row
  dispatched[#dispatched + 1] = batch.id
  dispatched[#dispatched + 1] = tostring(row)
  -- Celery never runs a task id again that was revoked once. So a retry's ids begin at the next thousand.
  dispatched[#dispatched + 1] = batch.generation * 1000 + deliveries + 1
  dispatched[#dispatched + 1] = batch.own and 1 or 0
end

-- Dispatches at most `count` rows of a sorted set that are due; returns how many.
local function dispatch_due(batch, zset, count)
  if count <= 0 then return 0 end
  local rows = redis.call('ZRANGEBYSCORE', part_key(batch.id, zset), '-inf', now, 'LIMIT', 0, count)
  for _, row in ipairs(rows) do
    redis.call('ZREM', part_key(batch.id, zset), row)
    dispatch_row(batch, row, 'w')
  end
  return #rows
end

-- Gives `take` at most `count` queued rows from the cursor on, searching the status bytes in growing chunks;
-- returns how many.
local function dispatch_queued(batch, count, take)
  local taken, at, size = 0, batch.cursor, 256
  while taken < count and at < batch.rows do
    local chunk, from = redis.call('GETRANGE', part_key(batch.id, 'status'), at, at + size - 1), 1
    while taken < count and from do
      local place = chunk:find('q', from, true)
      if place then
        take(batch, at + place, 'q')
        taken = taken + 1
      end
      from = place and place + 1
    end
    at = at + (from and from - 1 or #chunk)
    size = math.min(size * 16, 65536)
  end
  if at ~= batch.cursor then redis.call('HSET', batch_key(batch.id), 'cursor', at) end
  batch.cursor = at
  return taken
end

-- Until the API has accepted a run of the batch, one row is dispatched alone (the probe). After so long
-- another follows: whether a create with a lost reply was carried out may take a minute to find out, and
-- another row's may succeed.
local PROBE_MS = 20000

local function limit_to_probe(batch, count)
  if batch.accepted then return count end
  local byte = batch.probe_row and status_byte(batch.id, batch.probe_row)
  local probing = (byte == 'p' or byte == 'r') and now - batch.probe_at < PROBE_MS
  return probing and 0 or math.min(count, 1)
end

-- Rows with a run in flight, or of a cancelled batch: they start no run.
local function dispatch_running(batch, count) return dispatch_due(batch, 'due_running', count) end

-- Takes the rows of a new shard from those that wait and are due, and from the queued ones. Returns whether
-- there were any.
local function cut_shard(batch)
  local size = shard_room(batch.id, now)
  if size <= 0 then return false end
  local rows, queued = {}, {}
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', part_key(batch.id, 'due'), '-inf', now, 'LIMIT', 0, size)) do
    redis.call('ZREM', part_key(batch.id, 'due'), row)
    rows[#rows + 1] = tonumber(row)
  end
  table.sort(rows)
  set_status_of_rows(batch.id, rows, 'w', 'p')
  dispatch_queued(batch, size - #rows, function(_, row) queued[#queued + 1] = row end)
  set_status_of_rows(batch.id, queued, 'q', 'p')
  for _, row in ipairs(queued) do rows[#rows + 1] = row end
  if #rows == 0 then return false end
  local number = new_shard(batch.id, rows, '{}')
  dispatch_row(batch, shard_name(number), 's')
  return true
end

-- Each row of a shard is several writes, and nobody else is served during a script. Every create and every end of a
-- shard dispatches again.
local SHARDS_PER_CALL = 4
local shards_cut = 0

-- Tier batch: each message is a shard. The probe is a shard here.
local function dispatch_shards(batch, count)
  count = math.min(count, SHARDS_PER_CALL - shards_cut)
  local probe = batch.probe_row and live_key(batch.id, batch.probe_row)
  local probing = probe and redis.call('EXISTS', probe) == 1 and now - batch.probe_at < PROBE_MS
  local limit, taken = batch.accepted and count or probing and 0 or math.min(count, 1), 0
  while taken < limit and cut_shard(batch) do taken = taken + 1 end
  shards_cut = shards_cut + taken
  if taken > 0 and not batch.accepted then
    redis.call('HSET', batch_key(batch.id), 'probe_row', batch.last_dispatched, 'probe_at', now)
  end
  return taken
end

local function dispatch_new(batch, count)
  if batch.state ~= 'queued' and batch.state ~= 'running' then return 0 end
  if batch.tier == 'batch' then return dispatch_shards(batch, count) end
  local limit, taken = limit_to_probe(batch, count), 0
  -- The probe is a row that was not refused yet, where there is one: a row that the API refuses for its content
  -- must not be asked first for ever.
  if batch.accepted then taken = dispatch_due(batch, 'due', limit) end
  taken = taken + dispatch_queued(batch, limit - taken, dispatch_row)
  if not batch.accepted then taken = taken + dispatch_due(batch, 'due', limit - taken) end
  if taken > 0 and not batch.accepted then
    batch.probe_row, batch.probe_at = batch.last_dispatched, now
    redis.call('HSET', batch_key(batch.id), 'probe_row', batch.last_dispatched, 'probe_at', now)
  end
  return taken
end

local function read_batch(id)
  local key = batch_key(id)
  local state, rows, cursor, accepted, probe_row, probe_at, generation, paused_until, tier =
    unpack(redis.call('HMGET', key, 'state', 'rows', 'cursor', 'accepted', 'probe_row', 'probe_at', 'generation',
      'paused_until', 'tier'))
  -- A pause for a wait that the API asked for ends by itself.
  if state == 'paused' and paused_until and now >= tonumber(paused_until) then state = resume_batch(id) end
  local group, own = group_of_batch(id, free, allowed)
  return {id = id, group = group, own = own, state = state, rows = tonumber(rows), cursor = tonumber(cursor),
    accepted = accepted == '1', probe_row = probe_row, probe_at = tonumber(probe_at) or 0,
    generation = tonumber(generation), tier = tier}
end

-- Gives the batches equal shares of the slots, again as long as some batch takes its whole share. Returns the
-- rows taken.
local function share_slots(batches, slots, dispatch_rows)
  local before = #dispatched
  while slots > 0 and #batches > 0 do
    local share, hungry = math.ceil(slots / #batches), {}
    for _, batch in ipairs(batches) do
      local count = math.min(share, slots)
      local taken = count > 0 and dispatch_rows(batch, count) or 0
      slots = slots - taken
      if taken > 0 then redis.call('ZADD', OPEN, redis.call('INCR', DISPATCH_ROUND), batch.id) end
      if taken == count and count > 0 then hungry[#hungry + 1] = batch end
    end
    batches = hungry
  end
  return (#dispatched - before) / 4
end

-- Runs that may still be started: limits of the API or the users may leave fewer than the free slots.
local function count_startable_runs(on_their_way)
  if now < hold_until() then return 0 end
  return max_runs(now) - count_runs_in_flight() - on_their_way
end

-- Without a living worker, `floor` rows in all, of any batch.
if groups == 0 then free.any = floor - redis.call('ZCARD', DISPATCHED) end
local startable = count_startable_runs(groups == 0 and redis.call('ZCARD', DISPATCHED) or subtract_dispatched())
local batches_by_group = {}
for _, id in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
  local batch = is_hash(batch_key(id)) and read_batch(id)
  local group = batch and batch.rows and (groups == 0 and 'any' or batch.group)
  if group then
    batches_by_group[group] = batches_by_group[group] or {}
    table.insert(batches_by_group[group], batch)
  end
end
for group, batches in pairs(batches_by_group) do
  local slots = free[group]
  slots = slots - share_slots(batches, slots, dispatch_running)
  startable = startable - share_slots(batches, math.min(slots, startable), dispatch_new)
end
if #dispatched > 0 then keep_reply(request, dispatched, 60000) end
return dispatched
