-- Releases a creator's lock, if it still holds it. Its note stays: the create may have arrived all the same.
-- ARGV: kind, sha, creator
-- Reply: released (0|1)
-- include: lib/keys.lua
-- include: lib/resource_lock.lua
local key, creator = resource_key(ARGV[1], ARGV[2]), ARGV[3]

local holder, note = read_lock(redis.call('GET', key))
if holder ~= creator then return 0 end
if note == '' then return redis.call('DEL', key) end
redis.call('SET', key, '? 0 ' .. note, 'KEEPTTL')
return 1
