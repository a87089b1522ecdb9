// The live page: hears what the daemon says, and shows it.

import { Card } from "./card.js";
import { draw } from "./chart.js";
import { html, mark, say, show } from "./dom.js";
import { ago, day, percent, time } from "./format.js";
import { Stream } from "./stream.js";
import { showTape } from "./tape.js";

const DAY_EVERY_MS = 30_000;
const DRAW_EVERY_MS = 400;
const OLD_S = 3;

const element = (id) => document.getElementById(id);
const cards = new Map();
/** @type {Map<string, {day: any, marks: {atMs: number, usedFen: number}[]}>} */
const courses = new Map();
const seen = { clock: null, state: null, tape: null, version: null, dayKey: "", drawnAt: 0, waiting: false };

const stream = new Stream("/api/live", {
  clock: (clock) => { seen.clock = clock; stir(); },
  state: (state) => { seen.state = state; renew(); stir(); },
  tape: (tape) => { seen.tape = tape; stir(); },
});
setInterval(stir, 500);
setInterval(fetchDay, DAY_EVERY_MS);
addEventListener("resize", () => { seen.drawnAt = 0; stir(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) fetchDay(); });
document.addEventListener("toggle", stir, true);

/** Renders once for all that came since the last frame. */
function stir() {
  if (seen.waiting || document.hidden) return;
  seen.waiting = true;
  requestAnimationFrame(() => { seen.waiting = false; render(); });
}

/** Loads the page anew after an upgrade, and the day where it is another or took a turn. */
function renew() {
  const { state } = seen;
  if (!state) return;
  if (seen.version !== null && seen.version !== state.version) location.reload();
  seen.version = state.version;
  const key = JSON.stringify(state.pools.map((view) => [view.pool, view.figures?.trading_day, view.figures?.limit_fen, view.status]));
  if (key === seen.dayKey) return;
  seen.dayKey = key;
  fetchDay();
  setTimeout(fetchDay, 1_500); // the daemon reads the day's changes once a second
}

async function fetchDay() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/api/day");
    for (const each of await answer.json()) {
      const marks = each.at_ms.map((atMs, index) => ({ atMs, usedFen: each.used_fen[index] }));
      courses.set(each.pool, { day: each, marks });
    }
    seen.drawnAt = 0;
    stir();
  } catch {
    setTimeout(fetchDay, 2_000);
  }
}

/** Continues the line of a pool with its present balance, between two readings of the day. */
function extend(course, view, atMs) {
  const last = course.marks.at(-1);
  if (atMs === null || view.figures === null || course.day.trading_day !== view.figures.trading_day) return;
  if (last && atMs <= last.atMs) return;
  const usedFen = view.figures.limit_fen - view.figures.balance_fen;
  const level = last?.usedFen === usedFen && course.marks.at(-2)?.usedFen === usedFen;
  if (level) last.atMs = atMs;
  else course.marks.push({ atMs, usedFen });
}

function render() {
  const { clock, state, tape } = seen;
  const trouble = freshness();
  if (clock) {
    say(element("day"), day(clock.now_ms));
    say(element("time"), time(clock.now_ms));
  }
  if (!state) return;
  const notices = [...trouble, ...state.notices];
  showSentences(element("notices"), notices, "li");
  show(element("notices"), notices.length > 0);
  showSentences(element("headline"), state.headline, "p");
  announce(notices, state);
  showPools(state, clock);
  if (tape) showTape(tape, new Map(state.pools.map((view) => [view.pool, view.figures?.limit_fen])));
  say(element("version"), state.version);
  show(element("pace"), !state.real);
  say(element("pace"), state.speed === 1 ? "set clock" : `set clock, ×${state.speed}`);
}

/** Says how fresh it all is; returns what there is to warn of. */
function freshness() {
  const [silentS, clock] = [stream.silentS, seen.clock];
  const asOf = clock?.as_of_ms ? time(clock.as_of_ms) : null;
  const lost = silentS > 0;
  const old = !lost && clock !== null && clock.read_s !== null && clock.read_s > OLD_S;
  document.body.toggleAttribute("data-stale", lost || old || (clock !== null && clock.read_s === null));
  const link = element("link");
  mark(link, "tone", lost || old ? "trouble" : asOf ? "ok" : "quiet");
  const state = lost ? "Connection lost" : old ? `Old: ${ago(clock.read_s)}` : clock ? "Live" : "Connecting";
  say(link, asOf ? `${state}, as of ${asOf}` : state);
  if (!lost) return [];
  const figures = asOf ? `The figures are those of ${asOf}.` : "Nothing is known yet.";
  return [{ tone: "trouble", pool: null, text: `This page has no connection to quotad for ${ago(silentS)}. ${figures} It keeps trying.` }];
}

/** Shows sentences; those about a pool lead to it. */
function showSentences(list, sentences, tag) {
  const text = JSON.stringify(sentences);
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...sentences.map((each) => {
    const name = seen.state?.pools.find((view) => view.pool === each.pool);
    const lead = name ? [html("a", { href: `#${name.pool}` }, name.pool), " ", html("span", { lang: "zh-Hans" }, name.chinese), " "] : [];
    return html(tag, { "data-tone": each.tone }, ...lead, each.text);
  }));
}

/** Tells screen readers what is new, and nothing of what only counts on. */
function announce(notices, state) {
  const sentences = [...notices, ...state.headline].map((each) => `${each.pool ?? ""} ${each.text}`.trim());
  const key = sentences.join("\n").replace(/[\d:,.%]+/g, "");
  if (seen.announced === key) return;
  seen.announced = key;
  say(element("announce"), sentences.join(" "));
  const loud = state.pools.filter((view) => view.tone === "trouble");
  const title = notices.some((each) => each.tone === "trouble") ? "⚠ " : loud.length ? "■ " : "";
  document.title = `${title}${loud.map((view) => `${view.pool} ${view.word.toLowerCase()}`).join(", ") || "quotad"}${loud.length ? " – quotad" : ""}`;
}

function showPools(state, clock) {
  const due = performance.now() - seen.drawnAt >= DRAW_EVERY_MS;
  if (due) seen.drawnAt = performance.now();
  for (const view of state.pools) {
    const card = cards.get(view.pool) ?? added(view);
    card.update(view);
    say(card.tile.querySelector(".tile-word"), view.word);
    say(card.tile.querySelector(".tile-left"), view.figures ? `${percent(1 - view.figures.used_ratio, 0)} left` : "–");
    mark(card.tile, "tone", view.tone);
    mark(card.tile, "status", view.status);
    const course = courses.get(view.pool);
    if (!course) continue;
    extend(course, view, clock?.as_of_ms ?? null);
    if (due) drawCard(card, view, course, clock);
  }
}

function drawCard(card, view, course, clock) {
  const limit = view.figures?.limit_fen ?? 0;
  const marks = limit ? course.marks.map(({ atMs, usedFen }) => ({ atMs, share: 1 - usedFen / limit })) : [];
  const nowMs = clock?.as_of_ms ?? clock?.now_ms ?? 0;
  draw(card.figure, { day: course.day, marks, levels: view.figures?.levels ?? [], etaMs: view.expected.eta_ms, nowMs });
  card.updateTables(view, marks);
}

function added(view) {
  const card = new Card(view);
  card.tile = html("a", { href: `#${view.pool}` }, html("b", {}, view.pool), " ", html("span", { class: "tile-word" }), " ", html("span", { class: "tile-left" }));
  cards.set(view.pool, card);
  element("pools").append(card.element);
  element("strip").append(card.tile);
  return card;
}
