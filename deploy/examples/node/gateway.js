// A gateway's calls to quotad, as docs/gateways.md has them, with the ordinary Redis client of Node.js.

import { setTimeout as pause } from 'node:timers/promises';
import { createClient, ErrorReply } from 'redis';

const PARTS = ['pool', 'orders', 'execs', 'holds', 'changes', 'journal'];
const PAUSE_MS = 5;

/** The six keys of a pool, in the order of the functions. */
export const keysOf = (pool) => PARTS.map((part) => `quota:{${pool}}:${part}`);

/** Connects; nothing is queued while the store is away, so that no order is sent after its deadline. */
export const connect = async (url) => {
  const client = createClient({ url, RESP: 2, disableOfflineQueue: true });
  client.on('error', () => {}); // the client connects again by itself, and calls say what they met
  await client.connect();
  return client;
};

export class Gateway {
  constructor(client, { source = '-', deadlineMs = 50 } = {}) {
    this.client = client;
    this.source = source;
    this.deadlineMs = deadlineMs;
  }

  /** Sends one call and returns the reply as it came: the function's array, or a thrown ErrorReply. */
  call(name, pool, args, keys) {
    const reads = name === 'quota_check';
    const named = keys ?? (reads ? keysOf(pool).slice(0, 1) : keysOf(pool));
    return this.client.sendCommand([reads ? 'FCALL_RO' : 'FCALL', name, String(named.length), ...named, ...args]);
  }

  /** May this order go? Asks again with the same id until the deadline, which never charges twice. */
  async reserve(pool, orderId, side, price, quantity, holdMs) {
    const hold = holdMs === undefined ? [] : [String(holdMs)];
    const reply = await this.#ask('quota_reserve', pool, [orderId, side, price, String(quantity), this.source, ...hold]);
    if (reply === undefined) return { outcome: 'unknown', send: side === 'sell' };
    const [verdict, balanceFen, seq, replayed, status] = reply;
    const accepted = verdict === 'accepted';
    const outcome = accepted ? 'accepted' : 'refused';
    return { outcome, send: accepted, verdict, balanceFen, seq, replayed: replayed === 1, status };
  }

  /** What would an order of that side get now? */
  async check(pool, side) {
    const reply = await this.#ask('quota_check', pool, [side]);
    if (reply === undefined) return { outcome: 'unknown' };
    const [verdict, balanceFen, seq, status, phase] = reply;
    return { outcome: verdict === 'accepted' ? 'accepted' : 'refused', verdict, balanceFen, seq, status, phase };
  }

  /** Gives back a reservation that was never sent. */
  async release(pool, orderId) {
    const reply = await this.#ask('quota_release', pool, [orderId]);
    if (reply === undefined) return { outcome: 'unknown' };
    const [released, balanceFen, seq] = reply;
    return { outcome: released === 'settled' ? 'refused' : 'accepted', released, balanceFen, seq };
  }

  /** Asks until there is an answer or the time is up; undefined for none. A malformed call is thrown. */
  async #ask(name, pool, args) {
    const ends = performance.now() + this.deadlineMs;
    for (;;) {
      const left = ends - performance.now();
      if (left <= 0) return undefined;
      const given = new AbortController();
      try {
        const late = pause(left, undefined, { signal: given.signal });
        late.catch(() => {});
        return await Promise.race([this.call(name, pool, args), late]);
      } catch (error) {
        if (error instanceof ErrorReply && error.message.startsWith('QUOTAINVALID')) throw error;
      } finally {
        given.abort();
      }
      await pause(Math.min(PAUSE_MS, Math.max(0, ends - performance.now())));
    }
  }
}
