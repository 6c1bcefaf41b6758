-- The ledger of what a batch uses at the API (files, vector stores, assistants), by which `purge` deletes.
-- include: lib/loading.lua

local function add_to_ledger(batch, kind, id, sha)
  if redis.call('EXISTS', batch_key(batch)) == 0 then return end
  redis.call('HSET', part_key(batch, 'resources'), kind .. ':' .. id, sha)
  local left_ms = redis.call('PTTL', batch_key(batch))
  if left_ms > 0 then redis.call('PEXPIRE', part_key(batch, 'resources'), left_ms) end
end

-- An upload may take longer than an unsealed batch lives.
local function extend_unsealed(batch, unsealed_ms)
  if redis.call('HGET', batch_key(batch), 'state') ~= 'loading' then return end
  for _, key in ipairs({batch_key(batch), part_key(batch, 'resources')}) do
    redis.call('PEXPIRE', key, unsealed_ms)
  end
end
