-- A batch on its way in: one command loads it, under a fence, as long as it renews its lease. Shared by those scripts.
-- include: lib/row.lua
local ROW_PARTS = {'status', 'input', 'results', 'next', 'turns'}
local LOADED_PARTS = {'made', unpack(ROW_PARTS)}

-- 1: the command with this fence loads the batch. 0: the batch is gone. -1: it is sealed, or another command loads it.
local function loads(batch, fence)
  local about = redis.call('HMGET', batch_key(batch), 'state', 'loader')
  if not about[1] then return 0 end
  return about[1] == 'loading' and about[2] == fence and 1 or -1
end

-- The identity's key lives as long as the batch that it names.
local function point(identity, batch)
  redis.call('SET', identity_key(identity), batch)
  local left_ms = redis.call('PTTL', batch_key(batch))
  if left_ms > 0 then redis.call('PEXPIRE', identity_key(identity), left_ms) end
end

-- The lease goes on, and the batch stays for another `unsealed_ms`: its hash, its identity and these parts.
local function renew(batch, lease_ms, unsealed_ms, parts)
  local identity = redis.call('HGET', batch_key(batch), 'identity')
  local now = now_ms()
  redis.call('HSET', batch_key(batch), 'lease_from', now, 'lease_until', now + lease_ms)
  redis.call('PEXPIRE', batch_key(batch), unsealed_ms)
  if redis.call('GET', identity_key(identity)) == batch then redis.call('PEXPIRE', identity_key(identity), unsealed_ms) end
  for _, name in ipairs(parts) do redis.call('PEXPIRE', part(batch, name), unsealed_ms) end
end

-- The newest batch of an identity, its state, and whether it is loading and its lease has run out. A batch of --new whose
-- loader has died yields to the batch before it: nobody pays for a --new of somebody else.
local function newest(identity)
  local batch = redis.call('GET', identity_key(identity))
  for _ = 1, 1000 do
    local state, from, till, before =
      unpack(batch and redis.call('HMGET', batch_key(batch), 'state', 'lease_from', 'lease_until', 'before') or {})
    if not state then return nil end
    -- A lease from the future: the clock was set back, and nobody waits until it is there again.
    local now = now_ms()
    local lapsed = state == 'loading' and (now >= (tonumber(till) or 0) or now < (tonumber(from) or 0))
    if not (lapsed and before and redis.call('EXISTS', batch_key(before)) == 1) then return batch, state, lapsed end
    batch = before
  end
end
