-- Keeps a file that a run generated, if the claim stands and the batch's files stay within their size.
-- ARGV: batch, row, fence, number, content, budget_bytes   Returns kept (0|1)
-- include: lib/keys.lua
local batch, row, fence, number, content = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local budget_bytes = tonumber(ARGV[6])

local files, name = part(batch, 'files'), row .. ':' .. number
if redis.call('HGET', live_key(batch, row), 'fence') ~= fence then return 0 end
local more = #content - redis.call('HSTRLEN', files, name)
local size = tonumber(redis.call('HGET', part(batch, 'n'), 'file_bytes') or 0)
if size + more > budget_bytes then return 0 end
redis.call('HSET', files, name, content)
redis.call('HINCRBY', part(batch, 'n'), 'file_bytes', more)
return 1
