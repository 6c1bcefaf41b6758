-- Reads up to a thousand rows: their status bytes, the input blocks that hold them, their results. A script,
-- because a client that writes a thousand row numbers into a command spends a third of its time on that.
-- ARGV: batch, first row, last row, rows per block
-- Reply: {status bytes, {input block, …}, {result or nil, …}}
-- include: lib/keys.lua
local batch, first, last, block_rows = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function range(from, to)
  local numbers = {}
  for number = from, to do numbers[#numbers + 1] = number end
  return unpack(numbers)
end

local function block_of(row) return math.floor((row - 1) / block_rows) end

return {
  redis.call('GETRANGE', part_key(batch, 'status'), first - 1, last - 1),
  redis.call('HMGET', part_key(batch, 'input'), range(block_of(first), block_of(last))),
  redis.call('HMGET', part_key(batch, 'results'), range(first, last)),
}
