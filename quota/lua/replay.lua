-- Puts a day back that a store has lost, from the entries of its journal: quota_replay and quota_adopt.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.
--
-- The day is built beside the pool, under the same six keys with ":rebuilt" at the end, while the pool
-- itself goes on with what is left (halted, so it decides no buys). quota_adopt puts it in the pool's
-- place, and what stood there is kept as ":<day>.lost", the next time as ":<day>.lost2". Nothing looks at
-- the clock meanwhile: each entry is judged at its own time, a hold ends by its own entry, and a verdict
-- that was given stands.

do -- a block of its own: a function has room for 200 locals, and the library is one

local ASIDE, LOST = ':rebuilt', '.lost'
-- How long an unfinished day stands, from its beginning; for how many days a lost one is kept, beside thirty.
local ASIDE_KEPT_S, LOST_KEPT_DAYS = 1800, 5
-- How many entries the last step puts back by itself: as many as the store takes meanwhile.
local SINCE = 1000
local DOUBTED = {[STORE_CHANGED] = true, [OPENED_LATE] = true, [REBUILT] = true}

local function keys_aside(keys)
  local aside = {}
  for i = 1, #DAY_KEYS do aside[i] = keys[i] .. ASIDE end
  return aside
end

local function demand_replay_rights(keys)
  local may, holds = redis.acl_check_cmd, keys[4] .. ASIDE
  demand_day_rights(keys)
  demand_all_rights(keys_aside(keys))
  if not may('ZADD', holds, '1', 'm') or not may('ZREM', holds, 'm') then
    error({err = 'NOPERM this user may not run ZADD and ZREM on the holds of the pool'})
  end
  for i = 1, #DAY_KEYS do
    if not may('PERSIST', keys[i]) or not may('RENAME', keys[i] .. ASIDE, keys[i]) then
      error({err = 'NOPERM this user may not run PERSIST and RENAME on the keys of the pool'})
    end
  end
end

-- Why a day may not be put in the place of what the store has, or nil. A pool that is known to have lost
-- nothing is not touched.
local function replay_refused(live, trading_day)
  local frame = live and live.frame
  if not frame or frame.trading_day < trading_day then return nil end
  if frame.trading_day > trading_day then return 'trading_day: the store has ' .. frame.trading_day .. ' open' end
  local trusted = frame.attested == run_id or frame.attested == ''
  return trusted and not DOUBTED[frame.halted] and 'trading_day: the pool is attested on this server' or nil
end

-- The day as it was before its first entry.
local function begin_aside(batch, terms, first)
  local frame = frame_with(terms, {resumes_in_opening = terms.resumes_in_opening == 1, began = terms.began == 1,
                                   exhausted = false, suspended = false, level = 0, attested = REBUILT,
                                   doubted = ''})
  batch.pool = {frame = frame, balance_fen = terms.limit_fen, open_buy_fen = 0, filled_buy_fen = 0,
                filled_sell_fen = 0, seq = 0, next_lapse = 0}
  batch.stored, batch.seq, batch.next_lapse, batch.terms = nil, nil, 0, terms
  set_level(batch.pool)
  batch.now = first and first.time_ms or 0
  note_changes(batch, NO_FRAME, 'opened')
end

-- The day that is built beside the pool, as far as it has come; one of another day is none, and goes.
local function read_aside(keys, trading_day)
  local aside = keys_aside(keys)
  local pool = read_pool(aside[1])
  local stale = pool and pool.frame.trading_day ~= trading_day
  local batch = batch_of(aside, not stale and pool or nil, 0)
  batch.stale, batch.held_ms = stale, {}
  return batch
end

-- Whether an entry that is there already is this one.
local function is_same(fields, row)
  local stored = {}
  for i = 1, #fields, 2 do stored[fields[i]] = fields[i + 1] end
  return stored.event == row.text and stored.verdict == row.verdict and stored.time_ms == whole(row.time_ms)
    and stored.balance_fen == whole(row.balance_fen)
end

-- The entries among these that are put back already, by their number.
local function stored_entries(batch, rows)
  local found, first, last = {}, math.huge, 0
  for _, row in ipairs(rows) do
    local seq = row.seq
    if seq > 0 and seq <= batch.pool.seq then first, last = math.min(first, seq), math.max(last, seq) end
  end
  if last == 0 then return found end
  for _, entry in ipairs(redis.call('XRANGE', batch.keys[6], whole(first) .. '-0', whole(last) .. '-0')) do
    found[entry[1]] = entry[2]
  end
  return found
end

-- As of which moment a lapse was judged: before trading began, where nobody had looked since.
local function lapsed_at(batch, id)
  local begins = batch.pool.frame.begins
  if not begins or batch.now < begins or batch.pool.frame.began then return batch.now end
  local lapses = tonumber(batch.held_ms[id] or redis.call('ZSCORE', batch.keys[4], id) or '')
  return lapses and lapses < begins and begins - 1 or batch.now
end

-- What became of a reservation. One that is none here is passed over: of what the store took after it had
-- lost entries, some knew an order otherwise.
local ENDS = {
  confirmed = function(batch, id, was)
    if has_bit(was.bits, RESERVED) then confirm(batch, id, was) end
  end,
  lapsed = lapse,
  released = function(batch, id, was)
    local unheard = was.verdict == 0 and was.filled == 0 and was.off == 0 and was.bits < SPENT
    if has_bit(was.bits, RESERVED) or unheard then spend(batch, id, was, 'released') end
  end,
}

-- An operator's act; it attests nothing here.
local function put_back_act(batch, row)
  local pool, was = batch.pool, batch.pool.frame
  if row.seq > 0 and row.event[1] == 'limit' and row.was_fen ~= was.limit_fen then
    return 'was_fen: the limit is ' .. whole(was.limit_fen)
  end
  if row.event[1] == 'resume' then
    pool.frame = frame_with(was, {halted = ''})
  else
    local refused = ACTS[row.event[1]](pool, row)
    if refused then return refused end
  end
  number(batch, was, row.reason)
  batch.journal[#batch.journal + 1] = {
    whole(pool.seq) .. '-0', 'event', row.text, 'verdict', '', 'balance_fen', whole(pool.balance_fen), 'status',
    pool.frame.status, 'phase', pool.frame.phase, 'time_ms', whole(row.time_ms), 'reason', row.reason, 'user', row.user,
    'host', row.host, 'was_fen', whole(was.limit_fen), 'limit_fen', whole(pool.frame.limit_fen), 'reopen',
    row.reopen and '1' or '0'}
end

-- An order that was decided, or is decided now where nobody knows how it was. An entry without a number
-- comes behind what was answered first, and the first answer stands.
local function put_back_new(batch, row)
  local event = row.event
  local was = order_of(batch, event[2])
  local forced = row.verdict ~= '' and row.verdict or nil
  if row.seq == 0 and forced then
    local spent = was.bits >= SPENT
    if (was.verdict ~= 0 and not spent) or (spent and forced ~= 'accepted') then return end
  end
  event[10] = forced
  apply(batch, event)
end

local function put_back_event(batch, row)
  local name, id = row.event[1], row.event[2]
  if ENDS[name] then
    ENDS[name](batch, id, order_of(batch, id))
  elseif name == 'new' then
    put_back_new(batch, row)
  else
    apply(batch, row.event)
  end
  if batch.held then batch.held_ms[id], batch.held = batch.held[1], nil end
  if not has_bit(order_of(batch, id).bits, RESERVED) then batch.held_ms[id] = nil end
end

-- The entry tells the status as it was, whatever halted the pool then; and whether it was exhausted, even
-- where the clock says otherwise. One that has neither number nor verdict was never in a journal, and has
-- no word on that.
local function believe(batch, row)
  local pool, entry = batch.pool, batch.journal[#batch.journal]
  if row.seq == 0 and row.verdict == '' then return end
  entry[9], entry[11] = row.status, row.phase
  local exhausted = row.status == 'exhausted'
  if row.status ~= 'halted' and exhausted ~= pool.frame.exhausted then
    pool.frame = frame_with(pool.frame, {exhausted = exhausted})
  end
end

-- Why the pool is not as the entry says after it, or nil.
local function contradicts(batch, row)
  local pool, entry = batch.pool, batch.journal[#batch.journal]
  if pool.seq ~= row.seq or entry[3] ~= row.text then return 'event: changes nothing' end
  if pool.balance_fen ~= row.balance_fen then return 'balance_fen: is ' .. whole(pool.balance_fen) .. ' here' end
  local violations = entry[14] == 'violations' and entry[15] or ''
  if violations ~= row.violations then return 'violations: are "' .. violations .. '" here' end
end

-- Puts one entry back; says why it cannot be, or nil.
local function put_back(batch, row)
  local seq, acts = batch.pool.seq, ACTS[row.event[1]]
  if row.seq > seq + 1 then return 'seq: ' .. whole(seq + 1) .. ' is missing' end
  batch.now, batch.now_text = row.time_ms, whole(row.time_ms)
  batch.at = row.event[1] == 'lapsed' and lapsed_at(batch, row.event[2]) or batch.now
  judge_clock(batch)
  local wrong
  if acts then wrong = put_back_act(batch, row) else put_back_event(batch, row) end
  wrong = wrong or (row.seq > 0 and contradicts(batch, row)) or nil
  if not wrong and batch.pool.seq > seq then believe(batch, row) end
  return wrong
end

-- Puts entries back in memory; returns why one cannot be, with its number.
local function put_all_back(batch, rows)
  local stored, events = stored_entries(batch, rows), {}
  for _, row in ipairs(rows) do
    if not ACTS[row.event[1]] then events[#events + 1] = row.event end
  end
  fetch_records(batch, events)
  for _, row in ipairs(rows) do
    local wrong
    if row.seq > 0 and row.seq <= batch.pool.seq then
      local there = stored[whole(row.seq) .. '-0']
      wrong = there and not is_same(there, row) and 'event: another one was put back before' or nil
    else
      wrong = put_back(batch, row)
    end
    if wrong then return 'seq ' .. whole(row.seq) .. ': ' .. wrong end
  end
end

local function write_aside(batch, trading_day)
  for id, lapses in pairs(batch.held_ms) do
    batch.held = batch.held or {}
    batch.held[#batch.held + 1], batch.held[#batch.held + 2] = lapses, id
  end
  if batch.terms then
    redis.call('HSET', batch.keys[1], 'origin', batch.terms.origin, 'trading_day', trading_day, 'kept', '', 'published',
               '0-0', 'decided_buy_accepted', '0')
  end
  commit(batch)
  for i = 1, #DAY_KEYS do redis.call('EXPIRE', batch.keys[i], ASIDE_KEPT_S, 'NX') end
end

-- Puts entries of a day back beside the pool, all of a call or none. The arguments are the pool before the
-- day's first entry, packed as a map, and the entries, packed as a list of maps: event, text, seq (0: the
-- next), verdict, balance_fen, status, phase, time_ms, violations, and what an act has besides. Returns how
-- far the day has come, and why it came no further.
local function replay(keys, args)
  if not format then bind_globals() end
  local terms, rows = cmsgpack.unpack(args[1]), cmsgpack.unpack(args[2])
  local refused = replay_refused(read_pool(keys[1]), terms.trading_day)
  if refused then return {0, refused} end
  demand_replay_rights(keys)
  local batch = read_aside(keys, terms.trading_day)
  if batch.stale or not batch.pool then remove_day(keys, string.sub(ASIDE, 2)) end
  if not batch.pool then begin_aside(batch, terms, rows[1]) end
  local came = batch.seq or 0
  local wrong = put_all_back(batch, rows)
  if wrong then return {came, wrong} end
  write_aside(batch, terms.trading_day)
  return {batch.pool.seq, ''}
end

-- Puts what stands in the pool's place away: an earlier day as at an opening, the same one as lost. One
-- that was put back itself holds nothing else, and is replaced.
local function put_away(keys, live, trading_day, kept)
  local days = words(kept or '')
  if not live then return days end
  if live.frame.trading_day ~= trading_day then
    days[#days + 1] = live.frame.trading_day
    set_aside(keys, live.frame.trading_day, LOST_KEPT_DAYS)
    return days
  end
  if live.frame.attested == REBUILT .. '?' then
    set_aside(keys, trading_day .. LOST .. '?', LOST_KEPT_DAYS)
    remove_day(keys, trading_day .. LOST .. '?')
    return days
  end
  local name, times = trading_day .. LOST, 1
  while redis.call('EXISTS', keys[1] .. ':' .. name) == 1 do
    times = times + 1
    name = trading_day .. LOST .. times
  end
  set_aside(keys, name, LOST_KEPT_DAYS)
  return days
end

-- The day that was put back as it stands in the pool's place: halted until somebody attests it. An
-- operator's halt stays his.
local function finish_aside(batch, now)
  local was = batch.pool.frame
  local first = redis.call('ZRANGE', batch.keys[4], 0, 0, 'WITHSCORES')
  batch.now, batch.at = now, now
  batch.pool.frame = frame_with(was, {halted = was.halted ~= '' and was.halted or REBUILT, attested = REBUILT,
                                      doubted = run_id .. ' ' .. whole(batch.pool.seq) .. ' '})
  batch.pool.next_lapse = tonumber(first[2] or '0')
  note_changes(batch, was, REBUILT)
end

-- Why the day beside the pool may not take its place, or nil. Both have to be as the caller knows them.
local function adoption_refused(live, batch, trading_day, seq, live_seq)
  local refused = replay_refused(live, trading_day)
  if refused then return refused end
  if not batch.pool then return 'trading_day: nothing of it was put back' end
  if batch.pool.seq ~= seq then return 'seq: is ' .. whole(batch.pool.seq) end
  local stands = live and live.frame.trading_day == trading_day and live.seq or 0
  local within = stands >= live_seq and stands <= live_seq + SINCE
  return not within and 'live_seq: is ' .. whole(stands) or nil
end

-- An entry of the pool's own journal, to come behind those that were put back.
local function row_since(fields)
  local row = {seq = 0, violations = ''}
  for i = 1, #fields, 2 do row[fields[i]] = fields[i + 1] end
  local line, hold = match(row.event, '^(new .*) hold_ms=(%d+)$')
  local word = words(line or row.event)
  local name, said = word[1]
  row.text = row.event
  row.time_ms, row.was_fen, row.limit_fen = tonumber(row.time_ms), tonumber(row.was_fen), tonumber(row.limit_fen)
  row.reopen = row.reopen == '1'
  if name == 'new' then
    said = {name, word[2], word[3], price_milli(word[4]), tonumber(word[5]), '', '', line or row.text, tonumber(hold)}
  elseif name == 'fill' or name == 'bust' then
    said = {name, word[2], word[4], price_milli(word[5]), tonumber(word[6]), word[3], '', row.text}
  else
    said = {name, word[2] or '', '', 0, 0, '', '', row.text}
  end
  row.event = said
  return row
end

-- Puts back what the pool took since its number `live_seq`. Says why that cannot be, or nil.
local function put_since_back(batch, keys, live, trading_day, live_seq)
  if not live or live.frame.trading_day ~= trading_day or live.seq == live_seq then return nil end
  local rows = {}
  for i, entry in ipairs(redis.call('XRANGE', keys[6], whole(live_seq + 1) .. '-0', '+')) do
    rows[i] = row_since(entry[2])
  end
  local wrong = put_all_back(batch, rows)
  if not wrong then write_aside(batch, trading_day) end
  return wrong
end

-- Puts the day that was built beside the pool in its place. The arguments are the day, its last number,
-- and the number of the same day's in the pool (0 for none) up to which everything was put back too; what
-- the pool took since then is put back here. Returns the last number, and why it was not done; done
-- already is done.
local function adopt(keys, args)
  if not format then bind_globals() end
  local trading_day, live, now = args[1], read_pool(keys[1]), now_ms()
  local batch = read_aside(keys, trading_day)
  if not batch.pool and live and live.frame.trading_day == trading_day and live.frame.attested == REBUILT then
    return {live.seq, ''}
  end
  local refused = adoption_refused(live, batch, trading_day, tonumber(args[2]), tonumber(args[3]))
  if refused then return {batch.pool and batch.pool.seq or 0, refused} end
  demand_replay_rights(keys)
  local wrong = put_since_back(batch, keys, live, trading_day, tonumber(args[3]))
  if wrong then return {batch.seq, wrong} end
  batch = read_aside(keys, trading_day)
  local stored = redis.call('HMGET', keys[1], 'kept', 'next_rate')
  local last = redis.call('XREVRANGE', batch.keys[5], '+', '-', 'COUNT', 1)[1]
  finish_aside(batch, now)
  redis.call('HSET', batch.keys[1], 'published', last[1])
  commit(batch)
  local days = put_away(keys, live, trading_day, stored[1])
  redis.call('HSET', batch.keys[1], 'kept', table.concat(days, ' '))
  if stored[2] then redis.call('HSET', batch.keys[1], 'next_rate', stored[2]) end
  for i = 1, #DAY_KEYS do
    if redis.call('EXISTS', batch.keys[i]) == 1 then
      redis.call('PERSIST', batch.keys[i])
      redis.call('RENAME', batch.keys[i], keys[i])
    end
  end
  return {batch.pool.seq, ''}
end

redis.register_function('quota_replay', replay)
redis.register_function('quota_adopt', adopt)

end
