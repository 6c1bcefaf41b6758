-- Finds the batch of an identity.
-- ARGV: identity
-- Reply: {'sealed', batch}; {'loading', batch}: another command loads it; {}: there is none, or its loader
--        has died.
-- include: lib/loading.lua
local batch, state, expired = find_newest(ARGV[1])

if not batch or expired then return {} end
return {state == 'loading' and 'loading' or 'sealed', batch}
