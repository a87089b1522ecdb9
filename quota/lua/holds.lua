-- What time and other servers did to a pool while nobody looked: every function begins with it.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.

-- How many holds end in one call, at most: the store does nothing else meanwhile.
local LAPSES = 100

-- Spends an id: a reservation's charge is given back, and it can be reserved no more. False, and nothing
-- is done, where the balance would pass the bound.
local function spend(batch, id, was, how)
  local now = copied(was)
  now.bits = was.bits % RESERVED + SPENT
  if not settled(batch.pool, was, now) then return false end
  put_order(batch, id, now)
  journal_end(batch, id, how)
  return true
end

-- Ends a reservation that nothing confirmed in time. What cannot be given back stays charged, without
-- a hold. A hold of no reservation is none of ours: it goes, and that is all.
local function lapse(batch, id)
  local was = order_of(batch, id)
  if not has_bit(was.bits, RESERVED) then return end_hold(batch, id) end
  if spend(batch, id, was, 'lapsed') then return end
  local fresh = not has_bit(was.bits, BIT.out_of_range) and {'out_of_range'} or nil
  local now = copied(was)
  if fresh then now.bits = now.bits + BIT.out_of_range end
  put_order(batch, id, now)
  journal_end(batch, id, 'lapsed', fresh)
end

-- Carries out the holds that are due, oldest first, up to the hundred. Those that ended before continuous
-- trading began are judged as of just before it where nobody has looked since, all of them in this one
-- call: who looks first makes no difference, and the start is not judged with some of them charged.
local function lapse_due(batch)
  local pool, now = batch.pool, batch.now
  if pool.next_lapse == 0 or pool.next_lapse > now then return end
  local begins = pool.frame.begins
  local early = begins and now >= begins and not pool.frame.began and begins or 0
  local found = redis.call('ZRANGE', batch.keys[4], 0, early > 0 and -1 or LAPSES, 'WITHSCORES')
  local ids, next_lapse = {}, 0
  for i = 1, #found, 2 do
    local lapses = tonumber(found[i + 1])
    if lapses > now or (#ids >= LAPSES and lapses >= early) then
      next_lapse = lapses
      break
    end
    ids[#ids + 1] = found[i]
  end
  fetch(batch.keys[2], batch.orders, ids, read_order)
  for i, id in ipairs(ids) do
    batch.at = tonumber(found[2 * i]) < early and early - 1 or now
    judge_clock(batch)
    lapse(batch, id)
  end
  batch.at, pool.next_lapse = now, next_lapse
end

-- Which server a doubt is about, and how far the numbers went when it arose. What came later fills the
-- numbers up again that were lost, and says nothing of them.
local function doubt_of(frame)
  local server, seq = match(frame.doubted, '^(%S+) (%d+)')
  return server, tonumber(seq)
end

-- Takes this store for one that may lack what was answered: no more buys. Says what it lost, where that
-- is known: then no daemon can attest it any more. An operator's halt stays above that. A day that was put
-- back has to be put back again.
local function doubt(batch, lost)
  local was = batch.pool.frame
  local doubted = run_id .. ' ' .. whole(batch.pool.seq) .. ' ' .. (lost or '')
  local attested = was.attested == run_id and '?' or was.attested == REBUILT and REBUILT .. '?' or was.attested
  local halted = (was.halted == '' or was.halted == REBUILT) and STORE_CHANGED or was.halted
  batch.pool.frame = frame_with(was, {attested = attested, doubted = doubted, halted = halted})
  note_changes(batch, was, STORE_CHANGED)
end

-- A server that took another one's place may lack what that one had answered: no more buys, before
-- somebody who knows better says so.
local function judge_store(batch)
  local was = batch.pool.frame
  if was.attested == run_id then return end
  if was.attested == '' then
    batch.pool.frame = frame_with(was, {attested = run_id})
  elseif doubt_of(was) ~= run_id then
    doubt(batch)
  end
end

-- Brings a pool up to the present moment.
local function catch_up(batch)
  judge_store(batch)
  lapse_due(batch)
  judge_clock(batch)
end

-- Commits what its caller will be told. An answer that changes nothing rests on earlier writes, perhaps
-- of other connections, while WAIT and WAITAOF of newer servers wait for a connection's own writes only:
-- so one is made all the same, and changes nothing.
local function commit_answer(batch)
  if not commit(batch) then redis.call('HSET', batch.keys[1], 'seq', whole(batch.pool.seq)) end
end
