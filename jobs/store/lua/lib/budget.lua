-- What a batch's budget has room for.
-- include: lib/row.lua

-- Whether the budget covers a reservation that takes the place of `own`: now, and if all other runs in flight
-- should cost nothing.
local function affordable(batch, reserve_nano, own)
  local budget = tonumber(redis.call('HGET', batch_key(batch), 'budget_nano'))
  if not budget or reserve_nano <= own then return true, true end
  local sums = redis.call('HMGET', part_key(batch, 'counters'),
    'cost_nano', 'assumed_nano', 'spent_nano', 'reserved_nano')
  for i = 1, 4 do sums[i] = tonumber(sums[i]) or 0 end
  -- Ended rows (known and assumed cost) and ended attempts of open rows; then what other runs in flight may
  -- cost.
  local spent, others = sums[1] + sums[2] + sums[3], sums[4] - own
  return spent + others + reserve_nano <= budget, others > 0 and spent + reserve_nano <= budget
end
