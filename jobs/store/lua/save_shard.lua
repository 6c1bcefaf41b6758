-- Saves how far a shard is, if the claim still holds it. Before a create it also decides whether it may be sent.
-- ARGV: batch, number, fence, state, step, input file's id ('' none), rows in the order of the file's lines ('' keeps),
--       lines of the file, reserved_nano (''|nano), files for the ledger ("id,id"), counter, amount, …
--       step: 'send' before a create · 'unsent' after a refused one, or one that is given up: the rows are queued, and
--       nothing is reserved · 'created' after an accepted one · ''
-- Reply: {held (0|1), 'saved', or why it may not be sent: 'stopped', 'rows_changed', 'budget', 'budget_later'}
-- include: lib/budget.lua
-- include: lib/shard.lua
local batch, number, fence, state, step, file, lines_text = unpack(ARGV, 1, 7)
local lines, reserve_nano = tonumber(ARGV[8]), tonumber(ARGV[9])
local name = shard_name(number)
local live = live_key(batch, name)

local claimed_with, rows, reserved, sent, last_save =
  unpack(redis.call('HMGET', live, 'fence', 'rows', 'reserved_nano', 'sent', 'last_save'))
if claimed_with ~= fence then return {0, ''} end
-- A repeated call: the client got no reply to the first. Nothing is counted twice.
local content = redis.sha1hex(table.concat(ARGV, '\n'))
if last_save == content then return {1, 'saved'} end
if step == 'send' then
  local batch_state = redis.call('HGET', batch_key(batch), 'state')
  if batch_state == 'paused' or batch_state == 'cancelled' then return {1, 'stopped'} end
  -- Rows that an adopted batch has bought have left the shard: its file must be built again.
  if tonumber(rows) ~= lines then return {1, 'rows_changed'} end
  if reserve_nano then
    local now, later = affordable(batch, reserve_nano, tonumber(reserved) or 0)
    if not now then return {1, later and 'budget_later' or 'budget'} end
  end
end
redis.call('HSET', live, 'state', state, 'last_save', content)
if file ~= '' then redis.call('HSET', part_key(batch, 'shards'), 'file:' .. file, number) end
if lines_text ~= '' then redis.call('HSET', part_key(batch, 'shard_lines'), number, lines_text) end
if reserve_nano then set_money(batch, name, 'reserved_nano', reserve_nano) end
if step == 'send' and sent ~= '1' then
  redis.call('HSET', live, 'sent', 1)
  set_rows(batch, number, 'p', 'r')
elseif step == 'unsent' and sent == '1' then
  redis.call('HDEL', live, 'sent')
  set_rows(batch, number, 'r', 'p')
  set_money(batch, name, 'reserved_nano', 0)
elseif step == 'created' then
  count_runs(batch, 0)
end
for id in ARGV[10]:gmatch('[^,]+') do redis.call('HSET', part_key(batch, 'resources'), 'file:' .. id, '') end
add_counters(batch, 11)
return {1, 'saved'}
