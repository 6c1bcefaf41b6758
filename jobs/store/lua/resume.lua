-- Resumes a paused batch.
-- ARGV: request, batch
-- Reply: {state before, changed (0|1)}; a state of '' for an unknown batch.
-- include: lib/resume.lua
-- include: lib/once.lua
local request, batch = ARGV[1], ARGV[2]

local earlier = earlier_reply(request)
if earlier then return earlier end
local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'paused' then return {state, 0} end
resume_batch(batch)
return keep_reply(request, {state, 1}, 3600000)
