-- Chooses the rows to publish now: at most the free slots of the living workers and a small floor, the least
-- recently served batch first.   ARGV: floor   Returns {batch, row, attempt, …}
-- include: lib/limits.lua
local floor = tonumber(ARGV[1])
local now, fed = now_ms(), {}

local function api_of(key)
  local api = redis.call('HMGET', key, 'api', 'base_url')
  return api[1] and (api[1] .. ' ' .. api[2])
end

-- API address → slots that nothing is on its way to; with nobody alive, one window for all.
local function free_slots()
  local free, kinds = {}, 0
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    local api, slots = api_of(worker_key(worker)), redis.call('HGET', worker_key(worker), 'slots')
    if api then
      if not free[api] then free[api], kinds = floor, kinds + 1 end
      -- One that was given fewer slots than it holds takes none from the others.
      free[api] = free[api] + math.max(0, slots - redis.call('SCARD', held_key(worker)))
    end
  end
  if kinds == 0 then return nil, floor - redis.call('ZCARD', FED) end
  if kinds == 1 then
    local api = next(free)
    free[api] = free[api] - redis.call('ZCARD', FED)
    return free
  end
  -- Only workers of several kinds make it necessary to look where each message will be taken.
  for _, name in ipairs(redis.call('ZRANGE', FED, 0, -1)) do
    local api = api_of(batch_key(split(name)))
    if free[api] then free[api] = free[api] - 1 end
  end
  return free
end

local function hand_out(about, row, from)
  local tries = from == 'w' and redis.call('HGET', live_key(about.id, row), 'tries') or 0
  move(about.id, row, from, 'p')
  redis.call('ZADD', FED, now, member(about.id, row))
  about.last = row
  fed[#fed + 1] = about.id
  fed[#fed + 1] = tonumber(row)
  -- A task id that was revoked once is never run again, so a retried row's ids start at another thousand.
  fed[#fed + 1] = about.generation * 1000 + tries + 1
end

local function take_waiting(about, zset, want)
  if want <= 0 then return 0 end
  local rows = redis.call('ZRANGEBYSCORE', part(about.id, zset), '-inf', now, 'LIMIT', 0, want)
  for _, row in ipairs(rows) do
    redis.call('ZREM', part(about.id, zset), row)
    hand_out(about, row, 'w')
  end
  return #rows
end

local function take_fresh(about, want)
  local taken, at, size = 0, about.cursor, 256
  while taken < want and at < about.rows do
    local chunk, from = redis.call('GETRANGE', part(about.id, 'status'), at, at + size - 1), 1
    while taken < want and from do
      local place = chunk:find('q', from, true)
      if place then
        hand_out(about, at + place, 'q')
        taken = taken + 1
      end
      from = place and place + 1
    end
    at = at + (from and from - 1 or #chunk)
    size = math.min(size * 16, 65536)
  end
  if at ~= about.cursor then redis.call('HSET', batch_key(about.id), 'cursor', at) end
  about.cursor = at
  return taken
end

-- Until the API has accepted a run of the batch, one row goes alone. It holds the others up for so long: whether
-- a create whose reply was lost was carried out may take a minute to tell, and another's may go through.
local PROBE_MS = 20000

local function window(about, want)
  if about.accepted then return want end
  local probe = about.probe and byte_of(about.id, about.probe)
  local alone = (probe == 'p' or probe == 'r') and now - about.probe_at < PROBE_MS
  return alone and 0 or math.min(want, 1)
end

-- Their runs are out, or are to be ended: they start nothing.
local function take_orphans(about, want) return take_waiting(about, 'orphans', want) end

local function take_new(about, want)
  if about.state ~= 'queued' and about.state ~= 'running' then return 0 end
  local room = window(about, want)
  local new = take_waiting(about, 'due', room)
  new = new + take_fresh(about, room - new)
  if new > 0 and not about.accepted then
    about.probe, about.probe_at = about.last, now
    redis.call('HSET', batch_key(about.id), 'probe', about.last, 'probe_at', now)
  end
  return new
end

local function read(batch)
  local got = redis.call('HMGET', batch_key(batch), 'state', 'rows', 'cursor', 'accepted', 'probe', 'generation', 'api', 'base_url',
    'probe_at')
  return {id = batch, state = got[1], rows = tonumber(got[2]), cursor = tonumber(got[3]), accepted = got[4] == '1',
    probe = got[5], probe_at = tonumber(got[9]) or 0, generation = tonumber(got[6]), api = got[7] .. ' ' .. got[8]}
end

-- Equal shares, and again as long as somebody takes all of its share. Returns how many rows were taken.
local function serve(batches, free, take)
  local before = #fed
  while free > 0 and #batches > 0 do
    local share, hungry = math.ceil(free / #batches), {}
    for _, about in ipairs(batches) do
      local want = math.min(share, free)
      local taken = want > 0 and take(about, want) or 0
      free = free - taken
      if taken > 0 then redis.call('ZADD', OPEN, redis.call('INCR', TURN), about.id) end
      if taken == want and want > 0 then hungry[#hungry + 1] = about end
    end
    batches = hungry
  end
  return (#fed - before) / 3
end

-- Runs that may still be started: fewer than the free slots when the API or the user says so.
local function runs_allowed()
  if now < held_until() then return 0 end
  return allowed_runs(now) - runs_in_flight() - redis.call('ZCARD', FED)
end

local free, any = free_slots()
local allowed = runs_allowed()
local groups = {}
for _, batch in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
  local about = read(batch)
  local group = any and 'any' or about.api
  groups[group] = groups[group] or {}
  table.insert(groups[group], about)
end
for group, batches in pairs(groups) do
  local slots = any or free[group] or 0
  slots = slots - serve(batches, slots, take_orphans)
  allowed = allowed - serve(batches, math.min(slots, allowed), take_new)
end
return fed
