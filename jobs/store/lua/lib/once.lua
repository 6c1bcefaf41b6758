-- Requests whose repetition would change something, or that a caller needs the reply of: the reply is kept for
-- a while under the request's id, and a repeated request gets it again.
-- include: lib/keys.lua

-- nil for a new request.
local function earlier_reply(request)
  local packed = redis.call('GET', reply_key(request))
  return packed and cmsgpack.unpack(packed)
end

local function keep_reply(request, reply, ms)
  redis.call('SET', reply_key(request), cmsgpack.pack(reply), 'PX', ms)
  return reply
end
