-- Tells what of a batch's ledger no other batch uses, one on its way in included, and forgets its key in the
-- same moment: who comes later finds nothing and makes its own, so that it may be deleted at the API.
-- ARGV: batch, "kind:id", …   Returns those of them.
-- include: lib/keys.lua
local batch = ARGV[1]
local names = {unpack(ARGV, 2)}
local used, free = {}, {}

for _, list in ipairs({redis.call('ZRANGE', BATCHES, 0, -1), redis.call('SMEMBERS', LOADING)}) do
  for _, other in ipairs(list) do
    local found = other == batch and {} or redis.call('HMGET', part(other, 'made'), unpack(names))
    for at = 1, #found do used[at] = used[at] or found[at] end
  end
end
for at, name in ipairs(names) do
  if not used[at] then
    free[#free + 1] = name
    local kind, id = name:match('^([^:]*):(.*)$')
    local key = resource_key(kind, redis.call('HGET', part(batch, 'made'), name) or '')
    if redis.call('GET', key) == id then redis.call('DEL', key) end
  end
end
return free
