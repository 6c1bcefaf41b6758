-- Records what a worker met at the API as the batch's last fault. The same kind again is counted, as long as no
-- other comes between.
-- ARGV: batch, kind, words, request, count, id of the report
-- Reply: 1; 0: no such batch.
-- include: lib/row.lua
local batch, kind, words, request, count, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]

if redis.call('EXISTS', batch_key(batch)) == 0 then return 0 end
local stored = redis.call('HGET', batch_key(batch), 'last_fault')
local before = stored and cjson.decode(stored) or {}
-- A repeated call, its first reply lost.
if before.id == id then return 1 end
local now, same = now_ms(), before.kind == kind
redis.call('HSET', batch_key(batch), 'last_fault', cjson.encode({
  kind = kind, words = words, request = request, id = id, at_ms = now,
  count = count + (same and before.count or 0), since_ms = same and before.since_ms or now}))
return 1
