-- The batch of an identity. ARGV: identity
-- Returns {'sealed', batch}; {'loading', batch}: another command loads it; {}: there is none, or its loader has died.
-- include: lib/loading.lua
local batch, state, lapsed = newest(ARGV[1])

if not batch or lapsed then return {} end
return {state == 'loading' and 'loading' or 'sealed', batch}
