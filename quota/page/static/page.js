// The live page: hears what the daemon says, and shows it.

import { Card } from "./card.js";
import { draw } from "./chart.js";
import { html, mark, say, show } from "./dom.js";
import { ago, day, percent, time } from "./format.js";
import { Stream } from "./stream.js";
import { showTape } from "./tape.js";

const DAY_EVERY_MS = 30_000;
const DRAW_EVERY_MS = 400;

const element = (id) => document.getElementById(id);
const cards = new Map();
/** @type {Map<string, {day: any, marks: {atMs: number, usedFen: number}[]}>} */
const courses = new Map();
const seen = { clock: null, state: null, tape: null, version: null, dayKey: "", drawnAt: 0, waiting: false, ended: false };

const stream = new Stream("/api/live", {
  clock: (clock) => { seen.clock = clock; seen.ended = false; stir(); },
  state: (state) => { seen.state = state; renew(); stir(); },
  tape: (tape) => { seen.tape = tape; stir(); },
  ended: () => { seen.ended = true; stir(); },
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
  const notices = trouble.length ? trouble : state.notices; // what it said last is not so any more
  showSentences(element("notices"), notices, "li");
  show(element("notices"), notices.length > 0);
  showSentences(element("headline"), state.headline, "p");
  announce(notices, state);
  showPools(state, clock);
  if (tape) showTape(tape, new Map(state.pools.map((view) => [view.pool, view.figures?.limit_fen])));
  say(element("version"), state.version);
  show(element("pace"), !state.real);
  say(element("pace"), state.speed === 1 ? "simulated clock" : `simulated clock, ×${state.speed}`);
}

/** Says how fresh it all is; returns what there is to warn of. */
function freshness() {
  const { clock, ended } = seen;
  const [asOf, lost] = [clock?.as_of_ms ? time(clock.as_of_ms) : null, stream.silentS > 0];
  const gone = lost || ended;
  document.body.toggleAttribute("data-stale", gone || (clock !== null && clock.known !== "now"));
  const link = element("link");
  const [state, tone] = linkState(clock, lost);
  mark(link, "tone", tone);
  say(link, asOf ? `${state}, as of ${asOf}` : state);
  if (!gone) return [];
  const figures = asOf ? `The figures are those of ${asOf}.` : "Nothing is known yet.";
  const what = ended ? "quotad has ended." : `This page has no connection to quotad for ${ago(stream.silentS)}.`;
  return [{ tone: "trouble", pool: null, text: `${what} ${figures} The page keeps trying.` }];
}

/** The state of the link in a few words, and its tone. */
function linkState(clock, lost) {
  if (seen.ended) return ["Ended", "quiet"];
  if (lost) return ["Connection lost", "trouble"];
  if (!clock) return ["Connecting", "quiet"];
  if (clock.known === "never") return ["Nothing read yet", "trouble"];
  if (clock.known === "once") return [clock.read_s < 1 ? "Old" : `Old: ${ago(clock.read_s)}`, "trouble"];
  return clock.fed ? ["Live", "ok"] : ["No orders come in", "watch"];
}

/** Shows sentences; those about a pool lead to it. What stands already is changed in place: a link that
 * is replaced while somebody is about to follow it leads nowhere. */
function showSentences(list, sentences, tag) {
  while (list.children.length > sentences.length) list.lastElementChild.remove();
  sentences.forEach((each, index) => {
    const view = seen.state?.pools.find(({ pool }) => pool === each.pool) ?? null;
    const key = `${tag} ${view?.pool ?? ""}`;
    let shown = list.children[index];
    if (shown?.key !== key) {
      const lead = view ? [html("a", { href: `#${view.pool}` }, view.pool, " ", html("span", { lang: "zh-Hans" }, view.chinese)), " "] : [];
      const made = html(tag, {}, ...lead, html("span", { class: "text" }));
      if (shown) shown.replaceWith(made);
      else list.append(made);
      shown = made;
      shown.key = key;
    }
    mark(shown, "tone", each.tone);
    say(shown.querySelector(".text"), each.text);
  });
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
    const news = card.view !== view;
    card.view = view;
    card.update(view);
    say(card.tile.querySelector(".tile-word"), view.word);
    say(card.tile.querySelector(".tile-left"), view.figures ? `${percent(1 - view.figures.used_ratio, 0)} left` : "–");
    mark(card.tile, "tone", view.tone);
    mark(card.tile, "status", view.status);
    const course = courses.get(view.pool);
    if (!course) continue;
    extend(course, view, clock?.as_of_ms ?? null);
    if (due || news) drawCard(card, view, course, clock);
  }
}

/** Draws a pool's chart with the figures of its card: its last point is the balance that the card tells. */
function drawCard(card, view, course, clock) {
  const { figures } = view;
  const nowMs = clock?.as_of_ms ?? clock?.now_ms ?? 0;
  const marks = figures ? course.marks.map(({ atMs, usedFen }) => ({ atMs, share: 1 - usedFen / figures.limit_fen })) : [];
  if (marks.length && course.day.trading_day === figures.trading_day) marks.at(-1).share = 1 - figures.used_ratio;
  const empty = view.known === "never" ? "Nothing is known yet: there is nothing to draw." : "No trading day is open: there is nothing to draw.";
  draw(card.figure, { day: course.day, marks, levels: figures?.levels ?? [], etaMs: view.expected.eta_ms, nowMs, empty });
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
