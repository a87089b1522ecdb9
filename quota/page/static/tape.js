// The two lists below the pools: what changed today, and what was decided last.

import { html } from "./dom.js";
import { chinese, time } from "./format.js";

/** Replaces the rows of a list, unless nothing is new. */
function fill(list, lines, row, none) {
  const text = JSON.stringify(lines);
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...(lines.length ? lines.map(row) : [none]));
}

const at = (line) => html("time", { class: "at" }, time(line.at_ms));

function change(line) {
  return html("li", { "data-tone": line.tone }, at(line), html("b", { class: "pool-code" }, line.pool),
    html("span", { class: "what" }, line.text),
    html("span", { class: "reason" }, line.reason));
}

const cell = (name, ...children) => html("td", { class: name, role: "cell" }, ...children);

/** A row of the table; its roles are told because a phone lays it out as no table. */
function entry(line) {
  return html("tr", { "data-tone": line.tone, role: "row" },
    cell("at", time(line.at_ms)), cell("pool-code", line.pool), cell("what", line.what), cell("amount", line.amount),
    cell("symbol", line.symbol), cell("order", line.order), cell("verdict", line.verdict),
    cell("after", html("span", { class: "label" }, "balance "), chinese(line.balance_fen, line.scale)));
}

/** Shows the latest entries and changes. */
export function showTape(tape, limits) {
  const scaled = tape.entries.map((line) => ({ ...line, scale: limits.get(line.pool) }));
  fill(document.getElementById("changes"), tape.changes, change, html("li", { class: "none" }, "Nothing has changed today."));
  fill(document.getElementById("entries"), scaled, entry,
    html("tr", {}, html("td", { class: "none", colspan: 8 }, "No orders and no trades yet.")));
}
