-- Stores rows of a batch that is loading, and renews its loader's lease.
-- ARGV: batch, fence, number of the first row, lease_ms, unsealed_ms (lifetime without a further step),
--       status bytes, how many values follow for each of `input`, `results`, `next_turn` and `last_turns`,
--       then these values: field, value, …
-- Reply: 1; 0: no such batch; -1: another command loads it.
-- include: lib/loading.lua
local batch, fence, first_row, lease_ms, unsealed_ms, status = unpack(ARGV, 1, 6)
local at, changed = 11, {'status'}

-- In slices, because Lua's unpack takes a few thousand values at most.
local function store_part(name, count)
  if count > 0 then changed[#changed + 1] = name end
  local last = at + count - 1
  for from = at, last, 1000 do
    redis.call('HSET', part_key(batch, name), unpack(ARGV, from, math.min(from + 999, last)))
  end
  at = last + 1
end

local ours = check_loader(batch, fence)
if ours ~= 1 then return ours end
redis.call('SETRANGE', part_key(batch, 'status'), first_row - 1, status)
for i, name in ipairs({'input', 'results', 'next_turn', 'last_turns'}) do
  store_part(name, tonumber(ARGV[6 + i]))
end
renew_lease(batch, lease_ms, unsealed_ms, changed)
return 1
