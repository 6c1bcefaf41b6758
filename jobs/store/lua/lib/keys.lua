-- The names of the keys, as the table in jobs/store/keys.py has them (tests/store/test_keys.py holds the two equal).
local BATCHES, LOADING, OPEN, TURN = 'askmill:batches', 'askmill:loading', 'askmill:open', 'askmill:turn'
local FED, WORKERS = 'askmill:fed', 'askmill:workers'
local LIMITS, WINDOW, TAT = 'askmill:limits', 'askmill:window', 'askmill:tat:'
local PARTS = {'n', 'status', 'input', 'results', 'due', 'orphans', 'next', 'seeds', 'turns', 'made', 'pace', 'files'}

local function worker_key(worker) return 'askmill:worker:' .. worker end
local function held_key(worker) return 'askmill:held:' .. worker end
local function identity_key(sha) return 'askmill:identity:' .. sha end
local function resource_key(kind, sha) return 'askmill:' .. kind .. ':' .. sha end
local function batch_key(batch) return 'askmill:b:' .. batch end
local function part(batch, name) return 'askmill:b:' .. batch .. ':' .. name end
local function live_key(batch, row) return 'askmill:b:' .. batch .. ':live:' .. row end
local function member(batch, row) return batch .. ':' .. row end
local function split(name) return name:match('^(.*):(%d+)$') end
