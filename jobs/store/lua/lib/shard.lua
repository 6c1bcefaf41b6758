-- Shards of a batch with tier `batch`: rows that travel in one job of the Batch API. jobs/store/keys.py has the
-- table of their fields.
-- include: lib/row.lua
-- The same number as in worker/lifecycle/shard_sizes.py.
local MOST_ROWS = 2000
local ROWS_PER_WRITE = 500

-- "1-2000,2005" for numbers in ascending order.
local function ranges_of(rows)
  local parts, first = {}, rows[1]
  for i, row in ipairs(rows) do
    if rows[i + 1] ~= row + 1 then
      parts[#parts + 1] = first == row and tostring(row) or first .. '-' .. row
      first = rows[i + 1]
    end
  end
  return table.concat(parts, ',')
end

-- The rows of a shard's file, in the order of its lines.
local function rows_of(batch, number)
  local rows = {}
  local text = redis.call('HGET', part_key(batch, 'shard_lines'), number) or ''
  for part in text:gmatch('[^,]+') do
    local first, last = part:match('^(%d+)%-(%d+)$')
    for row = tonumber(first or part), tonumber(last or part) do rows[#rows + 1] = row end
  end
  return rows
end

-- How many rows the next shard may have: 0 while cuts are held, or within the enqueued-token limit.
local function shard_room(batch, now)
  local held_until, size, total =
    unpack(redis.call('HMGET', batch_key(batch), 'cuts_held_until', 'shard_size', 'shard_total'))
  if held_until and now < tonumber(held_until) then return 0 end
  local room = total and tonumber(total) - redis.call('HLEN', part_key(batch, 'shard_rows')) or MOST_ROWS
  return math.min(MOST_ROWS, tonumber(size) or MOST_ROWS, room)
end

-- Makes a shard of rows that are in no queue any more; returns its number. It is always dispatched, whatever the
-- state of the batch: `run_in_flight` says so.
local function new_shard(batch, rows, state)
  table.sort(rows)
  redis.call('HSETNX', part_key(batch, 'shards'), 'next', 1)
  local number = redis.call('HINCRBY', part_key(batch, 'shards'), 'next', 1) - 1
  for first = 1, #rows, ROWS_PER_WRITE do
    local pairs_of_rows = {}
    for i = first, math.min(first + ROWS_PER_WRITE - 1, #rows) do
      pairs_of_rows[#pairs_of_rows + 1] = rows[i]
      pairs_of_rows[#pairs_of_rows + 1] = number
    end
    redis.call('HSET', part_key(batch, 'shard_rows'), unpack(pairs_of_rows))
  end
  redis.call('HSET', part_key(batch, 'shard_lines'), number, ranges_of(rows))
  redis.call('HSET', live_key(batch, shard_name(number)), 'state', state, 'rows', #rows, 'run_in_flight', 1,
    'cut_at', now_ms())
  redis.call('HINCRBY', part_key(batch, 'counters'), 'open_shards', 1)
  return number
end

-- Takes a row out of a shard; false when it is not in it.
local function take_from_shard(batch, row, number)
  if redis.call('HGET', part_key(batch, 'shard_rows'), row) ~= tostring(number) then return false end
  redis.call('HDEL', part_key(batch, 'shard_rows'), row)
  redis.call('HINCRBY', live_key(batch, shard_name(number)), 'rows', -1)
  return true
end

-- Whether the API may have the shard's rows: from the mark before its create on.
local function is_sent(batch, number)
  return redis.call('HGET', live_key(batch, shard_name(number)), 'sent') == '1'
end

-- Sets the byte of every row that is still in the shard.
local function set_rows(batch, number, from, to)
  local rows, inside = rows_of(batch, number), {}
  table.sort(rows)
  for first = 1, #rows, ROWS_PER_WRITE do
    local last = math.min(first + ROWS_PER_WRITE - 1, #rows)
    local holders = redis.call('HMGET', part_key(batch, 'shard_rows'), unpack(rows, first, last))
    for i, holder in ipairs(holders) do
      local row = rows[first + i - 1]
      if holder == tostring(number) and status_byte(batch, row) == from then inside[#inside + 1] = row end
    end
  end
  set_status_of_rows(batch, inside, from, to)
end
