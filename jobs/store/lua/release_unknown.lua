-- Releases rows that a worker is said to hold and does not know of: their end was among the lost writes.
-- ARGV: worker, "batch:row", …
-- Reply: how many rows were released.
-- include: lib/release.lua
local worker, released = ARGV[1], 0

for i = 2, #ARGV do
  if redis.call('SISMEMBER', claims_key(worker), ARGV[i]) == 1 then
    local batch, row = split_member(ARGV[i])
    if batch then redis.call('HDEL', live_key(batch, row), 'crash_mark') end
    release_claim(worker, ARGV[i])
    released = released + 1
  end
end
return released
