-- A loader gives up: the batch is gone, its identity free at once, or again that of the batch before.
-- ARGV: batch, fence   Returns 1; 0: it is gone already; -1: it is sealed, or another command loads it.
-- include: lib/loading.lua
local batch, fence = ARGV[1], ARGV[2]

local ours = loads(batch, fence)
if ours ~= 1 then return ours end
local about = redis.call('HMGET', batch_key(batch), 'identity', 'before')
if redis.call('GET', identity_key(about[1])) == batch then
  if about[2] and redis.call('EXISTS', batch_key(about[2])) == 1 then
    point(about[1], about[2])
  else
    redis.call('DEL', identity_key(about[1]))
  end
end
for _, name in ipairs(PARTS) do redis.call('UNLINK', part(batch, name)) end
redis.call('DEL', batch_key(batch))
redis.call('SREM', LOADING, batch)
return 1
