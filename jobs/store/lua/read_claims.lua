-- Reads the rows that a worker holds.
-- ARGV: worker
-- Reply: {"batch:row", …}
-- include: lib/keys.lua
return redis.call('SMEMBERS', claims_key(ARGV[1]))
