-- Deregisters a worker that ends cleanly, and releases the rows it still holds.
-- ARGV: worker
-- Reply: how many rows were released.
-- include: lib/release.lua
local worker = ARGV[1]

local names = redis.call('SMEMBERS', claims_key(worker))
for _, name in ipairs(names) do release_claim(worker, name) end
redis.call('ZREM', WORKERS, worker)
-- A heartbeat that is still on its way must not register the worker again.
redis.call('DEL', worker_key(worker))
redis.call('HSET', worker_key(worker), 'reaped', 1)
redis.call('PEXPIRE', worker_key(worker), 60000)
return #names
