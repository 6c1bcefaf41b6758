-- Resumes a paused batch.
-- ARGV: batch
-- Reply: {state before, changed (0|1)}; a state of '' for an unknown batch.
-- include: lib/resume.lua
local batch = ARGV[1]

local state = redis.call('HGET', batch_key(batch), 'state')
if not state or state == 'loading' then return {'', 0} end
if state ~= 'paused' then return {state, 0} end
resume_batch(batch)
return {state, 1}
