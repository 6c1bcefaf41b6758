-- The lock on creating an API object: "?creator renewal note" in the place of its id. Every renewal changes it.
-- Whoever waits takes it over when it has not changed for a while, by the waiter's own count: Redis' clock, by
-- which keys expire, may be set. The note stays for its successor: a released lock with a note has no creator.

-- Returns the creator and its note; nil for an id, or for no value.
local function read_lock(stored)
  if not stored or stored:sub(1, 1) ~= '?' then return nil end
  return stored:match('^%?(%S*) ?%S* ?(%S*)$')
end
