-- Releases a creator's lock, if it still holds it.
-- ARGV: kind, sha, creator
-- Reply: released (0|1)
-- include: lib/keys.lua
local key, creator = resource_key(ARGV[1], ARGV[2]), '?' .. ARGV[3]

if redis.call('GET', key) ~= creator then return 0 end
return redis.call('DEL', key)
