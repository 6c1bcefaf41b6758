-- Loading a batch: one command at a time, its loader, holds it with a fence as long as it renews its lease.
-- include: lib/row.lua
local ROW_PARTS = {'status', 'input', 'results', 'next_turn', 'last_turns'}
local LOADED_PARTS = {'resources', 'images', unpack(ROW_PARTS)}

-- 1: the command with this fence loads the batch. 0: no such batch. -1: it is sealed, or another command
-- loads it.
local function check_loader(batch, fence)
  local state, loader_fence = unpack(redis.call('HMGET', batch_key(batch), 'state', 'loader_fence'))
  if not state then return 0 end
  return state == 'loading' and loader_fence == fence and 1 or -1
end

-- The identity's key lives as long as the batch that it names.
local function set_identity(identity, batch)
  redis.call('SET', identity_key(identity), batch)
  local left_ms = redis.call('PTTL', batch_key(batch))
  if left_ms > 0 then redis.call('PEXPIRE', identity_key(identity), left_ms) end
end

-- Extends the lease, and the lifetime of the batch's hash, its identity and these parts.
local function renew_lease(batch, lease_ms, unsealed_ms, parts)
  local identity = redis.call('HGET', batch_key(batch), 'identity')
  local now = now_ms()
  redis.call('HSET', batch_key(batch), 'lease_from', now, 'lease_until', now + lease_ms)
  redis.call('PEXPIRE', batch_key(batch), unsealed_ms)
  if redis.call('GET', identity_key(identity)) == batch then
    redis.call('PEXPIRE', identity_key(identity), unsealed_ms)
  end
  for _, name in ipairs(parts) do redis.call('PEXPIRE', part_key(batch, name), unsealed_ms) end
end

-- Returns the newest batch of an identity, its state, and whether it is loading with an expired lease. When
-- the loader of a `--new` batch has died, the batch that it would have replaced counts: nobody pays for
-- another person's `--new`.
local function find_newest(identity)
  local batch = redis.call('GET', identity_key(identity))
  for _ = 1, 1000 do
    if not batch then return nil end
    local state, lease_from, lease_until, replaces =
      unpack(redis.call('HMGET', batch_key(batch), 'state', 'lease_from', 'lease_until', 'replaces'))
    if not state then return nil end
    -- A lease that begins in the future: the clock was set back, and nobody waits until it is there again.
    local now = now_ms()
    local expired = state == 'loading' and (now >= (tonumber(lease_until) or 0) or now < (tonumber(lease_from) or 0))
    if not (expired and replaces and redis.call('EXISTS', batch_key(replaces)) == 1) then
      return batch, state, expired
    end
    batch = replaces
  end
end
