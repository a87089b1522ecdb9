-- What order gateways call: quota_reserve, quota_release and quota_check, for callers that may send anything.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.

local function invalid(message) return redis.error_reply('QUOTAINVALID ' .. message) end

-- A price in thousandths, or nil. Above 2^53 it is no longer exact, but then it is out of range.
local function price_milli(text)
  local units, point, decimals = match(#text <= 17 and text or '', '^(%d+)(%.?)(%d*)$')
  if not units or #units > 13 or #decimals > 3 or (point == '.') ~= (decimals ~= '') then return nil end
  if #units > 1 and string.byte(units) == 48 then return nil end
  local milli = tonumber(units) * 1000
  if point == '.' then milli = milli + tonumber(decimals) * 10 ^ (3 - #decimals) end
  return milli > 0 and milli or nil
end

local function checked_id(text) return #text <= 64 and find(text, '^[%w._:-]+$') end

-- Whether these are the six keys of one pool, in their order. The names are made once per pool.
local KEY_PARTS = {'pool', 'orders', 'execs', 'holds', 'changes', 'journal'}
local key_names = {}

local function are_pool_keys(keys, wanted)
  local first = keys[1] or ''
  local names = key_names[first]
  if not names then
    local tag = match(first, '^quota:{[NS]B%-S[HZ]}:')
    if not tag or first ~= tag .. 'pool' then return false end
    names = {}
    for i, part in ipairs(KEY_PARTS) do names[i] = tag .. part end
    key_names[first] = names
  end
  for i = 2, wanted do
    if keys[i] ~= names[i] then return false end
  end
  return #keys == wanted
end

local ID_RULE = ': must be 1 to 64 characters of A-Z a-z 0-9 . _ : -'
local KEYS_RULE = 'keys: must be the six keys of one pool, in their order'
local HOLD_MAX_MS = 86400000

-- Why the arguments of a reservation are malformed, or nil; its price, its quantity, its hold time or 0.
local function malformed(keys, args)
  local order_id, side, price, quantity, source, hold = unpack(args)
  if not are_pool_keys(keys, 6) then return KEYS_RULE end
  if #args ~= 5 and #args ~= 6 then return 'arguments: must be ORDER_ID SIDE PRICE QUANTITY SOURCE [HOLD_MS]' end
  if not checked_id(order_id) then return 'order_id' .. ID_RULE end
  if not SIDE[side] then return 'side: must be buy or sell' end
  local milli = price_milli(price)
  if not milli then
    return 'price: must be a decimal above zero, at most 13 digits before the point (no leading zeros) and 3 after it'
  end
  local units = #quantity <= 16 and find(quantity, '^[1-9]%d*$') and tonumber(quantity)
  if not units or units > BOUND then return 'quantity: must be a positive integer of at most 4500000000000000' end
  if not checked_id(source) then return 'source' .. ID_RULE .. ', or - for none' end
  if not hold then return nil, milli, units, 0 end
  local hold_ms = #hold <= 8 and find(hold, '^[1-9]%d*$') and tonumber(hold)
  if not hold_ms or hold_ms > HOLD_MAX_MS then return 'hold_ms: must be a whole number from 1 to 86400000' end
  return nil, milli, units, hold_ms
end

-- What a held reservation writes besides: its moment, and that of the pool's next lapse.
local function put_hold(keys, pool, order_id, lapses)
  redis.call('ZADD', keys[4], whole(lapses), order_id)
  if pool.next_lapse == 0 or lapses < pool.next_lapse then
    redis.call('HSET', keys[1], 'next_lapse', whole(lapses))
  end
end

-- The common case by a short way: a first buy that is accepted and moves nothing but the sums. It
-- does what apply_new would do; in every other case it returns nil and has written nothing. A frame
-- whose phase is known was judged before, and so was its store.
local function reserve_plainly(keys, pool, now, order_id, milli, units, text, hold)
  local frame, value = pool.frame, milli * units
  if refusal_of_buys(frame) or frame.phase_now ~= frame.phase or now < frame.since or now >= frame.till
      or value > BOUND or (pool.next_lapse ~= 0 and pool.next_lapse <= now) then
    return nil
  end
  local charge = fen_up(value, frame.rate_e5)
  local balance, open = pool.balance_fen - charge, pool.open_buy_fen + charge
  local used = frame.limit_fen - balance
  if balance <= 0 or open > BOUND or used >= frame.reaches or used <= frame.leaves then return nil end
  local call = redis.call
  if call('HEXISTS', keys[2], order_id) == 1 then return nil end
  demand_rights(keys)
  if hold > 0 then check_holds(keys, true, false) end
  text = text .. ' hold_ms=' .. whole(hold)
  local seq, left = pool.seq + 1, whole(balance)
  local numbered = whole(seq)
  call('XADD', keys[6], numbered .. '-0', 'event', text, 'verdict', 'accepted', 'balance_fen', left, 'status', 'open',
       'phase', frame.phase, 'time_ms', whole(now))
  call('HSET', keys[2], order_id, pack(1, milli, units, 1, seq, 0, 0, 0, 0, RESERVED))
  if hold > 0 then put_hold(keys, pool, order_id, now + hold) end
  call('HSET', keys[1], 'balance_fen', left, 'open_buy_fen', whole(open), 'seq', numbered, 'decided_buy_accepted',
       whole(pool.bought + 1))
  return {'accepted', balance, seq, 0, 'open'}
end

-- Decides a new order and charges it. For gateways: the contract's quota_reserve.
local function reserve(keys, args)
  if not format then bind_globals() end
  local wrong, milli, units, hold = malformed(keys, args)
  if wrong then return invalid(wrong) end
  local order_id, side, source = args[1], args[2], args[5]
  local pool, now = read_pool(keys[1]), now_ms()
  if not pool then return {side == 'sell' and 'accepted' or 'closed', false, false, 0, 'closed'} end
  local text = 'new ' .. order_id .. ' ' .. side .. ' ' .. args[3] .. ' ' .. args[4]
  if source ~= '-' then text = text .. ' source=' .. source end
  local plain = side == 'buy' and reserve_plainly(keys, pool, now, order_id, milli, units, text, hold)
  if plain then return plain end
  local batch = batch_of(keys, pool, now)
  catch_up(batch)
  local outcome, verdict, seq, reason = apply(batch, {'new', order_id, side, milli, units, '', '', text, hold})
  if reason then return invalid(reason) end
  commit_answer(batch)
  return {verdict, pool.balance_fen, seq, outcome == 'duplicate' and 1 or 0, pool.frame.status}
end

-- Gives back a reservation that was never sent, and spends its id; one that was never seen is spent too,
-- so that it cannot be reserved later. For gateways: the contract's quota_release.
local function release(keys, args)
  local id = args[1]
  if not format then bind_globals() end
  if not are_pool_keys(keys, 6) then return invalid(KEYS_RULE) end
  if #args ~= 1 then return invalid('arguments: must be ORDER_ID') end
  if not checked_id(id) then return invalid('order_id' .. ID_RULE) end
  local batch = begin_batch(keys)
  local pool = batch.pool
  if not pool then return {'unknown', false, false} end
  catch_up(batch)
  local was, outcome = order_of(batch, id), 'settled'
  if has_bit(was.bits, RESERVED) then
    if not spend(batch, id, was, 'released') then return invalid(REASON.out_of_range) end
    outcome = 'released'
  elseif was.bits >= SPENT then
    outcome = was.verdict == 0 and 'unknown' or 'released'
  elseif was.verdict == 0 and was.filled == 0 and was.off == 0 then
    spend(batch, id, was, 'released')
    outcome = 'unknown'
  end
  commit_answer(batch)
  return {outcome, pool.balance_fen, pool.seq}
end

-- Tells what a buy or a sell would get now, and writes nothing: the contract's quota_check.
local function check(keys, args)
  local side = args[1]
  if not format then bind_globals() end
  if not are_pool_keys(keys, 1) then return invalid('keys: must be the key of one pool') end
  if #args ~= 1 or not SIDE[side] then return invalid('side: must be buy or sell') end
  local pool = read_pool(keys[1])
  if not pool then return {side == 'sell' and 'accepted' or 'closed', false, false, 'closed', 'closed'} end
  catch_up(batch_of(key_names[keys[1]], pool, now_ms()))
  local frame = pool.frame
  return {side == 'buy' and refusal_of_buys(frame) or 'accepted', pool.balance_fen, pool.seq, frame.status, frame.phase}
end

redis.register_function('quota_reserve', reserve)
redis.register_function('quota_release', release)
redis.register_function{function_name = 'quota_check', callback = check, flags = {'no-writes'}}
