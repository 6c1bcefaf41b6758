-- Takes an identity before anything is stored or uploaded: creates a batch, continues one whose loader has
-- died, or names the batch that has the identity.
-- ARGV: identity, batch (id for a new one), fence, lease_ms, unsealed_ms, always new (0|1), how many of the
--       values that follow a continued batch keeps, then values for the batch's hash: field, value, …
-- Reply: {'sealed', batch}; {'loading', batch}: another command loads it; {'created' or 'continued', batch,
--        options}: the caller loads it; {'taken'}: the id is another batch's.
-- include: lib/loading.lua
local identity, batch, fence, lease_ms, unsealed_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local always_new, first = ARGV[6] == '1', 8
local first_overwritten = first + tonumber(ARGV[7])

local function begin(name, outcome)
  for i = first, first_overwritten - 1, 2 do redis.call('HSETNX', batch_key(name), ARGV[i], ARGV[i + 1]) end
  for i = first_overwritten, #ARGV, 2 do redis.call('HSET', batch_key(name), ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', batch_key(name), 'identity', identity, 'loader_fence', fence)
  set_identity(identity, name)
  renew_lease(name, lease_ms, unsealed_ms, LOADED_PARTS)
  return {outcome, name, redis.call('HGET', batch_key(name), 'options')}
end

local function continued(name)
  return {'continued', name, redis.call('HGET', batch_key(name), 'options')}
end

-- A repeated call: the client got no reply to the first.
if check_loader(batch, fence) == 1 then
  return {'created', batch, redis.call('HGET', batch_key(batch), 'options')}
end
local existing, state, expired = find_newest(identity)
if existing and not always_new then
  if state ~= 'loading' then return {'sealed', existing} end
  if check_loader(existing, fence) == 1 then return continued(existing) end
  if not expired then return {'loading', existing} end
  -- Its rows are stored again from the start; its uploads stay in its ledger.
  for _, name in ipairs(ROW_PARTS) do redis.call('UNLINK', part_key(existing, name)) end
  return begin(existing, 'continued')
end

if redis.call('EXISTS', batch_key(batch)) == 1 then return {'taken'} end
redis.call('HSET', batch_key(batch), 'state', 'loading', 'accepted', 0, 'cursor', 0, 'generation', 0)
if existing then redis.call('HSET', batch_key(batch), 'replaces', existing) end
redis.call('SADD', LOADING, batch)
return begin(batch, 'created')
