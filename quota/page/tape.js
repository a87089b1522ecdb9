// The two lists below the pools: what changed today, and what was decided last.

import { html } from "./dom.js";
import { chinese, time } from "./format.js";

/** Replaces the rows of a list, unless nothing is new. */
function fill(list, lines, row, none) {
  const text = JSON.stringify(lines);
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...(lines.length ? lines.map(row) : [html("li", { class: "none" }, none)]));
}

const at = (line) => html("time", { class: "at" }, time(line.at_ms));
const pool = (line) => html("b", { class: "pool-code" }, line.pool);

function change(line) {
  return html("li", { "data-tone": line.tone }, at(line), pool(line),
    html("span", { class: "what" }, line.text),
    html("span", { class: "reason" }, line.reason));
}

function entry(line) {
  return html("li", { "data-tone": line.tone }, at(line), pool(line),
    html("span", { class: "what" }, line.what),
    html("span", { class: "order" }, line.order),
    html("span", { class: "verdict" }, line.verdict),
    html("span", { class: "after" }, html("span", { class: "unseen" }, "balance after it "), chinese(line.balance_fen, line.scale)));
}

/** Shows the latest entries and changes. */
export function showTape(tape, limits) {
  const scaled = tape.entries.map((line) => ({ ...line, scale: limits.get(line.pool) }));
  fill(document.getElementById("changes"), tape.changes, change, "Nothing has changed today.");
  fill(document.getElementById("entries"), scaled, entry, "No orders and no trades yet.");
}
