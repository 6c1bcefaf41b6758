-- What a batch uses at the API stands in its ledger `made`, for `purge`. Shared by `reserve` and `remember`.
-- include: lib/loading.lua

local function enter(batch, kind, id, sha)
  if redis.call('EXISTS', batch_key(batch)) == 0 then return end
  redis.call('HSET', part(batch, 'made'), kind .. ':' .. id, sha)
  local left_ms = redis.call('PTTL', batch_key(batch))
  if left_ms > 0 then redis.call('PEXPIRE', part(batch, 'made'), left_ms) end
end

-- Uploads may take longer than a batch may stand still on its way in.
local function keep_loading(batch, unsealed_ms)
  if redis.call('HGET', batch_key(batch), 'state') ~= 'loading' then return end
  for _, key in ipairs({batch_key(batch), part(batch, 'made')}) do redis.call('PEXPIRE', key, unsealed_ms) end
end
