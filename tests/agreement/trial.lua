-- What the tests of the small world add to the library: any number of steps, each tried on the same state.
-- It is joined behind the library's own files; the clock and the server's name stand still (see trial.py).

local TRIED = {quota_apply = apply_batch, quota_reserve = reserve, quota_release = release, quota_check = check,
               quota_tick = tick, quota_operate = operate, quota_rate = set_rate, quota_attest = attest,
               quota_open = open_day}

-- A list that stands behind its own length, and where the next one begins.
local function take(args, at)
  local list, length = {}, tonumber(args[at])
  for i = 1, length do list[i] = args[at + i] end
  return list, at + length + 1
end

local PUT = {'HSET', 'HSET', 'HSET', 'ZADD'}

local function put_back(keys, kept)
  redis.call('DEL', unpack(keys))
  for i = 1, 4 do
    if #kept[i] > 0 then redis.call(PUT[i], keys[i], unpack(kept[i])) end
  end
end

local function found(keys)
  local call = redis.call
  return call('HGETALL', keys[1]), call('HGETALL', keys[2]), call('HGETALL', keys[3]),
         call('ZRANGE', keys[4], 0, -1, 'WITHSCORES'), call('XRANGE', keys[5], '-', '+'),
         call('XRANGE', keys[6], '-', '+')
end

-- The moment, the four keys that are kept as lists, then steps: a function's name and its arguments.
-- Returns for each step {what it replied, the six keys after it}.
local function try(keys, args)
  local kept, out, at = {}, {}, 2
  trial_ms = tonumber(args[1])
  for i = 1, 4 do kept[i], at = take(args, at) end
  while at <= #args do
    local step
    step, at = take(args, at)
    put_back(keys, kept)
    local name = table.remove(step, 1)
    local _, reply = pcall(TRIED[name], name == 'quota_check' and {keys[1]} or keys, step)
    if type(reply) == 'table' and reply.err then reply = reply.err end
    out[#out + 1] = {reply, found(keys)}
  end
  return out
end

redis.register_function('quota_try', try)
