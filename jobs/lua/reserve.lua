-- Whose turn it is to make what is remembered under a key: one maker at a time, all others wait for its id.
-- ARGV: key, maker, lifetime_ms, id that is gone, …   Returns the id; 1: make it; 0: somebody is making it.
local key, maker = ARGV[1], '?' .. ARGV[2]

local known = redis.call('GET', key)
for at = 4, #ARGV do
  if known == ARGV[at] then known = false end
end
-- A maker whose reply was lost asks again, and it is still its turn.
if not known or known == maker then
  redis.call('SET', key, maker, 'PX', ARGV[3])
  return 1
end
return known:sub(1, 1) == '?' and 0 or known
