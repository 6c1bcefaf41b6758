-- Replaces the expectation of a batch: the column of expected answers, and how they are compared.
-- ARGV: batch, expectation as JSON
-- Reply: 1; 0: no such batch.
-- include: lib/row.lua
if redis.call('EXISTS', batch_key(ARGV[1])) == 0 then return 0 end
redis.call('HSET', batch_key(ARGV[1]), 'expected', ARGV[2])
return 1
