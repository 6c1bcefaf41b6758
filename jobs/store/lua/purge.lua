-- Deletes every key of a batch. Workers that hold its rows lose their claims.
-- ARGV: request, batch
-- Reply: 1; 0: no such batch.
-- include: lib/once.lua
local request, batch = ARGV[1], ARGV[2]

local function delete_row(row)
  local worker = redis.call('HGET', live_key(batch, row), 'worker')
  if worker then redis.call('SREM', claims_key(worker), member(batch, row)) end
  redis.call('ZREM', DISPATCHED, member(batch, row))
  redis.call('DEL', live_key(batch, row))
end

local identity = redis.call('HGET', batch_key(batch), 'identity')
if not identity then return earlier_reply(request) or 0 end
local status = part_key(batch, 'status')
for at = 0, redis.call('STRLEN', status) - 1, 65536 do
  local chunk, place = redis.call('GETRANGE', status, at, at + 65535), 0
  repeat
    place = chunk:find('[rpw]', place + 1)
    if place then delete_row(at + place) end
  until not place
end
for number = 1, tonumber(redis.call('HGET', part_key(batch, 'shards'), 'next') or 1) - 1 do
  delete_row(shard_name(number))
end
if redis.call('GET', identity_key(identity)) == batch then redis.call('DEL', identity_key(identity)) end
for _, name in ipairs(PARTS) do redis.call('UNLINK', part_key(batch, name)) end
redis.call('DEL', batch_key(batch))
redis.call('ZREM', BATCHES, batch)
redis.call('SREM', LOADING, batch)
redis.call('ZREM', OPEN, batch)
return keep_reply(request, 1, 3600000)
