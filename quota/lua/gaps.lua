-- Which numbers of their sources have come, and which are missing: quota/numbers.py, atomically.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.
--
-- Keys: the pool, and beside it
--   sources  hash  source -> MessagePack of {day, unlisted, unlisted since (ms), epochs}; an epoch is
--                  {name, last number known, gaps}, a gap {first, last, since (ms)}, both ends missing.
--                  '#full' -> MessagePack of {day, events of sources beyond those that are watched},
--                  '#accepted' -> of the latest acceptances {source, missing, reason, user, host, ms}.
-- It outlives a day, because the numbers of a source may go on, and so it expires by itself.

do -- a block of its own: a function has room for 200 locals, and the library is one

local GAPS_MAX, EPOCHS_MAX, SOURCES_MAX, NOTES_MAX = 256, 16, 1000, 32
local SOURCES_KEPT_S = 3024000

local function demand_source_rights(key)
  local may = redis.acl_check_cmd
  if may('HSET', key, 'x', 'x') and may('EXPIRE', key, '1') then return end
  error({err = 'NOPERM this user may not run HSET and EXPIRE on the sources of the pool'})
end

-- A source as a day begins with it: what was missing on another day is over with that one.
local function source_on(day, packed)
  local source = packed and cmsgpack.unpack(packed) or {day, 0, 0, {}}
  if source[1] ~= day then
    source[1], source[2], source[3] = day, 0, 0
    for _, epoch in ipairs(source[4]) do epoch[3] = {} end
  end
  return source
end

-- Counts a gap that is not listed any more.
local function count_unlisted(source, gap)
  source[2] = math.min(source[2] + (gap[2] - gap[1] + 1), BOUND)
  if source[3] == 0 or gap[3] < source[3] then source[3] = gap[3] end
end

local function epoch_of(source, name)
  local epochs = source[4]
  for _, epoch in ipairs(epochs) do
    if epoch[1] == name then return epoch end
  end
  if #epochs == EPOCHS_MAX then
    for _, gap in ipairs(epochs[1][3]) do count_unlisted(source, gap) end
    table.remove(epochs, 1)
  end
  epochs[#epochs + 1] = {name, 0, {}}
  return epochs[#epochs]
end

local function bound_gaps(source)
  local listed = 0
  for _, epoch in ipairs(source[4]) do listed = listed + #epoch[3] end
  if listed <= GAPS_MAX then return end
  for _, epoch in ipairs(source[4]) do
    if #epoch[3] > 0 then
      count_unlisted(source, table.remove(epoch[3], 1))
      return
    end
  end
end

-- Takes what has come out of the gaps; of one that it falls into, what is before and behind it stays.
local function fill(epoch, first, last)
  local gaps = {}
  for _, gap in ipairs(epoch[3]) do
    if last < gap[1] or gap[2] < first then
      gaps[#gaps + 1] = gap
    else
      if gap[1] < first then gaps[#gaps + 1] = {gap[1], first - 1, gap[3]} end
      if last < gap[2] then gaps[#gaps + 1] = {last + 1, gap[2], gap[3]} end
    end
  end
  epoch[3] = gaps
end

-- Takes down a run {source, epoch, first, last}; a heartbeat's is empty and takes nothing out of a gap.
local function hear(source, run, now)
  local epoch, first, last = epoch_of(source, run[2]), run[3], run[4]
  if first <= last and first <= epoch[2] then fill(epoch, first, last) end
  if first > epoch[2] + 1 then epoch[3][#epoch[3] + 1] = {epoch[2] + 1, first - 1, now} end
  epoch[2] = math.max(epoch[2], last)
  bound_gaps(source)
end

-- What a call reads and writes: the day, and the sources that it names.
local function begin_register(keys, names)
  demand_source_rights(keys[2])
  local register = {key = keys[2], day = redis.call('HGET', keys[1], 'trading_day') or '', now = now_ms(),
                    packed = {}, sources = {}}
  local function as_it_is(packed) return packed end
  fetch(keys[2], register.packed, names, as_it_is)
  return register
end

-- How many sources are known; '#full' and '#accepted' are none.
local function known_sources(register)
  local others = redis.call('HMGET', register.key, '#full', '#accepted')
  return redis.call('HLEN', register.key) - (others[1] and 1 or 0) - (others[2] and 1 or 0)
end

-- Lets those sources go that were not heard on this day: the key is written anew with what stays.
local function sweep(register)
  if not redis.acl_check_cmd('UNLINK', register.key) then
    error({err = 'NOPERM this user may not run UNLINK on the sources of the pool'})
  end
  local flat = redis.call('HGETALL', register.key)
  register.stays = {}
  for i = 1, #flat, 2 do
    local name, packed = flat[i], flat[i + 1]
    local heard = register.sources[name] or name:sub(1, 1) == '#' or cmsgpack.unpack(packed)[1] == register.day
    if heard then
      register.stays[#register.stays + 1] = {name, packed}
    else
      register.packed[name], register.known = nil, register.known - 1
    end
  end
end

local function has_room(register)
  register.known = register.known or known_sources(register)
  if register.known < SOURCES_MAX then return true end
  if not register.full then
    local full = redis.call('HGET', register.key, '#full')
    register.full = full and cmsgpack.unpack(full) or {'', 0}
  end
  if register.full[1] ~= register.day then
    register.full = {register.day, 0}
    sweep(register)
  end
  return register.known < SOURCES_MAX
end

-- The source of a name for a run that has come; nil where it is one too many.
local function source_of(register, name)
  local source, packed = register.sources[name], register.packed[name]
  if source then return source end
  if not packed then
    if not has_room(register) then return nil end
    register.known = register.known + 1
  end
  source = source_on(register.day, packed)
  register.sources[name] = source
  return source
end

local function commit_register(register)
  local fields = register.stays or {}
  for name, source in pairs(register.sources) do fields[#fields + 1] = {name, cmsgpack.pack(source)} end
  if register.full then fields[#fields + 1] = {'#full', cmsgpack.pack(register.full)} end
  if register.notes then fields[#fields + 1] = {'#accepted', cmsgpack.pack(register.notes)} end
  if register.stays then redis.call('UNLINK', register.key) end
  for _, field in ipairs(fields) do redis.call('HSET', register.key, field[1], field[2]) end
  if #fields > 0 then redis.call('EXPIRE', register.key, SOURCES_KEPT_S) end
end

local function names_in(rows)
  local names, seen = {}, {}
  for _, row in ipairs(rows) do
    if not seen[row[1]] then names[#names + 1], seen[row[1]] = row[1], true end
  end
  return names
end

-- Takes down the runs that a daemon has in the ledger, packed with MessagePack.
local function arrived(keys, args)
  local runs = cmsgpack.unpack(args[1])
  local register = begin_register(keys, names_in(runs))
  for _, run in ipairs(runs) do
    local source = source_of(register, run[1])
    if source then
      hear(source, run, register.now)
    else
      register.full[2] = math.min(register.full[2] + math.max(0, run[4] - run[3] + 1), BOUND)
    end
  end
  commit_register(register)
  return #runs
end

-- Gives up what an operator has seen to be missing: it counts as if it had come. Takes, packed with
-- MessagePack, {runs, pairs of a source and how many unlisted numbers, notes}.
local function accept(keys, args)
  local runs, unlisted, notes = unpack(cmsgpack.unpack(args[1]))
  local names = names_in(runs)
  for _, name in ipairs(names_in(unlisted)) do names[#names + 1] = name end
  local register = begin_register(keys, names)
  for _, run in ipairs(runs) do
    if register.packed[run[1]] then hear(source_of(register, run[1]), run, register.now) end
  end
  for _, pair in ipairs(unlisted) do
    if register.packed[pair[1]] then
      local source = source_of(register, pair[1])
      source[2] = math.max(0, source[2] - pair[2])
      if source[2] == 0 then source[3] = 0 end
    end
  end
  local kept = redis.call('HGET', register.key, '#accepted')
  register.notes = kept and cmsgpack.unpack(kept) or {}
  for _, note in ipairs(notes) do
    note[6] = register.now
    register.notes[#register.notes + 1] = note
    if #register.notes > NOTES_MAX then table.remove(register.notes, 1) end
  end
  commit_register(register)
  return #runs
end

redis.register_function('quota_arrived', arrived)
redis.register_function('quota_accept', accept)

end
