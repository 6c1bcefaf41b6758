-- Dispatches rows again whose message is lost, unless they were claimed or dispatched again meanwhile.
-- ARGV: request, "batch:row", ms of its dispatch, …
-- Reply: {batch, row or "shard:number", delivery, …} of what to publish
-- include: lib/row.lua
-- include: lib/kinds.lua
-- include: lib/once.lua
local request, now, rows = ARGV[1], now_ms(), {}

local earlier = earlier_reply(request)
if earlier then return earlier end
for i = 2, #ARGV, 2 do
  local name, dispatched_at = ARGV[i], tonumber(ARGV[i + 1])
  local batch, row = split_member(name)
  local stored_at = tonumber(redis.call('ZSCORE', DISPATCHED, name) or -1)
  if stored_at == dispatched_at and names_a_row(name) then
    redis.call('ZADD', DISPATCHED, now, name)
    local requeues = redis.call('HINCRBY', live_key(batch, row), 'requeues', 1)
    local deliveries = requeues + (redis.call('HGET', live_key(batch, row), 'deliveries') or 0)
    local generation = redis.call('HGET', batch_key(batch), 'generation')
    rows[#rows + 1] = batch
    rows[#rows + 1] = row
    rows[#rows + 1] = generation * 1000 + deliveries + 1
  end
end
return keep_reply(request, rows, 60000)
