-- Stores some rows of a batch on its way in, and renews its loader's lease.
-- ARGV: batch, fence, first_row, lease_ms, unsealed_ms, status bytes, then the numbers of values for `input`, `results`,
-- `next` and `turns`, then these values: field, value, …   Returns 1; 0: the batch is gone; -1: it is another loader's.
-- include: lib/loading.lua
local batch, fence, first_row, lease_ms, unsealed_ms, status = unpack(ARGV, 1, 6)
local at, written = 11, {'status'}

-- Lua unpacks some thousand values at most.
local function put(name, count)
  if count > 0 then written[#written + 1] = name end
  local last = at + count - 1
  for from = at, last, 1000 do
    redis.call('HSET', part(batch, name), unpack(ARGV, from, math.min(from + 999, last)))
  end
  at = last + 1
end

local ours = loads(batch, fence)
if ours ~= 1 then return ours end
redis.call('SETRANGE', part(batch, 'status'), first_row - 1, status)
for i, name in ipairs({'input', 'results', 'next', 'turns'}) do put(name, tonumber(ARGV[6 + i])) end
renew(batch, lease_ms, unsealed_ms, written)
return 1
