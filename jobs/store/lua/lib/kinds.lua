-- Entries that are not askmill's: whoever reaches this Redis may write names and keys of another type. Readers
-- skip them, reap_workers.lua removes them.
-- include: lib/keys.lua

local function is_hash(key) return redis.call('TYPE', key).ok == 'hash' end

-- Whether "batch:row" names a row of a batch that exists.
local function names_a_row(name)
  local batch = split_member(name)
  return batch and is_hash(batch_key(batch))
end
