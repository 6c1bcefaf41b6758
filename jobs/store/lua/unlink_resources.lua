-- Finds which API objects of a batch no other batch uses, loading ones included, and removes their content
-- keys in the same step, so that they may be deleted at the API: a later batch finds nothing and creates its
-- own.
-- ARGV: batch, "kind:id", …
-- Reply: those that no other batch uses.
-- include: lib/keys.lua
local batch = ARGV[1]
local names = {unpack(ARGV, 2)}
local used, unused = {}, {}

for _, batches in ipairs({redis.call('ZRANGE', BATCHES, 0, -1), redis.call('SMEMBERS', LOADING)}) do
  for _, other in ipairs(batches) do
    local found = other == batch and {} or redis.call('HMGET', part_key(other, 'resources'), unpack(names))
    for at = 1, #found do used[at] = used[at] or found[at] end
  end
end
for at, name in ipairs(names) do
  if not used[at] then
    unused[#unused + 1] = name
    local kind, id = name:match('^([^:]*):(.*)$')
    local key = resource_key(kind, redis.call('HGET', part_key(batch, 'resources'), name) or '')
    if redis.call('GET', key) == id then redis.call('DEL', key) end
  end
end
return unused
