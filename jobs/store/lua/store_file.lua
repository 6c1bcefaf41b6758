-- Stores a file that a run generated, if the claim still holds the row and the batch's files stay within
-- their limit.
-- ARGV: batch, row, fence, number of the file, content, limit_bytes
-- Reply: stored (0|1)
-- include: lib/keys.lua
local batch, row, fence, number, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local limit_bytes = tonumber(ARGV[6])

local files, field = part_key(batch, 'files'), row .. ':' .. number
if redis.call('HGET', live_key(batch, row), 'fence') ~= fence then return 0 end
local added_bytes = #content - redis.call('HSTRLEN', files, field)
local stored_bytes = tonumber(redis.call('HGET', part_key(batch, 'counters'), 'file_bytes') or 0)
if stored_bytes + added_bytes > limit_bytes then return 0 end
redis.call('HSET', files, field, content)
redis.call('HINCRBY', part_key(batch, 'counters'), 'file_bytes', added_bytes)
return 1
