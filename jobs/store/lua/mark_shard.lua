-- Sets a shard's crash mark while the lines of its rows are built or read, if the claim still holds it: a death of its
-- worker meanwhile counts against the shard, and against the row whose line goes on alone.
-- ARGV: batch, number, fence, step ('begin'; 'end'; 'crash': it raised an exception, which counts as a death), row whose
--       line goes on ('' of several)
-- Reply: 1; 0: the claim no longer holds it.
-- include: lib/crash.lua
local batch, number, fence, step, row = unpack(ARGV)
local name = shard_name(number)
local live = live_key(batch, name)
if redis.call('HGET', live, 'fence') ~= fence then return 0 end
if step == 'crash' then count_crash(batch, name) end
redis.call('HDEL', live, 'crash_mark', 'crash_row')
if step == 'begin' then
  redis.call('HSET', live, 'crash_mark', 1)
  if row ~= '' then redis.call('HSET', live, 'crash_row', row) end
end
return 1
