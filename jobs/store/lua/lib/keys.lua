-- The names of the keys. jobs/store/keys.py has the table of what they hold; tests/store/test_keys.py
-- compares the two.
local BATCHES, LOADING, OPEN = 'askmill:batches', 'askmill:loading', 'askmill:open'
local DISPATCHED, DISPATCH_ROUND, WORKERS = 'askmill:dispatched', 'askmill:dispatch_round', 'askmill:workers'
local LIMITS, THROTTLE = 'askmill:limits', 'askmill:throttle'
local CLOCK_STEPS, LAST_HEARTBEAT = 'askmill:clock_steps', 'askmill:last_heartbeat'
local SERVER, RECOVERY = 'askmill:server', 'askmill:recovery'
local PARTS = {'counters', 'status', 'input', 'results', 'due', 'due_running', 'next_turn', 'previous_turn',
  'last_turns', 'resources', 'throughput', 'files', 'images', 'queue', 'shards', 'shard_rows', 'shard_lines'}

local function worker_key(worker) return 'askmill:worker:' .. worker end
local function claims_key(worker) return 'askmill:claims:' .. worker end
local function identity_key(sha) return 'askmill:identity:' .. sha end
local function resource_key(kind, sha) return 'askmill:' .. kind .. ':' .. sha end
local function reply_key(request) return 'askmill:reply:' .. request end
local function rate_limit_key(kind) return 'askmill:rate_limit:' .. kind end
local function batch_key(batch) return 'askmill:batch:' .. batch end
local function part_key(batch, name) return 'askmill:batch:' .. batch .. ':' .. name end
local function live_key(batch, row) return 'askmill:batch:' .. batch .. ':live:' .. row end
-- The API and account in the hash of a batch or a worker; nil without the hash. Workers take only batches of
-- their own.
local function server_of(key)
  local server = redis.call('HMGET', key, 'api', 'base_url', 'organization', 'project')
  return server[1] and table.concat({server[1], server[2], server[3] or '', server[4] or ''}, '\n')
end
-- Whether a worker of `server` takes batches of `other`: a worker without ASKMILL_API takes those of any API.
local function without_api(server) return (server:gsub('^[^\n]*', '', 1)) end
local function serves_server(server, other)
  return server == other or server == without_api(other)
end
-- "batch:row" or "batch:shard:number", as `dispatched` and `claims` name a row or a shard, and back to the batch
-- and "row" or "shard:number". A shard stands in the place of a row wherever rows wait, travel and are held.
local function member(batch, row) return batch .. ':' .. row end
local function split_member(name)
  local batch, row = name:match('^([^:]+):(.+)$')
  if row and (row:find('^%d+$') or row:find('^shard:%d+$')) then return batch, row end
end
local function shard_name(number) return 'shard:' .. number end
-- The number of a shard; nil for a row.
local function shard_number(row) return tonumber(tostring(row):match('^shard:(%d+)$')) end
