-- Ends a shard that has no rows any more, if the claim still holds it; closes the batch after its last one.
-- ARGV: batch, number, worker, fence, state, ms for which no shard is cut (0: cuts go on), rows a shard may have (''),
--       rows that may be in shards at a time (''), both as they were read ("size,total": they change only if they are
--       still so; '': in any case), number of files that it no longer answers for, these files, counter, amount, …
-- Reply: 1; 0: the claim no longer holds it; -1: rows are still in it.
-- include: lib/batch_end.lua
-- include: lib/shard.lua
local batch, number, worker, fence, state = unpack(ARGV, 1, 5)
local hold_ms, size, total, before, files = tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9], tonumber(ARGV[10])
local name = shard_name(number)
local live = live_key(batch, name)
local claimed_with, rows = unpack(redis.call('HMGET', live, 'fence', 'rows'))
if claimed_with ~= fence then
  -- A repeated call, its first reply lost.
  return redis.call('HGET', part_key(batch, 'shards'), number) == state and 1 or 0
end
if (tonumber(rows) or 0) > 0 then return -1 end
set_money(batch, name, 'reserved_nano', 0)
redis.call('HSET', part_key(batch, 'shards'), number, state)
redis.call('DEL', live)
redis.call('SREM', claims_key(worker), member(batch, name))
-- A late batch of one of these files is nobody's: it is found as unknown, cancelled and counted.
for i = 11, 10 + files do redis.call('HDEL', part_key(batch, 'shards'), 'file:' .. ARGV[i]) end
redis.call('HINCRBY', part_key(batch, 'counters'), 'open_shards', -1)
if hold_ms > 0 then
  redis.call('HSET', batch_key(batch), 'cuts_held_until', now_ms() + hold_ms)
else
  redis.call('HDEL', batch_key(batch), 'cuts_held_until')
end
local sizes = redis.call('HMGET', batch_key(batch), 'shard_size', 'shard_total')
if before == '' or before == (sizes[1] or '') .. ',' .. (sizes[2] or '') then
  if size ~= '' then redis.call('HSET', batch_key(batch), 'shard_size', size) end
  if total ~= '' then redis.call('HSET', batch_key(batch), 'shard_total', total) end
end
add_counters(batch, 11 + files)
close_if_done(batch)
return 1
