-- What order gateways call: quota_reserve and quota_check, for callers that may send anything.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.

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

-- Why the arguments of a reservation are malformed, or nil; and its price and quantity.
local function malformed(keys, args)
  local order_id, side, price, quantity, source = unpack(args)
  if not are_pool_keys(keys, 6) then return 'keys: must be the six keys of one pool, in their order' end
  if #args ~= 5 then return 'arguments: must be ORDER_ID SIDE PRICE QUANTITY SOURCE' end
  if not checked_id(order_id) then return 'order_id' .. ID_RULE end
  if not SIDE[side] then return 'side: must be buy or sell' end
  local milli = price_milli(price)
  if not milli then
    return 'price: must be a decimal above zero, at most 13 digits before the point (no leading zeros) and 3 after it'
  end
  local units = #quantity <= 16 and find(quantity, '^[1-9]%d*$') and tonumber(quantity)
  if not units or units > BOUND then return 'quantity: must be a positive integer of at most 4500000000000000' end
  if not checked_id(source) then return 'source' .. ID_RULE .. ', or - for none' end
  return nil, milli, units
end

-- The common case by a short way: a first buy that is accepted and moves nothing but the sums. It
-- does what apply_new would do; in every other case it returns nil and has written nothing.
local function reserve_plainly(keys, pool, now, order_id, milli, units, text)
  local frame, value = pool.frame, milli * units
  if refusal_of_buys(frame) or frame.phase_now ~= frame.phase or now < frame.since or now >= frame.till
      or value > BOUND then
    return nil
  end
  local charge = fen_up(value, frame.rate_e5)
  local balance, open = pool.balance_fen - charge, pool.open_buy_fen + charge
  local used = frame.limit_fen - balance
  if balance <= 0 or open > BOUND or used >= frame.reaches or used <= frame.leaves then return nil end
  local call = redis.call
  if call('HEXISTS', keys[2], order_id) == 1 then return nil end
  demand_rights(keys)
  local seq, left = pool.seq + 1, whole(balance)
  local numbered = whole(seq)
  call('XADD', keys[6], numbered .. '-0', 'event', text, 'verdict', 'accepted', 'balance_fen', left, 'status', 'open',
       'phase', frame.phase, 'time_ms', whole(now))
  call('HSET', keys[2], order_id, pack(1, milli, units, 1, seq, 0, 0, 0, 0, 0))
  call('HSET', keys[1], 'balance_fen', left, 'open_buy_fen', whole(open), 'seq', numbered, 'decided_buy_accepted',
       whole(pool.bought + 1))
  return {'accepted', balance, seq, 0, 'open'}
end

-- Decides a new order and charges it. For gateways: the contract's quota_reserve.
local function reserve(keys, args)
  if not format then bind_globals() end
  local wrong, milli, units = malformed(keys, args)
  if wrong then return invalid(wrong) end
  local order_id, side, source = args[1], args[2], args[5]
  local pool, now = read_pool(keys[1]), now_ms()
  if not pool then return {side == 'sell' and 'accepted' or 'closed', false, false, 0, 'closed'} end
  local text = 'new ' .. order_id .. ' ' .. side .. ' ' .. args[3] .. ' ' .. args[4]
  if source ~= '-' then text = text .. ' source=' .. source end
  local plain = side == 'buy' and reserve_plainly(keys, pool, now, order_id, milli, units, text)
  if plain then return plain end
  local batch = batch_of(keys, pool, now)
  judge_clock(batch)
  local outcome, verdict, seq, reason = apply(batch, {'new', order_id, side, milli, units, '', '', text})
  if reason then return invalid(reason) end
  commit(batch)
  return {verdict, pool.balance_fen, seq, outcome == 'duplicate' and 1 or 0, pool.frame.status}
end

-- Tells what a buy or a sell would get now, and writes nothing: the contract's quota_check.
local function check(keys, args)
  local side = args[1]
  if not format then bind_globals() end
  if not are_pool_keys(keys, 1) then return invalid('keys: must be the key of one pool') end
  if #args ~= 1 or not SIDE[side] then return invalid('side: must be buy or sell') end
  local pool = read_pool(keys[1])
  if not pool then return {side == 'sell' and 'accepted' or 'closed', false, false, 'closed', 'closed'} end
  judge(pool, now_ms())
  local frame = pool.frame
  return {side == 'buy' and refusal_of_buys(frame) or 'accepted', pool.balance_fen, pool.seq, frame.status, frame.phase}
end

redis.register_function('quota_reserve', reserve)
redis.register_function{function_name = 'quota_check', callback = check, flags = {'no-writes'}}
