-- Forgets a worker that ends cleanly. ARGV: worker   Returns how many rows it still held.
-- include: lib/release.lua
local worker = ARGV[1]

local names = redis.call('SMEMBERS', held_key(worker))
for _, name in ipairs(names) do release(worker, name) end
redis.call('ZREM', WORKERS, worker)
-- A last beat may still be on its way: it must not bring the worker back.
redis.call('DEL', worker_key(worker))
redis.call('HSET', worker_key(worker), 'swept', 1)
redis.call('PEXPIRE', worker_key(worker), 60000)
return #names
