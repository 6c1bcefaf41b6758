-- Dispatches rows again whose message is lost, unless they were claimed or dispatched again meanwhile.
-- ARGV: "batch:row", ms of its dispatch, …
-- Reply: {batch, row, delivery, …} of the rows to publish
-- include: lib/row.lua
local now, rows = now_ms(), {}

for i = 1, #ARGV, 2 do
  local name, dispatched_at = ARGV[i], tonumber(ARGV[i + 1])
  local batch, row = split_member(name)
  if tonumber(redis.call('ZSCORE', DISPATCHED, name) or -1) == dispatched_at then
    redis.call('ZADD', DISPATCHED, now, name)
    local deliveries = redis.call('HINCRBY', live_key(batch, row), 'deliveries', 1)
    local generation = redis.call('HGET', batch_key(batch), 'generation')
    rows[#rows + 1] = batch
    rows[#rows + 1] = tonumber(row)
    rows[#rows + 1] = generation * 1000 + deliveries + 1
  end
end
return rows
