-- Takes an identity before anything is stored or uploaded: a new batch, one whose loader has died, or no turn at all.
-- ARGV: identity, batch (an id for a new one), fence, lease_ms, unsealed_ms, anyway (1: a new batch whatever exists),
-- kept (so many of the values that follow stay as they are when a batch is taken over), then field, value, …
-- Returns {'sealed', batch}, {'loading', batch} by another command, {'created'|'continued', batch, options} for this one
-- to load, or {'taken'}: the id is another batch's.
-- include: lib/loading.lua
local identity, batch, fence, lease_ms, unsealed_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local anyway, first = ARGV[6] == '1', 8
local frozen = first + tonumber(ARGV[7])

local function begin(name, came)
  for i = first, frozen - 1, 2 do redis.call('HSETNX', batch_key(name), ARGV[i], ARGV[i + 1]) end
  for i = frozen, #ARGV, 2 do redis.call('HSET', batch_key(name), ARGV[i], ARGV[i + 1]) end
  redis.call('HSET', batch_key(name), 'identity', identity, 'loader', fence)
  point(identity, name)
  renew(name, lease_ms, unsealed_ms, LOADED_PARTS)
  return {came, name, redis.call('HGET', batch_key(name), 'options')}
end

local function again(name)
  return {'continued', name, redis.call('HGET', batch_key(name), 'options')}
end

-- A repeated call whose reply was lost.
if loads(batch, fence) == 1 then return again(batch) end
local known, state, lapsed = newest(identity)
if known and not anyway then
  if state ~= 'loading' then return {'sealed', known} end
  if loads(known, fence) == 1 then return again(known) end
  if not lapsed then return {'loading', known} end
  -- Its rows are stored afresh; what it has uploaded stays in its ledger.
  for _, name in ipairs(ROW_PARTS) do redis.call('UNLINK', part(known, name)) end
  return begin(known, 'continued')
end

if redis.call('EXISTS', batch_key(batch)) == 1 then return {'taken'} end
redis.call('HSET', batch_key(batch), 'state', 'loading', 'accepted', 0, 'cursor', 0, 'generation', 0)
if known then redis.call('HSET', batch_key(batch), 'before', known) end
redis.call('SADD', LOADING, batch)
return begin(batch, 'created')
