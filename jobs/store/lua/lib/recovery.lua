-- A Redis that goes back in time: after a power loss, or when a replica takes over, the last writes are gone.
-- Each worker redoes its own (jobs/store/lost_writes.py). Until all have, no row is dispatched, claimed or
-- reaped: a row that seems to be free may have a run, which only its worker knows of.
-- include: lib/row.lua

-- A worker that has been silent for so long before is not waited for.
local FORGOTTEN_MS = 300000

-- The id of this server process and of its history of writes; nil where the user may not read it.
local function server_id()
  local server, replication = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(server) ~= 'string' or type(replication) ~= 'string' then return nil end
  return (server:match('run_id:(%w+)') or '') .. '/' .. (replication:match('master_replid:(%w+)') or '')
end

-- The recovery lasts for a heartbeat at least: a worker may have registered with the writes that were lost.
local function begin_recovery(lifetime_ms)
  local not_before = string.format('%d %d', now_ms() + lifetime_ms / 4, lifetime_ms)
  redis.call('SET', RECOVERY, not_before, 'PX', lifetime_ms)
end

-- Begins the recovery when another server has written here before. Returns the id of this one.
local function note_server(lifetime_ms)
  local id, before = server_id(), redis.call('GET', SERVER)
  if not id or id == before then return id or '' end
  redis.call('SET', SERVER, id)
  local now = now_ms()
  if before and redis.call('ZCOUNT', WORKERS, now - FORGOTTEN_MS, '+inf') > 0 then
    begin_recovery(lifetime_ms)
  end
  return id
end

-- Whether some worker may still have to redo lost writes. It lasts a worker's lifetime at most.
local function is_recovering()
  local stored = redis.call('GET', RECOVERY)
  if not stored then return false end
  local not_before, lifetime_ms = stored:match('^(%d+) (%d+)$')
  if not lifetime_ms then return true end  -- another version's; it expires within a lifetime
  -- Redis' clock was set back meanwhile: the recovery would last that much longer.
  if redis.call('PTTL', RECOVERY) > tonumber(lifetime_ms) then begin_recovery(lifetime_ms) return true end
  if now_ms() < tonumber(not_before) then return true end
  local id = redis.call('GET', SERVER)
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    if redis.pcall('HGET', worker_key(worker), 'server') ~= id then return true end
  end
  redis.call('DEL', RECOVERY)
  return false
end
