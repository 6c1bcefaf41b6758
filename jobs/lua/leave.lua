-- Forgets a worker that ends cleanly. ARGV: worker   Returns how many rows it still held.
-- include: releasing.lua
local worker = ARGV[1]

local names = redis.call('SMEMBERS', held_key(worker))
for _, name in ipairs(names) do release(worker, name) end
redis.call('ZREM', WORKERS, worker)
redis.call('DEL', worker_key(worker))
return #names
