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

-- Begins the recovery when another server has written here before. Returns the id of this one.
local function note_server(lifetime_ms)
  local id, before = server_id(), redis.call('GET', SERVER)
  if not id or id == before then return id or '' end
  redis.call('SET', SERVER, id)
  local now = now_ms()
  if before and redis.call('ZCOUNT', WORKERS, now - FORGOTTEN_MS, '+inf') > 0 then
    -- A worker may have registered with the writes that were lost: so it lasts for a heartbeat at least.
    redis.call('SET', RECOVERY, math.floor(now + lifetime_ms / 4), 'PX', lifetime_ms)
  end
  return id
end

-- Whether some worker may still have to redo lost writes. It lasts a worker's lifetime at most.
local function is_recovering()
  local not_before = tonumber(redis.call('GET', RECOVERY))
  if not not_before then return false end
  if now_ms() < not_before then return true end
  local id = redis.call('GET', SERVER)
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    if redis.pcall('HGET', worker_key(worker), 'server') ~= id then return true end
  end
  redis.call('DEL', RECOVERY)
  return false
end
