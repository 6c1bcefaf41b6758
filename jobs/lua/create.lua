-- Takes a batch id and stores what is frozen; nobody sees the batch before it is sealed.
-- ARGV: batch, lifetime_ms until sealed, then field, value, …   Returns 0 when the id is taken.
-- include: keys.lua
local batch, lifetime_ms = ARGV[1], ARGV[2]

if redis.call('EXISTS', batch_key(batch)) == 1 then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', batch_key(batch), ARGV[i], ARGV[i + 1]) end
redis.call('HSET', batch_key(batch), 'state', 'loading', 'accepted', 0, 'cursor', 0, 'generation', 0)
redis.call('PEXPIRE', batch_key(batch), lifetime_ms)
redis.call('SADD', LOADING, batch)
return 1
