-- What the daemon calls for the events that it hears: quota_apply.
-- The loader joins this file to quota.lua: they are one library, and share its locals and its law.

-- Reads the records that a batch will ask for: one command for the orders, one for the executions.
local function fetch_records(batch, events)
  local order_ids, exec_ids = {}, {}
  for i = 1, #events do
    order_ids[i] = events[i][2]
    if events[i][6] ~= '' then exec_ids[#exec_ids + 1] = events[i][6] end
  end
  fetch(batch.keys[2], batch.orders, order_ids, read_order)
  fetch(batch.keys[3], batch.execs, exec_ids, read_exec)
end

-- Applies a batch of events, packed with MessagePack. Returns the decisions, packed likewise: each
-- {outcome, verdict, reason, balance_fen, seq, status, phase}.
local function apply_batch(keys, args)
  local events, batch = cmsgpack.unpack(args[1]), begin_batch(keys)
  local pool = batch.pool
  if pool then
    catch_up(batch)
    fetch_records(batch, events)
  end
  local out = {'\221' .. struct.pack('>I4', #events)}
  for i = 1, #events do
    local outcome, verdict, seq, reason = apply(batch, events[i])
    local frame = pool and pool.frame
    out[i + 1] = '\151' .. cmsgpack.pack(outcome, verdict, reason or '', pool and pool.balance_fen, seq,
                                         frame and frame.status or 'closed', frame and frame.phase or 'closed')
  end
  if pool then commit_answer(batch) end
  return table.concat(out)
end

-- The version and the words, for a loader to compare with its own.
local function describe()
  return {VERSION, SIDES, VERDICTS, STATUSES, PHASES, VIOLATIONS, EVENTS, DIGEST}
end

redis.register_function('quota_apply', apply_batch)
redis.register_function{function_name = 'quota_describe', callback = describe, flags = {'no-writes'}}
