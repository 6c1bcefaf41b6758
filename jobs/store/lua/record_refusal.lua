-- Records that the API refused a row's create without saying why. From now on one row goes alone, another one
-- first, until the API accepts a run: that shows whether the fault is the row's or the batch's.
-- ARGV: batch, row, fence
-- Reply: {held, accepted since an earlier refusal of this row (0|1), rows refused alone since the last accepted
--        run, other rows that may still be tried, ever accepted (0|1), row, …: refused since the last accepted
--        run, oldest first}
-- include: lib/row.lua
local batch, row, fence = ARGV[1], ARGV[2], ARGV[3]
local live = live_key(batch, row)
-- Rows that the batch's field names at most.
local MOST_ROWS = 500

local claimed_with, refused_with, refused_at_run, accepted_since =
  unpack(redis.call('HMGET', live, 'fence', 'refused_with', 'refused_at_run', 'accepted_since'))
if claimed_with ~= fence then return {0} end
local q, p, w, r, runs = unpack(redis.call('HMGET', part_key(batch, 'counters'), 'q', 'p', 'w', 'r', 'runs'))
runs = tonumber(runs) or 0

-- A repeated call, its first reply lost, keeps what the first one found.
if refused_with ~= fence then
  accepted_since = refused_at_run and runs > tonumber(refused_at_run) and '1' or '0'
  redis.call('HSET', live, 'refused_with', fence, 'refused_at_run', runs, 'accepted_since', accepted_since)
end

local at_run, refused, alone, probe_row =
  unpack(redis.call('HMGET', batch_key(batch), 'refused_at_run', 'refused_rows', 'refused_alone', 'probe_row'))
if tonumber(at_run or -1) ~= runs then refused, alone = ' ', ' ' end
local function with(rows)
  if rows:find(' ' .. row .. ' ', 1, true) or select(2, rows:gsub('%d+', '')) >= MOST_ROWS then return rows end
  return rows .. row .. ' '
end
refused = with(refused)
if probe_row == row then alone = with(alone) end
redis.call('HSET', batch_key(batch), 'refused_at_run', runs, 'refused_rows', refused, 'refused_alone', alone,
  'accepted', 0)
redis.call('HDEL', batch_key(batch), 'probe_row')

local rows = {}
for number in refused:gmatch('%d+') do rows[#rows + 1] = tonumber(number) end
local others = (tonumber(q) or 0) + (tonumber(p) or 0) + (tonumber(w) or 0) + (tonumber(r) or 0) - #rows
return {1, tonumber(accepted_since), select(2, alone:gsub('%d+', '')), others, runs > 0 and 1 or 0, unpack(rows)}
