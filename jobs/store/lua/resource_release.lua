-- Gives up a turn to make something, if it still is this maker's. ARGV: kind, sha, maker   Returns given up (0|1)
-- include: lib/keys.lua
local key = resource_key(ARGV[1], ARGV[2])

if redis.call('GET', key) ~= '?' .. ARGV[3] then return 0 end
return redis.call('DEL', key)
