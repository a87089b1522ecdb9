// Runs the conformance file: node conformance.js redis://HOST:PORT/DB. The store was prepared by prepare.py.
// Every line goes through the gateway as it is; what a gateway's methods can say goes through them too.

import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { setTimeout as pause } from 'node:timers/promises';
import { Gateway, connect } from './gateway.js';

const SOON_MS = 5_000;
const PLENTY_MS = 10_000;

const lines = readFileSync(new URL('../conformance.jsonl', import.meta.url), 'utf8')
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line));

const got = async (gateway, line) => {
  try {
    return { reply: await gateway.call(line.function, line.pool, line.args, line.keys) };
  } catch (error) {
    return { error: error.message };
  }
};

const fits = (line, found) =>
  line.error === undefined
    ? isDeepStrictEqual(found.reply, line.reply)
    : found.error !== undefined && found.error.startsWith(line.error);

const run = async (gateway, line) => {
  const ends = performance.now() + SOON_MS;
  let found = await got(gateway, line);
  while (line.until && !fits(line, found) && performance.now() < ends) {
    await pause(10);
    found = await got(gateway, line);
  }
  return found;
};

/** Asks once more by the gateway's methods: an order that is known is a replay, or its id is taken. */
const agrees = async (gateway, line) => {
  if (line.function !== 'quota_reserve' || line.error !== undefined || line.args[4] !== 'gw1') return true;
  const [orderId, side, price, quantity, , holdMs] = line.args;
  const answer = await gateway.reserve(line.pool, orderId, side, price, quantity, holdMs);
  return answer.verdict === line.reply[0] && answer.send === (line.reply[0] === 'accepted');
};

const client = await connect(process.argv[2]);
const gateway = new Gateway(client, { source: 'gw1', deadlineMs: PLENTY_MS });
let differences = 0;
for (const [place, line] of lines.entries()) {
  const found = await run(gateway, line);
  const fine = fits(line, found) && (await agrees(gateway, line));
  if (!fine) differences += 1;
  console.log(`${fine ? 'ok' : 'not ok'} ${place + 1} - ${line.about}${fine ? '' : ` ${JSON.stringify(found)}`}`);
}
await client.close();
console.log(`1..${lines.length}`);
process.exitCode = differences ? 1 : 0;
