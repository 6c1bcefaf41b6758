-- Records what the last poll of running rows showed, and when they are polled next, for `show`.
-- ARGV: batch, then for each row: row, fence, status at the server, ms of the next poll
-- Reply: the rows that their claims still hold.
-- include: lib/row.lua
local batch, held = ARGV[1], 0

for i = 2, #ARGV, 4 do
  local live = live_key(batch, ARGV[i])
  if redis.call('HGET', live, 'fence') == ARGV[i + 1] then
    redis.call('HSET', live, 'server_status', ARGV[i + 2], 'next_poll', ARGV[i + 3])
    held = held + 1
  end
end
return held
