-- Drops a batch whose loader gives up. Its identity is free again, or names the batch that this one would
-- have replaced.
-- ARGV: batch, fence
-- Reply: 1; 0: no such batch; -1: it is sealed, or another command loads it.
-- include: lib/loading.lua
local batch, fence = ARGV[1], ARGV[2]

local ours = check_loader(batch, fence)
if ours ~= 1 then return ours end
local identity, replaces = unpack(redis.call('HMGET', batch_key(batch), 'identity', 'replaces'))
if redis.call('GET', identity_key(identity)) == batch then
  if replaces and redis.call('EXISTS', batch_key(replaces)) == 1 then
    set_identity(identity, replaces)
  else
    redis.call('DEL', identity_key(identity))
  end
end
for _, name in ipairs(PARTS) do redis.call('UNLINK', part_key(batch, name)) end
redis.call('DEL', batch_key(batch))
redis.call('SREM', LOADING, batch)
return 1
