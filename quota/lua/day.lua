-- What the clock, the opening of a day and the operators do to a pool: quota/day.py, atomically.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.

-- Whether one id of a stream comes after another; an empty one does not.
local function is_later(id, than)
  local ms, place = match(id, '^(%d+)-(%d+)$')
  if not ms then return false end
  local than_ms, than_place = match(than or '0-0', '^(%d+)-(%d+)$')
  ms, than_ms = tonumber(ms), tonumber(than_ms)
  return ms > than_ms or (ms == than_ms and tonumber(place) > tonumber(than_place))
end

-- Judges the clock, remembers which change was published last, and returns the server's
-- milliseconds, the hash (empty where no day is open) and the server's run_id.
local function tick(keys, args)
  local batch = begin_batch(keys)
  if batch.pool then
    catch_up(batch)
    commit(batch)
    local published = redis.call('HGET', keys[1], 'published')
    if is_later(args[1], published) then redis.call('HSET', keys[1], 'published', args[1]) end
  end
  return {whole(batch.now), redis.call('HGETALL', keys[1]), run_id}
end

local DAY_KEYS = {'pool', 'orders', 'execs', 'holds', 'changes', 'journal'}

-- A day is set aside by many commands: the rights for all of them are asked for before the first.
local function demand_day_rights(keys)
  local may = redis.acl_check_cmd
  demand_all_rights(keys)
  for i = 1, #DAY_KEYS do
    local aside = keys[i] .. ':day'
    if not (may('RENAME', keys[i], aside) and may('EXPIRE', aside, '1') and may('UNLINK', aside)) then
      error({err = 'NOPERM this user may not run RENAME, EXPIRE and UNLINK on the keys of the pool'})
    end
  end
end

-- Renames a day's keys with its date at the end; an expiry is the backstop.
local function set_aside(keys, day, keep_days)
  for i = 1, #DAY_KEYS do
    if redis.call('EXISTS', keys[i]) == 1 then
      local aside = keys[i] .. ':' .. day
      redis.call('RENAME', keys[i], aside)
      redis.call('EXPIRE', aside, (keep_days + 30) * 86400)
    end
  end
end

local function remove_day(keys, day)
  for i = 1, #DAY_KEYS do redis.call('UNLINK', keys[i] .. ':' .. day) end
end

-- What was not yet published of the day before comes first in the new day's changes.
local function carry_changes(keys, unpublished)
  local last
  for _, entry in ipairs(unpublished) do
    redis.call('XADD', keys[5], entry[1], unpack(entry[2]))
    last = entry[1]
  end
  return last
end

local function opening_refused(frame, origin, opening, now)
  if opening.origin == 'real' and (now < opening.starts_ms or now >= opening.ends_ms) then
    return "the server's date is not " .. opening.trading_day
  end
  if not frame then return nil end
  if origin == 'real' and opening.origin == 'at' then
    return 'the real clock opened ' .. frame.trading_day .. ' in this store: it refuses --at'
  end
  if opening.trading_day < frame.trading_day then
    return "the store's day is " .. frame.trading_day .. ': a day never goes back'
  end
  if opening.trading_day == frame.trading_day and opening.origin ~= origin then
    return frame.trading_day .. ' was opened with --at: go on with --at, or with another store'
  end
  return nil
end

local function open_again(batch, opening)
  local pool = batch.pool
  if opening.origin == 'at' then pool.frame = frame_with(pool.frame, {schedule = opening.schedule}) end
  catch_up(batch)
  commit(batch)
  return {'already', pool.frame.trading_day}
end

-- A day's first state: full quota, nothing used. Only a halt outlasts the day before.
local function fresh_pool(opening, halted, now)
  local frame = frame_with(opening, {
    halted = halted, began = false, exhausted = false, suspended = false, phase = 'closed', level = 0,
    resumes_in_opening = opening.resumes_in_opening == 1, attested = opening.lost == 1 and '?' or run_id,
    doubted = ''})
  local pool = {frame = frame, balance_fen = opening.limit_fen, open_buy_fen = 0, filled_buy_fen = 0,
                filled_sell_fen = 0, seq = 0, next_lapse = 0}
  judge(pool, now)
  set_level(pool)
  return pool
end

local NO_FRAME = {trading_day = '', phase = 'closed', status = 'closed', level = 0, limit_fen = 0, rate = '',
                  halted = ''}

-- What the day before leaves to a day: its operator's halt. That the store changed concerns what is over.
local function inherited_halt(old)
  return old and old.halted ~= STORE_CHANGED and old.halted ~= REBUILT and old.halted or ''
end

-- Whether orders of this day may have come already that this store does not know of: its opening phase
-- has begun, or it was open before, and the store is empty, or another one than before.
local function is_late(old, opening, now)
  local same = old and (old.attested == run_id or old.attested == '')
  return not same and opening.open_late == 0
    and (opening.lost == 1 or now >= tonumber(words(opening.schedule)[1]))
end

-- Sets the old day aside. Returns the days that are kept and the last change carried over.
local function close_day(keys, day, opening, kept, unpublished)
  local days = words(kept)
  days[#days + 1] = day
  set_aside(keys, day, opening.keep_days)
  local carried = carry_changes(keys, unpublished)
  while #days > opening.keep_days do remove_day(keys, table.remove(days, 1)) end
  return days, carried
end

-- The rate that was announced for a day before it opened, or nil.
local function next_rate_for(trading_day, announced)
  local of_day, rate = match(announced or '', '^(%S+) (%S+)$')
  return of_day == trading_day and rate or nil
end

-- Opens a day. The argument is an Opening, packed as a map. Returns {opened | already | refused,
-- the day that is open, or why not}.
local function open_day(keys, args)
  local opening, batch = cmsgpack.unpack(args[1]), begin_batch(keys)
  local old = batch.pool and batch.pool.frame
  local stored = redis.call('HMGET', keys[1], 'origin', 'kept', 'published', 'next_rate')
  local published = stored[3] or '0-0'
  local refused = opening_refused(old, stored[1], opening, batch.now)
  if refused then return {'refused', refused} end
  if old and old.trading_day == opening.trading_day then return open_again(batch, opening) end

  if not old and redis.call('EXISTS', keys[2], keys[3], keys[6]) > 0 then
    error({err = 'QUOTACORRUPT pool: is missing, but its orders are not'})
  end
  demand_day_rights(keys)
  opening.rate = next_rate_for(opening.trading_day, stored[4]) or opening.rate
  local unpublished = redis.call('XRANGE', keys[5], '(' .. published, '+')
  local halted, late = inherited_halt(old), is_late(old, opening, batch.now)
  late = late and halted == ''
  local fresh = fresh_pool(opening, late and OPENED_LATE or halted, batch.now)
  local days, carried = {}, nil
  if old then days, carried = close_day(keys, old.trading_day, opening, stored[2] or '', unpublished) end
  batch.pool, batch.stored, batch.seq, batch.next_lapse = fresh, nil, nil, 0
  note_changes(batch, old or NO_FRAME, late and OPENED_LATE or 'opened')
  redis.call('HSET', keys[1], 'origin', opening.origin, 'kept', table.concat(days, ' '), 'published', published,
             'last_change', carried or published, 'decided_buy_accepted', '0')
  commit(batch)
  return {'opened', opening.trading_day}
end

-- Halts that end when somebody attests the pool; and with them those that say what it lacks.
local BY_STORE = {[STORE_CHANGED] = true, [REBUILT] = true}
local LACKING = {[STORE_CHANGED] = true, [REBUILT] = true, [OPENED_LATE] = true}

-- What an act makes of the pool, or why it may not be done.
local ACTS = {
  halt = function(pool, act)
    pool.frame = frame_with(pool.frame, {halted = act.reason})
  end,
  resume = function(pool, _, now)
    local frame = pool.frame
    if frame.halted == '' then return 'the pool is not halted' end
    if frame.attested == run_id then
      pool.frame = frame_with(frame, {halted = ''})
    elseif LACKING[frame.halted] then
      pool.frame = frame_with(frame, {halted = '', attested = run_id, doubted = 'answered ' .. whole(now)})
    else
      pool.frame = frame_with(frame, {halted = frame.attested == REBUILT and REBUILT or STORE_CHANGED})
    end
  end,
  limit = function(pool, act)
    local limit = type(act.limit_fen) == 'number' and act.limit_fen % 1 == 0 and act.limit_fen or 0
    if limit <= 0 or limit > BOUND then
      return 'limit: must be above zero and at most 4500000000000000 fen'
    end
    local balance = pool.balance_fen - pool.frame.limit_fen + act.limit_fen
    if balance > BOUND or balance < -BOUND then return 'limit: the balance would pass 4500000000000000 fen' end
    pool.balance_fen = balance
    pool.frame = frame_with(pool.frame, {limit_fen = act.limit_fen,
                                         exhausted = pool.frame.exhausted and not (act.reopen == true and balance > 0)})
  end,
}

-- Why the words of an act cannot be kept, or nil.
local function wrong_words(act)
  for _, name in ipairs({'reason', 'user', 'host'}) do
    local text = act[name]
    if type(text) ~= 'string' or #text > 1024 or string.find(text, '%c') or (name == 'reason' and text == '') then
      return name .. ': must be some text without control characters, of at most 1024 bytes'
    end
  end
end

-- An operator's act, packed as a map of act, limit_fen, reopen, reason, user, host. Returns {done |
-- refused, the status, or why not}.
local function operate(keys, args)
  local act, batch = cmsgpack.unpack(args[1]), begin_batch(keys)
  local pool = batch.pool
  if not pool then return {'refused', NO_DAY} end
  if not ACTS[act.act] then return {'refused', 'act: must be halt, resume or limit'} end
  local wrong = wrong_words(act)
  if wrong then return {'refused', wrong} end
  if BY_STORE[act.reason] then
    return {'refused', 'reason: ' .. act.reason .. ' is what the store alone says'}
  end
  catch_up(batch)
  local was = pool.frame
  local refused = ACTS[act.act](pool, act, batch.now)
  if refused then return {'refused', refused} end
  number(batch, was, act.reason)
  local frame = pool.frame
  batch.journal[#batch.journal + 1] = {
    whole(pool.seq) .. '-0', 'event', act.act, 'verdict', '', 'balance_fen', whole(pool.balance_fen), 'status',
    frame.status, 'phase', frame.phase, 'time_ms', whole(batch.now), 'reason', act.reason, 'user', act.user, 'host',
    act.host, 'was_fen', whole(was.limit_fen), 'limit_fen', whole(frame.limit_fen), 'reopen', act.reopen and '1' or '0'}
  commit(batch)
  return {'done', frame.status}
end

-- Sets the day's rate until the pool's first event; keeps the rate of a day that is still to open.
-- Returns {set | same | refused | other_day}.
local function set_rate(keys, args)
  local trading_day, rate = args[1], args[2]
  local batch = begin_batch(keys)
  local pool = batch.pool
  rate_e5(rate)
  if not pool then return {'other_day'} end
  if pool.frame.trading_day ~= trading_day then
    local is_next = trading_day > pool.frame.trading_day
    if is_next then redis.call('HSET', keys[1], 'next_rate', trading_day .. ' ' .. rate) end
    return {'other_day'}
  end
  if pool.frame.rate == rate then return {'same'} end
  if redis.call('EXISTS', keys[2], keys[3]) > 0 then return {'refused'} end
  catch_up(batch)
  local was = pool.frame
  pool.frame = frame_with(was, {rate = rate})
  note_changes(batch, was, 'rate')
  commit(batch)
  return {'set'}
end

local FRESH_MS = 1000

local function entry_fields(batch, seq)
  local id, fields = whole(seq) .. '-0', {}
  local entry = redis.call('XRANGE', batch.keys[6], id, id)[1]
  for i = 1, entry and #entry[2] or 0, 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return entry and fields
end

-- Why this store cannot have what a claim says it answered, or nil if it may: an entry that came later
-- than it was seen has filled its number up again. `inherited` is the last number that the store came with.
local function lost_of(batch, claim, inherited)
  local seq, balance, seen = claim[1], claim[2], claim[3]
  if inherited < seq then return 'seq: the store ended at ' .. whole(inherited) end
  if seq == 0 then return nil end
  local entry = entry_fields(batch, seq)
  if not entry then return 'seq: the store has no entry ' .. whole(seq) end
  if entry.balance_fen ~= whole(balance) then
    return 'balance_fen: entry ' .. whole(seq) .. ' of the store has another one'
  end
  if tonumber(entry.time_ms) > seen + FRESH_MS then
    return 'time_ms: entry ' .. whole(seq) .. ' of the store is a later one'
  end
  return nil
end

-- Why claims that hold say too little, or nil: who made them had not looked for a while when the store
-- took its last number, and cannot know what else was answered.
local function stale_claims(batch, claims, inherited)
  local seq, seen = 0, 0
  for _, claim in ipairs(claims) do
    seq, seen = math.max(seq, claim[1]), math.max(seen, claim[3])
  end
  local last = inherited > seq and entry_fields(batch, inherited)
  local late = last and tonumber(last.time_ms) - seen or 0
  if late <= FRESH_MS then return nil end
  return 'seq: ' .. whole(seq) .. ' was seen ' .. whole(late) .. ' ms before the store ended at ' .. whole(inherited)
end

-- The claims that are younger than the word of an operator who has answered for this store.
local function standing(claims, was)
  local answered = was.attested == run_id and tonumber(match(was.doubted, '^answered (%d+)$')) or -1
  local list = {}
  for _, claim in ipairs(claims) do
    if claim[3] > answered then list[#list + 1] = claim end
  end
  return list
end

-- Takes the word of somebody who knows the last numbers, the balances after them and when they were seen
-- (packed rows of these three) that this store has lost nothing. Where it has lost something, it is
-- doubted even though it was attested. A day that was put back is attested by whoever says that he means
-- it ('put back'), and not once its store has changed again. Returns {attested | already | refused, why not}.
local function attest(keys, args)
  local batch = begin_batch(keys)
  if not batch.pool then return {'refused', NO_DAY} end
  local claims = cmsgpack.unpack(args[1])
  local came_with = batch.pool.seq
  catch_up(batch)
  local was = batch.pool.frame
  if was.attested == REBUILT .. '?' or (was.attested == REBUILT and args[2] ~= 'put back') then
    commit(batch)
    return {'refused', 'attested: the day was put back'}
  end
  local server, inherited = doubt_of(was)
  if server ~= run_id then inherited = came_with end
  local lost = server == run_id and match(was.doubted, '^%S+ %d+ (.+)$') or nil
  for _, claim in ipairs(standing(claims, was)) do lost = lost or lost_of(batch, claim, inherited) end
  local refused = lost or (was.attested ~= run_id and stale_claims(batch, claims, inherited)) or nil
  local outcome = refused and 'refused' or was.attested == run_id and 'already' or 'attested'
  if outcome == 'attested' then
    local halted = not BY_STORE[was.halted] and was.halted or ''
    batch.pool.frame = frame_with(was, {attested = run_id, doubted = '', halted = halted})
    note_changes(batch, was, 'attested')
  elseif lost and was.attested == run_id then
    doubt(batch, lost)
  elseif lost then
    batch.pool.frame = frame_with(was, {doubted = run_id .. ' ' .. whole(inherited) .. ' ' .. lost})
  end
  commit(batch)
  return {outcome, refused or ''}
end

redis.register_function('quota_tick', tick)
redis.register_function('quota_open', open_day)
redis.register_function('quota_operate', operate)
redis.register_function('quota_rate', set_rate)
redis.register_function('quota_attest', attest)
