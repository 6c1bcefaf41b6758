-- Which living workers serve which batches. A worker serves all batches of its API and address, of any API at
-- its address, or one batch alone. A batch with a living worker of its own is served by that one only, through a queue of its own.
-- include: lib/limits.lua
-- include: lib/kinds.lua

-- Workers of one group serve the same batches: those of a server (`server_of`), or "batch server".
local function group_name(batch, server)
  return (batch and batch ~= '' and batch .. ' ' or '') .. server
end

-- Returns the group's name and the free slots of each group; and a set of "group sha256", the modules whose
-- functions some worker of the group may call.
local function read_groups(floor)
  local free, allowed = {}, {}
  for _, worker in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    local server = is_hash(worker_key(worker)) and server_of(worker_key(worker))
    if server then
      local slots, batch, functions = unpack(redis.call('HMGET', worker_key(worker), 'slots', 'batch', 'functions'))
      local group = group_name(batch, server)
      -- A worker may hold more rows than its slots, when it registered again with fewer: that counts as none
      -- free.
      local free_here = math.max(0, slots - redis.call('SCARD', claims_key(worker)))
      free[group] = (free[group] or floor) + free_here
      for sha in (functions or ''):gmatch('[^,]+') do allowed[group .. ' ' .. sha] = true end
    end
  end
  return free, allowed
end

-- The group with more free slots, of the two whose workers may call the functions; nil when neither may.
local function roomier_group(group, any_api, functions, free, allowed)
  local chosen
  for _, name in ipairs({group, any_api}) do
    local may = free[name] and (not functions or allowed[name .. ' ' .. functions])
    if may and (not chosen or free[name] > free[chosen]) then chosen = name end
  end
  return chosen
end

-- The group that serves a batch, and whether it is the batch's own; nil when no living worker may serve it.
local function group_of_batch(batch, free, allowed)
  local server = is_hash(batch_key(batch)) and server_of(batch_key(batch))
  if not server then return nil end
  local functions = redis.call('HGET', batch_key(batch), 'functions')
  local group, any_api = group_name(batch, server), group_name(batch, without_api(server))
  local own = free[group] ~= nil or free[any_api] ~= nil
  if not own then group, any_api = server, without_api(server) end
  return roomier_group(group, any_api, functions, free, allowed), own
end
