-- Publishes again rows whose message is proved lost, unless somebody has done so or claimed them meanwhile.
-- ARGV: "b:row", ms it was fed, …   Returns {batch, row, attempt, …}
-- include: lib/row.lua
local now, fed = now_ms(), {}

for i = 1, #ARGV, 2 do
  local name = ARGV[i]
  local batch, row = split(name)
  if tonumber(redis.call('ZSCORE', FED, name) or -1) == tonumber(ARGV[i + 1]) then
    redis.call('ZADD', FED, now, name)
    local tries = redis.call('HINCRBY', live_key(batch, row), 'tries', 1)
    local generation = redis.call('HGET', batch_key(batch), 'generation')
    fed[#fed + 1] = batch
    fed[#fed + 1] = tonumber(row)
    fed[#fed + 1] = generation * 1000 + tries + 1
  end
end
return fed
