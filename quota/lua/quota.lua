#!lua name=quota
-- The rules of quota/rules.py and quota/day.py, atomically. Version 3.
--
-- Keys of a pool, always all six and in this order:
--   pool     hash    the pool: trading_day, limit_fen, balance_fen, open_buy_fen, filled_buy_fen,
--                    filled_sell_fen (fen), status, phase, seq, level, admission, rate (decimal),
--                    schedule ("<server ms> <phase> …"), levels ("50 70 …", per cent), halted (the
--                    reason), began, exhausted, suspended, resumes_in_opening (0 or 1), origin,
--                    kept ("<day> …"), published and last_change (ids in changes), next_rate
--                    ("<day> <rate>", announced for a day to come), next_lapse (before it no hold ends;
--                    0: there is none), attested (the run_id and master_replid of the server that is
--                    known to have lost nothing), doubted ("<server> <its last number then> <what it lost>", where
--                    it stands on another one), frame (the rare fields as one text),
--                    decided_{side}_{verdict}, violated_{kind} (counts)
--   orders   hash    order_id -> MessagePack of side, price (thousandths), quantity, verdict, seq,
--                    filled, value (thousandths), top price, off the book, bits (violations; reserved; spent)
--   execs    hash    exec_id -> MessagePack of the order (the seq of its decision, or its id where
--                    that is not known yet), side (busted: plus 2), price, quantity
--   holds    zset    order_id, scored with the server's ms at which its reservation lapses
--   changes  stream  kind, was, now, seq, balance_fen, limit_fen, time_ms, reason
--   journal  stream  one entry per seq, id "<seq>-0", event (a line of words), verdict, balance_fen, status,
--                    phase, time_ms, violations; of an act reason, user, host, was_fen, limit_fen, reopen
--
-- The law: check everything, then write. The store keeps the writes of a function that fails
-- later, so what can fail (a wrong type, an id in the stream that is no greater) is read or
-- written first. Numbers are doubles: every total stays within BOUND, every product that could
-- pass 2^53 is split, and whole numbers are written with %d.

local VERSION, DIGEST = 3, '@digest@'
local BOUND = 4500000000000000
local SIDES = {'buy', 'sell'}
local VERDICTS = {'accepted', 'exhausted', 'suspended', 'closed', 'halted', 'insufficient', 'id_reused'}
local STATUSES = {'halted', 'exhausted', 'closed', 'suspended', 'open'}
local PHASES = {'closed', 'opening', 'continuous', 'break', 'closing'}
local VIOLATIONS = {'refused_traded', 'overfilled', 'above_limit', 'side_conflict', 'exec_reused',
                    'spent_order', 'out_of_range'}
local EVENTS = {'new', 'cancelled', 'rejected', 'fill', 'bust'}
local SIDE = {buy = 1, sell = 2}
local VERDICT = {accepted = 1, exhausted = 2, suspended = 3, closed = 4, halted = 5, insufficient = 6, id_reused = 7}
local BIT = {refused_traded = 1, overfilled = 2, above_limit = 4, side_conflict = 8, exec_reused = 16,
             spent_order = 32, out_of_range = 64}
-- Two more bits of an order: a gateway reserved it and nothing was heard of it yet; its id is spent.
local RESERVED, SPENT = 128, 256

local NO_DAY = 'no trading day is open'
local ANOTHER_DAY = "time: another day than the pool's open day"
local OPENED_LATE = 'opened late: usage until now is unknown'
local STORE_CHANGED, REBUILT = 'store changed', 'rebuilt'
local REASON = {
  exec_reused = 'exec_id: was used before with other content (exec_reused)',
  side_conflict = 'side: is not the side of the order (side_conflict)',
  out_of_range = 'price, quantity: a total would pass 4500000000000000 (out_of_range)',
}

-- Values and texts. ----------------------------------------------------------------------------

local format, find, match, pack, unpacked

-- Which server this is: its process, and the history of writes that it had when it was first asked. A
-- former primary that takes another one's data over loads this library anew with it, and has another one
-- by then. A primary that is left alone may change its own when a replica comes: it is not asked again.
local run_id

-- Lua's globals may be used inside functions only; the busiest are bound at the first call.
local function bind_globals()
  local told = redis.call('INFO', 'server', 'replication')
  run_id = string.match(told, 'run_id:(%x+)') .. '-' .. (string.match(told, 'master_replid:(%x+)') or '')
  format, find, match = string.format, string.find, string.match
  pack, unpacked = cmsgpack.pack, cmsgpack.unpack
end

local function whole(number) return format('%d', number) end -- tostring would write 1e+14

local function words(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do list[#list + 1] = word end
  return list
end

-- Fen of a total in thousandths at a rate in hundred-thousandths, rounded down, and the rest. The
-- product can pass 2^53, so the total is split at a million. x - x % 1 is floor(x).
local function fen(milli, rate)
  local low = milli % 1000000
  local product = low * rate
  local rest = product % 1000000
  return (milli - low) / 1000000 * rate + (product - rest) / 1000000, rest
end

local function fen_up(milli, rate)
  local down, rest = fen(milli, rate)
  return rest > 0 and down + 1 or down
end

local function rate_e5(text)
  local units, decimals = string.match(text, '^(%d)%.(%d%d%d%d%d)$')
  if not units then error({err = 'QUOTACORRUPT rate: is no rate with five decimals'}) end
  return tonumber(units) * 100000 + tonumber(decimals)
end

local function now_ms()
  local time = redis.call('TIME')
  local micros = tonumber(time[2])
  return time[1] * 1000 + (micros - micros % 1000) / 1000
end

-- The pool's record. ---------------------------------------------------------------------------
-- What changes with every event is read field by field. All the rest is one text, the frame: it is
-- the same from call to call, so it is parsed once and remembered by its own text. A remembered
-- frame is never changed; who changes one copies it first. Its fields stand in the hash by
-- themselves too, for those who read the hash.

local FRAME = {'trading_day', 'limit_fen', 'rate', 'schedule', 'admission', 'levels', 'resumes_in_opening',
               'halted', 'began', 'exhausted', 'suspended', 'phase', 'level', 'attested', 'doubted'}
local SUMS = {'balance_fen', 'open_buy_fen', 'filled_buy_fen', 'filled_sell_fen', 'seq'}
local FLAGS = {'began', 'exhausted', 'suspended', 'resumes_in_opening'}

local function status_of(frame)
  if frame.halted ~= '' then return 'halted' end
  if frame.exhausted then return 'exhausted' end
  if frame.phase == 'closed' then return 'closed' end
  return frame.suspended and 'suspended' or 'open'
end

-- From when which phase holds, and when continuous trading begins.
local function read_schedule(frame)
  local list = words(frame.schedule)
  frame.segments, frame.since, frame.till = {}, 0, 0
  for i = 1, #list, 2 do
    frame.segments[#frame.segments + 1] = {tonumber(list[i]), list[i + 1]}
    if list[i + 1] == 'continuous' and not frame.begins then frame.begins = tonumber(list[i]) end
  end
end

-- For each level the used fen at which it is reached and at which it is left. The products
-- level * limit can pass 2^53, so the limit is split at a hundred.
local function read_levels(frame)
  local rest = frame.limit_fen % 100
  local hundreds = (frame.limit_fen - rest) / 100
  frame.thresholds = {}
  for _, word in ipairs(words(frame.levels)) do
    local level = tonumber(word)
    frame.thresholds[#frame.thresholds + 1] = {level, level * hundreds + math.ceil(level * rest / 100),
                                               (level - 1) * hundreds + math.floor((level - 1) * rest / 100)}
  end
  frame.reaches, frame.leaves = math.huge, -math.huge
  for _, threshold in ipairs(frame.thresholds) do
    if threshold[1] > frame.level then frame.reaches = math.min(frame.reaches, threshold[2]) end
    if threshold[1] == frame.level then frame.leaves = threshold[3] end
  end
end

-- The texts of a frame's fields, in their order.
local function frame_values(frame)
  local list = {}
  for i, name in ipairs(FRAME) do
    local value = frame[name]
    if value == true then value = '1' elseif value == false then value = '0' end
    list[i] = type(value) == 'number' and whole(value) or value
  end
  return list
end

local function read_frame(text)
  local frame, i = {}, 0
  for value in string.gmatch(text .. '\n', '([^\n]*)\n') do
    i = i + 1
    if FRAME[i] then frame[FRAME[i]] = value end
  end
  -- Version 1 of this library did not attest, version 2 kept no doubts.
  if i >= #FRAME - 2 then frame.attested, frame.doubted, i = frame.attested or '', frame.doubted or '', #FRAME end
  frame.limit_fen, frame.level = tonumber(frame.limit_fen), tonumber(frame.level)
  if i ~= #FRAME or not frame.limit_fen or not frame.level then error({err = 'QUOTACORRUPT frame: is not readable'}) end
  for _, name in ipairs(FLAGS) do frame[name] = frame[name] == '1' end
  frame.rate_e5, frame.status = rate_e5(frame.rate), status_of(frame)
  read_schedule(frame)
  read_levels(frame)
  return frame
end

local frames, frames_kept = {}, 0

local function frame_of(text)
  local frame = frames[text]
  if not frame then
    if frames_kept == 64 then frames, frames_kept = {}, 0 end
    frame = read_frame(text)
    frames[text], frames_kept = frame, frames_kept + 1
  end
  return frame
end

-- A frame like this one but for the fields given.
local function frame_with(frame, changed)
  local copy = {}
  for _, name in ipairs(FRAME) do
    copy[name] = frame[name]
    if changed[name] ~= nil then copy[name] = changed[name] end
  end
  return frame_of(table.concat(frame_values(copy), '\n'))
end

local function read_pool(key)
  local call = redis.call
  local v = call('HMGET', key, 'frame', 'balance_fen', 'open_buy_fen', 'filled_buy_fen', 'filled_sell_fen', 'seq',
                 'decided_buy_accepted', 'next_lapse')
  if not v[1] then
    if call('EXISTS', key) == 1 then error({err = 'QUOTACORRUPT frame: is missing'}) end
    return nil
  end
  local balance, open, buy, sell, seq, accepted = tonumber(v[2] or ''), tonumber(v[3] or ''), tonumber(v[4] or ''),
                                                  tonumber(v[5] or ''), tonumber(v[6] or ''), tonumber(v[7] or '')
  local next_lapse = tonumber(v[8] or '0')
  if not (balance and open and buy and sell and seq and accepted and next_lapse) then
    error({err = 'QUOTACORRUPT pool: a sum is missing or no number'})
  end
  local pool = {frame = frame_of(v[1]), balance_fen = balance, open_buy_fen = open, filled_buy_fen = buy,
                filled_sell_fen = sell, seq = seq, bought = accepted, next_lapse = next_lapse}
  if pool.balance_fen ~= pool.frame.limit_fen - pool.open_buy_fen - pool.filled_buy_fen + pool.filled_sell_fen then
    error({err = 'QUOTACORRUPT balance_fen: is not the sum of its terms'})
  end
  return pool
end

-- The clock. -----------------------------------------------------------------------------------

local function phase_at(frame, now)
  if now >= frame.since and now < frame.till then return frame.phase_now end
  local phase, since, till = 'closed', 0, math.huge
  for i = #frame.segments, 1, -1 do
    local segment = frame.segments[i]
    if now >= segment[1] then
      phase, since = segment[2], segment[1]
      break
    end
    till = segment[1]
  end
  frame.phase_now, frame.since, frame.till = phase, since, till
  return phase
end

-- Judges exhaustion by the balance and the clock. Phases that went by unnoticed count.
local function judge(pool, now)
  local frame = pool.frame
  local phase, began = phase_at(frame, now), frame.begins and now >= frame.begins or false
  local exhausted, suspended = frame.exhausted, frame.suspended
  if (phase ~= 'closed' and phase ~= 'opening') or (began and not frame.began) then
    exhausted = exhausted or pool.balance_fen <= 0
    suspended = false
  elseif phase == 'opening' then
    suspended = pool.balance_fen <= 0 or (suspended and not frame.resumes_in_opening)
  end
  began = began or frame.began
  if phase ~= frame.phase or began ~= frame.began or exhausted ~= frame.exhausted or suspended ~= frame.suspended then
    pool.frame = frame_with(frame, {phase = phase, began = began, exhausted = exhausted, suspended = suspended})
  end
end

local function set_level(pool)
  local frame = pool.frame
  local used, held = frame.limit_fen - pool.balance_fen, 0
  if used < frame.reaches and used > frame.leaves then return end
  for i = 1, #frame.thresholds do
    local threshold = frame.thresholds[i]
    if used >= threshold[2] or (threshold[1] <= frame.level and used > threshold[3]) then held = threshold[1] end
  end
  if held ~= frame.level then pool.frame = frame_with(frame, {level = held}) end
end

-- Orders. --------------------------------------------------------------------------------------

local NO_ORDER = {side = 0, price = 0, quantity = 0, verdict = 0, seq = 0, filled = 0, value = 0, top = 0, off = 0,
                  bits = 0}

local function read_order(packed)
  if not packed then return NO_ORDER end
  local side, price, quantity, verdict, seq, filled, value, top, off, bits = unpacked(packed)
  return {side = side, price = price, quantity = quantity, verdict = verdict, seq = seq, filled = filled, value = value,
          top = top, off = off, bits = bits}
end

local function pack_order(o)
  return pack(o.side, o.price, o.quantity, o.verdict, o.seq, o.filled, o.value, o.top, o.off, o.bits)
end

local function copied(o)
  return {side = o.side, price = o.price, quantity = o.quantity, verdict = o.verdict, seq = o.seq, filled = o.filled,
          value = o.value, top = o.top, off = o.off, bits = o.bits}
end

-- The value that still rests in the book: of an order that was accepted, or that is known and
-- traded all the same; of a spent one nothing.
local function open_milli(o)
  if o.off == 1 or o.bits >= SPENT or o.quantity <= o.filled then return 0 end
  if not (o.verdict == 1 or (o.verdict > 0 and o.filled > 0)) then return 0 end
  return (o.quantity - o.filled) * o.price
end

-- An order's contribution: open buys, filled buys and filled sells, in fen.
local function parts(o, rate)
  if o.side == 1 then
    local value, open = o.value, open_milli(o)
    local filled = value > 0 and fen_up(value, rate) or 0
    return open > 0 and fen_up(open + value, rate) - filled or 0, filled, 0
  end
  return 0, 0, (fen(o.value, rate))
end

-- Puts the contribution of `now` in the place of `was`, and says so; false, and nothing is done,
-- where a total of the order or the pool would pass the bound.
local function settled(pool, was, now)
  local frame = pool.frame
  local open_was, buy_was, sell_was = parts(was, frame.rate_e5)
  local open_now, buy_now, sell_now = parts(now, frame.rate_e5)
  local open = pool.open_buy_fen + open_now - open_was
  local buy = pool.filled_buy_fen + buy_now - buy_was
  local sell = pool.filled_sell_fen + sell_now - sell_was
  local balance = frame.limit_fen - open - buy + sell
  if now.price * now.quantity > BOUND or now.filled > BOUND or open_milli(now) + now.value > BOUND
      or open > BOUND or buy > BOUND or sell > BOUND or balance > BOUND or balance < -BOUND then
    return false
  end
  pool.open_buy_fen, pool.filled_buy_fen, pool.filled_sell_fen, pool.balance_fen = open, buy, sell, balance
  return true
end

-- Decisions. -----------------------------------------------------------------------------------

local function refusal_of_buys(frame)
  if frame.halted ~= '' then return 'halted' end
  if frame.exhausted then return 'exhausted' end
  if frame.phase == 'closed' or frame.phase == 'break' then return 'closed' end
  if frame.suspended then return 'suspended' end
  return nil
end

local function verdict_of(pool, o)
  if o.side == 2 or o.filled > 0 then return 'accepted' end
  local frame = pool.frame
  local refusal = refusal_of_buys(frame)
  if refusal then return refusal end
  if frame.admission == 'must_fit' and fen_up(open_milli(o), frame.rate_e5) > pool.balance_fen then
    return 'insufficient'
  end
  return 'accepted'
end

local function has_bit(bits, bit) return bits % (2 * bit) >= bit end

-- Notes what should not be, each kind once per order. Returns the fresh kinds, or nil.
local function note_violations(was, o)
  local revived, known = was.bits >= SPENT and o.bits < SPENT, o.verdict ~= 0 and o.filled > 0
  if not revived and not known then return nil end
  if not revived and o.verdict == 1 and o.filled <= o.quantity and not (o.side == 1 and o.top > o.price) then
    return nil
  end
  local fresh
  local function note(kind, holds)
    if holds and not has_bit(o.bits, BIT[kind]) then
      o.bits = o.bits + BIT[kind]
      fresh = fresh or {}
      fresh[#fresh + 1] = kind
    end
  end
  note('refused_traded', known and o.verdict ~= 1)
  note('overfilled', known and o.filled > o.quantity)
  note('above_limit', known and o.side == 1 and o.top > o.price)
  note('spent_order', revived)
  return fresh
end

-- A batch: the pool, the records read and written, the entries to append. ----------------------

-- `at` is the moment as of which the pool is judged: now, but for holds that ended unnoticed.
local function batch_of(keys, pool, now)
  return {keys = keys, now = now, at = now, now_text = whole(now), pool = pool, stored = pool and pool.frame,
          seq = pool and pool.seq, next_lapse = pool and pool.next_lapse,
          orders = {}, execs = {}, order_ids = {}, exec_ids = {}, ended = {}, journal = {}, counts = {}, changes = {}}
end

local function begin_batch(keys)
  if not format then bind_globals() end
  return batch_of(keys, read_pool(keys[1]), now_ms())
end

local function order_of(batch, id)
  batch.orders[id] = batch.orders[id] or read_order(redis.call('HGET', batch.keys[2], id))
  return batch.orders[id]
end

local function put_order(batch, id, order)
  batch.orders[id] = order
  batch.order_ids[#batch.order_ids + 1] = id
end

-- Reads records that will be asked for, but for those that are read already.
local function fetch(key, records, ids, read)
  for from = 1, #ids, 4000 do
    local found = redis.call('HMGET', key, unpack(ids, from, math.min(from + 3999, #ids)))
    for i = 1, #found do
      local id = ids[from + i - 1]
      if not records[id] then records[id] = read(found[i]) end
    end
  end
end

-- An execution (order, side or side + 2 where busted, price, quantity), or false. A seq is a third
-- of an id's bytes, and there are more executions than anything else.
local function read_exec(packed)
  return packed and {unpacked(packed)}
end

-- The fields that are watched, and what the stream calls them.
local WATCHED = {'trading_day', 'limit_fen', 'rate', 'phase', 'status', 'level'}
local KINDS = {'day', 'limit', 'rate', 'phase', 'status', 'level'}

-- Notes what became what since the frame `was`, in the order of the stream.
local function note_changes(batch, was, reason)
  local pool, now = batch.pool, batch.pool.frame
  if was == now then return end
  for i, name in ipairs(WATCHED) do
    if was[name] ~= now[name] then
      batch.changes[#batch.changes + 1] = {
        'kind', KINDS[i], 'was', was[name], 'now', now[name], 'seq', whole(pool.seq), 'balance_fen',
        whole(pool.balance_fen), 'limit_fen', whole(now.limit_fen), 'time_ms', whole(batch.now), 'reason', reason}
    end
  end
end

local function judge_clock(batch)
  local was = batch.pool.frame
  judge(batch.pool, batch.at)
  note_changes(batch, was, 'clock')
end

-- Gives what happened its number and judges the pool after it.
local function number(batch, was, reason, subject)
  local pool = batch.pool
  pool.seq = pool.seq + 1
  judge(pool, batch.at)
  set_level(pool)
  if pool.frame ~= was then note_changes(batch, was, subject and reason .. ' ' .. subject or reason) end
end

local function count(batch, field)
  batch.counts[field] = (batch.counts[field] or 0) + 1
end

-- Writes the records of these ids, packed, each once.
local function put_records(key, ids, records, packed)
  local list, done = {}, {}
  for _, id in ipairs(ids) do
    if not done[id] then
      done[id] = true
      list[#list + 1], list[#list + 2] = id, packed(records[id])
    end
  end
  for from = 1, #list, 4000 do
    redis.call('HSET', key, unpack(list, from, math.min(from + 3999, #list)))
  end
end

local function pack_exec(exec) return pack(unpack(exec, 1, 4)) end

-- What the hash should say: the frame and its fields if it changed, the sums, the counts.
local function pool_fields(batch)
  local pool, out = batch.pool, {}
  local function put(name, value)
    out[#out + 1], out[#out + 2] = name, value
  end
  if pool.frame ~= batch.stored then
    local values = frame_values(pool.frame)
    for i, name in ipairs(FRAME) do put(name, values[i]) end
    put('status', pool.frame.status)
    put('frame', table.concat(values, '\n'))
  end
  for _, name in ipairs(SUMS) do put(name, whole(pool[name])) end
  if pool.next_lapse ~= batch.next_lapse then put('next_lapse', whole(pool.next_lapse)) end
  for field, n in pairs(batch.counts) do
    local counted = tonumber(redis.call('HGET', batch.keys[1], field) or '0')
    if not counted then error({err = 'QUOTACORRUPT ' .. field .. ': is no number'}) end
    put(field, whole(counted + n))
  end
  return out
end

-- Functions run with their caller's rights, and a right that is missing shows at the command that
-- needs it: too late, with the first entry written. So the rights are asked for before.
local function demand_rights(keys)
  local may = redis.acl_check_cmd
  if may('HSET', keys[1], 'f', 'v') and may('HSET', keys[2], 'f', 'v') then return end
  error({err = 'NOPERM this user may not run HSET on the keys of the pool'})
end

local function demand_all_rights(keys)
  local may = redis.acl_check_cmd
  demand_rights(keys)
  if may('HSET', keys[3], 'f', 'v') and may('XADD', keys[5], '*', 'f', 'v') then return end
  error({err = 'NOPERM this user may not run HSET and XADD on the keys of the pool'})
end

-- What can fail when holds are written: a right that is missing, a key of another type.
local function check_holds(keys, adds, removes)
  local may = redis.acl_check_cmd
  if (adds and not may('ZADD', keys[4], '1', 'm')) or (removes and not may('ZREM', keys[4], 'm')) then
    error({err = 'NOPERM this user may not run ZADD and ZREM on the holds of the pool'})
  end
  redis.call('ZCARD', keys[4])
end

-- What a batch does to the holds: `held` is the one that begins, as ZADD takes it, `ended` are ids.
local function put_holds(batch)
  local key, ended = batch.keys[4], batch.ended
  for from = 1, #ended, 4000 do redis.call('ZREM', key, unpack(ended, from, math.min(from + 3999, #ended))) end
  if batch.held then redis.call('ZADD', key, unpack(batch.held)) end
end

-- Writes a batch: first what can fail, then the rest, then the pool.
local function commit(batch)
  local call, keys, pool = redis.call, batch.keys, batch.pool
  if pool.seq == batch.seq and pool.frame == batch.stored and pool.next_lapse == batch.next_lapse
      and #batch.ended == 0 then
    return
  end
  demand_all_rights(keys)
  if #batch.changes > 0 then call('XLEN', keys[5]) end
  if batch.held or #batch.ended > 0 then check_holds(keys, batch.held, #batch.ended > 0) end
  local out = pool_fields(batch)
  for _, entry in ipairs(batch.journal) do call('XADD', keys[6], unpack(entry)) end
  local last = #out
  for _, change in ipairs(batch.changes) do
    out[last + 1], out[last + 2] = 'last_change', call('XADD', keys[5], '*', unpack(change))
  end
  put_records(keys[2], batch.order_ids, batch.orders, pack_order)
  put_records(keys[3], batch.exec_ids, batch.execs, pack_exec)
  put_holds(batch)
  call('HSET', keys[1], unpack(out))
  return true
end

-- Events. --------------------------------------------------------------------------------------
-- An event is the array {name, order_id, side, price (thousandths), quantity, exec_id, date, text}:
-- the date in UTC+8 of its own time, empty where it has none, and the whole event as the journal
-- keeps it: "new gw1-000001 buy 1688.00 100 source=gw1 time=…". Of a reservation a ninth field is
-- its hold time, 0 for none (MQTT: nil); of an order that is put back a tenth is its verdict, as it was.

-- Numbers and journals an event that changed something.
local function journal_event(batch, event, verdict, violations)
  local pool, journal = batch.pool, batch.journal
  number(batch, pool.frame, event[1], event[2])
  local frame = pool.frame
  local entry = {whole(pool.seq) .. '-0', 'event', event[8], 'verdict', verdict or '', 'balance_fen',
                 whole(pool.balance_fen), 'status', frame.status, 'phase', frame.phase, 'time_ms', batch.now_text}
  if violations then
    entry[14], entry[15] = 'violations', table.concat(violations, ',')
    for _, kind in ipairs(violations) do count(batch, 'violated_' .. kind) end
  end
  journal[#journal + 1] = entry
end

-- Takes an order's hold away; that there is none costs nothing.
local function end_hold(batch, id)
  if batch.pool.next_lapse ~= 0 then batch.ended[#batch.ended + 1] = id end
end

-- Journals what became of a reservation: it was confirmed, it lapsed, it was released.
local function journal_end(batch, id, how, violations)
  end_hold(batch, id)
  journal_event(batch, {how, id, '', 0, 0, '', '', how .. ' ' .. id}, nil, violations)
end

-- The reservation is an order that was sent: it ends no more by itself.
local function confirm(batch, id, was)
  local now = copied(was)
  now.bits = now.bits - RESERVED
  put_order(batch, id, now)
  journal_end(batch, id, 'confirmed')
end

-- Refuses a fact that cannot be applied; counts it once per order and kind.
local function broken(batch, event, order, kind)
  if has_bit(order.bits, BIT[kind]) then return 'dead', nil, nil, REASON[kind] end
  order = copied(order)
  order.bits = order.bits + BIT[kind]
  put_order(batch, event[2], order)
  journal_event(batch, event, nil, {kind})
  return 'dead', nil, batch.pool.seq, REASON[kind]
end

-- Puts the record `now` in the place of `was`, unless a total would pass the bound. A reservation of
-- which this is the first word is confirmed by it.
local function settle(batch, event, was, now, verdict)
  if not settled(batch.pool, was, now) then return broken(batch, event, was, 'out_of_range') end
  if has_bit(was.bits, RESERVED) then
    now.bits = now.bits - RESERVED
    end_hold(batch, event[2])
  end
  local violations = note_violations(was, now)
  if verdict then
    now.seq = batch.pool.seq + 1
    count(batch, 'decided_' .. event[3] .. '_' .. verdict)
  end
  put_order(batch, event[2], now)
  journal_event(batch, event, verdict, violations)
  return 'applied', verdict, batch.pool.seq
end

-- The answer to an id that was seen before, or nil where the order is still to be decided: a spent
-- one that comes over MQTT was sent all the same.
local function answer_again(batch, event, was, spent)
  local side, reserves = SIDE[event[3]], event[9]
  if was.verdict == 0 and (was.side == 0 or was.side == side) and not (spent and reserves) then return nil end
  if was.verdict ~= 0 and was.side == side and was.price == event[4] and was.quantity == event[5] then
    if spent and not reserves then return nil end
    if not spent then
      if has_bit(was.bits, RESERVED) and not reserves then confirm(batch, event[2], was) end
      return 'duplicate', VERDICTS[was.verdict], was.seq
    end
  end
  return 'id_reused', 'id_reused', batch.pool.seq
end

-- An accepted buy that a gateway asked for, and of which no fact is known, is reserved; perhaps it ends
-- by itself.
local function reserve_order(batch, event, now)
  local hold, pool = event[9], batch.pool
  if now.verdict ~= 1 or now.side ~= 1 or now.filled > 0 or now.off == 1 then return end
  now.bits = now.bits + RESERVED
  event[8] = event[8] .. ' hold_ms=' .. whole(hold)
  if hold == 0 then return end
  local lapses = batch.now + hold
  batch.held = {whole(lapses), event[2]}
  if pool.next_lapse == 0 or lapses < pool.next_lapse then pool.next_lapse = lapses end
end

local function apply_new(batch, event)
  local pool, was = batch.pool, order_of(batch, event[2])
  local spent = was.bits >= SPENT
  local outcome, earlier, seq = answer_again(batch, event, was, spent)
  if outcome then return outcome, earlier, seq end
  local now = copied(was)
  now.side, now.price, now.quantity, now.verdict = SIDE[event[3]], event[4], event[5], 1
  now.bits = was.bits % SPENT
  local verdict = spent and 'accepted' or event[10] or verdict_of(pool, now)
  now.verdict = VERDICT[verdict]
  if event[9] then reserve_order(batch, event, now) end
  return settle(batch, event, was, now, verdict)
end

local function apply_off_book(batch, event)
  local was = order_of(batch, event[2])
  if was.off == 1 then return 'duplicate' end
  local now = copied(was)
  now.off = 1
  return settle(batch, event, was, now)
end

-- Counts a trade, or undoes it. A bust that comes first counts as its fill, already undone. What trades
-- is in the book, a spent order too.
local function apply_execution(batch, event)
  local busted, side, value = event[1] == 'bust' and 1 or 0, SIDE[event[3]], event[4] * event[5]
  local was, exec = order_of(batch, event[2]), batch.execs[event[6]]
  local now = copied(was)
  now.bits = was.bits % SPENT
  if exec then
    local is_busted = exec[2] > 2
    if (exec[1] ~= event[2] and exec[1] ~= was.seq) or exec[2] ~= (is_busted and side + 2 or side)
        or exec[3] ~= event[4] or exec[4] ~= event[5] then
      return broken(batch, event, was, 'exec_reused')
    end
    if is_busted or busted == 0 then return 'duplicate' end
    now.value = now.value - value
  else
    if was.side ~= 0 and was.side ~= side then return broken(batch, event, was, 'side_conflict') end
    if value > BOUND then return broken(batch, event, was, 'out_of_range') end
    now.side, now.filled = side, now.filled + event[5]
    if busted == 0 then now.value = now.value + value end
    if event[4] > now.top then now.top = event[4] end
  end
  local outcome, verdict, seq, reason = settle(batch, event, was, now)
  if outcome == 'applied' then
    local order = was.seq > 0 and was.seq or event[2]
    batch.execs[event[6]] = {order, side + 2 * busted, event[4], event[5]}
    batch.exec_ids[#batch.exec_ids + 1] = event[6]
  end
  return outcome, verdict, seq, reason
end

local APPLY = {new = apply_new, cancelled = apply_off_book, rejected = apply_off_book, fill = apply_execution,
               bust = apply_execution}

-- Applies one event, the clock having been judged: outcome, verdict, seq, reason.
local function apply(batch, event)
  local pool = batch.pool
  if not pool then
    if event[1] ~= 'new' then return 'dead', nil, nil, NO_DAY end
    return 'applied', event[3] == 'sell' and 'accepted' or 'closed'
  end
  if event[7] ~= '' and event[7] ~= pool.frame.trading_day then return 'dead', nil, nil, ANOTHER_DAY end
  return APPLY[event[1]](batch, event)
end
